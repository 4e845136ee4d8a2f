//! A file's bytes, decompressed, in a window that moves over them.
//!
//! Owns the buffers, the reading, and the way from compressed to plain bytes. Leaves what the bytes mean to the formats, which look
//! at the window and say how much of it they are done with.

use crate::codec::{Decoder, Gzip, Place, Zstd};
use crate::flaw::FlawKind;
use crate::input::AtEnd;
use crate::{Compression, MAX_RECORD};
use std::io::{self, Read};

/// Bytes read at once: large enough to make system calls rare, small enough to stay in the processor's cache.
const WINDOW: usize = 512 << 10;
/// Compressed bytes read at once.
const INTAKE: usize = 256 << 10;
/// The window never becomes larger than this: a record of the largest size and a few headers behind it.
const MAX_WINDOW: usize = 2 * MAX_RECORD + (1 << 20);

/// Whether as many bytes are there as were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Have {
    /// They are.
    Enough,
    /// Not yet.
    Idle,
    /// The file ends before.
    End,
}

/// What a file's end and pauses mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file that is complete: looking ahead costs nothing.
    Complete,
    /// A pipe, or a file that grows: what is asked for may have to be waited for.
    Live(AtEnd),
}

/// What came of reading.
enum Got {
    Bytes(usize),
    Idle,
    End,
}

/// A file's bytes.
pub(crate) struct Stream {
    file: Box<dyn Read + Send>,
    kind: Kind,
    /// Bytes read from the file.
    bytes_read: u64,
    codec: Codec,
    window: Vec<u8>,
    start: usize,
    end: usize,
    /// Place of the window's first byte in the uncompressed capture.
    offset: u64,
    ended: bool,
    /// What was found wrong with the compression, and where.
    flaws: Vec<(u64, FlawKind)>,
}

enum Codec {
    /// Too few bytes were read to tell.
    Unknown,
    Plain,
    Compressed {
        decoder: Decoder,
        intake: Intake,
    },
}

/// Compressed bytes on their way to a decoder.
struct Intake {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Intake {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Room behind what is there; never none, as decoders take what fills the buffer.
    fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.buffer[self.end..]
    }
}

impl Stream {
    pub(crate) fn new(file: Box<dyn Read + Send>, kind: Kind) -> Self {
        Self {
            file,
            kind,
            bytes_read: 0,
            codec: Codec::Unknown,
            window: Vec::new(),
            start: 0,
            end: 0,
            offset: 0,
            ended: false,
            flaws: Vec::new(),
        }
    }

    /// The bytes at hand that nobody is done with.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.window[self.start..self.end]
    }

    /// Place of their first in the uncompressed capture.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes read from the file that somebody is done with, as far as compression lets that be known.
    pub(crate) fn bytes_done(&self) -> u64 {
        match &self.codec {
            Codec::Compressed { intake, .. } => self.bytes_read - (intake.end - intake.start) as u64,
            Codec::Unknown | Codec::Plain => self.offset,
        }
    }

    /// Whether bytes can be asked for without waiting for someone to write them.
    pub(crate) fn may_look_ahead(&self) -> bool {
        self.kind == Kind::Complete
    }

    /// Whether the last byte is at hand.
    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) const fn compression(&self) -> Compression {
        match &self.codec {
            Codec::Unknown | Codec::Plain => Compression::None,
            Codec::Compressed { decoder: Decoder::Gzip(_), .. } => Compression::Gzip,
            Codec::Compressed { decoder: Decoder::Zstd(_), .. } => Compression::Zstd,
        }
    }

    /// What was found wrong with the compression since the last call, with its place in the uncompressed capture.
    pub(crate) fn take_flaws(&mut self) -> Vec<(u64, FlawKind)> {
        std::mem::take(&mut self.flaws)
    }

    pub(crate) const fn has_flaws(&self) -> bool {
        !self.flaws.is_empty()
    }

    /// Is done with the first `bytes` bytes.
    #[inline]
    pub(crate) fn consume(&mut self, bytes: usize) {
        let bytes = bytes.min(self.end - self.start);
        self.start += bytes;
        self.offset += bytes as u64;
    }

    /// Sees to it that `bytes` bytes are at hand; more than the largest record and what follows it are never.
    ///
    /// # Errors
    /// What reading failed with.
    #[inline]
    pub(crate) fn ensure(&mut self, bytes: usize) -> io::Result<Have> {
        if self.end - self.start >= bytes { Ok(Have::Enough) } else { self.fill(bytes.min(MAX_WINDOW)) }
    }

    fn fill(&mut self, bytes: usize) -> io::Result<Have> {
        while self.end - self.start < bytes {
            if self.ended {
                return Ok(Have::End);
            }
            self.make_room();
            match self.read_some()? {
                Got::Bytes(read) => self.end += read,
                Got::Idle => return Ok(Have::Idle),
                Got::End => self.ended = true,
            }
        }
        Ok(Have::Enough)
    }

    /// Moves what is left to the window's front; makes the window larger only when it is full, so that its size follows the bytes
    /// that there are and not the length that a record claims.
    fn make_room(&mut self) {
        let left = self.end - self.start;
        if self.start > 0 && (left < WINDOW / 4 || self.end == self.window.len()) {
            self.window.copy_within(self.start..self.end, 0);
            self.start = 0;
            self.end = left;
        }
        if self.window.is_empty() {
            self.window = vec![0; WINDOW];
        } else if self.end == self.window.len() {
            let grown = (self.window.len() * 2).clamp(WINDOW, MAX_WINDOW);
            self.window.resize(grown, 0);
        } else if self.window.len() > WINDOW && self.end < WINDOW / 4 {
            // A large record is past.
            self.window.truncate(WINDOW);
            self.window.shrink_to_fit();
        }
    }

    fn read_some(&mut self) -> io::Result<Got> {
        loop {
            match &mut self.codec {
                Codec::Plain => {
                    return read_from(
                        &mut self.file,
                        self.kind,
                        &mut self.bytes_read,
                        &mut self.window[self.end..],
                    );
                }
                Codec::Unknown => return self.recognise(),
                Codec::Compressed { decoder, intake } => {
                    if decoder.has_failed() {
                        return Ok(Got::End);
                    }
                    let decoded = decoder.decode(intake.bytes(), &mut self.window[self.end..]);
                    intake.start += decoded.consumed;
                    if let Some(flaw) = decoded.flaw {
                        let at = self.offset + (self.end - self.start + decoded.produced) as u64;
                        self.flaws.push((at, flaw));
                    }
                    if decoded.produced > 0 {
                        return Ok(Got::Bytes(decoded.produced));
                    }
                    if decoded.consumed > 0 || decoded.flaw.is_some() {
                        continue;
                    }
                    match read_from(&mut self.file, self.kind, &mut self.bytes_read, intake.room())? {
                        Got::Bytes(read) => intake.end += read,
                        Got::Idle => return Ok(Got::Idle),
                        Got::End => {
                            if decoder.place() == Place::Within || !intake.bytes().is_empty() {
                                let at = self.offset + (self.end - self.start) as u64;
                                self.flaws.push((at, FlawKind::Truncated));
                            }
                            return Ok(Got::End);
                        }
                    }
                }
            }
        }
    }

    /// Reads the first bytes until they tell how the file is compressed. `Got::Bytes(0)` when that is known and the bytes are in
    /// their place: they may be all that is wanted.
    fn recognise(&mut self) -> io::Result<Got> {
        const TELLING: usize = 4;
        while self.end < TELLING {
            match read_from(&mut self.file, self.kind, &mut self.bytes_read, &mut self.window[self.end..])? {
                Got::Bytes(read) => self.end += read,
                Got::Idle => return Ok(Got::Idle),
                Got::End => break,
            }
        }
        let decoder = match self.window[..self.end] {
            [0x1f, 0x8b, 8, ..] => Decoder::Gzip(Box::new(Gzip::new())),
            // A frame, or a skippable one (RFC 8878, sections 3.1.1 and 3.1.2).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Decoder::Zstd(Box::new(Zstd::new()?))
            }
            _ => {
                self.codec = Codec::Plain;
                return Ok(Got::Bytes(0));
            }
        };
        let mut buffer = vec![0; INTAKE.max(self.end)];
        buffer[..self.end].copy_from_slice(&self.window[..self.end]);
        self.codec = Codec::Compressed { decoder, intake: Intake { buffer, start: 0, end: self.end } };
        self.end = 0;
        Ok(Got::Bytes(0))
    }
}

fn read_from(
    file: &mut Box<dyn Read + Send>,
    kind: Kind,
    bytes_read: &mut u64,
    into: &mut [u8],
) -> io::Result<Got> {
    match file.read(into) {
        Ok(0) => Ok(if kind == Kind::Live(AtEnd::Follow) { Got::Idle } else { Got::End }),
        Ok(read) => {
            *bytes_read += read as u64;
            Ok(Got::Bytes(read))
        }
        // A signal: the caller may want to look at what it was for. A file that does not wait has nothing yet.
        Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
            Ok(Got::Idle)
        }
        Err(error) => Err(error),
    }
}
