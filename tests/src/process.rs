//! A process in a host, with its output in a file, that ends with its guard.

use crate::tools;
use crate::wait::wait_for;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A running process. Dropping it kills the process.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Where a process reads from, and where it writes its standard output to, if that is a pipe.
#[derive(Default)]
pub struct Pipes {
    /// Instead of nothing at all.
    pub input: Option<PipeReader>,
    /// Instead of the log.
    pub output: Option<PipeWriter>,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// Highest resident memory, in bytes.
    pub peak_memory: u64,
}

/// `command`, arranged so that the kernel kills it when the thread that starts it ends.
pub(crate) fn tied_to_thread(command: &Command) -> Result<Command> {
    let mut tied = Command::new(tools::SETPRIV.require()?);
    tied.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        tied.current_dir(folder);
    }
    Ok(tied)
}

impl Process {
    /// Starts `command` on the calling thread, which must outlive the process, and sends its output to the file `log` but for
    /// what goes through `pipes`.
    pub(crate) fn start(name: &str, command: &Command, log: PathBuf, pipes: Pipes) -> Result<Self> {
        let out = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut tied = tied_to_thread(command)?;
        tied.stdin(pipes.input.map_or_else(Stdio::null, Stdio::from));
        tied.stdout(pipes.output.map_or(Stdio::from(out.try_clone()?), Stdio::from)).stderr(out);
        let child = tied.spawn().with_context(|| format!("starting {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file with its standard output and error.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// When the system can't tell.
    pub fn try_status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Fails if the process has ended, with what it wrote last.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}); its output:\n{}", self.name, self.tail()),
        }
    }

    /// Waits until its output has a line that contains `text`, and returns the line.
    ///
    /// # Errors
    /// When the process ends first, or the line does not come within `limit`.
    pub fn wait_for_line(&mut self, text: &str, limit: Duration) -> Result<String> {
        let what = format!("{} to write {text:?}", self.name);
        let found = wait_for(&what, limit, || {
            let line = self.output().lines().find(|line| line.contains(text)).map(str::to_owned);
            if line.is_none() {
                self.check_running()?;
            }
            Ok(line)
        });
        found.with_context(|| format!("output of {}:\n{}", self.name, self.tail()))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), signal)
            .with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        wait_for(&what, limit, || Ok(self.child.try_wait()?))
            .with_context(|| format!("output of {}:\n{}", self.name, self.tail()))
    }

    /// Interrupts it, as Ctrl-C does, and waits for its end.
    ///
    /// # Errors
    /// When it has ended before, does not end within `limit`, or ends by another signal.
    pub fn interrupt(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.check_running()?;
        self.signal(Signal::SIGINT)?;
        let status = self.wait(limit)?;
        match status.signal() {
            Some(signal) if signal != Signal::SIGINT as i32 => {
                bail!("{} died of signal {signal}; its output:\n{}", self.name, self.tail())
            }
            _ => Ok(status),
        }
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> Result<Usage> {
        usage_of(self.child.id()).with_context(|| format!("reading what {} uses", self.name))
    }

    fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // It may end by itself between the two calls; then there is nothing left to do.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn usage_of(id: u32) -> Result<Usage> {
    // The times in /proc are sampled at the timer's ticks on most systems, which a program that naps for microseconds falls
    // between; the process's own clock counts each nanosecond.
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(id)?))?;
    let cpu = Duration::from(clock_gettime(clock)?);
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let peak_kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .context("no VmHWM in status")?;
    Ok(Usage { cpu, peak_memory: peak_kib * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_a_running_process_is_not_empty() {
        let usage = usage_of(std::process::id()).unwrap();
        assert!(usage.peak_memory > 100_000, "{usage:?}");
    }
}
