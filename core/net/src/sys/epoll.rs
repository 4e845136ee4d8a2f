//! epoll with nanosecond timeouts.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One ready descriptor, as the kernel reports it.
pub(crate) type RawEvent = libc::epoll_event;

/// Set once the kernel has said that it has no `epoll_pwait2` (before Linux 5.11).
static NO_PWAIT2: AtomicBool = AtomicBool::new(false);

/// An epoll instance.
pub(crate) fn create() -> io::Result<OwnedFd> {
    // SAFETY: takes flags only.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: the call above has just returned this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds (`EPOLL_CTL_ADD`), changes or removes what `epoll` watches.
pub(crate) fn control(epoll: &OwnedFd, operation: i32, fd: RawFd, events: u32, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: token };
    // SAFETY: `event` is valid for the call; a descriptor that isn't open is reported as EBADF.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd, &raw mut event) }).map(drop)
}

/// Waits and returns how many of `events` were filled in; 0 for a timeout.
pub(crate) fn wait(epoll: &OwnedFd, events: &mut [RawEvent], timeout: Option<Duration>) -> io::Result<usize> {
    let capacity = i32::try_from(events.len()).unwrap_or(i32::MAX);
    if !NO_PWAIT2.load(Ordering::Relaxed) {
        let spec = timeout.map(|timeout| libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let no_mask = std::ptr::null::<libc::sigset_t>();
        // SAFETY: `events` has room for `capacity` entries; `spec` is null or points to a timespec that outlives the call;
        // a null mask with size 0 leaves the signal mask alone.
        let result = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                epoll.as_raw_fd(),
                events.as_mut_ptr(),
                capacity,
                spec,
                no_mask,
                0usize,
            )
        };
        if let Ok(ready) = usize::try_from(result) {
            return Ok(ready);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // EPERM is what a seccomp profile older than the call answers.
            Some(libc::ENOSYS | libc::EPERM) => NO_PWAIT2.store(true, Ordering::Relaxed),
            _ => return Err(error),
        }
    }
    let millis = timeout
        .map_or(-1, |timeout| i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
    // SAFETY: `events` has room for `capacity` entries.
    let ready = check(unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), capacity, millis) })?;
    Ok(usize::try_from(ready).unwrap_or(0))
}
