//! A small HTTP server that notes down every request with a checksum of its body.
//!
//! A real server's access log does not say what was in a body, nor who asked; this one does, which is what tests of large
//! requests and of logins need. What it answers, and to which paths, is in `application`:
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /bytes/N` | N bytes |
//! | `GET /close/N` | N bytes in HTTP/1.0, which end with the connection |
//! | `GET /events/N` | N server-sent events, some milliseconds apart |
//! | `POST /login` (`user=U&password=P`) | a session cookie and, in JSON, a bearer token, both random; 401 for a wrong password |
//! | `GET /me` | 200 with the user whose cookie or token it is, else 401 |
//! | with `Expect: 100-continue` | 100 before the body is read, after a while; `/refuse/STATUS/…`: STATUS instead |
//! | with `Upgrade: websocket` | the messages that come, back again |
//! | any other | a short text |

mod application;
pub mod message;

pub use application::password_of;

use crate::host::RunningHost;
use crate::websocket;
use anyhow::{Context, Result};
use application::{Answer, Application, Expectation, Next, expectation_of};
use message::{Head, Message, read_body};
use nix::sys::socket::Backlog;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufReader, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How much of a body is kept for who answers: forms are shorter.
const KEPT: usize = 4 << 10;

/// One request as the server got it, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seen {
    /// Method and path; of a WebSocket message also its number in its connection.
    pub line: String,
    /// The status of the answer; 0 for a WebSocket message.
    pub status: u16,
    /// Whose session it belonged to; empty if to none.
    pub user: String,
    /// Whether bytes came behind the header before the server had said that it wants them.
    pub is_early: bool,
    /// Length of the body.
    pub body_bytes: u64,
    /// Checksum of the body and of the trailers behind it.
    pub body_hash: u64,
}

#[derive(Default)]
struct Shared {
    application: Application,
    requests: Mutex<Vec<Seen>>,
    open: Mutex<HashMap<u64, TcpStream>>,
    stopped: AtomicBool,
    /// The status by which every body that waits for a word is refused; 0 for none.
    refusal: AtomicU16,
}

/// How long a server lets a client wait for its word: much longer than a body takes that does not wait.
const BEFORE_CONTINUE: Duration = Duration::from_millis(150);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running server; it ends with this value.
pub struct HttpServer<'lab> {
    host: &'lab RunningHost,
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl<'lab> HttpServer<'lab> {
    /// Starts one on all addresses of `host`.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(host: &'lab RunningHost, port: u16) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let state = Arc::clone(&shared);
        let accepting = host.run(move || -> Result<_> {
            let listener = listen_on(port)?;
            Ok(std::thread::spawn(move || accept(&listener, &state)))
        })?;
        Ok(Self { host, port, shared, accepting: Some(accepting) })
    }

    /// From now on, refuses every body that waits for a word, with this status.
    pub fn refuse_bodies(&self, status: u16) {
        self.shared.refusal.store(status, Ordering::SeqCst);
    }

    /// The requests so far that came complete, in order of their completion.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.requests).clone()
    }

    /// Forgets the requests so far.
    pub fn reset(&self) {
        lock(&self.shared.requests).clear();
    }
}

impl Drop for HttpServer<'_> {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for stream in lock(&self.shared.open).values() {
            // The other side may have closed it already.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        let port = self.port;
        // Wakes the accepting thread so that it sees the flag.
        let woken = self.host.run(move || TcpStream::connect(("127.0.0.1", port)));
        if let (Ok(_), Some(thread)) = (woken, self.accepting.take()) {
            // A panic there has been printed; a destructor must not add one.
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for (number, stream) in (0..).zip(listener.incoming()) {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(copy) = stream.try_clone() else { continue };
        lock(&shared.open).insert(number, copy);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // Clients may break off; what came complete has been noted.
            let _ = serve(stream, &shared, &mut |seen| lock(&shared.requests).push(seen));
            lock(&shared.open).remove(&number);
        });
    }
}

/// Listens with a queue as long as servers for load have. The standard library's 128 places are full when a target rests for 30 ms: its
/// clients were real once, and do not wait for it before they connect again.
fn listen_on(port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port))
        .with_context(|| format!("listening on port {port}"))?;
    nix::sys::socket::listen(&listener, Backlog::MAXCONN)
        .with_context(|| format!("a longer queue for port {port}"))?;
    Ok(listener)
}

/// Serves in the network namespace of the calling thread, for ever, and gives each request to `note`.
///
/// Returns why it could not.
pub fn serve_here(port: u16, note: impl Fn(Seen) + Send + Sync) -> anyhow::Error {
    let listener = match listen_on(port) {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    let shared = Shared::default();
    std::thread::scope(|scope| {
        for stream in listener.incoming().flatten() {
            // Clients may break off; what came complete has been noted.
            scope.spawn(|| serve(stream, &shared, &mut |seen| note(seen)).ok());
        }
    });
    anyhow::anyhow!("the listener has ended")
}

fn serve(stream: TcpStream, shared: &Shared, note: &mut dyn FnMut(Seen)) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    while let Some(head) = Head::read(&mut stream)? {
        let (line, version) = head.line.rsplit_once(' ').context("no HTTP version")?;
        let path = line.split(' ').nth(1).unwrap_or_default();
        let mut seen = Seen { line: line.to_owned(), ..Seen::default() };
        if head.has_token("upgrade", "websocket") {
            seen.status = 101;
            note(seen.clone());
            let answer = websocket::accept(&head)?;
            stream.get_mut().write_all(answer.as_bytes())?;
            return echo(&mut stream, &seen, note);
        }
        let next = next_of(&head, version);
        if head.has_token("expect", "100-continue") {
            let expectation = match shared.refusal.load(Ordering::SeqCst) {
                0 => expectation_of(path),
                status => Expectation::Refused(status),
            };
            match expectation {
                Expectation::Continue => {
                    std::thread::sleep(BEFORE_CONTINUE);
                    seen.is_early = has_more(&stream)?;
                    stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                Expectation::Refused(status) => {
                    seen.status = status;
                    note(seen);
                    // Whether the client sends the body all the same can't be known: nothing more can be read here.
                    Answer::refusal(status).write(stream.get_mut(), Next::Close)?;
                    return Ok(());
                }
            }
        }
        let (mut hasher, mut kept) = (DefaultHasher::new(), Vec::new());
        let framing = head.framing(Message::Request)?;
        let trailers = read_body(&mut stream, framing, &mut |piece| {
            hasher.write(piece);
            seen.body_bytes += piece.len() as u64;
            kept.extend(&piece[..piece.len().min(KEPT - kept.len())]);
        })?;
        for (name, value) in trailers {
            hasher.write(format!("{name}: {value}").as_bytes());
        }
        seen.body_hash = hasher.finish();
        let answer = shared.application.answer(&head, &kept)?;
        (seen.status, seen.user) = (answer.status, answer.user.clone());
        note(seen);
        if answer.write(stream.get_mut(), next)? == Next::Close {
            break;
        }
    }
    Ok(())
}

/// Whether bytes have come that were not read yet.
fn has_more(stream: &BufReader<TcpStream>) -> Result<bool> {
    if !stream.buffer().is_empty() {
        return Ok(true);
    }
    stream.get_ref().set_nonblocking(true)?;
    let peeked = stream.get_ref().peek(&mut [0]);
    stream.get_ref().set_nonblocking(false)?;
    Ok(peeked.is_ok_and(|bytes| bytes > 0))
}

/// What the client wants to become of the connection.
fn next_of(head: &Head, version: &str) -> Next {
    let keeps = match head.field("connection") {
        Some(value) => value.eq_ignore_ascii_case("keep-alive"),
        None => version != "HTTP/1.0",
    };
    if keeps { Next::KeepAlive } else { Next::Close }
}

/// Sends WebSocket messages back until the client closes.
fn echo(stream: &mut BufReader<TcpStream>, handshake: &Seen, note: &mut dyn FnMut(Seen)) -> Result<()> {
    for number in 0.. {
        let frame = websocket::Frame::read(stream)?;
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(frame.opcode);
        hasher.write(&frame.payload);
        let body_bytes = frame.payload.len() as u64;
        let line = format!("{} message {number}", handshake.line);
        note(Seen { line, body_bytes, body_hash: hasher.finish(), ..Seen::default() });
        let ends = frame.opcode == websocket::CLOSE;
        stream.get_mut().write_all(&frame.write(None))?;
        if ends {
            break;
        }
    }
    Ok(())
}
