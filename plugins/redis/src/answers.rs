//! The target's side of a session: which reply answers which request.
//!
//! Owns what is outstanding, what a new connection has to be told, and the subscriptions that tell a message from a reply.
//! What is done with the news is the caller's business ([`Sink`]).

use crate::memory::{Effect, Memory};
use crate::outstanding::{Answered, Outcome, Outstanding};
use crate::reply::{self, Channel, Kind, Progress, Push, Reply, ReplyError};

/// Who is told what came.
pub trait Sink {
    /// The oldest request has its reply.
    fn reply_complete(&mut self);
    /// The connection is what it has to be.
    fn ready(&mut self);
    /// An error came, with this first word (empty: none that is one).
    fn error(&mut self, word: &str, during: During);
    /// A reply came that nothing asked for.
    fn unexpected(&mut self);
}

/// When an error came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// In answer to a request.
    Requests,
    /// In answer to what a new connection is told.
    Preamble,
}

/// Follows the target's replies.
#[derive(Debug, Default)]
pub struct Answers {
    reply: Reply,
    kind: Option<Kind>,
    /// Requests whose replies have not come.
    pub outstanding: Outstanding,
    /// What a new connection has to be told.
    pub memory: Memory,
    speaks_resp3: bool,
    monitors: bool,
    /// By [`Channel`].
    subscribed: [u32; 3],
    /// Replies still to come of what the connection was told.
    preamble: u32,
}

impl Answers {
    /// A connection is there. What it has to be told is appended to `bytes`; when that is answered, it is ready.
    pub fn connect(&mut self, bytes: &mut Vec<u8>) -> Preamble {
        self.preamble = self.memory.preamble(bytes);
        if self.preamble == 0 { Preamble::None } else { Preamble::Answered }
    }

    /// The connection is lost, and so are the replies to the oldest `unanswered` requests.
    pub fn lose(&mut self, unanswered: u32) {
        self.reply.reset();
        self.kind = None;
        let memory = &mut self.memory;
        self.outstanding.forget(unanswered, &mut |effect| memory.apply(effect));
        self.speaks_resp3 = false;
        self.monitors = false;
        self.subscribed = [0; 3];
        self.preamble = 0;
    }

    /// A request without reply has these effects.
    pub fn silent(&mut self, effects: Vec<Effect>) {
        let Self { outstanding, memory, .. } = self;
        outstanding.silent(effects, |effect| memory.apply(effect));
    }

    /// Takes the bytes of replies; gives the number of bytes that need not come again.
    ///
    /// # Errors
    /// When they are none.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<usize, ReplyError> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if self.reply.is_between() && self.kind.is_none() {
                match self.kind_of(rest) {
                    Some(Kind::Error) => {
                        let Some(word) = reply::error_word(rest) else { return Ok(at) };
                        sink.error(word, if self.preamble > 0 { During::Preamble } else { During::Requests });
                        self.kind = Some(Kind::Error);
                    }
                    Some(kind) => self.kind = Some(kind),
                    None => return Ok(at),
                }
            }
            let (read, progress) = self.reply.advance(rest);
            at += read;
            match progress {
                Progress::Done => self.complete(sink),
                Progress::More => return Ok(at),
                Progress::Invalid(error) => return Err(error),
            }
        }
        Ok(at)
    }

    /// What a reply is, as far as that matters now.
    #[inline]
    fn kind_of(&self, bytes: &[u8]) -> Option<Kind> {
        let first = *bytes.first()?;
        match first {
            b':' | b'$' => return Some(Kind::Answer),
            b'+' if self.monitors => {
                let pushed = reply::is_monitor_line(bytes)?;
                return Some(if pushed { Kind::Push(Push::Message) } else { Kind::Simple });
            }
            b'+' => return Some(Kind::Simple),
            b'*' if !self.may_be_message() => {
                // `*-1` is all that matters.
                return bytes.get(1).map(|b| if *b == b'-' { Kind::Null } else { Kind::Answer });
            }
            _ => {}
        }
        let kind = reply::kind(bytes)?;
        Some(match kind {
            Kind::Array(_) if self.speaks_resp3 => Kind::Answer,
            Kind::Array(Push::Message) if self.subscribed == [0; 3] => Kind::Answer,
            Kind::Array(push) => Kind::Push(push),
            // In the rest of a transaction's answer, confirmations count.
            Kind::Push(Push::Subscribed(_) | Push::Unsubscribed(_)) if self.outstanding.awaits_rest() => {
                Kind::Answer
            }
            kind => kind,
        })
    }

    /// Whether an array may be one of RESP2's messages or confirmations.
    fn may_be_message(&self) -> bool {
        let may_be_confirmation =
            self.preamble > 0 || self.outstanding.is_empty() || self.outstanding.awaits_confirmation();
        !self.outstanding.awaits_rest()
            && !self.speaks_resp3
            && (self.subscribed != [0; 3] || may_be_confirmation)
    }

    #[inline]
    fn complete(&mut self, sink: &mut impl Sink) {
        let outcome = match self.kind.take().unwrap_or(Kind::Answer) {
            Kind::Attribute | Kind::Push(Push::Message | Push::Other) => return,
            Kind::Push(Push::Subscribed(channel)) => return self.confirm(channel, false, sink),
            Kind::Push(Push::Unsubscribed(channel)) => return self.confirm(channel, true, sink),
            Kind::Error | Kind::Null => Outcome::Refused,
            Kind::Answer | Kind::Simple | Kind::Array(_) => Outcome::Done,
        };
        if self.preamble > 0 {
            return self.preamble_answered(sink);
        }
        let Self { outstanding, memory, speaks_resp3, monitors, subscribed, .. } = self;
        let answered = outstanding.answered(outcome, &mut |effect| {
            match &effect {
                Effect::Protocol(version) => *speaks_resp3 = *version == 3,
                Effect::Monitor => *monitors = true,
                Effect::Reset => {
                    *speaks_resp3 = false;
                    *monitors = false;
                    *subscribed = [0; 3];
                }
                _ => {}
            }
            memory.apply(effect);
        });
        Self::tell(answered, sink);
    }

    fn tell(answered: Answered, sink: &mut impl Sink) {
        match answered {
            Answered::Request => sink.reply_complete(),
            Answered::Part => {}
            Answered::Unexpected => sink.unexpected(),
        }
    }

    fn preamble_answered(&mut self, sink: &mut impl Sink) {
        self.preamble -= 1;
        if self.preamble == 0 {
            self.monitors = self.memory.monitors();
            self.speaks_resp3 = self.memory.speaks_resp3();
            sink.ready();
        }
    }

    /// A confirmation came; it says how many subscriptions there are now.
    fn confirm(&mut self, channel: Channel, ends: bool, sink: &mut impl Sink) {
        let count = self.reply.integer().and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
        let before = self.subscribed[channel as usize];
        self.subscribed[channel as usize] = match channel {
            // Names and patterns are counted together.
            Channel::Plain => count.saturating_sub(self.subscribed[Channel::Pattern as usize]),
            Channel::Pattern => count.saturating_sub(self.subscribed[Channel::Plain as usize]),
            Channel::Sharded => count,
        };
        if self.preamble > 0 {
            return self.preamble_answered(sink);
        }
        let Self { outstanding, memory, .. } = self;
        match outstanding.confirmed(channel, ends, before, &mut |effect| memory.apply(effect)) {
            // The target was told not to answer, or ends a subscription by itself.
            Answered::Unexpected => {}
            answered => Self::tell(answered, sink),
        }
    }
}

/// What a new connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preamble {
    /// Nothing that is answered: it is ready.
    None,
    /// Something that is answered.
    Answered,
}
