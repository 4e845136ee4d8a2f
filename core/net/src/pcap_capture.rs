//! Capture through libpcap (`--pcap-capture`), for links and drivers that the ring does not serve.

use crate::filter::live_expression;
use crate::ring::Direction;
use crate::source::{CaptureError, CaptureStatistics, CapturedFrame, LinkType, PacketSource, Readiness};
use pcap::{Active, Capture, Inactive};
use std::os::fd::{AsRawFd, RawFd};

/// How to capture through libpcap.
#[derive(Clone, Debug)]
pub struct PcapOptions {
    /// The interface, or `any` (the default when empty).
    pub interface: String,
    /// What to capture, in libpcap's language; empty for everything.
    pub expression: String,
    /// Size of the kernel's buffer in MiB (`-B`); 0 leaves libpcap's default of 2.
    pub buffer_mib: u32,
    /// Bytes kept of each packet (`-S`); 0 for whole packets.
    pub snap_len: u32,
    /// How packets are handed over.
    pub delivery: Delivery,
    /// Which packets, by direction.
    pub direction: Direction,
}

/// How libpcap hands packets over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Delivery {
    /// Each as soon as it is there.
    #[default]
    Immediate,
    /// In blocks, at most some milliseconds late: fewer wake-ups, and a buffer that holds more.
    Buffered,
}

/// Bytes kept when whole packets are asked for: libpcap's own maximum.
const WHOLE: u32 = 262_144;

/// How long a block of packets is filled when they are not delivered at once, in milliseconds.
const BLOCK_MILLIS: i32 = 2;

/// A live capture through libpcap.
///
/// With immediate delivery libpcap has a slot of the full snapshot length for each packet, so a large `-S` with a small `-B`
/// leaves room for few packets.
pub struct PcapCapture {
    capture: Capture<Active>,
    device: String,
    link_type: LinkType,
    /// libpcap's counters as they were read last; they are 32 bits wide and wrap.
    last: (u32, u32),
    statistics: CaptureStatistics,
    /// A frame that [`PacketSource::prepare_wait`] had to read to know that there is one.
    pending: Option<Pending>,
}

struct Pending {
    bytes: Vec<u8>,
    wire_len: usize,
    captured_at_nanos: u64,
}

impl PcapCapture {
    /// Starts capturing what the interface receives.
    ///
    /// # Errors
    /// When the interface does not exist, a privilege is missing, the filter can't be compiled, or the link type isn't known.
    pub fn open(options: &PcapOptions) -> Result<Self, CaptureError> {
        let device = if options.interface.is_empty() { "any" } else { &options.interface }.to_owned();
        if device != "any" {
            crate::interface::lookup(&device)?;
        }
        let failed = |action: &'static str| {
            let device = device.clone();
            move |source: pcap::Error| CaptureError::Pcap { action, device, source }
        };
        let snap_len = if options.snap_len == 0 { WHOLE } else { options.snap_len };
        let snap_len = i32::try_from(snap_len).unwrap_or(i32::MAX);
        let mut inactive: Capture<Inactive> = Capture::from_device(device.as_str())
            .map_err(failed("open a capture"))?
            .snaplen(snap_len)
            .promisc(false)
            .precision(pcap::Precision::Nano)
            .timeout(BLOCK_MILLIS)
            .immediate_mode(options.delivery == Delivery::Immediate);
        if options.buffer_mib > 0 {
            let bytes = i32::try_from(u64::from(options.buffer_mib) << 20).unwrap_or(i32::MAX);
            inactive = inactive.buffer_size(bytes);
        }
        let mut capture = inactive.open().map_err(failed("start a capture"))?;
        let link_type =
            LinkType::from_dlt(capture.get_datalink().0).ok_or_else(|| CaptureError::LinkType {
                device: device.clone(),
                link_type: capture.get_datalink().get_name().unwrap_or_else(|_| "unknown".to_owned()),
            })?;
        // First as it was typed, so that an error shows that text.
        capture.filter(&options.expression, true).map_err(|error| syntax(&options.expression, error))?;
        if link_type == LinkType::Ethernet {
            let expression = live_expression(&options.expression);
            capture.filter(&expression, true).map_err(|error| syntax(&expression, error))?;
        }
        match options.direction {
            Direction::Incoming => {
                capture.direction(pcap::Direction::In).map_err(failed("leave out outgoing packets"))?;
            }
            // On the loopback interface, libpcap itself leaves out what goes out.
            Direction::Both => {}
        }
        let capture = capture.setnonblock().map_err(failed("switch to non-blocking reads"))?;
        let statistics = CaptureStatistics::default();
        Ok(Self { capture, device, link_type, last: (0, 0), statistics, pending: None })
    }

    /// What every frame starts with.
    pub const fn link_type(&self) -> LinkType {
        self.link_type
    }
}

fn syntax(expression: &str, error: pcap::Error) -> CaptureError {
    let message = match error {
        pcap::Error::PcapError(text) => text,
        other => other.to_string(),
    };
    crate::filter::FilterError::Syntax { expression: expression.to_owned(), message }.into()
}

fn nanos_of(header: &pcap::PacketHeader) -> u64 {
    // With nanosecond precision tv_usec holds nanoseconds.
    let seconds = u64::try_from(header.ts.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(header.ts.tv_usec).unwrap_or(0)
}

impl PacketSource for PcapCapture {
    fn drain(
        &mut self,
        limit: usize,
        each: &mut dyn FnMut(CapturedFrame<'_>),
    ) -> Result<usize, CaptureError> {
        let link_type = self.link_type;
        let mut count = 0;
        if limit > 0
            && let Some(frame) = self.pending.take()
        {
            each(CapturedFrame {
                data: &frame.bytes,
                wire_len: frame.wire_len,
                link_type,
                captured_at_nanos: frame.captured_at_nanos,
            });
            count = 1;
        }
        let deliver = |packet: pcap::Packet<'_>| {
            each(CapturedFrame {
                data: packet.data,
                wire_len: packet.header.len as usize,
                link_type,
                captured_at_nanos: nanos_of(packet.header),
            });
        };
        // More than a C int of frames is never there at once.
        let rest = (limit - count).min(1 << 30);
        match self.capture.dispatch(Some(rest), deliver) {
            Ok(delivered) => Ok(count + delivered),
            Err(pcap::Error::NoMorePackets | pcap::Error::TimeoutExpired) => Ok(count),
            // The interface went down; it may come back, and the handle works on.
            Err(pcap::Error::PcapError(text)) if text.contains("went down") => {
                tracing::warn!("capture on {}: {text}", self.device);
                Ok(count)
            }
            Err(source) => Err(CaptureError::Pcap { action: "go on", device: self.device.clone(), source }),
        }
    }

    fn wait_fds(&self) -> Vec<RawFd> {
        vec![self.capture.as_raw_fd()]
    }

    fn prepare_wait(&mut self) -> Readiness {
        if self.pending.is_some() {
            return Readiness::DataPending;
        }
        // libpcap may hold packets of a block it has begun, for which the descriptor isn't readable.
        match self.capture.next_packet() {
            Ok(packet) => {
                self.pending = Some(Pending {
                    bytes: packet.data.to_vec(),
                    wire_len: packet.header.len as usize,
                    captured_at_nanos: nanos_of(packet.header),
                });
                Readiness::DataPending
            }
            // Errors that last are reported by the next `drain`.
            Err(_) => Readiness::Idle,
        }
    }

    fn statistics(&mut self) -> CaptureStatistics {
        if let Ok(now) = self.capture.stats() {
            let seen = u64::from(now.received.wrapping_sub(self.last.0));
            let dropped = u64::from(now.dropped.wrapping_sub(self.last.1));
            self.last = (now.received, now.dropped);
            // On Linux, ps_recv counts the dropped ones as well.
            self.statistics.merge(CaptureStatistics { received: seen.saturating_sub(dropped), dropped });
        }
        self.statistics
    }

    fn fill_ratio(&self) -> f32 {
        // libpcap doesn't tell.
        0.0
    }
}
