//! A TCP client in user space: the connection that a session has to its target.
//!
//! [`Connection`] joins the parts: the [`sender`] owns what goes out and when it goes again, the [`receiver`] owns what has
//! come in and how it is acknowledged, [`rtt`] and [`congestion`] the estimates behind both. None of them knows where the
//! bytes come from or what they mean.

pub mod congestion;
pub mod connection;
pub mod receiver;
pub mod rtt;
pub mod sender;

pub use connection::{Connection, ConnectionOptions, Phase, Progress, ReplyHeader};
