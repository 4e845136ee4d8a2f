//! The options that users set, and what they mean.
//!
//! Owns their names, help and checks. What they lead to for each command is worked out in [`crate::rules`].

use crate::commands::{CATEGORIES, find, flag};
use plugin_sdk::{ConfigError, PluginOption, Settings};

/// Whether what is not known is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Unknown {
    /// It is.
    #[default]
    Forward,
    /// It is left out.
    Drop,
}

/// When a connection is logged in without a client's `AUTH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Login {
    /// When the beginning of the client's connection was not captured.
    #[default]
    Joined,
    /// Always.
    Always,
}

/// What commands are meant: by name, or by bits of [`flag`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The name in lower case, `container|subcommand` for one subcommand.
    Name(String),
    /// Those with one of these bits.
    Category(u16),
    /// Those that are not known.
    Unknown,
}

impl Selector {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        if let Some(category) = text.strip_prefix('@') {
            if category == "unknown" {
                return Ok(Self::Unknown);
            }
            let found = CATEGORIES.iter().find(|(name, _)| *name == category);
            return found.map(|(_, flags)| Self::Category(*flags)).ok_or_else(|| {
                let names: Vec<String> = CATEGORIES.iter().map(|(name, _)| format!("@{name}")).collect();
                format!("no category {text:?}; there are {} and @unknown", names.join(", "))
            });
        }
        if text.is_empty() {
            return Err("an empty command name".to_owned());
        }
        Ok(Self::Name(text.split([' ', '|']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("|")))
    }
}

/// What the options say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Nothing that may change data is sent.
    pub read_only: bool,
    /// Nothing but these is sent, and what concerns the connection; empty: everything.
    pub keep: Vec<Selector>,
    /// These are not sent.
    pub drop: Vec<Selector>,
    /// Dangerous commands that are sent all the same.
    pub allow_dangerous: Vec<Selector>,
    /// What is done with commands that are not known.
    pub unknown: Unknown,
    /// Globs of which one must match each key; empty: any key.
    pub keep_keys: Vec<Vec<u8>>,
    /// Globs of which none may match a key.
    pub drop_keys: Vec<Vec<u8>>,
    /// What is put before each key.
    pub key_prefix: Vec<u8>,
    /// The target's database for one of the online server.
    pub databases: Vec<(u32, u32)>,
    /// The online server's database that a connection joined mid-stream is in.
    pub join_database: u32,
    /// The target's user, for users that `passwords` does not name.
    pub user: Option<String>,
    /// That user's password at the target.
    pub password: Option<String>,
    /// Passwords at the target, by user.
    pub passwords: Vec<(String, String)>,
    /// When a login is made up.
    pub login: Login,
}

/// The options, as the descriptor has them.
pub fn list() -> Vec<PluginOption> {
    vec![
        PluginOption::boolean("read-only").default("false").help(
            "Send nothing that may change the target's data: no writing command, script that may write, message, dangerous \
             command or command that is not known.",
        ),
        PluginOption::texts("keep").default("[]").help(
            "Send these commands only, and those that concern the connection (AUTH, SELECT, MULTI ...). A command is named as \
             `get` or `config set`, a category as `@read`, `@write`, `@dangerous`, `@pubsub`, `@blocking`, `@scripting`, \
             `@transaction`, `@connection` or `@unknown`.",
        ),
        PluginOption::texts("drop").default("[]").help("Don't send these commands; named as for `keep`."),
        PluginOption::texts("allow-dangerous").default("[]").help(
            "Dangerous commands (FLUSHALL, SHUTDOWN, CONFIG, DEBUG ...) are not sent, but these are; named as for `keep`, \
             `@dangerous` for all.",
        ),
        PluginOption::choice("unknown-commands", &["forward", "drop"])
            .default("\"forward\"")
            .help("What is done with commands that the plugin does not know."),
        PluginOption::texts("keep-keys").default("[]").help(
            "Send requests only if each of their keys matches one of these globs. Requests without keys are sent.",
        ),
        PluginOption::texts("drop-keys").default("[]").help(
            "Don't send requests with a key that matches one of these globs.",
        ),
        PluginOption::text("key-prefix").help(
            "Put this before each key. Keys that scripts make up themselves, and arguments of commands that are not known, \
             stay as they are.",
        ),
        PluginOption::table("databases").default("{}").help(
            "The target's database for one of the online server: `0=5` sends to database 5 what went to 0.",
        ),
        PluginOption::integer("join-database").default("0").help(
            "The online server's database that clients are in whose connection began before the capture.",
        ),
        PluginOption::text("user").help(
            "The target's user, in place of each user that `passwords` does not name. Needs `password`.",
        ),
        PluginOption::text("password").help(
            "The target's password, in place of that in AUTH and HELLO of each user that `passwords` does not name. Without \
             it and `passwords`, logins are sent as they are.",
        ),
        PluginOption::table("passwords").default("{}").help(
            "The target's passwords by user: `alice=secret`. The user of an AUTH without one is `default`.",
        ),
        PluginOption::choice("login", &["joined", "always"]).default("\"joined\"").help(
            "When to log in with `user` and `password` without having seen a login: for connections that began before the \
             capture, or always, for an online server that asks for no password.",
        ),
    ]
}

impl Options {
    /// What the settings say.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let selectors = |name: &str| -> Result<Vec<Selector>, ConfigError> {
            let read = settings.texts(name).iter().map(|text| Selector::parse(text));
            read.collect::<Result<_, _>>().map_err(|error| format!("{name}: {error}").into())
        };
        let globs = |name: &str| settings.texts(name).iter().map(|glob| glob.as_bytes().to_vec()).collect();
        let text = |name: &str| settings.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let database = |text: &str| -> Result<u32, ConfigError> {
            text.trim().parse().map_err(|_| format!("databases: {text:?} is no database's number").into())
        };
        let mut databases = Vec::new();
        for (online, target) in settings.table("databases") {
            databases.push((database(online)?, database(target)?));
        }
        let join_database = u32::try_from(settings.integer("join-database").unwrap_or(0))
            .map_err(|_| ConfigError::from("join-database: no database has such a number"))?;
        let options = Self {
            read_only: settings.boolean("read-only"),
            keep: selectors("keep")?,
            drop: selectors("drop")?,
            allow_dangerous: selectors("allow-dangerous")?,
            unknown: if settings.text("unknown-commands") == Some("drop") {
                Unknown::Drop
            } else {
                Unknown::Forward
            },
            keep_keys: globs("keep-keys"),
            drop_keys: globs("drop-keys"),
            key_prefix: text("key-prefix").unwrap_or_default().into_bytes(),
            databases,
            join_database,
            user: text("user"),
            password: text("password"),
            passwords: settings.table("passwords").to_vec(),
            login: if settings.text("login") == Some("always") { Login::Always } else { Login::Joined },
        };
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.user.is_some() && self.password.is_none() {
            return Err("user: there is no password for it; give `password` too".into());
        }
        if self.login == Login::Always && self.made_up_login().is_none() {
            return Err("login: there is nothing to log in with; give `password`".into());
        }
        for selector in &self.allow_dangerous {
            if let Selector::Name(name) = selector
                && find(name.as_bytes()).is_none()
            {
                return Err(format!("allow-dangerous: no known command {name:?}").into());
            }
            if matches!(selector, Selector::Category(flags) if flags & flag::DANGEROUS == 0) {
                return Err("allow-dangerous: the only category here is @dangerous".into());
            }
        }
        Ok(())
    }

    /// The target's database for one of the online server.
    pub fn database(&self, online: u32) -> u32 {
        self.databases.iter().find(|(from, _)| *from == online).map_or(online, |(_, to)| *to)
    }

    /// What `user` logs in with at the target: a user, `None` for the default one, and a password. `None`: as the client did.
    pub fn login_of<'a>(&'a self, user: &'a [u8]) -> Option<(Option<&'a [u8]>, &'a [u8])> {
        if let Some((_, password)) = self.passwords.iter().find(|(name, _)| name.as_bytes() == user) {
            return Some(((user != b"default").then_some(user), password.as_bytes()));
        }
        let password = self.password.as_ref()?;
        Some((self.user.as_ref().map(String::as_bytes), password.as_bytes()))
    }

    /// What to log in with when no login was seen.
    pub fn made_up_login(&self) -> Option<(Option<&[u8]>, &[u8])> {
        self.login_of(b"default")
    }
}
