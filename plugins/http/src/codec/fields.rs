//! Header fields, and what those say that decide where messages end.

use memchr::memchr;

/// One field line, with the lines folded onto it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name, as it was sent.
    pub name: &'a [u8],
    /// The value, without white space around it; obsolete folds are still in it.
    pub value: &'a [u8],
    /// The whole line or lines, with their ends.
    pub line: &'a [u8],
}

impl Field<'_> {
    /// Whether it has that name, in whatever case.
    pub const fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The field lines of a head that was found to be well-formed.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let (field, rest) = split_field(self.0)?;
        self.0 = rest;
        Some(Field { name: trim(field.name), ..field })
    }
}

/// The first field of `bytes` and what is behind it; none at the empty line, and where there is no whole field.
pub(super) fn split_field(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    if matches!(bytes, [b'\n', ..] | [b'\r', b'\n', ..]) {
        return None;
    }
    let mut end = memchr(b'\n', bytes)? + 1;
    // A line that begins with white space goes on with the one before it (RFC 9112, section 5.2).
    while matches!(bytes.get(end), Some(b' ' | b'\t')) {
        end += memchr(b'\n', &bytes[end..])? + 1;
    }
    let (line, rest) = bytes.split_at(end);
    let colon = memchr(b':', line)?;
    Some((Field { name: &line[..colon], value: trim(&line[colon + 1..]), line }, rest))
}

/// `bytes` without white space and line ends at both ends.
pub const fn trim(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes;
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t' | b'\r' | b'\n'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The members of a list (RFC 9110, section 5.6.1); empty ones are left out.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|token| !token.is_empty())
}

/// What `Content-Length` says, all its fields together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Length {
    /// There is none.
    #[default]
    Missing,
    /// So many bytes, said once or several times.
    Known(u64),
    /// No number, too large a number, or different ones.
    Bad,
}

impl Length {
    fn add(&mut self, value: &[u8]) {
        for member in value.split(|byte| *byte == b',').map(trim) {
            let known = parse_length(member);
            *self = match (*self, known) {
                (Self::Missing, Some(length)) => Self::Known(length),
                (Self::Known(before), Some(length)) if before == length => Self::Known(length),
                _ => Self::Bad,
            };
        }
    }
}

fn parse_length(digits: &[u8]) -> Option<u64> {
    let add = |length: u64, digit: &u8| {
        digit.is_ascii_digit().then_some(())?;
        length.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    };
    digits.iter().try_fold(0, add).filter(|_| !digits.is_empty())
}

/// What `Transfer-Encoding` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Coding {
    /// There is none.
    #[default]
    Missing,
    /// The last one is `chunked`.
    Chunked,
    /// The last one is not.
    Other,
}

/// What `Connection` says, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Connection(u8);

impl Connection {
    /// The sender closes after this exchange.
    pub const CLOSE: Self = Self(1);
    /// The sender keeps the connection open.
    pub const KEEP_ALIVE: Self = Self(2);
    /// `Upgrade` is meant.
    pub const UPGRADE: Self = Self(4);

    /// Whether all of `other` is said.
    pub const fn says(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn add(&mut self, value: &[u8]) {
        for token in tokens(value) {
            self.0 |= match token {
                token if token.eq_ignore_ascii_case(b"close") => Self::CLOSE.0,
                token if token.eq_ignore_ascii_case(b"keep-alive") => Self::KEEP_ALIVE.0,
                token if token.eq_ignore_ascii_case(b"upgrade") => Self::UPGRADE.0,
                _ => 0,
            };
        }
    }
}

/// What `Upgrade` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum UpgradeTo {
    /// There is none.
    #[default]
    Missing,
    /// A protocol whose client never sends what looks like a request of HTTP/1.
    Distinct,
    /// Another.
    Other,
}

/// What `Expect` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Expectation {
    /// Nothing that is known.
    #[default]
    Missing,
    /// `100-continue`.
    Continue,
}

/// What a head's fields say about the message and the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Facts {
    /// `Content-Length`.
    pub length: Length,
    /// `Transfer-Encoding`.
    pub coding: Coding,
    /// `Connection`.
    pub connection: Connection,
    /// `Upgrade`.
    pub upgrade: UpgradeTo,
    /// `Expect`.
    pub expect: Expectation,
}

impl Facts {
    /// Takes note of one field; white space around the value may still be there.
    #[inline]
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) {
        // The length tells nearly all other fields apart without looking at their letters.
        if matches!(name.len(), 6 | 7 | 10 | 14 | 17) {
            self.add_known(name, trim(value));
        }
    }

    fn add_known(&mut self, name: &[u8], value: &[u8]) {
        match name.len() {
            6 if name.eq_ignore_ascii_case(b"expect") && value.eq_ignore_ascii_case(b"100-continue") => {
                self.expect = Expectation::Continue;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                let distinct = |token: &[u8]| {
                    token.eq_ignore_ascii_case(b"websocket") || token.eq_ignore_ascii_case(b"h2c")
                };
                self.upgrade =
                    if tokens(value).all(distinct) { UpgradeTo::Distinct } else { UpgradeTo::Other };
            }
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection.add(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length.add(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                // The value `identity` of RFC 2616 says nothing.
                for token in tokens(value).filter(|token| !token.eq_ignore_ascii_case(b"identity")) {
                    // Chunked twice is no encoding (RFC 9112, section 6.1).
                    let chunked = token.eq_ignore_ascii_case(b"chunked") && self.coding != Coding::Chunked;
                    self.coding = if chunked { Coding::Chunked } else { Coding::Other };
                }
            }
            _ => {}
        }
    }
}
