//! How fast captures are read: every frame of the named files, once, with nothing done to it.
//!
//! `cargo run --release -p tcpcopy-capture-file --example read_throughput FILE…`

use anyhow::Result;
use std::time::Instant;
use tcpcopy_capture_file::{AtEnd, Captures, Input, Step};

fn main() -> Result<()> {
    let inputs: Vec<Input> = std::env::args().skip(1).map(|name| Input::from(name.as_str())).collect();
    let started = Instant::now();
    let mut captures = Captures::open(&inputs, AtEnd::Stop)?;
    let (mut frames, mut bytes) = (0_u64, 0_u64);
    while let Step::Frame(frame) = captures.next()? {
        frames += 1;
        bytes += frame.data.len() as u64;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{frames} frames, {bytes} bytes in {seconds:.3} s: {:.2} Mpackets/s, {:.0} MB/s of frames, {} flaws",
        frames as f64 / seconds / 1e6,
        bytes as f64 / seconds / 1e6,
        captures.flaw_count(),
    );
    Ok(())
}
