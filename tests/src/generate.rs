//! Large capture files of made-up traffic, for tests of how much can be replayed and in how much memory.
//!
//! Owns the traffic: many connections at a time, messages of all sizes in segments of all sizes, both directions, and packets of
//! another port among them. What the messages say lets the [`Sink`](crate::sink::Sink) check every byte of every request. The
//! file is written as it is made: nothing of its size is held in memory.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

/// Length of the header that every request begins with.
pub const HEADER: usize = 24;
/// The first four bytes of every request.
const MAGIC: [u8; 4] = *b"LABq";
/// What bodies are cut from.
const POOL: usize = 1 << 20;
/// Longest request and response.
const LONGEST: usize = 256 << 10;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const PUSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// What is to be generated.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// The server that the clients talk to.
    pub online: SocketAddrV4,
    /// The first client's address; the others follow it.
    pub first_client: Ipv4Addr,
    /// Connections that are open at a time.
    pub open: usize,
    /// Length of the file, reached within one connection's worth.
    pub file_bytes: u64,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// What was generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// Length of the file.
    pub file_bytes: u64,
    /// Packets in it, those of the other port included.
    pub packets: u64,
    /// Connections, each with its beginning and its end.
    pub connections: u64,
    /// Requests in them.
    pub requests: u64,
    /// Bytes of the requests.
    pub request_bytes: u64,
    /// Bytes of the responses.
    pub response_bytes: u64,
}

/// The header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Number of its connection.
    pub connection: u32,
    /// Its number in the connection, from 0.
    pub number: u32,
    /// How many requests the connection has.
    pub of: u32,
    /// Its length, header included.
    pub length: u32,
    /// Length of the response to it.
    pub response: u32,
}

impl RequestHeader {
    /// As bytes.
    pub fn write(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let words = [self.connection, self.number, self.of, self.length, self.response];
        bytes[..4].copy_from_slice(&MAGIC);
        for (place, word) in bytes[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// From bytes; `None` if they are no header.
    pub fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        let header = Self {
            connection: word(4)?,
            number: word(8)?,
            of: word(12)?,
            length: word(16)?,
            response: word(20)?,
        };
        let lengths = HEADER..=LONGEST;
        let is_whole = bytes[..4] == MAGIC
            && lengths.contains(&(header.length as usize))
            && header.response as usize <= LONGEST
            && header.number < header.of;
        is_whole.then_some(header)
    }
}

/// What bodies consist of: pieces of one pool of random bytes, each request's from a place of its own.
pub struct Bodies(Vec<u8>);

impl Bodies {
    /// The pool.
    pub fn new() -> Self {
        let mut random = Random(0x5eed);
        let mut pool = Vec::with_capacity(POOL + LONGEST);
        while pool.len() < POOL + LONGEST {
            pool.extend(random.next().to_le_bytes());
        }
        Self(pool)
    }

    /// What follows the header of a request.
    pub fn of(&self, header: RequestHeader) -> &[u8] {
        let start = (header.connection as usize * 7919 + header.number as usize * 104_729) % POOL;
        &self.0[start..start + (header.length as usize).saturating_sub(HEADER)]
    }

    /// So many bytes, for whoever does not mind which.
    pub fn any(&self, length: usize) -> &[u8] {
        &self.0[..length.min(LONGEST)]
    }
}

impl Default for Bodies {
    fn default() -> Self {
        Self::new()
    }
}

/// xorshift64*: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn within(&mut self, range: std::ops::Range<usize>) -> usize {
        range.start + (self.next() >> 11) as usize % range.len()
    }
}

/// What a connection does next.
enum Stage {
    Open,
    Request,
    Response,
    Close,
}

struct Connection {
    client: SocketAddrV4,
    header: RequestHeader,
    stage: Stage,
    client_seq: u32,
    server_seq: u32,
}

/// Writes a capture file of `traffic`.
///
/// # Errors
/// When the file can't be written.
pub fn write(traffic: &Traffic, path: &Path) -> Result<Generated> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let mut writer = Writer {
        out: BufWriter::with_capacity(1 << 20, file),
        online: traffic.online,
        random: Random(traffic.seed | 1),
        bodies: Bodies::new(),
        now_micros: 1_700_000_000_000_000,
        facts: Generated::default(),
    };
    writer.run(traffic).with_context(|| format!("writing {}", path.display()))?;
    writer.out.flush().with_context(|| format!("writing {}", path.display()))?;
    Ok(writer.facts)
}

struct Writer {
    out: BufWriter<File>,
    online: SocketAddrV4,
    random: Random,
    bodies: Bodies,
    now_micros: u64,
    facts: Generated,
}

/// One packet of a connection.
struct Packet<'a> {
    from: SocketAddrV4,
    to: SocketAddrV4,
    seq: u32,
    ack: u32,
    flags: u8,
    payload: &'a [u8],
}

impl Writer {
    fn run(&mut self, traffic: &Traffic) -> std::io::Result<()> {
        // Microseconds, version 2.4, whole packets, Ethernet.
        let header = [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 1 << 18, 1];
        for word in header {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.facts.file_bytes = 24;
        let mut open: Vec<Connection> = (0..traffic.open).map(|_| self.begin(traffic)).collect();
        while !open.is_empty() {
            let index = self.random.within(0..open.len());
            if self.random.within(0..40) == 0 {
                self.other_traffic(traffic)?;
            }
            if self.step(&mut open[index])? {
                continue;
            }
            if self.facts.file_bytes < traffic.file_bytes {
                open[index] = self.begin(traffic);
            } else {
                open.swap_remove(index);
            }
        }
        Ok(())
    }

    fn begin(&mut self, traffic: &Traffic) -> Connection {
        let number = self.facts.connections as u32;
        self.facts.connections += 1;
        // 200 addresses; each with its ports one after another, so that none comes again for long.
        let addr = Ipv4Addr::from(u32::from(traffic.first_client) + number % 200);
        let port = 10_000 + (number / 200 % 50_000) as u16;
        let of = match self.random.within(0..10) {
            0..4 => 1,
            4..8 => self.random.within(2..20) as u32,
            _ => self.random.within(20..200) as u32,
        };
        let header = RequestHeader { connection: number, number: 0, of, length: 0, response: 0 };
        let (client_seq, server_seq) = (self.random.next() as u32, self.random.next() as u32);
        Connection {
            client: SocketAddrV4::new(addr, port),
            header,
            stage: Stage::Open,
            client_seq,
            server_seq,
        }
    }

    /// Writes what comes next; whether more will come.
    fn step(&mut self, connection: &mut Connection) -> std::io::Result<bool> {
        match connection.stage {
            Stage::Open => {
                let (client_seq, server_seq) = (connection.client_seq, connection.server_seq);
                connection.client_seq = client_seq.wrapping_add(1);
                connection.server_seq = server_seq.wrapping_add(1);
                let (client, online) = (connection.client, self.online);
                let syn =
                    Packet { from: client, to: online, seq: client_seq, ack: 0, flags: SYN, payload: &[] };
                self.packet(&syn)?;
                let ack = connection.client_seq;
                self.packet(&Packet {
                    from: online,
                    to: client,
                    seq: server_seq,
                    ack,
                    flags: SYN | ACK,
                    payload: &[],
                })?;
                self.client_sends(connection, ACK, &[])?;
                connection.stage = Stage::Request;
            }
            Stage::Request => {
                let response = self.length(0) as u32;
                let length = self.length(HEADER) as u32;
                connection.header = RequestHeader { length, response, ..connection.header };
                let header = connection.header;
                let mut request = header.write().to_vec();
                request.extend_from_slice(self.bodies.of(header));
                self.facts.requests += 1;
                self.facts.request_bytes += u64::from(length);
                self.message(connection, Side::Client, &request)?;
                connection.stage = Stage::Response;
            }
            Stage::Response => {
                let length = connection.header.response as usize;
                let response = self.bodies.any(length).to_vec();
                self.facts.response_bytes += length as u64;
                self.message(connection, Side::Server, &response)?;
                connection.header.number += 1;
                let is_last = connection.header.number == connection.header.of;
                connection.stage = if is_last { Stage::Close } else { Stage::Request };
            }
            Stage::Close => {
                self.client_sends(connection, FIN | ACK, &[])?;
                connection.client_seq = connection.client_seq.wrapping_add(1);
                self.server_sends(connection, FIN | ACK, &[])?;
                connection.server_seq = connection.server_seq.wrapping_add(1);
                self.client_sends(connection, ACK, &[])?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A length of a message: mostly short, seldom long, most bytes in the long ones.
    fn length(&mut self, least: usize) -> usize {
        let length = match self.random.within(0..100) {
            0..60 => self.random.within(40..600),
            60..90 => self.random.within(600..8_000),
            90..99 => self.random.within(8_000..60_000),
            _ => self.random.within(60_000..200_000),
        };
        length.max(least)
    }

    /// A message in segments, some of them merged as a receiving host does, with the other side's acknowledgements.
    fn message(&mut self, connection: &mut Connection, side: Side, bytes: &[u8]) -> std::io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let merged = if self.random.within(0..3) == 0 { self.random.within(2..12) } else { 1 };
            let (segment, rest) = left.split_at(left.len().min(1448 * merged));
            left = rest;
            let flags = if left.is_empty() { ACK | PUSH } else { ACK };
            match side {
                Side::Client => self.client_sends(connection, flags, segment)?,
                Side::Server => self.server_sends(connection, flags, segment)?,
            }
            if left.is_empty() || merged > 1 {
                match side {
                    Side::Client => self.server_sends(connection, ACK, &[])?,
                    Side::Server => self.client_sends(connection, ACK, &[])?,
                }
            }
        }
        Ok(())
    }

    fn client_sends(
        &mut self,
        connection: &mut Connection,
        flags: u8,
        payload: &[u8],
    ) -> std::io::Result<()> {
        let (seq, ack) = (connection.client_seq, connection.server_seq);
        self.packet(&Packet { from: connection.client, to: self.online, seq, ack, flags, payload })?;
        connection.client_seq = seq.wrapping_add(payload.len() as u32);
        Ok(())
    }

    fn server_sends(
        &mut self,
        connection: &mut Connection,
        flags: u8,
        payload: &[u8],
    ) -> std::io::Result<()> {
        let (seq, ack) = (connection.server_seq, connection.client_seq);
        self.packet(&Packet { from: self.online, to: connection.client, seq, ack, flags, payload })?;
        connection.server_seq = seq.wrapping_add(payload.len() as u32);
        Ok(())
    }

    /// What nobody asked for: a connection of another service, in the middle.
    fn other_traffic(&mut self, traffic: &Traffic) -> std::io::Result<()> {
        let from = SocketAddrV4::new(traffic.first_client, 9_999);
        let to = SocketAddrV4::new(*self.online.ip(), self.online.port() ^ 1);
        let payload = self.bodies.any(1_400).to_vec();
        let (seq, ack) = (self.random.next() as u32, 1);
        self.packet(&Packet { from, to, seq, ack, flags: ACK | PUSH, payload: &payload })
    }

    fn packet(&mut self, packet: &Packet<'_>) -> std::io::Result<()> {
        let options: &[u8] = match packet.flags & SYN {
            // Segments of 1460 bytes, windows times 128, timestamps.
            SYN => &[2, 4, 5, 0xb4, 1, 3, 3, 7, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
            _ => &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1],
        };
        let ip_length = 20 + 20 + options.len() + packet.payload.len();
        self.now_micros += 1 + self.random.next() % 40;
        let length = (14 + ip_length) as u32;
        let record =
            [(self.now_micros / 1_000_000) as u32, (self.now_micros % 1_000_000) as u32, length, length];
        let mut head = Vec::with_capacity(16 + 14 + 40 + 20);
        record.iter().for_each(|word| head.extend(word.to_le_bytes()));
        head.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        head.extend([0x45, 0]);
        head.extend((ip_length as u16).to_be_bytes());
        // No fragment; checksums are not filled in, as where a network card does it.
        head.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
        head.extend(packet.from.ip().octets());
        head.extend(packet.to.ip().octets());
        head.extend(packet.from.port().to_be_bytes());
        head.extend(packet.to.port().to_be_bytes());
        head.extend(packet.seq.to_be_bytes());
        head.extend(packet.ack.to_be_bytes());
        head.extend([((20 + options.len()) << 2) as u8, packet.flags, 1, 0xf6, 0, 0, 0, 0]);
        head.extend_from_slice(options);
        self.out.write_all(&head)?;
        self.out.write_all(packet.payload)?;
        self.facts.packets += 1;
        self.facts.file_bytes += (head.len() + packet.payload.len()) as u64;
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(file_bytes: u64) -> Traffic {
        let online = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 7000);
        Traffic { online, first_client: Ipv4Addr::new(10, 1, 0, 1), open: 20, file_bytes, seed: 3 }
    }

    #[test]
    fn headers_are_read_as_written_and_nothing_else_is() {
        let header = RequestHeader { connection: 7, number: 2, of: 3, length: 30, response: 5 };
        assert_eq!(RequestHeader::read(&header.write()), Some(header));
        let late = RequestHeader { number: 3, ..header };
        assert_eq!(RequestHeader::read(&late.write()), None);
        assert_eq!(RequestHeader::read(&[0; HEADER]), None);
        assert_ne!(Bodies::new().of(header), Bodies::new().of(RequestHeader { number: 1, ..header }));
    }

    #[test]
    fn a_file_is_as_long_as_asked_and_holds_what_is_said() {
        let path = std::env::temp_dir().join(format!("tcpcopy-lab-generate-{}.pcap", std::process::id()));
        let facts = write(&traffic(3_000_000), &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bytes.len() as u64, facts.file_bytes);
        assert!((3_000_000..30_000_000).contains(&facts.file_bytes), "{facts:?}");
        // Walk the records: their lengths lead to the end exactly, and the requests are all there.
        let (mut at, mut packets, mut request_bytes) = (24, 0, 0);
        while at < bytes.len() {
            let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
            let frame = &bytes[at + 16..at + 16 + length];
            let to_server = frame[36..38] == 7000_u16.to_be_bytes();
            let header = 34 + usize::from(frame[46] >> 4) * 4;
            request_bytes += if to_server { frame.len() - header } else { 0 };
            packets += 1;
            at += 16 + length;
        }
        assert_eq!(packets, facts.packets);
        assert_eq!(request_bytes as u64, facts.request_bytes);
        assert!(facts.connections >= 20 && facts.requests > facts.connections, "{facts:?}");
    }
}
