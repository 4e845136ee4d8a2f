//! Recordings of real traffic: `tcpdump`, or `tcpcopy record`, on the online host, as users run them there.
//!
//! Owns starting it so that nothing is lost and ending it so that everything is in the file. Offload stays on: the recording
//! has the merged segments that a production host's has.
//!
//! tcpdump gives up its privileges in a way that user namespaces refuse: there `tcpcopy record` takes its place.

use crate::host::Host;
use crate::lab::Lab;
use crate::privilege;
use crate::process::{Pipes, Process};
use crate::programs::Program;
use crate::tools;
use crate::wait::wait_until;
use anyhow::{Context, Result, ensure};
use std::io::PipeReader;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a recorder may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The kernel hands packets over in blocks, a block that is not full after this time at the latest.
const BLOCK_TIME: Duration = Duration::from_millis(1_000);

/// A running recorder on the online host.
pub struct Recording {
    recorder: Recorder,
    process: Process,
    file: Option<PathBuf>,
}

/// What records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorder {
    /// What everybody has.
    Tcpdump,
    /// Our own.
    TcpcopyRecord,
}

impl Recorder {
    /// tcpdump, where it works.
    pub fn usual() -> Self {
        if privilege::is_reentered() { Self::TcpcopyRecord } else { Self::Tcpdump }
    }
}

/// Whether tcpdump works here. If not, a test of its own options is to be skipped.
pub fn has_tcpdump() -> bool {
    let works = Recorder::usual() == Recorder::Tcpdump;
    if !works {
        eprintln!("skipped: tcpdump does not work in a user namespace");
    }
    works
}

impl Recording {
    /// Begins to record what passes the online host to and from `ports`, in both directions, and waits until it captures.
    ///
    /// # Errors
    /// When the recorder is not installed or does not start.
    pub fn start(lab: &Lab, ports: &[u16]) -> Result<Self> {
        let recorder = Recorder::usual();
        let words = if recorder == Recorder::TcpcopyRecord { "--both" } else { "" };
        Self::start_as(lab, recorder, ports, "recorded.pcap", words)
    }

    /// As [`Recording::start`], by this recorder into a file of this name in the lab's folder, with more options for the recorder,
    /// separated by spaces.
    ///
    /// # Errors
    /// As [`Recording::start`].
    pub fn start_as(lab: &Lab, recorder: Recorder, ports: &[u16], name: &str, words: &str) -> Result<Self> {
        let file = lab.folder().join(name);
        let place = file.display().to_string();
        let process = match recorder {
            Recorder::Tcpdump => start_tcpdump(lab, ports, words, &place, Pipes::default())?,
            Recorder::TcpcopyRecord => start_tcpcopy_record(lab, ports, words, &place)?,
        };
        Ok(Self { recorder, process, file: Some(file) })
    }

    /// As [`Recording::start`], into a pipe: `tcpdump -w -`.
    ///
    /// # Errors
    /// As [`Recording::start`].
    pub fn start_into_pipe(lab: &Lab, ports: &[u16]) -> Result<(Self, PipeReader)> {
        let (reader, writer) = std::io::pipe()?;
        let pipes = Pipes { output: Some(writer), ..Pipes::default() };
        let process = start_tcpdump(lab, ports, "", "-", pipes)?;
        Ok((Self { recorder: Recorder::Tcpdump, process, file: None }, reader))
    }

    /// The file, while it grows; none with a pipe.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Ends it once all that was captured is in the file.
    ///
    /// # Errors
    /// When packets were dropped, or the recorder did not end well.
    pub fn stop(&mut self) -> Result<()> {
        // What is in a block that is not full is lost when tcpdump ends.
        std::thread::sleep(BLOCK_TIME + Duration::from_millis(100));
        let status = self.process.interrupt(PATIENCE)?;
        let said = self.process.output();
        ensure!(status.success(), "{:?}: {status}:\n{said}", self.recorder);
        if self.recorder == Recorder::Tcpdump {
            let (captured, dropped) =
                (number_before(&said, "captured")?, number_before(&said, "dropped by kernel")?);
            ensure!(dropped == 0, "{dropped} packets are not in the recording:\n{said}");
            ensure!(captured > 0, "nothing was recorded:\n{said}");
        }
        Ok(())
    }

    /// As [`Recording::stop`]; returns the file.
    ///
    /// # Errors
    /// As [`Recording::stop`].
    pub fn finish(mut self) -> Result<PathBuf> {
        self.stop()?;
        self.file.take().context("a recording into a pipe has no file")
    }
}

fn start_tcpdump(lab: &Lab, ports: &[u16], words: &str, file: &str, pipes: Pipes) -> Result<Process> {
    let mut command = Command::new(tools::TCPDUMP.require()?);
    // A buffer that holds seconds of load; as root, because another user could neither write to the lab's folder nor be had in
    // a user namespace.
    command.args(["-i", "eth0", "-n", "-s", "0", "-B", "393216", "-Z", "root", "-w", file]);
    command.args(words.split_whitespace());
    let ports: Vec<String> = ports.iter().map(|port| format!("port {port}")).collect();
    command.arg(format!("tcp and ({})", ports.join(" or ")));
    let host = lab.host(Host::Online);
    let captures = host.packet_sockets()?;
    let mut process = host.spawn_piped("tcpdump", command, pipes)?;
    process.wait_for_line("listening on", PATIENCE)?;
    wait_until("tcpdump to capture", PATIENCE, || Ok(host.packet_sockets()? > captures))?;
    Ok(process)
}

fn start_tcpcopy_record(lab: &Lab, ports: &[u16], words: &str, file: &str) -> Result<Process> {
    let mut command = Command::new(Program::Tcpcopy.find()?);
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    command.args(["record", "-i", "eth0", "-B", "384", "-x", &ports.join(","), "-w", file]);
    command.args(words.split_whitespace());
    let host = lab.host(Host::Online);
    let captures = host.packet_sockets()?;
    let mut process = host.spawn("record", command)?;
    process.wait_for_line("recording to", PATIENCE)?;
    wait_until("tcpcopy record to capture", PATIENCE, || Ok(host.packet_sockets()? > captures))?;
    Ok(process)
}

/// The number in tcpdump's line that ends with `what`: `12 packets captured`.
fn number_before(said: &str, what: &str) -> Result<u64> {
    let line = said.lines().find(|line| line.ends_with(what));
    line.and_then(|line| line.split(' ').next()?.parse().ok())
        .with_context(|| format!("tcpdump does not say how many packets were {what}:\n{said}"))
}

/// Records what `load` does, and returns the file and how long the load took.
///
/// # Errors
/// Those of the load and of the recording.
pub fn record(lab: &Lab, ports: &[u16], load: impl FnOnce() -> Result<()>) -> Result<(PathBuf, Duration)> {
    let recording = Recording::start(lab, ports)?;
    let began = Instant::now();
    load().context("the load on online")?;
    let took = began.elapsed();
    Ok((recording.finish()?, took))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_words_of_tcpdump_are_read() {
        let said = "tcpdump: listening on eth0\n12 packets captured\n14 packets received by filter\n\
                    2 packets dropped by kernel\n";
        assert_eq!(number_before(said, "captured").unwrap(), 12);
        assert_eq!(number_before(said, "received by filter").unwrap(), 14);
        assert_eq!(number_before(said, "dropped by kernel").unwrap(), 2);
        assert!(number_before("tcpdump: no such device", "captured").is_err());
    }
}
