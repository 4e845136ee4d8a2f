//! Replaying capture files: what options mean, and what is refused.

use super::support::{MadeUpHost, settings, try_settings};
use std::num::NonZeroU32;
use std::process::Command;
use std::time::Duration;
use tcpcopy::settings::{Amount, Tempo, Unit};
use tcpcopy_capture_file::{AtEnd, Input};

const BASE: &str = "-x 80-10.0.0.2:8080 -s 10.0.0.3";

fn offline(more: &str) -> tcpcopy::settings::Offline {
    settings(&format!("{BASE} {more}")).offline.expect("files are given")
}

#[test]
fn files_are_replayed_as_they_were_captured() {
    let offline = offline("--offline a.pcap b.pcap -");
    let files = ["a.pcap", "b.pcap"].map(|name| Input::File(name.into()));
    assert_eq!(offline.inputs, [&files[..], &[Input::Stdin]].concat());
    assert_eq!(offline.tempo, Tempo::Captured { speed: 1.0, idle_cap: None });
    assert_eq!((offline.passes, offline.at_end), (NonZeroU32::MIN, AtEnd::Stop));
    assert_eq!((offline.limit, offline.allow_loss), (None, None));
    assert!(settings(BASE).offline.is_none());
}

#[test]
fn letters_mean_what_they_mean_in_tcpcopy() {
    let folder = std::env::temp_dir().join(format!("tcpcopy-offline-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("web.pcap");
    std::fs::write(&file, b"").unwrap();
    let settings = settings(&format!("{BASE} -i {} -a 2.5 -I 300 -T 4", file.display()));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(settings.capture.interfaces.is_empty());
    let offline = settings.offline.unwrap();
    assert_eq!(offline.inputs, [Input::File(file)]);
    let idle_cap = Some(Duration::from_millis(300));
    assert_eq!(offline.tempo, Tempo::Captured { speed: 2.5, idle_cap });
    assert_eq!(offline.passes.get(), 4);
}

#[test]
fn other_paces() {
    assert_eq!(offline("--offline a --asap").tempo, Tempo::Unpaced);
    let rate = |count, unit| Tempo::Rate(Amount { count, unit });
    assert_eq!(offline("--offline a --rate 200").tempo, rate(200, Unit::Connections));
    assert_eq!(offline("--offline a --rate 5000req").tempo, rate(5000, Unit::Requests));
}

#[test]
fn slow_replays_are_patient_with_idle_clients() {
    let slow = settings(&format!("{BASE} --offline a -a 0.5 -k 100"));
    assert_eq!(slow.limits.keepalive_timeout, Duration::from_secs(200));
    let fast = settings(&format!("{BASE} --offline a -a 10 -k 100"));
    assert_eq!(fast.limits.keepalive_timeout, Duration::from_secs(100));
}

#[test]
fn what_makes_no_sense() {
    let lines = [
        "-a 10",
        "--asap",
        "-T 3",
        "--offline a -a 0.01",
        "--offline a -a 10 --asap",
        "--offline a --rate 10pkt",
        "--offline a --rate many",
        "--offline a --limit 0",
        "--offline a --at 10s",
        "--offline a --at 20s..10s",
        "--offline a --at noon..",
        "--offline a b --follow",
        "--offline - -T 2",
        "--offline - -",
        "--offline a -i eth0",
        "--offline a --allow-loss 101",
        "--offline a --decap vxlan,ipip",
    ];
    let told = lines.map(|line| match try_settings(&format!("{BASE} {line}")) {
        Ok(_) => panic!("accepted: {line}"),
        Err(error) => format!("$ tcpcopy … {line}\n{}\n", error.lines()),
    });
    insta::assert_snapshot!(told.concat());
}

#[test]
fn a_dry_run_tells_what_would_be_played() {
    let host = MadeUpHost { may_use_raw_sockets: true };
    let settings = settings(
        "-x 80-192.168.1.20:8080 -s 192.168.1.30 --offline web-1.pcap web-2.pcap.zst -a 10 -I 500 -T 3 --limit 100",
    );
    insta::assert_snapshot!(settings.describe(&host));
}

#[test]
fn a_file_that_is_none_is_told_before_anything_is_sent() {
    let folder = std::env::temp_dir().join(format!("tcpcopy-no-capture-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("notes.txt");
    std::fs::write(&file, b"no capture, but a text that is long enough for a header").unwrap();
    let run = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tcpcopy"));
        command.args(BASE.split_whitespace()).args(["--offline", name]);
        command.output().unwrap()
    };
    for name in [file.to_str().unwrap(), folder.join("none.pcap").to_str().unwrap()] {
        let output = run(name);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("error: can't replay: ") && said.contains(name), "{said}");
        assert!(said.contains("\nhint: "), "{said}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
