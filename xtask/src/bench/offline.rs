//! `cargo xtask bench --offline`: how fast capture files are read and played, with nothing sent.

use crate::cargo;
use anyhow::{Context, Result};
use std::process::ExitCode;
use tcpcopy_lab::programs;

/// Size of the capture, in megabytes.
const MEGABYTES: &str = "500";
/// Port of the servers in it.
const PORT: &str = "80";

pub(super) fn run() -> Result<ExitCode> {
    let folder = programs::target_folder().join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let file = folder.join("offline.pcap");
    let name = file.display().to_string();
    let generate = [
        "run",
        "--quiet",
        "--release",
        "-p",
        "tcpcopy-inspect",
        "--example",
        "generate",
        "--",
        &name,
        MEGABYTES,
    ];
    let measure = [
        "run",
        "--quiet",
        "--release",
        "-p",
        "tcpcopy",
        "--example",
        "offline_throughput",
        "--",
        &name,
        PORT,
    ];
    let result = cargo::run(cargo::cargo(&generate)).and_then(|()| {
        println!("a capture of {MEGABYTES} MB, in the page cache\n");
        cargo::run(cargo::cargo(&measure))
    });
    let _ = std::fs::remove_file(&file);
    result.map(|()| ExitCode::SUCCESS)
}
