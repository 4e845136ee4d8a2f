//! The process itself: fork, CPU affinity, resource usage, namespaces.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// What fork returned.
pub(crate) enum Forked {
    /// In the parent.
    Parent,
    /// In the child.
    Child,
}

/// Forks, which is refused when the process has more than one thread: only the calling one would live on in the child.
pub(crate) fn fork() -> io::Result<Forked> {
    // A thread that has just been joined may be listed for a moment longer.
    let mut tries = 0;
    loop {
        match std::fs::read_dir("/proc/self/task")?.count() {
            1 => break,
            threads if tries == 50 => {
                return Err(io::Error::other(format!("{threads} threads are running")));
            }
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
        tries += 1;
    }
    // SAFETY: there is only this thread (checked above), so no lock can be held by one that the child lacks.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Forked::Child),
        _ => Ok(Forked::Parent),
    }
}

/// Ends the process at once, without running anything that belongs to the other side of a fork.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns and runs no handlers.
    unsafe { libc::_exit(code) }
}

/// Starts a new session without a terminal.
pub(crate) fn new_session() -> io::Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Makes descriptor `to` (0, 1 or 2) refer to what `from` refers to.
pub(crate) fn replace_standard(from: BorrowedFd<'_>, to: i32) -> io::Result<()> {
    debug_assert!((0..=2).contains(&to));
    // SAFETY: only standard descriptors are replaced, which nothing in the program owns.
    check(unsafe { libc::dup2(from.as_raw_fd(), to) }).map(drop)
}

/// CPU time of this process in user and kernel mode.
pub(crate) fn cpu_times() -> (Duration, Duration) {
    // SAFETY: all-zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is valid to write to; RUSAGE_SELF can't fail.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let duration = |time: libc::timeval| {
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    (duration(usage.ru_utime), duration(usage.ru_stime))
}

/// Sets the scheduling priority of the calling thread, and of those that it starts.
pub(crate) fn set_priority(nice: i32) -> io::Result<()> {
    // SAFETY: takes numbers only; thread 0 is the calling one.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// Moves the calling thread into the network namespace that `namespace` is an open file of.
pub(crate) fn enter_network_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes numbers only; a descriptor that is no namespace is reported as EINVAL.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}
