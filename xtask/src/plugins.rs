//! `cargo xtask build-plugins`: every plugin of the workspace as a WebAssembly component and as a native library.

use crate::cargo::{cargo, run};
use crate::setup::{self, WASM_TARGET};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::path::{Path, PathBuf};
use tcpcopy_lab::plugin::TEST_PLUGINS;
use tcpcopy_lab::programs;
use wit_component::{ComponentEncoder, DecodedWasm};

/// What the names of the plugins' packages begin with.
const PREFIX: &str = "tcpcopy-plugin-";
/// The feature by which a package in `plugins/` exports its plugin.
const FEATURE: &str = "export";
/// What a plugin may import, whatever the version.
const HOST: &str = "tcpcopy:plugin/host@";
/// Name of the section by which a module says what component it is.
const COMPONENT_TYPE: &[u8] = b"component-type";

/// What a plugin is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// For users: it goes into the folder of built plugins.
    Shipped,
    /// For tests: it goes into a folder of its own, where no user comes by it.
    Tests,
}

impl Use {
    /// Where the packages are.
    fn source(self) -> PathBuf {
        match self {
            Self::Shipped => programs::workspace().join("plugins"),
            Self::Tests => programs::workspace().join("tests/plugins"),
        }
    }

    /// Where they are put.
    fn folder(self) -> PathBuf {
        let plugins = programs::target_folder().join("plugins");
        match self {
            Self::Shipped => plugins,
            Self::Tests => plugins.join(TEST_PLUGINS),
        }
    }
}

/// A plugin's package.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    /// What it is for.
    purpose: Use,
    /// As in its `Cargo.toml`.
    package: String,
    /// As its users call it.
    name: String,
    /// As its library is called.
    library: String,
}

/// Builds all plugins and returns the folder that those for users are in.
pub(crate) fn build() -> Result<PathBuf> {
    let folder = Use::Shipped.folder();
    let packages = find()?;
    if packages.is_empty() {
        return Ok(folder);
    }
    setup::install_wasm_target()?;
    println!("==> building the plugins");
    let mut words = vec!["build".to_owned(), "--release".to_owned(), "--quiet".to_owned()];
    for Package { package, .. } in &packages {
        words.extend(["-p".to_owned(), package.clone(), format!("--features={package}/{FEATURE}")]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    run(cargo(&words))?;
    // Names stay, for the traces of traps; they are small.
    let wasm = ["--target", WASM_TARGET, "--config", "profile.release.strip=\"debuginfo\""];
    run(cargo(&[words.as_slice(), wasm.as_slice()].concat()))?;

    let built = programs::target_folder();
    for Package { name, library, purpose, .. } in &packages {
        let module = built.join(WASM_TARGET).join("release").join(format!("{library}.wasm"));
        let native = built.join("release").join(format!("lib{library}.so"));
        let module = std::fs::read(&module).with_context(|| format!("reading {}", module.display()))?;
        let native = std::fs::read(&native).with_context(|| format!("reading {}", native.display()))?;
        if !module.windows(COMPONENT_TYPE.len()).any(|bytes| bytes == COMPONENT_TYPE) {
            println!("    {name}: left out, it exports no plugin");
            continue;
        }
        let component = componentize(&module)
            .and_then(|component| check_imports(&component).map(|()| component))
            .with_context(|| format!("making a component of the plugin {name}"))?;
        let folder = purpose.folder();
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        for (kind, bytes) in [("wasm", component), ("so", native)] {
            let file = folder.join(format!("{name}.{kind}"));
            replace(&file, &bytes)?;
            println!("    {:<40} {:>6} KiB", file.display(), bytes.len().div_ceil(1024));
        }
    }
    Ok(folder)
}

/// The workspace's packages in `plugins/` and `tests/plugins` that have the feature.
fn find() -> Result<Vec<Package>> {
    let mut command = cargo(&["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    let metadata = serde_json::from_slice(&output.stdout).context("reading what cargo metadata says")?;
    let mut found = Vec::new();
    for purpose in [Use::Shipped, Use::Tests] {
        found.extend(packages(&metadata, &purpose.source(), purpose)?);
    }
    Ok(found)
}

fn packages(metadata: &serde_json::Value, folder: &Path, purpose: Use) -> Result<Vec<Package>> {
    let all = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let mut found = Vec::new();
    for package in all {
        let is_here =
            package["manifest_path"].as_str().is_some_and(|path| Path::new(path).starts_with(folder));
        if !is_here || package["features"].get(FEATURE).is_none() {
            continue;
        }
        let full = package["name"].as_str().unwrap_or_default();
        let targets = package["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_cdylib = |target: &&serde_json::Value| {
            target["crate_types"].as_array().is_some_and(|types| types.iter().any(|kind| kind == "cdylib"))
        };
        let library = targets
            .iter()
            .find(is_cdylib)
            .and_then(|target| target["name"].as_str())
            .ok_or_else(|| anyhow!("{full} has no library of the type cdylib"))?;
        let name = full
            .strip_prefix(PREFIX)
            .ok_or_else(|| anyhow!("the package of a plugin is called {PREFIX}NAME, not {full}"))?;
        found.push(Package {
            purpose,
            package: full.to_owned(),
            name: name.to_owned(),
            library: library.replace('-', "_"),
        });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// Magic, version and layer of a component (the component model's binary format).
const COMPONENT_HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

/// Makes the component that a module describes itself to be.
fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(module)?;
    encoder.encode()
}

/// Refuses what tcpcopy would refuse.
fn check_imports(component: &[u8]) -> Result<()> {
    // A core module may describe a component in its custom sections, and decodes as well.
    ensure!(component.starts_with(COMPONENT_HEADER), "it is no component");
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
        bail!("it is no component")
    };
    let imports = resolve.worlds[world].imports.keys().map(|key| resolve.name_world_key(key));
    let strange: Vec<String> = imports.filter(|name| !is_known(name)).collect();
    ensure!(
        strange.is_empty(),
        "it imports {}\nhint: tcpcopy gives a plugin no files, network, clock or environment; build it for {WASM_TARGET}, \
         and without what needs them",
        strange.join(", ")
    );
    Ok(())
}

/// Whether a plugin may import this: the host, and the words that both sides use.
fn is_known(import: &str) -> bool {
    import.starts_with(HOST) || import.starts_with("tcpcopy:plugin/types@")
}

/// Writes a file in one step: a library that is in use must not change under its users.
fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = file.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, file))
        .with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn packages_with_the_feature_are_plugins() {
        let target = |name: &str| json!([{ "name": name, "crate_types": ["cdylib", "rlib"] }]);
        let metadata = json!({ "packages": [
            { "name": "tcpcopy-plugin-redis", "manifest_path": "/w/plugins/redis/Cargo.toml",
              "features": { "export": [] }, "targets": target("tcpcopy_redis") },
            { "name": "helper", "manifest_path": "/w/plugins/helper/Cargo.toml", "features": {}, "targets": [] },
            { "name": "tcpcopy", "manifest_path": "/w/core/tcpcopy/Cargo.toml", "features": { "export": [] }, "targets": [] },
        ] });
        let found = packages(&metadata, Path::new("/w/plugins"), Use::Shipped).unwrap();
        let [only] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((only.name.as_str(), only.library.as_str()), ("redis", "tcpcopy_redis"));
    }

    #[test]
    fn this_workspace_has_plugins() {
        let names: Vec<String> = find().unwrap().into_iter().map(|package| package.name).collect();
        assert!(
            ["faulty", "http", "mysql", "redis"].iter().all(|name| names.iter().any(|known| known == name)),
            "{names:?}"
        );
    }

    #[test]
    fn only_the_host_may_be_imported() {
        assert!(is_known("tcpcopy:plugin/host@0.1.0"));
        assert!(!is_known("wasi:random/random@0.2.0"));
        assert!(!is_known("tcpcopy:plugins/host@0.1.0"));
    }

    #[test]
    fn what_is_no_plugin_is_refused() {
        assert!(componentize(b"not a module").is_err());
        // An empty module is a module, and no component.
        assert!(check_imports(b"\0asm\x01\0\0\0").is_err());
    }
}
