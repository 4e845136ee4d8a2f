//! `cargo xtask bench`: what a replayed request costs, and beside it what it costs to do no more than forward its packets.
//!
//! CPU time is counted from the moment the programs are ready until everything is delivered, so that opening a ring is not
//! divided among requests. What is aimed at stands beside what was measured.

mod offline;
mod plugins;

use crate::cargo;
use crate::setup::{self, Pcap, gain_privilege};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use tcpcopy_lab::host::RunningHost;
use tcpcopy_lab::http::{HttpLoad, HttpRequest};
use tcpcopy_lab::httpd::HttpServer;
use tcpcopy_lab::load::{Connections, RedisLoad};
use tcpcopy_lab::process::{Process, Usage};
use tcpcopy_lab::redis::RedisServer;
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, Replay, ReplayOptions, programs, tools};

const REDIS: u16 = 6379;
const HTTP: u16 = 8080;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only workloads whose name contains this
    filter: Option<String>,
    /// Runs of each workload; of each program the run with the least CPU time counts
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Measure what the protocol plugins add, instead of the whole beside its floor
    #[arg(long)]
    plugins: bool,
    /// Measure how fast capture files are read and played, with nothing sent
    #[arg(long, conflicts_with = "plugins")]
    offline: bool,
    /// File for the results, as JSON [default: bench/replay.json, or bench/plugins.json, in the target folder]
    #[arg(long)]
    json: Option<PathBuf>,
}

/// CPU time of TCPCopy 1.3 and its intercept in this lab, in microseconds for each SET over 50 connections.
const ORIGINAL: (f64, f64) = (17.8, 8.9);
/// What we may use of that.
const SHARE_OF_ORIGINAL: f64 = 0.4;
/// What we may use of the floor's CPU time.
const RATIO_TO_FLOOR: f64 = 2.0;
/// Peak memory that each program may use, in bytes.
const MEMORY: u64 = 64_000_000;

enum Load {
    Redis(RedisLoad),
    RedisBenchmark(RedisBenchmark),
    Http(HttpLoad),
}

/// A run of `redis-benchmark -t set`.
struct RedisBenchmark {
    connections: u32,
    requests: u64,
    /// More of its options.
    options: &'static str,
}

/// Which aims a workload has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aims {
    /// All: a request is one packet at most, as where the original was measured.
    Absolute,
    /// Those relative to the floor: a request is several packets.
    ToFloor,
}

struct Workload {
    name: &'static str,
    load: Load,
    aims: Aims,
}

fn workloads() -> Vec<Workload> {
    let redis = Host::Online.socket(Family::V4, REDIS);
    let web = |request, connections, requests| {
        Load::Http(HttpLoad {
            server: Host::Online.socket(Family::V4, HTTP),
            connections,
            requests,
            reuse: Connections::Kept,
            request,
        })
    };
    let set = |connections, requests, options| {
        Load::RedisBenchmark(RedisBenchmark { connections, requests, options })
    };
    let absolute = |name, load| Workload { name, load, aims: Aims::Absolute };
    let to_floor = |name, load| Workload { name, load, aims: Aims::ToFloor };
    vec![
        absolute("set, 50 connections", set(50, 100_000, "")),
        absolute("set, pipelines of 16", set(50, 400_000, "-P 16")),
        absolute("set, 1000 connections", set(1000, 100_000, "")),
        to_floor("set, a connection each", set(20, 20_000, "-k 0")),
        to_floor("set 16 KiB", set(20, 10_000, "-d 16384")),
        to_floor(
            "set 1 MiB",
            Load::Redis(RedisLoad { value_bytes: 1 << 20, ..RedisLoad::new(redis, 2, 200) }),
        ),
        absolute("http keep-alive", web(HttpRequest::Get { path: "/bytes/200" }, 50, 100_000)),
        to_floor("http get 100 kB", web(HttpRequest::Get { path: "/bytes/100000" }, 20, 10_000)),
        to_floor("http post 20 kB", web(HttpRequest::Post { bytes: 20_000 }, 20, 10_000)),
    ]
}

/// One workload's costs.
struct Costs {
    requests: u64,
    lasted: Duration,
    tcpcopy: Usage,
    intercept: Usage,
    delay_p50: Option<f64>,
    delay_p99: Option<f64>,
    floor: Option<Usage>,
}

impl Costs {
    fn per_request(&self, usage: Usage) -> f64 {
        usage.cpu.as_secs_f64() * 1e6 / self.requests as f64
    }

    fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.lasted.as_secs_f64()
    }

    fn ratio(&self) -> Option<f64> {
        let floor = self.floor?.cpu.as_secs_f64();
        (floor > 0.0).then(|| self.tcpcopy.cpu.as_secs_f64() / floor)
    }

    /// What is aimed at and was not reached.
    fn missed(&self, aims: Aims) -> Vec<&'static str> {
        let absolute = aims == Aims::Absolute;
        let too_much =
            |usage, original: f64| absolute && self.per_request(usage) >= original * SHARE_OF_ORIGINAL;
        [
            (self.ratio().is_some_and(|ratio| ratio > RATIO_TO_FLOOR), "floor"),
            (too_much(self.tcpcopy, ORIGINAL.0), "tcpcopy CPU"),
            (too_much(self.intercept, ORIGINAL.1), "intercept CPU"),
            (self.tcpcopy.peak_memory.max(self.intercept.peak_memory) >= MEMORY, "memory"),
        ]
        .into_iter()
        .filter_map(|(missed, name)| missed.then_some(name))
        .collect()
    }

    /// Of each program, and of the delays, the better of two runs.
    fn better(self, other: Self) -> Self {
        let least = |one: Usage, other: Usage| Usage {
            cpu: one.cpu.min(other.cpu),
            // Memory is not noise: the most is what a host has to have.
            peak_memory: one.peak_memory.max(other.peak_memory),
        };
        let lower =
            |one: Option<f64>, other: Option<f64>| [one, other].into_iter().flatten().reduce(f64::min);
        Self {
            requests: self.requests,
            lasted: self.lasted.min(other.lasted),
            tcpcopy: least(self.tcpcopy, other.tcpcopy),
            intercept: least(self.intercept, other.intercept),
            delay_p50: lower(self.delay_p50, other.delay_p50),
            delay_p99: lower(self.delay_p99, other.delay_p99),
            floor: self.floor.zip(other.floor).map(|(one, other)| least(one, other)),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.offline {
        setup::install(&[], Pcap::Needed)?;
        return offline::run();
    }
    if !setup::is_prepared() {
        setup::install(&[tools::LAB, &[tools::REDIS_SERVER, tools::REDIS_BENCHMARK]].concat(), Pcap::Needed)?;
        cargo::build_programs()?;
        cargo::run(cargo::cargo(&[
            "build",
            "--release",
            "--quiet",
            "-p",
            "tcpcopy-net",
            "--example",
            "forwarder",
        ]))?;
    }
    gain_privilege()?;
    if args.plugins {
        return plugins::run(args);
    }
    let forwarder = programs::target_folder().join("release/examples/forwarder");
    print_heading();
    let mut results = Vec::new();
    for workload in workloads() {
        if args.filter.as_ref().is_some_and(|filter| !workload.name.contains(filter.as_str())) {
            continue;
        }
        let mut best = measure(&workload, &forwarder)?;
        for _ in 1..args.runs {
            best = best.better(measure(&workload, &forwarder)?);
        }
        print_row(&workload, &best);
        results.push(as_json(&workload, &best));
    }
    let default = programs::target_folder().join("bench/replay.json");
    let file = args.json.clone().unwrap_or(default);
    let aims = json!({
        "cpu_ratio_to_floor": RATIO_TO_FLOOR,
        "tcpcopy_cpu_us_per_request": ORIGINAL.0 * SHARE_OF_ORIGINAL,
        "intercept_cpu_us_per_request": ORIGINAL.1 * SHARE_OF_ORIGINAL,
        "peak_memory_bytes": MEMORY,
    });
    let text = serde_json::to_string_pretty(&json!({ "aims": aims, "workloads": results }))?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    println!(
        "\naims: at most {RATIO_TO_FLOOR} times the floor; where a request is one packet at most, {:.0} % of the CPU time of \
         TCPCopy 1.3 here: below {:.2} µs and {:.2} µs; peak memory below {} MB each",
        SHARE_OF_ORIGINAL * 100.0,
        ORIGINAL.0 * SHARE_OF_ORIGINAL,
        ORIGINAL.1 * SHARE_OF_ORIGINAL,
        MEMORY / 1_000_000,
    );
    println!("results are in {}", file.display());
    Ok(ExitCode::SUCCESS)
}

fn measure(workload: &Workload, forwarder: &Path) -> Result<Costs> {
    let mut costs = replayed(workload, "").with_context(|| format!("measuring {}", workload.name))?;
    let floor = forwarded(workload, forwarder).with_context(|| format!("floor of {}", workload.name))?;
    costs.floor = Some(floor);
    Ok(costs)
}

/// The servers that a workload needs, on both hosts.
enum Servers<'lab> {
    Redis { online: RedisServer<'lab>, target: RedisServer<'lab> },
    Http { online: HttpServer<'lab>, target: HttpServer<'lab> },
}

impl<'lab> Servers<'lab> {
    fn start(lab: &'lab Lab, workload: &Workload) -> Result<Self> {
        let (online, target) = (lab.host(Host::Online), lab.host(Host::Target));
        Ok(match workload.load {
            Load::Redis(_) | Load::RedisBenchmark(_) => Self::Redis {
                online: RedisServer::start(online, REDIS)?,
                target: RedisServer::start(target, REDIS)?,
            },
            Load::Http(_) => Self::Http {
                online: HttpServer::start(online, HTTP)?,
                target: HttpServer::start(target, HTTP)?,
            },
        })
    }
}

impl Servers<'_> {
    /// A replay that lost requests would be too cheap.
    fn check_delivered(&self) -> Result<()> {
        let (online, target) = match self {
            Self::Redis { online, target } => (online.calls("set")?, target.calls("set")?),
            Self::Http { online, target } => (online.requests().len() as u64, target.requests().len() as u64),
        };
        ensure!(online == target, "the online server got {online} requests, the target {target}");
        Ok(())
    }
}

impl Workload {
    fn port(&self) -> u16 {
        match self.load {
            Load::Redis(_) | Load::RedisBenchmark(_) => REDIS,
            Load::Http(_) => HTTP,
        }
    }

    fn requests(&self) -> u64 {
        match &self.load {
            Load::Redis(load) => load.total(),
            Load::RedisBenchmark(load) => load.requests,
            Load::Http(load) => load.total() as u64,
        }
    }

    fn run(&self, lab: &Lab) -> Result<()> {
        match &self.load {
            Load::Redis(load) => load.run(lab.host(Host::Client)),
            Load::RedisBenchmark(load) => load.run(lab.host(Host::Client)),
            Load::Http(load) => load.run(lab.host(Host::Client)),
        }
    }
}

impl RedisBenchmark {
    fn run(&self, host: &RunningHost) -> Result<()> {
        let server = Host::Online.socket(Family::V4, REDIS);
        let mut command = Command::new(tools::REDIS_BENCHMARK.require()?);
        command.args(["-h", &server.ip().to_string(), "-p", &server.port().to_string(), "-t", "set", "-q"]);
        command.args(["-c", &self.connections.to_string(), "-n", &self.requests.to_string()]);
        command.args(self.options.split_whitespace());
        let output = host.output(command)?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(text.contains("requests per second"), "redis-benchmark did not finish:\n{text}");
        Ok(())
    }
}

/// Replays a workload, with more options for `tcpcopy`, separated by spaces.
fn replayed(workload: &Workload, options: &str) -> Result<Costs> {
    let lab = Lab::raise(LabOptions::default())?;
    let servers = Servers::start(&lab, workload)?;
    let replay = Replay::start(&lab, &ReplayOptions::new(workload.port()).tcpcopy(options))?;
    let before = (replay.tcpcopy.process.usage()?, replay.intercept.usage()?);
    let start = Instant::now();
    workload.run(&lab)?;
    let lasted = start.elapsed();
    let finished = replay.finish()?;
    finished.report().check_delivered()?;
    servers.check_delivered().with_context(|| finished.report().json().to_string())?;
    let delay = &finished.report().json()["delay"];
    // Under a load that never pauses, every request may have to wait for the response before it.
    let has_delays = delay["count"].as_u64() > Some(0);
    let measured = |name: &str| delay[name].as_f64().filter(|_| has_delays);
    Ok(Costs {
        requests: workload.requests(),
        lasted,
        tcpcopy: since(finished.tcpcopy.usage, before.0),
        intercept: since(finished.intercept, before.1),
        delay_p50: measured("p50_us"),
        delay_p99: measured("p99_us"),
        floor: None,
    })
}

/// What was used between two readings.
fn since(after: Usage, before: Usage) -> Usage {
    Usage { cpu: after.cpu.saturating_sub(before.cpu), ..after }
}

/// The same load with the forwarder in place of `tcpcopy`: same ring, addresses and checksum rewritten, same system call to
/// send, but no sessions. The target answers nothing useful, which costs the forwarder nothing.
fn forwarded(workload: &Workload, forwarder: &Path) -> Result<Usage> {
    let lab = Lab::raise(LabOptions::default())?;
    let _servers = Servers::start(&lab, workload)?;
    let online = lab.host(Host::Online);
    // As tcpcopy asks for by itself.
    let mut command = Command::new("nice");
    command.args(["-n", "-10"]).arg(forwarder);
    let target = Host::Target.socket(Family::V4, workload.port());
    command.args(["-x", &format!("{}-{target}", workload.port())]);
    // Nothing holds the clients of the floor back. A floor that lost packets would be too low, and its memory is no floor.
    command.args(["--ring", "256"]);
    let mut process = online.spawn("forwarder", command)?;
    process.wait_for_line("forwarding", Duration::from_secs(10))?;
    let before = process.usage()?;
    workload.run(&lab)?;
    // What it still has to send belongs to the cost.
    await_rest(&process)?;
    let usage = since(process.usage()?, before);
    process.interrupt(Duration::from_secs(10))?;
    check_forwarded(&process.output())?;
    Ok(usage)
}

/// Waits until a process has rested for a while.
fn await_rest(process: &Process) -> Result<()> {
    let mut before = process.usage()?.cpu;
    wait_until("the forwarder to have sent everything", Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(300));
        let now = process.usage()?.cpu;
        Ok(std::mem::replace(&mut before, now) == now)
    })
}

/// A floor that lost packets would be too low.
fn check_forwarded(output: &str) -> Result<()> {
    let totals = output.lines().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let totals = totals.with_context(|| format!("the forwarder told no totals: {output}"))?;
    let number = |name: &str| totals[name].as_u64().with_context(|| format!("no {name} in {totals}"));
    ensure!(number("packets")? > 0, "the forwarder forwarded nothing: {totals}");
    let lost = number("kernel_dropped")? + number("send_failures")? + number("unusable")?;
    ensure!(lost * 100 <= number("captured")?, "the forwarder lost more than 1 % of the packets: {totals}");
    Ok(())
}

fn print_heading() {
    println!(
        "{:<24} {:>8} {:>8} | {:>10} {:>10} | {:>7} {:>7} | {:>7} {:>7} | {:>9} {:>5} | not reached",
        "workload",
        "requests",
        "req./s",
        "tcpcopy",
        "intercept",
        "tcpcopy",
        "interc.",
        "p50",
        "p99",
        "floor",
        "ratio"
    );
    println!(
        "{:<24} {:>8} {:>8} | {:>10} {:>10} | {:>7} {:>7} | {:>7} {:>7} | {:>9} {:>5} |",
        "", "", "", "µs/request", "µs/request", "peak MB", "peak MB", "µs", "µs", "µs/req.", ""
    );
}

fn print_row(workload: &Workload, costs: &Costs) {
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
    let megabytes = |usage: Usage| usage.peak_memory as f64 / 1e6;
    println!(
        "{:<24} {:>8} {:>8.0} | {:>10.2} {:>10.2} | {:>7.1} {:>7.1} | {:>7} {:>7} | {:>9} {:>5} | {}",
        workload.name,
        costs.requests,
        costs.requests_per_second(),
        costs.per_request(costs.tcpcopy),
        costs.per_request(costs.intercept),
        megabytes(costs.tcpcopy),
        megabytes(costs.intercept),
        number(costs.delay_p50),
        number(costs.delay_p99),
        costs.floor.map_or_else(|| "–".to_owned(), |floor| format!("{:.2}", costs.per_request(floor))),
        costs.ratio().map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")),
        costs.missed(workload.aims).join(", "),
    );
}

fn as_json(workload: &Workload, costs: &Costs) -> serde_json::Value {
    let usage = |usage: Usage| {
        json!({
            "cpu_us_per_request": costs.per_request(usage),
            "cpu_seconds": usage.cpu.as_secs_f64(),
            "peak_memory_bytes": usage.peak_memory,
        })
    };
    json!({
        "name": workload.name,
        "requests": costs.requests,
        "seconds": costs.lasted.as_secs_f64(),
        "requests_per_second": costs.requests_per_second(),
        "tcpcopy": usage(costs.tcpcopy),
        "intercept": usage(costs.intercept),
        "delay_p50_us": costs.delay_p50,
        "delay_p99_us": costs.delay_p99,
        "floor": costs.floor.map(usage),
        "cpu_ratio_to_floor": costs.ratio(),
        "aims_missed": costs.missed(workload.aims),
    })
}
