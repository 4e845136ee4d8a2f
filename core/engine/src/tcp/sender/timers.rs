//! The retransmission timer (RFC 6298) and the persist timer (RFC 9293, section 3.8.6.1): one at a time.

use super::{Sender, Timer, TimerOutcome};
use crate::tcp::rtt::MAX_RTO;
use crate::time::{Duration, Instant};

impl Sender {
    /// Arms the timer that fits the present state; call it when everything that may be sent has been.
    pub fn settle_timer(&mut self, now: Instant) {
        if self.in_flight() > 0 && !self.fin_acknowledged {
            if !matches!(self.timer, Timer::Retransmit(_)) {
                self.timer = Timer::Retransmit(now + self.rtt.timeout());
            }
            return;
        }
        let blocked = self.next < self.end() && self.una + self.window <= self.next;
        self.timer = match self.timer {
            _ if !blocked => Timer::Off,
            Timer::Persist(at) => Timer::Persist(at),
            _ => {
                self.waiting_since.get_or_insert(now);
                Timer::Persist(now + self.persist_delay())
            }
        };
    }

    fn persist_delay(&self) -> Duration {
        // RFC 9293, section 3.8.6.1: first probe after one time-out, then ever rarer.
        self.rtt.timeout().saturating_mul(1 << self.persist_backoff.min(16)).min(MAX_RTO)
    }

    /// When [`Sender::on_timer`] is due.
    pub const fn deadline(&self) -> Option<Instant> {
        match self.timer {
            Timer::Off => None,
            Timer::Retransmit(at) | Timer::Persist(at) => Some(at),
        }
    }

    /// Lets the timer fire if it is due. Returns whether the retransmission timer did.
    pub fn on_timer(&mut self, now: Instant) -> TimerOutcome {
        match self.timer {
            Timer::Retransmit(at) if at <= now => {
                if self.rtt.backoffs() == 0 {
                    self.congestion.on_timeout(self.in_flight());
                }
                self.rtt.back_off();
                self.recovery = None;
                self.duplicates = 0;
                // The target may have dropped what it had selectively acknowledged (RFC 2018, section 8).
                self.sacked.clear();
                self.next = self.una;
                self.timer = Timer::Off;
                TimerOutcome::Retransmit
            }
            Timer::Persist(at) if at <= now => {
                self.probe_due = true;
                self.persist_backoff += 1;
                self.timer = Timer::Persist(now + self.persist_delay());
                TimerOutcome::Probe
            }
            _ => TimerOutcome::None,
        }
    }
}
