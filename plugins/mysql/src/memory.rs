//! What a session has made of its connection, to make it again on another one.
//!
//! Owns the database, the settings and variables, the statements prepared in SQL, and what is known to be lost with a connection;
//! and with these the [`Mode`] in which the session's texts are read. Statements are remembered as the client sent them: what
//! [`crate::rewrite`] makes of them is made again when they are sent again.

mod assigned;
mod lost;

use crate::sql::{
    Backslashes, Charset, DoubleQuotes, Effect, Extent, Kind, Mode, Server, Statement, Statements, Token,
    name,
};
use assigned::{Assigned, Key, Says, Scope};

pub use lost::Lost;

/// Flags of the status that servers send with most answers.
pub mod status {
    /// A transaction is open.
    pub const IN_TRANSACTION: u16 = 1;
    /// Backslashes in strings are no escapes.
    pub const NO_BACKSLASH_ESCAPES: u16 = 0x200;
}

/// Most statements that are remembered.
pub const MAX_STATEMENTS: usize = 256;
/// Most bytes of them.
pub const MAX_BYTES: usize = 64 * 1024;
/// Most temporary tables whose names are remembered.
const MAX_TABLES: usize = 256;

/// Who refused something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The target, and the online server too.
    ByBoth,
    /// The target, and the online server did not, or was not heard.
    ByTarget,
}

/// What has to be taken back when the target refuses what [`Memory::ran`] or [`Memory::set_database`] was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo {
    database: Option<Option<Box<[u8]>>>,
    /// Numbers of the statements remembered.
    remembered: std::ops::Range<u64>,
}

impl Undo {
    /// Whether the session's database is among it: until that is settled, it is not known where a statement would run.
    pub const fn is_about_database(&self) -> bool {
        self.database.is_some()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Same,
    Astray,
}

/// Where it is known from what a backslash is. Statements are read ahead of the target's answers, so that what a `SET` among them
/// says is newer than a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum KnownBy {
    #[default]
    Status,
    Text,
}

#[derive(Debug)]
struct Remembered {
    number: u64,
    text: Box<[u8]>,
    keys: Vec<Key>,
    /// It depends on what the statements before it set.
    reads: bool,
}

/// What a session has made of its connection.
#[derive(Debug, Default)]
pub struct Memory {
    /// How a new session's texts are read.
    initial: Mode,
    mode: Mode,
    backslashes: KnownBy,
    login_charset: Charset,
    database: Option<Box<[u8]>>,
    place: Place,
    remembered: Vec<Remembered>,
    bytes: usize,
    next: u64,
    temporary: Vec<Vec<u8>>,
    status: u16,
    lost: Lost,
}

impl Memory {
    /// For a new session: `initial` is how the servers read texts unless told otherwise.
    pub fn new(initial: Mode) -> Self {
        Self { initial, mode: initial, ..Self::default() }
    }

    /// How the session's next text is read.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The target's version is known, from its greeting.
    pub const fn set_server(&mut self, server: Server) {
        self.initial.server = server;
        self.mode.server = server;
    }

    /// The client logs in with this collation.
    pub const fn set_collation(&mut self, id: u16) {
        self.login_charset = Charset::of_collation(id);
        self.mode.charset = self.login_charset;
    }

    /// The database that the session is in, as the online server calls it.
    pub fn database(&self) -> Option<&[u8]> {
        self.database.as_deref()
    }

    /// Whether the target is in another database than the online server, for it refused the one that the client chose: what is sent
    /// now would run on the wrong tables. Ends when a database is chosen.
    pub fn is_astray(&self) -> bool {
        self.place == Place::Astray
    }

    /// The client chooses a database: by logging in, `COM_INIT_DB`, or `USE`. An empty name is none.
    pub fn set_database(&mut self, name: &[u8]) -> Option<Undo> {
        let was_astray = std::mem::take(&mut self.place) == Place::Astray;
        if !was_astray && self.database.as_deref().unwrap_or_default() == name {
            return None;
        }
        let before = self.database.take();
        self.database = (!name.is_empty()).then(|| name.into());
        Some(Undo { database: Some(before), remembered: self.next..self.next })
    }

    /// A prepared statement of this text, with so many parameters, is executed. As [`Memory::ran`]; what is set from parameters can't
    /// be set again.
    pub fn executed(&mut self, text: &[u8], parameters: u16) -> Option<Undo> {
        if parameters == 0 {
            return self.ran(text, Extent::Whole);
        }
        if Statements::quick(text, self.mode) == Some(Kind::Set) {
            self.forget_one();
        }
        None
    }

    const fn forget_one(&mut self) {
        self.lost.settings = self.lost.settings.saturating_add(1);
    }

    /// A text, or its beginning, goes to the target. What is to be taken back if it answers with an error; `None`, for most texts:
    /// nothing.
    pub fn ran(&mut self, text: &[u8], extent: Extent) -> Option<Undo> {
        let mode = Mode { extent, ..self.mode };
        if extent == Extent::Beginning {
            // Nothing short is as long as this. What it sets, if anything, is too long to be remembered.
            if Statements::quick(text, mode) == Some(Kind::Set) {
                self.forget_one();
            }
            return None;
        }
        if !text.contains(&b';') {
            // Most texts change nothing here, which their beginning shows.
            let kind = Statements::quick(text, mode)?;
            let matters = matches!(
                kind,
                Kind::Set
                    | Kind::Use
                    | Kind::Prepare
                    | Kind::Deallocate
                    | Kind::Lock
                    | Kind::Unlock
                    | Kind::Begin
                    | Kind::Ddl
            );
            if !matters {
                let asks = matches!(kind, Kind::Select | Kind::Do);
                if asks && calls_get_lock(text) {
                    self.lost.user_locks = 1;
                }
                if !asks || !text.contains(&b'@') {
                    return None;
                }
            }
        }
        let from = self.next;
        let mut database = None;
        for statement in Statements::of(text, mode) {
            if let Some(undo) = self.statement(&statement)
                && database.is_none()
            {
                database = undo.database;
            }
        }
        (database.is_some() || self.next > from).then_some(Undo { database, remembered: from..self.next })
    }

    fn statement(&mut self, statement: &Statement<'_>) -> Option<Undo> {
        match statement.kind {
            Kind::Use => return self.set_database(&name(statement.used_database()?)),
            Kind::Set => self.set(statement),
            Kind::Prepare => {
                let reads = statement.lexeme(3).is_none_or(|lexeme| lexeme.token != Token::Text);
                self.remember(statement.text, vec![Key::prepared(statement.part(1))], reads);
            }
            Kind::Deallocate => {
                let key = Key::prepared(statement.part(2));
                self.forget(|remembered| remembered.keys == [key.clone()]);
            }
            Kind::Lock => self.lost.table_locks = 1,
            // Both end LOCK TABLES.
            Kind::Unlock | Kind::Begin => self.lost.table_locks = 0,
            Kind::Ddl => self.definition(statement),
            Kind::Select | Kind::Do => self.query(statement),
            _ => {}
        }
        None
    }

    fn set(&mut self, statement: &Statement<'_>) {
        let assigned = Assigned::of(statement, self.mode);
        for item in &assigned.items {
            if item.scope == Scope::Session {
                self.mode = item.applied(self.mode, self.initial, self.login_charset);
                match item.says_sql_mode() {
                    Some(Says::Plainly) => self.backslashes = KnownBy::Text,
                    Some(Says::ByOthers) => self.backslashes = KnownBy::Status,
                    None => {}
                }
            }
        }
        let lasts = assigned.items.iter().any(|item| item.lasts());
        if statement.effect == Effect::Writes && lasts {
            self.forget_one();
        } else if lasts {
            let reads = assigned.reads;
            self.remember(statement.text, assigned.items.into_iter().map(|item| item.key).collect(), reads);
        }
    }

    fn query(&mut self, statement: &Statement<'_>) {
        if calls_get_lock(statement.text) {
            self.lost.user_locks = 1;
        }
        if statement.assigns_once() && statement.effect == Effect::Session {
            self.remember(statement.text, assigned::into_variables(statement, self.mode), true);
        } else if statement.assigns() {
            self.forget_one();
        }
    }

    fn definition(&mut self, statement: &Statement<'_>) {
        let tables = |word: &str| (1..4).find(|&index| statement.is_word(index, word));
        let Some(at) = tables("TABLE").or_else(|| tables("TABLES")) else { return };
        let skip = if statement.is_word(at + 1, "IF") {
            if statement.is_word(at + 2, "NOT") { 3 } else { 2 }
        } else {
            0
        };
        let table = statement.part(at + 1 + skip);
        if statement.makes_temporary_table() {
            if self.temporary.len() < MAX_TABLES && !self.temporary.iter().any(|known| known == table) {
                self.temporary.push(table.to_vec());
            }
        } else if statement.is_word(0, "DROP") {
            self.temporary.retain(|known| known != table);
        }
    }

    fn remember(&mut self, text: &[u8], keys: Vec<Key>, reads: bool) {
        // What is overwritten need not be set again, unless something behind it was made from it.
        let mut last_reader = if reads { self.remembered.len() } else { 0 };
        if !reads {
            last_reader = self.remembered.iter().rposition(|other| other.reads).unwrap_or(0);
        }
        let mut index = 0;
        let mut freed = 0;
        self.remembered.retain(|other| {
            let overwritten = index >= last_reader && other.keys.iter().all(|key| keys.contains(key));
            index += 1;
            if overwritten {
                freed += other.text.len();
            }
            !overwritten
        });
        self.bytes -= freed;
        if self.remembered.len() >= MAX_STATEMENTS || self.bytes + text.len() > MAX_BYTES {
            self.forget_one();
            return;
        }
        self.bytes += text.len();
        self.remembered.push(Remembered { number: self.next, text: text.into(), keys, reads });
        self.next += 1;
    }

    fn forget(&mut self, which: impl Fn(&Remembered) -> bool) {
        self.remembered.retain(|remembered| !which(remembered));
        self.bytes = self.remembered.iter().map(|remembered| remembered.text.len()).sum();
    }

    /// The target answered with an error to what was told.
    pub fn failed(&mut self, undo: Undo, refused: Refused) {
        if !undo.remembered.is_empty() {
            self.backslashes = KnownBy::Status;
        }
        if let Some(database) = undo.database {
            self.database = database;
            if refused == Refused::ByTarget {
                self.place = Place::Astray;
            }
        }
        self.forget(|remembered| undo.remembered.contains(&remembered.number));
    }

    /// The target sent its status.
    pub fn status(&mut self, flags: u16) {
        self.status = flags;
        if self.backslashes == KnownBy::Text {
            return;
        }
        self.mode.backslashes =
            if flags & status::NO_BACKSLASH_ESCAPES == 0 { Backslashes::Escape } else { Backslashes::Plain };
    }

    /// Whether a transaction was open when the target answered last.
    pub const fn in_transaction(&self) -> bool {
        self.status & status::IN_TRANSACTION != 0
    }

    /// A server told the value of a variable, by session tracking.
    pub fn tracked(&mut self, variable: &[u8], value: &[u8]) {
        if variable.eq_ignore_ascii_case(b"character_set_client") {
            self.mode.charset = Charset::named(value);
        } else if variable.eq_ignore_ascii_case(b"sql_mode") {
            let has =
                |mode: &[u8]| value.split(|&byte| byte == b',').any(|part| part.eq_ignore_ascii_case(mode));
            self.mode.quotes = if has(b"ANSI_QUOTES") { DoubleQuotes::Name } else { DoubleQuotes::String };
        }
    }

    /// The client logs in anew on the connection: all is as after a login. What was open ends on both servers.
    pub fn changed_user(&mut self, database: &[u8], collation: Option<u16>) {
        if let Some(collation) = collation {
            self.set_collation(collation);
        }
        self.reset();
        self.place = Place::Same;
        self.database = (!database.is_empty()).then(|| database.into());
    }

    /// `COM_RESET_CONNECTION`: all is as after the login, but for the database.
    pub fn reset(&mut self) {
        let charset = self.login_charset;
        let database = self.database.take();
        *self = Self {
            login_charset: charset,
            database,
            place: self.place,
            next: self.next,
            ..Self::new(self.initial)
        };
        self.mode.charset = charset;
    }

    /// The connection to the target is gone, and this with it.
    pub fn connection_lost(&mut self) -> Lost {
        let mut lost = std::mem::take(&mut self.lost);
        lost.transactions = u32::from(self.in_transaction());
        lost.temporary_tables = u32::try_from(self.temporary.len()).unwrap_or(u32::MAX);
        self.temporary.clear();
        self.status &= !status::IN_TRANSACTION;
        lost
    }

    /// The statements to run on a new connection, in this order, once it is logged in and in [`Memory::database`]. Each is
    /// one statement. Some answer with an error, as they may have done before.
    pub fn restore(&self) -> Vec<Vec<u8>> {
        self.restore_before(std::iter::empty())
    }

    /// The same, where commands follow that are sent again: what they set is left to them. `again` is what is to be taken back of
    /// them, oldest first.
    pub fn restore_before<'a>(&self, again: impl Iterator<Item = &'a Undo>) -> Vec<Vec<u8>> {
        let again: Vec<_> = again.map(|undo| undo.remembered.clone()).collect();
        let before =
            self.remembered.iter().filter(|of| !again.iter().any(|range| range.contains(&of.number)));
        before.map(|remembered| remembered.text.to_vec()).collect()
    }

    /// The database that such commands have to find the connection in.
    pub fn database_before<'a>(&'a self, mut again: impl Iterator<Item = &'a Undo>) -> Option<&'a [u8]> {
        let before = again.find_map(|undo| undo.database.as_ref());
        before.map_or_else(|| self.database(), |before| before.as_deref())
    }
}

/// Whether a query asks for a lock: it holds longer than the query.
fn calls_get_lock(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'(') {
        let before = rest[..at].trim_ascii_end();
        if before.len() >= 8 && before[before.len() - 8..].eq_ignore_ascii_case(b"GET_LOCK") {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

#[cfg(test)]
#[path = "memory/tests.rs"]
mod tests;
