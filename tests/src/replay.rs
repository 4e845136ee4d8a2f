//! Starting the two programs as a user would, and ending them once everything captured has been delivered.

use crate::host::{Family, Host, RunningHost};
use crate::lab::Lab;
use crate::plugin::{Kind, Module, Through};
use crate::process::{Pipes, Process, Usage};
use crate::programs::Program;
use crate::report::Report;
use crate::wait::{wait_for, wait_until};
use anyhow::{Context, Result, ensure};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// The port that `intercept` listens on by default.
pub const RELAY_PORT: u16 = 36524;

/// How long a program may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How to replay.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// Port of the server, on online and target alike.
    pub port: u16,
    /// More such ports.
    pub more_ports: Vec<u16>,
    /// IP version of the replayed traffic.
    pub family: Family,
    /// More options for `tcpcopy`.
    pub tcpcopy: Vec<String>,
    /// More options for `intercept`.
    pub intercept: Vec<String>,
    /// Plugins for `tcpcopy`.
    pub modules: Vec<Module>,
    /// The filter that `intercept` gets, instead of the right one.
    pub intercept_filter: Option<String>,
    /// How long the target may take to get what the online server got, once the load has ended.
    pub catch_up: Duration,
}

impl ReplayOptions {
    /// Replays one port over IPv4 with the programs' defaults.
    pub fn new(port: u16) -> Self {
        Self {
            port,
            more_ports: Vec::new(),
            family: Family::V4,
            tcpcopy: Vec::new(),
            intercept: Vec::new(),
            modules: Vec::new(),
            intercept_filter: None,
            catch_up: Duration::from_secs(60),
        }
    }

    /// With another IP version.
    pub fn over(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// With more options for `tcpcopy`, separated by spaces.
    pub fn tcpcopy(mut self, words: &str) -> Self {
        self.tcpcopy.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    /// Of another port too.
    pub fn and_port(mut self, port: u16) -> Self {
        self.more_ports.push(port);
        self
    }

    /// Through a plugin.
    pub fn module(mut self, module: Module) -> Self {
        self.modules.push(module);
        self
    }

    /// Through the plugin that `make` makes, or none.
    pub fn through(self, through: Through, make: impl FnOnce(Kind) -> Module) -> Self {
        match through {
            Through::Nothing => self,
            Through::Plugin(kind) => self.module(make(kind)),
        }
    }

    fn ports(&self) -> impl Iterator<Item = u16> {
        std::iter::once(self.port).chain(self.more_ports.iter().copied())
    }

    /// With more options for `intercept`, separated by spaces.
    pub fn intercept(mut self, words: &str) -> Self {
        self.intercept.extend(words.split_whitespace().map(str::to_owned));
        self
    }
}

/// Writes a file with the token that both programs share, readable by its owner alone, and returns its path.
///
/// # Errors
/// When it can't be written.
pub fn token_file(lab: &Lab, name: &str, token: &str) -> Result<PathBuf> {
    let file = lab.folder().join(name);
    let mut options = std::fs::OpenOptions::new();
    let mut open = options.write(true).create(true).truncate(true).mode(0o600).open(&file)?;
    std::io::Write::write_all(&mut open, format!("{token}\n").as_bytes())?;
    Ok(file)
}

/// Starts `intercept` on the assistant with `args` and waits until it captures and listens.
///
/// # Errors
/// When it is not built, ends, or does not get ready.
pub fn start_intercept(lab: &Lab, port: u16, args: &[String]) -> Result<Process> {
    let host = lab.host(Host::Assistant);
    let captures = host.packet_sockets()?;
    let mut command = Command::new(Program::Intercept.find()?);
    command.args(args);
    let mut process = host.spawn("intercept", command)?;
    wait_until("intercept to capture and listen", PATIENCE, || {
        process.check_running()?;
        let listens =
            host.tcp_sockets()?.iter().any(|socket| socket.is_listener() && socket.local_port == port);
        Ok(listens && host.packet_sockets()? > captures)
    })
    .with_context(|| process.output())?;
    Ok(process)
}

/// A running `tcpcopy`.
pub struct Tcpcopy {
    /// The process.
    pub process: Process,
    stats: PathBuf,
}

impl Tcpcopy {
    /// Starts it on the online host with `args` and a statistics file. Does not wait until it is ready.
    ///
    /// # Errors
    /// When it is not built.
    pub fn start(lab: &Lab, args: &[String]) -> Result<Self> {
        Self::start_piped(lab, args, Pipes::default())
    }

    /// As [`Tcpcopy::start`], with its standard input or output a pipe.
    ///
    /// # Errors
    /// When it is not built.
    pub fn start_piped(lab: &Lab, args: &[String], pipes: Pipes) -> Result<Self> {
        let host = lab.host(Host::Online);
        let mut command = Command::new(Program::Tcpcopy.find()?);
        let number = std::fs::read_dir(lab.folder())?.count();
        let stats = lab.folder().join(format!("stats-{number}.json"));
        command.args(args).arg("--stats-json").arg(&stats).args(["--stats-interval", "1"]);
        Ok(Self { process: host.spawn_piped("tcpcopy", command, pipes)?, stats })
    }

    /// Waits until it captures, and is connected to an `intercept`. `captures` is the number of captures that were open on
    /// its host before.
    ///
    /// # Errors
    /// When it ends, or does not get ready.
    pub fn wait_ready(&mut self, lab: &Lab, captures: usize) -> Result<()> {
        let host = lab.host(Host::Online);
        wait_until("tcpcopy to capture and to be connected", PATIENCE, || {
            self.process.check_running()?;
            Ok(host.packet_sockets()? > captures && is_connected(host)?)
        })
        .with_context(|| self.process.output())?;
        // Several workers open their captures one after another, and proof of the token follows the connection.
        std::thread::sleep(Duration::from_millis(200));
        self.process.check_running()
    }

    /// The latest report, once there is one.
    ///
    /// # Errors
    /// When none comes.
    pub fn report(&mut self) -> Result<Report> {
        let stats = self.stats.clone();
        wait_for("a report of tcpcopy", PATIENCE, || {
            self.process.check_running()?;
            Ok(Report::read(&stats).ok())
        })
    }

    /// Waits until it has captured nothing between two reports, and no request waits.
    ///
    /// # Errors
    /// When it ends, or requests still wait at the end of `limit`.
    pub fn wait_caught_up(&mut self, limit: Duration) -> Result<Report> {
        let mut last: Option<(f64, u64)> = None;
        wait_for("the target to catch up", limit, || {
            let report = self.report()?;
            let written =
                report.json()["elapsed_seconds"].as_f64().context("a report without elapsed_seconds")?;
            let captured = report.counter("packets_captured")?;
            let Some((before, captured_before)) = last.replace((written, captured)) else { return Ok(None) };
            if written == before {
                // The same report again; its being quiet says nothing new.
                return Ok(None);
            }
            let is_settled = captured == captured_before && report.counter("requests_waiting")? == 0;
            Ok(is_settled.then_some(report))
        })
        .with_context(|| {
            format!("last report: {:?}", Report::read(&self.stats).map(|report| report.json().clone()))
        })
    }

    /// Waits until it ends by itself and reads its closing report.
    ///
    /// # Errors
    /// When it does not end within `limit`, or the counters don't add up. How it ended is for the caller to look at.
    pub fn wait_end(&mut self, limit: Duration) -> Result<Stopped> {
        let mut usage = Usage::default();
        let status = wait_for("tcpcopy to end by itself", limit, || {
            // What it has used is gone with it; nearly all of it is seen a few milliseconds before.
            if let Ok(now) = self.process.usage() {
                usage = now;
            }
            self.process.try_status()
        });
        let status = status.with_context(|| self.process.output())?;
        let output = self.process.output();
        let report = Report::read(&self.stats).with_context(|| format!("{status}; it wrote:\n{output}"))?;
        report.check_sums().with_context(|| report.json().to_string())?;
        Ok(Stopped { report, status, usage, output })
    }

    /// Ends it as Ctrl-C does and reads its closing report.
    ///
    /// # Errors
    /// When it does not end well, or the counters don't add up.
    pub fn stop(&mut self) -> Result<Stopped> {
        let usage = self.process.usage()?;
        let status = self.process.interrupt(PATIENCE)?;
        let report = Report::read(&self.stats)?;
        report.check_sums().with_context(|| report.json().to_string())?;
        Ok(Stopped { report, status, usage, output: self.process.output() })
    }
}

/// Whether a relay connection from this host is up.
///
/// # Errors
/// When the kernel's list of sockets can't be read.
pub fn is_connected(host: &RunningHost) -> Result<bool> {
    Ok(host.tcp_sockets()?.iter().any(|socket| socket.is_established() && socket.remote_port == RELAY_PORT))
}

/// What is left of a `tcpcopy`.
#[derive(Debug)]
pub struct Stopped {
    /// The closing report.
    pub report: Report,
    /// How it ended.
    pub status: ExitStatus,
    /// What it had used just before it was stopped.
    pub usage: Usage,
    /// All that it wrote.
    pub output: String,
}

/// One `tcpcopy` and one `intercept`, at work.
pub struct Replay<'lab> {
    lab: &'lab Lab,
    /// The one on the online host.
    pub tcpcopy: Tcpcopy,
    /// The one on the assistant.
    pub intercept: Process,
    catch_up: Duration,
}

/// A finished replay.
#[derive(Debug)]
pub struct Finished {
    /// Of `tcpcopy`.
    pub tcpcopy: Stopped,
    /// What `intercept` had used just before it was stopped.
    pub intercept: Usage,
    /// All that `intercept` wrote.
    pub intercept_output: String,
}

impl Finished {
    /// The closing report of `tcpcopy`.
    pub fn report(&self) -> &Report {
        &self.tcpcopy.report
    }
}

impl<'lab> Replay<'lab> {
    /// Starts both and waits until they are ready.
    ///
    /// # Errors
    /// When one is not built, ends, or does not get ready.
    pub fn start(lab: &'lab Lab, options: &ReplayOptions) -> Result<Self> {
        let token = token_file(lab, "token", "a token for the lab, long enough")?;
        let intercept = start_intercept(lab, RELAY_PORT, &intercept_args(options, &token))?;
        let captures = lab.host(Host::Online).packet_sockets()?;
        let mut tcpcopy = Tcpcopy::start(lab, &tcpcopy_args(options, &token))?;
        tcpcopy.wait_ready(lab, captures)?;
        Ok(Self { lab, tcpcopy, intercept, catch_up: options.catch_up })
    }

    /// Waits until the target has what the online server got, ends both programs and reads the closing report.
    ///
    /// # Errors
    /// When requests still wait, a program has ended before or does not end well, or the counters don't add up.
    pub fn finish(mut self) -> Result<Finished> {
        self.tcpcopy.wait_caught_up(self.catch_up)?;
        self.stop()
    }

    /// Ends both programs at once and reads the closing report.
    ///
    /// # Errors
    /// When a program has ended before or does not end well, or the counters don't add up.
    pub fn stop(mut self) -> Result<Finished> {
        let tcpcopy = self.tcpcopy.stop()?;
        let intercept = self.intercept.usage()?;
        self.intercept.interrupt(PATIENCE)?;
        let left = self.lab.host(Host::Online).packet_sockets()?;
        ensure!(left == 0, "{left} packet sockets are left on the online host");
        Ok(Finished { tcpcopy, intercept, intercept_output: self.intercept.output() })
    }
}

/// The arguments that `intercept` gets.
pub fn intercept_args(options: &ReplayOptions, token: &Path) -> Vec<String> {
    let filter = options.intercept_filter.clone();
    let ports: Vec<String> = options.ports().map(|port| format!("src port {port}")).collect();
    let filter = filter.unwrap_or_else(|| match &ports[..] {
        [one] => format!("tcp and {one}"),
        many => format!("tcp and ({})", many.join(" or ")),
    });
    let listen = Host::Assistant.addr(Family::V4).to_string();
    let mut args: Vec<String> = ["-i", "eth0", "-F", &filter, "-b", &listen].map(str::to_owned).into();
    args.extend(["--token-file".to_owned(), token.display().to_string()]);
    args.extend(options.intercept.iter().cloned());
    args
}

/// The arguments that `tcpcopy` gets.
pub fn tcpcopy_args(options: &ReplayOptions, token: &Path) -> Vec<String> {
    let transfers =
        options.ports().map(|port| format!("{port}-{}", Host::Target.socket(options.family, port)));
    let transfer = transfers.collect::<Vec<_>>().join(",");
    let relay = Host::Assistant.addr(Family::V4).to_string();
    let mut args: Vec<String> = ["-x", &transfer].map(str::to_owned).into();
    if !options.tcpcopy.iter().any(|word| word == "-s") {
        args.extend(["-s".to_owned(), relay]);
    }
    args.extend(["--token-file".to_owned(), token.display().to_string()]);
    args.extend(options.modules.iter().flat_map(Module::arguments));
    args.extend(options.tcpcopy.iter().cloned());
    args
}
