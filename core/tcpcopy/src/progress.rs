//! The progress bar of a replay of capture files.
//!
//! Owns the one line at the bottom of a terminal, and what is printed above it. Where standard error is no terminal there is no bar; plain
//! lines are the reporter's. It starts no thread and reads no counter: the caller says what to show, and when.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The bar on the terminal, for what is written beside it.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Standard error for messages: they stand above the bar, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Messages;

impl io::Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let write = || io::stderr().write(bytes);
        match &*SHOWN.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What standard error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// A terminal: lines can be drawn anew.
    Terminal,
    /// A file, a pipe, or a terminal that can only print.
    Plain,
}

impl On {
    /// What this process's standard error is.
    pub fn standard_error() -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if std::io::stderr().is_terminal() && !is_dumb { Self::Terminal } else { Self::Plain }
    }
}

/// What the bar shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProgressState {
    /// Bytes of the captures read, and how many there are, over all passes. None for pipes and files that grow: then there is no bar,
    /// only the text.
    pub position: Option<(u64, u64)>,
    /// From the first packet of the capture to the last that was played.
    pub captured: Duration,
    /// Sessions alive.
    pub sessions: u64,
    /// Requests sent a second, lately.
    pub requests_per_second: f64,
    /// How late requests were sent, lately; none where no time is kept.
    pub lag: Option<Duration>,
    /// Requests lost.
    pub lost: u64,
}

impl ProgressState {
    /// The text beside the bar.
    fn text(&self) -> String {
        let seconds = self.captured.as_secs();
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = match hours {
            0 => write!(text, "{minutes}:{seconds:02}"),
            _ => write!(text, "{hours}:{minutes:02}:{seconds:02}"),
        };
        let _ = write!(text, " sessions {} requests {:.0}/s", self.sessions, self.requests_per_second);
        if let Some(lag) = self.lag {
            let _ = match lag.as_millis() {
                millis @ 0..=9_999 => write!(text, " lag {millis} ms"),
                _ => write!(text, " lag {:.1} s", lag.as_secs_f64()),
            };
        }
        let _ = write!(text, " lost {}", self.lost);
        text
    }
}

/// The bar, from the start of a replay to its end. Dropping it takes it off the terminal.
#[derive(Debug)]
pub struct Progress {
    /// None where nothing is drawn.
    bar: Option<ProgressBar>,
    /// Whether the bar has a length.
    has_length: bool,
}

impl Progress {
    /// Draws to standard error, if that is a terminal.
    pub fn start(on: On) -> Self {
        match on {
            On::Terminal => {
                let progress = Self::draw_to(ProgressDrawTarget::stderr());
                SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&progress.bar);
                progress
            }
            On::Plain => Self { bar: None, has_length: false },
        }
    }

    fn draw_to(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style("{wide_msg}"));
        Self { bar: Some(bar), has_length: false }
    }

    /// Whether there is a bar. The reporter's lines are not needed then.
    pub const fn is_shown(&self) -> bool {
        self.bar.is_some()
    }

    /// Shows what has changed. Meant for a few times a second; what comes more often is not drawn.
    pub fn update(&mut self, state: &ProgressState) {
        let Some(bar) = &self.bar else { return };
        let has_length = state.position.is_some();
        if has_length != self.has_length {
            self.has_length = has_length;
            bar.set_style(style(if has_length {
                "{percent:>3}% [{bar:24}] {wide_msg}"
            } else {
                "{wide_msg}"
            }));
        }
        if let Some((read, all)) = state.position {
            bar.update(|bar| {
                bar.set_len(all.max(1));
                bar.set_pos(read.min(all));
            });
        }
        bar.set_message(state.text());
    }

    /// Prints lines that stay, above the bar; without one, to standard error.
    pub fn println(&self, text: &str) {
        let text = text.strip_suffix('\n').unwrap_or(text);
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    /// Takes the bar away while `print` writes to the terminal by itself.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Takes the bar off the terminal for good.
    pub fn finish(mut self) {
        self.clear();
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take();
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A style of which the template is known to be right: a test draws each.
fn style(template: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::InMemoryTerm;

    fn drawn(columns: u16) -> (InMemoryTerm, Progress) {
        let terminal = InMemoryTerm::new(5, columns);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255);
        (terminal, Progress::draw_to(target))
    }

    fn state() -> ProgressState {
        ProgressState {
            position: Some((250, 1000)),
            captured: Duration::from_secs(3671),
            sessions: 120,
            requests_per_second: 1234.4,
            lag: Some(Duration::from_micros(7_400)),
            lost: 2,
        }
    }

    #[test]
    fn the_bar_shows_position_and_numbers() {
        let (terminal, mut progress) = drawn(100);
        progress.update(&state());
        assert_eq!(
            terminal.contents(),
            " 25% [======>                 ] 1:01:11 sessions 120 requests 1234/s lag 7 ms lost 2"
        );
        progress.update(&ProgressState {
            position: Some((2000, 1000)),
            captured: Duration::from_secs(61),
            lag: Some(Duration::from_millis(12_340)),
            ..state()
        });
        assert_eq!(
            terminal.contents(),
            "100% [========================] 1:01 sessions 120 requests 1234/s lag 12.3 s lost 2"
        );
    }

    #[test]
    fn without_a_length_there_is_only_the_text() {
        let (terminal, mut progress) = drawn(100);
        progress.update(&ProgressState { position: None, lag: None, ..state() });
        assert_eq!(terminal.contents(), "1:01:11 sessions 120 requests 1234/s lost 2");
        // A capture without a byte is no division by zero.
        progress.update(&ProgressState { position: Some((0, 0)), lag: None, ..state() });
        assert!(terminal.contents().starts_with("  0% ["), "{}", terminal.contents());
    }

    #[test]
    fn lines_stand_above_the_bar_and_stay_when_it_is_gone() {
        let (terminal, mut progress) = drawn(100);
        progress.update(&state());
        progress.println("warning: kernel drops\n");
        let contents = terminal.contents();
        let lines: Vec<&str> = contents.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, "warning: kernel drops"), "{contents}");
        assert!(lines[1].contains("sessions 120"), "{contents}");
        assert_eq!(progress.suspend(|| terminal.contents()), "warning: kernel drops");
        assert!(terminal.contents().contains("sessions 120"));
        progress.finish();
        assert_eq!(terminal.contents(), "warning: kernel drops");
    }

    #[test]
    fn a_narrow_terminal_gets_one_line() {
        let (terminal, mut progress) = drawn(50);
        progress.update(&state());
        assert_eq!(terminal.contents().lines().count(), 1, "{}", terminal.contents());
    }

    #[test]
    fn dropping_clears_and_plain_shows_nothing() {
        let (terminal, mut progress) = drawn(100);
        progress.update(&state());
        drop(progress);
        assert_eq!(terminal.contents(), "");
        let mut plain = Progress::start(On::Plain);
        assert!(!plain.is_shown());
        plain.update(&state());
        assert_eq!(plain.suspend(|| 7), 7);
        plain.finish();
    }
}
