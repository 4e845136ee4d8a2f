//! Reading HTTP/1 messages, for the lab's own server and clients.
//!
//! Strict about what the lab itself writes and no further: a message that is not as expected is an error that a test sees.

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, Read};

/// Names, in lower case, and values.
pub type Fields = Vec<(String, String)>;

/// The first line of a message and its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The request line or status line.
    pub line: String,
    /// Its fields, in order.
    pub fields: Fields,
}

/// How the end of a body is found (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    /// In chunks, with trailers.
    Chunked,
    /// Until the other side closes.
    UntilClose,
}

/// What an answer is framed by depends on what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request: without framing it has no body.
    Request,
    /// An answer: without framing it ends with the connection.
    Answer,
}

impl Head {
    /// Reads a head with the empty line behind it; `None` where the connection ends before.
    ///
    /// # Errors
    /// When the connection fails or ends within it.
    pub fn read(stream: &mut impl BufRead) -> Result<Option<Self>> {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_owned();
        Ok(Some(Self { line, fields: read_fields(stream)? }))
    }

    /// The first value of a field, by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a field's comma-separated values have this one, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.field(name)
            .is_some_and(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(token)))
    }

    /// The status code, of an answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn status(&self) -> Result<u16> {
        let word = self.line.split(' ').nth(1);
        word.and_then(|code| code.parse().ok()).with_context(|| format!("no status in {:?}", self.line))
    }

    /// How the message's body ends.
    ///
    /// # Errors
    /// When a length is no number.
    pub fn framing(&self, message: Message) -> Result<Framing> {
        if self.has_token("transfer-encoding", "chunked") {
            return Ok(Framing::Chunked);
        }
        Ok(match (self.field("content-length"), message) {
            (Some(length), _) => {
                Framing::Length(length.parse().context("a Content-Length that is no number")?)
            }
            (None, Message::Request) => Framing::Length(0),
            (None, Message::Answer) => Framing::UntilClose,
        })
    }
}

fn read_fields(stream: &mut impl BufRead) -> Result<Fields> {
    let mut fields = Vec::new();
    loop {
        let mut line = String::new();
        ensure!(stream.read_line(&mut line)? > 0, "the connection ended in a header");
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').with_context(|| format!("not a field: {line:?}"))?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// Reads a body, gives it to `take` piece by piece, and returns its trailers.
///
/// # Errors
/// When the connection fails or ends within it.
pub fn read_body(stream: &mut impl BufRead, framing: Framing, take: &mut dyn FnMut(&[u8])) -> Result<Fields> {
    match framing {
        Framing::Length(length) => {
            read_exactly(stream, length, take)?;
        }
        Framing::UntilClose => {
            let mut piece = vec![0; 64 << 10];
            loop {
                match stream.read(&mut piece)? {
                    0 => break,
                    got => take(&piece[..got]),
                }
            }
        }
        Framing::Chunked => loop {
            let mut line = String::new();
            ensure!(stream.read_line(&mut line)? > 0, "the connection ended before a chunk");
            let size = line.trim_end().split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).with_context(|| format!("no chunk size: {line:?}"))?;
            if size == 0 {
                return read_fields(stream);
            }
            read_exactly(stream, size, take)?;
            line.clear();
            stream.read_line(&mut line)?;
            ensure!(line == "\r\n", "a chunk is longer than it says");
        },
    }
    Ok(Vec::new())
}

fn read_exactly(stream: &mut impl Read, length: u64, take: &mut dyn FnMut(&[u8])) -> Result<()> {
    let mut piece = vec![0; 64 << 10];
    let mut left = length;
    while left > 0 {
        let want = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let got = stream.read(&mut piece[..want])?;
        if got == 0 {
            bail!("the body ended after {} of {length} bytes", length - left);
        }
        take(&piece[..got]);
        left -= got as u64;
    }
    Ok(())
}

/// `body` as one chunk and the last one, which has no trailers.
pub fn chunked(body: &[u8]) -> Vec<u8> {
    let head = format!("{:x}\r\n", body.len());
    match body {
        [] => b"0\r\n\r\n".to_vec(),
        body => [head.as_bytes(), body, b"\r\n0\r\n\r\n"].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut input: &[u8]) -> Result<(Vec<u8>, Fields)> {
        let head = Head::read(&mut input)?.context("nothing")?;
        let mut body = Vec::new();
        let framing = head.framing(Message::Request)?;
        let trailers = read_body(&mut input, framing, &mut |piece| body.extend_from_slice(piece))?;
        ensure!(input.is_empty(), "{} bytes are left", input.len());
        Ok((body, trailers))
    }

    #[test]
    fn heads_are_read_one_after_another() {
        let mut input = b"POST /a HTTP/1.1\r\ncontent-Length: 7\r\n\r\nGET /b HTTP/1.0\r\n\r\n".as_slice();
        let first = Head::read(&mut input).unwrap().unwrap();
        assert_eq!(first.framing(Message::Request).unwrap(), Framing::Length(7));
        let second = Head::read(&mut input).unwrap().unwrap();
        assert_eq!(second.line, "GET /b HTTP/1.0");
        assert_eq!(second.framing(Message::Answer).unwrap(), Framing::UntilClose);
        assert_eq!(Head::read(&mut input).unwrap(), None);
    }

    #[test]
    fn chunks_and_trailers_are_read() {
        let input = b"POST /a HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n\
            3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\n";
        let (body, trailers) = read_all(input).unwrap();
        assert_eq!(body, b"abc0123456789");
        assert_eq!(trailers, [("x-sum".to_owned(), "7".to_owned())]);
        let longer = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n";
        assert!(read_all(longer).is_err());
    }

    #[test]
    fn bodies_that_end_early_are_errors() {
        assert!(read_all(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\no").is_err());
        assert!(read_all(b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n").is_err());
        assert_eq!(chunked(b"ab"), b"2\r\nab\r\n0\r\n\r\n");
    }
}
