//! What servers read against what clients were captured sending, and every reason against the faults that explain it.
//!
//! Absolute, whatever the faults: no request at a server twice, none in part on one connection and again on another, no byte
//! that its client did not send, none out of order. A request may be missing only for a named reason that a fault of its own
//! client, server or network explains.

use crate::client::{Client, Ending};
use crate::profile::ServerKind;
use crate::request::Header;
use crate::server::Connection;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use tcpcopy_engine::counters::EndReason;

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
    for (number, client) in world.clients.iter().enumerate() {
        let delivered = match Delivered::of(client, by_client.get(&number).map_or(&[], Vec::as_slice)) {
            Ok(delivered) => delivered,
            Err(what) => {
                violations.push(format!("client {number} ({}): {what}", client.endpoint));
                continue;
            }
        };
        let reasons = reasons(world, client);
        let missing: Vec<usize> = (0..client.requests.len())
            .filter(|n| !delivered.complete.contains(n) && is_knowable(client, *n))
            .collect();
        possible.extend(&reasons);
        if missing.is_empty() || delivered.unread {
            continue;
        }
        missing_clients.push(number);
        if !reasons.iter().any(|reason| counters.requests_given_up.get(*reason) > 0) {
            violations.push(format!(
                "client {number} ({}): requests {missing:?} of {} never arrived; none of {reasons:?} was given as a reason",
                client.endpoint,
                client.requests.len()
            ));
        }
        if let Some(n) = missing.iter().find(|n| !may_miss(client, **n, &reasons)) {
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
    match world.profile.servers[client.server] {
        ServerKind::Closes { .. } => reasons.extend([EndReason::TargetClosed, EndReason::TargetReset]),
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
fn may_miss(client: &Client, n: usize, reasons: &BTreeSet<EndReason>) -> bool {
    let gaps_only = reasons.iter().all(|reason| {
        matches!(
            reason,
            EndReason::CaptureGap
                | EndReason::CaptureTruncated
                | EndReason::Idle
                | EndReason::ClientReset
                | EndReason::MidStream
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
        near.any(|r| turn + UNDER_WAY >= r.turn && turn <= r.turn + 1)
    })
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
    /// Compares what was read on `connections`, in the order in which they were opened.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn of(client: &Client, connections: &[Connection]) -> Result<Self, String> {
        let mut delivered = Self::default();
        let mut last: Option<usize> = None;
        for connection in connections {
            delivered.unread |= connection.unread > 0;
            let mut at = 0;
            while at < connection.read.len() {
                let rest = &connection.read[at..];
                let Some(header) = Header::parse(rest) else {
                    if rest.len() < crate::request::HEADER_LEN {
                        break;
                    }
                    return Err(format!("after {at} bytes of a connection comes what is no request"));
                };
                let number = header.number as usize;
                let Some(sent) = client.requests.get(number) else {
                    return Err(format!("request {number} was never sent"));
                };
                if last.is_some_and(|last| number <= last) {
                    let what = if last == Some(number) { "twice" } else { "out of order" };
                    return Err(format!("request {number} came {what}, after {last:?}"));
                }
                let sent = &client.stream[sent.bytes.clone()];
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
