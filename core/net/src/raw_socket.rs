//! Injection through raw IP sockets: the kernel routes, and nothing of the packets is changed.

use crate::sink::{PacketSink, SendFailure};
use crate::sys::message::{MessageVector, Recipient};
use crate::sys::socket;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use tcpcopy_engine::batch::PacketBatch;

/// Messages for one system call.
const CHUNK: usize = 128;

/// Asked of the kernel for each socket's send buffer. Packets leave it when they leave the host's queues.
const SEND_BUFFER: i32 = 8 << 20;

/// How long a full queue is waited for, once per packet, before the packet counts as failed.
const QUEUE_WAIT_MILLIS: i32 = 1;

/// Why a raw socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open a raw {family} socket")]
pub struct RawSocketError {
    /// Which family.
    pub family: &'static str,
    /// The system's answer.
    pub source: io::Error,
}

impl RawSocketError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        matches!(self.source.raw_os_error(), Some(libc::EPERM | libc::EACCES))
            .then_some(crate::process::CAPABILITY_HINT)
    }
}

/// Sends IP packets as they are, to whom their batch says.
///
/// Packets of one family leave in their order; IPv4 and IPv6 packets of one batch may pass each other.
pub struct RawSocketSink {
    v4: OwnedFd,
    /// `None` on a host without IPv6: its packets fail with EAFNOSUPPORT.
    v6: Option<OwnedFd>,
    messages: MessageVector,
    /// Places of one family's packets in the batch, used again and again.
    places: Vec<u32>,
}

impl RawSocketSink {
    /// Opens the sockets.
    ///
    /// # Errors
    /// Mostly that CAP_NET_RAW is missing.
    pub fn open() -> Result<Self, RawSocketError> {
        let v4 = open_family(libc::AF_INET, libc::IPPROTO_IP, libc::IP_HDRINCL)
            .map_err(|source| RawSocketError { family: "IPv4", source })?;
        let v6 = match open_family(libc::AF_INET6, libc::IPPROTO_IPV6, libc::IPV6_HDRINCL) {
            Ok(fd) => Some(fd),
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            Err(source) => return Err(RawSocketError { family: "IPv6", source }),
        };
        Ok(Self { v4, v6, messages: MessageVector::new(CHUNK), places: Vec::new() })
    }
}

fn open_family(domain: i32, level: i32, header_included: i32) -> io::Result<OwnedFd> {
    let fd = socket::open(domain, libc::SOCK_RAW | libc::SOCK_NONBLOCK, libc::IPPROTO_RAW)?;
    socket::set_option(&fd, level, header_included, &1i32)?;
    // A small buffer still works, with more waiting.
    let _ = socket::set_send_buffer(&fd, SEND_BUFFER);
    // Sockets of IPPROTO_RAW receive nothing.
    Ok(fd)
}

impl PacketSink for RawSocketSink {
    fn send(&mut self, batch: &PacketBatch, failures: &mut Vec<SendFailure>) {
        let first_failure = failures.len();
        let v4_count = batch.packets().iter().filter(|packet| packet.target.addr.is_ipv4()).count();
        for (family, count) in [(Family::V4, v4_count), (Family::V6, batch.len() - v4_count)] {
            if count == 0 {
                continue;
            }
            self.places.clear();
            self.places.extend(
                (0u32..)
                    .zip(batch.packets())
                    .filter(|(_, packet)| packet.target.addr.is_ipv4() == (family == Family::V4))
                    .map(|(place, _)| place),
            );
            let fd = match family {
                Family::V4 => Some(&self.v4),
                Family::V6 => self.v6.as_ref(),
            };
            let Some(fd) = fd else {
                failures.extend(
                    self.places
                        .iter()
                        .map(|place| SendFailure { index: *place as usize, errno: libc::EAFNOSUPPORT }),
                );
                continue;
            };
            for chunk in self.places.chunks(CHUNK) {
                let messages = chunk.iter().map(|place| {
                    let place = *place as usize;
                    let recipient = Recipient::Address(batch.packets()[place].target.addr);
                    (recipient, [].as_slice(), batch.packet(place))
                });
                self.messages.send(
                    fd,
                    messages,
                    |errno| may_pass(errno) && wait_for_room(fd),
                    |place, errno| failures.push(SendFailure { index: chunk[place] as usize, errno }),
                );
            }
        }
        failures[first_failure..].sort_unstable_by_key(|failure| failure.index);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// Whether an error says that a queue is full for now.
pub(crate) fn may_pass(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::ENOBUFS)
}

/// Waits a bounded time for a full queue; always asks for another try, since ENOBUFS leaves the socket writable.
pub(crate) fn wait_for_room(fd: &OwnedFd) -> bool {
    socket::wait_writable(fd, QUEUE_WAIT_MILLIS);
    true
}

/// The largest packet that may be sent towards `target`, as the kernel knows it now (route and path MTU discovery).
///
/// # Errors
/// When there is no route.
pub fn path_mtu(target: IpAddr) -> io::Result<u32> {
    let (local, level, name): (SocketAddr, _, _) = match target {
        IpAddr::V4(_) => (([0, 0, 0, 0], 0).into(), libc::IPPROTO_IP, libc::IP_MTU),
        IpAddr::V6(_) => (([0u16; 8], 0).into(), libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    // Connecting a datagram socket looks the route up and sends nothing.
    let probe = UdpSocket::bind(local)?;
    probe.connect((target, 9))?;
    let mut mtu = 0u32;
    socket::get_option(probe.as_fd(), level, name, &mut mtu)?;
    Ok(mtu)
}
