//! What the MySQL plugin is for: logins against what the target asks for, statements that really run there, and sessions that
//! are joined or made again with their state.

mod rust_client;

use anyhow::{Context, Result, bail, ensure};
use mysql::prelude::Queryable;
use std::time::Duration;
use tcpcopy_lab::mysql::client::{Security, command_line};
use tcpcopy_lab::mysql::hostile::HostileServer;
use tcpcopy_lab::mysql::log::Logged;
use tcpcopy_lab::mysql::pair::{ONLINE_PASSWORD, TARGET_PASSWORD, USER, login, module, options};
use tcpcopy_lab::mysql::sysbench::Until;
use tcpcopy_lab::mysql::{
    Client, Compression, Flavour, Flavours, Login, MYSQL, MysqlPair, MysqlServer, Plugin, Prepared,
    ServerOptions, Sysbench, Work,
};
use tcpcopy_lab::plugin::{Kind, Module, are_built};
use tcpcopy_lab::replay::Finished;
use tcpcopy_lab::scenario::with_report;
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, Replay, lab_test, plugin_tests};

const SOON: Duration = Duration::from_secs(20);

const MARIADB_TO_MYSQL: Flavours = (Flavour::MariaDb, Flavour::MySql);
const MYSQL_TO_MARIADB: Flavours = (Flavour::MySql, Flavour::MariaDb);
const MARIADB_TO_MARIADB: Flavours = (Flavour::MariaDb, Flavour::MariaDb);

/// Raises a lab for a test, where modules are built.
fn with_lab(body: impl FnOnce(&Lab) -> Result<()>) {
    if are_built(&["mysql"]) {
        lab_test(LabOptions::default(), body);
    }
}

/// As [`with_lab`], for a test that needs little of the machine.
fn with_light_lab(body: impl FnOnce(&Lab) -> Result<()>) {
    if are_built(&["mysql"]) {
        lab_test(LabOptions::light(), body);
    }
}

/// A number that the plugin counted for the user of the tests.
fn counted(finished: &Finished, what: &str) -> Result<u64> {
    finished.report().module_count("mysql", &format!("user \"{USER}\": {what}"))
}

/// Logins over the network that a server wrote down, refused ones included.
fn logins(server: &MysqlServer<'_>, user: &str) -> Result<usize> {
    let prefix = format!("{user}@");
    let log = server.statements()?;
    let is_login = |entry: &&Logged| {
        entry.command == "Connect" && entry.text.starts_with(&prefix) && entry.text.contains("TCP/IP")
    };
    Ok(log.0.iter().filter(is_login).count())
}

/// Each client does its work one after another, with all that it can compress with; rows and statements are the same on both.
fn every_client(kind: Kind, flavours: Flavours) {
    with_light_lab(|lab| {
        let mut servers = MysqlPair::logged(lab, flavours)?;
        let client = lab.host(Host::Client);
        servers.replay(lab, &options(module(kind)), |_, _| {
            let mut id = 0;
            for program in Client::ALL {
                for compression in program.compressions() {
                    if (*compression, flavours.0) == (Compression::Zstd, Flavour::MariaDb) {
                        continue;
                    }
                    id += 1;
                    program.run(client, &login(), *compression, Work { id, rounds: 5 })?;
                }
            }
            for compression in [Compression::Off, Compression::Zlib] {
                id += 1;
                rust_client::run(client, &login(), compression, Work { id, rounds: 5 })?;
            }
            Ok(())
        })?;
        servers.check_same_data()
    });
}

fn every_client_from_mariadb_to_mysql(kind: Kind) {
    every_client(kind, MARIADB_TO_MYSQL);
}

fn every_client_from_mysql_to_mariadb(kind: Kind) {
    every_client(kind, MYSQL_TO_MARIADB);
}

/// Transactions of eight connections: each kind of statement is run as often on the target as online.
fn sysbench_for(kind: Kind, flavours: Flavours, runs: &[(Prepared, Compression, u64)]) {
    with_lab(|lab| {
        let mut servers = MysqlPair::start(lab, flavours)?;
        servers.prepare()?;
        let finished = servers.replay(lab, &options(module(kind)), |_, _| {
            for (prepared, compression, seconds) in runs.iter().copied() {
                let until = Until::Elapsed(Duration::from_secs(seconds));
                let run = Sysbench { prepared, compression, ..Sysbench::new(login(), 8, until) };
                let said = run.run(lab.host(Host::Client))?;
                println!(
                    "{}",
                    said.lines().filter(|line| line.contains("transactions:")).collect::<String>()
                );
            }
            Ok(())
        })?;
        let (online, _) = servers.counted()?;
        println!("{:?}", online.statements());
        println!("{}", finished.report().module("mysql")?["counts"]);
        Ok(())
    });
}

fn sysbench(kind: Kind) {
    let seconds = if kind == Kind::Wasm { 60 } else { 8 };
    sysbench_for(kind, MYSQL_TO_MARIADB, &[(Prepared::Auto, Compression::Off, seconds)]);
}

fn sysbench_with_text_and_compression(kind: Kind) {
    let runs = [
        (Prepared::Disabled, Compression::Off, 5),
        (Prepared::Auto, Compression::Zlib, 5),
        (Prepared::Disabled, Compression::Zlib, 4),
    ];
    sysbench_for(kind, MARIADB_TO_MYSQL, &runs);
}

/// One connection at a time, from the same data: both end with the same.
fn equal_data(kind: Kind) {
    with_light_lab(|lab| {
        let mut servers = MysqlPair::start(lab, MARIADB_TO_MARIADB)?;
        servers.prepare()?;
        let before = servers.target.checksums()?;
        ensure!(before == servers.online.checksums()?, "not the same to begin with");
        servers.replay(lab, &options(module(kind)), |_, replay| {
            for prepared in [Prepared::Auto, Prepared::Disabled] {
                // Connections are independent: the second would begin before the first is done with.
                replay.tcpcopy.wait_caught_up(SOON)?;
                let run = Sysbench { prepared, ..Sysbench::new(login(), 1, Until::Transactions(300)) };
                run.run(lab.host(Host::Client))?;
            }
            Ok(())
        })?;
        ensure!(servers.target.checksums()? != before, "nothing was changed");
        servers.check_same_data()
    });
}

/// Users of all authentication plugins on either side; caching_sha2_password with what the server remembers and without.
fn logins_of_every_plugin(kind: Kind) {
    with_light_lab(|lab| {
        for (flavours, plugins) in [
            (MARIADB_TO_MYSQL, [(Plugin::Native, Plugin::CachingSha2), (Plugin::Ed25519, Plugin::Sha256)]),
            (MYSQL_TO_MARIADB, [(Plugin::CachingSha2, Plugin::Native), (Plugin::Sha256, Plugin::Ed25519)]),
        ] {
            let mut servers = MysqlPair::logged(lab, flavours)?;
            for (number, (online, target)) in plugins.into_iter().enumerate() {
                let user = format!("user{number}");
                servers.online.add_user(&user, ONLINE_PASSWORD, online)?;
                servers.target.add_user(&user, &format!("{number}-{TARGET_PASSWORD}"), target)?;
            }
            let passwords = format!("passwords=user0=0-{TARGET_PASSWORD},user1=1-{TARGET_PASSWORD}");
            let passing = Module::new("mysql", kind).option(&passwords);
            let program = if flavours.0 == Flavour::MySql { Client::MySql } else { Client::MariaDb };
            servers.replay(lab, &options(passing), |servers, replay| {
                for turn in 0..4 {
                    // Full authentication in turns 0 and 2, fast in those behind.
                    if turn % 2 == 0 {
                        replay.tcpcopy.wait_caught_up(SOON)?;
                        for server in [&servers.online, &servers.target] {
                            if server.flavour() == Flavour::MySql {
                                server.forget_passwords()?;
                            }
                        }
                    }
                    for (number, _) in plugins.iter().enumerate() {
                        let login = Login::online(&format!("user{number}"), ONLINE_PASSWORD);
                        let work = Work { id: 10 * turn + number as u32, rounds: 1 };
                        program.run(lab.host(Host::Client), &login, Compression::Off, work)?;
                    }
                }
                Ok(())
            })?;
            for user in ["user0", "user1"] {
                let logged_in = logins(&servers.target, user)?;
                ensure!(logged_in == 4, "{logged_in} logins of {user} on the target");
            }
        }
        Ok(())
    });
}

/// Short connections: as many logins on the target.
fn three_hundred_short_connections(kind: Kind) {
    with_lab(|lab| {
        let mut servers = MysqlPair::logged(lab, MARIADB_TO_MYSQL)?;
        servers.replay(lab, &options(module(kind)), |_, _| short_connections(lab, login(), 30, 10))?;
        let (online, target) = (logins(&servers.online, USER)?, logins(&servers.target, USER)?);
        ensure!((online, target) == (300, 300), "{online} logins on online, {target} on the target");
        ensure!(servers.counted()?.1.get("aborted_connects")? == 0, "logins were broken off");
        Ok(())
    });
}

/// Connects so often on each of some threads, and asks for one thing.
fn short_connections(lab: &Lab, login: Login, threads: usize, each: usize) -> Result<()> {
    lab.host(Host::Client).run(move || {
        let one = |thread: usize| -> Result<()> {
            for number in 0..each {
                let mut connection = rust_client::connect(&login, Compression::Off)?;
                let sum: Option<usize> = connection.query_first(format!("SELECT {thread} + {number}"))?;
                ensure!(sum == Some(thread + number), "{sum:?}");
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a client panicked")))
        })
    })
}

/// A password that the target does not take, or none: every session is reported, and nothing but its login is sent.
fn wrong_and_missing_passwords(kind: Kind) {
    with_light_lab(|lab| {
        let module = Module::new("mysql", kind).option(&format!("passwords={USER}=this-is-not-it"));
        let mut servers = MysqlPair::logged(lab, MARIADB_TO_MYSQL)?;
        servers.online.add_user("stranger", ONLINE_PASSWORD, Plugin::Native)?;
        servers.begin()?;
        let replay = Replay::start(lab, &options(module))?;
        short_connections(lab, login(), 5, 4)?;
        short_connections(lab, Login::online("stranger", ONLINE_PASSWORD), 5, 3)?;
        let finished = replay.finish()?;
        let check = || {
            let log = servers.target.statements()?;
            let sent = |entry: &&Logged| entry.text.contains(" + ");
            ensure!(log.0.iter().filter(sent).count() == 0, "statements were sent: {log:?}");
            let (_, target) = servers.counted()?;
            ensure!(target.statements().is_empty(), "statements were run: {:?}", target.statements());
            let counts = finished.report().module("mysql")?["counts"].clone();
            let number = |user: &str, what: &str| -> u64 {
                let all = counts.as_object().into_iter().flatten();
                let names = all.filter(|(name, _)| name.contains(user) && name.contains(what));
                names.filter_map(|(_, number)| number.as_u64()).sum()
            };
            let refused = number(USER, "Access denied");
            ensure!(refused == 20, "{refused} of 20 refused logins are reported: {counts}");
            let without = number("stranger", "want of a password");
            ensure!(without == 15, "{without} of 15 sessions without a password are reported: {counts}");
            let gave_up = finished.report().by_reason("requests_given_up")?;
            ensure!(!gave_up.is_empty(), "no request was given up");
            finished.report().check_sums()
        };
        with_report(check(), &finished)
    });
}

/// A client that turns to TLS is reported with what to do; others go on.
fn clients_with_tls_are_reported(kind: Kind) {
    with_light_lab(|lab| {
        let mut servers = MysqlPair::start(lab, MYSQL_TO_MARIADB)?;
        servers.begin()?;
        let replay = Replay::start(lab, &options(module(kind)))?;
        for security in [Security::Tls, Security::Plain] {
            command_line(lab.host(Host::Client), Flavour::MariaDb, &login(), security, "DO 1; SELECT 4711")?;
        }
        let finished = replay.finish()?;
        let check = || {
            let (online, target) = servers.counted()?;
            let selects = (online.of_kind("select")?, target.of_kind("select")?);
            ensure!(selects.0 == 2 * selects.1 && selects.1 > 0, "selects on online and target: {selects:?}");
            ensure!(finished.report().module("mysql")?.to_string().contains("TLS"), "not reported");
            let said = &finished.tcpcopy.output;
            ensure!(said.contains("TLS"), "not said");
            finished.report().check_sums()
        };
        with_report(check(), &finished)
    });
}

/// Reads arrive, also in transactions and prepared; nothing that writes or locks does.
fn read_only(kind: Kind) {
    with_lab(|lab| {
        let mut servers = MysqlPair::start(lab, MARIADB_TO_MYSQL)?;
        servers.prepare()?;
        let before = servers.target.checksums()?;
        servers.begin()?;
        let replay = Replay::start(lab, &options(module(kind).option("read-only=true")))?;
        let client = lab.host(Host::Client);
        for prepared in [Prepared::Auto, Prepared::Disabled] {
            let run =
                Sysbench { prepared, ..Sysbench::new(login(), 4, Until::Elapsed(Duration::from_secs(4))) };
            run.run(client)?;
        }
        let careful = "START TRANSACTION; SELECT c FROM sbtest1 WHERE id = 1 FOR UPDATE; \
                       SELECT c FROM sbtest1 WHERE id = 2 LOCK IN SHARE MODE; \
                       /*!50000 UPDATE sbtest1 SET k = 1 */; SELECT 4711; ROLLBACK; \
                       CREATE TABLE more (a INT); INSERT INTO more SELECT 1; DROP TABLE more; \
                       LOCK TABLES sbtest2 WRITE; UNLOCK TABLES; TRUNCATE TABLE sbtest3; \
                       PREPARE late FROM 'DELETE FROM sbtest2'; EXECUTE late; \
                       WITH few AS (SELECT 1 AS id) SELECT COUNT(*) FROM few; \
                       EXPLAIN SELECT * FROM sbtest1";
        command_line(client, Flavour::MariaDb, &login(), Security::Plain, careful)?;
        let finished = replay.finish()?;
        let check = || {
            let (online, target) = servers.counted()?;
            ensure!(servers.target.checksums()? == before, "the target's data has changed");
            ensure!(servers.online.checksums()? != before, "nothing was written online");
            // Two of online's selects lock rows.
            let selects = (online.of_kind("select")?, target.of_kind("select")?);
            ensure!(selects.0 == selects.1 + 2, "selects on online and target: {selects:?}");
            for kind in [
                "insert",
                "update",
                "delete",
                "replace",
                "create_table",
                "drop_table",
                "lock_tables",
                "truncate",
            ] {
                ensure!(target.of_kind(kind)? == 0, "the target ran {kind}: {:?}", target.statements());
            }
            finished.report().check_sums()
        };
        with_report(check(), &finished)
    });
}

/// The statements of one connection, in its order: those that were run, and where each is in the server's log.
type Ran = Vec<(usize, String)>;

/// What was run, by connection, without what a login brings along.
fn by_connection(log: &[Logged]) -> Vec<Ran> {
    let mut connections: std::collections::BTreeMap<u64, Ran> = Default::default();
    for (at, entry) in log.iter().enumerate() {
        let is_load = matches!(entry.command.as_str(), "Query" | "Execute")
            && ["SELECT", "UPDATE", "INSERT", "DELETE"].iter().any(|verb| entry.text.starts_with(verb))
            && entry.text.contains("sbtest");
        if is_load {
            connections.entry(entry.connection).or_default().push((at, entry.text.clone()));
        }
    }
    connections.into_values().collect()
}

/// Connections that are older than the replay: from then on, every statement of each is run, prepared ones included.
fn fifty_busy_connections_joined_in_their_midst(kind: Kind) {
    const CONNECTIONS: u32 = 50;
    with_lab(|lab| {
        let mut servers = MysqlPair::logged(lab, MARIADB_TO_MARIADB)?;
        servers.prepare()?;
        let module =
            module(kind).option(&format!("join-user={USER}")).option("join-statements-from-others=true");
        let module = module.option("join-database=lab");
        let client = lab.host(Host::Client);
        let until = Until::Elapsed(Duration::from_secs(14));
        let mut load = Sysbench { rate: 150, ..Sysbench::new(login(), CONNECTIONS, until) }.start(client)?;
        std::thread::sleep(Duration::from_secs(4));
        let replay = Replay::start(lab, &options(module))?;
        // What they prepared was not captured. A connection of the same application that is, tells.
        Sysbench::new(login(), 1, Until::Transactions(150)).run(client)?;
        // The plugin knows them once that connection has been replayed.
        std::thread::sleep(Duration::from_secs(3));
        let ready = servers.online.statements()?.0.len();
        let status = load.wait(Duration::from_secs(40))?;
        ensure!(status.success(), "sysbench: {}", load.output());
        servers.begin()?;
        let finished = replay.finish()?;
        let check = || {
            let (online, target) = (servers.online.statements()?, servers.target.statements()?);
            let target = by_connection(&target.0);
            let mut missing = Vec::new();
            let (mut expected, mut found) = (0, 0);
            for connection in by_connection(&online.0) {
                let after: Vec<&str> =
                    connection.iter().filter(|(at, _)| *at >= ready).map(|(_, text)| text.as_str()).collect();
                expected += after.len();
                let has_all = |ran: &&Ran| {
                    let from = ran.len().checked_sub(after.len());
                    from.is_some_and(|from| {
                        ran[from..].iter().map(|(_, text)| text.as_str()).eq(after.iter().copied())
                    })
                };
                match after.is_empty() || target.iter().any(|ran| has_all(&ran)) {
                    true => found += after.len(),
                    false => missing.push((after.len(), after[0].to_owned())),
                }
            }
            let joined = finished.report().counter("sessions_joined")?;
            println!("{joined} joined; {found} of {expected} statements in whole connections");
            ensure!(joined == u64::from(CONNECTIONS), "{joined} sessions were joined");
            ensure!(
                missing.is_empty(),
                "{} connections miss statements, such as {:?}",
                missing.len(),
                &missing[..missing.len().min(3)]
            );
            finished.report().check_sums()
        };
        with_report(check(), &finished)
    });
}

/// A target that dies and comes back under load: what it did not run is what the report says.
fn a_target_that_is_killed(kind: Kind) {
    const CONNECTIONS: u64 = 8;
    with_lab(|lab| {
        let mut servers = MysqlPair::logged(lab, MARIADB_TO_MARIADB)?;
        servers.prepare()?;
        let client = lab.host(Host::Client);
        let is_load = |text: &str| text.contains("sbtest") || matches!(text, "BEGIN" | "COMMIT");
        let ran =
            |server: &MysqlServer<'_>| -> Result<u64> { Ok(server.statements()?.run(is_load).len() as u64) };
        let before = (ran(&servers.online)?, ran(&servers.target)?);
        let replay = Replay::start(lab, &options(module(kind)))?;
        let run = Sysbench {
            rate: 100,
            ..Sysbench::new(login(), CONNECTIONS as u32, Until::Elapsed(Duration::from_secs(12)))
        };
        let mut load = run.start(client)?;
        std::thread::sleep(Duration::from_secs(4));
        servers.target.kill()?;
        std::thread::sleep(Duration::from_secs(1));
        servers.target.restart()?;
        let status = load.wait(Duration::from_secs(40))?;
        ensure!(status.success(), "sysbench: {}", load.output());
        let finished = replay.finish()?;
        let check = || {
            let (online, target) = (ran(&servers.online)? - before.0, ran(&servers.target)? - before.1);
            let sent = counted(&finished, "statements sent")?;
            // Sent and not answered, and never sent because there was no connection.
            let lost = counted(&finished, "lost with a connection: statement")?;
            let waited = counted(&finished, "lost with a connection: statement that waited for one")?;
            println!(
                "{online} on online, {target} on target; {sent} sent, {lost} of them lost; {waited} waited in vain"
            );
            println!("{}", finished.report().module("mysql")?["counts"]);
            ensure!(finished.report().counter("reconnects")? >= CONNECTIONS, "sessions were not made again");
            ensure!(
                online == sent + waited,
                "{online} statements on online, but {sent} sent and {waited} that waited"
            );
            // What it began when it died is in its log, though nobody got an answer, but perhaps not the last line of each.
            ensure!(
                (sent - lost - CONNECTIONS..=sent).contains(&target),
                "{target} statements on target, but {sent} sent, and {lost} of these lost"
            );
            ensure!(lost + waited > 0, "nothing was lost: the target was not dead under load");
            finished.report().check_sums()
        };
        with_report(check(), &finished)
    });
}

/// A target that means harm ends the sessions that it harms, and no others.
fn a_hostile_target(kind: Kind) {
    const HONEST: u16 = 3307;
    with_light_lab(|lab| {
        let online = ServerOptions::new(Flavour::MariaDb).logged();
        let target = ServerOptions::new(Flavour::MariaDb).logged().on_port(HONEST);
        let servers = MysqlPair::with_options(lab, online, target)?;
        let honest = Host::Target.socket(Family::V4, HONEST);
        let hostile = HostileServer::start(
            lab.host(Host::Target),
            Host::Target.socket(Family::V4, MYSQL),
            Some(honest),
        )?;
        let mut replay = Replay::start(lab, &options(module(kind)))?;
        short_connections(lab, login(), 8, 10)?;
        // Those that wait for an answer that never comes are not done with, but no load on anybody either.
        let at_work = wait_until("the honest sessions", SOON, || {
            replay.tcpcopy.process.check_running()?;
            Ok(logins(&servers.target, USER)? + hostile.accepted() >= 80)
        });
        std::thread::sleep(Duration::from_secs(2));
        let usage = replay.tcpcopy.process.usage()?;
        let finished = replay.stop()?;
        let check = || {
            at_work?;
            let sent = |text: &str| text.contains(" + ");
            let (came, ran) = (logins(&servers.target, USER)?, servers.target.statements()?.run(sent).len());
            println!("{} treated badly; {came} honest sessions ran {ran} statements", hostile.accepted());
            ensure!(came >= 36 && ran == came, "{came} honest sessions ran {ran} statements");
            let module = finished.report().module("mysql")?;
            ensure!(module["faults"].as_object().is_none_or(serde_json::Map::is_empty), "faults: {module}");
            ensure!(usage.peak_memory < 500 << 20, "{usage:?}");
            finished.report().check_sums()
        };
        with_report(check(), &finished)
    });
}

/// Every capture of MySQL, from elsewhere and of our own: the plugin reads it without a fault.
fn captures(kind: Kind) {
    let Some(corpus) = std::env::var_os("TCPCOPY_CORPUS").map(std::path::PathBuf::from) else {
        eprintln!("skipped: TCPCOPY_CORPUS names no folder of captures");
        return;
    };
    if !are_built(&["mysql"]) {
        return;
    }
    check_captures(kind, &corpus).expect("checking the captures");
}

fn check_captures(kind: Kind, corpus: &std::path::Path) -> Result<()> {
    let manifest = std::fs::read_to_string(corpus.join("MANIFEST.tsv"))?;
    let mut failed = Vec::new();
    let mut checked = 0;
    for line in manifest.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let is_named = ["mysql", "mariadb"].iter().any(|name| columns[0].contains(name));
        let Some(ports) = columns.iter().find(is_mysql).filter(|_| is_named) else { continue };
        let ports: Vec<&str> = ports
            .split(',')
            .filter_map(|port| port.split('x').next())
            .filter(|port| port.starts_with("33"))
            .collect();
        let mut command = std::process::Command::new(tcpcopy_lab::programs::Program::Tcpcopy.find()?);
        command.args([
            "plugin",
            "check",
            "--format",
            "json",
            "--module-opt",
            "password=any",
            "--module-opt",
            "join-user=any",
        ]);
        command.args(["--port", &ports.join(",")]).arg("--pcap").arg(corpus.join(columns[0]));
        command.arg(Module::new("mysql", kind).file()?);
        let output = command.output().with_context(|| format!("starting {command:?}"))?;
        checked += 1;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            failed.push(format!("{}: {said}{}", columns[0], String::from_utf8_lossy(&output.stderr)));
        }
    }
    ensure!(checked >= 20, "only {checked} captures of MySQL are in {}", corpus.display());
    ensure!(failed.is_empty(), "{} of {checked} captures fail:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}

/// Whether a column lists a port of MySQL: `3306x2,80x1`.
fn is_mysql(column: &&&str) -> bool {
    column.split(',').any(|port| {
        port.split_once('x').is_some_and(|(port, count)| {
            port.starts_with("33") && port.parse::<u16>().is_ok() && count.parse::<u32>().is_ok()
        })
    })
}

plugin_tests!([
    every_client_from_mariadb_to_mysql,
    every_client_from_mysql_to_mariadb,
    sysbench,
    sysbench_with_text_and_compression,
    equal_data,
    logins_of_every_plugin,
    three_hundred_short_connections,
    wrong_and_missing_passwords,
    clients_with_tls_are_reported,
    read_only,
    fifty_busy_connections_joined_in_their_midst,
    a_target_that_is_killed,
    a_hostile_target,
    captures,
]);
