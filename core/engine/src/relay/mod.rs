//! The relay: how `tcpcopy` tells `intercept` which replies it wants, and how it gets them.
//!
//! This module owns the bytes of the protocol ([`frame`], [`message`]), the handshake with its proof of the shared token
//! ([`handshake`]), and what `intercept` knows about who wants which reply ([`routes`], [`early`]). It leaves sockets,
//! clocks and random numbers to the programs: time and nonces are arguments.
//!
//! # The protocol, version 1
//!
//! A relay connection is a TCP connection that `tcpcopy` opens. Both directions carry *frames*: four bytes of header (one
//! byte kind, three bytes payload length), then the payload. **All numbers are big-endian.**
//!
//! | kind | name | direction | payload |
//! | --- | --- | --- | --- |
//! | `0x01` | `ClientHello` | to intercept | magic `TCPCOPY2`, lowest and highest version (u16 each), capabilities (u32), proof method (u8: 0 none, 1 HMAC-SHA256), instance (16), worker (u16), connection index (u16), nonce (32), then fields of later versions |
//! | `0x02` | `ServerHello` | to tcpcopy | magic, version (u16), capabilities in common (u32), proof method (u8), nonce (32) |
//! | `0x03` | `ClientProof` | to intercept | 32 bytes, or none when the method is 0 |
//! | `0x04` | `Welcome` | to tcpcopy | 32 bytes of proof or none, then the facts: flags (u8), interfaces (u8 length + text), software version (u8 length + text) |
//! | `0x05` | `Refused` | both | reason (u8), detail (u16) |
//! | `0x10` | `RouteAdd` | to intercept | flow, body limit (u32) |
//! | `0x11` | `RouteRemove` | to intercept | flow |
//! | `0x12` | `Ping` | to intercept | sequence (u64), nanoseconds of tcpcopy's clock (u64) |
//! | `0x20` | `Reply` | to tcpcopy | flags (u16), age in µs (u32), IP length on the wire (u32), the packet from its IP header on |
//! | `0x21` | `RouteRefused` | to tcpcopy | reason (u8), flow |
//! | `0x22` | `Pong` | to tcpcopy | as the ping |
//! | `0x23` | `Stats` | to tcpcopy | u64 each, in the order of [`message::InterceptStats`]; later versions append |
//!
//! A *flow* is family (u8: 4 or 6), client port, target port (u16 each), client address, target address (4 or 16 bytes each).
//!
//! # The proof
//!
//! With a token, each side sends HMAC-SHA256, keyed with the token, over a label for its role and the frames exchanged so
//! far, as they were on the wire, each preceded by its length: both nonces, the version, the capabilities and the
//! instance are in them. The client proves first, so that `intercept` answers a stranger with nothing that the token could
//! be guessed from; `intercept`'s proof also covers the client's proof and the facts. Proofs are compared in constant time.
//! The token shows who is at the other end when the connection is made. What follows is neither encrypted nor signed: over a
//! network that others can write to, put the relay into a tunnel.

pub mod early;
pub mod frame;
pub mod handshake;
pub mod hello;
pub mod message;
mod proof;
pub mod routes;

/// The port that `intercept` listens on unless told otherwise, as in TCPCopy 1.x.
pub const DEFAULT_PORT: u16 = 36524;

/// The only version of the protocol so far.
pub const VERSION: u16 = 1;

/// Capabilities: replies can carry bytes of the TCP payload, as far as a route asks for them.
pub const CAPABILITY_BODIES: u32 = 1;
/// Capabilities: `intercept` sends its counters about once a second.
pub const CAPABILITY_STATS: u32 = 2;
/// Capabilities: `tcpcopy` foresees that its routes will ask for bodies, and `intercept` captures whole packets before the first
/// of them does, so that a reply that comes as soon as its route is not cut.
pub const CAPABILITY_BODIES_FORESEEN: u32 = 4;
/// Everything that this implementation knows.
pub const CAPABILITIES: u32 = CAPABILITY_BODIES | CAPABILITY_STATS | CAPABILITY_BODIES_FORESEEN;

/// Time that a handshake may take, from the connection's start to `Welcome`.
pub const HANDSHAKE_TIMEOUT: crate::time::Duration = crate::time::Duration::from_secs(5);
