//! The lab's HTTP server by hand, for `cargo xtask lab shell`: prints each request with a checksum of its body.
#![forbid(unsafe_code)]

use clap::Parser;
use std::process::ExitCode;
use tcpcopy_lab::httpd;

/// Answers HTTP requests and prints each with the length and checksum of its body
#[derive(Parser)]
struct Args {
    /// Port to listen on
    #[arg(default_value_t = 8080)]
    port: u16,
}

fn main() -> ExitCode {
    let error = httpd::serve_here(Args::parse().port, |seen| {
        println!("{} {} {:016x}", seen.line, seen.body_bytes, seen.body_hash);
    });
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
