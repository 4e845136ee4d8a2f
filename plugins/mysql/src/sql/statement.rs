//! The statements of a text: where each is, what it is, and what it may do.
//!
//! Owns the verdict that `read-only` relies on: what is not surely without an effect is said to have one. One pass, nothing is
//! allocated.

use super::functions;
use super::kind::{Effect, Kind};
use super::lex::{Doubt, Lexeme, Lexer, Token};
use super::mode::{Extent, Mode};
use super::quoted::{bare_name, name, unquoted};
use super::seen::{Seen, flag};
use super::verdict;
use super::word::Word;
use std::ops::Range;

/// How many of a statement's first tokens are kept.
pub const HEAD: usize = 8;

/// Is told what is found in a text, while it is read.
pub trait Watch {
    /// What a function may do that none of the servers has, or that is qualified by a database's name. Names are as in the text,
    /// quotes included.
    fn unknown_function(&mut self, _database: Option<&[u8]>, _name: &[u8]) -> Effect {
        Effect::Unsure
    }

    /// Any function is called.
    fn call(&mut self, _name: &[u8]) {}

    /// A name that something is qualified by: a database's, a table's, an alias. As in the text, quotes included.
    fn qualifier(&mut self, _name: &[u8]) {}
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {}

/// A statement of a text.
#[derive(Clone, Debug)]
pub struct Statement<'a> {
    /// What it is.
    pub kind: Kind,
    /// What it may do.
    pub effect: Effect,
    /// Its bytes, from behind the `;` before it to the `;` after it, which is no part of it.
    pub text: &'a [u8],
    /// Where they are in the whole text.
    pub span: Range<usize>,
    /// How many tokens it has; of what [`Statements::quick`] gives, those that were read.
    pub tokens: usize,
    pub(crate) whole: &'a [u8],
    pub(crate) head: [Lexeme; HEAD],
    pub(crate) flags: u32,
}

impl<'a> Statement<'a> {
    /// One of its first [`HEAD`] tokens.
    pub fn lexeme(&self, index: usize) -> Option<Lexeme> {
        (index < self.tokens).then(|| self.head.get(index).copied()).flatten()
    }

    /// The bytes of one of its first tokens; none when there is no such token.
    pub fn part(&self, index: usize) -> &'a [u8] {
        self.lexeme(index).map_or(&[], |lexeme| lexeme.of(self.whole))
    }

    /// Whether one of its first tokens is this keyword, in any case.
    pub fn is_word(&self, index: usize, word: &str) -> bool {
        self.lexeme(index).is_some_and(|lexeme| lexeme.token == Token::Word)
            && self.part(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// The database that it makes the session's: its name in a `USE`, as in the text.
    pub fn used_database(&self) -> Option<&'a [u8]> {
        (self.kind == Kind::Use && self.lexeme(1)?.is_name()).then(|| self.part(1))
    }

    /// Whether it assigns to the user's variables other than by `SET`: `SELECT ... INTO @a`, `@a := 1`.
    pub const fn assigns(&self) -> bool {
        self.flags & (flag::INTO_VARIABLE | flag::ASSIGNS) != 0
    }

    /// Whether `SELECT ... INTO @a` is all that it assigns by.
    pub const fn assigns_once(&self) -> bool {
        self.flags & (flag::INTO_VARIABLE | flag::ASSIGNS) == flag::INTO_VARIABLE
    }

    /// The text that a `PREPARE` or an `EXECUTE IMMEDIATE` holds as a single string; `None` when it is made from something else.
    pub fn prepared_text(&self, mode: Mode) -> Option<Vec<u8>> {
        let at = match self.kind {
            Kind::Prepare if self.is_word(2, "FROM") => 3,
            Kind::Execute if self.is_word(1, "IMMEDIATE") => 2,
            _ => return None,
        };
        let ends = self.tokens == at + 1 || self.is_word(at + 1, "USING");
        (ends && self.lexeme(at)?.token == Token::Text).then(|| unquoted(self.part(at), mode))
    }

    /// The name of the prepared statement that it makes, runs or removes: for `PREPARE`, `EXECUTE`, `DEALLOCATE`. In lower case.
    pub fn prepared_name(&self) -> Option<Vec<u8>> {
        let at = match self.kind {
            Kind::Prepare => 1,
            Kind::Execute if self.is_word(1, "IMMEDIATE") => return None,
            Kind::Execute => 1,
            Kind::Deallocate => 2,
            _ => return None,
        };
        self.lexeme(at)?.is_name().then(|| name(self.part(at)).to_ascii_lowercase())
    }

    /// Whether it is `CREATE TEMPORARY TABLE`.
    pub fn makes_temporary_table(&self) -> bool {
        self.kind == Kind::Ddl
            && self.is_word(0, "CREATE")
            && (self.is_word(1, "TEMPORARY") || self.is_word(1, "OR") && self.is_word(3, "TEMPORARY"))
    }
}

/// The statements of a text. Empty ones are left out.
#[derive(Debug)]
pub struct Statements<'a, W = Unwatched> {
    text: &'a [u8],
    mode: Mode,
    lexer: Lexer<'a>,
    watch: W,
}

impl<'a> Statements<'a> {
    /// Reads a text.
    pub const fn of(text: &'a [u8], mode: Mode) -> Self {
        Self { text, mode, lexer: Lexer::new(text, mode), watch: Unwatched }
    }

    /// What the first statement of a text is, from its first tokens: not what it may do.
    pub fn quick(text: &'a [u8], mode: Mode) -> Option<Kind> {
        let mut seen = Seen::default();
        let mut lexer = Lexer::new(text, mode);
        for lexeme in lexer.by_ref() {
            if lexeme.token == Token::Mark(b';') {
                if seen.tokens > 0 {
                    break;
                }
                continue;
            }
            if seen.quick(lexeme, text) {
                break;
            }
        }
        (seen.tokens > 0).then(|| verdict::kind(&seen, text))
    }
}

impl<'a, W: Watch> Statements<'a, W> {
    /// Reads a text, and tells `watch` what is in it.
    pub const fn watched(text: &'a [u8], mode: Mode, watch: W) -> Self {
        Self { text, mode, lexer: Lexer::new(text, mode), watch }
    }

    /// What was told.
    pub const fn watch(&mut self) -> &mut W {
        &mut self.watch
    }

    /// Whether the text read so far can be read in one way only. When not, what follows it may be in it too.
    pub const fn doubt(&self) -> Doubt {
        self.lexer.doubt()
    }

    /// What calling a function may do.
    fn call(&mut self, database: Option<&[u8]>, name: &[u8]) -> Effect {
        self.watch.call(name);
        let known = match (database, bare_name(name)) {
            (None, Some(bare)) => functions::effect(bare, self.mode.server),
            _ => None,
        };
        known.unwrap_or_else(|| self.watch.unknown_function(database, name))
    }
}

impl<'a, W: Watch> Iterator for Statements<'a, W> {
    type Item = Statement<'a>;

    fn next(&mut self) -> Option<Statement<'a>> {
        let mut start = self.lexer.at();
        let mut seen = Seen::default();
        let mut end = self.text.len();
        // The last three tokens: `database . name (`.
        let mut last: [Option<Lexeme>; 3] = [None; 3];
        while let Some(lexeme) = self.lexer.next() {
            if lexeme.token == Token::Mark(b';') {
                if seen.tokens == 0 {
                    start = lexeme.end;
                    self.lexer.leave_comment();
                    continue;
                }
                if !seen.goes_on(self.text) {
                    end = lexeme.start;
                    self.lexer.leave_comment();
                    break;
                }
            }
            let was = last[2];
            if lexeme.token == Token::Mark(b'(')
                && let Some(name) = was.filter(Lexeme::is_name)
                && seen.may_call()
                && !is_clause(name, last[1], self.text)
            {
                let dotted = last[1].is_some_and(|lexeme| lexeme.token == Token::Mark(b'.'));
                let database =
                    last[0].filter(|lexeme| dotted && lexeme.is_name()).map(|lexeme| lexeme.of(self.text));
                let effect = self.call(database, name.of(self.text));
                seen.calls = seen.calls.max(effect);
            } else if lexeme.token == Token::Mark(b'.')
                && let Some(name) = was.filter(Lexeme::is_name)
                && !last[1].is_some_and(|lexeme| lexeme.token == Token::Mark(b'.'))
            {
                self.watch.qualifier(name.of(self.text));
            }
            let word = match lexeme.token {
                Token::Word => Word::of(lexeme.of(self.text)),
                _ => Word::No,
            };
            seen.add(lexeme, word, self.text);
            last = [last[1], last[2], Some(lexeme)];
        }
        if seen.tokens == 0 {
            return None;
        }
        let kind = verdict::kind(&seen, self.text);
        let mut effect = verdict::effect(kind, &seen, self.text);
        let unfinished = end == self.text.len() && self.mode.extent == Extent::Beginning;
        if effect.is_harmless() && (unfinished || self.lexer.doubt() == Doubt::Some) {
            effect = Effect::Unsure;
        }
        Some(Statement {
            kind,
            effect,
            text: &self.text[start..end],
            span: start..end,
            tokens: seen.tokens,
            whole: self.text,
            head: seen.head,
            flags: seen.flags,
        })
    }
}

/// Whether a name before a parenthesis is none, by what stands before it: `MATCH (a) AGAINST (b)`, `a MEMBER OF (b)`,
/// `JSON_TABLE(a, '$' COLUMNS (b))`.
fn is_clause(name: Lexeme, before: Option<Lexeme>, text: &[u8]) -> bool {
    let Some(before) = before.filter(|_| name.token == Token::Word) else { return false };
    let (name, word) = (name.of(text), before.of(text));
    match before.token {
        Token::Mark(b')') => name.eq_ignore_ascii_case(b"AGAINST"),
        Token::Text => name.eq_ignore_ascii_case(b"COLUMNS"),
        Token::Word => name.eq_ignore_ascii_case(b"OF") && word.eq_ignore_ascii_case(b"MEMBER"),
        _ => false,
    }
}

/// How many statements a text prepares in SQL: a server takes an id for each from those that it gives to prepared statements.
pub fn prepared_in_sql(text: &[u8], mode: Mode) -> u32 {
    if !text.contains(&b';')
        && !Statements::quick(text, mode).is_some_and(|kind| matches!(kind, Kind::Prepare | Kind::Execute))
    {
        return 0;
    }
    let prepares = |statement: &Statement<'_>| {
        statement.kind == Kind::Prepare
            || statement.kind == Kind::Execute && statement.is_word(1, "IMMEDIATE")
    };
    Statements::of(text, mode).filter(prepares).fold(0, |sum, _| sum + 1)
}
