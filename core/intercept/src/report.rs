//! What intercept counts, and how it tells.

use anyhow::Context;
use serde::Serialize;
use std::fmt;
use std::path::Path;
use tcpcopy_engine::relay::message::InterceptStats;
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_net::process::Usage;
use tcpcopy_net::source::CaptureStatistics;

/// Numbers since the start; they only grow.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) packets_unusable: u64,
    pub(crate) replies_relayed: u64,
    pub(crate) replies_early: u64,
    pub(crate) replies_without_route: u64,
    pub(crate) replies_dropped: u64,
    /// Seen on a second interface.
    pub(crate) replies_repeated: u64,
    pub(crate) routes_refused: u64,
    pub(crate) routes_expired: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) writes: u64,
    pub(crate) connections_accepted: u64,
    pub(crate) connections_lost: u64,
    pub(crate) peers_refused: u64,
    pub(crate) relay_age: Ages,
}

/// How old replies were when they were queued for tcpcopy: a histogram by powers of two.
#[derive(Clone, Debug)]
pub(crate) struct Ages([u64; 33]);

impl Default for Ages {
    fn default() -> Self {
        Self([0; 33])
    }
}

impl Ages {
    /// Counts one reply.
    pub(crate) const fn add(&mut self, micros: u32) {
        self.0[(u32::BITS - micros.leading_zeros()) as usize] += 1;
    }

    /// Microseconds that `share` (0.0 to 1.0) of the replies stayed below; `None` when there were none.
    pub(crate) fn below(&self, share: f64) -> Option<u64> {
        let total: u64 = self.0.iter().sum();
        let wanted = ((total as f64) * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(1 << bucket)
    }
}

impl Serialize for Ages {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([
            ("median_below_micros", self.below(0.5).unwrap_or(0)),
            ("p99_below_micros", self.below(0.99).unwrap_or(0)),
        ])
    }
}

/// Everything at one moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) seconds: f64,
    pub(crate) packets_captured: u64,
    pub(crate) kernel_drops: u64,
    #[serde(flatten)]
    pub(crate) counts: Counts,
    pub(crate) routes: usize,
    pub(crate) connections: usize,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_memory_bytes: u64,
}

impl Report {
    pub(crate) fn new(
        running: Duration,
        capture: CaptureStatistics,
        counts: Counts,
        routes: usize,
        connections: usize,
        usage: &Usage,
    ) -> Self {
        Self {
            seconds: running.as_secs_f64(),
            packets_captured: capture.received,
            kernel_drops: capture.dropped,
            counts,
            routes,
            connections,
            cpu_seconds: (usage.cpu_user + usage.cpu_system).as_secs_f64(),
            peak_memory_bytes: usage.peak_rss_bytes,
        }
    }

    /// What tcpcopy is told.
    pub(crate) const fn for_tcpcopy(&self) -> InterceptStats {
        InterceptStats {
            packets_captured: self.packets_captured,
            kernel_drops: self.kernel_drops,
            packets_unusable: self.counts.packets_unusable,
            replies_relayed: self.counts.replies_relayed,
            replies_early: self.counts.replies_early,
            replies_without_route: self.counts.replies_without_route,
            replies_dropped: self.counts.replies_dropped,
            routes: self.routes as u64,
            routes_refused: self.counts.routes_refused,
            bytes_sent: self.counts.bytes_sent,
            peers_refused: self.counts.peers_refused,
        }
    }

    /// Writes the report as JSON, whole or not at all.
    pub(crate) fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let temporary = path.with_extension("tmp");
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, path))
            .with_context(|| format!("cannot write the statistics to {}", path.display()))
    }

    /// What to look at, if the numbers show that something is wrong.
    pub(crate) fn advice(&self) -> Option<String> {
        if self.kernel_drops > 0 {
            return Some(
                "the kernel dropped packets: enlarge the ring (-B), or narrow the filter (-F)".into(),
            );
        }
        if self.packets_captured == 0 {
            return Some(
                "no packet was captured: on the target, 'ip route get <client address>' must name this host, and -i and \
                 -F must fit"
                    .into(),
            );
        }
        (self.counts.replies_relayed == 0 && self.counts.replies_without_route > 0).then(|| {
            "packets were captured and none was asked for: is it the target's replies that -F selects, and does \
             tcpcopy -s name this host?"
                .into()
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        write!(
            f,
            "captured {} (kernel dropped {}), relayed {} ({} early), without route {}, dropped {}; routes {}, \
             connections {}",
            self.packets_captured,
            self.kernel_drops,
            counts.replies_relayed,
            counts.replies_early,
            counts.replies_without_route,
            counts.replies_dropped,
            self.routes,
            self.connections,
        )?;
        if counts.peers_refused > 0 {
            write!(f, " ({} refused)", counts.peers_refused)?;
        }
        if let (Some(median), Some(tail)) = (counts.relay_age.below(0.5), counts.relay_age.below(0.99)) {
            write!(f, "; delay below {median} µs (median), {tail} µs (p99)")?;
        }
        write!(
            f,
            "; {} in {} writes; CPU {:.2} s, memory {} at most",
            Bytes(counts.bytes_sent),
            counts.writes,
            self.cpu_seconds,
            Bytes(self.peak_memory_bytes)
        )
    }
}

struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ ..10_000 => write!(f, "{bytes} B"),
            bytes @ ..10_000_000 => write!(f, "{:.1} kB", bytes as f64 / 1e3),
            bytes => write!(f, "{:.1} MB", bytes as f64 / 1e6),
        }
    }
}

/// Warnings that somebody else can cause as often as they like: a few are shown, the rest are counted.
#[derive(Debug, Default)]
pub(crate) struct RateLimited {
    window: Option<Instant>,
    shown: u32,
    suppressed: u64,
}

impl RateLimited {
    const WINDOW: Duration = Duration::from_secs(10);
    const PER_WINDOW: u32 = 5;

    /// Shows the warning, or counts it.
    pub(crate) fn warn(&mut self, now: Instant, message: impl FnOnce() -> String) {
        if self.may_show(now) {
            match std::mem::take(&mut self.suppressed) {
                0 => tracing::warn!("{}", message()),
                more => tracing::warn!("{} ({more} warnings like this were left out before)", message()),
            }
        }
    }

    fn may_show(&mut self, now: Instant) -> bool {
        if self.window.is_none_or(|start| now.saturating_since(start) >= Self::WINDOW) {
            self.window = Some(now);
            self.shown = 0;
        }
        if self.shown >= Self::PER_WINDOW {
            self.suppressed += 1;
            return false;
        }
        self.shown += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_from_above() {
        let mut ages = Ages::default();
        assert_eq!(ages.below(0.5), None);
        for _ in 0..99 {
            ages.add(30);
        }
        ages.add(u32::MAX);
        assert_eq!((ages.below(0.5), ages.below(0.99), ages.below(1.0)), (Some(32), Some(32), Some(1 << 32)));
        let mut zero = Ages::default();
        zero.add(0);
        assert_eq!(zero.below(0.5), Some(1));
    }

    #[test]
    fn warnings_are_limited_and_counted() {
        let mut limit = RateLimited::default();
        let shown = (0..100).filter(|_| limit.may_show(Instant::from_millis(1))).count();
        assert_eq!((shown, limit.suppressed), (5, 95));
        assert!(limit.may_show(Instant::from_millis(10_001)));
    }

    #[test]
    fn a_report_says_what_to_look_at() {
        let report = |captured, relayed, without| {
            let counts =
                Counts { replies_relayed: relayed, replies_without_route: without, ..Counts::default() };
            let capture = CaptureStatistics { received: captured, dropped: 0 };
            Report::new(Duration::from_secs(1), capture, counts, 0, 0, &Usage::default())
        };
        assert!(report(0, 0, 0).advice().is_some_and(|advice| advice.contains("ip route get")));
        assert!(report(5, 0, 5).advice().is_some_and(|advice| advice.contains("-F")));
        assert_eq!(report(5, 5, 0).advice(), None);
        assert!(serde_json::to_string(&report(5, 5, 0)).unwrap().contains("\"replies_relayed\":5"));
    }
}
