//! Redis' globs: `*`, `?`, `[a-c]`, `[^a]`, and `\` before any of them.
//!
//! Owns matching keys and quoting text. Time is bounded by the product of both lengths.

/// Whether `text` matches all of `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when what was tried behind the last asterisk fails.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        match (one(pattern, p), text.get(t)) {
            (None, None) => return true,
            (Some((next, set)), Some(&byte)) if set.has(pattern, byte) => {
                p = next;
                t += 1;
            }
            _ => match retry {
                Some((after, from)) if from < text.len() => {
                    retry = Some((after, from + 1));
                    p = after;
                    t = from + 1;
                }
                _ => return false,
            },
        }
    }
}

/// What one byte of the text may be.
enum Set {
    Any,
    Byte(u8),
    /// From index to index of the pattern.
    Class(usize, usize),
}

impl Set {
    fn has(&self, pattern: &[u8], byte: u8) -> bool {
        match *self {
            Self::Any => true,
            Self::Byte(wanted) => wanted == byte,
            Self::Class(start, end) => class_has(&pattern[start..end], byte),
        }
    }
}

/// The part of the pattern at `at` that stands for one byte, and the index behind it.
fn one(pattern: &[u8], at: usize) -> Option<(usize, Set)> {
    Some(match pattern.get(at)? {
        b'?' => (at + 1, Set::Any),
        b'\\' => match pattern.get(at + 1) {
            Some(byte) => (at + 2, Set::Byte(*byte)),
            None => (at + 1, Set::Byte(b'\\')),
        },
        b'[' => {
            let mut end = at + 1;
            while end < pattern.len() && pattern[end] != b']' {
                end += if pattern[end] == b'\\' { 2 } else { 1 };
            }
            let end = end.min(pattern.len());
            ((end + 1).min(pattern.len()), Set::Class(at + 1, end))
        }
        byte => (at + 1, Set::Byte(*byte)),
    })
}

fn class_has(class: &[u8], byte: u8) -> bool {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        match rest {
            [] => return found != negated,
            [b'\\', wanted, tail @ ..] => {
                found |= *wanted == byte;
                rest = tail;
            }
            [from, b'-', to, tail @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest = tail;
            }
            [wanted, tail @ ..] => {
                found |= *wanted == byte;
                rest = tail;
            }
        }
    }
}

/// `text` as a pattern that matches nothing else.
pub fn quoted(text: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(text.len());
    for byte in text {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^') {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_redis() {
        for (pattern, text, wanted) in [
            ("", "", true),
            ("*", "", true),
            ("*", "anything", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("h[ae]llo", "hello", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("[\\]]", "]", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("user:*:name", "user:1:name", true),
            ("user:*:name", "user:1:mail", false),
            ("a[", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn quoted_text_matches_itself_only() {
        let text = b"a*b?c[d]\\e^";
        assert!(matches(&quoted(text), text));
        assert!(!matches(&quoted(text), b"aXb?c[d]\\e^"));
    }

    #[test]
    fn many_asterisks_take_no_exponential_time() {
        let pattern = "a*".repeat(50) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(2000).as_bytes()));
    }
}
