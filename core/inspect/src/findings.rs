//! What an inspection found: plain numbers, for the text, for JSON and for whoever calls the library.

use crate::advice::Warning;
use crate::commands::Suggestion;
use crate::packets::PacketCounts;
use crate::protocol::Protocol;
use serde::Serialize;
use std::net::IpAddr;

/// How the connections of a capture began, ended, and were captured.
///
/// `complete`, `unended`, `mid_stream`, `refused` and `unanswered` add up to `total`. The others are about all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionCounts {
    /// TCP connections.
    pub total: u64,
    /// Captured from the SYN to a FIN or reset.
    pub complete: u64,
    /// Captured from the SYN on, without an end.
    pub unended: u64,
    /// Captured from somewhere behind the handshake on.
    pub mid_stream: u64,
    /// Whose SYN was answered with a reset.
    pub refused: u64,
    /// Of whose handshake nothing but the SYN was captured, and nothing after it.
    pub unanswered: u64,
    /// With a SYN of the client.
    pub with_syn: u64,
    /// Both sides of which sent a FIN.
    pub closed: u64,
    /// With a reset from either side.
    pub reset: u64,
    /// Of which only the client's packets were captured.
    pub client_only: u64,
    /// Of which only the server's packets were captured.
    pub server_only: u64,
    /// With bytes of the client that were sent and not captured.
    pub client_gaps: u64,
    /// The same of the server.
    pub server_gaps: u64,
    /// With client packets that the capture cut.
    pub client_cut: u64,
    /// The same of the server.
    pub server_cut: u64,
    /// Turned to TLS, or encrypted from the start.
    pub encrypted: u64,
    /// Whose clients have loopback addresses.
    pub loopback: u64,
    /// Whose clients have the address of their server, loopback not counted.
    pub same_address: u64,
    /// With data in the SYN (TCP Fast Open).
    pub fast_open: u64,
    /// With packets captured more than once.
    pub duplicated: u64,
    /// Captured from the SYN on, every byte of the client, not encrypted, and with at least one byte: as good as the original.
    pub replayable: u64,
    /// From the middle, not encrypted, with client bytes: replayed from a request's beginning on, if one is found.
    pub replayable_in_part: u64,
    /// Given up while they were open, to make room for others. What came later of them counts as another connection.
    pub forgotten: u64,
}

/// What was captured of one side of all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DirectionCounts {
    /// Packets, duplicates not counted.
    pub packets: u64,
    /// Payload bytes, each once.
    pub bytes: u64,
    /// Holes, as later acknowledgements and sequence numbers show.
    pub gaps: u64,
    /// Bytes that are missing there.
    pub gap_bytes: u64,
    /// Segments that brought nothing new: retransmissions.
    pub repeated: u64,
    /// Segments that came after later ones.
    pub out_of_order: u64,
    /// Keep-alive and window probes.
    pub probes: u64,
    /// Segments that the capture cut.
    pub cut: u64,
    /// Payload bytes that were cut off.
    pub cut_bytes: u64,
    /// Segments longer than the receiver's segment size: put together by the capturing host (TSO, GRO).
    pub super_segments: u64,
    /// Segments and acknowledgements whose numbers lie in no window.
    pub implausible: u64,
}

/// How many connections speak a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ProtocolCount {
    /// The protocol.
    pub protocol: Protocol,
    /// Connections.
    pub connections: u64,
}

/// What a server is to the others in the capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Clients of their own connect to it.
    Front,
    /// All who connect to it are servers in this capture themselves: what it serves follows from their requests.
    Upstream,
}

/// One server: an address at a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerFindings {
    /// Its address.
    pub address: IpAddr,
    /// Connections to it.
    pub connections: u64,
    /// Bytes of its clients.
    pub client_bytes: u64,
    /// What it is to the others.
    pub role: Role,
}

/// One server port, of all addresses that serve it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PortFindings {
    /// The port.
    pub port: u16,
    /// Connections.
    pub connections: u64,
    /// Of those, captured from the middle.
    pub mid_stream: u64,
    /// Of those, as good as the original.
    pub replayable: u64,
    /// Of those, from the middle but not without hope.
    pub replayable_in_part: u64,
    /// Of those, encrypted.
    pub encrypted: u64,
    /// Of those, with loopback clients.
    pub loopback: u64,
    /// Bytes of clients, each once.
    pub client_bytes: u64,
    /// Bytes of servers, each once.
    pub server_bytes: u64,
    /// Requests, as far as they can be told without knowing the protocol: times that a client sent after having read more.
    pub requests: u64,
    /// Most connections open at a time.
    pub peak: u32,
    /// Connections a second, over the time that the capture spans, or one second if that is less.
    pub connections_per_second: f64,
    /// Protocols, most connections first.
    pub protocols: Vec<ProtocolCount>,
    /// Names that clients asked for in TLS, at most [`crate::MAX_NAMES`].
    pub tls_names: Vec<String>,
    /// Whether there were more names.
    pub more_tls_names: bool,
    /// Servers, most connections first; at most [`crate::MAX_LISTED_SERVERS`].
    pub servers: Vec<ServerFindings>,
    /// Servers that are not listed.
    pub more_servers: usize,
}

impl PortFindings {
    /// The protocol that most connections speak which say anything; `None` when no byte was captured.
    pub fn main_protocol(&self) -> Option<Protocol> {
        self.protocols.iter().map(|count| count.protocol).find(|&protocol| protocol != Protocol::Silent)
    }

    /// Whether something of the port can be replayed.
    pub fn can_be_replayed(&self) -> bool {
        self.replayable + self.replayable_in_part > 0
    }

    /// Whether every server of the port is fed by other servers of the capture.
    pub fn is_upstream(&self) -> bool {
        self.servers.iter().all(|server| server.role == Role::Upstream)
    }
}

/// Everything found in the packets of a capture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Findings {
    /// Packets by kind.
    pub packets: PacketCounts,
    /// Capture time of the first TCP segment, Unix nanoseconds; 0 without any.
    pub first_at: u64,
    /// Capture time of the last.
    pub last_at: u64,
    /// Packets that were captured more than once.
    pub duplicates: u64,
    /// Connections.
    pub connections: ConnectionCounts,
    /// What clients sent.
    pub client: DirectionCounts,
    /// What servers sent.
    pub server: DirectionCounts,
    /// Server ports, most client bytes first; at most [`crate::MAX_LISTED_PORTS`].
    pub ports: Vec<PortFindings>,
    /// Ports that are not listed.
    pub more_ports: usize,
    /// Connections to servers beyond the number that is told apart; they count in `connections`, and in no port.
    pub other_servers_connections: u64,
    /// What to know before a replay, the worst first.
    pub warnings: Vec<Warning>,
    /// A command line for each port that can be replayed, most traffic first.
    pub commands: Vec<Suggestion>,
}

impl Findings {
    /// Seconds between the first and the last TCP segment.
    pub fn seconds(&self) -> f64 {
        self.last_at.saturating_sub(self.first_at) as f64 / 1e9
    }
}
