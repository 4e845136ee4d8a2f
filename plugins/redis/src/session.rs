//! One client's session: its requests on the way to the target.
//!
//! Owns walking through the request bytes and deciding about each of them; they are decided as soon as they can be, a large
//! argument piece by piece. What commands mean is read in [`crate::asked`], replies in [`crate::answers`].

use crate::answers::{Answers, During, Preamble, Sink};
use crate::asked::{Asked, Edit, Ending, Finish, Judgement, made_up_login, select};
use crate::commands::{COMMANDS, find, find_sub, flag};
use crate::explain;
use crate::memory::{Effect, Slot};
use crate::options::Login;
use crate::request::{self, Body, BulkHeader, Head, Progress, RequestError};
use crate::resync::{self, Before, Found, Inline};
use crate::rules::{Plan, Rules, WHOLE, label};
use crate::{encode, inline, keys};
use plugin_sdk::{Actions, Level, Loss, Origin, Reply};

/// Most bytes of a request that are looked through before anything of it is decided.
const MAX_LOOK: usize = 1 << 20;

/// What becomes of the bytes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Forward,
    Discard,
    /// Sent with a prefix before some arguments: first, last, step, and the number of arguments.
    Prefix(u8, i8, u8, u32),
}

#[derive(Debug)]
enum Phase {
    /// A request begins with the next byte; as many bytes of it have been looked at in vain.
    Between(usize),
    /// A request is looked through, so far up to this byte.
    Look(Body, usize),
    /// Within a request.
    Within(Body, Fate),
    /// Looking for the beginning of a request.
    Search(Before),
    /// Nothing more is sent: the client has said farewell.
    Over,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    asked: Asked,
    answers: Answers,
    inline: Inline,
    /// Part of a request has been sent that has not ended.
    open: bool,
    /// That request was broken off with its connection.
    interrupted: bool,
    /// Bytes have been discarded that belong to no request that is there from its beginning.
    skipped: bool,
}

enum Walk {
    /// The next request, or the rest of this one.
    On,
    /// More bytes are needed.
    Wait,
    /// The plugin has nothing more to do with the session.
    Leave,
}

impl Session {
    /// A session that begins.
    pub fn new(rules: &Rules, origin: Origin) -> Self {
        let options = &rules.options;
        let mut answers = Answers::default();
        let joined = origin != Origin::Start;
        if (joined || options.login == Login::Always)
            && let Some(login) = made_up_login(options)
        {
            answers.memory.apply(Effect::Remember(Slot::Login, login.into_boxed_slice()));
        }
        let database = if joined { options.join_database } else { 0 };
        if options.database(database) != 0 {
            let select = select(options, database).into_boxed_slice();
            answers.memory.apply(Effect::Remember(Slot::Database, select));
        }
        let phase = if joined { Phase::Search(Before::START) } else { Phase::Between(0) };
        let inline = if joined { Inline::Possible } else { Inline::Unlikely };
        Self {
            phase,
            asked: Asked::default(),
            answers,
            inline,
            open: false,
            interrupted: false,
            skipped: false,
        }
    }

    /// Decides about the bytes that are there.
    pub fn on_request(&mut self, rules: &Rules, bytes: &[u8], actions: &mut Actions<'_>) {
        let mut at = 0;
        while at < bytes.len() {
            let before = actions.undecided();
            let walk = match self.phase {
                Phase::Between(seen) => self.begin(rules, &bytes[at..], seen, actions),
                Phase::Look(body, seen) => self.look_on(rules, &bytes[at..], body, seen, actions),
                Phase::Within(body, fate) => self.within(rules, &bytes[at..], body, fate, actions),
                Phase::Search(before) => self.search(&bytes[at..], before, actions),
                Phase::Over => {
                    actions.count("bytes behind QUIT", (bytes.len() - at) as u64);
                    actions.discard(bytes.len() - at);
                    Walk::Wait
                }
            };
            at += before - actions.undecided();
            match walk {
                Walk::On => {}
                Walk::Wait | Walk::Leave => return,
            }
        }
    }

    fn begin(&mut self, rules: &Rules, bytes: &[u8], seen: usize, actions: &mut Actions<'_>) -> Walk {
        match request::head(bytes, seen) {
            Head::Array { args, name: Some(name), first } => {
                let Some(command) = find(&bytes[name.clone()]) else {
                    return self.unknown(rules, bytes, first, args, &bytes[name], actions);
                };
                match rules.plan(command) {
                    Plan::Forward => self.stream(bytes, first, args, Fate::Forward, actions),
                    plan => self.planned(rules, bytes, command, plan, first, args, actions),
                }
            }
            Head::Array { args, name: None, first } => self.unknown(rules, bytes, first, args, b"", actions),
            Head::Inline(length) => self.inline(rules, bytes, length, actions),
            Head::Empty(length) => {
                // No request, and no reply: the target gets along without it.
                actions.discard(length);
                self.phase = Phase::Between(0);
                self.dropped(actions)
            }
            Head::Incomplete => {
                if bytes.starts_with(&[0x16, 3]) {
                    actions.give_up("the client speaks TLS; replay behind what ends it");
                    return Walk::Leave;
                }
                self.phase = Phase::Between(if bytes[0] == b'*' { 0 } else { bytes.len() });
                Walk::Wait
            }
            Head::Invalid(error) => invalid(error, actions),
        }
    }

    /// Sends or discards a request from its first byte on, as far as it is there.
    #[inline]
    fn stream(
        &mut self,
        bytes: &[u8],
        first: usize,
        args: u32,
        fate: Fate,
        actions: &mut Actions<'_>,
    ) -> Walk {
        let mut body = Body::new(args);
        let (read, progress) = body.advance(&bytes[first..]);
        let taken = first + read;
        match (progress, fate) {
            (Progress::Done, Fate::Forward) => {
                actions.forward(taken);
                self.phase = Phase::Between(0);
                self.finish(Ending::Plain, actions)
            }
            (_, Fate::Discard) => {
                actions.discard(taken);
                self.after(body, fate, progress, actions)
            }
            (_, Fate::Forward) => {
                actions.forward(taken);
                self.open = true;
                self.after(body, fate, progress, actions)
            }
            (_, Fate::Prefix(..)) => {
                actions.forward(first);
                self.open = true;
                self.phase = Phase::Within(Body::new(args), fate);
                Walk::On
            }
        }
    }

    /// How it goes on behind part of a request.
    fn after(&mut self, body: Body, fate: Fate, progress: Progress, actions: &mut Actions<'_>) -> Walk {
        match progress {
            Progress::More => {
                self.phase = Phase::Within(body, fate);
                Walk::Wait
            }
            Progress::Done => {
                self.phase = Phase::Between(0);
                if fate == Fate::Discard {
                    self.dropped(actions)
                } else {
                    self.finish(Ending::Plain, actions)
                }
            }
            Progress::Invalid(error) => invalid(error, actions),
        }
    }

    fn within(
        &mut self,
        rules: &Rules,
        bytes: &[u8],
        mut body: Body,
        fate: Fate,
        actions: &mut Actions<'_>,
    ) -> Walk {
        let Fate::Prefix(first, last, step, args) = fate else {
            let (read, progress) = body.advance(bytes);
            if fate == Fate::Discard {
                actions.discard(read)
            } else {
                actions.forward(read)
            }
            return self.after(body, fate, progress, actions);
        };
        let mut at = 0;
        loop {
            let part = body.take_argument(bytes.len() - at);
            actions.forward(part);
            at += part;
            if body.is_within_argument() {
                return self.after(body, fate, Progress::More, actions);
            }
            if body.is_done() {
                return self.after(body, fate, Progress::Done, actions);
            }
            let (length, next) = match request::bulk_header(bytes, at) {
                BulkHeader::Incomplete => return self.after(body, fate, Progress::More, actions),
                BulkHeader::Invalid(error) => {
                    return self.after(body, fate, Progress::Invalid(error), actions);
                }
                BulkHeader::Is(length, next) => (length, next),
            };
            if keys::is_in_range(first, last, step, args - body.args_left(), args) {
                let prefix = &rules.options.key_prefix;
                let mut header = Vec::with_capacity(24 + prefix.len());
                encode::number(&mut header, b'$', prefix.len() + length as usize);
                header.extend_from_slice(prefix);
                actions.replace(next - at, &header);
            } else {
                actions.forward(next - at);
            }
            body.begin_argument(length);
            at = next;
        }
    }

    /// A command that can't just be sent.
    #[expect(clippy::too_many_arguments, reason = "what is known of a request that begins")]
    fn planned(
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
    fn look_on(
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

    fn unknown(
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

    fn inline(&mut self, rules: &Rules, bytes: &[u8], length: usize, actions: &mut Actions<'_>) -> Walk {
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

    /// A request has been left out. One that it was to be joined with goes on with the next.
    fn dropped(&mut self, actions: &mut Actions<'_>) -> Walk {
        if !self.open {
            actions.end_request(Reply::NotExpected);
        }
        Walk::On
    }

    /// A request is decided about.
    #[inline]
    fn finish(&mut self, ending: Ending, actions: &mut Actions<'_>) -> Walk {
        if self.interrupted {
            return self.finish_interrupted(actions);
        }
        let (mut over, mut leave) = (false, false);
        match &ending {
            Ending::Plain => {}
            Ending::Quit => over = true,
            Ending::Replicate => leave = true,
            Ending::Reset(commands, ..) => actions.send(commands),
            _ => {}
        }
        match self.asked.finish(ending, &mut self.answers) {
            Finish::Answered => actions.end_request(Reply::Expected),
            Finish::Unanswered => actions.end_request(Reply::NotExpected),
            Finish::Joined => {
                self.open = true;
                return Walk::On;
            }
        }
        self.open = false;
        if leave {
            actions.count("replication: passed as it is", 1);
            actions.pass_through();
            return Walk::Leave;
        }
        if over {
            self.phase = Phase::Over;
        }
        Walk::On
    }

    /// What was broken off with its connection has no effect and no reply.
    fn finish_interrupted(&mut self, actions: &mut Actions<'_>) -> Walk {
        self.interrupted = false;
        self.open = false;
        self.asked.lose_request();
        actions.end_request(Reply::NotExpected);
        Walk::On
    }

    fn search(&mut self, bytes: &[u8], before: Before, actions: &mut Actions<'_>) -> Walk {
        let found = resync::search(bytes, before, self.inline);
        let (Found::At(skipped) | Found::NotWithin(skipped, _)) = found;
        if skipped > 0 {
            actions.count("bytes before the first whole request", skipped as u64);
            actions.discard(skipped);
            self.skipped = true;
        }
        match found {
            Found::At(at) => {
                if std::mem::take(&mut self.skipped) {
                    actions.end_request(Reply::NotExpected);
                }
                self.inline = if bytes[at] == b'*' { Inline::Unlikely } else { Inline::Possible };
                self.phase = Phase::Between(0);
                Walk::On
            }
            Found::NotWithin(_, before) => {
                self.phase = Phase::Search(before);
                Walk::Wait
            }
        }
    }

    /// Request bytes are missing.
    pub fn on_gap(&mut self) {
        if !matches!(self.phase, Phase::Over) {
            self.phase = Phase::Search(Before::UNKNOWN);
        }
        self.asked.lose_request();
        self.open = false;
        self.interrupted = false;
        self.skipped = false;
    }

    /// Takes the target's bytes.
    pub fn on_response(&mut self, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        match self.answers.feed(bytes, &mut Teller(actions)) {
            Ok(taken) => taken,
            Err(error) => {
                actions.count(&format!("invalid reply: {error}"), 1);
                actions.log(Level::Warn, &format!("the target sends what is no RESP ({error}); the session goes on as without the plugin"));
                actions.pass_through();
                bytes.len()
            }
        }
    }

    /// A connection to the target is there.
    pub fn on_connected(&mut self, actions: &mut Actions<'_>) {
        let mut bytes = Vec::new();
        let preamble = self.answers.connect(&mut bytes);
        actions.prepare(&bytes);
        if preamble == Preamble::None {
            actions.ready();
        }
    }

    /// The connection to the target is lost.
    pub fn on_connection_lost(&mut self, loss: Loss) {
        self.answers.lose(loss.unanswered);
        self.interrupted |= loss.interrupted;
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

fn invalid(error: RequestError, actions: &mut Actions<'_>) -> Walk {
    // Redis answers with an error and closes the connection; the target gets to see the same.
    actions.count(&format!("invalid request: {error}"), 1);
    actions.pass_through();
    Walk::Leave
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

/// Tells the host what came from the target.
struct Teller<'a, 'b>(&'a mut Actions<'b>);

impl Sink for Teller<'_, '_> {
    #[inline]
    fn reply_complete(&mut self) {
        self.0.reply_complete();
    }

    fn ready(&mut self) {
        self.0.ready();
    }

    fn error(&mut self, word: &str, during: During) {
        self.0.count(&explain::error(word, during), 1);
    }

    fn unexpected(&mut self) {
        self.0.count("replies to nothing", 1);
    }
}
