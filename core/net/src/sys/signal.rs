//! Signals as a readable descriptor.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Blocks `signals` in the calling thread (threads made later inherit that) and returns a descriptor to read them from.
pub(crate) fn open(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: a sigset_t is plain numbers, and sigemptyset initialises it all the same.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid.
    check(unsafe { libc::sigemptyset(&raw mut set) })?;
    for signal in signals {
        // SAFETY: `set` is initialised; an unknown signal is reported as EINVAL.
        check(unsafe { libc::sigaddset(&raw mut set, *signal) })?;
    }
    // SAFETY: `set` is initialised, and the old mask is not asked for.
    let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    // SAFETY: `set` is initialised; −1 asks for a new descriptor.
    let fd = check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) })?;
    // SAFETY: the call above has just returned this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next signal that has arrived.
pub(crate) fn read(fd: &OwnedFd) -> io::Result<Option<i32>> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    loop {
        // SAFETY: the buffer is valid for its length.
        let read = unsafe { libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), info.len()) };
        if read > 0 {
            // ssi_signo is the first field.
            return Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]])));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => return Ok(None),
            _ => return Err(error),
        }
    }
}

/// Ignores SIGPIPE in this process: a closed connection is an error of the write.
pub(crate) fn ignore_broken_pipe() {
    // SAFETY: SIG_IGN is a valid disposition and runs no code.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}
