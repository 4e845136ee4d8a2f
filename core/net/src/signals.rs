//! Signals as events of the poll loop.

use crate::sys;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Signals that are read like packets instead of interrupting the program.
///
/// Make it before starting threads: they inherit that the signals are blocked.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Takes over `signals` (numbers such as [`SIGINT`]). They stay blocked when the value is dropped.
    ///
    /// # Errors
    /// When a number is no signal, or no descriptor is left.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        Ok(Self { fd: sys::signal::open(signals)? })
    }

    /// The next signal that has arrived, if any.
    ///
    /// # Errors
    /// What reading reports.
    pub fn take(&self) -> io::Result<Option<i32>> {
        sys::signal::read(&self.fd)
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

pub use libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

/// Ignores SIGPIPE, so that writing to a closed connection or pipe is an error and not the end of the process.
pub fn ignore_broken_pipe() {
    sys::signal::ignore_broken_pipe();
}
