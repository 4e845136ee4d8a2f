//! From a file to a compiled component that is known to fit.

use super::bindings::{Protocol, ProtocolPre};
use super::engine::machine;
use super::{DESCRIBE, WasmModule, words};
use crate::cache::Cache;
use crate::descriptor::Descriptor;
use crate::limits::Limits;
use crate::module::LoadError;
use std::path::Path;
use wasmtime::component::Component;

/// The version of the WIT package that is offered.
const OFFERED: &str = "0.1.0";
/// What of a version has to be equal: with 0 before the dot, minor versions have nothing in common.
const SERIES: &str = "0.1.";
/// The package.
const PACKAGE: &str = "tcpcopy:plugin/";

impl WasmModule {
    /// Loads `bytes`, the content of `path`.
    pub(crate) fn load(
        path: &Path,
        bytes: &[u8],
        limits: &Limits,
        cache: Option<&Cache>,
    ) -> Result<(Self, Descriptor, String), LoadError> {
        let invalid = |reason: String| LoadError::Invalid { path: path.to_owned(), reason };
        let machine = machine().map_err(|error| invalid(format!("{error:#}")))?;
        let component = match cache.and_then(|cache| cache.get(&machine.engine, bytes)) {
            Some(component) => component,
            None => {
                let component = compile(path, &machine.engine, bytes)?;
                if let Some(cache) = cache {
                    cache.put(&machine.engine, bytes, &component);
                }
                component
            }
        };
        let version = check(path, &component)?;
        let pre = machine
            .linker
            .instantiate_pre(&component)
            .and_then(ProtocolPre::new)
            .map_err(|error| invalid(format!("{error:#}")))?;
        let module = Self { pre };
        let descriptor = module.describe(limits).map_err(|(kind, message)| LoadError::Failed {
            path: path.to_owned(),
            kind,
            message,
        })?;
        Ok((module, descriptor, format!("wit {version}")))
    }

    fn describe(&self, limits: &Limits) -> Result<Descriptor, (crate::FaultKind, String)> {
        let limits = Limits { deadline: DESCRIBE.max(limits.deadline), ..*limits };
        let (mut store, plugin): (_, Protocol) = self.instantiate(&limits, None)?;
        let answer = plugin
            .tcpcopy_plugin_plugin()
            .call_describe(&mut store)
            .map_err(|error| super::engine::classify(&error))?;
        Ok(words::descriptor(answer))
    }
}

/// Compiles a component, or a core module with the component's type embedded, which is made a component first.
fn compile(path: &Path, engine: &wasmtime::Engine, bytes: &[u8]) -> Result<Component, LoadError> {
    let invalid = |reason: String| LoadError::Invalid { path: path.to_owned(), reason };
    // The four bytes after the magic: version and layer. Core modules are layer 0.
    let core = bytes.get(4..8) == Some(&[1, 0, 0, 0]);
    if !core {
        return Component::from_binary(engine, bytes).map_err(|error| invalid(format!("{error:#}")));
    }
    if let Err(error) = wasmtime::Module::validate(engine, bytes) {
        return Err(invalid(format!("{error:#}")));
    }
    match encode(bytes) {
        Ok(encoded) => {
            Component::from_binary(engine, &encoded).map_err(|error| invalid(format!("{error:#}")))
        }
        Err(error) => Err(match foreign_import(engine, bytes) {
            Some(import) => LoadError::Import { path: path.to_owned(), import },
            None => invalid(format!("a core module that does not become a component ({error})")),
        }),
    }
}

/// Makes a component of a valid core module.
fn encode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    // The library indexes into the section that describes the interface without a check, so damaged ones make it panic. It works on
    // its own data only, all of which is dropped.
    let encoded = std::panic::catch_unwind(|| {
        wit_component::ComponentEncoder::default()
            .validate(true)
            .module(bytes)
            .and_then(|encoder| encoder.encode())
    });
    match encoded {
        Ok(encoded) => encoded.map_err(|error| format!("{error:#}")),
        Err(_) => Err("the description of its interface is damaged".to_owned()),
    }
}

/// The first import of a core module that is not of the interface.
fn foreign_import(engine: &wasmtime::Engine, bytes: &[u8]) -> Option<String> {
    let module = wasmtime::Module::from_binary(engine, bytes).ok()?;
    let import = module.imports().find(|import| !import.module().starts_with(PACKAGE))?;
    Some(format!("{}/{}", import.module(), import.name()))
}

/// Looks at imports and exports, before anything of the component runs: the version it was made for.
fn check(path: &Path, component: &Component) -> Result<String, LoadError> {
    let engine = component.engine();
    let kind = component.component_type();
    let version = |name: &str| -> Option<Result<String, LoadError>> {
        let (_, version) = name.strip_prefix(PACKAGE)?.split_once('@')?;
        if version.starts_with(SERIES) {
            return Some(Ok(version.to_owned()));
        }
        Some(Err(LoadError::Version { path: path.to_owned(), found: version.to_owned(), offered: OFFERED }))
    };
    for (name, _) in kind.imports(engine) {
        match version(name) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(LoadError::Import { path: path.to_owned(), import: name.to_owned() }),
        }
    }
    for (name, _) in kind.exports(engine) {
        if name.starts_with("tcpcopy:plugin/plugin@")
            && let Some(version) = version(name)
        {
            return version;
        }
    }
    Err(LoadError::NotAPlugin {
        path: path.to_owned(),
        what: "it is Wasm, but exports no tcpcopy:plugin/plugin; plugins are built with the SDK".to_owned(),
    })
}
