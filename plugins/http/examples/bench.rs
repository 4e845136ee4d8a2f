//! What reading heads costs: nanoseconds for a small GET and its response, best of several runs.
//!
//!     cargo run --release -p tcpcopy-plugin-http --example bench

use std::hint::black_box;
use std::time::Instant;
use tcpcopy_http::codec::{Method, RequestDecoder, RequestStep, ResponseDecoder, ResponseStep};

const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok";
const BROWSER: &[u8] = b"GET /a/b/c?d=e HTTP/1.1\r\nHost: www.example.org\r\nConnection: keep-alive\r\nsec-ch-ua: \"Chromium\";v=\"130\"\r\nsec-ch-ua-mobile: ?0\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\nReferer: https://www.example.org/\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\nCookie: sid=0123456789abcdef; theme=dark\r\n\r\n";

fn read_request(bytes: &[u8]) -> usize {
    let mut decoder = RequestDecoder::new(65_536);
    match decoder.step(black_box(bytes)) {
        RequestStep::Head(head) => {
            let framing = head.framing();
            decoder.accept(framing.unwrap_or(tcpcopy_http::codec::Framing::None));
            head.len
        }
        _ => 0,
    }
}

fn read_response(bytes: &[u8]) -> usize {
    let mut decoder = ResponseDecoder::new(65_536);
    let mut at = 0;
    loop {
        match decoder.step(&black_box(bytes)[at..], |content| _ = black_box(content)) {
            ResponseStep::Head(head) => {
                at += head.len;
                decoder.accept(head.framing(Method::Other));
            }
            ResponseStep::End(length) => return at + length,
            _ => return at,
        }
    }
}

fn measure(name: &str, bytes: usize, mut run: impl FnMut() -> usize) {
    const ROUNDS: u32 = 1000;
    let mut best = f64::MAX;
    for _ in 0..3000 {
        let started = Instant::now();
        for _ in 0..ROUNDS {
            assert_eq!(black_box(run()), bytes, "all of it is read");
        }
        best = best.min(started.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    println!("{name}: {best:.0} ns, {bytes} bytes");
}

fn main() {
    let both = REQUEST.len() + RESPONSE.len();
    measure("small GET and its response", both, || read_request(REQUEST) + read_response(RESPONSE));
    measure("small GET", REQUEST.len(), || read_request(REQUEST));
    measure("small response", RESPONSE.len(), || read_response(RESPONSE));
    measure("a browser's GET", BROWSER.len(), || read_request(BROWSER));
}
