//! What a captured frame starts with.

/// The header that a captured frame starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// Ethernet II, perhaps with VLAN tags.
    Ethernet,
    /// The IP header itself.
    Raw,
    /// BSD loopback: four bytes with the address family.
    Null,
    /// Linux cooked capture, version 1.
    LinuxCooked,
    /// Linux cooked capture, version 2.
    LinuxCooked2,
}
