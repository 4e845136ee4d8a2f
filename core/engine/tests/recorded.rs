//! Captures that come from a file: their end, their repetition, and gaps told by the times of capture.

use std::net::Ipv4Addr;
use tcpcopy_engine::batch::PacketBatch;
use tcpcopy_engine::config::CaptureClock;
use tcpcopy_engine::counters::EndReason;
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

const SECOND: u64 = 1_000_000_000;
/// ACK and PSH.
const DATA: TcpFlags = TcpFlags(0x18);

fn client() -> Endpoint {
    Endpoint::new(Ipv4Addr::new(10, 0, 0, 1).into(), 4000)
}

fn online() -> Endpoint {
    Endpoint::new(Ipv4Addr::new(10, 0, 0, 2).into(), 80)
}

fn target() -> Endpoint {
    Endpoint::new(Ipv4Addr::new(10, 0, 0, 3).into(), 80)
}

/// A packet that was sent to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    port: u16,
    flags: TcpFlags,
    seq: u32,
    payload: Vec<u8>,
}

struct World {
    engine: Engine,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let transfers = vec![Transfer { online: None, online_port: 80, target: target() }];
        let mapping = MappingOptions { transfers, ..MappingOptions::default() };
        let config = EngineConfig { capture_clock: CaptureClock::Recorded, ..EngineConfig::new(mapping) };
        let factory = TransparentFactory { policy: WaitPolicy::LikeClient };
        Self { engine: Engine::new(config, Box::new(factory), Instant::ZERO), now: Instant::ZERO }
    }

    fn client(&mut self, at: u64, flags: TcpFlags, seq: u32, ack: u32, payload: &[u8]) {
        let packet = write(client(), online(), flags, seq, ack, payload);
        self.engine.handle_frame(LinkType::Raw, &packet, packet.len(), at, self.now);
    }

    fn target(&mut self, port: u16, flags: TcpFlags, seq: u32, ack: u32, payload: &[u8]) {
        let client = Endpoint::new(client().addr, port);
        let packet = write(target(), client, flags, seq, ack, payload);
        self.engine.handle_reply(&packet, packet.len(), self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.engine.handle_timeout(self.now);
    }

    fn sent(&mut self) -> Vec<Sent> {
        let mut batch = PacketBatch::new();
        let _ = self.engine.poll_transmit(&mut batch, 64, self.now);
        let read = |index| {
            let packet = batch.packet(index);
            let ip = IpPacket::parse(packet, packet.len()).expect("the engine writes what it can read");
            let tcp =
                TcpSegment::parse(ip.payload, ip.payload_len).expect("the engine writes what it can read");
            Sent { port: tcp.source_port, flags: tcp.flags, seq: tcp.seq.0, payload: tcp.payload.to_vec() }
        };
        (0..batch.len()).map(read).collect()
    }

    /// Plays the handshake of the client and of the target, and returns the port and the number of the SYN that the target saw.
    fn connect(&mut self, at: u64) -> (u16, u32) {
        self.client(at, TcpFlags::SYN, 99, 0, &[]);
        self.client(at, TcpFlags::ACK, 100, 500, &[]);
        let sent = self.sent();
        let [syn] = sent.as_slice() else { panic!("{sent:?}") };
        assert_eq!(syn.flags, TcpFlags::SYN);
        self.target(syn.port, TcpFlags::SYN | TcpFlags::ACK, 899, syn.seq.wrapping_add(1), &[]);
        (syn.port, syn.seq)
    }

    fn payloads(&mut self) -> Vec<Vec<u8>> {
        self.sent().into_iter().map(|sent| sent.payload).filter(|payload| !payload.is_empty()).collect()
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
fn packets_of_others_are_told_apart() {
    let world = World::new();
    let concerns = |from, to| {
        let packet = write(from, to, DATA, 1, 1, b"x");
        world.engine.may_concern(LinkType::Raw, &packet, packet.len())
    };
    let elsewhere = Endpoint::new(online().addr, 81);
    assert!(concerns(client(), online()));
    assert!(!concerns(client(), elsewhere));
    // Nothing here looks at what the online server answers.
    assert!(!concerns(online(), client()));
    assert!(!world.engine.may_concern(LinkType::Raw, b"no packet", 9));
}

#[test]
fn missing_bytes_are_waited_for_by_the_capture_s_clock() {
    let mut world = World::new();
    world.connect(0);
    world.client(SECOND, DATA, 103, 500, b"def");
    // A slow replay: the retransmit that was captured a second later is played half a minute later.
    for _ in 0..30 {
        world.wait(Duration::from_secs(1));
    }
    assert!(world.payloads().is_empty());
    world.client(2 * SECOND, DATA, 100, 500, b"abc");
    assert_eq!(world.payloads().concat(), b"abcdef");
    assert_eq!(world.engine.counters().requests_given_up.total(), 0);
}

#[test]
fn missing_bytes_are_given_up_once_the_capture_has_gone_on_without_them() {
    let mut world = World::new();
    world.connect(0);
    world.client(SECOND, DATA, 103, 500, b"def");
    // Another connection shows how far the capture has come.
    let other = write(Endpoint::new(client().addr, 4001), online(), TcpFlags::SYN, 1, 0, &[]);
    world.engine.handle_frame(LinkType::Raw, &other, other.len(), 5 * SECOND, world.now);
    world.sent();
    world.wait(Duration::from_millis(200));
    assert_eq!(world.engine.counters().requests_given_up.get(EndReason::CaptureGap), 1);
}

#[test]
fn clients_without_an_end_close_when_the_capture_does() {
    let mut world = World::new();
    let (port, syn) = world.connect(0);
    world.client(1, DATA, 100, 500, b"ask");
    assert_eq!(world.payloads(), [b"ask"]);
    world.engine.end_capture(world.now);
    assert_eq!(world.engine.finishing_sessions(), 1);
    world.target(port, DATA, 900, syn.wrapping_add(4), b"answer");
    let fins = world.sent().into_iter().filter(|sent| sent.flags.contains(TcpFlags::FIN)).count();
    assert_eq!(fins, 1);
    world.target(port, TcpFlags::FIN | TcpFlags::ACK, 906, syn.wrapping_add(5), &[]);
    world.sent();
    let counters = world.engine.counters();
    assert_eq!((counters.sessions_live, world.engine.finishing_sessions()), (0, 0));
    assert_eq!((counters.requests_acknowledged, counters.requests_given_up.total()), (1, 0));
    assert_eq!(counters.check(), Ok(()));
}

#[test]
fn bytes_that_are_missing_at_the_end_of_the_capture_are_given_up_at_once() {
    let mut world = World::new();
    world.connect(0);
    world.client(1, DATA, 103, 500, b"def");
    world.sent();
    world.engine.end_capture(world.now);
    let counters = world.engine.counters();
    assert_eq!(counters.requests_given_up.get(EndReason::CaptureGap), 1);
    assert_eq!(counters.check(), Ok(()));
}

#[test]
fn the_same_clients_come_again_from_other_ports() {
    let mut world = World::new();
    let (first, _) = world.connect(0);
    world.client(1, DATA, 100, 500, b"ask");
    assert_eq!(world.payloads(), [b"ask"]);
    world.engine.begin_pass(1, world.now);
    world.sent();
    let (second, _) = world.connect(2);
    world.client(3, DATA, 100, 500, b"ask");
    assert_eq!(world.payloads(), [b"ask"]);
    assert_eq!(first, 4000);
    assert_ne!(second, first);
    assert_eq!(world.engine.counters().requests_captured, 2);
    let mut sent = Vec::new();
    world.engine.take_sent_requests(&mut sent);
    assert_eq!(sent, [1, 3]);
}

#[test]
fn connections_that_come_after_the_last_admitted_one_are_left_out() {
    let mut world = World::new();
    world.connect(0);
    world.engine.admit_no_more();
    let other = write(Endpoint::new(client().addr, 4001), online(), TcpFlags::SYN, 1, 0, &[]);
    world.engine.handle_frame(LinkType::Raw, &other, other.len(), 1, world.now);
    assert_eq!(world.engine.counters().connections_seen, 1);
    world.client(1, DATA, 100, 500, b"ask");
    assert_eq!(world.payloads(), [b"ask"]);
    world.engine.begin_pass(1, world.now);
    world.engine.handle_frame(LinkType::Raw, &other, other.len(), 2, world.now);
    assert_eq!(world.engine.counters().connections_seen, 2);
}
