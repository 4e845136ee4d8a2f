//! What is known to be lost with a connection.

/// What was lost with a connection and can't be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Lost {
    /// Open transactions: none or one.
    pub transactions: u32,
    /// Temporary tables.
    pub temporary_tables: u32,
    /// Locked tables: none or one `LOCK TABLES`.
    pub table_locks: u32,
    /// Locks by `GET_LOCK`: none or one.
    pub user_locks: u32,
    /// Settings and variables that were not remembered: too many, too long, or assigned by a query that answers rows.
    pub settings: u32,
}

impl Lost {
    /// How many of what, for the report: names end a sentence that begins with `lost with a connection:`.
    pub fn counts(&self) -> [(&'static str, u32); 5] {
        [
            ("open transaction", self.transactions),
            ("temporary table", self.temporary_tables),
            ("table lock", self.table_locks),
            ("user lock", self.user_locks),
            ("setting or variable", self.settings),
        ]
    }
}
