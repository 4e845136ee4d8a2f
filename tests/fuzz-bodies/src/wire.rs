//! Frames of every link type, down to the TCP segment.

use tcpcopy_engine::wire::PROTOCOL_TCP;
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::link::{LinkType, ip_packet};
use tcpcopy_engine::wire::tcp::{MIN_HEADER_LEN, TcpSegment};
use tcpcopy_engine::wire::tunnel::{self, Decap};

/// The link types, in the order that the first byte of an input counts them.
pub(crate) const LINK_TYPES: [LinkType; 6] = [
    LinkType::Raw,
    LinkType::Ethernet,
    LinkType::Null,
    LinkType::LinuxCooked,
    LinkType::LinuxCooked2,
    LinkType::Nflog,
];

/// Reads a frame. Input: link type (u8), bytes that the capture cut off (u16, little-endian), the frame.
///
/// # Panics
/// When a view lies outside its packet, or claims more than there was on the wire.
pub fn wire(data: &[u8]) {
    let Some((&[link, cut_low, cut_high], frame)) = data.split_first_chunk::<3>() else { return };
    let link = LINK_TYPES[usize::from(link) % LINK_TYPES.len()];
    let wire_len = frame.len() + usize::from(u16::from_le_bytes([cut_low, cut_high]));
    let Ok((packet, packet_wire_len)) = ip_packet(link, frame, wire_len) else { return };
    if link == LinkType::Nflog {
        // Other attributes may follow the packet, which has a length of its own.
        assert!(frame.as_ptr_range().start <= packet.as_ptr_range().start);
        assert!(frame.as_ptr_range().end >= packet.as_ptr_range().end);
        assert!(packet.len() <= packet_wire_len);
    } else {
        assert!(frame.ends_with(packet), "the packet is not the end of its frame");
        assert_eq!(frame.len() - packet.len(), wire_len - packet_wire_len, "the link header has two lengths");
    }

    let Ok(ip) = IpPacket::parse(packet, packet_wire_len) else { return };
    assert_eq!(ip.source.is_ipv4(), ip.destination.is_ipv4());
    assert!(ip.header_len + ip.payload.len() <= packet.len(), "{ip:?} ends behind the capture");
    assert!(ip.payload.len() <= ip.payload_len, "{ip:?} holds more than was on the wire");
    assert_eq!(&packet[ip.header_len..ip.header_len + ip.payload.len()], ip.payload);
    if let Some((_, inner, inner_wire_len)) = tunnel::open(&ip, Decap::ALL) {
        assert!(ip.payload.ends_with(inner), "what is in a tunnel is not the end of its packet");
        assert_eq!(ip.payload.len() - inner.len(), ip.payload_len - inner_wire_len);
    }
    if ip.fragment.is_some() || ip.protocol != PROTOCOL_TCP {
        return;
    }

    let Ok(tcp) = TcpSegment::parse(ip.payload, ip.payload_len) else { return };
    assert!(tcp.payload.len() <= tcp.payload_len);
    assert!(ip.payload.ends_with(tcp.payload));
    let header_len = ip.payload_len - tcp.payload_len;
    assert!((MIN_HEADER_LEN..=60).contains(&header_len), "a TCP header of {header_len} bytes");
}
