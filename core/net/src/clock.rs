//! The clocks that the programs hand to the engine.

use crate::sys;
use tcpcopy_engine::time::Instant;

/// Now, on `CLOCK_MONOTONIC`: the clock of everything the engine does.
pub fn monotonic() -> Instant {
    Instant::from_nanos(sys::time::monotonic_nanos())
}

/// Now, in nanoseconds of the Unix epoch: the clock of capture times.
pub fn unix_nanos() -> u64 {
    sys::time::realtime_nanos()
}
