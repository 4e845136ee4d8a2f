//! Heads of requests and responses.

use super::fields::{Coding, Connection, Expectation, Facts, Fields, Length, split_field};
use super::{BadMessage, Framing};
use memchr::{memchr, memchr2};

/// Methods that a request line surely begins with: those registered with IANA that clients use, and PURGE of caches.
pub const METHODS: [&[u8]; 24] = [
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"DELETE",
    b"CONNECT",
    b"OPTIONS",
    b"TRACE",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"SEARCH",
    b"MERGE",
    b"CHECKOUT",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"PURGE",
    b"QUERY",
];

/// Methods that change how a response is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Method {
    /// Responses have no body.
    Head,
    /// Responses of success turn the connection into a tunnel.
    Connect,
    /// Any other.
    #[default]
    Other,
}

/// A request's head.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method's name.
    pub method: &'a [u8],
    /// The request target, in any of its forms (RFC 9112, section 3.2).
    pub target: &'a [u8],
    /// The digit behind `HTTP/1.`.
    pub minor: u8,
    /// The field lines.
    pub fields: Fields<'a>,
    /// What they say.
    pub facts: Facts,
    /// Bytes of the head, with the empty line that ends it.
    pub len: usize,
    /// Bytes of the request line, with its end.
    pub line_len: usize,
}

/// A response's head.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The status code.
    pub status: u16,
    /// The digit behind `HTTP/1.`.
    pub minor: u8,
    /// The field lines.
    pub fields: Fields<'a>,
    /// What they say.
    pub facts: Facts,
    /// Bytes of the head, with the empty line that ends it.
    pub len: usize,
}

/// Whether a head is whole.
pub(super) enum Parsed<T> {
    Whole(T),
    /// Its end is yet to come. So many bytes at the start are whole lines of which nothing is left to find out.
    Incomplete(usize),
}

/// A kind of message: how its head is read.
///
/// Whatever is wrong with a head is found in the shortest piece of it that shows it, so that the ways in which bytes may come
/// all lead to the same.
pub(super) trait Head<'a>: Sized {
    /// What is done about white space before a field's colon.
    const SPACES: Spaces;

    /// Reads the head at the start of `bytes`.
    fn parse(bytes: &'a [u8]) -> Result<Parsed<Self>, BadMessage>;
}

impl<'a> Head<'a> for RequestHead<'a> {
    const SPACES: Spaces = Spaces::Refused;

    fn parse(bytes: &'a [u8]) -> Result<Parsed<Self>, BadMessage> {
        parse_request(bytes)
    }
}

impl<'a> Head<'a> for ResponseHead<'a> {
    const SPACES: Spaces = Spaces::Tolerated;

    fn parse(bytes: &'a [u8]) -> Result<Parsed<Self>, BadMessage> {
        parse_response(bytes)
    }
}

fn parse_request(bytes: &[u8]) -> Result<Parsed<RequestHead<'_>>, BadMessage> {
    let method_len = bytes.iter().position(|byte| !is_token(*byte));
    let Some(method_len) = method_len else { return Ok(Parsed::Incomplete(0)) };
    if method_len == 0 || bytes[method_len] != b' ' {
        return Err(BadMessage::RequestLine);
    }
    let Some(line_len) = memchr(b'\n', bytes).map(|at| at + 1) else { return Ok(Parsed::Incomplete(0)) };
    let line = without_end(&bytes[..line_len]);
    let (method, rest) = (&line[..method_len], &line[method_len + 1..]);
    let target_len = memchr2(b' ', b'\t', rest).ok_or(BadMessage::RequestLine)?;
    let (target, version) = (&rest[..target_len], &rest[target_len + 1..]);
    if target.is_empty() {
        return Err(BadMessage::RequestLine);
    }
    let minor = parse_version(version).ok_or(BadMessage::Version)?;
    let fields = &bytes[line_len..];
    let (fields_len, facts) = match parse_fields(fields, Spaces::Refused)? {
        Parsed::Whole(parsed) => parsed,
        Parsed::Incomplete(judged) => return Ok(Parsed::Incomplete(line_len + judged)),
    };
    let fields = Fields(&fields[..fields_len]);
    let len = line_len + fields_len;
    Ok(Parsed::Whole(RequestHead { method, target, minor, fields, facts, len, line_len }))
}

fn parse_response(bytes: &[u8]) -> Result<Parsed<ResponseHead<'_>>, BadMessage> {
    const START: &[u8] = b"HTTP/1.";
    let known = bytes.len().min(START.len());
    if bytes[..known] != START[..known] {
        return Err(BadMessage::StatusLine);
    }
    let Some(line_len) = memchr(b'\n', bytes).map(|at| at + 1) else { return Ok(Parsed::Incomplete(0)) };
    let line = without_end(&bytes[..line_len]);
    let (version, rest) = line.split_at_checked(8).ok_or(BadMessage::StatusLine)?;
    let minor = parse_version(version).ok_or(BadMessage::StatusLine)?;
    let &[b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ref reason @ ..] = rest else {
        return Err(BadMessage::StatusLine);
    };
    if !matches!(reason, [] | [b' ', ..]) {
        return Err(BadMessage::StatusLine);
    }
    let status = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
    let fields = &bytes[line_len..];
    let (fields_len, facts) = match parse_fields(fields, Spaces::Tolerated)? {
        Parsed::Whole(parsed) => parsed,
        Parsed::Incomplete(judged) => return Ok(Parsed::Incomplete(line_len + judged)),
    };
    let fields = Fields(&fields[..fields_len]);
    Ok(Parsed::Whole(ResponseHead { status, minor, fields, facts, len: line_len + fields_len }))
}

/// What is done about white space between a field's name and its colon: requests with it are refused, and from responses it
/// is taken away (RFC 9112, section 5.1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spaces {
    Refused,
    Tolerated,
}

/// Reads field lines up to the empty one: how many bytes they are, with that one, and what they say.
pub(super) fn parse_fields(bytes: &[u8], spaces: Spaces) -> Result<Parsed<(usize, Facts)>, BadMessage> {
    let mut facts = Facts::default();
    let mut rest = bytes;
    loop {
        match rest {
            [b'\n', ..] => return Ok(Parsed::Whole((bytes.len() - rest.len() + 1, facts))),
            [b'\r', b'\n', ..] => return Ok(Parsed::Whole((bytes.len() - rest.len() + 2, facts))),
            _ => {}
        }
        if let Some((name, value, after)) = split_plain_field(rest) {
            facts.add(name, value);
            rest = after;
            continue;
        }
        let Some((field, after)) = split_field(rest) else {
            // Without a line's end more may come; a line without a colon is no field, whatever comes.
            return match memchr(b'\n', rest) {
                Some(end) if memchr(b':', &rest[..end]).is_none() => Err(BadMessage::FieldLine),
                _ => Ok(Parsed::Incomplete(bytes.len() - rest.len())),
            };
        };
        let name = match (spaces, field.name) {
            (Spaces::Tolerated, [.., b' ' | b'\t']) => super::trim(field.name),
            (_, name) => name,
        };
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(BadMessage::FieldLine);
        }
        if after.is_empty() {
            // A line may yet be folded onto it.
            return Ok(Parsed::Incomplete(bytes.len() - rest.len()));
        }
        facts.add(name, field.value);
        rest = after;
    }
}

/// The name and value of a well-formed field that is surely not folded, and what is behind it: nearly every field there is.
fn split_plain_field(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let name_len = bytes.iter().position(|byte| !is_token(*byte))?;
    let (name, rest) = bytes.split_at(name_len);
    let (b':', rest) = rest.split_first()? else { return None };
    let (value, after) = rest.split_at(memchr(b'\n', rest)? + 1);
    let unfolded = !matches!(after, [] | [b' ' | b'\t', ..]);
    (unfolded && !name.is_empty()).then_some((name, value, after))
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The digit behind `HTTP/1.`.
fn parse_version(version: &[u8]) -> Option<u8> {
    match version.strip_prefix(b"HTTP/1.")? {
        [minor @ b'0'..=b'9'] => Some(minor - b'0'),
        _ => None,
    }
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// Whether names of methods and fields may have this byte (RFC 9110, section 5.6.2).
const fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

impl RequestHead<'_> {
    /// The method, as far as it matters to the response.
    pub fn kind(&self) -> Method {
        match self.method {
            b"HEAD" => Method::Head,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        }
    }

    /// How the body's end is found (RFC 9112, section 6.3).
    ///
    /// # Errors
    /// When servers don't agree about it: two lengths, a transfer coding that is not chunked or comes with HTTP/1.0.
    pub const fn framing(&self) -> Result<Framing, BadMessage> {
        match (self.facts.coding, self.facts.length) {
            (Coding::Chunked, _) if self.minor > 0 => Ok(Framing::Chunked),
            (Coding::Chunked | Coding::Other, _) => Err(BadMessage::TransferEncoding),
            (Coding::Missing, Length::Bad) => Err(BadMessage::ContentLength),
            (Coding::Missing, Length::Known(length)) => Ok(Framing::Length(length)),
            (Coding::Missing, Length::Missing) => Ok(Framing::None),
        }
    }

    /// Whether the client waits for a 100 before it sends the body (RFC 9110, section 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.minor > 0 && self.facts.expect == Expectation::Continue
    }

    /// Whether the client asks to go on with another protocol. HTTP/1.0 knows no such wish (RFC 9110, section 7.8).
    pub fn asks_for_upgrade(&self) -> bool {
        self.minor > 0
            && self.facts.upgrade != super::UpgradeTo::Missing
            && self.facts.connection.says(Connection::UPGRADE)
    }
}

impl ResponseHead<'_> {
    /// Whether another head follows for the same request (RFC 9110, section 15.2); 101 is the last one of HTTP.
    pub const fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// How the body's end is found in an answer to a request with `method` (RFC 9112, section 6.3).
    pub const fn framing(&self, method: Method) -> Framing {
        match (self.status, method) {
            (100..=199 | 204 | 304, _) | (_, Method::Head) | (200..=299, Method::Connect) => {
                return Framing::None;
            }
            _ => {}
        }
        match (self.facts.coding, self.facts.length) {
            (Coding::Chunked, _) => Framing::Chunked,
            (Coding::Missing, Length::Known(length)) => Framing::Length(length),
            _ => Framing::UntilClose,
        }
    }

    /// Whether the server closes the connection after this response (RFC 9112, section 9.3).
    pub const fn closes(&self) -> bool {
        let connection = self.facts.connection;
        // A transfer coding in HTTP/1.0 is a broken message, after which nothing is sure (RFC 9112, section 6.1).
        connection.says(Connection::CLOSE)
            || (self.minor == 0
                && (!connection.says(Connection::KEEP_ALIVE)
                    || !matches!(self.facts.coding, Coding::Missing)))
    }
}

/// Whether bytes are the start of a request, as sure as can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resemblance {
    /// They begin with a whole request line of a known method.
    Surely,
    /// They may be.
    Maybe,
    /// They are not.
    No,
}

/// Longest request line that is looked for.
const MAX_LINE: usize = 64 * 1024;

/// Whether `bytes` begin with a request line: a known method, one space, a target, one space, `HTTP/1.x`, a line's end.
pub fn resembles_request(bytes: &[u8]) -> Resemblance {
    let Some(method) = METHODS.iter().find(|method| {
        let len = method.len().min(bytes.len());
        bytes[..len] == method[..len] && bytes.get(method.len()).is_none_or(|byte| *byte == b' ')
    }) else {
        return Resemblance::No;
    };
    let Some(rest) = bytes.get(method.len() + 1..) else { return Resemblance::Maybe };
    let target_len = rest.iter().take(MAX_LINE).position(|byte| *byte <= b' ' || *byte == 0x7f);
    let Some(target_len) = target_len else {
        return if rest.len() < MAX_LINE { Resemblance::Maybe } else { Resemblance::No };
    };
    let version = &rest[target_len..];
    let wanted: [&[u8]; 4] = [b" HTTP/1.0\r\n", b" HTTP/1.1\r\n", b" HTTP/1.0\n", b" HTTP/1.1\n"];
    if target_len == 0 {
        Resemblance::No
    } else if wanted.iter().any(|wanted| version.starts_with(wanted)) {
        Resemblance::Surely
    } else if wanted.iter().any(|wanted| wanted.starts_with(version)) {
        Resemblance::Maybe
    } else {
        Resemblance::No
    }
}

/// Where in a line bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At its start.
    LineStart,
    /// Nobody knows, but not at its start for sure.
    WithinLine,
}

/// Looks for the first place where a request surely begins, in bytes that begin at `place`.
///
/// # Errors
/// The number of bytes that are no part of a request, when none surely begins in `bytes`.
pub fn find_request_line(bytes: &[u8], place: Place) -> Result<usize, usize> {
    let mut at = 0;
    let mut place = place;
    loop {
        if place == Place::LineStart {
            match resembles_request(&bytes[at..]) {
                Resemblance::Surely => return Ok(at),
                // The rest is kept only if it is one line that goes on: a known method, and no line's end yet.
                Resemblance::Maybe => return Err(at),
                Resemblance::No => {}
            }
        }
        match memchr(b'\n', &bytes[at..]) {
            Some(end) => at += end + 1,
            None => return Err(bytes.len()),
        }
        place = Place::LineStart;
    }
}
