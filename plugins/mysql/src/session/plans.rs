//! What becomes of a client's commands.
//!
//! Owns the decision about each of them: by rules, by what the target can do, and by what prepared statements are called there.

use super::Session;
use super::asked::{Asked, What};
use super::client::{End, Phase};
use super::out::Out;
use crate::attributes;
use crate::command;
use crate::packet::{self, HEADER, Header, MOST};
use crate::results::Form;
use crate::rules::{Choice, Rule, while_astray};
use crate::shared::Shared;
use crate::sql::prepared_in_sql;
use crate::statements::layout::Attributes;
use crate::statements::{Fate as Sent, TargetId};
use mysql_common::constants::{CapabilityFlags as Flags, MariadbCapabilities};
use plugin_sdk::Actions;
use std::borrow::Cow;
use std::ops::Range;

/// Bytes of a command, counted from its first, that others are sent in place of.
pub(super) type Edit = (Range<usize>, Vec<u8>);

/// What becomes of a command.
pub(super) enum Plan {
    Pass(End),
    /// It passes, with these changes, in their order.
    Change(Vec<Edit>, End),
    Drop(Cow<'static, str>),
    /// It is left out, and nobody misses it.
    Skip,
    Wait,
    /// It was dealt with, or the session is over.
    Done,
}

impl Session {
    /// What becomes of a command, the front of which is given.
    pub(super) fn plan(
        &mut self,
        shared: &mut Shared,
        front: &[u8],
        header: Header,
        out: &mut Out<'_, '_>,
    ) -> Plan {
        let whole = front.len() == header.length && !header.goes_on();
        let Some((&code, body)) = front.split_first() else {
            return Plan::Drop(Cow::Borrowed("nothing in it"));
        };
        let form = command::form(code);
        let number = command::may_choose_database(code).then_some(self.choices);
        self.choices += u64::from(number.is_some());
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
                let end = End::Asked(Asked { form, what: What::Plain, number, undo });
                if mapped == body {
                    Plan::Pass(end)
                } else {
                    Plan::Change(vec![(1..front.len(), mapped)], end)
                }
            }
            command::QUERY => self.query(shared, body, header, number, out),
            command::PREPARE => self.prepare(shared, body, header, whole),
            command::EXECUTE => self.execute(shared, front, header, whole, out),
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
            command::RESET | command::LONG_DATA => {
                if let Some(id) = body.first_chunk().map(|id| u32::from_le_bytes(*id))
                    && self.prepared.target_id(id) == TargetId::Unknown
                    && self.adopt(shared, id, out)
                {
                    return Plan::Wait;
                }
                self.statement(body, form, |session, id| match code {
                    command::RESET => session.prepared.reset(id),
                    _ => session.prepared.long_data(id),
                })
            }
            command::CLOSE => {
                match self.statement(body, form, |session, id| session.prepared.close(id)) {
                    // There is nothing to close.
                    Plan::Drop(_) => Plan::Skip,
                    plan => plan,
                }
            }
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
    pub(super) fn attributes(&self) -> Attributes {
        let has =
            self.identity.as_ref().is_some_and(|of| of.capabilities.has(Flags::CLIENT_QUERY_ATTRIBUTES));
        if has { Attributes::With } else { Attributes::Without }
    }

    /// Whether the target does not understand the attributes that the client sends.
    pub(super) fn loses_attributes(&self) -> bool {
        self.attributes() == Attributes::With && !self.target.settled.has(Flags::CLIENT_QUERY_ATTRIBUTES)
    }

    /// Whether a rule leaves the user's sessions out.
    pub(super) fn is_left_out(&mut self, shared: &mut Shared, actions: &mut Actions<'_>) -> bool {
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
        number: Option<u64>,
        out: &mut Out<'_, '_>,
    ) -> Plan {
        let whole = 1 + body.len() == header.length && !header.goes_on();
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
        for _ in 0..prepared_in_sql(text, mode) {
            self.prepared.skip_online_id();
        }
        if self.memory.is_astray()
            && let Choice::Drop(rule) = while_astray(text, mode)
        {
            return Plan::Drop(rule.name().into());
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
        let undo = self.memory.ran(&kept, mode.extent);
        let end = End::Asked(Asked { form: Form::Results, what: What::Run, number, undo });
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
    pub(super) fn changed(&self, edits: Vec<Edit>, header: Header, end: End) -> Plan {
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
        let why = if self.memory.is_astray() {
            Some(Rule::Astray.name().into())
        } else if whole {
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
            self.note_prepare(shared, slot);
            return Plan::Drop(why);
        }
        let slot = self.prepared.prepare(text, Sent::Sent);
        self.note_prepare(shared, slot);
        let end = End::Asked(Asked::new(Form::Prepare, What::Prepare(slot)));
        match shared.options.rewrite.statement(text, mode) {
            None => Plan::Pass(end),
            Some(rewritten) => self.changed(vec![(1..1 + text.len(), rewritten)], header, end),
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
            packet::write(&mut packet, 0, &message);
            out.put(&packet);
            out.flush();
            self.client.may_log_in = true;
        }
        Plan::Done
    }
}

/// Whether a statement may be a LOAD DATA LOCAL INFILE.
fn may_ask_for_file(text: &[u8]) -> bool {
    const WORD: &[u8] = b"infile";
    text.windows(WORD.len()).any(|window| window[0] | 0x20 == WORD[0] && window.eq_ignore_ascii_case(WORD))
}
