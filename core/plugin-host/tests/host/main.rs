//! The host against plugins that behave, and plugins that don't.

#[path = "../guest/mod.rs"]
mod guest;

mod cache;
mod faults;
mod groups;
mod native;
mod options;
mod refused;
mod sdk;
