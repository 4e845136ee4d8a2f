//! Connections in a capture file, as what happened in each of them in turn.
//!
//! Owns telling clients from servers (by the servers' ports) and putting both directions in order. What the bytes mean is
//! left to the plugin.

use std::collections::HashMap;
use std::path::Path;
use tcpcopy_capture_file::{AtEnd, Captures, Input, Step as CaptureStep};
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_engine::protocol::{ClientEnd, Origin};
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::stream::{Arrival, Assembler, SegmentInfo};
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_engine::wire::PROTOCOL_TCP;
use tcpcopy_engine::wire::fragment::{FragmentOutcome, Reassembler};
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::link::{self, LinkType};
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpSegment};

/// What happened in a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It begins.
    Opened {
        /// Where the capture finds it.
        origin: Origin,
        /// The client.
        client: Endpoint,
        /// The server.
        online: Endpoint,
    },
    /// The client sent bytes.
    Request(Vec<u8>),
    /// Bytes of the client are not in the file.
    RequestGap,
    /// The server sent bytes.
    Answer(Vec<u8>),
    /// Bytes of the server are not in the file.
    AnswerGap,
    /// The client ended its side.
    ClientEnd(ClientEnd),
    /// The server ended its side.
    ServerEnd,
    /// Nothing more will happen.
    Over,
}

/// A step, of the connection of this number, at this time in nanoseconds of the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// Number of the connection, from 0 in the order of their beginnings.
    pub connection: usize,
    /// When it was captured.
    pub at: u64,
    /// What.
    pub step: Step,
}

/// What a file held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileFacts {
    /// Frames.
    pub frames: u64,
    /// Frames that are no TCP to or from one of the ports.
    pub others: u64,
    /// Frames that are not what their headers say.
    pub malformed: u64,
    /// Places where the file is damaged.
    pub damaged: u64,
    /// Time of the first frame, in nanoseconds of the Unix epoch.
    pub began: u64,
}

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It can't be opened, or is no capture.
    #[error(transparent)]
    Open(#[from] tcpcopy_capture_file::OpenError),
    /// Reading stopped.
    #[error(transparent)]
    Read(#[from] tcpcopy_capture_file::ReadError),
}

impl ReadError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Open(error) => error.hint().to_owned(),
            Self::Read(error) => error.hint().to_owned(),
        }
    }
}

/// Reads the capture file and calls `each` with what happened in connections to servers at one of `ports`, in order.
///
/// # Errors
/// The file can't be opened or read. Where it is damaged, reading goes on behind the damage.
pub fn read(path: &Path, ports: &[u16], each: &mut dyn FnMut(Happening)) -> Result<FileFacts, ReadError> {
    let mut captures = Captures::open(&[Input::File(path.to_owned())], AtEnd::Stop)?;
    let mut reader = Reader::new(ports);
    while let CaptureStep::Frame(frame) = captures.next()? {
        reader.frame(frame.link_type, frame.data, frame.wire_len, frame.captured_at_nanos, each);
    }
    reader.finish(each);
    reader.facts.damaged = captures.flaw_count();
    Ok(reader.facts)
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Half {
    /// Sequence number of the stream's first byte, and what comes after.
    stream: Option<(SeqNumber, Assembler)>,
    ends_at: Option<u64>,
    has_ended: bool,
}

enum Piece {
    Bytes(Vec<u8>),
    Gap,
}

impl Half {
    /// Stream offset of a sequence number.
    fn offset(&self, seq: SeqNumber) -> i64 {
        self.stream.as_ref().map_or(0, |(first, assembler)| {
            let next = assembler.next_offset();
            // Streams may be longer than sequence numbers reach: count from where it stands.
            seq.unwrap(SeqNumber(first.0.wrapping_add(next as u32)), next)
        })
    }

    fn take(&mut self, segment: &TcpSegment<'_>, at: u64) -> Vec<Piece> {
        let is_syn = segment.flags.contains(TcpFlags::SYN);
        let seq = if is_syn { SeqNumber(segment.seq.0.wrapping_add(1)) } else { segment.seq };
        if self.stream.is_none() {
            self.stream = Some((seq, Assembler::starting_at(0)));
        }
        let offset = self.offset(seq);
        let mut pieces = Vec::new();
        let Some((_, assembler)) = &mut self.stream else { return pieces };
        if segment.payload_len > 0 {
            let info = SegmentInfo { captured_at_nanos: at, ..SegmentInfo::default() };
            let end = (offset + segment.payload_len as i64).max(0) as u64;
            let arrival = assembler.insert(offset, segment.payload, segment.payload_len, info, |bytes, _| {
                pieces.push(Piece::Bytes(bytes.to_vec()));
            });
            if let Arrival::Cut(_) = arrival {
                pieces.push(Piece::Gap);
                assembler.resume_at(end, |bytes, _| pieces.push(Piece::Bytes(bytes.to_vec())));
            }
        }
        if segment.flags.contains(TcpFlags::FIN) {
            self.ends_at = Some((offset + segment.payload_len as i64).max(0) as u64);
        }
        pieces
    }

    /// The other side acknowledged up to `ack`: what is missing before that is not in the file.
    fn acknowledged(&mut self, ack: SeqNumber) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let offset = self.offset(ack);
        if let Some((_, assembler)) = &mut self.stream
            && offset > 0
            && assembler.has_gap_before(offset as u64)
        {
            pieces.push(Piece::Gap);
            assembler.skip_gap(|bytes, _| pieces.push(Piece::Bytes(bytes.to_vec())));
        }
        pieces
    }

    /// The file ends: what is missing will not come.
    fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if let Some((_, assembler)) = &mut self.stream {
            while assembler.has_gap() {
                pieces.push(Piece::Gap);
                assembler.skip_gap(|bytes, _| pieces.push(Piece::Bytes(bytes.to_vec())));
            }
            if let Some(end) = self.ends_at.filter(|end| *end > assembler.next_offset()) {
                pieces.push(Piece::Gap);
                assembler.resume_at(end, |_, _| {});
            }
        }
        pieces
    }

    /// Whether the side has ended just now.
    fn take_end(&mut self) -> bool {
        let is_at_end = match (&self.stream, self.ends_at) {
            (Some((_, assembler)), Some(end)) => assembler.next_offset() >= end,
            _ => false,
        };
        is_at_end && !std::mem::replace(&mut self.has_ended, true)
    }
}

struct Connection {
    number: usize,
    client: Half,
    server: Half,
    syn: Option<SeqNumber>,
}

struct Reader {
    ports: Vec<u16>,
    connections: HashMap<(Endpoint, Endpoint), Connection>,
    next: usize,
    fragments: Reassembler,
    facts: FileFacts,
    newest: u64,
}

impl Reader {
    fn new(ports: &[u16]) -> Self {
        Self {
            ports: ports.to_vec(),
            connections: HashMap::new(),
            next: 0,
            fragments: Reassembler::new(8 << 20, 1024, Duration::from_secs(30)),
            facts: FileFacts::default(),
            newest: 0,
        }
    }

    fn frame(
        &mut self,
        link_type: LinkType,
        frame: &[u8],
        wire_len: usize,
        at: u64,
        each: &mut dyn FnMut(Happening),
    ) {
        if self.facts.frames == 0 {
            self.facts.began = at;
        }
        self.facts.frames += 1;
        self.newest = self.newest.max(at);
        let (data, wire_len) = match link::ip_packet(link_type, frame, wire_len) {
            Ok(found) => found,
            Err(link::LinkError::NotIp) => {
                self.facts.others += 1;
                return;
            }
            Err(_) => {
                self.facts.malformed += 1;
                return;
            }
        };
        let Ok(packet) = IpPacket::parse(data, wire_len) else {
            self.facts.malformed += 1;
            return;
        };
        if packet.fragment.is_none() {
            return self.packet(&packet, at, each);
        }
        let now = Instant::ZERO + Duration::from_nanos(at.saturating_sub(self.facts.began));
        self.fragments.expire(now);
        if let FragmentOutcome::Complete(whole) = self.fragments.push(&packet, data, now) {
            match IpPacket::parse(&whole, whole.len()) {
                Ok(packet) => self.packet(&packet, at, each),
                Err(_) => self.facts.malformed += 1,
            }
        }
    }

    fn packet(&mut self, packet: &IpPacket<'_>, at: u64, each: &mut dyn FnMut(Happening)) {
        if packet.protocol != PROTOCOL_TCP {
            self.facts.others += 1;
            return;
        }
        let Ok(segment) = TcpSegment::parse(packet.payload, packet.payload_len) else {
            self.facts.malformed += 1;
            return;
        };
        let from = Endpoint::new(packet.source, segment.source_port);
        let to = Endpoint::new(packet.destination, segment.destination_port);
        let is_from_known = self.connections.contains_key(&(to, from));
        if self.ports.contains(&to.port) && !is_from_known {
            self.take_from_client(from, to, &segment, at, each);
        } else if self.ports.contains(&from.port) {
            self.take_from_server(to, from, &segment, at, each);
        } else {
            self.facts.others += 1;
        }
    }

    fn take_from_client(
        &mut self,
        client: Endpoint,
        online: Endpoint,
        segment: &TcpSegment<'_>,
        at: u64,
        each: &mut dyn FnMut(Happening),
    ) {
        let key = (client, online);
        let is_syn = segment.flags.contains(TcpFlags::SYN) && !segment.flags.contains(TcpFlags::ACK);
        let is_other = |known: &Connection| is_syn && known.syn != Some(segment.seq);
        if self.connections.get(&key).is_some_and(is_other)
            && let Some(mut old) = self.connections.remove(&key)
        {
            // The address and port are used again.
            end(&mut old, at, each);
        }
        if !self.connections.contains_key(&key) {
            if !is_syn && segment.payload_len == 0 {
                return;
            }
            let connection =
                Connection { number: self.next, client: Half::default(), server: Half::default(), syn: None };
            self.next += 1;
            let origin = if is_syn { Origin::Start } else { Origin::MidStream };
            let step = Step::Opened { origin, client, online };
            each(Happening { connection: connection.number, at, step });
            self.connections.insert(key, connection);
        }
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if is_syn {
            connection.syn = Some(segment.seq);
        }
        let number = connection.number;
        let mut tell = |step| each(Happening { connection: number, at, step });
        if segment.flags.contains(TcpFlags::ACK) {
            answers(connection.server.acknowledged(segment.ack), &mut tell);
        }
        requests(connection.client.take(segment, at), &mut tell);
        if connection.client.take_end() {
            tell(Step::ClientEnd(ClientEnd::Finished));
        }
        if segment.flags.contains(TcpFlags::RST) {
            tell(Step::ClientEnd(ClientEnd::Reset));
            tell(Step::Over);
            self.connections.remove(&key);
        } else {
            self.close_if_over(key, at, each);
        }
    }

    fn take_from_server(
        &mut self,
        client: Endpoint,
        online: Endpoint,
        segment: &TcpSegment<'_>,
        at: u64,
        each: &mut dyn FnMut(Happening),
    ) {
        let key = (client, online);
        // What a server says before the capture knows of a request belongs to nothing.
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let number = connection.number;
        let mut tell = |step| each(Happening { connection: number, at, step });
        if segment.flags.contains(TcpFlags::ACK) {
            requests(connection.client.acknowledged(segment.ack), &mut tell);
        }
        answers(connection.server.take(segment, at), &mut tell);
        if connection.server.take_end() {
            tell(Step::ServerEnd);
        }
        if segment.flags.contains(TcpFlags::RST) {
            tell(Step::ServerEnd);
            tell(Step::Over);
            self.connections.remove(&key);
        } else {
            self.close_if_over(key, at, each);
        }
    }

    fn close_if_over(&mut self, key: (Endpoint, Endpoint), at: u64, each: &mut dyn FnMut(Happening)) {
        let is_over = |known: &Connection| known.client.has_ended && known.server.has_ended;
        if self.connections.get(&key).is_some_and(is_over)
            && let Some(known) = self.connections.remove(&key)
        {
            each(Happening { connection: known.number, at, step: Step::Over });
        }
    }

    fn finish(&mut self, each: &mut dyn FnMut(Happening)) {
        let mut left: Vec<Connection> = self.connections.drain().map(|(_, connection)| connection).collect();
        left.sort_by_key(|connection| connection.number);
        for mut connection in left {
            end(&mut connection, self.newest, each);
        }
    }
}

/// Ends a connection whose end is not in the file.
fn end(connection: &mut Connection, at: u64, each: &mut dyn FnMut(Happening)) {
    let number = connection.number;
    let mut tell = |step| each(Happening { connection: number, at, step });
    requests(connection.client.finish(), &mut tell);
    if connection.client.take_end() {
        tell(Step::ClientEnd(ClientEnd::Finished));
    }
    answers(connection.server.finish(), &mut tell);
    if connection.server.take_end() {
        tell(Step::ServerEnd);
    }
    tell(Step::Over);
}

fn requests(pieces: Vec<Piece>, tell: &mut impl FnMut(Step)) {
    for piece in pieces {
        tell(match piece {
            Piece::Bytes(bytes) => Step::Request(bytes),
            Piece::Gap => Step::RequestGap,
        });
    }
}

fn answers(pieces: Vec<Piece>, tell: &mut impl FnMut(Step)) {
    for piece in pieces {
        tell(match piece {
            Piece::Bytes(bytes) => Step::Answer(bytes),
            Piece::Gap => Step::AnswerGap,
        });
    }
}
