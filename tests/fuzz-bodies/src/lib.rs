//! What the fuzz targets do with one input.
//!
//! Each body takes any bytes, runs the code under test with them and panics when something that must hold does not. The
//! targets in `fuzz/` call nothing but these, and this crate's tests run them over the seed corpus, every input that once
//! failed, and mutations of both, so that ordinary test runs need neither a nightly compiler nor libFuzzer.
//!
//! What an input's bytes mean to a body is written down beside the body; [`seeds`] makes inputs by the same rules.

mod capture_file;
mod capture_seeds;
mod fragments;
mod http;
pub mod mutation;
mod mysql;
mod mysql_seeds;
mod options;
mod redis;
mod relay;
pub mod seeds;
mod session;
mod transfers;
mod wire;

pub use capture_file::capture_file;
pub use fragments::fragments;
pub use http::http;
pub use mysql::mysql;
pub use options::options;
pub use redis::redis;
pub use relay::{relay_client, relay_server};
pub use session::session;
pub use transfers::transfers;
pub use wire::wire;

/// A fuzz target: its name and what it does with one input.
#[derive(Clone, Copy)]
pub struct Target {
    /// Name of the cargo-fuzz target, and of its folders below `fuzz/corpus` and `fuzz/regressions`.
    pub name: &'static str,
    /// Takes one input.
    ///
    /// # Panics
    /// When something that must hold does not.
    pub body: fn(&[u8]),
}

/// All fuzz targets.
pub const TARGETS: [Target; 11] = [
    Target { name: "capture_file", body: capture_file },
    Target { name: "wire", body: wire },
    Target { name: "options", body: options },
    Target { name: "fragments", body: fragments },
    Target { name: "relay_client", body: relay_client },
    Target { name: "relay_server", body: relay_server },
    Target { name: "transfers", body: transfers },
    Target { name: "session", body: session },
    Target { name: "http", body: http },
    Target { name: "redis", body: redis },
    Target { name: "mysql", body: mysql },
];
