//! Streams of messages: which bytes belong to what.

use super::head::{Head, Parsed, parse_fields};
use super::{BadMessage, Body, Framing, Progress, RequestHead, ResponseHead};
use memchr::memchr;

/// What HTTP/2 connections with prior knowledge begin with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the next bytes of a client are.
#[derive(Clone, Copy, Debug)]
pub enum RequestStep<'a> {
    /// That can't be said before more of them come.
    More,
    /// So many bytes of an empty line, to be ignored (RFC 9112, section 2.2).
    Empty(usize),
    /// A whole head. It comes again until [`RequestDecoder::accept`].
    Head(RequestHead<'a>),
    /// So many bytes of the body, which is not over.
    Body(usize),
    /// The last bytes of the body, possibly none.
    End(usize),
    /// The connection speaks HTTP/2.
    Preface,
    /// After so many bytes of the body, if one is under way, what follows is no HTTP. This stays so.
    Bad(usize, BadMessage),
}

/// Looks for heads in bytes that come again with more behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeadSearch {
    /// Bytes at the start that are whole lines, of which nothing is left to find out.
    judged: usize,
    /// Bytes known to end no line that is not judged.
    searched: usize,
    max: usize,
}

impl HeadSearch {
    const fn new(max: usize) -> Self {
        Self { judged: 0, searched: 0, max }
    }

    const fn restart(&mut self) {
        self.judged = 0;
        self.searched = 0;
    }

    fn find<'a, H: Head<'a>>(&mut self, bytes: &'a [u8]) -> Result<Option<H>, BadMessage> {
        let window = &bytes[..bytes.len().min(self.max)];
        if let Some(head) = self.find_within(window)? {
            return Ok(Some(head));
        }
        if window.len() == self.max { Err(BadMessage::TooLarge) } else { Ok(None) }
    }

    /// A head that comes in pieces is parsed twice at most: its lines one by one, then as a whole.
    fn find_within<'a, H: Head<'a>>(&mut self, bytes: &'a [u8]) -> Result<Option<H>, BadMessage> {
        if self.judged > 0 {
            let fresh = bytes.get(self.searched..).unwrap_or_default();
            // A line's end is of interest, and so is the byte behind one: it tells whether the line is folded.
            if memchr(b'\n', fresh).is_none() {
                self.searched = bytes.len();
                return Ok(None);
            }
            let lines = bytes.get(self.judged..).unwrap_or_default();
            if let Parsed::Incomplete(judged) = parse_fields(lines, H::SPACES)? {
                self.judged += judged;
                self.searched = bytes.len().saturating_sub(1);
                return Ok(None);
            }
        }
        match H::parse(bytes)? {
            Parsed::Whole(head) => Ok(Some(head)),
            Parsed::Incomplete(judged) => {
                self.judged = judged;
                self.searched = bytes.len().saturating_sub(1);
                Ok(None)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body(Body),
    Bad(BadMessage),
}

/// Reads a client's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestDecoder {
    state: State,
    search: HeadSearch,
}

impl RequestDecoder {
    /// At the start of a request, with heads of at most `max_head` bytes.
    pub const fn new(max_head: usize) -> Self {
        Self { state: State::Head, search: HeadSearch::new(max_head) }
    }

    /// Whether a body is under way.
    pub const fn is_in_body(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// Says what is at the start of `bytes`, which begin behind everything that earlier steps named.
    pub fn step<'a>(&mut self, bytes: &'a [u8]) -> RequestStep<'a> {
        match &mut self.state {
            State::Bad(bad) => RequestStep::Bad(0, *bad),
            State::Body(_) if bytes.is_empty() => RequestStep::More,
            State::Body(body) => match body.advance(bytes, |_| ()) {
                Progress::More => RequestStep::Body(bytes.len()),
                Progress::Complete(length) => {
                    self.state = State::Head;
                    RequestStep::End(length)
                }
                Progress::Invalid(length, bad) => {
                    self.state = State::Bad(bad);
                    RequestStep::Bad(length, bad)
                }
            },
            State::Head => self.step_head(bytes),
        }
    }

    fn step_head<'a>(&mut self, bytes: &'a [u8]) -> RequestStep<'a> {
        let empty = empty_line(bytes);
        if empty > 0 {
            self.search.restart();
            return RequestStep::Empty(empty);
        }
        match bytes {
            [] | [b'\r'] => return RequestStep::More,
            [b'P', b'R', ..] => {
                let len = bytes.len().min(PREFACE.len());
                if bytes.starts_with(PREFACE) {
                    return RequestStep::Preface;
                } else if bytes[..len] == PREFACE[..len] {
                    return RequestStep::More;
                }
            }
            _ => {}
        }
        match self.search.find::<RequestHead<'_>>(bytes) {
            Ok(Some(head)) => match head.framing() {
                Ok(_) => RequestStep::Head(head),
                Err(bad) => self.fail(bad),
            },
            Ok(None) => RequestStep::More,
            Err(bad) => self.fail(bad),
        }
    }

    fn fail<'a>(&mut self, bad: BadMessage) -> RequestStep<'a> {
        self.state = State::Bad(bad);
        RequestStep::Bad(0, bad)
    }

    /// Goes on behind a head with what `framing` says. Returns whether a body follows.
    pub const fn accept(&mut self, framing: Framing) -> bool {
        self.search.restart();
        self.state = match Body::new(framing) {
            Some(body) => State::Body(body),
            None => State::Head,
        };
        self.is_in_body()
    }

    /// Forgets the message under way: what comes next begins one.
    pub const fn restart(&mut self) {
        self.state = State::Head;
        self.search.restart();
    }
}

/// Bytes of the empty line at the start, if there is one.
const fn empty_line(bytes: &[u8]) -> usize {
    match bytes {
        [b'\n', ..] => 1,
        [b'\r', b'\n', ..] => 2,
        _ => 0,
    }
}

/// What the next bytes of a server are.
#[derive(Clone, Copy, Debug)]
pub enum ResponseStep<'a> {
    /// That can't be said before more of them come.
    More,
    /// A whole head. It comes again until [`ResponseDecoder::accept`].
    Head(ResponseHead<'a>),
    /// So many bytes of the body, which is not over.
    Body(usize),
    /// The last bytes of the body.
    End(usize),
    /// What follows is no HTTP. This stays so.
    Bad(BadMessage),
}

/// Reads a server's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseDecoder {
    state: State,
    search: HeadSearch,
}

impl ResponseDecoder {
    /// At the start of a response, with heads of at most `max_head` bytes.
    pub const fn new(max_head: usize) -> Self {
        Self { state: State::Head, search: HeadSearch::new(max_head) }
    }

    /// Says what is at the start of `bytes`, which begin behind everything that earlier steps named. Content of bodies is
    /// given to `content`.
    pub fn step<'a>(&mut self, bytes: &'a [u8], content: impl FnMut(&[u8])) -> ResponseStep<'a> {
        match &mut self.state {
            State::Bad(bad) => ResponseStep::Bad(*bad),
            _ if bytes.is_empty() => ResponseStep::More,
            State::Body(body) => match body.advance(bytes, content) {
                Progress::More => ResponseStep::Body(bytes.len()),
                Progress::Complete(length) => {
                    self.state = State::Head;
                    ResponseStep::End(length)
                }
                Progress::Invalid(_, bad) => {
                    self.state = State::Bad(bad);
                    ResponseStep::Bad(bad)
                }
            },
            State::Head => match self.search.find::<ResponseHead<'_>>(bytes) {
                Ok(Some(head)) => ResponseStep::Head(head),
                Ok(None) => ResponseStep::More,
                Err(bad) => {
                    self.state = State::Bad(bad);
                    ResponseStep::Bad(bad)
                }
            },
        }
    }

    /// Goes on behind a head with what `framing` says. Returns whether a body follows.
    pub const fn accept(&mut self, framing: Framing) -> bool {
        self.search.restart();
        self.state = match Body::new(framing) {
            Some(body) => State::Body(body),
            None => State::Head,
        };
        matches!(self.state, State::Body(_))
    }

    /// The server closed: whether that ended a body.
    pub const fn close(&mut self) -> bool {
        let ended = matches!(&self.state, State::Body(body) if body.ends_with_connection());
        self.restart();
        ended
    }

    /// Forgets the message under way: what comes next begins one.
    pub const fn restart(&mut self) {
        self.state = State::Head;
        self.search.restart();
    }
}
