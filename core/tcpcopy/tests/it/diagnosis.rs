//! Each rule, shown by a run that is made up for it.

use super::report::healthy;
use super::support::settings;
use std::time::Duration;
use tcpcopy::report::{Cause, Finding, Forwarding, RemoteStatus, Snapshot, diagnose, finding_lines};
use tcpcopy_engine::counters::EndReason;

const PLAIN: &str = "-x 80-10.0.0.2:8080 -s 10.0.0.3";

/// What is found in a healthy run after `change`.
fn found(line: &str, change: impl FnOnce(&mut Snapshot)) -> Vec<Finding> {
    let mut snapshot = healthy();
    change(&mut snapshot);
    diagnose(&snapshot, &settings(line))
}

fn told(line: &str, change: impl FnOnce(&mut Snapshot)) -> String {
    found(line, change).iter().map(finding_lines).collect()
}

/// Packets leave and nothing at all comes back.
fn silent(snapshot: &mut Snapshot) {
    let c = &mut snapshot.counters;
    c.sessions_established = 0;
    c.sessions_connected = 0;
    c.replies = 0;
    c.syn_acks = 0;
    c.requests_answered = 0;
    c.response_bytes = 0;
    remote(snapshot).captured = 0;
}

fn remote(snapshot: &mut Snapshot) -> &mut RemoteStatus {
    snapshot.relay[0].remote.as_mut().unwrap()
}

#[test]
fn nothing_captured() {
    let blind = |snapshot: &mut Snapshot| {
        *snapshot = Snapshot {
            elapsed: Duration::from_secs(12),
            relay: snapshot.relay.clone(),
            ..Snapshot::default()
        };
    };
    insta::assert_snapshot!(told(PLAIN, blind));
    insta::assert_snapshot!(told(&format!("{PLAIN} -i eth3 -F tcp"), blind));
    let early = found(PLAIN, |snapshot| {
        blind(snapshot);
        snapshot.elapsed = Duration::from_secs(2);
    });
    assert!(early.is_empty(), "a quiet start is no problem: {early:?}");
}

#[test]
fn captured_but_nothing_for_the_online_server() {
    insta::assert_snapshot!(told(PLAIN, |snapshot| {
        snapshot.counters.connections_seen = 0;
        snapshot.counters.packets_ignored = snapshot.counters.packets_captured;
    }));
}

#[test]
fn captured_twice() {
    insta::assert_snapshot!(told(PLAIN, |snapshot| snapshot.counters.segments_repeated = 9_000));
    let few = found(PLAIN, |snapshot| snapshot.counters.segments_repeated = 900);
    assert!(few.is_empty(), "{few:?}");
}

/// Every cause has a name of its own, and `docs/report.md` lists it.
#[test]
fn causes_are_documented() {
    let documentation =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/report.md")).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for cause in Cause::ALL {
        assert!(names.insert(cause.name()), "{} is used twice", cause.name());
        assert!(documentation.contains(&format!("`{}`", cause.name())), "{} is missing", cause.name());
    }
}

#[test]
fn kernel_drops() {
    insta::assert_snapshot!(told(PLAIN, |snapshot| snapshot.kernel_dropped = 77));
    insta::assert_snapshot!(told(&format!("{PLAIN} --pcap-capture"), |snapshot| snapshot.kernel_dropped = 77));
}

#[test]
fn sends_that_fail() {
    insta::assert_snapshot!(told(PLAIN, |snapshot| {
        snapshot.counters.packets_sent = 0;
        snapshot.send_errors = [(libc::EPERM, 500)].into();
    }));
    insta::assert_snapshot!(
        told(PLAIN, |snapshot| snapshot.send_errors = [(libc::EMSGSIZE, 5), (libc::EPERM, 4)].into())
    );
    insta::assert_snapshot!(told(PLAIN, |snapshot| snapshot.send_errors = [(libc::ENETUNREACH, 5)].into()));
    insta::assert_snapshot!(told(PLAIN, |snapshot| snapshot.send_errors = [(libc::ENOBUFS, 5_000)].into()));
    let few = found(PLAIN, |snapshot| snapshot.send_errors = [(libc::ENOBUFS, 5)].into());
    assert!(few.is_empty(), "a full queue now and then mends itself: {few:?}");
}

#[test]
fn relay_down() {
    insta::assert_snapshot!(told(PLAIN, |snapshot| {
        silent(snapshot);
        snapshot.relay[0].connected = 0;
        snapshot.relay[0].last_error = Some("the tokens differ".to_owned());
    }));
    insta::assert_snapshot!(told(PLAIN, |snapshot| {
        let mut second = snapshot.relay[0].clone();
        second.address = "[fd00::3]:4000".to_owned();
        second.connected = 0;
        second.last_error = Some("connection refused".to_owned());
        snapshot.relay.push(second);
    }));
}

#[test]
fn no_reply_at_all() {
    insta::assert_snapshot!(told(&format!("{PLAIN} -c 62.135.200.x"), silent));
    let of_v6 = found("-x 80-[fd00::2]:80 -s 10.0.0.3", silent);
    assert!(
        of_v6.iter().all(|finding| finding.cause != Cause::ReversePathFilter),
        "IPv6 has no rp_filter: {of_v6:?}"
    );
    let early = found(PLAIN, |snapshot| {
        silent(snapshot);
        snapshot.elapsed = Duration::from_secs(1);
    });
    assert!(early.is_empty(), "{early:?}");
}

#[test]
fn no_reply_and_intercept_tells_nothing_about_itself() {
    let causes: Vec<Cause> = found(PLAIN, |snapshot| {
        silent(snapshot);
        snapshot.relay[0].remote = None;
    })
    .iter()
    .map(|finding| finding.cause)
    .collect();
    assert_eq!(causes, [Cause::NoRouteOnTarget, Cause::ReversePathFilter, Cause::RepliesNotCaptured]);
}

#[test]
fn replies_of_no_route() {
    insta::assert_snapshot!(told(PLAIN, |snapshot| {
        silent(snapshot);
        *remote(snapshot) = RemoteStatus { captured: 300, unrouted: 300, ..RemoteStatus::default() };
    }));
}

#[test]
fn replies_lost_on_the_way_back() {
    insta::assert_snapshot!(told(PLAIN, |snapshot| {
        silent(snapshot);
        *remote(snapshot) =
            RemoteStatus { captured: 300, unrouted: 30, kernel_dropped: 6, ..RemoteStatus::default() };
    }));
}

#[test]
fn real_clients_reset() {
    let resets = |snapshot: &mut Snapshot| {
        snapshot.counters.early_resets = 95;
        snapshot.counters.target_resets = 95;
    };
    insta::assert_snapshot!(told(PLAIN, resets));
    insta::assert_snapshot!(told(PLAIN, |snapshot| {
        resets(snapshot);
        remote(snapshot).forwards_v4 = Forwarding::On;
    }));
    let few = found(PLAIN, |snapshot| snapshot.counters.early_resets = 3);
    assert!(few.is_empty(), "{few:?}");
    let v6_only = found(PLAIN, |snapshot| remote(snapshot).forwards_v6 = Forwarding::On);
    assert!(v6_only.is_empty(), "IPv6 forwarding does not matter to IPv4 targets: {v6_only:?}");
    let v6 =
        found("-x 80-[fd00::2]:80 -s 10.0.0.3", |snapshot| remote(snapshot).forwards_v6 = Forwarding::On);
    assert!(v6[0].command.contains("net.ipv6.conf.all.forwarding=0"), "{v6:?}");
}

#[test]
fn target_refuses() {
    insta::assert_snapshot!(told(PLAIN, |snapshot| {
        snapshot.counters.sessions_ended = Default::default();
        snapshot.counters.sessions_ended.add(EndReason::Refused, 90);
    }));
}

#[test]
fn each_reason_for_giving_up_has_a_remedy() {
    let told: String = EndReason::ALL
        .into_iter()
        .map(|reason| {
            let lines = told(PLAIN, |snapshot| snapshot.counters.requests_given_up.add(reason, 20));
            format!("{}:\n{lines}", reason.name())
        })
        .collect();
    insta::assert_snapshot!(told);
}

#[test]
fn memory() {
    insta::assert_snapshot!(told(PLAIN, |snapshot| {
        snapshot.counters.memory_bytes = 1000 << 20;
        snapshot.counters.sessions_ended.add(EndReason::MemoryLimit, 11);
    }));
}

#[test]
fn tls() {
    insta::assert_snapshot!(told(PLAIN, |snapshot| snapshot.counters.connections_tls = 40));
}
