//! The requests that simulated clients send and simulated servers understand.
//!
//! A request says how long it is and how long an answer it wants, so that a server needs no more than its header. Every byte
//! of it depends on the client and the number of the request: bytes from elsewhere can't pass for it.

use crate::rng::Rng;

/// Bytes of a request's header; no request is shorter.
pub const HEADER_LEN: usize = 16;
const MAGIC: u8 = 0xc7;

/// What a request's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of the request in its client's stream, from 0 on.
    pub number: u32,
    /// Which client.
    pub client: u32,
    /// Length in bytes, header included.
    pub len: u32,
    /// Bytes wanted for an answer.
    pub response: u32,
}

impl Header {
    /// Reads the header that `bytes` starts with; `None` when it is none, or not all there.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        let at = |i: usize| u32::from_be_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
        let parsed = Self { number: at(0) & 0x00ff_ffff, client: at(4), len: at(8), response: at(12) };
        (header[0] == MAGIC && parsed.len as usize >= HEADER_LEN).then_some(parsed)
    }

    /// Appends the whole request.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend((u32::from(MAGIC) << 24 | self.number).to_be_bytes());
        for field in [self.client, self.len, self.response] {
            out.extend(field.to_be_bytes());
        }
        let mut bytes = Rng::new(u64::from(self.client) << 32 | u64::from(self.number));
        while out.len() < start + self.len as usize {
            out.extend(bytes.any().to_ne_bytes());
        }
        out.truncate(start + self.len as usize);
    }
}
