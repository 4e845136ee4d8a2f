//! A client's compressed bytes: what was in them, and which of them are to be decided about with it.
//!
//! A request's captured bytes are decided about when the request is, not when they are inflated: they are what the host knows
//! it by.

use crate::compression::{UnpackError, Unpacker};
use std::collections::VecDeque;

/// Which captured bytes go with which inflated ones.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// So many captured bytes gave all up to this place in the inflated stream.
    ends: VecDeque<(usize, u64)>,
    /// So many, behind those, gave nothing yet, such as a header: they go with what follows.
    silent: usize,
    /// Inflated so far.
    came: u64,
    /// Of those, decided about.
    went: u64,
}

impl Pieces {
    /// So many captured bytes gave so many inflated ones.
    fn add(&mut self, captured: usize, inflated: usize) {
        self.came += inflated as u64;
        self.silent += captured;
        if inflated > 0 {
            self.ends.push_back((std::mem::take(&mut self.silent), self.came));
        }
    }

    /// A packet ends. What gave nothing at its end, a checksum say, goes with what it gave last.
    fn end_packet(&mut self) {
        if let Some((captured, _)) = self.ends.back_mut() {
            *captured += std::mem::take(&mut self.silent);
        }
    }

    /// The next inflated bytes are decided about. Gives how many captured ones are with them.
    pub(super) fn take(&mut self, inflated: usize) -> usize {
        self.went += inflated as u64;
        let mut captured = 0;
        while let Some((bytes, _)) = self.ends.pop_front_if(|(_, end)| *end <= self.went) {
            captured += bytes;
        }
        captured
    }
}

/// A client's compressed stream.
#[derive(Debug, Default)]
pub(super) struct Packed {
    unpacker: Unpacker,
    /// Inflated and not decided about.
    pub(super) plain: Vec<u8>,
    /// What they came of.
    pub(super) pieces: Pieces,
    /// Undecided captured bytes that were inflated already.
    fed: usize,
}

impl Packed {
    /// Takes all captured bytes that are undecided, and hands over what is in the new ones.
    ///
    /// # Errors
    /// When they are no packets.
    pub(super) fn feed(&mut self, undecided: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), UnpackError> {
        let mut new = undecided.get(self.fed..).unwrap_or_default();
        while !new.is_empty() {
            let (piece, rest) = new.split_at(self.unpacker.until_boundary(new.len()));
            let before = self.plain.len();
            let was_within = self.unpacker.is_within();
            let plain = &mut self.plain;
            self.unpacker.feed(piece, |bytes, _| {
                each(bytes);
                plain.extend_from_slice(bytes);
            })?;
            self.pieces.add(piece.len(), self.plain.len() - before);
            if was_within && !self.unpacker.is_within() {
                self.pieces.end_packet();
            }
            self.fed += piece.len();
            new = rest;
        }
        Ok(())
    }

    /// How many inflated bytes may be decided about. The last one of a packet may not before all of that has come, so that nothing of it
    /// is left when a request ends with it.
    pub(super) fn decidable(&self, inflated: usize) -> usize {
        if self.unpacker.is_within() { inflated.saturating_sub(1) } else { inflated }
    }

    /// So many captured bytes were decided about.
    pub(super) fn decided(&mut self, captured: usize) {
        self.fed -= captured.min(self.fed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::{Algorithm, pack};

    #[test]
    fn captured_bytes_go_with_what_was_in_them() {
        for algorithm in [Algorithm::Zlib, Algorithm::Zstd] {
            let messages = [vec![b'a'; 10], vec![b'b'; 70_000], vec![b'c'; 200]];
            let (mut stream, mut ends) = (Vec::new(), Vec::new());
            for message in &messages {
                pack(algorithm, 0, message, &mut stream);
                ends.push(stream.len());
            }
            for step in [1, 5, 100, stream.len()] {
                let mut packed = Packed::default();
                let (mut decided, mut at) = (0, 0);
                for end in (0..stream.len()).step_by(step).map(|from| (from + step).min(stream.len())) {
                    packed.feed(&stream[decided..end], |_| ()).unwrap();
                    while at < messages.len() && packed.decidable(packed.plain.len()) >= messages[at].len() {
                        packed.plain.drain(..messages[at].len());
                        let captured = packed.pieces.take(messages[at].len());
                        packed.decided(captured);
                        decided += captured;
                        assert_eq!(decided, ends[at], "{algorithm:?} {step}");
                        at += 1;
                    }
                }
                assert_eq!(at, messages.len(), "{algorithm:?} {step}");
            }
        }
    }
}
