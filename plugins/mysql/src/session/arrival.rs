//! How a client's session begins.
//!
//! Owns its login, which is learnt and left out, and joining a connection at a command where the beginning or something between
//! was not captured.

use super::client::{Phase, Walk};
use super::out::Out;
use super::packed::Packed;
use super::search::{self, Found};
use super::{Event, Session};
use crate::compression::Algorithm;
use crate::login::identity::Hello;
use crate::packet::{HEADER, Header};
use crate::shared::Shared;
use mysql_common::constants::CapabilityFlags as Flags;
use plugin_sdk::Reply;

/// Longest packet of a login.
const MAX_LOGIN: usize = 1 << 16;

impl Session {
    /// The client's answer to the greeting.
    pub(super) fn hello(&mut self, shared: &mut Shared, out: &mut Out<'_, '_>) -> Walk {
        let rest = out.rest();
        let Some(header) = Header::at(rest) else { return Walk::Wait };
        if header.length > MAX_LOGIN {
            self.give_up("the client's login is none", out.actions);
            return Walk::Wait;
        }
        let Some(message) = rest.get(HEADER..HEADER + header.length) else { return Walk::Wait };
        match Hello::read(message) {
            Ok(Hello::Login { mut identity, proof, plugin }) => {
                out.skip(HEADER + header.length);
                out.end(Reply::NotExpected);
                if let Some(greeting) = &self.online.greeting {
                    identity.capabilities = identity.capabilities.granted(greeting.capabilities);
                }
                self.online.agreed(identity.capabilities);
                self.proof = Some((proof, plugin));
                let database = identity.database.clone().unwrap_or_default();
                shared.learn_identity(&identity);
                self.become_user(shared, identity);
                self.enter(shared, &database);
                self.client.phase = Phase::LoggingIn;
                shared.tally.event(self.user, Event::Session, out.actions);
                if self.is_left_out(shared, out.actions) {
                    return Walk::Wait;
                }
                self.log_in(shared, out.actions);
                Walk::On
            }
            Ok(Hello::Tls) => {
                self.give_up(
                    "the client turns to TLS: have clients connect without it (ssl-mode=DISABLED), or replay behind what ends it",
                    out.actions,
                );
                Walk::Wait
            }
            Ok(Hello::Old) => {
                self.give_up("the client speaks the protocol from before MySQL 4.1", out.actions);
                Walk::Wait
            }
            Err(_) => {
                self.give_up("the client's login is none", out.actions);
                Walk::Wait
            }
        }
    }

    /// What follows until the first command, which begins with sequence number 0.
    pub(super) fn logging_in(&mut self, shared: &mut Shared, out: &mut Out<'_, '_>) -> Walk {
        let rest = out.rest();
        let Some(header) = Header::at(rest) else { return Walk::Wait };
        if header.sequence == 0 {
            self.client.phase = Phase::Commands;
            let algorithm = match &self.identity {
                Some(identity) if identity.capabilities.has(Flags::CLIENT_COMPRESS) => Some(Algorithm::Zlib),
                Some(identity) if identity.capabilities.has(Flags::CLIENT_ZSTD_COMPRESSION_ALGORITHM) => {
                    Some(Algorithm::Zstd)
                }
                _ => None,
            };
            self.unpack(algorithm);
            self.log_in(shared, out.actions);
            return Walk::On;
        }
        if header.length > MAX_LOGIN {
            self.give_up("the client's login is none", out.actions);
            return Walk::Wait;
        }
        let Some(message) = rest.get(HEADER..HEADER + header.length) else { return Walk::Wait };
        if let (Some((proof, plugin)), Some((asked, _))) = (&mut self.proof, &self.online.challenge) {
            *proof = message.to_vec();
            plugin.clone_from(asked);
        }
        out.skip(HEADER + header.length);
        out.end(Reply::NotExpected);
        Walk::On
    }

    /// The client's packets are compressed from here on, or not.
    fn unpack(&mut self, algorithm: Option<Algorithm>) {
        if algorithm.is_some() {
            self.packed = Some(Packed::default());
            self.online.compress();
        }
    }

    /// The first bytes of a connection whose beginning was not captured.
    pub(super) fn join(&mut self, shared: &mut Shared, out: &mut Out<'_, '_>) -> Walk {
        match search::at_front(out.rest()) {
            Found::Login => {
                self.identity = None;
                self.online.expect_login();
                self.client.phase = Phase::Hello;
                return Walk::On;
            }
            Found::Packed(algorithm) => {
                if let Some(identity) = &mut self.identity {
                    identity.capabilities.compress(algorithm);
                }
                self.client.phase = Phase::Commands;
                self.unpack(Some(algorithm));
            }
            Found::Command => {
                if let Some(identity) = &mut self.identity {
                    identity.capabilities.plain();
                    if let Some(has) = search::has_attributes(out.rest()) {
                        identity.capabilities.flags.set(Flags::CLIENT_QUERY_ATTRIBUTES, has);
                    }
                }
                self.client.phase = Phase::Commands;
                self.found(out.rest());
            }
            Found::Nothing => {
                self.client.phase = Phase::Search;
                return Walk::On;
            }
            Found::Incomplete => return Walk::Wait,
        }
        self.joined(shared, out)
    }

    /// It is known where a command begins.
    fn joined(&mut self, shared: &mut Shared, out: &mut Out<'_, '_>) -> Walk {
        if self.identity.is_none() {
            self.give_up(
                "joined mid-stream, and nobody knows as which user: see `join-user` and `join-users`",
                out.actions,
            );
            return Walk::Wait;
        }
        if self.connections == 0 {
            shared.tally.event(self.user, Event::Session, out.actions);
            if self.is_left_out(shared, out.actions) {
                return Walk::Wait;
            }
        }
        self.log_in(shared, out.actions);
        Walk::On
    }

    /// Looks for the beginning of a command.
    pub(super) fn search(&mut self, shared: &mut Shared, out: &mut Out<'_, '_>) -> Walk {
        let (skipped, found) = search::anywhere(out.rest());
        if skipped > 0 {
            out.actions.count("bytes before the first whole command", skipped as u64);
            out.skip(skipped);
            self.client.skipped = true;
        }
        if found != Found::Command {
            return Walk::Wait;
        }
        if std::mem::take(&mut self.client.skipped) {
            out.end(Reply::NotExpected);
        }
        self.client.phase = Phase::Commands;
        self.found(out.rest());
        self.joined(shared, out)
    }
}
