//! Replays live TCP traffic of real clients towards a target server.

use clap::Parser;
use std::process::ExitCode;
use tcpcopy::daemon::{self, PidFile, Role};
use tcpcopy::failure::{UsageError, run_failure_lines};
use tcpcopy::host::ThisHost;
use tcpcopy::options::LowArgs;
use tcpcopy::run;
use tcpcopy::settings::{Mode, Settings};

fn main() -> ExitCode {
    let low = match LowArgs::try_parse() {
        Ok(low) => low,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => return usage_failure(&UsageError::from(&error)),
    };
    let token = std::env::var("TCPCOPY_TOKEN").ok();
    let settings = match Settings::new(&low, token.as_deref()) {
        Ok(settings) => settings,
        Err(error) => return usage_failure(&error),
    };
    match start(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", run_failure_lines(&error));
            ExitCode::from(1)
        }
    }
}

fn start(settings: Settings) -> anyhow::Result<()> {
    if settings.process.mode == Mode::DryRun {
        print!("{}", settings.describe(&ThisHost));
        return Ok(());
    }
    if daemon::enter_background(&settings)? == Role::Launcher {
        return Ok(());
    }
    daemon::start_messages(&settings)?;
    for warning in settings.all_warnings(&ThisHost) {
        tracing::warn!("{warning}");
    }
    let _pid_file = PidFile::write(&settings)?;
    run::run(settings)?;
    Ok(())
}

fn usage_failure(error: &UsageError) -> ExitCode {
    eprint!("{}", error.lines());
    ExitCode::from(2)
}
