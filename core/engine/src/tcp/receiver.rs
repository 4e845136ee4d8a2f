//! What has come in, and how it is acknowledged.
//!
//! Works from headers alone: it knows which bytes of the response have arrived, not what they are. Positions are 64-bit
//! stream offsets; 0 is the first byte after the target's SYN.

use crate::time::{Duration, Instant};
use smallvec::SmallVec;

/// How long an acknowledgement may wait for a segment to ride on: well under the 500 ms of RFC 9293, section 3.8.6.3, and
/// what kernels use.
pub const ACK_DELAY: Duration = Duration::from_millis(40);
/// Out-of-order ranges remembered; what lies beyond is forgotten and comes again.
const MAX_RANGES: usize = 32;

/// When an acknowledgement has to go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckState {
    /// Nothing to acknowledge.
    None,
    /// By this time, or with the next segment.
    Delayed(Instant),
    /// At once.
    Now,
}

/// What a segment brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Received {
    /// Bytes newly in order.
    pub bytes: u64,
    /// Whether the target's FIN is now in order.
    pub fin: bool,
}

/// The receiving half of a connection.
#[derive(Debug)]
pub struct Receiver {
    next: u64,
    early: SmallVec<[(u64, u64); 2]>,
    fin_at: Option<u64>,
    fin_reached: bool,
    ack: AckState,
    acknowledged: u64,
    segment: u64,
    last_early: Option<u64>,
}

impl Receiver {
    /// A receiver that acknowledges every second segment of `segment` bytes at once (RFC 5681, section 4.2).
    pub fn new(segment: u64) -> Self {
        Self {
            next: 0,
            early: SmallVec::new(),
            fin_at: None,
            fin_reached: false,
            ack: AckState::None,
            acknowledged: 0,
            segment: segment.max(1),
            last_early: None,
        }
    }

    /// Next byte expected, as a stream offset; the target's FIN counts as one.
    pub fn next(&self) -> u64 {
        self.next + u64::from(self.fin_reached)
    }

    /// Response bytes received in order.
    pub const fn in_order(&self) -> u64 {
        self.next
    }

    /// Whether the target's FIN was reached.
    pub const fn is_finished(&self) -> bool {
        self.fin_reached
    }

    /// When an acknowledgement has to go out.
    pub const fn ack_state(&self) -> AckState {
        self.ack
    }

    /// Asks for an acknowledgement at once.
    pub const fn acknowledge_now(&mut self) {
        self.ack = AckState::Now;
    }

    /// An acknowledgement of everything in order was sent.
    pub fn acknowledgement_sent(&mut self) {
        self.ack = AckState::None;
        self.acknowledged = self.next();
    }

    /// Ranges received out of order, the newest first (RFC 2018, section 4).
    pub fn early_ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let newest = self
            .early
            .iter()
            .position(|(a, b)| self.last_early.is_some_and(|offset| *a <= offset && offset < *b));
        let first = newest.map(|i| self.early[i]);
        let rest = self.early.iter().enumerate().filter(move |(i, _)| Some(*i) != newest).map(|(_, r)| *r);
        first.into_iter().chain(rest)
    }

    /// Takes a segment with `len` payload bytes from stream offset `offset` on, and perhaps a FIN behind them, that fits
    /// into a window of `window` bytes.
    pub fn on_segment(&mut self, offset: i64, len: u64, fin: Fin, window: u64, now: Instant) -> Received {
        let end = offset + len as i64;
        let occupies = len > 0 || fin == Fin::Yes;
        if !occupies {
            // Below the window without payload: a keep-alive probe or an old acknowledgement (RFC 9293, section 3.8.4).
            if offset < self.next() as i64 {
                self.ack = AckState::Now;
            }
            return Received::default();
        }
        if end + i64::from(fin == Fin::Yes) <= self.next() as i64 || offset > (self.next + window) as i64 {
            // A repeat, or beyond the window: say what is expected (RFC 9293, section 3.10.7.4).
            self.ack = AckState::Now;
            return Received::default();
        }
        if fin == Fin::Yes {
            self.fin_at = Some(end as u64);
        }
        let start = offset.max(self.next as i64) as u64;
        let end = (end.max(0) as u64).min(self.next + window);
        let in_order_before = self.next;
        let had_gap = !self.early.is_empty();
        if start > self.next {
            self.keep_early(start, end);
            self.ack = AckState::Now;
        } else {
            self.next = self.next.max(end);
            self.take_early();
        }
        if self.fin_at == Some(self.next) && !self.fin_reached {
            self.fin_reached = true;
            self.ack = AckState::Now;
        }
        let bytes = self.next - in_order_before;
        if bytes > 0 {
            self.schedule_ack(now, had_gap);
        }
        Received { bytes, fin: self.fin_reached }
    }

    fn schedule_ack(&mut self, now: Instant, had_gap: bool) {
        let enough = self.next - self.acknowledged >= 2 * self.segment;
        if enough || had_gap {
            self.ack = AckState::Now;
        } else if self.ack == AckState::None {
            self.ack = AckState::Delayed(now + ACK_DELAY);
        }
    }

    fn keep_early(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        self.last_early = Some(start);
        self.early.retain(|(a, b)| {
            let apart = *b < start || *a > end;
            if !apart {
                start = start.min(*a);
                end = end.max(*b);
            }
            apart
        });
        if self.early.len() >= MAX_RANGES {
            return;
        }
        let at = self.early.partition_point(|(a, _)| *a < start);
        self.early.insert(at, (start, end));
    }

    fn take_early(&mut self) {
        while let Some(&(start, end)) = self.early.first() {
            if start > self.next {
                break;
            }
            self.next = self.next.max(end);
            self.early.remove(0);
        }
    }
}

/// Whether a segment carries FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fin {
    /// It does.
    Yes,
    /// It does not.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 65_535;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn small_segments_wait_large_ones_do_not() {
        let mut r = Receiver::new(1000);
        assert_eq!(r.on_segment(0, 100, Fin::No, WINDOW, at(0)).bytes, 100);
        assert_eq!(r.ack_state(), AckState::Delayed(at(0) + ACK_DELAY));
        r.on_segment(100, 1900, Fin::No, WINDOW, at(1));
        assert_eq!(r.ack_state(), AckState::Now);
        r.acknowledgement_sent();
        assert_eq!((r.ack_state(), r.next()), (AckState::None, 2000));
    }

    #[test]
    fn gaps_repeats_and_probes_are_answered_at_once() {
        let mut r = Receiver::new(1000);
        assert_eq!(r.on_segment(100, 50, Fin::No, WINDOW, at(0)).bytes, 0);
        assert_eq!(r.on_segment(300, 50, Fin::Yes, WINDOW, at(0)).bytes, 0);
        assert_eq!(r.ack_state(), AckState::Now);
        assert_eq!(r.early_ranges().collect::<Vec<_>>(), [(300, 350), (100, 150)]);
        assert_eq!(r.on_segment(0, 100, Fin::No, WINDOW, at(0)).bytes, 150);
        assert_eq!(r.on_segment(150, 150, Fin::No, WINDOW, at(0)), Received { bytes: 200, fin: true });
        assert_eq!(r.next(), 351);
        r.acknowledgement_sent();
        r.on_segment(300, 50, Fin::Yes, WINDOW, at(1));
        assert_eq!(r.ack_state(), AckState::Now, "a repeated FIN");
        r.acknowledgement_sent();
        r.on_segment(350, 0, Fin::No, WINDOW, at(1));
        assert_eq!(r.ack_state(), AckState::Now, "a keep-alive probe");
    }

    #[test]
    fn what_lies_beyond_the_window_is_not_taken() {
        let mut r = Receiver::new(1000);
        assert_eq!(r.on_segment(70_000, 10, Fin::No, WINDOW, at(0)), Received::default());
        assert_eq!(r.early_ranges().count(), 0);
        assert_eq!(r.on_segment(0, 100_000, Fin::No, WINDOW, at(0)).bytes, WINDOW);
    }
}
