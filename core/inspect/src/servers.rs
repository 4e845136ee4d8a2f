//! What is known of servers and ports, in bounded memory.
//!
//! Owns the guess who of two ends is the server, the count of open connections at each port, and the sums for each server. Leaves
//! the rest of a connection to [`crate::connection`].

use crate::connection::{Began, Connection};
use crate::findings::{PortFindings, ProtocolCount, Role, ServerFindings};
use crate::protocol::Protocol;
use crate::{MAX_LISTED_PORTS, MAX_LISTED_SERVERS, MAX_NAMES};
use std::collections::BTreeMap;
use std::net::IpAddr;
use tcpcopy_engine::flow::{Endpoint, FlowMap};

/// Client addresses that are remembered of each server: enough to see whether they are servers themselves.
const MAX_CLIENTS: usize = 16;
const PORTS: usize = 1 << 16;

/// Ports that servers listen on and clients are never given.
const WELL_KNOWN: [u16; 24] = [
    22, 25, 53, 80, 110, 143, 389, 443, 465, 993, 1433, 1521, 3306, 3389, 5432, 5672, 6379, 8000, 8080, 8443,
    9092, 9200, 11211, 27017,
];

/// Numbers about each of the 65536 ports.
pub(crate) struct Ports {
    /// Connections that the port took part in, on either side.
    seen: Box<[u32]>,
    /// Handshakes in which it was the server's.
    served: Box<[u32]>,
    /// Connections now open to it.
    live: Box<[u32]>,
    /// Most of those.
    peak: Box<[u32]>,
}

impl Ports {
    pub(crate) fn new() -> Self {
        let zeros = || vec![0; PORTS].into_boxed_slice();
        Self { seen: zeros(), served: zeros(), live: zeros(), peak: zeros() }
    }

    /// Remembers that a connection has these ends.
    pub(crate) fn note(&mut self, client: u16, server: u16, began: Began) {
        for port in [client, server] {
            self.seen[usize::from(port)] = self.seen[usize::from(port)].saturating_add(1);
        }
        if began != Began::Middle {
            self.served[usize::from(server)] = self.served[usize::from(server)].saturating_add(1);
        }
    }

    /// A connection to `port` was opened.
    pub(crate) fn open(&mut self, port: u16) {
        let port = usize::from(port);
        self.live[port] += 1;
        self.peak[port] = self.peak[port].max(self.live[port]);
    }

    /// A connection to `port` is over.
    pub(crate) fn close(&mut self, port: u16) {
        let live = &mut self.live[usize::from(port)];
        *live = live.saturating_sub(1);
    }

    /// Whether `a` is more likely the server's port than `b`: one that was seen to serve, then a well-known one, then the one that
    /// more connections share, then the lower one.
    pub(crate) fn is_server(&self, a: u16, b: u16) -> bool {
        let of = |port: u16| {
            let index = usize::from(port);
            let shared = if self.seen[index] > 1 { self.seen[index] } else { 0 };
            (self.served[index] > 0, WELL_KNOWN.contains(&port), shared, std::cmp::Reverse(port))
        };
        of(a) > of(b)
    }
}

/// Sums over the connections to one server.
#[derive(Default)]
struct Totals {
    connections: u64,
    mid_stream: u64,
    replayable: u64,
    replayable_in_part: u64,
    encrypted: u64,
    loopback: u64,
    client_bytes: u64,
    server_bytes: u64,
    requests: u64,
    protocols: [u64; Protocol::ALL.len()],
    clients: Vec<IpAddr>,
    more_clients: bool,
    names: Vec<String>,
    more_names: bool,
}

/// What a finished connection adds to its server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    pub(crate) replayable: bool,
    pub(crate) replayable_in_part: bool,
    pub(crate) loopback: bool,
}

/// All servers, up to a bound.
pub(crate) struct Servers {
    map: FlowMap<Endpoint, Totals>,
    max: usize,
    pub(crate) not_told_apart: u64,
}

impl Servers {
    pub(crate) fn new(max: usize) -> Self {
        Self { map: FlowMap::default(), max, not_told_apart: 0 }
    }

    fn totals(&mut self, server: Endpoint) -> Option<&mut Totals> {
        if self.map.len() >= self.max && !self.map.contains_key(&server) {
            return None;
        }
        Some(self.map.entry(server).or_default())
    }

    /// Adds a connection of which nothing more is expected.
    pub(crate) fn add(&mut self, connection: &Connection, share: Share) {
        let Some(totals) = self.totals(connection.server) else {
            self.not_told_apart += 1;
            return;
        };
        totals.connections += 1;
        totals.mid_stream += u64::from(connection.began == Began::Middle);
        totals.replayable += u64::from(share.replayable);
        totals.replayable_in_part += u64::from(share.replayable_in_part);
        totals.encrypted += u64::from(connection.is_encrypted());
        totals.loopback += u64::from(share.loopback);
        totals.client_bytes += connection.from_client.bytes;
        totals.server_bytes += connection.from_server.bytes;
        totals.requests += connection.requests();
        totals.protocols[connection.protocol as usize] += 1;
        let client = connection.client.addr;
        if !totals.clients.contains(&client) {
            if totals.clients.len() < MAX_CLIENTS {
                totals.clients.push(client);
            } else {
                totals.more_clients = true;
            }
        }
    }

    /// Remembers the name that a client asked a server for.
    pub(crate) fn note_name(&mut self, server: Endpoint, name: &str) {
        let Some(totals) = self.totals(server) else { return };
        if !totals.names.iter().any(|known| known == name) {
            if totals.names.len() < MAX_NAMES {
                totals.names.push(name.to_owned());
            } else {
                totals.more_names = true;
            }
        }
    }

    /// Everything about each port, those with the most client bytes first, and how many had to be left out.
    pub(crate) fn findings(&self, ports: &Ports, seconds: f64) -> (Vec<PortFindings>, usize) {
        let mut by_port: BTreeMap<u16, Vec<(Endpoint, &Totals)>> = BTreeMap::new();
        for (server, totals) in self.map.iter().filter(|(_, totals)| totals.connections > 0) {
            by_port.entry(server.port).or_default().push((*server, totals));
        }
        let fronts = self.fronts();
        let mut findings: Vec<PortFindings> = by_port
            .into_iter()
            .map(|(port, servers)| {
                port_findings(port, servers, ports.peak[usize::from(port)], seconds, |totals| {
                    role(totals, &fronts)
                })
            })
            .collect();
        findings.sort_by_key(|f| std::cmp::Reverse((f.client_bytes, f.connections)));
        let more = findings.len().saturating_sub(MAX_LISTED_PORTS);
        findings.truncate(MAX_LISTED_PORTS);
        (findings, more)
    }

    /// Addresses of servers that have clients which are no servers in this capture.
    fn fronts(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = self.map.keys().map(|server| server.addr).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let is_server = |client: &IpAddr| addresses.binary_search(client).is_ok();
        let mut fronts: Vec<IpAddr> = self
            .map
            .iter()
            .filter(|(_, totals)| {
                let outside = |client: &IpAddr| !client.is_loopback() && !is_server(client);
                totals.more_clients || totals.clients.iter().any(outside)
            })
            .map(|(server, _)| server.addr)
            .collect();
        fronts.sort_unstable();
        fronts.dedup();
        fronts
    }
}

/// A server is an upstream when all its clients are fronts, or loopback addresses of a host that has a front.
fn role(totals: &Totals, fronts: &[IpAddr]) -> Role {
    let is_inside = |client: &IpAddr| {
        (client.is_loopback() && !fronts.is_empty()) || fronts.binary_search(client).is_ok()
    };
    if !totals.more_clients && totals.clients.iter().all(is_inside) { Role::Upstream } else { Role::Front }
}

fn port_findings(
    port: u16,
    mut servers: Vec<(Endpoint, &Totals)>,
    peak: u32,
    seconds: f64,
    role: impl Fn(&Totals) -> Role,
) -> PortFindings {
    servers.sort_by_key(|(server, totals)| (std::cmp::Reverse(totals.connections), *server));
    let sum = |of: fn(&Totals) -> u64| servers.iter().map(|(_, totals)| of(totals)).sum::<u64>();
    let connections = sum(|t| t.connections);
    let mut protocols: Vec<ProtocolCount> = Protocol::ALL
        .into_iter()
        .map(|protocol| ProtocolCount {
            protocol,
            connections: servers.iter().map(|(_, totals)| totals.protocols[protocol as usize]).sum(),
        })
        .filter(|count| count.connections > 0)
        .collect();
    protocols.sort_by_key(|count| (std::cmp::Reverse(count.connections), count.protocol));
    let mut tls_names: Vec<String> =
        servers.iter().flat_map(|(_, totals)| totals.names.iter().cloned()).collect();
    tls_names.sort_unstable();
    tls_names.dedup();
    let more_tls_names = tls_names.len() > MAX_NAMES || servers.iter().any(|(_, totals)| totals.more_names);
    tls_names.truncate(MAX_NAMES);
    PortFindings {
        port,
        connections,
        mid_stream: sum(|t| t.mid_stream),
        replayable: sum(|t| t.replayable),
        replayable_in_part: sum(|t| t.replayable_in_part),
        encrypted: sum(|t| t.encrypted),
        loopback: sum(|t| t.loopback),
        client_bytes: sum(|t| t.client_bytes),
        server_bytes: sum(|t| t.server_bytes),
        requests: sum(|t| t.requests),
        peak,
        connections_per_second: connections as f64 / seconds.max(1.0),
        protocols,
        tls_names,
        more_tls_names,
        more_servers: servers.len().saturating_sub(MAX_LISTED_SERVERS),
        servers: servers
            .iter()
            .take(MAX_LISTED_SERVERS)
            .map(|(server, totals)| ServerFindings {
                address: server.addr,
                connections: totals.connections,
                client_bytes: totals.client_bytes,
                role: role(totals),
            })
            .collect(),
    }
}
