//! Bodies: how long they are, counted as their bytes pass.

use super::BadMessage;
use memchr::memchr;

/// How a body's end is found (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// After the last chunk and its trailers.
    Chunked,
    /// Where the sender closes the connection.
    UntilClose,
}

/// What came of some bytes of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of them belong to the body, and it goes on.
    More,
    /// The body ends after so many of them.
    Complete(usize),
    /// After so many of them it is no body any more.
    Invalid(usize, BadMessage),
}

/// Most bytes of one chunk's size line, and of all trailers.
const MAX_LINES: u32 = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes are left.
    Length(u64),
    UntilClose,
    /// In the digits of a chunk's size, of which there were so many.
    Size {
        value: u64,
        digits: u8,
    },
    /// Behind them, up to the line's end.
    Extension {
        value: u64,
    },
    /// So many bytes of the chunk are left.
    Data(u64),
    /// A CR or LF ends the chunk.
    DataEnd,
    /// After that CR.
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    Trailer,
    /// After the CR of what may be the empty line.
    TrailerLf,
    /// Within a trailer line.
    TrailerLine,
}

/// A body under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    state: State,
    /// Bytes of the line or the trailers so far.
    line: u32,
}

impl Body {
    /// A body of which no byte has passed. None, when there is no body.
    pub const fn new(framing: Framing) -> Option<Self> {
        let state = match framing {
            Framing::None | Framing::Length(0) => return None,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { value: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Some(Self { state, line: 0 })
    }

    /// Whether the sender ends it by closing the connection.
    pub const fn ends_with_connection(&self) -> bool {
        matches!(self.state, State::UntilClose)
    }

    /// Lets bytes pass, and gives those that are content, without the framing of chunks, to `content`.
    pub fn advance(&mut self, bytes: &[u8], mut content: impl FnMut(&[u8])) -> Progress {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.state {
                State::UntilClose => {
                    content(rest);
                    return Progress::More;
                }
                State::Length(left) | State::Data(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    content(&rest[..take]);
                    at += take;
                    let left = left - take as u64;
                    self.state = match self.state {
                        State::Length(_) if left == 0 => return Progress::Complete(at),
                        State::Length(_) => State::Length(left),
                        _ if left == 0 => State::DataEnd,
                        _ => State::Data(left),
                    };
                }
                _ => match self.framing_byte(rest) {
                    Ok((taken, End::No)) => at += taken,
                    Ok((taken, End::Yes)) => return Progress::Complete(at + taken),
                    Err(bad) => return Progress::Invalid(at, bad),
                },
            }
        }
        Progress::More
    }

    /// Takes one or more bytes of `rest`, which is not empty, that are no content.
    fn framing_byte(&mut self, rest: &[u8]) -> Result<(usize, End), BadMessage> {
        let byte = rest[0];
        let mut taken = 1;
        self.state = match self.state {
            State::Size { value, digits } => match (hex(byte), byte) {
                // Sixteen digits are 64 bits; leading zeros beyond that are nobody's honest chunk.
                (Some(digit), _) if digits < 16 => {
                    State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
                }
                (None, b'\n') if digits > 0 => self.data(value),
                (None, b';' | b' ' | b'\t' | b'\r') if digits > 0 => State::Extension { value },
                _ => return Err(BadMessage::Chunk),
            },
            State::Extension { value } => match memchr(b'\n', rest) {
                Some(end) => {
                    self.count(end + 1)?;
                    taken = end + 1;
                    self.data(value)
                }
                None => {
                    self.count(rest.len())?;
                    taken = rest.len();
                    self.state
                }
            },
            State::DataEnd if byte == b'\r' => State::DataLf,
            State::DataEnd | State::DataLf if byte == b'\n' => State::Size { value: 0, digits: 0 },
            State::Trailer if byte == b'\n' => return Ok((1, End::Yes)),
            State::Trailer if byte == b'\r' => State::TrailerLf,
            State::TrailerLf if byte == b'\n' => return Ok((1, End::Yes)),
            State::Trailer | State::TrailerLf | State::TrailerLine => match memchr(b'\n', rest) {
                Some(end) => {
                    self.count(end + 1)?;
                    taken = end + 1;
                    State::Trailer
                }
                None => {
                    self.count(rest.len())?;
                    taken = rest.len();
                    State::TrailerLine
                }
            },
            _ => return Err(BadMessage::Chunk),
        };
        Ok((taken, End::No))
    }

    /// After the line of a chunk of `value` bytes.
    const fn data(&mut self, value: u64) -> State {
        self.line = 0;
        if value == 0 { State::Trailer } else { State::Data(value) }
    }

    /// Counts bytes of a line, in whatever pieces they come.
    fn count(&mut self, bytes: usize) -> Result<(), BadMessage> {
        let line = u32::try_from(bytes).ok().and_then(|bytes| self.line.checked_add(bytes));
        self.line = line.filter(|line| *line <= MAX_LINES).ok_or(BadMessage::TooLarge)?;
        Ok(())
    }
}

/// Whether the body ends.
enum End {
    Yes,
    No,
}

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a body to be read in pieces of `piece` bytes: its content, and how many bytes it took, or what is wrong with it.
    fn read(framing: Framing, bytes: &[u8], piece: usize) -> (Vec<u8>, Result<Option<usize>, BadMessage>) {
        let mut body = Body::new(framing).expect("there is a body");
        let mut content = Vec::new();
        let mut at = 0;
        for part in bytes.chunks(piece) {
            match body.advance(part, |bytes| content.extend_from_slice(bytes)) {
                Progress::More => at += part.len(),
                Progress::Complete(taken) => return (content, Ok(Some(at + taken))),
                Progress::Invalid(_, bad) => return (content, Err(bad)),
            }
        }
        (content, Ok(None))
    }

    #[track_caller]
    fn check(framing: Framing, bytes: &str, content: &str, end: Result<Option<usize>, BadMessage>) {
        for piece in [1, 2, 3, 7, bytes.len().max(1)] {
            let read = read(framing, bytes.as_bytes(), piece);
            assert_eq!((String::from_utf8_lossy(&read.0).as_ref(), read.1), (content, end), "in {piece}s");
        }
    }

    #[test]
    fn a_length_is_counted_down() {
        check(Framing::Length(3), "abcGET", "abc", Ok(Some(3)));
        check(Framing::Length(9), "abc", "abc", Ok(None));
        check(Framing::UntilClose, "abc\r\n\r\n", "abc\r\n\r\n", Ok(None));
        assert_eq!(Body::new(Framing::None), None);
        assert_eq!(Body::new(Framing::Length(0)), None);
    }

    #[test]
    fn chunks_end_with_their_trailers() {
        check(Framing::Chunked, "0\r\n\r\nGET", "", Ok(Some(5)));
        check(Framing::Chunked, "3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", "abcd", Ok(Some(19)));
        check(Framing::Chunked, "3\nabc\n0\n\n", "abc", Ok(Some(9)));
        check(Framing::Chunked, "00A;x=\"y\";z \r\n0123456789\r\n0 \r\n\r\n", "0123456789", Ok(Some(32)));
        check(Framing::Chunked, "0\r\nA: b\r\nC: d\r\n\r\n", "", Ok(Some(17)));
        check(Framing::Chunked, "0\r\n\rA: b\r\n\r\n", "", Ok(Some(12)));
        check(Framing::Chunked, "0\r\nA: b\r\n", "", Ok(None));
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for bad in ["\r\n", "x\r\n", " 3\r\n", "3,\r\n", "-1\r\n", "0x3\r\n", "11112222333344445\r\n"] {
            check(Framing::Chunked, bad, "", Err(BadMessage::Chunk));
        }
        check(Framing::Chunked, "3\r\nabcd\r\n", "abc", Err(BadMessage::Chunk));
        check(Framing::Chunked, "3\r\nabc\rX", "abc", Err(BadMessage::Chunk));
        let endless = format!("1;{}", "x".repeat(70_000));
        check(Framing::Chunked, &endless, "", Err(BadMessage::TooLarge));
        let endless = format!("0\r\n{}", "a: b\r\n".repeat(12_000));
        check(Framing::Chunked, &endless, "", Err(BadMessage::TooLarge));
        check(Framing::Chunked, "ffffffffffffffff\r\nabc", "abc", Ok(None));
    }
}
