//! An engine with its virtual time, its clients and its target.
//!
//! Owns the translation between relative numbers and those on the wire, and the rules that hold whatever a script says: a
//! packet goes out only while its route is wanted, timestamps are there or not as agreed, the counters add up.

use super::ends::{Client, Flow, SCALE, START, check_timestamps, clock, options, pattern};
use super::grammar::{Packet, Script};
use super::notes::NOTES;
use super::packets::{self, Segment};
use super::variant::Variant;
use std::collections::{BTreeMap, HashMap, HashSet};
use tcpcopy_engine::batch::PacketBatch;
use tcpcopy_engine::counters::{Counters, EndReason};
use tcpcopy_engine::flow::FlowKey;
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::tcp::connection::Limited;
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::link::LinkType;
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpOptions, TcpSegment, Timestamps};
use tcpcopy_engine::{Engine, RouteChange};

const CLIENT_CLOCK: u32 = 77_000;
/// The target's clock wraps soon after a script's start.
const TARGET_CLOCK: u32 = u32::MAX - 150;
/// Looks the same with and without the scale.
const TARGET_WINDOW: u32 = 511 << SCALE;
/// Where a client's stream is remembered up to; what lies further belongs to no stream.
const FARTHEST: usize = 10_000_000;
/// Calls after which an engine that still has something to do is taken to be stuck.
const TOO_MANY: usize = 100_000;

/// A packet that the engine sent.
pub(crate) struct Sent {
    pub(crate) flow: usize,
    /// Whether its flow was the newest when it went out.
    pub(crate) newest: bool,
    pub(crate) flags: TcpFlags,
    pub(crate) range: (i64, i64),
    pub(crate) ack: Option<i64>,
    pub(crate) window: u32,
    pub(crate) options: TcpOptions,
    pub(crate) sack: Vec<(i64, i64)>,
    pub(crate) payload: Vec<u8>,
}

/// What the engine did in one step.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) sent: Vec<Sent>,
    /// What was counted: how much, and whether it has to be expected.
    pub(crate) notes: BTreeMap<String, (i64, bool)>,
    /// Rules that were broken.
    pub(crate) broken: Vec<String>,
}

impl Outcome {
    /// Whether something happened that a script would have to say.
    pub(crate) fn is_quiet(&self) -> bool {
        self.sent.is_empty() && self.broken.is_empty() && self.notes.values().all(|(_, required)| !required)
    }
}

/// An engine and everything around it.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) now: Instant,
    variant: Variant,
    clients: HashMap<usize, Client>,
    flows: Vec<Flow>,
    routes: HashSet<FlowKey>,
    /// Flows whose bodies are wanted.
    bodies: HashSet<FlowKey>,
    counted: Counters,
    last_client: usize,
    batch: PacketBatch,
}

impl World {
    /// A new engine for `script`.
    pub(crate) fn new(script: &Script, variant: Variant) -> Self {
        let config = script.settings.config(&variant);
        let mut engine = Engine::new(config, script.settings.factory(), START);
        script.settings.add_plugin(&mut engine, variant.online().port);
        Self {
            engine,
            now: START,
            variant,
            clients: HashMap::new(),
            flows: Vec::new(),
            routes: HashSet::new(),
            bodies: HashSet::new(),
            counted: Counters::default(),
            last_client: 1,
            batch: PacketBatch::new(),
        }
    }

    /// The circumstances.
    pub(crate) fn variant(&self) -> Variant {
        self.variant
    }

    /// The flow that a line without a number means.
    pub(crate) fn newest_flow(&self) -> usize {
        self.flows.len()
    }

    /// The key of a flow, by its number.
    pub(crate) fn flow_key(&self, number: usize) -> Option<FlowKey> {
        self.flows.get(number.checked_sub(1)?).map(|flow| flow.key)
    }

    fn client(&mut self, number: usize) -> &mut Client {
        let isn = self.variant.client_isn() + (number as u32 - 1) * 5_000;
        self.clients.entry(number).or_insert_with(|| Client {
            isn,
            ack: 1,
            scale: None,
            stream: Vec::new(),
            incarnation: 0,
        })
    }

    /// The client begins anew, `ahead` sequence numbers further on.
    pub(crate) fn reuse(&mut self, number: usize, ahead: u32) {
        let client = self.client(number);
        client.isn += ahead;
        client.ack = 1;
        client.stream.clear();
        client.incarnation += 1;
    }

    /// A client's packet is captured.
    pub(crate) fn on_client(&mut self, number: usize, packet: &Packet) {
        self.last_client = number;
        let (variant, now) = (self.variant, self.now);
        let client = self.client(number);
        let is_syn = packet.flags.contains(TcpFlags::SYN);
        let (start, end) = packet.range;
        let payload: Vec<u8> = match &packet.data {
            Some(data) => data.clone(),
            None => (start..end).map(|at| pattern(number, client.incarnation, at)).collect(),
        };
        // Payload of a SYN begins behind it.
        let first = usize::try_from(start).unwrap_or(0) + usize::from(is_syn);
        if start >= 0 && first < FARTHEST {
            client.stream.resize(client.stream.len().max(first + payload.len()), None);
            for (at, byte) in payload.iter().enumerate() {
                client.stream[first + at].get_or_insert(*byte);
            }
        }
        client.ack = packet.ack.unwrap_or(client.ack);
        let mut options = options(packet, is_syn);
        if is_syn {
            client.scale = options.window_scale;
        }
        let echo = if is_syn { 0 } else { 1 };
        options.timestamps = (variant.timestamps && !packet.without_timestamps).then(|| Timestamps {
            value: clock(now, CLIENT_CLOCK).wrapping_add(packet.timestamp_shift as u32),
            echo,
        });
        let scale = if is_syn { 0 } else { client.scale.unwrap_or(0) };
        let segment = Segment {
            from: variant.client(number),
            to: variant.online(),
            seq: client.isn + start as u32,
            ack: packet.flags.contains(TcpFlags::ACK).then(|| variant.online_isn() + client.ack as u32),
            flags: packet.flags,
            window: (packet.window.unwrap_or(65_535) >> scale) as u16,
            options,
            urgent: packet.urgent.unwrap_or(0),
            payload: &payload,
        };
        let mut frame = packets::write(&segment);
        if let Some((part, of)) = packet.fragment {
            frame = packets::fragment(&frame, variant.family, part, of);
        }
        let wire_len = frame.len();
        let captured = packet.captured.map_or(wire_len, |kept| wire_len - payload.len() + kept);
        self.frame(&frame[..captured], wire_len);
    }

    /// A frame is captured.
    pub(crate) fn frame(&mut self, frame: &[u8], wire_len: usize) {
        let nanos = 1_700_000_000_000_000_000 + self.now.as_nanos();
        self.engine.handle_frame(LinkType::Raw, frame, wire_len, nanos, self.now);
    }

    /// The target's packet on a flow comes back.
    pub(crate) fn on_target(&mut self, number: usize, packet: &Packet) -> Result<(), String> {
        let (variant, now) = (self.variant, self.now);
        let flow = number.checked_sub(1).and_then(|at| self.flows.get_mut(at)).ok_or("no such flow yet")?;
        let is_syn = packet.flags.contains(TcpFlags::SYN);
        let mut options = options(packet, is_syn);
        let wants_timestamps = flow.offered_timestamp.is_some() && !packet.without_timestamps;
        if is_syn {
            flow.timestamps = wants_timestamps;
            // The other side offered none: scaling is not in force (RFC 7323, section 2.2).
            flow.target_scale = options.window_scale.filter(|_| flow.own_scale.is_some());
            if flow.timestamps {
                // A script's MSS is what it leaves for data.
                options.mss = options.mss.map(|mss| mss.saturating_add(12));
            }
        }
        if flow.timestamps && !packet.without_timestamps && !packet.flags.contains(TcpFlags::RST) {
            let value = clock(now, TARGET_CLOCK).wrapping_add(packet.timestamp_shift as u32);
            flow.target_values.insert(value);
            options.timestamps = Some(Timestamps { value, echo: 0 });
        }
        for (start, end) in &packet.sack {
            options.sack.push(flow.isn + *start as u32, flow.isn + *end as u32);
        }
        flow.target_ack = packet.ack.unwrap_or(flow.target_ack);
        let scale = if is_syn { 0 } else { flow.target_scale.unwrap_or(0) };
        let payload = packet.data.clone().unwrap_or_else(|| vec![b'r'; packet.len()]);
        let segment = Segment {
            from: flow.key.target,
            to: flow.key.client,
            seq: flow.target_isn + packet.range.0 as u32,
            ack: packet.flags.contains(TcpFlags::ACK).then(|| flow.isn + flow.target_ack as u32),
            flags: packet.flags,
            window: (packet.window.unwrap_or(TARGET_WINDOW) >> scale) as u16,
            options,
            urgent: packet.urgent.unwrap_or(0),
            payload: &payload,
        };
        let mut reply = packets::write(&segment);
        if let Some((part, of)) = packet.fragment {
            reply = packets::fragment(&reply, variant.family, part, of);
        }
        // As `intercept` returns them: headers alone, unless bodies were asked for.
        let wire_len = reply.len();
        let whole = packet.fragment.is_some() || self.bodies.contains(&flow.key);
        let kept = if whole { wire_len } else { wire_len - payload.len() };
        self.engine.handle_reply(&reply[..kept], wire_len, now);
        Ok(())
    }

    /// Lets time pass up to the engine's next deadline, `until` at most. Returns whether there was one.
    pub(crate) fn advance(&mut self, until: Instant) -> bool {
        match self.engine.next_deadline() {
            Some(deadline) if deadline <= until => {
                self.now = self.now.max(deadline);
                self.engine.handle_timeout(self.now);
                true
            }
            _ => {
                self.now = self.now.max(until);
                false
            }
        }
    }

    /// Lets the engine send what it wants to, and says what it did since the last call.
    pub(crate) fn collect(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        let mut calls = 0;
        self.engine.run_plugins(self.now);
        loop {
            let mut changes = Vec::new();
            self.engine.take_route_changes(&mut changes);
            for change in changes {
                match change {
                    RouteChange::Add { flow, body_limit } => {
                        self.routes.insert(flow);
                        if body_limit > 0 {
                            self.bodies.insert(flow)
                        } else {
                            self.bodies.remove(&flow)
                        };
                    }
                    RouteChange::Remove { flow } => {
                        self.routes.remove(&flow);
                        self.bodies.remove(&flow);
                    }
                }
            }
            self.batch.clear();
            let mut batch = std::mem::take(&mut self.batch);
            let limited = self.engine.poll_transmit(&mut batch, 64, self.now);
            for index in 0..batch.len() {
                match self.read(batch.packet(index)) {
                    Ok(sent) => outcome.sent.push(sent),
                    Err(error) => outcome.broken.push(error),
                }
            }
            self.batch = batch;
            calls += 1;
            if limited == Limited::No {
                break;
            }
            if calls > TOO_MANY {
                outcome.broken.push("the engine never stops sending".into());
                break;
            }
        }
        self.note(&mut outcome);
        outcome
    }

    fn note(&mut self, outcome: &mut Outcome) {
        let counters = *self.engine.counters();
        if let Err(error) = counters.check() {
            outcome.broken.push(error.to_string());
        }
        let mut note = |key: String, before: u64, after: u64, required: bool| {
            if before != after {
                outcome.notes.insert(key, (after as i64 - before as i64, required));
            }
        };
        for kind in NOTES {
            note(kind.key.into(), (kind.of)(&self.counted), (kind.of)(&counters), kind.required);
        }
        for reason in EndReason::ALL {
            let count = |c: &Counters| (c.requests_given_up.get(reason), c.sessions_ended.get(reason));
            let (before, after) = (count(&self.counted), count(&counters));
            note(format!("event given_up {}", reason.name()), before.0, after.0, true);
            note(format!("close {}", reason.name()), before.1, after.1, true);
        }
        self.counted = counters;
    }

    fn read(&mut self, packet: &[u8]) -> Result<Sent, String> {
        let ip = IpPacket::parse(packet, packet.len()).map_err(|error| error.to_string())?;
        let segment = TcpSegment::parse(ip.payload, ip.payload_len).map_err(|error| error.to_string())?;
        let key = FlowKey {
            client: tcpcopy_engine::flow::Endpoint::new(ip.source, segment.source_port),
            target: tcpcopy_engine::flow::Endpoint::new(ip.destination, segment.destination_port),
        };
        if key.target != self.variant.target() {
            return Err(format!("a packet was sent to {}, which is no target", key.target));
        }
        if !self.routes.contains(&key) {
            return Err(format!("a packet of {key} was sent without a route"));
        }
        let is_syn = segment.flags.contains(TcpFlags::SYN);
        let known = self.flows.iter().rposition(|flow| flow.key == key);
        let known = known.filter(|at| !is_syn || self.flows[*at].isn == segment.seq);
        let at = match known {
            Some(at) => at,
            None if is_syn => self.open_flow(key, &segment),
            None => return Err(format!("a packet of {key} was sent before its SYN")),
        };
        let now = self.now;
        let newest = at + 1 == self.flows.len();
        let flow = &self.flows[at];
        check_timestamps(flow, &segment, now)?;
        let relative = |number: SeqNumber, isn: SeqNumber| i64::from(number.distance_from(isn));
        let start = relative(segment.seq, flow.isn);
        let sack = segment.options.sack.as_slice().iter();
        let scale = if is_syn || flow.target_scale.is_none() { 0 } else { flow.own_scale.unwrap_or(0) };
        Ok(Sent {
            flow: at + 1,
            newest,
            flags: segment.flags,
            range: (start, start + segment.payload_len as i64),
            ack: segment.flags.contains(TcpFlags::ACK).then(|| relative(segment.ack, flow.target_isn)),
            window: u32::from(segment.window) << scale,
            options: segment.options,
            sack: sack.map(|(a, b)| (relative(*a, flow.target_isn), relative(*b, flow.target_isn))).collect(),
            payload: segment.payload.to_vec(),
        })
    }

    fn open_flow(&mut self, key: FlowKey, syn: &TcpSegment<'_>) -> usize {
        let own = self.clients.keys().copied().find(|number| self.variant.client(*number) == key.client);
        let target_isn = self.variant.target_isn(self.flows.len());
        self.flows.push(Flow {
            key,
            isn: syn.seq,
            target_isn,
            client: own.unwrap_or(self.last_client),
            opened: self.now,
            own_scale: syn.options.window_scale,
            target_scale: None,
            offered_timestamp: syn.options.timestamps.map(|t| t.value),
            timestamps: syn.options.timestamps.is_some(),
            target_values: HashSet::from([0]),
            target_ack: 1,
        });
        self.flows.len() - 1
    }

    /// What a client sent in a range of relative sequence numbers.
    pub(crate) fn bytes_of(&self, flow: usize, range: (i64, i64)) -> Option<Vec<u8>> {
        let stream = &self.clients.get(&self.flows.get(flow.checked_sub(1)?)?.client)?.stream;
        let range = usize::try_from(range.0).ok()?..usize::try_from(range.1).ok()?;
        stream.get(range)?.iter().copied().collect()
    }

    /// Where in its client's stream a packet's payload is.
    pub(crate) fn place_of(&self, sent: &Sent) -> Option<(i64, i64)> {
        if self.bytes_of(sent.flow, sent.range).as_ref() == Some(&sent.payload) {
            return Some(sent.range);
        }
        let stream = &self.clients.get(&self.flows[sent.flow - 1].client)?.stream;
        let matches = |window: &[Option<u8>]| window.iter().zip(&sent.payload).all(|(a, b)| *a == Some(*b));
        let at = stream.windows(sent.payload.len().max(1)).position(matches)? as i64;
        Some((at, at + sent.payload.len() as i64))
    }

    /// Ends everything, and says what is left.
    pub(crate) fn finish(&mut self) -> Vec<String> {
        let mut broken = self.collect().broken;
        self.engine.shut_down(self.now);
        broken.append(&mut self.collect().broken);
        for _ in 0..TOO_MANY {
            if self.engine.next_deadline().is_none() || !self.advance(self.now + Duration::from_secs(100_000))
            {
                break;
            }
            broken.append(&mut self.collect().broken);
        }
        let counters = self.engine.counters();
        let left = [
            ("sessions", counters.sessions_live),
            ("requests", counters.requests_waiting),
            ("bytes of memory", counters.memory_bytes),
            ("routes", self.routes.len() as u64 + self.engine.routes().count() as u64),
            ("timers", u64::from(self.engine.next_deadline().is_some())),
        ];
        let left = left.iter().filter(|(_, count)| *count > 0);
        broken.extend(left.map(|(what, count)| format!("{count} {what} left after the end")));
        broken
    }
}
