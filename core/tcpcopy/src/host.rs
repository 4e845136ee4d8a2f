//! What this host is: its addresses, its routes, the rights of this process.
//!
//! Read-only looks at `/proc` and at sockets that send nothing. The dry run and start-up warnings ask through [`Host`], so that
//! tests can put another host in its place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// How packets to an address leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The outgoing interface, if the route table tells.
    pub device: Option<String>,
    /// The address of this host that the kernel would send from.
    pub source: IpAddr,
    /// The router in between, if there is one.
    pub next_hop: Option<IpAddr>,
}

/// What can be asked about a host.
pub trait Host {
    /// How packets to `addr` leave; none if they can't.
    fn route_to(&self, addr: IpAddr) -> Option<Route>;
    /// Whether `addr` is an address of this host.
    fn is_local(&self, addr: IpAddr) -> bool;
    /// Whether this process may open raw and packet sockets.
    fn may_use_raw_sockets(&self) -> bool;
    /// Whether there is an interface of that name.
    fn has_interface(&self, name: &str) -> bool;
}

/// The host that this process runs on.
#[derive(Clone, Copy, Debug)]
pub struct ThisHost;

impl Host for ThisHost {
    fn route_to(&self, addr: IpAddr) -> Option<Route> {
        let source = source_towards(addr)?;
        if source == addr {
            return Some(Route { device: Some("lo".to_owned()), source, next_hop: None });
        }
        let entry = match addr {
            IpAddr::V4(v4) => find_v4(&std::fs::read_to_string("/proc/net/route").unwrap_or_default(), v4),
            IpAddr::V6(v6) => {
                find_v6(&std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default(), v6)
            }
        };
        let (device, next_hop) = entry.unzip();
        Some(Route { device, source, next_hop: next_hop.flatten() })
    }

    fn is_local(&self, addr: IpAddr) -> bool {
        addr.is_loopback() || source_towards(addr) == Some(addr)
    }

    fn may_use_raw_sockets(&self) -> bool {
        const CAP_NET_RAW: u32 = 13;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective =
            status.lines().find_map(|line| line.strip_prefix("CapEff:")).map(str::trim).unwrap_or("0");
        u64::from_str_radix(effective, 16).unwrap_or(0) >> CAP_NET_RAW & 1 == 1
    }

    fn has_interface(&self, name: &str) -> bool {
        std::path::Path::new("/sys/class/net").join(name).exists()
    }
}

/// The address that packets to `addr` are sent from; `addr` itself if it is this host's.
fn source_towards(addr: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match addr {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a UDP socket makes the kernel choose a route and an address, and sends nothing.
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(addr, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The longest match, and among equals the lowest metric, in the text of `/proc/net/route`: device and router.
fn find_v4(table: &str, addr: Ipv4Addr) -> Option<(String, Option<IpAddr>)> {
    const RTF_UP: u32 = 1;
    const RTF_GATEWAY: u32 = 2;
    // The kernel prints addresses as they lie in memory, read as a number of this machine's byte order.
    let number = |field: &str| u32::from_str_radix(field, 16).ok();
    let address = |field: &str| Some(u32::from_be_bytes(number(field)?.to_ne_bytes()));
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[device, destination, gateway, flags, _, _, metric, mask, ..] = fields.as_slice() else {
            return None;
        };
        let (destination, mask, flags) = (address(destination)?, address(mask)?, number(flags)?);
        if flags & RTF_UP == 0 || u32::from(addr) & mask != destination {
            return None;
        }
        let router =
            (flags & RTF_GATEWAY != 0).then(|| address(gateway).map(|g| IpAddr::V4(Ipv4Addr::from(g))));
        let rank = (mask.count_ones(), std::cmp::Reverse(metric.parse::<u32>().unwrap_or(u32::MAX)));
        Some((rank, (device.to_owned(), router.flatten())))
    };
    table.lines().skip(1).filter_map(parse).max_by_key(|(rank, _)| *rank).map(|(_, found)| found)
}

/// The same for the text of `/proc/net/ipv6_route`.
fn find_v6(table: &str, addr: Ipv6Addr) -> Option<(String, Option<IpAddr>)> {
    const RTF_REJECT: u32 = 0x200;
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[destination, length, _, _, gateway, metric, _, _, flags, device] = fields.as_slice() else {
            return None;
        };
        let destination = u128::from_str_radix(destination, 16).ok()?;
        let length = u32::from_str_radix(length, 16).ok().filter(|length| *length <= 128)?;
        let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
        if u32::from_str_radix(flags, 16).ok()? & RTF_REJECT != 0
            || u128::from(addr) & mask != destination & mask
        {
            return None;
        }
        let gateway = u128::from_str_radix(gateway, 16).ok()?;
        let router = (gateway != 0).then(|| IpAddr::V6(Ipv6Addr::from(gateway)));
        let metric = u32::from_str_radix(metric, 16).unwrap_or(u32::MAX);
        Some(((length, std::cmp::Reverse(metric)), (device.to_owned(), router)))
    };
    table.lines().filter_map(parse).max_by_key(|(rank, _)| *rank).map(|(_, found)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10.0.0.0/24 on eth1, 10.0.0.0/8 via 192.168.1.9 on eth2, default via 192.168.1.1 on eth0.
    const V4: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        eth2\t0000000A\t0901A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n\
        eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_longest_ipv4_match_wins() {
        let find = |text: &str| find_v4(V4, text.parse().unwrap()).unwrap();
        assert_eq!(find("10.0.0.7"), ("eth1".to_owned(), None));
        assert_eq!(find("10.1.0.7"), ("eth2".to_owned(), Some("192.168.1.9".parse().unwrap())));
        assert_eq!(find("8.8.8.8"), ("eth0".to_owned(), Some("192.168.1.1".parse().unwrap())));
    }

    #[test]
    fn the_longest_ipv6_match_wins_and_unreachable_is_no_route() {
        let table = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 \
             00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth1\n\
             00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
             fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
             00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
             00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";
        let find = |text: &str| find_v6(table, text.parse().unwrap()).unwrap();
        assert_eq!(find("fd00::9"), ("eth1".to_owned(), None));
        assert_eq!(find("2001:db8::1"), ("eth0".to_owned(), Some("fe80::1".parse().unwrap())));
    }

    #[test]
    fn garbage_in_the_tables_is_no_route() {
        assert_eq!(find_v4("x\ny z\n\u{0}", Ipv4Addr::LOCALHOST), None);
        assert_eq!(find_v6("0 ff 0 0 0 0 0 0 0 lo\n", Ipv6Addr::LOCALHOST), None);
    }

    #[test]
    fn loopback_is_local() {
        assert!(ThisHost.is_local(Ipv4Addr::LOCALHOST.into()));
        assert!(!ThisHost.is_local(Ipv4Addr::new(203, 0, 113, 77).into()));
    }
}
