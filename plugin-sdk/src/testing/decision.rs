//! What a plugin decided, with the bytes that it was about.

use crate::{Inputs, Reply};
use std::fmt;
use std::time::Duration;

/// Bytes that are shown as text as far as they are.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Longer ones are shown in part.
        const SHOWN: usize = 200;
        match self.0.get(..SHOWN) {
            Some(front) if self.0.len() > SHOWN => {
                write!(f, "b\"{}\"... ({} bytes)", front.escape_ascii(), self.0.len())
            }
            _ => write!(f, "b\"{}\"", self.0.escape_ascii()),
        }
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// Something that a plugin did.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// These captured bytes are sent.
    Forward(Bytes),
    /// These captured bytes are left out.
    Discard(Bytes),
    /// These bytes of the plugin are sent.
    Send(Bytes),
    /// Bytes of the plugin that prepare a connection, and belong to no request.
    Prepare(Bytes),
    /// A request ends.
    EndRequest(Reply),
    /// The oldest open request has its reply.
    ReplyComplete,
    /// The connection may carry requests.
    Ready,
    /// What follows goes to a new connection.
    Reconnect,
    /// The connection is closed, and the session over.
    Close,
    /// The session is over for this reason.
    GiveUp(String),
    /// The rest is passed as with no plugin.
    PassThrough,
    /// A summary.
    Observe(String),
    /// A timer is wanted.
    SetTimer(Duration),
    /// No timer is wanted.
    ClearTimer,
    /// Only these inputs are wanted.
    Want(Inputs),
}

/// [`Decision::Forward`], shorter to write.
pub fn forward(bytes: impl AsRef<[u8]>) -> Decision {
    Decision::Forward(bytes.as_ref().into())
}

/// [`Decision::Discard`], shorter to write.
pub fn discard(bytes: impl AsRef<[u8]>) -> Decision {
    Decision::Discard(bytes.as_ref().into())
}

/// [`Decision::Send`], shorter to write.
pub fn send(bytes: impl AsRef<[u8]>) -> Decision {
    Decision::Send(bytes.as_ref().into())
}

/// [`Decision::Prepare`], shorter to write.
pub fn prepare(bytes: impl AsRef<[u8]>) -> Decision {
    Decision::Prepare(bytes.as_ref().into())
}

/// A request as it would be sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Its bytes: forwarded ones and those of the plugin.
    pub bytes: Bytes,
    /// Whether it is answered; `None`: it has not ended.
    pub reply: Option<Reply>,
}

/// Appends, and joins decisions of the same kind about neighbouring bytes.
pub(super) fn push_joined(decisions: &mut Vec<Decision>, decision: Decision) {
    if let (Some(Decision::Forward(before)), Decision::Forward(bytes))
    | (Some(Decision::Discard(before)), Decision::Discard(bytes))
    | (Some(Decision::Send(before)), Decision::Send(bytes))
    | (Some(Decision::Prepare(before)), Decision::Prepare(bytes)) = (decisions.last_mut(), &decision)
    {
        before.0.extend_from_slice(&bytes.0);
    } else {
        decisions.push(decision);
    }
}

/// Decisions without what depends on how bytes were split: timers, repeated wishes, and where runs of bytes are divided.
pub(super) fn normalised(decisions: &[Decision]) -> Vec<Decision> {
    let mut normal = Vec::new();
    let mut wanted = None;
    for decision in decisions {
        match decision {
            Decision::SetTimer(_) | Decision::ClearTimer => {}
            Decision::Want(inputs) if wanted == Some(*inputs) => {}
            Decision::Want(inputs) => {
                wanted = Some(*inputs);
                normal.push(decision.clone());
            }
            _ => push_joined(&mut normal, decision.clone()),
        }
    }
    normal
}

/// The requests that the decisions make.
pub(super) fn requests(decisions: &[Decision]) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut bytes = Vec::new();
    for decision in decisions {
        match decision {
            Decision::Forward(more) | Decision::Send(more) => bytes.extend_from_slice(&more.0),
            Decision::EndRequest(reply) => {
                requests.push(Request { bytes: Bytes(std::mem::take(&mut bytes)), reply: Some(*reply) })
            }
            _ => {}
        }
    }
    if !bytes.is_empty() {
        requests.push(Request { bytes: Bytes(bytes), reply: None });
    }
    requests
}
