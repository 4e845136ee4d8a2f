//! One relay connection, seen from intercept: its socket, its buffers and how far its handshake got.

use socket2::{Socket, TcpKeepalive};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use tcpcopy_engine::relay::frame::ReceiveBuffer;
use tcpcopy_engine::relay::handshake::{ServerHandshake, ServerSession};
use tcpcopy_engine::relay::message::{Reply, ToTcpcopy};
use tcpcopy_engine::relay::routes::{ConnectionId, GroupId};
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_net::poll::{Interest, Poller};

/// Bytes of replies that wait for a slow tcpcopy; what does not fit is dropped, and the target sends it again.
const QUEUE_LIMIT: usize = 4 * 1024 * 1024;
/// Of those, bytes that replies with bodies may take. A session whose plugin reads large bodies must not cost the others the
/// headers that they can't go on without.
const BODY_LIMIT: usize = QUEUE_LIMIT / 4 * 3;
/// No IP and TCP header together is longer (RFC 9293, section 3.1; IPv6 extension headers that a reply may have are short).
const LONGEST_HEADERS: usize = 160;
/// Bytes read at a time. Routes are short, and other connections want their turn.
const READ_SIZE: usize = 64 * 1024;
/// A peer that has not proved itself gets no more room than a handshake needs.
const HANDSHAKE_READ_SIZE: usize = 1024;

/// How far a connection is.
pub(crate) enum Phase {
    Handshake { handshake: Box<ServerHandshake>, deadline: Instant },
    Live { session: ServerSession, group: GroupId },
}

pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) peer_address: SocketAddr,
    pub(crate) phase: Phase,
    pub(crate) input: ReceiveBuffer,
    stream: TcpStream,
    output: Vec<u8>,
    written: usize,
    wants_write: bool,
    /// Replies queued since the last write.
    pub(crate) replies_queued: u32,
    /// Whether it is on the list of connections to be flushed.
    pub(crate) is_dirty: bool,
    pub(crate) bytes_sent: u64,
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    Data,
    Nothing,
    End,
}

impl Connection {
    /// Takes over an accepted connection.
    pub(crate) fn new(
        id: ConnectionId,
        stream: TcpStream,
        peer_address: SocketAddr,
        handshake: ServerHandshake,
        deadline: Instant,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        // The kernel enlarges the socket's buffers by itself; setting a size would end that.
        let socket = Socket::from(stream);
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(15))
            .with_interval(Duration::from_secs(5))
            .with_retries(3);
        socket.set_tcp_keepalive(&keepalive)?;
        Ok(Self {
            id,
            peer_address,
            phase: Phase::Handshake { handshake: Box::new(handshake), deadline },
            input: ReceiveBuffer::default(),
            stream: socket.into(),
            output: Vec::new(),
            written: 0,
            wants_write: false,
            replies_queued: 0,
            is_dirty: false,
            bytes_sent: 0,
        })
    }

    /// The descriptor to wait on.
    pub(crate) fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Whether the handshake is over.
    pub(crate) const fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live { .. })
    }

    /// Reads once.
    pub(crate) fn read(&mut self) -> io::Result<ReadOutcome> {
        let size = if self.is_live() { READ_SIZE } else { HANDSHAKE_READ_SIZE };
        let space = self.input.space(size);
        // More room than asked for may be there; the bound is what counts.
        let length = space.len().min(size);
        match self.stream.read(&mut space[..length]) {
            Ok(0) => Ok(ReadOutcome::End),
            Ok(count) => {
                self.input.filled(count);
                Ok(ReadOutcome::Data)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(ReadOutcome::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// The buffer that handshake messages are put into.
    pub(crate) const fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Queues a reply; `false` when there is no room for it.
    pub(crate) fn queue_reply(&mut self, reply: &Reply<'_>) -> bool {
        if !has_room(self.output.len() - self.written, reply.encoded_len()) {
            return false;
        }
        reply.encode(&mut self.output);
        self.replies_queued += 1;
        true
    }

    /// Queues another message; `false` when there is no room for it.
    pub(crate) fn queue(&mut self, message: &ToTcpcopy<'_>) -> bool {
        // Half as much again: answers to a peer that asks and never reads are bounded too.
        if self.output.len() - self.written > QUEUE_LIMIT + QUEUE_LIMIT / 2 {
            return false;
        }
        message.encode(&mut self.output);
        true
    }

    /// Writes what waits, once, and has the poller tell when the rest can follow.
    pub(crate) fn flush(&mut self, poller: &Poller, token: u64) -> io::Result<()> {
        self.replies_queued = 0;
        if self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    self.bytes_sent += count as u64;
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        let unfinished = self.written < self.output.len();
        if !unfinished {
            self.output.clear();
            self.written = 0;
        } else if self.written > self.output.len() / 2 {
            self.output.drain(..self.written);
            self.written = 0;
        }
        if unfinished != self.wants_write {
            let interest = if unfinished { Interest::ReadableOrWritable } else { Interest::Readable };
            poller.modify(self.fd(), token, interest)?;
            self.wants_write = unfinished;
        }
        Ok(())
    }
}

/// Whether a reply that takes `length` bytes may join `queued` others.
const fn has_room(queued: usize, length: usize) -> bool {
    let limit = if length > LONGEST_HEADERS { BODY_LIMIT } else { QUEUE_LIMIT };
    queued + length <= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_leave_room_for_headers() {
        assert!(has_room(BODY_LIMIT - 1500, 1500));
        assert!(!has_room(BODY_LIMIT, 1500));
        assert!(has_room(BODY_LIMIT, 80));
        assert!(!has_room(QUEUE_LIMIT, 80));
    }
}
