//! Tables of texts and what they are.

use super::*;

const MYSQL: Server = Server::MySql(80_403);
const MARIA: Server = Server::MariaDb(110_803);

fn mode(server: Server) -> Mode {
    Mode { charset: Charset::Wide, server, ..Mode::default() }
}

/// Kind and effect of each statement.
fn verdicts(text: &[u8], mode: Mode) -> Vec<(Kind, Effect)> {
    Statements::of(text, mode).map(|statement| (statement.kind, statement.effect)).collect()
}

#[track_caller]
fn assert_one(text: &str, server: Server, kind: Kind, effect: Effect) {
    assert_eq!(verdicts(text.as_bytes(), mode(server)), [(kind, effect)], "{text}");
    assert_eq!(Statements::quick(text.as_bytes(), mode(server)), Some(kind), "{text}");
}

#[test]
fn queries_that_read() {
    for text in [
        "SELECT 1",
        "select * from t where a = 'FOR UPDATE'",
        "SELECT `for` update_time FROM t -- FOR UPDATE",
        "SELECT a /* INTO OUTFILE 'x' */ FROM t # FOR UPDATE",
        "(SELECT 1) UNION (SELECT 2) ORDER BY 1",
        "((SELECT 1))",
        "TABLE t",
        "VALUES ROW(1, 2), ROW(3, 4)",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "WITH RECURSIVE a (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a), b(m) AS (SELECT 2) SELECT * FROM a JOIN b",
        "WITH a AS (SELECT 1) (SELECT * FROM a)",
        "SELECT COUNT(*), max(a), IF(a, b, c), INSERT('a', 1, 2, 'b'), REPLACE(a, 'b', 'c') FROM t",
        "SELECT CAST(a AS CHAR(10)), CONVERT(b, DECIMAL(10, 2)), DATE_ADD(NOW(), INTERVAL (1) DAY) FROM t",
        "SELECT * FROM t USE INDEX (a) IGNORE INDEX FOR ORDER BY (b) WHERE (a) IN (1) AND (b) = ANY (SELECT 1)",
        "SELECT SUBSTRING(a FROM 1 FOR 2) FROM t",
        "SELECT * FROM t FOR SYSTEM_TIME AS OF TIMESTAMP ('2020-01-01')",
        "SELECT SUM(a) OVER (PARTITION BY b ORDER BY c) FROM t WINDOW w AS (PARTITION BY d)",
        "SELECT * FROM (SELECT 1 AS x) AS d (y)",
        "SELECT * FROM t PARTITION (p0, p1) WHERE MATCH (a) AGAINST ('b' IN BOOLEAN MODE)",
        "SELECT t.update, t.delete, for.x FROM t",
        "SELECT SLEEP(0), BENCHMARK(1, 1), LASTVAL(s)",
        "SELECT SQL_NO_CACHE (a) FROM t GROUP BY (a) HAVING (a) > 1 LIMIT 1",
        "SELECT '\\'; DELETE FROM t; \\''",
        "SELECT 1 /*!40000 + 1 */",
        "SELECT /*+ SET_VAR(sort_buffer_size = 16M) */ 1",
        "SELECT a--1 FROM t",
        "SELECT DISTINCT (a) FROM t1 STRAIGHT_JOIN t2 USING (id)",
        "SELECT PREVIOUS VALUE FOR s",
        "SELECT * FROM JSON_TABLE('[]', '$[*]' COLUMNS (a INT PATH '$', NESTED PATH '$' COLUMNS (b INT PATH '$'))) AS j",
        "SELECT 1 MEMBER OF ('[1]'), MD5(a)",
    ] {
        assert_one(text, MARIA, Kind::Select, Effect::Reads);
    }
}

#[test]
fn queries_that_do_more() {
    for (text, effect) in [
        ("SELECT * FROM t FOR UPDATE", Effect::Locks),
        ("SELECT * FROM t FOR/**/UPDATE NOWAIT", Effect::Locks),
        ("SELECT * FROM t for -- x\n share SKIP LOCKED", Effect::Locks),
        ("SELECT * FROM t LOCK IN SHARE MODE", Effect::Locks),
        ("SELECT * FROM (SELECT * FROM t FOR UPDATE) AS d", Effect::Locks),
        ("(SELECT * FROM t) FOR UPDATE", Effect::Locks),
        ("SELECT * FROM t WHERE a = 1FOR UPDATE", Effect::Unsure),
        ("SELECT * FROM t WHERE a = 1e5FOR UPDATE", Effect::Locks),
        ("SELECT * FROM t WHERE a = 1.FOR UPDATE", Effect::Locks),
        ("SELECT * FROM t WHERE a = .5FOR UPDATE", Effect::Locks),
        ("SELECT * FROM t WHERE a = 'x'FOR UPDATE", Effect::Locks),
        ("SELECT * FROM t WHERE a = @b FOR UPDATE", Effect::Locks),
        ("SELECT * FROM a. for UPDATE", Effect::Locks),
        ("SELECT * FROM t /*! FOR UPDATE */", Effect::Locks),
        ("SELECT * FROM t /*!50000 FOR UPDATE */", Effect::Locks),
        ("SELECT * FROM t /*!40000 FOR */ UPDATE", Effect::Locks),
        ("SELECT * INTO OUTFILE '/tmp/x' FROM t", Effect::Writes),
        ("SELECT * FROM t INTO DUMPFILE '/tmp/x'", Effect::Writes),
        ("TABLE t INTO OUTFILE '/tmp/x'", Effect::Writes),
        ("SELECT 1 INTO @a", Effect::Session),
        ("SELECT 1, 2 INTO @a, @b FROM t", Effect::Session),
        ("SELECT 1 INTO @a FOR UPDATE", Effect::Locks),
        ("SELECT @a := 1", Effect::Session),
        ("SELECT 1 INTO a", Effect::Unsure),
        ("SELECT GET_LOCK('a', 1)", Effect::Locks),
        ("SELECT release_lock ('a')", Effect::Locks),
        ("SELECT NEXTVAL(s)", Effect::Writes),
        ("SELECT NEXT VALUE FOR s", Effect::Writes),
        ("SELECT s.nextval", Effect::Writes),
        ("SELECT SETVAL(s, 5)", Effect::Writes),
        ("SELECT LAST_INSERT_ID(5)", Effect::Session),
        ("SELECT f(1)", Effect::Unsure),
        ("SELECT f (1)", Effect::Unsure),
        ("SELECT columns(1), 2", Effect::Unsure),
        ("SELECT 1, against (2)", Effect::Unsure),
        ("SELECT a FROM t GROUP BY a WITH ROLLUP HAVING f(1)", Effect::Unsure),
        ("SELECT DEFAULT(a) FROM t", Effect::Unsure),
        ("SELECT a.f(1)", Effect::Unsure),
        ("SELECT a.now()", Effect::Unsure),
        ("SELECT `now`()", Effect::Reads),
        ("SELECT `my``now`()", Effect::Unsure),
        ("SELECT * FROM t WHERE a IN (SELECT f(b) FROM c)", Effect::Unsure),
        ("SELECT $a$ FROM t", Effect::Unsure),
        ("WITH a AS (SELECT f(1)) SELECT * FROM a", Effect::Unsure),
        ("SELECT * FROM t, DELETE FROM u", Effect::Unsure),
    ] {
        assert_one(text, MYSQL, Kind::Select, effect);
    }
}

#[test]
fn common_table_expressions_before_what_writes() {
    for (text, kind) in [
        ("WITH a AS (SELECT 1) UPDATE t, a SET b = 1", Kind::Update),
        ("WITH a AS (SELECT 1), b AS (SELECT 2) DELETE FROM t WHERE c IN (SELECT * FROM a)", Kind::Delete),
        ("/* x */ with recursive a(n) as (select 1) delete t from t join a", Kind::Delete),
        ("SET STATEMENT max_statement_time = 1 FOR UPDATE t SET a = 1", Kind::Update),
        ("SET STATEMENT a = 1, b = 2 FOR INSERT INTO t SELECT 1", Kind::Insert),
    ] {
        assert_one(text, MARIA, kind, Effect::Writes);
    }
    assert_one("SET STATEMENT max_statement_time = 1 FOR SELECT 1", MARIA, Kind::Select, Effect::Reads);
}

#[test]
fn comments_that_some_servers_run() {
    let long = [
        // Text, effect on MySQL 8.4, MariaDB 11.8, and a server that is not known.
        ("SELECT 1 /*! INTO OUTFILE 'x' */", Effect::Writes, Effect::Writes, Effect::Writes),
        ("SELECT 1 /*!80000 INTO OUTFILE 'x' */", Effect::Writes, Effect::Reads, Effect::Writes),
        ("SELECT 1 /*!90000 INTO OUTFILE 'x' */", Effect::Reads, Effect::Reads, Effect::Writes),
        ("SELECT 1 /*M! INTO OUTFILE 'x' */", Effect::Reads, Effect::Writes, Effect::Writes),
        ("SELECT 1 /*M!100100 INTO OUTFILE 'x' */", Effect::Reads, Effect::Writes, Effect::Writes),
        ("SELECT 1 /*M!120000 INTO OUTFILE 'x' */", Effect::Reads, Effect::Reads, Effect::Writes),
        ("SELECT 1 /*!100100 INTO OUTFILE 'x' */", Effect::Writes, Effect::Writes, Effect::Writes),
        ("/*!99999 EXPLAIN */ DELETE FROM t", Effect::Writes, Effect::Writes, Effect::Unsure),
        ("/*!50000 EXPLAIN */ DELETE FROM t", Effect::Reads, Effect::Reads, Effect::Reads),
        ("SELECT 1 /*!99999 /* */ */ ", Effect::Reads, Effect::Reads, Effect::Unsure),
        ("SELECT 1 /*!50000 + 1 -- */ INTO OUTFILE 'x'\n */", Effect::Reads, Effect::Reads, Effect::Reads),
        ("SELECT 1 /* /*! */ INTO OUTFILE 'x'", Effect::Writes, Effect::Writes, Effect::Writes),
    ];
    for (text, mysql, maria, unknown) in long {
        for (server, effect) in [(MYSQL, mysql), (MARIA, maria), (Server::Unknown, unknown)] {
            let found: Vec<_> =
                verdicts(text.as_bytes(), mode(server)).iter().map(|(_, effect)| *effect).collect();
            assert_eq!(found, [effect], "{text} on {server:?}");
        }
    }
}

#[test]
fn other_statements() {
    use Effect::{Locks, Reads, Session, Unsure, Writes};
    for (text, kind, effect) in [
        ("INSERT INTO t (a) VALUES (1)", Kind::Insert, Writes),
        ("/*!40000 INSERT */ INTO t VALUES (1)", Kind::Insert, Writes),
        ("REPLACE t SELECT 1", Kind::Replace, Writes),
        ("UPDATE t SET a = 1", Kind::Update, Writes),
        ("delete from t", Kind::Delete, Writes),
        ("CALL p()", Kind::Call, Writes),
        ("LOAD DATA LOCAL INFILE 'x' INTO TABLE t", Kind::LoadData, Writes),
        ("LOAD XML INFILE 'x' INTO TABLE t", Kind::LoadData, Writes),
        ("LOAD INDEX INTO CACHE t", Kind::Admin, Writes),
        ("CREATE TABLE t (a INT)", Kind::Ddl, Writes),
        ("CREATE TEMPORARY TABLE t (a INT)", Kind::Ddl, Writes),
        ("TRUNCATE t", Kind::Ddl, Writes),
        ("RENAME TABLE a TO b", Kind::Ddl, Writes),
        ("CREATE USER a", Kind::Grant, Writes),
        ("CREATE OR REPLACE ROLE a", Kind::Grant, Writes),
        ("DROP USER a", Kind::Grant, Writes),
        ("GRANT ALL ON *.* TO a", Kind::Grant, Writes),
        ("SET PASSWORD = 'x'", Kind::Grant, Writes),
        ("SET DEFAULT ROLE a TO b", Kind::Grant, Writes),
        ("USE a", Kind::Use, Session),
        ("SET NAMES utf8mb4", Kind::Set, Session),
        ("SET @a = 1, SESSION b = 2, @@c = 3, @@session.d = 4, LOCAL e = 5", Kind::Set, Session),
        ("SET GLOBAL a = 1", Kind::Set, Writes),
        ("SET a = 1, GLOBAL b = 2", Kind::Set, Writes),
        ("SET @a = 1, @@persist.b = 2", Kind::Set, Writes),
        ("SET @@`global`.b = 2", Kind::Set, Writes),
        ("SET @@GLOBAL.a = 1", Kind::Set, Writes),
        ("SET PERSIST_ONLY a = 1", Kind::Set, Writes),
        ("SET @a = 1, PASSWORD = 'x'", Kind::Set, Writes),
        ("SET gtid_next = 'a:1'", Kind::Set, Unsure),
        ("SET SESSION gtid_next = 'a:1'", Kind::Set, Unsure),
        ("SET @a = 1, @@session.gtid_next = 'a:1'", Kind::Set, Unsure),
        ("SET @gtid_next = 'a:1', @password = 1", Kind::Set, Session),
        ("SET @global = 1", Kind::Set, Session),
        ("SET @a = GREATEST(1, 2), @b = (SELECT 1 FROM t FOR UPDATE)", Kind::Set, Locks),
        ("SET @a = f(1)", Kind::Set, Unsure),
        ("SET GLOBAL TRANSACTION READ ONLY", Kind::Set, Writes),
        ("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE", Kind::Set, Session),
        ("SET RESOURCE GROUP a FOR 5", Kind::Admin, Writes),
        ("BEGIN", Kind::Begin, Session),
        ("BEGIN WORK", Kind::Begin, Session),
        ("START TRANSACTION READ WRITE", Kind::Begin, Session),
        ("START TRANSACTION WITH CONSISTENT SNAPSHOT", Kind::Begin, Session),
        ("COMMIT AND CHAIN", Kind::Commit, Session),
        ("ROLLBACK", Kind::Rollback, Session),
        ("ROLLBACK WORK TO SAVEPOINT a", Kind::Savepoint, Session),
        ("SAVEPOINT a", Kind::Savepoint, Session),
        ("RELEASE SAVEPOINT a", Kind::Savepoint, Session),
        ("XA START 'a'", Kind::Xa, Writes),
        ("XA PREPARE 'a'", Kind::Xa, Writes),
        ("XA RECOVER", Kind::Xa, Reads),
        ("LOCK TABLES a WRITE", Kind::Lock, Locks),
        ("LOCK INSTANCE FOR BACKUP", Kind::Lock, Locks),
        ("UNLOCK TABLES", Kind::Unlock, Session),
        ("SHOW TABLES", Kind::Show, Reads),
        ("SHOW CREATE PROCEDURE p", Kind::Show, Reads),
        ("SHOW TABLES WHERE f(1)", Kind::Show, Unsure),
        ("EXPLAIN SELECT 1", Kind::Explain, Reads),
        ("EXPLAIN DELETE FROM t", Kind::Explain, Reads),
        ("EXPLAIN SELECT * FROM t WHERE a = f(1)", Kind::Explain, Unsure),
        ("EXPLAIN FORMAT = JSON INTO @a SELECT 1", Kind::Explain, Session),
        ("EXPLAIN WITH a(b) AS (SELECT 1) SELECT * FROM a", Kind::Explain, Reads),
        ("EXPLAIN WITH a(b) AS (SELECT 1) SELECT f(1) FROM a", Kind::Explain, Unsure),
        ("EXPLAIN ANALYZE SELECT 1", Kind::Explain, Reads),
        ("EXPLAIN ANALYZE SELECT * FROM t FOR UPDATE", Kind::Explain, Locks),
        ("EXPLAIN ANALYZE FORMAT = TREE DELETE FROM t", Kind::Explain, Writes),
        ("EXPLAIN ANALYZE WITH a AS (SELECT 1) UPDATE t SET b = 1", Kind::Explain, Writes),
        ("ANALYZE UPDATE t SET a = 1", Kind::Explain, Writes),
        ("ANALYZE FORMAT=JSON SELECT 1", Kind::Explain, Reads),
        ("DESC t", Kind::Explain, Reads),
        ("DESCRIBE t a", Kind::Explain, Reads),
        ("ANALYZE TABLE t", Kind::Admin, Writes),
        ("ANALYZE LOCAL TABLE t", Kind::Admin, Writes),
        ("OPTIMIZE TABLE t", Kind::Admin, Writes),
        ("CHECK TABLE t", Kind::Admin, Writes),
        ("CHECKSUM TABLE t", Kind::Admin, Reads),
        ("PREPARE a FROM 'SELECT 1'", Kind::Prepare, Unsure),
        ("EXECUTE a USING @b", Kind::Execute, Unsure),
        ("EXECUTE IMMEDIATE 'SELECT 1'", Kind::Execute, Unsure),
        ("DEALLOCATE PREPARE a", Kind::Deallocate, Session),
        ("DROP PREPARE a", Kind::Deallocate, Session),
        ("DO 1", Kind::Do, Reads),
        ("DO SLEEP(1)", Kind::Do, Reads),
        ("DO RELEASE_ALL_LOCKS()", Kind::Do, Locks),
        ("DO f()", Kind::Do, Unsure),
        ("HANDLER t OPEN", Kind::Handler, Locks),
        ("GET DIAGNOSTICS @a = NUMBER", Kind::Diagnostics, Session),
        ("FLUSH TABLES WITH READ LOCK", Kind::Flush, Writes),
        ("RESET QUERY CACHE", Kind::Flush, Writes),
        ("RESET REPLICA", Kind::Replication, Writes),
        ("STOP SLAVE", Kind::Replication, Writes),
        ("PURGE BINARY LOGS TO 'x'", Kind::Replication, Writes),
        ("KILL QUERY 5", Kind::Kill, Writes),
        ("/*!50000 KILL */ 5", Kind::Kill, Writes),
        ("SHUTDOWN", Kind::Shutdown, Writes),
        ("INSTALL PLUGIN a SONAME 'b'", Kind::Admin, Writes),
        ("BEGIN NOT ATOMIC DELETE FROM t", Kind::Compound, Unsure),
        ("IF 1 THEN DELETE FROM t", Kind::Compound, Unsure),
        ("a: LOOP DELETE FROM t", Kind::Compound, Unsure),
        ("FROBNICATE t", Kind::Other, Unsure),
        ("", Kind::Other, Unsure),
        ("5", Kind::Other, Unsure),
        ("'a'", Kind::Other, Unsure),
        ("(", Kind::Other, Unsure),
        ("\0", Kind::Other, Unsure),
    ] {
        if text.is_empty() {
            assert!(verdicts(b"", mode(MYSQL)).is_empty());
        } else {
            assert_one(text, MYSQL, kind, effect);
        }
    }
}

#[test]
fn texts_with_several_statements() {
    let all = |text: &str| {
        let statements = Statements::of(text.as_bytes(), mode(MYSQL));
        statements.map(|statement| (statement.kind, statement.span)).collect::<Vec<_>>()
    };
    assert_eq!(all(" ; ;-- nothing\n;/* */"), []);
    assert_eq!(all("SELECT 1;"), [(Kind::Select, 0..8)]);
    assert_eq!(all(";SELECT ';' ; DELETE FROM t"), [(Kind::Select, 1..12), (Kind::Delete, 13..27)]);
    assert_eq!(all("SELECT 1 -- ;\n; SET @a=1;"), [(Kind::Select, 0..14), (Kind::Set, 15..24)]);
    assert_eq!(all("/*!40000 SELECT 1; SELECT 2 */"), [(Kind::Select, 0..17), (Kind::Select, 18..30)]);
    // The second statement is read anew: the comment's end is none to it.
    let text = "/*! SELECT 1; SELECT 2 */* x */ + f()";
    assert_eq!(all(text)[1], (Kind::Select, 13..text.len()));
    assert_eq!(verdicts(text.as_bytes(), mode(MYSQL))[1].1, Effect::Unsure);
    // A program's body is a part of its statement, and so is what follows it.
    for text in [
        "CREATE PROCEDURE p() BEGIN DELETE FROM t; SELECT 1; END; SELECT 2",
        "CREATE DEFINER=`a`@`b` TRIGGER x BEFORE INSERT ON t FOR EACH ROW BEGIN SET @a = 1; END",
    ] {
        assert_eq!(all(text), [(Kind::Ddl, 0..text.len())], "{text}");
    }
    let text = "BEGIN NOT ATOMIC SELECT 1; DELETE FROM t; END";
    assert_eq!(all(text), [(Kind::Compound, 0..text.len())]);
    assert_eq!(all("CREATE TABLE event (event INT); SELECT 1").len(), 2);
}

#[test]
fn quoting_depends_on_the_mode() {
    let text = br#"SELECT "a\"; DELETE FROM t; -- ";"#;
    assert_eq!(verdicts(text, mode(MYSQL)), [(Kind::Select, Effect::Reads)]);
    let ansi = Mode { quotes: DoubleQuotes::Name, ..mode(MYSQL) };
    assert_eq!(verdicts(text, ansi)[1], (Kind::Delete, Effect::Writes));
    let text = br"SELECT 'a\'; DELETE FROM t; -- '";
    assert_eq!(verdicts(text, mode(MYSQL)), [(Kind::Select, Effect::Reads)]);
    let plain = Mode { backslashes: Backslashes::Plain, ..mode(MYSQL) };
    assert_eq!(verdicts(text, plain)[1], (Kind::Delete, Effect::Writes));
}

#[test]
fn bytes_of_wide_characters_are_no_quotes() {
    // 0xBF5C is one character in gbk, which leaves the quote; else it is one, and the backslash escapes the quote.
    let text = b"SELECT '\xBF\\'; DELETE FROM t -- '";
    for (charset, statements) in [
        (Charset::Wide, 1),
        (Charset::Latin1, 1),
        (Charset::Gbk, 2),
        (Charset::Big5, 2),
        (Charset::Gb18030, 2),
        // Half-width katakana: one byte.
        (Charset::Sjis, 1),
    ] {
        let mode = Mode { charset, ..mode(MYSQL) };
        assert_eq!(verdicts(text, mode).len(), statements, "{charset:?}");
    }
    assert_eq!(
        verdicts(b"SELECT '\x83\\'; DELETE FROM t", Mode { charset: Charset::Sjis, ..mode(MYSQL) }).len(),
        2
    );
    let unknown = Mode { charset: Charset::Unknown, ..mode(MYSQL) };
    assert_eq!(verdicts(text, unknown), [(Kind::Select, Effect::Unsure)]);
    assert_eq!(verdicts("SELECT 'é', 'x\\''".as_bytes(), unknown), [(Kind::Select, Effect::Reads)]);
    // An escape takes one byte, not a character.
    let gbk = Mode { charset: Charset::Gbk, ..mode(MYSQL) };
    assert_eq!(verdicts(b"SELECT '\\\xBF\\'; DELETE FROM t -- '", gbk).len(), 1);
    assert_eq!(
        verdicts(b"SELECT * FROM t FOR\xA0UPDATE", Mode { charset: Charset::Latin1, ..mode(MYSQL) })[0].1,
        Effect::Locks
    );
    assert_eq!(
        verdicts(b"SELECT a FROM t FOR\xA0UPDATE", Mode { charset: Charset::Single, ..mode(MYSQL) })[0].1,
        Effect::Unsure
    );
}

#[test]
fn the_beginning_of_a_text_leaves_its_end_open() {
    let beginning = mode(MYSQL).beginning();
    assert_eq!(verdicts(b"SELECT * FROM t", beginning), [(Kind::Select, Effect::Unsure)]);
    assert_eq!(verdicts(b"INSERT INTO t VALUES (1", beginning), [(Kind::Insert, Effect::Writes)]);
    assert_eq!(
        verdicts(b"SELECT 1; SELECT 2", beginning),
        [(Kind::Select, Effect::Reads), (Kind::Select, Effect::Unsure)]
    );
}

#[test]
fn prepared_texts_and_names() {
    let one = |text: &str| {
        let statement = Statements::of(text.as_bytes(), mode(MYSQL)).next().expect("a statement");
        (statement.prepared_name(), statement.prepared_text(mode(MYSQL)))
    };
    assert_eq!(
        one("PREPARE A FROM 'SELECT \\'a''b\\''"),
        (Some(b"a".to_vec()), Some(b"SELECT 'a'b'".to_vec()))
    );
    assert_eq!(one("PREPARE a FROM @b"), (Some(b"a".to_vec()), None));
    assert_eq!(one("PREPARE a FROM 'x' 'y'"), (Some(b"a".to_vec()), None));
    assert_eq!(one("EXECUTE IMMEDIATE 'x' USING 1"), (None, Some(b"x".to_vec())));
    assert_eq!(one("EXECUTE `A` USING @b"), (Some(b"a".to_vec()), None));
    assert_eq!(one("DEALLOCATE PREPARE a"), (Some(b"a".to_vec()), None));
    assert_eq!(prepared_in_sql(b"PREPARE a FROM 'x'; EXECUTE a; EXECUTE IMMEDIATE 'y'", mode(MYSQL)), 2);
    assert_eq!(prepared_in_sql(b"EXECUTE a", mode(MYSQL)), 0);
}
