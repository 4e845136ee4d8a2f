//! Whether there is room for more of a capture.
//!
//! A file loses nothing by waiting, so what the target can't take yet stays in the file: a replay that is slower than its capture
//! needs no more memory than one that keeps pace, and gives nothing up. Reading goes on in small steps when nothing moves, since what
//! is waited for may be further on in the file.

use std::time::Duration;
use tcpcopy_engine::Engine;
use tcpcopy_engine::counters::Counters;
use tcpcopy_engine::time::Instant;

/// Bytes held for sessions beyond which reading waits.
const MAX_HELD: u64 = 24 << 20;
/// Sessions that wait for the target alone, their clients being gone, beyond which reading waits where no time is kept.
const MAX_FINISHING: u64 = 64;
/// Without any progress of the target, a little more is read after so long.
const PATIENCE: Duration = Duration::from_millis(200);

/// Watches what the target makes of what was read.
#[derive(Debug)]
pub(super) struct Pressure {
    max_held: u64,
    max_finishing: u64,
    progress: u64,
    progress_at: Instant,
}

impl Pressure {
    /// With a memory limit of `memory_limit` bytes. `is_paced`: packets are played at their own times.
    pub(super) fn new(memory_limit: u64, is_paced: bool) -> Self {
        Self {
            max_held: MAX_HELD.min(memory_limit / 2),
            // Where time is kept, as many connections overlap as did when they were captured.
            max_finishing: if is_paced { u64::MAX } else { MAX_FINISHING },
            progress: 0,
            progress_at: Instant::ZERO,
        }
    }

    /// Whether reading has to wait.
    pub(super) fn is_high(&mut self, engine: &Engine, now: Instant) -> bool {
        let counters = engine.counters();
        if counters.memory_bytes <= self.max_held && engine.finishing_sessions() <= self.max_finishing {
            return false;
        }
        let progress = progress(counters);
        if progress != self.progress {
            self.progress = progress;
            self.progress_at = now;
        }
        if now.saturating_since(self.progress_at) < PATIENCE {
            return true;
        }
        self.progress_at = now;
        false
    }
}

/// A number that changes whenever the target has done something.
const fn progress(counters: &Counters) -> u64 {
    counters.request_bytes_acknowledged
        + counters.response_bytes
        + counters.syn_acks
        + counters.target_resets
        + counters.sessions_opened
        - counters.sessions_live
}
