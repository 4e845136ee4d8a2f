//! What is wrong with a run, as far as its counters tell.
//!
//! A connection goes client → online (captured) → target (injected) → assistant (replies) → tcpcopy (relay). The rules here
//! find the first leg that is silent, and name the likely cause with the command that checks or mends it. They are pure:
//! the same snapshot gives the same findings.

mod rules;

use self::rules::Rules;
use super::snapshot::Snapshot;
use crate::settings::Settings;
use std::fmt;

/// A part of the way that a connection takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// From the clients to the capture on this host.
    Capture,
    /// From this host to the target.
    Injection,
    /// The target itself.
    Target,
    /// From the target to the assistant.
    Reply,
    /// From `intercept` to this process.
    Relay,
    /// This process.
    Replayer,
}

impl Leg {
    /// The leg's name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Injection => "injection",
            Self::Target => "target",
            Self::Reply => "reply",
            Self::Relay => "relay",
            Self::Replayer => "replayer",
        }
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Capture => "clients -> online host (capture)",
            Self::Injection => "tcpcopy -> target (injection)",
            Self::Target => "target server",
            Self::Reply => "target -> assistant (replies)",
            Self::Relay => "intercept -> tcpcopy (relay)",
            Self::Replayer => "tcpcopy itself",
        })
    }
}

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What a finding is about; told once for as long as it lasts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Cause {
            $($(#[$doc])* $variant,)*
        }

        impl Cause {
            /// All causes.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The cause's stable name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

causes! {
    /// Nothing was captured.
    CaptureBlind = "capture_blind",
    /// Packets were captured, but none for a server in `-x`.
    CaptureOther = "capture_other",
    /// Packets seem to be captured twice.
    CapturedTwice = "captured_twice",
    /// The kernel dropped packets before they were read.
    KernelDrops = "kernel_drops",
    /// Sends failed.
    SendErrors = "send_errors",
    /// No connection to any `intercept`.
    RelayDown = "relay_down",
    /// Some `intercept`s are not connected.
    RelayPartly = "relay_partly",
    /// `intercept` captures packets of connections that it has no route for, and none of ours.
    RepliesUnrouted = "replies_unrouted",
    /// `intercept` lost replies.
    RelayKernelDrops = "relay_kernel_drops",
    /// No reply: the target may have no route for the clients to the assistant.
    NoRouteOnTarget = "no_route_on_target",
    /// No reply: the target may drop the SYN because of its reverse path filter.
    ReversePathFilter = "rp_filter_on_target",
    /// No reply: SYNs may be lost on the way, or `intercept` looks in the wrong place.
    RepliesNotCaptured = "replies_not_captured",
    /// Replies arrived and were not captured here or understood.
    RepliesLost = "replies_lost",
    /// The assistant forwards packets.
    IpForward = "ip_forward_on_assistant",
    /// Replies also reach the real clients, which reset the connections.
    ClientsReset = "real_clients_reset",
    /// The target refuses connections.
    TargetRefuses = "target_refuses",
    /// Requests were given up.
    GivenUp = "requests_given_up",
    /// The memory limit is reached.
    Memory = "memory",
    /// A plugin failed.
    Plugin = "plugin_failed",
    /// Clients speak TLS.
    Tls = "tls",
}

/// Something that is wrong, and how to find out more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub cause: Cause,
    /// The leg that is silent or at fault.
    pub leg: Leg,
    /// What was seen, and what likely causes it.
    pub text: String,
    /// The command that checks or mends it, with the host to run it on where that is not this one.
    pub command: String,
}

/// Finds what is wrong, the leg that comes first on the way first.
pub fn diagnose(snapshot: &Snapshot, settings: &Settings) -> Vec<Finding> {
    let mut rules = Rules { snapshot, settings, findings: Vec::new() };
    rules.capture();
    rules.injection();
    rules.relay();
    rules.replies();
    rules.resets();
    rules.losses();
    rules.plugins();
    rules.findings
}
