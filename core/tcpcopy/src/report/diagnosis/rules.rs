//! The rules, one part of the way after another.

use super::{Cause, Finding, Leg};
use crate::report::errno::{errno_hint, errno_name};
use crate::report::snapshot::{Forwarding, RemoteStatus, Snapshot};
use crate::report::text::{bytes, one_line};
use crate::settings::{CaptureMethod, Settings};
use crate::transfer::Transfer;
use std::time::Duration;
use tcpcopy_engine::counters::EndReason;
use tcpcopy_engine::mapping::Family;

/// Silence shorter than this is no sign of anything.
const SETTLING: Duration = Duration::from_secs(5);

/// A run under examination, and what was found so far.
pub(super) struct Rules<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) settings: &'a Settings,
    pub(super) findings: Vec<Finding>,
}

impl Rules<'_> {
    fn find(&mut self, cause: Cause, leg: Leg, text: impl Into<String>, command: impl Into<String>) {
        self.findings.push(Finding { cause, leg, text: text.into(), command: command.into() });
    }

    pub(super) fn capture(&mut self) {
        if self.settings.offline.is_some() {
            return self.files();
        }
        let (c, capture) = (&self.snapshot.counters, &self.settings.capture);
        let interface = match capture.interfaces.as_slice() {
            [] => "any",
            [first, ..] => first,
        };
        if self.snapshot.elapsed >= SETTLING && c.packets_captured == 0 {
            let what = format!(
                "no packet was captured in {} s: no client is active, or it is the wrong interface (-i), filter (-F) or \
                 port (-x); with LVS, containers or mirrored traffic the packets may pass another interface or network \
                 namespace",
                self.snapshot.elapsed.as_secs()
            );
            let command = format!("tcpdump -ni {interface} -c 10 '{}'", capture.filter.expression());
            self.find(Cause::CaptureBlind, Leg::Capture, what, command);
        } else if self.snapshot.elapsed >= SETTLING && c.connections_seen == 0 && c.packets_ignored > 0 {
            let what = format!(
                "{} packets were captured and none was for a server in -x: the online address in -x is not the one that \
                 clients use (a virtual or translated address), or -F lets the wrong packets pass",
                c.packets_captured
            );
            let port = self.first().online_port;
            self.find(
                Cause::CaptureOther,
                Leg::Capture,
                what,
                format!("tcpdump -ni {interface} -c 10 'tcp dst port {port}'"),
            );
        }
        // One of three packets of a client carries data as a rule; where each is seen twice, one of four or more repeats it.
        if c.segments_repeated >= 100 && c.segments_repeated * 4 >= c.packets_captured {
            let what = format!(
                "{} of {} captured packets repeat data: the traffic is likely captured twice, on interfaces that overlap (a \
                 bridge and its port, a bond and its member); what is repeated is sent once, but costs time",
                c.segments_repeated, c.packets_captured
            );
            self.find(Cause::CapturedTwice, Leg::Capture, what, "ip -br link; tcpcopy … -i <one of them>");
        }
        if self.snapshot.kernel_dropped > 0 {
            let limit = match capture.method {
                CaptureMethod::Ring => "the capture ring",
                CaptureMethod::Pcap => "libpcap's buffer",
            };
            let megabytes = capture.buffer_bytes >> 20;
            let what = format!(
                "the kernel dropped {} of {} packets because {limit} ({megabytes} MB) was full; sessions with missing bytes \
                 can't be replayed",
                self.snapshot.kernel_dropped, self.snapshot.kernel_received
            );
            let command =
                format!("tcpcopy … -B {} (or --workers {})", megabytes * 4, self.snapshot.workers + 1);
            self.find(Cause::KernelDrops, Leg::Capture, what, command);
        }
    }

    /// What is wrong with capture files.
    fn files(&mut self) {
        let c = &self.snapshot.counters;
        if c.connections_seen == 0 && c.packets_ignored >= 100 {
            let what = format!(
                "{} packets of the capture were played and none was for a server in -x: the servers have other ports or \
                 addresses there",
                c.packets_captured
            );
            self.find(Cause::CaptureOther, Leg::Capture, what, "tcpcopy inspect FILE");
        }
    }

    pub(super) fn injection(&mut self) {
        let Some((&errno, &count)) = self.snapshot.send_errors.iter().max_by_key(|(_, count)| **count) else {
            return;
        };
        let c = &self.snapshot.counters;
        let target = self.first().target.addr;
        let ip = if target.is_ipv6() { "ip -6" } else { "ip" };
        let command = match errno {
            libc::EPERM => "nft list ruleset; iptables -vnL OUTPUT; sysctl net.netfilter.nf_conntrack_count \
                 net.netfilter.nf_conntrack_max"
                .to_owned(),
            libc::EMSGSIZE => {
                format!(
                    "ping -M do -c 3 -s {} {target}",
                    self.settings.injection.mtu - if target.is_ipv6() { 48 } else { 28 }
                )
            }
            libc::ENOBUFS | libc::EAGAIN | libc::ENOMEM => "ip -s link; tc -s qdisc".to_owned(),
            _ => format!("{ip} route get {target}"),
        };
        // A full queue now and then mends itself; only a share that matters is worth a word.
        let is_passing =
            matches!(errno, libc::ENOBUFS | libc::EAGAIN | libc::ENOMEM) && count * 100 < c.packets_sent;
        if is_passing {
            return;
        }
        let scope = if c.packets_sent == 0 {
            "nothing leaves this host: all"
        } else {
            "some packets did not leave this host:"
        };
        let what = format!("{scope} {count} sends failed with {}: {}", errno_name(errno), errno_hint(errno));
        self.find(Cause::SendErrors, Leg::Injection, what, command);
    }

    pub(super) fn relay(&mut self) {
        let down: Vec<_> = self.snapshot.relay.iter().filter(|relay| relay.connected == 0).collect();
        let Some(first) = down.first() else { return };
        let (host, port) = first.address.rsplit_once(':').unwrap_or((&first.address, "36524"));
        let command = format!(
            "nc -vz {} {port}; on the assistant: ss -ltnp 'sport = :{port}'",
            host.trim_matches(['[', ']'])
        );
        let reason = first.last_error.as_deref().unwrap_or("not tried yet");
        if down.len() == self.snapshot.relay.len() {
            let what = format!(
                "no intercept is connected, so no reply can come back ({}: {reason}); is it running, does it listen on \
                 that address, is the token the same, is the address not one of -c",
                first.address
            );
            self.find(Cause::RelayDown, Leg::Relay, what, command);
        } else {
            let what = format!(
                "intercept at {} is not connected ({reason}); replies that reach it are lost",
                first.address
            );
            self.find(Cause::RelayPartly, Leg::Relay, what, command);
        }
    }

    /// SYNs leave and nothing comes back: which leg is silent.
    pub(super) fn replies(&mut self) {
        let c = &self.snapshot.counters;
        let remotes = || self.snapshot.relay.iter().filter_map(|relay| relay.remote);
        let dropped: u64 = remotes().map(|remote| remote.kernel_dropped).sum();
        if dropped > 0 {
            let what = format!(
                "intercept lost {dropped} replies because its capture buffer was full; the target's retransmits cost time"
            );
            self.find(
                Cause::RelayKernelDrops,
                Leg::Relay,
                what,
                "on the assistant: top -H; give intercept a processor of its own",
            );
        }
        let has_waited =
            self.snapshot.elapsed >= SETTLING || c.sessions_ended.get(EndReason::NoHandshake) > 0;
        if c.packets_sent == 0 || c.replies > 0 || !has_waited || self.snapshot.relay_connected() == 0 {
            return;
        }
        let captured: u64 = remotes().map(|remote| remote.captured).sum();
        let unrouted: u64 = remotes().map(|remote| remote.unrouted).sum();
        let target = self.first().target;
        let client = self.client();
        if captured > 0 && unrouted >= captured {
            let what = format!(
                "intercept captures packets ({captured}) but none belongs to a replayed connection: addresses are translated \
                 between the hosts, or its filter is too broad and sees only other traffic"
            );
            let command = format!(
                "on the assistant: tcpdump -ni any -c 10 'tcp and src host {} and src port {}', and compare with: \
                 tcpdump -ni any -c 10 'tcp and dst host {} and dst port {}' here",
                target.addr, target.port, target.addr, target.port
            );
            return self.find(Cause::RepliesUnrouted, Leg::Reply, what, command);
        }
        if captured > 0 {
            let what = format!(
                "intercept captured {captured} packets and returned some, yet none arrived in a session here"
            );
            return self.find(Cause::RepliesLost, Leg::Relay, what, "tcpcopy … --log-level debug");
        }
        let ip = if target.addr.is_ipv6() { "ip -6" } else { "ip" };
        let silence = format!("{} packets were sent to the target and no reply came back", c.packets_sent);
        self.find(
            Cause::NoRouteOnTarget,
            Leg::Reply,
            format!("{silence}: the target likely has no route for the clients by way of the assistant"),
            format!("on the target: {ip} route get {client} (must show \"via\" the assistant)"),
        );
        if target.addr.is_ipv4() {
            self.find(
                Cause::ReversePathFilter,
                Leg::Target,
                format!("{silence}: the target may drop the SYNs because of its reverse path filter (it must be 0 or 2)"),
                "on the target: sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.default.rp_filter; nstat -az TcpExtIPReversePathFilter",
            );
        }
        self.find(
            Cause::RepliesNotCaptured,
            Leg::Reply,
            format!(
                "{silence}: the SYNs may be lost on the way (anti-spoofing, a cloud's source check: then only -c with an \
                 address of this host works), or intercept captures on the wrong interface or with the wrong filter"
            ),
            format!(
                "on the target: tcpdump -ni any -c 10 'tcp port {}'; on the assistant: tcpdump -ni any -c 10 'tcp and src \
                 host {} and src port {}'",
                target.port, target.addr, target.port
            ),
        );
    }

    /// Connections that end as soon as they begin.
    pub(super) fn resets(&mut self) {
        let c = &self.snapshot.counters;
        let (has_v4, has_v6) = self.families();
        let forwards_v4 = self.forwards(has_v4, |remote| remote.forwards_v4);
        let forwards_v6 = self.forwards(has_v6, |remote| remote.forwards_v6);
        if forwards_v4 || forwards_v6 {
            let variable = if forwards_v4 { "net.ipv4.ip_forward" } else { "net.ipv6.conf.all.forwarding" };
            let what = format!(
                "the assistant forwards packets ({variable} = 1): replies go on to the real clients, which reset the \
                 connections of the target"
            );
            self.find(
                Cause::IpForward,
                Leg::Reply,
                what,
                format!("on the assistant: sysctl -w {variable}=0"),
            );
        } else if c.early_resets > 0 && c.early_resets * 4 >= c.sessions_established {
            let what = format!(
                "{} of {} connections were reset right after the handshake: the target's replies likely reach the real \
                 clients too, which reset them (no route on the target by way of the assistant, or the assistant forwards)",
                c.early_resets, c.sessions_established
            );
            let (ip, variable) = match Family::of(self.first().target.addr) {
                Family::V4 => ("ip", "net.ipv4.ip_forward"),
                Family::V6 => ("ip -6", "net.ipv6.conf.all.forwarding"),
            };
            let command = format!(
                "on the target: {ip} route get {}; on the assistant: sysctl {variable}",
                self.client()
            );
            self.find(Cause::ClientsReset, Leg::Reply, what, command);
        }
        let refused = c.sessions_ended.get(EndReason::Refused);
        if refused > 0 && refused * 2 >= c.sessions_ended.total() {
            let target = self.first().target;
            let what = format!(
                "the target refused {refused} of {} connections: no server listens there",
                c.sessions_opened
            );
            self.find(
                Cause::TargetRefuses,
                Leg::Target,
                what,
                format!("on the target: ss -ltn 'sport = :{}'", target.port),
            );
        }
    }

    /// Requests that did not make it though connections work.
    pub(super) fn losses(&mut self) {
        let c = &self.snapshot.counters;
        let is_told_elsewhere = |reason| {
            matches!(
                reason,
                EndReason::Completed
                    | EndReason::ClientReset
                    | EndReason::Refused
                    | EndReason::NoHandshake
                    | EndReason::MemoryLimit
                    | EndReason::Filtered
                    | EndReason::Shutdown
            )
        };
        let worst = c
            .requests_given_up
            .iter()
            .filter(|(reason, _)| !is_told_elsewhere(*reason))
            .max_by_key(|(_, n)| *n);
        if let Some((reason, count)) = worst {
            let (leg, command) = self.remedy(reason);
            let what = format!(
                "{count} of {} requests were given up as {}: {}",
                c.requests_captured,
                reason.name(),
                reason.explanation()
            );
            self.find(Cause::GivenUp, leg, what, command);
        }
        let shed = c.sessions_ended.get(EndReason::MemoryLimit);
        let limit = self.settings.limits.memory_bytes;
        if shed > 0 || c.memory_bytes > limit / 10 * 9 {
            let what = format!(
                "sessions hold {} of the {} that -m allows, and {shed} were shed: the target is slower than the online \
                 server, or its replies do not come back",
                bytes(c.memory_bytes),
                bytes(limit)
            );
            let command = format!("tcpcopy … -m {} (or less load: -r 50)", (limit >> 20) * 2);
            self.find(Cause::Memory, Leg::Replayer, what, command);
        }
        if c.connections_tls > 0 {
            let what = format!(
                "{} of {} connections are TLS: each connection has its own keys, so what was captured means nothing to the \
                 target; capture behind the TLS terminator instead",
                c.connections_tls, c.connections_seen
            );
            let command = format!("tcpcopy -x <port behind the terminator>-{} …", self.first().target);
            self.find(Cause::Tls, Leg::Capture, what, command);
        }
    }

    fn remedy(&self, reason: EndReason) -> (Leg, String) {
        let target = self.first().target;
        match reason {
            EndReason::CaptureGap => {
                (Leg::Capture, format!("tcpcopy … -B {}", (self.settings.capture.buffer_bytes >> 20) * 4))
            }
            EndReason::CaptureTruncated => (Leg::Capture, "tcpcopy … -S 0".to_owned()),
            EndReason::MidStream => {
                (Leg::Capture, "tcpcopy … without -O, or started before the clients connect".to_owned())
            }
            EndReason::TargetStalled => (
                Leg::Injection,
                format!("on the target: ss -tni 'sport = :{}'; nstat -az TcpExtTCPRcvQDrop", target.port),
            ),
            EndReason::TargetReset | EndReason::TargetClosed | EndReason::ResponseTimeout => (
                Leg::Target,
                format!("on the target: ss -s; ss -tni 'sport = :{}', and the server's log", target.port),
            ),
            EndReason::SessionLimit => (
                Leg::Replayer,
                format!("tcpcopy … --session-limit {}", (self.settings.limits.session_bytes >> 20) * 4),
            ),
            EndReason::NoPort => (Leg::Replayer, "tcpcopy … -c <more addresses>".to_owned()),
            EndReason::RouteRefused => {
                (Leg::Relay, format!("tcpcopy … -f {}", self.settings.clients.port_shift + 1))
            }
            EndReason::PluginFault | EndReason::PluginDisabled => {
                let module = self.settings.modules.first().map_or("<module>", |module| module.name.as_str());
                (Leg::Replayer, plugin_check(module))
            }
            _ => (Leg::Replayer, "tcpcopy … --log-level debug".to_owned()),
        }
    }

    /// Plugins that failed.
    pub(super) fn plugins(&mut self) {
        for module in &self.snapshot.modules {
            let faults: u64 = module.faults.iter().map(|fault| fault.count).sum();
            if faults + module.violations == 0 {
                continue;
            }
            let mut what = format!(
                "module {} failed {faults} times, and broke the rules of the interface {} times",
                module.name, module.violations
            );
            if let Some(last) = module.faults.iter().max_by_key(|fault| fault.count) {
                what.push_str(&format!("; most often ({}): {}", last.kind, one_line(&last.last)));
            }
            if let Some(reason) = &module.disabled {
                what.push_str(&format!("; it is used no more: {}", one_line(reason)));
            }
            self.find(Cause::Plugin, Leg::Replayer, what, plugin_check(&module.name));
        }
    }

    fn first(&self) -> Transfer {
        // Settings hold at least one transfer.
        self.settings.transfers[0]
    }

    /// An address that the target sees a client at, if the settings tell one.
    fn client(&self) -> String {
        let family = Family::of(self.first().target.addr);
        let first = self.settings.clients.pool.as_ref().and_then(|pool| pool.get(family, 0));
        first.map_or("<address of a client>".to_owned(), |addr| addr.to_string())
    }

    fn families(&self) -> (bool, bool) {
        let transfers = &self.settings.transfers;
        (transfers.iter().any(|t| t.target.addr.is_ipv4()), transfers.iter().any(|t| t.target.addr.is_ipv6()))
    }

    fn forwards(&self, is_used: bool, pick: impl Fn(RemoteStatus) -> Forwarding) -> bool {
        is_used
            && self
                .snapshot
                .relay
                .iter()
                .filter_map(|relay| relay.remote)
                .any(|remote| pick(remote) == Forwarding::On)
    }
}

fn plugin_check(module: &str) -> String {
    format!("tcpcopy plugin check {module} --pcap <capture file of such connections>")
}
