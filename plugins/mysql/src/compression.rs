//! The compressed protocol: packets with a header of seven bytes around the stream of packets.
//!
//! Owns both algorithms, zlib and Zstandard, in both directions. A packet is inflated piece by piece where the algorithm allows it,
//! and never beyond the length that its header names.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use plugin_sdk::Actions;
use std::io::Read as _;

/// Bytes of a header: length, sequence number, length before compression (zero: it is not compressed).
pub const HEADER: usize = 7;
/// Shorter packets are not worth it.
const WORTH: usize = 50;
/// A packet is made of so many bytes at most.
const PIECE: usize = 64 * 1024;
/// First byte of a Zstandard frame: RFC 8878, section 3.1.1. No stream of zlib begins with it and what follows it there.
const ZSTD: u8 = 0x28;
/// Inflated bytes are handed over in pieces of this size.
const CHUNK: usize = 32 * 1024;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 1950.
    Zlib,
    /// RFC 8878.
    Zstd,
}

/// Makes packets.
#[derive(Debug)]
pub struct Packer {
    algorithm: Algorithm,
    waiting: Vec<u8>,
    sequence: u8,
}

impl Packer {
    /// One that has made none.
    pub const fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, waiting: Vec::new(), sequence: 0 }
    }

    /// How it compresses.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Takes bytes of a request.
    pub fn put(&mut self, mut bytes: &[u8], actions: &mut Actions<'_>) {
        while self.waiting.len() + bytes.len() >= PIECE {
            let (front, rest) = bytes.split_at(PIECE - self.waiting.len());
            self.waiting.extend_from_slice(front);
            bytes = rest;
            self.pack(actions);
        }
        self.waiting.extend_from_slice(bytes);
    }

    /// The request ends; the next one begins with sequence number 0.
    pub fn flush(&mut self, actions: &mut Actions<'_>) {
        if !self.waiting.is_empty() {
            self.pack(actions);
        }
        self.sequence = 0;
    }

    /// The next packet goes on behind one of the server's that had this sequence number.
    pub const fn follow(&mut self, sequence: u8) {
        self.sequence = sequence.wrapping_add(1);
    }

    /// Forgets what was put and not sent.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.sequence = 0;
    }

    fn pack(&mut self, actions: &mut Actions<'_>) {
        let mut packet = Vec::new();
        pack(self.algorithm, self.sequence, &self.waiting, &mut packet);
        actions.send(&packet);
        self.sequence = self.sequence.wrapping_add(1);
        self.waiting.clear();
    }
}

/// Appends one packet with these bytes, at most 16 MiB - 1.
pub fn pack(algorithm: Algorithm, sequence: u8, bytes: &[u8], into: &mut Vec<u8>) {
    let packed = if bytes.len() < WORTH { None } else { compress(algorithm, bytes) };
    let (payload, before) = match &packed {
        Some(packed) if packed.len() < bytes.len() => (packed.as_slice(), bytes.len()),
        _ => (bytes, 0),
    };
    into.extend_from_slice(&(payload.len() as u32).to_le_bytes()[..3]);
    into.push(sequence);
    into.extend_from_slice(&(before as u32).to_le_bytes()[..3]);
    into.extend_from_slice(payload);
}

fn compress(algorithm: Algorithm, bytes: &[u8]) -> Option<Vec<u8>> {
    match algorithm {
        Algorithm::Zlib => {
            // RFC 1950 and 1951: five bytes for each stored block, and six around all.
            let mut packed = Vec::with_capacity(bytes.len() + bytes.len() / 1000 * 5 + 64);
            let status = Compress::new(Compression::fast(), true)
                .compress_vec(bytes, &mut packed, FlushCompress::Finish)
                .ok()?;
            (status == Status::StreamEnd).then_some(packed)
        }
        Algorithm::Zstd => {
            Some(ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest))
        }
    }
}

/// Why bytes are no compressed packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// They can't be inflated.
    #[error("bytes that can't be inflated")]
    Corrupt,
    /// They are longer or shorter than their header says.
    #[error("another length than the header says")]
    Length,
}

#[derive(Debug)]
enum Body {
    /// Not compressed.
    Plain,
    /// Compressed somehow, so many bytes; the first one tells.
    Compressed(usize),
    /// Inflated as it comes; so many bytes have still to come out.
    Zlib(Box<Decompress>, usize),
    /// Gathered, to be inflated when it is whole; so many bytes are to come out.
    Zstd(Vec<u8>, usize),
}

/// Opens packets. By which algorithm they are compressed shows in each.
#[derive(Debug)]
pub struct Unpacker {
    header: [u8; HEADER],
    headed: usize,
    left: usize,
    body: Body,
}

impl Default for Unpacker {
    fn default() -> Self {
        Self::new()
    }
}

impl Unpacker {
    /// One that has opened none.
    pub const fn new() -> Self {
        Self { header: [0; HEADER], headed: 0, left: 0, body: Body::Plain }
    }

    /// Whether part of a packet's body has still to come.
    pub const fn is_within(&self) -> bool {
        self.left > 0
    }

    /// Of so many bytes that come next, those up to the end of the header or body that is under way.
    pub fn until_boundary(&self, available: usize) -> usize {
        let wanted = if self.headed < HEADER { HEADER - self.headed } else { self.left };
        wanted.min(available)
    }

    /// Takes bytes and hands over what is in them, with the sequence number of the packet.
    ///
    /// # Errors
    /// When they are no packets; nothing can be read behind that.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], u8)) -> Result<(), UnpackError> {
        while !bytes.is_empty() {
            if self.headed < HEADER {
                let (now, rest) = bytes.split_at(bytes.len().min(HEADER - self.headed));
                self.header[self.headed..self.headed + now.len()].copy_from_slice(now);
                self.headed += now.len();
                bytes = rest;
                if self.headed < HEADER {
                    return Ok(());
                }
                let [a, b, c, _, d, e, f] = self.header;
                self.left = u32::from_le_bytes([a, b, c, 0]) as usize;
                let before = u32::from_le_bytes([d, e, f, 0]) as usize;
                self.body = if before == 0 { Body::Plain } else { Body::Compressed(before) };
            }
            if let (Body::Compressed(before), Some(&first)) = (&self.body, bytes.first()) {
                self.body = match first {
                    ZSTD => Body::Zstd(Vec::new(), *before),
                    _ => Body::Zlib(Box::new(Decompress::new(true)), *before),
                };
            }
            let (now, rest) = bytes.split_at(bytes.len().min(self.left));
            bytes = rest;
            self.left -= now.len();
            let sequence = self.header[3];
            let mut each = |plain: &[u8]| each(plain, sequence);
            match &mut self.body {
                Body::Plain => {
                    if !now.is_empty() {
                        each(now);
                    }
                }
                Body::Compressed(_) => {}
                Body::Zlib(inflate, expected) => inflate_zlib(inflate, now, expected, &mut each)?,
                Body::Zstd(gathered, _) => gathered.extend_from_slice(now),
            }
            if self.left == 0 {
                self.headed = 0;
                match std::mem::replace(&mut self.body, Body::Plain) {
                    Body::Plain => {}
                    Body::Zlib(_, 0) => {}
                    Body::Compressed(_) | Body::Zlib(..) => return Err(UnpackError::Length),
                    Body::Zstd(gathered, expected) => inflate_zstd(&gathered, expected, &mut each)?,
                }
            }
        }
        Ok(())
    }
}

fn inflate_zlib(
    inflate: &mut Decompress,
    mut bytes: &[u8],
    expected: &mut usize,
    each: &mut impl FnMut(&[u8]),
) -> Result<(), UnpackError> {
    let mut chunk = vec![0; CHUNK.min(*expected + 1)];
    loop {
        let (taken, given) = (inflate.total_in(), inflate.total_out());
        let status =
            inflate.decompress(bytes, &mut chunk, FlushDecompress::None).map_err(|_| UnpackError::Corrupt)?;
        let taken = (inflate.total_in() - taken) as usize;
        let given = (inflate.total_out() - given) as usize;
        bytes = bytes.get(taken..).unwrap_or_default();
        *expected = expected.checked_sub(given).ok_or(UnpackError::Length)?;
        if given > 0 {
            each(&chunk[..given]);
        }
        if status == Status::StreamEnd {
            return if bytes.is_empty() { Ok(()) } else { Err(UnpackError::Length) };
        }
        if taken == 0 && given == 0 {
            return if bytes.is_empty() { Ok(()) } else { Err(UnpackError::Corrupt) };
        }
    }
}

fn inflate_zstd(bytes: &[u8], expected: usize, each: &mut impl FnMut(&[u8])) -> Result<(), UnpackError> {
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(bytes).map_err(|_| UnpackError::Corrupt)?;
    let mut chunk = vec![0; CHUNK.min(expected + 1)];
    let mut left = expected;
    loop {
        let given = decoder.read(&mut chunk).map_err(|_| UnpackError::Corrupt)?;
        if given == 0 {
            return if left == 0 { Ok(()) } else { Err(UnpackError::Length) };
        }
        left = left.checked_sub(given).ok_or(UnpackError::Length)?;
        each(&chunk[..given]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let long: Vec<u8> = (0..200_000u32).flat_map(|n| (n / 7 % 50).to_le_bytes()).collect();
        let noise: Vec<u8> = (0..5000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for algorithm in [Algorithm::Zlib, Algorithm::Zstd] {
            let mut stream = Vec::new();
            for bytes in [&b"short"[..], &long, &noise, b""] {
                pack(algorithm, 0, bytes, &mut stream);
            }
            assert!(stream.len() < long.len() / 2);
            for piece in [1, 13, 4096, stream.len()] {
                let mut unpacker = Unpacker::new();
                let mut plain = Vec::new();
                for bytes in stream.chunks(piece) {
                    assert_eq!(unpacker.feed(bytes, |bytes, _| plain.extend_from_slice(bytes)), Ok(()));
                }
                assert!(
                    plain == [&b"short"[..], &long, &noise].concat(),
                    "{algorithm:?} in pieces of {piece}"
                );
            }
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for algorithm in [Algorithm::Zlib, Algorithm::Zstd] {
            let bytes = vec![7; 1000];
            let mut packet = Vec::new();
            pack(algorithm, 0, &bytes, &mut packet);
            for lie in [999u32, 1001, 1] {
                packet[4..7].copy_from_slice(&lie.to_le_bytes()[..3]);
                assert_eq!(Unpacker::new().feed(&packet, |_, _| ()), Err(UnpackError::Length), "{lie}");
            }
            let garbage = [40, 0, 0, 0, 100, 0, 0].into_iter().chain([0xa5; 40]).collect::<Vec<u8>>();
            assert_eq!(Unpacker::new().feed(&garbage, |_, _| ()), Err(UnpackError::Corrupt));
        }
    }
}
