//! One host of the lab: its addresses, and what can be run on it.

use crate::namespace::Namespace;
use crate::process::{Pipes, Process};
use crate::wait::wait_until;
use anyhow::{Context, Result, bail};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A role in the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// Where the real clients are.
    Client,
    /// The server they talk to; `tcpcopy` runs here.
    Online,
    /// The server under test.
    Target,
    /// Where the target's replies to clients arrive; `intercept` runs here.
    Assistant,
}

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Host {
    /// All hosts.
    pub const ALL: [Self; 4] = [Self::Client, Self::Online, Self::Target, Self::Assistant];

    /// The host's name on the command line and in file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Online => "online",
            Self::Target => "target",
            Self::Assistant => "assistant",
        }
    }

    /// The host called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|host| host.name() == name)
    }

    /// The host's address: `10.77.0.n` or `fd77::n`.
    pub const fn addr(self, family: Family) -> IpAddr {
        let n = match self {
            Self::Client => 10,
            Self::Online => 20,
            Self::Target => 30,
            Self::Assistant => 40,
        };
        match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 77, 0, n)),
            // Written so that both read alike: fd77::10, fd77::20, …
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, (n as u16 / 10) << 4)),
        }
    }

    /// `port` at the host's address.
    pub const fn socket(self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.addr(family), port)
    }
}

/// A host that is up.
pub struct RunningHost {
    host: Host,
    namespace: Namespace,
    folder: PathBuf,
    started: AtomicU32,
}

impl RunningHost {
    pub(crate) fn new(host: Host, namespace: Namespace, folder: PathBuf) -> Self {
        Self { host, namespace, folder, started: AtomicU32::new(0) }
    }

    /// Which one it is.
    pub fn role(&self) -> Host {
        self.host
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A folder for the files of this lab.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs `work` on a thread of this host and waits for it; sockets that it opens are this host's.
    ///
    /// # Panics
    /// When `work` panics.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        // Not on the namespace's own thread: other work must be able to start meanwhile.
        let thread = self.namespace.run(|| std::thread::spawn(work));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts a process here. Its output goes to a file in the lab's folder; it dies with the guard, with this process, and
    /// with the lab.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self, name: &str, command: Command) -> Result<Process> {
        self.spawn_piped(name, command, Pipes::default())
    }

    /// As [`RunningHost::spawn`], with its standard input or output a pipe.
    ///
    /// # Errors
    /// As [`RunningHost::spawn`].
    pub fn spawn_piped(&self, name: &str, command: Command, pipes: Pipes) -> Result<Process> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.join(format!("{}-{number}-{name}.log", self.host.name()));
        let name = name.to_owned();
        self.namespace.run(move || Process::start(&name, &command, log, pipes))
    }

    /// Runs a process here to its end and returns what it wrote.
    ///
    /// # Errors
    /// When it can't be started or fails.
    pub fn output(&self, command: Command) -> Result<Output> {
        let shown = format!("{command:?}");
        let child = self.namespace.run(move || -> Result<_> {
            let mut tied = crate::process::tied_to_thread(&command)?;
            tied.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            tied.spawn().with_context(|| format!("starting {command:?}"))
        })?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "{shown} on {} failed ({}):\n{}{}",
                self.host.name(),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(output)
    }

    /// Runs a process here with the terminal of this one and returns its exit status.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn run_in_terminal(&self, command: Command) -> Result<std::process::ExitStatus> {
        let mut child = self.namespace.run(move || -> Result<_> {
            crate::process::tied_to_thread(&command)?.spawn().with_context(|| format!("starting {command:?}"))
        })?;
        Ok(child.wait()?)
    }

    /// Runs `ip` with these words.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn ip(&self, words: &str) -> Result<()> {
        let mut command = Command::new(crate::tools::IP.require()?);
        command.args(words.split_whitespace());
        self.output(command).map(drop)
    }

    /// Sets a kernel parameter of this host, as `sysctl -w net.…` does.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let (path, value) = (format!("/proc/sys/{}", name.replace('.', "/")), value.to_owned());
        self.namespace
            .run(move || fs::write(&path, &value).with_context(|| format!("writing {value:?} to {path}")))
    }

    /// A file below `/proc/net` as this host sees it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn proc_net(&self, file: &str) -> Result<String> {
        let path = format!("/proc/thread-self/net/{file}");
        self.namespace.run(move || fs::read_to_string(&path).with_context(|| format!("reading {path}")))
    }

    /// Waits until something listens on a TCP port here.
    ///
    /// # Errors
    /// When nothing does within `limit`.
    pub fn wait_for_listener(&self, port: u16, limit: Duration) -> Result<()> {
        let what = format!("a listener on port {port} of {}", self.host.name());
        wait_until(&what, limit, || {
            Ok(self.tcp_sockets()?.iter().any(|socket| socket.is_listener() && socket.local_port == port))
        })
    }

    /// The TCP sockets here, of both IP versions.
    ///
    /// # Errors
    /// When the kernel's list can't be read.
    pub fn tcp_sockets(&self) -> Result<Vec<TcpSocket>> {
        let mut sockets = TcpSocket::parse_table(&self.proc_net("tcp")?);
        sockets.extend(TcpSocket::parse_table(&self.proc_net("tcp6")?));
        Ok(sockets)
    }

    /// Number of packet sockets (captures) that are open here.
    ///
    /// # Errors
    /// When the kernel's list can't be read.
    pub fn packet_sockets(&self) -> Result<usize> {
        Ok(self.proc_net("packet")?.lines().skip(1).filter(|line| !line.trim().is_empty()).count())
    }
}

/// One line of `/proc/net/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Port of this side.
    pub local_port: u16,
    /// Port of the other side, 0 for a listener.
    pub remote_port: u16,
    state: u8,
}

impl TcpSocket {
    /// Whether it is connected.
    pub fn is_established(self) -> bool {
        self.state == 1
    }

    /// Whether it listens.
    pub fn is_listener(self) -> bool {
        self.state == 10
    }

    fn parse_table(table: &str) -> Vec<Self> {
        let port = |endpoint: &str| u16::from_str_radix(endpoint.rsplit_once(':')?.1, 16).ok();
        let parse = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            Some(Self {
                local_port: port(words.next()?)?,
                remote_port: port(words.next()?)?,
                state: u8::from_str_radix(words.next()?, 16).ok()?,
            })
        };
        table.lines().skip(1).filter_map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_versions_read_alike() {
        assert_eq!(Host::Client.addr(Family::V4).to_string(), "10.77.0.10");
        assert_eq!(Host::Client.addr(Family::V6).to_string(), "fd77::10");
        assert_eq!(Host::Assistant.addr(Family::V6).to_string(), "fd77::40");
        assert_eq!(Host::from_name("online"), Some(Host::Online));
    }

    #[test]
    fn socket_table_gives_ports_and_states() {
        let table = "  sl  local_address rem_address   st\n   \
            0: 0100007F:18EB 00000000:0000 0A 00000000:00000000\n   \
            1: 0100007F:18EB 0100007F:C001 01 00000000:00000000\n";
        let sockets = TcpSocket::parse_table(table);
        assert_eq!(sockets.len(), 2);
        assert!(sockets[0].is_listener() && sockets[0].local_port == 6379);
        assert!(sockets[1].is_established() && sockets[1].remote_port == 0xc001);
    }
}
