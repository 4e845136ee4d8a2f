//! The packet source of a capture: how it is opened, and how much of each packet it keeps.

use super::extent::Extent;
use crate::options::CaptureKind;
use std::net::IpAddr;
use std::os::fd::RawFd;
use tcpcopy_net::filter::{Filter, FilterLink};
use tcpcopy_net::pcap_capture::{Delivery, PcapCapture, PcapOptions};
use tcpcopy_net::ring::{RingCapture, RingOptions};
use tcpcopy_net::source::{CaptureError, CaptureStatistics, CapturedFrame, PacketSource, Readiness};

/// Enough for a link header with tags and the longest IP and TCP headers that are not made up to annoy.
const SNAP_HEADERS: u32 = 320;
/// Enough for whatever GRO makes of TCP segments.
const SNAP_WHOLE: u32 = 65_535 + 32;

/// Where packets come from.
pub(super) enum Source {
    Ring(RingCapture),
    Pcap(PcapSet),
}

impl Source {
    pub(super) fn packets(&self) -> &dyn PacketSource {
        match self {
            Self::Ring(ring) => ring,
            Self::Pcap(set) => set,
        }
    }

    pub(super) fn packets_mut(&mut self) -> &mut dyn PacketSource {
        match self {
            Self::Ring(ring) => ring,
            Self::Pcap(set) => set,
        }
    }

    /// Keeps as much of each packet from now on, where the source can do so without being opened anew. libpcap can't: with
    /// immediate delivery each of its slots has the size that it was opened for, and slots of 64 KiB from the start would leave
    /// little room for headers.
    pub(super) fn set_extent(&mut self, extent: Extent) -> Result<Change, CaptureError> {
        match self {
            Self::Ring(ring) => ring.set_snap_len(snap_len(extent) as usize).map(|()| Change::Made),
            Self::Pcap(_) => Ok(Change::NeedsAnother),
        }
    }
}

/// What became of a wish for another extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Made,
    /// It takes a source that is opened for it.
    NeedsAnother,
}

const fn snap_len(extent: Extent) -> u32 {
    match extent {
        Extent::Headers => SNAP_HEADERS,
        Extent::Whole => SNAP_WHOLE,
    }
}

/// What a source is opened with.
pub(super) struct SourceOptions {
    pub(super) kind: CaptureKind,
    pub(super) interfaces: Vec<String>,
    pub(super) expression: String,
    pub(super) ring_bytes: usize,
}

impl SourceOptions {
    pub(super) fn open(&self, extent: Extent) -> anyhow::Result<Source> {
        let snap_len = snap_len(extent);
        match self.kind {
            CaptureKind::Ring => {
                let filter = Filter::compile(&self.expression, FilterLink::Ethernet, snap_len)?;
                let options = RingOptions {
                    interfaces: self.interfaces.clone(),
                    ring_bytes: self.ring_bytes,
                    snap_len: snap_len as usize,
                    ..RingOptions::new(filter)
                };
                Ok(Source::Ring(RingCapture::open(&options)?))
            }
            CaptureKind::Pcap => Ok(Source::Pcap(self.open_pcap(snap_len)?)),
        }
    }

    fn open_pcap(&self, snap_len: u32) -> Result<PcapSet, CaptureError> {
        let every = [String::new()];
        let interfaces = if self.interfaces.is_empty() { &every[..] } else { &self.interfaces };
        let captures = interfaces
            .iter()
            .map(|interface| {
                PcapCapture::open(&PcapOptions {
                    interface: interface.clone(),
                    expression: self.expression.clone(),
                    buffer_mib: (self.ring_bytes >> 20) as u32,
                    snap_len,
                    delivery: Delivery::Immediate,
                    direction: tcpcopy_net::ring::Direction::Incoming,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(PcapSet(captures))
    }
}

/// One libpcap capture for each interface.
pub(super) struct PcapSet(Vec<PcapCapture>);

impl PacketSource for PcapSet {
    fn drain(
        &mut self,
        limit: usize,
        each: &mut dyn FnMut(CapturedFrame<'_>),
    ) -> Result<usize, CaptureError> {
        self.0.iter_mut().try_fold(0, |total, capture| Ok(total + capture.drain(limit - total, each)?))
    }

    fn wait_fds(&self) -> Vec<RawFd> {
        self.0.iter().flat_map(PcapCapture::wait_fds).collect()
    }

    fn prepare_wait(&mut self) -> Readiness {
        // All of them are asked, since each has to get ready.
        let pending = self
            .0
            .iter_mut()
            .filter_map(|c| (c.prepare_wait() == Readiness::DataPending).then_some(()))
            .count();
        if pending > 0 { Readiness::DataPending } else { Readiness::Idle }
    }

    fn statistics(&mut self) -> CaptureStatistics {
        let mut total = CaptureStatistics::default();
        for capture in &mut self.0 {
            total.merge(capture.statistics());
        }
        total
    }

    fn fill_ratio(&self) -> f32 {
        self.0.iter().map(PcapCapture::fill_ratio).fold(0.0, f32::max)
    }
}

/// All TCP but what arrives on our own relay connections, and the fragments that could be part of it. Packets for the relay
/// port of other hosts are replies: to them it is a port like any other.
pub(super) fn default_expression(port: u16, local: &[IpAddr]) -> String {
    let mut own = String::new();
    for addr in local.iter().take(64) {
        if !own.is_empty() {
            own.push_str(" or ");
        }
        own.push_str(&format!("dst host {addr}"));
    }
    let exclusion =
        if own.is_empty() { String::new() } else { format!(" and not (dst port {port} and ({own}))") };
    format!(
        "(tcp{exclusion}) or (ip proto 6 and ip[6:2] & 0x1fff != 0) or \
         (ip6 and (ip6[6] = 44 or ip6[6] = 0 or ip6[6] = 43 or ip6[6] = 60))"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_filter_compiles_and_leaves_out_only_our_own_port() {
        let local = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        for expression in [default_expression(36524, &local), default_expression(36524, &[])] {
            for link in [FilterLink::Ethernet, FilterLink::Raw] {
                Filter::compile(&expression, link, 100).unwrap();
            }
        }
        assert!(
            default_expression(1, &local)
                .contains("not (dst port 1 and (dst host 127.0.0.1 or dst host ::1))")
        );
    }
}
