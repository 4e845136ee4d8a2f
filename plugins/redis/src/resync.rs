//! Where a request surely begins, in the middle of a stream.
//!
//! Owns the search. A place counts when a whole beginning is there: a known command's name, with as many arguments as it takes.
//! What it says does not depend on how many bytes are there beyond what it needs.

use crate::commands::{COMMANDS, find};
use crate::inline;
use crate::request::{self, BulkHeader, Head};

/// Longest inline command that counts as one.
const MAX_LINE: usize = 512;

/// What is known of the line that the bytes begin in. An inline command is a line, but the line behind a length is an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    line_begins: bool,
    behind_length: bool,
    is_length: bool,
}

impl Before {
    /// A request seems to begin.
    pub const START: Self = Self { line_begins: true, behind_length: false, is_length: false };
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { line_begins: false, behind_length: true, is_length: true };

    /// The line behind this byte.
    const fn behind(self, byte: u8) -> Self {
        if byte == b'\n' {
            return Self { line_begins: true, behind_length: self.is_length, is_length: false };
        }
        let is_length = if self.line_begins { byte == b'$' } else { self.is_length };
        Self { line_begins: false, is_length, ..self }
    }
}

/// Whether inline commands are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inline {
    /// They are.
    Possible,
    /// The client has not sent any.
    Unlikely,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A request begins behind so many bytes.
    At(usize),
    /// None within so many bytes; more are needed to say what follows, which begins in a line like this.
    NotWithin(usize, Before),
}

/// Looks for the beginning of a request.
pub fn search(bytes: &[u8], mut before: Before, inline: Inline) -> Found {
    for (at, &byte) in bytes.iter().enumerate() {
        let judged = if byte == b'*' {
            is_array(&bytes[at..])
        } else if before.line_begins && !before.behind_length && inline == Inline::Possible {
            is_inline(&bytes[at..])
        } else {
            Some(false)
        };
        match judged {
            Some(true) => return Found::At(at),
            Some(false) => before = before.behind(byte),
            None => return Found::NotWithin(at, before),
        }
    }
    Found::NotWithin(bytes.len(), before)
}

fn takes(name: &[u8], args: usize) -> bool {
    find(name).is_some_and(|command| COMMANDS[usize::from(command)].takes(args))
}

fn is_array(bytes: &[u8]) -> Option<bool> {
    let (args, name) = match request::head(bytes, 0) {
        Head::Incomplete => return None,
        Head::Array { args, name: Some(name), .. } => (args, name),
        _ => return Some(false),
    };
    if !takes(&bytes[name.clone()], args as usize) {
        return Some(false);
    }
    let behind = bytes.get(name.end..name.end + 2)?;
    if behind != b"\r\n" {
        return Some(false);
    }
    if args == 1 {
        return Some(true);
    }
    match request::bulk_header(bytes, name.end + 2) {
        BulkHeader::Incomplete => None,
        BulkHeader::Is(..) => Some(true),
        BulkHeader::Invalid(_) => Some(false),
    }
}

fn is_inline(bytes: &[u8]) -> Option<bool> {
    if !bytes.first()?.is_ascii_alphabetic() {
        return Some(false);
    }
    let window = &bytes[..bytes.len().min(MAX_LINE)];
    // A byte that is no text decides before the line's end does.
    let Some(end) = window.iter().position(|&b| !(b == b'\t' || (b' '..=b'~').contains(&b))) else {
        return if window.len() < MAX_LINE { None } else { Some(false) };
    };
    match (window[end], window.get(end + 1)) {
        (b'\r', None) => return None,
        (b'\n', _) | (b'\r', Some(b'\n')) => {}
        _ => return Some(false),
    }
    let words = inline::words(&window[..end]).unwrap_or_default();
    Some(words.first().is_some_and(|name| takes(name, words.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_requests_behind_anything() {
        let request = "*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
        for rubbish in [
            "",
            "abc\r\n",
            "*1\r\n$3\r\nFOO\r\n",
            "*2\r\n$4\r\nQUIT\r\n",
            "$3\r\nfoo\r\n",
            "***\r\n",
            "get x y\r\n",
        ] {
            let bytes = [rubbish, request].concat();
            let found = search(bytes.as_bytes(), Before::START, Inline::Possible);
            assert_eq!(found, Found::At(rubbish.len()), "{rubbish:?}");
        }
    }

    #[test]
    fn finds_inline_commands_at_the_beginning_of_lines_only() {
        let bytes = b"GET a\r\nGET b\r\nGET c\r\n";
        assert_eq!(search(bytes, Before::START, Inline::Possible), Found::At(0));
        // Its first line may be the rest of one that began with a dollar sign.
        assert_eq!(search(bytes, Before::UNKNOWN, Inline::Possible), Found::At(14));
        let nowhere = search(bytes, Before::START, Inline::Unlikely);
        assert!(matches!(nowhere, Found::NotWithin(length, _) if length == bytes.len()));
    }

    #[test]
    fn says_the_same_however_much_is_there() {
        let bytes =
            b"x*3\r\n$3\r\nnot\r\n*2\r\n$3\r\nDEL\r\nfoo\r\nget\x01\r\nset a\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n";
        let length = "*2\r\n$3\r\nDEL\r\n$1\r\na\r\n".len();
        let whole = search(bytes, Before::UNKNOWN, Inline::Possible);
        assert_eq!(whole, Found::At(bytes.len() - length));
        for end in 0..bytes.len() {
            match search(&bytes[..end], Before::UNKNOWN, Inline::Possible) {
                Found::At(at) => assert_eq!(whole, Found::At(at)),
                Found::NotWithin(at, _) => assert!(at <= bytes.len() - length, "{at} of {end}"),
            }
        }
    }
}
