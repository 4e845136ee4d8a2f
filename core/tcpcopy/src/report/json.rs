//! A snapshot as one JSON object. Field names are stable and described in `docs/report.md`.

use super::diagnosis::Finding;
use super::errno::errno_name;
use super::histogram::Histogram;
use super::snapshot::{Forwarding, ModuleStatus, RelayStatus, Snapshot};
use super::{Cause, Stage};
use crate::offline::OfflineStatus;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The snapshot and what was found, as one JSON object.
pub fn json(snapshot: &Snapshot, findings: &[Finding], stage: Stage) -> Value {
    let send_errors: Map<String, Value> = snapshot
        .send_errors
        .iter()
        .map(|(number, count)| (errno_name(*number).into_owned(), json!(count)))
        .collect();
    let imbalance = snapshot.counters.check().err().map(|imbalance| imbalance.to_string());
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "final": stage == Stage::Final,
        "elapsed_seconds": seconds(snapshot.elapsed),
        "workers": snapshot.workers,
        "counters": snapshot.counters,
        "imbalance": imbalance,
        "kernel": { "received": snapshot.kernel_received, "dropped": snapshot.kernel_dropped },
        "send_errors": send_errors,
        "delay": delays(&snapshot.delay),
        "relay_delay": delays(&snapshot.relay_delay),
        "offline": snapshot.offline.as_ref().map(offline),
        "relay": snapshot.relay.iter().map(relay).collect::<Vec<_>>(),
        "modules": snapshot.modules.iter().map(module).collect::<Vec<_>>(),
        "cpu": { "user_seconds": seconds(snapshot.cpu_user), "system_seconds": seconds(snapshot.cpu_system) },
        "memory": { "rss_bytes": snapshot.rss_bytes, "peak_rss_bytes": snapshot.peak_rss_bytes },
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn offline(offline: &OfflineStatus) -> Value {
    json!({
        "frames": offline.frames,
        "frames_left_out": offline.frames_left_out,
        "bytes_read": offline.bytes_read,
        "bytes_total": offline.bytes_total,
        "passes": offline.passes,
        "passes_done": offline.passes_done,
        "captured_seconds": seconds(offline.captured_span),
        "lag": delays(&offline.lag),
        "held_back_seconds": seconds(offline.held_back),
        "flaws": offline.flaws.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "flaw_count": offline.flaw_count,
        "complete": offline.is_complete,
    })
}

fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1e3
}

fn micros(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e7).round() / 10.0
}

fn delays(histogram: &Histogram) -> Value {
    json!({
        "count": histogram.count(),
        "p50_us": micros(histogram.quantile(0.5)),
        "p90_us": micros(histogram.quantile(0.9)),
        "p99_us": micros(histogram.quantile(0.99)),
        "max_us": micros(histogram.max()),
    })
}

fn forwarding(forwarding: Forwarding) -> Option<bool> {
    match forwarding {
        Forwarding::Unknown => None,
        Forwarding::Off => Some(false),
        Forwarding::On => Some(true),
    }
}

fn relay(relay: &RelayStatus) -> Value {
    let remote = relay.remote.map(|remote| {
        json!({
            "captured": remote.captured,
            "kernel_dropped": remote.kernel_dropped,
            "unrouted": remote.unrouted,
            "forwards_v4": forwarding(remote.forwards_v4),
            "forwards_v6": forwarding(remote.forwards_v6),
        })
    });
    json!({
        "address": relay.address,
        "wanted": relay.wanted,
        "connected": relay.connected,
        "reconnects": relay.reconnects,
        "round_trip_us": relay.round_trip.map(micros),
        "bytes_in": relay.bytes_in,
        "bytes_out": relay.bytes_out,
        "remote": remote,
        "last_error": relay.last_error,
    })
}

/// What became of a plugin, as a JSON object.
pub fn module(module: &ModuleStatus) -> Value {
    let faults: Map<String, Value> = module
        .faults
        .iter()
        .map(|fault| (fault.kind.clone(), json!({ "count": fault.count, "last": fault.last })))
        .collect();
    let by_name = |list: &[(String, u64)]| -> Map<String, Value> {
        list.iter().map(|(name, count)| (name.clone(), json!(count))).collect()
    };
    json!({
        "name": module.name,
        "kind": module.kind,
        "ports": module.ports,
        "sessions": module.sessions,
        "instances": module.instances,
        "faults": faults,
        "violations": module.violations,
        "disabled": module.disabled,
        "gave_up": by_name(&module.gave_up),
        "counts": by_name(&module.counts),
    })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "cause": Cause::name(finding.cause),
        "leg": finding.leg.name(),
        "text": finding.text,
        "command": finding.command,
    })
}
