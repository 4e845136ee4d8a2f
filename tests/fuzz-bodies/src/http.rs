//! Streams of HTTP, and a whole session of the plugin.
//!
//! Input: mode (u8), length of the pieces that the bytes come in (u8), length of the client's bytes (u16, big endian), then the
//! client's bytes and the target's.

use plugin_sdk::testing::{Decision, Harness};
use plugin_sdk::{ClientEnd, Loss, Origin, Value};
use std::time::Duration;
use tcpcopy_http::Http;
use tcpcopy_http::codec::{Method, RequestDecoder, RequestStep, ResponseDecoder, ResponseStep};

/// In the mode: what the session is besides a plain one.
pub(crate) const MID_STREAM: u8 = 1;
pub(crate) const WITH_RULES: u8 = 2;
pub(crate) const WITH_CREDENTIALS: u8 = 4;
pub(crate) const BAD_DROPPED: u8 = 8;
pub(crate) const WITH_GAP: u8 = 16;
pub(crate) const WITH_LOSS: u8 = 32;

const MAX_HEAD: usize = 256;

/// Decodes both streams, and runs a session in which both come in turns.
///
/// # Panics
/// When a decoder takes more than it was given, or the pieces that bytes come in matter; when the plugin sends bytes of the client
/// in another order or twice, loses some, or completes more replies than requests expect.
pub fn http(data: &[u8]) {
    let Some((&[mode, piece, high, low], bytes)) = data.split_first_chunk::<4>() else { return };
    let piece = usize::from(piece).max(1);
    let (client, target) = bytes.split_at(usize::from(u16::from_be_bytes([high, low])).min(bytes.len()));
    assert_eq!(requests(client, piece), requests(client, client.len().max(1)));
    for method in [Method::Other, Method::Head, Method::Connect] {
        assert_eq!(responses(target, method, piece), responses(target, method, target.len().max(1)));
    }
    session(mode, piece, client, target);
}

/// What a client's stream is: where its messages' parts end, and what is wrong with it.
fn requests(bytes: &[u8], piece: usize) -> Vec<(usize, String)> {
    let mut decoder = RequestDecoder::new(MAX_HEAD);
    let (mut at, mut found) = (0, Vec::new());
    for end in ends(bytes.len(), piece) {
        loop {
            let given = end - at;
            let taken = match decoder.step(&bytes[at..end]) {
                RequestStep::More => break,
                RequestStep::Empty(length) => {
                    found.push((at + length, "empty line".to_owned()));
                    length
                }
                RequestStep::Head(head) => {
                    let framing = head.framing().expect("the decoder refuses other heads");
                    let fields: usize = head.fields.map(|field| field.line.len()).sum();
                    assert!(
                        (1..=2).contains(&(head.len - head.line_len - fields)),
                        "an empty line ends the head"
                    );
                    assert!(head.len <= MAX_HEAD);
                    found.push((at + head.len, format!("{framing:?}")));
                    decoder.accept(framing);
                    head.len
                }
                RequestStep::Body(length) => length,
                RequestStep::End(length) => {
                    found.push((at + length, "end".to_owned()));
                    length
                }
                RequestStep::Preface => {
                    found.push((at, "preface".to_owned()));
                    return found;
                }
                RequestStep::Bad(length, bad) => {
                    found.push((at + length, bad.to_string()));
                    return found;
                }
            };
            assert!(taken <= given, "{taken} of {given} bytes were taken");
            at += taken;
        }
        assert!(end - at < MAX_HEAD, "more is held than a head may have");
    }
    found
}

/// What a server's stream is, when all requests have the same method.
fn responses(bytes: &[u8], method: Method, piece: usize) -> Vec<(usize, String)> {
    let mut decoder = ResponseDecoder::new(MAX_HEAD);
    let (mut at, mut found, mut content) = (0, Vec::new(), 0);
    for end in ends(bytes.len(), piece) {
        loop {
            let given = end - at;
            let taken = match decoder.step(&bytes[at..end], |bytes| content += bytes.len()) {
                ResponseStep::More => break,
                ResponseStep::Head(head) => {
                    let framing = head.framing(method);
                    found.push((at + head.len, format!("{} {framing:?}", head.status)));
                    decoder.accept(framing);
                    head.len
                }
                ResponseStep::Body(length) => length,
                ResponseStep::End(length) => {
                    found.push((at + length, format!("{content} bytes of content")));
                    length
                }
                ResponseStep::Bad(bad) => {
                    // Bytes of a body that is broken further on may have been taken before.
                    found.push((0, bad.to_string()));
                    return found;
                }
            };
            assert!(taken <= given, "{taken} of {given} bytes were taken");
            at += taken;
        }
        assert!(end - at < MAX_HEAD, "more is held than a head may have");
    }
    assert!(content <= bytes.len());
    found
}

fn ends(len: usize, piece: usize) -> impl Iterator<Item = usize> {
    (1..=len).filter(move |end| end.is_multiple_of(piece) || *end == len)
}

fn session(mode: u8, piece: usize, client: &[u8], target: &[u8]) {
    let on = |bit: u8| mode & bit != 0;
    let mut settings: Vec<(&str, Value)> = vec![("max-head-bytes", Value::Integer(MAX_HEAD as i64))];
    if on(WITH_RULES) {
        settings.push(("drop-methods", Value::from(["PUT"])));
        settings.push(("host", Value::from("test")));
        settings.push(("path-prefixes", Value::from([("/a", "/b")])));
    }
    if on(WITH_CREDENTIALS) {
        settings.push(("map-credentials", Value::from(true)));
        settings.push(("token-params", Value::from(["csrf"])));
    }
    if on(BAD_DROPPED) {
        settings.push(("bad-requests", Value::from("drop")));
    }
    let mut harness = Harness::<Http>::new(&settings);
    let session = harness.open_as(if on(MID_STREAM) { Origin::MidStream } else { Origin::Start });
    let mut answers = target.chunks(piece);
    for (index, bytes) in client.chunks(piece).enumerate() {
        harness.request(session, bytes);
        if let Some(bytes) = answers.next() {
            harness.response(session, bytes);
            harness.reference(session, bytes);
        }
        match index % 16 {
            7 if on(WITH_GAP) => drop(harness.gap(session)),
            11 if on(WITH_LOSS) => {
                let loss = Loss {
                    unanswered: index as u32 % 3,
                    kept: index as u32 % 2,
                    interrupted: index % 32 > 16,
                };
                harness.connection_lost(session, loss);
            }
            _ => {}
        }
        if index % 64 == 63 {
            harness.advance(Duration::from_millis(500));
        }
    }
    for bytes in answers {
        harness.response(session, bytes);
    }
    harness.advance(Duration::from_secs(5));
    harness.response_end(session);
    harness.client_closed(session, ClientEnd::Finished);
    check(&harness, session, client);
    harness.end(session);
}

/// Every byte of the client's was forwarded, left out, or is undecided, in its order.
fn check(harness: &Harness<Http>, session: u64, client: &[u8]) {
    let mut decided = Vec::new();
    let (mut requests, mut replies) = (0_u32, 0_u32);
    for decision in harness.decisions(session) {
        match decision {
            Decision::Forward(bytes) | Decision::Discard(bytes) => decided.extend_from_slice(&bytes.0),
            Decision::EndRequest(plugin_sdk::Reply::Expected) => requests += 1,
            Decision::ReplyComplete => replies += 1,
            _ => {}
        }
    }
    if !harness.is_over(session) {
        decided.extend_from_slice(harness.undecided(session));
        assert_eq!(decided, client, "every byte once, in order");
    }
    assert!(client.starts_with(&decided), "every byte once, in order");
    // One may be answered before it ends.
    assert!(replies <= requests + 1, "{replies} replies to {requests} requests");
}
