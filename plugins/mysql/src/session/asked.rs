//! Commands whose answers have not come.

use crate::memory::Undo;
use crate::results::Form;
use crate::statements::Slot;

/// What a command that was sent is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Nothing that the plugin has to know.
    Plain,
    /// Statements are run.
    Run,
    /// This statement is prepared.
    Prepare(Slot),
    /// A statement is run, or rows are fetched from it; it means something else on another connection.
    Statement,
    /// The file that a LOAD DATA LOCAL asked for.
    File,
}

/// A command that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// How it is answered.
    pub(super) form: Form,
    /// What it is about.
    pub(super) what: What,
    /// Its number, if it is one that may choose a database.
    pub(super) number: Option<u64>,
    /// What has to be taken back if it fails.
    pub(super) undo: Option<Undo>,
}

impl Asked {
    /// One that fails without consequences.
    pub(super) const fn new(form: Form, what: What) -> Self {
        Self { form, what, number: None, undo: None }
    }

    /// Whether it counts as a statement.
    pub(super) const fn is_statement(&self) -> bool {
        matches!(self.what, What::Run | What::Statement)
    }
}
