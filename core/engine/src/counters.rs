//! What one worker counts.
//!
//! Counters are plain numbers that their worker alone writes; the program adds up copies of them for its reports. Two sums
//! hold at any time, and [`Counters::check`] tests them: sessions opened = live + ended, and requests captured =
//! acknowledged + waiting + given up.

use serde::Serialize;

/// Why a session ended, or a captured connection was never replayed.
///
/// Requests that were captured and not acknowledged by the target are given up with the reason of their session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum EndReason {
    /// Both sides closed and everything captured was acknowledged.
    Completed,
    /// The real client reset its connection; what it had sent before was replayed.
    ClientReset,
    /// Bytes of the client were never captured (kernel drop, asymmetric route, capture started late).
    CaptureGap,
    /// Packets were captured only in part (snapshot length too small).
    CaptureTruncated,
    /// The connection was first seen after its handshake and no safe place to start was found, or `-O` forbids it.
    MidStream,
    /// The target answered the SYN with a reset.
    Refused,
    /// The target never answered the SYN.
    NoHandshake,
    /// The target reset an established connection.
    TargetReset,
    /// The target closed the connection although requests were on their way.
    TargetClosed,
    /// The target acknowledged nothing (lost packets, or a window that stays shut) until the session timeout (`-t`).
    TargetStalled,
    /// The target never answered a request that the next one had to wait for, until the session timeout (`-t`).
    ResponseTimeout,
    /// Nothing happened on the connection for the keep-alive timeout (`-k`).
    Idle,
    /// Shed because of the memory limit (`-m`).
    MemoryLimit,
    /// One session held more unsent bytes than a session may.
    SessionLimit,
    /// No free address and port was left for the client at this target.
    NoPort,
    /// `intercept` refused the route: another `tcpcopy` replays a connection with the same address and port.
    RouteRefused,
    /// The protocol (plugin or built-in) gave the session up.
    Protocol,
    /// A rule of the plugin leaves the request out.
    Filtered,
    /// The client closed within a request that its plugin could not make anything of yet.
    Incomplete,
    /// The plugin failed, or broke the rules of its interface, while it looked at the session.
    PluginFault,
    /// The plugin failed too often, and is used no more.
    PluginDisabled,
    /// `tcpcopy` was stopped first.
    Shutdown,
}

impl EndReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 22] = [
        Self::Completed,
        Self::ClientReset,
        Self::CaptureGap,
        Self::CaptureTruncated,
        Self::MidStream,
        Self::Refused,
        Self::NoHandshake,
        Self::TargetReset,
        Self::TargetClosed,
        Self::TargetStalled,
        Self::ResponseTimeout,
        Self::Idle,
        Self::MemoryLimit,
        Self::SessionLimit,
        Self::NoPort,
        Self::RouteRefused,
        Self::Protocol,
        Self::Filtered,
        Self::Incomplete,
        Self::PluginFault,
        Self::PluginDisabled,
        Self::Shutdown,
    ];

    /// The reason's name in reports and packet scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ClientReset => "client_reset",
            Self::CaptureGap => "capture_gap",
            Self::CaptureTruncated => "capture_truncated",
            Self::MidStream => "mid_stream",
            Self::Refused => "refused",
            Self::NoHandshake => "no_handshake",
            Self::TargetReset => "target_reset",
            Self::TargetClosed => "target_closed",
            Self::TargetStalled => "target_stalled",
            Self::ResponseTimeout => "response_timeout",
            Self::Idle => "idle",
            Self::MemoryLimit => "memory_limit",
            Self::SessionLimit => "session_limit",
            Self::NoPort => "no_port",
            Self::RouteRefused => "route_refused",
            Self::Protocol => "protocol",
            Self::Filtered => "filtered",
            Self::Incomplete => "incomplete",
            Self::PluginFault => "plugin_fault",
            Self::PluginDisabled => "plugin_disabled",
            Self::Shutdown => "shutdown",
        }
    }

    /// One sentence for a report: what happened, and what to do about it where something can be done.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Completed => "closed by both sides after everything was delivered",
            Self::ClientReset => "the real client reset its connection",
            Self::CaptureGap => {
                "bytes of the client were not captured; look at kernel drops, enlarge the ring (-B)"
            }
            Self::CaptureTruncated => "packets were captured only in part; raise the snapshot length (-S)",
            Self::MidStream => "the connection began before the capture did",
            Self::Refused => "the target refused the connection; does the server listen on that port?",
            Self::NoHandshake => "the target never answered the SYN, or its answer did not come back",
            Self::TargetReset => "the target reset the connection",
            Self::TargetClosed => "the target closed the connection with requests on their way",
            Self::TargetStalled => "the target acknowledged nothing until the session timeout (-t)",
            Self::ResponseTimeout => "the target did not answer a request until the session timeout (-t)",
            Self::Idle => "nothing happened for the keep-alive timeout (-k)",
            Self::MemoryLimit => "shed to stay under the memory limit (-m)",
            Self::SessionLimit => "one session held more than --session-limit of unsent bytes",
            Self::NoPort => "no free client address and port was left; add addresses with -c",
            Self::RouteRefused => "another tcpcopy replays the same client address and port; use -f or -c",
            Self::Protocol => "the plugin gave the session up; its part of the report says why",
            Self::Filtered => "left out by a rule of the plugin",
            Self::Incomplete => "the client closed within a request",
            Self::PluginFault => "the plugin failed; its part of the report says how",
            Self::PluginDisabled => "the plugin failed too often and was disabled; see --on-plugin-error",
            Self::Shutdown => "tcpcopy was stopped before the session ended",
        }
    }
}

/// A number for each [`EndReason`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByReason([u64; EndReason::ALL.len()]);

impl ByReason {
    /// Adds `n` under `reason`.
    pub const fn add(&mut self, reason: EndReason, n: u64) {
        self.0[reason as usize] += n;
    }

    /// Takes `n` back that were added under `reason`.
    pub const fn take_back(&mut self, reason: EndReason, n: u64) {
        self.0[reason as usize] = self.0[reason as usize].saturating_sub(n);
    }

    /// The number under `reason`.
    pub const fn get(&self, reason: EndReason) -> u64 {
        self.0[reason as usize]
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Reasons with a number above zero.
    pub fn iter(&self) -> impl Iterator<Item = (EndReason, u64)> + '_ {
        EndReason::ALL.into_iter().zip(self.0).filter(|(_, n)| *n > 0)
    }
}

impl Serialize for ByReason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(reason, n)| (reason.name(), n)))
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Everything that one worker's engine counts. All but [`Counters::sessions_live`],
        /// [`Counters::requests_waiting`] and [`Counters::memory_bytes`] only grow.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
            /// Sessions ended, by reason.
            pub sessions_ended: ByReason,
            /// Requests given up, by the reason of their session.
            pub requests_given_up: ByReason,
        }

        impl Counters {
            /// Adds the numbers of another worker.
            pub fn merge(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                for i in 0..EndReason::ALL.len() {
                    self.sessions_ended.0[i] += other.sessions_ended.0[i];
                    self.requests_given_up.0[i] += other.requests_given_up.0[i];
                }
            }
        }
    };
}

counters! {
    /// Packets given to the engine by the capture.
    packets_captured,
    /// Bytes of those packets, on the wire, without link headers.
    bytes_captured,
    /// Captured packets that are not TCP, or to no server named in `-x`.
    packets_ignored,
    /// Captured packets that are not what their headers say (lengths, options), or have flags that make no sense together.
    packets_malformed,
    /// Tunnels opened; a packet in a tunnel in a tunnel counts twice.
    packets_decapsulated,
    /// IP fragments captured.
    fragments,
    /// IP fragments dropped because the rest never came, or because too many were waiting.
    fragments_dropped,
    /// Client segments that carried nothing new (retransmits, overlaps, keep-alive probes), or lie in no window of their
    /// connection.
    segments_repeated,
    /// Client segments that came before an earlier one, and were put in order.
    segments_reordered,
    /// Connections of clients seen (with `-n`, each counts once).
    connections_seen,
    /// Connections left out by `-r` or `-g`.
    connections_sampled_out,
    /// Connections left out because their clients are on the loopback, and nothing (`-H`, `-c`) gives them an address that a
    /// target could answer to.
    connections_loopback,
    /// Connections that turned to TLS; their bytes can't mean anything to the target.
    connections_tls,
    /// Sessions opened: a connection to be replayed to one target.
    sessions_opened,
    /// Sessions now alive.
    sessions_live,
    /// Connections to the target that were established, reconnects included.
    sessions_connected,
    /// Sessions whose handshake with the target completed at least once.
    sessions_established,
    /// New connections made because the target had closed one with requests left.
    reconnects,
    /// Sessions joined in the middle of a connection.
    sessions_joined,
    /// Requests captured: runs of client bytes that the protocol calls one request. The built-in protocol ends one where
    /// the client has read more of the response before sending on, so a pipelined batch counts as one.
    requests_captured,
    /// Requests fully sent at least once.
    requests_sent,
    /// Requests whose every byte was acknowledged by the target.
    requests_acknowledged,
    /// Requests that some response bytes came back for.
    requests_answered,
    /// Exchanges that plugins have summed up.
    exchanges_observed,
    /// Requests captured and not yet acknowledged, in live sessions.
    requests_waiting,
    /// Request bytes captured, each once.
    request_bytes_captured,
    /// Request bytes acknowledged by the target.
    request_bytes_acknowledged,
    /// Response bytes of the target received in order.
    response_bytes,
    /// Packets handed to the sink.
    packets_sent,
    /// Bytes of those packets.
    bytes_sent,
    /// Packets that carry nothing but an acknowledgement.
    acks_sent,
    /// Segments sent again.
    retransmits,
    /// Of those, by time-out.
    retransmit_timeouts,
    /// Probes of a closed window.
    window_probes,
    /// Packets that the sink failed to send; retransmission makes up for them.
    send_failures,
    /// Replies received from `intercept`.
    replies,
    /// Replies for which no session was left.
    replies_unknown,
    /// Replies that were malformed.
    replies_malformed,
    /// SYN-ACKs received.
    syn_acks,
    /// Resets received from the target.
    target_resets,
    /// Resets received within a second after the handshake with no request answered: what a missing route looks like.
    early_resets,
    /// Bytes held for sessions: captured, waiting, sent and not acknowledged.
    memory_bytes,
    /// Highest value of that number.
    memory_bytes_peak,
}

/// A sum that does not add up: a defect of the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {left} on one side, {right} on the other")]
pub struct Imbalance {
    /// Which sum.
    pub what: &'static str,
    /// Its left side.
    pub left: u64,
    /// Its right side.
    pub right: u64,
}

impl Counters {
    /// Tests that the counters add up.
    ///
    /// # Errors
    /// The first sum that does not hold.
    pub fn check(&self) -> Result<(), Imbalance> {
        let sums = [
            (
                "sessions opened = live + ended",
                self.sessions_opened,
                self.sessions_live + self.sessions_ended.total(),
            ),
            (
                "requests captured = acknowledged + waiting + given up",
                self.requests_captured,
                self.requests_acknowledged + self.requests_waiting + self.requests_given_up.total(),
            ),
        ];
        match sums.into_iter().find(|(_, left, right)| left != right) {
            Some((what, left, right)) => Err(Imbalance { what, left, right }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_in_order() {
        for (number, reason) in EndReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
    }

    #[test]
    fn merge_adds_and_check_finds_what_is_missing() {
        let mut one = Counters { requests_captured: 3, requests_acknowledged: 2, ..Counters::default() };
        assert!(one.check().is_err());
        one.requests_given_up.add(EndReason::TargetReset, 1);
        let mut two = one;
        two.merge(&one);
        assert_eq!(two.requests_captured, 6);
        assert_eq!(two.check(), Ok(()));
    }
}
