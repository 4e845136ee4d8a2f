//! Every workload that is replayed live arrives from a recording too, at every speed.

use super::*;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use tcpcopy_lab::http::{HttpLoad, HttpRequest, ab};
use tcpcopy_lab::load::{Connections, RedisLoad, Verb};
use tcpcopy_lab::nginx::Nginx;
use tcpcopy_lab::recording::record;
use tcpcopy_lab::scenario::{HTTP, HttpPair, REDIS, RedisPair, check_same, with_report};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, Offline, ReplayOptions, lab_test};

/// Records loads, one after another, and replays the recording at each speed.
fn redis(options: ReplayOptions, copies: u64, loads: Vec<RedisLoad>) {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let loads: Vec<RedisLoad> = loads
            .iter()
            .map(|load| RedisLoad { server: Host::Online.socket(options.family, REDIS), ..load.clone() })
            .collect();
        let (file, took) = record(lab, &[REDIS], || run_all(lab, &loads))?;
        let sent: u64 = loads.iter().map(RedisLoad::total).sum();
        let verbs = ["set", "append", "incr"];
        let got: u64 = verbs.iter().map(|verb| servers.online.calls(verb)).sum::<Result<u64>>()?;
        ensure!(got == sent, "the online server itself got {got} of {sent} requests");
        for speed in SPEEDS {
            servers.target.reset()?;
            let began = Instant::now();
            replay_equal(lab, &servers, &options, &[&file], speed, copies)?;
            println!("{took:?} replayed in {:?} with {speed:?}", began.elapsed());
            ensure!(!speed.is_empty() || began.elapsed() > took.mul_f32(0.9), "faster than it was");
        }
        Ok(())
    });
}

#[test]
fn fifty_connections() {
    redis(redis_options(), 1, vec![mixed(50, 150_000)]);
}

#[test]
fn pipelines_of_16() {
    redis(redis_options(), 1, vec![RedisLoad { pipeline: 16, ..mixed(50, 500_000) }]);
}

#[test]
fn thousand_connections() {
    redis(redis_options(), 1, vec![mixed(1000, 60_000)]);
}

#[test]
fn a_connection_for_each_request() {
    redis(redis_options(), 1, vec![RedisLoad { reuse: Connections::PerRequest, ..mixed(20, 8_000) }]);
}

#[test]
fn one_connection_right_after_another_run() {
    let second = RedisLoad { prefix: "second".into(), ..mixed(1, 5_000) };
    redis(redis_options(), 1, vec![mixed(50, 20_000), second]);
}

#[test]
fn values_of_16_kib() {
    redis(redis_options(), 1, vec![set(20, 8_000, 16 << 10)]);
}

#[test]
fn values_of_64_kib_then_1_mib() {
    let large = RedisLoad { prefix: "large".into(), ..set(2, 60, 1 << 20) };
    redis(redis_options(), 1, vec![set(10, 1_000, 64 << 10), large]);
}

#[test]
fn three_copies_of_fifty_connections() {
    redis(redis_options().tcpcopy("-n 3"), 3, vec![set(50, 30_000, 64)]);
}

#[test]
fn three_copies_of_pipelines_of_16() {
    redis(redis_options().tcpcopy("-n 3"), 3, vec![RedisLoad { pipeline: 16, ..set(50, 100_000, 64) }]);
}

#[test]
fn fifty_connections_over_ipv6() {
    redis(redis_options().over(Family::V6), 1, vec![mixed(50, 80_000)]);
}

#[test]
fn clients_mapped_to_another_net() {
    redis(redis_options().tcpcopy("-c 10.78.0.0/24"), 1, vec![mixed(50, 80_000)]);
}

#[test]
fn clients_mapped_to_another_net_over_ipv6() {
    redis(redis_options().over(Family::V6).tcpcopy("-c fd78::/64"), 1, vec![mixed(50, 10_000)]);
}

/// Answers of `value_bytes` each: the target's replies, not the requests, are what is large.
fn gets_of(value_bytes: usize, connections: usize, requests: usize) {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let load = RedisLoad { verb: Verb::Get, value_bytes, ..mixed(connections, requests) };
        load.prepare(&servers.online)?;
        let (file, _) = record(lab, &[REDIS], || load.run(lab.host(Host::Client)))?;
        ensure!(servers.online.calls("get")? == load.total());
        for speed in SPEEDS {
            servers.target.reset()?;
            load.prepare(&servers.target)?;
            let finished = replay_equal(lab, &servers, &redis_options(), &[&file], speed, 1)?;
            let (received, expected) =
                (finished.report().counter("response_bytes")?, load.total() * value_bytes as u64);
            ensure!(received >= expected, "{received} response bytes of {expected} with {speed:?}");
        }
        Ok(())
    });
}

#[test]
fn answers_of_64_kib() {
    gets_of(64 << 10, 10, 2_000);
}

#[test]
fn answers_of_1_mib() {
    gets_of(1 << 20, 2, 150);
}

fn http_options() -> ReplayOptions {
    ReplayOptions::new(HTTP)
}

fn url(path: &str) -> String {
    format!("http://{}{path}", Host::Online.socket(Family::V4, HTTP))
}

/// Records a load on nginx and replays it at each speed; the access logs are the same, the target's `times` over.
fn nginx(words: [&str; 3], times: usize, load: impl FnOnce(&Lab) -> Result<()>) {
    lab_test(LabOptions::default(), |lab| {
        let online = Nginx::start(lab.host(Host::Online), HTTP)?;
        let target = Nginx::start(lab.host(Host::Target), HTTP)?;
        let (file, _) = record(lab, &[HTTP], || load(lab))?;
        let logged = online.requests()?;
        let expected: Vec<String> = std::iter::repeat_n(logged, times).flatten().collect();
        ensure!(!expected.is_empty(), "the online server got nothing");
        for words in words {
            target.reset()?;
            let finished = Offline::run(lab, &http_options(), &[&file], words)
                .with_context(|| format!("replayed with {words:?}"))?;
            let _ = wait_until("the target's log", Duration::from_secs(5), || {
                Ok(target.requests()?.len() >= expected.len())
            });
            let same = check_same(&expected, &target.requests()?);
            with_report(same.with_context(|| format!("replayed with {words:?}")), &finished)?;
            with_report(finished.report().check_delivered(), &finished)?;
        }
        Ok(())
    });
}

#[test]
fn keep_alive_small() {
    nginx(SPEEDS, 1, |lab| gets(Nginx::SMALL, 50, 40_000).run(lab.host(Host::Client)));
}

#[test]
fn answers_of_100_kb() {
    nginx(SPEEDS, 1, |lab| gets(Nginx::LARGE, 20, 3_000).run(lab.host(Host::Client)));
}

#[test]
fn ab_short_connections() {
    nginx(SPEEDS, 1, |lab| ab(lab.host(Host::Client), &url(Nginx::SMALL), 20, 6_000));
}

/// Records posts to servers that keep checksums of bodies, and replays them at each speed.
fn posts(bytes: usize, connections: usize, requests: usize, reuse: Connections) {
    lab_test(LabOptions::default(), |lab| {
        let servers = HttpPair::start(lab)?;
        let load =
            HttpLoad { reuse, request: HttpRequest::Post { bytes }, ..gets("", connections, requests) };
        let (file, _) = record(lab, &[HTTP], || load.run(lab.host(Host::Client)))?;
        let expected = servers.online.requests();
        ensure!(expected.len() == load.total(), "online got {} of {}", expected.len(), load.total());
        for speed in SPEEDS {
            servers.target.reset();
            let finished = Offline::run(lab, &http_options(), &[&file], speed)
                .with_context(|| format!("replayed with {speed:?}"))?;
            let _ = wait_until("the target to note what it got", Duration::from_secs(5), || {
                Ok(servers.target.requests().len() >= expected.len())
            });
            let same = check_same(&expected, &servers.target.requests());
            with_report(same.with_context(|| format!("replayed with {speed:?}")), &finished)?;
            with_report(finished.report().check_delivered(), &finished)?;
        }
        Ok(())
    });
}

#[test]
fn posts_of_20_kb() {
    posts(20_000, 20, 6_000, Connections::Kept);
}

#[test]
fn posts_of_20_kb_on_short_connections() {
    posts(20_000, 20, 2_000, Connections::PerRequest);
}

#[test]
fn posts_of_1_mb() {
    posts(1_000_000, 5, 60, Connections::Kept);
}

#[test]
fn repeated_three_times_it_arrives_three_times() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let loads = [
            set(50, 15_000, 64),
            RedisLoad { reuse: Connections::PerRequest, prefix: "short".into(), ..set(10, 1_000, 64) },
        ];
        let (file, took) = record(lab, &[REDIS], || run_all(lab, &loads))?;
        for speed in ["-T 3 --asap", "-T 3 -a 10", "-T 3"] {
            servers.target.reset()?;
            let began = Instant::now();
            replay_equal(lab, &servers, &redis_options(), &[&file], speed, 3)?;
            let faster = !speed.contains('-') && began.elapsed() < took * 2;
            ensure!(!faster, "three times {took:?} in {:?}", began.elapsed());
        }
        Ok(())
    });
}

#[test]
fn repeated_three_times_each_request_is_logged_three_times() {
    nginx(["-T 3 --asap", "-T 3 -a 10", "-T 3 -a 2"], 3, |lab| {
        ab(lab.host(Host::Client), &url(Nginx::SMALL), 10, 1_000)?;
        gets(Nginx::SMALL, 20, 2_000).run(lab.host(Host::Client))
    });
}
