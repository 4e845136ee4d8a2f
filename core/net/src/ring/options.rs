//! What a ring is opened with.

use crate::filter::{Filter, MAX_INSTRUCTIONS, PortSide, client_port_program, fanout_program};
use crate::source::CaptureError;
use crate::sys::ring::{Geometry, READS_OPEN_BLOCKS};

/// Which packets of an interface are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Direction {
    /// Those that the host receives.
    #[default]
    Incoming,
    /// Those that it receives and those that it sends. On a loopback interface each packet is both, and is seen once, as
    /// received.
    Both,
}

/// What the worker of a packet is chosen by. Every packet of a connection in one direction has the same key.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum FanoutKey {
    /// The sender's TCP port: for what clients send.
    #[default]
    SourcePort,
    /// The receiver's TCP port: for what servers answer.
    DestinationPort,
    /// The TCP port that is none of the online servers' ports, these: for what clients and servers send to each other. Both
    /// directions of a connection have the same key. A client whose own port is among them gets the larger of both.
    ClientPort(Vec<u16>),
    /// The kernel's flow hash, which nobody else can compute.
    FlowHash,
}

/// Membership in a group of workers that share the packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fanout {
    /// The group's number. It is shared by all members, and with each interface it takes two numbers from here on, so groups
    /// of different programs should lie apart: [`Fanout::group_of_process`].
    pub group: u16,
    /// What the worker is chosen by.
    pub key: FanoutKey,
}

impl Fanout {
    /// A group number that other processes are unlikely to use.
    pub fn group_of_process() -> u16 {
        (std::process::id() as u16).wrapping_mul(64)
    }

    /// The member (counted from 0 in the order of joining) that gets the packets of `port` when there are `workers`.
    ///
    /// IPv4 fragments are put together first. A packet whose port can't be found (an IPv6 fragment, an extension header) goes
    /// to member 0.
    pub const fn worker_of_port(port: u16, workers: u16) -> u16 {
        // reciprocal_scale is not used for programs: the kernel takes the result modulo the number of members.
        if workers == 0 { 0 } else { port % workers }
    }

    fn port_count(&self) -> usize {
        match &self.key {
            FanoutKey::ClientPort(ports) => ports.len(),
            _ => 1,
        }
    }

    /// The program that chooses the worker; none for the kernel's own hash.
    pub(super) fn program(&self) -> Option<Vec<libc::sock_filter>> {
        match &self.key {
            FanoutKey::SourcePort => Some(fanout_program(PortSide::Source)),
            FanoutKey::DestinationPort => Some(fanout_program(PortSide::Destination)),
            FanoutKey::ClientPort(ports) => Some(client_port_program(ports)),
            FanoutKey::FlowHash => None,
        }
    }
}

/// How to capture.
#[derive(Clone, Debug)]
pub struct RingOptions {
    /// Names of the interfaces; empty for every interface, those that appear later included.
    pub interfaces: Vec<String>,
    /// Which packets; compiled anew where an interface has another link header than the filter was compiled for.
    pub filter: Filter,
    /// Bytes of each interface's ring. The memory is taken at once and counts as resident.
    pub ring_bytes: usize,
    /// Bytes kept of each packet. 65,535 holds whatever GRO makes of TCP segments, unless BIG TCP is on (up to 524,288).
    pub snap_len: usize,
    /// Which packets, by direction.
    pub direction: Direction,
    /// Membership in a group of workers.
    pub fanout: Option<Fanout>,
    /// Whether packets for other hosts are captured too (mirror ports).
    pub promiscuous: Promiscuity,
}

/// Whether an interface takes packets that are not addressed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Promiscuity {
    /// It does not.
    #[default]
    Off,
    /// It does while it is captured from.
    On,
}

impl RingOptions {
    /// Options with `filter` and the defaults: every interface, 32 MiB, whole packets, incoming ones, no fanout.
    pub fn new(filter: Filter) -> Self {
        Self {
            interfaces: Vec::new(),
            filter,
            ring_bytes: 32 << 20,
            snap_len: 65_535 + LINK_ROOM,
            direction: Direction::Incoming,
            fanout: None,
            promiscuous: Promiscuity::Off,
        }
    }

    pub(super) fn check(&self) -> Result<(), CaptureError> {
        if self.snap_len == 0 || self.snap_len > MAX_SNAP_LEN {
            return Err(snap_len_error(self.snap_len, "it has to lie between 1 and 1048576"));
        }
        if self.ring_bytes < 2 * self.block_bytes() || self.ring_bytes > MAX_RING {
            return Err(CaptureError::Option {
                what: "a ring size",
                value: self.ring_bytes,
                why: "it has to hold two blocks (512 KiB, more for a long snapshot length) and be below 4 GiB",
            });
        }
        if self
            .fanout
            .as_ref()
            .and_then(Fanout::program)
            .is_some_and(|program| program.len() > MAX_INSTRUCTIONS)
        {
            return Err(CaptureError::Option {
                what: "a choice of workers by a number of online ports",
                value: self.fanout.as_ref().map_or(0, Fanout::port_count),
                why: "the kernel takes programs for about 1000 ports: use one worker",
            });
        }
        Ok(())
    }

    /// A block holds at least three of the largest packets, so that not much of it is lost at the end.
    fn block_bytes(&self) -> usize {
        (PACKETS_IN_BLOCK * self.snap_len).next_power_of_two().max(LEAST_BLOCK)
    }

    /// The longest snapshot length that the ring's blocks are made for; no shorter than that of whole packets without BIG TCP.
    pub(super) fn longest_snap_len(&self) -> usize {
        self.block_bytes() / PACKETS_IN_BLOCK
    }

    pub(super) fn geometry(&self) -> Geometry {
        let block_bytes = self.block_bytes();
        Geometry {
            block_bytes,
            blocks: self.ring_bytes / block_bytes,
            // Where open blocks are read and the doorbell wakes, the timeout is a backstop only, and a short one would wake
            // the worker for blocks that it has read already.
            retire_millis: if READS_OPEN_BLOCKS { 20 } else { 1 },
        }
    }
}

/// Room for a link header and tags above the largest IP packet.
const LINK_ROOM: usize = 14 + 8;
const PACKETS_IN_BLOCK: usize = 3;
const LEAST_BLOCK: usize = 256 << 10;
const MAX_SNAP_LEN: usize = 1 << 20;
const MAX_RING: usize = (4 << 30) - 1;

pub(super) fn snap_len_error(snap_len: usize, why: &'static str) -> CaptureError {
    CaptureError::Option { what: "a snapshot length", value: snap_len, why }
}
