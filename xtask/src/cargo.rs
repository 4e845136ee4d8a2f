//! Calling cargo.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;
use tcpcopy_lab::programs;

/// A cargo command in the workspace's folder.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(programs::workspace()).args(words);
    command
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?} failed ({status})\nhint: its own messages are above");
    Ok(())
}

/// Builds the two programs and the plugins, optimised, and returns the folder that the programs are in. A folder given by the
/// environment is taken as it is, and then the plugins that were built before are too.
pub(crate) fn build_programs() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(programs::BIN_DIR) {
        return Ok(folder.into());
    }
    println!("==> building tcpcopy and intercept (the first time takes a few minutes)");
    run(cargo(&["build", "--release", "--quiet", "--bin", "tcpcopy", "--bin", "intercept"]))?;
    crate::plugins::build()?;
    Ok(programs::target_folder().join("release"))
}

/// Builds the tests with everything that they start: the programs, with their checks on, and the plugins. Returns the folder that the
/// programs are in. A folder given by the environment is taken as it is, and then the plugins that were built before are too.
pub(crate) fn build_tests(runner: &[&str]) -> Result<PathBuf> {
    println!("==> building the tests and what they start (the first time takes several minutes)");
    // The programs come along, as those of packages that have integration tests; built by themselves, their dependencies would be
    // compiled once more with other features.
    run(cargo(&[runner, &["--workspace", "--no-run"]].concat()))?;
    if let Some(folder) = std::env::var_os(programs::BIN_DIR) {
        return Ok(folder.into());
    }
    crate::plugins::build()?;
    Ok(programs::target_folder().join("debug"))
}
