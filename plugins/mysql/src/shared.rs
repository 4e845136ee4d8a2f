//! What sessions know together.
//!
//! Owns the options, and what one session learns that others need: the database that a user's sessions are in, and what clients'
//! own logins gave away of passwords whose hash is configured.

use crate::known::Statements;
use crate::login::identity::Identity;
use crate::options::Options;
use crate::tally::Tally;
use plugin_sdk::{ConfigError, Settings};
use std::collections::HashMap;

/// Users remembered at most.
const MOST_USERS: usize = 4096;

/// Knowledge of an instance.
#[derive(Debug, Default)]
pub struct Shared {
    /// What users set.
    pub options: Options,
    /// Statements that were prepared before the capture.
    pub known: Statements,
    /// What the report says.
    pub tally: Tally,
    databases: HashMap<Vec<u8>, Vec<u8>>,
    identities: HashMap<Vec<u8>, Identity>,
    stage1: HashMap<Vec<u8>, [u8; 20]>,
}

impl Shared {
    /// With nothing known but the settings.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let known = Statements::from_settings(settings)?;
        Ok(Self { options: Options::read(settings)?, known, ..Self::default() })
    }

    /// A session of this user is in this database.
    pub fn learn_database(&mut self, user: &[u8], database: &[u8]) {
        if let Some(known) = self.databases.get_mut(user) {
            if known != database {
                *known = database.to_vec();
            }
        } else if self.databases.len() < MOST_USERS {
            self.databases.insert(user.to_vec(), database.to_vec());
        }
    }

    /// The database that a user's session is in whose beginning was not captured.
    pub fn joined_database(&self, user: &[u8]) -> Option<&[u8]> {
        self.options.joined_database(user).or_else(|| self.databases.get(user).map(Vec::as_slice))
    }

    /// A session of this user has begun.
    pub fn learn_identity(&mut self, identity: &Identity) {
        if self.identities.len() < MOST_USERS || self.identities.contains_key(&identity.user) {
            self.identities.insert(identity.user.clone(), identity.clone());
        }
    }

    /// The client of a session whose beginning was not captured: like the user's others, as far as they are known.
    pub fn joined_identity(&self, user: &[u8]) -> Identity {
        let database = self.joined_database(user).map(<[u8]>::to_vec);
        match self.identities.get(user) {
            Some(known) => Identity { database, ..known.clone() },
            None => Identity::assumed(user.to_vec(), database),
        }
    }

    /// `SHA1(password)` of a user.
    pub fn learn_stage1(&mut self, user: &[u8], stage1: [u8; 20]) {
        if self.stage1.len() < MOST_USERS || self.stage1.contains_key(user) {
            self.stage1.insert(user.to_vec(), stage1);
        }
    }

    /// `SHA1(password)` of a user, if a login of one of its sessions gave it away.
    pub fn stage1(&self, user: &[u8]) -> Option<&[u8; 20]> {
        self.stage1.get(user)
    }
}
