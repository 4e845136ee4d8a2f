//! Start of the process: background, process number file, messages.

use crate::failure::{HintExt, failure};
use crate::progress::Messages;
use crate::settings::{Place, Settings};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tracing_subscriber::filter::LevelFilter;

/// Set in the environment of the background process, so that it does not start another.
const MARKER: &str = "TCPCOPY_IN_BACKGROUND";
/// A background process that lives so long has got through its start.
const START: Duration = Duration::from_millis(500);

/// Which process this is after [`enter_background`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that does the work.
    Worker,
    /// The one at the terminal, which is done.
    Launcher,
}

/// Goes to the background if the settings say so: starts this program again, without a terminal, in a session of its own.
///
/// # Errors
/// The background process could not be started, or ended at once.
pub fn enter_background(settings: &Settings) -> anyhow::Result<Role> {
    if settings.process.place == Place::Foreground {
        return Ok(Role::Worker);
    }
    if std::env::var_os(MARKER).is_some() {
        // Fails only for the leader of a process group, which a child of the launcher never is.
        let _ = rustix::process::setsid();
        return Ok(Role::Worker);
    }
    let hint = "leave out -d to see what goes wrong";
    let program = std::env::current_exe().hint("can't find this program's own file", hint)?;
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let output = || match &settings.output.log_file {
        Some(path) => OpenOptions::new().create(true).append(true).open(path).map(Stdio::from),
        None => Ok(Stdio::null()),
    };
    let log_hint = "-l needs a file that can be written";
    let mut child = Command::new(program)
        .args(arguments)
        .env(MARKER, "1")
        .stdin(Stdio::null())
        .stdout(output().hint("can't open the log file", log_hint)?)
        .stderr(output().hint("can't open the log file", log_hint)?)
        .spawn()
        .hint("can't start the background process", hint)?;
    let deadline = Instant::now() + START;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            if status.success() {
                break;
            }
            return Err(failure(
                format!("the background process ended at once ({status})"),
                "the file given by -l tells why; without one, leave out -d to see",
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Role::Launcher)
}

/// The process number file; removed when dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file that the settings name, if any.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let Some(path) = &settings.process.pid_file else { return Ok(None) };
        std::fs::write(path, format!("{}\n", std::process::id())).hint(
            format!("can't write the process number to {}", path.display()),
            "-P needs a file in a folder that exists and can be written",
        )?;
        Ok(Some(Self(path.clone())))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Sends messages to the terminal's error stream or to the file given by `-l`.
///
/// # Errors
/// The file can't be opened.
pub fn start_messages(settings: &Settings) -> anyhow::Result<()> {
    let level = LevelFilter::from_level(settings.output.log_level);
    let builder = tracing_subscriber::fmt().with_max_level(level).with_target(false);
    // A second call (in tests) keeps the first destination, which is as good.
    let _ = match &settings.output.log_file {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path).hint(
                format!("can't open the log file {}", path.display()),
                "-l needs a file that can be written",
            )?;
            builder.with_ansi(false).with_writer(file).try_init()
        }
        None => builder.with_writer(|| Messages).try_init(),
    };
    Ok(())
}
