//! The side of a session that faces the target: opening connections, replies, and every way in which they end.

use super::{DelayedReply, Lost, Session, reason_of};
use crate::batch::PacketBatch;
use crate::config::{EngineConfig, Pace};
use crate::counters::{Counters, EndReason};
use crate::flow::FlowKey;
use crate::protocol::{Bodies, ClientEnd, Exchange, ResponseBytes};
use crate::shared::Shared;
use crate::stream::{Arrival, Assembler, SegmentInfo};
use crate::tcp::connection::{Emitted, Limited, Reset};
use crate::tcp::{Connection, ConnectionOptions, Phase, Progress, ReplyHeader};
use crate::time::{Duration, Instant};
use crate::wire::packet;

/// Connections tried for the same waiting request before it is given up.
const MAX_FRUITLESS: u32 = 3;
/// Addresses and ports tried for a connection whose routes are refused.
const MAX_REFUSED_ROUTES: u32 = 8;
/// First wait after a failed handshake; doubles up to [`MAX_RETRY_DELAY`].
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);
/// A reset this soon after the handshake, with nothing answered, is what a missing route looks like.
const EARLY_RESET: Duration = Duration::from_secs(1);
/// Replies that wait for a distant client at most; beyond it they are dropped, as a full queue on the way would.
const MAX_DELAYED: usize = 4096;

/// Where packets of a connection go, and who counts them.
pub(super) struct Outgoing<'a> {
    pub(super) batch: &'a mut PacketBatch,
    pub(super) counters: &'a mut Counters,
    pub(super) session: u32,
    pub(super) fresh_at: &'a mut u64,
}

/// Appends what `connection` may send now.
pub(super) fn transmit(
    connection: &mut Connection,
    limit: usize,
    out: Outgoing<'_>,
    now: Instant,
) -> Limited {
    let Outgoing { batch, counters, session, fresh_at } = out;
    let target = connection.flow().target;
    connection.transmit(now, limit, |segment, payload, kind| {
        let captured_at = if kind == Emitted::Fresh { std::mem::take(fresh_at) } else { 0 };
        let before = batch.bytes().len();
        batch.push(target, session, captured_at, |bytes| packet::write(bytes, segment, payload));
        counters.packets_sent += 1;
        counters.bytes_sent += (batch.bytes().len() - before) as u64;
        match kind {
            Emitted::Again => counters.retransmits += 1,
            Emitted::Ack => counters.acks_sent += 1,
            Emitted::Probe => counters.window_probes += 1,
            Emitted::Syn | Emitted::Fresh | Emitted::Reset => {}
        }
    })
}

/// The payload of a reply, as far as it was returned.
#[derive(Clone, Copy)]
struct Body<'a> {
    bytes: &'a [u8],
    /// Offset of its first byte in the connection's response stream.
    offset: i64,
    /// Its length on the wire.
    wire_len: usize,
}

impl Session {
    /// Opens a connection to the target. Without a free address and port the session ends.
    pub(super) fn open_connection(&mut self, shared: &mut Shared, now: Instant) {
        let body_limit = self.body_limit();
        let (client, copy) = (self.key.client, self.key.copy);
        let claimed = shared.claim_flow(self.number, client, self.target, copy, self.attempts, body_limit);
        let Some(flow) = claimed else {
            self.end(EndReason::NoPort, shared, now);
            return;
        };
        // The client's own number fits what the target may remember of this address and port.
        let own = flow.client == client && self.attempts == 0;
        let iss = if own { self.client.isn() } else { shared.initial_sequence(&flow, now) };
        let offer = &self.client.offer;
        let clock = now.as_millis() as u32;
        let timestamp_offset = match offer.timestamp {
            Some(value) => value.wrapping_sub(clock),
            None => shared.timestamp_offset(flow.client.addr),
        };
        self.attempts += 1;
        self.response = Assembler::default();
        self.outbox.begin_connection();
        self.retry_at = None;
        self.last_progress = now;
        let options = ConnectionOptions {
            flow,
            iss,
            mss: offer.mss.unwrap_or(shared.config.mss).min(shared.config.mss),
            window_scale: offer.window_scale,
            sack_permitted: offer.sack_permitted,
            timestamps: offer.timestamp.is_some(),
            window: self.client.window(),
            mtu: shared.mtu_for(flow.target.addr),
            timestamp_offset,
            hop_limit: offer.hop_limit.max(32),
            traffic_class: offer.traffic_class & !0x03,
        };
        self.connection = Some(Connection::open(options, now));
    }

    /// `intercept` refused the route of `flow`, because another instance has that address and port at the target. A connection
    /// that was not established yet tries another; nothing of the present one is sent any more, not even a reset, which would
    /// hit the other instance's connection.
    pub(crate) fn on_route_refused(&mut self, flow: &FlowKey, shared: &mut Shared, now: Instant) {
        self.refused_routes += 1;
        let is_new = |c: &Connection| c.flow() == flow && matches!(c.phase(), Phase::Handshake { .. });
        if self.is_ended()
            || self.refused_routes > MAX_REFUSED_ROUTES
            || !self.connection.as_ref().is_some_and(is_new)
        {
            self.end_silently(EndReason::RouteRefused, shared, now);
            return;
        }
        if let Some(mut connection) = self.connection.take() {
            self.outbox.connection_lost(&mut connection, EndReason::RouteRefused, &mut shared.counters);
            // Taken before the old one is given back, so that it is another one.
            self.open_connection(shared, now);
            shared.release_flow(flow);
        }
        self.after_events(shared, now);
    }

    /// Takes a reply of the target, now or after the client's distance.
    pub(crate) fn on_reply(
        &mut self,
        flow: &FlowKey,
        header: &ReplyHeader,
        body: &[u8],
        shared: &mut Shared,
        now: Instant,
    ) {
        let distance = match shared.config.pace {
            Pace::Fixed(distance) => distance,
            Pace::Measured => {
                self.client.round_trip.filter(|rtt| *rtt >= EngineConfig::PACE_FLOOR).unwrap_or_default()
            }
        };
        if distance.is_zero() && self.delayed.is_empty() || self.is_ended() {
            self.take_reply(flow, header, body, shared, now);
            self.after_events(shared, now);
        } else if self.delayed.len() < MAX_DELAYED {
            // A distance learnt late must not let replies overtake each other.
            let last = self.delayed.back().map_or(Instant::ZERO, |d| d.due);
            let due = (now + distance).max(last);
            self.delayed_bytes += DelayedReply::cost(body);
            self.delayed.push_back(DelayedReply { due, flow: *flow, header: *header, body: body.to_vec() });
        }
    }

    pub(super) fn deliver_delayed(&mut self, shared: &mut Shared, now: Instant) {
        while let Some(reply) = self.delayed.pop_front_if(|d| d.due <= now) {
            self.delayed_bytes -= DelayedReply::cost(&reply.body);
            self.take_reply(&reply.flow, &reply.header, &reply.body, shared, now);
        }
    }

    fn take_reply(
        &mut self,
        flow: &FlowKey,
        header: &ReplyHeader,
        body: &[u8],
        shared: &mut Shared,
        now: Instant,
    ) {
        if let Some(former) = self.former.as_mut().filter(|c| c.flow() == flow) {
            former.on_reply(header, now);
            return;
        }
        let Some(connection) = self.connection.as_mut().filter(|c| c.flow() == flow) else { return };
        let offset = connection.response_offset(header);
        let was_closed = connection.target_closed();
        let progress = connection.on_reply(header, now);
        let closes = connection.target_closed() && !was_closed;
        if self.is_ended() {
            return;
        }
        let body = Body { bytes: body, offset, wire_len: header.payload_len as usize };
        self.on_progress(progress, body, shared, now);
        if closes {
            self.with_protocol(shared, now, |p, exchange| p.on_response_end(exchange));
        }
    }

    /// Tells the protocol of response bytes: each once and in order, whatever way they came.
    fn tell_response(&mut self, progress: Progress, body: Body<'_>, shared: &mut Shared, now: Instant) {
        let info = SegmentInfo { pushed: progress.pushed, ..SegmentInfo::default() };
        let Self { response, protocol, outbox, connection, .. } = self;
        let Shared { counters, hub, .. } = shared;
        let mut tell = |bytes: ResponseBytes<'_>| {
            let connection = connection.as_mut();
            let mut exchange =
                Exchange { outbox: &mut *outbox, connection, counters: &mut *counters, hub: &mut *hub, now };
            protocol.on_response(bytes, &mut exchange);
        };
        if body.bytes.is_empty() && response.early_bytes() == 0 {
            if progress.response > 0 {
                response.resume_at(response.next_offset() + progress.response, |_, _| ());
                tell(ResponseBytes { len: progress.response, pushed: progress.pushed, body: &[] });
            }
            return;
        }
        let arrival = response.insert(body.offset, body.bytes, body.wire_len, info, |bytes, info| {
            tell(ResponseBytes { len: bytes.len() as u64, pushed: info.pushed, body: bytes });
        });
        if matches!(arrival, Arrival::Cut(_)) && progress.response > 0 {
            // As much of it as was returned.
            let start = (response.next_offset() as i64 - body.offset).clamp(0, body.bytes.len() as i64);
            response.resume_at(response.next_offset() + progress.response, |_, _| ());
            let bytes = &body.bytes[start as usize..];
            tell(ResponseBytes { len: progress.response, pushed: progress.pushed, body: bytes });
        }
    }

    fn on_progress(&mut self, progress: Progress, body: Body<'_>, shared: &mut Shared, now: Instant) {
        if progress.connected {
            shared.counters.syn_acks += 1;
            shared.counters.sessions_connected += 1;
            shared.counters.sessions_established += u64::from(!self.established);
            self.established = true;
            self.last_progress = now;
            self.with_protocol(shared, now, |p, exchange| p.on_connected(exchange));
        }
        if progress.acknowledged > 0 {
            shared.counters.request_bytes_acknowledged += progress.acknowledged;
            let acknowledged = self.connection.as_ref().map_or(0, |c| c.sender().acknowledged());
            if acknowledged > self.outbox.prepared() {
                // What only prepares a connection is no request.
                self.fruitless = 0;
            }
            self.last_progress = now;
            if let Some(connection) = &self.connection {
                self.outbox.settle(connection, &mut shared.counters);
            }
            self.with_protocol(shared, now, |p, exchange| p.on_acknowledged(exchange));
        }
        if progress.response > 0 {
            shared.counters.response_bytes += progress.response;
            self.last_progress = now;
        }
        if progress.response > 0 || !body.bytes.is_empty() {
            self.tell_response(progress, body, shared, now);
        }
        match progress.reset {
            Some(Reset::Refused) => {
                shared.counters.target_resets += 1;
                self.lost = Some(Lost::Handshake(EndReason::Refused));
                self.settle_lost(shared, now);
            }
            Some(Reset::Established) => {
                shared.counters.target_resets += 1;
                let early = self.connection.as_ref().is_some_and(|c| {
                    c.receiver().in_order() == 0
                        && c.established_at().is_some_and(|at| now.saturating_since(at) < EARLY_RESET)
                });
                shared.counters.early_resets += u64::from(early);
                self.lost = Some(Lost::Established(EndReason::TargetReset));
                self.settle_lost(shared, now);
            }
            None => {}
        }
    }

    /// The handshake came to nothing: what waits is given up, and later requests try again.
    fn handshake_failed(&mut self, reason: EndReason, shared: &mut Shared, now: Instant) {
        self.last_failure = Some(reason);
        if let Some(connection) = self.connection.take() {
            shared.release_flow(connection.flow());
        }
        self.fruitless += 1;
        let delay = FIRST_RETRY_DELAY * (1 << self.fruitless.saturating_sub(1).min(6));
        self.retry_at = Some(now + delay.min(MAX_RETRY_DELAY));
        self.outbox.give_up_waiting(reason, &mut shared.counters);
        self.retry_reason = reason;
        self.with_protocol(shared, now, |p, exchange| p.on_connection_lost(exchange));
    }

    /// The connection is over. What can't have reached the target goes to a new one.
    fn connection_lost(&mut self, reason: EndReason, shared: &mut Shared, now: Instant) {
        let Some(mut connection) = self.connection.take() else { return };
        self.outbox.connection_lost(&mut connection, reason, &mut shared.counters);
        if connection.sender().acknowledged() <= self.outbox.prepared() {
            self.fruitless += 1;
        }
        if reason != EndReason::TargetClosed {
            self.last_failure = Some(reason);
        }
        if connection.sender().end() < connection.sender().sent() {
            // Some of what is on its way goes to another connection: it must not be sent again on this one.
            connection.abort(now);
        } else if connection.phase() == Phase::Open {
            connection.discard_unsent();
            connection.close();
        }
        self.retire(connection, shared);
        if self.fruitless >= MAX_FRUITLESS {
            self.outbox.give_up_waiting(reason, &mut shared.counters);
            self.retry_at = Some(now + FIRST_RETRY_DELAY);
            self.retry_reason = reason;
            self.fruitless = 0;
        }
        self.with_protocol(shared, now, |p, exchange| p.on_connection_lost(exchange));
    }

    /// Lets a connection end beside the present one.
    fn retire(&mut self, connection: Connection, shared: &mut Shared) {
        if let Some(older) = self.former.take() {
            shared.release_flow(older.flow());
        }
        if connection.phase() == Phase::Closed {
            shared.release_flow(connection.flow());
        } else {
            self.former = Some(connection);
        }
    }

    pub(super) fn run_connection_timers(&mut self, shared: &mut Shared, now: Instant) {
        if let Some(former) = &mut self.former {
            former.on_timer(now);
        }
        let Some(connection) = &mut self.connection else { return };
        let effect = connection.on_timer(now);
        shared.counters.retransmit_timeouts += u64::from(effect.retransmit);
        if effect.handshake_failed && !self.is_ended() {
            self.lost = Some(Lost::Handshake(EndReason::NoHandshake));
            self.settle_lost(shared, now);
        }
    }

    /// Draws the conclusions from a broken connection, unless the plugin has still to answer what came before.
    fn settle_lost(&mut self, shared: &mut Shared, now: Instant) {
        if self.protocol.waits_for_plugin() {
            return;
        }
        match self.lost.take() {
            Some(Lost::Handshake(reason)) => self.handshake_failed(reason, shared, now),
            Some(Lost::Established(reason)) => self.connection_lost(reason, shared, now),
            None => {}
        }
    }

    /// Gives up what the lost instance of a plugin was in charge of.
    pub(super) fn after_plugin_loss(&mut self, shared: &mut Shared, now: Instant) {
        if let Some(reason) = self.outbox.take_given_up() {
            self.end(reason, shared, now);
        } else if let Some((_, reason)) = self.outbox.take_breaking() {
            self.lost = None;
            match self.connection.take() {
                Some(connection) => self.break_off(connection, reason, shared, now),
                None => self.outbox.drop_given_up(&mut shared.counters),
            }
        }
    }

    /// Resets a connection that nothing may follow on. What can't have reached the target goes to a new one.
    fn break_off(
        &mut self,
        mut connection: Connection,
        reason: EndReason,
        shared: &mut Shared,
        now: Instant,
    ) {
        self.outbox.connection_lost(&mut connection, reason, &mut shared.counters);
        connection.abort(now);
        self.retire(connection, shared);
    }

    /// Brings the session to where it has to be after something happened: staged bytes to a connection, ends to their ends.
    pub(super) fn after_events(&mut self, shared: &mut Shared, now: Instant) {
        if !self.is_ended() {
            if let Some(reason) = self.outbox.take_given_up() {
                self.end(reason, shared, now);
            } else if !self.protocol.waits_for_plugin() {
                self.settle_inputs(shared);
                self.settle_lost(shared, now);
                self.settle_broken(shared, now);
                self.settle_target_close(shared, now);
                self.place_staged(shared, now);
                self.settle_client_close(shared, now);
            }
        }
        if self.connection.is_none() {
            self.outbox.settle_without(&mut shared.counters);
        }
        self.drop_closed(shared);
    }

    /// The protocol asked for a fresh connection, because half a request is on this one.
    fn settle_broken(&mut self, shared: &mut Shared, now: Instant) {
        let Some((from, reason)) = self.outbox.take_breaking() else { return };
        let Some(mut connection) = self.connection.take() else {
            self.outbox.drop_given_up(&mut shared.counters);
            self.with_protocol(shared, now, |p, exchange| p.on_connection_lost(exchange));
            return;
        };
        if from >= connection.sender().sent() {
            // Nothing of it is at the target: what went before may end in peace.
            self.outbox.withdraw(&mut connection, from, &mut shared.counters);
            self.connection = Some(connection);
            // What waited for its answer waits for nothing now.
            self.with_protocol(shared, now, |p, exchange| p.on_timer(exchange));
            return;
        }
        self.break_off(connection, reason, shared, now);
        self.with_protocol(shared, now, |p, exchange| p.on_connection_lost(exchange));
    }

    /// Asks for other bodies than before, if the protocol wants them.
    fn settle_inputs(&mut self, shared: &mut Shared) {
        if !self.outbox.take_inputs_changed() {
            return;
        }
        let body_limit = self.body_limit();
        if let Some(connection) = &self.connection {
            shared.change_body_limit(connection.flow(), body_limit);
        }
    }

    fn body_limit(&self) -> u32 {
        match self.protocol.bodies() {
            Bodies::NotNeeded => 0,
            Bodies::Needed => u32::MAX,
        }
    }

    /// The target closed: once everything on its way is acknowledged, our side is closed too, and what still waits gets a
    /// connection of its own.
    fn settle_target_close(&mut self, shared: &mut Shared, now: Instant) {
        let reconnect = self.outbox.take_reconnect();
        let Some(connection) = &mut self.connection else { return };
        if reconnect {
            return self.connection_lost(EndReason::TargetClosed, shared, now);
        }
        if !connection.target_closed() {
            return;
        }
        let sender = connection.sender();
        let unsent = sender.sent() < sender.end() || self.outbox.staged_len() + self.outbox.pending_len() > 0;
        let on_its_way = sender.acknowledged() < sender.sent();
        if on_its_way || (self.outbox.closing().is_some() && !unsent) {
            // What was on its way when the target closed: an acknowledgement or a reset will tell.
            return;
        }
        self.connection_lost(EndReason::TargetClosed, shared, now);
    }

    fn place_staged(&mut self, shared: &mut Shared, now: Instant) {
        if self.outbox.staged_len() == 0 {
            if self.connection.is_none()
                && self.outbox.needs_preparation()
                && self.retry_at.is_none_or(|at| at <= now)
            {
                shared.counters.reconnects += u64::from(self.attempts > 0);
                self.open_connection(shared, now);
            }
            return;
        }
        if self.retry_at.is_some_and(|at| at > now) {
            self.outbox.give_up_waiting(self.retry_reason, &mut shared.counters);
            // Those behind it were given up as well, and wait for nothing any more.
            self.with_protocol(shared, now, |p, exchange| p.on_connection_lost(exchange));
            return;
        }
        if self.connection.is_none() {
            shared.counters.reconnects += u64::from(self.attempts > 0);
            self.open_connection(shared, now);
        }
        if let Some(connection) = self.connection.as_mut().filter(|c| c.accepts_data()) {
            self.outbox.unstage(connection);
        }
    }

    /// The client is done: close our side behind the last request, and end when the target has closed too.
    fn settle_client_close(&mut self, shared: &mut Shared, now: Instant) {
        let Some(end) = self.outbox.closing() else { return };
        if self.is_ended() || self.outbox.pending_len() > 0 || self.outbox.staged_len() > 0 {
            return;
        }
        let Some(connection) = &mut self.connection else {
            self.end(self.last_failure.unwrap_or(reason_of(end)), shared, now);
            return;
        };
        match (connection.phase(), end) {
            (Phase::Lingering { .. } | Phase::Closed, _) => {
                self.end(self.last_failure.unwrap_or(EndReason::Completed), shared, now);
            }
            (Phase::Handshake { .. }, ClientEnd::Reset) | (Phase::Open, ClientEnd::Reset) => {
                self.end(self.last_failure.unwrap_or(EndReason::ClientReset), shared, now);
            }
            (Phase::Handshake { .. } | Phase::Open, ClientEnd::Finished) => {
                if !connection.sender().is_closing() {
                    connection.close();
                }
            }
        }
    }

    /// Lets go of connections that are over.
    pub(super) fn drop_closed(&mut self, shared: &mut Shared) {
        // One whose loss is not settled yet is still asked what reached the target.
        let present = self.lost.is_none().then_some(&mut self.connection);
        for slot in present.into_iter().chain([&mut self.former]) {
            if let Some(connection) = slot.take_if(|c| c.phase() == Phase::Closed) {
                shared.release_flow(connection.flow());
            }
        }
    }

    /// A packet of this session could not be sent because it is longer than the path takes.
    pub(crate) fn lower_mtu(&mut self, mtu: u32) {
        for connection in [&mut self.connection, &mut self.former].into_iter().flatten() {
            connection.lower_mtu(mtu);
        }
    }

    /// The target of this session.
    pub(crate) const fn target(&self) -> crate::flow::Endpoint {
        self.target
    }
}
