//! Messages of the handshake.
//!
//! Owns their encoding. In which order they come and what they prove is [`super::handshake`].

use super::frame::{DecodeError, Frame, Kind, Reader, write_frame};

const MAGIC: [u8; 8] = *b"TCPCOPY2";

/// Longest text among the facts, in bytes.
const MAX_TEXT: usize = 128;

/// How the two sides prove to know the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ProofMethod {
    /// Not at all: the sender has no token.
    None = 0,
    /// HMAC-SHA256 over the frames of the handshake.
    HmacSha256 = 1,
}

impl ProofMethod {
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(Self::None),
            1 => Ok(Self::HmacSha256),
            _ => Err(reader.invalid("proof method")),
        }
    }
}

/// Who a relay connection belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerId {
    /// Random number of the `tcpcopy` process.
    pub instance: [u8; 16],
    /// Worker of that process. Connections of one (instance, worker) share their routes.
    pub worker: u16,
    /// Number of the connection among those of the worker.
    pub connection: u16,
}

impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in &self.instance[..4] {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "/{}/{}", self.worker, self.connection)
    }
}

/// The first message of tcpcopy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// Lowest version of the protocol that it speaks.
    pub version_min: u16,
    /// Highest version that it speaks.
    pub version_max: u16,
    /// What it can do.
    pub capabilities: u32,
    /// How it will prove the token.
    pub method: ProofMethod,
    /// Who it is.
    pub peer: PeerId,
    /// Random bytes, never used twice.
    pub nonce: [u8; 32],
}

impl ClientHello {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_frame(out, Kind::ClientHello, |out| {
            out.extend_from_slice(&MAGIC);
            out.extend_from_slice(&self.version_min.to_be_bytes());
            out.extend_from_slice(&self.version_max.to_be_bytes());
            out.extend_from_slice(&self.capabilities.to_be_bytes());
            out.push(self.method as u8);
            out.extend_from_slice(&self.peer.instance);
            out.extend_from_slice(&self.peer.worker.to_be_bytes());
            out.extend_from_slice(&self.peer.connection.to_be_bytes());
            out.extend_from_slice(&self.nonce);
        });
    }

    /// Reads the payload. Bytes of later versions behind the known ones are left alone.
    ///
    /// # Errors
    /// When it is not such a message.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        let mut reader = frame.reader();
        take_magic(&mut reader)?;
        Ok(Self {
            version_min: reader.u16()?,
            version_max: reader.u16()?,
            capabilities: reader.u32()?,
            method: ProofMethod::take(&mut reader)?,
            peer: PeerId { instance: reader.array()?, worker: reader.u16()?, connection: reader.u16()? },
            nonce: reader.array()?,
        })
    }
}

/// The first message of intercept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The version that both will speak.
    pub version: u16,
    /// What both can do.
    pub capabilities: u32,
    /// How both will prove the token.
    pub method: ProofMethod,
    /// Random bytes, never used twice.
    pub nonce: [u8; 32],
}

impl ServerHello {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_frame(out, Kind::ServerHello, |out| {
            out.extend_from_slice(&MAGIC);
            out.extend_from_slice(&self.version.to_be_bytes());
            out.extend_from_slice(&self.capabilities.to_be_bytes());
            out.push(self.method as u8);
            out.extend_from_slice(&self.nonce);
        });
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// When it is not such a message.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        let mut reader = frame.reader();
        take_magic(&mut reader)?;
        let hello = Self {
            version: reader.u16()?,
            capabilities: reader.u32()?,
            method: ProofMethod::take(&mut reader)?,
            nonce: reader.array()?,
        };
        reader.finish()?;
        Ok(hello)
    }
}

fn take_magic(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    if reader.array::<8>()? == MAGIC { Ok(()) } else { Err(reader.invalid("magic")) }
}

/// Whether the assistant's kernel forwards packets, which makes it send the target's replies on to the real clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Forwarding {
    /// Not found out.
    #[default]
    Unknown = 0,
    /// It drops them, as it should.
    Off = 1,
    /// It forwards them.
    On = 2,
}

impl Forwarding {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            1 => Self::Off,
            2 => Self::On,
            _ => Self::Unknown,
        }
    }
}

/// What `intercept` tells about the host that it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssistantFacts {
    /// State of `net.ipv4.ip_forward`.
    pub forwards_v4: Forwarding,
    /// State of `net.ipv6.conf.all.forwarding`.
    pub forwards_v6: Forwarding,
    /// Names of the interfaces that it captures on, separated by commas.
    pub interfaces: String,
    /// Its version.
    pub version: String,
}

impl AssistantFacts {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.forwards_v4 as u8 | (self.forwards_v6 as u8) << 2);
        for text in [&self.interfaces, &self.version] {
            let text = &text[..text.floor_char_boundary(MAX_TEXT)];
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
    }

    /// Reads the facts. Text ends up in terminals and logs, so that control characters are replaced.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = reader.u8()?;
        let mut text = || {
            let length = reader.u8()?;
            let bytes = reader.bytes(usize::from(length))?;
            Ok(String::from_utf8_lossy(bytes)
                .chars()
                .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
                .collect())
        };
        Ok(Self {
            forwards_v4: Forwarding::from_bits(flags),
            forwards_v6: Forwarding::from_bits(flags >> 2),
            interfaces: text()?,
            version: text()?,
        })
    }
}

/// Why a side closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No version of the protocol is common to both.
    #[error(
        "it speaks version {highest} of the relay protocol at most; tcpcopy and intercept must be of one release"
    )]
    Version {
        /// Highest version that the refusing side speaks.
        highest: u16,
    },
    /// `intercept` has a token and `tcpcopy` has none.
    #[error("it requires a token")]
    TokenRequired,
    /// The proof does not fit: the tokens differ.
    #[error("the token is wrong")]
    WrongProof,
    /// `tcpcopy` has a token and `intercept` has none, so that it can't show who it is.
    #[error("it has a token, and its peer has none to prove itself with")]
    PeerWithoutToken,
    /// Too many connections are open.
    #[error("it has too many connections")]
    TooManyConnections,
    /// `intercept --single` already serves another tcpcopy.
    #[error("it runs with --single and serves another tcpcopy")]
    SingleTaken,
    /// The handshake took too long.
    #[error("the handshake took too long")]
    TimedOut,
    /// What was sent is not the relay protocol.
    #[error("it got a message that it does not understand")]
    Malformed,
    /// A reason of a later version.
    #[error("reason {0}")]
    Other(u8),
}

impl Refusal {
    const fn wire(self) -> (u8, u16) {
        match self {
            Self::Version { highest } => (1, highest),
            Self::TokenRequired => (2, 0),
            Self::WrongProof => (3, 0),
            Self::PeerWithoutToken => (4, 0),
            Self::TooManyConnections => (5, 0),
            Self::SingleTaken => (6, 0),
            Self::TimedOut => (7, 0),
            Self::Malformed => (8, 0),
            Self::Other(reason) => (reason, 0),
        }
    }

    /// Appends the message.
    pub fn encode(self, out: &mut Vec<u8>) {
        let (reason, detail) = self.wire();
        write_frame(out, Kind::Refused, |out| {
            out.push(reason);
            out.extend_from_slice(&detail.to_be_bytes());
        });
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// When it is too short.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        let mut reader = frame.reader();
        let (reason, detail) = (reader.u8()?, reader.u16()?);
        Ok(match reason {
            1 => Self::Version { highest: detail },
            2 => Self::TokenRequired,
            3 => Self::WrongProof,
            4 => Self::PeerWithoutToken,
            5 => Self::TooManyConnections,
            6 => Self::SingleTaken,
            7 => Self::TimedOut,
            8 => Self::Malformed,
            other => Self::Other(other),
        })
    }
}
