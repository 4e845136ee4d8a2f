//! Compiled modules on disk.
//!
//! What is read from here is run without any further check, so the directory has to belong to the user of the process and be
//! writable by nobody else; otherwise there is no cache. An entry is found by the hash of the plugin's file, of the compiler's
//! version and settings, and of this program's version, and carries a checksum. Failing to read or write one costs a
//! compilation and nothing else. Entries that were not used for longest go when there are more than a few.

use crate::sys;
use sha2::{Digest, Sha256};
use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Largest entry that is read, in bytes.
const MAX_ENTRY: u64 = 1 << 30;
/// Entries that are kept: those used last.
const KEPT: usize = 64;
/// Length of the checksum that an entry begins with, in bytes.
const CHECKSUM: usize = 32;

/// Where compiled modules are kept.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum CacheDir {
    /// `$XDG_CACHE_HOME/tcpcopy`; without that variable `/var/cache/tcpcopy` for root, `~/.cache/tcpcopy` for others.
    #[default]
    Default,
    /// This directory; it is made if it is not there.
    At(PathBuf),
    /// Nowhere.
    Off,
}

impl CacheDir {
    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Off => None,
            Self::At(path) => Some(path.clone()),
            Self::Default => {
                let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
                if let Some(base) = absolute("XDG_CACHE_HOME") {
                    return Some(base.join("tcpcopy"));
                }
                if rustix::process::geteuid().is_root() {
                    return Some(PathBuf::from("/var/cache/tcpcopy"));
                }
                absolute("HOME").map(|home| home.join(".cache/tcpcopy"))
            }
        }
    }
}

/// An open cache.
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The cache, if it can be trusted.
    pub(crate) fn open(place: &CacheDir) -> Option<Self> {
        let directory = place.path()?;
        match prepare(&directory) {
            Ok(()) => Some(Self { directory }),
            Err(error) => {
                tracing::debug!(directory = %directory.display(), "no cache of compiled plugins: {error}");
                None
            }
        }
    }

    /// The compiled component for a plugin's file with these bytes, if there is one.
    pub(crate) fn get(&self, engine: &Engine, bytes: &[u8]) -> Option<Component> {
        let path = self.entry(engine, bytes);
        let code = match read(&path) {
            Ok(code) => code,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::debug!(file = %path.display(), "a compiled plugin is not used: {error}");
                }
                return None;
            }
        };
        match sys::deserialize(engine, &code) {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::debug!(file = %path.display(), "a compiled plugin is not used: {error:#}");
                None
            }
        }
    }

    /// Keeps a compiled component.
    pub(crate) fn put(&self, engine: &Engine, bytes: &[u8], component: &Component) {
        let path = self.entry(engine, bytes);
        let written = component.serialize().map_err(io::Error::other).and_then(|code| write(&path, &code));
        if let Err(error) = written {
            tracing::debug!(file = %path.display(), "a compiled plugin is not kept: {error}");
        }
        if let Err(error) = prune(&self.directory) {
            tracing::debug!(directory = %self.directory.display(), "old compiled plugins are not removed: {error}");
        }
    }

    fn entry(&self, engine: &Engine, bytes: &[u8]) -> PathBuf {
        let mut compiler = Collect(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut compiler);
        let mut key = Sha256::new();
        key.update(env!("CARGO_PKG_VERSION"));
        key.update(compiler.0.finalize());
        key.update(Sha256::digest(bytes));
        let name: String = key.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        self.directory.join(format!("{name}.compiled"))
    }
}

/// Feeds what is hashed to a hash that is the same in every process.
struct Collect(Sha256);

impl Hasher for Collect {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// Makes the directory if needed, and checks that it belongs to the process's user and nobody else can write to it, nor put
/// another in its place.
fn prepare(directory: &Path) -> io::Result<()> {
    if !directory.is_absolute() {
        return Err(io::Error::other("its path is relative"));
    }
    if !directory.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let user = rustix::process::geteuid().as_raw();
    let real = fs::canonicalize(directory)?;
    let own = fs::symlink_metadata(&real)?;
    if !own.is_dir() || own.uid() != user || own.mode() & 0o077 != 0 {
        return Err(io::Error::other("it has to be a directory of this user with mode 0700"));
    }
    for parent in real.ancestors().skip(1) {
        let metadata = fs::symlink_metadata(parent)?;
        let trusted = metadata.uid() == user || metadata.uid() == 0;
        // In a directory with the sticky bit, others can't rename what is not theirs.
        let sealed = metadata.mode() & 0o022 == 0 || metadata.mode() & 0o1000 != 0;
        if !trusted || !sealed {
            return Err(io::Error::other(format!("others can write to {}", parent.display())));
        }
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(path)?;
    let metadata = file.metadata()?;
    let user = rustix::process::geteuid().as_raw();
    if !metadata.is_file() || metadata.uid() != user || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("it is not this user's file alone"));
    }
    let mut content = Vec::new();
    (&file).take(MAX_ENTRY).read_to_end(&mut content)?;
    let code = content.split_off(content.len().min(CHECKSUM));
    if Sha256::digest(&code)[..] != content[..] {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum is wrong"));
    }
    // So that it is known as used. On a file system that can't be written to, nothing is removed either.
    let _ = file.set_modified(SystemTime::now());
    Ok(code)
}

/// Removes the entries beyond [`KEPT`] that were not used for longest, and what writing left behind when it was broken off.
fn prune(directory: &Path) -> io::Result<()> {
    /// Nobody writes for so long.
    const ABANDONED: Duration = Duration::from_secs(3600);
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let used = entry.metadata()?.modified()?;
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("compiled") => entries.push((used, path)),
            Some("new") if used.elapsed().is_ok_and(|age| age > ABANDONED) => fs::remove_file(path)?,
            _ => {}
        }
    }
    entries.sort_unstable();
    let surplus = entries.len().saturating_sub(KEPT);
    entries.drain(..surplus).try_for_each(|(_, path)| fs::remove_file(path))
}

/// `O_NOFOLLOW`.
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

fn write(path: &Path, code: &[u8]) -> io::Result<()> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{serial}.new", std::process::id()));
    let written = (|| {
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&Sha256::digest(code))?;
        file.write_all(code)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // Nothing else can be done about it, and the next run does not need it.
        let _ = fs::remove_file(&temporary);
    }
    written
}
