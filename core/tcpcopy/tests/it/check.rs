//! `tcpcopy plugin check`, with plugins that are made up, over capture files that are made up.

use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use tcpcopy::check::show::{Subject, json, text};
use tcpcopy::check::{Findings, check};
use tcpcopy::report::ModuleStatus;
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::plugin::{
    Action, AfterFault, EventBatch, Fault, Group, Input, Inputs, Outcome, Output, PluginRunner, Reply,
    SessionId, Span, Without,
};
use tcpcopy_engine::protocol::Origin;
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::wire::packet::{self, OutgoingSegment};
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpOptions};

const CLIENT: Endpoint = Endpoint::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 40_000);
const ONLINE: Endpoint = Endpoint::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 7777);
const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const FIN: TcpFlags = TcpFlags::FIN;
const RST: TcpFlags = TcpFlags::RST;

/// A capture file under construction, of one connection after the other.
struct File {
    bytes: Vec<u8>,
    micros: u32,
    client: Endpoint,
    /// Next sequence number of the client and of the server.
    next: [u32; 2],
}

impl File {
    fn new() -> Self {
        let mut bytes = Vec::new();
        bytes.extend(0xa1b2_c3d4u32.to_le_bytes());
        bytes.extend([2, 0, 4, 0]);
        bytes.extend([0; 8]);
        bytes.extend(65_535u32.to_le_bytes());
        bytes.extend(101u32.to_le_bytes());
        // Sequence numbers wrap within the first bytes.
        Self { bytes, micros: 0, client: CLIENT, next: [u32::MAX - 3, 77] }
    }

    fn packet(&mut self, from_client: bool, seq: u32, flags: TcpFlags, payload: &[u8]) {
        let (client, target) = if from_client { (self.client, ONLINE) } else { (ONLINE, self.client) };
        let ack = SeqNumber(self.next[usize::from(from_client)]);
        let segment = OutgoingSegment {
            flow: FlowKey { client, target },
            seq: SeqNumber(seq),
            ack: flags.contains(ACK).then_some(ack),
            flags,
            window: 1000,
            options: TcpOptions::default(),
            hop_limit: 64,
            traffic_class: 0,
            identification: 1,
        };
        let mut packet = Vec::new();
        packet::write(&mut packet, &segment, [payload, &[]]);
        self.micros += 100;
        for number in [1_700_000_000, self.micros, packet.len() as u32, packet.len() as u32] {
            self.bytes.extend(number.to_le_bytes());
        }
        self.bytes.extend(packet);
    }

    fn send(&mut self, from_client: bool, flags: TcpFlags, payload: &[u8]) -> &mut Self {
        let side = usize::from(!from_client);
        let seq = self.next[side];
        let taken = payload.len() as u32 + u32::from(flags.intersects(SYN.with(FIN)));
        self.next[side] = seq.wrapping_add(taken);
        self.packet(from_client, seq, flags, payload);
        self
    }

    fn connect(&mut self, port: u16) -> &mut Self {
        self.client.port = port;
        self.send(true, SYN, b"").send(false, SYN.with(ACK), b"").send(true, ACK, b"")
    }

    fn client(&mut self, payload: &[u8]) -> &mut Self {
        self.send(true, ACK, payload)
    }

    fn server(&mut self, payload: &[u8]) -> &mut Self {
        self.send(false, ACK, payload)
    }

    /// Bytes of the client that the server got and the capture did not.
    fn lose(&mut self, count: u32) -> &mut Self {
        self.next[0] = self.next[0].wrapping_add(count);
        self
    }

    fn close(&mut self) -> &mut Self {
        self.send(true, FIN.with(ACK), b"").send(false, FIN.with(ACK), b"").send(true, ACK, b"")
    }

    fn write(&self) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tcpcopy-check-{}-{number}.pcap", std::process::id()));
        std::fs::write(&path, &self.bytes).unwrap();
        path
    }
}

/// A protocol of lines, each answered by a line. A request tells the plugin what to do wrong.
#[derive(Default)]
struct Lines {
    inputs: Inputs,
    undecided: std::collections::HashMap<SessionId, Vec<u8>>,
    sessions: u32,
    ended: u32,
}

impl Lines {
    fn new(inputs: Inputs) -> Box<Self> {
        Box::new(Self { inputs, ..Self::default() })
    }

    fn line(session: SessionId, line: &[u8], outcome: &mut Outcome) {
        let length = line.len() as u32;
        let mut span = |bytes: &[u8]| {
            outcome.bytes.extend(bytes);
            Span { start: (outcome.bytes.len() - bytes.len()) as u32, length: bytes.len() as u32 }
        };
        let outputs = match line {
            b"skip\n" => vec![Output::Discard(length), Output::EndRequest(Reply::NotExpected)],
            b"change\n" => {
                vec![
                    Output::Discard(length),
                    Output::Send(span(b"changed\n")),
                    Output::EndRequest(Reply::Expected),
                ]
            }
            b"greedy\n" => vec![Output::Forward(length + 1)],
            b"bad span\n" => vec![Output::Send(Span { start: 5, length: 1_000_000 })],
            b"give up\n" => vec![Output::GiveUp(span(b"a reason\x1b[31m"))],
            b"pass\n" => vec![Output::PassThrough],
            b"close\n" => vec![Output::Forward(length), Output::EndRequest(Reply::Expected), Output::Close],
            b"reconnect\n" => {
                vec![Output::Forward(length), Output::EndRequest(Reply::Expected), Output::Reconnect]
            }
            b"open\n" => vec![Output::Forward(length)],
            b"wait\n" => vec![Output::Forward(length), Output::SetTimer(150_000)],
            _ => vec![Output::Forward(length), Output::EndRequest(Reply::Expected)],
        };
        outcome.actions.extend(outputs.into_iter().map(|output| Action { session, output }));
    }
}

impl PluginRunner for Lines {
    fn inputs(&self) -> Inputs {
        self.inputs
    }

    fn join(&mut self) -> Result<Group, Without> {
        self.sessions += 1;
        Ok(Group(0))
    }

    fn leave(&mut self, _: Group) {
        self.sessions -= 1;
    }

    fn run(&mut self, _: Group, batch: &EventBatch, _: u64, outcome: &mut Outcome) -> Result<(), Fault> {
        let mut fault = None;
        for event in &batch.events {
            let session = event.session;
            let mut act = |output| outcome.actions.push(Action { session, output });
            match event.input {
                Input::Opened(index) => {
                    let origin = batch.openings[index as usize].origin;
                    assert_eq!(
                        self.undecided.insert(session, Vec::new()).is_some(),
                        origin == Origin::Rejoined
                    );
                }
                Input::Connected => {
                    outcome.bytes.extend(b"hello\n");
                    let start = outcome.bytes.len() as u32 - 6;
                    act(Output::Prepare(Span { start, length: 6 }));
                    act(Output::Ready);
                }
                Input::Request(span) => {
                    let undecided = self.undecided.get_mut(&session).unwrap();
                    undecided.extend(span.of(&batch.bytes).unwrap());
                    while let Some(end) = undecided.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = undecided.drain(..=end).collect();
                        if line == b"trap\n" {
                            fault = Some(Fault { session: Some(session), others: AfterFault::Rejoin });
                        }
                        Self::line(session, &line, outcome);
                    }
                }
                Input::Response(span) => {
                    let ends = span.of(&batch.bytes).unwrap().iter().filter(|byte| **byte == b'\n').count();
                    (0..ends).for_each(|_| act(Output::ReplyComplete));
                }
                Input::Gap => {
                    let undecided = self.undecided.get_mut(&session).unwrap();
                    act(Output::Discard(undecided.len() as u32));
                    undecided.clear();
                }
                Input::Timer => act(Output::EndRequest(Reply::NotExpected)),
                Input::Ended => {
                    assert!(self.undecided.remove(&session).is_some(), "{session} ended twice");
                    self.ended += 1;
                }
                _ => {}
            }
        }
        fault.map_or(Ok(()), |fault| {
            // The instance is gone with all that it knew, but for who was opened.
            self.undecided.values_mut().for_each(Vec::clear);
            Err(fault)
        })
    }

    fn note_violation(&mut self, _: SessionId, _: &'static str) {}
}

fn run(file: &File, inputs: Inputs) -> Findings {
    let path = file.write();
    let findings = check(&path, &[7777], Lines::new(inputs), &|| "trap: a\nreason".to_owned()).unwrap();
    std::fs::remove_file(path).unwrap();
    findings
}

fn shown(findings: &Findings) -> String {
    let status = ModuleStatus { name: "lines".to_owned(), ports: vec![7777], ..ModuleStatus::default() };
    text(&Subject { module: "lines 1.0 (made up)", file: "made-up.pcap", status: &status }, findings)
}

fn shown_as_json(findings: &Findings) -> Value {
    let status = ModuleStatus { name: "lines".to_owned(), ports: vec![7777], ..ModuleStatus::default() };
    json(&Subject { module: "lines 1.0 (made up)", file: "made-up.pcap", status: &status }, findings)
}

#[test]
fn messages_decisions_and_ends_are_shown() {
    let mut file = File::new();
    file.connect(1)
        .client(b"one\ntw")
        .server(b"first\n")
        .client(b"o\nskip\nchange\n")
        .server(b"second\nthird\n");
    file.close();
    file.connect(2).client(b"wait\n").client(b"half a li").server(b"x");
    let findings = run(&file, Inputs::RESPONSES.union(Inputs::CONNECTIONS));
    assert_eq!(findings.problems, []);
    insta::assert_snapshot!(shown(&findings));
    let value = shown_as_json(&findings);
    assert_eq!(value["sessions"][0]["bytes"]["captured"], 20);
    assert_eq!(value["sessions"][0]["bytes"]["discarded"], 12);
    assert_eq!(value["sessions"][0]["events"][0]["event"], "prepared");
    assert_eq!(value["sessions"][1]["bytes"]["undecided"], 9);
    assert_eq!(value["problems"], serde_json::json!([]));
}

#[test]
fn what_breaks_the_rules_is_a_problem() {
    for (line, rule) in
        [(&b"greedy\n"[..], "more bytes than were captured"), (b"bad span\n", "outside of its bytes")]
    {
        let mut file = File::new();
        file.connect(1).client(b"fine\n").client(line).client(b"more\n").close();
        let findings = run(&file, Inputs::NONE);
        assert_eq!(findings.problems.len(), 1, "{:?}", findings.problems);
        assert!(findings.problems[0].1.contains(rule), "{:?}", findings.problems);
        assert_eq!((findings.problems[0].0, findings.sessions[0].requests), (Some(1), 1));
    }
}

#[test]
fn an_undecided_rest_is_a_problem_only_if_the_client_has_said_everything() {
    let rest = |end: &dyn Fn(&mut File)| {
        let mut file = File::new();
        file.connect(1).client(b"one\nhalf");
        end(&mut file);
        run(&file, Inputs::NONE).problems
    };
    assert_eq!(rest(&|_| ()), []);
    assert_eq!(rest(&|file| _ = file.send(true, RST, b"")), []);
    let closed = rest(&|file| _ = file.close());
    assert!(closed[0].1.contains("4 bytes were not decided about"), "{closed:?}");
    // A request that was forwarded and not ended is as bad.
    let mut file = File::new();
    file.connect(1).client(b"open\n").close();
    let mut problems = run(&file, Inputs::NONE).problems;
    assert!(problems.pop().unwrap().1.contains("a request was not ended"));
}

#[test]
fn sessions_may_be_left_in_every_way() {
    let mut file = File::new();
    file.connect(1).client(b"give up\n").client(b"x\n").close();
    file.connect(2).client(b"one\npass\nrest\n").client(b"more").close();
    file.connect(3).client(b"close\n").client(b"x\n").close();
    file.connect(4).client(b"reconnect\nnext\n").server(b"answer\n").close();
    let findings = run(&file, Inputs::RESPONSES);
    assert_eq!(findings.problems, []);
    insta::assert_snapshot!(shown(&findings));
}

#[test]
fn a_fault_ends_its_session_and_the_others_begin_anew() {
    let mut file = File::new();
    file.connect(1).client(b"one\nhal");
    let first = file.next;
    file.connect(2).client(b"trap\n");
    file.client.port = 1;
    file.next = first;
    file.client(b"f\n").close();
    let findings = run(&file, Inputs::NONE);
    assert_eq!(findings.problems, [(Some(2), "the plugin failed: trap: a\nreason".to_owned())]);
    insta::assert_snapshot!(shown(&findings));
}

#[test]
fn missing_bytes_are_told_to_the_plugin() {
    let mut file = File::new();
    file.connect(1).client(b"one\nhalf").lose(10).client(b"rest\nwhole\n").server(b"").close();
    // Before the capture began, there was a connection already.
    file.client.port = 2;
    file.client(b"mid\n").server(b"answer\n").close();
    let findings = run(&file, Inputs::NONE);
    assert_eq!(findings.problems, []);
    insta::assert_snapshot!(shown(&findings));
}

#[test]
fn repeated_and_reordered_segments_are_one_stream() {
    let mut file = File::new();
    file.connect(1);
    let at = file.next[0];
    file.packet(true, at.wrapping_add(4), ACK, b"two\n");
    file.packet(true, at, ACK, b"one\n");
    file.packet(true, at, ACK, b"one\ntw");
    file.next[0] = at.wrapping_add(8);
    file.close();
    let findings = run(&file, Inputs::NONE);
    assert_eq!((findings.problems.len(), findings.sessions[0].requests), (0, 2));
}

#[test]
fn a_file_of_something_else_is_said_to_be_so() {
    let path = std::env::temp_dir().join(format!("tcpcopy-check-{}-none.pcap", std::process::id()));
    std::fs::write(&path, b"no capture").unwrap();
    assert!(check(&path, &[7777], Lines::new(Inputs::NONE), &String::new).is_err());
    std::fs::remove_file(path).unwrap();
    let mut file = File::new();
    file.connect(1).client(b"one\n").close();
    let path = file.write();
    let findings = check(&path, &[80], Lines::new(Inputs::NONE), &String::new).unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!((findings.sessions.len(), findings.file.others), (0, 7));
    assert!(shown(&findings).contains("no session: of 7 frames, 7 are no TCP"));
}
