//! A session with a deep backlog: what a packet costs must not depend on how many requests wait.

#![allow(clippy::disallowed_methods, reason = "a test that measures has a clock")]

use std::net::Ipv4Addr;
use std::time::Instant as Clock;
use tcpcopy_engine::batch::PacketBatch;
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::mapping::{MappingOptions, Transfer};
use tcpcopy_engine::protocol::{TransparentFactory, WaitPolicy};
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::link::LinkType;
use tcpcopy_engine::wire::packet::{self, OutgoingSegment};
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpOptions, TcpSegment};
use tcpcopy_engine::{Engine, EngineConfig};

const REQUESTS: u32 = 100_000;
/// Bytes of each request, and of each response.
const SIZE: u32 = 10;
/// If each packet walked the backlog, this would take minutes; it takes about a second in a debug build.
const ENOUGH: Duration = Duration::from_secs(30);

struct World {
    engine: Engine,
    client: Endpoint,
    online: Endpoint,
    target: Endpoint,
    batch: PacketBatch,
}

impl World {
    fn new(policy: WaitPolicy) -> Self {
        let endpoint = |last, port| Endpoint::new(Ipv4Addr::new(10, 0, 0, last).into(), port);
        let (client, online, target) = (endpoint(1, 4000), endpoint(2, 80), endpoint(3, 80));
        let transfers = vec![Transfer { online: Some(online.addr), online_port: online.port, target }];
        let config = EngineConfig::new(MappingOptions { transfers, ..MappingOptions::default() });
        let engine = Engine::new(config, Box::new(TransparentFactory { policy }), Instant::ZERO);
        Self { engine, client, online, target, batch: PacketBatch::new() }
    }

    fn client(&mut self, flags: TcpFlags, seq: u32, ack: u32, payload: &[u8]) {
        let packet = write(self.client, self.online, flags, seq, ack, payload);
        self.engine.handle_frame(LinkType::Raw, &packet, packet.len(), 0, Instant::ZERO);
    }

    fn target(&mut self, flags: TcpFlags, seq: u32, ack: u32, payload: &[u8]) {
        let packet = write(self.target, self.client, flags, seq, ack, payload);
        self.engine.handle_reply(&packet, packet.len(), Instant::ZERO);
    }

    /// Lets the engine send, and returns how far the request stream got.
    fn sent(&mut self) -> u32 {
        self.batch.clear();
        let _ = self.engine.poll_transmit(&mut self.batch, 64, Instant::ZERO);
        let last = self.batch.len().checked_sub(1).map(|last| self.batch.packet(last));
        last.map_or(0, |packet| {
            let ip = IpPacket::parse(packet, packet.len()).expect("the engine writes what it can read");
            let tcp =
                TcpSegment::parse(ip.payload, ip.payload_len).expect("the engine writes what it can read");
            tcp.seq.0 + tcp.payload_len as u32
        })
    }

    fn connect(&mut self) {
        self.client(TcpFlags::SYN, 0, 0, &[]);
        self.sent();
        self.target(TcpFlags::SYN | TcpFlags::ACK, 0, 1, &[]);
        self.client(TcpFlags::ACK, 1, 1, &[]);
        self.sent();
    }
}

fn write(from: Endpoint, to: Endpoint, flags: TcpFlags, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let segment = OutgoingSegment {
        flow: FlowKey { client: from, target: to },
        seq: SeqNumber(seq),
        ack: flags.contains(TcpFlags::ACK).then_some(SeqNumber(ack)),
        flags,
        window: 65_535,
        options: TcpOptions { mss: flags.contains(TcpFlags::SYN).then_some(1460), ..TcpOptions::default() },
        hop_limit: 64,
        traffic_class: 0,
        identification: 0,
    };
    packet::write(&mut out, &segment, [payload, &[]]);
    out
}

#[test]
fn requests_that_wait_for_responses_cost_nothing_until_it_is_their_turn() {
    let start = Clock::now();
    let mut world = World::new(WaitPolicy::LikeClient);
    world.connect();
    for n in 0..REQUESTS {
        world.client(TcpFlags::ACK | TcpFlags::PSH, 1 + n * SIZE, 1 + n * SIZE, &[b'q'; SIZE as usize]);
        world.sent();
    }
    assert_eq!(world.engine.counters().requests_waiting, u64::from(REQUESTS));
    for n in 0..REQUESTS {
        world.target(TcpFlags::ACK | TcpFlags::PSH, 1 + n * SIZE, 1 + (n + 1) * SIZE, &[b'r'; SIZE as usize]);
        world.sent();
    }
    let counters = world.engine.counters();
    assert_eq!((counters.requests_waiting, counters.requests_acknowledged), (0, u64::from(REQUESTS)));
    assert_eq!(counters.requests_sent, u64::from(REQUESTS));
    assert!(start.elapsed() < ENOUGH, "{:?} for {REQUESTS} requests each way", start.elapsed());
}

#[test]
fn requests_that_wait_for_a_slow_target_cost_nothing_until_it_is_their_turn() {
    let start = Clock::now();
    let mut world = World::new(WaitPolicy::Never);
    world.connect();
    let mut sent = 1;
    for n in 0..REQUESTS {
        world.client(TcpFlags::ACK | TcpFlags::PSH, 1 + n * SIZE, 1 + n * SIZE, &[b'q'; SIZE as usize]);
        sent = sent.max(world.sent());
    }
    while sent < 1 + REQUESTS * SIZE {
        let before = sent;
        world.target(TcpFlags::ACK, 1, sent, &[]);
        sent = sent.max(world.sent());
        assert!(sent > before, "an acknowledgement lets more go");
    }
    world.target(TcpFlags::ACK, 1, sent, &[]);
    let counters = world.engine.counters();
    assert_eq!((counters.requests_waiting, counters.requests_acknowledged), (0, u64::from(REQUESTS)));
    assert!(start.elapsed() < ENOUGH, "{:?} for {REQUESTS} requests each way", start.elapsed());
}
