//! Redis, RESP2 and RESP3, for tcpcopy.
pub mod commands;
pub mod reply;
pub mod request;
