//! Cookies and tokens of both servers: which of the target's stands for which of the online server's.
//!
//! Owns the table that all sessions of an instance share, its bound, and where servers put credentials ([`Sources`]). How they
//! are found in responses is the business of [`crate::issued`]; which responses answer the same request, of
//! [`crate::learning`].

use plugin_sdk::{ConfigError, Settings};
use std::collections::HashMap;

/// Longest value that is remembered, in bytes.
pub(crate) const MAX_VALUE: usize = 8 * 1024;
/// Shorter values of cookies are not looked for outside of `Cookie`: they may be anything.
const MIN_TOKEN: usize = 8;

/// Where servers put tokens. Cookies are always looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// Fields of JSON bodies.
    pub(crate) fields: Vec<Vec<u8>>,
    /// Headers.
    pub(crate) headers: Vec<Vec<u8>>,
    /// Fields of queries and forms.
    pub(crate) params: Vec<Vec<u8>>,
}

impl Sources {
    pub(crate) fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let names = |option: &str| {
            let names = settings.texts(option).iter();
            names
                .map(|name| match name.trim() {
                    "" => Err(ConfigError::from(format!("{option}: a name is empty"))),
                    name => Ok(name.as_bytes().to_vec()),
                })
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            fields: names("token-fields")?,
            headers: names("token-headers")?,
            params: names("token-params")?,
        })
    }
}

/// What is known of a value that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counterpart<'a> {
    /// The online server did not issue it, as far as is known: it passes unchanged.
    Unknown,
    /// The target issued this in its place.
    Known(&'a [u8]),
    /// The online server issued it, and the target's answer to the same request is still due.
    Due,
}

/// What a credential is told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A cookie: by its name and value.
    Cookie,
    /// A token: by its value alone, since clients send it elsewhere than they got it.
    Token,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Due,
    /// Nobody waits for it any more; it may still be learnt.
    Late,
    Known(Box<[u8]>),
}

/// The table. Holds at most as many values as it was told to; those that were not used for longest go first.
#[derive(Debug)]
pub(crate) struct Credentials {
    // Two generations, each half as large as the table may be: what is used moves to the young one, and when that is full the
    // old one goes. Costs nothing per use, and keeps at least the more recent half.
    young: HashMap<Box<[u8]>, Entry>,
    old: HashMap<Box<[u8]>, Entry>,
    half: usize,
    key: Vec<u8>,
}

impl Credentials {
    /// An empty table of at most `max` values.
    pub(crate) fn new(max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (max / 2).max(1), key: Vec::new() }
    }

    /// Number of values remembered.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether none is.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The online server issued a value; the target's answer is due.
    pub(crate) fn expect(&mut self, kind: Kind, name: &[u8], value: &[u8]) {
        self.each_key(kind, name, value, |table| {
            // What is known stays known until something else is: servers issue the same cookie again and again.
            if table.find().is_none() {
                table.put(Entry::Due);
            }
        });
    }

    /// The target issued `target` where the online server issued `online`.
    pub(crate) fn learn(&mut self, kind: Kind, name: &[u8], online: &[u8], target: &[u8]) {
        self.each_key(kind, name, online, |table| table.put(Entry::Known(target.into())));
    }

    /// The target issued nothing in place of a value of the online server's.
    pub(crate) fn forget_due(&mut self, kind: Kind, name: &[u8], online: &[u8]) {
        self.each_key(kind, name, online, |table| {
            if matches!(table.find(), Some(Entry::Due | Entry::Late)) {
                table.young.remove(table.key.as_slice());
            }
        });
    }

    /// Nobody waits for a value any more.
    pub(crate) fn give_up(&mut self, kind: Kind, name: &[u8], online: &[u8]) {
        self.each_key(kind, name, online, |table| {
            if table.find() == Some(&Entry::Due) {
                table.put(Entry::Late);
            }
        });
    }

    /// What the target issued in place of a value that a client sends.
    pub(crate) fn counterpart(&mut self, kind: Kind, name: &[u8], value: &[u8]) -> Counterpart<'_> {
        if self.is_empty() {
            return Counterpart::Unknown;
        }
        self.set_key(kind, name, value);
        match self.find() {
            Some(Entry::Known(target)) => Counterpart::Known(target),
            Some(Entry::Due) => Counterpart::Due,
            Some(Entry::Late) | None => Counterpart::Unknown,
        }
    }

    /// Calls `act` with the key set to each one that a value has. A cookie that might be a token is one: double-submit cookies
    /// come back in headers and forms.
    fn each_key(&mut self, kind: Kind, name: &[u8], value: &[u8], act: impl Fn(&mut Self)) {
        if value.is_empty() || value.len() > MAX_VALUE || name.len() > MAX_VALUE {
            return;
        }
        self.set_key(kind, name, value);
        act(self);
        if kind == Kind::Cookie && value.len() >= MIN_TOKEN {
            self.set_key(Kind::Token, name, value);
            act(self);
        }
    }

    fn set_key(&mut self, kind: Kind, name: &[u8], value: &[u8]) {
        self.key.clear();
        if kind == Kind::Cookie {
            self.key.extend_from_slice(name);
        }
        // No cookie has an empty name, so tokens never meet cookies.
        self.key.push(b'=');
        self.key.extend_from_slice(value);
    }

    fn find(&mut self) -> Option<&Entry> {
        if let Some((key, entry)) = self.old.remove_entry(self.key.as_slice()) {
            self.insert(key, entry);
        }
        self.young.get(self.key.as_slice())
    }

    fn put(&mut self, entry: Entry) {
        self.old.remove(self.key.as_slice());
        self.insert(self.key.as_slice().into(), entry);
    }

    fn insert(&mut self, key: Box<[u8]>, entry: Entry) {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Counterpart::{Due, Known, Unknown};

    #[test]
    fn a_value_is_due_then_known() {
        let mut table = Credentials::new(100);
        assert_eq!(table.counterpart(Kind::Cookie, b"sid", b"1"), Unknown);
        table.expect(Kind::Cookie, b"sid", b"1");
        assert_eq!(table.counterpart(Kind::Cookie, b"sid", b"1"), Due);
        assert_eq!(table.counterpart(Kind::Cookie, b"other", b"1"), Unknown);
        table.learn(Kind::Cookie, b"sid", b"1", b"2");
        assert_eq!(table.counterpart(Kind::Cookie, b"sid", b"1"), Known(b"2"));
        table.expect(Kind::Cookie, b"sid", b"1");
        assert_eq!(table.counterpart(Kind::Cookie, b"sid", b"1"), Known(b"2"));
        table.forget_due(Kind::Cookie, b"sid", b"1");
        assert_eq!(table.counterpart(Kind::Cookie, b"sid", b"1"), Known(b"2"));
    }

    #[test]
    fn nobody_waits_for_what_will_not_come() {
        let mut table = Credentials::new(100);
        table.expect(Kind::Token, b"token", b"abc");
        table.give_up(Kind::Token, b"", b"abc");
        assert_eq!(table.counterpart(Kind::Token, b"", b"abc"), Unknown);
        table.learn(Kind::Token, b"token", b"abc", b"def");
        assert_eq!(table.counterpart(Kind::Token, b"", b"abc"), Known(b"def"));
        table.expect(Kind::Token, b"token", b"x");
        table.forget_due(Kind::Token, b"token", b"x");
        assert_eq!(table.counterpart(Kind::Token, b"", b"x"), Unknown);
    }

    #[test]
    fn a_long_cookie_is_known_as_a_token_too() {
        let mut table = Credentials::new(100);
        table.learn(Kind::Cookie, b"XSRF-TOKEN", b"0123456789", b"9876543210");
        assert_eq!(table.counterpart(Kind::Token, b"", b"0123456789"), Known(b"9876543210"));
        table.learn(Kind::Cookie, b"lang", b"en", b"de");
        assert_eq!(table.counterpart(Kind::Token, b"", b"en"), Unknown);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_is_used() {
        let mut table = Credentials::new(100);
        for value in 0..10_000_u32 {
            table.learn(Kind::Token, b"", &value.to_le_bytes(), b"t");
            assert_eq!(table.counterpart(Kind::Token, b"", &0_u32.to_le_bytes()), Known(b"t"));
            assert!(table.len() <= 100, "{} values", table.len());
        }
        assert_eq!(table.counterpart(Kind::Token, b"", &5_u32.to_le_bytes()), Unknown);
        assert_eq!(table.counterpart(Kind::Token, b"", &9_999_u32.to_le_bytes()), Known(b"t"));
        table.learn(Kind::Token, b"", &[0; MAX_VALUE + 1], b"t");
        assert_eq!(table.counterpart(Kind::Token, b"", &[0; MAX_VALUE + 1]), Unknown);
    }
}
