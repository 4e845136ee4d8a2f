//! The keywords that a verdict depends on.

macro_rules! words {
    ($($word:ident $text:literal),* $(,)?) => {
        /// A keyword that matters to what a statement is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
        pub(crate) enum Word {
            /// None of them.
            #[default]
            No,
            $($word,)*
        }

        const LONGEST: usize = 12;

        impl Word {
            /// The keyword that a word is, in any case.
            pub(crate) fn of(word: &[u8]) -> Self {
                let mut upper = [0; LONGEST];
                let Some(upper) = upper.get_mut(..word.len()) else { return Self::No };
                upper.copy_from_slice(word);
                upper.make_ascii_uppercase();
                match &*upper {
                    $($text => Self::$word,)*
                    _ => Self::No,
                }
            }
        }

        #[cfg(test)]
        mod tests {
            #[test]
            fn all_are_found() {
                $(assert_eq!(super::Word::of($text), super::Word::$word);)*
                $(assert_eq!(super::Word::of(&$text.to_ascii_lowercase()), super::Word::$word);)*
                assert_eq!(super::Word::of(b"SELECTS"), super::Word::No);
                assert_eq!(super::Word::of(&[b'A'; 100]), super::Word::No);
            }
        }
    };
}

words! {
    Alter b"ALTER", Analyze b"ANALYZE", As b"AS", Backup b"BACKUP", Begin b"BEGIN", Binlog b"BINLOG", Cache b"CACHE",
    Call b"CALL", Case b"CASE", Change b"CHANGE", Check b"CHECK", Checksum b"CHECKSUM", Clone b"CLONE", Commit b"COMMIT",
    Create b"CREATE", Deallocate b"DEALLOCATE", Declare b"DECLARE", Delete b"DELETE", Desc b"DESC",
    Describe b"DESCRIBE", Do b"DO", Drop b"DROP", Dumpfile b"DUMPFILE", Event b"EVENT", Execute b"EXECUTE",
    Explain b"EXPLAIN", Flush b"FLUSH", For b"FOR", Function b"FUNCTION", Get b"GET", Global b"GLOBAL", Grant b"GRANT", GtidNext b"GTID_NEXT",
    Handler b"HANDLER", Help b"HELP", If b"IF", Import b"IMPORT", Insert b"INSERT", Install b"INSTALL", Into b"INTO",
    Kill b"KILL", Load b"LOAD", Lock b"LOCK", Loop b"LOOP", Next b"NEXT", Optimize b"OPTIMIZE", Outfile b"OUTFILE",
    Package b"PACKAGE", Password b"PASSWORD", Persist b"PERSIST", PersistOnly b"PERSIST_ONLY", Prepare b"PREPARE", Previous b"PREVIOUS",
    Procedure b"PROCEDURE", Purge b"PURGE", Release b"RELEASE", Rename b"RENAME", Repair b"REPAIR", Repeat b"REPEAT",
    Replace b"REPLACE", Reset b"RESET", Resignal b"RESIGNAL", Restart b"RESTART", Revoke b"REVOKE", Role b"ROLE",
    Rollback b"ROLLBACK", Savepoint b"SAVEPOINT", Select b"SELECT", Set b"SET", Share b"SHARE", Show b"SHOW",
    Shutdown b"SHUTDOWN", Signal b"SIGNAL", Start b"START", Stop b"STOP", Table b"TABLE", Trigger b"TRIGGER",
    Truncate b"TRUNCATE", Uninstall b"UNINSTALL", Unlock b"UNLOCK", Update b"UPDATE", Use b"USE", User b"USER",
    Value b"VALUE", Values b"VALUES", While b"WHILE", With b"WITH", Xa b"XA",
}
