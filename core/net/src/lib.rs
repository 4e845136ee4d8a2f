//! Packet sources and sinks.
//!
//! This crate owns everything between the kernel and the engine: capture through an AF_PACKET ring or libpcap, injection
//! through raw sockets or at the link layer, waiting, clocks, signals, and what a program needs of its own process. What the
//! packets mean is left to the engine; what is captured and where it is sent is left to the programs.
//!
//! **Invariant:** `unsafe` is found in `sys` only, each block with its reason.

pub mod clock;
pub mod filter;
pub mod interface;
pub mod link_layer;
pub mod memory;
pub mod neighbour;
pub mod pace;
pub mod pcap_capture;
pub mod poll;
pub mod process;
pub mod raw_socket;
pub mod ring;
pub mod signals;
pub mod sink;
pub mod source;
mod sys;
