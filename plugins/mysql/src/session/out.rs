//! The way from a client's bytes to the target.
//!
//! Owns whether bytes can pass as they were captured, without a copy, or have to be made anew because one of the two connections
//! is compressed.

use super::packed::Pieces;
use crate::compression::Packer;
use plugin_sdk::{Actions, Reply};

/// Where request bytes come from.
#[derive(Debug)]
enum Source<'a> {
    /// They are those that were captured.
    Captured,
    /// They were taken out of captured ones; so many of these were decided about with them.
    Unpacked(&'a mut Pieces, usize),
}

/// Request bytes that are being decided about.
#[derive(Debug)]
pub(super) struct Out<'a, 'b> {
    /// What else is to be done.
    pub(super) actions: &'a mut Actions<'b>,
    bytes: &'a [u8],
    at: usize,
    source: Source<'a>,
    packer: Option<&'a mut Packer>,
}

impl<'a, 'b> Out<'a, 'b> {
    /// Captured bytes, on their way to a target whose connection is compressed by `packer`.
    pub(super) fn captured(
        actions: &'a mut Actions<'b>,
        bytes: &'a [u8],
        packer: Option<&'a mut Packer>,
    ) -> Self {
        Self { actions, bytes, at: 0, source: Source::Captured, packer }
    }

    /// Bytes that were taken out of captured ones, and which these are.
    pub(super) fn unpacked(
        actions: &'a mut Actions<'b>,
        bytes: &'a [u8],
        pieces: &'a mut Pieces,
        packer: Option<&'a mut Packer>,
    ) -> Self {
        Self { actions, bytes, at: 0, source: Source::Unpacked(pieces, 0), packer }
    }

    /// What is not decided about.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Number of bytes that were decided about.
    pub(super) const fn taken(&self) -> usize {
        self.at
    }

    /// Sends the next bytes as they are.
    pub(super) fn pass(&mut self, length: usize) {
        if matches!(self.source, Source::Captured) && self.packer.is_none() {
            self.actions.forward(length);
        } else {
            self.discard(length);
            let bytes = self.bytes;
            self.put(&bytes[self.at..self.at + length]);
        }
        self.at += length;
    }

    /// Leaves the next bytes out.
    pub(super) fn skip(&mut self, length: usize) {
        self.discard(length);
        self.at += length;
    }

    /// Leaves out the captured bytes that the next bytes are or came of.
    fn discard(&mut self, length: usize) {
        match &mut self.source {
            Source::Captured => self.actions.discard(length),
            Source::Unpacked(pieces, decided) => {
                let captured = pieces.take(length);
                self.actions.discard(captured);
                *decided += captured;
            }
        }
    }

    /// How many captured bytes that were unpacked were decided about.
    pub(super) const fn decided(&self) -> usize {
        match &self.source {
            Source::Captured => self.at,
            Source::Unpacked(_, decided) => *decided,
        }
    }

    /// Sends these.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        match &mut self.packer {
            Some(packer) => packer.put(bytes, self.actions),
            None => self.actions.send(bytes),
        }
    }

    /// The request ends.
    pub(super) fn end(&mut self, reply: Reply) {
        if let Some(packer) = &mut self.packer {
            packer.flush(self.actions);
        }
        self.actions.end_request(reply);
    }

    /// What was put goes now; the request does not end.
    pub(super) fn flush(&mut self) {
        if let Some(packer) = &mut self.packer {
            packer.flush(self.actions);
        }
    }
}
