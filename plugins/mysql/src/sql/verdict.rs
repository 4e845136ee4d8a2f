//! What a statement is and may do, from what was seen of it.
//!
//! Owns the rules of the two servers' grammars that matter here. A statement that no server takes has no effect, so that only
//! what can be valid has to be told apart.

use super::kind::{Effect, Kind};
use super::lex::Token;
use super::seen::{Seen, flag};
use super::statement::HEAD;
use super::word::Word;

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
