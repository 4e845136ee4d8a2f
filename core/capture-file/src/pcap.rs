//! pcap: a file header, then records of a header and a frame each.
//!
//! Owns the format in all its variants, and finding the way back behind damage. Nothing marks the beginning of a record; what can be
//! trusted is a chain of several headers that each lead to the next.

use crate::flaw::{Damage, FlawKind};
use crate::reader::{Found, Head, Note, Progress};
use crate::stream::{Have, Stream};
use crate::{LinkType, MAX_RECORD};
use nom::Parser;
use nom::number::Endianness;
use nom::number::complete::{u16 as number_u16, u32 as number_u32};
use std::io;

/// Length of the file header.
pub(crate) const FILE_HEADER: usize = 24;
/// What libpcap takes as the largest snapshot length; files that say 0, or less than this, may hold frames as long.
const MAX_SNAP_LEN: u32 = 262_144;
/// Headers that must lead from one to the next before they are trusted.
const CHAIN: usize = 3;
/// Longest frame that is expected behind damage. Together with [`CHAIN`] it bounds how far ahead one has to look.
const MAX_LIKELY: u32 = 4 << 20;
/// Times within one file farther apart than this, in seconds, make a record behind damage implausible.
const FAR: u32 = 400 * 86_400;
/// A time that is farther from the one before is looked at twice.
const LEAP: u32 = 86_400;

const MAGIC_MICROS: u32 = 0xa1b2_c3d4;
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
/// Alexey Kuznetsov's patched libpcap: record headers have eight more bytes (interface, protocol, packet type).
const MAGIC_MODIFIED: u32 = 0xa1b2_cd34;
const MAGICS: [u32; 3] = [MAGIC_MICROS, MAGIC_NANOS, MAGIC_MODIFIED];

/// Byte order of a file, from a number that is known.
pub(crate) fn order_by(bytes: [u8; 4], known: &[u32]) -> Option<(Endianness, u32)> {
    [(Endianness::Little, u32::from_le_bytes(bytes)), (Endianness::Big, u32::from_be_bytes(bytes))]
        .into_iter()
        .find(|(_, number)| known.contains(number))
}

/// What the file header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    order: Endianness,
    /// Nanoseconds in a unit of the time's second number.
    unit: u32,
    record_header: usize,
    pub(crate) snap_len: u32,
    pub(crate) link_number: u16,
}

impl Layout {
    /// Whether `bytes` begin as such files do.
    pub(crate) fn is_magic(bytes: &[u8]) -> bool {
        bytes.first_chunk().is_some_and(|magic| order_by(*magic, &MAGICS).is_some())
    }

    /// Reads a file header; `None` if it is none.
    pub(crate) fn parse(header: &[u8]) -> Option<Self> {
        let (order, magic) = order_by(*header.first_chunk()?, &MAGICS)?;
        let fields = (
            number_u32::<&[u8], nom::error::Error<&[u8]>>(order),
            number_u16(order),
            number_u16(order),
            number_u32(order),
            number_u32(order),
            number_u32(order),
            number_u32(order),
        )
            .parse(header);
        let (_, (_, _major, _minor, _zone, _accuracy, snap_len, link)) = fields.ok()?;
        Some(Self {
            order,
            unit: if magic == MAGIC_NANOS { 1 } else { 1000 },
            record_header: if magic == MAGIC_MODIFIED { 24 } else { 16 },
            snap_len,
            // Above the number: whether frames end with a checksum, and how long that is. It lies behind the packet.
            link_number: (link & 0xffff) as u16,
        })
    }

    pub(crate) const fn is_nanos(&self) -> bool {
        self.unit == 1
    }

    #[inline]
    fn number(&self, bytes: [u8; 4]) -> u32 {
        match self.order {
            Endianness::Big => u32::from_be_bytes(bytes),
            _ => u32::from_le_bytes(bytes),
        }
    }

    /// The record header at `at`, if it is at hand.
    #[inline]
    fn record(&self, bytes: &[u8], at: usize) -> Option<Record> {
        let header = bytes.get(at..)?.get(..self.record_header)?;
        let &[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = header.first_chunk::<16>()?;
        Some(Record {
            seconds: self.number([a, b, c, d]),
            fraction: self.number([e, f, g, h]),
            captured: self.number([i, j, k, l]),
            wire: self.number([m, n, o, p]),
        })
    }

    /// The longest frame that this file should hold.
    fn longest(&self) -> u32 {
        self.snap_len.clamp(MAX_SNAP_LEN, MAX_RECORD as u32)
    }

    /// Whether a record may be read as it is, if nothing speaks against it.
    #[inline]
    fn is_ordinary(&self, record: &Record) -> bool {
        record.captured <= self.longest() && record.fraction < 1_000_000_000 / self.unit
    }

    /// Whether bytes found somewhere look like a record's header; `before` is the time of the record before.
    fn is_likely(&self, record: &Record, before: Option<u32>) -> bool {
        self.is_ordinary(record)
            && (1..=record.wire.min(MAX_LIKELY)).contains(&record.captured)
            && record.wire as usize <= MAX_RECORD
            && before.is_none_or(|before| record.seconds.abs_diff(before) <= FAR)
    }
}

#[derive(Clone, Copy, Debug)]
struct Record {
    seconds: u32,
    fraction: u32,
    captured: u32,
    wire: u32,
}

/// Whether a chain of records begins at a place.
enum Chain {
    Yes,
    No,
    /// That can't be told without this many bytes.
    Unknown(usize),
}

/// Reads records.
pub(crate) struct Pcap {
    layout: Layout,
    link: LinkType,
    /// Set while the way back is looked for: where it was lost.
    lost: Option<u64>,
    /// Time of the last record, in seconds, as the file has it.
    last_seconds: Option<u32>,
}

impl Pcap {
    pub(crate) const fn new(layout: Layout, link: LinkType) -> Self {
        Self { layout, link, lost: None, last_seconds: None }
    }

    /// The next frame. `note` is told of flaws.
    #[inline]
    pub(crate) fn advance(&mut self, stream: &mut Stream, note: &mut Note<'_>) -> io::Result<Progress> {
        loop {
            if self.lost.is_some() {
                match self.find_way(stream, note)? {
                    Have::Enough => {}
                    Have::Idle => return Ok(Progress::Idle),
                    Have::End => return Ok(Progress::End),
                }
            }
            let header_len = self.layout.record_header;
            match stream.ensure(header_len)? {
                Have::Enough => {}
                Have::Idle => return Ok(Progress::Idle),
                Have::End => return Ok(cut(stream, note)),
            }
            let Some(record) = self.layout.record(stream.bytes(), 0) else { return Ok(cut(stream, note)) };
            if record.captured as usize > MAX_RECORD {
                self.lost = Some(stream.offset());
                stream.consume(1);
                continue;
            }
            let len = header_len + record.captured as usize;
            match stream.ensure(len)? {
                Have::Enough => {}
                Have::Idle => return Ok(Progress::Idle),
                Have::End => {
                    let left = stream.bytes().len();
                    if !self.is_chain_within(stream, left)? {
                        return Ok(cut(stream, note));
                    }
                    self.lost = Some(stream.offset());
                    stream.consume(1);
                    continue;
                }
            }
            if stream.may_look_ahead() {
                stream.ensure(len + header_len)?;
            }
            let next = self.layout.record(stream.bytes(), len);
            if self.is_suspect(&record, next.as_ref())
                && self.has_wrong_length(stream, &record, next.as_ref(), len)?
            {
                self.lost = Some(stream.offset());
                stream.consume(1);
                continue;
            }
            let seconds = self.checked_seconds(&record, next.as_ref(), stream.offset(), note);
            return Ok(Progress::Frame(Found {
                head: Head {
                    at: header_len,
                    len: record.captured as usize,
                    wire_len: (record.wire as usize).max(record.captured as usize),
                    link: self.link,
                    record_len: len,
                },
                time: Some(
                    u64::from(seconds) * 1_000_000_000
                        + u64::from(record.fraction) * u64::from(self.layout.unit),
                ),
            }));
        }
    }

    /// Whether a record or what follows it gives reason to look twice.
    #[inline]
    fn is_suspect(&self, record: &Record, next: Option<&Record>) -> bool {
        !self.layout.is_ordinary(record)
            || next.is_some_and(|next| !self.layout.is_ordinary(next) || !self.leads_on(record, next))
    }

    /// Whether what follows `record` may be a record: not too long, and of about the same time.
    #[inline]
    fn leads_on(&self, record: &Record, next: &Record) -> bool {
        let is_near = |seconds: u32| next.seconds.abs_diff(seconds) <= FAR;
        next.captured <= self.layout.longest()
            && (is_near(record.seconds) || self.last_seconds.is_some_and(is_near))
    }

    /// Whether a suspect record of `len` bytes has wrong lengths: others begin within it, or it leads nowhere and is not what one
    /// expects: shorter than it had reason to be, or of another time.
    #[cold]
    fn has_wrong_length(
        &self,
        stream: &mut Stream,
        record: &Record,
        next: Option<&Record>,
        len: usize,
    ) -> io::Result<bool> {
        let Layout { snap_len, .. } = self.layout;
        let limit = if snap_len == 0 { MAX_SNAP_LEN } else { snap_len };
        let is_as_expected = record.captured > 0
            && record.captured == record.wire.min(limit)
            && self.last_seconds.is_none_or(|last| record.seconds.abs_diff(last) <= FAR);
        let leads_nowhere = next.is_some_and(|next| !self.leads_on(record, next));
        Ok((!is_as_expected && leads_nowhere) || self.is_chain_within(stream, len)?)
    }

    /// The record's time; that of the one before if it alone is far off.
    #[inline]
    fn checked_seconds(
        &mut self,
        record: &Record,
        next: Option<&Record>,
        offset: u64,
        note: &mut Note<'_>,
    ) -> u32 {
        // Of the first record, only one that lies far ahead of the second would do harm: it would take all others along.
        let begins_ahead = |next: &&Record| record.seconds > next.seconds.saturating_add(LEAP);
        let last = match self.last_seconds {
            Some(last) => last,
            None => next.filter(begins_ahead).map_or(record.seconds, |next| next.seconds),
        };
        let leaps = record.seconds.abs_diff(last) > LEAP;
        if leaps && next.is_some_and(|next| next.seconds.abs_diff(last) <= LEAP) {
            note.flaw(offset, 0, FlawKind::Damaged(Damage::RecordTime));
            return last;
        }
        self.last_seconds = Some(record.seconds);
        record.seconds
    }

    /// Looks for the next chain of records, and reports what was skipped.
    #[cold]
    fn find_way(&mut self, stream: &mut Stream, note: &mut Note<'_>) -> io::Result<Have> {
        let Some(lost_at) = self.lost else { return Ok(Have::Enough) };
        let have = loop {
            let mut at = 0;
            let wanted = loop {
                if at >= stream.bytes().len() {
                    break Some(1);
                }
                match self.chain_at(stream.bytes(), at, stream.has_ended()) {
                    Chain::Yes => break None,
                    Chain::No => at += 1,
                    Chain::Unknown(wanted) => break Some(wanted - at),
                }
            };
            stream.consume(at);
            let Some(wanted) = wanted else { break Have::Enough };
            match stream.ensure(wanted)? {
                Have::Idle => return Ok(Have::Idle),
                Have::End if stream.bytes().is_empty() => break Have::End,
                Have::Enough | Have::End => {}
            }
        };
        note.flaw(lost_at, stream.offset() - lost_at, FlawKind::Damaged(Damage::RecordHeader));
        self.lost = None;
        Ok(have)
    }

    /// Whether a chain of records begins within the first `len` bytes, behind the first.
    #[cold]
    fn is_chain_within(&self, stream: &mut Stream, len: usize) -> io::Result<bool> {
        let mut at = 1;
        while at < len {
            match self.chain_at(stream.bytes(), at, stream.has_ended()) {
                Chain::Yes => return Ok(true),
                Chain::Unknown(wanted) if stream.may_look_ahead() => {
                    stream.ensure(wanted)?;
                }
                // What is not there of a pipe is not waited for, and proves nothing.
                Chain::No | Chain::Unknown(_) => at += 1,
            }
        }
        Ok(false)
    }

    /// Whether records begin at `at` that lead from one to the next. `is_all`: nothing follows `bytes`.
    ///
    /// The time of the last record counts only where the chain is short: if that one was damaged, it must not keep all others out.
    fn chain_at(&self, bytes: &[u8], at: usize, is_all: bool) -> Chain {
        let mut next = at;
        let mut before = None;
        let is_near = |first: Option<u32>| match (self.last_seconds, first) {
            (Some(last), Some(first)) => first.abs_diff(last) <= FAR,
            _ => true,
        };
        for links in 0..CHAIN {
            if next == bytes.len() && is_all {
                // A chain that leads to the very end is none by chance.
                return if links > 0 && is_near(before) { Chain::Yes } else { Chain::No };
            }
            let Some(record) = self.layout.record(bytes, next) else {
                return match is_all {
                    false => Chain::Unknown(next + self.layout.record_header),
                    // The end was cut off.
                    true if links > 1 && is_near(before) => Chain::Yes,
                    true => Chain::No,
                };
            };
            if !self.layout.is_likely(&record, before) {
                return Chain::No;
            }
            before = Some(record.seconds);
            next += self.layout.record_header + record.captured as usize;
        }
        Chain::Yes
    }
}

/// The file ends here; within a record, if anything is left.
pub(crate) fn cut(stream: &mut Stream, note: &mut Note<'_>) -> Progress {
    let left = stream.bytes().len();
    if left > 0 {
        note.flaw(stream.offset(), left as u64, FlawKind::Truncated);
        stream.consume(left);
    }
    Progress::End
}
