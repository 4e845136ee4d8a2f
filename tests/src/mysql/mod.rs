//! MySQL in the lab: MariaDB and MySQL servers on its hosts, what they count, and the clients that people use with them.
//!
//! Owns how the servers are started, asked and stopped and how each client is told what to do, and how two servers
//! are compared. What is installed, and how, is
//! `cargo xtask setup`'s; what is replayed and compared is the tests'.

pub mod client;
pub mod counters;
pub mod hostile;
pub mod installed;
pub mod log;
pub mod pair;
pub mod server;
pub mod sysbench;
mod template;

pub use client::{Client, Compression, Login, Work};
pub use counters::Counters;
pub use installed::Flavour;
pub use pair::{Flavours, MysqlPair};
pub use server::{MysqlServer, Plugin, ServerOptions};
pub use sysbench::{Prepared, Sysbench};

/// The port of the servers.
pub const MYSQL: u16 = 3306;
