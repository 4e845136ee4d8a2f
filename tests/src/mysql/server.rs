//! A real MariaDB or MySQL server with data of its own.

use super::counters::Counters;
use super::installed::{Flavour, Unpacked, mariadb_plugins};
use super::log::Statements;
use super::{MYSQL, template};
use crate::host::{Family, RunningHost};
use crate::process::Process;
use crate::wait::wait_until;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// The database that servers have from the start.
pub const DATABASE: &str = "lab";

/// How a user proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// `mysql_native_password`, of MariaDB.
    Native,
    /// `ed25519`, of MariaDB.
    Ed25519,
    /// `caching_sha2_password`, of MySQL.
    CachingSha2,
    /// `sha256_password`, of MySQL.
    Sha256,
}

impl Plugin {
    /// The one that a server gives users by itself.
    pub const fn usual(flavour: Flavour) -> Self {
        match flavour {
            Flavour::MariaDb => Self::Native,
            Flavour::MySql => Self::CachingSha2,
        }
    }

    fn identified(self, password: &str) -> String {
        match self {
            Self::Native => format!("VIA mysql_native_password USING PASSWORD('{password}')"),
            Self::Ed25519 => format!("VIA ed25519 USING PASSWORD('{password}')"),
            Self::CachingSha2 => format!("WITH caching_sha2_password BY '{password}'"),
            Self::Sha256 => format!("WITH sha256_password BY '{password}'"),
        }
    }
}

/// Whether a server writes down the statements that it gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Logging {
    /// It only counts them.
    #[default]
    Off,
    /// It does; see [`MysqlServer::statements`].
    Statements,
}

/// How to start a server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Which one.
    pub flavour: Flavour,
    /// Its port.
    pub port: u16,
    /// Whether it writes down what it gets.
    pub logging: Logging,
    /// More options of the server's own.
    pub more: Vec<String>,
}

impl ServerOptions {
    /// A server that only counts.
    pub fn new(flavour: Flavour) -> Self {
        Self { flavour, port: MYSQL, logging: Logging::Off, more: Vec::new() }
    }

    /// One that writes down what it gets.
    pub fn logged(mut self) -> Self {
        self.logging = Logging::Statements;
        self
    }

    /// On another port.
    pub fn on_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// With an option of the server's own: `--name=value`.
    pub fn option(mut self, option: &str) -> Self {
        self.more.push(option.to_owned());
        self
    }
}

/// A running server. Dropping it kills it.
pub struct MysqlServer<'lab> {
    host: &'lab RunningHost,
    options: ServerOptions,
    folder: PathBuf,
    // Control must not be seen by a capture that takes all interfaces, loopback included.
    socket: PathBuf,
    process: Process,
}

impl<'lab> MysqlServer<'lab> {
    /// Starts one with an empty database [`DATABASE`] and waits until it answers.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(host: &'lab RunningHost, options: ServerOptions) -> Result<Self> {
        let folder = host.folder().join(format!("{}-{}", host.role().name(), options.flavour.name()));
        std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        std::fs::create_dir(folder.join("tmp"))?;
        template::copy_to(options.flavour, &folder.join("data"))?;
        let socket = control_socket(&folder, host);
        let process = launch(host, &options, &folder, &socket)?;
        let mut server = Self { host, options, folder, socket, process };
        server.wait_ready()?;
        server.sql(&format!("CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4"))?;
        Ok(server)
    }

    /// Which one it is.
    pub fn flavour(&self) -> Flavour {
        self.options.flavour
    }

    /// Whether it writes down the statements that it gets.
    pub fn is_logged(&self) -> bool {
        self.options.logging == Logging::Statements
    }

    /// The host that it runs on.
    pub fn host(&self) -> &'lab RunningHost {
        self.host
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The file of its local socket, where no capture of the lab sees what is said.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn wait_ready(&mut self) -> Result<()> {
        let (flavour, socket, process) = (self.options.flavour, &self.socket, &mut self.process);
        let ready = wait_until("the server to answer", PATIENCE, || {
            process.check_running()?;
            Ok(query(socket, "SELECT 1").is_ok())
        });
        ready.with_context(|| {
            format!("{} on {}: {}", flavour.name(), self.host.role().name(), self.process.output())
        })
    }

    /// Kills it, as a crash does.
    ///
    /// # Errors
    /// When it was gone already.
    pub fn kill(&mut self) -> Result<()> {
        self.process.check_running()?;
        self.process.signal(nix::sys::signal::Signal::SIGKILL)?;
        self.process.wait(PATIENCE).map(drop)
    }

    /// Starts it again with the data that it had, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.process.try_status()?.is_some(), "the server still runs");
        self.process = launch(self.host, &self.options, &self.folder, &self.socket)?;
        self.wait_ready()
    }

    /// Runs statements as `root` and returns what they give: lines of columns with tabs between them.
    ///
    /// # Errors
    /// The server's error.
    pub fn sql(&self, statements: &str) -> Result<String> {
        query(&self.socket, statements)
            .with_context(|| format!("on {} of {}", self.options.flavour.name(), self.host.role().name()))
    }

    /// Makes a user who may do everything.
    ///
    /// # Errors
    /// The server's error.
    pub fn add_user(&self, name: &str, password: &str, plugin: Plugin) -> Result<()> {
        if plugin == Plugin::Ed25519 {
            self.sql("INSTALL SONAME 'auth_ed25519'")?;
        }
        let identified = plugin.identified(password);
        self.sql(&format!(
            "CREATE USER '{name}'@'%' IDENTIFIED {identified}; GRANT ALL ON *.* TO '{name}'@'%'"
        ))
        .map(drop)
    }

    /// Forgets the passwords that `caching_sha2_password` has seen: each user's next login is a full one.
    ///
    /// # Errors
    /// The server's error.
    pub fn forget_passwords(&self) -> Result<()> {
        self.sql("FLUSH PRIVILEGES").map(drop)
    }

    /// What it has counted since it was started.
    ///
    /// # Errors
    /// The server's error.
    pub fn counters(&self) -> Result<Counters> {
        Counters::parse(&self.sql("SHOW GLOBAL STATUS")?, self.options.flavour)
    }

    /// One line for each table of [`DATABASE`] with its checksum: equal on two servers exactly when their data is.
    ///
    /// # Errors
    /// The server's error.
    pub fn checksums(&self) -> Result<String> {
        let tables = self.sql(&format!("SHOW TABLES FROM {DATABASE}"))?;
        let tables: Vec<String> = tables.lines().map(|table| format!("{DATABASE}.`{table}`")).collect();
        ensure!(!tables.is_empty(), "there are no tables");
        self.sql(&format!("CHECKSUM TABLE {} EXTENDED", tables.join(",")))
    }

    /// The statements that it has written down, in all its runs.
    ///
    /// # Errors
    /// When it writes none down.
    pub fn statements(&self) -> Result<Statements> {
        if self.options.logging == Logging::Off {
            bail!("this server was started without a log of statements");
        }
        Statements::read(&self.folder.join("statements.log"))
    }

    /// What it has written about itself.
    pub fn errors(&self) -> String {
        self.process.output()
    }
}

impl Drop for MysqlServer<'_> {
    fn drop(&mut self) {
        // Only a socket outside the lab's folder would stay.
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// A place for a server's local socket, whose path may have no more than 107 bytes.
fn control_socket(folder: &Path, host: &RunningHost) -> PathBuf {
    let beside_data = folder.join("s");
    if beside_data.as_os_str().len() < 100 {
        return beside_data;
    }
    std::env::temp_dir().join(format!("tcpcopy-lab-{}-{}-mysql.sock", std::process::id(), host.role().name()))
}

fn launch(host: &RunningHost, options: &ServerOptions, folder: &Path, socket: &Path) -> Result<Process> {
    let mut command = options.flavour.server()?;
    command.args(["--no-defaults", "--user=root"]).args(template::options(options.flavour));
    let file = |name: &str| folder.join(name).display().to_string();
    let role = host.role();
    command.args([
        format!("--datadir={}", file("data")),
        format!("--tmpdir={}", file("tmp")),
        format!("--pid-file={}", file("pid")),
        format!("--socket={}", socket.display()),
        format!("--port={}", options.port),
        format!("--bind-address={},{}", role.addr(Family::V4), role.addr(Family::V6)),
    ]);
    command.args([
        "--skip-name-resolve",
        "--skip-log-bin",
        "--local-infile=ON",
        "--secure-file-priv=",
        "--max-connections=1000",
        "--back-log=1024",
        "--innodb-buffer-pool-size=64M",
        // What is committed outlives the process, as tests that kill it expect, but not the machine.
        "--innodb-flush-log-at-trx-commit=2",
        "--performance-schema=OFF",
    ]);
    match options.flavour {
        Flavour::MariaDb => {
            command.arg(format!("--plugin-dir={}", mariadb_plugins().display()));
        }
        Flavour::MySql => {
            command.args(template::mysql_folders(&Unpacked::find()?));
            command.args(["--mysqlx=OFF", "--innodb-use-native-aio=OFF", "--console"]);
        }
    }
    if options.logging == Logging::Statements {
        command
            .args(["--general-log=ON".to_owned(), format!("--general-log-file={}", file("statements.log"))]);
    }
    command.args(&options.more);
    host.spawn(options.flavour.name(), command)
}

/// Runs statements through a server's local socket.
fn query(socket: &Path, statements: &str) -> Result<String> {
    // MySQL's own client would ask for more, and be counted.
    let mut command = Flavour::MariaDb.command_line()?;
    command.args(["--no-defaults", "--user=root", "--skip-ssl", "--batch", "--skip-column-names"]);
    command.arg(format!("--socket={}", socket.display())).args(["-e", statements]);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    ensure!(
        output.status.success(),
        "{statements:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
