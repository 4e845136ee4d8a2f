//! Filter expressions made from endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The expression for what clients send to `endpoints`, the online servers of `-x`: TCP to each address and port (every
/// address where none is given), and the IP fragments behind the first that could belong to it, which carry no ports. With
/// references, it is also for what the servers send; the capture must then be one of both directions.
///
/// `user` is what `-F` gives: it replaces the whole expression, as it does in TCPCopy.
pub fn capture_expression(
    endpoints: &[(Option<IpAddr>, u16)],
    streams: Streams,
    user: Option<&str>,
) -> String {
    match (user, streams) {
        (Some(user), _) => user.to_owned(),
        (None, Streams::Requests) => expression(endpoints, "dst"),
        (None, Streams::RequestsAndReferences) => {
            with_references(&expression(endpoints, "dst"), &expression(endpoints, "src"))
        }
    }
}

/// What is captured of a connection between a client and an online server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Streams {
    /// What the client sends.
    #[default]
    Requests,
    /// What both send.
    RequestsAndReferences,
}

/// The expression for a capture of both directions: what `requests` describes, and what `references` describes.
pub fn with_references(requests: &str, references: &str) -> String {
    format!("({requests}) or ({references})")
}

/// What `expression` describes as far as this host does not send it: in a capture of both directions, what is replayed
/// looks like requests.
///
/// For rings only. libpcap looks at some packets a second time itself, where nothing tells their direction, and rejects them.
pub fn incoming(expression: &str) -> String {
    format!("inbound and ({expression})")
}

/// The expression for the replies of the servers under test: TCP from each address and port, and the fragments behind.
pub fn reply_expression(endpoints: &[(Option<IpAddr>, u16)], user: Option<&str>) -> String {
    match user {
        Some(user) => user.to_owned(),
        None => expression(endpoints, "src"),
    }
}

/// Addresses that the same ports belong to.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Hosts {
    Every,
    V4,
    V6,
}

fn expression(endpoints: &[(Option<IpAddr>, u16)], side: &str) -> String {
    let mut ports_of: BTreeMap<Option<IpAddr>, BTreeSet<u16>> = BTreeMap::new();
    for (address, port) in endpoints {
        ports_of.entry(*address).or_default().insert(*port);
    }
    // Addresses with the same ports are tested together, which keeps the program short.
    let mut groups: BTreeMap<(Hosts, BTreeSet<u16>), Vec<String>> = BTreeMap::new();
    for (address, ports) in ports_of {
        let hosts = match address {
            None => Hosts::Every,
            Some(IpAddr::V4(_)) => Hosts::V4,
            Some(IpAddr::V6(_)) => Hosts::V6,
        };
        let tests = groups.entry((hosts, ports)).or_default();
        tests.extend(address.map(|address| format!("{side} host {address}")));
    }
    let parts: Vec<String> =
        groups.iter().map(|((hosts, ports), tests)| part(hosts, ports, tests, side)).collect();
    parts.join(" or ")
}

fn part(hosts: &Hosts, ports: &BTreeSet<u16>, tests: &[String], side: &str) -> String {
    let ports: Vec<String> = ports.iter().map(|port| format!("{side} port {port}")).collect();
    let (ports, hosts_text) = (ports.join(" or "), tests.join(" or "));
    // Ports behind IPv6 extension headers are out of a filter's reach, so whatever has one is let through: the first
    // header after IPv6 is a fragment (44), hop-by-hop (0), routing (43) or destination options (60) header.
    let v4 = "ip proto 6 and ip[6:2] & 0x1fff != 0";
    let v6 = "ip6 and (ip6[6] = 44 or ip6[6] = 0 or ip6[6] = 43 or ip6[6] = 60)";
    match hosts {
        Hosts::Every => format!("(tcp and ({ports})) or ({v4}) or ({v6})"),
        Hosts::V4 => format!("(ip and ({hosts_text}) and ((tcp and ({ports})) or ({v4})))"),
        Hosts::V6 => format!("(ip6 and ({hosts_text}) and ((tcp and ({ports})) or ({v6})))"),
    }
}

/// `expression`, or the same behind one VLAN tag. In this language `vlan` moves everything to the right of it.
pub(super) fn with_tags(expression: &str) -> String {
    format!("({expression}) or (vlan and ({expression}))")
}

/// `expression`, or the same behind one or two VLAN tags.
pub(super) fn with_two_tags(expression: &str) -> String {
    format!("({expression}) or (vlan and (({expression}) or (vlan and ({expression}))))")
}
