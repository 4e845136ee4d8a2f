//! The thread that reads capture files.

use super::queue::{Batch, Closed, Inlet, Item};
use crate::settings::{Offline, Window};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tcpcopy_capture_file::{Captures, Flaw, Frame, Input, Step};
use tcpcopy_net::filter::FrameFilter;

/// How often a growing file is looked at.
const GROWTH_INTERVAL: Duration = Duration::from_millis(20);

/// What the reader knows, for reports.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    /// Size of the files, where it is known.
    pub(super) bytes_total: Option<u64>,
    /// Frames read that the filter (`-F`) or the window (`--at`) left out.
    pub(super) left_out: u64,
    /// What is wrong with the files.
    pub(super) flaws: Vec<Flaw>,
    /// How much is, where the list is not complete.
    pub(super) flaw_count: u64,
}

/// Notes that both threads see.
pub(super) type SharedNotes = Arc<Mutex<Notes>>;

/// Reads the files `captures` to their end, as often as asked for, into `inlet`.
pub(super) struct Reader {
    pub(super) captures: Captures,
    pub(super) inlet: Inlet,
    pub(super) notes: SharedNotes,
    pub(super) filter: Option<FrameFilter>,
    pub(super) window: Window,
    pub(super) passes: u32,
    /// Frames are handed over one by one: they come when they come.
    pub(super) is_live: bool,
}

/// Whether frames come from something that is being written while it is read.
pub(super) fn is_live(offline: &Offline) -> bool {
    offline.at_end == tcpcopy_capture_file::AtEnd::Follow
        || offline.inputs.iter().any(|input| matches!(input, Input::Stdin))
}

/// Which frames are played.
struct Choice {
    window: Window,
    /// Beginning and end of the window, once the first frame is known.
    bounds: Option<(u64, u64)>,
    filter: Option<FrameFilter>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Chosen {
    Play,
    LeaveOut,
    /// It lies behind the window, and so does everything after it.
    End,
}

impl Choice {
    fn of(&mut self, frame: &Frame<'_>) -> Chosen {
        let first = frame.captured_at_nanos;
        let (start, end) = *self.bounds.get_or_insert_with(|| {
            let start = self.window.start.map_or(0, |start| start.nanos(first));
            (start, self.window.end.map_or(u64::MAX, |end| end.nanos(first)))
        });
        if frame.captured_at_nanos >= end {
            return Chosen::End;
        }
        let passes = frame.captured_at_nanos >= start
            && self
                .filter
                .as_mut()
                .is_none_or(|filter| filter.passes(frame.link_type, frame.data, frame.wire_len));
        if passes { Chosen::Play } else { Chosen::LeaveOut }
    }
}

impl Reader {
    /// Reads until everything is read, reading fails, or the worker is gone.
    pub(super) fn run(mut self) {
        let result = self.read();
        self.take_notes(0);
        let item = match result {
            Ok(()) => Item::Ends,
            Err(Stop::Closed) => return,
            Err(Stop::Failed(what, hint)) => Item::Failed(what, hint),
        };
        let _ = self.inlet.push(item);
    }

    fn read(&mut self) -> Result<(), Stop> {
        let mut choice = Choice { window: self.window, bounds: None, filter: self.filter.take() };
        let mut batch = Batch::default();
        for pass in 0..self.passes {
            if pass > 0 {
                self.inlet.push(Item::PassEnds)?;
                self.captures
                    .rewind()
                    .map_err(|error| Stop::Failed(error.to_string(), error.hint().to_string()))?;
            }
            batch = self.read_once(pass, &mut choice, batch)?;
        }
        Ok(())
    }

    fn read_once(&mut self, pass: u32, choice: &mut Choice, mut batch: Batch) -> Result<Batch, Stop> {
        let mut left_out = 0;
        loop {
            let chosen = match self.captures.next() {
                Ok(Step::Frame(frame)) => {
                    let chosen = choice.of(&frame);
                    if chosen == Chosen::Play {
                        batch.push(&frame);
                    }
                    chosen
                }
                Ok(Step::Idle) => {
                    if self.inlet.is_closed() {
                        return Err(Stop::Closed);
                    }
                    if !self.inlet.wants(pass) {
                        return Ok(batch);
                    }
                    std::thread::sleep(GROWTH_INTERVAL);
                    continue;
                }
                Ok(Step::End) => Chosen::End,
                Err(error) => {
                    if !batch.is_empty() {
                        self.hand_over(batch, left_out)?;
                    }
                    return Err(Stop::Failed(error.to_string(), error.hint().to_string()));
                }
            };
            left_out += u64::from(chosen == Chosen::LeaveOut);
            let is_due = batch.is_full() || (self.is_live && !batch.is_empty()) || chosen == Chosen::End;
            if is_due {
                batch = self.hand_over(batch, std::mem::take(&mut left_out))?;
            }
            if chosen == Chosen::End || (is_due && !self.inlet.wants(pass)) {
                return Ok(batch);
            }
        }
    }

    fn hand_over(&mut self, mut batch: Batch, left_out: u64) -> Result<Batch, Stop> {
        batch.bytes_read = self.captures.position().bytes_read;
        self.take_notes(left_out);
        if batch.is_empty() { Ok(batch) } else { Ok(self.inlet.push_frames(batch)?) }
    }

    fn take_notes(&self, left_out: u64) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.bytes_total = self.captures.position().bytes_total;
        notes.left_out += left_out;
        if notes.flaw_count != self.captures.flaw_count() {
            notes.flaw_count = self.captures.flaw_count();
            notes.flaws = self.captures.flaws().to_vec();
        }
    }
}

/// Why reading stops before the end.
enum Stop {
    Closed,
    Failed(String, String),
}

impl From<Closed> for Stop {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}
