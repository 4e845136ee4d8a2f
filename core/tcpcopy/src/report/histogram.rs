//! Delays, counted in buckets whose width grows with the value.

use std::time::Duration;

/// Buckets for each power of two: quantiles are exact to 1/32, about 3 %.
const STEPS: usize = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Values of 2^42 ns (73 minutes) and more share the last bucket.
const MAX_BITS: u32 = 42;
const BUCKETS: usize = STEPS * (MAX_BITS - STEP_BITS + 1) as usize;

/// A log-linear histogram of durations, in nanoseconds. Recording is a few instructions and never allocates.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS].into_boxed_slice(), count: 0, max: 0 }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Histogram");
        shown.field("count", &self.count).field("p50", &self.quantile(0.5)).field("max", &self.max()).finish()
    }
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one duration.
    pub fn record(&mut self, value: Duration) {
        let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
        self.max = self.max.max(nanos);
    }

    /// Adds what another histogram counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// What was counted after `earlier`, a former state of this histogram. Its maximum is that of its highest bucket.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut newer = Self::new();
        for (index, new) in newer.buckets.iter_mut().enumerate() {
            *new = self.buckets[index].saturating_sub(earlier.buckets[index]);
            newer.count += *new;
            if *new > 0 {
                newer.max = highest(index).min(self.max);
            }
        }
        newer
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest one; zero if there was none.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The duration that the fraction `quantile` (0 to 1) of all did not exceed, at most 1/32 too long; zero if there was
    /// none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let rank = ((quantile.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, number) in self.buckets.iter().enumerate() {
            seen += number;
            if seen >= rank {
                return Duration::from_nanos(highest(index).min(self.max));
            }
        }
        self.max()
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < STEPS as u64 {
        return nanos as usize;
    }
    let power = nanos.ilog2();
    if power >= MAX_BITS {
        return BUCKETS - 1;
    }
    let step = (nanos >> (power - STEP_BITS)) as usize - STEPS;
    STEPS * (power - STEP_BITS + 1) as usize + step
}

/// The highest value that the bucket counts.
fn highest(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    if index == BUCKETS - 1 {
        return u64::MAX;
    }
    let shift = (index / STEPS - 1) as u32;
    let step = (index % STEPS + STEPS) as u64;
    ((step + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_histogram_says_zero() {
        let empty = Histogram::new();
        assert_eq!((empty.count(), empty.max(), empty.quantile(0.99)), (0, Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn quantiles_of_a_ramp_are_where_they_should_be() {
        let mut histogram = Histogram::new();
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (quantile, micros) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(quantile).as_secs_f64() * 1e6;
            assert!((micros..=micros * 1.04).contains(&found), "{quantile}: {found}");
        }
        assert_eq!(histogram.max(), Duration::from_millis(1));
    }

    #[test]
    fn a_clock_that_jumps_by_an_hour_spoils_no_quantile() {
        let mut histogram = Histogram::new();
        (0..10_000).for_each(|_| histogram.record(Duration::from_micros(50)));
        // Packets on their way while the clock is set forward, and back: a difference of the one is long, of the other nothing.
        (0..50).for_each(|_| histogram.record(Duration::from_secs(3600)));
        (0..50).for_each(|_| histogram.record(Duration::ZERO));
        histogram.record(Duration::MAX);
        assert!(histogram.quantile(0.99) < Duration::from_micros(53));
        assert_eq!(histogram.count(), 10_101);
    }

    #[test]
    fn since_leaves_only_what_is_new() {
        let mut histogram = Histogram::new();
        histogram.record(Duration::from_secs(1));
        let earlier = histogram.clone();
        histogram.record(Duration::from_micros(10));
        let newer = histogram.since(&earlier);
        assert_eq!(newer.count(), 1);
        assert!(newer.max() < Duration::from_micros(11));
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket(nanos: u64) {
            let index = bucket(nanos);
            prop_assert!(nanos <= highest(index));
            prop_assert!(index == 0 || nanos > highest(index - 1));
        }

        #[test]
        fn merging_is_recording_both(one: Vec<u32>, other: Vec<u64>) {
            let (mut left, mut right, mut both) = (Histogram::new(), Histogram::new(), Histogram::new());
            for nanos in one {
                left.record(Duration::from_nanos(nanos.into()));
                both.record(Duration::from_nanos(nanos.into()));
            }
            for nanos in other {
                right.record(Duration::from_nanos(nanos));
                both.record(Duration::from_nanos(nanos));
            }
            left.merge(&right);
            prop_assert_eq!(left, both);
        }
    }
}
