//! From the queue of frames to the engine: each frame when its time has come and there is room for it.

use super::pressure::Pressure;
use super::queue::{Batch, Item, Outlet, queue};
use super::reader::{Notes, Reader, SharedNotes, is_live};
use super::status::OfflineStatus;
use super::timeline::Timeline;
use crate::failure::{HintExt, failure};
use crate::report::Histogram;
use crate::settings::{Amount, Offline, Tempo, Unit};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tcpcopy_capture_file::{AtEnd, Captures};
use tcpcopy_engine::Engine;
use tcpcopy_engine::counters::Counters;
use tcpcopy_engine::time::Instant;
use tcpcopy_net::filter::FrameFilter;

/// Frames between two looks at the pressure.
const LOOK_EVERY: usize = 32;
/// How soon reading is tried again while it is held back, if nothing else wakes the worker.
const RETRY: Duration = Duration::from_millis(2);
/// Between two passes: as far as two captures apart that are played one after the other.
const PASS_DISTANCE: u64 = 1_000_000;

/// What stands between frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// The files begin anew, for the time of this number.
    Pass(u32),
    /// The capture has ended.
    End,
}

/// What came of feeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Frames handed to the engine.
    pub frames: usize,
    /// When to feed again; none when the bell will ring.
    pub again: Option<Instant>,
    /// What the engine is to be told before feeding goes on.
    pub boundary: Option<Boundary>,
}

/// A capture on its way to the engine.
pub struct Feed {
    outlet: Outlet,
    notes: SharedNotes,
    batch: Option<Batch>,
    next: usize,
    timeline: Timeline,
    pressure: Pressure,
    gate: Option<Gate>,
    limit: Option<Amount>,
    /// What was counted when this pass began, for the limit.
    base: Counters,
    pass: u32,
    passes: u32,
    /// A file that is followed has no end but that of the run.
    at_end: AtEnd,
    /// Nanoseconds added to times of capture, so that they go on from one pass to the next.
    shift: u64,
    first_of_pass: Option<u64>,
    last: u64,
    frames: u64,
    frames_of_pass: u64,
    bytes_before: u64,
    bytes_read: u64,
    held_since: Option<Instant>,
    held_back: Duration,
    lag: Histogram,
    sent: Vec<u64>,
    /// The limit is reached, and the rest of the pass is not wanted.
    is_skipping: bool,
    has_ended: bool,
    failure: Option<(String, String)>,
}

impl Feed {
    /// Opens the files and begins to read them. `filter` is the expression of `-F`; `memory_limit` the bytes that sessions may
    /// hold.
    ///
    /// # Errors
    /// A file that can't be opened or is no capture; a filter that makes no sense; no thread or descriptor left.
    pub fn start(offline: &Offline, filter: Option<&str>, memory_limit: u64) -> anyhow::Result<Self> {
        let captures = Captures::open(&offline.inputs, offline.at_end).map_err(|error| {
            let hint = error.hint().to_string();
            failure(format!("can't replay: {error}"), hint)
        })?;
        let filter = filter.map(FrameFilter::compile).transpose().map_err(|error| {
            let hint = format!("{}; a filter for files can't speak of link headers", error.hint());
            failure(error.to_string(), hint)
        })?;
        let (inlet, outlet) =
            queue().hint("can't read files", "the process may be out of descriptors: see ulimit -n")?;
        let notes =
            Arc::new(Mutex::new(Notes { bytes_total: captures.position().bytes_total, ..Notes::default() }));
        let passes = offline.passes.get();
        let reader = Reader {
            captures,
            inlet,
            notes: Arc::clone(&notes),
            filter,
            window: offline.window,
            passes,
            is_live: is_live(offline),
        };
        std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || reader.run())
            .hint("can't start a thread", "the system may be at its limit of threads")?;
        let gate = match offline.tempo {
            Tempo::Rate(amount) => Some(Gate::new(amount)),
            Tempo::Captured { .. } | Tempo::Unpaced => None,
        };
        let is_paced = matches!(offline.tempo, Tempo::Captured { .. });
        Ok(Self {
            outlet,
            notes,
            batch: None,
            next: 0,
            timeline: Timeline::new(&offline.tempo),
            pressure: Pressure::new(memory_limit, is_paced),
            gate,
            limit: offline.limit,
            base: Counters::default(),
            pass: 0,
            passes,
            at_end: offline.at_end,
            shift: 0,
            first_of_pass: None,
            last: 0,
            frames: 0,
            frames_of_pass: 0,
            bytes_before: 0,
            bytes_read: 0,
            held_since: None,
            held_back: Duration::ZERO,
            lag: Histogram::new(),
            sent: Vec::new(),
            is_skipping: false,
            has_ended: false,
            failure: None,
        })
    }

    /// Readable once there are frames again.
    pub fn bell(&self) -> RawFd {
        self.outlet.bell()
    }

    /// Whether the capture has ended.
    pub const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes why reading failed, if it has: what, and what to do.
    pub const fn take_failure(&mut self) -> Option<(String, String)> {
        self.failure.take()
    }

    /// Hands up to `limit` frames to the engine.
    pub fn feed(&mut self, engine: &mut Engine, limit: usize, now: Instant) -> Fed {
        let mut fed = Fed { frames: 0, again: None, boundary: None };
        while fed.frames < limit {
            if self.has_ended {
                return fed;
            }
            if fed.frames.is_multiple_of(LOOK_EVERY) && self.pressure.is_high(engine, now) {
                self.held_since.get_or_insert(now);
                fed.again = Some(now + RETRY);
                return fed;
            }
            if let Some(since) = self.held_since.take() {
                self.held_back += now.saturating_since(since);
            }
            self.keep_limit(engine);
            if let Some(at) = self.gate.as_mut().and_then(|gate| gate.closed_until(engine.counters(), now)) {
                fed.again = Some(at);
                return fed;
            }
            let batch = self.batch.as_ref().filter(|_| !self.is_skipping);
            let Some(frame) = batch.and_then(|batch| batch.frame(self.next)) else {
                match self.refill() {
                    Refill::Frames => continue,
                    Refill::Nothing => return fed,
                    Refill::Boundary(boundary) => {
                        fed.boundary = Some(boundary);
                        return fed;
                    }
                }
            };
            let captured_at = frame.captured_at_nanos.saturating_add(self.shift);
            // Packets of others are no sign of life, and need not be waited for: a pause is one of the traffic that is replayed.
            let is_timed = !self.timeline.cuts_pauses()
                || engine.may_concern(frame.link_type, frame.data, frame.wire_len);
            if is_timed && let Some(due) = self.timeline.due(captured_at, now).filter(|due| *due > now) {
                fed.again = Some(due);
                return fed;
            }
            engine.handle_frame(frame.link_type, frame.data, frame.wire_len, captured_at, now);
            self.first_of_pass.get_or_insert(captured_at);
            self.last = self.last.max(captured_at);
            self.next += 1;
            self.frames += 1;
            self.frames_of_pass += 1;
            fed.frames += 1;
        }
        fed.again = Some(now);
        fed
    }

    /// The engine has been told of a pass; its counters are where the limit counts from.
    pub const fn begin_pass(&mut self, counters: &Counters) {
        self.base = *counters;
    }

    /// Notes how late the requests were that the engine has sent.
    pub fn note_sent(&mut self, engine: &mut Engine, now: Instant) {
        engine.take_sent_requests(&mut self.sent);
        for captured_at in self.sent.drain(..) {
            if let Some(lag) = self.timeline.lag(captured_at, now) {
                self.lag.record(lag);
            }
        }
    }

    /// How far it has come.
    pub fn status(&self) -> OfflineStatus {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        OfflineStatus {
            frames: self.frames,
            frames_left_out: notes.left_out,
            bytes_read: self.bytes_before + self.bytes_read,
            bytes_total: notes.bytes_total,
            passes: self.passes,
            passes_done: self.pass + u32::from(self.has_ended),
            captured_span: Duration::from_nanos(
                self.last.saturating_sub(self.first_of_pass.unwrap_or(self.last)),
            ),
            lag: self.lag.clone(),
            held_back: self.held_back,
            flaws: notes.flaws,
            flaw_count: notes.flaw_count,
            is_complete: (self.has_ended || self.at_end == AtEnd::Follow) && self.failure.is_none(),
        }
    }

    fn refill(&mut self) -> Refill {
        self.outlet.quieten();
        self.next = 0;
        match self.outlet.take(self.batch.take()) {
            None => Refill::Nothing,
            Some(Item::Frames(batch)) => {
                self.bytes_read = batch.bytes_read;
                self.batch = Some(batch);
                Refill::Frames
            }
            Some(Item::PassEnds) => Refill::Boundary(self.end_pass()),
            Some(Item::Ends) => {
                self.has_ended = true;
                Refill::Boundary(Boundary::End)
            }
            Some(Item::Failed(what, hint)) => {
                self.has_ended = true;
                self.failure = Some((what, hint));
                Refill::Boundary(Boundary::End)
            }
        }
    }

    fn end_pass(&mut self) -> Boundary {
        self.pass += 1;
        if let Some(first) = self.first_of_pass.take() {
            // The next pass begins right after this one, on the same line of time.
            self.shift = self.shift.saturating_add(self.last - first + PASS_DISTANCE);
        }
        self.frames_of_pass = 0;
        self.is_skipping = false;
        self.bytes_before += self.bytes_read;
        self.bytes_read = 0;
        Boundary::Pass(self.pass)
    }

    /// Once the limit is reached, skips the rest of the pass. Of connections, those that were begun are played to their ends.
    fn keep_limit(&mut self, engine: &mut Engine) {
        let Some(limit) = self.limit.filter(|_| !self.is_skipping) else { return };
        let counters = engine.counters();
        let count = match limit.unit {
            Unit::Connections => counters.connections_seen - self.base.connections_seen,
            Unit::Requests => counters.requests_captured - self.base.requests_captured,
            Unit::Packets => self.frames_of_pass,
        };
        if count < limit.count {
            return;
        }
        let is_over =
            limit.unit != Unit::Connections || counters.sessions_live == engine.finishing_sessions();
        if limit.unit == Unit::Connections {
            engine.admit_no_more();
        }
        if is_over {
            self.is_skipping = true;
            self.outlet.skip_pass(self.pass);
        }
    }
}

enum Refill {
    Frames,
    Nothing,
    Boundary(Boundary),
}

/// Lets so many connections or requests begin in a second.
#[derive(Debug)]
struct Gate {
    rate: Amount,
    begun: Option<Instant>,
}

impl Gate {
    const fn new(rate: Amount) -> Self {
        Self { rate, begun: None }
    }

    /// Until when nothing may begin, if so.
    fn closed_until(&mut self, counters: &Counters, now: Instant) -> Option<Instant> {
        let began = *self.begun.get_or_insert(now);
        let count = match self.rate.unit {
            Unit::Connections => counters.connections_seen,
            Unit::Requests => counters.requests_captured,
            Unit::Packets => counters.packets_captured,
        };
        let due = began + Duration::from_secs_f64(count as f64 / self.rate.count as f64);
        (due > now).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Moment, Window};
    use std::num::NonZeroU32;
    use tcpcopy_capture_file::{CaptureWriter, Format, Frame, Input, LinkType};
    use tcpcopy_engine::EngineConfig;
    use tcpcopy_engine::mapping::MappingOptions;
    use tcpcopy_engine::protocol::{TransparentFactory, WaitPolicy};
    use tcpcopy_net::clock;

    const SECOND: u64 = 1_000_000_000;

    /// A file with a frame of nobody's for each second, removed with its guard.
    struct Recording(std::path::PathBuf);

    impl Recording {
        fn new(name: &str, seconds: u64) -> Self {
            let file = std::env::temp_dir().join(format!("tcpcopy-feed-{name}-{}", std::process::id()));
            let mut writer =
                CaptureWriter::new(std::fs::File::create(&file).unwrap(), Format::Pcap, 0).unwrap();
            for second in 0..seconds {
                let frame = Frame {
                    data: b"no packet",
                    wire_len: 9,
                    link_type: LinkType::Raw,
                    captured_at_nanos: (1000 + second) * SECOND,
                };
                writer.write(&frame).unwrap();
            }
            writer.finish().unwrap();
            Self(file)
        }

        fn offline(&self, passes: u32) -> Offline {
            Offline {
                inputs: vec![Input::File(self.0.clone())],
                at_end: AtEnd::Stop,
                tempo: Tempo::Unpaced,
                passes: NonZeroU32::new(passes).unwrap(),
                window: Window::default(),
                limit: None,
                allow_loss: None,
            }
        }
    }

    impl Drop for Recording {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// Plays everything, and returns what stood between frames and how far it came.
    fn play(offline: &Offline) -> (Vec<Boundary>, OfflineStatus) {
        let factory = TransparentFactory { policy: WaitPolicy::LikeClient };
        let config = EngineConfig::new(MappingOptions::default());
        let mut engine = Engine::new(config, Box::new(factory), clock::monotonic());
        let mut feed = Feed::start(offline, None, 1 << 30).unwrap();
        let mut boundaries = Vec::new();
        let end = clock::monotonic() + Duration::from_secs(20);
        while !feed.has_ended() {
            let now = clock::monotonic();
            assert!(now < end, "it does not end");
            let fed = feed.feed(&mut engine, 2, now);
            boundaries.extend(fed.boundary);
            if let Some(Boundary::Pass(_)) = fed.boundary {
                feed.begin_pass(engine.counters());
            }
        }
        (boundaries, feed.status())
    }

    #[test]
    fn files_are_played_as_often_as_asked_for() {
        let recording = Recording::new("often", 5);
        let (boundaries, status) = play(&recording.offline(3));
        assert_eq!(boundaries, [Boundary::Pass(1), Boundary::Pass(2), Boundary::End]);
        assert_eq!((status.frames, status.passes_done, status.is_complete), (15, 3, true));
        assert_eq!(status.captured_span, Duration::from_secs(4));
        assert_eq!(status.share_read(), Some(1.0));
    }

    #[test]
    fn a_limit_counts_anew_in_each_pass() {
        let recording = Recording::new("limit", 5);
        let limit = Some(Amount { count: 2, unit: Unit::Packets });
        let (boundaries, status) = play(&Offline { limit, ..recording.offline(2) });
        assert_eq!(boundaries, [Boundary::Pass(1), Boundary::End]);
        assert_eq!(status.frames, 4);
    }

    #[test]
    fn what_lies_outside_of_the_window_is_left_out() {
        let recording = Recording::new("window", 9);
        let window = Window {
            start: Some(Moment::SinceFirst(Duration::from_secs(2))),
            end: Some(Moment::Absolute(1006 * SECOND)),
        };
        let (_, status) = play(&Offline { window, ..recording.offline(1) });
        assert_eq!((status.frames, status.frames_left_out), (4, 2));
    }

    #[test]
    fn packets_are_played_at_their_times() {
        let recording = Recording::new("times", 3);
        let tempo = Tempo::Captured { speed: 20.0, idle_cap: None };
        let began = clock::monotonic();
        play(&Offline { tempo, ..recording.offline(1) });
        let took = clock::monotonic().saturating_since(began);
        assert!(took >= Duration::from_millis(100), "{took:?} for two seconds at twenty times the speed");
    }

    #[test]
    fn a_gate_opens_once_for_each_thing_counted() {
        let mut gate = Gate::new(Amount { count: 10, unit: Unit::Connections });
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        let seen = |connections_seen| Counters { connections_seen, ..Counters::default() };
        assert_eq!(gate.closed_until(&seen(0), at(0)), None);
        assert_eq!(gate.closed_until(&seen(1), at(0)), Some(at(100)));
        assert_eq!(gate.closed_until(&seen(1), at(100)), None);
        assert_eq!(gate.closed_until(&seen(5), at(200)), Some(at(500)));
    }
}
