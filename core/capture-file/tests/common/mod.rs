//! Captures made byte by byte, sharing no code with the crate, and reading them to the end.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Read;
use tcpcopy_capture_file::{AtEnd, Captures, Flaw, FlawKind, LinkType, Step};

/// Byte order of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Order {
    pub(crate) const BOTH: [Self; 2] = [Self::Little, Self::Big];

    pub(crate) fn u16(self, number: u16) -> [u8; 2] {
        if self == Self::Little { number.to_le_bytes() } else { number.to_be_bytes() }
    }

    pub(crate) fn u32(self, number: u32) -> [u8; 4] {
        if self == Self::Little { number.to_le_bytes() } else { number.to_be_bytes() }
    }
}

pub(crate) const SECOND: u64 = 1_000_000_000;
/// Some moment in 2023.
pub(crate) const START: u64 = 1_700_000_000 * SECOND;

/// A frame as it was written or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) time: u64,
    pub(crate) data: Vec<u8>,
    pub(crate) wire_len: usize,
    pub(crate) link: LinkType,
}

/// The frame with number `number`: its length and bytes follow from that, no piece of it looks like a header, and it can hardly be
/// compressed.
pub(crate) fn frame(number: usize) -> Owned {
    let len = 40 + number * 37 % 200;
    let mut state = number as u64 + 1;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        0x80 | (state >> 56) as u8
    };
    let data: Vec<u8> = (0..len).map(|_| random()).collect();
    Owned { time: START + number as u64 * 1_000_000, wire_len: len, data, link: LinkType::Ethernet }
}

pub(crate) fn frames(count: usize) -> Vec<Owned> {
    (0..count).map(frame).collect()
}

pub(crate) fn pcap_header(order: Order, magic: u32, snap_len: u32, link: u32) -> Vec<u8> {
    let mut bytes = order.u32(magic).to_vec();
    bytes.extend(order.u16(2));
    bytes.extend(order.u16(4));
    for number in [0, 0, snap_len, link] {
        bytes.extend(order.u32(number));
    }
    bytes
}

pub(crate) fn pcap_record(order: Order, time: [u32; 2], lengths: [u32; 2], data: &[u8]) -> Vec<u8> {
    let numbers = [time[0], time[1], lengths[0], lengths[1]];
    [&numbers.map(|n| order.u32(n)).concat()[..], data].concat()
}

/// A pcap file in nanoseconds, and where each record begins (and the file ends).
pub(crate) fn pcap(order: Order, frames: &[Owned]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = pcap_header(order, 0xa1b2_3c4d, 65_535, 1);
    let mut begins = Vec::new();
    for frame in frames {
        begins.push(bytes.len());
        let time = [(frame.time / SECOND) as u32, (frame.time % SECOND) as u32];
        bytes.extend(pcap_record(order, time, [frame.data.len() as u32, frame.wire_len as u32], &frame.data));
    }
    begins.push(bytes.len());
    (bytes, begins)
}

pub(crate) fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let len = order.u32(body.len() as u32 + 12);
    [&order.u32(kind)[..], &len, &body, &len].concat()
}

pub(crate) fn section(order: Order) -> Vec<u8> {
    let body = [&order.u32(0x1a2b_3c4d)[..], &order.u16(1), &order.u16(0), &[0xff; 8]].concat();
    block(order, 0x0a0d_0d0a, &body)
}

pub(crate) fn option(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [&order.u16(code)[..], &order.u16(value.len() as u16), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

pub(crate) fn interface(order: Order, link: u16, snap_len: u32, options: &[u8]) -> Vec<u8> {
    block(order, 1, &[&order.u16(link)[..], &[0; 2], &order.u32(snap_len), options].concat())
}

pub(crate) fn packet(order: Order, interface: u32, units: u64, wire_len: usize, data: &[u8]) -> Vec<u8> {
    let numbers = [interface, (units >> 32) as u32, units as u32, data.len() as u32, wire_len as u32]
        .map(|n| order.u32(n));
    block(order, 6, &[&numbers.concat()[..], data].concat())
}

/// A pcapng file of one Ethernet interface in nanoseconds, and where each packet begins (and the file ends).
pub(crate) fn pcapng(order: Order, frames: &[Owned]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = section(order);
    bytes.extend(interface(order, 1, 0, &option(order, 9, &[9])));
    let mut begins = Vec::new();
    for frame in frames {
        begins.push(bytes.len());
        bytes.extend(packet(order, 0, frame.time, frame.wire_len, &frame.data));
    }
    begins.push(bytes.len());
    (bytes, begins)
}

/// Reads on until there is nothing more, or nothing more for now.
pub(crate) fn drain(captures: &mut Captures) -> Vec<Owned> {
    let mut frames = Vec::new();
    while let Step::Frame(frame) = captures.next().expect("reading succeeds") {
        frames.push(Owned {
            time: frame.captured_at_nanos,
            data: frame.data.to_vec(),
            wire_len: frame.wire_len,
            link: frame.link_type,
        });
    }
    frames
}

/// All frames and flaws of a file.
pub(crate) fn read(bytes: &[u8]) -> (Vec<Owned>, Vec<Flaw>) {
    let mut captures = Captures::from_bytes("test", bytes.to_vec()).expect("a capture");
    let frames = drain(&mut captures);
    assert_eq!(captures.flaw_count(), captures.flaws().len() as u64, "some flaws were not kept");
    (frames, captures.flaws().to_vec())
}

/// All frames of a file that has no flaw.
pub(crate) fn read_whole(bytes: &[u8]) -> Vec<Owned> {
    let (frames, flaws) = read(bytes);
    assert_eq!(flaws, [], "of a whole file");
    frames
}

/// Offset, bytes skipped and kind of flaws.
pub(crate) fn places(flaws: &[Flaw]) -> Vec<(u64, u64, FlawKind)> {
    flaws.iter().map(|flaw| (flaw.offset, flaw.skipped, flaw.kind)).collect()
}

/// Gives bytes in pieces of the sizes named, over and over.
pub(crate) struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    sizes: Vec<usize>,
    turn: usize,
}

impl Pieces {
    pub(crate) fn new(bytes: Vec<u8>, sizes: Vec<usize>) -> Self {
        Self { bytes, at: 0, sizes, turn: 0 }
    }
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let size = self.sizes[self.turn % self.sizes.len()];
        self.turn += 1;
        let len = size.min(into.len()).min(self.bytes.len() - self.at);
        into[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

/// Reads a file in pieces, as a pipe.
pub(crate) fn read_pieces(bytes: &[u8], sizes: Vec<usize>) -> (Vec<Owned>, Vec<Flaw>) {
    let pipe = Box::new(Pieces::new(bytes.to_vec(), sizes));
    let mut captures = Captures::from_reader("test", pipe, AtEnd::Stop).expect("a capture");
    (drain(&mut captures), captures.flaws().to_vec())
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("memory");
    // As the program does.
    encoder.include_checksum(true).expect("memory");
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}
