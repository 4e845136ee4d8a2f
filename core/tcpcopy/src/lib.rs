//! The replaying program's pieces: options, settings, the worker loop, reports.
//!
//! The library exists so that tests, the lab and benchmarks can use the pieces; `main.rs` only puts them in order.

pub mod check;
pub mod commands;
pub mod daemon;
pub mod describe;
pub mod failure;
pub mod host;
pub mod modules;
pub mod offline;
pub mod options;
pub mod progress;
pub mod report;
pub mod run;
pub mod settings;
pub mod transfer;
pub mod worker;
