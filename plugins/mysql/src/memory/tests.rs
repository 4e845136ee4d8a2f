use super::*;
use proptest::prelude::*;

fn memory() -> Memory {
    let mut memory = Memory::new(Mode::default());
    memory.set_server(Server::MySql(80_403));
    memory.set_collation(255);
    memory
}

fn restored(memory: &Memory) -> Vec<String> {
    memory.restore().iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

fn after(texts: &[&str]) -> Memory {
    let mut memory = memory();
    for text in texts {
        memory.ran(text.as_bytes(), Extent::Whole);
    }
    memory
}

#[test]
fn settings_are_run_again_in_order() {
    let texts = [
        "SET NAMES utf8mb4",
        "SET @a = 1, @@session.sql_mode = 'TRADITIONAL'",
        "SELECT 1",
        "INSERT INTO t VALUES ('@a')",
        "/*!40101 SET character_set_results = NULL */",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SELECT id INTO @b FROM t LIMIT 1",
        "PREPARE p FROM 'SELECT ?'",
    ];
    let kept = [0, 1, 4, 5, 6, 7].map(|index| texts[index]);
    assert_eq!(restored(&after(&texts)), kept);
}

#[test]
fn what_is_overwritten_is_not_run_again() {
    assert_eq!(restored(&after(&["SET autocommit=0", "SET autocommit = 1"])), ["SET autocommit = 1"]);
    assert_eq!(restored(&after(&["SET @A = 1", "set @`a` := 2"])), ["set @`a` := 2"]);
    assert_eq!(
        restored(&after(&["SET SESSION x=1, @y=2", "SET @@x=2"])),
        ["SET SESSION x=1, @y=2", "SET @@x=2"]
    );
    // What was made from it stays as it was.
    let made = ["SET @a = 1", "SET @b = @a", "SET @a = 2"];
    assert_eq!(restored(&after(&made)), made);
    let counts = ["SET @a = 1", "SET @a = @a + 1"];
    assert_eq!(restored(&after(&counts)), counts);
    assert_eq!(restored(&after(&["PREPARE p FROM 'SELECT 1'", "DEALLOCATE PREPARE P"])), [""; 0]);
}

#[test]
fn what_is_for_others_or_for_once_is_not_run_again() {
    for text in [
        "SET GLOBAL max_connections = 5",
        "SET PERSIST max_connections = 5",
        "SET @@global.max_connections = 5",
        "SET TRANSACTION READ ONLY",
        "SET insert_id = 5",
        "SET PASSWORD = 'x'",
        "SELECT @@sql_mode",
        "SELECT '@a' FROM t",
    ] {
        assert_eq!(restored(&after(&[text])), [""; 0], "{text}");
    }
}

#[test]
fn settings_are_bounded() {
    let mut memory = memory();
    for number in 0..MAX_STATEMENTS + 10 {
        memory.ran(format!("SET @a{number} = 1").as_bytes(), Extent::Whole);
    }
    memory.ran(&[b"SET @x = '", &vec![b'x'; MAX_BYTES][..], b"'"].concat(), Extent::Whole);
    memory.ran(b"SET @y = 'the beginning", Extent::Beginning);
    assert_eq!(memory.restore().len(), MAX_STATEMENTS);
    assert_eq!(memory.connection_lost().settings, 12);
    assert_eq!(memory.connection_lost(), Lost::default());
}

#[test]
fn the_database_is_the_last_one_chosen() {
    let mut memory = after(&["USE a", "use `b``c`"]);
    assert_eq!(memory.database(), Some(&b"b`c"[..]));
    let undo = memory.ran(b"USE d; SET @a = 1", Extent::Whole).expect("it changes the session");
    assert_eq!(memory.database(), Some(&b"d"[..]));
    memory.failed(undo, Refused::ByBoth);
    assert!(!memory.is_astray());
    assert_eq!(memory.database(), Some(&b"b`c"[..]));
    assert!(memory.restore().is_empty());
    memory.reset();
    assert_eq!(memory.database(), Some(&b"b`c"[..]));
    memory.changed_user(b"", None);
    assert_eq!(memory.database(), None);
    assert_eq!(memory.set_database(b""), None);
}

#[test]
fn a_session_is_astray_while_the_target_lacks_its_database() {
    let mut memory = after(&["USE a"]);
    let undo = memory.ran(b"USE b", Extent::Whole).expect("it changes the session");
    memory.failed(undo, Refused::ByTarget);
    assert_eq!((memory.database(), memory.is_astray()), (Some(&b"a"[..]), true));
    memory.ran(b"SET @a = 1", Extent::Whole);
    memory.reset();
    assert!(memory.is_astray());
    // Back in the database that the target never left: still something to take back if that fails too.
    assert!(memory.ran(b"USE a", Extent::Whole).is_some());
    assert!(!memory.is_astray());
}

#[test]
fn what_is_sent_again_finds_what_it_found() {
    let mut memory = after(&["USE a", "SET @a = 1"]);
    let again: Vec<_> = ["SET @b = 2", "USE c", "USE d"]
        .iter()
        .filter_map(|text| memory.ran(text.as_bytes(), Extent::Whole))
        .collect();
    assert_eq!(memory.database_before(again.iter()), Some(&b"a"[..]));
    assert_eq!(memory.database_before(again[2..].iter()), Some(&b"c"[..]));
    assert_eq!(memory.database_before(std::iter::empty()), Some(&b"d"[..]));
    assert_eq!(memory.restore_before(again.iter()), [b"SET @a = 1".to_vec()]);
    assert_eq!(restored(&memory), ["SET @a = 1", "SET @b = 2"]);
}

#[test]
fn quoting_follows_the_sql_mode() {
    use Backslashes::{Escape, Plain};
    use DoubleQuotes::{Name, String};
    for (text, quotes, backslashes) in [
        ("SET sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES'", Name, Escape),
        ("SET SESSION sql_mode = ANSI", Name, Escape),
        ("SET @@sql_mode := 'no_backslash_escapes'", String, Plain),
        ("SET sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')", Name, Escape),
        ("SET sql_mode = 4", Name, Escape),
        ("SET GLOBAL sql_mode = 'ANSI_QUOTES'", String, Escape),
        ("SET @a = 'ANSI_QUOTES'", String, Escape),
        ("SET sql_mode = 'ANSI_QUOTES'; SET sql_mode = ''", String, Escape),
        ("SET @OLD_SQL_MODE = @@SQL_MODE, SQL_MODE='ANSI'; SET SQL_MODE=@OLD_SQL_MODE", String, Escape),
        ("SET sql_mode = 'ANSI'; SET sql_mode = REPLACE(@@sql_mode, 'ANSI_QUOTES', '')", String, Escape),
        ("SET sql_mode = 'ANSI'; SET sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')", Name, Escape),
    ] {
        let mode = after(&[text]).mode();
        assert_eq!((mode.quotes, mode.backslashes), (quotes, backslashes), "{text}");
    }
    let mut memory = memory();
    memory.status(status::NO_BACKSLASH_ESCAPES);
    assert_eq!(memory.mode().backslashes, Plain);
    // A status that was on its way says nothing of what was set since.
    let undo = memory.ran(b"SET sql_mode = ''", Extent::Whole).expect("it sets something");
    memory.status(status::NO_BACKSLASH_ESCAPES);
    assert_eq!(memory.mode().backslashes, Escape);
    memory.failed(undo, Refused::ByTarget);
    memory.status(status::NO_BACKSLASH_ESCAPES);
    assert_eq!(memory.mode().backslashes, Plain);
    memory.ran(b"SET sql_mode = ''; SET sql_mode = @saved", Extent::Whole);
    memory.status(status::NO_BACKSLASH_ESCAPES);
    assert_eq!(memory.mode().backslashes, Plain);
    memory.tracked(b"sql_mode", b"ANSI_QUOTES");
    assert_eq!(memory.mode().quotes, Name);
}

#[test]
fn the_character_set_follows_the_client() {
    for (text, charset) in [
        ("SET NAMES gbk", Charset::Gbk),
        ("set names 'sjis' collate 'sjis_bin'", Charset::Sjis),
        ("SET CHARACTER SET big5", Charset::Big5),
        ("SET character_set_client = latin1", Charset::Latin1),
        ("SET character_set_client = @saved", Charset::Unknown),
        ("SET NAMES gbk; SET NAMES DEFAULT", Charset::Wide),
        ("SET character_set_results = gbk", Charset::Wide),
    ] {
        assert_eq!(after(&[text]).mode().charset, charset, "{text}");
    }
    let mut memory = after(&["SET NAMES gbk"]);
    memory.tracked(b"character_set_client", b"utf8mb4");
    assert_eq!(memory.mode().charset, Charset::Wide);
}

#[test]
fn what_cannot_be_made_again_is_counted() {
    let mut memory = after(&[
        "CREATE TEMPORARY TABLE a (b INT)",
        "CREATE TEMPORARY TABLE IF NOT EXISTS c SELECT 1",
        "CREATE TABLE d (e INT)",
        "DROP TABLE IF EXISTS c",
        "LOCK TABLES a READ",
        "SELECT GET_LOCK ('x', 1)",
        "SELECT @n := @n + 1 FROM t",
    ]);
    memory.status(status::IN_TRANSACTION);
    let lost = memory.connection_lost();
    assert_eq!(
        lost,
        Lost { transactions: 1, temporary_tables: 1, table_locks: 1, user_locks: 1, settings: 1 }
    );
    assert_eq!(lost.counts().iter().map(|(_, count)| count).sum::<u32>(), 5);
    assert_eq!(memory.connection_lost(), Lost::default());
    let mut unlocked = after(&["LOCK TABLES a READ", "UNLOCK TABLES"]);
    assert_eq!(unlocked.connection_lost(), Lost::default());
}

#[test]
fn prepared_statements_that_set_something() {
    let mut memory = memory();
    memory.executed(b"SET NAMES gbk", 0);
    memory.executed(b"SET @a = ?", 1);
    memory.executed(b"SELECT ?", 1);
    assert_eq!(restored(&memory), ["SET NAMES gbk"]);
    assert_eq!(memory.connection_lost().settings, 1);
}

proptest! {
    #[test]
    fn what_is_remembered_was_sent_and_is_bounded(
        texts in prop::collection::vec(crate::sql::testing::any_text(), 0..12),
        mode in crate::sql::testing::any_mode(),
    ) {
        let mut memory = Memory::new(Mode { extent: Extent::Whole, ..mode });
        for text in &texts {
            let before = memory.database().map(<[u8]>::to_vec);
            if let Some(undo) = memory.ran(text, Extent::Whole) {
                let mut other = Memory::new(mode);
                other.set_database(before.as_deref().unwrap_or_default());
                memory.failed(undo, Refused::ByBoth);
                prop_assert_eq!(memory.database(), other.database());
                memory.ran(text, Extent::Whole);
            }
        }
        let restored = memory.restore();
        prop_assert!(restored.iter().map(Vec::len).sum::<usize>() <= MAX_BYTES);
        prop_assert_eq!(memory.bytes, restored.iter().map(Vec::len).sum::<usize>());
        for text in &restored {
            prop_assert!(texts.iter().any(|sent| sent.windows(text.len()).any(|part| part == text)));
        }
    }
}
