//! `cargo xtask demo`: live traffic of one redis replayed to another, as a newcomer sees it.

use crate::cargo;
use crate::setup::{self, Pcap, gain_privilege};
use anyhow::{Context, Result, ensure};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tcpcopy_lab::load::{RedisLoad, Verb};
use tcpcopy_lab::redis::{RedisClient, RedisServer};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, Replay, ReplayOptions, tools};

const PORT: u16 = 6379;
const REQUESTS: usize = 50_000;

pub(crate) fn run() -> Result<ExitCode> {
    if !setup::is_prepared() {
        setup::install(&[tools::LAB, &[tools::REDIS_SERVER]].concat(), Pcap::Needed)?;
        cargo::build_programs()?;
    }
    gain_privilege()?;
    println!("==> raising four hosts in network namespaces");
    let lab = Lab::raise(LabOptions::default())?;
    for (host, role) in [
        (Host::Client, "the real client"),
        (Host::Online, "redis-server in production; tcpcopy runs beside it"),
        (Host::Target, "redis-server under test"),
        (Host::Assistant, "intercept takes the target's replies here"),
    ] {
        println!("    {:<10} {:<12} {role}", host.name(), host.addr(Family::V4).to_string());
    }
    let online = RedisServer::start(lab.host(Host::Online), PORT)?;
    let target = RedisServer::start(lab.host(Host::Target), PORT)?;
    let replay = Replay::start(&lab, &ReplayOptions::new(PORT))?;
    let at_both = watch(&lab, &online, &target).inspect_err(|_| {
        println!("\n==> what tcpcopy wrote until then\n{}", replay.tcpcopy.process.output());
    })?;
    let finished = replay.finish()?;
    println!("\n==> closing report of tcpcopy");
    let is_closing = |line: &&str| !line.starts_with("tcpcopy: report after");
    for line in finished.tcpcopy.output.lines().skip_while(is_closing) {
        println!("    {line}");
    }
    ensure!(
        at_both.0 == at_both.1,
        "the two servers hold different data\nhint: please report this with the output above"
    );
    println!("\n==> both servers hold the same data: every request arrived once, in order. The lab is gone.");
    println!("    Next: `cargo xtask lab shell` to try it by hand, `cargo xtask test`, `cargo xtask bench`.");
    Ok(ExitCode::SUCCESS)
}

/// Puts load on online and shows that it arrives at target; returns both servers' digests.
fn watch(lab: &Lab, online: &RedisServer<'_>, target: &RedisServer<'_>) -> Result<(String, String)> {
    println!("==> replaying: what the client sends to online goes to target as well");
    show_one_client(lab, online, target)?;

    let server = Host::Online.socket(Family::V4, PORT);
    let load = RedisLoad { verb: Verb::Mixed, ..RedisLoad::new(server, 50, REQUESTS) };
    println!("\n==> a load: {} requests (SET, APPEND, INCR) over 50 connections", load.total());
    let start = Instant::now();
    load.run(lab.host(Host::Client))?;
    let lasted = start.elapsed();
    let same = |what: &str| -> Result<bool> { Ok(online.calls(what)? == target.calls(what)?) };
    wait_until("the target to have as many requests as online", Duration::from_secs(60), || {
        Ok(same("set")? && same("append")? && same("incr")?)
    })?;
    let behind = start.elapsed().saturating_sub(lasted);
    let digests = (online.digest()?, target.digest()?);
    println!("    the client was served in {:.2} s", lasted.as_secs_f64());
    println!("    the target was {:.0} ms behind online when the load ended", behind.as_secs_f64() * 1000.0);
    println!("    DEBUG DIGEST  online {}\n                  target {}", digests.0, digests.1);
    Ok(digests)
}

/// A client sets the date; shows what both servers saw.
fn show_one_client(lab: &Lab, online: &RedisServer<'_>, target: &RedisServer<'_>) -> Result<()> {
    let monitors = (online.monitor()?, target.monitor()?);
    let server = Host::Online.socket(Family::V4, PORT);
    let date = date()?;
    let words = vec![
        vec!["SET".to_owned(), "date".into(), date],
        vec!["GET".into(), "date".into()],
        vec!["INCR".into(), "visits".into()],
    ];
    let count = words.len();
    lab.host(Host::Client).run(move || -> Result<()> {
        let mut client = RedisClient::connect(server)?;
        for command in &words {
            client.call(&command.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        Ok(())
    })?;
    let left = monitors.0.wait_for(count, Duration::from_secs(10))?;
    let right = monitors.1.wait_for(count, Duration::from_secs(10)).context("waiting for the target")?;
    let width = left.iter().map(String::len).max().unwrap_or_default();
    println!("    {:<width$}   target's MONITOR", "online's MONITOR");
    for (left, right) in left.iter().zip(&right) {
        println!("    {left:<width$}   {right}");
    }
    Ok(())
}

fn date() -> Result<String> {
    let output = std::process::Command::new("date").arg("+%F %T").output().context("running date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
