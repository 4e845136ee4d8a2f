//! What is changed in statements: the names of databases, and a comment.
//!
//! Owns finding the names in a text and putting others in their place; every other byte stays as it is.

use crate::sql::{Kind, Lexeme, Lexer, Mode, Statement, Statements, Token, bare_name, name};
use plugin_sdk::{PluginOption, Settings};
use std::borrow::Cow;
use std::ops::Range;

/// Whether names before a dot are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
enum Qualified {
    #[default]
    Kept,
    Mapped,
}

/// What is changed.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// The target's database for one of the online server.
    databases: Vec<(Vec<u8>, Vec<u8>)>,
    qualified: Qualified,
    /// What goes before each text.
    comment: Vec<u8>,
}

/// The options that this comes from.
pub fn options() -> Vec<PluginOption> {
    vec![
        PluginOption::table("databases").default("{}").help(
            "The target's database for one of the online server: `shop=shop_copy`. Changed are the login, COM_INIT_DB, USE, and \
             with `map-qualified-names` names in statements.",
        ),
        PluginOption::boolean("map-qualified-names").default("false").help(
            "Map the names of `databases` in statements too, where a dot follows (`shop.orders`) and in CREATE DATABASE, SHOW \
             TABLES FROM and the like. A table or an alias of the same name before a dot is taken for the database.",
        ),
        PluginOption::text("comment").help(
            "Put this comment before each statement: `replay` makes `/* replay */ SELECT ...`, which shows in the target's logs.",
        ),
    ]
}

impl Rewrite {
    /// What the settings say.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn from_settings(settings: &Settings) -> Result<Self, String> {
        let databases = settings
            .table("databases")
            .iter()
            .map(|(online, target)| {
                if online.is_empty() || target.is_empty() {
                    return Err(format!("databases: {online:?}={target:?} has an empty name"));
                }
                Ok((online.as_bytes().to_vec(), target.as_bytes().to_vec()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let qualified =
            if settings.boolean("map-qualified-names") { Qualified::Mapped } else { Qualified::Kept };
        if qualified == Qualified::Mapped && databases.is_empty() {
            return Err("map-qualified-names: there is nothing to map; give `databases` too".to_owned());
        }
        let comment = match settings.text("comment").map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => comment(text)?,
            None => Vec::new(),
        };
        Ok(Self { databases, qualified, comment })
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty() && self.comment.is_empty()
    }

    /// The target's name for a database of the online server.
    pub fn database<'a>(&'a self, online: &'a [u8]) -> Cow<'a, [u8]> {
        Cow::Borrowed(self.mapped(online).unwrap_or(online))
    }

    fn mapped(&self, online: &[u8]) -> Option<&[u8]> {
        self.databases.iter().find(|(from, _)| from == online).map(|(_, to)| &**to)
    }

    /// What goes before each text: a comment and a blank, or nothing.
    pub fn prefix(&self) -> &[u8] {
        &self.comment
    }

    /// What is sent in place of a text; `None`: the text itself. Of the beginning of a text, the beginning of what is sent, after
    /// which the text's rest goes as it is.
    pub fn statement(&self, text: &[u8], mode: Mode) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
        let edits = if self.databases.is_empty() { Vec::new() } else { self.edits(text, mode) };
        if edits.is_empty() && self.comment.is_empty() {
            return None;
        }
        let mut out = Vec::with_capacity(self.comment.len() + text.len() + 16 * edits.len());
        out.extend_from_slice(&self.comment);
        let mut at = 0;
        for (range, with) in edits {
            out.extend_from_slice(&text[at..range.start]);
            out.extend_from_slice(&with);
            at = range.end;
        }
        out.extend_from_slice(&text[at..]);
        Some(out)
    }

    /// What stands in place of a name; `None`: it stays.
    fn edit(&self, lexeme: Lexeme, text: &[u8]) -> Option<(Range<usize>, Vec<u8>)> {
        let online = lexeme.of(text);
        let bare: Cow<'_, [u8]> = bare_name(online).map_or_else(|| name(online).into(), Cow::Borrowed);
        let target = self.mapped(&bare)?;
        let is_plain = target.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            && target.iter().any(|byte| !byte.is_ascii_digit());
        if is_plain && lexeme.token != Token::Quoted {
            return Some((lexeme.range(), target.to_vec()));
        }
        let mut quoted = vec![b'`'];
        for &byte in target {
            quoted.push(byte);
            if byte == b'`' {
                quoted.push(b'`');
            }
        }
        quoted.push(b'`');
        Some((lexeme.range(), quoted))
    }

    fn edits(&self, text: &[u8], mode: Mode) -> Vec<(Range<usize>, Vec<u8>)> {
        let mut edits = Vec::new();
        // Without a name in it, quoted or not, there is nothing to find.
        if !self.databases.iter().any(|(online, _)| contains(text, online)) {
            return edits;
        }
        for statement in Statements::of(text, mode) {
            let named = match statement.kind {
                Kind::Use => statement.lexeme(1),
                Kind::Ddl | Kind::Show if self.qualified == Qualified::Mapped => {
                    named_database(&statement, text, mode)
                }
                _ => None,
            };
            edits.extend(named.filter(Lexeme::is_name).and_then(|lexeme| self.edit(lexeme, text)));
        }
        if self.qualified == Qualified::Mapped {
            edits.extend(self.qualifiers(text, mode));
            edits.sort_by_key(|(range, _)| range.start);
            edits.dedup_by_key(|(range, _)| range.start);
        }
        edits
    }

    /// Names that something is qualified by: `a` of `a.b` and `a.*`, not `b` of `a.b.c`.
    fn qualifiers(&self, text: &[u8], mode: Mode) -> Vec<(Range<usize>, Vec<u8>)> {
        let mut edits = Vec::new();
        let mut last: [Option<Lexeme>; 3] = [None; 3];
        let is_dot = |lexeme: Option<Lexeme>| lexeme.is_some_and(|lexeme| lexeme.token == Token::Mark(b'.'));
        for lexeme in Lexer::new(text, mode) {
            let qualified = lexeme.is_name() || lexeme.token == Token::Mark(b'*');
            if qualified
                && is_dot(last[2])
                && !is_dot(last[0])
                && let Some(name) = last[1].filter(Lexeme::is_name)
            {
                edits.extend(self.edit(name, text));
            }
            last = [last[1], last[2], Some(lexeme)];
        }
        edits
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    // Quotes within a name are doubled in a text.
    part.contains(&b'`') || part.contains(&b'"') || text.windows(part.len()).any(|window| window == part)
}

/// The database in `CREATE DATABASE a`, `SHOW TABLES FROM a`, `SHOW COLUMNS FROM t FROM a`.
fn named_database(statement: &Statement<'_>, text: &[u8], mode: Mode) -> Option<Lexeme> {
    let is = |index: usize, words: &[&str]| words.iter().any(|word| statement.is_word(index, word));
    if let Some(at) = (1..3).find(|&index| is(index, &["DATABASE", "SCHEMA"])) {
        let mut at = at + 1;
        while is(at, &["IF", "NOT", "EXISTS"]) {
            at += 1;
        }
        return statement.lexeme(at);
    }
    if statement.kind != Kind::Show {
        return None;
    }
    let has = |words: &[&str]| (1..4).any(|index| is(index, words));
    let mut skip = if has(&["COLUMNS", "FIELDS", "INDEX", "INDEXES", "KEYS"]) {
        1
    } else if has(&["TABLES", "TABLE", "TRIGGERS", "EVENTS"]) {
        0
    } else {
        return None;
    };
    let mut lexer = Lexer::new(&text[..statement.span.end], mode)
        .skip_while(|lexeme| lexeme.start < statement.span.start);
    while let Some(lexeme) = lexer.next() {
        let word = lexeme.of(text);
        if lexeme.token == Token::Word
            && (word.eq_ignore_ascii_case(b"FROM") || word.eq_ignore_ascii_case(b"IN"))
        {
            if skip == 0 {
                return lexer.next();
            }
            skip -= 1;
        }
    }
    None
}

/// The comment that says `text`.
fn comment(text: &str) -> Result<Vec<u8>, String> {
    if text.contains("*/") || text.contains("/*") {
        return Err("comment: it can't hold the beginning or end of a comment".to_owned());
    }
    if text.starts_with(['!', '+']) || text.starts_with("M!") {
        return Err("comment: a server would read this beginning as more than a comment".to_owned());
    }
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(
            "comment: ASCII only, for it has to be read in each character set; and one line".to_owned()
        );
    }
    Ok(format!("/* {text} */ ").into_bytes())
}

#[cfg(test)]
#[path = "rewrite/tests.rs"]
mod tests;
