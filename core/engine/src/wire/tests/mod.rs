//! The writer and the views against each other and against `pnet_packet`, which shares no code with them.

mod fragments;
mod headers;
mod tunnels;

use super::PROTOCOL_TCP;
use super::checksum::{self, Checksum};
use super::ip::IpPacket;
use super::packet::{OutgoingSegment, header_len, write};
use super::tcp::{
    FastOpen, MAX_WINDOW_SCALE, SackBlocks, TcpError, TcpFlags, TcpOptions, TcpSegment, Timestamps,
};
use crate::flow::{Endpoint, FlowKey};
use crate::seq::SeqNumber;
use pnet::packet::Packet;
use pnet::packet::ipv4::{self, Ipv4Packet};
use pnet::packet::ipv6::Ipv6Packet;
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

#[test]
fn pnet_reads_what_we_write_over_ipv6() {
    let segment = OutgoingSegment { ack: None, flags: TcpFlags::SYN, ..segment(v6_flow()) };
    let packet = written(&segment, b"odd");
    let ip = Ipv6Packet::new(&packet).unwrap();
    assert_eq!((ip.get_traffic_class(), ip.get_hop_limit(), ip.get_flow_label()), (0xb8, 61, 0));
    assert_eq!(usize::from(ip.get_payload_length()), packet.len() - 40);
    let tcp = TcpPacket::new(ip.payload()).unwrap();
    assert_eq!(tcp.get_checksum(), tcp::ipv6_checksum(&tcp, &ip.get_source(), &ip.get_destination()));
    assert_eq!((tcp.get_flags(), tcp.get_acknowledgement()), (0x02, 0));
    assert_eq!(tcp.payload(), b"odd");
    assert_says(&packet, &segment, b"odd");
}

/// A TCP header made by `pnet` around `options`, which must come in words of four bytes.
fn pnet_segment(options: &[TcpOption], payload: &[u8]) -> Vec<u8> {
    let len: usize = options.iter().map(tcp::TcpOptionPacket::packet_size).sum();
    assert_eq!(len % 4, 0);
    let mut bytes = vec![0; 20 + len + payload.len()];
    let mut tcp = MutableTcpPacket::new(&mut bytes).unwrap();
    tcp.set_source(1234);
    tcp.set_destination(80);
    tcp.set_sequence(0xfedc_ba98);
    tcp.set_acknowledgement(0x7654_3210);
    tcp.set_data_offset(5 + len as u8 / 4);
    tcp.set_flags(0xff);
    tcp.set_window(0xabcd);
    tcp.set_urgent_ptr(9);
    tcp.set_options(options);
    tcp.set_payload(payload);
    bytes
}

#[test]
fn we_read_what_pnet_writes() {
    let syn = [
        TcpOption::mss(1460),
        TcpOption::sack_perm(),
        TcpOption::timestamp(5, 6),
        TcpOption::nop(),
        TcpOption::wscale(15),
    ];
    let bytes = pnet_segment(&syn, b"data");
    let tcp = TcpSegment::parse(&bytes, bytes.len()).unwrap();
    assert_eq!((tcp.source_port, tcp.destination_port), (1234, 80));
    assert_eq!((tcp.seq, tcp.ack), (SeqNumber(0xfedc_ba98), SeqNumber(0x7654_3210)));
    assert_eq!((tcp.flags, tcp.window, tcp.urgent), (TcpFlags(0xff), 0xabcd, 9));
    assert_eq!(tcp.payload, b"data");
    let expected = TcpOptions {
        mss: Some(1460),
        window_scale: Some(MAX_WINDOW_SCALE),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 5, echo: 6 }),
        ..TcpOptions::default()
    };
    assert_eq!(tcp.options, expected);

    let sack = [TcpOption::nop(), TcpOption::nop(), TcpOption::selective_ack(&[1, 2, 3, 4, 5, 6])];
    let bytes = pnet_segment(&sack, b"");
    let tcp = TcpSegment::parse(&bytes, bytes.len()).unwrap();
    let block = |start, end| (SeqNumber(start), SeqNumber(end));
    assert_eq!(tcp.options.sack.as_slice(), [block(1, 2), block(3, 4), block(5, 6)]);

    let timestamps = [TcpOption::nop(), TcpOption::nop(), TcpOption::timestamp(7, 8)];
    let bytes = pnet_segment(&timestamps, b"");
    let tcp = TcpSegment::parse(&bytes, bytes.len()).unwrap();
    assert_eq!(tcp.options.timestamps, Some(Timestamps { value: 7, echo: 8 }));
}

#[test]
fn options_that_are_not_what_they_claim() {
    let parse = TcpOptions::parse;
    for bad in [
        &[3, 0, 0, 0][..],
        &[2, 1, 5, 5],
        &[1, 1, 1, 8],
        &[8, 10, 0, 0],
        &[1, 1, 8, 11, 0, 0, 0, 1, 0, 0, 0, 2],
        &[99, 255, 1, 1],
    ] {
        let kind = *bad.iter().find(|kind| **kind != 1).unwrap();
        assert_eq!(parse(bad), Err(TcpError::OptionLength { kind }), "{bad:?}");
    }
    for nothing in
        [&[][..], &[0, 3, 0, 0], &[1, 1, 1, 1], &[99, 4, 1, 1], &[2, 3, 1, 0], &[3, 4, 1, 1], &[5, 4, 0, 0]]
    {
        assert_eq!(parse(nothing), Ok(TcpOptions::default()), "{nothing:?}");
    }
    let fast_open = |bytes: &[u8]| parse(bytes).unwrap().fast_open;
    assert_eq!(fast_open(&[34, 2, 1, 1]), FastOpen::Request);
    assert_eq!(fast_open(&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]), FastOpen::Cookie);
    assert_eq!(fast_open(&[254, 4, 0xf9, 0x89]), FastOpen::Request);
    assert_eq!(fast_open(&[254, 8, 0xf9, 0x89, 1, 2, 3, 4]), FastOpen::Cookie);
    assert_eq!(fast_open(&[254, 4, 0xf9, 0x88]), FastOpen::None);
    assert_eq!(fast_open(&[34, 5, 1, 2, 3, 1, 1, 1]), FastOpen::None);
    // The option before the bad one does not make the segment good.
    let mut bytes = pnet_segment(&[TcpOption::mss(9), TcpOption::mss(9)], b"x");
    bytes[25] = 0;
    assert_eq!(TcpSegment::parse(&bytes, bytes.len()).unwrap_err(), TcpError::OptionLength { kind: 2 });
}

#[test]
fn header_lengths_are_checked_and_a_cut_payload_is_not_an_error() {
    let mut bytes = pnet_segment(&[TcpOption::mss(1460)], b"payload");
    let tcp = TcpSegment::parse(&bytes[..24], 31).unwrap();
    assert_eq!((tcp.payload.len(), tcp.payload_len), (0, 7));
    let tcp = TcpSegment::parse(&bytes[..26], 31).unwrap();
    assert_eq!((tcp.payload, tcp.payload_len), (&b"pa"[..], 7));
    for cut in 0..24 {
        assert_eq!(TcpSegment::parse(&bytes[..cut], 31).unwrap_err(), TcpError::Truncated);
    }
    for (words, header_len) in [(0, 0), (4, 16), (15, 60)] {
        bytes[12] = words << 4;
        let error = TcpSegment::parse(&bytes, bytes.len()).unwrap_err();
        assert_eq!(error, TcpError::HeaderLength { header_len, segment_len: 31 });
    }
}

#[test]
fn flags_print_as_tcpdump_prints_them() {
    assert_eq!(format!("{:?} {:?}", TcpFlags::SYN | TcpFlags::ACK, TcpFlags::NONE), "[S.] []");
}

#[test]
fn a_packet_beyond_the_length_field_is_written_as_big_tcp() {
    for flow in [v4_flow(), v6_flow()] {
        let payload = vec![7; 100_000];
        let packet = written(&segment(flow), &payload);
        assert_says(&packet, &segment(flow), &payload);
    }
}

/// RFC 1071 as its text has it: 16 bits at a time, in network order.
fn slow_checksum(data: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in data.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[test]
fn the_checksum_of_the_rfc_example() {
    assert_eq!(checksum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    assert_eq!(checksum::of(&[0xff; 70_000]), 0);
    assert_eq!(checksum::of(&[]), 0xffff);
}

prop_compose! {
    fn any_options()(
        mss in any::<Option<u16>>(),
        window_scale in prop::option::of(0..=MAX_WINDOW_SCALE),
        sack_permitted: bool,
        timestamps in any::<Option<(u32, u32)>>(),
        blocks in prop::collection::vec(any::<(u32, u32)>(), 0..6),
    ) -> TcpOptions {
        let mut sack = SackBlocks::new();
        for (start, end) in blocks {
            sack.push(SeqNumber(start), SeqNumber(end));
        }
        let timestamps = timestamps.map(|(value, echo)| Timestamps { value, echo });
        TcpOptions { mss, window_scale, sack_permitted, timestamps, sack, fast_open: FastOpen::None }
    }
}

prop_compose! {
    fn any_segment()(
        v6: bool,
        ports: (u16, u16),
        seq: u32,
        ack: Option<u32>,
        flags: u8,
        window: u16,
        options in any_options(),
        (hop_limit, traffic_class, identification) in any::<(u8, u8, u16)>(),
    ) -> OutgoingSegment {
        let mut flow = if v6 { v6_flow() } else { v4_flow() };
        (flow.client.port, flow.target.port) = ports;
        OutgoingSegment {
            flow, seq: SeqNumber(seq), ack: ack.map(SeqNumber), flags: TcpFlags(flags), window, options, hop_limit,
            traffic_class, identification,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        segment in any_segment(),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        split in 0usize..200,
    ) {
        let (head, tail) = payload.split_at(split.min(payload.len()));
        let mut packet = Vec::new();
        write(&mut packet, &segment, [head, tail]);
        prop_assert_eq!(packet.len(), header_len(&segment) + payload.len());
        assert_says(&packet, &segment, &payload);
        let (ip, tcp) = parsed(&packet);
        let fitting = tcp.options.sack.len();
        let expected = TcpOptions { sack: tcp.options.sack, ..segment.options };
        prop_assert_eq!(tcp.options, expected);
        prop_assert_eq!(tcp.options.sack.as_slice(), &segment.options.sack.as_slice()[..fitting]);
        let room = 40 - TcpOptions { sack: SackBlocks::new(), ..segment.options }.written_len();
        prop_assert_eq!(fitting, segment.options.sack.len().min(room.saturating_sub(4) / 8));
        let header = TcpPacket::new(ip.payload).unwrap();
        let sum = match (ip.source, ip.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => tcp::ipv4_checksum(&header, &source, &destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => tcp::ipv6_checksum(&header, &source, &destination),
            _ => unreachable!("one family"),
        };
        prop_assert_eq!(header.get_checksum(), sum);
    }

    #[test]
    fn the_checksum_is_the_same_in_pieces_of_any_length(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
    ) {
        let mut checksum = Checksum::new();
        for piece in &pieces {
            checksum.add(piece);
        }
        prop_assert_eq!(checksum.finish(), slow_checksum(&pieces.concat()));
        prop_assert_eq!(checksum.finish(), checksum::of(&pieces.concat()));
    }

    #[test]
    fn any_bytes_are_a_segment_or_an_error(
        mut bytes in prop::collection::vec(any::<u8>(), 0..80),
        words in 0u8..16,
        beyond in 0usize..100,
    ) {
        if let Some(offset) = bytes.get_mut(12) {
            *offset = words << 4;
        }
        if let Ok(tcp) = TcpSegment::parse(&bytes, bytes.len() + beyond) {
            prop_assert_eq!(tcp.payload_len, tcp.payload.len() + beyond);
            prop_assert_eq!(bytes.len() - tcp.payload.len(), usize::from(words) * 4);
        }
    }

    #[test]
    fn the_fast_path_reads_what_the_slow_one_does(value: u32, echo: u32, end in 0u8..2) {
        let mut bytes = vec![1, 1, 8, 10];
        bytes.extend_from_slice(&value.to_be_bytes());
        bytes.extend_from_slice(&echo.to_be_bytes());
        let fast = TcpOptions::parse(&bytes).unwrap();
        bytes.extend_from_slice(&[end; 4]);
        prop_assert_eq!(fast, TcpOptions::parse(&bytes).unwrap());
        prop_assert_eq!(fast.timestamps, Some(Timestamps { value, echo }));
    }
}
