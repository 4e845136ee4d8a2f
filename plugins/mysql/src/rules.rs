//! What is kept and what is dropped.
//!
//! Owns the verdict on each statement and command, and the options it comes from. What a text is, is read in [`crate::sql`]; what
//! becomes of a session whose user is dropped is left to the session.

mod glob;
mod options;
mod rule;

use crate::sql::{Doubt, Effect, Kind, Mode, Statement, Statements, Watch, name};
use glob::Case;
use options::{Globs, Options};
use plugin_sdk::{PluginOption, Settings};
use std::collections::HashMap;

pub use rule::Rule;

/// Most statements prepared in SQL whose fate a session keeps.
const MAX_NAMED: usize = 1024;

/// What is done with a statement or a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is sent.
    Keep,
    /// It is not.
    Drop(Rule),
    /// Of a text with several statements some are not sent; this is the rest.
    Part {
        /// What is sent in place of the text.
        text: Vec<u8>,
        /// Why each of the others is not.
        dropped: Vec<Rule>,
    },
}

/// The statements that a session has prepared in SQL, by name: whether their `PREPARE` was sent.
#[derive(Clone, Debug, Default)]
pub struct Named(HashMap<Vec<u8>, Result<(), Rule>>);

impl Named {
    /// They are all gone: the session was reset, or the user changed.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// The rules.
#[derive(Debug)]
pub struct Rules {
    options: Options,
    /// There are none but those for dangerous statements.
    plain: bool,
}

/// What the rules want to know of a text.
struct Watched<'a> {
    rules: &'a Options,
    dropped_function: bool,
    dropped_database: bool,
    kept_database: bool,
}

impl Watch for Watched<'_> {
    fn unknown_function(&mut self, database: Option<&[u8]>, function: &[u8]) -> Effect {
        let mut full = database.map(|database| [&*name(database), b"."].concat()).unwrap_or_default();
        full.extend_from_slice(&name(function));
        if self.rules.harmless_functions.any(&full, Case::Ignored) { Effect::Reads } else { Effect::Unsure }
    }

    fn call(&mut self, function: &[u8]) {
        let globs = &self.rules.drop_functions;
        self.dropped_function |= !globs.is_empty() && globs.any(&name(function), Case::Ignored);
    }

    fn qualifier(&mut self, qualifier: &[u8]) {
        let is = |globs: &Globs| !globs.is_empty() && globs.any(&name(qualifier), Case::Matters);
        self.dropped_database |= is(&self.rules.drop_databases);
        self.kept_database |= is(&self.rules.keep_databases);
    }
}

/// The options that rules come from.
pub fn options() -> Vec<PluginOption> {
    options::list()
}

/// What is done with a text while the target is in another database than the online server: only what chooses one, or depends on
/// none, is sent.
pub fn while_astray(text: &[u8], mode: Mode) -> Choice {
    let mut statements = Statements::of(text, mode);
    let goes = |kind: Kind| kind.concerns_session() && !is_preparing(kind);
    match statements.next() {
        Some(statement) if statement.kind == Kind::Use => Choice::Keep,
        Some(statement) if !goes(statement.kind) || !statements.all(|statement| goes(statement.kind)) => {
            Choice::Drop(Rule::Astray)
        }
        _ => Choice::Keep,
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Rules {
    /// What the settings say.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn from_settings(settings: &Settings) -> Result<Self, String> {
        Ok(Self::new(Options::read(settings)?))
    }

    fn new(options: Options) -> Self {
        let plain = !options.read_only
            && options.keep_databases.is_empty()
            && options.drop_databases.is_empty()
            && options.keep_statements.is_empty()
            && options.drop_statements.is_empty()
            && options.keep_matching.is_empty()
            && options.drop_matching.is_empty()
            && options.drop_functions.is_empty();
        Self { options, plain }
    }

    /// How a new session's texts are read, as far as the options say.
    pub const fn initial_mode(&self) -> Mode {
        self.options.initial
    }

    /// Whether a user's sessions are replayed. Of [`Choice::Drop`], the whole session is meant; the other methods do not look at the
    /// user again. Never a part.
    pub fn login(&self, user: &[u8]) -> Choice {
        let options = &self.options;
        if options.drop_users.any(user, Case::Matters) {
            Choice::Drop(Rule::DroppedUser)
        } else if !options.keep_users.is_empty() && !options.keep_users.any(user, Case::Matters) {
            Choice::Drop(Rule::NoKeptUser)
        } else {
            Choice::Keep
        }
    }

    /// What is done with a text that comes as a query or is to be prepared, in a session that is in this database of the online
    /// server.
    pub fn statement(&self, database: Option<&[u8]>, text: &[u8], mode: Mode, named: &mut Named) -> Choice {
        if self.plain && !text.contains(&b';') {
            // Nothing but the kind matters, which the beginning shows.
            let kind = Statements::quick(text, mode);
            if kind.is_none_or(|kind| !kind.is_dangerous() && !matches!(kind, Kind::Prepare | Kind::Execute))
            {
                return Choice::Keep;
            }
        }
        let watched = Watched {
            rules: &self.options,
            dropped_function: false,
            dropped_database: false,
            kept_database: false,
        };
        let mut statements = Statements::watched(text, mode, watched);
        let mut kept = Vec::new();
        let mut dropped = Vec::new();
        while let Some(statement) = statements.next() {
            match self.judge(database, &statement, statements.watch(), mode, named) {
                Ok(()) => kept.push(statement.span),
                Err(rule) => dropped.push(rule),
            }
        }
        if dropped.is_empty() {
            return Choice::Keep;
        }
        if kept.is_empty() {
            return Choice::Drop(dropped.swap_remove(0));
        }
        // A comment that the server runs may reach over several statements.
        let runs_comments = text.windows(3).any(|part| part == b"/*!" || part == b"/*M");
        if runs_comments || statements.doubt() == Doubt::Some {
            return Choice::Drop(Rule::Inseparable);
        }
        let parts: Vec<&[u8]> = kept.into_iter().map(|span| &text[span]).collect();
        Choice::Part { text: parts.join(&b';'), dropped }
    }

    fn judge(
        &self,
        database: Option<&[u8]>,
        statement: &Statement<'_>,
        watched: &mut Watched<'_>,
        mode: Mode,
        named: &mut Named,
    ) -> Result<(), Rule> {
        let calls_dropped = std::mem::take(&mut watched.dropped_function);
        let names_dropped = std::mem::take(&mut watched.dropped_database);
        let names_kept = std::mem::take(&mut watched.kept_database);
        let kind = statement.kind;
        let mut effect = statement.effect;
        if matches!(kind, Kind::Prepare | Kind::Execute | Kind::Deallocate) {
            effect = self.prepared(database, statement, mode, named)?;
        }
        if calls_dropped {
            return Err(Rule::DroppedFunction);
        }
        let is_in = |globs: &Globs| database.is_some_and(|database| globs.any(database, Case::Matters));
        let options = &self.options;
        if !kind.concerns_session() {
            if names_dropped || is_in(&options.drop_databases) {
                return Err(Rule::DroppedDatabase);
            }
            if !options.keep_databases.is_empty() && !names_kept && !is_in(&options.keep_databases) {
                return Err(Rule::NoKeptDatabase);
            }
        }
        self.kind(kind, effect)?;
        if options.keep_matching.is_empty() && options.drop_matching.is_empty() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(statement.text.trim_ascii());
        if let Some(index) = options.drop_matching.iter().position(|regex| regex.is_match(&text)) {
            return Err(Rule::DroppedText(index + 1));
        }
        let is_kept = options.keep_matching.is_empty()
            || kind.concerns_session()
            || options.keep_matching.iter().any(|regex| regex.is_match(&text));
        if is_kept { Ok(()) } else { Err(Rule::NoKeptText) }
    }

    /// The rules that go by kind and effect alone.
    fn kind(&self, kind: Kind, effect: Effect) -> Result<(), Rule> {
        let options = &self.options;
        if options.drop_statements.iter().any(|selector| selector.selects(kind, effect)) {
            return Err(Rule::DroppedStatement(kind));
        }
        let is_kept = options.keep_statements.is_empty()
            || kind.concerns_session() && effect.is_harmless()
            || options.keep_statements.iter().any(|selector| selector.selects(kind, effect));
        if !is_kept {
            return Err(Rule::NoKeptStatement(kind));
        }
        if options.read_only && !effect.is_harmless() {
            return Err(Rule::ReadOnly(kind, effect));
        }
        if kind.is_dangerous() && !options.allow_dangerous.contains(&kind) {
            return Err(Rule::Dangerous(kind));
        }
        Ok(())
    }

    /// The effect of a statement about statements prepared in SQL, which depends on the text that was prepared.
    fn prepared(
        &self,
        database: Option<&[u8]>,
        statement: &Statement<'_>,
        mode: Mode,
        named: &mut Named,
    ) -> Result<Effect, Rule> {
        let name = statement.prepared_name();
        let fate = |named: &Named| name.as_ref().and_then(|name| named.0.get(name)).cloned();
        match statement.kind {
            Kind::Deallocate => {
                let fate = name.as_ref().and_then(|name| named.0.remove(name));
                if matches!(fate, Some(Err(_))) { Err(Rule::Prepared) } else { Ok(Effect::Session) }
            }
            Kind::Execute if name.is_some() => match fate(named) {
                Some(Ok(())) => Ok(Effect::Session),
                Some(Err(_)) => Err(Rule::Prepared),
                // From before the capture, say.
                None => Ok(Effect::Unsure),
            },
            _ => {
                let judged = match statement.prepared_text(mode) {
                    // The servers prepare no PREPARE, so that this does not go deeper.
                    Some(text) if Statements::quick(&text, mode).is_some_and(is_preparing) => {
                        Ok(Effect::Unsure)
                    }
                    Some(text) => match self.statement(database, &text, mode, &mut Named::default()) {
                        Choice::Keep => Ok(Effect::Session),
                        Choice::Drop(rule) => Err(rule),
                        Choice::Part { .. } => Err(Rule::Inseparable),
                    },
                    None => Ok(Effect::Unsure),
                };
                let judged = judged.and_then(|effect| self.kind(statement.kind, effect).map(|()| effect));
                if let Some(name) = name {
                    if named.0.len() >= MAX_NAMED {
                        named.0.clear();
                    }
                    named.0.insert(name, judged.clone().map(|_| ()));
                }
                judged
            }
        }
    }

    /// What is done with a command that has no text, by its number.
    pub fn command(&self, database: Option<&[u8]>, code: u8) -> Choice {
        let Some((kind, effect)) = command(code) else { return Choice::Keep };
        let options = &self.options;
        let is_in = |globs: &Globs| database.is_some_and(|database| globs.any(database, Case::Matters));
        let judged = if kind.concerns_session() || kind == Kind::Show {
            self.kind(kind, effect)
        } else if is_in(&options.drop_databases) {
            Err(Rule::DroppedDatabase)
        } else if !options.keep_databases.is_empty() && !is_in(&options.keep_databases) {
            Err(Rule::NoKeptDatabase)
        } else {
            self.kind(kind, effect)
        };
        judged.map_or_else(Choice::Drop, |()| Choice::Keep)
    }
}

const fn is_preparing(kind: Kind) -> bool {
    matches!(kind, Kind::Prepare | Kind::Execute | Kind::Deallocate)
}

/// What a command without a text is; `None` for those that concern the connection or a prepared statement, and follow that.
fn command(code: u8) -> Option<(Kind, Effect)> {
    Some(match code {
        // COM_INIT_DB
        0x02 => (Kind::Use, Effect::Session),
        // COM_FIELD_LIST, COM_STATISTICS, COM_PROCESS_INFO
        0x04 | 0x09 | 0x0A => (Kind::Show, Effect::Reads),
        // COM_CREATE_DB, COM_DROP_DB
        0x05 | 0x06 => (Kind::Ddl, Effect::Writes),
        // COM_REFRESH
        0x07 => (Kind::Flush, Effect::Writes),
        // COM_SHUTDOWN, COM_CLONE
        0x08 | 0x20 => (Kind::Shutdown, Effect::Writes),
        // COM_PROCESS_KILL
        0x0C => (Kind::Kill, Effect::Writes),
        // COM_DEBUG
        0x0D => (Kind::Admin, Effect::Writes),
        // COM_BINLOG_DUMP, COM_TABLE_DUMP, COM_REGISTER_SLAVE, COM_BINLOG_DUMP_GTID
        0x12 | 0x13 | 0x15 | 0x1E => (Kind::Replication, Effect::Writes),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "rules/tests.rs"]
mod tests;
