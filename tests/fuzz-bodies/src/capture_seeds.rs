//! Seeds for [`crate::capture_file`]: small files of every format, made byte by byte so that they stay the same whatever compresses.

use crate::seeds::{Seed, seed};

/// Some moment in 2023, in seconds.
const START: u32 = 1_700_000_000;

type Number = fn(u32) -> [u8; 4];

fn pcap(order: Number, magic: u32, extra: usize) -> Vec<u8> {
    let half = |number: u16| if order(1)[0] == 1 { number.to_le_bytes() } else { number.to_be_bytes() };
    let mut file = order(magic).to_vec();
    file.extend([half(2), half(4)].concat());
    for number in [0, 0, 65_535, 1] {
        file.extend(order(number));
    }
    for number in 0..4_u32 {
        let data = vec![0x80 | number as u8; 20 + 9 * number as usize];
        for field in [START + number, number * 1000, data.len() as u32, 60] {
            file.extend(order(field));
        }
        file.resize(file.len() + extra, 0);
        file.extend(data);
    }
    file
}

fn block(order: Number, kind: u32, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let len = order(body.len() as u32 + 12);
    [&order(kind)[..], &len, &body, &len].concat()
}

fn pcapng(order: Number) -> Vec<u8> {
    let is_little = order(1)[0] == 1;
    let half = |number: u16| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
    let mut file =
        block(order, 0x0a0d_0d0a, &[&order(0x1a2b_3c4d)[..], &half(1), &half(0), &[0xff; 8]].concat());
    for (link, resolution) in [(1, 9), (101, 0x80 | 10), (201, 6)] {
        let option = [&half(9)[..], &half(1), &[resolution, 0, 0, 0]].concat();
        file.extend(block(order, 1, &[&half(link)[..], &[0; 2], &order(96), &option].concat()));
    }
    file.extend(block(order, 5, &[1; 12]));
    for number in 0..4_u32 {
        let data = vec![0x80 | number as u8; 20 + 9 * number as usize];
        let fields = [number % 3, 0x1797_0000, number, data.len() as u32, 60].map(order).concat();
        file.extend(block(order, 6, &[fields, data].concat()));
    }
    file.extend(block(order, 3, &[&order(20)[..], &[0x85; 20]].concat()));
    let fields = [0x1797_0000, 9, 5, 60].map(order).concat();
    file.extend(block(order, 2, &[&half(0)[..], &half(0), &fields, &[0x86; 5]].concat()));
    file
}

/// A gzip member with the bytes as they are.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
        }
    }
    let len = bytes.len() as u16;
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1];
    file.extend([len.to_le_bytes(), (!len).to_le_bytes()].concat());
    file.extend(bytes);
    file.extend([(!sum).to_le_bytes(), u32::from(len).to_le_bytes()].concat());
    file
}

/// A Zstandard frame with the bytes as they are, and a block of `zeros` zeros behind them.
fn zstd(bytes: &[u8], zeros: u32) -> Vec<u8> {
    let mut file = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
    file.extend(&((bytes.len() as u32) << 3).to_le_bytes()[..3]);
    file.extend(bytes);
    // The last block: one byte, repeated.
    file.extend(&(zeros << 3 | 0b011).to_le_bytes()[..3]);
    file.push(0);
    file
}

pub(crate) fn capture_file() -> Vec<Seed> {
    let little: Number = u32::to_le_bytes;
    let big: Number = u32::to_be_bytes;
    let micros = pcap(little, 0xa1b2_c3d4, 0);
    let blocks = pcapng(little);
    let mut damaged = micros.clone();
    damaged[24 + 36 + 8] = 0xff;
    let mut damaged_block = blocks.clone();
    let at = damaged_block.len() - 100;
    damaged_block[at..at + 8].fill(0xa5);
    let files = [
        ("pcap_micros", micros.clone()),
        ("pcap_nanos_big", pcap(big, 0xa1b2_3c4d, 0)),
        ("pcap_modified", pcap(little, 0xa1b2_cd34, 8)),
        ("pcap_cut", micros[..micros.len() - 5].to_vec()),
        ("pcap_damaged", damaged),
        ("pcapng", blocks.clone()),
        ("pcapng_sections", [pcapng(big), pcapng(little)].concat()),
        ("pcapng_damaged", damaged_block),
        ("gzip", gzip(&micros)),
        ("gzip_members", [gzip(&blocks[..100]), gzip(&blocks[100..])].concat()),
        ("zstd", zstd(&blocks, 0)),
        ("zstd_zeros", zstd(&micros, 100_000)),
    ];
    files.into_iter().map(|(name, file)| seed(name, [&[6], &file[..]].concat())).collect()
}
