//! Capture of the target's replies: from frames to flows.
//!
//! Owns the packet source and how much of each packet it keeps: headers alone, until a route asks for bodies or a fragment
//! arrives, whole packets from then on. Where a reply goes is the business of [`crate::relays`].

use crate::options::{CaptureKind, Settings};
use anyhow::Context;
use std::net::IpAddr;
use std::os::fd::RawFd;
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_engine::wire::fragment::{FragmentOutcome, Reassembler};
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::link;
use tcpcopy_engine::wire::tcp::TcpSegment;
use tcpcopy_net::filter::{Filter, FilterLink};
use tcpcopy_net::pcap_capture::{Delivery, PcapCapture, PcapOptions};
use tcpcopy_net::ring::{RingCapture, RingOptions};
use tcpcopy_net::source::{
    CaptureError, CaptureStatistics, CapturedFrame, LinkType, PacketSource, Readiness,
};

/// Enough for a link header with tags and the longest IP and TCP headers that are not made up to annoy.
const SNAP_HEADERS: u32 = 320;
/// Enough for whatever GRO makes of TCP segments.
const SNAP_WHOLE: u32 = 65_535 + 32;

const PROTOCOL_TCP: u8 = 6;

/// One captured reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CapturedReply<'a> {
    pub(crate) flow: FlowKey,
    /// From the IP header on.
    pub(crate) packet: &'a [u8],
    /// Length of the IP packet on the wire.
    pub(crate) wire_len: usize,
    /// Length of the IP and TCP headers.
    pub(crate) header_len: usize,
    pub(crate) captured_at_nanos: u64,
    pub(crate) origin: Origin,
}

/// How a reply came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Whole,
    Reassembled,
}

/// What came of draining.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DrainOutcome {
    /// Frames taken.
    pub(crate) frames: usize,
    /// Of those, frames that are no usable TCP packets.
    pub(crate) unusable: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Headers,
    Whole,
    /// Headers, for lack of the means to get more.
    HeadersForGood,
}

pub(crate) struct Capture {
    source: Box<dyn PacketSource>,
    options: SourceOptions,
    extent: Extent,
    reassembler: Reassembler,
    saw_fragment: bool,
    /// What the source before this one has seen too.
    overlap: Option<Overlap>,
    /// Statistics of sources that were replaced.
    former: CaptureStatistics,
}

/// How long frames that two sources saw can be waiting in the newer one.
const OVERLAP: Duration = Duration::from_secs(2);

/// Frames that the source before saw as well. It has an end by a clock that nobody sets: when the clock that frames are stamped
/// with is set back, all new frames look as old as those.
#[derive(Clone, Copy, Debug)]
struct Overlap {
    until_nanos: u64,
    over_at: Instant,
}

impl Overlap {
    const fn has_seen(&self, captured_at_nanos: u64) -> bool {
        captured_at_nanos <= self.until_nanos
    }

    fn is_over(&self, now: Instant) -> bool {
        self.over_at <= now
    }
}

struct SourceOptions {
    kind: CaptureKind,
    interfaces: Vec<String>,
    expression: String,
    ring_bytes: usize,
}

impl Capture {
    /// Starts capturing.
    pub(crate) fn open(settings: &Settings) -> anyhow::Result<Self> {
        let options = SourceOptions {
            kind: settings.capture,
            interfaces: settings.interfaces.clone(),
            expression: settings.filter.clone().unwrap_or_else(|| {
                default_expression(settings.port, &tcpcopy_net::interface::local_addresses())
            }),
            ring_bytes: settings.ring_bytes,
        };
        Ok(Self {
            source: options.open(Extent::Headers)?,
            options,
            extent: Extent::Headers,
            reassembler: Reassembler::new(8 * 1024 * 1024, 1024, Duration::from_secs(5)),
            saw_fragment: false,
            overlap: None,
            former: CaptureStatistics::default(),
        })
    }

    /// Descriptors to wait on.
    pub(crate) fn wait_fds(&self) -> Vec<RawFd> {
        self.source.wait_fds()
    }

    /// To be called right before sleeping.
    pub(crate) fn prepare_wait(&mut self) -> Readiness {
        self.source.prepare_wait()
    }

    /// Packets captured and dropped by the kernel since the start.
    pub(crate) fn statistics(&mut self) -> CaptureStatistics {
        let mut total = self.former;
        total.merge(self.source.statistics());
        total
    }

    /// Hands out replies that are there, from at most `limit` frames.
    pub(crate) fn drain(
        &mut self,
        limit: usize,
        now: Instant,
        each: &mut dyn FnMut(CapturedReply<'_>),
    ) -> anyhow::Result<DrainOutcome> {
        let Self { source, reassembler, saw_fragment, overlap, .. } = self;
        overlap.take_if(|overlap| overlap.is_over(now));
        let mut unusable = 0;
        let frames = source
            .drain(limit, &mut |frame| {
                if overlap.as_ref().is_some_and(|overlap| overlap.has_seen(frame.captured_at_nanos)) {
                    return;
                }
                if !take_frame(&frame, reassembler, saw_fragment, now, each) {
                    unusable += 1;
                }
            })
            .context("capture stopped")?;
        Ok(DrainOutcome { frames, unusable })
    }

    /// Whether packets have to be captured whole and are not yet.
    pub(crate) fn should_widen(&self, bodies_wanted: bool) -> bool {
        self.extent == Extent::Headers && (bodies_wanted || self.saw_fragment)
    }

    /// Captures whole packets from now on. Nothing is lost or seen twice: the new source is there before the old one is
    /// drained for the last time, and what both saw is skipped by its time. Where the kernel has no room for the new source,
    /// the old one goes on, and replies are marked as cut.
    pub(crate) fn widen(
        &mut self,
        now: Instant,
        each: &mut dyn FnMut(CapturedReply<'_>),
    ) -> anyhow::Result<DrainOutcome> {
        let wide = match self.options.open(Extent::Whole) {
            Ok(wide) => wide,
            Err(error) => {
                tracing::warn!("cannot capture whole packets, bodies will be missing: {error:#}");
                self.extent = Extent::HeadersForGood;
                return Ok(DrainOutcome::default());
            }
        };
        tracing::info!("capturing whole packets from now on");
        let mut last = 0;
        let Self { source, reassembler, saw_fragment, .. } = self;
        let mut unusable = 0;
        let frames = source
            .drain(usize::MAX, &mut |frame| {
                last = last.max(frame.captured_at_nanos);
                if !take_frame(&frame, reassembler, saw_fragment, now, each) {
                    unusable += 1;
                }
            })
            .context("capture stopped")?;
        self.former.merge(self.source.statistics());
        self.overlap = Some(Overlap { until_nanos: last, over_at: now + OVERLAP });
        self.source = wide;
        self.extent = Extent::Whole;
        Ok(DrainOutcome { frames, unusable })
    }
}

impl SourceOptions {
    fn open(&self, extent: Extent) -> anyhow::Result<Box<dyn PacketSource>> {
        let snap_len = match extent {
            Extent::Headers | Extent::HeadersForGood => SNAP_HEADERS,
            Extent::Whole => SNAP_WHOLE,
        };
        match self.kind {
            CaptureKind::Ring => {
                let filter = Filter::compile(&self.expression, FilterLink::Ethernet, snap_len)?;
                let options = RingOptions {
                    interfaces: self.interfaces.clone(),
                    ring_bytes: self.ring_bytes,
                    snap_len: snap_len as usize,
                    ..RingOptions::new(filter)
                };
                Ok(Box::new(RingCapture::open(&options)?))
            }
            CaptureKind::Pcap => self.open_pcap(snap_len),
        }
    }

    fn open_pcap(&self, snap_len: u32) -> anyhow::Result<Box<dyn PacketSource>> {
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
        Ok(Box::new(PcapSet(captures)))
    }
}

/// One libpcap capture for each interface.
struct PcapSet(Vec<PcapCapture>);

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
fn default_expression(port: u16, local: &[IpAddr]) -> String {
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

/// Reads one frame; `false` when it holds nothing that could be a reply.
fn take_frame(
    frame: &CapturedFrame<'_>,
    reassembler: &mut Reassembler,
    saw_fragment: &mut bool,
    now: Instant,
    each: &mut dyn FnMut(CapturedReply<'_>),
) -> bool {
    let link_type = match frame.link_type {
        LinkType::Ethernet => link::LinkType::Ethernet,
        LinkType::Raw => link::LinkType::Raw,
        LinkType::Null => link::LinkType::Null,
        LinkType::LinuxCooked => link::LinkType::LinuxCooked,
        LinkType::LinuxCooked2 => link::LinkType::LinuxCooked2,
    };
    let Ok((packet, wire_len)) = link::ip_packet(link_type, frame.data, frame.wire_len) else { return false };
    let Ok(ip) = IpPacket::parse(packet, wire_len) else { return false };
    if ip.fragment.is_none() {
        return take_packet(packet, &ip, frame.captured_at_nanos, Origin::Whole, each);
    }
    *saw_fragment = true;
    match reassembler.push(&ip, packet, now) {
        FragmentOutcome::Waiting => true,
        FragmentOutcome::Dropped(_) => false,
        FragmentOutcome::Complete(whole) => IpPacket::parse(&whole, whole.len())
            .is_ok_and(|ip| take_packet(&whole, &ip, frame.captured_at_nanos, Origin::Reassembled, each)),
    }
}

fn take_packet(
    packet: &[u8],
    ip: &IpPacket<'_>,
    captured_at_nanos: u64,
    origin: Origin,
    each: &mut dyn FnMut(CapturedReply<'_>),
) -> bool {
    if ip.protocol != PROTOCOL_TCP {
        return false;
    }
    let Ok(segment) = TcpSegment::parse(ip.payload, ip.payload_len) else { return false };
    let captured = ip.header_len + ip.payload.len();
    each(CapturedReply {
        flow: FlowKey {
            client: Endpoint::new(ip.destination, segment.destination_port),
            target: Endpoint::new(ip.source, segment.source_port),
        },
        packet: &packet[..captured.min(packet.len())],
        wire_len: ip.header_len + ip.payload_len,
        header_len: captured - segment.payload.len(),
        captured_at_nanos,
        origin,
    });
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_skipped_for_a_while_only_even_if_the_clock_is_set_back() {
        let overlap = Overlap { until_nanos: 1_000, over_at: Instant::from_millis(500) };
        assert!(overlap.has_seen(1_000) && !overlap.has_seen(1_001));
        assert!(!overlap.is_over(Instant::from_millis(499)));
        assert!(overlap.is_over(Instant::from_millis(500)));
    }

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
