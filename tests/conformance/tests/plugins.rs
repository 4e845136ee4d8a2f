//! Every plugin in `target/plugins`, played all transcripts: its decisions don't depend on how bytes were split, nor on whether it
//! is Wasm or native.

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::Path;
use tcpcopy_conformance::corpus::{self, Capture};
use tcpcopy_conformance::{Record, Split, Transcript, fixtures, play};
use tcpcopy_engine::protocol::Origin;
use tcpcopy_lab::case::REQUIRE_LAB;
use tcpcopy_lab::plugin::{Kind, find, plugin_folder};
use tcpcopy_lab::programs::target_folder;
use tcpcopy_plugin_host::settings::resolve;
use tcpcopy_plugin_host::{CacheDir, Configured, Loader, LoaderOptions, Module, ModuleReport};

/// Longer transcripts are not played byte by byte.
const BYTE_BY_BYTE: usize = 96 << 10;
/// Number of random splits of a short transcript; a long one gets fewer.
const SEEDS: u64 = 12;

/// Captures whose last byte is no request: urgent data, which a client sends and a server throws away.
const INCOMPLETE: [&str; 1] = ["local_tcp_keepalive_urg.pcap"];

/// A plugin, as Wasm and as native.
#[derive(Clone)]
struct Both {
    wasm: Module,
    native: Module,
}

impl Both {
    fn load(name: &str) -> Result<Self> {
        let cache_dir = CacheDir::At(target_folder().join("conformance-cache"));
        // Both must draw the same random bytes, each time anew.
        let loader = Loader::new(LoaderOptions { cache_dir, seed: Some(1), ..LoaderOptions::default() });
        let load = |kind| Module::load(&find(name, kind)?, &loader).map_err(anyhow::Error::from);
        Ok(Self { wasm: load(Kind::Wasm)?, native: load(Kind::Native)? })
    }

    fn modules(&self) -> [(Kind, &Module); 2] {
        [(Kind::Wasm, &self.wasm), (Kind::Native, &self.native)]
    }
}

fn configure(module: &Module, options: &[String]) -> Result<Configured> {
    Ok(module.configure(resolve(module.descriptor(), None, options)?)?)
}

/// Plays a transcript once.
fn play_once(module: &Module, transcript: &Transcript, split: Split) -> Result<(Record, ModuleReport)> {
    let configured = configure(module, &transcript.options)?;
    let record = play(&configured, transcript, split)?;
    Ok((record, configured.report()))
}

/// Plays a transcript in all ways, and returns what came of it.
fn check(both: &Both, transcript: &Transcript) -> Result<Record> {
    let (expected, report) = play_once(&both.wasm, transcript, Split::Whole).context("as Wasm, whole")?;
    let mut splits = vec![Split::Whole];
    if transcript.bytes() <= BYTE_BY_BYTE {
        splits.push(Split::Bytes);
    }
    let seeds = if transcript.bytes() <= BYTE_BY_BYTE { SEEDS } else { 2 };
    splits.extend((0..seeds).flat_map(|seed| [Split::Random(seed), Split::Twins(seed)]));
    for (kind, module) in both.modules() {
        for split in &splits {
            let played = || format!("as {}, {split:?}", kind.name());
            let (record, counted) = play_once(module, transcript, *split).with_context(played)?;
            if let Some(difference) = difference(&expected, &record) {
                bail!("{} it decides otherwise:\n{difference}", played());
            }
            // Twins count twice.
            if !matches!(split, Split::Twins(_)) {
                let same = counted.counts == report.counts && counted.gave_up == report.gave_up;
                ensure!(same, "{} it counts otherwise: {counted:?} instead of {report:?}", played());
            }
        }
    }
    Ok(expected)
}

/// Where two records differ first.
fn difference(expected: &Record, got: &Record) -> Option<String> {
    if expected == got {
        return None;
    }
    let shown = |text: String| text.chars().take(2000).collect::<String>();
    let steps = expected.steps.iter().zip(&got.steps).enumerate();
    for (number, (expected, got)) in steps {
        if expected != got {
            // As text, for bytes are what differs.
            let text = |decisions: &[tcpcopy_conformance::Decision]| shown(readable(decisions));
            return Some(format!("step {number}:\n  expected {}\n  got      {}", text(expected), text(got)));
        }
    }
    if let Some(at) = (0..expected.wanted.len()).find(|at| expected.wanted.get(*at) != got.wanted.get(*at)) {
        return Some(format!(
            "wanted after step {at}: {:?} {:?}",
            expected.wanted.get(at),
            got.wanted.get(at)
        ));
    }
    let rest = |record: &Record| {
        shown(format!("{} unanswered, undecided \"{}\"", record.unanswered, record.undecided.escape_ascii()))
    };
    Some(format!("in the end:\n  expected {}\n  got      {}", rest(expected), rest(got)))
}

fn readable(decisions: &[tcpcopy_conformance::Decision]) -> String {
    use tcpcopy_conformance::Decision;
    let one = |decision: &Decision| match decision {
        Decision::Forward(bytes) => format!("Forward(\"{}\")", bytes.escape_ascii()),
        Decision::Discard(bytes) => format!("Discard(\"{}\")", bytes.escape_ascii()),
        Decision::Send(bytes) => format!("Send(\"{}\")", bytes.escape_ascii()),
        other => format!("{other:?}"),
    };
    decisions.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A fixture. Those of other plugins are hostile input, and without their options.
fn fixture(name: &str, group: &str, file: &Path) -> Result<()> {
    let mut transcript = fixtures::read(file)?;
    if group != name {
        transcript.options.clear();
    }
    check(&Both::load(name)?, &transcript).map(drop)
}

/// All connections of a capture. What was captured completely is decided about completely.
fn capture(name: &str, capture: &Capture, sniff: corpus::Sniff) -> Result<()> {
    let both = Both::load(name)?;
    for transcript in corpus::transcripts(capture, sniff)? {
        let record = check(&both, &transcript).with_context(|| transcript.name.clone())?;
        let is_whole =
            transcript.origin == Origin::Start && !transcript.steps.contains(&tcpcopy_conformance::Step::Gap);
        let left = record.undecided.len();
        let may_be_left = !is_whole || INCOMPLETE.contains(&corpus::file_name(&capture.file).as_str());
        ensure!(left == 0 || may_be_left, "{}: {left} bytes were not decided about", transcript.name);
    }
    Ok(())
}

/// Names of plugins that were built both ways.
fn plugins() -> Vec<String> {
    let files = std::fs::read_dir(plugin_folder()).into_iter().flatten().flatten();
    let wasm =
        files.map(|file| file.path()).filter(|file| file.extension().is_some_and(|kind| kind == "wasm"));
    let name = |file: std::path::PathBuf| Some(file.file_stem()?.to_str()?.to_owned());
    let mut names: Vec<String> =
        wasm.filter_map(name).filter(|name| find(name, Kind::Native).is_ok()).collect();
    names.sort();
    names
}

/// That there is something to test.
fn all_are_built() -> Result<()> {
    let names = plugins();
    let missing: Vec<&str> =
        ["http", "redis"].into_iter().filter(|name| !names.iter().any(|known| known == name)).collect();
    let required = std::env::var(REQUIRE_LAB).is_ok_and(|value| value != "0");
    ensure!(
        missing.is_empty() || !required,
        "not built: {} in {}\nhint: cargo xtask build-plugins",
        missing.join(", "),
        plugin_folder().display()
    );
    if !missing.is_empty() {
        eprintln!("skipped: {} not built; cargo xtask build-plugins", missing.join(" and "));
    }
    Ok(())
}

fn trial(name: String, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || run().map_err(|error| Failed::from(format!("{error:#}"))))
}

fn main() -> Result<()> {
    let arguments = Arguments::from_args();
    let mut trials = vec![trial("all_are_built".to_owned(), all_are_built)];
    let (files, captures) = (fixtures::files()?, corpus::captures()?);
    for name in plugins() {
        for (group, file) in files.clone() {
            let title =
                format!("{name}::{group}::{}", file.file_stem().unwrap_or_default().to_string_lossy());
            let name = name.clone();
            trials.push(trial(title, move || fixture(&name, &group, &file)));
        }
        let Some(sniff) = corpus::sniff_for(&name) else { continue };
        for found in captures.clone() {
            let title = format!("{name}::corpus::{}", corpus::file_name(&found.file));
            let name = name.clone();
            trials.push(trial(title, move || capture(&name, &found, sniff)));
        }
    }
    libtest_mimic::run(&arguments, trials).exit()
}
