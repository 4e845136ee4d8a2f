//! What a plugin may ask of the host, for both kinds: log, count, time, random bytes, and whose events follow.
//!
//! Owns the limits on each. One [`Calls`] belongs to one instance; what it counts is handed to the module's shared state once
//! a batch, so that no lock is taken in a call.

use crate::shared::Shared;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Most random bytes of a call.
const MAX_RANDOM: usize = 65536;
/// Longest message that is logged, in bytes.
const MAX_MESSAGE: usize = 2048;

/// Longest that is kept for the report of a fault.
const MAX_COMPLAINT: usize = 300;

/// How important a plugin's message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The host's side of one instance.
pub(crate) struct Calls {
    shared: Arc<Shared>,
    now: u64,
    session: Option<u64>,
    counts: Vec<(String, u64)>,
    /// The last message about an error in this batch: a panic says so before it becomes a trap.
    complaint: Option<String>,
    random: Random,
}

impl Calls {
    pub(crate) fn new(shared: Arc<Shared>, seed: [u8; 32]) -> Self {
        Self { shared, now: 0, session: None, counts: Vec::new(), complaint: None, random: Random::new(seed) }
    }

    /// A batch begins.
    pub(crate) fn begin(&mut self, now: u64) {
        self.now = now;
        self.session = None;
        self.complaint = None;
    }

    /// A batch is over, well or not: counts are handed on.
    pub(crate) fn end(&mut self) {
        if !self.counts.is_empty() {
            self.shared.add_counts(&mut self.counts);
        }
    }

    /// The session that was entered last in this batch.
    pub(crate) fn session(&self) -> Option<u64> {
        self.session
    }

    pub(crate) fn enter(&mut self, session: u64) {
        self.session = Some(session);
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn log(&mut self, level: Level, message: &str) {
        if level == Level::Error {
            self.complaint = Some(shortened(message, MAX_COMPLAINT).to_owned());
        }
        self.shared.log(level, shortened(message, MAX_MESSAGE));
    }

    /// The last message about an error in this batch.
    pub(crate) fn complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    pub(crate) fn count(&mut self, name: &str, amount: u64) {
        // A batch counts few names, mostly the same: a search through a short list costs less than a hash.
        if let Some(entry) = self.counts.iter_mut().find(|entry| entry.0 == name) {
            entry.1 = entry.1.saturating_add(amount);
            return;
        }
        self.counts.push((crate::shared::count_name(name).to_owned(), amount));
        if self.counts.len() > 64 {
            self.end();
        }
    }

    /// Random bytes, at most [`MAX_RANDOM`].
    pub(crate) fn random(&mut self, length: u32) -> Vec<u8> {
        let mut bytes = vec![0; (length as usize).min(MAX_RANDOM)];
        self.random.fill(&mut bytes);
        bytes
    }

    pub(crate) fn fill_random(&mut self, into: &mut [u8]) {
        self.random.fill(into);
    }
}

/// The first bytes of `text`, up to `limit`, without half a character.
pub(crate) fn shortened(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// A hash in counter mode: the same bytes for the same seed on every machine.
struct Random {
    seed: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Random {
    fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0, block: [0; 32], used: 32 }
    }

    fn fill(&mut self, into: &mut [u8]) {
        for byte in into {
            if self.used == self.block.len() {
                let mut hash = Sha256::new();
                hash.update(self.seed);
                hash.update(self.counter.to_le_bytes());
                self.block = hash.finalize().into();
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
}
