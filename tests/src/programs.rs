//! Where the programs under test are.

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Folder with `tcpcopy` and `intercept`, for those who build them elsewhere.
pub const BIN_DIR: &str = "TCPCOPY_BIN_DIR";

/// A program of this workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The replayer.
    Tcpcopy,
    /// The capture of replies.
    Intercept,
}

impl Program {
    /// Its file name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcpcopy => "tcpcopy",
            Self::Intercept => "intercept",
        }
    }

    /// Its file: in [`BIN_DIR`], else the one of the workspace's builds that was made last.
    ///
    /// # Errors
    /// When it was not built.
    pub fn find(self) -> Result<PathBuf> {
        if let Some(folder) = std::env::var_os(BIN_DIR) {
            let file = Path::new(&folder).join(self.name());
            return match file.exists() {
                true => Ok(file),
                false => bail!("there is no {}\nhint: {BIN_DIR} names the folder to look in", file.display()),
            };
        }
        let built = |profile: &str| {
            let file = target_folder().join(profile).join(self.name());
            Some((file.metadata().ok()?.modified().ok()?, file))
        };
        match ["release", "debug"].into_iter().filter_map(built).max() {
            Some((_, file)) => Ok(file),
            None => bail!(
                "{} is not built\nhint: cargo build --release -p tcpcopy -p tcpcopy-intercept, or use cargo xtask",
                self.name()
            ),
        }
    }
}

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// The workspace's folder for what is built.
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}
