//! What a plugin decides: its actions, kept to the rules of the interface and put in their places in the captured stream.

use super::release::Piece;
use super::{Abandoned, Leaving, PluginProtocol, Request};
use crate::counters::EndReason;
use crate::plugin::{Output, Reply};
use crate::protocol::{Exchange, Gate};
use crate::tcp::sender::Boundary;
use crate::time::Duration;

/// A plugin that asks for a timer each time that it has one must not keep the engine from everything else.
const SHORTEST_TIMER: Duration = Duration::from_micros(100);

const OUTSIDE: &str = "a span outside of its bytes";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Decision {
    Forward,
    Discard,
}

impl PluginProtocol {
    /// Applies one action of the plugin; its spans refer to `bytes`.
    pub(super) fn act(&mut self, output: Output, bytes: &[u8], exchange: &mut Exchange<'_>) {
        match output {
            Output::Forward(n) => self.decide(n, Decision::Forward, exchange),
            Output::Discard(n) => self.decide(n, Decision::Discard, exchange),
            Output::Send(span) => match span.of(bytes) {
                Some(bytes) => self.send(bytes, exchange),
                None => self.violate(OUTSIDE, exchange),
            },
            Output::Prepare(span) => match span.of(bytes) {
                Some(bytes) if exchange.gate() == Gate::Closed => exchange.prepare(bytes, Boundary::Pushed),
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
            Output::Close => self.leave(Leaving::Closing, exchange),
            Output::GiveUp(_) => exchange.give_up(EndReason::Protocol),
            Output::PassThrough => self.leave(Leaving::Passing, exchange),
            Output::Observe(span) => match span.of(bytes) {
                Some(summary) => {
                    exchange.counters.exchanges_observed += 1;
                    exchange.hub.note_observation(self.place, self.session, summary);
                }
                None => self.violate(OUTSIDE, exchange),
            },
            Output::SetTimer(nanos) => {
                self.plugin_timer = Some(exchange.now() + Duration::from_nanos(nanos).max(SHORTEST_TIMER));
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
    pub(super) fn comes_too_late(&self, output: Output) -> bool {
        self.abandoned == Abandoned::Yes
            && matches!(
                output,
                Output::Forward(_) | Output::Discard(_) | Output::Send(_) | Output::EndRequest(_)
            )
    }
    /// Begins a request at the present position, if none is under way.
    fn begin(&mut self, exchange: &mut Exchange<'_>) {
        if self.request.is_some() {
            return;
        }
        self.seeking = None;
        if !self.begun && !self.is_at_gap() && self.undecided(exchange) > 0 {
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
        if left == 0 && decision == Decision::Discard {
            // What the plugin decides from here on is about what follows the missing bytes.
            return self.cross_gap(exchange);
        }
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
        self.begin(exchange);
        self.queued_bytes += bytes.len();
        self.queue.push_back(Piece::Send(bytes.into()));
    }

    fn end_request(&mut self, reply: Reply, exchange: &mut Exchange<'_>) {
        let Some(request) = self.request.take() else {
            // One of no bytes; or what was discarded to get to a place where a request surely begins.
            self.seeking = None;
            return self.begin_eagerly(exchange);
        };
        // One of the plugin's own, before the one that was captured here: they are counted as one.
        self.begun &= request.start == Some(self.position);
        self.sequencer.end(self.position);
        self.queue.push_back(Piece::End(reply));
        self.begin_eagerly(exchange);
    }

    /// Counts the request that undecided bytes belong to as captured, where it is sure that they begin one.
    pub(super) fn begin_eagerly(&mut self, exchange: &mut Exchange<'_>) {
        if self.request.is_none()
            && !self.begun
            && self.seeking.is_none()
            && !self.is_at_gap()
            && self.undecided(exchange) > 0
        {
            exchange.begin_request(self.position);
            self.begun = true;
        }
    }

    /// Whether bytes are missing at the present position.
    fn is_at_gap(&self) -> bool {
        self.gaps.front().is_some_and(|(at, _)| *at == self.position)
    }

    /// Passes a gap at the present position, because what follows is behind it.
    fn cross_gap(&mut self, exchange: &mut Exchange<'_>) {
        while self.is_at_gap() {
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
    pub(super) fn after_run(&mut self, exchange: &mut Exchange<'_>) {
        while let Some((at, _)) = self.gaps.front() {
            if *at > self.position {
                return self.violate("bytes before missing ones that were not discarded", exchange);
            }
            self.pass_gap(exchange);
        }
        self.begin_eagerly(exchange);
        self.release(exchange);
    }
}
