//! The lab's servers and load without any replay: what the other tests compare must be able to differ.

use anyhow::{Result, ensure};
use std::time::Duration;
use tcpcopy_lab::browser::{Credential, LoginLoad};
use tcpcopy_lab::http::{HttpLoad, HttpRequest, ab, curl, wrk};
use tcpcopy_lab::httpd::HttpServer;
use tcpcopy_lab::load::{Connections, RedisLoad, Verb};
use tcpcopy_lab::nginx::Nginx;
use tcpcopy_lab::redis::{RedisClient, RedisServer};
use tcpcopy_lab::scenario::{HTTP, REDIS, RedisPair, check_same};
use tcpcopy_lab::websocket::WebSocketLoad;
use tcpcopy_lab::{Family, Host, LabOptions, lab_test};

/// The same load on both servers, which a correct replay amounts to, gives equal data; a single request more does not.
#[test]
fn equal_loads_give_equal_data_and_one_request_shows() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let (client, online) = (lab.host(Host::Client), lab.host(Host::Online));
        for (prefix, reuse, pipeline) in
            [("a", Connections::Kept, 1), ("b", Connections::Kept, 16), ("c", Connections::PerRequest, 1)]
        {
            let at = |host: Host| RedisLoad {
                verb: Verb::Mixed,
                reuse,
                pipeline,
                prefix: prefix.into(),
                ..RedisLoad::new(host.socket(Family::V4, REDIS), 10, 2_000)
            };
            at(Host::Online).run(client)?;
            // The client can't talk to the target: its answers go to the assistant.
            at(Host::Target).run(online)?;
        }
        servers.check_equal(1)?;
        ensure!(servers.check_equal(2).is_err());
        servers.target.call(&["APPEND", "a:1:log", "x"])?;
        ensure!(servers.check_equal(1).is_err(), "one request more went unseen");
        Ok(())
    });
}

#[test]
fn monitor_shows_commands_of_other_hosts() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let monitor = servers.online.monitor()?;
        let server = Host::Online.socket(Family::V6, REDIS);
        lab.host(Host::Client).run(move || RedisClient::connect(server)?.call(&["SET", "k", "v"]))?;
        let lines = monitor.wait_for(1, Duration::from_secs(5))?;
        ensure!(lines[0].contains("[fd77::10]:") && lines[0].ends_with("\"SET\" \"k\" \"v\""), "{lines:?}");
        Ok(())
    });
}

#[test]
fn nginx_logs_every_request_of_wrk_and_ab() {
    lab_test(LabOptions::default(), |lab| {
        let (client, server) = (lab.host(Host::Client), Nginx::start(lab.host(Host::Online), HTTP)?);
        let url = |path: &str| format!("http://{}{path}", Host::Online.socket(Family::V4, HTTP));
        ab(client, &url(Nginx::LARGE), 5, 100)?;
        ensure!(server.wait_for(100, Duration::from_secs(5))?.len() == 100);
        wrk(client, &url(Nginx::SMALL), 5, 1, Duration::from_secs(1))?;
        let mut lines = server.requests()?.split_off(100);
        let count = lines.len();
        ensure!(count > 100, "wrk made {count} requests");
        lines.sort();
        lines.dedup();
        ensure!(lines.len() == count, "wrk's requests are not all different");
        Ok(())
    });
}

#[test]
fn http_server_notes_bodies() {
    lab_test(LabOptions::default(), |lab| {
        let server = HttpServer::start(lab.host(Host::Online), HTTP)?;
        let load = |bytes| HttpLoad {
            server: Host::Online.socket(Family::V6, HTTP),
            connections: 4,
            requests: 40,
            reuse: Connections::Kept,
            request: HttpRequest::Post { bytes },
        };
        load(100_000).run(lab.host(Host::Client))?;
        let first = server.requests();
        ensure!(first.len() == 40 && first.iter().all(|seen| seen.body_bytes == 100_000), "{first:?}");
        load(100_000).run(lab.host(Host::Client))?;
        let again = server.requests().split_off(40);
        check_same(&first, &again)?;
        let mut hashes: Vec<u64> = first.iter().map(|seen| seen.body_hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        ensure!(hashes.len() == 40, "bodies are not all different");
        Ok(()) as Result<()>
    });
}

#[test]
fn users_are_known_by_cookie_and_by_token() {
    lab_test(LabOptions::default(), |lab| {
        let server = HttpServer::start(lab.host(Host::Online), HTTP)?;
        let mut expected = 0;
        for credential in [Credential::Cookie, Credential::BearerToken] {
            let load = LoginLoad {
                server: Host::Online.socket(Family::V4, HTTP),
                users: 12,
                requests: 6,
                credential,
            };
            load.run(lab.host(Host::Client))?;
            expected += load.total();
        }
        let seen = server.requests();
        ensure!(seen.len() == expected, "{} of {expected}", seen.len());
        ensure!(seen.iter().all(|seen| seen.status == 200 && seen.user.starts_with("user")), "{seen:?}");
        let strange = curl(
            lab.host(Host::Client),
            &["-o", "/dev/null", "-w", "%{http_code}", "-b", "session=0", &url("/me")],
        )?;
        ensure!(strange == "401", "{strange}");
        Ok(())
    });
}

#[test]
fn bodies_wait_for_the_word_of_the_server() {
    lab_test(LabOptions::default(), |lab| {
        let (server, client) = (HttpServer::start(lab.host(Host::Online), HTTP)?, lab.host(Host::Client));
        let body = lab.folder().join("body");
        // From 1 MiB on, curl asks first.
        std::fs::write(&body, vec![b'b'; 1_200_000])?;
        let data = format!("@{}", body.display());
        for (path, expected) in [("/upload", "200"), ("/refuse/401/x", "401"), ("/refuse/417/x", "417")] {
            let words = ["-o", "/dev/null", "-w", "%{http_code}", "--data-binary", &data];
            let status = curl(client, &[words.as_slice(), &[&url(path)]].concat())?;
            ensure!(status == expected, "{path}: {status}");
        }
        let seen = server.requests();
        let expected = [(200, 1_200_000), (401, 0), (417, 0)];
        ensure!(seen.iter().map(|seen| (seen.status, seen.body_bytes)).eq(expected), "{seen:?}");
        Ok(())
    });
}

#[test]
fn all_ways_to_end_a_body_are_served() {
    lab_test(LabOptions::default(), |lab| {
        let server = HttpServer::start(lab.host(Host::Online), HTTP)?;
        let load = |request, reuse| HttpLoad {
            server: Host::Online.socket(Family::V4, HTTP),
            connections: 4,
            requests: 20,
            reuse,
            request,
        };
        let client = lab.host(Host::Client);
        load(HttpRequest::Chunked { bytes: 50_000 }, Connections::Kept).run(client)?;
        load(HttpRequest::Get { path: "/events/5" }, Connections::Kept).run(client)?;
        load(HttpRequest::Get { path: "/close/70000" }, Connections::PerRequest).run(client)?;
        let seen = server.requests();
        ensure!(seen.len() == 60 && seen[..20].iter().all(|seen| seen.body_bytes == 50_000), "{seen:?}");
        Ok(())
    });
}

#[test]
fn websocket_messages_come_back() {
    lab_test(LabOptions::default(), |lab| {
        let server = HttpServer::start(lab.host(Host::Online), HTTP)?;
        let load =
            WebSocketLoad { server: Host::Online.socket(Family::V4, HTTP), connections: 5, messages: 20 };
        load.run(lab.host(Host::Client))?;
        let seen = server.requests();
        // A handshake, the messages, and the one that closes.
        ensure!(seen.len() == 5 * 22, "{}", seen.len());
        ensure!(seen.iter().filter(|seen| seen.status == 101).count() == 5);
        Ok(())
    });
}

#[test]
fn redis_wants_its_password() {
    lab_test(LabOptions::default(), |lab| {
        let server = RedisServer::with_password(lab.host(Host::Online), REDIS, "secret")?;
        server.add_user("ann", "hers")?;
        let load = |greeting: &[&str]| RedisLoad {
            greeting: greeting.iter().map(|command| (*command).to_owned()).collect(),
            ..RedisLoad::new(Host::Online.socket(Family::V4, REDIS), 3, 30)
        };
        let client = lab.host(Host::Client);
        ensure!(load(&[]).run(client).is_err(), "no password was wanted");
        load(&["AUTH secret", "SELECT 2"]).run(client)?;
        let mut open = load(&[]).connect(client)?;
        load(&["AUTH ann hers", "SELECT 3"]).run_on(&mut open)?;
        load(&[]).run_on(&mut open)?;
        ensure!(server.calls("set")? == 90, "{}", server.calls("set")?);
        Ok(())
    });
}

fn url(path: &str) -> String {
    format!("http://{}{path}", Host::Online.socket(Family::V4, HTTP))
}
