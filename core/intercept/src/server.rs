//! The loop: one thread that waits for packets, connections and signals.
//!
//! While packets come fast, the loop naps between looks at the ring, so that one wake-up and one write serve several replies
//! ([`tcpcopy_net::pace`]); otherwise the kernel wakes it for each.

use crate::capture::{Capture, DrainOutcome};
use crate::options::Settings;
use crate::relays::{Now, Relays, is_passing};
use crate::report::Report;
use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use tcpcopy_engine::relay::hello::AssistantFacts;
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_net::pace::Pace;
use tcpcopy_net::poll::{Event, Events, Interest, Poller};
use tcpcopy_net::signals::{SIGINT, SIGTERM, Signals};
use tcpcopy_net::source::Readiness;
use tcpcopy_net::{clock, process};

/// Frames taken before connections get their turn.
const DRAIN_LIMIT: usize = 1024;
/// Longest rest while replies come fast: what one may be late for the sake of fewer wake-ups and writes.
const LONGEST_NAP: Duration = Duration::from_micros(200);
const PEER_STATS_INTERVAL: Duration = Duration::from_secs(1);

/// Poller tokens; connections use numbers far below.
const TOKEN_SIGNALS: u64 = u64::MAX;
const TOKEN_CAPTURE: u64 = u64::MAX - 1;
const TOKEN_POLLER: u64 = u64::MAX - 2;
const TOKEN_FIRST_LISTENER: u64 = u64::MAX - 1000;

pub(crate) struct Server {
    /// Everything that can wake an idle server; [`Self::poller`] is in it as one descriptor.
    wakers: Poller,
    /// All but the capture: while the server naps, the doorbell stays unanswered.
    poller: Poller,
    signals: Signals,
    listeners: Vec<TcpListener>,
    capture: Capture,
    relays: Relays,
    started: Instant,
    pace: Pace,
    next_peer_stats: Instant,
    next_report: Option<Instant>,
    report_interval: Option<Duration>,
    stats_json: Option<PathBuf>,
}

impl Server {
    /// Opens everything; after this, the program can only fail at its work.
    pub(crate) fn open(settings: &Settings, facts: AssistantFacts) -> anyhow::Result<Self> {
        let signals = Signals::new(&[SIGINT, SIGTERM]).context("cannot take over signals")?;
        let wakers = Poller::new().context("cannot create a poller")?;
        let poller = Poller::new().context("cannot create a poller")?;
        wakers.add(poller.as_raw_fd(), TOKEN_POLLER, Interest::Readable)?;
        let capture = Capture::open(settings)?;
        let listeners = listen(&settings.listen)?;
        poller.add(signals.as_raw_fd(), TOKEN_SIGNALS, Interest::Readable)?;
        for fd in capture.wait_fds() {
            wakers.add(fd, TOKEN_CAPTURE, Interest::Readable)?;
        }
        for (listener, token) in listeners.iter().zip(TOKEN_FIRST_LISTENER..) {
            poller.add(listener.as_raw_fd(), token, Interest::Readable)?;
        }
        if let Err(error) = tcpcopy_net::poll::set_timer_slack(Duration::from_micros(1)) {
            tracing::debug!("timer slack stays as it is: {error}");
        }
        let now = clock::monotonic();
        Ok(Self {
            wakers,
            poller,
            signals,
            listeners,
            capture,
            relays: Relays::new(settings, facts),
            started: now,
            pace: Pace::new(LONGEST_NAP),
            next_peer_stats: now,
            next_report: settings.stats_interval.map(|interval| now + interval),
            report_interval: settings.stats_interval,
            stats_json: settings.stats_json.clone(),
        })
    }

    /// Addresses that are listened on.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Serves until a signal ends it.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        let mut events = Events::default();
        loop {
            self.wait(&mut events)?;
            let now = Now { monotonic: clock::monotonic(), unix_nanos: clock::unix_nanos() };
            for event in events.iter() {
                match event.token {
                    TOKEN_SIGNALS => {
                        if let Ok(Some(signal)) = self.signals.take() {
                            tracing::info!("ending on signal {signal}");
                            return self.close();
                        }
                    }
                    TOKEN_FIRST_LISTENER.. => self.accept(event, now.monotonic),
                    _ => self.relays.handle_event(event, &self.poller, now),
                }
            }
            self.take_packets(now)?;
            self.handle_timeout(now.monotonic);
            self.relays.flush(&self.poller, now.monotonic);
        }
    }

    /// Rests until there is something to do, and leaves what connections have to say in `events`.
    fn wait(&mut self, events: &mut Events) -> anyhow::Result<()> {
        let now = clock::monotonic();
        if let Some(nap) = self.pace.nap(now) {
            // The nap and the look at the connections are one system call.
            return self.poller.wait(Some(nap), events).context("cannot wait for events");
        }
        if self.capture.prepare_wait() == Readiness::Idle {
            let timeout = self.poll_timeout().map(|at| at.saturating_since(now));
            self.wakers.wait(timeout, events).context("cannot wait for events")?;
        }
        self.poller.wait(Some(Duration::ZERO), events).context("cannot wait for events")
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let peer_stats = (self.relays.live() > 0).then_some(self.next_peer_stats);
        [self.relays.poll_timeout(), peer_stats, self.next_report].into_iter().flatten().min()
    }

    fn accept(&mut self, event: Event, now: Instant) {
        let Some(listener) = self.listeners.get((event.token - TOKEN_FIRST_LISTENER) as usize) else {
            return;
        };
        // A few at a time: packets must not wait for a flood of connections.
        for _ in 0..16 {
            match listener.accept() {
                Ok((stream, address)) => self.relays.accept(stream, address, &self.poller, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    // No descriptors are left; without a pause this would be tried at full speed.
                    std::thread::sleep(Duration::from_millis(10));
                    return;
                }
            }
        }
    }

    fn take_packets(&mut self, now: Now) -> anyhow::Result<()> {
        // Before what is there is taken: a wish that has just come may be for a reply that is on its way.
        self.adjust_capture(now)?;
        let Self { capture, relays, poller, .. } = self;
        let mut each = |reply: crate::capture::CapturedReply<'_>| relays.deliver(&reply, poller, now);
        let DrainOutcome { frames, unusable } = capture.drain(DRAIN_LIMIT, now.monotonic, &mut each)?;
        relays.counts.packets_unusable += unusable;
        self.pace.note(frames, now.monotonic);
        // And after, as there may have been a fragment.
        self.adjust_capture(now)
    }

    /// Captures as much of each packet as is needed now.
    fn adjust_capture(&mut self, now: Now) -> anyhow::Result<()> {
        let needed = self.relays.wanted_bodies();
        let Some(extent) = self.capture.note_need(needed, now.monotonic) else { return Ok(()) };
        let Self { capture, relays, poller, .. } = self;
        let mut each = |reply: crate::capture::CapturedReply<'_>| relays.deliver(&reply, poller, now);
        let DrainOutcome { unusable, .. } = capture.change(extent, now.monotonic, &mut each)?;
        relays.counts.packets_unusable += unusable;
        for fd in self.capture.wait_fds() {
            match self.wakers.add(fd, TOKEN_CAPTURE, Interest::Readable) {
                // It is the source that it was.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.relays.poll_timeout().is_some_and(|at| at <= now) {
            self.relays.handle_timeout(&self.poller, now);
        }
        if self.relays.live() > 0 && self.next_peer_stats <= now {
            self.next_peer_stats = now + PEER_STATS_INTERVAL;
            let stats = self.report(now).for_tcpcopy();
            self.relays.send_stats(stats);
        }
        if let (Some(at), Some(interval)) = (self.next_report, self.report_interval)
            && at <= now
        {
            self.next_report = Some(now + interval);
            let report = self.report(now);
            tracing::info!("{report}");
            self.write_json(&report);
        }
    }

    fn report(&mut self, now: Instant) -> Report {
        Report::new(
            now.saturating_since(self.started),
            self.capture.statistics(),
            self.relays.counts.clone(),
            self.relays.route_count(),
            self.relays.live(),
            &process::usage(),
        )
    }

    fn write_json(&self, report: &Report) {
        if let Some(path) = &self.stats_json
            && let Err(error) = report.write_json(path)
        {
            tracing::warn!("{error:#}");
        }
    }

    fn close(mut self) -> anyhow::Result<()> {
        let now = clock::monotonic();
        self.relays.flush(&self.poller, now);
        let report = self.report(now);
        tracing::info!("total: {report}");
        if let Some(advice) = report.advice() {
            tracing::info!("hint: {advice}");
        }
        match &self.stats_json {
            Some(path) => report.write_json(path),
            None => Ok(()),
        }
    }
}

/// Listens on every address. Hosts without IPv6 are served over IPv4 alone, unless an IPv6 address was all there is.
fn listen(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let mut first_error = None;
    for address in addresses {
        match listen_on(*address) {
            Ok(listener) => listeners.push(listener),
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
                    && address.is_ipv6()
                    && (address.ip().is_loopback() || address.ip().is_unspecified()) =>
            {
                first_error.get_or_insert((error, *address));
            }
            Err(error) => return Err(cannot_listen(error, *address)),
        }
    }
    match first_error {
        Some((error, address)) if listeners.is_empty() => Err(cannot_listen(error, address)),
        _ => Ok(listeners),
    }
}

fn cannot_listen(error: io::Error, address: SocketAddr) -> anyhow::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another intercept is running there? choose another port with -p (tcpcopy: -s)"
        }
        io::ErrorKind::AddrNotAvailable => "-b must be an address of this host: ip addr",
        io::ErrorKind::PermissionDenied => "ports below 1024 need root; choose another one with -p",
        _ => "check -b and -p",
    };
    crate::options::hinted(format!("cannot listen on {address}: {error}"), hint)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}
