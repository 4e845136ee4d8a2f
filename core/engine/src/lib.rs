//! The replayer without input or output.
//!
//! This crate owns what happens between a captured packet and an outgoing one: reading packets, putting the client's bytes
//! in order, deciding when they may be sent, and playing a correct TCP client towards the target. It leaves to others where
//! packets come from, how they are sent, and what time it is: every entry point takes `now` as an argument.
//!
//! **Invariant:** nothing here reads a clock, opens a socket, starts a thread or knows a plugin format.
#![forbid(unsafe_code)]

pub mod batch;
pub mod config;
pub mod counters;
pub mod engine;
pub mod flow;
pub mod join;
pub mod mapping;
pub mod plugin;
pub mod protocol;
pub mod relay;
pub mod sampling;
pub mod seq;
pub mod stream;
pub mod tcp;
pub mod time;
pub mod timer;
pub mod wire;

mod session;
mod shared;

pub use config::EngineConfig;
pub use engine::Engine;
pub use shared::RouteChange;
