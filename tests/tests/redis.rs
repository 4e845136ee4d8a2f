//! Redis traffic: every workload arrives at the target complete, once, in order within each connection; with no plugin, and
//! through the Redis plugin.

use anyhow::{Result, ensure};
use std::process::Command;
use std::time::Duration;
use tcpcopy_lab::load::{Connections, RedisLoad, Verb};
use tcpcopy_lab::plugin::{Module, Through, are_built};
use tcpcopy_lab::scenario::{REDIS, RedisPair, replay_redis};
use tcpcopy_lab::{Family, Host, Lab, LabOptions, ReplayOptions, lab_test, tools, workload_tests};

/// Load whose content the servers are compared by.
fn mixed(connections: usize, requests: usize) -> RedisLoad {
    let server = Host::Online.socket(Family::V4, REDIS);
    RedisLoad { verb: Verb::Mixed, ..RedisLoad::new(server, connections, requests) }
}

fn set(connections: usize, requests: usize, value_bytes: usize) -> RedisLoad {
    RedisLoad { verb: Verb::Set, value_bytes, ..mixed(connections, requests) }
}

/// Options of a replay through the plugin, if one is asked for; `None` where plugins are not built.
fn options(through: Through) -> Option<ReplayOptions> {
    let ready = through == Through::Nothing || are_built(&["redis"]);
    ready.then(|| ReplayOptions::new(REDIS).through(through, Module::redis))
}

/// Replays loads one after another, with default options but for `words`.
fn deliver(through: Through, words: &'static str, copies: u64, family: Family, loads: Vec<RedisLoad>) {
    let Some(options) = options(through) else { return };
    lab_test(LabOptions::default(), |lab| {
        let options = options.over(family).tcpcopy(words);
        replay_redis(lab, &options, copies, |servers| {
            for load in &loads {
                let load = RedisLoad { server: Host::Online.socket(family, REDIS), ..load.clone() };
                load.run(lab.host(Host::Client))?;
            }
            let sent: u64 = loads.iter().map(RedisLoad::total).sum();
            let got: u64 = ["set", "append", "incr"]
                .iter()
                .map(|verb| servers.online.calls(verb))
                .sum::<Result<u64>>()?;
            ensure!(got == sent, "the online server itself got {got} of {sent} requests");
            Ok(())
        })
        .map(drop)
    });
}

/// Replays a run of `redis-benchmark -t set`, whose values are all the same.
fn deliver_benchmark(through: Through, words: &'static str) {
    let Some(options) = options(through) else { return };
    lab_test(LabOptions::default(), |lab| {
        replay_redis(lab, &options, 1, |_| benchmark(lab, words)).map(drop)
    });
}

fn benchmark(lab: &Lab, words: &str) -> Result<()> {
    let mut command = Command::new(tools::REDIS_BENCHMARK.require()?);
    command.args(["-h", &Host::Online.addr(Family::V4).to_string(), "-p", &REDIS.to_string()]);
    command.args(["-q", "-t", "set", "-r", "1000000"]).args(words.split_whitespace());
    lab.host(Host::Client).output(command).map(drop)
}

fn fifty_connections(through: Through) {
    deliver(through, "", 1, Family::V4, vec![mixed(50, 100_000)]);
}

fn pipelines_of_16(through: Through) {
    deliver(through, "", 1, Family::V4, vec![RedisLoad { pipeline: 16, ..mixed(50, 400_000) }]);
}

fn thousand_connections(through: Through) {
    deliver(through, "", 1, Family::V4, vec![mixed(1000, 100_000)]);
}

fn a_connection_for_each_request(through: Through) {
    deliver(
        through,
        "",
        1,
        Family::V4,
        vec![RedisLoad { reuse: Connections::PerRequest, ..mixed(20, 20_000) }],
    );
}

fn one_connection_right_after_another_run(through: Through) {
    let first = mixed(50, 20_000);
    let second = RedisLoad { prefix: "second".into(), ..mixed(1, 10_000) };
    deliver(through, "", 1, Family::V4, vec![first, second]);
}

fn values_of_16_kib(through: Through) {
    deliver(through, "", 1, Family::V4, vec![set(20, 10_000, 16 << 10)]);
}

fn values_of_64_kib_then_1_mib(through: Through) {
    let large = RedisLoad { prefix: "large".into(), ..set(2, 200, 1 << 20) };
    deliver(through, "", 1, Family::V4, vec![set(10, 4_000, 64 << 10), large]);
}

fn three_copies_of_fifty_connections(through: Through) {
    deliver(through, "-n 3", 3, Family::V4, vec![set(50, 100_000, 64)]);
}

fn three_copies_of_pipelines_of_16(through: Through) {
    deliver(through, "-n 3", 3, Family::V4, vec![RedisLoad { pipeline: 16, ..set(50, 400_000, 64) }]);
}

fn fifty_connections_over_ipv6(through: Through) {
    deliver(through, "", 1, Family::V6, vec![mixed(50, 100_000)]);
}

fn pipelines_of_16_over_ipv6(through: Through) {
    deliver(through, "", 1, Family::V6, vec![RedisLoad { pipeline: 16, ..mixed(50, 400_000) }]);
}

fn clients_mapped_to_another_net(through: Through) {
    deliver(through, "-c 10.78.0.0/24", 1, Family::V4, vec![mixed(50, 100_000)]);
}

fn clients_mapped_to_another_net_over_ipv6(through: Through) {
    deliver(through, "-c fd78::/64", 1, Family::V6, vec![mixed(50, 20_000)]);
}

fn two_workers(through: Through) {
    deliver(through, "--workers 2", 1, Family::V4, vec![mixed(50, 100_000)]);
}

#[test]
fn capture_through_libpcap() {
    deliver(Through::Nothing, "--pcap-capture -i eth0", 1, Family::V4, vec![mixed(50, 50_000)]);
}

#[test]
fn frames_sent_through_the_interface() {
    deliver(Through::Nothing, "--pcap-send -o eth0", 1, Family::V4, vec![mixed(50, 50_000)]);
}

fn benchmark_fifty_connections(through: Through) {
    deliver_benchmark(through, "-n 100000 -c 50");
}

fn benchmark_pipelines_of_16(through: Through) {
    deliver_benchmark(through, "-n 400000 -c 50 -P 16");
}

fn benchmark_thousand_connections(through: Through) {
    deliver_benchmark(through, "-n 100000 -c 1000");
}

fn benchmark_a_connection_for_each_request(through: Through) {
    deliver_benchmark(through, "-n 20000 -c 20 -k 0");
}

fn benchmark_one_connection_right_after_another_run(through: Through) {
    let Some(options) = options(through) else { return };
    lab_test(LabOptions::default(), |lab| {
        replay_redis(lab, &options, 1, |_| {
            benchmark(lab, "-n 20000 -c 50")?;
            benchmark(lab, "-n 10000 -c 1")
        })
        .map(drop)
    });
}

fn benchmark_values_of_16_kib(through: Through) {
    deliver_benchmark(through, "-n 10000 -c 20 -d 16384");
}

/// Answers of `value_bytes` each: the target's replies, not the requests, are what is large.
fn deliver_gets(through: Through, value_bytes: usize, connections: usize, requests: usize) {
    let Some(options) = options(through) else { return };
    lab_test(LabOptions::default(), |lab| {
        let load = RedisLoad { verb: Verb::Get, value_bytes, ..mixed(connections, requests) };
        let prepare = |servers: &RedisPair<'_>| {
            load.prepare(&servers.online)?;
            load.prepare(&servers.target)
        };
        let finished = replay_redis(lab, &options, 1, |servers| {
            prepare(servers)?;
            load.run(lab.host(Host::Client))?;
            ensure!(servers.online.calls("get")? == load.total());
            Ok(())
        })?;
        let (received, expected) =
            (finished.report().counter("response_bytes")?, load.total() * value_bytes as u64);
        ensure!(
            received >= expected,
            "{received} response bytes of {expected}: answers were not read to the end"
        );
        Ok(())
    });
}

fn answers_of_64_kib(through: Through) {
    deliver_gets(through, 64 << 10, 10, 4_000);
}

fn answers_of_1_mib(through: Through) {
    deliver_gets(through, 1 << 20, 2, 400);
}

/// The replay must add next to nothing to the time between capture and injection while nothing has to be waited for. All four
/// hosts share this machine, and whatever else runs on it: one of three runs has to show it.
#[test]
fn delay_under_moderate_load() {
    lab_test(LabOptions::default(), |lab| {
        let mut seen = Vec::new();
        for _ in 0..3 {
            let finished = replay_redis(lab, &ReplayOptions::new(REDIS), 1, |_| {
                // With a pause the target has answered before the next request comes, which then has nothing to wait for.
                RedisLoad { pause: Duration::from_millis(1), ..mixed(4, 8_000) }.run(lab.host(Host::Client))
            })?;
            let delay = finished.report().json()["delay"].clone();
            let of = |name: &str| delay[name].as_f64().ok_or_else(|| anyhow::anyhow!("no {name} in {delay}"));
            ensure!(
                delay["count"].as_u64() > Some(4_000),
                "too few requests had nothing to wait for: {delay}"
            );
            if of("p50_us")? < 100.0 && of("p99_us")? < 1000.0 {
                return Ok(());
            }
            seen.push(delay);
        }
        anyhow::bail!("capture to injection: {seen:?}")
    });
}

workload_tests!([
    fifty_connections,
    pipelines_of_16,
    thousand_connections,
    a_connection_for_each_request,
    one_connection_right_after_another_run,
    values_of_16_kib,
    values_of_64_kib_then_1_mib,
    three_copies_of_fifty_connections,
    three_copies_of_pipelines_of_16,
    fifty_connections_over_ipv6,
    pipelines_of_16_over_ipv6,
    clients_mapped_to_another_net,
    clients_mapped_to_another_net_over_ipv6,
    two_workers,
    benchmark_fifty_connections,
    benchmark_pipelines_of_16,
    benchmark_thousand_connections,
    benchmark_a_connection_for_each_request,
    benchmark_one_connection_right_after_another_run,
    benchmark_values_of_16_kib,
    answers_of_64_kib,
    answers_of_1_mib,
]);
