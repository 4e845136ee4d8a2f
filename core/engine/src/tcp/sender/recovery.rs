//! Loss that the target's acknowledgements tell of: duplicates, selective acknowledgements, and the holes that they show
//! (RFC 5681, RFC 6582, RFC 2018).

use super::{DUPLICATE_THRESHOLD, Plan, Recovery, Sender, Timer};
use crate::time::Instant;
use smallvec::SmallVec;

impl Sender {
    pub(super) fn note_sacked(&mut self, blocks: &SmallVec<[(u64, u64); 4]>) -> bool {
        let before = self.sacked_bytes();
        for &(start, end) in blocks {
            // Blocks below what is acknowledged report duplicates (RFC 2883) and tell nothing about holes.
            let (mut start, mut end) = (start.max(self.una), end.min(self.highest_sent));
            if start >= end {
                continue;
            }
            self.sacked.retain(|(a, b)| {
                let apart = *b < start || *a > end;
                if !apart {
                    start = start.min(*a);
                    end = end.max(*b);
                }
                apart
            });
            let at = self.sacked.partition_point(|(a, _)| *a < start);
            self.sacked.insert(at, (start, end));
        }
        self.sacked_bytes() > before
    }

    pub(super) fn on_duplicate(&mut self, duplicate: bool) {
        if duplicate {
            self.duplicates += 1;
        }
        let lost = self.duplicates >= DUPLICATE_THRESHOLD
            || self.sacked_bytes() >= u64::from(DUPLICATE_THRESHOLD) * self.segment;
        match &mut self.recovery {
            Some(recovery) if duplicate => recovery.allowance += 1,
            Some(_) => {}
            None if lost => {
                self.congestion.on_loss(self.in_flight());
                self.recovery =
                    Some(Recovery { until: self.highest_sent, next_hole: self.una, allowance: 1 });
            }
            None => {}
        }
    }

    pub(super) fn poll_hole(&mut self, now: Instant) -> Option<Plan> {
        let recovery = self.recovery.as_mut()?;
        if recovery.allowance == 0 {
            return None;
        }
        let mut start = recovery.next_hole.max(self.una);
        let mut hole_end = recovery.until;
        if self.sacked.is_empty() {
            // Without SACK only the first missing segment is known to be lost.
            if start > self.una {
                return None;
            }
        } else {
            for &(a, b) in &self.sacked {
                if start < a {
                    hole_end = a;
                    break;
                }
                start = start.max(b);
            }
            if self.sacked.last().is_none_or(|(_, b)| start >= *b) {
                return None;
            }
        }
        recovery.allowance -= 1;
        let limit = hole_end.min(self.highest_sent);
        let plan = self.cut(start, limit)?;
        if let Some(recovery) = &mut self.recovery {
            recovery.next_hole = plan.offset + plan.len as u64 + u64::from(plan.fin);
        }
        self.rtt.retransmitted();
        self.sent_again_below = self.sent_again_below.max(plan.offset + plan.len as u64);
        self.timer = Timer::Retransmit(now + self.rtt.timeout());
        Some(Plan { again: true, ..plan })
    }
}
