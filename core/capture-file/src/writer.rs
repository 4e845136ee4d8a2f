//! Writing capture files.
//!
//! Owns the two formats as they are written here: pcap with nanoseconds, and pcapng with one interface for each link type, both in this
//! host's byte order. Leaves files, their names and compression to [`crate::RotatingWriter`].

use crate::{Frame, LinkType, MAX_RECORD};
use std::io::{self, Write};

/// Format of a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// pcap with times in nanoseconds; all frames have one link type.
    Pcap,
    /// pcapng, with an interface for each link type.
    #[default]
    Pcapng,
}

/// Why a frame was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file could not be written.
    #[error("the capture can't be written")]
    Io(#[from] io::Error),
    /// A pcap file holds frames of one link type only.
    #[error("a pcap file of {file:?} frames can't hold a frame of link type {frame:?}")]
    LinkType {
        /// Link type of the file: that of its first frame.
        file: LinkType,
        /// Link type of the frame.
        frame: LinkType,
    },
    /// The frame is longer than [`MAX_RECORD`].
    #[error("a frame of {len} bytes is longer than any record may be")]
    TooLong {
        /// Its length.
        len: usize,
    },
}

impl WriteError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
                "make room, or limit the recording with rotation and compression"
            }
            Self::Io(_) => "look at the disk that the file is on",
            Self::LinkType { .. } => "write a .pcapng file, or capture on one interface",
            Self::TooLong { .. } => "set a snapshot length",
        }
    }
}

/// Writes frames as one capture file. The header is written with the first frame (pcap), or at once (pcapng).
pub struct CaptureWriter<W: Write> {
    writer: W,
    format: Format,
    snap_len: u32,
    /// Link types of the interfaces written so far; the place is the interface's number.
    interfaces: Vec<LinkType>,
    bytes: u64,
}

impl<W: Write> CaptureWriter<W> {
    /// A writer that says that frames were cut to `snap_len` bytes (0: not at all). Frames are written as they are.
    ///
    /// # Errors
    /// What writing the header failed with.
    pub fn new(writer: W, format: Format, snap_len: u32) -> Result<Self, WriteError> {
        let mut this = Self { writer, format, snap_len, interfaces: Vec::new(), bytes: 0 };
        if format == Format::Pcapng {
            this.section()?;
        }
        Ok(this)
    }

    /// Bytes of capture written so far, before any compression that `writer` may do.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// When the format can't hold the frame, or writing failed.
    #[inline]
    pub fn write(&mut self, frame: &Frame<'_>) -> Result<(), WriteError> {
        if frame.data.len() > MAX_RECORD {
            return Err(WriteError::TooLong { len: frame.data.len() });
        }
        match self.format {
            Format::Pcap => self.pcap_record(frame),
            Format::Pcapng => self.enhanced_packet(frame),
        }
    }

    fn pcap_record(&mut self, frame: &Frame<'_>) -> Result<(), WriteError> {
        match self.interfaces.first() {
            Some(&file) if file != frame.link_type => {
                return Err(WriteError::LinkType { file, frame: frame.link_type });
            }
            Some(_) => {}
            None => self.file_header(frame.link_type)?,
        }
        let nanos = frame.captured_at_nanos;
        let [captured, wire] = lengths(frame);
        // Seconds have 32 bits: they end in 2106.
        let seconds = u32::try_from(nanos / 1_000_000_000).unwrap_or(u32::MAX);
        let header = [seconds, (nanos % 1_000_000_000) as u32, captured, wire];
        self.numbers(header)?;
        self.put(frame.data)
    }

    /// Writes the file header when it is still to be written; the first frame decides its link type.
    fn file_header(&mut self, link_type: LinkType) -> Result<(), WriteError> {
        const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
        self.interfaces.push(link_type);
        self.numbers([MAGIC_NANOS])?;
        self.put(&[2_u16.to_ne_bytes(), 4_u16.to_ne_bytes()].concat())?;
        let snap_len = if self.snap_len == 0 { MAX_RECORD as u32 } else { self.snap_len };
        self.numbers([0, 0, snap_len, u32::from(link_type.number())])
    }

    fn section(&mut self) -> Result<(), WriteError> {
        // Version 1.0, length of the section unknown.
        const LEN: u32 = 28;
        self.numbers([0x0a0d_0d0a, LEN, 0x1a2b_3c4d])?;
        self.put(&[1_u16.to_ne_bytes(), 0_u16.to_ne_bytes()].concat())?;
        self.numbers([u32::MAX, u32::MAX, LEN])
    }

    fn enhanced_packet(&mut self, frame: &Frame<'_>) -> Result<(), WriteError> {
        let interface = match self.interfaces.iter().position(|link| *link == frame.link_type) {
            Some(interface) => interface,
            None => self.interface(frame.link_type)?,
        };
        let padding = frame.data.len().next_multiple_of(4) - frame.data.len();
        let [captured, wire] = lengths(frame);
        let len = 32 + captured + padding as u32;
        let (high, low) = ((frame.captured_at_nanos >> 32) as u32, frame.captured_at_nanos as u32);
        self.numbers([6, len, interface as u32, high, low, captured, wire])?;
        self.put(frame.data)?;
        self.put(&[0; 3][..padding])?;
        self.numbers([len])
    }

    fn interface(&mut self, link_type: LinkType) -> Result<usize, WriteError> {
        const LEN: u32 = 32;
        /// `if_tsresol`: nanoseconds.
        const NANOS: u8 = 9;
        self.numbers([1, LEN])?;
        self.put(&[link_type.number().to_ne_bytes(), [0; 2]].concat())?;
        self.numbers([self.snap_len])?;
        self.put(&[9_u16.to_ne_bytes(), 1_u16.to_ne_bytes(), [NANOS, 0], [0; 2]].concat())?;
        self.numbers([0, LEN])?;
        self.interfaces.push(link_type);
        Ok(self.interfaces.len() - 1)
    }

    fn numbers<const N: usize>(&mut self, numbers: [u32; N]) -> Result<(), WriteError> {
        let bytes = numbers.map(u32::to_ne_bytes);
        self.put(bytes.as_flattened())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.writer.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Hands what was written on to where it goes.
    ///
    /// # Errors
    /// What writing failed with.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        Ok(self.writer.flush()?)
    }

    /// Ends the file: a pcap file without frames gets its header (of Ethernet) now. Returns what was written to.
    ///
    /// # Errors
    /// What writing failed with.
    pub fn finish(mut self) -> Result<W, WriteError> {
        if self.format == Format::Pcap && self.interfaces.is_empty() {
            self.file_header(LinkType::Ethernet)?;
        }
        self.writer.flush()?;
        Ok(self.writer)
    }
}

/// Captured length and length on the wire, as files have them.
fn lengths(frame: &Frame<'_>) -> [u32; 2] {
    let wire_len = frame.wire_len.max(frame.data.len());
    // Checked against the bound of a record before.
    [frame.data.len() as u32, u32::try_from(wire_len).unwrap_or(u32::MAX)]
}
