//! What a protocol plugin of tcpcopy is written with.
//!
//! Owns the trait [`Plugin`] and everything that its methods are handed, the macro [`export_plugin!`] that makes of one source a
//! WebAssembly module and a native library, helpers for parsing ([`cursor`], [`framing`]), the test kit ([`testing`]) and the
//! template of a new project ([`template`]). What actions mean to a session, and everything below (capture, TCP, connections,
//! pacing), is the host's business.

pub mod cursor;
pub mod framing;
#[cfg(not(target_family = "wasm"))]
pub mod template;
pub mod testing;

mod actions;
mod descriptor;
mod dispatch;
mod export;
mod plugin;
mod settings;
mod words;

pub use actions::Actions;
pub use descriptor::{Descriptor, Inputs, Needs, OptionKind, PluginOption, Side};
pub use plugin::Plugin;
pub use settings::{ConfigError, Settings, Value};
pub use words::{ClientEnd, Level, Loss, Opening, Origin, Reply, Timestamp};

/// What [`export_plugin!`] writes refers to this. No part of the interface.
#[doc(hidden)]
pub mod __private {
    #[cfg(not(target_family = "wasm"))]
    pub use crate::export::native;
    #[cfg(target_family = "wasm")]
    pub use crate::export::wasm;
}
