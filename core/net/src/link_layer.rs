//! Injection at the link layer (`--pcap-send -o DEV`): the packets leave by one interface whatever the routing table and the
//! firewall of this host say, with a header that is made here.

use crate::interface::{self, InterfaceError};
use crate::neighbour;
use crate::raw_socket::{may_pass, wait_for_room};
use crate::sink::{PacketSink, SendFailure};
use crate::sys::message::{MessageVector, Recipient};
use crate::sys::packet::{self, Layer};
use crate::sys::socket;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tcpcopy_engine::batch::PacketBatch;

/// An Ethernet address.
pub type Mac = [u8; 6];

const CHUNK: usize = 128;
const SEND_BUFFER: i32 = 8 << 20;
const HEADER: usize = 14;

/// How often the kernel is asked whether a next hop's MAC has changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the kernel is made to ask for a MAC that it has forgotten.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// How long a MAC that the kernel doesn't know is waited for when the sink is opened.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// A target, and what `-x` says of its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkTarget {
    /// The target's address.
    pub address: IpAddr,
    /// MAC to send to; `None`: that of the next hop, asked of the kernel.
    pub next_hop: Option<Mac>,
    /// MAC to send from; `None`: that of the interface.
    pub source: Option<Mac>,
}

/// Why the link-layer sink could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no such interface.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// A system call failed.
    #[error("cannot {action} on {device}")]
    Open {
        /// What was tried.
        action: &'static str,
        /// The interface.
        device: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The target can't be reached by that interface.
    #[error("there is no route to target {target} by {device}")]
    NoRoute {
        /// The target.
        target: IpAddr,
        /// The interface.
        device: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The target is this host.
    #[error("target {target} is an address of this host, which is not reached by {device}")]
    Local {
        /// The target.
        target: IpAddr,
        /// The interface.
        device: String,
    },
    /// Nobody answered for the next hop's address.
    #[error("the MAC of {next_hop}, the next hop to target {target}, cannot be found on {device}")]
    Unresolved {
        /// The target.
        target: IpAddr,
        /// The target itself or the gateway.
        next_hop: IpAddr,
        /// The interface.
        device: String,
    },
}

impl LinkError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Interface(error) => error.hint(),
            Self::Open { source, .. } => matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES))
                .then(|| crate::process::CAPABILITY_HINT.to_owned()),
            Self::NoRoute { target, device, .. } => Some(format!(
                "check: ip route get {target} oif {device}; or give the next hop's MAC in -x, behind the target: @<MAC>"
            )),
            Self::Local { .. } => {
                Some("leave --pcap-send out; packets to this host need no link layer".to_owned())
            }
            Self::Unresolved { next_hop, device, .. } => Some(format!(
                "check: ping {next_hop} and ip neigh show dev {device}; or give its MAC in -x, behind the target: @<MAC>"
            )),
        }
    }
}

/// One target with the Ethernet header that its packets get.
struct Way {
    target: IpAddr,
    header: [u8; HEADER],
    /// The neighbour whose MAC is looked at again; `None` when it was given.
    next_hop: Option<IpAddr>,
    refreshed_at: Instant,
}

/// Sends IP packets by one interface. Packets to addresses other than the targets that it was opened with fail with
/// `EDESTADDRREQ`.
pub struct LinkSink {
    fd: OwnedFd,
    device: String,
    interface: u32,
    layer: Layer,
    ways: Vec<Way>,
    messages: MessageVector,
    checked_at: Instant,
}

impl LinkSink {
    /// Opens the interface and finds each target's next hop. Where the kernel doesn't know its MAC, a UDP datagram to the
    /// target's discard port makes it ask.
    ///
    /// # Errors
    /// When the interface doesn't exist, a privilege is missing, or a next hop can't be found.
    pub fn open(device: &str, targets: &[LinkTarget]) -> Result<Self, LinkError> {
        let interface = interface::lookup(device)?;
        let failed = |action: &'static str| {
            move |source| LinkError::Open { action, device: device.to_owned(), source }
        };
        let layer = if interface.has_ethernet_header() { Layer::Link } else { Layer::Network };
        let fd = packet::open(layer).map_err(failed("open a packet socket"))?;
        packet::bind_for_sending(&fd, interface.index).map_err(failed("send"))?;
        // A small buffer still works, with more waiting.
        let _ = socket::set_send_buffer(&fd, SEND_BUFFER);
        let mut ways: Vec<Way> = Vec::new();
        for target in targets {
            if ways.iter().any(|way| way.target == target.address) {
                continue;
            }
            let (mac, next_hop) = match (layer, target.next_hop) {
                (Layer::Network, _) => ([0; 6], None),
                (Layer::Link, Some(mac)) => (mac, None),
                (Layer::Link, None) if interface.is_loopback => ([0; 6], None),
                (Layer::Link, None) => {
                    let (mac, next_hop) = resolve(target.address, device, interface.index)?;
                    (mac, Some(next_hop))
                }
            };
            let source = target.source.or(interface.mac).unwrap_or_default();
            let header = ethernet_header(mac, source, target.address);
            let refreshed_at = Instant::now();
            ways.push(Way { target: target.address, header, next_hop, refreshed_at });
        }
        Ok(Self {
            fd,
            device: device.to_owned(),
            interface: interface.index,
            layer,
            ways,
            messages: MessageVector::new(CHUNK),
            checked_at: Instant::now(),
        })
    }

    /// The MAC that packets to `target` are sent to; `None` for an interface without MACs or a target that isn't one.
    pub fn next_hop_mac(&self, target: IpAddr) -> Option<Mac> {
        let way = self.ways.iter().find(|way| way.target == target && self.layer == Layer::Link)?;
        way.header[..6].try_into().ok()
    }

    /// Follows a next hop that has got another MAC (fail-over of a gateway), and keeps the kernel's entry from being forgotten.
    fn check_neighbours(&mut self, now: Instant) {
        self.checked_at = now;
        for way in &mut self.ways {
            let Some(next_hop) = way.next_hop else { continue };
            match neighbour::mac_of(next_hop, self.interface) {
                Ok(Some(mac)) if way.header[..6] != mac => {
                    tracing::info!("the next hop to {} has got another MAC: {}", way.target, format_mac(mac));
                    way.header[..6].copy_from_slice(&mac);
                }
                Ok(Some(_)) => {}
                // Forgotten, or not reachable now: go on with what was known, and have it asked for now and then.
                Ok(None) if now.duration_since(way.refreshed_at) >= REFRESH_INTERVAL => {
                    way.refreshed_at = now;
                    if let Err(error) = nudge(way.target, &self.device) {
                        tracing::debug!("cannot have the MAC of {next_hop} asked for: {error}");
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::debug!("cannot ask for the MAC of {next_hop}: {error}"),
            }
        }
    }
}

fn format_mac(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn ethernet_header(to: Mac, from: Mac, target: IpAddr) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..6].copy_from_slice(&to);
    header[6..12].copy_from_slice(&from);
    header[12..].copy_from_slice(&ether_type(target).to_be_bytes());
    header
}

const fn ether_type(target: IpAddr) -> u16 {
    match target {
        IpAddr::V4(_) => 0x0800,
        IpAddr::V6(_) => 0x86dd,
    }
}

/// MAC and address of the next hop to `target`.
fn resolve(target: IpAddr, device: &str, interface: u32) -> Result<(Mac, IpAddr), LinkError> {
    let route = neighbour::route_to(target, interface).map_err(|source| LinkError::NoRoute {
        target,
        device: device.to_owned(),
        source,
    })?;
    if route.is_local {
        return Err(LinkError::Local { target, device: device.to_owned() });
    }
    let failed =
        |action: &'static str| move |source| LinkError::Open { action, device: device.to_owned(), source };
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let known = neighbour::mac_of(route.next_hop, interface);
        if let Some(mac) = known.map_err(failed("ask for neighbours"))? {
            return Ok((mac, route.next_hop));
        }
        if start.elapsed() >= RESOLVE_TIMEOUT {
            let device = device.to_owned();
            return Err(LinkError::Unresolved { target, next_hop: route.next_hop, device });
        }
        // The first time and then every half second or so, as the pause grows; a failure shows in the end.
        let _ = nudge(target, device);
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

/// Makes the kernel look for the next hop's MAC: sends an empty datagram to the target's discard port by the interface.
fn nudge(target: IpAddr, device: &str) -> io::Result<()> {
    let socket = match target {
        IpAddr::V4(_) => UdpSocket::bind(("0.0.0.0", 0))?,
        IpAddr::V6(_) => UdpSocket::bind(("::", 0))?,
    };
    socket::bind_to_device(&socket, device)?;
    socket.send_to(&[], (target, 9)).map(drop)
}

impl PacketSink for LinkSink {
    fn send(&mut self, batch: &PacketBatch, failures: &mut Vec<SendFailure>) {
        let now = Instant::now();
        if now.duration_since(self.checked_at) >= CHECK_INTERVAL {
            self.check_neighbours(now);
        }
        let (fd, interface, layer, ways) = (&self.fd, self.interface, self.layer, &self.ways);
        let mut next = 0;
        while next < batch.len() {
            let start = next;
            let end = batch.len().min(start + CHUNK);
            // A packet without a way ends the chunk, so that places stay consecutive.
            let way_of = |place: usize| {
                let target = batch.packets()[place].target.addr;
                ways.iter().find(|way| way.target == target)
            };
            let messages = (start..end).map_while(|place| {
                let way = way_of(place)?;
                let header = if layer == Layer::Link { way.header.as_slice() } else { &[] };
                let mac = [0, 1, 2, 3, 4, 5].map(|byte: usize| way.header[byte]);
                let protocol = ether_type(way.target);
                Some((Recipient::Link { interface, protocol, mac }, header, batch.packet(place)))
            });
            next += self.messages.send(
                fd,
                messages,
                |errno| may_pass(errno) && wait_for_room(fd),
                |place, errno| failures.push(SendFailure { index: start + place, errno }),
            );
            if next < end {
                failures.push(SendFailure { index: next, errno: libc::EDESTADDRREQ });
                next += 1;
            }
        }
    }
}
