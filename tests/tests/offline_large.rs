//! Captures that are larger than the memory that may be used on them.

use anyhow::{Result, bail, ensure};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};
use tcpcopy_lab::generate::{self, Generated, Traffic};
use tcpcopy_lab::scenario::with_report;
use tcpcopy_lab::sink::Sink;
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, Offline, ReplayOptions, lab_test};

/// Port of the servers.
const PORT: u16 = 7_000;
/// What `tcpcopy` may use at most, whatever the length of the file.
const MEMORY: u64 = 100_000_000;

/// Replays a generated capture of this length with `words`: every byte of every request arrives, in little memory.
fn large(file_bytes: u64, words: &str, limit: Duration) {
    lab_test(LabOptions::default(), |lab| {
        let file = lab.folder().join("large.pcap");
        let began = Instant::now();
        let generated = generate::write(&traffic(file_bytes)?, &file)?;
        println!("{generated:?} in {:?}", began.elapsed());
        let replayed = replay(lab, &file, words, limit, generated);
        // A failed lab's folder is kept; this file is not worth its place.
        std::fs::remove_file(&file)?;
        replayed
    });
}

fn traffic(file_bytes: u64) -> Result<Traffic> {
    let IpAddr::V4(online) = Host::Online.addr(Family::V4) else { bail!("not IPv4") };
    Ok(Traffic {
        online: SocketAddrV4::new(online, PORT),
        // Of the net that the target routes to the assistant.
        first_client: Ipv4Addr::new(10, 78, 0, 10),
        open: 200,
        file_bytes,
        seed: 2_026,
    })
}

fn replay(
    lab: &Lab,
    file: &std::path::Path,
    words: &str,
    limit: Duration,
    generated: Generated,
) -> Result<()> {
    let sink = Sink::start(lab.host(Host::Target), PORT)?;
    let options = ReplayOptions { catch_up: limit, ..ReplayOptions::new(PORT) };
    let began = Instant::now();
    let finished = Offline::run(lab, &options, &[file], words)?;
    let took = began.elapsed();
    let usage = finished.tcpcopy.usage;
    println!("replayed in {took:?}: {usage:?}; intercept: {:?}", finished.intercept);
    let check = || {
        let _ = wait_until("the last connections to end", Duration::from_secs(5), || {
            Ok(sink.arrived().complete >= generated.connections)
        });
        let arrived = sink.arrived();
        ensure!(arrived.faults.is_empty(), "{arrived:?}");
        ensure!(
            (arrived.complete, arrived.requests, arrived.request_bytes)
                == (generated.connections, generated.requests, generated.request_bytes),
            "{arrived:?} of {generated:?}"
        );
        finished.report().check_delivered()?;
        ensure!(usage.peak_memory > 1_000_000, "the memory was not measured: {usage:?}");
        ensure!(usage.peak_memory < MEMORY, "{} bytes of memory", usage.peak_memory);
        Ok(())
    };
    with_report(check(), &finished)
}

#[test]
fn of_2_gigabytes() {
    large(2_000_000_000, "--asap", Duration::from_secs(120));
}

/// What the target can't keep up with waits in the file, not in memory.
#[test]
fn a_hundred_times_as_fast_as_it_was() {
    large(300_000_000, "-a 100", Duration::from_secs(60));
}
