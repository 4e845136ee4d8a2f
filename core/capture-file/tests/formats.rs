//! Every variant of the formats, whole.

mod common;

use common::{
    Order, Owned, START, block, drain, frame, frames, interface, option, packet, places, read, read_whole,
    section,
};
use tcpcopy_capture_file::{Captures, Compression, Damage, FileFormat, FlawKind, LinkType, OpenError};

const MICROS: u32 = 0xa1b2_c3d4;
const NANOS: u32 = 0xa1b2_3c4d;
const MODIFIED: u32 = 0xa1b2_cd34;

#[test]
fn pcap_of_either_order_and_resolution() {
    for order in Order::BOTH {
        for (magic, unit, format) in
            [(MICROS, 1000, FileFormat::PcapMicros), (NANOS, 1, FileFormat::PcapNanos)]
        {
            let mut bytes = common::pcap_header(order, magic, 262_144, 113);
            bytes.extend(common::pcap_record(order, [1_700_000_000, 999_999], [4, 90], b"four"));
            bytes.extend(common::pcap_record(order, [1_700_000_001, 5], [0, 0], b""));
            let mut captures = Captures::from_bytes("x", bytes).unwrap();
            let found = drain(&mut captures);
            let link = LinkType::LinuxCooked;
            let first = Owned { time: START + 999_999 * unit, data: b"four".to_vec(), wire_len: 90, link };
            let second =
                Owned { time: START + 1_000_000_000 + 5 * unit, data: Vec::new(), wire_len: 0, link };
            assert_eq!(found, [first, second], "{order:?} {magic:x}");
            let facts = captures.sources().swap_remove(0);
            assert_eq!(facts.format, Some(format));
            assert_eq!((facts.snap_len, facts.frames), (262_144, 2));
            assert_eq!(facts.link_types, [link]);
            assert_eq!(facts.compression, Compression::None);
            assert_eq!((facts.first_nanos, facts.last_nanos), (Some(found[0].time), Some(found[1].time)));
        }
    }
}

#[test]
fn pcap_with_longer_record_headers() {
    for order in Order::BOTH {
        let mut bytes = common::pcap_header(order, MODIFIED, 65_535, 1);
        for number in 0..3 {
            bytes.extend(common::pcap_record(order, [1_700_000_000, number], [6, 6], &[7; 8]));
            bytes.extend(b"frame!");
        }
        let found = read_whole(&bytes);
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|frame| frame.data == b"frame!"), "{found:?}");
    }
}

#[test]
fn bits_about_the_frame_check_sequence_are_no_link_type() {
    let mut bytes = common::pcap_header(Order::Little, MICROS, 65_535, 0x2400_0001);
    bytes.extend(common::pcap_record(Order::Little, [1_700_000_000, 0], [4, 4], b"four"));
    assert_eq!(read_whole(&bytes)[0].link, LinkType::Ethernet);
}

#[test]
fn large_frames_and_odd_lengths() {
    let large = vec![0x81; 300_000];
    let mut bytes = common::pcap_header(Order::Little, MICROS, 0, 101);
    bytes.extend(common::pcap_record(Order::Little, [1_700_000_000, 0], [80_000, 80_000], &large[..80_000]));
    // Longer than on the wire, longer than the snapshot length; fractions beyond a second.
    bytes.extend(common::pcap_record(Order::Little, [1_700_000_000, 1], [60, 50], &large[..60]));
    bytes.extend(common::pcap_record(Order::Little, [1_700_000_000, 1_500_000], [50, 50], &large[..50]));
    bytes.extend(common::pcap_record(Order::Little, [1_700_000_000, 2], [300_000, 300_000], &large));
    bytes.extend(common::pcap_record(Order::Little, [1_700_000_002, 2], [50, 50], &large[..50]));
    let found = read_whole(&bytes);
    let lengths: Vec<_> = found.iter().map(|frame| (frame.data.len(), frame.wire_len)).collect();
    assert_eq!(lengths, [(80_000, 80_000), (60, 60), (50, 50), (300_000, 300_000), (50, 50)]);
    // Times never go back.
    let times: Vec<_> = found.iter().map(|frame| frame.time - START).collect();
    assert_eq!(times, [0, 1000, 1_500_000_000, 1_500_000_000, 2_000_002_000]);
}

#[test]
fn what_has_a_snapshot_length_of_megabytes_holds_megabytes() {
    let large = vec![0x81; 5 << 20];
    let mut bytes = common::pcap_header(Order::Big, MICROS, 16 << 20, 1);
    for number in 0..3 {
        let len = large.len() as u32;
        bytes.extend(common::pcap_record(Order::Big, [1_700_000_000, number], [len, len], &large));
    }
    assert_eq!(read_whole(&bytes).iter().map(|frame| frame.data.len()).sum::<usize>(), 3 * large.len());
}

#[test]
fn pcapng_of_either_order_with_many_interfaces() {
    for order in Order::BOTH {
        let mut bytes = section(order);
        bytes.extend(interface(order, 1, 96, &[]));
        bytes.extend(interface(order, 276, 0, &option(order, 9, &[9])));
        // Milliseconds since 2023; 2^-20 seconds; a comment before the resolution, nothing behind it.
        let offset = (START / common::SECOND).to_le_bytes();
        let offset = if order == Order::Little { offset } else { (START / common::SECOND).to_be_bytes() };
        let options = [option(order, 9, &[3]), option(order, 14, &offset), option(order, 0, &[])].concat();
        bytes.extend(interface(order, 101, 0, &options));
        let options = [option(order, 1, b"a note"), option(order, 9, &[0x80 | 20])].concat();
        bytes.extend(interface(order, 0, 0, &options));
        // Statistics, names, custom: passed over.
        bytes.extend(block(order, 5, &[1; 20]));
        bytes.extend(packet(order, 0, START / 1000 + 7, 1500, b"one"));
        bytes.extend(block(order, 4, &[1; 8]));
        bytes.extend(packet(order, 1, START + 8_001, 4, b"four"));
        bytes.extend(block(order, 0xbad, &[1; 30]));
        bytes.extend(packet(order, 2, 1500, 5, b"three"));
        bytes.extend(packet(order, 3, (START / common::SECOND + 2) << 20 | 1 << 19, 2, b"22"));
        let found = read_whole(&bytes);
        let expected = [
            (7_000, &b"one"[..], 1500, LinkType::Ethernet),
            (8_001, b"four", 4, LinkType::LinuxCooked2),
            (1_500_000_000, b"three", 5, LinkType::Raw),
            (2_500_000_000, b"22", 2, LinkType::Null),
        ];
        let expected = expected.map(|(time, data, wire_len, link)| Owned {
            time: START + time,
            data: data.to_vec(),
            wire_len,
            link,
        });
        assert_eq!(found, expected, "{order:?}");
    }
}

#[test]
fn every_resolution_gives_the_time_it_means() {
    // Half a second behind the start, in any unit that can say so in 64 bits; coarser ones are rounded down.
    let seconds = u128::from(START / common::SECOND);
    for power in 0..=9_u8 {
        let units = seconds * 10_u128.pow(u32::from(power)) + 10_u128.pow(u32::from(power)) / 2;
        let expected = if power == 0 { START } else { START + 500_000_000 };
        assert_eq!(time_of(power, units as u64), expected, "10^-{power}");
    }
    for power in 0..=33_u8 {
        let units = (seconds << power) + (1 << power) / 2;
        let expected = if power == 0 { START } else { START + 500_000_000 };
        assert_eq!(time_of(0x80 | power, units as u64), expected, "2^-{power}");
    }
    // Finer than nanoseconds, near the epoch; and finer than anything.
    assert_eq!(time_of(12, 1_500_000_001_999), 1_500_000_001);
    assert_eq!(time_of(0x80 | 63, 3 << 62), 1_500_000_000);
    for absurd in [38, 39, 0x7f, 0xff] {
        assert_eq!(time_of(absurd, u64::MAX), 0, "{absurd}");
    }
}

/// The time of a packet whose interface counts in `resolution`.
fn time_of(resolution: u8, units: u64) -> u64 {
    let order = Order::Little;
    let mut bytes = section(order);
    bytes.extend(interface(order, 1, 0, &option(order, 9, &[resolution])));
    bytes.extend(packet(order, 0, units, 4, b"four"));
    read_whole(&bytes)[0].time
}

#[test]
fn times_that_no_clock_means_are_those_of_the_frame_before() {
    let order = Order::Little;
    let mut bytes = section(order);
    bytes.extend(interface(order, 1, 0, &[]));
    bytes.extend(interface(order, 1, 0, &option(order, 14, &(-2_000_000_000_i64).to_le_bytes())));
    for (interface, units) in [(0, START / 1000), (0, u64::MAX - 5), (1, START / 1000), (0, START / 1000 + 1)]
    {
        bytes.extend(packet(order, interface, units, 4, b"four"));
    }
    let times: Vec<_> = read_whole(&bytes).iter().map(|frame| frame.time - START).collect();
    assert_eq!(times, [0, 0, 0, 1000]);
}

#[test]
fn simple_and_old_packets() {
    for order in Order::BOTH {
        let mut bytes = section(order);
        bytes.extend(interface(order, 1, 6, &option(order, 9, &[9])));
        bytes.extend(packet(order, 0, START, 3, b"one"));
        bytes.extend(block(order, 3, &[&order.u32(9)[..], b"simple"].concat()));
        bytes.extend(block(order, 3, &[&order.u32(5)[..], b"short"].concat()));
        let numbers = [(START >> 32) as u32, START as u32, 3, 77].map(|n| order.u32(n)).concat();
        bytes.extend(block(order, 2, &[&order.u16(0)[..], &order.u16(9), &numbers, b"old"].concat()));
        let found: Vec<_> = read_whole(&bytes).into_iter().map(|f| (f.time, f.data, f.wire_len)).collect();
        let expected =
            [(b"one".to_vec(), 3), (b"simple".to_vec(), 9), (b"short".to_vec(), 5), (b"old".to_vec(), 77)];
        assert_eq!(found, expected.map(|(data, wire_len)| (START, data, wire_len)));
    }
}

#[test]
fn sections_begin_anew() {
    let mut bytes = Vec::new();
    for (order, link) in [(Order::Little, 1), (Order::Big, 113), (Order::Little, 101)] {
        bytes.extend(section(order));
        bytes.extend(interface(order, link, 0, &option(order, 9, &[9])));
        bytes.extend(packet(order, 0, START, 4, b"four"));
    }
    // An interface of the section before is none of this one.
    bytes.extend(section(Order::Big));
    bytes.extend(packet(Order::Big, 0, START, 4, b"lost"));
    let (found, flaws) = read(&bytes);
    let links: Vec<_> = found.iter().map(|frame| frame.link).collect();
    assert_eq!(links, [LinkType::Ethernet, LinkType::LinuxCooked, LinkType::Raw]);
    assert_eq!(places(&flaws), [(bytes.len() as u64 - 36, 36, FlawKind::Damaged(Damage::Interface))]);
}

#[test]
fn a_block_length_without_padding_is_understood() {
    let order = Order::Little;
    let mut bytes = section(order);
    bytes.extend(interface(order, 1, 0, &[]));
    let mut odd = packet(order, 0, 1, 6, b"sixsix");
    let len = odd.len();
    odd[4..8].copy_from_slice(&order.u32(len as u32 - 2));
    odd[len - 4..].copy_from_slice(&order.u32(len as u32 - 2));
    bytes.extend(odd);
    bytes.extend(packet(order, 0, 2, 4, b"four"));
    assert_eq!(read_whole(&bytes).len(), 2);
}

#[test]
fn one_flaw_stands_for_all_frames_of_an_unknown_link_type() {
    let order = Order::Little;
    let mut bytes = section(order);
    bytes.extend(interface(order, 1, 0, &[]));
    // Bluetooth.
    bytes.extend(interface(order, 201, 0, &[]));
    let at = bytes.len() as u64;
    for number in 0..1000 {
        bytes.extend(packet(order, 1, number, 4, b"blue"));
        bytes.extend(packet(order, 0, number, 4, b"wire"));
    }
    let (found, flaws) = read(&bytes);
    assert_eq!(found.len(), 1000);
    assert_eq!(places(&flaws), [(at, 36_000, FlawKind::UnsupportedLinkType(201))]);
    assert!(flaws[0].to_string().contains("201"), "{}", flaws[0]);
}

#[test]
fn what_is_no_capture_is_refused_with_advice() {
    let error = |bytes: &[u8]| Captures::from_bytes("some.file", bytes.to_vec()).err().expect("an error");
    assert!(matches!(error(b""), OpenError::Empty { .. }));
    assert!(matches!(error(b"GET / HTTP/1.1\r\n"), OpenError::NotACapture { looks_like: None, .. }));
    assert!(matches!(error(b"hi"), OpenError::NotACapture { looks_like: None, .. }));
    assert!(matches!(error(b"\xfd7zXZ\0\0\0\0\0"), OpenError::NotACapture { looks_like: Some("xz"), .. }));
    let header = common::pcap_header(Order::Little, MICROS, 0, 1);
    for cut in 4..header.len() {
        assert!(matches!(error(&header[..cut]), OpenError::HeaderCut { .. }), "{cut}");
    }
    let bluetooth = common::pcap_header(Order::Little, MICROS, 0, 201);
    assert!(matches!(error(&bluetooth), OpenError::LinkType { number: 201, .. }));
    assert!(matches!(error(&common::gzip(b"text, compressed")), OpenError::NotACapture { .. }));
    assert!(matches!(error(&common::gzip(&header)[..12]), OpenError::HeaderCut { .. }));
    let mut section = section(Order::Little);
    section[8] ^= 1;
    assert!(matches!(error(&section), OpenError::NotACapture { .. }));
    for bytes in [&b""[..], b"nothing", b"\xfd7zXZ\0", &header[..9], &bluetooth] {
        let error = error(bytes);
        assert!(error.to_string().starts_with("some.file: "), "{error}");
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn files_of_several_members_and_frames() {
    let all = frames(60);
    for (bytes, _) in [common::pcap(Order::Little, &all), common::pcapng(Order::Big, &all)] {
        for cut in [0, 1, 24, 1000, bytes.len()] {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(read_whole(&[common::gzip(head), common::gzip(tail)].concat()), all, "gzip {cut}");
            assert_eq!(read_whole(&[common::zstd(head), common::zstd(tail)].concat()), all, "zstd {cut}");
        }
        // Zeros behind gzip, as tapes have them; a skippable frame before and behind zstd.
        assert_eq!(read_whole(&[common::gzip(&bytes), vec![0; 700]].concat()), all);
        let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"hello"].concat();
        assert_eq!(read_whole(&[&skippable[..], &common::zstd(&bytes), &skippable].concat()), all);
    }
}

#[test]
fn gzip_headers_with_everything_in_them() {
    let (bytes, _) = common::pcap(Order::Little, &[frame(1)]);
    let plain = common::gzip(&bytes);
    let mut full = vec![0x1f, 0x8b, 8, 0x1e, 0, 0, 0, 0, 0, 3];
    full.extend([3, 0, 1, 2, 3]);
    full.extend(b"a name\0a comment\0");
    full.extend([0xab, 0xcd]);
    full.extend(&plain[10..]);
    assert_eq!(read_whole(&full), [frame(1)]);
    for sizes in [vec![1], vec![5, 1]] {
        assert_eq!(common::read_pieces(&full, sizes), (vec![frame(1)], Vec::new()));
    }
}
