//! Interfaces of a pcapng section: what they are, and what they count time in.

use crate::LinkType;
use crate::flaw::{FlawHandle, FlawKind};
use crate::reader::Note;
use nom::bytes::complete::take;
use nom::number::Endianness;
use nom::number::complete::{u16 as number_u16, u32 as number_u32};
use nom::{IResult, Parser};

const NANOS: u128 = 1_000_000_000;

/// What an interface block says.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) link: Result<LinkType, u16>,
    pub(crate) snap_len: u32,
    pub(crate) clock: Clock,
    /// The flaw that stands for all packets that were left out.
    unsupported: Option<FlawHandle>,
}

/// What an interface counts time in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    resolution: Resolution,
    /// Seconds to add.
    offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    /// So many nanoseconds in a unit.
    Nanos(u64),
    /// So many units in a second.
    PerSecond(u128),
}

impl Clock {
    const MICROS: Self = Self { resolution: Resolution::Nanos(1000), offset: 0 };

    /// `if_tsresol`: a negative power of 10, or of 2 with the highest bit set.
    fn set_resolution(&mut self, value: u8) {
        self.resolution = match value {
            0..=9 => Resolution::Nanos(10_u64.pow(9 - u32::from(value))),
            // Finer than any number of 64 bits can count a second in.
            10..=38 => Resolution::PerSecond(10_u128.pow(u32::from(value))),
            39..=0x7f => Resolution::PerSecond(u128::MAX),
            _ => Resolution::PerSecond(1_u128 << (value & 0x7f)),
        };
    }

    /// Nanoseconds of the Unix epoch; `None` for times before it or past the year 2554, which are those of broken clocks.
    #[inline]
    pub(crate) fn nanos(self, units: u64) -> Option<u64> {
        let nanos = match self.resolution {
            Resolution::Nanos(in_unit) => match units.checked_mul(in_unit) {
                Some(nanos) if self.offset == 0 => return Some(nanos),
                _ => u128::from(units) * u128::from(in_unit),
            },
            Resolution::PerSecond(units_in_second) => u128::from(units) * NANOS / units_in_second,
        };
        let offset = i128::from(self.offset) * NANOS as i128;
        u64::try_from(i128::try_from(nanos).ok()?.checked_add(offset)?).ok()
    }
}

impl Interface {
    /// Reads the body of an interface block; `None` if it is too short.
    pub(crate) fn parse(body: &[u8], order: Endianness) -> Option<Self> {
        let mut header =
            (number_u16::<&[u8], nom::error::Error<&[u8]>>(order), number_u16(order), number_u32(order));
        let (options, (number, _reserved, snap_len)) = header.parse(body).ok()?;
        Some(Self {
            link: LinkType::from_dlt(i32::from(number)).ok_or(number),
            snap_len,
            clock: clock(options, order),
            unsupported: None,
        })
    }

    /// The link type; `None` when it is not known here, which is noted once.
    #[inline]
    pub(crate) fn link(&mut self, block_len: usize, offset: u64, note: &mut Note<'_>) -> Option<LinkType> {
        match self.link {
            Ok(link) => Some(link),
            Err(number) => {
                match self.unsupported {
                    Some(handle) => note.grow(handle, block_len as u64),
                    None => {
                        let kind = FlawKind::UnsupportedLinkType(number);
                        self.unsupported = Some(note.handle(offset, block_len as u64, kind));
                    }
                }
                None
            }
        }
    }
}

/// The clock that an interface's options describe. Options behind a broken one are not read.
fn clock(mut options: &[u8], order: Endianness) -> Clock {
    const END: u16 = 0;
    const RESOLUTION: u16 = 9;
    const OFFSET: u16 = 14;

    let mut clock = Clock::MICROS;
    while let Ok((rest, (code, value))) = option(options, order) {
        match (code, value) {
            (END, _) => break,
            (RESOLUTION, [value]) => clock.set_resolution(*value),
            (OFFSET, value) => {
                if let Some(&bytes) = value.first_chunk::<8>() {
                    clock.offset = match order {
                        Endianness::Big => i64::from_be_bytes(bytes),
                        _ => i64::from_le_bytes(bytes),
                    };
                }
            }
            _ => {}
        }
        options = rest;
    }
    clock
}

/// An option: code, length, value, padding up to four bytes. The padding of the last may be missing.
fn option(input: &[u8], order: Endianness) -> IResult<&[u8], (u16, &[u8])> {
    let (rest, (code, len)) = (number_u16(order), number_u16(order)).parse(input)?;
    let (rest, value) = take(len).parse(rest)?;
    let padding = usize::from(len).next_multiple_of(4) - usize::from(len);
    Ok((rest.get(padding..).unwrap_or_default(), (code, value)))
}
