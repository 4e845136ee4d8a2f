//! A connection to the target: handshake, data both ways, and every way of ending (RFC 9293, section 3.10).

use super::receiver::{AckState, Fin, Receiver};
use super::rtt::RttEstimator;
use super::sender::{Boundary, Purity, Sender, TimerOutcome};
use crate::flow::FlowKey;
use crate::seq::SeqNumber;
use crate::time::{Duration, Instant};
use crate::wire::packet::OutgoingSegment;
use crate::wire::tcp::{SackBlocks, TcpFlags, TcpOptions, TcpSegment, Timestamps};
use smallvec::SmallVec;

/// First wait for a SYN-ACK (RFC 6298, section 2.1); doubles with each SYN.
const SYN_TIMEOUT: Duration = Duration::from_secs(1);
/// SYNs sent before the handshake is given up: 31 seconds in all.
const SYN_TRIES: u32 = 5;
/// How long an ended connection answers what still comes from the target. Far shorter than the 2 MSL of RFC 9293: the
/// address and port of a client that comes back are given out anew only after it, or to another port.
pub const LINGER: Duration = Duration::from_millis(750);
/// How long the target may take to acknowledge our FIN, or to close after it did, before the connection is reset (as kernels
/// do in FIN-WAIT-2, and with connections that no program has any more).
const FIN_WAIT: Duration = Duration::from_secs(60);
/// Segment size for a target that announces none (RFC 9293, section 3.7.1).
const DEFAULT_MSS_V4: u64 = 536;
const DEFAULT_MSS_V6: u64 = 1220;
const TIMESTAMPS_LEN: u64 = 12;

/// How the client's end of the connection is to look.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Addresses and ports.
    pub flow: FlowKey,
    /// Initial sequence number.
    pub iss: SeqNumber,
    /// MSS to announce, in bytes.
    pub mss: u16,
    /// Window scale to offer, as the client had it.
    pub window_scale: Option<u8>,
    /// Whether SACK is offered.
    pub sack_permitted: bool,
    /// Whether timestamps are offered.
    pub timestamps: bool,
    /// Window to announce, in bytes.
    pub window: u32,
    /// Largest packet that reaches the target whole, in bytes, IP header included.
    pub mtu: u32,
    /// Added to the millisecond clock to make timestamp values.
    pub timestamp_offset: u32,
    /// IP hop limit.
    pub hop_limit: u8,
    /// IP traffic class.
    pub traffic_class: u8,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// SYNs go out; the next at `again`.
    Handshake {
        /// SYNs sent so far.
        tries: u32,
        /// When the next is due.
        again: Instant,
    },
    /// Established, and not closed by both sides.
    Open,
    /// Closed by both sides, or reset by us: only answers what still comes.
    Lingering {
        /// Until when.
        until: Instant,
        /// With resets instead of acknowledgements.
        aborted: bool,
    },
    /// Nothing more is sent or expected.
    Closed,
}

/// The header of a reply, without its payload.
#[derive(Clone, Copy, Debug)]
pub struct ReplyHeader {
    /// Sequence number.
    pub seq: SeqNumber,
    /// Acknowledgement number.
    pub ack: SeqNumber,
    /// Flags.
    pub flags: TcpFlags,
    /// Window as it stands in the header.
    pub window: u16,
    /// Options.
    pub options: TcpOptions,
    /// Payload bytes on the wire.
    pub payload_len: u32,
}

impl From<&TcpSegment<'_>> for ReplyHeader {
    fn from(segment: &TcpSegment<'_>) -> Self {
        Self {
            seq: segment.seq,
            ack: segment.ack,
            flags: segment.flags,
            window: segment.window,
            options: segment.options,
            payload_len: segment.payload_len as u32,
        }
    }
}

/// How the target reset the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// In answer to the SYN.
    Refused,
    /// After the handshake.
    Established,
}

/// What a reply brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The handshake is complete.
    pub connected: bool,
    /// Request bytes newly acknowledged.
    pub acknowledged: u64,
    /// Response bytes newly in order.
    pub response: u64,
    /// The reply carried PSH and nothing after it is missing.
    pub pushed: bool,
    /// The target's FIN is newly in order.
    pub target_closed: bool,
    /// The target reset the connection.
    pub reset: Option<Reset>,
}

/// What a due timer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerEffect {
    /// The retransmission timer fired.
    pub retransmit: bool,
    /// A closed window will be probed.
    pub probe: bool,
    /// The handshake was given up.
    pub handshake_failed: bool,
}

/// What kind of packet was emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emitted {
    /// The SYN, or one again.
    Syn,
    /// Data or FIN, sent for the first time.
    Fresh,
    /// Data or FIN sent again.
    Again,
    /// A window probe.
    Probe,
    /// An acknowledgement alone.
    Ack,
    /// A reset.
    Reset,
}

/// One connection of a replayed client to the target.
#[derive(Debug)]
pub struct Connection {
    options: ConnectionOptions,
    phase: Phase,
    syn_due: bool,
    abort_due: bool,
    /// A reset to be sent with this sequence number: what we were told belongs to another connection.
    stray_reset: Option<SeqNumber>,
    irs: SeqNumber,
    peer_scale: u8,
    scaled: bool,
    timestamps: bool,
    sack: bool,
    recent_timestamp: u32,
    sender: Sender,
    receiver: Receiver,
    established_at: Option<Instant>,
    fin_wait_until: Option<Instant>,
    last_word: LastWord,
    identification: u16,
}

/// Whether the target said, with its reset, how far it had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastWord {
    /// It did: what it had not acknowledged by then, it never took.
    Acknowledged,
    /// Not, or not yet.
    Nothing,
}

impl Connection {
    /// A connection whose first SYN is due.
    pub fn open(options: ConnectionOptions, now: Instant) -> Self {
        let mss = u64::from(options.mss);
        Self {
            phase: Phase::Handshake { tries: 0, again: now },
            syn_due: true,
            abort_due: false,
            stray_reset: None,
            irs: SeqNumber(0),
            peer_scale: 0,
            scaled: false,
            timestamps: false,
            sack: false,
            recent_timestamp: 0,
            sender: Sender::new(mss, 0, RttEstimator::default()),
            receiver: Receiver::new(mss),
            established_at: None,
            fin_wait_until: None,
            last_word: LastWord::Nothing,
            identification: options.iss.0 as u16,
            options,
        }
    }

    /// Addresses and ports.
    pub const fn flow(&self) -> &FlowKey {
        &self.options.flow
    }

    /// Where the connection stands.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether data may be pushed: the handshake is under way or done, and nobody has ended the connection.
    pub fn accepts_data(&self) -> bool {
        matches!(self.phase, Phase::Handshake { .. } | Phase::Open)
            && !self.sender.is_closing()
            && !self.receiver.is_finished()
            && !self.abort_due
    }

    /// Whether the target has closed its side.
    pub const fn target_closed(&self) -> bool {
        self.receiver.is_finished()
    }

    /// Whether the target can't have taken a request that begins at stream offset `start`, nor ever will.
    ///
    /// Only the target's own word counts, because acknowledgements get lost: a reset that acknowledges, or a FIN, which
    /// acknowledges too, and after which its program reads no request. Where the request was sent again after the FIN, a
    /// program that had closed one way only may have read it.
    pub fn is_untouched(&self, start: u64) -> bool {
        let sender = &self.sender;
        let told = self.last_word == LastWord::Acknowledged
            || (self.receiver.is_finished() && !sender.was_sent_again_from(start));
        start >= sender.sent() || (told && start >= sender.acknowledged())
    }

    /// When the handshake was completed.
    pub const fn established_at(&self) -> Option<Instant> {
        self.established_at
    }

    /// The sending half.
    pub const fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The receiving half.
    pub const fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Appends request bytes.
    pub fn push(&mut self, bytes: &[u8], boundary: Boundary) {
        self.sender.push(bytes, boundary);
    }

    /// Closes our side behind everything pushed.
    pub const fn close(&mut self) {
        self.sender.close();
    }

    /// Takes the request bytes from stream offset `offset` on back, with the boundaries in them. For a connection that is
    /// over: nothing of it may be sent any more.
    pub fn take_unacknowledged(&mut self, offset: u64) -> (std::collections::VecDeque<u8>, Vec<u64>) {
        self.sender.take_from(offset)
    }

    /// Forgets request bytes that were never sent. For a connection that the target has closed.
    pub fn discard_unsent(&mut self) {
        let sent = self.sender.sent();
        self.sender.take_from(sent);
    }

    /// Resets the connection with the next transmission; what was not acknowledged is forgotten.
    pub fn abort(&mut self, now: Instant) {
        match self.phase {
            Phase::Handshake { tries: 0, .. } => {
                self.sender.forget();
                self.phase = Phase::Closed;
            }
            Phase::Handshake { .. } | Phase::Open => {
                self.abort_due = true;
                self.sender.forget();
                self.phase = Phase::Lingering { until: now + LINGER, aborted: true };
            }
            Phase::Lingering { .. } | Phase::Closed => {}
        }
    }

    /// Raises the announced window to `window` bytes; it never shrinks.
    pub fn widen(&mut self, window: u32) {
        self.options.window = self.options.window.max(window);
    }

    /// The path takes packets of at most `mtu` bytes.
    pub fn lower_mtu(&mut self, mtu: u32) {
        if mtu < self.options.mtu {
            self.options.mtu = mtu;
            let fitting = self.payload_room();
            if fitting < self.sender.segment_size() {
                self.sender.shrink_segment(fitting);
            }
        }
    }

    fn payload_room(&self) -> u64 {
        let headers = if self.options.flow.client.addr.is_ipv4() { 40 } else { 60 };
        let options = if self.timestamps { TIMESTAMPS_LEN } else { 0 };
        u64::from(self.options.mtu).saturating_sub(headers + options).max(64)
    }

    fn timestamp(&self, now: Instant) -> u32 {
        (now.as_millis() as u32).wrapping_add(self.options.timestamp_offset)
    }

    /// Where the payload of `reply` lies in the response: the offset of its first byte, negative for what is long past.
    pub fn response_offset(&self, reply: &ReplyHeader) -> i64 {
        let expected = self.irs + 1 + self.receiver.next() as u32;
        self.receiver.next() as i64 + i64::from(reply.seq.distance_from(expected))
    }

    /// Takes a reply.
    pub fn on_reply(&mut self, reply: &ReplyHeader, now: Instant) -> Progress {
        match self.phase {
            Phase::Handshake { tries, .. } if tries > 0 => self.on_handshake_reply(reply, now),
            Phase::Handshake { .. } | Phase::Closed => Progress::default(),
            Phase::Open => self.on_open_reply(reply, now),
            Phase::Lingering { aborted, .. } => {
                self.on_late_reply(reply, aborted, now);
                Progress::default()
            }
        }
    }

    fn on_handshake_reply(&mut self, reply: &ReplyHeader, now: Instant) -> Progress {
        let flags = reply.flags;
        let answers_us = flags.contains(TcpFlags::ACK) && reply.ack == self.options.iss + 1;
        match () {
            // The target refuses (RFC 9293, section 3.10.7.3).
            () if flags.contains(TcpFlags::RST) => {
                if !answers_us {
                    return Progress::default();
                }
                self.phase = Phase::Closed;
                Progress { reset: Some(Reset::Refused), ..Progress::default() }
            }
            // The target still has an older connection of this address and port: end it, and ask again (RFC 9293,
            // section 3.10.7.3, and figure 9 of section 3.5.1).
            () if flags.contains(TcpFlags::ACK) && !answers_us => {
                self.stray_reset = Some(reply.ack);
                self.syn_due = true;
                Progress::default()
            }
            () if answers_us && flags.contains(TcpFlags::SYN) => {
                self.establish(reply, now);
                Progress { connected: true, ..Progress::default() }
            }
            () => Progress::default(),
        }
    }

    fn establish(&mut self, reply: &ReplyHeader, now: Instant) {
        self.irs = reply.seq;
        self.timestamps = self.options.timestamps && reply.options.timestamps.is_some();
        self.recent_timestamp = reply.options.timestamps.map_or(0, |t| t.value);
        self.sack = self.options.sack_permitted && reply.options.sack_permitted;
        // Scaling is in force only if both sides offered it (RFC 7323, section 2.2).
        self.scaled = self.options.window_scale.is_some() && reply.options.window_scale.is_some();
        self.peer_scale = if self.scaled { reply.options.window_scale.unwrap_or(0) } else { 0 };
        let default_mss =
            if self.options.flow.client.addr.is_ipv4() { DEFAULT_MSS_V4 } else { DEFAULT_MSS_V6 };
        let announced = reply.options.mss.filter(|mss| *mss > 0).map_or(default_mss, u64::from);
        let options = if self.timestamps { TIMESTAMPS_LEN } else { 0 };
        // RFC 6691: the announced MSS counts no options.
        let segment = announced.saturating_sub(options).min(self.payload_room()).max(1);
        let mut rtt = RttEstimator::default();
        if let Phase::Handshake { tries: 1, again } = self.phase {
            rtt.sent(0, again - SYN_TIMEOUT);
            rtt.acknowledged(0, now);
        }
        self.sender.establish(segment, u64::from(reply.window), rtt);
        self.receiver = Receiver::new(u64::from(self.options.mss));
        self.receiver.acknowledge_now();
        self.established_at = Some(now);
        self.phase = Phase::Open;
    }

    fn on_open_reply(&mut self, reply: &ReplyHeader, now: Instant) -> Progress {
        let expected = self.irs + 1 + self.receiver.next() as u32;
        let ahead = reply.seq.distance_from(expected);
        if reply.flags.contains(TcpFlags::RST) {
            return self.on_reset(reply, ahead, now);
        }
        if reply.flags.contains(TcpFlags::SYN) {
            // Our acknowledgement of the SYN-ACK was lost, or a SYN out of nowhere (RFC 5961, section 4).
            self.receiver.acknowledge_now();
            return Progress::default();
        }
        if let Some(stamp) = reply.options.timestamps.filter(|_| self.timestamps) {
            if (stamp.value.wrapping_sub(self.recent_timestamp) as i32) < 0 {
                // From before a wrap of the sequence numbers (RFC 7323, section 5.3).
                self.receiver.acknowledge_now();
                return Progress::default();
            }
            if ahead <= 0 {
                self.recent_timestamp = stamp.value;
            }
        }
        if !reply.flags.contains(TcpFlags::ACK) {
            return Progress::default();
        }
        let mut progress = Progress::default();
        if !self.take_acknowledgement(reply, now, &mut progress) {
            return progress;
        }
        self.take_payload(reply, ahead, now, &mut progress);
        self.settle_ending(now);
        progress
    }

    fn on_reset(&mut self, reply: &ReplyHeader, ahead: i32, now: Instant) -> Progress {
        if ahead == 0 {
            let mut progress = Progress { reset: Some(Reset::Established), ..Progress::default() };
            // A kernel whose program goes away says how far it had come; one that knows nothing of the connection does not.
            if reply.flags.contains(TcpFlags::ACK) && self.take_acknowledgement(reply, now, &mut progress) {
                self.last_word = LastWord::Acknowledged;
            }
            self.phase = Phase::Closed;
            return progress;
        }
        if ahead > 0 && ahead as u64 <= u64::from(self.options.window) {
            // In the window but not the next number: ask (RFC 5961, section 3.2).
            self.receiver.acknowledge_now();
        }
        Progress::default()
    }

    /// Returns whether the segment may be looked at further.
    fn take_acknowledgement(&mut self, reply: &ReplyHeader, now: Instant, progress: &mut Progress) -> bool {
        let una = self.sender.acknowledged() + u64::from(self.sender.is_closed());
        let base = self.options.iss + 1 + una as u32;
        let offset = reply.ack.unwrap(base, una);
        if offset < 0 {
            return true;
        }
        let window = u64::from(reply.window) << self.peer_scale;
        let pure = reply.payload_len == 0 && !reply.flags.contains(TcpFlags::FIN);
        let mut sack: SmallVec<[(u64, u64); 4]> = SmallVec::new();
        if self.sack {
            for &(start, end) in reply.options.sack.as_slice() {
                let (start, end) = (start.unwrap(base, una), end.unwrap(base, una));
                if 0 <= start && start < end {
                    sack.push((start as u64, end as u64));
                }
            }
        }
        let purity = if pure { Purity::Pure } else { Purity::Loaded };
        let outcome = self.sender.on_acknowledgement(offset as u64, window, &sack, purity, now);
        if outcome.beyond {
            // Acknowledges what was never sent (RFC 9293, section 3.10.7.4): say where we are, and drop it.
            self.receiver.acknowledge_now();
            return false;
        }
        progress.acknowledged = outcome.bytes;
        if outcome.fin {
            self.fin_wait_until = Some(now + FIN_WAIT);
        }
        true
    }

    fn take_payload(&mut self, reply: &ReplyHeader, ahead: i32, now: Instant, progress: &mut Progress) {
        let finished_before = self.receiver.is_finished();
        let offset = self.receiver.next() as i64 + i64::from(ahead);
        let fin = if reply.flags.contains(TcpFlags::FIN) { Fin::Yes } else { Fin::No };
        let window = u64::from(self.options.window);
        let received = self.receiver.on_segment(offset, u64::from(reply.payload_len), fin, window, now);
        progress.response = received.bytes;
        progress.pushed = received.bytes > 0 && reply.flags.contains(TcpFlags::PSH);
        progress.target_closed = received.fin && !finished_before;
    }

    fn settle_ending(&mut self, now: Instant) {
        if self.sender.is_closed() && self.receiver.is_finished() {
            self.phase = Phase::Lingering { until: now + LINGER, aborted: false };
        }
    }

    fn on_late_reply(&mut self, reply: &ReplyHeader, aborted: bool, now: Instant) {
        if reply.flags.contains(TcpFlags::RST) {
            self.phase = Phase::Closed;
        } else if aborted {
            // The reset did not fit the target's window: send one that does (RFC 9293, section 3.10.7.1).
            self.stray_reset = Some(reply.ack);
        } else if reply.payload_len > 0 || reply.flags.intersects(TcpFlags::FIN.with(TcpFlags::SYN)) {
            // Our last acknowledgement was lost (RFC 9293, section 3.10.7.8).
            self.receiver.acknowledge_now();
            self.phase = Phase::Lingering { until: now + LINGER, aborted: false };
        }
    }

    /// Until when the target may take to acknowledge our FIN with nothing else to acknowledge, or to close after it did.
    fn close_until(&self) -> Option<Instant> {
        let only_fin = self.sender.is_closing() && self.sender.is_drained() && !self.sender.is_closed();
        let unacknowledged = self.sender.waiting_since().filter(|_| only_fin).map(|since| since + FIN_WAIT);
        self.fin_wait_until.or(unacknowledged)
    }

    /// When [`Connection::on_timer`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Handshake { again, .. } => Some(again),
            Phase::Open => {
                let ack = match self.receiver.ack_state() {
                    AckState::Delayed(at) => Some(at),
                    AckState::None | AckState::Now => None,
                };
                [self.sender.deadline(), ack, self.close_until()].into_iter().flatten().min()
            }
            Phase::Lingering { until, .. } => Some(until),
            Phase::Closed => None,
        }
    }

    /// Lets due timers fire.
    pub fn on_timer(&mut self, now: Instant) -> TimerEffect {
        let mut effect = TimerEffect::default();
        match self.phase {
            Phase::Handshake { tries, again } if again <= now && !self.syn_due => {
                if tries >= SYN_TRIES {
                    self.phase = Phase::Closed;
                    effect.handshake_failed = true;
                } else {
                    self.syn_due = true;
                }
            }
            Phase::Open => {
                match self.sender.on_timer(now) {
                    TimerOutcome::Retransmit => effect.retransmit = true,
                    TimerOutcome::Probe => effect.probe = true,
                    TimerOutcome::None => {}
                }
                if self.close_until().is_some_and(|at| at <= now) {
                    self.abort(now);
                }
            }
            Phase::Lingering { until, .. } if until <= now => self.phase = Phase::Closed,
            Phase::Handshake { .. } | Phase::Lingering { .. } | Phase::Closed => {}
        }
        effect
    }

    /// Whether [`Connection::transmit`] would send something now, timers aside.
    pub fn wants_to_send(&self) -> bool {
        self.syn_due
            || self.abort_due
            || self.stray_reset.is_some()
            || self.receiver.ack_state() == AckState::Now
            || self.sender.next_offset() < self.sender.end() + u64::from(self.sender.is_closing())
    }

    /// Emits everything that may be sent now, `limit` segments at most. Returns whether the limit stopped it.
    pub fn transmit(
        &mut self,
        now: Instant,
        limit: usize,
        mut emit: impl FnMut(&OutgoingSegment, [&[u8]; 2], Emitted),
    ) -> Limited {
        if let Some(seq) = self.stray_reset.take() {
            let segment = self.segment(seq, TcpFlags::RST, None, now);
            emit(&segment, [&[], &[]], Emitted::Reset);
        }
        match self.phase {
            Phase::Handshake { .. } => {
                if self.syn_due {
                    self.emit_syn(now, &mut emit);
                }
                Limited::No
            }
            Phase::Open => self.transmit_open(now, limit, &mut emit),
            Phase::Lingering { .. } => {
                if self.abort_due {
                    self.abort_due = false;
                    let seq = self.options.iss + 1 + self.sender.sent() as u32;
                    // A SYN that was not answered has no acknowledgement to give.
                    let ack = self.established_at.map(|_| self.acknowledgement());
                    let segment = self.segment(seq, TcpFlags::RST, ack, now);
                    emit(&segment, [&[], &[]], Emitted::Reset);
                } else if self.receiver.ack_state() == AckState::Now {
                    self.emit_ack(now, &mut emit);
                }
                Limited::No
            }
            Phase::Closed => Limited::No,
        }
    }

    fn transmit_open(
        &mut self,
        now: Instant,
        limit: usize,
        emit: &mut impl FnMut(&OutgoingSegment, [&[u8]; 2], Emitted),
    ) -> Limited {
        for _ in 0..limit {
            let Some(plan) = self.sender.poll(now) else {
                self.sender.settle_timer(now);
                let due = match self.receiver.ack_state() {
                    AckState::Now => true,
                    AckState::Delayed(at) => at <= now,
                    AckState::None => false,
                };
                if due {
                    self.emit_ack(now, emit);
                }
                return Limited::No;
            };
            let mut flags = TcpFlags::ACK;
            if plan.push {
                flags = flags.with(TcpFlags::PSH);
            }
            if plan.fin {
                flags = flags.with(TcpFlags::FIN);
            }
            let start = if plan.probe { plan.offset.wrapping_sub(1) } else { plan.offset };
            let seq = self.options.iss + 1 + start as u32;
            let ack = self.acknowledgement();
            let segment = self.segment(seq, flags, Some(ack), now);
            let kind = match () {
                () if plan.probe => Emitted::Probe,
                () if plan.again => Emitted::Again,
                () => Emitted::Fresh,
            };
            emit(&segment, self.sender.payload(&plan), kind);
            self.receiver.acknowledgement_sent();
        }
        Limited::Yes
    }

    fn emit_syn(&mut self, now: Instant, emit: &mut impl FnMut(&OutgoingSegment, [&[u8]; 2], Emitted)) {
        self.syn_due = false;
        let Phase::Handshake { tries, .. } = self.phase else { return };
        self.phase = Phase::Handshake { tries: tries + 1, again: now + SYN_TIMEOUT * (1 << tries.min(6)) };
        let mut segment = self.segment(self.options.iss, TcpFlags::SYN, None, now);
        segment.window = self.options.window.min(0xffff) as u16;
        segment.options = TcpOptions {
            mss: Some(self.options.mss),
            window_scale: self.options.window_scale,
            sack_permitted: self.options.sack_permitted,
            timestamps: self.options.timestamps.then(|| Timestamps { value: self.timestamp(now), echo: 0 }),
            ..TcpOptions::default()
        };
        emit(&segment, [&[], &[]], Emitted::Syn);
    }

    fn emit_ack(&mut self, now: Instant, emit: &mut impl FnMut(&OutgoingSegment, [&[u8]; 2], Emitted)) {
        let seq = self.options.iss + 1 + self.sender.sent() as u32;
        let ack = self.acknowledgement();
        let mut segment = self.segment(seq, TcpFlags::ACK, Some(ack), now);
        if self.sack {
            let mut blocks = SackBlocks::new();
            let room = if self.timestamps { 3 } else { 4 };
            for (start, end) in self.receiver.early_ranges().take(room) {
                blocks.push(self.irs + 1 + start as u32, self.irs + 1 + end as u32);
            }
            segment.options.sack = blocks;
        }
        emit(&segment, [&[], &[]], Emitted::Ack);
        self.receiver.acknowledgement_sent();
    }

    fn acknowledgement(&self) -> SeqNumber {
        self.irs + 1 + self.receiver.next() as u32
    }

    fn segment(
        &mut self,
        seq: SeqNumber,
        flags: TcpFlags,
        ack: Option<SeqNumber>,
        now: Instant,
    ) -> OutgoingSegment {
        self.identification = self.identification.wrapping_add(1);
        let scale = if self.scaled { self.options.window_scale.unwrap_or(0) } else { 0 };
        let timestamps = (self.timestamps && !flags.contains(TcpFlags::RST))
            .then(|| Timestamps { value: self.timestamp(now), echo: self.recent_timestamp });
        OutgoingSegment {
            flow: self.options.flow,
            seq,
            ack,
            flags: if ack.is_some() { flags.with(TcpFlags::ACK) } else { flags },
            window: (self.options.window >> scale).min(0xffff) as u16,
            options: TcpOptions { timestamps, ..TcpOptions::default() },
            hop_limit: self.options.hop_limit,
            traffic_class: self.options.traffic_class,
            identification: self.identification,
        }
    }
}

/// Whether a limit stopped the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// More could have been sent.
    Yes,
    /// Everything was.
    No,
}
