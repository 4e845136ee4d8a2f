//! What lies above TCP: when request bytes may go to the target, and which.
//!
//! A [`Protocol`] sees one session: request bytes in order, what is known of the response, and the ends. It answers through
//! an [`Exchange`]. The built-in [`Transparent`] protocol and every plugin stand behind this one trait; sessions know no
//! third way.

mod exchange;
mod outbox;
mod plugin;
mod staging;
mod transparent;

pub use exchange::Exchange;
pub use outbox::{Gate, Outbox};
pub(crate) use plugin::PluginProtocol;
pub use transparent::{Transparent, TransparentFactory, WaitPolicy};

use crate::counters::EndReason;
use crate::plugin::Answer;
use crate::plugin::{Opening, Place, SessionId, Without};
use crate::stream::SegmentInfo;
use std::fmt::Debug;

/// How the client ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEnd {
    /// With a FIN: it sends no more.
    Finished,
    /// With a reset: it sends no more and wants no answer.
    Reset,
}

/// Response bytes that arrived in order.
#[derive(Clone, Copy, Debug)]
pub struct ResponseBytes<'a> {
    /// How many.
    pub len: u64,
    /// Whether the last of them ended a write of the target (PSH), with nothing missing before it.
    pub pushed: bool,
    /// The bytes, when the protocol asked for them; as many as were returned.
    pub body: &'a [u8],
}

/// Whether a protocol wants to see the bytes of the target's replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Bodies {
    /// Headers are enough: lengths and flags.
    #[default]
    NotNeeded,
    /// Every byte is needed.
    Needed,
}

/// Decides for one session.
///
/// All methods are called with the exchange of that session, and in the order in which things happened. Bytes that a method
/// does not decide about stay pending.
pub trait Protocol: Send + Debug {
    /// Whether `intercept` has to return bodies for this session. Asked when a connection to the target is opened, and when the
    /// protocol has said that its inputs have changed.
    fn bodies(&self) -> Bodies {
        Bodies::NotNeeded
    }

    /// `len` request bytes were captured; they are the last bytes of [`Exchange::pending`]. Called once for each piece of an
    /// original segment, in stream order.
    fn on_request(&mut self, len: usize, info: SegmentInfo, exchange: &mut Exchange<'_>);

    /// Response bytes arrived in order.
    fn on_response(&mut self, response: ResponseBytes<'_>, exchange: &mut Exchange<'_>);

    /// The target closed its side, after the response bytes so far.
    fn on_response_end(&mut self, exchange: &mut Exchange<'_>) {
        let _ = exchange;
    }

    /// Whether [`Protocol::on_reference`] is wanted.
    fn wants_references(&self) -> bool {
        false
    }

    /// Bytes of the online server, captured at `at` nanoseconds of the Unix epoch, each once, in order; none at all where some
    /// are missing.
    fn on_reference(&mut self, bytes: &[u8], at: u64, exchange: &mut Exchange<'_>) {
        let _ = (bytes, at, exchange);
    }

    /// A connection to the target is established.
    fn on_connected(&mut self, exchange: &mut Exchange<'_>) {
        let _ = exchange;
    }

    /// The target acknowledged request bytes.
    fn on_acknowledged(&mut self, exchange: &mut Exchange<'_>) {
        let _ = exchange;
    }

    /// Bytes after the pending ones are missing, for `reason`. What follows begins at an unknown place.
    fn on_gap(&mut self, reason: EndReason, exchange: &mut Exchange<'_>);

    /// A segment after the pending bytes, with `info`, was captured only in part, for `reason`; nothing of it is delivered. What
    /// follows begins at an unknown place.
    fn on_cut(&mut self, info: SegmentInfo, reason: EndReason, exchange: &mut Exchange<'_>) {
        let _ = info;
        self.on_gap(reason, exchange);
    }

    /// The connection to the target is gone, or about to close; nothing that was sent on it will be answered. What is
    /// forwarded from now on goes to a new connection.
    fn on_connection_lost(&mut self, exchange: &mut Exchange<'_>);

    /// The client ended its side, after everything that is pending.
    fn on_close(&mut self, end: ClientEnd, info: SegmentInfo, exchange: &mut Exchange<'_>);

    /// The moment asked for with [`Exchange::set_timer`] has come.
    fn on_timer(&mut self, exchange: &mut Exchange<'_>);

    /// The session is over. Nothing is called any more.
    fn on_end(&mut self, exchange: &mut Exchange<'_>) {
        let _ = exchange;
    }

    /// Bytes of memory that the protocol holds for the session, roughly.
    fn held_bytes(&self) -> usize {
        0
    }

    /// Whether events wait in the queue of a plugin. Until they are answered, nothing about the session's connection is settled: the
    /// answers may belong to what happened before.
    fn waits_for_plugin(&self) -> bool {
        false
    }

    /// The plugin was called with events that were queued for the session, and answers.
    fn on_plugin_run(&mut self, answer: &mut Answer<'_>, exchange: &mut Exchange<'_>) {
        let _ = (answer, exchange);
    }

    /// Where events of the session go, if to a plugin.
    fn plugin_place(&self) -> Option<PluginPlace> {
        None
    }

    /// The plugin's instance failed in another session: the session is joined again, on a new connection.
    fn rejoin(&mut self, exchange: &mut Exchange<'_>) {
        let _ = exchange;
    }

    /// The plugin is used no more.
    fn go_without(&mut self, without: Without, exchange: &mut Exchange<'_>) {
        let _ = (without, exchange);
    }
}

/// Where a session's events go, and under which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginPlace {
    pub(crate) place: Place,
    pub(crate) session: SessionId,
}

/// Makes a [`Protocol`] for each session.
pub trait ProtocolFactory: Send {
    /// A protocol for a session that is seen from its start, or joined in the middle.
    fn create(&mut self, origin: Origin) -> Box<dyn Protocol>;
}

/// Whether a session is known from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The handshake was captured.
    Start,
    /// The connection was joined at what looks like the start of a request.
    MidStream,
    /// The session's plugin failed, and it begins anew as if joined in the middle.
    Rejoined,
}
