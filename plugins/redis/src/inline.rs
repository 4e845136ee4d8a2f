//! Inline commands: a line of words, quoted or not.
//!
//! Owns splitting a line as Redis does. Where the line ends is [`crate::request`]'s business.

/// The words of a line, without its end. `None` when a quote is open or not followed by a space: Redis closes the connection
/// then.
pub fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(words);
        }
        let (word, tail) = word(rest)?;
        words.push(word);
        rest = tail;
    }
}

/// The first word, and what follows.
fn word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Some((word, rest)),
            [space, ..] if space.is_ascii_whitespace() || *space == 0 => return Some((word, &rest[1..])),
            [b'"', tail @ ..] => {
                rest = quoted(tail, &mut word)?;
                return ends_word(rest).then_some((word, rest));
            }
            [b'\'', tail @ ..] => {
                rest = single_quoted(tail, &mut word)?;
                return ends_word(rest).then_some((word, rest));
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

fn ends_word(rest: &[u8]) -> bool {
    rest.first().is_none_or(|b| b.is_ascii_whitespace())
}

fn quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'"', tail @ ..] => return Some(tail),
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex(*high) << 4 | hex(*low));
                rest = tail;
            }
            [b'\\', escaped, tail @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = tail;
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'\'', tail @ ..] => return Some(tail),
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                rest = tail;
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        other => (other | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Option<Vec<String>> {
        let words = words(line.as_bytes())?;
        Some(words.iter().map(|word| word.escape_ascii().to_string()).collect())
    }

    #[test]
    fn words_are_split_as_in_redis() {
        for (line, wanted) in [
            ("", Some(vec![])),
            ("  PING \r", Some(vec!["PING"])),
            ("SET a 'b c'", Some(vec!["SET", "a", "b c"])),
            ("SET a \"b\\x41\\n\\\"\"", Some(vec!["SET", "a", "bA\\n\\\""])),
            ("SET a \"\"", Some(vec!["SET", "a", ""])),
            ("SET a 'it\\'s'", Some(vec!["SET", "a", "it\\'s"])),
            ("SET a \"b", None),
            ("SET a 'b", None),
            ("SET a \"b\"c", None),
        ] {
            let wanted = wanted.map(|words| words.into_iter().map(String::from).collect());
            assert_eq!(split(line), wanted, "{line}");
        }
    }
}
