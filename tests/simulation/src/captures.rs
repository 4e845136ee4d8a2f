//! Reads capture files: pcap and pcapng, as far as their packets go.

use tcpcopy_engine::wire::link::LinkType;

/// A packet of a capture file.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What its bytes begin with.
    pub link: LinkType,
    /// When it was captured, in nanoseconds of the Unix epoch.
    pub at: u64,
    /// The bytes captured.
    pub bytes: Vec<u8>,
    /// Its length on the wire.
    pub wire_len: usize,
}

/// The packets of a file, as far as it is whole; those of link types that the engine does not know are left out. `None` when it
/// is no capture file.
pub fn read(file: &[u8]) -> Option<Vec<Frame>> {
    match u32_at(file, 0, false)? {
        0xa1b2_c3d4 => Some(pcap(file, false, 1000)),
        0xd4c3_b2a1 => Some(pcap(file, true, 1000)),
        0xa1b2_3c4d => Some(pcap(file, false, 1)),
        0x4d3c_b2a1 => Some(pcap(file, true, 1)),
        0x0a0d_0d0a => Some(pcapng(file)),
        _ => None,
    }
}

fn u32_at(bytes: &[u8], at: usize, swapped: bool) -> Option<u32> {
    let raw = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    Some(if swapped { raw.swap_bytes() } else { raw })
}

fn pcap(file: &[u8], swapped: bool, fraction: u64) -> Vec<Frame> {
    let mut frames = Vec::new();
    let Some(link) = u32_at(file, 20, swapped).and_then(|dlt| LinkType::from_dlt((dlt & 0xffff) as i32))
    else {
        return frames;
    };
    let mut at = 24;
    while let (Some(seconds), Some(part), Some(len), Some(wire_len)) = (
        u32_at(file, at, swapped),
        u32_at(file, at + 4, swapped),
        u32_at(file, at + 8, swapped),
        u32_at(file, at + 12, swapped),
    ) {
        let Some(bytes) = file.get(at + 16..at + 16 + len as usize) else { break };
        let nanos = u64::from(seconds) * 1_000_000_000 + u64::from(part) * fraction;
        frames.push(Frame { link, at: nanos, bytes: bytes.to_vec(), wire_len: wire_len as usize });
        at += 16 + len as usize;
    }
    frames
}

fn pcapng(file: &[u8]) -> Vec<Frame> {
    let (mut frames, mut links, mut at, mut swapped) = (Vec::new(), Vec::new(), 0, false);
    while let Some(kind) = u32_at(file, at, swapped) {
        if kind == 0x0a0d_0d0a {
            swapped = u32_at(file, at + 8, false) != Some(0x1a2b_3c4d);
            links.clear();
        }
        let Some(len) = u32_at(file, at + 4, swapped).filter(|len| *len >= 12) else { break };
        let field = |offset: usize| u32_at(file, at + offset, swapped).unwrap_or(0);
        match kind {
            1 => {
                let link = LinkType::from_dlt((field(8) & 0xffff) as i32);
                links.push((link, resolution(file, at + 16, at + len as usize, swapped)));
            }
            6 => {
                let (captured, wire_len) = (field(20) as usize, field(24) as usize);
                let units = u64::from(field(12)) << 32 | u64::from(field(16));
                if let (Some((Some(link), unit)), Some(bytes)) =
                    (links.get(field(8) as usize), file.get(at + 28..at + 28 + captured))
                {
                    let at = units.saturating_mul(*unit);
                    frames.push(Frame { link: *link, at, bytes: bytes.to_vec(), wire_len });
                }
            }
            _ => {}
        }
        at += len as usize;
    }
    frames
}

/// Nanoseconds of an interface's unit of time: those of its `if_tsresol` option, or else of a microsecond.
fn resolution(file: &[u8], mut at: usize, end: usize, swapped: bool) -> u64 {
    while at + 4 <= end {
        let Some(head) = u32_at(file, at, false) else { break };
        let half = |n: u32| if swapped { (n as u16).swap_bytes() } else { n as u16 };
        let (code, len) = (half(head), usize::from(half(head >> 16)));
        match (code, file.get(at + 4)) {
            (0, _) => break,
            (9, Some(9)) => return 1,
            _ => at += 4 + len.next_multiple_of(4),
        }
    }
    1000
}
