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
use smallvec::SmallVec;
use std::collections::VecDeque;

/// Shortest silence that ends a response: below it, two segments of one response may lie apart by mere scheduling.
const QUIET_MIN: Duration = Duration::from_micros(300);
/// Longest silence needed, however far away the target is.
const QUIET_MAX: Duration = Duration::from_millis(50);
/// How long the target says nothing before a client closes that has had less of an answer than the online server gave.
const END_PATIENCE: Duration = Duration::from_millis(200);
/// How long a client's reset waits for the answer of the last request, once that has arrived.
pub(super) const RESET_PATIENCE: Duration = Duration::from_secs(1);

/// How long a target must be silent before the next request goes, when it is unclear how many of several it has answered.
const UNCLEAR_PATIENCE: Duration = Duration::from_secs(1);

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
    pieces: SmallVec<[(u32, bool); 2]>,
    /// Given up, perhaps before any byte of it was known.
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
    /// Whether any turn was released: before that a server that speaks first is waited for.
    released: bool,
    /// Response bytes that the client had read when it started the turn released last.
    released_acknowledged: u64,
    pushed: bool,
    last_response: Option<Instant>,
    end: Option<(ClientEnd, u64, Option<Instant>)>,
    /// Whether the last captured byte ended a write of the client.
    tail_pushed: bool,
    /// After a gap, and for its reason, nothing is safe until a write begins, right behind one whose end was seen, after the
    /// client has read more.
    seeking: Option<EndReason>,
    /// The next captured byte lies behind a gap.
    behind_gap: bool,
    /// A plugin has stepped aside, and what it decided before goes first.
    goes: Goes,
}

/// Whether turns may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    First,
    BehindDecisions,
}

/// Where a plugin left off that steps aside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Predecessor {
    /// Response bytes that the client had read when it sent the last request that the plugin began.
    pub(super) acknowledged: u64,
    /// The same of the last one released that had waited.
    pub(super) released_acknowledged: u64,
    /// Target's response bytes minus online response bytes.
    pub(super) drift: i64,
    /// Response bytes that had come when the last request was released.
    pub(super) received_at_release: u64,
    /// Whether any request was released.
    pub(super) released: bool,
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
            released: false,
            released_acknowledged: 0,
            pushed: false,
            last_response: None,
            end: None,
            tail_pushed: false,
            seeking: None,
            behind_gap: false,
            goes: Goes::First,
        }
    }

    /// The protocol of a session that goes on without its plugin. Nothing goes before [`Transparent::let_go`].
    pub(super) fn taking_over(policy: WaitPolicy, before: Predecessor, exchange: &Exchange<'_>) -> Self {
        let answered = exchange.received() > before.received_at_release;
        Self {
            last_acknowledged: before.acknowledged,
            released_acknowledged: before.released_acknowledged,
            released: before.released,
            received_at_release: before.received_at_release,
            drift: before.drift,
            last_response: answered.then_some(exchange.now()),
            pushed: true,
            goes: Goes::BehindDecisions,
            ..Self::new(policy)
        }
    }

    /// What is captured next belongs to a request that has begun; with `void`, to one that was given up for that reason.
    pub(super) fn continue_request(&mut self, void: Option<EndReason>) {
        let acknowledged = self.last_acknowledged;
        let void_turn = void.is_some();
        self.held.push_back(Turn { acknowledged, waits: false, pieces: SmallVec::new(), void: void_turn });
        self.started = true;
        self.seeking = void;
    }

    /// What was decided before has gone.
    pub(super) fn let_go(&mut self, exchange: &mut Exchange<'_>) {
        if self.goes == Goes::BehindDecisions {
            self.goes = Goes::First;
            self.release_held(exchange);
        }
    }

    /// A request decided before, of a client that had read `acknowledged` response bytes, goes after it has waited.
    pub(super) const fn note_release(&mut self, acknowledged: u64, received: u64) {
        if !self.pipelines || (received as i64) < acknowledged as i64 + self.drift {
            self.drift = received as i64 - acknowledged as i64;
        }
        self.released = true;
        self.released_acknowledged = acknowledged;
    }

    /// A request that is answered has gone now that `received` response bytes have come.
    pub(super) const fn note_sent(&mut self, received: u64) {
        self.received_at_release = received;
    }

    fn quiet(exchange: &Exchange<'_>) -> Duration {
        exchange.round_trip().map_or(QUIET_MAX, |rtt| (rtt * 2).clamp(QUIET_MIN, QUIET_MAX))
    }

    /// When a turn that acknowledges `acknowledged` response bytes may go: now, at some moment, or not before more happens.
    pub(super) fn release_time(&self, acknowledged: u64, exchange: &Exchange<'_>) -> Release {
        let received = exchange.received();
        let expected = (acknowledged as i64 + self.drift).max(0) as u64;
        let silent_since = self.last_response.unwrap_or(exchange.now());
        let quiet = Self::quiet(exchange);
        match received.cmp(&expected) {
            std::cmp::Ordering::Less if exchange.unanswered() == 0 && self.expects_no_greeting(received) => {
                match self.last_response {
                    // Shorter than the original, if it has ended. Without PSH more is likely to come.
                    Some(at) => Release::At(at + if self.pushed { quiet } else { quiet * 8 }),
                    // What the client waited for was given up, or belongs to a connection that is gone.
                    None => Release::Now,
                }
            }
            // Several requests are on their way, and less came back than they are known to have been answered with: perhaps one
            // reply answered more than one of them.
            std::cmp::Ordering::Less if received > self.received_at_release && exchange.is_drained() => {
                Release::At(silent_since + UNCLEAR_PATIENCE)
            }
            std::cmp::Ordering::Less => Release::Never,
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater if self.pushed || received == 0 => {
                Release::Now
            }
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => Release::At(silent_since + quiet),
        }
    }

    /// Whether a server that speaks first has spoken, or what was sent shows that it is none.
    const fn expects_no_greeting(&self, received: u64) -> bool {
        self.released || received > 0
    }

    /// Whether a request begins with a segment of a client that has read `acknowledged` response bytes.
    const fn begins(&self, acknowledged: u64) -> bool {
        let reads = acknowledged > self.last_acknowledged;
        match self.seeking {
            Some(_) => reads && self.tail_pushed && !self.behind_gap,
            None => reads || !self.started,
        }
    }

    /// Starts a turn, whose first byte is the captured one at `offset`, of a client that had read `acknowledged` bytes.
    fn begin_turn(&mut self, acknowledged: u64, offset: u64, exchange: &mut Exchange<'_>) {
        let waits = acknowledged > self.last_acknowledged;
        self.held.push_back(Turn { acknowledged, waits, pieces: SmallVec::new(), void: false });
        self.seeking = None;
        self.tail_released = false;
        self.writes_in_turn = 0;
        self.started = true;
        self.last_acknowledged = acknowledged.max(self.last_acknowledged);
        exchange.begin_request(offset);
    }

    fn release_held(&mut self, exchange: &mut Exchange<'_>) {
        if self.goes == Goes::BehindDecisions {
            return;
        }
        exchange.set_timer(None);
        while let Some(turn) = self.held.front() {
            let void = turn.void || exchange.next_is_given_up();
            if turn.waits && !void && self.policy == WaitPolicy::LikeClient {
                match self.release_time(turn.acknowledged, exchange) {
                    Release::Now => {}
                    Release::At(at) if at <= exchange.now() => {}
                    Release::At(at) => return exchange.set_timer(Some(at)),
                    Release::Never => return,
                }
            }
            let Some(turn) = self.held.pop_front() else { return };
            self.tail_released = self.held.is_empty();
            if void {
                // The target never sees it: whoever comes next waits for the answers of what it does see.
                self.released = true;
                turn.pieces.iter().for_each(|(len, _)| exchange.drop_bytes(*len as usize));
                continue;
            }
            self.settle_drift(&turn, exchange.received());
            turn.pieces.iter().for_each(|(len, pushed)| exchange.forward(*len as usize, boundary(*pushed)));
        }
        self.release_end(exchange);
    }

    /// Notes that `turn` goes now that `received` response bytes have come.
    fn settle_drift(&mut self, turn: &Turn, received: u64) {
        if turn.waits {
            self.note_release(turn.acknowledged, received);
        }
        self.note_sent(received);
        self.released = true;
        self.released_acknowledged = turn.acknowledged;
    }

    fn release_end(&mut self, exchange: &mut Exchange<'_>) {
        let Some((end, acknowledged, drained_at)) = self.end else { return };
        if self.goes == Goes::BehindDecisions {
            return;
        }
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
            ClientEnd::Finished => match self.release_time(acknowledged, exchange) {
                // Servers drop what they have not sent yet when a client closes. A request that goes too early only waits at the
                // target; an end that does takes the rest of the answer away.
                Release::At(at) => Release::At(at.max(self.last_response.unwrap_or(now) + END_PATIENCE)),
                release => release,
            },
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

/// How a piece ends of which `pushed` says whether a write of the client ended there.
pub(super) const fn boundary(pushed: bool) -> Boundary {
    if pushed { Boundary::Pushed } else { Boundary::Open }
}

/// When something may go.
pub(super) enum Release {
    Now,
    At(Instant),
    Never,
}

impl Transparent {
    /// Takes `len` captured bytes that begin at `start` of the captured stream.
    pub(super) fn take(&mut self, start: u64, len: usize, info: SegmentInfo, exchange: &mut Exchange<'_>) {
        let begins = self.begins(info.acknowledged);
        self.behind_gap = false;
        self.tail_pushed = info.pushed;
        if begins {
            self.begin_turn(info.acknowledged, start, exchange);
        } else if self.writes_in_turn > 0 && self.seeking.is_none() {
            self.pipelines = true;
        }
        self.last_acknowledged = info.acknowledged.max(self.last_acknowledged);
        self.writes_in_turn += u32::from(info.pushed);
        if self.tail_released {
            let Some(reason) = self.seeking else { return exchange.forward(len, boundary(info.pushed)) };
            if !exchange.last_is_given_up() {
                // The request before the gap was complete; this is of one whose beginning is missing.
                exchange.begin_request(start);
                exchange.give_up_last_request(reason);
            }
            return exchange.drop_bytes(len);
        }
        if let Some(turn) = self.held.back_mut() {
            turn.pieces.push((len as u32, info.pushed));
        }
        if self.held.len() == 1 {
            self.release_held(exchange);
        }
    }

    /// Bytes are missing at `at` of the captured stream, for `reason`.
    pub(super) fn take_gap(&mut self, at: u64, reason: EndReason, exchange: &mut Exchange<'_>) {
        if self.held.is_empty() && self.goes == Goes::BehindDecisions {
            // The plugin's last request was complete: nobody knows how many are missing, and it counts as one.
            self.begin_turn(self.last_acknowledged, at, exchange);
        }
        self.seeking = Some(reason);
        self.behind_gap = true;
        self.started = true;
        // What the client read may have answered what is missing: it is owed by nobody.
        self.released = true;
        if let Some(turn) = self.held.back_mut() {
            turn.void = true;
        } else {
            self.tail_released = true;
            if self.tail_pushed && exchange.is_last_request_answered() || exchange.has_no_request() {
                // What is missing belongs to another request. Nobody knows to how many: it counts as one.
                exchange.begin_request(at);
            }
        }
        exchange.give_up_last_request(reason);
        self.release_held(exchange);
    }
}

impl Protocol for Transparent {
    fn on_request(&mut self, len: usize, info: SegmentInfo, exchange: &mut Exchange<'_>) {
        self.take(exchange.captured_end() - len as u64, len, info, exchange);
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

    fn on_cut(&mut self, info: SegmentInfo, reason: EndReason, exchange: &mut Exchange<'_>) {
        if self.begins(info.acknowledged) {
            self.begin_turn(info.acknowledged, exchange.captured_end(), exchange);
        }
        self.on_gap(reason, exchange);
        // Where the segment ended is known, so what follows begins where it seems to.
        self.behind_gap = false;
        self.tail_pushed = info.pushed;
    }

    fn on_gap(&mut self, reason: EndReason, exchange: &mut Exchange<'_>) {
        self.take_gap(exchange.captured_end(), reason, exchange);
    }

    fn on_connection_lost(&mut self, exchange: &mut Exchange<'_>) {
        // The new connection starts with nothing received, and owes the answers of what was put back at most.
        self.received_at_release = 0;
        self.pushed = false;
        self.last_response = None;
        self.drift = -(self.released_acknowledged as i64);
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

    fn held_bytes(&self) -> usize {
        self.held.capacity() * size_of::<Turn>()
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
