//! What becomes of a session's decisions when its connection or its plugin's instance is lost.

use super::PluginProtocol;
use super::release::Piece;
use crate::counters::EndReason;
use crate::plugin::{Input, Inputs, Reply};
use crate::protocol::{Exchange, Opening, Origin};

impl PluginProtocol {
    /// The connection is gone: the plugin is told what became of its requests.
    pub(super) fn lose_connection(&mut self, exchange: &mut Exchange<'_>) {
        self.received_at_release = 0;
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
        let hopeless = exchange.take_hopeless();
        self.close_gate(exchange);
        let waits = self.allowed.contains(Inputs::CONNECTIONS) && self.undecided(exchange) > 0;
        let missing = waits && (hopeless.is_some() || interrupted && self.request.is_none());
        let interrupted = interrupted && !missing;
        self.tell(Input::ConnectionLost { unanswered, kept, interrupted }, None, exchange);
        if missing {
            // The plugin may hold these bytes until a connection is ready. What was given up with it may be many requests: the
            // plugin has to find the next one behind them by itself, or nothing would ever ask for a connection again; or it would
            // be asked for without end, where none comes about.
            let reason =
                hopeless.or_else(|| exchange.given_up_reason(self.position)).unwrap_or(EndReason::Protocol);
            self.gaps.push_back((exchange.captured_end(), reason));
            self.tell(Input::Gap, None, exchange);
        }
        self.release(exchange);
    }

    /// Forgets what was decided and not released.
    pub(super) fn forget_decisions(&mut self) {
        let waited = self.queue.iter().rev().filter_map(|piece| match piece {
            Piece::Begin { start: Some(start), wait: Some(wait) } => Some((*start, *wait)),
            _ => None,
        });
        self.sequencer.restart(waited);
        // What the lost instance was told, it will not answer.
        self.told = 0;
        self.queue.clear();
        self.queued_bytes = 0;
        self.received_at_release = 0;
    }

    /// Forgets what the lost instance had decided and not released, and joins the session again.
    pub(super) fn join_again(&mut self, exchange: &mut Exchange<'_>) {
        let reason = EndReason::PluginFault;
        self.forget_decisions();
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
        self.told += 1;
        let undecided = self.undecided(exchange) as usize;
        if undecided > 0 {
            self.begin_eagerly(exchange);
            self.tell_request(undecided, None, exchange);
        }
    }
}
