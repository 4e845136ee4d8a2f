//! Statements that were prepared before the capture began.
//!
//! Owns where their texts come from, since an execution does not have it: options, or what other sessions of the same user prepared
//! under the same number.

use plugin_sdk::{PluginOption, Settings};
use std::collections::HashMap;

/// Statements that are learnt at most.
const MOST: usize = 16_384;
/// Bytes of their texts at most.
const MOST_BYTES: usize = 8 << 20;

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its text.
    pub text: Vec<u8>,
    /// The types of its parameters, two bytes each, if they are known.
    pub types: Vec<u8>,
}

/// Whether sessions teach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Teaching {
    #[default]
    Off,
    On,
}

/// What is known of statements by their number at the online server.
#[derive(Debug, Default)]
pub struct Statements {
    /// From the options: of all users, or of one.
    given: HashMap<(Option<Vec<u8>>, u32), Known>,
    teaching: Teaching,
    /// What all sessions of a user that were seen agree on; `None`: they don't.
    learnt: HashMap<(Vec<u8>, u32), Option<Known>>,
    bytes: usize,
}

/// The options that say it.
pub fn options() -> Vec<PluginOption> {
    vec![
        PluginOption::table("join-statements").default("{}").help(
            "Statements that clients had prepared before the capture, by their number at the online server: \
             `7=SELECT c FROM t WHERE id=?`, or `app:7=...` for one user. The online server's \
             performance_schema.prepared_statements_instances has numbers and texts.",
        ),
        PluginOption::table("join-parameter-types").default("{}").help(
            "The types of these statements' parameters, as the clients bind them: `7=int,varchar`. Clients send them with the first \
             execution only. The types are tinyint, smallint, int, bigint (each may have `unsigned` behind it), float, double, \
             decimal, date, time, datetime, timestamp, varchar and blob.",
        ),
        PluginOption::boolean("join-statements-from-others").default("false").help(
            "Take it that a statement prepared before the capture is the one that other sessions of the user have prepared under the \
             same number, as long as they all agree. Right for programs that prepare the same statements in the same order in each \
             connection.",
        ),
    ]
}

/// A type's number, and its flags.
fn kind(name: &str) -> Option<[u8; 2]> {
    let name = name.trim().to_ascii_lowercase();
    let (name, flags) = match name.strip_suffix("unsigned") {
        Some(name) => (name.trim().to_owned(), 0x80),
        None => (name, 0),
    };
    let kind = match name.as_str() {
        "tinyint" => 1,
        "smallint" => 2,
        "int" => 3,
        "float" => 4,
        "double" => 5,
        "timestamp" => 7,
        "bigint" => 8,
        "date" => 10,
        "time" => 11,
        "datetime" => 12,
        "decimal" => 246,
        "blob" => 252,
        "varchar" | "char" => 254,
        _ => return None,
    };
    Some([kind, flags])
}

/// Whose statement it is, and its number: `7`, `app:7`.
fn key(text: &str) -> Option<(Option<Vec<u8>>, u32)> {
    let (user, number) = match text.rsplit_once(':') {
        Some((user, number)) => (Some(user.as_bytes().to_vec()), number),
        None => (None, text),
    };
    Some((user, number.trim().parse().ok()?))
}

impl Statements {
    /// What the settings say.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn from_settings(settings: &Settings) -> Result<Self, String> {
        let mut given = HashMap::new();
        for (name, text) in settings.table("join-statements") {
            let key =
                key(name).ok_or_else(|| format!("join-statements: {name:?} is no statement's number"))?;
            given.insert(key, Known { text: text.as_bytes().to_vec(), types: Vec::new() });
        }
        for (name, types) in settings.table("join-parameter-types") {
            let known = key(name).and_then(|key| given.get_mut(&key));
            let known =
                known.ok_or_else(|| format!("join-parameter-types: join-statements has no {name:?}"))?;
            for name in types.split(',').filter(|name| !name.trim().is_empty()) {
                let kind = kind(name).ok_or_else(|| {
                    format!("join-parameter-types: {:?} is no type that is known", name.trim())
                })?;
                known.types.extend_from_slice(&kind);
            }
        }
        let teaching =
            if settings.boolean("join-statements-from-others") { Teaching::On } else { Teaching::Off };
        Ok(Self { given, teaching, ..Self::default() })
    }

    /// Whether sessions teach each other.
    pub fn is_teaching(&self) -> bool {
        self.teaching == Teaching::On
    }

    /// A session of this user has prepared this.
    pub fn learn(&mut self, user: &[u8], number: u32, text: &[u8]) {
        if !self.is_teaching() {
            return;
        }
        let key = (user.to_vec(), number);
        if let Some(known) = self.learnt.get_mut(&key) {
            if known.as_ref().is_some_and(|known| known.text != text) {
                *known = None;
            }
        } else if self.learnt.len() < MOST && self.bytes + text.len() <= MOST_BYTES {
            self.bytes += text.len();
            self.learnt.insert(key, Some(Known { text: text.to_vec(), types: Vec::new() }));
        }
    }

    /// A session of this user has executed such a statement with these types.
    pub fn learn_types(&mut self, user: &[u8], number: u32, types: &[u8]) {
        if self.is_teaching()
            && let Some(Some(known)) = self.learnt.get_mut(&(user.to_vec(), number))
            && known.types != types
        {
            known.types = types.to_vec();
        }
    }

    /// The statement of this number, in a session of this user that was joined.
    pub fn find(&self, user: &[u8], number: u32) -> Option<&Known> {
        self.given
            .get(&(Some(user.to_vec()), number))
            .or_else(|| self.given.get(&(None, number)))
            .or_else(|| self.learnt.get(&(user.to_vec(), number))?.as_ref())
    }
}
