//! One ring, its doorbell, and the interface that both belong to.

use super::options::{Direction, Promiscuity, RingOptions};
use crate::filter::{Filter, FilterLink, ignore_outgoing_program, loopback_once_program, snap_program};
use crate::interface::Interface;
use crate::source::{CaptureError, CaptureStatistics, CapturedFrame, LinkType, Readiness};
use crate::sys::interface as sys_interface;
use crate::sys::packet::{self, Layer};
use crate::sys::ring::MappedRing;
use crate::sys::socket;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How often a vanished interface is looked for.
const RETRY: Duration = Duration::from_secs(1);

/// The kernel rounds this up to the least it allows, which one or two packets fill.
const DOORBELL_BUFFER: i32 = 1;

pub(super) struct Channel {
    ring: MappedRing,
    doorbell: OwnedFd,
    /// What the ring's filter is, whatever it keeps of a packet.
    program: Vec<libc::sock_filter>,
    layer: Layer,
    /// Name and number of the interface; `None` for all.
    interface: Option<(String, u32)>,
    /// When to look for the interface again; `None` while it is there.
    search_at: Option<Instant>,
    /// Whether the last sleep brought no packet, so that something else must have ended it.
    was_woken_for_nothing: bool,
    statistics: CaptureStatistics,
}

impl Channel {
    pub(super) fn open(
        options: &RingOptions,
        interface: Option<Interface>,
        filter: &Filter,
        number: usize,
    ) -> Result<Self, CaptureError> {
        let device = interface.as_ref().map_or("every interface", |interface| &interface.name).to_owned();
        let failed = |action: &'static str| {
            let device = device.clone();
            move |source: io::Error| CaptureError::Open { action, device, source }
        };
        let layer = match filter.link() {
            FilterLink::Ethernet => Layer::Link,
            FilterLink::Raw => Layer::Network,
        };
        let index = interface.as_ref().map_or(0, |interface| interface.index);

        // The order matters: see the module above.
        let doorbell = packet::open(layer).map_err(failed("open a packet socket"))?;
        attach(&doorbell, &snap_program(filter.instructions(), 1), options)
            .map_err(failed("attach the filter"))?;
        socket::set_receive_buffer(&doorbell, DOORBELL_BUFFER).map_err(failed("size the doorbell"))?;

        let fd = packet::open(layer).map_err(failed("open a packet socket"))?;
        let program = attach(&fd, &snap_program(filter.instructions(), options.snap_len as u32), options)
            .map_err(failed("attach the filter"))?;
        packet::set_ring_version(&fd).map_err(failed("use TPACKET_V3"))?;
        if options.promiscuous == Promiscuity::On && index != 0 {
            packet::set_promiscuous(&fd, index).map_err(failed("switch to promiscuous mode"))?;
        }
        let ring = MappedRing::new(fd, options.geometry()).map_err(failed("map a capture ring"))?;

        for (fd, offset) in [(&doorbell, 1), (ring.fd(), 0)] {
            packet::bind(fd, index).map_err(failed("start capturing"))?;
            if let Some(fanout) = &options.fanout {
                let group = fanout.group.wrapping_add(2 * number as u16 + offset);
                let program = fanout.program();
                let kind = if program.is_some() { packet::FANOUT_PROGRAM } else { packet::FANOUT_HASH };
                join(fd, group, kind | packet::FANOUT_FLAG_DEFRAGMENT, options.direction)
                    .map_err(failed("join the fanout group"))?;
                if let Some(program) = program {
                    packet::set_fanout_program(fd, &program).map_err(failed("set the fanout program"))?;
                }
            }
        }
        Ok(Self {
            ring,
            doorbell,
            program,
            layer,
            interface: interface.map(|interface| (interface.name, interface.index)),
            search_at: None,
            was_woken_for_nothing: false,
            statistics: CaptureStatistics::default(),
        })
    }

    /// Puts the same filter with another snapshot length into the place of the present one. The kernel exchanges them at once:
    /// each packet is judged by one of the two.
    pub(super) fn set_snap_len(&self, snap_len: u32) -> Result<(), CaptureError> {
        let program = snap_program(&self.program, snap_len);
        socket::attach_program(self.ring.fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program).map_err(
            |source| {
                let device = self.interface.as_ref().map_or("every interface", |(name, _)| name).to_owned();
                CaptureError::Open { action: "change the snapshot length", device, source }
            },
        )
    }

    pub(super) fn drain(&mut self, limit: usize, each: &mut dyn FnMut(CapturedFrame<'_>)) -> usize {
        let mut count = 0;
        while count < limit {
            let Some(packet) = self.ring.take() else { break };
            count += 1;
            let place = match self.layer {
                Layer::Link => Some((LinkType::Ethernet, 0)),
                Layer::Network => super::network_packet(&packet),
            };
            let Some((link_type, skip)) = place else { continue };
            each(CapturedFrame {
                data: &packet.data[skip..],
                wire_len: packet.wire_len.saturating_sub(skip),
                link_type,
                captured_at_nanos: packet.captured_at_nanos,
            });
        }
        self.was_woken_for_nothing &= count == 0;
        count
    }

    pub(super) fn wait_fds(&self) -> [RawFd; 2] {
        [self.doorbell.as_raw_fd(), self.ring.fd().as_raw_fd()]
    }

    pub(super) fn prepare_wait(&mut self) -> Readiness {
        loop {
            match socket::discard_one(&self.doorbell) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.note_error(&error),
            }
        }
        if self.was_woken_for_nothing
            && let Some(error) = socket::take_error(self.ring.as_fd())
        {
            self.note_error(&error);
        }
        if self.search_at.is_some_and(|time| time <= Instant::now()) {
            self.search();
        }
        if self.ring.has_packet() {
            return Readiness::DataPending;
        }
        self.was_woken_for_nothing = true;
        Readiness::Idle
    }

    pub(super) fn statistics(&mut self) -> CaptureStatistics {
        self.ring.take_losing();
        if let Ok((received, dropped)) = packet::take_statistics(self.ring.fd()) {
            self.statistics.merge(CaptureStatistics { received, dropped });
        }
        self.statistics
    }

    pub(super) fn fill_ratio(&self) -> f32 {
        let (full, all) = self.ring.fill();
        full as f32 / all as f32
    }

    /// An interface that goes down leaves an error on its sockets. When it comes up again, capture goes on by itself; when it
    /// was removed and made anew, it has another number and the sockets have to be bound again.
    fn note_error(&mut self, error: &io::Error) {
        if let Some((name, _)) = &self.interface {
            tracing::warn!("capture on {name}: {error}; waiting for the interface to come back");
            self.search_at = Some(Instant::now() + RETRY);
        } else {
            tracing::warn!("capture: {error}");
        }
    }

    fn search(&mut self) {
        self.search_at = Some(Instant::now() + RETRY);
        let Some((name, index)) = &mut self.interface else {
            self.search_at = None;
            return;
        };
        let Ok(found) = sys_interface::index_of(&self.doorbell, name) else { return };
        if found != *index {
            let bound =
                packet::bind(&self.doorbell, found).and_then(|()| packet::bind(self.ring.fd(), found));
            if let Err(error) = bound {
                tracing::warn!("capture on {name}, which was removed and made anew, can't go on: {error}");
                return;
            }
            tracing::info!("capture on {name} goes on");
            *index = found;
        }
        self.search_at = None;
    }
}

/// Attaches the filter, with what leaves out this host's own packets if they are not wanted, and returns the whole program.
fn attach(
    fd: &OwnedFd,
    program: &[libc::sock_filter],
    options: &RingOptions,
) -> io::Result<Vec<libc::sock_filter>> {
    let whole = match options.direction {
        Direction::Both => loopback_once_program(program),
        Direction::Incoming => match packet::ignore_outgoing(fd) {
            Ok(()) if options.fanout.is_none() => program.to_vec(),
            // An old kernel, or a group, which does not look at its members' setting.
            _ => ignore_outgoing_program(program),
        },
    };
    socket::attach_program(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &whole)?;
    Ok(whole)
}

fn join(fd: &OwnedFd, group: u16, kind: u32, direction: Direction) -> io::Result<()> {
    match direction {
        Direction::Both => packet::join_fanout(fd, group, kind),
        Direction::Incoming => packet::join_fanout(fd, group, kind | packet::FANOUT_FLAG_IGNORE_OUTGOING)
            .or_else(|_| packet::join_fanout(fd, group, kind)),
    }
}
