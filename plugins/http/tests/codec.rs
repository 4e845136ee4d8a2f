//! The codec's rules, as tables: what bytes are, however they come.

use tcpcopy_http::codec::{
    BadMessage, Framing, Method, Place, RequestDecoder, RequestStep, Resemblance, ResponseDecoder,
    ResponseStep, find_request_line, resembles_request,
};

const MAX_HEAD: usize = 4096;

/// What a stream of requests is made of, adjacent pieces of a body put together.
fn read_requests(bytes: &[u8], piece: usize) -> Vec<String> {
    let mut decoder = RequestDecoder::new(MAX_HEAD);
    let (mut at, mut said, mut body) = (0, Vec::new(), 0);
    for end in (1..=bytes.len()).filter(|end| end % piece == 0 || *end == bytes.len()) {
        loop {
            match decoder.step(&bytes[at..end]) {
                RequestStep::More => break,
                RequestStep::Empty(length) => {
                    at += length;
                    said.push(format!("empty {length}"));
                }
                RequestStep::Head(head) => {
                    at += head.len;
                    let framing = head.framing().expect("a head with bad framing is none");
                    let (method, target) =
                        (String::from_utf8_lossy(head.method), String::from_utf8_lossy(head.target));
                    said.push(format!("{method} {target} 1.{} {framing:?}", head.minor));
                    decoder.accept(framing);
                }
                RequestStep::Body(length) => {
                    at += length;
                    body += length;
                }
                RequestStep::End(length) => {
                    at += length;
                    said.push(format!("body {}", body + length));
                    body = 0;
                }
                RequestStep::Preface => {
                    said.push("preface".to_owned());
                    return said;
                }
                RequestStep::Bad(length, bad) => {
                    at += length;
                    said.push(format!("{bad} at {at}"));
                    return said;
                }
            }
        }
    }
    if body > 0 || at < bytes.len() {
        said.push(format!("left {body}+{}", bytes.len() - at));
    }
    said
}

#[track_caller]
fn requests(bytes: &str, expected: &[&str]) {
    for piece in [1, 2, 3, 5, 64, bytes.len()] {
        let merged = merge_empty(read_requests(bytes.as_bytes(), piece));
        assert_eq!(merged, expected, "in pieces of {piece}: {bytes:?}");
    }
}

/// Empty lines come one by one or together.
fn merge_empty(said: Vec<String>) -> Vec<String> {
    let mut merged: Vec<String> = Vec::new();
    for line in said {
        let count = |line: &str| line.strip_prefix("empty ").and_then(|n| n.parse::<usize>().ok());
        match (merged.last().and_then(|last| count(last)), count(&line)) {
            (Some(a), Some(b)) => {
                *merged.last_mut().expect("there is a last one") = format!("empty {}", a + b)
            }
            _ => merged.push(line),
        }
    }
    merged
}

/// What a server's stream is made of, when it answers requests of these methods in turn.
fn read_responses(methods: &[Method], bytes: &[u8], piece: usize, closes: bool) -> Vec<String> {
    let mut decoder = ResponseDecoder::new(MAX_HEAD);
    let mut methods = methods.iter().copied();
    let mut method = methods.next();
    let (mut at, mut said, mut body) = (0, Vec::new(), Vec::new());
    for end in (1..=bytes.len()).filter(|end| end % piece == 0 || *end == bytes.len()) {
        loop {
            match decoder.step(&bytes[at..end], |content| body.extend_from_slice(content)) {
                ResponseStep::More => break,
                ResponseStep::Head(head) => {
                    at += head.len;
                    let Some(asked) = method else {
                        said.push("unasked".to_owned());
                        return said;
                    };
                    let framing = head.framing(asked);
                    let closes = if head.closes() { " closes" } else { "" };
                    said.push(format!("{} {framing:?}{closes}", head.status));
                    if !decoder.accept(framing) && !head.is_interim() {
                        method = methods.next();
                    }
                }
                ResponseStep::Body(length) => at += length,
                ResponseStep::End(length) => {
                    at += length;
                    said.push(format!("content {}", String::from_utf8_lossy(&body)));
                    body.clear();
                    method = methods.next();
                }
                ResponseStep::Bad(bad) => {
                    said.push(bad.to_string());
                    return said;
                }
            }
        }
    }
    if closes && decoder.close() {
        said.push(format!("content {} to the end", String::from_utf8_lossy(&body)));
    } else if !body.is_empty() || at < bytes.len() {
        said.push(format!("left {}+{}", body.len(), bytes.len() - at));
    }
    said
}

#[track_caller]
fn responses(methods: &[Method], bytes: &str, expected: &[&str]) {
    for piece in [1, 2, 3, 5, 64, bytes.len()] {
        let said = read_responses(methods, bytes.as_bytes(), piece, true);
        assert_eq!(said, expected, "in pieces of {piece}: {bytes:?}");
    }
}

const GET: Method = Method::Other;

#[test]
fn requests_end_where_their_framing_says() {
    requests("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &["GET / 1.1 None"]);
    requests("GET /\u{e9}?x HTTP/1.0\n\n", &["GET /\u{e9}?x 1.0 None"]);
    requests(
        "POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\n\r\n",
        &["POST /a 1.1 Length(5)", "body 5", "GET /b 1.1 None"],
    );
    requests(
        "PUT /a HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
        &["PUT /a 1.1 Chunked", "body 23", "GET /b 1.1 None"],
    );
    requests("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", &["POST / 1.1 Length(0)"]);
    requests("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", &["POST / 1.1 Length(9)", "left 3+0"]);
    requests(
        "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nx",
        &["POST / 1.1 Length(1)", "body 1"],
    );
    requests(
        "GET http://a/b HTTP/1.1\r\n\r\nCONNECT a:443 HTTP/1.1\r\n\r\nOPTIONS * HTTP/1.1\r\n\r\n",
        &["GET http://a/b 1.1 None", "CONNECT a:443 1.1 None", "OPTIONS * 1.1 None"],
    );
}

#[test]
fn what_servers_tolerate_is_tolerated() {
    requests("\r\n\n\r\nGET / HTTP/1.1\n\n\r\n", &["empty 5", "GET / 1.1 None", "empty 2"]);
    requests(
        "GET / HTTP/1.1\r\nA: b\r\n\tc: d\r\n e\r\nContent-Length: 1\r\n\r\nx",
        &["GET / 1.1 Length(1)", "body 1"],
    );
    requests(
        "GET / HTTP/1.1\r\nContent-Length: 3, 3\r\nCONTENT-LENGTH: 3\r\n\r\nabc",
        &["GET / 1.1 Length(3)", "body 3"],
    );
    requests(
        "GET / HTTP/1.1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &["GET / 1.1 Chunked", "body 5"],
    );
    requests("GET / HTTP/1.1\r\nX:\r\nY:  a\tb  \r\n\r\n", &["GET / 1.1 None"]);
    requests("M-SEARCH * HTTP/1.1\r\n\r\n", &["M-SEARCH * 1.1 None"]);
}

#[test]
fn what_servers_do_not_agree_about_is_refused() {
    for (bytes, bad) in [
        ("\u{16}\u{3}\u{1}", "no request line at 0"),
        ("GET /\r\n", "no request line at 0"),
        ("GET  / HTTP/1.1\r\n", "no request line at 0"),
        ("GET / HTTP/1.1 \r\n", "unknown HTTP version at 0"),
        ("GET / HTTP/2.0\r\n", "unknown HTTP version at 0"),
        ("GET / HTTP/1.10\r\n", "unknown HTTP version at 0"),
        ("G(T / HTTP/1.1\r\n", "no request line at 0"),
        (" GET / HTTP/1.1\r\n", "no request line at 0"),
        ("GET / HTTP/1.1\r\nno colon\r\n", "malformed header line at 0"),
        ("GET / HTTP/1.1\r\n folded: onto nothing\r\n\r\n", "malformed header line at 0"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "malformed header line at 0"),
        ("GET / HTTP/1.1\r\n: a\r\n\r\n", "malformed header line at 0"),
        ("GET / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", "bad Content-Length at 0"),
        ("GET / HTTP/1.1\r\nContent-Length: +3\r\n\r\n", "bad Content-Length at 0"),
        ("GET / HTTP/1.1\r\nContent-Length:\r\n\r\n", "bad Content-Length at 0"),
        ("GET / HTTP/1.1\r\nContent-Length: 3,\r\n\r\n", "bad Content-Length at 0"),
        ("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", "bad Content-Length at 0"),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "bad Transfer-Encoding at 0"),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", "bad Transfer-Encoding at 0"),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", "bad Transfer-Encoding at 0"),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "bad Transfer-Encoding at 0"),
    ] {
        requests(bytes, &[bad]);
    }
    requests(
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        &["POST / 1.1 Chunked", "malformed chunk at 53"],
    );
}

#[test]
fn heads_are_bounded() {
    let fill = |len: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(len - 23));
    requests(&fill(MAX_HEAD), &["GET / 1.1 None"]);
    requests(&fill(MAX_HEAD + 1), &["head too large at 0"]);
    requests(&"G".repeat(MAX_HEAD - 1), &["left 0+4095"]);
    requests(&"G".repeat(MAX_HEAD), &["head too large at 0"]);
    requests(&format!("{}no colon\r\n", fill(MAX_HEAD + 9).trim_end()), &["head too large at 0"]);
    let lines = "A: b\r\n".repeat(MAX_HEAD);
    requests(&format!("GET / HTTP/1.1\r\n{lines}"), &["head too large at 0"]);
    responses(&[GET], &format!("HTTP/1.1 200 OK\r\n{lines}"), &["head too large"]);
}

#[test]
fn the_preface_of_http2_is_known() {
    requests("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxyz", &["preface"]);
    requests("PROPFIND / HTTP/1.1\r\n\r\n", &["PROPFIND / 1.1 None"]);
    requests("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &["unknown HTTP version at 0"]);
}

#[test]
fn responses_end_where_their_framing_and_their_request_say() {
    responses(&[GET], "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", &["200 Length(2)", "content ab"]);
    responses(
        &[GET, GET],
        "HTTP/1.1 204\r\n\r\nHTTP/1.1 304 \r\nContent-Length: 7\r\n\r\n",
        &["204 None", "304 None"],
    );
    responses(
        &[Method::Head, GET],
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nHTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\na\n0\n\n",
        &["200 None", "200 Chunked", "content a"],
    );
    responses(
        &[GET],
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103\r\nA: b\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n",
        &["100 None", "103 None", "100 None", "201 Length(0)"],
    );
    responses(&[Method::Connect], "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", &["200 None"]);
    responses(
        &[Method::Connect],
        "HTTP/1.1 403 No\r\nContent-Length: 1\r\n\r\nx",
        &["403 Length(1)", "content x"],
    );
    responses(&[GET], "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", &["101 None"]);
}

#[test]
fn responses_may_end_with_the_connection() {
    responses(
        &[GET],
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc",
        &["200 UntilClose closes", "content abc to the end"],
    );
    responses(&[GET], "HTTP/1.0 200 OK\r\n\r\nabc", &["200 UntilClose closes", "content abc to the end"]);
    responses(
        &[GET],
        "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na",
        &["200 Length(1)", "content a"],
    );
    responses(
        &[GET],
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x, CLOSE\r\n\r\na",
        &["200 Length(1) closes", "content a"],
    );
    for odd in ["Transfer-Encoding: gzip", "Content-Length: 1\r\nContent-Length: 2", "Content-Length: x"] {
        responses(
            &[GET],
            &format!("HTTP/1.1 200 OK\r\n{odd}\r\n\r\nabc"),
            &["200 UntilClose", "content abc to the end"],
        );
    }
    responses(&[GET], "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", &["200 Length(9)", "left 3+0"]);
}

#[test]
fn what_is_no_response_is_refused() {
    for bytes in [
        "HTTQ",
        "ICY 200 OK\r\n",
        "HTTP/2 200\r\n",
        "HTTP/1.1 20 OK\r\n",
        "HTTP/1.1 2000\r\n",
        "HTTP/1.1 000 \r\n",
    ] {
        responses(&[GET], bytes, &["no status line"]);
    }
    responses(&[GET], "HTTP/1.1 200 OK\r\nnothing\r\n\r\n", &["malformed header line"]);
    // A recipient takes white space before the colon away, RFC 9112, section 5.1.
    responses(&[GET], "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nx", &["200 Length(1)", "content x"]);
}

#[test]
fn a_request_line_is_found_only_where_it_is_sure() {
    for (bytes, expected) in [
        ("GET / HTTP/1.1\r\n", Resemblance::Surely),
        ("POST /a?b HTTP/1.0\n", Resemblance::Surely),
        ("GET / HTTP/1.1\r", Resemblance::Maybe),
        ("", Resemblance::Maybe),
        ("DELE", Resemblance::Maybe),
        ("GETS / HTTP/1.1\r\n", Resemblance::No),
        ("GET / HTTP/1.2\r\n", Resemblance::No),
        ("GET  HTTP/1.1\r\n", Resemblance::No),
        ("GET / or not", Resemblance::No),
        ("get / HTTP/1.1\r\n", Resemblance::No),
        ("\u{81}\u{5}", Resemblance::No),
    ] {
        assert_eq!(resembles_request(bytes.as_bytes()), expected, "{bytes:?}");
    }
    assert_eq!(find_request_line(b"xGET / HTTP/1.1\r\nGET / HTTP/1.1\r\n", Place::WithinLine), Ok(17));
    assert_eq!(find_request_line(b"GET / HTTP/1.1\r\n", Place::LineStart), Ok(0));
    assert_eq!(find_request_line(b"GET / HTTP/1.1\r\n", Place::WithinLine), Err(16));
    assert_eq!(find_request_line(b"abc\r\nPOST /", Place::WithinLine), Err(5));
    assert_eq!(find_request_line(b"abc\r\nPOS", Place::LineStart), Err(5));
}

#[test]
fn fields_are_read_as_they_were_sent() {
    let mut decoder = RequestDecoder::new(MAX_HEAD);
    let bytes = b"GET / HTTP/1.1\r\nHost:  a \r\nX: b\r\n c\r\nEmpty:\n\r\nmore";
    let RequestStep::Head(head) = decoder.step(bytes) else { panic!("a head") };
    let fields: Vec<(&[u8], &[u8], usize)> = head.fields.map(|f| (f.name, f.value, f.line.len())).collect();
    assert_eq!(fields, [(&b"Host"[..], &b"a"[..], 11), (b"X", b"b\r\n c", 10), (b"Empty", b"", 7)]);
    assert_eq!((head.len, head.line_len), (bytes.len() - 4, 16));
    assert_eq!(head.framing(), Ok(Framing::None));
    assert_eq!(BadMessage::Chunk.to_string(), "malformed chunk");
}
