//! `sendmmsg` with message headers that are made once and used again.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// The address of one message.
#[derive(Clone, Copy)]
union Address {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    link: libc::sockaddr_ll,
}

/// Up to `capacity` messages of up to two parts each (a header and a packet), sent with one system call.
pub(crate) struct MessageVector {
    addresses: Vec<Address>,
    parts: Vec<[libc::iovec; 2]>,
    headers: Vec<libc::mmsghdr>,
    filled: usize,
}

// SAFETY: the pointers inside are only followed during `send`, which takes `&mut self`.
unsafe impl Send for MessageVector {}

/// Whom a message is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recipient {
    /// An address, for raw IP sockets.
    Address(IpAddr),
    /// A link-layer address, for packet sockets.
    Link {
        /// The interface's number.
        interface: u32,
        /// EtherType of the packet, host order.
        protocol: u16,
        /// Whom it is for.
        mac: [u8; 6],
    },
}

const EMPTY: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

impl MessageVector {
    /// Room for `capacity` messages.
    pub(crate) fn new(capacity: usize) -> Self {
        // SAFETY: all-zero bytes are valid addresses and message headers (numbers and null pointers).
        let (address, header): (Address, libc::mmsghdr) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            addresses: vec![address; capacity],
            parts: vec![[EMPTY; 2]; capacity],
            headers: vec![header; capacity],
            filled: 0,
        }
    }

    /// Fills in one message of `header` (which may be empty) and `packet`, calls of [`Self::send`] refer to it by its place.
    ///
    /// # Safety
    /// The bytes have to stay where they are until the last `send` before [`Self::clear`].
    unsafe fn push(&mut self, recipient: Recipient, header: &[u8], packet: &[u8]) {
        let place = self.filled;
        self.parts[place] = [header, packet]
            .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
        let message = &mut self.headers[place].msg_hdr;
        let length = match recipient {
            Recipient::Link { interface, protocol, mac } => {
                self.addresses[place].link = super::packet::address(interface, protocol.to_be(), mac);
                size_of::<libc::sockaddr_ll>()
            }
            Recipient::Address(IpAddr::V4(address)) => {
                self.addresses[place].v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as u16,
                    sin_port: 0,
                    sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>()
            }
            Recipient::Address(IpAddr::V6(address)) => {
                self.addresses[place].v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as u16,
                    sin6_port: 0,
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: address.octets() },
                    sin6_scope_id: 0,
                };
                size_of::<libc::sockaddr_in6>()
            }
        };
        message.msg_name = (&raw mut self.addresses[place]).cast();
        message.msg_namelen = length as libc::socklen_t;
        // An empty header is left out: a zero-length part is legal but costs the kernel a step.
        let skip = usize::from(header.is_empty());
        message.msg_iov = self.parts[place][skip..].as_mut_ptr();
        message.msg_iovlen = (2 - skip) as _;
        self.filled += 1;
    }

    /// Sends what `messages` yields (at most the capacity; the rest is left in the iterator) and calls `failed` with the
    /// place of each message that could not be sent. Sending goes on behind a failure.
    ///
    /// `retry` is asked once per place whether the error was waited for and the message shall be tried again.
    pub(crate) fn send<'a>(
        &mut self,
        fd: &OwnedFd,
        messages: impl Iterator<Item = (Recipient, &'a [u8], &'a [u8])>,
        mut retry: impl FnMut(i32) -> bool,
        mut failed: impl FnMut(usize, i32),
    ) -> usize {
        self.filled = 0;
        for (recipient, header, packet) in messages.take(self.headers.len()) {
            // SAFETY: `'a` outlives this call, and nothing below keeps the pointers longer.
            unsafe { self.push(recipient, header, packet) };
        }
        let mut next = 0;
        let mut retried = false;
        while next < self.filled {
            let rest = &mut self.headers[next..self.filled];
            let count = rest.len() as libc::c_uint;
            // SAFETY: `rest` has `count` headers whose pointers were all set above to memory that outlives this call.
            let sent =
                unsafe { libc::sendmmsg(fd.as_raw_fd(), rest.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) };
            if let Ok(sent @ 1..) = usize::try_from(sent) {
                next += sent;
                retried = false;
                continue;
            }
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
            if errno == libc::EINTR {
                continue;
            }
            if !retried && retry(errno) {
                retried = true;
                continue;
            }
            failed(next, errno);
            next += 1;
            retried = false;
        }
        self.filled
    }
}
