//! What statements there are, and what one may do.

use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal),* $(,)?) => {
        /// What a statement is, by its first words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// As options and reports call it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// `SELECT`, `TABLE`, `VALUES`, and `WITH` before one of them.
    Select "select",
    /// `INSERT`.
    Insert "insert",
    /// `UPDATE`.
    Update "update",
    /// `DELETE`.
    Delete "delete",
    /// `REPLACE`.
    Replace "replace",
    /// `CALL`.
    Call "call",
    /// `LOAD DATA`, `LOAD XML`, `IMPORT TABLE`.
    LoadData "load-data",
    /// `CREATE`, `ALTER`, `DROP`, `RENAME`, `TRUNCATE`.
    Ddl "ddl",
    /// `USE`.
    Use "use",
    /// `SET`.
    Set "set",
    /// `BEGIN`, `START TRANSACTION`.
    Begin "begin",
    /// `COMMIT`.
    Commit "commit",
    /// `ROLLBACK`.
    Rollback "rollback",
    /// `SAVEPOINT`, `RELEASE SAVEPOINT`, `ROLLBACK TO`.
    Savepoint "savepoint",
    /// `XA`.
    Xa "xa",
    /// `LOCK TABLES` and other locks.
    Lock "lock",
    /// `UNLOCK TABLES` and others.
    Unlock "unlock",
    /// `SHOW`.
    Show "show",
    /// `EXPLAIN`, `DESCRIBE`, `ANALYZE` of a statement, `HELP`.
    Explain "explain",
    /// `PREPARE`.
    Prepare "prepare",
    /// `EXECUTE`.
    Execute "execute",
    /// `DEALLOCATE PREPARE`, `DROP PREPARE`.
    Deallocate "deallocate",
    /// `DO`.
    Do "do",
    /// `HANDLER`.
    Handler "handler",
    /// `GET DIAGNOSTICS`, `SIGNAL`, `RESIGNAL`.
    Diagnostics "diagnostics",
    /// `ANALYZE TABLE`, `OPTIMIZE`, `REPAIR`, `CHECK`, `CHECKSUM`, `CACHE INDEX`, `INSTALL`, `BACKUP` and the like.
    Admin "admin",
    /// `FLUSH`, `RESET`.
    Flush "flush",
    /// `GRANT`, `REVOKE`, and what makes or changes users and roles.
    Grant "grant",
    /// `KILL`.
    Kill "kill",
    /// `SHUTDOWN`, `RESTART`, `CLONE`.
    Shutdown "shutdown",
    /// `CHANGE`, `START REPLICA`, `STOP REPLICA`, `RESET REPLICA`, `RESET MASTER`, `PURGE`, `BINLOG`.
    Replication "replication",
    /// What is otherwise in stored programs only: `BEGIN NOT ATOMIC`, `IF`, `WHILE`, `DECLARE`.
    Compound "compound",
    /// Anything else.
    Other "other",
}

impl Kind {
    /// The kind that is called so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// Whether it is meant for one server and its present state, so that running it on another can do harm: a `KILL` names a
    /// connection of the online server.
    pub const fn is_dangerous(self) -> bool {
        matches!(self, Self::Kill | Self::Shutdown | Self::Replication)
    }
}

impl Kind {
    /// Whether it concerns the session only, so that what is chosen to be sent can't do without it.
    pub const fn concerns_session(self) -> bool {
        matches!(
            self,
            Self::Use
                | Self::Set
                | Self::Begin
                | Self::Commit
                | Self::Rollback
                | Self::Savepoint
                | Self::Unlock
                | Self::Prepare
                | Self::Execute
                | Self::Deallocate
                | Self::Diagnostics
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a statement may do, from the least on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Effect {
    /// Nothing but answer.
    #[default]
    Reads,
    /// Change the session, or begin or end a transaction.
    Session,
    /// Take locks that other sessions feel.
    Locks,
    /// What it does is not known.
    Unsure,
    /// Change data, definitions or the server.
    Writes,
}

impl Effect {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Reads, Self::Session, Self::Locks, Self::Unsure, Self::Writes];

    /// As options and reports call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reads => "read",
            Self::Session => "session",
            Self::Locks => "lock",
            Self::Unsure => "unsure",
            Self::Writes => "write",
        }
    }

    /// Whether it leaves everything outside the session as it is.
    pub const fn is_harmless(self) -> bool {
        matches!(self, Self::Reads | Self::Session)
    }
}
