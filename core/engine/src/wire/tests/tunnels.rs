//! Tunnels of every kind around the same packet.

use super::{segment, v4_flow, v6_flow, written};
use crate::wire::ip::IpPacket;
use crate::wire::link::LinkType;
use crate::wire::tunnel::{Decap, DecapError, Tunnel, filter, open};
use pnet::packet::MutablePacket;
use pnet::packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet::packet::ipv4::MutableIpv4Packet;
use pnet::packet::ipv6::MutableIpv6Packet;
use pnet::packet::udp::MutableUdpPacket;
use proptest::prelude::*;

fn ipv4(protocol: IpNextHeaderProtocol, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20 + payload.len()];
    let mut ip = MutableIpv4Packet::new(&mut packet).unwrap();
    ip.set_version(4);
    ip.set_header_length(5);
    ip.set_total_length(20 + payload.len() as u16);
    ip.set_next_level_protocol(protocol);
    ip.payload_mut().copy_from_slice(payload);
    packet
}

fn ipv6(protocol: IpNextHeaderProtocol, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40 + payload.len()];
    let mut ip = MutableIpv6Packet::new(&mut packet).unwrap();
    ip.set_version(6);
    ip.set_payload_length(payload.len() as u16);
    ip.set_next_header(protocol);
    ip.set_payload(payload);
    packet
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; 8 + payload.len()];
    let mut udp = MutableUdpPacket::new(&mut datagram).unwrap();
    udp.set_source(50_000);
    udp.set_destination(port);
    udp.set_length(8 + payload.len() as u16);
    udp.set_payload(payload);
    datagram
}

/// What is in a tunnel: bytes that are looked at by nobody here.
fn inner() -> Vec<u8> {
    (0..90).collect()
}

/// Headers of all kinds: the kind, the protocol, what stands before the inner packet, and what that begins with.
fn headers() -> Vec<(Tunnel, IpNextHeaderProtocol, Vec<u8>, LinkType)> {
    use IpNextHeaderProtocols::{Gre, Udp};
    let over_udp = |port, header: &[u8]| {
        let mut datagram = udp(port, &[header, &inner()].concat());
        datagram.truncate(8 + header.len());
        datagram
    };
    let vxlan = [0x08, 0, 0, 0, 0, 0, 42, 0];
    let geneve = |option_words: u8, ether_type: u16| {
        let [high, low] = ether_type.to_be_bytes();
        [&[option_words, 0, high, low, 0, 0, 42, 0][..], &vec![7; usize::from(option_words) * 4]].concat()
    };
    let gre = |flags: u16, ether_type: u16, behind: usize| {
        [&flags.to_be_bytes()[..], &ether_type.to_be_bytes(), &vec![7; behind]].concat()
    };
    let mut erspan_2 = gre(0x1000, 0x88be, 4);
    erspan_2.extend([0x10, 42, 0, 1, 0, 0, 0, 9]);
    let mut erspan_3 = gre(0x1000, 0x22eb, 4);
    erspan_3.extend([0x20, 42, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0]);
    let mut erspan_3_platform = gre(0x1000, 0x22eb, 4);
    erspan_3_platform.extend([0x20, 42, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
    let mut erspan_3_ip = gre(0x1000, 0x22eb, 4);
    erspan_3_ip.extend([0x20, 42, 0, 1, 0, 0, 0, 9, 0, 0, 2 << 2, 0]);
    vec![
        (Tunnel::Vxlan, Udp, over_udp(4789, &vxlan), LinkType::Ethernet),
        (Tunnel::Vxlan, Udp, over_udp(8472, &vxlan), LinkType::Ethernet),
        (Tunnel::Geneve, Udp, over_udp(6081, &geneve(0, 0x6558)), LinkType::Ethernet),
        (Tunnel::Geneve, Udp, over_udp(6081, &geneve(63, 0x6558)), LinkType::Ethernet),
        (Tunnel::Geneve, Udp, over_udp(6081, &geneve(2, 0x86dd)), LinkType::Raw),
        (Tunnel::Gre, Gre, gre(0, 0x0800, 0), LinkType::Raw),
        (Tunnel::Gre, Gre, gre(0x2000, 0x86dd, 4), LinkType::Raw),
        (Tunnel::Gre, Gre, gre(0x3000, 0x6558, 8), LinkType::Ethernet),
        (Tunnel::Gre, Gre, gre(0xb000, 0x0800, 12), LinkType::Raw),
        (Tunnel::Erspan, Gre, gre(0, 0x88be, 0), LinkType::Ethernet),
        (Tunnel::Erspan, Gre, erspan_2, LinkType::Ethernet),
        (Tunnel::Erspan, Gre, erspan_3, LinkType::Ethernet),
        (Tunnel::Erspan, Gre, erspan_3_platform, LinkType::Ethernet),
        (Tunnel::Erspan, Gre, erspan_3_ip, LinkType::Raw),
    ]
}

#[test]
fn every_tunnel_is_opened_when_asked_and_only_then() {
    for (kind, protocol, header, link) in headers() {
        let payload = [&header[..], &inner()].concat();
        for outer in [ipv4(protocol, &payload), ipv6(protocol, &payload)] {
            let packet = IpPacket::parse(&outer, outer.len()).unwrap();
            let found = Some((link, &payload[header.len()..], inner().len()));
            assert_eq!(open(&packet, Decap::ALL), found, "{kind:?} {header:x?}");
            for other in Tunnel::ALL {
                // Ethernet in GRE is what some switches call ERSPAN.
                let is_mirrored = (kind, other, link) == (Tunnel::Gre, Tunnel::Erspan, LinkType::Ethernet);
                let expected = if other == kind || is_mirrored { found } else { None };
                assert_eq!(open(&packet, Decap::NONE.with(other)), expected, "{kind:?} as {other:?}");
            }
            assert_eq!(open(&packet, Decap::NONE), None);
            // The capture cut the frame: the length on the wire stays.
            let cut = outer.len() - 50;
            let packet = IpPacket::parse(&outer[..cut], outer.len()).unwrap();
            assert_eq!(open(&packet, Decap::ALL), Some((link, &inner()[..40], 90)), "{kind:?}");
        }
    }
}

#[test]
fn cut_headers_carry_nothing() {
    for (kind, protocol, header, _) in headers() {
        for cut in 0..header.len() {
            let outer = ipv4(protocol, &header[..cut]);
            let packet = IpPacket::parse(&outer, outer.len()).unwrap();
            // What is left of a cut ERSPAN header may be none of type I.
            assert_eq!(open(&packet, Decap::ALL), None, "{kind:?} cut to {cut} of {header:x?}");
        }
    }
}

#[test]
fn what_is_no_tunnel_is_left_alone() {
    use IpNextHeaderProtocols::{Gre, Udp};
    let inner = inner();
    let cases = [
        // Another port.
        ipv4(Udp, &udp(4790, &[&[8, 0, 0, 0, 0, 0, 42, 0][..], &inner].concat())),
        // VXLAN without a network, Geneve of a later version, Geneve control.
        ipv4(Udp, &udp(4789, &[&[0, 0, 0, 0, 0, 0, 42, 0][..], &inner].concat())),
        ipv4(Udp, &udp(6081, &[&[0x40, 0, 0x65, 0x58, 0, 0, 42, 0][..], &inner].concat())),
        ipv4(Udp, &udp(6081, &[&[0, 0x80, 0x65, 0x58, 0, 0, 42, 0][..], &inner].concat())),
        // PPTP, GRE with routing, GRE of something that is neither IP nor Ethernet.
        ipv4(Gre, &[&[0x30, 1, 0x08, 0x00][..], &inner].concat()),
        ipv4(Gre, &[&[0x40, 0, 0x08, 0x00][..], &inner].concat()),
        ipv4(Gre, &[&[0, 0, 0x88, 0x47][..], &inner].concat()),
        // ERSPAN of other versions.
        ipv4(Gre, &[&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x30, 0][..], &inner].concat()),
        ipv4(Gre, &[&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x10, 0][..], &inner].concat()),
    ];
    for outer in cases {
        let packet = IpPacket::parse(&outer, outer.len()).unwrap();
        assert_eq!(open(&packet, Decap::ALL), None, "{outer:x?}");
    }
    for flow in [v4_flow(), v6_flow()] {
        let tcp = written(&segment(flow), b"four");
        assert_eq!(open(&IpPacket::parse(&tcp, tcp.len()).unwrap(), Decap::ALL), None);
    }
}

#[test]
fn a_fragment_of_a_tunnel_waits_for_the_rest() {
    let (_, protocol, header, _) = headers().swap_remove(0);
    let mut outer = ipv4(protocol, &[&header[..], &inner()].concat());
    outer[6] = 0x20;
    assert_eq!(open(&IpPacket::parse(&outer, outer.len()).unwrap(), Decap::ALL), None);
}

#[test]
fn lists_of_tunnels_are_read_and_printed() {
    let all: Decap = "vxlan, GENEVE,gre,erspan,".parse().unwrap();
    assert_eq!(all, Decap::ALL);
    assert_eq!(all.to_string(), "vxlan,geneve,gre,erspan");
    let two: Decap = "erspan,vxlan".parse().unwrap();
    assert_eq!(two, Decap::NONE.with(Tunnel::Vxlan).with(Tunnel::Erspan));
    assert_eq!(two.to_string().parse(), Ok(two));
    assert_eq!("".parse::<Decap>(), Err(DecapError::Empty));
    assert_eq!(",,".parse::<Decap>(), Err(DecapError::Empty));
    assert_eq!("vxlan,l2tp".parse::<Decap>(), Err(DecapError::Unknown { name: "l2tp".to_owned() }));
}

#[test]
fn filters_name_what_was_asked_for() {
    assert_eq!(filter(Decap::NONE), None);
    let gre = filter(Decap::NONE.with(Tunnel::Gre)).unwrap();
    assert_eq!(gre, "ip proto 47 or ip6 proto 47");
    assert_eq!(filter(Decap::NONE.with(Tunnel::Erspan)).unwrap(), gre);
    let vxlan = filter(Decap::NONE.with(Tunnel::Vxlan)).unwrap();
    assert!(vxlan.contains("4789") && vxlan.contains("8472") && !vxlan.contains("6081"), "{vxlan}");
    let all = filter(Decap::ALL).unwrap();
    assert!(all.contains(&vxlan[..10]) && all.contains("6081") && all.contains(&gre), "{all}");
}

proptest! {
    #[test]
    fn any_bytes_are_opened_within_their_packet(
        protocol in prop_oneof![Just(17u8), Just(47u8)],
        port in prop_oneof![Just(4789u16), Just(6081u16), any::<u16>()],
        payload in prop::collection::vec(any::<u8>(), 0..80),
        beyond in 0usize..100,
    ) {
        let mut payload = payload;
        if protocol == 17 && payload.len() >= 4 {
            payload[2..4].copy_from_slice(&port.to_be_bytes());
        }
        let mut outer = ipv4(IpNextHeaderProtocol(protocol), &payload);
        let wire_len = (outer.len() + beyond) as u16;
        outer[2..4].copy_from_slice(&wire_len.to_be_bytes());
        let packet = IpPacket::parse(&outer, outer.len()).unwrap();
        if let Some((_, inner, inner_wire_len)) = open(&packet, Decap::ALL) {
            prop_assert!(payload.ends_with(inner));
            prop_assert_eq!(inner_wire_len - inner.len(), beyond);
        }
    }
}
