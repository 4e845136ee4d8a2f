//! Sending through raw sockets and at the link layer, and what failures leave behind.

mod common;

use common::{Lab, Side, collect, number_of, ring, ring_with, run};
use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;
use tcpcopy_engine::batch::PacketBatch;
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_net::link_layer::{LinkError, LinkSink, LinkTarget};
use tcpcopy_net::raw_socket::{RawSocketSink, path_mtu};
use tcpcopy_net::ring::Direction;
use tcpcopy_net::sink::{PacketSink, SendFailure};
use tcpcopy_net::source::{LinkType, PacketSource};

/// From an address that no interface has: the sinks have to send for clients elsewhere.
const CLIENT_V4: [u8; 4] = [198, 51, 100, 7];

fn ipv4(target: [u8; 4], number: u64, length: usize) -> Vec<u8> {
    let total = 28 + length;
    let mut packet = vec![0; total];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&CLIENT_V4);
    packet[16..20].copy_from_slice(&target);
    udp(&mut packet[20..], number);
    packet
}

fn ipv6(target: std::net::Ipv6Addr, number: u64, length: usize) -> Vec<u8> {
    let mut packet = vec![0; 48 + length];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&(8 + length as u16).to_be_bytes());
    packet[6] = 17;
    packet[7] = 64;
    packet[8..24].copy_from_slice(&"2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet[24..40].copy_from_slice(&target.octets());
    udp(&mut packet[40..], number);
    packet
}

fn udp(segment: &mut [u8], number: u64) {
    let length = segment.len() as u16;
    segment[..2].copy_from_slice(&7777u16.to_be_bytes());
    segment[2..4].copy_from_slice(&9999u16.to_be_bytes());
    segment[4..6].copy_from_slice(&length.to_be_bytes());
    segment[8..16].copy_from_slice(&number.to_be_bytes());
}

fn push(batch: &mut PacketBatch, target: &str, number: u64, length: usize) {
    let target: IpAddr = target.parse().unwrap();
    let bytes = match target {
        IpAddr::V4(target) => ipv4(target.octets(), number, length),
        IpAddr::V6(target) => ipv6(target, number, length),
    };
    batch.push(Endpoint::new(target, 9999), number as u32, 0, |buffer| buffer.extend_from_slice(&bytes));
}

/// Sends the batch and returns the failures, and the numbers that arrived over IPv4 and over IPv6.
fn deliver(
    lab: &Lab,
    sink: &mut dyn PacketSink,
    batch: &PacketBatch,
) -> (Vec<SendFailure>, Vec<u64>, Vec<u64>) {
    let mut source = ring(lab, &["veth-b"], "udp dst port 9999");
    let mut failures = Vec::new();
    sink.send(batch, &mut failures);
    let (v4, v6) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let expected = batch.len() - failures.len();
    collect(
        &mut source,
        Duration::from_secs(5),
        |frame| {
            let numbers = if frame.data[14] >> 4 == 4 { &v4 } else { &v6 };
            numbers.borrow_mut().push(number_of(&frame, 14));
        },
        || v4.borrow().len() + v6.borrow().len() == expected,
    );
    (failures, v4.into_inner(), v6.into_inner())
}

#[test]
fn raw_sockets_send_both_families_in_order() {
    let Some(lab) = Lab::new() else { return };
    let mut sink = lab.sending(|| RawSocketSink::open().unwrap());
    let mut batch = PacketBatch::new();
    for number in 0..1000 {
        push(&mut batch, if number % 3 == 0 { "fd77::2" } else { "10.77.0.2" }, number, 100);
    }
    let (failures, v4, v6) = deliver(&lab, &mut sink, &batch);
    assert_eq!(failures, []);
    assert_eq!(v4, (0..1000).filter(|number| number % 3 != 0).collect::<Vec<_>>());
    assert_eq!(v6, (0..1000).filter(|number| number % 3 == 0).collect::<Vec<_>>());
}

#[test]
fn a_packet_that_cannot_be_sent_is_recorded_and_the_rest_goes_on() {
    let Some(lab) = Lab::new() else { return };
    let mut sink = lab.sending(|| RawSocketSink::open().unwrap());
    lab.at_sender("nft add table inet t");
    lab.at_sender("nft add chain inet t out { type filter hook output priority 0 ; }");
    lab.at_sender("nft add rule inet t out ip daddr 10.77.0.66 drop");
    lab.at_sender("ip addr add 10.88.0.1/32 dev lo");
    let mut batch = PacketBatch::new();
    let mut expected = Vec::new();
    for number in 0..400u64 {
        let index = number as usize;
        match number {
            // Two in a row, the first and the last of a system call, and one of the other family.
            0 | 10 | 11 | 127 | 128 | 399 => {
                push(&mut batch, "10.77.0.2", number, 1900);
                expected.push(SendFailure { index, errno: libc::EMSGSIZE });
            }
            20 | 21 => {
                push(&mut batch, "10.77.0.66", number, 100);
                expected.push(SendFailure { index, errno: libc::EPERM });
            }
            30 => {
                push(&mut batch, "203.0.113.1", number, 100);
                expected.push(SendFailure { index, errno: libc::ENETUNREACH });
            }
            40 => {
                push(&mut batch, "fd77::2", number, 1900);
                expected.push(SendFailure { index, errno: libc::EMSGSIZE });
            }
            _ => push(&mut batch, if number % 2 == 0 { "10.77.0.2" } else { "fd77::2" }, number, 100),
        }
    }
    let (failures, v4, v6) = deliver(&lab, &mut sink, &batch);
    assert_eq!(failures, expected);
    let failed: Vec<u64> = failures.iter().map(|failure| failure.index as u64).collect();
    let sent = |rest: u64| {
        (0..400u64).filter(|number| number % 2 == rest && !failed.contains(number)).collect::<Vec<_>>()
    };
    assert_eq!((v4, v6), (sent(0), sent(1)));
}

#[test]
fn the_path_mtu_is_that_of_the_route() {
    let Some(lab) = Lab::new() else { return };
    lab.at_sender("ip route add 10.99.0.0/16 via 10.77.0.2 mtu 1400");
    let mtu = |target: &str| {
        let target = target.parse().unwrap();
        lab.sending(move || path_mtu(target))
    };
    assert_eq!(mtu("10.77.0.2").unwrap(), 1500);
    assert_eq!(mtu("10.99.0.1").unwrap(), 1400);
    assert_eq!(mtu("fd77::2").unwrap(), 1500);
    assert!(mtu("203.0.113.1").is_err());
}

fn target(address: &str) -> LinkTarget {
    LinkTarget { address: address.parse().unwrap(), next_hop: None, source: None }
}

#[test]
fn the_link_layer_finds_the_next_hop_and_sends_past_routing_and_firewall() {
    let Some(lab) = Lab::new() else { return };
    lab.at_receiver("ip link set veth-b address 02:00:00:00:77:02");
    lab.at_sender("ip route add 10.99.0.0/16 via 10.77.0.2");
    lab.at_sender("nft add table inet t");
    lab.at_sender("nft add chain inet t out { type filter hook output priority 0 ; }");
    lab.at_sender("nft add rule inet t out udp dport 9999 drop");
    let targets = [target("10.77.0.2"), target("10.99.0.1"), target("fd77::2")];
    let mut sink = lab.sending(|| LinkSink::open("veth-a", &targets).unwrap());
    for target in &targets {
        assert_eq!(sink.next_hop_mac(target.address), Some([2, 0, 0, 0, 0x77, 2]), "{target:?}");
    }
    let mut batch = PacketBatch::new();
    for number in 0..300u64 {
        let target = match number {
            17 => "10.77.0.3",
            _ => ["10.77.0.2", "10.99.0.1", "fd77::2"][number as usize % 3],
        };
        push(&mut batch, target, number, if number == 30 { 1900 } else { 100 });
    }
    let (failures, v4, v6) = deliver(&lab, &mut sink, &batch);
    let expected = [(17, libc::EDESTADDRREQ), (30, libc::EMSGSIZE)];
    assert_eq!(failures, expected.map(|(index, errno)| SendFailure { index, errno }));
    let sent =
        |v6: bool| (0..300u64).filter(|n| (n % 3 == 2) == v6 && *n != 17 && *n != 30).collect::<Vec<_>>();
    assert_eq!((v4, v6), (sent(false), sent(true)));
}

#[test]
fn a_next_hop_with_a_new_mac_is_followed() {
    let Some(lab) = Lab::new() else { return };
    lab.at_receiver("ip link set veth-b address 02:00:00:00:77:02");
    let targets = [target("10.77.0.2")];
    let mut sink = lab.sending(|| LinkSink::open("veth-a", &targets).unwrap());
    lab.at_sender("ip neigh replace 10.77.0.2 dev veth-a lladdr 02:00:00:00:77:99");
    std::thread::sleep(Duration::from_millis(1050));
    lab.sending(|| sink.send(&PacketBatch::new(), &mut Vec::new()));
    assert_eq!(sink.next_hop_mac(targets[0].address), Some([2, 0, 0, 0, 0x77, 0x99]));
}

#[test]
fn what_the_link_layer_cannot_find_is_named() {
    let Some(lab) = Lab::new() else { return };
    let open = |device: &str, address: &str| {
        let target = target(address);
        lab.sending(move || LinkSink::open(device, &[target]).err().unwrap())
    };
    let error = open("veth-a", "10.77.0.200");
    assert_eq!(
        error.to_string(),
        "the MAC of 10.77.0.200, the next hop to target 10.77.0.200, cannot be found on veth-a"
    );
    assert!(error.hint().unwrap().contains("@<MAC>"));
    assert!(matches!(open("veth-x", "10.77.0.2"), LinkError::Interface(_)));
    assert!(matches!(open("veth-a", "10.77.0.1"), LinkError::Local { .. }));
    let by_hand = LinkTarget { next_hop: Some([2, 0, 0, 0, 0, 9]), ..target("10.77.0.200") };
    let sink = lab.sending(|| LinkSink::open("veth-a", &[by_hand]).unwrap());
    assert_eq!(sink.next_hop_mac(by_hand.address), by_hand.next_hop);
}

#[test]
fn an_interface_without_ethernet_gets_and_gives_bare_packets() {
    let Some(lab) = Lab::new() else { return };
    // VXLAN-GPE is the one tunnel without link header that every kernel seems to have.
    for (namespace, device, host) in [(&lab.sender, "tun-a", 1), (&lab.receiver, "tun-b", 2)] {
        run(&format!("ip -n {namespace} link add {device} type vxlan dstport 4790 external gpe"));
        run(&format!("ip -n {namespace} addr add 10.66.0.{host}/24 dev {device}"));
        run(&format!("ip -n {namespace} link set {device} up"));
    }
    run(&format!("ip -n {} route add 10.67.0.0/16 encap ip id 5 dst 10.77.0.2 dev tun-a", lab.sender));
    let receive = |source: &mut dyn PacketSource| {
        let seen = RefCell::new(Vec::new());
        collect(
            source,
            Duration::from_secs(3),
            |frame| {
                assert_eq!(frame.link_type, LinkType::Raw);
                seen.borrow_mut().push(frame.data.to_vec());
            },
            || !seen.borrow().is_empty(),
        );
        let seen = seen.into_inner();
        assert_eq!(seen.len(), 1);
        seen[0].clone()
    };
    // Sent at the link layer, seen where it leaves (without metadata the tunnel goes no further).
    let mut source = ring_with(
        &lab,
        &["tun-a"],
        "udp dst port 9999",
        |options| options.direction = Direction::Both,
        Side::Sender,
    );
    let mut sink = lab.sending(|| LinkSink::open("tun-a", &[target("10.66.0.9")]).unwrap());
    assert_eq!(sink.next_hop_mac("10.66.0.9".parse().unwrap()), None);
    let mut batch = PacketBatch::new();
    push(&mut batch, "10.66.0.9", 5, 100);
    let mut failures = Vec::new();
    sink.send(&batch, &mut failures);
    assert_eq!(failures, []);
    assert_eq!(receive(&mut source), ipv4([10, 66, 0, 9], 5, 100));
    // Sent through the tunnel, seen where it comes out.
    let mut source = ring(&lab, &["tun-b"], "udp dst port 9999");
    let mut batch = PacketBatch::new();
    push(&mut batch, "10.67.0.1", 6, 100);
    lab.sending(|| RawSocketSink::open().unwrap()).send(&batch, &mut failures);
    assert_eq!(failures, []);
    let mut seen = receive(&mut source);
    let mut expected = ipv4([10, 67, 0, 1], 6, 100);
    // The kernel fills in the header's checksum and identification on the way.
    for packet in [&mut seen, &mut expected] {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    assert_eq!(seen, expected);
}
