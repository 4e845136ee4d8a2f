//! What keeps captures from being opened or read, and what to do about it.

use std::io;

/// Why a capture was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file could not be opened.
    #[error("{file}: can't be opened")]
    Open {
        /// The file.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its beginning could not be read.
    #[error("{file}: can't be read")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("{file}: the file is empty")]
    Empty {
        /// The file.
        file: String,
    },
    /// It does not begin as captures do.
    #[error("{file}: not a capture file{}", .looks_like.map(|what| format!(", but {what}")).unwrap_or_default())]
    NotACapture {
        /// The file.
        file: String,
        /// What it seems to be, if that can be told.
        looks_like: Option<&'static str>,
    },
    /// It ends, or can't be decompressed further, before its header is complete.
    #[error("{file}: the file ends within its header")]
    HeaderCut {
        /// The file.
        file: String,
    },
    /// All its frames are of a link type that is not known here.
    #[error("{file}: frames of link type {number} can't be read")]
    LinkType {
        /// The file.
        file: String,
        /// Its `LINKTYPE_` number.
        number: u16,
    },
    /// Standard input is named twice.
    #[error("standard input (-) is named twice")]
    StdinTwice,
    /// A pipe can't be read from its beginning again.
    #[error("{file}: a pipe can't be read twice")]
    NotRewindable {
        /// The pipe.
        file: String,
    },
    /// No input was named.
    #[error("no capture file is named")]
    NoInput,
}

impl OpenError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Open { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => "look at the file's name and folder",
                io::ErrorKind::PermissionDenied => "run as a user who may read the file",
                _ => "look at the file and at the limit of open files (ulimit -n)",
            },
            Self::Read { .. } => "look at the file and at the disk that it is on",
            Self::Empty { .. } => {
                "what records writes its header with the first packets; record again, or use --follow"
            }
            Self::NotACapture { looks_like: Some(_), .. } => {
                "convert it to pcap or pcapng first (editcap), or decompress it into a pipe: xz -dc FILE | … -"
            }
            Self::NotACapture { looks_like: None, .. } => {
                "captures are pcap or pcapng, as tcpdump -w writes them, plain or compressed with gzip or zstd"
            }
            Self::HeaderCut { .. } => "nothing of it can be used; record or copy it again",
            Self::LinkType { .. } => {
                "record on an Ethernet, loopback or tunnel interface, on `any`, or through nflog"
            }
            Self::StdinTwice => "name it once",
            Self::NotRewindable { .. } => "write the capture to a file to play it more than once",
            Self::NoInput => "name a capture file, or - for standard input",
        }
    }
}

/// Why reading failed. The file is given up; further calls go on with the others.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The system failed to read.
    #[error("{file}: can't be read further than byte {offset}")]
    Read {
        /// The file.
        file: String,
        /// How far it was read, in bytes of the uncompressed capture.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file whose time had come could not be opened (again), or what has been written to it by now is no capture.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl ReadError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "look at the file and at the disk or connection that it is on",
            Self::Open(error) => error.hint(),
        }
    }
}
