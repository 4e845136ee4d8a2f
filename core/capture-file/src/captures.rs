//! Several captures as one stream of frames in time order.
//!
//! Owns which files are open, and whose frame is next. A file is opened for a moment when the captures are, to see what it is and
//! when it begins, and again when its time has come, so that any number of rotated files needs no more than one.

use crate::error::{OpenError, ReadError};
use crate::flaw::{Flaw, Flaws};
use crate::input::{AtEnd, Input, Position};
use crate::reader::{FileReader, Seen, Stand};
use crate::stream::{Kind, Stream};
use crate::{Compression, FileFormat, Frame, LinkType};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Frames delivered between two looks at files that had nothing more.
const LOOK_AGAIN: u32 = 1024;

/// What reading on came to.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// The next frame.
    Frame(Frame<'a>),
    /// Nothing more for now: no file that is followed has grown, or a signal interrupted the wait for a pipe.
    Idle,
    /// There is no more.
    End,
}

/// What is known of one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFacts {
    /// The input, as it was named.
    pub input: String,
    /// Its format; unknown while a file that is followed has no header yet.
    pub format: Option<FileFormat>,
    /// How it is compressed.
    pub compression: Compression,
    /// Link types of its interfaces, as far as they have been read.
    pub link_types: Vec<LinkType>,
    /// The largest snapshot length it names, in bytes; 0 when it names none.
    pub snap_len: u32,
    /// Frames delivered so far, since the beginning or [`Captures::rewind`].
    pub frames: u64,
    /// Time of the first frame, in nanoseconds of the Unix epoch.
    pub first_nanos: Option<u64>,
    /// Time of the last frame delivered, in nanoseconds of the Unix epoch.
    pub last_nanos: Option<u64>,
}

/// An input and what has been seen of it.
struct Source {
    name: String,
    /// `None` for what can be read only once.
    path: Option<std::path::PathBuf>,
    /// Length on disk, of a file that is complete.
    size: Option<u64>,
    /// What the first look showed, or what reading did once it is over.
    seen: Seen,
    bytes_done: u64,
}

/// A source that is being read.
struct Active {
    source: usize,
    reader: FileReader,
}

/// Whose frame comes next: the earliest; of several, that of the input named first.
type Turn = Reverse<(u64, usize, usize)>;

/// Several inputs as one stream in time order.
///
/// Frames of one file keep their order; a frame whose time is before that of the one delivered last gets the latter's time.
pub struct Captures {
    sources: Vec<Source>,
    at_end: AtEnd,
    /// Sources to be opened later, the earliest last, with the time of their first frames.
    waiting: Vec<(u64, usize)>,
    /// Places of readers; those of files that ended are free.
    active: Vec<Option<Active>>,
    ready: BinaryHeap<Turn>,
    /// Places of readers that have nothing more for now.
    idle: Vec<usize>,
    /// The place whose frame was delivered last: its reader goes on before anything else is compared.
    current: Option<usize>,
    /// Time of the last frame delivered.
    time: u64,
    since_look: u32,
    flaws: Flaws,
}

impl Captures {
    /// Opens `inputs`: reads the beginning of each, and refuses what is no capture.
    ///
    /// A file that is followed may be empty yet. Of a pipe, only its header is waited for.
    ///
    /// # Errors
    /// The first input that can't be read, with what to do about it ([`OpenError::hint`]).
    pub fn open(inputs: &[Input], at_end: AtEnd) -> Result<Self, OpenError> {
        if inputs.is_empty() {
            return Err(OpenError::NoInput);
        }
        if inputs.iter().filter(|input| **input == Input::Stdin).count() > 1 {
            return Err(OpenError::StdinTwice);
        }
        let mut captures = Self::empty(at_end);
        for input in inputs {
            captures.add(input)?;
        }
        captures.sort_waiting();
        Ok(captures)
    }

    /// Reads a capture from anything that can be read; `name` stands for it in messages.
    ///
    /// # Errors
    /// When its beginning is not that of a capture.
    pub fn from_reader(
        name: impl Into<String>,
        reader: Box<dyn Read + Send>,
        at_end: AtEnd,
    ) -> Result<Self, OpenError> {
        let mut captures = Self::empty(at_end);
        captures.add_once(name.into(), Stream::new(reader, Kind::Live(at_end)))?;
        Ok(captures)
    }

    /// Reads a capture in memory as if it were a file; `name` stands for it in messages.
    ///
    /// # Errors
    /// When its beginning is not that of a capture.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Result<Self, OpenError> {
        let mut captures = Self::empty(AtEnd::Stop);
        let stream = Stream::new(Box::new(io::Cursor::new(bytes)), Kind::Complete);
        captures.add_once(name.into(), stream)?;
        Ok(captures)
    }

    fn empty(at_end: AtEnd) -> Self {
        Self {
            sources: Vec::new(),
            at_end,
            waiting: Vec::new(),
            active: Vec::new(),
            ready: BinaryHeap::new(),
            idle: Vec::new(),
            current: None,
            time: 0,
            since_look: 0,
            flaws: Flaws::default(),
        }
    }

    fn add(&mut self, input: &Input) -> Result<(), OpenError> {
        let name = input.to_string();
        let path = match input {
            Input::Stdin => return self.add_pipe(name, Box::new(io::stdin())),
            Input::File(path) => path,
        };
        let (file, size) = open_file(path, &name)?;
        let Some(size) = size else { return self.add_pipe(name, Box::new(file)) };
        let mut first_look = FileReader::new(name.clone(), Stream::new(Box::new(file), self.kind()));
        let mut unheard = Flaws::muted();
        let mut first_time = 0;
        if first_look.recognise(&mut unheard)? {
            match first_look.advance(&mut unheard) {
                Ok(Stand::Frame(time)) => first_time = time,
                // Opened at once, so that what is wrong with it is noted, or what comes is seen.
                Ok(Stand::Idle | Stand::End) => {}
                Err(ReadError::Read { source, .. }) => return Err(OpenError::Read { file: name, source }),
                Err(ReadError::Open(error)) => return Err(error),
            }
        }
        let seen = Seen { frames: 0, last: None, ..first_look.seen() };
        self.waiting.push((first_time, self.sources.len()));
        self.sources.push(Source {
            name,
            path: Some(path.clone()),
            size: (self.at_end == AtEnd::Stop).then_some(size),
            seen,
            bytes_done: 0,
        });
        Ok(())
    }

    fn add_pipe(&mut self, name: String, pipe: Box<dyn Read + Send>) -> Result<(), OpenError> {
        // The end of a pipe is its end, whatever is done about files.
        self.add_once(name, Stream::new(pipe, Kind::Live(AtEnd::Stop)))
    }

    /// Adds what can't be opened again.
    fn add_once(&mut self, name: String, stream: Stream) -> Result<(), OpenError> {
        let mut reader = FileReader::new(name.clone(), stream);
        reader.recognise(&mut self.flaws)?;
        let seen = reader.seen();
        self.sources.push(Source { name, path: None, size: None, seen, bytes_done: 0 });
        self.start(Active { source: self.sources.len() - 1, reader });
        Ok(())
    }

    fn kind(&self) -> Kind {
        match self.at_end {
            AtEnd::Stop => Kind::Complete,
            AtEnd::Follow => Kind::Live(AtEnd::Follow),
        }
    }

    /// Puts the earliest last; of several, the one named first.
    fn sort_waiting(&mut self) {
        self.waiting.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// Gives a reader a place; it has not been asked for anything yet.
    fn start(&mut self, active: Active) {
        let place = match self.active.iter().position(Option::is_none) {
            Some(place) => place,
            None => {
                self.active.push(None);
                self.active.len() - 1
            }
        };
        self.active[place] = Some(active);
        self.idle.push(place);
        self.since_look = LOOK_AGAIN;
    }

    /// The next frame. Waits for pipes; a file that is followed is not waited for.
    ///
    /// # Errors
    /// What reading a file failed with. That file is given up; further calls go on with the others.
    #[expect(
        clippy::should_implement_trait,
        reason = "frames are borrowed from the reader, as no iterator's items can be"
    )]
    pub fn next(&mut self) -> Result<Step<'_>, ReadError> {
        let Some(place) = self.next_place()? else {
            return Ok(if self.idle.is_empty() { Step::End } else { Step::Idle });
        };
        self.current = Some(place);
        let frame = self.active.get(place).and_then(Option::as_ref).and_then(|active| active.reader.frame());
        let Some(mut frame) = frame else { return Ok(Step::Idle) };
        self.time = self.time.max(frame.captured_at_nanos);
        frame.captured_at_nanos = self.time;
        Ok(Step::Frame(frame))
    }

    /// The place whose frame is next; its turn is taken.
    #[inline]
    fn next_place(&mut self) -> Result<Option<usize>, ReadError> {
        let mut candidate = match self.current.take() {
            Some(place) => self.advance(place)?,
            None => None,
        };
        self.since_look += 1;
        let must_look = self.since_look >= LOOK_AGAIN || (candidate.is_none() && self.ready.is_empty());
        if must_look && let Err(error) = self.look_at_idle() {
            self.ready.extend(candidate);
            return Err(error);
        }
        loop {
            if let Some(turn) = candidate
                && self.ready.peek().is_some_and(|other| *other > turn)
            {
                self.ready.push(turn);
                candidate = None;
            }
            let earliest = candidate.or_else(|| self.ready.peek().copied());
            let must_open = match (self.waiting.last(), earliest) {
                (Some((first, source)), Some(Reverse((time, order, _)))) => (*first, *source) < (time, order),
                (waiting, None) => waiting.is_some(),
                (None, _) => false,
            };
            if must_open {
                self.open_next(candidate.take())?;
                continue;
            }
            if candidate.is_none() {
                self.ready.pop();
            }
            return Ok(earliest.map(|Reverse((_, _, place))| place));
        }
    }

    /// Opens the source that is the next of those that wait. `turn` is kept for afterwards.
    #[cold]
    fn open_next(&mut self, turn: Option<Turn>) -> Result<(), ReadError> {
        self.ready.extend(turn);
        let Some((_, index)) = self.waiting.pop() else { return Ok(()) };
        let Some(source) = self.sources.get(index) else { return Ok(()) };
        let Some(path) = &source.path else { return Ok(()) };
        let (file, _) = open_file(path, &source.name)?;
        let reader = FileReader::new(source.name.clone(), Stream::new(Box::new(file), self.kind()));
        self.start(Active { source: index, reader });
        self.look_at_idle()
    }

    /// Asks all readers that had nothing whether they have something now.
    #[cold]
    fn look_at_idle(&mut self) -> Result<(), ReadError> {
        self.since_look = 0;
        let mut first_error = None;
        for place in std::mem::take(&mut self.idle) {
            match self.advance(place) {
                Ok(turn) => self.ready.extend(turn),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Lets a reader go to its next frame; without one it becomes idle or ends.
    #[inline]
    fn advance(&mut self, place: usize) -> Result<Option<Turn>, ReadError> {
        let Some(active) = self.active.get_mut(place).and_then(Option::as_mut) else { return Ok(None) };
        match active.reader.advance(&mut self.flaws) {
            Ok(Stand::Frame(time)) => return Ok(Some(Reverse((time, active.source, place)))),
            Ok(Stand::Idle) => self.idle.push(place),
            Ok(Stand::End) => self.finish(place),
            Err(error) => {
                self.finish(place);
                return Err(error);
            }
        }
        Ok(None)
    }

    #[cold]
    fn finish(&mut self, place: usize) {
        let Some(active) = self.active.get_mut(place).and_then(Option::take) else { return };
        if let Some(source) = self.sources.get_mut(active.source) {
            source.seen = active.reader.seen();
            source.bytes_done = source.size.unwrap_or_else(|| active.reader.bytes_done());
        }
    }

    /// Goes back to the beginning of all files. Flaws are not noted again.
    ///
    /// # Errors
    /// [`OpenError::NotRewindable`] if one of the inputs is a pipe; nothing has changed then.
    pub fn rewind(&mut self) -> Result<(), OpenError> {
        if let Some(pipe) = self.sources.iter().find(|source| source.path.is_none()) {
            return Err(OpenError::NotRewindable { file: pipe.name.clone() });
        }
        for place in 0..self.active.len() {
            self.finish(place);
        }
        self.active.clear();
        self.ready.clear();
        self.idle.clear();
        self.current = None;
        self.time = 0;
        self.flaws.mute();
        self.waiting.clear();
        for (index, source) in self.sources.iter_mut().enumerate() {
            self.waiting.push((source.seen.first.unwrap_or(0), index));
            source.bytes_done = 0;
            source.seen.frames = 0;
            source.seen.last = None;
        }
        self.sort_waiting();
        Ok(())
    }

    /// How far reading has come.
    pub fn position(&self) -> Position {
        let done: u64 = self.sources.iter().map(|source| source.bytes_done).sum();
        let active: u64 = self.active.iter().flatten().map(|active| active.reader.bytes_done()).sum();
        Position {
            bytes_read: done + active,
            bytes_total: self.sources.iter().map(|source| source.size).sum(),
        }
    }

    /// What is wrong with the files read so far: the first flaws of [`Self::flaw_count`].
    pub fn flaws(&self) -> &[Flaw] {
        self.flaws.list()
    }

    /// How many flaws were met so far.
    pub fn flaw_count(&self) -> u64 {
        self.flaws.count()
    }

    /// What is known of each input, in the order in which they were named.
    pub fn sources(&self) -> Vec<SourceFacts> {
        let mut facts: Vec<Seen> = self.sources.iter().map(|source| source.seen.clone()).collect();
        for active in self.active.iter().flatten() {
            if let Some(seen) = facts.get_mut(active.source) {
                *seen = active.reader.seen();
            }
        }
        let names = self.sources.iter().map(|source| source.name.clone());
        names
            .zip(facts)
            .map(|(input, seen)| SourceFacts {
                input,
                format: seen.format,
                compression: seen.compression,
                link_types: seen.link_types,
                snap_len: seen.snap_len,
                frames: seen.frames,
                first_nanos: seen.first,
                last_nanos: seen.last,
            })
            .collect()
    }
}

/// Opens a file. Its length, if it is a file and not a pipe or a device.
fn open_file(path: &Path, name: &str) -> Result<(File, Option<u64>), OpenError> {
    let failed = |source| OpenError::Open { file: name.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    Ok((file, metadata.is_file().then_some(metadata.len())))
}
