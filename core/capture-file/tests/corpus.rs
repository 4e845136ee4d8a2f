//! Captures from elsewhere: every frame's time and lengths equal those that tshark reads.
//!
//! Needs a folder of captures in `TCPCOPY_CORPUS`, and tshark; says so and passes without.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use tcpcopy_capture_file::{AtEnd, Captures, Damage, Flaw, FlawKind, Input, Step};

/// A frame: time in nanoseconds (none if no clock can have meant it), captured length, length on the wire.
type Facts = (Option<u64>, usize, usize);

fn corpus() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("TCPCOPY_CORPUS") else {
        println!("skipped: TCPCOPY_CORPUS names no folder of captures");
        return None;
    };
    if Command::new("tshark").arg("-v").output().is_err() {
        assert!(std::env::var_os("TCPCOPY_REQUIRE_LAB").is_none(), "tshark is not installed");
        println!("skipped: tshark is not installed");
        return None;
    }
    Some(folder.into())
}

fn by_tshark(file: &Path) -> Result<Vec<Facts>> {
    let fields = ["frame.time_epoch", "frame.cap_len", "frame.len"];
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(file).args(["-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().context("tshark")?;
    ensure!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(parse).collect()
}

fn parse(line: &str) -> Result<Facts> {
    let mut fields = line.split('\t');
    let mut field = || fields.next().context("a field is missing");
    let (seconds, nanos) = field()?.split_once('.').context("no fraction")?;
    let nanos = format!("{nanos:0<9}").parse::<u64>()?;
    // Times before 1970 read as huge ones.
    let time = seconds.parse::<u64>()?.checked_mul(1_000_000_000).map(|seconds| seconds + nanos);
    Ok((time, field()?.parse()?, field()?.parse()?))
}

/// The frames, and how many of them had wrong times.
fn by_us(file: &Path) -> Result<(Vec<Facts>, u64)> {
    let mut captures = Captures::open(&[Input::File(file.to_owned())], AtEnd::Stop)?;
    let mut frames = Vec::new();
    while let Step::Frame(frame) = captures.next()? {
        frames.push((Some(frame.captured_at_nanos), frame.data.len(), frame.wire_len));
    }
    let is_of_time = |flaw: &Flaw| flaw.kind == FlawKind::Damaged(Damage::RecordTime);
    ensure!(captures.flaws().iter().all(is_of_time), "{:?}", captures.flaws());
    let position = captures.position();
    ensure!(Some(position.bytes_read) == position.bytes_total, "{position:?} at the end");
    Ok((frames, captures.flaw_count()))
}

/// Times as they are to be read: one that is far ahead of those around it is that of the frame before, and none goes back. Returns how
/// many were far ahead.
fn mend_times(frames: &mut [Facts]) -> u64 {
    const DAY: u64 = 86_400 * 1_000_000_000;
    let mut ahead = 0;
    let mut latest = 0;
    for number in 0..frames.len() {
        let next = frames.get(number + 1).and_then(|(next, ..)| *next);
        let Some(frame) = frames.get_mut(number) else { break };
        let is_ahead = |time: u64| time > latest + DAY && next.is_some_and(|next| time > next + DAY);
        if frame.0.is_some_and(is_ahead) {
            frame.0 = None;
            ahead += 1;
        }
        latest = latest.max(frame.0.unwrap_or(0));
        frame.0 = Some(latest);
    }
    ahead
}

#[test]
fn every_capture_reads_as_tshark_reads_it() -> Result<()> {
    let Some(folder) = corpus() else { return Ok(()) };
    let mut files = 0;
    for entry in std::fs::read_dir(&folder)? {
        let file = entry?.path();
        if !file.extension().is_some_and(|extension| extension == "pcap" || extension == "pcapng") {
            continue;
        }
        files += 1;
        let mut expected = by_tshark(&file).with_context(|| file.display().to_string())?;
        ensure!(!expected.is_empty(), "tshark reads nothing of {}", file.display());
        let ahead = mend_times(&mut expected);
        let (found, flaws) = by_us(&file).with_context(|| file.display().to_string())?;
        ensure!(flaws == ahead, "{}: {flaws} wrong times, not {ahead}", file.display());
        ensure!(
            found.len() == expected.len(),
            "{}: {} frames of {}",
            file.display(),
            found.len(),
            expected.len()
        );
        for (number, (found, expected)) in found.iter().zip(&expected).enumerate() {
            ensure!(
                found == expected,
                "{}: frame {}: {found:?}, not {expected:?}",
                file.display(),
                number + 1
            );
        }
    }
    ensure!(files > 0, "no capture in {}", folder.display());
    println!("{files} captures");
    Ok(())
}
