//! The crate's only `unsafe`: thin wrappers around system calls and the memory shared with the kernel.
//!
//! What is in here turns errno into [`io::Error`], owns descriptors and mappings, and keeps every pointer that the kernel
//! sees alive for as long as it may look at it. What the calls are good for is decided by the modules outside.

pub(crate) mod epoll;
pub(crate) mod interface;
pub(crate) mod message;
pub(crate) mod packet;
pub(crate) mod process;
pub(crate) mod ring;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod time;

use std::io;

/// The result of a system call that returns −1 on failure.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
