//! The command lines that would replay what was found.
//!
//! Owns which ports get one, and what it says. Leaves who is a front and who an upstream to [`crate::servers`].

use crate::findings::{Findings, PortFindings, Role};
use crate::protocol::Protocol;
use serde::Serialize;
use std::net::IpAddr;
use tcpcopy_engine::wire::tunnel::Decap;

/// Online addresses that a command line names before it is left to the reader to add the rest.
const MAX_ADDRESSES: usize = 8;
/// Files that a command line names; with more, it says `FILE…`.
const MAX_FILES: usize = 20;

/// A command line that replays one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// The port.
    pub port: u16,
    /// What `-x` would be, with `TARGET` in place of the target's address.
    pub transfer: String,
    /// The module that knows the protocol, if there is one.
    pub module: Option<&'static str>,
    /// The whole line.
    pub command: String,
    /// What to know about it.
    pub note: Option<String>,
}

/// A command line for each port that can be replayed, most traffic first, upstreams of others last.
pub(crate) fn commands(findings: &Findings, files: &[String], decap: Decap) -> Vec<Suggestion> {
    let files = match files {
        [] => "FILE".to_owned(),
        many if many.len() > MAX_FILES => "FILE…".to_owned(),
        few => few.iter().map(|file| quoted(file)).collect::<Vec<_>>().join(" "),
    };
    let mut ports: Vec<&PortFindings> = findings.ports.iter().filter(|port| port.can_be_replayed()).collect();
    ports.sort_by_key(|port| port.is_upstream());
    let decap = match findings.packets.opened {
        0 => String::new(),
        _ => format!(" --decap {decap}"),
    };
    ports.into_iter().map(|port| suggestion(port, &files, &decap)).collect()
}

fn suggestion(port: &PortFindings, files: &str, decap: &str) -> Suggestion {
    let fronts: Vec<IpAddr> = port
        .servers
        .iter()
        .filter(|server| server.role == Role::Front)
        .map(|server| server.address)
        .collect();
    let has_both = !fronts.is_empty() && fronts.len() < port.servers.len();
    let number = port.port;
    let transfer = if has_both {
        let each = fronts.iter().take(MAX_ADDRESSES).map(|address| match address {
            IpAddr::V4(address) => format!("{address}:{number}-TARGET:{number}"),
            IpAddr::V6(address) => format!("[{address}]:{number}-TARGET:{number}"),
        });
        each.collect::<Vec<_>>().join(",")
    } else {
        format!("{number}-TARGET:{number}")
    };
    let module = port
        .protocols
        .iter()
        .find(|count| !count.protocol.is_encrypted() && count.protocol != Protocol::Silent)
        .and_then(|count| count.protocol.module());
    let mut command = format!("tcpcopy --offline {files} -x {transfer} -s ASSISTANT{decap}");
    if let Some(module) = module {
        command.push_str(" --module ");
        command.push_str(module);
    }
    let all_loopback = port.loopback == port.connections;
    if all_loopback {
        command.push_str(" -c CLIENT");
    }
    let note = if port.is_upstream() {
        Some(
            "its clients are servers in this capture: replay it by itself, or the others, not both"
                .to_owned(),
        )
    } else if has_both && fronts.len() > MAX_ADDRESSES {
        Some(format!(
            "{} more addresses serve this port for clients of their own",
            fronts.len() - MAX_ADDRESSES
        ))
    } else if has_both {
        Some("other addresses with this port get their requests from servers in this capture".to_owned())
    } else if all_loopback {
        Some("CLIENT is an address that the target routes to the assistant".to_owned())
    } else {
        None
    };
    Suggestion { port: number, transfer, module, command, note }
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
