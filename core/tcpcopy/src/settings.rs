//! What the options mean: checked, typed, and complete.
//!
//! Owns defaults that depend on other options, the checks across options, and look-ups (host names, the token). It opens
//! no capture and sends nothing. How settings are shown to a person is in [`crate::describe`].

mod check;
mod offline;
mod plugins;

pub(crate) use check::{decap, with_tunnels};
pub use offline::{Amount, Moment, Offline, Tempo, Unit, Window};

pub use plugins::{Carrying, ModuleFacts, Plugins, WantedModule, check_together, ports_served};

use crate::failure::UsageError;
use crate::options::LowArgs;
use crate::transfer::Transfer;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;
use tcpcopy_engine::mapping::{ClientPool, MappingOptions};
use tcpcopy_engine::plugin::Inputs;
use tcpcopy_engine::protocol::Bodies;
use tcpcopy_engine::wire::tunnel::Decap;
use tcpcopy_net::filter::Streams;

/// Everything that a run needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is copied, and where to; never empty. One with an online address goes before
    /// one without; of equals the first counts.
    pub transfers: Vec<Transfer>,
    /// How clients appear to the target.
    pub clients: Clients,
    /// The way back of the target's replies.
    pub relay: Relay,
    /// Where packets come from.
    pub capture: Capture,
    /// Capture files to replay instead of live traffic.
    pub offline: Option<Offline>,
    /// How packets leave.
    pub injection: Injection,
    /// How much of the traffic is replayed, and when.
    pub load: Load,
    /// Bounds of memory and time.
    pub limits: Limits,
    /// Plugins as they were asked for.
    pub plugins: Plugins,
    /// Plugins that were loaded; none before [`Settings::use_modules`].
    pub modules: Vec<ModuleFacts>,
    /// What is told, and where.
    pub output: Output,
    /// The process.
    pub process: Process,
    /// What is likely a mistake, in whole sentences; the run goes on.
    pub warnings: Vec<String>,
}

/// How clients appear to the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    /// Addresses that play the clients (`-c`); none leaves clients their own.
    pub pool: Option<ClientPool>,
    /// What `127.0.0.1` becomes (`-H`).
    pub local_v4: Option<Ipv4Addr>,
    /// What `::1` becomes (`-H`).
    pub local_v6: Option<Ipv6Addr>,
    /// Number that separates instances (`-f`), 0 to 1023.
    pub port_shift: u16,
}

/// The way back of the target's replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// The `intercept` instances; never empty.
    pub servers: Vec<RelayServer>,
    /// Connections to each, per worker.
    pub connections: NonZeroU8,
    /// The shared token.
    pub token: Option<Token>,
    /// What to do when none can be reached at the start.
    pub at_start: RelayAtStart,
}

/// One `intercept`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayServer {
    /// As it was typed.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// What to do when no `intercept` can be reached at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayAtStart {
    /// End with an error.
    Required,
    /// Go on trying while packets are captured (`-L`).
    Awaited,
}

/// The secret shared with `intercept`. Its `Debug` form hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Vec<u8>);

impl Token {
    /// A token of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The secret.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// Where packets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Through what.
    pub method: CaptureMethod,
    /// The interfaces; empty for all.
    pub interfaces: Vec<String>,
    /// Which packets.
    pub filter: CaptureFilter,
    /// Whether what the online server sends is captured as well.
    pub streams: Streams,
    /// Size of the buffer, per worker (and interface, if interfaces are named).
    pub buffer_bytes: usize,
    /// Bytes of each packet; none for all of it.
    pub snapshot: Option<NonZeroU32>,
    /// Tunnels that are opened (`--decap`).
    pub decap: Decap,
}

/// Through what packets are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureMethod {
    /// AF_PACKET with a memory-mapped ring.
    Ring,
    /// libpcap.
    Pcap,
}

/// A filter in pcap syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureFilter {
    /// Made from `-x`.
    Generated(String),
    /// Given by `-F`.
    Given(String),
}

impl CaptureFilter {
    /// The expression.
    pub fn expression(&self) -> &str {
        match self {
            Self::Generated(expression) | Self::Given(expression) => expression,
        }
    }
}

/// How packets leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// Through what.
    pub method: InjectionMethod,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Largest segment size that is announced, in bytes.
    pub mss: u16,
}

/// Through what packets are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InjectionMethod {
    /// A raw IP socket; the kernel routes.
    RawSocket,
    /// Whole frames through this interface.
    LinkLayer {
        /// Its name.
        device: String,
    },
}

/// How much of the traffic is replayed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Copies (`-n`).
    pub copies: NonZeroU16,
    /// Percentage of connections, 1 to 100 (`-r`).
    pub percent: u8,
    /// How that percentage is reached.
    pub growth: Growth,
    /// The round-trip time that the target sees.
    pub pacing: Pacing,
    /// Whether requests wait for responses.
    pub waiting: Waiting,
    /// Which connections are replayed.
    pub joining: Joining,
}

/// How the percentage of connections is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// From the start.
    Immediate,
    /// One percent more each second, from one (`-g`).
    Gradual,
}

/// The round-trip time that the target sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// That of the client's handshake with the online server.
    Measured,
    /// This one for all (`-R`).
    Fixed(Duration),
    /// None: everything goes at once (`-R 0`).
    Unpaced,
}

/// Whether requests wait for the response before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// As the real client did.
    ForResponses,
    /// Never (`-W`).
    Never,
}

/// Which connections are replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joining {
    /// Those that were open before, too, from their next request on.
    MidStream,
    /// Only those seen from their first packet (`-O`).
    FullOnly,
}

/// Bounds of memory and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory for all sessions, in bytes (`-m`), to be divided among the workers.
    pub memory_bytes: u64,
    /// Unsent bytes of one session (`--session-limit`).
    pub session_bytes: u64,
    /// What a session starts with, in bytes (`-U`).
    pub session_pool_bytes: usize,
    /// How long a session waits for the target (`-t`).
    pub session_timeout: Duration,
    /// How long a session may be idle (`-k`).
    pub keepalive_timeout: Duration,
    /// When to stop without being told to.
    pub duration: Option<Duration>,
    /// How long waiting requests may go out after the stop.
    pub drain: Duration,
}

/// What is told, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// File for messages and reports, instead of the terminal.
    pub log_file: Option<PathBuf>,
    /// Which messages.
    pub log_level: tracing::Level,
    /// Time between lines of statistics; none for no lines.
    pub stats_interval: Option<Duration>,
    /// File for the latest statistics.
    pub stats_json: Option<PathBuf>,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Threads.
    pub workers: NonZeroUsize,
    /// Scheduling priority, as of `nice(1)`.
    pub nice: i8,
    /// Foreground or background.
    pub place: Place,
    /// File for the process number.
    pub pid_file: Option<PathBuf>,
    /// Run, or only say what would be done.
    pub mode: Mode,
}

/// Where the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the terminal.
    Foreground,
    /// In the background (`-d`).
    Background,
}

/// What the process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Replaying.
    Run,
    /// Telling what would be done (`--dry-run`).
    DryRun,
}

impl Settings {
    /// Makes sense of what was typed. `token` is the value of `TCPCOPY_TOKEN`, if it is set.
    ///
    /// # Errors
    /// The first option that is missing, wrong, or at odds with another.
    pub fn new(low: &LowArgs, token: Option<&str>) -> Result<Self, UsageError> {
        let mut warnings = Vec::new();
        let transfers = check::transfers(&low.transfers, &mut warnings)?;
        let clients = check::clients(low, &transfers, &mut warnings)?;
        let relay = check::relay(low, token, &mut warnings)?;
        let injection = check::injection(low, &transfers, &mut warnings)?;
        let offline = Offline::new(low, check::is_capture_file, &mut warnings)?;
        let capture = check::capture(low, &transfers, offline.as_ref())?;
        let mut limits = check::limits(low);
        if let Some(offline) = &offline {
            limits.keepalive_timeout = offline.stretch(limits.keepalive_timeout);
        }
        let plugins = Plugins::new(&low.plugins)?;
        let mut workers = NonZeroUsize::new(usize::from(low.workers)).unwrap_or(NonZeroUsize::MIN);
        if offline.is_some() {
            workers = NonZeroUsize::MIN;
        } else if capture.method == CaptureMethod::Pcap && workers.get() > 1 {
            workers = NonZeroUsize::MIN;
            warnings.push("--workers has no use with --pcap-capture: libpcap serves one worker".to_owned());
        } else if !capture.decap.is_empty() && workers.get() > 1 {
            workers = NonZeroUsize::MIN;
            warnings.push(
                "--workers has no use with --decap: packets are shared out by what can be seen outside of the tunnel".to_owned(),
            );
        }
        if low.daemon && low.log.is_none() {
            warnings.push("-d without -l: messages and reports go nowhere".to_owned());
        }
        Ok(Self {
            transfers,
            clients,
            relay,
            capture,
            offline,
            injection,
            load: check::load(low),
            limits,
            plugins,
            modules: Vec::new(),
            output: Output {
                log_file: low.log.clone(),
                log_level: low.log_level.parse().unwrap_or(tracing::Level::INFO),
                stats_interval: Some(low.stats_interval).filter(|interval| !interval.is_zero()),
                stats_json: low.stats_json.clone(),
            },
            process: Process {
                workers,
                nice: low.nice,
                place: if low.daemon { Place::Background } else { Place::Foreground },
                pid_file: low.pid_file.clone(),
                mode: if low.dry_run { Mode::DryRun } else { Mode::Run },
            },
            warnings,
        })
    }

    /// Takes note of what loaded plugins are and need.
    ///
    /// # Errors
    /// Two of one name, or two that serve one port.
    pub fn use_modules(&mut self, modules: Vec<ModuleFacts>) -> Result<(), UsageError> {
        check_together(&modules)?;
        let workers = self.process.workers.get();
        plugins::apply(&modules, workers, &self.transfers, &mut self.capture, &mut self.warnings);
        self.modules = modules;
        Ok(())
    }

    /// Whether any plugin may ask for the target's response bytes.
    pub fn foreseen_bodies(&self) -> Bodies {
        let needed = self.modules.iter().any(|module| module.inputs.contains(Inputs::RESPONSES));
        if needed { Bodies::Needed } else { Bodies::NotNeeded }
    }

    /// What the engine's mapping needs, for the worker of this number.
    pub fn mapping_options(&self, worker: u16) -> MappingOptions {
        MappingOptions {
            transfers: self.transfers.iter().map(Into::into).collect(),
            pool: self.clients.pool.clone(),
            copies: self.load.copies.get(),
            factor: self.clients.port_shift,
            localhost_v4: self.clients.local_v4,
            localhost_v6: self.clients.local_v6,
            worker,
            workers: u16::try_from(self.process.workers.get()).unwrap_or(u16::MAX),
        }
    }
}
