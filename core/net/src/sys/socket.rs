//! Sockets and their options.

use super::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Types without padding whose every bit pattern is valid, so that the kernel may read and write them as bytes.
///
/// # Safety
/// The implementing type has no padding and no invalid values.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: numbers.
unsafe impl Plain for i32 {}
// SAFETY: numbers.
unsafe impl Plain for u32 {}
// SAFETY: arrays of numbers.
unsafe impl<const N: usize> Plain for [u32; N] {}

/// A socket, closed on exec.
pub(crate) fn open(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the call above has just returned this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets a socket option.
pub(crate) fn set_option<T: Plain>(fd: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is valid for `length` bytes and outlives the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length) })
        .map(drop)
}

/// Reads a socket option into `value`; what the kernel doesn't fill in stays as it was.
pub(crate) fn get_option<T: Plain>(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &mut T,
) -> io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    let value = std::ptr::from_mut(value).cast();
    // SAFETY: `value` is valid for `length` bytes, and `Plain` makes whatever is written there a valid value.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, value, &raw mut length) }).map(drop)
}

/// Attaches a classic BPF program.
pub(crate) fn attach_program(
    fd: &OwnedFd,
    level: i32,
    name: i32,
    program: &[libc::sock_filter],
) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let header = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the kernel reads `header` and the `len` instructions behind it during the call and writes to neither.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const header).cast(), length) })
        .map(drop)
}

/// Receives one message without blocking and throws its bytes away.
pub(crate) fn discard_one(fd: &OwnedFd) -> io::Result<()> {
    let mut byte = 0u8;
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: the buffer is valid for the one byte that the call may write.
    let result = unsafe { libc::recv(fd.as_raw_fd(), (&raw mut byte).cast(), 1, flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives one message into `buffer`.
pub(crate) fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for the length given.
    let result = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Sends one message to where the socket is connected, or to the kernel for netlink.
pub(crate) fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for the length given.
    let result =
        unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Waits until the socket can take more, for at most `millis`; whether it can.
pub(crate) fn wait_writable(fd: &OwnedFd, millis: i32) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&raw mut poll, 1, millis) > 0 }
}

/// The pending error of a socket (`SO_ERROR`), which reading clears.
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> Option<io::Error> {
    let mut errno = 0i32;
    match get_option(fd, libc::SOL_SOCKET, libc::SO_ERROR, &mut errno) {
        Ok(()) if errno == 0 => None,
        Ok(()) => Some(io::Error::from_raw_os_error(errno)),
        Err(error) => Some(error),
    }
}

/// Asks for a send buffer of `bytes`, beyond the system's limit if this process may.
pub(crate) fn set_send_buffer(fd: &OwnedFd, bytes: i32) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes)
        .or_else(|_| set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &bytes))
}

/// Asks for a receive buffer of `bytes`.
pub(crate) fn set_receive_buffer(fd: &OwnedFd, bytes: i32) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes)
}

/// Lets a socket send and receive by one interface only.
pub(crate) fn bind_to_device(fd: &impl AsFd, device: &str) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    let length = device.len() as libc::socklen_t;
    // SAFETY: the name is valid for the length given; the kernel does not look for a NUL behind it.
    let result = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, device.as_ptr().cast(), length)
    };
    check(result).map(drop)
}
