//! Packets as lines, in the manner of tcpdump.

use std::fmt::Write;
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpSegment};

/// What a run prints; nothing is kept unless asked for.
#[derive(Debug, Default)]
pub struct Trace {
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that keeps its lines, or one that costs nothing.
    pub const fn new(keep: Keep) -> Self {
        let lines = match keep {
            Keep::Lines => Some(Vec::new()),
            Keep::Nothing => None,
        };
        Self { lines }
    }

    /// Notes a packet: when (in nanoseconds of the run), where it was seen, and its bytes from the IP header on.
    pub fn packet(&mut self, at: u64, place: &str, bytes: &[u8], wire_len: usize) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{} {place:9} {}", clock(at), describe(bytes, wire_len)));
        }
    }

    /// Notes what is no packet; `text` is called only when lines are kept.
    pub fn note(&mut self, at: u64, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{} {}", clock(at), text()));
        }
    }

    /// The lines kept.
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}

/// Whether a trace keeps its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    Lines,
    /// None.
    Nothing,
}

fn clock(nanos: u64) -> String {
    format!("{:4}.{:06}", nanos / 1_000_000_000, nanos % 1_000_000_000 / 1000)
}

fn describe(bytes: &[u8], wire_len: usize) -> String {
    let Ok(packet) = IpPacket::parse(bytes, wire_len) else {
        return format!("no IP packet, {wire_len} bytes");
    };
    let Ok(segment) = TcpSegment::parse(packet.payload, packet.payload_len) else {
        return format!("no TCP segment, {wire_len} bytes");
    };
    let mut line = format!(
        "{}.{} > {}.{}: Flags {:?}, seq {:?}",
        packet.source,
        segment.source_port,
        packet.destination,
        segment.destination_port,
        segment.flags,
        segment.seq
    );
    if segment.payload_len > 0 {
        let _ = write!(line, ":{:?}", segment.seq + segment.payload_len as u32);
    }
    if segment.flags.contains(TcpFlags::ACK) {
        let _ = write!(line, ", ack {:?}", segment.ack);
    }
    let _ = write!(line, ", win {}", segment.window);
    for (start, end) in segment.options.sack.as_slice() {
        let _ = write!(line, ", sack {start:?}:{end:?}");
    }
    if let Some(mss) = segment.options.mss {
        let _ = write!(line, ", mss {mss}");
    }
    if let Some(scale) = segment.options.window_scale {
        let _ = write!(line, ", wscale {scale}");
    }
    if let Some(stamps) = segment.options.timestamps {
        let _ = write!(line, ", TS {} {}", stamps.value, stamps.echo);
    }
    let _ = write!(line, ", length {}", segment.payload_len);
    line
}
