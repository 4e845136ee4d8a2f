//! What servers read against what clients were captured sending, and every reason against the faults that explain it.
//!
//! Absolute, whatever the faults: no request at a server twice, none in part on one connection and again on another, no byte
//! that its client did not send, none out of order. A request may be missing only for a named reason that a fault of its own
//! client, server or network explains.
//!
//! With a plugin, a request counts as the plugin changed it: left out, it must not arrive; rewritten, it must arrive so. What the
//! client sent after reading must not be at its server before the answers that it had read, where nothing makes them differ.

use crate::client::{Client, Ending};
use crate::plugin::{self, Fate, PREAMBLE, Plan};
use crate::profile::{CaptureFaults, ServerKind};
use crate::request::Header;
use crate::server::Connection;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use tcpcopy_engine::counters::EndReason;
use tcpcopy_engine::protocol::WaitPolicy;

/// SYNs that the engine sends before it gives a connection up.
const SYN_TRIES: u32 = 5;

/// Turns before a gap that may still be under way when half a request of the gap's turn breaks their connection.
const UNDER_WAY: u32 = 4;

/// Adds what is wrong with a run that has ended to `world.violations`.
pub fn check(world: &mut World) {
    let mut violations = Vec::new();
    let mut missing_clients = Vec::new();
    let mut possible: BTreeSet<EndReason> = BTreeSet::from([EndReason::Completed]);
    let counters = *world.counters();
    let by_client = connections(world);
    let plan = world.profile.plan.clone();
    let passed = plugin::lock(&world.notes).passed.clone();
    if let Some(what) = miscounted(world, plan.as_deref(), &passed) {
        violations.push(what);
    }
    for (number, client) in world.clients.iter().enumerate() {
        let connections = by_client.get(&number).map_or(&[][..], Vec::as_slice);
        let expected = Expected { plan: plan.as_deref(), passed_from: passed.get(&(number as u32)).copied() };
        if is_turn_rule_exact(world, client)
            && let Some(what) = early_request(client, connections)
        {
            violations.push(format!("client {number} ({}): {what}", client.endpoint));
        }
        let delivered = match Delivered::of(client, connections, expected) {
            Ok(delivered) => delivered,
            Err(what) => {
                violations.push(format!("client {number} ({}): {what}", client.endpoint));
                continue;
            }
        };
        let reasons = reasons(world, client);
        let missing: Vec<usize> = (0..client.requests.len())
            .filter(|n| !delivered.complete.contains(n) && is_knowable(client, *n))
            .filter(|n| !expected.drops(client, *n))
            .collect();
        possible.extend(&reasons);
        if missing.is_empty() || delivered.unread {
            continue;
        }
        if !plugin::lock(&world.notes).failed.contains(&(number as u32)) {
            // What comes after a session's end is not counted.
            missing_clients.push(number);
        }
        if !reasons.iter().any(|reason| counters.requests_given_up.get(*reason) > 0) {
            violations.push(format!(
                "client {number} ({}): requests {missing:?} of {} never arrived; none of {reasons:?} was given as a reason",
                client.endpoint,
                client.requests.len()
            ));
        }
        if let Some(n) = missing.iter().find(|n| !may_miss(client, **n, &reasons, plan.as_deref())) {
            violations.push(format!(
                "client {number} ({}): request {n} at {:?} (turn {}) never arrived, far from the gaps {:?}",
                client.endpoint, client.requests[*n].bytes, client.requests[*n].turn, client.lost
            ));
        }
    }
    if missing_clients.len() as u64 > counters.requests_given_up.total() {
        violations.push(format!(
            "clients {missing_clients:?} miss requests, {} requests were given up",
            counters.requests_given_up.total()
        ));
    }
    for (what, by_reason) in
        [("request given up", counters.requests_given_up), ("session ended", counters.sessions_ended)]
    {
        for (reason, number) in by_reason.iter().filter(|(reason, _)| !possible.contains(reason)) {
            violations.push(format!("{number} {what}: {} is explained by no fault", reason.name()));
        }
    }
    world.violations.extend(violations);
}

fn connections(world: &World) -> BTreeMap<usize, Vec<Connection>> {
    let numbers: BTreeMap<_, usize> = world.clients.iter().map(|c| c.endpoint.addr).zip(0..).collect();
    let mut by_client: BTreeMap<usize, Vec<Connection>> = BTreeMap::new();
    for server in &world.servers {
        if let Some(number) = numbers.get(&server.flow.client.addr) {
            by_client.entry(*number).or_default().extend(server.connections.iter().cloned());
        }
    }
    for connections in by_client.values_mut() {
        connections.sort_by_key(|c| c.opened_at);
    }
    by_client
}

/// Reasons that something of this client may be given up for.
fn reasons(world: &World, client: &Client) -> BTreeSet<EndReason> {
    let mut reasons = BTreeSet::new();
    if !client.lost.is_empty() {
        reasons.extend([EndReason::CaptureGap, EndReason::CaptureTruncated]);
    }
    if client.beheaded {
        reasons.insert(EndReason::MidStream);
    }
    if client.ending == Ending::Reset {
        reasons.insert(EndReason::ClientReset);
    }
    if !client.end_captured {
        reasons.insert(EndReason::Idle);
    }
    let faults = world.profile.capture;
    if faults.repeat + faults.retransmit + faults.reorder + faults.resent > 0 {
        // A segment captured, perhaps again, after its session's end looks like one of a connection that began before the capture.
        reasons.insert(EndReason::MidStream);
    }
    if world.profile.plan.is_some() && reasons.contains(&EndReason::MidStream) {
        // With a plugin, a connection is joined at once, perhaps behind its last request, or where bytes before seem to be missing;
        // and what is late when its session ends is not known to come.
        reasons.extend([EndReason::Idle, EndReason::CaptureGap]);
    }
    if let Some(plan) = &world.profile.plan {
        let number = crate::client::number_of(client.endpoint.addr).unwrap_or(u32::MAX);
        let notes = plugin::lock(&world.notes);
        if client.requests.iter().any(|r| {
            Header::parse(&client.stream[r.bytes.clone()]).is_some_and(|h| plan.fate(&h) == Fate::Drop)
        }) {
            reasons.insert(EndReason::Filtered);
        }
        if notes.failed.contains(&number) {
            // What comes after its session's end looks like a connection that began before the capture.
            reasons.extend([EndReason::PluginFault, EndReason::MidStream]);
        }
        if notes.passed.contains_key(&number) {
            // A request that can't be completed was under way.
            reasons.insert(EndReason::Protocol);
        }
        if client.beheaded || !client.lost.is_empty() {
            reasons.insert(EndReason::Incomplete);
        }
    }
    match world.profile.servers[client.server] {
        ServerKind::Closes { with_reset, .. } => {
            reasons.extend([EndReason::TargetClosed, EndReason::TargetReset]);
            if with_reset && world.profile.outgoing.loss > 0 {
                // Behind a hole in the response a reset is asked about (RFC 5961, section 3.2), and the question may be lost.
                reasons.extend([EndReason::ResponseTimeout, EndReason::Idle]);
            }
        }
        ServerKind::Refuses(_) => reasons.extend([EndReason::Refused]),
        _ => {}
    }
    if world.handshakes_lost.get(&client.endpoint.addr).is_some_and(|lost| *lost >= SYN_TRIES) {
        reasons.insert(EndReason::NoHandshake);
    }
    if world.resets_lost.contains(&client.endpoint.addr) {
        // Everything was acknowledged, and the news that nobody will answer never came.
        reasons.extend([EndReason::ResponseTimeout, EndReason::Idle]);
    }
    reasons
}

/// Whether anything captured tells that there was a request `n`: not when all that was captured came after it, or ended within
/// it: then nobody knows that there was more.
fn is_knowable(client: &Client, n: usize) -> bool {
    let bytes = &client.requests[n].bytes;
    bytes.end <= client.last_number && bytes.end > client.first_number
}

/// Whether request `n` may be missing: when bytes were never captured, only those near them.
fn may_miss(client: &Client, n: usize, reasons: &BTreeSet<EndReason>, plan: Option<&Plan>) -> bool {
    let gaps_only = reasons.iter().all(|reason| {
        matches!(
            reason,
            EndReason::CaptureGap
                | EndReason::CaptureTruncated
                | EndReason::Idle
                | EndReason::ClientReset
                | EndReason::MidStream
                | EndReason::Incomplete
                | EndReason::Filtered
        )
    });
    if !gaps_only {
        return true;
    }
    let turn = client.requests[n].turn;
    if client.beheaded && turn <= 3 {
        // Until the client is seen between two requests.
        return true;
    }
    client.lost.iter().any(|gap| {
        let mut near = client.requests.iter().filter(|r| r.bytes.start < gap.end && gap.start < r.bytes.end);
        // A plugin that leaves whole requests undecided until a connection is ready, or for a while, discards them at a gap.
        let held = plan.is_some_and(Plan::holds_back);
        near.any(|r| (held || turn + UNDER_WAY >= r.turn) && turn <= r.turn + 1)
    })
}

/// Whether requests of a turn can't be released before the answers to those before, because the bytes that say how much the client
/// had read mean the same at the target.
fn is_turn_rule_exact(world: &World, client: &Client) -> bool {
    let profile = &world.profile;
    let Some(plan) = &profile.plan else { return false };
    let number = crate::client::number_of(client.endpoint.addr).unwrap_or(u32::MAX);
    let notes = plugin::lock(&world.notes);
    // Of a greeting, the first acknowledgement that was captured may tell only a part.
    let greeted = matches!(profile.servers[client.server], ServerKind::Greets(_));
    plan.policy == WaitPolicy::LikeClient
        && !profile.drifts
        && !greeted
        && !plan.rewrites()
        && client.lost.is_empty()
        && !client.beheaded
        && !notes.passed.contains_key(&number)
        && !notes.failed.contains(&number)
}

/// A request that was at its server before an answer that its client had read by then.
fn early_request(client: &Client, connections: &[Connection]) -> Option<String> {
    let turn_of = |number: u32| client.requests.get(number as usize).map(|r| r.turn);
    connections.iter().flat_map(|c| &c.overlaps).find_map(|(request, unanswered)| {
        let (turn, earlier) = (turn_of(*request)?, turn_of(*unanswered)?);
        (earlier < turn).then(|| {
            format!(
                "request {request} of turn {turn} came before the answer to {unanswered} of turn {earlier}"
            )
        })
    })
}

/// Where everything was captured and nothing went wrong, requests are counted exactly.
fn miscounted(world: &World, plan: Option<&Plan>, passed: &BTreeMap<u32, u32>) -> Option<String> {
    let plan = plan?;
    let (profile, counters) = (&world.profile, world.counters());
    let orderly = [EndReason::Completed, EndReason::ClientReset, EndReason::Idle];
    let ended: u64 = orderly.iter().map(|reason| counters.sessions_ended.get(*reason)).sum();
    if profile.capture != CaptureFaults::default()
        || profile.beheaded > 0
        || plan.fails()
        || !passed.is_empty()
        || ended != world.clients.len() as u64
        || world.clients.iter().any(|c| !c.lost.is_empty())
    {
        return None;
    }
    let all = world.clients.iter().flat_map(|client| (0..client.requests.len()).map(move |n| (client, n)));
    let expected = Expected { plan: Some(plan), passed_from: None };
    let dropped = all.clone().filter(|(client, n)| expected.drops(client, *n)).count() as u64;
    let captured = all.count() as u64;
    let given_up = &counters.requests_given_up;
    let filtered = given_up.get(EndReason::Filtered);
    // One that was to be left out may have gone with a lost connection before that was decided.
    // Of those held back and given up with a connection that never was, nobody knows how many there are.
    let lumped = plan.holds_back() && given_up.total() > filtered;
    let wrong = (counters.requests_captured != captured
        && !(lumped && counters.requests_captured < captured))
        || filtered > dropped
        || (filtered < dropped && given_up.total() == filtered);
    wrong.then(|| {
        format!(
            "{captured} requests were captured and {dropped} of them left out; counted are {} and {filtered}",
            counters.requests_captured
        )
    })
}

/// What a plugin makes of a client's requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'a> {
    /// What it does, if there is one.
    pub plan: Option<&'a Plan>,
    /// The first request that it left to be replayed as with no plugin.
    pub passed_from: Option<u32>,
}

impl Expected<'_> {
    fn fate(&self, header: &Header) -> Fate {
        match (self.plan, self.passed_from) {
            (None, _) => Fate::Forward,
            (_, Some(from)) if header.number >= from => Fate::Forward,
            (Some(plan), _) => plan.fate(header),
        }
    }

    fn header(client: &Client, n: usize) -> Option<Header> {
        Header::parse(&client.stream[client.requests.get(n)?.bytes.clone()])
    }

    /// Whether request `n` is left out.
    pub fn drops(&self, client: &Client, n: usize) -> bool {
        Self::header(client, n).is_some_and(|header| self.fate(&header) == Fate::Drop)
    }

    /// What of request `n` goes to the target; nothing when it is left out.
    fn bytes(&self, client: &Client, n: usize) -> Option<Vec<u8>> {
        match self.fate(&Self::header(client, n)?) {
            Fate::Drop => None,
            Fate::Rewrite(header) => {
                let mut bytes = Vec::new();
                header.write(&mut bytes);
                Some(bytes)
            }
            _ => Some(client.stream[client.requests[n].bytes.clone()].to_vec()),
        }
    }
}

/// What of a client's stream its servers read.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Requests read to their end.
    pub complete: BTreeSet<usize>,
    /// Requests of which the first bytes were read.
    pub partial: BTreeSet<usize>,
    /// Whether a server left bytes unread.
    pub unread: bool,
}

impl Delivered {
    /// Compares what was read on `connections`, in the order in which they were opened, with what is `expected`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn of(client: &Client, connections: &[Connection], expected: Expected<'_>) -> Result<Self, String> {
        let mut delivered = Self::default();
        let mut last: Option<usize> = None;
        for connection in connections {
            delivered.unread |= connection.unread > 0;
            let preamble = crate::client::number_of(client.endpoint.addr)
                .zip(expected.plan)
                .and_then(|(number, plan)| plan.preamble(number))
                .unwrap_or_default();
            let mut at = preamble.len().min(connection.read.len());
            if connection.read[..at] != preamble[..at] && expected.passed_from.is_some() {
                // Nobody prepares a connection that the plugin leaves alone.
                at = 0;
            } else if connection.read[..at] != preamble[..at] {
                return Err("a connection was not prepared before it was used".to_owned());
            }
            while at < connection.read.len() {
                let rest = &connection.read[at..];
                let Some(header) = Header::parse(rest) else {
                    if rest.len() < crate::request::HEADER_LEN {
                        break;
                    }
                    return Err(format!("after {at} bytes of a connection comes what is no request"));
                };
                let number = header.number as usize;
                if header.number == PREAMBLE {
                    return Err(format!("after {at} bytes of a connection, it is prepared again"));
                }
                if number >= client.requests.len() {
                    return Err(format!("request {number} was never sent"));
                }
                let Some(sent) = expected.bytes(client, number) else {
                    return Err(format!("request {number} was left out, and came"));
                };
                if last.is_some_and(|last| number <= last) {
                    let what = if last == Some(number) { "twice" } else { "out of order" };
                    return Err(format!("request {number} came {what}, after {last:?}"));
                }
                let len = rest.len().min(sent.len());
                if rest[..len] != sent[..len] {
                    return Err(format!("request {number} differs from what was sent"));
                }
                last = Some(number);
                let set = if len == sent.len() { &mut delivered.complete } else { &mut delivered.partial };
                set.insert(number);
                at += len;
            }
        }
        Ok(delivered)
    }
}
