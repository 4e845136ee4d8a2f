//! `intercept`: runs on the assistant server, where the replies of a target end, and returns them to `tcpcopy`.
//!
//! It captures and never sends a packet: what the kernel does not forward is gone after it was captured.

mod capture;
mod connection;
mod host;
mod options;
mod relays;
mod report;
mod server;

use anyhow::Context;
use clap::Parser;
use options::{Hinted, Options, Place, Settings};
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::sync::Mutex;
use tcpcopy_net::filter::FilterError;
use tcpcopy_net::process::{self, PidFile, ProcessError};
use tcpcopy_net::source::CaptureError;
use tracing_subscriber::EnvFilter;

/// Exit code of a command line that makes no sense; a failure at work is 1.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if options.version {
        println!("intercept {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let token = std::env::var_os("TCPCOPY_TOKEN").map(OsStringExt::into_vec);
    let settings = match options.settings(token) {
        Ok(settings) => settings,
        Err(error) => {
            complain(&error);
            return ExitCode::from(USAGE);
        }
    };
    match run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// One line that says what went wrong, and one that says what to do, where that is known.
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
    let hint = error.chain().find_map(|cause| {
        None.or_else(|| cause.downcast_ref::<Hinted>().map(|error| error.hint.clone()))
            .or_else(|| cause.downcast_ref::<CaptureError>().and_then(CaptureError::hint))
            .or_else(|| cause.downcast_ref::<FilterError>().map(|error| error.hint().to_owned()))
            .or_else(|| {
                cause.downcast_ref::<ProcessError>().and_then(|error| error.hint().map(str::to_owned))
            })
    });
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
}

fn run(settings: &Settings) -> anyhow::Result<()> {
    tcpcopy_net::signals::ignore_broken_pipe();
    // Before anything else is opened: the process that goes on is another one.
    let daemon = match settings.place {
        Place::Background => Some(process::daemonize()?),
        Place::Foreground => None,
    };
    start_log(settings)?;
    if settings.nice != 0
        && let Err(error) = process::set_priority(settings.nice)
    {
        tracing::info!("priority stays as it is: nice {}: {error}", settings.nice);
    }
    let facts = host::facts(&settings.interfaces);
    for remark in &settings.remarks {
        tracing::info!("{remark}");
    }
    for warning in host::warnings(&facts) {
        tracing::warn!("{warning}");
    }
    let interfaces = facts.interfaces.clone();
    let server = server::Server::open(settings, facts)?;
    let pid_file = settings.pid_file.as_deref().map(PidFile::create).transpose()?;
    let addresses: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
    tracing::info!("capturing on {interfaces}; listening on {}", addresses.join(", "));
    if let Some(daemon) = daemon {
        daemon.ready()?;
    }
    let result = server.run();
    drop(pid_file);
    result
}

fn start_log(settings: &Settings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("TCPCOPY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    match &settings.log_file {
        Some(path) => {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("cannot open the log file {}", path.display()))?;
            builder.with_ansi(false).with_writer(Mutex::new(file)).init();
        }
        None => builder.with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).init(),
    }
    Ok(())
}
