//! How long to nap between two looks at the ring.
//!
//! Waking up and writing costs more than all else that is done for a packet, so where packets come fast, several are let
//! gather. Where they don't, a nap would only add delay, and cost more wake-ups than it saves.

use tcpcopy_engine::time::{Duration, Instant};

/// Packets further apart than this are taken one by one.
const FAST: Duration = Duration::from_micros(80);
/// Packets that a nap lets gather.
const GATHER: u32 = 4;
const SHORTEST: Duration = Duration::from_micros(50);
/// A silence this long says nothing about the time before it.
const FORGET: Duration = Duration::from_millis(2);

/// The smoothed distance between packets.
#[derive(Debug)]
pub struct Pace {
    gap: Duration,
    last: Instant,
    longest: Duration,
}

impl Pace {
    /// A pace whose naps are at most `longest`: what a packet may be delayed by for the sake of others.
    pub const fn new(longest: Duration) -> Self {
        Self { gap: FORGET, last: Instant::ZERO, longest }
    }

    /// Takes note of a look at the ring that found `frames` packets.
    pub fn note(&mut self, frames: usize, now: Instant) {
        if frames == 0 {
            return;
        }
        let since = now.saturating_since(self.last).min(FORGET);
        self.last = now;
        let sample = since / u32::try_from(frames).unwrap_or(u32::MAX);
        // Each packet counts, so that one look that finds many is enough to see that it got fast.
        let weight = u32::try_from(frames.min(8)).unwrap_or(8);
        self.gap = (self.gap * (16 - weight) + sample * weight) / 16;
    }

    /// How long to nap before the next look; `None` to wait for the kernel instead.
    pub fn nap(&self, now: Instant) -> Option<Duration> {
        let is_fast = self.gap < FAST && now.saturating_since(self.last) < self.longest * 2;
        is_fast.then(|| (self.gap * GATHER).clamp(SHORTEST.min(self.longest), self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    #[test]
    fn slow_packets_are_not_napped_for() {
        let mut pace = Pace::new(Duration::from_micros(200));
        for step in 1..100 {
            pace.note(1, at(step * 150));
            assert_eq!(pace.nap(at(step * 150)), None);
        }
    }

    #[test]
    fn fast_packets_are_let_gather_and_silence_ends_it() {
        let mut pace = Pace::new(Duration::from_micros(200));
        for step in 1..200 {
            pace.note(1, at(step * 30));
        }
        let now = at(199 * 30);
        let nap = pace.nap(now).unwrap();
        assert!(nap > Duration::from_micros(100) && nap < Duration::from_micros(140), "{nap:?}");
        assert_eq!(pace.nap(now + Duration::from_millis(1)), None);
        // Napping itself does not change the estimate: four packets in four gaps.
        for step in 1..100 {
            pace.note(4, now + Duration::from_micros(120) * step);
        }
        let nap = pace.nap(now + Duration::from_micros(120) * 99).unwrap();
        assert!(nap > Duration::from_micros(100) && nap < Duration::from_micros(140), "{nap:?}");
        // After a pause the next packet alone brings nothing back.
        pace.note(1, now + Duration::from_secs(1));
        pace.note(1, now + Duration::from_secs(2));
        assert_eq!(pace.nap(now + Duration::from_secs(2)), None);
    }
}
