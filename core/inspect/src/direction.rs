//! One direction of a connection: which of its bytes were captured.
//!
//! Owns the arithmetic of sequence numbers, the holes, and the counts of segments that came twice, late or cut. Leaves what a
//! connection is to [`crate::connection`], and never looks at what the bytes say.

use tcpcopy_engine::seq::SeqNumber;

/// Ranges behind a hole that one direction remembers. With more, the first hole is taken for a gap at once.
const MAX_EARLY: usize = 32;
/// Sequence and acknowledgement numbers farther ahead than this belong to no window that TCP allows (RFC 7323, section 2.3).
const MAX_AHEAD: i64 = 1 << 30;

/// What a segment with payload was to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It begins where the stream had got to: its bytes, in part or all, are new, and in order.
    InOrder,
    /// It brings new bytes, behind a hole.
    Early,
    /// It brings new bytes into a hole.
    Late,
    /// Everything in it was captured before.
    Repeated,
    /// A keep-alive or window probe: at most one byte, in front of what comes next.
    Probe,
    /// Its sequence number lies in no window.
    Implausible,
}

/// Holes of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gaps {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
}

/// What was captured of one direction.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    /// Sequence number of the stream's first byte, or of the first that was heard of.
    base: Option<SeqNumber>,
    /// Offset up to which every byte was captured.
    next: u64,
    /// Offset behind the last byte captured.
    highest: u64,
    /// Offset that the other side acknowledged.
    acknowledged: u64,
    /// Captured ranges beyond `next`, apart from each other, in order.
    early: Vec<(u64, u64)>,
    /// Holes that were given up because there were too many.
    given_up: Gaps,
    /// Offset of the FIN.
    fin_at: Option<u64>,
    /// The acknowledgement number of the last segment that brought new bytes.
    read_up_to: Option<SeqNumber>,
    /// Packets captured.
    pub(crate) packets: u64,
    /// Payload bytes on the wire, each once.
    pub(crate) bytes: u64,
    /// Times that this side began to send after it had read more of the other's bytes.
    pub(crate) turns: u64,
    /// Segments that brought nothing new.
    pub(crate) repeated: u64,
    /// Segments that filled a hole.
    pub(crate) late: u64,
    /// Keep-alive and window probes.
    pub(crate) probes: u64,
    /// Segments whose payload the capture cut.
    pub(crate) cut: u64,
    /// Payload bytes that were cut off.
    pub(crate) cut_bytes: u64,
    /// Segments longer than the other side accepts: put together by the host that captured.
    pub(crate) super_segments: u64,
    /// Segments with impossible numbers.
    pub(crate) implausible: u64,
    /// Segment size that this side announced.
    pub(crate) mss: Option<u16>,
    /// Whether a reset was sent.
    pub(crate) reset: bool,
}

impl Direction {
    /// Takes a SYN's sequence number.
    pub(crate) fn begin(&mut self, seq: SeqNumber) {
        self.base.get_or_insert(seq + 1);
    }

    /// Whether a SYN with this number began this stream.
    pub(crate) fn began_with(&self, seq: SeqNumber) -> bool {
        self.base == Some(seq + 1)
    }

    /// Sequence number of the first byte, if known.
    pub(crate) const fn base(&self) -> Option<SeqNumber> {
        self.base
    }

    /// Whether the FIN was captured.
    pub(crate) const fn finished(&self) -> bool {
        self.fin_at.is_some()
    }

    /// Bytes that the other side acknowledged.
    pub(crate) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether any captured byte came as the stream's first.
    pub(crate) const fn at_beginning(&self) -> bool {
        self.next == 0 && self.early.is_empty()
    }

    /// Where `seq` lies in the stream; negative in front of its first known byte.
    fn offset(&self, base: SeqNumber, seq: SeqNumber) -> i64 {
        let top = self.highest.max(self.acknowledged);
        // The lower 32 bits of the offset are all that the sequence number shows of it.
        (top as i64).saturating_add(i64::from(seq.distance_from(base + top as u32)))
    }

    /// Takes a segment's payload of `len` bytes, one or more, that acknowledges `ack`.
    pub(crate) fn take(&mut self, seq: SeqNumber, len: u32, ack: Option<SeqNumber>) -> Taken {
        let base = *self.base.get_or_insert(seq);
        let start = self.offset(base, seq);
        let end = start + i64::from(len);
        if start > self.highest.max(self.acknowledged) as i64 + MAX_AHEAD {
            self.implausible += 1;
            return Taken::Implausible;
        }
        if end <= self.next as i64 {
            if len == 1 && end == self.next as i64 && end <= self.acknowledged as i64 {
                self.probes += 1;
                return Taken::Probe;
            }
            self.repeated += 1;
            return Taken::Repeated;
        }
        let (start, end) = (start.max(0) as u64, end as u64);
        let taken = self.cover(start, end);
        match taken {
            Taken::Repeated => self.repeated += 1,
            Taken::Late => self.late += 1,
            _ => {}
        }
        if taken != Taken::Repeated && self.reads_on(ack) {
            self.turns += 1;
        }
        taken
    }

    /// Marks the bytes from `start` to `end`, the last of which lies beyond `next`, as captured.
    fn cover(&mut self, start: u64, end: u64) -> Taken {
        let before = self.highest;
        self.highest = before.max(end);
        if self.early.is_empty() && start <= self.next {
            self.bytes += end - self.next;
            self.next = end;
            return Taken::InOrder;
        }
        let new = self.insert(start.max(self.next), end);
        self.bytes += new;
        let in_order = start <= self.next;
        while let Some(&(from, to)) = self.early.first()
            && from <= self.next
        {
            self.next = self.next.max(to);
            self.early.remove(0);
        }
        if self.early.len() > MAX_EARLY {
            let (from, to) = self.early.remove(0);
            self.given_up.number += 1;
            self.given_up.bytes += from - self.next;
            self.next = to;
        }
        match new {
            0 => Taken::Repeated,
            _ if start < before => Taken::Late,
            _ if in_order => Taken::InOrder,
            _ => Taken::Early,
        }
    }

    /// Adds a range to `early`, joined with those it touches, and returns how many of its bytes are new.
    fn insert(&mut self, start: u64, end: u64) -> u64 {
        let first = self.early.partition_point(|&(_, to)| to < start);
        let last = self.early.partition_point(|&(from, _)| from <= end);
        let touched = &self.early[first..last];
        let known: u64 = touched.iter().map(|&(from, to)| to.min(end).saturating_sub(from.max(start))).sum();
        let joined = touched.iter().fold((start, end), |(a, b), &(from, to)| (a.min(from), b.max(to)));
        self.early.splice(first..last, [joined]);
        end - start - known
    }

    /// Whether a segment with new bytes was sent after more of the other side had been read than when the last one was.
    fn reads_on(&mut self, ack: Option<SeqNumber>) -> bool {
        let more = match (self.read_up_to, ack) {
            _ if self.turns == 0 => true,
            (Some(known), Some(ack)) => ack.is_after(known),
            // The first acknowledgement after data in a SYN is that of the handshake.
            _ => false,
        };
        if more || self.read_up_to.is_none() {
            self.read_up_to = ack;
        }
        more
    }

    /// Takes a FIN that stands behind the payload that ends at `seq`.
    pub(crate) fn finish(&mut self, seq: SeqNumber) {
        let base = *self.base.get_or_insert(seq);
        let at = self.offset(base, seq);
        if self.fin_at.is_none() && at <= self.highest.max(self.acknowledged) as i64 + MAX_AHEAD {
            self.fin_at = Some(at.max(0) as u64);
        }
    }

    /// Takes what the other side acknowledges of this direction.
    pub(crate) fn acknowledge(&mut self, ack: SeqNumber) {
        let base = *self.base.get_or_insert(ack);
        let offset = self.offset(base, ack);
        if offset > self.highest.max(self.acknowledged) as i64 + MAX_AHEAD {
            self.implausible += 1;
        } else if offset > self.acknowledged as i64 {
            self.acknowledged = offset as u64;
        }
    }

    /// The bytes that were sent, as what came later shows, and not captured. A direction of which nothing was captured has none:
    /// it is missing as a whole.
    pub(crate) fn gaps(&self) -> Gaps {
        let mut gaps = self.given_up;
        if self.packets == 0 {
            return gaps;
        }
        let mut at = self.next;
        for &(from, to) in &self.early {
            gaps.number += 1;
            gaps.bytes += from - at;
            at = to;
        }
        // A FIN counts one number, whether it was captured or not.
        let sent = match self.fin_at {
            Some(fin) => fin,
            None if self.acknowledged == at + 1 => at,
            None => self.acknowledged,
        };
        if sent > at {
            gaps.number += 1;
            gaps.bytes += sent - at;
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISN: SeqNumber = SeqNumber(u32::MAX - 4);

    fn begun() -> Direction {
        let mut direction = Direction { packets: 1, ..Direction::default() };
        direction.begin(ISN);
        direction
    }

    fn take(direction: &mut Direction, offset: u32, len: u32) -> Taken {
        direction.take(ISN + 1 + offset, len, Some(SeqNumber(7)))
    }

    #[test]
    fn bytes_count_once_across_the_wrap() {
        let mut d = begun();
        assert_eq!(take(&mut d, 0, 10), Taken::InOrder);
        assert_eq!(take(&mut d, 0, 10), Taken::Repeated);
        assert_eq!(take(&mut d, 5, 10), Taken::InOrder);
        assert_eq!((d.bytes, d.repeated), (15, 1));
        assert_eq!(d.gaps(), Gaps::default());
    }

    #[test]
    fn a_hole_that_is_filled_is_no_gap() {
        let mut d = begun();
        assert_eq!(take(&mut d, 10, 10), Taken::Early);
        assert_eq!(take(&mut d, 30, 10), Taken::Early);
        assert_eq!(d.gaps(), Gaps { number: 2, bytes: 20 });
        assert_eq!(take(&mut d, 15, 20), Taken::Late);
        assert_eq!(d.gaps(), Gaps { number: 1, bytes: 10 });
        assert_eq!(take(&mut d, 12, 20), Taken::Repeated);
        assert_eq!(take(&mut d, 0, 10), Taken::Late);
        assert_eq!((d.gaps(), d.next, d.bytes), (Gaps::default(), 40, 40));
    }

    #[test]
    fn what_was_acknowledged_and_never_captured_is_missing() {
        let mut d = begun();
        take(&mut d, 0, 10);
        d.acknowledge(ISN + 1 + 110);
        assert_eq!(d.gaps(), Gaps { number: 1, bytes: 100 });
        // One more would be the FIN.
        let mut d = begun();
        take(&mut d, 0, 10);
        d.acknowledge(ISN + 1 + 11);
        assert_eq!(d.gaps(), Gaps::default());
        let mut d = begun();
        d.finish(ISN + 1 + 10);
        d.acknowledge(ISN + 1 + 11);
        assert_eq!(d.gaps(), Gaps { number: 1, bytes: 10 });
    }

    #[test]
    fn holes_are_bounded() {
        let mut d = begun();
        for hole in 0..1000 {
            take(&mut d, 10 + hole * 20, 10);
        }
        assert!(d.early.len() <= MAX_EARLY);
        assert_eq!(d.gaps(), Gaps { number: 1000, bytes: 10_000 });
    }

    #[test]
    fn probes_and_impossible_numbers_are_told_apart() {
        let mut d = begun();
        take(&mut d, 0, 10);
        assert_eq!(take(&mut d, 9, 1), Taken::Repeated);
        d.acknowledge(ISN + 1 + 10);
        assert_eq!(take(&mut d, 9, 1), Taken::Probe);
        assert_eq!(take(&mut d, 1 << 31 >> 1, 5), Taken::Early);
        assert_eq!(take(&mut d, (1 << 31) + 20, 5), Taken::Implausible);
        assert_eq!((d.probes, d.implausible), (1, 1));
    }

    #[test]
    fn a_turn_begins_after_something_was_read() {
        let mut d = begun();
        for (offset, ack) in [(0, 100), (10, 100), (20, 150), (30, 120), (40, 151)] {
            d.take(ISN + 1 + offset, 10, Some(SeqNumber(ack)));
        }
        assert_eq!(d.turns, 3);
    }
}
