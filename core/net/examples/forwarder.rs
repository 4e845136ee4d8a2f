//! The floor of the benchmarks: what it costs to capture the packets of clients and to send them on, and nothing else.
//!
//! Same ring, same filter, same sink and same rests between turns as `tcpcopy`, but no sessions: the target's address goes
//! into each captured packet, checksums are made anew, and the packet is sent. No connection comes of it; the target resets
//! them all, and the resets go where its replies go. `cargo xtask bench` runs it.
//!
//! It says when it is ready, ends after `--seconds` or by SIGTERM or SIGINT, and then writes one line of JSON.

use std::collections::VecDeque;
use std::error::Error;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Duration;
use tcpcopy_engine::batch::PacketBatch;
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_engine::time::Instant;
use tcpcopy_engine::wire::checksum::{self, Checksum};
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::link;
use tcpcopy_net::filter::{Filter, FilterLink, Streams, capture_expression};
use tcpcopy_net::pace::Pace;
use tcpcopy_net::poll::{self, Events, Interest, Poller};
use tcpcopy_net::raw_socket::{RawSocketSink, path_mtu};
use tcpcopy_net::ring::{RingCapture, RingOptions};
use tcpcopy_net::signals::{SIGINT, SIGTERM, Signals};
use tcpcopy_net::sink::{PacketSink, SendFailure};
use tcpcopy_net::source::{CapturedFrame, PacketSource, Readiness};
use tcpcopy_net::{clock, process};

// As in the worker of tcpcopy: a floor with other rests would be another program's.
const LONGEST_NAP: Duration = Duration::from_micros(80);
const LONGEST_SLEEP: Duration = Duration::from_millis(250);
const SIGNAL_INTERVAL: Duration = Duration::from_millis(20);
const CAPTURE_BATCH: usize = 512;
const SEND_BATCH: usize = 256;
const RING_PRESSURE: f32 = 0.25;
const SNAP_LEN: usize = 65_535 + 64;

const TCP: u8 = 6;
const TCP_HEADER: usize = 20;
/// FIN and PSH, which belong to the last piece of a packet that is cut.
const LAST_ONLY: u8 = 0x01 | 0x08;

const USAGE: &str = "usage: forwarder -x PORT-TARGET:PORT [--seconds N] [--ring MIB]";

struct Options {
    online_port: u16,
    target: Endpoint,
    seconds: Option<u64>,
    ring_bytes: Option<usize>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let (mut transfer, mut seconds, mut ring_bytes) = (None, None, None);
        while let Some(word) = words.next() {
            match word.as_str() {
                "-x" => transfer = Some(words.next()?),
                "--seconds" => seconds = Some(words.next()?.parse().ok()?),
                "--ring" => ring_bytes = Some(words.next()?.parse::<usize>().ok()?.checked_mul(1 << 20)?),
                _ => return None,
            }
        }
        let transfer = transfer?;
        let (online_port, target) = transfer.split_once('-')?;
        let (addr, port) = target.rsplit_once(':')?;
        let addr: IpAddr = addr.trim_matches(['[', ']']).parse().ok()?;
        let target = Endpoint::new(addr, port.parse().ok()?);
        Some(Self { online_port: online_port.parse().ok()?, target, seconds, ring_bytes })
    }
}

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let signals = Signals::new(&[SIGINT, SIGTERM])?;
    let _ = poll::set_timer_slack(Duration::from_micros(1));
    let expression = capture_expression(&[(None, options.online_port)], Streams::Requests, None);
    let filter = Filter::compile(&expression, FilterLink::Raw, SNAP_LEN as u32)?;
    let mut ring = RingOptions { snap_len: SNAP_LEN, ..RingOptions::new(filter) };
    ring.ring_bytes = options.ring_bytes.unwrap_or(ring.ring_bytes);
    let mut source = RingCapture::open(&ring)?;
    let mut sink = RawSocketSink::open()?;
    let mut forwarder = Forwarder::new(options.target)?;

    let mut poller = Poller::new()?;
    let mut events = Events::with_capacity(8);
    for fd in source.wait_fds() {
        poller.add(fd, 0, Interest::Readable)?;
    }
    poller.add(signals.as_raw_fd(), 1, Interest::Readable)?;

    println!("forwarding port {} to {}", options.online_port, options.target);
    let started = clock::monotonic();
    let end = options.seconds.map(|seconds| started + Duration::from_secs(seconds));
    let (mut pace, mut next_signal_check) = (Pace::new(LONGEST_NAP), Instant::ZERO);
    loop {
        let now = clock::monotonic();
        let captured = source.drain(CAPTURE_BATCH, &mut |frame| forwarder.take(frame))?;
        // What waits is kept here rather than in the ring, where it would be lost.
        let under_pressure = captured == CAPTURE_BATCH && source.fill_ratio() > RING_PRESSURE;
        if !under_pressure {
            forwarder.send(&mut sink);
        }
        if now >= next_signal_check {
            next_signal_check = now + SIGNAL_INTERVAL;
            if signals.take()?.is_some() || end.is_some_and(|end| end <= now) {
                break;
            }
        }
        pace.note(captured, now);
        if captured == CAPTURE_BATCH || forwarder.has_backlog() {
            continue;
        }
        if let Some(nap) = pace.nap(clock::monotonic()) {
            std::thread::sleep(nap);
        } else if source.prepare_wait() == Readiness::Idle {
            poller.wait(Some(LONGEST_SLEEP), &mut events)?;
            if !events.is_empty() {
                // Whether it was a signal is seen in the next turn.
                next_signal_check = now;
            }
        }
    }
    print_totals(&forwarder, &mut source, clock::monotonic().saturating_since(started));
    Ok(())
}

fn print_totals(forwarder: &Forwarder, source: &mut RingCapture, elapsed: Duration) {
    let (usage, capture) = (process::usage(), source.statistics());
    println!(
        "{{\"captured\":{},\"kernel_dropped\":{},\"unusable\":{},\"packets\":{},\"bytes\":{},\"batches\":{},\
         \"send_failures\":{},\"seconds\":{:.3},\"cpu_user_seconds\":{:.6},\"cpu_system_seconds\":{:.6},\
         \"peak_memory_bytes\":{}}}",
        capture.received,
        capture.dropped,
        forwarder.unusable,
        forwarder.packets,
        forwarder.bytes,
        forwarder.batches,
        forwarder.failed,
        elapsed.as_secs_f64(),
        usage.cpu_user.as_secs_f64(),
        usage.cpu_system.as_secs_f64(),
        usage.peak_rss_bytes,
    );
}

/// Captured packets on their way to the target, and their counts.
struct Forwarder {
    target: Endpoint,
    mtu: usize,
    /// What is to be sent, [`SEND_BATCH`] packets or a few more in each.
    waiting: VecDeque<PacketBatch>,
    /// Empty batches, to be used again.
    spare: Vec<PacketBatch>,
    failures: Vec<SendFailure>,
    unusable: u64,
    packets: u64,
    bytes: u64,
    batches: u64,
    failed: u64,
}

impl Forwarder {
    fn new(target: Endpoint) -> std::io::Result<Self> {
        Ok(Self {
            target,
            mtu: path_mtu(target.addr)? as usize,
            waiting: VecDeque::new(),
            spare: Vec::new(),
            failures: Vec::new(),
            unusable: 0,
            packets: 0,
            bytes: 0,
            batches: 0,
            failed: 0,
        })
    }

    fn take(&mut self, frame: CapturedFrame<'_>) {
        if self.rewrite(frame).is_none() {
            self.unusable += 1;
        }
    }

    /// Puts one captured packet into the batch, in pieces of the MTU if GRO had made one packet of several.
    fn rewrite(&mut self, frame: CapturedFrame<'_>) -> Option<()> {
        let (packet, wire_len) = link::ip_packet(frame.link_type, frame.data, frame.wire_len).ok()?;
        let ip = IpPacket::parse(packet, wire_len).ok()?;
        let of_one_family = ip.source.is_ipv4() == self.target.addr.is_ipv4();
        if ip.protocol != TCP || ip.fragment.is_some() || !of_one_family {
            return None;
        }
        let tcp_header = usize::from(*ip.payload.get(12)? >> 4) * 4;
        if tcp_header < TCP_HEADER {
            return None;
        }
        let headers = packet.get(..ip.header_len + tcp_header)?;
        let payload = ip.payload.get(tcp_header..)?;
        let room = self.mtu.checked_sub(headers.len()).filter(|room| *room > 0)?;
        if self.waiting.back().is_none_or(|batch| batch.len() >= SEND_BATCH) {
            self.waiting.push_back(self.spare.pop().unwrap_or_default());
        }
        let batch = self.waiting.back_mut()?;
        let mut at = 0;
        loop {
            let piece = &payload[at..payload.len().min(at + room)];
            let is_last = at + piece.len() == payload.len();
            let target = self.target;
            batch.push(target, 0, 0, |out| {
                let start = out.len();
                out.extend_from_slice(headers);
                out.extend_from_slice(piece);
                readdress(&mut out[start..], ip.header_len, target, at as u32, is_last);
            });
            at += piece.len();
            if is_last {
                return Some(());
            }
        }
    }

    fn send(&mut self, sink: &mut RawSocketSink) {
        let Some(mut batch) = self.waiting.pop_front() else { return };
        self.failures.clear();
        sink.send(&batch, &mut self.failures);
        self.packets += batch.len() as u64;
        self.bytes += batch.bytes().len() as u64;
        self.batches += 1;
        self.failed += self.failures.len() as u64;
        batch.clear();
        self.spare.push(batch);
    }

    fn has_backlog(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// Makes `packet`, whose TCP header starts at `ip_header`, one for `target`, `ahead` bytes behind the captured sequence number.
fn readdress(packet: &mut [u8], ip_header: usize, target: Endpoint, ahead: u32, is_last: bool) {
    let total = packet.len();
    let (ip, tcp) = packet.split_at_mut(ip_header);
    let mut sum = Checksum::new();
    sum.add(&(tcp.len() as u32).to_be_bytes());
    sum.add_u16(u16::from(TCP));
    match target.addr {
        IpAddr::V4(addr) => {
            ip[2..4].copy_from_slice(&(total as u16).to_be_bytes());
            ip[16..20].copy_from_slice(&addr.octets());
            ip[10..12].fill(0);
            let header_sum = checksum::of(ip);
            ip[10..12].copy_from_slice(&header_sum.to_be_bytes());
            sum.add(&ip[12..20]);
        }
        IpAddr::V6(addr) => {
            ip[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
            ip[24..40].copy_from_slice(&addr.octets());
            sum.add(&ip[8..40]);
        }
    }
    tcp[2..4].copy_from_slice(&target.port.to_be_bytes());
    if let [a, b, c, d] = tcp[4..8] {
        let sequence = u32::from_be_bytes([a, b, c, d]).wrapping_add(ahead);
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    }
    if !is_last {
        tcp[13] &= !LAST_ONLY;
    }
    tcp[16..18].fill(0);
    sum.add(tcp);
    let tcp_sum = sum.finish();
    tcp[16..18].copy_from_slice(&tcp_sum.to_be_bytes());
}
