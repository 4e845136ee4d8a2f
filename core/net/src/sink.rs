//! Where outgoing packets go.

use tcpcopy_engine::batch::PacketBatch;

/// One packet of a batch that could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendFailure {
    /// The packet's place in its batch.
    pub index: usize,
    /// The error number, as in `errno(3)`.
    pub errno: i32,
}

/// Something that takes outgoing packets.
pub trait PacketSink: Send {
    /// Sends every packet of `batch`. What fails is added to `failures`, in order of the index; the rest is sent all the same.
    fn send(&mut self, batch: &PacketBatch, failures: &mut Vec<SendFailure>);
}

/// Takes every packet and sends none: for measuring and for `--dry-run`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NullSink {
    packets: u64,
    bytes: u64,
}

impl NullSink {
    /// A sink that has taken nothing yet.
    pub const fn new() -> Self {
        Self { packets: 0, bytes: 0 }
    }

    /// Packets taken.
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// Their bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl PacketSink for NullSink {
    fn send(&mut self, batch: &PacketBatch, _failures: &mut Vec<SendFailure>) {
        self.packets += batch.len() as u64;
        self.bytes += batch.bytes().len() as u64;
    }
}
