//! pcapng: sections of blocks, each with its length before and behind it.
//!
//! Owns the blocks that hold packets, and finding the way back behind damage: to the next block of a known type whose two lengths
//! agree. All other blocks (names, statistics, secrets) are passed over. Leaves what an interface is to [`crate::interface`].

use crate::flaw::{Damage, FlawKind};
use crate::interface::Interface;
use crate::pcap::{cut, order_by};
use crate::reader::{Found, Head, Note, Progress};
use crate::stream::{Have, Stream};
use crate::{LinkType, MAX_RECORD};
use nom::number::Endianness;
use std::io;

/// What a section header begins with, in either byte order.
pub(crate) const SECTION: u32 = 0x0a0d_0d0a;
/// Tells a section's byte order.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
/// The packet block of early drafts.
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// Blocks that are known to exist: names, statistics, journal entries, secrets, custom blocks.
const OTHER_KNOWN: [u32; 6] = [4, 5, 9, 0xa, 0xbad, 0x4000_0bad];

/// Type and length.
const BLOCK_HEADER: usize = 8;
/// Header and the length at the end.
const MIN_BLOCK: usize = BLOCK_HEADER + 4;
/// A packet of the largest size with its options.
const MAX_BLOCK: usize = MAX_RECORD + (1 << 16);
/// Interfaces of one section that are remembered.
const MAX_INTERFACES: usize = 1 << 16;
/// A time that lies farther ahead of the one before, in nanoseconds, is looked at twice.
const LEAP: u64 = 86_400 * 1_000_000_000;

/// Bytes of a section header that tell that it is one.
pub(crate) const MIN_SECTION: usize = 12;

/// Whether `bytes` begin with a section header.
pub(crate) fn is_section(bytes: &[u8]) -> bool {
    let order = bytes.get(8..).and_then(|rest| rest.first_chunk()).and_then(|b| order_by(*b, &[BYTE_ORDER]));
    order.is_some() && bytes.starts_with(&SECTION.to_be_bytes())
}

/// What became of a block.
enum Block {
    Packet(Found),
    /// There is nothing to deliver.
    Passed,
    Flawed(Damage),
}

/// Reads blocks.
pub(crate) struct Pcapng {
    order: Endianness,
    interfaces: Vec<Interface>,
    lost: Option<u64>,
    /// Time of the last packet that had one.
    last_time: Option<u64>,
}

impl Pcapng {
    pub(crate) const fn new() -> Self {
        Self { order: Endianness::Little, interfaces: Vec::new(), lost: None, last_time: None }
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
            match stream.ensure(MIN_BLOCK)? {
                Have::Enough => {}
                Have::Idle => return Ok(Progress::Idle),
                Have::End => return Ok(cut(stream, note)),
            }
            let Some((kind, order, len)) = self.block_header(stream.bytes()) else {
                self.lose_way(stream);
                continue;
            };
            match stream.ensure(len)? {
                Have::Enough => {}
                Have::Idle => return Ok(Progress::Idle),
                Have::End if self.find_within(stream.bytes()) => {
                    self.lose_way(stream);
                    continue;
                }
                Have::End => return Ok(cut(stream, note)),
            }
            if !are_lengths_equal(&stream.bytes()[..len]) {
                self.lose_way(stream);
                continue;
            }
            let body = &stream.bytes()[BLOCK_HEADER..len - 4];
            match self.block(kind, order, body, len, stream.offset(), note) {
                Block::Packet(found) => {
                    let time = self.checked_time(found, stream, note)?;
                    return Ok(Progress::Frame(Found { time, ..found }));
                }
                Block::Passed => {}
                Block::Flawed(damage) => note.flaw(stream.offset(), len as u64, FlawKind::Damaged(damage)),
            }
            stream.consume(len);
        }
    }

    /// The packet's time; none if it lies far ahead of that of the packets around it. It would take all others along.
    #[inline]
    fn checked_time(
        &mut self,
        found: Found,
        stream: &mut Stream,
        note: &mut Note<'_>,
    ) -> io::Result<Option<u64>> {
        let Some(time) = found.time else { return Ok(None) };
        if time > self.last_time.unwrap_or(0).saturating_add(LEAP)
            && let Some(next) = self.next_time(found.head.record_len, stream)?
            && time > next.saturating_add(LEAP)
        {
            note.flaw(stream.offset(), 0, FlawKind::Damaged(Damage::RecordTime));
            return Ok(self.last_time.or(Some(next)));
        }
        self.last_time = Some(time);
        Ok(Some(time))
    }

    /// Time of the packet that begins `at` bytes from here, if one does and it is at hand, or can be without waiting.
    #[cold]
    fn next_time(&self, at: usize, stream: &mut Stream) -> io::Result<Option<u64>> {
        /// Up to and with the time.
        const LEN: usize = BLOCK_HEADER + 12;
        if stream.may_look_ahead() {
            stream.ensure(at + LEN)?;
        }
        let block = stream.bytes().get(at..).and_then(|rest| rest.first_chunk::<LEN>());
        let Some(&[k0, k1, k2, k3, _, _, _, _, i0, i1, i2, i3, h0, h1, h2, h3, l0, l1, l2, l3]) = block
        else {
            return Ok(None);
        };
        if self.number([k0, k1, k2, k3]) != ENHANCED_PACKET {
            return Ok(None);
        }
        let units = u64::from(self.number([h0, h1, h2, h3])) << 32 | u64::from(self.number([l0, l1, l2, l3]));
        let interface = self.interfaces.get(self.number([i0, i1, i2, i3]) as usize);
        Ok(interface.and_then(|interface| interface.clock.nanos(units)))
    }

    fn lose_way(&mut self, stream: &mut Stream) {
        self.lost = Some(stream.offset());
        stream.consume(1);
    }

    #[inline]
    fn number(&self, bytes: [u8; 4]) -> u32 {
        number_in(self.order, bytes)
    }

    /// Type, byte order and length (a multiple of four) of the block that `bytes`, twelve or more, begin with.
    #[inline]
    fn block_header(&self, bytes: &[u8]) -> Option<(u32, Endianness, usize)> {
        let &[a, b, c, d, e, f, g, h, i, j, k, l] = bytes.first_chunk::<MIN_BLOCK>()?;
        let kind = self.number([a, b, c, d]);
        let order = if kind == SECTION { order_by([i, j, k, l], &[BYTE_ORDER])?.0 } else { self.order };
        let len = number_in(order, [e, f, g, h]) as usize;
        // Some writers leave the padding out of the length.
        (MIN_BLOCK..=MAX_BLOCK).contains(&len).then(|| (kind, order, len.next_multiple_of(4)))
    }

    #[inline]
    fn block(
        &mut self,
        kind: u32,
        order: Endianness,
        body: &[u8],
        block_len: usize,
        offset: u64,
        note: &mut Note<'_>,
    ) -> Block {
        match kind {
            ENHANCED_PACKET => {
                let Some(&[a, b, c, d, fields @ ..]) = body.first_chunk::<20>() else {
                    return Block::Flawed(Damage::BlockContents);
                };
                let interface = self.number([a, b, c, d]) as usize;
                self.packet(interface, fields, body.len() - 20, 20, block_len, offset, note)
            }
            OLD_PACKET => {
                let Some(&[a, b, _, _, fields @ ..]) = body.first_chunk::<20>() else {
                    return Block::Flawed(Damage::BlockContents);
                };
                let interface = match order {
                    Endianness::Big => u16::from_be_bytes([a, b]),
                    _ => u16::from_le_bytes([a, b]),
                };
                self.packet(usize::from(interface), fields, body.len() - 20, 20, block_len, offset, note)
            }
            SIMPLE_PACKET => self.simple_packet(body, block_len, offset, note),
            INTERFACE => self.interface(body),
            SECTION => {
                self.order = order;
                self.interfaces.clear();
                Block::Passed
            }
            _ => Block::Passed,
        }
    }

    /// A packet with its time (high, low) and lengths (captured, wire) in `fields`.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "one caller for each of two blocks with the same fields")]
    fn packet(
        &mut self,
        interface: usize,
        fields: [u8; 16],
        room: usize,
        header: usize,
        block_len: usize,
        offset: u64,
        note: &mut Note<'_>,
    ) -> Block {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = fields;
        let units = u64::from(self.number([a, b, c, d])) << 32 | u64::from(self.number([e, f, g, h]));
        let len = self.number([i, j, k, l]) as usize;
        let wire_len = self.number([m, n, o, p]) as usize;
        if len > room {
            return Block::Flawed(Damage::BlockContents);
        }
        let Some(interface) = self.interfaces.get_mut(interface) else {
            return Block::Flawed(Damage::Interface);
        };
        let Some(link) = interface.link(block_len, offset, note) else { return Block::Passed };
        Block::Packet(Found {
            head: Head {
                at: BLOCK_HEADER + header,
                len,
                wire_len: wire_len.max(len),
                link,
                record_len: block_len,
            },
            time: interface.clock.nanos(units),
        })
    }

    /// A packet of the first interface, without time, cut at its snapshot length.
    fn simple_packet(&mut self, body: &[u8], block_len: usize, offset: u64, note: &mut Note<'_>) -> Block {
        let Some((&wire, data)) = body.split_first_chunk::<4>() else {
            return Block::Flawed(Damage::BlockContents);
        };
        let wire_len = self.number(wire) as usize;
        let Some(interface) = self.interfaces.first_mut() else { return Block::Flawed(Damage::Interface) };
        let limit = if interface.snap_len == 0 { usize::MAX } else { interface.snap_len as usize };
        let len = wire_len.min(limit);
        if len > data.len() {
            return Block::Flawed(Damage::BlockContents);
        }
        let Some(link) = interface.link(block_len, offset, note) else { return Block::Passed };
        Block::Packet(Found {
            head: Head { at: BLOCK_HEADER + 4, len, wire_len, link, record_len: block_len },
            time: None,
        })
    }

    fn interface(&mut self, body: &[u8]) -> Block {
        if self.interfaces.len() >= MAX_INTERFACES {
            return Block::Flawed(Damage::TooManyInterfaces);
        }
        let Some(interface) = Interface::parse(body, self.order) else {
            return Block::Flawed(Damage::BlockContents);
        };
        self.interfaces.push(interface);
        Block::Passed
    }

    /// Facts for reports: the link types and the largest snapshot length of the section at hand.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = (LinkType, u32)> + '_ {
        self.interfaces.iter().filter_map(|interface| Some((interface.link.ok()?, interface.snap_len)))
    }

    /// Looks for the next block, and reports what was skipped.
    #[cold]
    fn find_way(&mut self, stream: &mut Stream, note: &mut Note<'_>) -> io::Result<Have> {
        let Some(lost_at) = self.lost else { return Ok(Have::Enough) };
        let have = loop {
            let mut at = 0;
            let wanted = loop {
                if at >= stream.bytes().len() {
                    break Some(1);
                }
                match self.block_at(&stream.bytes()[at..], stream.has_ended()) {
                    BlockAt::Yes => break None,
                    BlockAt::No => at += 1,
                    BlockAt::Unknown(wanted) => break Some(wanted),
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
        note.flaw(lost_at, stream.offset() - lost_at, FlawKind::Damaged(Damage::BlockLength));
        self.lost = None;
        Ok(have)
    }

    /// Whether a whole block begins within the last bytes of a file, behind the first.
    #[cold]
    fn find_within(&self, bytes: &[u8]) -> bool {
        (1..bytes.len()).any(|at| matches!(self.block_at(&bytes[at..], true), BlockAt::Yes))
    }

    /// Whether `bytes` begin with a block of a known type whose lengths agree. `is_all`: nothing follows `bytes`.
    fn block_at(&self, bytes: &[u8], is_all: bool) -> BlockAt {
        if bytes.len() < MIN_BLOCK {
            return if is_all { BlockAt::No } else { BlockAt::Unknown(MIN_BLOCK) };
        }
        let Some((kind, _, len)) = self.block_header(bytes) else { return BlockAt::No };
        let is_known = matches!(kind, SECTION | INTERFACE | OLD_PACKET | SIMPLE_PACKET | ENHANCED_PACKET)
            || OTHER_KNOWN.contains(&kind);
        match bytes.get(..len) {
            _ if !is_known => BlockAt::No,
            Some(block) if are_lengths_equal(block) => BlockAt::Yes,
            None if !is_all => BlockAt::Unknown(len),
            _ => BlockAt::No,
        }
    }
}

/// Whether a block begins somewhere.
enum BlockAt {
    Yes,
    No,
    /// That can't be told without this many bytes.
    Unknown(usize),
}

/// Whether a block's length stands at its end, too. Byte order does not matter to that.
#[inline]
fn are_lengths_equal(block: &[u8]) -> bool {
    block.get(4..8) == block.len().checked_sub(4).and_then(|at| block.get(at..))
}

#[inline]
fn number_in(order: Endianness, bytes: [u8; 4]) -> u32 {
    match order {
        Endianness::Big => u32::from_be_bytes(bytes),
        _ => u32::from_le_bytes(bytes),
    }
}
