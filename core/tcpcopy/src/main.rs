//! Replays live TCP traffic of real clients towards a target server.

use clap::Parser;
use std::process::ExitCode;
use tcpcopy::commands;
use tcpcopy::daemon::{self, PidFile, Role};
use tcpcopy::failure::{UsageError, run_failure_lines};
use tcpcopy::host::ThisHost;
use tcpcopy::modules::{Modules, module_help};
use tcpcopy::offline::Verdict;
use tcpcopy::options::LowArgs;
use tcpcopy::run;
use tcpcopy::settings::{Mode, Plugins, Settings};
use tcpcopy_net::signals::Signals;

/// Exit code of a replay of capture files that lost something.
const LOST: u8 = 3;

fn main() -> ExitCode {
    if commands::is_command(std::env::args_os().nth(1).as_deref()) {
        return commands::run(std::env::args_os().collect());
    }
    let low = match LowArgs::try_parse() {
        Ok(low) => low,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => return usage_failure(&UsageError::from(&error)),
    };
    if low.plugins.help_wanted {
        return match Plugins::new(&low.plugins).and_then(|plugins| module_help(&plugins)) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => usage_failure(&error),
        };
    }
    // Before anything starts a thread: one that did not inherit the blocked signals would take them away from the one that
    // reads them.
    let signals = match run::watch_signals() {
        Ok(signals) => signals,
        Err(error) => return run_failure(&error),
    };
    let token = std::env::var("TCPCOPY_TOKEN").ok();
    let loaded = Settings::new(&low, token.as_deref()).and_then(|mut settings| {
        let modules = Modules::load(&mut settings)?;
        Ok((settings, modules))
    });
    let (settings, modules) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return usage_failure(&error),
    };
    match start(settings, &modules, &signals) {
        Ok(Some(verdict)) if !verdict.is_good() => {
            eprint!("{verdict}");
            ExitCode::from(LOST)
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => run_failure(&error),
    }
}

fn run_failure(error: &anyhow::Error) -> ExitCode {
    eprint!("{}", run_failure_lines(error));
    ExitCode::from(1)
}

fn start(settings: Settings, modules: &Modules, signals: &Signals) -> anyhow::Result<Option<Verdict>> {
    if settings.process.mode == Mode::DryRun {
        print!("{}", settings.describe(&ThisHost));
        return Ok(None);
    }
    if daemon::enter_background(&settings)? == Role::Launcher {
        return Ok(None);
    }
    daemon::start_messages(&settings)?;
    for warning in settings.all_warnings(&ThisHost) {
        tracing::warn!("{warning}");
    }
    let _pid_file = PidFile::write(&settings)?;
    Ok(run::run(settings, modules, signals)?.verdict)
}

fn usage_failure(error: &UsageError) -> ExitCode {
    eprint!("{}", error.lines());
    ExitCode::from(2)
}
