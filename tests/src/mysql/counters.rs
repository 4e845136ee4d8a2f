//! What a server counts: statements of each kind, logins, and what went wrong.

use super::Flavour;
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
    pub(super) fn parse(status: &str, flavour: Flavour) -> Result<Self> {
        let number = |line: &str| {
            let (name, value) = line.split_once('\t')?;
            Some((name.to_ascii_lowercase(), value.parse().ok()?))
        };
        let mut counters: BTreeMap<String, u64> = status.lines().filter_map(number).collect();
        ensure!(!counters.is_empty(), "the server shows no counters");
        let again = counters.get("com_stmt_reprepare").copied().unwrap_or(0);
        if let (Flavour::MySql, Some(prepared)) = (flavour, counters.get_mut("com_stmt_prepare")) {
            // MySQL prepares again by itself when types of parameters change, and counts that too.
            *prepared = prepared.saturating_sub(again);
        }
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
        Self::check_same(online, target, |_| true)
    }

    /// As [`Counters::check_same_statements`], of all kinds but SELECT. The two kinds of servers count differently what they find
    /// an error in, and SHOW.
    ///
    /// # Errors
    /// The kinds that differ.
    pub fn check_same_but_selects(online: &Self, target: &Self) -> Result<()> {
        Self::check_same(online, target, |kind| kind != "select")
    }

    /// As [`Counters::check_same_statements`], where MySQL gets as text what it does not prepare, and MariaDB does: BEGIN.
    ///
    /// # Errors
    /// The kinds that differ.
    pub fn check_same_but_begins(online: &Self, target: &Self) -> Result<()> {
        Self::check_same(online, target, |kind| !matches!(kind, "stmt_execute" | "stmt_close"))?;
        let (executed, at_target) = (online.of_kind("stmt_execute")?, target.of_kind("stmt_execute")?);
        let as_text = executed.saturating_sub(at_target);
        ensure!(
            at_target <= executed && as_text <= online.of_kind("begin")?,
            "{executed} prepared statements were executed on online, {at_target} on target"
        );
        Ok(())
    }

    fn check_same(online: &Self, target: &Self, compared: impl Fn(&str) -> bool) -> Result<()> {
        let (online, target) = (online.statements(), target.statements());
        ensure!(!online.is_empty(), "the online server ran nothing");
        let count = |of: &BTreeMap<&'static str, u64>, kind: &str| of.get(kind).copied().unwrap_or(0);
        let differences: Vec<String> = KINDS
            .iter()
            .filter(|kind| compared(kind))
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

    fn read(status: &str) -> Result<Counters> {
        Counters::parse(status, Flavour::MariaDb)
    }

    #[test]
    fn statements_that_mysql_prepares_again_are_not_the_clients() {
        let status = "Com_stmt_prepare\t9\nCom_stmt_reprepare\t2\n";
        assert_eq!(Counters::parse(status, Flavour::MySql).unwrap().of_kind("stmt_prepare").unwrap(), 7);
        assert_eq!(read(status).unwrap().of_kind("stmt_prepare").unwrap(), 9);
    }

    #[test]
    fn kinds_are_compared_and_the_rest_is_not() {
        let before = read("Com_select\t5\nCom_insert\t1\nUptime\t3\nSsl_cipher\t\n").unwrap();
        let after = read("Com_select\t9\nCom_insert\t1\nUptime\t9\nCom_show_status\t3\n").unwrap();
        let online = after.since(&before);
        assert_eq!(online.of_kind("select").unwrap(), 4);
        assert_eq!(online.statements().into_iter().collect::<Vec<_>>(), [("select", 4)]);
        assert!(online.of_kind("nothing").is_err());
        let target = read("Com_select\t4\nUptime\t1\n").unwrap();
        Counters::check_same_statements(&online, &target).unwrap();
        let other = read("Com_select\t4\nCom_update\t1\n").unwrap();
        let error = Counters::check_same_statements(&online, &other).unwrap_err().to_string();
        assert!(error.contains("update: 0 on online, 1 on target"), "{error}");
    }
}
