//! Decompression without input or output: bytes in, bytes out, and a word on what is wrong.
//!
//! Both decoders stop at exactly the byte that can't be right, so that everything before it is delivered.

use crate::flaw::{Damage, FlawKind};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use zstd::stream::raw::{InBuffer, Operation, OutBuffer};

/// Where a decoder is in its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Between members or frames: the input may end here.
    Between,
    /// Within one: an end here is a cut.
    Within,
}

/// What one call came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoded {
    /// Bytes taken from the input.
    pub(crate) consumed: usize,
    /// Bytes put into the output.
    pub(crate) produced: usize,
    /// What was found wrong behind those bytes.
    pub(crate) flaw: Option<FlawKind>,
}

impl Decoded {
    const NOTHING: Self = Self { consumed: 0, produced: 0, flaw: None };

    const fn consumed(consumed: usize) -> Self {
        Self { consumed, ..Self::NOTHING }
    }

    const fn damaged(damage: Damage) -> Self {
        Self { flaw: Some(FlawKind::Damaged(damage)), ..Self::NOTHING }
    }
}

/// A decoder of either format.
pub(crate) enum Decoder {
    Gzip(Box<Gzip>),
    Zstd(Box<Zstd>),
}

impl Decoder {
    /// Decompresses some of `input` into `output`. Nothing consumed and nothing produced means that more input is needed.
    pub(crate) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Decoded {
        match self {
            Self::Gzip(gzip) => gzip.decode(input, output),
            Self::Zstd(zstd) => zstd.decode(input, output),
        }
    }

    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Gzip(gzip) => match gzip.state {
                GzipState::Header | GzipState::Failed => Place::Between,
                GzipState::Body | GzipState::Trailer => Place::Within,
            },
            Self::Zstd(zstd) => zstd.place,
        }
    }

    /// Nothing more comes of a decoder that failed.
    pub(crate) fn has_failed(&self) -> bool {
        match self {
            Self::Gzip(gzip) => gzip.state == GzipState::Failed,
            Self::Zstd(zstd) => zstd.failed,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GzipState {
    Header,
    Body,
    Trailer,
    Failed,
}

/// gzip members, one after another (RFC 1952).
pub(crate) struct Gzip {
    state: GzipState,
    inflate: Decompress,
    sum: Crc,
    /// Members read to their end.
    members: u64,
}

impl Gzip {
    pub(crate) fn new() -> Self {
        Self { state: GzipState::Header, inflate: Decompress::new(false), sum: Crc::new(), members: 0 }
    }

    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Decoded {
        match self.state {
            GzipState::Header => self.header(input),
            GzipState::Body => self.body(input, output),
            GzipState::Trailer => self.trailer(input),
            GzipState::Failed => Decoded::NOTHING,
        }
    }

    fn header(&mut self, input: &[u8]) -> Decoded {
        if self.members > 0 {
            // Tapes and block devices pad with zeros.
            let zeros = input.iter().take_while(|byte| **byte == 0).count();
            if zeros > 0 {
                return Decoded::consumed(zeros);
            }
        }
        match gzip_header_len(input) {
            HeaderLen::Is(len) => {
                self.inflate.reset(false);
                self.sum.reset();
                self.state = GzipState::Body;
                Decoded::consumed(len)
            }
            HeaderLen::Unknown => Decoded::NOTHING,
            HeaderLen::NotGzip => {
                self.state = GzipState::Failed;
                let behind = if self.members > 0 { Damage::TrailingBytes } else { Damage::Compressed };
                Decoded::damaged(behind)
            }
        }
    }

    fn body(&mut self, input: &[u8], output: &mut [u8]) -> Decoded {
        let (consumed_before, produced_before) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(input, output, FlushDecompress::None);
        let consumed = (self.inflate.total_in() - consumed_before) as usize;
        let produced = (self.inflate.total_out() - produced_before) as usize;
        self.sum.update(output.get(..produced).unwrap_or_default());
        let mut decoded = Decoded { consumed, produced, flaw: None };
        match status {
            Ok(Status::Ok | Status::BufError) => {}
            Ok(Status::StreamEnd) => self.state = GzipState::Trailer,
            Err(_) => {
                self.state = GzipState::Failed;
                decoded.flaw = Some(FlawKind::Damaged(Damage::Compressed));
            }
        }
        decoded
    }

    fn trailer(&mut self, input: &[u8]) -> Decoded {
        let Some((trailer, _)) = input.split_first_chunk::<8>() else { return Decoded::NOTHING };
        let [a, b, c, d, e, f, g, h] = *trailer;
        let is_right = u32::from_le_bytes([a, b, c, d]) == self.sum.sum()
            && u32::from_le_bytes([e, f, g, h]) == self.sum.amount();
        self.state = GzipState::Header;
        self.members += 1;
        Decoded { consumed: 8, produced: 0, flaw: (!is_right).then_some(FlawKind::Damaged(Damage::Checksum)) }
    }
}

enum HeaderLen {
    Is(usize),
    /// The input ends within the header.
    Unknown,
    NotGzip,
}

/// Length of the member header that `input` begins with (RFC 1952, section 2.3).
fn gzip_header_len(input: &[u8]) -> HeaderLen {
    const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
    const HEADER_SUM: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const RESERVED: u8 = 0xe0;
    /// No name or comment is as long.
    const MAX_LEN: usize = 128 << 10;

    let seen = input.len().min(MAGIC.len());
    if input[..seen] != MAGIC[..seen] {
        return HeaderLen::NotGzip;
    }
    let Some(&flags) = input.get(3) else { return HeaderLen::Unknown };
    if flags & RESERVED != 0 {
        return HeaderLen::NotGzip;
    }
    let unknown = if input.len() > MAX_LEN { HeaderLen::NotGzip } else { HeaderLen::Unknown };
    let mut len = 10;
    if flags & EXTRA != 0 {
        let Some(&[low, high]) = input.get(len..).and_then(|rest| rest.first_chunk()) else { return unknown };
        len += 2 + usize::from(u16::from_le_bytes([low, high]));
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = input.get(len..).and_then(|rest| rest.iter().position(|byte| *byte == 0));
            let Some(end) = end else { return unknown };
            len += end + 1;
        }
    }
    if flags & HEADER_SUM != 0 {
        len += 2;
    }
    if input.len() < len { unknown } else { HeaderLen::Is(len) }
}

/// Zstandard frames, one after another (RFC 8878); skippable ones are skipped.
pub(crate) struct Zstd {
    decoder: zstd::stream::raw::Decoder<'static>,
    /// How many bytes the decoder is to be given next: one block. An error in one call loses what the call decoded, so that a call
    /// with more would lose whole blocks before the damage.
    wanted: usize,
    place: Place,
    failed: bool,
}

/// The least that tells how long a frame's header is.
const ZSTD_FIRST: usize = 5;

impl Zstd {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            decoder: zstd::stream::raw::Decoder::new()?,
            wanted: ZSTD_FIRST,
            place: Place::Between,
            failed: false,
        })
    }

    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Decoded {
        if self.failed || (self.place == Place::Between && input.is_empty()) {
            return Decoded::NOTHING;
        }
        let mut from = InBuffer::around(&input[..self.wanted.min(input.len())]);
        let mut into = OutBuffer::around(output);
        match self.decoder.run(&mut from, &mut into) {
            Ok(wanted) => {
                // At the end of a frame nothing is wanted.
                (self.place, self.wanted) =
                    if wanted == 0 { (Place::Between, ZSTD_FIRST) } else { (Place::Within, wanted) };
                Decoded { consumed: from.pos(), produced: into.pos(), flaw: None }
            }
            Err(_) => {
                self.failed = true;
                Decoded::damaged(Damage::Compressed)
            }
        }
    }
}
