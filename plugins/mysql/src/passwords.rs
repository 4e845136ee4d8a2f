//! What users log in with at the target.
//!
//! Owns the options that say it, and which of them is that of a user at an address.

use plugin_sdk::{PluginOption, Settings};
use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// What proves that a user is who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Its password.
    Password(Vec<u8>),
    /// `SHA1(SHA1(password))`, as servers keep it for `mysql_native_password`. With it, the client's own login gives away
    /// `SHA1(password)`, and that is enough to log in elsewhere.
    Stage2([u8; 20]),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Passwords belong in no log.
        f.write_str(match self {
            Self::Password(_) => "Password",
            Self::Stage2(_) => "Stage2",
        })
    }
}

/// Who a secret is for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Whose {
    user: Vec<u8>,
    address: Option<String>,
}

impl Whose {
    /// From `user`, `user@address`; either may have wildcards.
    fn parse(text: &str) -> Self {
        match text.rsplit_once('@') {
            Some((user, address)) => Self {
                user: user.as_bytes().to_vec(),
                address: Some(address.to_owned()).filter(|address| address != "%"),
            },
            None => Self { user: text.as_bytes().to_vec(), address: None },
        }
    }

    /// How well it fits: more is better.
    fn fits(&self, user: &[u8], address: &str) -> Option<u8> {
        let named = if self.user == user {
            2
        } else if matches(&self.user, user) {
            0
        } else {
            return None;
        };
        match &self.address {
            None => Some(named),
            Some(pattern) => matches(pattern.as_bytes(), address.as_bytes()).then_some(named + 1),
        }
    }
}

/// Whether `text` matches a pattern in which `*` and `%` stand for anything.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut back = None;
    while of < text.len() {
        match pattern.get(at) {
            Some(b'*' | b'%') => {
                back = Some((at, of));
                at += 1;
            }
            Some(byte) if *byte == text[of] => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((star, from)) = back else { return false };
                back = Some((star, from + 1));
                at = star + 1;
                of = from + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| matches!(byte, b'*' | b'%'))
}

/// The secrets of all users.
#[derive(Clone, Debug, Default)]
pub struct Passwords {
    known: Vec<(Whose, Secret)>,
    default: Option<Secret>,
}

/// The options that give them.
pub fn options() -> Vec<PluginOption> {
    vec![
        PluginOption::table("passwords").default("{}").help(
            "The target's passwords by user: `app=secret`. `app@10.1.*` is the user from these addresses; `*` stands for \
             anything. In a file, a value may be `{ file = \"PATH\" }` or `{ env = \"NAME\" }`.",
        ),
        PluginOption::text("password").help(
            "The target's password of each user that `passwords` and `password-hashes` don't name; may be empty.",
        ),
        PluginOption::table("password-hashes").default("{}").help(
            "For users of mysql_native_password whose password is not known: what the server keeps of it, 40 hexadecimal digits \
             with or without a `*` in front. It needs clients that log in with mysql_native_password and the same password, and a \
             target that asks for that too.",
        ),
    ]
}

impl Passwords {
    /// What the settings say.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn from_settings(settings: &Settings) -> Result<Self, String> {
        let mut known = Vec::new();
        for (whose, password) in settings.table("passwords") {
            known.push((Whose::parse(whose), Secret::Password(password.as_bytes().to_vec())));
        }
        for (whose, hash) in settings.table("password-hashes") {
            let stage2 = digest(hash).ok_or_else(|| {
                format!(
                    "password-hashes: {whose}: 40 hexadecimal digits are needed, with or without * in front"
                )
            })?;
            known.push((Whose::parse(whose), Secret::Stage2(stage2)));
        }
        let default =
            settings.text("password").map(|password| Secret::Password(password.as_bytes().to_vec()));
        Ok(Self { known, default })
    }

    /// That of a user who comes from `address`.
    pub fn of(&self, user: &[u8], address: IpAddr) -> Option<&Secret> {
        let address = address.to_string();
        let fitting =
            self.known.iter().filter_map(|(whose, secret)| Some((whose.fits(user, &address)?, secret)));
        // Of those that fit equally well, the first.
        let best = fitting.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, secret)| secret).or(self.default.as_ref())
    }
}

fn digest(text: &str) -> Option<[u8; 20]> {
    let text = text.trim();
    let digits = text.strip_prefix('*').unwrap_or(text).as_bytes();
    if digits.len() != 40 {
        return None;
    }
    let mut bytes = [0; 20];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(bytes)
}

/// `SHA1(password)`, from a login with `mysql_native_password` whose challenge was seen; `None` if it was with another password.
pub fn stage1(stage2: &[u8; 20], nonce: &[u8], proof: &[u8]) -> Option<[u8; 20]> {
    let mut stage1: [u8; 20] = proof.try_into().ok()?;
    let mask = Sha1::new().chain_update(nonce).chain_update(stage2).finalize();
    stage1.iter_mut().zip(mask).for_each(|(byte, with)| *byte ^= with);
    (Sha1::digest(stage1)[..] == stage2[..]).then_some(stage1)
}

/// The proof for `mysql_native_password`, from `SHA1(password)`.
pub fn native_proof(stage1: &[u8; 20], nonce: &[u8]) -> [u8; 20] {
    let stage2 = Sha1::digest(stage1);
    let mask = Sha1::new().chain_update(nonce).chain_update(stage2).finalize();
    let mut proof = *stage1;
    proof.iter_mut().zip(mask).for_each(|(byte, with)| *byte ^= with);
    proof
}
