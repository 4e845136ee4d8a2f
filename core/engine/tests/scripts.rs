//! Packet scripts: every session behaviour, one scenario a file, in virtual time (`docs/packet-scripts.md`).
//!
//! Each `.pkt` file below `tests/scripts` is one test, run once for each [`Variant`]. A script says everything that the engine
//! may do; anything more is a failure, and a failure prints what really happened in the language of the scripts.

mod script;

use libtest_mimic::{Arguments, Failed, Trial};
use script::grammar::Script;
use script::proof;
use script::run::{self, Failure};
use script::variant::Variant;
use std::fs;
use std::path::{Path, PathBuf};

/// Set to `update`, the scripts are rewritten with what really happened, to be looked through with `git diff`.
const MODE: &str = "PACKET_SCRIPTS";

fn main() {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scripts");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let trials = files.into_iter().map(|file| {
        let name = file.strip_prefix(&root).unwrap_or(&file).with_extension("");
        Trial::test(name.to_string_lossy().replace('/', "::"), move || check(&file))
    });
    let proofs = [
        Trial::test("runner::differences_are_found", || proof::differences_are_found().map_err(Failed::from)),
        Trial::test("runner::nonsense_is_refused", || proof::nonsense_is_refused().map_err(Failed::from)),
    ];
    libtest_mimic::run(&arguments, trials.chain(proofs).collect()).exit();
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder of scripts can be read") {
        let path = entry.expect("the folder of scripts can be read").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "pkt") {
            into.push(path);
        }
    }
}

fn check(file: &Path) -> Result<(), Failed> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let script = Script::parse(&text).map_err(|error| format!("{}:{error}", file.display()))?;
    for variant in Variant::all().filter(|variant| script.runs_under(variant)) {
        let Err(Failure { line, what, trace }) = run::run(&script, variant) else { continue };
        if std::env::var(MODE).is_ok_and(|mode| mode == "update") {
            fs::write(file, &trace).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        let file = file.display();
        return Err(
            format!("{file}:{line}: {what}\nunder {variant}\n\nwhat really happened:\n\n{trace}").into()
        );
    }
    Ok(())
}
