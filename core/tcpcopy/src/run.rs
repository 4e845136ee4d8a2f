//! A run from start to end: opening everything, the workers, orders and reports.
//!
//! The first worker runs on the main thread, which also takes signals and writes reports; with one worker there is no other
//! thread. Other workers publish their numbers a few times a second.

use crate::failure::{HintExt, failure};
use crate::modules::Modules;
use crate::offline::{Feed, Verdict, lost_requests};
use crate::progress::{On, Progress, ProgressState};
use crate::report::{Histogram, Lines, RelayStatus, RemoteStatus, Reporter, Snapshot};
use crate::settings::{
    CaptureFilter, CaptureMethod, Growth, InjectionMethod, Joining, Pacing, RelayAtStart, Settings, Waiting,
};
use crate::worker::{FIRST_RELAY_TOKEN, Intake, Worker, WorkerReport};
use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tcpcopy_engine::config::{CaptureClock, MidStreamPolicy, Pace};
use tcpcopy_engine::protocol::{TransparentFactory, WaitPolicy};
use tcpcopy_engine::sampling::SamplingRamp;
use tcpcopy_engine::time::Instant;
use tcpcopy_engine::{Engine, EngineConfig};
use tcpcopy_net::filter::{Filter, FilterLink, Streams};
use tcpcopy_net::link_layer::{LinkSink, LinkTarget};
use tcpcopy_net::pcap_capture::{Delivery, PcapCapture, PcapOptions};
use tcpcopy_net::raw_socket::{RawSocketSink, path_mtu};
use tcpcopy_net::ring::{Direction, Fanout, FanoutKey, RingCapture, RingOptions};
use tcpcopy_net::signals::{SIGHUP, SIGINT, SIGTERM, Signals};
use tcpcopy_net::sink::PacketSink;
use tcpcopy_net::source::{CaptureError, PacketSource};
use tcpcopy_net::{clock, poll, process, signals};
use tcpcopy_relay::{RelayClients, RelayOptions};

/// How long the first relay connection may take before the run is given up.
const RELAY_PATIENCE: Duration = Duration::from_secs(5);
/// How often workers beside the first publish their numbers.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);
/// After the session timeout, sessions that are overdue end by themselves, each for its own reason.
const GRACE: Duration = Duration::from_secs(1);
/// How often the progress bar is drawn.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// How often a worker that never sleeps looks for signals.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(20);
/// Packets of a ring slot when nothing else is asked for: what GRO and TSO make of segments.
const WHOLE_PACKET: usize = 65_535 + 64;
const MAX_SNAPSHOT: usize = 512 << 10;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The state at the end.
    pub snapshot: Snapshot,
    /// Whether a replay of capture files has done all that it was to do; none where traffic was live.
    pub verdict: Option<Verdict>,
}

/// What all workers are told.
const REPLAY: u8 = 0;
const DRAIN: u8 = 1;
const STOP: u8 = 2;

#[derive(Default)]
struct Board {
    order: AtomicU8,
    reports: Vec<Mutex<WorkerReport>>,
    /// Workers beside the first that still deliver.
    busy: Vec<AtomicU8>,
}

/// The signals that end a replay, from now on for [`run`] to read. To be called before any thread is started.
///
/// # Errors
/// The process has no descriptors left.
pub fn watch_signals() -> anyhow::Result<Signals> {
    Signals::new(&[SIGINT, SIGTERM, SIGHUP])
        .hint("can't watch for signals", "the process may be out of descriptors: see ulimit -n")
}

/// Replays until one of `signals`, `--duration`, or a failure ends it.
///
/// # Errors
/// A relay, capture or socket that can't be opened at the start, with what to do about it; a capture that fails later.
pub fn run(settings: Settings, modules: &Modules, signals: &Signals) -> anyhow::Result<Outcome> {
    signals::ignore_broken_pipe();
    // Naps of 50 µs are of no use if the kernel adds as much to each.
    let _ = poll::set_timer_slack(Duration::from_micros(1));
    raise_priority(settings.process.nice);
    let mut reporter =
        Reporter::new(&settings).hint("can't open the log file", "-l needs a file that can be written")?;

    let count = settings.process.workers.get();
    let mut instance = [0; 16];
    getrandom::fill(&mut instance)
        .map_err(|error| failure(format!("no random numbers: {error}"), "is getrandom(2) blocked here?"))?;
    let mut workers = open_workers(&settings, modules, count, instance, signals)?;
    let mut first = workers.remove(0);
    await_relay(&mut first, &settings)?;
    first.start();

    let board = Arc::new(Board {
        order: AtomicU8::new(REPLAY),
        reports: (0..count).map(|_| Mutex::default()).collect(),
        busy: (0..count).map(|_| AtomicU8::new(1)).collect(),
    });
    let mut threads = Vec::new();
    for (index, mut worker) in workers.into_iter().enumerate() {
        let board = Arc::clone(&board);
        let spawned = std::thread::Builder::new()
            .name(format!("worker-{}", index + 1))
            .spawn(move || side_worker(&mut worker, index + 1, &board));
        threads.push(spawned.hint("can't start a thread", "the system may be at its limit of threads")?);
    }
    let started = clock::monotonic();
    let result =
        Main { settings: &settings, modules, signals, board: &board, started }.run(&mut first, &mut reporter);
    board.order.store(STOP, Ordering::Release);
    for thread in threads {
        if let Ok(ended) = thread.join() {
            ended?;
        }
    }
    first.shut_down();
    result?;
    let main = Main { settings: &settings, modules, signals, board: &board, started };
    let snapshot = main.snapshot(&mut first);
    if let Err(error) = reporter.finish(&snapshot, &settings) {
        tracing::error!("can't write the closing report: {error}");
    }
    if let Some(reason) = modules.must_exit() {
        return Err(failure(
            reason,
            "tcpcopy plugin check runs a plugin over a capture file; --on-plugin-error pass goes on without the plugin",
        ));
    }
    if let Some((what, hint)) = first.take_reading_failure() {
        return Err(failure(format!("the replay ended before the capture: {what}"), hint));
    }
    let allow_loss = settings.offline.as_ref().and_then(|offline| offline.allow_loss);
    let verdict =
        snapshot.offline.as_ref().map(|status| Verdict::new(&snapshot.counters, status, allow_loss));
    Ok(Outcome { snapshot, verdict })
}

/// Asks for the processor before others: a ring that is not emptied in time loses packets for good.
fn raise_priority(nice: i8) {
    if nice == 0 {
        return;
    }
    if let Err(error) = process::set_priority(nice) {
        tracing::info!("priority stays as it is: nice {nice}: {error}");
    }
}

struct Main<'a> {
    settings: &'a Settings,
    modules: &'a Modules,
    signals: &'a Signals,
    board: &'a Board,
    started: Instant,
}

impl Main<'_> {
    /// Runs the first worker until the end.
    fn run(&self, worker: &mut Worker, reporter: &mut Reporter) -> anyhow::Result<()> {
        let settings = self.settings;
        let interval = settings.output.stats_interval;
        let mut next_report = interval.map(|interval| self.started + interval);
        let end = settings.limits.duration.map(|duration| self.started + duration);
        let mut stop_at = None;
        let mut patience_until = None;
        let mut next_signal_check = self.started;
        let mut watch = self.watch(reporter);
        loop {
            let now = clock::monotonic();
            let until = [next_report, end, stop_at, watch.due()].into_iter().flatten().min();
            worker.turn(until.unwrap_or(now + Duration::from_secs(1)))?;
            let now = clock::monotonic();
            if next_report.is_some_and(|at| at <= now) {
                next_report = interval.map(|interval| now + interval);
                let snapshot = self.snapshot(worker);
                if let Err(error) = watch.progress.suspend(|| reporter.interval(&snapshot, settings)) {
                    tracing::error!("can't write statistics: {error}");
                }
            }
            if watch.due().is_some_and(|at| at <= now) {
                watch.show(&self.snapshot(worker), now);
            }
            let mut signalled = false;
            if worker.take_caller_ready() || now >= next_signal_check {
                next_signal_check = now + SIGNAL_INTERVAL;
                signalled = self.signals.take().ok().flatten().is_some();
            }
            if self.modules.must_exit().is_some() {
                // Nothing more is to be sent without the plugin.
                return Ok(());
            }
            if stop_at.is_none() && (signalled || end.is_some_and(|at| at <= now)) {
                self.board.order.store(DRAIN, Ordering::Release);
                worker.drain()?;
                stop_at = Some(now + settings.limits.drain);
                next_report = None;
            } else if signalled {
                // Asked twice: now.
                stop_at = Some(now);
            }
            if stop_at.is_none() && worker.capture_has_ended() {
                let until = *patience_until.get_or_insert(now + settings.limits.session_timeout + GRACE);
                if worker.is_finished() || until <= now {
                    return Ok(());
                }
            }
            if let Some(at) = stop_at {
                let others = self.board.busy.iter().skip(1).all(|busy| busy.load(Ordering::Acquire) == 0);
                if at <= now || (worker.is_idle() && others) {
                    return Ok(());
                }
            }
        }
    }

    /// The progress bar, where there is a use for one.
    fn watch(&self, reporter: &mut Reporter) -> Watch {
        let output = &self.settings.output;
        let is_wanted = self.settings.offline.is_some() && output.log_file.is_none();
        let on = if is_wanted { On::standard_error() } else { On::Plain };
        let progress = Progress::start(on);
        if progress.is_shown() {
            reporter.set_lines(Lines::LeftOut);
        }
        Watch { progress, next: self.started, requests: 0, lag: Histogram::new(), shown_at: self.started }
    }

    fn snapshot(&self, first: &mut Worker) -> Snapshot {
        let mut reports = vec![first.report()];
        for slot in self.board.reports.iter().skip(1) {
            reports.push(slot.lock().unwrap_or_else(PoisonError::into_inner).clone());
        }
        let usage = process::usage();
        let mut snapshot = Snapshot {
            elapsed: clock::monotonic().saturating_since(self.started),
            workers: reports.len(),
            modules: self.modules.statuses(),
            cpu_user: usage.cpu_user,
            cpu_system: usage.cpu_system,
            rss_bytes: usage.rss_bytes,
            peak_rss_bytes: usage.peak_rss_bytes,
            ..Snapshot::default()
        };
        for report in &reports {
            snapshot.counters.merge(&report.counters);
            snapshot.kernel_received += report.capture.received + report.capture.dropped;
            snapshot.kernel_dropped += report.capture.dropped;
            snapshot.offline = report.offline.clone().or(snapshot.offline);
            snapshot.delay.merge(&report.delay);
            snapshot.relay_delay.merge(&report.relay_delay);
            for (errno, count) in &report.send_errors {
                *snapshot.send_errors.entry(*errno).or_insert(0) += count;
            }
            add_relay(&mut snapshot.relay, report);
        }
        snapshot
    }
}

/// The progress bar, and what it showed last.
struct Watch {
    progress: Progress,
    next: Instant,
    requests: u64,
    lag: Histogram,
    shown_at: Instant,
}

impl Watch {
    /// When it is to be drawn anew; never where there is none.
    fn due(&self) -> Option<Instant> {
        self.progress.is_shown().then_some(self.next)
    }

    fn show(&mut self, snapshot: &Snapshot, now: Instant) {
        let Some(offline) = &snapshot.offline else { return };
        let c = &snapshot.counters;
        let seconds = now.saturating_since(self.shown_at).as_secs_f64();
        let lag = offline.lag.since(&self.lag);
        let all = offline.bytes_total.map(|total| total.saturating_mul(u64::from(offline.passes)));
        self.progress.update(&ProgressState {
            position: all.map(|all| (offline.bytes_read, all)),
            captured: offline.captured_span,
            sessions: c.sessions_live,
            requests_per_second: if seconds > 0.0 {
                (c.requests_sent - self.requests) as f64 / seconds
            } else {
                0.0
            },
            lag: (lag.count() > 0).then(|| lag.quantile(0.99)),
            lost: lost_requests(c) - c.requests_waiting,
        });
        (self.requests, self.shown_at, self.next) = (c.requests_sent, now, now + PROGRESS_INTERVAL);
        self.lag = offline.lag.clone();
    }
}

fn add_relay(all: &mut Vec<RelayStatus>, report: &WorkerReport) {
    if all.is_empty() {
        all.resize(report.relay.len(), RelayStatus::default());
    }
    for ((status, server), facts) in all.iter_mut().zip(&report.relay).zip(&report.facts) {
        status.address.clone_from(&server.server);
        status.wanted += server.connections as u32;
        status.connected += server.connected as u32;
        status.reconnects += server.reconnects;
        status.round_trip = status.round_trip.max(server.round_trip);
        status.bytes_in += server.bytes_received;
        status.bytes_out += server.bytes_sent;
        status.last_error = server.last_error.clone().or(status.last_error.take());
        if let Some(facts) = facts {
            status.remote = Some(RemoteStatus {
                captured: server.intercept.packets_captured,
                kernel_dropped: server.intercept.kernel_drops,
                unrouted: server.intercept.replies_without_route,
                forwards_v4: facts.forwards_v4,
                forwards_v6: facts.forwards_v6,
            });
        }
    }
}

fn side_worker(worker: &mut Worker, index: usize, board: &Board) -> anyhow::Result<()> {
    let _ = poll::set_timer_slack(Duration::from_micros(1));
    let mut next_publish = Instant::ZERO;
    let result = loop {
        let order = board.order.load(Ordering::Acquire);
        if order == STOP {
            break Ok(());
        }
        if order == DRAIN {
            if let Err(error) = worker.drain() {
                break Err(error.into());
            }
            board.busy[index].store(u8::from(!worker.is_idle()), Ordering::Release);
        }
        let now = clock::monotonic();
        if now >= next_publish {
            next_publish = now + PUBLISH_INTERVAL;
            publish(worker, index, board);
        }
        if let Err(error) = worker.turn(next_publish) {
            break Err(error.into());
        }
    };
    board.busy[index].store(0, Ordering::Release);
    worker.shut_down();
    publish(worker, index, board);
    result
}

fn publish(worker: &mut Worker, index: usize, board: &Board) {
    let report = worker.report();
    *board.reports[index].lock().unwrap_or_else(PoisonError::into_inner) = report;
}

/// Turns the loop until an `intercept` is there, or it is clear that none will be.
fn await_relay(worker: &mut Worker, settings: &Settings) -> anyhow::Result<()> {
    let deadline = clock::monotonic() + RELAY_PATIENCE;
    while !worker.relay().is_any_ready() {
        worker.turn(clock::monotonic() + Duration::from_millis(20))?;
        if settings.relay.at_start == RelayAtStart::Awaited {
            return Ok(());
        }
        if let Some(first) = worker.relay().start_failure().and_then(|f| f.into_iter().next()) {
            let what = format!("no intercept can be reached: {}: {}", first.server, first.error);
            return Err(failure(what, first.hint));
        }
        if clock::monotonic() >= deadline {
            return Err(failure(
                "no intercept answered within 5 seconds",
                "is intercept running on the assistant, and does a firewall let its port through? -L starts without it",
            ));
        }
    }
    Ok(())
}

fn open_workers(
    settings: &Settings,
    modules: &Modules,
    count: usize,
    instance: [u8; 16],
    signals: &Signals,
) -> anyhow::Result<Vec<Worker>> {
    let seed = u64::from_le_bytes([
        instance[0],
        instance[1],
        instance[2],
        instance[3],
        instance[4],
        instance[5],
        instance[6],
        instance[7],
    ]);
    let servers = settings.relay.servers.len();
    let mut workers = Vec::new();
    for (index, intake) in open_intakes(settings, count)?.into_iter().enumerate() {
        let mut engine = engine(settings, index as u16, count, seed);
        for (runner, ports) in modules.runners(index) {
            engine.add_plugin(runner, ports, wait_policy(settings));
        }
        for transfer in &settings.transfers {
            if let Ok(mtu) = path_mtu(transfer.target.addr) {
                engine.set_path_mtu(transfer.target.addr, mtu);
            }
        }
        let relay = RelayClients::new(RelayOptions {
            servers: settings.relay.servers.iter().map(|server| server.address.into()).collect(),
            connections_per_server: u16::from(settings.relay.connections.get()),
            token: settings.relay.token.as_ref().map(|token| token.as_bytes().to_vec()),
            bodies: settings.foreseen_bodies(),
            instance,
            worker: index as u16,
            first_token: FIRST_RELAY_TOKEN,
        });
        let caller = (index == 0).then(|| signals.as_raw_fd());
        let worker = Worker::new(engine, intake, open_sink(settings)?, relay, servers, caller)
            .hint("can't make a worker", "the process may be out of descriptors: see ulimit -n")?;
        workers.push(worker);
    }
    Ok(workers)
}

fn engine(settings: &Settings, worker: u16, workers: usize, seed: u64) -> Engine {
    let load = &settings.load;
    let config = EngineConfig {
        percentage: load.percent,
        ramp: match load.growth {
            Growth::Immediate => SamplingRamp::Steady,
            Growth::Gradual => SamplingRamp::Gradual,
        },
        mtu: u32::from(settings.injection.mtu),
        mss: settings.injection.mss,
        pace: match load.pacing {
            Pacing::Measured => Pace::Measured,
            Pacing::Fixed(distance) => Pace::Fixed(distance),
            Pacing::Unpaced => Pace::Fixed(Duration::ZERO),
        },
        mid_stream: match load.joining {
            Joining::MidStream => MidStreamPolicy::Join,
            Joining::FullOnly => MidStreamPolicy::Ignore,
        },
        capture_clock: match settings.offline {
            Some(_) => CaptureClock::Recorded,
            None => CaptureClock::Live,
        },
        decap: settings.capture.decap,
        session_timeout: settings.limits.session_timeout,
        keepalive_timeout: settings.limits.keepalive_timeout,
        memory_limit: settings.limits.memory_bytes / workers as u64,
        session_limit: settings.limits.session_bytes,
        session_buffer: settings.limits.session_pool_bytes,
        seed,
        ..EngineConfig::new(settings.mapping_options(worker))
    };
    let policy = wait_policy(settings);
    Engine::new(config, Box::new(TransparentFactory { policy }), clock::monotonic())
}

const fn wait_policy(settings: &Settings) -> WaitPolicy {
    match settings.load.waiting {
        Waiting::ForResponses => WaitPolicy::LikeClient,
        Waiting::Never => WaitPolicy::Never,
    }
}

fn open_intakes(settings: &Settings, count: usize) -> anyhow::Result<Vec<Intake>> {
    let Some(offline) = &settings.offline else {
        return Ok(open_sources(settings, count)?.into_iter().map(Intake::Live).collect());
    };
    let filter = match &settings.capture.filter {
        CaptureFilter::Given(expression) => Some(expression.as_str()),
        // The engine looks at addresses and ports itself.
        CaptureFilter::Generated(_) => None,
    };
    let feed = Feed::start(offline, filter, settings.limits.memory_bytes)?;
    Ok(vec![Intake::Recorded(Box::new(feed))])
}

fn open_sources(settings: &Settings, count: usize) -> anyhow::Result<Vec<Box<dyn PacketSource>>> {
    let capture = &settings.capture;
    let expression = capture.filter.expression();
    let direction = match capture.streams {
        Streams::Requests => Direction::Incoming,
        Streams::RequestsAndReferences => Direction::Both,
    };
    let opened: Result<Vec<Box<dyn PacketSource>>, CaptureError> = match capture.method {
        CaptureMethod::Ring => {
            let snap_len = capture.snapshot.map_or(WHOLE_PACKET, |s| (s.get() as usize).min(MAX_SNAPSHOT));
            let link = if capture.interfaces.is_empty() { FilterLink::Raw } else { FilterLink::Ethernet };
            let filter = Filter::compile(expression, link, snap_len as u32).map_err(|error| {
                let hint = error.hint();
                failure(error.to_string(), hint)
            })?;
            let options = RingOptions {
                interfaces: capture.interfaces.clone(),
                ring_bytes: capture.buffer_bytes,
                snap_len,
                direction,
                fanout: (count > 1)
                    .then(|| Fanout { group: Fanout::group_of_process(), key: fanout_key(settings) }),
                ..RingOptions::new(filter)
            };
            RingCapture::open_workers(&options, count as u16)
                .map(|all| all.into_iter().map(|one| Box::new(one) as Box<dyn PacketSource>).collect())
        }
        CaptureMethod::Pcap => {
            let mut options = PcapOptions {
                interface: capture.interfaces.join(","),
                expression: expression.to_owned(),
                buffer_mib: u32::try_from(capture.buffer_bytes >> 20).unwrap_or(u32::MAX),
                snap_len: capture.snapshot.map_or(0, std::num::NonZeroU32::get),
                // Immediate delivery gives each packet a slot of the largest size, so that a burst soon finds none free.
                delivery: Delivery::Buffered,
                direction,
            };
            if capture.interfaces.is_empty() {
                options.interface = "any".to_owned();
            }
            PcapCapture::open(&options).map(|one| vec![Box::new(one) as Box<dyn PacketSource>])
        }
    };
    opened.map_err(|error| {
        let hint = error.hint().unwrap_or_else(|| "--dry-run shows what would be captured".to_owned());
        anyhow::Error::new(error).context(crate::failure::Hinted::new("can't capture", hint))
    })
}

/// Both directions of a connection have to reach the worker that has its session.
fn fanout_key(settings: &Settings) -> FanoutKey {
    match settings.capture.streams {
        Streams::Requests => FanoutKey::SourcePort,
        Streams::RequestsAndReferences => {
            let ports: BTreeSet<u16> =
                settings.transfers.iter().map(|transfer| transfer.online_port).collect();
            FanoutKey::ClientPort(ports.into_iter().collect())
        }
    }
}

fn open_sink(settings: &Settings) -> anyhow::Result<Box<dyn PacketSink>> {
    match &settings.injection.method {
        InjectionMethod::RawSocket => {
            let sink = RawSocketSink::open().map_err(|error| {
                let hint = error.hint().unwrap_or("--dry-run shows what would be sent");
                anyhow::Error::new(error).context(crate::failure::Hinted::new("can't send", hint))
            })?;
            Ok(Box::new(sink))
        }
        InjectionMethod::LinkLayer { device } => {
            let targets: Vec<LinkTarget> = settings
                .transfers
                .iter()
                .map(|transfer| LinkTarget {
                    address: transfer.target.addr,
                    next_hop: transfer.next_hop_mac.map(|mac| mac.0),
                    source: transfer.source_mac.map(|mac| mac.0),
                })
                .collect();
            let sink = LinkSink::open(device, &targets).map_err(|error| {
                let hint = error.hint().unwrap_or_else(|| "give the MAC in -x: …@MAC".to_owned());
                anyhow::Error::new(error).context(crate::failure::Hinted::new("can't send", hint))
            })?;
            Ok(Box::new(sink))
        }
    }
}
