//! The options of what is kept and dropped, as users write them.

use super::glob::{Case, matches};
use crate::sql::{Backslashes, DoubleQuotes, Effect, Kind, Mode};
use plugin_sdk::{PluginOption, Settings};
use regex_lite::Regex;

/// Kinds of statements, as options name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selector {
    /// By what they are: `insert`.
    Kind(Kind),
    /// By what they may do: `@write`.
    Effect(Effect),
}

impl Selector {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(group) = text.strip_prefix('@') {
            let found = Effect::ALL.into_iter().find(|effect| effect.name().eq_ignore_ascii_case(group));
            return found.map(Self::Effect).ok_or_else(|| {
                let names = Effect::ALL.map(|effect| format!("@{}", effect.name()));
                format!("there is no group {text:?}; there are {}", names.join(", "))
            });
        }
        Kind::named(text).map(Self::Kind).ok_or_else(|| {
            let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            format!("there is no kind of statement {text:?}; there are {}", names.join(", "))
        })
    }

    /// Whether a statement is meant.
    pub(super) fn selects(self, kind: Kind, effect: Effect) -> bool {
        match self {
            Self::Kind(own) => own == kind,
            Self::Effect(own) => own == effect,
        }
    }
}

/// Patterns of names.
#[derive(Clone, Debug, Default)]
pub(super) struct Globs(Vec<Vec<u8>>);

impl Globs {
    fn of(texts: &[String]) -> Self {
        Self(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them matches.
    pub(super) fn any(&self, name: &[u8], case: Case) -> bool {
        self.0.iter().any(|pattern| matches(pattern, name, case))
    }
}

/// What the options say.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) read_only: bool,
    pub(super) keep_users: Globs,
    pub(super) drop_users: Globs,
    pub(super) keep_databases: Globs,
    pub(super) drop_databases: Globs,
    pub(super) keep_statements: Vec<Selector>,
    pub(super) drop_statements: Vec<Selector>,
    pub(super) keep_matching: Vec<Regex>,
    pub(super) drop_matching: Vec<Regex>,
    pub(super) drop_functions: Globs,
    pub(super) harmless_functions: Globs,
    pub(super) allow_dangerous: Vec<Kind>,
    pub(super) initial: Mode,
}

/// The options, as the descriptor has them.
pub(super) fn list() -> Vec<PluginOption> {
    vec![
        PluginOption::boolean("read-only").default("false").help(
            "Send nothing that may change the target's data, definitions or settings, or lock anything: for warming a replica. \
             What is not surely without effect is dropped: statements that write, lock or flush, CALL, SELECT ... FOR UPDATE, \
             INTO OUTFILE, and functions that the servers do not have themselves. BEGIN, COMMIT, SET of the session and the \
             like are sent.",
        ),
        PluginOption::texts("keep-users").default("[]").help(
            "Replay sessions of these users only; `*` and `?` as in file names.",
        ),
        PluginOption::texts("drop-users").default("[]").help("Don't replay sessions of these users."),
        PluginOption::texts("keep-databases").default("[]").help(
            "Send statements only if they are for one of these databases of the online server: it is the session's, or named in \
             the statement (`database.table`). `*` and `?` as in file names.",
        ),
        PluginOption::texts("drop-databases").default("[]").help(
            "Don't send statements for these databases of the online server: the session's, or one named in the statement.",
        ),
        PluginOption::texts("keep-statements").default("[]").help(
            "Send these kinds of statements only, and those that concern the session (SET, USE, BEGIN ...): `select`, `insert`, \
             `ddl` ..., or by what they may do: `@read`, `@session`, `@lock`, `@write`, `@unsure`.",
        ),
        PluginOption::texts("drop-statements").default("[]").help(
            "Don't send these kinds of statements; named as for `keep-statements`.",
        ),
        PluginOption::texts("keep-matching").default("[]").help(
            "Send statements only if one of these regular expressions matches the text, and those that concern the session. \
             `(?i)` before it takes letters in either case.",
        ),
        PluginOption::texts("drop-matching").default("[]").help(
            "Don't send statements with a text that one of these regular expressions matches.",
        ),
        PluginOption::texts("drop-functions").default("[]").help(
            "Don't send statements that call one of these functions, such as `sleep` and `benchmark`; `*` and `?` as in file names.",
        ),
        PluginOption::texts("harmless-functions").default("[]").help(
            "With `read-only`: stored and loadable functions that change nothing, as they are called in statements: `price`, \
             `sys.*`.",
        ),
        PluginOption::texts("allow-dangerous").default("[]").help(
            "KILL, SHUTDOWN and statements that steer replication are meant for the online server and not sent, but these are: \
             `kill`, `shutdown`, `replication`.",
        ),
        PluginOption::texts("sql-mode").default("[]").help(
            "Modes that sessions of the online server begin with and that change how a text is read: `ansi-quotes`, \
             `no-backslash-escapes`.",
        ),
    ]
}

fn parsed<T>(
    settings: &Settings,
    name: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let read = settings.texts(name).iter().map(|text| parse(text));
    read.collect::<Result<_, _>>().map_err(|error| format!("{name}: {error}"))
}

impl Options {
    /// What the settings say; else what is wrong with one of them.
    pub(super) fn read(settings: &Settings) -> Result<Self, String> {
        let globs = |name: &str| Globs::of(settings.texts(name));
        let regex = |text: &str| {
            Regex::new(text).map_err(|error| format!("{text:?} is no regular expression: {error}"))
        };
        let dangerous = |text: &str| {
            let kind = Kind::named(text.trim()).filter(|kind| kind.is_dangerous());
            kind.ok_or_else(|| format!("{text:?} is not dangerous; there are kill, shutdown and replication"))
        };
        let mut initial = Mode::default();
        for mode in settings.texts("sql-mode") {
            match &*mode.trim().to_ascii_lowercase().replace('_', "-") {
                "ansi-quotes" | "ansi" => initial.quotes = DoubleQuotes::Name,
                "no-backslash-escapes" => initial.backslashes = Backslashes::Plain,
                _ => {
                    return Err(format!(
                        "sql-mode: {mode:?} is neither ansi-quotes nor no-backslash-escapes"
                    ));
                }
            }
        }
        Ok(Self {
            read_only: settings.boolean("read-only"),
            keep_users: globs("keep-users"),
            drop_users: globs("drop-users"),
            keep_databases: globs("keep-databases"),
            drop_databases: globs("drop-databases"),
            keep_statements: parsed(settings, "keep-statements", Selector::parse)?,
            drop_statements: parsed(settings, "drop-statements", Selector::parse)?,
            keep_matching: parsed(settings, "keep-matching", regex)?,
            drop_matching: parsed(settings, "drop-matching", regex)?,
            drop_functions: globs("drop-functions"),
            harmless_functions: globs("harmless-functions"),
            allow_dangerous: parsed(settings, "allow-dangerous", dangerous)?,
            initial,
        })
    }
}
