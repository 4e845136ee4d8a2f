//! What a program needs of its own process: going into the background, its pid file, what it uses, what it may do.

use crate::sys;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to do when a privilege is missing.
pub const CAPABILITY_HINT: &str =
    "run it as root (sudo), or give the program the privilege: setcap cap_net_raw,cap_net_admin+ep <program>";

/// Why something about the process itself failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The process could not go into the background.
    #[error("cannot go into the background")]
    Daemonize {
        /// The system's answer.
        source: io::Error,
    },
    /// The pid file could not be written.
    #[error("cannot write the pid file {path}")]
    PidFile {
        /// Its path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A process that is still running has written the pid file.
    #[error("{path} belongs to process {pid}, which is running")]
    Running {
        /// The pid file.
        path: PathBuf,
        /// The process in it.
        pid: u32,
    },
    /// A privilege is missing.
    #[error("the privilege to {purpose} is missing ({capability})")]
    Capability {
        /// The capability's name.
        capability: &'static str,
        /// What it is needed for.
        purpose: &'static str,
    },
}

impl ProcessError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Daemonize { .. } => None,
            Self::PidFile { .. } => Some("choose a place that this user may write to with -P"),
            Self::Running { .. } => Some("stop that process first, or choose another pid file with -P"),
            Self::Capability { .. } => Some(CAPABILITY_HINT),
        }
    }
}

/// A process in the background whose standard error is still that of the terminal.
#[derive(Debug)]
#[must_use = "call `ready` when the start has succeeded"]
pub struct Daemon(());

/// Goes into the background: forks twice around `setsid`, so that the process has no terminal and can't get one. The caller
/// goes on in the new process; the old one ends with code 0.
///
/// Standard input and output are closed at once; standard error stays until [`Daemon::ready`], so that errors of the start
/// are seen. The working directory stays, since options name files relative to it.
///
/// # Errors
/// When other threads are running already, or the system refuses.
pub fn daemonize() -> Result<Daemon, ProcessError> {
    let failed = |source| ProcessError::Daemonize { source };
    if let sys::process::Forked::Parent = sys::process::fork().map_err(failed)? {
        sys::process::exit_now(0);
    }
    sys::process::new_session().map_err(failed)?;
    if let sys::process::Forked::Parent = sys::process::fork().map_err(failed)? {
        sys::process::exit_now(0);
    }
    replace_standard(&[0, 1]).map_err(failed)?;
    Ok(Daemon(()))
}

impl Daemon {
    /// The start has succeeded: gives standard error back as well.
    ///
    /// # Errors
    /// When `/dev/null` can't be opened.
    pub fn ready(self) -> Result<(), ProcessError> {
        replace_standard(&[2]).map_err(|source| ProcessError::Daemonize { source })
    }
}

fn replace_standard(descriptors: &[i32]) -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    descriptors.iter().try_for_each(|to| sys::process::replace_standard(null.as_fd(), *to))
}

/// A file with this process's number, removed when the value is dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file. One left behind by a process that is gone is replaced.
    ///
    /// # Errors
    /// When the process named in it is running, or the file can't be written.
    pub fn create(path: &Path) -> Result<Self, ProcessError> {
        if let Ok(text) = std::fs::read_to_string(path)
            && let Ok(pid) = text.trim().parse::<u32>()
            && pid != std::process::id()
            && Path::new(&format!("/proc/{pid}")).exists()
        {
            return Err(ProcessError::Running { path: path.to_owned(), pid });
        }
        File::create(path)
            .and_then(|mut file| writeln!(file, "{}", std::process::id()))
            .map_err(|source| ProcessError::PidFile { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("cannot remove the pid file {}: {error}", self.path.display());
        }
    }
}

/// What the process has used until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user mode, all threads.
    pub cpu_user: Duration,
    /// CPU time in the kernel, all threads.
    pub cpu_system: Duration,
    /// Resident memory now, in bytes; mapped capture rings included.
    pub rss_bytes: u64,
    /// The most that was ever resident.
    pub peak_rss_bytes: u64,
}

/// Reads what the process has used; numbers that can't be read are 0.
pub fn usage() -> Usage {
    let (cpu_user, cpu_system) = sys::process::cpu_times();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |name: &str| {
        status_field(&status, name)
            .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Usage {
        cpu_user,
        cpu_system,
        rss_bytes: kilobytes("VmRSS") * 1024,
        peak_rss_bytes: kilobytes("VmHWM") * 1024,
    }
}

fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// Sets the scheduling priority of the calling thread and of those that it starts from now on, from -20 (first) to 19 (last).
/// A ring that is not emptied in time loses packets for good, so a program that captures asks for the processor before others.
///
/// # Errors
/// Without root or CAP_SYS_NICE, when the priority would be raised.
pub fn set_priority(nice: i8) -> io::Result<()> {
    sys::process::set_priority(i32::from(nice))
}

/// Moves the calling thread into a network namespace, given as an open file such as `/run/netns/<name>`. Sockets made in
/// this thread from now on belong there.
///
/// # Errors
/// When the file is no network namespace, or the privilege is missing.
pub fn enter_network_namespace(namespace: &File) -> io::Result<()> {
    sys::process::enter_network_namespace(namespace.as_fd())
}

/// A privilege that capture and injection need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Raw and packet sockets.
    NetRaw,
    /// Promiscuous mode, buffers beyond the system's limits.
    NetAdmin,
}

impl Capability {
    const fn bit(self) -> u32 {
        match self {
            Self::NetRaw => 13,
            Self::NetAdmin => 12,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::NetRaw => "CAP_NET_RAW",
            Self::NetAdmin => "CAP_NET_ADMIN",
        }
    }

    const fn purpose(self) -> &'static str {
        match self {
            Self::NetRaw => "capture and inject packets",
            Self::NetAdmin => "set up network interfaces",
        }
    }
}

/// Checks that this process has every privilege in `needed`.
///
/// # Errors
/// The first one that is missing.
pub fn check_capabilities(needed: &[Capability]) -> Result<(), ProcessError> {
    // Where the kernel doesn't tell, the attempt itself will.
    let Some(effective) = std::fs::read_to_string("/proc/thread-self/status")
        .ok()
        .and_then(|status| u64::from_str_radix(status_field(&status, "CapEff")?.trim(), 16).ok())
    else {
        return Ok(());
    };
    missing(effective, needed)
}

fn missing(effective: u64, needed: &[Capability]) -> Result<(), ProcessError> {
    match needed.iter().find(|capability| effective & (1 << capability.bit()) == 0) {
        Some(capability) => {
            Err(ProcessError::Capability { capability: capability.name(), purpose: capability.purpose() })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        let needed = [Capability::NetRaw, Capability::NetAdmin];
        assert!(missing(1 << 13 | 1 << 12, &needed).is_ok());
        let error = missing(1 << 13, &needed).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the privilege to set up network interfaces is missing (CAP_NET_ADMIN)"
        );
        assert!(error.hint().unwrap().contains("setcap"));
    }

    #[test]
    fn usage_counts_memory() {
        let before = usage();
        assert!(before.rss_bytes > 0 && before.peak_rss_bytes >= before.rss_bytes);
    }

    #[test]
    fn a_pid_file_is_refused_while_its_process_runs_and_removed_in_the_end() {
        let path = std::env::temp_dir().join(format!("tcpcopy-net-{}.pid", std::process::id()));
        std::fs::write(&path, "1\n").unwrap();
        assert!(matches!(PidFile::create(&path), Err(ProcessError::Running { pid: 1, .. })));
        std::fs::write(&path, "4194999\n").unwrap();
        let file = PidFile::create(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
    }
}
