//! One client's session.
//!
//! Owns what the session knows, and how its sides come together: the client's bytes (`client`) and the target's (`target`).

mod asked;
mod client;
mod ids;
mod out;
mod target;

use crate::compression::Unpacker;
use crate::login::Credential;
use crate::login::identity::Identity;
use crate::passwords::Secret;
use crate::shared::Shared;
use asked::Asked;
use client::{Client, Phase};
use ids::Ids;
use out::Out;
use plugin_sdk::{Actions, Level, Loss, Opening, Origin, Reply};
use std::collections::VecDeque;
use std::net::SocketAddr;
use target::Target;

/// A session.
#[derive(Debug)]
pub struct Session {
    from: SocketAddr,
    /// Nothing more is done: the session was given up.
    over: bool,
    /// Who the client is, once that is known.
    identity: Option<Identity>,
    /// The database that it is in.
    database: Option<Vec<u8>>,
    client: Client,
    /// Opens the client's packets, if they are compressed.
    unpacker: Option<Unpacker>,
    /// What was opened and is not decided about.
    unpacked: Vec<u8>,
    target: Target,
    outstanding: VecDeque<Asked>,
    ids: Ids,
}

impl Session {
    /// A session that begins.
    pub fn new(shared: &mut Shared, opening: &Opening, _: &mut Actions<'_>) -> Self {
        let mut session = Self {
            from: opening.client,
            over: false,
            identity: None,
            database: None,
            client: Client::new(opening.origin),
            unpacker: None,
            unpacked: Vec::new(),
            target: Target::default(),
            outstanding: VecDeque::new(),
            ids: Ids::default(),
        };
        if opening.origin != Origin::Start
            && let Some(user) = shared.options.joined_user(opening.client.ip())
        {
            session.database = shared.joined_database(user).map(<[u8]>::to_vec);
            session.identity = Some(Identity::assumed(user.to_vec(), session.database.clone()));
        }
        session
    }

    /// The session ends for a reason that users can do something about.
    fn give_up(&mut self, reason: &str, actions: &mut Actions<'_>) {
        if !self.over {
            self.over = true;
            actions.give_up(reason);
        }
    }

    /// Adds to a number of the session's user.
    fn count(&self, what: &str, actions: &Actions<'_>) {
        let user = self.identity.as_ref().map_or(&b"?"[..], |identity| &identity.user);
        actions.count(&format!("user {}: {what}", shown(user)), 1);
    }

    /// What a user proves itself with at the target.
    fn credential(&self, shared: &Shared, user: &[u8]) -> Option<Credential> {
        Some(match shared.options.passwords.of(user, self.from.ip())? {
            Secret::Password(password) => Credential::Password(password.clone()),
            Secret::Stage2(_) => Credential::Stage1(*shared.stage1(user)?),
        })
    }

    /// Decides about the bytes that are there.
    pub fn on_request(&mut self, shared: &mut Shared, bytes: &[u8], actions: &mut Actions<'_>) {
        if self.over {
            return;
        }
        let mut rest = bytes;
        while self.unpacker.is_none() && !rest.is_empty() && !self.over {
            let mut packer = self.target.packer.take();
            let mut out = Out::captured(actions, rest, packer.as_mut());
            self.walk(shared, &mut out);
            let taken = out.taken();
            self.target.packer = packer.or(self.target.packer.take());
            rest = &rest[taken..];
            if taken == 0 || self.unpacker.is_none() {
                break;
            }
        }
        if self.unpacker.is_some() && !self.over {
            self.on_packed(shared, rest, actions);
        }
    }

    /// Takes a client's compressed bytes.
    fn on_packed(&mut self, shared: &mut Shared, bytes: &[u8], actions: &mut Actions<'_>) {
        let Some(unpacker) = &mut self.unpacker else { return };
        actions.discard(bytes.len());
        let unpacked = &mut self.unpacked;
        if unpacker.feed(bytes, |plain, _| unpacked.extend_from_slice(plain)).is_err() {
            return self.give_up("the client's compressed packets can't be read", actions);
        }
        self.walk_unpacked(shared, actions);
    }

    /// Decides about what compressed packets held.
    fn walk_unpacked(&mut self, shared: &mut Shared, actions: &mut Actions<'_>) {
        if self.unpacked.is_empty() || self.over {
            return;
        }
        let unpacked = std::mem::take(&mut self.unpacked);
        let mut packer = self.target.packer.take();
        let mut out = Out::unpacked(actions, &unpacked, packer.as_mut());
        self.walk(shared, &mut out);
        let taken = out.taken();
        self.target.packer = packer.or(self.target.packer.take());
        self.unpacked = unpacked;
        self.unpacked.drain(..taken);
    }

    /// Something that undecided bytes waited for has come.
    fn resume(&mut self, shared: &mut Shared, actions: &mut Actions<'_>) {
        if self.unpacker.is_some() {
            self.walk_unpacked(shared, actions);
        } else {
            actions.resume();
        }
    }

    /// Takes the online server's bytes.
    pub fn on_reference(&mut self, _: &mut Shared, _: &[u8], _: &mut Actions<'_>) {}

    /// Bytes of the online server are missing.
    pub fn on_reference_gap(&mut self) {}

    /// The connection to the target is lost.
    pub fn on_connection_lost(&mut self, _: &mut Shared, loss: Loss, actions: &mut Actions<'_>) {
        if self.over {
            return;
        }
        let kept = loss.kept as usize;
        for _ in 0..loss.unanswered.min(self.outstanding.len() as u32) {
            self.outstanding.pop_front();
            self.count("statements lost with their connection", actions);
        }
        while self.outstanding.len() > kept {
            self.outstanding.pop_front();
        }
        let changing = self.target.lose(loss.interrupted);
        if self.outstanding.iter().any(|asked| asked.what == asked::What::File) {
            return self.give_up("the target closed within a LOAD DATA LOCAL", actions);
        }
        self.client.on_connection_lost(loss.interrupted);
        if changing {
            if !loss.interrupted {
                return self.give_up("the target closed within a COM_CHANGE_USER", actions);
            }
            actions.end_request(Reply::NotExpected);
            self.client.interrupted = false;
        }
        self.ids.lose();
    }

    /// Request bytes are missing.
    pub fn on_gap(&mut self, actions: &mut Actions<'_>) {
        if self.over {
            return;
        }
        if self.unpacker.is_some() {
            return self.give_up("bytes of a compressed connection were not captured", actions);
        }
        if matches!(self.client.phase, Phase::Hello | Phase::LoggingIn) && self.identity.is_none() {
            return self.give_up("a client's login was not captured whole", actions);
        }
        self.client.on_gap();
    }

    /// The client has closed.
    pub fn on_close(&mut self) {}

    /// A login took too long.
    pub fn on_timer(&mut self, actions: &mut Actions<'_>) {
        if !self.target.is_ready() {
            actions.log(Level::Warn, "a login at the target was not complete in time");
            self.give_up("the target did not complete a login in time", actions);
        }
    }
}

/// Bytes of a client or server for people to read: printable, and not too many.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 80;
    let text = bytes[..bytes.len().min(MOST)].escape_ascii().to_string();
    if bytes.len() > MOST { text + "..." } else { text }
}
