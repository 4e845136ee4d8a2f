//! What a protocol plugin of tcpcopy is written with.
