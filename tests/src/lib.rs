//! The lab: four hosts on one wire, made of network namespaces, with real servers and clients in them.
//!
//! ```text
//!   client ── online      the client talks to the online server; tcpcopy runs there and replays to the target
//!     └──┬──────┘
//!      bridge             one Ethernet segment, IPv4 and IPv6
//!     ┌──┴──────┐
//!   target ── assistant   the target routes what it sends to clients to the assistant; intercept runs there
//! ```
//!
//! This crate owns the hosts, the processes in them, the servers, the load and the harness that starts the two programs and
//! reads their report. The end-to-end tests are in `tests/tests`; `xtask` uses the same library for its demo and benchmarks.
//! It links no C library, so that `xtask` builds on a machine where nothing is installed yet.
#![forbid(unsafe_code)]

pub mod browser;
pub mod case;
pub mod generate;
pub mod host;
pub mod http;
pub mod httpd;
pub mod impair;
pub mod lab;
pub mod load;
pub mod mysql;
pub mod namespace;
pub mod nginx;
pub mod offline;
pub mod plugin;
pub mod privilege;
pub mod process;
pub mod programs;
pub mod raw;
pub mod recording;
pub mod redis;
pub mod replay;
pub mod report;
pub mod scenario;
pub mod scripted;
pub mod sink;
pub mod sniffer;
pub mod tools;
pub mod wait;
pub mod websocket;

pub use case::lab_test;
pub use host::{Family, Host};
pub use lab::{Lab, LabOptions};
pub use offline::Offline;
pub use recording::Recording;

pub use replay::{Replay, ReplayOptions};
pub use report::Report;
