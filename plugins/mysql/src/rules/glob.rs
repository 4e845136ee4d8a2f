//! Patterns of names: `*` stands for any bytes, `?` for one.

/// Whether letters are the same in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// They are not.
    Matters,
    /// ASCII letters are.
    Ignored,
}

/// Whether a name matches a pattern. Takes time in the product of their lengths at most.
pub(crate) fn matches(pattern: &[u8], name: &[u8], case: Case) -> bool {
    let same = |a: u8, b: u8| a == b || case == Case::Ignored && a.eq_ignore_ascii_case(&b);
    let (mut at, mut in_name) = (0, 0);
    // Where to go on when what follows the last `*` does not match.
    let mut back: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                back = Some((at + 1, in_name));
                at += 1;
            }
            Some(&byte) if byte == b'?' || same(byte, name[in_name]) => {
                at += 1;
                in_name += 1;
            }
            _ => {
                let Some((after, from)) = back else { return false };
                back = Some((after, from + 1));
                (at, in_name) = (after, from + 1);
            }
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c*", "abbc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("abc", "ab", false),
            ("ab", "abc", false),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "ab", false),
            ("A", "a", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes(), Case::Matters),
                expected,
                "{pattern} {name}"
            );
        }
        assert!(matches(b"Sys.*", b"sYs.x", Case::Ignored));
        assert!(!matches(&b"*a".repeat(50), &[b'b'; 10_000], Case::Matters));
    }
}
