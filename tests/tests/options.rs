//! Options that change what is replayed, and how: each shows in what arrives.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tcpcopy_lab::host::RunningHost;
use tcpcopy_lab::http::{HttpLoad, HttpRequest};
use tcpcopy_lab::load::{Connections, RedisLoad, Verb};
use tcpcopy_lab::programs::Program;
use tcpcopy_lab::redis::RedisClient;
use tcpcopy_lab::replay::{RELAY_PORT, intercept_args, is_connected, tcpcopy_args, token_file};
use tcpcopy_lab::scenario::{HTTP, REDIS, RedisPair, replay_http, replay_redis};
use tcpcopy_lab::wait::{wait_for, wait_until};
use tcpcopy_lab::{Family, Host, LabOptions, Replay, ReplayOptions, lab_test};

const SOON: Duration = Duration::from_secs(20);

fn mixed(connections: usize, requests: usize) -> RedisLoad {
    let server = Host::Online.socket(Family::V4, REDIS);
    RedisLoad { verb: Verb::Mixed, ..RedisLoad::new(server, connections, requests) }
}

/// `-W`: nothing waits for the target's answers, and everything arrives in order all the same.
#[test]
fn without_waiting() {
    lab_test(LabOptions::default(), |lab| {
        let options = ReplayOptions::new(REDIS).tcpcopy("-W");
        replay_redis(lab, &options, 1, |_| mixed(20, 20_000).run(lab.host(Host::Client))).map(drop)
    });
}

/// `-H`: clients that connect through the loopback get an address that the target can answer to.
#[test]
fn clients_on_the_loopback_with_an_address() {
    lab_test(LabOptions::default(), |lab| {
        // The real client's address is routed to the assistant, and nobody else uses it here.
        let words = format!("-H {}", Host::Client.addr(Family::V4));
        let options = ReplayOptions::new(REDIS).tcpcopy(&words);
        replay_redis(lab, &options, 1, |_| {
            let server = ([127, 0, 0, 1], REDIS).into();
            RedisLoad { server, ..mixed(5, 2_000) }.run(lab.host(Host::Online))
        })
        .map(drop)
    });
}

/// Without `-H` they are left out and counted; others are replayed as ever.
#[test]
fn clients_on_the_loopback_without_an_address() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let replay = Replay::start(lab, &ReplayOptions::new(REDIS))?;
        let local = RedisLoad { server: ([127, 0, 0, 1], REDIS).into(), ..mixed(3, 30) };
        local.run(lab.host(Host::Online))?;
        RedisLoad { prefix: "remote".into(), ..mixed(5, 500) }.run(lab.host(Host::Client))?;
        let finished = replay.finish()?;
        let report = finished.report();
        ensure!(report.counter("connections_loopback")? == 3, "{report:?}");
        ensure!(report.counter("requests_acknowledged")? == 500, "{report:?}");
        let calls: u64 =
            ["set", "append", "incr"].iter().map(|verb| servers.target.calls(verb)).sum::<Result<u64>>()?;
        ensure!(calls == 500, "the target got {calls} requests");
        report.check_sums()
    });
}

/// `-r`: about as many connections as asked for, each of them whole.
#[test]
fn a_percentage_of_connections() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let replay = Replay::start(lab, &ReplayOptions::new(REDIS).tcpcopy("-r 30"))?;
        RedisLoad { reuse: Connections::PerRequest, verb: Verb::Set, ..mixed(10, 1_000) }
            .run(lab.host(Host::Client))?;
        let finished = replay.finish()?;
        let report = finished.report();
        let (seen, left_out) =
            (report.counter("connections_seen")?, report.counter("connections_sampled_out")?);
        ensure!(seen == 1_000 && (500..900).contains(&left_out), "{report:?}");
        ensure!(servers.target.calls("set")? == seen - left_out, "{report:?}");
        report.check_delivered()
    });
}

/// `-R`: the target sees clients that are that far away, so one connection can't be faster than that.
#[test]
fn a_round_trip_for_all() {
    lab_test(LabOptions::default(), |lab| {
        let started = Instant::now();
        let options = ReplayOptions::new(REDIS).tcpcopy("-R 20");
        replay_redis(lab, &options, 1, |_| mixed(2, 200).run(lab.host(Host::Client)))?;
        // A round trip for the handshake, and one between each two of a connection's 100 requests.
        let elapsed = started.elapsed();
        ensure!(elapsed > Duration::from_millis(20) * 99, "100 requests in a row took {elapsed:?}");
        Ok(())
    });
}

/// A way that takes less than the interface says: packets that turn out too long are made shorter, and nothing is lost.
#[test]
fn a_path_that_gets_narrower() {
    lab_test(LabOptions::default(), |lab| {
        let target = Host::Target.addr(Family::V4);
        replay_http(lab, &ReplayOptions::new(HTTP), || {
            let load = HttpLoad {
                server: Host::Online.socket(Family::V4, HTTP),
                connections: 5,
                requests: 200,
                reuse: Connections::Kept,
                request: HttpRequest::Post { bytes: 20_000 },
            };
            load.run(lab.host(Host::Client))?;
            lab.host(Host::Online).ip(&format!("route replace {target}/32 dev eth0 mtu 1200"))?;
            load.run(lab.host(Host::Client))
        })
        .map(drop)
    });
}

/// A connection that was open before is joined at its next request by default, and left alone with `-O`.
#[test]
fn connections_that_were_open_before() {
    lab_test(LabOptions::default(), |lab| {
        for (words, joined) in [("", 10), ("-O", 0)] {
            let servers = RedisPair::start(lab)?;
            let server = Host::Online.socket(Family::V4, REDIS);
            let mut client = lab.host(Host::Client).run(move || RedisClient::connect(server))?;
            client.call(&["SET", "early", "1"])?;
            let replay = Replay::start(lab, &ReplayOptions::new(REDIS).tcpcopy(words))?;
            for round in 0..11 {
                client.call(&["APPEND", "late", &round.to_string()])?;
                std::thread::sleep(Duration::from_millis(5));
            }
            drop(client);
            // What the first captured packet belongs to is not known, so the first request may be left out.
            let arrived =
                wait_until("the joined requests", SOON, || Ok(servers.target.calls("append")? >= joined));
            let finished = replay.finish()?;
            arrived?;
            let calls = servers.target.calls("append")?;
            ensure!((joined..=joined + u64::from(joined > 0)).contains(&calls), "{calls} with {words:?}");
            finished.report().check_sums()?;
        }
        Ok(())
    });
}

/// A program in the background, ended when the test is over.
struct Background(Pid);

impl Background {
    /// Starts `program` with `-d`, and takes its number from the file that `-P` asks for.
    fn start(host: &RunningHost, program: Program, args: &[String], name: &str) -> Result<Self> {
        let file = host.folder().join(format!("{name}.pid"));
        let mut command = Command::new(program.find()?);
        command.args(args).arg("-d").arg("-P").arg(&file).arg("-l").arg(Self::log(host, name));
        host.output(command).with_context(|| format!("{name} did not go to the background"))?;
        let number = wait_for("the process number", SOON, || {
            Ok(std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()))
        })?;
        Ok(Self(Pid::from_raw(number)))
    }

    fn log(host: &RunningHost, name: &str) -> PathBuf {
        host.folder().join(format!("{name}-background.log"))
    }

    fn is_running(&self) -> bool {
        kill(self.0, None).is_ok()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // One that has ended can't be killed any more.
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

/// `-d -P -l`: both programs leave the terminal, can be found by their files, replay, and write their report when ended.
#[test]
fn in_the_background() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let options = ReplayOptions::new(REDIS);
        let token = token_file(lab, "token", "a token for the lab, long enough")?;
        let (online, assistant) = (lab.host(Host::Online), lab.host(Host::Assistant));
        let args = intercept_args(&options, &token);
        let intercept = Background::start(assistant, Program::Intercept, &args, "intercept")?;
        assistant.wait_for_listener(RELAY_PORT, SOON)?;
        let args = tcpcopy_args(&options, &token);
        let tcpcopy = Background::start(online, Program::Tcpcopy, &args, "tcpcopy")?;
        wait_until("tcpcopy to be connected", SOON, || is_connected(online))?;
        std::thread::sleep(Duration::from_millis(300));
        mixed(5, 500).run(lab.host(Host::Client))?;
        wait_until("the target to hold the same", SOON, || Ok(servers.check_equal(1).is_ok()))?;
        for (host, program, name, word) in [
            (online, &tcpcopy, "tcpcopy", "The counters add up"),
            (assistant, &intercept, "intercept", "total: captured"),
        ] {
            kill(program.0, Signal::SIGTERM)?;
            wait_until("the end of a background program", SOON, || Ok(!program.is_running()))?;
            let log = std::fs::read_to_string(Background::log(host, name))?;
            ensure!(log.contains(word), "no closing report in the log of {name}:\n{log}");
            ensure!(!host.folder().join(format!("{name}.pid")).exists(), "{name} left its file");
        }
        Ok(())
    });
}

/// `--decap`: clients that come through a tunnel are replayed from what the capture sees of it, as from a mirror port.
#[test]
fn clients_in_a_tunnel() {
    lab_test(LabOptions::default(), |lab| {
        let (client, online) = (lab.host(Host::Client), lab.host(Host::Online));
        let inner = |host: Host| {
            format!("10.79.0.{}", Host::addr(host, Family::V4).to_string().rsplit('.').next().unwrap_or("1"))
        };
        for (here, there) in [(Host::Client, Host::Online), (Host::Online, Host::Client)] {
            let (own, remote) = (here.addr(Family::V4), there.addr(Family::V4));
            let host = lab.host(here);
            host.ip(&format!(
                "link add tunnel type vxlan id 7 local {own} remote {remote} dstport 4789 dev eth0"
            ))?;
            host.ip(&format!("address add {}/24 dev tunnel", inner(here)))?;
            host.ip("link set dev tunnel up")?;
        }
        // On eth0 there is nothing but the tunnel; the inner clients get addresses that the target has a route for.
        let options = ReplayOptions::new(REDIS).tcpcopy("-i eth0 --decap vxlan -c 10.78.0.0/24");
        let finished = replay_redis(lab, &options, 1, |servers| {
            let server = format!("{}:{REDIS}", inner(Host::Online)).parse()?;
            RedisLoad { server, ..mixed(20, 20_000) }.run(client)?;
            ensure!(servers.online.calls("set")? > 0);
            Ok(())
        })?;
        ensure!(finished.report().counter("packets_decapsulated")? > 20_000);
        online.ip("link del tunnel")
    });
}
