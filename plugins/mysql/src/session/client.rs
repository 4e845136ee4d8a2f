//! The client's side of a session.
//!
//! Owns walking through the client's bytes: its login, its commands, the files that it sends. Each command is decided about as soon
//! as what matters of it is there; the rest passes piece by piece.

use super::Session;
use super::asked::{Asked, What};
use super::ids::Where;
use super::out::Out;
use crate::compression::{Algorithm, Unpacker};
use crate::login::identity::Hello;
use crate::packet::{HEADER, Header};
use crate::results::Form;
use crate::shared::Shared;
use mysql_common::constants::CapabilityFlags as Flags;
use plugin_sdk::{Origin, Reply};

/// Most bytes of a command that are looked at before anything of it is decided.
const MAX_LOOK: usize = 1 << 20;
/// Longest packet of a login.
const MAX_LOGIN: usize = 1 << 16;

/// Numbers of commands.
mod command {
    pub(super) const QUIT: u8 = 0x01;
    pub(super) const INIT_DB: u8 = 0x02;
    pub(super) const QUERY: u8 = 0x03;
    pub(super) const FIELD_LIST: u8 = 0x04;
    pub(super) const STATISTICS: u8 = 0x09;
    pub(super) const CHANGE_USER: u8 = 0x11;
    pub(super) const BINLOG_DUMP: u8 = 0x12;
    pub(super) const TABLE_DUMP: u8 = 0x13;
    pub(super) const REGISTER_REPLICA: u8 = 0x15;
    pub(super) const PREPARE: u8 = 0x16;
    pub(super) const EXECUTE: u8 = 0x17;
    pub(super) const LONG_DATA: u8 = 0x18;
    pub(super) const CLOSE: u8 = 0x19;
    pub(super) const RESET: u8 = 0x1a;
    pub(super) const SET_OPTION: u8 = 0x1b;
    pub(super) const FETCH: u8 = 0x1c;
    pub(super) const BINLOG_DUMP_GTID: u8 = 0x1e;
    pub(super) const RESET_CONNECTION: u8 = 0x1f;
    pub(super) const CLONE: u8 = 0x20;
    pub(super) const BULK_EXECUTE: u8 = 0xfa;
}

/// Where in its stream a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its answer to the greeting is awaited.
    Hello,
    /// More packets of its login may come.
    LoggingIn,
    /// It sends commands.
    Commands,
    /// Where a command begins is not known.
    Search,
    /// It has said farewell.
    Over,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pass,
    Skip,
}

/// What a request is, once it is complete.
#[derive(Clone, Debug)]
enum End {
    /// It is answered.
    Asked(Asked),
    /// It is not.
    Silent,
    /// It goes on with the next message.
    GoesOn,
}

/// A message that is passed or left out piece by piece.
#[derive(Debug)]
struct Within {
    /// Bytes left of the packet.
    left: usize,
    goes_on: bool,
    fate: Fate,
    end: End,
}

/// The client's side.
#[derive(Debug)]
pub(super) struct Client {
    /// Where in its stream the client is.
    pub(super) phase: Phase,
    within: Option<Within>,
    /// A file is being sent, and this becomes of it.
    file: Option<Fate>,
    /// The statement that was sent last may ask for a file.
    may_ask_for_file: bool,
    /// The request under way was broken off with its connection.
    pub(super) interrupted: bool,
}

enum Walk {
    On,
    Wait,
}

/// What becomes of a command.
enum Plan {
    Pass(End),
    /// It passes with other bytes in place of four.
    Patch(usize, [u8; 4], End),
    Drop(&'static str),
    Wait,
    GiveUp(&'static str),
}

impl Client {
    /// One that begins.
    pub(super) const fn new(origin: Origin) -> Self {
        let phase = match origin {
            Origin::Start => Phase::Hello,
            Origin::MidStream | Origin::Rejoined => Phase::Search,
        };
        Self { phase, within: None, file: None, may_ask_for_file: false, interrupted: false }
    }

    /// Whether part of a request was sent.
    pub(super) const fn is_within(&self) -> bool {
        self.within.is_some() || self.file.is_some()
    }

    /// The connection to the target is gone.
    pub(super) fn on_connection_lost(&mut self, interrupted: bool) {
        self.interrupted |= interrupted;
        self.may_ask_for_file = false;
        if let Some(fate) = &mut self.file {
            *fate = Fate::Skip;
        }
    }

    /// Bytes are missing.
    pub(super) fn on_gap(&mut self) {
        if self.phase != Phase::Over {
            self.phase = Phase::Search;
        }
        self.within = None;
        self.file = None;
        self.interrupted = false;
    }
}

impl Session {
    /// Decides about the bytes that are there.
    pub(super) fn walk(&mut self, shared: &mut Shared, out: &mut Out<'_, '_>) {
        while !self.over && !out.rest().is_empty() {
            let compressed = self.unpacker.is_some();
            let walk = match self.client.phase {
                Phase::Over => {
                    out.actions.count("bytes behind a COM_QUIT", out.rest().len() as u64);
                    out.skip(out.rest().len());
                    out.end(Reply::NotExpected);
                    return;
                }
                _ if self.client.within.is_some() => self.within(out),
                Phase::Hello => self.hello(shared, out),
                Phase::LoggingIn => self.logging_in(out),
                Phase::Commands => self.command(shared, out),
                Phase::Search => self.search(shared, out),
            };
            if matches!(walk, Walk::Wait) || compressed != self.unpacker.is_some() {
                return;
            }
        }
    }

    /// The client's answer to the greeting.
    fn hello(&mut self, shared: &mut Shared, out: &mut Out<'_, '_>) -> Walk {
        let rest = out.rest();
        let Some(header) = Header::at(rest) else { return Walk::Wait };
        if header.length > MAX_LOGIN {
            self.give_up("the client's login is none", out.actions);
            return Walk::Wait;
        }
        let Some(message) = rest.get(HEADER..HEADER + header.length) else { return Walk::Wait };
        match Hello::read(message) {
            Ok(Hello::Login { identity, .. }) => {
                out.skip(HEADER + header.length);
                out.end(Reply::NotExpected);
                self.database.clone_from(&identity.database);
                if let Some(database) = &identity.database {
                    shared.learn_database(&identity.user, database);
                }
                self.identity = Some(identity);
                self.client.phase = Phase::LoggingIn;
                self.count("sessions", out.actions);
                self.log_in(shared, out.actions);
                Walk::On
            }
            Ok(Hello::Tls) => {
                out.actions.count("sessions given up, the client turned to TLS", 1);
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
    fn logging_in(&mut self, out: &mut Out<'_, '_>) -> Walk {
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
            self.unpacker = algorithm.map(Unpacker::new);
            return Walk::On;
        }
        if header.length > MAX_LOGIN {
            self.give_up("the client's login is none", out.actions);
            return Walk::Wait;
        }
        if rest.len() < HEADER + header.length {
            return Walk::Wait;
        }
        out.skip(HEADER + header.length);
        out.end(Reply::NotExpected);
        Walk::On
    }

    /// The rest of a message.
    fn within(&mut self, out: &mut Out<'_, '_>) -> Walk {
        let Some(within) = &mut self.client.within else { return Walk::On };
        let rest = out.rest();
        let mut length = within.left.min(rest.len());
        if within.left == 0 {
            // The message goes on in another packet.
            let Some(header) = Header::at(rest) else { return Walk::Wait };
            length = HEADER;
            within.left = header.length + HEADER;
            within.goes_on = header.goes_on();
        }
        within.left -= length;
        match within.fate {
            Fate::Pass => out.pass(length),
            Fate::Skip => out.skip(length),
        }
        if within.left == 0 && !within.goes_on {
            let end = self.client.within.take().map_or(End::Silent, |within| within.end);
            self.end(end, out);
        }
        Walk::On
    }

    /// A request is complete.
    fn end(&mut self, end: End, out: &mut Out<'_, '_>) {
        if matches!(end, End::GoesOn) {
            return;
        }
        if std::mem::take(&mut self.client.interrupted) {
            return out.end(Reply::NotExpected);
        }
        match end {
            End::Asked(asked) => {
                out.end(Reply::Expected);
                if std::mem::take(&mut self.target.refused_early) {
                    out.actions.reply_complete();
                } else {
                    self.outstanding.push_back(asked);
                }
            }
            End::Silent | End::GoesOn => out.end(Reply::NotExpected),
        }
    }

    /// A message that is not looked at any more.
    fn stream(&mut self, header: Header, fate: Fate, end: End, out: &mut Out<'_, '_>) -> Walk {
        self.client.within =
            Some(Within { left: header.length + HEADER, goes_on: header.goes_on(), fate, end });
        self.within(out)
    }

    /// A command, or what goes with the one before it.
    fn command(&mut self, shared: &mut Shared, out: &mut Out<'_, '_>) -> Walk {
        let rest = out.rest();
        let Some(header) = Header::at(rest) else { return Walk::Wait };
        if header.sequence != 0 || self.client.file.is_some() {
            return self.continuation(header, out);
        }
        if !self.target.is_ready() || (self.client.may_ask_for_file && !self.outstanding.is_empty()) {
            return Walk::Wait;
        }
        self.client.may_ask_for_file = false;
        if let Some(sequence) = self.target.file.take() {
            // The client was not asked for the file that the target wants: it gets an empty one.
            out.put(&Header { length: 0, sequence: sequence.wrapping_add(1) }.bytes());
            self.end(End::Asked(Asked { form: Form::Results, what: What::File }), out);
            return Walk::On;
        }
        if header.length == 0 {
            out.actions.count("empty commands", 1);
            return self.stream(header, Fate::Skip, End::Silent, out);
        }
        let look = header.length.min(MAX_LOOK);
        let Some(front) = rest.get(HEADER..HEADER + look) else { return Walk::Wait };
        let plan = self.plan(shared, front, header, out);
        self.follow_plan(plan, header, out)
    }

    fn follow_plan(&mut self, plan: Plan, header: Header, out: &mut Out<'_, '_>) -> Walk {
        match plan {
            Plan::Pass(end) => {
                self.count("commands sent", out.actions);
                self.stream(header, Fate::Pass, end, out)
            }
            Plan::Patch(at, with, end) => {
                self.count("commands sent", out.actions);
                out.pass(HEADER + at);
                out.skip(with.len());
                out.put(&with);
                let left = header.length - at - with.len();
                self.client.within = Some(Within { left, goes_on: header.goes_on(), fate: Fate::Pass, end });
                if left > 0 || header.goes_on() {
                    return self.within(out);
                }
                let end = self.client.within.take().map_or(End::Silent, |within| within.end);
                self.end(end, out);
                Walk::On
            }
            Plan::Drop(why) => {
                self.count(why, out.actions);
                self.stream(header, Fate::Skip, End::Silent, out)
            }
            Plan::Wait => Walk::Wait,
            Plan::GiveUp(why) => {
                self.give_up(why, out.actions);
                Walk::Wait
            }
        }
    }

    /// A packet with another sequence number than that of a command.
    fn continuation(&mut self, header: Header, out: &mut Out<'_, '_>) -> Walk {
        let fate = match self.client.file {
            Some(fate) => fate,
            None if !self.outstanding.is_empty() => return Walk::Wait,
            None if self.target.file.take().is_some() => Fate::Pass,
            None => Fate::Skip,
        };
        if header.length > 0 {
            self.client.file = Some(fate);
            return self.stream(header, fate, End::GoesOn, out);
        }
        let began = self.client.file.take().is_some();
        if fate == Fate::Pass {
            let asked = Asked { form: Form::Results, what: What::File };
            return self.stream(header, fate, End::Asked(asked), out);
        }
        if began {
            out.actions.count("files that the target did not want", 1);
        }
        self.stream(header, fate, End::Silent, out)
    }

    /// What becomes of a command, the front of which is given.
    fn plan(&mut self, shared: &mut Shared, front: &[u8], header: Header, out: &mut Out<'_, '_>) -> Plan {
        let whole = front.len() == header.length && !header.goes_on();
        let asked = |form, what| End::Asked(Asked { form, what });
        let plain = |form| Plan::Pass(asked(form, What::Plain));
        let Some((&command, body)) = front.split_first() else { return Plan::Drop("empty commands") };
        match command {
            command::QUIT => {
                self.client.phase = Phase::Over;
                Plan::Pass(End::Silent)
            }
            command::INIT_DB => Plan::Pass(asked(Form::Simple, What::Database(body.into()))),
            command::QUERY => {
                self.client.may_ask_for_file = may_ask_for_file(body);
                plain(Form::Results)
            }
            command::FIELD_LIST => plain(Form::Rows),
            command::STATISTICS => plain(Form::Text),
            command::SET_OPTION => plain(Form::Simple),
            command::PREPARE => {
                let online = self.ids.prepare();
                Plan::Pass(asked(Form::Prepare, What::Prepare(online)))
            }
            command::EXECUTE | command::BULK_EXECUTE => self.statement(body, Form::Results),
            command::FETCH => self.statement(body, Form::Rows),
            command::RESET => self.statement(body, Form::Simple),
            command::LONG_DATA | command::CLOSE => {
                let plan = self.statement(body, Form::None);
                if command == command::CLOSE
                    && !matches!(plan, Plan::Wait)
                    && let Some(id) = body.first_chunk()
                {
                    self.ids.close(u32::from_le_bytes(*id));
                }
                plan
            }
            command::CHANGE_USER if !whole => Plan::GiveUp("a COM_CHANGE_USER is none"),
            command::CHANGE_USER => self.change_user(shared, front, header, out),
            command::RESET_CONNECTION => Plan::Pass(asked(Form::Simple, What::Reset)),
            command::BINLOG_DUMP
            | command::BINLOG_DUMP_GTID
            | command::TABLE_DUMP
            | command::REGISTER_REPLICA => {
                Plan::GiveUp("the client is a replica: what it reads can't be replayed")
            }
            command::CLONE => Plan::GiveUp("the client clones the server: that can't be replayed"),
            _ => plain(Form::Results),
        }
    }

    /// A command about a prepared statement.
    fn statement(&mut self, body: &[u8], form: Form) -> Plan {
        let Some(id) = body.first_chunk() else { return Plan::Drop("commands cut short") };
        match self.ids.find(u32::from_le_bytes(*id)) {
            Where::Awaited => Plan::Wait,
            Where::Nowhere => Plan::Drop("commands left out, their statement is not known"),
            Where::At(target) => {
                let end = if form == Form::None {
                    End::Silent
                } else {
                    End::Asked(Asked { form, what: What::Statement(target) })
                };
                Plan::Patch(1, target.to_le_bytes(), end)
            }
        }
    }

    /// Another user takes the connection.
    fn change_user(
        &mut self,
        shared: &mut Shared,
        message: &[u8],
        header: Header,
        out: &mut Out<'_, '_>,
    ) -> Plan {
        if !self.outstanding.is_empty() {
            return Plan::Wait;
        }
        let Some(Ok(identity)) = self.identity.as_ref().map(|identity| identity.changed(message)) else {
            return Plan::GiveUp("a COM_CHANGE_USER is none");
        };
        self.database.clone_from(&identity.database);
        if let Some(database) = &identity.database {
            shared.learn_database(&identity.user, database);
        }
        self.identity = Some(identity);
        if let Some(message) = self.begin_change(shared, out.actions) {
            out.skip(HEADER + header.length);
            let mut packet = Vec::new();
            crate::packet::write(&mut packet, 0, &message);
            out.put(&packet);
            out.flush();
        }
        Plan::Wait
    }

    /// Looks for the beginning of a command.
    fn search(&mut self, shared: &mut Shared, out: &mut Out<'_, '_>) -> Walk {
        let rest = out.rest();
        let Some(header) = Header::at(rest) else { return Walk::Wait };
        if header.sequence == 1 && self.identity.is_none() {
            self.client.phase = Phase::Hello;
            return Walk::On;
        }
        if self.identity.is_none() {
            out.actions.count("sessions given up, joined mid-stream without a user", 1);
            self.give_up(
                "joined mid-stream, and nobody knows as which user: see `join-user` and `join-users`",
                out.actions,
            );
            return Walk::Wait;
        }
        if header.sequence == 0 && header.length > 0 {
            self.client.phase = Phase::Commands;
            self.log_in(shared, out.actions);
            return Walk::On;
        }
        out.actions.count("bytes before the first whole command", rest.len() as u64);
        out.skip(rest.len());
        Walk::Wait
    }
}

/// Whether a statement may be a LOAD DATA LOCAL INFILE.
fn may_ask_for_file(text: &[u8]) -> bool {
    const WORD: &[u8] = b"infile";
    text.windows(WORD.len()).any(|window| window.eq_ignore_ascii_case(WORD))
}
