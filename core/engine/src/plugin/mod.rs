//! What the engine and a plugin say to each other, whatever the plugin is made of.
//!
//! Owns the words of the plugin interface ([`Event`], [`Action`]) and the trait that a plugin host implements
//! ([`PluginRunner`]). What actions mean to a session is decided in [`crate::protocol`]; how a plugin is called is the host's
//! business. The words are those of the WIT package, item by item.

mod answers;
mod hub;

pub use answers::Answer;
pub(crate) use answers::Parting;
pub(crate) use hub::{Hub, Place};

use crate::flow::Endpoint;
use crate::protocol::{ClientEnd, Origin};

/// Number of a session in events and actions; never used twice by one engine.
pub type SessionId = u64;

/// A run of bytes of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// Index of the first byte.
    pub start: u32,
    /// Number of bytes.
    pub length: u32,
}

impl Span {
    /// The bytes that it stands for, if it lies within `bytes`.
    pub fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        let start = self.start as usize;
        bytes.get(start..start.checked_add(self.length as usize)?)
    }
}

/// Inputs beyond request bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Inputs(u8);

impl Inputs {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// Response bytes, and their end.
    pub const RESPONSES: Self = Self(1);
    /// Bytes of the online server.
    pub const REFERENCES: Self = Self(2);
    /// Connections made; nothing but [`Output::Prepare`] is sent on a new one before [`Output::Ready`].
    pub const CONNECTIONS: Self = Self(4);
    /// Ends of clients.
    pub const CLOSES: Self = Self(8);

    /// Those of `bits` that have a meaning, as in the native interface.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits as u8 & 15)
    }

    /// As in the native interface.
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }

    /// Whether all of `other` are among them.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// Who is who in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// How it begins.
    pub origin: Origin,
    /// The real client.
    pub client: Endpoint,
    /// The server that it talks to.
    pub online: Endpoint,
    /// The server that the session is replayed to.
    pub target: Endpoint,
}

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// It begins; the index of its [`Opening`].
    Opened(u32),
    /// Request bytes were captured; each byte once, in order.
    Request(Span),
    /// Response bytes arrived; each byte once, in order, anew with each connection.
    Response(Span),
    /// The target closed its side.
    ResponseEnd,
    /// Bytes of the online server; an empty span for a gap.
    Reference(Span),
    /// A connection to the target is established.
    Connected,
    /// The connection is gone.
    ConnectionLost {
        /// Requests that will get no reply.
        unanswered: u32,
        /// Requests behind those that will be sent again.
        kept: u32,
        /// Whether the request under way was broken off.
        interrupted: bool,
    },
    /// Request bytes were not captured; what is undecided is to be discarded.
    Gap,
    /// The client ended its side.
    ClientClosed(ClientEnd),
    /// The moment asked for has come.
    Timer,
    /// The session is over.
    Ended,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose.
    pub session: SessionId,
    /// When, in nanoseconds of the Unix epoch.
    pub at: u64,
    /// What.
    pub input: Input,
}

/// Whether the server answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It does.
    Expected,
    /// It does not.
    NotExpected,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send the next so many undecided bytes.
    Forward(u32),
    /// Leave them out.
    Discard(u32),
    /// Send bytes of the plugin, as part of a request.
    Send(Span),
    /// Send bytes of the plugin at once, to prepare a connection for requests.
    Prepare(Span),
    /// The request under way ends here.
    EndRequest(Reply),
    /// The oldest request that expects a reply has it.
    ReplyComplete,
    /// The connection may carry requests now.
    Ready,
    /// What follows goes to a new connection.
    Reconnect,
    /// Close behind what is sent, and end the session.
    Close,
    /// End the session for a reason.
    GiveUp(Span),
    /// Be transparent from the next undecided byte on.
    PassThrough,
    /// A summary of one exchange.
    Observe(Span),
    /// Ask for [`Input::Timer`] so many nanoseconds after the event.
    SetTimer(u64),
    /// No timer.
    ClearTimer,
    /// Only these inputs from now on.
    Want(Inputs),
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// For which session.
    pub session: SessionId,
    /// What.
    pub output: Output,
}

/// Events of one group of sessions.
#[derive(Clone, Debug, Default)]
pub struct EventBatch {
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// Sessions that begin in this batch.
    pub openings: Vec<Opening>,
    /// What spans in the events refer to.
    pub bytes: Vec<u8>,
}

impl EventBatch {
    /// Forgets everything, and keeps the memory.
    pub fn clear(&mut self) {
        self.events.clear();
        self.openings.clear();
        self.bytes.clear();
    }
}

/// What came of a batch.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// In order within each session.
    pub actions: Vec<Action>,
    /// What spans in the actions refer to.
    pub bytes: Vec<u8>,
}

impl Outcome {
    /// Forgets everything, and keeps the memory.
    pub fn clear(&mut self) {
        self.actions.clear();
        self.bytes.clear();
    }
}

/// Sessions that share an instance. A host gives numbers of groups that have no session left to new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Group(pub u32);

/// What becomes of sessions that can't be handed to their plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// They are replayed as with no plugin.
    PassThrough,
    /// They are given up.
    GiveUp,
}

/// What becomes of the other sessions of an instance that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFault {
    /// They are joined again, as from mid-stream; the host has made a new instance.
    Rejoin,
    /// The plugin is used no more, here and for all other groups.
    Disabled(Without),
}

/// A call that failed. The instance is gone, with all that it knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The session at fault, as far as it is known.
    pub session: Option<SessionId>,
    /// What becomes of the others.
    pub others: AfterFault,
}

/// Calls one plugin for one engine. Made by a host.
pub trait PluginRunner: Send {
    /// Inputs that the plugin needs beyond request bytes.
    fn inputs(&self) -> Inputs;

    /// A session begins: the group that it belongs to.
    ///
    /// # Errors
    /// When the plugin is disabled: what is to become of the session.
    fn join(&mut self) -> Result<Group, Without>;

    /// A session of `group` is over, and was told so with [`Input::Ended`].
    fn leave(&mut self, group: Group);

    /// Takes a batch of events of `group` at `now_nanos` of the Unix epoch. Actions are appended to `outcome`.
    ///
    /// # Errors
    /// A trap, a deadline, too much memory: see [`Fault`]. The host has logged and counted it.
    fn run(
        &mut self,
        group: Group,
        batch: &EventBatch,
        now_nanos: u64,
        outcome: &mut Outcome,
    ) -> Result<(), Fault>;

    /// A session's plugin has summed an exchange up. For those who look at summaries; the engine has counted it.
    fn note_observation(&mut self, session: SessionId, summary: &[u8]) {
        let _ = (session, summary);
    }

    /// A session broke the rules of the interface, and is given up for it. The host logs and counts it.
    fn note_violation(&mut self, session: SessionId, what: &'static str);
}
