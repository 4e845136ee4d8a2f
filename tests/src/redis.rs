//! A real redis-server, a small client, and what its MONITOR shows.

use crate::host::RunningHost;
use crate::process::Process;
use crate::tools;
use crate::wait::wait_until;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long anything that is at work may stay silent.
const SILENCE: Duration = Duration::from_secs(60);

/// A reply of redis, in RESP 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A status line.
    Status(String),
    /// A number.
    Number(i64),
    /// A string; `None` where there is no such key.
    Bulk(Option<Vec<u8>>),
    /// Several values.
    List(Vec<Value>),
}

/// A connection to redis.
pub struct RedisClient<S = TcpStream> {
    stream: BufReader<S>,
}

impl RedisClient {
    /// Connects; call it on the thread of a host.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub fn connect(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, Duration::from_secs(10))
            .with_context(|| format!("connecting to redis at {server}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }
}

impl<S: Read + Write> RedisClient<S> {
    /// Sends bytes that are commands already.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn send(&mut self, commands: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(commands)?)
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// When the connection fails or redis answers with an error.
    pub fn call(&mut self, words: &[&str]) -> Result<Value> {
        let mut command = Vec::new();
        write_command(&mut command, &words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
        self.send(&command)?;
        self.reply().with_context(|| format!("redis command {words:?}"))
    }

    /// Reads so many lines as they are, for replies with an error within.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn raw_lines(&mut self, count: usize) -> Result<Vec<String>> {
        let read = |stream: &mut BufReader<S>| -> Result<String> {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            Ok(line.trim_end().to_owned())
        };
        (0..count).map(|_| read(&mut self.stream)).collect()
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// When the connection fails or the reply is an error.
    pub fn reply(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let Some(line) = line.strip_suffix("\r\n") else { bail!("the connection was closed") };
        let (kind, rest) = line.split_at_checked(1).context("an empty line")?;
        match kind {
            "+" => Ok(Value::Status(rest.to_owned())),
            "-" => bail!("redis says {rest}"),
            ":" => Ok(Value::Number(rest.parse()?)),
            "$" => match rest.parse::<i64>()? {
                -1 => Ok(Value::Bulk(None)),
                length => {
                    let mut bytes = vec![0; usize::try_from(length)? + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(bytes.len() - 2);
                    Ok(Value::Bulk(Some(bytes)))
                }
            },
            "*" => {
                (0..rest.parse::<i64>()?.max(0)).map(|_| self.reply()).collect::<Result<_>>().map(Value::List)
            }
            _ => bail!("not a reply of redis: {line:?}"),
        }
    }
}

impl Drop for RedisServer<'_> {
    fn drop(&mut self) {
        // Only a socket outside the lab's folder would stay.
        let _ = std::fs::remove_file(&self.control);
    }
}

/// Appends a command to `out`.
pub fn write_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    // Writing to a vector can't fail.
    let _ = write!(out, "*{}\r\n", words.len());
    for word in words {
        let _ = write!(out, "${}\r\n", word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// A redis-server on one of the hosts.
pub struct RedisServer<'lab> {
    host: &'lab RunningHost,
    process: Process,
    // Tests must not be seen by a capture that takes all interfaces, loopback included.
    control: PathBuf,
    password: Option<String>,
}

impl<'lab> RedisServer<'lab> {
    /// Starts one that keeps nothing on disk and waits until it answers.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(host: &'lab RunningHost, port: u16) -> Result<Self> {
        Self::launch(host, port, None)
    }

    /// As [`RedisServer::start`], one that wants a password of clients that name no user.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn with_password(host: &'lab RunningHost, port: u16, password: &str) -> Result<Self> {
        Self::launch(host, port, Some(password))
    }

    fn launch(host: &'lab RunningHost, port: u16, password: Option<&str>) -> Result<Self> {
        let program = tools::REDIS_SERVER.require()?;
        let version =
            Command::new(&program).arg("--version").output().context("asking redis for its version")?;
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string()]);
        command.args([
            "--bind",
            "0.0.0.0",
            "::",
            "--protected-mode",
            "no",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.args([
            // As many as it has files for, if those are fewer.
            "--maxclients",
            "30000",
            "--tcp-backlog",
            "4096",
            "--daemonize",
            "no",
            "--timeout",
            "0",
        ]);
        let control = control_socket(host, port);
        command.arg("--unixsocket").arg(&control);
        if major_version(&String::from_utf8_lossy(&version.stdout)).is_some_and(|major| major >= 7) {
            // Older ones always allow DEBUG, and don't start with an option that they don't know.
            command.args(["--enable-debug-command", "yes"]);
        }
        if let Some(password) = password {
            command.args(["--requirepass", password]);
        }
        command.current_dir(host.folder());
        let mut process = host.spawn("redis", command)?;
        let started = host.wait_for_listener(port, Duration::from_secs(20));
        process.check_running()?;
        started?;
        let server = Self { host, process, control, password: password.map(str::to_owned) };
        // The port is there before the local socket.
        wait_until("redis to answer", Duration::from_secs(20), || Ok(server.call(&["PING"]).is_ok()))?;
        Ok(server)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The host that it runs on.
    pub fn host(&self) -> &'lab RunningHost {
        self.host
    }

    /// Sends one command through the server's local socket, where no capture of the lab sees it.
    ///
    /// # Errors
    /// As [`RedisClient::call`].
    pub fn call(&self, words: &[&str]) -> Result<Value> {
        self.control()?.call(words)
    }

    fn control(&self) -> Result<RedisClient<UnixStream>> {
        let stream = UnixStream::connect(&self.control)
            .with_context(|| format!("connecting to {}", self.control.display()))?;
        stream.set_read_timeout(Some(SILENCE))?;
        let mut client = RedisClient { stream: BufReader::new(stream) };
        if let Some(password) = &self.password {
            client.call(&["AUTH", password])?;
        }
        Ok(client)
    }

    /// One number over everything stored: equal on two servers exactly when their data is.
    ///
    /// # Errors
    /// As [`RedisClient::call`].
    pub fn digest(&self) -> Result<String> {
        match self.call(&["DEBUG", "DIGEST"])? {
            Value::Status(digest) => Ok(digest),
            other => bail!("DEBUG DIGEST gave {other:?}"),
        }
    }

    /// How often `command` was called.
    ///
    /// # Errors
    /// As [`RedisClient::call`].
    pub fn calls(&self, command: &str) -> Result<u64> {
        let Value::Bulk(Some(info)) = self.call(&["INFO", "commandstats"])? else {
            bail!("INFO gave no text")
        };
        calls_in(&String::from_utf8_lossy(&info), command)
    }

    /// Makes a user who may do everything.
    ///
    /// # Errors
    /// As [`RedisClient::call`].
    pub fn add_user(&self, name: &str, password: &str) -> Result<()> {
        self.call(&["ACL", "SETUSER", name, "on", &format!(">{password}"), "~*", "&*", "+@all"]).map(drop)
    }

    /// Forgets all data and counts.
    ///
    /// # Errors
    /// As [`RedisClient::call`].
    pub fn reset(&self) -> Result<()> {
        self.call(&["FLUSHALL"])?;
        self.call(&["CONFIG", "RESETSTAT"]).map(drop)
    }

    /// Begins to record the commands that come from other hosts.
    ///
    /// # Errors
    /// As [`RedisClient::call`].
    pub fn monitor(&self) -> Result<Monitor> {
        let mut client = self.control()?;
        ensure!(client.call(&["MONITOR"])? == Value::Status("OK".into()), "MONITOR was refused");
        client.stream.get_ref().set_read_timeout(None)?;
        let connection = client.stream.get_ref().try_clone()?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&lines);
        std::thread::spawn(move || {
            while let Ok(value) = client.reply() {
                if let Value::Status(line) = value
                    && !line.contains(" unix:")
                {
                    seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line);
                }
            }
        });
        Ok(Monitor { lines, connection })
    }
}

/// A running MONITOR.
pub struct Monitor {
    lines: Arc<Mutex<Vec<String>>>,
    connection: UnixStream,
}

impl Monitor {
    /// The commands so far, as redis shows them: time, client, words.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Waits for the first `count` commands.
    ///
    /// # Errors
    /// When they don't come within `limit`.
    pub fn wait_for(&self, count: usize, limit: Duration) -> Result<Vec<String>> {
        wait_until(&format!("{count} commands at redis"), limit, || Ok(self.lines().len() >= count))?;
        Ok(self.lines())
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Ends the reading thread; a connection that is gone already has ended it.
        let _ = self.connection.shutdown(std::net::Shutdown::Both);
    }
}

/// A place for a server's local socket, whose path may have no more than 107 bytes.
fn control_socket(host: &RunningHost, port: u16) -> PathBuf {
    let name = format!("{}-{port}.sock", host.role().name());
    let beside_logs = host.folder().join(&name);
    if beside_logs.as_os_str().len() < 100 {
        return beside_logs;
    }
    std::env::temp_dir().join(format!("tcpcopy-lab-{}-{name}", std::process::id()))
}

fn major_version(text: &str) -> Option<u32> {
    text.split("v=").nth(1)?.split('.').next()?.parse().ok()
}

fn calls_in(info: &str, command: &str) -> Result<u64> {
    let prefix = format!("cmdstat_{command}:calls=");
    let Some(rest) = info.lines().find_map(|line| line.strip_prefix(&prefix)) else { return Ok(0) };
    let digits = rest.split(',').next().unwrap_or_default();
    digits.trim().parse().with_context(|| format!("reading {digits:?} in INFO commandstats"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_call_counts_are_read() {
        assert_eq!(major_version("Redis server v=7.0.15 sha=00000000:0 malloc"), Some(7));
        assert_eq!(major_version("nonsense"), None);
        let info = "# Commandstats\r\ncmdstat_setex:calls=4,usec=1\r\ncmdstat_set:calls=12,usec=3\r\n";
        assert_eq!(calls_in(info, "set").unwrap(), 12);
        assert_eq!(calls_in(info, "get").unwrap(), 0);
    }

    #[test]
    fn commands_are_written_in_resp() {
        let mut out = Vec::new();
        write_command(&mut out, &[b"SET", b"k", b"a\r\n"]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\na\r\n\r\n");
    }
}
