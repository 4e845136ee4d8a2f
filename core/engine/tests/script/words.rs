//! The words that lines of a script are made of: durations, flags, ranges.

use std::time::Duration;
use tcpcopy_engine::wire::tcp::TcpFlags;

const FLAGS: [(char, TcpFlags); 6] = [
    ('S', TcpFlags::SYN),
    ('F', TcpFlags::FIN),
    ('R', TcpFlags::RST),
    ('P', TcpFlags::PSH),
    ('U', TcpFlags::URG),
    ('.', TcpFlags::ACK),
];
const UNITS: [(&str, u64); 3] = [("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];

/// The words of a line; text between double quotes is one word, with the quotes.
pub(crate) fn split(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let end = match rest.strip_prefix('"') {
            Some(quoted) => quoted.find('"').map_or(rest.len(), |at| at + 2),
            None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    words
}

/// Reads flags as tcpdump writes them.
pub(crate) fn flags(word: &str) -> Result<TcpFlags, String> {
    word.chars().try_fold(TcpFlags::NONE, |flags, letter| {
        let known = FLAGS.iter().find(|(known, _)| *known == letter);
        known.map(|(_, flag)| flags.with(*flag)).ok_or_else(|| format!("no flag is called {letter}"))
    })
}

/// Writes flags as tcpdump does.
pub(crate) fn flags_text(flags: TcpFlags) -> String {
    FLAGS.iter().filter(|(_, flag)| flags.contains(*flag)).map(|(letter, _)| letter).collect()
}

/// Reads a duration such as `40ms`.
pub(crate) fn duration(word: &str) -> Result<Duration, String> {
    let (unit, nanos) = UNITS
        .iter()
        .find(|(unit, _)| word.strip_suffix(unit).is_some_and(|n| n.ends_with(|c: char| c.is_ascii_digit())))
        .ok_or_else(|| format!("{word} is no duration (us, ms, s)"))?;
    let count: u64 = number(word.trim_end_matches(unit))?;
    Ok(Duration::from_nanos(count * nanos))
}

/// Writes a duration in the largest unit that keeps it whole; below a microsecond it is rounded.
pub(crate) fn duration_text(duration: Duration) -> String {
    let nanos = (duration.as_nanos() as u64 + 500) / 1000 * 1000;
    let whole = UNITS.iter().rev().find(|(_, unit)| nanos.is_multiple_of(*unit));
    whole.map_or_else(String::new, |(name, unit)| format!("{}{name}", nanos / unit))
}

/// Reads a number.
pub(crate) fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.replace('_', "").parse().map_err(|_| format!("{word} is no number that fits here"))
}

/// Reads `start:end`, or `start` alone for an empty range.
pub(crate) fn range(word: &str) -> Result<(i64, i64), String> {
    let (start, end) = word.split_once(':').unwrap_or((word, word));
    let (start, end) = (number(start)?, number(end)?);
    if start > end { Err(format!("{word} ends before it begins")) } else { Ok((start, end)) }
}

/// Writes what [`range`] reads.
pub(crate) fn range_text((start, end): (i64, i64)) -> String {
    if start == end { start.to_string() } else { format!("{start}:{end}") }
}
