//! Several `tcpcopy` with one `intercept`, and one `tcpcopy` with several.

use anyhow::{Result, ensure};
use std::time::Duration;
use tcpcopy_lab::load::{RedisLoad, Verb};
use tcpcopy_lab::replay::{RELAY_PORT, Tcpcopy, intercept_args, start_intercept, tcpcopy_args, token_file};
use tcpcopy_lab::scenario::{REDIS, RedisPair, replay_redis};
use tcpcopy_lab::{Family, Host, LabOptions, ReplayOptions, lab_test};

fn load(verb: Verb) -> RedisLoad {
    RedisLoad { verb, ..RedisLoad::new(Host::Online.socket(Family::V4, REDIS), 50, 50_000) }
}

/// Both replay all of the traffic, kept apart by `-f`.
#[test]
fn two_tcpcopy_share_one_intercept() {
    two_instances(["-f 1", "-f 2"]);
}

/// Without `-f` both want every client's own port: the one that comes second is refused the route, and takes another.
#[test]
fn two_tcpcopy_that_want_the_same_ports() {
    two_instances(["", ""]);
}

fn two_instances(options_of_each: [&'static str; 2]) {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let options = ReplayOptions::new(REDIS);
        let token = token_file(lab, "token", "a token for the lab, long enough")?;
        let _intercept = start_intercept(lab, RELAY_PORT, &intercept_args(&options, &token))?;
        let mut instances = Vec::new();
        for words in options_of_each {
            let captures = lab.host(Host::Online).packet_sockets()?;
            let mut instance = Tcpcopy::start(lab, &tcpcopy_args(&options.clone().tcpcopy(words), &token))?;
            instance.wait_ready(lab, captures)?;
            instances.push(instance);
        }
        // SET only: both copies write the same keys, and only then does their order make no difference.
        load(Verb::Set).run(lab.host(Host::Client))?;
        for instance in &mut instances {
            instance.wait_caught_up(Duration::from_secs(60))?;
        }
        servers.check_equal(2)?;
        for instance in &mut instances {
            instance.stop()?.report.check_delivered()?;
        }
        Ok(())
    });
}

/// The target's replies may come to any of them; here one hears nothing and the other everything.
#[test]
fn one_tcpcopy_uses_two_intercepts() {
    lab_test(LabOptions::default(), |lab| {
        let second = ReplayOptions {
            intercept_filter: Some("tcp and src port 9".to_owned()),
            ..ReplayOptions::new(REDIS).intercept("-p 36525")
        };
        let token = token_file(lab, "token", "a token for the lab, long enough")?;
        let _second = start_intercept(lab, 36525, &intercept_args(&second, &token))?;
        let assistant = Host::Assistant.addr(Family::V4);
        let options = ReplayOptions::new(REDIS).tcpcopy(&format!("-s {assistant}:36525,{assistant}"));
        let finished = replay_redis(lab, &options, 1, |_| load(Verb::Mixed).run(lab.host(Host::Client)))?;
        let relays = finished.report().json()["relay"].as_array().map_or(0, Vec::len);
        ensure!(relays == 2, "{relays} intercepts in the report");
        Ok(()) as Result<()>
    });
}
