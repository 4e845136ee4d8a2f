//! Captures written to files, one after another.
//!
//! Owns names, compression, when a file is full, and how many are kept. A file is complete on disk when the next is begun; one that
//! was left by a crash reads up to where it was flushed.

use crate::writer::{CaptureWriter, Format, WriteError};
use crate::{Compression, Frame};
use flate2::write::GzEncoder;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes gathered before they are written to the disk.
const BUFFER: usize = 256 << 10;
/// Fast, and captures of text shrink to a fifth all the same.
const GZIP_LEVEL: u32 = 3;
const ZSTD_LEVEL: i32 = 3;

/// What files to write, and when to begin the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotateOptions {
    /// Name of the file. When `max_bytes` or `max_age` is set, files get a number before the extension: `web.pcap.gz` becomes
    /// `web-00001.pcap.gz`.
    pub path: PathBuf,
    /// Format of the files.
    pub format: Format,
    /// How they are compressed.
    pub compression: Compression,
    /// Snapshot length that the files name, in bytes; 0 for none.
    pub snap_len: u32,
    /// Begin the next file before one is longer than this, in bytes of uncompressed capture. A single larger frame still gets its
    /// file.
    pub max_bytes: Option<u64>,
    /// Begin the next file when a frame was captured so long after the file's first.
    pub max_age: Option<Duration>,
    /// Remove the oldest file when there would be more than this; at least 1.
    pub max_files: Option<usize>,
}

impl RotateOptions {
    /// One file, with the format and compression that its name says: `.pcap` or `.pcapng` (which is the default), then `.gz` or `.zst`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let (format, compression) = by_name(&path);
        Self { path, format, compression, snap_len: 0, max_bytes: None, max_age: None, max_files: None }
    }

    const fn is_rotating(&self) -> bool {
        self.max_bytes.is_some() || self.max_age.is_some()
    }

    /// Name of the file with this number.
    fn file(&self, number: u64) -> PathBuf {
        if !self.is_rotating() {
            return self.path.clone();
        }
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let (stem, extensions) = split_name(&name);
        self.path.with_file_name(format!("{stem}-{number:05}{extensions}"))
    }
}

/// Format and compression that a file's name says.
pub fn by_name(path: &Path) -> (Format, Compression) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let (rest, compression) = match name.rsplit_once('.') {
        Some((rest, "gz")) => (rest, Compression::Gzip),
        Some((rest, "zst")) => (rest, Compression::Zstd),
        _ => (&*name, Compression::None),
    };
    (if rest.ends_with(".pcap") { Format::Pcap } else { Format::Pcapng }, compression)
}

/// Parts a name before the extensions that [`by_name`] knows.
fn split_name(name: &str) -> (&str, &str) {
    let mut stem = name;
    for extensions in [&[".gz", ".zst"][..], &[".pcap", ".pcapng"]] {
        let lower = stem.to_ascii_lowercase();
        if let Some(extension) = extensions.iter().find(|extension| lower.ends_with(**extension)) {
            stem = &stem[..stem.len() - extension.len()];
        }
    }
    if stem.is_empty() { (name, "") } else { name.split_at(stem.len()) }
}

/// Why a recording stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A file could not be made.
    #[error("{}: can't be created", .path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A frame, or a file's end, could not be written.
    #[error("{}: can't be written", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: WriteError,
    },
    /// An old file could not be removed.
    #[error("{}: can't be removed", .path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl RecordError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Create { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "make the folder first"
            }
            Self::Create { .. } => "look at the folder, its permissions and the room on its disk",
            Self::Write { source, .. } => source.hint(),
            Self::Remove { .. } => "look at the folder's permissions",
        }
    }
}

/// Where a capture goes.
enum Sink {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::stream::write::Encoder<'static, BufWriter<File>>),
}

impl Sink {
    fn create(path: &Path, compression: Compression) -> io::Result<Self> {
        let file = BufWriter::with_capacity(BUFFER, File::create(path)?);
        Ok(match compression {
            Compression::None => Self::Plain(file),
            Compression::Gzip => Self::Gzip(GzEncoder::new(file, flate2::Compression::new(GZIP_LEVEL))),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(file, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(file) => Ok(file),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }?
        .flush()
    }
}

impl Write for Sink {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// A file that is being written.
struct Open {
    path: PathBuf,
    writer: CaptureWriter<Sink>,
    frames: u64,
    /// Time of its first frame.
    began_nanos: u64,
}

impl Open {
    fn failed(path: &Path) -> impl FnOnce(WriteError) -> RecordError {
        let path = path.to_owned();
        |source| RecordError::Write { path, source }
    }
}

/// Writes frames to files, one after another.
///
/// A writer that is dropped without [`Self::finish`] leaves the last file as it was last flushed, or a little longer.
pub struct RotatingWriter {
    options: RotateOptions,
    open: Open,
    /// Files that are complete and kept, the oldest first.
    complete: VecDeque<PathBuf>,
    next_number: u64,
}

impl RotatingWriter {
    /// Creates the first file.
    ///
    /// # Errors
    /// When it can't be.
    pub fn new(options: RotateOptions) -> Result<Self, RecordError> {
        let open = Self::create(&options, 1)?;
        Ok(Self { options, open, complete: VecDeque::new(), next_number: 2 })
    }

    fn create(options: &RotateOptions, number: u64) -> Result<Open, RecordError> {
        let path = options.file(number);
        let sink = Sink::create(&path, options.compression)
            .map_err(|source| RecordError::Create { path: path.clone(), source })?;
        let writer =
            CaptureWriter::new(sink, options.format, options.snap_len).map_err(Open::failed(&path))?;
        Ok(Open { path, writer, frames: 0, began_nanos: 0 })
    }

    /// The file that is being written.
    pub fn path(&self) -> &Path {
        &self.open.path
    }

    /// Files written so far, those that were removed included.
    pub const fn files(&self) -> u64 {
        self.next_number - 1
    }

    /// Writes a frame, to the next file if this one is full or old.
    ///
    /// # Errors
    /// When the frame can't be written, the next file not made, or an old one not removed. The frame is lost then.
    pub fn write(&mut self, frame: &Frame<'_>) -> Result<(), RecordError> {
        if self.is_full_for(frame) {
            self.rotate()?;
        }
        if self.open.frames == 0 {
            self.open.began_nanos = frame.captured_at_nanos;
        }
        self.open.writer.write(frame).map_err(Open::failed(&self.open.path))?;
        self.open.frames += 1;
        Ok(())
    }

    fn is_full_for(&self, frame: &Frame<'_>) -> bool {
        /// Headers of a record, of the two formats the longer; padding; and the first frame's interface.
        const AROUND: u64 = 32 + 3 + 32;
        let Open { writer, frames, began_nanos, .. } = &self.open;
        if *frames == 0 {
            return false;
        }
        let len = writer.bytes() + frame.data.len() as u64 + AROUND;
        let age = Duration::from_nanos(frame.captured_at_nanos.saturating_sub(*began_nanos));
        self.options.max_bytes.is_some_and(|max| len > max)
            || self.options.max_age.is_some_and(|max| age >= max)
    }

    /// Completes the file at hand and begins the next.
    fn rotate(&mut self) -> Result<(), RecordError> {
        let next = Self::create(&self.options, self.next_number)?;
        self.next_number += 1;
        let done = std::mem::replace(&mut self.open, next);
        let path = done.path.clone();
        complete(done)?;
        self.complete.push_back(path);
        let kept = self.options.max_files.map_or(usize::MAX, |max| max.saturating_sub(1));
        while self.complete.len() > kept {
            let Some(path) = self.complete.pop_front() else { break };
            std::fs::remove_file(&path).map_err(|source| RecordError::Remove { path, source })?;
        }
        Ok(())
    }

    /// Hands everything to the system, so that the file on disk can be read up to here.
    ///
    /// # Errors
    /// What writing failed with.
    pub fn flush(&mut self) -> Result<(), RecordError> {
        self.open.writer.flush().map_err(Open::failed(&self.open.path))
    }

    /// Completes the last file. Returns the files that are there now, the oldest first.
    ///
    /// # Errors
    /// What writing failed with.
    pub fn finish(self) -> Result<Vec<PathBuf>, RecordError> {
        let mut files = Vec::from(self.complete);
        files.push(self.open.path.clone());
        complete(self.open)?;
        Ok(files)
    }
}

fn complete(open: Open) -> Result<(), RecordError> {
    let Open { path, writer, .. } = open;
    let sink = writer.finish().map_err(Open::failed(&path))?;
    sink.finish().map_err(WriteError::from).map_err(Open::failed(&path))
}
