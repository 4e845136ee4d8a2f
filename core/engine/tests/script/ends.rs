//! The two ends of a session: what is known of clients and flows, and what their packets look like.

use super::grammar::Packet;
use std::collections::HashSet;
use tcpcopy_engine::flow::FlowKey;
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::time::Instant;
use tcpcopy_engine::wire::tcp::{SackBlocks, TcpFlags, TcpOptions, TcpSegment};

/// When scripts begin.
pub(super) const START: Instant = Instant::from_millis(1_000_000);
/// The window scale that both ends offer unless a script says otherwise.
pub(super) const SCALE: u8 = 7;
const MSS: u16 = 1460;

/// A client, and what it sent.
pub(super) struct Client {
    pub(super) isn: SeqNumber,
    pub(super) ack: i64,
    pub(super) scale: Option<u8>,
    /// Which bytes it sent, by relative sequence number.
    pub(super) stream: Vec<Option<u8>>,
    pub(super) incarnation: usize,
}

/// A connection to the target.
pub(super) struct Flow {
    pub(super) key: FlowKey,
    pub(super) isn: SeqNumber,
    pub(super) target_isn: SeqNumber,
    pub(super) client: usize,
    pub(super) opened: Instant,
    pub(super) own_scale: Option<u8>,
    pub(super) target_scale: Option<u8>,
    pub(super) offered_timestamp: Option<u32>,
    pub(super) timestamps: bool,
    pub(super) target_values: HashSet<u32>,
    pub(super) target_ack: i64,
}

/// Timestamps are there if they were agreed on, count milliseconds, and echo something that the target sent.
pub(super) fn check_timestamps(flow: &Flow, segment: &TcpSegment<'_>, now: Instant) -> Result<(), String> {
    let expected = flow.timestamps && !segment.flags.contains(TcpFlags::RST);
    let Some(timestamps) = segment.options.timestamps else {
        return if expected { Err("a packet has no timestamps".into()) } else { Ok(()) };
    };
    if !expected {
        return Err("a packet has timestamps that were not agreed on".into());
    }
    let passed = (now.as_millis() - flow.opened.as_millis()) as u32;
    if flow.offered_timestamp.is_some_and(|first| timestamps.value != first.wrapping_add(passed)) {
        return Err(format!("the timestamp is {} after {passed} ms", timestamps.value));
    }
    if !flow.target_values.contains(&timestamps.echo) {
        return Err(format!("the timestamp {} was never sent by the target", timestamps.echo));
    }
    Ok(())
}

/// A clock in milliseconds that stood at `start` when the script began.
pub(super) fn clock(now: Instant, start: u32) -> u32 {
    start.wrapping_add((now.as_millis() - START.as_millis()) as u32)
}

/// The options of a packet, timestamps left out.
pub(super) fn options(packet: &Packet, is_syn: bool) -> TcpOptions {
    let mut options = TcpOptions { sack: SackBlocks::new(), ..TcpOptions::default() };
    if is_syn {
        options.mss = (!packet.without_mss).then_some(packet.mss.unwrap_or(MSS));
        options.window_scale = (!packet.without_scale).then_some(packet.scale.unwrap_or(SCALE));
        options.sack_permitted = !packet.without_sack;
    }
    options
}

/// The byte that a client sends at a relative sequence number, different from one life of its port to the next.
pub(super) fn pattern(client: usize, incarnation: usize, at: i64) -> u8 {
    let mut hash = at as u64 ^ (client as u64) << 40 ^ (incarnation as u64) << 50;
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    b'a' + ((hash ^ hash >> 31) % 26) as u8
}
