//! `cargo xtask test`

use crate::cargo::{build_tests, cargo, run as run_command};
use crate::mysql;
use crate::setup::{self, Pcap};
use anyhow::{Context, Result};
use std::process::{Command, ExitCode, Stdio};
use tcpcopy_lab::privilege::{self, Privilege};
use tcpcopy_lab::{programs, tools};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this
    filter: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::install(tools::TESTS, Pcap::Needed)?;
    mysql::install()?;
    if std::env::var_os("TCPCOPY_CORPUS").is_some() {
        setup::install(&[tools::TSHARK], Pcap::Needed)?;
    }
    let with_nextest = has_nextest();
    let runner: &[&str] = if with_nextest { &["nextest", "run"] } else { &["test"] };
    let programs = build_tests(runner)?;
    println!("==> running the tests");
    if with_nextest && args.filter.is_none() {
        // First, so that the summary of all other tests comes last.
        run_command(cargo(&["test", "--quiet", "--workspace", "--doc"]))?;
    }
    let mut command = cargo(&[runner, &["--workspace", "--no-fail-fast"]].concat());
    command.args(&args.filter).env(programs::BIN_DIR, programs);
    if privilege::current() == Privilege::None
        && (tools::Tool { program: "sudo", package: "sudo" }).find().is_some()
    {
        println!("    user namespaces are kept from users here: tests run with sudo");
        command.env(runner_variable()?, "sudo -E");
    }
    command.stdin(Stdio::null());
    run_command(command)?;
    Ok(ExitCode::SUCCESS)
}

fn has_nextest() -> bool {
    let mut probe = cargo(&["nextest", "--version"]);
    probe.stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// The variable by which cargo and nextest learn how to start a built test.
fn runner_variable() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("asking rustc for its host")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host =
        text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    Ok(format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_")))
}
