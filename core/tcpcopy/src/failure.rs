//! How the program says that something is wrong: one `error:` line, one `hint:` line, and an exit code.

use std::fmt;

/// A mistake on the command line: what is wrong and where, and what to do about it. Exit code 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct UsageError {
    /// What is wrong, and in which option.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl UsageError {
    /// A mistake described by `what`, mended by `hint`.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }

    /// The two lines that the program prints.
    pub fn lines(&self) -> String {
        format!("error: {}\nhint: {}\n", self.what, self.hint)
    }
}

impl From<&clap::Error> for UsageError {
    /// Folds clap's message into one line, and its tips (or a pointer to `--help`) into another.
    fn from(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let mut what = String::new();
        let mut hint = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(tip) = line.strip_prefix("tip: ") {
                if hint.is_empty() {
                    hint = tip.to_owned();
                }
            } else if line.starts_with("Usage:") || line.starts_with("For more information") {
                break;
            } else if !line.is_empty() {
                if !what.is_empty() {
                    what.push(' ');
                }
                what.push_str(line.strip_prefix("error: ").unwrap_or(line));
            }
        }
        if hint.is_empty() {
            hint = "tcpcopy --help explains each option".to_owned();
        }
        Self { what, hint }
    }
}

/// What to do about a failed run; attached to an [`anyhow::Error`] by [`HintExt::hint`].
#[derive(Clone, Debug)]
pub(crate) struct Hinted {
    what: String,
    hint: String,
}

impl Hinted {
    /// What went wrong, and what to do about it, for an error whose cause is kept.
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Attaches what went wrong and what to do about it to an error.
pub trait HintExt<T> {
    /// Wraps the error: `what` says what was being done, `hint` what the user can do.
    ///
    /// # Errors
    /// The wrapped error, if there was one.
    fn hint(self, what: impl Into<String>, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E> HintExt<T> for Result<T, E>
where
    Result<T, E>: anyhow::Context<T, E>,
{
    fn hint(self, what: impl Into<String>, hint: impl Into<String>) -> anyhow::Result<T> {
        anyhow::Context::with_context(self, || Hinted { what: what.into(), hint: hint.into() })
    }
}

/// An error without a cause of its own, with a hint.
pub fn failure(what: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    anyhow::Error::msg(Hinted { what: what.into(), hint: hint.into() })
}

/// The `error:` line of a failed run, with all causes, and its `hint:` line.
pub fn run_failure_lines(error: &anyhow::Error) -> String {
    let what: Vec<String> = error.chain().map(|cause| cause.to_string().replace('\n', " ")).collect();
    let hint = error
        .downcast_ref::<Hinted>()
        .map_or("--log-level debug tells more; --dry-run shows what was understood", |hinted| &hinted.hint);
    format!("error: {}\nhint: {hint}\n", what.join(": "))
}
