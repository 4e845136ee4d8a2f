//! Commands: what the first word of the command line asks for when it is no option.
//!
//! Replaying itself has no such word: `tcpcopy -x … -s …` is as it was in TCPCopy.

mod check;
mod componentize;
mod inspect;
mod list;
mod new;
mod record;

use crate::failure::{UsageError, run_failure_lines};
use clap::{Parser, Subcommand};
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "tcpcopy", disable_help_subcommand = true, max_term_width = 100)]
struct Commands {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell what is in captures, before anything is replayed
    ///
    /// Connections and how well they were captured, ports and protocols, the command lines that would replay them, and what to know
    /// before. Nothing is sent. Ends with exit code 1 if a file can't be read.
    Inspect(inspect::InspectArgs),
    /// List the plugins that --module finds by name
    ///
    /// Name, version, kind and interface, what each needs, and its file. Looked in are the directories of TCPCOPY_PLUGIN_PATH,
    /// /usr/local/lib/tcpcopy/plugins, /usr/lib/tcpcopy/plugins, and plugins beside this program.
    Plugins,
    /// Record what clients send to files, to be replayed later
    ///
    /// As `tcpdump -w` would, but with the filter made for a replay: the clients' side alone unless --both is given, and with
    /// rotation and compression. Needs the right to capture (root or CAP_NET_RAW). Exit code 3 if packets were lost.
    Record(record::RecordArgs),
    /// Check, begin or package a plugin
    #[command(subcommand)]
    Plugin(PluginCommand),
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Run a plugin over a capture file, and show what it would send
    Check(check::CheckArgs),
    /// Write the beginnings of a new plugin
    New(new::NewArgs),
    /// Make a component of a core WebAssembly module
    Componentize(componentize::ComponentizeArgs),
}

/// How a command failed.
#[derive(Debug)]
enum CommandError {
    /// A mistake on the command line.
    Usage(UsageError),
    /// It could not be done.
    Run(anyhow::Error),
}

impl From<UsageError> for CommandError {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        Self::Run(error)
    }
}

/// Whether the first argument asks for a command.
pub fn is_command(first: Option<&OsStr>) -> bool {
    const COMMANDS: [&str; 4] = ["inspect", "plugin", "plugins", "record"];
    first.is_some_and(|word| COMMANDS.iter().any(|command| word == *command))
}

/// Carries out the command that `arguments`, the program's name included, ask for.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let commands = match Commands::try_parse_from(arguments) {
        Ok(commands) => commands,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => return fail(CommandError::Usage(UsageError::from(&error))),
    };
    // What plugins and the host say goes to standard error; results go to standard output.
    let _ = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .without_time()
        .try_init();
    let done = match commands.command {
        Command::Inspect(args) => inspect::run(&args),
        Command::Plugins => list::run(),
        Command::Record(args) => record::run(&args),
        Command::Plugin(PluginCommand::Check(args)) => check::run(&args),
        Command::Plugin(PluginCommand::New(args)) => new::run(&args),
        Command::Plugin(PluginCommand::Componentize(args)) => componentize::run(&args),
    };
    done.unwrap_or_else(fail)
}

fn fail(error: CommandError) -> ExitCode {
    match error {
        CommandError::Usage(error) => {
            eprint!("{}", error.lines());
            ExitCode::from(2)
        }
        CommandError::Run(error) => {
            eprint!("{}", run_failure_lines(&error));
            ExitCode::from(1)
        }
    }
}

/// Prints a result. Who has read enough and closed the pipe is no failure.
fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
