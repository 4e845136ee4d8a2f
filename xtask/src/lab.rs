//! `cargo xtask lab`: the four hosts, to play with.

use crate::setup::{self, Pcap};
use crate::{cargo, setup::gain_privilege};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tcpcopy_lab::lab::{Load, base_folder};
use tcpcopy_lab::nginx::Nginx;
use tcpcopy_lab::redis::RedisServer;
use tcpcopy_lab::replay::token_file;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, privilege, programs, tools};

const OPTIONS: LabOptions = LabOptions {
    target_routes: tcpcopy_lab::lab::TargetRoutes::ViaAssistant,
    forwarding: tcpcopy_lab::lab::Forwarding::Off,
    load: Load::Light,
};

/// What to do with the lab.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Raise it with servers, and open a shell on the online host; everything ends with the shell
    Shell,
    /// Run a command on one of the hosts: of the lab that `lab shell` keeps open, else of a new one
    Run {
        /// client, online, target or assistant
        #[arg(value_parser = parse_host)]
        host: Host,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

fn parse_host(name: &str) -> Result<Host, String> {
    Host::from_name(name).ok_or_else(|| "not one of client, online, target, assistant".to_owned())
}

pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Shell => shell(),
        Command::Run { host, command } => run_on(host, &command),
    }
}

fn shell() -> Result<ExitCode> {
    let needed = [tools::LAB, &[tools::REDIS_SERVER, tools::NGINX]].concat();
    if !setup::is_prepared() {
        setup::install(&needed, Pcap::Needed)?;
        cargo::build_programs()?;
        cargo::run(cargo::cargo(&["build", "--quiet", "--release", "-p", "tcpcopy-lab", "--bins"]))?;
    }
    gain_privilege()?;
    let lab = Lab::raise(OPTIONS)?;
    let (online, target) = (lab.host(Host::Online), lab.host(Host::Target));
    let _servers = (
        RedisServer::start(online, 6379)?,
        RedisServer::start(target, 6379)?,
        Nginx::start(online, 8080)?,
        Nginx::start(target, 8080)?,
    );
    let bin = write_commands(&lab)?;
    let _state = State::write(&lab)?;
    let token = token_file(&lab, "token", "a token for the lab, long enough")?;
    print!("{}", introduction(&token));
    let path = std::env::var("PATH").unwrap_or_default();
    let built = programs::target_folder().join("release");
    let mut shell = std::process::Command::new("bash");
    shell.args(["--norc", "-i"]).env("PS1", "lab(online)$ ");
    shell.env("PATH", format!("{}:{}:{path}:/usr/sbin:/sbin", bin.display(), built.display()));
    let status = online.run_in_terminal(shell)?;
    println!("the lab is gone");
    Ok(exit_code(status))
}

fn introduction(token: &Path) -> String {
    let mut text =
        String::from("\nFour hosts on one wire; redis (6379) and nginx (8080) run on online and target.\n");
    for host in Host::ALL {
        let (v4, v6) = (host.addr(Family::V4), host.addr(Family::V6));
        let _ = writeln!(text, "  {:<10} {v4:<12} {v6}", host.name());
    }
    let (assistant, target) = (Host::Assistant.addr(Family::V4), Host::Target.addr(Family::V4));
    let online = Host::Online.addr(Family::V4);
    let token = token.display();
    let _ = write!(
        text,
        "\nThis shell is on the online host; `HOST COMMAND` runs a command on another one. To replay redis traffic:
  assistant intercept -i eth0 -F 'tcp and src port 6379' -b {assistant} --token-file {token} &
  tcpcopy -x 6379-{target}:6379 -s {assistant} --token-file {token} &
  client lab-load {online}:6379
  target redis-cli info commandstats
From elsewhere: cargo xtask lab run HOST COMMAND. `exit` removes everything.\n\n"
    );
    text
}

/// Writes a command for each host that runs its arguments there, and returns the folder.
fn write_commands(lab: &Lab) -> Result<PathBuf> {
    let folder = lab.folder().join("bin");
    std::fs::create_dir_all(&folder)?;
    for host in Host::ALL {
        let file = folder.join(host.name());
        let path = lab.host(host).namespace().path();
        std::fs::write(&file, format!("#!/bin/sh\nexec nsenter --net={} -- \"$@\"\n", path.display()))?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(folder)
}

/// A file that tells other processes of the open lab; it is removed with this value.
struct State(PathBuf);

impl State {
    fn file() -> PathBuf {
        base_folder().join("shell.json")
    }

    fn write(lab: &Lab) -> Result<Self> {
        let file = Self::file();
        let paths = Host::ALL.map(|host| (host.name().to_owned(), lab.host(host).namespace().path()));
        let hosts: serde_json::Map<String, serde_json::Value> =
            paths.into_iter().map(|(name, path)| (name, path.display().to_string().into())).collect();
        let state = serde_json::json!({ "process": std::process::id(), "hosts": hosts });
        std::fs::write(&file, state.to_string()).with_context(|| format!("writing {}", file.display()))?;
        Ok(Self(file))
    }

    /// Process id and the host's namespace of the open lab, if there is one.
    fn read(host: Host) -> Option<(u64, String)> {
        let state: serde_json::Value = serde_json::from_slice(&std::fs::read(Self::file()).ok()?).ok()?;
        let process = state["process"].as_u64()?;
        let path = state["hosts"][host.name()].as_str()?;
        Path::new(path).exists().then(|| (process, path.to_owned()))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // A file that stays is seen to be stale: the process in it is gone.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn run_on(host: Host, words: &[String]) -> Result<ExitCode> {
    let Some((program, args)) = words.split_first() else { bail!("no command") };
    if let Some((process, path)) = State::read(host) {
        let mut nsenter = std::process::Command::new("nsenter");
        if privilege::current() != privilege::Privilege::Direct {
            nsenter.args(["--target", &process.to_string(), "--user", "--preserve-credentials"]);
        }
        nsenter.arg(format!("--net={path}")).arg("--").args(words);
        return Err(nsenter.exec()).context("starting nsenter");
    }
    if !setup::is_prepared() {
        setup::install(tools::LAB, Pcap::NotNeeded)?;
    }
    gain_privilege()?;
    let lab = Lab::raise(OPTIONS)?;
    let mut command = std::process::Command::new(program);
    command.args(args);
    Ok(exit_code(lab.host(host).run_in_terminal(command)?))
}

fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
