//! The wall clock, which frames are stamped with, may be set while a replay runs: sessions must not notice.

use std::net::{IpAddr, Ipv4Addr};
use tcpcopy_engine::batch::PacketBatch;
use tcpcopy_engine::counters::Counters;
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::mapping::{MappingOptions, Transfer};
use tcpcopy_engine::protocol::{TransparentFactory, WaitPolicy};
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::time::Instant;
use tcpcopy_engine::wire::link::LinkType;
use tcpcopy_engine::wire::packet::{self, OutgoingSegment};
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpOptions};
use tcpcopy_engine::{Engine, EngineConfig};

const HOUR: u64 = 3_600_000_000_000;
const NOW: u64 = 1_700_000_000_000_000_000;

fn endpoint(last: u8, port: u16) -> Endpoint {
    Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port)
}

fn segment(
    from: Endpoint,
    to: Endpoint,
    seq: u32,
    ack: Option<u32>,
    flags: TcpFlags,
    data: &[u8],
) -> Vec<u8> {
    let segment = OutgoingSegment {
        flow: FlowKey { client: from, target: to },
        seq: SeqNumber(seq),
        ack: ack.map(SeqNumber),
        flags,
        window: 60_000,
        options: TcpOptions::default(),
        hop_limit: 64,
        traffic_class: 0,
        identification: 1,
    };
    let mut bytes = Vec::new();
    packet::write(&mut bytes, &segment, [data, &[]]);
    bytes
}

/// Replays a connection of five requests, the next stamp for each captured frame. Returns what was sent and counted.
fn replay(stamps: [u64; 7]) -> (Vec<u8>, Counters) {
    let (client, online, target) = (endpoint(1, 4000), endpoint(2, 80), endpoint(3, 80));
    // Steps so short that the client counts as near: nothing is paced.
    let moment = |step: u64| Instant::from_nanos(step * 100_000);
    let start = moment(1_000);
    let transfers = vec![Transfer { online: None, online_port: 80, target }];
    let mapping = MappingOptions { transfers, ..MappingOptions::default() };
    let factory = TransparentFactory { policy: WaitPolicy::LikeClient };
    let mut engine = Engine::new(EngineConfig::new(mapping), Box::new(factory), start);
    let mut sent = Vec::new();
    let mut now = 1_000;
    let mut stamps = stamps.into_iter();
    let mut capture = |engine: &mut Engine, frame: &[u8], sent: &mut Vec<u8>| {
        now += 1;
        let at = moment(now);
        let stamp = stamps.next().expect("a stamp for each frame");
        engine.handle_frame(LinkType::Raw, frame, frame.len(), stamp, at);
        engine.handle_timeout(at);
        let mut batch = PacketBatch::new();
        engine.poll_transmit(&mut batch, 64, at);
        sent.extend_from_slice(batch.bytes());
        at
    };
    capture(&mut engine, &segment(client, online, 100, None, TcpFlags::SYN, b""), &mut sent);
    let at = capture(&mut engine, &segment(client, online, 101, Some(501), TcpFlags::ACK, b""), &mut sent);
    let shake = segment(target, client, 900, Some(101), TcpFlags::SYN, b"");
    engine.handle_reply(&shake, shake.len(), at);
    for n in 0..5 {
        let flags = TcpFlags::ACK | TcpFlags::PSH;
        let request = segment(client, online, 101 + 4 * n, Some(501 + 6 * n), flags, b"ask\n");
        let at = capture(&mut engine, &request, &mut sent);
        let answer = segment(target, client, 901 + 6 * n, Some(105 + 4 * n), flags, b"reply\n");
        engine.handle_reply(&answer, answer.len(), at);
    }
    (sent, *engine.counters())
}

#[test]
fn a_clock_that_is_set_changes_nothing() {
    let (sent, counters) = replay([NOW; 7]);
    assert_eq!(counters.requests_acknowledged, 5, "{counters:?}");
    for stamps in [
        [NOW, NOW, NOW + HOUR, NOW + HOUR, NOW, NOW, NOW],
        [NOW, NOW - HOUR, NOW - HOUR, NOW, NOW - HOUR, NOW, NOW],
        [NOW, 0, u64::MAX, NOW, 0, u64::MAX, 1],
    ] {
        assert_eq!(replay(stamps), (sent.clone(), counters), "{stamps:?}");
    }
}
