//! The few rtnetlink messages that are needed here (`rtnetlink(7)`): requests are built and answers are read as bytes, with
//! every length checked.

use super::Route;
use crate::sys::socket;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

const HEADER: usize = 16;
/// `struct rtmsg` and `struct ndmsg` have the same length.
const MESSAGE: usize = 12;

const NLMSG_ERROR: u16 = 2;
const RTM_GETROUTE: u16 = 26;
const RTM_GETNEIGH: u16 = 30;
const NLM_F_REQUEST: u16 = 1;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_VIA: u16 = 18;
const RTN_LOCAL: u8 = 2;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// NUD_REACHABLE, STALE, DELAY, PROBE, NOARP and PERMANENT: states whose MAC may be used.
const NUD_VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;

/// A netlink socket.
pub(super) struct Netlink {
    fd: OwnedFd,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { fd: socket::open(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)? })
    }

    pub(super) fn route(&self, target: IpAddr, interface: u32) -> io::Result<Route> {
        let mut request = Request::new(RTM_GETROUTE, family(target));
        // rtm_dst_len: the whole address.
        request.bytes[HEADER + 1] = (octets(target).len() * 8) as u8;
        request.attribute(RTA_DST, &octets(target));
        if interface != 0 {
            request.attribute(RTA_OIF, &interface.to_ne_bytes());
        }
        let answer = self.ask(request)?;
        let kind = answer.get(HEADER + 7).copied().unwrap_or(0);
        let mut route = Route { next_hop: target, interface, is_local: kind == RTN_LOCAL };
        for (name, value) in attributes(&answer) {
            match name {
                RTA_OIF => route.interface = number(value).unwrap_or(interface),
                RTA_GATEWAY => route.next_hop = address(value).unwrap_or(target),
                // A gateway of the other family: two bytes of family, then the address.
                RTA_VIA => route.next_hop = value.get(2..).and_then(address).unwrap_or(target),
                _ => {}
            }
        }
        Ok(route)
    }

    pub(super) fn neighbour(&self, target: IpAddr, interface: u32) -> io::Result<Option<[u8; 6]>> {
        let mut request = Request::new(RTM_GETNEIGH, family(target));
        request.bytes[HEADER + 4..HEADER + 8].copy_from_slice(&interface.to_ne_bytes());
        request.attribute(NDA_DST, &octets(target));
        let answer = match self.ask(request) {
            Ok(answer) => answer,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        let state =
            answer.get(HEADER + 8..HEADER + 10).map_or(0, |state| u16::from_ne_bytes([state[0], state[1]]));
        if state & NUD_VALID == 0 {
            return Ok(None);
        }
        Ok(attributes(&answer)
            .find(|(name, _)| *name == NDA_LLADDR)
            .and_then(|(_, value)| value.try_into().ok()))
    }

    /// Sends the request and returns the one message of the answer.
    fn ask(&self, request: Request) -> io::Result<Vec<u8>> {
        socket::send(&self.fd, &request.finish())?;
        let mut buffer = vec![0; 8192];
        let length = socket::receive(&self.fd, &mut buffer)?;
        buffer.truncate(length);
        let kind = buffer.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
        match kind {
            Some(NLMSG_ERROR) => {
                let errno = buffer.get(HEADER..HEADER + 4).and_then(number).unwrap_or(0).cast_signed();
                Err(io::Error::from_raw_os_error(errno.wrapping_neg()))
            }
            Some(_) => Ok(buffer),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, family: u8) -> Self {
        let mut bytes = vec![0; HEADER + MESSAGE];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        bytes[HEADER] = family;
        Self { bytes }
    }

    fn attribute(&mut self, name: u16, value: &[u8]) {
        self.bytes.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&name.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }
}

/// Names and values behind the fixed part of a message; ends at the first that doesn't fit.
fn attributes(message: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let declared = message.get(..4).and_then(number).unwrap_or(0) as usize;
    let end = declared.min(message.len());
    let mut rest = message.get(HEADER + MESSAGE..end).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*rest.first()?, *rest.get(1)?]));
        let name = u16::from_ne_bytes([*rest.get(2)?, *rest.get(3)?]);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((name, value))
    })
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_end_at_the_first_that_does_not_fit() {
        let mut request = Request::new(RTM_GETROUTE, 2);
        request.attribute(RTA_DST, &[10, 0, 0, 1]);
        request.attribute(RTA_OIF, &[1, 0, 0]);
        let whole = request.finish();
        let seen: Vec<_> = attributes(&whole).collect();
        assert_eq!(seen, [(RTA_DST, &[10, 0, 0, 1][..]), (RTA_OIF, &[1, 0, 0][..])]);
        for length in 0..whole.len() {
            assert!(attributes(&whole[..length]).count() <= 2);
        }
        let mut zero = whole;
        zero[HEADER + MESSAGE] = 0;
        assert_eq!(attributes(&zero).count(), 0);
    }
}
