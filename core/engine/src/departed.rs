//! Connections whose session is over while packets of theirs may still come.
//!
//! Owns what is remembered of them: why the session ended and how far its client had sent. Without it a delayed duplicate would
//! look like a connection that began before the capture, and so would the rest of one that was given up.

use crate::counters::EndReason;
use crate::flow::{Endpoint, FlowMap};
use crate::seq::SeqNumber;
use crate::wire::tcp::TcpSegment;

/// Connections in each of the two generations; the older one is forgotten when the younger one is full.
const GENERATION: usize = 16_384;

/// What a segment of a connection that is over carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// Nothing that was not captured before.
    Repeated,
    /// New bytes or none, of a connection that ended for this reason.
    New(EndReason),
}

/// The connections that ended last, by client and online endpoint.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    young: FlowMap<(Endpoint, Endpoint), (EndReason, SeqNumber)>,
    old: FlowMap<(Endpoint, Endpoint), (EndReason, SeqNumber)>,
}

impl Departed {
    /// The session of a connection ended for `reason`; its client had sent up to `next`.
    pub(crate) fn note(&mut self, client: Endpoint, online: Endpoint, reason: EndReason, next: SeqNumber) {
        if self.young.len() >= GENERATION {
            self.old.clear();
            std::mem::swap(&mut self.young, &mut self.old);
        }
        self.young.insert((client, online), (reason, next));
    }

    /// Another connection began with the same addresses and ports.
    pub(crate) fn forget(&mut self, client: Endpoint, online: Endpoint) {
        self.young.remove(&(client, online));
        self.old.remove(&(client, online));
    }

    /// What `segment` is if it belongs to one of them.
    pub(crate) fn late(&self, client: Endpoint, online: Endpoint, segment: &TcpSegment<'_>) -> Option<Late> {
        let key = (client, online);
        let &(reason, next) = self.young.get(&key).or_else(|| self.old.get(&key))?;
        let end = segment.seq + segment.payload_len as u32;
        // A bare acknowledgement shows how far the client has read, which helps to join it again.
        Some(if segment.payload_len == 0 || end.is_after(next) { Late::New(reason) } else { Late::Repeated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tcp::{TcpFlags, TcpOptions};

    #[test]
    fn what_was_captured_before_is_told_from_what_is_new() {
        let mut departed = Departed::default();
        let (client, online) =
            (Endpoint::new([10, 0, 0, 1].into(), 4000), Endpoint::new([10, 0, 0, 2].into(), 80));
        let data = |seq| TcpSegment {
            source_port: 4000,
            destination_port: 80,
            seq: SeqNumber(seq),
            ack: SeqNumber(1),
            flags: TcpFlags::ACK,
            window: 100,
            urgent: 0,
            options: TcpOptions::default(),
            payload: b"data",
            payload_len: 4,
        };
        assert_eq!(departed.late(client, online, &data(6)), None);
        departed.note(client, online, EndReason::MemoryLimit, SeqNumber(10));
        assert_eq!(departed.late(client, online, &data(6)), Some(Late::Repeated));
        assert_eq!(departed.late(client, online, &data(10)), Some(Late::New(EndReason::MemoryLimit)));
        departed.forget(client, online);
        assert_eq!(departed.late(client, online, &data(6)), None);
    }

    #[test]
    fn no_more_than_two_generations_are_remembered() {
        let mut departed = Departed::default();
        let online = Endpoint::new([10, 0, 0, 2].into(), 80);
        for number in 0..100_000_u32 {
            let client = Endpoint::new(std::net::Ipv4Addr::from(number).into(), 4000);
            departed.note(client, online, EndReason::Completed, SeqNumber(1));
        }
        assert!(departed.young.len() + departed.old.len() <= 2 * GENERATION);
    }
}
