//! The client's side of a session.
//!
//! Owns walking through the client's bytes: its login, its commands, the files that it sends. Each command is decided about as soon
//! as what matters of it is there; the rest passes piece by piece.

use super::asked::{Asked, What};
use super::out::Out;
use super::{Event, Session};
use crate::attributes;
use crate::command;
use crate::compression::{Algorithm, Unpacker};
use crate::login::identity::Hello;
use crate::packet::{HEADER, Header, MOST};
use crate::results::Form;
use crate::rules::Choice;
use crate::shared::Shared;
use crate::sql::{Kind, Server, Statements};
use crate::statements::layout::{Attributes, Layout};
use crate::statements::{Execution, Fate as Sent, LAST, TargetId};
use mysql_common::constants::{CapabilityFlags as Flags, MariadbCapabilities};
use plugin_sdk::{Actions, Origin, Reply};
use std::borrow::Cow;
use std::ops::Range;

/// Most bytes of a command that are looked at before anything of it is decided.
const MAX_LOOK: usize = 1 << 20;
/// Longest packet of a login.
const MAX_LOGIN: usize = 1 << 16;

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

/// Bytes of a command, counted from its first, that others are sent in place of.
type Edit = (Range<usize>, Vec<u8>);

/// What becomes of a command.
enum Plan {
    Pass(End),
    /// It passes, with these changes, in their order.
    Change(Vec<Edit>, End),
    Drop(Cow<'static, str>),
    Wait,
    /// It was dealt with, or the session is over.
    Done,
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

    /// Whether part of a command about statements was sent.
    pub(super) fn statement_under_way(&self) -> bool {
        matches!(&self.within, Some(Within { fate: Fate::Pass, end: End::Asked(asked), .. }) if asked.is_statement())
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
                Phase::LoggingIn => self.logging_in(shared, out),
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
            Ok(Hello::Login { mut identity, proof, plugin }) => {
                out.skip(HEADER + header.length);
                out.end(Reply::NotExpected);
                if let Some(greeting) = &self.online.greeting {
                    identity.capabilities = identity.capabilities.granted(greeting.capabilities);
                }
                self.online.agreed(identity.capabilities);
                self.proof = Some((proof, plugin));
                let database = identity.database.clone().unwrap_or_default();
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
    fn logging_in(&mut self, shared: &mut Shared, out: &mut Out<'_, '_>) -> Walk {
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
            if let Some(algorithm) = algorithm {
                self.unpacker = Some(Unpacker::new(algorithm));
                self.online.compress(algorithm);
            }
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
            self.end(End::Asked(Asked::new(Form::Results, What::File)), out);
            return Walk::On;
        }
        if header.length == 0 {
            out.actions.count("empty commands", 1);
            return self.stream(header, Fate::Skip, End::Silent, out);
        }
        let look = header.length.min(MAX_LOOK);
        let Some(front) = rest.get(HEADER..HEADER + look) else { return Walk::Wait };
        let plan = self.plan(shared, front, header, out);
        self.follow_plan(shared, plan, header, out)
    }

    fn follow_plan(
        &mut self,
        shared: &mut Shared,
        plan: Plan,
        header: Header,
        out: &mut Out<'_, '_>,
    ) -> Walk {
        let (edits, end) = match plan {
            Plan::Pass(end) => (Vec::new(), end),
            Plan::Change(edits, end) => (edits, end),
            Plan::Drop(why) => {
                shared.tally.dropped(self.user, &why, out.actions);
                return self.stream(header, Fate::Skip, End::Silent, out);
            }
            Plan::Wait | Plan::Done => return Walk::Wait,
        };
        if matches!(&end, End::Asked(asked) if asked.is_statement()) {
            shared.tally.event(self.user, Event::Sent, out.actions);
        }
        if edits.is_empty() {
            return self.stream(header, Fate::Pass, end, out);
        }
        let removed: usize = edits.iter().map(|(range, _)| range.len()).sum();
        let added: usize = edits.iter().map(|(_, with)| with.len()).sum();
        let length = header.length - removed + added;
        if length == header.length {
            out.pass(HEADER);
        } else {
            out.skip(HEADER);
            out.put(&Header { length, ..header }.bytes());
        }
        let mut at = 0;
        for (range, with) in edits {
            out.pass(range.start - at);
            out.skip(range.len());
            out.put(&with);
            at = range.end;
        }
        let left = header.length - at;
        if left == 0 && !header.goes_on() {
            self.end(end, out);
            return Walk::On;
        }
        self.client.within = Some(Within { left, goes_on: header.goes_on(), fate: Fate::Pass, end });
        Walk::On
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
            let asked = Asked::new(Form::Results, What::File);
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
        let Some((&code, body)) = front.split_first() else {
            return Plan::Drop(Cow::Borrowed("nothing in it"));
        };
        let form = command::form(code);
        let plain = Plan::Pass(End::Asked(Asked::new(form, What::Plain)));
        let is_replica = matches!(
            code,
            command::BINLOG_DUMP
                | command::BINLOG_DUMP_GTID
                | command::TABLE_DUMP
                | command::REGISTER_REPLICA
        );
        if is_replica {
            return self.stop("the client is a replica: what it reads can't be replayed", out);
        }
        if let Choice::Drop(rule) = shared.options.rules.command(self.memory.database(), code) {
            return Plan::Drop(rule.name().into());
        }
        match code {
            command::QUIT => {
                self.client.phase = Phase::Over;
                Plan::Pass(End::Silent)
            }
            command::INIT_DB => {
                let mapped = shared.options.rewrite.database(body).into_owned();
                let undo = self.memory.set_database(body);
                if let Some(identity) = &self.identity {
                    shared.learn_database(&identity.user, body);
                }
                let end = End::Asked(Asked { form, what: What::Plain, undo });
                if mapped == body {
                    Plan::Pass(end)
                } else {
                    Plan::Change(vec![(1..front.len(), mapped)], end)
                }
            }
            command::QUERY => self.query(shared, body, header, whole, out),
            command::PREPARE => self.prepare(shared, body, header, whole),
            command::EXECUTE => self.execute(front, header, whole),
            command::BULK_EXECUTE => {
                if !self
                    .target
                    .settled
                    .mariadb
                    .contains(MariadbCapabilities::MARIADB_CLIENT_STMT_BULK_OPERATIONS)
                {
                    return Plan::Drop(Cow::Borrowed("the target's kind: it has no COM_STMT_BULK_EXECUTE"));
                }
                self.statement(body, form, |session, id| session.prepared.target_id(id))
            }
            command::FETCH => self.statement(body, form, |session, id| session.prepared.fetch(id)),
            command::RESET => self.statement(body, form, |session, id| session.prepared.reset(id)),
            command::LONG_DATA => self.statement(body, form, |session, id| session.prepared.long_data(id)),
            command::CLOSE => self.statement(body, form, |session, id| session.prepared.close(id)),
            command::CHANGE_USER if !whole => self.stop("a COM_CHANGE_USER is none", out),
            command::CHANGE_USER => self.change_user(shared, front, header, out),
            command::RESET_CONNECTION => {
                self.prepared.clear();
                self.named.clear();
                self.memory.reset();
                plain
            }
            command::CLONE => self.stop("the client clones the server: that can't be replayed", out),
            _ => plain,
        }
    }

    fn stop(&mut self, why: &'static str, out: &mut Out<'_, '_>) -> Plan {
        self.give_up(why, out.actions);
        Plan::Done
    }

    /// How the client writes executions.
    fn attributes(&self) -> Attributes {
        let has =
            self.identity.as_ref().is_some_and(|of| of.capabilities.has(Flags::CLIENT_QUERY_ATTRIBUTES));
        if has { Attributes::With } else { Attributes::Without }
    }

    /// Whether the target does not understand the attributes that the client sends.
    fn loses_attributes(&self) -> bool {
        self.attributes() == Attributes::With && !self.target.settled.has(Flags::CLIENT_QUERY_ATTRIBUTES)
    }

    /// Whether a rule leaves the user's sessions out.
    fn is_left_out(&mut self, shared: &mut Shared, actions: &mut Actions<'_>) -> bool {
        let Some(identity) = &self.identity else { return false };
        let Choice::Drop(rule) = shared.options.rules.login(&identity.user) else { return false };
        shared.tally.dropped(self.user, &rule.name(), actions);
        self.give_up("the user is left out by `keep-users` or `drop-users`", actions);
        true
    }

    /// Statements in a text.
    fn query(
        &mut self,
        shared: &mut Shared,
        body: &[u8],
        header: Header,
        whole: bool,
        out: &mut Out<'_, '_>,
    ) -> Plan {
        let mut from = 0;
        if self.attributes() == Attributes::With {
            match attributes::text(body) {
                Ok(at) => from = at,
                Err(_) => return Plan::Drop(Cow::Borrowed("its query attributes: they can't be read")),
            }
        }
        let text = &body[from..];
        let mut mode = self.memory.mode();
        if !whole {
            mode = mode.beginning();
        }
        if matches!(Statements::quick(text, mode), Some(Kind::Prepare)) {
            self.prepared.skip_online_id();
        }
        let mut kept = Cow::Borrowed(text);
        match shared.options.rules.statement(self.memory.database(), text, mode, &mut self.named) {
            Choice::Keep => {}
            Choice::Drop(rule) => return Plan::Drop(rule.name().into()),
            Choice::Part { .. } if !whole => {
                return Plan::Drop(Cow::Borrowed("its length: too long to take a part away"));
            }
            Choice::Part { text, dropped } => {
                for rule in dropped {
                    shared.tally.dropped(self.user, &rule.name(), out.actions);
                }
                kept = text.into();
            }
        }
        self.client.may_ask_for_file = may_ask_for_file(&kept);
        let undo = if whole { self.memory.ran(&kept) } else { None };
        let end = End::Asked(Asked { form: Form::Results, what: What::Run, undo });
        if let Some(rewritten) = shared.options.rewrite.statement(&kept, mode) {
            kept = rewritten.into();
        }
        let mut edits = Vec::new();
        if from > 0 && self.loses_attributes() {
            edits.push((1..1 + from, Vec::new()));
        }
        if let Cow::Owned(text) = kept {
            edits.push((1 + from..1 + body.len(), text));
        }
        self.changed(edits, header, end)
    }

    /// A command with these changes, if they fit into its packet.
    fn changed(&self, edits: Vec<Edit>, header: Header, end: End) -> Plan {
        let length: usize = header.length + edits.iter().map(|(_, with)| with.len()).sum::<usize>();
        let removed: usize = edits.iter().map(|(range, _)| range.len()).sum();
        if length != header.length + removed && (header.goes_on() || length - removed >= MOST) {
            return Plan::Drop(Cow::Borrowed("its length: too long to be changed"));
        }
        Plan::Change(edits, end)
    }

    /// A statement is prepared.
    fn prepare(&mut self, shared: &mut Shared, text: &[u8], header: Header, whole: bool) -> Plan {
        let mode = self.memory.mode();
        let why = if whole {
            match shared.options.rules.statement(self.memory.database(), text, mode, &mut self.named) {
                Choice::Keep => None,
                Choice::Drop(rule) => Some(rule.name().into()),
                Choice::Part { .. } => Some(Cow::Borrowed("its form: several statements can't be prepared")),
            }
        } else {
            Some(Cow::Borrowed("its length: too long to be prepared"))
        };
        if let Some(why) = why {
            let slot = self.prepared.prepare(&[], Sent::Dropped);
            self.note_prepare(slot);
            return Plan::Drop(why);
        }
        let slot = self.prepared.prepare(text, Sent::Sent);
        self.note_prepare(slot);
        let end = End::Asked(Asked::new(Form::Prepare, What::Prepare(slot)));
        match shared.options.rewrite.statement(text, mode) {
            None => Plan::Pass(end),
            Some(rewritten) => self.changed(vec![(1..1 + text.len(), rewritten)], header, end),
        }
    }

    /// An execution of a prepared statement.
    fn execute(&mut self, packet: &[u8], header: Header, whole: bool) -> Plan {
        let Some(id) = packet.get(1..).and_then(<[u8]>::first_chunk) else {
            return Plan::Drop(Cow::Borrowed("its length: cut short"));
        };
        let online = u32::from_le_bytes(*id);
        let end = End::Asked(Asked::new(Form::Results, What::Statement));
        if online == LAST
            && self.prepared.target_id(LAST) == TargetId::Awaited
            && matches!(self.memory.mode().server, Server::MariaDb(_))
        {
            // MariaDB knows by itself which one was prepared last.
            return Plan::Pass(end);
        }
        let (id, splice) = match self.prepared.execute(online, packet, self.attributes()) {
            Execution::Send { id, splice } => (id, splice),
            Execution::Not(why) => return unavailable(why),
            Execution::Malformed => {
                return Plan::Drop(Cow::Borrowed("its form: no execution of its statement"));
            }
        };
        let mut edits = vec![(1..5, id.to_le_bytes().to_vec())];
        edits.extend(splice);
        if self.loses_attributes() {
            if !whole {
                return Plan::Drop(Cow::Borrowed("its length: too long to take query attributes away"));
            }
            let mut full = packet.to_vec();
            for (range, with) in edits.into_iter().rev() {
                full.splice(range, with);
            }
            let parameters = self.prepared.parameters(online).unwrap_or(0);
            let types = self.prepared.types(online).unwrap_or_default();
            let plain = Layout::of(&full, parameters, Attributes::With)
                .and_then(|layout| attributes::without(&full, &layout, parameters, types));
            let Some(plain) = plain else {
                return Plan::Drop(Cow::Borrowed("its query attributes: they can't be taken away"));
            };
            edits = vec![(0..packet.len(), plain)];
        }
        self.changed(edits, header, end)
    }

    /// Another command about a prepared statement.
    fn statement(&mut self, body: &[u8], form: Form, find: impl FnOnce(&mut Self, u32) -> TargetId) -> Plan {
        let Some(id) = body.first_chunk() else { return Plan::Drop(Cow::Borrowed("its length: cut short")) };
        match find(self, u32::from_le_bytes(*id)) {
            TargetId::Known(target) => {
                let end = match form {
                    Form::None => End::Silent,
                    _ => End::Asked(Asked::new(form, What::Statement)),
                };
                Plan::Change(vec![(1..5, target.to_le_bytes().to_vec())], end)
            }
            other => unavailable(other),
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
            return self.stop("a COM_CHANGE_USER is none", out);
        };
        let database = identity.database.clone().unwrap_or_default();
        self.memory.changed_user(&database, Some(identity.collation));
        self.prepared.clear();
        self.named.clear();
        self.become_user(shared, identity);
        if self.is_left_out(shared, out.actions) {
            return Plan::Done;
        }
        self.enter(shared, &database);
        if let Some(message) = self.begin_change(shared, out.actions) {
            out.skip(HEADER + header.length);
            let mut packet = Vec::new();
            crate::packet::write(&mut packet, 0, &message);
            out.put(&packet);
            out.flush();
        }
        Plan::Done
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
            self.found(rest);
            self.log_in(shared, out.actions);
            return Walk::On;
        }
        out.actions.count("bytes before the first whole command", rest.len() as u64);
        out.skip(rest.len());
        Walk::Wait
    }
}

/// What becomes of a command whose statement is not there.
const fn unavailable(why: TargetId) -> Plan {
    match why {
        TargetId::Known(_) | TargetId::Awaited => Plan::Wait,
        TargetId::Dropped => Plan::Drop(Cow::Borrowed("its statement: left out by a rule")),
        TargetId::Refused => Plan::Drop(Cow::Borrowed("its statement: refused by the target")),
        TargetId::Unknown => {
            Plan::Drop(Cow::Borrowed("its statement: not known, prepared before the capture"))
        }
        TargetId::Lost => {
            Plan::Drop(Cow::Borrowed("its statement: what it needs was lost with a connection"))
        }
    }
}

/// Whether a statement may be a LOAD DATA LOCAL INFILE.
fn may_ask_for_file(text: &[u8]) -> bool {
    const WORD: &[u8] = b"infile";
    text.windows(WORD.len()).any(|window| window.eq_ignore_ascii_case(WORD))
}
