//! Under which circumstances a script has to hold.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_engine::seq::SeqNumber;

/// Initial sequence numbers at which arithmetic goes wrong first.
const ISNS: [u32; 3] = [0, 0x7fff_ffff, u32::MAX - 9];

/// The IP version of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// One way of running a script.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    pub(crate) family: Family,
    pub(crate) timestamps: bool,
    client_isn: u32,
    target_isn: u32,
}

impl Variant {
    /// All variants: IPv4 and IPv6, timestamps on and off, each initial sequence number on each side.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let families = [Family::V4, Family::V6].into_iter();
        families.flat_map(|family| {
            [false, true].into_iter().flat_map(move |timestamps| {
                ISNS.into_iter().flat_map(move |client_isn| {
                    ISNS.into_iter().map(move |target_isn| Self {
                        family,
                        timestamps,
                        client_isn,
                        target_isn,
                    })
                })
            })
        })
    }

    /// The initial sequence number of a client.
    pub(crate) fn client_isn(&self) -> SeqNumber {
        SeqNumber(self.client_isn)
    }

    /// The initial sequence number that the online server had in answer to a client.
    pub(crate) fn online_isn(&self) -> SeqNumber {
        SeqNumber(self.target_isn ^ self.client_isn) - 3
    }

    /// The initial sequence number of the target on a flow.
    pub(crate) fn target_isn(&self, flow: usize) -> SeqNumber {
        SeqNumber(self.target_isn) + flow as u32 * 99_991
    }

    fn address(&self, last: u8) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::new(10, 0, 0, last).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into(),
        }
    }

    /// A client, by its number in scripts.
    pub(crate) fn client(&self, number: usize) -> Endpoint {
        Endpoint::new(self.address(1), 40_000 + number as u16)
    }

    /// The online server.
    pub(crate) fn online(&self) -> Endpoint {
        Endpoint::new(self.address(2), 80)
    }

    /// The target.
    pub(crate) fn target(&self) -> Endpoint {
        Endpoint::new(self.address(3), 8080)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, timestamps, client_isn, target_isn } = self;
        let timestamps = if *timestamps { "on" } else { "off" };
        write!(f, "{family:?}, timestamps {timestamps}, client ISN {client_isn}, target ISN {target_isn}")
    }
}
