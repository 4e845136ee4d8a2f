//! A session whose protocol is a plugin.
//!
//! What happens to the session is queued for the plugin ([`crate::plugin`]), which is called once a turn with all that
//! gathered. Its actions come back here: they are kept to the rules of the interface and put in their places in the captured stream
//! ([`decisions`]), and requests are released ([`release`]) in the order and at the moments in which the client sent them
//! ([`sequencer`]). What becomes of them when a connection or an instance is lost is in [`losses`], and when
//! the plugin leaves the session in [`leaving`].

mod decisions;
mod leaving;
mod losses;
mod release;
mod sequencer;

use super::outbox::Gate;
use super::{
    Bodies, ClientEnd, Exchange, Opening, Origin, PluginPlace, Protocol, ResponseBytes, Transparent,
    WaitPolicy,
};
use crate::counters::EndReason;
use crate::plugin::Answer;
use crate::plugin::{Input, Inputs, Place, SessionId, Span, Without};
use crate::stream::SegmentInfo;
use crate::time::Instant;
use leaving::Leaving;
use release::{Head, Piece};
use sequencer::Sequencer;
use std::collections::VecDeque;

/// A request that the plugin has begun and not ended.
#[derive(Clone, Copy, Debug)]
struct Request {
    start: Option<u64>,
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
    /// Events that the plugin has not answered yet.
    told: u32,
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
    /// Response bytes of the connection when the last request was released.
    received_at_release: u64,
    leaving: Leaving,
    /// Takes over when the plugin leaves.
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
            told: 1,
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
            received_at_release: 0,
            leaving: Leaving::No,
            transparent: None,
        };
        protocol.close_gate(exchange);
        protocol
    }

    fn tell(&mut self, input: Input, at: Option<u64>, exchange: &mut Exchange<'_>) {
        self.told += 1;
        exchange.hub.push(self.place, self.session, at, input);
    }

    fn tell_bytes(
        &mut self,
        bytes: &[u8],
        at: Option<u64>,
        input: fn(Span) -> Input,
        exchange: &mut Exchange<'_>,
    ) {
        self.told += 1;
        exchange.hub.push_bytes(self.place, self.session, at, [bytes, &[]], input);
    }

    /// Tells the plugin of the last `len` captured bytes.
    fn tell_request(&mut self, len: usize, at: Option<u64>, exchange: &mut Exchange<'_>) {
        self.told += 1;
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

    fn violate(&mut self, what: &'static str, exchange: &mut Exchange<'_>) {
        exchange.hub.note_violation(self.place, self.session, what);
        exchange.give_up(EndReason::PluginFault);
    }

    fn set_timers(&self, exchange: &mut Exchange<'_>) {
        exchange.set_timer([self.plugin_timer, self.own_timer].into_iter().flatten().min());
    }
}

impl Protocol for PluginProtocol {
    fn bodies(&self) -> Bodies {
        if self.inputs.contains(Inputs::RESPONSES) { Bodies::Needed } else { Bodies::NotNeeded }
    }

    fn on_request(&mut self, len: usize, info: SegmentInfo, exchange: &mut Exchange<'_>) {
        match (self.leaving, &mut self.transparent) {
            (Leaving::Closing, _) => return self.leave_out(len, exchange),
            (_, Some(transparent)) => return transparent.on_request(len, info, exchange),
            _ => {}
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
            transparent.on_response(response, exchange);
            return self.release(exchange);
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
        match (self.leaving, &mut self.transparent) {
            // All that follows is left out.
            (Leaving::Closing, _) => return,
            (_, Some(transparent)) => return transparent.on_gap(reason, exchange),
            _ => {}
        }
        self.gaps.push_back((exchange.captured_end(), reason));
        self.tell(Input::Gap, None, exchange);
    }

    fn on_cut(&mut self, info: SegmentInfo, reason: EndReason, exchange: &mut Exchange<'_>) {
        match &mut self.transparent {
            Some(transparent) if self.leaving == Leaving::Passing => {
                transparent.on_cut(info, reason, exchange)
            }
            _ => self.on_gap(reason, exchange),
        }
    }

    fn on_connection_lost(&mut self, exchange: &mut Exchange<'_>) {
        if let Some(transparent) = &mut self.transparent {
            self.sequencer.connection_lost(|start| exchange.is_open(start));
            transparent.on_connection_lost(exchange);
            return self.release(exchange);
        }
        self.lose_connection(exchange);
    }

    fn on_close(&mut self, end: ClientEnd, info: SegmentInfo, exchange: &mut Exchange<'_>) {
        if let Some(transparent) = &mut self.transparent {
            // Where the connection closes anyway, this comes to nothing.
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
            transparent.on_timer(exchange);
            return self.release(exchange);
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

    fn on_plugin_run(&mut self, answer: &mut Answer<'_>, exchange: &mut Exchange<'_>) {
        if self.transparent.is_some() {
            return;
        }
        self.told = self.told.saturating_sub(answer.events);
        for output in &mut *answer.outputs {
            if self.comes_too_late(output) {
                continue;
            }
            self.act(output, answer.bytes, exchange);
            if exchange.outbox.is_given_up() {
                return;
            }
            if self.leaving != Leaving::No {
                return self.release(exchange);
            }
        }
        if self.told == 0 {
            self.after_run(exchange);
        }
    }

    fn waits_for_plugin(&self) -> bool {
        self.transparent.is_none() && self.told > 0
    }

    fn plugin_place(&self) -> Option<PluginPlace> {
        self.transparent.is_none().then_some(PluginPlace { place: self.place, session: self.session })
    }

    fn rejoin(&mut self, exchange: &mut Exchange<'_>) {
        self.join_again(exchange);
    }

    fn go_without(&mut self, without: Without, exchange: &mut Exchange<'_>) {
        match without {
            Without::GiveUp => exchange.give_up(EndReason::PluginDisabled),
            Without::PassThrough => self.pass_without(exchange),
        }
    }

    fn held_bytes(&self) -> usize {
        self.queued_bytes
            + self.queue.capacity() * size_of::<Piece>()
            + self.marks.capacity() * size_of::<(u64, bool)>()
            + self.gaps.capacity() * size_of::<(u64, EndReason)>()
            + self.sequencer.held_bytes()
            + self.transparent.as_ref().map_or(0, Protocol::held_bytes)
    }
}
