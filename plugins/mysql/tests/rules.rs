//! What options make of a session's statements: what the target gets, and what the report says.

mod common;

use common::*;
use plugin_sdk::testing::{Decision, Record, Transcript, assert_split_invariant};
use plugin_sdk::{Loss, Reply, Value};
use tcpcopy_mysql::Mysql;

const QUERY: u8 = 3;
const INIT_DB: u8 = 2;
const DROP_DB: u8 = 6;
const KILL: u8 = 12;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const LONG_DATA: u8 = 0x18;
const CLOSE: u8 = 0x19;
const RESET: u8 = 0x1a;
const RESET_CONNECTION: u8 = 0x1f;
const IN_TRANSACTION: u16 = 3;

/// A session and what is to come of it.
struct Play {
    transcript: Transcript,
    expected: Vec<Vec<u8>>,
}

impl Play {
    fn new() -> Self {
        Self::from(logged_in())
    }

    fn from(transcript: Transcript) -> Self {
        Self { transcript, expected: Vec::new() }
    }

    /// The client sends a command, the target gets another, and answers.
    fn becomes(mut self, command: Vec<u8>, sent: Vec<u8>, answer: Vec<u8>) -> Self {
        self.transcript = self.transcript.request(command).response(answer);
        self.expected.push(sent);
        self
    }

    /// The target gets a command as it is.
    fn passes(self, command: Vec<u8>, answer: Vec<u8>) -> Self {
        self.becomes(command.clone(), command, answer)
    }

    /// The target gets a command that is not answered.
    fn sends(mut self, command: Vec<u8>, sent: Vec<u8>) -> Self {
        self.transcript = self.transcript.request(command);
        self.expected.push(sent);
        self
    }

    fn drops(mut self, command: Vec<u8>) -> Self {
        self.transcript = self.transcript.request(command);
        self
    }

    fn with(mut self, change: impl FnOnce(Transcript) -> Transcript) -> Self {
        self.transcript = change(self.transcript);
        self
    }

    /// These queries reach the target.
    #[track_caller]
    fn ends_with(mut self, queries: &[&str]) -> Record {
        self.expected.extend(queries.iter().map(|text| query(text)));
        self.ends(&[])
    }

    #[track_caller]
    fn ends(self, options: &[(&'static str, Value)]) -> Record {
        let mut settings = password("secret").to_vec();
        settings.extend_from_slice(options);
        let record = assert_split_invariant::<Mysql>(&settings, &self.transcript);
        assert_eq!(sent(&record), self.expected.iter().map(|bytes| shown(bytes)).collect::<Vec<_>>());
        record
    }
}

fn shown(bytes: &[u8]) -> String {
    let front = &bytes[..bytes.len().min(300)];
    format!("{} ({} bytes)", front.escape_ascii(), bytes.len())
}

/// The requests that reach the target.
fn sent(record: &Record) -> Vec<String> {
    let requests = record.requests();
    requests
        .iter()
        .filter(|request| !request.bytes.0.is_empty())
        .map(|request| shown(&request.bytes.0))
        .collect()
}

/// What was sent to prepare connections, as text.
fn prepared(record: &Record) -> String {
    let bytes = record.decisions.iter().filter_map(|decision| match decision {
        Decision::Prepare(bytes) => Some(bytes.0.clone()),
        _ => None,
    });
    bytes.collect::<Vec<_>>().concat().escape_ascii().to_string()
}

fn dropped(record: &Record) -> Vec<(String, u64)> {
    let prefix = "user \"app\": statements dropped by ";
    let counts = record
        .counts
        .iter()
        .filter_map(|(name, count)| Some((name.strip_prefix(prefix)?.to_owned(), *count)));
    counts.collect()
}

fn assert_dropped(record: &Record, expected: &[(&str, u64)]) {
    assert_eq!(
        dropped(record),
        expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<Vec<_>>()
    );
}

/// An OK with these status flags.
fn ok_with(status: u16) -> Vec<u8> {
    packet(1, ok_payload(status))
}

/// The answer to a PREPARE, of a statement without columns.
fn prepared_ok(id: u32, parameters: u16) -> Vec<u8> {
    let mut payload = vec![0];
    payload.extend_from_slice(&id.to_le_bytes());
    payload.extend_from_slice(&[0, 0]);
    payload.extend_from_slice(&parameters.to_le_bytes());
    payload.extend_from_slice(&[0, 0, 0]);
    let mut bytes = packet(1, payload);
    for index in 0..parameters {
        bytes.extend_from_slice(&packet(
            2 + index as u8,
            b"\x03def\0\0\0\x01?\0\x0c\x3f\0\0\0\0\0\xfd\x80\0\0\0\0",
        ));
    }
    if parameters > 0 {
        bytes.extend_from_slice(&packet(2 + parameters as u8, eof(2)));
    }
    bytes
}

/// A command about a prepared statement.
fn of_statement(code: u8, id: u32, rest: &[u8]) -> Vec<u8> {
    command(code, [&id.to_le_bytes(), rest].concat())
}

const ONCE: &[u8] = &[0, 1, 0, 0, 0];

const READ_ONLY: (&str, Value) = ("read-only", Value::Boolean(true));

#[test]
fn read_only_within_a_transaction() {
    let record = Play::new()
        .passes(query("BEGIN"), ok_with(IN_TRANSACTION))
        .passes(query("SELECT a FROM t"), ok_with(IN_TRANSACTION))
        .drops(query("SELECT a FROM t FOR UPDATE"))
        .drops(query("UPDATE t SET a = 1"))
        .drops(query("WITH x AS (SELECT 1) DELETE FROM t"))
        .drops(query("/*!50000 INSERT */ INTO t VALUES (1)"))
        .drops(query("CALL p()"))
        .passes(query("SELECT a FROM t WHERE b = 'FOR UPDATE'"), ok_with(IN_TRANSACTION))
        .passes(query("COMMIT"), ok(1))
        .drops(command(DROP_DB, "shop"))
        .ends(&[READ_ONLY]);
    assert_dropped(
        &record,
        &[
            ("read-only (call)", 1),
            ("read-only (ddl)", 1),
            ("read-only (delete)", 1),
            ("read-only (insert)", 1),
            ("read-only (select that locks)", 1),
            ("read-only (update)", 1),
        ],
    );
    assert_eq!(record.counts["user \"app\": statements sent"], 4);
}

#[test]
fn a_dropped_prepare_drops_what_names_its_statement() {
    let record = Play::new()
        .drops(command(PREPARE, "INSERT INTO t VALUES (?)"))
        .becomes(command(PREPARE, "SELECT 1"), command(PREPARE, "SELECT 1"), prepared_ok(1, 0))
        .drops(of_statement(LONG_DATA, 1, b"\0\0data"))
        .drops(of_statement(EXECUTE, 1, &[ONCE, &[0, 1, 0xfc, 0]].concat()))
        .becomes(of_statement(EXECUTE, 2, ONCE), of_statement(EXECUTE, 1, ONCE), ok(1))
        .drops(of_statement(RESET, 1, b""))
        .drops(of_statement(CLOSE, 1, b""))
        .sends(of_statement(CLOSE, 2, b""), of_statement(CLOSE, 1, b""))
        .passes(query("SELECT 2"), ok(1))
        .ends(&[READ_ONLY]);
    let names = dropped(&record);
    assert!(names.contains(&("read-only (insert)".to_owned(), 1)), "{names:?}");
}

#[test]
fn ids_that_the_online_server_told_survive_what_is_dropped() {
    Play::from(
        Transcript::new()
            .connected()
            .reference(greeting(NATIVE))
            .response(greeting(NATIVE))
            .request(hello("app"))
            .response(ok(2))
            .reference(ok(2)),
    )
    .drops(command(PREPARE, "DELETE FROM t"))
    .with(|transcript| transcript.reference(prepared_ok(40, 0)))
    .passes(command(PREPARE, "SELECT 1"), prepared_ok(1, 0))
    .with(|transcript| transcript.reference(prepared_ok(41, 0)))
    .drops(of_statement(EXECUTE, 40, ONCE))
    .with(|transcript| transcript.reference(ok(1)))
    .becomes(of_statement(EXECUTE, 41, ONCE), of_statement(EXECUTE, 1, ONCE), ok(1))
    .ends(&[READ_ONLY]);
}

#[test]
fn statements_prepared_in_sql() {
    let record = Play::new()
        .passes(query("PREPARE r FROM 'SELECT ?'"), ok(1))
        .drops(query("PREPARE w FROM 'DELETE FROM t'"))
        .passes(query("EXECUTE r USING @a"), ok(1))
        .drops(query("EXECUTE w"))
        .drops(query("EXECUTE IMMEDIATE 'DROP TABLE t'"))
        .drops(query("DEALLOCATE PREPARE w"))
        // The fourth number that the online server gives.
        .becomes(command(PREPARE, "SELECT 1"), command(PREPARE, "SELECT 1"), prepared_ok(2, 0))
        .becomes(of_statement(EXECUTE, 4, ONCE), of_statement(EXECUTE, 2, ONCE), ok(1))
        .passes(command(RESET_CONNECTION, ""), ok(1))
        .drops(query("EXECUTE r USING @a"))
        .ends(&[READ_ONLY]);
    let names = dropped(&record);
    assert!(names.contains(&("the rule that dropped their PREPARE".to_owned(), 2)), "{names:?}");
}

#[test]
fn parts_of_a_text_are_left_out() {
    let record = Play::new()
        .becomes(query("SELECT 1; DELETE FROM t; SELECT 2"), query("SELECT 1; SELECT 2"), ok(1))
        .drops(query("DELETE FROM t; UPDATE t SET a = 1"))
        .passes(query("SELECT ';'; SELECT 2;"), ok(1))
        .ends(&[READ_ONLY]);
    assert_dropped(&record, &[("read-only (delete)", 2)]);
}

#[test]
fn databases_are_mapped_wherever_they_are_chosen() {
    let mapping = ("databases", Value::from([("shop", "shop_copy")]));
    let transcript = Transcript::new()
        .connected()
        .response(greeting(NATIVE))
        .request(hello_of(CLIENT, "app", Some("shop")))
        .response(ok(2));
    let record = Play::from(transcript)
        .passes(query("SELECT * FROM shop.t"), ok(1))
        .passes(command(INIT_DB, "other"), ok(1))
        .becomes(command(INIT_DB, "shop"), command(INIT_DB, "shop_copy"), ok(1))
        .becomes(query("USE `shop`; SELECT 'shop'"), query("USE `shop_copy`; SELECT 'shop'"), ok(1))
        .with(|transcript| {
            let transcript = transcript.connection_lost(Loss { unanswered: 0, kept: 0, interrupted: false });
            transcript.connected().response(greeting(NATIVE)).response(ok(2))
        })
        .passes(query("SELECT 1"), ok(1))
        .ends(std::slice::from_ref(&mapping));
    let logins = prepared(&record);
    assert_eq!(logins.matches("shop_copy\\x00").count(), 2, "{logins}");
    assert!(!logins.contains("shop\\x00"), "{logins}");
    Play::new()
        .becomes(query("SELECT * FROM shop.t"), query("SELECT * FROM shop_copy.t"), ok(1))
        .becomes(
            command(PREPARE, "SELECT shop.t.a"),
            command(PREPARE, "SELECT shop_copy.t.a"),
            prepared_ok(1, 0),
        )
        .ends(&[mapping, ("map-qualified-names", true.into())]);
}

#[test]
fn a_comment_is_put_before_statements() {
    let long = format!("SELECT '{}'", "x".repeat(3000));
    Play::new()
        .becomes(query("SELECT 1"), query("/* replay */ SELECT 1"), ok(1))
        .becomes(query(&long), query(&format!("/* replay */ {long}")), ok(1))
        .becomes(command(PREPARE, "SELECT 2"), command(PREPARE, "/* replay */ SELECT 2"), prepared_ok(1, 0))
        .passes(of_statement(EXECUTE, 1, ONCE), ok(1))
        .passes(command(INIT_DB, "shop"), ok(1))
        .ends(&[("comment", "replay".into())]);
    Play::new()
        .becomes(query("SELECT 1; DROP TABLE t"), query("/* replay */ SELECT 1"), ok(1))
        .ends(&[("comment", "replay".into()), READ_ONLY]);
}

#[test]
fn a_statement_that_is_too_long_to_be_read_whole() {
    let values = "(1, 'some text'), ".repeat(100_000);
    let (insert, select) =
        (format!("INSERT INTO t VALUES {values}"), format!("SELECT * FROM t WHERE a IN {values}"));
    let play = || logged_in().request(query(&insert)).response(ok(1)).request(query(&select)).response(ok(1));
    let mut settings = password("secret").to_vec();
    settings.push(("comment", "replay".into()));
    let mut harness =
        plugin_sdk::testing::replay::<Mysql>(&settings, &play(), plugin_sdk::testing::Split::Whole);
    let expected = [&insert, &select].map(|text| shown(&query(&format!("/* replay */ {text}"))));
    assert_eq!(sent(&harness), expected);
    // What its end does is not known.
    settings.push(READ_ONLY);
    let transcript = logged_in().request(query(&insert)).request(query(&select)).request(query("SELECT 1"));
    harness = plugin_sdk::testing::replay::<Mysql>(&settings, &transcript, plugin_sdk::testing::Split::Whole);
    assert_eq!(sent(&harness), [shown(&query("/* replay */ SELECT 1"))]);
}

#[test]
fn what_is_meant_for_the_online_server_stays_there() {
    let record = Play::new()
        .drops(query("KILL 5"))
        .drops(command(KILL, 5_u32.to_le_bytes()))
        .drops(query("STOP REPLICA"))
        .passes(query("DROP TABLE t"), ok(1))
        .ends(&[]);
    assert_dropped(
        &record,
        &[("want of allow-dangerous (kill)", 2), ("want of allow-dangerous (replication)", 1)],
    );
    Play::new().passes(query("KILL 5"), ok(1)).ends(&[("allow-dangerous", ["kill"].into())]);
}

#[test]
fn a_user_that_is_left_out_sends_nothing() {
    let transcript = Transcript::new().connected().request(hello("app")).request(query("SELECT 1"));
    let record = Play::from(transcript.response(greeting(NATIVE))).ends(&[("drop-users", ["a*"].into())]);
    assert!(matches!(record.decisions.last(), Some(Decision::GiveUp(_))), "{:?}", record.decisions);
    assert_eq!(prepared(&record), "");
}

#[test]
fn databases_are_kept_and_dropped() {
    let options = [("drop-databases", Value::from(["secret*"]))];
    Play::new()
        .passes(query("SELECT 1"), ok(1))
        .drops(query("SELECT * FROM secret_1.t"))
        .passes(query("USE secret_2"), ok(1))
        .drops(query("SELECT 1"))
        .drops(command(PREPARE, "SELECT 1"))
        .passes(command(INIT_DB, "shop"), ok(1))
        .passes(query("SELECT 1"), ok(1))
        .ends(&options);
}

#[test]
fn a_file_for_a_dropped_load_is_left_out() {
    Play::new()
        .drops(query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t"))
        .drops(packet(2, "1\n2\n"))
        .drops(packet(3, ""))
        .passes(query("SELECT 1"), ok(1))
        .ends(&[READ_ONLY]);
}

#[test]
fn settings_are_made_again_with_the_comment() {
    let record = Play::new()
        .becomes(query("SET @a = 1"), query("/* r */ SET @a = 1"), ok(1))
        .becomes(
            query("SET nonsense = 1"),
            query("/* r */ SET nonsense = 1"),
            error(1, 1193, "Unknown system variable"),
        )
        .becomes(query("SELECT 1"), query("/* r */ SELECT 1"), ok_with(IN_TRANSACTION))
        .with(|transcript| {
            let transcript = transcript.connection_lost(Loss { unanswered: 0, kept: 0, interrupted: false });
            transcript.connected().response(greeting(NATIVE)).response(ok(2)).response(ok(1))
        })
        .becomes(query("SELECT 2"), query("/* r */ SELECT 2"), ok(1))
        .ends(&[("comment", "r".into())]);
    let made = prepared(&record);
    assert!(made.contains("/* r */ SET @a = 1"), "{made}");
    assert!(!made.contains("nonsense"), "{made}");
    assert_eq!(record.counts["user \"app\": lost with a connection: open transaction"], 1);
}

#[test]
fn settings_by_prepared_statements_are_made_again() {
    let record = Play::new()
        .passes(command(PREPARE, "SET @a = 1"), prepared_ok(1, 0))
        .passes(of_statement(EXECUTE, 1, ONCE), ok(1))
        .with(|transcript| {
            let transcript = transcript.connection_lost(Loss { unanswered: 0, kept: 0, interrupted: false });
            transcript
                .connected()
                .response(greeting(NATIVE))
                .response(ok(2))
                .response(ok(1))
                .response(prepared_ok(1, 0))
        })
        .passes(query("SELECT @a"), ok(1))
        .ends(&[]);
    assert!(prepared(&record).contains("\\x03SET @a = 1"), "{}", prepared(&record));
}

#[test]
fn nothing_runs_in_a_database_that_the_target_does_not_have() {
    let record = Play::new()
        .passes(command(INIT_DB, "shop"), ok(1))
        .passes(query("USE only_online"), error(1, 1049, "Unknown database 'only_online'"))
        .drops(query("DELETE FROM t"))
        .drops(command(PREPARE, "DELETE FROM t"))
        .passes(query("SET NAMES utf8"), ok(1))
        .passes(query("USE shop"), ok(1))
        .passes(query("DELETE FROM t"), ok(1))
        .ends(&[]);
    let why = "want of their database at the target";
    assert_dropped(&record, &[(why, 2)]);
}

#[test]
fn what_was_sent_behind_a_choice_of_database_waits_for_it() {
    let record = Play::new()
        .sends(query("USE only_online"), query("USE only_online"))
        .drops(query("DELETE FROM t"))
        .with(|transcript| transcript.response(error(1, 1049, "Unknown database 'only_online'")))
        .sends(command(INIT_DB, "shop"), command(INIT_DB, "shop"))
        .sends(query("DELETE FROM t"), query("DELETE FROM t"))
        .with(|transcript| transcript.response(ok(1)).response(ok(1)))
        .ends(&[]);
    assert_dropped(&record, &[("want of their database at the target", 1)]);
}

/// An OK that says which database the session is in now.
fn ok_tracking(name: &str) -> Vec<u8> {
    let mut payload = vec![0, 0, 0, 2, 0x40, 0, 0, 0];
    let length = name.len() as u8;
    payload.extend_from_slice(&[length + 3, 1, length + 1, length]);
    payload.extend_from_slice(name.as_bytes());
    packet(1, payload)
}

#[test]
fn a_login_is_in_the_database_of_the_first_statement_that_waits() {
    // The online server is ahead: the client has gone on to another database before the target greets.
    let transcript = Transcript::new()
        .reference(greeting_of(SERVER | SESSION_TRACK, NATIVE))
        .request(hello_of(CLIENT | SESSION_TRACK, "app", Some("first")))
        .reference(ok(2))
        .request(query("DELETE FROM t"))
        .reference(ok(1))
        .request(query("USE second"))
        .reference(ok_tracking("second"))
        .connected()
        .response(greeting_of(SERVER | SESSION_TRACK, NATIVE))
        .response(ok(2));
    let record = Play::from(transcript)
        .with(|transcript| transcript.response(ok(1)).response(ok_tracking("second")))
        .ends_with(&["DELETE FROM t", "USE second"]);
    let login = prepared(&record);
    assert!(login.contains("first\\x00") && !login.contains("second"), "{login}");
}

#[test]
fn what_is_sent_again_finds_the_database_that_it_was_sent_to() {
    let transcript = Transcript::new()
        .connected()
        .response(greeting(NATIVE))
        .request(hello_of(CLIENT, "app", Some("first")))
        .response(ok(2));
    let record = Play::from(transcript)
        .sends(query("DELETE FROM t"), query("DELETE FROM t"))
        .sends(query("SET @a = 1"), query("SET @a = 1"))
        .sends(query("USE second"), query("USE second"))
        .with(|transcript| {
            let transcript = transcript.connection_lost(Loss { unanswered: 0, kept: 3, interrupted: false });
            let transcript = transcript.connected().response(greeting(NATIVE)).response(ok(2));
            transcript.response(ok(1)).response(ok(1)).response(ok(1))
        })
        .passes(query("SELECT 1"), ok(1))
        .ends(&[]);
    let logins = prepared(&record);
    assert_eq!(logins.matches("first\\x00").count(), 2, "{logins}");
    assert!(!logins.contains("second") && !logins.contains("SET"), "{logins}");
}

#[test]
fn attributes_of_a_query_stay_before_the_changed_text() {
    let attributes = |text: &str| command(QUERY, [&[0, 1], text.as_bytes()].concat());
    let transcript = logged_in_with(CLIENT | QUERY_ATTRIBUTES, SERVER | QUERY_ATTRIBUTES);
    Play::from(transcript)
        .becomes(attributes("SELECT 1"), attributes("/* r */ SELECT 1"), ok(1))
        .drops(attributes("DELETE FROM t"))
        .ends(&[("comment", "r".into()), READ_ONLY]);
    let transcript = logged_in_with(CLIENT | QUERY_ATTRIBUTES, SERVER & !QUERY_ATTRIBUTES);
    Play::from(transcript)
        .becomes(attributes("SELECT 1"), query("/* r */ SELECT 1"), ok(1))
        .ends(&[("comment", "r".into())]);
}

#[test]
fn what_is_kept_is_answered_and_what_is_dropped_is_not() {
    let record =
        Play::new().drops(query("DELETE FROM t")).passes(query("SELECT 1"), ok(1)).ends(&[READ_ONLY]);
    let replies: Vec<_> = record.requests().iter().map(|request| request.reply).collect();
    assert_eq!(replies.iter().filter(|reply| **reply == Some(Reply::Expected)).count(), 1);
    let complete = record.decisions.iter().filter(|decision| **decision == Decision::ReplyComplete).count();
    assert_eq!(complete, 1);
}
