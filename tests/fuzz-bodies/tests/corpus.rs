//! Every fuzz body over its seeds, over every input that once failed, and over mutations of both, the same in each run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tcpcopy_fuzz_bodies::mutation::{Rng, mutate};
use tcpcopy_fuzz_bodies::{TARGETS, Target, seeds};

/// Mutations of all files of a target together.
const MUTATIONS: u64 = 30_000;
/// No input of a few hundred bytes is worth more than this; a parser that takes longer can be made to hang.
const LONGEST: Duration = Duration::from_secs(10);

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The files of a folder by name; none when there is no such folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.expect("an entry of the corpus").path())
        .map(|path| (path.display().to_string(), fs::read(&path).expect("a file of the corpus")))
        .collect();
    files.sort();
    files
}

/// Runs one input, and says which it was when it fails.
fn run(target: Target, name: &str, input: &[u8]) {
    struct Shown<'a>(&'a str, &'a [u8]);
    impl Drop for Shown<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let hex: String = self.1.iter().map(|byte| format!("{byte:02x}")).collect();
                eprintln!("failed on {}: {hex}", self.0);
            }
        }
    }
    let shown = Shown(name, input);
    let started = Instant::now();
    (target.body)(input);
    assert!(started.elapsed() < LONGEST, "took {:?}", started.elapsed());
    drop(shown);
}

fn run_target(name: &str) {
    let target = *TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    let seeds = files(&fuzz_folder().join("corpus").join(name));
    assert!(
        !seeds.is_empty(),
        "fuzz/corpus/{name} is empty: cargo run -p tcpcopy-fuzz-bodies --example make-corpus"
    );
    let mut inputs = files(&fuzz_folder().join("regressions").join(name));
    inputs.extend(seeds);
    for (name, input) in &inputs {
        run(target, name, input);
    }
    for seed in 0..MUTATIONS {
        let mut rng = Rng::new(seed);
        let (name, input) = &inputs[seed as usize % inputs.len()];
        let (_, other) = &inputs[rng.below(inputs.len())];
        let mut input = input.clone();
        mutate(&mut input, other, &mut rng);
        run(target, &format!("{name}, mutation {seed}"), &input);
    }
}

#[test]
fn seeds_are_those_in_the_repository() {
    for target in TARGETS {
        let folder = fuzz_folder().join("corpus").join(target.name);
        let found: Vec<String> = files(&folder).into_iter().map(|(name, _)| name).collect();
        let mut made = seeds::seeds_of(target.name);
        made.sort_by(|a, b| a.name.cmp(&b.name));
        let wanted: Vec<String> =
            made.iter().map(|seed| folder.join(&seed.name).display().to_string()).collect();
        assert_eq!(found, wanted, "cargo run -p tcpcopy-fuzz-bodies --example make-corpus");
        for seed in made {
            let file = folder.join(&seed.name);
            assert_eq!(fs::read(&file).expect("a seed"), seed.bytes, "{}", file.display());
        }
    }
}

#[test]
fn every_target_has_its_body() {
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).expect("fuzz/Cargo.toml");
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
        let source = fuzz_folder().join("fuzz_targets").join(format!("{}.rs", target.name));
        let source = fs::read_to_string(source).expect("the target's source");
        assert!(source.contains(&format!("tcpcopy_fuzz_bodies::{}(data)", target.name)), "{}", target.name);
    }
}

#[test]
fn capture_file() {
    run_target("capture_file");
}

#[test]
fn wire() {
    run_target("wire");
}

#[test]
fn options() {
    run_target("options");
}

#[test]
fn fragments() {
    run_target("fragments");
}

#[test]
fn relay_client() {
    run_target("relay_client");
}

#[test]
fn relay_server() {
    run_target("relay_server");
}

#[test]
fn transfers() {
    run_target("transfers");
}

#[test]
fn session() {
    run_target("session");
}

#[test]
fn http() {
    run_target("http");
}

#[test]
fn redis() {
    run_target("redis");
}

#[test]
fn mysql() {
    run_target("mysql");
}
