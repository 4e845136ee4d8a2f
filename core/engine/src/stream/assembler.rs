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

    /// Whether bytes before `offset` wait for a gap to be filled.
    pub fn has_gap_before(&self, offset: u64) -> bool {
        self.early.first().is_some_and(|early| early.offset < offset)
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
        let at = self.early.partition_point(|e| e.offset <= offset);
        // A longer one further ahead may cover it too; then it is kept for nothing, and delivered as nothing.
        let covers = |e: &EarlySegment| e.offset + e.bytes.len() as u64 >= end;
        if at.checked_sub(1).and_then(|before| self.early.get(before)).is_some_and(covers) {
            return Arrival::Repeated;
        }
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

    /// Gives up the missing bytes: the stream goes on with what is kept beyond them. Nothing happens when no byte is missing.
    pub fn skip_gap(&mut self, mut deliver: impl FnMut(&[u8], SegmentInfo)) {
        if let Some(first) = self.early.first() {
            self.next = self.next.max(first.offset);
            self.deliver_early(&mut deliver);
        }
    }

    /// Goes on at stream offset `offset`, if that lies ahead; what lies before it is forgotten.
    pub fn resume_at(&mut self, offset: u64, mut deliver: impl FnMut(&[u8], SegmentInfo)) {
        self.next = self.next.max(offset);
        self.deliver_early(&mut deliver);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(assembler: &mut Assembler, offset: i64, bytes: &[u8], out: &mut Vec<u8>) -> Arrival {
        assembler.insert(offset, bytes, bytes.len(), SegmentInfo::default(), |b, _| out.extend_from_slice(b))
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
        let arrival = a.insert(0, b"ab", 5, SegmentInfo::default(), |b, _| out.extend_from_slice(b));
        assert_eq!(arrival, Arrival::Cut(2));
        assert!(out.is_empty());
    }

    #[test]
    fn a_gap_is_given_up_on_request() {
        let (mut a, mut out) = (Assembler::default(), Vec::new());
        feed(&mut a, 10, b"mid", &mut out);
        feed(&mut a, 20, b"new", &mut out);
        a.skip_gap(|b, _| out.extend_from_slice(b));
        assert_eq!((out.as_slice(), a.next_offset(), a.has_gap()), (b"mid".as_slice(), 13, true));
        a.resume_at(21, |b, _| out.extend_from_slice(b));
        assert_eq!((out.as_slice(), a.next_offset(), a.has_gap()), (b"midew".as_slice(), 23, false));
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
