//! What all runners of one configured plugin share: whether it is disabled, what went wrong, and what it counted.
//!
//! Runners of different workers touch it once a batch at most, and take a lock only when there is something to write.

use crate::calls::{Level, shortened};
use crate::limits::{FaultKind, Limits, OnError};
use crate::report::{FaultCount, ModuleReport};
use crate::throttle::Throttle;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tcpcopy_engine::plugin::{AfterFault, Without};

/// Most names that are counted, and given up for.
const MAX_NAMES: usize = 1024;
/// Longest of them, in bytes.
const MAX_NAME: usize = 200;
/// What counts beyond those bounds are added to.
const OTHER: &str = "other";
/// The time that [`Limits::faults_per_minute`] is about.
const MINUTE: Duration = Duration::from_secs(60);

const IN_USE: u8 = 0;
const PASSING: u8 = 1;
const GIVING_UP: u8 = 2;

/// Shared state of one configured plugin.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) limits: Limits,
    disabled: AtomicU8,
    instances: AtomicU64,
    violations: AtomicU64,
    books: Mutex<Books>,
    log: Mutex<Throttle>,
    faults_log: Mutex<Throttle>,
}

#[derive(Default)]
struct Books {
    recent: VecDeque<Instant>,
    faults: BTreeMap<FaultKind, (u64, String)>,
    counts: BTreeMap<String, u64>,
    gave_up: BTreeMap<String, u64>,
    disabled: Option<String>,
    must_exit: Option<String>,
}

/// The name that `name` is counted under.
pub(crate) fn count_name(name: &str) -> &str {
    if name.len() > MAX_NAME { OTHER } else { name }
}

fn add(into: &mut BTreeMap<String, u64>, name: &str, amount: u64) {
    let name = count_name(name);
    if let Some(count) = into.get_mut(name) {
        *count = count.saturating_add(amount);
        return;
    }
    let name = if into.len() >= MAX_NAMES { OTHER } else { name };
    let count = into.entry(name.to_owned()).or_insert(0);
    *count = count.saturating_add(amount);
}

/// A thread that panicked with a lock held leaves numbers that are still numbers.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(name: &str, limits: Limits) -> Self {
        Self {
            name: name.to_owned(),
            limits,
            disabled: AtomicU8::new(IN_USE),
            instances: AtomicU64::new(0),
            violations: AtomicU64::new(0),
            books: Mutex::default(),
            log: Mutex::new(Throttle::new(20, Duration::from_secs(1))),
            faults_log: Mutex::new(Throttle::new(10, Duration::from_secs(10))),
        }
    }

    /// What becomes of sessions, if the plugin is used no more.
    pub(crate) fn disabled(&self) -> Option<Without> {
        match self.disabled.load(Ordering::Relaxed) {
            IN_USE => None,
            PASSING => Some(Without::PassThrough),
            _ => Some(Without::GiveUp),
        }
    }

    pub(crate) fn instance_made(&self) {
        self.instances.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_counts(&self, counts: &mut Vec<(String, u64)>) {
        let mut books = locked(&self.books);
        for (name, amount) in counts.drain(..) {
            add(&mut books.counts, &name, amount);
        }
    }

    pub(crate) fn gave_up(&self, reason: &str) {
        add(&mut locked(&self.books).gave_up, shortened(reason, MAX_NAME), 1);
    }

    /// Books and logs a failed call, and says what becomes of the other sessions.
    pub(crate) fn fault(&self, kind: FaultKind, session: Option<u64>, message: &str) -> AfterFault {
        if let Some(suppressed) = locked(&self.faults_log).pass(Instant::now()) {
            let session = session.map_or_else(|| "an unknown one".to_owned(), |session| session.to_string());
            tracing::warn!(
                plugin = self.name,
                %kind, session, suppressed,
                "the plugin failed; it is started anew and the session ends: {message}"
            );
        }
        self.book(kind, message)
    }

    /// Shows a plugin's summary of an exchange to whoever looks for it.
    pub(crate) fn observed(&self, session: u64, summary: &[u8]) {
        tracing::debug!(plugin = self.name, session, "{}", String::from_utf8_lossy(summary).escape_debug());
    }

    /// Books and logs a session that broke the rules.
    pub(crate) fn violation(&self, session: u64, what: &str) {
        self.violations.fetch_add(1, Ordering::Relaxed);
        if let Some(suppressed) = locked(&self.faults_log).pass(Instant::now()) {
            tracing::warn!(
                plugin = self.name,
                session,
                suppressed,
                "the plugin broke the rules; the session ends: {what}"
            );
        }
        self.book(FaultKind::Violation, what);
    }

    fn book(&self, kind: FaultKind, message: &str) -> AfterFault {
        let now = Instant::now();
        let mut books = locked(&self.books);
        let entry = books.faults.entry(kind).or_default();
        entry.0 = entry.0.saturating_add(1);
        message.clone_into(&mut entry.1);
        while books.recent.front().is_some_and(|fault| now.duration_since(*fault) > MINUTE) {
            books.recent.pop_front();
        }
        // No more of them are ever looked at, so no more are kept.
        let allowed = self.limits.faults_per_minute as usize;
        if books.recent.len() <= allowed {
            books.recent.push_back(now);
        }
        if books.recent.len() > allowed {
            self.apply_policy(&mut books, kind, message);
        }
        drop(books);
        self.disabled().map_or(AfterFault::Rejoin, AfterFault::Disabled)
    }

    fn apply_policy(&self, books: &mut Books, kind: FaultKind, message: &str) {
        let state = match self.limits.on_error {
            OnError::Drop => return,
            OnError::Pass => PASSING,
            OnError::Disable | OnError::Exit => GIVING_UP,
        };
        if books.disabled.is_some() {
            return;
        }
        let reason = format!(
            "plugin {} failed more than {} times within a minute, last ({kind}): {message}",
            self.name, self.limits.faults_per_minute
        );
        tracing::error!(plugin = self.name, "{reason}; it is used no more");
        if self.limits.on_error == OnError::Exit {
            books.must_exit = Some(reason.clone());
        }
        books.disabled = Some(reason);
        self.disabled.store(state, Ordering::Relaxed);
    }

    pub(crate) fn must_exit(&self) -> Option<String> {
        if self.disabled.load(Ordering::Relaxed) == IN_USE {
            return None;
        }
        locked(&self.books).must_exit.clone()
    }

    pub(crate) fn fill(&self, report: &mut ModuleReport) {
        let books = locked(&self.books);
        report.instances = self.instances.load(Ordering::Relaxed);
        report.violations = self.violations.load(Ordering::Relaxed);
        report.faults = books
            .faults
            .iter()
            .map(|(kind, (count, last))| FaultCount { kind: *kind, count: *count, last: last.clone() })
            .collect();
        report.counts = books.counts.iter().map(|(name, count)| (name.clone(), *count)).collect();
        report.gave_up = books.gave_up.iter().map(|(name, count)| (name.clone(), *count)).collect();
        report.disabled = books.disabled.clone();
    }

    /// A message of the plugin.
    pub(crate) fn log(&self, level: Level, message: &str) {
        // What the subscriber does not want costs a plugin none of its share.
        let wanted = match level {
            Level::Error => tracing::enabled!(target: "plugin", tracing::Level::ERROR),
            Level::Warn => tracing::enabled!(target: "plugin", tracing::Level::WARN),
            Level::Info => tracing::enabled!(target: "plugin", tracing::Level::INFO),
            Level::Debug => tracing::enabled!(target: "plugin", tracing::Level::DEBUG),
            Level::Trace => tracing::enabled!(target: "plugin", tracing::Level::TRACE),
        };
        if !wanted {
            return;
        }
        let Some(suppressed) = locked(&self.log).pass(Instant::now()) else { return };
        if suppressed > 0 {
            tracing::info!(target: "plugin", plugin = self.name, suppressed, "messages of the plugin were left out");
        }
        // A message is data of strangers: control characters must not reach a terminal.
        let message: String =
            message.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
        match level {
            Level::Error => tracing::error!(target: "plugin", plugin = self.name, "{message}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin = self.name, "{message}"),
            Level::Info => tracing::info!(target: "plugin", plugin = self.name, "{message}"),
            Level::Debug => tracing::debug!(target: "plugin", plugin = self.name, "{message}"),
            Level::Trace => tracing::trace!(target: "plugin", plugin = self.name, "{message}"),
        }
    }
}
