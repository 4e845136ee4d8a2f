//! Spoiling one leg of the wire on purpose: packets lost, repeated, reordered, or all of them cut off.
//!
//! The kernel's own means for this (netem) is not in every kernel, so packets are picked by nftables where they enter the
//! bridge. It drops and repeats by itself; packets to be reordered go to a link whose other end a thread of this crate reads, and
//! back on the wire a little later, when others have overtaken them.

use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::raw;
use crate::tools;
use anyhow::{Context, Result, bail, ensure};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, bind, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How much later than the others a packet arrives that is to be reordered.
const DELAY: Duration = Duration::from_millis(3);
/// Largest frame on the wire: larger ones (offloaded segments) have to be switched off, see [`Lab::send_plain_segments`].
const MAX_FRAME: usize = 1514;

/// A way of packets of the replayed traffic, in one direction. What goes back is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// Real clients to the online server: before the capture.
    ClientToOnline,
    /// Replayed packets to the target.
    TcpcopyToTarget,
    /// The target's replies to the assistant.
    TargetToAssistant,
}

impl Leg {
    /// Port of the bridge that its packets come in by, the one that they leave by, and which packets these are.
    const fn ports(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::ClientToOnline => ("client", "online", "ip daddr 10.77.0.20 tcp dport { 6379, 8080 }"),
            Self::TcpcopyToTarget => ("online", "target", "ip daddr 10.77.0.30 tcp dport { 6379, 8080 }"),
            Self::TargetToAssistant => {
                ("target", "assistant", "ip saddr 10.77.0.30 tcp sport { 6379, 8080 }")
            }
        }
    }
}

/// What happens to packets that are picked at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They don't arrive.
    Lost,
    /// They arrive twice.
    Repeated,
    /// They arrive after later ones.
    Reordered,
}

/// A fault that lasts as long as this value.
pub struct Impairment<'lab> {
    wire: &'lab Namespace,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<'lab> Impairment<'lab> {
    /// Begins to do `fault` to `percent` of the packets of `leg`. Only one impairment may be there at a time.
    ///
    /// # Errors
    /// When a tool is missing or the kernel refuses.
    pub fn start(lab: &'lab Lab, leg: Leg, fault: Fault, percent: u8) -> Result<Self> {
        let (inside, outside, packets) = leg.ports();
        let wire = lab.wire();
        let mut impairment = Self { wire, stop: Arc::default(), thread: None };
        let action = match fault {
            Fault::Lost => "drop".to_owned(),
            Fault::Repeated => format!("dup to {outside}"),
            Fault::Reordered => {
                run_in(
                    wire,
                    tools::IP,
                    &["link", "add", "detour", "type", "veth", "peer", "name", "detour-end"],
                )?;
                run_in(wire, tools::IP, &["link", "set", "detour", "up"])?;
                run_in(wire, tools::IP, &["link", "set", "detour-end", "up"])?;
                impairment.thread = Some(start_detour(wire, outside, Arc::clone(&impairment.stop))?);
                "fwd to detour".to_owned()
            }
        };
        let rule = format!("{packets} numgen random mod 100 < {percent} counter {action}");
        run_in(wire, tools::NFT, &[&ingress(&[(inside, &rule)])])?;
        Ok(impairment)
    }

    /// Cuts every connection between the programs off, without a word to either.
    ///
    /// # Errors
    /// As [`Impairment::start`].
    pub fn cut_relay(lab: &'lab Lab, port: u16) -> Result<Self> {
        let (to, from) = (format!("tcp dport {port} counter drop"), format!("tcp sport {port} counter drop"));
        run_in(lab.wire(), tools::NFT, &[&ingress(&[("online", &to), ("assistant", &from)])])?;
        Ok(Self { wire: lab.wire(), stop: Arc::default(), thread: None })
    }

    /// Ends the fault and returns how many packets it has befallen.
    ///
    /// # Errors
    /// When it befell none: a test would pass for the wrong reason.
    pub fn heal(self) -> Result<u64> {
        let rules = run_in(self.wire, tools::NFT, &["list", "table", "netdev", "lab"])?;
        let hit = packets_in(&rules);
        ensure!(hit > 0, "no packet was touched by the rules:\n{rules}");
        Ok(hit)
    }
}

impl Drop for Impairment<'_> {
    fn drop(&mut self) {
        // What can't be removed goes with the lab.
        let _ = run_in(self.wire, tools::NFT, &["delete table netdev lab"]);
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; a destructor must not add one.
            let _ = thread.join();
            let _ = run_in(self.wire, tools::IP, &["link", "delete", "detour"]);
        }
    }
}

/// A table of rules, each at a port of the bridge.
fn ingress(rules: &[(&str, &str)]) -> String {
    let mut script = String::from("add table netdev lab; ");
    for (port, rule) in rules {
        script += &format!(
            "add chain netdev lab {port} {{ type filter hook ingress device {port} priority 0; }}; add rule netdev lab {port} {rule}; "
        );
    }
    script
}

/// Sum of the packet counters in a listing of nft.
fn packets_in(listing: &str) -> u64 {
    let counts = listing.split("counter packets ").skip(1);
    counts.filter_map(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

fn run_in(namespace: &Namespace, tool: tools::Tool, words: &[&str]) -> Result<String> {
    let mut command = Command::new(tool.require()?);
    command.args(words).stdin(Stdio::null());
    let shown = format!("{command:?}");
    let output = namespace.run(move || command.output()).with_context(|| format!("starting {shown}"))?;
    if !output.status.success() {
        bail!("{shown} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Starts the thread that lets packets through late.
fn start_detour(wire: &Namespace, outside: &'static str, stop: Arc<AtomicBool>) -> Result<JoinHandle<()>> {
    wire.run(move || -> Result<_> {
        let from = packet_socket("detour-end", SockProtocol::EthAll.into())?;
        // Only the wait decides how exact the delay is; nothing here has to be.
        setsockopt(&from, sockopt::ReceiveTimeout, &TimeVal::milliseconds(1))?;
        let to = packet_socket(outside, None)?;
        Ok(std::thread::spawn(move || delay_frames(from.into(), to.into(), &stop)))
    })
}

/// A socket for the frames of one link of this thread's namespace; without a protocol it receives none.
fn packet_socket(link: &str, protocol: Option<SockProtocol>) -> Result<OwnedFd> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let addr = getifaddrs()?
        .filter(|found| found.interface_name == link)
        .find_map(|found| found.address.as_ref().and_then(|addr| addr.as_link_addr().copied()))
        .with_context(|| format!("the wire has no link {link}"))?;
    bind(socket.as_raw_fd(), &addr).with_context(|| format!("binding to {link}"))?;
    Ok(socket)
}

fn delay_frames(mut from: File, mut to: File, stop: &AtomicBool) {
    let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = [0; MAX_FRAME];
    while !stop.load(Ordering::SeqCst) || !waiting.is_empty() {
        // An error is the timeout, or a link that goes down with the lab.
        if let Ok(length) = from.read(&mut buffer)
            && let Some(frame) = with_checksum(&buffer[..length])
        {
            waiting.push_back((Instant::now() + DELAY, frame));
        }
        while let Some((_, frame)) = waiting.pop_front_if(|(due, _)| *due <= Instant::now()) {
            // A frame that can't be sent is one more that is lost.
            let _ = to.write(&frame);
        }
    }
}

/// A frame of TCP over IPv4 with its checksum filled in: hosts of the lab leave that to links that have no hardware to do it.
fn with_checksum(frame: &[u8]) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    if frame.get(12..14)? != [8, 0] || frame.get(23) != Some(&6) {
        return None;
    }
    let header = usize::from(frame[14] & 15) * 4;
    let length = usize::from(u16::from_be_bytes(frame.get(16..18)?.try_into().ok()?));
    let addr = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
    let (from, to) = (addr(26)?, addr(30)?);
    let tcp = frame.get_mut(14 + header..14 + length)?;
    tcp.get_mut(16..18)?.fill(0);
    let sum = raw::checksum(from, to, tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_a_listing_are_added() {
        let listing =
            "chain a {\n tcp dport 1 counter packets 3 bytes 4 drop\n}\n counter packets 4 bytes 9 drop";
        assert_eq!(packets_in(listing), 7);
        assert_eq!(packets_in("nothing"), 0);
    }

    #[test]
    fn checksums_are_filled_in_and_other_frames_left_out() {
        let mut frame = vec![0; 14 + 20 + 20];
        (frame[12], frame[14], frame[17], frame[23]) = (8, 0x45, 40, 6);
        (frame[29], frame[33], frame[50]) = (1, 2, 0xff);
        let whole = with_checksum(&frame).unwrap();
        assert_eq!(raw::checksum([0, 0, 0, 1].into(), [0, 0, 0, 2].into(), &whole[34..]), 0);
        assert_eq!(with_checksum(&frame[..40]), None);
        frame[12] = 0x86;
        assert_eq!(with_checksum(&frame), None);
    }
}
