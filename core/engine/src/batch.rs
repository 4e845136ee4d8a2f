//! Outgoing packets, collected so that one system call sends many.

use crate::flow::Endpoint;
use std::ops::Range;

/// Where one outgoing packet lies in its batch, and whom it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutgoingPacket {
    start: u32,
    end: u32,
    /// The target that the packet goes to.
    pub target: Endpoint,
    /// Number by which the engine finds the session again when sending fails.
    pub session: u32,
    /// Capture time of the oldest request byte in the packet that had nothing to wait for, in nanoseconds of the Unix epoch;
    /// 0 when there is none. The program compares it with the time of injection.
    pub captured_at_nanos: u64,
}

impl OutgoingPacket {
    /// The packet's bytes in [`PacketBatch::bytes`].
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Outgoing IP packets, complete with checksums, one after another in one buffer that is used again and again.
#[derive(Default, Debug)]
pub struct PacketBatch {
    bytes: Vec<u8>,
    packets: Vec<OutgoingPacket>,
}

impl PacketBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one packet that `write` puts at the end of the buffer it is given.
    pub fn push(
        &mut self,
        target: Endpoint,
        session: u32,
        captured_at_nanos: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.bytes.len() as u32;
        write(&mut self.bytes);
        let end = self.bytes.len() as u32;
        self.packets.push(OutgoingPacket { start, end, target, session, captured_at_nanos });
    }

    /// The packets, in the order in which they are to be sent.
    pub fn packets(&self) -> &[OutgoingPacket] {
        &self.packets
    }

    /// One packet's bytes, starting with its IP header.
    pub fn packet(&self, index: usize) -> &[u8] {
        &self.bytes[self.packets[index].range()]
    }

    /// All bytes; [`OutgoingPacket::range`] is a place in here.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of packets.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there is no packet.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Forgets the packets and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
    }
}
