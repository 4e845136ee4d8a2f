//! One capture file: which format it has, and its frames in the order of the file.

use crate::error::{OpenError, ReadError};
use crate::flaw::{FlawHandle, FlawKind, Flaws};
use crate::pcap::{self, Layout, Pcap};
use crate::pcapng::{self, Pcapng};
use crate::stream::{Have, Stream};
use crate::{Compression, Frame, LinkType};
use std::fmt;

/// Format of a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// pcap with times in microseconds.
    PcapMicros,
    /// pcap with times in nanoseconds.
    PcapNanos,
    /// pcapng; each interface has its own resolution.
    Pcapng,
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PcapMicros => "pcap (microseconds)",
            Self::PcapNanos => "pcap (nanoseconds)",
            Self::Pcapng => "pcapng",
        })
    }
}

/// Where a frame lies in the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Its first byte, from the record's beginning.
    pub(crate) at: usize,
    pub(crate) len: usize,
    pub(crate) wire_len: usize,
    pub(crate) link: LinkType,
    /// Bytes to be done with afterwards.
    pub(crate) record_len: usize,
}

/// A frame as a format finds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) head: Head,
    /// In nanoseconds of the Unix epoch, if the record has a time that makes sense.
    pub(crate) time: Option<u64>,
}

/// What reading on came to.
pub(crate) enum Progress {
    Frame(Found),
    Idle,
    End,
}

/// Notes flaws of one file.
pub(crate) struct Note<'a> {
    pub(crate) flaws: &'a mut Flaws,
    pub(crate) name: &'a str,
}

impl Note<'_> {
    pub(crate) fn flaw(&mut self, offset: u64, skipped: u64, kind: FlawKind) {
        self.flaws.push(self.name, offset, skipped, kind);
    }

    pub(crate) fn handle(&mut self, offset: u64, skipped: u64, kind: FlawKind) -> FlawHandle {
        self.flaws.push(self.name, offset, skipped, kind)
    }

    pub(crate) fn grow(&mut self, handle: FlawHandle, bytes: u64) {
        self.flaws.grow(handle, bytes);
    }
}

/// Whether a reader stands on a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// It does; its time, in nanoseconds of the Unix epoch.
    Frame(u64),
    Idle,
    End,
}

/// What has been seen of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) format: Option<FileFormat>,
    pub(crate) compression: Compression,
    pub(crate) link_types: Vec<LinkType>,
    pub(crate) snap_len: u32,
    pub(crate) frames: u64,
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<u64>,
}

impl Seen {
    fn add_link(&mut self, link: LinkType, snap_len: u32) {
        if !self.link_types.contains(&link) {
            self.link_types.push(link);
        }
        self.snap_len = self.snap_len.max(snap_len);
    }
}

enum Format {
    Unknown,
    Pcap(Pcap),
    Pcapng(Pcapng),
}

/// Reads one file.
pub(crate) struct FileReader {
    name: String,
    stream: Stream,
    format: Format,
    /// The frame that the reader stands on.
    head: Option<Head>,
    /// Time of the last frame; times never go back.
    time: u64,
    seen: Seen,
}

impl FileReader {
    pub(crate) fn new(name: String, stream: Stream) -> Self {
        Self { name, stream, format: Format::Unknown, head: None, time: 0, seen: Seen::default() }
    }

    pub(crate) fn seen(&self) -> Seen {
        let mut seen = self.seen.clone();
        seen.compression = self.stream.compression();
        if let Format::Pcapng(pcapng) = &self.format {
            for (link, snap_len) in pcapng.interfaces() {
                seen.add_link(link, snap_len);
            }
        }
        seen
    }

    /// Bytes of the file, as it is on disk, that reading is done with.
    pub(crate) fn bytes_done(&self) -> u64 {
        self.stream.bytes_done()
    }

    /// The frame that the reader stands on.
    #[inline]
    pub(crate) fn frame(&self) -> Option<Frame<'_>> {
        let head = self.head?;
        Some(Frame {
            data: self.stream.bytes().get(head.at..head.at + head.len)?,
            wire_len: head.wire_len,
            link_type: head.link,
            captured_at_nanos: self.time,
        })
    }

    /// Goes to the next frame.
    ///
    /// # Errors
    /// What reading failed with, or that the file is no capture.
    #[inline]
    pub(crate) fn advance(&mut self, flaws: &mut Flaws) -> Result<Stand, ReadError> {
        if let Some(head) = self.head.take() {
            self.stream.consume(head.record_len);
        }
        let mut note = Note { flaws, name: &self.name };
        let progress = match &mut self.format {
            Format::Pcap(pcap) => pcap.advance(&mut self.stream, &mut note),
            Format::Pcapng(pcapng) => pcapng.advance(&mut self.stream, &mut note),
            Format::Unknown => {
                if !self.recognise(flaws)? {
                    return Ok(Stand::Idle);
                }
                return self.advance(flaws);
            }
        };
        if self.stream.has_flaws() {
            // The capture is cut where the compression failed: one flaw says both.
            for (offset, kind) in self.stream.take_flaws() {
                flaws.push(&self.name, offset, 0, kind);
            }
        }
        match progress {
            Ok(Progress::Frame(found)) => {
                self.time = self.time.max(found.time.unwrap_or(self.time));
                self.head = Some(found.head);
                self.count(found.head.link);
                Ok(Stand::Frame(self.time))
            }
            Ok(Progress::Idle) => Ok(Stand::Idle),
            Ok(Progress::End) => Ok(Stand::End),
            Err(source) => {
                Err(ReadError::Read { file: self.name.clone(), offset: self.stream.offset(), source })
            }
        }
    }

    #[inline]
    fn count(&mut self, link: LinkType) {
        self.seen.frames += 1;
        self.seen.last = Some(self.time);
        if self.seen.frames == 1 {
            self.seen.first = Some(self.time);
        }
        if !self.seen.link_types.contains(&link) {
            self.seen.link_types.push(link);
        }
    }

    /// Reads the file's header, if enough of it is there yet. Returns whether it is.
    ///
    /// # Errors
    /// When the file can't be read or is no capture.
    pub(crate) fn recognise(&mut self, flaws: &mut Flaws) -> Result<bool, OpenError> {
        const MAGIC: usize = 4;
        if !matches!(self.format, Format::Unknown) || !self.has(MAGIC)? {
            return Ok(!matches!(self.format, Format::Unknown));
        }
        let bytes = self.stream.bytes();
        if bytes.first_chunk().is_some_and(|magic| u32::from_be_bytes(*magic) == pcapng::SECTION) {
            if !self.has(pcapng::MIN_SECTION)? {
                return Ok(false);
            }
            if !pcapng::is_section(self.stream.bytes()) {
                return Err(self.no_capture());
            }
            self.format = Format::Pcapng(Pcapng::new());
            self.seen.format = Some(FileFormat::Pcapng);
        } else {
            if Layout::is_magic(bytes) && !self.has(pcap::FILE_HEADER)? {
                return Ok(false);
            }
            let Some(layout) = Layout::parse(self.stream.bytes()) else { return Err(self.no_capture()) };
            let number = layout.link_number;
            let Some(link) = LinkType::from_dlt(i32::from(number)) else {
                return Err(OpenError::LinkType { file: self.name.clone(), number });
            };
            self.stream.consume(pcap::FILE_HEADER);
            self.seen.format =
                Some(if layout.is_nanos() { FileFormat::PcapNanos } else { FileFormat::PcapMicros });
            self.seen.add_link(link, layout.snap_len);
            self.format = Format::Pcap(Pcap::new(layout, link));
        }
        for (offset, kind) in self.stream.take_flaws() {
            flaws.push(&self.name, offset, 0, kind);
        }
        Ok(true)
    }

    /// Whether the first `bytes` bytes of the header are there.
    fn has(&mut self, bytes: usize) -> Result<bool, OpenError> {
        match self.stream.ensure(bytes) {
            Ok(Have::Enough) => Ok(true),
            Ok(Have::Idle) => Ok(false),
            Ok(Have::End)
                if self.stream.bytes().is_empty() && self.stream.compression() == Compression::None =>
            {
                Err(OpenError::Empty { file: self.name.clone() })
            }
            Ok(Have::End) if Layout::is_magic(self.stream.bytes()) || self.stream.has_flaws() => {
                Err(OpenError::HeaderCut { file: self.name.clone() })
            }
            Ok(Have::End) => Err(self.no_capture()),
            Err(source) => Err(OpenError::Read { file: self.name.clone(), source }),
        }
    }

    fn no_capture(&self) -> OpenError {
        OpenError::NotACapture { file: self.name.clone(), looks_like: looks_like(self.stream.bytes()) }
    }
}

/// What else a file may be that someone takes for a capture.
fn looks_like(bytes: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 8] = [
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh", "bzip2"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"PK\x03\x04", "a zip archive"),
        (b"snoop\0\0\0", "a snoop capture"),
        (b"XCP\0", "a NetXRay capture"),
        (b"\x42\xd2\x00\x34\x12\x66\x22\x88", "an RF analyser's capture"),
        (b"GMBU", "a Network Monitor capture"),
    ];
    KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, what)| *what)
}
