//! Link and IP headers.

use super::{segment, v4_flow, v6_flow, written};
use crate::wire::ip::{Fragment, IpError, IpPacket};
use crate::wire::link::{LinkError, LinkType, ip_packet};
use pnet::packet::ethernet::{EtherTypes, MutableEthernetPacket};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv4::MutableIpv4Packet;
use pnet::packet::vlan::MutableVlanPacket;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

fn packets() -> [(u16, Vec<u8>); 2] {
    [(0x0800, written(&segment(v4_flow()), b"four")), (0x86dd, written(&segment(v6_flow()), b"six"))]
}

/// An Ethernet frame made by `pnet` around `tags` (type of each tag) and `packet`.
fn ethernet(tags: &[u16], ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let mut types: Vec<u16> = tags.to_vec();
    types.push(ether_type);
    let mut inner = packet.to_vec();
    for next in types[1..].iter().rev() {
        let mut tag = vec![0; 4 + inner.len()];
        let mut vlan = MutableVlanPacket::new(&mut tag).unwrap();
        vlan.set_vlan_identifier(42);
        vlan.set_ethertype(pnet::packet::ethernet::EtherType(*next));
        vlan.set_payload(&inner);
        inner = tag;
    }
    let mut frame = vec![0; 14 + inner.len()];
    let mut ethernet = MutableEthernetPacket::new(&mut frame).unwrap();
    ethernet.set_ethertype(pnet::packet::ethernet::EtherType(types[0]));
    ethernet.set_payload(&inner);
    frame
}

fn assert_found(link: LinkType, frame: &[u8], packet: &[u8]) {
    assert_eq!(ip_packet(link, frame, frame.len() + 9), Ok((packet, packet.len() + 9)), "{link:?}");
    // A wrong length on the wire never makes the captured bytes fewer.
    assert_eq!(ip_packet(link, frame, 0), Ok((packet, packet.len())), "{link:?}");
    for cut in 0..=frame.len() - packet.len() {
        assert_eq!(ip_packet(link, &frame[..cut], frame.len()), Err(LinkError::Truncated), "{link:?} {cut}");
    }
}

#[test]
fn every_link_type_leads_to_the_packet() {
    for (ether_type, packet) in packets() {
        for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x9100, 0x8100, 0x8100], &[0x8100; 8]] {
            assert_found(LinkType::Ethernet, &ethernet(tags, ether_type, &packet), &packet);
            // From the EtherType on, a cooked capture reads as an Ethernet frame does.
            let from_type = &ethernet(tags, ether_type, &packet)[12..];
            assert_found(LinkType::LinuxCooked, &[&[0; 14][..], from_type].concat(), &packet);
            let (first_type, rest) = from_type.split_at(2);
            assert_found(LinkType::LinuxCooked2, &[first_type, &[0; 18], rest].concat(), &packet);
        }
        for family in [2u32, 10, 24, 28, 30] {
            assert_found(LinkType::Null, &[&family.to_be_bytes()[..], &packet].concat(), &packet);
            assert_found(LinkType::Null, &[&family.to_le_bytes()[..], &packet].concat(), &packet);
        }
        assert_found(LinkType::Raw, &packet, &packet);
    }
}

/// An NFLOG frame with `attributes` (type, value), in the byte order that `bytes` gives.
fn nflog(attributes: &[(u16, &[u8])], bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 7];
    for (kind, value) in attributes {
        frame.extend(bytes(4 + value.len() as u16));
        frame.extend(bytes(*kind));
        frame.extend_from_slice(value);
        frame.resize(frame.len().next_multiple_of(4), 0);
    }
    frame
}

#[test]
fn the_payload_attribute_of_nflog_is_the_packet() {
    for (_, packet) in packets() {
        for bytes in [u16::to_le_bytes as fn(u16) -> [u8; 2], u16::to_be_bytes] {
            let frame = nflog(&[(1, &[8, 0, 1, 0]), (10, b"prefix\0"), (9, &packet)], bytes);
            assert_eq!(ip_packet(LinkType::Nflog, &frame, 0), Ok((&packet[..], packet.len())));
            let followed = nflog(&[(9, &packet), (4, &[0; 4])], bytes);
            assert_eq!(ip_packet(LinkType::Nflog, &followed, 0), Ok((&packet[..], packet.len())));
            // A capture that cut the frame cut the packet; the attribute knows its length.
            let unpadded = frame.len() - (packet.len().next_multiple_of(4) - packet.len());
            let cut = ip_packet(LinkType::Nflog, &frame[..unpadded - 5], 0);
            assert_eq!(cut, Ok((&packet[..packet.len() - 5], packet.len())));
            for cut in 0..=unpadded - packet.len() {
                let found = ip_packet(LinkType::Nflog, &frame[..cut], frame.len());
                assert_eq!(found, Err(LinkError::Truncated), "{cut}");
            }
        }
    }
}

#[test]
fn nflog_without_a_packet_is_no_ip() {
    let [(_, packet), _] = packets();
    let mut other_version = nflog(&[(9, &packet)], u16::to_le_bytes);
    other_version[1] = 1;
    // An attribute shorter than its own header leads nowhere.
    let short = [&[2, 0, 0, 7][..], &2u16.to_le_bytes(), &1u16.to_le_bytes(), &[0; 60]].concat();
    let many = nflog(&[(4, &[0; 4][..]); 100], u16::to_le_bytes);
    let arp = nflog(&[(9, &[0; 28])], u16::to_le_bytes);
    for frame in [other_version, short, many, arp] {
        assert_eq!(ip_packet(LinkType::Nflog, &frame, frame.len()), Err(LinkError::NotIp));
    }
}

#[test]
fn what_is_not_ip_is_told_apart() {
    let (ether_type, packet) = packets()[0].clone();
    let mut arp = vec![0; 42];
    MutableEthernetPacket::new(&mut arp).unwrap().set_ethertype(EtherTypes::Arp);
    let too_deep = ethernet(&[0x8100; 9], ether_type, &packet);
    for frame in [arp.clone(), too_deep, ethernet(&[], ether_type, &[0x55; 40])] {
        assert_eq!(ip_packet(LinkType::Ethernet, &frame, frame.len()), Err(LinkError::NotIp));
    }
    for link in [LinkType::Raw, LinkType::Null, LinkType::LinuxCooked, LinkType::LinuxCooked2] {
        assert_eq!(ip_packet(link, &[0x77; 60], 60), Err(LinkError::NotIp), "{link:?}");
    }
    let known: Vec<i32> = (-5..300).filter(|dlt| LinkType::from_dlt(*dlt).is_some()).collect();
    assert_eq!(known, [0, 1, 12, 14, 101, 108, 113, 228, 229, 239, 276]);
}

#[test]
fn ipv4_options_padding_and_cuts() {
    let mut bytes = vec![0xaa; 24 + 8 + 6];
    let mut made = MutableIpv4Packet::new(&mut bytes).unwrap();
    made.set_version(4);
    made.set_header_length(6);
    made.set_total_length(32);
    made.set_flags(0);
    made.set_fragment_offset(0);
    made.set_next_level_protocol(IpNextHeaderProtocols::Tcp);
    made.set_source(Ipv4Addr::new(1, 2, 3, 4));
    bytes[20..24].copy_from_slice(&[1, 1, 1, 0]);
    let ip = IpPacket::parse(&bytes, bytes.len()).unwrap();
    assert_eq!((ip.header_len, ip.payload.len(), ip.payload_len, ip.protocol), (24, 8, 8, 6));
    assert_eq!((ip.source, ip.fragment), (IpAddr::from([1, 2, 3, 4]), None));
    let cut = IpPacket::parse(&bytes[..27], 38).unwrap();
    assert_eq!((cut.payload.len(), cut.payload_len), (3, 8));
    for cut in 0..24 {
        assert_eq!(IpPacket::parse(&bytes[..cut], 38).unwrap_err(), IpError::Truncated);
    }
    let wrong = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        IpPacket::parse(&bytes, bytes.len()).unwrap_err()
    };
    assert_eq!(wrong(0, 0x44), IpError::HeaderLength);
    assert_eq!(wrong(0, 0x56), IpError::Version(5));
    assert_eq!(wrong(3, 23), IpError::TotalLength);
    // A segment merged beyond 64 KiB, or cut by the card, has no length of its own.
    bytes[2..4].fill(0);
    let big = IpPacket::parse(&bytes, 100_000).unwrap();
    assert_eq!((big.payload.len(), big.payload_len), (14, 100_000 - 24));
}

/// An IPv6 packet of `extensions` and a payload of eight bytes of TCP number; `first` announces the first extension.
fn ipv6(first: u8, extensions: &[&[u8]]) -> Vec<u8> {
    let mut packet = written(&segment(v6_flow()), b"");
    packet.truncate(40);
    packet[6] = first;
    for extension in extensions {
        packet.extend_from_slice(extension);
    }
    packet.extend_from_slice(&[0xab; 8]);
    let len = packet.len() as u16 - 40;
    packet[4..6].copy_from_slice(&len.to_be_bytes());
    packet
}

#[test]
fn ipv6_extension_headers_are_followed() {
    let hop_by_hop = |next| [next, 0, 5, 2, 0, 0, 1, 0];
    let routing = |next| [&[next, 2, 4, 0][..], &[0; 20]].concat();
    let authentication = |next| [&[next, 1][..], &[0; 10]].concat();
    let atomic = |next| [next, 0, 0, 0, 1, 2, 3, 4];
    let packet = ipv6(
        0,
        &[&hop_by_hop(60), &hop_by_hop(43), &routing(44), &atomic(51), &authentication(60), &hop_by_hop(6)],
    );
    let ip = IpPacket::parse(&packet, packet.len()).unwrap();
    assert_eq!((ip.protocol, ip.fragment, ip.header_len), (6, None, 40 + 8 + 8 + 24 + 8 + 12 + 8));
    assert_eq!((ip.payload, ip.payload_len), (&[0xab; 8][..], 8));
    for cut in 40..ip.header_len {
        assert_eq!(IpPacket::parse(&packet[..cut], packet.len()).unwrap_err(), IpError::Truncated);
    }

    let later = ipv6(44, &[&[60, 0, 0x12, 0x39, 0xde, 0xad, 0xbe, 0xef]]);
    let ip = IpPacket::parse(&later, later.len()).unwrap();
    let fragment = Fragment { id: 0xdead_beef, offset: 0x1238, more: true };
    assert_eq!((ip.protocol, ip.fragment, ip.header_len), (60, Some(fragment), 48));

    let error = |packet: &[u8]| IpPacket::parse(packet, packet.len()).unwrap_err();
    assert_eq!(error(&ipv6(60, &[&hop_by_hop(0), &hop_by_hop(6)])), IpError::ExtensionHeaders);
    assert_eq!(error(&ipv6(44, &[&atomic(44), &atomic(6)])), IpError::ExtensionHeaders);
    let destination_options = hop_by_hop(60);
    assert_eq!(error(&ipv6(60, &[&destination_options[..]; 20])), IpError::ExtensionHeaders);
    // The chain reaches beyond the length field.
    let mut short = ipv6(60, &[&hop_by_hop(6)]);
    short[5] = 7;
    assert_eq!(error(&short), IpError::TotalLength);
}

#[test]
fn ipv6_lengths_beyond_the_field() {
    let jumbo = |len: u32| {
        let option = [&[6, 0, 0xc2, 4][..], &len.to_be_bytes()].concat();
        let mut packet = ipv6(0, &[&option]);
        packet[4..6].fill(0);
        packet
    };
    let packet = jumbo(100_008);
    let ip = IpPacket::parse(&packet, 200_000).unwrap();
    assert_eq!((ip.protocol, ip.payload.len(), ip.payload_len), (6, 8, 100_000));
    assert_eq!(IpPacket::parse(&jumbo(65_535), 200_000).unwrap_err(), IpError::TotalLength);
    let mut bad_len = jumbo(100_008);
    bad_len[43] = 3;
    assert_eq!(IpPacket::parse(&bad_len, 200_000).unwrap_err(), IpError::HeaderLength);
    // Without the option, as newer kernels hand BIG TCP to a capture.
    let mut plain = ipv6(6, &[]);
    plain[4..6].fill(0);
    assert_eq!(IpPacket::parse(&plain, 150_040).unwrap().payload_len, 150_000);
    let mut fragment = ipv6(44, &[&[6, 0, 0, 1, 0, 0, 0, 1]]);
    fragment[4..6].fill(0);
    assert_eq!(IpPacket::parse(&fragment, fragment.len()).unwrap_err(), IpError::TotalLength);
}

const LINKS: [LinkType; 5] =
    [LinkType::Ethernet, LinkType::Raw, LinkType::Null, LinkType::LinuxCooked, LinkType::LinuxCooked2];

/// Bytes that often look like a header: a good version, and numbers of extension headers strewn in.
fn nearly_ip() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        2 => any::<u8>(),
        1 => prop::sample::select(vec![0u8, 1, 2, 4, 6, 8, 43, 44, 51, 60, 0xc2, 255]),
    ];
    let version = prop::sample::select(vec![0x45u8, 0x46, 0x4f, 0x60, 0x6f]);
    (version, prop::collection::vec(byte, 0..160)).prop_map(|(first, mut bytes)| {
        bytes.insert(0, first);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    fn any_bytes_are_a_packet_or_an_error(bytes in nearly_ip(), wire_len in 0usize..100_000) {
        if let Ok(ip) = IpPacket::parse(&bytes, wire_len) {
            prop_assert!(ip.payload_len >= ip.payload.len());
            prop_assert!(ip.header_len + ip.payload.len() <= bytes.len());
            prop_assert_eq!(ip.payload, &bytes[ip.header_len..ip.header_len + ip.payload.len()]);
        }
    }

    #[test]
    fn any_frame_is_a_packet_or_an_error(
        frame in prop::collection::vec(prop::sample::select(vec![0u8, 2, 8, 0x45, 0x60, 0x81, 0x86, 0x88, 0xa8, 0xdd]), 0..60),
        wire_len in 0usize..200,
    ) {
        for link in LINKS {
            if let Ok((packet, len)) = ip_packet(link, &frame, wire_len) {
                prop_assert!(frame.ends_with(packet) && len >= packet.len());
            }
        }
    }
}
