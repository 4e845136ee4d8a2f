//! Both ends of a relay connection, each with a peer that may say anything.
//!
//! Input of both bodies: mode (u8), length of the pieces that the bytes come in (u8), then the peer's bytes.

use tcpcopy_engine::flow::FlowKey;
use tcpcopy_engine::protocol::Bodies;
use tcpcopy_engine::relay::early::{EarlyLimits, EarlyReplies, EarlyReply};
use tcpcopy_engine::relay::frame::{
    HEADER_LEN, MAX_HANDSHAKE_PAYLOAD, MAX_PAYLOAD, MAX_REPLY_PACKET, ReceiveBuffer,
};
use tcpcopy_engine::relay::handshake::{ClientHandshake, ServerHandshake, Step};
use tcpcopy_engine::relay::hello::{AssistantFacts, PeerId};
use tcpcopy_engine::relay::message::{Reply, ReplyFlags, ToIntercept, ToTcpcopy};
use tcpcopy_engine::relay::routes::{ConnectionId, Destination, GroupId, RouteLimits, RouteTable};
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::tcp::TcpSegment;

/// In the mode: whether there is a token, and whether a handshake with an honest peer comes before the bytes.
pub(crate) const WITH_TOKEN: u8 = 1;
pub(crate) const AFTER_HANDSHAKE: u8 = 2;

/// What a handshake may answer with, all its messages together.
const MAX_ANSWER: usize = 2 * (MAX_HANDSHAKE_PAYLOAD + HEADER_LEN);
const MAX_ROUTES: usize = 8;
const IDLE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(5);

pub(crate) const NONCE: [u8; 32] = [7; 32];
pub(crate) const PEER: PeerId = PeerId { instance: [3; 16], worker: 1, connection: 2 };

pub(crate) fn token(mode: u8) -> Option<Vec<u8>> {
    (mode & WITH_TOKEN != 0).then(|| b"a shared token".to_vec())
}

pub(crate) fn facts() -> AssistantFacts {
    AssistantFacts { interfaces: "eth0".to_owned(), version: "2.0.0".to_owned(), ..AssistantFacts::default() }
}

/// What a peer's bytes came to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// What was understood, encoded again.
    understood: Vec<u8>,
    /// What ended the connection.
    error: Option<String>,
    /// Bytes left that are no whole message.
    left: usize,
}

/// A side of the connection that takes the message at the start of the bytes, if it is whole.
trait Side {
    /// Puts what it understood into `understood`, and returns the message's length.
    fn take(&mut self, input: &[u8], understood: &mut Vec<u8>) -> Result<Option<usize>, String>;
    /// The longest message that it waits for.
    fn longest(&self) -> usize;
}

/// Gives `side` bytes in pieces, by way of the buffer that both programs use.
fn run(side: &mut dyn Side, bytes: &[u8], piece: usize) -> Outcome {
    let mut buffer = ReceiveBuffer::default();
    let mut outcome = Outcome { understood: Vec::new(), error: None, left: 0 };
    for bytes in bytes.chunks(piece.max(1)) {
        buffer.space(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        buffer.filled(bytes.len());
        loop {
            match side.take(buffer.data(), &mut outcome.understood) {
                Ok(Some(length)) => {
                    assert!((1..=buffer.data().len()).contains(&length), "{length} bytes were taken");
                    buffer.consume(length);
                }
                Ok(None) => break,
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
        assert!(buffer.data().len() < side.longest(), "more is held than a message may have");
    }
    outcome.left = buffer.data().len();
    outcome
}

/// Runs the input in pieces and as a whole: how the bytes come must not matter.
fn run_both_ways<S: Side>(data: &[u8], new: impl Fn(u8) -> S) {
    let Some((&[mode, piece], bytes)) = data.split_first_chunk::<2>() else { return };
    let in_pieces = run(&mut new(mode), bytes, piece.into());
    let at_once = run(&mut new(mode), bytes, bytes.len());
    assert_eq!(in_pieces, at_once);
}

/// What tcpcopy makes of the bytes of an intercept.
///
/// # Panics
/// When the pieces that bytes come in matter, when more is held than a message may have, or when a message that was read is not
/// read again as it is written.
pub fn relay_client(data: &[u8]) {
    run_both_ways(data, Tcpcopy::new);
}

struct Tcpcopy {
    handshake: Option<ClientHandshake>,
    output: Vec<u8>,
}

impl Tcpcopy {
    fn new(mode: u8) -> Self {
        let mut output = Vec::new();
        let handshake = ClientHandshake::start(token(mode), PEER, Bodies::Needed, NONCE, &mut output);
        let mut tcpcopy = Self { handshake: Some(handshake), output };
        if mode & AFTER_HANDSHAKE != 0 {
            let mut intercept = ServerHandshake::new(token(mode), NONCE);
            while tcpcopy.handshake.is_some() {
                let mut answer = Vec::new();
                let taken = intercept.handle(&tcpcopy.output, &facts(), &mut answer);
                assert!(matches!(taken, Ok(Step::Consumed(_) | Step::Done(..))), "{taken:?}");
                tcpcopy.output.clear();
                let length = tcpcopy.take(&answer, &mut Vec::new());
                assert_eq!(length, Ok(Some(answer.len())), "an honest intercept is understood");
            }
        }
        tcpcopy
    }
}

impl Side for Tcpcopy {
    fn take(&mut self, input: &[u8], understood: &mut Vec<u8>) -> Result<Option<usize>, String> {
        if let Some(handshake) = &mut self.handshake {
            let step = handshake.handle(input, &mut self.output);
            assert!(self.output.len() <= MAX_ANSWER, "{} bytes of handshake", self.output.len());
            return match step {
                Ok(Step::Incomplete) => Ok(None),
                Ok(Step::Consumed(length)) => Ok(Some(length)),
                Ok(Step::Done(length, session)) => {
                    assert!(!session.facts.interfaces.chars().any(char::is_control));
                    understood.extend_from_slice(format!("{session:?}").as_bytes());
                    self.handshake = None;
                    Ok(Some(length))
                }
                Err(error) => Err(error.to_string()),
            };
        }
        let Some((message, length)) = ToTcpcopy::decode(input).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let start = understood.len();
        message.encode(understood);
        if let ToTcpcopy::Reply(reply) = message {
            assert!(reply.packet.len() < length);
            if let Ok(ip) = IpPacket::parse(reply.packet, reply.wire_len as usize) {
                let _ = TcpSegment::parse(ip.payload, ip.payload_len);
            }
            if reply.packet.len() > MAX_REPLY_PACKET {
                return Ok(Some(length));
            }
        }
        let again = ToTcpcopy::decode(&understood[start..]);
        assert_eq!(again, Ok(Some((message, understood.len() - start))), "written and read again");
        match message {
            ToTcpcopy::Refused(refusal) => Err(refusal.to_string()),
            _ => Ok(Some(length)),
        }
    }

    fn longest(&self) -> usize {
        HEADER_LEN + if self.handshake.is_some() { MAX_HANDSHAKE_PAYLOAD } else { MAX_PAYLOAD }
    }
}

/// What intercept makes of the bytes of a tcpcopy, with its route table and the replies that it keeps for a moment.
///
/// # Panics
/// When the pieces that bytes come in matter, when more is held than a message may have, when a message that was read is not
/// read again as it is written, when the route table exceeds its bound or gives a route to somebody else, or when routes
/// outlive their peer.
pub fn relay_server(data: &[u8]) {
    run_both_ways(data, Intercept::new);
}

struct Intercept {
    handshake: Option<ServerHandshake>,
    output: Vec<u8>,
    routes: RouteTable,
    early: EarlyReplies,
    /// The peer, and another one that asks for every other route.
    groups: Option<[GroupId; 2]>,
    messages: u64,
}

const CONNECTIONS: [ConnectionId; 2] = [ConnectionId(11), ConnectionId(22)];

impl Intercept {
    fn new(mode: u8) -> Self {
        let limits = RouteLimits { max_routes: MAX_ROUTES, idle_timeout: IDLE, grace: GRACE };
        let mut intercept = Self {
            handshake: Some(ServerHandshake::new(token(mode), NONCE)),
            output: Vec::new(),
            routes: RouteTable::new(limits, MAX_ROUTES),
            early: EarlyReplies::new(EarlyLimits { replies: 4, ..EarlyLimits::default() }),
            groups: None,
            messages: 0,
        };
        if mode & AFTER_HANDSHAKE != 0 {
            let mut hello = Vec::new();
            let mut tcpcopy = ClientHandshake::start(token(mode), PEER, Bodies::Needed, NONCE, &mut hello);
            while intercept.handshake.is_some() {
                let length = intercept.take(&hello, &mut Vec::new());
                assert_eq!(length, Ok(Some(hello.len())), "an honest tcpcopy is understood");
                hello.clear();
                let taken = tcpcopy.handle(&intercept.output, &mut hello);
                assert!(matches!(taken, Ok(Step::Consumed(_) | Step::Done(..))), "{taken:?}");
                intercept.output.clear();
            }
        }
        intercept
    }

    fn now(&self) -> Instant {
        Instant::from_millis(self.messages * 50)
    }

    fn serve(&mut self, message: ToIntercept) {
        let Some(groups) = self.groups else { return };
        self.messages += 1;
        let now = self.now();
        let turn = usize::from(self.messages.is_multiple_of(3));
        self.early.expire(now);
        self.routes.expire(now);
        match message {
            ToIntercept::RouteAdd { flow, body_limit } => {
                if self.routes.add(groups[turn], flow, body_limit, now).is_ok() {
                    self.early.take(&flow, |early| assert_eq!(early.flow, flow));
                    let destination = self.routes.destination(&flow, None, now);
                    assert_eq!(destination, Destination::Connection(CONNECTIONS[turn], body_limit));
                }
            }
            ToIntercept::RouteRemove { flow } => {
                self.routes.remove(groups[turn], &flow);
                self.keep_early(flow, now);
            }
            ToIntercept::Ping { sequence, nanos } => {
                self.output.clear();
                ToTcpcopy::Pong { sequence, nanos }.encode(&mut self.output);
            }
        }
        assert!(self.routes.len() <= MAX_ROUTES, "{} routes", self.routes.len());
        assert!(self.early.len() <= 4, "{} early replies", self.early.len());
        assert!(!self.routes.wants_bodies() || !self.routes.is_empty());
    }

    fn keep_early(&mut self, flow: FlowKey, now: Instant) {
        let packet = vec![0; 40];
        let reply = Reply { flags: ReplyFlags::EARLY, age_micros: 0, wire_len: 40, packet: &packet };
        assert!(reply.encoded_len() > packet.len());
        self.early.keep(EarlyReply {
            flow,
            captured_at: now,
            flags: ReplyFlags::EARLY,
            wire_len: 40,
            header_len: 40,
            packet,
        });
    }
}

impl Side for Intercept {
    fn take(&mut self, input: &[u8], understood: &mut Vec<u8>) -> Result<Option<usize>, String> {
        if let Some(handshake) = &mut self.handshake {
            let step = handshake.handle(input, &facts(), &mut self.output);
            assert!(self.output.len() <= MAX_ANSWER, "{} bytes of handshake", self.output.len());
            return match step {
                Ok(Step::Incomplete) => Ok(None),
                Ok(Step::Consumed(length)) => Ok(Some(length)),
                Ok(Step::Done(length, session)) => {
                    understood.extend_from_slice(format!("{session:?}").as_bytes());
                    let other = PeerId { instance: [4; 16], ..session.peer };
                    let (first, replaced) = self.routes.attach(session.peer, CONNECTIONS[0]);
                    assert_eq!(replaced, None);
                    let second = if session.peer.instance == other.instance {
                        first
                    } else {
                        self.routes.attach(other, CONNECTIONS[1]).0
                    };
                    self.groups = (first != second).then_some([first, second]);
                    self.handshake = None;
                    Ok(Some(length))
                }
                Err(error) => Err(error.to_string()),
            };
        }
        let Some((message, length)) = ToIntercept::decode(input).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let start = understood.len();
        message.encode(understood);
        let again = ToIntercept::decode(&understood[start..]);
        assert_eq!(again, Ok(Some((message, understood.len() - start))), "written and read again");
        self.serve(message);
        Ok(Some(length))
    }

    fn longest(&self) -> usize {
        HEADER_LEN + MAX_HANDSHAKE_PAYLOAD
    }
}

impl Drop for Intercept {
    /// Nothing may be left of a peer that is gone.
    fn drop(&mut self) {
        let (Some(groups), false) = (self.groups, std::thread::panicking()) else { return };
        let now = self.now();
        for (group, connection) in groups.into_iter().zip(CONNECTIONS) {
            self.routes.detach(group, connection, now);
        }
        self.routes.expire(now + GRACE + IDLE);
        assert!(self.routes.is_empty(), "{} routes outlive their peers", self.routes.len());
        self.early.expire(now + IDLE);
        assert!(self.early.is_empty());
        assert_eq!(self.routes.next_expiry(), None);
    }
}
