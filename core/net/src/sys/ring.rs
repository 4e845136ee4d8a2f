//! A TPACKET_V3 receive ring, read before the kernel hands its blocks over.
//!
//! The kernel fills one block at a time with packets of varying length and *retires* it (sets `TP_STATUS_USER` in the
//! block's header) when it is full or old enough. Waiting for that costs milliseconds, so [`MappedRing::take`] also reads the
//! block that is still open. How `tpacket_rcv` writes one packet, in this order:
//!
//! 1. under the socket's lock it reserves the space, sets `tp_next_offset` and counts the packet;
//! 2. it sets `tp_status` to 0 or to the VLAN bits;
//! 3. it copies the packet's bytes (an opaque function call);
//! 4. it sets `TP_STATUS_USER` in `tp_status`, then lengths, offsets and time, then (behind another call) the `sockaddr_ll`.
//!
//! Neither the count nor `tp_status` says that a packet is complete: both are early, and `tp_status` may be left over from
//! the block's previous life. So every block is zeroed before it goes back to the kernel, and a packet in an open block is
//! complete when every field that is read here has become non-zero. On a processor that doesn't reorder stores, step 3
//! is then over. On others that can't be known, and only retired blocks are read ([`READS_OPEN_BLOCKS`]).
//!
//! `tp_next_offset` is not used: the kernel clears it in the last packet of a block when it retires the block, which can be
//! at any moment of the walk. The distance to the next packet follows from the packet's own lengths.

use super::{check, socket};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether packets are taken from a block that the kernel is still filling; only where stores become visible in order.
pub(crate) const READS_OPEN_BLOCKS: bool = cfg!(any(target_arch = "x86_64", target_arch = "x86"));

const PACKET_RX_RING: i32 = 5;
const TP_STATUS_KERNEL: u32 = 0;
const TP_STATUS_USER: u32 = 1;
const TP_STATUS_LOSING: u32 = 4;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;

// Places in struct tpacket_block_desc.
const BLOCK_STATUS: usize = 8;
const BLOCK_PACKETS: usize = 12;
const BLOCK_FIRST: usize = 16;
const BLOCK_USED: usize = 20;
const BLOCK_HEADER: usize = 48;
// Places in struct tpacket3_hdr, and in the sockaddr_ll behind it.
const PACKET_SECONDS: usize = 4;
const PACKET_NANOS: usize = 8;
const PACKET_STORED: usize = 12;
const PACKET_LENGTH: usize = 16;
const PACKET_STATUS: usize = 20;
const PACKET_DATA: usize = 24;
const PACKET_VLAN: usize = 32;
const PACKET_FAMILY: usize = 48;
const PACKET_INTERFACE: usize = 52;
/// tpacket3_hdr and sockaddr_ll.
const PACKET_HEADER: usize = 68;
const ALIGNMENT: usize = 8;

/// One packet in the ring. Its bytes are given back to the kernel by the next [`MappedRing::take`].
pub(crate) struct RingPacket<'a> {
    /// The bytes that were stored.
    pub(crate) data: &'a [u8],
    /// Length of the packet when it was captured.
    pub(crate) wire_len: usize,
    /// Capture time, nanoseconds of the Unix epoch.
    pub(crate) captured_at_nanos: u64,
    /// EtherType, host order; with a tag left in the data, the kernel's version decides which one.
    pub(crate) protocol: u16,
    /// The tag that the kernel took out of the packet, or found in it.
    pub(crate) vlan: Option<u16>,
}

/// Size of a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Bytes of one block: a multiple of the page size.
    pub(crate) block_bytes: usize,
    /// Number of blocks, at least 2.
    pub(crate) blocks: usize,
    /// Milliseconds after which an open block with packets in it is retired.
    pub(crate) retire_millis: u32,
}

/// A packet socket and the ring that is mapped from it.
pub(crate) struct MappedRing {
    fd: OwnedFd,
    base: NonNull<u8>,
    geometry: Geometry,
    /// The block that is read now.
    block: usize,
    /// Packets taken from it.
    taken: u32,
    /// Place of its next packet; 0 before the first.
    offset: usize,
    losing: bool,
}

// SAFETY: the mapping belongs to the value alone and is not tied to a thread.
unsafe impl Send for MappedRing {}

impl MappedRing {
    /// Makes a ring in `fd`, which has to be set to TPACKET_V3, and maps it.
    pub(crate) fn new(fd: OwnedFd, geometry: Geometry) -> io::Result<Self> {
        let invalid = |_| io::Error::from_raw_os_error(libc::EINVAL);
        let block_bytes = u32::try_from(geometry.block_bytes).map_err(invalid)?;
        let blocks = u32::try_from(geometry.blocks).map_err(invalid)?;
        // Version 3 has no frames, but the kernel checks that the numbers would fit.
        let frame = 2048;
        let frames = (block_bytes / frame).checked_mul(blocks);
        let frames = frames.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        // struct tpacket_req3: block size, blocks, frame size, frames, retire timeout, private bytes, features.
        let request = [block_bytes, blocks, frame, frames, geometry.retire_millis, 0, 0];
        socket::set_option(&fd, libc::SOL_PACKET, PACKET_RX_RING, &request)?;
        let length = geometry.block_bytes * geometry.blocks;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choosing, of exactly the ring's size.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { fd, base, geometry, block: 0, taken: 0, offset: 0, losing: false })
    }

    /// The socket.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The socket, for options.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the kernel said, since this was last asked, that it had dropped packets.
    pub(crate) fn take_losing(&mut self) -> bool {
        std::mem::take(&mut self.losing)
    }

    /// Blocks that are full and not yet read, and all blocks.
    pub(crate) fn fill(&self) -> (usize, usize) {
        // From the block that is read now, retired blocks come first, then the rest: search for the border.
        let (mut low, mut high) = (0, self.geometry.blocks);
        while low < high {
            let middle = (low + high) / 2;
            let block = (self.block + middle) % self.geometry.blocks;
            if self.word(block, BLOCK_STATUS) & TP_STATUS_USER == 0 {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        (low, self.geometry.blocks)
    }

    /// Whether [`Self::take`] would find a packet.
    pub(crate) fn has_packet(&mut self) -> bool {
        self.find().is_some()
    }

    /// The next packet, each once and in the order in which they were stored.
    pub(crate) fn take(&mut self) -> Option<RingPacket<'_>> {
        let start = self.find()?;
        let packet = self.position(start);
        let stored = self.word_at(packet + PACKET_STORED) as usize;
        // tp_mac is the lower half of the word on little-endian machines, so read it as what it is.
        let data = usize::from(self.half_at(packet + PACKET_DATA));
        // What does not lie inside the block can't have been written by the kernel; an empty packet counts as malformed.
        let room = self.geometry.block_bytes.saturating_sub(start + data);
        let stored = stored.min(room);
        self.taken += 1;
        self.offset = start + (data.max(PACKET_HEADER) + stored).next_multiple_of(ALIGNMENT);
        let vlan = (self.word_at(packet + PACKET_STATUS) & TP_STATUS_VLAN_VALID != 0)
            .then(|| self.word_at(packet + PACKET_VLAN) as u16);
        let seconds = u64::from(self.word_at(packet + PACKET_SECONDS));
        let nanos = u64::from(self.word_at(packet + PACKET_NANOS));
        Some(RingPacket {
            wire_len: self.word_at(packet + PACKET_LENGTH) as usize,
            captured_at_nanos: seconds * 1_000_000_000 + nanos,
            protocol: u16::from_be(self.half_at(packet + PACKET_FAMILY + 2)),
            vlan,
            data: self.bytes(packet + data.min(self.geometry.block_bytes - start), stored),
        })
    }

    /// Finds the next packet's place in the current block; blocks that are used up go back to the kernel.
    fn find(&mut self) -> Option<usize> {
        for _ in 0..=self.geometry.blocks {
            // The status first: if the block is retired here, everything below is final.
            let status = self.word(self.block, BLOCK_STATUS);
            let start = if self.offset == 0 {
                (self.word(self.block, BLOCK_FIRST) as usize).max(BLOCK_HEADER)
            } else {
                self.offset
            };
            let inside = start + PACKET_HEADER <= self.geometry.block_bytes;
            if status & TP_STATUS_USER == 0 {
                return (READS_OPEN_BLOCKS && inside && self.is_complete(start)).then_some(start);
            }
            if self.taken < self.word(self.block, BLOCK_PACKETS) && inside {
                return Some(start);
            }
            self.losing |= status & TP_STATUS_LOSING != 0;
            self.release();
        }
        None
    }

    /// Whether the kernel has written all of the packet at `start` in the open block.
    fn is_complete(&self, start: usize) -> bool {
        let packet = self.position(start);
        // The interface is stored last; look at it first.
        self.word_at(packet + PACKET_INTERFACE) != 0
            && self.half_at(packet + PACKET_FAMILY) != 0
            && self.half_at(packet + PACKET_FAMILY + 2) != 0
            && self.word_at(packet + PACKET_STATUS) & TP_STATUS_USER != 0
            && self.word_at(packet + PACKET_STORED) != 0
            && self.word_at(packet + PACKET_LENGTH) != 0
            && self.word_at(packet + PACKET_SECONDS) != 0
            && self.half_at(packet + PACKET_DATA) != 0
    }

    /// Zeroes the current block, gives it back and goes to the next.
    fn release(&mut self) {
        let used =
            (self.word(self.block, BLOCK_USED) as usize).clamp(BLOCK_HEADER, self.geometry.block_bytes);
        let block = self.block * self.geometry.block_bytes;
        // SAFETY: the block is retired, so it is ours until the status is set below; the range lies inside it, and `&mut self`
        // means that no slice of it is alive.
        unsafe { self.base.add(block + BLOCK_HEADER).write_bytes(0, used - BLOCK_HEADER) };
        self.atomic(block + BLOCK_STATUS).store(TP_STATUS_KERNEL, Ordering::Release);
        self.block = (self.block + 1) % self.geometry.blocks;
        self.taken = 0;
        self.offset = 0;
    }

    fn position(&self, offset: usize) -> usize {
        self.block * self.geometry.block_bytes + offset
    }

    fn word(&self, block: usize, place: usize) -> u32 {
        self.word_at(block * self.geometry.block_bytes + place)
    }

    fn word_at(&self, position: usize) -> u32 {
        self.atomic(position).load(Ordering::Acquire)
    }

    fn half_at(&self, position: usize) -> u16 {
        let bytes = self.word_at(position & !3).to_ne_bytes();
        u16::from_ne_bytes([bytes[position & 2], bytes[(position & 2) + 1]])
    }

    fn atomic(&self, position: usize) -> &AtomicU32 {
        assert!(
            position.is_multiple_of(4) && position + 4 <= self.geometry.block_bytes * self.geometry.blocks
        );
        // SAFETY: inside the mapping (checked above), aligned (the mapping is page-aligned), and alive as long as `self`. The
        // kernel writes these words, which is what an atomic allows.
        unsafe { AtomicU32::from_ptr(self.base.add(position).cast().as_ptr()) }
    }

    fn bytes(&self, position: usize, length: usize) -> &[u8] {
        assert!(position + length <= self.geometry.block_bytes * self.geometry.blocks);
        // SAFETY: inside the mapping (checked above). The packet is complete, so the kernel writes to it no more until the block
        // is released, which takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.base.add(position).as_ptr(), length) }
    }
}

impl Drop for MappedRing {
    fn drop(&mut self) {
        let length = self.geometry.block_bytes * self.geometry.blocks;
        // SAFETY: exactly what `new` mapped; no slice of it outlives `self`.
        let result = check(unsafe { libc::munmap(self.base.as_ptr().cast(), length) });
        debug_assert!(result.is_ok(), "munmap: {result:?}");
    }
}
