//! The log in which a server writes down each command that it gets.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Logged {
    /// The connection's number on that server, in that run of it.
    pub connection: u64,
    /// `Connect`, `Query`, `Prepare`, `Execute`, `Quit` …
    pub command: String,
    /// The statement, or what else belongs to the command.
    pub text: String,
}

/// The commands in a server's log, in its order.
#[derive(Clone, Debug)]
pub struct Statements(pub Vec<Logged>);

impl Statements {
    pub(super) fn read(file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        Ok(Self::parse(&String::from_utf8_lossy(&bytes)))
    }

    fn parse(log: &str) -> Self {
        let mut commands: Vec<Logged> = Vec::new();
        for line in log.lines() {
            match logged(line) {
                Some(command) => commands.push(command),
                // A statement of several lines, or the heading of one of the server's runs.
                None => {
                    if let Some(last) = commands.last_mut()
                        && !is_heading(line)
                    {
                        last.text.push('\n');
                        last.text.push_str(line);
                    }
                }
            }
        }
        Self(commands)
    }

    /// How often each command with a statement for which `keep` says so was received, by its text.
    pub fn texts(&self, keep: impl Fn(&Logged) -> bool) -> BTreeMap<&str, u64> {
        let mut texts = BTreeMap::new();
        for command in self.0.iter().filter(|command| keep(command)) {
            *texts.entry(command.text.as_str()).or_insert(0) += 1;
        }
        texts
    }

    /// Statements that were run, as text or prepared, for which `keep` says so of the text.
    pub fn run(&self, keep: impl Fn(&str) -> bool) -> Vec<&str> {
        let ran = |command: &&Logged| matches!(command.command.as_str(), "Query" | "Execute");
        self.0.iter().filter(ran).map(|command| command.text.as_str()).filter(|text| keep(text)).collect()
    }
}

/// A line that begins a command: `[time] <tab> [<tab>] <connection> <command> <tab> <text>`.
fn logged(line: &str) -> Option<Logged> {
    let (time, rest) = line.split_once('\t')?;
    if !time.is_empty() && !time.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let rest = rest.trim_start_matches(['\t', ' ']);
    let (head, text) = rest.split_once('\t').unwrap_or((rest, ""));
    let (connection, command) = head.split_once(' ')?;
    let is_command = command.starts_with(|first: char| first.is_ascii_uppercase());
    Some(Logged {
        connection: connection.parse().ok().filter(|_| is_command)?,
        command: command.into(),
        text: text.into(),
    })
}

fn is_heading(line: &str) -> bool {
    line.starts_with("Tcp port:") || line.starts_with("Time   ") || line.contains(", Version: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_logs_are_read() {
        let mariadb = "/usr/sbin/mariadbd, Version: 10.11 (Debian). started with:\nTcp port: 3306  Unix socket: s\n\
                       Time\t\t    Id Command\tArgument\n261122  7:00:00\t     3 Connect\troot@localhost on  using Socket\n\
                       \t\t     3 Query\tSELECT 1,\n 2\n\t\t     3 Quit\t\n";
        let read = Statements::parse(mariadb).0;
        let commands: Vec<_> =
            read.iter().map(|entry| (entry.command.as_str(), entry.text.as_str())).collect();
        assert_eq!(
            commands,
            [("Connect", "root@localhost on  using Socket"), ("Query", "SELECT 1,\n 2"), ("Quit", "")]
        );
        let mysql = "/x/mysqld, Version: 9.7.4. started with:\nTcp port: 3306  Unix socket: s\n\
                     Time                 Id Command    Argument\n\
                     2026-11-22T07:00:00.000001Z\t    8 Init DB\tlab\n\
                     2026-11-22T07:00:00.000002Z\t    8 Execute\tSELECT 1\n";
        let read = Statements::parse(mysql);
        assert_eq!(read.0[0], Logged { connection: 8, command: "Init DB".into(), text: "lab".into() });
        assert_eq!(read.run(|_| true), ["SELECT 1"]);
        assert_eq!(read.texts(|entry| entry.command == "Execute"), BTreeMap::from([("SELECT 1", 1)]));
    }
}
