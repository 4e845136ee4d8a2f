//! Reports for people: a line at each interval, and the closing funnel.

use super::diagnosis::Finding;
use super::errno::{errno_hint, errno_name};
use super::histogram::Histogram;
use super::snapshot::{ModuleStatus, Snapshot};
use crate::offline::OfflineStatus;
use std::fmt::Write;
use std::time::Duration;
use tcpcopy_engine::counters::{ByReason, EndReason};

/// Most names that are listed of what a plugin counts.
const LONGEST_LIST: usize = 20;
/// Most characters of a plugin's message.
const LONGEST_MESSAGE: usize = 200;

/// One line, `key=value` after the first word: rates and delays since `previous`, states as they are.
pub fn interval_line(now: &Snapshot, previous: &Snapshot) -> String {
    let seconds = now.elapsed.saturating_sub(previous.elapsed).as_secs_f64();
    let rate = |new: u64, old: u64| per_second(new.saturating_sub(old), seconds);
    let (c, p) = (&now.counters, &previous.counters);
    let delay = now.delay.since(&previous.delay);
    let busy = now.cpu().saturating_sub(previous.cpu()).as_secs_f64();
    let mut line = format!(
        "stats t={:.1}s captured={}/s kernel_drops={} connections={}/s live={} requests={}/s sent={}/s answered={}/s \
         waiting={} given_up={} retransmits={} send_failures={}",
        now.elapsed.as_secs_f64(),
        rate(c.packets_captured, p.packets_captured),
        now.kernel_dropped.saturating_sub(previous.kernel_dropped),
        rate(c.connections_seen, p.connections_seen),
        c.sessions_live,
        rate(c.requests_captured, p.requests_captured),
        rate(c.requests_sent, p.requests_sent),
        rate(c.requests_answered, p.requests_answered),
        c.requests_waiting,
        c.requests_given_up.total().saturating_sub(p.requests_given_up.total()),
        c.retransmits.saturating_sub(p.retransmits),
        c.send_failures.saturating_sub(p.send_failures),
    );
    if delay.count() > 0 {
        append(
            &mut line,
            format_args!(
                " delay_p50={} delay_p99={}",
                short(delay.quantile(0.5)),
                short(delay.quantile(0.99))
            ),
        );
    }
    if let Some(offline) = &now.offline {
        append_position(&mut line, offline, previous.offline.as_ref());
    }
    append(&mut line, format_args!(" relay={}/{}", now.relay_connected(), now.relay_wanted()));
    let cpu = if seconds > 0.0 { busy / seconds * 100.0 } else { 0.0 };
    append(&mut line, format_args!(" cpu={cpu:.0}% rss={}", bytes(now.rss_bytes)));
    line
}

/// How far the replay of capture files has come.
fn append_position(line: &mut String, now: &OfflineStatus, previous: Option<&OfflineStatus>) {
    match now.share_read() {
        Some(share) => append(line, format_args!(" read={:.1}%", share * 100.0)),
        None => append(line, format_args!(" read={}", bytes(now.bytes_read))),
    }
    let lag = previous.map_or_else(|| now.lag.clone(), |previous| now.lag.since(&previous.lag));
    if lag.count() > 0 {
        let (p50, p99) = (lag.quantile(0.5), lag.quantile(0.99));
        append(line, format_args!(" lag_p50={} lag_p99={}", short(p50), short(p99)));
    }
}

/// The three lines that tell of a finding.
pub fn finding_lines(finding: &Finding) -> String {
    format!(
        "problem: {} [{}]\n   leg: {}\n   run: {}\n",
        finding.text,
        finding.cause.name(),
        finding.leg,
        finding.command
    )
}

/// The closing report: what was captured, and what became of it, step by step.
pub fn closing_report(snapshot: &Snapshot, findings: &[Finding]) -> String {
    let mut report = Report { text: String::new() };
    report.line(format_args!(
        "tcpcopy: report after {:.1} s, {}",
        snapshot.elapsed.as_secs_f64(),
        plural(snapshot.workers as u64, "worker")
    ));
    if let Some(offline) = &snapshot.offline {
        offline_part(&mut report, offline);
    }
    capture_part(&mut report, snapshot);
    session_part(&mut report, snapshot);
    request_part(&mut report, snapshot);
    sending_part(&mut report, snapshot);
    delay_part(&mut report, snapshot);
    for module in &snapshot.modules {
        module_part(&mut report, module);
    }
    relay_part(&mut report, snapshot);
    process_part(&mut report, snapshot);
    report.line(format_args!(""));
    match snapshot.counters.check() {
        Ok(()) => report.line(format_args!(
            "The counters add up: every captured request was acknowledged, is waiting, or was given up with a reason."
        )),
        Err(imbalance) => report.line(format_args!("The counters do NOT add up, which is a defect of tcpcopy: {imbalance}.")),
    }
    if findings.is_empty() {
        report.line(format_args!("No problem was found."));
    }
    for finding in findings {
        report.text.push_str(&finding_lines(finding));
    }
    report.text
}

fn offline_part(report: &mut Report, offline: &OfflineStatus) {
    report.head("capture files");
    let read = match (offline.bytes_total, offline.share_read()) {
        (Some(total), Some(share)) => {
            format!("{}, {:.1} % of {}", bytes(offline.bytes_read), share * 100.0, bytes(total))
        }
        _ => bytes(offline.bytes_read),
    };
    report.row("frames played", offline.frames, read);
    report.row_if("frames left out", offline.frames_left_out, "by -F or --at");
    if offline.passes > 1 {
        report.row("times played to the end", offline.passes_done.into(), format!("of {}", offline.passes));
    }
    let span = offline.captured_span.as_secs_f64();
    report.text_row(
        "captured time",
        &format!("{span:.1} s"),
        "from the first packet to the last that was played",
    );
    if offline.lag.count() > 0 {
        report.delays("requests late by", &offline.lag);
    }
    if offline.held_back >= Duration::from_millis(1) {
        report.text_row("reading held back", &short(offline.held_back), "while the target had enough to do");
    }
    if offline.flaw_count > 0 {
        report.row("damaged places", offline.flaw_count, "");
        for flaw in offline.flaws.iter().take(LONGEST_LIST) {
            report.line(format_args!("    {flaw}"));
        }
    }
}

fn capture_part(report: &mut Report, snapshot: &Snapshot) {
    let c = &snapshot.counters;
    report.head("captured");
    report.row("packets", c.packets_captured, bytes(c.bytes_captured));
    if snapshot.offline.is_none() {
        report.row(
            "dropped by the kernel",
            snapshot.kernel_dropped,
            share(snapshot.kernel_dropped, snapshot.kernel_received),
        );
    }
    report.row_if("not for a server in -x", c.packets_ignored, "");
    report.row_if("malformed", c.packets_malformed, "");
    report.row_if("taken out of tunnels", c.packets_decapsulated, "");
    report.row_if("fragments", c.fragments, format!("{} dropped", c.fragments_dropped));
    report.row_if("segments repeated", c.segments_repeated, "nothing new in them");
    report.row_if("segments out of order", c.segments_reordered, "put in order");
}

fn session_part(report: &mut Report, snapshot: &Snapshot) {
    let c = &snapshot.counters;
    report.head("connections");
    report.row("seen", c.connections_seen, "");
    report.row_if(
        "left out by -r or -g",
        c.connections_sampled_out,
        share(c.connections_sampled_out, c.connections_seen),
    );
    report.row_if(
        "from the loopback",
        c.connections_loopback,
        "left out: give their clients an address with -H",
    );
    report.row_if("TLS", c.connections_tls, "their bytes mean nothing to the target");
    report.row("sessions opened", c.sessions_opened, "with -n, one for each copy");
    report.row_if("joined in the middle", c.sessions_joined, "");
    report.row("established", c.sessions_established, share(c.sessions_established, c.sessions_opened));
    report.row_if("reconnects", c.reconnects, "the target had closed with requests left");
    report.row("still alive", c.sessions_live, "");
    report.row("ended", c.sessions_ended.total(), "");
    report.reasons(&c.sessions_ended);
}

fn request_part(report: &mut Report, snapshot: &Snapshot) {
    let c = &snapshot.counters;
    report.head("requests");
    report.row("captured", c.requests_captured, bytes(c.request_bytes_captured));
    report.row("sent", c.requests_sent, share(c.requests_sent, c.requests_captured));
    report.row("acknowledged", c.requests_acknowledged, share(c.requests_acknowledged, c.requests_captured));
    report.row("answered", c.requests_answered, share(c.requests_answered, c.requests_captured));
    report.row("waiting", c.requests_waiting, "");
    report.row(
        "given up",
        c.requests_given_up.total(),
        share(c.requests_given_up.total(), c.requests_captured),
    );
    report.reasons(&c.requests_given_up);
}

fn sending_part(report: &mut Report, snapshot: &Snapshot) {
    let c = &snapshot.counters;
    report.head("sent to targets");
    report.row(
        "packets",
        c.packets_sent,
        format!("{}, {} of them bare acknowledgements", bytes(c.bytes_sent), number(c.acks_sent)),
    );
    report.row("request bytes taken", c.request_bytes_acknowledged, bytes(c.request_bytes_acknowledged));
    report.row("retransmits", c.retransmits, format!("{} by time-out", number(c.retransmit_timeouts)));
    report.row_if("window probes", c.window_probes, "");
    report.row("failed sends", c.send_failures, "");
    for (errno, count) in &snapshot.send_errors {
        report.sub_row(&errno_name(*errno), *count, errno_hint(*errno));
    }
    report.head("replies");
    report.row("packets", c.replies, format!("{} of response", bytes(c.response_bytes)));
    report.row("SYN-ACKs", c.syn_acks, "");
    report.row_if("resets", c.target_resets, format!("{} right after the handshake", number(c.early_resets)));
    report.row_if("of no session", c.replies_unknown, "");
    report.row_if("malformed", c.replies_malformed, "");
}

fn delay_part(report: &mut Report, snapshot: &Snapshot) {
    report.head("delays");
    if snapshot.offline.is_none() {
        report.delays("capture to injection", &snapshot.delay);
    }
    report.delays("reply through the relay", &snapshot.relay_delay);
}

fn relay_part(report: &mut Report, snapshot: &Snapshot) {
    report.head("relay");
    for relay in &snapshot.relay {
        let mut notes = format!("{} in, {} out", bytes(relay.bytes_in), bytes(relay.bytes_out));
        if let Some(round_trip) = relay.round_trip {
            append(&mut notes, format_args!(", round trip {}", short(round_trip)));
        }
        if relay.reconnects > 0 {
            append(&mut notes, format_args!(", {}", plural(relay.reconnects, "reconnect")));
        }
        report.line(format_args!(
            "  {:<26} {:>15}  {notes}",
            relay.address,
            format!("{} of {} up", relay.connected, relay.wanted)
        ));
        if let Some(remote) = relay.remote {
            report.sub_row("captured there", remote.captured, "");
            report.sub_row("dropped by its kernel", remote.kernel_dropped, "");
            report.sub_row("of no route", remote.unrouted, "");
        }
        if let Some(error) = &relay.last_error {
            report.line(format_args!("    last error: {error}"));
        }
    }
}

fn module_part(report: &mut Report, module: &ModuleStatus) {
    let ports: Vec<String> = module.ports.iter().map(u16::to_string).collect();
    report.head(&format!("module {} ({}, port {})", module.name, module.kind, ports.join(", ")));
    report.row("sessions", module.sessions, plural(module.instances, "instance"));
    let faults = module.faults.iter().map(|fault| fault.count).sum();
    report.row("faults", faults, "");
    for fault in &module.faults {
        report.sub_row(&fault.kind, fault.count, &format!("last: {}", one_line(&fault.last)));
    }
    report.row_if("violations", module.violations, "sessions that broke the rules of the interface");
    if let Some(reason) = &module.disabled {
        report.line(format_args!("  used no more: {}", one_line(reason)));
    }
    report.list("gave up", &module.gave_up);
    report.list("counted", &module.counts);
}

/// A message of a plugin, which is data of strangers, as something that fits into a line of a report.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_MESSAGE).collect()
}

fn process_part(report: &mut Report, snapshot: &Snapshot) {
    let c = &snapshot.counters;
    report.head("process");
    let cpu = snapshot.cpu().as_secs_f64();
    let user = snapshot.cpu_user.as_secs_f64();
    let each = if c.requests_sent > 0 { cpu * 1e6 / c.requests_sent as f64 } else { 0.0 };
    report.text_row(
        "processor time",
        &format!("{cpu:.2} s"),
        &format!("{user:.2} s in user space, {each:.1} us a request"),
    );
    report.text_row(
        "memory",
        &bytes(snapshot.rss_bytes),
        &format!("at most {}", bytes(snapshot.peak_rss_bytes)),
    );
    report.text_row(
        "held for sessions",
        &bytes(c.memory_bytes),
        &format!("at most {}", bytes(c.memory_bytes_peak)),
    );
}

/// The text under construction: rows of a name, a number and a note.
struct Report {
    text: String,
}

impl Report {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        append(&mut self.text, line);
        let end = self.text.trim_end_matches(' ').len();
        self.text.truncate(end);
        self.text.push('\n');
    }

    fn head(&mut self, name: &str) {
        self.line(format_args!("{name}"));
    }

    fn text_row(&mut self, name: &str, value: &str, note: &str) {
        self.line(format_args!("  {name:<26} {value:>15}  {note}"));
    }

    fn row(&mut self, name: &str, value: u64, note: impl AsRef<str>) {
        self.text_row(name, &number(value), note.as_ref());
    }

    fn row_if(&mut self, name: &str, value: u64, note: impl AsRef<str>) {
        if value > 0 {
            self.row(name, value, note);
        }
    }

    fn sub_row(&mut self, name: &str, value: u64, note: &str) {
        self.line(format_args!("    {name:<24} {:>15}  {note}", number(value)));
    }

    fn reasons(&mut self, reasons: &ByReason) {
        for (reason, count) in reasons.iter() {
            self.sub_row(EndReason::name(reason), count, EndReason::explanation(reason));
        }
    }

    /// The largest of the numbers, by name, if there are any.
    fn list(&mut self, name: &str, list: &[(String, u64)]) {
        if list.is_empty() {
            return;
        }
        let mut sorted: Vec<&(String, u64)> = list.iter().collect();
        sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        self.text_row(name, "", "");
        for (name, count) in sorted.iter().take(LONGEST_LIST) {
            self.sub_row(&one_line(name), *count, "");
        }
        if let Some(left) = sorted.len().checked_sub(LONGEST_LIST).filter(|left| *left > 0) {
            self.line(format_args!("    and {left} more, in the file of --stats-json"));
        }
    }

    fn delays(&mut self, name: &str, delays: &Histogram) {
        if delays.count() == 0 {
            return self.text_row(name, "none measured", "");
        }
        let rest = format!(
            "p99 {}, max {}, of {}",
            short(delays.quantile(0.99)),
            short(delays.max()),
            number(delays.count())
        );
        self.text_row(name, &format!("p50 {}", short(delays.quantile(0.5))), &rest);
    }
}

/// Formatting into a string can't fail.
fn append(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

fn per_second(count: u64, seconds: f64) -> String {
    match if seconds > 0.0 { count as f64 / seconds } else { 0.0 } {
        rate if rate > 0.0 && rate < 10.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { String::new() } else { format!("{:.2} %", part as f64 * 100.0 / whole as f64) }
}

fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A number with a comma between groups of three digits.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes in the largest unit that leaves at least one.
pub(crate) fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut scaled = value as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 || scaled >= 100.0 || scaled.fract() == 0.0 {
        format!("{scaled:.0}{}", UNITS[unit])
    } else {
        format!("{scaled:.1}{}", UNITS[unit])
    }
}

/// A delay in the unit that suits it.
fn short(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        m if m < 10.0 => format!("{m:.1}us"),
        m if m < 1e4 => format!("{m:.0}us"),
        m if m < 1e7 => format!("{:.0}ms", m / 1e3),
        m => format!("{:.1}s", m / 1e6),
    }
}
