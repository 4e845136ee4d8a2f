//! What a `SET` assigns, item by item.
//!
//! Owns the forms that `SET` has: variables of the user and of the server, `NAMES`, `CHARACTER SET`, `TRANSACTION`, `ROLE`.

use crate::sql::{Backslashes, Charset, DoubleQuotes, Lexeme, Lexer, Mode, Statement, Token, name, unquoted};

/// What is set, in a form that does not depend on how it was written: `@a`, `sql_mode`, `names`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(Box<[u8]>);

impl Key {
    /// A statement prepared in SQL under this name.
    pub(super) fn prepared(statement: &[u8]) -> Self {
        Self([b"prepare ", &*name(statement)].concat().to_ascii_lowercase().into())
    }

    /// A variable of the user: `@a`, `` @`a` ``.
    fn variable(text: &[u8]) -> Self {
        let bare = text.strip_prefix(b"@").unwrap_or(text);
        let bare = match bare {
            [quote @ (b'\'' | b'"' | b'`'), inner @ .., last] if quote == last => inner,
            _ => bare,
        };
        Self([b"@", bare].concat().to_ascii_lowercase().into())
    }

    fn is(&self, key: &str) -> bool {
        *self.0 == *key.as_bytes()
    }
}

/// For whom something is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// For the session.
    Session,
    /// For all.
    Global,
}

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) key: Key,
    pub(super) scope: Scope,
    /// The value's tokens, as one text.
    value: Box<[u8]>,
    /// The value, when it is a single string, word or number.
    literal: Option<Box<[u8]>>,
}

/// Variables that hold for one statement or transaction, so that setting them again is wrong.
const ONCE: [&str; 3] = ["insert_id", "gtid_next", "transaction"];

/// Names in a `sql_mode` that stand for `ANSI_QUOTES` too.
const QUOTING: [&str; 6] = ["ANSI", "ORACLE", "DB2", "MAXDB", "MSSQL", "POSTGRESQL"];
/// Their bits, and those of `NO_BACKSLASH_ESCAPES`.
const QUOTING_BITS: u64 = 4 | 0x200 | 0x400 | 0x800 | 0x1000 | 0x2000 | 0x4_0000;
const NO_ESCAPE_BIT: u64 = 0x10_0000;

/// How a `sql_mode` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// As a text or a number.
    Plainly,
    /// By a variable or a function.
    ByOthers,
}

impl Item {
    /// How it gives the `sql_mode`, if it does.
    pub(super) fn says_sql_mode(&self) -> Option<Says> {
        let plain = self.literal.as_deref().is_some_and(|literal| !literal.eq_ignore_ascii_case(b"DEFAULT"));
        self.key.is("sql_mode").then_some(if plain { Says::Plainly } else { Says::ByOthers })
    }

    /// Whether it holds as long as the session does.
    pub(super) fn lasts(&self) -> bool {
        self.scope == Scope::Session && !ONCE.iter().any(|once| self.key.is(once))
    }

    /// How texts are read once it is set.
    pub(super) fn applied(&self, mut mode: Mode, initial: Mode, login: Charset) -> Mode {
        if self.key.is("sql_mode") {
            (mode.quotes, mode.backslashes) = self.sql_mode(mode, initial);
        } else if self.key.is("names") || self.key.is("character_set_client") {
            mode.charset = match self.literal.as_deref() {
                Some(value) if value.eq_ignore_ascii_case(b"DEFAULT") => login,
                Some(value) => Charset::named(value),
                None => Charset::Unknown,
            };
        }
        mode
    }

    fn sql_mode(&self, mode: Mode, initial: Mode) -> (DoubleQuotes, Backslashes) {
        let value = self.value.to_ascii_uppercase();
        let has = |what: &str| value.windows(what.len()).any(|part| part == what.as_bytes());
        let number = std::str::from_utf8(&value).ok().and_then(|value| value.trim().parse::<u64>().ok());
        let (quotes, plain) = match number {
            Some(bits) => (bits & QUOTING_BITS != 0, bits & NO_ESCAPE_BIT != 0),
            None if has("@") => {
                let known = has("SQL_MODE");
                if !known || has("@OLD") {
                    // Put back what was saved.
                    return (initial.quotes, initial.backslashes);
                }
                let removes = has("REPLACE");
                let quotes = QUOTING.iter().any(|name| has(name));
                let plain = has("NO_BACKSLASH_ESCAPES");
                (
                    if quotes { !removes } else { mode.quotes == DoubleQuotes::Name },
                    if plain { !removes } else { mode.backslashes == Backslashes::Plain },
                )
            }
            None if value.trim_ascii() == b"DEFAULT" => return (initial.quotes, initial.backslashes),
            None => (QUOTING.iter().any(|name| has(name)), has("NO_BACKSLASH_ESCAPES")),
        };
        (
            if quotes { DoubleQuotes::Name } else { DoubleQuotes::String },
            if plain { Backslashes::Plain } else { Backslashes::Escape },
        )
    }
}

/// What a `SET` assigns.
#[derive(Debug, Default)]
pub(super) struct Assigned {
    pub(super) items: Vec<Item>,
    /// A value is made from variables or a query.
    pub(super) reads: bool,
}

impl Assigned {
    /// Reads a `SET`.
    pub(super) fn of(statement: &Statement<'_>, mode: Mode) -> Self {
        let text = statement.text;
        let mut all = Self::default();
        let mut depth = 0_u32;
        let mut item: Vec<Lexeme> = Vec::new();
        for lexeme in Lexer::new(text, mode).skip(1) {
            match lexeme.token {
                Token::Mark(b'(') => depth += 1,
                Token::Mark(b')') => depth = depth.saturating_sub(1),
                Token::Mark(b',') if depth == 0 => {
                    all.add(&item, text, mode);
                    item.clear();
                    continue;
                }
                _ => {}
            }
            item.push(lexeme);
        }
        all.add(&item, text, mode);
        all
    }

    fn add(&mut self, item: &[Lexeme], text: &[u8], mode: Mode) {
        let is = |index: usize, word: &str| {
            item.get(index).is_some_and(|lexeme| lexeme.of(text).eq_ignore_ascii_case(word.as_bytes()))
        };
        let Some(first) = item.first() else { return };
        let (mut scope, mut at) = (None, 0);
        if is(0, "SESSION") || is(0, "LOCAL") {
            (scope, at) = (Some(Scope::Session), 1);
        } else if is(0, "GLOBAL") || is(0, "PERSIST") || is(0, "PERSIST_ONLY") {
            (scope, at) = (Some(Scope::Global), 1);
        }
        let (key, value) = if first.token == Token::Variable {
            (Key::variable(first.of(text)), 1)
        } else if is(at, "NAMES") || is(at, "CHARSET") {
            (Key(b"names".as_slice().into()), at + 1)
        } else if (is(at, "CHARACTER") || is(at, "CHAR")) && is(at + 1, "SET") {
            (Key(b"names".as_slice().into()), at + 2)
        } else if is(at, "TRANSACTION") && !is(at + 1, "=") {
            // Without a scope it is for the next transaction only.
            let key: &[u8] = if scope.is_some() { b"session transaction" } else { b"transaction" };
            (Key(key.into()), at + 1)
        } else if is(at, "ROLE") {
            (Key(b"role".as_slice().into()), at + 1)
        } else {
            let (key, end, own) = server_variable(item, at, text);
            scope = own.or(scope);
            (key, end)
        };
        let mut rest = item.get(value..).unwrap_or_default();
        if let [Lexeme { token: Token::Mark(b':'), .. }, tail @ ..] = rest {
            rest = tail;
        }
        if let [Lexeme { token: Token::Mark(b'='), .. }, tail @ ..] = rest {
            rest = tail;
        }
        let literal = match rest {
            [one] => Some(*one),
            // `SET NAMES a COLLATE b`
            [one, collate, _] if collate.of(text).eq_ignore_ascii_case(b"COLLATE") => Some(*one),
            _ => None,
        }
        .filter(|one| matches!(one.token, Token::Text | Token::Word | Token::Number | Token::Quoted))
        .map(|one| match one.token {
            Token::Quoted => name(one.of(text)),
            _ => unquoted(one.of(text), mode),
        });
        self.reads |= rest.iter().any(|lexeme| {
            matches!(lexeme.token, Token::Variable | Token::System)
                || lexeme.token == Token::Word && lexeme.of(text).eq_ignore_ascii_case(b"SELECT")
        });
        let value = match rest {
            [first, .., last] => text.get(first.start..last.end).unwrap_or_default(),
            [one] => one.of(text),
            [] => &[],
        };
        self.items.push(Item {
            key,
            scope: scope.unwrap_or(Scope::Session),
            value: value.into(),
            literal: literal.map(Into::into),
        });
    }
}

/// A variable of the server: its name, how many tokens have been read with it, and the scope in its name.
fn server_variable(item: &[Lexeme], at: usize, text: &[u8]) -> (Key, usize, Option<Scope>) {
    let mut end = at + 1;
    let first = item.get(at).map_or(&[][..], |lexeme| lexeme.of(text));
    let mut full = first.strip_prefix(b"@@").unwrap_or(first).to_ascii_lowercase();
    // `session.sql_mode` is three tokens where it does not begin with `@@`.
    while let [Lexeme { token: Token::Mark(b'.'), .. }, part, ..] = item.get(end..).unwrap_or_default() {
        full.push(b'.');
        full.extend_from_slice(&part.of(text).to_ascii_lowercase());
        end += 2;
    }
    full.retain(|&byte| byte != b'`');
    let mut scope = None;
    for (prefix, of) in [
        (&b"global."[..], Scope::Global),
        (b"persist.", Scope::Global),
        (b"persist_only.", Scope::Global),
        (b"session.", Scope::Session),
        (b"local.", Scope::Session),
    ] {
        if full.starts_with(prefix) {
            full.drain(..prefix.len());
            scope = Some(of);
            break;
        }
    }
    (Key(full.into()), end, scope)
}

/// The variables behind the `INTO` of a query.
pub(super) fn into_variables(statement: &Statement<'_>, mode: Mode) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut after_into = false;
    for lexeme in Lexer::new(statement.text, mode) {
        match lexeme.token {
            Token::Variable if after_into => keys.push(Key::variable(lexeme.of(statement.text))),
            Token::Mark(b',') => {}
            Token::Word => after_into = lexeme.of(statement.text).eq_ignore_ascii_case(b"INTO"),
            _ => after_into = false,
        }
    }
    keys
}
