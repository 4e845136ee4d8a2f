//! Settings from a command line, and a host that is the same everywhere.

use clap::Parser;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tcpcopy::failure::UsageError;
use tcpcopy::host::{Host, Route};
use tcpcopy::options::LowArgs;
use tcpcopy::settings::Settings;

/// The settings that a command line means; words are separated by spaces.
pub(crate) fn try_settings(line: &str) -> Result<Settings, UsageError> {
    try_settings_of(&line.split_whitespace().collect::<Vec<_>>())
}

/// The settings that these arguments mean.
pub(crate) fn try_settings_of(arguments: &[&str]) -> Result<Settings, UsageError> {
    let all = std::iter::once("tcpcopy").chain(arguments.iter().copied());
    let low = LowArgs::try_parse_from(all).map_err(|error| UsageError::from(&error))?;
    Settings::new(&low, None)
}

/// The settings that a good command line means.
pub(crate) fn settings(line: &str) -> Settings {
    try_settings(line).unwrap_or_else(|error| panic!("{line}: {}", error.lines()))
}

/// 192.168.1.10 and fd00::10, with routers .1 and ::1; 192.168.1.0/24 and fd00::/64 are on eth0.
pub(crate) struct MadeUpHost {
    pub(crate) may_use_raw_sockets: bool,
}

const V4: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x10);

impl Host for MadeUpHost {
    fn route_to(&self, addr: IpAddr) -> Option<Route> {
        if self.is_local(addr) {
            return Some(Route { device: Some("lo".to_owned()), source: addr, next_hop: None });
        }
        let (source, router, is_near): (IpAddr, IpAddr, bool) = match addr {
            IpAddr::V4(v4) if v4.octets()[0] == 172 => return None,
            IpAddr::V4(v4) => {
                (V4.into(), Ipv4Addr::new(192, 168, 1, 1).into(), v4.octets()[..3] == [192, 168, 1])
            }
            IpAddr::V6(v6) => {
                (V6.into(), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(), v6.segments()[0] == 0xfd00)
            }
        };
        let next_hop = (!is_near).then_some(router);
        Some(Route { device: Some("eth0".to_owned()), source, next_hop })
    }

    fn is_local(&self, addr: IpAddr) -> bool {
        addr.is_loopback() || addr == IpAddr::V4(V4) || addr == IpAddr::V6(V6)
    }

    fn may_use_raw_sockets(&self) -> bool {
        self.may_use_raw_sockets
    }

    fn has_interface(&self, name: &str) -> bool {
        matches!(name, "eth0" | "lo")
    }
}
