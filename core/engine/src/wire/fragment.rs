//! Putting IP fragments together (RFC 791, section 3.2; RFC 8200, section 4.5; RFC 5722; RFC 1858).
//!
//! Owns the waiting fragments, bounded in bytes, number and time. Leaves to the caller the parsing before and after: what
//! comes out is a whole IP packet that [`IpPacket::parse`] takes.

use super::checksum;
use super::ip::{self, Fragment, IpPacket};
use crate::flow::FlowMap;
use crate::time::{Duration, Instant};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What a waiting fragment costs beside its bytes, roughly; without it, tiny fragments would escape the bound.
const FRAGMENT_OVERHEAD: usize = 64;

/// The longest datagram that a length field can tell of; a sum of fragments beyond it is an attack ("ping of death").
const MAX_DATAGRAM: usize = 65_535;

/// What became of a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FragmentOutcome {
    /// The rest of the datagram has yet to come.
    Waiting,
    /// The datagram is complete: a whole IP packet, from its IP header, with nothing left that says fragment.
    Complete(Vec<u8>),
    /// The fragment was dropped, and with it all that was waiting of its datagram.
    Dropped(FragmentDrop),
}

/// How much was dropped, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentDrop {
    /// Why.
    pub reason: FragmentDropReason,
    /// Fragments dropped, the one just pushed included.
    pub fragments: u64,
}

/// Why fragments were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentDropReason {
    /// Two fragments claim the same place; the whole datagram is void, its later fragments too (RFC 5722, section 4).
    #[error("fragments overlap")]
    Overlap,
    /// A fragment is empty, is not a multiple of eight bytes though not the last, or lies beyond the last one; or what the
    /// fragments make up has impossible headers, or is a fragment again.
    #[error("a fragment's length, place or headers are impossible")]
    BadLength,
    /// The datagram would be longer than 65535 bytes.
    #[error("the datagram is longer than 65535 bytes")]
    TooLong,
    /// The capture cut the fragment.
    #[error("a fragment was captured only in part")]
    Truncated,
    /// The bound on bytes or on datagrams is reached.
    #[error("too many fragments are waiting")]
    Full,
}

/// Fragments of one datagram belong together by this (RFC 791, section 3.2; RFC 8200, section 4.5, which leaves out the protocol).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct DatagramKey {
    source: IpAddr,
    destination: IpAddr,
    id: u32,
    protocol: Option<u8>,
}

struct Datagram {
    deadline: Instant,
    /// Headers of the first fragment, as they are to stand before the whole payload.
    header: Option<Vec<u8>>,
    /// Payloads by their place.
    pieces: BTreeMap<u32, Box<[u8]>>,
    /// Sum of the lengths of `pieces`.
    received: usize,
    /// Length of the whole payload, known from the last fragment.
    total: Option<u32>,
    /// Set when the datagram was dropped: what else arrives of it goes the same way until it expires.
    dropped: Option<FragmentDropReason>,
}

impl Datagram {
    fn new(deadline: Instant) -> Self {
        Self { deadline, header: None, pieces: BTreeMap::new(), received: 0, total: None, dropped: None }
    }

    /// Bytes that count against the reassembler's bound.
    fn cost(&self) -> usize {
        self.received + self.pieces.len() * FRAGMENT_OVERHEAD + self.header.as_ref().map_or(0, Vec::len)
    }

    /// Drops what waits, and remembers why.
    fn void(&mut self, reason: FragmentDropReason) {
        *self = Self { dropped: Some(reason), ..Self::new(self.deadline) };
    }

    /// Takes one fragment and returns the whole packet when it was the last that was missing. `room` is how many bytes this
    /// datagram may cost.
    fn push(
        &mut self,
        packet: &IpPacket<'_>,
        fragment: Fragment,
        data: &[u8],
        room: usize,
    ) -> Result<Option<Vec<u8>>, FragmentDropReason> {
        if let Some(reason) = self.dropped {
            return Err(reason);
        }
        if packet.payload.len() < packet.payload_len {
            return Err(FragmentDropReason::Truncated);
        }
        let Fragment { offset, more, .. } = fragment;
        let len = packet.payload.len();
        if len == 0 || (more && !len.is_multiple_of(8)) {
            return Err(FragmentDropReason::BadLength);
        }
        if offset as usize + len > MAX_DATAGRAM {
            return Err(FragmentDropReason::TooLong);
        }
        let end = offset + len as u32;
        if self.is_repeated(offset, packet.payload) {
            return Ok(None);
        }
        if self.is_taken(offset, end) {
            return Err(FragmentDropReason::Overlap);
        }
        if self.total.is_some_and(|total| end > total || !more) {
            return Err(FragmentDropReason::BadLength);
        }
        if !more {
            // Nothing taken may lie beyond the end.
            if self.pieces.last_key_value().is_some_and(|(last, _)| *last > offset) {
                return Err(FragmentDropReason::BadLength);
            }
            self.total = Some(end);
        }
        let header_len = if offset == 0 { packet.header_len } else { 0 };
        if self.cost() + len + FRAGMENT_OVERHEAD + header_len > room {
            return Err(FragmentDropReason::Full);
        }
        if offset == 0 {
            self.header = Some(whole_header(packet, data).ok_or(FragmentDropReason::BadLength)?);
        }
        self.pieces.insert(offset, packet.payload.into());
        self.received += len;
        self.complete()
    }

    /// Whether the very same fragment is here already, as when a capture sees each packet twice (RFC 8200, section 4.5,
    /// lets exact duplicates pass).
    fn is_repeated(&self, offset: u32, payload: &[u8]) -> bool {
        self.pieces.get(&offset).is_some_and(|piece| **piece == *payload)
    }

    /// Whether any byte from `start` to `end` is here already.
    fn is_taken(&self, start: u32, end: u32) -> bool {
        let before = self.pieces.range(..end).next_back();
        before.is_some_and(|(offset, piece)| *offset + piece.len() as u32 > start)
    }

    /// The whole packet, when every byte up to the end is here. As nothing overlaps, the lengths tell.
    fn complete(&self) -> Result<Option<Vec<u8>>, FragmentDropReason> {
        let (Some(total), Some(header)) = (self.total, &self.header) else {
            return Ok(None);
        };
        if self.received < total as usize {
            return Ok(None);
        }
        let mut whole = Vec::with_capacity(header.len() + total as usize);
        whole.extend_from_slice(header);
        for piece in self.pieces.values() {
            whole.extend_from_slice(piece);
        }
        set_length(&mut whole, header.len())?;
        // Only now are the headers behind the fragment header known: one that can't stand there, or says fragment again.
        match IpPacket::parse(&whole, whole.len()) {
            Ok(packet) if packet.fragment.is_none() => Ok(Some(whole)),
            _ => Err(FragmentDropReason::BadLength),
        }
    }
}

/// The headers of the first fragment as the whole datagram has them: without fragment offset, flags and fragment header.
/// `None` when a second fragment header follows, so that nothing has to be put together twice.
fn whole_header(packet: &IpPacket<'_>, data: &[u8]) -> Option<Vec<u8>> {
    let headers = data.get(..packet.header_len)?;
    if packet.source.is_ipv4() {
        let mut header = headers.to_vec();
        header.get_mut(6..8)?.fill(0);
        return Some(header);
    }
    if packet.protocol == ip::FRAGMENT {
        return None;
    }
    let mut header = headers.get(..packet.header_len.checked_sub(8)?)?.to_vec();
    // The number that announced the fragment header now announces what stood behind it.
    let mut next_at = 6;
    let mut at = 40;
    while *header.get(next_at)? != ip::FRAGMENT {
        let len = ip::extension_len(header[next_at], *header.get(at + 1)?);
        next_at = at;
        at += len;
    }
    header[next_at] = packet.protocol;
    Some(header)
}

/// Sets the length field, and the header checksum of IPv4.
fn set_length(whole: &mut [u8], header_len: usize) -> Result<(), FragmentDropReason> {
    let is_v4 = whole[0] >> 4 == 4;
    let counted = if is_v4 { whole.len() } else { whole.len() - 40 };
    let len = u16::try_from(counted).map_err(|_| FragmentDropReason::TooLong)?;
    if is_v4 {
        whole[2..4].copy_from_slice(&len.to_be_bytes());
        whole[10..12].fill(0);
        let checksum = checksum::of(&whole[..header_len]);
        whole[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        whole[4..6].copy_from_slice(&len.to_be_bytes());
    }
    Ok(())
}

/// Fragments waiting for the rest of their datagrams.
pub struct Reassembler {
    datagrams: FlowMap<DatagramKey, Datagram>,
    bytes: usize,
    max_bytes: usize,
    max_datagrams: usize,
    timeout: Duration,
    next_sweep: Instant,
    /// Fragments dropped as too old since the last sweep.
    overdue: u64,
}

impl Reassembler {
    /// A reassembler that keeps at most `max_bytes` (payload, headers, and a flat cost for each fragment) of at most
    /// `max_datagrams`, each for `timeout` after its first fragment.
    pub fn new(max_bytes: usize, max_datagrams: usize, timeout: Duration) -> Self {
        Self {
            datagrams: FlowMap::default(),
            bytes: 0,
            max_bytes,
            max_datagrams,
            timeout,
            next_sweep: Instant::ZERO,
            overdue: 0,
        }
    }

    /// Bytes now held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Datagrams now waiting or remembered as dropped.
    pub fn datagrams(&self) -> usize {
        self.datagrams.len()
    }

    /// Takes a fragment: `packet` as parsed from `data_from_ip_header`. A packet that is no fragment is complete at once.
    pub fn push(
        &mut self,
        packet: &IpPacket<'_>,
        data_from_ip_header: &[u8],
        now: Instant,
    ) -> FragmentOutcome {
        let Some(fragment) = packet.fragment else {
            return FragmentOutcome::Complete(data_from_ip_header.to_vec());
        };
        let key = DatagramKey {
            source: packet.source,
            destination: packet.destination,
            id: fragment.id,
            protocol: packet.source.is_ipv4().then_some(packet.protocol),
        };
        if !self.datagrams.contains_key(&key) && self.datagrams.len() >= self.max_datagrams {
            return FragmentOutcome::Dropped(FragmentDrop { reason: FragmentDropReason::Full, fragments: 1 });
        }
        let deadline = now + self.timeout;
        let datagram = self.datagrams.entry(key).or_insert_with(|| Datagram::new(deadline));
        let before = datagram.cost();
        if datagram.deadline <= now {
            // The identification was used again before the sweep came by.
            self.overdue += datagram.pieces.len() as u64;
            *datagram = Datagram::new(deadline);
        }
        let waiting = datagram.pieces.len() as u64;
        let room = self.max_bytes.saturating_sub(self.bytes - before);
        let outcome = match datagram.push(packet, fragment, data_from_ip_header, room) {
            Ok(None) => FragmentOutcome::Waiting,
            Ok(Some(whole)) => FragmentOutcome::Complete(whole),
            Err(reason) => {
                datagram.void(reason);
                FragmentOutcome::Dropped(FragmentDrop { reason, fragments: waiting + 1 })
            }
        };
        self.bytes = self.bytes - before + datagram.cost();
        if matches!(outcome, FragmentOutcome::Complete(_)) {
            self.remove(&key);
        }
        outcome
    }

    /// Forgets datagrams whose rest did not come in time, and returns how many fragments that dropped. Cheap to call often: it
    /// looks at most every sixteenth of the timeout.
    pub fn expire(&mut self, now: Instant) -> u64 {
        if now < self.next_sweep {
            return 0;
        }
        self.next_sweep = now + self.timeout / 16;
        let mut fragments = std::mem::take(&mut self.overdue);
        self.datagrams.retain(|_, datagram| {
            let keep = now < datagram.deadline;
            if !keep {
                fragments += datagram.pieces.len() as u64;
                self.bytes -= datagram.cost();
            }
            keep
        });
        fragments
    }

    fn remove(&mut self, key: &DatagramKey) {
        if let Some(datagram) = self.datagrams.remove(key) {
            self.bytes -= datagram.cost();
        }
    }
}
