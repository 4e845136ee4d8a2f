//! Frames made by hand, one situation a test.

use tcpcopy_capture_file::{Frame, LinkType};
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::wire::packet::{OutgoingSegment, write};
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpOptions};
use tcpcopy_inspect::{Decap, Findings, Inspection, Limits, Protocol, Role, WarningKind};

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const FIN: TcpFlags = TcpFlags::FIN;
const RST: TcpFlags = TcpFlags::RST;
/// How far apart packets are, in nanoseconds.
const STEP: u64 = 1_000_000;

fn at(address: &str) -> Endpoint {
    address.parse::<std::net::SocketAddr>().expect("an address").into()
}

/// A capture being made: packets of any connections, each a millisecond after the one before.
struct Capture {
    inspection: Inspection,
    now: u64,
    id: u16,
}

/// One connection in it, with what both sides have sent.
struct Talk {
    client: Endpoint,
    server: Endpoint,
    client_seq: u32,
    server_seq: u32,
}

impl Capture {
    fn new() -> Self {
        Self::with(Limits::default(), Decap::NONE)
    }

    fn with(limits: Limits, decap: Decap) -> Self {
        Self { inspection: Inspection::new(limits, decap), now: 1_000 * STEP, id: 1 }
    }

    fn frame(&mut self, data: &[u8], wire_len: usize) {
        self.now += STEP;
        let frame = Frame { data, wire_len, link_type: LinkType::Raw, captured_at_nanos: self.now };
        self.inspection.frame(&frame);
    }

    fn packet(
        &mut self,
        from: Endpoint,
        to: Endpoint,
        flags: TcpFlags,
        (seq, ack): (u32, u32),
        payload: &[u8],
    ) -> Vec<u8> {
        self.id = self.id.wrapping_add(1);
        let mut data = Vec::new();
        let segment = OutgoingSegment {
            flow: FlowKey { client: from, target: to },
            seq: SeqNumber(seq),
            ack: flags.contains(ACK).then_some(SeqNumber(ack)),
            flags,
            window: 100,
            options: TcpOptions { mss: flags.contains(SYN).then_some(1460), ..TcpOptions::default() },
            hop_limit: 64,
            traffic_class: 0,
            identification: self.id,
        };
        write(&mut data, &segment, [payload, &[]]);
        data
    }

    fn send(&mut self, from: Endpoint, to: Endpoint, flags: TcpFlags, numbers: (u32, u32), payload: &[u8]) {
        let data = self.packet(from, to, flags, numbers, payload);
        self.frame(&data, data.len());
    }

    fn open(&mut self, client: &str, server: &str) -> Talk {
        let talk =
            Talk { client: at(client), server: at(server), client_seq: 1000, server_seq: u32::MAX - 50 };
        self.send(talk.client, talk.server, SYN, (999, 0), b"");
        self.send(talk.server, talk.client, SYN | ACK, (talk.server_seq - 1, 1000), b"");
        self.send(talk.client, talk.server, ACK, (1000, talk.server_seq), b"");
        talk
    }

    fn ask(&mut self, talk: &mut Talk, payload: &[u8]) {
        self.send(talk.client, talk.server, ACK, (talk.client_seq, talk.server_seq), payload);
        talk.client_seq = talk.client_seq.wrapping_add(payload.len() as u32);
    }

    fn answer(&mut self, talk: &mut Talk, payload: &[u8]) {
        self.send(talk.server, talk.client, ACK, (talk.server_seq, talk.client_seq), payload);
        talk.server_seq = talk.server_seq.wrapping_add(payload.len() as u32);
    }

    fn close(&mut self, talk: &Talk) {
        self.send(talk.client, talk.server, FIN | ACK, (talk.client_seq, talk.server_seq), b"");
        self.send(talk.server, talk.client, FIN | ACK, (talk.server_seq, talk.client_seq + 1), b"");
        self.send(talk.client, talk.server, ACK, (talk.client_seq + 1, talk.server_seq.wrapping_add(1)), b"");
    }

    /// A connection with one request and one response.
    fn exchange(&mut self, client: &str, server: &str) {
        let mut talk = self.open(client, server);
        self.ask(&mut talk, b"GET / HTTP/1.1\r\n\r\n");
        self.answer(&mut talk, b"HTTP/1.1 204 No Content\r\n\r\n");
        self.close(&talk);
    }

    fn findings(self) -> Findings {
        self.inspection.finish(&["web.pcap".to_owned()])
    }
}

fn has(findings: &Findings, kind: WarningKind) -> bool {
    findings.warnings.iter().any(|warning| warning.kind == kind)
}

#[test]
fn a_whole_connection_has_nothing_to_be_said_about() {
    let mut capture = Capture::new();
    capture.exchange("203.0.113.7:4000", "10.0.0.1:80");
    let findings = capture.findings();
    let c = findings.connections;
    assert_eq!((c.total, c.complete, c.with_syn, c.closed, c.reset, c.replayable), (1, 1, 1, 1, 0, 1));
    assert_eq!((findings.client.bytes, findings.server.bytes), (18, 27));
    assert_eq!((findings.client.gap_bytes, findings.server.gap_bytes, findings.client.repeated), (0, 0, 0));
    assert_eq!(findings.warnings, []);
    let [port] = findings.ports.as_slice() else { panic!("{:?}", findings.ports) };
    assert_eq!(
        (port.port, port.requests, port.peak, port.main_protocol()),
        (80, 1, 1, Some(Protocol::Http1))
    );
    assert_eq!(
        findings.commands[0].command,
        "tcpcopy --offline web.pcap -x 80-TARGET:80 -s ASSISTANT --module http"
    );
}

#[test]
fn kinds_of_connections_add_up() {
    let mut capture = Capture::new();
    capture.exchange("203.0.113.7:4000", "10.0.0.1:80");
    // Without end.
    let mut talk = capture.open("203.0.113.7:4001", "10.0.0.1:80");
    capture.ask(&mut talk, b"GET / HTTP/1.1\r\n\r\n");
    // Refused.
    let (client, server) = (at("203.0.113.7:4002"), at("10.0.0.1:80"));
    capture.send(client, server, SYN, (5, 0), b"");
    capture.send(server, client, RST | ACK, (0, 6), b"");
    // Unanswered, with a retransmitted SYN.
    capture.send(at("203.0.113.7:4003"), server, SYN, (5, 0), b"");
    capture.send(at("203.0.113.7:4003"), server, SYN, (5, 0), b"");
    // From the middle; the server is heard first.
    capture.send(server, at("203.0.113.7:4004"), ACK, (9, 70), b"tail");
    capture.send(at("203.0.113.7:4004"), server, ACK, (70, 13), b"GET /b HTTP/1.1\r\n\r\n");
    // Reset by the client after its request.
    let mut talk = capture.open("203.0.113.7:4005", "10.0.0.1:80");
    capture.ask(&mut talk, b"GET / HTTP/1.1\r\n\r\n");
    capture.send(talk.client, talk.server, RST, (talk.client_seq, 0), b"why not");
    let findings = capture.findings();
    let c = findings.connections;
    assert_eq!((c.complete, c.unended, c.mid_stream, c.refused, c.unanswered, c.total), (2, 1, 1, 1, 1, 6));
    assert_eq!((c.reset, c.replayable, c.replayable_in_part, c.client_only), (2, 3, 1, 0));
    assert_eq!(findings.ports.len(), 1);
    assert_eq!(findings.client.bytes, 18 + 18 + 19 + 18);
    for kind in [WarningKind::MidStream, WarningKind::Unended, WarningKind::Refused] {
        assert!(has(&findings, kind), "{kind:?}");
    }
}

#[test]
fn the_same_ports_again_are_another_connection() {
    let mut capture = Capture::new();
    capture.exchange("203.0.113.7:4000", "10.0.0.1:80");
    let (client, server) = (at("203.0.113.7:4000"), at("10.0.0.1:80"));
    capture.send(client, server, SYN, (77_000, 0), b"");
    capture.send(server, client, SYN | ACK, (5, 77_001), b"");
    capture.send(client, server, ACK, (77_001, 6), b"GET / HTTP/1.1\r\n\r\n");
    let findings = capture.findings();
    assert_eq!((findings.connections.total, findings.connections.complete), (2, 1));
    assert_eq!(findings.client.gap_bytes, 0);
}

#[test]
fn missing_bytes_are_told_of_each_side() {
    let mut capture = Capture::new();
    let mut talk = capture.open("203.0.113.7:4000", "10.0.0.1:80");
    capture.ask(&mut talk, b"GET / HTTP/1.1\r\n");
    // A packet of the client is lost; the server's acknowledgement tells. Then two of the server; its next one tells.
    talk.client_seq += 100;
    capture.answer(&mut talk, b"HTTP/1.1 200 OK\r\n");
    talk.server_seq = talk.server_seq.wrapping_add(2000);
    capture.answer(&mut talk, b"the end");
    capture.close(&talk);
    let findings = capture.findings();
    assert_eq!((findings.client.gaps, findings.client.gap_bytes), (1, 100));
    assert_eq!((findings.server.gaps, findings.server.gap_bytes), (1, 2000));
    assert_eq!((findings.connections.client_gaps, findings.connections.server_gaps), (1, 1));
    assert_eq!((findings.connections.replayable, findings.connections.replayable_in_part), (0, 1));
    assert!(has(&findings, WarningKind::ClientGaps) && has(&findings, WarningKind::ServerGaps));
}

#[test]
fn retransmissions_reordering_probes_and_duplicates_are_told_apart() {
    let mut capture = Capture::new();
    let mut talk = capture.open("203.0.113.7:4000", "10.0.0.1:6379");
    capture.ask(&mut talk, b"*1\r\n$4\r\nPING\r\n");
    let first = capture.packet(talk.client, talk.server, ACK, (1014, talk.server_seq), b"*1\r\n$4\r\n");
    let second = capture.packet(talk.client, talk.server, ACK, (1022, talk.server_seq), b"PING\r\n");
    for data in [&second, &first, &first] {
        capture.frame(data, data.len());
    }
    // The same bytes in another packet.
    capture.send(talk.client, talk.server, ACK, (1014, talk.server_seq), b"*1\r\n$4\r\n");
    talk.client_seq = 1028;
    capture.answer(&mut talk, b"+PONG\r\n+PONG\r\n");
    capture.send(talk.client, talk.server, ACK, (1027, talk.server_seq), b"\n");
    let findings = capture.findings();
    let client = findings.client;
    assert_eq!((client.bytes, client.out_of_order, client.repeated, client.probes), (28, 1, 1, 1));
    assert_eq!((findings.duplicates, findings.connections.duplicated), (1, 1));
    assert_eq!(findings.ports[0].requests, 1);
    assert!(has(&findings, WarningKind::Duplicates));
}

#[test]
fn what_the_capture_cut_is_told_of_each_side() {
    let mut capture = Capture::new();
    let talk = capture.open("203.0.113.7:4000", "10.0.0.1:80");
    let request = [b"POST / HTTP/1.1\r\n\r\n".as_slice(), &[b'x'; 500]].concat();
    let data = capture.packet(talk.client, talk.server, ACK, (1000, talk.server_seq), &request);
    capture.frame(&data[..96], data.len());
    let data =
        capture.packet(talk.server, talk.client, ACK, (talk.server_seq, 1519), b"HTTP/1.1 200 OK\r\n\r\n");
    capture.frame(&data[..50], data.len());
    // Not even the header.
    capture.frame(&data[..30], data.len());
    let findings = capture.findings();
    assert_eq!((findings.client.cut, findings.client.cut_bytes), (1, 519 - 56));
    assert_eq!((findings.server.cut, findings.server.cut_bytes), (1, 9));
    assert_eq!((findings.packets.headers_cut, findings.connections.replayable), (1, 0));
    assert_eq!((findings.client.gap_bytes, findings.client.bytes), (0, 519));
    for kind in [WarningKind::ClientCut, WarningKind::ServerCut, WarningKind::HeadersCut] {
        assert!(has(&findings, kind), "{kind:?}");
    }
}

#[test]
fn one_direction_only_is_told() {
    let mut capture = Capture::new();
    let server = at("10.0.0.1:80");
    let client = at("203.0.113.7:4000");
    capture.send(client, server, SYN, (9, 0), b"");
    capture.send(client, server, ACK, (10, 100), b"GET / HTTP/1.1\r\n\r\n");
    capture.send(client, server, ACK, (28, 300), b"GET / HTTP/1.1\r\n\r\n");
    let other = at("203.0.113.7:4001");
    capture.send(server, other, SYN | ACK, (9, 100), b"");
    capture.send(server, other, ACK, (10, 200), b"HTTP/1.1 200 OK\r\n\r\n");
    let findings = capture.findings();
    let c = findings.connections;
    assert_eq!((c.client_only, c.server_only, c.total, c.replayable), (1, 1, 2, 1));
    // Nothing is said to be missing of a direction that is missing.
    assert_eq!((findings.client.gap_bytes, findings.server.gap_bytes), (0, 0));
    assert_eq!(findings.ports[0].requests, 3);
    assert!(has(&findings, WarningKind::ClientMissing) && has(&findings, WarningKind::ServerMissing));
}

/// A ClientHello that asks for a name.
fn hello(name: &str) -> Vec<u8> {
    let len = name.len() as u8;
    let mut hello = vec![22, 3, 1, 0, 62 + len, 1, 0, 0, 58 + len, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0x13, 1, 1, 0, 0, len + 9, 0, 0, 0, len + 5, 0, len + 3, 0, 0, len]);
    hello.extend(name.as_bytes());
    hello
}

#[test]
fn tls_is_told_by_port_and_name_and_gets_no_command() {
    let mut capture = Capture::new();
    for n in 0..3 {
        let mut talk = capture.open(&format!("203.0.113.7:{}", 4000 + n), "10.0.0.1:443");
        capture.ask(&mut talk, &hello("shop.example"));
        capture.answer(&mut talk, &[22, 3, 3, 0, 70, 2, 0]);
    }
    // A database of which one client turns to TLS.
    for (n, flags) in [(0, 0xa2), (1, 0xaa)] {
        let mut talk = capture.open(&format!("203.0.113.7:{}", 5000 + n), "10.0.0.1:3306");
        capture.answer(&mut talk, b"J\0\0\0\n8.0.32\0");
        let login = [&[32, 0, 0, 1, 0x85, flags, 0, 0][..], &[0; 28]].concat();
        capture.ask(&mut talk, &login);
    }
    let findings = capture.findings();
    assert_eq!(findings.connections.encrypted, 4);
    let warning = findings.warnings.iter().find(|w| w.kind == WarningKind::Encrypted).expect("a warning");
    assert_eq!(
        warning.found,
        "4 of 5 connections encrypted: port 443: 3 of 3 (shop.example); port 3306: 1 of 2"
    );
    let commands: Vec<_> = findings.commands.iter().map(|c| (c.transfer.as_str(), c.module)).collect();
    assert_eq!(commands, [("3306-TARGET:3306", Some("mysql"))]);
}

#[test]
fn tunnels_are_told_of_or_opened() {
    let mut inner = Capture::new();
    let syn = inner.packet(at("203.0.113.7:4000"), at("10.0.0.1:80"), SYN, (9, 0), b"");
    let outer = |protocol: u8, payload: &[u8]| {
        let mut packet = vec![0x45, 0];
        packet.extend((20 + payload.len() as u16).to_be_bytes());
        packet.extend([0, 1, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        packet.extend(payload);
        packet
    };
    let udp = |port: u16, payload: &[u8]| {
        let port = port.to_be_bytes();
        let len = (8 + payload.len() as u16).to_be_bytes();
        let header = [0x90, 0x01, port[0], port[1], len[0], len[1], 0, 0];
        outer(17, &[&header, payload].concat())
    };
    let ethernet = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0][..], &syn].concat();
    let frames = [
        udp(4789, &[&[8, 0, 0, 0, 0, 0, 7, 0][..], &ethernet].concat()),
        udp(6081, &[&[0, 0, 0x65, 0x58, 0, 0, 7, 0][..], &ethernet].concat()),
        outer(47, &[&[0, 0, 8, 0][..], &syn].concat()),
        outer(47, &[&[0, 0, 0x88, 0xbe][..], &ethernet].concat()),
        udp(53, b"12345678901234567890"),
    ];
    let mut closed = Capture::new();
    let mut opened = Capture::with(Limits::default(), Decap::ALL);
    for frame in &frames {
        closed.frame(frame, frame.len());
        opened.frame(frame, frame.len());
    }
    let closed = closed.findings();
    let p = closed.packets;
    assert_eq!((p.vxlan, p.geneve, p.gre, p.erspan, p.other_protocols, p.opened), (1, 1, 1, 1, 1, 0));
    assert_eq!(closed.connections.total, 0);
    let warning = closed.warnings.iter().find(|w| w.kind == WarningKind::Tunnels).expect("a warning");
    assert_eq!(warning.advice, "--decap vxlan,geneve,gre,erspan opens them, here and in a replay");
    let opened = opened.findings();
    assert_eq!((opened.packets.opened, opened.packets.vxlan, opened.connections.total), (4, 0, 1));
    assert!(!has(&opened, WarningKind::Tunnels));
}

#[test]
fn loopback_clients_need_an_address() {
    let mut capture = Capture::new();
    capture.exchange("127.0.0.1:4000", "127.0.0.1:8080");
    let findings = capture.findings();
    assert_eq!(findings.connections.loopback, 1);
    assert!(has(&findings, WarningKind::Loopback));
    assert!(findings.commands[0].command.ends_with(" --module http -c CLIENT"));
}

#[test]
fn upstreams_are_told_from_fronts() {
    let mut capture = Capture::new();
    for n in 0..5 {
        capture.exchange(&format!("203.0.113.{n}:4000"), "10.0.0.1:80");
        capture.exchange(&format!("10.0.0.1:{}", 4100 + n), "10.0.0.2:80");
        capture.exchange(&format!("10.0.0.1:{}", 4200 + n), "10.0.0.3:8080");
    }
    let findings = capture.findings();
    let port = findings.ports.iter().find(|port| port.port == 80).expect("port 80");
    let roles: Vec<_> = port.servers.iter().map(|server| (server.address.to_string(), server.role)).collect();
    assert_eq!(roles, [("10.0.0.1".to_owned(), Role::Front), ("10.0.0.2".to_owned(), Role::Upstream)]);
    let transfers: Vec<_> = findings.commands.iter().map(|c| c.transfer.as_str()).collect();
    assert_eq!(transfers, ["10.0.0.1:80-TARGET:80", "8080-TARGET:8080"]);
    assert!(findings.commands[1].note.is_some());
    assert!(has(&findings, WarningKind::Upstream));
}

#[test]
fn several_front_servers_of_one_port_need_no_address() {
    let mut capture = Capture::new();
    capture.exchange("203.0.113.7:4000", "10.0.0.1:80");
    capture.exchange("203.0.113.7:4001", "[::ffff:10.0.0.2]:80");
    capture.exchange("[2001:db8::7]:4001", "[2001:db8::1]:80");
    let findings = capture.findings();
    assert_eq!(findings.commands[0].transfer, "80-TARGET:80");
    assert_eq!(findings.ports[0].servers.len(), 3);
    assert!(!has(&findings, WarningKind::Upstream));
}

#[test]
fn in_the_middle_what_is_said_tells_the_client() {
    let mut capture = Capture::new();
    // The server has the higher port and is heard first.
    let (client, server) = (at("203.0.113.7:4000"), at("10.0.0.1:9999"));
    capture.send(server, client, ACK, (9, 70), b"HTTP/1.1 200 OK\r\n\r\n");
    capture.send(client, server, ACK, (70, 28), b"GET / HTTP/1.1\r\n\r\n");
    // Nothing is said; a later handshake tells which port serves.
    capture.send(at("203.0.113.8:4000"), at("10.0.0.1:7777"), ACK, (9, 70), b"");
    capture.send(at("203.0.113.9:4000"), at("10.0.0.1:7777"), SYN, (9, 0), b"");
    let findings = capture.findings();
    let ports: Vec<_> = findings.ports.iter().map(|port| (port.port, port.connections, port.peak)).collect();
    assert_eq!((ports.len(), ports[0], ports[1].0, ports[1].1), (2, (9999, 1, 1), 7777, 2));
    assert_eq!((findings.client.bytes, findings.server.bytes), (18, 19));
}

#[test]
fn a_syn_that_was_overtaken_tells_the_client() {
    let mut capture = Capture::new();
    // By its port, the client would be the server.
    let (client, server) = (at("203.0.113.7:4000"), at("10.0.0.1:60000"));
    capture.send(client, server, ACK, (10, 70), b"hello");
    capture.send(client, server, SYN, (9, 0), b"");
    capture.send(server, client, SYN | ACK, (69, 10), b"");
    let findings = capture.findings();
    let c = findings.connections;
    assert_eq!((c.total, c.with_syn, c.mid_stream, findings.client.bytes), (1, 1, 0, 5));
    assert_eq!((findings.ports[0].port, findings.ports[0].peak), (60_000, 1));
}

#[test]
fn merged_segments_and_odd_packets_are_counted() {
    let mut capture = Capture::new();
    let mut talk = capture.open("203.0.113.7:4000", "10.0.0.1:80");
    capture.ask(&mut talk, b"GET / HTTP/1.1\r\n\r\n");
    capture.answer(&mut talk, &[b'x'; 20_000]);
    // Impossible flags, a bad header length, an acknowledgement from nowhere.
    capture.send(talk.client, talk.server, SYN | FIN, (1, 0), b"");
    let mut bad = capture.packet(talk.client, talk.server, ACK, (1018, 5), b"");
    bad[20 + 12] = 0x20;
    capture.frame(&bad, bad.len());
    capture.send(talk.client, talk.server, ACK, (1018, talk.server_seq.wrapping_add(2_000_000_000)), b"");
    capture.frame(&[0x60; 10], 10);
    capture.frame(&[0xff; 60], 60);
    let findings = capture.findings();
    assert_eq!((findings.server.super_segments, findings.server.implausible), (1, 1));
    let p = findings.packets;
    assert_eq!((p.malformed, p.headers_cut, p.not_ip), (2, 1, 1));
    assert_eq!((findings.server.gap_bytes, findings.connections.total), (0, 1));
    assert!(has(&findings, WarningKind::SuperSegments) && has(&findings, WarningKind::Malformed));
}

#[test]
fn fragments_are_put_together() {
    let mut capture = Capture::new();
    let talk = capture.open("203.0.113.7:4000", "10.0.0.1:80");
    let data = capture.packet(
        talk.client,
        talk.server,
        ACK,
        (1000, talk.server_seq),
        b"GET / HTTP/1.1\r\n\r\n123456",
    );
    let (header, payload) = data.split_at(20);
    for (start, end, offset_and_more) in [(0, 24, 0x2000u16), (24, 44, 3)] {
        let mut fragment = header.to_vec();
        fragment[2..4].copy_from_slice(&(20 + (end - start) as u16).to_be_bytes());
        fragment[6..8].copy_from_slice(&offset_and_more.to_be_bytes());
        fragment.extend(&payload[start..end]);
        capture.frame(&fragment, fragment.len());
    }
    let findings = capture.findings();
    assert_eq!(
        (findings.packets.fragments, findings.packets.fragments_lost, findings.client.bytes),
        (2, 0, 24)
    );
}

#[test]
fn memory_is_bounded_and_reached_bounds_are_told() {
    let limits = Limits { connections: 100, servers: 10 };
    let mut capture = Capture::with(limits, Decap::NONE);
    for n in 0..1000u16 {
        let client = format!("203.0.113.7:{}", 1024 + n);
        // Those that are over make room first, and are not missed.
        capture.exchange(&client, "10.0.0.1:80");
        assert!(capture.inspection.connections_followed() <= 100);
    }
    for n in 0..1000u16 {
        capture.open(&format!("203.0.113.8:{}", 1024 + n), &format!("10.0.0.1:{}", 20_000 + n % 50));
        assert!(capture.inspection.connections_followed() <= 100);
    }
    let findings = capture.findings();
    let c = findings.connections;
    assert_eq!((c.total, c.complete, c.unended), (2000, 1000, 1000));
    // A quarter of the table each time it is full; none of those that were over.
    assert!((875..=925).contains(&c.forgotten), "{}", c.forgotten);
    assert_eq!(findings.other_servers_connections, 1000 - 9 * 20);
    assert_eq!(
        findings.ports.iter().map(|port| port.connections).sum::<u64>(),
        2000 - findings.other_servers_connections
    );
    assert!(has(&findings, WarningKind::Limit));
}

#[test]
fn what_is_over_does_not_stay() {
    let mut capture = Capture::new();
    for n in 0..40_000u32 {
        capture.exchange(&format!("203.0.113.{}:{}", n / 10_000, 1024 + n % 10_000), "10.0.0.1:80");
    }
    assert!(capture.inspection.connections_followed() < 25_000);
    let findings = capture.findings();
    assert_eq!((findings.connections.complete, findings.connections.forgotten), (40_000, 0));
    assert_eq!((findings.ports[0].connections, findings.ports[0].peak), (40_000, 1));
}

#[test]
fn without_an_identification_repeated_acknowledgements_are_no_duplicates() {
    let mut capture = Capture::new();
    let mut talk = capture.open("[2001:db8::7]:4000", "[2001:db8::1]:80");
    let ack = capture.packet(talk.client, talk.server, ACK, (1000, talk.server_seq), b"");
    for _ in 0..3 {
        capture.frame(&ack, ack.len());
    }
    capture.ask(&mut talk, b"GET / HTTP/1.1\r\n\r\n");
    let data = capture.packet(talk.server, talk.client, ACK, (talk.server_seq, 1018), b"HTTP/1.1 200 OK\r\n");
    for _ in 0..2 {
        capture.frame(&data, data.len());
    }
    // As late as a retransmission would be.
    capture.now += 250 * STEP;
    capture.frame(&data, data.len());
    let findings = capture.findings();
    assert_eq!((findings.duplicates, findings.server.repeated), (1, 1));
}

#[test]
fn concurrency_is_that_of_the_port() {
    let mut capture = Capture::new();
    let open: Vec<Talk> =
        (0..7).map(|n| capture.open(&format!("203.0.113.7:{}", 4000 + n), "10.0.0.1:80")).collect();
    for talk in &open {
        capture.close(talk);
    }
    for n in 0..20 {
        capture.exchange(&format!("203.0.113.8:{}", 4000 + n), "10.0.0.1:80");
    }
    let findings = capture.findings();
    assert_eq!((findings.ports[0].connections, findings.ports[0].peak), (27, 7));
    // A capture of less than a second is not taken for more.
    assert!(findings.seconds() < 1.0 && findings.ports[0].connections_per_second == 27.0);
}

#[test]
fn a_connection_ends_once() {
    let mut capture = Capture::new();
    capture.open("203.0.113.7:4000", "10.0.0.1:80");
    let reset = capture.open("203.0.113.7:4001", "10.0.0.1:80");
    for _ in 0..3 {
        capture.send(reset.server, reset.client, RST, (reset.server_seq, 0), b"");
    }
    for port in 5000..5002 {
        capture.open(&format!("203.0.113.7:{port}"), "10.0.0.1:80");
    }
    assert_eq!(capture.findings().ports[0].peak, 3);
}

#[test]
fn a_capture_without_anything_says_so() {
    let findings = Capture::new().findings();
    let warning = &findings.warnings[0];
    assert_eq!((warning.kind, findings.warnings.len()), (WarningKind::NothingToReplay, 1));
    assert_eq!(warning.found, "there is no frame in this capture");
    assert!(findings.commands.is_empty());
}

/// Every packet of a good connection with each of its bytes changed, and cut everywhere: nothing is to be learnt but that nothing
/// panics and the sums hold.
#[test]
fn hostile_bytes_are_only_counted() {
    let mut good = Capture::new();
    let (client, server) = (at("203.0.113.7:4000"), at("10.0.0.1:443"));
    let packets = [
        good.packet(client, server, SYN, (999, 0), b""),
        good.packet(server, client, SYN | ACK, (4999, 1000), b""),
        good.packet(client, server, ACK, (1000, 5000), &hello("shop.example")),
        good.packet(server, client, ACK, (5000, 1074), &[22, 3, 3, 0, 70, 2, 0]),
        good.packet(client, server, FIN | ACK, (1074, 5007), b""),
        good.packet(server, client, RST, (5007, 0), b""),
    ];
    let mut capture = Capture::with(Limits { connections: 64, servers: 16 }, Decap::ALL);
    let mut frames = 0;
    for packet in &packets {
        for at in 0..packet.len() {
            for value in [0, 1, 6, 17, 47, 0x45, 0x60, 0x7f, 0x80, 0xff] {
                let mut hostile = packet.clone();
                hostile[at] = value;
                capture.frame(&hostile, hostile.len());
                capture.frame(&hostile[..at], hostile.len());
                frames += 2;
            }
        }
    }
    let findings = capture.findings();
    let (p, c) = (findings.packets, findings.connections);
    assert_eq!(p.frames, frames);
    assert!(p.malformed > 0 && p.headers_cut > 0 && p.not_ip > 0 && p.other_protocols > 0);
    assert_eq!(c.complete + c.unended + c.mid_stream + c.refused + c.unanswered, c.total);
    assert!(findings.ports.len() <= 16);
}
