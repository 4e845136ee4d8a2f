//! One connection: who is the client, how it began and ended, and what was captured of its two directions.
//!
//! Owns the meaning of flags. Leaves the table of connections, and what they add up to, to [`crate::inspection`].

use crate::direction::{Direction, Taken};
use crate::packets::{Segment, address_bits};
use crate::protocol::{First, Head, Protocol, is_client_like, recognise};
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_engine::wire::tcp::{FastOpen, TcpFlags};

/// Payload that no announced segment size is known for, and that nobody's frames carry: jumbo frames end at 9000 bytes or so.
const LONGEST_FRAME: usize = 9216;

/// A connection's two ends, the smaller first, so that both directions have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowId {
    low: u128,
    high: u128,
    ports: u32,
}

impl FlowId {
    /// The connection of two ends, and whether `from` is the smaller one.
    pub(crate) fn new(from: Endpoint, to: Endpoint) -> (Self, bool) {
        let (a, b) = (address_bits(from.addr), address_bits(to.addr));
        let ports = |low: u16, high: u16| u32::from(low) << 16 | u32::from(high);
        if (a, from.port) <= (b, to.port) {
            (Self { low: a, high: b, ports: ports(from.port, to.port) }, true)
        } else {
            (Self { low: b, high: a, ports: ports(to.port, from.port) }, false)
        }
    }
}

/// How the first packets of a connection were captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Began {
    /// With its SYN.
    Syn,
    /// With the answer to it.
    SynAck,
    /// Later.
    Middle,
}

/// How sure it is who is the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Roles {
    /// The handshake, or what was said, tells.
    Known,
    /// The ports do, more or less.
    Guessed,
}

/// Which side sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// What a packet changed that others want to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// The connection ended with this packet.
    pub(crate) ended: bool,
    /// Who was taken for the client is the server.
    pub(crate) swapped: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: FlowId,
    pub(crate) client: Endpoint,
    pub(crate) server: Endpoint,
    pub(crate) roles: Roles,
    pub(crate) began: Began,
    pub(crate) last_at: u64,
    pub(crate) from_client: Direction,
    pub(crate) from_server: Direction,
    client_head: Head,
    server_head: Head,
    first: First,
    pub(crate) protocol: Protocol,
    pub(crate) refused: bool,
    pub(crate) ended: bool,
    pub(crate) fast_open_data: bool,
    /// Packets that were captured more than once.
    pub(crate) duplicates: u64,
}

impl Connection {
    pub(crate) fn new(id: FlowId, client: Endpoint, server: Endpoint, roles: Roles, began: Began) -> Self {
        Self {
            id,
            client,
            server,
            roles,
            began,
            last_at: 0,
            from_client: Direction::default(),
            from_server: Direction::default(),
            client_head: Head::default(),
            server_head: Head::default(),
            first: First::Client,
            protocol: Protocol::Silent,
            refused: false,
            ended: false,
            fast_open_data: false,
            duplicates: 0,
        }
    }

    /// Which side a packet comes from.
    pub(crate) fn side_of(&self, from: Endpoint) -> Side {
        if from == self.client { Side::Client } else { Side::Server }
    }

    /// Whether a SYN begins another connection between the same ends.
    pub(crate) fn is_other(&self, segment: &Segment<'_>) -> bool {
        let side = match self.side_of(segment.from) {
            Side::Client => &self.from_client,
            Side::Server => &self.from_server,
        };
        match (side.base(), self.began) {
            _ if side.began_with(segment.tcp.seq) => false,
            // One that was overtaken by the first data.
            (Some(base), Began::Middle)
                if base.distance_from(segment.tcp.seq + 1).unsigned_abs() < 65_536 =>
            {
                !side.at_beginning() && self.ended
            }
            (Some(_), _) => true,
            // The other side was heard first: the answer overtook the SYN, or an old connection is over.
            (None, Began::SynAck) => false,
            (None, _) => self.ended,
        }
    }

    /// Takes a packet that was not captured before.
    pub(crate) fn take(&mut self, segment: &Segment<'_>) -> Change {
        self.last_at = self.last_at.max(segment.at);
        let tcp = &segment.tcp;
        let flags = tcp.flags;
        let mut swapped = self.learn_roles(segment);
        let side = self.side_of(segment.from);
        let (own, other) = match side {
            Side::Client => (&mut self.from_client, &mut self.from_server),
            Side::Server => (&mut self.from_server, &mut self.from_client),
        };
        own.packets += 1;
        let ack = flags.contains(TcpFlags::ACK).then_some(tcp.ack);
        if flags.contains(TcpFlags::RST) {
            // What a reset carries is a reason for people, not bytes of the stream (RFC 9293, section 3.5.3).
            own.reset = true;
            let before_answer = self.began == Began::Syn && other.packets > 0 && own.packets == 1;
            self.refused |= side == Side::Server && before_answer && self.from_server.bytes == 0;
            return Change { ended: !std::mem::replace(&mut self.ended, true), swapped };
        }
        let mut seq = tcp.seq;
        if flags.contains(TcpFlags::SYN) {
            own.begin(seq);
            own.mss = own.mss.or(tcp.options.mss);
            seq += 1;
            if side == Side::Client {
                self.began = Began::Syn;
                self.fast_open_data |= tcp.payload_len > 0 && tcp.options.fast_open == FastOpen::Cookie;
            }
        }
        if tcp.payload_len > 0 {
            let len = u32::try_from(tcp.payload_len).unwrap_or(u32::MAX);
            let taken = own.take(seq, len, ack);
            if !matches!(taken, Taken::Repeated | Taken::Probe | Taken::Implausible) {
                if tcp.payload.len() < tcp.payload_len {
                    own.cut += 1;
                    own.cut_bytes += (tcp.payload_len - tcp.payload.len()) as u64;
                }
                let longest = other.mss.map_or(LONGEST_FRAME, usize::from);
                own.super_segments += u64::from(tcp.payload_len > longest);
            }
            if taken == Taken::InOrder {
                swapped |= self.hear(side, segment, seq);
            }
        }
        let (own, other) = match self.side_of(segment.from) {
            Side::Client => (&mut self.from_client, &mut self.from_server),
            Side::Server => (&mut self.from_server, &mut self.from_client),
        };
        if flags.contains(TcpFlags::FIN) {
            own.finish(seq + tcp.payload_len as u32);
        }
        if let Some(ack) = ack {
            other.acknowledge(ack);
        }
        let over = self.from_client.finished() && self.from_server.finished();
        let ended = over && !std::mem::replace(&mut self.ended, true);
        Change { ended, swapped }
    }

    /// Lets a SYN, or the answer to it, tell who is the client. Returns whether that is the other way round than was guessed.
    fn learn_roles(&mut self, segment: &Segment<'_>) -> bool {
        if self.roles == Roles::Known || !segment.tcp.flags.contains(TcpFlags::SYN) {
            return false;
        }
        self.roles = Roles::Known;
        let from_client = !segment.tcp.flags.contains(TcpFlags::ACK);
        let is_other_way = from_client != (self.side_of(segment.from) == Side::Client);
        if is_other_way {
            self.swap();
        }
        is_other_way
    }

    /// Looks at what was said, while it is the beginning. Returns whether it shows that client and server are the other way round.
    fn hear(&mut self, side: Side, segment: &Segment<'_>, seq: tcpcopy_engine::seq::SeqNumber) -> bool {
        let head = match side {
            Side::Client => &self.client_head,
            Side::Server => &self.server_head,
        };
        if head.is_full() {
            return false;
        }
        if self.client_head.is_empty() && self.server_head.is_empty() {
            self.first = if side == Side::Client { First::Client } else { First::Server };
        }
        let head = match side {
            Side::Client => &mut self.client_head,
            Side::Server => &mut self.server_head,
        };
        if !head.push(seq, segment.tcp.payload, segment.tcp.payload_len) {
            return false;
        }
        let mut swapped = false;
        if self.roles == Roles::Guessed
            && let Some(client) = is_client_like(head)
        {
            self.roles = Roles::Known;
            if client != (side == Side::Client) {
                self.swap();
                swapped = true;
            }
        }
        self.protocol = recognise(&self.client_head, &self.server_head, self.first);
        swapped
    }

    /// Makes the client the server and the server the client.
    pub(crate) fn swap(&mut self) {
        std::mem::swap(&mut self.client, &mut self.server);
        std::mem::swap(&mut self.from_client, &mut self.from_server);
        std::mem::swap(&mut self.client_head, &mut self.server_head);
        self.first = match self.first {
            First::Client => First::Server,
            First::Server => First::Client,
        };
        self.protocol = recognise(&self.client_head, &self.server_head, self.first);
    }

    /// Requests, as far as they can be told: times that the client sent after having read more of the server; of a connection whose
    /// client was not captured, times that the server did.
    pub(crate) const fn requests(&self) -> u64 {
        match self.from_client.packets {
            0 => self.from_server.turns,
            _ => self.from_client.turns,
        }
    }

    /// Whether the client's bytes are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.protocol.is_encrypted()
    }
}

#[cfg(test)]
mod tests {
    /// The documentation of [`crate::Limits`] names a size.
    #[test]
    fn a_connection_is_as_large_as_is_said() {
        let size = size_of::<super::Connection>();
        assert!((400..=640).contains(&size), "{size}");
    }
}
