//! Names of error numbers of failed sends, and what to do about them.

use std::borrow::Cow;

macro_rules! names {
    ($number:expr; $($name:ident)*) => {
        match $number {
            $(libc::$name => Cow::Borrowed(stringify!($name)),)*
            other => Cow::Owned(format!("errno_{other}")),
        }
    };
}

/// The symbol of an error number, as in errno(3).
pub fn errno_name(number: i32) -> Cow<'static, str> {
    names!(number; EPERM ENOENT EINTR EIO ENXIO EBADF EAGAIN ENOMEM EACCES EFAULT EBUSY ENODEV EINVAL ENOSPC EPIPE
        ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTONOSUPPORT EOPNOTSUPP EAFNOSUPPORT EADDRNOTAVAIL ENETDOWN ENETUNREACH
        ENOBUFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH)
}

/// What likely made a send fail with this error number.
pub fn errno_hint(number: i32) -> &'static str {
    match number {
        libc::EPERM => {
            "this host's firewall (OUTPUT chain) or its full connection tracking table refused the packet"
        }
        libc::EMSGSIZE => "the path carries smaller packets than -M allows; lower -M",
        libc::ENOBUFS | libc::EAGAIN | libc::ENOMEM => {
            "the interface's queue was full; what was lost is sent again, nothing needs to be done if these are few"
        }
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EHOSTDOWN => {
            "there is no route or no neighbour for the target"
        }
        libc::ENETDOWN | libc::ENODEV | libc::ENXIO => {
            "the interface that leads to the target is down or gone"
        }
        libc::EADDRNOTAVAIL | libc::EINVAL => {
            "the kernel did not accept the client's address as a sender; try other addresses (-c) or --pcap-send"
        }
        libc::EACCES => {
            "the target's address is a broadcast address here, or a security module forbids the packet"
        }
        _ => "see errno(3)",
    }
}
