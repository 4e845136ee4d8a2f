//! All relay connections, and the way of a reply to the right one of them.
//!
//! Owns connections, routes and early replies, and closes connections whose peer does not behave; where a reply goes is in
//! [`delivery`]. It leaves capturing to
//! [`crate::capture`] and waiting to [`crate::server`].

mod delivery;

use crate::connection::{Connection, Phase, ReadOutcome};
use crate::options::{Settings, Sharing};
use crate::report::{Counts, RateLimited};
use slab::Slab;
use std::io;
use std::net::{SocketAddr, TcpStream};
use tcpcopy_engine::protocol::Bodies;
use tcpcopy_engine::relay::HANDSHAKE_TIMEOUT;
use tcpcopy_engine::relay::early::{EarlyLimits, EarlyReplies};
use tcpcopy_engine::relay::handshake::{ServerHandshake, ServerSession, Step};
use tcpcopy_engine::relay::hello::{AssistantFacts, Refusal};
use tcpcopy_engine::relay::message::{InterceptStats, ToIntercept, ToTcpcopy};
use tcpcopy_engine::relay::routes::{ConnectionId, RouteLimits, RouteTable};
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_net::poll::{Event, Interest, Poller};

/// Connections at most.
const MAX_CONNECTIONS: usize = 4096;
/// Connections that have not proved themselves yet; beyond that, the oldest makes room.
const MAX_HANDSHAKES: usize = 64;
/// Routes outlive the last connection of their worker by this, so that it can come back.
const GRACE: Duration = Duration::from_secs(30);
/// A connection's number holds its place in the table in the lower bits.
const PLACE_BITS: u32 = 16;

/// What deciding about replies needs to know of now: the monotonic clock, and that of the captured packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) monotonic: Instant,
    pub(crate) unix_nanos: u64,
}

/// How many interfaces a reply may be seen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interfaces {
    One,
    Several,
}

pub(crate) struct Relays {
    connections: Slab<Connection>,
    handshakes: usize,
    /// Connections whose peer foresees that its routes will ask for bodies.
    foreseeing: usize,
    next_serial: u64,
    routes: RouteTable,
    early: EarlyReplies,
    dirty: Vec<ConnectionId>,
    token: Option<Vec<u8>>,
    facts: AssistantFacts,
    sharing: Sharing,
    combine: u32,
    relay_port: u16,
    interfaces: Interfaces,
    hasher: foldhash::fast::RandomState,
    pub(crate) counts: Counts,
    warnings: RateLimited,
}

impl Relays {
    pub(crate) fn new(settings: &Settings, facts: AssistantFacts) -> Self {
        let limits = RouteLimits {
            max_routes: settings.max_routes,
            idle_timeout: settings.route_timeout,
            grace: GRACE,
        };
        Self {
            connections: Slab::new(),
            handshakes: 0,
            foreseeing: 0,
            next_serial: 1,
            routes: RouteTable::new(limits, 4096),
            early: EarlyReplies::new(EarlyLimits::default()),
            dirty: Vec::new(),
            token: settings.token.clone(),
            facts,
            sharing: settings.sharing,
            combine: settings.combine,
            relay_port: settings.port,
            interfaces: if settings.interfaces.len() == 1 { Interfaces::One } else { Interfaces::Several },
            hasher: foldhash::fast::RandomState::default(),
            counts: Counts::default(),
            warnings: RateLimited::default(),
        }
    }

    /// Connections that are served.
    pub(crate) fn live(&self) -> usize {
        self.connections.len() - self.handshakes
    }

    /// Routes in the table.
    pub(crate) fn route_count(&self) -> usize {
        self.routes.len()
    }

    /// Whether any route asks for bodies, or a peer foresees that its routes will.
    pub(crate) const fn wanted_bodies(&self) -> Bodies {
        if self.foreseeing > 0 || self.routes.wants_bodies() { Bodies::Needed } else { Bodies::NotNeeded }
    }

    /// Takes in a new connection.
    pub(crate) fn accept(&mut self, stream: TcpStream, address: SocketAddr, poller: &Poller, now: Instant) {
        self.counts.connections_accepted += 1;
        if self.handshakes >= MAX_HANDSHAKES {
            // Somebody holds connections open without a word; an honest peer is done within milliseconds.
            let oldest = self
                .connections
                .iter()
                .filter(|(_, connection)| !connection.is_live())
                .min_by_key(|(_, connection)| connection.id.0 >> PLACE_BITS)
                .map(|(_, connection)| connection.id);
            if let Some(id) = oldest {
                self.refuse(
                    id,
                    Refusal::TooManyConnections,
                    "too many connections without a handshake",
                    poller,
                    now,
                );
            }
        }
        let mut nonce = [0; 32];
        let place = self.connections.vacant_key();
        if place >= MAX_CONNECTIONS || getrandom::fill(&mut nonce).is_err() {
            self.counts.peers_refused += 1;
            self.warnings.warn(now, || format!("{address}: refused, {MAX_CONNECTIONS} connections are open"));
            return;
        }
        let id = ConnectionId(self.next_serial << PLACE_BITS | place as u64);
        self.next_serial += 1;
        let handshake = ServerHandshake::new(self.token.clone(), nonce);
        let result =
            Connection::new(id, stream, address, handshake, now + HANDSHAKE_TIMEOUT).and_then(|connection| {
                poller.add(connection.fd(), id.0, Interest::Readable).map(|()| connection)
            });
        match result {
            Ok(connection) => {
                self.connections.insert(connection);
                self.handshakes += 1;
            }
            Err(error) => {
                self.warnings.warn(now, || format!("{address}: cannot serve the connection: {error}"))
            }
        }
    }

    /// Handles what the poller says about one connection. Poller tokens of connections are their numbers.
    pub(crate) fn handle_event(&mut self, event: Event, poller: &Poller, now: Now) {
        let id = ConnectionId(event.token);
        if self.get(id).is_none() {
            return;
        }
        if event.is_readable() {
            self.read(id, poller, now);
        }
        if event.is_writable() {
            self.flush_one(id, poller, now.monotonic);
        }
    }

    fn read(&mut self, id: ConnectionId, poller: &Poller, now: Now) {
        let Some(connection) = self.get(id) else { return };
        match connection.read() {
            Ok(ReadOutcome::Nothing) => {}
            Ok(ReadOutcome::End) => self.lose(id, "closed by its peer", now.monotonic),
            Err(error) => self.lose(id, &error.to_string(), now.monotonic),
            Ok(ReadOutcome::Data) => {
                self.shake_hands(id, poller, now);
                self.take_messages(id, poller, now);
            }
        }
    }

    fn shake_hands(&mut self, id: ConnectionId, poller: &Poller, now: Now) {
        let facts = self.facts.clone();
        while let Some(connection) = self.get(id) {
            let Phase::Handshake { handshake, .. } = &mut connection.phase else { return };
            let mut answer = Vec::new();
            let result = handshake.handle(connection.input.data(), &facts, &mut answer);
            connection.output().append(&mut answer);
            match result {
                Ok(Step::Incomplete) => break,
                Ok(Step::Consumed(count)) => connection.input.consume(count),
                Ok(Step::Done(count, session)) => {
                    connection.input.consume(count);
                    self.welcome(id, session, poller, now.monotonic);
                    break;
                }
                Err(error) => {
                    // The refusal, if there is one, is in the output already.
                    self.close_refused(id, &format!("handshake failed: {error}"), poller, now.monotonic);
                    return;
                }
            }
        }
        // The answer leaves at the end of the turn, when the capture is ready for what the peer foresees.
        self.mark_dirty(id);
    }

    /// A peer has proved itself: its connection joins those of its worker.
    fn welcome(&mut self, id: ConnectionId, session: ServerSession, poller: &Poller, now: Instant) {
        let others: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, other)| match &other.phase {
                Phase::Live { session: other, .. } => other.peer.instance != session.peer.instance,
                Phase::Handshake { .. } => false,
            })
            .map(|(_, other)| other.id)
            .collect();
        match self.sharing {
            Sharing::Routes => {}
            Sharing::SingleProtected if others.is_empty() => {}
            Sharing::SingleProtected => {
                // The welcome is in the output already, and the refusal follows it.
                self.refuse(
                    id,
                    Refusal::SingleTaken,
                    "another tcpcopy is being served (--single -c)",
                    poller,
                    now,
                );
                return;
            }
            Sharing::SingleReplaced => {
                for other in others {
                    self.refuse(
                        other,
                        Refusal::SingleTaken,
                        "another tcpcopy takes its place (--single)",
                        poller,
                        now,
                    );
                }
            }
        }
        let (group, replaced) = self.routes.attach(session.peer, id);
        self.handshakes -= 1;
        self.foreseeing += usize::from(session.foreseen_bodies() == Bodies::Needed);
        if let Some(connection) = self.get(id) {
            connection.phase = Phase::Live { session, group };
            tracing::info!("{}: tcpcopy {} connected", connection.peer_address, session.peer);
        }
        if let Some(replaced) = replaced {
            self.lose(replaced, "its peer has connected again", now);
        }
    }

    fn take_messages(&mut self, id: ConnectionId, poller: &Poller, now: Now) {
        while let Some(connection) = self.get(id) {
            let Phase::Live { group, .. } = connection.phase else { return };
            match ToIntercept::decode(connection.input.data()) {
                Ok(None) => return,
                Ok(Some((message, length))) => {
                    connection.input.consume(length);
                    match message {
                        ToIntercept::Ping { sequence, nanos } => {
                            self.queue(id, &ToTcpcopy::Pong { sequence, nanos });
                        }
                        ToIntercept::RouteRemove { flow } => self.routes.remove(group, &flow),
                        ToIntercept::RouteAdd { flow, body_limit } => {
                            match self.routes.add(group, flow, body_limit, now.monotonic) {
                                Ok(_) => self.send_early(&flow, poller, now),
                                Err(reason) => {
                                    self.counts.routes_refused += 1;
                                    self.queue(id, &ToTcpcopy::RouteRefused { flow, reason });
                                }
                            }
                        }
                    }
                }
                Err(error) => {
                    Refusal::Malformed.encode(connection.output());
                    self.close_refused(id, &error.to_string(), poller, now.monotonic);
                    return;
                }
            }
        }
    }

    fn queue(&mut self, id: ConnectionId, message: &ToTcpcopy<'_>) {
        if let Some(connection) = self.get(id)
            && connection.queue(message)
        {
            self.mark_dirty(id);
        }
    }

    fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get(id)
            && !connection.is_dirty
        {
            connection.is_dirty = true;
            self.dirty.push(id);
        }
    }

    /// Writes what is queued: one system call per connection that has something.
    pub(crate) fn flush(&mut self, poller: &Poller, now: Instant) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            if let Some(connection) = self.get(id) {
                connection.is_dirty = false;
                self.flush_one(id, poller, now);
            }
        }
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
    }

    fn flush_one(&mut self, id: ConnectionId, poller: &Poller, now: Instant) {
        let Some(connection) = self.get(id) else { return };
        let before = connection.bytes_sent;
        let result = connection.flush(poller, id.0);
        let sent = connection.bytes_sent - before;
        self.counts.bytes_sent += sent;
        self.counts.writes += u64::from(sent > 0);
        if let Err(error) = result {
            self.lose(id, &error.to_string(), now);
        }
    }

    fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let place = (id.0 & ((1 << PLACE_BITS) - 1)) as usize;
        self.connections.get_mut(place).filter(|connection| connection.id == id)
    }

    /// Tells a peer why it is not served, and closes its connection.
    fn refuse(&mut self, id: ConnectionId, refusal: Refusal, why: &str, poller: &Poller, now: Instant) {
        if let Some(connection) = self.get(id) {
            refusal.encode(connection.output());
            self.close_refused(id, why, poller, now);
        }
    }

    fn close_refused(&mut self, id: ConnectionId, why: &str, poller: &Poller, now: Instant) {
        let Some(connection) = self.get(id) else { return };
        // A peer that is gone already need not be told.
        let _ = connection.flush(poller, id.0);
        let address = connection.peer_address;
        self.counts.peers_refused += 1;
        self.warnings.warn(now, || format!("{address}: connection closed: {why}"));
        self.remove(id, now);
    }

    /// A connection is gone.
    fn lose(&mut self, id: ConnectionId, why: &str, now: Instant) {
        let Some(connection) = self.get(id) else { return };
        let address = connection.peer_address;
        if connection.is_live() {
            self.counts.connections_lost += 1;
            tracing::info!("{address}: tcpcopy disconnected: {why}");
        } else {
            self.counts.peers_refused += 1;
            self.warnings.warn(now, || format!("{address}: connection ended before its handshake: {why}"));
        }
        self.remove(id, now);
    }

    fn remove(&mut self, id: ConnectionId, now: Instant) {
        if self.get(id).is_none() {
            return;
        }
        let connection = self.connections.remove((id.0 & ((1 << PLACE_BITS) - 1)) as usize);
        match connection.phase {
            Phase::Live { session, group } => {
                self.foreseeing -= usize::from(session.foreseen_bodies() == Bodies::Needed);
                self.routes.detach(group, id, now);
            }
            Phase::Handshake { .. } => self.handshakes -= 1,
        }
    }

    /// Does what time asks for.
    pub(crate) fn handle_timeout(&mut self, poller: &Poller, now: Instant) {
        self.counts.replies_without_route += self.early.expire(now);
        let expired = self.routes.expire(now);
        self.counts.routes_expired += expired as u64;
        if self.handshakes > 0 {
            let late: Vec<ConnectionId> = self
                .connections
                .iter()
                .filter(|(_, c)| matches!(c.phase, Phase::Handshake { deadline, .. } if deadline <= now))
                .map(|(_, connection)| connection.id)
                .collect();
            for id in late {
                self.refuse(id, Refusal::TimedOut, "the handshake took too long", poller, now);
            }
        }
    }

    /// When [`Relays::handle_timeout`] is next to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let handshakes = self.connections.iter().filter_map(|(_, connection)| match connection.phase {
            Phase::Handshake { deadline, .. } => Some(deadline),
            Phase::Live { .. } => None,
        });
        let handshake = if self.handshakes > 0 { handshakes.min() } else { None };
        [handshake, self.early.next_expiry(), self.routes.next_expiry()].into_iter().flatten().min()
    }

    /// Queues the counters for every tcpcopy.
    pub(crate) fn send_stats(&mut self, stats: InterceptStats) {
        let live: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, c)| c.is_live())
            .map(|(_, connection)| connection.id)
            .collect();
        for id in live {
            self.queue(id, &ToTcpcopy::Stats(stats));
        }
    }
}

/// Whether an error of accept concerns one connection alone.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
