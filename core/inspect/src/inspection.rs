//! The table of connections, and what they add up to.
//!
//! Owns the bounds on memory: how many connections are followed at a time, and who is forgotten when there are more. Leaves frames to
//! [`crate::packets`], one connection to [`crate::connection`], and what the numbers mean to [`crate::advice`].

use crate::advice;
use crate::commands::commands;
use crate::connection::{Began, Change, Connection, FlowId, Roles, Side};
use crate::direction::Direction;
use crate::duplicates::{Duplicates, Identity};
use crate::findings::{ConnectionCounts, DirectionCounts, Findings};
use crate::packets::{Packets, Segment, address_bits};
use crate::protocol::Protocol;
use crate::servers::{Ports, Servers, Share};
use crate::tls::server_name;
use tcpcopy_capture_file::Frame;
use tcpcopy_engine::flow::{Endpoint, FlowMap};
use tcpcopy_engine::wire::tcp::TcpFlags;
use tcpcopy_engine::wire::tunnel::Decap;

/// How much an inspection may remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections followed at a time, each at some 500 bytes. At the bound, those that are over go first, then those that have been
    /// silent for longest.
    pub connections: usize,
    /// Servers (address and port) that are told apart.
    pub servers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 131_072, servers: 4096 }
    }
}

/// Connections that are over are looked for each time this many more have ended.
const SWEEP_EVERY: usize = 16_384;
/// How long a connection that is over is kept for what comes late, in nanoseconds of capture time.
const LINGER_NANOS: u64 = 30_000_000_000;

/// Connections being followed.
struct Table {
    index: FlowMap<FlowId, u32>,
    slots: Vec<Connection>,
    free: Vec<u32>,
    /// How many of those in the table are over.
    over: usize,
    /// How many may be, before they are looked for again.
    sweep_at: usize,
}

/// An inspection under way: takes frames in time order, and keeps a bounded summary.
pub struct Inspection {
    limits: Limits,
    decap: Decap,
    packets: Packets,
    state: State,
}

struct State {
    table: Table,
    duplicates: Duplicates,
    ports: Ports,
    servers: Servers,
    repeated_packets: u64,
    connections: ConnectionCounts,
    client: DirectionCounts,
    server: DirectionCounts,
    first_at: Option<u64>,
    last_at: u64,
}

impl Default for Inspection {
    fn default() -> Self {
        Self::new(Limits::default(), Decap::NONE)
    }
}

impl Inspection {
    /// An inspection that has seen nothing yet, and looks into the tunnels of `decap`.
    pub fn new(limits: Limits, decap: Decap) -> Self {
        let limits = Limits { connections: limits.connections.max(16), servers: limits.servers.max(1) };
        let table = Table {
            index: FlowMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            over: 0,
            sweep_at: SWEEP_EVERY.min(limits.connections),
        };
        Self {
            limits,
            decap,
            packets: Packets::new(decap),
            state: State {
                table,
                duplicates: Duplicates::new(),
                ports: Ports::new(),
                servers: Servers::new(limits.servers),
                repeated_packets: 0,
                connections: ConnectionCounts::default(),
                client: DirectionCounts::default(),
                server: DirectionCounts::default(),
                first_at: None,
                last_at: 0,
            },
        }
    }

    /// Takes the next frame.
    pub fn frame(&mut self, frame: &Frame<'_>) {
        let Self { limits, packets, state, .. } = self;
        packets.read(frame, |segment| state.take(segment, *limits));
    }

    /// Connections followed at the moment.
    pub fn connections_followed(&self) -> usize {
        self.state.table.index.len()
    }

    /// What was found. `files` are the captures as they would be named on a command line.
    pub fn finish(mut self, files: &[String]) -> Findings {
        let state = &mut self.state;
        let slots: Vec<u32> = state.table.index.values().copied().collect();
        for slot in slots {
            state.settle(slot);
        }
        let seconds = state.last_at.saturating_sub(state.first_at.unwrap_or(0)) as f64 / 1e9;
        let (ports, more_ports) = state.servers.findings(&state.ports, seconds);
        let mut findings = Findings {
            packets: self.packets.counts,
            first_at: state.first_at.unwrap_or(0),
            last_at: state.last_at,
            duplicates: state.repeated_packets,
            connections: state.connections,
            client: state.client,
            server: state.server,
            ports,
            more_ports,
            other_servers_connections: state.servers.not_told_apart,
            warnings: Vec::new(),
            commands: Vec::new(),
        };
        findings.commands = commands(&findings, files, self.decap);
        findings.warnings = advice::warnings(&findings);
        findings
    }
}

impl State {
    fn take(&mut self, segment: &Segment<'_>, limits: Limits) {
        self.first_at.get_or_insert(segment.at);
        self.last_at = self.last_at.max(segment.at);
        let identity = Identity {
            addresses: (address_bits(segment.from.addr), address_bits(segment.to.addr)),
            ip_id: segment.ip_id,
            tcp_header: segment.tcp_header,
            payload_len: segment.tcp.payload_len,
        };
        let is_repeated = self.duplicates.is_repeated(&identity, segment.at)
            // Without an identification, acknowledgements that are alike are a receiver's way to say that something is missing.
            && (segment.ip_id != 0
                || segment.tcp.payload_len > 0
                || segment.tcp.flags.intersects(TcpFlags::SYN | TcpFlags::FIN));
        let slot = self.slot(segment, limits);
        let connection = &mut self.table.slots[slot as usize];
        if is_repeated {
            self.repeated_packets += 1;
            connection.duplicates += 1;
            return;
        }
        let (was_silent, port) = (connection.protocol == Protocol::Silent, connection.server.port);
        let Change { ended, swapped } = connection.take(segment);
        if swapped && (!connection.ended || ended) {
            self.ports.close(port);
            self.ports.open(connection.server.port);
        }
        if ended {
            self.ports.close(connection.server.port);
            self.table.over += 1;
        }
        if was_silent
            && connection.protocol == Protocol::Tls
            && connection.side_of(segment.from) == Side::Client
            && let Some(name) = server_name(segment.tcp.payload)
        {
            self.servers.note_name(connection.server, name);
        }
        if self.table.over >= self.table.sweep_at {
            self.sweep(LINGER_NANOS);
            self.table.sweep_at = self.table.over + SWEEP_EVERY;
        }
    }

    /// The place of the connection that a segment belongs to, a new one if need be.
    fn slot(&mut self, segment: &Segment<'_>, limits: Limits) -> u32 {
        let (id, _) = FlowId::new(segment.from, segment.to);
        if let Some(&slot) = self.table.index.get(&id) {
            let is_syn = segment.tcp.flags.contains(TcpFlags::SYN);
            if !is_syn || !self.table.slots[slot as usize].is_other(segment) {
                return slot;
            }
            // The same ports again: another connection.
            self.settle(slot);
        }
        if self.table.index.len() >= limits.connections {
            self.make_room(limits.connections);
        }
        let connection = self.begin(id, segment);
        self.ports.note(connection.client.port, connection.server.port, connection.began);
        self.ports.open(connection.server.port);
        let slot = match self.table.free.pop() {
            Some(slot) => {
                self.table.slots[slot as usize] = connection;
                slot
            }
            None => {
                self.table.slots.push(connection);
                (self.table.slots.len() - 1) as u32
            }
        };
        self.table.index.insert(id, slot);
        slot
    }

    /// A connection whose first packet this is.
    fn begin(&self, id: FlowId, segment: &Segment<'_>) -> Connection {
        let (from, to) = (segment.from, segment.to);
        let flags = segment.tcp.flags;
        let (client, server, roles, began) =
            match (flags.contains(TcpFlags::SYN), flags.contains(TcpFlags::ACK)) {
                (true, false) => (from, to, Roles::Known, Began::Syn),
                (true, true) => (to, from, Roles::Known, Began::SynAck),
                _ if self.ports.is_server(from.port, to.port) => (to, from, Roles::Guessed, Began::Middle),
                _ => (from, to, Roles::Guessed, Began::Middle),
            };
        Connection::new(id, client, server, roles, began)
    }

    /// Settles connections that were over `linger` nanoseconds ago.
    fn sweep(&mut self, linger: u64) {
        let now = self.last_at;
        let slots = &self.table.slots;
        let is_done = |slot: u32| {
            let connection = &slots[slot as usize];
            connection.ended && now.saturating_sub(connection.last_at) >= linger
        };
        let done: Vec<u32> = self.table.index.values().copied().filter(|&slot| is_done(slot)).collect();
        for slot in done {
            self.settle(slot);
        }
    }

    /// Takes connections out of a full table: those that are over, and if most are not, the quarter that was silent for longest.
    fn make_room(&mut self, bound: usize) {
        self.sweep(0);
        if self.table.index.len() <= bound - bound / 8 {
            return;
        }
        let slots = &self.table.slots;
        let mut by_silence: Vec<(u64, u32)> =
            self.table.index.values().map(|&slot| (slots[slot as usize].last_at, slot)).collect();
        let forgotten = by_silence.len().div_ceil(4);
        by_silence.select_nth_unstable(forgotten - 1);
        for &(_, slot) in &by_silence[..forgotten] {
            self.connections.forgotten += 1;
            self.settle(slot);
        }
    }

    /// Adds a connection to the sums and takes it out of the table.
    fn settle(&mut self, slot: u32) {
        let nobody = Endpoint::new([0, 0, 0, 0].into(), 0);
        let (id, _) = FlowId::new(nobody, nobody);
        let empty = Connection::new(id, nobody, nobody, Roles::Known, Began::Middle);
        let mut connection = std::mem::replace(&mut self.table.slots[slot as usize], empty);
        self.table.index.remove(&connection.id);
        self.table.free.push(slot);
        if connection.ended {
            self.table.over = self.table.over.saturating_sub(1);
        } else {
            self.ports.close(connection.server.port);
        }
        // The ports may tell more by now than they did when it was first seen.
        if connection.roles == Roles::Guessed
            && matches!(connection.protocol, Protocol::Silent | Protocol::Unknown)
            && self.ports.is_server(connection.client.port, connection.server.port)
        {
            connection.swap();
        }
        let share = self.connections.add(&connection);
        self.client.add(&connection.from_client);
        self.server.add(&connection.from_server);
        self.servers.add(&connection, share);
    }
}

impl ConnectionCounts {
    /// Adds one connection; returns what it is to its server.
    fn add(&mut self, connection: &Connection) -> Share {
        let Connection { from_client, from_server, .. } = connection;
        let (client_gaps, server_gaps) = (from_client.gaps(), from_server.gaps());
        let syn = connection.began == Began::Syn;
        let some_end =
            from_client.finished() || from_server.finished() || from_client.reset || from_server.reset;
        self.total += 1;
        // The handshake is over when the client says anything more than its SYN, or the server anything at all.
        let is_unanswered =
            syn && from_server.packets == 0 && from_client.bytes == 0 && from_server.acknowledged() == 0;
        let kind = match connection.began {
            Began::Middle => &mut self.mid_stream,
            _ if connection.refused => &mut self.refused,
            _ if is_unanswered && !some_end => &mut self.unanswered,
            Began::Syn if some_end => &mut self.complete,
            // The answer tells where the client's bytes begin, as the SYN does.
            Began::SynAck if some_end => &mut self.complete,
            _ => &mut self.unended,
        };
        *kind += 1;
        let count = |counter: &mut u64, is_so: bool| *counter += u64::from(is_so);
        count(&mut self.with_syn, syn);
        count(&mut self.closed, from_client.finished() && from_server.finished());
        count(&mut self.reset, from_client.reset || from_server.reset);
        count(&mut self.client_only, from_server.packets == 0 && !is_unanswered);
        count(&mut self.server_only, from_client.packets == 0);
        count(&mut self.client_gaps, client_gaps.bytes > 0);
        count(&mut self.server_gaps, server_gaps.bytes > 0);
        count(&mut self.client_cut, from_client.cut > 0);
        count(&mut self.server_cut, from_server.cut > 0);
        count(&mut self.encrypted, connection.is_encrypted());
        let loopback = connection.client.addr.is_loopback();
        count(&mut self.loopback, loopback);
        count(&mut self.same_address, !loopback && connection.client.addr == connection.server.addr);
        count(&mut self.fast_open, connection.fast_open_data);
        count(&mut self.duplicated, connection.duplicates > 0);
        let usable = from_client.bytes > 0 && !connection.is_encrypted();
        let whole = usable && client_gaps.bytes == 0 && from_client.cut == 0;
        let share = Share {
            replayable: whole && connection.began == Began::Syn,
            replayable_in_part: usable && from_client.cut_bytes < from_client.bytes && !(whole && syn),
            loopback,
        };
        count(&mut self.replayable, share.replayable);
        count(&mut self.replayable_in_part, share.replayable_in_part);
        share
    }
}

impl DirectionCounts {
    fn add(&mut self, direction: &Direction) {
        let gaps = direction.gaps();
        self.packets += direction.packets;
        self.bytes += direction.bytes;
        self.gaps += gaps.number;
        self.gap_bytes += gaps.bytes;
        self.repeated += direction.repeated;
        self.out_of_order += direction.late;
        self.probes += direction.probes;
        self.cut += direction.cut;
        self.cut_bytes += direction.cut_bytes;
        self.super_segments += direction.super_segments;
        self.implausible += direction.implausible;
    }
}
