//! The lab's servers and load without any replay: what the other tests compare must be able to differ.

use anyhow::{Result, ensure};
use std::time::Duration;
use tcpcopy_lab::http::{HttpLoad, HttpRequest, ab, wrk};
use tcpcopy_lab::httpd::HttpServer;
use tcpcopy_lab::load::{Connections, RedisLoad, Verb};
use tcpcopy_lab::nginx::Nginx;
use tcpcopy_lab::redis::RedisClient;
use tcpcopy_lab::scenario::{HTTP, REDIS, RedisPair, check_same};
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
