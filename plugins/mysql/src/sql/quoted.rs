//! What is between quotes.

use super::lex::Lexer;
use super::mode::{Backslashes, Mode};

/// What a name in quotes, or without, is called. `None`: it has to be read with more care than here, for its quotes are doubled.
pub fn bare_name(name: &[u8]) -> Option<&[u8]> {
    match name {
        [quote @ (b'`' | b'"'), inner @ .., last] if quote == last => {
            (!inner.contains(quote)).then_some(inner)
        }
        _ => Some(name),
    }
}

/// What a name in quotes, or without, is called, doubled quotes being one.
pub fn name(name: &[u8]) -> Vec<u8> {
    match name {
        [quote @ (b'`' | b'"'), inner @ .., last] if quote == last => {
            let mut out = Vec::with_capacity(inner.len());
            let mut bytes = inner.iter().copied().peekable();
            while let Some(byte) = bytes.next() {
                out.push(byte);
                if byte == *quote {
                    bytes.next_if_eq(quote);
                }
            }
            out
        }
        _ => name.to_vec(),
    }
}

/// What a string says, between its quotes; the text itself when it has none.
pub fn unquoted(text: &[u8], mode: Mode) -> Vec<u8> {
    let [quote @ (b'\'' | b'"'), inner @ .., last] = text else { return text.to_vec() };
    let inner = if quote == last { inner } else { &text[1..] };
    let mut lexer = Lexer::new(inner, mode);
    let mut out = Vec::with_capacity(inner.len());
    let mut at = 0;
    while let Some(&byte) = inner.get(at) {
        if byte == *quote && inner.get(at + 1) == Some(quote) {
            out.push(byte);
            at += 2;
        } else if byte == b'\\' && mode.backslashes == Backslashes::Escape && at + 1 < inner.len() {
            let escaped = inner[at + 1];
            match escaped {
                b'0' => out.push(0),
                b'b' => out.push(8),
                b'n' => out.push(b'\n'),
                b'r' => out.push(b'\r'),
                b't' => out.push(b'\t'),
                b'Z' => out.push(26),
                b'%' | b'_' => out.extend_from_slice(&[b'\\', escaped]),
                _ => out.push(escaped),
            }
            at += 2;
        } else {
            let end = (at + lexer.width(at)).min(inner.len());
            out.extend_from_slice(&inner[at..end]);
            at = end;
        }
    }
    out
}
