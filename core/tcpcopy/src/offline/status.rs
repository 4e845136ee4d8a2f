//! What became of a replay of capture files.

use crate::report::Histogram;
use std::fmt;
use std::time::Duration;
use tcpcopy_capture_file::Flaw;
use tcpcopy_engine::counters::{Counters, EndReason};

/// How far the replay of capture files has come.
#[derive(Clone, Debug, Default)]
pub struct OfflineStatus {
    /// Frames played.
    pub frames: u64,
    /// Frames that the filter (`-F`) or the window (`--at`) left out.
    pub frames_left_out: u64,
    /// Bytes of the files read, over all passes.
    pub bytes_read: u64,
    /// Size of the files, where it is known.
    pub bytes_total: Option<u64>,
    /// Times that they are played.
    pub passes: u32,
    /// Times that they were played to the end.
    pub passes_done: u32,
    /// From the first packet of the capture to the last that was played, in this pass.
    pub captured_span: Duration,
    /// How late requests were sent, against their times in the capture; empty where no time is kept.
    pub lag: Histogram,
    /// Time that reading waited for the target.
    pub held_back: Duration,
    /// What is wrong with the files: at most the first hundred.
    pub flaws: Vec<Flaw>,
    /// How much is.
    pub flaw_count: u64,
    /// Whether everything was played that was to be.
    pub is_complete: bool,
}

impl OfflineStatus {
    /// Share of the files that was read, over all passes; none where their size is not known.
    pub fn share_read(&self) -> Option<f64> {
        let all = self.bytes_total?.checked_mul(u64::from(self.passes.max(1)))?;
        (all > 0).then(|| (self.bytes_read as f64 / all as f64).min(1.0))
    }
}

/// Whether a replay of capture files has done all that it was to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What speaks against it, each with what to do.
    pub complaints: Vec<(String, String)>,
}

impl Verdict {
    /// Judges a finished run. Of what was lost, `allow_loss` percent are accepted, and with it flaws of the files.
    pub fn new(counters: &Counters, status: &OfflineStatus, allow_loss: Option<f64>) -> Self {
        let mut complaints = Vec::new();
        if !status.is_complete {
            complaints.push((
                "the replay was stopped before the end of the capture".to_owned(),
                "run it again, or choose a part with --at and --limit".to_owned(),
            ));
        }
        let limit = allow_loss.unwrap_or(0.0);
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
        let lost = lost_requests(counters);
        let lost_share = share(lost, counters.requests_captured);
        if lost_share > limit {
            let of = counters.requests_captured;
            complaints.push((
                format!("{lost} of {of} requests were lost ({lost_share:.2} %)"),
                "the report says why, reason by reason; --allow-loss PERCENT accepts some".to_owned(),
            ));
        }
        let left_out = counters.connections_loopback;
        if share(left_out, left_out + counters.connections_seen) > limit {
            complaints.push((
                format!("{left_out} connections are from the loopback and were left out"),
                "give their clients an address that the target can answer to: -c or -H".to_owned(),
            ));
        }
        if counters.connections_seen + left_out + counters.requests_captured == 0 && allow_loss.is_none() {
            complaints.push((
                "no connection of the capture is to a server in -x".to_owned(),
                "tcpcopy inspect FILE shows what is in it, and the -x that fits".to_owned(),
            ));
        }
        if allow_loss.is_none() && status.flaw_count > 0 {
            let first = status.flaws.first().map(|flaw| format!(": {flaw}")).unwrap_or_default();
            complaints.push((
                format!("the capture is not whole{first}"),
                "what could be read was replayed; --allow-loss PERCENT accepts damaged files".to_owned(),
            ));
        }
        Self { complaints }
    }

    /// Whether nothing speaks against it.
    pub const fn is_good(&self) -> bool {
        self.complaints.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, hint) in &self.complaints {
            write!(f, "error: {what}\nhint: {hint}\n")?;
        }
        Ok(())
    }
}

/// Requests given up that no option asked to leave out.
pub fn lost_requests(counters: &Counters) -> u64 {
    let asked_for = counters.requests_given_up.get(EndReason::Filtered);
    counters.requests_given_up.total() - asked_for + counters.requests_waiting
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> OfflineStatus {
        OfflineStatus { is_complete: true, ..OfflineStatus::default() }
    }

    fn counters(captured: u64, lost: u64, filtered: u64) -> Counters {
        let mut counters = Counters {
            connections_seen: 1,
            requests_captured: captured,
            requests_acknowledged: captured - lost - filtered,
            ..Counters::default()
        };
        counters.requests_given_up.add(EndReason::TargetReset, lost);
        counters.requests_given_up.add(EndReason::Filtered, filtered);
        counters
    }

    #[test]
    fn what_options_leave_out_is_not_lost() {
        assert!(Verdict::new(&counters(10, 0, 4), &complete(), None).is_good());
        assert!(!Verdict::new(&counters(10, 1, 4), &complete(), None).is_good());
    }

    #[test]
    fn some_loss_may_be_accepted() {
        assert!(Verdict::new(&counters(100, 1, 0), &complete(), Some(1.0)).is_good());
        assert!(!Verdict::new(&counters(100, 2, 0), &complete(), Some(1.0)).is_good());
    }

    #[test]
    fn a_capture_of_something_else_and_one_that_was_stopped_are_not_done() {
        assert!(!Verdict::new(&Counters::default(), &complete(), None).is_good());
        assert!(!Verdict::new(&counters(1, 0, 0), &OfflineStatus::default(), Some(100.0)).is_good());
        let loopback = Counters { connections_loopback: 3, ..counters(1, 0, 0) };
        assert!(!Verdict::new(&loopback, &complete(), None).is_good());
    }
}
