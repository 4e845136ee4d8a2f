//! The MySQL plugin of tcpcopy: logins, sessions and statements that really run on the target.

pub mod memory;
pub mod rewrite;
pub mod rules;
pub mod sql;
pub mod statements;
pub mod tally;
