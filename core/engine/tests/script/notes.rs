//! What scripts can expect to be counted.

use tcpcopy_engine::counters::Counters;

/// Something counted that a script can expect.
pub(crate) struct NoteKind {
    pub(crate) key: &'static str,
    pub(crate) of: fn(&Counters) -> u64,
    /// Whether a script that does not expect it fails.
    pub(crate) required: bool,
}

macro_rules! notes {
    ($($key:literal $field:ident $required:literal,)*) => {
        /// What scripts can expect to be counted, besides ends and requests given up.
        pub(crate) const NOTES: &[NoteKind] = &[$(NoteKind { key: $key, of: |c| c.$field, required: $required },)*];
    };
}

notes! {
    "dropped ignored" packets_ignored true,
    "dropped malformed" packets_malformed true,
    "dropped fragment" fragments_dropped true,
    "dropped repeated" segments_repeated true,
    "dropped sampled_out" connections_sampled_out true,
    "dropped unknown_reply" replies_unknown true,
    "dropped malformed_reply" replies_malformed true,
    "event reordered" segments_reordered true,
    "event reconnect" reconnects true,
    "event joined" sessions_joined true,
    "event tls" connections_tls true,
    "event early_reset" early_resets true,
    "event opened" sessions_opened false,
    "event connected" sessions_connected false,
    "event captured" requests_captured false,
    "event sent" requests_sent false,
    "event acknowledged" requests_acknowledged false,
    "event answered" requests_answered false,
    "event observed" exchanges_observed true,
    "event timeout" retransmit_timeouts false,
    "event again" retransmits false,
    "event probe" window_probes false,
    "event reset" target_resets false,
}
