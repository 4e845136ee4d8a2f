//! Two hosts in network namespaces: the assistant, where a real intercept runs, and a target that replies are sent from.
//!
//! The test itself stands on the target, so that its relay connections reach the assistant over the same link.

use socket2::{Domain, Protocol, Socket, Type};
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::protocol::Bodies;
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::wire::packet::{OutgoingSegment, write};
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpOptions};
use tcpcopy_net::clock;
use tcpcopy_net::poll::{Events, Poller};
use tcpcopy_relay::{RelayClients, RelayEvent, RelayOptions};

pub(crate) const PORT: u16 = 36524;
pub(crate) const ASSISTANT: &str = "10.77.0.2";
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Whether there can be a lab; without one the test says that it was skipped, or fails if it must not be.
pub(crate) fn is_possible() -> bool {
    let is_root = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t0")));
    if !is_root {
        assert!(
            std::env::var("TCPCOPY_REQUIRE_LAB").as_deref() != Ok("1"),
            "TCPCOPY_REQUIRE_LAB=1, but network namespaces need root"
        );
        eprintln!("skipped: network namespaces need root");
    }
    is_root
}

pub(crate) struct Lab {
    assistant: String,
    target: String,
    child: Option<Child>,
    directory: PathBuf,
}

fn run(command: &str) {
    let output = Command::new("sh").args(["-ec", command]).output().expect("sh starts");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Lab {
    pub(crate) fn new() -> Self {
        let name = format!("relay-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&directory).unwrap();
        let lab =
            Self { assistant: format!("{name}-a"), target: format!("{name}-t"), child: None, directory };
        let (a, t) = (&lab.assistant, &lab.target);
        run(&format!(
            "ip netns add {a}; ip netns add {t}
             ip -n {t} link add relay0 type veth peer name relay0 netns {a}
             ip -n {t} addr add 10.77.0.1/24 dev relay0; ip -n {t} addr add fd77::1/64 dev relay0 nodad
             ip -n {a} addr add 10.77.0.2/24 dev relay0; ip -n {a} addr add fd77::2/64 dev relay0 nodad
             for ns in {a} {t}; do ip -n $ns link set lo up; ip -n $ns link set relay0 up; done
             ip -n {t} route add 198.51.100.0/24 via 10.77.0.2; ip -n {t} route add 2001:db8:5::/64 via fd77::2
             ip netns exec {a} sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'"
        ));
        let namespace = File::open(format!("/run/netns/{t}")).unwrap();
        tcpcopy_net::process::enter_network_namespace(&namespace).unwrap();
        lab
    }

    pub(crate) fn on_assistant(&self, command: &str) {
        run(&format!("ip netns exec {} {command}", self.assistant));
    }

    /// Starts intercept, or starts it again, and waits until it listens.
    pub(crate) fn start(&mut self, arguments: &[&str]) {
        self.stop();
        let log = File::create(self.directory.join("log")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.assistant, env!("CARGO_BIN_EXE_intercept")])
            .args(["--stats-interval", "1", "--stats-json"])
            .arg(self.directory.join("stats.json"))
            .args(arguments)
            .env_remove("TCPCOPY_TOKEN")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.log().contains("; listening on") {
            assert!(Instant::now() < deadline, "intercept did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends intercept with SIGTERM, and returns its closing statistics.
    pub(crate) fn stop(&mut self) -> serde_json::Value {
        let Some(mut child) = self.child.take() else { return serde_json::Value::Null };
        run(&format!("kill -TERM {}", child.id()));
        let status = child.wait().unwrap();
        assert!(status.success(), "intercept ended with {status}: {}", self.log());
        let text = std::fs::read(self.directory.join("stats.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// The sockets that intercept captures with, by their number in the kernel.
    pub(crate) fn packet_sockets(&self) -> Vec<String> {
        let id = self.child.as_ref().unwrap().id();
        let table = std::fs::read_to_string(format!("/proc/{id}/net/packet")).unwrap();
        let mut sockets: Vec<String> = table
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().last())
            .map(str::to_owned)
            .collect();
        sockets.sort_unstable();
        sockets
    }

    /// CPU time that intercept has used.
    pub(crate) fn cpu_time(&self) -> Duration {
        let id = self.child.as_ref().unwrap().id();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of intercept ---\n{}", self.log());
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in [&self.assistant, &self.target] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A flow of the client with that port, over IPv4.
pub(crate) fn flow(client_port: u16) -> FlowKey {
    FlowKey {
        client: "198.51.100.5".parse().map(|addr: IpAddr| Endpoint::new(addr, client_port)).unwrap(),
        target: "10.77.0.1".parse().map(|addr: IpAddr| Endpoint::new(addr, 80)).unwrap(),
    }
}

/// The same over IPv6.
pub(crate) fn flow_v6(client_port: u16) -> FlowKey {
    FlowKey {
        client: "2001:db8:5::5".parse().map(|addr: IpAddr| Endpoint::new(addr, client_port)).unwrap(),
        target: "fd77::1".parse().map(|addr: IpAddr| Endpoint::new(addr, 80)).unwrap(),
    }
}

/// A reply packet of a flow.
pub(crate) fn reply_packet(flow: FlowKey, seq: u32, body: &[u8]) -> Vec<u8> {
    let segment = OutgoingSegment {
        flow: FlowKey { client: flow.target, target: flow.client },
        seq: SeqNumber(seq),
        ack: Some(SeqNumber(1)),
        flags: TcpFlags::PSH,
        window: 1000,
        options: TcpOptions::default(),
        hop_limit: 64,
        traffic_class: 0,
        identification: 1,
    };
    let mut packet = Vec::new();
    write(&mut packet, &segment, [body, &[]]);
    packet
}

/// Sends packets of the target on their way to one client, which leads to the assistant.
pub(crate) struct RawSender {
    socket: Socket,
    address: SocketAddr,
}

impl RawSender {
    pub(crate) fn new(client: Endpoint) -> Self {
        let address = SocketAddr::new(client.addr, 0);
        let protocol = Some(Protocol::from(libc::IPPROTO_RAW));
        Self { socket: Socket::new(Domain::for_address(address), Type::RAW, protocol).unwrap(), address }
    }

    pub(crate) fn send(&self, packet: &[u8]) {
        assert_eq!(self.socket.send_to(packet, &self.address.into()).unwrap(), packet.len());
    }
}

pub(crate) fn send_packet(packet: &[u8], client: Endpoint) {
    RawSender::new(client).send(packet);
}

pub(crate) fn send_reply(flow: FlowKey, seq: u32, body: &[u8]) {
    send_packet(&reply_packet(flow, seq, body), flow.client);
}

/// One worker of a tcpcopy, as far as the relay goes.
pub(crate) struct Client {
    pub(crate) relay: RelayClients,
    poller: Poller,
    events: Events,
    /// Packet and wire length of each reply.
    pub(crate) replies: Vec<(Vec<u8>, usize)>,
    /// The longest time that intercept had one of them.
    pub(crate) longest_age: Duration,
    pub(crate) refused: Vec<FlowKey>,
    pub(crate) connected: usize,
    pub(crate) interfaces: String,
    pub(crate) errors: Vec<String>,
    pub(crate) resent: usize,
    pub(crate) flows: Vec<(FlowKey, u32)>,
}

impl Client {
    pub(crate) fn new(instance: u8, connections: u16, token: Option<&str>) -> Self {
        Self::foreseeing(Bodies::NotNeeded, instance, connections, token)
    }

    /// One that says at once whether its routes will ask for bodies.
    pub(crate) fn foreseeing(bodies: Bodies, instance: u8, connections: u16, token: Option<&str>) -> Self {
        let relay = RelayClients::new(RelayOptions {
            servers: vec![Endpoint::new(ASSISTANT.parse().unwrap(), PORT)],
            connections_per_server: connections,
            token: token.map(|token| token.as_bytes().to_vec()),
            bodies,
            instance: [instance; 16],
            worker: 0,
            first_token: 100,
        });
        let poller = Poller::new().unwrap();
        let mut client = Self {
            relay,
            poller,
            events: Events::default(),
            replies: Vec::new(),
            longest_age: Duration::ZERO,
            refused: Vec::new(),
            connected: 0,
            interfaces: String::new(),
            errors: Vec::new(),
            resent: 0,
            flows: Vec::new(),
        };
        client.relay.start(&client.poller, clock::monotonic());
        client
    }

    /// Connects, and waits until all connections are up.
    pub(crate) fn connected(instance: u8, connections: u16, token: Option<&str>) -> Self {
        let mut client = Self::new(instance, connections, token);
        client.connect(connections);
        client
    }

    /// Waits until all connections are up.
    pub(crate) fn connect(&mut self, connections: u16) {
        self.run_until("connected", |client| {
            client.relay.statistics()[0].connected == usize::from(connections)
        });
    }

    pub(crate) fn add(&mut self, flow: FlowKey, body_limit: u32) {
        self.flows.push((flow, body_limit));
        self.relay.add_route(flow, body_limit);
    }

    /// One turn of what a worker does.
    pub(crate) fn turn(&mut self) {
        self.relay.flush(&self.poller, clock::monotonic());
        self.poller.wait(Some(Duration::from_millis(5)), &mut self.events).unwrap();
        let now = clock::monotonic();
        let events: Vec<_> = self.events.iter().collect();
        for event in events {
            self.relay.handle_event(event, &self.poller, now);
        }
        self.relay.handle_timeout(now, &self.poller);
        let Self { relay, replies, longest_age, refused, connected, interfaces, errors, .. } = self;
        relay.drain(now, &mut |event| match event {
            RelayEvent::Reply { packet, wire_len, age } => {
                replies.push((packet.to_vec(), wire_len));
                *longest_age = age.max(*longest_age);
            }
            RelayEvent::RouteRefused(flow) => refused.push(flow),
            RelayEvent::Connected { facts, .. } => {
                *connected += 1;
                interfaces.clone_from(&facts.interfaces);
            }
            RelayEvent::Disconnected { error, .. } => errors.push(error.to_string()),
            RelayEvent::ServerStats { .. } => {}
        });
        while let Some(server) = self.relay.missing_routes() {
            self.resent += self.flows.len();
            self.relay.resend_routes(server, self.flows.iter().copied());
        }
        self.relay.flush(&self.poller, clock::monotonic());
    }

    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.turn();
        }
    }

    pub(crate) fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done(self) {
            assert!(Instant::now() < deadline, "not {what} in time; errors: {:?}", self.errors);
            self.turn();
        }
    }

    /// Waits until that many replies have come, and takes them.
    pub(crate) fn take_replies(&mut self, count: usize) -> Vec<(Vec<u8>, usize)> {
        self.run_until("replied", |client| client.replies.len() >= count);
        std::mem::take(&mut self.replies)
    }

    /// Makes sure that what was queued has been handled by intercept: it answers pings in order.
    pub(crate) fn settle(&mut self) {
        self.run_for(Duration::from_millis(100));
    }
}
