//! Captures of tunnels and of netfilter's log: what is in them is what tshark finds there, and filters let it pass.
//!
//! Needs a folder of captures in `TCPCOPY_CORPUS`, and tshark or tcpdump; says so and passes without.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tcpcopy_capture_file::{AtEnd, Captures, Input, Step};
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_engine::wire::PROTOCOL_TCP;
use tcpcopy_engine::wire::fragment::{FragmentOutcome, Reassembler};
use tcpcopy_engine::wire::ip::IpPacket;
use tcpcopy_engine::wire::link::ip_packet;
use tcpcopy_engine::wire::tcp::TcpSegment;
use tcpcopy_engine::wire::tunnel::{self, Decap, Tunnel};

/// Captures, and the tunnel that each holds.
const FILES: [(&str, Option<Tunnel>); 6] = [
    ("gre_http.pcap", Some(Tunnel::Gre)),
    ("erspan_http.pcap", Some(Tunnel::Erspan)),
    ("vxlan_http.pcap", Some(Tunnel::Vxlan)),
    ("local_vxlan_http_redis.pcap", Some(Tunnel::Vxlan)),
    ("geneve_http.pcap", Some(Tunnel::Geneve)),
    ("nflog_http.pcap", None),
];

fn file(name: &str, program: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("TCPCOPY_CORPUS") else {
        println!("skipped: TCPCOPY_CORPUS names no folder of captures");
        return None;
    };
    if Command::new(program).arg("--version").output().is_err() {
        assert!(std::env::var_os("TCPCOPY_REQUIRE_LAB").is_none(), "{program} is not installed");
        println!("skipped: {program} is not installed");
        return None;
    }
    Some(PathBuf::from(folder).join(name))
}

/// Finds the innermost TCP segments of frames.
struct Finder {
    decap: Decap,
    fragments: Reassembler,
    /// Segments as text (ports, sequence number, length of the payload), and how many tunnels each was in.
    found: Vec<(String, usize)>,
}

impl Finder {
    fn packet(&mut self, data: &[u8], wire_len: usize, tunnels: usize) {
        let Ok(ip) = IpPacket::parse(data, wire_len) else { return };
        if ip.fragment.is_some() {
            if let FragmentOutcome::Complete(whole) = self.fragments.push(&ip, data, Instant::ZERO) {
                self.packet(&whole, whole.len(), tunnels);
            }
            return;
        }
        if ip.protocol == PROTOCOL_TCP {
            let Ok(tcp) = TcpSegment::parse(ip.payload, ip.payload_len) else { return };
            let TcpSegment { source_port, destination_port, seq, payload_len, .. } = tcp;
            let text = format!("{source_port}\t{destination_port}\t{}\t{payload_len}", seq.0);
            self.found.push((text, tunnels));
            return;
        }
        if let Some((link, frame, wire_len)) = tunnel::open(&ip, self.decap)
            && let Ok((packet, wire_len)) = ip_packet(link, frame, wire_len)
        {
            self.packet(packet, wire_len, tunnels + 1);
        }
    }
}

/// The segments of a file that are found with `decap`.
fn segments(input: Input, decap: Decap) -> Result<Vec<(String, usize)>> {
    let mut captures = Captures::open(&[input], AtEnd::Stop)?;
    let fragments = Reassembler::new(1 << 20, 100, Duration::from_secs(30));
    let mut finder = Finder { decap, fragments, found: Vec::new() };
    while let Step::Frame(frame) = captures.next()? {
        if let Ok((packet, wire_len)) = ip_packet(frame.link_type, frame.data, frame.wire_len) {
            finder.packet(packet, wire_len, 0);
        }
    }
    Ok(finder.found)
}

fn by_tshark(file: &Path) -> Result<Vec<String>> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-o", "tcp.relative_sequence_numbers:false", "-Y", "tcp", "-r"]).arg(file);
    // Of packets in tunnels, the last TCP header is the innermost.
    command.args(["-T", "fields", "-E", "occurrence=l"]);
    for field in ["tcp.srcport", "tcp.dstport", "tcp.seq_raw", "tcp.len"] {
        command.args(["-e", field]);
    }
    let output = command.output().context("tshark")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}

#[test]
fn segments_in_tunnels_are_those_that_tshark_finds() -> Result<()> {
    for (name, kind) in FILES {
        let Some(path) = file(name, "tshark") else { return Ok(()) };
        let decap = kind.map_or(Decap::NONE, |kind| Decap::NONE.with(kind));
        let found = segments(Input::File(path.clone()), decap)?;
        let depth = usize::from(kind.is_some());
        ensure!(found.iter().all(|(_, tunnels)| *tunnels >= depth), "{name}: not all were in a tunnel");
        let found: Vec<String> = found.into_iter().map(|(segment, _)| segment).collect();
        let expected = by_tshark(&path)?;
        ensure!(!expected.is_empty(), "{name}: tshark finds nothing");
        ensure!(found == expected, "{name}: {} of {} segments", found.len(), expected.len());
        if kind.is_some() {
            ensure!(
                segments(Input::File(path), Decap::NONE)?.is_empty(),
                "{name}: opened without being asked"
            );
        }
    }
    Ok(())
}

#[test]
fn filters_let_tunnels_pass() -> Result<()> {
    for (name, kind) in FILES {
        let Some(kind) = kind else { continue };
        let Some(path) = file(name, "tcpdump") else { return Ok(()) };
        let decap = Decap::NONE.with(kind);
        let expression = tunnel::filter(decap).context("a filter")?;
        let folder = std::env::temp_dir();
        let passed = folder.join(format!("tunnels-{}-{name}", std::process::id()));
        let status = Command::new("tcpdump")
            .args(["-n", "-r"])
            .arg(&path)
            .arg("-w")
            .arg(&passed)
            .arg(&expression)
            .stderr(Stdio::null())
            .status()?;
        ensure!(status.success(), "tcpdump refuses {expression}");
        let found = segments(Input::File(passed.clone()), decap)?;
        std::fs::remove_file(passed)?;
        ensure!(
            !found.is_empty() && found == segments(Input::File(path), decap)?,
            "{name}: {expression} leaves segments out"
        );
    }
    // All kinds at once, on link types that a mirror port may have.
    let expression = tunnel::filter(Decap::ALL).context("a filter")?;
    if file("", "tcpdump").is_some() {
        for link in ["EN10MB", "RAW", "LINUX_SLL2"] {
            let output = Command::new("tcpdump").args(["-d", "-y", link, &expression]).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            // Compiling for a link type without a device needs a file of it; what matters here is the grammar.
            ensure!(!said.contains("syntax error"), "{expression}: {said}");
        }
    }
    Ok(())
}
