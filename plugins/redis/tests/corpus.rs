//! Captures of real clients and servers: every byte of both directions is explained, and each request has its reply.
//!
//! Needs a folder of captures in `TCPCOPY_CORPUS`; says so and passes without.

use plugin_sdk::testing::{Decision, Harness};
use plugin_sdk::{Origin, Reply, Value};
use std::collections::BTreeMap;
use std::path::Path;
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::stream::{Arrival, Assembler, SegmentInfo};
use tcpcopy_engine::wire::PROTOCOL_TCP;
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::link::ip_packet;
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpSegment};
use tcpcopy_redis::Redis;
use tcpcopy_simulation::captures;

const PORTS: [u16; 3] = [6379, 36379, 36380];

/// One direction of a connection.
#[derive(Default)]
struct Direction {
    first: Option<SeqNumber>,
    assembler: Assembler,
}

impl Direction {
    /// The bytes that a segment brings, in order; `None` when the capture cut it.
    fn take(&mut self, tcp: &TcpSegment<'_>) -> Option<Vec<u8>> {
        let syn = tcp.flags.contains(TcpFlags::SYN);
        let start = if syn { SeqNumber(tcp.seq.0.wrapping_add(1)) } else { tcp.seq };
        let first = *self.first.get_or_insert(start);
        let offset = i64::from(start.0.wrapping_sub(first.0) as i32);
        let mut bytes = Vec::new();
        if tcp.payload_len == 0 {
            return Some(bytes);
        }
        let info = SegmentInfo::default();
        let arrival = self
            .assembler
            .insert(offset, tcp.payload, tcp.payload_len, info, |new, _| bytes.extend_from_slice(new));
        (!matches!(arrival, Arrival::Cut(_))).then_some(bytes)
    }
}

/// One connection as the plugin saw it.
struct Connection {
    session: u64,
    origin: Origin,
    client: Direction,
    server: Direction,
    cut: bool,
}

/// What came of one capture: connections, requests, replies.
#[derive(Debug, Default)]
struct Sum {
    connections: usize,
    requests: usize,
    replies: usize,
}

fn read(path: &Path, problems: &mut Vec<String>) -> Sum {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = std::fs::read(path).expect("a capture");
    let frames = captures::read(&file).expect("a capture file");
    let mut harness = Harness::<Redis>::new(&[("allow-dangerous", Value::from(["@dangerous"]))]);
    let mut open: BTreeMap<Endpoint, Connection> = BTreeMap::new();
    let mut all: Vec<Connection> = Vec::new();
    for frame in &frames {
        let Ok((packet, length)) = ip_packet(frame.link, &frame.bytes, frame.wire_len) else { continue };
        let Ok(ip) = IpPacket::parse(packet, length) else { continue };
        if ip.protocol != PROTOCOL_TCP {
            continue;
        }
        let Ok(tcp) = TcpSegment::parse(ip.payload, ip.payload_len) else { continue };
        let from_client = PORTS.contains(&tcp.destination_port);
        if !from_client && !PORTS.contains(&tcp.source_port) {
            continue;
        }
        let client = if from_client {
            Endpoint::new(ip.source, tcp.source_port)
        } else {
            Endpoint::new(ip.destination, tcp.destination_port)
        };
        let begins = from_client && tcp.flags.contains(TcpFlags::SYN);
        if begins
            && let Some(before) = open.get(&client)
            && before.client.first != Some(SeqNumber(tcp.seq.0.wrapping_add(1)))
        {
            all.extend(open.remove(&client));
        }
        let connection = open.entry(client).or_insert_with(|| {
            let origin = if begins { Origin::Start } else { Origin::MidStream };
            let session = harness.open_as(origin);
            harness.connected(session);
            Connection {
                session,
                origin,
                client: Direction::default(),
                server: Direction::default(),
                cut: false,
            }
        });
        let direction = if from_client { &mut connection.client } else { &mut connection.server };
        match direction.take(&tcp) {
            Some(bytes) if from_client => drop(harness.request(connection.session, bytes)),
            // What answers requests from before the capture never comes from a target.
            Some(_) if harness.requests(connection.session).is_empty() => {}
            Some(bytes) => drop(harness.response(connection.session, bytes)),
            None => connection.cut = true,
        }
    }
    all.extend(open.into_values());
    let mut sum = Sum::default();
    for connection in all {
        let session = connection.session;
        if connection.cut || connection.client.assembler.has_gap() || connection.server.assembler.has_gap() {
            println!(
                "{name}: session {session}: the capture is not whole: cut {}, gaps {} {}",
                connection.cut,
                connection.client.assembler.has_gap(),
                connection.server.assembler.has_gap()
            );
            continue;
        }
        let decisions = harness.decisions(session);
        let count = |wanted: &Decision| decisions.iter().filter(|decision| *decision == wanted).count();
        let expected = count(&Decision::EndRequest(Reply::Expected));
        let replies = count(&Decision::ReplyComplete);
        sum.connections += 1;
        sum.requests += expected;
        sum.replies += replies;
        if expected != replies {
            problems.push(format!("{name}: session {session}: {replies} replies to {expected} requests"));
        }
        if !harness.undecided(session).is_empty() {
            let rest = harness.undecided(session).escape_ascii().to_string();
            problems.push(format!("{name}: session {session}: undecided {rest}"));
        }
        if harness.is_over(session) {
            problems.push(format!("{name}: session {session}: {:?}", decisions.last()));
        }
        if connection.origin == Origin::MidStream {
            println!("{name}: session {session}: joined, {expected} requests");
        }
    }
    let counts = harness.counts();
    println!("{name}: {sum:?} {counts:?}");
    for (name_of_count, count) in counts {
        if name_of_count.starts_with("invalid") || name_of_count == "replies to nothing" {
            problems.push(format!("{name}: {name_of_count}: {count}"));
        }
    }
    sum
}

#[test]
fn every_byte_is_explained_and_every_request_answered() {
    let Some(folder) = std::env::var_os("TCPCOPY_CORPUS") else {
        return println!("skipped: TCPCOPY_CORPUS names no folder of captures");
    };
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name.contains("redis") || name.contains("half_close")) && !name.contains("vxlan")
        })
        .collect();
    files.sort();
    let mut problems = Vec::new();
    let mut requests = 0;
    for file in &files {
        requests += read(file, &mut problems).requests;
    }
    println!("{} captures, {requests} requests", files.len());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(requests > 0, "nothing was read");
}
