//! A stream of fragments, put together.

use arbitrary::{Arbitrary, Result, Unstructured};
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_engine::wire::fragment::{FragmentOutcome, Reassembler};
use tcpcopy_engine::wire::ip::IpPacket;

const TIMEOUT: Duration = Duration::from_secs(30);

/// One step of an input: eight bytes, or a packet as it is.
enum Step {
    Fragment { flags: u8, id: u8, offset: u16, len: u8, protocol: u8 },
    Packet(Vec<u8>),
    Wait(u8),
}

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u8::arbitrary(u)? % 16 {
            0 => Self::Wait(u8::arbitrary(u)?),
            1 => {
                let len = usize::from(u8::arbitrary(u)?).min(u.len());
                Self::Packet(u.bytes(len)?.to_vec())
            }
            _ => Self::Fragment {
                flags: u8::arbitrary(u)?,
                id: u8::arbitrary(u)?,
                offset: u16::arbitrary(u)?,
                len: u8::arbitrary(u)?,
                protocol: u8::arbitrary(u)?,
            },
        })
    }
}

/// In a fragment's flags: whether it is IPv6, whether more follow, whether the capture cut it, whether headers that are no
/// fragment header come first, whether its length is taken in units of eight.
pub(crate) const IPV6: u8 = 1;
pub(crate) const MORE: u8 = 2;
const CUT: u8 = 4;
pub(crate) const EXTRA_HEADER: u8 = 8;
pub(crate) const EIGHTS: u8 = 16;

/// Puts fragments together. Input: bound on bytes in units of 64 (u8), bound on datagrams (u8), then steps.
///
/// # Panics
/// When a bound is exceeded, when what is complete is no whole packet or not made of the bytes at their places, or when
/// something is left after the time is up.
pub fn fragments(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let bounds = u.arbitrary::<[u8; 2]>().unwrap_or_default();
    let (max_bytes, max_datagrams) = (usize::from(bounds[0]) * 64, usize::from(bounds[1]));
    let mut reassembler = Reassembler::new(max_bytes, max_datagrams, TIMEOUT);
    let mut now = Instant::ZERO;
    let mut all_by_pattern = true;
    while !u.is_empty() {
        let Ok(step) = Step::arbitrary(&mut u) else { break };
        let packet = match step {
            Step::Wait(quarters) => {
                now += Duration::from_millis(250 * u64::from(quarters));
                reassembler.expire(now);
                continue;
            }
            Step::Fragment { flags, id, offset, len, protocol } => build(flags, id, offset, len, protocol),
            Step::Packet(bytes) => {
                all_by_pattern = false;
                bytes
            }
        };
        // The capture may hold less than was on the wire.
        let wire_len =
            IpPacket::parse(&packet, packet.len()).map_or(packet.len(), |ip| ip.header_len + ip.payload_len);
        let Ok(ip) = IpPacket::parse(&packet, wire_len.max(packet.len())) else { continue };
        let was_fragment = ip.fragment.is_some();
        if let FragmentOutcome::Complete(whole) = reassembler.push(&ip, &packet, now)
            && was_fragment
        {
            check_complete(&whole, all_by_pattern);
        }
        assert!(reassembler.bytes() <= max_bytes, "{} of {max_bytes} bytes are held", reassembler.bytes());
        assert!(reassembler.datagrams() <= max_datagrams.max(1), "{} datagrams", reassembler.datagrams());
    }
    reassembler.expire(now + TIMEOUT + TIMEOUT);
    assert_eq!((reassembler.bytes(), reassembler.datagrams()), (0, 0), "left after the time is up");
}

fn check_complete(whole: &[u8], all_by_pattern: bool) {
    let ip = IpPacket::parse(whole, whole.len()).expect("a complete datagram is an IP packet");
    assert_eq!(ip.fragment, None, "a complete datagram is a fragment");
    assert_eq!(ip.header_len + ip.payload.len(), whole.len());
    if all_by_pattern && ip.protocol == 6 {
        let wrong = (0..ip.payload.len()).find(|at| ip.payload[*at] != pattern(*at));
        assert_eq!(wrong, None, "the first byte at a wrong place");
    }
}

/// The byte at a place of any datagram's payload.
const fn pattern(at: usize) -> u8 {
    (at ^ (at >> 8)) as u8
}

/// A fragment as it is captured.
fn build(flags: u8, id: u8, offset: u16, len: u8, protocol: u8) -> Vec<u8> {
    let has = |flag: u8| flags & flag != 0;
    let offset = offset & 0x1fff;
    let len = usize::from(len) * if has(EIGHTS) { 8 } else { 1 };
    let protocol = if protocol & 0x80 == 0 { 6 } else { protocol & 0x7f };
    let start = usize::from(offset) * 8;
    let payload: Vec<u8> = (start..start + len).map(pattern).collect();
    let mut packet = Vec::new();
    if has(IPV6) {
        let extra: &[u8] = if has(EXTRA_HEADER) { &[44, 0, 1, 4, 0, 0, 0, 0] } else { &[] };
        packet.extend_from_slice(&[0x60, 0, 0, 0]);
        packet.extend_from_slice(&((extra.len() + 8 + len) as u16).to_be_bytes());
        packet.extend_from_slice(&[if has(EXTRA_HEADER) { 0 } else { 44 }, 64]);
        packet.extend_from_slice(&[0xfd; 16]);
        packet.extend_from_slice(&[0xfe; 16]);
        packet.extend_from_slice(extra);
        packet.extend_from_slice(&[protocol, 0]);
        packet.extend_from_slice(&(offset << 3 | u16::from(has(MORE))).to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, id % 4]);
    } else {
        let options: &[u8] = if has(EXTRA_HEADER) { &[1, 1, 1, 1] } else { &[] };
        packet.extend_from_slice(&[0x45 + options.len() as u8 / 4, 0]);
        packet.extend_from_slice(&((20 + options.len() + len) as u16).to_be_bytes());
        packet.extend_from_slice(&[0, id % 4]);
        packet.extend_from_slice(&(offset | u16::from(has(MORE)) << 13).to_be_bytes());
        packet.extend_from_slice(&[64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend_from_slice(options);
    }
    packet.extend_from_slice(&payload);
    if has(CUT) {
        packet.truncate(packet.len() - len / 2);
    }
    packet
}
