//! From typed options to settings, one part after another, with the checks across options.

use super::{
    Capture, CaptureFilter, CaptureMethod, Clients, Growth, Injection, InjectionMethod, Joining, Limits,
    Load, Offline, Pacing, Relay, RelayAtStart, RelayServer, Token, Waiting,
};
use crate::failure::UsageError;
use crate::options::LowArgs;
use crate::transfer::{self, Transfer};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};
use std::path::Path;
use std::time::Duration;
use tcpcopy_engine::mapping::{ClientPool, Family};
use tcpcopy_engine::wire::tunnel::{self, Decap};
use tcpcopy_net::filter::{Streams, incoming, with_references};

/// Most parallel connections to one `intercept` that TCPCopy allows.
const MAX_CONNECTIONS: u32 = 11;
const MEGABYTE: u64 = 1024 * 1024;

pub(super) fn transfers(lists: &[String], warnings: &mut Vec<String>) -> Result<Vec<Transfer>, UsageError> {
    if lists.is_empty() {
        return Err(UsageError::new(
            "-x is missing: nothing says what to copy",
            "-x 80-10.0.0.2:8080 copies port 80 of this host to port 8080 of 10.0.0.2",
        ));
    }
    let list = lists.join(",");
    let transfers = transfer::parse(&list).map_err(|error| {
        UsageError::new(
            format!("-x {list:?}: {error}"),
            "the form is [onlineIP:]onlinePort-targetIP:targetPort, several separated by commas",
        )
    })?;
    for (index, later) in transfers.iter().enumerate() {
        if let Some(first) = transfers[..index].iter().find(|earlier| earlier.covers(later)) {
            warnings
                .push(format!("-x: {later} is never used: {first} comes first and matches the same packets"));
        }
        if later.target.addr.is_loopback() {
            warnings.push(format!(
                "-x: target {} is loopback: its replies reach this host's own kernel, which resets the connections; \
                 give an address of another host or network namespace",
                later.target
            ));
        }
    }
    Ok(transfers)
}

pub(super) fn clients(
    low: &LowArgs,
    transfers: &[Transfer],
    warnings: &mut Vec<String>,
) -> Result<Clients, UsageError> {
    let mut clients = Clients { port_shift: low.port_shift, ..Clients::default() };
    for text in split_list(&low.local_client) {
        let hint = "-H takes one IPv4 and one IPv6 address that the target can answer to";
        let addr: IpAddr = text
            .trim_matches(['[', ']'])
            .parse()
            .map_err(|_| UsageError::new(format!("-H {text:?}: expected an IPv4 or IPv6 address"), hint))?;
        if addr.is_loopback() || addr.is_unspecified() || addr.is_multicast() {
            return Err(UsageError::new(format!("-H {addr}: no target can answer to that address"), hint));
        }
        let is_second = match addr {
            IpAddr::V4(v4) => clients.local_v4.replace(v4).is_some_and(|old| old != v4),
            IpAddr::V6(v6) => clients.local_v6.replace(v6).is_some_and(|old| old != v6),
        };
        if is_second {
            return Err(UsageError::new(format!("-H {addr}: a second address of the same family"), hint));
        }
    }
    if !low.local_client.is_empty() && transfers.iter().all(|transfer| transfer.target.addr.is_loopback()) {
        warnings.push("-H has no use: all targets are loopback".to_owned());
    }
    if !low.clients.is_empty() {
        let list = low.clients.join(",");
        let pool = ClientPool::parse(&list).map_err(|error| {
            UsageError::new(
                format!("-c {list:?}: {error}"),
                "-c takes addresses, nets and ranges separated by commas: 10.3.0.7,10.4.0.0/16,62.135.200.x",
            )
        })?;
        clients.pool = Some(pool);
    }
    for transfer in transfers {
        check_families(&clients, transfer)?;
    }
    Ok(clients)
}

/// Rejects a transfer whose clients could not have an address of the target's family.
fn check_families(clients: &Clients, transfer: &Transfer) -> Result<(), UsageError> {
    let family = Family::of(transfer.target.addr);
    let name = match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    let is_possible = match (&clients.pool, transfer.online_addr) {
        (Some(pool), _) => !pool.is_empty(family),
        (None, Some(addr)) if addr.is_loopback() => true,
        (None, online) => online.is_none_or(|addr| Family::of(addr) == family),
    };
    if is_possible {
        return Ok(());
    }
    Err(UsageError::new(
        format!("-x {transfer}: no client can have an {name} address, which the target needs"),
        format!("add {name} addresses to -c, or give a target of the online server's address family"),
    ))
}

/// The parts of comma-separated lists, without the spaces around them and without empty ones.
fn split_list(lists: &[String]) -> impl Iterator<Item = &str> {
    lists.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|part| !part.is_empty())
}

pub(super) fn relay(
    low: &LowArgs,
    token: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<Relay, UsageError> {
    let mut servers: Vec<RelayServer> = Vec::new();
    for name in split_list(&low.servers) {
        let address = relay_address(name, low.port)?;
        if servers.iter().any(|server| server.address == address) {
            warnings.push(format!("-s: {name} is listed twice ({address}); it is used once"));
        } else {
            servers.push(RelayServer { name: name.to_owned(), address });
        }
    }
    if servers.is_empty() {
        return Err(UsageError::new(
            "-s is missing: nothing says where intercept runs",
            "-s 10.0.0.3 for intercept on 10.0.0.3, port 36524",
        ));
    }
    if low.connections == 0 || low.connections > MAX_CONNECTIONS {
        warnings.push(format!("-C {}: moved into 1 to {MAX_CONNECTIONS}", low.connections));
    }
    let connections = low.connections.clamp(1, MAX_CONNECTIONS) as u8;
    Ok(Relay {
        servers,
        connections: NonZeroU8::new(connections).unwrap_or(NonZeroU8::MIN),
        token: read_token(low.token_file.as_deref(), token, warnings)?,
        at_start: if low.lonely { RelayAtStart::Awaited } else { RelayAtStart::Required },
    })
}

fn relay_address(name: &str, default_port: u16) -> Result<SocketAddr, UsageError> {
    let hint = "the form is address, address:port or [IPv6]:port, several separated by commas";
    let wrong = |what: String| UsageError::new(format!("-s {name:?}: {what}"), hint);
    if let Ok(address) = name.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(wrong("port 0 is no port".to_owned())) } else { Ok(address) };
    }
    if let Ok(addr) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(SocketAddr::new(addr, default_port));
    }
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) => match port.parse::<u16>() {
            Ok(port) if port > 0 => (host, port),
            _ => return Err(wrong(format!("expected a port from 1 to 65535 after ':', found {port:?}"))),
        },
        None => (name, default_port),
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || !host.chars().all(is_host) {
        return Err(wrong("expected an address or a host name".to_owned()));
    }
    let found: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|error| {
            UsageError::new(format!("-s {name:?}: can't look up {host}: {error}"), "give the address itself")
        })?
        .collect();
    // intercept listens on IPv4 by default, and "localhost" commonly resolves to ::1 first.
    found.iter().find(|address| address.is_ipv4()).or(found.first()).copied().ok_or_else(|| {
        UsageError::new(format!("-s {name:?}: {host} has no address"), "give the address itself")
    })
}

fn read_token(
    file: Option<&Path>,
    variable: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<Option<Token>, UsageError> {
    let Some(file) = file else {
        return Ok(variable.map(str::trim).filter(|token| !token.is_empty()).map(Token::new));
    };
    let shown = file.display();
    let bytes = std::fs::read(file).map_err(|error| {
        UsageError::new(
            format!("--token-file {shown}: {error}"),
            "the file must exist, be readable, and hold the token that intercept was given",
        )
    })?;
    let token = bytes.trim_ascii();
    if token.is_empty() {
        return Err(UsageError::new(
            format!("--token-file {shown}: the file is empty"),
            "head -c 32 /dev/urandom | base64 makes a token; give the same to intercept",
        ));
    }
    use std::os::unix::fs::PermissionsExt;
    if std::fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0) {
        warnings.push(format!("--token-file {shown}: other users may read it; chmod 600 {shown}"));
    }
    Ok(Some(Token::new(token)))
}

/// Whether what was given as an interface (`-i`) is a capture file, as in TCPCopy's offline build.
pub(super) fn is_capture_file(name: &str) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_interface = !name.contains('/') && Path::new("/sys/class/net").join(name).exists();
    let is_file = |meta: std::fs::Metadata| meta.is_file() || meta.file_type().is_fifo();
    !is_interface && std::fs::metadata(name).is_ok_and(is_file)
}

pub(super) fn capture(
    low: &LowArgs,
    transfers: &[Transfer],
    offline: Option<&Offline>,
) -> Result<Capture, UsageError> {
    let mut interfaces: Vec<String> =
        split_list(&low.interfaces).filter(|name| !is_capture_file(name)).map(str::to_owned).collect();
    if offline.is_some() && !interfaces.is_empty() {
        return Err(UsageError::new(
            format!("-i {}: nothing is captured while files are replayed", interfaces.join(",")),
            "leave -i out, or the files",
        ));
    }
    if interfaces.iter().any(|name| name == "any") {
        interfaces.clear();
    }
    interfaces.dedup();
    check_interfaces("-i", &interfaces)?;
    let decap = decap(&low.decap)?;
    let filter = match low.filter.as_deref().map(str::trim) {
        Some("") => {
            return Err(UsageError::new(
                "-F: the filter is empty",
                "leave -F out to use the filter made from -x",
            ));
        }
        Some(given) => CaptureFilter::Given(given.to_owned()),
        None => CaptureFilter::Generated(with_tunnels(filter_for(transfers), decap)),
    };
    let method = if low.pcap_capture { CaptureMethod::Pcap } else { CaptureMethod::Ring };
    let megabytes = low.buffer.unwrap_or(match method {
        CaptureMethod::Ring => 32,
        CaptureMethod::Pcap => 16,
    });
    Ok(Capture {
        method,
        interfaces,
        filter,
        streams: Streams::Requests,
        buffer_bytes: megabytes as usize * MEGABYTE as usize,
        snapshot: NonZeroU32::new(low.snaplen),
        decap,
    })
}

/// `expression`, or a tunnel that is opened.
pub(crate) fn with_tunnels(expression: String, decap: Decap) -> String {
    match tunnel::filter(decap) {
        Some(tunnels) => format!("{expression} or {tunnels}"),
        None => expression,
    }
}

/// The tunnels that are to be opened.
///
/// # Errors
/// An unknown name.
pub(crate) fn decap(lists: &[String]) -> Result<Decap, UsageError> {
    if lists.is_empty() {
        return Ok(Decap::NONE);
    }
    let list = lists.join(",");
    list.parse().map_err(|error| {
        UsageError::new(
            format!("--decap {list}: {error}"),
            "known are vxlan, geneve, gre and erspan, separated by commas",
        )
    })
}

/// Rejects names that no Linux interface can have; whether one exists is known when it is opened.
fn check_interfaces(option: &str, names: &[String]) -> Result<(), UsageError> {
    let is_bad = |name: &&String| name.len() > 15 || name.contains(['/', ' ']) || name.starts_with('-');
    match names.iter().find(is_bad) {
        Some(name) => Err(UsageError::new(
            format!("{option} {name:?}: no interface can have that name"),
            "ip link lists the interfaces",
        )),
        None => Ok(()),
    }
}

/// The pcap expression that lets clients' packets to the online servers pass.
fn filter_for(transfers: &[Transfer]) -> String {
    filter_of(transfers, "dst")
}

/// The same with what the online servers send. What is replayed leaves this host and looks like requests; where the capture can
/// tell, only incoming ones pass.
pub(super) fn filter_of_both(transfers: &[Transfer], method: CaptureMethod) -> String {
    let requests = filter_for(transfers);
    let requests = match method {
        CaptureMethod::Ring => incoming(&requests),
        CaptureMethod::Pcap => requests,
    };
    with_references(&requests, &filter_of(transfers, "src"))
}

/// The expression for the online servers on one side of a packet.
///
/// Later fragments carry no port, so they pass by address alone. Where the online address is open and a target has the same
/// port, the target's address is left out: else a capture that sees outgoing packets would capture what is replayed.
fn filter_of(transfers: &[Transfer], side: &str) -> String {
    let part = |transfer: &Transfer| {
        let port = transfer.online_port;
        if let Some(addr) = transfer.online_addr {
            return format!("({side} host {addr} and {side} port {port})");
        }
        let mut targets: Vec<IpAddr> = transfers
            .iter()
            .filter(|other| other.target.port == port)
            .map(|other| other.target.addr)
            .collect();
        targets.sort_unstable();
        targets.dedup();
        let but: String = targets.iter().map(|addr| format!(" and not {side} host {addr}")).collect();
        format!("({side} port {port}{but})")
    };
    let parts: Vec<String> = transfers.iter().map(part).collect();
    let parts = parts.join(" or ");
    format!("(tcp and ({parts})) or (ip proto 6 and ip[6:2] & 0x1fff != 0) or (ip6 and ip6[6] == 44)")
}

pub(super) fn injection(
    low: &LowArgs,
    transfers: &[Transfer],
    warnings: &mut Vec<String>,
) -> Result<Injection, UsageError> {
    let device = low.output.as_deref().map(|device| device.trim().trim_end_matches(','));
    let method = match device {
        Some(device) => {
            check_interfaces("-o", &[device.to_owned()])?;
            InjectionMethod::LinkLayer { device: device.to_owned() }
        }
        None if low.pcap_send => {
            return Err(UsageError::new(
                "--pcap-send needs -o: nothing says which interface frames are sent through",
                "ip route get TARGET shows the interface that leads to the target",
            ));
        }
        None => InjectionMethod::RawSocket,
    };
    let has_mac = |transfer: &Transfer| transfer.source_mac.is_some() || transfer.next_hop_mac.is_some();
    if method == InjectionMethod::RawSocket && transfers.iter().any(has_mac) {
        warnings.push("-x: MAC addresses are not used without --pcap-send".to_owned());
    }
    let has_v6 = transfers.iter().any(|transfer| transfer.target.addr.is_ipv6());
    let headers = if has_v6 { 60 } else { 40 };
    if has_v6 && low.mtu < 1280 {
        warnings.push(format!("-M {}: IPv6 expects every link to carry 1280 bytes", low.mtu));
    }
    if u32::from(low.mss) + headers > u32::from(low.mtu) && (low.mtu != 1500 || low.mss != 1460) {
        warnings.push(format!(
            "-D {}: replies as large as that may not fit -M {} (headers take {headers} bytes)",
            low.mss, low.mtu
        ));
    }
    Ok(Injection { method, mtu: low.mtu, mss: low.mss })
}

pub(super) fn load(low: &LowArgs) -> Load {
    Load {
        copies: NonZeroU16::new(low.copies).unwrap_or(NonZeroU16::MIN),
        percent: low.percentage,
        growth: if low.gradual { Growth::Gradual } else { Growth::Immediate },
        pacing: match low.rtt {
            None => Pacing::Measured,
            Some(0) => Pacing::Unpaced,
            Some(millis) => Pacing::Fixed(Duration::from_millis(u64::from(millis))),
        },
        waiting: if low.no_wait { Waiting::Never } else { Waiting::ForResponses },
        joining: if low.only_full { Joining::FullOnly } else { Joining::MidStream },
    }
}

pub(super) fn limits(low: &LowArgs) -> Limits {
    let or_default = |value: u32, default: u32| if value == 0 { default } else { value };
    Limits {
        memory_bytes: u64::from(low.memory) * MEGABYTE,
        session_bytes: u64::from(low.session_limit) * MEGABYTE,
        session_pool_bytes: usize::from(low.session_pool.max(1)) * 1024,
        session_timeout: Duration::from_secs(u64::from(low.timeout)),
        keepalive_timeout: Duration::from_secs(u64::from(or_default(low.keepalive, 7200))),
        duration: low.duration.filter(|duration| !duration.is_zero()),
        drain: low.drain,
    }
}
