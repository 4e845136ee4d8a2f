//! What a statement is and may do, from what was seen of it.
//!
//! Owns the rules of the two servers' grammars that matter here. A statement that no server takes has no effect, so that only
//! what can be valid has to be told apart.

use super::kind::{Effect, Kind};
use super::lex::{Lexeme, Token};
use super::statement::HEAD;
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
    words: [Word; HEAD],
    pub(crate) tokens: usize,
    pub(crate) flags: u32,
    pub(crate) calls: Effect,
    /// The first word outside parentheses that says what a statement is, behind `WITH`, `EXPLAIN` and the like.
    main: Word,
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
    fn is(&self, index: usize, text: &[u8], word: &str) -> bool {
        index < self.tokens.min(HEAD)
            && self.head[index].token == Token::Word
            && self.head[index].of(text).eq_ignore_ascii_case(word.as_bytes())
    }

    fn is_one_of(&self, index: usize, text: &[u8], words: &[&str]) -> bool {
        words.iter().any(|word| self.is(index, text, word))
    }
}

/// What a statement is.
pub(crate) fn kind(seen: &Seen, text: &[u8]) -> Kind {
    let is_account = || {
        let at = if seen.is(1, text, "OR") && seen.words[2] == Word::Replace { 3 } else { 1 };
        matches!(seen.words[at], Word::User | Word::Role)
    };
    match seen.words[0] {
        Word::Select | Word::Values | Word::Table => Kind::Select,
        Word::With => of_main(seen.main).unwrap_or(Kind::Select),
        Word::Insert => Kind::Insert,
        Word::Update => Kind::Update,
        Word::Delete => Kind::Delete,
        Word::Replace => Kind::Replace,
        Word::Call => Kind::Call,
        Word::Load if seen.is_one_of(1, text, &["DATA", "XML"]) => Kind::LoadData,
        Word::Import => Kind::LoadData,
        Word::Drop if seen.words[1] == Word::Prepare => Kind::Deallocate,
        Word::Alter if seen.is(1, text, "INSTANCE") => Kind::Admin,
        Word::Create | Word::Alter | Word::Drop | Word::Rename if is_account() => Kind::Grant,
        Word::Create | Word::Alter | Word::Drop | Word::Rename | Word::Truncate => Kind::Ddl,
        Word::Use => Kind::Use,
        Word::Set if seen.is_one_of(1, text, &["PASSWORD", "DEFAULT"]) => Kind::Grant,
        Word::Set if seen.is(1, text, "RESOURCE") => Kind::Admin,
        Word::Set if seen.is(1, text, "STATEMENT") => of_main(seen.main).unwrap_or(Kind::Other),
        Word::Set => Kind::Set,
        Word::Begin if seen.tokens == 1 || seen.tokens == 2 && seen.is(1, text, "WORK") => Kind::Begin,
        Word::Start if seen.is(1, text, "TRANSACTION") => Kind::Begin,
        Word::Commit => Kind::Commit,
        Word::Rollback if (1..4).any(|index| seen.is(index, text, "TO")) => Kind::Savepoint,
        Word::Rollback => Kind::Rollback,
        Word::Savepoint | Word::Release => Kind::Savepoint,
        Word::Xa => Kind::Xa,
        Word::Lock => Kind::Lock,
        Word::Unlock => Kind::Unlock,
        Word::Show => Kind::Show,
        Word::Analyze if !seen.is_one_of(1, text, &["TABLE", "TABLES", "LOCAL", "NO_WRITE_TO_BINLOG"]) => {
            Kind::Explain
        }
        Word::Explain | Word::Describe | Word::Desc | Word::Help => Kind::Explain,
        Word::Prepare => Kind::Prepare,
        Word::Execute => Kind::Execute,
        Word::Deallocate => Kind::Deallocate,
        Word::Do => Kind::Do,
        Word::Handler => Kind::Handler,
        Word::Get | Word::Signal | Word::Resignal => Kind::Diagnostics,
        Word::Analyze
        | Word::Optimize
        | Word::Repair
        | Word::Check
        | Word::Checksum
        | Word::Cache
        | Word::Install
        | Word::Uninstall
        | Word::Backup
        | Word::Load => Kind::Admin,
        Word::Reset if seen.is_one_of(1, text, &["MASTER", "SLAVE", "REPLICA", "BINARY"]) => {
            Kind::Replication
        }
        Word::Flush | Word::Reset => Kind::Flush,
        Word::Grant | Word::Revoke => Kind::Grant,
        Word::Kill => Kind::Kill,
        Word::Shutdown | Word::Restart | Word::Clone => Kind::Shutdown,
        Word::Start | Word::Stop | Word::Change | Word::Purge | Word::Binlog => Kind::Replication,
        Word::Begin
        | Word::If
        | Word::While
        | Word::Loop
        | Word::Repeat
        | Word::Case
        | Word::Declare
        | Word::For => Kind::Compound,
        _ => match seen.head[0].token {
            Token::Mark(b'(') => {
                let first = seen.head[..seen.tokens.min(HEAD)]
                    .iter()
                    .position(|lexeme| lexeme.token != Token::Mark(b'('));
                match first.map(|index| seen.words[index]) {
                    Some(Word::Select | Word::Values | Word::Table | Word::With) => Kind::Select,
                    _ => Kind::Other,
                }
            }
            Token::Word | Token::Quoted if seen.tokens > 1 && seen.head[1].token == Token::Mark(b':') => {
                Kind::Compound
            }
            _ => Kind::Other,
        },
    }
}

fn of_main(main: Word) -> Option<Kind> {
    Some(match main {
        Word::Select | Word::Values | Word::Table => Kind::Select,
        Word::Insert => Kind::Insert,
        Word::Update => Kind::Update,
        Word::Delete => Kind::Delete,
        Word::Replace => Kind::Replace,
        Word::Call => Kind::Call,
        Word::Do => Kind::Do,
        _ => return None,
    })
}

/// What a query, or an expression with queries in it, may do.
fn of_query(seen: &Seen) -> Effect {
    let has = |flags: u32| seen.flags & flags != 0;
    let own = if has(flag::INTO_FILE | flag::SEQUENCE) {
        Effect::Writes
    } else if has(flag::NO_QUERY | flag::INTO_OTHER) {
        Effect::Unsure
    } else if has(flag::LOCKS) {
        Effect::Locks
    } else if has(flag::INTO_VARIABLE | flag::ASSIGNS) {
        Effect::Session
    } else {
        Effect::Reads
    };
    own.max(seen.calls)
}

/// What a statement of this kind may do.
pub(crate) fn effect(kind: Kind, seen: &Seen, text: &[u8]) -> Effect {
    match kind {
        Kind::Select | Kind::Do => of_query(seen),
        Kind::Explain => {
            let runs = seen.words[0] == Word::Analyze || seen.words[1..].contains(&Word::Analyze);
            match of_main(seen.main) {
                // What it explains is run, but for the answer.
                Some(Kind::Select) | None if runs => of_query(seen),
                Some(_) if runs => Effect::Writes,
                // Functions of constants may be called to find a plan.
                _ if seen.flags & flag::INTO_VARIABLE != 0 => Effect::Session.max(seen.calls),
                _ => seen.calls,
            }
        }
        Kind::Set if seen.flags & flag::GLOBAL != 0 => Effect::Writes,
        Kind::Set => Effect::Session.max(of_query(seen)),
        Kind::Show => seen.calls,
        Kind::Use
        | Kind::Begin
        | Kind::Commit
        | Kind::Rollback
        | Kind::Savepoint
        | Kind::Unlock
        | Kind::Deallocate
        | Kind::Diagnostics => Effect::Session,
        Kind::Lock | Kind::Handler => Effect::Locks,
        Kind::Admin if seen.words[0] == Word::Checksum => Effect::Reads,
        Kind::Xa if seen.is(1, text, "RECOVER") => Effect::Reads,
        Kind::Prepare | Kind::Execute | Kind::Compound | Kind::Other => Effect::Unsure,
        Kind::Insert
        | Kind::Update
        | Kind::Delete
        | Kind::Replace
        | Kind::Call
        | Kind::LoadData
        | Kind::Ddl
        | Kind::Xa
        | Kind::Admin
        | Kind::Flush
        | Kind::Grant
        | Kind::Kill
        | Kind::Shutdown
        | Kind::Replication => Effect::Writes,
    }
}
