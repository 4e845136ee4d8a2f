//! `tcpcopy inspect`, over capture files that are made up.

use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::wire::packet::{self, OutgoingSegment};
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpOptions};

/// A capture of one connection: handshake, request, response, end.
fn capture() -> Vec<u8> {
    capture_of(&[(Endpoint::new([203, 0, 113, 7].into(), 4000), Endpoint::new([10, 0, 0, 1].into(), 80))])
}

/// A capture of such connections, one after the other, each of a client and its server.
fn capture_of(pairs: &[(Endpoint, Endpoint)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 101] {
        bytes.extend(word.to_le_bytes());
    }
    for (client, online) in pairs {
        connection(&mut bytes, *client, *online);
    }
    bytes
}

fn connection(bytes: &mut Vec<u8>, client: Endpoint, online: Endpoint) {
    let (syn, ack, fin) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::FIN);
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let response = b"HTTP/1.1 204 No Content\r\n\r\n";
    type Packet = (Endpoint, Endpoint, TcpFlags, u32, u32, &'static [u8]);
    let packets: [Packet; 7] = [
        (client, online, syn, 99, 0, b""),
        (online, client, syn | ack, 499, 100, b""),
        (client, online, ack, 100, 500, b""),
        (client, online, ack, 100, 500, request),
        (online, client, ack, 500, 127, response),
        (client, online, ack | fin, 127, 527, b""),
        (online, client, ack | fin, 527, 128, b""),
    ];
    for (index, (from, to, flags, seq, acknowledged, payload)) in packets.into_iter().enumerate() {
        let segment = OutgoingSegment {
            flow: FlowKey { client: from, target: to },
            seq: SeqNumber(seq),
            ack: flags.contains(ack).then_some(SeqNumber(acknowledged)),
            flags,
            window: 1000,
            options: TcpOptions::default(),
            hop_limit: 64,
            traffic_class: 0,
            identification: index as u16 + 1,
        };
        let mut packet = Vec::new();
        packet::write(&mut packet, &segment, [payload, &[]]);
        let len = packet.len() as u32;
        for word in [1_700_000_000, index as u32 * 100, len, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(packet);
    }
}

/// A file that is gone when the test is over.
struct File(PathBuf);

impl File {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("tcpcopy-inspect-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn run(arguments: &[&str], input: Stdio) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_tcpcopy"))
        .arg("inspect")
        .args(arguments)
        .stdin(input)
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn the_text_is_for_people() {
    let file = File::new("text.pcap", &capture());
    let (code, out, err) = run(&[file.name()], Stdio::null());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    insta::assert_snapshot!(out.replace(file.name(), "web.pcap"));
}

#[test]
fn standard_input_gives_json_with_the_same_numbers() {
    let file = File::new("json.pcap", &capture());
    let stdin = Stdio::from(std::fs::File::open(file.name()).unwrap());
    let (code, out, err) = run(&["--json", "-"], stdin);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["files"][0]["file"], "-");
    assert_eq!(json["files"][0]["frames"], 7);
    assert_eq!(json["connections"]["complete"], 1);
    assert_eq!(json["client"]["bytes"], 27);
    assert_eq!(json["ports"][0]["protocols"][0]["protocol"], "http1");
    assert_eq!(json["commands"][0]["transfer"], "80-TARGET:80");
    assert_eq!(json["warnings"], Value::Array(Vec::new()));
}

#[test]
fn a_file_that_is_cut_is_told_of_and_read() {
    let whole = capture();
    let file = File::new("cut.pcap", &whole[..whole.len() - 5]);
    let (code, out, err) = run(&["--json", file.name()], Stdio::null());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["flaw_count"], &json["files"][0]["frames"]), (&Value::from(1), &Value::from(6)));
    assert_eq!(json["warnings"][0]["kind"], "damaged_files");
    let (_, out, _) = run(&[file.name()], Stdio::null());
    assert!(out.contains("  FLAW  "), "{out}");
}

#[test]
fn what_is_no_capture_ends_with_exit_code_1_and_mistakes_with_2() {
    let good = File::new("good.pcap", &capture());
    let text = File::new("text.txt", b"not a capture at all, but a text");
    for (arguments, expected) in [
        (vec![text.name()], 1),
        (vec![good.name(), text.name()], 1),
        (vec!["/nonexistent.pcap"], 1),
        (vec![], 2),
        (vec!["--decap", "ipip", good.name()], 2),
        (vec!["--nonsense", good.name()], 2),
    ] {
        let (code, out, err) = run(&arguments, Stdio::null());
        assert_eq!((code, out.as_str()), (Some(expected), ""), "{arguments:?}");
        let lines: Vec<&str> = err.lines().collect();
        assert_eq!(lines.len(), 2, "{err}");
        assert!(lines[0].starts_with("error: ") && lines[1].starts_with("hint: "), "{err}");
    }
}

#[test]
fn the_commands_are_good_once_addresses_are_put_in() {
    let client = |address: [u8; 4]| Endpoint::new(address.into(), 4000);
    let server = |address: [u8; 4]| Endpoint::new(address.into(), 8080);
    let (outside, front, upstream) = ([203, 0, 113, 7], [10, 0, 0, 1], [10, 0, 0, 2]);
    for (pairs, expected) in [
        (vec![(outside, front)], "-x 8080-10.9.9.9:8080"),
        (vec![(outside, front), (front, upstream)], "-x 10.0.0.1:8080-10.9.9.9:8080"),
        (vec![([127, 0, 0, 1], [127, 0, 0, 1])], "-x 8080-10.9.9.9:8080"),
    ] {
        let pairs: Vec<_> = pairs.into_iter().map(|(from, to)| (client(from), server(to))).collect();
        let file = File::new("commands.pcap", &capture_of(&pairs));
        let (_, out, _) = run(&["--json", file.name()], Stdio::null());
        let json: Value = serde_json::from_str(&out).unwrap();
        let command = json["commands"][0]["command"].as_str().unwrap().to_owned();
        let command = command.replace("TARGET", "10.9.9.9").replace("ASSISTANT", "10.9.9.8");
        let line = command.replace("CLIENT", "10.9.9.7");
        super::support::settings(line.strip_prefix("tcpcopy ").unwrap());
        assert!(line.contains(&format!("{expected} ")), "{line}");
    }
}
