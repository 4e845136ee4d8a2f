//! Options that choose a part of a recording, and the time that it takes.

use super::*;
use anyhow::{Context, Result, ensure};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tcpcopy_lab::load::{Connections, RedisLoad};
use tcpcopy_lab::recording::record;
use tcpcopy_lab::redis::{RedisServer, Value};
use tcpcopy_lab::scenario::{HTTP, REDIS, RedisPair, with_report};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, Offline, lab_test};

/// A load, a rest with the traffic of others, and another load with keys of its own.
struct TwoLoads {
    first: RedisLoad,
    second: RedisLoad,
    file: PathBuf,
    /// From the first packet to a moment within the rest.
    middle: Duration,
    /// That moment.
    middle_at: SystemTime,
}

fn two_loads<'lab>(lab: &'lab Lab, rest: Duration) -> Result<(RedisPair<'lab>, TwoLoads)> {
    let servers = RedisPair::start(lab)?;
    let first = RedisLoad { prefix: "first".into(), ..mixed(10, 2_000) };
    let second = RedisLoad { prefix: "second".into(), ..mixed(10, 1_000) };
    let mut middle = (Duration::ZERO, UNIX_EPOCH);
    let (file, _) = record(lab, &[REDIS, HTTP], || {
        let began = Instant::now();
        first.run(lab.host(Host::Client))?;
        other_traffic(lab, rest / 2);
        middle = (began.elapsed(), SystemTime::now());
        other_traffic(lab, rest / 2);
        second.run(lab.host(Host::Client))
    })?;
    Ok((servers, TwoLoads { first, second, file, middle: middle.0, middle_at: middle.1 }))
}

/// What a recording has besides: every little while a client of another service, which is not there.
fn other_traffic(lab: &Lab, lasting: Duration) {
    let server = Host::Online.socket(Family::V4, HTTP);
    let ends = Instant::now() + lasting;
    while Instant::now() < ends {
        // It is refused.
        let _ = lab.host(Host::Client).run(move || TcpStream::connect_timeout(&server, lasting));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Fails unless the target got all of one load and nothing of another.
fn check_only(target: &RedisServer<'_>, wanted: &RedisLoad, other: &RedisLoad) -> Result<()> {
    let calls = || -> Result<u64> { ["set", "append", "incr"].iter().map(|verb| target.calls(verb)).sum() };
    let _ = wait_until("the target to execute what it got", Duration::from_secs(5), || {
        Ok(calls()? >= wanted.total())
    });
    let found = calls()?;
    ensure!(found == wanted.total(), "the target got {found} of {} requests", wanted.total());
    let keys = target.call(&["KEYS", &format!("{}:*", other.prefix)])?;
    ensure!(keys == Value::List(Vec::new()), "the target got what lies outside: {keys:?}");
    Ok(())
}

/// RFC 3339 in UTC, with nanoseconds.
fn rfc_3339(at: SystemTime) -> Result<String> {
    let since = at.duration_since(UNIX_EPOCH)?;
    let seconds = format!("@{}.{:09}", since.as_secs(), since.subsec_nanos());
    let output = Command::new("date").args(["-u", "-d", &seconds, "+%Y-%m-%dT%H:%M:%S.%NZ"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[test]
fn a_window_of_time_and_no_more() {
    lab_test(LabOptions::default(), |lab| {
        let (servers, loads) = two_loads(lab, Duration::from_millis(600))?;
        let (first, second) = (&loads.first, &loads.second);
        let middle = format!("{}ms", loads.middle.as_millis());
        let middle_at = rfc_3339(loads.middle_at)?;
        let (before, after) = (
            rfc_3339(loads.middle_at - Duration::from_secs(100))?,
            rfc_3339(loads.middle_at + Duration::from_secs(100))?,
        );
        for (window, wanted, other) in [
            (format!("0s..{middle}"), first, second),
            (format!("{middle}..1h"), second, first),
            (format!("{before}..{middle_at}"), first, second),
            (format!("{middle_at}..{after}"), second, first),
        ] {
            servers.target.reset()?;
            let words = format!("--asap --at {window}");
            let finished =
                Offline::run(lab, &redis_options(), &[&loads.file], &words).with_context(|| words.clone())?;
            let only = check_only(&servers.target, wanted, other);
            with_report(only.with_context(|| words.clone()), &finished)?;
            with_report(finished.report().check_delivered(), &finished)?;
        }
        Ok(())
    });
}

#[test]
fn the_first_of_it_and_no_more() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        // One connection after another.
        let load = RedisLoad { reuse: Connections::PerRequest, pipeline: 5, ..set(1, 500, 64) };
        let (file, _) = record(lab, &[REDIS], || load.run(lab.host(Host::Client)))?;
        for (limit, expected) in [("7conn", 35..=35), ("23req", 1..=23 * 5), ("100pkt", 10..=100)] {
            servers.target.reset()?;
            let words = format!("--asap --limit {limit}");
            let finished = Offline::run(lab, &redis_options(), &[&file], &words)?;
            let sets = servers.target.calls("set")?;
            let check = || {
                ensure!(expected.contains(&sets), "{sets} requests with {words}");
                if limit.ends_with("req") {
                    let captured = finished.report().counter("requests_captured")?;
                    ensure!(captured == 23, "{captured} requests with {words}");
                }
                Ok(())
            };
            with_report(check(), &finished)?;
        }
        Ok(())
    });
}

/// Times at which the target got what came over the network, in seconds.
fn times(lines: &[String]) -> Result<Vec<f64>> {
    let time = |line: &String| Ok(line.split(' ').next().unwrap_or_default().parse::<f64>()?);
    lines.iter().map(time).collect()
}

/// The most events within a second.
fn most_in_a_second(times: &[f64]) -> usize {
    let until = |from: f64| times.iter().filter(|at| (from..from + 1.0).contains(*at)).count();
    times.iter().map(|from| until(*from)).max().unwrap_or(0)
}

#[test]
fn not_faster_than_asked() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let load = RedisLoad { reuse: Connections::PerRequest, ..set(5, 900, 64) };
        let (file, _) = record(lab, &[REDIS], || load.run(lab.host(Host::Client)))?;
        for rate in ["300conn", "300req"] {
            servers.target.reset()?;
            let monitor = servers.target.monitor()?;
            let words = format!("--rate {rate}");
            let finished = replay_equal(lab, &servers, &redis_options(), &[&file], &words, 1)?;
            let lines = monitor.wait_for(900, SOON)?;
            let times = times(&lines)?;
            let (most, took) = (most_in_a_second(&times), times[times.len() - 1] - times[0]);
            // Scheduling moves a few from one second into the next.
            let check = || {
                ensure!(most <= 330, "{most} in one second with {words}");
                ensure!((2.5..4.5).contains(&took), "900 took {took} s with {words}");
                Ok(())
            };
            with_report(check(), &finished)?;
        }
        Ok(())
    });
}

/// Whatever else the recording has of the time between.
#[test]
fn idle_gaps_are_capped() {
    lab_test(LabOptions::default(), |lab| {
        let (servers, loads) = two_loads(lab, Duration::from_secs(5))?;
        servers.target.reset()?;
        let monitor = servers.target.monitor()?;
        let finished = replay_equal(lab, &servers, &redis_options(), &[&loads.file], "-I 500", 1)?;
        let lines = monitor.wait_for(3_000, SOON)?;
        let of = |prefix: &str| -> Result<Vec<f64>> {
            let mark = format!("\"{prefix}:");
            times(&lines.iter().filter(|line| line.contains(&mark)).cloned().collect::<Vec<_>>())
        };
        let (first, second) = (of("first")?, of("second")?);
        let last = first.iter().copied().fold(0.0, f64::max);
        let gap = second.iter().copied().fold(f64::MAX, f64::min) - last;
        let check = || {
            ensure!((0.3..1.5).contains(&gap), "the gap of 5 s became {gap} s, not 0.5");
            Ok(())
        };
        with_report(check(), &finished)
    });
}

/// Distances between requests that came with so much time between them when they were recorded, on both servers.
#[test]
fn the_distances_are_the_original_ones() {
    const PAUSE: f64 = 0.1;
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let load = RedisLoad { pause: Duration::from_secs_f64(PAUSE), ..set(1, 15, 64) };
        let (file, _) = record(lab, &[REDIS], || load.run(lab.host(Host::Client)))?;
        for (words, factor) in [("", 1.0), ("-a 10", 0.1), ("-a 0.5", 2.0), ("--asap", 0.0)] {
            servers.target.reset()?;
            let monitor = servers.target.monitor()?;
            let finished = replay_equal(lab, &servers, &redis_options(), &[&file], words, 1)?;
            let times = times(&monitor.wait_for(15, SOON)?)?;
            let check = || {
                for pair in times.windows(2) {
                    let (distance, wanted) = (pair[1] - pair[0], PAUSE * factor);
                    // A pause of 100 ms is a few longer, the more so on a busy machine.
                    let may_be = wanted * 0.9 - 0.01..wanted * 1.4 + 0.03;
                    ensure!(may_be.contains(&distance), "{distance} s instead of {wanted} with {words:?}");
                }
                Ok(())
            };
            with_report(check(), &finished)?;
        }
        Ok(())
    });
}
