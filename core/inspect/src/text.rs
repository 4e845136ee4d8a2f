//! The text for people.
//!
//! Owns the layout and the forms of numbers and times. Leaves what is said to [`crate::advice`].

use crate::advice::{Severity, Warning};
use crate::findings::{ConnectionCounts, DirectionCounts, Findings, PortFindings};
use crate::report::{FileFindings, Report};
use std::fmt::Write;

/// Files shown one by one.
const MAX_FILES: usize = 20;
/// Ports, and commands, shown; JSON has more.
const MAX_PORTS: usize = 20;
/// Flaws shown.
const MAX_FLAWS: usize = 10;

impl Report {
    /// What was found, for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string can't fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "files")?;
        for file in self.files.iter().take(MAX_FILES) {
            write_file(out, file)?;
        }
        if let Some(more) = self.files.len().checked_sub(MAX_FILES).filter(|more| *more > 0) {
            let frames: u64 = self.files.iter().map(|file| file.frames).sum();
            writeln!(out, "  and {more} more; {} frames in all", number(frames))?;
        }
        for unread in &self.unread {
            writeln!(out, "  NOT READ  {}", unread.error)?;
        }
        for flaw in self.flaws.iter().take(MAX_FLAWS) {
            write!(out, "  FLAW  {}: at byte {}: {}", flaw.file, number(flaw.offset), flaw.what)?;
            match flaw.skipped {
                0 => writeln!(out)?,
                skipped => writeln!(out, "; {} bytes left out", number(skipped))?,
            }
        }
        if self.flaw_count > MAX_FLAWS as u64 && self.flaws.len() > MAX_FLAWS {
            writeln!(out, "  and {} more flaws", number(self.flaw_count - MAX_FLAWS as u64))?;
        }
        let findings = &self.findings;
        write_packets(out, findings)?;
        write_connections(out, &findings.connections)?;
        write_directions(out, &findings.client, &findings.server)?;
        write_ports(out, findings)?;
        for warning in &findings.warnings {
            write_warning(out, warning)?;
        }
        if findings.warnings.is_empty() {
            writeln!(out, "No problem was found.")?;
        }
        write_commands(out, findings)
    }
}

fn write_file(out: &mut String, file: &FileFindings) -> std::fmt::Result {
    writeln!(out, "  {}", file.file)?;
    let format = file.format.as_deref().unwrap_or("unknown format");
    write!(out, "    {format}, {}", file.compression)?;
    if !file.link_types.is_empty() {
        write!(out, ", {}", file.link_types.join(" and "))?;
    }
    match file.snap_len {
        0 => writeln!(out)?,
        snap_len => writeln!(out, ", packets up to {} bytes", number(u64::from(snap_len)))?,
    }
    write!(out, "    {} frames", number(file.frames))?;
    if let Some(size) = file.bytes {
        write!(out, ", {} on disk", bytes(size))?;
    }
    if let (Some(first), Some(last)) = (file.first_at, file.last_at) {
        write!(out, ", {} to {} ({})", time(first), time(last), duration(last.saturating_sub(first)))?;
    }
    writeln!(out)
}

/// A name, a number right-aligned, and what there is to say about it.
fn row(out: &mut String, depth: usize, name: &str, value: u64, about: &str) -> std::fmt::Result {
    let name = format!("{:indent$}{name}", "", indent = depth * 2);
    writeln!(out, "{}", format!("{name:<28} {:>14}  {about}", number(value)).trim_end())
}

/// The same, left out when it is zero.
fn row_if(out: &mut String, depth: usize, name: &str, value: u64, about: &str) -> std::fmt::Result {
    if value == 0 { Ok(()) } else { row(out, depth, name, value, about) }
}

fn write_packets(out: &mut String, findings: &Findings) -> std::fmt::Result {
    let p = &findings.packets;
    writeln!(out, "packets")?;
    row(out, 1, "frames", p.frames, &format!("{} on the wire", bytes(p.wire_bytes)))?;
    row(out, 1, "TCP segments", p.tcp, "checksums are not looked at")?;
    row_if(out, 1, "other protocols", p.other_protocols, "")?;
    row_if(out, 1, "not IP", p.not_ip, "")?;
    row_if(out, 1, "captured more than once", findings.duplicates, "")?;
    row_if(out, 1, "fragments", p.fragments, &format!("{} of them lost", number(p.fragments_lost)))?;
    row_if(out, 1, "malformed", p.malformed, "")?;
    row_if(out, 1, "headers cut", p.headers_cut, "")?;
    row_if(out, 1, "tunnels opened", p.opened, "")?;
    for (name, frames) in [("VXLAN", p.vxlan), ("Geneve", p.geneve), ("GRE", p.gre), ("ERSPAN", p.erspan)] {
        row_if(out, 1, &format!("in {name}, not opened"), frames, "")?;
    }
    Ok(())
}

fn write_connections(out: &mut String, c: &ConnectionCounts) -> std::fmt::Result {
    writeln!(out, "connections")?;
    row(out, 1, "all", c.total, "")?;
    row(out, 2, "complete", c.complete, "from the SYN to a FIN or reset")?;
    row_if(out, 2, "without end", c.unended, "")?;
    row_if(out, 2, "from the middle", c.mid_stream, "they began before the capture did")?;
    row_if(out, 2, "refused", c.refused, "a reset answered the SYN")?;
    row_if(out, 2, "unanswered", c.unanswered, "only the SYN was captured")?;
    row(out, 1, "replayable", c.replayable, "from the SYN, with every byte of the client, in the clear")?;
    row_if(out, 1, "replayable in part", c.replayable_in_part, "from the middle, or up to a gap")?;
    row_if(out, 1, "encrypted", c.encrypted, "")?;
    row_if(out, 1, "only the client captured", c.client_only, "")?;
    row_if(out, 1, "only the server captured", c.server_only, "")?;
    row_if(out, 1, "clients on loopback", c.loopback, "")
}

fn write_directions(
    out: &mut String,
    client: &DirectionCounts,
    server: &DirectionCounts,
) -> std::fmt::Result {
    writeln!(out, "{:<28} {:>14} {:>14}", "segments", "of clients", "of servers")?;
    let rows: [(&str, u64, u64, Needed); 10] = [
        ("packets", client.packets, server.packets, Needed::Always),
        ("bytes", client.bytes, server.bytes, Needed::Always),
        ("missing bytes", client.gap_bytes, server.gap_bytes, Needed::Always),
        ("  in gaps", client.gaps, server.gaps, Needed::IfAny),
        ("retransmitted", client.repeated, server.repeated, Needed::IfAny),
        ("out of order", client.out_of_order, server.out_of_order, Needed::IfAny),
        ("keep-alives, probes", client.probes, server.probes, Needed::IfAny),
        ("cut by the capture", client.cut, server.cut, Needed::IfAny),
        ("merged (TSO, GRO)", client.super_segments, server.super_segments, Needed::IfAny),
        ("numbers in no window", client.implausible, server.implausible, Needed::IfAny),
    ];
    for (name, client, server, needed) in rows {
        if needed == Needed::Always || client + server > 0 {
            writeln!(out, "  {name:<26} {:>14} {:>14}", number(client), number(server))?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    Always,
    IfAny,
}

fn write_ports(out: &mut String, findings: &Findings) -> std::fmt::Result {
    if findings.ports.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "{:<8} {:>11} {:>9} {:>7} {:>11} {:>9} {:>9}  protocol",
        "port", "connections", "a second", "at once", "requests", "client", "server"
    )?;
    for port in findings.ports.iter().take(MAX_PORTS) {
        writeln!(
            out,
            "  {:<6} {:>11} {:>9} {:>7} {:>11} {:>9} {:>9}  {}",
            port.port,
            number(port.connections),
            rate(port.connections_per_second),
            number(u64::from(port.peak)),
            number(port.requests),
            bytes(port.client_bytes),
            bytes(port.server_bytes),
            protocols(port)
        )?;
        if port.servers.len() > 1 {
            let shown: Vec<String> = port
                .servers
                .iter()
                .take(4)
                .map(|s| format!("{} ({})", s.address, number(s.connections)))
                .collect();
            let more = port.servers.len().saturating_sub(4) + port.more_servers;
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            writeln!(out, "         served by {}{more}", shown.join(", "))?;
        }
    }
    let more = findings.ports.len().saturating_sub(MAX_PORTS) + findings.more_ports;
    if more > 0 {
        writeln!(out, "  and {more} more ports, with less")?;
    }
    Ok(())
}

/// The protocols of a port; numbers only where there are several.
fn protocols(port: &PortFindings) -> String {
    if let [only] = port.protocols.as_slice() {
        return only.protocol.name().to_owned();
    }
    let each = port.protocols.iter().map(|p| format!("{} {}", p.protocol.name(), number(p.connections)));
    each.collect::<Vec<_>>().join(", ")
}

fn write_warning(out: &mut String, warning: &Warning) -> std::fmt::Result {
    let word = match warning.severity {
        Severity::Problem => "problem",
        Severity::Notice => "note",
    };
    writeln!(out, "{word}: {}", warning.found)?;
    writeln!(out, "   means: {}", warning.means)?;
    if warning.advice != "nothing" {
        writeln!(out, "   do: {}", warning.advice)?;
    }
    Ok(())
}

fn write_commands(out: &mut String, findings: &Findings) -> std::fmt::Result {
    if findings.commands.is_empty() {
        return Ok(());
    }
    writeln!(out, "to replay")?;
    for suggestion in findings.commands.iter().take(MAX_PORTS) {
        writeln!(out, "  {}", suggestion.command)?;
        if let Some(note) = &suggestion.note {
            writeln!(out, "    {note}")?;
        }
    }
    let more = findings.commands.len().saturating_sub(MAX_PORTS);
    if more > 0 {
        writeln!(out, "  and {more} more ports")?;
    }
    Ok(())
}

/// Digits in groups of three.
pub(crate) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 0.1 { "<0.1".to_owned() } else { format!("{per_second:.1}") }
}

/// Bytes with a unit, in steps of 1024, as the program's other reports have them.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if n < 1024 {
        return format!("{n}B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 10.0 { format!("{value:.1}{}", UNITS[unit]) } else { format!("{value:.0}{}", UNITS[unit]) }
}

/// A moment as RFC 3339 has it, in UTC, with milliseconds.
fn time(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days in eras of 400 years, which begin in March: the leap day is then the last of a year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        nanos / 1_000_000 % 1000
    )
}

fn duration(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    match seconds {
        0..=59 => format!("{:.3} s", nanos as f64 / 1e9),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(951_782_400_123_000_000), "2000-02-29T00:00:00.123Z");
        assert_eq!(time(1_767_225_599_999_000_000), "2025-12-31T23:59:59.999Z");
        assert_eq!(duration(3_725_000_000_000), "1 h 2 min");
    }

    #[test]
    fn numbers_are_grouped_and_bytes_have_units() {
        assert_eq!([number(0), number(999), number(1_234_567)], ["0", "999", "1,234,567"]);
        assert_eq!([bytes(1023), bytes(1536), bytes(20 << 20)], ["1023B", "1.5kB", "20MB"]);
    }
}
