//! One client connection, replayed to one target.
//!
//! A session owns its client's stream ([`client`]), the protocol's decisions ([`Outbox`]) and the connection to the target
//! ([`target`]). It leaves the lookup of sessions, the timers' wheel and memory for all to the engine.

mod client;
mod target;

use crate::batch::PacketBatch;
use crate::config::CaptureClock;
use crate::counters::EndReason;
use crate::flow::{Endpoint, FlowKey};
use crate::plugin::Answer;
use crate::plugin::{Opening, SessionId, Without};
use crate::protocol::{ClientEnd, Exchange, Origin, Outbox, PluginPlace, PluginProtocol, Protocol};
use crate::seq::SeqNumber;
use crate::shared::Shared;
use crate::stream::{Arrival, Assembler, SegmentInfo};
use crate::tcp::connection::Limited;
use crate::tcp::{Connection, ReplyHeader};
use crate::time::{Duration, Instant};
use crate::wire::tcp::{TcpFlags, TcpSegment};
use client::{Client, Missed};
use std::collections::VecDeque;

/// How long missing client bytes are waited for: a real client that lost them sends them again well within.
const GAP_PATIENCE: Duration = Duration::from_secs(3);
/// How often a session looks how far a recorded capture has come, while it waits for missing bytes.
const GAP_RECHECK: Duration = Duration::from_millis(100);
/// Bytes of the online server kept at most because some before them are missing.
const MAX_REFERENCE_EARLY: usize = 1 << 20;
/// Segments that one session sends in one go, so that a large upload does not make the others wait.
const SEGMENTS_PER_TURN: usize = 64;
/// What a session costs beside the bytes it holds, roughly: itself, its protocol, its places in the tables.
const SESSION_COST: usize = size_of::<Session>() + 512;

/// Which captured connection a session replays, and which copy of it (`-n`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CaptureKey {
    pub(crate) client: Endpoint,
    pub(crate) online: Endpoint,
    pub(crate) copy: u16,
}

/// A captured segment with what its packet's headers said.
#[derive(Clone, Copy)]
pub(crate) struct Captured<'a> {
    pub(crate) segment: &'a TcpSegment<'a>,
    pub(crate) hop_limit: u8,
    pub(crate) traffic_class: u8,
    pub(crate) captured_at_nanos: u64,
}

/// A reply that waits for the client's distance to pass.
#[derive(Debug)]
struct DelayedReply {
    due: Instant,
    flow: FlowKey,
    header: ReplyHeader,
    body: Vec<u8>,
}

impl DelayedReply {
    /// Bytes of memory that a reply with this body takes.
    const fn cost(body: &[u8]) -> usize {
        body.len() + size_of::<Self>()
    }
}

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    number: u32,
    pub(crate) serial: u64,
    pub(crate) key: CaptureKey,
    target: Endpoint,
    client: Client,
    protocol: Box<dyn Protocol>,
    outbox: Outbox,
    connection: Option<Connection>,
    /// The response of that connection, put in order, when the protocol asked for bodies.
    response: Assembler,
    /// What the online server sent, put in order, for protocols that want it.
    reference: Assembler,
    /// Since when bytes of it are missing.
    reference_gap_since: Option<Missed>,
    /// The connection broke, and why; it is settled once the plugin has answered what came before.
    lost: Option<Lost>,
    /// The connection before, while it ends.
    former: Option<Connection>,
    established: bool,
    attempts: u64,
    /// Connections since the last acknowledged request.
    fruitless: u32,
    /// Addresses and ports that another instance turned out to have.
    refused_routes: u32,
    /// After connections that came to nothing: not before this.
    retry_at: Option<Instant>,
    /// Why not.
    retry_reason: EndReason,
    delayed: VecDeque<DelayedReply>,
    /// Bytes of memory that they take.
    delayed_bytes: usize,
    last_failure: Option<EndReason>,
    last_progress: Instant,
    last_client: Instant,
    /// Capture time of a request that went on without waiting, until its packet is made.
    fresh_at: u64,
    /// Capture time of the last segment with new bytes.
    last_captured_at: u64,
    ended: Option<EndReason>,
    /// Whether any request byte was captured.
    seen_request: bool,
    /// The client's address and port began another connection: the key belongs to that one.
    pub(crate) detached: bool,
    pub(crate) dirty: bool,
    pub(crate) accounted: usize,
    /// Whether it counts among those whose client has ended.
    pub(crate) counted_finishing: bool,
}

impl Session {
    /// A session for a connection whose SYN was captured, or that is joined at `captured`.
    pub(crate) fn new(
        number: u32,
        serial: u64,
        key: CaptureKey,
        target: Endpoint,
        captured: &Captured<'_>,
        shared: &mut Shared,
        now: Instant,
    ) -> Self {
        let segment = captured.segment;
        let (origin, client) = if segment.flags.contains(TcpFlags::SYN) {
            let client = Client::from_syn(segment, captured.hop_limit, captured.traffic_class, now);
            (Origin::Start, client)
        } else {
            shared.counters.sessions_joined += 1;
            (Origin::MidStream, Client::joined(segment, captured.hop_limit, captured.traffic_class))
        };
        shared.counters.sessions_opened += 1;
        shared.counters.sessions_live += 1;
        let mut session = Self {
            number,
            serial,
            key,
            target,
            client,
            protocol: shared.factory.create(origin),
            outbox: Outbox::new(shared.config.session_buffer, shared.config.capture_clock),
            reference: Assembler::default(),
            reference_gap_since: None,
            lost: None,
            connection: None,
            response: Assembler::default(),
            former: None,
            established: false,
            attempts: 0,
            fruitless: 0,
            refused_routes: 0,
            retry_at: None,
            retry_reason: EndReason::NoHandshake,
            delayed: VecDeque::new(),
            delayed_bytes: 0,
            last_failure: None,
            last_progress: now,
            last_client: now,
            fresh_at: 0,
            last_captured_at: 0,
            ended: None,
            seen_request: false,
            detached: false,
            dirty: false,
            accounted: 0,
            counted_finishing: false,
        };
        let is_unserved = session.join_plugin(origin, captured.captured_at_nanos, shared, now);
        if is_unserved {
            session.end(EndReason::PluginDisabled, shared, now);
        } else {
            session.open_connection(shared, now);
        }
        session
    }

    /// Hands the session to the plugin that serves its port, if there is one. Returns whether the session can't be served.
    fn join_plugin(&mut self, origin: Origin, at: u64, shared: &mut Shared, now: Instant) -> bool {
        let CaptureKey { client, online, .. } = self.key;
        let Some(plugin) = shared.hub.plugin_for(online.port) else { return false };
        let place = match shared.hub.join(plugin) {
            Ok(place) => place,
            Err(without) => return without == Without::GiveUp,
        };
        let opening = Opening { origin, client, online, target: self.target };
        let (id, policy) = (self.id(), shared.hub.policy(plugin));
        let protocol = self.with_protocol(shared, now, |_, exchange| {
            PluginProtocol::new(place, id, policy, opening, at, exchange)
        });
        self.protocol = Box::new(protocol);
        false
    }

    /// The session's number in events and actions: never used again.
    pub(crate) const fn id(&self) -> SessionId {
        self.serial << 32 | self.number as u64
    }

    /// Whether `segment` is the SYN that this session began with, again.
    pub(crate) fn is_same_syn(&self, segment: &TcpSegment<'_>) -> bool {
        segment.seq == self.client.isn()
    }

    pub(crate) const fn syn_repeated(&mut self) {
        self.client.syn_repeated();
    }

    /// The client's next sequence number, and the last that it acknowledged, once it has.
    pub(crate) fn client_numbers(&self) -> (SeqNumber, Option<SeqNumber>) {
        self.client.numbers()
    }

    /// Whether the session is over and only its connection still answers.
    pub(crate) const fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Why the session is over, if it is.
    pub(crate) const fn ended(&self) -> Option<EndReason> {
        self.ended
    }

    /// Takes a captured segment of the client.
    pub(crate) fn on_captured(&mut self, captured: &Captured<'_>, shared: &mut Shared, now: Instant) {
        if let Some(reason) = self.ended {
            self.note_late_request(captured.segment, reason, shared);
            return;
        }
        self.last_client = now;
        let idle_before = self.is_ready_for_request();
        let sent_end_before = self.connection.as_ref().map_or(0, |c| c.sender().end());
        let Self { client, protocol, outbox, connection, .. } = self;
        let Shared { counters, hub, .. } = shared;
        let mut new_bytes = 0;
        let taken = client.take(captured.segment, captured.captured_at_nanos, now, |bytes, info| {
            new_bytes += bytes.len() as u64;
            outbox.capture(bytes, info.captured_at_nanos);
            let connection = connection.as_mut();
            let mut exchange =
                Exchange { outbox: &mut *outbox, connection, counters: &mut *counters, hub: &mut *hub, now };
            protocol.on_request(bytes.len(), info, &mut exchange);
        });
        if new_bytes > 0 && !self.seen_request {
            self.seen_request = true;
            // With copies, the connection counts once.
            let tls = self.key.copy == 0 && looks_like_tls(captured.segment.payload);
            counters.connections_tls += u64::from(tls);
        }
        counters.request_bytes_captured += new_bytes;
        if new_bytes > 0 {
            self.last_captured_at = captured.captured_at_nanos;
        }
        match taken.arrival {
            Some(Arrival::Repeated) => counters.segments_repeated += 1,
            Some(Arrival::Early) => counters.segments_reordered += 1,
            Some(Arrival::Cut(cut_at)) => {
                while self.client.has_gap_before(cut_at) {
                    self.on_gap(None, EndReason::CaptureGap, shared, now);
                }
                let end = self.client.end_of(captured.segment);
                let info = self.client.info_of(captured.segment, captured.captured_at_nanos);
                self.on_gap(Some((end, info)), EndReason::CaptureTruncated, shared, now);
            }
            Some(Arrival::InOrder) | None => {}
        }
        if let Some(connection) = &mut self.connection {
            connection.widen(self.client.window());
            if idle_before && connection.sender().end() > sent_end_before {
                self.fresh_at = captured.captured_at_nanos;
            }
        }
        if let Some((end, info)) = taken.ended {
            self.with_protocol(shared, now, |p, exchange| p.on_close(end, info, exchange));
        }
        self.after_events(shared, now);
        if self.undelivered() > shared.config.session_limit {
            self.end(EndReason::SessionLimit, shared, now);
        }
    }

    /// Accounts for the request of a session that was over before its client sent any. Nobody knows how many requests there
    /// would have been: it counts as one.
    fn note_late_request(&mut self, segment: &TcpSegment<'_>, reason: EndReason, shared: &mut Shared) {
        if segment.payload_len > 0 && !self.seen_request {
            self.seen_request = true;
            shared.counters.requests_captured += 1;
            shared.counters.requests_given_up.add(reason, 1);
        }
    }

    /// Bytes captured that the target has not acknowledged.
    fn undelivered(&self) -> u64 {
        let queued = self.connection.as_ref().map_or(0, |c| c.sender().end() - c.sender().acknowledged());
        queued + (self.outbox.backlog() + self.client.held_bytes()) as u64
    }

    fn is_ready_for_request(&self) -> bool {
        self.established
            && !self.outbox.has_work()
            && self.connection.as_ref().is_some_and(|c| c.accepts_data())
    }

    /// The client's address and port began another connection. This one ends when everything captured is delivered.
    pub(crate) fn detach(&mut self, shared: &mut Shared, now: Instant) {
        self.detached = true;
        if let Some((end, info)) = self.client.replaced() {
            self.with_protocol(shared, now, |p, exchange| p.on_close(end, info, exchange));
        }
        self.after_events(shared, now);
    }

    /// Nothing more will be captured: what is missing never comes, and the client says nothing more.
    pub(crate) fn end_capture(&mut self, shared: &mut Shared, now: Instant) {
        while !self.is_ended() && self.client.gap_since.is_some() {
            self.on_gap(None, EndReason::CaptureGap, shared, now);
        }
        self.detach(shared, now);
    }

    /// Whether its client has ended, and only the target's answers are waited for.
    pub(crate) const fn is_finishing(&self) -> bool {
        self.client.is_over() && !self.is_ended()
    }

    /// Bytes of the client will never be known. With `cut`, they are those of a segment that was captured only in part: where
    /// it ends, and what is known of it.
    fn on_gap(
        &mut self,
        cut: Option<(u64, SegmentInfo)>,
        reason: EndReason,
        shared: &mut Shared,
        now: Instant,
    ) {
        self.last_failure = Some(reason);
        self.with_protocol(shared, now, |p, exchange| match cut {
            Some((_, info)) => p.on_cut(info, reason, exchange),
            None => p.on_gap(reason, exchange),
        });
        let resume = cut.map(|(end, _)| end);
        let Self { client, protocol, outbox, connection, .. } = self;
        let Shared { counters, hub, .. } = shared;
        let ended = client.skip_gap(resume, |bytes, info| {
            counters.request_bytes_captured += bytes.len() as u64;
            outbox.capture(bytes, info.captured_at_nanos);
            let connection = connection.as_mut();
            let mut exchange =
                Exchange { outbox: &mut *outbox, connection, counters: &mut *counters, hub: &mut *hub, now };
            protocol.on_request(bytes.len(), info, &mut exchange);
        });
        // Behind one gap there may be another.
        client.note_gap(Missed { at: now, captured_at: shared.captured_until });
        if let Some((end, info)) = ended {
            self.with_protocol(shared, now, |p, exchange| p.on_close(end, info, exchange));
        }
    }

    /// Takes a captured segment of the online server.
    pub(crate) fn on_reference(&mut self, captured: &Captured<'_>, shared: &mut Shared, now: Instant) {
        if self.is_ended() || !self.protocol.wants_references() {
            return;
        }
        let segment = captured.segment;
        let at = captured.captured_at_nanos;
        let Some(offset) = self.client.reference_offset(segment, self.reference.next_offset()) else {
            return;
        };
        let info = SegmentInfo { captured_at_nanos: at, ..SegmentInfo::default() };
        let Self { reference, protocol, outbox, connection, .. } = self;
        let Shared { counters, hub, .. } = shared;
        let mut tell = |bytes: &[u8]| {
            let connection = connection.as_mut();
            let mut exchange =
                Exchange { outbox: &mut *outbox, connection, counters: &mut *counters, hub: &mut *hub, now };
            protocol.on_reference(bytes, at, &mut exchange);
        };
        let arrival = reference.insert(offset, segment.payload, segment.payload_len, info, |b, _| tell(b));
        if let Arrival::Cut(_) = arrival {
            tell(&[]);
            reference.resume_at((offset + segment.payload_len as i64) as u64, |b, _| tell(b));
        }
        let missed = *self.reference_gap_since.get_or_insert(Missed { at: now, captured_at: at });
        let waited = match shared.config.capture_clock {
            CaptureClock::Live => now.saturating_since(missed.at),
            CaptureClock::Recorded => Duration::from_nanos(at.saturating_sub(missed.captured_at)),
        };
        if !reference.has_gap() {
            self.reference_gap_since = None;
        } else if waited > GAP_PATIENCE || reference.early_bytes() > MAX_REFERENCE_EARLY {
            tell(&[]);
            reference.skip_gap(|b, _| tell(b));
            self.reference_gap_since = None;
        }
    }

    /// The plugin has answered events that were queued for this session.
    pub(crate) fn on_plugin_run(&mut self, answer: &mut Answer<'_>, shared: &mut Shared, now: Instant) {
        if self.is_ended() {
            return;
        }
        let idle_before = self.is_ready_for_request();
        let sent_end_before = self.connection.as_ref().map_or(0, |c| c.sender().end());
        self.with_protocol(shared, now, |p, exchange| p.on_plugin_run(answer, exchange));
        if let Some(connection) = &self.connection
            && idle_before
            && connection.sender().end() > sent_end_before
        {
            self.fresh_at = self.last_captured_at;
        }
        self.after_events(shared, now);
    }

    /// The plugin's instance failed in another session.
    pub(crate) fn rejoin(&mut self, shared: &mut Shared, now: Instant) {
        self.with_protocol(shared, now, |p, exchange| p.rejoin(exchange));
        self.after_plugin_loss(shared, now);
    }

    /// The plugin is used no more.
    pub(crate) fn go_without_plugin(&mut self, without: Without, shared: &mut Shared, now: Instant) {
        self.with_protocol(shared, now, |p, exchange| p.go_without(without, exchange));
        self.after_plugin_loss(shared, now);
    }

    /// Where its events go, if to a plugin.
    pub(crate) fn plugin_place(&self) -> Option<PluginPlace> {
        self.protocol.plugin_place()
    }

    fn with_protocol<R>(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        act: impl FnOnce(&mut dyn Protocol, &mut Exchange<'_>) -> R,
    ) -> R {
        let mut exchange = Exchange {
            outbox: &mut self.outbox,
            connection: self.connection.as_mut(),
            counters: &mut shared.counters,
            hub: &mut shared.hub,
            now,
        };
        act(&mut *self.protocol, &mut exchange)
    }

    /// Lets due timers fire.
    pub(crate) fn on_timer(&mut self, shared: &mut Shared, now: Instant) {
        self.deliver_delayed(shared, now);
        self.run_connection_timers(shared, now);
        if !self.is_ended() {
            if self.outbox.timer().is_some_and(|at| at <= now) {
                self.outbox.take_timer();
                self.with_protocol(shared, now, |p, exchange| p.on_timer(exchange));
            }
            if self.gap_deadline(shared).is_some_and(|at| at <= now) {
                self.on_gap_timer(shared, now);
            }
            self.check_patience(shared, now);
        }
        self.after_events(shared, now);
    }

    /// When to look at missing bytes.
    fn gap_deadline(&self, shared: &Shared) -> Option<Instant> {
        let patience = match shared.config.capture_clock {
            CaptureClock::Live => GAP_PATIENCE,
            CaptureClock::Recorded => GAP_RECHECK,
        };
        self.client.gap_since.map(|missed| missed.at + patience)
    }

    /// Gives up missing bytes that the client would have sent again by now.
    fn on_gap_timer(&mut self, shared: &mut Shared, now: Instant) {
        let captured_until = shared.captured_until;
        if shared.config.capture_clock == CaptureClock::Recorded
            && let Some(missed) = &mut self.client.gap_since
            && captured_until.saturating_sub(missed.captured_at) < GAP_PATIENCE.as_nanos() as u64
        {
            missed.at = now;
            return;
        }
        self.on_gap(None, EndReason::CaptureGap, shared, now);
    }

    /// Gives up what the target has made no progress with for too long, and clients that say nothing any more.
    fn check_patience(&mut self, shared: &mut Shared, now: Instant) {
        let waits = self.waits_for_target();
        if waits && self.last_progress + shared.config.session_timeout <= now {
            let stalled = self.connection.as_ref().is_some_and(|c| c.sender().waiting_since().is_some());
            let reason = if stalled { EndReason::TargetStalled } else { EndReason::ResponseTimeout };
            self.end(reason, shared, now);
        } else if self.last_client + shared.config.keepalive_timeout <= now && !waits {
            self.end(EndReason::Idle, shared, now);
        }
    }

    /// Whether it is the target's turn: something is not delivered, or the client has closed and waits for the answer.
    fn waits_for_target(&self) -> bool {
        self.outbox.has_work() || self.outbox.pending_len() > 0 || self.client.is_over()
    }

    /// When [`Session::on_timer`] is due.
    pub(crate) fn deadline(&self, shared: &Shared) -> Option<Instant> {
        let connections = [&self.connection, &self.former];
        let of_connections = connections.into_iter().flatten().filter_map(Connection::deadline).min();
        let delayed = self.delayed.front().map(|d| d.due);
        let mut deadline = [of_connections, delayed].into_iter().flatten().min();
        if !self.is_ended() {
            let patience = if self.waits_for_target() {
                self.last_progress + shared.config.session_timeout
            } else {
                self.last_client + shared.config.keepalive_timeout
            };
            let gap = self.gap_deadline(shared);
            let retry =
                self.retry_at.filter(|_| self.outbox.staged_len() > 0 || self.outbox.needs_preparation());
            deadline =
                [deadline, self.outbox.timer(), gap, retry, Some(patience)].into_iter().flatten().min();
        }
        deadline
    }

    /// Bytes of memory that the session stands for.
    pub(crate) fn memory(&self) -> usize {
        let connections = [&self.connection, &self.former];
        let queued: usize = connections.into_iter().flatten().map(|c| c.sender().held_bytes()).sum();
        // An ended session is gone in a moment; what counts against the limit is what could be shed.
        let own = if self.is_ended() { 0 } else { SESSION_COST + self.protocol.held_bytes() };
        let early = self.client.held_bytes() + self.response.early_bytes() + self.reference.early_bytes();
        let streams = self.outbox.held_bytes() + early;
        own + streams + queued + self.delayed_bytes
    }

    /// Whether the session and its connections are gone, and nothing remembers them.
    pub(crate) const fn is_gone(&self) -> bool {
        self.is_ended() && self.connection.is_none() && self.former.is_none()
    }

    /// Ends the session for `reason`: what is not acknowledged is given up, and an open connection is reset.
    pub(crate) fn end(&mut self, reason: EndReason, shared: &mut Shared, now: Instant) {
        if self.is_ended() {
            return;
        }
        self.ended = Some(reason);
        if self.client.gap_since.is_some() {
            // What lies behind a gap was never understood; it counts as one request.
            shared.counters.requests_captured += 1;
            shared.counters.requests_given_up.add(EndReason::CaptureGap, 1);
        }
        self.with_protocol(shared, now, |p, exchange| p.on_end(exchange));
        self.outbox.give_up_all(reason, &mut shared.counters);
        self.outbox.discard();
        self.reference = Assembler::default();
        self.lost = None;
        self.delayed = VecDeque::new();
        self.delayed_bytes = 0;
        self.client.forget();
        shared.counters.sessions_live -= 1;
        shared.counters.sessions_ended.add(reason, 1);
        if let Some(connection) = &mut self.connection {
            connection.abort(now);
        }
    }

    /// Ends the session, and stops answering for it: the flow belongs to somebody else.
    pub(crate) fn end_silently(&mut self, reason: EndReason, shared: &mut Shared, now: Instant) {
        self.end(reason, shared, now);
        for connection in [self.connection.take(), self.former.take()].into_iter().flatten() {
            shared.release_flow(connection.flow());
        }
    }

    /// Appends the packets that may be sent now to `batch`.
    pub(crate) fn transmit(&mut self, shared: &mut Shared, batch: &mut PacketBatch, now: Instant) -> Limited {
        let mut limited = Limited::No;
        for connection in [&mut self.former, &mut self.connection].into_iter().flatten() {
            let out = target::Outgoing {
                batch: &mut *batch,
                counters: &mut shared.counters,
                session: self.number,
                fresh_at: &mut self.fresh_at,
            };
            if target::transmit(connection, SEGMENTS_PER_TURN, out, now) == Limited::Yes {
                limited = Limited::Yes;
            }
        }
        if let Some(connection) = &self.connection {
            self.outbox.settle(connection, &mut shared.counters);
            self.outbox.take_sent(&mut shared.sent_requests);
        }
        self.drop_closed(shared);
        limited
    }
}

/// How a connection broke.
#[derive(Clone, Copy, Debug)]
enum Lost {
    /// Its handshake came to nothing.
    Handshake(EndReason),
    /// It was established.
    Established(EndReason),
}

/// How a client's end is to be understood when nothing says so.
const fn reason_of(end: ClientEnd) -> EndReason {
    match end {
        ClientEnd::Finished => EndReason::Completed,
        ClientEnd::Reset => EndReason::ClientReset,
    }
}

/// Whether the first bytes of a request are those of a TLS handshake (RFC 8446, section 5.1): a record of type 22, version 3.x.
fn looks_like_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [22, 3, 0..=4, _, _, 1, ..])
}
