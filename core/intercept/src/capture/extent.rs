//! When packets are captured whole, and when up to their headers.

use tcpcopy_engine::protocol::Bodies;
use tcpcopy_engine::time::{Duration, Instant};

/// How much of each packet is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Headers,
    Whole,
}

/// How long packets are captured whole after the last need for it. A wish that comes back within finds the capture ready.
const KEEP_WHOLE: Duration = Duration::from_secs(10);

/// The extent that is captured, and the need for it.
#[derive(Debug)]
pub(super) struct ExtentControl {
    current: Extent,
    needed_at: Instant,
    is_final: bool,
}

impl ExtentControl {
    /// Headers, until more is needed.
    pub(super) const fn new() -> Self {
        Self { current: Extent::Headers, needed_at: Instant::ZERO, is_final: false }
    }

    /// Takes note of what is needed, and says what the capture has to change to, if anything.
    pub(super) fn note(&mut self, needed: Bodies, now: Instant) -> Option<Extent> {
        if needed == Bodies::Needed {
            self.needed_at = now;
        }
        let wanted = match needed {
            Bodies::Needed => Extent::Whole,
            Bodies::NotNeeded if now.saturating_since(self.needed_at) >= KEEP_WHOLE => Extent::Headers,
            Bodies::NotNeeded => self.current,
        };
        (!self.is_final && wanted != self.current).then_some(wanted)
    }

    /// The capture has changed.
    pub(super) const fn changed(&mut self, to: Extent) {
        self.current = to;
    }

    /// The capture changes no more.
    pub(super) const fn settle(&mut self, for_good: Extent) {
        self.current = for_good;
        self.is_final = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_packets_outlast_the_need_for_them_a_while() {
        let mut control = ExtentControl::new();
        let at = Instant::from_millis;
        assert_eq!(control.note(Bodies::NotNeeded, at(60_000)), None);
        assert_eq!(control.note(Bodies::Needed, at(60_001)), Some(Extent::Whole));
        control.changed(Extent::Whole);
        assert_eq!(control.note(Bodies::Needed, at(70_000)), None);
        assert_eq!(control.note(Bodies::NotNeeded, at(79_999)), None);
        assert_eq!(control.note(Bodies::NotNeeded, at(80_000)), Some(Extent::Headers));
        control.changed(Extent::Headers);
        assert_eq!(control.note(Bodies::NotNeeded, at(80_001)), None);
        assert_eq!(control.note(Bodies::Needed, at(80_002)), Some(Extent::Whole));
    }

    #[test]
    fn nothing_changes_what_is_settled() {
        for extent in [Extent::Headers, Extent::Whole] {
            let mut control = ExtentControl::new();
            control.settle(extent);
            assert_eq!(control.note(Bodies::Needed, Instant::from_millis(1)), None);
            assert_eq!(control.note(Bodies::NotNeeded, Instant::from_millis(60_000)), None);
        }
    }
}
