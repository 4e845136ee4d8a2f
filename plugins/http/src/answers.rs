//! What the target still owes: requests under way and the decoder of its responses.

use crate::codec::{Method, ResponseDecoder};
use std::collections::VecDeque;

/// What a request asks of the connection, besides an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nothing.
    None,
    /// To speak WebSocket or HTTP/2 from then on, whose clients never send what looks like a request.
    Distinct,
    /// To speak something else from then on.
    Other,
    /// To be a tunnel.
    Tunnel,
}

/// A request that the target has not answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) method: Method,
    pub(crate) wish: Wish,
    /// Whether the connection is of use after the answer.
    pub(crate) after: Condition,
    /// Its number, where credentials are learnt.
    pub(crate) exchange: u64,
}

/// What a connection to the target is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// More requests.
    Usable,
    /// Nothing: the target closes it, or where the next request begins on it is not sure.
    Spent,
}

/// Whether the target's bytes mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// They are responses.
    On,
    /// Nothing is known of them until there is another connection.
    Off,
}

/// The target's side of a session.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) decoder: ResponseDecoder,
    /// The oldest first; the last one may still be under way.
    pub(crate) due: VecDeque<Due>,
    pub(crate) connection: Condition,
    pub(crate) hearing: Hearing,
    /// Whether the connection closes behind the response under way.
    pub(crate) closes: bool,
}

impl Answers {
    pub(crate) const fn new(max_head: usize) -> Self {
        Self {
            decoder: ResponseDecoder::new(max_head),
            due: VecDeque::new(),
            connection: Condition::Usable,
            hearing: Hearing::On,
            closes: false,
        }
    }

    /// Begins anew on another connection.
    pub(crate) const fn restart(&mut self) {
        self.decoder.restart();
        self.connection = Condition::Usable;
        self.hearing = Hearing::On;
        self.closes = false;
    }
}
