//! What is in captures, before anything is sent: connections and how well they were captured, protocols, ports, the `-x` that would
//! fit, and what to know before a replay.
//!
//! [`inspect`] reads files; [`Inspection`] takes frames from anywhere. Both read a capture once and keep a bounded summary of it
//! ([`Limits`]), so the size of a capture does not matter. Nothing is allocated for a packet. Checksums are not looked at: hosts that
//! capture their own traffic leave them to the network card.
//!
//! This crate leaves reading files to `tcpcopy-capture-file`, packet formats to the engine, and printing to its caller:
//! [`Report`] has a text for people ([`Report::text`]) and can be serialised for programs.
#![forbid(unsafe_code)]

mod advice;
mod commands;
mod connection;
mod direction;
mod duplicates;
mod findings;
mod inspection;
mod packets;
mod protocol;
mod report;
mod servers;
mod text;
mod tls;

pub use advice::{Severity, Warning, WarningKind};
pub use commands::Suggestion;
pub use findings::{
    ConnectionCounts, DirectionCounts, Findings, PortFindings, ProtocolCount, Role, ServerFindings,
};
pub use inspection::{Inspection, Limits};
pub use packets::PacketCounts;
pub use protocol::Protocol;
pub use report::{FileFindings, FlawFindings, Report, Unread, inspect};
pub use tcpcopy_engine::wire::tunnel::Decap;

/// Ports that are listed, those with the most client bytes first.
pub const MAX_LISTED_PORTS: usize = 100;
/// Servers that are listed of each port.
pub const MAX_LISTED_SERVERS: usize = 16;
/// Names that are remembered of those that clients asked a server for in TLS.
pub const MAX_NAMES: usize = 8;
