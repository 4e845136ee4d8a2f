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

/// What an error number of a failed send usually means, and what to do about it.
pub fn explain_errno(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::EPERM | libc::EACCES => {
            "a firewall rule on this host drops the packets (nft/iptables OUTPUT), or conntrack is full"
        }
        libc::EMSGSIZE => "the packets are larger than the MTU of the way to the target (overlay, tunnel)",
        libc::ENOBUFS | libc::EAGAIN => {
            "the interface's queue is full; the packets are retransmitted. Lower the load or lengthen txqueuelen"
        }
        libc::ENETUNREACH | libc::EHOSTUNREACH => {
            "there is no route to the target; check: ip route get <target>"
        }
        libc::ENETDOWN => "the interface towards the target is down",
        libc::EINVAL => {
            "the kernel refuses the packets; is the client address (-c) one that may be sent from?"
        }
        _ => return None,
    })
}
