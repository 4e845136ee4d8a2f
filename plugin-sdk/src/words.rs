//! Small words that handlers are given and that they use.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// How a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The client's handshake was captured: the first byte is the stream's first.
    Start,
    /// The connection was joined where a request seems to begin. The first bytes may be none of a request all the same.
    MidStream,
    /// The session was in an instance that failed. It is joined again as from mid-stream, on a new connection.
    Rejoined,
}

/// Who is who in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Opening {
    /// How it begins.
    pub origin: Origin,
    /// The real client.
    pub client: SocketAddr,
    /// The server that the client talks to.
    pub online: SocketAddr,
    /// The server that the session is replayed to.
    pub target: SocketAddr,
}

/// Whether the server answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// It does.
    Expected,
    /// It does not.
    NotExpected,
}

/// How a client ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientEnd {
    /// With a FIN: it sends no more.
    Finished,
    /// With a reset: it sends no more and wants no answer.
    Reset,
}

/// A lost connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Loss {
    /// So many of the oldest requests without a reply will get none any more. Forget them.
    pub unanswered: u32,
    /// So many requests behind those did not reach the target. They are sent again, as they were decided, after
    /// [`Actions::ready`](crate::Actions::ready).
    pub kept: u32,
    /// The request under way was broken off, because part of it went to the lost connection: no more of it is sent, and it gets
    /// no reply. Decide about its rest as before, and end it with [`Reply::NotExpected`].
    pub interrupted: bool,
}

/// How important a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something may not work as expected.
    Warn,
    /// Worth knowing.
    Info,
    /// For those who look for a defect.
    Debug,
    /// Everything.
    Trace,
}

/// A moment, in nanoseconds of the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment that is so many nanoseconds after the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// The time from `earlier` to this moment; zero if that is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds(), self.0 % 1_000_000_000)
    }
}
