//! Logins at the target, whatever it asks for.

mod common;

use common::*;
use mysql_common::auth::plugins::{
    caching_sha2_password::scramble_sha256, mysql_native_password::scramble_native,
};
use plugin_sdk::Reply;
use plugin_sdk::testing::{Decision, Record, Transcript, assert_split_invariant};
use tcpcopy_mysql::Mysql;

fn prepared(record: &Record) -> Vec<Vec<u8>> {
    let prepared = record.decisions.iter().filter_map(|decision| match decision {
        Decision::Prepare(bytes) => Some(bytes.0.clone()),
        _ => None,
    });
    prepared.collect()
}

fn is_ready(record: &Record) -> bool {
    record.decisions.contains(&Decision::Ready)
}

fn given_up(record: &Record) -> Option<&str> {
    match record.decisions.last() {
        Some(Decision::GiveUp(why)) => Some(why),
        _ => None,
    }
}

#[test]
fn a_native_login_and_a_query() {
    let transcript = logged_in().request(query("SELECT 1")).response(ok(1));
    let record = assert_split_invariant::<Mysql>(&password("secret"), &transcript);
    assert!(is_ready(&record));
    let hello = &prepared(&record)[0];
    assert!(hello.windows(4).any(|bytes| bytes == b"app\0"));
    assert!(hello.windows(20).any(|bytes| bytes == scramble_native(NONCE, b"secret").unwrap()));
    let requests: Vec<_> =
        record.requests().into_iter().filter(|request| !request.bytes.0.is_empty()).collect();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].bytes.0, query("SELECT 1"));
    assert_eq!(requests[0].reply, Some(Reply::Expected));
    assert!(record.decisions.contains(&Decision::ReplyComplete));
}

#[test]
fn a_fast_login_with_caching_sha2() {
    let transcript = Transcript::new()
        .request(hello("app"))
        .connected()
        .response(greeting(SHA2))
        .response(packets(2, &[b"\x01\x03", &ok_payload(2)]));
    let record = assert_split_invariant::<Mysql>(&password("secret"), &transcript);
    assert!(is_ready(&record));
    let proof = scramble_sha256(NONCE, b"secret").unwrap();
    assert!(prepared(&record)[0].windows(32).any(|bytes| bytes == proof));
}

#[test]
fn a_refused_login_ends_the_session_and_is_counted_with_its_text() {
    let transcript = Transcript::new()
        .request(hello("app"))
        .request(query("DROP TABLE t"))
        .connected()
        .response(greeting(SHA2))
        .response(error(2, 1045, "Access denied for user 'app'"));
    let record = assert_split_invariant::<Mysql>(&password("wrong"), &transcript);
    assert_eq!(given_up(&record), Some("the target refused the login"));
    assert_eq!(
        record.counts["user \"app\": logins refused with error 1045, such as \"Access denied for user 'app'\""],
        1
    );
    assert!(!record.sent().windows(4).any(|bytes| bytes == b"DROP"));
}
