//! Staging requests anew: what was taken from a connection, or staged already, without what was given up.
//!
//! Owns the copying and what it makes of offsets. Which requests there are is for [`super::Outbox`] to say.

use super::outbox::STAGED_BASE;
use std::collections::VecDeque;

/// What becomes of bytes that belong to no captured request when the requests around them are staged anew.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Strays {
    Kept,
    /// They are gone with their connection.
    Lost,
}

/// Bytes of a connection, or staged ones.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a> {
    pub(super) bytes: &'a VecDeque<u8>,
    /// Where writes end in them.
    pub(super) boundaries: &'a [u64],
    /// Stream offset of the first.
    pub(super) base: u64,
}

impl Bytes<'_> {
    pub(super) fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }
}

/// Requests that are staged anew.
pub(super) struct Staging<'a> {
    pub(super) staged: &'a mut VecDeque<u8>,
    pub(super) boundaries: &'a mut VecDeque<u64>,
    pub(super) sources: [Bytes<'a>; 2],
    /// How far either source is dealt with.
    pub(super) passed: [u64; 2],
    pub(super) strays: Strays,
}

impl Staging<'_> {
    /// Stages what lies between two offsets of a source. Returns where it lies then.
    pub(super) fn stage(&mut self, source: usize, start: u64, end: u64) -> (u64, u64) {
        let Bytes { bytes, boundaries, base } = self.sources[source];
        let to = STAGED_BASE + self.staged.len() as u64;
        self.staged.extend(bytes.range((start - base) as usize..(end - base) as usize));
        let within = boundaries.iter().filter(|b| start < **b && **b <= end);
        self.boundaries.extend(within.map(|b| b - start + to));
        (to, to + (end - start))
    }

    /// Deals with what belongs to no request before `end`.
    pub(super) fn pass(&mut self, source: usize, end: u64) {
        let start = self.passed[source];
        let end = end.min(self.sources[source].end());
        if start < end {
            self.passed[source] = end;
            if self.strays == Strays::Kept {
                self.stage(source, start, end);
            }
        }
    }
}
