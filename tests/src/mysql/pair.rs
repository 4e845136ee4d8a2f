//! The frame of the MySQL tests: a server on online and one on target, the same users with other passwords, and both compared.

use super::counters::Counters;
use super::log::Statements;
use super::server::{DATABASE, MysqlServer, Plugin, ServerOptions};
use super::{Flavour, Login, MYSQL, Sysbench};
use crate::host::Host;
use crate::lab::Lab;
use crate::plugin::{Kind, Module};
use crate::replay::{Finished, Replay, ReplayOptions};
use crate::scenario::{check_same, with_report};
use crate::wait::wait_until;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// The user of the tests.
pub const USER: &str = "app";
/// Its password on the online server.
pub const ONLINE_PASSWORD: &str = "of-the-online-server";
/// Its password on the target.
pub const TARGET_PASSWORD: &str = "Of-the-target!";

/// The kinds of servers of a test: online and target.
pub type Flavours = (Flavour, Flavour);

/// A server on online and one on target.
pub struct MysqlPair<'lab> {
    /// The one that the clients talk to.
    pub online: MysqlServer<'lab>,
    /// The one under test.
    pub target: MysqlServer<'lab>,
    before: Option<(Counters, Counters)>,
}

impl<'lab> MysqlPair<'lab> {
    /// Starts both, with a user whose passwords they don't share.
    ///
    /// # Errors
    /// As [`MysqlServer::start`].
    pub fn start(lab: &'lab Lab, (online, target): Flavours) -> Result<Self> {
        Self::with_options(lab, ServerOptions::new(online), ServerOptions::new(target))
    }

    /// As [`MysqlPair::start`], servers that write down what they get.
    ///
    /// # Errors
    /// As [`MysqlServer::start`].
    pub fn logged(lab: &'lab Lab, (online, target): Flavours) -> Result<Self> {
        Self::with_options(lab, ServerOptions::new(online).logged(), ServerOptions::new(target).logged())
    }

    /// As [`MysqlPair::start`], with more options.
    ///
    /// # Errors
    /// As [`MysqlServer::start`].
    pub fn with_options(lab: &'lab Lab, online: ServerOptions, target: ServerOptions) -> Result<Self> {
        let (online, target) = std::thread::scope(|scope| {
            let online = scope.spawn(|| MysqlServer::start(lab.host(Host::Online), online));
            let target = MysqlServer::start(lab.host(Host::Target), target);
            (online.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), target)
        });
        let (online, target) = (online?, target?);
        online.add_user(USER, ONLINE_PASSWORD, Plugin::usual(online.flavour()))?;
        target.add_user(USER, TARGET_PASSWORD, Plugin::usual(target.flavour()))?;
        Ok(Self { online, target, before: None })
    }

    /// Makes sysbench's tables on both.
    ///
    /// # Errors
    /// As [`Sysbench::prepare`].
    pub fn prepare(&self) -> Result<()> {
        Sysbench::prepare(&self.online)?;
        Sysbench::prepare(&self.target)
    }

    /// Begins to count.
    ///
    /// # Errors
    /// The servers' errors.
    pub fn begin(&mut self) -> Result<()> {
        self.before = Some((self.online.counters()?, self.target.counters()?));
        Ok(())
    }

    /// What both have counted since [`MysqlPair::begin`].
    ///
    /// # Errors
    /// The servers' errors, or that nobody began.
    pub fn counted(&self) -> Result<(Counters, Counters)> {
        let (online, target) = self.before.as_ref().context("begin comes first")?;
        Ok((self.online.counters()?.since(online), self.target.counters()?.since(target)))
    }

    /// Fails unless the target ran as many statements of each kind as online.
    ///
    /// # Errors
    /// What differs.
    pub fn check_same_statements(&self) -> Result<()> {
        let check = || {
            let (online, target) = self.counted()?;
            let logged = self.online.is_logged() && self.target.is_logged();
            if logged && self.online.flavour() != self.target.flavour() {
                Counters::check_same_but_selects(&online, &target)?;
                return self.check_same_selects();
            }
            if (self.online.flavour(), self.target.flavour()) == (Flavour::MariaDb, Flavour::MySql) {
                return Counters::check_same_but_begins(&online, &target);
            }
            Counters::check_same_statements(&online, &target)
        };
        // The kernel has acknowledged the last requests; the server may be about to run them.
        let _ = wait_until("the target to run what it got", Duration::from_secs(10), || Ok(check().is_ok()));
        check()
    }

    /// Fails unless both wrote down the same SELECTs, with the same text where that is the client's.
    fn check_same_selects(&self) -> Result<()> {
        let (online, target) = (self.online.statements()?, self.target.statements()?);
        let is_select = |text: &str| text.get(..6).is_some_and(|verb| verb.eq_ignore_ascii_case("select"));
        let texts = |log: &Statements| -> Vec<String> {
            let selects = log.0.iter().filter(|entry| entry.command == "Query" && is_select(&entry.text));
            selects.map(|entry| entry.text.clone()).filter(|text| is_comparable(text)).collect()
        };
        check_same(&texts(&online), &texts(&target)).context("SELECTs as text")?;
        // Each kind of server writes parameters in another way.
        let executed = |log: &Statements| {
            let selects = log.0.iter().filter(|entry| entry.command == "Execute" && is_select(&entry.text));
            selects.count()
        };
        let (online, target) = (executed(&online), executed(&target));
        ensure!(online == target, "{online} prepared SELECTs were executed on online, {target} on target");
        Ok(())
    }

    /// Fails unless both have the same tables with the same rows.
    ///
    /// # Errors
    /// What differs.
    pub fn check_same_data(&self) -> Result<()> {
        if self.online.flavour() == self.target.flavour() {
            let (online, target) = (self.online.checksums()?, self.target.checksums()?);
            ensure!(online == target, "checksums differ; on online:\n{online}on target:\n{target}");
            return Ok(());
        }
        // Each kind of server has a checksum of its own.
        let tables = |server: &MysqlServer<'_>| server.sql(&format!("SHOW TABLES FROM {DATABASE}"));
        let (online, target) = (tables(&self.online)?, tables(&self.target)?);
        ensure!(online == target, "tables differ; on online:\n{online}on target:\n{target}");
        for table in online.lines() {
            let rows = format!("SELECT * FROM {DATABASE}.`{table}` ORDER BY 1");
            ensure!(self.online.sql(&rows)? == self.target.sql(&rows)?, "the rows of {table} differ");
        }
        Ok(())
    }

    /// Replays `load` and checks that the target got the same statements, all of them delivered.
    ///
    /// # Errors
    /// What went wrong or differs.
    pub fn replay(
        &mut self,
        lab: &Lab,
        options: &ReplayOptions,
        load: impl FnOnce(&Self, &mut Replay<'_>) -> Result<()>,
    ) -> Result<Finished> {
        self.begin()?;
        let mut replay = Replay::start(lab, options)?;
        let loaded = load(self, &mut replay).context("the load on online");
        let finished = replay.finish()?;
        // The servers' word first: it says more about a failure than the counters do.
        with_report(loaded, &finished)?;
        with_report(self.check_same_statements(), &finished)?;
        with_report(check_delivered(&finished), &finished)?;
        Ok(finished)
    }
}

/// Fails unless everything captured was delivered, but for the clients' own logins: the plugin makes others.
///
/// # Errors
/// What was not.
pub fn check_delivered(finished: &Finished) -> Result<()> {
    let report = finished.report();
    report.check_sums()?;
    let waiting = report.counter("requests_waiting")?;
    ensure!(waiting == 0, "{waiting} requests still wait");
    for (reason, count) in report.by_reason("requests_given_up")? {
        ensure!(reason == "filtered", "{count} requests were given up: {reason}");
    }
    let module = report.module("mysql")?;
    for (what, count) in module["counts"].as_object().into_iter().flatten() {
        for loss in ["left out", "lost", "given up", "dropped", "refused", "failed", "answer nothing"] {
            ensure!(!what.contains(loss), "{what}: {count}");
        }
    }
    let faults = &module["faults"];
    ensure!(faults.as_object().is_none_or(serde_json::Map::is_empty), "faults: {faults}");
    Ok(())
}

/// Whether both kinds of servers write a SELECT down, and alike: not those in a row, nor those that one of them can't parse.
fn is_comparable(text: &str) -> bool {
    let is_control = text.contains(&format!("FROM {DATABASE}.`"));
    !is_control && text.contains(" FROM ") && !text.contains(';')
}

/// The user's login on the online server.
pub fn login() -> Login {
    Login::online(USER, ONLINE_PASSWORD)
}

/// The plugin, with the user's password on the target.
pub fn module(kind: Kind) -> Module {
    Module::new("mysql", kind).option(&format!("passwords={USER}={TARGET_PASSWORD}"))
}

/// A replay through the plugin.
pub fn options(module: Module) -> ReplayOptions {
    ReplayOptions::new(MYSQL).module(module)
}
