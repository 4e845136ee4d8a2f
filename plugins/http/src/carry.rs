//! Puts the target's credentials into requests, in place of the online server's.

use crate::codec::{Framing, RequestHead, trim};
use crate::credentials::{Counterpart, Credentials, Kind, Sources};
use crate::issued::{MAX_BODY, bearer};
use crate::rewrite::Substitutes;
use crate::target::parts;
use memchr::memchr;

/// Whether a request may wait for credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It may.
    Some,
    /// It has waited long enough: what is due passes unchanged, and is waited for no more.
    None,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// The request may go.
    Ready,
    /// The target has not issued something yet that the request needs.
    Due,
}

/// Carries credentials over.
#[derive(Debug)]
pub(crate) struct Carrier<'a> {
    /// What is known.
    pub(crate) table: &'a mut Credentials,
    /// Where tokens are.
    pub(crate) sources: &'a Sources,
    /// Whether the request may wait.
    pub(crate) patience: Patience,
    /// Values that went unchanged although the online server issued them.
    pub(crate) overdue: u64,
}

impl Carrier<'_> {
    /// Looks at a head, and puts what is to be changed into `substitutes`.
    pub(crate) fn carry_head(&mut self, head: &RequestHead<'_>, substitutes: &mut Substitutes) -> Readiness {
        if self.table.is_empty() {
            return Readiness::Ready;
        }
        for (number, field) in head.fields.enumerate() {
            let value = if field.is(b"cookie") {
                self.cookies(field.value)
            } else if field.is(b"authorization") || self.sources.headers.iter().any(|name| field.is(name)) {
                let (start, token) = bearer(field.value);
                self.look_up(Kind::Token, b"", token)
                    .map(|known| known.map(|token| [&field.value[..start], &token].concat()))
            } else {
                continue;
            };
            match value {
                Ok(Some(value)) => substitutes.values.push((number, value)),
                Ok(None) => {}
                Err(due) => return due,
            }
        }
        match self.params(parts(head.target).query) {
            Ok(query) => substitutes.query = query,
            Err(due) => return due,
        }
        Readiness::Ready
    }

    /// Whether the body behind `head` may hold tokens: how many bytes it is.
    pub(crate) fn form_length(&self, head: &RequestHead<'_>, framing: Framing) -> Option<usize> {
        let Framing::Length(length @ 1..) = framing else { return None };
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_BODY)?;
        if self.sources.params.is_empty() || self.table.is_empty() || head.expects_continue() {
            return None;
        }
        let field = head.fields.clone().find(|field| field.is(b"content-type"))?;
        let media_type = field.value.split(|byte| *byte == b';').next().map(trim)?;
        media_type.eq_ignore_ascii_case(b"application/x-www-form-urlencoded").then_some(length)
    }

    /// The body of a form with the target's tokens, if there are any to be put in.
    ///
    /// # Errors
    /// When one is due.
    pub(crate) fn carry_form(&mut self, body: &[u8]) -> Result<Option<Vec<u8>>, Readiness> {
        self.params(body)
    }

    /// What is to be sent in place of a value, if that is another one.
    fn look_up(&mut self, kind: Kind, name: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, Readiness> {
        match self.table.counterpart(kind, name, value) {
            Counterpart::Unknown => Ok(None),
            Counterpart::Known(target) if target == value => Ok(None),
            Counterpart::Known(target) => Ok(Some(target.to_vec())),
            Counterpart::Due if self.patience == Patience::Some => Err(Readiness::Due),
            Counterpart::Due => {
                self.table.give_up(kind, name, value);
                self.overdue += 1;
                Ok(None)
            }
        }
    }

    /// The value of `Cookie` (RFC 6265, section 4.2.1) with the target's values.
    fn cookies(&mut self, value: &[u8]) -> Result<Option<Vec<u8>>, Readiness> {
        let mut changed = None;
        for (index, pair) in value.split(|byte| *byte == b';').enumerate() {
            let mut new = None;
            if let Some(equals) = memchr(b'=', pair) {
                let (name, old) = (trim(&pair[..equals]), trim(&pair[equals + 1..]));
                if let Some(target) = self.look_up(Kind::Cookie, name, old)? {
                    new = Some([&pair[..=equals], &target].concat());
                }
            }
            replace_part(&mut changed, value, pair, index, b';', new);
        }
        Ok(changed)
    }

    /// A query or a urlencoded form with the target's values.
    fn params(&mut self, text: &[u8]) -> Result<Option<Vec<u8>>, Readiness> {
        let mut changed = None;
        if self.sources.params.is_empty() || self.table.is_empty() {
            return Ok(None);
        }
        for (index, pair) in text.split(|byte| *byte == b'&').enumerate() {
            let mut new = None;
            if let Some(equals) = memchr(b'=', pair) {
                let name = decode(pair[..equals].strip_prefix(b"?").unwrap_or(&pair[..equals]));
                if self.sources.params.contains(&name)
                    && let Some(target) = self.look_up(Kind::Token, b"", &decode(&pair[equals + 1..]))?
                {
                    let mut pair = pair[..=equals].to_vec();
                    encode(&target, &mut pair);
                    new = Some(pair);
                }
            }
            replace_part(&mut changed, text, pair, index, b'&', new);
        }
        Ok(changed)
    }
}

/// Builds up `changed` from the parts of `whole`, once one of them is `new`. `part` lies within `whole`.
fn replace_part(
    changed: &mut Option<Vec<u8>>,
    whole: &[u8],
    part: &[u8],
    index: usize,
    separator: u8,
    new: Option<Vec<u8>>,
) {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    match (changed.as_mut(), new) {
        (None, None) => {}
        (None, Some(new)) => *changed = Some([&whole[..start], &new].concat()),
        (Some(so_far), new) => {
            if index > 0 {
                so_far.push(separator);
            }
            so_far.extend_from_slice(new.as_deref().unwrap_or(part));
        }
    }
}

/// Undoes percent-encoding and pluses, as far as it is right.
fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => match behind {
                [a, b, behind @ ..] => match (digit(*a), digit(*b)) {
                    (Some(a), Some(b)) => {
                        rest = behind;
                        a << 4 | b
                    }
                    _ => b'%',
                },
                _ => b'%',
            },
            byte => byte,
        });
    }
    decoded
}

fn encode(value: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carrier<'a>(table: &'a mut Credentials, sources: &'a Sources) -> Carrier<'a> {
        Carrier { table, sources, patience: Patience::Some, overdue: 0 }
    }

    #[test]
    fn cookies_are_replaced_one_by_one() {
        let mut table = Credentials::new(10);
        table.learn(Kind::Cookie, b"sid", b"1", b"two");
        table.learn(Kind::Cookie, b"b", b"x", b"y=");
        let sources = Sources::default();
        let mut carrier = carrier(&mut table, &sources);
        for (before, after) in [
            ("sid=1", Some("sid=two")),
            ("a=1; sid=1; c=d", Some("a=1; sid=two; c=d")),
            ("sid=1;b=x", Some("sid=two;b=y=")),
            ("a=1; b=x", Some("a=1; b=y=")),
            ("a=1; sid=2; sid", None),
            ("", None),
        ] {
            let new = carrier.cookies(before.as_bytes()).expect("nothing is due");
            assert_eq!(new.as_deref(), after.map(str::as_bytes), "{before}");
        }
    }

    #[test]
    fn params_are_decoded_and_encoded() {
        let mut table = Credentials::new(10);
        table.learn(Kind::Token, b"", b"a b/c", b"x+y=");
        let sources = Sources { params: vec![b"csrf".to_vec()], ..Sources::default() };
        let mut carrier = carrier(&mut table, &sources);
        for (before, after) in [
            ("?csrf=a+b%2fc&d=e", Some("?csrf=x%2By%3D&d=e")),
            ("a=1&csrf=a%20b/c", Some("a=1&csrf=x%2By%3D")),
            ("a=a+b%2fc", None),
            ("csrf=%zz%1", None),
        ] {
            let new = carrier.params(before.as_bytes()).expect("nothing is due");
            assert_eq!(new.as_deref(), after.map(str::as_bytes), "{before}");
        }
    }

    #[test]
    fn what_is_due_is_waited_for_until_patience_ends() {
        let mut table = Credentials::new(10);
        table.expect(Kind::Cookie, b"sid", b"1");
        let sources = Sources::default();
        let mut carrier = carrier(&mut table, &sources);
        assert_eq!(carrier.cookies(b"sid=1"), Err(Readiness::Due));
        carrier.patience = Patience::None;
        assert_eq!(carrier.cookies(b"sid=1"), Ok(None));
        assert_eq!(carrier.overdue, 1);
        carrier.patience = Patience::Some;
        assert_eq!(carrier.cookies(b"sid=1"), Ok(None));
    }
}
