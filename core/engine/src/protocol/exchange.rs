//! What a protocol may do to its session.

use super::ClientEnd;
use super::outbox::{Entry, Gate, KEPT_CAPACITY, Outbox, STAGED_BASE, slices_between};
use crate::counters::{Counters, EndReason};
use crate::plugin::Hub;
use crate::tcp::Connection;
use crate::tcp::sender::Boundary;
use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// What a protocol sees of its session, and does to it.
#[derive(Debug)]
pub struct Exchange<'a> {
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) connection: Option<&'a mut Connection>,
    pub(crate) counters: &'a mut Counters,
    pub(crate) hub: &'a mut Hub,
    pub(crate) now: Instant,
}

impl Exchange<'_> {
    /// The present moment.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Captured bytes without a decision, in two pieces because the queue is a ring.
    pub fn pending(&self) -> (&[u8], &[u8]) {
        self.outbox.pending.as_slices()
    }

    /// Offset in the captured stream after the last byte captured.
    pub fn captured_end(&self) -> u64 {
        self.outbox.decided + self.outbox.pending.len() as u64
    }

    /// Offset in the captured stream of the first pending byte.
    pub(super) const fn decided(&self) -> u64 {
        self.outbox.decided
    }

    /// Response bytes received in order on the present connection.
    pub fn received(&self) -> u64 {
        self.connection.as_ref().map_or(0, |c| c.receiver().in_order())
    }

    /// Whether everything forwarded was acknowledged by the target.
    pub fn is_drained(&self) -> bool {
        self.outbox.staged.is_empty() && self.connection.as_ref().is_none_or(|c| c.sender().is_drained())
    }

    /// Requests sent that no response byte came for.
    pub fn unanswered(&self) -> u64 {
        self.outbox.unanswered()
    }

    /// Smoothed round trip to the target.
    pub fn round_trip(&self) -> Option<Duration> {
        self.connection.as_ref().and_then(|c| c.sender().rtt().smoothed())
    }

    /// A request begins at `offset` of the captured stream; the one before ends there.
    pub fn begin_request(&mut self, offset: u64) {
        self.counters.requests_captured += 1;
        self.counters.requests_waiting += 1;
        self.outbox.entries.push_back(Entry {
            start: offset,
            placed: None,
            sent: false,
            void: None,
            done: false,
            left_out: false,
        });
        self.outbox.open += 1;
    }

    /// Whether the request that the next pending byte belongs to was given up.
    pub fn next_is_given_up(&self) -> bool {
        let position = self.outbox.decided;
        let index = self.outbox.entry_after(position);
        index == 0 || self.outbox.entries[index - 1].void.is_some()
    }

    /// Whether the request that the last captured byte belongs to was given up.
    pub fn last_is_given_up(&self) -> bool {
        self.outbox.entries.back().is_none_or(|e| e.void.is_some())
    }

    /// Sends the next `len` pending bytes.
    pub fn forward(&mut self, len: usize, boundary: Boundary) {
        self.decide(len, Some(boundary));
    }

    /// Leaves the next `len` pending bytes out.
    pub fn drop_bytes(&mut self, len: usize) {
        self.decide(len, None);
    }

    fn decide(&mut self, len: usize, forward: Option<Boundary>) {
        let mut left = len.min(self.outbox.pending.len());
        while left > 0 {
            let position = self.outbox.decided;
            let index = self.outbox.entry_after(position);
            let entry_end = self.outbox.entries.get(index).map_or(u64::MAX, |next| next.start);
            let piece = (left as u64).min(entry_end - position) as usize;
            let void = index.checked_sub(1).map(|i| self.outbox.entries[i].void);
            match (forward, void) {
                (Some(boundary), Some(None)) => {
                    let boundary = if piece == left { boundary } else { Boundary::Pushed };
                    self.place(index - 1, Source::Pending(piece), boundary);
                }
                (_, Some(Some(reason))) => self.uncount(index - 1, reason),
                _ => {}
            }
            self.outbox.pending.drain(..piece);
            self.outbox.decided += piece as u64;
            left -= piece;
        }
        if self.outbox.pending.is_empty() && self.outbox.pending.capacity() > KEPT_CAPACITY {
            self.outbox.pending = VecDeque::new();
        }
    }

    /// Sends `bytes` that the protocol has made as part of the request that begins at `start`, or as part of none; what belongs
    /// to none is gone with the connection.
    pub(super) fn send(&mut self, start: Option<u64>, bytes: &[u8], boundary: Boundary) {
        if bytes.is_empty() {
            return;
        }
        if let Some(start) = start {
            let Some(index) = self.index_of(start) else { return };
            match self.outbox.entries[index].void {
                None => self.place(index, Source::Own(bytes), boundary),
                Some(reason) => self.uncount(index, reason),
            }
            return;
        }
        let outbox = &mut *self.outbox;
        let goes = outbox.gate == Gate::Open && outbox.staged.is_empty();
        match self.connection.as_deref_mut().filter(|c| goes && c.accepts_data()) {
            Some(connection) => connection.push(bytes, boundary),
            None => {
                outbox.staged.extend(bytes);
                if boundary == Boundary::Pushed {
                    outbox.staged_boundaries.push_back(STAGED_BASE + outbox.staged.len() as u64);
                }
            }
        }
    }

    /// Sends `bytes` at once that prepare a connection for requests. They are dropped where they are meant for one that is gone.
    pub(super) fn prepare(&mut self, bytes: &[u8], boundary: Boundary) {
        if let Some(connection) = self.connection.as_deref_mut().filter(|c| c.accepts_data()) {
            connection.push(bytes, boundary);
            self.outbox.prepared = connection.sender().end();
        }
    }

    /// The request that begins at `start` of the captured stream.
    fn index_of(&self, start: u64) -> Option<usize> {
        let after = self.outbox.entry_after(start);
        after.checked_sub(1).filter(|index| self.outbox.entries[*index].start == start)
    }

    /// Whether the request that begins at `start` was given up, or is long past.
    pub(super) fn is_given_up(&self, start: u64) -> bool {
        self.index_of(start).is_none_or(|index| self.outbox.entries[index].void.is_some())
    }

    /// Why the request that begins at `start` was given up, if it was.
    pub(super) fn given_up_reason(&self, start: u64) -> Option<EndReason> {
        self.index_of(start).and_then(|index| self.outbox.entries[index].void)
    }

    /// Why everything that waited was given up with the connection, if it was; asked once.
    pub(super) const fn take_hopeless(&mut self) -> Option<EndReason> {
        self.outbox.hopeless.take()
    }

    /// Whether the request that begins at `start` is still to be delivered.
    pub(super) fn is_open(&self, start: u64) -> bool {
        self.index_of(start).is_some_and(|index| self.outbox.entries[index].is_open())
    }

    /// No answer will come for the request that begins at `start`.
    pub(super) fn expect_no_answer(&mut self, start: u64) {
        let Some((placed, _)) = self.index_of(start).and_then(|index| self.outbox.entries[index].placed)
        else {
            return;
        };
        if let Some(at) = self.outbox.awaiting.iter().rposition(|awaiting| *awaiting == placed) {
            self.outbox.awaiting.remove(at);
        }
    }

    /// Whether requests may go to the connection.
    pub(super) const fn gate(&self) -> Gate {
        self.outbox.gate
    }

    /// Forgets that requests begin from `start` on, of which nothing was decided: they will begin again. Returns whether no other
    /// request begins there.
    pub(super) fn forget_undecided(&mut self, start: u64) -> bool {
        while self
            .outbox
            .entries
            .back()
            .is_some_and(|e| e.start >= start && e.placed.is_none() && e.is_open())
        {
            self.outbox.entries.pop_back();
            self.outbox.open -= 1;
            self.counters.requests_captured -= 1;
            self.counters.requests_waiting -= 1;
        }
        self.outbox.unsent_from = self.outbox.unsent_from.min(self.outbox.entries.len());
        self.outbox.entries.back().is_none_or(|e| e.start < start)
    }

    /// Gives up requests of which something was forwarded, as far as they are not acknowledged, and asks for a new connection.
    pub(super) fn break_connection(&mut self, reason: EndReason) {
        for index in 0..self.outbox.entries.len() {
            let entry = &self.outbox.entries[index];
            if entry.placed.is_some() && entry.is_open() {
                self.outbox.give_up(index, reason, self.counters);
            }
        }
        self.outbox.breaking = Some((0, reason));
    }

    /// Asks that what follows goes to a new connection.
    pub(super) const fn reconnect(&mut self) {
        self.outbox.reconnect = true;
    }

    /// Lets requests go to the connection, or not.
    pub(super) const fn set_gate(&mut self, gate: Gate) {
        self.outbox.gate = gate;
    }

    /// The protocol's inputs are to be asked for anew.
    pub(super) const fn note_inputs_changed(&mut self) {
        self.outbox.inputs_changed = true;
    }

    fn place(&mut self, index: usize, source: Source<'_>, boundary: Boundary) {
        let outbox = &mut *self.outbox;
        let (len, pieces) = match source {
            Source::Pending(len) => {
                let (a, b) = outbox.pending.as_slices();
                (len, slices_between(a, b, 0, len))
            }
            Source::Own(bytes) => (bytes.len(), [&[][..], bytes]),
        };
        let staged_before = !outbox.staged.is_empty() || outbox.gate == Gate::Closed;
        // The rest of a request that began on this connection belongs nowhere else, even when the target has closed it.
        let continues = outbox.entries[index].placed.is_some_and(|(start, _)| start < STAGED_BASE);
        let takes = |c: &&mut Connection| c.accepts_data() || (continues && !c.sender().is_closing());
        let end = match self.connection.as_deref_mut().filter(|c| !staged_before && takes(c)) {
            Some(connection) => {
                connection.push(pieces[0], Boundary::Open);
                connection.push(pieces[1], boundary);
                connection.sender().end()
            }
            None if continues => {
                // Half of the request is on a connection that takes no more, so the rest belongs nowhere.
                outbox.give_up(index, EndReason::TargetClosed, self.counters);
                self.uncount(index, EndReason::TargetClosed);
                return;
            }
            None => {
                outbox.staged.extend(pieces[0]);
                outbox.staged.extend(pieces[1]);
                let end = STAGED_BASE + outbox.staged.len() as u64;
                if boundary == Boundary::Pushed {
                    outbox.staged_boundaries.push_back(end);
                }
                end
            }
        };
        let entry = &mut outbox.entries[index];
        outbox.unsent_from = outbox.unsent_from.min(index);
        if std::mem::replace(&mut entry.sent, false) {
            // More of a request that seemed complete.
            self.counters.requests_sent -= 1;
        }
        let (done, left_out) = (std::mem::take(&mut entry.done), std::mem::take(&mut entry.left_out));
        if done || left_out {
            if done {
                self.counters.requests_acknowledged -= 1;
            } else {
                self.counters.requests_given_up.take_back(EndReason::Filtered, 1);
            }
            self.counters.requests_waiting += 1;
            outbox.open += 1;
        }
        match &mut entry.placed {
            Some((_, placed_end)) => *placed_end = end,
            None => {
                outbox.awaiting.push_back(end - len as u64);
                entry.placed = Some((end - len as u64, end));
            }
        }
    }

    /// Response bytes came: the oldest request without an answer got one, unless the target has acknowledged nothing of it. What
    /// came then is the rest of an earlier answer, since a server acknowledges what it has read.
    pub fn answered(&mut self) {
        let acknowledged = self.connection.as_ref().map_or(0, |c| c.sender().acknowledged());
        if self.outbox.awaiting.pop_front_if(|start| *start < acknowledged).is_some() {
            self.counters.requests_answered += 1;
        }
    }

    /// More of a request that had counted as acknowledged is dropped: it counts as given up instead.
    fn uncount(&mut self, index: usize, reason: EndReason) {
        if std::mem::replace(&mut self.outbox.entries[index].done, false) {
            self.counters.requests_acknowledged -= 1;
            self.counters.requests_given_up.add(reason, 1);
        }
    }

    /// Whether the request that the last captured byte belongs to was acknowledged, and every request was answered: then it
    /// may well be complete.
    pub fn is_last_request_answered(&self) -> bool {
        self.outbox.awaiting.is_empty() && self.outbox.entries.back().is_none_or(|e| e.done)
    }

    /// Whether no request was captured yet, or all are forgotten.
    pub fn has_no_request(&self) -> bool {
        self.outbox.entries.is_empty()
    }

    /// Gives up the request that the last captured byte belongs to, for `reason`; what follows of it is dropped. When part of
    /// it was forwarded already, the connection is broken, because half a request is on it.
    pub fn give_up_last_request(&mut self, reason: EndReason) {
        let Some(last) = self.outbox.entries.len().checked_sub(1) else { return };
        let entry = &self.outbox.entries[last];
        if entry.void.is_some() {
            return;
        }
        if let (None, Some((start, _))) = (self.outbox.breaking, entry.placed) {
            self.outbox.breaking = Some((start, reason));
        }
        self.outbox.give_up(last, reason, self.counters);
        if std::mem::take(&mut self.outbox.entries[last].left_out) {
            self.counters.requests_given_up.take_back(EndReason::Filtered, 1);
            self.counters.requests_given_up.add(reason, 1);
        }
        self.uncount(last, reason);
    }

    /// Ends the session's connection once everything forwarded is delivered: with a FIN, or at once with a reset.
    pub const fn close(&mut self, end: ClientEnd) {
        self.outbox.closing = Some(end);
    }

    /// Gives the whole session up.
    pub const fn give_up(&mut self, reason: EndReason) {
        self.outbox.given_up = Some(reason);
    }

    /// Asks for [`super::Protocol::on_timer`] at `at`; a later call replaces an earlier one.
    pub const fn set_timer(&mut self, at: Option<Instant>) {
        self.outbox.timer = at;
    }
}

/// Where bytes come from that are sent.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// So many pending ones.
    Pending(usize),
    /// The protocol.
    Own(&'a [u8]),
}
