//! A connection to the target: handshake, data both ways, and every way of ending (RFC 9293, section 3.10).

mod output;
mod replies;

use super::receiver::{AckState, Receiver};
use super::rtt::RttEstimator;
use super::sender::{Boundary, Sender, TimerOutcome};
use crate::flow::FlowKey;
use crate::seq::SeqNumber;
use crate::time::{Duration, Instant};
use crate::wire::tcp::{TcpFlags, TcpOptions, TcpSegment};

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
    /// Sequence number of the segment that told the window last.
    window_seq: SeqNumber,
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
            window_seq: SeqNumber(0),
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
}

/// Whether a limit stopped the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// More could have been sent.
    Yes,
    /// Everything was.
    No,
}
