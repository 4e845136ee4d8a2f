//! One set of frames, through every kind of capture: tags, IPv6, fragments.

mod common;

use common::{Lab, Side, collect, ring, ring_with};
use pcap::{Active, Capture};
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tcpcopy_engine::wire::link;
use tcpcopy_net::filter::{Filter, FilterError, FilterLink, Streams, capture_expression};
use tcpcopy_net::pcap_capture::{Delivery, PcapCapture, PcapOptions};
use tcpcopy_net::ring::{Direction, Fanout, FanoutKey, RingCapture, RingOptions};
use tcpcopy_net::source::PacketSource;

const ONLINE_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const ONLINE_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;

/// A frame's number goes where each capture finds it again: the identification of IPv4, the flow label of IPv6.
fn ipv4(number: u8, online: Ipv4Addr, protocol: u8, port: u16, fragment: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 60, 0, number, 0, 0, 64, protocol, 0, 0, 198, 51, 100, 7];
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet.extend(online.octets());
    packet.extend(40_001u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.resize(60, 0);
    packet
}

fn ipv6(number: u8, online: Ipv6Addr, protocol: u8, port: u16) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, number, 0, 20, protocol, 64];
    packet.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
    packet.extend(online.octets());
    match protocol {
        // A later fragment of TCP: no ports.
        FRAGMENT => packet.extend([TCP, 0, 0, 0x80, 0, 0, 0, 1]),
        _ => {
            packet.extend(40_001u16.to_be_bytes());
            packet.extend(port.to_be_bytes());
        }
    }
    packet.resize(60, 0);
    packet
}

fn ethernet(tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0x77, 2, 2, 0, 0, 0, 0x77, 1];
    for (protocol, information) in tags {
        frame.extend(protocol.to_be_bytes());
        frame.extend(information.to_be_bytes());
    }
    frame.extend(if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    frame.extend(packet);
    frame
}

/// The frames, and the numbers of those that belong to the online server at port 9999.
fn frames() -> (Vec<Vec<u8>>, Vec<u8>) {
    let vlan = (0x8100, 100);
    // Priority 2: the tag's first four bits look like an IPv4 header's.
    let inner = (0x8100, 0x4064);
    let service = (0x88a8, 200);
    let other = Ipv4Addr::new(10, 77, 0, 3);
    let all = vec![
        (true, ethernet(&[], &ipv4(1, ONLINE_V4, TCP, 9999, 0))),
        (false, ethernet(&[], &ipv4(2, ONLINE_V4, TCP, 9998, 0))),
        (false, ethernet(&[], &ipv4(3, other, TCP, 9999, 0))),
        (false, ethernet(&[], &ipv4(4, ONLINE_V4, UDP, 9999, 0))),
        (true, ethernet(&[], &ipv4(5, ONLINE_V4, TCP, 0, 7))),
        (false, ethernet(&[], &ipv4(6, ONLINE_V4, UDP, 0, 7))),
        (true, ethernet(&[], &ipv6(7, ONLINE_V6, TCP, 9999))),
        (false, ethernet(&[], &ipv6(8, ONLINE_V6, TCP, 9998))),
        (true, ethernet(&[], &ipv6(9, ONLINE_V6, FRAGMENT, 0))),
        (true, ethernet(&[vlan], &ipv4(10, ONLINE_V4, TCP, 9999, 0))),
        (true, ethernet(&[vlan], &ipv6(11, ONLINE_V6, TCP, 9999))),
        (false, ethernet(&[vlan], &ipv4(12, ONLINE_V4, TCP, 9998, 0))),
        (true, ethernet(&[service, vlan], &ipv4(13, ONLINE_V4, TCP, 9999, 0))),
        (true, ethernet(&[service, inner], &ipv4(14, ONLINE_V4, TCP, 9999, 0))),
        (true, ethernet(&[service, vlan], &ipv6(15, ONLINE_V6, TCP, 9999))),
        (false, ethernet(&[service, vlan], &ipv4(16, other, TCP, 9999, 0))),
        (false, ethernet(&[service, inner], &ipv4(17, ONLINE_V4, TCP, 9998, 0))),
        (true, ethernet(&[service, inner], &ipv4(18, ONLINE_V4, TCP, 0, 7))),
    ];
    let wanted = (1u8..).zip(&all).filter(|(_, (wanted, _))| *wanted).map(|(number, _)| number).collect();
    (all.into_iter().map(|(_, frame)| frame).collect(), wanted)
}

fn injector(lab: &Lab) -> Capture<Active> {
    lab.at_receiver("ip link set veth-b address 02:00:00:00:77:02");
    lab.sending(|| Capture::from_device("veth-a").unwrap().open().unwrap())
}

fn expression() -> String {
    capture_expression(
        &[(Some(IpAddr::V4(ONLINE_V4)), 9999), (Some(IpAddr::V6(ONLINE_V6)), 9999)],
        Streams::Requests,
        None,
    )
}

/// Numbers of the frames that `source` gives, each found by the engine's own reading of the frame.
fn numbers(source: &mut dyn PacketSource, count: usize) -> Vec<u8> {
    let seen = RefCell::new(Vec::new());
    // A frame more would come within the timeout: wait it out when all are there.
    let mut settled = None;
    collect(
        source,
        Duration::from_secs(2),
        |frame| {
            let (ip, wire_len) = link::ip_packet(frame.link_type, frame.data, frame.wire_len).unwrap();
            assert_eq!((ip.len(), wire_len), (60, 60));
            seen.borrow_mut().push(if ip[0] >> 4 == 4 { ip[5] } else { ip[3] });
        },
        || {
            let complete = seen.borrow().len() >= count;
            let since = *settled.get_or_insert_with(std::time::Instant::now);
            if !complete {
                settled = None;
            }
            complete && since.elapsed() > Duration::from_millis(60)
        },
    );
    seen.into_inner()
}

#[test]
fn the_ring_takes_what_belongs_to_the_online_server() {
    let Some(lab) = Lab::new() else { return };
    let mut injector = injector(&lab);
    let (frames, wanted) = frames();
    for interfaces in [&["veth-b"][..], &[]] {
        let mut source = ring(&lab, interfaces, &expression());
        for frame in &frames {
            injector.sendpacket(&frame[..]).unwrap();
        }
        assert_eq!(numbers(&mut source, wanted.len()), wanted, "{interfaces:?}");
        assert_eq!(source.statistics().received, wanted.len() as u64);
    }
}

#[test]
fn libpcap_takes_the_same_frames() {
    let Some(lab) = Lab::new() else { return };
    let mut injector = injector(&lab);
    let (frames, wanted) = frames();
    for delivery in [Delivery::Immediate, Delivery::Buffered] {
        let mut source = lab.receiving(|| {
            PcapCapture::open(&PcapOptions {
                interface: "veth-b".to_owned(),
                expression: expression(),
                buffer_mib: 8,
                snap_len: 0,
                delivery,
                direction: Direction::Incoming,
            })
            .unwrap()
        });
        for frame in &frames {
            injector.sendpacket(&frame[..]).unwrap();
        }
        assert_eq!(numbers(&mut source, wanted.len()), wanted, "{delivery:?}");
        assert_eq!(source.statistics().received, wanted.len() as u64);
    }
}

#[test]
fn a_snapshot_length_cuts_and_says_so() {
    let Some(lab) = Lab::new() else { return };
    let mut injector = injector(&lab);
    let frame = ethernet(&[], &ipv4(1, ONLINE_V4, TCP, 9999, 0));
    let mut ring = ring_with(
        &lab,
        &["veth-b"],
        &expression(),
        |options: &mut RingOptions| options.snap_len = 50,
        Side::Receiver,
    );
    let mut pcap = lab.receiving(|| {
        PcapCapture::open(&PcapOptions {
            interface: "veth-b".to_owned(),
            expression: expression(),
            buffer_mib: 0,
            snap_len: 50,
            delivery: Delivery::Immediate,
            direction: Direction::Incoming,
        })
        .unwrap()
    });
    injector.sendpacket(&frame[..]).unwrap();
    for source in [&mut ring as &mut dyn PacketSource, &mut pcap] {
        let seen = RefCell::new(Vec::new());
        collect(
            source,
            Duration::from_secs(2),
            |frame| seen.borrow_mut().push((frame.data.len(), frame.wire_len)),
            || !seen.borrow().is_empty(),
        );
        assert_eq!(seen.into_inner(), [(50, 74)]);
    }
}

#[test]
fn workers_share_packets_by_port() {
    let Some(lab) = Lab::new() else { return };
    let mut injector = injector(&lab);
    for key in [FanoutKey::SourcePort, FanoutKey::DestinationPort, FanoutKey::FlowHash] {
        let workers = 3;
        let mut sources = lab.receiving(|| {
            let filter = Filter::compile("tcp", FilterLink::Ethernet, 65_535).unwrap();
            let mut options = RingOptions::new(filter);
            options.ring_bytes = 2 << 20;
            options.interfaces = vec!["veth-b".to_owned()];
            options.fanout = Some(Fanout { group: Fanout::group_of_process(), key: key.clone() });
            RingCapture::open_workers(&options, workers).unwrap()
        });
        for port in 0..60u16 {
            let mut packet = if port % 2 == 0 {
                ipv4(port as u8, ONLINE_V4, TCP, 100 + port, 0)
            } else {
                ipv6(port as u8, ONLINE_V6, TCP, 100 + port)
            };
            let ports = if port % 2 == 0 { 20 } else { 40 };
            packet[ports..ports + 2].copy_from_slice(&(100 + port).to_be_bytes());
            injector.sendpacket(&ethernet(&[], &packet)[..]).unwrap();
        }
        // A sent packet of this host belongs to nobody.
        let _ = lab.receiving(|| {
            std::net::TcpStream::connect_timeout(&"10.77.0.9:1".parse().unwrap(), Duration::from_millis(1))
        });
        let mut total = 0;
        for (worker, source) in (0..workers).zip(&mut sources) {
            let mut seen = Vec::new();
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_millis(60) {
                source
                    .drain(100, &mut |frame| {
                        let (ip, _) = link::ip_packet(frame.link_type, frame.data, frame.wire_len).unwrap();
                        seen.push(u16::from(if ip[0] >> 4 == 4 { ip[5] } else { ip[3] }));
                    })
                    .unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
            if key != FanoutKey::FlowHash {
                let expected: Vec<u16> =
                    (0..60).filter(|port| Fanout::worker_of_port(100 + port, workers) == worker).collect();
                assert_eq!(seen, expected, "{key:?} worker {worker}");
            }
            total += seen.len();
        }
        assert_eq!(total, 60, "{key:?}");
    }
}

#[test]
fn a_wrong_expression_is_reported_with_its_text() {
    let error = Filter::compile("tcp prot 80", FilterLink::Ethernet, 100).unwrap_err();
    assert!(error.to_string().starts_with("filter \"tcp prot 80\": "), "{error}");
    assert!(error.to_string().len() > "filter \"tcp prot 80\": ".len());
    let error = Filter::compile("ether host 02:00:00:00:00:01", FilterLink::Raw, 100).unwrap_err();
    assert!(error.to_string().contains("ether"), "{error}");
    let many = |count: u32, ports: u16| {
        let endpoints: Vec<_> =
            (0..count).map(|host| (Some(IpAddr::V4(host.into())), 80 + host as u16 % ports)).collect();
        Filter::compile(&capture_expression(&endpoints, Streams::Requests, None), FilterLink::Ethernet, 100)
    };
    many(1000, 1).unwrap();
    many(100, 100).unwrap();
    let error = many(9000, 1).unwrap_err();
    assert!(matches!(error, FilterError::TextTooLong { .. }), "{error}");
    let error = many(200, 200).unwrap_err();
    assert!(matches!(error, FilterError::TooLong { .. }), "{error}");
}

#[test]
fn a_user_filter_replaces_the_generated_one() {
    assert_eq!(capture_expression(&[(None, 80)], Streams::Requests, Some("tcp port 7")), "tcp port 7");
    let every = capture_expression(&[(None, 80), (None, 81), (None, 80)], Streams::Requests, None);
    assert_eq!(every.matches("dst port 80").count(), 1);
    Filter::compile(&every, FilterLink::Ethernet, 100).unwrap();
    Filter::compile(&every, FilterLink::Raw, 100).unwrap();
    // A filter that speaks of tags is taken as it is.
    Filter::compile("vlan 7 and tcp", FilterLink::Ethernet, 100).unwrap();
}
