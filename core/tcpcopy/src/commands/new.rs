//! `tcpcopy plugin new`.

use super::{CommandError, print};
use crate::failure::{HintExt, UsageError};
use clap::Args;
use plugin_sdk::template;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct NewArgs {
    /// Name of the plugin: lower-case letters, digits and hyphens
    #[arg(value_name = "NAME")]
    name: String,

    /// Directory to write it to [default: the name, in the current directory]
    #[arg(long = "path", value_name = "DIR")]
    path: Option<PathBuf>,

    /// The SDK: its folder in a checkout of tcpcopy, or a version from the registry [default: this program's version]
    #[arg(long = "sdk", value_name = "PATH|VERSION")]
    sdk: Option<String>,
}

pub(super) fn run(args: &NewArgs) -> Result<ExitCode, CommandError> {
    if !template::is_valid_name(&args.name) {
        return Err(UsageError::new(
            format!("plugin new {:?}: no plugin can have that name", args.name),
            "lower-case letters, digits and single hyphens, a letter first, and no word of Rust's own: my-protocol",
        )
        .into());
    }
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let dependency = sdk_dependency(args.sdk.as_deref())?;
    let files = template::render(&args.name, &dependency);
    // Looked at before anything is written: nothing of anybody's is replaced, and nothing is left half done for that reason.
    if let Some((name, _)) = files.iter().find(|(name, _)| folder.join(name).exists()) {
        return Err(UsageError::new(
            format!("plugin new: {} exists", folder.join(name).display()),
            "give another directory with --path",
        )
        .into());
    }
    for (name, text) in &files {
        write(&folder.join(name), text)?;
    }
    let shown = folder.display();
    print(&format!(
        "{} files in {shown}. Next:\n  cd {shown}\n  cargo test\n  cargo build --release --target wasm32-unknown-unknown\n\
         README.md there says more.\n",
        files.len()
    ));
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    let hint = "--path names the directory to write to";
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).hint(format!("can't make {}", folder.display()), hint)?;
    }
    Ok(std::fs::write(path, text).hint(format!("can't write {}", path.display()), hint)?)
}

/// The right side of the dependency in `Cargo.toml`.
fn sdk_dependency(sdk: Option<&str>) -> Result<String, UsageError> {
    let text = sdk.unwrap_or(template::VERSION);
    let is_version = text.starts_with(|first: char| first.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'));
    if is_version {
        return Ok(format!("{text:?}"));
    }
    let hint = "--sdk takes the folder plugin-sdk of a checkout of tcpcopy, or a version such as 2.0.0";
    let path = std::fs::canonicalize(text)
        .map_err(|error| UsageError::new(format!("--sdk {text:?}: {error}"), hint))?;
    if !path.join("Cargo.toml").is_file() {
        return Err(UsageError::new(format!("--sdk {text:?}: there is no Cargo.toml in it"), hint));
    }
    // A TOML string: what is special there is special in Rust's form as well.
    Ok(format!("{{ path = {:?} }}", path.display().to_string()))
}
