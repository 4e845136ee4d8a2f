//! Making the packets of clients and targets.

use super::grammar::Stray;
use super::variant::{Family, Variant};
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::wire::packet::{self, OutgoingSegment};
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpOptions};

const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_FRAGMENT: u8 = 44;
/// Where the IP header holds the number of the protocol above.
const PROTOCOL_AT: [usize; 2] = [9, 6];

/// A segment on its way from one end to another.
pub(crate) struct Segment<'a> {
    pub(crate) from: Endpoint,
    pub(crate) to: Endpoint,
    pub(crate) seq: SeqNumber,
    pub(crate) ack: Option<SeqNumber>,
    pub(crate) flags: TcpFlags,
    pub(crate) window: u16,
    pub(crate) options: TcpOptions,
    pub(crate) urgent: u16,
    pub(crate) payload: &'a [u8],
}

/// A whole IP packet.
pub(crate) fn write(segment: &Segment<'_>) -> Vec<u8> {
    let outgoing = OutgoingSegment {
        flow: FlowKey { client: segment.from, target: segment.to },
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: segment.window,
        options: segment.options,
        hop_limit: 64,
        traffic_class: 0,
        identification: 1,
    };
    let mut out = Vec::new();
    packet::write(&mut out, &outgoing, [segment.payload, &[]]);
    if segment.flags.contains(TcpFlags::URG) {
        // The engine's writer has no urgent data, on purpose.
        let tcp = packet::ip_header_len(&outgoing.flow);
        out[tcp + 13] |= TcpFlags::URG.0;
        out[tcp + 18..tcp + 20].copy_from_slice(&segment.urgent.to_be_bytes());
    }
    out
}

/// Part `part` (from 1 on) of `of` fragments of `packet`.
pub(crate) fn fragment(packet: &[u8], family: Family, part: usize, of: usize) -> Vec<u8> {
    let header_len = [20, 40][family as usize];
    let (header, payload) = packet.split_at(header_len);
    let size = payload.len().div_ceil(of).next_multiple_of(8);
    let start = (part - 1) * size;
    let piece = &payload[start..payload.len().min(start + size)];
    let more = u16::from(part < of);
    let mut out = header.to_vec();
    match family {
        Family::V4 => {
            out[2..4].copy_from_slice(&((header_len + piece.len()) as u16).to_be_bytes());
            out[6..8].copy_from_slice(&(more << 13 | (start / 8) as u16).to_be_bytes());
        }
        Family::V6 => {
            out[4..6].copy_from_slice(&((8 + piece.len()) as u16).to_be_bytes());
            out[6] = PROTOCOL_FRAGMENT;
            out.extend([6, 0]);
            out.extend((start as u16 | more).to_be_bytes());
            out.extend(7u32.to_be_bytes());
        }
    }
    out.extend_from_slice(piece);
    out
}

/// A packet that belongs to no session.
pub(crate) fn stray(what: Stray, variant: &Variant) -> Vec<u8> {
    let client = variant.client(77);
    let (from, to) = match what {
        Stray::Udp | Stray::Short => (client, variant.online()),
        Stray::OtherPort => (client, Endpoint::new(variant.online().addr, 81)),
        Stray::Reply | Stray::ShortReply => (variant.target(), client),
    };
    let mut packet = write(&Segment {
        from,
        to,
        seq: SeqNumber(1),
        ack: Some(SeqNumber(1)),
        flags: TcpFlags::ACK,
        window: 100,
        options: TcpOptions::default(),
        urgent: 0,
        payload: b"stray",
    });
    match what {
        Stray::Udp => packet[PROTOCOL_AT[variant.family as usize]] = PROTOCOL_UDP,
        // A header that claims more than there is.
        Stray::Short | Stray::ShortReply => packet[[20, 40][variant.family as usize] + 12] = 0xf0,
        Stray::OtherPort | Stray::Reply => {}
    }
    packet
}
