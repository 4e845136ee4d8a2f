//! HTTP traffic, with no plugin and through the HTTP plugin: nginx by its access log, bodies by checksum.

use anyhow::{Context, Result, ensure};
use std::collections::HashSet;
use std::time::Duration;
use tcpcopy_lab::http::{HttpLoad, HttpRequest, ab, wrk};
use tcpcopy_lab::load::Connections;
use tcpcopy_lab::nginx::Nginx;
use tcpcopy_lab::plugin::{Module, Through, are_built};
use tcpcopy_lab::scenario::{HTTP, check_same, difference, replay_http, with_report};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, Replay, ReplayOptions, lab_test, workload_tests};

/// Access logs of both servers, once the target's has as many lines as online's.
struct Logs {
    online: Vec<String>,
    target: Vec<String>,
}

/// Options of a replay through the plugin, if one is asked for; `None` where plugins are not built.
fn options(through: Through) -> Option<ReplayOptions> {
    let ready = through == Through::Nothing || are_built(&["http"]);
    ready.then(|| ReplayOptions::new(HTTP).through(through, Module::http))
}

fn replay_nginx(lab: &Lab, options: &ReplayOptions, load: impl FnOnce() -> Result<()>) -> Result<Logs> {
    let online = Nginx::start(lab.host(Host::Online), HTTP)?;
    let target = Nginx::start(lab.host(Host::Target), HTTP)?;
    let replay = Replay::start(lab, options)?;
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

fn wrk_keep_alive_small(through: Through) {
    let Some(options) = options(through) else { return };
    lab_test(LabOptions::default(), |lab| {
        let client = lab.host(Host::Client);
        let logs =
            replay_nginx(lab, &options, || wrk(client, &url(Nginx::SMALL), 50, 1, Duration::from_secs(4)))?;
        check_wrk(&logs, 50)
    });
}

fn wrk_answers_of_100_kb(through: Through) {
    let Some(options) = options(through) else { return };
    lab_test(LabOptions::default(), |lab| {
        let client = lab.host(Host::Client);
        let logs =
            replay_nginx(lab, &options, || wrk(client, &url(Nginx::LARGE), 20, 1, Duration::from_secs(4)))?;
        check_wrk(&logs, 20)
    });
}

fn keep_alive_small(through: Through) {
    let Some(options) = options(through) else { return };
    lab_test(LabOptions::default(), |lab| {
        let load = gets(Nginx::SMALL, 50, 50_000);
        let logs = replay_nginx(lab, &options, || load.run(lab.host(Host::Client)))?;
        ensure!(logs.online.len() == load.total());
        check_same(&logs.online, &logs.target)
    });
}

fn answers_of_100_kb(through: Through) {
    let Some(options) = options(through) else { return };
    lab_test(LabOptions::default(), |lab| {
        let load = gets(Nginx::LARGE, 20, 10_000);
        let logs = replay_nginx(lab, &options, || load.run(lab.host(Host::Client)))?;
        ensure!(logs.online.len() == load.total());
        check_same(&logs.online, &logs.target)
    });
}

fn ab_short_connections(through: Through) {
    let Some(options) = options(through) else { return };
    lab_test(LabOptions::default(), |lab| {
        let logs =
            replay_nginx(lab, &options, || ab(lab.host(Host::Client), &url(Nginx::SMALL), 20, 10_000))?;
        ensure!(logs.online.len() == 10_000, "online got {}", logs.online.len());
        check_same(&logs.online, &logs.target)
    });
}

fn posts_of_20_kb(through: Through) {
    deliver_posts(through, 20_000, 20, 10_000, Connections::Kept);
}

fn posts_of_20_kb_on_short_connections(through: Through) {
    deliver_posts(through, 20_000, 20, 4_000, Connections::PerRequest);
}

fn posts_of_1_mb(through: Through) {
    deliver_posts(through, 1_000_000, 5, 300, Connections::Kept);
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

fn deliver_posts(through: Through, bytes: usize, connections: usize, requests: usize, reuse: Connections) {
    let Some(options) = options(through) else { return };
    lab_test(LabOptions::default(), |lab| {
        let request = HttpRequest::Post { bytes };
        let load = HttpLoad { reuse, request, ..gets("", connections, requests) };
        let seen = replay_http(lab, &options, || load.run(lab.host(Host::Client)))?;
        ensure!(seen.len() == load.total(), "online got {} of {}", seen.len(), load.total());
        Ok(())
    });
}

workload_tests!([
    wrk_keep_alive_small,
    wrk_answers_of_100_kb,
    keep_alive_small,
    answers_of_100_kb,
    ab_short_connections,
    posts_of_20_kb,
    posts_of_20_kb_on_short_connections,
    posts_of_1_mb,
]);
