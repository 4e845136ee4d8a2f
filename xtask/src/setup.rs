//! Installing what is missing, with the system's package manager, and getting the right to raise a lab.

use anyhow::{Context, Result, bail, ensure};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use tcpcopy_lab::privilege::{self, Privilege};
use tcpcopy_lab::tools::Tool;

/// Set in a process that was started again with more rights: everything is installed and built.
const PREPARED: &str = "TCPCOPY_XTASK_PREPARED";

/// Where Debian's and Ubuntu's libpcap-dev puts the header that shows it is there.
const PCAP_HEADERS: [&str; 2] = ["/usr/include/pcap/pcap.h", "/usr/local/include/pcap/pcap.h"];

/// Whether libpcap's development files are needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pcap {
    /// They are: programs get built.
    Needed,
    /// They are not.
    NotNeeded,
}

/// Installs the packages of those `tools` that are missing, and says so.
pub(crate) fn install(tools: &[Tool], pcap: Pcap) -> Result<()> {
    let mut packages: Vec<&str> = missing(tools).collect();
    if pcap == Pcap::Needed && !PCAP_HEADERS.iter().any(|header| Path::new(header).exists()) {
        packages.push("libpcap-dev");
    }
    install_packages(packages)
}

/// The packages of those `tools` that are not installed.
pub(crate) fn missing(tools: &[Tool]) -> impl Iterator<Item = &'static str> {
    tools.iter().filter(|tool| tool.find().is_none()).map(|tool| tool.package)
}

/// Installs packages, and says so.
pub(crate) fn install_packages(mut packages: Vec<&str>) -> Result<()> {
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let apt = Tool { program: "apt-get", package: "apt" };
    if apt.find().is_none() {
        bail!(
            "missing: {list}\nhint: install these packages (Debian's names) with your system's package manager"
        );
    }
    println!("==> installing {list}");
    apt_get(&["update", "-qq"])?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    apt_get(&[&install, packages.as_slice()].concat())?;
    let services: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| matches!(*package, "redis-server" | "nginx-light"))
        .collect();
    if !services.is_empty() && Path::new("/run/systemd/system").exists() {
        println!(
            "    note: the system may now run services of {}; the lab does not use them \
             (systemctl disable --now redis-server nginx)",
            services.join(" and ")
        );
    }
    Ok(())
}

/// The Rust target that plugins are built for.
pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// Installs Rust's library for [`WASM_TARGET`] if it is missing, and says so.
pub(crate) fn install_wasm_target() -> Result<()> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.current_dir(tcpcopy_lab::programs::workspace()).args([
        "--print",
        "target-libdir",
        "--target",
        WASM_TARGET,
    ]);
    let output = rustc.output().with_context(|| format!("running {rustc:?}"))?;
    if Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir() {
        return Ok(());
    }
    if (Tool { program: "rustup", package: "rustup" }).find().is_none() {
        bail!(
            "Rust's target {WASM_TARGET} is missing, and there is no rustup to install it with\n\
             hint: plugins are built for it; install Rust with rustup (https://rustup.rs), or the package of your \
             distribution that has this target's library (Debian: libstd-rust-dev-wasm32)"
        );
    }
    println!("==> installing Rust's target {WASM_TARGET}");
    let mut rustup = Command::new("rustup");
    rustup.current_dir(tcpcopy_lab::programs::workspace()).args(["target", "add", WASM_TARGET]);
    let status = rustup.status().with_context(|| format!("running {rustup:?}"))?;
    ensure!(
        status.success(),
        "rustup target add {WASM_TARGET} failed ({status})\nhint: try it by hand; it downloads from static.rust-lang.org"
    );
    Ok(())
}

fn apt_get(words: &[&str]) -> Result<()> {
    let mut command = if privilege::current() == Privilege::Direct && !privilege::is_reentered() {
        Command::new("apt-get")
    } else {
        let sudo = Tool { program: "sudo", package: "sudo" };
        ensure!(sudo.find().is_some(), "installing packages needs root\nhint: run the same command as root");
        let mut command = Command::new("sudo");
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    };
    command.env("DEBIAN_FRONTEND", "noninteractive").args(words).stdin(std::process::Stdio::null());
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    ensure!(
        status.success(),
        "apt-get {} failed ({status})\nhint: try it by hand; packages come from the system's own archive",
        words.join(" ")
    );
    Ok(())
}

/// Whether this process was started again by [`gain_privilege`]: then installing and building are done.
pub(crate) fn is_prepared() -> bool {
    privilege::is_reentered() || std::env::var_os(PREPARED).is_some()
}

/// Returns when this process may raise a lab; if need be it starts itself again, in a user namespace or with sudo.
pub(crate) fn gain_privilege() -> Result<()> {
    let sudo = Tool { program: "sudo", package: "sudo" };
    if privilege::current() == Privilege::None
        && let Some(sudo) = sudo.find()
    {
        println!("==> this kernel keeps user namespaces from users: starting again with sudo");
        let mut command = Command::new(sudo);
        command.arg(format!("{PREPARED}=1"));
        for name in [tcpcopy_lab::programs::BIN_DIR, tcpcopy_lab::lab::LAB_DIR, "CARGO_TARGET_DIR"] {
            if let Ok(value) = std::env::var(name) {
                command.arg(format!("{name}={value}"));
            }
        }
        command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
        return Err(command.exec()).context("starting sudo");
    }
    privilege::enter()
}
