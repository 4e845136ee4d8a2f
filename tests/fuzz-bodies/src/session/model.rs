//! The world around the engine, and what must hold in it.

use super::event::{Event, Segment, Setup, control_bits, distance, payload_len};
use crate::options::checksum_over;
use crate::wire::LINK_TYPES;
use std::collections::HashMap;
use std::net::IpAddr;
use tcpcopy_engine::batch::PacketBatch;
use tcpcopy_engine::config::{MidStreamPolicy, Pace};
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::mapping::{ClientPool, MappingOptions, Transfer};
use tcpcopy_engine::protocol::TransparentFactory;
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::tcp::connection::Limited;
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::link::LinkType;
use tcpcopy_engine::wire::packet::{OutgoingSegment, write};
use tcpcopy_engine::wire::tcp::{SackBlocks, TcpFlags, TcpOptions, TcpSegment, Timestamps};
use tcpcopy_engine::{Engine, EngineConfig, RouteChange};

const EPOCH: u64 = 1_700_000_000_000_000_000;
const CLIENTS: usize = 4;
/// Flows that replies can still come for: the last ones that routes were wanted for.
const FLOWS_REMEMBERED: usize = 16;
/// Timers that fire and calls for packets at one moment at most.
const MOST_AT_ONCE: usize = 10_000;
/// Memory beyond the limit that events may take before the next captured packet sheds sessions.
const MEMORY_SLACK: u64 = 512 << 10;
/// What the protocol above may be sure of after everything has ended.
const LONGEST_END: Duration = Duration::from_secs(3 * 3600);

/// A client's connection as far as it has sent.
struct Client {
    endpoint: Endpoint,
    isn: u32,
    next: u32,
    ack: u32,
}

/// A connection to a target, as the target sees it.
struct Flow {
    key: FlowKey,
    /// Number of the client's first SYN.
    iss: Option<u32>,
    /// One past the last number seen from us.
    end: u32,
    /// The target's own numbers.
    isn: u32,
    next: u32,
    timestamp: u32,
    /// What was sent at each place behind the SYN.
    sent: HashMap<u32, u8>,
}

/// The world.
pub(super) struct World {
    engine: Engine,
    setup: Setup,
    now: Instant,
    clients: Vec<Client>,
    onlines: [Endpoint; 3],
    targets: Vec<Endpoint>,
    pool: Option<ClientPool>,
    mtu: usize,
    memory_limit: u64,
    flows: Vec<Flow>,
    routes: Vec<FlowKey>,
    batch: PacketBatch,
    changes: Vec<RouteChange>,
    packets: u16,
}

fn addr(setup: &Setup, net: u8, host: u8) -> IpAddr {
    if setup.has(Setup::IPV6) {
        IpAddr::from([0xfd00 | u16::from(net), 0, 0, 0, 0, 0, 0, u16::from(host)])
    } else {
        IpAddr::from([10, net, 0, host])
    }
}

impl World {
    pub(super) fn new(setup: &Setup) -> Self {
        let place = |net, host, port| Endpoint::new(addr(setup, net, host), port);
        // The third has no transfer.
        let onlines = [place(1, 1, 80), place(1, 2, 81), place(1, 3, 82)];
        let targets = vec![place(2, 1, 8080), place(2, 2, 81)];
        let transfers = vec![
            Transfer { online: Some(onlines[0].addr), online_port: 80, target: targets[0] },
            Transfer { online: None, online_port: 81, target: targets[1] },
        ];
        let list = if setup.has(Setup::IPV6) { "fd03::1-fd03::3" } else { "10.3.0.1-10.3.0.3" };
        let pool = setup.has(Setup::POOL).then(|| ClientPool::parse(list).expect("the list is right"));
        let mapping = MappingOptions {
            transfers,
            pool: pool.clone(),
            copies: 1 + u16::from(setup.copies % 4),
            factor: u16::from(setup.factor),
            ..MappingOptions::default()
        };
        let mut config = EngineConfig::new(mapping);
        config.mtu = [1500, 9000, 576, 1280][usize::from(setup.limits % 4)];
        config.mss = [1460, 8960, 536, 65_535][usize::from(setup.limits / 4 % 4)];
        config.memory_limit = [1 << 30, 64 << 10, 8 << 10, 1 << 20][usize::from(setup.limits / 16 % 4)];
        config.session_limit = [64 << 20, 16 << 10, 256, 1 << 20][usize::from(setup.limits / 64)];
        config.seed = setup.factor.into();
        if setup.has(Setup::PACED) {
            config.pace = Pace::Fixed(Duration::from_millis(40));
        }
        if setup.has(Setup::WHOLE_ONLY) {
            config.mid_stream = MidStreamPolicy::Ignore;
        }
        let (mtu, memory_limit) = (config.mtu as usize, config.memory_limit);
        let clients = (0..CLIENTS as u32).map(|number| {
            let isn = [1000, u32::MAX - 20, 0x7fff_ffff, 0][number as usize];
            // Two of them share an address.
            let endpoint = place(4, number as u8 / 2, 40_000 + number as u16);
            Client { endpoint, isn, next: isn, ack: 5000 }
        });
        Self {
            engine: Engine::new(config, Box::new(TransparentFactory::default()), Instant::ZERO),
            setup: *setup,
            now: Instant::ZERO,
            clients: clients.collect(),
            onlines,
            targets,
            pool,
            mtu,
            memory_limit,
            flows: Vec::new(),
            routes: Vec::new(),
            batch: PacketBatch::new(),
            changes: Vec::new(),
            packets: 0,
        }
    }

    pub(super) fn happen(&mut self, event: &Event) {
        match event {
            Event::Captured(segment) => self.capture(segment),
            Event::Returned(segment) => self.reply(segment),
            Event::Time(time) => {
                let unit = [100_000, 5_000_000, 200_000_000, 5_000_000_000][usize::from(time % 4)];
                self.pass(self.now + Duration::from_nanos(unit * u64::from(time / 4)));
            }
            Event::Transmit(limit) => {
                self.transmit(usize::from(*limit));
            }
            Event::RouteRefused(which) => {
                if let Some(flow) = pick(&self.routes, *which) {
                    self.engine.handle_route_refused(&flow, self.now);
                }
            }
            Event::PacketTooBig(session, mtu) => {
                self.engine.handle_packet_too_big((session % 16).into(), (*mtu).into(), self.now);
            }
            Event::PathMtu(mtu) => self.engine.set_path_mtu(self.targets[0].addr, (*mtu).into()),
            Event::SendFailures(count) => self.engine.note_send_failures((*count).into()),
            Event::Frame(link, bytes) => {
                let link = LINK_TYPES[usize::from(*link) % LINK_TYPES.len()];
                self.handle_frame(link, bytes, bytes.len());
            }
            Event::Reply(bytes) => self.engine.handle_reply(bytes, bytes.len(), self.now),
        }
        if !self.setup.has(Setup::LAZY) {
            self.flush();
        }
        self.check();
    }

    fn check(&self) {
        let counters = self.engine.counters();
        assert_eq!(counters.check(), Ok(()));
        let most = self.memory_limit + MEMORY_SLACK;
        assert!(counters.memory_bytes <= most, "{} bytes held, {most} are allowed", counters.memory_bytes);
    }

    fn handle_frame(&mut self, link: LinkType, frame: &[u8], wire_len: usize) {
        let captured_at = EPOCH + self.now.as_nanos();
        let before = self.engine.counters().memory_bytes;
        self.engine.handle_frame(link, frame, wire_len, captured_at, self.now);
        // Replies may have taken it over the limit; a captured packet that is taken in sheds, and one that is not adds nothing.
        let (held, limit) = (self.engine.counters().memory_bytes, self.memory_limit);
        assert!(
            held <= limit.max(before),
            "a captured packet takes memory from {before} to {held} bytes of {limit}"
        );
    }

    fn capture(&mut self, segment: &Segment) {
        let client = &mut self.clients[usize::from(segment.who) % CLIENTS];
        let online = self.onlines[usize::from(segment.who >> 2 & 7).saturating_sub(5)];
        let flags = TcpFlags(control_bits(segment.flags));
        let is_syn = flags.contains(TcpFlags::SYN);
        let mut seq = client.next.wrapping_add(distance(segment.seq));
        let len = payload_len(segment.len);
        if is_syn && segment.seq == 0 {
            client.isn = client.isn.wrapping_mul(5).wrapping_add(1000);
            (seq, client.ack) = (client.isn, client.isn ^ 0x5555);
            client.next = client.isn.wrapping_add(1 + len as u32);
        } else if is_syn {
            seq = client.isn;
        } else if segment.seq == 0 {
            client.next = seq.wrapping_add(len as u32 + u32::from(flags.contains(TcpFlags::FIN)));
        }
        client.ack = client.ack.wrapping_add(distance(segment.ack));
        let first = if is_syn { seq.wrapping_add(1) } else { seq };
        // What a client sends at one place is always the same.
        let payload: Vec<u8> =
            (0..len as u32).map(|at| first.wrapping_add(at).wrapping_mul(31) as u8).collect();
        let outgoing = OutgoingSegment {
            flow: FlowKey { client: client.endpoint, target: online },
            seq: SeqNumber(seq),
            ack: flags.contains(TcpFlags::ACK).then_some(SeqNumber(client.ack)),
            flags,
            window: u16::from(segment.window) << 8,
            options: options(segment, seq, self.now, client.ack),
            hop_limit: 60,
            traffic_class: segment.window,
            identification: self.packets,
        };
        self.packets = self.packets.wrapping_add(1);
        let mut packet = Vec::new();
        write(&mut packet, &outgoing, [&payload, &[]]);
        let wire_len = packet.len();
        if segment.who & Segment::FRAGMENTED != 0 && packet[0] >> 4 == 4 && wire_len > 60 {
            for piece in fragments(&packet) {
                self.handle_frame(LinkType::Raw, &piece, piece.len());
            }
            return;
        }
        if segment.who & Segment::CUT != 0 {
            packet.truncate(wire_len - payload.len() / 2);
        }
        self.handle_frame(LinkType::Raw, &packet, wire_len);
    }

    fn reply(&mut self, segment: &Segment) {
        let count = self.flows.len();
        let Some(flow) = self.flows.iter_mut().rev().nth(usize::from(segment.who & 0x1f) % count.max(1))
        else {
            return;
        };
        let flags = TcpFlags(control_bits(segment.flags));
        let is_syn = flags.contains(TcpFlags::SYN);
        let len = payload_len(segment.len);
        let mut seq = flow.next.wrapping_add(distance(segment.seq));
        if is_syn {
            seq = flow.isn.wrapping_add(distance(segment.seq));
            flow.next = seq.wrapping_add(1 + len as u32);
        } else if segment.seq == 0 {
            flow.next = seq.wrapping_add(len as u32 + u32::from(flags.contains(TcpFlags::FIN)));
        }
        let ack = flow.end.wrapping_add(distance(segment.ack));
        let outgoing = OutgoingSegment {
            flow: FlowKey { client: flow.key.target, target: flow.key.client },
            seq: SeqNumber(seq),
            ack: flags.contains(TcpFlags::ACK).then_some(SeqNumber(ack)),
            flags,
            window: u16::from(segment.window) << 8,
            options: options(segment, ack, self.now, flow.timestamp),
            hop_limit: 60,
            traffic_class: 0,
            identification: self.packets,
        };
        self.packets = self.packets.wrapping_add(1);
        let mut packet = Vec::new();
        write(&mut packet, &outgoing, [&vec![b'r'; len], &[]]);
        let wire_len = packet.len();
        if segment.who & Segment::FRAGMENTED != 0 && packet[0] >> 4 == 4 && wire_len > 60 {
            for piece in fragments(&packet) {
                self.engine.handle_reply(&piece, piece.len(), self.now);
            }
            return;
        }
        if !self.setup.has(Setup::BODIES) {
            packet.truncate(wire_len - len);
        }
        self.engine.handle_reply(&packet, wire_len, self.now);
    }

    /// Time passes until `until`, with a stop at each deadline.
    fn pass(&mut self, until: Instant) {
        let mut at_once = 0;
        while let Some(deadline) = self.engine.next_deadline().filter(|at| *at <= until) {
            at_once = if deadline > self.now { 0 } else { at_once + 1 };
            assert!(at_once < MOST_AT_ONCE, "timers never settle at {:?}", self.now);
            self.now = self.now.max(deadline);
            self.engine.handle_timeout(self.now);
            self.flush();
        }
        self.now = self.now.max(until);
        self.engine.handle_timeout(self.now);
    }

    fn flush(&mut self) {
        for _ in 0..MOST_AT_ONCE {
            if self.transmit(64) == Limited::No {
                return;
            }
        }
        panic!("packets without end at {:?}", self.now);
    }

    fn transmit(&mut self, limit: usize) -> Limited {
        self.take_routes();
        let limited = self.engine.poll_transmit(&mut self.batch, limit, self.now);
        let batch = std::mem::take(&mut self.batch);
        for (index, packet) in batch.packets().iter().enumerate() {
            self.check_packet(batch.packet(index), packet.target);
        }
        self.batch = batch;
        self.batch.clear();
        self.take_routes();
        limited
    }

    fn take_routes(&mut self) {
        self.engine.take_route_changes(&mut self.changes);
        for change in std::mem::take(&mut self.changes) {
            match change {
                RouteChange::Add { flow, .. } => {
                    assert!(!self.routes.contains(&flow), "{flow} is routed already");
                    self.routes.push(flow);
                    self.remember(flow);
                }
                RouteChange::Remove { flow } => {
                    let at = self.routes.iter().position(|known| *known == flow);
                    self.routes.swap_remove(at.expect("a route that is removed was added"));
                }
            }
        }
        let wanted = self.engine.routes().count();
        assert_eq!(wanted, self.routes.len(), "routes wanted and routes asked for");
    }

    fn remember(&mut self, key: FlowKey) {
        self.flows.retain(|flow| flow.key != key);
        if self.flows.len() >= FLOWS_REMEMBERED {
            self.flows.remove(0);
        }
        let isn = u32::from(key.client.port).wrapping_mul(0x9e37_79b9);
        self.flows.push(Flow { key, iss: None, end: 0, isn, next: isn, timestamp: 0, sent: HashMap::new() });
    }

    fn check_packet(&mut self, bytes: &[u8], target: Endpoint) {
        let ip = IpPacket::parse(bytes, bytes.len()).expect("what is sent is an IP packet");
        let tcp = TcpSegment::parse(ip.payload, ip.payload_len).expect("what is sent is a TCP segment");
        assert_eq!(ip.header_len + ip.payload_len, bytes.len());
        assert_eq!(checksum_over(&ip), 0, "the checksum of {tcp:?}");
        let to = Endpoint::new(ip.destination, tcp.destination_port);
        assert_eq!(to, target);
        assert!(self.targets.contains(&to), "{to} is no target");
        let from = Endpoint::new(ip.source, tcp.source_port);
        let plays_client = match &self.pool {
            Some(pool) => pool.contains(from.addr),
            None => !self.targets.iter().chain(&self.onlines).any(|other| other.addr == from.addr),
        };
        assert!(plays_client && from.port != 0, "{from} plays no client");
        assert!(bytes.len() <= self.mtu, "a packet of {} bytes, the MTU is {}", bytes.len(), self.mtu);

        let key = FlowKey { client: from, target: to };
        assert!(self.routes.contains(&key), "{key} has no route");
        let Some(flow) = self.flows.iter_mut().find(|flow| flow.key == key) else { return };
        let is_syn = tcp.flags.contains(TcpFlags::SYN);
        if is_syn {
            assert!(
                flow.iss.is_none_or(|iss| iss == tcp.seq.0),
                "{key} has another first number than before"
            );
            flow.iss = Some(tcp.seq.0);
        }
        let Some(iss) = flow.iss else { panic!("{key} begins without a SYN: {tcp:?}") };
        flow.timestamp = tcp.options.timestamps.map_or(flow.timestamp, |t| t.value);
        let first = tcp.seq.0.wrapping_sub(iss).wrapping_add(u32::from(is_syn));
        if tcp.flags.contains(TcpFlags::RST) {
            // It has the number that the target acknowledged (RFC 9293, section 3.10.7.3), whatever that was.
            assert!(tcp.payload.is_empty(), "{key} resets with a payload");
            return;
        }
        assert!(first < 1 << 31, "{key} sends from before its first number {iss}: {tcp:?}");
        for (at, byte) in (first..).zip(tcp.payload) {
            let before = *flow.sent.entry(at).or_insert(*byte);
            assert_eq!(before, *byte, "{key} says two things at place {at}");
        }
        let fin = u32::from(tcp.flags.contains(TcpFlags::FIN));
        let end = tcp.seq.0.wrapping_add(tcp.payload.len() as u32 + u32::from(is_syn) + fin);
        if is_syn || SeqNumber(end).is_after(SeqNumber(flow.end)) {
            flow.end = end;
        }
    }

    /// Everything ends, and nothing may be left.
    pub(super) fn end(mut self) {
        self.engine.shut_down(self.now);
        self.flush();
        self.check();
        self.pass(self.now + LONGEST_END);
        self.flush();
        self.check();
        let counters = self.engine.counters();
        let left = [
            ("sessions", counters.sessions_live),
            ("requests waiting", counters.requests_waiting),
            ("bytes of memory", counters.memory_bytes),
            ("flows", self.engine.routes().count() as u64),
            ("routes", self.routes.len() as u64),
            ("deadlines", u64::from(self.engine.next_deadline().is_some())),
            ("transmissions", u64::from(!self.engine.is_idle())),
        ];
        for (what, number) in left {
            assert_eq!(number, 0, "{what} are left at the end");
        }
    }
}

fn pick<T: Copy>(from: &[T], which: u8) -> Option<T> {
    from.get(usize::from(which).checked_rem(from.len())?).copied()
}

/// The options that a segment's byte stands for.
fn options(segment: &Segment, number: u32, now: Instant, echo: u32) -> TcpOptions {
    let has = |flag: u8| segment.options & flag != 0;
    let clock = now.as_millis() as u32;
    let mut sack = SackBlocks::new();
    if has(Segment::SACK) {
        sack.push(SeqNumber(number) - 100, SeqNumber(number) - 10);
        sack.push(SeqNumber(number) + 10, SeqNumber(number) - 50);
    }
    TcpOptions {
        mss: has(Segment::MSS).then_some(if has(Segment::EXTREME) { 1 } else { 1400 }),
        window_scale: has(Segment::WINDOW_SCALE).then_some(if has(Segment::EXTREME) { 14 } else { 7 }),
        sack_permitted: has(Segment::SACK_PERMITTED),
        timestamps: has(Segment::TIMESTAMPS).then_some(Timestamps {
            value: if has(Segment::OLD_TIMESTAMP) { clock.wrapping_sub(1 << 30) } else { clock },
            echo,
        }),
        sack,
        ..TcpOptions::default()
    }
}

/// An IPv4 packet in two pieces.
fn fragments(packet: &[u8]) -> [Vec<u8>; 2] {
    let (header, payload) = packet.split_at(20);
    let (first, second) = payload.split_at(payload.len() / 16 * 8);
    let piece = |payload: &[u8], place: u16| {
        let mut piece = [header, payload].concat();
        piece[2..4].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
        piece[6..8].copy_from_slice(&place.to_be_bytes());
        piece
    };
    [piece(first, 0x2000), piece(second, first.len() as u16 / 8)]
}
