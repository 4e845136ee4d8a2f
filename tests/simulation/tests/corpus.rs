//! Captures from elsewhere: what the engine delivers of each client's stream equals what tshark puts together.
//!
//! Needs a folder of captures with its `MANIFEST.tsv` in `TCPCOPY_CORPUS`, and tshark; says so and passes without.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use tcpcopy_engine::batch::PacketBatch;
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::mapping::{MappingOptions, Transfer};
use tcpcopy_engine::protocol::{TransparentFactory, WaitPolicy};
use tcpcopy_engine::tcp::connection::Limited;
use tcpcopy_engine::time::Instant;
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpSegment};
use tcpcopy_engine::{Engine, EngineConfig};
use tcpcopy_simulation::captures::{self, Frame};
use tcpcopy_simulation::profile::ServerKind;
use tcpcopy_simulation::server::{Admission, Server, ServerOptions};

/// What the manifest says of captures whose link type or tunnel the engine does not look into.
const UNREADABLE: [&str; 5] = ["GRE", "ERSPAN", "VXLAN", "Geneve", "NFLOG"];
/// One-way delay between engine and targets, in nanoseconds.
const DELAY: u64 = 100_000;

/// Who clients on the loopback are to the targets.
const LOCALHOST_V4: Ipv4Addr = Ipv4Addr::new(10, 254, 0, 1);
const LOCALHOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1);

/// Whether `endpoint` at a target plays `client`; one on the loopback may be of the other family there.
fn plays(endpoint: Endpoint, client: Endpoint) -> bool {
    let localhosts = [IpAddr::from(LOCALHOST_V4), IpAddr::from(LOCALHOST_V6)];
    let same =
        endpoint.addr == client.addr || (client.addr.is_loopback() && localhosts.contains(&endpoint.addr));
    same && endpoint.port == client.port
}

/// What reached the targets from each client, and the engine that sent it.
struct Replay {
    engine: Engine,
    servers: HashMap<FlowKey, Server>,
    to_servers: VecDeque<(u64, Vec<u8>)>,
    replies: VecDeque<(u64, Vec<u8>)>,
    batch: PacketBatch,
    now: u64,
}

impl Replay {
    fn new(ports: &[u16]) -> Self {
        let targets = [IpAddr::from([10, 255, 255, 1]), IpAddr::from([0xfd02, 0, 0, 0, 0, 0, 0, 1])];
        let transfers = ports.iter().flat_map(|port| {
            let to = |addr: &IpAddr| Endpoint::new(*addr, *port);
            targets.map(|addr| Transfer { online: None, online_port: *port, target: to(&addr) })
        });
        let mapping = MappingOptions {
            transfers: transfers.collect(),
            localhost_v4: Some(LOCALHOST_V4),
            localhost_v6: Some(LOCALHOST_V6),
            ..MappingOptions::default()
        };
        let factory = TransparentFactory { policy: WaitPolicy::Never };
        Self {
            engine: Engine::new(EngineConfig::new(mapping), Box::new(factory), Instant::ZERO),
            servers: HashMap::new(),
            to_servers: VecDeque::new(),
            replies: VecDeque::new(),
            batch: PacketBatch::new(),
            now: 0,
        }
    }

    fn run(&mut self, frames: &[Frame]) {
        let start = frames.iter().map(|f| f.at).min().unwrap_or(0);
        let mut frames: VecDeque<&Frame> = frames.iter().collect();
        loop {
            let queued = [self.to_servers.front(), self.replies.front()];
            let servers = self.servers.values().filter_map(|s| s.scheduled).map(|micros| micros * 1000).min();
            let own = [
                frames.front().map(|f| f.at - start),
                queued.into_iter().flatten().map(|(at, _)| *at).min(),
                self.engine.next_deadline().map(Instant::as_nanos),
            ];
            let Some(next) = own.into_iter().flatten().min() else { return };
            self.now = self.now.max(servers.map_or(next, |at| at.min(next)));
            let now = Instant::from_nanos(self.now);
            self.engine.handle_timeout(now);
            if let Some(frame) = frames.pop_front_if(|f| f.at - start <= self.now) {
                self.engine.handle_frame(frame.link, &frame.bytes, frame.wire_len, frame.at, now);
            }
            while let Some((_, reply)) = self.replies.pop_front_if(|(at, _)| *at <= self.now) {
                self.engine.handle_reply(&reply, reply.len(), now);
            }
            while let Some((_, packet)) = self.to_servers.pop_front_if(|(at, _)| *at <= self.now) {
                self.deliver(&packet);
            }
            let due: Vec<FlowKey> = self
                .servers
                .iter()
                .filter(|(_, s)| s.scheduled.is_some_and(|at| at * 1000 <= self.now))
                .map(|(f, _)| *f)
                .collect();
            due.into_iter().for_each(|flow| self.run_server(flow));
            while self.engine.poll_transmit(&mut self.batch, 64, now) == Limited::Yes {}
            for index in 0..self.batch.len() {
                self.to_servers.push_back((self.now + DELAY, self.batch.packet(index).to_vec()));
            }
            self.batch.clear();
            self.engine.take_route_changes(&mut Vec::new());
            self.engine.counters().check().expect("the counters add up");
        }
    }

    fn deliver(&mut self, packet: &[u8]) {
        let ip = IpPacket::parse(packet, packet.len()).expect("the engine sends IP");
        let tcp = TcpSegment::parse(ip.payload, ip.payload_len).expect("the engine sends TCP");
        let flow = FlowKey {
            client: Endpoint::new(ip.source, tcp.source_port),
            target: Endpoint::new(ip.destination, tcp.destination_port),
        };
        let options =
            ServerOptions { mtu: 1500, receive_buffer: 65_535, nagle: false, timestamps: false, seed: 1 };
        let micros = self.now / 1000;
        let server =
            self.servers.entry(flow).or_insert_with(|| Server::new(flow, ServerKind::Sink, options, micros));
        server.receive(packet, tcp.flags.contains(TcpFlags::SYN), Admission::Granted, micros);
        self.run_server(flow);
    }

    fn run_server(&mut self, flow: FlowKey) {
        let mut packets = Vec::new();
        if let Some(server) = self.servers.get_mut(&flow) {
            server.scheduled = server.run(self.now / 1000, &mut packets);
        }
        self.replies.extend(packets.into_iter().map(|p| (self.now + DELAY, p)));
    }
}

/// The streams that tshark puts together, by the client's endpoint, in the order of their connections.
fn follow(file: &Path, streams: usize, ports: &[u16]) -> BTreeMap<Endpoint, Vec<Vec<u8>>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).arg("-q");
    for stream in 0..streams {
        command.args(["-z", &format!("follow,tcp,raw,{stream}")]);
    }
    let output = command.output().expect("tshark runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut by_client: BTreeMap<Endpoint, Vec<Vec<u8>>> = BTreeMap::new();
    for part in text.split("Follow: tcp,raw").skip(1) {
        let node = |name: &str| {
            let line = part.lines().find_map(|l| l.strip_prefix(name))?;
            let (addr, port) = line.trim().rsplit_once(':')?;
            Some(Endpoint::from(SocketAddr::new(
                addr.trim_matches(['[', ']']).parse().ok()?,
                port.parse().ok()?,
            )))
        };
        let (Some(first), Some(second)) = (node("Node 0:"), node("Node 1:")) else { continue };
        let client_is_first = ports.contains(&second.port);
        let client = if client_is_first { first } else { second };
        let bytes = part.lines().filter(|l| !l.is_empty() && l.trim().bytes().all(|b| b.is_ascii_hexdigit()));
        let bytes = bytes.filter(|l| l.starts_with('\t') != client_is_first);
        let hex: String = bytes.map(str::trim).collect();
        let stream = (0..hex.len() / 2).filter_map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok());
        by_client.entry(client).or_default().push(stream.collect());
    }
    by_client
}

#[test]
fn every_capture_is_delivered_as_tshark_reads_it() {
    let Some(folder) = std::env::var_os("TCPCOPY_CORPUS") else {
        return println!("skipped: TCPCOPY_CORPUS names no folder of captures");
    };
    if Command::new("tshark").arg("-v").output().is_err() {
        assert!(std::env::var_os("TCPCOPY_REQUIRE_LAB").is_none(), "tshark is not installed");
        return println!("skipped: tshark is not installed");
    }
    let folder = Path::new(&folder);
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).expect("the corpus has a manifest");
    let column = |name: &str| manifest.lines().next()?.split('\t').position(|c| c == name);
    let (sessions, ports) = (column("sessions").expect("sessions"), column("server_ports").expect("ports"));
    let (mut equal, mut explained, mut wrong) = (0, 0, Vec::new());
    for line in manifest.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let path = folder.join(fields[0]);
        let Ok(file) = std::fs::read(&path) else { continue };
        let ports: Vec<u16> =
            fields[ports].split(',').filter_map(|p| p.split('x').next()?.parse().ok()).collect();
        let frames = captures::read(&file).unwrap_or_default();
        let mut replay = Replay::new(&ports);
        replay.run(&frames);
        let counters = *replay.engine.counters();
        for (client, streams) in follow(&path, fields[sessions].parse().unwrap_or(1), &ports) {
            let mut read: Vec<(u64, Vec<u8>)> = Vec::new();
            for server in replay.servers.values().filter(|s| plays(s.flow.client, client)) {
                read.extend(server.connections.iter().map(|c| (c.opened_at, c.read.clone())));
            }
            read.sort_by_key(|(at, _)| *at);
            let read: Vec<u8> = read.into_iter().flat_map(|(_, bytes)| bytes).collect();
            let wanted = streams.concat();
            if read == wanted {
                equal += 1;
            } else if counters.requests_given_up.total() > 0
                || UNREADABLE.iter().any(|what| line.contains(what))
            {
                explained += 1;
                println!(
                    "{}: {client}: {} of {} bytes; given up {:?}",
                    fields[0],
                    read.len(),
                    wanted.len(),
                    counters.requests_given_up.iter().collect::<Vec<_>>()
                );
            } else {
                wrong.push(format!(
                    "{}: {client}: {} bytes delivered of {}",
                    fields[0],
                    read.len(),
                    wanted.len()
                ));
            }
        }
    }
    println!("{equal} streams equal, {explained} with a reason");
    assert!(wrong.is_empty(), "{} streams differ without a reason:\n{}", wrong.len(), wrong.join("\n"));
    assert!(equal > 0, "nothing was compared");
}
