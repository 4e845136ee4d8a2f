//! Facts about interfaces that hold in the calling thread's network namespace (sysfs would show the one it was mounted in).

use super::{check, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// The kernel's number of an interface in the network namespace that `socket` belongs to.
pub(crate) fn index_of(socket: &OwnedFd, name: &str) -> io::Result<u32> {
    let request = query(socket, name, libc::SIOCGIFINDEX)?;
    // SAFETY: SIOCGIFINDEX fills in this member of the union.
    Ok(u32::try_from(unsafe { request.ifr_ifru.ifru_ifindex }).unwrap_or(0))
}

/// The hardware type (`ARPHRD_*`) of an interface.
pub(crate) fn hardware_type(name: &str) -> io::Result<u16> {
    let socket = socket::open(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let request = query(&socket, name, libc::SIOCGIFHWADDR)?;
    // SAFETY: SIOCGIFHWADDR fills in this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr.sa_family })
}

fn query(socket: &OwnedFd, name: &str, what: libc::Ioctl) -> io::Result<libc::ifreq> {
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: `request` is a whole ifreq with a NUL-terminated name, and these calls write nothing else.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut request) })?;
    Ok(request)
}
