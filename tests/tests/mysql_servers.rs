//! The lab's MySQL servers and clients without any replay: what the other tests compare must be able to differ.

mod rust_client;

use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use tcpcopy_lab::mysql::hostile::HostileServer;
use tcpcopy_lab::mysql::log::Logged;
use tcpcopy_lab::mysql::sysbench::Until;
use tcpcopy_lab::mysql::{
    Client, Compression, Counters, Flavour, Login, MYSQL, MysqlServer, Plugin, ServerOptions, Sysbench, Work,
};
use tcpcopy_lab::{Family, Host, Lab, LabOptions, lab_test};

const USER: &str = "app";
const PASSWORD: &str = "of-this-server";

/// Logs in to the server on `host`.
fn login(host: Host) -> Login {
    Login { address: host.addr(Family::V4).to_string(), ..Login::online(USER, PASSWORD) }
}

fn start(lab: &Lab, host: Host, flavour: Flavour) -> Result<MysqlServer<'_>> {
    let server = MysqlServer::start(lab.host(host), ServerOptions::new(flavour).logged())?;
    server.add_user(USER, PASSWORD, Plugin::usual(flavour))?;
    Ok(server)
}

/// The same work on both servers, which a correct replay amounts to, gives equal counts, data and logs; one statement more
/// does not.
fn equal_work_gives_equal_counts(flavour: Flavour) {
    lab_test(LabOptions::default(), |lab| {
        let started = Instant::now();
        let servers = [start(lab, Host::Online, flavour)?, start(lab, Host::Target, flavour)?];
        eprintln!("two servers after {:.1} s", started.elapsed().as_secs_f32());
        // The client can't talk to the target: its answers go to the assistant.
        let places = [(Host::Client, Host::Online), (Host::Online, Host::Target)];
        let mut added = Vec::new();
        for (server, (from, to)) in servers.iter().zip(places) {
            Sysbench::prepare(server)?;
            let before = server.counters()?;
            all_clients(lab, from, &login(to), flavour)?;
            added.push(server.counters()?.since(&before));
        }
        let [online, target] = added.as_slice() else { unreachable!() };
        println!("{:?}", online.statements());
        Counters::check_same_statements(online, target)?;
        for kind in [
            "select",
            "insert",
            "update",
            "begin",
            "stmt_prepare",
            "stmt_execute",
            "stmt_close",
            "set_option",
        ] {
            ensure!(online.of_kind(kind)? > 0, "no client sent {kind}");
        }
        let mut logs = Vec::new();
        for server in &servers {
            logs.push(server.statements()?);
        }
        let sent = |command: &Logged| command.text.contains("typed_");
        ensure!(logs[0].texts(sent) == logs[1].texts(sent), "the logs differ");
        ensure!(servers[0].checksums()? == servers[1].checksums()?, "the data differs");
        servers[1].sql("UPDATE lab.typed_1 SET note = 'x' LIMIT 1")?;
        ensure!(servers[0].checksums()? != servers[1].checksums()?, "a changed row went unseen");
        let more = servers[1].counters()?;
        ensure!(Counters::check_same_statements(&servers[0].counters()?, &more).is_err(), "went unseen");
        Ok(())
    });
}

fn all_clients(lab: &Lab, from: Host, login: &Login, flavour: Flavour) -> Result<()> {
    let host = lab.host(from);
    let mut id = 0;
    for client in Client::ALL {
        for compression in client.compressions() {
            if (*compression, flavour) == (Compression::Zstd, Flavour::MariaDb) {
                continue;
            }
            id += 1;
            let started = Instant::now();
            client.run(host, login, *compression, Work { id, rounds: 3 })?;
            eprintln!("{} {compression:?}: {:.2} s", client.name(), started.elapsed().as_secs_f32());
        }
    }
    for compression in [Compression::Off, Compression::Zlib] {
        id += 1;
        rust_client::run(host, login, compression, Work { id, rounds: 3 })?;
    }
    for (prepared, compression) in [
        (tcpcopy_lab::mysql::Prepared::Auto, Compression::Off),
        (tcpcopy_lab::mysql::Prepared::Disabled, Compression::Zlib),
    ] {
        let run =
            Sysbench { prepared, compression, ..Sysbench::new(login.clone(), 1, Until::Transactions(30)) };
        run.run(host).context("sysbench")?;
    }
    Ok(())
}

#[test]
fn equal_work_on_mariadb() {
    equal_work_gives_equal_counts(Flavour::MariaDb);
}

#[test]
fn equal_work_on_mysql() {
    equal_work_gives_equal_counts(Flavour::MySql);
}

/// What is committed outlives a crash, and the log goes on where it was.
fn a_killed_server_comes_back(flavour: Flavour) {
    lab_test(LabOptions::default(), |lab| {
        let mut server = start(lab, Host::Online, flavour)?;
        server.sql("CREATE TABLE lab.kept (a INT); INSERT INTO lab.kept VALUES (1), (2)")?;
        let before = server.checksums()?;
        server.kill()?;
        ensure!(server.sql("SELECT 1").is_err(), "it answers though it is dead");
        server.restart()?;
        ensure!(server.checksums()? == before, "data was lost");
        server.sql("INSERT INTO lab.kept VALUES (3)")?;
        let log = server.statements()?;
        ensure!(log.run(|text| text.contains("INSERT INTO lab.kept")).len() == 2, "{log:?}");
        Ok(())
    });
}

#[test]
fn killed_servers_come_back() {
    a_killed_server_comes_back(Flavour::MariaDb);
    a_killed_server_comes_back(Flavour::MySql);
}

/// Every way to prove who one is that the servers know.
#[test]
fn users_of_every_plugin_log_in() {
    lab_test(LabOptions::default(), |lab| {
        for (flavour, plugins) in [
            (Flavour::MariaDb, [Plugin::Native, Plugin::Ed25519]),
            (Flavour::MySql, [Plugin::CachingSha2, Plugin::Sha256]),
        ] {
            let server = MysqlServer::start(lab.host(Host::Online), ServerOptions::new(flavour))?;
            for (number, plugin) in plugins.into_iter().enumerate() {
                let name = format!("user{number}");
                server.add_user(&name, PASSWORD, plugin)?;
                let login = |password| Login::online(&name, password);
                // MySQL's own client knows its own plugins, MariaDB's all of these.
                let client = if flavour == Flavour::MySql { Client::MySql } else { Client::MariaDb };
                let work = Work { id: number as u32, rounds: 1 };
                client.run(lab.host(Host::Client), &login(PASSWORD), Compression::Off, work)?;
                let refused = client.run(lab.host(Host::Client), &login("another"), Compression::Off, work);
                ensure!(refused.is_err_and(|error| format!("{error:#}").contains("denied")), "{plugin:?}");
            }
        }
        Ok(())
    });
}

/// The hostile server is one: no driver comes through, and none of its threads ends it.
#[test]
fn nobody_comes_through_to_the_hostile_server() {
    lab_test(LabOptions::default(), |lab| {
        let server =
            HostileServer::start(lab.host(Host::Online), Host::Online.socket(Family::V4, MYSQL), None)?;
        let started = Instant::now();
        for _ in 0..3 {
            let refused = Client::MariaDb.run(
                lab.host(Host::Client),
                &login(Host::Online),
                Compression::Off,
                Work { id: 1, rounds: 1 },
            );
            ensure!(refused.is_err(), "a login went well");
        }
        ensure!(server.accepted() == 3, "{} connections", server.accepted());
        ensure!(started.elapsed() < Duration::from_secs(60));
        Ok(())
    });
}
