//! SQL texts: their tokens, their statements, and what those may do.
//!
//! Owns reading a text as the two servers do, as far as a replayer has to: which statements there are ([`Statements`]), of which
//! [`Kind`], with what [`Effect`]. Nothing is checked: what a server would refuse has no effect. Bytes that are no valid text are
//! read too, and never fail.

mod functions;
mod kind;
mod lex;
mod mode;
mod quoted;
mod seen;
mod statement;
mod verdict;
mod word;

pub use functions::effect as function_effect;
pub use kind::{Effect, Kind};
pub use lex::{Doubt, Lexeme, Lexer, Token};
pub use mode::{Backslashes, Charset, DoubleQuotes, Extent, Mode, Server};
pub use quoted::{bare_name, name, unquoted};
pub use statement::{HEAD, Statement, Statements, Unwatched, Watch, prepared_in_sql};

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) mod testing {
    //! What tests make texts from.
    pub(crate) use super::lex::tests::{any_mode, any_text};
}
