//! Captured packets in tunnels: replayed when the engine is told to open them, and counted either way.

use std::net::{IpAddr, Ipv4Addr};
use tcpcopy_engine::counters::Counters;
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::mapping::{MappingOptions, Transfer};
use tcpcopy_engine::protocol::{TransparentFactory, WaitPolicy};
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::time::Instant;
use tcpcopy_engine::wire::link::LinkType;
use tcpcopy_engine::wire::packet::{self, OutgoingSegment};
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpOptions};
use tcpcopy_engine::wire::tunnel::{Decap, Tunnel};
use tcpcopy_engine::{Engine, EngineConfig};

const START: Instant = Instant::from_millis(1000);

fn endpoint(last: u8, port: u16) -> Endpoint {
    Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port)
}

fn syn() -> Vec<u8> {
    let segment = OutgoingSegment {
        flow: FlowKey { client: endpoint(1, 4000), target: endpoint(2, 80) },
        seq: SeqNumber(100),
        ack: None,
        flags: TcpFlags::SYN,
        window: 60_000,
        options: TcpOptions::default(),
        hop_limit: 64,
        traffic_class: 0,
        identification: 1,
    };
    let mut bytes = Vec::new();
    packet::write(&mut bytes, &segment, [&[], &[]]);
    bytes
}

fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len() as u16).to_be_bytes();
    let [high, low] = fragment.to_be_bytes();
    let header = [0x45, 0, len[0], len[1], 0, 7, high, low, 64, protocol, 0, 0, 10, 0, 0, 8, 10, 0, 0, 9];
    [&header[..], payload].concat()
}

fn in_gre(packet: &[u8]) -> Vec<u8> {
    ipv4(47, 0, &[&[0, 0, 8, 0][..], packet].concat())
}

fn vxlan_datagram(packet: &[u8]) -> Vec<u8> {
    let headers = [0xc0, 0, 0x12, 0xb5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 42, 0];
    [&headers[..], &[2; 12], &[8, 0], packet].concat()
}

/// What is counted when an engine that opens `decap` captures `packets`.
fn capture(decap: Decap, packets: &[Vec<u8>]) -> Counters {
    let transfers = vec![Transfer { online: None, online_port: 80, target: endpoint(3, 80) }];
    let mapping = MappingOptions { transfers, ..MappingOptions::default() };
    let factory = TransparentFactory { policy: WaitPolicy::LikeClient };
    let config = EngineConfig { decap, ..EngineConfig::new(mapping) };
    let mut engine = Engine::new(config, Box::new(factory), START);
    for packet in packets {
        engine.handle_frame(LinkType::Raw, packet, packet.len(), 1, START);
    }
    *engine.counters()
}

#[test]
fn tunnels_are_opened_when_asked() {
    let gre = in_gre(&syn());
    let vxlan = ipv4(17, 0, &vxlan_datagram(&syn()));
    for (kind, packet) in [(Tunnel::Gre, gre), (Tunnel::Vxlan, vxlan)] {
        let counters = capture(Decap::NONE.with(kind), std::slice::from_ref(&packet));
        assert_eq!((counters.connections_seen, counters.packets_decapsulated), (1, 1), "{kind:?}");
        // One packet was captured, with all its bytes.
        assert_eq!((counters.packets_captured, counters.bytes_captured), (1, packet.len() as u64));
        assert_eq!(counters.packets_ignored, 0);
        let counters = capture(Decap::NONE, std::slice::from_ref(&packet));
        assert_eq!((counters.connections_seen, counters.packets_decapsulated), (0, 0), "{kind:?}");
        assert_eq!(counters.packets_ignored, 1);
    }
}

#[test]
fn tunnels_in_tunnels_are_followed_four_deep() {
    let mut packet = syn();
    for depth in 1..=6 {
        packet = in_gre(&packet);
        let counters = capture(Decap::ALL, std::slice::from_ref(&packet));
        let expected = if depth <= 4 { (1, depth, 0) } else { (0, 4, 1) };
        let found = (counters.connections_seen, counters.packets_decapsulated, counters.packets_ignored);
        assert_eq!(found, expected, "{depth} deep");
    }
}

#[test]
fn a_tunnel_in_fragments_is_put_together() {
    let datagram = vxlan_datagram(&syn());
    let (head, tail) = datagram.split_at(48);
    let packets = [ipv4(17, 0x2000, head), ipv4(17, 6, tail)];
    let counters = capture(Decap::ALL, &packets);
    assert_eq!((counters.connections_seen, counters.packets_decapsulated), (1, 1));
    assert_eq!((counters.fragments, counters.packets_captured), (2, 2));
}

#[test]
fn what_is_no_packet_in_a_tunnel_is_counted() {
    let arp = [&vxlan_datagram(&[])[..28], &[8, 6], &[0; 28]].concat();
    let counters = capture(Decap::ALL, &[ipv4(17, 0, &arp)]);
    assert_eq!((counters.packets_decapsulated, counters.packets_ignored), (1, 1));
    let counters = capture(Decap::ALL, &[in_gre(&syn()[..10])]);
    assert_eq!((counters.packets_decapsulated, counters.packets_malformed), (1, 1));
}
