//! The session's logins at the target.
//!
//! Owns what comes of a greeting, of each packet of a login or of a COM_CHANGE_USER, and of a refusal. What answers the target's
//! challenges is worked out in [`crate::login`].

use super::target::State;
use super::{Event, Phase, Session, shown};
use crate::compression::{Algorithm, Packer, Unpacker};
use crate::login::greeting::First;
use crate::login::{Failure, Login, Next};
use crate::packet::{self, Message};
use crate::passwords::Secret;
use crate::results::ServerError;
use crate::shared::Shared;
use crate::sql::Server;
use mysql_common::constants::CapabilityFlags as Flags;
use plugin_sdk::{Actions, Level, Reply};
use std::time::Duration;

/// Errors that pass: too many connections, of all or of the user; the server is shutting down.
const TRANSIENT: [u16; 3] = [1040, 1203, 1053];
/// How often a login is tried again after them.
const MOST_RETRIES: u8 = 20;
/// How long after them a target that does not close is left.
const RETRY: Duration = Duration::from_secs(1);
impl Session {
    pub(super) fn on_greeting(
        &mut self,
        shared: &mut Shared,
        message: &Message<'_>,
        actions: &mut Actions<'_>,
    ) {
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

    pub(super) fn on_login(
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

    pub(super) fn ready(&mut self, actions: &mut Actions<'_>) {
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

    pub(super) fn on_change(
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
}
