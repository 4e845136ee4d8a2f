//! How a test gets its lab.

use crate::lab::{Lab, LabOptions};
use crate::privilege::{Privilege, current, in_user_namespace, refusal};
use anyhow::Result;

/// When set to anything but `0`, a lab test that can't run fails instead of being skipped.
pub const REQUIRE_LAB: &str = "TCPCOPY_REQUIRE_LAB";

/// Raises a lab and runs a test in it.
///
/// Where only user namespaces give the right to raise a lab, the test's process is started again in one, for this test
/// alone. Where nothing does, the test is skipped, or fails if [`REQUIRE_LAB`] is set.
///
/// # Panics
/// When the test fails.
pub fn lab_test(options: LabOptions, body: impl FnOnce(&Lab) -> Result<()>) {
    match current() {
        Privilege::Direct => {
            let lab = Lab::raise(options).expect("raising the lab");
            // The panic comes while the lab is there, so that it keeps its logs.
            if let Err(error) = body(&lab) {
                panic!("{error:#}");
            }
        }
        Privilege::UserNamespace => {
            let name = this_test().expect("called from a test");
            let exe = std::env::current_exe().expect("a test has a file");
            let status = in_user_namespace(exe).args(["--exact", &name, "--nocapture"]).status();
            assert!(status.expect("unshare was there just now").success(), "{name} failed in its namespace");
        }
        Privilege::None => {
            let required = std::env::var(REQUIRE_LAB).is_ok_and(|value| value != "0");
            assert!(!required, "{}", refusal());
            eprintln!("skipped: {}", refusal());
        }
    }
}

/// Name of the running test: its thread's, or what `--exact` says when the harness runs it on the main thread.
fn this_test() -> Option<String> {
    let thread = std::thread::current();
    match thread.name() {
        Some(name) if name != "main" => Some(name.to_owned()),
        _ => {
            let args: Vec<String> = std::env::args().collect();
            let exact = args.iter().position(|arg| arg == "--exact")?;
            // libtest takes the filter before or after the flag.
            [args.get(exact + 1), args.get(exact - 1)]
                .into_iter()
                .flatten()
                .find(|arg| !arg.starts_with('-'))
                .cloned()
        }
    }
}
