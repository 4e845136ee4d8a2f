//! The relay connections of one `tcpcopy` worker.
//!
//! Owns the connections to every `intercept`: making them without blocking, the handshake, re-making lost ones with
//! back-off, queues of routes, and reading replies. It leaves the bytes of the protocol to `tcpcopy_engine::relay`, what a
//! reply means to the engine, and waiting to the worker's loop:
//!
//! ```text
//! relay.start(&poller, now);
//! loop {
//!     poller.wait(until relay.poll_timeout() …);
//!     for events of tokens that relay.owns_token(): relay.handle_event(event, &poller, now);
//!     relay.handle_timeout(now, &poller);                      // when poll_timeout() has passed
//!     relay.drain(now, &mut |event| …);                        // replies, and who came and went
//!     while let Some(server) = relay.missing_routes() { relay.resend_routes(server, live flows); }
//!     … the engine runs: relay.add_route(), relay.remove_route() …
//!     relay.flush(&poller, now);                               // one write per connection
//! }
//! ```
//!
//! There is no thread and no lock, and nothing here blocks.

mod connection;
mod error;

pub use error::{RelayError, ServerFailure};

use connection::{Connection, Drained, State};
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::protocol::Bodies;
use tcpcopy_engine::relay::hello::{AssistantFacts, PeerId};
use tcpcopy_engine::relay::message::{InterceptStats, RouteRefusal, ToIntercept};
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_net::poll::{Event, Poller};

/// What one worker's relay connections need to know.
#[derive(Clone)]
pub struct RelayOptions {
    /// The `intercept`s (`-s`); each gets every route, since a reply may be routed to any of them.
    pub servers: Vec<Endpoint>,
    /// Connections to each of them (`-C`); 0 counts as 1.
    pub connections_per_server: u16,
    /// The shared token; `None` talks only to an `intercept` that wants none.
    pub token: Option<Vec<u8>>,
    /// What routes will ask for. They may ask for something else; a reply that comes before `intercept` knows may be cut then.
    pub bodies: Bodies,
    /// Random number of this process, the same for all workers.
    pub instance: [u8; 16],
    /// This worker.
    pub worker: u16,
    /// The poller tokens from here on, one per connection, belong to these connections.
    pub first_token: u64,
}

/// What a worker is told by [`RelayClients::drain`].
#[derive(Debug)]
pub enum RelayEvent<'a> {
    /// A packet of a target. Its flow is found from the packet itself.
    Reply {
        /// IP header, TCP header and as much of the body as the route asked for.
        packet: &'a [u8],
        /// Length of the IP packet on the wire, in bytes.
        wire_len: usize,
        /// How long ago it was captured, when `intercept` queued it for us. The way here is not in it; half of
        /// [`ServerStatistics::round_trip`] is an estimate of that.
        age: Duration,
    },
    /// `intercept` did not take the route: another instance owns the flow key, or its table is full.
    RouteRefused(FlowKey),
    /// The first connection to a server was made, or the first after all were lost.
    Connected {
        /// Index of the server in [`RelayOptions::servers`].
        server: usize,
        /// What it told about the host that it runs on.
        facts: &'a AssistantFacts,
    },
    /// A connection was lost, or could not be made. An error that repeats is told once.
    Disconnected {
        /// Index of the server in [`RelayOptions::servers`].
        server: usize,
        /// Connections to it that are still up.
        remaining: usize,
        /// Why.
        error: &'a RelayError,
    },
    /// Counters of an `intercept`, about once a second.
    ServerStats {
        /// Index of the server in [`RelayOptions::servers`].
        server: usize,
        /// Its counters, since its start.
        stats: &'a InterceptStats,
    },
}

/// What happened with one server's connections so far.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ServerStatistics {
    /// Its address.
    pub server: String,
    /// Connections that are up.
    pub connected: usize,
    /// Connections that should be.
    pub connections: usize,
    /// Connections that were lost after they had been up.
    pub lost: u64,
    /// Connections made again after such a loss.
    pub reconnects: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Replies received.
    pub replies: u64,
    /// Routes that it refused because another instance owns the flow key.
    pub routes_refused_owned: u64,
    /// Routes that it refused because its table is full.
    pub routes_refused_full: u64,
    /// Routes that could not be sent at once (connection down or queue full) and were asked for again.
    pub routes_deferred: u64,
    /// Time from a ping to its pong, smoothed.
    pub round_trip: Option<Duration>,
    /// The last error, if any.
    pub last_error: Option<String>,
    /// Its counters, as it last told them.
    pub intercept: InterceptStats,
}

struct Server {
    endpoint: Endpoint,
    connections: Vec<Connection>,
    /// A route may be missing at this server: see [`RelayClients::missing_routes`].
    routes_missing: bool,
    was_connected: bool,
    facts: AssistantFacts,
    statistics: ServerStatistics,
}

impl Server {
    fn live(&self) -> usize {
        self.connections.iter().filter(|connection| connection.is_live()).count()
    }

    /// The connection that a flow's routes go over: always the same one while it lives, else the next that does.
    fn connection_for(&mut self, hash: u64) -> Option<&mut Connection> {
        let count = self.connections.len();
        let home = (hash % count as u64) as usize;
        let index = (0..count).map(|i| (home + i) % count).find(|i| self.connections[*i].is_live())?;
        self.connections.get_mut(index)
    }

    fn send_route(&mut self, hash: u64, message: ToIntercept) {
        let queued = self.connection_for(hash).is_some_and(|connection| connection.queue(message));
        // A removal that gets lost only leaves a route that times out, or is taken over when the key is used again.
        if !queued && matches!(message, ToIntercept::RouteAdd { .. }) {
            self.routes_missing = true;
            self.statistics.routes_deferred += 1;
        }
    }
}

/// Something to be told at the next drain.
enum Notice {
    Connected { server: usize },
    Disconnected { server: usize, remaining: usize, error: Arc<RelayError> },
}

/// All relay connections of one worker.
pub struct RelayClients {
    servers: Vec<Server>,
    first_token: u64,
    per_server: usize,
    notices: VecDeque<Notice>,
    hasher: foldhash::fast::FixedState,
}

impl RelayClients {
    /// The connections as they will be; nothing is opened yet.
    pub fn new(options: RelayOptions) -> Self {
        let per_server = options.connections_per_server.max(1);
        let servers = options
            .servers
            .iter()
            .map(|endpoint| Server {
                endpoint: *endpoint,
                connections: (0..per_server)
                    .map(|connection| {
                        let peer = PeerId { instance: options.instance, worker: options.worker, connection };
                        Connection::new(
                            SocketAddr::from(*endpoint),
                            peer,
                            options.token.clone(),
                            options.bodies,
                        )
                    })
                    .collect(),
                routes_missing: false,
                was_connected: false,
                facts: AssistantFacts::default(),
                statistics: ServerStatistics {
                    server: endpoint.to_string(),
                    connected: 0,
                    connections: usize::from(per_server),
                    lost: 0,
                    reconnects: 0,
                    bytes_received: 0,
                    bytes_sent: 0,
                    replies: 0,
                    routes_refused_owned: 0,
                    routes_refused_full: 0,
                    routes_deferred: 0,
                    round_trip: None,
                    last_error: None,
                    intercept: InterceptStats::default(),
                },
            })
            .collect();
        Self {
            servers,
            first_token: options.first_token,
            per_server: usize::from(per_server),
            notices: VecDeque::new(),
            hasher: foldhash::fast::FixedState::default(),
        }
    }

    /// Starts to connect to every server.
    pub fn start(&mut self, poller: &Poller, now: Instant) {
        self.each_connection(|clients, server, connection, token| {
            let result = clients.servers[server].connections[connection].connect(poller, token, now);
            clients.settle(server, connection, result, now);
        });
    }

    /// Whether a poller token belongs to one of these connections.
    pub fn owns_token(&self, token: u64) -> bool {
        self.locate(token).is_some()
    }

    /// Handles what the poller says about one connection; a token of someone else is ignored. Replies are not read here but in
    /// [`RelayClients::drain`], which must follow.
    pub fn handle_event(&mut self, event: Event, poller: &Poller, now: Instant) {
        let Some((server, connection)) = self.locate(event.token) else { return };
        let result = self.servers[server].connections[connection].handle_event(event, poller, now);
        self.settle(server, connection, result, now);
    }

    /// Reads what has come, at most 256 KiB per connection, and tells it to `each`.
    pub fn drain(&mut self, now: Instant, each: &mut dyn FnMut(RelayEvent<'_>)) {
        for server in 0..self.servers.len() {
            for connection in 0..self.per_server {
                let Server { connections, statistics, .. } = &mut self.servers[server];
                if !connections[connection].has_input() {
                    continue;
                }
                let result = connections[connection].drain(now, &mut |drained| match drained {
                    Drained::Reply(reply) => {
                        statistics.replies += 1;
                        each(RelayEvent::Reply {
                            packet: reply.packet,
                            wire_len: reply.wire_len as usize,
                            age: Duration::from_micros(reply.age_micros.into()),
                        });
                    }
                    Drained::RouteRefused(flow, reason) => {
                        match reason {
                            RouteRefusal::Owned => statistics.routes_refused_owned += 1,
                            RouteRefusal::TableFull => statistics.routes_refused_full += 1,
                        }
                        each(RelayEvent::RouteRefused(flow));
                    }
                    Drained::Stats(stats) => {
                        statistics.intercept = stats;
                        each(RelayEvent::ServerStats { server, stats: &stats });
                    }
                });
                self.settle(server, connection, result, now);
            }
        }
        while let Some(notice) = self.notices.pop_front() {
            match notice {
                Notice::Connected { server } => {
                    each(RelayEvent::Connected { server, facts: &self.servers[server].facts });
                }
                Notice::Disconnected { server, remaining, error } => {
                    each(RelayEvent::Disconnected { server, remaining, error: &error });
                }
            }
        }
    }

    /// Asks every server for the replies of `flow`, with `body_limit` bytes of each one's TCP payload. To be sent by
    /// [`RelayClients::flush`].
    pub fn add_route(&mut self, flow: FlowKey, body_limit: u32) {
        self.send_route(flow, ToIntercept::RouteAdd { flow, body_limit });
    }

    /// Tells every server that replies of `flow` are no longer wanted.
    pub fn remove_route(&mut self, flow: FlowKey) {
        self.send_route(flow, ToIntercept::RouteRemove { flow });
    }

    /// A server that may lack routes, because a connection was lost or a queue was full: the caller answers with
    /// [`RelayClients::resend_routes`]. `None` when there is none that could take them now.
    pub fn missing_routes(&mut self) -> Option<usize> {
        let found = self.servers.iter().position(|server| {
            server.routes_missing && server.connections.iter().any(Connection::may_take_many)
        })?;
        self.servers[found].routes_missing = false;
        Some(found)
    }

    /// Asks one server for the replies of all of `flows`, with their body limits. A route that it has already does no harm.
    pub fn resend_routes(&mut self, server: usize, flows: impl Iterator<Item = (FlowKey, u32)>) {
        let Some(server) = self.servers.get_mut(server) else { return };
        for (flow, body_limit) in flows {
            server.send_route(self.hasher.hash_one(flow), ToIntercept::RouteAdd { flow, body_limit });
        }
    }

    /// Writes what is queued: one system call per connection that has something.
    pub fn flush(&mut self, poller: &Poller, now: Instant) {
        self.each_connection(|clients, server, connection, token| {
            let found = &mut clients.servers[server].connections[connection];
            if found.has_output() {
                let result = found.flush(poller, token);
                clients.settle(server, connection, result, now);
            }
        });
    }

    /// Does what time asks for: connects again, gives up waiting, pings.
    pub fn handle_timeout(&mut self, now: Instant, poller: &Poller) {
        self.each_connection(|clients, server, connection, token| {
            let found = &mut clients.servers[server].connections[connection];
            if found.poll_timeout().is_some_and(|at| at <= now) {
                let result = found.handle_timeout(now, poller, token);
                clients.settle(server, connection, result, now);
            }
        });
    }

    /// When [`RelayClients::handle_timeout`] is next to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.servers.iter().flat_map(|server| &server.connections).filter_map(Connection::poll_timeout).min()
    }

    /// Whether every server has at least one connection up.
    pub fn is_ready(&self) -> bool {
        self.servers.iter().all(|server| server.live() > 0)
    }

    /// Whether any server has a connection up.
    pub fn is_any_ready(&self) -> bool {
        self.servers.iter().any(|server| server.live() > 0)
    }

    /// At the start: why no server can be reached, one entry per server. `None` while one of them has been reached at any
    /// time, or has not been tried to the end.
    pub fn start_failure(&self) -> Option<Vec<ServerFailure>> {
        self.servers
            .iter()
            .map(|server| {
                let error = server.connections.iter().find_map(Connection::failure)?;
                let tried = !server.was_connected && server.connections.iter().all(Connection::was_tried);
                tried.then(|| ServerFailure {
                    server: server.endpoint,
                    error: error.to_string(),
                    hint: error.hint(server.endpoint),
                })
            })
            .collect()
    }

    /// What happened so far, one entry per server.
    pub fn statistics(&self) -> Vec<ServerStatistics> {
        self.servers
            .iter()
            .map(|server| {
                let mut statistics = server.statistics.clone();
                statistics.connected = server.live();
                for connection in &server.connections {
                    statistics.bytes_received += connection.bytes_received;
                    statistics.bytes_sent += connection.bytes_sent;
                }
                statistics.round_trip = server.connections.iter().filter_map(|c| c.round_trip).min();
                statistics
            })
            .collect()
    }

    fn send_route(&mut self, flow: FlowKey, message: ToIntercept) {
        let hash = self.hasher.hash_one(flow);
        for server in &mut self.servers {
            server.send_route(hash, message);
        }
    }

    fn locate(&self, token: u64) -> Option<(usize, usize)> {
        let index = usize::try_from(token.checked_sub(self.first_token)?).ok()?;
        let server = index / self.per_server;
        (server < self.servers.len()).then_some((server, index % self.per_server))
    }

    fn each_connection(&mut self, mut each: impl FnMut(&mut Self, usize, usize, u64)) {
        for server in 0..self.servers.len() {
            for connection in 0..self.per_server {
                let token = self.first_token + (server * self.per_server + connection) as u64;
                each(self, server, connection, token);
            }
        }
    }

    /// Takes note of where a connection has got to: up, still up, or failed with an error that it is to be retried after.
    fn settle(&mut self, server: usize, connection: usize, result: Result<State, RelayError>, now: Instant) {
        let live_before = self.servers[server].live();
        let Server { connections, statistics, routes_missing, was_connected, facts, .. } =
            &mut self.servers[server];
        let connection = &mut connections[connection];
        match result {
            Ok(State::Unchanged) => {}
            Ok(State::Established(told)) => {
                // Flows may have begun, or this connection's queue may have been lost, since it was last up.
                *routes_missing = true;
                if connection.was_lost() {
                    statistics.reconnects += 1;
                }
                *was_connected = true;
                *facts = told;
                if live_before == 1 {
                    self.notices.push_back(Notice::Connected { server });
                }
            }
            Err(error) => {
                let was_live = connection.is_live();
                let text = error.to_string();
                let is_news = was_live || statistics.last_error.as_ref() != Some(&text);
                statistics.lost += u64::from(was_live);
                statistics.last_error = Some(text);
                let error = Arc::new(error);
                connection.fail(Arc::clone(&error), now);
                if is_news {
                    let remaining = live_before - usize::from(was_live);
                    self.notices.push_back(Notice::Disconnected { server, remaining, error });
                }
            }
        }
    }
}
