//! Packets that no kernel would make.

use crate::host::RunningHost;
use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;

/// A TCP segment over IPv4 with a correct checksum, whatever else is wrong with it.
#[derive(Clone, Debug)]
pub struct RawSegment {
    /// Who seems to send it.
    pub from: SocketAddrV4,
    /// Whom it is for.
    pub to: SocketAddrV4,
    /// Sequence number.
    pub seq: u32,
    /// TCP flags.
    pub flags: u8,
    /// Header length that it claims, in words of four bytes.
    pub header_words: u8,
    /// What follows the 20 bytes that every header has: options, data.
    pub rest: Vec<u8>,
}

impl RawSegment {
    /// A SYN without options.
    pub fn syn(from: SocketAddrV4, to: SocketAddrV4) -> Self {
        Self { from, to, seq: 1000, flags: 0x02, header_words: 5, rest: Vec::new() }
    }

    /// The IPv4 packet; the kernel fills in the IP header's length and checksum.
    fn packet(&self) -> Vec<u8> {
        let mut tcp = Vec::with_capacity(20 + self.rest.len());
        tcp.extend(self.from.port().to_be_bytes());
        tcp.extend(self.to.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend([self.header_words << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(&self.rest);
        let sum = checksum(*self.from.ip(), *self.to.ip(), &tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, 6, 0, 0];
        packet.extend(self.from.ip().octets());
        packet.extend(self.to.ip().octets());
        packet.extend(tcp);
        packet
    }

    /// Sends it from `host`, which need not be who it seems to be from.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn send(&self, host: &RunningHost) -> Result<()> {
        let (packet, to) = (self.packet(), SockaddrIn::from(SocketAddrV4::new(*self.to.ip(), 0)));
        host.run(move || -> Result<()> {
            let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
            sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty()).context("sending a raw packet")?;
            Ok(())
        })
    }
}

/// The checksum of RFC 9293, section 3.1, over the pseudo header and `tcp`, whose own field is 0.
pub(crate) fn checksum(from: Ipv4Addr, to: Ipv4Addr, tcp: &[u8]) -> u16 {
    let length = (tcp.len() as u16).to_be_bytes();
    let bytes = [&from.octets()[..], &to.octets(), &[0, 6], &length, tcp].concat();
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_its_checksum_sums_to_zero() {
        let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4000);
        let to = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 80);
        let packet = RawSegment { rest: vec![1, 2, 3], ..RawSegment::syn(from, to) }.packet();
        assert_eq!(packet.len(), 43);
        assert_eq!(checksum(*from.ip(), *to.ip(), &packet[20..]), 0);
    }
}
