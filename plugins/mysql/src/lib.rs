//! The MySQL plugin of tcpcopy: logins, sessions and statements that really run on the target.

pub mod attributes;
pub mod capabilities;
pub mod command;
pub mod compression;
pub mod known;
pub mod login;
pub mod memory;
pub mod options;
pub mod packet;
pub mod passwords;
pub mod plugin;
pub mod results;
pub mod rewrite;
pub mod rules;
pub mod session;
pub mod shared;
pub mod sql;
pub mod statements;
pub mod tally;

pub use plugin::Mysql;
