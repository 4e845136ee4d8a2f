//! The captured side of a session: what its client sent, and when.

use crate::protocol::ClientEnd;
use crate::seq::SeqNumber;
use crate::stream::{Arrival, Assembler, SegmentInfo};
use crate::time::{Duration, Instant};
use crate::wire::tcp::{TcpFlags, TcpSegment};

/// Options that a client whose SYN was not captured is taken to have: what today's kernels offer.
const ASSUMED_WINDOW_SCALE: u8 = 7;
/// Window announced at least, whatever the client's was: the replayer reads everything at once.
const MIN_WINDOW: u32 = 65_535;
/// Windows grow as clients read; there is no use in more than this. What lies further from the stream's end is none of it.
const MAX_WINDOW: u32 = 16 << 20;

/// A client sends its SYN again after this (RFC 6298, section 2).
const SYN_TIMEOUT: Duration = Duration::from_secs(1);
/// The shortest time after which today's kernels send data again.
const DATA_TIMEOUT: Duration = Duration::from_millis(200);

/// What the client's SYN offered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) mss: Option<u16>,
    pub(super) window_scale: Option<u8>,
    pub(super) sack_permitted: bool,
    pub(super) timestamp: Option<u32>,
    pub(super) hop_limit: u8,
    pub(super) traffic_class: u8,
}

/// A client's stream, put in order.
#[derive(Debug)]
pub(super) struct Client {
    isn: SeqNumber,
    assembler: Assembler,
    pub(super) offer: Offer,
    ack_base: Option<SeqNumber>,
    /// The first number of the online server's stream, as its SYN-ACK told it.
    reference_base: Option<SeqNumber>,
    acknowledged: u64,
    window: u32,
    syn_at: Option<Instant>,
    pub(super) round_trip: Option<Duration>,
    end: Option<(u64, ClientEnd)>,
    end_reported: bool,
    /// How far the client has sent, by the numbers of its acknowledgements: it may have sent what was not captured.
    sent: u64,
    /// When the oldest missing byte was first missed.
    pub(super) gap_since: Option<Missed>,
    /// Which byte that is.
    gap_at: u64,
}

/// When something was missed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missed {
    /// As time passes.
    pub(super) at: Instant,
    /// How far the capture was, in nanoseconds of the Unix epoch.
    pub(super) captured_at: u64,
}

/// What a captured segment meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) arrival: Option<Arrival>,
    /// The client's end was reached by it.
    pub(super) ended: Option<(ClientEnd, SegmentInfo)>,
}

impl Client {
    pub(super) fn from_syn(syn: &TcpSegment<'_>, hop_limit: u8, traffic_class: u8, now: Instant) -> Self {
        let options = &syn.options;
        let offer = Offer {
            mss: options.mss,
            window_scale: options.window_scale,
            sack_permitted: options.sack_permitted,
            timestamp: options.timestamps.map(|t| t.value),
            hop_limit,
            traffic_class,
        };
        Self::new(syn.seq, offer, Some(now))
    }

    /// A client joined at `segment`, whose first byte becomes the stream's first.
    pub(super) fn joined(segment: &TcpSegment<'_>, hop_limit: u8, traffic_class: u8) -> Self {
        let timestamp = segment.options.timestamps.map(|t| t.value);
        let offer = Offer {
            mss: None,
            window_scale: Some(ASSUMED_WINDOW_SCALE),
            sack_permitted: true,
            timestamp,
            hop_limit,
            traffic_class,
        };
        let mut client = Self::new(segment.seq - 1, offer, None);
        client.ack_base = Some(segment.ack);
        client
    }

    fn new(isn: SeqNumber, offer: Offer, syn_at: Option<Instant>) -> Self {
        Self {
            isn,
            assembler: Assembler::default(),
            offer,
            ack_base: None,
            reference_base: None,
            acknowledged: 0,
            window: MIN_WINDOW,
            syn_at,
            round_trip: None,
            end: None,
            end_reported: false,
            sent: 0,
            gap_since: None,
            gap_at: 0,
        }
    }

    pub(super) const fn isn(&self) -> SeqNumber {
        self.isn
    }

    /// The client's next sequence number, and the last that it acknowledged, once it has.
    pub(super) fn numbers(&self) -> (SeqNumber, Option<SeqNumber>) {
        let next = self.isn + 1 + self.assembler.next_offset() as u32;
        (next, self.ack_base.map(|base| base + self.acknowledged as u32))
    }

    pub(super) const fn window(&self) -> u32 {
        self.window
    }

    /// Whether the client's end was reached.
    pub(super) const fn is_over(&self) -> bool {
        self.end_reported
    }

    /// Bytes held out of order.
    pub(super) const fn held_bytes(&self) -> usize {
        self.assembler.early_bytes()
    }

    /// Stream offset after the last byte of `segment`, captured or not.
    pub(super) fn end_of(&self, segment: &TcpSegment<'_>) -> u64 {
        let next = self.assembler.next_offset();
        let start = segment.seq.unwrap(self.isn + 1 + next as u32, next);
        (start + segment.payload_len as i64).max(0) as u64
    }

    /// Whether bytes before stream offset `offset` wait for a gap to be filled.
    pub(super) fn has_gap_before(&self, offset: u64) -> bool {
        self.assembler.has_gap_before(offset)
    }

    /// Forgets bytes that are of no use any more.
    pub(super) fn forget(&mut self) {
        self.assembler = Assembler::starting_at(self.assembler.next_offset());
        self.gap_since = None;
    }

    /// The SYN came again: the round trip can't be told from the handshake any more.
    pub(super) const fn syn_repeated(&mut self) {
        self.syn_at = None;
    }

    /// Where, in the stream that the client acknowledges, the payload of the online server's `segment` lies. Not known while
    /// nothing tells where that stream begins. `next` is the offset expected next.
    pub(super) fn reference_offset(&mut self, segment: &TcpSegment<'_>, next: u64) -> Option<i64> {
        if segment.flags.contains(TcpFlags::SYN) {
            // The client's acknowledgement of it says the same; this one may come before that.
            self.reference_base.get_or_insert(segment.seq + 1);
            return None;
        }
        let base = self.reference_base.or(self.ack_base)?;
        let offset = segment.seq.unwrap(base + next as u32, next);
        (segment.payload_len > 0 && offset.abs_diff(next as i64) <= u64::from(MAX_WINDOW)).then_some(offset)
    }

    /// Takes a segment that is no SYN; payload of a SYN (fast open) comes here too, with `first` as its offset.
    pub(super) fn take(
        &mut self,
        segment: &TcpSegment<'_>,
        captured_at_nanos: u64,
        now: Instant,
        deliver: impl FnMut(&[u8], SegmentInfo),
    ) -> Taken {
        let is_syn = segment.flags.contains(TcpFlags::SYN);
        let first_number = if is_syn { segment.seq + 1 } else { segment.seq };
        let next = self.assembler.next_offset();
        let offset = first_number.unwrap(self.isn + 1 + next as u32, next);
        if offset.abs_diff(next as i64) > u64::from(MAX_WINDOW) {
            // In no window of this connection: of one before it, or made up, and nothing to the online server either
            // (RFC 9293, section 3.10.7.4).
            return Taken { arrival: Some(Arrival::Repeated), ended: None };
        }
        if segment.flags.contains(TcpFlags::ACK) {
            self.note_acknowledgement(segment, now);
        }
        let info = self.info_of(segment, captured_at_nanos);
        self.note_end(segment, offset);
        if segment.payload_len == 0 && !is_syn && !segment.flags.contains(TcpFlags::RST) {
            self.sent = self.sent.max(offset.max(0) as u64).min(self.end.map_or(u64::MAX, |(end, _)| end));
        }
        let arrival = (segment.payload_len > 0)
            .then(|| self.assembler.insert(offset, segment.payload, segment.payload_len, info, deliver));
        self.note_gap(Missed { at: now, captured_at: captured_at_nanos });
        Taken { arrival, ended: self.reach_end(info) }
    }

    /// What is known of `segment` besides its bytes.
    pub(super) fn info_of(&self, segment: &TcpSegment<'_>, captured_at_nanos: u64) -> SegmentInfo {
        SegmentInfo {
            acknowledged: self.acknowledged_by(segment),
            pushed: segment.flags.contains(TcpFlags::PSH),
            captured_at_nanos,
        }
    }

    fn note_acknowledgement(&mut self, segment: &TcpSegment<'_>, now: Instant) {
        if self.ack_base.is_none() {
            // The handshake's last step acknowledges the SYN-ACK and nothing else.
            self.ack_base = Some(segment.ack);
            if let Some(syn_at) = self.syn_at.take() {
                // A longer wait is not the client's distance but a loss: it would have sent its SYN again by then, or this is
                // the first segment that arrived of several. Taken for the distance, it would slow the whole session down.
                let limit = if segment.payload_len == 0 { SYN_TIMEOUT } else { DATA_TIMEOUT };
                self.round_trip = Some(now.saturating_since(syn_at)).filter(|measured| *measured < limit);
            }
        }
        let scale = self.offer.window_scale.unwrap_or(0);
        let window = (u32::from(segment.window) << scale).min(MAX_WINDOW);
        self.window = self.window.max(window);
        self.acknowledged = self.acknowledged.max(self.acknowledged_by(segment));
    }

    /// Response bytes that `segment` acknowledges.
    fn acknowledged_by(&self, segment: &TcpSegment<'_>) -> u64 {
        let Some(base) = self.ack_base.filter(|_| segment.flags.contains(TcpFlags::ACK)) else {
            return self.acknowledged;
        };
        let offset = segment.ack.unwrap(base + self.acknowledged as u32, self.acknowledged);
        offset.max(0) as u64
    }

    fn note_end(&mut self, segment: &TcpSegment<'_>, offset: i64) {
        let end_offset = (offset + segment.payload_len as i64).max(0) as u64;
        if segment.flags.contains(TcpFlags::RST) {
            // Nothing after a reset counts, and a reset after a FIN adds nothing.
            if self.end.is_none() {
                self.end = Some((end_offset, ClientEnd::Reset));
            }
        } else if segment.flags.contains(TcpFlags::FIN) {
            self.end = Some((end_offset, ClientEnd::Finished));
        }
    }

    /// Notes since when something is missing.
    pub(super) fn note_gap(&mut self, now: Missed) {
        let next = self.assembler.next_offset();
        let ahead = self.sent > next || self.end.is_some_and(|(offset, _)| offset > next);
        let missing = self.assembler.has_gap() || ahead;
        if !missing {
            self.gap_since = None;
        } else if self.gap_since.is_none() || self.gap_at != next {
            self.gap_since = Some(now);
            self.gap_at = next;
        }
    }

    fn reach_end(&mut self, info: SegmentInfo) -> Option<(ClientEnd, SegmentInfo)> {
        let (offset, end) = self.end?;
        if self.end_reported || offset > self.assembler.next_offset() {
            return None;
        }
        self.end_reported = true;
        Some((end, SegmentInfo { acknowledged: self.acknowledged.max(info.acknowledged), ..info }))
    }

    /// The client is gone without a word: its address and port began another connection.
    pub(super) fn replaced(&mut self) -> Option<(ClientEnd, SegmentInfo)> {
        if self.end_reported {
            return None;
        }
        self.end = Some((self.assembler.next_offset(), ClientEnd::Finished));
        self.reach_end(SegmentInfo { acknowledged: self.acknowledged, ..SegmentInfo::default() })
    }

    /// Gives up what is missing. The stream goes on where the client had read more than when the gap began.
    pub(super) fn skip_gap(
        &mut self,
        cut_at: Option<u64>,
        mut deliver: impl FnMut(&[u8], SegmentInfo),
    ) -> Option<(ClientEnd, SegmentInfo)> {
        self.gap_since = None;
        match cut_at {
            Some(resume) => self.assembler.resume_at(resume, &mut deliver),
            // The protocol looks for its own safe place to go on; all that is known here is the order.
            None if self.assembler.has_gap() => self.assembler.skip_gap(&mut deliver),
            None => self.assembler.resume_at(self.sent, &mut deliver),
        }
        if let Some((offset, end)) = self.end
            && offset > self.assembler.next_offset()
            && !self.assembler.has_gap()
        {
            self.end = Some((self.assembler.next_offset(), end));
        }
        self.reach_end(SegmentInfo { acknowledged: self.acknowledged, ..SegmentInfo::default() })
    }
}
