//! `tcpcopy record`.

use super::CommandError;
use crate::failure::{HintExt, UsageError, failure};
use crate::report::size;
use crate::settings::{decap, with_tunnels};
use crate::transfer;
use clap::Args;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tcpcopy_capture_file::{Frame, RecordError, RotateOptions, RotatingWriter};
use tcpcopy_engine::time::Instant;
use tcpcopy_net::clock;
use tcpcopy_net::filter::{Filter, FilterLink, Streams, capture_expression, incoming, with_references};
use tcpcopy_net::poll::{Events, Interest, Poller};
use tcpcopy_net::ring::{Direction, RingCapture, RingOptions};
use tcpcopy_net::signals::{SIGHUP, SIGINT, SIGTERM, Signals};
use tcpcopy_net::source::{CaptureStatistics, PacketSource, Readiness};

const CAPTURE_TOKEN: u64 = 0;
const SIGNAL_TOKEN: u64 = 1;
/// Frames taken from the ring between two looks at signals and the clock.
const BATCH: usize = 1024;
/// How often what was gathered is written, so that a reader of the growing file sees it.
const FLUSH_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes kept of each packet when nothing else is asked for: what GRO and TSO make of segments, and link headers.
const WHOLE_PACKET: usize = 65_535 + 64;
const MEGABYTE: u64 = 1 << 20;
/// Exit code of a recording that is not whole.
const LOST: u8 = 3;

#[derive(Args, Debug)]
pub(super) struct RecordArgs {
    /// What to record: `[onlineIP:]onlinePort`, several separated by commas
    ///
    /// Entries may be as -x of a replay has them (`80-10.0.0.2:8080`); the target is not looked at.
    #[arg(short = 'x', long = "transfer", value_name = "PORT,…", required = true)]
    transfers: Vec<String>,

    /// File to write; its name says the format and the compression
    ///
    /// `.pcap` or `.pcapng` (the default), either with `.gz` or `.zst` behind it. With one of the --rotate options or --keep, files
    /// get numbers: `web.pcap` becomes `web-00001.pcap`.
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    file: PathBuf,

    /// Record what the online server sends, too
    ///
    /// A replay needs the clients' side alone, unless a plugin learns from the online server's answers (MySQL with prepared
    /// statements, HTTP with cookies). Takes several times the room.
    #[arg(long)]
    both: bool,

    /// Network interfaces to capture on [default: all]
    #[arg(short = 'i', long = "interface", value_name = "DEVICE,…", value_delimiter = ',')]
    interfaces: Vec<String>,

    /// Capture filter in pcap syntax, instead of the one made from -x
    #[arg(short = 'F', long = "filter", value_name = "FILTER")]
    filter: Option<String>,

    /// Record tunnels, too: vxlan, geneve, gre, erspan
    #[arg(long, value_name = "TUNNEL,…")]
    decap: Vec<String>,

    /// Capture buffer, in megabytes
    #[arg(short = 'B', long = "buffer", value_name = "MB", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=2047))]
    buffer: u32,

    /// Begin a new file before one is larger than so many megabytes, before compression
    #[arg(long = "rotate-size", value_name = "MB", value_parser = clap::value_parser!(u64).range(1..))]
    rotate_size: Option<u64>,

    /// Begin a new file after so many seconds
    #[arg(long = "rotate-time", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    rotate_time: Option<u64>,

    /// Keep so many files, and remove the oldest beyond
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    keep: Option<u16>,

    /// Stop after so many seconds [default: run until stopped]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    duration: Option<u64>,
}

pub(super) fn run(args: &RecordArgs) -> Result<ExitCode, CommandError> {
    let expression = expression(args)?;
    let signals = Signals::new(&[SIGINT, SIGTERM, SIGHUP])
        .hint("can't watch for signals", "the process may be out of descriptors: see ulimit -n")?;
    let mut ring = open(args, &expression)?;
    let options = RotateOptions {
        max_bytes: args.rotate_size.map(|megabytes| megabytes * MEGABYTE),
        max_age: args.rotate_time.map(Duration::from_secs),
        max_files: args.keep.map(usize::from),
        ..RotateOptions::new(&args.file)
    };
    let writer = RotatingWriter::new(options).map_err(refused)?;
    eprintln!("recording to {}; Ctrl-C ends", writer.path().display());
    let end = args.duration.map(|seconds| clock::monotonic() + Duration::from_secs(seconds));
    let recorded = record(&mut ring, writer, &signals, end)?;
    print!("{recorded}");
    Ok(if recorded.kernel.dropped == 0 { ExitCode::SUCCESS } else { ExitCode::from(LOST) })
}

/// What was recorded.
struct Recorded {
    kernel: CaptureStatistics,
    frames: u64,
    bytes: u64,
    files: Vec<PathBuf>,
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "recorded {} packets, {}, in:", self.frames, size(self.bytes))?;
        for file in &self.files {
            writeln!(f, "  {}", file.display())?;
        }
        if self.kernel.dropped > 0 {
            let all = self.kernel.received + self.kernel.dropped;
            writeln!(
                f,
                "{} of {all} packets were lost: the buffer was full; enlarge it with -B",
                self.kernel.dropped
            )?;
        }
        Ok(())
    }
}

fn record(
    ring: &mut RingCapture,
    mut writer: RotatingWriter,
    signals: &Signals,
    end: Option<Instant>,
) -> Result<Recorded, CommandError> {
    use std::os::fd::AsRawFd;
    let waiting = "waiting for packets failed";
    let mut poller = Poller::new().hint(waiting, "see ulimit -n")?;
    for fd in ring.wait_fds() {
        poller.add(fd, CAPTURE_TOKEN, Interest::Readable).hint(waiting, "see ulimit -n")?;
    }
    poller.add(signals.as_raw_fd(), SIGNAL_TOKEN, Interest::Readable).hint(waiting, "see ulimit -n")?;
    let mut events = Events::with_capacity(8);
    let (mut frames, mut bytes) = (0, 0);
    let mut flush_at = clock::monotonic() + FLUSH_INTERVAL;
    loop {
        let taken = take(ring, &mut writer, &mut frames, &mut bytes)?;
        let now = clock::monotonic();
        if now >= flush_at {
            flush_at = now + FLUSH_INTERVAL;
            writer.flush().map_err(refused)?;
        }
        let is_over = signals.take().ok().flatten().is_some() || end.is_some_and(|end| end <= now);
        if is_over {
            // What the ring holds was captured before the end.
            while take(ring, &mut writer, &mut frames, &mut bytes)? == BATCH {}
            break;
        }
        if taken == BATCH || ring.prepare_wait() == Readiness::DataPending {
            continue;
        }
        let until = end.map_or(flush_at, |end| end.min(flush_at));
        poller.wait(Some(until.saturating_since(now)), &mut events).hint(waiting, "try again")?;
    }
    let files = writer.finish().map_err(refused)?;
    Ok(Recorded { kernel: ring.statistics(), frames, bytes, files })
}

/// Writes what is in the ring, up to a batch.
fn take(
    ring: &mut RingCapture,
    writer: &mut RotatingWriter,
    frames: &mut u64,
    bytes: &mut u64,
) -> Result<usize, CommandError> {
    let mut failed: Option<RecordError> = None;
    let taken = ring
        .drain(BATCH, &mut |frame| {
            if failed.is_some() {
                return;
            }
            *frames += 1;
            *bytes += frame.data.len() as u64;
            let frame = Frame {
                data: frame.data,
                wire_len: frame.wire_len,
                link_type: frame.link_type,
                captured_at_nanos: frame.captured_at_nanos,
            };
            failed = writer.write(&frame).err();
        })
        .hint("the capture failed", "is the interface still there? ip link")?;
    match failed {
        Some(error) => Err(refused(error)),
        None => Ok(taken),
    }
}

fn refused(error: RecordError) -> CommandError {
    let hint = error.hint();
    let causes: Vec<String> = anyhow::Error::new(error).chain().map(ToString::to_string).collect();
    CommandError::Run(failure(format!("can't record: {}", causes.join(": ")), hint))
}

fn expression(args: &RecordArgs) -> Result<String, UsageError> {
    let list = args.transfers.join(",");
    let mut endpoints = Vec::new();
    for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        endpoints.push(endpoint(entry)?);
    }
    if endpoints.is_empty() {
        return Err(UsageError::new("-x: nothing says what to record", "-x 80 records port 80 of this host"));
    }
    if let Some(given) = &args.filter {
        return Ok(given.clone());
    }
    let requests = capture_expression(&endpoints, Streams::Requests, None);
    let requests = if args.both {
        let answers: Vec<String> = endpoints.iter().map(|(addr, port)| answers_of(*addr, *port)).collect();
        // What this host sends to such a port as a client of others is none of its own clients' traffic.
        with_references(&incoming(&requests), &answers.join(" or "))
    } else {
        requests
    };
    Ok(with_tunnels(requests, decap(&args.decap)?))
}

/// What the online server at this address and port sends.
fn answers_of(addr: Option<IpAddr>, port: u16) -> String {
    match addr {
        Some(addr) => format!("(tcp and src host {addr} and src port {port})"),
        None => format!("(tcp and src port {port})"),
    }
}

/// Reads `80`, `10.0.0.1:80`, `[fd00::1]:80`, each perhaps with `-target` behind it.
fn endpoint(entry: &str) -> Result<(Option<IpAddr>, u16), UsageError> {
    // With a target of the right family, an entry of -x is what it is completed to.
    let completed = if entry.contains('-') {
        entry.to_owned()
    } else if entry.contains('[') {
        format!("{entry}-[::2]:1")
    } else {
        format!("{entry}-192.0.2.1:1")
    };
    let parsed = transfer::parse(&completed).ok().and_then(|transfers| transfers.first().copied());
    let transfer = parsed.ok_or_else(|| {
        UsageError::new(
            format!("-x {entry:?}: expected a port, or address:port"),
            "-x 80, -x 10.0.0.1:80, -x '[fd00::1]:80', several separated by commas",
        )
    })?;
    Ok((transfer.online_addr, transfer.online_port))
}

fn open(args: &RecordArgs, expression: &str) -> Result<RingCapture, CommandError> {
    let interfaces: Vec<String> = args.interfaces.iter().filter(|name| *name != "any").cloned().collect();
    let link = if interfaces.is_empty() { FilterLink::Raw } else { FilterLink::Ethernet };
    let filter = Filter::compile(expression, link, WHOLE_PACKET as u32).map_err(|error| {
        let hint = error.hint();
        failure(error.to_string(), hint)
    })?;
    let options = RingOptions {
        interfaces,
        ring_bytes: (u64::from(args.buffer) * MEGABYTE) as usize,
        snap_len: WHOLE_PACKET,
        direction: if args.both { Direction::Both } else { Direction::Incoming },
        ..RingOptions::new(filter)
    };
    RingCapture::open(&options).map_err(|error| {
        let hint = error.hint().unwrap_or_else(|| "tcpdump -D lists what can be captured on".to_owned());
        CommandError::Run(failure(format!("can't capture: {error}"), hint))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_need_no_target() {
        assert_eq!(endpoint("80").unwrap(), (None, 80));
        assert_eq!(endpoint("10.0.0.1:80").unwrap(), (Some([10, 0, 0, 1].into()), 80));
        assert_eq!(endpoint("[fd00::1]:80").unwrap().1, 80);
        assert_eq!(endpoint("80-10.0.0.2:8080").unwrap(), (None, 80));
        assert!(endpoint("http").is_err());
    }
}
