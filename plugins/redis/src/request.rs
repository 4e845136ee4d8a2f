//! Where requests begin and end.
//!
//! Owns the framing of what clients send: RESP arrays of bulk strings, and inline commands. Nothing is copied and nothing is
//! kept but two numbers, so that a payload of any size passes as it comes. What a request means is decided elsewhere.

use std::ops::Range;

/// Most arguments that Redis takes.
pub const MAX_ARGS: i64 = i32::MAX as i64;
/// Longest argument that any Redis can be told to take (`proto-max-bulk-len`), in bytes.
pub const MAX_BULK: i64 = 1 << 40;
/// Longest inline command, in bytes; Redis closes the connection on a longer one.
pub const MAX_INLINE: usize = 64 * 1024;
/// Longest name that may be one of a command, in bytes.
pub const MAX_NAME: usize = 64;
/// Longest line with a number, with its sign and line end.
const MAX_NUMBER_LINE: usize = 24;

/// What Redis would close the connection for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The number of arguments is none, or too large.
    #[error("invalid number of arguments")]
    ArgumentCount,
    /// The length of an argument is none, or too large.
    #[error("invalid length of an argument")]
    Length,
    /// An argument does not begin with a dollar sign.
    #[error("an argument is no bulk string")]
    NotBulk,
    /// An inline command without end.
    #[error("an inline command is too long")]
    InlineTooLong,
}

/// How a request begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// More bytes are needed to say.
    Incomplete,
    /// None that Redis would read.
    Invalid(RequestError),
    /// So many bytes that are no request, and have no reply: an empty line or array.
    Empty(usize),
    /// An array with a name.
    Array {
        /// Number of arguments, the name counted.
        args: u32,
        /// Where the name is; `None` when it is too long for one.
        name: Option<Range<usize>>,
        /// Where the first argument's length begins.
        first: usize,
    },
    /// An inline command of so many bytes, line end included.
    Inline(usize),
}

enum Number {
    Incomplete,
    Invalid,
    Is(i64, usize),
}

/// Reads a number and its line end from index `at` on; gives the index behind.
fn number(bytes: &[u8], at: usize) -> Number {
    let Some(rest) = bytes.get(at..) else { return Number::Incomplete };
    // Nearly all numbers here have one or two digits.
    if let [digit @ b'0'..=b'9', b'\r', b'\n', ..] = rest {
        return Number::Is(i64::from(digit - b'0'), at + 3);
    }
    long_number(rest, at)
}

fn long_number(rest: &[u8], at: usize) -> Number {
    let negative = rest.first() == Some(&b'-');
    let digits = usize::from(negative);
    let mut value = 0_i64;
    let mut index = digits;
    loop {
        match rest.get(index) {
            None if index < MAX_NUMBER_LINE => return Number::Incomplete,
            Some(digit @ b'0'..=b'9') => {
                // Redis takes no leading zeros.
                if index > digits && value == 0 {
                    return Number::Invalid;
                }
                let next = value.checked_mul(10).and_then(|v| v.checked_add(i64::from(digit - b'0')));
                let Some(next) = next else { return Number::Invalid };
                value = next;
                index += 1;
            }
            Some(b'\r') if index > digits => break,
            _ => return Number::Invalid,
        }
    }
    match rest.get(index + 1) {
        None => Number::Incomplete,
        Some(b'\n') if !(negative && value == 0) => {
            Number::Is(if negative { -value } else { value }, at + index + 2)
        }
        Some(_) => Number::Invalid,
    }
}

/// How the request at the front of `bytes` begins. `seen`: as many of them had no line end before.
pub fn head(bytes: &[u8], seen: usize) -> Head {
    match bytes.first() {
        None => Head::Incomplete,
        Some(b'*') => array_head(bytes),
        Some(_) => inline_head(bytes, seen),
    }
}

fn array_head(bytes: &[u8]) -> Head {
    let (args, first) = match number(bytes, 1) {
        Number::Incomplete => return Head::Incomplete,
        Number::Invalid => return Head::Invalid(RequestError::ArgumentCount),
        Number::Is(..=0, next) => return Head::Empty(next),
        Number::Is(args, _) if args > MAX_ARGS => return Head::Invalid(RequestError::ArgumentCount),
        Number::Is(args, next) => (args as u32, next),
    };
    match bulk_header(bytes, first) {
        BulkHeader::Incomplete => Head::Incomplete,
        BulkHeader::Invalid(error) => Head::Invalid(error),
        BulkHeader::Is(length, _) if length > MAX_NAME as u64 => Head::Array { args, name: None, first },
        BulkHeader::Is(length, start) => {
            let end = start + length as usize;
            if bytes.len() < end {
                return Head::Incomplete;
            }
            Head::Array { args, name: Some(start..end), first }
        }
    }
}

fn inline_head(bytes: &[u8], seen: usize) -> Head {
    let from = seen.min(bytes.len());
    match bytes[from..].iter().position(|&b| b == b'\n') {
        Some(at) if from + at < MAX_INLINE => {
            let line = &bytes[..from + at];
            if line.iter().all(|b| b.is_ascii_whitespace()) {
                Head::Empty(from + at + 1)
            } else {
                Head::Inline(from + at + 1)
            }
        }
        None if bytes.len() < MAX_INLINE => Head::Incomplete,
        _ => Head::Invalid(RequestError::InlineTooLong),
    }
}

/// The line before an argument's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkHeader {
    /// More bytes are needed.
    Incomplete,
    /// It is none.
    Invalid(RequestError),
    /// Length of the argument, and index of its first byte.
    Is(u64, usize),
}

/// Reads the line before an argument's bytes from index `at` on.
pub fn bulk_header(bytes: &[u8], at: usize) -> BulkHeader {
    match bytes.get(at) {
        None => BulkHeader::Incomplete,
        Some(b'$') => match number(bytes, at + 1) {
            Number::Incomplete => BulkHeader::Incomplete,
            Number::Is(length @ 0..=MAX_BULK, next) => BulkHeader::Is(length as u64, next),
            Number::Invalid | Number::Is(..) => BulkHeader::Invalid(RequestError::Length),
        },
        Some(_) => BulkHeader::Invalid(RequestError::NotBulk),
    }
}

/// How far a request has been followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is complete.
    Done,
    /// It goes on.
    More,
    /// Redis would not read it.
    Invalid(RequestError),
}

/// What is still to come of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    args_left: u32,
    bulk_left: u64,
}

impl Body {
    /// An array of so many arguments of which none has been read.
    pub const fn new(args: u32) -> Self {
        Self { args_left: args, bulk_left: 0 }
    }

    /// Arguments whose length has not been read yet.
    pub const fn args_left(&self) -> u32 {
        self.args_left
    }

    /// Whether the next byte is part of an argument.
    pub const fn is_within_argument(&self) -> bool {
        self.bulk_left > 0
    }

    /// Whether all has been read.
    pub const fn is_done(&self) -> bool {
        self.args_left == 0 && self.bulk_left == 0
    }

    /// Takes the rest of an argument, as far as it is there: at most `available` bytes. Gives their number.
    pub fn take_argument(&mut self, available: usize) -> usize {
        let taken = self.bulk_left.min(available as u64);
        self.bulk_left -= taken;
        taken as usize
    }

    /// The length of the next argument has been read.
    pub fn begin_argument(&mut self, length: u64) {
        self.args_left = self.args_left.saturating_sub(1);
        // With the line end, which Redis skips without a look.
        self.bulk_left = length + 2;
    }

    /// Follows the request through `bytes`. Gives the number of bytes that belong to it and have been read: all of them unless
    /// it ends, fails, or pauses in the middle of a line.
    pub fn advance(&mut self, bytes: &[u8]) -> (usize, Progress) {
        let mut at = 0;
        loop {
            at += self.take_argument(bytes.len() - at);
            if self.bulk_left > 0 {
                return (at, Progress::More);
            }
            if self.args_left == 0 {
                return (at, Progress::Done);
            }
            match bulk_header(bytes, at) {
                BulkHeader::Incomplete => return (at, Progress::More),
                BulkHeader::Invalid(error) => return (at, Progress::Invalid(error)),
                BulkHeader::Is(length, next) => {
                    self.begin_argument(length);
                    at = next;
                }
            }
        }
    }
}

/// The first `most` arguments of an array that starts with `first` at its first argument, as far as they are there in full.
pub fn arguments<'a>(bytes: &'a [u8], first: usize, args: u32, most: usize, into: &mut Vec<&'a [u8]>) {
    let mut at = first;
    for _ in 0..most.min(args as usize) {
        let BulkHeader::Is(length, start) = bulk_header(bytes, at) else { return };
        let Some(end) = usize::try_from(length).ok().and_then(|length| start.checked_add(length)) else {
            return;
        };
        let Some(argument) = bytes.get(start..end) else { return };
        into.push(argument);
        at = end + 2;
    }
}
