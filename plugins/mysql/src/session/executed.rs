//! Commands about prepared statements.
//!
//! Owns what stands in them for the target: the statement's number there, types that it has not been told, no attributes where it
//! does not know them. Which statements there are is known by [`crate::statements`].

use super::Session;
use super::asked::{Asked, What};
use super::client::End;
use super::out::Out;
use super::plans::Plan;
use crate::attributes;
use crate::command;
use crate::packet::{self, Header};
use crate::results::Form;
use crate::rules::Choice;
use crate::shared::Shared;
use crate::sql::{Extent, Server};
use crate::statements::layout::{Attributes, Layout};
use crate::statements::{Answer, Execution, Fate as Sent, LAST, TargetId};
use mysql_common::constants::CapabilityFlags as Flags;
use std::borrow::Cow;

impl Session {
    /// An execution of a prepared statement.
    pub(super) fn execute(
        &mut self,
        shared: &mut Shared,
        packet: &[u8],
        header: Header,
        whole: bool,
        out: &mut Out<'_, '_>,
    ) -> Plan {
        let Some(id) = packet.get(1..).and_then(<[u8]>::first_chunk) else {
            return Plan::Drop(Cow::Borrowed("its length: cut short"));
        };
        let online = u32::from_le_bytes(*id);
        let mut end = Asked::new(Form::Results, What::Statement);
        if online == LAST
            && self.prepared.target_id(LAST) == TargetId::Awaited
            && matches!(self.memory.mode().server, Server::MariaDb(_))
        {
            // MariaDB knows by itself which one was prepared last.
            return Plan::Pass(End::Asked(end));
        }
        if whole && let Some(plan) = self.run_as_text(shared, online, packet.len(), header) {
            return plan;
        }
        self.take_over_types(shared, online);
        let (id, splice) = match self.prepared.execute(online, packet, self.attributes()) {
            Execution::Send { id, splice } => (id, splice),
            Execution::Not(TargetId::Unknown) if self.adopt(shared, online, out) => return Plan::Wait,
            Execution::Not(why) => return unavailable(why),
            Execution::Malformed => {
                return Plan::Drop(Cow::Borrowed("its form: no execution of its statement"));
            }
        };
        if shared.known.is_teaching()
            && self.attributes() == Attributes::Without
            && let Some(types) = self.prepared.types(online).filter(|types| !types.is_empty())
        {
            shared.known.learn_types(self.user_name(), online, types);
        }
        if self.lacks_types(online, packet) {
            return Plan::Drop(Cow::Borrowed("its statement: the types of its parameters are not known"));
        }
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
        let parameters = self.prepared.parameters(online).unwrap_or(0);
        if let Some(text) = self.prepared.text(online) {
            end.undo = self.memory.executed(text, parameters);
        }
        self.changed(edits, header, End::Asked(end))
    }

    /// Runs a statement as text that the target, unlike the online server, does not prepare: MySQL prepares no BEGIN, and MariaDB
    /// does.
    fn run_as_text(&mut self, shared: &Shared, online: u32, length: usize, header: Header) -> Option<Plan> {
        if self.prepared.target_id(online) != TargetId::Refused || self.prepared.parameters(online) != Some(0)
        {
            return None;
        }
        let text = self.prepared.text(online)?;
        let mode = self.memory.mode();
        let rewritten = shared.options.rewrite.statement(text, mode);
        let mut message = vec![command::QUERY];
        if self.target.settled.has(Flags::CLIENT_QUERY_ATTRIBUTES) {
            // No attributes, in one set.
            message.extend([0, 1]);
        }
        message.extend_from_slice(rewritten.as_deref().unwrap_or(text));
        let undo = self.memory.ran(text, Extent::Whole);
        let end = End::Asked(Asked { form: Form::Results, what: What::Run, number: None, undo });
        Some(self.changed(vec![(0..length, message)], header, end))
    }

    /// Whether nobody has said yet what types the parameters of an execution are.
    fn lacks_types(&self, online: u32, packet: &[u8]) -> bool {
        let parameters = self.prepared.parameters(online).unwrap_or(0);
        parameters > 0
            && self.prepared.types(online).is_none_or(<[u8]>::is_empty)
            && Layout::of(packet, parameters, self.attributes())
                .is_none_or(|layout| layout.bound.is_some() && layout.types.is_empty())
    }

    /// Prepares a statement at the target that the client had prepared before the capture. Whether it is known.
    pub(super) fn adopt(&mut self, shared: &mut Shared, online: u32, out: &mut Out<'_, '_>) -> bool {
        let Some(known) = shared.known.find(self.user_name(), online).cloned() else { return false };
        let database = self.memory.database();
        let mode = self.memory.mode();
        if shared.options.rules.statement(database, &known.text, mode, &mut self.named) != Choice::Keep {
            return false;
        }
        let slot = self.prepared.prepare(&known.text, Sent::Sent);
        self.homes.add(slot, self.memory.database());
        let parameters = known.types.len() / 2;
        let parameters = u16::try_from(parameters).unwrap_or(u16::MAX);
        self.prepared.online_answer(slot, Answer::Prepared { id: online, parameters });
        let types = self.as_written(&known.types);
        self.prepared.set_types(slot, &types);
        let text = shared.options.rewrite.statement(&known.text, mode).unwrap_or(known.text);
        let mut packet = Vec::new();
        packet::write(&mut packet, 0, &[&[command::PREPARE], &text[..]].concat());
        out.put(&packet);
        self.end(End::Asked(Asked::new(Form::Prepare, What::Prepare(slot))), out);
        true
    }

    /// Types of parameters as this client's executions have them.
    fn as_written(&self, types: &[u8]) -> Vec<u8> {
        match self.attributes() {
            Attributes::Without => types.to_vec(),
            // Each has a name then, though an empty one.
            Attributes::With => types.chunks(2).flat_map(|kind| [kind, &[0]].concat()).collect(),
        }
    }

    /// A statement may have become known before anybody executed it: then its types are known later.
    fn take_over_types(&mut self, shared: &mut Shared, online: u32) {
        let missing = self.prepared.parameters(online).is_some_and(|parameters| parameters > 0)
            && self.prepared.types(online).is_some_and(<[u8]>::is_empty);
        if !missing {
            return;
        }
        if let Some(known) = shared.known.find(self.user_name(), online)
            && !known.types.is_empty()
            && self.prepared.text(online) == Some(&known.text[..])
        {
            let types = self.as_written(&known.types);
            self.prepared.set_types_of(online, &types);
        }
    }

    /// Another command about a prepared statement.
    pub(super) fn statement(
        &mut self,
        body: &[u8],
        form: Form,
        find: impl FnOnce(&mut Self, u32) -> TargetId,
    ) -> Plan {
        let Some(id) = body.first_chunk() else { return Plan::Drop(Cow::Borrowed("its length: cut short")) };
        match find(self, u32::from_le_bytes(*id)) {
            TargetId::Known(target) => {
                let end = match form {
                    Form::None => {
                        self.note_silent(target);
                        End::Silent
                    }
                    _ => End::Asked(Asked::new(form, What::Statement)),
                };
                Plan::Change(vec![(1..5, target.to_le_bytes().to_vec())], end)
            }
            other => unavailable(other),
        }
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
