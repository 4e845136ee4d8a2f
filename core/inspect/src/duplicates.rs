//! Packets that were captured more than once: overlapping interfaces, both sides of a bridge, VLAN and physical device.
//!
//! Owns a table of recent packets of fixed size. A retransmission is another packet: it has another IP identification, or comes later
//! than a second capture of the same packet would.

use foldhash::fast::RandomState;
use std::hash::BuildHasher;

/// Entries; a packet whose place another took is not known again, which only makes the count smaller.
const ENTRIES: usize = 1 << 15;
/// How far two captures of one packet may be apart when its IP identification tells it from others, in nanoseconds.
const NAMED_NANOS: u64 = 1_000_000_000;
/// The same for packets without an identification.
const NAMELESS_NANOS: u64 = 3_000_000;

/// What makes a packet the same: everything that a router or a bridge leaves as it is.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Identity<'a> {
    /// Sender, then receiver.
    pub(crate) addresses: (u128, u128),
    /// IPv4 identification; 0 when there is none.
    pub(crate) ip_id: u16,
    /// The TCP header with its options, ports and checksum included.
    pub(crate) tcp_header: &'a [u8],
    /// Payload length on the wire.
    pub(crate) payload_len: usize,
}

/// Packets seen lately.
pub(crate) struct Duplicates {
    /// Fingerprint and capture time, at the place that the fingerprint's lower bits name.
    entries: Box<[(u64, u64)]>,
    hasher: RandomState,
}

impl Duplicates {
    pub(crate) fn new() -> Self {
        Self { entries: vec![(0, 0); ENTRIES].into_boxed_slice(), hasher: RandomState::default() }
    }

    /// Whether a packet captured at `at` was captured before; remembers it.
    pub(crate) fn is_repeated(&mut self, identity: &Identity<'_>, at: u64) -> bool {
        let fingerprint = self.hasher.hash_one(identity);
        let entry = &mut self.entries[fingerprint as usize % ENTRIES];
        let (known, before) = std::mem::replace(entry, (fingerprint, at));
        let window = match identity.ip_id {
            0 => NAMELESS_NANOS,
            _ => NAMED_NANOS,
        };
        known == fingerprint && at.abs_diff(before) <= window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_packet_twice_is_told_from_a_retransmission() {
        let mut seen = Duplicates::new();
        let packet = Identity { addresses: (1, 2), ip_id: 7, tcp_header: &[1, 2, 3], payload_len: 9 };
        assert!(!seen.is_repeated(&packet, 1_000));
        assert!(seen.is_repeated(&packet, 2_000));
        assert!(!seen.is_repeated(&Identity { ip_id: 8, ..packet }, 3_000));
        assert!(!seen.is_repeated(&Identity { addresses: (2, 1), ..packet }, 3_000));
        assert!(!seen.is_repeated(&packet, 5_000_000_000));
    }

    #[test]
    fn without_an_identification_only_what_comes_at_once_is_the_same() {
        let mut seen = Duplicates::new();
        let packet = Identity { addresses: (1, 2), ip_id: 0, tcp_header: &[1, 2, 3], payload_len: 9 };
        assert!(!seen.is_repeated(&packet, 0));
        assert!(seen.is_repeated(&packet, 1_000_000));
        assert!(!seen.is_repeated(&packet, 201_000_000));
    }
}
