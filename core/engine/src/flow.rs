//! Addresses of a flow.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// An address and a port, without the scope and flow label that [`SocketAddr`] carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// IPv4 or IPv6 address.
    pub addr: IpAddr,
    /// TCP port, host order.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint of `addr` and `port`.
    pub const fn new(addr: IpAddr, port: u16) -> Self {
        Self { addr, port }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(value: SocketAddr) -> Self {
        Self { addr: value.ip(), port: value.port() }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(value: Endpoint) -> Self {
        Self::new(value.addr, value.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One connection as the target sees it: the key that `intercept` routes replies by.
///
/// Both addresses are of one family.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The client's address and port, as mapped (`-c`, `-n`, `-f`).
    pub client: Endpoint,
    /// The target server.
    pub target: Endpoint,
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.client, self.target)
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hash map with the seeded, fast hasher that the project uses for keys that clients choose.
pub type FlowMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
