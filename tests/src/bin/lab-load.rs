//! Redis load by hand, for `cargo xtask lab shell`: the same that the tests use.
#![forbid(unsafe_code)]

use clap::Parser;
use std::net::SocketAddr;
use std::process::ExitCode;
use tcpcopy_lab::load::{Connections, RedisLoad, Verb};

#[derive(Clone, Copy, clap::ValueEnum)]
enum VerbName {
    Set,
    Append,
    Incr,
    Mixed,
    Get,
}

/// Puts load on a redis server; what it stores does not depend on the order of connections
#[derive(Parser)]
struct Args {
    /// The server: address:port
    server: SocketAddr,
    /// Connections at a time
    #[arg(short = 'c', long, default_value_t = 50)]
    connections: usize,
    /// Requests over all connections
    #[arg(short = 'n', long, default_value_t = 10_000)]
    requests: usize,
    /// Requests sent at once
    #[arg(short = 'P', long, default_value_t = 1)]
    pipeline: usize,
    /// Length of a value, in bytes
    #[arg(short = 'd', long, default_value_t = 64)]
    value_bytes: usize,
    /// What the requests do; get reads <PREFIX>:get
    #[arg(short = 't', long, value_enum, default_value = "mixed")]
    verb: VerbName,
    /// A connection for each pipeline of requests
    #[arg(long)]
    reconnect: bool,
    /// Milliseconds between a round of replies and the next requests
    #[arg(long, default_value_t = 0)]
    pause: u64,
    /// A command that each connection begins with, such as "AUTH secret"; may be given several times
    #[arg(long)]
    greeting: Vec<String>,
    /// Beginning of each key
    #[arg(long, default_value = "load")]
    prefix: String,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.connections == 0 || args.pipeline == 0 || args.requests < args.connections {
        eprintln!(
            "error: connections and pipeline must be at least 1, requests at least as many as connections"
        );
        return ExitCode::from(2);
    }
    let load = RedisLoad {
        server: args.server,
        connections: args.connections,
        requests: args.requests,
        pipeline: args.pipeline,
        value_bytes: args.value_bytes,
        verb: match args.verb {
            VerbName::Set => Verb::Set,
            VerbName::Append => Verb::Append,
            VerbName::Incr => Verb::Incr,
            VerbName::Mixed => Verb::Mixed,
            VerbName::Get => Verb::Get,
        },
        reuse: if args.reconnect { Connections::PerRequest } else { Connections::Kept },
        pause: std::time::Duration::from_millis(args.pause),
        greeting: args.greeting,
        prefix: args.prefix,
    };
    let start = std::time::Instant::now();
    match load.run_here() {
        Ok(()) => {
            println!("{} requests in {:.2} s", load.total(), start.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
