//! What the numbers mean for a replay, and what to do.
//!
//! Owns the warnings. Leaves the counting to [`crate::inspection`], the command lines to [`crate::commands`] and the layout to
//! [`crate::text`].

use crate::findings::{Findings, Role};
use crate::protocol::Protocol;
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Requests will be missing from a replay, or it can't work without doing something.
    Problem,
    /// Good to know.
    Notice,
}

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WarningKind {
    /// Files are damaged or could not be read.
    DamagedFiles,
    /// There is nothing to replay.
    NothingToReplay,
    /// Packets lie in tunnels that were not opened.
    Tunnels,
    /// Connections are encrypted.
    Encrypted,
    /// The capture cut packets of clients.
    ClientCut,
    /// Bytes of clients were not captured.
    ClientGaps,
    /// Packets of clients were not captured at all.
    ClientMissing,
    /// Connections began before the capture did.
    MidStream,
    /// Clients are on the loopback.
    Loopback,
    /// Clients have the address of their server.
    SameAddress,
    /// Servers get their requests from others in the capture.
    Upstream,
    /// Packets were captured more than once.
    Duplicates,
    /// HTTP/2, which no module knows.
    Http2,
    /// Headers that contradict themselves, or numbers in no window.
    Malformed,
    /// Not even headers were captured.
    HeadersCut,
    /// Fragments whose datagram never became whole.
    FragmentsLost,
    /// Connections end after the capture does.
    Unended,
    /// Connections that the server refused, or never answered.
    Refused,
    /// The capture cut packets of servers.
    ServerCut,
    /// Bytes of servers were not captured.
    ServerGaps,
    /// Packets of servers were not captured at all.
    ServerMissing,
    /// The capturing host merged segments.
    SuperSegments,
    /// Data came with the SYN.
    FastOpen,
    /// A bound on memory was reached.
    Limit,
}

/// Something to know before a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// What it is about.
    pub kind: WarningKind,
    /// How bad it is.
    pub severity: Severity,
    /// How much: connections, packets or files, as `found` says.
    pub count: u64,
    /// What was found.
    pub found: String,
    /// What it means for a replay.
    pub means: &'static str,
    /// What to do.
    pub advice: String,
}

/// A number and what it counts.
fn of(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", crate::text::number(n), if n == 1 { one } else { many })
}

fn connections(n: u64) -> String {
    of(n, "connection", "connections")
}

fn bytes(n: u64) -> String {
    of(n, "byte", "bytes")
}

/// What is wrong with the files themselves.
pub(crate) fn about_files(flaws: u64, unread: u64) -> Option<Warning> {
    (flaws + unread > 0).then(|| Warning {
        kind: WarningKind::DamagedFiles,
        severity: Severity::Problem,
        count: flaws + unread,
        found: match unread {
            0 => of(flaws, "flaw in the files", "flaws in the files"),
            _ => format!("{}, {}", of(flaws, "flaw", "flaws"), of(unread, "file that can't be read", "files that can't be read")),
        },
        means: "what is whole is replayed; connections with packets in the damaged parts have gaps, and the exit code is 3",
        advice: "copy or record the files again; a file that tcpdump was killed over lacks only its last packet".into(),
    })
}

/// Everything to know before a replay, the worst first.
pub(crate) fn warnings(findings: &Findings) -> Vec<Warning> {
    let mut list = Vec::new();
    let mut warn = |severity, kind, count: u64, found: String, means, advice: &str| {
        if count > 0 {
            list.push(Warning { kind, severity, count, found, means, advice: advice.to_owned() });
        }
    };
    about_sessions(findings, &mut warn);
    about_addresses(findings, &mut warn);
    about_packets(findings, &mut warn);
    about_limits(findings, &mut warn);
    // Stable: within a severity the order above stays.
    list.sort_by_key(|warning| warning.severity);
    list
}

/// Takes a warning, if its count is not zero.
type Warn<'a> = &'a mut dyn FnMut(Severity, WarningKind, u64, String, &'static str, &str);

fn about_sessions(findings: &Findings, warn: Warn<'_>) {
    use Severity::{Notice, Problem};
    let (c, client, server) = (&findings.connections, &findings.client, &findings.server);
    warn(
        Problem,
        WarningKind::Encrypted,
        c.encrypted,
        format!("{} of {} encrypted: {}", c.encrypted, connections(c.total), encrypted_ports(findings)),
        "can't be replayed: the target makes other keys than the client had, so the bytes mean nothing to it",
        "capture behind the TLS terminator, where the requests are in the clear; for databases, record with TLS off (MySQL: --ssl-mode=DISABLED, PostgreSQL: sslmode=disable)",
    );
    warn(
        Problem,
        WarningKind::ClientCut,
        c.client_cut,
        format!(
            "{} with {} that the capture cut, {} missing",
            connections(c.client_cut),
            of(client.cut, "client packet", "client packets"),
            bytes(client.cut_bytes)
        ),
        "requests with cut packets can't be replayed: their sessions are given up there (capture_truncated)",
        "record again with whole packets: tcpdump -s 0",
    );
    warn(
        Problem,
        WarningKind::ClientGaps,
        c.client_gaps,
        format!(
            "{} with {} of the client that were sent and not captured, in {}",
            connections(c.client_gaps),
            bytes(client.gap_bytes),
            of(client.gaps, "gap", "gaps")
        ),
        "sessions are given up at a gap (capture_gap); what came before is replayed",
        "record again with a larger buffer (tcpdump -B 65536), to a fast disk, with a filter for the server's port; look at \"packets dropped by kernel\"",
    );
    warn(
        Problem,
        WarningKind::ClientMissing,
        c.server_only,
        format!("{} of which only the server's packets were captured", connections(c.server_only)),
        "there is nothing to replay: requests are what the client sent",
        "record on the server itself, both directions: no filter with src, no tcpdump -Q out",
    );
    warn(
        Notice,
        WarningKind::MidStream,
        c.mid_stream,
        format!("{} of {} that began before the capture did", c.mid_stream, connections(c.total)),
        "they are joined where a request seems to begin; without a module that logs in, databases refuse such sessions",
        "record for longer than connections live, or start the clients after the recording; -O leaves these connections out",
    );
    warn(
        Notice,
        WarningKind::Unended,
        c.unended,
        format!("{} without an end in the capture", connections(c.unended)),
        "their sessions end when nothing more comes (-t after the last packet)",
        "a shorter -t ends a replay sooner",
    );
    warn(
        Notice,
        WarningKind::Refused,
        c.refused + c.unanswered,
        format!("{} refused by the server, {} never answered", connections(c.refused), c.unanswered),
        "their clients sent nothing; a replay opens and closes them, if at all",
        "look at whether the online server was overloaded while this was recorded",
    );
    warn(
        Notice,
        WarningKind::ServerCut,
        c.server_cut,
        format!(
            "{} with {} that the capture cut",
            connections(c.server_cut),
            of(server.cut, "server packet", "server packets")
        ),
        "requests are replayed all the same; modules that read what the online server answered miss a part of it",
        "record with whole packets for such modules: tcpdump -s 0",
    );
    warn(
        Notice,
        WarningKind::ServerGaps,
        c.server_gaps,
        format!(
            "{} with {} of the server that were not captured",
            connections(c.server_gaps),
            bytes(server.gap_bytes)
        ),
        "requests are replayed all the same; modules that read what the online server answered miss a part of it",
        "if the client's side has gaps too, record again with a larger buffer (tcpdump -B 65536)",
    );
    warn(
        Notice,
        WarningKind::ServerMissing,
        c.client_only,
        format!("{} of which only the client's packets were captured", connections(c.client_only)),
        "requests are replayed all the same, paced by what the client acknowledged; modules that need the online server's answers do less",
        "tcpcopy record --both, or tcpdump without a direction, records both",
    );
    let http2 = findings.ports.iter().flat_map(|port| &port.protocols);
    let http2: u64 = http2
        .filter(|count| matches!(count.protocol, Protocol::Http2 | Protocol::H2c))
        .map(|count| count.connections)
        .sum();
    warn(
        Notice,
        WarningKind::Http2,
        http2,
        format!("{} in HTTP/2", connections(http2)),
        "replayed byte by byte without a module, from the connection's start only; streams are not told apart",
        "-O leaves out connections that began before the capture did",
    );
}

/// The ports with encrypted connections, and the names they were asked for.
fn encrypted_ports(findings: &Findings) -> String {
    let mut text = String::new();
    for port in findings.ports.iter().filter(|port| port.encrypted > 0) {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&format!("port {}: {} of {}", port.port, port.encrypted, port.connections));
        if !port.tls_names.is_empty() {
            text.push_str(&format!(
                " ({}{})",
                port.tls_names.join(", "),
                if port.more_tls_names { ", …" } else { "" }
            ));
        }
        if text.len() > 400 {
            text.push_str("; …");
            break;
        }
    }
    text
}

fn about_addresses(findings: &Findings, warn: Warn<'_>) {
    use Severity::{Notice, Problem};
    let c = &findings.connections;
    warn(
        Problem,
        WarningKind::Loopback,
        c.loopback,
        format!("{} with a client on the loopback", connections(c.loopback)),
        "no other host can answer 127.0.0.1 or ::1: without an address for them, these connections are left out",
        "give them an address that the target routes to the assistant: -c ADDRESS for all clients, or -H ADDRESS for these only",
    );
    warn(
        Notice,
        WarningKind::SameAddress,
        c.same_address,
        format!("{} with a client that has its server's address", connections(c.same_address)),
        "replayed with that address, the target's answers must not reach the real host, which would reset them",
        "give clients other addresses with -c, or route that address to the assistant on the target",
    );
    let upstream: u64 = findings
        .ports
        .iter()
        .flat_map(|port| &port.servers)
        .filter(|server| server.role == Role::Upstream)
        .map(|server| server.connections)
        .sum();
    warn(
        Notice,
        WarningKind::Upstream,
        upstream,
        format!(
            "{} from servers of this capture to other servers: proxied requests, databases",
            connections(upstream)
        ),
        "replaying both sides sends what a request causes twice, if the target is connected to such servers as well",
        "choose one side with -x; with one port on several addresses, name the address: -x ONLINE_IP:PORT-TARGET:PORT",
    );
}

fn about_packets(findings: &Findings, warn: Warn<'_>) {
    use Severity::{Notice, Problem};
    let (p, client, server) = (&findings.packets, &findings.client, &findings.server);
    let tunnels = [("vxlan", p.vxlan), ("geneve", p.geneve), ("gre", p.gre), ("erspan", p.erspan)];
    let found: Vec<(&str, u64)> = tunnels.into_iter().filter(|(_, frames)| *frames > 0).collect();
    let frames = found.iter().map(|(_, frames)| frames).sum();
    let listed: Vec<String> =
        found.iter().map(|(kind, frames)| format!("{} in {kind}", crate::text::number(*frames))).collect();
    let kinds: Vec<&str> = found.iter().map(|(kind, _)| *kind).collect();
    warn(
        // Beside plain connections the tunnels may be anybody's.
        if findings.connections.total == 0 { Problem } else { Notice },
        WarningKind::Tunnels,
        frames,
        format!("frames with a tunnel's packet in them: {}", listed.join(", ")),
        "what is inside was not looked at, and is not replayed",
        &format!("--decap {} opens them, here and in a replay", kinds.join(",")),
    );
    warn(
        Notice,
        WarningKind::Duplicates,
        findings.duplicates,
        format!(
            "{} captured more than once, in {}",
            of(findings.duplicates, "packet", "packets"),
            connections(findings.connections.duplicated)
        ),
        "each byte is replayed once all the same; the capture is larger than it need be",
        "record on one interface: tcpdump -i eth0 instead of -i any, and not on a bridge and its ports at once",
    );
    warn(
        Problem,
        WarningKind::HeadersCut,
        p.headers_cut,
        of(
            p.headers_cut,
            "frame of which not even the headers were captured",
            "frames of which not even the headers were captured",
        ),
        "they are left out, which leaves gaps in their connections",
        "record again with whole packets: tcpdump -s 0",
    );
    warn(
        Problem,
        WarningKind::FragmentsLost,
        p.fragments_lost,
        format!(
            "{} of {} whose datagram never became whole",
            crate::text::number(p.fragments_lost),
            of(p.fragments, "IP fragment", "IP fragments")
        ),
        "what they carried is missing from its connection",
        "a capture filter with a port loses later fragments: add \"or (ip[6:2] & 0x1fff != 0)\"",
    );
    let odd = p.malformed + client.implausible + server.implausible;
    warn(
        Notice,
        WarningKind::Malformed,
        odd,
        format!(
            "{} with headers that contradict themselves, {} with numbers in no window",
            of(p.malformed, "packet", "packets"),
            crate::text::number(odd - p.malformed)
        ),
        "they are left out, as a receiver would leave them out; checksums are not looked at",
        "few are scanners; many are a wrong link type or a tunnel",
    );
    let merged = client.super_segments + server.super_segments;
    warn(
        Notice,
        WarningKind::SuperSegments,
        merged,
        format!(
            "{} longer than the receiver accepts: merged by the recording host (TSO, GRO)",
            of(merged, "segment", "segments")
        ),
        "no harm: they are cut to the target's segment size again",
        "nothing",
    );
    warn(
        Notice,
        WarningKind::FastOpen,
        findings.connections.fast_open,
        format!("{} with data in the SYN (TCP Fast Open)", connections(findings.connections.fast_open)),
        "the data is replayed behind an ordinary handshake",
        "nothing",
    );
}

fn about_limits(findings: &Findings, warn: Warn<'_>) {
    use Severity::{Notice, Problem};
    let c = &findings.connections;
    warn(
        Notice,
        WarningKind::Limit,
        c.forgotten + findings.other_servers_connections + findings.more_ports as u64,
        format!(
            "a bound on memory was reached: {} no longer followed while open, {} to servers not told apart, {} not listed",
            connections(c.forgotten),
            connections(findings.other_servers_connections),
            of(findings.more_ports as u64, "port", "ports")
        ),
        "the numbers here are less exact; a replay is not affected",
        "inspect a part of the files at a time",
    );
    let replayable = c.replayable + c.replayable_in_part;
    let (found, advice) = match (findings.packets.frames, c.total) {
        (0, _) => ("no frame", "look at whether the recording saw any traffic: interface, filter, rights"),
        (_, 0) => {
            ("no TCP connection", "look at the recording's filter and interface, and at tunnels (--decap)")
        }
        _ => ("no connection that can be replayed", "the other warnings say why"),
    };
    warn(
        Problem,
        WarningKind::NothingToReplay,
        u64::from(replayable == 0),
        format!("there is {found} in this capture"),
        "nothing would be sent",
        advice,
    );
}
