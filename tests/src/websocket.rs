//! WebSockets (RFC 6455): the handshake, frames, and a client whose messages come back.

use crate::host::RunningHost;
use crate::httpd::message::Head;
use crate::load::each_in_its_thread;
use anyhow::{Context, Result, ensure};
use sha1::{Digest, Sha1};
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Opcode of a message of bytes (section 5.2).
pub const BINARY: u8 = 2;
/// Opcode of the closing handshake (section 5.5.1).
pub const CLOSE: u8 = 8;

/// One message in one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Reads a frame and takes its mask off.
    pub(crate) fn read(stream: &mut impl Read) -> Result<Self> {
        let mut head = [0; 2];
        stream.read_exact(&mut head).context("reading a WebSocket frame")?;
        ensure!(head[0] & 0x80 != 0, "a message in several frames");
        let length = match head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes(read_array(stream)?)),
            127 => u64::from_be_bytes(read_array(stream)?),
            short => u64::from(short),
        };
        ensure!(length <= 64 << 20, "a WebSocket frame of {length} bytes");
        let mask = if head[1] & 0x80 != 0 { read_array(stream)? } else { [0; 4] };
        let mut payload = vec![0; usize::try_from(length)?];
        stream.read_exact(&mut payload)?;
        apply(mask, &mut payload);
        Ok(Self { opcode: head[0] & 15, payload })
    }

    /// The frame's bytes, masked as a client's must be, or not, as a server's (section 5.3).
    pub(crate) fn write(&self, mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut out = vec![0x80 | self.opcode];
        let masked = if mask.is_some() { 0x80 } else { 0 };
        match self.payload.len() {
            short @ 0..=125 => out.push(masked | short as u8),
            middle @ 126..=0xffff => {
                out.push(masked | 126);
                out.extend((middle as u16).to_be_bytes());
            }
            long => {
                out.push(masked | 127);
                out.extend((long as u64).to_be_bytes());
            }
        }
        out.extend(mask.iter().flatten());
        let start = out.len();
        out.extend(&self.payload);
        apply(mask.unwrap_or_default(), &mut out[start..]);
        out
    }
}

fn apply(mask: [u8; 4], payload: &mut [u8]) {
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

fn read_array<const N: usize>(stream: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The server's side of the handshake (section 4.2.2).
pub(crate) fn accept(head: &Head) -> Result<String> {
    let key = head.field("sec-websocket-key").context("no Sec-WebSocket-Key")?;
    ensure!(head.has_token("connection", "upgrade"), "Upgrade without Connection: Upgrade");
    let accept = accept_of(key);
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    ))
}

fn accept_of(key: &str) -> String {
    let mut sha = Sha1::new();
    sha.update(key.as_bytes());
    sha.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64(&sha.finalize())
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            match at <= group.len() {
                true => out.push(char::from(ALPHABET[(bits >> (18 - 6 * at)) as usize & 63])),
                false => out.push('='),
            }
        }
    }
    out
}

/// Connections that send messages and read them back, all at once.
#[derive(Clone, Copy, Debug)]
pub struct WebSocketLoad {
    /// The server.
    pub server: SocketAddr,
    /// Connections at a time.
    pub connections: usize,
    /// Messages of each connection; every tenth is longer than a segment.
    pub messages: usize,
}

impl WebSocketLoad {
    /// Runs the load from `host` to its end.
    ///
    /// # Errors
    /// When a connection fails, the handshake is refused, or another message comes back than was sent.
    pub fn run(&self, host: &RunningHost) -> Result<()> {
        let load = *self;
        host.run(move || each_in_its_thread(load.connections, |id| load.run_connection(id)))
    }

    fn run_connection(&self, id: usize) -> Result<()> {
        let stream = TcpStream::connect(self.server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut stream = BufReader::new(stream);
        let key = base64(format!("connection {id:05}").as_bytes());
        write!(
            stream.get_mut(),
            "GET /echo/{id} HTTP/1.1\r\nHost: lab\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        )?;
        let answer = Head::read(&mut stream)?.context("no answer to the handshake")?;
        ensure!(answer.status()? == 101, "the server answered {:?}", answer.line);
        ensure!(answer.field("sec-websocket-accept") == Some(&accept_of(&key)), "a wrong accept: {answer:?}");
        for number in 0..self.messages {
            let length = if number % 10 == 9 { 70_000 } else { 20 + number };
            let payload = (0..length).map(|at| (at * 7 + number * 31 + id * 131) as u8).collect();
            let frame = Frame { opcode: BINARY, payload };
            stream.get_mut().write_all(&frame.write(Some([id as u8, number as u8, 0x5a, 0xa5])))?;
            ensure!(
                Frame::read(&mut stream)? == frame,
                "message {number} of connection {id} came back changed"
            );
        }
        let frame = Frame { opcode: CLOSE, payload: 1000_u16.to_be_bytes().to_vec() };
        stream.get_mut().write_all(&frame.write(Some([1, 2, 3, 4])))?;
        ensure!(Frame::read(&mut stream)? == frame, "the closing handshake of connection {id}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_that_of_the_rfc() {
        // The example of section 1.3.
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(base64(b"a") + &base64(b"ab") + &base64(b"abc"), "YQ==YWI=YWJj");
    }

    #[test]
    fn frames_of_all_lengths_come_back() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let frame = Frame { opcode: BINARY, payload: vec![7; length] };
            for mask in [None, Some([1, 2, 3, 4])] {
                let bytes = frame.write(mask);
                let mut input = bytes.as_slice();
                assert_eq!(Frame::read(&mut input).unwrap(), frame);
                assert!(input.is_empty());
            }
        }
    }
}
