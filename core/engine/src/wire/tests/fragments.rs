//! Fragments, cut from whole packets here and put together there.

use super::{parsed, segment, v4_flow, v6_flow, written};
use crate::time::{Duration, Instant};
use crate::wire::fragment::{FragmentDrop, FragmentDropReason, FragmentOutcome, Reassembler};
use crate::wire::ip::IpPacket;
use pnet::packet::ipv4::{self, MutableIpv4Packet};
use proptest::prelude::*;

const TIMEOUT: Duration = Duration::from_secs(30);

fn reassembler() -> Reassembler {
    Reassembler::new(1 << 20, 16, TIMEOUT)
}

fn push_at(reassembler: &mut Reassembler, bytes: &[u8], now: Instant) -> FragmentOutcome {
    let packet = IpPacket::parse(bytes, bytes.len()).expect("a good fragment");
    assert!(packet.fragment.is_some());
    reassembler.push(&packet, bytes, now)
}

fn push(reassembler: &mut Reassembler, bytes: &[u8]) -> FragmentOutcome {
    push_at(reassembler, bytes, Instant::ZERO)
}

fn dropped(reason: FragmentDropReason, fragments: u64) -> FragmentOutcome {
    FragmentOutcome::Dropped(FragmentDrop { reason, fragments })
}

/// The part of a whole packet's payload from `start` to `end`, as a router (IPv4) or the sender (IPv6) would cut it.
fn fragment_of(whole: &[u8], id: u32, start: usize, end: usize) -> Vec<u8> {
    let packet = IpPacket::parse(whole, whole.len()).expect("a whole packet");
    let more = end < packet.payload.len();
    let (header, payload) = (&whole[..packet.header_len], &packet.payload[start..end]);
    if packet.source.is_ipv4() {
        let mut bytes = [header, payload].concat();
        let len = bytes.len() as u16;
        let mut made = MutableIpv4Packet::new(&mut bytes).unwrap();
        made.set_total_length(len);
        made.set_identification(id as u16);
        made.set_flags(u8::from(more));
        made.set_fragment_offset(start as u16 / 8);
        made.set_checksum(ipv4::checksum(&made.to_immutable()));
        return bytes;
    }
    // The fragment header stands behind all others that `whole` has.
    let mut bytes = header.to_vec();
    let announces = if header.len() == 40 { 6 } else { 40 };
    bytes[announces] = 44;
    bytes.extend_from_slice(&[packet.protocol, 0]);
    bytes.extend_from_slice(&(start as u16 | u16::from(more)).to_be_bytes());
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(payload);
    let len = bytes.len() as u16 - 40;
    bytes[4..6].copy_from_slice(&len.to_be_bytes());
    bytes
}

/// Whole packets without the don't-fragment bit: IPv4, IPv6, and IPv6 with a hop-by-hop header.
fn wholes(payload: &[u8]) -> [Vec<u8>; 3] {
    let mut v4 = written(&segment(v4_flow()), payload);
    let mut made = MutableIpv4Packet::new(&mut v4).unwrap();
    made.set_flags(0);
    made.set_checksum(ipv4::checksum(&made.to_immutable()));
    let v6 = written(&segment(v6_flow()), payload);
    let mut with_options = v6.clone();
    with_options.splice(40..40, [6, 0, 5, 2, 0, 0, 1, 0]);
    with_options[6] = 0;
    let len = with_options.len() as u16 - 40;
    with_options[4..6].copy_from_slice(&len.to_be_bytes());
    [v4, v6, with_options]
}

fn payload_len(whole: &[u8]) -> usize {
    IpPacket::parse(whole, whole.len()).unwrap().payload_len
}

proptest! {
    #[test]
    fn fragments_in_any_order_make_the_packet_again(
        payload in prop::collection::vec(any::<u8>(), 30..3000),
        cuts in prop::collection::btree_set(1usize..370, 0..12),
        order in any::<u64>(),
        repeat in any::<prop::sample::Index>(),
    ) {
        for whole in wholes(&payload) {
            let len = payload_len(&whole);
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut * 8).filter(|cut| *cut < len).collect();
            if ends.is_empty() {
                ends.push(8);
            }
            ends.push(len);
            let mut fragments = Vec::new();
            let mut start = 0;
            for end in ends {
                fragments.push(fragment_of(&whole, 77, start, end));
                start = end;
            }
            let count = fragments.len();
            fragments.rotate_left(order as usize % count);
            fragments.swap(0, (order >> 32) as usize % count);
            let mut reassembler = reassembler();
            let (last, first_ones) = fragments.split_last().unwrap();
            for fragment in first_ones {
                prop_assert_eq!(push(&mut reassembler, fragment), FragmentOutcome::Waiting);
            }
            // A second copy of one that is waiting changes nothing.
            let again = &first_ones[repeat.index(first_ones.len())];
            prop_assert_eq!(push(&mut reassembler, again), FragmentOutcome::Waiting);
            let FragmentOutcome::Complete(mut made) = push(&mut reassembler, last) else { panic!("not complete") };
            parsed(&made);
            if made[0] >> 4 == 4 {
                let header = pnet::packet::ipv4::Ipv4Packet::new(&made).unwrap();
                prop_assert_eq!(header.get_checksum(), ipv4::checksum(&header));
                // The only trace: the identification that the fragments were given, and the checksum over it.
                made[4..6].copy_from_slice(&whole[4..6]);
                made[10..12].copy_from_slice(&whole[10..12]);
            }
            prop_assert_eq!(made, whole);
            prop_assert_eq!((reassembler.bytes(), reassembler.datagrams()), (0, 0));
        }
    }

    #[test]
    fn hostile_fragments_stay_within_the_bounds(
        pieces in prop::collection::vec((0u16..40, 0usize..60, any::<bool>(), 0u16..6, 0u64..20), 1..200),
    ) {
        let mut reassembler = Reassembler::new(2000, 4, TIMEOUT);
        let (mut accepted, mut accounted) = (0u64, 0u64);
        let mut now = Instant::ZERO;
        for (offset, len, more, id, seconds) in pieces {
            now += Duration::from_secs(seconds);
            let mut bytes = wholes(b"")[0][..20].to_vec();
            bytes.resize(20 + len, offset as u8);
            bytes[2..4].copy_from_slice(&(20 + len as u16).to_be_bytes());
            bytes[4..6].copy_from_slice(&id.to_be_bytes());
            bytes[6..8].copy_from_slice(&(offset | u16::from(more) << 13).to_be_bytes());
            let packet = IpPacket::parse(&bytes, bytes.len()).unwrap();
            if packet.fragment.is_none() {
                continue;
            }
            accounted += reassembler.expire(now);
            match reassembler.push(&packet, &bytes, now) {
                FragmentOutcome::Waiting => accepted += 1,
                FragmentOutcome::Complete(whole) => {
                    accepted += 1;
                    let ip = IpPacket::parse(&whole, whole.len()).unwrap();
                    prop_assert_eq!((ip.fragment, ip.payload.len()), (None, ip.payload_len));
                }
                FragmentOutcome::Dropped(drop) => {
                    accepted += 1;
                    accounted += drop.fragments;
                }
            }
            prop_assert!(reassembler.bytes() <= 2000 && reassembler.datagrams() <= 4);
            prop_assert!(accounted <= accepted);
        }
        reassembler.expire(now + TIMEOUT + TIMEOUT);
        prop_assert_eq!((reassembler.bytes(), reassembler.datagrams()), (0, 0));
    }
}

#[test]
fn an_overlap_voids_the_datagram_and_what_comes_of_it_later() {
    for whole in wholes(&[9; 100]) {
        let len = payload_len(&whole);
        let mut reassembler = reassembler();
        let other = fragment_of(&whole, 6, 0, 40);
        assert_eq!(push(&mut reassembler, &other), FragmentOutcome::Waiting);
        assert_eq!(push(&mut reassembler, &fragment_of(&whole, 5, 0, 40)), FragmentOutcome::Waiting);
        let overlap = FragmentDropReason::Overlap;
        assert_eq!(push(&mut reassembler, &fragment_of(&whole, 5, 32, 64)), dropped(overlap, 2));
        assert_eq!(push(&mut reassembler, &fragment_of(&whole, 5, 0, 40)), dropped(overlap, 1));
        assert_eq!(push(&mut reassembler, &fragment_of(&whole, 5, 40, len)), dropped(overlap, 1));
        // Its neighbour is not touched.
        let rest = push(&mut reassembler, &fragment_of(&whole, 6, 40, len));
        assert!(matches!(rest, FragmentOutcome::Complete(_)));
        // The same place with other bytes is an overlap as well.
        assert_eq!(push(&mut reassembler, &fragment_of(&whole, 7, 8, 16)), FragmentOutcome::Waiting);
        let mut forged = fragment_of(&whole, 7, 8, 16);
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(push(&mut reassembler, &forged), dropped(overlap, 2));
    }
}

#[test]
fn impossible_fragments_are_dropped_with_their_reason() {
    let whole = &wholes(&[9; 100])[0];
    let len = payload_len(whole);
    let outcome = |fragments: &[Vec<u8>]| {
        let mut reassembler = reassembler();
        fragments.iter().map(|fragment| push(&mut reassembler, fragment)).last().unwrap()
    };
    let bad = |fragments| dropped(FragmentDropReason::BadLength, fragments);
    assert_eq!(outcome(&[fragment_of(whole, 5, 0, 41)]), bad(1));
    assert_eq!(outcome(&[fragment_of(whole, 5, 8, 8)]), bad(1));
    // Two ends, and bytes beyond the end.
    let mut early_end = fragment_of(whole, 5, 16, 24);
    early_end[6] = 0;
    assert_eq!(outcome(&[fragment_of(whole, 5, 48, len), early_end.clone()]), bad(2));
    assert_eq!(outcome(&[early_end.clone(), fragment_of(whole, 5, 48, 56)]), bad(2));
    assert_eq!(outcome(&[fragment_of(whole, 5, 48, 56), early_end]), bad(2));
    let mut beyond = fragment_of(whole, 5, 8, 16);
    beyond[6..8].copy_from_slice(&0x1fff_u16.to_be_bytes());
    assert_eq!(outcome(&[beyond]), dropped(FragmentDropReason::TooLong, 1));
    let cut = fragment_of(whole, 5, 0, 40);
    let packet = IpPacket::parse(&cut[..50], 60).unwrap();
    let outcome = reassembler().push(&packet, &cut[..50], Instant::ZERO);
    assert_eq!(outcome, dropped(FragmentDropReason::Truncated, 1));
}

#[test]
fn a_reassembled_packet_is_never_a_fragment_again() {
    let whole = &wholes(&[9; 100])[1];
    let mut nested = fragment_of(whole, 5, 0, 40);
    nested[40] = 44;
    assert_eq!(push(&mut reassembler(), &nested), dropped(FragmentDropReason::BadLength, 1));
}

#[test]
fn what_waits_is_bounded_and_expires() {
    let whole = &wholes(&[9; 1000])[0];
    let part = |id| fragment_of(whole, id, 0, 800);
    let mut reassembler = Reassembler::new(4000, 3, TIMEOUT);
    for id in 0..3 {
        assert_eq!(push(&mut reassembler, &part(id)), FragmentOutcome::Waiting);
    }
    assert_eq!(push(&mut reassembler, &part(3)), dropped(FragmentDropReason::Full, 1));
    let end = fragment_of(whole, 0, 800, payload_len(whole));
    assert_eq!(reassembler.expire(Instant::from_millis(29_999)), 0);
    assert_eq!(reassembler.expire(Instant::from_millis(32_000)), 3);
    assert_eq!((reassembler.bytes(), reassembler.datagrams()), (0, 0));
    // The end alone waits for a new beginning, and takes no part of the one that expired.
    assert_eq!(push_at(&mut reassembler, &end, Instant::from_millis(32_000)), FragmentOutcome::Waiting);

    let mut small = Reassembler::new(2000, 100, TIMEOUT);
    assert_eq!(push(&mut small, &part(1)), FragmentOutcome::Waiting);
    assert_eq!(push(&mut small, &part(2)), FragmentOutcome::Waiting);
    assert_eq!(push(&mut small, &part(3)), dropped(FragmentDropReason::Full, 1));
    assert!(small.bytes() <= 2000);
    // An identification that is used again after the timeout begins anew; what was dropped is told at the next sweep.
    let late = Instant::from_millis(31_000);
    let end = fragment_of(whole, 1, 800, payload_len(whole));
    assert_eq!(push_at(&mut small, &end, late), FragmentOutcome::Waiting);
    assert_eq!(small.expire(late), 2);
}
