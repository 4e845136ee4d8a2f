//! Replays live TCP traffic of real clients towards a target server.

use clap::Parser;
use std::process::ExitCode;
use tcpcopy::failure::{UsageError, run_failure_lines};
use tcpcopy::options::LowArgs;
use tcpcopy::run;
use tcpcopy::settings::Settings;

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
    match run::run(settings) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", run_failure_lines(&error));
            ExitCode::from(1)
        }
    }
}

fn usage_failure(error: &UsageError) -> ExitCode {
    eprint!("{}", error.lines());
    ExitCode::from(2)
}
