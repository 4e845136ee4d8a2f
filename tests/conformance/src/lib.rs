//! The conformance suite: what holds for every plugin, played through the real host.
//!
//! A [`Transcript`] is what happened to one session. It is [played](play) to a plugin, in the engine's place, with its bytes split
//! in many ways; the [`Record`]s of the plugin's decisions must be equal, and the same for the plugin as Wasm and as native.
//! Transcripts come from [`fixtures`] in this crate and from the [`corpus`] of captures. What the decisions should be is for the
//! tests of each plugin.
#![forbid(unsafe_code)]

pub mod corpus;
pub mod fixtures;
mod play;
mod transcript;

pub use play::{Decision, Record, Split, play};
pub use transcript::{Step, Transcript};
