//! Where the servers and clients are: MariaDB's are packages of the system, MySQL's are unpacked in a folder of the workspace,
//! since no system has both.

use crate::programs::target_folder;
use crate::tools::{self, Tool};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kind of server, with the clients that come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// MariaDB, as the system packages it.
    MariaDb,
    /// MySQL, where `caching_sha2_password` is what users get.
    MySql,
}

impl Flavour {
    /// Its name in messages and file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
        }
    }

    /// The server program.
    ///
    /// # Errors
    /// When it is not there.
    pub fn server(self) -> Result<Command> {
        match self {
            Self::MariaDb => Ok(Command::new(tools::MARIADB_SERVER.require()?)),
            Self::MySql => Unpacked::find()?.program("usr/sbin/mysqld"),
        }
    }

    /// The command-line client.
    ///
    /// # Errors
    /// When it is not there.
    pub fn command_line(self) -> Result<Command> {
        match self {
            Self::MariaDb => Ok(Command::new(tools::MARIADB_CLIENT.require()?)),
            Self::MySql => Unpacked::find()?.program("usr/bin/mysql"),
        }
    }

    /// The load generator.
    ///
    /// # Errors
    /// When it is not there.
    pub fn slap(self) -> Result<Command> {
        match self {
            Self::MariaDb => Ok(Command::new(tools::MARIADB_SLAP.require()?)),
            Self::MySql => Unpacked::find()?.program("usr/bin/mysqlslap"),
        }
    }
}

/// Folder of what the lab uses and no package installs.
pub fn lab_tools() -> PathBuf {
    target_folder().join("lab-tools")
}

/// Folder that Node.js finds its driver from.
pub fn node_folder() -> PathBuf {
    lab_tools().join("node")
}

/// Folder of the unpacked MySQL.
pub fn mysql_folder() -> PathBuf {
    lab_tools().join("mysql")
}

/// The plugin folder of the unpacked MariaDB server package, which has more than the system's, and no service.
pub fn mariadb_plugins() -> PathBuf {
    lab_tools().join("mariadb/usr/lib/mysql/plugin")
}

/// Programs of packages that were unpacked and not installed. They run with the C library that they came with.
#[derive(Clone, Debug)]
pub struct Unpacked {
    root: PathBuf,
    loader: PathBuf,
}

impl Unpacked {
    /// The unpacked MySQL.
    ///
    /// # Errors
    /// When it was not unpacked.
    pub fn find() -> Result<Self> {
        let root = mysql_folder();
        match Self::at(&root) {
            Ok(found) => Ok(found),
            Err(error) => bail!("{error:#}\nhint: cargo xtask setup fetches MySQL"),
        }
    }

    /// What was unpacked in `root`.
    ///
    /// # Errors
    /// When no C library is there.
    pub fn at(root: &Path) -> Result<Self> {
        let loader = loader_in(&root.join("usr/lib"))
            .with_context(|| format!("there is no C library in {}", root.display()))?;
        Ok(Self { root: root.to_path_buf(), loader })
    }

    /// Its root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One of its programs.
    ///
    /// # Errors
    /// When it is not there.
    pub fn program(&self, path: &str) -> Result<Command> {
        let file = self.root.join(path);
        if !file.exists() {
            bail!("there is no {}\nhint: remove {} and repeat", file.display(), self.root.display());
        }
        let mut command = Command::new(&self.loader);
        let libraries = self.loader.parent().unwrap_or(&self.root);
        command.arg("--library-path").arg(libraries).arg("--argv0").arg(&file).arg(&file);
        Ok(command)
    }
}

/// The program loader, in the folder of the libraries of this machine's kind.
fn loader_in(libraries: &Path) -> Option<PathBuf> {
    let folders = std::fs::read_dir(libraries).ok()?.flatten().map(|entry| entry.path());
    folders.filter(|folder| folder.is_dir()).find_map(|folder| {
        let files = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
        files.into_iter().find(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with("ld-linux-") && name.contains(".so")
        })
    })
}

/// The system's Python, which has the packages of the system; others don't.
///
/// # Errors
/// When it is not installed.
pub fn python() -> Result<PathBuf> {
    const PYTHON: &str = "/usr/bin/python3";
    if Path::new(PYTHON).exists() { Ok(PYTHON.into()) } else { tools::PYTHON.require() }
}

/// Programs from packages of the system.
pub const TOOLS: &[Tool] = &[
    tools::MARIADB_SERVER,
    tools::MARIADB_INSTALL,
    tools::MARIADB_CLIENT,
    tools::MARIADB_SLAP,
    tools::SYSBENCH,
    tools::PYTHON,
    tools::NODE,
];

/// Packages without a program, and a file that shows that each is there.
pub const LIBRARIES: &[(&str, &str)] = &[
    ("python3-pymysql", "/usr/lib/python3/dist-packages/pymysql/__init__.py"),
    // By which the driver answers caching_sha2_password without TLS.
    ("python3-cryptography", "/usr/lib/python3/dist-packages/cryptography/__init__.py"),
];
