//! Texts that stand elsewhere: in a variable or in a file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most bytes of a text in a file.
const MAX_TEXT: u64 = 64 * 1024;

/// The text that `table` stands for, which has `env` or `file` and nothing else.
pub(super) fn text(table: &toml::Table) -> Result<String, String> {
    let mut entries = table.iter();
    let (Some((name, value)), None) = (entries.next(), entries.next()) else {
        return Err(NEITHER.to_owned());
    };
    let Some(place) = value.as_str() else { return Err(NEITHER.to_owned()) };
    match name.as_str() {
        "env" => std::env::var(place).map_err(|error| match error {
            std::env::VarError::NotPresent => format!("the variable {place} is not set"),
            std::env::VarError::NotUnicode(_) => format!("the variable {place} is no UTF-8"),
        }),
        "file" => {
            let mut text = read_bounded(Path::new(place), MAX_TEXT)
                .map_err(|error| format!("can't read {place}: {error}"))?;
            // One line break ends the last line of a file and is no part of a password.
            if text.ends_with('\n') {
                text.pop();
                if text.ends_with('\r') {
                    text.pop();
                }
            }
            Ok(text)
        }
        _ => Err(NEITHER.to_owned()),
    }
}

/// What a table in place of a text is told.
const NEITHER: &str = "a text is \"TEXT\", { env = \"NAME\" } or { file = \"PATH\" }";

/// Reads a text of at most `limit` bytes.
pub(super) fn read_bounded(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if read as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(text)
}
