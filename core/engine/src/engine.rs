//! One worker's sessions: who they are, which packet belongs to which, and when each has to be looked at again.
//!
//! The caller feeds captured packets and replies in, and takes packets and route changes out. Nothing happens between calls:
//! [`Engine::next_deadline`] says when [`Engine::handle_timeout`] is due.

use crate::batch::PacketBatch;
use crate::config::{EngineConfig, MidStreamPolicy};
use crate::counters::{Counters, EndReason};
use crate::flow::{Endpoint, FlowKey, FlowMap};
use crate::join::{Sighting, Strangers};
use crate::plugin::Parting;
use crate::plugin::{AfterFault, EventBatch, Fault, Outcome, Place, PluginRunner, SessionId};
use crate::protocol::{ProtocolFactory, WaitPolicy};
use crate::sampling::Sampler;
use crate::session::{CaptureKey, Captured, Session};
use crate::shared::{RouteChange, Shared};
use crate::tcp::ReplyHeader;
use crate::tcp::connection::Limited;
use crate::time::{Duration, Instant};
use crate::timer::TimerWheel;
use crate::wire::fragment::{FragmentOutcome, Reassembler};
use crate::wire::ip::IpPacket;
use crate::wire::tcp::{TcpFlags, TcpSegment};
use crate::wire::{PROTOCOL_TCP, link, tunnel};
use slab::Slab;

/// Fragments held at most, and for how long (RFC 8200, section 4.5).
const FRAGMENT_BYTES: usize = 8 << 20;
const FRAGMENT_DATAGRAMS: usize = 1024;
const FRAGMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Memory given up at once when the limit is reached, as a divisor of the limit: shedding one session at a time would scan all
/// of them for each.
const SHED_SHARE: u64 = 10;
/// Tunnels within tunnels that are followed; more are no network anyone runs.
const MAX_TUNNELS: usize = 4;
/// Calls of a plugin in one turn, each with what came of the one before.
const MAX_ROUNDS: usize = 32;

/// Whether connections that are not known are replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Open,
    Closed,
}

/// The replayer of one worker.
pub struct Engine {
    shared: Shared,
    sessions: Slab<Session>,
    by_capture: FlowMap<CaptureKey, u32>,
    strangers: Strangers,
    sampler: Sampler,
    wheel: TimerWheel,
    expired: Vec<u32>,
    dirty: Vec<u32>,
    captured_fragments: Reassembler,
    reply_fragments: Reassembler,
    admission: Admission,
    started_at: Instant,
    next_serial: u64,
    /// Memory kept between calls of plugins: places to call, what is needed to part answers, what came back.
    places: Vec<Place>,
    parting: Parting,
    outcome: Outcome,
}

impl Engine {
    /// An engine without sessions; `factory` makes their protocols.
    pub fn new(config: EngineConfig, factory: Box<dyn ProtocolFactory>, now: Instant) -> Self {
        let reassembler = || Reassembler::new(FRAGMENT_BYTES, FRAGMENT_DATAGRAMS, FRAGMENT_TIMEOUT);
        Self {
            sampler: Sampler::new(config.percentage, config.ramp),
            shared: Shared::new(config, factory),
            sessions: Slab::new(),
            by_capture: FlowMap::default(),
            strangers: Strangers::default(),
            wheel: TimerWheel::new(now),
            expired: Vec::new(),
            dirty: Vec::new(),
            captured_fragments: reassembler(),
            reply_fragments: reassembler(),
            admission: Admission::Open,
            started_at: now,
            next_serial: 0,
            places: Vec::new(),
            parting: Parting::default(),
            outcome: Outcome::default(),
        }
    }

    /// Serves sessions to `ports` of online servers with a plugin; they wait for replies by `policy`. Of two plugins for one port,
    /// the one added first serves it. Sessions to all other ports get their protocol from the factory.
    pub fn add_plugin(&mut self, runner: Box<dyn PluginRunner>, ports: Vec<u16>, policy: WaitPolicy) {
        self.shared.hub.add(runner, ports, policy);
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Whether a frame may be of a connection that is replayed, by its addresses and ports as far as they can be seen: fragments and
    /// tunnels may hold anything.
    pub fn may_concern(&self, link: link::LinkType, frame: &[u8], wire_len: usize) -> bool {
        let Ok((data, wire_len)) = link::ip_packet(link, frame, wire_len) else { return false };
        let Ok(packet) = IpPacket::parse(data, wire_len) else { return false };
        if packet.fragment.is_some() || tunnel::open(&packet, self.shared.config.decap).is_some() {
            return true;
        }
        let Ok(segment) = TcpSegment::parse(packet.payload, packet.payload_len) else { return false };
        if packet.protocol != PROTOCOL_TCP {
            return false;
        }
        let from = Endpoint::new(packet.source, segment.source_port);
        let to = Endpoint::new(packet.destination, segment.destination_port);
        let is_answer =
            || self.shared.hub.needs_references() && self.shared.mapper.transfer(to.addr, from).is_some();
        self.shared.mapper.transfer(from.addr, to).is_some() || is_answer()
    }

    /// Takes a captured frame of link type `link`, `wire_len` bytes long on the wire, captured at `captured_at_nanos` of the
    /// Unix epoch.
    pub fn handle_frame(
        &mut self,
        link: link::LinkType,
        frame: &[u8],
        wire_len: usize,
        captured_at_nanos: u64,
        now: Instant,
    ) {
        self.shared.counters.packets_captured += 1;
        match link::ip_packet(link, frame, wire_len) {
            Ok((packet, wire_len)) => {
                self.shared.counters.bytes_captured += wire_len as u64;
                self.handle_captured(packet, wire_len, captured_at_nanos, 0, now);
            }
            Err(link::LinkError::NotIp) => self.shared.counters.packets_ignored += 1,
            Err(_) => self.shared.counters.packets_malformed += 1,
        }
        if self.shared.hub.is_full() {
            self.run_plugins(now);
        }
    }

    /// Takes a captured packet that was in `tunnels` tunnels.
    fn handle_captured(
        &mut self,
        data: &[u8],
        wire_len: usize,
        captured_at_nanos: u64,
        tunnels: usize,
        now: Instant,
    ) {
        let Ok(packet) = IpPacket::parse(data, wire_len) else {
            self.shared.counters.packets_malformed += 1;
            return;
        };
        if packet.fragment.is_some() {
            self.shared.counters.fragments += 1;
            self.shared.counters.fragments_dropped += self.captured_fragments.expire(now);
            match self.captured_fragments.push(&packet, data, now) {
                FragmentOutcome::Complete(whole) => match IpPacket::parse(&whole, whole.len()) {
                    Ok(packet) => self.handle_packet(&packet, captured_at_nanos, tunnels, now),
                    Err(_) => self.shared.counters.packets_malformed += 1,
                },
                FragmentOutcome::Waiting => {}
                FragmentOutcome::Dropped(drop) => self.shared.counters.fragments_dropped += drop.fragments,
            }
            return;
        }
        self.handle_packet(&packet, captured_at_nanos, tunnels, now);
    }

    /// Opens the tunnel that `packet` may be.
    fn handle_tunnel(&mut self, packet: &IpPacket<'_>, captured_at_nanos: u64, tunnels: usize, now: Instant) {
        let inner = if tunnels < MAX_TUNNELS { tunnel::open(packet, self.shared.config.decap) } else { None };
        let Some((link, frame, wire_len)) = inner else {
            self.shared.counters.packets_ignored += 1;
            return;
        };
        self.shared.counters.packets_decapsulated += 1;
        match link::ip_packet(link, frame, wire_len) {
            Ok((packet, wire_len)) => {
                self.handle_captured(packet, wire_len, captured_at_nanos, tunnels + 1, now);
            }
            Err(link::LinkError::NotIp) => self.shared.counters.packets_ignored += 1,
            Err(_) => self.shared.counters.packets_malformed += 1,
        }
    }

    fn handle_packet(&mut self, packet: &IpPacket<'_>, captured_at_nanos: u64, tunnels: usize, now: Instant) {
        if packet.protocol != PROTOCOL_TCP {
            return self.handle_tunnel(packet, captured_at_nanos, tunnels, now);
        }
        let Ok(segment) = TcpSegment::parse(packet.payload, packet.payload_len) else {
            self.shared.counters.packets_malformed += 1;
            return;
        };
        if segment.flags.contains(TcpFlags::SYN) && segment.flags.intersects(TcpFlags::RST | TcpFlags::FIN) {
            // It opens no connection anywhere, and ends none.
            self.shared.counters.packets_malformed += 1;
            return;
        }
        let client = Endpoint::new(packet.source, segment.source_port);
        let online = Endpoint::new(packet.destination, segment.destination_port);
        self.shared.hub.note_capture(captured_at_nanos, now);
        self.shared.captured_until = self.shared.captured_until.max(captured_at_nanos);
        let captured = Captured {
            segment: &segment,
            hop_limit: packet.hop_limit,
            traffic_class: packet.traffic_class,
            captured_at_nanos,
        };
        if self.shared.hub.needs_references() {
            let reverse = CaptureKey { client: online, online: client, copy: 0 };
            if self.known_session(reverse).is_some() {
                return self.feed_reference(&captured, reverse, now);
            }
        }
        let first = CaptureKey { client, online, copy: 0 };
        let is_syn = segment.flags.contains(TcpFlags::SYN) && !segment.flags.contains(TcpFlags::ACK);
        match self.known_session(first) {
            Some(number) if is_syn => self.on_syn_of_known(&captured, first, number, now),
            Some(_) => self.feed(&captured, first, now),
            None => self.on_unknown(&captured, first, is_syn, now),
        }
    }

    /// A session that replays the captured connection: the first of its copies that has not ended.
    fn known_session(&self, first: CaptureKey) -> Option<u32> {
        (0..self.shared.mapper.copies())
            .find_map(|copy| self.by_capture.get(&CaptureKey { copy, ..first }))
            .copied()
    }

    /// Hands a segment to all copies of its session.
    fn feed(&mut self, captured: &Captured<'_>, first: CaptureKey, now: Instant) {
        for copy in 0..self.shared.mapper.copies() {
            let Some(&number) = self.by_capture.get(&CaptureKey { copy, ..first }) else { continue };
            self.with_session(number, now, |session, shared| session.on_captured(captured, shared, now));
        }
        self.keep_within_memory(now);
    }

    /// Hands a segment of the online server to all copies of its session.
    fn feed_reference(&mut self, captured: &Captured<'_>, first: CaptureKey, now: Instant) {
        for copy in 0..self.shared.mapper.copies() {
            let Some(&number) = self.by_capture.get(&CaptureKey { copy, ..first }) else { continue };
            if let Some(session) = self.sessions.get_mut(number as usize) {
                session.on_reference(captured, &mut self.shared, now);
                Self::account(session, &mut self.shared);
            }
        }
        self.keep_within_memory(now);
    }

    fn on_syn_of_known(&mut self, captured: &Captured<'_>, first: CaptureKey, number: u32, now: Instant) {
        let repeated = self.sessions.get(number as usize).is_some_and(|s| s.is_same_syn(captured.segment));
        if repeated {
            self.shared.counters.segments_repeated += 1;
            for copy in 0..self.shared.mapper.copies() {
                if let Some(&number) = self.by_capture.get(&CaptureKey { copy, ..first })
                    && let Some(session) = self.sessions.get_mut(number as usize)
                {
                    session.syn_repeated();
                }
            }
            return;
        }
        for copy in 0..self.shared.mapper.copies() {
            if let Some(number) = self.by_capture.remove(&CaptureKey { copy, ..first }) {
                self.with_session(number, now, |session, shared| session.detach(shared, now));
            }
        }
        self.on_unknown(captured, first, true, now);
    }

    fn on_unknown(&mut self, captured: &Captured<'_>, first: CaptureKey, is_syn: bool, now: Instant) {
        let CaptureKey { client, online, .. } = first;
        let segment = captured.segment;
        if self.admission == Admission::Closed {
            self.shared.counters.packets_ignored += 1;
            return;
        }
        let counters = &mut self.shared.counters;
        if client.addr.is_loopback() && !self.shared.mapper.may_play_loopback() {
            // No target can answer to such an address; even its packets would upset the way there.
            counters.packets_ignored += 1;
            counters.connections_loopback += u64::from(is_syn);
            return;
        }
        let Some(target) = self.shared.mapper.transfer(client.addr, online).map(|t| t.target) else {
            counters.packets_ignored += 1;
            return;
        };
        if !self.sampler.admits(client, now.saturating_since(self.started_at)) {
            if is_syn {
                counters.connections_seen += 1;
                counters.connections_sampled_out += 1;
            }
            return;
        }
        if is_syn {
            self.strangers.forget(client, online);
        } else {
            if self.shared.config.mid_stream == MidStreamPolicy::Ignore {
                counters.packets_ignored += 1;
                return;
            }
            match self.strangers.observe(client, online, segment, now) {
                Sighting::RequestBegins => {}
                Sighting::Nothing => return,
                // A plugin knows by itself where a request begins.
                Sighting::Skipped { first: true, reason: EndReason::MidStream }
                    if self.shared.hub.plugin_for(online.port).is_some() =>
                {
                    self.strangers.forget(client, online);
                }
                Sighting::Repeated => {
                    counters.segments_repeated += 1;
                    return;
                }
                Sighting::Skipped { first, reason } => {
                    // Of what was under way nobody knows how many requests it was: it counts as one.
                    counters.requests_captured += u64::from(first);
                    counters.requests_given_up.add(reason, u64::from(first));
                    return;
                }
            }
        }
        counters.connections_seen += 1;
        for copy in 0..self.shared.mapper.copies() {
            let key = CaptureKey { copy, ..first };
            let entry = self.sessions.vacant_entry();
            let number = entry.key() as u32;
            self.next_serial += 1;
            let shared = &mut self.shared;
            entry.insert(Session::new(number, self.next_serial, key, target, captured, shared, now));
            self.by_capture.insert(key, number);
            self.with_session(number, now, |session, shared| {
                if !is_syn || segment.payload_len > 0 {
                    session.on_captured(captured, shared, now);
                }
            });
        }
        self.keep_within_memory(now);
    }

    /// Takes a reply that `intercept` returned: a packet of the target from its IP header on, perhaps without all of its
    /// payload, that was `wire_len` bytes long.
    pub fn handle_reply(&mut self, data: &[u8], wire_len: usize, now: Instant) {
        self.shared.counters.replies += 1;
        self.shared.hub.note_time(now);
        let Ok(packet) = IpPacket::parse(data, wire_len) else {
            self.shared.counters.replies_malformed += 1;
            return;
        };
        if packet.fragment.is_some() {
            self.shared.counters.fragments_dropped += self.reply_fragments.expire(now);
            match self.reply_fragments.push(&packet, data, now) {
                FragmentOutcome::Complete(whole) => match IpPacket::parse(&whole, whole.len()) {
                    Ok(packet) => self.handle_reply_packet(&packet, now),
                    Err(_) => self.shared.counters.replies_malformed += 1,
                },
                FragmentOutcome::Waiting => {}
                FragmentOutcome::Dropped(drop) => self.shared.counters.fragments_dropped += drop.fragments,
            }
            return;
        }
        self.handle_reply_packet(&packet, now);
    }

    fn handle_reply_packet(&mut self, packet: &IpPacket<'_>, now: Instant) {
        let segment = match TcpSegment::parse(packet.payload, packet.payload_len) {
            Ok(segment) if packet.protocol == PROTOCOL_TCP => segment,
            _ => {
                self.shared.counters.replies_malformed += 1;
                return;
            }
        };
        let flow = FlowKey {
            client: Endpoint::new(packet.destination, segment.destination_port),
            target: Endpoint::new(packet.source, segment.source_port),
        };
        let Some(&(number, body_limit)) = self.shared.flows.get(&flow) else {
            self.shared.counters.replies_unknown += 1;
            return;
        };
        let header = ReplyHeader::from(&segment);
        let body = &segment.payload[..segment.payload.len().min(body_limit as usize)];
        self.with_session(number, now, |session, shared| {
            session.on_reply(&flow, &header, body, shared, now);
        });
        if self.shared.hub.is_full() {
            self.run_plugins(now);
        }
    }

    /// `intercept` refused the route of `flow`: another instance replays the same address and port. The session tries others.
    pub fn handle_route_refused(&mut self, flow: &FlowKey, now: Instant) {
        let Some(&(number, _)) = self.shared.flows.get(flow) else { return };
        self.with_session(number, now, |session, shared| {
            session.on_route_refused(flow, shared, now);
        });
    }

    /// A packet of session `session` was too long for the path, which takes `mtu` bytes.
    pub fn handle_packet_too_big(&mut self, session: u32, mtu: u32, now: Instant) {
        if let Some(s) = self.sessions.get(session as usize) {
            self.shared.lower_mtu(s.target().addr, mtu);
            self.with_session(session, now, |session, _| session.lower_mtu(mtu));
        }
    }

    /// Tells the engine how large packets to `target` may be, as the kernel knows it.
    pub fn set_path_mtu(&mut self, target: std::net::IpAddr, mtu: u32) {
        self.shared.lower_mtu(target, mtu);
    }

    /// The sink failed to send so many packets. Retransmission makes up for them, as it does for any loss.
    pub fn note_send_failures(&mut self, packets: u64) {
        self.shared.counters.send_failures += packets;
    }

    /// Lets due timers fire.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut expired = std::mem::take(&mut self.expired);
        self.wheel.expire(now, &mut expired);
        for number in expired.drain(..) {
            self.with_session(number, now, |session, shared| session.on_timer(shared, now));
        }
        self.expired = expired;
    }

    /// When [`Engine::handle_timeout`] is due; may be early by a tick of the wheel.
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.shared.hub.is_idle() {
            // A plugin was called as often as one turn allows.
            return Some(Instant::ZERO);
        }
        self.wheel.next_deadline()
    }

    /// Nothing more will be captured. Bytes that are missing are given up; clients that did not close do so once they have their
    /// answers.
    pub fn end_capture(&mut self, now: Instant) {
        self.shared.captured_until = u64::MAX;
        let is_open = |session: &Session| !session.detached && !session.is_ended();
        let numbers: Vec<u32> =
            self.sessions.iter().filter(|(_, s)| is_open(s)).map(|(number, _)| number as u32).collect();
        for number in numbers {
            if let Some(session) = self.sessions.get(number as usize) {
                self.by_capture.remove(&session.key);
            }
            self.with_session(number, now, |session, shared| session.end_capture(shared, now));
        }
        self.strangers = Strangers::default();
        self.captured_fragments = Reassembler::new(FRAGMENT_BYTES, FRAGMENT_DATAGRAMS, FRAGMENT_TIMEOUT);
    }

    /// The recorded capture ends and begins anew, for the time of number `pass`: the same clients come again, from other ports.
    pub fn begin_pass(&mut self, pass: u32, now: Instant) {
        self.end_capture(now);
        self.shared.captured_until = 0;
        self.admission = Admission::Open;
        self.shared.mapper.set_pass(pass);
    }

    /// Leaves out connections that are not known by now, until the next pass.
    pub const fn admit_no_more(&mut self) {
        self.admission = Admission::Closed;
    }

    /// Sessions alive whose clients have ended: what remains of them is the target's business.
    pub const fn finishing_sessions(&self) -> u64 {
        self.shared.finishing
    }

    /// Takes the times of capture, in nanoseconds of the Unix epoch, of requests sent for the first time since the last call. Kept
    /// for recorded captures alone.
    pub fn take_sent_requests(&mut self, into: &mut Vec<u64>) {
        into.append(&mut self.shared.sent_requests);
    }

    /// Ends all sessions: connections to the target are reset, so that it keeps none of them open for nobody.
    pub fn shut_down(&mut self, now: Instant) {
        let numbers: Vec<u32> = self.sessions.iter().map(|(number, _)| number as u32).collect();
        for number in numbers {
            self.with_session(number, now, |session, shared| session.end(EndReason::Shutdown, shared, now));
        }
    }

    /// Calls plugins with what has gathered for them since the last call, and does what they say. To be called after a turn's packets,
    /// replies and timers, and before [`Engine::take_route_changes`].
    pub fn run_plugins(&mut self, now: Instant) {
        let mut places = std::mem::take(&mut self.places);
        let mut outcome = std::mem::take(&mut self.outcome);
        for _ in 0..MAX_ROUNDS {
            if self.shared.hub.is_idle() {
                break;
            }
            self.shared.hub.note_time(now);
            self.shared.hub.take_waiting(&mut places);
            for place in places.drain(..) {
                outcome.clear();
                let (batch, result) = self.shared.hub.run(place, &mut outcome);
                match result {
                    Ok(()) => self.apply(&batch, &outcome, now),
                    Err(fault) => self.on_fault(place, &batch, fault, now),
                }
                self.shared.hub.recycle(batch);
            }
        }
        self.places = places;
        self.outcome = outcome;
        self.keep_within_memory(now);
    }

    /// Does what a plugin said to a batch.
    fn apply(&mut self, batch: &EventBatch, outcome: &Outcome, now: Instant) {
        let mut parting = std::mem::take(&mut self.parting);
        parting.part(batch, outcome, |id, answer| {
            if self.session_of(id).is_some() {
                // What the session holds was counted when it was captured; the rest is when it is settled, in this turn.
                self.with_uncounted(id as u32, |session, shared| session.on_plugin_run(answer, shared, now));
            }
        });
        self.parting = parting;
    }

    fn session_of(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(id as u32 as usize).filter(|session| session.id() == id)
    }

    /// A plugin's instance is lost.
    fn on_fault(&mut self, place: Place, batch: &EventBatch, fault: Fault, now: Instant) {
        // Where nothing tells whose fault it was, somebody's it must be, or the same would happen again.
        let culprit = fault.session.or(batch.events.first().map(|event| event.session));
        let all = matches!(fault.others, AfterFault::Disabled(_));
        let concerns = |at: Place| at == place || (all && at.plugin == place.plugin);
        let concerned: Vec<u32> = self
            .sessions
            .iter()
            .filter(|(_, s)| !s.is_ended() && s.plugin_place().is_some_and(|p| concerns(p.place)))
            .map(|(number, _)| number as u32)
            .collect();
        for number in concerned {
            self.with_session(number, now, |session, shared| {
                if Some(session.id()) == culprit {
                    session.end(EndReason::PluginFault, shared, now);
                } else {
                    match fault.others {
                        AfterFault::Rejoin => session.rejoin(shared, now),
                        AfterFault::Disabled(without) => session.go_without_plugin(without, shared, now),
                    }
                }
            });
        }
    }

    /// Appends packets that may be sent now to `batch`, until it holds about `limit`. Returns whether more could be sent.
    pub fn poll_transmit(&mut self, batch: &mut PacketBatch, limit: usize, now: Instant) -> Limited {
        let mut served = 0;
        let mut again = Vec::new();
        while served < self.dirty.len() && batch.len() < limit {
            let number = self.dirty[served];
            served += 1;
            let Some(session) = self.sessions.get_mut(number as usize) else { continue };
            if session.transmit(&mut self.shared, batch, now) == Limited::Yes {
                again.push(number);
                continue;
            }
            session.dirty = false;
            self.settle(number, now);
        }
        self.dirty.drain(..served);
        self.dirty.append(&mut again);
        if self.dirty.is_empty() { Limited::No } else { Limited::Yes }
    }

    /// Takes the route changes since the last call. They must reach `intercept` before the packets of a later
    /// [`Engine::poll_transmit`] reach the target.
    pub fn take_route_changes(&mut self, into: &mut Vec<RouteChange>) {
        into.append(&mut self.shared.routes);
    }

    /// All routes wanted now, for a relay connection that was made anew.
    pub fn routes(&self) -> impl Iterator<Item = (FlowKey, u32)> + '_ {
        self.shared.flows.iter().map(|(flow, (_, body_limit))| (*flow, *body_limit))
    }

    /// Whether nothing is captured that was not delivered.
    pub fn is_idle(&self) -> bool {
        self.shared.counters.requests_waiting == 0 && self.dirty.is_empty() && self.shared.hub.is_idle()
    }

    fn with_session(&mut self, number: u32, _now: Instant, act: impl FnOnce(&mut Session, &mut Shared)) {
        self.with_uncounted(number, act);
        if let Some(session) = self.sessions.get_mut(number as usize) {
            Self::account(session, &mut self.shared);
        }
    }

    /// As [`Self::with_session`], for what changes the session's memory by little.
    fn with_uncounted(&mut self, number: u32, act: impl FnOnce(&mut Session, &mut Shared)) {
        let Some(session) = self.sessions.get_mut(number as usize) else { return };
        act(session, &mut self.shared);
        if !session.dirty {
            session.dirty = true;
            self.dirty.push(number);
        }
    }

    /// Brings a session's deadline and its places in the tables up to date, after it has sent what it could.
    fn settle(&mut self, number: u32, now: Instant) {
        let Some(session) = self.sessions.get_mut(number as usize) else { return };
        Self::account(session, &mut self.shared);
        if session.is_ended() && !session.detached {
            session.detached = true;
            self.by_capture.remove(&session.key);
            let CaptureKey { client, online, .. } = session.key;
            if let Some(reason) = session.ended() {
                self.strangers.remember(client, online, session.client_numbers(), reason, now);
            }
        }
        if session.is_gone() {
            self.shared.counters.memory_bytes -= session.accounted as u64;
            self.wheel.cancel(number);
            self.sessions.remove(number as usize);
            return;
        }
        if let Some(deadline) = session.deadline(&self.shared) {
            self.wheel.schedule(number, deadline.max(now));
        }
    }

    fn account(session: &mut Session, shared: &mut Shared) {
        let memory = session.memory();
        let counters = &mut shared.counters;
        counters.memory_bytes = counters.memory_bytes - session.accounted as u64 + memory as u64;
        counters.memory_bytes_peak = counters.memory_bytes_peak.max(counters.memory_bytes);
        session.accounted = memory;
        let is_finishing = session.is_finishing();
        if is_finishing != std::mem::replace(&mut session.counted_finishing, is_finishing) {
            let finishing = &mut shared.finishing;
            *finishing = if is_finishing { *finishing + 1 } else { *finishing - 1 };
        }
    }

    /// Sheds the newest sessions when the memory limit is reached.
    fn keep_within_memory(&mut self, now: Instant) {
        let limit = self.shared.config.memory_limit;
        if self.shared.counters.memory_bytes <= limit {
            return;
        }
        let mut newest: Vec<(u64, u32)> = self
            .sessions
            .iter()
            .filter(|(_, s)| !s.is_ended())
            .map(|(number, s)| (s.serial, number as u32))
            .collect();
        newest.sort_unstable_by(|a, b| b.cmp(a));
        for (_, number) in newest {
            if self.shared.counters.memory_bytes <= limit - limit / SHED_SHARE {
                break;
            }
            self.with_session(number, now, |session, shared| {
                session.end(EndReason::MemoryLimit, shared, now);
            });
        }
    }
}
