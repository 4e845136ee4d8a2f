//! The client's side of a session.
//!
//! Owns walking through the client's bytes: its login, its commands, the files that it sends. Each command is decided about as soon
//! as what matters of it is there; the rest passes piece by piece.

use super::asked::{Asked, What};
use super::out::Out;
use super::plans::Plan;
use super::{Event, Session};
use crate::command;
use crate::memory::Undo;
use crate::packet::{HEADER, Header};
use crate::results::Form;
use crate::shared::Shared;
use plugin_sdk::{Origin, Reply};

/// Most bytes of a command that are looked at before anything of it is decided.
const MAX_LOOK: usize = 1 << 20;

/// Where in its stream a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its answer to the greeting is awaited.
    Hello,
    /// More packets of its login may come.
    LoggingIn,
    /// It sends commands.
    Commands,
    /// A command seems to begin with the next byte.
    Join,
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
pub(super) enum End {
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
    pub(super) may_ask_for_file: bool,
    /// What follows may belong to a COM_CHANGE_USER.
    pub(super) may_log_in: bool,
    /// Bytes were left out in search of a command.
    pub(super) skipped: bool,
    /// The request under way was broken off with its connection.
    pub(super) interrupted: bool,
}

pub(super) enum Walk {
    On,
    Wait,
}

impl Client {
    /// One that begins.
    pub(super) const fn new(origin: Origin) -> Self {
        let phase = match origin {
            Origin::Start => Phase::Hello,
            Origin::MidStream | Origin::Rejoined => Phase::Join,
        };
        Self {
            phase,
            within: None,
            file: None,
            may_ask_for_file: false,
            may_log_in: false,
            skipped: false,
            interrupted: false,
        }
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
        // However much was skipped: only then does the host know that a request begins, and asks for a connection for it.
        self.skipped = true;
    }
}

impl Session {
    /// Decides about the bytes that are there.
    pub(super) fn walk(&mut self, shared: &mut Shared, out: &mut Out<'_, '_>) {
        while !self.over && !out.rest().is_empty() {
            let compressed = self.packed.is_some();
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
                Phase::Join => self.join(shared, out),
                Phase::Search => self.search(shared, out),
            };
            if matches!(walk, Walk::Wait) || compressed != self.packed.is_some() {
                return;
            }
        }
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
    pub(super) fn end(&mut self, end: End, out: &mut Out<'_, '_>) {
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
        // Where the next one would run is not known before the target has agreed to a database.
        if self.outstanding.iter().any(|asked| asked.undo.as_ref().is_some_and(Undo::is_about_database)) {
            return Walk::Wait;
        }
        self.settle_choice();
        self.client.may_ask_for_file = false;
        self.client.may_log_in = false;
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
        if !matches!(plan, Plan::Wait) && command::runs_statements(front[0]) {
            self.decided += 1;
        }
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
            Plan::Skip => return self.stream(header, Fate::Skip, End::Silent, out),
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
        if self.client.file.is_none() && self.client.may_log_in {
            // It is answered by the plugin, where the target asks for it at all.
            if self.target.is_changing() {
                return Walk::Wait;
            }
            return self.stream(header, Fate::Skip, End::Silent, out);
        }
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
}
