//! Request bytes between capture and acknowledgement, and the requests that they belong to.
//!
//! Owns the bookkeeping by which each captured request ends up under exactly one heading. What is decided about a request is the
//! protocol's business ([`super::Exchange`]).

use super::ClientEnd;
use super::staging::{Bytes, Staging, Strays};
use crate::config::CaptureClock;
use crate::counters::{Counters, EndReason};
use crate::tcp::Connection;
use crate::tcp::sender::Boundary;
use crate::time::Instant;
use std::collections::VecDeque;

/// One captured request on its way to the target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Stream offset, in the captured stream, of its first byte.
    pub(super) start: u64,
    /// Where its bytes lie in the connection's stream, once some were forwarded.
    pub(super) placed: Option<(u64, u64)>,
    pub(super) sent: bool,
    /// Given up, or on a connection that is gone, and why: whatever is still captured of it is dropped.
    pub(super) void: Option<EndReason>,
    /// Counted as acknowledged; more bytes may still follow while it is the last one.
    pub(super) done: bool,
    /// Counted as given up, because the protocol left out every byte of it; bytes that it forwards may still follow.
    pub(super) left_out: bool,
}

impl Entry {
    /// Whether it is neither acknowledged nor given up.
    pub(super) const fn is_open(&self) -> bool {
        !self.done && !self.left_out && self.void.is_none()
    }
}

/// When bytes were captured that were not sent yet.
#[derive(Debug, Default)]
struct Marks {
    /// Where captured pieces end in the captured stream, and when they were captured.
    captured: VecDeque<(u64, u64)>,
    /// When the requests were captured that were sent since the caller last asked.
    sent: Vec<u64>,
}

impl Marks {
    /// A request that begins at `start` was sent for the first time.
    fn note_sent(&mut self, start: u64) {
        while self.captured.front().is_some_and(|(end, _)| *end <= start) {
            self.captured.pop_front();
        }
        self.sent.extend(self.captured.front().map(|(_, at)| *at));
    }
}

/// Whether requests may go to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Gate {
    /// They may.
    #[default]
    Open,
    /// Not before the protocol is ready.
    Closed,
}

/// The request bytes of a session between capture and acknowledgement, and the requests that they belong to.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Captured and not decided about.
    pub(super) pending: VecDeque<u8>,
    /// Stream offset, in the captured stream, of the first pending byte.
    pub(super) decided: u64,
    /// Forwarded while there was no connection to take it.
    pub(super) staged: VecDeque<u8>,
    pub(super) staged_boundaries: VecDeque<u64>,
    pub(super) entries: VecDeque<Entry>,
    /// Entries neither acknowledged nor given up.
    pub(super) open: u64,
    /// Entries before this one are counted as sent, or given up: a deep backlog is not walked for each packet.
    pub(super) unsent_from: usize,
    /// Where requests without an answer begin in the connection's stream, oldest first.
    pub(super) awaiting: VecDeque<u64>,
    pub(super) timer: Option<Instant>,
    pub(super) closing: Option<ClientEnd>,
    /// Where, in the connection's stream, the request begins that was given up with bytes of it forwarded, and why it was.
    pub(super) breaking: Option<(u64, EndReason)>,
    /// The protocol wants what follows on a new connection.
    pub(super) reconnect: bool,
    /// The protocol has not prepared the connection for requests yet.
    pub(super) gate: Gate,
    /// Bytes at the beginning of the connection's stream that only prepare it.
    pub(super) prepared: u64,
    /// The protocol wants other inputs than before.
    pub(super) inputs_changed: bool,
    pub(super) given_up: Option<EndReason>,
    /// When bytes were captured; kept for recorded captures.
    marks: Option<Box<Marks>>,
    /// Everything that waited was given up, for this reason, because no connection came about; the protocol has not heard of it yet.
    pub(super) hopeless: Option<EndReason>,
}

impl Outbox {
    /// An outbox with room for `bytes` captured bytes.
    pub fn new(bytes: usize, clock: CaptureClock) -> Self {
        let marks = (clock == CaptureClock::Recorded).then(Box::default);
        Self { pending: VecDeque::with_capacity(bytes), marks, ..Self::default() }
    }

    /// Appends bytes that were captured at `at`, in nanoseconds of the Unix epoch.
    pub fn capture(&mut self, bytes: &[u8], at: u64) {
        self.pending.extend(bytes);
        if let Some(marks) = &mut self.marks {
            // What was left out is never asked for.
            let oldest = self.entries.front().map_or(self.decided, |entry| entry.start);
            while marks.captured.front().is_some_and(|(end, _)| *end <= oldest) {
                marks.captured.pop_front();
            }
            marks.captured.push_back((self.decided + self.pending.len() as u64, at));
        }
    }

    /// Appends the times of capture of the requests that were sent since the last call.
    pub fn take_sent(&mut self, into: &mut Vec<u64>) {
        if let Some(marks) = &mut self.marks {
            into.append(&mut marks.sent);
        }
    }

    /// Index of the first request that begins after `position` of the captured stream. Most often that is past the last one, or
    /// the one behind the request that is being sent.
    pub(super) fn entry_after(&self, position: u64) -> usize {
        if self.entries.back().is_none_or(|last| last.start <= position) {
            return self.entries.len();
        }
        let is_before = |index: usize| self.entries.get(index).is_some_and(|e| e.start <= position);
        let next = self.unsent_from + 1;
        if is_before(self.unsent_from) && !is_before(next) {
            return next;
        }
        self.entries.partition_point(|e| e.start <= position)
    }

    /// Bytes that wait for a decision.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Bytes held, in memory.
    pub fn held_bytes(&self) -> usize {
        self.pending.capacity()
            + self.staged.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + self.awaiting.capacity() * size_of::<u64>()
            + self.marks.as_ref().map_or(0, |marks| marks.captured.capacity() * size_of::<(u64, u64)>())
    }

    /// Bytes forwarded while there was no connection to take them.
    pub fn staged_len(&self) -> usize {
        self.staged.len()
    }

    /// When the protocol wants to be called.
    pub const fn timer(&self) -> Option<Instant> {
        self.timer
    }

    /// Clears the timer, because it is about to be served.
    pub const fn take_timer(&mut self) {
        self.timer = None;
    }

    /// How the protocol wants the session to end, once everything is sent.
    pub const fn closing(&self) -> Option<ClientEnd> {
        self.closing
    }

    /// Takes the protocol's wish for a fresh connection.
    pub const fn take_breaking(&mut self) -> Option<(u64, EndReason)> {
        self.breaking.take()
    }

    /// Takes the protocol's wish that what follows goes to a new connection.
    pub const fn take_reconnect(&mut self) -> bool {
        std::mem::replace(&mut self.reconnect, false)
    }

    /// Takes note that the protocol wants other inputs than before.
    pub const fn take_inputs_changed(&mut self) -> bool {
        std::mem::replace(&mut self.inputs_changed, false)
    }

    /// Bytes at the beginning of the connection's stream that belong to no request.
    pub const fn prepared(&self) -> u64 {
        self.prepared
    }

    /// Takes note of a new connection.
    pub const fn begin_connection(&mut self) {
        self.prepared = 0;
    }

    /// Whether the protocol needs a connection before it can decide about what is pending: which requests those bytes belong to,
    /// it may not know yet.
    pub fn needs_preparation(&self) -> bool {
        self.gate == Gate::Closed && (self.open > 0 || !self.pending.is_empty())
    }

    /// Whether requests may go to a connection.
    pub const fn gate(&self) -> Gate {
        self.gate
    }

    /// The last `len` pending bytes, in two pieces because the queue is a ring.
    pub(super) fn last_pending(&self, len: usize) -> [&[u8]; 2] {
        let (a, b) = self.pending.as_slices();
        let skip = self.pending.len() - len;
        [&a[skip.min(a.len())..], &b[skip.saturating_sub(a.len())..]]
    }

    /// Whether the protocol has decided to give the session up.
    pub(super) const fn is_given_up(&self) -> bool {
        self.given_up.is_some()
    }

    /// Takes the protocol's decision to give the session up.
    pub const fn take_given_up(&mut self) -> Option<EndReason> {
        self.given_up.take()
    }

    /// Requests sent that no response byte came for.
    pub fn unanswered(&self) -> u64 {
        self.awaiting.len() as u64
    }

    /// Requests captured and neither acknowledged nor given up.
    pub const fn waiting(&self) -> u64 {
        self.open
    }

    /// Whether something is still to be delivered.
    pub const fn has_work(&self) -> bool {
        self.open > 0
    }

    /// Bytes captured, and neither handed to a connection nor left out.
    pub fn backlog(&self) -> usize {
        self.pending.len() + self.staged.len()
    }

    /// Moves staged bytes to a connection that takes them.
    pub fn unstage(&mut self, connection: &mut Connection) {
        if self.staged.is_empty() || self.gate == Gate::Closed {
            return;
        }
        let base = connection.sender().end();
        let shift = |offset: u64| offset - STAGED_BASE + base;
        for entry in &mut self.entries {
            if let Some((start, end)) = &mut entry.placed
                && *start >= STAGED_BASE
            {
                *start = shift(*start);
                *end = shift(*end);
            }
        }
        for start in self.awaiting.iter_mut().filter(|start| **start >= STAGED_BASE) {
            *start = shift(*start);
        }
        let mut position = 0;
        while position < self.staged.len() as u64 {
            let boundary = self.staged_boundaries.pop_front().map(|b| b - STAGED_BASE);
            let end = boundary.unwrap_or(self.staged.len() as u64);
            let kind = if boundary.is_some() { Boundary::Pushed } else { Boundary::Open };
            let (a, b) = self.staged.as_slices();
            for piece in slices_between(a, b, position as usize, end as usize) {
                connection.push(piece, kind_of(piece, kind));
            }
            position = end;
        }
        self.staged = VecDeque::new();
        self.staged_boundaries.clear();
    }

    /// Takes note of what the connection has sent and the target acknowledged; counts it.
    pub fn settle(&mut self, connection: &Connection, counters: &mut Counters) {
        self.settle_sent(connection.sender().sent(), counters);
        self.settle_acknowledged(connection.sender().acknowledged(), counters);
    }

    /// Counts requests that were left out while there is no connection.
    pub fn settle_without(&mut self, counters: &mut Counters) {
        self.settle_acknowledged(0, counters);
    }

    /// Where, in the captured stream, the bytes of entry `index` end as far as they are known.
    fn end_of(&self, index: usize) -> u64 {
        self.entries.get(index + 1).map_or(self.decided + self.pending.len() as u64, |next| next.start)
    }

    fn settle_sent(&mut self, sent: u64, counters: &mut Counters) {
        while let Some(entry) = self.entries.get(self.unsent_from) {
            let complete = self.decided >= self.end_of(self.unsent_from);
            let is_sent = entry.placed.is_none_or(|(_, end)| sent >= end);
            if !complete || (entry.void.is_none() && !is_sent) {
                return;
            }
            let entry = &mut self.entries[self.unsent_from];
            if entry.void.is_none() && entry.placed.is_some() && !std::mem::replace(&mut entry.sent, true) {
                counters.requests_sent += 1;
                if let Some(marks) = &mut self.marks {
                    marks.note_sent(entry.start);
                }
            }
            self.unsent_from += 1;
        }
    }

    fn settle_acknowledged(&mut self, acknowledged: u64, counters: &mut Counters) {
        while let Some(entry) = self.entries.front() {
            if self.decided < self.end_of(0) {
                return;
            }
            if entry.is_open() {
                if entry.placed.is_some_and(|(_, end)| acknowledged < end) {
                    return;
                }
                let entry = &mut self.entries[0];
                if entry.placed.is_some() {
                    entry.done = true;
                    counters.requests_acknowledged += 1;
                } else {
                    entry.left_out = true;
                    counters.requests_given_up.add(EndReason::Filtered, 1);
                }
                self.open -= 1;
                counters.requests_waiting -= 1;
            }
            // The last one stays: more bytes of it may come.
            if self.entries.len() == 1 {
                return;
            }
            self.entries.pop_front();
            self.unsent_from = self.unsent_from.saturating_sub(1);
        }
    }

    /// The connection is gone. Requests that can't have reached the target are put back to be sent on a new one; the rest is
    /// given up. What can't have reached it is for [`Connection::is_untouched`] to say.
    pub fn connection_lost(
        &mut self,
        connection: &mut Connection,
        reason: EndReason,
        counters: &mut Counters,
    ) {
        self.settle(connection, counters);
        let is_touched = |e: &Entry| {
            e.placed.is_some_and(|(start, _)| start < STAGED_BASE && !connection.is_untouched(start))
        };
        let first_kept = self.entries.iter().rposition(is_touched).map_or(0, |last| last + 1);
        let mut unsent_from = None;
        for i in 0..self.entries.len() {
            let entry = &mut self.entries[i];
            if i < first_kept && entry.placed.is_none() && entry.void.is_none() {
                // Left out between requests that went to the connection.
                if entry.is_open() {
                    entry.left_out = true;
                    self.open -= 1;
                    counters.requests_waiting -= 1;
                    counters.requests_given_up.add(EndReason::Filtered, 1);
                }
            } else if i < first_kept {
                self.give_up(i, reason, counters);
                // It lies nowhere any more.
                self.entries[i].placed = None;
            } else if let Some((start, _)) = entry.placed {
                unsent_from.get_or_insert(start);
            }
        }
        let from = unsent_from.unwrap_or(STAGED_BASE);
        let (bytes, boundaries) = connection.take_unacknowledged(from);
        self.restage(Bytes { bytes: &bytes, boundaries: &boundaries, base: from }, Strays::Lost, counters);
    }

    /// Gives a request up, if it is neither acknowledged nor given up already; what more is captured of it has nowhere to go.
    pub(super) fn give_up(&mut self, index: usize, reason: EndReason, counters: &mut Counters) {
        let entry = &mut self.entries[index];
        if entry.is_open() {
            self.open -= 1;
            counters.requests_waiting -= 1;
            counters.requests_given_up.add(reason, 1);
        }
        entry.void.get_or_insert(reason);
    }

    /// Takes what was given up out of what is staged.
    pub fn drop_given_up(&mut self, counters: &mut Counters) {
        self.unsent_from = 0;
        self.restage(
            Bytes { bytes: &VecDeque::new(), boundaries: &[], base: STAGED_BASE },
            Strays::Kept,
            counters,
        );
    }

    /// Takes what was given up out of `connection`, and what follows it to be sent after all: everything from stream offset
    /// `from` on, of which nothing was sent.
    pub fn withdraw(&mut self, connection: &mut Connection, from: u64, counters: &mut Counters) {
        let mut awaiting = std::mem::take(&mut self.awaiting);
        awaiting.retain(|start| *start < from);
        let (bytes, boundaries) = connection.take_unacknowledged(from);
        self.restage(Bytes { bytes: &bytes, boundaries: &boundaries, base: from }, Strays::Kept, counters);
        // What is before stays where it is, answered or not.
        awaiting.extend(self.awaiting.iter().filter(|start| **start >= STAGED_BASE));
        self.awaiting = awaiting;
    }

    /// Stages all that is not given up anew: what was `taken` from a connection before what was staged already.
    fn restage(&mut self, taken: Bytes<'_>, strays: Strays, counters: &mut Counters) {
        let before = std::mem::take(&mut self.staged);
        let boundaries_before: Vec<u64> = std::mem::take(&mut self.staged_boundaries).into();
        let before = Bytes { bytes: &before, boundaries: &boundaries_before, base: STAGED_BASE };
        let mut staging = Staging {
            staged: &mut self.staged,
            boundaries: &mut self.staged_boundaries,
            passed: [taken.base, before.base],
            sources: [taken, before],
            strays,
        };
        for entry in &mut self.entries {
            let Some((start, end)) = entry.placed.filter(|(start, _)| *start >= taken.base) else { continue };
            let source = usize::from(start >= STAGED_BASE);
            if source == 1 {
                staging.pass(0, taken.end());
            }
            staging.pass(source, start);
            staging.passed[source] = end;
            if entry.void.is_some() {
                entry.placed = None;
                continue;
            }
            entry.placed = Some(staging.stage(source, start, end));
            if std::mem::replace(&mut entry.sent, false) {
                counters.requests_sent -= 1;
            }
        }
        staging.pass(0, taken.end());
        staging.pass(1, before.end());
        self.unsent_from = 0;
        let open = self.entries.iter().filter(|e| e.is_open());
        self.awaiting = open.filter_map(|e| e.placed).map(|(start, _)| start).collect();
    }

    /// Gives up everything that waits, because no connection comes about. The protocol is to be told that the connection is lost.
    pub fn give_up_waiting(&mut self, reason: EndReason, counters: &mut Counters) {
        self.give_up_all(reason, counters);
        self.hopeless = Some(reason);
    }

    /// Gives up everything that is not acknowledged.
    pub fn give_up_all(&mut self, reason: EndReason, counters: &mut Counters) {
        for index in 0..self.entries.len() {
            self.give_up(index, reason, counters);
        }
        self.unsent_from = 0;
        let keep = self.entries.pop_back();
        self.entries.clear();
        self.entries.extend(keep.map(|entry| Entry { placed: None, ..entry }));
        self.staged = VecDeque::new();
        self.staged_boundaries.clear();
        self.awaiting.clear();
    }

    /// Forgets pending bytes too: the session is over.
    pub fn discard(&mut self) {
        self.pending = VecDeque::new();
        self.staged = VecDeque::new();
        self.entries = VecDeque::new();
        self.awaiting = VecDeque::new();
        self.open = 0;
        self.unsent_from = 0;
        self.timer = None;
        if let Some(marks) = &mut self.marks {
            marks.captured = VecDeque::new();
        }
    }
}

/// An empty queue keeps memory up to this many bytes: growing it anew for each large request costs page faults, and keeping
/// more of it would cost every idle session.
pub(super) const KEPT_CAPACITY: usize = 32 << 10;

/// Staged bytes have offsets from here on, so that they can't be mistaken for bytes of a connection.
pub(super) const STAGED_BASE: u64 = 1 << 62;

fn kind_of(piece: &[u8], kind: Boundary) -> Boundary {
    if piece.is_empty() { Boundary::Open } else { kind }
}

pub(super) fn slices_between<'a>(a: &'a [u8], b: &'a [u8], start: usize, end: usize) -> [&'a [u8]; 2] {
    let first = &a[start.min(a.len())..end.min(a.len())];
    let second = &b[start.saturating_sub(a.len())..end.saturating_sub(a.len())];
    // Two pieces of one write: only the second may end it.
    if second.is_empty() { [&[], first] } else { [first, second] }
}
