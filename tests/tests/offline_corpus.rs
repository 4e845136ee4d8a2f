//! Captures from elsewhere, replayed offline as fast as a server answers that plays the online server's part.
//!
//! Needs a folder of captures with its `MANIFEST.tsv` in `TCPCOPY_CORPUS`, and tshark; says so and passes without.

use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tcpcopy_lab::offline::{COMPLETE, INCOMPLETE, offline_args};
use tcpcopy_lab::replay::{RELAY_PORT, Stopped, Tcpcopy, intercept_args, start_intercept, token_file};
use tcpcopy_lab::scripted::{Conversation, Record, ScriptedServer, read};
use tcpcopy_lab::{Family, Host, Lab, LabOptions, ReplayOptions, lab_test, tools};

/// The first port of the servers; each capture's each server has one of its own.
const FIRST_PORT: u16 = 20_000;
/// Who clients on the loopback are to the target.
const LOCAL_V4: &str = "10.78.0.1";
const LOCAL_V6: &str = "fd78::1";

/// What is to arrive of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Every byte of every client, on one connection each; exit code 0.
    All,
    /// Not everything, for this reason: of each client the beginning of what it sent; exit code 3.
    Beginning(&'static str),
    /// Not everything, for this reason: of each client the end of what it sent; exit code 3.
    End(&'static str),
    /// Not everything, for this reason: of each client pieces of what it sent, in order; exit code 3.
    Pieces(&'static str),
    /// Nothing, for this reason; exit code 3.
    Nothing(&'static str),
}

/// What is not to be expected to arrive whole.
const EXPECTED: &[(&str, Expected)] = &[
    ("http_nosyn_midstream.pcap", Expected::Nothing("the one request may have begun before the capture")),
    ("redis_auth_midstream.pcap", Expected::End("the first request may have begun before the capture")),
    ("http_client_side_only.pcap", Expected::Beginning("nobody knows what the server answered")),
    ("erspan_http.pcap", Expected::Beginning("answers that later requests waited for were not captured")),
    ("local_http_snaplen96.pcap", Expected::Nothing("the snapshot length cuts each request")),
    (
        "pcapng_multi_linktype.pcapng",
        Expected::Pieces("the snapshot length of one interface cuts what began before the capture"),
    ),
    ("bigtcp_80k_ipv4.pcap", Expected::Nothing("the one segment may have begun before the capture")),
];

/// Servers that the manifest has not: of one packet alone it takes the sender for one.
const SERVERS: &[(&str, u16)] = &[("bigtcp_80k_ipv4.pcap", 36_425)];

/// A capture of the corpus.
struct Capture {
    name: String,
    path: PathBuf,
    ports: Vec<u16>,
    tunnels: Tunnels,
}

/// Whether the connections of a capture are in tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tunnels {
    None,
    Some,
}

fn corpus() -> Option<Result<Vec<Capture>>> {
    let Some(folder) = std::env::var_os("TCPCOPY_CORPUS") else {
        eprintln!("skipped: TCPCOPY_CORPUS names no folder of captures");
        return None;
    };
    if tools::TSHARK.find().is_none() {
        assert!(std::env::var_os("TCPCOPY_REQUIRE_LAB").is_none(), "tshark is not installed");
        eprintln!("skipped: tshark is not installed");
        return None;
    }
    Some(captures(Path::new(&folder)))
}

fn captures(folder: &Path) -> Result<Vec<Capture>> {
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).context("the corpus's manifest")?;
    let mut lines = manifest.lines();
    let header: Vec<&str> = lines.next().context("an empty manifest")?.split('\t').collect();
    let ports_at = header.iter().position(|name| *name == "server_ports").context("no server_ports")?;
    let mut captures = Vec::new();
    for line in lines {
        let columns: Vec<&str> = line.split('\t').collect();
        let ports = columns.get(ports_at).context("a short line in the manifest")?;
        let ports = ports.split(',').filter_map(|port| port.split('x').next()?.parse().ok());
        let is_tunnelled =
            ["vxlan", "geneve", "erspan", "gre"].iter().any(|tunnel| columns[0].contains(tunnel));
        let other = SERVERS.iter().find(|(name, _)| *name == columns[0]);
        captures.push(Capture {
            name: columns[0].to_owned(),
            path: folder.join(columns[0]),
            ports: other.map_or_else(|| ports.collect(), |(_, port)| vec![*port]),
            tunnels: if is_tunnelled { Tunnels::Some } else { Tunnels::None },
        });
    }
    Ok(captures)
}

/// Replays the captures that `is_of_group` takes, in one lab, and fails with all that is not as expected.
fn replay_group(is_of_group: fn(&str) -> bool) {
    let Some(captures) = corpus() else { return };
    let captures = captures.expect("reading the corpus");
    lab_test(LabOptions::light(), |lab| {
        let token = token_file(lab, "token", "a token for the lab, long enough")?;
        let filter = format!("tcp and src portrange {FIRST_PORT}-{}", FIRST_PORT + 999);
        let options = ReplayOptions { intercept_filter: Some(filter), ..ReplayOptions::new(FIRST_PORT) };
        let _intercept = start_intercept(lab, RELAY_PORT, &intercept_args(&options, &token))?;
        let (mut port, mut wrong, mut whole) = (FIRST_PORT, Vec::new(), 0);
        for capture in captures.iter().filter(|capture| is_of_group(&capture.name)) {
            let began = Instant::now();
            let replayed = replay(lab, &token, capture, &mut port);
            println!("{}: {:?}", capture.name, began.elapsed());
            match replayed {
                Ok(()) => whole += 1,
                Err(error) => wrong.push(format!("{}: {error:#}", capture.name)),
            }
        }
        println!("{whole} captures are as expected");
        ensure!(wrong.is_empty(), "{} captures are not as expected:\n{}", wrong.len(), wrong.join("\n"));
        ensure!(whole > 0, "the corpus has no captures of this kind");
        Ok(())
    });
}

/// The address and port that a client has at the target.
fn at_target(client: SocketAddr) -> SocketAddr {
    match client.ip() {
        IpAddr::V4(addr) if addr.is_loopback() => {
            SocketAddr::new(LOCAL_V4.parse().unwrap_or(client.ip()), client.port())
        }
        IpAddr::V6(addr) if addr.is_loopback() => {
            SocketAddr::new(LOCAL_V6.parse().unwrap_or(client.ip()), client.port())
        }
        _ => client,
    }
}

fn replay(lab: &Lab, token: &Path, capture: &Capture, port: &mut u16) -> Result<()> {
    let conversations = read(&capture.path, &capture.ports)?;
    ensure!(!conversations.is_empty(), "tshark finds no connection");
    route_clients(lab, &conversations)?;
    let mut by_server: BTreeMap<u16, Vec<&Conversation>> = BTreeMap::new();
    for conversation in &conversations {
        by_server.entry(conversation.online.port()).or_default().push(conversation);
    }
    let (mut transfers, mut servers) = (Vec::new(), Vec::new());
    for (online_port, conversations) in &by_server {
        *port += 1;
        let families: BTreeSet<bool> = conversations.iter().map(|talk| talk.client.is_ipv6()).collect();
        for is_v6 in families {
            let family = if is_v6 { Family::V6 } else { Family::V4 };
            transfers.push(format!("{online_port}-{}", Host::Target.socket(family, *port)));
        }
        let scripts = conversations.iter().map(|talk| (at_target(talk.client), (*talk).clone()));
        servers.push((*online_port, ScriptedServer::start(lab.host(Host::Target), *port, scripts)?));
    }
    let stopped = run(lab, token, capture, &transfers.join(","))?;
    let mut received = Vec::new();
    for (online_port, server) in &servers {
        let wanted: usize = by_server[online_port].iter().map(|talk| talk.requests().len()).sum();
        let limit = Duration::from_millis(if stopped.status.success() { 2_000 } else { 300 });
        received.extend(server.finish(wanted, limit));
    }
    let expected =
        EXPECTED.iter().find(|(name, _)| *name == capture.name).map_or(Expected::All, |(_, what)| *what);
    let mut by_client: HashMap<SocketAddr, Vec<Vec<u8>>> = HashMap::new();
    for connection in received {
        by_client.entry(connection.client).or_default().push(connection.bytes);
    }
    check(&conversations, by_client, &stopped, expected).with_context(|| {
        let report = stopped.report.json();
        format!("expected {expected:?}; {}; counters: {}", stopped.status, report["counters"])
    })
}

/// Makes the target answer these clients through the assistant, wherever they seem to be.
fn route_clients(lab: &Lab, conversations: &[Conversation]) -> Result<()> {
    let clients: BTreeSet<IpAddr> = conversations.iter().map(|talk| at_target(talk.client).ip()).collect();
    for client in clients {
        let family = if client.is_ipv6() { Family::V6 } else { Family::V4 };
        ensure!(Host::ALL.iter().all(|host| host.addr(family) != client), "{client} is a host of the lab");
        let gateway = Host::Assistant.addr(family);
        lab.host(Host::Target).ip(&format!("route replace {client} via {gateway} dev eth0"))?;
    }
    Ok(())
}

fn run(lab: &Lab, token: &Path, capture: &Capture, transfers: &str) -> Result<Stopped> {
    let mut words: Vec<String> = ["-x", transfers, "-s"].map(str::to_owned).into();
    words.push(Host::Assistant.addr(Family::V4).to_string());
    words.extend(["--token-file".to_owned(), token.display().to_string()]);
    words.extend(["-H".to_owned(), format!("{LOCAL_V4},{LOCAL_V6}")]);
    if capture.tunnels == Tunnels::Some {
        words.extend(["--decap", "vxlan,geneve,gre,erspan"].map(str::to_owned));
    }
    let args = offline_args(&[&capture.path], words, "--asap -t 2");
    Tcpcopy::start(lab, &args)?.wait_end(Duration::from_secs(60))
}

fn check(
    conversations: &[Conversation],
    mut received: HashMap<SocketAddr, Vec<Vec<u8>>>,
    stopped: &Stopped,
    expected: Expected,
) -> Result<()> {
    let code = if expected == Expected::All { COMPLETE } else { INCOMPLETE };
    let has_gaps = conversations.iter().any(|talk| talk.record == Record::Gaps);
    ensure!(!has_gaps || expected != Expected::All, "bytes of clients are not in the capture");
    let (mut all, mut some) = (true, false);
    let mut by_client: BTreeMap<SocketAddr, Vec<Vec<u8>>> = BTreeMap::new();
    for talk in conversations {
        by_client.entry(at_target(talk.client)).or_default().push(talk.requests());
    }
    for (client, sent) in &by_client {
        let got = received.remove(client).unwrap_or_default();
        let (sent, got_bytes) = (sent.concat(), got.concat());
        all &= sent == got_bytes;
        some |= !got_bytes.is_empty();
        let is_right = match expected {
            Expected::All => sent == got_bytes,
            Expected::Beginning(_) => sent.starts_with(&got_bytes),
            Expected::End(_) => sent.ends_with(&got_bytes),
            Expected::Pieces(_) => is_part_of(&got_bytes, &sent),
            Expected::Nothing(_) => got_bytes.is_empty(),
        };
        ensure!(
            is_right,
            "{client}: {} of {} bytes arrived, on {} connections; the first difference is at {:?}",
            got_bytes.len(),
            sent.len(),
            got.len(),
            sent.iter().zip(&got_bytes).position(|(a, b)| a != b)
        );
    }
    let strangers: usize = received.values().flatten().map(Vec::len).sum();
    ensure!(
        strangers == 0,
        "{strangers} bytes of clients that are not in the capture: {:?}",
        received.keys()
    );
    let is_exception = match expected {
        Expected::All => true,
        Expected::Beginning(_) | Expected::End(_) | Expected::Pieces(_) => some && !all,
        Expected::Nothing(_) => !all,
    };
    ensure!(is_exception, "the exception is none: some arrived: {some}, all arrived: {all}");
    ensure!(stopped.status.code() == Some(code), "{}: {}", stopped.status, stopped.output);
    Ok(())
}

/// Whether `part` is `whole` with pieces left out.
fn is_part_of(part: &[u8], whole: &[u8]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|byte| rest.any(|other| other == byte))
}

#[test]
fn captures_of_redis() {
    replay_group(|name| name.contains("redis"));
}

#[test]
fn captures_of_http() {
    replay_group(|name| name.contains("http") && !name.contains("mysql"));
}

#[test]
fn captures_of_mysql() {
    replay_group(|name| name.contains("mysql") || name.contains("mariadb"));
}

#[test]
fn other_captures() {
    replay_group(|name| {
        !["redis", "http", "mysql", "mariadb"].iter().any(|protocol| name.contains(protocol))
    });
}
