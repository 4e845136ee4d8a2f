//! HTTP/1.0 and 1.1 for tcpcopy.

pub mod codec;
