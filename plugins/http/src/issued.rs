//! What a response issues: cookies, and tokens in headers and bodies.

use crate::codec::{ResponseHead, trim};
use crate::credentials::{Kind, MAX_VALUE, Sources};
use memchr::{memchr, memmem};

/// Longest body that is searched, in bytes.
pub(crate) const MAX_BODY: usize = 64 * 1024;
/// Most values of one response that are looked at.
const MAX_ISSUED: usize = 64;

/// A value that a server gave to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issued {
    /// What it is told apart by.
    pub(crate) kind: Kind,
    /// The name of the cookie, header or field; lower-case for headers.
    pub(crate) name: Vec<u8>,
    /// The value.
    pub(crate) value: Vec<u8>,
}

/// How a body is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// For fields of JSON objects.
    Json,
    /// For fields of HTML forms.
    Html,
}

/// How the body behind `head` is to be searched, if at all.
pub(crate) fn search_of(head: &ResponseHead<'_>, sources: &Sources) -> Option<Search> {
    let mut search = None;
    for field in head.fields {
        match field.name.len() {
            12 if field.is(b"content-type") => {
                let value = field.value.to_ascii_lowercase();
                let value = value.split(|byte| *byte == b';').next().map(trim).unwrap_or_default();
                search = match value {
                    b"text/html" | b"application/xhtml+xml" if !sources.params.is_empty() => {
                        Some(Search::Html)
                    }
                    _ if value.ends_with(b"json") && !sources.fields.is_empty() => Some(Search::Json),
                    _ => None,
                };
            }
            // What is compressed is not looked into.
            16 if field.is(b"content-encoding") && !field.value.eq_ignore_ascii_case(b"identity") => {
                return None;
            }
            _ => {}
        }
    }
    search
}

/// A token without the scheme in front of it (RFC 6750, section 2.1), and where it begins.
pub(crate) fn bearer(value: &[u8]) -> (usize, &[u8]) {
    match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => {
            let token = trim(token);
            (value.len() - token.len(), token)
        }
        _ => (0, value),
    }
}

/// Adds what a head issues.
pub(crate) fn in_head(head: &ResponseHead<'_>, sources: &Sources, issued: &mut Vec<Issued>) {
    for field in head.fields {
        if field.is(b"set-cookie") {
            let pair = field.value.split(|byte| *byte == b';').next().unwrap_or_default();
            if let Some(equals) = memchr(b'=', pair) {
                add(issued, Kind::Cookie, trim(&pair[..equals]), trim(&pair[equals + 1..]));
            }
        } else if sources.headers.iter().any(|name| field.is(name)) {
            add(issued, Kind::Token, &field.name.to_ascii_lowercase(), bearer(field.value).1);
        }
    }
}

/// Adds what a body issues.
pub(crate) fn in_body(search: Search, body: &[u8], sources: &Sources, issued: &mut Vec<Issued>) {
    match search {
        Search::Json => in_json(body, &sources.fields, issued),
        Search::Html => in_html(body, &sources.params, issued),
    }
}

fn add(issued: &mut Vec<Issued>, kind: Kind, name: &[u8], value: &[u8]) {
    if issued.len() < MAX_ISSUED && !name.is_empty() && !value.is_empty() && value.len() <= MAX_VALUE {
        issued.push(Issued { kind, name: name.to_vec(), value: value.to_vec() });
    }
}

/// Adds the text values of fields with one of these names, at any depth. Reads strings only: that is enough to tell names and
/// values apart, and takes any other bytes as they come.
fn in_json(body: &[u8], names: &[Vec<u8>], issued: &mut Vec<Issued>) {
    let mut rest = body;
    while let Some((name, behind)) = next_json_string(rest) {
        rest = behind;
        let Some(value) = trim(rest).strip_prefix(b":").map(trim) else { continue };
        if value.first() == Some(&b'"')
            && names.iter().any(|known| known == name)
            && let Some((value, behind)) = next_json_string(value)
        {
            rest = behind;
            if let Some(value) = unescape(value) {
                add(issued, Kind::Token, name, &value);
            }
        }
    }
}

/// The first string of JSON text, as it is written between its quotes, and what is behind it.
fn next_json_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = memchr(b'"', text)? + 1;
    let mut end = start;
    loop {
        match text.get(end)? {
            b'"' => return Some((&text[start..end], &text[end + 1..])),
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
}

/// A JSON string without its escapes (RFC 8259, section 7); none for those that no token has.
fn unescape(written: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        let (&escaped, behind) = rest.split_first()?;
        rest = behind;
        match escaped {
            b'"' | b'\\' | b'/' => value.push(escaped),
            b'u' => {
                let (digits, behind) = rest.split_at_checked(4)?;
                let code = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
                value.push(Some(code).filter(|code| (0x20..0x7f).contains(code))?);
                rest = behind;
            }
            _ => return None,
        }
    }
    Some(value)
}

/// Adds the values of `input` and `meta` elements with one of these names.
fn in_html(body: &[u8], names: &[Vec<u8>], issued: &mut Vec<Issued>) {
    let mut rest = body;
    while let Some(start) = memchr(b'<', rest) {
        rest = &rest[start + 1..];
        let is = |name: &[u8]| rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        let holder: &[u8] = if is(b"input") {
            b"value"
        } else if is(b"meta") {
            b"content"
        } else {
            continue;
        };
        let (tag, behind) = rest.split_at(tag_length(rest));
        rest = behind;
        if let (Some(name), Some(value)) = (attribute(tag, b"name"), attribute(tag, holder))
            && names.iter().any(|known| known == name)
            && memmem::find(value, b"&").is_none()
        {
            add(issued, Kind::Token, name, value);
        }
    }
}

/// Bytes up to the end of a tag; a `>` in quotes is none.
fn tag_length(text: &[u8]) -> usize {
    let mut quote = None;
    for (index, byte) in text.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return index,
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), _) if open == *byte => quote = None,
            _ => {}
        }
    }
    text.len()
}

/// The value of an attribute of a tag.
fn attribute<'a>(tag: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'/';
    let mut rest = &tag[tag.iter().position(is_space)?..];
    loop {
        rest = &rest[rest.iter().position(|byte| !is_space(byte))?..];
        let end = rest.iter().position(|byte| is_space(byte) || *byte == b'=').unwrap_or(rest.len());
        let found = &rest[..end.max(1)];
        rest = rest[end..].trim_ascii_start();
        let Some(behind) = rest.strip_prefix(b"=").map(<[u8]>::trim_ascii_start) else { continue };
        let value;
        (value, rest) = match behind.first()? {
            quote @ (b'"' | b'\'') => {
                let end = memchr(*quote, &behind[1..])? + 1;
                (&behind[1..end], &behind[end + 1..])
            }
            _ => behind.split_at(behind.iter().position(u8::is_ascii_whitespace).unwrap_or(behind.len())),
        };
        if found.eq_ignore_ascii_case(name) {
            return Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(search: Search, body: &str) -> Vec<(String, String)> {
        let names = || vec![b"token".to_vec(), b"csrf".to_vec()];
        let sources = Sources { fields: names(), params: names(), headers: Vec::new() };
        let mut issued = Vec::new();
        in_body(search, body.as_bytes(), &sources, &mut issued);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        issued.into_iter().map(|issued| (text(issued.name), text(issued.value))).collect()
    }

    #[track_caller]
    fn check(search: Search, body: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(found(search, body), expected, "{body}");
    }

    #[test]
    fn tokens_are_found_in_json() {
        check(Search::Json, r#"{"token": "abc"}"#, &[("token", "abc")]);
        check(Search::Json, r#"{"a":{"token":"x"},"b":[{"csrf" : "y"}]}"#, &[("token", "x"), ("csrf", "y")]);
        check(Search::Json, r#"{"a": "token", "b": ": \"token\": \"no\""}"#, &[]);
        check(Search::Json, r#"{"token": "a\/b\u003d\"c"}"#, &[("token", "a/b=\"c")]);
        check(Search::Json, r#"{"token": 5, "csrf": null, "token": ""}"#, &[]);
        check(Search::Json, r#"{"token": "cut of"#, &[]);
        check(Search::Json, r#"{"token": "\u20ac", "csrf": "\n", "token": "ok\"#, &[]);
        check(Search::Json, "\"", &[]);
        check(Search::Json, "\"\\", &[]);
    }

    #[test]
    fn tokens_are_found_in_forms() {
        check(
            Search::Html,
            r#"<form><INPUT type=hidden name="csrf" value="abc"></form>"#,
            &[("csrf", "abc")],
        );
        check(
            Search::Html,
            r#"<input value='a>b' name=csrf><meta name="token" content="t">"#,
            &[("csrf", "a>b"), ("token", "t")],
        );
        check(Search::Html, r#"<input name="other" value="x"><a name="csrf" value="y">"#, &[]);
        check(Search::Html, r#"<input disabled name = "csrf" value = "z" />"#, &[("csrf", "z")]);
        check(Search::Html, r#"<input name="csrf" value="a&amp;b"><input ===> <input name="csrf""#, &[]);
    }

    #[test]
    fn schemes_are_no_part_of_tokens() {
        assert_eq!(bearer(b"Bearer  abc"), (8, &b"abc"[..]));
        assert_eq!(bearer(b"abc"), (0, &b"abc"[..]));
        assert_eq!(bearer(b"Basic YTpi"), (0, &b"Basic YTpi"[..]));
    }
}
