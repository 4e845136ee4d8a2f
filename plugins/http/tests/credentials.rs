//! Logged-in sessions: the target's cookies and tokens in place of the online server's.

use plugin_sdk::testing::{Harness, Record, Transcript, assert_split_invariant};
use plugin_sdk::{Inputs, Origin, Value};
use std::time::Duration;
use tcpcopy_http::Http;

const LOGIN: &str = "POST /login HTTP/1.1\r\nContent-Length: 3\r\n\r\na=b";
const ONLINE: &str = "HTTP/1.1 200 OK\r\nSet-Cookie: sid=online; Path=/; HttpOnly\r\nSet-Cookie: lang=en\r\nContent-Length: 0\r\n\r\n";
const TARGET: &str =
    "HTTP/1.1 200 OK\r\nSet-Cookie: lang=en\r\nset-cookie: sid=target-1\r\nContent-Length: 0\r\n\r\n";
const HOME: &str = "GET / HTTP/1.1\r\nCookie: a=b; sid=online; lang=en\r\n\r\n";
const HOME_AT_TARGET: &str = "GET / HTTP/1.1\r\nCookie: a=b; sid=target-1; lang=en\r\n\r\n";

fn mapping() -> [(&'static str, Value); 2] {
    [("map-credentials", Value::from(true)), ("token-params", Value::from(["csrf"]))]
}

fn t() -> Transcript {
    Transcript::new()
}

fn json(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[track_caller]
fn check(transcript: &Transcript, last: &str) -> Record {
    let record = assert_split_invariant::<Http>(&mapping(), transcript);
    let requests = record.requests();
    let sent = requests.last().expect("a request");
    assert_eq!(String::from_utf8_lossy(&sent.bytes.0), last);
    assert!(sent.reply.is_some(), "it is complete");
    record
}

#[test]
fn references_are_asked_for_when_they_are_needed() {
    assert_eq!(Harness::<Http>::new(&[]).needs().inputs(), Inputs::RESPONSES);
    let needs = Harness::<Http>::new(&mapping()).needs();
    assert_eq!((needs.inputs(), needs.is_together()), (Inputs::RESPONSES | Inputs::REFERENCES, true));
}

#[test]
fn cookies_of_the_target_are_sent() {
    let record = check(&t().request(LOGIN).reference(ONLINE).response(TARGET).request(HOME), HOME_AT_TARGET);
    assert_eq!(record.counts.get("requests with the target's credentials"), Some(&1));
    check(&t().request(LOGIN).response(TARGET).reference(ONLINE).request(HOME), HOME_AT_TARGET);
}

#[test]
fn what_the_online_server_did_not_issue_passes_unchanged() {
    let other = HOME.replace("sid=online", "sid=elsewhere");
    check(&t().request(LOGIN).reference(ONLINE).response(TARGET).request(&other), &other);
    // The target issued nothing.
    let nothing = "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n";
    check(&t().request(LOGIN).reference(ONLINE).response(nothing).request(HOME), HOME);
}

#[test]
fn a_request_waits_for_what_the_target_has_yet_to_issue() {
    check(&t().request(LOGIN).reference(ONLINE).request(HOME).response(TARGET), HOME_AT_TARGET);
    let early = t().request(LOGIN).reference(ONLINE).request(HOME);
    check(&early, LOGIN);
    check(&early.clone().advance(Duration::from_millis(1900)), LOGIN);
    let record = check(&early.advance(Duration::from_millis(2100)).response(TARGET), HOME);
    assert_eq!(record.counts.get("credentials that the target did not issue in time"), Some(&2));
    // The connection that would have brought it is gone.
    let loss = plugin_sdk::Loss { unanswered: 1, kept: 0, interrupted: false };
    check(&t().request(LOGIN).reference(ONLINE).request(HOME).connection_lost(loss), HOME);
    // While a request waits, the online server answers it.
    let transcript =
        t().request(LOGIN).reference(ONLINE).request(HOME).reference(ONLINE.replace("sid=online", "sid=new"));
    let again = HOME.replace("sid=online", "sid=new");
    let transcript =
        transcript.response(TARGET).response(TARGET.replace("target-1", "target-2")).request(&again);
    check(&transcript, &again.replace("sid=new", "sid=target-2"));
}

#[test]
fn tokens_in_json_are_carried() {
    let online = json(r#"{"user":{"access_token":"abc\/def"}}"#);
    let target = "HTTP/1.1 200 OK\r\nContent-Type: application/problem+json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n\
                  10\r\n{\"access_token\" \r\n9\r\n: \"xyz\"}\n\r\n0\r\n\r\n";
    let request = "GET / HTTP/1.1\r\nAuthorization: Bearer abc/def\r\n\r\n";
    let expected = "GET / HTTP/1.1\r\nAuthorization: Bearer xyz\r\n\r\n";
    check(&t().request(LOGIN).reference(&online).response(target).request(request), expected);
    check(&t().request(LOGIN).reference(&online).request(request).response(target), expected);
    let compressed = target.replace("Transfer", "Content-Encoding: gzip\r\nTransfer");
    check(&t().request(LOGIN).reference(&online).response(compressed).request(request), request);
}

#[test]
fn tokens_in_headers_and_forms_are_carried() {
    let issue = |token: &str| {
        let body = format!("<form><input type=hidden name=csrf value=\"f{token}\"></form>");
        format!(
            "HTTP/1.1 200 OK\r\nX-CSRF-Token: {token}\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let (online, target) = (issue("online"), issue("t&t"));
    let start =
        t().request("GET /form HTTP/1.1\r\n\r\n").reference(&online).response(target.replace('&', "+"));
    check(
        &start.clone().request("PUT / HTTP/1.1\r\nx-csrf-token: online\r\nContent-Length: 1\r\n\r\nx"),
        "PUT / HTTP/1.1\r\nx-csrf-token: t+t\r\nContent-Length: 1\r\n\r\nx",
    );
    let form = "POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 18\r\n\r\na=b&csrf=fonline&c";
    check(
        &start.clone().request(form),
        "POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 17\r\n\r\na=b&csrf=ft%2Bt&c",
    );
    check(&start.request("GET /x?csrf=fonline HTTP/1.1\r\n\r\n"), "GET /x?csrf=ft%2Bt HTTP/1.1\r\n\r\n");
}

#[test]
fn requests_left_out_keep_answers_in_step() {
    let settings = [("map-credentials", Value::from(true)), ("drop-paths", Value::from(["/no"]))];
    let dropped = "GET /no HTTP/1.1\r\n\r\n";
    let transcript = t()
        .request(dropped)
        .reference(ONLINE.replace("online", "never"))
        .request(LOGIN)
        .reference(ONLINE)
        .response(TARGET)
        .request(HOME);
    let record = assert_split_invariant::<Http>(&settings, &transcript);
    assert_eq!(String::from_utf8_lossy(&record.sent()), format!("{LOGIN}{HOME_AT_TARGET}"));
}

#[test]
fn what_can_not_be_followed_is_not_learnt() {
    let gap = t().request(LOGIN).reference("HTTP/1.1 200 OK\r\nSet-").reference_gap().reference(ONLINE);
    check(&gap.response(TARGET).request(HOME), HOME);
    let joined = Transcript::of(Origin::MidStream).reference("the rest of an earlier answer");
    check(&joined.request(LOGIN).reference(ONLINE).response(TARGET).request(HOME), HOME_AT_TARGET);
    let nonsense = t().request(LOGIN).reference("nonsense").response(TARGET).reference(ONLINE);
    check(&nonsense.request(HOME), HOME);
}

#[test]
fn credentials_serve_all_sessions() {
    let mut harness = Harness::<Http>::new(&mapping());
    let (first, second) = (harness.open(), harness.open());
    harness.request(first, LOGIN);
    harness.reference(first, ONLINE);
    harness.request(second, HOME);
    assert!(harness.sent(second).is_empty(), "it waits for the first session's answer");
    harness.response(first, TARGET);
    harness.advance(Duration::from_millis(20));
    assert_eq!(String::from_utf8_lossy(&harness.sent(second)), HOME_AT_TARGET);
}

#[test]
fn a_session_that_ends_is_not_waited_for() {
    let mut harness = Harness::<Http>::new(&mapping());
    let (first, second) = (harness.open(), harness.open());
    harness.request(first, LOGIN);
    harness.reference(first, ONLINE);
    harness.end(first);
    harness.request(second, HOME);
    assert_eq!(String::from_utf8_lossy(&harness.sent(second)), HOME);
}
