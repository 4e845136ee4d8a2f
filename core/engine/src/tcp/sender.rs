//! What goes out, and when it goes again.
//!
//! Owns the bytes from the first unacknowledged one on, the target's window, and the retransmission and persist timers.
//! Positions are 64-bit stream offsets (0 is the first byte after the SYN); a FIN takes one offset after the last byte.

mod recovery;
mod timers;

use super::congestion::Congestion;
use super::rtt::RttEstimator;
use crate::time::Instant;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// An empty queue keeps memory up to this many bytes, so that large requests do not make it grow anew each time.
const KEPT_CAPACITY: usize = 32 << 10;
/// Duplicate acknowledgements that mean a loss (RFC 5681, section 3.2).
const DUPLICATE_THRESHOLD: u32 = 3;

/// Whether bytes handed to the sender end one of the client's writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// The client pushed here: a segment ends here, and carries PSH.
    Pushed,
    /// More of the same write follows, as far as the capture tells.
    Open,
}

/// A segment to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Stream offset of its first byte.
    pub offset: u64,
    /// Payload bytes.
    pub len: usize,
    /// Whether it carries PSH.
    pub push: bool,
    /// Whether it carries FIN.
    pub fin: bool,
    /// Whether any of it was sent before.
    pub again: bool,
    /// A window probe: no payload, one sequence number before what the target has acknowledged.
    pub probe: bool,
}

/// What an acknowledgement brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Acknowledged {
    /// Bytes newly acknowledged, FIN not counted.
    pub bytes: u64,
    /// Whether our FIN was acknowledged by it.
    pub fin: bool,
    /// It acknowledges what was never sent.
    pub beyond: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Off,
    Retransmit(Instant),
    Persist(Instant),
}

#[derive(Clone, Copy, Debug)]
struct Recovery {
    until: u64,
    next_hole: u64,
    allowance: u32,
}

/// The sending half of a connection.
#[derive(Debug)]
pub struct Sender {
    queue: VecDeque<u8>,
    una: u64,
    next: u64,
    highest_sent: u64,
    boundaries: VecDeque<u64>,
    fin_queued: bool,
    fin_acknowledged: bool,
    window: u64,
    segment: u64,
    congestion: Congestion,
    rtt: RttEstimator,
    sacked: Vec<(u64, u64)>,
    recovery: Option<Recovery>,
    duplicates: u32,
    timer: Timer,
    probe_due: bool,
    persist_backoff: u32,
    waiting_since: Option<Instant>,
    /// Everything below this offset was sent more than once at some time.
    sent_again_below: u64,
}

impl Sender {
    /// A sender of segments of at most `segment` payload bytes to a target whose window is `window` bytes.
    pub fn new(segment: u64, window: u64, rtt: RttEstimator) -> Self {
        let segment = segment.max(1);
        Self {
            queue: VecDeque::new(),
            una: 0,
            next: 0,
            highest_sent: 0,
            boundaries: VecDeque::new(),
            fin_queued: false,
            fin_acknowledged: false,
            window,
            segment,
            congestion: Congestion::new(segment),
            rtt,
            sacked: Vec::new(),
            recovery: None,
            duplicates: 0,
            timer: Timer::Off,
            probe_due: false,
            persist_backoff: 0,
            waiting_since: None,
            sent_again_below: 0,
        }
    }

    /// Settles what the handshake settled: segment size, first window, and the round trip measured so far.
    pub fn establish(&mut self, segment: u64, window: u64, rtt: RttEstimator) {
        self.segment = segment.max(1);
        self.congestion = Congestion::new(self.segment);
        self.window = window;
        self.rtt = rtt;
    }

    /// Appends bytes to the stream.
    pub fn push(&mut self, bytes: &[u8], boundary: Boundary) {
        debug_assert!(!self.fin_queued, "nothing follows a FIN");
        self.queue.extend(bytes);
        if boundary == Boundary::Pushed {
            let end = self.end();
            if self.boundaries.back() != Some(&end) {
                self.boundaries.push_back(end);
            }
        }
    }

    /// Queues the FIN behind everything pushed so far.
    pub const fn close(&mut self) {
        self.fin_queued = true;
    }

    /// Stream offset after the last byte pushed.
    pub fn end(&self) -> u64 {
        self.una + self.queue.len() as u64
    }

    /// First offset not acknowledged.
    pub const fn acknowledged(&self) -> u64 {
        self.una
    }

    /// First offset never sent.
    pub const fn sent(&self) -> u64 {
        self.highest_sent
    }

    /// The target's window, in bytes.
    pub const fn window(&self) -> u64 {
        self.window
    }

    /// Next offset to be sent: the sequence number of a segment without payload.
    pub const fn next_offset(&self) -> u64 {
        self.next
    }

    /// Whether any byte at or after `offset` was sent more than once.
    pub const fn was_sent_again_from(&self, offset: u64) -> bool {
        offset < self.sent_again_below
    }

    /// Whether a FIN was queued.
    pub const fn is_closing(&self) -> bool {
        self.fin_queued
    }

    /// Whether the FIN was acknowledged.
    pub const fn is_closed(&self) -> bool {
        self.fin_acknowledged
    }

    /// Whether everything pushed was acknowledged, the FIN not looked at.
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes held.
    pub fn held_bytes(&self) -> usize {
        self.queue.capacity()
    }

    /// Since when the target owes an acknowledgement, or a window.
    pub const fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    /// The round-trip estimate.
    pub const fn rtt(&self) -> &RttEstimator {
        &self.rtt
    }

    /// The largest payload of a segment.
    pub const fn segment_size(&self) -> u64 {
        self.segment
    }

    /// Lowers the segment size (the path's MTU is smaller than thought) and sends what is in flight anew.
    pub fn shrink_segment(&mut self, segment: u64) {
        self.segment = segment.clamp(1, self.segment);
        self.congestion.set_segment(self.segment);
        self.next = self.una;
        self.recovery = None;
    }

    /// Takes everything from `offset` on out of the queue, with the boundaries in it. For a connection that is over.
    pub fn take_from(&mut self, offset: u64) -> (VecDeque<u8>, Vec<u64>) {
        let at = offset.saturating_sub(self.una).min(self.queue.len() as u64) as usize;
        let bytes = self.queue.split_off(at);
        let boundaries = self.boundaries.iter().copied().filter(|b| *b > offset).collect();
        self.boundaries.retain(|b| *b <= offset);
        (bytes, boundaries)
    }

    /// Gives the memory of unacknowledged bytes back: the connection was reset. Offsets stay as they are; nothing is sent
    /// from here any more.
    pub fn forget(&mut self) {
        self.queue = VecDeque::new();
        self.boundaries = VecDeque::new();
        self.sacked = Vec::new();
        self.timer = Timer::Off;
    }

    /// The bytes of a plan, in two pieces because the queue is a ring.
    pub fn payload(&self, plan: &Plan) -> [&[u8]; 2] {
        let start = (plan.offset - self.una) as usize;
        let (a, b) = self.queue.as_slices();
        let end = start + plan.len;
        if end <= a.len() {
            [&a[start..end], &[]]
        } else if start >= a.len() {
            [&b[start - a.len()..end - a.len()], &[]]
        } else {
            [&a[start..], &b[..end - a.len()]]
        }
    }

    fn in_flight(&self) -> u64 {
        self.next - self.una
    }

    fn sacked_bytes(&self) -> u64 {
        self.sacked.iter().map(|(a, b)| b - a).sum()
    }

    /// The offset after the last thing there is to send, FIN included.
    fn limit(&self) -> u64 {
        self.end() + u64::from(self.fin_queued)
    }

    /// Takes an acknowledgement of everything before `offset`, with the window and the SACK blocks (as offsets) that came
    /// with it. `pure` tells whether the segment carried neither data nor FIN, so that it may count as a duplicate.
    pub fn on_acknowledgement(
        &mut self,
        offset: u64,
        window: u64,
        sack: &SmallVec<[(u64, u64); 4]>,
        pure: Purity,
        now: Instant,
    ) -> Acknowledged {
        let limit = self.highest_sent;
        if offset > limit {
            return Acknowledged { beyond: true, ..Acknowledged::default() };
        }
        let window_changed = window != self.window;
        if offset >= self.una {
            self.window = window;
            if window > 0 {
                self.persist_backoff = 0;
            }
        }
        let news_in_sack = self.note_sacked(sack);
        let outcome = if offset > self.una {
            self.advance(offset, now)
        } else {
            if offset == self.una && self.in_flight() > 0 {
                let duplicate = pure == Purity::Pure && (!window_changed || news_in_sack);
                self.on_duplicate(duplicate);
            }
            Acknowledged::default()
        };
        if window_changed || outcome != Acknowledged::default() {
            self.settle_timer(now);
        }
        outcome
    }

    fn advance(&mut self, offset: u64, now: Instant) -> Acknowledged {
        let in_flight_before = self.in_flight();
        let fin = self.fin_queued && offset == self.limit();
        let bytes = offset - self.una - u64::from(fin);
        self.queue.drain(..bytes as usize);
        if self.queue.is_empty() && self.queue.capacity() > KEPT_CAPACITY {
            self.queue = VecDeque::new();
        }
        self.una += bytes;
        if fin {
            self.fin_acknowledged = true;
            // The FIN's own offset stays outside of the queue's count.
            self.next = self.next.max(offset);
        }
        self.next = self.next.max(self.una);
        while self.boundaries.front().is_some_and(|b| *b <= self.una) {
            self.boundaries.pop_front();
        }
        let una = self.una;
        self.sacked.retain_mut(|(start, end)| {
            *start = (*start).max(una);
            *start < *end
        });
        self.rtt.acknowledged(offset, now);
        self.duplicates = 0;
        match &mut self.recovery {
            Some(recovery) if offset >= recovery.until => self.recovery = None,
            Some(recovery) => {
                // A partial acknowledgement: the next hole starts here (RFC 6582, section 3.2).
                recovery.next_hole = recovery.next_hole.max(una);
                recovery.allowance += 1;
                if self.sacked.is_empty() {
                    recovery.next_hole = una;
                }
            }
            None => self.congestion.acknowledged(bytes, in_flight_before),
        }
        self.waiting_since = if self.una < self.limit() && !self.fin_acknowledged { Some(now) } else { None };
        self.timer = Timer::Off;
        Acknowledged { bytes, fin, beyond: false }
    }

    /// The next segment that may be sent now; it counts as sent.
    pub fn poll(&mut self, now: Instant) -> Option<Plan> {
        if self.probe_due {
            self.probe_due = false;
            return Some(Plan {
                offset: self.una,
                len: 0,
                push: false,
                fin: false,
                again: false,
                probe: true,
            });
        }
        if let Some(plan) = self.poll_hole(now) {
            return Some(plan);
        }
        let plan = self.plan_next()?;
        let again = plan.offset < self.highest_sent;
        self.commit(&plan, now);
        Some(Plan { again, ..plan })
    }

    fn plan_next(&self) -> Option<Plan> {
        if self.next >= self.limit() || self.fin_acknowledged {
            return None;
        }
        let window_end = self.una + self.window;
        let pipe = self.in_flight().saturating_sub(self.sacked_bytes());
        let inflation = if self.recovery.is_some() && self.sacked.is_empty() {
            u64::from(self.duplicates) * self.segment
        } else {
            0
        };
        let room = (self.congestion.window() + inflation).saturating_sub(pipe);
        let plan = self.cut(self.next, self.limit())?;
        let wanted = plan.len as u64;
        if room == 0 || (wanted > room && pipe > 0) {
            return None;
        }
        // The FIN needs no window: it is sent even when the window is shut, as kernels do.
        let allowed = window_end.saturating_sub(self.next);
        if wanted <= allowed {
            return Some(plan);
        }
        // Silly window avoidance (RFC 9293, section 3.8.6.2.1): a part goes only when nothing is on its way.
        if allowed == 0 || self.in_flight() > 0 {
            return None;
        }
        Some(Plan { len: allowed as usize, push: false, fin: false, ..plan })
    }

    /// A segment from `start` that crosses no boundary, segment size or `limit`.
    fn cut(&self, start: u64, limit: u64) -> Option<Plan> {
        let data_end = self.end();
        let at = self.boundaries.partition_point(|b| *b <= start);
        let boundary = self.boundaries.get(at).copied().unwrap_or(data_end);
        let end = (start + self.segment).min(boundary).min(data_end).min(limit.max(start));
        let len = end.saturating_sub(start) as usize;
        let fin = self.fin_queued && end == data_end && limit > data_end;
        if len == 0 && !fin {
            return None;
        }
        let push = len > 0 && (end == boundary || end == data_end);
        Some(Plan { offset: start, len, push, fin, again: false, probe: false })
    }

    fn commit(&mut self, plan: &Plan, now: Instant) {
        let end = plan.offset + plan.len as u64 + u64::from(plan.fin);
        self.next = end;
        if end > self.highest_sent && plan.offset >= self.highest_sent {
            self.rtt.sent(end, now);
        } else {
            self.rtt.retransmitted();
            self.sent_again_below = self.sent_again_below.max(self.highest_sent.min(end));
        }
        self.highest_sent = self.highest_sent.max(end);
        self.waiting_since.get_or_insert(now);
        if !matches!(self.timer, Timer::Retransmit(_)) {
            self.timer = Timer::Retransmit(now + self.rtt.timeout());
        }
    }
}

/// Whether a segment carries nothing but an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purity {
    /// Neither data nor FIN.
    Pure,
    /// Data or FIN as well.
    Loaded,
}

/// What a timer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerOutcome {
    /// It was not due.
    None,
    /// Everything unacknowledged will go again.
    Retransmit,
    /// A closed window will be probed.
    Probe,
}

#[cfg(test)]
mod tests;
