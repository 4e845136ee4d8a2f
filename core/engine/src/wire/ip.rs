//! IPv4 and IPv6 headers, extension headers included (RFC 791, RFC 8200, RFC 2675, RFC 4302).
//!
//! Owns the way from an IP header to what it carries. Leaves the link header to [`super::link`], putting fragments
//! together to [`super::fragment`], and does not verify the IPv4 header checksum: where a host captures its own
//! traffic, offloading leaves it unset.

use super::u32_at;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Extension headers followed before a packet is called malformed. Each kind may appear once (destination options twice).
const MAX_EXTENSION_HEADERS: usize = 8;

pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const AUTHENTICATION: u8 = 51;
pub(super) const DESTINATION_OPTIONS: u8 = 60;

/// Option type of the jumbo payload length (RFC 2675, section 2).
const OPTION_JUMBO: u8 = 0xc2;

/// Which part of a datagram a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification that all fragments of one datagram share; 16 bits in IPv4.
    pub id: u32,
    /// Where the payload belongs in the datagram, in bytes.
    pub offset: u32,
    /// Whether further fragments follow this one.
    pub more: bool,
}

/// One IP packet.
#[derive(Clone, Copy, Debug)]
pub struct IpPacket<'a> {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// What the payload is: the protocol number behind any IPv6 extension headers. In a fragment of IPv6 it is the number in
    /// the fragment header, which may name another extension header.
    pub protocol: u8,
    /// Set when the packet is only a part of a datagram; then `payload` is no whole TCP segment. An IPv6 fragment header
    /// around a whole datagram (an atomic fragment, RFC 6946) does not count.
    pub fragment: Option<Fragment>,
    /// The captured bytes behind the headers, without link padding.
    pub payload: &'a [u8],
    /// Length of the payload on the wire, as the header says; more than `payload.len()` when the capture cut the packet.
    pub payload_len: usize,
    /// Bytes from the start of the packet to the payload, all extension headers included.
    pub header_len: usize,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN bits.
    pub traffic_class: u8,
}

/// Why bytes are no IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpError {
    /// The captured bytes end within the headers.
    #[error("the captured bytes end within the IP headers")]
    Truncated,
    /// The version is neither 4 nor 6.
    #[error("IP version {0} is neither 4 nor 6")]
    Version(u8),
    /// A header length is below its minimum or beyond the packet's end.
    #[error("an IP header length is below its minimum or beyond the packet's end")]
    HeaderLength,
    /// The packet's length field is less than its headers, or contradicts its jumbo payload option.
    #[error("the IP length field contradicts the headers")]
    TotalLength,
    /// The IPv6 extension headers are more than any sender has reason for, or out of order.
    #[error("the IPv6 extension header chain is too long or out of order")]
    ExtensionHeaders,
}

impl<'a> IpPacket<'a> {
    /// Reads the headers of the packet that `data` starts with.
    ///
    /// `wire_len` is what the link layer knows of the packet's length: at least `data.len()`, padding included. It is used
    /// where the header has no length, as in segments above 64 KiB that were merged or not yet cut (BIG TCP, TSO).
    ///
    /// # Errors
    /// [`IpError`] when the headers are cut, or are not what they claim to be. A cut payload is no error.
    pub fn parse(data: &'a [u8], wire_len: usize) -> Result<Self, IpError> {
        let wire_len = wire_len.max(data.len());
        match data.first().ok_or(IpError::Truncated)? >> 4 {
            4 => Self::parse_v4(data, wire_len),
            6 => Self::parse_v6(data, wire_len),
            version => Err(IpError::Version(version)),
        }
    }

    fn parse_v4(data: &'a [u8], wire_len: usize) -> Result<Self, IpError> {
        let header = data.first_chunk::<20>().ok_or(IpError::Truncated)?;
        let header_len = usize::from(header[0] & 0xf) * 4;
        if header_len < 20 {
            return Err(IpError::HeaderLength);
        }
        let total_len = match u16::from_be_bytes([header[2], header[3]]) {
            0 => wire_len,
            total_len => usize::from(total_len),
        };
        if total_len < header_len {
            return Err(IpError::TotalLength);
        }
        let payload = data.get(header_len..total_len.min(data.len())).ok_or(IpError::Truncated)?;
        let offset_and_flags = u16::from_be_bytes([header[6], header[7]]);
        let fragment = Fragment {
            id: u32::from(u16::from_be_bytes([header[4], header[5]])),
            offset: u32::from(offset_and_flags & 0x1fff) * 8,
            more: offset_and_flags & 0x2000 != 0,
        };
        Ok(Self {
            source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
            destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
            protocol: header[9],
            fragment: (fragment.offset != 0 || fragment.more).then_some(fragment),
            payload,
            payload_len: total_len - header_len,
            header_len,
            hop_limit: header[8],
            traffic_class: header[1],
        })
    }

    fn parse_v6(data: &'a [u8], wire_len: usize) -> Result<Self, IpError> {
        let header = data.first_chunk::<40>().ok_or(IpError::Truncated)?;
        let (total_len, has_length) = match u16::from_be_bytes([header[4], header[5]]) {
            0 => (jumbo_total_len(data)?.unwrap_or(wire_len), false),
            payload_len => (40 + usize::from(payload_len), true),
        };
        let chain = ExtensionChain::walk(data, header[6])?;
        if chain.header_len > total_len || (chain.fragment.is_some() && !has_length) {
            return Err(IpError::TotalLength);
        }
        let payload = data.get(chain.header_len..total_len.min(data.len())).ok_or(IpError::Truncated)?;
        let [_, _, _, _, _, _, _, hop_limit, addresses @ ..] = header;
        let (source, destination) = addresses.split_at(16);
        let address = |bytes: &[u8]| bytes.first_chunk::<16>().copied().map(Ipv6Addr::from);
        Ok(Self {
            source: address(source).ok_or(IpError::Truncated)?.into(),
            destination: address(destination).ok_or(IpError::Truncated)?.into(),
            protocol: chain.protocol,
            fragment: chain.fragment,
            payload,
            payload_len: total_len - chain.header_len,
            header_len: chain.header_len,
            hop_limit: *hop_limit,
            traffic_class: header[0] << 4 | header[1] >> 4,
        })
    }
}

/// What the IPv6 extension headers lead to.
struct ExtensionChain {
    protocol: u8,
    fragment: Option<Fragment>,
    header_len: usize,
}

impl ExtensionChain {
    /// Follows the headers that start behind the fixed one, up to the payload or to the fragment header of a real fragment:
    /// what follows that one is a piece of the datagram, not a header.
    fn walk(data: &[u8], first: u8) -> Result<Self, IpError> {
        let mut protocol = first;
        let mut at = 40;
        let mut has_fragment_header = false;
        for index in 0..=MAX_EXTENSION_HEADERS {
            match protocol {
                // Only directly behind the fixed header (RFC 8200, section 4.1).
                HOP_BY_HOP if index > 0 => return Err(IpError::ExtensionHeaders),
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | AUTHENTICATION => {
                    let [next, len] =
                        *data.get(at..).and_then(|rest| rest.first_chunk()).ok_or(IpError::Truncated)?;
                    at += extension_len(protocol, len);
                    protocol = next;
                }
                // One at most: a fragment is not cut again by way of a second header.
                FRAGMENT if has_fragment_header => return Err(IpError::ExtensionHeaders),
                FRAGMENT => {
                    has_fragment_header = true;
                    let header: [u8; 8] =
                        *data.get(at..).and_then(|rest| rest.first_chunk()).ok_or(IpError::Truncated)?;
                    at += 8;
                    protocol = header[0];
                    let offset_and_more = u16::from_be_bytes([header[2], header[3]]);
                    let fragment = Fragment {
                        id: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
                        offset: u32::from(offset_and_more & 0xfff8),
                        more: offset_and_more & 1 != 0,
                    };
                    if fragment.offset != 0 || fragment.more {
                        return Ok(Self { protocol, fragment: Some(fragment), header_len: at });
                    }
                }
                _ => return Ok(Self { protocol, fragment: None, header_len: at }),
            }
        }
        Err(IpError::ExtensionHeaders)
    }
}

/// Length in bytes of an extension header with `len` in its length field. The authentication header counts in units of
/// four bytes and leaves out two of them (RFC 4302, section 2.2); the others count in eights and leave out one.
pub(super) const fn extension_len(kind: u8, len: u8) -> usize {
    match kind {
        AUTHENTICATION => (len as usize + 2) * 4,
        _ => (len as usize + 1) * 8,
    }
}

/// The packet's length from the jumbo payload option in its hop-by-hop header, if it has one.
fn jumbo_total_len(data: &[u8]) -> Result<Option<usize>, IpError> {
    if data.get(6) != Some(&HOP_BY_HOP) {
        return Ok(None);
    }
    let len = *data.get(41).ok_or(IpError::Truncated)?;
    let options = data.get(..40 + extension_len(HOP_BY_HOP, len)).ok_or(IpError::Truncated)?;
    let mut at = 42;
    while let Some(kind) = options.get(at) {
        // Pad1 has no length.
        if *kind == 0 {
            at += 1;
            continue;
        }
        let len = options.get(at + 1).ok_or(IpError::HeaderLength)?;
        if *kind == OPTION_JUMBO {
            let (4, Some(payload_len)) = (*len, u32_at(options, at + 2)) else {
                return Err(IpError::HeaderLength);
            };
            // A length that the fixed header could hold must be there (RFC 2675, section 3).
            if payload_len <= u32::from(u16::MAX) {
                return Err(IpError::TotalLength);
            }
            return Ok(Some(40 + payload_len as usize));
        }
        at += 2 + usize::from(*len);
    }
    Ok(None)
}
