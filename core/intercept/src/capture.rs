//! Capture of the target's replies: from frames to flows.
//!
//! Owns the packet source ([`source`]) and how much of each packet it keeps ([`extent`]): headers alone, unless bodies are wanted or
//! fragments arrive. Where a reply goes is the business of [`crate::relays`].

mod extent;
mod source;

pub(crate) use extent::Extent;

use crate::options::Settings;
use anyhow::Context;
use extent::ExtentControl;
use source::{Change, Source, SourceOptions, default_expression};
use std::os::fd::RawFd;
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::protocol::Bodies;
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_engine::wire::fragment::{FragmentOutcome, Reassembler};
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::link;
use tcpcopy_engine::wire::tcp::TcpSegment;
use tcpcopy_net::source::{CaptureStatistics, CapturedFrame, Readiness};

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

pub(crate) struct Capture {
    source: Source,
    options: SourceOptions,
    extent: ExtentControl,
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
            extent: ExtentControl::new(),
            reassembler: Reassembler::new(8 * 1024 * 1024, 1024, Duration::from_secs(5)),
            saw_fragment: false,
            overlap: None,
            former: CaptureStatistics::default(),
        })
    }

    /// Descriptors to wait on.
    pub(crate) fn wait_fds(&self) -> Vec<RawFd> {
        self.source.packets().wait_fds()
    }

    /// To be called right before sleeping.
    pub(crate) fn prepare_wait(&mut self) -> Readiness {
        self.source.packets_mut().prepare_wait()
    }

    /// Packets captured and dropped by the kernel since the start.
    pub(crate) fn statistics(&mut self) -> CaptureStatistics {
        let mut total = self.former;
        total.merge(self.source.packets_mut().statistics());
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
            .packets_mut()
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

    /// What is to be captured from now on, if it is something else than so far.
    pub(crate) fn note_need(&mut self, bodies: Bodies, now: Instant) -> Option<Extent> {
        let needed = if std::mem::take(&mut self.saw_fragment) { Bodies::Needed } else { bodies };
        self.extent.note(needed, now)
    }

    /// Captures `extent` of each packet from now on. Nothing is lost or seen twice. What had been captured before comes up to
    /// the former extent.
    pub(crate) fn change(
        &mut self,
        extent: Extent,
        now: Instant,
        each: &mut dyn FnMut(CapturedReply<'_>),
    ) -> anyhow::Result<DrainOutcome> {
        let change = self.source.set_extent(extent).unwrap_or_else(|error| {
            tracing::debug!("the capture has to be opened anew: {error}");
            Change::NeedsAnother
        });
        match (change, extent) {
            (Change::Made, Extent::Whole) => tracing::info!("capturing whole packets from now on"),
            (Change::Made, Extent::Headers) => tracing::info!("capturing headers alone from now on"),
            (Change::NeedsAnother, Extent::Whole) => return self.replace(now, each),
            // More than is needed is no harm. Some interfaces may have changed, so that a later need is for all of them.
            (Change::NeedsAnother, Extent::Headers) => {}
        }
        self.extent.changed(extent);
        Ok(DrainOutcome::default())
    }

    /// Opens another source, for whole packets. It is there before the one so far is drained for the last time, and what both saw
    /// is skipped by its time. Where the kernel has no room for it, the old one goes on, and replies are marked as cut.
    fn replace(
        &mut self,
        now: Instant,
        each: &mut dyn FnMut(CapturedReply<'_>),
    ) -> anyhow::Result<DrainOutcome> {
        let wide = match self.options.open(Extent::Whole) {
            Ok(wide) => wide,
            Err(error) => {
                tracing::warn!("cannot capture whole packets, bodies will be missing: {error:#}");
                self.extent.settle(Extent::Headers);
                return Ok(DrainOutcome::default());
            }
        };
        tracing::info!("capturing whole packets from now on, on a capture opened anew");
        let mut last = 0;
        let Self { source, reassembler, saw_fragment, .. } = self;
        let mut unusable = 0;
        let frames = source
            .packets_mut()
            .drain(usize::MAX, &mut |frame| {
                last = last.max(frame.captured_at_nanos);
                if !take_frame(&frame, reassembler, saw_fragment, now, each) {
                    unusable += 1;
                }
            })
            .context("capture stopped")?;
        self.former.merge(self.source.packets_mut().statistics());
        self.overlap = Some(Overlap { until_nanos: last, over_at: now + OVERLAP });
        self.source = wide;
        self.extent.settle(Extent::Whole);
        Ok(DrainOutcome { frames, unusable })
    }
}

/// Reads one frame; `false` when it holds nothing that could be a reply.
fn take_frame(
    frame: &CapturedFrame<'_>,
    reassembler: &mut Reassembler,
    saw_fragment: &mut bool,
    now: Instant,
    each: &mut dyn FnMut(CapturedReply<'_>),
) -> bool {
    let Ok((packet, wire_len)) = link::ip_packet(frame.link_type, frame.data, frame.wire_len) else {
        return false;
    };
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
}
