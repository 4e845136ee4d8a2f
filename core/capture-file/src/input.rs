//! What is named as input, and how far reading has come.

use std::fmt;
use std::path::PathBuf;

/// Where a capture comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A file, or anything else that has a path: a named pipe is read like standard input.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl From<&str> for Input {
    /// `-` is standard input; everything else is a path.
    fn from(typed: &str) -> Self {
        if typed == "-" { Self::Stdin } else { Self::File(typed.into()) }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Stdin => f.write_str("-"),
        }
    }
}

/// What the end of a file means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AtEnd {
    /// That there is no more.
    #[default]
    Stop,
    /// That there is no more yet: something writes to the file. A record that is cut is one whose rest will come.
    Follow,
}

/// How far reading has come, in the files as they are on disk (compressed, if they are).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Position {
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes that there are; unknown for pipes and files that grow.
    pub bytes_total: Option<u64>,
}
