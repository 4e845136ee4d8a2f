//! A small HTTP server that notes down every request with a checksum of its body.
//!
//! A real server's access log does not say what was in a body; this one does, which is what a test of large requests needs.
//! `GET /bytes/N` answers with N bytes, everything else with a short text.

use crate::host::RunningHost;
use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// One request as the server got it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seen {
    /// Method and path.
    pub line: String,
    /// Length of the body.
    pub body_bytes: u64,
    /// Checksum of the body.
    pub body_hash: u64,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Seen>>,
    open: Mutex<HashMap<u64, TcpStream>>,
    stopped: AtomicBool,
}

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
            let listener = TcpListener::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port))
                .with_context(|| format!("listening on port {port}"))?;
            Ok(std::thread::spawn(move || accept(&listener, &state)))
        })?;
        Ok(Self { host, port, shared, accepting: Some(accepting) })
    }

    /// The requests so far that came complete, in order of their completion.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.requests).clone()
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
            let _ = serve(stream, &mut |seen| lock(&shared.requests).push(seen));
            lock(&shared.open).remove(&number);
        });
    }
}

/// Serves in the network namespace of the calling thread, for ever, and gives each request to `note`.
///
/// Returns why it could not.
pub fn serve_here(port: u16, note: impl Fn(Seen) + Send + Sync) -> anyhow::Error {
    let listener = match TcpListener::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)) {
        Ok(listener) => listener,
        Err(error) => return anyhow::Error::new(error).context(format!("listening on port {port}")),
    };
    std::thread::scope(|scope| {
        for stream in listener.incoming().flatten() {
            // Clients may break off; what came complete has been noted.
            scope.spawn(|| serve(stream, &mut |seen| note(seen)).ok());
        }
    });
    anyhow::anyhow!("the listener has ended")
}

/// A request line and the headers that matter.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    line: String,
    length: u64,
    close: bool,
}

fn read_head(stream: &mut impl BufRead) -> Result<Option<Head>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let (request, version) = line.trim_end().rsplit_once(' ').context("no HTTP version")?;
    let mut head = Head { line: request.to_owned(), length: 0, close: version == "HTTP/1.0" };
    loop {
        let mut field = String::new();
        if stream.read_line(&mut field)? == 0 {
            bail!("the connection ended in a header");
        }
        let Some((name, value)) = field.trim_end().split_once(':') else { return Ok(Some(head)) };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.trim().parse()?,
            "connection" => head.close = !value.trim().eq_ignore_ascii_case("keep-alive"),
            _ => {}
        }
    }
}

fn serve(stream: TcpStream, note: &mut dyn FnMut(Seen)) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    let mut chunk = vec![0; 64 << 10];
    while let Some(head) = read_head(&mut stream)? {
        let mut hasher = DefaultHasher::new();
        let mut left = head.length;
        while left > 0 {
            let want = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = stream.read(&mut chunk[..want])?;
            if got == 0 {
                bail!("the connection ended in a body");
            }
            hasher.write(&chunk[..got]);
            left -= got as u64;
        }
        let answer = answer_to(&head);
        note(Seen { line: head.line, body_bytes: head.length, body_hash: hasher.finish() });
        stream.get_mut().write_all(&answer)?;
        if head.close {
            break;
        }
    }
    Ok(())
}

fn answer_to(head: &Head) -> Vec<u8> {
    let wanted = head.line.strip_prefix("GET /bytes/").and_then(|rest| rest.split('?').next()?.parse().ok());
    let body = wanted.map_or_else(|| b"noted\n".to_vec(), |length: usize| vec![b'x'; length.min(64 << 20)]);
    let connection = if head.close { "close" } else { "keep-alive" };
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n", body.len());
    [head.into_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_one_after_another() {
        let mut input = b"POST /a HTTP/1.1\r\ncontent-Length: 7\r\n\r\nGET /b HTTP/1.0\r\n\r\n".as_slice();
        let first = read_head(&mut input).unwrap().unwrap();
        assert_eq!(first, Head { line: "POST /a".into(), length: 7, close: false });
        let second = read_head(&mut input).unwrap().unwrap();
        assert_eq!(second, Head { line: "GET /b".into(), length: 0, close: true });
        assert_eq!(read_head(&mut input).unwrap(), None);
    }

    #[test]
    fn a_number_in_the_path_asks_for_so_many_bytes() {
        let head = Head { line: "GET /bytes/1000?id=3".into(), length: 0, close: false };
        let answer = answer_to(&head);
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n") && answer.len() > 1000);
    }
}
