//! A server that plays the online server's part in a recorded conversation, for captures whose servers nobody has any more.
//!
//! Owns reading conversations from a capture file, by tshark, so that the reading is not the programs' own, and the server: once
//! it has got as many bytes of a client as the online server had got before it answered, it answers with the online server's
//! bytes. What it gets is kept for the test to compare.

use crate::host::RunningHost;
use crate::tools;
use crate::wait::wait_until;
use anyhow::{Context, Result, ensure};
use nix::sys::socket::Backlog;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A part of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The client sent these bytes.
    Request(Vec<u8>),
    /// The online server sent these.
    Answer(Vec<u8>),
}

/// A recorded connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// The client.
    pub client: SocketAddr,
    /// The online server.
    pub online: SocketAddr,
    /// What was said, in the order of the capture, without repetitions.
    pub turns: Vec<Turn>,
    /// Who ended it.
    pub server_end: ServerEnd,
    /// Whether all bytes of the client between the first and the last are there. What is missing of the server is made up.
    pub record: Record,
}

/// Whether the server ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEnd {
    /// It did.
    Finished,
    /// It did not, or by a reset.
    Open,
}

/// Whether a capture has all of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// It has.
    Whole,
    /// Bytes are missing.
    Gaps,
}

impl Conversation {
    /// All that the client sent.
    pub fn requests(&self) -> Vec<u8> {
        let requests = self.turns.iter().filter_map(|turn| match turn {
            Turn::Request(bytes) => Some(bytes.as_slice()),
            Turn::Answer(_) => None,
        });
        requests.collect::<Vec<_>>().concat()
    }
}

/// Reads the conversations with servers on `ports`, in the order of their beginnings.
///
/// # Errors
/// When tshark is not installed or can't read the file.
pub fn read(capture: &Path, ports: &[u16]) -> Result<Vec<Conversation>> {
    let mut command = Command::new(tools::TSHARK.require()?);
    command.arg("-r").arg(capture).args(["-Y", "tcp", "-T", "fields"]);
    for field in
        ["tcp.stream", "ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport", "tcp.flags"]
    {
        command.args(["-e", field]);
    }
    let mut streams: BTreeMap<usize, Conversation> = BTreeMap::new();
    for line in output_of(command)?.lines() {
        let Some(packet) = Packet::parse(line) else { continue };
        packet.note(ports, &mut streams);
    }
    let mut command = Command::new(tools::TSHARK.require()?);
    command.arg("-r").arg(capture).arg("-q");
    for stream in streams.keys() {
        command.args(["-z", &format!("follow,tcp,raw,{stream}")]);
    }
    for part in output_of(command)?.split("Follow: tcp,raw").skip(1) {
        let value = |name: &str| part.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let stream = value("Filter: tcp.stream eq ").and_then(|number| number.parse::<usize>().ok());
        let Some(conversation) = stream.and_then(|stream| streams.get_mut(&stream)) else { continue };
        let first = value("Node 0:").context("a stream without its first node")?;
        // Addresses of IPv6 are written without brackets here.
        let client_is_first = first.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
            == Some(conversation.client.port());
        take_turns(part, client_is_first, conversation);
    }
    Ok(streams.into_values().collect())
}

fn output_of(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    // tshark reports a cut file as a failure, and has read it to there.
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What tells conversations apart in one packet.
struct Packet {
    stream: usize,
    from: SocketAddr,
    to: SocketAddr,
    flags: u16,
}

impl Packet {
    fn parse(line: &str) -> Option<Self> {
        let columns: Vec<&str> = line.split('\t').collect();
        let [stream, v4_from, v6_from, from_port, v4_to, v6_to, to_port, flags] = columns[..] else {
            return None;
        };
        // With tunnels there are several of each; the innermost comes last.
        let last = |column: &str| column.rsplit(',').next().unwrap_or_default().to_owned();
        let addr =
            |v4: &str, v6: &str| -> Option<IpAddr> { last(if v4.is_empty() { v6 } else { v4 }).parse().ok() };
        let port = |column: &str| last(column).parse::<u16>().ok();
        Some(Self {
            stream: last(stream).parse().ok()?,
            from: SocketAddr::new(addr(v4_from, v6_from)?, port(from_port)?),
            to: SocketAddr::new(addr(v4_to, v6_to)?, port(to_port)?),
            flags: u16::from_str_radix(last(flags).trim_start_matches("0x"), 16).ok()?,
        })
    }

    fn note(&self, ports: &[u16], streams: &mut BTreeMap<usize, Conversation>) {
        let (is_syn, is_ack, is_fin) = (self.flags & 2 != 0, self.flags & 16 != 0, self.flags & 1 != 0);
        let is_to_server =
            ports.contains(&self.to.port()) && !(is_syn && is_ack && ports.contains(&self.from.port()));
        let (client, online) = if is_to_server { (self.from, self.to) } else { (self.to, self.from) };
        if !ports.contains(&online.port()) {
            return;
        }
        let conversation = streams.entry(self.stream).or_insert(Conversation {
            client,
            online,
            turns: Vec::new(),
            server_end: ServerEnd::Open,
            record: Record::Whole,
        });
        if is_fin && self.from == conversation.online {
            conversation.server_end = ServerEnd::Finished;
        }
    }
}

fn take_turns(part: &str, client_is_first: bool, conversation: &mut Conversation) {
    for line in part.lines() {
        let hex = line.trim();
        if hex.is_empty() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            continue;
        }
        let digits =
            (0..hex.len() / 2).filter_map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok());
        let bytes: Vec<u8> = digits.collect();
        let is_request = line.starts_with('\t') != client_is_first;
        let bytes = match (missing(&bytes), is_request) {
            (None, _) => bytes,
            // As many came, though nobody knows which.
            (Some(count), false) => vec![b'?'; count],
            (Some(_), true) => {
                conversation.record = Record::Gaps;
                continue;
            }
        };
        match (conversation.turns.last_mut(), is_request) {
            (Some(Turn::Request(last)), true) | (Some(Turn::Answer(last)), false) => last.extend(bytes),
            (_, true) => conversation.turns.push(Turn::Request(bytes)),
            (_, false) => conversation.turns.push(Turn::Answer(bytes)),
        }
    }
}

/// How many bytes are missing, if these are tshark's own words in the place of bytes that it has not got.
fn missing(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
    text.strip_prefix('[')?.strip_suffix(" bytes missing in capture file]")?.parse().ok()
}

/// What a client's connection brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The client, as the server saw it.
    pub client: SocketAddr,
    /// All bytes.
    pub bytes: Vec<u8>,
}

#[derive(Default)]
struct State {
    conversations: HashMap<SocketAddr, VecDeque<Conversation>>,
    received: Vec<Received>,
    open: Vec<TcpStream>,
}

/// The server, on one port of a host. It accepts as long as the process lives.
pub struct ScriptedServer(Arc<Mutex<State>>);

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ScriptedServer {
    /// Starts one on all addresses of `host` that knows `conversations`, by the address and port that each client will have.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(
        host: &RunningHost,
        port: u16,
        conversations: impl IntoIterator<Item = (SocketAddr, Conversation)>,
    ) -> Result<Self> {
        let mut state = State::default();
        for (client, conversation) in conversations {
            state.conversations.entry(client).or_default().push_back(conversation);
        }
        let state = Arc::new(Mutex::new(state));
        let addr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        let listener = host.run(move || TcpListener::bind(addr)).context("starting the scripted server")?;
        nix::sys::socket::listen(&listener, Backlog::MAXCONN)?;
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    // Clients end as they did; what they sent is noted.
                    let _ = serve(stream, &shared);
                });
            }
        });
        Ok(Self(state))
    }

    /// What it has got, once it is as many bytes as expected, or after `limit`. Ends all connections.
    pub fn finish(&self, bytes: usize, limit: Duration) -> Vec<Received> {
        // What is missing shows where it is compared.
        let _ = wait_until("the bytes", limit, || {
            Ok(lock(&self.0).received.iter().map(|received| received.bytes.len()).sum::<usize>() >= bytes)
        });
        let mut state = lock(&self.0);
        for stream in state.open.drain(..) {
            // The other side may have closed it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        state.received.clone()
    }
}

fn serve(mut stream: TcpStream, shared: &Mutex<State>) -> Result<()> {
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    let client = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let (index, conversation) = {
        let mut state = lock(shared);
        state.open.push(stream.try_clone()?);
        state.received.push(Received { client, bytes: Vec::new() });
        let known = state.conversations.get_mut(&client).and_then(VecDeque::pop_front);
        (state.received.len() - 1, known)
    };
    let mut got = 0;
    let mut buffer = vec![0; 64 << 10];
    let mut read = |stream: &mut TcpStream| -> Result<usize> {
        let length = stream.read(&mut buffer)?;
        lock(shared).received[index].bytes.extend_from_slice(&buffer[..length]);
        Ok(length)
    };
    if let Some(conversation) = conversation {
        let mut wanted = 0;
        for turn in &conversation.turns {
            match turn {
                Turn::Request(bytes) => wanted += bytes.len(),
                Turn::Answer(bytes) => {
                    while got < wanted {
                        let length = read(&mut stream)?;
                        ensure!(length > 0, "the client has ended");
                        got += length;
                    }
                    stream.write_all(bytes)?;
                }
            }
        }
        while got < wanted {
            let length = read(&mut stream)?;
            ensure!(length > 0, "the client has ended");
            got += length;
        }
        if conversation.server_end == ServerEnd::Finished {
            stream.shutdown(Shutdown::Write)?;
        }
    }
    while read(&mut stream)? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Conversation {
        Conversation {
            client: SocketAddr::from(([10, 0, 0, 1], 4000)),
            online: SocketAddr::from(([10, 0, 0, 2], 80)),
            turns: Vec::new(),
            server_end: ServerEnd::Open,
            record: Record::Whole,
        }
    }

    #[test]
    fn tsharks_lines_become_turns() {
        let mut both = conversation();
        let missing: String =
            b"[7 bytes missing in capture file]\0".iter().map(|byte| format!("{byte:02x}")).collect();
        let part = format!("\nNode 0: 10.0.0.2:80\n\t6162\n\t63\n6465\n{missing}\n\t66\n====\n");
        take_turns(&part, false, &mut both);
        let answer = Turn::Answer(b"de???????".into());
        assert_eq!(both.turns, [Turn::Request(b"abc".into()), answer, Turn::Request(b"f".into())]);
        assert_eq!(both.record, Record::Whole);
        take_turns(&format!("\t{missing}\n"), false, &mut both);
        assert_eq!(both.record, Record::Gaps);
        assert_eq!(both.requests(), b"abcf");
    }

    #[test]
    fn the_innermost_addresses_of_a_tunnel_count() {
        let line = "3\t10.1.0.1,172.16.0.1\t\t40354\t10.1.0.2,54.86.0.1\t\t80\t0x0002";
        let mut streams = BTreeMap::new();
        Packet::parse(line).unwrap().note(&[80], &mut streams);
        let conversation = &streams[&3];
        assert_eq!(conversation.client.to_string(), "172.16.0.1:40354");
        assert_eq!(conversation.online.to_string(), "54.86.0.1:80");
        assert_eq!(conversation.server_end, ServerEnd::Open);
        assert!(Packet::parse("not a packet").is_none());
    }
}
