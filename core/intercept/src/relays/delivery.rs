//! The way of a reply: to a connection, into the store of early ones, or nowhere.

use super::{Interfaces, Now, Relays};
use crate::capture::{CapturedReply, Origin};
use crate::connection::Phase;
use crate::options::Sharing;
use std::hash::BuildHasher;
use tcpcopy_engine::flow::FlowKey;
use tcpcopy_engine::relay::early::EarlyReply;
use tcpcopy_engine::relay::message::{Reply, ReplyFlags};
use tcpcopy_engine::relay::routes::{ConnectionId, Destination, Sighting};
use tcpcopy_engine::time::Instant;
use tcpcopy_net::poll::Poller;

impl Relays {
    /// Sends a captured reply on its way, or keeps it for a moment.
    pub(crate) fn deliver(&mut self, reply: &CapturedReply<'_>, poller: &Poller, now: Now) {
        let flags = match reply.origin {
            Origin::Whole => ReplyFlags::default(),
            Origin::Reassembled => ReplyFlags::REASSEMBLED,
        };
        let destination = match self.routes.destination(&reply.flow, self.sighting(reply), now.monotonic) {
            Destination::NoRoute => self.single_destination(reply),
            other => other,
        };
        match destination {
            Destination::Connection(id, body_limit) => {
                let wanted = reply.header_len + body_limit as usize;
                let available = reply.packet.len();
                let is_cut = available < wanted.min(reply.wire_len);
                let message = Reply {
                    flags: if is_cut { flags.with(ReplyFlags::CUT_BY_CAPTURE) } else { flags },
                    age_micros: age_micros(reply.captured_at_nanos, now.unix_nanos),
                    wire_len: reply.wire_len.try_into().unwrap_or(u32::MAX),
                    packet: &reply.packet[..wanted.min(available)],
                };
                self.send(id, &message, poller, now.monotonic);
            }
            Destination::Lost => self.counts.replies_dropped += 1,
            Destination::Repeated => self.counts.replies_repeated += 1,
            Destination::NoRoute => {
                if reply.flow.client.port == self.relay_port || self.connections.is_empty() {
                    // Our own relay connections where a filter of the user lets them through; or nobody is there to ask.
                    self.counts.replies_without_route += 1;
                    return;
                }
                let kept = self.early.kept_len(reply.header_len).min(reply.packet.len());
                self.counts.replies_without_route += self.early.keep(EarlyReply {
                    flow: reply.flow,
                    captured_at: now.monotonic,
                    flags,
                    wire_len: reply.wire_len.try_into().unwrap_or(u32::MAX),
                    header_len: reply.header_len,
                    packet: reply.packet[..kept].to_vec(),
                });
            }
        }
    }

    /// What a packet is known again by, where several interfaces may show it.
    fn sighting(&self, reply: &CapturedReply<'_>) -> Option<Sighting> {
        (self.interfaces == Interfaces::Several).then(|| Sighting {
            fingerprint: self.hasher.hash_one((&reply.packet[..reply.header_len], reply.wire_len)),
            captured_at_nanos: reply.captured_at_nanos,
        })
    }

    /// With `--single`, everything goes to the one tcpcopy, as far as its worker is certain.
    fn single_destination(&self, reply: &CapturedReply<'_>) -> Destination {
        if self.sharing == Sharing::Routes {
            return Destination::NoRoute;
        }
        let mut worker = None;
        let mut live: Vec<(u16, ConnectionId)> = Vec::new();
        for (_, connection) in &self.connections {
            if let Phase::Live { session, .. } = &connection.phase {
                if *worker.get_or_insert(session.peer.worker) != session.peer.worker {
                    return Destination::NoRoute;
                }
                live.push((session.peer.connection, connection.id));
            }
        }
        live.sort_unstable_by_key(|(number, _)| *number);
        let hash = self.hasher.hash_one(reply.flow);
        match live.len() as u64 {
            0 => Destination::NoRoute,
            count => Destination::Connection(live[(hash % count) as usize].1, 0),
        }
    }

    fn send(&mut self, id: ConnectionId, message: &Reply<'_>, poller: &Poller, now: Instant) {
        let combine = self.combine;
        let Some(connection) = self.get(id) else {
            self.counts.replies_dropped += 1;
            return;
        };
        if !connection.queue_reply(message) {
            self.counts.replies_dropped += 1;
            return;
        }
        let is_batch_full = combine > 0 && connection.replies_queued >= combine;
        self.counts.replies_relayed += 1;
        self.counts.relay_age.add(message.age_micros);
        if is_batch_full {
            self.flush_one(id, poller, now);
        } else {
            self.mark_dirty(id);
        }
    }

    pub(super) fn send_early(&mut self, flow: &FlowKey, poller: &Poller, now: Now) {
        let mut waiting = Vec::new();
        self.early.take(flow, |reply| waiting.push(reply));
        for reply in waiting {
            let Destination::Connection(id, body_limit) = self.routes.destination(flow, None, now.monotonic)
            else {
                self.counts.replies_dropped += 1;
                continue;
            };
            let wanted = reply.header_len + body_limit as usize;
            let available = reply.packet.len();
            let mut flags = reply.flags.with(ReplyFlags::EARLY);
            if available < wanted.min(reply.wire_len as usize) {
                flags = flags.with(ReplyFlags::CUT_BY_CAPTURE);
            }
            let age = now.monotonic.saturating_since(reply.captured_at);
            let message = Reply {
                flags,
                age_micros: age.as_micros().try_into().unwrap_or(u32::MAX),
                wire_len: reply.wire_len,
                packet: &reply.packet[..wanted.min(available)],
            };
            self.counts.replies_early += 1;
            self.send(id, &message, poller, now.monotonic);
        }
    }
}

fn age_micros(captured_at_nanos: u64, now_nanos: u64) -> u32 {
    (now_nanos.saturating_sub(captured_at_nanos) / 1000).try_into().unwrap_or(u32::MAX)
}
