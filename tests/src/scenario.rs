//! The frame of most end-to-end tests: the same servers on online and target, load on one, and both compared.

use crate::host::Host;
use crate::httpd::{HttpServer, Seen};
use crate::lab::Lab;
use crate::redis::RedisServer;
use crate::replay::{Finished, Replay, ReplayOptions};
use crate::wait::wait_until;
use anyhow::{Context, Result, anyhow, ensure};
use std::time::Duration;

/// Port of the redis servers.
pub const REDIS: u16 = 6379;
/// Port of the HTTP servers.
pub const HTTP: u16 = 8080;

/// A redis-server on online and one on target.
pub struct RedisPair<'lab> {
    /// The one that the clients talk to.
    pub online: RedisServer<'lab>,
    /// The one under test.
    pub target: RedisServer<'lab>,
}

impl<'lab> RedisPair<'lab> {
    /// Starts both.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn start(lab: &'lab Lab) -> Result<Self> {
        Ok(Self {
            online: RedisServer::start(lab.host(Host::Online), REDIS)?,
            target: RedisServer::start(lab.host(Host::Target), REDIS)?,
        })
    }

    /// How often the write commands and GET were called on a server.
    fn calls(server: &RedisServer<'_>) -> Result<[u64; 4]> {
        Ok([server.calls("set")?, server.calls("append")?, server.calls("incr")?, server.calls("get")?])
    }

    /// Fails unless the target executed exactly `copies` times the online server's commands, and both hold the same data.
    ///
    /// # Errors
    /// What differs.
    pub fn check_equal(&self, copies: u64) -> Result<()> {
        let expected = Self::calls(&self.online)?.map(|calls| calls * copies);
        // The kernel has acknowledged the last requests; redis may be about to execute them.
        let arrived = wait_until("the target to execute what it got", Duration::from_secs(5), || {
            Ok(Self::calls(&self.target)? >= expected)
        });
        let actual = Self::calls(&self.target)?;
        ensure!(
            actual == expected,
            "calls of [set, append, incr, get] on target: {actual:?}, expected {copies} × online = {expected:?}"
        );
        arrived?;
        let (online, target) = (self.online.digest()?, self.target.digest()?);
        ensure!(online == target, "same number of calls, but different data: {online} and {target}");
        Ok(())
    }
}

/// Replays `load` between two redis servers and checks that the target got exactly `copies` times what online got.
///
/// # Errors
/// What went wrong or differs.
pub fn replay_redis(
    lab: &Lab,
    options: &ReplayOptions,
    copies: u64,
    load: impl FnOnce(&RedisPair<'_>) -> Result<()>,
) -> Result<Finished> {
    let servers = RedisPair::start(lab)?;
    let replay = Replay::start(lab, options)?;
    load(&servers).context("the load on online")?;
    let finished = replay.finish()?;
    // The servers' word first: it says more about a failure than the counters do.
    with_report(servers.check_equal(copies), &finished)?;
    with_report(finished.report().check_delivered(), &finished)?;
    Ok(finished)
}

/// An HTTP server of ours on online and one on target.
pub struct HttpPair<'lab> {
    /// The one that the clients talk to.
    pub online: HttpServer<'lab>,
    /// The one under test.
    pub target: HttpServer<'lab>,
}

/// What reached two HTTP servers.
#[derive(Debug)]
pub struct Requests {
    /// The one that the clients talked to.
    pub online: Vec<Seen>,
    /// The one under test.
    pub target: Vec<Seen>,
    /// The replay between them.
    pub finished: Finished,
}

impl Requests {
    /// Fails unless the target got the same requests, bodies included, and came to the same answers.
    ///
    /// # Errors
    /// What differs.
    pub fn check_same(&self) -> Result<()> {
        with_report(check_same(&self.online, &self.target), &self.finished)?;
        with_report(self.finished.report().check_delivered(), &self.finished)
    }
}

impl<'lab> HttpPair<'lab> {
    /// Starts both.
    ///
    /// # Errors
    /// As [`HttpServer::start`].
    pub fn start(lab: &'lab Lab) -> Result<Self> {
        Ok(Self {
            online: HttpServer::start(lab.host(Host::Online), HTTP)?,
            target: HttpServer::start(lab.host(Host::Target), HTTP)?,
        })
    }

    /// Replays `load` between them. What the target got is not compared.
    ///
    /// # Errors
    /// What went wrong.
    pub fn replay(
        &self,
        lab: &Lab,
        options: &ReplayOptions,
        load: impl FnOnce() -> Result<()>,
    ) -> Result<Requests> {
        let replay = Replay::start(lab, options)?;
        load().context("the load on online")?;
        let finished = replay.finish()?;
        let online = self.online.requests();
        // A timeout shows as a difference where they are compared.
        let _ = wait_until("the target to note what it got", Duration::from_secs(5), || {
            Ok(self.target.requests().len() >= online.len())
        });
        Ok(Requests { online, target: self.target.requests(), finished })
    }
}

/// Replays `load` between two HTTP servers of ours and checks that the target got the same requests, bodies included.
///
/// # Errors
/// What went wrong or differs.
pub fn replay_http(
    lab: &Lab,
    options: &ReplayOptions,
    load: impl FnOnce() -> Result<()>,
) -> Result<Vec<Seen>> {
    let requests = HttpPair::start(lab)?.replay(lab, options, load)?;
    requests.check_same()?;
    Ok(requests.online)
}

/// Adds the closing report to an error, after what went wrong.
///
/// # Errors
/// Those of `result`.
pub fn with_report<T>(result: Result<T>, finished: &Finished) -> Result<T> {
    result.map_err(|error| anyhow!("{error:#}\nwhat tcpcopy wrote:\n{}", finished.tcpcopy.output))
}

/// Fails unless both hold the same things equally often, in any order.
///
/// # Errors
/// How many are missing or too many, with examples.
pub fn check_same<T: Ord + std::fmt::Debug>(online: &[T], target: &[T]) -> Result<()> {
    let (missing, surplus) = difference(online, target);
    ensure!(
        missing.is_empty() && surplus.is_empty(),
        "online got {}, target {}: {} missing (such as {:?}), {} too many (such as {:?})",
        online.len(),
        target.len(),
        missing.len(),
        missing.first(),
        surplus.len(),
        surplus.first()
    );
    Ok(())
}

/// What is in `online` but not in `target`, and the other way round, each as often as it is.
pub fn difference<'a, T: Ord>(online: &'a [T], target: &'a [T]) -> (Vec<&'a T>, Vec<&'a T>) {
    let sorted = |items: &'a [T]| {
        let mut items: Vec<&T> = items.iter().collect();
        items.sort_unstable();
        items
    };
    let (online, target) = (sorted(online), sorted(target));
    let (mut missing, mut surplus) = (Vec::new(), Vec::new());
    let (mut left, mut right) = (online.iter().peekable(), target.iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (Some(a), Some(b)) if a == b => {
                left.next();
                right.next();
            }
            (Some(a), Some(b)) if a < b => missing.extend(left.next().copied()),
            (Some(_), None) => missing.extend(left.next().copied()),
            (_, Some(_)) => surplus.extend(right.next().copied()),
            (None, None) => return (missing, surplus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_counts_repetitions() {
        let (missing, surplus) = difference(&[1, 2, 2, 3], &[3, 2, 4, 4]);
        assert_eq!(missing, [&1, &2]);
        assert_eq!(surplus, [&4, &4]);
        assert!(check_same(&[2, 1], &[1, 2]).is_ok());
        assert!(check_same(&[1], &[1, 1]).is_err());
    }
}
