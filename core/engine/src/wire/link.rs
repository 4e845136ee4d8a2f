//! Link headers: finding the IP packet in a captured frame.
//!
//! Owns Ethernet with its VLAN tags, Linux cooked captures, BSD loopback, NFLOG and raw IP. Leaves the IP header itself to
//! [`super::ip`], tunnels to [`super::tunnel`], and the writing of link headers to the sink.

use super::u16_at;

/// Tags deeper than this are no network anyone runs; the bound keeps a hostile frame from being walked to its end.
const MAX_VLAN_TAGS: usize = 8;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// What a captured frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// Ethernet II.
    Ethernet,
    /// No link header: the frame is an IP packet.
    Raw,
    /// BSD loopback: four bytes of address family, in either byte order.
    Null,
    /// Linux cooked capture, version 1 (`-i any` of older tools).
    LinuxCooked,
    /// Linux cooked capture, version 2.
    LinuxCooked2,
    /// Linux netfilter log (`-i nflog:…`): a list of attributes, one of which is the packet.
    Nflog,
}

impl LinkType {
    /// The link type of a libpcap `DLT_` or `LINKTYPE_` number, if it is one of those known here.
    pub const fn from_dlt(dlt: i32) -> Option<Self> {
        match dlt {
            0 | 108 => Some(Self::Null),
            1 => Some(Self::Ethernet),
            // DLT_RAW differs between systems (12, 14); 101 is its number in files; 228 and 229 are IPv4 and IPv6 only.
            12 | 14 | 101 | 228 | 229 => Some(Self::Raw),
            113 => Some(Self::LinuxCooked),
            239 => Some(Self::Nflog),
            276 => Some(Self::LinuxCooked2),
            _ => None,
        }
    }

    /// The `LINKTYPE_` number that says this in capture files.
    pub const fn number(self) -> u16 {
        match self {
            Self::Null => 0,
            Self::Ethernet => 1,
            Self::Raw => 101,
            Self::LinuxCooked => 113,
            Self::Nflog => 239,
            Self::LinuxCooked2 => 276,
        }
    }
}

/// Why no IP packet was found in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The frame ends within its link header.
    #[error("the frame ends within its link header")]
    Truncated,
    /// The frame carries something else than IP (ARP, LLDP, deeper tags than are followed).
    #[error("the frame does not carry IP")]
    NotIp,
}

/// Peels the link header and any VLAN tags (802.1Q, 802.1ad) off `frame`.
///
/// `wire_len` is the frame's length on the wire, at least `frame.len()`. Returns the captured bytes from the IP header on, and
/// how many bytes there were on the wire from there on (padding included).
///
/// # Errors
/// [`LinkError`] when the frame is too short for its link header or does not carry IP.
pub fn ip_packet(link: LinkType, frame: &[u8], wire_len: usize) -> Result<(&[u8], usize), LinkError> {
    let mut frame = frame;
    let mut wire_len = wire_len;
    let start = match link {
        LinkType::Nflog => {
            let (payload, payload_len) = nflog_payload(frame)?;
            frame = payload;
            wire_len = payload_len;
            0
        }
        LinkType::Ethernet => behind_tags(frame, 12, 14)?,
        LinkType::LinuxCooked => behind_tags(frame, 14, 16)?,
        LinkType::LinuxCooked2 => behind_tags(frame, 0, 20)?,
        LinkType::Raw => 0,
        LinkType::Null => behind_family(frame)?,
    };
    let packet = frame.get(start..).ok_or(LinkError::Truncated)?;
    match packet.first() {
        None => Err(LinkError::Truncated),
        Some(first) if matches!(first >> 4, 4 | 6) => Ok((packet, wire_len.max(frame.len()) - start)),
        Some(_) => Err(LinkError::NotIp),
    }
}

/// Where the IP header starts, given the place of the first EtherType and of what follows the link header.
fn behind_tags(frame: &[u8], type_at: usize, header_len: usize) -> Result<usize, LinkError> {
    let mut ether_type = u16_at(frame, type_at).ok_or(LinkError::Truncated)?;
    let mut start = header_len;
    for _ in 0..=MAX_VLAN_TAGS {
        match ether_type {
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => return Ok(start),
            // 802.1Q, 802.1ad, and the numbers that QinQ used before it was a standard.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                // A tag is two bytes of priority and VLAN, then the EtherType of what follows.
                ether_type = u16_at(frame, start + 2).ok_or(LinkError::Truncated)?;
                start += 4;
            }
            _ => return Err(LinkError::NotIp),
        }
    }
    Err(LinkError::NotIp)
}

/// The packet among the attributes of an NFLOG frame, and its length before the capture cut the frame.
///
/// Attributes are in the capturing host's byte order, which is not recorded with the frame; but their types are small numbers.
fn nflog_payload(frame: &[u8]) -> Result<(&[u8], usize), LinkError> {
    /// Family (one byte), version (one byte), group (two bytes).
    const HEADER: usize = 4;
    const VERSION: u8 = 0;
    const TYPE_PAYLOAD: u16 = 9;
    /// More attributes than netfilter has; the bound keeps a hostile frame from being walked to its end.
    const MAX_ATTRIBUTES: usize = 64;

    if *frame.get(1).ok_or(LinkError::Truncated)? != VERSION {
        return Err(LinkError::NotIp);
    }
    let mut at = HEADER;
    for _ in 0..MAX_ATTRIBUTES {
        let attribute = frame.get(at..).ok_or(LinkError::Truncated)?;
        let mut len = u16_at(attribute, 0).ok_or(LinkError::Truncated)?;
        let mut kind = u16_at(attribute, 2).ok_or(LinkError::Truncated)?;
        if kind > 0xff {
            len = len.swap_bytes();
            kind = kind.swap_bytes();
        }
        let len = usize::from(len);
        // Its own header counts (linux/netlink.h, struct nlattr).
        let payload_len = len.checked_sub(4).ok_or(LinkError::NotIp)?;
        if kind == TYPE_PAYLOAD {
            let payload = attribute.get(4..len.min(attribute.len())).ok_or(LinkError::Truncated)?;
            return Ok((payload, payload_len));
        }
        at += len.next_multiple_of(4);
    }
    Err(LinkError::NotIp)
}

/// Checks the address family of a BSD loopback header. The capturing host's byte order is not recorded with the frame, and the
/// numbers differ between systems: 2 is IPv4 everywhere; IPv6 is 10 (Linux), 24 (NetBSD), 28 (FreeBSD) or 30 (macOS).
fn behind_family(frame: &[u8]) -> Result<usize, LinkError> {
    let family = frame.first_chunk::<4>().ok_or(LinkError::Truncated)?;
    let family = match u32::from_be_bytes(*family) {
        small @ 0..=0xffff => small,
        large => large.swap_bytes(),
    };
    match family {
        2 | 10 | 24 | 28 | 30 => Ok(4),
        _ => Err(LinkError::NotIp),
    }
}
