//! A real client, as the capture sees it on its way to the online server.
//!
//! Owns what the client sends and when, and what becomes of it before the engine sees it. The online server itself is not
//! played: the client knows how long its answers were, and acknowledges them.

use crate::profile::{CaptureFaults, Profile};
use crate::request::{HEADER_LEN, Header};
use crate::rng::Rng;
use std::ops::Range;
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::wire::packet::{self, OutgoingSegment};
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpOptions, Timestamps};

/// A request as it was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its place in the client's stream.
    pub bytes: Range<usize>,
    /// Which turn it belongs to: requests of one turn were sent without reading in between.
    pub turn: u32,
}

/// How a client ended its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a FIN when it had read everything.
    Finish,
    /// With a FIN right behind its last request, before it read the answer.
    HalfClose,
    /// With a reset.
    Reset,
    /// The end was not captured.
    Vanish,
}

/// One packet on its way to the engine.
#[derive(Clone, Debug)]
pub struct CapturedPacket {
    /// When, in nanoseconds of the run.
    pub at: u64,
    /// From the IP header on; perhaps only the first part of it.
    pub bytes: Vec<u8>,
    /// Length on the wire.
    pub wire_len: usize,
}

/// What a client did, and what of it was captured.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Number of the server that it talks to.
    pub server: usize,
    /// Everything that it sent.
    pub stream: Vec<u8>,
    /// The requests in there.
    pub requests: Vec<Sent>,
    /// How it ended.
    pub ending: Ending,
    /// Whether its SYN was not captured.
    pub beheaded: bool,
    /// Whether its FIN or reset was captured.
    pub end_captured: bool,
    /// Where the first captured sequence number lies; the stream's start when the SYN was captured.
    pub first_number: usize,
    /// How far the sequence numbers reach that were captured.
    pub last_number: usize,
    /// Stream bytes that were never captured, or first in part only.
    pub lost: Vec<Range<usize>>,
    /// Packets as captured, in no order.
    pub packets: Vec<CapturedPacket>,
}

/// A segment as the client sent it, before the capture.
#[derive(Clone, Debug)]
struct Segment {
    at: u64,
    bytes: Range<usize>,
    ack: u32,
    flags: TcpFlags,
}

struct Script<'a> {
    rng: &'a mut Rng,
    flow: FlowKey,
    isn: SeqNumber,
    online_isn: SeqNumber,
    mss: usize,
    merged: usize,
    window_scale: Option<u8>,
    timestamps: bool,
    sack: bool,
    clock_offset: u32,
    now: u64,
    round_trip: u64,
    acked: u32,
    stream: Vec<u8>,
    requests: Vec<Sent>,
    segments: Vec<Segment>,
}

const MICRO: u64 = 1000;

impl Client {
    /// Plays client `number`, which talks to `online`, server `server` of the profile.
    pub fn new(
        number: u32,
        server: usize,
        online: Endpoint,
        greeting: u32,
        profile: &Profile,
        rng: &mut Rng,
    ) -> Self {
        let endpoint = Endpoint::new(address(number, online), rng.between(1024, 65_535) as u16);
        let near_wrap = |rng: &mut Rng| match rng.between(0, 3) {
            0 => u32::MAX - rng.between(0, 5000) as u32,
            1 => 0x7fff_ffff - rng.between(0, 5000) as u32,
            _ => rng.any() as u32,
        };
        let isn = SeqNumber(near_wrap(rng));
        let online_isn = SeqNumber(near_wrap(rng));
        let mss = rng.pick(&[1460, 1460, 1448, 536, 1200, 8960]) as usize;
        let start = rng.between(0, 3_000_000) * MICRO;
        let merged = if rng.chance(500) { 65_000 / mss * mss } else { mss };
        let mut script = Script {
            flow: FlowKey { client: endpoint, target: online },
            isn,
            online_isn,
            mss,
            merged,
            window_scale: if rng.chance(800) { Some(rng.between(0, 10) as u8) } else { None },
            timestamps: rng.chance(600),
            sack: rng.chance(700),
            clock_offset: rng.any() as u32,
            now: start,
            round_trip: rng.magnitude(20, 80_000) * MICRO,
            acked: 0,
            stream: Vec::new(),
            requests: Vec::new(),
            segments: Vec::new(),
            rng,
        };
        let ending = script.play(number, greeting, profile);
        script.captured(endpoint, server, ending, profile)
    }
}

fn address(number: u32, online: Endpoint) -> std::net::IpAddr {
    if online.addr.is_ipv4() {
        [10, 1, (number >> 8) as u8, number as u8].into()
    } else {
        [0xfd00, 0, 0, 1, 0, 0, (number >> 16) as u16, number as u16].into()
    }
}

/// The number of the client at `addr`.
pub fn number_of(addr: std::net::IpAddr) -> Option<u32> {
    match addr {
        std::net::IpAddr::V4(v4) => match v4.octets() {
            [10, 1, high, low] => Some(u32::from(high) << 8 | u32::from(low)),
            _ => None,
        },
        std::net::IpAddr::V6(v6) => match v6.segments() {
            [0xfd00, 0, 0, 1, 0, 0, high, low] => Some(u32::from(high) << 16 | u32::from(low)),
            _ => None,
        },
    }
}

impl Script<'_> {
    fn play(&mut self, number: u32, greeting: u32, profile: &Profile) -> Ending {
        let round_trip = self.round_trip;
        self.now += round_trip;
        // The handshake's last step, sometimes lost in the first request.
        if self.rng.chance(800) {
            self.acknowledge();
        }
        if greeting > 0 {
            self.read(greeting, round_trip);
        }
        let turns = self.rng.between(1, profile.requests);
        let ending = match self.rng.between(0, 9) {
            _ if self.rng.chance(profile.vanishing) => Ending::Vanish,
            0 => Ending::Reset,
            1 | 2 => Ending::HalfClose,
            _ => Ending::Finish,
        };
        for turn in 0..turns as u32 {
            let last = turn + 1 == turns as u32;
            let answer = self.turn(number, turn, profile, last && ending == Ending::HalfClose);
            self.now += round_trip;
            self.read(answer, round_trip);
            self.now += self.rng.magnitude(20, 400_000) * MICRO;
        }
        let next = self.stream.len();
        match ending {
            Ending::Finish => self.push(next..next, TcpFlags::FIN | TcpFlags::ACK),
            Ending::Reset => self.push(next..next, TcpFlags::RST | TcpFlags::ACK),
            Ending::HalfClose | Ending::Vanish => {}
        }
        ending
    }

    /// Sends the requests of one turn and returns how many bytes the online server answers.
    fn turn(&mut self, number: u32, turn: u32, profile: &Profile, finish: bool) -> u32 {
        let first_segment = self.segments.len();
        let count = if self.rng.chance(250) { self.rng.between(2, 6) } else { 1 };
        let mut online_answer = 0;
        for i in 0..count {
            let start = self.stream.len();
            let response = self.rng.magnitude(1, profile.longest_response) as u32;
            let header = Header {
                number: self.requests.len() as u32,
                client: number,
                len: self.rng.magnitude(HEADER_LEN as u64, profile.longest) as u32,
                response,
            };
            header.write(&mut self.stream);
            let end = self.stream.len();
            self.requests.push(Sent { bytes: start..end, turn });
            online_answer += match profile.drifts {
                true => self.rng.between(u64::from(response) / 2 + 1, u64::from(response) * 2 + 10) as u32,
                false => response,
            };
            let mut at = start;
            while at < end {
                let to = (at + self.merged).min(end);
                let mut flags = TcpFlags::ACK;
                if to == end {
                    flags = flags | TcpFlags::PSH;
                }
                if to == end && finish && i + 1 == count {
                    flags = flags | TcpFlags::FIN;
                }
                self.push(at..to, flags);
                self.now += self.rng.magnitude(1, 2000) * MICRO;
                at = to;
            }
        }
        for i in first_segment..self.segments.len() {
            if self.rng.chance(profile.capture.resent) {
                // Lost on its way; the client noticed, and the online server could not answer before it came again.
                self.now += self.rng.magnitude(1000, 400_000) * MICRO;
                self.segments[i].at = self.now;
            }
        }
        online_answer
    }

    /// Reads `len` bytes of the online server, in one to three steps; sometimes the acknowledgement rides on what comes next.
    fn read(&mut self, len: u32, round_trip: u64) {
        let steps = self.rng.between(1, 3) as u32;
        let before = self.acked;
        for step in 1..=steps {
            self.acked = before + (u64::from(len) * u64::from(step) / u64::from(steps)) as u32;
            if step < steps || self.rng.chance(800) {
                self.acknowledge();
            }
            self.now += self.rng.between(0, round_trip / 4);
        }
    }

    fn acknowledge(&mut self) {
        let next = self.stream.len();
        self.push(next..next, TcpFlags::ACK);
    }

    fn push(&mut self, bytes: Range<usize>, flags: TcpFlags) {
        self.now += MICRO;
        self.segments.push(Segment { at: self.now, bytes, ack: self.acked, flags });
    }

    fn packet(&self, segment: &Segment) -> CapturedPacket {
        let is_syn = segment.flags.contains(TcpFlags::SYN);
        let seq = if is_syn { self.isn } else { self.isn + 1 + segment.bytes.start as u32 };
        let ack = segment.flags.contains(TcpFlags::ACK).then(|| self.online_isn + 1 + segment.ack);
        let timestamps = self.timestamps.then(|| Timestamps {
            value: ((segment.at / 1_000_000) as u32).wrapping_add(self.clock_offset),
            echo: segment.ack,
        });
        let options = match is_syn {
            true => TcpOptions {
                mss: Some(self.mss as u16),
                window_scale: self.window_scale,
                sack_permitted: self.sack,
                timestamps,
                ..TcpOptions::default()
            },
            false => TcpOptions { timestamps, ..TcpOptions::default() },
        };
        let outgoing = OutgoingSegment {
            flow: self.flow,
            seq,
            ack,
            flags: segment.flags,
            window: 500,
            options,
            hop_limit: 60,
            traffic_class: 0,
            identification: 1,
        };
        let mut bytes = Vec::new();
        packet::write(&mut bytes, &outgoing, [&self.stream[segment.bytes.clone()], &[]]);
        CapturedPacket { at: segment.at, wire_len: bytes.len(), bytes }
    }

    /// What the capture makes of it.
    fn captured(mut self, endpoint: Endpoint, server: usize, ending: Ending, profile: &Profile) -> Client {
        let first_at = self.segments.iter().map(|s| s.at).min().unwrap_or(self.now);
        let beheaded = self.rng.chance(profile.beheaded);
        let segments = std::mem::take(&mut self.segments);
        let mut seen: Vec<Segment> = Vec::new();
        let mut cut: Vec<Segment> = Vec::new();
        if !beheaded {
            let syn_at = first_at.saturating_sub(self.rng.magnitude(10, 50_000) * MICRO);
            let syn = Segment { at: syn_at, bytes: 0..0, ack: 0, flags: TcpFlags::SYN };
            if self.rng.chance(profile.capture.repeat) {
                seen.push(Segment { at: self.rng.between(syn_at, first_at), ..syn.clone() });
            }
            seen.push(syn);
        }
        for segment in &segments {
            self.capture(segment, &profile.capture, &mut seen, &mut cut);
        }
        let mut lost = lost_ranges(self.stream.len(), &seen);
        // What came again is known, but the engine does not wait for that.
        lost.extend(cut.iter().map(|s| s.bytes.clone()));
        let last_number = seen.iter().chain(&cut).map(|s| s.bytes.end).max().unwrap_or(0);
        // Without the SYN it is request bytes that show where the stream is: those captured first, perhaps not the first of it.
        let with_bytes = seen.iter().chain(&cut).filter(|s| !s.bytes.is_empty()).min_by_key(|s| s.at);
        let first_number = if beheaded { with_bytes.map_or(self.stream.len(), |s| s.bytes.start) } else { 0 };
        let end_captured = seen.iter().any(|s| s.flags.intersects(TcpFlags::FIN | TcpFlags::RST));
        let mut packets: Vec<CapturedPacket> = seen.iter().map(|s| self.packet(s)).collect();
        for segment in &cut {
            let mut packet = self.packet(segment);
            let keep = packet.bytes.len() - self.rng.between(1, segment.bytes.len() as u64) as usize;
            packet.bytes.truncate(keep);
            packets.push(packet);
        }
        let Self { stream, requests, .. } = self;
        Client {
            endpoint,
            server,
            stream,
            requests,
            ending,
            beheaded,
            end_captured,
            first_number,
            last_number,
            lost,
            packets,
        }
    }

    fn capture(
        &mut self,
        segment: &Segment,
        faults: &CaptureFaults,
        seen: &mut Vec<Segment>,
        cut: &mut Vec<Segment>,
    ) {
        let has_data = !segment.bytes.is_empty();
        let rng = &mut *self.rng;
        let mut segment = segment.clone();
        if has_data && rng.chance(faults.gap) {
            return;
        }
        if segment.bytes.len() > 1 && rng.chance(faults.cut) {
            cut.push(segment);
            return;
        }
        if rng.chance(faults.reorder) {
            // Not so far that an answer would be acknowledged before its request.
            segment.at += rng.between(0, self.round_trip);
        }
        if rng.chance(faults.repeat) {
            let at = segment.at + rng.magnitude(1, 5000) * MICRO;
            seen.push(Segment { at, ..segment.clone() });
        }
        if has_data && rng.chance(faults.retransmit) {
            // Other pieces: from somewhere in it or before it.
            let back = rng.between(0, 300) as usize;
            let start =
                segment.bytes.start.saturating_sub(back).max(turn_start(&self.requests, segment.bytes.start));
            let end = segment.bytes.start + rng.between(1, segment.bytes.len() as u64) as usize;
            let flags = if end == segment.bytes.end { segment.flags } else { TcpFlags::ACK };
            let at = segment.at + rng.magnitude(100, 300_000) * MICRO;
            seen.push(Segment { at, bytes: start..end, flags, ..segment.clone() });
        }
        seen.push(segment);
    }
}

/// Where the turn begins that the byte at `offset` belongs to: what came before it was answered, and is not sent again.
fn turn_start(requests: &[Sent], offset: usize) -> usize {
    let turn = requests.iter().rev().find(|r| r.bytes.start <= offset).map(|r| r.turn);
    requests.iter().find(|r| Some(r.turn) == turn).map_or(offset, |r| r.bytes.start)
}

/// What of a stream of `len` bytes is in no segment.
fn lost_ranges(len: usize, segments: &[Segment]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = segments.iter().map(|s| s.bytes.clone()).collect();
    ranges.sort_by_key(|r| r.start);
    let (mut next, mut lost) = (0, Vec::new());
    for range in ranges {
        if range.start > next {
            lost.push(next..range.start);
        }
        next = next.max(range.end);
    }
    if next < len {
        lost.push(next..len);
    }
    lost
}
