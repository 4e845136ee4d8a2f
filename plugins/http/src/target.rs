//! Request targets (RFC 9112, section 3.2).

use memchr::{memchr, memmem};

/// The parts of a request target that begin or hold a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    /// `http://` and the like; empty in origin form.
    pub(crate) scheme: &'a [u8],
    /// The host and port in absolute form; empty in origin form.
    pub(crate) authority: &'a [u8],
    /// The path, without the query. The whole target, when it is neither origin nor absolute form.
    pub(crate) path: &'a [u8],
    /// The query with its question mark.
    pub(crate) query: &'a [u8],
}

/// Takes a request target apart. The parts, in order, are the target.
pub(crate) fn parts(target: &[u8]) -> Parts<'_> {
    let (mut scheme, mut authority, mut rest) = (&target[..0], &target[..0], target);
    if target.first() != Some(&b'/')
        && let Some(at) = memmem::find(target, b"://")
    {
        (scheme, rest) = target.split_at(at + 3);
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        (authority, rest) = rest.split_at(end);
    }
    let (path, query) = rest.split_at(memchr(b'?', rest).unwrap_or(rest.len()));
    Parts { scheme, authority, path, query }
}

/// The path of a target: in absolute form without scheme and host, and always without query.
pub(crate) fn path_of(target: &[u8]) -> &[u8] {
    parts(target).path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_taken_apart() {
        for (target, expected) in [
            ("/a/b?c=d?e", ["", "", "/a/b", "?c=d?e"]),
            ("/redirect?to=http://x/", ["", "", "/redirect", "?to=http://x/"]),
            ("http://a:80/b?c", ["http://", "a:80", "/b", "?c"]),
            ("http://a?c", ["http://", "a", "", "?c"]),
            ("*", ["", "", "*", ""]),
            ("a:443", ["", "", "a:443", ""]),
            ("", ["", "", "", ""]),
        ] {
            let parts = parts(target.as_bytes());
            assert_eq!(
                [parts.scheme, parts.authority, parts.path, parts.query],
                expected.map(str::as_bytes),
                "{target}"
            );
        }
    }
}
