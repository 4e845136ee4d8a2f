//! Captures of real clients and servers: every byte of both directions is explained, and each command has its answer.
//!
//! Needs a folder of captures with its `MANIFEST.tsv` in `TCPCOPY_CORPUS`; says so and passes without. The online server of a
//! capture is taken for its target too, so that its answers are those to the client's own commands; logins are another matter, and
//! the answers to the plugin's own are made up.

mod common;

use common::*;
use plugin_sdk::testing::{Decision, Harness};
use plugin_sdk::{Origin, Reply, Value};
use std::collections::BTreeMap;
use std::path::Path;
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::stream::{Arrival, Assembler, SegmentInfo};
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::link;
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpSegment};
use tcpcopy_mysql::Mysql;
use tcpcopy_simulation::captures;

/// One direction of a connection.
#[derive(Default)]
struct Direction {
    assembler: Assembler,
    base: Option<SeqNumber>,
    /// Bytes were captured in part only.
    broken: bool,
}

impl Direction {
    /// The new bytes that a segment brings.
    fn insert(&mut self, tcp: &TcpSegment<'_>) -> Vec<u8> {
        let syn = tcp.flags.contains(TcpFlags::SYN);
        let first = if syn { SeqNumber(tcp.seq.0.wrapping_add(1)) } else { tcp.seq };
        let base = *self.base.get_or_insert(first);
        let mut bytes = Vec::new();
        if tcp.payload_len == 0 {
            return bytes;
        }
        let deliver = |new: &[u8], _| bytes.extend_from_slice(new);
        let offset = first.unwrap(base, 0);
        let arrival =
            self.assembler.insert(offset, tcp.payload, tcp.payload_len, SegmentInfo::default(), deliver);
        self.broken |= matches!(arrival, Arrival::Cut(_));
        bytes
    }
}

/// A capture's connection, as it went on.
struct Connection {
    start: SeqNumber,
    client: Direction,
    server: Direction,
    steps: Vec<(Side, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

fn connections(file: &[u8], ports: &[u16]) -> Vec<Connection> {
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
        let begins = syn && from_client;
        if !begins && !open.contains_key(&key) {
            continue;
        }
        let connection = open.entry(key).or_insert_with(|| Connection {
            start: tcp.seq,
            client: Direction::default(),
            server: Direction::default(),
            steps: Vec::new(),
        });
        let (direction, side) = match from_client {
            true => (&mut connection.client, Side::Client),
            false => (&mut connection.server, Side::Server),
        };
        let bytes = direction.insert(&tcp);
        if !bytes.is_empty() {
            connection.steps.push((side, bytes));
        }
    }
    done.extend(open.into_values());
    done
}

/// What a connection came to, read from its packets without the plugin.
#[derive(Debug, PartialEq, Eq)]
enum Course {
    /// The client turned to TLS.
    Tls,
    /// The server said no; the client's bytes up to there.
    Refused,
    /// Nobody logged in.
    Nothing,
    /// The login took so many bytes of client and server.
    LoggedIn(usize, usize),
}

/// The packets at the front of a stream: where each ends, its number and first byte.
fn fronts(stream: &[u8]) -> impl Iterator<Item = (usize, u8, u8)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header: [u8; 4] = stream.get(at..at + 4)?.try_into().ok()?;
        let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
        let first = stream.get(at + 4).copied().unwrap_or_default();
        at += 4 + length;
        (at <= stream.len()).then_some((at, header[3], first))
    })
}

fn course(client: &[u8], server: &[u8]) -> Course {
    if client.starts_with(&[32, 0, 0, 1]) {
        return Course::Tls;
    }
    let from_client =
        fronts(client).take_while(|(_, number, _)| *number != 0).last().map_or(0, |(end, ..)| end);
    for (index, (end, _, first)) in fronts(server).enumerate() {
        match first {
            0xff => return Course::Refused,
            0 if index > 0 => return Course::LoggedIn(from_client, end),
            _ => {}
        }
    }
    Course::Nothing
}

fn stream(connection: &Connection, side: Side) -> Vec<u8> {
    let bytes = connection.steps.iter().filter(|(of, _)| *of == side).map(|(_, bytes)| bytes.as_slice());
    bytes.collect::<Vec<_>>().concat()
}

/// What is not as it should be in a connection, and how many commands it has.
fn replay(connection: &Connection, piece: usize) -> Result<usize, String> {
    let (client, server) = (stream(connection, Side::Client), stream(connection, Side::Server));
    let course = course(&client, &server);
    let mut harness =
        Harness::<Mysql>::new(&[("password", Value::from("secret")), ("allow-dangerous", all_kinds())]);
    let session = harness.open_as(Origin::Start);
    harness.connected(session);
    let greeting = fronts(&server).next().map_or(0, |(end, ..)| end);
    let login = match course {
        Course::LoggedIn(_, login) => login,
        _ => server.len(),
    };
    let (mut from_server, mut logged_in) = (0, false);
    for (side, bytes) in &connection.steps {
        for bytes in bytes.chunks(piece) {
            match side {
                Side::Client => drop(harness.request(session, bytes)),
                Side::Server => {
                    harness.reference(session, bytes);
                    // The plugin logs in by itself: it sees the greeting, the verdict, and what follows.
                    let until = from_server + bytes.len();
                    if from_server < greeting {
                        harness.response(session, &server[from_server..until.min(greeting)]);
                    }
                    if until >= login && !logged_in && greeting < server.len() {
                        logged_in = true;
                        match course {
                            Course::Refused => drop(harness.response(session, error(2, 1045, "denied"))),
                            _ => drop(harness.response(session, ok(2))),
                        }
                    }
                    if until > login {
                        harness.response(session, &server[from_server.max(login)..until]);
                    }
                    from_server = until;
                }
            }
        }
    }
    let decisions = harness.decisions(session);
    let count = |wanted: &Decision| decisions.iter().filter(|decision| *decision == wanted).count();
    let gave_up = decisions.iter().find_map(|decision| match decision {
        Decision::GiveUp(why) => Some(why.as_str()),
        _ => None,
    });
    match (&course, gave_up) {
        (Course::Tls, Some(why)) if why.contains("TLS") => return Ok(0),
        (Course::Refused, Some(why)) if why.contains("refused") => return Ok(0),
        (Course::Nothing, None) => return Ok(0),
        // What speaks first is no client of MySQL.
        (Course::Nothing, Some("the client's login is none")) if client[3] != 1 => return Ok(0),
        // The last command is a COM_CHANGE_USER, and is refused.
        (Course::LoggedIn(..), Some(why)) if why.contains("refused") && refuses_last(&server) => {
            return Ok(0);
        }
        (Course::LoggedIn(..), None) => {}
        _ => return Err(format!("{course:?}, but the plugin gave up: {gave_up:?}")),
    }
    let Course::LoggedIn(own, _) = course else { return Ok(0) };
    let (requests, replies) =
        (count(&Decision::EndRequest(Reply::Expected)), count(&Decision::ReplyComplete));
    let sent = harness.sent(session);
    let changes_user = fronts(&client[own..]).any(|(_, number, first)| number == 0 && first == 0x11);
    let prepared: usize = decisions
        .iter()
        .map(|decision| if let Decision::Prepare(bytes) = decision { bytes.0.len() } else { 0 })
        .sum();
    // Compressed packets are made anew, and a COM_CHANGE_USER is the plugin's own.
    let capabilities = u32::from_le_bytes(client[4..8].try_into().unwrap());
    let compressed = capabilities & (COMPRESS | 0x0400_0000) != 0;
    if !changes_user && !compressed && sent[prepared..] != client[own..] {
        return Err(format!(
            "sent {} bytes, not the {} of the client",
            sent.len() - prepared,
            client.len() - own
        ));
    }
    if requests != replies || (requests == 0 && client.len() > own + 5) {
        return Err(format!("{replies} replies to {requests} requests"));
    }
    if !harness.undecided(session).is_empty() {
        return Err(format!("{} bytes undecided", harness.undecided(session).len()));
    }
    let odd: Vec<_> =
        harness.counts().into_iter().filter(|(name, _)| name.contains("answer nothing")).collect();
    if !odd.is_empty() || harness.counts().keys().any(|name| name.contains("dropped by")) {
        return Err(format!("{:?}", harness.counts()));
    }
    Ok(requests)
}

fn refuses_last(server: &[u8]) -> bool {
    fronts(server).last().is_some_and(|(_, number, first)| first == 0xff && number > 2)
}

fn all_kinds() -> Value {
    Value::from(["kill", "shutdown", "replication"])
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
    let (mut commands, mut understood, mut problems) = (0, 0, Vec::new());
    let is_ours = |line: &&str| ["mysql", "mariadb"].iter().any(|name| line.contains(name));
    for line in manifest.lines().skip(1).filter(is_ours) {
        let fields: Vec<&str> = line.split('\t').collect();
        let ports = fields[ports_column].split(',').filter_map(|port| port.split('x').next()?.parse().ok());
        let ports: Vec<u16> = ports.filter(|port| ![80, 38080].contains(port)).collect();
        let Ok(file) = std::fs::read(folder.join(fields[0])) else { continue };
        for (index, connection) in connections(&file, &ports).iter().enumerate() {
            let is_cut = |direction: &Direction| direction.broken || direction.assembler.has_gap();
            if is_cut(&connection.client) || is_cut(&connection.server) {
                println!("{} #{index}: the capture is not whole", fields[0]);
                continue;
            }
            for piece in [usize::MAX, 7, 1] {
                match replay(connection, piece) {
                    Ok(requests) => commands += requests,
                    Err(what) => {
                        problems.push(format!("{} #{index} in pieces of {piece}: {what}", fields[0]))
                    }
                }
            }
            understood += connection.steps.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        }
    }
    println!("{understood} bytes, {} commands", commands / 3);
    assert!(problems.is_empty(), "not understood:\n{}", problems.join("\n"));
    assert!(understood > 700_000, "only {understood} bytes were looked at");
}
