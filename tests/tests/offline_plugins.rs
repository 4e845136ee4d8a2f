//! Recordings replayed offline through the plugins of their protocols.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::time::Duration;
use tcpcopy_lab::http::{HttpLoad, HttpRequest};
use tcpcopy_lab::load::{Connections, RedisLoad, Verb};
use tcpcopy_lab::mysql::pair::{check_delivered, login, module as mysql_module, options as mysql_options};
use tcpcopy_lab::mysql::server::{MysqlServer, Plugin, ServerOptions};
use tcpcopy_lab::mysql::sysbench::Until;
use tcpcopy_lab::mysql::{
    Client, Compression, Flavour, Flavours, MYSQL, MysqlPair, Prepared, Sysbench, Work,
};
use tcpcopy_lab::plugin::{Kind, Module, are_built};
use tcpcopy_lab::recording::record;
use tcpcopy_lab::redis::RedisServer;
use tcpcopy_lab::scenario::{HTTP, HttpPair, REDIS, RedisPair, check_same, with_report};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, Offline, ReplayOptions, lab_test, plugin_tests};

const ONLINE_PASSWORD: &str = "of-the-online-server";
const TARGET_PASSWORD: &str = "of-the-target";

/// Raises a lab for a test, where the plugin is built.
fn with_lab(plugin: &str, body: impl FnOnce(&Lab) -> Result<()>) {
    if are_built(&[plugin]) {
        lab_test(LabOptions::default(), body);
    }
}

/// Pipelines, long and short connections to servers whose passwords are not the same.
fn redis_with_another_password(kind: Kind) {
    with_lab("redis", |lab| {
        let servers = RedisPair {
            online: RedisServer::with_password(lab.host(Host::Online), REDIS, ONLINE_PASSWORD)?,
            target: RedisServer::with_password(lab.host(Host::Target), REDIS, TARGET_PASSWORD)?,
        };
        let server = Host::Online.socket(Family::V4, REDIS);
        let greeting = vec![format!("AUTH {ONLINE_PASSWORD}")];
        let kept = RedisLoad { verb: Verb::Mixed, greeting, ..RedisLoad::new(server, 30, 15_000) };
        let pipelined =
            RedisLoad { pipeline: 16, prefix: "pipelined".into(), requests: 40_000, ..kept.clone() };
        let short = RedisLoad {
            reuse: Connections::PerRequest,
            prefix: "short".into(),
            requests: 1_500,
            ..kept.clone()
        };
        let (file, _) = record(lab, &[REDIS], || {
            [&kept, &pipelined, &short].into_iter().try_for_each(|load| load.run(lab.host(Host::Client)))
        })?;
        let module = Module::redis(kind).option(&format!("password={TARGET_PASSWORD}"));
        let options = ReplayOptions::new(REDIS).module(module);
        for speed in ["--asap", "-a 10", ""] {
            servers.target.reset()?;
            let finished = Offline::run(lab, &options, &[&file], speed)?;
            let equal = servers.check_equal(1).with_context(|| format!("replayed with {speed:?}"));
            with_report(equal, &finished)?;
            with_report(finished.report().check_delivered(), &finished)?;
        }
        Ok(())
    });
}

/// Bodies of both framings, and gets.
fn http_requests_of_all_kinds(kind: Kind) {
    with_lab("http", |lab| {
        let servers = HttpPair::start(lab)?;
        let load = |request, requests| HttpLoad {
            server: Host::Online.socket(Family::V4, HTTP),
            connections: 10,
            requests,
            reuse: Connections::Kept,
            request,
        };
        let posts = load(HttpRequest::Post { bytes: 20_000 }, 1_000);
        let loads = [
            load(HttpRequest::Get { path: "/bytes/5000" }, 4_000),
            load(HttpRequest::Chunked { bytes: 30_000 }, 500),
            posts,
            HttpLoad { reuse: Connections::PerRequest, connections: 5, ..posts },
        ];
        let (file, _) =
            record(lab, &[HTTP], || loads.iter().try_for_each(|load| load.run(lab.host(Host::Client))))?;
        let expected = servers.online.requests();
        ensure!(expected.len() == loads.iter().map(HttpLoad::total).sum::<usize>());
        let options = ReplayOptions::new(HTTP).module(Module::http(kind));
        for speed in ["--asap", "-a 10", ""] {
            servers.target.reset();
            let finished = Offline::run(lab, &options, &[&file], speed)?;
            let _ = wait_until("the target to note what it got", Duration::from_secs(5), || {
                Ok(servers.target.requests().len() >= expected.len())
            });
            let same = check_same(&expected, &servers.target.requests());
            with_report(same.with_context(|| format!("replayed with {speed:?}")), &finished)?;
            with_report(finished.report().check_delivered(), &finished)?;
        }
        Ok(())
    });
}

/// Records transactions and what people type, and replays them to a server with other passwords.
fn mysql(kind: Kind, flavours: Flavours, speed: &str) {
    with_lab("mysql", |lab| {
        let mut servers = MysqlPair::start(lab, flavours)?;
        servers.prepare()?;
        servers.begin()?;
        let client = lab.host(Host::Client);
        let (file, _) = record(lab, &[MYSQL], || {
            for prepared in [Prepared::Auto, Prepared::Disabled] {
                let run = Sysbench { prepared, ..Sysbench::new(login(), 4, Until::Transactions(100)) };
                run.run(client)?;
            }
            for (id, program) in [Client::MariaDb, Client::PyMysql].into_iter().enumerate() {
                program.run(client, &login(), Compression::Off, Work { id: id as u32, rounds: 5 })?;
            }
            Ok(())
        })?;
        let finished = Offline::run(lab, &mysql_options(mysql_module(kind)), &[file], speed)?;
        with_report(servers.check_same_statements(), &finished)?;
        with_report(check_delivered(&finished), &finished)?;
        let (online, _) = servers.counted()?;
        ensure!(online.of_kind("select")? > 1_000, "hardly anything was asked: {:?}", online.statements());
        Ok(())
    });
}

fn mysql_to_mysql(kind: Kind) {
    mysql(kind, (Flavour::MariaDb, Flavour::MySql), "--asap");
}

fn mysql_to_mariadb(kind: Kind) {
    mysql(kind, (Flavour::MariaDb, Flavour::MariaDb), "-a 2");
}

/// Captures of the corpus with complete sessions in the clear: the file, the port of the server, and the least number of commands that
/// the target must count. Tables and data are not there, so many are answered with an error; they arrive all the same.
const MYSQL_CAPTURES: &[(&str, u16, u64)] = &[
    ("local_mysql97_sha2_auth_variants.pcap", 33_090, 1),
    ("local_mysql97_cli_rsa.pcap", 33_090, 2),
    ("local_mysql97_connector_longdata.pcap", 33_090, 20),
    ("local_mysql97_node_zlib.pcap", 33_090, 20),
    ("local_mysql97_zstd.pcap", 33_090, 5),
    ("local_ipv6_http_mysql.pcap", 33_090, 1),
    ("local_mariadb118_sha2_authswitch.pcap", 33_118, 1),
    ("local_mariadb1011_native_ed25519.pcap", 33_110, 1),
    ("local_mariadb1011_node_all_cmds.pcap", 33_110, 20),
    ("local_mariadb1011_zlib.pcap", 33_110, 5),
    ("local_mariadb1011_sysbench_ps.pcap", 33_110, 20),
    ("mysql_caching_sha2_miss_rsafull_fast.pcap", 3306, 1),
    ("mysql_auth_ok_fail_hostblocked.pcap", 3306, 1),
    ("mysql_change_user_ok.pcap", 3306, 1),
    ("mysql_change_user_err.pcap", 3306, 1),
    ("mysql_plain_rds.pcap", 3306, 1),
    ("mysql9_query_attr.pcap", 3306, 1),
    ("mysql_deprecate_eof.pcap", 3306, 5),
];
/// Users in these captures that the target lets in, and those that it does not know.
const CAPTURED_USERS: [&str; 13] = [
    "sha2",
    "sha2b",
    "s256",
    "nopw",
    "nat",
    "nat2",
    "ed",
    "sbtest",
    "admin",
    "root",
    "root2",
    "root_nope",
    "nosuch",
];

/// Captures of MySQL from elsewhere reach a server of today: nothing of them is lost.
fn mysql_captures(kind: Kind) {
    let Some(corpus) = std::env::var_os("TCPCOPY_CORPUS").map(PathBuf::from) else {
        eprintln!("skipped: TCPCOPY_CORPUS names no folder of captures");
        return;
    };
    with_lab("mysql", |lab| {
        let target = MysqlServer::start(lab.host(Host::Target), ServerOptions::new(Flavour::MySql))?;
        for user in CAPTURED_USERS {
            target.add_user(user, TARGET_PASSWORD, Plugin::CachingSha2)?;
        }
        target.sql("CREATE DATABASE t; CREATE DATABASE test; CREATE DATABASE sbtest")?;
        let mut wrong = Vec::new();
        for (name, port, least) in MYSQL_CAPTURES.iter().copied() {
            let questions = || -> Result<u64> {
                let line = target.sql("SHOW GLOBAL STATUS LIKE 'Questions'")?;
                Ok(line.split_whitespace().last().context("no counter of questions")?.parse()?)
            };
            let before = questions()?;
            let module = Module::new("mysql", kind).port(port).option(&format!("password={TARGET_PASSWORD}"));
            let words = if port == MYSQL {
                String::new()
            } else {
                format!("-x {port}-{}", Host::Target.socket(Family::V4, MYSQL))
            };
            let options = ReplayOptions::new(MYSQL).module(module).tcpcopy(&words);
            let finished = Offline::run(lab, &options, &[corpus.join(name)], "--asap -t 20 -c 10.78.0.0/24");
            // Asking counts as well.
            let asked = questions()? - before - 1;
            match finished {
                Ok(_) if asked < least => wrong.push(format!("{name}: {asked} commands arrived")),
                Ok(_) => {}
                Err(error) => wrong.push(format!("{name}: {error:#}")),
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    });
}

plugin_tests!([
    redis_with_another_password,
    http_requests_of_all_kinds,
    mysql_to_mysql,
    mysql_to_mariadb,
    mysql_captures,
]);
