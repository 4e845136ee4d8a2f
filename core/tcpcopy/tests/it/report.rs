//! Lines, the closing report and JSON for runs that are made up.

use super::support::settings;
use std::time::Duration;
use tcpcopy::offline::OfflineStatus;
use tcpcopy::report::{
    Forwarding, ModuleFaults, ModuleStatus, RelayStatus, RemoteStatus, Reporter, Snapshot, Stage,
    closing_report, diagnose, interval_line, json,
};
use tcpcopy::settings::Settings;
use tcpcopy_engine::counters::EndReason;

/// A run in which all is well: 10,000 requests of 100 connections in 10 seconds.
pub(crate) fn healthy() -> Snapshot {
    let mut snapshot = Snapshot { elapsed: Duration::from_secs(10), workers: 1, ..Snapshot::default() };
    let c = &mut snapshot.counters;
    c.packets_captured = 30_000;
    c.bytes_captured = 2_400_000;
    c.connections_seen = 100;
    c.sessions_opened = 100;
    c.sessions_live = 10;
    c.sessions_connected = 100;
    c.sessions_established = 100;
    c.sessions_ended.add(EndReason::Completed, 90);
    c.requests_captured = 10_000;
    c.requests_sent = 9_999;
    c.requests_acknowledged = 9_998;
    c.requests_answered = 9_998;
    c.requests_waiting = 2;
    c.request_bytes_captured = 500_000;
    c.request_bytes_acknowledged = 499_900;
    c.response_bytes = 50_000;
    c.packets_sent = 12_000;
    c.bytes_sent = 980_000;
    c.acks_sent = 1_800;
    c.replies = 11_000;
    c.syn_acks = 100;
    c.memory_bytes = 20_000;
    c.memory_bytes_peak = 300_000;
    snapshot.kernel_received = 30_000;
    for micros in 1..=200 {
        snapshot.delay.record(Duration::from_micros(micros));
        snapshot.relay_delay.record(Duration::from_micros(micros * 10));
    }
    let remote = RemoteStatus {
        captured: 11_000,
        forwards_v4: Forwarding::Off,
        forwards_v6: Forwarding::Off,
        ..RemoteStatus::default()
    };
    snapshot.relay = vec![RelayStatus {
        address: "10.0.0.3:36524".to_owned(),
        wanted: 2,
        connected: 2,
        round_trip: Some(Duration::from_micros(180)),
        bytes_in: 800_000,
        bytes_out: 9_000,
        remote: Some(remote),
        ..RelayStatus::default()
    }];
    snapshot.cpu_user = Duration::from_millis(120);
    snapshot.cpu_system = Duration::from_millis(380);
    snapshot.rss_bytes = 14 << 20;
    snapshot.peak_rss_bytes = 15 << 20;
    snapshot
}

/// The same with everything in it that can go wrong in part.
fn troubled() -> Snapshot {
    let mut snapshot = healthy();
    let c = &mut snapshot.counters;
    c.packets_ignored = 12;
    c.packets_malformed = 3;
    c.fragments = 40;
    c.fragments_dropped = 4;
    c.segments_repeated = 25;
    c.segments_reordered = 7;
    c.connections_sampled_out = 50;
    c.connections_tls = 2;
    c.sessions_joined = 5;
    c.reconnects = 6;
    c.requests_captured = 10_100;
    c.requests_given_up.add(EndReason::TargetReset, 60);
    c.requests_given_up.add(EndReason::CaptureGap, 40);
    c.sessions_ended.add(EndReason::TargetReset, 6);
    c.sessions_ended.add(EndReason::CaptureGap, 4);
    c.sessions_opened = 110;
    c.retransmits = 1_234;
    c.retransmit_timeouts = 200;
    c.window_probes = 9;
    c.send_failures = 31;
    c.target_resets = 6;
    c.replies_unknown = 8;
    c.replies_malformed = 1;
    snapshot.kernel_dropped = 120;
    snapshot.modules = vec![
        ModuleStatus {
            name: "redis".to_owned(),
            kind: "wasm".to_owned(),
            ports: vec![6379, 6380],
            sessions: 110,
            instances: 4,
            faults: vec![
                ModuleFaults {
                    kind: "trap".to_owned(),
                    count: 2,
                    last: "unreachable\nat redis.rs \u{1b}[31m".to_owned(),
                },
                ModuleFaults { kind: "deadline".to_owned(), count: 9, last: "it took 100 ms".to_owned() },
            ],
            violations: 3,
            disabled: Some("plugin redis failed more than 10 times within a minute".to_owned()),
            gave_up: vec![("a module of the target is unknown".to_owned(), 2)],
            counts: (1..=23).map(|number| (format!("command-{number:02}"), number * 7)).collect(),
        },
        ModuleStatus {
            name: "http".to_owned(),
            kind: "native".to_owned(),
            ports: vec![80],
            ..Default::default()
        },
    ];
    snapshot.send_errors = [(libc::EPERM, 1), (libc::EMSGSIZE, 20), (libc::ENOBUFS, 10)].into();
    snapshot.relay.push(RelayStatus {
        address: "10.0.0.4:36524".to_owned(),
        wanted: 2,
        reconnects: 1,
        last_error: Some("connection refused".to_owned()),
        ..RelayStatus::default()
    });
    snapshot
}

fn plain() -> Settings {
    settings("-x 80-10.0.0.2:8080 -s 10.0.0.3")
}

#[test]
fn an_interval_is_one_line_of_what_is_new() {
    let mut earlier = healthy();
    earlier.elapsed = Duration::from_secs(5);
    earlier.counters.requests_captured = 5_000;
    earlier.counters.connections_seen = 98;
    earlier.cpu_user = Duration::ZERO;
    insta::assert_snapshot!(interval_line(&healthy(), &earlier));
    let first = interval_line(&troubled(), &Snapshot::default());
    assert!(!first.contains('\n'));
    insta::assert_snapshot!(first);
    // Two reports at one moment must not divide by zero.
    assert!(interval_line(&healthy(), &healthy()).contains("requests=0/s"));
}

#[test]
fn closing_report_of_a_healthy_run() {
    let snapshot = healthy();
    let findings = diagnose(&snapshot, &plain());
    assert!(findings.is_empty(), "{findings:?}");
    insta::assert_snapshot!(closing_report(&snapshot, &findings));
}

#[test]
fn closing_report_of_a_troubled_run() {
    let snapshot = troubled();
    insta::assert_snapshot!(closing_report(&snapshot, &diagnose(&snapshot, &plain())));
}

#[test]
fn closing_report_of_nothing_at_all() {
    let snapshot = Snapshot { workers: 1, ..Snapshot::default() };
    insta::assert_snapshot!(closing_report(&snapshot, &diagnose(&snapshot, &plain())));
}

#[test]
fn a_missing_request_is_a_defect_that_is_told() {
    let mut snapshot = healthy();
    snapshot.counters.requests_captured += 1;
    let report = closing_report(&snapshot, &[]);
    assert!(report.contains("do NOT add up"), "{report}");
    assert_eq!(
        json(&snapshot, &[], Stage::Final)["imbalance"],
        "requests captured = acknowledged + waiting + given up: 10001 on one side, 10000 on the other"
    );
}

#[test]
fn json_of_a_troubled_run() {
    let snapshot = troubled();
    let value = json(&snapshot, &diagnose(&snapshot, &plain()), Stage::Final);
    let text = serde_json::to_string_pretty(&value).unwrap();
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    insta::assert_snapshot!(text.replace(&version, "\"version\": \"VERSION\""));
}

#[test]
fn every_json_field_is_in_the_documentation() {
    fn names(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(object) => {
                for (name, value) in object {
                    found.push(name.clone());
                    // What is in these has names that plugins give.
                    if !matches!(name.as_str(), "counts" | "gave_up") {
                        names(value, found);
                    }
                }
            }
            serde_json::Value::Array(list) => list.iter().for_each(|value| names(value, found)),
            _ => {}
        }
    }
    let documentation =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/report.md")).unwrap();
    let snapshot = Snapshot { offline: Some(OfflineStatus::default()), ..troubled() };
    let mut found = Vec::new();
    names(&json(&snapshot, &diagnose(&snapshot, &plain()), Stage::Final), &mut found);
    for reason in EndReason::ALL {
        found.push(reason.name().to_owned());
    }
    let missing: Vec<_> = found.iter().filter(|name| !documentation.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/report.md does not describe {missing:?}");
}

#[test]
fn files_are_kept_up_to_date_and_a_problem_is_told_once() {
    let folder = std::env::temp_dir().join(format!("tcpcopy-report-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (log, stats) = (folder.join("log"), folder.join("stats.json"));
    let settings = settings(&format!(
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -l {} --stats-json {}",
        log.display(),
        stats.display()
    ));
    let read = || -> serde_json::Value { serde_json::from_slice(&std::fs::read(&stats).unwrap()).unwrap() };
    let mut reporter = Reporter::new(&settings).unwrap();
    let mut dropping = healthy();
    dropping.kernel_dropped = 5;
    reporter.interval(&dropping, &settings).unwrap();
    assert_eq!(read()["final"], false);
    assert_eq!(read()["findings"][0]["cause"], "kernel_drops");
    dropping.kernel_dropped = 9;
    reporter.interval(&dropping, &settings).unwrap();
    reporter.interval(&healthy(), &settings).unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(text.matches("[kernel_drops]").count(), 1, "{text}");
    assert_eq!(text.matches("mended: kernel_drops").count(), 1, "{text}");
    reporter.finish(&healthy(), &settings).unwrap();
    assert_eq!(read()["final"], true);
    assert!(std::fs::read_to_string(&log).unwrap().contains("The counters add up"));
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "no temporary file may stay: {left:?}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn replays_of_files_tell_how_far_they_came_and_how_late_they_were() {
    let mut status = OfflineStatus {
        frames: 30_000,
        bytes_read: 1 << 20,
        bytes_total: Some(1 << 20),
        passes: 3,
        passes_done: 1,
        captured_span: Duration::from_secs(10),
        ..OfflineStatus::default()
    };
    status.lag.record(Duration::from_millis(3));
    let snapshot = Snapshot { offline: Some(status), ..healthy() };
    let report = closing_report(&snapshot, &[]);
    assert!(report.contains("33.3 % of 1MB"), "{report}");
    assert!(report.contains("requests late by"), "{report}");
    assert!(!report.contains("dropped by the kernel"), "{report}");
    let line = interval_line(&snapshot, &healthy());
    assert!(line.contains(" read=33.3% lag_p50="), "{line}");
}
