//! The link to the worker loop.

use crate::settings::Settings;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {}

/// Replays until stopped.
///
/// # Errors
/// Always: this build has no worker loop.
pub fn run(_settings: Settings) -> anyhow::Result<Outcome> {
    Err(crate::failure::failure(
        "the worker loop is not linked into this build",
        "--dry-run works without it",
    ))
}
