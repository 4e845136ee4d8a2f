//! The clients that people use, told what to do.
//!
//! None of them turns to TLS unless it is asked to: what is encrypted can't be replayed.

use super::MYSQL;
use super::installed::{self, Flavour};
use super::server::DATABASE;
use crate::host::{Family, Host, RunningHost};
use crate::tools;
use anyhow::{Context, Result};
use std::process::Command;

/// Where to log in, and as whom.
#[derive(Clone, Debug)]
pub struct Login {
    /// The server's address.
    pub address: String,
    /// The user.
    pub user: String,
    /// The password on that server.
    pub password: String,
}

impl Login {
    /// A user of the online server.
    pub fn online(user: &str, password: &str) -> Self {
        let address = Host::Online.addr(Family::V4).to_string();
        Self { address, user: user.to_owned(), password: password.to_owned() }
    }

    /// Over another IP version.
    pub fn over(mut self, family: Family) -> Self {
        self.address = Host::Online.addr(family).to_string();
        self
    }
}

/// How a client compresses what it sends, and has the server compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Off,
    /// With zlib.
    Zlib,
    /// With zstd, which only MySQL knows.
    Zstd,
}

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// MariaDB's command line.
    MariaDb,
    /// MySQL's command line.
    MySql,
    /// MariaDB's load generator.
    MariaDbSlap,
    /// MySQL's load generator.
    MySqlSlap,
    /// Python's pymysql.
    PyMysql,
    /// Node.js' mysql2.
    Node,
}

/// How much a client does.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// A number that no other client of the same test has: its tables are its own.
    pub id: u32,
    /// How often it repeats its statements.
    pub rounds: u32,
}

impl Client {
    /// Every client.
    pub const ALL: [Self; 6] =
        [Self::MariaDb, Self::MySql, Self::MariaDbSlap, Self::MySqlSlap, Self::PyMysql, Self::Node];

    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
            Self::MariaDbSlap => "mariadb-slap",
            Self::MySqlSlap => "mysqlslap",
            Self::PyMysql => "pymysql",
            Self::Node => "mysql2",
        }
    }

    /// What it can compress with.
    pub const fn compressions(self) -> &'static [Compression] {
        match self {
            Self::PyMysql => &[Compression::Off],
            Self::MariaDb | Self::MariaDbSlap | Self::Node => &[Compression::Off, Compression::Zlib],
            Self::MySql | Self::MySqlSlap => &[Compression::Off, Compression::Zlib, Compression::Zstd],
        }
    }

    /// Does its work: makes a table, writes, reads and changes rows, each in the ways that this client has.
    ///
    /// # Errors
    /// When it is not installed or fails.
    pub fn run(
        self,
        host: &RunningHost,
        login: &Login,
        compression: Compression,
        work: Work,
    ) -> Result<String> {
        let command = self.command(login, compression, work)?;
        let output = host.output(command).with_context(|| format!("{} with {compression:?}", self.name()))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(self, login: &Login, compression: Compression, work: Work) -> Result<Command> {
        match self {
            Self::MariaDb | Self::MySql => {
                let mut command = self.flavour().command_line()?;
                self.log_in(&mut command, login, compression);
                command.args(["--batch", DATABASE, "-e", &script(work)]);
                Ok(command)
            }
            Self::MariaDbSlap | Self::MySqlSlap => {
                let mut command = self.flavour().slap()?;
                self.log_in(&mut command, login, compression);
                let queries = "SELECT 1 + 1; SELECT REPEAT('x', 300), NOW()";
                command.args(["--concurrency=4", "--delimiter=;", "--no-drop", "--create-schema=lab"]);
                command
                    .args([format!("--query={queries}"), format!("--number-of-queries={}", 8 * work.rounds)]);
                Ok(command)
            }
            Self::PyMysql => {
                let mut command = Command::new(installed::python()?);
                command.args(["-c", include_str!("scripts/pymysql_client.py")]);
                command.args(script_arguments(login, compression, work));
                Ok(command)
            }
            Self::Node => {
                let mut command = Command::new(tools::NODE.require()?);
                command.args(["-e", include_str!("scripts/mysql2_client.js"), "--"]);
                command.args(script_arguments(login, compression, work));
                command.current_dir(installed::node_folder());
                Ok(command)
            }
        }
    }

    fn flavour(self) -> Flavour {
        match self {
            Self::MySql | Self::MySqlSlap => Flavour::MySql,
            _ => Flavour::MariaDb,
        }
    }

    fn log_in(self, command: &mut Command, login: &Login, compression: Compression) {
        command_line_login(command, self.flavour(), login, Security::Plain);
        match (self.flavour(), compression) {
            (_, Compression::Off) => {}
            (Flavour::MariaDb, _) => {
                command.arg("--compress");
            }
            (Flavour::MySql, Compression::Zlib) => {
                command.arg("--compression-algorithms=zlib");
            }
            (Flavour::MySql, Compression::Zstd) => {
                command.arg("--compression-algorithms=zstd");
            }
        }
    }
}

/// Whether a client turns to TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// It does not.
    Plain,
    /// It insists on it.
    Tls,
}

/// Runs one script of statements with a command-line client.
///
/// # Errors
/// When the client is not installed or fails.
pub fn command_line(
    host: &RunningHost,
    flavour: Flavour,
    login: &Login,
    security: Security,
    sql: &str,
) -> Result<String> {
    let mut command = flavour.command_line()?;
    command_line_login(&mut command, flavour, login, security);
    command.args(["--batch", "--skip-column-names", DATABASE, "-e", sql]);
    let output = host.output(command)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command_line_login(command: &mut Command, flavour: Flavour, login: &Login, security: Security) {
    command.arg("--no-defaults");
    if flavour == Flavour::MySql {
        // How to log in to MariaDB is no part of the client itself any more.
        command.arg(format!(
            "--plugin-dir={}",
            installed::mysql_folder().join("usr/lib/mysql/plugin").display()
        ));
    }
    command.args([format!("--host={}", login.address), format!("--port={MYSQL}"), "--protocol=TCP".into()]);
    command.args([format!("--user={}", login.user), format!("--password={}", login.password)]);
    match (flavour, security) {
        (Flavour::MariaDb, Security::Plain) => {
            command.arg("--skip-ssl");
        }
        (Flavour::MariaDb, Security::Tls) => {
            command.arg("--ssl");
        }
        // Without TLS the client asks for the server's public key only if it is told to.
        (Flavour::MySql, Security::Plain) => {
            command.args(["--ssl-mode=DISABLED", "--get-server-public-key"]);
        }
        (Flavour::MySql, Security::Tls) => {
            command.arg("--ssl-mode=REQUIRED");
        }
    }
}

fn script_arguments(login: &Login, compression: Compression, work: Work) -> Vec<String> {
    let compression = if compression == Compression::Off { "off" } else { "on" };
    vec![
        login.address.clone(),
        MYSQL.to_string(),
        login.user.clone(),
        login.password.clone(),
        DATABASE.to_owned(),
        compression.to_owned(),
        work.id.to_string(),
        work.rounds.to_string(),
    ]
}

/// What is typed at a command line: all of SQL's kinds, prepared statements and variables of the session included.
fn script(work: Work) -> String {
    let table = format!("typed_{}", work.id);
    let mut sql = format!(
        "CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, note TEXT, amount DECIMAL(9,2));\n\
         SET @factor = 3; SET SESSION sort_buffer_size = 300000;\n\
         PREPARE add_one FROM 'INSERT INTO {table} (note, amount) VALUES (?, ? * @factor)';\n"
    );
    for round in 0..work.rounds {
        sql += &format!(
            "INSERT INTO {table} (note, amount) VALUES ('round {round}; with ''quotes''', {round}), (REPEAT('y', 5000), 1);\n\
             SET @note = 'prepared {round}', @amount = {round}; EXECUTE add_one USING @note, @amount;\n\
             BEGIN; UPDATE {table} SET amount = amount + 1 WHERE id % 3 = 0; COMMIT;\n\
             START TRANSACTION; DELETE FROM {table}; ROLLBACK;\n\
             REPLACE INTO {table} VALUES (1, 'replaced {round}', @factor);\n\
             SELECT COUNT(*), SUM(amount) FROM {table}; SELECT note FROM {table} LIMIT 20;\n"
        );
    }
    sql + "DEALLOCATE PREPARE add_one; SHOW TABLES;"
}
