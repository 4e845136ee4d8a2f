//! One worker: its capture, its sessions, its relay connections and its sink, and the loop that feeds one with the other.
//!
//! A turn of the loop takes what has been captured and what `intercept` has returned, lets due timers fire, tells the routes,
//! and sends what may be sent, each with as few system calls as there are batches. Between turns a worker under load naps, so
//! that packets gather; one with little to do sleeps until the doorbell of its capture rings.

use crate::offline::{Boundary, Feed, OfflineStatus};
use crate::report::Histogram;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;
use tcpcopy_engine::batch::PacketBatch;
use tcpcopy_engine::counters::Counters;
use tcpcopy_engine::relay::hello::AssistantFacts;
use tcpcopy_engine::tcp::connection::Limited;
use tcpcopy_engine::time::Instant;
use tcpcopy_engine::{Engine, RouteChange};
use tcpcopy_net::clock;
use tcpcopy_net::pace::Pace;
use tcpcopy_net::poll::{Events, Interest, Poller};
use tcpcopy_net::raw_socket;
use tcpcopy_net::sink::{PacketSink, SendFailure};
use tcpcopy_net::source::{CaptureError, CaptureStatistics, PacketSource, Readiness};
use tcpcopy_relay::{RelayClients, RelayEvent, ServerStatistics};

/// Longest rest between two turns while packets keep coming fast: what a request may be late for the sake of fewer wake-ups.
const LONGEST_NAP: Duration = Duration::from_micros(80);
/// Longest sleep: the loop looks at its orders at least this often.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);
/// How long the ring is emptied at most when the capture ends.
const LONGEST_DRAIN: Duration = Duration::from_millis(250);
/// Packets taken from the capture in one turn.
const CAPTURE_BATCH: usize = 512;
/// Packets sent in one turn.
const SEND_BATCH: usize = 256;
/// Above this share of the ring, emptying it goes before sending: what is lost in the ring is lost for good.
const RING_PRESSURE: f32 = 0.25;
/// The MTU is never taken to be below this (RFC 8200, section 5, rounded down to what IPv4 links may have).
const MIN_MTU: u32 = 576;

/// Poller tokens: capture descriptors, the caller's own, and from [`FIRST_RELAY_TOKEN`] on the relay's.
const CAPTURE_TOKEN: u64 = 0;
const CALLER_TOKEN: u64 = 1;
const RELAYS_TOKEN: u64 = 2;
/// First token of relay connections.
pub const FIRST_RELAY_TOKEN: u64 = 16;

/// What a worker has to show for itself.
#[derive(Clone, Debug, Default)]
pub struct WorkerReport {
    /// The engine's counters.
    pub counters: Counters,
    /// The capture's counters.
    pub capture: CaptureStatistics,
    /// Failed sends by error number.
    pub send_errors: BTreeMap<i32, u64>,
    /// From capture to injection.
    pub delay: Histogram,
    /// From the capture of a reply to its arrival here.
    pub relay_delay: Histogram,
    /// Its relay connections, one entry per server.
    pub relay: Vec<ServerStatistics>,
    /// What each server told about its host.
    pub facts: Vec<Option<AssistantFacts>>,
    /// How far capture files were played, if there are any.
    pub offline: Option<OfflineStatus>,
}

/// Where a worker's packets come from.
pub enum Intake {
    /// As they are captured.
    Live(Box<dyn PacketSource>),
    /// From files.
    Recorded(Box<Feed>),
}

/// What a worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Connect to `intercept`; what is in files can wait.
    Prepare,
    /// Capture and replay.
    Replay,
    /// Capture no more, deliver what waits.
    Drain,
}

/// A worker.
pub struct Worker {
    engine: Engine,
    intake: Intake,
    /// When there will be something to take from files.
    feed_again: Option<Instant>,
    sink: Box<dyn PacketSink>,
    relay: RelayClients,
    /// Everything that can wake an idle worker; the relay's set is in it as one descriptor.
    poller: Poller,
    /// The relay connections alone: while a worker naps, the doorbell stays unanswered.
    relay_poller: Poller,
    events: Events,
    batch: PacketBatch,
    failures: Vec<SendFailure>,
    routes: Vec<RouteChange>,
    send_errors: BTreeMap<i32, u64>,
    delay: Histogram,
    relay_delay: Histogram,
    facts: Vec<Option<AssistantFacts>>,
    pace: Pace,
    /// Whether more could have been sent in the last turn.
    backlog: Limited,
    order: Order,
    caller_ready: bool,
}

impl Worker {
    /// A worker of these parts, whose relay connections are being made. `caller_fd` wakes it too: see
    /// [`Worker::take_caller_ready`].
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new(
        engine: Engine,
        intake: Intake,
        sink: Box<dyn PacketSink>,
        mut relay: RelayClients,
        servers: usize,
        caller_fd: Option<RawFd>,
    ) -> io::Result<Self> {
        let now = clock::monotonic();
        let order = match &intake {
            Intake::Live(_) => Order::Replay,
            Intake::Recorded(_) => Order::Prepare,
        };
        let poller = Poller::new()?;
        let relay_poller = Poller::new()?;
        let capture_fds = match &intake {
            Intake::Live(source) => source.wait_fds(),
            Intake::Recorded(feed) => vec![feed.bell()],
        };
        for fd in capture_fds {
            poller.add(fd, CAPTURE_TOKEN, Interest::Readable)?;
        }
        if let Some(fd) = caller_fd {
            poller.add(fd, CALLER_TOKEN, Interest::Readable)?;
        }
        poller.add(relay_poller.as_raw_fd(), RELAYS_TOKEN, Interest::Readable)?;
        relay.start(&relay_poller, now);
        Ok(Self {
            engine,
            intake,
            feed_again: Some(now),
            sink,
            relay,
            poller,
            relay_poller,
            events: Events::with_capacity(64),
            batch: PacketBatch::new(),
            failures: Vec::new(),
            routes: Vec::new(),
            send_errors: BTreeMap::new(),
            delay: Histogram::new(),
            relay_delay: Histogram::new(),
            facts: vec![None; servers],
            pace: Pace::new(LONGEST_NAP),
            backlog: Limited::No,
            order,
            caller_ready: false,
        })
    }

    /// The relay connections.
    pub const fn relay(&self) -> &RelayClients {
        &self.relay
    }

    /// Begins to play capture files.
    pub fn start(&mut self) {
        if self.order == Order::Prepare {
            self.order = Order::Replay;
        }
    }

    /// Whether nothing captured waits for delivery.
    pub fn is_idle(&self) -> bool {
        self.engine.is_idle()
    }

    /// Whether the capture files were played to their ends.
    pub fn capture_has_ended(&self) -> bool {
        matches!(&self.intake, Intake::Recorded(feed) if feed.has_ended())
    }

    /// Whether no session is left.
    pub fn is_finished(&self) -> bool {
        self.engine.counters().sessions_live == 0 && self.engine.is_idle()
    }

    /// Takes why reading a capture file failed, if it has: what, and what to do.
    pub fn take_reading_failure(&mut self) -> Option<(String, String)> {
        match &mut self.intake {
            Intake::Live(_) => None,
            Intake::Recorded(feed) => feed.take_failure(),
        }
    }

    /// Whether the caller's descriptor woke the worker since the last call.
    pub const fn take_caller_ready(&mut self) -> bool {
        std::mem::replace(&mut self.caller_ready, false)
    }

    /// Takes what is in the ring one last time, and captures no more from then on.
    ///
    /// # Errors
    /// When the capture has failed.
    pub fn drain(&mut self) -> Result<(), CaptureError> {
        if self.order != Order::Drain {
            self.order = Order::Drain;
            if matches!(self.intake, Intake::Recorded(_)) {
                // What is in a file can be replayed another time.
                return Ok(());
            }
            // What comes in the meantime belongs to the time after the end.
            let end = clock::monotonic() + LONGEST_DRAIN;
            loop {
                let now = clock::monotonic();
                if self.capture(now, CAPTURE_BATCH)? < CAPTURE_BATCH || now >= end {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Ends all sessions and tells the target so.
    pub fn shut_down(&mut self) {
        let now = clock::monotonic();
        self.engine.shut_down(now);
        while self.transmit(now) == Limited::Yes {}
        self.tell_routes(now);
    }

    /// What the worker has to show for itself so far.
    pub fn report(&mut self) -> WorkerReport {
        WorkerReport {
            counters: *self.engine.counters(),
            capture: match &mut self.intake {
                Intake::Live(source) => source.statistics(),
                Intake::Recorded(_) => CaptureStatistics::default(),
            },
            offline: match &self.intake {
                Intake::Live(_) => None,
                Intake::Recorded(feed) => Some(feed.status()),
            },
            send_errors: self.send_errors.clone(),
            delay: self.delay.clone(),
            relay_delay: self.relay_delay.clone(),
            relay: self.relay.statistics(),
            facts: self.facts.clone(),
        }
    }

    /// One turn: work if there is some, else rest, but not beyond `until`.
    ///
    /// # Errors
    /// When the capture or the poller has failed.
    pub fn turn(&mut self, until: Instant) -> Result<(), TurnError> {
        let now = clock::monotonic();
        let captured = match self.order {
            Order::Replay => self.capture(now, CAPTURE_BATCH)?,
            Order::Prepare | Order::Drain => 0,
        };
        let replies = self.take_replies(now)?;
        if self.engine.next_deadline().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
        }
        if self.relay.poll_timeout().is_some_and(|at| at <= now) {
            self.relay.handle_timeout(now, &self.relay_poller);
        }
        self.engine.run_plugins(now);
        let under_pressure = match &self.intake {
            Intake::Live(source) => captured == CAPTURE_BATCH && source.fill_ratio() > RING_PRESSURE,
            Intake::Recorded(_) => false,
        };
        if !under_pressure {
            self.tell_routes(now);
            self.backlog = self.transmit(now);
        }
        self.pace.note(captured + replies, now);
        if captured == CAPTURE_BATCH || self.backlog == Limited::Yes {
            return Ok(());
        }
        self.rest(until)
    }

    fn capture(&mut self, now: Instant, limit: usize) -> Result<usize, CaptureError> {
        let engine = &mut self.engine;
        match &mut self.intake {
            Intake::Live(source) => source.drain(limit, &mut |frame| {
                let (link, at) = (frame.link_type, frame.captured_at_nanos);
                engine.handle_frame(link, frame.data, frame.wire_len, at, now);
            }),
            Intake::Recorded(feed) => {
                let fed = feed.feed(engine, limit, now);
                self.feed_again = fed.again;
                match fed.boundary {
                    Some(Boundary::Pass(pass)) => {
                        engine.begin_pass(pass, now);
                        feed.begin_pass(engine.counters());
                        self.feed_again = Some(now);
                    }
                    Some(Boundary::End) => engine.end_capture(now),
                    None => {}
                }
                Ok(fed.frames)
            }
        }
    }

    fn take_replies(&mut self, now: Instant) -> io::Result<usize> {
        self.relay_poller.wait(Some(Duration::ZERO), &mut self.events)?;
        if self.events.is_empty() {
            return Ok(0);
        }
        for event in self.events.iter() {
            self.relay.handle_event(event, &self.relay_poller, now);
        }
        let Self { engine, relay, relay_delay, facts, .. } = self;
        let mut replies = 0;
        relay.drain(now, &mut |event| match event {
            RelayEvent::Reply { packet, wire_len, age } => {
                replies += 1;
                relay_delay.record(age);
                engine.handle_reply(packet, wire_len, now);
            }
            RelayEvent::RouteRefused(flow) => engine.handle_route_refused(&flow, now),
            RelayEvent::Connected { server, facts: told } => {
                tracing::info!(server, version = told.version, interfaces = told.interfaces, "relay is up");
                facts[server] = Some(told.clone());
            }
            RelayEvent::Disconnected { server, remaining, error } => {
                tracing::warn!(server, remaining, "relay connection failed: {error}");
            }
            RelayEvent::ServerStats { .. } => {}
        });
        while let Some(server) = relay.missing_routes() {
            relay.resend_routes(server, engine.routes());
        }
        Ok(replies)
    }

    fn tell_routes(&mut self, now: Instant) {
        self.engine.take_route_changes(&mut self.routes);
        for change in self.routes.drain(..) {
            match change {
                RouteChange::Add { flow, body_limit } => self.relay.add_route(flow, body_limit),
                RouteChange::Remove { flow } => self.relay.remove_route(flow),
            }
        }
        self.relay.flush(&self.relay_poller, now);
    }

    fn transmit(&mut self, now: Instant) -> Limited {
        self.batch.clear();
        let limited = self.engine.poll_transmit(&mut self.batch, SEND_BATCH, now);
        if self.batch.is_empty() {
            return limited;
        }
        self.failures.clear();
        self.sink.send(&self.batch, &mut self.failures);
        match &mut self.intake {
            Intake::Live(_) => self.record_delays(),
            Intake::Recorded(feed) => feed.note_sent(&mut self.engine, now),
        }
        if !self.failures.is_empty() {
            self.take_failures(now);
        }
        limited
    }

    fn record_delays(&mut self) {
        let mut sent_at = None;
        for packet in self.batch.packets().iter().filter(|p| p.captured_at_nanos > 0) {
            let sent_at = *sent_at.get_or_insert_with(clock::unix_nanos);
            let delay = sent_at.saturating_sub(packet.captured_at_nanos);
            self.delay.record(Duration::from_nanos(delay));
        }
    }

    fn take_failures(&mut self, now: Instant) {
        self.engine.note_send_failures(self.failures.len() as u64);
        for failure in &self.failures {
            *self.send_errors.entry(failure.errno).or_insert(0) += 1;
            if failure.errno != libc::EMSGSIZE {
                continue;
            }
            let packet = self.batch.packets()[failure.index];
            let len = packet.range().len() as u32;
            // What the kernel says may be what it said when the packet was made too long; a step down always helps.
            let known = raw_socket::path_mtu(packet.target.addr).ok().filter(|mtu| *mtu < len);
            let mtu = known.unwrap_or(len - len / 16).max(MIN_MTU);
            self.engine.handle_packet_too_big(packet.session, mtu, now);
        }
    }

    fn rest(&mut self, until: Instant) -> Result<(), TurnError> {
        let now = clock::monotonic();
        let feed = self
            .feed_again
            .filter(|_| matches!((&self.intake, self.order), (Intake::Recorded(_), Order::Replay)));
        let deadlines = [self.engine.next_deadline(), self.relay.poll_timeout(), feed, Some(until)];
        let next = deadlines.into_iter().flatten().min().unwrap_or(until);
        let left = next.saturating_since(now).min(LONGEST_SLEEP);
        if left.is_zero() {
            return Ok(());
        }
        if let Some(nap) = self.pace.nap(now) {
            std::thread::sleep(left.min(nap));
            return Ok(());
        }
        if self.order != Order::Replay {
            self.relay_poller.wait(Some(left), &mut self.events)?;
            return Ok(());
        }
        if let Intake::Live(source) = &mut self.intake
            && source.prepare_wait() == Readiness::DataPending
        {
            return Ok(());
        }
        self.poller.wait(Some(left), &mut self.events)?;
        self.caller_ready |= self.events.iter().any(|event| event.token == CALLER_TOKEN);
        Ok(())
    }
}

/// Why a worker can't go on.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The capture has failed.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The poller has failed.
    #[error("waiting for packets failed")]
    Poll(#[from] io::Error),
}
