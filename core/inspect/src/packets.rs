//! From a captured frame to a TCP segment, and a count of everything that is none.
//!
//! Owns link headers, IP, fragments and the recognition of tunnels, all by way of the engine's parsers. Leaves connections to
//! [`crate::inspection`].

use serde::Serialize;
use std::net::IpAddr;
use tcpcopy_capture_file::Frame;
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_engine::wire::PROTOCOL_TCP;
use tcpcopy_engine::wire::fragment::{FragmentOutcome, Reassembler};
use tcpcopy_engine::wire::ip::{IpError, IpPacket};
use tcpcopy_engine::wire::link::{self, LinkError, LinkType};
use tcpcopy_engine::wire::tcp::{TcpError, TcpFlags, TcpSegment};
use tcpcopy_engine::wire::tunnel::{self, Decap, Tunnel};

/// Tunnels within tunnels that are followed.
const MAX_TUNNELS: u8 = 4;
/// Bytes of fragments that wait, datagrams they belong to, and how long they do.
const FRAGMENT_BYTES: usize = 4 << 20;
const FRAGMENT_DATAGRAMS: usize = 4096;
const FRAGMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// What the packets of a capture were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PacketCounts {
    /// Frames looked at.
    pub frames: u64,
    /// Bytes of those frames on the wire.
    pub wire_bytes: u64,
    /// TCP segments among them.
    pub tcp: u64,
    /// Packets of other protocols than TCP, tunnels not counted.
    pub other_protocols: u64,
    /// Frames that do not carry IP.
    pub not_ip: u64,
    /// Frames of which not even the headers were captured.
    pub headers_cut: u64,
    /// Packets whose headers contradict themselves, or whose flags make no sense together.
    pub malformed: u64,
    /// IP fragments.
    pub fragments: u64,
    /// Fragments whose datagram never became whole.
    pub fragments_lost: u64,
    /// Frames with a VXLAN packet in them that was not opened.
    pub vxlan: u64,
    /// The same for Geneve.
    pub geneve: u64,
    /// The same for GRE, ERSPAN not counted.
    pub gre: u64,
    /// The same for ERSPAN.
    pub erspan: u64,
    /// Tunnels that were opened.
    pub opened: u64,
}

/// One TCP segment and what is known of the packet around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) from: Endpoint,
    pub(crate) to: Endpoint,
    pub(crate) tcp: TcpSegment<'a>,
    /// The TCP header with its options.
    pub(crate) tcp_header: &'a [u8],
    /// IPv4 identification; 0 when there is none.
    pub(crate) ip_id: u16,
    /// Unix nanoseconds.
    pub(crate) at: u64,
}

/// When a packet was captured, and in how many tunnels it lay.
#[derive(Clone, Copy)]
struct Place {
    at: u64,
    depth: u8,
}

/// Reads frames, and counts.
pub(crate) struct Packets {
    pub(crate) counts: PacketCounts,
    reassembler: Reassembler,
    decap: Decap,
}

impl Packets {
    pub(crate) fn new(decap: Decap) -> Self {
        Self {
            counts: PacketCounts::default(),
            reassembler: Reassembler::new(FRAGMENT_BYTES, FRAGMENT_DATAGRAMS, FRAGMENT_TIMEOUT),
            decap,
        }
    }

    /// Hands the TCP segment in `frame`, if there is one, to `take`.
    pub(crate) fn read(&mut self, frame: &Frame<'_>, take: impl FnOnce(&Segment<'_>)) {
        self.counts.frames += 1;
        self.counts.wire_bytes += frame.wire_len.max(frame.data.len()) as u64;
        self.link(
            (frame.link_type, frame.data, frame.wire_len),
            Place { at: frame.captured_at_nanos, depth: 0 },
            take,
        );
    }

    fn link(
        &mut self,
        (kind, data, wire_len): (LinkType, &[u8], usize),
        place: Place,
        take: impl FnOnce(&Segment<'_>),
    ) {
        match link::ip_packet(kind, data, wire_len) {
            Ok((packet, wire_len)) => self.ip(packet, wire_len, place, take),
            Err(LinkError::Truncated) => self.counts.headers_cut += 1,
            Err(LinkError::NotIp) => self.counts.not_ip += 1,
        }
    }

    fn ip(&mut self, data: &[u8], wire_len: usize, place: Place, take: impl FnOnce(&Segment<'_>)) {
        let packet = match IpPacket::parse(data, wire_len) {
            Ok(packet) => packet,
            Err(IpError::Truncated) => {
                self.counts.headers_cut += 1;
                return;
            }
            Err(_) => {
                self.counts.malformed += 1;
                return;
            }
        };
        if packet.fragment.is_some() {
            self.fragment(&packet, data, place, take);
            return;
        }
        let ip_id = match data {
            [first, _, _, _, high, low, ..] if first >> 4 == 4 => u16::from_be_bytes([*high, *low]),
            _ => 0,
        };
        self.payload(&packet, ip_id, place, take);
    }

    fn fragment(
        &mut self,
        packet: &IpPacket<'_>,
        data: &[u8],
        place: Place,
        take: impl FnOnce(&Segment<'_>),
    ) {
        self.counts.fragments += 1;
        let now = Instant::from_nanos(place.at);
        self.counts.fragments_lost += self.reassembler.expire(now);
        match self.reassembler.push(packet, data, now) {
            FragmentOutcome::Waiting => {}
            FragmentOutcome::Dropped(dropped) => self.counts.fragments_lost += dropped.fragments,
            FragmentOutcome::Complete(whole) => {
                // What comes out is no fragment: the reassembler parsed it.
                if let Ok(packet) = IpPacket::parse(&whole, whole.len()) {
                    self.payload(&packet, 0, place, take);
                }
            }
        }
    }

    fn payload(&mut self, packet: &IpPacket<'_>, ip_id: u16, place: Place, take: impl FnOnce(&Segment<'_>)) {
        if packet.protocol != PROTOCOL_TCP {
            match tunnel::open(packet, self.decap) {
                Some(inner) if place.depth < MAX_TUNNELS => {
                    self.counts.opened += 1;
                    self.link(inner, Place { depth: place.depth + 1, ..place }, take);
                }
                _ => self.other(packet),
            }
            return;
        }
        self.counts.tcp += 1;
        let tcp = match TcpSegment::parse(packet.payload, packet.payload_len) {
            Ok(tcp) => tcp,
            Err(TcpError::Truncated) => {
                self.counts.headers_cut += 1;
                return;
            }
            Err(_) => {
                self.counts.malformed += 1;
                return;
            }
        };
        if !is_sensible(tcp.flags) || tcp.source_port == 0 || tcp.destination_port == 0 {
            self.counts.malformed += 1;
            return;
        }
        take(&Segment {
            from: Endpoint::new(packet.source, tcp.source_port),
            to: Endpoint::new(packet.destination, tcp.destination_port),
            tcp_header: &packet.payload[..packet.payload.len() - tcp.payload.len()],
            tcp,
            ip_id,
            at: place.at,
        });
    }

    /// Counts a packet that is not TCP: what tunnel it is, if it is one.
    fn other(&mut self, packet: &IpPacket<'_>) {
        let is_of = |kind: &Tunnel| tunnel::open(packet, Decap::NONE.with(*kind)).is_some();
        let counter = match Tunnel::ALL.into_iter().find(is_of) {
            Some(Tunnel::Vxlan) => &mut self.counts.vxlan,
            Some(Tunnel::Geneve) => &mut self.counts.geneve,
            Some(Tunnel::Gre) => &mut self.counts.gre,
            Some(Tunnel::Erspan) => &mut self.counts.erspan,
            None => &mut self.counts.other_protocols,
        };
        *counter += 1;
    }
}

/// Whether a segment may have these flags: a SYN that ends or resets what it begins is a scanner's, and so is one with none of the
/// bits that every segment of a connection has.
fn is_sensible(flags: TcpFlags) -> bool {
    let begins_and_ends = flags.contains(TcpFlags::SYN) && flags.intersects(TcpFlags::FIN | TcpFlags::RST);
    !begins_and_ends && flags.intersects(TcpFlags::SYN | TcpFlags::ACK | TcpFlags::RST)
}

/// An address as one number, IPv4 mapped into IPv6 (RFC 4291, section 2.5.5.2).
pub(crate) fn address_bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => 0xffff_0000_0000 | u128::from(u32::from(addr)),
        IpAddr::V6(addr) => u128::from(addr),
    }
}
