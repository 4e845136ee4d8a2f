//! What a report is made of.

use super::histogram::Histogram;
use crate::offline::OfflineStatus;
use std::collections::BTreeMap;
use std::time::Duration;
use tcpcopy_engine::counters::Counters;
pub use tcpcopy_engine::relay::hello::Forwarding;

/// The state of a run at one moment, summed over all workers.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Time since the start.
    pub elapsed: Duration,
    /// Number of workers.
    pub workers: usize,
    /// The engine's counters.
    pub counters: Counters,
    /// Packets that passed the capture filter, as the kernel counts them, dropped ones included.
    pub kernel_received: u64,
    /// Packets that the kernel dropped because the capture buffer was full.
    pub kernel_dropped: u64,
    /// Failed sends by error number.
    pub send_errors: BTreeMap<i32, u64>,
    /// From capture to injection, of requests that had nothing to wait for.
    pub delay: Histogram,
    /// From the capture of a reply at `intercept` to its arrival here, as far as the clocks allow to tell.
    pub relay_delay: Histogram,
    /// How far capture files were played, if there are any.
    pub offline: Option<OfflineStatus>,
    /// The `intercept` instances.
    pub relay: Vec<RelayStatus>,
    /// The plugins.
    pub modules: Vec<ModuleStatus>,
    /// Processor time in user space.
    pub cpu_user: Duration,
    /// Processor time in the kernel.
    pub cpu_system: Duration,
    /// Resident memory.
    pub rss_bytes: u64,
    /// The most that it has been.
    pub peak_rss_bytes: u64,
}

/// The connections to one `intercept`, of all workers.
#[derive(Clone, Debug, Default)]
pub struct RelayStatus {
    /// Address and port.
    pub address: String,
    /// Connections that there should be.
    pub wanted: u32,
    /// Connections that are up and authenticated.
    pub connected: u32,
    /// Connections made again after a loss.
    pub reconnects: u64,
    /// Round-trip time of the relay itself.
    pub round_trip: Option<Duration>,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// What `intercept` last told about itself.
    pub remote: Option<RemoteStatus>,
    /// Why the last connection failed or was lost.
    pub last_error: Option<String>,
}

/// What became of a plugin, over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleStatus {
    /// Its name.
    pub name: String,
    /// What it is made of: `wasm` or `native`.
    pub kind: String,
    /// Ports of the online server that it serves.
    pub ports: Vec<u16>,
    /// Sessions that were handed to it.
    pub sessions: u64,
    /// Instances made for them.
    pub instances: u64,
    /// Calls that failed, by kind.
    pub faults: Vec<ModuleFaults>,
    /// Sessions that broke the rules of the interface.
    pub violations: u64,
    /// Why it is used no more, if it is not.
    pub disabled: Option<String>,
    /// Sessions that it gave up, by its reason.
    pub gave_up: Vec<(String, u64)>,
    /// What it counted, by name.
    pub counts: Vec<(String, u64)>,
}

/// Calls of a plugin that failed in one way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleFaults {
    /// The way: `trap`, `deadline`, `memory`, `invalid output` or `start`.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// What the last one was.
    pub last: String,
}

/// What an `intercept` tells about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteStatus {
    /// Replies that it captured.
    pub captured: u64,
    /// Replies that its kernel dropped because the capture buffer was full.
    pub kernel_dropped: u64,
    /// Replies for which it knew no route.
    pub unrouted: u64,
    /// Whether the host forwards IPv4 packets.
    pub forwards_v4: Forwarding,
    /// Whether the host forwards IPv6 packets.
    pub forwards_v6: Forwarding,
}

impl Snapshot {
    /// Relay connections that are up.
    pub fn relay_connected(&self) -> u32 {
        self.relay.iter().map(|relay| relay.connected).sum()
    }

    /// Relay connections that there should be.
    pub fn relay_wanted(&self) -> u32 {
        self.relay.iter().map(|relay| relay.wanted).sum()
    }

    /// Processor time, all of it.
    pub fn cpu(&self) -> Duration {
        self.cpu_user + self.cpu_system
    }
}
