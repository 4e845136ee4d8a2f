//! What goes wrong in the field: each is counted, said plainly, and survived.

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddrV4, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;
use tcpcopy_lab::host::RunningHost;
use tcpcopy_lab::http::{HttpLoad, HttpRequest};
use tcpcopy_lab::httpd::HttpServer;
use tcpcopy_lab::lab::{Forwarding, TargetRoutes};
use tcpcopy_lab::load::{Connections, RedisLoad, Verb};
use tcpcopy_lab::raw::RawSegment;
use tcpcopy_lab::redis::RedisServer;
use tcpcopy_lab::replay::{
    RELAY_PORT, Tcpcopy, intercept_args, is_connected, start_intercept, tcpcopy_args, token_file,
};
use tcpcopy_lab::scenario::{HTTP, REDIS, RedisPair};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, Replay, ReplayOptions, Report, lab_test, tools};

const SOON: Duration = Duration::from_secs(30);

fn load(connections: usize, requests: usize) -> RedisLoad {
    let server = Host::Online.socket(Family::V4, REDIS);
    RedisLoad { verb: Verb::Mixed, ..RedisLoad::new(server, connections, requests) }
}

/// Sends one request on a new connection every few milliseconds until `done`, as clients that never stop do.
fn trickle_until(lab: &Lab, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let mut round = 0;
    wait_until(what, SOON, || {
        round += 1;
        RedisLoad { prefix: format!("trickle{round}"), ..load(1, 1) }.run(lab.host(Host::Client))?;
        done()
    })
}

fn has_finding(report: &Report, cause: &str) -> bool {
    let findings = report.json()["findings"].as_array();
    findings.is_some_and(|findings| findings.iter().any(|finding| finding["cause"] == cause))
}

/// Replays a trickle of requests until the report names `cause`.
fn diagnose(lab_options: LabOptions, options: &ReplayOptions, cause: &str) {
    lab_test(lab_options, |lab| {
        let _servers = RedisPair::start(lab)?;
        let mut replay = Replay::start(lab, options)?;
        let mut last = None;
        trickle_until(lab, cause, || {
            let report = replay.tcpcopy.report()?;
            let found = has_finding(&report, cause);
            last = Some(report);
            Ok(found)
        })
        .with_context(|| format!("last report: {last:?}"))?;
        let output = replay.stop()?.tcpcopy.output;
        ensure!(output.contains(&format!("[{cause}]")), "the text does not tell of it:\n{output}");
        Ok(())
    });
}

#[test]
fn a_missing_route_on_the_target_is_named() {
    let lab = LabOptions { target_routes: TargetRoutes::Missing, ..LabOptions::default() };
    diagnose(lab, &ReplayOptions::new(REDIS), "no_route_on_target");
}

#[test]
fn forwarding_on_the_assistant_is_named() {
    let lab = LabOptions { forwarding: Forwarding::On, ..LabOptions::default() };
    diagnose(lab, &ReplayOptions::new(REDIS), "ip_forward_on_assistant");
}

#[test]
fn a_wrong_filter_at_intercept_is_named() {
    let filter = Some("tcp and src port 9".to_owned());
    let options = ReplayOptions { intercept_filter: filter, ..ReplayOptions::new(REDIS) };
    diagnose(LabOptions::default(), &options, "replies_not_captured");
}

#[test]
fn a_target_that_refuses_is_counted_and_named() {
    lab_test(LabOptions::default(), |lab| {
        let _online = RedisServer::start(lab.host(Host::Online), REDIS)?;
        let mut replay = Replay::start(lab, &ReplayOptions::new(REDIS))?;
        load(10, 200).run(lab.host(Host::Client))?;
        let mut last = None;
        trickle_until(lab, "the refusal to be named and counted", || {
            let report = replay.tcpcopy.report()?;
            let named = has_finding(&report, "target_refuses");
            let counted = reason(&report, "sessions_ended", "refused")?;
            last = Some(report);
            Ok(named && counted >= 10)
        })
        .with_context(|| format!("last report: {last:?}"))?;
        let report = replay.stop()?.tcpcopy.report;
        ensure!(reason(&report, "requests_given_up", "refused")? > 0, "{}", report.json());
        ensure!(report.counter("requests_acknowledged")? == 0, "{}", report.json());
        Ok(())
    });
}

fn reason(report: &Report, counter: &str, name: &str) -> Result<u64> {
    Ok(report.by_reason(counter)?.into_iter().find(|(reason, _)| reason == name).map_or(0, |(_, n)| n))
}

/// Serves each connection to a port with `serve`, for as long as this process lives.
fn serve(host: &RunningHost, port: u16, serve: fn(TcpStream)) -> Result<()> {
    let listener = host.run(move || TcpListener::bind(("0.0.0.0", port)))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(())
}

/// Reads a little and resets the connection.
fn reset_after_a_byte(mut stream: TcpStream) {
    // Whatever was read, what follows is the reset.
    let _ = stream.read(&mut [0]);
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, sockopt::Linger, &at_once).expect("a connected socket takes this option");
}

#[test]
fn a_target_that_resets_is_counted_and_survived() {
    lab_test(LabOptions::default(), |lab| {
        let _online = RedisServer::start(lab.host(Host::Online), REDIS)?;
        serve(lab.host(Host::Target), REDIS, reset_after_a_byte)?;
        let mut replay = Replay::start(lab, &ReplayOptions::new(REDIS))?;
        load(20, 2_000).run(lab.host(Host::Client))?;
        let mut last = None;
        let reset = wait_until("resets to be counted", SOON, || {
            let report = replay.tcpcopy.report()?;
            let seen = report.counter("target_resets")?;
            last = Some(report);
            Ok(seen >= 20)
        });
        reset.with_context(|| format!("last report: {last:?}"))?;
        let report = replay.stop()?.tcpcopy.report;
        ensure!(report.counter("sessions_established")? > 0, "{}", report.json());
        Ok(())
    });
}

/// Accepts, and never reads.
fn never_read(stream: TcpStream) {
    std::thread::sleep(Duration::from_secs(3600));
    drop(stream);
}

#[test]
fn a_window_that_stays_shut_ends_with_the_session_timeout() {
    lab_test(LabOptions::default(), |lab| {
        let _online = HttpServer::start(lab.host(Host::Online), HTTP)?;
        serve(lab.host(Host::Target), HTTP, never_read)?;
        let mut replay = Replay::start(lab, &ReplayOptions::new(HTTP).tcpcopy("-t 4"))?;
        HttpLoad {
            server: Host::Online.socket(Family::V4, HTTP),
            connections: 4,
            requests: 4,
            reuse: Connections::PerRequest,
            request: HttpRequest::Post { bytes: 8_000_000 },
        }
        .run(lab.host(Host::Client))?;
        let mut last = None;
        let ended = wait_until("the sessions to be given up", SOON, || {
            let report = replay.tcpcopy.report()?;
            let given_up = report.given_up()?;
            last = Some(report);
            Ok(given_up >= 4)
        });
        ended.with_context(|| format!("last report: {last:?}"))?;
        let finished = replay.stop()?;
        let report = finished.report();
        ensure!(report.counter("window_probes")? > 0, "no probe of the shut window: {}", report.json());
        ensure!(reason(report, "sessions_ended", "target_stalled")? == 4, "{}", report.json());
        ensure!(report.counter("memory_bytes")? == 0, "sessions ended, memory did not: {}", report.json());
        Ok(())
    });
}

#[test]
fn sends_that_fail_are_counted_and_made_up_for() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let mut replay = Replay::start(lab, &ReplayOptions::new(REDIS))?;
        load(10, 2_000).run(lab.host(Host::Client))?;
        let target = Host::Target.addr(Family::V4);
        nft(
            lab,
            &format!(
                "add table inet lab; add chain inet lab out {{ type filter hook output priority 0; }}; add rule inet lab out ip daddr {target} drop"
            ),
        )?;
        RedisLoad { prefix: "blocked".into(), ..load(10, 2_000) }.run(lab.host(Host::Client))?;
        let mut last = None;
        let failed = wait_until("failed sends to be counted", SOON, || {
            let report = replay.tcpcopy.report()?;
            let failures = report.counter("send_failures")?;
            last = Some(report);
            Ok(failures > 0)
        });
        failed.with_context(|| format!("last report: {last:?}"))?;
        nft(lab, "delete table inet lab")?;
        let finished = replay.finish()?;
        servers.check_equal(1)?;
        finished.report().check_delivered()?;
        let errors = &finished.report().json()["send_errors"];
        ensure!(errors["EPERM"].as_u64() > Some(0), "not counted by name: {errors}");
        Ok(())
    });
}

fn nft(lab: &Lab, rules: &str) -> Result<()> {
    let mut command = Command::new(tools::NFT.require()?);
    command.arg(rules);
    lab.host(Host::Online).output(command).map(drop)
}

#[test]
fn garbage_on_the_relay_port_does_no_harm() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let replay = Replay::start(lab, &ReplayOptions::new(REDIS))?;
        let relay = Host::Assistant.socket(Family::V4, RELAY_PORT);
        let memory_before = replay.intercept.usage()?.peak_memory;
        let silent = lab.host(Host::Online).run(move || -> Result<Vec<TcpStream>> {
            let mut kept = Vec::new();
            for number in 0..60_u8 {
                let mut stream = TcpStream::connect(relay)?;
                let garbage = vec![number.wrapping_mul(37); 1 << number.min(18)];
                // The other side may hang up in the middle: that is what it should do.
                let _ = stream.write_all(&garbage);
                if number % 3 == 0 {
                    kept.push(stream);
                }
            }
            // And some that say nothing.
            for _ in 0..20 {
                kept.push(TcpStream::connect(relay)?);
            }
            Ok(kept)
        })?;
        load(20, 5_000).run(lab.host(Host::Client))?;
        let finished = replay.finish()?;
        drop(silent);
        servers.check_equal(1)?;
        finished.report().check_delivered()?;
        let grown = finished.intercept.peak_memory.saturating_sub(memory_before);
        ensure!(grown < 64 << 20, "intercept grew by {grown} bytes");
        Ok(())
    });
}

/// Packets that are not what their headers say, mixed into real traffic.
#[test]
fn malformed_packets_are_counted_and_survived() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let replay = Replay::start(lab, &ReplayOptions::new(REDIS))?;
        let (IpAddr::V4(client), IpAddr::V4(online)) =
            (Host::Client.addr(Family::V4), Host::Online.addr(Family::V4))
        else {
            anyhow::bail!("not IPv4")
        };
        for number in 0..40_u16 {
            // A port that the real clients' range leaves out.
            let from = SocketAddrV4::new(client, 5000 + number);
            let good = RawSegment::syn(from, SocketAddrV4::new(online, REDIS));
            let bad = match number % 4 {
                // The header ends behind the packet; the header is shorter than a header can be.
                0 => RawSegment { header_words: 15, ..good },
                1 => RawSegment { header_words: 2, flags: 0x18, rest: b"data".to_vec(), ..good },
                // Options of length 0, and one that ends behind the header.
                2 => RawSegment { header_words: 7, rest: vec![2, 0, 5, 0xb4, 8, 0, 0, 0], ..good },
                _ => RawSegment { header_words: 6, rest: vec![1, 1, 3, 200], ..good },
            };
            bad.send(lab.host(Host::Client))?;
        }
        load(20, 5_000).run(lab.host(Host::Client))?;
        let finished = replay.finish()?;
        servers.check_equal(1)?;
        let report = finished.report();
        ensure!(report.counter("packets_malformed")? >= 20, "{}", report.json());
        report.check_sums()
    });
}

/// Waits for the end of a `tcpcopy` that must refuse to start, and returns what it said.
fn refusal(tcpcopy: &mut Tcpcopy) -> Result<String> {
    let status = tcpcopy.process.wait(SOON)?;
    let output = tcpcopy.process.output();
    ensure!(status.code() == Some(1), "{status}:\n{output}");
    ensure!(output.lines().any(|line| line.starts_with("error: ")), "no error line:\n{output}");
    ensure!(output.lines().any(|line| line.starts_with("hint: ")), "no hint line:\n{output}");
    Ok(output)
}

#[test]
fn a_wrong_token_is_refused_and_said() {
    lab_test(LabOptions::default(), |lab| {
        let options = ReplayOptions::new(REDIS);
        let right = token_file(lab, "right", "the right token of this lab")?;
        let wrong = token_file(lab, "wrong", "another token, as long as it is")?;
        let mut intercept = start_intercept(lab, RELAY_PORT, &intercept_args(&options, &right))?;
        let mut tcpcopy = Tcpcopy::start(lab, &tcpcopy_args(&options, &wrong))?;
        let output = refusal(&mut tcpcopy)?;
        ensure!(output.contains("token"), "the token is not named:\n{output}");
        intercept.check_running()?;
        ensure!(intercept.output().contains("token"), "intercept does not say so:\n{}", intercept.output());
        Ok(())
    });
}

#[test]
fn without_intercept_tcpcopy_says_so_and_ends() {
    lab_test(LabOptions::default(), |lab| {
        let token = token_file(lab, "token", "a token for the lab, long enough")?;
        let mut tcpcopy = Tcpcopy::start(lab, &tcpcopy_args(&ReplayOptions::new(REDIS), &token))?;
        let output = refusal(&mut tcpcopy)?;
        ensure!(output.contains("36524"), "the address is not named:\n{output}");
        Ok(())
    });
}

#[test]
fn with_lonely_tcpcopy_waits_for_intercept() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let options = ReplayOptions::new(REDIS).tcpcopy("-L");
        let token = token_file(lab, "token", "a token for the lab, long enough")?;
        let mut tcpcopy = Tcpcopy::start(lab, &tcpcopy_args(&options, &token))?;
        tcpcopy.report().context("tcpcopy alone")?;
        let _intercept = start_intercept(lab, RELAY_PORT, &intercept_args(&options, &token))?;
        wait_until("the relay connection", SOON, || {
            tcpcopy.process.check_running()?;
            is_connected(lab.host(Host::Online))
        })?;
        std::thread::sleep(Duration::from_millis(500));
        load(10, 2_000).run(lab.host(Host::Client))?;
        tcpcopy.wait_caught_up(SOON)?;
        servers.check_equal(1)?;
        tcpcopy.stop()?.report.check_delivered()
    });
}

/// A relay that breaks is made again while live sessions wait.
#[test]
fn a_restarted_intercept_is_found_again() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let options = ReplayOptions::new(REDIS);
        let token = token_file(lab, "token", "a token for the lab, long enough")?;
        let args = intercept_args(&options, &token);
        let first = start_intercept(lab, RELAY_PORT, &args)?;
        let mut tcpcopy = Tcpcopy::start(lab, &tcpcopy_args(&options, &token))?;
        tcpcopy.wait_ready(lab, 0)?;
        load(10, 2_000).run(lab.host(Host::Client))?;
        drop(first);
        RedisLoad { prefix: "meanwhile".into(), ..load(10, 2_000) }.run(lab.host(Host::Client))?;
        let _second = start_intercept(lab, RELAY_PORT, &args)?;
        tcpcopy.wait_caught_up(Duration::from_secs(60))?;
        servers.check_equal(1)?;
        tcpcopy.stop()?.report.check_delivered()
    });
}
