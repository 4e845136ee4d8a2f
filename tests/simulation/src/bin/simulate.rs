//! `simulate --seeds A..B [--trace]`: runs seeds of the simulation, and prints what failed.

use clap::Parser;
use std::io::Write;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tcpcopy_simulation::trace::Keep;
use tcpcopy_simulation::{Outcome, run};

/// Runs seeds of the simulation: sessions against an independent TCP stack over a network that loses, repeats and reorders
#[derive(Parser)]
struct Args {
    /// Seeds to run: A..B leaves B out; a single number is one seed
    #[arg(long, value_name = "A..B", value_parser = parse_seeds, default_value = "0..1000")]
    seeds: Range<u64>,
    /// Print the packets of every seed, not only what failed
    #[arg(long)]
    trace: bool,
    /// Threads to run them on [default: one a core]
    #[arg(long)]
    jobs: Option<usize>,
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text:?}: {e}"));
    let range = match text.split_once("..") {
        Some((from, to)) => number(from)?..number(to)?,
        None => number(text)?..number(text)? + 1,
    };
    if range.is_empty() { Err("no seed lies between the two".to_owned()) } else { Ok(range) }
}

fn main() -> ExitCode {
    let args = Args::parse();
    // A seed that is run alone shows its packets when it fails.
    let keep = if args.trace || args.seeds.end - args.seeds.start == 1 { Keep::Lines } else { Keep::Nothing };
    let jobs =
        args.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1).max(1);
    let next = AtomicU64::new(args.seeds.start);
    let failed = Mutex::new(Vec::new());
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= args.seeds.end {
                        return;
                    }
                    // A panic is the seed's failure, and no reason to leave out the others.
                    let outcome = std::panic::catch_unwind(|| run(seed, keep)).unwrap_or_else(|_| Outcome {
                        seed,
                        violations: vec!["it panicked".to_owned()],
                        packets: Vec::new(),
                        summary: String::new(),
                    });
                    if args.trace || !outcome.violations.is_empty() {
                        report(&outcome);
                    }
                    if !outcome.violations.is_empty()
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.push(seed);
                    }
                }
            });
        }
    });
    let seeds = args.seeds.end - args.seeds.start;
    let seconds = started.elapsed().as_secs_f64();
    let mut failed = failed.into_inner().unwrap_or_default();
    failed.sort_unstable();
    println!(
        "{seeds} seeds in {seconds:.1} s ({:.0} a second), {} failed",
        seeds as f64 / seconds,
        failed.len()
    );
    match failed.first() {
        None => ExitCode::SUCCESS,
        Some(first) => {
            eprintln!("error: {} of {seeds} seeds failed: {failed:?}", failed.len());
            eprintln!("hint: --seeds {first} runs one alone and prints its packets");
            ExitCode::FAILURE
        }
    }
}

/// All of a seed's lines at once, so that threads do not mix theirs. A closed pipe is no reason to fail.
fn report(outcome: &Outcome) {
    let mut text = String::new();
    for line in &outcome.packets {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(&format!("seed {}: {}\n", outcome.seed, outcome.summary));
    for violation in &outcome.violations {
        text.push_str(&format!("seed {}: WRONG: {violation}\n", outcome.seed));
    }
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
