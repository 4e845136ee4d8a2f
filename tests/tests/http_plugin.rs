//! What the HTTP plugin is for: exact boundaries of messages, targets that close, and logins that are worth something on the
//! target.

use anyhow::{Result, ensure};
use std::collections::HashSet;
use std::time::Duration;
use tcpcopy_lab::browser::{Credential, LoginLoad};
use tcpcopy_lab::http::{HttpLoad, HttpRequest, curl, wrk};
use tcpcopy_lab::httpd::Seen;
use tcpcopy_lab::load::Connections;
use tcpcopy_lab::nginx::Nginx;
use tcpcopy_lab::plugin::{Kind, Module, are_built};
use tcpcopy_lab::scenario::{HTTP, HttpPair, check_same, difference, replay_http, with_report};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::websocket::WebSocketLoad;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, Replay, ReplayOptions, lab_test, plugin_tests};

/// Raises a lab for a test with a module, where modules are built.
fn with_module(module: Module, body: impl FnOnce(&Lab, &ReplayOptions) -> Result<()>) {
    if are_built(&["http"]) {
        lab_test(LabOptions::default(), |lab| body(lab, &ReplayOptions::new(HTTP).module(module)));
    }
}

fn url(path: &str) -> String {
    format!("http://{}{path}", Host::Online.socket(Family::V4, HTTP))
}

fn requests(request: HttpRequest, connections: usize, requests: usize) -> HttpLoad {
    HttpLoad {
        server: Host::Online.socket(Family::V4, HTTP),
        connections,
        requests,
        reuse: Connections::Kept,
        request,
    }
}

/// Runs a load of ours through the plugin; everything must arrive.
fn deliver(kind: Kind, load: HttpLoad) {
    with_module(Module::http(kind), |lab, options| {
        let seen = replay_http(lab, options, || load.run(lab.host(Host::Client)))?;
        ensure!(seen.len() == load.total(), "online got {} of {}", seen.len(), load.total());
        Ok(())
    });
}

/// Ten requests at once on each connection. wrk breaks off in the midst of them: online may not have read those, which the
/// target may get all the same. None may be missing or come twice.
fn pipelines_of_10(kind: Kind) {
    const CONNECTIONS: usize = 20;
    with_module(Module::http(kind), |lab, options| {
        let online = Nginx::start(lab.host(Host::Online), HTTP)?;
        let target = Nginx::start(lab.host(Host::Target), HTTP)?;
        let replay = Replay::start(lab, options)?;
        wrk(lab.host(Host::Client), &url(Nginx::SMALL), CONNECTIONS, 10, Duration::from_secs(4))?;
        let finished = replay.finish()?;
        let expected = online.requests()?;
        // A timeout shows in the comparison.
        let _ = wait_until("the target's log", Duration::from_secs(5), || {
            Ok(target.requests()?.len() >= expected.len())
        });
        let got = target.requests()?;
        let check = || {
            let (missing, surplus) = difference(&expected, &got);
            ensure!(
                missing.is_empty(),
                "{} of {} are missing: {:?}",
                missing.len(),
                expected.len(),
                missing[0]
            );
            ensure!(
                surplus.len() <= 10 * CONNECTIONS,
                "{} too many, such as {:?}",
                surplus.len(),
                surplus[0]
            );
            let distinct: HashSet<&String> = got.iter().collect();
            ensure!(distinct.len() == got.len(), "{} came twice", got.len() - distinct.len());
            finished.report().check_delivered()
        };
        with_report(check(), &finished)
    });
}

fn chunked_uploads(kind: Kind) {
    deliver(kind, requests(HttpRequest::Chunked { bytes: 30_000 }, 10, 2_000));
}

fn event_streams(kind: Kind) {
    deliver(kind, requests(HttpRequest::Get { path: "/events/20" }, 20, 200));
}

/// Answers of HTTP/1.0, which end with the connection.
fn answers_until_close(kind: Kind) {
    let load = requests(HttpRequest::Get { path: "/close/70000" }, 10, 500);
    deliver(kind, HttpLoad { reuse: Connections::PerRequest, ..load });
}

/// A target that says when it closes loses nothing: the next request goes to a new connection.
fn a_target_that_closes_after_ten_requests(kind: Kind) {
    with_module(Module::http(kind), |lab, options| {
        let online = Nginx::start(lab.host(Host::Online), HTTP)?;
        let target = Nginx::closing_after(lab.host(Host::Target), HTTP, 10)?;
        let replay = Replay::start(lab, options)?;
        let load = requests(HttpRequest::Get { path: Nginx::SMALL }, 20, 4_000);
        load.run(lab.host(Host::Client))?;
        let finished = replay.finish()?;
        // A timeout shows in the comparison.
        let _ =
            wait_until("the target's log", Duration::from_secs(5), || Ok(target.requests()?.len() >= 4_000));
        let (expected, got) = (online.requests()?, target.requests()?);
        let check = || {
            check_same(&expected, &got)?;
            let reconnects = finished.report().counter("reconnects")?;
            ensure!((370..=400).contains(&reconnects), "{reconnects} reconnects");
            finished.report().check_delivered()
        };
        with_report(check(), &finished)
    });
}

/// Answers without a body, whatever their header says: to HEAD, 304; and one after another on one connection.
fn answers_without_a_body(kind: Kind) {
    with_module(Module::http(kind), |lab, options| {
        let online = Nginx::start(lab.host(Host::Online), HTTP)?;
        let target = Nginx::start(lab.host(Host::Target), HTTP)?;
        let replay = Replay::start(lab, options)?;
        let urls: Vec<String> = (0..20).map(|number| url(&format!("{}?id={number}", Nginx::LARGE))).collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let always_new = ["-o", "/dev/null", "-H", "If-None-Match: *"];
        let words = [&["-I", "-o", "/dev/null"], &urls[..10], &["--next"], &always_new, &urls[10..]].concat();
        for _ in 0..5 {
            curl(lab.host(Host::Client), &words)?;
        }
        let finished = replay.finish()?;
        let expected = online.wait_for(100, Duration::from_secs(5))?;
        ensure!(expected.iter().filter(|line| line.ends_with(" 304")).count() == 50, "{expected:?}");
        let got = target.wait_for(100, Duration::from_secs(5));
        with_report(got.and_then(|got| check_same(&expected, &got)), &finished)?;
        with_report(finished.report().check_delivered(), &finished)
    });
}

/// curl sends the body when the server asks for it; so must the replay, when the target does.
fn a_body_waits_for_the_target(kind: Kind) {
    with_module(Module::http(kind), |lab, options| {
        let seen =
            replay_http(lab, options, || upload(lab, &["/one", "/two", "/refuse/401/three", "/four"]))?;
        let expected = [(200, 1_100_000), (200, 1_100_000), (401, 0), (200, 1_100_000)];
        ensure!(seen.iter().map(|seen| (seen.status, seen.body_bytes)).eq(expected), "{seen:?}");
        ensure!(!seen.iter().any(|seen| seen.is_early), "curl did not wait: {seen:?}");
        Ok(())
    });
}

/// A target that does not want the body does not get it; what the client sends next arrives.
fn a_target_that_refuses_a_body(kind: Kind) {
    with_module(Module::http(kind), |lab, options| {
        let servers = HttpPair::start(lab)?;
        servers.target.refuse_bodies(417);
        let requests = servers.replay(lab, options, || {
            upload(lab, &["/one", "/two"])?;
            curl(lab.host(Host::Client), &["-o", "/dev/null", &url("/after")]).map(drop)
        })?;
        let summary = |seen: &[Seen]| -> Vec<(String, u16, u64)> {
            seen.iter().map(|seen| (seen.line.clone(), seen.status, seen.body_bytes)).collect()
        };
        let expect = |one: (u16, u64)| {
            let (status, bytes) = one;
            vec![
                ("POST /one".to_owned(), status, bytes),
                ("POST /two".to_owned(), status, bytes),
                ("GET /after".to_owned(), 200, 0),
            ]
        };
        ensure!(summary(&requests.online) == expect((200, 1_100_000)), "{:?}", requests.online);
        let got = summary(&requests.target);
        let check = || {
            ensure!(got == expect((417, 0)), "the target got {got:?}");
            requests.finished.report().check_sums()
        };
        with_report(check(), &requests.finished)
    });
}

/// Uploads of 1.1 MB, one after another; from 1 MiB on, curl asks before it sends a body.
fn upload(lab: &Lab, paths: &[&str]) -> Result<()> {
    let body = lab.folder().join("body");
    std::fs::write(&body, (0..1_100_000_u32).map(|at| (at / 7).wrapping_mul(at) as u8).collect::<Vec<_>>())?;
    let data = format!("@{}", body.display());
    let urls: Vec<String> = paths.iter().map(|path| url(path)).collect();
    let mut words = vec!["--expect100-timeout", "30", "--data-binary", &data];
    for url in &urls {
        words.extend(["-o", "/dev/null", url]);
    }
    curl(lab.host(Host::Client), &words).map(drop)
}

fn websockets(kind: Kind) {
    with_module(Module::http(kind), |lab, options| {
        let load =
            WebSocketLoad { server: Host::Online.socket(Family::V4, HTTP), connections: 20, messages: 50 };
        let seen = replay_http(lab, options, || load.run(lab.host(Host::Client)))?;
        ensure!(seen.len() == 20 * 52, "online got {}", seen.len());
        Ok(())
    });
}

fn logins(credential: Credential) -> LoginLoad {
    LoginLoad { server: Host::Online.socket(Family::V4, HTTP), users: 20, requests: 10, credential }
}

/// Each server gives out cookies of its own: those that the clients show are worth something on the target only if the plugin
/// has put the target's in their place. What is compared has the status and the user in it.
fn logged_in_by_cookie(kind: Kind) {
    logged_in(kind, Credential::Cookie);
}

fn logged_in_by_bearer_token(kind: Kind) {
    logged_in(kind, Credential::BearerToken);
}

fn logged_in(kind: Kind, credential: Credential) {
    with_module(Module::http(kind).option("map-credentials=true"), |lab, options| {
        let load = logins(credential);
        let seen = replay_http(lab, options, || load.run(lab.host(Host::Client)))?;
        ensure!(seen.len() == load.total() && seen.iter().all(|seen| seen.status == 200), "{seen:?}");
        Ok(())
    });
}

/// The control of the two above: without the mapping, the target knows nobody.
fn without_mapping_nobody_is_known(kind: Kind) {
    with_module(Module::http(kind), |lab, options| {
        for credential in [Credential::Cookie, Credential::BearerToken] {
            let servers = HttpPair::start(lab)?;
            let load = logins(credential);
            let requests = servers.replay(lab, options, || load.run(lab.host(Host::Client)))?;
            let refused = |seen: &[Seen]| seen.iter().filter(|seen| seen.status == 401).count();
            let check = || {
                ensure!(refused(&requests.online) == 0, "online refused {}", refused(&requests.online));
                ensure!(requests.target.len() == load.total(), "the target got {}", requests.target.len());
                let of_target = refused(&requests.target);
                ensure!(of_target == load.users * load.requests, "the target refused {of_target}");
                requests.finished.report().check_delivered()
            };
            with_report(check(), &requests.finished)?;
        }
        Ok(())
    });
}

plugin_tests!([
    pipelines_of_10,
    chunked_uploads,
    event_streams,
    answers_until_close,
    a_target_that_closes_after_ten_requests,
    answers_without_a_body,
    a_body_waits_for_the_target,
    a_target_that_refuses_a_body,
    websockets,
    logged_in_by_cookie,
    logged_in_by_bearer_token,
    without_mapping_nobody_is_known,
]);
