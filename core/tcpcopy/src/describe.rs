//! Settings as a person reads them: what `--dry-run` prints.
//!
//! Everything here looks and tells; nothing is opened for capture and nothing is sent.

use crate::host::Host;
use crate::report::size;
use crate::settings::{
    CaptureFilter, CaptureMethod, Carrying, Growth, InjectionMethod, Joining, Offline, Pacing, RelayAtStart,
    Settings, Tempo, Waiting,
};
use crate::transfer::Transfer;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tcpcopy_capture_file::AtEnd;
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_engine::mapping::{ClientRange, Family, Mapper};
use tcpcopy_engine::plugin::Inputs;
use tcpcopy_plugin_host::OnError;

impl Settings {
    /// What would be captured and sent, the likely mistakes, and the commands for target and assistant.
    pub fn describe(&self, host: &dyn Host) -> String {
        let mut text = String::new();
        self.describe_capture(&mut text);
        self.describe_sending(&mut text, host);
        self.describe_modules(&mut text);
        self.describe_relay(&mut text);
        self.describe_load(&mut text);
        let warnings = self.all_warnings(host);
        if !warnings.is_empty() {
            heading(&mut text, "warnings");
            for warning in warnings {
                line(&mut text, &warning);
            }
        }
        self.describe_commands(&mut text);
        text
    }

    /// [`Settings::warnings`] and those that only this host can tell.
    pub fn all_warnings(&self, host: &dyn Host) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        if !host.may_use_raw_sockets() {
            warnings.push(
                "this process lacks CAP_NET_RAW: run it as root, or: setcap cap_net_raw+ep /path/to/tcpcopy"
                    .to_owned(),
            );
        }
        for name in self.capture.interfaces.iter().filter(|name| !host.has_interface(name)) {
            warnings.push(format!("-i {name}: this host has no such interface"));
        }
        if let Some(pool) = &self.clients.pool {
            let sources = self.relay.servers.iter().filter_map(|server| host.route_to(server.address.ip()));
            for source in sources.map(|route| route.source).filter(|source| pool.contains(*source)) {
                warnings.push(format!(
                    "-c holds {source}, the address that this host reaches intercept from: routed to the assistant, the \
                     relay itself may not be able to connect"
                ));
            }
        }
        for transfer in &self.transfers {
            self.warn_of_transfer(transfer, host, &mut warnings);
        }
        warnings
    }

    fn warn_of_transfer(&self, transfer: &Transfer, host: &dyn Host, warnings: &mut Vec<String>) {
        let target = transfer.target;
        let is_here = host.is_local(target.addr);
        if self.offline.is_none()
            && is_here
            && transfer.online_port == target.port
            && transfer.online_addr.is_none()
        {
            warnings.push(format!(
                "-x {transfer}: the target is this host and has the online port: give the online address, so that what is \
                 replayed is not captured again"
            ));
        } else if is_here && !target.addr.is_loopback() && self.clients.pool.is_none() {
            warnings.push(format!(
                "-x {transfer}: the target is this host: give clients addresses of their own (-c) and route only \
                 these to the assistant, else the online server's replies are routed there too"
            ));
        }
        let is_live = self.offline.is_none();
        if let Some(addr) = transfer.online_addr.filter(|addr| is_live && !host.is_local(*addr)) {
            warnings.push(format!(
                "-x {transfer}: {addr} is not an address of this host; right only if its packets pass here"
            ));
        }
        if host.route_to(target.addr).is_none() {
            warnings.push(format!(
                "-x {transfer}: this host has no route to the target; ip route get {}",
                target.addr
            ));
        }
        if transfer.online_addr.is_some_and(|addr| addr.is_loopback()) && !self.may_play_loopback(transfer) {
            warnings.push(format!(
                "-x {transfer}: clients that connect by loopback can't be replayed without -H (or -c)"
            ));
        }
    }

    /// Whether clients of this host that connect by loopback have an address that the target can answer to.
    fn may_play_loopback(&self, transfer: &Transfer) -> bool {
        let has_own = match transfer.target.addr {
            IpAddr::V4(_) => self.clients.local_v4.is_some(),
            IpAddr::V6(_) => self.clients.local_v6.is_some(),
        };
        has_own || self.clients.pool.is_some()
    }

    fn describe_capture(&self, text: &mut String) {
        if let Some(offline) = &self.offline {
            return self.describe_files(offline, text);
        }
        let capture = &self.capture;
        heading(text, "capture");
        item(
            text,
            "interfaces",
            &if capture.interfaces.is_empty() { "all".to_owned() } else { capture.interfaces.join(", ") },
        );
        let origin = match capture.filter {
            CaptureFilter::Generated(_) => "made from -x",
            CaptureFilter::Given(_) => "given by -F",
        };
        item(text, "filter", &format!("{} ({origin})", capture.filter.expression()));
        let method = match capture.method {
            CaptureMethod::Ring => "memory-mapped ring (AF_PACKET)",
            CaptureMethod::Pcap => "libpcap",
        };
        item(text, "through", &format!("{method}, {} for each worker", size(capture.buffer_bytes as u64)));
        item(
            text,
            "of each packet",
            &capture.snapshot.map_or("all bytes".to_owned(), |n| format!("the first {n} bytes")),
        );
    }

    fn describe_files(&self, offline: &Offline, text: &mut String) {
        heading(text, "capture files");
        for input in &offline.inputs {
            item(text, "file", &input.to_string());
        }
        if let CaptureFilter::Given(expression) = &self.capture.filter {
            item(text, "filter", &format!("{expression} (given by -F)"));
        }
        let tempo = match offline.tempo {
            Tempo::Captured { speed, idle_cap } => {
                let cap = idle_cap
                    .map(|cap| format!(", no pause above {} ms", cap.as_millis()))
                    .unwrap_or_default();
                if speed == 1.0 {
                    format!("as it was captured{cap}")
                } else {
                    format!("{speed} times as fast as it was captured{cap}")
                }
            }
            Tempo::Rate(amount) => format!("{amount} begin in a second"),
            Tempo::Unpaced => "as fast as the target answers".to_owned(),
        };
        item(text, "speed", &tempo);
        if offline.passes.get() > 1 {
            item(text, "times", &offline.passes.to_string());
        }
        if let Some(limit) = offline.limit {
            item(text, "at most", &limit.to_string());
        }
        let end = match offline.at_end {
            AtEnd::Stop => "when all sessions are done",
            AtEnd::Follow => "when it is stopped: the file is followed while it grows",
        };
        item(text, "ends", end);
    }

    fn describe_sending(&self, text: &mut String, host: &dyn Host) {
        heading(text, "send");
        for transfer in &self.transfers {
            let online = match transfer.online_addr {
                Some(addr) => Endpoint::new(addr, transfer.online_port).to_string(),
                None => format!("port {} of any address", transfer.online_port),
            };
            item(text, "transfer", &format!("{online} -> {}", transfer.target));
            item(text, "  route", &route(transfer, host));
            item(text, "  client", &self.client_example(transfer));
            if !self.may_play_loopback(transfer) {
                item(text, "  loopback", "clients that connect by loopback are left out: there is no -H");
            }
        }
        let method = match &self.injection.method {
            InjectionMethod::RawSocket => "raw IP socket".to_owned(),
            InjectionMethod::LinkLayer { device } => format!("frames through {device}"),
        };
        item(text, "through", &method);
        item(
            text,
            "sizes",
            &format!("packets of at most {} bytes, segments {}", self.injection.mtu, self.injection.mss),
        );
    }

    /// Which address and port the target sees of a client that is made up for the purpose.
    fn client_example(&self, transfer: &Transfer) -> String {
        let addr: IpAddr = match transfer.online_addr.unwrap_or(transfer.target.addr) {
            loopback if loopback.is_loopback() => loopback,
            IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, 7).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into(),
        };
        let client = Endpoint::new(addr, 40_000);
        let mapper = Mapper::new(self.mapping_options(0));
        let shown = self.load.copies.get().min(3);
        let seen: Vec<String> = (0..shown)
            .filter_map(|copy| mapper.allocate(client, transfer.target, copy, 0, &mut |_| false))
            .map(|key| key.client.to_string())
            .collect();
        if seen.is_empty() {
            return format!("{client} can't be played: it needs another address (-H or -c)");
        }
        let more = if shown < self.load.copies.get() { ", …" } else { "" };
        format!("for example {client} appears as {}{more}", seen.join(", "))
    }

    fn describe_modules(&self, text: &mut String) {
        if self.modules.is_empty() {
            return;
        }
        heading(text, "modules");
        for module in &self.modules {
            item(
                text,
                "module",
                &format!(
                    "{} {} ({}) from {}",
                    module.name,
                    module.version,
                    module.kind,
                    module.path.display()
                ),
            );
            let ports: Vec<String> = module.ports.iter().map(u16::to_string).collect();
            item(text, "  serves", &format!("connections to port {}", ports.join(", ")));
            let needs = needs_text(module.inputs);
            item(text, "  needs", if needs.is_empty() { "requests alone" } else { &needs });
            if module.carrying == Carrying::BetweenSessions {
                item(text, "  carries", "something from one session to another; each worker has its own");
            }
        }
        let limits = &self.plugins.limits;
        item(
            text,
            "limits",
            &format!(
                "{} ms a batch, {} and {} sessions an instance",
                limits.deadline.as_millis(),
                size(limits.memory_bytes as u64),
                limits.sessions_per_instance
            ),
        );
        let beyond = match limits.on_error {
            OnError::Drop => "sessions at fault are given up".to_owned(),
            OnError::Pass => {
                format!("beyond {} faults a minute, replayed as with no module", limits.faults_per_minute)
            }
            OnError::Disable => {
                format!("beyond {} faults a minute, its sessions are given up", limits.faults_per_minute)
            }
            OnError::Exit => format!("beyond {} faults a minute, tcpcopy ends", limits.faults_per_minute),
        };
        item(text, "on faults", &beyond);
    }

    fn describe_relay(&self, text: &mut String) {
        heading(text, "replies");
        for server in &self.relay.servers {
            let given = server.address.to_string();
            let looked_up = if server.name == given || given.starts_with(&server.name) {
                String::new()
            } else {
                format!(" ({})", server.name)
            };
            item(
                text,
                "intercept",
                &format!("{given}{looked_up}, {} connections for each worker", self.relay.connections),
            );
        }
        item(
            text,
            "token",
            if self.relay.token.is_some() {
                "yes"
            } else {
                "none: intercept must be on this host or run with --no-auth"
            },
        );
        if self.relay.at_start == RelayAtStart::Awaited {
            item(text, "at the start", "goes on while no intercept can be reached");
        }
    }

    fn describe_load(&self, text: &mut String) {
        let (load, limits) = (&self.load, &self.limits);
        heading(text, "load and limits");
        let growth = match load.growth {
            Growth::Immediate => "",
            Growth::Gradual => ", growing by one percent a second",
        };
        item(
            text,
            "connections",
            &format!("{} %{growth}, {} of each", load.percent, copies(load.copies.get())),
        );
        let joining = match load.joining {
            Joining::MidStream => "joined at their next request",
            Joining::FullOnly => "left out",
        };
        item(text, "already open", joining);
        let waiting = match load.waiting {
            Waiting::ForResponses => "wait for the response that the client had read before",
            Waiting::Never => "go out when they are captured",
        };
        item(text, "requests", waiting);
        let pacing = match load.pacing {
            Pacing::Measured => "that of each client's handshake".to_owned(),
            Pacing::Fixed(time) => format!("{} ms for all", time.as_millis()),
            Pacing::Unpaced => "none".to_owned(),
        };
        item(text, "round-trip time", &pacing);
        item(
            text,
            "memory",
            &format!(
                "{} for all sessions, {} for one",
                size(limits.memory_bytes),
                size(limits.session_bytes)
            ),
        );
        item(
            text,
            "timeouts",
            &format!(
                "session {} s, keep-alive {} s",
                limits.session_timeout.as_secs(),
                limits.keepalive_timeout.as_secs()
            ),
        );
        let forever = match self.offline.as_ref().map(|offline| offline.at_end) {
            Some(AtEnd::Stop) => "until the files end and all sessions are done, or it is stopped",
            Some(AtEnd::Follow) | None => "until stopped",
        };
        let duration =
            limits.duration.map_or(forever.to_owned(), |time| format!("for {} s", time.as_secs_f64()));
        item(
            text,
            "runs",
            &format!("{duration}, then up to {} s for what waits", limits.drain.as_secs_f64()),
        );
        item(text, "workers", &self.process.workers.to_string());
    }

    fn describe_commands(&self, text: &mut String) {
        // The first intercept stands for the assistant; a loopback address says nothing to the target.
        let assistant = |is_v6: bool| {
            let same_family = self
                .relay
                .servers
                .iter()
                .map(|server| server.address.ip())
                .find(|addr| addr.is_ipv6() == is_v6);
            same_family
                .filter(|addr| !addr.is_loopback())
                .map_or("<assistant>".to_owned(), |addr| addr.to_string())
        };
        let targets: BTreeSet<Endpoint> = self.transfers.iter().map(|transfer| transfer.target).collect();
        heading(text, "run on each target host that is not the assistant");
        for is_v6 in [false, true] {
            if !targets.iter().any(|target| target.addr.is_ipv6() == is_v6) {
                continue;
            }
            let ip = if is_v6 { "ip -6" } else { "ip" };
            for net in self.client_nets(if is_v6 { Family::V6 } else { Family::V4 }) {
                line(text, &format!("{ip} route replace {net} via {}", assistant(is_v6)));
            }
        }
        if targets.iter().any(|target| target.addr.is_ipv4()) {
            line(text, "sysctl net.ipv4.conf.all.rp_filter    # 0 or 2; 1 may drop the replayed packets");
        }
        heading(text, "run on the assistant");
        let filter: Vec<String> = targets
            .iter()
            .map(|target| format!("(src host {} and src port {})", target.addr, target.port))
            .collect();
        let port = self.relay.servers.first().map_or(36524, |server| server.address.port());
        let port = if port == 36524 { String::new() } else { format!(" -p {port}") };
        let is_far = self.relay.servers.iter().any(|server| !server.address.ip().is_loopback());
        let access = match self.relay.token {
            Some(_) => " --token-file <file>",
            None if is_far => " --no-auth",
            None => "",
        };
        let filter = filter.join(" or ");
        line(text, &format!("intercept -i <interface> -F 'tcp and ({filter})'{port}{access}"));
        if targets.iter().any(|target| target.addr.is_ipv4()) {
            line(text, "sysctl net.ipv4.ip_forward=0");
        }
        if targets.iter().any(|target| target.addr.is_ipv6()) {
            line(text, "sysctl net.ipv6.conf.all.forwarding=0");
        }
    }

    /// The nets that the target must route to the assistant, as far as the settings tell.
    fn client_nets(&self, family: Family) -> Vec<String> {
        let ranges = self.clients.pool.as_ref().map_or(&[][..], |pool| pool.ranges(family));
        if ranges.is_empty() {
            return vec!["<net of the clients>".to_owned()];
        }
        ranges.iter().map(covering_net).collect()
    }
}

/// The smallest net that holds the range.
fn covering_net(range: &ClientRange) -> String {
    match range {
        ClientRange::V4(first, last) => {
            let host_bits = 32 - (first.to_bits() ^ last.to_bits()).leading_zeros();
            let net = Ipv4Addr::from_bits(first.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0));
            format!("{net}/{}", 32 - host_bits)
        }
        ClientRange::V6(first, last) => {
            let host_bits = 128 - (first.to_bits() ^ last.to_bits()).leading_zeros();
            let net = Ipv6Addr::from_bits(first.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0));
            format!("{net}/{}", 128 - host_bits)
        }
    }
}

fn route(transfer: &Transfer, host: &dyn Host) -> String {
    let Some(route) = host.route_to(transfer.target.addr) else { return "none".to_owned() };
    let mut text =
        format!("{} from {}", route.device.as_deref().unwrap_or("unknown interface"), route.source);
    if let Some(next_hop) = route.next_hop {
        let _ = write!(text, " via {next_hop}");
    }
    if let Some(mac) = transfer.source_mac {
        let _ = write!(text, ", frames from {mac}");
    }
    if let Some(mac) = transfer.next_hop_mac {
        let _ = write!(text, ", frames to {mac}");
    }
    text
}

/// What a plugin needs beyond requests, and what that costs.
pub(crate) fn needs_text(inputs: Inputs) -> String {
    [
        (Inputs::RESPONSES, "responses (intercept returns whole packets)"),
        (Inputs::REFERENCES, "answers of the online server (captured as well)"),
        (Inputs::CONNECTIONS, "connections to the target"),
        (Inputs::CLOSES, "clients' closes"),
    ]
    .into_iter()
    .filter(|(input, _)| inputs.contains(*input))
    .map(|(_, text)| text)
    .collect::<Vec<_>>()
    .join(", ")
}

fn copies(number: u16) -> String {
    if number == 1 { "1 copy".to_owned() } else { format!("{number} copies") }
}

fn heading(text: &mut String, name: &str) {
    text.push_str(name);
    text.push('\n');
}

fn line(text: &mut String, content: &str) {
    let _ = writeln!(text, "  {content}");
}

fn item(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {name:<16} {value}");
}
