//! Recordings replayed offline: every workload that is replayed live arrives from a recording too, at every speed; and what the
//! options ask for, and no more, is left out.

mod choices;
mod ends;
mod files;
mod workloads;

use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;
use tcpcopy_lab::http::{HttpLoad, HttpRequest};
use tcpcopy_lab::load::{Connections, RedisLoad, Verb};
use tcpcopy_lab::replay::Finished;
use tcpcopy_lab::scenario::{HTTP, REDIS, RedisPair, with_report};
use tcpcopy_lab::{Family, Host, Lab, Offline, ReplayOptions};

const SOON: Duration = Duration::from_secs(20);

/// The speeds at which each workload is replayed: as fast as the target answers, ten times as fast as it was, as it was.
const SPEEDS: [&str; 3] = ["--asap", "-a 10", ""];

/// Load whose content the servers are compared by.
fn mixed(connections: usize, requests: usize) -> RedisLoad {
    let server = Host::Online.socket(Family::V4, REDIS);
    RedisLoad { verb: Verb::Mixed, ..RedisLoad::new(server, connections, requests) }
}

fn set(connections: usize, requests: usize, value_bytes: usize) -> RedisLoad {
    RedisLoad { verb: Verb::Set, value_bytes, ..mixed(connections, requests) }
}

fn redis_options() -> ReplayOptions {
    ReplayOptions::new(REDIS)
}

fn run_all(lab: &Lab, loads: &[RedisLoad]) -> Result<()> {
    loads.iter().try_for_each(|load| load.run(lab.host(Host::Client)))
}

/// Replays `files` and checks that the target got `copies` times what online got, and that the report says so.
fn replay_equal(
    lab: &Lab,
    servers: &RedisPair<'_>,
    options: &ReplayOptions,
    files: &[impl AsRef<Path>],
    words: &str,
    copies: u64,
) -> Result<Finished> {
    let check = || -> Result<Finished> {
        let finished = Offline::run(lab, options, files, words)?;
        with_report(servers.check_equal(copies), &finished)?;
        with_report(finished.report().check_delivered(), &finished)?;
        Ok(finished)
    };
    check().with_context(|| format!("replayed with {words:?}"))
}

fn gets(path: &'static str, connections: usize, requests: usize) -> HttpLoad {
    HttpLoad {
        server: Host::Online.socket(Family::V4, HTTP),
        connections,
        requests,
        reuse: Connections::Kept,
        request: HttpRequest::Get { path },
    }
}
