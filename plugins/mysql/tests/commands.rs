//! Every kind of command: what goes to the target, and when its answer is complete.

mod common;

use common::*;
use plugin_sdk::testing::{Decision, Harness, Record, Transcript, assert_split_invariant};
use plugin_sdk::{Loss, Origin, Reply, Value};
use tcpcopy_mysql::Mysql;
use tcpcopy_mysql::compression::{self, Algorithm, Unpacker};

/// The requests with bytes, and whether they are answered.
fn requests(record: &Record) -> Vec<(Vec<u8>, Option<Reply>)> {
    let requests = record.requests().into_iter().filter(|request| !request.bytes.0.is_empty());
    requests.map(|request| (request.bytes.0, request.reply)).collect()
}

fn replies(record: &Record) -> usize {
    record.decisions.iter().filter(|decision| **decision == Decision::ReplyComplete).count()
}

fn run(transcript: &Transcript) -> Record {
    run_with(&password("secret"), transcript)
}

fn run_with(settings: &[(&str, Value)], transcript: &Transcript) -> Record {
    let record = assert_split_invariant::<Mysql>(settings, transcript);
    assert!(record.undecided.0.is_empty(), "undecided: {:?}", record.undecided);
    assert!(!record.counts.keys().any(|name| name.contains("answer nothing")), "{:?}", record.counts);
    record
}

fn prepared_ok(id: u32, columns: u16, parameters: u16) -> Vec<u8> {
    let mut payload = vec![0];
    payload.extend_from_slice(&id.to_le_bytes());
    payload.extend_from_slice(&columns.to_le_bytes());
    payload.extend_from_slice(&parameters.to_le_bytes());
    payload.extend_from_slice(&[0, 0, 0]);
    payload
}

fn execute(id: u32, body: &[u8]) -> Vec<u8> {
    command(0x17, [&id.to_le_bytes()[..], &[0, 1, 0, 0, 0], body].concat())
}

/// `b` as bytes, a column's description, a row.
const COLUMN: &[u8] = b"\x03def\0\0\0\x01a\0\x0c\x3f\0\x01\0\0\0\x08\x81\0\0\0\0";
const ROW: &[u8] = b"\x011";

#[test]
fn a_result_ends_with_its_second_eof() {
    let answer = packets(1, &[b"\x01", COLUMN, &eof(2), ROW, ROW, &eof(2)]);
    let record = run(&logged_in()
        .request(query("SELECT a"))
        .response(&answer)
        .request(query("SELECT b"))
        .response(&answer));
    assert_eq!(requests(&record).len(), 2);
    assert_eq!(replies(&record), 2);
}

#[test]
fn a_result_without_eof_packets_ends_with_ok() {
    let mut end = ok_payload(2);
    end[0] = 0xfe;
    let answer = packets(1, &[b"\x02", COLUMN, COLUMN, b"\x011\x012", &end]);
    let login = || logged_in_with(CLIENT | DEPRECATE_EOF, SERVER);
    let record = run(&login().request(query("SELECT a")).response(&answer));
    assert_eq!(replies(&record), 1);
    let record = run(&login().request(query("SELECT a")).response(&answer[..answer.len() - 11]));
    assert_eq!(replies(&record), 0, "the end is missing");
}

#[test]
fn several_results_are_one_answer() {
    let more = 8 | 2;
    let answer =
        packets(1, &[b"\x01", COLUMN, &eof(more), ROW, &eof(more), &ok_payload(more), &ok_payload(2)]);
    let record = run(&logged_in().request(query("CALL p()")).response(&answer));
    assert_eq!(replies(&record), 1);
    let cut = answer.len() - 11;
    assert_eq!(replies(&run(&logged_in().request(query("CALL p()")).response(&answer[..cut]))), 0);
}

#[test]
fn an_error_ends_an_answer_and_progress_does_not() {
    let record = run(&logged_in().request(query("SELECT")).response(error(1, 1064, "syntax")));
    assert_eq!(replies(&record), 1);
    assert_eq!(record.counts["user \"app\": statements answered with error 1064, such as \"syntax\""], 1);
    let progress = packet(1, b"\xff\xff\xff\x01\x01\x02\0\0\x01\x02ab");
    let login = logged_in_with(CLIENT | 0x2000_0000, SERVER | 0x2000_0000);
    let record = run(&login.request(query("ALTER TABLE t ENGINE=InnoDB")).response(progress).response(ok(2)));
    assert_eq!(replies(&record), 1);
    assert_eq!(record.counts["user \"app\": statements answered without an error"], 1);
}

#[test]
fn commands_with_an_answer_of_one_packet() {
    let commands = [
        command(0x0e, ""),
        command(0x02, "shop"),
        command(0x1b, "\0\0"),
        command(0x1f, ""),
        command(0x0d, ""),
    ];
    let mut transcript = logged_in();
    for command in &commands {
        transcript = transcript.request(command).response(ok(1));
    }
    let statistics = packet(1, "Uptime: 1  Threads: 2");
    transcript = transcript.request(command(0x09, "")).response(statistics);
    // MariaDB and older servers end these with EOF.
    transcript = transcript.request(command(0x1b, "\x01\0")).response(packet(1, eof(2)));
    let record = run_with(
        &[("password", Value::from("secret")), ("allow-dangerous", Value::from(["kill", "shutdown"]))],
        &transcript,
    );
    assert_eq!(requests(&record).len(), 7);
    assert_eq!(replies(&record), 7);
}

#[test]
fn a_field_list_ends_with_eof() {
    let transcript =
        logged_in().request(command(0x04, "t\0%")).response(packets(1, &[COLUMN, COLUMN, &eof(2)]));
    assert_eq!(replies(&run(&transcript)), 1);
}

#[test]
fn a_prepared_statement_has_the_targets_number() {
    let transcript = logged_in()
        .request(command(0x16, "SELECT ?"))
        .reference(greeting(NATIVE))
        .reference(ok(2))
        .reference(packets(1, &[&prepared_ok(77, 1, 1), COLUMN, &eof(2), COLUMN, &eof(2)]))
        .request(execute(77, &[0, 1, 3, 0, 5, 0, 0, 0]))
        .response(packets(1, &[&prepared_ok(5, 1, 1), COLUMN, &eof(2), COLUMN, &eof(2)]))
        .response(packets(1, &[b"\x01", COLUMN, &eof(2), b"\0\0\x05\0\0\0", &eof(2)]))
        // Long data and the end of a statement have no answer.
        .request(command(0x18, b"\x4d\0\0\0\0\0data"))
        .request(command(0x19, b"\x4d\0\0\0"))
        .request(command(0x01, ""));
    let record = run(&transcript);
    let sent = requests(&record);
    assert_eq!(sent[1], (execute(5, &[0, 1, 3, 0, 5, 0, 0, 0]), Some(Reply::Expected)));
    assert_eq!(sent[2], (command(0x18, b"\x05\0\0\0\0\0data"), Some(Reply::NotExpected)));
    assert_eq!(sent[3], (command(0x19, b"\x05\0\0\0"), Some(Reply::NotExpected)));
    assert_eq!(sent[4], (command(0x01, ""), Some(Reply::NotExpected)));
    assert_eq!(replies(&record), 2);
}

#[test]
fn numbers_are_counted_where_the_online_server_is_not_heard() {
    let transcript = logged_in()
        .request(command(0x16, "SELECT 1"))
        .response(packets(1, &[&prepared_ok(9, 1, 0), COLUMN, &eof(2)]))
        .request(execute(1, b""))
        .response(packets(1, &[b"\x01", COLUMN, &eof(2), ROW, &eof(2)]));
    assert_eq!(requests(&run(&transcript))[1].0, execute(9, b""));
}

#[test]
fn cursors_and_their_rows() {
    let cursor = 0x40 | 2;
    let transcript = logged_in()
        .request(command(0x16, "SELECT a FROM t"))
        .response(packets(1, &[&prepared_ok(1, 1, 0), COLUMN, &eof(2)]))
        .request(command(0x17, b"\x01\0\0\0\x01\x01\0\0\0"))
        .response(packets(1, &[b"\x01", COLUMN, &eof(cursor)]))
        .request(command(0x1c, b"\x01\0\0\0\x02\0\0\0"))
        .response(packets(1, &[b"\0\0\x01", b"\0\0\x02", &eof(cursor)]))
        .request(command(0x1c, b"\x01\0\0\0\x02\0\0\0"))
        .response(packets(1, &[&eof(cursor | 0x80)]))
        .request(command(0x1a, b"\x01\0\0\0"))
        .response(ok(1));
    let record = run(&transcript);
    assert_eq!((requests(&record).len(), replies(&record)), (5, 5));
}

#[test]
fn a_file_goes_where_the_target_wants_it() {
    let statement = query("LOAD DATA LOCAL INFILE 'f' INTO TABLE t");
    let file = [packet(2, "1,2\n"), packet(3, "3,4\n"), packet(4, "")].concat();
    let transcript = logged_in()
        .request(&statement)
        .request(&file)
        .request(query("SELECT 1"))
        .response(packet(1, b"\xfbf"))
        .response(ok(5))
        .response(ok(1));
    let record = run(&transcript);
    let sent = requests(&record);
    assert_eq!(sent[1], (file.clone(), Some(Reply::Expected)));
    assert_eq!(sent[2].0, query("SELECT 1"));
    assert_eq!(replies(&record), 3);
    // It is left out where the target says no.
    let transcript = logged_in()
        .request(&statement)
        .request(&file)
        .request(query("SELECT 1"))
        .response(error(1, 3948, "disabled"))
        .response(ok(1));
    let record = run(&transcript);
    assert_eq!(requests(&record)[1].0, query("SELECT 1"));
    assert_eq!(record.counts["files that the target did not want"], 1);
    // And the target gets an empty one where the client was not asked.
    let transcript = logged_in()
        .request(&statement)
        .request(query("SELECT 1"))
        .response(packet(1, b"\xfbf"))
        .response(ok(3))
        .response(ok(1));
    let record = run(&transcript);
    assert_eq!(requests(&record)[1], (packet(2, ""), Some(Reply::Expected)));
    assert_eq!(replies(&record), 3);
}

#[test]
fn a_file_of_more_than_256_packets() {
    let file: Vec<u8> =
        (0..600u32).flat_map(|n| packet((n + 2) as u8, format!("{n}\n"))).chain(packet(90, "")).collect();
    let transcript = logged_in()
        .request(query("load data local infile 'f' into table t"))
        .response(packet(1, b"\xfbf"))
        .request(&file)
        .response(ok(91));
    let record = run(&transcript);
    assert_eq!(requests(&record)[1].0, file);
    assert_eq!(replies(&record), 2);
}

#[test]
fn attributes_are_taken_away_from_a_target_that_does_not_know_them() {
    let client = CLIENT | QUERY_ATTRIBUTES;
    let with = command(3, b"\x01\x01\0\x01\xfe\0\x01k\x01vSELECT 1");
    let record = run(&logged_in_with(client, SERVER).request(&with).response(ok(1)));
    assert_eq!(requests(&record)[0].0, query("SELECT 1"));
    let record = run(&logged_in_with(client, SERVER | QUERY_ATTRIBUTES).request(&with).response(ok(1)));
    assert_eq!(requests(&record)[0].0, with);
    let executed = command(0x17, b"\x01\0\0\0\x08\x01\0\0\0\x02\0\x01\x03\0\0\xfe\0\x01k\x07\0\0\0\x01v");
    let transcript = logged_in_with(client, SERVER)
        .request(command(0x16, "SELECT ?"))
        .response(packets(1, &[&prepared_ok(3, 1, 1), COLUMN, &eof(2), COLUMN, &eof(2)]))
        .request(executed)
        .response(ok(1));
    let record = run(&transcript);
    assert_eq!(requests(&record)[1].0, execute(3, b"\0\x01\x03\0\x07\0\0\0"));
}

#[test]
fn a_database_is_learnt_and_mapped() {
    let settings = [("password", Value::from("secret")), ("databases", Value::from([("shop", "copy")]))];
    let transcript = Transcript::new()
        .connected()
        .response(greeting(NATIVE))
        .request(hello_of(CLIENT, "app", Some("shop")))
        .response(ok(2))
        .request(command(0x02, "shop"))
        .response(ok(1))
        .request(query("USE shop"))
        .response(ok(1));
    let record = run_with(&settings, &transcript);
    let sent = requests(&record);
    assert_eq!(sent[0].0, command(0x02, "copy"));
    assert_eq!(sent[1].0, query("USE copy"));
    let prepared = record.decisions.iter().any(|decision| {
        matches!(decision, Decision::Prepare(bytes)
        if bytes.0.windows(6).any(|part| part == b"\0copy\0" || part == b"copy\0m"))
    });
    assert!(prepared, "{:?}", record.decisions);
}

#[test]
fn what_is_dropped_is_not_sent() {
    let settings = [("password", Value::from("secret")), ("read-only", Value::from(true))];
    let transcript = logged_in()
        .request(query("SELECT 1"))
        .response(ok(1))
        .request(query("DELETE FROM t"))
        .request(query("SELECT 1 FOR UPDATE"))
        .request(command(0x16, "UPDATE t SET a = ?"))
        .request(execute(1, &[0, 1, 3, 0, 5, 0, 0, 0]))
        .request(command(0x19, b"\x01\0\0\0"))
        .request(command(0x06, "shop"))
        .request(query("SELECT 2"))
        .response(ok(1));
    let record = run_with(&settings, &transcript);
    let sent: Vec<_> = requests(&record).into_iter().map(|(bytes, _)| bytes).collect();
    assert_eq!(sent, [query("SELECT 1"), query("SELECT 2")]);
    assert_eq!(record.counts["user \"app\": statements sent"], 2);
}

#[test]
fn another_user_is_logged_in_by_the_plugin() {
    let change =
        command(0x11, [&b"bob\0\x14"[..], &[9; 20], b"shop\0\x2d\0mysql_native_password\0"].concat());
    let switch = packet(1, [b"\xfemysql_native_password\0", &NONCE[..], b"\0"].concat());
    let transcript = logged_in()
        .request(&change)
        // What the client answers to its own server's challenge.
        .request(packet(2, [8; 20]))
        .request(query("SELECT current_user()"))
        .response(switch)
        .response(ok(3))
        .response(ok(1));
    let record = run(&transcript);
    let sent = requests(&record);
    assert_eq!(sent.len(), 2);
    assert!(sent[0].0.windows(4).any(|part| part == b"bob\0"));
    assert!(!sent[0].0.windows(20).any(|part| part == [9; 20] || part == [8; 20]), "the client's own proofs");
    assert_eq!(sent[0].1, Some(Reply::Expected));
    assert_eq!(sent[1].0, query("SELECT current_user()"));
    assert_eq!(replies(&record), 2);
    assert_eq!(record.counts["user \"bob\": logins accepted"], 1);
}

#[test]
fn a_binary_log_is_given_up() {
    let record = run(&logged_in().request(command(0x12, b"\x04\0\0\0\0\0\x01\0\0\0binlog.1")));
    assert!(matches!(record.decisions.last(), Some(Decision::GiveUp(why)) if why.contains("replica")));
}

#[test]
fn a_lost_connection_is_rebuilt() {
    let prepared = packets(1, &[&prepared_ok(1, 1, 1), COLUMN, &eof(2), COLUMN, &eof(2)]);
    let bound = execute(1, &[0, 1, 3, 0, 5, 0, 0, 0]);
    let unbound = execute(1, &[0, 0, 6, 0, 0, 0]);
    let transcript = logged_in()
        .request(query("SET NAMES latin1"))
        .response(ok(1))
        .request(query("SET @a = 1"))
        .response(ok(1))
        .request(command(0x02, "shop"))
        .response(ok(1))
        .request(command(0x16, "SELECT ?"))
        .response(&prepared)
        .request(query("BEGIN"))
        .response(packet(1, ok_payload(3)))
        .request(&bound)
        .connection_lost(Loss { unanswered: 1, kept: 0, interrupted: false })
        .request(&unbound)
        .connected()
        .response(greeting(NATIVE))
        .response(ok(2))
        .response(ok(1))
        .response(ok(1))
        .response(packets(1, &[&prepared_ok(1, 1, 1), COLUMN, &eof(2), COLUMN, &eof(2)]))
        .response(packets(1, &[b"\x01", COLUMN, &eof(2), b"\0\0\x06\0\0\0", &eof(2)]));
    let record = run(&transcript);
    let again: Vec<_> = record
        .decisions
        .iter()
        .skip_while(|decision| !matches!(decision, Decision::ReplyComplete))
        .filter_map(|decision| match decision {
            Decision::Prepare(bytes) => Some(bytes.0.clone()),
            _ => None,
        })
        .collect();
    let again = again.concat();
    let position = |text: &[u8]| again.windows(text.len()).position(|part| part == text);
    let order = [
        position(b"app\0"),
        position(b"SET NAMES latin1"),
        position(b"SET @a = 1"),
        position(b"\x16SELECT ?"),
    ];
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}");
    assert!(again.windows(5).any(|part| part == b"shop\0"), "the database of the login");
    // The types that the client had sent with the first execution are added to this one.
    assert_eq!(requests(&record).last().unwrap().0, execute(1, &[0, 1, 3, 0, 6, 0, 0, 0]));
    assert_eq!(record.counts["user \"app\": lost with a connection: open transaction"], 1);
    assert_eq!(record.counts["user \"app\": lost with a connection: statement"], 1);
    assert_eq!(record.counts["user \"app\": sessions made again on a new connection"], 1);
}

#[test]
fn statements_get_the_same_numbers_for_what_is_sent_again() {
    let transcript = logged_in()
        .request(command(0x16, "SELECT 1"))
        .response(packets(1, &[&prepared_ok(1, 1, 0), COLUMN, &eof(2)]))
        .request(command(0x16, "SELECT 2"))
        .response(packets(1, &[&prepared_ok(3, 1, 0), COLUMN, &eof(2)]))
        .request(command(0x19, b"\x01\0\0\0"))
        .request(query("SELECT sleep(10)"))
        .request(execute(2, b""))
        .connection_lost(Loss { unanswered: 1, kept: 1, interrupted: false })
        .connected()
        .response(greeting(NATIVE))
        .response(ok(2))
        // Two numbers are skipped.
        .response(packets(1, &[&prepared_ok(1, 0, 0)]))
        .response(packets(1, &[&prepared_ok(2, 0, 0)]))
        .response(packets(1, &[&prepared_ok(3, 1, 0), COLUMN, &eof(2)]))
        .response(packets(1, &[b"\x01", COLUMN, &eof(2), ROW, &eof(2)]));
    let record = run(&transcript);
    assert_eq!(record.decisions.iter().filter(|decision| **decision == Decision::Ready).count(), 2);
    assert_eq!(replies(&record), 3);
}

#[test]
fn a_session_is_joined_at_its_next_command() {
    let settings = [
        ("passwords", Value::from([("app", "secret")])),
        ("join-user", Value::from("app")),
        ("join-database", Value::from("shop")),
        ("join-statements", Value::from([("7", "SELECT ?")])),
        ("join-parameter-types", Value::from([("7", "int")])),
    ];
    let transcript = Transcript::of(Origin::MidStream)
        .request(query("SELECT 1"))
        .connected()
        .response(greeting(NATIVE))
        .response(ok(2))
        .response(ok(1))
        .request(execute(7, &[0, 0, 5, 0, 0, 0]))
        .response(packets(1, &[&prepared_ok(1, 1, 1), COLUMN, &eof(2), COLUMN, &eof(2)]))
        .response(packets(1, &[b"\x01", COLUMN, &eof(2), ROW, &eof(2)]))
        .request(execute(8, &[0, 0, 5, 0, 0, 0]));
    let record = run_with(&settings, &transcript);
    let sent: Vec<_> = requests(&record).into_iter().map(|(bytes, _)| bytes).collect();
    assert_eq!(sent, [query("SELECT 1"), command(0x16, "SELECT ?"), execute(1, &[0, 1, 3, 0, 5, 0, 0, 0])]);
    assert_eq!(replies(&record), 3);
    let dropped = "user \"app\": statements dropped by its statement: not known, prepared before the capture";
    assert_eq!(record.counts[dropped], 1);
}

#[test]
fn missing_bytes_are_passed_over() {
    let transcript = logged_in()
        .request(query("SELECT 1"))
        .response(ok(1))
        .request(&query("SELECT 2, cut short")[..9])
        .gap()
        .request([&b"rest of it"[..], &query("SELECT 3")].concat())
        .response(ok(1));
    let record = run(&transcript);
    assert_eq!(requests(&record).last().unwrap().0, query("SELECT 3"));
    assert_eq!(replies(&record), 2);
}

#[test]
fn nothing_runs_in_a_database_that_only_the_target_refuses() {
    let before = || {
        Transcript::new()
            .connected()
            .reference(greeting(NATIVE))
            .response(greeting(NATIVE))
            .request(hello_of(CLIENT, "app", None))
            .reference(ok(2))
            .response(ok(2))
            .request(query("SELECT 1"))
            .reference(ok(1))
            .response(ok(1))
            .request(query("USE nosuch"))
            .response(error(1, 1049, "Unknown database"))
    };
    let record = run(&before().reference(ok(1)).request(query("DELETE FROM t")));
    assert_eq!(requests(&record).len(), 2);
    assert!(record.counts.keys().any(|name| name.contains("dropped by")), "{:?}", record.counts);
    // The client knows that it is where it was.
    let both = before()
        .reference(error(1, 1049, "Unknown database"))
        .request(query("DELETE FROM t"))
        .response(ok(1));
    assert_eq!(requests(&run(&both)).last().unwrap().0, query("DELETE FROM t"));
}

/// What a stream of compressed packets holds.
fn unpacked(stream: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    Unpacker::new().feed(stream, |bytes, _| plain.extend_from_slice(bytes)).unwrap();
    plain
}

fn packed(algorithm: Algorithm, sequence: u8, bytes: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    compression::pack(algorithm, sequence, bytes, &mut stream);
    stream
}

#[test]
fn a_compressed_connection_is_compressed_at_the_target_if_that_can_be() {
    let long = query(&format!("SELECT {}", "1 + ".repeat(500)));
    for (algorithm, flag) in [(Algorithm::Zlib, COMPRESS), (Algorithm::Zstd, 0x0400_0000)] {
        for target in [SERVER | flag, SERVER] {
            let is_compressed = target != SERVER;
            let answer = |bytes: Vec<u8>| if is_compressed { packed(algorithm, 1, &bytes) } else { bytes };
            let transcript = logged_in_with(CLIENT | flag, target)
                .request(packed(algorithm, 0, &query("SELECT 1")))
                .response(answer(ok(1)))
                .request(packed(algorithm, 0, &long))
                .response(answer(error(1, 1064, &"no ".repeat(100))));
            let record = assert_split_invariant::<Mysql>(&password("secret"), &transcript);
            let sent: Vec<_> = requests(&record).into_iter().map(|(bytes, _)| bytes).collect();
            let sent: Vec<_> =
                if is_compressed { sent.iter().map(|bytes| unpacked(bytes)).collect() } else { sent };
            assert_eq!(sent, [query("SELECT 1"), long.clone()]);
            assert_eq!(replies(&record), 2);
        }
    }
}

#[test]
fn a_large_statement_passes_piece_by_piece() {
    let text = format!("INSERT INTO t VALUES ('{}')", "x".repeat((1 << 24) + 100));
    let bytes = query(&text);
    let mut harness = Harness::<Mysql>::new(&password("secret"));
    let session = harness.open();
    harness.connected(session);
    harness.response(session, greeting(NATIVE));
    harness.request(session, hello("app"));
    harness.response(session, ok(2));
    let mut most = 0;
    for piece in bytes.chunks(60_000) {
        harness.request(session, piece);
        most = most.max(harness.undecided(session).len());
    }
    assert!(most <= (1 << 20) + 60_000, "{most} bytes undecided");
    let [.., Decision::Forward(_), Decision::EndRequest(Reply::Expected)] = harness.decisions(session) else {
        panic!("the statement does not end");
    };
    assert!(harness.sent(session).ends_with(&bytes[..]));
    harness.response(session, ok(2));
    assert_eq!(harness.decisions(session).last(), Some(&Decision::ReplyComplete));
}

#[test]
fn a_close_that_may_be_sent_again_closes_nothing_else() {
    let one = |id: u32| packets(1, &[&prepared_ok(id, 1, 0), COLUMN, &eof(2)]);
    let transcript = logged_in()
        .request(command(0x16, "SELECT 1"))
        .response(one(1))
        .request(command(0x16, "SELECT 2"))
        .response(one(2))
        .request(command(0x19, b"\x01\0\0\0"))
        .connection_lost(Loss::default())
        .connected()
        .response(greeting(NATIVE))
        .response(ok(2))
        // Number 1 is not given to the one that is left.
        .response(packets(1, &[&prepared_ok(1, 0, 0)]))
        .response(one(2))
        .request(execute(2, b""));
    let record = run(&transcript);
    assert_eq!(requests(&record).last().unwrap().0, execute(2, b""));
}
