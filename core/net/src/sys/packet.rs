//! AF_PACKET sockets.

use super::{check, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

// linux/if_packet.h; libc has none of these.
const PACKET_ADD_MEMBERSHIP: i32 = 1;
const PACKET_STATISTICS: i32 = 6;
const PACKET_VERSION: i32 = 10;
const PACKET_FANOUT: i32 = 18;
const PACKET_FANOUT_DATA: i32 = 22;
const PACKET_IGNORE_OUTGOING: i32 = 23;
const PACKET_MR_PROMISC: u16 = 1;
const TPACKET_V3: i32 = 2;

/// Fanout by a classic BPF program (`PACKET_FANOUT_CBPF`).
pub(crate) const FANOUT_PROGRAM: u32 = 6;
/// Fanout by the kernel's own flow hash.
pub(crate) const FANOUT_HASH: u32 = 0;
/// IPv4 fragments are put together before the worker is chosen.
pub(crate) const FANOUT_FLAG_DEFRAGMENT: u32 = 0x8000;

/// struct packet_mreq.
#[repr(C)]
#[derive(Clone, Copy)]
struct Membership {
    interface: i32,
    kind: u16,
    address_length: u16,
    address: [u8; 8],
}
// SAFETY: numbers only; 4 + 2 + 2 + 8 bytes, so there is no padding.
unsafe impl socket::Plain for Membership {}

/// What this host sends is left out, for the whole group (Linux 5.10); the sockets' own setting does not count in a group.
pub(crate) const FANOUT_FLAG_IGNORE_OUTGOING: u32 = 0x4000;

/// What one packet of a socket starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// The link header (`SOCK_RAW`).
    Link,
    /// The network header (`SOCK_DGRAM`).
    Network,
}

/// A packet socket that receives nothing until it is bound: what came before the filter was attached can't be in it.
pub(crate) fn open(layer: Layer) -> io::Result<OwnedFd> {
    let kind = match layer {
        Layer::Link => libc::SOCK_RAW,
        Layer::Network => libc::SOCK_DGRAM,
    };
    socket::open(libc::AF_PACKET, kind | libc::SOCK_NONBLOCK, 0)
}

/// Starts receiving every protocol, on one interface or (index 0) on all.
pub(crate) fn bind(fd: &OwnedFd, interface: u32) -> io::Result<()> {
    bind_protocol(fd, interface, (libc::ETH_P_ALL as u16).to_be())
}

/// Chooses the interface to send on; nothing is received.
pub(crate) fn bind_for_sending(fd: &OwnedFd, interface: u32) -> io::Result<()> {
    bind_protocol(fd, interface, 0)
}

fn bind_protocol(fd: &OwnedFd, interface: u32, protocol: u16) -> io::Result<()> {
    let address = address(interface, protocol, [0; 6]);
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `address` is a whole sockaddr_ll that outlives the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
}

/// A link-layer address; `protocol` in network order.
pub(crate) fn address(interface: u32, protocol: u16, mac: [u8; 6]) -> libc::sockaddr_ll {
    let mut bytes = [0; 8];
    bytes[..6].copy_from_slice(&mac);
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: i32::try_from(interface).unwrap_or(0),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: bytes,
    }
}

/// Switches the socket to TPACKET_V3, which has to come before the ring is made.
pub(crate) fn set_ring_version(fd: &OwnedFd) -> io::Result<()> {
    socket::set_option(fd, libc::SOL_PACKET, PACKET_VERSION, &TPACKET_V3)
}

/// Leaves out what this host sends (Linux 4.20).
pub(crate) fn ignore_outgoing(fd: &OwnedFd) -> io::Result<()> {
    socket::set_option(fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1i32)
}

/// Puts the interface into promiscuous mode for as long as the socket is open.
pub(crate) fn set_promiscuous(fd: &OwnedFd, interface: u32) -> io::Result<()> {
    let request = Membership {
        interface: i32::try_from(interface).unwrap_or(0),
        kind: PACKET_MR_PROMISC,
        address_length: 0,
        address: [0; 8],
    };
    socket::set_option(fd, libc::SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request)
}

/// Joins a fanout group; the socket has to be bound.
pub(crate) fn join_fanout(fd: &OwnedFd, group: u16, kind: u32) -> io::Result<()> {
    socket::set_option(fd, libc::SOL_PACKET, PACKET_FANOUT, &(u32::from(group) | kind << 16))
}

/// Gives the group that the socket is in its program.
pub(crate) fn set_fanout_program(fd: &OwnedFd, program: &[libc::sock_filter]) -> io::Result<()> {
    socket::attach_program(fd, libc::SOL_PACKET, PACKET_FANOUT_DATA, program)
}

/// Packets stored and packets dropped since the last call, which resets both.
pub(crate) fn take_statistics(fd: &OwnedFd) -> io::Result<(u64, u64)> {
    use std::os::fd::AsFd;
    // struct tpacket_stats_v3: packets (drops among them), drops, times the queue was frozen.
    let mut numbers = [0u32; 3];
    socket::get_option(fd.as_fd(), libc::SOL_PACKET, PACKET_STATISTICS, &mut numbers)?;
    Ok((u64::from(numbers[0].wrapping_sub(numbers[1])), numbers[1].into()))
}
