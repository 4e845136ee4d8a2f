//! A server for [generated](crate::generate) traffic: it checks every byte of every request and answers with as many bytes as
//! the online server did.

use crate::generate::{Bodies, HEADER, RequestHeader};
use crate::host::RunningHost;
use anyhow::{Context, Result, ensure};
use nix::sys::socket::Backlog;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// What reached the sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Connections whose requests all came, in order and whole, and that ended right behind the last.
    pub complete: u64,
    /// Requests.
    pub requests: u64,
    /// Their bytes.
    pub request_bytes: u64,
    /// What was wrong with other connections: the first few.
    pub faults: Vec<String>,
}

/// The running server. It ends with the process.
pub struct Sink(Arc<Mutex<Arrived>>);

impl Sink {
    /// Starts one on all IPv4 addresses of `host`.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(host: &RunningHost, port: u16) -> Result<Self> {
        let listener = host.run(move || TcpListener::bind(("0.0.0.0", port))).context("starting the sink")?;
        // Thousands of connections may come at once.
        nix::sys::socket::listen(&listener, Backlog::MAXCONN)?;
        let arrived = Arc::new(Mutex::new(Arrived::default()));
        let (state, bodies) = (Arc::clone(&arrived), Arc::new(Bodies::new()));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, bodies) = (Arc::clone(&state), Arc::clone(&bodies));
                let serving = std::thread::Builder::new().stack_size(128 << 10);
                let started = serving.spawn(move || {
                    let (mut requests, mut bytes) = (0, 0);
                    let served = serve(stream, &bodies, &mut requests, &mut bytes);
                    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.requests += requests;
                    state.request_bytes += bytes;
                    match served {
                        Ok(()) => state.complete += 1,
                        Err(error) if state.faults.len() < 10 => state.faults.push(format!("{error:#}")),
                        Err(_) => {}
                    }
                });
                if started.is_err() {
                    return;
                }
            }
        });
        Ok(Self(arrived))
    }

    /// What has arrived on connections that have ended.
    pub fn arrived(&self) -> Arrived {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(mut stream: TcpStream, bodies: &Bodies, requests: &mut u64, bytes: &mut u64) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut body = Vec::new();
    let mut expected: Option<RequestHeader> = None;
    loop {
        let mut head = [0; HEADER];
        if !read_header(&mut stream, &mut head)? {
            break;
        }
        let header = RequestHeader::read(&head).with_context(|| format!("no header: {head:?}"))?;
        let before = expected.map_or(0, |last| last.number + 1);
        ensure!(
            header.number == before,
            "request {} of connection {} comes as {before}",
            header.number,
            header.connection
        );
        ensure!(expected.is_none_or(|last| last.connection == header.connection), "two connections in one");
        body.resize(header.length as usize - HEADER, 0);
        stream.read_exact(&mut body).context("reading a body")?;
        ensure!(
            body == bodies.of(header),
            "the body of request {} of connection {}",
            header.number,
            header.connection
        );
        expected = Some(header);
        *requests += 1;
        *bytes += u64::from(header.length);
        stream.write_all(bodies.any(header.response as usize)).context("answering")?;
    }
    let last = expected.context("a connection without a request")?;
    ensure!(
        last.number + 1 == last.of,
        "{} of {} requests of connection {}",
        last.number + 1,
        last.of,
        last.connection
    );
    Ok(())
}

/// Reads a header, unless the connection ends before it.
fn read_header(stream: &mut TcpStream, head: &mut [u8; HEADER]) -> Result<bool> {
    let mut filled = 0;
    while filled < HEADER {
        match stream.read(&mut head[filled..]).context("reading a header")? {
            0 if filled == 0 => return Ok(false),
            0 => anyhow::bail!("the connection ended within a header"),
            read => filled += read,
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves what `requests` say, one after another, on a connection of this process.
    fn arrived(requests: &[RequestHeader], spoil: Option<usize>) -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let addr = listener.local_addr()?;
        let bodies = Bodies::new();
        std::thread::scope(|scope| {
            let client = scope.spawn(|| -> Result<()> {
                let mut stream = TcpStream::connect(addr)?;
                for (index, header) in requests.iter().enumerate() {
                    let mut request = header.write().to_vec();
                    request.extend_from_slice(bodies.of(*header));
                    if spoil == Some(index) {
                        request[HEADER] ^= 1;
                    }
                    // The sink hangs up on what is wrong.
                    let _ = stream.write_all(&request);
                    let _ = stream.read_exact(&mut vec![0; header.response as usize]);
                }
                Ok(())
            });
            let served = serve(listener.accept()?.0, &bodies, &mut 0, &mut 0);
            client.join().expect("the client does not panic")?;
            served
        })
    }

    #[test]
    fn only_whole_connections_in_order_are_complete() {
        let request = |number| RequestHeader { connection: 5, number, of: 2, length: 100, response: 9 };
        arrived(&[request(0), request(1)], None).unwrap();
        assert!(arrived(&[request(0)], None).is_err());
        assert!(arrived(&[request(1)], None).is_err());
        assert!(arrived(&[request(0), request(0)], None).is_err());
        assert!(arrived(&[request(0), request(1)], Some(1)).is_err());
    }
}
