//! Loads a file as a plugin: finds out what it is, checks it, and asks it what it is.

use crate::cache::{Cache, CacheDir};
use crate::configured::{ConfigureError, Configured};
use crate::descriptor::{Descriptor, Setting};
use crate::instance::Code;
use crate::limits::{FaultKind, Limits};
use crate::native::NativeModule;
use crate::shared::Shared;
use crate::wasm::WasmModule;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest file that is taken for a plugin, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// What a plugin is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Wasm component.
    Wasm,
    /// A native library.
    Native,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wasm => "wasm",
            Self::Native => "native",
        })
    }
}

/// Why a file is no plugin that can be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is of no kind that is known.
    #[error("{} is no plugin: {what}", path.display())]
    NotAPlugin {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// It is damaged, or uses what is not supported.
    #[error("{} is no valid plugin: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It imports what is not offered.
    #[error(
        "{} imports {import}, which tcpcopy does not offer: plugins have no access to the system. Build it without, for \
         the target wasm32-unknown-unknown",
        path.display()
    )]
    Import {
        /// The file.
        path: PathBuf,
        /// The import.
        import: String,
    },
    /// It was made for another version of the interface.
    #[error(
        "{} was made for version {found} of the plugin interface; this tcpcopy offers {offered}",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What it was made for.
        found: String,
        /// What is offered.
        offered: &'static str,
    },
    /// It failed when it was asked what it is.
    #[error("{} fails when it is asked what it is ({kind}): {message}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// How.
        kind: FaultKind,
        /// What happened.
        message: String,
    },
    /// What it says of itself breaks the rules.
    #[error("{} describes itself wrongly: {reason}", path.display())]
    Descriptor {
        /// The file.
        path: PathBuf,
        /// Which rule.
        reason: String,
    },
}

/// What a [`Loader`] is told.
#[derive(Clone, Debug, Default)]
pub struct LoaderOptions {
    /// Where compiled modules are kept.
    pub cache_dir: CacheDir,
    /// Limits of every plugin that is loaded.
    pub limits: Limits,
    /// Where the random bytes of plugins come from: the same seed gives the same bytes. Without one, the system's.
    pub seed: Option<u64>,
}

/// Loads plugins.
#[derive(Clone, Debug, Default)]
pub struct Loader {
    options: LoaderOptions,
}

impl Loader {
    /// A loader with these options.
    pub fn new(options: LoaderOptions) -> Self {
        Self { options }
    }
}

/// A plugin that was loaded, checked and described. Clones share its code.
#[derive(Clone)]
pub struct Module {
    path: PathBuf,
    descriptor: Arc<Descriptor>,
    abi: String,
    code: Code,
    limits: Limits,
    seed: Option<u64>,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("path", &self.path).field("abi", &self.abi).finish_non_exhaustive()
    }
}

impl Module {
    /// Loads `path`, by its content: a component, a core module with the component's type embedded in it, or a native library.
    ///
    /// A native library runs with all rights of the program from here on.
    ///
    /// # Errors
    /// When it is no plugin, or none for this host.
    pub fn load(path: &Path, loader: &Loader) -> Result<Self, LoadError> {
        let bytes = read(path)?;
        let options = &loader.options;
        let (code, descriptor, abi) = match bytes.get(..8) {
            Some([0x7f, b'E', b'L', b'F', ..]) => {
                let (module, descriptor, abi) = NativeModule::load(path, &bytes)?;
                (Code::Native(module), descriptor, abi)
            }
            Some([0, b'a', b's', b'm', ..]) => {
                let cache = Cache::open(&options.cache_dir);
                let (module, descriptor, abi) =
                    WasmModule::load(path, &bytes, &options.limits, cache.as_ref())?;
                (Code::Wasm(module), descriptor, abi)
            }
            _ => {
                let what = if bytes.is_empty() {
                    "it is empty".to_owned()
                } else {
                    "it is neither a Wasm component nor a native library".to_owned()
                };
                return Err(LoadError::NotAPlugin { path: path.to_owned(), what });
            }
        };
        descriptor.check().map_err(|reason| LoadError::Descriptor { path: path.to_owned(), reason })?;
        Ok(Self {
            path: path.to_owned(),
            descriptor: Arc::new(descriptor),
            abi,
            code,
            limits: options.limits,
            seed: options.seed,
        })
    }

    /// What the plugin says of itself.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// What it is made of.
    pub fn kind(&self) -> Kind {
        match self.code {
            Code::Wasm(_) => Kind::Wasm,
            Code::Native(_) => Kind::Native,
        }
    }

    /// The file that it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The interface that it was made for, as `wit 0.1.0` or `native 1.0`.
    pub fn abi(&self) -> &str {
        &self.abi
    }

    /// The plugin with `settings`, which come from [`crate::settings::resolve`]. An instance is made to learn what the plugin
    /// thinks of them. Each call gives a plugin of its own, with its own report.
    ///
    /// # Errors
    /// When the plugin refuses the settings, or fails.
    pub fn configure(&self, settings: Vec<Setting>) -> Result<Configured, ConfigureError> {
        let mut seed = [0; 32];
        match self.seed {
            Some(given) => seed[..8].copy_from_slice(&given.to_le_bytes()),
            None => getrandom::fill(&mut seed).map_err(ConfigureError::Random)?,
        }
        let shared = Arc::new(Shared::new(&self.descriptor.name, self.limits));
        Configured::new(self.code.clone(), settings, shared, &self.descriptor, seed)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let read =
        File::open(path).map_err(failed)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if read as u64 > MAX_FILE {
        let what = format!("it has more than {MAX_FILE} bytes");
        return Err(LoadError::NotAPlugin { path: path.to_owned(), what });
    }
    Ok(bytes)
}
