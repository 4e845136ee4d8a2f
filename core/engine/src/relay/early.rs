//! Replies that overtook their route.
//!
//! A target may answer sooner than `tcpcopy`'s wish for the answer arrives. Such replies are kept here for a moment, bounded
//! in time, number and bytes; what nobody asks for in time is counted by the caller.

use super::message::ReplyFlags;
use crate::flow::{FlowKey, FlowMap};
use crate::time::{Duration, Instant};
use smallvec::SmallVec;
use std::collections::VecDeque;

/// Bounds of [`EarlyReplies`].
#[derive(Clone, Copy, Debug)]
pub struct EarlyLimits {
    /// How long a reply is kept.
    pub keep: Duration,
    /// How many are kept.
    pub replies: usize,
    /// How many of one flow are kept.
    pub per_flow: usize,
    /// How many bytes all of them may have.
    pub bytes: usize,
    /// Bytes of the TCP payload that are kept of each.
    pub body: usize,
}

impl Default for EarlyLimits {
    fn default() -> Self {
        Self {
            keep: Duration::from_millis(500),
            replies: 4096,
            per_flow: 16,
            bytes: 4 * 1024 * 1024,
            body: 2048,
        }
    }
}

/// A reply that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlyReply {
    /// The flow that it belongs to.
    pub flow: FlowKey,
    /// When it was captured.
    pub captured_at: Instant,
    /// Flags that it will be sent with.
    pub flags: ReplyFlags,
    /// Length of the IP packet on the wire, in bytes.
    pub wire_len: u32,
    /// Length of the IP and TCP headers, in bytes.
    pub header_len: usize,
    /// Headers and the start of the body.
    pub packet: Vec<u8>,
}

/// Replies without a route, oldest first.
pub struct EarlyReplies {
    limits: EarlyLimits,
    entries: VecDeque<Option<EarlyReply>>,
    /// Number of the first entry; the others follow.
    first: u64,
    by_flow: FlowMap<FlowKey, SmallVec<[u64; 4]>>,
    bytes: usize,
}

impl EarlyReplies {
    /// None yet.
    pub fn new(limits: EarlyLimits) -> Self {
        Self { limits, entries: VecDeque::new(), first: 0, by_flow: FlowMap::default(), bytes: 0 }
    }

    /// Bytes of a packet with headers of `header_len` bytes that are worth handing to [`EarlyReplies::keep`].
    pub const fn kept_len(&self, header_len: usize) -> usize {
        header_len + self.limits.body
    }

    /// Keeps a reply, and returns how many replies were given up for it: older ones that it has no room beside, or itself
    /// when its flow has too many already.
    pub fn keep(&mut self, reply: EarlyReply) -> u64 {
        let serials = self.by_flow.entry(reply.flow).or_default();
        if serials.len() >= self.limits.per_flow {
            return 1;
        }
        serials.push(self.first + self.entries.len() as u64);
        self.bytes += reply.packet.len();
        self.entries.push_back(Some(reply));
        let mut given_up = 0;
        while self.entries.len() > self.limits.replies || self.bytes > self.limits.bytes {
            given_up += u64::from(self.drop_first());
        }
        given_up
    }

    /// Hands out the replies of a flow, oldest first.
    pub fn take(&mut self, flow: &FlowKey, mut each: impl FnMut(EarlyReply)) {
        if self.entries.is_empty() {
            return;
        }
        for serial in self.by_flow.remove(flow).unwrap_or_default() {
            let entry = serial.checked_sub(self.first).and_then(|at| self.entries.get_mut(at as usize));
            if let Some(reply) = entry.and_then(Option::take) {
                self.bytes -= reply.packet.len();
                each(reply);
            }
        }
        self.skip_taken();
    }

    /// Gives up replies that were kept for too long, and returns how many.
    pub fn expire(&mut self, now: Instant) -> u64 {
        let mut given_up = 0;
        while let Some(Some(reply)) = self.entries.front() {
            if now.saturating_since(reply.captured_at) < self.limits.keep {
                break;
            }
            given_up += u64::from(self.drop_first());
            self.skip_taken();
        }
        given_up
    }

    /// When [`EarlyReplies::expire`] is next to be called.
    pub fn next_expiry(&self) -> Option<Instant> {
        match self.entries.front() {
            Some(Some(reply)) => Some(reply.captured_at + self.limits.keep),
            _ => None,
        }
    }

    /// Number of replies that are kept.
    pub fn len(&self) -> usize {
        self.entries.iter().flatten().count()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keeps the first entry one that is still there, so that its age is the oldest.
    fn skip_taken(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// Drops the first entry; whether it was still there.
    fn drop_first(&mut self) -> bool {
        let serial = self.first;
        let Some(entry) = self.entries.pop_front() else { return false };
        self.first += 1;
        let Some(reply) = entry else { return false };
        self.bytes -= reply.packet.len();
        if let Some(serials) = self.by_flow.get_mut(&reply.flow) {
            serials.retain(|other| *other != serial);
            if serials.is_empty() {
                self.by_flow.remove(&reply.flow);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Endpoint;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn reply(port: u16, millis: u64, length: usize) -> EarlyReply {
        EarlyReply {
            flow: FlowKey {
                client: Endpoint::new(Ipv4Addr::LOCALHOST.into(), port),
                target: Endpoint::new(Ipv4Addr::LOCALHOST.into(), 80),
            },
            captured_at: Instant::from_millis(millis),
            flags: ReplyFlags::default(),
            wire_len: length as u32,
            header_len: length,
            packet: vec![0; length],
        }
    }

    #[test]
    fn a_flow_gets_its_own_in_order() {
        let mut early = EarlyReplies::new(EarlyLimits::default());
        for (port, length) in [(1, 40), (2, 50), (1, 60)] {
            assert_eq!(early.keep(reply(port, 0, length)), 0);
        }
        let mut taken = Vec::new();
        early.take(&reply(1, 0, 0).flow, |reply| taken.push(reply.packet.len()));
        assert_eq!((taken, early.len()), (vec![40, 60], 1));
        early.take(&reply(1, 0, 0).flow, |reply| panic!("{reply:?}"));
    }

    #[test]
    fn time_and_numbers_are_bounded() {
        let limits = EarlyLimits { replies: 3, per_flow: 2, bytes: 250, ..EarlyLimits::default() };
        let mut early = EarlyReplies::new(limits);
        assert_eq!((early.keep(reply(1, 0, 100)), early.keep(reply(1, 1, 100))), (0, 0));
        assert_eq!(early.keep(reply(1, 2, 1)), 1, "a third of one flow");
        assert_eq!(early.keep(reply(2, 2, 100)), 1, "the oldest makes room");
        assert_eq!(early.next_expiry(), Some(Instant::from_millis(501)));
        assert_eq!(early.expire(Instant::from_millis(501)), 1);
        assert_eq!(early.expire(Instant::from_millis(502)), 1);
        assert!(early.is_empty() && early.by_flow.is_empty() && early.bytes == 0);
        assert_eq!(early.next_expiry(), None);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_uncounted(steps in prop::collection::vec((0u16..5, 0u64..3), 1..200)) {
            let limits = EarlyLimits { replies: 8, per_flow: 3, bytes: 500, ..EarlyLimits::default() };
            let mut early = EarlyReplies::new(limits);
            let (mut kept, mut gone, mut millis) = (0, 0, 0);
            for (port, what) in steps {
                millis += 60;
                if what == 0 {
                    early.take(&reply(port, 0, 0).flow, |_| gone += 1);
                } else {
                    kept += 1;
                    gone += early.keep(reply(port, millis, 70));
                }
                gone += early.expire(Instant::from_millis(millis));
                prop_assert_eq!(kept, gone + early.len() as u64);
                prop_assert!(early.len() <= 8 && early.bytes == early.len() * 70);
            }
        }
    }
}
