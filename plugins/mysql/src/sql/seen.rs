//! What is seen of a statement while its tokens pass.
//!
//! Owns taking note of them; what that makes of the statement is said in [`super::verdict`].

use super::kind::{Effect, Kind};
use super::lex::{Lexeme, Token};
use super::statement::HEAD;
use super::verdict::kind;
use super::word::Word;

/// What was seen of a statement.
pub(crate) mod flag {
    /// `FOR UPDATE`, `FOR SHARE`, `LOCK IN SHARE MODE`.
    pub(crate) const LOCKS: u32 = 1;
    /// `INTO OUTFILE`, `INTO DUMPFILE`.
    pub(crate) const INTO_FILE: u32 = 1 << 1;
    /// `INTO @a`.
    pub(crate) const INTO_VARIABLE: u32 = 1 << 2;
    /// `INTO` something else.
    pub(crate) const INTO_OTHER: u32 = 1 << 3;
    /// `:=`
    pub(crate) const ASSIGNS: u32 = 1 << 4;
    /// A reserved word that no query has.
    pub(crate) const NO_QUERY: u32 = 1 << 5;
    /// `NEXT VALUE FOR`, or what Oracle calls so.
    pub(crate) const SEQUENCE: u32 = 1 << 6;
    /// An item of a `SET` that is for all sessions.
    pub(crate) const GLOBAL: u32 = 1 << 7;
    /// It makes or changes a stored program.
    pub(crate) const PROGRAM: u32 = 1 << 8;
}

/// What was seen of a statement.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: [Lexeme; HEAD],
    pub(super) words: [Word; HEAD],
    pub(crate) tokens: usize,
    pub(crate) flags: u32,
    pub(crate) calls: Effect,
    /// The first word outside parentheses that says what a statement is, behind `WITH`, `EXPLAIN` and the like.
    pub(super) main: Word,
    depth: u32,
    /// The token before was this word, or this byte.
    last: Word,
    before_last: Word,
    last_mark: u8,
    /// An item of a `SET` begins.
    item: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            head: [Lexeme { token: Token::Mark(0), start: 0, end: 0 }; HEAD],
            words: [Word::No; HEAD],
            tokens: 0,
            flags: 0,
            calls: Effect::Reads,
            main: Word::No,
            depth: 0,
            last: Word::No,
            before_last: Word::No,
            last_mark: 0,
            item: false,
        }
    }
}

impl Seen {
    /// Whether a name before a parenthesis, the next token, may be a function's. What follows `AS` is an alias or, like the names
    /// behind `WITH`, a table with its columns.
    pub(crate) fn may_call(&self) -> bool {
        let explains = matches!(self.words[0], Word::Explain | Word::Describe | Word::Desc | Word::Analyze);
        let is_with = self.main == Word::No
            && self.depth == 0
            && (self.words[0] == Word::With || explains && self.words.contains(&Word::With));
        self.before_last != Word::As && !is_with
    }

    /// Whether a `;` is a part of the statement.
    pub(crate) fn goes_on(&self, text: &[u8]) -> bool {
        self.flags & flag::PROGRAM != 0 || kind(self, text) == Kind::Compound
    }

    /// Adds a token of which `word` is the keyword.
    #[inline]
    pub(crate) fn add(&mut self, lexeme: Lexeme, word: Word, text: &[u8]) {
        let index = self.tokens;
        if index < HEAD {
            self.head[index] = lexeme;
            self.words[index] = word;
        }
        self.tokens += 1;
        if self.item {
            self.begin_item(lexeme, word, text);
        }
        let mut mark = 0;
        match lexeme.token {
            Token::Mark(byte) => {
                mark = byte;
                self.mark(byte);
            }
            Token::Word | Token::Name
                if self.last_mark == b'.' && lexeme.of(text).eq_ignore_ascii_case(b"NEXTVAL") =>
            {
                self.flags |= flag::SEQUENCE;
            }
            Token::Word if word != Word::No => self.word(index, word),
            _ => {}
        }
        if self.last == Word::Into {
            self.flags |= match (lexeme.token, word) {
                (Token::Variable, _) => flag::INTO_VARIABLE,
                (_, Word::Outfile | Word::Dumpfile) => flag::INTO_FILE,
                _ => flag::INTO_OTHER,
            };
        }
        // Functions have these names too.
        if matches!(self.last, Word::Insert | Word::Replace) && index > 1 && mark != b'(' {
            self.flags |= flag::NO_QUERY;
        }
        self.before_last = self.last;
        self.last = word;
        self.last_mark = mark;
    }

    fn mark(&mut self, byte: u8) {
        match byte {
            b'(' => self.depth += 1,
            b')' => self.depth = self.depth.saturating_sub(1),
            b',' if self.depth == 0 && self.words[0] == Word::Set => self.item = true,
            b'=' if self.last_mark == b':' => self.flags |= flag::ASSIGNS,
            _ => {}
        }
    }

    fn word(&mut self, index: usize, word: Word) {
        if index == 0 {
            self.item = word == Word::Set;
            return;
        }
        match word {
            Word::Update | Word::Share if self.last == Word::For => self.flags |= flag::LOCKS,
            Word::Lock => self.flags |= flag::LOCKS,
            Word::For if self.last == Word::Value && self.before_last == Word::Next => {
                self.flags |= flag::SEQUENCE
            }
            Word::Update
            | Word::Delete
            | Word::Drop
            | Word::Alter
            | Word::Create
            | Word::Call
            | Word::Grant
            | Word::Revoke
            | Word::Load
            | Word::Rename
            | Word::Kill
            | Word::Purge => self.flags |= flag::NO_QUERY,
            Word::Procedure | Word::Function | Word::Trigger | Word::Event | Word::Package
                if self.depth == 0
                    && self.main == Word::No
                    && matches!(self.words[0], Word::Create | Word::Alter) =>
            {
                self.flags |= flag::PROGRAM;
            }
            _ => {}
        }
        let is_main = matches!(
            word,
            Word::Select
                | Word::Insert
                | Word::Update
                | Word::Delete
                | Word::Replace
                | Word::Table
                | Word::Values
                | Word::Call
                | Word::Do
        );
        if is_main && self.depth == 0 && self.main == Word::No {
            self.main = word;
        }
    }

    /// An item of a `SET` begins with this token.
    fn begin_item(&mut self, lexeme: Lexeme, word: Word, text: &[u8]) {
        let bytes = lexeme.of(text);
        // A scope is followed by the item proper.
        self.item = lexeme.token == Token::Word
            && (bytes.eq_ignore_ascii_case(b"SESSION") || bytes.eq_ignore_ascii_case(b"LOCAL"));
        if lexeme.token == Token::Variable {
            return;
        }
        let is_system = lexeme.token == Token::System;
        let name = if is_system { bytes.strip_prefix(b"@@").unwrap_or(bytes) } else { bytes };
        let bare = |part: &[u8]| -> Word {
            let part = part.strip_prefix(b"`").unwrap_or(part);
            Word::of(part.strip_suffix(b"`").unwrap_or(part))
        };
        let scope = bare(name.split(|&byte| byte == b'.').next().unwrap_or_default());
        let last = bare(name.rsplit(|&byte| byte == b'.').next().unwrap_or_default());
        if matches!(scope, Word::Global | Word::Persist | Word::PersistOnly) || word == Word::Password {
            self.flags |= flag::GLOBAL;
        }
        // An empty transaction with a number of its own is one more transaction.
        if last == Word::GtidNext {
            self.flags |= flag::NO_QUERY;
        }
    }

    /// Adds a token; whether the statement's kind is known by now.
    pub(crate) fn quick(&mut self, lexeme: Lexeme, text: &[u8]) -> bool {
        let word = if lexeme.token == Token::Word { Word::of(lexeme.of(text)) } else { Word::No };
        self.add(lexeme, word, text);
        match self.words[0] {
            Word::With => self.main != Word::No,
            Word::Set if self.is(1, text, "STATEMENT") => self.main != Word::No,
            Word::No
            | Word::Set
            | Word::Start
            | Word::Reset
            | Word::Create
            | Word::Drop
            | Word::Alter
            | Word::Rename
            | Word::Load
            | Word::Analyze
            | Word::Begin
            | Word::Rollback => self.tokens >= HEAD,
            _ => self.tokens >= HEAD || kind(self, text) != Kind::Other,
        }
    }

    /// Whether a token is this word.
    pub(super) fn is(&self, index: usize, text: &[u8], word: &str) -> bool {
        index < self.tokens.min(HEAD)
            && self.head[index].token == Token::Word
            && self.head[index].of(text).eq_ignore_ascii_case(word.as_bytes())
    }

    pub(super) fn is_one_of(&self, index: usize, text: &[u8], words: &[&str]) -> bool {
        words.iter().any(|word| self.is(index, text, word))
    }
}
