//! Messages after the handshake.
//!
//! Owns their encoding, both ways; encoders append to a buffer that is written once for many messages, decoders borrow
//! packets from the buffer that they were read into. Who wants which reply is [`super::routes`].

use super::frame::{
    DecodeError, Frame, HEADER_LEN, Kind, MAX_PAYLOAD, MAX_REPLY_PACKET, Reader, write_frame,
};
use super::hello::Refusal;
use crate::flow::{Endpoint, FlowKey};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What tcpcopy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToIntercept {
    /// Replies of this flow are wanted. Saying it again changes the body limit and nothing else.
    RouteAdd {
        /// The flow.
        flow: FlowKey,
        /// Bytes of TCP payload wanted of each reply packet; 0 for headers alone.
        body_limit: u32,
    },
    /// Replies of this flow are no longer wanted.
    RouteRemove {
        /// The flow.
        flow: FlowKey,
    },
    /// To be answered by a pong with the same numbers.
    Ping {
        /// Number of the ping.
        sequence: u64,
        /// When it was sent, by tcpcopy's clock.
        nanos: u64,
    },
}

impl ToIntercept {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::RouteAdd { flow, body_limit } => write_frame(out, Kind::RouteAdd, |out| {
                put_flow(out, flow);
                out.extend_from_slice(&body_limit.to_be_bytes());
            }),
            Self::RouteRemove { flow } => write_frame(out, Kind::RouteRemove, |out| put_flow(out, flow)),
            Self::Ping { sequence, nanos } => put_ping(out, Kind::Ping, *sequence, *nanos),
        }
    }

    /// Takes the message at the start of `bytes`, with the number of bytes that it takes up; `None` while it is not complete.
    ///
    /// # Errors
    /// Whatever is wrong with it. The connection should be closed then.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, DecodeError> {
        let Some(frame) = Frame::parse(bytes, MAX_REQUEST_PAYLOAD)? else { return Ok(None) };
        let mut reader = frame.reader();
        let message = match frame.kind {
            Kind::RouteAdd => Self::RouteAdd { flow: take_flow(&mut reader)?, body_limit: reader.u32()? },
            Kind::RouteRemove => Self::RouteRemove { flow: take_flow(&mut reader)? },
            Kind::Ping => Self::Ping { sequence: reader.u64()?, nanos: reader.u64()? },
            other => return Err(DecodeError::Unexpected(other)),
        };
        reader.finish()?;
        Ok(Some((message, frame.bytes.len())))
    }
}

/// Tcpcopy's messages are all short.
const MAX_REQUEST_PAYLOAD: usize = super::frame::MAX_HANDSHAKE_PAYLOAD;

/// Why a route was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RouteRefusal {
    /// Another instance that is alive owns the same flow key.
    Owned = 1,
    /// The route table is full (`intercept -s`).
    TableFull = 2,
}

/// Flags of a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyFlags(pub u16);

impl ReplyFlags {
    /// The reply overtook its route and was kept.
    pub const EARLY: Self = Self(1);
    /// The capture itself held less of the packet than the route asked for.
    pub const CUT_BY_CAPTURE: Self = Self(2);
    /// The packet was put together from IP fragments.
    pub const REASSEMBLED: Self = Self(4);

    /// Both sets.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all flags of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A packet of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// What is special about it.
    pub flags: ReplyFlags,
    /// Microseconds between its capture and its being put into the output buffer.
    pub age_micros: u32,
    /// Length of the IP packet on the wire; more than `packet` holds when the body was not asked for.
    pub wire_len: u32,
    /// IP header, TCP header and as much of the body as the route asks for.
    pub packet: &'a [u8],
}

impl Reply<'_> {
    /// Bytes that the message takes up in the output buffer.
    pub fn encoded_len(&self) -> usize {
        HEADER_LEN + 10 + self.packet.len().min(MAX_REPLY_PACKET)
    }

    /// Appends the message. A packet longer than [`MAX_REPLY_PACKET`] is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_frame(out, Kind::Reply, |out| {
            out.extend_from_slice(&self.flags.0.to_be_bytes());
            out.extend_from_slice(&self.age_micros.to_be_bytes());
            out.extend_from_slice(&self.wire_len.to_be_bytes());
            out.extend_from_slice(&self.packet[..self.packet.len().min(MAX_REPLY_PACKET)]);
        });
    }
}

macro_rules! intercept_stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What `intercept` has counted since its start, over all its peers.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub struct InterceptStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl InterceptStats {
            fn put(&self, out: &mut Vec<u8>) {
                $(out.extend_from_slice(&self.$name.to_be_bytes());)*
            }

            /// A sender of a later version appends fields, which are left unread; fields that one of an earlier version lacks
            /// are zero.
            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let fields = reader.rest();
                if fields.len() % 8 != 0 {
                    return Err(reader.invalid("length"));
                }
                let mut fields = fields.as_chunks::<8>().0.iter().map(|field| u64::from_be_bytes(*field));
                Ok(Self { $($name: fields.next().unwrap_or(0),)* })
            }
        }
    };
}

intercept_stats! {
    /// Packets captured.
    packets_captured,
    /// Packets that the kernel dropped because the ring was full (`intercept -B`).
    kernel_drops,
    /// Packets that are not TCP, or not what their headers say.
    packets_unusable,
    /// Replies put into a connection's output buffer.
    replies_relayed,
    /// Of those, replies that had overtaken their route.
    replies_early,
    /// Replies for which no route came: another connection of the target, or a filter too wide.
    replies_without_route,
    /// Replies dropped because `tcpcopy` read too slowly, or its connection was lost.
    replies_dropped,
    /// Routes now in the table.
    routes,
    /// Routes refused.
    routes_refused,
    /// Bytes written to relay connections.
    bytes_sent,
    /// Connections closed because their peer sent garbage or failed to prove the token.
    peers_refused,
}

/// What intercept says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToTcpcopy<'a> {
    /// A packet of a target.
    Reply(Reply<'a>),
    /// A route was not added.
    RouteRefused {
        /// The flow.
        flow: FlowKey,
        /// Why.
        reason: RouteRefusal,
    },
    /// Answer to a ping, with its numbers.
    Pong {
        /// Number of the ping.
        sequence: u64,
        /// When the ping was sent, by tcpcopy's clock.
        nanos: u64,
    },
    /// Intercept's counters.
    Stats(InterceptStats),
    /// Intercept closes the connection, and why.
    Refused(Refusal),
}

impl<'a> ToTcpcopy<'a> {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Reply(reply) => reply.encode(out),
            Self::RouteRefused { flow, reason } => write_frame(out, Kind::RouteRefused, |out| {
                out.push(*reason as u8);
                put_flow(out, flow);
            }),
            Self::Pong { sequence, nanos } => put_ping(out, Kind::Pong, *sequence, *nanos),
            Self::Stats(stats) => write_frame(out, Kind::Stats, |out| stats.put(out)),
            Self::Refused(refusal) => refusal.encode(out),
        }
    }

    /// Takes the message at the start of `bytes`, with the number of bytes that it takes up; `None` while it is not complete.
    ///
    /// # Errors
    /// Whatever is wrong with it. The connection should be closed then.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, DecodeError> {
        let Some(frame) = Frame::parse(bytes, MAX_PAYLOAD)? else { return Ok(None) };
        let mut reader = frame.reader();
        let message = match frame.kind {
            Kind::Reply => Self::Reply(Reply {
                flags: ReplyFlags(reader.u16()?),
                age_micros: reader.u32()?,
                wire_len: reader.u32()?,
                packet: reader.rest(),
            }),
            Kind::RouteRefused => {
                let reason = match reader.u8()? {
                    1 => RouteRefusal::Owned,
                    2 => RouteRefusal::TableFull,
                    _ => return Err(reader.invalid("reason")),
                };
                Self::RouteRefused { flow: take_flow(&mut reader)?, reason }
            }
            Kind::Pong => Self::Pong { sequence: reader.u64()?, nanos: reader.u64()? },
            Kind::Stats => Self::Stats(InterceptStats::take(&mut reader)?),
            Kind::Refused => {
                // A later version may append to it, so what follows is not looked at.
                return Ok(Some((Self::Refused(Refusal::decode(&frame)?), frame.bytes.len())));
            }
            other => return Err(DecodeError::Unexpected(other)),
        };
        reader.finish()?;
        Ok(Some((message, frame.bytes.len())))
    }
}

fn put_ping(out: &mut Vec<u8>, kind: Kind, sequence: u64, nanos: u64) {
    write_frame(out, kind, |out| {
        out.extend_from_slice(&sequence.to_be_bytes());
        out.extend_from_slice(&nanos.to_be_bytes());
    });
}

/// A key of mixed families can't come about; written as IPv6 it would still be read as a valid, if useless, flow.
fn put_flow(out: &mut Vec<u8>, flow: &FlowKey) {
    let family = if flow.client.addr.is_ipv4() && flow.target.addr.is_ipv4() { 4 } else { 6 };
    out.push(family);
    out.extend_from_slice(&flow.client.port.to_be_bytes());
    out.extend_from_slice(&flow.target.port.to_be_bytes());
    for addr in [flow.client.addr, flow.target.addr] {
        match addr {
            IpAddr::V4(addr) if family == 4 => out.extend_from_slice(&addr.octets()),
            IpAddr::V4(addr) => out.extend_from_slice(&addr.to_ipv6_mapped().octets()),
            IpAddr::V6(addr) => out.extend_from_slice(&addr.octets()),
        }
    }
}

fn take_flow(reader: &mut Reader<'_>) -> Result<FlowKey, DecodeError> {
    let family = reader.u8()?;
    let (client_port, target_port) = (reader.u16()?, reader.u16()?);
    let mut addr = || match family {
        4 => Ok(IpAddr::V4(Ipv4Addr::from(reader.array::<4>()?))),
        6 => Ok(IpAddr::V6(Ipv6Addr::from(reader.array::<16>()?))),
        _ => Err(reader.invalid("address family")),
    };
    let (client, target) = (addr()?, addr()?);
    Ok(FlowKey { client: Endpoint::new(client, client_port), target: Endpoint::new(target, target_port) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flows() -> impl Strategy<Value = FlowKey> {
        let ports = || (any::<u16>(), any::<u16>());
        let key = |client: IpAddr, target: IpAddr, ports: (u16, u16)| FlowKey {
            client: Endpoint::new(client, ports.0),
            target: Endpoint::new(target, ports.1),
        };
        prop_oneof![
            (any::<[u8; 4]>(), any::<[u8; 4]>(), ports()).prop_map(move |(a, b, p)| key(
                a.into(),
                b.into(),
                p
            )),
            (any::<[u8; 16]>(), any::<[u8; 16]>(), ports()).prop_map(move |(a, b, p)| key(
                a.into(),
                b.into(),
                p
            )),
        ]
    }

    fn requests() -> impl Strategy<Value = ToIntercept> {
        prop_oneof![
            (flows(), any::<u32>()).prop_map(|(flow, body_limit)| ToIntercept::RouteAdd { flow, body_limit }),
            flows().prop_map(|flow| ToIntercept::RouteRemove { flow }),
            any::<(u64, u64)>().prop_map(|(sequence, nanos)| ToIntercept::Ping { sequence, nanos }),
        ]
    }

    proptest! {
        #[test]
        fn what_tcpcopy_says_is_read_back(messages in prop::collection::vec(requests(), 1..20), cut in any::<usize>()) {
            let mut wire = Vec::new();
            for message in &messages {
                message.encode(&mut wire);
            }
            let (mut rest, mut read) = (&wire[..], Vec::new());
            while let Some((message, length)) = ToIntercept::decode(rest).unwrap() {
                read.push(message);
                rest = &rest[length..];
            }
            prop_assert_eq!(&read, &messages);
            // Whatever byte the stream is cut at, what is complete is read and the rest is asked for.
            let (mut rest, mut count) = (&wire[..cut % (wire.len() + 1)], 0);
            while let Some((message, length)) = ToIntercept::decode(rest).unwrap() {
                prop_assert_eq!(message, messages[count]);
                count += 1;
                rest = &rest[length..];
            }
        }

        #[test]
        fn what_intercept_says_is_read_back(
            packet in prop::collection::vec(any::<u8>(), 0..2000),
            numbers in any::<(u16, u32, u32)>(),
            flow in flows(),
            stats in any::<(u64, u64)>(),
            cut in any::<usize>(),
        ) {
            let messages = [
                ToTcpcopy::Reply(Reply {
                    flags: ReplyFlags(numbers.0),
                    age_micros: numbers.1,
                    wire_len: numbers.2,
                    packet: &packet,
                }),
                ToTcpcopy::RouteRefused { flow, reason: RouteRefusal::TableFull },
                ToTcpcopy::Pong { sequence: stats.0, nanos: stats.1 },
                ToTcpcopy::Stats(InterceptStats {
                    packets_captured: stats.0,
                    peers_refused: stats.1,
                    ..InterceptStats::default()
                }),
                ToTcpcopy::Refused(Refusal::SingleTaken),
            ];
            let mut wire = Vec::new();
            for message in &messages {
                message.encode(&mut wire);
            }
            let mut rest = &wire[..];
            for message in &messages {
                let (read, length) = ToTcpcopy::decode(rest).unwrap().unwrap();
                prop_assert_eq!(&read, message);
                rest = &rest[length..];
            }
            prop_assert!(rest.is_empty());
            let mut rest = &wire[..cut % (wire.len() + 1)];
            while let Some((_, length)) = ToTcpcopy::decode(rest).unwrap() {
                rest = &rest[length..];
            }
        }

        #[test]
        fn garbage_is_an_error_or_incomplete(kind in any::<u8>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut wire = vec![kind, 0, 0, bytes.len() as u8];
            wire.extend_from_slice(&bytes);
            let _ = ToIntercept::decode(&wire);
            let _ = ToTcpcopy::decode(&wire);
            let _ = ToTcpcopy::decode(&bytes);
        }
    }

    #[test]
    fn wrong_lengths_and_families_are_told_apart() {
        let frame = |payload: &[u8]| {
            let mut out = Vec::new();
            write_frame(&mut out, Kind::RouteRemove, |out| out.extend_from_slice(payload));
            out
        };
        assert_eq!(ToIntercept::decode(&frame(&[4; 12])), Err(DecodeError::WrongLength(Kind::RouteRemove)));
        assert_eq!(ToIntercept::decode(&frame(&[4; 14])), Err(DecodeError::WrongLength(Kind::RouteRemove)));
        assert_eq!(
            ToIntercept::decode(&frame(&[5; 13])),
            Err(DecodeError::InvalidField { kind: Kind::RouteRemove, field: "address family" })
        );
        assert_eq!(
            ToIntercept::decode(&[0x20, 0, 0, 0]),
            Err(DecodeError::Unexpected(Kind::Reply)),
            "intercept's own messages are none that it may get"
        );
    }

    #[test]
    fn an_oversized_reply_is_cut_to_what_the_peer_accepts() {
        let packet = vec![7; MAX_REPLY_PACKET + 1000];
        let reply = Reply {
            flags: ReplyFlags::default(),
            age_micros: 0,
            wire_len: packet.len() as u32,
            packet: &packet,
        };
        let mut wire = Vec::new();
        reply.encode(&mut wire);
        assert_eq!(wire.len(), reply.encoded_len());
        let (read, _) = ToTcpcopy::decode(&wire).unwrap().unwrap();
        let ToTcpcopy::Reply(read) = read else { panic!("{read:?}") };
        assert_eq!((read.packet.len(), read.wire_len as usize), (MAX_REPLY_PACKET, packet.len()));
    }
}
