//! What the bytes of an input mean, and, for the seeds, the other way round.

use arbitrary::{Arbitrary, Result, Unstructured};

/// How the engine is set up: four bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    /// See the constants below.
    pub(crate) flags: u8,
    /// Copies of each connection, less one; two bits count.
    pub(crate) copies: u8,
    /// Which MTU, memory limit, session limit.
    pub(crate) limits: u8,
    /// `-f`.
    pub(crate) factor: u8,
}

impl Setup {
    pub(crate) const IPV6: u8 = 1;
    /// Clients are played by a pool.
    pub(crate) const POOL: u8 = 2;
    /// Replies are delayed by a fixed distance; otherwise by the measured one.
    pub(crate) const PACED: u8 = 4;
    /// Connections seen from their middle are ignored.
    pub(crate) const WHOLE_ONLY: u8 = 8;
    /// Packets are taken only when an event says so.
    pub(crate) const LAZY: u8 = 16;
    /// Bodies of replies come along though nobody asked for them.
    pub(crate) const BODIES: u8 = 32;

    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl<'a> Arbitrary<'a> for Setup {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let [flags, copies, limits, factor] = u.arbitrary()?;
        Ok(Self { flags, copies, limits, factor })
    }
}

/// A segment of a client or of a target: seven bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Segment {
    /// Which client or flow (lower bits), and how its packet is captured (the constants below).
    pub(crate) who: u8,
    /// Which control bits: an index of [`FLAGS`], or any when the highest bit is set.
    pub(crate) flags: u8,
    /// Distance from the sequence number that would be right; see [`distance`].
    pub(crate) seq: u8,
    /// Distance from the acknowledgement number that would be right.
    pub(crate) ack: u8,
    /// Length of the payload; see [`payload_len`].
    pub(crate) len: u8,
    /// Upper half of the window.
    pub(crate) window: u8,
    /// Which options.
    pub(crate) options: u8,
}

impl Segment {
    /// The packet comes in two fragments.
    pub(crate) const FRAGMENTED: u8 = 0x40;
    /// The capture cut it.
    pub(crate) const CUT: u8 = 0x80;

    pub(crate) const MSS: u8 = 1;
    pub(crate) const WINDOW_SCALE: u8 = 2;
    pub(crate) const SACK_PERMITTED: u8 = 4;
    pub(crate) const TIMESTAMPS: u8 = 8;
    pub(crate) const SACK: u8 = 16;
    /// With timestamps: one from long ago.
    pub(crate) const OLD_TIMESTAMP: u8 = 32;
    /// The MSS is tiny, the window scale as large as can be.
    pub(crate) const EXTREME: u8 = 64;
}

impl<'a> Arbitrary<'a> for Segment {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let [who, flags, seq, ack, len, window, options] = u.arbitrary()?;
        Ok(Self { who, flags, seq, ack, len, window, options })
    }
}

/// Control bits by number: what segments usually have.
pub(crate) const FLAGS: [u8; 8] = [0x02, 0x10, 0x18, 0x11, 0x19, 0x04, 0x14, 0x12];

/// The control bits that [`Segment::flags`] stands for.
pub(crate) const fn control_bits(flags: u8) -> u8 {
    if flags & 0x80 == 0 { FLAGS[(flags % 8) as usize] } else { flags & 0x3f }
}

/// What a byte means as a distance between sequence numbers: small ones, those of windows, and one half of the space.
pub(crate) const fn distance(byte: u8) -> u32 {
    match byte as i8 {
        i8::MIN => 1 << 31,
        near @ -64..=64 => near as u32,
        far => (far as i32 * 733) as u32,
    }
}

/// What a byte means as a length: short ones, segments, merged segments.
pub(crate) const fn payload_len(byte: u8) -> usize {
    match byte {
        0..=99 => byte as usize,
        100..=199 => (byte as usize - 99) * 29,
        _ => (byte as usize - 199) * 1100,
    }
}

/// What happens next.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A packet of a client is captured.
    Captured(Segment),
    /// A reply comes back.
    Returned(Segment),
    /// Time passes: a unit (two bits) and a number of them.
    Time(u16),
    /// Up to so many packets are taken.
    Transmit(u8),
    /// intercept refuses a route.
    RouteRefused(u8),
    /// A packet was too long for the path.
    PacketTooBig(u8, u16),
    /// The kernel knows a path's MTU.
    PathMtu(u16),
    /// Sends failed.
    SendFailures(u8),
    /// A frame that may be anything.
    Frame(u8, Vec<u8>),
    /// A reply that may be anything.
    Reply(Vec<u8>),
}

impl<'a> Arbitrary<'a> for Event {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let bytes = |u: &mut Unstructured<'a>| {
            let len = usize::from(u8::arbitrary(u)?).min(u.len());
            u.bytes(len).map(<[u8]>::to_vec)
        };
        Ok(match u8::arbitrary(u)? % 24 {
            0..=7 => Self::Captured(u.arbitrary()?),
            8..=14 => Self::Returned(u.arbitrary()?),
            15..=16 => Self::Time(u.arbitrary()?),
            17 => Self::Transmit(u.arbitrary()?),
            18 => Self::RouteRefused(u.arbitrary()?),
            19 => Self::PacketTooBig(u.arbitrary()?, u.arbitrary()?),
            20 => Self::PathMtu(u.arbitrary()?),
            21 => Self::SendFailures(u.arbitrary()?),
            22 => Self::Frame(u.arbitrary()?, bytes(u)?),
            _ => Self::Reply(bytes(u)?),
        })
    }
}

impl Event {
    /// Appends the bytes that [`Event::arbitrary`] reads the same event from.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let segment = |out: &mut Vec<u8>, kind: u8, s: &Segment| {
            out.extend_from_slice(&[kind, s.who, s.flags, s.seq, s.ack, s.len, s.window, s.options]);
        };
        match self {
            Self::Captured(captured) => segment(out, 0, captured),
            Self::Returned(returned) => segment(out, 8, returned),
            Self::Time(time) => {
                out.push(15);
                out.extend_from_slice(&time.to_le_bytes());
            }
            Self::Transmit(limit) => out.extend_from_slice(&[17, *limit]),
            Self::RouteRefused(which) => out.extend_from_slice(&[18, *which]),
            Self::PacketTooBig(session, mtu) => {
                out.extend_from_slice(&[19, *session]);
                out.extend_from_slice(&mtu.to_le_bytes());
            }
            Self::PathMtu(mtu) => {
                out.push(20);
                out.extend_from_slice(&mtu.to_le_bytes());
            }
            Self::SendFailures(count) => out.extend_from_slice(&[21, *count]),
            Self::Frame(link, bytes) => {
                out.extend_from_slice(&[22, *link, bytes.len() as u8]);
                out.extend_from_slice(bytes);
            }
            Self::Reply(bytes) => {
                out.extend_from_slice(&[23, bytes.len() as u8]);
                out.extend_from_slice(bytes);
            }
        }
    }
}
