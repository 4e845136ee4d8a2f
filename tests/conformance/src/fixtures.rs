//! Transcripts in this crate's folder `fixtures`, one file each.
//!
//! A line is one thing that happens: `> bytes` of the client, `< bytes` of the target, `= bytes` of the online server (lines of
//! the same kind that follow one another are one run of bytes), `both bytes` of both servers, `connected`, `lost UNANSWERED
//! KEPT [interrupted]`, `gap`, `reference-gap`, `target-closed`, `client-closed`, `client-reset`. Bytes are written as in a string of Rust: `\r`,
//! `\n`, `\\`, `\x00`; `\*N` repeats the character before it N times (up to the next space, which is left out). `option
//! name=value` is an option of the plugin, `mid-stream` how the session begins, `#` begins a comment.

use crate::transcript::{Step, Transcript};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use tcpcopy_engine::protocol::{ClientEnd, Origin};

/// The folder of fixtures.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The fixtures' files, by the folder (a plugin's name, or `hostile`) that they are in.
///
/// # Errors
/// When the folder can't be read.
pub fn files() -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for group in std::fs::read_dir(folder())? {
        let group = group?;
        for file in std::fs::read_dir(group.path())? {
            files.push((group.file_name().to_string_lossy().into_owned(), file?.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a fixture.
///
/// # Errors
/// The line that is not understood.
pub fn read(file: &Path) -> Result<Transcript> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let mut transcript = Transcript::new(name, Origin::Start);
    for (number, line) in text.lines().enumerate() {
        read_line(&mut transcript, line)
            .with_context(|| format!("{}:{}: {line:?}", file.display(), number + 1))?;
    }
    Ok(transcript)
}

fn read_line(transcript: &mut Transcript, line: &str) -> Result<()> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let step = match word {
        "" | "#" => return Ok(()),
        "option" => {
            transcript.options.push(rest.to_owned());
            return Ok(());
        }
        "mid-stream" => {
            transcript.origin = Origin::MidStream;
            return Ok(());
        }
        ">" => Step::Request(bytes_of(rest)?),
        "<" => Step::Response(bytes_of(rest)?),
        "=" => Step::Reference(bytes_of(rest)?),
        "both" => {
            transcript.push(Step::Reference(bytes_of(rest)?));
            Step::Response(bytes_of(rest)?)
        }
        "connected" => Step::Connected,
        "lost" => {
            let (unanswered, kept) = rest.split_once(' ').context("expected two numbers")?;
            let (kept, interrupted) = match kept.split_once(' ') {
                Some((kept, "interrupted")) => (kept, true),
                Some((_, other)) => bail!("not a word of a loss: {other}"),
                None => (kept, false),
            };
            Step::ConnectionLost { unanswered: unanswered.parse()?, kept: kept.parse()?, interrupted }
        }
        "gap" => Step::Gap,
        "reference-gap" => Step::ReferenceGap,
        "target-closed" => Step::ResponseEnd,
        "client-closed" => Step::ClientClosed(ClientEnd::Finished),
        "client-reset" => Step::ClientClosed(ClientEnd::Reset),
        other => bail!("not a word of a fixture: {other}"),
    };
    transcript.push(step);
    Ok(())
}

fn bytes_of(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend(rest[..at].bytes());
        let escape = &rest[at + 1..];
        let mut length = 1;
        match escape.chars().next().context("a backslash at the end")? {
            'r' => bytes.push(b'\r'),
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            '\\' => bytes.push(b'\\'),
            'x' => {
                length = 3;
                let digits = escape.get(1..3).context("two digits behind \\x")?;
                bytes.push(u8::from_str_radix(digits, 16)?);
            }
            '*' => {
                let digits: String = escape[1..].chars().take_while(char::is_ascii_digit).collect();
                // The space that ends the number is no part of the bytes.
                length = (1 + digits.len() + 1).min(escape.len());
                let last = bytes.pop().context("nothing to repeat")?;
                bytes.extend(std::iter::repeat_n(last, digits.parse()?));
            }
            other => bail!("not an escape: \\{other}"),
        }
        rest = &escape[length..];
    }
    bytes.extend(rest.bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read() {
        assert_eq!(bytes_of(r"a\r\n\x00\\b\*3 c").unwrap(), b"a\r\n\0\\bbbc");
        assert!(bytes_of(r"\q").is_err() && bytes_of("\\").is_err());
    }

    #[test]
    fn all_fixtures_are_understood() {
        let files = files().unwrap();
        assert!(files.len() > 10);
        for (_, file) in files {
            assert!(read(&file).unwrap().bytes() > 0, "{}", file.display());
        }
    }
}
