//! The project that `tcpcopy plugin new` writes: it compiles, passes its own tests, and is built both ways.

use plugin_sdk::template;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set where nothing may be skipped.
const REQUIRED: &str = "TCPCOPY_REQUIRE_LAB";
const WASM: &str = "wasm32-unknown-unknown";

/// Writes the project with a dependency on the SDK as it is here.
fn project(name: &str) -> PathBuf {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // What an earlier version of the template wrote must not help.
    let _ = std::fs::remove_dir_all(&folder);
    for (path, text) in template::render(name, &format!("{{ path = {:?} }}", sdk.display())) {
        let file = folder.join(path);
        let parent = file.parent().expect("a file is in a folder");
        std::fs::create_dir_all(parent).expect("the target folder can be written");
        std::fs::write(&file, text).expect("the target folder can be written");
    }
    // The versions that the workspace has, which are there without a network.
    std::fs::copy(sdk.join("../Cargo.lock"), folder.join("Cargo.lock"))
        .expect("the workspace has a lock file");
    folder
}

fn cargo(folder: &Path, words: &[&str]) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("target");
    let output = Command::new(env!("CARGO"))
        .args(words)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target)
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .expect("cargo runs this test");
    assert!(
        output.status.success(),
        "cargo {}\n{}{}",
        words.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn has_wasm_target() -> bool {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", WASM]).output();
    output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).exists())
}

#[test]
fn a_new_project_passes_its_tests_and_builds_both_ways() {
    let folder = project("my-lines");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("target");
    cargo(&folder, &["test", "--offline", "--quiet"]);
    cargo(&folder, &["build", "--offline", "--quiet"]);
    let library = std::fs::read(target.join("debug/libmy_lines.so")).expect("a native library");
    assert!(
        library.windows(17).any(|bytes| bytes == b"tcpcopy_plugin_v0"),
        "it exports what tcpcopy looks for"
    );
    if !has_wasm_target() {
        assert!(
            std::env::var_os(REQUIRED).is_none(),
            "the target {WASM} is not installed: rustup target add {WASM}"
        );
        eprintln!("skipped the WebAssembly build: rustup target add {WASM}");
        return;
    }
    cargo(&folder, &["build", "--quiet", "--release", "--target", WASM]);
    let module = std::fs::read(target.join(WASM).join("release/my_lines.wasm")).expect("a module");
    assert!(module.starts_with(b"\0asm\x01\0\0\0"), "a core module");
    // As tcpcopy does when it loads the module.
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder.validate(true).module(&module).expect("the module describes its interface");
    let component = encoder.encode().expect("the module is what it describes");
    let decoded = wit_component::decode(&component).expect("a component");
    let wit_component::DecodedWasm::Component(resolve, world) = decoded else { panic!("a component") };
    let world = &resolve.worlds[world];
    let names = |keys: Vec<_>| keys.into_iter().map(|key| resolve.name_world_key(key)).collect::<Vec<_>>();
    let imports = names(world.imports.keys().collect());
    assert_eq!(
        imports,
        ["tcpcopy:plugin/host@0.1.0", "tcpcopy:plugin/types@0.1.0"],
        "the host, and the words that both sides use"
    );
    assert_eq!(names(world.exports.keys().collect()), ["tcpcopy:plugin/plugin@0.1.0"]);
}
