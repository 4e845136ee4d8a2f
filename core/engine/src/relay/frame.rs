//! Frames: the header of every message, and the buffer that they are read from.
//!
//! Owns where a frame starts and ends and how long it may be. What its payload means is the business of
//! [`super::hello`] and [`super::message`].

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 4;

/// Longest payload of a handshake frame. A peer that has not proved itself can't make us hold more than this.
pub const MAX_HANDSHAKE_PAYLOAD: usize = 512;

/// Longest packet that a reply carries; a longer one (BIG TCP) is cut, which its wire length shows.
pub const MAX_REPLY_PACKET: usize = 96 * 1024;

/// Longest payload of any frame after the handshake.
pub const MAX_PAYLOAD: usize = MAX_REPLY_PACKET + 64;

/// What a frame is about; the numbers are those on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// First frame of tcpcopy.
    ClientHello = 0x01,
    /// First frame of intercept.
    ServerHello = 0x02,
    /// Tcpcopy's proof of the token.
    ClientProof = 0x03,
    /// Intercept's proof and its facts; the handshake is over.
    Welcome = 0x04,
    /// The sender closes the connection, and why.
    Refused = 0x05,
    /// Replies of a flow are wanted.
    RouteAdd = 0x10,
    /// Replies of a flow are no longer wanted.
    RouteRemove = 0x11,
    /// Asks for a [`Kind::Pong`].
    Ping = 0x12,
    /// A packet of a target.
    Reply = 0x20,
    /// A route was not added.
    RouteRefused = 0x21,
    /// Answer to a ping.
    Pong = 0x22,
    /// Intercept's counters.
    Stats = 0x23,
}

impl Kind {
    /// The kind with that number on the wire.
    pub const fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            0x01 => Self::ClientHello,
            0x02 => Self::ServerHello,
            0x03 => Self::ClientProof,
            0x04 => Self::Welcome,
            0x05 => Self::Refused,
            0x10 => Self::RouteAdd,
            0x11 => Self::RouteRemove,
            0x12 => Self::Ping,
            0x20 => Self::Reply,
            0x21 => Self::RouteRefused,
            0x22 => Self::Pong,
            0x23 => Self::Stats,
            _ => return None,
        })
    }
}

/// Why bytes are not a frame, or a frame not a message. The connection they came on is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No frame of this protocol starts so.
    #[error("unknown message kind {0:#04x}: the peer does not speak the relay protocol")]
    UnknownKind(u8),
    /// The length is above what is allowed here.
    #[error("message {kind:?} of {length} bytes, at most {limit} are allowed")]
    TooLong {
        /// What the frame says it is.
        kind: Kind,
        /// What it says its length is.
        length: usize,
        /// What it may be.
        limit: usize,
    },
    /// A known message at a place where it makes no sense.
    #[error("message {0:?} is not expected here")]
    Unexpected(Kind),
    /// The payload ends early or goes on too long.
    #[error("message {0:?} has a wrong length")]
    WrongLength(Kind),
    /// A field has a value that it can't have.
    #[error("message {kind:?}: invalid {field}")]
    InvalidField {
        /// The message.
        kind: Kind,
        /// The field.
        field: &'static str,
    },
}

/// One frame, borrowed from the buffer that it was read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// Header and payload as on the wire.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Finds the frame at the start of `bytes`; `None` while it is not complete. The header is judged as soon as it is
    /// there, its first byte even before that.
    ///
    /// # Errors
    /// [`DecodeError::UnknownKind`], and [`DecodeError::TooLong`] when the payload is longer than `limit`.
    pub fn parse(bytes: &'a [u8], limit: usize) -> Result<Option<Self>, DecodeError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let kind = Kind::from_wire(first).ok_or(DecodeError::UnknownKind(first))?;
        let Some(&[_, high, middle, low]) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        if length > limit {
            return Err(DecodeError::TooLong { kind, length, limit });
        }
        Ok(bytes.get(..HEADER_LEN + length).map(|bytes| Self { kind, bytes }))
    }

    /// The payload.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// A reader of the payload.
    pub fn reader(&self) -> Reader<'a> {
        Reader { kind: self.kind, rest: self.payload() }
    }
}

/// Appends a frame whose payload `write` puts at the end of the buffer.
pub fn write_frame(out: &mut Vec<u8>, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[kind as u8, 0, 0, 0]);
    write(out);
    let length = (out.len() - start - HEADER_LEN) as u32;
    out[start + 1..start + HEADER_LEN].copy_from_slice(&length.to_be_bytes()[1..]);
}

/// Takes fields off a payload, one after another.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    kind: Kind,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::WrongLength`] when fewer are left; likewise below.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::WrongLength(self.kind))?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::WrongLength(self.kind))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next byte.
    ///
    /// # Errors
    /// When none is left.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// The next two bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// The next four bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// The next eight bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// When bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::WrongLength(self.kind)) }
    }

    /// The error for a field that has an impossible value.
    pub fn invalid(&self, field: &'static str) -> DecodeError {
        DecodeError::InvalidField { kind: self.kind, field }
    }
}

/// Bytes read from a connection and not yet decoded: frames are decoded in place, and what is left of the last one moves
/// to the front when room is needed.
#[derive(Debug, Default)]
pub struct ReceiveBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReceiveBuffer {
    /// Room for at least `at_least` more bytes, to be read into and then told by [`ReceiveBuffer::filled`].
    pub fn space(&mut self, at_least: usize) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        if self.bytes.len() - self.end < at_least {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.bytes.len() - self.end < at_least {
                self.bytes.resize(self.end + at_least, 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    /// Says that `count` bytes were put into [`ReceiveBuffer::space`].
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// The bytes not yet consumed.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Forgets the first `count` bytes of [`ReceiveBuffer::data`].
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Forgets everything and gives the memory back.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_is_judged_before_the_payload_is_there() {
        assert_eq!(Frame::parse(b"", 10), Ok(None));
        assert_eq!(Frame::parse(b"G", 10), Err(DecodeError::UnknownKind(b'G')));
        assert_eq!(Frame::parse(&[0x20, 0], 10), Ok(None));
        assert_eq!(
            Frame::parse(&[0x20, 0, 0, 11], 10),
            Err(DecodeError::TooLong { kind: Kind::Reply, length: 11, limit: 10 })
        );
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
            chunk in 1usize..50,
        ) {
            let mut wire = Vec::new();
            for payload in &payloads {
                write_frame(&mut wire, Kind::Reply, |out| out.extend_from_slice(payload));
            }
            let mut buffer = ReceiveBuffer::default();
            let mut found = Vec::new();
            for part in wire.chunks(chunk) {
                buffer.space(part.len())[..part.len()].copy_from_slice(part);
                buffer.filled(part.len());
                while let Some(frame) = Frame::parse(buffer.data(), 300).unwrap() {
                    found.push(frame.payload().to_vec());
                    let length = frame.bytes.len();
                    buffer.consume(length);
                }
            }
            prop_assert_eq!(found, payloads);
            prop_assert!(buffer.data().is_empty());
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Frame::parse(&bytes, MAX_HANDSHAKE_PAYLOAD);
        }
    }
}
