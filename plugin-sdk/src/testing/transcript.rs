//! A session, from its opening on.

use super::decision::Bytes;
use crate::{ClientEnd, Loss, Origin};
use std::time::Duration;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Request(Bytes),
    Response(Bytes),
    ResponseEnd,
    Reference(Bytes),
    ReferenceGap,
    Connected,
    ConnectionLost(Loss),
    Gap,
    ClientClosed(ClientEnd),
    Advance(Duration),
}

/// What happens to a session, in order.
///
/// Bytes of one step may reach the plugin in any number of pieces; those of two steps never in one piece.
///
/// ```
/// use plugin_sdk::testing::Transcript;
///
/// let transcript = Transcript::new()
///     .connected()
///     .request("PING\r\n")
///     .response("PONG\r\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    pub(super) origin: Origin,
    pub(super) steps: Vec<Step>,
}

impl Default for Transcript {
    fn default() -> Self {
        Self::new()
    }
}

impl Transcript {
    /// A session that is captured from its start, and nothing happened yet.
    pub const fn new() -> Self {
        Self { origin: Origin::Start, steps: Vec::new() }
    }

    /// A session of this origin.
    pub const fn of(origin: Origin) -> Self {
        Self { origin, steps: Vec::new() }
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The client sends these bytes.
    #[must_use]
    pub fn request(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Request(bytes.as_ref().into()))
    }

    /// The target answers these bytes.
    #[must_use]
    pub fn response(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Response(bytes.as_ref().into()))
    }

    /// The target closes its side.
    #[must_use]
    pub fn response_end(self) -> Self {
        self.step(Step::ResponseEnd)
    }

    /// The online server answers these bytes.
    #[must_use]
    pub fn reference(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Reference(bytes.as_ref().into()))
    }

    /// Bytes of the online server are missing.
    #[must_use]
    pub fn reference_gap(self) -> Self {
        self.step(Step::ReferenceGap)
    }

    /// A connection to the target is established.
    #[must_use]
    pub fn connected(self) -> Self {
        self.step(Step::Connected)
    }

    /// The connection to the target is lost.
    #[must_use]
    pub fn connection_lost(self, loss: Loss) -> Self {
        self.step(Step::ConnectionLost(loss))
    }

    /// Request bytes were not captured.
    #[must_use]
    pub fn gap(self) -> Self {
        self.step(Step::Gap)
    }

    /// The client ends its side.
    #[must_use]
    pub fn client_closed(self, end: ClientEnd) -> Self {
        self.step(Step::ClientClosed(end))
    }

    /// Time passes; timers that come due fire.
    #[must_use]
    pub fn advance(self, by: Duration) -> Self {
        self.step(Step::Advance(by))
    }
}
