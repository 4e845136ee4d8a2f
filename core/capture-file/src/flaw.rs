//! What is wrong with a file, and where.

use std::fmt;

/// Flaws kept in full; what goes beyond is only counted.
const KEPT: usize = 100;

/// What is wrong with a file and where; reading goes on behind it where it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The file, as it was named.
    pub input: String,
    /// Where it begins, in bytes of the uncompressed capture.
    pub offset: u64,
    /// Bytes of the uncompressed capture left out because of it, as far as they are known.
    pub skipped: u64,
    /// What it is.
    pub kind: FlawKind,
}

/// Kinds of flaws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlawKind {
    /// The file ends within a record, or within its compressed data.
    Truncated,
    /// Bytes that can't be what they should be.
    Damaged(Damage),
    /// Frames of a link type (its `LINKTYPE_` number) that is not known here. One flaw stands for all frames of an interface.
    UnsupportedLinkType(u16),
}

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Damage {
    /// A record's header has impossible lengths, or what follows the record shows that it has wrong ones.
    RecordHeader,
    /// A record's time is far from those before and after it; the one before is used.
    RecordTime,
    /// A pcapng block's two lengths are impossible or differ.
    BlockLength,
    /// The contents of a pcapng block don't fit into it.
    BlockContents,
    /// A pcapng packet names an interface that was not described.
    Interface,
    /// More interfaces in a pcapng section than are remembered.
    TooManyInterfaces,
    /// The compressed data can't be decompressed further.
    Compressed,
    /// The checksum of decompressed data is wrong; the data was delivered nevertheless.
    Checksum,
    /// Bytes behind the compressed data that are no compressed data.
    TrailingBytes,
}

impl fmt::Display for FlawKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the file ends within a record"),
            Self::Damaged(damage) => damage.fmt(f),
            Self::UnsupportedLinkType(number) => {
                write!(f, "frames of link type {number} can't be read and were left out")
            }
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RecordHeader => "a record's lengths are wrong",
            Self::RecordTime => "a record's time is far from those around it; the time before it is used",
            Self::BlockLength => "a block's lengths are wrong",
            Self::BlockContents => "the contents of a block don't fit into it",
            Self::Interface => "a packet names an interface that the file does not describe",
            Self::TooManyInterfaces => "the file describes more interfaces than are remembered",
            Self::Compressed => "the compressed data is damaged; nothing behind it can be read",
            Self::Checksum => "the checksum of the compressed data is wrong",
            Self::TrailingBytes => "other bytes follow the compressed data",
        })
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: at byte {}: {}", self.input, self.offset, self.kind)?;
        match self.skipped {
            0 => Ok(()),
            1 => f.write_str("; 1 byte was skipped"),
            n => write!(f, "; {n} bytes were skipped"),
        }
    }
}

/// Where flaws of all files are gathered.
#[derive(Debug, Default)]
pub(crate) struct Flaws {
    list: Vec<Flaw>,
    count: u64,
    muted: bool,
}

/// A flaw that may grow; `None` when it was not kept.
pub(crate) type FlawHandle = Option<usize>;

impl Flaws {
    /// One that forgets what it is told, for reading what was or will be read in full.
    pub(crate) fn muted() -> Self {
        Self { muted: true, ..Self::default() }
    }

    /// Forgets what comes from now on.
    pub(crate) fn mute(&mut self) {
        self.muted = true;
    }

    pub(crate) fn push(&mut self, input: &str, offset: u64, skipped: u64, kind: FlawKind) -> FlawHandle {
        if self.muted {
            return None;
        }
        self.count += 1;
        if self.list.len() >= KEPT {
            return None;
        }
        self.list.push(Flaw { input: input.to_owned(), offset, skipped, kind });
        Some(self.list.len() - 1)
    }

    /// More bytes were left out for the same reason.
    pub(crate) fn grow(&mut self, handle: FlawHandle, bytes: u64) {
        if let Some(flaw) = handle.filter(|_| !self.muted).and_then(|at| self.list.get_mut(at)) {
            flaw.skipped += bytes;
        }
    }

    pub(crate) fn list(&self) -> &[Flaw] {
        &self.list
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }
}
