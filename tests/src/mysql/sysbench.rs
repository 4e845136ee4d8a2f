//! Transactions at load, by sysbench.

use super::MYSQL;
use super::client::{Compression, Login};
use super::server::{DATABASE, MysqlServer};
use crate::host::RunningHost;
use crate::process::Process;
use crate::tools;
use anyhow::{Context, Result};
use std::process::Command;
use std::time::Duration;

/// Whether statements are prepared on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// They are, once for each connection.
    Auto,
    /// They are sent as text.
    Disabled,
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After so many transactions, of all connections together.
    Transactions(u32),
}

/// A run of `oltp_read_write`.
#[derive(Clone, Debug)]
pub struct Sysbench {
    /// Where it logs in.
    pub login: Login,
    /// Connections at a time.
    pub threads: u32,
    /// When it ends.
    pub until: Until,
    /// Whether statements are prepared.
    pub prepared: Prepared,
    /// Whether it compresses.
    pub compression: Compression,
    /// Transactions per second at most, of all connections together; 0 for no limit.
    pub rate: u32,
    /// Which of its tests.
    pub script: &'static str,
}

/// Tables that it works on, and rows in each.
const TABLES: &str = "--tables=4";
const ROWS: &str = "--table-size=1000";

impl Sysbench {
    /// Prepared statements of so many connections, for this long.
    pub fn new(login: Login, threads: u32, until: Until) -> Self {
        Self {
            login,
            threads,
            until,
            prepared: Prepared::Auto,
            compression: Compression::Off,
            rate: 0,
            script: "oltp_read_write",
        }
    }

    /// Makes its tables on a server, the same on every one, unseen by captures.
    ///
    /// # Errors
    /// When it is not installed, or the server refuses.
    pub fn prepare(server: &MysqlServer<'_>) -> Result<()> {
        let mut command = Command::new(tools::SYSBENCH.require()?);
        command.args(["oltp_read_write", TABLES, ROWS, "--rand-seed=1", "--mysql-user=root"]);
        command.arg(format!("--mysql-socket={}", server.socket().display()));
        command.args([format!("--mysql-db={DATABASE}"), "prepare".into()]);
        server.host().output(command).context("making sysbench's tables").map(drop)
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it is not installed or fails.
    pub fn run(&self, host: &RunningHost) -> Result<String> {
        let output = host.output(self.command()?)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn start(&self, host: &RunningHost) -> Result<Process> {
        host.spawn("sysbench", self.command()?)
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(tools::SYSBENCH.require()?);
        // One connection does the same in every run.
        command.args([self.script, TABLES, ROWS, "--db-driver=mysql", "--rand-seed=7"]);
        let login = &self.login;
        command.args([
            format!("--mysql-host={}", login.address),
            format!("--mysql-port={MYSQL}"),
            format!("--mysql-user={}", login.user),
            format!("--mysql-password={}", login.password),
            format!("--mysql-db={DATABASE}"),
            format!("--threads={}", self.threads),
            format!("--rate={}", self.rate),
        ]);
        command.arg(match self.prepared {
            Prepared::Auto => "--db-ps-mode=auto",
            Prepared::Disabled => "--db-ps-mode=disable",
        });
        if self.compression != Compression::Off {
            command.arg("--mysql-compression=on");
        }
        command.args(match self.until {
            Until::Elapsed(time) => [format!("--time={}", time.as_secs()), "--events=0".into()],
            Until::Transactions(count) => ["--time=0".into(), format!("--events={count}")],
        });
        // Statements that meet each other's locks are repeated, as applications do.
        command.arg("--mysql-ignore-errors=1213,1020,1205").arg("run");
        Ok(command)
    }
}
