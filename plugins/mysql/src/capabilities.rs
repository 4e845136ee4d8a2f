//! What client and server agreed on, and what the plugin agrees on with the target in the client's place.

use crate::compression::Algorithm;
use mysql_common::constants::{CapabilityFlags as Flags, MariadbCapabilities};

/// Capabilities that name nothing but a wish of the client's; servers need not offer them.
const WISHES: Flags = Flags::CLIENT_LONG_FLAG
    .union(Flags::CLIENT_FOUND_ROWS)
    .union(Flags::CLIENT_NO_SCHEMA)
    .union(Flags::CLIENT_ODBC)
    .union(Flags::CLIENT_LOCAL_FILES)
    .union(Flags::CLIENT_IGNORE_SPACE)
    .union(Flags::CLIENT_INTERACTIVE)
    .union(Flags::CLIENT_IGNORE_SIGPIPE)
    .union(Flags::CLIENT_TRANSACTIONS);

/// Never asked of the target: there is no TLS, no second factor, and no verification.
const NEVER: Flags = Flags::CLIENT_SSL
    .union(Flags::CLIENT_SSL_VERIFY_SERVER_CERT)
    .union(Flags::CLIENT_REMEMBER_OPTIONS)
    .union(Flags::MULTI_FACTOR_AUTHENTICATION);

/// Capabilities that change what is sent, so that both sides have to have them.
const FORMS: Flags = Flags::CLIENT_COMPRESS
    .union(Flags::CLIENT_ZSTD_COMPRESSION_ALGORITHM)
    .union(Flags::CLIENT_PLUGIN_AUTH)
    .union(Flags::CLIENT_CONNECT_ATTRS)
    .union(Flags::CLIENT_SESSION_TRACK)
    .union(Flags::CLIENT_DEPRECATE_EOF)
    .union(Flags::CLIENT_OPTIONAL_RESULTSET_METADATA)
    .union(Flags::CLIENT_QUERY_ATTRIBUTES)
    .union(Flags::CLIENT_PROGRESS_OBSOLETE);

/// Both kinds of capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Those of both MySQL and MariaDB.
    pub flags: Flags,
    /// MariaDB's own.
    pub mariadb: MariadbCapabilities,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self { flags: Flags::empty(), mariadb: MariadbCapabilities::empty() }
    }
}

impl Capabilities {
    /// From the bits of a greeting or of its answer. Without the lowest bit, MariaDB's own are valid.
    pub fn from_bits(flags: u32, mariadb: u32) -> Self {
        let flags = Flags::from_bits_retain(flags);
        let is_mariadb = !flags.contains(Flags::CLIENT_LONG_PASSWORD);
        let mariadb = if is_mariadb {
            MariadbCapabilities::from_bits_retain(mariadb)
        } else {
            MariadbCapabilities::empty()
        };
        Self { flags, mariadb }
    }

    /// Those that a client has asked for when nobody saw it: what every client of this century does.
    pub fn assumed() -> Self {
        let flags = Flags::CLIENT_LONG_PASSWORD
            | Flags::CLIENT_LONG_FLAG
            | Flags::CLIENT_PROTOCOL_41
            | Flags::CLIENT_TRANSACTIONS
            | Flags::CLIENT_SECURE_CONNECTION
            | Flags::CLIENT_MULTI_STATEMENTS
            | Flags::CLIENT_MULTI_RESULTS
            | Flags::CLIENT_PS_MULTI_RESULTS
            | Flags::CLIENT_PLUGIN_AUTH
            | Flags::CLIENT_LOCAL_FILES;
        Self { flags, mariadb: MariadbCapabilities::empty() }
    }

    /// The client compresses so, as its packets show.
    pub fn compress(&mut self, algorithm: Algorithm) {
        self.plain();
        self.flags |= match algorithm {
            Algorithm::Zlib => Flags::CLIENT_COMPRESS,
            Algorithm::Zstd => Flags::CLIENT_ZSTD_COMPRESSION_ALGORITHM,
        };
    }

    /// The client does not compress.
    pub fn plain(&mut self) {
        self.flags.remove(Flags::CLIENT_COMPRESS | Flags::CLIENT_ZSTD_COMPRESSION_ALGORITHM);
    }

    /// What a client that asked for `self` got from a server that offers `offered`.
    pub fn granted(self, offered: Self) -> Self {
        Self {
            flags: self.flags & (offered.flags | WISHES | !FORMS),
            mariadb: self.mariadb & offered.mariadb,
        }
    }

    /// What to ask of a target that offers `offered`, in place of a client that asked for `self`.
    pub fn settle(self, offered: Self, database: Option<&[u8]>) -> Self {
        let mut flags = (self.flags & offered.flags) | (self.flags & WISHES);
        flags.remove(NEVER);
        let needed = Flags::CLIENT_PROTOCOL_41
            | Flags::CLIENT_SECURE_CONNECTION
            | Flags::CLIENT_PLUGIN_AUTH
            | Flags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA;
        flags |= needed & offered.flags;
        flags.set(Flags::CLIENT_CONNECT_WITH_DB, database.is_some_and(|name| !name.is_empty()));
        // One of them is enough, and a server takes the first.
        if flags.contains(Flags::CLIENT_COMPRESS) {
            flags.remove(Flags::CLIENT_ZSTD_COMPRESSION_ALGORITHM);
        }
        let mariadb = self.mariadb & offered.mariadb;
        flags.set(Flags::CLIENT_LONG_PASSWORD, mariadb.is_empty());
        Self { flags, mariadb }
    }

    /// How these change what is sent.
    pub fn features(self) -> Features {
        Features {
            is_eof_deprecated: self.flags.contains(Flags::CLIENT_DEPRECATE_EOF),
            tracks_session: self.flags.contains(Flags::CLIENT_SESSION_TRACK),
            has_optional_metadata: self.flags.contains(Flags::CLIENT_OPTIONAL_RESULTSET_METADATA),
            caches_metadata: self.mariadb.contains(MariadbCapabilities::MARIADB_CLIENT_CACHE_METADATA),
            has_progress: self.flags.contains(Flags::CLIENT_PROGRESS_OBSOLETE)
                || self.mariadb.contains(MariadbCapabilities::MARIADB_CLIENT_PROGRESS),
        }
    }

    /// Whether all of `flags` are among them.
    pub const fn has(self, flags: Flags) -> bool {
        self.flags.contains(flags)
    }
}

/// What capabilities change in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Features {
    /// Results end with an OK packet, and nothing ends their columns.
    pub is_eof_deprecated: bool,
    /// OK packets tell of changes of the session.
    pub tracks_session: bool,
    /// MySQL: results say whether their columns are described.
    pub has_optional_metadata: bool,
    /// MariaDB: results say whether their columns are described.
    pub caches_metadata: bool,
    /// MariaDB: packets in the form of an error say how far a command is.
    pub has_progress: bool,
}
