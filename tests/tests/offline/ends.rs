//! Replays that can't deliver everything: each ends by itself, and says so.

use super::*;
use anyhow::{Result, ensure};
use std::process::Command;
use std::time::{Duration, Instant};
use tcpcopy_lab::load::RedisLoad;
use tcpcopy_lab::offline::{COMPLETE, INCOMPLETE, check_code};
use tcpcopy_lab::recording::record;
use tcpcopy_lab::redis::RedisServer;
use tcpcopy_lab::scenario::{REDIS, RedisPair, with_report};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Host, Lab, LabOptions, Offline, lab_test, tools};

#[test]
fn interrupted_it_ends_well_and_a_second_run_delivers_everything() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let load = RedisLoad { pause: Duration::from_millis(20), ..mixed(20, 2_000) };
        let (file, _) = record(lab, &[REDIS], || load.run(lab.host(Host::Client)))?;
        let offline = Offline::start(lab, &redis_options(), &[&file], "-a 0.5")?;
        wait_until("the target to get some", SOON, || Ok(servers.target.calls("set")? > 50))?;
        let finished = offline.interrupt()?;
        let check = || {
            check_code(&finished.tcpcopy, INCOMPLETE)?;
            let (online, target) = (servers.online.calls("set")?, servers.target.calls("set")?);
            ensure!(target < online, "it was not in the middle: {target} of {online}");
            finished.report().check_sums()
        };
        with_report(check(), &finished)?;
        servers.target.reset()?;
        replay_equal(lab, &servers, &redis_options(), &[file], "--asap", 1).map(drop)
    });
}

/// What is whole of a recording of requests that have a packet each: how many they are, and where the rest begins.
fn whole(recording: &[u8]) -> (usize, usize) {
    let field = |at: usize| Some(u32::from_le_bytes(*recording.get(at..)?.first_chunk()?) as usize);
    let (mut at, mut requests) = (24, 0);
    while let Some(length) = field(at + 8) {
        let Some(frame) = recording.get(at + 16..at + 16 + length) else { break };
        let tcp = 14 + usize::from(frame[14] & 15) * 4;
        let payload = tcp + usize::from(frame[tcp + 12] >> 4) * 4;
        let is_to_server = frame[tcp + 2..tcp + 4] == REDIS.to_be_bytes();
        requests += usize::from(
            is_to_server && payload < 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]])),
        );
        at += 16 + length;
    }
    (requests, at)
}

#[test]
fn of_a_truncated_file_what_is_whole_arrives() {
    lab_test(LabOptions::default(), |lab| {
        let servers = RedisPair::start(lab)?;
        let load = set(20, 4_000, 300);
        let (file, _) = record(lab, &[REDIS], || load.run(lab.host(Host::Client)))?;
        let mut bytes = std::fs::read(&file)?;
        let (recorded, _) = whole(&bytes);
        ensure!(recorded == 4_000, "{recorded} requests are recorded");
        bytes.truncate(bytes.len() * 6 / 10 - 7);
        let (expected, rest) = whole(&bytes);
        ensure!(rest < bytes.len(), "the cut is between two packets");
        let expected = expected as u64;
        std::fs::write(&file, &bytes)?;
        for (words, code) in [("--asap", INCOMPLETE), ("--asap --allow-loss 100", COMPLETE)] {
            servers.target.reset()?;
            let finished = Offline::run_to(lab, code, &redis_options(), &[&file], words)?;
            let check = || {
                wait_until("what is whole", Duration::from_secs(2), || {
                    Ok(servers.target.calls("set")? >= expected)
                })?;
                let sets = servers.target.calls("set")?;
                ensure!(sets == expected, "{sets} requests of {expected} that are whole");
                let said = &finished.tcpcopy.output;
                let place = format!("recorded.pcap: at byte {rest}");
                ensure!(said.contains(&place), "not said: {place}");
                Ok(())
            };
            with_report(check(), &finished)?;
        }
        Ok(())
    });
}

#[test]
fn a_target_that_refuses_is_the_end_of_it() {
    dead_target(|_| Ok(()));
}

#[test]
fn a_silent_target_is_given_up() {
    dead_target(|lab| {
        let mut command = Command::new(tools::NFT.require()?);
        command.arg(format!(
            "add table inet lab; add chain inet lab in {{ type filter hook input priority 0; }}; \
             add rule inet lab in tcp dport {REDIS} drop"
        ));
        lab.host(Host::Target).output(command).map(drop)
    });
}

fn dead_target(kill: impl FnOnce(&Lab) -> Result<()>) {
    lab_test(LabOptions::default(), |lab| {
        let _online = RedisServer::start(lab.host(Host::Online), REDIS)?;
        let load = mixed(20, 1_000);
        let (file, _) = record(lab, &[REDIS], || load.run(lab.host(Host::Client)))?;
        kill(lab)?;
        let began = Instant::now();
        let finished = Offline::run_to(lab, INCOMPLETE, &redis_options(), &[file], "--asap -t 5")?;
        let check = || {
            ensure!(began.elapsed() < Duration::from_secs(25), "it took {:?}", began.elapsed());
            let report = finished.report();
            ensure!(report.given_up()? > 0, "nothing was given up: {}", report.json());
            ensure!(report.counter("requests_acknowledged")? == 0, "{}", report.json());
            ensure!(report.counter("requests_waiting")? == 0, "{}", report.json());
            Ok(())
        };
        with_report(check(), &finished)
    });
}
