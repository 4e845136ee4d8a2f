//! Where a command begins, in bytes that may begin anywhere.
//!
//! Owns what tells commands from other bytes: a packet's header, with the number, length and content that only commands have. Data
//! that clients send may look like the short ones, so behind missing bytes only those with a text or an execution's form are
//! believed. What is found does not depend on how the bytes are split.

use crate::attributes;
use crate::command;
use crate::compression::{self, Algorithm};
use crate::login::identity::Hello;
use crate::packet::{HEADER, Header};
use crate::sql::{Kind, Mode, Statements};

/// Lengths of a client's login.
const LOGIN: std::ops::Range<usize> = 32..1024;
/// Bytes of a text that are looked at.
const LOOK: usize = 64;

/// What begins somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A command.
    Command,
    /// A compressed packet with one.
    Packed(Algorithm),
    /// A client's login.
    Login,
    /// Nothing that is known.
    Nothing,
    /// More bytes have to come.
    Incomplete,
}

/// What bytes begin with that seem to begin a request.
pub(super) fn at_front(bytes: &[u8]) -> Found {
    if bytes.len() < HEADER + 1 {
        return Found::Incomplete;
    }
    let Some(header) = Header::at(bytes) else { return Found::Incomplete };
    if header.sequence == 1 {
        if !LOGIN.contains(&header.length) {
            return Found::Nothing;
        }
        return match bytes.get(HEADER..HEADER + header.length) {
            Some(message) if matches!(Hello::read(message), Ok(Hello::Login { .. } | Hello::Tls)) => {
                Found::Login
            }
            Some(_) => Found::Nothing,
            None => Found::Incomplete,
        };
    }
    match command(bytes) {
        Found::Nothing => packed(bytes),
        found => found,
    }
}

/// A command of any kind.
fn command(bytes: &[u8]) -> Found {
    let (Some(header), Some(&code)) = (Header::at(bytes), bytes.get(HEADER)) else {
        return Found::Incomplete;
    };
    let length = header.length.wrapping_sub(1);
    let fits = command::least(code).is_some_and(|least| least <= length) && length <= command::most(code);
    if header.sequence != 0 || header.length == 0 || !fits {
        return Found::Nothing;
    }
    match code {
        command::QUERY | command::PREPARE | command::EXECUTE => sure(bytes),
        _ => Found::Command,
    }
}

/// A command with a text or of the form of an execution.
fn sure(bytes: &[u8]) -> Found {
    let (Some(header), Some(&code)) = (Header::at(bytes), bytes.get(HEADER)) else {
        return Found::Incomplete;
    };
    if header.sequence != 0 || !matches!(code, command::QUERY | command::PREPARE | command::EXECUTE) {
        return Found::Nothing;
    }
    if code == command::EXECUTE {
        if header.length < 10 {
            return Found::Nothing;
        }
        // The flags; and the number of iterations, which is always 1.
        return match bytes.get(HEADER + 5..HEADER + 10) {
            Some([0..=15, 1, 0, 0, 0]) => Found::Command,
            Some(_) => Found::Nothing,
            None => Found::Incomplete,
        };
    }
    let wanted = header.length.min(LOOK);
    if header.length < 4 {
        return Found::Nothing;
    }
    let Some(text) = bytes.get(HEADER + 1..HEADER + wanted) else { return Found::Incomplete };
    let from = if code == command::QUERY && attributes::are_likely(text) {
        match attributes::text(text) {
            Ok(at) => at,
            // They are longer than what is looked at.
            Err(_) => return Found::Command,
        }
    } else {
        0
    };
    let text = text.get(from..).unwrap_or_default();
    let is_text = text.iter().all(|byte| *byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r'));
    let kind = Statements::quick(text, Mode::default().beginning());
    if is_text && kind.is_some_and(|kind| kind != Kind::Other) { Found::Command } else { Found::Nothing }
}

/// A compressed packet that begins a command.
fn packed(bytes: &[u8]) -> Found {
    let Some(header) = bytes.get(..compression::HEADER) else { return Found::Incomplete };
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
    let before = u32::from_le_bytes([header[4], header[5], header[6], 0]) as usize;
    if header[3] != 0 || length == 0 {
        return Found::Nothing;
    }
    let body = &bytes[compression::HEADER..];
    if before == 0 {
        // Not worth it: packets as they are. Which algorithm it would be is not known; most clients know the older one only.
        let Some(inner) = Header::at(body) else { return Found::Incomplete };
        if inner.sequence != 0 || inner.length + HEADER > length {
            return Found::Nothing;
        }
        return match command(body) {
            Found::Command => Found::Packed(Algorithm::Zlib),
            found => found,
        };
    }
    match body {
        // RFC 1950, section 2.2.
        [0x78, flags, ..] if (0x7800 + u16::from(*flags)) % 31 == 0 => Found::Packed(Algorithm::Zlib),
        // RFC 8878, section 3.1.1.
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Found::Packed(Algorithm::Zstd),
        [] | [0x78] | [0x28] | [0x28, 0xb5] | [0x28, 0xb5, 0x2f] => Found::Incomplete,
        _ => Found::Nothing,
    }
}

/// The first command in bytes of which nothing is known: how many are before it, and whether it is there.
pub(super) fn anywhere(bytes: &[u8]) -> (usize, Found) {
    for at in 0..bytes.len() {
        match sure(&bytes[at..]) {
            Found::Nothing => {}
            found => return (at, found),
        }
    }
    (bytes.len(), Found::Incomplete)
}

/// Whether a command that may have query attributes has; `None`: it does not tell.
pub(super) fn has_attributes(bytes: &[u8]) -> Option<bool> {
    let (code, body) = bytes.get(HEADER..)?.split_first()?;
    match *code {
        command::QUERY => Some(attributes::are_likely(body)),
        // The flag that says that the number of parameters follows.
        command::EXECUTE if body.get(4)? & 8 != 0 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(message: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        crate::packet::write(&mut bytes, 0, message);
        bytes
    }

    #[test]
    fn commands_are_told_from_other_bytes() {
        for (message, found) in [
            (&b"\x03SELECT 1"[..], Found::Command),
            (b"\x03\0\x01SELECT 1", Found::Command),
            (b"\x16 /* a */ update t set a = ?", Found::Command),
            (b"\x17\x01\0\0\0\0\x01\0\0\0", Found::Command),
            (b"\x0e", Found::Command),
            (b"\x0e\0\0\0", Found::Nothing),
            (b"\x17\x01\0\0\0\0\x02\0\0\0", Found::Nothing),
            (b"\x03nonsense that no server takes", Found::Nothing),
            (b"\x19\x01\0\0\0", Found::Command),
            (b"\0 a file's line, say", Found::Nothing),
        ] {
            assert_eq!(at_front(&packet(message)), found, "{message:?}");
        }
    }

    #[test]
    fn compressed_packets_are_recognised() {
        let inner = packet(&[&b"\x03SELECT "[..], &[b'1'; 5000]].concat());
        for algorithm in [Algorithm::Zlib, Algorithm::Zstd] {
            let mut bytes = Vec::new();
            compression::pack(algorithm, 0, &inner, &mut bytes);
            assert_eq!(at_front(&bytes), Found::Packed(algorithm));
        }
        let mut bytes = Vec::new();
        compression::pack(Algorithm::Zlib, 0, &packet(b"\x0e"), &mut bytes);
        assert_eq!(at_front(&bytes), Found::Packed(Algorithm::Zlib));
    }

    #[test]
    fn a_command_is_found_behind_other_bytes() {
        let command = packet(b"\x03SELECT 1");
        let bytes = [&[1, 0, 0, 0, 1, 3, 0, 0, 0][..], &command, &packet(b"\x01")].concat();
        assert_eq!(anywhere(&bytes), (9, Found::Command));
        assert_eq!(anywhere(&[5; 100]).1, Found::Incomplete);
    }
}
