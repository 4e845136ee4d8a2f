//! Tunnels: packets within packets, as overlay networks and mirror ports send them.
//!
//! Owns VXLAN (RFC 7348), Geneve (RFC 8926), GRE (RFC 2784, RFC 2890) and ERSPAN (draft-foschiano-erspan), and the capture filters
//! that let them pass. Opens one level; leaves to the caller how many it follows, and the link header within to [`super::link`].

use super::ip::IpPacket;
use super::link::LinkType;
use super::{u16_at, u32_at};
use std::fmt;
use std::str::FromStr;

const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_GRE: u8 = 47;
const UDP_HEADER: usize = 8;

/// IANA's port, and the one that Linux used before it was assigned.
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
const GENEVE_PORT: u16 = 6081;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Transparent Ethernet bridging.
const ETHERTYPE_ETHERNET: u16 = 0x6558;
const ETHERTYPE_ERSPAN: u16 = 0x88be;
const ETHERTYPE_ERSPAN_3: u16 = 0x22eb;

/// A kind of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Tunnel {
    /// Ethernet over UDP, to port 4789 or 8472.
    Vxlan,
    /// Ethernet or IP over UDP, to port 6081.
    Geneve,
    /// IP or Ethernet over IP.
    Gre,
    /// Mirrored Ethernet frames in GRE: types I, II and III, and without a header of their own, as VMware's switches send them.
    Erspan,
}

impl Tunnel {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Vxlan, Self::Geneve, Self::Gre, Self::Erspan];

    /// The name in options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Gre => "gre",
            Self::Erspan => "erspan",
        }
    }
}

/// The kinds of tunnels that are opened; none by default, as a tunnel's packets may be there outside it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Decap(u8);

impl Decap {
    /// No tunnel is opened.
    pub const NONE: Self = Self(0);
    /// All kinds are.
    pub const ALL: Self = Self(0b1111);

    /// These kinds and `tunnel`.
    #[must_use]
    pub const fn with(self, tunnel: Tunnel) -> Self {
        Self(self.0 | 1 << tunnel as u8)
    }

    /// Whether `tunnel` is opened.
    pub const fn contains(self, tunnel: Tunnel) -> bool {
        self.0 & 1 << tunnel as u8 != 0
    }

    /// Whether none is opened.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds that are opened.
    pub fn iter(self) -> impl Iterator<Item = Tunnel> {
        Tunnel::ALL.into_iter().filter(move |tunnel| self.contains(*tunnel))
    }
}

/// Why a list of tunnels can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecapError {
    /// It names none.
    #[error("no tunnel is named; known are vxlan, geneve, gre, erspan")]
    Empty,
    /// It names something else.
    #[error("`{name}` is no tunnel that can be opened; known are vxlan, geneve, gre, erspan")]
    Unknown {
        /// What it names.
        name: String,
    },
}

impl FromStr for Decap {
    type Err = DecapError;

    /// Reads names with commas between them, in any case.
    fn from_str(list: &str) -> Result<Self, Self::Err> {
        let mut decap = Self::NONE;
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let tunnel = Tunnel::ALL.into_iter().find(|tunnel| tunnel.name().eq_ignore_ascii_case(name));
            decap = decap.with(tunnel.ok_or_else(|| DecapError::Unknown { name: name.to_owned() })?);
        }
        if decap.is_empty() { Err(DecapError::Empty) } else { Ok(decap) }
    }
}

impl fmt::Display for Decap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, tunnel) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", tunnel.name())?;
        }
        Ok(())
    }
}

/// The frame or packet that `packet` carries, if it is a tunnel of a kind in `decap`: what it begins with, the captured bytes, and its
/// length on the wire.
///
/// What is no whole datagram (a fragment) carries nothing here; put fragments together first.
pub fn open<'a>(packet: &IpPacket<'a>, decap: Decap) -> Option<(LinkType, &'a [u8], usize)> {
    if decap.is_empty() || packet.fragment.is_some() {
        return None;
    }
    let (link, header_len) = match packet.protocol {
        PROTOCOL_UDP => {
            let port = u16_at(packet.payload, 2)?;
            let inner = packet.payload.get(UDP_HEADER..)?;
            let (link, header_len) = if VXLAN_PORTS.contains(&port) && decap.contains(Tunnel::Vxlan) {
                vxlan(inner)?
            } else if port == GENEVE_PORT && decap.contains(Tunnel::Geneve) {
                geneve(inner)?
            } else {
                return None;
            };
            (link, UDP_HEADER + header_len)
        }
        PROTOCOL_GRE => gre(packet.payload, decap)?,
        _ => return None,
    };
    let inner = packet.payload.get(header_len..)?;
    Some((link, inner, packet.payload_len - header_len))
}

/// What follows a header that names it by EtherType.
const fn link_of(ether_type: u16) -> Option<LinkType> {
    match ether_type {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Some(LinkType::Raw),
        ETHERTYPE_ETHERNET => Some(LinkType::Ethernet),
        _ => None,
    }
}

/// A VXLAN header (RFC 7348, section 5): without a valid network identifier it is none.
fn vxlan(header: &[u8]) -> Option<(LinkType, usize)> {
    const IS_VALID: u8 = 0x08;
    (header.first()? & IS_VALID != 0).then_some((LinkType::Ethernet, 8))
}

/// A Geneve header (RFC 8926, section 3.4). Control packets carry nothing of the tenants.
fn geneve(header: &[u8]) -> Option<(LinkType, usize)> {
    const IS_CONTROL: u8 = 0x80;
    let (version_and_len, flags) = (*header.first()?, *header.get(1)?);
    if version_and_len >> 6 != 0 || flags & IS_CONTROL != 0 {
        return None;
    }
    Some((link_of(u16_at(header, 2)?)?, 8 + usize::from(version_and_len & 0x3f) * 4))
}

/// A GRE header (RFC 2784, section 2; RFC 2890, section 2), with what ERSPAN puts behind it.
fn gre(header: &[u8], decap: Decap) -> Option<(LinkType, usize)> {
    const HAS_CHECKSUM: u16 = 0x8000;
    const HAS_ROUTING: u16 = 0x4000;
    const HAS_KEY: u16 = 0x2000;
    const HAS_SEQUENCE: u16 = 0x1000;
    const VERSION: u16 = 0x0007;

    let flags = u16_at(header, 0)?;
    let ether_type = u16_at(header, 2)?;
    // Version 1 is PPTP; routing was taken out of GRE (RFC 2784, section 2.3).
    if flags & (VERSION | HAS_ROUTING) != 0 {
        return None;
    }
    let options = (flags & (HAS_CHECKSUM | HAS_KEY | HAS_SEQUENCE)).count_ones() as usize;
    let len = 4 + 4 * options;
    match ether_type {
        ETHERTYPE_ERSPAN | ETHERTYPE_ERSPAN_3 if !decap.contains(Tunnel::Erspan) => None,
        // Type I has no header of its own, and no sequence numbers.
        ETHERTYPE_ERSPAN if flags & HAS_SEQUENCE == 0 => Some((LinkType::Ethernet, len)),
        ETHERTYPE_ERSPAN => erspan_2(header.get(len..)?).map(|(link, own)| (link, len + own)),
        ETHERTYPE_ERSPAN_3 => erspan_3(header.get(len..)?).map(|(link, own)| (link, len + own)),
        ETHERTYPE_ETHERNET if decap.contains(Tunnel::Erspan) => Some((LinkType::Ethernet, len)),
        _ if decap.contains(Tunnel::Gre) => Some((link_of(ether_type)?, len)),
        _ => None,
    }
}

fn erspan_2(header: &[u8]) -> Option<(LinkType, usize)> {
    (header.first()? >> 4 == 1).then_some((LinkType::Ethernet, 8))
}

fn erspan_3(header: &[u8]) -> Option<(LinkType, usize)> {
    const HAS_SUBHEADER: u32 = 1;
    if header.first()? >> 4 != 2 {
        return None;
    }
    let last = u32_at(header, 8)?;
    let link = match last >> 10 & 0x1f {
        0 => LinkType::Ethernet,
        2 => LinkType::Raw,
        _ => return None,
    };
    Some((link, if last & HAS_SUBHEADER != 0 { 20 } else { 12 }))
}

/// A libpcap filter that lets the tunnels of `decap` pass, over IPv4 and IPv6; `None` for no tunnels.
///
/// Ports stand in the first fragment of a datagram only. Of later fragments all that may belong to a tunnel pass; what does not is left
/// out once it was put together.
pub fn filter(decap: Decap) -> Option<String> {
    /// Later fragments of UDP over IPv4, and all of UDP over IPv6, where the ports of the first can't be looked at in short.
    const UDP_FRAGMENTS: &str = "(ip[9] = 17 and ip[6:2] & 0x1fff != 0) or (ip6[6] = 44 and ip6[40] = 17)";
    let mut parts = Vec::new();
    if decap.contains(Tunnel::Vxlan) {
        parts.extend(VXLAN_PORTS.map(|port| format!("udp dst port {port}")));
    }
    if decap.contains(Tunnel::Geneve) {
        parts.push(format!("udp dst port {GENEVE_PORT}"));
    }
    if !parts.is_empty() {
        parts.push(UDP_FRAGMENTS.to_owned());
    }
    if decap.contains(Tunnel::Gre) || decap.contains(Tunnel::Erspan) {
        parts.push("ip proto 47 or ip6 proto 47".to_owned());
    }
    (!parts.is_empty()).then(|| parts.join(" or "))
}
