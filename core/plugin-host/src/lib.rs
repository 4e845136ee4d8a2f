//! Loads protocol plugins, and calls them for the engine.
//!
//! Owns what a plugin is made of: a Wasm component ([`Kind::Wasm`]) that has no access to anything but the few functions of
//! `wit/v0.1`, or a native library ([`Kind::Native`]) that is trusted like the program itself. Both stand behind the engine's
//! [`PluginRunner`](tcpcopy_engine::plugin::PluginRunner), which is all that sessions know. What actions mean to a session is
//! the engine's business.
//!
//! [`Module::load`] reads, checks and describes a file; [`settings::resolve`] makes settings out of what users write;
//! [`Module::configure`] asks the plugin what it thinks of them; [`Configured::runner`] gives each worker its own runner.

mod cache;
mod calls;
mod configured;
mod descriptor;
mod instance;
mod limits;
mod module;
mod native;
mod report;
mod runner;
pub mod search;
pub mod settings;
mod shared;
mod sys;
mod throttle;
mod wasm;

pub use cache::CacheDir;
pub use configured::{ConfigureError, Configured};
pub use descriptor::{Descriptor, Needs, OptionKind, PluginOption, Setting, SettingValue, Sharing, Side};
pub use limits::{FaultKind, Limits, OnError};
pub use module::{Kind, LoadError, Loader, LoaderOptions, Module};
pub use report::{FaultCount, ModuleReport};
pub use search::SearchPath;
