use super::*;
use crate::sql::{Charset, DoubleQuotes};
use plugin_sdk::testing::Harness;
use plugin_sdk::{Actions, ConfigError, Descriptor, Inputs, Needs, Opening, Plugin, Value};
use proptest::prelude::*;
use std::cell::RefCell;

thread_local! {
    static READ: RefCell<Option<Rewrite>> = const { RefCell::new(None) };
}

/// Reads options, and does nothing.
struct Reader;

impl Plugin for Reader {
    type Session = ();

    fn descriptor() -> Descriptor {
        options().into_iter().fold(Descriptor::new("rewrite", "0"), Descriptor::option)
    }

    fn configure(settings: &Settings) -> Result<Self, ConfigError> {
        READ.set(Some(Rewrite::from_settings(settings)?));
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

fn rewrite(settings: &[(&str, Value)]) -> Rewrite {
    Harness::<Reader>::new(settings);
    READ.take().expect("read")
}

fn mapping() -> (&'static str, Value) {
    ("databases", Value::from([("db", "copy"), ("we`ird", "a`b"), ("x", "7")]))
}

const ALSO_QUALIFIED: (&str, Value) = ("map-qualified-names", Value::Boolean(true));

#[track_caller]
fn assert_all(rewrite: &Rewrite, mode: Mode, table: &[(&str, &str)]) {
    for (text, expected) in table {
        let changed = rewrite.statement(text.as_bytes(), mode);
        let shown = changed.as_ref().map(|text| String::from_utf8_lossy(text).into_owned());
        assert_eq!(shown.as_deref().unwrap_or(text), *expected);
        assert_eq!(changed.is_none(), text == expected, "{text}");
    }
}

#[test]
fn databases_are_mapped_where_they_are_chosen() {
    let rewrite = rewrite(&[mapping()]);
    assert_all(
        &rewrite,
        Mode::default(),
        &[
            ("USE db", "USE copy"),
            ("/* a */ use `db` -- b", "/* a */ use `copy` -- b"),
            ("USE `we``ird`;", "USE `a``b`;"),
            ("USE x", "USE `7`"),
            ("USE other", "USE other"),
            ("USE 'db'", "USE 'db'"),
            ("SELECT 1; USE db; USE db;", "SELECT 1; USE copy; USE copy;"),
            ("SELECT * FROM db.t", "SELECT * FROM db.t"),
            ("SHOW TABLES FROM db", "SHOW TABLES FROM db"),
        ],
    );
    assert_eq!(&*rewrite.database(b"db"), b"copy");
    assert_eq!(&*rewrite.database(b"DB"), b"DB");
    assert!(!rewrite.is_empty());
}

#[test]
fn qualified_names_are_mapped_when_asked_for() {
    let rewrite = rewrite(&[mapping(), ALSO_QUALIFIED]);
    assert_all(
        &rewrite,
        Mode::default(),
        &[
            (
                "SELECT db.t.c, `db`.*, 'db.t', @db.t FROM db . t",
                "SELECT copy.t.c, `copy`.*, 'db.t', @db.t FROM copy . t",
            ),
            ("SELECT a.db.c FROM a.db /* db.t */", "SELECT a.db.c FROM a.db /* db.t */"),
            ("SELECT db FROM db", "SELECT db FROM db"),
            ("CREATE DATABASE IF NOT EXISTS db", "CREATE DATABASE IF NOT EXISTS copy"),
            ("DROP SCHEMA db", "DROP SCHEMA copy"),
            ("SHOW CREATE DATABASE db", "SHOW CREATE DATABASE copy"),
            ("SHOW TABLES FROM db LIKE 'db'", "SHOW TABLES FROM copy LIKE 'db'"),
            ("SHOW FULL COLUMNS FROM db FROM db", "SHOW FULL COLUMNS FROM db FROM copy"),
            ("SHOW INDEX IN db.t", "SHOW INDEX IN copy.t"),
            (
                "USE db; INSERT INTO db.t SELECT * FROM x.u",
                "USE copy; INSERT INTO copy.t SELECT * FROM `7`.u",
            ),
            ("SELECT 1.db, .5 FROM db.5t", "SELECT 1.db, .5 FROM copy.5t"),
            ("/*!50000 SELECT * FROM db.t */", "/*!50000 SELECT * FROM copy.t */"),
            ("SELECT * FROM \"db\".t", "SELECT * FROM \"db\".t"),
        ],
    );
    let ansi = Mode { quotes: DoubleQuotes::Name, charset: Charset::Wide, ..Mode::default() };
    assert_all(&rewrite, ansi, &[("SELECT * FROM \"db\".t", "SELECT * FROM `copy`.t")]);
}

#[test]
fn a_comment_goes_before_each_text() {
    let rewrite = rewrite(&[("comment", "replay".into())]);
    assert_all(
        &rewrite,
        Mode::default(),
        &[("SELECT 1", "/* replay */ SELECT 1"), ("SELECT 1; SELECT 2", "/* replay */ SELECT 1; SELECT 2")],
    );
    assert_eq!(rewrite.prefix(), b"/* replay */ ");
    let both = self::rewrite(&[("comment", "replay".into()), mapping()]);
    assert_all(&both, Mode::default(), &[("USE db", "/* replay */ USE copy")]);
}

#[test]
fn nothing_is_done_without_options() {
    let rewrite = rewrite(&[]);
    assert!(rewrite.is_empty());
    assert_eq!(rewrite.statement(b"USE db", Mode::default()), None);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for settings in [
        ("comment", Value::from("a */ DROP TABLE t /*")),
        ("comment", Value::from("!50000 DROP TABLE t")),
        ("comment", Value::from("+ SET_VAR(a = 1)")),
        ("comment", Value::from("M!100000 DROP TABLE t")),
        ("comment", Value::from("a\nb")),
        ("comment", Value::from("ä")),
        ("map-qualified-names", Value::from(true)),
        ("databases", Value::from([("a", "")])),
    ] {
        let name = settings.0;
        let Err(error) = Harness::<Reader>::try_new(&[settings]) else { panic!("{name} is taken") };
        let text = error.to_string();
        assert!(text.starts_with(name), "{text}");
    }
}

proptest! {
    #[test]
    fn all_but_names_stays_as_it_is(
        text in crate::sql::testing::any_text(),
        mode in crate::sql::testing::any_mode(),
    ) {
        let plain = Rewrite {
            databases: vec![(b"db".to_vec(), b"DBDB".to_vec())],
            qualified: Qualified::Mapped,
            comment: Vec::new(),
        };
        let Some(changed) = plain.statement(&text, mode) else { return Ok(()) };
        // Taking the names back gives the text back.
        let mut back = Vec::new();
        let (mut left, mut right) = (&text[..], &changed[..]);
        while !right.is_empty() {
            if left.starts_with(b"db") && right.starts_with(b"DBDB") {
                back.extend_from_slice(b"db");
                (left, right) = (&left[2..], &right[4..]);
            } else {
                back.push(right[0]);
                (left, right) = (left.get(1..).unwrap_or_default(), &right[1..]);
            }
        }
        prop_assert_eq!(back, text);
    }

    #[test]
    fn what_is_mapped_to_itself_changes_nothing(
        text in crate::sql::testing::any_text(),
        mode in crate::sql::testing::any_mode(),
    ) {
        let same = Rewrite {
            databases: vec![(b"db".to_vec(), b"db".to_vec())],
            qualified: Qualified::Mapped,
            comment: b"/* c */ ".to_vec(),
        };
        let changed = same.statement(&text, mode).expect("a comment");
        let quotes = |text: &[u8]| String::from_utf8_lossy(text).replace("\"db\"", "`db`");
        prop_assert_eq!(quotes(&changed[8..]), quotes(&text));
    }
}
