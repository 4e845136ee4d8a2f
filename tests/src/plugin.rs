//! Plugins in the lab: where they are, how a replay is given one, and tests that run once for each way a plugin is built.

use crate::case::REQUIRE_LAB;
use crate::programs::target_folder;
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Folder with the built plugins, for those who build them elsewhere.
pub const PLUGIN_DIR: &str = "TCPCOPY_PLUGIN_DIR";

/// Folder, within that of the built plugins, of those that only tests use.
pub const TEST_PLUGINS: &str = "tests";

/// How a plugin is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As a WebAssembly component.
    Wasm,
    /// As a native library.
    Native,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Wasm, Self::Native];

    /// The extension of its files.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Native => "so",
        }
    }

    /// As the report says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Native => "native",
        }
    }
}

/// What captured traffic goes through before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// Nothing: as with no plugin.
    Nothing,
    /// The plugin of its protocol.
    Plugin(Kind),
}

/// Folder with the built plugins: [`PLUGIN_DIR`], else `plugins` in the workspace's folder for what is built.
pub fn plugin_folder() -> PathBuf {
    std::env::var_os(PLUGIN_DIR).map_or_else(|| target_folder().join("plugins"), PathBuf::from)
}

/// The file of the plugin called `name`.
///
/// # Errors
/// When it was not built.
pub fn find(name: &str, kind: Kind) -> Result<PathBuf> {
    let (folder, file) = (plugin_folder(), format!("{name}.{}", kind.extension()));
    match [folder.join(&file), folder.join(TEST_PLUGINS).join(&file)].into_iter().find(|file| file.exists()) {
        Some(file) => Ok(file),
        None => bail!("there is no {file} in {}\nhint: cargo xtask build-plugins", folder.display()),
    }
}

/// Whether the plugins called `names` are there. If not, a test that needs them is to be skipped.
///
/// # Panics
/// When one is missing and [`REQUIRE_LAB`] is set.
pub fn are_built(names: &[&str]) -> bool {
    let missing = names.iter().flat_map(|name| Kind::ALL.map(|kind| find(name, kind))).find_map(Result::err);
    let Some(missing) = missing else { return true };
    let required = std::env::var(REQUIRE_LAB).is_ok_and(|value| value != "0");
    assert!(!required, "{missing:#}");
    eprintln!("skipped: {missing:#}");
    false
}

/// A plugin for a replay, with its options.
#[derive(Clone, Debug)]
pub struct Module {
    name: String,
    kind: Kind,
    ports: Vec<u16>,
    options: Vec<String>,
}

impl Module {
    /// The plugin called `name`.
    pub fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), kind, ports: Vec::new(), options: Vec::new() }
    }

    /// The HTTP plugin.
    pub fn http(kind: Kind) -> Self {
        Self::new("http", kind)
    }

    /// The Redis plugin.
    pub fn redis(kind: Kind) -> Self {
        Self::new("redis", kind)
    }

    /// For connections to this port of the online server, and no others but those also given.
    pub fn port(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }

    /// With one of its own options: `name=value`.
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// Its file.
    ///
    /// # Errors
    /// As [`find`].
    pub fn file(&self) -> Result<PathBuf> {
        find(&self.name, self.kind)
    }

    /// What `tcpcopy` gets for it.
    pub fn arguments(&self) -> Vec<String> {
        // A file that is not there is `tcpcopy`'s error to tell; `are_built` comes first in tests.
        let file = self.file().unwrap_or_else(|_| plugin_folder().join(&self.name));
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        let mut arguments = vec!["--module".to_owned(), file.display().to_string()];
        if !ports.is_empty() {
            arguments[1] += &format!(":{}", ports.join(","));
        }
        for option in &self.options {
            arguments.extend(["--module-opt".to_owned(), format!("{}.{option}", self.name)]);
        }
        arguments
    }
}

/// Declares tests of functions that take a [`Kind`]: `plugin_tests!([pipelines])` gives `wasm::pipelines` and
/// `native::pipelines`.
#[macro_export]
macro_rules! plugin_tests {
    ([$($name:ident),* $(,)?]) => {
        mod wasm { $( #[test] fn $name() { super::$name($crate::plugin::Kind::Wasm) } )* }
        mod native { $( #[test] fn $name() { super::$name($crate::plugin::Kind::Native) } )* }
    };
}

/// Declares tests of functions that take a [`Through`]: `workload_tests!([pipelines])` gives `plain::pipelines`, without a plugin,
/// `wasm::pipelines` and `native::pipelines`.
#[macro_export]
macro_rules! workload_tests {
    ([$($name:ident),* $(,)?]) => {
        mod plain { $( #[test] fn $name() { super::$name($crate::plugin::Through::Nothing) } )* }
        mod wasm {
            $( #[test] fn $name() { super::$name($crate::plugin::Through::Plugin($crate::plugin::Kind::Wasm)) } )*
        }
        mod native {
            $( #[test] fn $name() { super::$name($crate::plugin::Through::Plugin($crate::plugin::Kind::Native)) } )*
        }
    };
}
