//! Both directions of connections: each packet once, on any interface, and a connection's packets at one worker.

mod common;

use common::Lab;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use tcpcopy_engine::wire::PROTOCOL_TCP;
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::link;
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpSegment};
use tcpcopy_net::filter::{Filter, FilterLink, Streams, capture_expression, incoming, with_references};
use tcpcopy_net::pcap_capture::{Delivery, PcapCapture, PcapOptions};
use tcpcopy_net::ring::{Direction, Fanout, FanoutKey, RingCapture, RingOptions};
use tcpcopy_net::source::PacketSource;

const ONLINE_PORT: u16 = 9999;
const CONNECTIONS: usize = 12;

/// What was seen of a connection, by the client's port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    syns: usize,
    syn_acks: usize,
    requests: Vec<u8>,
    references: Vec<u8>,
}

fn rings(lab: &Lab, interfaces: &[&str], endpoint: Option<&str>, workers: u16) -> Vec<Box<dyn PacketSource>> {
    let endpoint = endpoint.map(|addr| addr.parse::<IpAddr>().unwrap());
    let expression = capture_expression(&[(endpoint, ONLINE_PORT)], Streams::RequestsAndReferences, None);
    rings_of(lab, interfaces, &expression, workers)
}

fn rings_of(lab: &Lab, interfaces: &[&str], expression: &str, workers: u16) -> Vec<Box<dyn PacketSource>> {
    lab.receiving(|| {
        let filter = Filter::compile(expression, FilterLink::Ethernet, 65_535).unwrap();
        let options = RingOptions {
            interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
            ring_bytes: 4 << 20,
            direction: Direction::Both,
            fanout: (workers > 1).then(|| Fanout {
                group: Fanout::group_of_process(),
                key: FanoutKey::ClientPort(vec![80, ONLINE_PORT]),
            }),
            ..RingOptions::new(filter)
        };
        RingCapture::open_workers(&options, workers)
            .unwrap()
            .into_iter()
            .map(|one| Box::new(one) as Box<dyn PacketSource>)
            .collect()
    })
}

fn libpcap(lab: &Lab, interface: &str) -> Vec<Box<dyn PacketSource>> {
    lab.receiving(|| {
        let capture = PcapCapture::open(&PcapOptions {
            interface: interface.to_owned(),
            expression: capture_expression(&[(None, ONLINE_PORT)], Streams::RequestsAndReferences, None),
            buffer_mib: 8,
            snap_len: 0,
            delivery: Delivery::Buffered,
            direction: Direction::Both,
        });
        vec![Box::new(capture.unwrap()) as Box<dyn PacketSource>]
    })
}

/// Requests and answers over some connections; returns the clients' ports.
fn talk(lab: &Lab, to: &str, is_local: bool) -> Vec<u16> {
    let listener = lab.receiving(|| TcpListener::bind((to, ONLINE_PORT)).unwrap());
    let connect = || TcpStream::connect((to, ONLINE_PORT)).unwrap();
    let mut ports = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = if is_local { lab.receiving(connect) } else { lab.sending(connect) };
        let mut server = listener.accept().unwrap().0;
        ports.push(client.local_addr().unwrap().port());
        let mut room = [0; 8];
        client.write_all(b"question").unwrap();
        server.read_exact(&mut room).unwrap();
        server.write_all(b"answered").unwrap();
        client.read_exact(&mut room).unwrap();
    }
    ports
}

/// What each source gives within a while.
fn look(sources: &mut [Box<dyn PacketSource>]) -> Vec<BTreeMap<u16, Seen>> {
    let mut all = vec![BTreeMap::<u16, Seen>::new(); sources.len()];
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end {
        for (source, seen) in sources.iter_mut().zip(&mut all) {
            source
                .drain(1000, &mut |frame| {
                    let (ip, len) = link::ip_packet(frame.link_type, frame.data, frame.wire_len).unwrap();
                    let ip = IpPacket::parse(ip, len).unwrap();
                    if ip.protocol != PROTOCOL_TCP {
                        // Extension headers hide what is behind them from filters.
                        return;
                    }
                    let tcp = TcpSegment::parse(ip.payload, ip.payload_len).unwrap();
                    let is_syn = tcp.flags.contains(TcpFlags::SYN);
                    if tcp.destination_port == ONLINE_PORT {
                        let seen = seen.entry(tcp.source_port).or_default();
                        seen.syns += usize::from(is_syn);
                        seen.requests.extend(tcp.payload);
                    } else {
                        assert_eq!(tcp.source_port, ONLINE_PORT);
                        let seen = seen.entry(tcp.destination_port).or_default();
                        seen.syn_acks += usize::from(is_syn);
                        seen.references.extend(tcp.payload);
                    }
                })
                .unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    all
}

/// Every connection was seen whole, each byte once, by one of the sources.
fn check(ports: &[u16], seen: &[BTreeMap<u16, Seen>], what: &str) {
    let whole =
        Seen { syns: 1, syn_acks: 1, requests: b"question".to_vec(), references: b"answered".to_vec() };
    for port in ports {
        let found: Vec<&Seen> = seen.iter().filter_map(|source| source.get(port)).collect();
        assert_eq!(found, [&whole], "{what}, port {port}");
    }
    let number: usize = seen.iter().map(BTreeMap::len).sum();
    assert_eq!(number, ports.len(), "{what}: {seen:?}");
}

#[test]
fn both_directions_are_seen_once_on_every_kind_of_interface() {
    let Some(lab) = Lab::new() else { return };
    for (interfaces, to, is_local) in [
        (&["veth-b"][..], "10.77.0.2", false),
        (&["veth-b"], "fd77::2", false),
        (&[], "10.77.0.2", false),
        (&["lo"], "127.0.0.1", true),
        (&["lo", "veth-b"], "10.77.0.2", true),
        (&[], "::1", true),
    ] {
        for endpoint in [None, Some(to)] {
            let mut sources = rings(&lab, interfaces, endpoint, 1);
            let ports = talk(&lab, to, is_local);
            check(&ports, &look(&mut sources), &format!("ring on {interfaces:?}, {to}, {endpoint:?}"));
        }
    }
}

#[test]
fn libpcap_sees_both_directions_once() {
    let Some(lab) = Lab::new() else { return };
    for (interface, to, is_local) in [
        ("veth-b", "10.77.0.2", false),
        ("any", "fd77::2", false),
        ("lo", "127.0.0.1", true),
        ("any", "127.0.0.1", true),
    ] {
        let mut sources = libpcap(&lab, interface);
        let ports = talk(&lab, to, is_local);
        check(&ports, &look(&mut sources), &format!("libpcap on {interface}, {to}"));
    }
}

#[test]
fn both_directions_of_a_connection_reach_the_same_worker() {
    let Some(lab) = Lab::new() else { return };
    for (interfaces, to, is_local) in
        [(&["veth-b"][..], "10.77.0.2", false), (&[], "fd77::2", false), (&["lo"], "127.0.0.1", true)]
    {
        let mut sources = rings(&lab, interfaces, None, 3);
        let ports = talk(&lab, to, is_local);
        let seen = look(&mut sources);
        check(&ports, &seen, &format!("three workers on {interfaces:?}, {to}"));
        for (worker, seen) in (0u16..).zip(&seen) {
            assert!(seen.keys().all(|port| Fanout::worker_of_port(*port, 3) == worker), "{worker}: {seen:?}");
        }
    }
}

#[test]
fn what_this_host_sends_to_an_online_port_is_no_request_if_only_incoming_ones_are() {
    let Some(lab) = Lab::new() else { return };
    let requests = incoming(&capture_expression(&[(None, ONLINE_PORT)], Streams::Requests, None));
    let expression = with_references(&requests, "tcp src port 9999");
    for (interfaces, to, is_local) in
        [(&["veth-b"][..], "10.77.0.2", false), (&[], "10.77.0.2", false), (&[], "127.0.0.1", true)]
    {
        let mut sources = rings_of(&lab, interfaces, &expression, 1);
        let ports = talk(&lab, to, is_local);
        check(&ports, &look(&mut sources), &format!("{interfaces:?}, {to}"));
    }
    // As replayed packets leave the host of an online server.
    let mut sources = rings_of(&lab, &["veth-b"], &expression, 1);
    let listener = lab.sending(|| TcpListener::bind(("10.77.0.1", ONLINE_PORT)).unwrap());
    let mut stream = lab.receiving(|| TcpStream::connect(("10.77.0.1", ONLINE_PORT)).unwrap());
    stream.write_all(b"question").unwrap();
    let mut room = [0; 8];
    listener.accept().unwrap().0.read_exact(&mut room).unwrap();
    let port = stream.local_addr().unwrap().port();
    let seen = look(&mut sources);
    assert_eq!(seen[0][&port].syn_acks, 1, "{seen:?}");
    assert_eq!((seen[0][&port].syns, seen[0][&port].requests.len()), (0, 0), "{seen:?}");
}
