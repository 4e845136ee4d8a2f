//! What the lab needs of MySQL and no package installs: a MySQL server and its clients, the plugins of MariaDB's server, and the
//! driver of Node.js.
//!
//! All of it goes into the workspace's folder for what is built, and is left alone once it is there. Packages are fetched by
//! apt with a state of its own, as the user who builds, and are unpacked only: the system has one MySQL at most, and the lab
//! needs two.

use crate::setup;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tcpcopy_lab::mysql::installed::{self, Unpacked};
use tcpcopy_lab::tools;

/// The driver of Node.js, at the version that the tests are written for.
const NODE_DRIVER: &str = "mysql2@3.24.6";
/// Suite of Debian's that has MySQL; its releases have MariaDB only.
const DEBIAN_SUITE: &str = "unstable";
/// A server, and the clients that go with it.
const SERVER: &str = "mysql-server-core";
const CLIENT: &str = "mysql-client-core";

/// Installs and fetches what is missing, and says so.
pub(crate) fn install() -> Result<()> {
    let mut packages: Vec<&str> = installed::LIBRARIES
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect();
    packages.extend(setup::missing(installed::TOOLS));
    let has_driver = installed::node_folder().join("node_modules/mysql2").is_dir();
    if !has_driver {
        packages.extend(setup::missing(&[tools::NPM]));
    }
    setup::install_packages(packages)?;
    fetch_mysql().context("fetching MySQL")?;
    fetch_mariadb_plugins().context("fetching the plugins of MariaDB's server")?;
    if !has_driver {
        fetch_node_driver().context("fetching the MySQL driver of Node.js")?;
    }
    Ok(())
}

/// Unpacks MySQL's server and clients with all their libraries.
fn fetch_mysql() -> Result<()> {
    let folder = installed::mysql_folder();
    if folder.is_dir() {
        return Ok(());
    }
    println!("==> fetching a MySQL server and its clients into {} (70 MB)", folder.display());
    let apt = Apt::new(&Sources::of_system()?)?;
    let [server, client] = [SERVER, CLIENT].map(|name| apt.newest(name));
    let packages = [server?, client?];
    let words = ["install", "--download-only", "--yes", "--no-install-recommends", "--quiet=2"];
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    apt.get(&[&words, packages.as_slice()].concat())?;
    unpack(&apt.downloaded()?, &folder)?;
    let mut version = Unpacked::at(&folder)?.program("usr/sbin/mysqld")?;
    version.args(["--no-defaults", "--version"]);
    let output = finish(&mut version)?;
    println!("    {}", String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(())
}

/// Unpacks the package whose installation would start a service, at the version of the installed server.
fn fetch_mariadb_plugins() -> Result<()> {
    let folder = installed::lab_tools().join("mariadb");
    if folder.is_dir() {
        return Ok(());
    }
    println!("==> fetching the plugins of MariaDB's server into {}", folder.display());
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Version}", tools::MARIADB_SERVER.package]);
    let version = String::from_utf8_lossy(&finish(&mut query)?.stdout).into_owned();
    let apt = Apt::new(&Sources::System)?;
    let package = format!("mariadb-server={version}");
    apt.get(&["download", "--quiet=2", &package]).with_context(|| {
        let package = tools::MARIADB_SERVER.package;
        format!("the archive has another version than the installed one\nhint: apt-get install --only-upgrade {package}")
    })?;
    unpack(&packages_in(&apt.scratch.0)?, &folder)
}

/// Installs the driver of Node.js.
fn fetch_node_driver() -> Result<()> {
    let folder = installed::node_folder();
    println!("==> fetching {NODE_DRIVER} into {}", folder.display());
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let mut npm = Command::new(tools::NPM.require()?);
    npm.args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]);
    npm.arg("--prefix").arg(&folder).arg(NODE_DRIVER).current_dir(&folder);
    finish(&mut npm).map(drop)
}

/// Unpacks packages into `folder`, which is there only once all of them are.
fn unpack(packages: &[PathBuf], folder: &Path) -> Result<()> {
    ensure!(
        !packages.is_empty(),
        "apt fetched nothing\nhint: repeat; if that does not help, see apt's own messages"
    );
    let partial = folder.with_extension(format!("{}.partial", std::process::id()));
    for package in packages {
        finish(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&partial))?;
    }
    fs::rename(&partial, folder)
        .with_context(|| format!("moving {} to {}", partial.display(), folder.display()))
}

/// The packages in a folder.
fn packages_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    Ok(files.filter(|file| file.extension().is_some_and(|extension| extension == "deb")).collect())
}

/// Runs a command to its end; what it wrote comes with the error.
fn finish(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed ({}): {}{}\nhint: try it by hand; it needs the package registry that this system is set up with",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(output)
}

/// A folder that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let folder = installed::lab_tools().join(format!("{}.fetch", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is a nuisance, not a failure.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where packages come from.
#[derive(Debug, PartialEq, Eq)]
enum Sources {
    /// Wherever this system's own come from.
    System,
    /// These lines of a list of sources.
    Lines(String),
}

impl Sources {
    /// The suite with MySQL, in the archive that this system's own packages come from.
    fn of_system() -> Result<Self> {
        let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
        let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
        if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
            files.extend(entries.flatten().map(|entry| entry.path()));
        }
        let sources: String =
            files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect::<Vec<_>>().join("\n\n");
        Self::of(&release, &sources)
    }

    /// As [`Sources::of_system`], from what the system's files say.
    fn of(release: &str, sources: &str) -> Result<Self> {
        let word = |name: &str| {
            let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        let (system, codename) = (word("ID"), word("VERSION_CODENAME"));
        let mirror = mirror(sources, &codename);
        let Some(mirror) = mirror else {
            bail!(
                "apt's sources name no archive of {system} {codename}\nhint: MySQL is fetched from the archive of Debian or \
                 Ubuntu; on another system unpack a MySQL in {} by hand (usr/sbin/mysqld, usr/bin/mysql, usr/bin/mysqlslap, \
                 usr/lib)",
                installed::mysql_folder().display()
            )
        };
        let line = |suite: &str, keys: &str, components: &str| {
            format!("deb [signed-by=/usr/share/keyrings/{keys}] {mirror} {suite} {components}\n")
        };
        let sources = match system.as_str() {
            "debian" => line(DEBIAN_SUITE, "debian-archive-keyring.gpg", "main"),
            "ubuntu" => [codename.clone(), format!("{codename}-updates")]
                .map(|suite| line(&suite, "ubuntu-archive-keyring.gpg", "main universe"))
                .concat(),
            _ => bail!(
                "no way to fetch MySQL on {system}\nhint: unpack one in {} by hand",
                installed::mysql_folder().display()
            ),
        };
        Ok(Self::Lines(sources))
    }
}

/// The archive of a release, from lines `deb [options] URI SUITE …` or paragraphs with `URIs:` and `Suites:`.
fn mirror(sources: &str, codename: &str) -> Option<String> {
    let one_line = sources.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let rest = rest
            .strip_prefix('[')
            .map_or(rest, |options| options.split_once(']').map_or("", |(_, rest)| rest));
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        (suite == codename).then(|| uri.to_owned())
    });
    let paragraph = || {
        sources.split("\n\n").find_map(|paragraph| {
            let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name));
            let suites = field("Suites:")?;
            let uri = field("URIs:")?.split_whitespace().next()?;
            suites.split_whitespace().any(|suite| suite == codename).then(|| uri.to_owned())
        })
    };
    one_line.or_else(paragraph)
}

/// An apt with a state of its own, that knows of no installed package.
struct Apt {
    scratch: Scratch,
    config: PathBuf,
}

impl Apt {
    fn new(sources: &Sources) -> Result<Self> {
        let scratch = Scratch::new()?;
        let at = scratch.0.display().to_string();
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(scratch.0.join(folder))?;
        }
        fs::write(scratch.0.join("status"), "")?;
        let mut settings = format!(
            "Dir::State \"{at}/state\";\nDir::State::status \"{at}/status\";\nDir::Cache \"{at}/cache\";\n\
             APT::Sandbox::User \"root\";\nAcquire::Retries \"3\";\nAcquire::Languages \"none\";\n"
        );
        if let Sources::Lines(lines) = sources {
            fs::write(scratch.0.join("sources.list"), lines)?;
            settings += &format!(
                "Dir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n"
            );
        }
        let config = scratch.0.join("apt.conf");
        fs::write(&config, settings)?;
        let apt = Self { scratch, config };
        apt.get(&["update", "--quiet=2"])?;
        Ok(apt)
    }

    fn get(&self, words: &[&str]) -> Result<Output> {
        finish(
            Command::new("apt-get").env("APT_CONFIG", &self.config).current_dir(&self.scratch.0).args(words),
        )
    }

    /// The package called `name`, or else the one of the highest version that has it in its name.
    fn newest(&self, name: &str) -> Result<String> {
        let mut search = Command::new("apt-cache");
        search.env("APT_CONFIG", &self.config).args(["pkgnames", name]);
        let output = finish(&mut search)?;
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        newest_of(name, names.lines()).with_context(|| {
            format!("the archive has no package {name}\nhint: see what it has with: apt-cache search mysql")
        })
    }

    /// What was downloaded.
    fn downloaded(&self) -> Result<Vec<PathBuf>> {
        packages_in(&self.scratch.0.join("cache/archives"))
    }
}

/// The highest version among packages called `name` or `name-VERSION`; the one without a version comes first.
fn newest_of<'a>(name: &str, packages: impl Iterator<Item = &'a str>) -> Option<String> {
    let version = |package: &str| -> Option<Vec<u32>> {
        match package.strip_prefix(name)? {
            "" => Some(vec![u32::MAX]),
            rest => rest.strip_prefix('-')?.split('.').map(|number| number.parse().ok()).collect(),
        }
    };
    packages
        .filter_map(|package| Some((version(package)?, package.to_owned())))
        .max()
        .map(|(_, package)| package)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str =
        "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n";
    const UBUNTU: &str = "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n";

    #[test]
    fn the_archive_is_the_systems_own() {
        let paragraphs = "Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\n\n\
                          Types: deb\nURIs: http://mirror.test/security\nSuites: bookworm-security\n";
        let found = Sources::of(DEBIAN, paragraphs).unwrap();
        let line = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.test/debian unstable main\n";
        assert_eq!(found, Sources::Lines(line.into()));
        let lines =
            "# deb http://no.test/ noble main\ndeb [arch=amd64] http://mirror.test/ubuntu noble main\n";
        let found = Sources::of(UBUNTU, lines).unwrap();
        let Sources::Lines(found) = found else { panic!("{found:?}") };
        assert!(found.contains("http://mirror.test/ubuntu noble-updates main universe"), "{found}");
        let error = Sources::of(DEBIAN, "deb http://other.test stable main").unwrap_err().to_string();
        assert!(error.contains("no archive of debian bookworm") && error.contains("\nhint: "), "{error}");
    }

    #[test]
    fn the_newest_package_is_taken() {
        let names =
            ["mysql-server-core-8.0", "mysql-server-core-8.4", "mysql-server-core-tools", "mysql-server"];
        assert_eq!(newest_of(SERVER, names.into_iter()).unwrap(), "mysql-server-core-8.4");
        assert_eq!(newest_of(SERVER, ["mysql-server-core-8.0", SERVER].into_iter()).unwrap(), SERVER);
        assert_eq!(newest_of(SERVER, ["mariadb-server-core"].into_iter()), None);
    }
}
