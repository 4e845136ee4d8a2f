//! When a packet of a capture is due.
//!
//! A straight line from times of capture to times of the replay, bent where a pause is cut short (`-I`). Pure: times go in and
//! come out.

use crate::settings::Tempo;
use std::collections::VecDeque;
use std::time::Duration;
use tcpcopy_engine::time::Instant;

/// Bends remembered, to tell how late a request of some time ago was.
const MAX_BENDS: usize = 4096;

/// From here on, the line is straight.
#[derive(Clone, Copy, Debug)]
struct Bend {
    /// Time of capture, in nanoseconds of the Unix epoch.
    captured_at: u64,
    /// When that is due.
    due: Instant,
}

/// Times of capture as times of the replay.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Replayed seconds for each captured one; none where nothing is ever early.
    scale: Option<f64>,
    idle_cap: Option<Duration>,
    bends: VecDeque<Bend>,
    last: u64,
}

impl Timeline {
    /// A timeline that begins with the first packet asked about.
    pub fn new(tempo: &Tempo) -> Self {
        let (scale, idle_cap) = match *tempo {
            Tempo::Captured { speed, idle_cap } => (Some(1.0 / speed), idle_cap),
            Tempo::Rate(_) | Tempo::Unpaced => (None, None),
        };
        Self { scale, idle_cap, bends: VecDeque::new(), last: 0 }
    }

    /// Whether long pauses are cut short.
    pub const fn cuts_pauses(&self) -> bool {
        self.idle_cap.is_some()
    }

    /// When the packet captured at `captured_at` is due, which follows those asked about before; none: at once.
    pub fn due(&mut self, captured_at: u64, now: Instant) -> Option<Instant> {
        let scale = self.scale?;
        let Some(bend) = self.bends.back().copied() else {
            self.bends.push_back(Bend { captured_at, due: now });
            self.last = captured_at;
            return Some(now);
        };
        // Files may be a little out of order; nothing is due before what came before it.
        let captured_at = captured_at.max(self.last);
        let before = at(bend, self.last, scale);
        let due = at(bend, captured_at, scale);
        self.last = captured_at;
        let Some(cap) = self.idle_cap.filter(|cap| due.saturating_since(before) > *cap) else {
            return Some(due);
        };
        let due = before + cap;
        if self.bends.len() == MAX_BENDS {
            self.bends.pop_front();
        }
        self.bends.push_back(Bend { captured_at, due });
        Some(due)
    }

    /// How late what was captured at `captured_at`, and was asked about before, is at `now`.
    pub fn lag(&self, captured_at: u64, now: Instant) -> Option<Duration> {
        let scale = self.scale?;
        let after = self.bends.partition_point(|bend| bend.captured_at <= captured_at);
        let bend = self.bends.get(after.checked_sub(1)?)?;
        Some(now.saturating_since(at(*bend, captured_at, scale)))
    }
}

fn at(bend: Bend, captured_at: u64, scale: f64) -> Instant {
    bend.due + Duration::from_nanos((captured_at.saturating_sub(bend.captured_at) as f64 * scale) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn timeline(speed: f64, cap: Option<u64>) -> Timeline {
        Timeline::new(&Tempo::Captured { speed, idle_cap: cap.map(Duration::from_millis) })
    }

    fn after(millis: u64) -> Option<Instant> {
        Some(Instant::ZERO + Duration::from_millis(millis))
    }

    #[test]
    fn distances_are_kept_and_scaled() {
        let mut line = timeline(10.0, None);
        assert_eq!(line.due(100 * SECOND, Instant::ZERO), after(0));
        assert_eq!(line.due(101 * SECOND, Instant::ZERO), after(100));
        assert_eq!(line.due(103 * SECOND, Instant::ZERO), after(300));
        assert_eq!(line.due(102 * SECOND, Instant::ZERO), after(300), "never before what came before");
        let mut slow = timeline(0.1, None);
        slow.due(0, Instant::ZERO);
        assert_eq!(slow.due(SECOND, Instant::ZERO), after(10_000));
    }

    #[test]
    fn pauses_are_cut_short() {
        let mut line = timeline(1.0, Some(500));
        line.due(0, Instant::ZERO);
        assert_eq!(line.due(SECOND / 4, Instant::ZERO), after(250));
        assert_eq!(line.due(100 * SECOND, Instant::ZERO), after(750));
        assert_eq!(line.due(100 * SECOND + SECOND / 10, Instant::ZERO), after(850));
        assert_eq!(line.due(200 * SECOND, Instant::ZERO), after(1350));
        let now = Instant::ZERO + Duration::from_millis(900);
        assert_eq!(line.lag(100 * SECOND, now), Some(Duration::from_millis(150)));
        assert_eq!(line.lag(SECOND / 4, now), Some(Duration::from_millis(650)));
    }

    #[test]
    fn without_pace_nothing_is_early_or_late() {
        let mut line = Timeline::new(&Tempo::Unpaced);
        assert_eq!(line.due(SECOND, Instant::ZERO), None);
        assert_eq!(line.lag(SECOND, Instant::ZERO), None);
    }
}
