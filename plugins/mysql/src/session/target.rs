//! The target's side of a session.
//!
//! Owns the connection's state from its greeting to its answers.

use super::asked::{Asked, What};
use super::restore::Restore;
use super::{Event, Phase, Session, shown};
use crate::capabilities::{Capabilities, Features};
use crate::compression::{self, Algorithm, Packer, Unpacker};
use crate::login::greeting::{First, Greeting};
use crate::login::{Failure, Login, Next};
use crate::memory::Refused;
use crate::packet::{self, Message, Messages};
use crate::passwords::Secret;
use crate::results::{Answer, Outcome, ServerError, Step};
use crate::shared::Shared;
use crate::sql::Server;
use crate::statements;
use mysql_common::constants::CapabilityFlags as Flags;
use plugin_sdk::{Actions, Level, Reply};
use std::time::Duration;

/// Errors that pass: too many connections, of all or of the user; the server is shutting down.
const TRANSIENT: [u16; 3] = [1040, 1203, 1053];
/// How often a login is tried again after them.
const MOST_RETRIES: u8 = 20;
/// How long after them a target that does not close is left.
const RETRY: Duration = Duration::from_secs(1);
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
enum State {
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
    state: State,
    messages: Messages,
    unpacker: Option<Unpacker>,
    /// Sequence number of the compressed packet that came last.
    packed: u8,
    /// Makes compressed packets, if that was agreed on.
    pub(super) packer: Option<Packer>,
    /// What was agreed on.
    pub(super) settled: Capabilities,
    features: Features,
    /// Plugin and challenge of the last login.
    last: (Vec<u8>, Vec<u8>),
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
    fn follow(&mut self) {
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

    fn on_greeting(&mut self, shared: &mut Shared, message: &Message<'_>, actions: &mut Actions<'_>) {
        match First::read(message.front) {
            Ok(First::Greeting(greeting)) => {
                self.memory.set_server(Server::from_version(&greeting.version));
                self.target.state = State::Greeted(Box::new(greeting));
                self.log_in(shared, actions);
            }
            Ok(First::Refused(error)) => self.refused(shared, &error, actions),
            Err(why) => self.give_up(why, actions),
        }
    }

    /// Logs in, if the target has greeted and it is known who does.
    pub(super) fn log_in(&mut self, shared: &mut Shared, actions: &mut Actions<'_>) {
        self.settle_choice();
        let State::Greeted(greeting) = &self.target.state else { return };
        let Some(identity) = &self.identity else { return };
        if !greeting.capabilities.has(Flags::CLIENT_PROTOCOL_41) {
            return self.give_up("the target speaks the protocol from before MySQL 4.1", actions);
        }
        let user = identity.user.clone();
        let Some(credential) = self.credential(shared, &user) else {
            let is_hash =
                matches!(shared.options.passwords.of(&user, self.from.ip()), Some(Secret::Stage2(_)));
            if is_hash && matches!(self.client.phase, Phase::Hello | Phase::LoggingIn) {
                // The rest of the client's login may give it away.
                return;
            }
            return self.without_password(shared, actions);
        };
        let (Some(identity), State::Greeted(greeting)) = (&self.identity, &self.target.state) else { return };
        let database = self.first_database().map(|name| shared.options.rewrite.database(name));
        let database = database.as_deref();
        let settled = identity.capabilities.settle(greeting.capabilities, database);
        let mut login = Login::new(credential, &greeting.plugin, &greeting.nonce);
        let (proof, plugin) = login.first();
        let collation = self.collation(identity.collation);
        let hello = identity.hello(settled, collation, database, &proof, &plugin);
        let mut packet = Vec::new();
        packet::write(&mut packet, 1, &hello);
        actions.prepare(&packet);
        self.target.settled = settled;
        self.target.features = settled.features();
        self.target.state = State::Login(Box::new(login));
    }

    /// The target's number for a collation of the client's.
    fn collation(&self, number: u16) -> u16 {
        /// `utf8mb4_0900_ai_ci` and its kin, the first of which every client of MySQL 8 asks for. A MariaDB that does not know them
        /// takes its default instead, whatever character set that is of.
        const MYSQL_ONLY: std::ops::RangeInclusive<u16> = 255..=323;
        /// `utf8mb4_general_ci`.
        const UTF8MB4: u16 = 45;
        let is_mariadb = matches!(self.memory.mode().server, Server::MariaDb(_));
        if is_mariadb && MYSQL_ONLY.contains(&number) { UTF8MB4 } else { number }
    }

    fn without_password(&mut self, shared: &Shared, actions: &mut Actions<'_>) {
        shared.tally.event(self.user, Event::NoPassword, actions);
        let user = self.identity.as_ref().map(|identity| identity.user.as_slice()).unwrap_or_default();
        match shared.options.passwords.of(user, self.from.ip()) {
            Some(Secret::Stage2(_)) => {
                self.give_up("only the hash of a password is known, and no login with it was seen", actions);
            }
            _ => self.give_up("no password is given for the user: see `passwords` and `password`", actions),
        }
    }

    fn refused(&mut self, shared: &mut Shared, error: &ServerError, actions: &mut Actions<'_>) {
        if TRANSIENT.contains(&error.code) && self.retries < MOST_RETRIES {
            // The target closes now; nothing of the session is lost with a connection that nothing was sent on.
            self.retries += 1;
            actions.count(&format!("logins tried again after error {}", error.code), 1);
            return actions.set_timer(RETRY);
        }
        shared.tally.login_refused(self.user, error.code, &error.text, actions);
        let text = shown(&error.text);
        actions.log(Level::Warn, &format!("the target refuses a login: {} {text}", error.code));
        self.give_up("the target refused the login", actions);
    }

    fn failed(&mut self, shared: &mut Shared, failure: Failure, actions: &mut Actions<'_>) {
        match failure {
            Failure::Refused(error) => self.refused(shared, &error, actions),
            Failure::Impossible(why) => self.give_up(why, actions),
            Failure::Unknown(plugin) => {
                let plugin = shown(&plugin);
                actions.log(Level::Warn, &format!("the target asks for the authentication plugin {plugin}"));
                self.give_up("the target asks for an authentication plugin that is not supported", actions);
            }
        }
    }

    fn on_login(
        &mut self,
        shared: &mut Shared,
        mut login: Box<Login>,
        message: &Message<'_>,
        actions: &mut Actions<'_>,
    ) {
        match login.take(message, self.target.features, actions) {
            Ok(Next::Send(answer)) => {
                let mut packet = Vec::new();
                packet::write(&mut packet, message.sequence.wrapping_add(1), &answer);
                actions.prepare(&packet);
                self.target.state = State::Login(login);
            }
            Ok(Next::Wait) => self.target.state = State::Login(login),
            Ok(Next::In(_)) => {
                self.target.last = login.into_last();
                self.logged_in(shared, actions);
            }
            Err(failure) => self.failed(shared, failure, actions),
        }
    }

    fn logged_in(&mut self, shared: &mut Shared, actions: &mut Actions<'_>) {
        shared.tally.event(self.user, Event::LoginAccepted, actions);
        let algorithm = if self.target.settled.has(Flags::CLIENT_COMPRESS) {
            Some(Algorithm::Zlib)
        } else if self.target.settled.has(Flags::CLIENT_ZSTD_COMPRESSION_ALGORITHM) {
            Some(Algorithm::Zstd)
        } else {
            None
        };
        if !self.outstanding.is_empty() && self.target.packer.as_ref().map(Packer::algorithm) != algorithm {
            return self.give_up("the target compresses otherwise than before it closed", actions);
        }
        self.target.packer = algorithm.map(Packer::new);
        self.target.unpacker = algorithm.map(|_| Unpacker::new());
        self.target.packed = 0;
        if self.connections > 0 {
            shared.tally.event(self.user, Event::Rebuilt, actions);
        }
        let mut restore = self.restore(shared);
        if self.restore_next(&mut restore, actions).is_none() {
            return self.ready(actions);
        }
        self.target.state = State::Restoring(Box::new(restore));
    }

    fn ready(&mut self, actions: &mut Actions<'_>) {
        self.target.state = State::Ready;
        self.connections = self.connections.saturating_add(1);
        self.retries = 0;
        actions.clear_timer();
        actions.ready();
        self.resume(actions);
    }

    /// A COM_CHANGE_USER was sent. Gives its message.
    pub(super) fn begin_change(&mut self, shared: &mut Shared, actions: &mut Actions<'_>) -> Option<Vec<u8>> {
        let user = self.identity.as_ref()?.user.clone();
        let Some(credential) = self.credential(shared, &user) else {
            self.without_password(shared, actions);
            return None;
        };
        let (plugin, nonce) = &self.target.last;
        let mut login = Login::new(credential, plugin, nonce);
        let (proof, plugin) = login.first();
        let database = self.memory.database().map(|name| shared.options.rewrite.database(name));
        let identity = self.identity.as_ref()?;
        let collation = self.collation(identity.collation);
        let message =
            identity.change_user(self.target.settled, collation, database.as_deref(), &proof, &plugin);
        self.target.state = State::Changing(Box::new(login));
        Some(message)
    }

    fn on_change(
        &mut self,
        shared: &mut Shared,
        mut login: Box<Login>,
        message: &Message<'_>,
        actions: &mut Actions<'_>,
    ) {
        match login.take(message, self.target.features, actions) {
            Ok(Next::Send(answer)) => {
                let mut bytes = Vec::new();
                packet::write(&mut bytes, message.sequence.wrapping_add(1), &answer);
                self.target.follow();
                match &mut self.target.packer {
                    Some(packer) => {
                        packer.put(&bytes, actions);
                        packer.flush(actions);
                    }
                    None => actions.send(&bytes),
                }
                self.target.state = State::Changing(login);
            }
            Ok(Next::Wait) => self.target.state = State::Changing(login),
            Ok(Next::In(_)) => {
                shared.tally.event(self.user, Event::LoginAccepted, actions);
                self.target.last = login.into_last();
                self.target.state = State::Ready;
                actions.end_request(Reply::Expected);
                actions.reply_complete();
                self.resume(actions);
            }
            Err(failure) => self.failed(shared, failure, actions),
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
