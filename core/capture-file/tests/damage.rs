//! Files that are cut or damaged: what is whole is read, and what was not is said.

mod common;

use common::{Order, Owned, frame, frames, places, read, read_pieces};
use proptest::prelude::*;
use tcpcopy_capture_file::{Captures, Damage, FlawKind};

const COUNT: usize = 200;

/// A file of some format, and where its records begin.
fn files(all: &[Owned]) -> Vec<(Vec<u8>, Vec<usize>, Damage)> {
    let mut files = Vec::new();
    for order in Order::BOTH {
        let (bytes, begins) = common::pcap(order, all);
        files.push((bytes, begins, Damage::RecordHeader));
        let (bytes, begins) = common::pcapng(order, all);
        files.push((bytes, begins, Damage::BlockLength));
    }
    files
}

#[test]
fn every_cut_gives_the_frames_before_it() {
    let all = frames(12);
    for (bytes, begins, _) in files(&all) {
        for cut in begins[0]..=bytes.len() {
            let whole = begins.iter().filter(|begin| **begin <= cut).count() - 1;
            let begin = begins[whole];
            let expected = if cut == begin {
                Vec::new()
            } else {
                vec![(begin as u64, (cut - begin) as u64, FlawKind::Truncated)]
            };
            let (found, flaws) = read(&bytes[..cut]);
            assert_eq!(found, all[..whole], "cut at {cut}");
            assert_eq!(places(&flaws), expected, "cut at {cut}");
            let (found, flaws) = read_pieces(&bytes[..cut], vec![7, 100]);
            assert_eq!((found.len(), places(&flaws)), (whole, expected), "cut at {cut}, from a pipe");
        }
    }
}

/// Checks that no frames but those of the records `hurt` are missing, that no others appear, and that it was noted.
fn assert_only_hurt(bytes: &[u8], all: &[Owned], hurt: std::ops::RangeInclusive<usize>, what: &str) {
    let flaws = assert_missing(bytes, all, hurt, what);
    assert!(flaws > 0, "{what}: nothing was noted");
}

/// As [`assert_only_hurt`], where the damage may be of a kind that can't be seen. Returns how many flaws there were.
fn assert_missing(bytes: &[u8], all: &[Owned], hurt: std::ops::RangeInclusive<usize>, what: &str) -> usize {
    let (found, flaws) = read(bytes);
    let mut expected = all.iter().enumerate().filter(|(at, _)| !hurt.contains(at)).map(|(_, frame)| frame);
    assert!(expected.all(|frame| found.contains(frame)), "{what}: frames are missing; flaws {flaws:?}");
    assert!(found.len() <= all.len(), "{what}: {} frames", found.len());
    flaws.len()
}

#[test]
fn a_record_with_wrong_lengths_is_skipped_and_no_other() {
    let all = frames(COUNT);
    for (bytes, begins, kind) in files(&all) {
        for hurt in [0, 1, 100, COUNT - 2, COUNT - 1] {
            let at = begins[hurt];
            // Where lengths stand: in the record's header, or before and behind the block.
            let field = if kind == Damage::RecordHeader { at + 8..at + 12 } else { at + 4..at + 8 };
            for wrong in [0_u32, 1, 5, 64, 300, 5_000, 200_000, 0x00ff_ffff, 0x7fff_ffff, u32::MAX] {
                for wrong in [wrong.to_le_bytes(), wrong.to_be_bytes()] {
                    let mut bytes = bytes.clone();
                    bytes[field.clone()].copy_from_slice(&wrong);
                    assert_only_hurt(&bytes, &all, hurt..=hurt, &format!("{kind:?} {hurt} {wrong:x?}"));
                }
            }
        }
    }
}

#[test]
fn bytes_lost_or_added_cost_the_records_they_were_in() {
    let all = frames(COUNT);
    for (bytes, begins, kind) in files(&all) {
        for hurt in [0, 50, COUNT - 3] {
            for len in [1, 4, 7, 30, 1000] {
                let at = begins[hurt] + 9;
                let end = (at + len).min(bytes.len());
                let last = begins.iter().filter(|begin| **begin < end).count() - 1;
                let lost = [&bytes[..at], &bytes[end..]].concat();
                assert_only_hurt(&lost, &all, hurt..=last, &format!("{kind:?} {len} lost in {hurt}"));
                let added = [&bytes[..at], &vec![0xa5; len], &bytes[at..]].concat();
                assert_only_hurt(&added, &all, hurt..=hurt, &format!("{kind:?} {len} added in {hurt}"));
                let zeroed = [&bytes[..at], &vec![0; end - at], &bytes[end..]].concat();
                assert_missing(&zeroed, &all, hurt..=last, &format!("{kind:?} {len} zeroed in {hurt}"));
            }
        }
    }
}

#[test]
fn a_flaw_says_where_and_how_much() {
    let all = frames(COUNT);
    for (mut bytes, begins, kind) in files(&all) {
        let (from, to) = (begins[20], begins[23]);
        bytes[from..to].fill(0xa5);
        let (found, flaws) = read(&bytes);
        assert_eq!(found, [&all[..20], &all[23..]].concat());
        assert_eq!(places(&flaws), [(from as u64, (to - from) as u64, FlawKind::Damaged(kind))]);
        let text = flaws[0].to_string();
        assert!(
            text.contains(&format!("at byte {from}: ")) && text.contains(&(to - from).to_string()),
            "{text}"
        );
    }
}

#[test]
fn a_wrong_time_does_not_move_the_frames_behind_it() {
    let all = frames(5);
    let (pcap, pcap_begins) = common::pcap(Order::Little, &all);
    let (pcapng, pcapng_begins) = common::pcapng(Order::Little, &all);
    // The highest byte of the seconds; of the high half of the time.
    let files = [(pcap, pcap_begins, 3), (pcapng, pcapng_begins, 15)];
    for (file, begins, highest) in files {
        for hurt in [0, 2] {
            let mut bytes = file.clone();
            bytes[begins[hurt] + highest] = 0xf0;
            let (found, flaws) = read(&bytes);
            let data = |frames: &[Owned]| frames.iter().map(|frame| frame.data.clone()).collect::<Vec<_>>();
            assert_eq!(data(&found), data(&all));
            for (number, (found, frame)) in found.iter().zip(&all).enumerate() {
                let is_near = found.time.abs_diff(frame.time) < 2_000_000;
                assert!(
                    if number == hurt { is_near } else { found.time == frame.time },
                    "{number}: {found:?}"
                );
            }
            assert_eq!(places(&flaws), [(begins[hurt] as u64, 0, FlawKind::Damaged(Damage::RecordTime))]);
        }
    }
}

#[test]
fn a_long_pause_is_no_damage() {
    let mut all = frames(6);
    for frame in &mut all[3..] {
        frame.time += 100 * 86_400 * common::SECOND;
    }
    for (bytes, ..) in files(&all) {
        assert_eq!(read(&bytes), (all.clone(), Vec::new()));
    }
}

#[test]
fn flaws_are_bounded_and_counted() {
    let order = Order::Little;
    let mut bytes = [common::section(order), common::interface(order, 1, 0, &[])].concat();
    for _ in 0..1000 {
        bytes.extend(common::packet(order, 9, 0, 4, b"lost"));
    }
    let mut captures = Captures::from_bytes("x", bytes).unwrap();
    assert_eq!(common::drain(&mut captures), []);
    assert_eq!((captures.flaw_count(), captures.flaws().len()), (1000, 100));
}

#[test]
fn compressed_files_that_are_cut_give_what_was_before() {
    let all = frames(2000);
    let (plain, begins) = common::pcap(Order::Little, &all);
    for compressed in [common::gzip(&plain), common::zstd(&plain)] {
        let mut most = 0;
        for cut in (compressed.len() / 8..compressed.len()).step_by(compressed.len() / 97) {
            let Ok(mut captures) = Captures::from_bytes("x", compressed[..cut].to_vec()) else {
                assert_eq!(most, 0, "cut at {cut}");
                continue;
            };
            let found = common::drain(&mut captures);
            let flaws = captures.flaws();
            assert_eq!(found, all[..found.len()], "cut at {cut}");
            assert!(flaws.iter().any(|flaw| flaw.kind == FlawKind::Truncated), "cut at {cut}: {flaws:?}");
            assert!(flaws.iter().all(|flaw| flaw.offset <= *begins.last().unwrap() as u64), "{flaws:?}");
            assert!(found.len() >= most);
            most = found.len();
        }
        assert!(most > all.len() / 2, "only {most} frames of a file that was cut at its end");
    }
}

#[test]
fn compressed_files_that_are_damaged_give_what_was_before() {
    let all: Vec<_> = (0..20_000).map(frame).collect();
    let (plain, _) = common::pcap(Order::Little, &all);
    for compressed in [common::gzip(&plain), common::zstd(&plain)] {
        let mut damaged = compressed.clone();
        let middle = damaged.len() / 2;
        damaged[middle..middle + 64].fill(0xff);
        let (found, flaws) = read(&damaged);
        let same = found.iter().zip(&all).take_while(|(found, frame)| found == frame).count();
        assert!(same > all.len() / 4, "{same} frames before the damage");
        assert!(flaws.iter().any(|flaw| matches!(flaw.kind, FlawKind::Damaged(_))), "{flaws:?}");
    }
    let mut wrong_sum = common::gzip(&plain);
    let at = wrong_sum.len() - 8;
    wrong_sum[at] ^= 1;
    let (found, flaws) = read(&wrong_sum);
    assert_eq!(found, all);
    assert_eq!(places(&flaws), [(plain.len() as u64, 0, FlawKind::Damaged(Damage::Checksum))]);
    let garbage = [&common::gzip(&plain)[..], b"and more"].concat();
    let (found, flaws) = read(&garbage);
    assert_eq!(found, all);
    assert_eq!(places(&flaws), [(plain.len() as u64, 0, FlawKind::Damaged(Damage::TrailingBytes))]);
}

/// How a file is compressed.
fn packed(bytes: &[u8], how: u8) -> Vec<u8> {
    match how {
        0 => bytes.to_vec(),
        1 => common::gzip(bytes),
        _ => common::zstd(bytes),
    }
}

proptest! {
    #[test]
    fn the_pieces_that_bytes_come_in_do_not_matter(
        count in 0_usize..300,
        which in 0_usize..4,
        how in 0_u8..3,
        sizes in prop::collection::vec(1_usize..5000, 1..20),
    ) {
        let all = frames(count);
        let (bytes, ..) = files(&all).swap_remove(which);
        let (found, flaws) = read_pieces(&packed(&bytes, how), sizes);
        prop_assert_eq!(flaws, vec![]);
        prop_assert_eq!(found, all);
    }

    #[test]
    fn frames_far_behind_damage_are_read(
        which in 0_usize..4,
        at in any::<prop::sample::Index>(),
        damage in prop::collection::vec(any::<u8>(), 1..300),
        cut in 0_usize..300,
    ) {
        let all = frames(COUNT);
        let (mut bytes, begins, _) = files(&all).swap_remove(which);
        // Behind the headers, without which nothing is read.
        let at = begins[0] + at.index(bytes.len() - begins[0]);
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, damage);
        let (found, _) = read(&bytes);
        // Of the records that end well before the damage, and those that begin well behind it, none is missing.
        let before = begins[1..].iter().filter(|end| **end <= at).count();
        prop_assert_eq!(&found[..before.min(found.len())], &all[..before]);
        let behind = begins.iter().filter(|begin| **begin < end + 1).count() + 3;
        for frame in all.iter().skip(behind) {
            // Damage may hit the time before; then it moves the frame's time.
            prop_assert!(found.iter().any(|f| f.data == frame.data), "{} of {:?}", frame.time, begins.len());
        }
    }

    #[test]
    fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..600), which in 0_usize..4, how in 0_u8..3) {
        let (header, begins, _) = files(&[]).swap_remove(which);
        let bytes = [&header[..begins[0]], &bytes].concat();
        let packed = packed(&bytes, how);
        let (found, _) = read(&packed);
        let (from_pipe, _) = read_pieces(&packed, vec![13]);
        prop_assert!(found.len() <= bytes.len() / 12 && from_pipe.len() <= bytes.len() / 12);
    }
}
