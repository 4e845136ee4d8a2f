//! All `unsafe` code of this crate: native libraries, and compiled modules from the cache.

mod text;

pub(crate) mod native;

use wasmtime::Engine;
use wasmtime::component::Component;

/// A compiled component. For [`crate::cache`] alone, which knows where `code` comes from.
pub(crate) fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` must be what `Component::serialize` gave. The cache reads it from a directory and a file that only this user
    // can write, compares its checksum, and wasmtime itself compares its version and settings. Who can write there can run
    // any program as this user already.
    unsafe { Component::deserialize(engine, code) }
}
