//! Plugins to test the host with: a hand-written Wasm module and a native library of the same behaviour.
//!
//! Both forward each request, unless its first byte is one of: `L` loops for ever, `A` allocates for ever, `T` traps, `X` returns
//! a list outside its memory, `K` an action of no known kind, `O` a span outside its bytes, `G` gives up with "why", `C` counts
//! 2 "seen" and logs, `R` sends eight random bytes instead. The setting `mode=b…` is refused.

// Used by tests and by the benchmark, which need different parts.
#![allow(dead_code, unreachable_pub)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_engine::plugin::{Event, EventBatch, Input, Opening, Span};
use tcpcopy_engine::protocol::Origin;
use tcpcopy_plugin_host::{CacheDir, Limits, LoadError, Loader, LoaderOptions, Module};
use tempfile::TempDir;

/// The text of the Wasm plugin.
pub const WAT: &str = include_str!("guest.wat");
const WIT: &str = include_str!("../../../../wit/v0.1/plugin.wit");
const NATIVE: &str = include_str!("guest_native.txt");

/// `wat` as a core module with the interface's type embedded; both speak of `version`.
pub fn module(wat: &str, version: &str) -> Vec<u8> {
    let mut bytes = wat::parse_str(wat.replace("@0.1.0", &format!("@{version}"))).expect("valid text");
    let mut resolve = wit_parser::Resolve::default();
    let wit = WIT.replace("@0.1.0", &format!("@{version}"));
    let package = resolve.push_str("plugin.wit", &wit).expect("valid interface");
    let world = resolve.select_world(&[package], Some("protocol")).expect("the world");
    wit_component::embed_component_metadata(&mut bytes, &resolve, world, wit_component::StringEncoding::UTF8)
        .expect("a module");
    bytes
}

/// The same as a component.
pub fn component(wat: &str, version: &str) -> Vec<u8> {
    wit_component::ComponentEncoder::default()
        .module(&module(wat, version))
        .and_then(|encoder| encoder.validate(true).encode())
        .expect("a component")
}

/// A directory with one file in it.
pub fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(name);
    fs::write(&path, bytes).expect("a file");
    (directory, path)
}

/// Loads bytes as a file, without a cache.
pub fn load_bytes(bytes: &[u8], limits: Limits) -> Result<Module, LoadError> {
    let (_directory, path) = file("guest.wasm", bytes);
    Module::load(&path, &loader(limits))
}

/// A loader without a cache, and with a seed.
pub fn loader(limits: Limits) -> Loader {
    Loader::new(LoaderOptions { cache_dir: CacheDir::Off, limits, seed: Some(7) })
}

/// Limits that make tests short.
pub fn quick() -> Limits {
    Limits { deadline: Duration::from_millis(40), memory_bytes: 8 << 20, ..Limits::default() }
}

/// Compiles the native plugin with some of its deviations switched on.
pub fn native(deviations: &[&str], optimise: bool) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let abi = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk/abi/src/lib.rs");
    let source = directory.path().join("guest.rs");
    fs::write(&source, format!("#[path = {abi:?}]\nmod abi;\n{NATIVE}")).expect("a file");
    let library = directory.path().join("guest.so");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args([
        "--crate-type",
        "cdylib",
        "--edition",
        "2024",
        "--crate-name",
        "guest",
        "--cap-lints",
        "allow",
    ]);
    rustc.arg(if optimise { "-Copt-level=3" } else { "-Copt-level=0" });
    for deviation in deviations {
        rustc.args(["--cfg", deviation]);
    }
    let output = rustc.arg("-o").arg(&library).arg(&source).output().expect("rustc runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (directory, library)
}

/// An opening of any session.
pub fn opening() -> Opening {
    let end = |port| Endpoint::new("127.0.0.1".parse().expect("an address"), port);
    Opening { origin: Origin::Start, client: end(4000), online: end(80), target: end(8080) }
}

/// A batch with a request for each.
pub fn requests(requests: &[(u64, &[u8])]) -> EventBatch {
    let mut batch = EventBatch::default();
    for (session, bytes) in requests {
        let span = Span { start: batch.bytes.len() as u32, length: bytes.len() as u32 };
        batch.bytes.extend_from_slice(bytes);
        batch.events.push(Event { session: *session, at: 1, input: Input::Request(span) });
    }
    batch
}

/// The SDK's template, built both ways: component and library. A line that is skipped and reads `panic` makes it panic.
pub fn sdk_plugin() -> (PathBuf, PathBuf) {
    static BUILT: std::sync::OnceLock<(PathBuf, PathBuf)> = std::sync::OnceLock::new();
    BUILT.get_or_init(build_sdk_plugin).clone()
}

fn build_sdk_plugin() -> (PathBuf, PathBuf) {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk");
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Each test may be a process of its own, and they must not write one folder at the same time.
    let lock = fs::File::create(base.join("host-lines.lock")).expect("a file");
    lock.lock().expect("locked until it is closed");
    let folder = base.join("host-lines");
    let put = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().expect("in a folder")).expect("made");
        // What does not change is not built again.
        if fs::read(&file).ok().as_deref() != Some(text.as_bytes()) {
            fs::write(&file, text).expect("written");
        }
    };
    for (path, text) in plugin_sdk::template::render("host-lines", &format!("{{ path = {sdk:?} }}")) {
        let text = text.replace(
            "actions.discard(length);",
            "if line == b\"panic\\n\" { panic!(\"as told\") } actions.discard(length);",
        );
        put(&path, &text);
    }
    put("Cargo.lock", &fs::read_to_string(sdk.join("../Cargo.lock")).expect("there is one"));
    let target = base.join("sdk-target");
    for extra in [&[][..], &["--target", "wasm32-unknown-unknown"][..]] {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--offline", "--quiet", "--release"])
            .args(extra)
            .current_dir(&folder)
            .env("CARGO_TARGET_DIR", &target)
            .env_remove("CARGO_BUILD_TARGET")
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    (target.join("wasm32-unknown-unknown/release/host_lines.wasm"), target.join("release/libhost_lines.so"))
}
