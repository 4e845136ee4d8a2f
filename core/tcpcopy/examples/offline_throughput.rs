//! How fast captures are read, and what the work of sessions costs: packets a second, on one core and with nothing sent.
//!
//!     cargo run --release -p tcpcopy --example offline_throughput -- FILE PORT
//!
//! Three runs: reading alone; with sessions whose packets go into a null sink, so that no handshake ever completes; and with
//! sessions whose target is played here, so that every request is sent, acknowledged and answered with eight bytes.
#![allow(missing_docs)]

use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Instant as Clock;
use tcpcopy::offline::{Boundary, Feed};
use tcpcopy::settings::{Offline, Tempo, Window};
use tcpcopy_capture_file::{AtEnd, Captures, Input, Step};
use tcpcopy_engine::batch::PacketBatch;
use tcpcopy_engine::config::CaptureClock;
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::mapping::{MappingOptions, Transfer};
use tcpcopy_engine::protocol::{TransparentFactory, WaitPolicy};
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::packet::{self, OutgoingSegment};
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpOptions, TcpSegment};
use tcpcopy_engine::{Engine, EngineConfig};
use tcpcopy_net::clock;

const ANSWER: &[u8; 8] = b"answered";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = PathBuf::from(arguments.next().context("the first argument is a capture file")?);
    let port = arguments.next().context("the second is the servers' port")?.parse()?;
    let bytes = std::fs::metadata(&file)?.len();
    let (frames, seconds) = read(&file)?;
    line("reading", frames, seconds, bytes);
    let (frames, seconds) = sessions(&file, port, Sink::Null)?;
    line("sessions, null sink", frames, seconds, bytes);
    let (frames, seconds) = sessions(&file, port, Sink::Target)?;
    line("sessions, played target", frames, seconds, bytes);
    Ok(())
}

fn line(what: &str, frames: u64, seconds: f64, bytes: u64) {
    let (packets, megabytes) = (frames as f64 / seconds / 1e6, bytes as f64 / seconds / 1e6);
    println!("{what:<24} {packets:>7.2} Mpackets/s {megabytes:>8.0} MB/s");
}

fn read(file: &std::path::Path) -> Result<(u64, f64)> {
    let start = Clock::now();
    let mut captures = Captures::open(&[Input::File(file.to_owned())], AtEnd::Stop)?;
    let (mut frames, mut sum) = (0, 0_u64);
    while let Step::Frame(frame) = captures.next()? {
        frames += 1;
        sum = sum.wrapping_add(u64::from(frame.data.first().copied().unwrap_or(0)));
    }
    std::hint::black_box(sum);
    Ok((frames, start.elapsed().as_secs_f64()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    Null,
    Target,
}

fn sessions(file: &std::path::Path, port: u16, sink: Sink) -> Result<(u64, f64)> {
    let target = Endpoint::new(Ipv4Addr::new(198, 51, 100, 1).into(), port);
    let mapping = MappingOptions {
        transfers: vec![Transfer { online: None, online_port: port, target }],
        ..MappingOptions::default()
    };
    let config = EngineConfig {
        capture_clock: CaptureClock::Recorded,
        memory_limit: u64::MAX / 2,
        ..EngineConfig::new(mapping)
    };
    let factory = TransparentFactory { policy: WaitPolicy::LikeClient };
    let mut engine = Engine::new(config, Box::new(factory), clock::monotonic());
    let offline = Offline {
        inputs: vec![Input::File(file.to_owned())],
        at_end: AtEnd::Stop,
        // Nothing is held back for a sink that never answers.
        tempo: match sink {
            Sink::Null => Tempo::Captured { speed: 1e9, idle_cap: None },
            Sink::Target => Tempo::Unpaced,
        },
        passes: NonZeroU32::MIN,
        window: Window::default(),
        limit: None,
        allow_loss: None,
    };
    let memory = if sink == Sink::Null { u64::MAX } else { 1 << 30 };
    let start = Clock::now();
    let mut feed = Feed::start(&offline, None, memory)?;
    let mut played = Target::default();
    let mut batch = PacketBatch::new();
    let mut routes = Vec::new();
    loop {
        let now = clock::monotonic();
        let fed = feed.feed(&mut engine, 512, now);
        if fed.boundary == Some(Boundary::End) {
            engine.end_capture(now);
        }
        if engine.next_deadline().is_some_and(|at| at <= now) {
            engine.handle_timeout(now);
        }
        engine.take_route_changes(&mut routes);
        routes.clear();
        batch.clear();
        let _ = engine.poll_transmit(&mut batch, 512, now);
        feed.note_sent(&mut engine, now);
        if sink == Sink::Target {
            played.answer(&batch, |reply| engine.handle_reply(reply, reply.len(), now));
        }
        let is_done = match sink {
            Sink::Null => feed.has_ended(),
            Sink::Target => feed.has_ended() && engine.counters().sessions_live == 0,
        };
        if is_done {
            break;
        }
        if fed.frames == 0 && batch.is_empty() {
            std::thread::yield_now();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let counters = engine.counters();
    ensure!(counters.connections_seen > 0, "no connection in the capture is to port {port}");
    if sink == Sink::Target {
        let (acknowledged, captured) = (counters.requests_acknowledged, counters.requests_captured);
        ensure!(acknowledged == captured, "{acknowledged} of {captured} requests were acknowledged");
    }
    Ok((feed.status().frames, seconds))
}

/// A target that answers at once.
#[derive(Default)]
struct Target {
    /// What it expects next of each client, and what it sends next.
    connections: HashMap<Endpoint, (u32, u32)>,
    reply: Vec<u8>,
}

impl Target {
    fn answer(&mut self, batch: &PacketBatch, mut give: impl FnMut(&[u8])) {
        for index in 0..batch.len() {
            let packet = batch.packet(index);
            let Ok(ip) = IpPacket::parse(packet, packet.len()) else { continue };
            let Ok(tcp) = TcpSegment::parse(ip.payload, ip.payload_len) else { continue };
            let client = Endpoint::new(ip.source, tcp.source_port);
            let online = Endpoint::new(ip.destination, tcp.destination_port);
            let flow = FlowKey { client: online, target: client };
            let is_end = tcp.flags.contains(TcpFlags::FIN);
            if tcp.flags.contains(TcpFlags::RST) {
                self.connections.remove(&client);
                continue;
            }
            let mut payload: &[u8] = &[];
            let mut flags = TcpFlags::ACK;
            let mut sequence = 0;
            if tcp.flags.contains(TcpFlags::SYN) {
                self.connections.insert(client, (tcp.seq.0.wrapping_add(1), 1));
                flags = TcpFlags::SYN | TcpFlags::ACK;
            } else if let Some((expected, next)) = self.connections.get_mut(&client) {
                if tcp.payload_len == 0 && !is_end {
                    continue;
                }
                sequence = *next;
                let end = tcp.seq.0.wrapping_add(tcp.payload_len as u32 + u32::from(is_end));
                if end != *expected && tcp.seq.0 == *expected {
                    *expected = end;
                    if tcp.payload_len > 0 {
                        payload = ANSWER;
                        flags = flags | TcpFlags::PSH;
                        *next = next.wrapping_add(ANSWER.len() as u32);
                    }
                    if is_end {
                        flags = flags | TcpFlags::FIN;
                        *next = next.wrapping_add(1);
                    }
                }
            } else {
                continue;
            }
            let acknowledged = self.connections.get(&client).map_or(0, |(expected, _)| *expected);
            self.reply.clear();
            let segment = OutgoingSegment {
                flow,
                seq: SeqNumber(sequence),
                ack: Some(SeqNumber(acknowledged)),
                flags,
                window: 65_535,
                options: TcpOptions::default(),
                hop_limit: 64,
                traffic_class: 0,
                identification: 0,
            };
            packet::write(&mut self.reply, &segment, [payload, &[]]);
            give(&self.reply);
        }
    }
}
