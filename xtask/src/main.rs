//! `cargo xtask`: set-up, demo, tests, benchmarks and the lab.
//!
//! Owns what a newcomer types. Everything about hosts, servers and load is in `tcpcopy-lab`; nothing here needs a C library,
//! so that it runs on a machine where nothing is installed yet.
#![forbid(unsafe_code)]

mod bench;
mod cargo;
mod demo;
mod lab;
mod mysql;
mod plugins;
mod setup;
mod test;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, demo, tests, benchmarks and the lab")]
struct Args {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing for building and testing
    Setup,
    /// Install what is missing, raise the lab, replay live traffic in it and show what reached the target
    Demo,
    /// Install what is missing and run every test, the lab's included
    Test(test::Args),
    /// Measure CPU time and memory per request, and beside it those of a bare forwarder
    Bench(bench::Args),
    /// Simulate sessions against another TCP stack over a bad network: `--seeds 0..1000`, `--trace` for one
    Simulate {
        /// What `simulate` takes
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Build the plugins in plugins/, as WebAssembly components and as native libraries, into target/plugins
    BuildPlugins,
    /// Play with the four hosts
    #[command(subcommand)]
    Lab(lab::Command),
}

fn simulate(words: &[String]) -> anyhow::Result<ExitCode> {
    let mut command = cargo::cargo(&[
        "run",
        "--quiet",
        "--release",
        "--package",
        "tcpcopy-simulation",
        "--bin",
        "simulate",
        "--",
    ]);
    command.args(words);
    let status = command.status()?;
    // It has said itself which seeds failed.
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Task::Setup => setup::install(tcpcopy_lab::tools::TESTS, setup::Pcap::Needed)
            .and_then(|()| mysql::install())
            .and_then(|()| setup::install_wasm_target())
            .map(|()| ExitCode::SUCCESS),
        Task::Demo => demo::run(),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Simulate { words } => simulate(&words),
        Task::BuildPlugins => plugins::build().map(|_| ExitCode::SUCCESS),
        Task::Lab(command) => lab::run(command),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let text = format!("{error:#}");
            // A hint comes on a line of its own, whoever gave it.
            let (what, hint) = text.split_once("\nhint: ").unwrap_or((&text, "see CONTRIBUTING.md"));
            eprintln!("error: {what}\nhint: {hint}");
            ExitCode::FAILURE
        }
    }
}
