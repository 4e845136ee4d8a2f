//! Routes and neighbours, asked of the kernel over netlink: which way a target is reached, and at which MAC.

mod netlink;

use netlink::Netlink;
use std::io;
use std::net::IpAddr;

/// How a target is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The gateway, or the target itself when it is on the link.
    pub next_hop: IpAddr,
    /// Number of the interface that the packets leave by.
    pub interface: u32,
    /// Whether the target is an address of this host.
    pub is_local: bool,
}

/// Looks the route to `target` up, as a packet that leaves by interface number `interface` would take it (0: any).
///
/// # Errors
/// When there is no route (ENETUNREACH and the like).
pub fn route_to(target: IpAddr, interface: u32) -> io::Result<Route> {
    Netlink::open()?.route(target, interface)
}

/// The MAC of `address` on interface number `interface`, if the kernel knows it now.
///
/// # Errors
/// When the kernel can't be asked.
pub fn mac_of(address: IpAddr, interface: u32) -> io::Result<Option<[u8; 6]>> {
    Netlink::open()?.neighbour(address, interface)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn the_route_to_loopback_is_local() {
        let route = route_to(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        assert!(route.is_local);
        assert_eq!(route.next_hop, IpAddr::from(Ipv4Addr::LOCALHOST));
    }
}
