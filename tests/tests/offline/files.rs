//! Files of all kinds: growing, compressed, several, from a pipe.

use super::*;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tcpcopy_lab::load::{Connections, RedisLoad};
use tcpcopy_lab::nginx::Nginx;
use tcpcopy_lab::offline::{COMPLETE, check_code};
use tcpcopy_lab::recording::{Recorder, has_tcpdump, record};
use tcpcopy_lab::scenario::{HTTP, REDIS, RedisPair, check_same, with_report};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Host, LabOptions, Offline, Recording, lab_test, tools};

/// Reads the latest report until the target has got what online got.
fn wait_equal(servers: &RedisPair<'_>) -> Result<()> {
    let sets = servers.online.calls("set")?;
    wait_until("the target to get everything", SOON, || Ok(servers.target.calls("set")? >= sets))
}

#[test]
fn a_file_that_grows_is_followed() {
    if !has_tcpdump() {
        return;
    }
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        // Each packet is in the file as soon as tcpdump has it.
        let recording = Recording::start_as(lab, Recorder::Tcpdump, &[REDIS], "growing.pcap", "-U")?;
        let file = recording.file().context("a recording into a file")?.to_owned();
        mixed(20, 4_000).run(lab.host(Host::Client))?;
        let mut offline = Offline::start(lab, &redis_options(), &[file], "--follow")?;
        for round in ["second", "third"] {
            std::thread::sleep(Duration::from_millis(700));
            RedisLoad { prefix: round.into(), ..mixed(20, 4_000) }.run(lab.host(Host::Client))?;
        }
        recording.finish()?;
        let followed = wait_equal(&servers);
        offline.tcpcopy.process.check_running().context("it ended, though the file may grow")?;
        let finished = offline.interrupt()?;
        with_report(followed, &finished)?;
        with_report(servers.check_equal(1), &finished)?;
        with_report(finished.report().check_delivered(), &finished)?;
        // There is no other end.
        with_report(check_code(&finished.tcpcopy, COMPLETE), &finished)
    });
}

#[test]
fn a_pipe_is_replayed_to_its_end() {
    if !has_tcpdump() {
        return;
    }
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let (mut recording, pipe) = Recording::start_into_pipe(lab, &[REDIS])?;
        let offline = Offline::start_from_pipe(lab, &redis_options(), pipe, "")?;
        RedisLoad { pause: Duration::from_millis(10), ..mixed(20, 4_000) }.run(lab.host(Host::Client))?;
        recording.stop()?;
        let finished = offline.wait()?;
        with_report(servers.check_equal(1), &finished)?;
        with_report(finished.report().check_delivered(), &finished)?;
        with_report(check_code(&finished.tcpcopy, COMPLETE), &finished)
    });
}

/// Runs a compressor on a copy of `file` and returns the compressed one.
fn compressed(tool: tools::Tool, file: &Path, extension: &str) -> Result<PathBuf> {
    let output = Command::new(tool.require()?).args(["-q", "-k"]).arg(file).output()?;
    ensure!(output.status.success(), "{}: {}", tool.program, String::from_utf8_lossy(&output.stderr));
    Ok(PathBuf::from(format!("{}.{extension}", file.display())))
}

#[test]
fn compressed_recordings() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let (file, _) = record(lab, &[REDIS], || mixed(20, 10_000).run(lab.host(Host::Client)))?;
        for file in [compressed(tools::GZIP, &file, "gz")?, compressed(tools::ZSTD, &file, "zst")?] {
            servers.target.reset()?;
            replay_equal(lab, &servers, &redis_options(), &[file], "--asap", 1)?;
        }
        Ok(())
    });
}

/// The files whose names begin so, sorted.
fn files_called(folder: &Path, beginning: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Each file has the packets of one server; the times in them lie between each other.
#[test]
fn recordings_of_the_same_time_are_one() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let (online, target) =
            (Nginx::start(lab.host(Host::Online), HTTP)?, Nginx::start(lab.host(Host::Target), HTTP)?);
        let words = if Recorder::usual() == Recorder::Tcpdump { "" } else { "--both" };
        let start = |port: u16, name: &str| {
            Recording::start_as(lab, Recorder::usual(), &[port], &format!("{name}.pcap"), words)
        };
        let recordings = [start(HTTP, "http")?, start(REDIS, "redis")?];
        for round in 0..5 {
            RedisLoad { prefix: format!("round{round}"), ..mixed(10, 1_000) }.run(lab.host(Host::Client))?;
            gets(Nginx::SMALL, 10, 500).run(lab.host(Host::Client))?;
        }
        let mut files = Vec::new();
        for recording in recordings {
            files.push(recording.finish()?);
        }
        let options = redis_options().and_port(HTTP);
        for speed in SPEEDS {
            servers.target.reset()?;
            target.reset()?;
            let finished = replay_equal(lab, &servers, &options, &files, speed, 1)?;
            let logged = target.wait_for(2_500, SOON);
            with_report(logged.and_then(|logged| check_same(&online.requests()?, &logged)), &finished)?;
        }
        Ok(())
    });
}

/// What clients send is enough, in many compressed files.
#[test]
fn recorded_by_tcpcopy_itself() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let words = "--rotate-size 1";
        let mut recording =
            Recording::start_as(lab, Recorder::TcpcopyRecord, &[REDIS], "own.pcapng.zst", words)?;
        let short = RedisLoad { reuse: Connections::PerRequest, prefix: "short".into(), ..mixed(10, 1_000) };
        run_all(lab, &[mixed(30, 20_000), short])?;
        recording.stop()?;
        let files = files_called(lab.folder(), "own")?;
        ensure!(files.len() >= 3, "only {files:?}");
        for speed in SPEEDS {
            servers.target.reset()?;
            replay_equal(lab, &servers, &redis_options(), &files, speed, 1)?;
        }
        Ok(())
    });
}

#[test]
fn rotated_recordings_are_one() {
    if !has_tcpdump() {
        return;
    }
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        // A new file for each million bytes: connections go on from one to the next.
        let mut recording = Recording::start_as(lab, Recorder::Tcpdump, &[REDIS], "rotated.pcap", "-C 1")?;
        RedisLoad { pause: Duration::from_millis(2), ..mixed(20, 20_000) }.run(lab.host(Host::Client))?;
        recording.stop()?;
        // The newest first: the times in them say which comes first.
        let mut files = files_called(lab.folder(), "rotated.pcap")?;
        files.reverse();
        ensure!(files.len() >= 3, "only {} files", files.len());
        for speed in ["--asap", "-a 2"] {
            servers.target.reset()?;
            replay_equal(lab, &servers, &redis_options(), &files, speed, 1)?;
        }
        Ok(())
    });
}
