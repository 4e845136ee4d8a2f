//! What becomes of a session whose plugin leaves it: it is replayed as with no plugin, or its connection is closed.
//!
//! What the plugin decided before still goes out as it was decided. The plugin hears of no reply any more, so those requests wait
//! as they would with no plugin, and what is undecided, with all that is captured meanwhile, goes behind them.

use super::release::Piece;
use super::{PluginProtocol, Request};
use crate::counters::EndReason;
use crate::plugin::{Input, Inputs};
use crate::protocol::{ClientEnd, Exchange, Gate, Protocol, Transparent};
use crate::stream::SegmentInfo;

/// Whether the plugin has left, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The session is replayed as with no plugin.
    Passing,
    /// The connection is closed.
    Closing,
}

impl PluginProtocol {
    /// The plugin is told of nothing any more.
    pub(super) fn leave(&mut self, leaving: Leaving, exchange: &mut Exchange<'_>) {
        self.leaving = leaving;
        self.told = 0;
        self.plugin_timer = None;
        self.own_timer = None;
        self.inputs = Inputs::NONE;
        exchange.hub.push(self.place, self.session, None, Input::Ended);
        exchange.set_timer(None);
        exchange.set_gate(Gate::Open);
        exchange.note_inputs_changed();
        let before = self.sequencer.leave(self.received_at_release);
        let mut transparent = Transparent::taking_over(self.policy, before, exchange);
        match leaving {
            Leaving::Passing => self.hand_over(&mut transparent, exchange),
            Leaving::Closing => {
                for (_, reason) in self.gaps.drain(..) {
                    exchange.begin_request(exchange.captured_end());
                    exchange.give_up_last_request(reason);
                }
            }
            Leaving::No => {}
        }
        self.transparent = Some(transparent);
    }

    /// Gives what is undecided to the successor.
    fn hand_over(&mut self, transparent: &mut Transparent, exchange: &mut Exchange<'_>) {
        match self.continued(exchange) {
            Continued::No => {}
            Continued::Open => transparent.continue_request(None),
            Continued::Void(reason) => transparent.continue_request(Some(reason)),
        }
        let mut position = self.position;
        let marks = std::mem::take(&mut self.marks);
        for &(end, pushed) in marks.iter().filter(|(end, _)| *end > self.position) {
            while let Some((at, reason)) = self.gaps.pop_front_if(|(at, _)| *at <= position) {
                transparent.take_gap(at, reason, exchange);
            }
            let acknowledged = self.sequencer.acknowledged_at(position);
            let info = SegmentInfo { acknowledged, pushed, captured_at_nanos: 0 };
            transparent.take(position, (end - position) as usize, info, exchange);
            position = end;
        }
        self.marks = marks;
        for (at, reason) in self.gaps.drain(..) {
            transparent.take_gap(at, reason, exchange);
        }
        if let Some((end, info, _)) = self.end {
            transparent.on_close(end, info, exchange);
        }
    }

    /// Whether what is undecided begins within a request.
    fn continued(&mut self, exchange: &mut Exchange<'_>) -> Continued {
        let of = |start: u64, exchange: &Exchange<'_>| {
            exchange.given_up_reason(start).map_or(Continued::Open, Continued::Void)
        };
        if let Some(Request { start: Some(start) }) = self.request.take() {
            return of(start, exchange);
        }
        let at = Some(self.position);
        let own = |piece: &Piece| matches!(piece, Piece::Begin { start, .. } if *start == at);
        if std::mem::take(&mut self.begun)
            && (self.head.start == at
                || self.queue.iter().any(own)
                || !exchange.forget_undecided(self.position))
        {
            return of(self.position, exchange);
        }
        self.seeking.take().map_or(Continued::No, |reason| {
            if exchange.has_no_request() {
                exchange.begin_request(self.position);
                exchange.give_up_last_request(reason);
            }
            Continued::Void(reason)
        })
    }

    /// The plugin is used no more: what it decided and did not go is forgotten.
    pub(super) fn pass_without(&mut self, exchange: &mut Exchange<'_>) {
        self.forget_decisions();
        self.position = exchange.decided();
        let head = std::mem::take(&mut self.head);
        self.request = (head.touched && head.start.is_some()).then_some(Request { start: head.start });
        self.begun = !exchange.forget_undecided(self.position);
        self.leave(Leaving::Passing, exchange);
        self.release(exchange);
    }

    /// Everything decided before has gone: what follows may go, or the connection closes.
    pub(super) fn finish_leaving(&mut self, exchange: &mut Exchange<'_>) {
        if !self.queue.is_empty() {
            return;
        }
        match (self.leaving, &mut self.transparent) {
            (Leaving::Passing, Some(transparent)) => transparent.let_go(exchange),
            (Leaving::Closing, _) => {
                exchange.drop_bytes(exchange.outbox.pending_len());
                exchange.close(ClientEnd::Finished);
            }
            _ => {}
        }
    }

    /// Leaves the last `len` captured bytes out, because the connection closes. Nobody knows how many requests they are: what
    /// comes then counts as one.
    pub(super) fn leave_out(&mut self, len: usize, exchange: &mut Exchange<'_>) {
        if !std::mem::replace(&mut self.begun, true) {
            exchange.begin_request(exchange.captured_end() - len as u64);
        }
        self.finish_leaving(exchange);
    }
}

/// Whether what is undecided begins within a request.
enum Continued {
    /// A request begins there.
    No,
    Open,
    /// It was given up.
    Void(EndReason),
}
