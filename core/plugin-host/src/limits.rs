//! What a plugin may use, and what happens when it fails too often.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What becomes of a plugin that fails more than [`Limits::faults_per_minute`] times a minute (`--on-plugin-error`). The session
/// at fault ends with each fault in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnError {
    /// It is used all the same; the sessions at fault are dropped.
    #[default]
    Drop,
    /// It is used no more; sessions are replayed as with no plugin.
    Pass,
    /// It is used no more; its sessions are given up.
    Disable,
    /// As [`OnError::Disable`], and the program is to exit: see [`crate::Configured::must_exit`].
    Exit,
}

impl FromStr for OnError {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "drop" => Ok(Self::Drop),
            "pass" => Ok(Self::Pass),
            "disable" => Ok(Self::Disable),
            "exit" => Ok(Self::Exit),
            _ => Err(format!("{text:?} is not drop, pass, disable or exit")),
        }
    }
}

/// Limits of one plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The time that one call may take. It is the time of the thread, not of the clock on the wall: a busy machine is not the
    /// plugin's fault. A native plugin can't be interrupted.
    pub deadline: Duration,
    /// Linear memory of one Wasm instance, in bytes. Nothing bounds a native plugin.
    pub memory_bytes: usize,
    /// Sessions that share an instance, unless the plugin needs them together. Groups of native plugins are sixteen times as
    /// large: their instances isolate less.
    pub sessions_per_instance: u32,
    /// Faults and violations within a minute that are not too many.
    pub faults_per_minute: u32,
    /// What happens beyond those.
    pub on_error: OnError,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(100),
            memory_bytes: 64 << 20,
            sessions_per_instance: 64,
            faults_per_minute: 10,
            on_error: OnError::default(),
        }
    }
}

/// What kind of failure a fault was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The plugin trapped or panicked.
    Trap,
    /// It took too long.
    Deadline,
    /// It wanted too much memory.
    Memory,
    /// It returned what has no meaning.
    InvalidOutput,
    /// A new instance could not be made.
    Start,
    /// A session broke the rules of the interface. The instance lives on.
    Violation,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::InvalidOutput => "invalid output",
            Self::Start => "start",
            Self::Violation => "violation",
        })
    }
}
