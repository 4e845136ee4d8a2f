//! Redis, RESP2 and RESP3, for tcpcopy.
//!
//! The pure parts, which know nothing of tcpcopy: [`request`] and [`reply`] find where messages begin and end, [`commands`] and
//! [`keys`] know what commands are, [`outstanding`] which reply answers which request. [`session`] puts them together for one
//! client, [`Redis`] is what tcpcopy loads. What the options mean is in the README beside this crate.

pub mod answers;
pub mod asked;
pub mod commands;
pub mod encode;
pub mod explain;
pub mod glob;
pub mod inline;
pub mod keys;
pub mod memory;
pub mod options;
pub mod outstanding;
mod plugin;
pub mod reply;
pub mod request;
pub mod resync;
pub mod rules;
pub mod session;

pub use plugin::Redis;
