//! Whole sessions: what is decided, whatever pieces the bytes come in.

use plugin_sdk::testing::{Decision, Record, Transcript, assert_split_invariant, discard, forward};
use plugin_sdk::{Loss, Origin, Reply, Value};
use std::time::Duration;
use tcpcopy_http::Http;

const END: Decision = Decision::EndRequest(Reply::Expected);
const END_UNANSWERED: Decision = Decision::EndRequest(Reply::NotExpected);
const REPLIED: Decision = Decision::ReplyComplete;

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CLOSING: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
const EXPECT: &str = "POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

fn check_with(settings: &[(&str, Value)], transcript: &Transcript, expected: &[Decision]) -> Record {
    let record = assert_split_invariant::<Http>(settings, transcript);
    assert_eq!(record.decisions, expected);
    record
}

#[track_caller]
fn check(transcript: &Transcript, expected: &[Decision]) -> Record {
    check_with(&[], transcript, expected)
}

fn t() -> Transcript {
    Transcript::new()
}

fn lost(unanswered: u32, kept: u32) -> Loss {
    Loss { unanswered, kept, interrupted: false }
}

#[test]
fn requests_and_replies_have_their_ends() {
    check(
        &t().request(GET).response(OK).request(GET).response(OK),
        &[forward(GET), END, REPLIED, forward(GET), END, REPLIED],
    );
    let post = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n";
    check(&t().request(post).response(OK), &[forward(post), END, REPLIED]);
}

#[test]
fn pipelined_requests_are_answered_in_turn() {
    let requests = GET.repeat(3) + "HEAD / HTTP/1.1\r\n\r\n" + GET;
    let head = "HEAD / HTTP/1.1\r\n\r\n";
    let responses = "HTTP/1.1 100 Continue\r\n\r\n".to_owned()
        + OK
        + "HTTP/1.1 204 No\r\n\r\n"
        + "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        + "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"
        + "HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n";
    let record = check(
        &t().request(&requests).response(responses),
        &[
            forward(GET),
            END,
            forward(GET),
            END,
            forward(GET),
            END,
            forward(head),
            END,
            forward(GET),
            END,
            REPLIED,
            REPLIED,
            REPLIED,
            REPLIED,
            REPLIED,
        ],
    );
    assert!(record.counts.is_empty(), "{:?}", record.counts);
}

#[test]
fn empty_lines_between_requests_are_left_out() {
    check(
        &t().request(format!("\r\n{GET}\n")).response(OK),
        &[discard("\r\n"), END_UNANSWERED, forward(GET), END, discard("\n"), END_UNANSWERED, REPLIED],
    );
}

#[test]
fn a_closing_response_sends_the_next_request_elsewhere() {
    check(&t().request(GET).response(CLOSING), &[forward(GET), END, REPLIED]);
    check(
        &t().request(GET).response(CLOSING).request(GET).connection_lost(lost(0, 1)).response(OK),
        &[forward(GET), END, REPLIED, Decision::Reconnect, forward(GET), END, REPLIED],
    );
    // The target closed by itself, and the host has seen to it.
    check(
        &t().request(GET)
            .response(CLOSING)
            .response_end()
            .connection_lost(lost(0, 0))
            .request(GET)
            .response(OK),
        &[forward(GET), END, REPLIED, forward(GET), END, REPLIED],
    );
    for closing in ["HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nto the end"] {
        check(
            &t().request(GET).response(closing).response_end().request(GET),
            &[forward(GET), END, REPLIED, Decision::Reconnect, forward(GET), END],
        );
    }
    let kept = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";
    check(&t().request(GET).response(kept).request(GET), &[forward(GET), END, REPLIED, forward(GET), END]);
}

#[test]
fn requests_behind_a_closing_response_go_to_a_new_connection() {
    check(
        &t().request(GET.repeat(3))
            .response(CLOSING.to_owned() + OK)
            .connection_lost(lost(1, 1))
            .response(OK),
        &[forward(GET), END, forward(GET), END, forward(GET), END, REPLIED, Decision::Reconnect, REPLIED],
    );
}

#[test]
fn a_lost_connection_takes_its_unanswered_requests_along() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok";
    check(
        &t().request(GET.repeat(2)).response(cut).connection_lost(lost(1, 1)).response(OK),
        &[forward(GET), END, forward(GET), END, REPLIED],
    );
    let endless = "HTTP/1.1 200 OK\r\n\r\nto the end";
    check(
        &t().request(GET).response(endless).response_end().connection_lost(lost(0, 0)),
        &[forward(GET), END, REPLIED],
    );
}

#[test]
fn an_interrupted_request_gets_no_reply() {
    let head = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
    let loss = Loss { unanswered: 0, kept: 0, interrupted: true };
    check(
        &t().request(format!("{head}he")).connection_lost(loss).request(format!("llo{GET}")).response(OK),
        &[forward(format!("{head}hello")), END_UNANSWERED, forward(GET), END, REPLIED],
    );
}

#[test]
fn an_early_answer_that_closes_leaves_the_rest_out() {
    let head = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
    let refusal = "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    check(
        &t().request(format!("{head}he")).response(refusal).request(format!("llo{GET}")),
        &[forward(format!("{head}he")), REPLIED, discard("llo"), END, Decision::Reconnect, forward(GET), END],
    );
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    check(
        &t().request(format!("{head}he")).response(answer).request(format!("llo{GET}")).response(OK),
        &[forward(format!("{head}he")), REPLIED, forward("llo"), END, forward(GET), END, REPLIED],
    );
}

#[test]
fn a_body_waits_for_the_targets_100() {
    let go = "HTTP/1.1 100 Continue\r\n\r\n";
    check(&t().request(EXPECT).request("hello"), &[forward(EXPECT)]);
    check(
        &t().request(EXPECT).request("hello").response(go).response(OK).request(GET),
        &[forward(EXPECT), forward("hello"), END, REPLIED, forward(GET), END]
            .iter()
            .cloned()
            .fold(Vec::new(), join),
    );
    check(
        &t().request(EXPECT).response(go).request("hello").response(OK),
        &[forward(format!("{EXPECT}hello")), END, REPLIED],
    );
    let record = check(
        &t().request(EXPECT).request("hello").advance(Duration::from_millis(1001)).response(OK),
        &[forward(format!("{EXPECT}hello")), END, REPLIED],
    );
    assert_eq!(record.counts.get("bodies sent without the target's 100"), Some(&1));
    // A body that begins like a request line is one all the same, once time has passed.
    let odd = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    check(
        &t().request(odd).request("GET").response(go).advance(Duration::from_millis(1001)),
        &[forward(format!("{odd}GET")), END],
    );
}

/// Neighbouring bytes are joined.
fn join(mut joined: Vec<Decision>, next: Decision) -> Vec<Decision> {
    match (joined.last_mut(), next) {
        (Some(Decision::Forward(before)), Decision::Forward(next)) => before.0.extend(next.0),
        (_, next) => joined.push(next),
    }
    joined
}

#[test]
fn a_body_that_the_target_refuses_is_left_out() {
    let refusal = "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n";
    check(
        &t().request(EXPECT).request("hello").response(refusal).request(GET),
        &[forward(EXPECT), REPLIED, discard("hello"), END, Decision::Reconnect, forward(GET), END],
    );
    // The body comes later, or not at all.
    check(
        &t().request(EXPECT).response(refusal).request("hello").request(GET),
        &[
            forward(EXPECT),
            REPLIED,
            END,
            discard("hello"),
            END_UNANSWERED,
            Decision::Reconnect,
            forward(GET),
            END,
        ],
    );
    check(
        &t().request(EXPECT).response(refusal).request(GET),
        &[forward(EXPECT), REPLIED, END, Decision::Reconnect, forward(GET), END],
    );
}

#[test]
fn a_client_that_was_refused_sends_no_body() {
    // The online server said 417, the target takes longer to say so.
    let refusal = "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n";
    check(
        &t().request(EXPECT).request(GET).response(refusal).connection_lost(lost(0, 1)).response(OK),
        &[forward(EXPECT), END, forward(GET), END, REPLIED, Decision::Reconnect, REPLIED],
    );
    // The target would have taken the body.
    check(
        &t().request(EXPECT)
            .request(GET)
            .response("HTTP/1.1 100 Go\r\n\r\n")
            .connection_lost(lost(1, 1))
            .response(OK),
        &[forward(EXPECT), END, forward(GET), END, Decision::Reconnect, REPLIED],
    );
}

#[test]
fn websockets_pass_once_the_target_agrees() {
    check(&t().request(WEBSOCKET).request("\u{81}\u{5}hello"), &[forward(WEBSOCKET), END]);
    check(
        &t().request(WEBSOCKET).request("\u{81}\u{5}hello").response(SWITCHING),
        &[forward(WEBSOCKET), END, REPLIED, Decision::PassThrough],
    );
    check(
        &t().request(WEBSOCKET).response(format!("{SWITCHING}frames")).request("\u{81}\u{5}hello"),
        &[forward(WEBSOCKET), END, REPLIED, Decision::PassThrough],
    );
}

#[test]
fn a_refused_change_of_protocol_leaves_requests_only() {
    check(
        &t().request(WEBSOCKET).response(OK).request(GET).response(OK),
        &[forward(WEBSOCKET), END, REPLIED, forward(GET), END, REPLIED],
    );
    let reason = "the target refused a change of protocol that the online server granted";
    for transcript in [
        t().request(WEBSOCKET).response(OK).request("\u{81}\u{5}hello"),
        t().request(WEBSOCKET).request("\u{81}\u{5}hello").response(OK),
    ] {
        let record = assert_split_invariant::<Http>(&[], &transcript);
        assert!(record.decisions.contains(&Decision::GiveUp(reason.to_owned())), "{record:?}");
    }
    let record = check(
        &t().request(WEBSOCKET).response(SWITCHING).request(GET).connection_lost(lost(0, 1)).response(OK),
        &[forward(WEBSOCKET), END, REPLIED, Decision::Reconnect, forward(GET), END, REPLIED],
    );
    assert_eq!(record.counts.get("upgrades that only the target granted"), Some(&1));
}

#[test]
fn tunnels_and_other_protocols_pass() {
    let connect = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
    check(
        &t().request(connect).response("HTTP/1.1 200 OK\r\n\r\n"),
        &[forward(connect), END, REPLIED, Decision::PassThrough],
    );
    let refused = "HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno";
    check(
        &t().request(connect).response(refused).request(connect),
        &[forward(connect), END, REPLIED, forward(connect), END],
    );
    let docker =
        "POST /attach HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}";
    check(
        &t().request(docker).response("HTTP/1.1 101 UPGRADED\r\n\r\n"),
        &[forward(docker), END, REPLIED, Decision::PassThrough],
    );
    check(&t().request("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0"), &[Decision::PassThrough]);
    let h2c =
        "GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n";
    check(
        &t().request(h2c).response(SWITCHING).request("PRI * HTTP/2.0\r\n\r\n"),
        &[forward(h2c), END, REPLIED, Decision::PassThrough],
    );
}

#[test]
fn bad_requests_are_forwarded_or_end_the_connection() {
    let bad = "GET nonsense\r\n";
    check(&t().request(format!("{GET}{bad}")), &[forward(GET), END, Decision::PassThrough]);
    let drop = [("bad-requests", Value::from("drop"))];
    check_with(&drop, &t().request(format!("{GET}{bad}")), &[forward(GET), END, Decision::Close]);
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab";
    check(&t().request(chunked), &[forward(&chunked[..chunked.len() - 1]), Decision::PassThrough]);
    let record = check(
        &t().request("\u{16}\u{3}\u{1}"),
        &[Decision::GiveUp("TLS can't be replayed: capture behind the server that ends it".to_owned())],
    );
    assert!(record.counts.is_empty());
}

#[test]
fn bad_responses_cost_the_connection() {
    let record = check(
        &t().request(GET.repeat(2)).response("nonsense").connection_lost(lost(1, 1)).response(OK),
        &[forward(GET), END, forward(GET), END, Decision::Reconnect, REPLIED],
    );
    assert_eq!(record.counts.get("bad responses: no status line"), Some(&1));
    let record = check(
        &t().request(GET).response(OK).response("HTTP/1.1 408 Late\r\n\r\n").request(GET),
        &[forward(GET), END, REPLIED, Decision::Reconnect, forward(GET), END],
    );
    assert_eq!(record.counts.get("responses to no request"), Some(&1));
    check(
        &t().request(GET).response(SWITCHING).connection_lost(lost(1, 0)).request(GET).response(OK),
        &[forward(GET), END, Decision::Reconnect, forward(GET), END, REPLIED],
    );
}

#[test]
fn behind_a_gap_a_request_has_to_be_sure() {
    let head = "POST / HTTP/1.1\r\nContent-Length: 50\r\n\r\n";
    check(
        &t().request(format!("{head}abc")).gap().request(format!("GET / HTTP/1.1\r\n\r\n{GET}")).response(OK),
        &[
            forward(format!("{head}abc")),
            discard("GET / HTTP/1.1\r\n\r\n"),
            END_UNANSWERED,
            forward(GET),
            END,
            REPLIED,
        ],
    );
    check(
        &t().request("GET / HT").gap().request(format!("TP/1.1\r\n\r\n{GET}")),
        &[discard("GET / HTTP/1.1\r\n\r\n"), END_UNANSWERED, forward(GET), END],
    );
    for origin in [Origin::MidStream, Origin::Rejoined] {
        check(
            &Transcript::of(origin).request(GET).response(OK),
            &[END_UNANSWERED, forward(GET), END, REPLIED],
        );
        check(
            &Transcript::of(origin).request(format!("x{GET}\r\n{GET}")),
            &[discard(format!("x{GET}\r\n")), END_UNANSWERED, forward(GET), END],
        );
    }
}

#[test]
fn requests_are_kept_and_dropped_by_rule() {
    let post = "POST /b HTTP/1.1\r\nX-User: ann\r\nContent-Length: 3\r\n\r\nabc";
    let requests = t().request(format!("{post}{GET}"));
    let dropped = [discard(post), END_UNANSWERED, forward(GET), END];
    for (name, value) in [
        ("keep-methods", Value::from(["GET", "HEAD"])),
        ("drop-methods", Value::from(["POST"])),
        ("keep-paths", Value::from(["/a*"])),
        ("drop-paths", Value::from(["/b"])),
        ("keep-path-regexes", Value::from(["^/[ac]$"])),
        ("drop-path-regexes", Value::from(["b$"])),
        ("keep-headers", Value::from(["host=*"])),
        ("drop-headers", Value::from(["x-user=a?n"])),
    ] {
        let record = check_with(&[(name, value)], &requests, &dropped);
        assert_eq!(record.counts.get(&format!("dropped by {name}")), Some(&1));
    }
    let expect = [discard(format!("{EXPECT}hello")), END_UNANSWERED, forward(GET), END];
    let drop = [("drop-methods", Value::from(["POST", "CONNECT"]))];
    check_with(&drop, &t().request(EXPECT).request("hello").request(GET), &expect);
    check_with(
        &drop,
        &t().request(EXPECT).request(GET),
        &[discard(EXPECT), END_UNANSWERED, forward(GET), END],
    );
    let tunnel = format!("CONNECT a:1 HTTP/1.1\r\n\r\n{GET}");
    check_with(
        &drop,
        &t().request(&tunnel),
        &[discard("CONNECT a:1 HTTP/1.1\r\n\r\n"), END_UNANSWERED, discard(GET)],
    );
}

#[test]
fn samples_go_by_user() {
    let settings =
        |percent: f64| [("sample-percent", Value::from(percent)), ("sample-header", Value::from("X-User"))];
    let mut kept = 0;
    for user in 0..200 {
        let request = format!("GET / HTTP/1.1\r\nX-User: {user}\r\n\r\n");
        let record = plugin_sdk::testing::replay::<Http>(
            &settings(25.0),
            &t().request(request.repeat(2)),
            plugin_sdk::testing::Split::Whole,
        );
        let requests =
            record.requests().iter().filter(|request| request.reply == Some(Reply::Expected)).count();
        assert!(requests == 0 || requests == 2, "all of a user's requests or none");
        kept += usize::from(requests == 2);
    }
    assert!((30..70).contains(&kept), "{kept} of 200 users");
    check_with(&settings(0.0), &t().request(GET), &[discard(GET), END_UNANSWERED]);
    check_with(&settings(100.0), &t().request(GET), &[forward(GET), END]);
}

#[test]
fn heads_are_rewritten() {
    let settings = [
        ("set-headers", Value::from([("X-New", "1"), ("user-agent", "replay")])),
        ("remove-headers", Value::from(["Referer"])),
        ("host", Value::from("test:81")),
        ("path-prefixes", Value::from([("/api/", "/v2/"), ("/api/old/", "/")])),
    ];
    for (before, after) in [
        (
            "POST /api/x?y=/api/ HTTP/1.1\r\nHost: a\r\nReferer: b\r\nUser-Agent: c\r\nUser-Agent: d\r\nContent-Length: 2\r\n\r\nhi",
            "POST /v2/x?y=/api/ HTTP/1.1\r\nHost: test:81\r\nuser-agent: replay\r\nContent-Length: 2\r\nX-New: 1\r\n\r\n|hi",
        ),
        (
            "GET /api/old/x HTTP/1.0\n\n",
            "GET /x HTTP/1.0\nHost: test:81\r\nX-New: 1\r\nuser-agent: replay\r\n\n|",
        ),
        (
            "GET http://a:80/api/ HTTP/1.1\r\nhost: a:80\r\nX-New: 0\r\n x\r\n\r\n",
            "GET http://test:81/v2/ HTTP/1.1\r\nhost: test:81\r\nX-New: 1\r\nuser-agent: replay\r\n\r\n|",
        ),
    ] {
        let (head, body) = after.split_once('|').expect("a body");
        let after =
            head.replace("\r\nuser-agent: replay\r\nContent", "\r\nUser-Agent: replay\r\nContent") + body;
        let record = assert_split_invariant::<Http>(&settings, &t().request(before));
        assert_eq!(String::from_utf8_lossy(&record.sent()), after);
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (name, value, text) in [
        ("sample-percent", Value::from(101.0), "sample-percent = 101: from 0 to 100 is possible"),
        ("max-head-bytes", Value::from(5), "max-head-bytes = 5: from 256 to 16777216 is possible"),
        ("keep-headers", Value::from(["x"]), "keep-headers: \"x\" is not NAME=PATTERN"),
        (
            "host",
            Value::from("a b"),
            "host = \"a b\": a host name or address, with or without a port, is possible",
        ),
        (
            "remove-headers",
            Value::from(["Expect"]),
            "remove-headers: Expect says where messages end, and can't be changed",
        ),
        ("set-headers", Value::from([("a b", "c")]), "set-headers: \"a b\" is no name of a header"),
        ("set-headers", Value::from([("a", "c\nd")]), "set-headers: the value of a is more than a line"),
        (
            "path-prefixes",
            Value::from([("a", "/b")]),
            "path-prefixes: \"a\" = \"/b\": both begin with a slash",
        ),
    ] {
        let error = plugin_sdk::testing::Harness::<Http>::try_new(&[(name, value)]).expect_err(name);
        assert_eq!(error.to_string(), text);
    }
    let error = plugin_sdk::testing::Harness::<Http>::try_new(&[("drop-path-regexes", Value::from(["("]))]);
    assert!(error.expect_err("no regex").to_string().starts_with("drop-path-regexes: (: "));
}
