//! One run: clients, engine, networks and servers, with time that jumps to whatever happens next.

use crate::client::{self, CapturedPacket, Client};
use crate::intercept::{self, Reply};
use crate::network::Network;
use crate::plugin::{self, Framed, SharedNotes};
use crate::profile::{Profile, ServerKind};
use crate::rng::Rng;
use crate::server::{Admission, Server, ServerOptions};
use crate::trace::{Keep, Trace};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use tcpcopy_engine::batch::PacketBatch;
use tcpcopy_engine::config::Pace;
use tcpcopy_engine::counters::Counters;
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::mapping::{MappingOptions, Transfer};
use tcpcopy_engine::protocol::TransparentFactory;
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::link::LinkType;
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpSegment};
use tcpcopy_engine::{Engine, EngineConfig, RouteChange};

/// Capture times start here: nanoseconds of the Unix epoch at the run's beginning.
const EPOCH: u64 = 1_700_000_000_000_000_000;
/// A run that takes longer than a simulated day is one that never ends.
const LONGEST: u64 = 24 * 3600 * 1_000_000_000;
/// Nor does one with so many events at one and the same moment.
const MOST_AT_ONCE: u32 = 200_000;
const SESSION_TIMEOUT: Duration = Duration::from_secs(600);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(900);
const FIRST_PORT: u16 = 8000;

enum Event {
    Captured(CapturedPacket),
    ToServer(Vec<u8>),
    Returned(FlowKey, Reply),
    RunServer(usize),
}

/// A moment and what happens then; ordered so that the earliest, and of those the first put in, comes first.
struct Due {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// A run under way.
pub struct World {
    /// What the seed stands for.
    pub profile: Profile,
    /// The clients, by number.
    pub clients: Vec<Client>,
    /// A server for each flow that a packet was sent for.
    pub servers: Vec<Server>,
    /// Packets printed.
    pub trace: Trace,
    /// What went wrong while it ran.
    pub violations: Vec<String>,
    /// SYNs, SYN-ACKs and resets that the network lost, for each client's address.
    pub handshakes_lost: BTreeMap<std::net::IpAddr, u32>,
    /// Clients that the network lost a target's reset of.
    pub resets_lost: BTreeSet<std::net::IpAddr>,
    engine: Engine,
    by_flow: HashMap<FlowKey, usize>,
    events: BinaryHeap<Due>,
    order: u64,
    now: u64,
    batch: PacketBatch,
    route_changes: Vec<RouteChange>,
    /// Routes wanted, and how many payload bytes of each packet.
    routes: HashMap<FlowKey, u32>,
    /// What the plugin noted.
    pub notes: SharedNotes,
    /// Since when events gather for the plugin.
    gathering: Option<u64>,
    outgoing: Network,
    replies: Network,
    rng: Rng,
}

impl World {
    /// The world of a seed, before anything happened.
    pub fn new(seed: u64, keep: Keep) -> Self {
        let mut rng = Rng::new(seed);
        let profile = Profile::new(seed, &mut rng);
        let mut transfers = Vec::new();
        for number in 0..profile.servers.len() {
            for (online, target) in [endpoints(number, 4), endpoints(number, 6)] {
                transfers.push(Transfer { online: Some(online.addr), online_port: online.port, target });
            }
        }
        let mapping = MappingOptions { transfers, ..MappingOptions::default() };
        let mut config = EngineConfig::new(mapping);
        config.session_timeout = SESSION_TIMEOUT;
        config.keepalive_timeout = KEEPALIVE_TIMEOUT;
        config.mss = rng.pick(&[1460, 1460, 8960, 536]);
        config.mtu = rng.pick(&[1500, 1500, 9000, 1300]);
        config.seed = rng.any();
        if let Some(pace) = profile.pace {
            config.pace = Pace::Fixed(pace);
        }
        let mut engine = Engine::new(config, Box::new(TransparentFactory::default()), Instant::ZERO);
        let notes = SharedNotes::default();
        if let Some(plan) = &profile.plan {
            let runner = Framed::new(Arc::clone(plan), Arc::clone(&notes), |opening| {
                let server = usize::from(opening.target.port.checked_sub(FIRST_PORT)? / 2);
                Some((server, client::number_of(opening.client.addr)?))
            });
            let ports = (0..2 * profile.servers.len() as u16).map(|n| FIRST_PORT + n).collect();
            engine.add_plugin(Box::new(runner), ports, plan.policy);
        }
        let mut clients_rng = rng.fork();
        let clients: Vec<Client> = (0..profile.clients)
            .map(|number| {
                let server = clients_rng.any() as usize % profile.servers.len();
                let (online, _) = endpoints(server, clients_rng.pick(&[4, 6]));
                let greeting = match profile.servers[server] {
                    ServerKind::Greets(len) => len,
                    _ => 0,
                };
                Client::new(number, server, online, greeting, &profile, &mut clients_rng)
            })
            .collect();
        let mut world = Self {
            outgoing: Network::new(profile.outgoing, rng.fork()),
            replies: Network::new(profile.replies, rng.fork()),
            profile,
            clients,
            servers: Vec::new(),
            trace: Trace::new(keep),
            violations: Vec::new(),
            handshakes_lost: BTreeMap::new(),
            resets_lost: BTreeSet::new(),
            engine,
            by_flow: HashMap::new(),
            events: BinaryHeap::new(),
            order: 0,
            now: 0,
            batch: PacketBatch::new(),
            route_changes: Vec::new(),
            routes: HashMap::new(),
            notes,
            gathering: None,
            rng,
        };
        for number in 0..world.clients.len() {
            for packet in std::mem::take(&mut world.clients[number].packets) {
                world.schedule(packet.at, Event::Captured(packet));
            }
        }
        world
    }

    /// What the engine counted.
    pub fn counters(&self) -> &Counters {
        self.engine.counters()
    }

    /// Simulated time in nanoseconds.
    pub const fn now(&self) -> u64 {
        self.now
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.push(Due { at, order: self.order, event });
    }

    /// Runs until the engine has nothing left to do, or will never have.
    pub fn run(&mut self) {
        let mut at_once = 0;
        let mut captures_left = self.events.len();
        loop {
            let event_at = self.events.peek().map(|due| due.at);
            if self.gathers(event_at)
                && let Some(due) = self.events.pop()
            {
                self.now = self.now.max(due.at);
                captures_left -= usize::from(matches!(due.event, Event::Captured(_)));
                self.happen(due.event);
                continue;
            }
            if self.gathering.take().is_some() {
                self.flush();
            }
            let deadline = self.engine.next_deadline().map(Instant::as_nanos);
            let event_at = self.events.peek().map(|due| due.at);
            if captures_left == 0 && deadline.is_none() && self.engine.counters().sessions_live == 0 {
                break;
            }
            let Some(next) = [deadline, event_at].into_iter().flatten().min() else {
                self.violations.push("sessions are left, and nothing is due".to_owned());
                break;
            };
            at_once = if next > self.now { 0 } else { at_once + 1 };
            if next > LONGEST || at_once > MOST_AT_ONCE {
                self.violations.push(format!("the run does not end: {next} ns, {at_once} events at once"));
                break;
            }
            self.now = self.now.max(next);
            if event_at.is_some_and(|at| at <= self.now) {
                let Some(due) = self.events.pop() else { break };
                captures_left -= usize::from(matches!(due.event, Event::Captured(_)));
                self.happen(due.event);
            } else {
                self.engine.handle_timeout(Instant::from_nanos(self.now));
            }
            if self.profile.plan.as_ref().is_some_and(|plan| plan.gather > 0) {
                self.gathering = Some(self.now);
                continue;
            }
            self.flush();
            if let Err(imbalance) = self.engine.counters().check() {
                self.violations.push(format!("at {} ns: {imbalance}", self.now));
                break;
            }
        }
        self.check_end();
    }

    /// Whether what comes next, at `event_at`, is still part of the engine's turn.
    fn gathers(&self, event_at: Option<u64>) -> bool {
        match (self.gathering, &self.profile.plan, event_at) {
            (Some(since), Some(plan), Some(at)) => at <= since + plan.gather,
            _ => false,
        }
    }

    fn happen(&mut self, event: Event) {
        let now = Instant::from_nanos(self.now);
        match event {
            Event::Captured(packet) => {
                self.trace.packet(self.now, "captured", &packet.bytes, packet.wire_len);
                self.engine.handle_frame(
                    LinkType::Raw,
                    &packet.bytes,
                    packet.wire_len,
                    EPOCH + packet.at,
                    now,
                );
            }
            Event::ToServer(packet) => self.deliver(&packet),
            Event::Returned(flow, reply) => {
                if self.routes.contains_key(&flow) {
                    self.trace.packet(self.now, "reply", &reply.headers, reply.wire_len);
                    self.engine.handle_reply(&reply.headers, reply.wire_len, now);
                } else {
                    self.trace.packet(self.now, "no route", &reply.headers, reply.wire_len);
                }
            }
            Event::RunServer(number) => {
                if self.servers[number].scheduled == Some(self.now / 1000) {
                    self.servers[number].scheduled = None;
                    self.run_server(number);
                }
            }
        }
    }

    /// Takes out of the engine what it wants to send.
    fn flush(&mut self) {
        let now = Instant::from_nanos(self.now);
        self.engine.run_plugins(now);
        loop {
            self.take_routes();
            let limited = self.engine.poll_transmit(&mut self.batch, 64, now);
            let batch = std::mem::take(&mut self.batch);
            for index in 0..batch.len() {
                self.send(batch.packet(index));
            }
            self.batch = batch;
            self.batch.clear();
            if limited == tcpcopy_engine::tcp::connection::Limited::No {
                break;
            }
        }
        self.take_routes();
    }

    fn take_routes(&mut self) {
        self.engine.take_route_changes(&mut self.route_changes);
        for change in self.route_changes.drain(..) {
            let (ok, flow) = match change {
                RouteChange::Add { flow, body_limit } => {
                    (self.routes.insert(flow, body_limit) != Some(body_limit), flow)
                }
                RouteChange::Remove { flow } => (self.routes.remove(&flow).is_some(), flow),
            };
            if !ok {
                self.violations.push(format!("route of {flow}: {change:?} twice"));
            }
        }
    }

    fn send(&mut self, packet: &[u8]) {
        let Some((flow, flags)) = outgoing_flow(packet) else {
            self.violations.push(format!("a packet that is none was sent at {} ns", self.now));
            return;
        };
        let arrivals = self.outgoing.send(flow, self.now);
        self.note_loss(flow, flags, arrivals);
        self.trace.packet(
            self.now,
            if arrivals[0].is_some() { "send" } else { "send lost" },
            packet,
            packet.len(),
        );
        for at in arrivals.into_iter().flatten() {
            self.schedule(at, Event::ToServer(packet.to_vec()));
        }
    }

    fn note_loss(&mut self, flow: FlowKey, flags: TcpFlags, arrivals: [Option<u64>; 2]) {
        if arrivals[0].is_some() {
            return;
        }
        // A SYN, or either answer to it.
        if flags.intersects(TcpFlags::SYN | TcpFlags::RST) {
            *self.handshakes_lost.entry(flow.client.addr).or_default() += 1;
        }
        if flags.contains(TcpFlags::RST) {
            self.resets_lost.insert(flow.client.addr);
        }
    }

    fn deliver(&mut self, packet: &[u8]) {
        let Some((flow, flags)) = outgoing_flow(packet) else { return };
        self.trace.packet(self.now, "target", packet, packet.len());
        let number = self.server_of(flow);
        let kind = self.kind_of(flow);
        let refuses = matches!(kind, ServerKind::Refuses(per_mille) if self.rng.chance(per_mille));
        let admission = if refuses { Admission::Refused } else { Admission::Granted };
        let is_syn = flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK);
        self.servers[number].receive(packet, is_syn, admission, self.now / 1000);
        self.run_server(number);
    }

    fn kind_of(&self, flow: FlowKey) -> ServerKind {
        self.profile.servers[usize::from((flow.target.port - FIRST_PORT) / 2)]
    }

    fn server_of(&mut self, flow: FlowKey) -> usize {
        if let Some(&number) = self.by_flow.get(&flow) {
            return number;
        }
        let kind = self.kind_of(flow);
        let rng = &mut self.rng;
        let receive_buffer = match kind {
            ServerKind::SmallWindow(bytes) => bytes,
            _ => rng.pick(&[16_384, 65_535, 262_144]),
        };
        let options = ServerOptions {
            mtu: rng.pick(&[1500, 1500, 1400, 9000, 1280]),
            receive_buffer,
            nagle: rng.chance(300),
            timestamps: rng.chance(500),
            seed: rng.any(),
        };
        let number = self.servers.len();
        self.servers.push(Server::new(flow, kind, options, self.now / 1000));
        self.by_flow.insert(flow, number);
        number
    }

    fn run_server(&mut self, number: usize) {
        let mut packets = Vec::new();
        let server = &mut self.servers[number];
        let flow = server.flow;
        if let Some(at) = server.run(self.now / 1000, &mut packets)
            && server.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            server.scheduled = Some(at);
            self.schedule(at * 1000, Event::RunServer(number));
        }
        let body_limit = self.routes.get(&flow).copied().unwrap_or(0);
        for reply in intercept::replies(&packets, body_limit, self.profile.merge, &mut self.rng) {
            let arrivals = self.replies.send(flow, self.now);
            let flags = reply_flags(&reply);
            self.note_loss(flow, flags, arrivals);
            let place = if arrivals[0].is_some() { "answer" } else { "ans. lost" };
            self.trace.packet(self.now, place, &reply.headers, reply.wire_len);
            for at in arrivals.into_iter().flatten() {
                self.schedule(at, Event::Returned(flow, reply.clone()));
            }
        }
    }

    /// Nothing may be left when everything is over.
    fn check_end(&mut self) {
        self.violations.append(&mut plugin::lock(&self.notes).violations);
        let counters = *self.engine.counters();
        let left = [
            ("sessions", counters.sessions_live),
            ("bytes of memory", counters.memory_bytes),
            ("requests waiting", counters.requests_waiting),
            ("flows", self.engine.routes().count() as u64),
            ("routes", self.routes.len() as u64),
            ("deadlines", u64::from(self.engine.next_deadline().is_some())),
            ("transmissions", u64::from(!self.engine.is_idle())),
        ];
        for (what, number) in left {
            if number > 0 {
                self.violations.push(format!("{number} {what} left at the end"));
            }
        }
        for (what, number) in [
            ("captured packets malformed", counters.packets_malformed),
            ("replies malformed", counters.replies_malformed),
            ("captured packets ignored", counters.packets_ignored),
        ] {
            if number > 0 {
                self.violations.push(format!("{number} {what}"));
            }
        }
    }
}

/// The online server and the target of server `number`, for an IP version.
fn endpoints(number: usize, version: u8) -> (Endpoint, Endpoint) {
    let port = FIRST_PORT + number as u16 * 2;
    match version {
        4 => (Endpoint::new([10, 9, 0, 1].into(), port), Endpoint::new([10, 2, 0, 1].into(), port)),
        _ => {
            let address = |net: u16| std::net::IpAddr::from([net, 0, 0, 0, 0, 0, 0, 1]);
            (Endpoint::new(address(0xfd09), port + 1), Endpoint::new(address(0xfd02), port + 1))
        }
    }
}

fn outgoing_flow(packet: &[u8]) -> Option<(FlowKey, TcpFlags)> {
    let ip = IpPacket::parse(packet, packet.len()).ok()?;
    let tcp = TcpSegment::parse(ip.payload, ip.payload_len).ok()?;
    let client = Endpoint::new(ip.source, tcp.source_port);
    let target = Endpoint::new(ip.destination, tcp.destination_port);
    Some((FlowKey { client, target }, tcp.flags))
}

fn reply_flags(reply: &Reply) -> TcpFlags {
    let parsed = IpPacket::parse(&reply.headers, reply.wire_len).ok();
    parsed
        .and_then(|ip| TcpSegment::parse(ip.payload, ip.payload_len).ok())
        .map_or(TcpFlags::NONE, |tcp| tcp.flags)
}
