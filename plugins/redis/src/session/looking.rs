//! Requests that can't just be sent: looked through, judged, rewritten or left out.

use super::{Fate, MAX_LOOK, Phase, Session, Walk, invalid};
use crate::asked::{Edit, Ending, Judgement};
use crate::commands::{COMMANDS, find, find_sub, flag};
use crate::request::{self, Body, BulkHeader, Head, Progress, RequestError};
use crate::resync::Inline;
use crate::rules::{Plan, Rules, WHOLE, label};
use crate::{encode, explain, inline};
use plugin_sdk::Actions;

impl Session {
    /// A command that can't just be sent.
    #[expect(clippy::too_many_arguments, reason = "what is known of a request that begins")]
    pub(super) fn planned(
        &mut self,
        rules: &Rules,
        bytes: &[u8],
        command: u16,
        plan: Plan,
        first: usize,
        args: u32,
        actions: &mut Actions<'_>,
    ) -> Walk {
        match plan {
            Plan::Forward => self.stream(bytes, first, args, Fate::Forward, actions),
            Plan::Drop => {
                actions.count(rules.label(command), 1);
                self.stream(bytes, first, args, Fate::Discard, actions)
            }
            Plan::Prefix { first: key, last, step } => {
                self.stream(bytes, first, args, Fate::Prefix(key, last, step, args), actions)
            }
            Plan::Look(WHOLE) => self.look_on(rules, bytes, Body::new(args), first, actions),
            Plan::Look(wanted) => self.look(rules, bytes, command, wanted.min(args), first, args, actions),
        }
    }

    /// Looks at the first few arguments.
    #[expect(clippy::too_many_arguments, reason = "what is known of a request that begins")]
    fn look(
        &mut self,
        rules: &Rules,
        bytes: &[u8],
        command: u16,
        wanted: u32,
        first: usize,
        args: u32,
        actions: &mut Actions<'_>,
    ) -> Walk {
        let mut seen = Vec::with_capacity(wanted as usize);
        request::arguments(&bytes[..bytes.len().min(MAX_LOOK)], first, args, wanted as usize, &mut seen);
        let row = &COMMANDS[usize::from(command)];
        if seen.len() < wanted as usize {
            let (_, progress) = Body::new(args).advance(&bytes[first..]);
            if let Progress::Invalid(error) = progress {
                return invalid(error, actions);
            }
            if bytes.len() > MAX_LOOK {
                return self.too_long(row.name, bytes, first, args, actions);
            }
            self.phase = Phase::Between(0);
            return Walk::Wait;
        }
        if row.is_any(flag::CONTAINER) {
            let sub = seen.get(1).and_then(|sub| find_sub(row.name, sub));
            return match (sub, seen.get(1)) {
                (Some(sub), _) => self.planned(rules, bytes, sub, rules.plan(sub), first, args, actions),
                // Refused by the target for want of a subcommand.
                (None, None) => self.stream(bytes, first, args, Fate::Forward, actions),
                (None, Some(sub)) => {
                    let name = [row.name.as_bytes(), b" ", sub].concat();
                    self.unknown(rules, bytes, first, args, &name, actions)
                }
            };
        }
        if let Some(why) = rules.why_arguments(row, &seen) {
            actions.count(&label(&crate::rules::shown(row), why), 1);
            return self.stream(bytes, first, args, Fate::Discard, actions);
        }
        let fate = match row.keys {
            crate::commands::Keys::Range { first, last, step } if !rules.options.key_prefix.is_empty() => {
                Fate::Prefix(first, last, step, args)
            }
            _ => Fate::Forward,
        };
        self.stream(bytes, first, args, fate, actions)
    }

    /// Looks through a whole request.
    pub(super) fn look_on(
        &mut self,
        rules: &Rules,
        bytes: &[u8],
        mut body: Body,
        seen: usize,
        actions: &mut Actions<'_>,
    ) -> Walk {
        let (read, progress) = body.advance(&bytes[seen..]);
        let end = seen + read;
        if let Progress::Invalid(error) = progress {
            return invalid(error, actions);
        }
        let Head::Array { args, name: Some(name), first } = request::head(bytes, 0) else {
            return invalid(RequestError::NotBulk, actions);
        };
        let mut row = find(&bytes[name]).map(|number| &COMMANDS[usize::from(number)]);
        if end > MAX_LOOK || (progress == Progress::More && bytes.len() > MAX_LOOK) {
            let name = row.map_or("command", |row| row.name);
            return self.too_long(name, bytes, first, args, actions);
        }
        if progress == Progress::More {
            self.phase = Phase::Look(body, end);
            return Walk::Wait;
        }
        let mut arguments = Vec::with_capacity((args as usize).min(end / 4));
        request::arguments(bytes, first, args, args as usize, &mut arguments);
        if let (Some(container), Some(sub)) =
            (row.filter(|row| row.is_any(flag::CONTAINER)), arguments.get(1))
        {
            row = find_sub(container.name, sub).map(|number| &COMMANDS[usize::from(number)]);
        }
        self.phase = Phase::Between(0);
        let Some(row) = row else {
            return self.stream(bytes, first, args, Fate::Forward, actions);
        };
        let judgement = self.asked.judge(rules, row, &arguments);
        if let Some(why) = judgement.dropped {
            actions.count(&label(&crate::rules::shown(row), why), 1);
            actions.discard(end);
            return self.dropped(actions);
        }
        match &judgement.replaced {
            Some(whole) => actions.replace(end, whole),
            None if judgement.edits.is_empty() => actions.forward(end),
            None => rewrite(&bytes[..end], first, &judgement.edits, actions),
        }
        self.finish(judgement.ending, actions)
    }

    fn too_long(
        &mut self,
        name: &str,
        bytes: &[u8],
        first: usize,
        args: u32,
        actions: &mut Actions<'_>,
    ) -> Walk {
        let name = name.replace('|', " ").to_ascii_uppercase();
        actions.count(&label(&name, "too long to be looked through"), 1);
        self.stream(bytes, first, args, Fate::Discard, actions)
    }

    pub(super) fn unknown(
        &mut self,
        rules: &Rules,
        bytes: &[u8],
        first: usize,
        args: u32,
        name: &[u8],
        actions: &mut Actions<'_>,
    ) -> Walk {
        let fate = count_unknown(rules, name, actions);
        self.stream(bytes, first, args, fate, actions)
    }

    pub(super) fn inline(
        &mut self,
        rules: &Rules,
        bytes: &[u8],
        length: usize,
        actions: &mut Actions<'_>,
    ) -> Walk {
        self.inline = Inline::Possible;
        self.phase = Phase::Between(0);
        let Some(words) = inline::words(&bytes[..length - 1]) else {
            actions.count("invalid request: an inline command's quotes", 1);
            actions.pass_through();
            return Walk::Leave;
        };
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let Some(name) = words.first().copied() else {
            actions.discard(length);
            return self.dropped(actions);
        };
        let mut number = find(name);
        let mut shown_name = name.to_vec();
        if let (Some(container), Some(sub)) = (number, words.get(1)) {
            let container = &COMMANDS[usize::from(container)];
            if container.is_any(flag::CONTAINER) {
                number = find_sub(container.name, sub);
                shown_name = [container.name.as_bytes(), b" ", sub].concat();
            }
        }
        let Some(number) = number else {
            if count_unknown(rules, &shown_name, actions) == Fate::Discard {
                actions.discard(length);
                return self.dropped(actions);
            }
            actions.forward(length);
            return self.finish(Ending::Plain, actions);
        };
        if rules.plan(number) == Plan::Drop {
            actions.count(rules.label(number), 1);
            actions.discard(length);
            return self.dropped(actions);
        }
        let row = &COMMANDS[usize::from(number)];
        let Judgement { dropped, edits, replaced, ending } = self.asked.judge(rules, row, &words);
        if let Some(why) = dropped {
            actions.count(&label(&crate::rules::shown(row), why), 1);
            actions.discard(length);
            return self.dropped(actions);
        }
        match replaced {
            Some(whole) => actions.replace(length, &whole),
            None if edits.is_empty() => actions.forward(length),
            None => {
                let mut words = words;
                for edit in &edits {
                    words[edit.index] = &edit.argument;
                }
                actions.replace(length, &encode::command(&words));
            }
        }
        self.finish(ending, actions)
    }
}

/// What becomes of a command that is not known; counts it.
fn count_unknown(rules: &Rules, name: &[u8], actions: &Actions<'_>) -> Fate {
    let name = explain::printable(name);
    match rules.unknown() {
        Some(why) => {
            actions.count(&label(&name, why), 1);
            Fate::Discard
        }
        None => {
            let prefix = if rules.options.key_prefix.is_empty() { "" } else { ", sent without key prefix" };
            actions.count(&format!("not known: {name}{prefix}"), 1);
            Fate::Forward
        }
    }
}

/// Sends a request with some arguments replaced.
fn rewrite(bytes: &[u8], first: usize, edits: &[Edit], actions: &mut Actions<'_>) {
    let mut edits = edits.iter().peekable();
    let (mut at, mut done, mut index) = (first, 0, 0);
    while let BulkHeader::Is(length, start) = request::bulk_header(bytes, at) {
        let end = start + length as usize + 2;
        if let Some(edit) = edits.next_if(|edit| edit.index == index) {
            actions.forward(at - done);
            let mut argument = Vec::with_capacity(edit.argument.len() + 24);
            encode::bulk(&mut argument, &edit.argument);
            actions.replace(end - at, &argument);
            done = end;
        }
        at = end;
        index += 1;
        if at >= bytes.len() {
            break;
        }
    }
    actions.forward(bytes.len() - done);
}
