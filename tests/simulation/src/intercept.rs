//! What `intercept` does to a target's packets: it returns headers, or whole packets where bodies are wanted, and sometimes sees
//! several segments as one.

use crate::rng::Rng;
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpSegment};

/// A reply as it is returned: the first bytes of a packet, and its length on the wire.
#[derive(Clone, Debug)]
pub struct Reply {
    /// From the IP header to the end of the TCP options, or of the payload.
    pub headers: Vec<u8>,
    /// Length of the whole packet.
    pub wire_len: usize,
}

/// Makes replies of the packets that a server sent at once, with at most `body_limit` bytes of payload each.
pub fn replies(packets: &[Vec<u8>], body_limit: u32, merge: u64, rng: &mut Rng) -> Vec<Reply> {
    let mut replies: Vec<Reply> = Vec::with_capacity(packets.len());
    for packet in packets {
        let reply = reply_of(packet, body_limit);
        match replies.last_mut() {
            Some(last) if merge > 0 && rng.chance(merge) && joins(last, &reply) => join(last, &reply),
            _ => replies.push(reply),
        }
    }
    replies
}

fn reply_of(packet: &[u8], body_limit: u32) -> Reply {
    let keep = parse(packet, packet.len()).map_or(packet.len(), |(ip, tcp)| {
        ip.header_len + ip.payload_len - tcp.payload_len.saturating_sub(body_limit as usize)
    });
    Reply { headers: packet[..keep].to_vec(), wire_len: packet.len() }
}

fn parse(bytes: &[u8], wire_len: usize) -> Option<(IpPacket<'_>, TcpSegment<'_>)> {
    let ip = IpPacket::parse(bytes, wire_len).ok()?;
    let tcp = TcpSegment::parse(ip.payload, ip.payload_len).ok()?;
    Some((ip, tcp))
}

/// Whether a kernel's receive offload would join the two: data right behind data, and nothing else new.
fn joins(first: &Reply, second: &Reply) -> bool {
    let Some((_, a)) = parse(&first.headers, first.wire_len) else { return false };
    let Some((_, b)) = parse(&second.headers, second.wire_len) else { return false };
    a.flags == TcpFlags::ACK
        && b.flags.without(TcpFlags::PSH) == TcpFlags::ACK
        && a.payload_len > 0
        && b.payload_len > 0
        && a.seq + a.payload_len as u32 == b.seq
        && (a.ack, a.window) == (b.ack, b.window)
        && first.wire_len + b.payload_len <= 65_535
}

fn join(first: &mut Reply, second: &Reply) {
    let Some((_, b)) = parse(&second.headers, second.wire_len) else { return };
    let (len, flags, payload) = (b.payload_len, b.flags, b.payload.to_vec());
    let Some((a, _)) = parse(&first.headers, first.wire_len) else { return };
    let header_len = a.header_len;
    first.wire_len += len;
    let (at, value) = match first.headers[0] >> 4 {
        4 => (2, first.wire_len),
        _ => (4, first.wire_len - 40),
    };
    first.headers[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
    first.headers[header_len + 13] = flags.0;
    first.headers.extend(payload);
}
