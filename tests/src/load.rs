//! Redis load whose outcome does not depend on the order of different connections.
//!
//! `redis-benchmark` tells only counts. Here each connection writes keys of its own, with values that say which request wrote
//! them, so two servers that got the same requests in the same order within each connection have the same `DEBUG DIGEST`, and
//! two that did not, don't.

use crate::host::RunningHost;
use crate::redis::{RedisClient, Value, write_command};
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::time::Duration;

/// What the requests do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// SET of one of 32 keys.
    Set,
    /// APPEND to one key: shows every lost, repeated or reordered request.
    Append,
    /// INCR of one key.
    Incr,
    /// SET, APPEND and INCR in turns.
    Mixed,
    /// GET of a key that [`RedisLoad::prepare`] wrote.
    Get,
}

/// How long a connection lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// All its requests.
    Kept,
    /// One pipeline of requests.
    PerRequest,
}

/// A redis load.
#[derive(Clone, Debug)]
pub struct RedisLoad {
    /// The server.
    pub server: SocketAddr,
    /// Connections at a time.
    pub connections: usize,
    /// Requests over all connections; rounded down to the same number for each.
    pub requests: usize,
    /// Requests sent at once before their replies are read.
    pub pipeline: usize,
    /// Length of a value.
    pub value_bytes: usize,
    /// What the requests do.
    pub verb: Verb,
    /// How long a connection lasts.
    pub reuse: Connections,
    /// Time between the replies to one round of requests and the next round.
    pub pause: Duration,
    /// Commands that each connection begins with, words separated by spaces: `AUTH password`, `SELECT 2`.
    pub greeting: Vec<String>,
    /// Beginning of each key, so that one load after another leaves traces of its own.
    pub prefix: String,
}

impl RedisLoad {
    /// SETs of 64-byte values, one at a time on each of the kept connections.
    pub fn new(server: SocketAddr, connections: usize, requests: usize) -> Self {
        Self {
            server,
            connections,
            requests,
            pipeline: 1,
            value_bytes: 64,
            verb: Verb::Set,
            reuse: Connections::Kept,
            pause: Duration::ZERO,
            greeting: Vec::new(),
            prefix: "load".into(),
        }
    }

    /// Requests that [`RedisLoad::run`] sends.
    pub fn total(&self) -> u64 {
        (self.requests / self.connections * self.connections) as u64
    }

    /// Writes the key that [`Verb::Get`] reads, over a connection that is not part of the load.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub fn prepare(&self, server: &crate::redis::RedisServer<'_>) -> Result<()> {
        let value = String::from_utf8(value_of(0, 0, self.value_bytes)).context("values are text")?;
        server.call(&["SET", &format!("{}:get", self.prefix), &value]).map(drop)
    }

    /// Runs the load from `host` to its end.
    ///
    /// # Errors
    /// When a connection fails or redis answers with something else than success.
    pub fn run(&self, host: &RunningHost) -> Result<()> {
        let load = self.clone();
        host.run(move || load.run_here())
    }

    /// As [`RedisLoad::run`], in the network namespace of the calling thread.
    ///
    /// # Errors
    /// As [`RedisLoad::run`].
    pub fn run_here(&self) -> Result<()> {
        let threads = self.connections.clamp(1, 4);
        each_in_its_thread(threads, |thread| {
            let ids: Vec<usize> = (thread..self.connections).step_by(threads).collect();
            self.run_connections(&ids)
        })
    }

    /// Opens the load's connections from `host`, without a word on them.
    ///
    /// # Errors
    /// When a connection fails.
    pub fn connect(&self, host: &RunningHost) -> Result<OpenConnections> {
        let (server, ids) = (self.server, (0..self.connections).collect::<Vec<_>>());
        host.run(move || connect_all(server, &ids)).map(OpenConnections)
    }

    /// As [`RedisLoad::run`], on connections that are open already, and stay so.
    ///
    /// # Errors
    /// As [`RedisLoad::run`].
    pub fn run_on(&self, open: &mut OpenConnections) -> Result<()> {
        self.greet(&mut open.0)?;
        let each = self.requests / self.connections;
        (0..each).step_by(self.pipeline).try_for_each(|start| self.run_round(&mut open.0, start, each))
    }

    /// Serves some of the connections, in rounds: each sends its next pipeline, then each reads its replies.
    fn run_connections(&self, ids: &[usize]) -> Result<()> {
        let each = self.requests / self.connections;
        let connect = || {
            let mut clients = connect_all(self.server, ids)?;
            self.greet(&mut clients).map(|()| clients)
        };
        let mut clients = connect()?;
        for start in (0..each).step_by(self.pipeline) {
            if self.reuse == Connections::PerRequest && start > 0 {
                clients = connect()?;
            }
            self.run_round(&mut clients, start, each)?;
        }
        Ok(())
    }

    fn run_round(&self, clients: &mut [(usize, RedisClient)], start: usize, end: usize) -> Result<()> {
        if start > 0 && !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
        let requests = start..end.min(start + self.pipeline);
        let mut batch = Vec::new();
        for (id, client) in clients.iter_mut() {
            batch.clear();
            requests.clone().for_each(|request| self.write_request(&mut batch, *id, request));
            client.send(&batch)?;
        }
        for (_, client) in clients {
            for _ in requests.clone() {
                self.check_reply(client.reply()?)?;
            }
        }
        Ok(())
    }

    fn greet(&self, clients: &mut [(usize, RedisClient)]) -> Result<()> {
        for command in &self.greeting {
            let words: Vec<&str> = command.split_whitespace().collect();
            clients.iter_mut().try_for_each(|(_, client)| client.call(&words).map(drop))?;
        }
        Ok(())
    }

    fn write_request(&self, out: &mut Vec<u8>, connection: usize, request: usize) {
        let verb = match self.verb {
            Verb::Mixed => [Verb::Set, Verb::Append, Verb::Incr][request % 3],
            verb => verb,
        };
        let prefix = &self.prefix;
        // Connections of one request each may reach two servers in different orders: a key then belongs to one request.
        let owner = match self.reuse {
            Connections::Kept => format!("{prefix}:{connection}"),
            Connections::PerRequest => format!("{prefix}:{connection}.{request}"),
        };
        let value = || value_of(connection, request, self.value_bytes);
        match verb {
            Verb::Append => write_command(out, &[b"APPEND", format!("{owner}:log").as_bytes(), &value()]),
            Verb::Incr => write_command(out, &[b"INCR", format!("{owner}:count").as_bytes()]),
            Verb::Get => write_command(out, &[b"GET", format!("{prefix}:get").as_bytes()]),
            Verb::Set | Verb::Mixed => {
                write_command(out, &[b"SET", format!("{owner}:{}", request % 32).as_bytes(), &value()]);
            }
        }
    }

    fn check_reply(&self, reply: Value) -> Result<()> {
        if self.verb == Verb::Get {
            let Value::Bulk(Some(value)) = &reply else { anyhow::bail!("GET found nothing: {reply:?}") };
            ensure!(value.len() == self.value_bytes, "GET gave {} bytes", value.len());
        }
        Ok(())
    }
}

/// Connections that stay open from one load to the next.
pub struct OpenConnections(Vec<(usize, RedisClient)>);

fn connect_all(server: SocketAddr, ids: &[usize]) -> Result<Vec<(usize, RedisClient)>> {
    ids.iter().map(|id| Ok((*id, RedisClient::connect(server)?))).collect()
}

/// Text of a length that says which request wrote it.
fn value_of(connection: usize, request: usize, length: usize) -> Vec<u8> {
    let mut value = format!("[{connection}.{request}]").into_bytes();
    // A cheap sequence that does not repeat with any segment size, so that swapped parts show.
    let mut state = (connection as u64) << 32 | request as u64 | 1 << 63;
    while value.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        value.extend_from_slice(format!("{:016x}", state).as_bytes());
    }
    value.truncate(length);
    value
}

/// Runs `work` for the numbers below `count`, each in a thread of its own, and waits for all.
///
/// # Errors
/// The first error of any.
pub(crate) fn each_in_its_thread(count: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || work(number))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_length_and_tell_requests_apart() {
        assert_eq!(value_of(1, 2, 5), b"[1.2]");
        assert_eq!(value_of(1, 2, 4096).len(), 4096);
        assert_ne!(value_of(1, 2, 4096)[8..], value_of(1, 3, 4096)[8..]);
    }

    #[test]
    fn only_whole_rounds_are_sent() {
        let load = RedisLoad::new(SocketAddr::from(([127, 0, 0, 1], 1)), 30, 100);
        assert_eq!(load.total(), 90);
    }
}
