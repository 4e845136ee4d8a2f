//! What the program tells: a line at each interval, a closing report, a JSON file.
//!
//! Owns the form of all three and when they are written. The worker loop only fills in a [`Snapshot`].

mod diagnosis;
mod errno;
mod histogram;
mod json;
mod snapshot;
mod text;

pub use diagnosis::{Cause, Finding, Leg, diagnose};
pub use errno::{errno_hint, errno_name};
pub use histogram::Histogram;
pub use json::{json, module as module_json};
pub use snapshot::{Forwarding, ModuleFaults, ModuleStatus, RelayStatus, RemoteStatus, Snapshot};
pub use text::{closing_report, finding_lines, interval_line};

pub(crate) use text::bytes as size;

use crate::settings::Settings;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Whether a report is one of many or the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The run goes on.
    Interval,
    /// The run is over.
    Final,
}

/// Writes reports where the settings want them.
#[derive(Debug)]
pub struct Reporter {
    log: Option<File>,
    json: Option<PathBuf>,
    previous: Snapshot,
    told: Vec<Cause>,
    lines: Lines,
}

/// Whether a line of statistics is written at each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// It is.
    Written,
    /// It is not, because a progress bar shows the same; what is wrong is told all the same.
    LeftOut,
}

impl Reporter {
    /// A reporter that writes to the terminal or to the file given by `-l`.
    ///
    /// # Errors
    /// The log file can't be opened.
    pub fn new(settings: &Settings) -> io::Result<Self> {
        let log = match &settings.output.log_file {
            Some(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
            None => None,
        };
        let json = settings.output.stats_json.clone();
        Ok(Self { log, json, previous: Snapshot::default(), told: Vec::new(), lines: Lines::Written })
    }

    /// Writes lines of statistics from now on, or none.
    pub const fn set_lines(&mut self, lines: Lines) {
        self.lines = lines;
    }

    /// Writes a line of statistics, and what is wrong if that has changed since the last line.
    ///
    /// # Errors
    /// Writing failed; the run can go on.
    pub fn interval(&mut self, snapshot: &Snapshot, settings: &Settings) -> io::Result<()> {
        let findings = diagnose(snapshot, settings);
        let mut text = String::new();
        if self.lines == Lines::Written {
            text = interval_line(snapshot, &self.previous);
            text.push('\n');
        }
        let causes: Vec<Cause> = findings.iter().map(|finding| finding.cause).collect();
        for finding in findings.iter().filter(|finding| !self.told.contains(&finding.cause)) {
            text.push_str(&finding_lines(finding));
        }
        for mended in self.told.iter().filter(|cause| !causes.contains(cause)) {
            text.push_str(&format!("mended: {}\n", mended.name()));
        }
        self.told = causes;
        self.previous = snapshot.clone();
        let written = self.write(&text);
        written.and(self.write_json(snapshot, &findings, Stage::Interval))
    }

    /// Writes the closing report.
    ///
    /// # Errors
    /// Writing failed.
    pub fn finish(&mut self, snapshot: &Snapshot, settings: &Settings) -> io::Result<()> {
        let findings = diagnose(snapshot, settings);
        let written = self.write(&closing_report(snapshot, &findings));
        written.and(self.write_json(snapshot, &findings, Stage::Final))
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        match &mut self.log {
            Some(file) => file.write_all(text.as_bytes()),
            None => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes())?;
                out.flush()
            }
        }
    }

    fn write_json(&self, snapshot: &Snapshot, findings: &[Finding], stage: Stage) -> io::Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let mut text = serde_json::to_vec_pretty(&json(snapshot, findings, stage))?;
        text.push(b'\n');
        replace_file(path, &text)
    }
}

/// Gives the file new content in one step: a reader sees the old or the new, never a part.
fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let result = std::fs::write(&temporary, content).and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}
