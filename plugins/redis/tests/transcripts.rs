//! What the plugin decides, whatever pieces the bytes come in.

use plugin_sdk::testing::{
    Decision, Harness, Record, Request, Split, Transcript, assert_split_invariant, replay,
};
use plugin_sdk::{Loss, Origin, Reply, Value};
use redis_protocol::resp2::types::Resp2Frame;
use tcpcopy_redis::{Redis, encode};

type Settings<'a> = &'a [(&'a str, Value)];

fn table(pairs: &[(&str, &str)]) -> Value {
    Value::Table(pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
}

/// Commands as arrays; words are divided by spaces.
fn commands(lines: &[&str]) -> Vec<u8> {
    let command = |line: &&str| encode::command(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    lines.iter().flat_map(command).collect()
}

fn run(settings: Settings<'_>, transcript: &Transcript) -> Record {
    assert_split_invariant::<Redis>(settings, transcript);
    replay::<Redis>(settings, transcript, Split::Whole)
}

fn replies(record: &Record) -> usize {
    record.decisions.iter().filter(|decision| **decision == Decision::ReplyComplete).count()
}

fn expected(record: &Record) -> usize {
    record.requests().iter().filter(|request| request.reply == Some(Reply::Expected)).count()
}

/// Sends commands, and gives what goes to the target.
fn sent(settings: Settings<'_>, lines: &[&str]) -> String {
    let record = run(settings, &Transcript::new().connected().request(commands(lines)));
    lines_of(&record.sent())
}

/// Arrays as words divided by spaces, one line each.
fn lines_of(bytes: &[u8]) -> String {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while let Ok(Some((frame, length))) = redis_protocol::resp2::decode::decode(rest) {
        let redis_protocol::resp2::types::OwnedFrame::Array(args) = frame else { panic!("{frame:?}") };
        let words: Vec<String> = args.iter().map(|arg| arg.to_string().unwrap_or_default()).collect();
        lines.push(words.join(" "));
        rest = &rest[length..];
    }
    assert!(rest.is_empty(), "{:?}", rest.escape_ascii().to_string());
    lines.join("; ")
}

/// Sends commands and the target's answers, all of which must be of the requests.
fn answered(settings: Settings<'_>, lines: &[&str], answers: &str) -> Record {
    let record = run(settings, &Transcript::new().connected().request(commands(lines)).response(answers));
    assert_eq!(replies(&record), expected(&record), "{lines:?} {:?}", record.decisions);
    assert_eq!(record.counts.get("replies to nothing"), None, "{lines:?}");
    record
}

#[test]
fn requests_pass_as_they_come_and_are_answered_in_order() {
    let requests = commands(&["SET a 1", "GET a", "PING"]);
    let transcript = Transcript::new().connected().request(&requests).response("+OK\r\n$1\r\n1\r\n+PONG\r\n");
    let record = run(&[], &transcript);
    assert_eq!(record.sent(), requests);
    let lengths: Vec<usize> = record.requests().iter().map(|request| request.bytes.0.len()).collect();
    assert_eq!(lengths, [27, 20, 14]);
    assert_eq!((expected(&record), replies(&record)), (3, 3));
    assert!(record.undecided.0.is_empty());
}

#[test]
fn inline_commands_are_requests() {
    let transcript = Transcript::new()
        .connected()
        .request("PING\r\nSET a \"b c\"\n\r\nGET a\r\n")
        .response("+PONG\r\n+OK\r\n$3\r\nb c\r\n");
    let record = run(&[], &transcript);
    assert_eq!(record.sent(), b"PING\r\nSET a \"b c\"\nGET a\r\n");
    assert_eq!((expected(&record), replies(&record)), (3, 3));
}

#[test]
fn large_arguments_pass_piece_by_piece() {
    let mut harness = Harness::<Redis>::new(&[]);
    let session = harness.open();
    harness.connected(session);
    harness.request(session, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$500000000\r\n");
    for _ in 0..100 {
        harness.request(session, [b'x'; 1000]);
        assert!(harness.undecided(session).is_empty());
    }
    assert_eq!(harness.requests(session).len(), 1);
    assert_eq!(harness.requests(session)[0].reply, None);
}

#[test]
fn dangerous_commands_are_dropped_and_counted_unless_allowed() {
    let lines = [
        "SET a 1",
        "FLUSHALL",
        "CONFIG SET save x",
        "config get save",
        "SHUTDOWN",
        "CLIENT KILL ID 1",
        "GET a",
    ];
    let record = run(&[], &Transcript::new().connected().request(commands(&lines)));
    assert_eq!(lines_of(&record.sent()), "SET a 1; GET a");
    for name in ["FLUSHALL", "CONFIG SET", "CONFIG GET", "SHUTDOWN", "CLIENT KILL"] {
        assert_eq!(record.counts[&format!("dropped {name}: dangerous")], 1);
    }
    let allow = [("allow-dangerous", Value::from(["config", "flushall"]))];
    assert_eq!(sent(&allow, &lines), "SET a 1; FLUSHALL; CONFIG SET save x; config get save; GET a");
    let all = [("allow-dangerous", Value::from(["@dangerous"]))];
    assert_eq!(sent(&all, &lines), lines.join("; "));
}

#[test]
fn read_only_sends_nothing_that_may_write() {
    let lines = [
        "SELECT 1",
        "GET a",
        "SET a 1",
        "EVAL x 0",
        "EVAL_RO x 0",
        "PUBLISH c m",
        "SORT a",
        "SORT a STORE b",
        "FOO bar",
        "BITFIELD a GET u8 0",
        "BITFIELD a SET u8 0 1",
        "GETEX a",
        "XREAD STREAMS a 0",
        "PFCOUNT a",
        "MULTI",
        "INCR a",
        "EXEC",
        "FUNCTION LOAD x",
        "SCRIPT LOAD x",
        "GEORADIUS a 1 2 3 m",
        "GEORADIUS a 1 2 3 m STOREDIST b",
        "CONFIG FOO x",
    ];
    let read_only = [("read-only", Value::from(true)), ("allow-dangerous", Value::from(["@dangerous"]))];
    assert_eq!(
        sent(&read_only, &lines),
        "SELECT 1; GET a; EVAL_RO x 0; SORT a; BITFIELD a GET u8 0; XREAD STREAMS a 0; MULTI; EXEC; SCRIPT LOAD x; \
         GEORADIUS a 1 2 3 m"
    );
}

#[test]
fn commands_are_kept_and_dropped_by_name_and_category() {
    let lines = ["AUTH x", "GET a", "SET a 1", "DEL a", "PUBLISH c m", "MULTI", "EXEC", "WHATEVER"];
    let keep = |names: &[&str]| [("keep", Value::Texts(names.iter().map(ToString::to_string).collect()))];
    assert_eq!(sent(&keep(&["set"]), &lines), "AUTH x; SET a 1; MULTI; EXEC");
    assert_eq!(sent(&keep(&["@read", "@unknown"]), &lines), "AUTH x; GET a; MULTI; EXEC; WHATEVER");
    assert_eq!(
        sent(&[("drop", Value::from(["@write", "auth", "@unknown"]))], &lines),
        "GET a; PUBLISH c m; MULTI; EXEC"
    );
    assert_eq!(sent(&[("unknown-commands", Value::from("drop"))], &["WHATEVER", "GET a"]), "GET a");
    assert!(Harness::<Redis>::try_new(&[("keep", Value::from(["@nothing"]))]).is_err());
    assert!(Harness::<Redis>::try_new(&[("allow-dangerous", Value::from(["flush"]))]).is_err());
}

#[test]
fn keys_are_filtered_by_globs() {
    let lines = [
        "GET user:1",
        "GET job:1",
        "MSET user:1 a job:1 b",
        "MGET user:1 user:2",
        "PING",
        "XREAD STREAMS job:1 0",
    ];
    let keep = [("keep-keys", Value::from(["user:*"]))];
    assert_eq!(sent(&keep, &lines), "GET user:1; MGET user:1 user:2; PING");
    let drop = [("drop-keys", Value::from(["job:*"]))];
    assert_eq!(sent(&drop, &lines), "GET user:1; MGET user:1 user:2; PING");
}

#[test]
fn keys_get_a_prefix_wherever_they_are() {
    let prefix = [("key-prefix", Value::from("t:"))];
    let lines = [
        ("GET a", "GET t:a"),
        ("MSET a 1 b 2", "MSET t:a 1 t:b 2"),
        ("EVAL s 2 a b c", "EVAL s 2 t:a t:b c"),
        ("XREAD COUNT 1 STREAMS a b 0 0", "XREAD COUNT 1 STREAMS t:a t:b 0 0"),
        ("KEYS a*", "KEYS t:a*"),
        ("SORT a BY w_* STORE b", "SORT t:a BY t:w_* STORE t:b"),
        ("OBJECT ENCODING a", "OBJECT ENCODING t:a"),
        ("BLPOP a b 0", "BLPOP t:a t:b 0"),
        ("PING", "PING"),
        ("CLIENT TRACKING ON BCAST PREFIX a PREFIX b", "CLIENT TRACKING ON BCAST PREFIX t:a PREFIX t:b"),
        ("FOO a", "FOO a"),
    ];
    for (line, wanted) in lines {
        assert_eq!(sent(&prefix, &[line]), wanted);
    }
    let record = run(&prefix, &Transcript::new().connected().request("GET a\r\nPING\r\n"));
    assert_eq!(record.sent(), b"*2\r\n$3\r\nGET\r\n$3\r\nt:a\r\nPING\r\n");
    let both = [("key-prefix", Value::from("t:")), ("drop-keys", Value::from(["b*"]))];
    assert_eq!(sent(&both, &["GET a", "GET b", "DEL a c"]), "GET t:a; DEL t:a t:c");
}

#[test]
fn databases_are_mapped() {
    let map = [("databases", table(&[("0", "5"), ("1", "0")]))];
    let record = run(
        &map,
        &Transcript::new().connected().response("+OK\r\n").request(commands(&[
            "SELECT 1",
            "SELECT 2",
            "MOVE a 1",
            "COPY a b DB 0",
            "SWAPDB 0 1",
            "RESET",
        ])),
    );
    assert_eq!(
        lines_of(&record.sent()),
        "SELECT 5; SELECT 0; SELECT 2; MOVE a 0; COPY a b DB 5; RESET; SELECT 5"
    );
    assert_eq!(record.decisions[1], Decision::Ready);
}

#[test]
fn logins_become_those_of_the_target() {
    let one = [("password", Value::from("new"))];
    assert_eq!(
        sent(&one, &["AUTH old", "AUTH bob old", "HELLO 3 AUTH bob old SETNAME n"]),
        "AUTH new; AUTH new; HELLO 3 AUTH default new SETNAME n"
    );
    let named =
        [("user", Value::from("u")), ("password", Value::from("p")), ("passwords", table(&[("bob", "b")]))];
    assert_eq!(
        sent(&named, &["AUTH old", "AUTH bob old", "HELLO 2 AUTH bob old", "HELLO 3"]),
        "AUTH u p; AUTH bob b; HELLO 2 AUTH bob b; HELLO 3"
    );
    assert_eq!(
        sent(&[("passwords", table(&[("bob", "b")]))], &["AUTH old", "AUTH bob old"]),
        "AUTH old; AUTH bob b"
    );
    assert_eq!(sent(&[], &["AUTH old"]), "AUTH old");
    let record = run(&one, &Transcript::new().connected().request("AUTH old\r\n"));
    assert_eq!(lines_of(&record.sent()), "AUTH new");
    assert!(Harness::<Redis>::try_new(&[("user", Value::from("u"))]).is_err());
}

#[test]
fn a_login_is_made_up_where_none_can_be_seen() {
    let joined =
        Transcript::of(Origin::MidStream).connected().response("+OK\r\n").request(commands(&["GET a"]));
    let password = [("password", Value::from("p"))];
    let record = run(&password, &joined);
    assert_eq!(lines_of(&record.sent()), "AUTH p; GET a");
    assert_eq!(record.decisions.iter().position(|decision| *decision == Decision::Ready), Some(1));
    let always = [("password", Value::from("p")), ("login", Value::from("always"))];
    let start = Transcript::new().connected().response("+OK\r\n").request(commands(&["RESET", "GET a"]));
    let record = run(&always, &start.response("+RESET\r\n+OK\r\n$-1\r\n"));
    assert_eq!(lines_of(&record.sent()), "AUTH p; RESET; AUTH p; GET a");
    assert_eq!(replies(&record), 2);
    let refused = run(&password, &Transcript::of(Origin::Rejoined).connected().response("-WRONGPASS no\r\n"));
    assert!(refused.counts.keys().any(|name| name.contains("new connection is told: WRONGPASS")));
    assert!(refused.decisions.contains(&Decision::Ready));
}

#[test]
fn a_joined_connection_begins_with_a_whole_request() {
    let settings = [("join-database", Value::from(3)), ("databases", table(&[("3", "4")]))];
    let rest = [b"llo\r\n".to_vec(), commands(&["SET a *1", "GET a"])].concat();
    let transcript = Transcript::of(Origin::MidStream).connected().response("+OK\r\n").request(&rest);
    let record = run(&settings, &transcript);
    assert_eq!(lines_of(&record.sent()), "SELECT 4; SET a *1; GET a");
    assert_eq!(record.counts["bytes before the first whole request"], 5);
}

#[test]
fn behind_a_gap_it_goes_on_with_the_next_whole_request() {
    let transcript = Transcript::new()
        .connected()
        .request(commands(&["GET a"]))
        .gap()
        .request([b"xyz\r\nDEL b\r\n".to_vec(), commands(&["GET c"])].concat())
        .response("$-1\r\n$-1\r\n");
    let record = run(&[], &transcript);
    assert_eq!(lines_of(&record.sent()), "GET a; GET c");
    assert_eq!(replies(&record), 2);
}

#[test]
fn a_new_connection_is_told_what_the_old_one_was() {
    let lines = [
        "AUTH old",
        "HELLO 3 SETNAME me",
        "SELECT 2",
        "CLIENT SETINFO LIB-NAME x",
        "CLIENT NO-EVICT on",
        "CLIENT TRACKING ON",
        "READONLY",
        "SUBSCRIBE c1 c2",
        "UNSUBSCRIBE c1",
        "SELECT 99",
        "GET a",
    ];
    let answers = "+OK\r\n%1\r\n+proto\r\n:3\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n>3\r\n$9\r\nsubscribe\r\n$2\r\nc1\r\n:1\r\n\
                   >3\r\n$9\r\nsubscribe\r\n$2\r\nc2\r\n:2\r\n>3\r\n$11\r\nunsubscribe\r\n$2\r\nc1\r\n:1\r\n-ERR range\r\n_\r\n";
    let password = [("password", Value::from("new"))];
    let transcript = Transcript::new()
        .connected()
        .request(commands(&lines))
        .response(answers)
        .request(commands(&["SELECT 7", "GET b"]))
        .connection_lost(Loss { unanswered: 1, kept: 1, interrupted: false })
        .connected()
        .response("+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n>3\r\n$9\r\nsubscribe\r\n$2\r\nc2\r\n:1\r\n_\r\n");
    let record = run(&password, &transcript);
    let last = record
        .decisions
        .iter()
        .rposition(|decision| matches!(decision, Decision::Prepare(_)))
        .expect("a preamble");
    let Decision::Prepare(preamble) = &record.decisions[last] else { unreachable!() };
    assert_eq!(
        lines_of(&preamble.0),
        "AUTH new; HELLO 3; SELECT 7; CLIENT SETNAME me; CLIENT SETINFO LIB-NAME x; CLIENT NO-EVICT on; CLIENT TRACKING ON; \
         READONLY; SUBSCRIBE c2"
    );
    assert_eq!(record.decisions[last + 1..], [Decision::Ready, Decision::ReplyComplete]);
    assert_eq!(replies(&record), 12);
}

#[test]
fn an_open_transaction_is_opened_again() {
    let transcript = Transcript::new()
        .connected()
        .request(commands(&["MULTI", "SELECT 3", "SET a 1", "EXEC", "GET a"]))
        .response("+OK\r\n+QUEUED\r\n")
        .connection_lost(Loss { unanswered: 1, kept: 2, interrupted: false })
        .connected()
        .response("+OK\r\n*0\r\n$-1\r\n");
    let record = run(&[], &transcript);
    assert!(record.sent().ends_with(&commands(&["MULTI"])));
    assert_eq!(replies(&record), 4);
}

#[test]
fn transactions_are_answered_request_by_request() {
    answered(
        &[],
        &[
            "MULTI", "FLUSHALL", "SET a 1", "SELECT 1", "EXEC", "MULTI", "DISCARD", "MULTI", "EXEC",
            "WATCH a", "MULTI", "EXEC",
        ],
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n*0\r\n+OK\r\n+OK\r\n*-1\r\n",
    );
    // As Redis 7 answers it: the array has one element for each request, but a subscription writes one for each channel.
    answered(
        &[],
        &["MULTI", "SUBSCRIBE a b", "GET x", "EXEC", "PING"],
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n\
         $-1\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n",
    );
}

#[test]
fn subscriptions_are_confirmed_by_channel() {
    let record = answered(
        &[],
        &[
            "SUBSCRIBE a a b",
            "PSUBSCRIBE p*",
            "UNSUBSCRIBE",
            "PUNSUBSCRIBE",
            "UNSUBSCRIBE",
            "SSUBSCRIBE s",
            "SUNSUBSCRIBE",
            "PING",
        ],
        "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n\
         *3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n\
         *3\r\n$10\r\npsubscribe\r\n$2\r\np*\r\n:3\r\n*4\r\n$8\r\npmessage\r\n$2\r\np*\r\n$1\r\np\r\n$1\r\nx\r\n\
         *3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:2\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n\
         *3\r\n$12\r\npunsubscribe\r\n$2\r\np*\r\n:0\r\n*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n\
         *3\r\n$10\r\nssubscribe\r\n$1\r\ns\r\n:1\r\n*3\r\n$12\r\nsunsubscribe\r\n$1\r\ns\r\n:0\r\n+PONG\r\n",
    );
    assert_eq!(replies(&record), 8);
    // Refused, and queued.
    answered(&[], &["SUBSCRIBE a b", "PING"], "-NOPERM no\r\n+PONG\r\n");
}

#[test]
fn an_array_that_looks_like_a_message_is_a_reply() {
    answered(&[], &["LRANGE a 0 -1", "PING"], "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n+PONG\r\n");
    answered(&[], &["LRANGE a 0 -1", "PING"], "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n+PONG\r\n");
}

#[test]
fn pushes_of_resp3_answer_nothing() {
    answered(
        &[],
        &["HELLO 3", "CLIENT TRACKING ON", "GET a", "SUBSCRIBE c", "GET a", "LRANGE l 0 -1"],
        "%1\r\n+proto\r\n:3\r\n+OK\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n$1\r\n1\r\n\
         >3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n|1\r\n+ttl\r\n:1\r\n$1\r\n1\r\n\
         *3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
    );
}

#[test]
fn a_monitor_sees_more_than_its_replies() {
    let record = answered(
        &[],
        &["MONITOR", "PING", "RESET", "PING"],
        "+OK\r\n+PONG\r\n+1795316784.554743 [0 127.0.0.1:1] \"PING\"\r\n+RESET\r\n+PONG\r\n",
    );
    assert_eq!(replies(&record), 4);
}

#[test]
fn replies_that_were_not_wanted_are_not_waited_for() {
    let replies_of = |lines: &[&str], answers: &str| -> Vec<Option<Reply>> {
        let record = answered(&[], lines, answers);
        record.requests().iter().map(|request: &Request| request.reply).collect()
    };
    let (yes, no) = (Some(Reply::Expected), Some(Reply::NotExpected));
    assert_eq!(
        replies_of(
            &["PING", "CLIENT REPLY OFF", "SET a 1", "CLIENT REPLY SKIP", "CLIENT REPLY ON", "PING"],
            "+PONG\r\n+OK\r\n+PONG\r\n"
        ),
        [yes, no, no, no, yes, yes]
    );
    // What is skipped goes with its skip.
    assert_eq!(replies_of(&["CLIENT REPLY SKIP", "SET a 1", "PING"], "+PONG\r\n"), [no, yes]);
    assert_eq!(replies_of(&["CLIENT REPLY SKIP", "FLUSHALL", "SET a 1", "PING"], "+PONG\r\n"), [no, yes]);
    assert_eq!(
        replies_of(&["CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "PING", "PING"], "+PONG\r\n"),
        [no, yes]
    );
    assert_eq!(replies_of(&["CLIENT REPLY OFF", "RESET", "PING"], "+RESET\r\n+PONG\r\n"), [no, yes, yes]);
    assert_eq!(replies_of(&["CLIENT REPLY SKIP", "RESET", "PING"], "+PONG\r\n"), [no, yes]);
    assert_eq!(
        replies_of(&["CLIENT REPLY FOO", "CLIENT REPLY", "PING"], "-ERR x\r\n-ERR x\r\n+PONG\r\n"),
        [yes; 3]
    );
    // Confirmations come all the same.
    assert_eq!(
        replies_of(
            &["CLIENT REPLY SKIP", "SUBSCRIBE a", "SUBSCRIBE b"],
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"
        ),
        [no, yes]
    );
}

#[test]
fn nothing_follows_a_farewell() {
    let record = run(
        &[],
        &Transcript::new()
            .connected()
            .request(commands(&["GET a", "QUIT", "GET b"]))
            .response("$-1\r\n+OK\r\n"),
    );
    assert_eq!(lines_of(&record.sent()), "GET a; QUIT");
    assert_eq!(replies(&record), 2);
    assert!(record.undecided.0.is_empty());
}

#[test]
fn what_is_no_request_passes_as_it_is() {
    for bytes in ["*1\r\n:1\r\nGET a\r\n", "SET a \"b\r\nGET a\r\n", "*2\r\n$3\r\nGET\r\nfoo\r\n", "*x\r\n"] {
        let record = run(&[], &Transcript::new().connected().request(bytes));
        assert_eq!(record.decisions.last(), Some(&Decision::PassThrough), "{bytes:?}");
        assert!(record.counts.keys().any(|name| name.starts_with("invalid request")), "{:?}", record.counts);
    }
    let record =
        run(&[], &Transcript::new().connected().request(commands(&["GET a"])).response("HTTP/1.1 400\r\n"));
    assert_eq!(record.decisions.last(), Some(&Decision::PassThrough));
}

#[test]
fn tls_is_named() {
    let record = run(&[], &Transcript::new().connected().request([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]));
    assert!(matches!(record.decisions.last(), Some(Decision::GiveUp(why)) if why.contains("TLS")));
}

#[test]
fn errors_are_counted_by_their_first_word() {
    let record = answered(
        &[],
        &["GET a", "GET b", "GET c", "GET d"],
        "-MOVED 3999 127.0.0.1:6381\r\n-ASK 3999 127.0.0.1:6381\r\n-ERR no\r\n!10\r\nSYNTAX bad\r\n",
    );
    let counted =
        |start: &str| record.counts.iter().find(|(name, _)| name.starts_with(start)).map(|(_, count)| *count);
    assert_eq!(counted("answered MOVED: the target is a cluster"), Some(1));
    assert_eq!(counted("answered ASK: "), Some(1));
    assert_eq!(counted("answered ERR"), Some(1));
    assert_eq!(counted("answered SYNTAX"), Some(1));
}

#[test]
fn a_replica_is_passed_on_only_if_allowed() {
    assert_eq!(sent(&[], &["PSYNC ? -1", "GET a"]), "GET a");
    let allow = [("allow-dangerous", Value::from(["psync"]))];
    let record = run(&allow, &Transcript::new().connected().request(commands(&["PSYNC ? -1"])));
    assert_eq!(record.decisions.last(), Some(&Decision::PassThrough));
}

#[test]
fn too_long_to_look_through_is_too_long_in_any_pieces() {
    let mut request = b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$2000000\r\n".to_vec();
    request.resize(request.len() + 2_000_000, b'x');
    request.extend_from_slice(b"\r\n");
    request.extend(commands(&["GET a"]));
    for step in [request.len(), 1460, 700_000] {
        let mut harness = Harness::<Redis>::new(&[]);
        let session = harness.open();
        harness.connected(session);
        request.chunks(step).for_each(|piece| drop(harness.request(session, piece)));
        assert_eq!(lines_of(&harness.sent(session)), "GET a");
        assert_eq!(
            harness.count("dropped CLIENT: too long to be looked through"),
            1,
            "{:?}",
            harness.counts()
        );
    }
}

#[test]
fn what_is_left_out_is_a_request_of_its_own() {
    let record =
        run(&[], &Transcript::new().connected().request(commands(&["FLUSHALL", "GET a"])).request("\r\n"));
    let requests = record.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[0].bytes.0.is_empty() && requests[0].reply == Some(Reply::NotExpected));
    assert_eq!(requests[1].reply, Some(Reply::Expected));
    assert!(requests[2].bytes.0.is_empty() && requests[2].reply == Some(Reply::NotExpected));
}

#[test]
fn a_request_that_was_broken_off_has_no_reply() {
    let set = commands(&["SET a value"]);
    let transcript = Transcript::new()
        .connected()
        .request(&set[..set.len() - 3])
        .connection_lost(Loss { unanswered: 0, kept: 0, interrupted: true })
        .request(&set[set.len() - 3..])
        .connected()
        .request(commands(&["GET a"]))
        .response("$-1\r\n");
    let record = run(&[], &transcript);
    let replies_of: Vec<Option<Reply>> = record.requests().iter().map(|request| request.reply).collect();
    assert_eq!(replies_of.last(), Some(&Some(Reply::Expected)));
    assert_eq!((expected(&record), replies(&record)), (1, 1));
    assert!(record.decisions.contains(&Decision::EndRequest(Reply::NotExpected)));
}
