use super::*;
use crate::sql::{Charset, Server};
use plugin_sdk::testing::Harness;
use plugin_sdk::{Actions, ConfigError, Descriptor, Inputs, Needs, Opening, Plugin, Value};
use proptest::prelude::*;
use std::cell::RefCell;

thread_local! {
    static READ: RefCell<Option<Rules>> = const { RefCell::new(None) };
}

/// Reads options, and does nothing.
struct Reader;

impl Plugin for Reader {
    type Session = ();

    fn descriptor() -> Descriptor {
        options().into_iter().fold(Descriptor::new("rules", "0"), Descriptor::option)
    }

    fn configure(settings: &Settings) -> Result<Self, ConfigError> {
        READ.set(Some(Rules::from_settings(settings)?));
        Ok(Self)
    }

    fn needs(&self) -> Needs {
        Needs::new(Inputs::NONE)
    }

    fn open(&mut self, _: &Opening, _: &mut Actions<'_>) {}

    fn on_request(&mut self, (): &mut (), bytes: &[u8], actions: &mut Actions<'_>) {
        actions.forward(bytes.len());
    }

    fn on_gap(&mut self, (): &mut (), _: &mut Actions<'_>) {}
}

fn rules(settings: &[(&str, Value)]) -> Rules {
    Harness::<Reader>::new(settings);
    READ.take().expect("read")
}

fn refused(settings: &[(&str, Value)]) -> String {
    let Err(error) = Harness::<Reader>::try_new(settings) else { panic!("{settings:?} is taken") };
    error.to_string()
}

fn mode() -> Mode {
    Mode { charset: Charset::Wide, server: Server::MySql(80_403), ..Mode::default() }
}

fn choose(rules: &Rules, text: &str) -> Choice {
    rules.statement(Some(b"shop"), text.as_bytes(), mode(), &mut Named::default())
}

/// The name of the rule that drops a text; empty when it is kept.
fn dropped(rules: &Rules, text: &str) -> String {
    match choose(rules, text) {
        Choice::Keep => String::new(),
        Choice::Drop(rule) => rule.name(),
        Choice::Part { text, dropped } => {
            let names: Vec<_> = dropped.iter().map(Rule::name).collect();
            format!("{} -- {}", String::from_utf8_lossy(&text), names.join(", "))
        }
    }
}

#[track_caller]
fn assert_all(rules: &Rules, table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(dropped(rules, text), *expected, "{text}");
    }
}

#[test]
fn without_options_all_but_what_is_dangerous_is_kept() {
    let table = [
        ("SELECT 1", ""),
        ("DROP TABLE t; FROBNICATE", ""),
        ("", ""),
        ("PREPARE a FROM @b", ""),
        ("EXECUTE a", ""),
        ("KILL 5", "want of allow-dangerous (kill)"),
        ("/*!50000 KILL */ 5", "want of allow-dangerous (kill)"),
        ("SELECT 1; KILL 5", "SELECT 1 -- want of allow-dangerous (kill)"),
        ("PREPARE a FROM 'SHUTDOWN'", "want of allow-dangerous (shutdown)"),
        ("STOP REPLICA", "want of allow-dangerous (replication)"),
    ];
    assert_all(&rules(&[]), &table);
    let allowed = rules(&[("allow-dangerous", ["kill", "shutdown", "replication"].into())]);
    assert_all(&allowed, &table.map(|(text, _)| (text, "")));
}

#[test]
fn read_only_drops_what_is_not_surely_harmless() {
    let rules = rules(&[("read-only", true.into())]);
    assert_all(
        &rules,
        &[
            ("SELECT 1", ""),
            ("SELECT 1 INTO @a", ""),
            ("SELECT * FROM t FOR UPDATE", "read-only (select that locks)"),
            ("SELECT f(1)", "read-only (select of unknown effect)"),
            ("SELECT 1 INTO OUTFILE 'x'", "read-only (select that writes)"),
            ("INSERT INTO t VALUES (1)", "read-only (insert)"),
            ("LOCK TABLES a READ", "read-only (lock)"),
            ("SET GLOBAL a = 1", "read-only (set that writes)"),
            ("SET NAMES utf8", ""),
            ("BEGIN", ""),
            ("COMMIT", ""),
            ("ROLLBACK TO a", ""),
            ("USE a", ""),
            ("UNLOCK TABLES", ""),
            ("KILL 5", "read-only (kill)"),
            ("FROBNICATE", "read-only (other of unknown effect)"),
            ("SELECT 1; DELETE FROM t; SELECT 2;", "SELECT 1; SELECT 2 -- read-only (delete)"),
            ("DELETE FROM t; UPDATE t SET a = 1", "read-only (delete)"),
            ("SELECT 1 /*! ; DELETE FROM t */", "a rule for another part of their text"),
            ("CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END", "read-only (ddl)"),
            ("PREPARE a FROM 'SELECT 1'", ""),
            ("PREPARE a FROM 'SELECT 1 FOR UPDATE'", "read-only (select that locks)"),
            ("PREPARE a FROM 'PREPARE b FROM ''DELETE FROM t'''", "read-only (prepare of unknown effect)"),
            ("PREPARE a FROM @b", "read-only (prepare of unknown effect)"),
            ("EXECUTE a", "read-only (execute of a text that is not known)"),
            ("EXECUTE IMMEDIATE 'SELECT 1'", ""),
            ("EXECUTE IMMEDIATE 'DELETE FROM t'", "read-only (delete)"),
            (
                "EXECUTE IMMEDIATE CONCAT('DELETE FROM ', @t)",
                "read-only (execute of a text that is not known)",
            ),
            ("DEALLOCATE PREPARE a", ""),
        ],
    );
    let harmless = self::rules(&[("read-only", true.into()), ("harmless-functions", ["F", "sys.*"].into())]);
    assert_all(
        &harmless,
        &[
            ("SELECT f(1), `sys`.format_bytes(2)", ""),
            ("SELECT a.f(1)", "read-only (select of unknown effect)"),
        ],
    );
}

#[test]
fn statements_prepared_in_sql_share_the_fate_of_their_preparation() {
    let rules = rules(&[("read-only", true.into())]);
    let mut named = Named::default();
    for (text, kept) in [
        ("PREPARE r FROM 'SELECT ?'", true),
        ("PREPARE w FROM 'DELETE FROM t'", false),
        ("EXECUTE R USING @a", true),
        ("EXECUTE w", false),
        ("DEALLOCATE PREPARE w", false),
        ("EXECUTE w", false),
        ("PREPARE r FROM 'DELETE FROM t'", false),
        ("EXECUTE r", false),
        ("PREPARE w FROM 'SELECT 1'; EXECUTE w; DEALLOCATE PREPARE w", true),
    ] {
        let choice = rules.statement(None, text.as_bytes(), mode(), &mut named);
        assert_eq!(choice == Choice::Keep, kept, "{text}: {choice:?}");
    }
    named.clear();
    assert_ne!(rules.statement(None, b"EXECUTE r", mode(), &mut named), Choice::Keep);
}

#[test]
fn kinds() {
    let keep = rules(&[("keep-statements", ["select", "@lock"].into())]);
    assert_all(
        &keep,
        &[
            ("SELECT 1", ""),
            ("HANDLER t OPEN", ""),
            ("SHOW TABLES", "keep-statements (show)"),
            ("INSERT INTO t VALUES (1)", "keep-statements (insert)"),
            ("SET @a = 1", ""),
            ("SET GLOBAL a = 1", "keep-statements (set)"),
            ("BEGIN", ""),
        ],
    );
    let drop = rules(&[("drop-statements", ["begin", "@write"].into())]);
    assert_all(
        &drop,
        &[
            ("BEGIN", "drop-statements (begin)"),
            ("DELETE FROM t", "drop-statements (delete)"),
            ("SELECT 1 INTO OUTFILE 'x'", "drop-statements (select)"),
            ("SELECT f(1)", ""),
        ],
    );
}

#[test]
fn databases() {
    let keep = rules(&[("keep-databases", ["sh*"].into())]);
    let other = |rules: &Rules, database: Option<&[u8]>, text: &str| {
        rules.statement(database, text.as_bytes(), mode(), &mut Named::default())
    };
    assert_all(&keep, &[("SELECT * FROM t", ""), ("SELECT * FROM other.t", "")]);
    for database in [None, Some(&b"other"[..])] {
        assert_eq!(other(&keep, database, "SELECT 1"), Choice::Drop(Rule::NoKeptDatabase));
        assert_eq!(other(&keep, database, "SELECT * FROM `shop` . t"), Choice::Keep);
        assert_eq!(other(&keep, database, "SET NAMES utf8"), Choice::Keep);
        assert_eq!(other(&keep, database, "USE other"), Choice::Keep);
    }
    let drop = rules(&[("drop-databases", ["shop"].into())]);
    assert_all(&drop, &[("SELECT 1", "drop-databases"), ("BEGIN", "")]);
    assert_eq!(other(&drop, None, "SELECT 1"), Choice::Keep);
    assert_eq!(other(&drop, Some(b"x"), "SELECT * FROM shop.t"), Choice::Drop(Rule::DroppedDatabase));
    assert_eq!(other(&drop, Some(b"x"), "SELECT a.shop.t, 'shop.t' FROM b.shop"), Choice::Keep);
}

#[test]
fn texts_and_functions() {
    let rules = rules(&[
        ("drop-matching", ["secret", r"(?i)^\s*delete"].into()),
        ("keep-matching", ["orders", "\u{FFFD}"].into()),
        ("drop-functions", ["sleep", "bench*"].into()),
    ]);
    assert_all(
        &rules,
        &[
            ("SELECT * FROM orders", ""),
            ("SELECT * FROM other", "keep-matching"),
            ("SET @a = 1", ""),
            ("SELECT secret FROM orders", "drop-matching (expression 1)"),
            ("DELETE FROM orders", "drop-matching (expression 2)"),
            ("SELECT SLEEP (1) FROM orders", "drop-functions"),
            ("SELECT `benchmark`(1, 2) FROM orders", "drop-functions"),
            ("SELECT sleep FROM orders", ""),
        ],
    );
    let lossy = rules.statement(None, b"SELECT '\xFF'", mode(), &mut Named::default());
    assert_eq!(lossy, Choice::Keep);
}

#[test]
fn users() {
    let rules = rules(&[("keep-users", ["app_*"].into()), ("drop-users", ["app_test"].into())]);
    assert_eq!(rules.login(b"app_web"), Choice::Keep);
    assert_eq!(rules.login(b"app_test"), Choice::Drop(Rule::DroppedUser));
    assert_eq!(rules.login(b"root"), Choice::Drop(Rule::NoKeptUser));
}

#[test]
fn a_session_that_is_astray() {
    for (text, choice) in [
        ("USE a; DELETE FROM t", Choice::Keep),
        ("SET @a = 1; COMMIT", Choice::Keep),
        ("", Choice::Keep),
        ("SET @a = 1; DELETE FROM t", Choice::Drop(Rule::Astray)),
        ("DELETE FROM t; USE a", Choice::Drop(Rule::Astray)),
        ("SELECT 1", Choice::Drop(Rule::Astray)),
        ("PREPARE a FROM 'DELETE FROM t'", Choice::Drop(Rule::Astray)),
    ] {
        assert_eq!(while_astray(text.as_bytes(), mode()), choice, "{text}");
    }
}

#[test]
fn commands_without_a_text() {
    let plain = rules(&[]);
    let read_only = rules(&[("read-only", true.into())]);
    for (code, unless_plain, unless_read_only) in [
        (0x01, true, true),
        (0x02, true, true),
        (0x04, true, true),
        (0x05, true, false),
        (0x06, true, false),
        (0x07, true, false),
        (0x08, false, false),
        (0x09, true, true),
        (0x0C, false, false),
        (0x0E, true, true),
        (0x11, true, true),
        (0x12, false, false),
        (0x16, true, true),
        (0x1F, true, true),
    ] {
        assert_eq!(plain.command(None, code) == Choice::Keep, unless_plain, "{code:#x}");
        assert_eq!(
            read_only.command(None, code) == Choice::Keep,
            unless_read_only,
            "{code:#x} with read-only"
        );
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (settings, expected) in [
        (
            ("drop-statements", Value::from(["inserts"])),
            "drop-statements: there is no kind of statement \"inserts\"",
        ),
        (
            ("keep-statements", Value::from(["@writes"])),
            "keep-statements: there is no group \"@writes\"; there are @read",
        ),
        (("drop-matching", Value::from(["("])), "drop-matching: \"(\" is no regular expression"),
        (("allow-dangerous", Value::from(["select"])), "allow-dangerous: \"select\" is not dangerous"),
        (("sql-mode", Value::from(["traditional"])), "sql-mode: \"traditional\" is neither"),
    ] {
        let text = refused(&[settings]);
        assert!(text.starts_with(expected), "{text}");
    }
    let mode = rules(&[("sql-mode", ["ANSI_QUOTES", "no-backslash-escapes"].into())]).initial_mode();
    assert_eq!(mode.quotes, crate::sql::DoubleQuotes::Name);
    assert_eq!(mode.backslashes, crate::sql::Backslashes::Plain);
}

proptest! {
    /// What is left of a text has nothing in it that the rules would drop, whatever was between its parts.
    #[test]
    fn the_rest_of_a_text_is_kept_as_it_is(
        text in crate::sql::testing::any_text(),
        mode in crate::sql::testing::any_mode(),
        database in any::<bool>(),
    ) {
        let rules = Rules::new(Options { read_only: true, ..Options::default() });
        let database = database.then_some(&b"db"[..]);
        let mode = Mode { extent: crate::sql::Extent::Whole, ..mode };
        if let Choice::Part { text: rest, dropped } = rules.statement(database, &text, mode, &mut Named::default()) {
            prop_assert!(!dropped.is_empty());
            let kept: Vec<_> = Statements::of(&text, mode)
                .filter(|statement| rest.windows(statement.text.len()).any(|part| part == statement.text))
                .collect();
            prop_assert!(!kept.is_empty());
            let again: Vec<_> = Statements::of(&rest, mode).collect();
            prop_assert!(again.len() <= kept.len());
            for statement in again {
                prop_assert!(
                    statement.effect.is_harmless() || matches!(statement.kind, Kind::Prepare | Kind::Execute),
                    "{:?}", statement
                );
            }
        }
    }
}
