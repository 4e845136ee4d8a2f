//! TCP segments and their options (RFC 9293, section 3.1; RFC 7323; RFC 2018; RFC 7413).
//!
//! Owns reading the header, and the vocabulary (flags, options) that the writer shares. Leaves sequence arithmetic to
//! [`crate::seq`] and does not verify the checksum: where a host captures its own traffic, offloading leaves it unset.

use super::u32_at;
use crate::seq::SeqNumber;
use std::fmt;
use std::ops::BitOr;

/// The largest shift that a window scale option may ask for (RFC 7323, section 2.3).
pub const MAX_WINDOW_SCALE: u8 = 14;

/// A TCP header's length in bytes without options.
pub const MIN_HEADER_LEN: usize = 20;

/// A set of TCP control bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No bit.
    pub const NONE: Self = Self(0);
    /// The sender has finished.
    pub const FIN: Self = Self(0x01);
    /// Sequence numbers begin here.
    pub const SYN: Self = Self(0x02);
    /// The connection is to be dropped.
    pub const RST: Self = Self(0x04);
    /// The receiver should hand on what it has.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number is valid.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is valid.
    pub const URG: Self = Self(0x20);
    /// Congestion experienced (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These bits but those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether no bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for TcpFlags {
    type Output = Self;
    fn bitor(self, rhs: Self) -> Self {
        self.with(rhs)
    }
}

impl fmt::Debug for TcpFlags {
    /// The letters that tcpdump uses, `.` for ACK.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [
            (Self::SYN, 'S'),
            (Self::FIN, 'F'),
            (Self::RST, 'R'),
            (Self::PSH, 'P'),
            (Self::URG, 'U'),
            (Self::ECE, 'E'),
            (Self::CWR, 'W'),
            (Self::ACK, '.'),
        ];
        f.write_str("[")?;
        for (flag, letter) in letters {
            if self.contains(flag) {
                write!(f, "{letter}")?;
            }
        }
        f.write_str("]")
    }
}

/// The timestamps option (RFC 7323, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the other side's clock as last heard.
    pub echo: u32,
}

/// Up to four blocks of a selective acknowledgement (RFC 2018, section 3), each from its first number to the one past its last.
#[derive(Clone, Copy, Default)]
pub struct SackBlocks {
    blocks: [(SeqNumber, SeqNumber); Self::MAX],
    len: u8,
}

impl SackBlocks {
    /// More don't fit into the options (RFC 2018, section 3).
    pub const MAX: usize = 4;

    /// No block.
    pub const fn new() -> Self {
        Self { blocks: [(SeqNumber(0), SeqNumber(0)); Self::MAX], len: 0 }
    }

    /// Adds a block; one beyond [`Self::MAX`] is left out, as a sender leaves out what does not fit.
    pub fn push(&mut self, start: SeqNumber, end: SeqNumber) {
        if let Some(block) = self.blocks.get_mut(usize::from(self.len)) {
            *block = (start, end);
            self.len += 1;
        }
    }

    /// The blocks, most recent first.
    pub fn as_slice(&self) -> &[(SeqNumber, SeqNumber)] {
        &self.blocks[..usize::from(self.len)]
    }

    /// Number of blocks.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no block.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl PartialEq for SackBlocks {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for SackBlocks {}

impl fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// What a segment says about TCP Fast Open (RFC 7413, section 4.1.1). The cookie itself is of use to the online server alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FastOpen {
    /// Nothing.
    #[default]
    None,
    /// The client asks for a cookie.
    Request,
    /// A cookie; data in the SYN is then real data.
    Cookie,
}

/// The options of a segment that mean something to the replayer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TcpOptions {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale: a shift, at most [`MAX_WINDOW_SCALE`].
    pub window_scale: Option<u8>,
    /// Whether selective acknowledgements are welcome.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// Selective acknowledgements.
    pub sack: SackBlocks,
    /// Fast open. Read only: [`super::packet::write()`] leaves it out.
    pub fast_open: FastOpen,
}

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
const FAST_OPEN: u8 = 34;
const EXPERIMENT: u8 = 254;
/// Experiment identifier of Fast Open before it had a number of its own (RFC 7413, appendix A).
const FAST_OPEN_EXPERIMENT: [u8; 2] = [0xf9, 0x89];

impl TcpOptions {
    /// Longest options that a header has room for, in bytes.
    pub const MAX_LEN: usize = 40;

    /// Reads the options between a TCP header's fixed part and its end.
    ///
    /// An option that is unknown, or whose length is not the one its kind has, is skipped as a receiver would.
    ///
    /// # Errors
    /// [`TcpError::OptionLength`] for a length below 2 or beyond the header's end.
    pub fn parse(bytes: &[u8]) -> Result<Self, TcpError> {
        let mut options = Self::default();
        // What nearly every segment of an established connection carries.
        if let [NOP, NOP, TIMESTAMPS, 10, rest @ ..] = bytes
            && let Some(both) = rest.first_chunk::<8>()
            && rest.len() == 8
        {
            let [a, b, c, d, e, f, g, h] = *both;
            options.timestamps = Some(Timestamps {
                value: u32::from_be_bytes([a, b, c, d]),
                echo: u32::from_be_bytes([e, f, g, h]),
            });
            return Ok(options);
        }
        let mut rest = bytes;
        while let [kind, behind @ ..] = rest {
            match *kind {
                END => break,
                NOP => rest = behind,
                kind => {
                    let len = usize::from(*behind.first().ok_or(TcpError::OptionLength { kind })?);
                    let value = rest.get(2..len).ok_or(TcpError::OptionLength { kind })?;
                    options.read(kind, value);
                    rest = &rest[len..];
                }
            }
        }
        Ok(options)
    }

    fn read(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            (MSS, [high, low]) => self.mss = Some(u16::from_be_bytes([*high, *low])),
            (WINDOW_SCALE, [shift]) => self.window_scale = Some((*shift).min(MAX_WINDOW_SCALE)),
            (SACK_PERMITTED, []) => self.sack_permitted = true,
            (TIMESTAMPS, value) if value.len() == 8 => {
                if let (Some(value), Some(echo)) = (u32_at(value, 0), u32_at(value, 4)) {
                    self.timestamps = Some(Timestamps { value, echo });
                }
            }
            (SACK, value) if value.len() % 8 == 0 => {
                self.sack = SackBlocks::new();
                for [a, b, c, d, e, f, g, h] in value.as_chunks::<8>().0 {
                    let start = SeqNumber(u32::from_be_bytes([*a, *b, *c, *d]));
                    self.sack.push(start, SeqNumber(u32::from_be_bytes([*e, *f, *g, *h])));
                }
            }
            (FAST_OPEN, value) => self.read_fast_open(value),
            (EXPERIMENT, value) => {
                if let Some(cookie) = value.strip_prefix(&FAST_OPEN_EXPERIMENT) {
                    self.read_fast_open(cookie);
                }
            }
            _ => {}
        }
    }

    fn read_fast_open(&mut self, cookie: &[u8]) {
        match cookie.len() {
            0 => self.fast_open = FastOpen::Request,
            4..=16 if cookie.len().is_multiple_of(2) => self.fast_open = FastOpen::Cookie,
            _ => {}
        }
    }

    /// Puts the options into `room` in the order and with the padding that Linux uses, and returns how many bytes they take (a
    /// multiple of 4). Blocks of [`Self::sack`] that do not fit are left out, so the rest always fits.
    pub(super) fn write(&self, room: &mut [u8; Self::MAX_LEN]) -> usize {
        let mut len = 0;
        let mut put = |bytes: &[u8]| {
            room[len..len + bytes.len()].copy_from_slice(bytes);
            len += bytes.len();
        };
        if let Some(mss) = self.mss {
            put(&[MSS, 4]);
            put(&mss.to_be_bytes());
        }
        match (self.timestamps, self.sack_permitted) {
            (Some(timestamps), sack_permitted) => {
                put(if sack_permitted { &[SACK_PERMITTED, 2] } else { &[NOP, NOP] });
                put(&[TIMESTAMPS, 10]);
                put(&timestamps.value.to_be_bytes());
                put(&timestamps.echo.to_be_bytes());
            }
            (None, true) => put(&[NOP, NOP, SACK_PERMITTED, 2]),
            (None, false) => {}
        }
        if let Some(shift) = self.window_scale {
            put(&[NOP, WINDOW_SCALE, 3, shift.min(MAX_WINDOW_SCALE)]);
        }
        let blocks = &self.sack.as_slice()[..self.sack_blocks_that_fit()];
        if !blocks.is_empty() {
            put(&[NOP, NOP, SACK, 2 + 8 * blocks.len() as u8]);
            for (start, end) in blocks {
                put(&start.0.to_be_bytes());
                put(&end.0.to_be_bytes());
            }
        }
        len
    }

    /// How many bytes these options take in a header that [`super::packet::write()`] makes: a multiple of 4, at most
    /// [`Self::MAX_LEN`].
    pub fn written_len(&self) -> usize {
        match self.sack_blocks_that_fit() {
            0 => self.len_without_sack(),
            blocks => self.len_without_sack() + 4 + 8 * blocks,
        }
    }

    fn len_without_sack(&self) -> usize {
        let timestamps_and_sack_permitted = match (self.timestamps, self.sack_permitted) {
            (Some(_), _) => 12,
            (None, true) => 4,
            (None, false) => 0,
        };
        let of = |present: bool| if present { 4 } else { 0 };
        of(self.mss.is_some()) + timestamps_and_sack_permitted + of(self.window_scale.is_some())
    }

    fn sack_blocks_that_fit(&self) -> usize {
        self.sack.len().min((Self::MAX_LEN - self.len_without_sack()).saturating_sub(4) / 8)
    }
}

/// One TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct TcpSegment<'a> {
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// Sequence number of the first byte of the payload, or of the SYN before it.
    pub seq: SeqNumber,
    /// Acknowledgement number; means something only with [`TcpFlags::ACK`].
    pub ack: SeqNumber,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window as in the header, not scaled.
    pub window: u16,
    /// Urgent pointer; means something only with [`TcpFlags::URG`].
    pub urgent: u16,
    /// Options.
    pub options: TcpOptions,
    /// The captured payload.
    pub payload: &'a [u8],
    /// Length of the payload on the wire; more than `payload.len()` when the capture cut the packet.
    pub payload_len: usize,
}

/// Why bytes are no TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TcpError {
    /// The captured bytes end within the header.
    #[error("the captured bytes end within the TCP header")]
    Truncated,
    /// The data offset is below 20 bytes or beyond the segment's end.
    #[error("the TCP header length is {header_len} in a segment of {segment_len} bytes")]
    HeaderLength {
        /// What the header claims, in bytes.
        header_len: usize,
        /// The segment's length on the wire.
        segment_len: usize,
    },
    /// An option's length is below 2 or reaches beyond the header.
    #[error("TCP option {kind} has a length below 2 or beyond the header's end")]
    OptionLength {
        /// The option's kind.
        kind: u8,
    },
}

impl<'a> TcpSegment<'a> {
    /// Reads the segment that is the payload of an IP packet: `payload` as captured, `payload_len` bytes long on the wire.
    ///
    /// # Errors
    /// [`TcpError`] when the header is cut or not what it claims to be. A cut payload is no error.
    pub fn parse(payload: &'a [u8], payload_len: usize) -> Result<Self, TcpError> {
        let segment_len = payload_len.max(payload.len());
        let header = payload.first_chunk::<MIN_HEADER_LEN>().ok_or(TcpError::Truncated)?;
        let header_len = usize::from(header[12] >> 4) * 4;
        if header_len < MIN_HEADER_LEN || header_len > segment_len {
            return Err(TcpError::HeaderLength { header_len, segment_len });
        }
        let options = payload.get(MIN_HEADER_LEN..header_len).ok_or(TcpError::Truncated)?;
        Ok(Self {
            source_port: u16::from_be_bytes([header[0], header[1]]),
            destination_port: u16::from_be_bytes([header[2], header[3]]),
            seq: SeqNumber(u32::from_be_bytes([header[4], header[5], header[6], header[7]])),
            ack: SeqNumber(u32::from_be_bytes([header[8], header[9], header[10], header[11]])),
            flags: TcpFlags(header[13]),
            window: u16::from_be_bytes([header[14], header[15]]),
            urgent: u16::from_be_bytes([header[18], header[19]]),
            options: TcpOptions::parse(options)?,
            payload: &payload[header_len..],
            payload_len: segment_len - header_len,
        })
    }
}
