//! TCP options, read and written.

use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::wire::PROTOCOL_TCP;
use tcpcopy_engine::wire::checksum::Checksum;
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::packet::{OutgoingSegment, header_len, write};
use tcpcopy_engine::wire::tcp::{FastOpen, MAX_WINDOW_SCALE, SackBlocks, TcpFlags, TcpOptions, TcpSegment};

/// Reads options, and writes what was read into packets of both IP versions. Input: the options.
///
/// # Panics
/// When what is read back differs, but for what is documented not to be written, or a checksum is wrong.
pub fn options(data: &[u8]) {
    let Ok(read) = TcpOptions::parse(data) else { return };
    assert!(read.window_scale.is_none_or(|shift| shift <= MAX_WINDOW_SCALE));
    let written_len = read.written_len();
    assert!(written_len <= TcpOptions::MAX_LEN && written_len.is_multiple_of(4), "{written_len} bytes");

    for flow in [
        flow([10_u8, 0, 0, 1], [10, 2, 0, 1]),
        flow([0xfd01_u16, 0, 0, 0, 0, 0, 0, 7], [0xfd02, 0, 0, 0, 0, 0, 0, 1]),
    ] {
        let segment = OutgoingSegment {
            flow,
            seq: SeqNumber(u32::MAX),
            ack: Some(SeqNumber(data.len() as u32)),
            flags: TcpFlags(data.first().copied().unwrap_or(0)).with(TcpFlags::ACK).without(TcpFlags::URG),
            window: 1234,
            options: read,
            hop_limit: 64,
            traffic_class: 0,
            identification: 7,
        };
        let payload = [data, &data[..data.len() / 2]];
        let mut packet = Vec::new();
        write(&mut packet, &segment, payload);
        assert_eq!(packet.len(), header_len(&segment) + payload[0].len() + payload[1].len());
        check_read_back(&packet, &segment, payload);
    }
}

fn check_read_back(packet: &[u8], segment: &OutgoingSegment, payload: [&[u8]; 2]) {
    let ip = IpPacket::parse(packet, packet.len()).expect("what was written is an IP packet");
    let tcp = TcpSegment::parse(ip.payload, ip.payload_len).expect("what was written is a TCP segment");
    assert_eq!(checksum_over(&ip), 0, "the TCP checksum of {segment:?}");
    assert_eq!((tcp.seq, Some(tcp.ack), tcp.flags), (segment.seq, segment.ack, segment.flags));
    assert_eq!(tcp.payload, payload.concat());
    let mut expected = segment.options;
    expected.fast_open = FastOpen::None;
    // Blocks that find no room are left out, the last ones first.
    expected.sack = SackBlocks::new();
    for (start, end) in segment.options.sack.as_slice().iter().take(tcp.options.sack.len()) {
        expected.sack.push(*start, *end);
    }
    assert_eq!(tcp.options, expected);
    let left_out = segment.options.sack.len() - tcp.options.sack.len();
    assert!(
        left_out == 0
            || segment.options.written_len() + 8 > TcpOptions::MAX_LEN
            || tcp.options.sack.is_empty()
    );
}

/// What a receiver gets when it sums up a segment with its pseudo-header (RFC 9293, section 3.1): 0 when all is well.
pub(crate) fn checksum_over(ip: &IpPacket<'_>) -> u16 {
    let mut sum = Checksum::new();
    for addr in [ip.source, ip.destination] {
        match addr {
            std::net::IpAddr::V4(addr) => sum.add(&addr.octets()),
            std::net::IpAddr::V6(addr) => sum.add(&addr.octets()),
        }
    }
    sum.add_u16(u16::from(PROTOCOL_TCP));
    sum.add(&(ip.payload_len as u32).to_be_bytes());
    sum.add(ip.payload);
    sum.finish()
}

fn flow<A: Into<std::net::IpAddr>>(client: A, target: A) -> FlowKey {
    FlowKey { client: Endpoint::new(client.into(), 1025), target: Endpoint::new(target.into(), 80) }
}
