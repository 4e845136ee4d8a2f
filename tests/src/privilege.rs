//! The right to make network namespaces: root has it; others get it in a user namespace, where the kernel allows that.

use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Set in a process that runs in a user namespace made for it, to the user id outside.
const OUTER_USER: &str = "TCPCOPY_LAB_OUTER_USER";

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// It may make network namespaces: it is root, maybe in a user namespace.
    Direct,
    /// It may after it has been started again in a user namespace.
    UserNamespace,
    /// It may not.
    None,
}

/// What this process may do.
pub fn current() -> Privilege {
    if nix::unistd::geteuid().is_root() {
        return Privilege::Direct;
    }
    let allowed = in_user_namespace("true").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if allowed.is_ok_and(|status| status.success()) { Privilege::UserNamespace } else { Privilege::None }
}

/// A command that runs `program` as root of a user namespace of its own.
pub(crate) fn in_user_namespace(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount", "--"]).arg(program);
    command.env(OUTER_USER, nix::unistd::geteuid().to_string());
    command
}

/// Whether this process was started again by [`enter`].
pub fn is_reentered() -> bool {
    std::env::var_os(OUTER_USER).is_some()
}

/// The user's id, the outer one in a user namespace.
pub(crate) fn outer_user() -> String {
    std::env::var(OUTER_USER).unwrap_or_else(|_| nix::unistd::geteuid().to_string())
}

/// Fails unless this process may make network namespaces now.
///
/// # Errors
/// With a hint on how to get the right.
pub fn check() -> Result<()> {
    match current() {
        Privilege::Direct => Ok(()),
        Privilege::UserNamespace => {
            bail!(
                "the lab needs a user namespace\nhint: run as root, or under `unshare --user --map-root-user --net`"
            )
        }
        Privilege::None => bail!("{}", refusal()),
    }
}

/// Why user namespaces don't work here, and what to do.
pub(crate) fn refusal() -> String {
    let mut text =
        "the lab needs root, or user namespaces, which this kernel does not allow to this user".to_owned();
    for (name, forbidding) in [
        ("user/max_user_namespaces", "0"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ] {
        let value = std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
        if value.trim() == forbidding {
            let _ = write!(text, " ({} = {forbidding})", name.replace('/', "."));
        }
    }
    text + "\nhint: run it as root, for example with sudo"
}

/// Starts this process again in a user namespace if it needs one, with the same arguments; returns if it needs none.
///
/// # Errors
/// When the user may not have one.
pub fn enter() -> Result<()> {
    match current() {
        Privilege::Direct => Ok(()),
        Privilege::UserNamespace => {
            let error = in_user_namespace(std::env::current_exe()?).args(std::env::args_os().skip(1)).exec();
            Err(error).context("starting again in a user namespace")
        }
        Privilege::None => bail!("{}", refusal()),
    }
}
