//! Round-trip time and retransmission time-out (RFC 6298).

use crate::time::{Duration, Instant};

/// Lowest retransmission time-out: what servers' kernels use, below the 1 s of RFC 6298, section 2.4.
pub const MIN_RTO: Duration = Duration::from_millis(200);
/// Highest retransmission time-out (RFC 6298, section 2.5).
pub const MAX_RTO: Duration = Duration::from_secs(60);
const INITIAL_RTO: Duration = Duration::from_secs(1);

/// Estimates the round-trip time to the target, and from it the retransmission time-out.
#[derive(Debug, Clone)]
pub struct RttEstimator {
    smoothed: Option<Duration>,
    variation: Duration,
    backoff: u32,
    /// The offset whose acknowledgement is being timed, and when it was sent. One at a time; never a retransmitted one
    /// (Karn's rule, RFC 6298, section 3).
    timed: Option<(u64, Instant)>,
}

impl Default for RttEstimator {
    fn default() -> Self {
        Self { smoothed: None, variation: Duration::ZERO, backoff: 0, timed: None }
    }
}

impl RttEstimator {
    /// The smoothed round-trip time, once something was measured.
    pub const fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The retransmission time-out, with back-off.
    pub fn timeout(&self) -> Duration {
        let base = match self.smoothed {
            None => INITIAL_RTO,
            Some(smoothed) => (smoothed + self.variation * 4).clamp(MIN_RTO, MAX_RTO),
        };
        base.saturating_mul(1 << self.backoff.min(16)).min(MAX_RTO)
    }

    /// Notes that the bytes up to `end` were sent for the first time at `now`.
    pub fn sent(&mut self, end: u64, now: Instant) {
        if self.timed.is_none() {
            self.timed = Some((end, now));
        }
    }

    /// Notes that something was sent again: what is being timed can't be told apart any more.
    pub fn retransmitted(&mut self) {
        self.timed = None;
    }

    /// Doubles the time-out (RFC 6298, section 5.5).
    pub fn back_off(&mut self) {
        self.backoff += 1;
        self.timed = None;
    }

    /// How often the time-out was doubled since the last progress.
    pub const fn backoffs(&self) -> u32 {
        self.backoff
    }

    /// Notes that everything up to `acknowledged` has arrived at `now`.
    pub fn acknowledged(&mut self, acknowledged: u64, now: Instant) {
        self.backoff = 0;
        if let Some((end, sent_at)) = self.timed
            && acknowledged >= end
        {
            self.timed = None;
            self.sample(now.saturating_since(sent_at));
        }
    }

    fn sample(&mut self, rtt: Duration) {
        match self.smoothed {
            None => {
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((smoothed * 7 + rtt) / 8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_follows_the_measurements_and_backs_off() {
        let mut rtt = RttEstimator::default();
        assert_eq!(rtt.timeout(), INITIAL_RTO);
        rtt.sent(10, Instant::from_millis(0));
        rtt.sent(20, Instant::from_millis(90));
        rtt.acknowledged(20, Instant::from_millis(100));
        assert_eq!(rtt.smoothed(), Some(Duration::from_millis(100)));
        assert_eq!(rtt.timeout(), Duration::from_millis(300));
        rtt.back_off();
        assert_eq!(rtt.timeout(), Duration::from_millis(600));
        rtt.acknowledged(20, Instant::from_millis(101));
        assert_eq!(rtt.timeout(), Duration::from_millis(300));
    }

    #[test]
    fn a_retransmitted_segment_is_not_measured() {
        let mut rtt = RttEstimator::default();
        rtt.sent(10, Instant::from_millis(0));
        rtt.retransmitted();
        rtt.acknowledged(10, Instant::from_millis(5000));
        assert_eq!(rtt.smoothed(), None);
    }
}
