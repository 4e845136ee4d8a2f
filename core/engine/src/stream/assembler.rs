//! Puts captured segments in order.
//!
//! Owns the position in the stream and the segments that came too early. What to do with the bytes is the caller's
//! business: they are handed out once each, in order, one call for each original segment.

/// What is known of a captured segment besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SegmentInfo {
    /// Bytes of the opposite stream that the sender had acknowledged when it sent this segment.
    pub acknowledged: u64,
    /// Whether the segment carried PSH: its last byte ended a write of the sender.
    pub pushed: bool,
    /// Capture time in nanoseconds of the Unix epoch.
    pub captured_at_nanos: u64,
}

/// What a segment brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// New bytes, handed out at once.
    InOrder,
    /// New bytes after a gap, kept until it is filled.
    Early,
    /// Nothing that had not been seen.
    Repeated,
    /// The capture cut the segment: the bytes from this stream offset on will never be known.
    Cut(u64),
}

#[derive(Debug)]
struct EarlySegment {
    offset: u64,
    bytes: Vec<u8>,
    info: SegmentInfo,
}

/// Puts one direction of a captured connection in order.
#[derive(Debug, Default)]
pub struct Assembler {
    next: u64,
    early: Vec<EarlySegment>,
    early_bytes: usize,
}

impl Assembler {
    /// An assembler whose next expected byte is at stream offset `next`.
    pub const fn starting_at(next: u64) -> Self {
        Self { next, early: Vec::new(), early_bytes: 0 }
    }

    /// Stream offset of the next byte to be handed out.
    pub const fn next_offset(&self) -> u64 {
        self.next
    }

    /// Bytes kept because something before them is missing.
    pub const fn early_bytes(&self) -> usize {
        self.early_bytes
    }

    /// Whether bytes wait for a gap to be filled.
    pub fn has_gap(&self) -> bool {
        !self.early.is_empty()
    }

    /// Takes one segment that starts at stream offset `offset` (negative when before the stream's first byte) and was
    /// `wire_len` bytes long on the wire, of which `bytes` were captured. New bytes go to `deliver`, in order, with the
    /// information of the segment that they came in.
    pub fn insert(
        &mut self,
        offset: i64,
        bytes: &[u8],
        wire_len: usize,
        info: SegmentInfo,
        mut deliver: impl FnMut(&[u8], SegmentInfo),
    ) -> Arrival {
        let end = offset + wire_len as i64;
        if end <= self.next as i64 {
            return Arrival::Repeated;
        }
        let known_end = offset + bytes.len() as i64;
        if bytes.len() < wire_len && known_end >= self.next as i64 {
            // What was captured of a cut segment is of no use: it can't be continued.
            return Arrival::Cut(known_end.max(0) as u64);
        }
        if known_end <= self.next as i64 {
            return Arrival::Repeated;
        }
        let skip = (self.next as i64 - offset).max(0) as usize;
        let start = (offset + skip as i64) as u64;
        let fresh = &bytes[skip..];
        if start > self.next {
            return self.keep_early(start, fresh, info);
        }
        self.next += fresh.len() as u64;
        deliver(fresh, info);
        self.deliver_early(&mut deliver);
        Arrival::InOrder
    }

    fn keep_early(&mut self, offset: u64, bytes: &[u8], info: SegmentInfo) -> Arrival {
        let end = offset + bytes.len() as u64;
        let covered = self.early.iter().any(|e| e.offset <= offset && e.offset + e.bytes.len() as u64 >= end);
        if covered {
            return Arrival::Repeated;
        }
        let at = self.early.partition_point(|e| e.offset <= offset);
        self.early_bytes += bytes.len();
        self.early.insert(at, EarlySegment { offset, bytes: bytes.to_vec(), info });
        Arrival::Early
    }

    fn deliver_early(&mut self, deliver: &mut impl FnMut(&[u8], SegmentInfo)) {
        let mut taken = 0;
        for early in &self.early {
            if early.offset > self.next {
                break;
            }
            taken += 1;
            self.early_bytes -= early.bytes.len();
            let skip = (self.next - early.offset) as usize;
            if skip < early.bytes.len() {
                let fresh = &early.bytes[skip..];
                self.next += fresh.len() as u64;
                deliver(fresh, early.info);
            }
        }
        self.early.drain(..taken);
        if self.early.is_empty() {
            self.early = Vec::new();
        }
    }

    /// Gives up the missing bytes: the stream goes on at the first kept segment for which `may_start` says that a new
    /// message begins there, and everything before it is forgotten. Returns that segment's offset, or `None` when there is
    /// no such segment, in which case all kept bytes are forgotten and the stream goes on after them.
    pub fn skip_gap(
        &mut self,
        mut may_start: impl FnMut(SegmentInfo) -> bool,
        mut deliver: impl FnMut(&[u8], SegmentInfo),
    ) -> Option<u64> {
        let mut previous_end = None;
        let start = self.early.iter().position(|e| {
            // The segment right after the gap may begin anywhere in a message.
            let contiguous = previous_end.is_some_and(|end| e.offset <= end);
            previous_end = Some(e.offset + e.bytes.len() as u64);
            may_start(e.info) && contiguous
        });
        let keep_from = start.unwrap_or(self.early.len());
        for dropped in self.early.drain(..keep_from) {
            self.early_bytes -= dropped.bytes.len();
            self.next = self.next.max(dropped.offset + dropped.bytes.len() as u64);
        }
        let first = self.early.first()?.offset;
        self.next = first;
        self.deliver_early(&mut deliver);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(assembler: &mut Assembler, offset: i64, bytes: &[u8], out: &mut Vec<u8>) -> Arrival {
        assembler
            .insert(offset, bytes, bytes.len(), SegmentInfo::default(), |b, _| out.extend_from_slice(b))
    }

    #[test]
    fn overlaps_repeats_and_reordering_fold_into_one_stream() {
        let (mut a, mut out) = (Assembler::default(), Vec::new());
        assert_eq!(feed(&mut a, 0, b"abc", &mut out), Arrival::InOrder);
        assert_eq!(feed(&mut a, 0, b"abc", &mut out), Arrival::Repeated);
        assert_eq!(feed(&mut a, -1, b"x", &mut out), Arrival::Repeated);
        assert_eq!(feed(&mut a, 6, b"ghi", &mut out), Arrival::Early);
        assert_eq!(feed(&mut a, 6, b"gh", &mut out), Arrival::Repeated);
        assert!(a.has_gap());
        assert_eq!(feed(&mut a, 2, b"cdefg", &mut out), Arrival::InOrder);
        assert_eq!(out, b"abcdefghi");
        assert!(!a.has_gap());
        assert_eq!(a.early_bytes(), 0);
    }

    #[test]
    fn a_cut_segment_is_never_delivered() {
        let (mut a, mut out) = (Assembler::default(), Vec::new());
        let arrival =
            a.insert(0, b"ab", 5, SegmentInfo::default(), |b, _| out.extend_from_slice(b));
        assert_eq!(arrival, Arrival::Cut(2));
        assert!(out.is_empty());
    }

    #[test]
    fn a_gap_is_left_at_the_next_message() {
        let (mut a, mut out) = (Assembler::default(), Vec::new());
        let info = |acknowledged| SegmentInfo { acknowledged, ..SegmentInfo::default() };
        a.insert(10, b"mid", 3, info(5), |_, _| ());
        a.insert(13, b"new", 3, info(9), |_, _| ());
        let start = a.skip_gap(|i| i.acknowledged > 5, |b, _| out.extend_from_slice(b));
        assert_eq!((start, out.as_slice(), a.next_offset()), (Some(13), b"new".as_slice(), 16));
    }

    proptest! {
        #[test]
        fn any_order_and_overlap_gives_the_same_stream(
            pieces in proptest::collection::vec((0usize..200, 1usize..40), 1..80),
        ) {
            let stream: Vec<u8> = (0..=255).collect();
            let (mut a, mut out) = (Assembler::default(), Vec::new());
            for &(start, len) in &pieces {
                let end = (start + len).min(stream.len());
                feed(&mut a, start as i64, &stream[start..end], &mut out);
            }
            feed(&mut a, 0, &stream, &mut out);
            prop_assert_eq!(out, stream);
            prop_assert_eq!(a.early_bytes(), 0);
        }
    }
}
