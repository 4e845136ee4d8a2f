//! One relay connection: its socket, its buffers and where it is in its life.

use crate::error::RelayError;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use tcpcopy_engine::flow::FlowKey;
use tcpcopy_engine::protocol::Bodies;
use tcpcopy_engine::relay::HANDSHAKE_TIMEOUT;
use tcpcopy_engine::relay::frame::ReceiveBuffer;
use tcpcopy_engine::relay::handshake::{ClientHandshake, Step};
use tcpcopy_engine::relay::hello::{AssistantFacts, PeerId};
use tcpcopy_engine::relay::message::{InterceptStats, Reply, RouteRefusal, ToIntercept, ToTcpcopy};
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_net::poll::{Event, Interest, Poller};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// `intercept` answers a ping a second; when this much time passes without a byte, it or the way to it is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);

const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// After an error that only a change of options mends.
const BACK_OFF_LASTING: Duration = Duration::from_secs(15);

const READ_SIZE: usize = 64 * 1024;
/// Bytes read from one connection before the others, and the rest of the worker's loop, get their turn.
const DRAIN_LIMIT: usize = 256 * 1024;
/// Bytes of routes that wait to be written.
const QUEUE_LIMIT: usize = 16 * 1024 * 1024;

/// A message taken off the connection that is of interest to others.
pub(crate) enum Drained<'a> {
    Reply(Reply<'a>),
    RouteRefused(FlowKey, RouteRefusal),
    Stats(InterceptStats),
}

/// What has become of the connection.
pub(crate) enum State {
    Unchanged,
    Established(AssistantFacts),
}

enum Phase {
    /// Not connected; the next attempt is made then.
    Waiting {
        until: Option<Instant>,
    },
    Connecting {
        socket: Socket,
        deadline: Instant,
    },
    Handshaking {
        socket: Socket,
        handshake: Box<ClientHandshake>,
        deadline: Instant,
    },
    Live {
        socket: Socket,
    },
}

pub(crate) struct Connection {
    address: SocketAddr,
    peer: PeerId,
    token: Option<Vec<u8>>,
    bodies: Bodies,
    phase: Phase,
    input: ReceiveBuffer,
    output: Vec<u8>,
    written: usize,
    wants_write: bool,
    back_off: Duration,
    failure: Option<Arc<RelayError>>,
    was_lost: bool,
    input_pending: bool,
    ping_sequence: u64,
    next_ping: Instant,
    last_heard: Instant,
    pub(crate) round_trip: Option<Duration>,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr, peer: PeerId, token: Option<Vec<u8>>, bodies: Bodies) -> Self {
        Self {
            address,
            peer,
            token,
            bodies,
            phase: Phase::Waiting { until: None },
            input: ReceiveBuffer::default(),
            output: Vec::new(),
            written: 0,
            wants_write: false,
            back_off: BACK_OFF_FIRST,
            failure: None,
            was_lost: false,
            input_pending: false,
            ping_sequence: 0,
            next_ping: Instant::ZERO,
            last_heard: Instant::ZERO,
            round_trip: None,
            bytes_received: 0,
            bytes_sent: 0,
        }
    }

    /// Whether routes can be sent and replies come.
    pub(crate) const fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live { .. })
    }

    /// Whether the connection is up and has room for all routes of a worker.
    pub(crate) fn may_take_many(&self) -> bool {
        self.is_live() && self.output.len() - self.written < QUEUE_LIMIT / 4
    }

    /// Whether it was up once and then lost.
    pub(crate) const fn was_lost(&self) -> bool {
        self.was_lost
    }

    /// Whether at least one attempt has ended, well or badly.
    pub(crate) const fn was_tried(&self) -> bool {
        self.is_live() || self.failure.is_some()
    }

    /// The last error, while the connection is not up.
    pub(crate) fn failure(&self) -> Option<&RelayError> {
        self.failure.as_deref()
    }

    /// Whether [`Connection::drain`] has something to do.
    pub(crate) const fn has_input(&self) -> bool {
        self.input_pending && self.is_live()
    }

    /// Whether [`Connection::flush`] has something to do that the poller will not tell.
    pub(crate) const fn has_output(&self) -> bool {
        self.is_live() && !self.wants_write && self.written < self.output.len()
    }

    /// Begins a connection.
    pub(crate) fn connect(&mut self, poller: &Poller, token: u64, now: Instant) -> Result<State, RelayError> {
        self.input.reset();
        self.output.clear();
        self.written = 0;
        self.input_pending = false;
        let socket = open_socket(self.address).map_err(RelayError::Open)?;
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(RelayError::Connect(error)),
        }
        poller.add(socket.as_raw_fd(), token, Interest::Writable).map_err(RelayError::Open)?;
        self.wants_write = true;
        self.phase = Phase::Connecting { socket, deadline: now + CONNECT_TIMEOUT };
        Ok(State::Unchanged)
    }

    /// Handles what the poller says.
    pub(crate) fn handle_event(
        &mut self,
        event: Event,
        poller: &Poller,
        now: Instant,
    ) -> Result<State, RelayError> {
        match &self.phase {
            Phase::Waiting { .. } => Ok(State::Unchanged),
            Phase::Connecting { .. } => self.start_handshake(event, poller, now),
            Phase::Handshaking { .. } => {
                // Reading comes first: a refusal should be seen even where writing fails because of it.
                if event.is_readable() {
                    return self.read_handshake(poller, event.token, now);
                }
                self.flush(poller, event.token)
            }
            Phase::Live { .. } => {
                self.input_pending |= event.is_readable();
                if event.is_writable() {
                    self.flush(poller, event.token)?;
                }
                Ok(State::Unchanged)
            }
        }
    }

    fn start_handshake(&mut self, event: Event, poller: &Poller, now: Instant) -> Result<State, RelayError> {
        let Phase::Connecting { socket, deadline } =
            std::mem::replace(&mut self.phase, Phase::Waiting { until: None })
        else {
            return Ok(State::Unchanged);
        };
        if let Some(error) = socket.take_error().map_err(RelayError::Connect)? {
            return Err(RelayError::Connect(error));
        }
        if !event.is_writable() {
            self.phase = Phase::Connecting { socket, deadline };
            return Ok(State::Unchanged);
        }
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|error| RelayError::Open(io::Error::other(error.to_string())))?;
        let handshake =
            ClientHandshake::start(self.token.clone(), self.peer, self.bodies, nonce, &mut self.output);
        self.phase =
            Phase::Handshaking { socket, handshake: Box::new(handshake), deadline: now + HANDSHAKE_TIMEOUT };
        self.flush(poller, event.token)
    }

    fn read_handshake(&mut self, poller: &Poller, token: u64, now: Instant) -> Result<State, RelayError> {
        let read = self.read(1024)?;
        if read == Some(0) {
            // What came before the end says why, if anything does; it was looked at when it came.
            return Err(RelayError::ClosedInHandshake);
        }
        loop {
            let Phase::Handshaking { handshake, .. } = &mut self.phase else { return Ok(State::Unchanged) };
            match handshake.handle(self.input.data(), &mut self.output) {
                Ok(Step::Incomplete) => return self.flush(poller, token),
                Ok(Step::Consumed(count)) => self.input.consume(count),
                Ok(Step::Done(count, session)) => {
                    self.input.consume(count);
                    self.go_live(now);
                    self.flush(poller, token)?;
                    return Ok(State::Established(session.facts));
                }
                Err(error) => {
                    // The other side is told why; should that fail, the error stays the same.
                    let _ = self.flush(poller, token);
                    return Err(error.into());
                }
            }
        }
    }

    fn go_live(&mut self, now: Instant) {
        if let Phase::Handshaking { socket, .. } =
            std::mem::replace(&mut self.phase, Phase::Waiting { until: None })
        {
            self.phase = Phase::Live { socket };
            self.back_off = BACK_OFF_FIRST;
            self.failure = None;
            self.last_heard = now;
            self.next_ping = now;
            // Replies may have come along with the end of the handshake.
            self.input_pending = true;
        }
    }

    /// Reads into the input buffer: `None` when nothing is there, 0 at the end of the stream.
    fn read(&mut self, size: usize) -> Result<Option<usize>, RelayError> {
        let (Phase::Handshaking { socket, .. } | Phase::Live { socket }) = &self.phase else {
            return Ok(None);
        };
        loop {
            match (&*socket).read(self.input.space(size)) {
                Ok(count) => {
                    self.input.filled(count);
                    self.bytes_received += count as u64;
                    return Ok(Some(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(RelayError::Lost(error)),
            }
        }
    }

    /// Reads and decodes what is there, up to a limit.
    pub(crate) fn drain(
        &mut self,
        now: Instant,
        each: &mut dyn FnMut(Drained<'_>),
    ) -> Result<State, RelayError> {
        self.input_pending = false;
        let mut total = 0;
        self.decode(now, each)?;
        while total < DRAIN_LIMIT {
            let room = self.input.space(READ_SIZE).len();
            let count = match self.read(READ_SIZE)? {
                None => break,
                Some(0) => return Err(RelayError::Closed),
                Some(count) => count,
            };
            self.last_heard = now;
            total += count;
            self.decode(now, each)?;
            if count < room {
                // The socket is empty; the poller says when it no longer is.
                return Ok(State::Unchanged);
            }
        }
        // More may be there: the next drain looks without being told to.
        self.input_pending = total >= DRAIN_LIMIT;
        Ok(State::Unchanged)
    }

    fn decode(&mut self, now: Instant, each: &mut dyn FnMut(Drained<'_>)) -> Result<(), RelayError> {
        loop {
            let consumed = match ToTcpcopy::decode(self.input.data())? {
                None => return Ok(()),
                Some((message, length)) => {
                    match message {
                        ToTcpcopy::Reply(reply) => each(Drained::Reply(reply)),
                        ToTcpcopy::RouteRefused { flow, reason } => each(Drained::RouteRefused(flow, reason)),
                        ToTcpcopy::Stats(stats) => each(Drained::Stats(stats)),
                        ToTcpcopy::Pong { nanos, .. } => {
                            let sample = now.saturating_since(Instant::from_nanos(nanos));
                            self.round_trip = Some(match self.round_trip {
                                Some(smoothed) => (smoothed * 7 + sample) / 8,
                                None => sample,
                            });
                        }
                        ToTcpcopy::Refused(refusal) => return Err(RelayError::Dismissed(refusal)),
                    }
                    length
                }
            };
            self.input.consume(consumed);
        }
    }

    /// Puts a message behind those that wait; `false` when the connection is not up or the queue is full.
    pub(crate) fn queue(&mut self, message: ToIntercept) -> bool {
        if !self.is_live() || self.output.len() - self.written >= QUEUE_LIMIT {
            return false;
        }
        message.encode(&mut self.output);
        true
    }

    /// Writes what waits, once, and has the poller tell when the rest can follow.
    pub(crate) fn flush(&mut self, poller: &Poller, token: u64) -> Result<State, RelayError> {
        let (Phase::Handshaking { socket, .. } | Phase::Live { socket }) = &self.phase else {
            return Ok(State::Unchanged);
        };
        while self.written < self.output.len() {
            match (&*socket).write(&self.output[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    self.bytes_sent += count as u64;
                    if self.written < self.output.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(RelayError::Lost(error)),
            }
        }
        let unfinished = self.written < self.output.len();
        if unfinished {
            // Sent bytes are let go once they are the larger part, so that each byte moves at most once on average.
            if self.written > self.output.len() / 2 {
                self.output.drain(..self.written);
                self.written = 0;
            }
        } else {
            self.output.clear();
            self.written = 0;
        }
        if unfinished != self.wants_write {
            let interest = if unfinished { Interest::ReadableOrWritable } else { Interest::Readable };
            poller.modify(socket.as_raw_fd(), token, interest).map_err(RelayError::Lost)?;
            self.wants_write = unfinished;
        }
        Ok(State::Unchanged)
    }

    /// When [`Connection::handle_timeout`] is next to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting { until } => *until,
            Phase::Connecting { deadline, .. } | Phase::Handshaking { deadline, .. } => Some(*deadline),
            Phase::Live { .. } => Some(self.next_ping),
        }
    }

    /// Does what time asks for.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        poller: &Poller,
        token: u64,
    ) -> Result<State, RelayError> {
        match &self.phase {
            Phase::Waiting { .. } => self.connect(poller, token, now),
            Phase::Connecting { .. } => Err(RelayError::ConnectTimeout(CONNECT_TIMEOUT.as_secs())),
            Phase::Handshaking { .. } => Err(RelayError::HandshakeTimeout(HANDSHAKE_TIMEOUT.as_secs())),
            Phase::Live { .. } if now.saturating_since(self.last_heard) > SILENCE_LIMIT => {
                Err(RelayError::Silent(SILENCE_LIMIT.as_secs()))
            }
            Phase::Live { .. } => {
                self.next_ping = now + PING_INTERVAL;
                self.ping_sequence += 1;
                self.queue(ToIntercept::Ping { sequence: self.ping_sequence, nanos: now.as_nanos() });
                if self.wants_write { Ok(State::Unchanged) } else { self.flush(poller, token) }
            }
        }
    }

    /// Closes the connection after an error; the next attempt follows after a while.
    pub(crate) fn fail(&mut self, error: Arc<RelayError>, now: Instant) {
        self.was_lost |= self.is_live();
        let wait = if error.is_lasting() { BACK_OFF_LASTING } else { self.back_off };
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
        // Dropping the socket takes it out of the poller.
        self.phase = Phase::Waiting { until: Some(now + jittered(wait)) };
        self.failure = Some(error);
        self.input.reset();
        self.input_pending = false;
        self.output = Vec::new();
        self.written = 0;
        self.round_trip = None;
    }
}

/// `wait`, a quarter more or less: workers that lost one server should not all come back at once.
fn jittered(wait: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    wait.mul_f64(0.75 + f64::from(random) / f64::from(u32::MAX) * 0.5)
}

/// A socket that does not block. Its buffers are left to the kernel, which makes them as large as the connection needs;
/// asking for a size would end that, and get less than it where `net.core.rmem_max` is at its default.
fn open_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}
