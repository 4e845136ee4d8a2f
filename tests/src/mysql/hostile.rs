//! A server that means harm to whoever logs in: it speaks MySQL up to a point, and lies from there.

use crate::host::RunningHost;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What it does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malice {
    /// Its greeting is a packet of no bytes.
    EmptyGreeting,
    /// Its greeting announces many more bytes than come.
    LongGreeting,
    /// Its greeting is noise.
    Noise,
    /// Its answer to the login is one request for another method after another, without end.
    EndlessSwitches,
    /// As above, with the public key that nobody asked for.
    EndlessKeys,
    /// It accepts the login, and its answers to commands have lengths that are not theirs.
    LyingLengths,
    /// It accepts the login, and announces results of more columns than there are bytes.
    EndlessColumns,
    /// It accepts the login, and then numbers its packets wrongly.
    WrongNumbers,
}

impl Malice {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::EmptyGreeting,
        Self::LongGreeting,
        Self::Noise,
        Self::EndlessSwitches,
        Self::EndlessKeys,
        Self::LyingLengths,
        Self::EndlessColumns,
        Self::WrongNumbers,
    ];
}

/// A running one.
pub struct HostileServer {
    accepted: Arc<AtomicUsize>,
}

impl HostileServer {
    /// Starts one that treats connections to `address` in turns, each in another way. It ends with the lab's process.
    /// With `honest`, every second connection is led there, to a server that is none.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(host: &RunningHost, address: SocketAddr, honest: Option<SocketAddr>) -> Result<Self> {
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        // Threads stay on the host of the one that starts them.
        host.run(move || -> Result<()> {
            let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
            std::thread::spawn(move || serve(&listener, &count, honest));
            Ok(())
        })?;
        Ok(Self { accepted })
    }

    /// Connections so far that it treated badly.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

fn serve(listener: &TcpListener, count: &AtomicUsize, honest: Option<SocketAddr>) {
    for (number, stream) in listener.incoming().flatten().enumerate() {
        let turn = match honest {
            Some(server) if number % 2 == 1 => {
                std::thread::spawn(move || lead(stream, server));
                continue;
            }
            Some(_) => number / 2,
            None => number,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let malice = Malice::ALL[turn % Malice::ALL.len()];
        // That the other side has gone is what is wanted.
        std::thread::spawn(move || drop(treat(stream, malice)));
    }
}

/// Leads a connection to another server.
fn lead(stream: TcpStream, server: SocketAddr) -> std::io::Result<()> {
    let other = TcpStream::connect(server)?;
    let back = (other.try_clone()?, stream.try_clone()?);
    let pass = |mut from: TcpStream, mut to: TcpStream| {
        // Whoever ends, ends both.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    };
    std::thread::spawn(move || pass(back.0, back.1));
    pass(stream, other);
    Ok(())
}

/// Packets that an endless server sends before it gives up: more than any client should want to read.
const ENDLESS: usize = 50_000;

fn treat(mut stream: TcpStream, malice: Malice) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    match malice {
        Malice::EmptyGreeting => return linger(&mut stream, &packet(0, b"")),
        Malice::LongGreeting => {
            let mut bytes = packet(0, &greeting());
            bytes[..3].copy_from_slice(&[0xff, 0xff, 0xff]);
            return linger(&mut stream, &bytes);
        }
        Malice::Noise => {
            let noise: Vec<u8> = (0u32..4096).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            return linger(&mut stream, &noise);
        }
        _ => stream.write_all(&packet(0, &greeting()))?,
    }
    let mut buffer = [0; 65536];
    if stream.read(&mut buffer)? == 0 {
        return Ok(());
    }
    match malice {
        Malice::EndlessSwitches => {
            let switch = [b"\xfemysql_native_password\0".as_slice(), &[b'a'; 20], b"\0"].concat();
            return endlessly(&mut stream, |number| packet(number, &switch));
        }
        Malice::EndlessKeys => {
            return endlessly(&mut stream, |number| {
                packet(number, b"\x01-----BEGIN PUBLIC KEY-----\nAAAA\n")
            });
        }
        _ => stream.write_all(&packet(2, b"\0\0\0\x02\0\0\0"))?,
    }
    loop {
        if stream.read(&mut buffer)? == 0 {
            return Ok(());
        }
        match malice {
            Malice::LyingLengths => stream.write_all(b"\xf0\xff\xff\x01\0\0\0\x02\0\0\0")?,
            Malice::EndlessColumns => {
                stream.write_all(&packet(1, b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"))?
            }
            _ => stream.write_all(&packet(77, b"\0\0\0\x02\0\0\0"))?,
        }
    }
}

/// Sends bytes and keeps the connection for a while.
fn linger(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes)?;
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Sends packets for as long as the other side answers each.
fn endlessly(stream: &mut TcpStream, make: impl Fn(u8) -> Vec<u8>) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    for number in 0..ENDLESS {
        stream.write_all(&make(2u8.wrapping_add((number as u8).wrapping_mul(2))))?;
        if stream.read(&mut buffer)? == 0 {
            return Ok(());
        }
    }
    Ok(())
}

fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    [&length[..3], &[number], payload].concat()
}

/// A greeting as MySQL 8 sends it, with `mysql_native_password`.
fn greeting() -> Vec<u8> {
    let mut greeting = b"\x0a8.0.99-hostile\0\x01\0\0\0abcdefgh\0".to_vec();
    // All capabilities but TLS and compression, in two halves around the character set and the status.
    let capabilities: u32 = 0x01ff_f7df & !0x0000_0820;
    let [a, b, c, d] = capabilities.to_le_bytes();
    greeting.extend([a, b, 0x2d, 2, 0, c, d, 21]);
    greeting.extend([0; 10]);
    greeting.extend(b"ijklmnopqrst\0mysql_native_password\0");
    greeting
}
