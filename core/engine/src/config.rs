//! What an engine is told when it is made.

use crate::mapping::MappingOptions;
use crate::sampling::SamplingRamp;
use crate::time::Duration;
use crate::wire::tunnel::Decap;

/// Where the round-trip time that replies are delayed by comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Pace {
    /// From each client's captured handshake; one below [`EngineConfig::PACE_FLOOR`] counts as none.
    #[default]
    Measured,
    /// The same for all sessions (`-R`); zero for none.
    Fixed(Duration),
}

/// Whether packets are captured as they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CaptureClock {
    /// They are: time between packets is time that passes.
    #[default]
    Live,
    /// They come from a file, at any speed: how long a client said nothing is told by the times of capture alone.
    Recorded,
}

/// What to do with connections whose handshake was not captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MidStreamPolicy {
    /// Join them where a request seems to begin.
    #[default]
    Join,
    /// Leave them out (`-O`).
    Ignore,
}

/// Settings of an engine. The defaults are those of the command line.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Targets, client addresses, copies.
    pub mapping: MappingOptions,
    /// Share of connections replayed, in percent (`-r`).
    pub percentage: u8,
    /// Whether that share is reached slowly (`-g`).
    pub ramp: SamplingRamp,
    /// Largest packet sent, in bytes, IP header included (`-M`).
    pub mtu: u32,
    /// Largest MSS announced, in bytes (`-D`).
    pub mss: u16,
    /// Distance of clients.
    pub pace: Pace,
    /// Connections first seen in the middle.
    pub mid_stream: MidStreamPolicy,
    /// What the times of captured packets mean.
    pub capture_clock: CaptureClock,
    /// Tunnels that captured packets are taken out of (`--decap`).
    pub decap: Decap,
    /// How long a target may make no progress (`-t`).
    pub session_timeout: Duration,
    /// How long a client may send nothing (`-k`).
    pub keepalive_timeout: Duration,
    /// Bytes held for all sessions (`-m`).
    pub memory_limit: u64,
    /// Bytes held for one session.
    pub session_limit: u64,
    /// Initial request buffer of a session, in bytes (`-U`).
    pub session_buffer: usize,
    /// Seed for sequence numbers and ports that are not the client's own.
    pub seed: u64,
}

impl EngineConfig {
    /// Round trips below this are not imitated: waking up for them would cost more than they mean.
    pub const PACE_FLOOR: Duration = Duration::from_millis(1);

    /// The defaults, for `mapping`.
    pub const fn new(mapping: MappingOptions) -> Self {
        Self {
            mapping,
            percentage: 100,
            ramp: SamplingRamp::Steady,
            mtu: 1500,
            mss: 1460,
            pace: Pace::Measured,
            mid_stream: MidStreamPolicy::Join,
            capture_clock: CaptureClock::Live,
            decap: Decap::NONE,
            session_timeout: Duration::from_secs(600),
            keepalive_timeout: Duration::from_secs(7200),
            memory_limit: 1024 << 20,
            session_limit: 64 << 20,
            session_buffer: 1024,
            seed: 0,
        }
    }
}
