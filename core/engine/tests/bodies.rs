//! A protocol that asks for bodies gets the target's response: every byte once and in order, whatever way the replies came.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use tcpcopy_engine::batch::PacketBatch;
use tcpcopy_engine::counters::EndReason;
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::mapping::{MappingOptions, Transfer};
use tcpcopy_engine::protocol::{
    Bodies, ClientEnd, Exchange, Origin, Protocol, ProtocolFactory, ResponseBytes,
};
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::stream::SegmentInfo;
use tcpcopy_engine::tcp::sender::Boundary;
use tcpcopy_engine::time::Instant;
use tcpcopy_engine::wire::link::LinkType;
use tcpcopy_engine::wire::packet::{self, OutgoingSegment};
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpOptions};
use tcpcopy_engine::{Engine, EngineConfig, RouteChange};

type Heard = Arc<Mutex<Vec<u8>>>;

#[derive(Debug)]
struct Listener(Heard);

impl Protocol for Listener {
    fn bodies(&self) -> Bodies {
        Bodies::Needed
    }

    fn on_request(&mut self, len: usize, _: SegmentInfo, exchange: &mut Exchange<'_>) {
        exchange.begin_request(exchange.captured_end() - len as u64);
        exchange.forward(len, Boundary::Pushed);
    }

    fn on_response(&mut self, response: ResponseBytes<'_>, exchange: &mut Exchange<'_>) {
        assert_eq!(response.len as usize, response.body.len());
        exchange.answered();
        self.0.lock().unwrap().extend_from_slice(response.body);
    }

    fn on_gap(&mut self, reason: EndReason, exchange: &mut Exchange<'_>) {
        exchange.give_up_last_request(reason);
    }

    fn on_connection_lost(&mut self, _: &mut Exchange<'_>) {}

    fn on_close(&mut self, end: ClientEnd, _: SegmentInfo, exchange: &mut Exchange<'_>) {
        exchange.close(end);
    }

    fn on_timer(&mut self, _: &mut Exchange<'_>) {}
}

struct Factory(Heard);

impl ProtocolFactory for Factory {
    fn create(&mut self, _: Origin) -> Box<dyn Protocol> {
        Box::new(Listener(Arc::clone(&self.0)))
    }
}

fn endpoint(last: u8, port: u16) -> Endpoint {
    Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port)
}

/// A packet from the first to the second endpoint.
fn packet_of(flow: FlowKey, seq: u32, ack: Option<u32>, flags: TcpFlags, payload: &[u8]) -> Vec<u8> {
    let segment = OutgoingSegment {
        flow,
        seq: SeqNumber(seq),
        ack: ack.map(SeqNumber),
        flags,
        window: 60_000,
        options: TcpOptions { mss: flags.contains(TcpFlags::SYN).then_some(1460), ..TcpOptions::default() },
        hop_limit: 64,
        traffic_class: 0,
        identification: 1,
    };
    let mut bytes = Vec::new();
    packet::write(&mut bytes, &segment, [payload, &[]]);
    bytes
}

#[test]
fn bodies_are_told_once_and_in_order() {
    let (client, online, target) = (endpoint(1, 4000), endpoint(2, 80), endpoint(3, 8080));
    let mapping = MappingOptions {
        transfers: vec![Transfer { online: None, online_port: 80, target }],
        ..MappingOptions::default()
    };
    let heard = Heard::default();
    let now = Instant::from_millis(1);
    let mut engine = Engine::new(EngineConfig::new(mapping), Box::new(Factory(Arc::clone(&heard))), now);
    let captured = FlowKey { client, target: online };
    let back = FlowKey { client: target, target: client };
    let mut batch = PacketBatch::new();
    let mut capture = |engine: &mut Engine, seq, ack, flags, payload: &[u8]| {
        let bytes = packet_of(captured, seq, ack, flags, payload);
        engine.handle_frame(LinkType::Raw, &bytes, bytes.len(), 1, now);
        engine.poll_transmit(&mut batch, 64, now);
    };
    let reply = |engine: &mut Engine, seq, ack, flags, payload: &[u8]| {
        let bytes = packet_of(back, seq, Some(ack), flags, payload);
        engine.handle_reply(&bytes, bytes.len(), now);
        engine.poll_transmit(&mut PacketBatch::new(), 64, now);
    };

    capture(&mut engine, 99, None, TcpFlags::SYN, b"");
    let mut routes = Vec::new();
    engine.take_route_changes(&mut routes);
    assert!(matches!(routes[..], [RouteChange::Add { body_limit: u32::MAX, .. }]), "{routes:?}");
    reply(&mut engine, 499, 100, TcpFlags::SYN, b"");
    capture(&mut engine, 100, Some(7000), TcpFlags::PSH, b"GET");
    reply(&mut engine, 505, 103, TcpFlags::NONE, b"wor");
    assert!(heard.lock().unwrap().is_empty(), "what comes early waits");
    reply(&mut engine, 500, 103, TcpFlags::NONE, b"hell");
    reply(&mut engine, 500, 103, TcpFlags::NONE, b"hellowor");
    reply(&mut engine, 505, 103, TcpFlags::NONE, b"wor");
    reply(&mut engine, 507, 103, TcpFlags::PSH, b"rld!");
    assert_eq!(String::from_utf8_lossy(&heard.lock().unwrap()), "helloworld!");
    let counters = engine.counters();
    assert_eq!((counters.requests_answered, counters.response_bytes), (1, 11));
    counters.check().unwrap();
}
