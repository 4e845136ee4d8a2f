//! Writing whole outgoing packets: IP header, TCP header, options, payload and both checksums.
//!
//! Owns the layout of what is sent. Leaves to the session what a segment says, and to the sink how it travels.

use super::PROTOCOL_TCP;
use super::checksum::{self, Checksum};
use super::tcp::{MIN_HEADER_LEN, TcpFlags, TcpOptions};
use crate::flow::FlowKey;
use crate::seq::SeqNumber;
use std::net::IpAddr;

const IPV4_HEADER_LEN: usize = 20;
const IPV6_HEADER_LEN: usize = 40;
/// The don't-fragment bit beside the fragment offset (RFC 791, section 3.1).
const DONT_FRAGMENT: u16 = 0x4000;

/// Everything but the payload of a segment to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutgoingSegment {
    /// From the client to the target.
    pub flow: FlowKey,
    /// Sequence number.
    pub seq: SeqNumber,
    /// Acknowledgement number; the ACK bit is set when there is one and clear otherwise, whatever `flags` says.
    pub ack: Option<SeqNumber>,
    /// Control bits. URG is never written: the urgent pointer is not replayed.
    pub flags: TcpFlags,
    /// Window, already scaled down.
    pub window: u16,
    /// Options, all but fast open.
    pub options: TcpOptions,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN bits.
    pub traffic_class: u8,
    /// IPv4 identification; IPv6 has none.
    pub identification: u16,
}

/// Bytes of IP and TCP headers, options included, that [`write()`] puts before the payload.
pub fn header_len(segment: &OutgoingSegment) -> usize {
    ip_header_len(&segment.flow) + MIN_HEADER_LEN + segment.options.written_len()
}

/// Bytes of the IP header that [`write()`] makes for `flow`.
pub fn ip_header_len(flow: &FlowKey) -> usize {
    match (flow.client.addr, flow.target.addr) {
        (IpAddr::V4(_), IpAddr::V4(_)) => IPV4_HEADER_LEN,
        _ => IPV6_HEADER_LEN,
    }
}

/// Appends one packet to `out`, checksums included. The payload is what the two slices hold, one after the other.
///
/// IPv4 packets must not be fragmented (DF): the sender keeps to the target's MSS. A packet too long for the IP length field
/// gets the length 0 that the kernel's BIG TCP uses. A flow key of mixed families, which no caller should make, is written as
/// IPv6 with the IPv4 address mapped (RFC 4291, section 2.5.5.2).
pub fn write(out: &mut Vec<u8>, segment: &OutgoingSegment, payload: [&[u8]; 2]) {
    let mut option_room = [0; TcpOptions::MAX_LEN];
    let options_len = segment.options.write(&mut option_room);
    let options = &option_room[..options_len];
    let tcp_len = MIN_HEADER_LEN + options.len() + payload[0].len() + payload[1].len();

    out.reserve(IPV6_HEADER_LEN + tcp_len);
    let mut sum = write_ip_header(out, segment, tcp_len);
    let mut header = tcp_header(segment, options.len());
    for piece in [header.as_slice(), options, payload[0], payload[1]] {
        sum.add(piece);
    }
    header[16..18].copy_from_slice(&sum.finish().to_be_bytes());
    for piece in [header.as_slice(), options, payload[0], payload[1]] {
        out.extend_from_slice(piece);
    }
}

/// Appends the IP header and returns the sum over the TCP pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1).
fn write_ip_header(out: &mut Vec<u8>, segment: &OutgoingSegment, tcp_len: usize) -> Checksum {
    let mut pseudo = Checksum::new();
    // Both pseudo-headers sum up to the same: the upper halves of IPv6's longer fields are zero but for jumbo lengths.
    pseudo.add(&(tcp_len as u32).to_be_bytes());
    pseudo.add_u16(u16::from(PROTOCOL_TCP));
    match (segment.flow.client.addr, segment.flow.target.addr) {
        (IpAddr::V4(client), IpAddr::V4(target)) => {
            let mut header = [0; IPV4_HEADER_LEN];
            header[0] = 0x45;
            header[1] = segment.traffic_class;
            header[2..4].copy_from_slice(&length_field(IPV4_HEADER_LEN + tcp_len));
            header[4..6].copy_from_slice(&segment.identification.to_be_bytes());
            header[6..8].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
            header[8] = segment.hop_limit;
            header[9] = PROTOCOL_TCP;
            header[12..16].copy_from_slice(&client.octets());
            header[16..20].copy_from_slice(&target.octets());
            pseudo.add(&header[12..20]);
            let checksum = checksum::of(&header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            out.extend_from_slice(&header);
        }
        (client, target) => {
            let mut header = [0; IPV6_HEADER_LEN];
            header[0] = 0x60 | segment.traffic_class >> 4;
            header[1] = segment.traffic_class << 4;
            header[4..6].copy_from_slice(&length_field(tcp_len));
            header[6] = PROTOCOL_TCP;
            header[7] = segment.hop_limit;
            header[8..24].copy_from_slice(&ipv6_octets(client));
            header[24..40].copy_from_slice(&ipv6_octets(target));
            pseudo.add(&header[8..40]);
            out.extend_from_slice(&header);
        }
    }
    pseudo
}

fn length_field(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(0).to_be_bytes()
}

fn ipv6_octets(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

/// The fixed part of the TCP header, checksum left zero.
fn tcp_header(segment: &OutgoingSegment, options_len: usize) -> [u8; MIN_HEADER_LEN] {
    let flags = segment.flags.without(TcpFlags::URG);
    let (flags, ack) = match segment.ack {
        Some(ack) => (flags.with(TcpFlags::ACK), ack),
        None => (flags.without(TcpFlags::ACK), SeqNumber(0)),
    };
    let mut header = [0; MIN_HEADER_LEN];
    header[0..2].copy_from_slice(&segment.flow.client.port.to_be_bytes());
    header[2..4].copy_from_slice(&segment.flow.target.port.to_be_bytes());
    header[4..8].copy_from_slice(&segment.seq.0.to_be_bytes());
    header[8..12].copy_from_slice(&ack.0.to_be_bytes());
    header[12] = ((MIN_HEADER_LEN + options_len) as u8 / 4) << 4;
    header[13] = flags.0;
    header[14..16].copy_from_slice(&segment.window.to_be_bytes());
    header
}
