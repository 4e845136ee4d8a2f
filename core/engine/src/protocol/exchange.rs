//! What a protocol may do to its session.

use super::ClientEnd;
use crate::counters::{Counters, EndReason};
use crate::tcp::Connection;
use crate::tcp::sender::Boundary;
use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// One captured request on its way to the target.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Stream offset, in the captured stream, of its first byte.
    start: u64,
    /// Where its bytes lie in the connection's stream, once some were forwarded.
    placed: Option<(u64, u64)>,
    sent: bool,
    /// Given up: whatever is still captured of it is dropped.
    void: bool,
    /// Counted as acknowledged; more bytes may still follow while it is the last one.
    done: bool,
}

/// The request bytes of a session between capture and acknowledgement, and the requests that they belong to.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Captured and not decided about.
    pending: VecDeque<u8>,
    /// Stream offset, in the captured stream, of the first pending byte.
    decided: u64,
    /// Forwarded while there was no connection to take it.
    staged: VecDeque<u8>,
    staged_boundaries: VecDeque<u64>,
    entries: VecDeque<Entry>,
    unanswered: u64,
    timer: Option<Instant>,
    closing: Option<ClientEnd>,
    breaking: bool,
    given_up: Option<EndReason>,
}

impl Outbox {
    /// An outbox with room for `bytes` captured bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { pending: VecDeque::with_capacity(bytes), ..Self::default() }
    }

    /// Appends captured bytes.
    pub fn capture(&mut self, bytes: &[u8]) {
        self.pending.extend(bytes);
    }

    /// Bytes that wait for a decision.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Bytes held, in memory.
    pub fn held_bytes(&self) -> usize {
        self.pending.capacity() + self.staged.capacity() + self.entries.capacity() * size_of::<Entry>()
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
    pub const fn take_breaking(&mut self) -> bool {
        std::mem::replace(&mut self.breaking, false)
    }

    /// Takes the protocol's decision to give the session up.
    pub const fn take_given_up(&mut self) -> Option<EndReason> {
        self.given_up.take()
    }

    /// Requests sent that no response byte came for.
    pub const fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// Requests captured and neither acknowledged nor given up.
    pub fn waiting(&self) -> u64 {
        self.entries.iter().filter(|e| !e.void && !e.done).count() as u64
    }

    /// Whether something is still to be delivered.
    pub fn has_work(&self) -> bool {
        self.entries.iter().any(|e| !e.void && !e.done)
    }

    /// Moves staged bytes to a connection that takes them.
    pub fn unstage(&mut self, connection: &mut Connection) {
        if self.staged.is_empty() {
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
        let sent = connection.sender().sent();
        let acknowledged = connection.sender().acknowledged();
        let count = self.entries.len();
        let decided = self.decided;
        let captured_end = decided + self.pending.len() as u64;
        let mut pop = 0;
        for i in 0..count {
            let end = self.entries.get(i + 1).map_or(captured_end, |next| next.start);
            let entry = &mut self.entries[i];
            let last = i + 1 == count;
            let Some((_, placed_end)) = entry.placed else {
                if entry.void && !last && decided >= end && pop == i {
                    pop = i + 1;
                    continue;
                }
                break;
            };
            let complete = decided >= end && !entry.void;
            if complete && !entry.sent && sent >= placed_end {
                entry.sent = true;
                counters.requests_sent += 1;
            }
            if complete && !entry.done && acknowledged >= placed_end {
                entry.done = true;
                counters.requests_acknowledged += 1;
                counters.requests_waiting -= 1;
            }
            if (entry.done || (entry.void && decided >= end)) && !last && pop == i {
                pop = i + 1;
            }
        }
        self.entries.drain(..pop);
    }

    /// The connection is gone. Requests that can't have reached the target are put back to be sent on a new one; the rest is
    /// given up. Returns whether anything is left to be sent.
    ///
    /// A request can't have reached the target when none of its bytes was acknowledged and each was sent once at most: an
    /// acknowledgement would have come before, or with, the news that ended the connection.
    pub fn connection_lost(
        &mut self,
        connection: &mut Connection,
        reason: EndReason,
        counters: &mut Counters,
    ) {
        self.settle(connection, counters);
        let sender = connection.sender();
        let acknowledged = sender.acknowledged();
        let established = connection.established_at().is_some();
        let is_safe =
            |start: u64| start >= acknowledged && (!established || !sender.was_sent_again_from(start));
        let keep_from = self
            .entries
            .iter()
            .position(|e| !e.void && !e.done && e.placed.is_none_or(|(start, _)| is_safe(start)));
        let first_kept = keep_from.unwrap_or(self.entries.len());
        let mut unsent_from = None;
        for (i, entry) in self.entries.iter_mut().enumerate() {
            if i < first_kept {
                if !entry.done && !entry.void {
                    entry.void = true;
                    counters.requests_waiting -= 1;
                    counters.requests_given_up.add(reason, 1);
                }
                // What more is captured of a request that began on the lost connection has nowhere to go.
                if entry.done {
                    entry.void = true;
                }
            } else if let Some((start, _)) = entry.placed {
                unsent_from.get_or_insert(start);
            }
        }
        self.unanswered = 0;
        if let Some(from) = unsent_from {
            self.restage(connection, from, counters);
        }
    }

    /// Puts what was pushed to `connection` from stream offset `from` on before everything staged.
    fn restage(&mut self, connection: &mut Connection, from: u64, counters: &mut Counters) {
        let (mut bytes, boundaries) = connection.take_unacknowledged(from);
        let added = bytes.len() as u64;
        for entry in &mut self.entries {
            let Some((start, end)) = &mut entry.placed else { continue };
            if *start >= STAGED_BASE {
                *start += added;
                *end += added;
            } else if *start >= from {
                *start = *start - from + STAGED_BASE;
                *end = *end - from + STAGED_BASE;
                self.unanswered += 1;
                if std::mem::replace(&mut entry.sent, false) {
                    counters.requests_sent -= 1;
                }
            }
        }
        bytes.append(&mut self.staged);
        self.staged = bytes;
        for boundary in &mut self.staged_boundaries {
            *boundary += added;
        }
        for boundary in boundaries.into_iter().rev() {
            self.staged_boundaries.push_front(boundary - from + STAGED_BASE);
        }
    }

    /// Gives up everything that is not acknowledged.
    pub fn give_up_all(&mut self, reason: EndReason, counters: &mut Counters) {
        for entry in &mut self.entries {
            if !entry.done && !entry.void {
                counters.requests_waiting -= 1;
                counters.requests_given_up.add(reason, 1);
            }
            entry.void = true;
        }
        let keep = self.entries.pop_back();
        self.entries.clear();
        self.entries.extend(keep);
        self.staged = VecDeque::new();
        self.staged_boundaries.clear();
        self.unanswered = 0;
    }

    /// Forgets pending bytes too: the session is over.
    pub fn discard(&mut self) {
        self.pending = VecDeque::new();
        self.staged = VecDeque::new();
        self.entries = VecDeque::new();
        self.timer = None;
    }
}

/// Staged bytes have offsets from here on, so that they can't be mistaken for bytes of a connection.
const STAGED_BASE: u64 = 1 << 62;

fn kind_of(piece: &[u8], kind: Boundary) -> Boundary {
    if piece.is_empty() { Boundary::Open } else { kind }
}

fn slices_between<'a>(a: &'a [u8], b: &'a [u8], start: usize, end: usize) -> [&'a [u8]; 2] {
    let first = &a[start.min(a.len())..end.min(a.len())];
    let second = &b[start.saturating_sub(a.len())..end.saturating_sub(a.len())];
    // Two pieces of one write: only the second may end it.
    if second.is_empty() { [&[], first] } else { [first, second] }
}

/// What a protocol sees of its session, and does to it.
#[derive(Debug)]
pub struct Exchange<'a> {
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) connection: Option<&'a mut Connection>,
    pub(crate) counters: &'a mut Counters,
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

    /// Response bytes received in order on the present connection.
    pub fn received(&self) -> u64 {
        self.connection.as_ref().map_or(0, |c| c.receiver().in_order())
    }

    /// Whether everything forwarded was acknowledged by the target.
    pub fn is_drained(&self) -> bool {
        self.outbox.staged.is_empty() && self.connection.as_ref().is_none_or(|c| c.sender().is_drained())
    }

    /// Requests sent that no response byte came for.
    pub const fn unanswered(&self) -> u64 {
        self.outbox.unanswered
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
            void: false,
            done: false,
        });
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
            let index = self.outbox.entries.partition_point(|e| e.start <= position);
            let entry_end = self.outbox.entries.get(index).map_or(u64::MAX, |next| next.start);
            let piece = (left as u64).min(entry_end - position) as usize;
            let void = index == 0 || self.outbox.entries[index - 1].void;
            match forward {
                Some(boundary) if !void => {
                    let boundary = if piece == left { boundary } else { Boundary::Pushed };
                    self.place(index - 1, piece, boundary);
                }
                _ => {}
            }
            self.outbox.pending.drain(..piece);
            self.outbox.decided += piece as u64;
            left -= piece;
        }
        if self.outbox.pending.is_empty() && self.outbox.pending.capacity() > 4096 {
            self.outbox.pending = VecDeque::new();
        }
    }

    fn place(&mut self, index: usize, len: usize, boundary: Boundary) {
        let outbox = &mut *self.outbox;
        let (a, b) = outbox.pending.as_slices();
        let pieces = slices_between(a, b, 0, len);
        let staged_before = !outbox.staged.is_empty();
        let end = match self.connection.as_deref_mut().filter(|c| !staged_before && c.accepts_data()) {
            Some(connection) => {
                connection.push(pieces[0], Boundary::Open);
                connection.push(pieces[1], boundary);
                connection.sender().end()
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
        if std::mem::replace(&mut entry.sent, false) {
            // More of a request that seemed complete.
            self.counters.requests_sent -= 1;
        }
        if std::mem::replace(&mut entry.done, false) {
            self.counters.requests_acknowledged -= 1;
            self.counters.requests_waiting += 1;
            entry.placed = Some((end - len as u64, end));
            return;
        }
        match &mut entry.placed {
            Some((_, placed_end)) => *placed_end = end,
            None => {
                outbox.unanswered += 1;
                entry.placed = Some((end - len as u64, end));
            }
        }
    }

    /// The oldest request without an answer got one.
    pub const fn answered(&mut self) {
        if self.outbox.unanswered > 0 {
            self.outbox.unanswered -= 1;
            self.counters.requests_answered += 1;
        }
    }

    /// Gives up the request that the last captured byte belongs to, for `reason`; what follows of it is dropped. When part of
    /// it was forwarded already, the connection is broken, because half a request is on it.
    pub fn give_up_last_request(&mut self, reason: EndReason) {
        let Some(entry) = self.outbox.entries.back_mut() else { return };
        if entry.void {
            return;
        }
        if entry.done {
            if self.outbox.unanswered == 0 {
                // Complete as far as anybody can tell.
                return;
            }
        } else {
            self.counters.requests_waiting -= 1;
            self.counters.requests_given_up.add(reason, 1);
        }
        entry.void = true;
        if entry.placed.is_some() {
            self.outbox.breaking = true;
        }
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
