//! Capture files: reading them as one stream of frames in time order, and writing them.
//!
//! This crate owns the formats (pcap and pcapng, plain, gzip or zstd), the order of frames from several files, what to do about
//! files that are cut or damaged, and files that are written one after another. It leaves to others what a frame means: a
//! [`Frame`] is bytes, their link type and a time, as a live capture would give them.
//!
//! Frames are borrowed from the buffer they were read into: nothing is copied or allocated for each. Memory is bounded whatever
//! a file says: no record is larger than [`MAX_RECORD`], and of any number of files only those are open whose time has come.
#![forbid(unsafe_code)]

mod captures;
mod codec;
mod error;
mod flaw;
mod input;
mod interface;
mod pcap;
mod pcapng;
mod reader;
mod rotate;
mod stream;
mod writer;

pub use captures::{Captures, SourceFacts, Step};
pub use error::{OpenError, ReadError};
pub use flaw::{Damage, Flaw, FlawKind};
pub use input::{AtEnd, Input, Position};
pub use reader::FileFormat;
pub use rotate::{RecordError, RotateOptions, RotatingWriter, by_name};
pub use tcpcopy_engine::wire::link::LinkType;
pub use writer::{CaptureWriter, Format, WriteError};

/// Longest captured part of one frame, in bytes; what claims to be longer is damage.
pub const MAX_RECORD: usize = 16 << 20;

/// One frame of a capture file; bytes borrowed from the reader.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The captured bytes, from the link header on.
    pub data: &'a [u8],
    /// Length on the wire, in bytes; at least `data.len()`.
    pub wire_len: usize,
    /// What `data` begins with.
    pub link_type: LinkType,
    /// When the frame was captured, in nanoseconds of the Unix epoch.
    pub captured_at_nanos: u64,
}

/// How a capture file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// It is not.
    #[default]
    None,
    /// gzip (RFC 1952), of one or several members.
    Gzip,
    /// Zstandard (RFC 8878), of one or several frames.
    Zstd,
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}
