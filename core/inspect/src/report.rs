//! Reading files to their end, and what is told of them.
//!
//! Owns the loop over a capture, and the facts about each file. Leaves the packets to [`Inspection`].

use crate::advice::{self, Warning};
use crate::findings::Findings;
use crate::inspection::{Inspection, Limits};
use serde::Serialize;
use tcpcopy_capture_file::{AtEnd, Captures, Input, LinkType, OpenError, Step};
use tcpcopy_engine::wire::tunnel::Decap;

/// What is known of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileFindings {
    /// The file as it was named.
    pub file: String,
    /// Format; none when not even its header was read.
    pub format: Option<String>,
    /// Compression.
    pub compression: String,
    /// Link types of its frames.
    pub link_types: Vec<&'static str>,
    /// Bytes captured of each packet at most, as the file says; 0 when it does not.
    pub snap_len: u32,
    /// Frames read.
    pub frames: u64,
    /// Size on disk in bytes; unknown for pipes.
    pub bytes: Option<u64>,
    /// Capture time of the first frame, Unix nanoseconds.
    pub first_at: Option<u64>,
    /// Capture time of the last.
    pub last_at: Option<u64>,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlawFindings {
    /// The file as it was named.
    pub file: String,
    /// Where it begins, in bytes of the uncompressed capture.
    pub offset: u64,
    /// Bytes that were left out because of it.
    pub skipped: u64,
    /// What it is.
    pub what: String,
}

/// A file that could not be read, or not further.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// The file, and why.
    pub error: String,
    /// What to do about it.
    pub hint: String,
}

/// What was found in files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Facts about each file.
    pub files: Vec<FileFindings>,
    /// What is wrong with them; a bounded list.
    pub flaws: Vec<FlawFindings>,
    /// How much is, listed or not.
    pub flaw_count: u64,
    /// Files that were given up.
    pub unread: Vec<Unread>,
    /// What is in them.
    #[serde(flatten)]
    pub findings: Findings,
}

/// Reads `captures`, which were opened from `inputs`, to their end, and looks into the tunnels of `decap`.
///
/// A file that can't be read further is given up, and told of in [`Report::unread`]; the others are read.
pub fn inspect(mut captures: Captures, inputs: &[Input], limits: Limits, decap: Decap) -> Report {
    let mut inspection = Inspection::new(limits, decap);
    let mut unread: Vec<Unread> = Vec::new();
    loop {
        match captures.next() {
            Ok(Step::Frame(frame)) => inspection.frame(&frame),
            Ok(Step::Idle) => {}
            Ok(Step::End) => break,
            Err(error) => unread.push(Unread { error: chain(&error), hint: error.hint().to_owned() }),
        }
    }
    let names: Vec<String> = inputs.iter().map(Input::to_string).collect();
    let mut findings = inspection.finish(&names);
    let flaws = captures
        .flaws()
        .iter()
        .map(|flaw| FlawFindings {
            file: flaw.input.clone(),
            offset: flaw.offset,
            skipped: flaw.skipped,
            what: flaw.kind.to_string(),
        })
        .collect();
    let flaw_count = captures.flaw_count();
    let about_files: Option<Warning> = advice::about_files(flaw_count, unread.len() as u64);
    findings.warnings.splice(0..0, about_files);
    Report { files: files(&captures, inputs), flaws, flaw_count, unread, findings }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn files(captures: &Captures, inputs: &[Input]) -> Vec<FileFindings> {
    let size = |name: &str| {
        let path = inputs.iter().find_map(|input| match input {
            Input::File(path) if input.to_string() == name => Some(path),
            _ => None,
        })?;
        std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
    };
    captures
        .sources()
        .into_iter()
        .map(|source| FileFindings {
            format: source.format.map(|format| format.to_string()),
            compression: source.compression.to_string(),
            link_types: source.link_types.iter().copied().map(link_name).collect(),
            snap_len: source.snap_len,
            frames: source.frames,
            bytes: size(&source.input),
            first_at: source.first_nanos,
            last_at: source.last_nanos,
            file: source.input,
        })
        .collect()
}

impl Report {
    /// Opens `inputs` and reads them to their end.
    ///
    /// # Errors
    /// [`OpenError`] when one of them can't be opened, or is no capture.
    pub fn of(inputs: &[Input], limits: Limits, decap: Decap) -> Result<Self, OpenError> {
        let captures = Captures::open(inputs, AtEnd::Stop)?;
        Ok(inspect(captures, inputs, limits, decap))
    }
}

const fn link_name(link: LinkType) -> &'static str {
    match link {
        LinkType::Ethernet => "Ethernet",
        LinkType::Raw => "raw IP",
        LinkType::Null => "BSD loopback",
        LinkType::LinuxCooked => "Linux cooked (SLL)",
        LinkType::LinuxCooked2 => "Linux cooked 2 (SLL2)",
        LinkType::Nflog => "NFLOG",
    }
}
