//! A plugin that asked for them gets the online server's bytes: each once and in order, with gaps told.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::mapping::{MappingOptions, Transfer};
use tcpcopy_engine::plugin::{
    EventBatch, Fault, Group, Input, Inputs, Outcome, PluginRunner, SessionId, Without,
};
use tcpcopy_engine::protocol::{TransparentFactory, WaitPolicy};
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_engine::wire::link::LinkType;
use tcpcopy_engine::wire::packet::{self, OutgoingSegment};
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpOptions};
use tcpcopy_engine::{Engine, EngineConfig};

/// What was heard, session by session; a gap is a `|`.
type Heard = Arc<Mutex<Vec<(SessionId, String)>>>;

struct Listener(Inputs, Heard);

impl PluginRunner for Listener {
    fn inputs(&self) -> Inputs {
        self.0
    }

    fn join(&mut self) -> Result<Group, Without> {
        Ok(Group(0))
    }

    fn leave(&mut self, _: Group) {}

    fn run(&mut self, _: Group, batch: &EventBatch, _: u64, _: &mut Outcome) -> Result<(), Fault> {
        for event in &batch.events {
            if let Input::Reference(span) = event.input {
                let bytes = span.of(&batch.bytes).expect("a span within the batch");
                let text = if bytes.is_empty() { "|".into() } else { String::from_utf8_lossy(bytes) };
                let mut heard = self.1.lock().expect("nobody panicked");
                match heard.iter_mut().find(|(session, _)| *session == event.session) {
                    Some((_, all)) => all.push_str(&text),
                    None => heard.push((event.session, text.into_owned())),
                }
            }
        }
        Ok(())
    }

    fn note_violation(&mut self, session: SessionId, what: &'static str) {
        panic!("session {session}: {what}");
    }
}

struct Play {
    engine: Engine,
    heard: Heard,
    now: Instant,
}

fn endpoint(last: u8, port: u16) -> Endpoint {
    Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port)
}

impl Play {
    fn new(inputs: Inputs, copies: u16) -> Self {
        let mapping = MappingOptions {
            transfers: vec![Transfer { online: None, online_port: 80, target: endpoint(3, 8080) }],
            copies,
            ..MappingOptions::default()
        };
        let now = Instant::from_millis(1);
        let heard = Heard::default();
        let mut engine = Engine::new(EngineConfig::new(mapping), Box::<TransparentFactory>::default(), now);
        engine.add_plugin(Box::new(Listener(inputs, Arc::clone(&heard))), vec![80], WaitPolicy::LikeClient);
        Self { engine, heard, now }
    }

    fn frame(
        &mut self,
        from: Endpoint,
        to: Endpoint,
        numbers: (u32, Option<u32>),
        flags: TcpFlags,
        text: &str,
        kept: usize,
    ) {
        let segment = OutgoingSegment {
            flow: FlowKey { client: from, target: to },
            seq: SeqNumber(numbers.0),
            ack: numbers.1.map(SeqNumber),
            flags,
            window: 60_000,
            options: TcpOptions::default(),
            hop_limit: 64,
            traffic_class: 0,
            identification: 1,
        };
        let mut bytes = Vec::new();
        packet::write(&mut bytes, &segment, [text.as_bytes(), &[]]);
        let captured = &bytes[..bytes.len() - text.len() + kept];
        self.engine.handle_frame(LinkType::Raw, captured, bytes.len(), 1, self.now);
        self.engine.run_plugins(self.now);
    }

    fn client(&mut self, seq: u32, ack: Option<u32>, flags: TcpFlags, text: &str) {
        self.frame(endpoint(1, 4000), endpoint(2, 80), (seq, ack), flags, text, text.len());
    }

    fn online(&mut self, seq: u32, flags: TcpFlags, text: &str) {
        self.frame(endpoint(2, 80), endpoint(1, 4000), (seq, Some(100)), flags, text, text.len());
    }

    fn handshake(&mut self) {
        self.client(99, None, TcpFlags::SYN, "");
        self.online(u32::MAX - 3, TcpFlags::SYN, "");
        self.client(100, Some(u32::MAX - 2), TcpFlags::NONE, "");
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("nobody panicked").iter().map(|(_, text)| text.clone()).collect()
    }
}

/// The first number of the online server's stream: it wraps within the tests.
const FIRST: u32 = u32::MAX - 2;

#[test]
fn each_byte_once_and_in_order() {
    let mut play = Play::new(Inputs::REFERENCES, 1);
    play.handshake();
    play.online(FIRST, TcpFlags::PSH, "hello");
    play.online(FIRST, TcpFlags::PSH, "hello");
    play.online(FIRST.wrapping_add(7), TcpFlags::NONE, "rld");
    assert_eq!(play.heard(), ["hello"], "what comes early waits");
    play.online(FIRST.wrapping_add(3), TcpFlags::NONE, "lowo");
    assert_eq!(play.heard(), ["helloworld"]);
}

#[test]
fn gaps_and_cut_segments_are_told() {
    let mut play = Play::new(Inputs::REFERENCES, 1);
    play.handshake();
    play.online(FIRST, TcpFlags::NONE, "ab");
    play.online(FIRST.wrapping_add(4), TcpFlags::NONE, "ef");
    play.now += Duration::from_secs(4);
    play.online(FIRST.wrapping_add(6), TcpFlags::NONE, "gh");
    assert_eq!(play.heard(), ["ab|efgh"]);
    play.frame(
        endpoint(2, 80),
        endpoint(1, 4000),
        (FIRST.wrapping_add(8), Some(100)),
        TcpFlags::NONE,
        "ijkl",
        2,
    );
    play.online(FIRST.wrapping_add(12), TcpFlags::NONE, "mn");
    let heard = play.heard().remove(0);
    assert!(heard.starts_with("ab|efgh") && heard.ends_with("|mn"), "{heard}");
}

#[test]
fn each_copy_hears_them() {
    let mut play = Play::new(Inputs::REFERENCES, 3);
    play.handshake();
    play.online(FIRST, TcpFlags::PSH, "hello");
    assert_eq!(play.heard(), ["hello"; 3]);
}

#[test]
fn nobody_hears_what_was_not_asked_for() {
    let mut play = Play::new(Inputs::RESPONSES, 1);
    play.handshake();
    play.online(FIRST, TcpFlags::PSH, "hello");
    assert!(play.heard().is_empty());
}

#[test]
fn a_session_joined_hears_what_comes_from_then_on() {
    let mut play = Play::new(Inputs::REFERENCES, 1);
    play.client(500, Some(FIRST), TcpFlags::PSH, "GET");
    play.online(FIRST, TcpFlags::PSH, "hello");
    assert_eq!(
        play.heard().last().map(|text| text.trim_start_matches('|').to_owned()),
        Some("hello".to_owned())
    );
}
