//! Offline replay: `tcpcopy --offline` on the online host, which plays recordings to the target and ends by itself.
//!
//! Owns starting both programs for it, and what must hold of every run: an end, an exit code, a closing report whose counters add
//! up. What reached the target is the tests' to compare.

use crate::host::Host;
use crate::lab::Lab;
use crate::process::{Pipes, Process};
use crate::replay::{
    Finished, RELAY_PORT, ReplayOptions, Stopped, Tcpcopy, intercept_args, start_intercept, tcpcopy_args,
    token_file,
};
use crate::scenario::with_report;
use anyhow::{Result, anyhow, ensure};
use std::io::PipeReader;
use std::path::Path;
use std::time::Duration;

/// Exit code of a run that lost nothing.
pub const COMPLETE: i32 = 0;
/// Exit code of a run that lost requests, found a damaged file, or was interrupted.
pub const INCOMPLETE: i32 = 3;

/// How long `intercept` may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running offline replay.
pub struct Offline<'lab> {
    lab: &'lab Lab,
    /// The one on the online host.
    pub tcpcopy: Tcpcopy,
    /// The one on the assistant.
    pub intercept: Process,
    limit: Duration,
}

impl<'lab> Offline<'lab> {
    /// Replays `files` to the end. `words` are more options for `tcpcopy`, separated by spaces.
    ///
    /// # Errors
    /// When it does not end by itself within the options' time to catch up, or not with [`COMPLETE`], or the counters don't add
    /// up.
    pub fn run(
        lab: &'lab Lab,
        options: &ReplayOptions,
        files: &[impl AsRef<Path>],
        words: &str,
    ) -> Result<Finished> {
        Self::run_to(lab, COMPLETE, options, files, words)
    }

    /// As [`Offline::run`], to an end with this exit code.
    ///
    /// # Errors
    /// As [`Offline::run`].
    pub fn run_to(
        lab: &'lab Lab,
        code: i32,
        options: &ReplayOptions,
        files: &[impl AsRef<Path>],
        words: &str,
    ) -> Result<Finished> {
        let finished = Self::start(lab, options, files, words)?.wait()?;
        with_report(check_code(&finished.tcpcopy, code), &finished)?;
        Ok(finished)
    }

    /// Starts to replay `files`.
    ///
    /// # Errors
    /// When a program is not built, or `intercept` does not get ready.
    pub fn start(
        lab: &'lab Lab,
        options: &ReplayOptions,
        files: &[impl AsRef<Path>],
        words: &str,
    ) -> Result<Self> {
        let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
        Self::start_with(lab, options, &files, words, Pipes::default())
    }

    /// Starts to replay what comes through a pipe.
    ///
    /// # Errors
    /// As [`Offline::start`].
    pub fn start_from_pipe(
        lab: &'lab Lab,
        options: &ReplayOptions,
        input: PipeReader,
        words: &str,
    ) -> Result<Self> {
        let pipes = Pipes { input: Some(input), ..Pipes::default() };
        Self::start_with(lab, options, &[Path::new("-")], words, pipes)
    }

    fn start_with(
        lab: &'lab Lab,
        options: &ReplayOptions,
        files: &[&Path],
        words: &str,
        pipes: Pipes,
    ) -> Result<Self> {
        let token = token_file(lab, "token", "a token for the lab, long enough")?;
        let intercept = start_intercept(lab, RELAY_PORT, &intercept_args(options, &token))?;
        let args = offline_args(files, tcpcopy_args(options, &token), words);
        let tcpcopy = Tcpcopy::start_piped(lab, &args, pipes)?;
        Ok(Self { lab, tcpcopy, intercept, limit: options.catch_up })
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not within the options' time to catch up, or the counters don't add up.
    pub fn wait(mut self) -> Result<Finished> {
        let stopped = self.tcpcopy.wait_end(self.limit)?;
        self.finish(stopped)
    }

    /// Ends it as Ctrl-C does.
    ///
    /// # Errors
    /// When it had ended by itself, does not end, or the counters don't add up.
    pub fn interrupt(mut self) -> Result<Finished> {
        let stopped = self.tcpcopy.stop()?;
        self.finish(stopped)
    }

    fn finish(mut self, tcpcopy: Stopped) -> Result<Finished> {
        let intercept = self.intercept.usage()?;
        self.intercept.interrupt(PATIENCE)?;
        let left = self.lab.host(Host::Online).packet_sockets()?;
        ensure!(left == 0, "an offline replay has captured: {left} packet sockets are left");
        Ok(Finished { tcpcopy, intercept, intercept_output: self.intercept.output() })
    }
}

/// The arguments of `tcpcopy` that replay `files`: the others, and `words`.
pub fn offline_args(files: &[&Path], others: Vec<String>, words: &str) -> Vec<String> {
    let mut args = vec!["--offline".to_owned()];
    args.extend(files.iter().map(|file| file.display().to_string()));
    args.extend(others);
    args.extend(words.split_whitespace().map(str::to_owned));
    args
}

/// Fails unless the program ended with this exit code.
///
/// # Errors
/// How it did end.
pub fn check_code(stopped: &Stopped, code: i32) -> Result<()> {
    match stopped.status.code() {
        Some(found) if found == code => Ok(()),
        _ => Err(anyhow!("tcpcopy ended with {}, not with exit code {code}", stopped.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_first_and_words_last() {
        let args =
            offline_args(&[Path::new("a"), Path::new("b")], vec!["-x".into(), "1-2".into()], "--asap -T 3");
        assert_eq!(args, ["--offline", "a", "b", "-x", "1-2", "--asap", "-T", "3"]);
    }
}
