//! What the Redis plugin is for: passwords of the target, replays that write nothing, and connections that are joined or made
//! again with their state.

use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tcpcopy_lab::load::{Connections, RedisLoad, Verb};
use tcpcopy_lab::plugin::{Kind, Module, are_built};
use tcpcopy_lab::redis::{RedisClient, RedisServer, Value, write_command};
use tcpcopy_lab::scenario::{REDIS, RedisPair, replay_redis, with_report};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, Replay, ReplayOptions, lab_test, plugin_tests};

const ONLINE_PASSWORD: &str = "of-the-online-server";
const TARGET_PASSWORD: &str = "of-the-target";
const SOON: Duration = Duration::from_secs(20);

/// Raises a lab for a test with a module, where modules are built.
fn with_module(module: Module, body: impl FnOnce(&Lab, &ReplayOptions) -> Result<()>) {
    if are_built(&["redis"]) {
        lab_test(LabOptions::default(), |lab| body(lab, &ReplayOptions::new(REDIS).module(module)));
    }
}

fn mixed(connections: usize, requests: usize) -> RedisLoad {
    let server = Host::Online.socket(Family::V4, REDIS);
    RedisLoad { verb: Verb::Mixed, ..RedisLoad::new(server, connections, requests) }
}

fn greeting(commands: &[&str]) -> Vec<String> {
    commands.iter().map(|command| (*command).to_owned()).collect()
}

/// Servers that want a password each, and don't take each other's.
fn guarded_pair(lab: &Lab) -> Result<RedisPair<'_>> {
    Ok(RedisPair {
        online: RedisServer::with_password(lab.host(Host::Online), REDIS, ONLINE_PASSWORD)?,
        target: RedisServer::with_password(lab.host(Host::Target), REDIS, TARGET_PASSWORD)?,
    })
}

fn with_target_password(kind: Kind) -> Module {
    Module::redis(kind).option(&format!("password={TARGET_PASSWORD}"))
}

/// Replays `loads` one after another between `servers`; all of it must be executed on the target.
fn deliver(lab: &Lab, options: &ReplayOptions, servers: &RedisPair<'_>, loads: &[RedisLoad]) -> Result<()> {
    let replay = Replay::start(lab, options)?;
    for load in loads {
        load.run(lab.host(Host::Client)).context("the load on online")?;
    }
    let finished = replay.finish()?;
    with_report(servers.check_equal(1), &finished)?;
    with_report(finished.report().check_delivered(), &finished)
}

/// AUTH, and HELLO with AUTH, carry the target's password to the target.
fn another_password(kind: Kind) {
    with_module(with_target_password(kind), |lab, options| {
        let auth = format!("AUTH {ONLINE_PASSWORD}");
        let hello = format!("HELLO 2 AUTH default {ONLINE_PASSWORD}");
        let by_auth = RedisLoad { greeting: greeting(&[&auth, "SELECT 3"]), ..mixed(20, 10_000) };
        let by_hello =
            RedisLoad { greeting: greeting(&[&hello]), prefix: "hello".into(), ..mixed(20, 10_000) };
        let short = RedisLoad {
            greeting: greeting(&[&auth]),
            prefix: "short".into(),
            reuse: Connections::PerRequest,
            ..mixed(10, 1_000)
        };
        let pipelined = RedisLoad {
            greeting: greeting(&[&auth]),
            prefix: "pipelined".into(),
            pipeline: 16,
            ..mixed(10, 16_000)
        };
        deliver(lab, options, &guarded_pair(lab)?, &[by_auth, by_hello, short, pipelined])
    });
}

/// The control of the one above: as the clients sent it, the target takes nothing.
fn without_its_password_the_target_takes_nothing(kind: Kind) {
    with_module(Module::redis(kind), |lab, options| {
        let servers = guarded_pair(lab)?;
        let replay = Replay::start(lab, options)?;
        let auth = format!("AUTH {ONLINE_PASSWORD}");
        RedisLoad { greeting: greeting(&[&auth]), ..mixed(5, 500) }.run(lab.host(Host::Client))?;
        let finished = replay.finish()?;
        let empty = servers.target.call(&["DBSIZE"])?;
        with_report(
            (|| {
                ensure!(empty == Value::Number(0), "the target has {empty:?} keys");
                Ok(())
            })(),
            &finished,
        )
    });
}

/// Users with names, whose passwords are not the same on both sides.
fn users_with_other_passwords(kind: Kind) {
    let module = with_target_password(kind).option("passwords=ann=anns-on-the-target,bob=bobs-on-the-target");
    with_module(module, |lab, options| {
        let servers = guarded_pair(lab)?;
        let mut loads = Vec::new();
        for user in ["ann", "bob"] {
            servers.online.add_user(user, &format!("{user}s-online"))?;
            servers.target.add_user(user, &format!("{user}s-on-the-target"))?;
            // What each connection leaves behind on the target says as whom it was logged in.
            let log_in = if user == "ann" { "AUTH ann anns-online" } else { "HELLO 2 AUTH bob bobs-online" };
            let load = RedisLoad { prefix: user.into(), verb: Verb::Append, ..mixed(10, 2_000) };
            loads.push(RedisLoad { greeting: greeting(&[log_in]), ..load });
        }
        let anonymous = format!("AUTH {ONLINE_PASSWORD}");
        loads.push(RedisLoad { greeting: greeting(&[&anonymous]), ..mixed(10, 2_000) });
        // Ann may write her own keys only: logged in as somebody else, her requests would be refused, or bob's would be.
        for server in [&servers.online, &servers.target] {
            server.call(&["ACL", "SETUSER", "ann", "resetkeys", "~ann:*"])?;
            server.call(&["ACL", "SETUSER", "bob", "resetkeys", "~bob:*"])?;
        }
        deliver(lab, options, &servers, &loads)
    });
}

/// Reads arrive, writes don't: the target's data is what it was.
fn read_only(kind: Kind) {
    with_module(Module::redis(kind).option("read-only=true"), |lab, options| {
        let servers = RedisPair::start(lab)?;
        let reads = RedisLoad { verb: Verb::Get, ..mixed(20, 10_000) };
        reads.prepare(&servers.online)?;
        reads.prepare(&servers.target)?;
        for number in 0..100 {
            servers.target.call(&["SET", &format!("load:0:{number}"), "of the target itself"])?;
        }
        let (before, sets) = (servers.target.digest()?, servers.target.calls("set")?);
        let replay = Replay::start(lab, options)?;
        mixed(20, 10_000).run(lab.host(Host::Client))?;
        reads.run(lab.host(Host::Client))?;
        RedisLoad { pipeline: 10, prefix: "more".into(), ..mixed(10, 10_000) }.run(lab.host(Host::Client))?;
        reads.run(lab.host(Host::Client))?;
        let finished = replay.finish()?;
        let check = || {
            ensure!(servers.target.digest()? == before, "the target's data has changed");
            let gets = servers.target.calls("get")?;
            ensure!(gets == 2 * reads.total(), "the target got {gets} of {} reads", 2 * reads.total());
            for verb in ["append", "incr"] {
                ensure!(servers.target.calls(verb)? == 0, "the target executed {verb}");
            }
            ensure!(servers.target.calls("set")? == sets, "the target executed SET");
            finished.report().check_sums()
        };
        with_report(check(), &finished)
    });
}

/// What would do harm does not reach the target unless it is asked for, and is counted.
fn dangerous_commands_stay_out(kind: Kind) {
    with_module(Module::redis(kind), |lab, options| {
        let servers = RedisPair::start(lab)?;
        servers.target.call(&["SET", "kept", "by the target"])?;
        let replay = Replay::start(lab, options)?;
        let server = Host::Online.socket(Family::V4, REDIS);
        lab.host(Host::Client).run(move || -> Result<()> {
            let mut client = RedisClient::connect(server)?;
            for words in [
                &["SET", "a", "1"][..],
                &["FLUSHALL"],
                &["CONFIG", "SET", "maxmemory", "100mb"],
                &["SET", "b", "2"],
                &["FLUSHDB"],
                &["SET", "c", "3"],
            ] {
                client.call(words)?;
            }
            Ok(())
        })?;
        let finished = replay.finish()?;
        let check = || {
            for (command, expected) in [("set", 4), ("flushall", 0), ("flushdb", 0), ("config|set", 0)] {
                let calls = servers.target.calls(command)?;
                ensure!(calls == expected, "the target executed {command} {calls} times");
            }
            let counts = finished.report().module("redis")?["counts"].clone();
            let counted =
                |name: &str| counts.as_object().is_some_and(|all| all.keys().any(|key| key.contains(name)));
            ensure!(
                counted("FLUSHALL") || counted("flushall") || counted("dangerous"),
                "not counted: {counts}"
            );
            finished.report().check_sums()
        };
        with_report(check(), &finished)
    });
}

/// Connections that are older than the replay: what they send from now on arrives, and the database that they select is theirs.
fn a_thousand_connections_joined_in_their_midst(kind: Kind) {
    const CONNECTIONS: usize = 1_000;
    with_module(Module::redis(kind), |lab, options| {
        let servers = RedisPair::start(lab)?;
        let client = lab.host(Host::Client);
        let mut stay = mixed(CONNECTIONS, 0).connect(client)?;
        let mut move_on =
            RedisLoad { prefix: "moving".into(), ..mixed(CONNECTIONS / 10, 0) }.connect(client)?;
        let before = |prefix: &str, connections| RedisLoad {
            prefix: prefix.into(),
            ..mixed(connections, 3 * connections)
        };
        before("before", CONNECTIONS).run_on(&mut stay)?;
        before("before-moving", CONNECTIONS / 10).run_on(&mut move_on)?;
        servers.online.reset()?;
        let replay = Replay::start(lab, options)?;
        mixed(CONNECTIONS, 12 * CONNECTIONS).run_on(&mut stay)?;
        RedisLoad {
            greeting: greeting(&["SELECT 5"]),
            prefix: "moved".into(),
            pipeline: 3,
            ..mixed(CONNECTIONS / 10, 12 * CONNECTIONS / 10)
        }
        .run_on(&mut move_on)?;
        RedisLoad { prefix: "later".into(), ..mixed(CONNECTIONS, 3 * CONNECTIONS) }.run_on(&mut stay)?;
        let finished = replay.finish()?;
        with_report(servers.check_equal(1), &finished)?;
        let joined = finished.report().counter("sessions_joined")?;
        ensure!(joined == (CONNECTIONS + CONNECTIONS / 10) as u64, "{joined} sessions were joined");
        with_report(finished.report().check_delivered(), &finished)
    });
}

/// A target that was restarted: sessions log in again, and go on in the database that they were in.
fn a_target_that_is_restarted(kind: Kind) {
    with_module(with_target_password(kind), |lab, options| {
        let RedisPair { online, target } = guarded_pair(lab)?;
        let client = lab.host(Host::Client);
        let auth = format!("AUTH {ONLINE_PASSWORD}");
        let mut replay = Replay::start(lab, options)?;
        let mut first = mixed(20, 0).connect(client)?;
        let mut third = mixed(20, 0).connect(client)?;
        RedisLoad { greeting: greeting(&[&auth]), ..mixed(20, 400) }.run_on(&mut first)?;
        RedisLoad { greeting: greeting(&[&auth, "SELECT 3"]), ..mixed(20, 400) }.run_on(&mut third)?;
        replay.tcpcopy.wait_caught_up(SOON)?;
        drop(target);
        let target = RedisServer::with_password(lab.host(Host::Target), REDIS, TARGET_PASSWORD)?;
        let servers = RedisPair { online, target };
        servers.online.reset()?;
        for (open, prefix) in [(&mut first, "first"), (&mut third, "third")] {
            RedisLoad { prefix: prefix.into(), pipeline: 2, ..mixed(20, 2_000) }.run_on(open)?;
        }
        let finished = replay.finish()?;
        with_report(servers.check_equal(1), &finished)?;
        ensure!(finished.report().counter("reconnects")? >= 40, "{}", finished.report().json());
        with_report(finished.report().check_delivered(), &finished)
    });
}

/// Commands whose replies are of another number than one, or come when nobody asks: what follows them arrives all the same.
fn replies_of_all_kinds(kind: Kind) {
    with_module(Module::redis(kind), |lab, options| {
        replay_redis(lab, options, 1, |_| {
            let server = Host::Online.socket(Family::V4, REDIS);
            lab.host(Host::Client).run(move || (0..10).try_for_each(|id| unusual_commands(server, id)))
        })
        .map(drop)
    });
}

fn unusual_commands(server: std::net::SocketAddr, id: usize) -> Result<()> {
    let mut client = RedisClient::connect(server)?;
    let log = format!("log:{id}");
    let mut pipeline = Vec::new();
    for words in [
        &["MULTI"][..],
        &["APPEND", &log, "in a transaction"],
        &["INCR", &log],
        &["EXEC"],
        &["CLIENT", "REPLY", "SKIP"],
        &["APPEND", &log, "without a reply"],
        &["APPEND", &log, "with a reply"],
        &["CLIENT", "REPLY", "OFF"],
        &["APPEND", &log, "silent"],
        &["CLIENT", "REPLY", "ON"],
        &["APPEND", &log, "loud"],
    ] {
        write_command(&mut pipeline, &words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
    }
    // An inline command, as typed.
    pipeline.extend(format!("APPEND {log} inline\r\n").into_bytes());
    client.send(&pipeline)?;
    ensure!(client.reply()? == Value::Status("OK".into()), "MULTI");
    for _ in 0..2 {
        ensure!(client.reply()? == Value::Status("QUEUED".into()), "a queued command");
    }
    // Among the replies of EXEC is an error: APPEND made no number. They are read as raw lines.
    let exec = client.raw_lines(3)?;
    ensure!(exec[0] == "*2" && exec[2].starts_with('-'), "{exec:?}");
    ensure!(matches!(client.reply()?, Value::Number(_)), "the reply behind the skipped one");
    ensure!(client.reply()? == Value::Status("OK".into()), "CLIENT REPLY ON");
    for what in ["loud", "inline"] {
        ensure!(matches!(client.reply()?, Value::Number(_)), "{what}");
    }
    // A subscriber, a message to it, and back to ordinary commands.
    let channel = format!("channel:{id}");
    client.call(&["SUBSCRIBE", &channel])?;
    let mut other = RedisClient::connect(server)?;
    for number in 0..5 {
        other.call(&["PUBLISH", &channel, &number.to_string()])?;
        client.reply()?;
    }
    client.call(&["UNSUBSCRIBE", &channel])?;
    client.call(&["APPEND", &log, "after the subscription"])?;
    // One that blocks until another connection lets it go on.
    let list = format!("list:{id}");
    let mut blocked = Vec::new();
    write_command(&mut blocked, &[b"BLPOP", list.as_bytes(), b"10"]);
    client.send(&blocked)?;
    std::thread::sleep(Duration::from_millis(20));
    other.call(&["RPUSH", &list, "one"])?;
    ensure!(matches!(client.reply()?, Value::List(items) if items.len() == 2), "BLPOP");
    client.call(&["APPEND", &log, "after the wait"]).map(drop)
}

/// The state of a session is carried to its next connection, whatever made it.
fn names_and_databases_are_kept(kind: Kind) {
    with_module(Module::redis(kind), |lab, options| {
        let RedisPair { online: _online, target } = RedisPair::start(lab)?;
        let server = Host::Online.socket(Family::V4, REDIS);
        let mut replay = Replay::start(lab, options)?;
        let mut client = lab.host(Host::Client).run(move || RedisClient::connect(server))?;
        client.call(&["SELECT", "7"])?;
        client.call(&["CLIENT", "SETNAME", "worker-seven"])?;
        client.call(&["SET", "before", "1"])?;
        replay.tcpcopy.wait_caught_up(SOON)?;
        drop(target);
        let target = RedisServer::start(lab.host(Host::Target), REDIS)?;
        client.call(&["SET", "after", "2"])?;
        let has_it = wait_until("the request after the restart", SOON, || {
            let Value::Bulk(Some(clients)) = target.call(&["CLIENT", "LIST"])? else { return Ok(false) };
            let clients = String::from_utf8_lossy(&clients).into_owned();
            let found = clients.lines().find(|line| line.contains("name=worker-seven "));
            Ok(found.is_some_and(|line| line.contains(" db=7 ")) && target.calls("set")? == 1)
        });
        with_report(has_it, &replay.finish()?)
    });
}

/// Keys and commands that are not wanted stay out, the others go under other names and to another database.
fn keys_and_databases_are_chosen(kind: Kind) {
    let module = Module::redis(kind)
        .option("key-prefix=shadow:")
        .option("databases=3=5")
        .option("drop-keys=private:*")
        .option("drop=append");
    with_module(module, |lab, options| {
        let _servers = RedisPair::start(lab)?;
        let server = Host::Online.socket(Family::V4, REDIS);
        let replay = Replay::start(lab, options)?;
        let mut client = lab.host(Host::Client).run(move || RedisClient::connect(server))?;
        for command in [
            "SET first 1",
            "SET private:key 2",
            "MGET first private:key",
            "SELECT 3",
            "MSET second 3 third 4",
            "APPEND second 5",
            "INCR fourth",
            "RENAME third fifth",
        ] {
            client.call(&command.split(' ').collect::<Vec<_>>())?;
        }
        let finished = replay.finish()?;
        let check = || {
            let mut found = Vec::new();
            for database in [0, 3, 5] {
                let mut client = lab.host(Host::Target).run({
                    let server = Host::Target.socket(Family::V4, REDIS);
                    move || RedisClient::connect(server)
                })?;
                client.call(&["SELECT", &database.to_string()])?;
                for key in ["first", "private:key", "second", "third", "fourth", "fifth"] {
                    for name in [key.to_owned(), format!("shadow:{key}")] {
                        if let Value::Bulk(Some(value)) = client.call(&["GET", &name])? {
                            found.push(format!("{database} {name}={}", String::from_utf8_lossy(&value)));
                        }
                    }
                }
            }
            let expected = ["0 shadow:first=1", "5 shadow:second=3", "5 shadow:fourth=1", "5 shadow:fifth=4"];
            ensure!(found == expected, "the target holds {found:?}");
            let left_out = finished.report().by_reason("requests_given_up")?;
            ensure!(left_out == [("filtered".to_owned(), 3)], "left out: {left_out:?}");
            finished.report().check_sums()
        };
        with_report(check(), &finished)
    });
}

plugin_tests!([
    another_password,
    without_its_password_the_target_takes_nothing,
    users_with_other_passwords,
    read_only,
    dangerous_commands_stay_out,
    a_thousand_connections_joined_in_their_midst,
    a_target_that_is_restarted,
    replies_of_all_kinds,
    names_and_databases_are_kept,
    keys_and_databases_are_chosen,
]);
