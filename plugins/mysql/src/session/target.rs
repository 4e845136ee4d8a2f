//! The target's side of a session.
//!
//! Owns the connection's state from its greeting to its answers.

use super::asked::{Asked, What};
use super::restore::Restore;
use super::{Event, Session};
use crate::capabilities::{Capabilities, Features};
use crate::compression::{self, Packer, Unpacker};
use crate::login::Login;
use crate::login::greeting::Greeting;
use crate::memory::Refused;
use crate::packet::{self, Message, Messages};
use crate::results::{Answer, Outcome, Step};
use crate::shared::Shared;
use crate::statements;
use plugin_sdk::{Actions, Level};
use std::time::Duration;

/// How long a login may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that are kept at most while requests are decided about: a server that is asked for nothing says next to nothing.
const MOST_HELD: usize = 1 << 20;

/// Bytes that are kept.
#[derive(Clone, Copy)]
enum Held {
    Packets,
    Unpacked,
}

/// How far a connection is.
#[derive(Debug, Default)]
pub(super) enum State {
    /// There is none.
    #[default]
    Away,
    /// The server's greeting is awaited.
    Connected,
    /// The greeting has come; who logs in is not known yet.
    Greeted(Box<Greeting>),
    /// A login is under way.
    Login(Box<Login>),
    /// It is being made what the one before was.
    Restoring(Box<Restore>),
    /// Commands may be sent.
    Ready,
    /// The same, within a COM_CHANGE_USER.
    Changing(Box<Login>),
}

/// The connection to the target.
#[derive(Debug, Default)]
pub(super) struct Target {
    pub(super) state: State,
    messages: Messages,
    pub(super) unpacker: Option<Unpacker>,
    /// Sequence number of the compressed packet that came last.
    pub(super) packed: u8,
    /// Makes compressed packets, if that was agreed on.
    pub(super) packer: Option<Packer>,
    /// What was agreed on.
    pub(super) settled: Capabilities,
    pub(super) features: Features,
    /// Plugin and challenge of the last login.
    pub(super) last: (Vec<u8>, Vec<u8>),
    answer: Option<Answer>,
    /// Requests are about to be decided about that may go now.
    pub(super) resumes: bool,
    held: Vec<u8>,
    held_unpacked: Vec<u8>,
    /// The target waits for a file; its wish had this sequence number.
    pub(super) file: Option<u8>,
    /// The target has refused a request before that was complete.
    pub(super) refused_early: bool,
}

impl Target {
    /// Whether commands may be sent.
    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Whether the target has to say something for the connection to become ready.
    pub(super) const fn is_awaited(&self) -> bool {
        matches!(self.state, State::Connected | State::Login(_) | State::Restoring(_) | State::Changing(_))
    }

    /// Whether a COM_CHANGE_USER is under way.
    pub(super) const fn is_changing(&self) -> bool {
        matches!(self.state, State::Changing(_))
    }

    /// What was agreed on changes in answers.
    pub(super) const fn features(&self) -> Features {
        self.features
    }

    /// The connection is gone. Whether a COM_CHANGE_USER was under way.
    pub(super) fn lose(&mut self, interrupted: bool) -> bool {
        let changing = matches!(self.state, State::Changing(_));
        *self = Self { packer: self.packer.take(), settled: self.settled, ..Self::default() };
        if interrupted && let Some(packer) = &mut self.packer {
            packer.clear();
        }
        changing
    }

    /// Sends a message that prepares the connection.
    pub(super) fn prepare(&self, message: &[u8], actions: &mut Actions<'_>) {
        let mut bytes = Vec::new();
        packet::write(&mut bytes, 0, message);
        let Some(packer) = &self.packer else { return actions.prepare(&bytes) };
        let mut packed = Vec::new();
        for (sequence, piece) in bytes.chunks(1 << 16).enumerate() {
            compression::pack(packer.algorithm(), sequence as u8, piece, &mut packed);
        }
        actions.prepare(&packed);
    }

    /// Sequence number of the next compressed packet within a command, if they are compressed.
    pub(super) fn follow(&mut self) {
        if let Some(packer) = &mut self.packer {
            packer.follow(self.packed);
        }
    }
}

impl Session {
    /// A connection to the target is there.
    pub fn on_connected(&mut self, actions: &mut Actions<'_>) {
        if self.over {
            return;
        }
        self.target.lose(false);
        self.target.state = State::Connected;
        actions.set_timer(PATIENCE);
    }

    /// Takes the target's bytes.
    pub fn on_response(&mut self, shared: &mut Shared, bytes: &[u8], actions: &mut Actions<'_>) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.over {
            if self.target.resumes {
                return self.hold(Held::Packets, rest, actions);
            }
            let Some(mut unpacker) = self.target.unpacker.take() else {
                let mut messages = std::mem::take(&mut self.target.messages);
                if let Some(message) = messages.next(&mut rest) {
                    self.on_message(shared, &message, actions);
                }
                self.target.messages = messages;
                continue;
            };
            let fed = unpacker.feed(rest, |plain, sequence| {
                self.target.packed = sequence;
                self.on_unpacked(shared, plain, actions);
            });
            if fed.is_err() {
                return self.give_up("the target's compressed packets can't be read", actions);
            }
            self.target.unpacker = Some(unpacker);
            rest = &[];
        }
    }

    /// Takes what compressed packets held.
    fn on_unpacked(&mut self, shared: &mut Shared, mut plain: &[u8], actions: &mut Actions<'_>) {
        while !plain.is_empty() && !self.over {
            if self.target.resumes {
                return self.hold(Held::Unpacked, plain, actions);
            }
            let mut messages = std::mem::take(&mut self.target.messages);
            if let Some(message) = messages.next(&mut plain) {
                self.on_message(shared, &message, actions);
            }
            self.target.messages = messages;
        }
    }

    /// Keeps bytes of the target until requests are decided about that may go now.
    fn hold(&mut self, what: Held, bytes: &[u8], actions: &mut Actions<'_>) {
        let held = match what {
            Held::Packets => &mut self.target.held,
            Held::Unpacked => &mut self.target.held_unpacked,
        };
        held.extend_from_slice(bytes);
        if held.len() > MOST_HELD {
            self.give_up("the target sends more than it was asked for", actions);
        }
    }

    /// Requests that waited were decided about. Takes the bytes that were kept meanwhile; whether there were any.
    pub(super) fn release(&mut self, shared: &mut Shared, actions: &mut Actions<'_>) -> bool {
        self.target.resumes = false;
        let unpacked = std::mem::take(&mut self.target.held_unpacked);
        let packets = std::mem::take(&mut self.target.held);
        self.on_unpacked(shared, &unpacked, actions);
        self.on_response(shared, &packets, actions);
        !unpacked.is_empty() || !packets.is_empty()
    }

    fn on_message(&mut self, shared: &mut Shared, message: &Message<'_>, actions: &mut Actions<'_>) {
        match std::mem::take(&mut self.target.state) {
            State::Away => {}
            State::Connected => self.on_greeting(shared, message, actions),
            // Whatever it is, it ends in a login that fails.
            State::Greeted(_) => self.give_up("the target speaks before it is asked", actions),
            State::Login(login) => self.on_login(shared, login, message, actions),
            State::Restoring(mut restore) => {
                if self.on_restored(shared, &mut restore, message, actions) {
                    self.ready(actions);
                } else {
                    actions.set_timer(PATIENCE);
                    self.target.state = State::Restoring(restore);
                }
            }
            State::Changing(login) => self.on_change(shared, login, message, actions),
            State::Ready => {
                self.target.state = State::Ready;
                self.on_answer(shared, message, actions);
            }
        }
    }

    fn on_answer(&mut self, shared: &mut Shared, message: &Message<'_>, actions: &mut Actions<'_>) {
        let Some(asked) = self.outstanding.front() else {
            return self.unasked(message, actions);
        };
        let mut answer = self.target.answer.take().unwrap_or_else(|| Answer::new(asked.form));
        match answer.take(message, self.target.features) {
            Ok(Step::More) => self.target.answer = Some(answer),
            Ok(step) => {
                let Some(asked) = self.outstanding.pop_front() else { return };
                self.note_answers(1);
                if step == Step::File {
                    self.target.file = Some(message.sequence);
                    self.target.follow();
                }
                self.answered(shared, asked, answer.outcome, actions);
                actions.reply_complete();
                self.resume(actions);
            }
            Err(error) => {
                actions.log(Level::Warn, &format!("the target's answer can't be read: {error}"));
                self.give_up("the target's answer can't be read", actions);
            }
        }
    }

    /// A packet came that answers nothing.
    fn unasked(&mut self, message: &Message<'_>, actions: &Actions<'_>) {
        if message.first() == Some(0xff) {
            self.target.refused_early = self.client.is_within();
            let error = crate::results::server_error(message.front);
            let code = error.map(|error| error.code).unwrap_or_default();
            actions.count(&format!("errors that answer nothing: {code}"), 1);
        } else {
            actions.count("packets of the target that answer nothing", 1);
        }
    }

    /// An answer is complete.
    fn answered(&mut self, shared: &mut Shared, asked: Asked, outcome: Outcome, actions: &Actions<'_>) {
        match &outcome.error {
            None if asked.is_statement() => shared.tally.event(self.user, Event::Answered, actions),
            None => {}
            Some(error) => shared.tally.error(self.user, error.code, &error.text, actions),
        }
        if let (Some(_), Some(undo)) = (&outcome.error, asked.undo) {
            if undo.is_about_database() {
                self.settle_choice();
                self.choice = Some((asked.number, undo));
            } else {
                self.memory.failed(undo, Refused::ByTarget);
            }
        }
        if let Some(status) = outcome.status {
            self.memory.status(status);
        }
        for (name, value) in &outcome.variables {
            self.memory.tracked(name, value);
        }
        if let Some(database) = &outcome.database
            && shared.options.rewrite.is_empty()
        {
            self.enter(shared, database);
        }
        match asked.what {
            What::Prepare(slot) => {
                let answer = match outcome.prepared {
                    Some(of) => statements::Answer::Prepared { id: of.id, parameters: of.parameters },
                    None => statements::Answer::Refused,
                };
                self.prepared.target_answer(slot, answer);
            }
            What::Plain | What::Run | What::Statement | What::File => {}
        }
    }
}
