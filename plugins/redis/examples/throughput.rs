//! What a request and its reply cost in the parsers, without host and SDK.
//!
//! `cargo run --release -p tcpcopy-plugin-redis --example throughput`

use std::hint::black_box;
use std::time::Instant;
use tcpcopy_redis::answers::{Answers, During, Sink};
use tcpcopy_redis::asked::{Asked, Ending};
use tcpcopy_redis::commands::find;
use tcpcopy_redis::encode;
use tcpcopy_redis::options::Options;
use tcpcopy_redis::request::{self, Body, Head};
use tcpcopy_redis::rules::{Plan, Rules};

/// Counts, as cheaply as can be.
#[derive(Default)]
struct Tally(u64);

impl Sink for Tally {
    fn reply_complete(&mut self) {
        self.0 += 1;
    }
    fn ready(&mut self) {}
    fn error(&mut self, _: &str, _: During) {}
    fn unexpected(&mut self) {}
}

/// Nanoseconds for each of `depth` requests of which `bytes` consist, and their replies.
fn measure(bytes: &[u8], replies: &[u8], depth: usize) -> f64 {
    let rules = Rules::new(Options::default());
    let (mut asked, mut answers, mut tally) = (Asked::default(), Answers::default(), Tally::default());
    let rounds = 4_000_000 / depth;
    let started = Instant::now();
    for _ in 0..rounds {
        let mut rest = black_box(bytes);
        while !rest.is_empty() {
            let Head::Array { args, name: Some(name), first } = request::head(rest, 0) else {
                return f64::NAN;
            };
            if find(&rest[name]).map(|command| rules.plan(command)) != Some(Plan::Forward) {
                return f64::NAN;
            }
            let (read, _) = Body::new(args).advance(&rest[first..]);
            rest = &rest[first + read..];
            black_box(asked.finish(Ending::Plain, &mut answers));
        }
        if answers.feed(black_box(replies), &mut tally) != Ok(replies.len()) {
            return f64::NAN;
        }
    }
    assert_eq!(tally.0, (rounds * depth) as u64);
    started.elapsed().as_nanos() as f64 / (rounds * depth) as f64
}

fn main() {
    for (name, request, reply) in [
        ("SET", encode::command(&[b"SET", b"key:000000001234", b"xxx"]), &b"+OK\r\n"[..]),
        ("GET", encode::command(&[b"GET", b"key:000000001234"]), b"$3\r\nxxx\r\n"),
        ("SET of 1 KiB", encode::command(&[b"SET", b"key:000000001234", &[b'x'; 1024]]), b"+OK\r\n"),
        ("LRANGE of 10", encode::command(&[b"LRANGE", b"list", b"0", b"9"]), &list(10)),
    ] {
        for depth in [1, 16] {
            let best = (0..5)
                .map(|_| measure(&request.repeat(depth), &reply.repeat(depth), depth))
                .fold(f64::MAX, f64::min);
            println!("{name}, {depth} in a pipeline: {best:.1} ns for a request and its reply");
        }
    }
}

fn list(count: usize) -> Vec<u8> {
    [format!("*{count}\r\n").into_bytes(), b"$7\r\nelement\r\n".repeat(count)].concat()
}
