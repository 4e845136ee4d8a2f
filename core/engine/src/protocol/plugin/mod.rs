//! A session whose protocol is a plugin.
//!
//! What happens to the session is queued for the plugin ([`crate::plugin`]), which is called once a turn with all that
//! gathered. Its actions come back here: this module keeps them to the rules of the interface, puts them in their places in the
//! captured stream, and releases requests in the order and at the moments in which the client sent them ([`sequencer`]).

mod sequencer;

use super::outbox::Gate;
use super::transparent::{RESET_PATIENCE, boundary};
use super::{
    Bodies, ClientEnd, Exchange, Opening, Origin, PluginPlace, Protocol, ResponseBytes, Transparent,
    WaitPolicy,
};
use crate::counters::EndReason;
use crate::plugin::{Input, Inputs, Output, Place, Reply, SessionId, Span, Without};
use crate::stream::SegmentInfo;
use crate::tcp::sender::Boundary;
use crate::time::{Duration, Instant};
use sequencer::{Sequencer, Wait};
use std::collections::VecDeque;

/// How long bytes that the plugin can't decide about wait for more when the client has closed.
const INCOMPLETE_PATIENCE: Duration = Duration::from_secs(1);

const OUTSIDE: &str = "a span outside of its bytes";

/// A decision on its way to the connection.
#[derive(Debug)]
enum Piece {
    /// A request begins, in the captured stream at this offset; one that the plugin makes up is at none.
    Begin {
        start: Option<u64>,
        wait: Option<Wait>,
    },
    Forward(u32),
    Discard(u32),
    Send(Box<[u8]>),
    End(Reply),
    /// The request under way was given up.
    Abandon,
    PassThrough,
    Close,
}

/// A request that the plugin has begun and not ended.
#[derive(Clone, Copy, Debug)]
struct Request {
    start: Option<u64>,
}

/// The request that is being released.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    start: Option<u64>,
    /// Whether anything of it went to the connection, or was left out.
    touched: bool,
}

/// Whether events wait for the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queued {
    Nothing,
    Something,
}

/// Whether the host gave up what the plugin had not decided about when the client closed. Decisions come too late then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Abandoned {
    No,
    Yes,
}

/// One session's side of a plugin.
#[derive(Debug)]
pub(crate) struct PluginProtocol {
    place: Place,
    session: SessionId,
    policy: WaitPolicy,
    opening: Opening,
    inputs: Inputs,
    allowed: Inputs,
    queued: Queued,
    /// Offset in the captured stream up to which the plugin has decided.
    position: u64,
    request: Option<Request>,
    /// Whether the request that the next undecided byte belongs to was begun.
    begun: bool,
    queue: VecDeque<Piece>,
    /// Bytes of the plugin in the queue.
    queued_bytes: usize,
    head: Head,
    sequencer: Sequencer,
    /// Ends of captured segments, and whether writes of the client ended there.
    marks: VecDeque<(u64, bool)>,
    /// Where bytes are missing, and why.
    gaps: VecDeque<(u64, EndReason)>,
    /// What is discarded belongs to a request that can't be completed, for this reason, until something is not discarded.
    seeking: Option<EndReason>,
    end: Option<(ClientEnd, SegmentInfo, Option<Instant>)>,
    abandoned: Abandoned,
    plugin_timer: Option<Instant>,
    own_timer: Option<Instant>,
    /// Takes over when the plugin passes.
    transparent: Option<Transparent>,
}

impl PluginProtocol {
    /// The protocol of session `session`, whose events go to `place`. The plugin is told of it.
    pub(crate) fn new(
        place: Place,
        session: SessionId,
        policy: WaitPolicy,
        opening: Opening,
        at: u64,
        exchange: &mut Exchange<'_>,
    ) -> Self {
        let inputs = exchange.hub.inputs(place.plugin);
        exchange.hub.push_opening(place, session, Some(at), opening);
        let protocol = Self {
            place,
            session,
            policy,
            opening,
            inputs,
            allowed: inputs,
            queued: Queued::Something,
            position: 0,
            request: None,
            begun: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            head: Head::default(),
            sequencer: Sequencer::default(),
            marks: VecDeque::new(),
            gaps: VecDeque::new(),
            seeking: (opening.origin != Origin::Start).then_some(EndReason::MidStream),
            end: None,
            abandoned: Abandoned::No,
            plugin_timer: None,
            own_timer: None,
            transparent: None,
        };
        protocol.close_gate(exchange);
        protocol
    }

    fn tell(&mut self, input: Input, at: Option<u64>, exchange: &mut Exchange<'_>) {
        self.queued = Queued::Something;
        exchange.hub.push(self.place, self.session, at, input);
    }

    fn tell_bytes(
        &mut self,
        bytes: &[u8],
        at: Option<u64>,
        input: fn(Span) -> Input,
        exchange: &mut Exchange<'_>,
    ) {
        self.queued = Queued::Something;
        exchange.hub.push_bytes(self.place, self.session, at, [bytes, &[]], input);
    }

    /// Tells the plugin of the last `len` captured bytes.
    fn tell_request(&mut self, len: usize, at: Option<u64>, exchange: &mut Exchange<'_>) {
        self.queued = Queued::Something;
        let Exchange { outbox, hub, .. } = exchange;
        hub.push_bytes(self.place, self.session, at, outbox.last_pending(len), Input::Request);
    }

    /// A connection is to be prepared before requests go out on it, if the plugin asked for that.
    fn close_gate(&self, exchange: &mut Exchange<'_>) {
        if self.allowed.contains(Inputs::CONNECTIONS) {
            exchange.set_gate(Gate::Closed);
        }
    }

    fn undecided(&self, exchange: &Exchange<'_>) -> u64 {
        exchange.captured_end() - self.position
    }

    /// Applies one action of the plugin; its spans refer to `bytes`.
    fn act(&mut self, output: Output, bytes: &[u8], exchange: &mut Exchange<'_>) {
        match output {
            Output::Forward(n) => self.decide(n, Decision::Forward, exchange),
            Output::Discard(n) => self.decide(n, Decision::Discard, exchange),
            Output::Send(span) => match span.of(bytes) {
                Some(bytes) => self.send(bytes, exchange),
                None => self.violate(OUTSIDE, exchange),
            },
            Output::Prepare(span) => match span.of(bytes) {
                Some(bytes) if exchange.gate() == Gate::Closed => {
                    exchange.send(None, bytes, Boundary::Pushed)
                }
                Some(_) => self.violate("bytes to prepare a connection that is ready", exchange),
                None => self.violate(OUTSIDE, exchange),
            },
            Output::EndRequest(reply) => self.end_request(reply, exchange),
            Output::ReplyComplete => {
                if let Some(Some(_)) = self.sequencer.reply_complete() {
                    exchange.answered();
                }
            }
            Output::Ready => {
                self.sequencer.note_ready(exchange.received());
                exchange.set_gate(Gate::Open);
            }
            Output::Reconnect => exchange.reconnect(),
            Output::Close => self.queue.push_back(Piece::Close),
            Output::GiveUp(_) => exchange.give_up(EndReason::Protocol),
            Output::PassThrough => self.queue.push_back(Piece::PassThrough),
            // For those who look at the plugin's decisions themselves; a replay has no use for it.
            Output::Observe(_) => {}
            Output::SetTimer(nanos) => {
                self.plugin_timer = Some(exchange.now() + Duration::from_nanos(nanos));
                self.set_timers(exchange);
            }
            Output::ClearTimer => {
                self.plugin_timer = None;
                self.set_timers(exchange);
            }
            Output::Want(inputs) => {
                self.inputs = inputs.intersection(self.allowed);
                exchange.note_inputs_changed();
            }
        }
    }

    /// Whether `output` is about bytes that were given up meanwhile.
    fn comes_too_late(&self, output: Output) -> bool {
        self.abandoned == Abandoned::Yes
            && matches!(
                output,
                Output::Forward(_) | Output::Discard(_) | Output::Send(_) | Output::EndRequest(_)
            )
    }

    fn violate(&mut self, what: &'static str, exchange: &mut Exchange<'_>) {
        exchange.hub.note_violation(self.place, self.session, what);
        exchange.give_up(EndReason::PluginFault);
    }

    /// Begins a request at the present position, if none is under way.
    fn begin(&mut self, exchange: &mut Exchange<'_>) {
        if self.request.is_some() {
            return;
        }
        self.seeking = None;
        if !self.begun && self.undecided(exchange) > 0 {
            exchange.begin_request(self.position);
            self.begun = true;
        }
        let start = self.begun.then_some(self.position);
        let wait = self.sequencer.begin(self.position);
        self.request = Some(Request { start });
        self.queue.push_back(Piece::Begin { start, wait });
    }

    fn decide(&mut self, n: u32, decision: Decision, exchange: &mut Exchange<'_>) {
        let mut left = u64::from(n);
        if left > self.undecided(exchange) {
            return self.violate("a decision about more bytes than were captured", exchange);
        }
        while left > 0 {
            let gap = self.gaps.front().map(|(at, _)| *at);
            if gap == Some(self.position) {
                self.pass_gap(exchange);
                continue;
            }
            let piece = gap.map_or(left, |at| left.min(at - self.position));
            if piece < left && decision == Decision::Forward {
                return self.violate("a decision to send what lies on both sides of missing bytes", exchange);
            }
            match decision {
                Decision::Forward => {
                    self.begin(exchange);
                    self.queue.push_back(Piece::Forward(piece as u32));
                }
                Decision::Discard => {
                    self.begin_discarding(exchange);
                    self.queue.push_back(Piece::Discard(piece as u32));
                }
            }
            self.position += piece;
            left -= piece;
        }
    }

    /// What is discarded while the plugin looks for a request counts as the rest of one that can't be replayed.
    fn begin_discarding(&mut self, exchange: &mut Exchange<'_>) {
        let Some(reason) = self.seeking else { return self.begin(exchange) };
        if exchange.has_no_request() {
            exchange.begin_request(self.position);
            exchange.give_up_last_request(reason);
        }
    }

    fn send(&mut self, bytes: &[u8], exchange: &mut Exchange<'_>) {
        self.cross_gap(exchange);
        self.begin(exchange);
        self.queued_bytes += bytes.len();
        self.queue.push_back(Piece::Send(bytes.into()));
    }

    fn end_request(&mut self, reply: Reply, exchange: &mut Exchange<'_>) {
        if self.request.take().is_none() {
            // One of no bytes; or what was discarded to get to a place where a request surely begins.
            self.seeking = None;
            return self.begin_eagerly(exchange);
        }
        self.begun = false;
        self.sequencer.end(self.position);
        self.queue.push_back(Piece::End(reply));
        self.begin_eagerly(exchange);
    }

    /// Counts the request that undecided bytes belong to as captured, where it is sure that they begin one.
    fn begin_eagerly(&mut self, exchange: &mut Exchange<'_>) {
        let at_gap = self.gaps.front().is_some_and(|(at, _)| *at == self.position);
        if self.request.is_none()
            && !self.begun
            && self.seeking.is_none()
            && !at_gap
            && self.undecided(exchange) > 0
        {
            exchange.begin_request(self.position);
            self.begun = true;
        }
    }

    /// Passes a gap at the present position, because what follows is behind it.
    fn cross_gap(&mut self, exchange: &mut Exchange<'_>) {
        while self.gaps.front().is_some_and(|(at, _)| *at == self.position) {
            self.pass_gap(exchange);
        }
    }

    /// The request under way, or if none is, the one that is missing, can't be completed.
    fn pass_gap(&mut self, exchange: &mut Exchange<'_>) {
        let Some((_, reason)) = self.gaps.pop_front() else { return };
        let under_way = self.request.take().is_some();
        if !self.begun && self.seeking.is_none() {
            // Nobody knows how many requests are missing: it counts as one.
            exchange.begin_request(self.position);
        }
        exchange.give_up_last_request(reason);
        if under_way {
            self.queue.push_back(Piece::Abandon);
        }
        self.begun = false;
        self.seeking = Some(reason);
    }

    /// Everything that was told has been answered.
    fn after_run(&mut self, exchange: &mut Exchange<'_>) {
        self.queued = Queued::Nothing;
        while let Some((at, _)) = self.gaps.front() {
            if *at > self.position {
                return self.violate("bytes before missing ones that were not discarded", exchange);
            }
            self.pass_gap(exchange);
        }
        self.begin_eagerly(exchange);
        self.release(exchange);
    }

    /// Lets go what may go.
    fn release(&mut self, exchange: &mut Exchange<'_>) {
        while let Some(piece) = self.queue.front() {
            if let Piece::Begin { start, wait } = piece {
                let (start, wait) = (*start, *wait);
                let void = start.is_some_and(|start| exchange.is_given_up(start));
                if let Some(wait) = wait
                    && !void
                    && self.policy == WaitPolicy::LikeClient
                {
                    if !self.sequencer.may_go(wait, exchange.received()) {
                        break;
                    }
                    self.sequencer.note_release(wait, exchange.received());
                }
                self.head = Head { start, touched: false };
                self.queue.pop_front();
                continue;
            }
            match self.queue.pop_front() {
                Some(Piece::Forward(n)) => self.forward(n, exchange),
                Some(Piece::Discard(n)) => {
                    self.head.touched = true;
                    exchange.drop_bytes(n as usize);
                }
                Some(Piece::Send(bytes)) => {
                    self.queued_bytes -= bytes.len();
                    self.head.touched = true;
                    exchange.send(self.head.start, &bytes, Boundary::Pushed);
                }
                Some(Piece::End(reply)) => self.complete(reply, exchange),
                Some(Piece::Close) => exchange.close(ClientEnd::Finished),
                Some(Piece::PassThrough) => return self.pass_through(exchange),
                Some(Piece::Abandon) => self.head = Head::default(),
                Some(Piece::Begin { .. }) | None => {}
            }
        }
        self.forget_marks(exchange);
        self.release_end(exchange);
    }

    fn complete(&mut self, reply: Reply, exchange: &mut Exchange<'_>) {
        let start = std::mem::take(&mut self.head).start;
        let void = start.is_some_and(|start| exchange.is_given_up(start));
        let reply = if void { Reply::NotExpected } else { reply };
        if let Some(start) = start
            && reply == Reply::NotExpected
        {
            exchange.expect_no_answer(start);
        }
        if self.sequencer.complete(start, reply) {
            exchange.answered();
        }
    }

    /// Forwards bytes in the client's own pieces.
    fn forward(&mut self, n: u32, exchange: &mut Exchange<'_>) {
        self.head.touched = true;
        let mut left = u64::from(n);
        while left > 0 {
            self.forget_marks(exchange);
            let (piece, end) = match self.marks.front() {
                Some((end, pushed)) if end - exchange.decided() <= left => {
                    (end - exchange.decided(), boundary(*pushed))
                }
                _ => (left, Boundary::Open),
            };
            exchange.forward(piece as usize, end);
            left -= piece;
        }
    }

    fn forget_marks(&mut self, exchange: &Exchange<'_>) {
        let decided = exchange.decided();
        while self.marks.pop_front_if(|(end, _)| *end <= decided).is_some() {}
    }

    /// Ends the session's connection as the client did, when that is due.
    fn release_end(&mut self, exchange: &mut Exchange<'_>) {
        let Some((end, info, since)) = self.end else { return };
        if self.queued == Queued::Something || !self.queue.is_empty() {
            return;
        }
        let now = exchange.now();
        let since = *self.end.get_or_insert((end, info, since)).2.get_or_insert(now);
        if self.undecided(exchange) > 0 || self.request.is_some() {
            let unprepared = exchange.gate() == Gate::Closed && !exchange.next_is_given_up();
            if self.plugin_timer.is_some() || self.sequencer.is_any_due() || unprepared {
                // The plugin may know what to do with it yet.
                return;
            }
            if since + INCOMPLETE_PATIENCE > now {
                self.own_timer = Some(since + INCOMPLETE_PATIENCE);
                return self.set_timers(exchange);
            }
            if exchange.has_no_request() {
                exchange.begin_request(self.position);
            }
            exchange.give_up_last_request(EndReason::Incomplete);
            exchange.drop_bytes(self.undecided(exchange) as usize);
            self.position = exchange.captured_end();
            self.request = None;
            self.abandoned = Abandoned::Yes;
        }
        let is_due = self.sequencer.is_any_due() && self.policy == WaitPolicy::LikeClient;
        let go = match end {
            // A client that closes without having read more does not wait for replies.
            ClientEnd::Finished => !is_due || info.acknowledged <= self.sequencer.acknowledged(),
            ClientEnd::Reset => exchange.is_drained() && (!is_due || since + RESET_PATIENCE <= now),
        };
        if go {
            exchange.close(end);
        } else if end == ClientEnd::Reset && since + RESET_PATIENCE > now {
            self.own_timer = Some(since + RESET_PATIENCE);
            self.set_timers(exchange);
        }
    }

    fn clear_queue(&mut self) {
        self.queue.clear();
        self.queued_bytes = 0;
    }

    fn set_timers(&self, exchange: &mut Exchange<'_>) {
        exchange.set_timer([self.plugin_timer, self.own_timer].into_iter().flatten().min());
    }

    /// Steps aside: what is undecided, and what follows, is replayed as with no plugin.
    fn pass_through(&mut self, exchange: &mut Exchange<'_>) {
        if !self.gaps.is_empty() || !exchange.forget_undecided(exchange.decided()) {
            return exchange.give_up(self.gaps.front().map_or(EndReason::Protocol, |(_, reason)| *reason));
        }
        self.clear_queue();
        self.request = None;
        self.begun = false;
        self.plugin_timer = None;
        self.own_timer = None;
        self.inputs = Inputs::NONE;
        exchange.hub.push(self.place, self.session, None, Input::Ended);
        exchange.set_timer(None);
        exchange.set_gate(Gate::Open);
        exchange.note_inputs_changed();
        let acknowledged = self.sequencer.acknowledged();
        let mut transparent = Transparent::taking_over(self.policy, acknowledged, exchange);
        let decided = exchange.decided();
        let undecided = exchange.captured_end() - decided;
        self.position = exchange.captured_end();
        if undecided > 0 {
            let pushed = self.marks.back().is_some_and(|(_, pushed)| *pushed);
            let info = SegmentInfo { acknowledged, pushed, captured_at_nanos: 0 };
            transparent.on_request(undecided as usize, info, exchange);
        }
        if let Some((end, info, _)) = self.end {
            transparent.on_close(end, info, exchange);
        }
        self.transparent = Some(transparent);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Decision {
    Forward,
    Discard,
}

impl Protocol for PluginProtocol {
    fn bodies(&self) -> Bodies {
        if self.inputs.contains(Inputs::RESPONSES) { Bodies::Needed } else { Bodies::NotNeeded }
    }

    fn on_request(&mut self, len: usize, info: SegmentInfo, exchange: &mut Exchange<'_>) {
        if let Some(transparent) = &mut self.transparent {
            return transparent.on_request(len, info, exchange);
        }
        let end = exchange.captured_end();
        let start = end - len as u64;
        self.sequencer.note_segment(start, info.acknowledged);
        self.marks.push_back((end, info.pushed));
        if self.gaps.is_empty() && start == self.position {
            self.begin_eagerly(exchange);
        }
        self.tell_request(len, Some(info.captured_at_nanos), exchange);
    }

    fn on_response(&mut self, response: ResponseBytes<'_>, exchange: &mut Exchange<'_>) {
        if let Some(transparent) = &mut self.transparent {
            return transparent.on_response(response, exchange);
        }
        if !self.inputs.contains(Inputs::RESPONSES) {
            return;
        }
        if (response.body.len() as u64) < response.len {
            // Without them nobody knows where the next reply begins.
            return exchange.break_connection(EndReason::CaptureTruncated);
        }
        self.tell_bytes(response.body, None, Input::Response, exchange);
    }

    fn on_response_end(&mut self, exchange: &mut Exchange<'_>) {
        if self.transparent.is_none() && self.inputs.contains(Inputs::RESPONSES) {
            self.tell(Input::ResponseEnd, None, exchange);
        }
    }

    fn on_reference(&mut self, bytes: &[u8], at: u64, exchange: &mut Exchange<'_>) {
        if self.transparent.is_none() && self.inputs.contains(Inputs::REFERENCES) {
            self.tell_bytes(bytes, Some(at), Input::Reference, exchange);
        }
    }

    fn wants_references(&self) -> bool {
        self.transparent.is_none() && self.inputs.contains(Inputs::REFERENCES)
    }

    fn on_connected(&mut self, exchange: &mut Exchange<'_>) {
        if self.transparent.is_none() && self.allowed.contains(Inputs::CONNECTIONS) {
            self.tell(Input::Connected, None, exchange);
        }
    }

    fn on_acknowledged(&mut self, exchange: &mut Exchange<'_>) {
        if let Some(transparent) = &mut self.transparent {
            return transparent.on_acknowledged(exchange);
        }
        if self.end.is_some() {
            self.release_end(exchange);
        }
    }

    fn on_gap(&mut self, reason: EndReason, exchange: &mut Exchange<'_>) {
        if let Some(transparent) = &mut self.transparent {
            return transparent.on_gap(reason, exchange);
        }
        self.gaps.push_back((exchange.captured_end(), reason));
        self.tell(Input::Gap, None, exchange);
    }

    fn on_cut(&mut self, info: SegmentInfo, reason: EndReason, exchange: &mut Exchange<'_>) {
        match &mut self.transparent {
            Some(transparent) => transparent.on_cut(info, reason, exchange),
            None => self.on_gap(reason, exchange),
        }
    }

    fn on_connection_lost(&mut self, exchange: &mut Exchange<'_>) {
        if let Some(transparent) = &mut self.transparent {
            return transparent.on_connection_lost(exchange);
        }
        let (mut unanswered, mut kept) = self.sequencer.connection_lost(|start| exchange.is_open(start));
        // Those that are decided and not released are kept too, unless they were given up with the others.
        let mut begins = None;
        for piece in &self.queue {
            match piece {
                Piece::Begin { start, .. } => begins = Some(*start),
                Piece::End(Reply::Expected) => {
                    let start = begins.take().unwrap_or(self.head.start);
                    if start.is_none_or(|start| exchange.is_open(start)) {
                        kept += 1;
                    } else {
                        unanswered += 1;
                    }
                }
                _ => {}
            }
        }
        let under_way = match self.request {
            Some(request) => request.start,
            None => self.begun.then_some(self.position),
        };
        let interrupted = under_way.is_some_and(|start| exchange.is_given_up(start));
        self.close_gate(exchange);
        let untouched = interrupted && self.request.is_none() && self.allowed.contains(Inputs::CONNECTIONS);
        let interrupted = interrupted && !untouched;
        self.tell(Input::ConnectionLost { unanswered, kept, interrupted }, None, exchange);
        if untouched {
            // What was given up with it may be many requests. The plugin has to find the next one behind them by itself, or
            // nothing would ever ask for a connection again.
            let reason = exchange.given_up_reason(self.position).unwrap_or(EndReason::Protocol);
            self.gaps.push_back((exchange.captured_end(), reason));
            self.tell(Input::Gap, None, exchange);
        }
        self.release(exchange);
    }

    fn on_close(&mut self, end: ClientEnd, info: SegmentInfo, exchange: &mut Exchange<'_>) {
        if let Some(transparent) = &mut self.transparent {
            return transparent.on_close(end, info, exchange);
        }
        self.end = Some((end, info, None));
        if self.inputs.contains(Inputs::CLOSES) {
            self.tell(Input::ClientClosed(end), Some(info.captured_at_nanos), exchange);
        }
        self.release_end(exchange);
    }

    fn on_timer(&mut self, exchange: &mut Exchange<'_>) {
        if let Some(transparent) = &mut self.transparent {
            return transparent.on_timer(exchange);
        }
        let now = exchange.now();
        if self.plugin_timer.take_if(|at| *at <= now).is_some() {
            self.tell(Input::Timer, None, exchange);
        }
        self.own_timer.take_if(|at| *at <= now);
        self.set_timers(exchange);
        self.release(exchange);
    }

    fn on_end(&mut self, exchange: &mut Exchange<'_>) {
        if self.transparent.is_none() {
            exchange.hub.push(self.place, self.session, None, Input::Ended);
        }
    }

    fn on_plugin_run(
        &mut self,
        outputs: &mut dyn Iterator<Item = Output>,
        bytes: &[u8],
        exchange: &mut Exchange<'_>,
    ) {
        if self.transparent.is_some() {
            return;
        }
        for output in outputs {
            if self.comes_too_late(output) {
                continue;
            }
            self.act(output, bytes, exchange);
            if exchange.outbox.is_given_up() {
                return;
            }
        }
        self.after_run(exchange);
    }

    fn waits_for_plugin(&self) -> bool {
        self.transparent.is_none() && self.queued == Queued::Something
    }

    fn plugin_place(&self) -> Option<PluginPlace> {
        self.transparent.is_none().then_some(PluginPlace { place: self.place, session: self.session })
    }

    fn rejoin(&mut self, exchange: &mut Exchange<'_>) {
        let reason = EndReason::PluginFault;
        let waited = self.queue.iter().rev().filter_map(|piece| match piece {
            Piece::Begin { start: Some(start), wait: Some(wait) } => Some((*start, *wait)),
            _ => None,
        });
        self.sequencer.restart(waited);
        self.clear_queue();
        let decided = exchange.decided();
        if !self.gaps.is_empty() || !exchange.forget_undecided(decided) {
            // What of the undecided bytes is still good, only the lost instance could have told.
            return exchange.give_up(reason);
        }
        self.position = decided;
        self.request = None;
        self.begun = false;
        self.seeking = None;
        let head = std::mem::take(&mut self.head);
        if head.touched && head.start.is_some() {
            exchange.give_up_last_request(reason);
            self.seeking = Some(reason);
        }
        exchange.break_connection(reason);
        self.plugin_timer = None;
        self.inputs = self.allowed;
        self.set_timers(exchange);
        self.close_gate(exchange);
        let opening = Opening { origin: Origin::Rejoined, ..self.opening };
        exchange.hub.push_opening(self.place, self.session, None, opening);
        self.queued = Queued::Something;
        let undecided = self.undecided(exchange) as usize;
        if undecided > 0 {
            self.begin_eagerly(exchange);
            self.tell_request(undecided, None, exchange);
        }
    }

    fn go_without(&mut self, without: Without, exchange: &mut Exchange<'_>) {
        match without {
            Without::GiveUp => exchange.give_up(EndReason::PluginDisabled),
            Without::PassThrough => self.pass_through(exchange),
        }
    }

    fn held_bytes(&self) -> usize {
        self.queued_bytes
            + self.queue.capacity() * size_of::<Piece>()
            + self.marks.capacity() * size_of::<(u64, bool)>()
            + self.sequencer.held_bytes()
    }
}
