//! Logins at the target.
//!
//! Owns what answers the target's challenges, whichever authentication plugin it asks for; who is to log in, and what becomes of
//! the session, is decided by the caller. No password leaves in the clear: there is no TLS.

pub mod greeting;
pub mod identity;
mod key;

use crate::capabilities::Features;
use crate::packet::{self, Message};
use crate::passwords;
use crate::results::{self, Accepted, ServerError};
use greeting::NONCE;
use mysql_common::auth::plugins::{
    ChallengeResponsePlugin as _, Context, caching_sha2_password::scramble_sha256,
    client_ed25519::ClientEd25519, mysql_native_password::scramble_native,
};
use mysql_common::packets::AuthPlugin;
use plugin_sdk::Actions;
use plugin_sdk::cursor::Cursor;

/// Packets that a target may send until it says yes or no.
const MOST_PACKETS: u8 = 16;

/// What a user proves itself with.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// The password.
    Password(Vec<u8>),
    /// `SHA1(password)`: enough for `mysql_native_password`.
    Stage1([u8; 20]),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

/// Why a login can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The target says no.
    Refused(ServerError),
    /// It asks for what the plugin has not or does not do.
    Impossible(&'static str),
    /// It asks for this authentication plugin, which is not known.
    Unknown(Vec<u8>),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this packet.
    Send(Vec<u8>),
    /// Wait for another.
    Wait,
    /// The user is in.
    In(Accepted),
}

/// Which of the challenge's parts is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Verdict,
    Key,
}

/// A login that is under way.
#[derive(Debug)]
pub struct Login {
    credential: Credential,
    /// The plugin that the target asks for.
    plugin: AuthPlugin<'static>,
    nonce: Vec<u8>,
    due: Due,
    packets: u8,
}

struct Ed25519<'a>(&'a [u8]);

impl Context for Ed25519<'_> {
    fn pass(&self) -> &[u8] {
        self.0
    }

    fn is_ipc_transport(&self) -> bool {
        false
    }

    fn is_tls_transport(&self) -> bool {
        false
    }

    fn scramble(&self) -> &[u8] {
        &[]
    }

    fn server_key_pem(&self) -> Option<&[u8]> {
        None
    }
}

impl Login {
    /// Begins one with the plugin and the challenge that the target proposes. Without a plugin's name, it is the native one.
    pub fn new(credential: Credential, plugin: &[u8], nonce: &[u8]) -> Self {
        let plugin = if plugin.is_empty() {
            AuthPlugin::MysqlNativePassword
        } else {
            AuthPlugin::from_bytes(plugin).into_owned()
        };
        Self { credential, plugin, nonce: nonce.to_vec(), due: Due::Verdict, packets: 0 }
    }

    /// The first proof, and the name of the plugin that it is of. A plugin that can't be served is not the last word: most users
    /// have another one, and the target says so then.
    pub fn first(&mut self) -> (Vec<u8>, Vec<u8>) {
        let proof = match self.plugin {
            AuthPlugin::MysqlNativePassword
            | AuthPlugin::CachingSha2Password
            | AuthPlugin::Sha256Password => self.prove().ok(),
            _ => None,
        };
        let proof = proof.unwrap_or_else(|| {
            self.plugin = AuthPlugin::MysqlNativePassword;
            self.prove().unwrap_or_default()
        });
        (proof, self.plugin.as_bytes().to_vec())
    }

    /// The plugin and challenge used last, for another login on the same connection.
    pub fn into_last(self) -> (Vec<u8>, Vec<u8>) {
        (self.plugin.as_bytes().to_vec(), self.nonce)
    }

    /// Takes the target's next packet.
    ///
    /// # Errors
    /// When the login ends with it.
    pub fn take(
        &mut self,
        message: &Message<'_>,
        features: Features,
        actions: &Actions<'_>,
    ) -> Result<Next, Failure> {
        self.packets += 1;
        if self.packets > MOST_PACKETS {
            return Err(Failure::Impossible("the target goes on asking for proofs in a login"));
        }
        if !message.is_whole() {
            return Err(Failure::Impossible("the target sends too long a packet in a login"));
        }
        let wrong = Failure::Impossible("the target sends what is no packet of a login");
        match message.front {
            [0, ..] => Accepted::read(message.front, features).map(Next::In).map_err(|_| wrong),
            [0xff, ..] => Err(results::server_error(message.front).map_or(wrong, Failure::Refused)),
            [0xfe] => Err(Failure::Impossible(
                "the target asks for mysql_old_password, which is not supported: give the user another authentication plugin",
            )),
            [0xfe, rest @ ..] => self.switch(rest).map(Next::Send),
            [1, rest @ ..] => self.more(rest, actions),
            [2, ..] => {
                Err(Failure::Impossible("the target asks for a second factor, which is not supported"))
            }
            _ => Err(wrong),
        }
    }

    /// The target asks for another plugin.
    fn switch(&mut self, request: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut cursor = Cursor::new(request);
        let name = packet::until_zero(&mut cursor).unwrap_or(request);
        self.plugin = AuthPlugin::from_bytes(name).into_owned();
        let data = cursor.rest();
        self.nonce = data.strip_suffix(&[0]).filter(|data| data.len() % 4 == 0).unwrap_or(data).to_vec();
        self.due = Due::Verdict;
        let proof = self.prove()?;
        let is_sha2 = matches!(self.plugin, AuthPlugin::CachingSha2Password | AuthPlugin::Sha256Password);
        // These take an empty password for one zero.
        Ok(if proof.is_empty() && is_sha2 { vec![0] } else { proof })
    }

    /// The answer to the challenge.
    fn prove(&mut self) -> Result<Vec<u8>, Failure> {
        const BAD_NONCE: Failure =
            Failure::Impossible("the target's challenge has another length than its plugin uses");
        let password = match (&self.credential, &self.plugin) {
            (Credential::Stage1(stage1), AuthPlugin::MysqlNativePassword) => {
                let nonce = self.nonce.get(..NONCE).ok_or(BAD_NONCE)?;
                return Ok(passwords::native_proof(stage1, nonce).to_vec());
            }
            (Credential::Stage1(_), _) => {
                return Err(Failure::Impossible(
                    "the target asks for more than mysql_native_password, and only a hash of the password is known",
                ));
            }
            (Credential::Password(password), _) => password,
        };
        match &self.plugin {
            AuthPlugin::MysqlNativePassword => {
                let nonce = self.nonce.get(..NONCE).ok_or(BAD_NONCE)?;
                Ok(scramble_native(nonce, password).map(|proof| proof.to_vec()).unwrap_or_default())
            }
            AuthPlugin::CachingSha2Password => {
                let nonce = self.nonce.first_chunk().ok_or(BAD_NONCE)?;
                Ok(scramble_sha256(nonce, password).map(|proof| proof.to_vec()).unwrap_or_default())
            }
            AuthPlugin::Sha256Password if password.is_empty() => Ok(Vec::new()),
            AuthPlugin::Sha256Password => {
                // The wish for the key that the password is encrypted with.
                const WISH: u8 = 1;
                self.due = Due::Key;
                Ok(vec![WISH])
            }
            AuthPlugin::Ed25519 => {
                let proof =
                    ClientEd25519::default().run(Ed25519(password), &self.nonce).map_err(|_| BAD_NONCE)?;
                Ok(proof.data().unwrap_or_default().to_vec())
            }
            AuthPlugin::MysqlClearPassword => Err(Failure::Impossible(
                "the target asks for the password in the clear (mysql_clear_password), which is never sent",
            )),
            AuthPlugin::MysqlOldPassword => Err(Failure::Impossible(
                "the target asks for mysql_old_password, which is not supported: give the user another authentication plugin",
            )),
            AuthPlugin::Parsec => Err(Failure::Unknown(b"parsec".to_vec())),
            AuthPlugin::Other(name) => Err(Failure::Unknown(name.to_vec())),
        }
    }

    /// The target says more within its plugin.
    fn more(&mut self, data: &[u8], actions: &Actions<'_>) -> Result<Next, Failure> {
        const FAST: u8 = 3;
        const FULL: u8 = 4;
        const WISH: u8 = 2;
        match (&self.plugin, self.due, data) {
            (AuthPlugin::CachingSha2Password, Due::Verdict, [FAST]) => Ok(Next::Wait),
            (AuthPlugin::CachingSha2Password, Due::Verdict, [FULL]) => {
                self.due = Due::Key;
                Ok(Next::Send(vec![WISH]))
            }
            (AuthPlugin::CachingSha2Password | AuthPlugin::Sha256Password, Due::Key, key) => {
                self.due = Due::Verdict;
                let Credential::Password(password) = &self.credential else {
                    return Err(Failure::Impossible("only a hash of the password is known"));
                };
                key::encrypt(password, &self.nonce, key, actions).map(Next::Send).map_err(Failure::Impossible)
            }
            _ => Err(Failure::Impossible("the target sends what is no packet of a login")),
        }
    }
}
