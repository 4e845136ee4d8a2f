//! Captures of real clients and servers: every byte of both directions is understood.
//!
//! Needs a folder of captures with its `MANIFEST.tsv` in `TCPCOPY_CORPUS`; says so and passes without.

use plugin_sdk::testing::{Decision, Harness};
use plugin_sdk::{Origin, Reply};
use std::collections::BTreeMap;
use std::path::Path;
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::stream::{Arrival, Assembler, SegmentInfo};
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::link;
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpSegment};
use tcpcopy_http::Http;
use tcpcopy_simulation::captures;

/// One direction of a connection.
#[derive(Default)]
struct Direction {
    assembler: Assembler,
    base: Option<SeqNumber>,
    /// Bytes were not captured.
    broken: bool,
}

impl Direction {
    /// The new bytes that a segment brings.
    fn insert(&mut self, tcp: &TcpSegment<'_>) -> Vec<u8> {
        let syn = tcp.flags.contains(TcpFlags::SYN);
        let first = if syn { SeqNumber(tcp.seq.0.wrapping_add(1)) } else { tcp.seq };
        let base = *self.base.get_or_insert(first);
        let offset = first.unwrap(base, 0);
        let mut bytes = Vec::new();
        let info = SegmentInfo::default();
        let deliver = |new: &[u8], _| bytes.extend_from_slice(new);
        let arrival = self.assembler.insert(offset, tcp.payload, tcp.payload_len, info, deliver);
        self.broken |= matches!(arrival, Arrival::Cut(_));
        bytes
    }
}

/// A connection of the capture, and the session that replays it with the online server as its own target.
struct Connection {
    session: u64,
    start: SeqNumber,
    client: Direction,
    server: Direction,
    client_bytes: Vec<u8>,
    server_bytes: usize,
}

fn replay(harness: &mut Harness<Http>, file: &[u8], ports: &[u16], piece: usize) -> Vec<Connection> {
    let mut open: BTreeMap<(Endpoint, Endpoint), Connection> = BTreeMap::new();
    let mut done = Vec::new();
    for frame in captures::read(file).unwrap_or_default() {
        let Ok((packet, len)) = link::ip_packet(frame.link, &frame.bytes, frame.wire_len) else { continue };
        let Ok(ip) = IpPacket::parse(packet, len) else { continue };
        if ip.protocol != 6 || ip.fragment.is_some() {
            continue;
        }
        let Ok(tcp) = TcpSegment::parse(ip.payload, ip.payload_len) else { continue };
        let from = Endpoint::new(ip.source, tcp.source_port);
        let to = Endpoint::new(ip.destination, tcp.destination_port);
        let from_client = ports.contains(&to.port);
        if !from_client && !ports.contains(&from.port) {
            continue;
        }
        let key = if from_client { (from, to) } else { (to, from) };
        let syn = tcp.flags.contains(TcpFlags::SYN);
        if syn && from_client && open.get(&key).is_some_and(|known| known.start != tcp.seq) {
            done.extend(open.remove(&key));
        }
        if !open.contains_key(&key) && tcp.payload_len == 0 && !syn {
            continue;
        }
        let connection = open.entry(key).or_insert_with(|| Connection {
            session: harness.open_as(if syn { Origin::Start } else { Origin::MidStream }),
            start: tcp.seq,
            client: Direction::default(),
            server: Direction::default(),
            client_bytes: Vec::new(),
            server_bytes: 0,
        });
        if from_client {
            let bytes = connection.client.insert(&tcp);
            bytes.chunks(piece).for_each(|bytes| drop(harness.request(connection.session, bytes)));
            connection.client_bytes.extend(bytes);
        } else {
            let bytes = connection.server.insert(&tcp);
            bytes.chunks(piece).for_each(|bytes| drop(harness.response(connection.session, bytes)));
            connection.server_bytes += bytes.len();
            if tcp.flags.contains(TcpFlags::FIN) && !connection.server.assembler.has_gap() {
                harness.response_end(connection.session);
            }
        }
    }
    done.extend(open.into_values());
    done
}

/// Why a capture holds what is no whole exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exception {
    /// Some first lines are no request lines, and everything behind them is passed: methods alone, versions like `HTTP/1.`, and
    /// HTTP/0.9.
    Malformed,
    /// Responses are missing, or their ends.
    Unanswered,
}

const EXCEPTIONS: [(&str, Exception); 5] = [
    ("http_49_methods.pcap", Exception::Malformed),
    ("ipv6_exthdr_atomicfrag.pcap", Exception::Malformed),
    ("mysql_http_no_synack_vlan.pcap", Exception::Unanswered),
    ("http_client_side_only.pcap", Exception::Unanswered),
    ("sll2_http.pcap", Exception::Unanswered),
];

/// What is not understood of a connection.
fn judge(
    harness: &Harness<Http>,
    connection: &Connection,
    exception: Option<Exception>,
) -> Result<(), String> {
    let decisions = harness.decisions(connection.session);
    let count = |wanted: &Decision| decisions.iter().filter(|decision| *decision == wanted).count();
    let requests = count(&Decision::EndRequest(Reply::Expected));
    let replies = count(&Decision::ReplyComplete);
    let passed = count(&Decision::PassThrough) > 0;
    if exception == Some(Exception::Malformed) && *decisions == [Decision::PassThrough] {
        return Ok(());
    }
    let sent = harness.sent(connection.session);
    let known = &connection.client_bytes;
    let whole = sent == *known || (passed && requests > 0 && known.starts_with(&sent));
    let answered = requests == replies || exception == Some(Exception::Unanswered);
    if whole && answered && (requests > 0 || known.is_empty()) {
        return Ok(());
    }
    Err(format!(
        "{} of {} bytes sent, {requests} requests, {replies} replies in {} bytes",
        sent.len(),
        known.len(),
        connection.server_bytes
    ))
}

#[test]
fn every_byte_of_the_captures_is_understood() {
    let Some(folder) = std::env::var_os("TCPCOPY_CORPUS") else {
        return println!("skipped: TCPCOPY_CORPUS names no folder of captures");
    };
    let folder = Path::new(&folder);
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).expect("the corpus has a manifest");
    let column = |name: &str| manifest.lines().next()?.split('\t').position(|c| c == name);
    let ports_column = column("server_ports").expect("the manifest names ports");
    let (mut understood, mut unexplained) = (0, Vec::new());
    for line in manifest.lines().skip(1).filter(|line| line.contains("http")) {
        let fields: Vec<&str> = line.split('\t').collect();
        let ports = fields[ports_column].split(',').filter_map(|port| port.split('x').next()?.parse().ok());
        let ports: Vec<u16> = ports.filter(|port| ![3306, 6379, 33090, 36379].contains(port)).collect();
        let Ok(file) = std::fs::read(folder.join(fields[0])) else { continue };
        let exception = EXCEPTIONS.iter().find(|(name, _)| *name == fields[0]).map(|(_, why)| *why);
        for piece in [usize::MAX, 13] {
            let mut harness = Harness::<Http>::new(&[]);
            for (index, connection) in replay(&mut harness, &file, &ports, piece).iter().enumerate() {
                match judge(&harness, connection, exception) {
                    Ok(()) => understood += connection.client_bytes.len() + connection.server_bytes,
                    // Segments that were captured in part only: nothing in them is known to be whole.
                    Err(_) if connection.client.broken || connection.server.broken => {}
                    Err(what) => unexplained.push(format!("{} #{index}: {what}", fields[0])),
                }
            }
            if exception.is_none() {
                assert!(harness.counts().is_empty(), "{}: {:?}", fields[0], harness.counts());
            }
        }
    }
    println!("{understood} bytes understood");
    assert!(unexplained.is_empty(), "not understood:\n{}", unexplained.join("\n"));
    assert!(understood > 4_000_000, "only {understood} bytes were looked at");
}
