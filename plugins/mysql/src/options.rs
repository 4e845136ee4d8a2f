//! The options that users set, and what they mean.

use crate::known;
use crate::passwords::{self, Passwords, matches};
use crate::rewrite::{self, Rewrite};
use crate::rules::{self, Rules};
use plugin_sdk::{ConfigError, PluginOption, Settings};
use std::net::IpAddr;

/// What the options say.
#[derive(Debug, Default)]
pub struct Options {
    /// What users log in with.
    pub passwords: Passwords,
    /// What is kept and what is dropped.
    pub rules: Rules,
    /// What is changed.
    pub rewrite: Rewrite,
    /// The user of connections that are joined mid-stream, by client address.
    join_users: Vec<(String, String)>,
    join_user: Option<String>,
    join_databases: Vec<(String, String)>,
    join_database: Option<String>,
    /// Whether the online server's answers are captured.
    pub online: Online,
}

/// Whether the online server's answers are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Online {
    /// They are.
    #[default]
    Heard,
    /// They are not.
    Unheard,
}

/// The options, as the descriptor has them.
pub fn list() -> Vec<PluginOption> {
    let mut list = passwords::options();
    list.extend([
        PluginOption::text("join-user").help(
            "The user of clients whose login was not captured because their connection began before that. Without it and \
             `join-users`, such connections are not replayed.",
        ),
        PluginOption::table("join-users").default("{}").help(
            "That user by the client's address: `10.1.2.*=app`; `*` stands for anything. The first that matches counts.",
        ),
        PluginOption::text("join-database").help(
            "The database that such clients are in. Without it, it is the one that other sessions of the user were in last.",
        ),
        PluginOption::table("join-databases").default("{}").help("That database by user: `app=shop`."),
    ]);
    list.push(PluginOption::boolean("hear-online-server").default("true").help(
        "Capture what the online server answers too. It tells the numbers of prepared statements; without it they are counted, which \
         goes wrong where the server skips some. `password-hashes` need it.",
    ));
    list.extend(known::options());
    list.extend(rules::options());
    list.extend(rewrite::options());
    list
}

impl Options {
    /// What the settings say.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let text = |name: &str| settings.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Self {
            passwords: Passwords::from_settings(settings)?,
            rules: Rules::from_settings(settings)?,
            rewrite: Rewrite::from_settings(settings)?,
            join_users: settings.table("join-users").to_vec(),
            join_user: text("join-user"),
            join_databases: settings.table("join-databases").to_vec(),
            join_database: text("join-database"),
            online: if settings.boolean("hear-online-server") { Online::Heard } else { Online::Unheard },
        })
    }

    /// The user of a client whose login was not captured.
    pub fn joined_user(&self, address: IpAddr) -> Option<&[u8]> {
        let address = address.to_string();
        let found =
            self.join_users.iter().find(|(pattern, _)| matches(pattern.as_bytes(), address.as_bytes()));
        found.map(|(_, user)| user).or(self.join_user.as_ref()).map(String::as_bytes)
    }

    /// The database of such a user's client, as far as options say.
    pub fn joined_database(&self, user: &[u8]) -> Option<&[u8]> {
        let found = self.join_databases.iter().find(|(name, _)| name.as_bytes() == user);
        found.map(|(_, database)| database).or(self.join_database.as_ref()).map(String::as_bytes)
    }
}
