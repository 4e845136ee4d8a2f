//! Why something is dropped, and what the report calls that.

use crate::sql::{Effect, Kind};
use std::fmt;

/// Why something is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The user is in `drop-users`.
    DroppedUser,
    /// The user is not in `keep-users`.
    NoKeptUser,
    /// The database is in `drop-databases`.
    DroppedDatabase,
    /// The database is not in `keep-databases`.
    NoKeptDatabase,
    /// The kind is in `drop-statements`.
    DroppedStatement(Kind),
    /// The kind is not in `keep-statements`.
    NoKeptStatement(Kind),
    /// The expression of this number, from 1, of `drop-matching` matches.
    DroppedText(usize),
    /// No expression of `keep-matching` matches.
    NoKeptText,
    /// It calls one of `drop-functions`.
    DroppedFunction,
    /// `read-only`: it is of this kind and may do this.
    ReadOnly(Kind, Effect),
    /// It is meant for the online server, and not in `allow-dangerous`.
    Dangerous(Kind),
    /// It runs or removes a statement whose preparation was dropped.
    Prepared,
    /// Part of the text is dropped, and the rest can't be told from it.
    Inseparable,
    /// The target is in another database than the online server: see [`crate::memory::Memory::is_astray`].
    Astray,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DroppedUser => f.write_str("drop-users"),
            Self::NoKeptUser => f.write_str("keep-users"),
            Self::DroppedDatabase => f.write_str("drop-databases"),
            Self::NoKeptDatabase => f.write_str("keep-databases"),
            Self::DroppedStatement(kind) => write!(f, "drop-statements ({kind})"),
            Self::NoKeptStatement(kind) => write!(f, "keep-statements ({kind})"),
            Self::DroppedText(number) => write!(f, "drop-matching (expression {number})"),
            Self::NoKeptText => f.write_str("keep-matching"),
            Self::DroppedFunction => f.write_str("drop-functions"),
            Self::ReadOnly(kind, effect) => {
                let why = match (kind, effect) {
                    (Kind::Execute, Effect::Unsure) => " of a text that is not known",
                    (Kind::Select | Kind::Set | Kind::Do | Kind::Show | Kind::Explain, Effect::Writes) => {
                        " that writes"
                    }
                    (Kind::Lock | Kind::Handler, Effect::Locks) => "",
                    (_, Effect::Locks) => " that locks",
                    (_, Effect::Unsure) => " of unknown effect",
                    _ => "",
                };
                write!(f, "read-only ({kind}{why})")
            }
            Self::Dangerous(kind) => write!(f, "want of allow-dangerous ({kind})"),
            Self::Prepared => f.write_str("the rule that dropped their PREPARE"),
            Self::Inseparable => f.write_str("a rule for another part of their text"),
            Self::Astray => f.write_str("want of their database at the target"),
        }
    }
}

impl Rule {
    /// As the report calls it: see [`crate::tally::Tally::dropped`].
    pub fn name(&self) -> String {
        self.to_string()
    }
}
