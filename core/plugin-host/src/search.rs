//! Where plugins are found: the plugin path, and what a name on the command line stands for.

use std::env;
use std::path::{Path, PathBuf};

/// The variable that names directories to look in, joined by colons, before the others.
pub const VARIABLE: &str = "TCPCOPY_PLUGIN_PATH";
/// Directories that are looked in always.
const SYSTEM: [&str; 2] = ["/usr/local/lib/tcpcopy/plugins", "/usr/lib/tcpcopy/plugins"];
/// What plugins are called, the preferred kind first.
const EXTENSIONS: [&str; 2] = ["wasm", "so"];

/// A name that stands for no file.
#[derive(Debug, thiserror::Error)]
#[error("no plugin {name} ({})", describe(looked))]
pub struct NotFound {
    /// What was asked for.
    pub name: String,
    /// The directories that were looked in; none for a path.
    pub looked: Vec<PathBuf>,
}

fn describe(looked: &[PathBuf]) -> String {
    if looked.is_empty() {
        return "there is no such file".to_owned();
    }
    let names: Vec<_> = looked.iter().map(|directory| directory.display().to_string()).collect();
    format!("looked in {}", names.join(", "))
}

/// Directories to look in, the first found wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath {
    directories: Vec<PathBuf>,
}

impl SearchPath {
    /// `$TCPCOPY_PLUGIN_PATH`, the system's directories, and `plugins` beside the program. Empty and relative entries of the
    /// variable are left out: what is loaded must not depend on where the program is started.
    pub fn from_environment() -> Self {
        let variable = env::var_os(VARIABLE).unwrap_or_default();
        let mut directories: Vec<PathBuf> =
            env::split_paths(&variable).filter(|entry| entry.is_absolute()).collect();
        directories.extend(SYSTEM.iter().map(PathBuf::from));
        if let Ok(program) = env::current_exe()
            && let Some(directory) = program.parent()
        {
            directories.push(directory.join("plugins"));
        }
        Self { directories }
    }

    /// These directories only.
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories }
    }

    /// The directories, in order.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// The file that `name` stands for. With a slash in it, it is a path. `NAME.wasm` and `NAME.so` are files of the current
    /// directory, if there are such, else of the path; `NAME` is looked for on the path only, as `NAME.wasm` before `NAME.so`.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn find(&self, name: &str) -> Result<PathBuf, NotFound> {
        let as_path = Path::new(name);
        if name.contains('/') {
            return if as_path.is_file() {
                Ok(as_path.to_owned())
            } else {
                Err(NotFound { name: name.to_owned(), looked: Vec::new() })
            };
        }
        let complete =
            EXTENSIONS.iter().any(|extension| as_path.extension().is_some_and(|e| e == *extension));
        if complete && as_path.is_file() {
            // With a directory, so that the system's own search for libraries has no say.
            return Ok(Path::new(".").join(as_path));
        }
        for directory in &self.directories {
            if complete {
                let file = directory.join(name);
                if file.is_file() {
                    return Ok(file);
                }
                continue;
            }
            for extension in EXTENSIONS {
                let file = directory.join(format!("{name}.{extension}"));
                if file.is_file() {
                    return Ok(file);
                }
            }
        }
        Err(NotFound { name: name.to_owned(), looked: self.directories.clone() })
    }

    /// All files on the path that are called like plugins, in the order of the path and sorted within a directory. One that is
    /// hidden by an earlier one of the same file name is left out.
    pub fn list(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = Vec::new();
        for directory in &self.directories {
            let Ok(entries) = std::fs::read_dir(directory) else { continue };
            let mut files: Vec<PathBuf> = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|file| {
                    file.extension().is_some_and(|e| EXTENSIONS.iter().any(|extension| e == *extension))
                        && file.is_file()
                })
                .collect();
            files.sort();
            for file in files {
                if !found.iter().any(|earlier| earlier.file_name() == file.file_name()) {
                    found.push(file);
                }
            }
        }
        found
    }
}

/// [`SearchPath::find`] on the path of the environment.
///
/// # Errors
/// When there is no such file.
pub fn find(name: &str) -> Result<PathBuf, NotFound> {
    SearchPath::from_environment().find(name)
}

/// [`SearchPath::list`] on the path of the environment.
pub fn list() -> Vec<PathBuf> {
    SearchPath::from_environment().list()
}
