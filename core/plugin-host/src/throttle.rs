//! Limits the rate of log messages.

use std::time::{Duration, Instant};

/// Lets so many through in each period, and counts the others.
pub(crate) struct Throttle {
    allowed: u32,
    period: Duration,
    since: Option<Instant>,
    passed: u32,
    suppressed: u64,
}

impl Throttle {
    pub(crate) fn new(allowed: u32, period: Duration) -> Self {
        Self { allowed, period, since: None, passed: 0, suppressed: 0 }
    }

    /// Whether a message at `now` may pass: then, how many were suppressed since the last one.
    pub(crate) fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= self.period) {
            self.since = Some(now);
            self.passed = 0;
        }
        if self.passed == self.allowed {
            self.suppressed += 1;
            return None;
        }
        self.passed += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_so_many_in_a_period_and_counts_the_rest() {
        let mut throttle = Throttle::new(2, Duration::from_secs(1));
        let start = Instant::now();
        assert_eq!(throttle.pass(start), Some(0));
        assert_eq!(throttle.pass(start), Some(0));
        assert_eq!(throttle.pass(start), None);
        assert_eq!(throttle.pass(start + Duration::from_millis(999)), None);
        assert_eq!(throttle.pass(start + Duration::from_secs(1)), Some(2));
        assert_eq!(throttle.pass(start + Duration::from_secs(1)), Some(0));
    }
}
