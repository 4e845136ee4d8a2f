//! Recordings replayed offline: every workload that is replayed live arrives from a recording too, at every speed; and what the
//! options ask for, and no more, is left out.

use anyhow::{Context, Result, ensure};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tcpcopy_lab::http::{HttpLoad, HttpRequest, ab};
use tcpcopy_lab::load::{Connections, RedisLoad, Verb};
use tcpcopy_lab::nginx::Nginx;
use tcpcopy_lab::offline::{COMPLETE, INCOMPLETE, check_code};
use tcpcopy_lab::recording::{Recorder, has_tcpdump, record};
use tcpcopy_lab::redis::{RedisServer, Value};
use tcpcopy_lab::replay::Finished;
use tcpcopy_lab::scenario::{HTTP, HttpPair, REDIS, RedisPair, check_same, with_report};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, Offline, Recording, ReplayOptions, lab_test, tools};

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

fn gets(path: &'static str, connections: usize, requests: usize) -> HttpLoad {
    HttpLoad {
        server: Host::Online.socket(Family::V4, HTTP),
        connections,
        requests,
        reuse: Connections::Kept,
        request: HttpRequest::Get { path },
    }
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

/// Reads the latest report until the target has got what online got.
fn wait_equal(servers: &RedisPair<'_>) -> Result<()> {
    let sets = servers.online.calls("set")?;
    wait_until("the target to get everything", SOON, || Ok(servers.target.calls("set")? >= sets))
}

#[test]
fn a_file_that_grows_is_followed() {
    if !has_tcpdump() {
        return;
    }
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        // Each packet is in the file as soon as tcpdump has it.
        let recording = Recording::start_as(lab, Recorder::Tcpdump, &[REDIS], "growing.pcap", "-U")?;
        let file = recording.file().context("a recording into a file")?.to_owned();
        mixed(20, 4_000).run(lab.host(Host::Client))?;
        let mut offline = Offline::start(lab, &redis_options(), &[file], "--follow")?;
        for round in ["second", "third"] {
            std::thread::sleep(Duration::from_millis(700));
            RedisLoad { prefix: round.into(), ..mixed(20, 4_000) }.run(lab.host(Host::Client))?;
        }
        recording.finish()?;
        let followed = wait_equal(&servers);
        offline.tcpcopy.process.check_running().context("it ended, though the file may grow")?;
        let finished = offline.interrupt()?;
        with_report(followed, &finished)?;
        with_report(servers.check_equal(1), &finished)?;
        with_report(finished.report().check_delivered(), &finished)?;
        // There is no other end.
        with_report(check_code(&finished.tcpcopy, COMPLETE), &finished)
    });
}

#[test]
fn a_pipe_is_replayed_to_its_end() {
    if !has_tcpdump() {
        return;
    }
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let (mut recording, pipe) = Recording::start_into_pipe(lab, &[REDIS])?;
        let offline = Offline::start_from_pipe(lab, &redis_options(), pipe, "")?;
        RedisLoad { pause: Duration::from_millis(10), ..mixed(20, 4_000) }.run(lab.host(Host::Client))?;
        recording.stop()?;
        let finished = offline.wait()?;
        with_report(servers.check_equal(1), &finished)?;
        with_report(finished.report().check_delivered(), &finished)?;
        with_report(check_code(&finished.tcpcopy, COMPLETE), &finished)
    });
}

/// Runs a compressor on a copy of `file` and returns the compressed one.
fn compressed(tool: tools::Tool, file: &Path, extension: &str) -> Result<PathBuf> {
    let output = Command::new(tool.require()?).args(["-q", "-k"]).arg(file).output()?;
    ensure!(output.status.success(), "{}: {}", tool.program, String::from_utf8_lossy(&output.stderr));
    Ok(PathBuf::from(format!("{}.{extension}", file.display())))
}

#[test]
fn compressed_recordings() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let (file, _) = record(lab, &[REDIS], || mixed(20, 10_000).run(lab.host(Host::Client)))?;
        for file in [compressed(tools::GZIP, &file, "gz")?, compressed(tools::ZSTD, &file, "zst")?] {
            servers.target.reset()?;
            replay_equal(lab, &servers, &redis_options(), &[file], "--asap", 1)?;
        }
        Ok(())
    });
}

/// The files whose names begin so, sorted.
fn files_called(folder: &Path, beginning: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Each file has the packets of one server; the times in them lie between each other.
#[test]
fn recordings_of_the_same_time_are_one() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let (online, target) =
            (Nginx::start(lab.host(Host::Online), HTTP)?, Nginx::start(lab.host(Host::Target), HTTP)?);
        let words = if Recorder::usual() == Recorder::Tcpdump { "" } else { "--both" };
        let start = |port: u16, name: &str| {
            Recording::start_as(lab, Recorder::usual(), &[port], &format!("{name}.pcap"), words)
        };
        let recordings = [start(HTTP, "http")?, start(REDIS, "redis")?];
        for round in 0..5 {
            RedisLoad { prefix: format!("round{round}"), ..mixed(10, 1_000) }.run(lab.host(Host::Client))?;
            gets(Nginx::SMALL, 10, 500).run(lab.host(Host::Client))?;
        }
        let mut files = Vec::new();
        for recording in recordings {
            files.push(recording.finish()?);
        }
        let options = redis_options().and_port(HTTP);
        for speed in SPEEDS {
            servers.target.reset()?;
            target.reset()?;
            let finished = replay_equal(lab, &servers, &options, &files, speed, 1)?;
            let logged = target.wait_for(2_500, SOON);
            with_report(logged.and_then(|logged| check_same(&online.requests()?, &logged)), &finished)?;
        }
        Ok(())
    });
}

/// What clients send is enough, in many compressed files.
#[test]
fn recorded_by_tcpcopy_itself() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let words = "--rotate-size 1";
        let mut recording =
            Recording::start_as(lab, Recorder::TcpcopyRecord, &[REDIS], "own.pcapng.zst", words)?;
        let short = RedisLoad { reuse: Connections::PerRequest, prefix: "short".into(), ..mixed(10, 1_000) };
        run_all(lab, &[mixed(30, 20_000), short])?;
        recording.stop()?;
        let files = files_called(lab.folder(), "own")?;
        ensure!(files.len() >= 3, "only {files:?}");
        for speed in SPEEDS {
            servers.target.reset()?;
            replay_equal(lab, &servers, &redis_options(), &files, speed, 1)?;
        }
        Ok(())
    });
}

#[test]
fn rotated_recordings_are_one() {
    if !has_tcpdump() {
        return;
    }
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        // A new file for each million bytes: connections go on from one to the next.
        let mut recording = Recording::start_as(lab, Recorder::Tcpdump, &[REDIS], "rotated.pcap", "-C 1")?;
        RedisLoad { pause: Duration::from_millis(2), ..mixed(20, 20_000) }.run(lab.host(Host::Client))?;
        recording.stop()?;
        // The newest first: the times in them say which comes first.
        let mut files = files_called(lab.folder(), "rotated.pcap")?;
        files.reverse();
        ensure!(files.len() >= 3, "only {} files", files.len());
        for speed in ["--asap", "-a 2"] {
            servers.target.reset()?;
            replay_equal(lab, &servers, &redis_options(), &files, speed, 1)?;
        }
        Ok(())
    });
}

#[test]
fn interrupted_it_ends_well_and_a_second_run_delivers_everything() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let load = RedisLoad { pause: Duration::from_millis(20), ..mixed(20, 2_000) };
        let (file, _) = record(lab, &[REDIS], || load.run(lab.host(Host::Client)))?;
        let offline = Offline::start(lab, &redis_options(), &[&file], "-a 0.5")?;
        wait_until("the target to get some", SOON, || Ok(servers.target.calls("set")? > 50))?;
        let finished = offline.interrupt()?;
        let check = || {
            check_code(&finished.tcpcopy, INCOMPLETE)?;
            let (online, target) = (servers.online.calls("set")?, servers.target.calls("set")?);
            ensure!(target < online, "it was not in the middle: {target} of {online}");
            finished.report().check_sums()
        };
        with_report(check(), &finished)?;
        servers.target.reset()?;
        replay_equal(lab, &servers, &redis_options(), &[file], "--asap", 1).map(drop)
    });
}

/// What is whole of a recording of requests that have a packet each: how many they are, and where the rest begins.
fn whole(recording: &[u8]) -> (usize, usize) {
    let field = |at: usize| Some(u32::from_le_bytes(*recording.get(at..)?.first_chunk()?) as usize);
    let (mut at, mut requests) = (24, 0);
    while let Some(length) = field(at + 8) {
        let Some(frame) = recording.get(at + 16..at + 16 + length) else { break };
        let tcp = 14 + usize::from(frame[14] & 15) * 4;
        let payload = tcp + usize::from(frame[tcp + 12] >> 4) * 4;
        let is_to_server = frame[tcp + 2..tcp + 4] == REDIS.to_be_bytes();
        requests += usize::from(
            is_to_server && payload < 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]])),
        );
        at += 16 + length;
    }
    (requests, at)
}

#[test]
fn of_a_truncated_file_what_is_whole_arrives() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let load = set(20, 4_000, 300);
        let (file, _) = record(lab, &[REDIS], || load.run(lab.host(Host::Client)))?;
        let mut bytes = std::fs::read(&file)?;
        let (recorded, _) = whole(&bytes);
        ensure!(recorded == 4_000, "{recorded} requests are recorded");
        bytes.truncate(bytes.len() * 6 / 10 - 7);
        let (expected, rest) = whole(&bytes);
        ensure!(rest < bytes.len(), "the cut is between two packets");
        let expected = expected as u64;
        std::fs::write(&file, &bytes)?;
        for (words, code) in [("--asap", INCOMPLETE), ("--asap --allow-loss 100", COMPLETE)] {
            servers.target.reset()?;
            let finished = Offline::run_to(lab, code, &redis_options(), &[&file], words)?;
            let check = || {
                wait_until("what is whole", Duration::from_secs(2), || {
                    Ok(servers.target.calls("set")? >= expected)
                })?;
                let sets = servers.target.calls("set")?;
                ensure!(sets == expected, "{sets} requests of {expected} that are whole");
                let said = &finished.tcpcopy.output;
                let place = format!("recorded.pcap: at byte {rest}");
                ensure!(said.contains(&place), "not said: {place}");
                Ok(())
            };
            with_report(check(), &finished)?;
        }
        Ok(())
    });
}

#[test]
fn a_target_that_refuses_is_the_end_of_it() {
    dead_target(|_| Ok(()));
}

#[test]
fn a_silent_target_is_given_up() {
    dead_target(|lab| {
        let mut command = Command::new(tools::NFT.require()?);
        command.arg(format!(
            "add table inet lab; add chain inet lab in {{ type filter hook input priority 0; }}; \
             add rule inet lab in tcp dport {REDIS} drop"
        ));
        lab.host(Host::Target).output(command).map(drop)
    });
}

fn dead_target(kill: impl FnOnce(&Lab) -> Result<()>) {
    lab_test(LabOptions::default(), |lab| {
        let _online = RedisServer::start(lab.host(Host::Online), REDIS)?;
        let load = mixed(20, 1_000);
        let (file, _) = record(lab, &[REDIS], || load.run(lab.host(Host::Client)))?;
        kill(lab)?;
        let began = Instant::now();
        let finished = Offline::run_to(lab, INCOMPLETE, &redis_options(), &[file], "--asap -t 5")?;
        let check = || {
            ensure!(began.elapsed() < Duration::from_secs(25), "it took {:?}", began.elapsed());
            let report = finished.report();
            ensure!(report.given_up()? > 0, "nothing was given up: {}", report.json());
            ensure!(report.counter("requests_acknowledged")? == 0, "{}", report.json());
            ensure!(report.counter("requests_waiting")? == 0, "{}", report.json());
            Ok(())
        };
        with_report(check(), &finished)
    });
}
