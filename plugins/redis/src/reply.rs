//! Where replies begin and end.
//!
//! Owns the framing of what servers send, RESP2 and RESP3 alike, streamed strings and aggregates included. Nothing is copied:
//! a reply of any size and depth is followed with a count of the elements still to come. What a reply answers is decided in
//! [`crate::outstanding`].

/// Longest line that is no payload: numbers, and those of simple strings and errors up to here are looked at.
const MAX_NUMBER_LINE: usize = 24;
/// Most elements of one reply, nested ones counted.
const MAX_ELEMENTS: u64 = 1 << 40;
/// Most streamed aggregates within each other.
const MAX_STREAMED: usize = 32;
/// Longest string, in bytes.
const MAX_BULK: i64 = 1 << 40;

/// What no server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A byte that begins nothing.
    #[error("unknown type {0:#04x}")]
    Type(u8),
    /// A length that is none, or too large.
    #[error("invalid length")]
    Length,
    /// A streamed string's part that is none.
    #[error("invalid part of a streamed string")]
    Part,
    /// Too many elements, or too many aggregates within each other.
    #[error("too large")]
    TooLarge,
}

/// How far a reply has been followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is complete.
    Done,
    /// It goes on.
    More,
    /// It is none.
    Invalid(ReplyError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum At {
    /// The type of an element comes next.
    #[default]
    Element,
    /// Within a line that ends with a line feed.
    Line,
    /// Within so many bytes of a string and its line end.
    Bulk(u64),
    /// The length of a streamed string's next part comes next.
    Part,
    /// Within so many bytes of such a part and its line end.
    PartBulk(u64),
}

/// Follows one reply after another.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    at: At,
    /// Elements still to come, of the innermost streamed aggregate or of the whole reply; 0: between replies.
    pending: u64,
    /// Whether nothing of the reply has been read yet.
    fresh: bool,
    /// As `pending`, for each streamed aggregate around.
    around: Vec<u64>,
    /// The last integer that was read.
    integer: Option<i64>,
}

enum Line {
    Incomplete,
    Invalid,
    /// A number, and the index behind the line.
    Number(i64, usize),
    /// A question mark.
    Streamed(usize),
}

/// Reads what follows a type from index `at` on.
fn line(bytes: &[u8], at: usize) -> Line {
    let rest = &bytes[at.min(bytes.len())..];
    if let [digit @ b'0'..=b'9', b'\r', b'\n', ..] = rest {
        return Line::Number(i64::from(digit - b'0'), at + 3);
    }
    let window = &rest[..rest.len().min(MAX_NUMBER_LINE)];
    let Some(end) = window.iter().position(|&b| b == b'\n') else {
        return if rest.len() < MAX_NUMBER_LINE { Line::Incomplete } else { Line::Invalid };
    };
    let next = at + end + 1;
    match &window[..end] {
        [b'?', b'\r'] => Line::Streamed(next),
        [text @ .., b'\r'] => {
            let (negative, digits) = match text {
                [b'-', digits @ ..] => (true, digits),
                [b'+', digits @ ..] | digits => (false, digits),
            };
            if digits.is_empty() {
                return Line::Invalid;
            }
            let value = digits.iter().try_fold(0_i64, |value, digit| match digit {
                b'0'..=b'9' => value.checked_mul(10)?.checked_sub(i64::from(digit - b'0')),
                _ => None,
            });
            match value {
                Some(value) if negative => Line::Number(value, next),
                Some(value) => value.checked_neg().map_or(Line::Invalid, |value| Line::Number(value, next)),
                None => Line::Invalid,
            }
        }
        _ => Line::Invalid,
    }
}

impl Reply {
    /// Whether no reply has begun that is not complete.
    pub const fn is_between(&self) -> bool {
        self.pending == 0
    }

    /// The last integer of the reply that was followed last.
    pub const fn integer(&self) -> Option<i64> {
        self.integer
    }

    /// Forgets a reply that will not be completed.
    pub fn reset(&mut self) {
        self.at = At::Element;
        self.pending = 0;
        self.around.clear();
        self.integer = None;
    }

    /// Follows one reply through `bytes`, a new one when the last was complete. Gives the number of bytes that belong to it and
    /// have been read: all of them unless it ends, fails, or pauses in the middle of a line. An attribute counts as a reply.
    pub fn advance(&mut self, bytes: &[u8]) -> (usize, Progress) {
        if self.pending == 0 {
            self.pending = 1;
            self.fresh = true;
            self.integer = None;
        }
        let mut index = 0;
        loop {
            match self.step(bytes, index) {
                Step::To(next) => index = next,
                Step::ElementEnds(next) => {
                    index = next;
                    self.at = At::Element;
                    self.pending -= 1;
                    if self.pending == 0 {
                        if self.around.is_empty() {
                            return (index, Progress::Done);
                        }
                        // Within a streamed aggregate there is always another one, or its end.
                        self.pending = 1;
                    }
                }
                Step::Pause(at) => return (at, Progress::More),
                Step::Fail(error) => return (index, Progress::Invalid(error)),
            }
        }
    }

    fn step(&mut self, bytes: &[u8], index: usize) -> Step {
        let here = bytes.len() - index;
        match self.at {
            At::Element => match bytes.get(index) {
                None => Step::Pause(index),
                Some(&kind) => {
                    let step = self.element(kind, bytes, index);
                    self.fresh &= matches!(step, Step::Pause(_));
                    step
                }
            },
            At::Line => match bytes[index..].iter().position(|&b| b == b'\n') {
                Some(end) => Step::ElementEnds(index + end + 1),
                None => Step::Pause(bytes.len()),
            },
            At::Bulk(left) if left > here as u64 => {
                self.at = At::Bulk(left - here as u64);
                Step::Pause(bytes.len())
            }
            At::Bulk(left) => Step::ElementEnds(index + left as usize),
            At::Part => match (bytes.get(index), line(bytes, index + 1)) {
                (None, _) | (Some(b';'), Line::Incomplete) => Step::Pause(index),
                (Some(b';'), Line::Number(0, next)) => Step::ElementEnds(next),
                (Some(b';'), Line::Number(length @ 1..=MAX_BULK, next)) => {
                    self.at = At::PartBulk(length as u64 + 2);
                    Step::To(next)
                }
                _ => Step::Fail(ReplyError::Part),
            },
            At::PartBulk(left) if left > here as u64 => {
                self.at = At::PartBulk(left - here as u64);
                Step::Pause(bytes.len())
            }
            At::PartBulk(left) => {
                self.at = At::Part;
                Step::To(index + left as usize)
            }
        }
    }

    fn element(&mut self, kind: u8, bytes: &[u8], index: usize) -> Step {
        match kind {
            b':' => match line(bytes, index + 1) {
                Line::Incomplete => Step::Pause(index),
                Line::Number(value, next) => {
                    self.integer = Some(value);
                    Step::ElementEnds(next)
                }
                Line::Invalid | Line::Streamed(_) => Step::Fail(ReplyError::Length),
            },
            b'+' | b'-' | b'_' | b',' | b'#' | b'(' => {
                self.at = At::Line;
                Step::To(index + 1)
            }
            b'$' | b'!' | b'=' => match line(bytes, index + 1) {
                Line::Incomplete => Step::Pause(index),
                Line::Number(length @ 0..=MAX_BULK, next) => {
                    self.at = At::Bulk(length as u64 + 2);
                    Step::To(next)
                }
                Line::Number(-1, next) if kind == b'$' => Step::ElementEnds(next),
                Line::Streamed(next) if kind == b'$' => {
                    self.at = At::Part;
                    Step::To(next)
                }
                _ => Step::Fail(ReplyError::Length),
            },
            b'*' | b'~' | b'%' | b'>' | b'|' => self.aggregate(kind, bytes, index),
            b'.' => match (bytes.get(index + 1), bytes.get(index + 2)) {
                (Some(b'\r'), Some(b'\n')) => match self.around.pop() {
                    Some(pending) if self.pending == 1 => {
                        self.pending = pending;
                        Step::ElementEnds(index + 3)
                    }
                    _ => Step::Fail(ReplyError::Type(kind)),
                },
                (None | Some(b'\r'), None) => Step::Pause(index),
                _ => Step::Fail(ReplyError::Type(kind)),
            },
            _ => Step::Fail(ReplyError::Type(kind)),
        }
    }

    fn aggregate(&mut self, kind: u8, bytes: &[u8], index: usize) -> Step {
        match line(bytes, index + 1) {
            Line::Incomplete => Step::Pause(index),
            Line::Number(-1, next) if kind == b'*' => Step::ElementEnds(next),
            Line::Number(count @ 0.., next) => {
                let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                // What an attribute describes is still to come, unless it stands before a whole reply: then that is one.
                let own = u64::from(kind == b'|' && !self.fresh);
                let more = (count as u64).checked_mul(each).filter(|more| *more <= MAX_ELEMENTS);
                match more.map(|more| self.pending + more + own) {
                    Some(pending) if pending <= MAX_ELEMENTS => {
                        self.pending = pending;
                        Step::ElementEnds(next)
                    }
                    _ => Step::Fail(ReplyError::TooLarge),
                }
            }
            Line::Streamed(_) if self.around.len() == MAX_STREAMED => Step::Fail(ReplyError::TooLarge),
            Line::Streamed(next) if kind != b'|' => {
                self.around.push(self.pending);
                self.pending = 1;
                Step::To(next)
            }
            _ => Step::Fail(ReplyError::Length),
        }
    }
}

enum Step {
    /// Go on at this index.
    To(usize),
    /// An element ends at this index; an aggregate has added its own to those pending.
    ElementEnds(usize),
    /// More bytes are needed from this index on.
    Pause(usize),
    Fail(ReplyError),
}

/// What a reply is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An answer.
    Answer,
    /// An answer that says nothing but a word.
    Simple,
    /// An answer that is nothing: of a transaction that was not executed.
    Null,
    /// An error.
    Error,
    /// Something about the reply that follows.
    Attribute,
    /// Sent without being asked for, or a subscription's confirmation.
    Push(Push),
    /// An array that begins with a word of subscriptions. In RESP2 it is what [`Kind::Push`] is in RESP3.
    Array(Push),
}

/// What is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// A message, an invalidation, or anything else that no request asked for.
    Message,
    /// A subscription of that kind was made.
    Subscribed(Channel),
    /// A subscription of that kind was ended.
    Unsubscribed(Channel),
    /// Anything else.
    Other,
}

/// Kinds of subscriptions; each has its own number of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// By name.
    Plain,
    /// By pattern.
    Pattern,
    /// By name, within a shard.
    Sharded,
}

/// What is pushed, by its first word.
fn push_of(word: &[u8]) -> Push {
    match word {
        b"message"
        | b"pmessage"
        | b"smessage"
        | b"invalidate"
        | b"tracking-redir-broken"
        | b"server-cpu-usage" => Push::Message,
        b"subscribe" => Push::Subscribed(Channel::Plain),
        b"psubscribe" => Push::Subscribed(Channel::Pattern),
        b"ssubscribe" => Push::Subscribed(Channel::Sharded),
        b"unsubscribe" => Push::Unsubscribed(Channel::Plain),
        b"punsubscribe" => Push::Unsubscribed(Channel::Pattern),
        b"sunsubscribe" => Push::Unsubscribed(Channel::Sharded),
        _ => Push::Other,
    }
}

/// What the reply at the front of `bytes` is; `None` when more bytes are needed to say. Looks at a few dozen bytes at most.
pub fn kind(bytes: &[u8]) -> Option<Kind> {
    Some(match bytes.first()? {
        b'-' | b'!' => Kind::Error,
        b'+' => Kind::Simple,
        b'|' => Kind::Attribute,
        b'_' => Kind::Null,
        b'>' => Kind::Push(first_word(bytes)?),
        b'*' => match (bytes.get(1)?, bytes.get(2)?) {
            (b'-', _) => Kind::Null,
            (b'0', b'\r') => Kind::Answer,
            _ => match first_word(bytes)? {
                Push::Other => Kind::Answer,
                push => Kind::Array(push),
            },
        },
        _ => Kind::Answer,
    })
}

/// What is pushed by an aggregate, by its first element.
fn first_word(bytes: &[u8]) -> Option<Push> {
    let Line::Number(1.., at) = line(bytes, 1) else {
        return if matches!(line(bytes, 1), Line::Incomplete) { None } else { Some(Push::Other) };
    };
    match bytes.get(at)? {
        b'$' => match line(bytes, at + 1) {
            Line::Incomplete => None,
            Line::Number(length @ 7..=21, start) => bytes.get(start..start + length as usize).map(push_of),
            _ => Some(Push::Other),
        },
        b'+' => {
            let text = &bytes[at + 1..bytes.len().min(at + 32)];
            match text.iter().position(|&b| b == b'\r') {
                Some(end) => Some(push_of(&text[..end])),
                None if bytes.len() < at + 32 => None,
                None => Some(Push::Other),
            }
        }
        _ => Some(Push::Other),
    }
}

/// The first word of an error, if it is one of capital letters: `b"-MOVED 1 host\r\n"` → `MOVED`. `None` when more bytes are
/// needed; else empty when it begins with something else.
pub fn error_word(bytes: &[u8]) -> Option<&str> {
    let start = if bytes.first() == Some(&b'!') {
        match line(bytes, 1) {
            Line::Incomplete => return None,
            Line::Number(_, next) => next,
            _ => return Some(""),
        }
    } else {
        1
    };
    let text = bytes.get(start..).unwrap_or_default();
    let is_part = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    match text.iter().take(MAX_WORD).position(|b| !is_part(b)) {
        Some(end) => Some(std::str::from_utf8(&text[..end]).unwrap_or_default()),
        None if text.len() < MAX_WORD => None,
        None => Some(""),
    }
}

/// Longest first word of an error.
const MAX_WORD: usize = 32;

/// Whether a simple string is a line of `MONITOR`'s endless answer: it begins with a time and a database. `None` when more
/// bytes are needed.
pub fn is_monitor_line(bytes: &[u8]) -> Option<bool> {
    let mut dots = 0;
    for (index, byte) in bytes.iter().enumerate().skip(1).take(40) {
        match byte {
            b'0'..=b'9' => {}
            b'.' if index > 1 && dots == 0 => dots = 1,
            b' ' if dots == 1 => return bytes.get(index + 1).map(|b| *b == b'['),
            _ => return Some(false),
        }
    }
    if bytes.len() > 40 { Some(false) } else { None }
}
