//! One client's session: its requests on the way to the target.
//!
//! Owns walking through the request bytes and deciding about each of them; they are decided as soon as they can be, a large
//! argument piece by piece. What commands mean is read in [`crate::asked`], replies in [`crate::answers`].

mod looking;
mod target;

use crate::answers::Answers;
use crate::asked::{Asked, Ending, Finish, made_up_login, select};
use crate::commands::find;
use crate::memory::{Effect, Slot};
use crate::options::Login;
use crate::request::{self, Body, BulkHeader, Head, Progress, RequestError};
use crate::resync::{self, Before, Found, Inline};
use crate::rules::{Plan, Rules};
use crate::{encode, keys};
use plugin_sdk::{Actions, Origin, Reply};

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
}

fn invalid(error: RequestError, actions: &mut Actions<'_>) -> Walk {
    // Redis answers with an error and closes the connection; the target gets to see the same.
    actions.count(&format!("invalid request: {error}"), 1);
    actions.pass_through();
    Walk::Leave
}
