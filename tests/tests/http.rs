//! HTTP traffic: nginx by its access log, bodies by checksum.

use anyhow::{Context, Result, ensure};
use std::collections::HashSet;
use std::time::Duration;
use tcpcopy_lab::http::{HttpLoad, HttpRequest, ab, wrk};
use tcpcopy_lab::load::Connections;
use tcpcopy_lab::nginx::Nginx;
use tcpcopy_lab::scenario::{HTTP, check_same, difference, replay_http, with_report};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, Replay, ReplayOptions, lab_test};

/// Access logs of both servers, once the target's has as many lines as online's.
struct Logs {
    online: Vec<String>,
    target: Vec<String>,
}

fn replay_nginx(lab: &Lab, load: impl FnOnce() -> Result<()>) -> Result<Logs> {
    let online = Nginx::start(lab.host(Host::Online), HTTP)?;
    let target = Nginx::start(lab.host(Host::Target), HTTP)?;
    let replay = Replay::start(lab, &ReplayOptions::new(HTTP))?;
    load().context("the load on online")?;
    let finished = replay.finish()?;
    let expected = online.requests()?.len();
    ensure!(expected > 0, "the online server got nothing");
    // A timeout shows in the comparison.
    let _ =
        wait_until("the target's log", Duration::from_secs(5), || Ok(target.requests()?.len() >= expected));
    with_report(finished.report().check_delivered(), &finished)?;
    Ok(Logs { online: online.requests()?, target: target.requests()? })
}

fn url(path: &str) -> String {
    format!("http://{}{path}", Host::Online.socket(Family::V4, HTTP))
}

/// wrk breaks its connections off when its time is up, with a request on its way on each: online may reset before it reads
/// that one, so the target may have one more for each connection. None may be missing, none may come twice.
fn check_wrk(logs: &Logs, connections: usize) -> Result<()> {
    let (missing, surplus) = difference(&logs.online, &logs.target);
    ensure!(
        missing.is_empty(),
        "{} of {} are missing: {:?}",
        missing.len(),
        logs.online.len(),
        missing.first()
    );
    ensure!(surplus.len() <= connections, "{} too many, such as {:?}", surplus.len(), surplus.first());
    let distinct: HashSet<&String> = logs.target.iter().collect();
    ensure!(distinct.len() == logs.target.len(), "{} came twice", logs.target.len() - distinct.len());
    Ok(())
}

#[test]
fn wrk_keep_alive_small() {
    lab_test(LabOptions::default(), |lab| {
        let client = lab.host(Host::Client);
        let logs = replay_nginx(lab, || wrk(client, &url(Nginx::SMALL), 50, 1, Duration::from_secs(4)))?;
        check_wrk(&logs, 50)
    });
}

#[test]
fn wrk_answers_of_100_kb() {
    lab_test(LabOptions::default(), |lab| {
        let client = lab.host(Host::Client);
        let logs = replay_nginx(lab, || wrk(client, &url(Nginx::LARGE), 20, 1, Duration::from_secs(4)))?;
        check_wrk(&logs, 20)
    });
}

#[test]
fn keep_alive_small() {
    lab_test(LabOptions::default(), |lab| {
        let load = gets(Nginx::SMALL, 50, 50_000);
        let logs = replay_nginx(lab, || load.run(lab.host(Host::Client)))?;
        ensure!(logs.online.len() == load.total());
        check_same(&logs.online, &logs.target)
    });
}

#[test]
fn answers_of_100_kb() {
    lab_test(LabOptions::default(), |lab| {
        let load = gets(Nginx::LARGE, 20, 10_000);
        let logs = replay_nginx(lab, || load.run(lab.host(Host::Client)))?;
        ensure!(logs.online.len() == load.total());
        check_same(&logs.online, &logs.target)
    });
}

#[test]
fn ab_short_connections() {
    lab_test(LabOptions::default(), |lab| {
        let logs = replay_nginx(lab, || ab(lab.host(Host::Client), &url(Nginx::SMALL), 20, 10_000))?;
        ensure!(logs.online.len() == 10_000, "online got {}", logs.online.len());
        check_same(&logs.online, &logs.target)
    });
}

#[test]
fn posts_of_20_kb() {
    deliver_posts(20_000, 20, 10_000, Connections::Kept);
}

#[test]
fn posts_of_20_kb_on_short_connections() {
    deliver_posts(20_000, 20, 4_000, Connections::PerRequest);
}

#[test]
fn posts_of_1_mb() {
    deliver_posts(1_000_000, 5, 300, Connections::Kept);
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

fn deliver_posts(bytes: usize, connections: usize, requests: usize, reuse: Connections) {
    lab_test(LabOptions::default(), |lab| {
        let request = HttpRequest::Post { bytes };
        let load = HttpLoad { reuse, request, ..gets("", connections, requests) };
        let options = ReplayOptions::new(HTTP);
        let seen = replay_http(lab, &options, || load.run(lab.host(Host::Client)))?;
        ensure!(seen.len() == load.total(), "online got {} of {}", seen.len(), load.total());
        Ok(())
    });
}
