//! Commands whose answers have not come.

use crate::results::Form;

/// What a command that was sent does when it succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Nothing that the plugin has to know.
    Plain,
    /// It selects this database.
    Database(Box<[u8]>),
    /// It prepares the statement of this number.
    Prepare(u32),
    /// It resets the session.
    Reset,
    /// The file that a LOAD DATA LOCAL asked for.
    File,
    /// It names a statement of the target by its number, so it means something else on another connection.
    Statement(u32),
}

/// A command that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// How it is answered.
    pub(super) form: Form,
    /// What it does.
    pub(super) what: What,
}
