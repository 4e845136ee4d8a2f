//! The way from a client's bytes to the target.
//!
//! Owns whether bytes can pass as they were captured, without a copy, or have to be made anew because one of the two connections
//! is compressed.

use crate::compression::Packer;
use plugin_sdk::{Actions, Reply};

/// Request bytes that are being decided about.
#[derive(Debug)]
pub(super) struct Out<'a, 'b> {
    /// What else is to be done.
    pub(super) actions: &'a mut Actions<'b>,
    bytes: &'a [u8],
    at: usize,
    /// The bytes are those that were captured.
    captured: bool,
    packer: Option<&'a mut Packer>,
}

impl<'a, 'b> Out<'a, 'b> {
    /// Captured bytes, on their way to a target whose connection is compressed by `packer`.
    pub(super) fn captured(
        actions: &'a mut Actions<'b>,
        bytes: &'a [u8],
        packer: Option<&'a mut Packer>,
    ) -> Self {
        Self { actions, bytes, at: 0, captured: true, packer }
    }

    /// Bytes that were taken out of captured ones, which are decided about already.
    pub(super) fn unpacked(
        actions: &'a mut Actions<'b>,
        bytes: &'a [u8],
        packer: Option<&'a mut Packer>,
    ) -> Self {
        Self { actions, bytes, at: 0, captured: false, packer }
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
        if self.captured && self.packer.is_none() {
            self.actions.forward(length);
        } else {
            if self.captured {
                self.actions.discard(length);
            }
            let bytes = self.bytes;
            self.put(&bytes[self.at..self.at + length]);
        }
        self.at += length;
    }

    /// Leaves the next bytes out.
    pub(super) fn skip(&mut self, length: usize) {
        if self.captured {
            self.actions.discard(length);
        }
        self.at += length;
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
