//! The writer and the views against each other and against `pnet_packet`, which shares no code with them.

use super::fragment::{FragmentDropReason, FragmentOutcome, Reassembler};
use super::ip::{IpError, IpPacket};
use super::link::{LinkError, LinkType, ip_packet};
use super::packet::{OutgoingSegment, header_len, write};
use super::tcp::{FastOpen, SackBlocks, TcpError, TcpFlags, TcpOptions, TcpSegment, Timestamps};
use super::{PROTOCOL_TCP, checksum};
use crate::flow::{Endpoint, FlowKey};
use crate::seq::SeqNumber;
use crate::time::{Duration, Instant};
use pnet::packet::Packet;
use pnet::packet::ipv4::{self, Ipv4Packet, MutableIpv4Packet};
use pnet::packet::ipv6::{Ipv6Packet, MutableIpv6Packet};
use pnet::packet::tcp::{self, MutableTcpPacket, TcpOption, TcpPacket};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn v4_flow() -> FlowKey {
    FlowKey {
        client: Endpoint::new(Ipv4Addr::new(10, 1, 2, 3).into(), 40_000),
        target: Endpoint::new(Ipv4Addr::new(192, 168, 7, 9).into(), 6379),
    }
}

fn v6_flow() -> FlowKey {
    let addr = |last| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 1, 0xa, 0xb, 0xc, last));
    FlowKey { client: Endpoint::new(addr(1), 50_000), target: Endpoint::new(addr(2), 80) }
}

fn segment(flow: FlowKey) -> OutgoingSegment {
    OutgoingSegment {
        flow,
        seq: SeqNumber(u32::MAX - 3),
        ack: Some(SeqNumber(77)),
        flags: TcpFlags::PSH,
        window: 501,
        options: TcpOptions {
            timestamps: Some(Timestamps { value: 0x0102_0304, echo: 0xfffe_fdfc }),
            ..TcpOptions::default()
        },
        hop_limit: 61,
        traffic_class: 0xb8,
        identification: 0xbeef,
    }
}

fn written(segment: &OutgoingSegment, payload: &[u8]) -> Vec<u8> {
    let (head, tail) = payload.split_at(payload.len() / 3);
    let mut out = vec![0xee; 3];
    write(&mut out, segment, [head, tail]);
    assert_eq!(out.len() - 3, header_len(segment) + payload.len());
    out.split_off(3)
}

/// Parses a packet that must be whole TCP.
fn parsed(packet: &[u8]) -> (IpPacket<'_>, TcpSegment<'_>) {
    let ip = IpPacket::parse(packet, packet.len()).expect("IP");
    assert_eq!((ip.protocol, ip.fragment, ip.payload.len()), (PROTOCOL_TCP, None, ip.payload_len));
    (ip, TcpSegment::parse(ip.payload, ip.payload_len).expect("TCP"))
}

fn assert_says(packet: &[u8], expected: &OutgoingSegment, payload: &[u8]) {
    let (ip, tcp) = parsed(packet);
    assert_eq!((ip.source, ip.destination), (expected.flow.client.addr, expected.flow.target.addr));
    assert_eq!((ip.hop_limit, ip.traffic_class), (expected.hop_limit, expected.traffic_class));
    assert_eq!(
        (tcp.source_port, tcp.destination_port),
        (expected.flow.client.port, expected.flow.target.port)
    );
    assert_eq!((tcp.seq, tcp.window, tcp.urgent), (expected.seq, expected.window, 0));
    let (flags, ack) = match expected.ack {
        Some(ack) => (expected.flags | TcpFlags::ACK, ack),
        None => (expected.flags.without(TcpFlags::ACK), SeqNumber(0)),
    };
    assert_eq!((tcp.flags, tcp.ack), (flags.without(TcpFlags::URG), ack));
    assert_eq!(tcp.payload, payload);
}

#[test]
fn pnet_reads_what_we_write_over_ipv4() {
    let segment = segment(v4_flow());
    let packet = written(&segment, b"hello, target");
    let ip = Ipv4Packet::new(&packet).unwrap();
    assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
    assert_eq!((usize::from(ip.get_total_length()), ip.get_identification()), (packet.len(), 0xbeef));
    assert_eq!((ip.get_flags(), ip.get_fragment_offset(), ip.get_ttl()), (0b010, 0, 61));
    let tcp = TcpPacket::new(ip.payload()).unwrap();
    assert_eq!(tcp.get_checksum(), tcp::ipv4_checksum(&tcp, &ip.get_source(), &ip.get_destination()));
    assert_eq!((tcp.get_sequence(), tcp.get_acknowledgement()), (u32::MAX - 3, 77));
    assert_eq!((tcp.get_window(), tcp.get_flags()), (501, 0x18));
    assert_eq!(tcp.payload(), b"hello, target");
    assert_says(&packet, &segment, b"hello, target");
}
