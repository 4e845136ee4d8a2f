//! Capture through AF_PACKET with a ring that is mapped into the process (TPACKET_V3).
//!
//! One *ring* belongs to one interface, or to all of them at once. Beside each ring there is a *doorbell*: a second packet
//! socket with the same filter, one byte per packet and almost no buffer. It exists because the ring wakes nobody before a
//! block of packets is full or old. The doorbell is looked at only before sleeping: while the worker is busy its buffer is full
//! and the kernel drops for it before copying anything. It is registered before its ring, since the kernel delivers to the
//! socket that came last first: when the doorbell rings, the packet is in the ring.

mod channel;
mod options;

pub use options::{Direction, Fanout, FanoutKey, Promiscuity, RingOptions};

use crate::filter::FilterLink;
use crate::interface;
use crate::source::{CaptureError, CaptureStatistics, CapturedFrame, LinkType, PacketSource, Readiness};
use crate::sys;
use channel::Channel;
use std::os::fd::RawFd;

/// Packets captured by the kernel into rings, one for each interface.
pub struct RingCapture {
    channels: Vec<Channel>,
    longest_snap_len: usize,
    /// The channel that is drained first; it changes so that a busy interface does not starve the others.
    first: usize,
}

impl RingCapture {
    /// Opens the rings and starts capturing.
    ///
    /// # Errors
    /// When an interface does not exist, a privilege is missing, or the kernel has no memory for the ring.
    pub fn open(options: &RingOptions) -> Result<Self, CaptureError> {
        options.check()?;
        let mut channels = Vec::new();
        if options.interfaces.is_empty() {
            let filter = options.filter.for_link(FilterLink::Raw)?;
            channels.push(Channel::open(options, None, &filter, 0)?);
        }
        for (number, name) in options.interfaces.iter().enumerate() {
            let interface = interface::lookup(name)?;
            let link = if interface.has_ethernet_header() { FilterLink::Ethernet } else { FilterLink::Raw };
            let filter = options.filter.for_link(link)?;
            channels.push(Channel::open(options, Some(interface), &filter, number)?);
        }
        Ok(Self { channels, longest_snap_len: options.longest_snap_len(), first: 0 })
    }

    /// Opens one capture for each of `workers` workers, joined by fanout so that each packet reaches one of them. What
    /// arrived before all had joined is thrown away, since it may have reached the wrong one.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_workers(options: &RingOptions, workers: u16) -> Result<Vec<Self>, CaptureError> {
        if workers <= 1 {
            return Ok(vec![Self::open(options)?]);
        }
        let mut captures = (0..workers).map(|_| Self::open(options)).collect::<Result<Vec<_>, _>>()?;
        for capture in &mut captures {
            capture.drain(usize::MAX, &mut |_| {})?;
        }
        Ok(captures)
    }

    /// Keeps `snap_len` bytes of each packet that arrives from now on, instead of what [`RingOptions::snap_len`] said. The rings
    /// stay as they are, and no packet is lost. Those that are in them already were kept by the former length. Lengths up to
    /// 87,381 are possible always; longer ones need a ring that was opened with a length as long.
    ///
    /// # Errors
    /// When the ring is not made for this length, or the kernel has no memory for the filter. With several interfaces, some may
    /// have the new length then.
    pub fn set_snap_len(&mut self, snap_len: usize) -> Result<(), CaptureError> {
        if snap_len == 0 || snap_len > self.longest_snap_len {
            return Err(options::snap_len_error(
                snap_len,
                "it has to be above 0 and fit what the ring was opened with",
            ));
        }
        self.channels.iter().try_for_each(|channel| channel.set_snap_len(snap_len as u32))
    }

    /// Whether packets are seen while their block is still being filled. Without it (processors that reorder stores) they are
    /// seen when the block is a millisecond old.
    pub const fn reads_open_blocks() -> bool {
        sys::ring::READS_OPEN_BLOCKS
    }
}

impl PacketSource for RingCapture {
    fn drain(
        &mut self,
        limit: usize,
        each: &mut dyn FnMut(CapturedFrame<'_>),
    ) -> Result<usize, CaptureError> {
        let count = self.channels.len();
        let mut total = 0;
        for step in 0..count {
            if total >= limit {
                break;
            }
            let channel = (self.first + step) % count;
            total += self.channels[channel].drain(limit - total, each);
        }
        self.first = (self.first + 1) % count.max(1);
        Ok(total)
    }

    fn wait_fds(&self) -> Vec<RawFd> {
        self.channels.iter().flat_map(Channel::wait_fds).collect()
    }

    fn prepare_wait(&mut self) -> Readiness {
        let mut readiness = Readiness::Idle;
        for channel in &mut self.channels {
            if channel.prepare_wait() == Readiness::DataPending {
                readiness = Readiness::DataPending;
            }
        }
        readiness
    }

    fn statistics(&mut self) -> CaptureStatistics {
        let mut total = CaptureStatistics::default();
        for channel in &mut self.channels {
            total.merge(channel.statistics());
        }
        total
    }

    fn fill_ratio(&self) -> f32 {
        self.channels.iter().map(Channel::fill_ratio).fold(0.0, f32::max)
    }
}

/// A frame of a `SOCK_DGRAM` socket without the VLAN tag that it may start with, or `None` if it is no IP.
///
/// The kernel leaves a second tag where the network header should be; newer ones (6.10) call such a packet by the protocol
/// inside, older ones by that of the tag.
fn network_packet(packet: &sys::ring::RingPacket<'_>) -> Option<(LinkType, usize)> {
    const IPV4: u16 = 0x0800;
    const IPV6: u16 = 0x86dd;
    let data = packet.data;
    let version = |offset: usize| data.get(offset).map(|byte| byte >> 4);
    let inner = data.get(2..4).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let has_tag = match inner {
        Some(IPV4) => version(4) == Some(4),
        Some(IPV6) => version(4) == Some(6),
        _ => false,
    };
    match packet.protocol {
        // An IPv4 header whose total length looks like an EtherType, or a tag? The length tells.
        IPV4 if version(0) == Some(4) && !(has_tag && data.len() >= 4 && !fits_ipv4(packet)) => {
            Some((LinkType::Raw, 0))
        }
        IPV6 if version(0) == Some(6) && !(has_tag && packet.vlan.is_some()) => Some((LinkType::Raw, 0)),
        _ if has_tag => Some((LinkType::Raw, 4)),
        _ => None,
    }
}

/// Whether the bytes are an IPv4 packet that ends where the frame ends.
fn fits_ipv4(packet: &sys::ring::RingPacket<'_>) -> bool {
    packet.vlan.is_none()
        || packet
            .data
            .get(2..4)
            .is_some_and(|length| usize::from(u16::from_be_bytes([length[0], length[1]])) == packet.wire_len)
}
