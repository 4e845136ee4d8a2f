//! When decisions go to the connection: requests in their turn, the client's end behind them.

use super::sequencer::Wait;
use super::{Abandoned, Leaving, PluginProtocol};
use crate::counters::EndReason;
use crate::plugin::Reply;
use crate::protocol::transparent::{RESET_PATIENCE, Release, boundary};
use crate::protocol::{ClientEnd, Exchange, Gate, WaitPolicy};
use crate::tcp::sender::Boundary;
use crate::time::Duration;

/// How long bytes that the plugin can't decide about wait for more when the client has closed.
const INCOMPLETE_PATIENCE: Duration = Duration::from_secs(1);
/// A decision on its way to the connection.
#[derive(Debug)]
pub(super) enum Piece {
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
}

/// The request that is being released.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    pub(super) start: Option<u64>,
    /// Whether anything of it went to the connection, or was left out.
    pub(super) touched: bool,
}

impl PluginProtocol {
    /// Lets go what may go.
    pub(super) fn release(&mut self, exchange: &mut Exchange<'_>) {
        while let Some(piece) = self.queue.front() {
            if let Piece::Begin { start, wait } = piece {
                let (start, wait) = (*start, *wait);
                let void = start.is_some_and(|start| exchange.is_given_up(start));
                if let Some(wait) = wait
                    && !void
                    && self.policy == WaitPolicy::LikeClient
                {
                    if !self.may_go(wait, exchange) {
                        break;
                    }
                    self.sequencer.note_release(wait, exchange.received());
                    if let Some(transparent) = &mut self.transparent {
                        transparent.note_release(wait.acknowledged, exchange.received());
                    }
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
                Some(Piece::Abandon) => {
                    self.head = Head::default();
                    self.sequencer.abandon();
                }
                Some(Piece::Begin { .. }) | None => {}
            }
        }
        self.forget_marks(exchange);
        match self.leaving {
            Leaving::No => self.release_end(exchange),
            Leaving::Passing | Leaving::Closing => self.finish_leaving(exchange),
        }
    }

    /// Whether a request may go; one whose plugin has left asks for a timer, if that is what it waits for.
    fn may_go(&self, wait: Wait, exchange: &mut Exchange<'_>) -> bool {
        // Until the connection is ready, what comes on it answers no request.
        let received = (exchange.gate() == Gate::Open).then(|| exchange.received());
        if self.sequencer.may_go(wait, received) {
            return true;
        }
        match self.transparent.as_ref().map(|t| t.release_time(wait.acknowledged, exchange)) {
            Some(Release::Now) => true,
            Some(Release::At(at)) if at <= exchange.now() => true,
            Some(Release::At(at)) => {
                exchange.set_timer(Some(at));
                false
            }
            Some(Release::Never) | None => false,
        }
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
        if reply == Reply::Expected {
            self.received_at_release = exchange.received();
            if let Some(transparent) = &mut self.transparent {
                transparent.note_sent(exchange.received());
            }
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

    pub(super) fn forget_marks(&mut self, exchange: &Exchange<'_>) {
        let decided = exchange.decided();
        while self.marks.pop_front_if(|(end, _)| *end <= decided).is_some() {}
    }

    /// Ends the session's connection as the client did, when that is due.
    pub(super) fn release_end(&mut self, exchange: &mut Exchange<'_>) {
        let Some((end, info, since)) = self.end else { return };
        if self.told > 0 || !self.queue.is_empty() {
            return;
        }
        let now = exchange.now();
        let since = *self.end.get_or_insert((end, info, since)).2.get_or_insert(now);
        if self.undecided(exchange) > 0 || self.request.is_some() {
            let unprepared = exchange.gate() == Gate::Closed;
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
}
