//! Connections that were under way when the capture began.
//!
//! Owns what little is remembered of them until a request seems to begin: the client's next sequence number, and how much of
//! the response it had read. A request begins where a client that had read more of the response sends again.

use crate::counters::EndReason;
use crate::flow::{Endpoint, FlowMap};
use crate::seq::SeqNumber;
use crate::time::{Duration, Instant};
use crate::wire::tcp::{TcpFlags, TcpSegment};

/// Connections remembered at most; beyond it the table starts anew, which only delays joining.
const MAX_STRANGERS: usize = 65_536;
/// How long a connection that says nothing is remembered.
const MAX_SILENCE: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug)]
struct Stranger {
    next: SeqNumber,
    /// The last acknowledgement; none when its session ended before there was any.
    acknowledged: Option<SeqNumber>,
    ready: bool,
    /// Whether request bytes of it were skipped before.
    skipped: bool,
    /// Why the session that knew it up to here ended, if there was one.
    known: Option<EndReason>,
    seen: Instant,
}

/// What a segment of an unknown connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// A request seems to begin with it.
    RequestBegins,
    /// Nothing that could be joined.
    Nothing,
    /// Request bytes that belong to no known beginning; `first` for the first of this connection.
    Skipped {
        /// Whether it is the first such segment of its connection.
        first: bool,
        /// What they are lost to: the end of the session that knew the connection, or that there was none.
        reason: EndReason,
    },
    /// Nothing that a session has not seen before.
    Repeated,
}

/// Connections first seen in the middle and not joined yet, by client and online endpoint.
#[derive(Debug, Default)]
pub struct Strangers {
    table: FlowMap<(Endpoint, Endpoint), Stranger>,
}

impl Strangers {
    /// Looks at a segment that belongs to no session.
    pub fn observe(
        &mut self,
        client: Endpoint,
        online: Endpoint,
        segment: &TcpSegment<'_>,
        now: Instant,
    ) -> Sighting {
        let key = (client, online);
        let ends = segment.flags.contains(TcpFlags::FIN);
        if segment.payload_len > 0 || ends {
            let end = segment.seq + segment.payload_len as u32;
            let seen_before = |s: &&mut Stranger| s.known.is_some() && !end.is_after(s.next);
            if let Some(stranger) = self.table.get_mut(&key).filter(seen_before) {
                stranger.seen = now;
                return Sighting::Repeated;
            }
        }
        let says_nothing = segment.flags.contains(TcpFlags::RST) || !segment.flags.contains(TcpFlags::ACK);
        if says_nothing || (ends && segment.payload_len == 0) {
            self.table.remove(&key);
            return Sighting::Nothing;
        }
        // One byte before what was acknowledged is a keep-alive probe, not a request.
        let len = segment.payload_len as u32;
        let end = segment.seq + len;
        let Some(stranger) = self.table.get_mut(&key) else {
            self.make_room(now);
            let ready = len == 0;
            let stranger = Stranger {
                next: end,
                acknowledged: Some(segment.ack),
                ready,
                skipped: !ready,
                known: None,
                seen: now,
            };
            self.table.insert(key, stranger);
            return if ready {
                Sighting::Nothing
            } else {
                Sighting::Skipped { first: true, reason: EndReason::MidStream }
            };
        };
        stranger.seen = now;
        let reads = stranger.acknowledged.is_none_or(|known| segment.ack.is_after(known));
        let in_order = segment.seq == stranger.next;
        if len == 0 {
            if in_order {
                stranger.ready |= reads;
                stranger.acknowledged = Some(segment.ack);
            }
            return Sighting::Nothing;
        }
        if in_order && (stranger.ready || reads) && !stranger.known.is_some_and(is_final) {
            self.table.remove(&key);
            return Sighting::RequestBegins;
        }
        let first = !std::mem::replace(&mut stranger.skipped, true);
        let reason = stranger.known.unwrap_or(EndReason::MidStream);
        if end.is_after(stranger.next) {
            *stranger = Stranger { next: end, acknowledged: Some(segment.ack), ready: false, ..*stranger };
        }
        if ends {
            self.table.remove(&key);
        }
        Sighting::Skipped { first, reason }
    }

    /// Remembers a connection whose session is over: its client's next sequence number and last acknowledgement, and why. What
    /// comes of it again, late, is no request; what is new is lost to the same reason until it can be joined.
    pub fn remember(
        &mut self,
        client: Endpoint,
        online: Endpoint,
        (next, acknowledged): (SeqNumber, Option<SeqNumber>),
        reason: EndReason,
        now: Instant,
    ) {
        self.make_room(now);
        let stranger =
            Stranger { next, acknowledged, ready: false, skipped: false, known: Some(reason), seen: now };
        self.table.insert((client, online), stranger);
    }

    /// Forgets a connection, because a session took it over.
    pub fn forget(&mut self, client: Endpoint, online: Endpoint) {
        if !self.table.is_empty() {
            self.table.remove(&(client, online));
        }
    }

    fn make_room(&mut self, now: Instant) {
        if self.table.len() < MAX_STRANGERS {
            return;
        }
        self.table.retain(|_, s| now.saturating_since(s.seen) < MAX_SILENCE);
        if self.table.len() >= MAX_STRANGERS {
            self.table.clear();
        }
    }
}

/// Whether a session that ended for `reason` is not to begin anew in the middle of its connection: what its plugin gave up would
/// be given up again.
const fn is_final(reason: EndReason) -> bool {
    matches!(reason, EndReason::Protocol | EndReason::PluginFault | EndReason::PluginDisabled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(s: &mut Strangers, seq: u32, ack: u32, payload: &[u8]) -> Sighting {
        let client = Endpoint::new([10, 0, 0, 1].into(), 4000);
        let online = Endpoint::new([10, 0, 0, 2].into(), 80);
        let segment = TcpSegment {
            source_port: 4000,
            destination_port: 80,
            seq: SeqNumber(seq),
            ack: SeqNumber(ack),
            flags: TcpFlags::ACK,
            window: 100,
            urgent: 0,
            options: crate::wire::tcp::TcpOptions::default(),
            payload,
            payload_len: payload.len(),
        };
        s.observe(client, online, &segment, Instant::ZERO)
    }

    #[test]
    fn a_request_begins_after_something_was_read() {
        let mut s = Strangers::default();
        assert_eq!(
            observe(&mut s, 100, 500, b"tail"),
            Sighting::Skipped { first: true, reason: EndReason::MidStream }
        );
        assert_eq!(
            observe(&mut s, 104, 500, b"more"),
            Sighting::Skipped { first: false, reason: EndReason::MidStream }
        );
        assert_eq!(observe(&mut s, 108, 600, b"GET"), Sighting::RequestBegins);
    }

    #[test]
    fn an_acknowledgement_alone_shows_that_the_client_is_between_requests() {
        let mut s = Strangers::default();
        assert_eq!(observe(&mut s, 100, 500, b""), Sighting::Nothing);
        assert_eq!(observe(&mut s, 100, 500, b"GET"), Sighting::RequestBegins);
    }

    #[test]
    fn a_hole_before_the_segment_makes_it_unsafe() {
        let mut s = Strangers::default();
        observe(&mut s, 100, 500, b"");
        assert_eq!(
            observe(&mut s, 200, 600, b"GET"),
            Sighting::Skipped { first: true, reason: EndReason::MidStream }
        );
        assert_eq!(
            observe(&mut s, 300, 600, b"GET"),
            Sighting::Skipped { first: false, reason: EndReason::MidStream }
        );
    }

    #[test]
    fn what_follows_a_session_is_lost_to_its_end_until_it_can_be_joined() {
        let client = Endpoint::new([10, 0, 0, 1].into(), 4000);
        let online = Endpoint::new([10, 0, 0, 2].into(), 80);
        let reason = EndReason::MemoryLimit;
        let mut s = Strangers::default();
        s.remember(client, online, (SeqNumber(100), Some(SeqNumber(500))), reason, Instant::ZERO);
        assert_eq!(observe(&mut s, 96, 500, b"late"), Sighting::Repeated);
        assert_eq!(observe(&mut s, 100, 500, b"rest"), Sighting::Skipped { first: true, reason });
        assert_eq!(observe(&mut s, 104, 600, b"GET"), Sighting::RequestBegins);
        // Shed before it had acknowledged anything: its first byte is the stream's first.
        s.remember(client, online, (SeqNumber(100), None), reason, Instant::ZERO);
        assert_eq!(observe(&mut s, 100, 500, b"GET"), Sighting::RequestBegins);
    }
}
