//! What a server counts: statements of each kind, logins, and what went wrong.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;

/// Kinds of statements that both kinds of servers count, and that nothing but clients over the network send here.
const KINDS: &[&str] = &[
    "admin_commands",
    "begin",
    "call_procedure",
    "change_db",
    "commit",
    "create_table",
    "dealloc_sql",
    "delete",
    "drop_table",
    "execute_sql",
    "insert",
    "insert_select",
    "load",
    "lock_tables",
    "prepare_sql",
    "replace",
    "rollback",
    "select",
    "set_option",
    "show_tables",
    "stmt_close",
    "stmt_execute",
    "stmt_fetch",
    "stmt_prepare",
    "stmt_reset",
    "stmt_send_long_data",
    "truncate",
    "unlock_tables",
    "update",
];

/// A server's counters at one moment, or the difference between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Reads what `SHOW GLOBAL STATUS` gives.
    ///
    /// # Errors
    /// When there is nothing to read.
    pub(super) fn parse(status: &str) -> Result<Self> {
        let number = |line: &str| {
            let (name, value) = line.split_once('\t')?;
            Some((name.to_ascii_lowercase(), value.parse().ok()?))
        };
        let counters: BTreeMap<String, u64> = status.lines().filter_map(number).collect();
        ensure!(!counters.is_empty(), "the server shows no counters");
        Ok(Self(counters))
    }

    /// How much was added since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let added = |(name, value): (&String, &u64)| {
            let value = value.saturating_sub(before.0.get(name).copied().unwrap_or(0));
            (name.clone(), value)
        };
        Self(self.0.iter().map(added).collect())
    }

    /// A counter, by its name in lower case.
    ///
    /// # Errors
    /// When the server has none of that name.
    pub fn get(&self, name: &str) -> Result<u64> {
        self.0.get(name).copied().with_context(|| format!("the server does not count {name}"))
    }

    /// How many statements of a kind were run, by the kind's name in lower case.
    ///
    /// # Errors
    /// When the server does not count them.
    pub fn of_kind(&self, kind: &str) -> Result<u64> {
        self.get(&format!("com_{kind}"))
    }

    /// Statements by kind, those above zero.
    pub fn statements(&self) -> BTreeMap<&'static str, u64> {
        let count = |kind: &&'static str| Some((*kind, *self.0.get(&format!("com_{kind}"))?));
        KINDS.iter().filter_map(count).filter(|(_, count)| *count > 0).collect()
    }

    /// Fails unless both have the same number of statements of each kind.
    ///
    /// # Errors
    /// The kinds that differ.
    pub fn check_same_statements(online: &Self, target: &Self) -> Result<()> {
        let (online, target) = (online.statements(), target.statements());
        ensure!(!online.is_empty(), "the online server ran nothing");
        let count = |of: &BTreeMap<&'static str, u64>, kind: &str| of.get(kind).copied().unwrap_or(0);
        let differences: Vec<String> = KINDS
            .iter()
            .map(|kind| (kind, count(&online, kind), count(&target, kind)))
            .filter(|(_, online, target)| online != target)
            .map(|(kind, online, target)| format!("{kind}: {online} on online, {target} on target"))
            .collect();
        ensure!(
            differences.is_empty(),
            "statements differ: {}\nall on online: {online:?}\nall on target: {target:?}",
            differences.join("; ")
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_compared_and_the_rest_is_not() {
        let before = Counters::parse("Com_select\t5\nCom_insert\t1\nUptime\t3\nSsl_cipher\t\n").unwrap();
        let after = Counters::parse("Com_select\t9\nCom_insert\t1\nUptime\t9\nCom_show_status\t3\n").unwrap();
        let online = after.since(&before);
        assert_eq!(online.of_kind("select").unwrap(), 4);
        assert_eq!(online.statements().into_iter().collect::<Vec<_>>(), [("select", 4)]);
        assert!(online.of_kind("nothing").is_err());
        let target = Counters::parse("Com_select\t4\nUptime\t1\n").unwrap();
        Counters::check_same_statements(&online, &target).unwrap();
        let other = Counters::parse("Com_select\t4\nCom_update\t1\n").unwrap();
        let error = Counters::check_same_statements(&online, &other).unwrap_err().to_string();
        assert!(error.contains("update: 0 on online, 1 on target"), "{error}");
    }
}
