//! The built-in protocol: passes bytes on, and waits where a real client waited.
//!
//! It sees no message boundaries. What it has is the client's acknowledgements: a segment that acknowledges more of the
//! response than the segment before was sent after reading it. Such a segment starts a new *turn*, and is sent when the target
//! has answered as far. A segment that acknowledges no more than the one before was sent without waiting, and so is it here.
//!
//! The target's responses may be longer or shorter than the original ones. [`Transparent::drift`] is the difference so far; it
//! is settled anew where the response clearly has ended: its last segment carried PSH and nothing followed for a short while.

use super::{ClientEnd, Exchange, Protocol, ProtocolFactory, ResponseBytes};
use crate::counters::EndReason;
use crate::protocol::Origin;
use crate::stream::SegmentInfo;
use crate::tcp::sender::Boundary;
use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// Shortest silence that ends a response: below it, two segments of one response may lie apart by mere scheduling.
const QUIET_MIN: Duration = Duration::from_micros(300);
/// Longest silence needed, however far away the target is.
const QUIET_MAX: Duration = Duration::from_millis(50);
/// How long a client's reset waits for the answer of the last request, once that has arrived.
const RESET_PATIENCE: Duration = Duration::from_secs(1);

/// Whether requests wait for the answers that their clients waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WaitPolicy {
    /// As the client did.
    #[default]
    LikeClient,
    /// Never (`-W`).
    Never,
}

#[derive(Debug)]
struct Turn {
    /// Response bytes that the client had read when it started the turn.
    acknowledged: u64,
    /// Whether the client had read more than at the turn before.
    waits: bool,
    /// Pieces captured so far: length, and whether a write of the client ended there.
    pieces: VecDeque<(u32, bool)>,
    void: bool,
}

/// The built-in protocol's state for one session.
#[derive(Debug)]
pub struct Transparent {
    policy: WaitPolicy,
    held: VecDeque<Turn>,
    /// The turn that captured bytes belong to has been released already.
    tail_released: bool,
    started: bool,
    last_acknowledged: u64,
    /// Target's response bytes minus online response bytes, where both were last known to have ended.
    drift: i64,
    /// The client sent several writes without reading in between: more of a response than expected may then be the answer to
    /// a later one of them.
    pipelines: bool,
    writes_in_turn: u32,
    received_at_release: u64,
    pushed: bool,
    last_response: Option<Instant>,
    end: Option<(ClientEnd, u64, Option<Instant>)>,
    /// After a gap nothing is safe until the client has read something.
    seeking: bool,
}

impl Transparent {
    /// The protocol of a new session.
    pub const fn new(policy: WaitPolicy) -> Self {
        Self {
            policy,
            held: VecDeque::new(),
            tail_released: false,
            started: false,
            last_acknowledged: 0,
            drift: 0,
            pipelines: false,
            writes_in_turn: 0,
            received_at_release: 0,
            pushed: false,
            last_response: None,
            end: None,
            seeking: false,
        }
    }

    fn quiet(exchange: &Exchange<'_>) -> Duration {
        exchange.round_trip().map_or(QUIET_MAX, |rtt| (rtt * 2).clamp(QUIET_MIN, QUIET_MAX))
    }

    /// When a turn that acknowledges `acknowledged` response bytes may go: now, at some moment, or not before more happens.
    fn release_time(&self, acknowledged: u64, exchange: &Exchange<'_>) -> Release {
        let received = exchange.received();
        let expected = (acknowledged as i64 + self.drift).max(0) as u64;
        let silent_since = self.last_response.unwrap_or(exchange.now());
        let quiet = Self::quiet(exchange);
        match received.cmp(&expected) {
            std::cmp::Ordering::Less if received > self.received_at_release && exchange.unanswered() == 0 => {
                // Shorter than the original, if it has ended. Without PSH more is likely to come.
                Release::At(silent_since + if self.pushed { quiet } else { quiet * 8 })
            }
            std::cmp::Ordering::Less => Release::Never,
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater if self.pushed || received == 0 => {
                Release::Now
            }
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => Release::At(silent_since + quiet),
        }
    }

    fn release_held(&mut self, exchange: &mut Exchange<'_>) {
        exchange.set_timer(None);
        while let Some(turn) = self.held.front() {
            if turn.waits && !turn.void && self.policy == WaitPolicy::LikeClient {
                match self.release_time(turn.acknowledged, exchange) {
                    Release::Now => {}
                    Release::At(at) if at <= exchange.now() => {}
                    Release::At(at) => return exchange.set_timer(Some(at)),
                    Release::Never => return,
                }
            }
            let Some(turn) = self.held.pop_front() else { return };
            let received = exchange.received();
            if turn.waits && (!self.pipelines || (received as i64) < turn.acknowledged as i64 + self.drift) {
                self.drift = received as i64 - turn.acknowledged as i64;
            }
            self.received_at_release = received;
            self.tail_released = self.held.is_empty();
            for (len, pushed) in turn.pieces {
                if turn.void {
                    exchange.drop_bytes(len as usize);
                } else {
                    exchange.forward(len as usize, boundary(pushed));
                }
            }
        }
        self.release_end(exchange);
    }

    fn release_end(&mut self, exchange: &mut Exchange<'_>) {
        let Some((end, acknowledged, drained_at)) = self.end else { return };
        let now = exchange.now();
        let release = match end {
            _ if self.policy == WaitPolicy::Never && end == ClientEnd::Finished => Release::Now,
            ClientEnd::Finished if acknowledged <= self.last_acknowledged => Release::Now,
            ClientEnd::Finished
                if exchange.unanswered() == 0 && exchange.received() == self.received_at_release =>
            {
                // Nothing is owed: the client read something that the target does not send.
                Release::Now
            }
            ClientEnd::Finished => self.release_time(acknowledged, exchange),
            // A reset may take away what the target has not read yet: let it answer first, for a while.
            ClientEnd::Reset if !exchange.is_drained() => Release::Never,
            ClientEnd::Reset => {
                let since = drained_at.unwrap_or(now);
                self.end = Some((end, acknowledged, Some(since)));
                if exchange.unanswered() == 0 && self.pushed {
                    Release::At(self.last_response.unwrap_or(since) + Self::quiet(exchange))
                } else if self.started {
                    Release::At(since + RESET_PATIENCE)
                } else {
                    Release::Now
                }
            }
        };
        match release {
            Release::Now => exchange.close(end),
            Release::At(at) if at <= now => exchange.close(end),
            Release::At(at) => exchange.set_timer(Some(at)),
            Release::Never => {}
        }
    }
}

const fn boundary(pushed: bool) -> Boundary {
    if pushed { Boundary::Pushed } else { Boundary::Open }
}

enum Release {
    Now,
    At(Instant),
    Never,
}

impl Protocol for Transparent {
    fn on_request(&mut self, len: usize, info: SegmentInfo, exchange: &mut Exchange<'_>) {
        let reads = info.acknowledged > self.last_acknowledged;
        if !self.started || reads {
            self.seeking = false;
            self.held.push_back(Turn {
                acknowledged: info.acknowledged,
                waits: reads,
                pieces: VecDeque::new(),
                void: false,
            });
            self.tail_released = false;
            self.writes_in_turn = 0;
            self.started = true;
            self.last_acknowledged = info.acknowledged.max(self.last_acknowledged);
            exchange.begin_request(exchange.captured_end() - len as u64);
        } else if self.writes_in_turn > 0 {
            self.pipelines = true;
        }
        self.writes_in_turn += u32::from(info.pushed);
        if self.tail_released {
            if self.seeking {
                exchange.drop_bytes(len);
            } else {
                exchange.forward(len, boundary(info.pushed));
            }
            return;
        }
        if let Some(turn) = self.held.back_mut() {
            turn.pieces.push_back((len as u32, info.pushed));
        }
        if self.held.len() == 1 {
            self.release_held(exchange);
        }
    }

    fn on_response(&mut self, response: ResponseBytes<'_>, exchange: &mut Exchange<'_>) {
        self.last_response = Some(exchange.now());
        self.pushed = response.pushed;
        exchange.answered();
        self.release_held(exchange);
    }

    fn on_acknowledged(&mut self, exchange: &mut Exchange<'_>) {
        if self.held.is_empty() && self.end.is_some() {
            self.release_end(exchange);
        }
    }

    fn on_gap(&mut self, reason: EndReason, exchange: &mut Exchange<'_>) {
        self.seeking = true;
        exchange.give_up_last_request(reason);
        if let Some(turn) = self.held.back_mut() {
            turn.void = true;
        }
    }

    fn on_connection_lost(&mut self, exchange: &mut Exchange<'_>) {
        // The new connection starts with nothing received, and nothing to wait for.
        self.received_at_release = 0;
        self.pushed = false;
        self.last_response = None;
        if let Some(turn) = self.held.front_mut() {
            turn.waits = false;
            self.drift = -(turn.acknowledged as i64);
        } else {
            self.drift = -(self.last_acknowledged as i64);
        }
        self.release_held(exchange);
    }

    fn on_close(&mut self, end: ClientEnd, info: SegmentInfo, exchange: &mut Exchange<'_>) {
        self.end = Some((end, info.acknowledged, None));
        if self.held.is_empty() {
            self.release_end(exchange);
        }
    }

    fn on_timer(&mut self, exchange: &mut Exchange<'_>) {
        self.release_held(exchange);
    }
}

/// Makes [`Transparent`] protocols.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransparentFactory {
    /// Whether their sessions wait.
    pub policy: WaitPolicy,
}

impl ProtocolFactory for TransparentFactory {
    fn create(&mut self, _origin: Origin) -> Box<dyn Protocol> {
        Box::new(Transparent::new(self.policy))
    }
}
