//! Two network namespaces joined by a veth pair, for one test. They are removed when the value is dropped.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::File;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tcpcopy_net::filter::{Filter, FilterLink};
use tcpcopy_net::poll::{Events, Interest, Poller};
use tcpcopy_net::ring::{RingCapture, RingOptions};
use tcpcopy_net::source::{CapturedFrame, PacketSource, Readiness};

/// Sender's and receiver's namespace, `10.77.0.1` / `fd77::1` on `veth-a` and `10.77.0.2` / `fd77::2` on `veth-b`.
pub(crate) struct Lab {
    pub(crate) sender: String,
    pub(crate) receiver: String,
}

/// One of the two namespaces.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Sender,
    Receiver,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// Makes the namespaces, or returns `None` after saying why the test is skipped.
    ///
    /// # Panics
    /// When they can't be made although `TCPCOPY_REQUIRE_LAB=1` demands it, or making them fails half-way.
    pub(crate) fn new() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
        if !is_root {
            assert!(std::env::var("TCPCOPY_REQUIRE_LAB").as_deref() != Ok("1"), "the lab needs root");
            println!("skipped: the lab needs root");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("net-{}-{number}-{side}", std::process::id());
        let lab = Self { sender: name("a"), receiver: name("b") };
        run(&format!("ip netns add {}", lab.sender));
        run(&format!("ip netns add {}", lab.receiver));
        run(&format!(
            "ip -n {} link add veth-a type veth peer name veth-b netns {}",
            lab.sender, lab.receiver
        ));
        for (namespace, device, host) in [(&lab.sender, "veth-a", 1), (&lab.receiver, "veth-b", 2)] {
            run(&format!("ip netns exec {namespace} sysctl -qw net.ipv6.conf.{device}.accept_dad=0"));
            run(&format!("ip -n {namespace} link set lo up"));
            run(&format!("ip -n {namespace} link set {device} up"));
            run(&format!("ip -n {namespace} addr add 10.77.0.{host}/24 dev {device}"));
            run(&format!("ip -n {namespace} addr add fd77::{host}/64 dev {device} nodad"));
        }
        Some(lab)
    }

    /// Runs `command` in the sender's namespace.
    pub(crate) fn at_sender(&self, command: &str) {
        run(&format!("ip netns exec {} {command}", self.sender));
    }

    /// Runs `command` in the receiver's namespace.
    pub(crate) fn at_receiver(&self, command: &str) {
        run(&format!("ip netns exec {} {command}", self.receiver));
    }

    /// Runs `work` in a thread of that side's namespace.
    pub(crate) fn at<T: Send>(&self, side: Side, work: impl FnOnce() -> T + Send) -> T {
        match side {
            Side::Sender => self.sending(work),
            Side::Receiver => self.receiving(work),
        }
    }

    /// Runs `work` in a thread of the sender's namespace.
    pub(crate) fn sending<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.sender, work)
    }

    /// Runs `work` in a thread of the receiver's namespace.
    pub(crate) fn receiving<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.receiver, work)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.sender, &self.receiver] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

/// Runs a command line (words split at spaces).
///
/// # Panics
/// When it fails.
pub(crate) fn run(command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output().expect("the command can be started");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace exists");
            tcpcopy_net::process::enter_network_namespace(&file).expect("it can be entered");
            work()
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A ring at the receiver that captures `expression`.
pub(crate) fn ring(lab: &Lab, interfaces: &[&str], expression: &str) -> RingCapture {
    ring_with(lab, interfaces, expression, |_| {}, Side::Receiver)
}

/// The same with changed options.
pub(crate) fn ring_with(
    lab: &Lab,
    interfaces: &[&str],
    expression: &str,
    change: impl FnOnce(&mut RingOptions) + Send,
    side: Side,
) -> RingCapture {
    lab.at(side, || {
        let filter = Filter::compile(expression, FilterLink::Ethernet, 262_144).expect("a good filter");
        let mut options = RingOptions::new(filter);
        options.interfaces = interfaces.iter().map(|name| (*name).to_owned()).collect();
        change(&mut options);
        RingCapture::open(&options).expect("a ring")
    })
}

/// A datagram socket of the sender, connected to port 9999 of the receiver.
pub(crate) fn sender_socket(lab: &Lab, to: &str) -> UdpSocket {
    lab.sending(|| {
        let socket =
            UdpSocket::bind(if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" }).expect("a socket");
        socket.connect((to, 9999)).expect("a route");
        socket
    })
}

/// Collects frames until `done` or `timeout`, sleeping as a worker does. Returns the time of each frame's arrival here, too.
pub(crate) fn collect(
    source: &mut dyn PacketSource,
    timeout: Duration,
    mut each: impl FnMut(CapturedFrame<'_>),
    mut done: impl FnMut() -> bool,
) {
    let (mut poller, mut events) = (Poller::new().expect("epoll"), Events::default());
    for (token, fd) in (0u64..).zip(source.wait_fds()) {
        poller.add(fd, token, Interest::Readable).expect("a descriptor to wait on");
    }
    let end = Instant::now() + timeout;
    while !done() {
        source.drain(256, &mut each).expect("capture goes on");
        if source.prepare_wait() == Readiness::Idle {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            poller.wait(Some(left.min(Duration::from_millis(20))), &mut events).expect("waiting works");
        }
    }
}

/// The number at the start of a UDP payload, of a frame with an Ethernet header or (`link_len` 0) without.
pub(crate) fn number_of(frame: &CapturedFrame<'_>, link_len: usize) -> u64 {
    let ip = &frame.data[link_len..];
    let payload = if ip[0] >> 4 == 4 { &ip[28..] } else { &ip[48..] };
    u64::from_be_bytes(payload[..8].try_into().expect("eight bytes"))
}
