//! HTTP load: a client of our own whose every request is different, and the well-known ones, `ab` and `wrk`.

use crate::host::RunningHost;
use crate::httpd::message::{Head, Message, read_body};
use crate::load::{Connections, each_in_its_thread};
use crate::tools;
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// Load of requests that all have a path, and a body if they are posts, of their own.
#[derive(Clone, Copy, Debug)]
pub struct HttpLoad {
    /// The server.
    pub server: SocketAddr,
    /// Connections at a time.
    pub connections: usize,
    /// Requests over all connections; rounded down to the same number for each.
    pub requests: usize,
    /// How long a connection lasts.
    pub reuse: Connections,
    /// What is asked for.
    pub request: HttpRequest,
}

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpRequest {
    /// GET of a static file; the query tells requests apart.
    Get {
        /// Path of the file.
        path: &'static str,
    },
    /// POST of so many bytes.
    Post {
        /// Length of the body.
        bytes: usize,
    },
    /// POST of so many bytes in chunks of several lengths, with a trailer.
    Chunked {
        /// Length of the body.
        bytes: usize,
    },
}

impl HttpLoad {
    /// Requests that [`HttpLoad::run`] sends.
    pub fn total(&self) -> usize {
        self.requests / self.connections * self.connections
    }

    /// Runs the load from `host` to its end.
    ///
    /// # Errors
    /// When a connection fails or the server answers with another status than 200.
    pub fn run(&self, host: &RunningHost) -> Result<()> {
        let load = *self;
        host.run(move || each_in_its_thread(load.connections, |id| load.run_connection(id)))
    }

    fn run_connection(&self, id: usize) -> Result<()> {
        let mut stream = None;
        for number in 0..self.requests / self.connections {
            let mut open = match stream.take() {
                Some(open) => open,
                None => connect(self.server)?,
            };
            open.get_mut().write_all(&self.write_request(id, number))?;
            read_success(&mut open).with_context(|| format!("request {number} of connection {id}"))?;
            if self.reuse == Connections::Kept {
                stream = Some(open);
            }
        }
        Ok(())
    }

    fn write_request(&self, id: usize, number: usize) -> Vec<u8> {
        let connection = match self.reuse {
            Connections::Kept => "keep-alive",
            Connections::PerRequest => "close",
        };
        let rest = format!("HTTP/1.1\r\nHost: lab\r\nConnection: {connection}\r\n");
        match self.request {
            HttpRequest::Get { path } => format!("GET {path}?id={id}.{number} {rest}\r\n").into_bytes(),
            HttpRequest::Post { bytes } => {
                let head = format!("POST /post/{id}/{number} {rest}Content-Length: {bytes}\r\n\r\n");
                [head.into_bytes(), body_of(id, number, bytes)].concat()
            }
            HttpRequest::Chunked { bytes } => {
                let head = format!("POST /chunked/{id}/{number} {rest}Transfer-Encoding: chunked\r\n");
                let mut out = format!("{head}Trailer: X-Number\r\n\r\n").into_bytes();
                let body = body_of(id, number, bytes);
                let mut left = body.as_slice();
                for length in (0..).map(|at| 1 + (at * 977 + number * 131) % 9000) {
                    let (chunk, behind) = left.split_at(length.min(left.len()));
                    if chunk.is_empty() {
                        break;
                    }
                    out.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                    out.extend([chunk, b"\r\n"].concat());
                    left = behind;
                }
                out.extend(format!("0\r\nX-Number: {id}.{number}\r\n\r\n").into_bytes());
                out
            }
        }
    }
}

/// Bytes with no period of a segment's size, different for each request.
fn body_of(id: usize, number: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| ((i * i / 7) ^ (number * 31) ^ (id * 131)) as u8).collect()
}

/// Connects; to be called on the thread of a host.
pub(crate) fn connect(server: SocketAddr) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&server, Duration::from_secs(10))
        .with_context(|| format!("connecting to {server}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(BufReader::new(stream))
}

/// An answer with its body.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

/// Reads an answer, and passes over those that are not final (RFC 9110, section 15.2).
pub(crate) fn read_answer(stream: &mut impl BufRead) -> Result<Answer> {
    loop {
        let head = Head::read(stream)?.context("the connection ended before an answer")?;
        if (100..200).contains(&head.status()?) {
            continue;
        }
        let mut body = Vec::new();
        read_body(stream, head.framing(Message::Answer)?, &mut |piece| body.extend_from_slice(piece))?;
        return Ok(Answer { head, body });
    }
}

fn read_success(stream: &mut impl BufRead) -> Result<()> {
    let answer = read_answer(stream)?;
    ensure!(answer.head.status()? == 200, "the server answered {:?}", answer.head.line);
    Ok(())
}

/// Runs `ab` from `host` for so many requests, each on a connection of its own.
///
/// # Errors
/// When it is not installed or reports failed requests.
pub fn ab(host: &RunningHost, url: &str, connections: usize, requests: usize) -> Result<()> {
    let mut command = Command::new(tools::AB.require()?);
    command.args(["-q", "-n", &requests.to_string(), "-c", &connections.to_string(), url]);
    let output = String::from_utf8_lossy(&host.output(command)?.stdout).into_owned();
    let field = |name: &str| {
        output.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default().to_owned()
    };
    ensure!(field("Failed requests:") == "0", "ab reports failures:\n{output}");
    ensure!(field("Complete requests:") == requests.to_string(), "ab did not complete:\n{output}");
    Ok(())
}

/// Runs `wrk` from `host` for so long, on kept connections, with a query that is different in each request. So many requests
/// are sent at once, and all answered before the next.
///
/// # Errors
/// When it is not installed or reports errors.
pub fn wrk(
    host: &RunningHost,
    url: &str,
    connections: usize,
    pipeline: u32,
    lasting: Duration,
) -> Result<()> {
    // Each of wrk's threads has a Lua state of its own; its number keeps their queries apart.
    const SCRIPT: &str = r#"
local threads = 0
function setup(thread) thread:set("number", threads); threads = threads + 1 end
local sent = 0
function request()
  local requests = {}
  for at = 1, PIPELINE do
    sent = sent + 1
    requests[at] = wrk.format(nil, wrk.path .. "?id=" .. number .. "." .. sent)
  end
  return table.concat(requests)
end
"#;
    let script = host.folder().join(format!("unique-{pipeline}.lua"));
    std::fs::write(&script, SCRIPT.replace("PIPELINE", &pipeline.to_string()))?;
    let mut command = Command::new(tools::WRK.require()?);
    command.args([
        "-t",
        "1",
        "-c",
        &connections.to_string(),
        "-d",
        &format!("{}s", lasting.as_secs().max(1)),
    ]);
    command.arg("-s").arg(script).arg(url);
    let output = String::from_utf8_lossy(&host.output(command)?.stdout).into_owned();
    ensure!(output.contains("requests in"), "wrk reports no requests:\n{output}");
    ensure!(
        !output.contains("Socket errors") && !output.contains("Non-2xx"),
        "wrk reports errors:\n{output}"
    );
    Ok(())
}

/// Runs `curl` from `host` with `words`, and returns what it printed: `-w` says what.
///
/// # Errors
/// When it is not installed or fails.
pub fn curl(host: &RunningHost, words: &[&str]) -> Result<String> {
    let mut command = Command::new(tools::CURL.require()?);
    // The first option must be the one that keeps a user's own settings out.
    command.args(["--disable", "--silent", "--show-error", "--max-time", "60", "--noproxy", "*"]);
    command.args(words);
    Ok(String::from_utf8_lossy(&host.output(command)?.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_differ_in_path_and_body() {
        let load = HttpLoad {
            server: SocketAddr::from(([127, 0, 0, 1], 80)),
            connections: 3,
            requests: 10,
            reuse: Connections::Kept,
            request: HttpRequest::Post { bytes: 2000 },
        };
        assert_eq!(load.total(), 9);
        let (one, two) = (load.write_request(0, 0), load.write_request(0, 1));
        assert!(one.starts_with(b"POST /post/0/0 HTTP/1.1\r\n"));
        assert_ne!(one[one.len() - 2000..], two[two.len() - 2000..]);
    }

    #[test]
    fn chunked_bodies_are_the_same_bytes() {
        let load = HttpLoad {
            server: SocketAddr::from(([127, 0, 0, 1], 80)),
            connections: 1,
            requests: 1,
            reuse: Connections::Kept,
            request: HttpRequest::Chunked { bytes: 30_000 },
        };
        let bytes = load.write_request(1, 2);
        let mut input = bytes.as_slice();
        let head = Head::read(&mut input).unwrap().unwrap();
        let mut body = Vec::new();
        let framing = head.framing(Message::Request).unwrap();
        let trailers = read_body(&mut input, framing, &mut |piece| body.extend_from_slice(piece)).unwrap();
        assert_eq!(body, body_of(1, 2, 30_000));
        assert_eq!(trailers, [("x-number".to_owned(), "1.2".to_owned())]);
        assert!(input.is_empty());
    }

    #[test]
    fn other_answers_than_200_are_errors() {
        assert!(read_success(&mut b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".as_slice()).is_ok());
        assert!(read_success(&mut b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no".as_slice()).is_err());
        assert!(read_success(&mut b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".as_slice()).is_err());
        let twice = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nto the end";
        assert_eq!(read_answer(&mut twice.as_slice()).unwrap().body, b"to the end");
    }
}
