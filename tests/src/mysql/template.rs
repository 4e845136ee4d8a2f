//! First data of servers: made once for each kind and version, and copied for each server.

use super::installed::{Flavour, Unpacked, lab_tools};
use crate::tools;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Sizes that data is made with and that a server must be started with: small, so that copies are quick.
const MARIADB_SIZES: &[&str] =
    &["--innodb-log-file-size=16M", "--innodb-data-file-path=ibdata1:10M:autoextend"];
const MYSQL_SIZES: &[&str] =
    &["--innodb-redo-log-capacity=16M", "--innodb-data-file-path=ibdata1:10M:autoextend"];

/// What a server must be started with to find its data as it is.
pub(super) fn options(flavour: Flavour) -> &'static [&'static str] {
    match flavour {
        Flavour::MariaDb => MARIADB_SIZES,
        Flavour::MySql => MYSQL_SIZES,
    }
}

/// Copies the first data of a server to `folder`.
pub(super) fn copy_to(flavour: Flavour, folder: &Path) -> Result<()> {
    let template = template(flavour)?;
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--sparse=always", "--reflink=auto"]).arg(&template).arg(folder);
    finish(copy).map(drop)
}

/// The folder with the first data; it is made if it is not there.
fn template(flavour: Flavour) -> Result<PathBuf> {
    let base = lab_tools().join("data");
    fs::create_dir_all(&base).with_context(|| format!("making {}", base.display()))?;
    // Tests are processes of their own, and may come here at once.
    let lock = File::create(base.join(format!("{}.lock", flavour.name())))?;
    lock.lock()?;
    // Data of another version, or of other sizes, is not taken.
    let key = format!("{}{}", version(flavour)?, options(flavour).concat());
    let folder = base.join(flavour.name());
    let key_file = base.join(format!("{}.made-by", flavour.name()));
    if folder.is_dir() && fs::read_to_string(&key_file).is_ok_and(|made_by| made_by == key) {
        return Ok(folder);
    }
    // Neither may be there.
    let _ = fs::remove_file(&key_file);
    let _ = fs::remove_dir_all(&folder);
    make(flavour, &folder).with_context(|| format!("making the first data of {}", flavour.name()))?;
    fs::write(&key_file, key)?;
    Ok(folder)
}

fn version(flavour: Flavour) -> Result<String> {
    let mut command = flavour.server()?;
    command.args(["--no-defaults", "--version"]);
    Ok(String::from_utf8_lossy(&finish(command)?.stdout).trim().to_owned())
}

fn make(flavour: Flavour, folder: &Path) -> Result<()> {
    let command = match flavour {
        Flavour::MariaDb => {
            let mut command = Command::new(tools::MARIADB_INSTALL.require()?);
            command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
            command
        }
        Flavour::MySql => {
            let mut command = flavour.server()?;
            command.args(["--no-defaults", "--initialize-insecure"]);
            command.args(mysql_folders(&Unpacked::find()?));
            command
        }
    };
    let mut command = command;
    command.arg("--user=root").args(options(flavour)).arg(format!("--datadir={}", folder.display()));
    finish(command).map(drop)
}

/// Where an unpacked MySQL has what it would look for in the system's folders.
pub(super) fn mysql_folders(unpacked: &Unpacked) -> Vec<String> {
    let root = unpacked.root().display().to_string();
    vec![
        format!("--basedir={root}/usr"),
        format!("--lc-messages-dir={root}/usr/share/mysql"),
        format!("--character-sets-dir={root}/usr/share/mysql/charsets"),
        format!("--plugin-dir={root}/usr/lib/mysql/plugin"),
    ]
}

fn finish(mut command: Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed ({}): {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}
