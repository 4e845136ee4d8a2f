//! Replaying capture files: what the options about it mean.

use crate::failure::UsageError;
use crate::options::LowArgs;
use jiff::{SignedDuration, Timestamp};
use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;
use tcpcopy_capture_file::{AtEnd, Input};

/// How capture files are replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct Offline {
    /// The files; never empty.
    pub inputs: Vec<Input>,
    /// What to do at their end.
    pub at_end: AtEnd,
    /// When packets are played.
    pub tempo: Tempo,
    /// How often (`-T`).
    pub passes: NonZeroU32,
    /// Which part.
    pub window: Window,
    /// How much of it, at most.
    pub limit: Option<Amount>,
    /// Share of requests that may be lost, in percent; none where nothing may.
    pub allow_loss: Option<f64>,
}

/// When packets are played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tempo {
    /// At their own distances.
    Captured {
        /// So many times as fast (`-a`).
        speed: f64,
        /// No pause is longer (`-I`).
        idle_cap: Option<Duration>,
    },
    /// So many connections or requests begin in a second (`--rate`).
    Rate(Amount),
    /// As fast as the target answers (`--asap`).
    Unpaced,
}

/// A number of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Of what.
    pub unit: Unit,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Connections of clients.
    Connections,
    /// Requests.
    Requests,
    /// Packets of the capture.
    Packets,
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Connections => "connections",
            Unit::Requests => "requests",
            Unit::Packets => "packets",
        };
        write!(f, "{} {unit}", self.count)
    }
}

/// A part of a capture, by time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// From here on.
    pub start: Option<Moment>,
    /// Before this.
    pub end: Option<Moment>,
}

/// A time in a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nanoseconds of the Unix epoch.
    Absolute(u64),
    /// Since the first packet.
    SinceFirst(Duration),
}

impl Moment {
    /// The moment in nanoseconds of the Unix epoch, where the first packet was captured at `first`.
    pub fn nanos(self, first: u64) -> u64 {
        match self {
            Self::Absolute(at) => at,
            Self::SinceFirst(after) => {
                first.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
            }
        }
    }
}

impl Offline {
    /// What the options say of offline replay; none where traffic is live. A file given as interface is one to replay: `is_file`
    /// tells which are.
    pub(super) fn new(
        low: &LowArgs,
        is_file: impl Fn(&str) -> bool,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Self>, UsageError> {
        let args = &low.offline;
        let mut inputs: Vec<Input> = args.offline.iter().map(|path| input(path)).collect();
        let names = low.interfaces.iter().flat_map(|list| list.split(','));
        let files = names.map(str::trim).filter(|name| is_file(name));
        inputs.extend(files.map(|name| Input::File(name.into())));
        if inputs.is_empty() {
            return Self::refuse_without_files(low).map(|()| None);
        }
        let is_pipe = inputs.iter().any(|input| matches!(input, Input::Stdin));
        if inputs.iter().filter(|input| matches!(input, Input::Stdin)).count() > 1 {
            return Err(UsageError::new(
                "--offline: standard input (-) is given twice",
                "give it once; files may follow",
            ));
        }
        if args.follow && (inputs.len() > 1 || is_pipe) {
            return Err(UsageError::new(
                "--follow takes one file",
                "a pipe is followed anyway; of several files give the one that grows",
            ));
        }
        if args.repeat > 1 && (is_pipe || args.follow) {
            return Err(UsageError::new(
                "-T: what comes from a pipe, or still grows, can't be read again",
                "write it to a file first, then replay that",
            ));
        }
        let tempo = tempo(low)?;
        let window = args.at.as_deref().map(window).transpose()?.unwrap_or_default();
        let limit = args.limit.as_deref().map(|text| amount("--limit", text)).transpose()?;
        if low.pcap_capture || low.buffer.is_some() || low.snaplen != 0 {
            warnings.push(
                "-B, -S and --pcap-capture are for live capture; files are read as they are".to_owned(),
            );
        }
        if low.workers > 1 {
            warnings
                .push("--workers has no use with --offline: one worker reads the files in order".to_owned());
        }
        Ok(Some(Self {
            inputs,
            at_end: if args.follow { AtEnd::Follow } else { AtEnd::Stop },
            tempo,
            passes: NonZeroU32::new(args.repeat).unwrap_or(NonZeroU32::MIN),
            window,
            limit,
            allow_loss: args.allow_loss,
        }))
    }

    fn refuse_without_files(low: &LowArgs) -> Result<(), UsageError> {
        let args = &low.offline;
        let given = [
            ("-a", args.accelerate.is_some()),
            ("-I", args.idle_cap.is_some()),
            ("-T", args.repeat > 1),
            ("--rate", args.rate.is_some()),
            ("--asap", args.asap),
            ("--at", args.at.is_some()),
            ("--limit", args.limit.is_some()),
            ("--allow-loss", args.allow_loss.is_some()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => Err(UsageError::new(
                format!("{option} is for capture files, and none is given"),
                "--offline FILE replays a file; live traffic comes when it comes",
            )),
            None => Ok(()),
        }
    }

    /// How long a session may be idle, where the replay is slower than the capture was.
    pub fn stretch(&self, limit: Duration) -> Duration {
        match self.tempo {
            Tempo::Captured { speed, .. } if speed < 1.0 => limit.div_f64(speed),
            _ => limit,
        }
    }
}

fn input(path: &Path) -> Input {
    if path.as_os_str() == "-" { Input::Stdin } else { Input::File(path.to_owned()) }
}

fn tempo(low: &LowArgs) -> Result<Tempo, UsageError> {
    let args = &low.offline;
    if args.asap {
        return Ok(Tempo::Unpaced);
    }
    if let Some(text) = &args.rate {
        let rate = amount("--rate", text)?;
        return match rate.unit {
            Unit::Packets => Err(UsageError::new(
                format!("--rate {text}: a rate is in connections or requests"),
                "--rate 200conn or --rate 5000req",
            )),
            _ => Ok(Tempo::Rate(rate)),
        };
    }
    Ok(Tempo::Captured {
        speed: args.accelerate.unwrap_or(1.0),
        idle_cap: args.idle_cap.map(|millis| Duration::from_millis(u64::from(millis))),
    })
}

/// Reads `200`, `200conn`, `5000req/s`, `1000pkt`.
fn amount(option: &str, text: &str) -> Result<Amount, UsageError> {
    let wrong = || {
        UsageError::new(
            format!("{option} {text:?}: expected a number above 0, and what of"),
            format!("{option} 200conn counts connections, {option} 5000req requests"),
        )
    };
    let trimmed = text.trim().trim_end_matches("/s");
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    let unit = match unit.trim() {
        "" | "c" | "conn" | "connections" => Unit::Connections,
        "r" | "req" | "requests" => Unit::Requests,
        "p" | "pkt" | "packets" => Unit::Packets,
        _ => return Err(wrong()),
    };
    match number.parse() {
        Ok(count) if count > 0 => Ok(Amount { count, unit }),
        _ => Err(wrong()),
    }
}

fn window(text: &str) -> Result<Window, UsageError> {
    let wrong = |what: String| {
        UsageError::new(
            format!("--at {text:?}: {what}"),
            "--at 10s..1m30s counts from the first packet; --at 2026-11-22T10:00:00Z..2026-11-22T10:05:00Z are times",
        )
    };
    let Some((start, end)) = text.split_once("..") else {
        return Err(wrong("expected START..END".to_owned()));
    };
    let read = |part: &str| match part.trim() {
        "" => Ok(None),
        part => moment(part).map(Some).ok_or_else(|| wrong(format!("{part:?} is no time"))),
    };
    let window = Window { start: read(start)?, end: read(end)? };
    let is_backwards = match (window.start, window.end) {
        (Some(Moment::Absolute(start)), Some(Moment::Absolute(end))) => start >= end,
        (Some(Moment::SinceFirst(start)), Some(Moment::SinceFirst(end))) => start >= end,
        _ => false,
    };
    if is_backwards {
        return Err(wrong("the end is not after the start".to_owned()));
    }
    Ok(window)
}

fn moment(text: &str) -> Option<Moment> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok().map(Moment::SinceFirst);
    }
    if let Ok(duration) = text.parse::<SignedDuration>() {
        return Duration::try_from(duration).ok().map(Moment::SinceFirst);
    }
    let at: Timestamp = text.parse().ok()?;
    u64::try_from(at.as_nanosecond()).ok().map(Moment::Absolute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_counted_from_the_first_packet() {
        let seconds = |n| Some(Moment::SinceFirst(Duration::from_secs(n)));
        assert_eq!(moment("90"), seconds(90));
        assert_eq!(moment("1m30s"), seconds(90));
        assert_eq!(moment("2h"), seconds(7200));
        assert_eq!(moment("1970-01-01T00:00:02Z"), Some(Moment::Absolute(2_000_000_000)));
        assert_eq!(moment("1970-01-01T02:00:02+02:00"), Some(Moment::Absolute(2_000_000_000)));
        assert_eq!(moment("-3s"), None);
        assert_eq!(moment("soon"), None);
    }

    #[test]
    fn windows_may_be_open() {
        assert_eq!(window("..").unwrap(), Window::default());
        assert_eq!(window("10s..").unwrap().end, None);
        assert!(window("10s").is_err());
        assert!(window("20s..10s").is_err());
    }

    #[test]
    fn amounts_have_units() {
        let of = |text| amount("--limit", text).ok().map(|amount| (amount.count, amount.unit));
        assert_eq!(of("200"), Some((200, Unit::Connections)));
        assert_eq!(of("5000req/s"), Some((5000, Unit::Requests)));
        assert_eq!(of("7 pkt"), Some((7, Unit::Packets)));
        assert_eq!(of("0"), None);
        assert_eq!(of("7 apples"), None);
    }
}
