//! The TCP segments that pass a host, for tests that look at the wire itself.
//!
//! `tcpdump` would do, but it gives up its privileges in a way that user namespaces refuse.

use crate::host::RunningHost;
use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An open capture of everything that a host sends and receives.
pub struct Sniffer {
    socket: File,
}

/// A TCP segment on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The sender.
    pub source: SocketAddr,
    /// The receiver.
    pub destination: SocketAddr,
    flags: u8,
}

impl Segment {
    /// Whether it is the second of a handshake.
    pub fn is_syn_ack(&self) -> bool {
        self.flags & 0x12 == 0x12
    }

    /// Whether it is a reset.
    pub fn is_reset(&self) -> bool {
        self.flags & 0x04 != 0
    }

    /// Reads an IP packet; `None` unless it is a whole TCP header behind a plain IP header.
    fn parse(packet: &[u8]) -> Option<Self> {
        let version = packet.first()? >> 4;
        let (source, destination, tcp) = match version {
            4 if packet.get(9) == Some(&6) => {
                let addr = |at: usize| {
                    Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?)))
                };
                (addr(12)?, addr(16)?, packet.get(usize::from(packet[0] & 15) * 4..)?)
            }
            6 if packet.get(6) == Some(&6) => {
                let addr = |at: usize| {
                    Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?)))
                };
                (addr(8)?, addr(24)?, packet.get(40..)?)
            }
            _ => return None,
        };
        let port = |at: usize| Some(u16::from_be_bytes(<[u8; 2]>::try_from(tcp.get(at..at + 2)?).ok()?));
        Some(Self {
            source: SocketAddr::new(source, port(0)?),
            destination: SocketAddr::new(destination, port(2)?),
            flags: *tcp.get(13)?,
        })
    }
}

impl Sniffer {
    /// Begins to capture.
    ///
    /// # Errors
    /// When the process may not.
    pub fn open(host: &RunningHost) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = host
            .run(move || socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll))
            .context("opening a packet socket")?;
        Ok(Self { socket: socket.into() })
    }

    /// The segments since the last call.
    pub fn segments(&self) -> Vec<Segment> {
        let mut packet = vec![0; 1 << 16];
        let mut segments = Vec::new();
        // Ends when nothing is left: the socket does not block.
        while let Ok(length) = (&self.socket).read(&mut packet) {
            segments.extend(Segment::parse(&packet[..length]));
        }
        segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_read_from_both_ip_versions() {
        let mut v4 = vec![0u8; 40];
        (v4[0], v4[9], v4[15], v4[19]) = (0x45, 6, 1, 2);
        (v4[21], v4[23], v4[33]) = (80, 81, 0x12);
        let segment = Segment::parse(&v4).unwrap();
        assert_eq!(segment.source.to_string(), "0.0.0.1:80");
        assert!(segment.is_syn_ack() && !segment.is_reset());
        let mut v6 = vec![0u8; 60];
        (v6[0], v6[6], v6[23], v6[53]) = (0x60, 6, 9, 0x04);
        let segment = Segment::parse(&v6).unwrap();
        assert_eq!(segment.source.ip().to_string(), "::9");
        assert!(segment.is_reset());
        assert_eq!(Segment::parse(&v4[..30]), None);
        assert_eq!(Segment::parse(&[]), None);
    }
}
