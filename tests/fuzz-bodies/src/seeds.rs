//! Seed inputs, made by code: each body's input format written the other way round.
//!
//! `cargo run -p tcpcopy-fuzz-bodies --example make-corpus` writes them to `fuzz/corpus`.

use crate::capture_seeds::capture_file;
use crate::fragments as fragment;
use crate::mysql_seeds::mysql;
use crate::redis::{JOINED, OPTIONS};
use crate::relay::{AFTER_HANDSHAKE, NONCE, PEER, WITH_TOKEN, facts, token};
use crate::session::event::{Event, Segment, Setup};
use std::net::IpAddr;
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::protocol::Bodies;
use tcpcopy_engine::relay::handshake::{ClientHandshake, ServerHandshake};
use tcpcopy_engine::relay::hello::Refusal;
use tcpcopy_engine::relay::message::{
    InterceptStats, Reply, ReplyFlags, RouteRefusal, ToIntercept, ToTcpcopy,
};
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::wire::packet::{OutgoingSegment, write};
use tcpcopy_engine::wire::tcp::{SackBlocks, TcpFlags, TcpOptions, Timestamps};

/// One seed input.
#[derive(Clone, Debug)]
pub struct Seed {
    /// Name of its file.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

pub(crate) fn seed(name: impl Into<String>, bytes: Vec<u8>) -> Seed {
    Seed { name: name.into(), bytes }
}

/// The seeds of a target; none for a name that is no target's.
pub fn seeds_of(target: &str) -> Vec<Seed> {
    match target {
        "capture_file" => capture_file(),
        "wire" => wire(),
        "options" => options(),
        "fragments" => fragments(),
        "relay_client" => relay_client(),
        "relay_server" => relay_server(),
        "transfers" => transfers(),
        "session" => session(),
        "http" => http(),
        "redis" => redis(),
        "mysql" => mysql(),
        _ => Vec::new(),
    }
}

fn v4() -> FlowKey {
    key([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
}

fn v6() -> FlowKey {
    key(IpAddr::from([0xfd00_u16, 0, 0, 0, 0, 0, 0, 1]), IpAddr::from([0xfd00_u16, 0, 0, 0, 0, 0, 0, 2]))
}

fn key(client: IpAddr, target: IpAddr) -> FlowKey {
    FlowKey { client: Endpoint::new(client, 40_000), target: Endpoint::new(target, 80) }
}

fn syn_options() -> TcpOptions {
    TcpOptions {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 1, echo: 0 }),
        ..TcpOptions::default()
    }
}

fn packet(flow: FlowKey, flags: TcpFlags, options: TcpOptions, payload: &[u8]) -> Vec<u8> {
    let segment = OutgoingSegment {
        flow,
        seq: SeqNumber(1000),
        ack: flags.contains(TcpFlags::ACK).then_some(SeqNumber(2000)),
        flags,
        window: 64_000,
        options,
        hop_limit: 64,
        traffic_class: 0,
        identification: 1,
    };
    let mut bytes = Vec::new();
    write(&mut bytes, &segment, [payload, &[]]);
    bytes
}

fn wire() -> Vec<Seed> {
    let data = TcpFlags::PSH | TcpFlags::ACK;
    let timestamps =
        TcpOptions { timestamps: Some(Timestamps { value: 5, echo: 6 }), ..TcpOptions::default() };
    let packets = [
        ("syn-v4", packet(v4(), TcpFlags::SYN, syn_options(), b"")),
        ("data-v4", packet(v4(), data, timestamps, b"GET / HTTP/1.1\r\n\r\n")),
        ("syn-v6", packet(v6(), TcpFlags::SYN, syn_options(), b"")),
        ("data-v6", packet(v6(), data, timestamps, b"PING\r\n")),
        ("extensions-v6", with_extensions(&packet(v6(), data, TcpOptions::default(), b"PING\r\n"))),
        ("options-v4", with_ip_options(&packet(v4(), data, TcpOptions::default(), b"PING\r\n"))),
    ];
    let mut seeds = Vec::new();
    for (name, packet) in packets {
        let ether_type: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
        let family = if packet[0] >> 4 == 4 { 2 } else { 10 };
        // NFLOG: family, version, group; the packet is attribute 9. VXLAN: IPv4, UDP, the header, Ethernet.
        let attribute = (4 + packet.len() as u16).to_le_bytes();
        let outer = (20 + 8 + 8 + 14 + packet.len() as u16).to_be_bytes();
        let vxlan = [
            &[0, 0, 0, 0x45, 0, outer[0], outer[1], 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 8, 10, 0, 0, 9][..],
            &[0xc0, 0, 0x12, 0xb5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 42, 0],
            &[2; 12],
            &ether_type,
        ];
        let headers: [(&str, Vec<u8>); 8] = [
            ("nflog", [&[5, 0, 0, 2, 0, 0, 7][..], &attribute, &[9, 0]].concat()),
            ("vxlan", vxlan.concat()),
            ("raw", vec![0, 0, 0]),
            ("ethernet", [&[1, 0, 0][..], &[2; 12], &ether_type].concat()),
            ("vlans", [&[1, 0, 0][..], &[2; 12], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2], &ether_type].concat()),
            ("null", vec![2, 0, 0, family, 0, 0, 0]),
            ("cooked", [&[3, 0, 0][..], &[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0], &ether_type].concat()),
            ("cooked2", [&[4, 0, 0][..], &ether_type, &[0; 18]].concat()),
        ];
        for (link, header) in headers {
            seeds.push(seed(format!("{name}-{link}"), [&header[..], &packet].concat()));
        }
        seeds.push(seed(format!("{name}-cut"), [&[0, 200, 1][..], &packet[..packet.len() - 4]].concat()));
    }
    seeds
}

/// Hop-by-hop options and a destination options header between the IPv6 and the TCP header.
fn with_extensions(packet: &[u8]) -> Vec<u8> {
    let (header, tcp) = packet.split_at(40);
    let mut header = header.to_vec();
    header[4..6].copy_from_slice(&(tcp.len() as u16 + 16).to_be_bytes());
    header[6] = 0;
    [&header[..], &[60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0], tcp].concat()
}

fn with_ip_options(packet: &[u8]) -> Vec<u8> {
    let (header, tcp) = packet.split_at(20);
    let mut header = header.to_vec();
    header[0] = 0x46;
    header[2..4].copy_from_slice(&(packet.len() as u16 + 4).to_be_bytes());
    [&header[..], &[1, 1, 1, 0], tcp].concat()
}

fn options() -> Vec<Seed> {
    let mut sack = SackBlocks::new();
    for at in 0..4 {
        sack.push(SeqNumber(at * 100), SeqNumber(at * 100 + 50));
    }
    let of = |options: TcpOptions| packet(v4(), TcpFlags::ACK, options, b"")[40..].to_vec();
    let timestamps = Some(Timestamps { value: u32::MAX, echo: 1 });
    vec![
        seed("syn", of(syn_options())),
        seed("timestamps", of(TcpOptions { timestamps, ..TcpOptions::default() })),
        seed("sack", of(TcpOptions { sack, ..TcpOptions::default() })),
        seed("sack-timestamps", of(TcpOptions { sack, timestamps, ..TcpOptions::default() })),
        seed("fast-open-request", vec![34, 2, 1, 1]),
        seed("fast-open-cookie", vec![34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 0]),
        seed("fast-open-experiment", vec![254, 8, 0xf9, 0x89, 1, 2, 3, 4]),
        seed("unknown", vec![1, 30, 4, 0, 0, 19, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        seed("scale-too-large", vec![3, 3, 255, 0]),
        seed("length-too-short", vec![2, 1, 0, 0]),
        seed("length-too-long", vec![8, 40, 0, 0]),
    ]
}

fn fragments() -> Vec<Seed> {
    // A step: kind, flags, identification, offset in eights, length, protocol.
    let step = |flags: u8, id: u8, offset: u16, len: u8| {
        let [low, high] = offset.to_le_bytes();
        [2, flags, id, low, high, len, 0]
    };
    let (more, eights, v6, extra) =
        (fragment::MORE, fragment::EIGHTS, fragment::IPV6, fragment::EXTRA_HEADER);
    let input = |steps: &[[u8; 7]]| [&[255, 16][..], &steps.concat()].concat();
    let mut seeds = Vec::new();
    for (name, flags) in [("v4", 0), ("v6", v6), ("v4-options", extra), ("v6-extension", v6 | extra)] {
        let first = step(flags | more | eights, 1, 0, 10);
        let middle = step(flags | more | eights, 1, 10, 20);
        let last = step(flags, 1, 30, 5);
        seeds.push(seed(format!("{name}-in-order"), input(&[first, middle, last])));
        seeds.push(seed(format!("{name}-reversed"), input(&[last, middle, first])));
        seeds.push(seed(format!("{name}-repeated"), input(&[first, first, last, middle])));
        seeds.push(seed(
            format!("{name}-overlap"),
            input(&[first, step(flags | more | eights, 1, 9, 20), last]),
        ));
        seeds.push(seed(format!("{name}-two"), input(&[first, step(flags | more, 2, 0, 8), last, middle])));
        let waits = [input(&[first, middle]), vec![0, 200], last.to_vec(), first.to_vec()].concat();
        seeds.push(seed(format!("{name}-late"), waits));
        seeds.push(seed(format!("{name}-too-long"), input(&[first, step(flags, 1, 8191, 255)])));
    }
    let many: Vec<[u8; 7]> = (0..64).map(|n| step(more, n, u16::from(n) * 2, 8)).collect();
    seeds.push(seed("full", [&[4, 2][..], &many.concat()].concat()));
    seeds
}

fn relay_client() -> Vec<Seed> {
    let reply = packet(v4(), TcpFlags::SYN | TcpFlags::ACK, syn_options(), b"");
    let reply = Reply { flags: ReplyFlags::EARLY, age_micros: 120, wire_len: 1500, packet: &reply };
    let messages: [(&str, ToTcpcopy<'_>); 6] = [
        ("reply", ToTcpcopy::Reply(reply)),
        ("route-refused-v4", ToTcpcopy::RouteRefused { flow: v4(), reason: RouteRefusal::Owned }),
        ("route-refused-v6", ToTcpcopy::RouteRefused { flow: v6(), reason: RouteRefusal::TableFull }),
        ("pong", ToTcpcopy::Pong { sequence: 1, nanos: 2 }),
        ("stats", ToTcpcopy::Stats(InterceptStats { packets_captured: 9, ..InterceptStats::default() })),
        ("refused", ToTcpcopy::Refused(Refusal::SingleTaken)),
    ];
    let mut seeds = Vec::new();
    let mut all = vec![AFTER_HANDSHAKE, 7];
    for (name, message) in messages {
        let mut bytes = vec![AFTER_HANDSHAKE | WITH_TOKEN, 5];
        message.encode(&mut bytes);
        message.encode(&mut all);
        seeds.push(seed(name, bytes));
    }
    seeds.push(seed("all", all));
    for (name, mode) in [("handshake", 0), ("handshake-token", WITH_TOKEN)] {
        let (_, mut bytes) = handshake(mode);
        bytes.splice(0..0, [mode, 9]);
        ToTcpcopy::Pong { sequence: 3, nanos: 4 }.encode(&mut bytes);
        seeds.push(seed(name, bytes));
    }
    for refusal in [Refusal::Version { highest: 9 }, Refusal::TokenRequired, Refusal::Other(77)] {
        let mut bytes = vec![0, 1];
        refusal.encode(&mut bytes);
        seeds.push(seed(format!("refused-{}", bytes[6]), bytes));
    }
    seeds
}

fn relay_server() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut all = vec![AFTER_HANDSHAKE, 7];
    for (name, message) in [
        ("add-v4", ToIntercept::RouteAdd { flow: v4(), body_limit: 0 }),
        ("add-v6", ToIntercept::RouteAdd { flow: v6(), body_limit: u32::MAX }),
        ("remove-v4", ToIntercept::RouteRemove { flow: v4() }),
        ("ping", ToIntercept::Ping { sequence: 1, nanos: 2 }),
        ("remove-v6", ToIntercept::RouteRemove { flow: v6() }),
    ] {
        let mut bytes = vec![AFTER_HANDSHAKE | WITH_TOKEN, 5];
        message.encode(&mut bytes);
        message.encode(&mut all);
        seeds.push(seed(name, bytes));
    }
    seeds.push(seed("all", all));
    let mut full = vec![AFTER_HANDSHAKE, 0xff];
    for port in 0..12 {
        let mut flow = v4();
        flow.client.port = 1000 + port;
        ToIntercept::RouteAdd { flow, body_limit: port.into() }.encode(&mut full);
    }
    seeds.push(seed("full", full));
    for (name, mode) in [("handshake", 0), ("handshake-token", WITH_TOKEN)] {
        let (mut bytes, _) = handshake(mode);
        bytes.splice(0..0, [mode, 9]);
        ToIntercept::Ping { sequence: 3, nanos: 4 }.encode(&mut bytes);
        seeds.push(seed(name, bytes));
    }
    seeds
}

/// What tcpcopy and what intercept says in a whole handshake.
fn handshake(mode: u8) -> (Vec<u8>, Vec<u8>) {
    let (mut from_tcpcopy, mut from_intercept) = (Vec::new(), Vec::new());
    let mut tcpcopy = ClientHandshake::start(token(mode), PEER, Bodies::Needed, NONCE, &mut from_tcpcopy);
    let mut intercept = ServerHandshake::new(token(mode), NONCE);
    let mut heard = (0, 0);
    for _ in 0..2 {
        // Both sides are honest, so that every step takes all that is there.
        let _ = intercept.handle(&from_tcpcopy[heard.0..], &facts(), &mut from_intercept);
        heard.0 = from_tcpcopy.len();
        let _ = tcpcopy.handle(&from_intercept[heard.1..], &mut from_tcpcopy);
        heard.1 = from_intercept.len();
    }
    (from_tcpcopy, from_intercept)
}

fn transfers() -> Vec<Seed> {
    let lists = [
        ("port", 0, "80-10.0.0.2:8080"),
        ("address", 0, "10.0.0.1:80-10.0.0.2:8080"),
        ("any-address", 0, "0.0.0.0:80-10.0.0.2:8080"),
        ("ipv6", 0, "[fd00::1]:80-[fd00::2]:8080,80-[fd00::2]:8080"),
        ("mac", 0, "80@02:00:00:00:00:01-10.0.0.2:8080@02:00:00:00:00:02"),
        ("several", 0, "80-10.0.0.2:8080, 81 - 10.0.0.3:81"),
        ("twice", 0, "80-10.0.0.2:8080,80-10.0.0.2:8080"),
        ("itself", 0, "10.0.0.1:80-10.0.0.1:80"),
        ("no-port", 0, "80-10.0.0.2"),
        ("broadcast", 0, "80-255.255.255.255:80"),
        ("not-ascii", 0, "80–10.0.0.2:80"),
        ("one", 1, "10.9.9.9"),
        ("class", 1, "10.1.2.x"),
        ("net", 1, "10.3.0.0/16"),
        ("net-31", 1, "10.3.0.4/31"),
        ("net-all", 1, "0.0.0.0/0"),
        ("net-v6", 1, "fd00::/64"),
        ("net-v6-all", 1, "::/0"),
        ("range", 1, "10.3.0.1-10.3.0.9"),
        ("range-v6", 1, "fd00::1-fd00::9"),
        ("list", 1, "10.1.2.x, 10.3.0.0/16 fd00::/64,10.9.9.9"),
        ("last-v6", 1, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/127"),
    ];
    lists.map(|(name, which, list)| seed(name, [&[which][..], list.as_bytes()].concat())).into()
}

const SYN: u8 = 0;
const ACK: u8 = 1;
const DATA: u8 = 2;
const FIN: u8 = 3;
const RESET: u8 = 6;
const SYN_ACK: u8 = 7;
const OFFER: u8 = Segment::MSS | Segment::WINDOW_SCALE | Segment::SACK_PERMITTED | Segment::TIMESTAMPS;

fn captured(who: u8, flags: u8, len: u8) -> Event {
    let options = if flags == SYN { OFFER } else { Segment::TIMESTAMPS };
    Event::Captured(Segment { who, flags, len, window: 250, options, ..Segment::default() })
}

fn returned(flags: u8, len: u8) -> Event {
    let options = if flags == SYN_ACK { OFFER } else { Segment::TIMESTAMPS };
    Event::Returned(Segment { flags, len, window: 250, options, ..Segment::default() })
}

/// So many steps of 5 ms or of 5 s.
const fn millis_5(steps: u16) -> Event {
    Event::Time(steps << 2 | 1)
}

const fn seconds_5(steps: u16) -> Event {
    Event::Time(steps << 2 | 3)
}

fn off(event: Event, seq: i8, ack: i8) -> Event {
    let moved = |segment: Segment| Segment { seq: seq as u8, ack: ack as u8, ..segment };
    match event {
        Event::Captured(segment) => Event::Captured(moved(segment)),
        Event::Returned(segment) => Event::Returned(moved(segment)),
        other => other,
    }
}

fn session() -> Vec<Seed> {
    let handshake =
        || vec![captured(0, SYN, 0), millis_5(1), captured(0, ACK, 0), millis_5(1), returned(SYN_ACK, 0)];
    let exchange = || {
        let mut events = handshake();
        events.extend([captured(0, DATA, 80), returned(ACK, 0), returned(DATA, 120), millis_5(4)]);
        // The client has read the response: it acknowledges and asks on.
        events.extend([
            off(captured(0, DATA, 90), 0, 60),
            off(captured(0, DATA, 10), 0, 60),
            returned(DATA, 120),
        ]);
        events
    };
    let after = |mut events: Vec<Event>, more: &[Event]| {
        events.extend_from_slice(more);
        events
    };
    let with_who = |who: u8, flags: u8, len: u8| captured(who, flags, len);
    let large = 220;
    let scripts: Vec<(&str, Vec<Event>)> = vec![
        (
            "closed-by-client",
            after(exchange(), &[captured(0, FIN, 0), returned(ACK, 0), returned(FIN, 0), millis_5(9)]),
        ),
        (
            "closed-by-target",
            after(exchange(), &[returned(FIN, 0), captured(0, DATA, 30), returned(SYN_ACK, 0)]),
        ),
        ("closed-by-target-again", {
            let next = [
                captured(0, DATA, 30),
                returned(SYN_ACK, 0),
                returned(DATA, 50),
                returned(FIN, 0),
                millis_5(1),
            ];
            after(
                exchange(),
                &[vec![returned(ACK, 0), returned(FIN, 0)], next.to_vec(), next.to_vec(), next.into()]
                    .concat(),
            )
        }),
        ("reset-by-client", after(exchange(), &[captured(0, RESET, 0)])),
        (
            "reset-by-target",
            after(exchange(), &[captured(0, DATA, 50), returned(RESET, 0), returned(SYN_ACK, 0)]),
        ),
        ("refused", vec![captured(0, SYN, 0), captured(0, DATA, 9), returned(RESET, 0), seconds_5(2)]),
        ("no-answer", vec![captured(0, SYN, 0), captured(0, DATA, 9), seconds_5(40)]),
        ("stalled", after(exchange(), &[captured(0, DATA, 150), seconds_5(200)])),
        ("idle", after(exchange(), &[Event::Time(0xffff)])),
        ("gap", after(exchange(), &[off(captured(0, DATA, 50), 20, 0), seconds_5(1), captured(0, DATA, 50)])),
        ("reordered", after(exchange(), &[off(captured(0, DATA, 50), 50, 0), captured(0, DATA, 50)])),
        (
            "repeated",
            after(exchange(), &[off(captured(0, DATA, 60), -60, 0), off(captured(0, DATA, 60), -30, 0)]),
        ),
        ("cut", after(exchange(), &[with_who(Segment::CUT, DATA, 150), seconds_5(1), captured(0, DATA, 20)])),
        ("fragmented", after(exchange(), &[with_who(Segment::FRAGMENTED, DATA, 150), returned(ACK, 0)])),
        (
            "merged",
            after(exchange(), &[captured(0, DATA, large), returned(ACK, 0), captured(0, DATA, large)]),
        ),
        ("fast-retransmit", {
            let ack = off(returned(ACK, 0), 0, -64);
            after(
                exchange(),
                &[captured(0, DATA, large), ack.clone(), ack.clone(), ack.clone(), ack, millis_5(100)],
            )
        }),
        ("zero-window", {
            let mut shut = Segment { flags: ACK, ..Segment::default() };
            shut.options = Segment::TIMESTAMPS;
            after(
                exchange(),
                &[Event::Returned(shut), captured(0, DATA, large), seconds_5(5), returned(ACK, 0)],
            )
        }),
        ("old-timestamp", {
            let options = Segment::TIMESTAMPS | Segment::OLD_TIMESTAMP;
            let old = Segment { flags: DATA, len: 40, window: 9, options, ..Segment::default() };
            after(exchange(), &[Event::Returned(old)])
        }),
        ("extreme-options", {
            let syn_ack = Segment { flags: SYN_ACK, options: 0x7f, window: 255, ..Segment::default() };
            vec![captured(0, SYN, 0), Event::Returned(syn_ack), captured(0, DATA, large), returned(ACK, 0)]
        }),
        (
            "mid-stream",
            vec![captured(1, ACK, 0), captured(1, DATA, 50), returned(SYN_ACK, 0), captured(1, DATA, 40)],
        ),
        ("fast-open", vec![captured(0, SYN, 40), returned(SYN_ACK, 0), captured(0, DATA, 40)]),
        (
            "port-used-again",
            after(exchange(), &[captured(0, SYN, 0), captured(0, DATA, 7), returned(SYN_ACK, 0)]),
        ),
        ("route-refused", after(exchange(), &[Event::RouteRefused(0), captured(0, DATA, 40)])),
        (
            "packet-too-big",
            after(exchange(), &[captured(0, DATA, large), Event::PacketTooBig(0, 600), millis_5(99)]),
        ),
        ("path-mtu", [vec![Event::PathMtu(700)], exchange(), vec![captured(0, DATA, large)]].concat()),
        ("send-failures", after(exchange(), &[Event::SendFailures(3), captured(0, DATA, 150), millis_5(99)])),
        ("several-clients", {
            let mut events = Vec::new();
            for who in [0, 1, 2, 3, 4 * 6, 1 + 4 * 6, 2 + 4 * 7] {
                events.extend([captured(who, SYN, 0), captured(who, DATA, 60), returned(SYN_ACK, 0)]);
            }
            after(events, &[captured(0, DATA, large), captured(1, DATA, large), seconds_5(9)])
        }),
        (
            "transmit-late",
            after(exchange(), &[captured(0, DATA, large), Event::Transmit(1), Event::Transmit(0)]),
        ),
        ("raw", {
            let frame = packet(v4(), TcpFlags::SYN, syn_options(), b"");
            vec![Event::Frame(0, frame.clone()), Event::Reply(frame)]
        }),
    ];
    let setups = [
        ("", Setup::default()),
        ("-v6", Setup { flags: Setup::IPV6, ..Setup::default() }),
        ("-pool", Setup { flags: Setup::POOL | Setup::PACED, copies: 2, ..Setup::default() }),
        (
            "-small",
            Setup { flags: Setup::LAZY, copies: 1, limits: 2 | 2 << 2 | 1 << 4 | 1 << 6, ..Setup::default() },
        ),
        ("-whole", Setup { flags: Setup::WHOLE_ONLY | Setup::BODIES, factor: 3, ..Setup::default() }),
    ];
    let mut seeds = Vec::new();
    for (name, events) in scripts {
        for (suffix, setup) in setups {
            let mut bytes = vec![setup.flags, setup.copies, setup.limits, setup.factor];
            for event in &events {
                event.encode(&mut bytes);
            }
            seeds.push(seed(format!("{name}{suffix}"), bytes));
        }
    }
    seeds
}

/// Exchanges of HTTP, in the format of the body.
fn http() -> Vec<Seed> {
    use crate::http::{BAD_DROPPED, MID_STREAM, WITH_CREDENTIALS, WITH_GAP, WITH_LOSS, WITH_RULES};
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let make = |name: &str, mode: u8, piece: u8, client: &str, target: &str| {
        let mut bytes = vec![mode, piece];
        bytes.extend_from_slice(&(client.len() as u16).to_be_bytes());
        bytes.extend_from_slice(client.as_bytes());
        bytes.extend_from_slice(target.as_bytes());
        seed(name, bytes)
    };
    let get = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    let chunked = "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nA: b\r\n\r\n";
    let expect = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello";
    let upgrade = "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\u{1}frames";
    let login = "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGET /?csrf=b HTTP/1.1\r\nCookie: a=b\r\n\r\n";
    let issue = "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"token\":\"b\"}";
    vec![
        make("pipelined", 0, 9, &get.repeat(3), &ok.repeat(3)),
        make(
            "chunked",
            WITH_LOSS,
            7,
            &(chunked.to_owned() + get),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        make("rules", WITH_RULES | WITH_GAP, 11, &(chunked.to_owned() + get), ok),
        make("expect", 0, 16, expect, &("HTTP/1.1 100 Continue\r\n\r\n".to_owned() + ok)),
        make(
            "expect-refused",
            BAD_DROPPED,
            16,
            &(expect.to_owned() + get),
            "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n",
        ),
        make("upgrade", 0, 40, upgrade, "HTTP/1.1 101 Switching\r\n\r\n\u{1}frames"),
        make("upgrade-refused", WITH_LOSS, 40, upgrade, ok),
        make("connect", 0, 40, "CONNECT a:1 HTTP/1.1\r\n\r\nabc", "HTTP/1.0 200 OK\r\n\r\n"),
        make("preface", 0, 5, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        make("credentials", WITH_CREDENTIALS, 30, login, &issue.repeat(2)),
        make(
            "joined",
            MID_STREAM | WITH_RULES,
            10,
            &format!("rest\r\n{get}\r\n{get}"),
            "HTTP/1.0 200 OK\r\n\r\nend",
        ),
        make("bad", BAD_DROPPED, 10, "GET / HTTP/1.1\r\nA : b\r\n\r\n", "nonsense"),
        make(
            "folded",
            0,
            3,
            "GET / HTTP/1.1\nA: b\n c\nContent-Length: 1, 1\n\nx",
            "HTTP/1.1 204\nA : b\n\n",
        ),
    ]
}

fn redis() -> Vec<Seed> {
    let scripts: [(&str, &str, &str); 8] = [
        ("get", "*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "$-1\r\n"),
        (
            "pipeline",
            "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*1\r\n$4\r\nPING\r\nDEL a\r\n*1\r\n$8\r\nFLUSHALL\r\n",
            "+OK\r\n+PONG\r\n:1\r\n",
        ),
        (
            "subscribe",
            "SUBSCRIBE a b\r\nUNSUBSCRIBE\r\n",
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n",
        ),
        ("transaction", "MULTI\r\nSELECT 1\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"),
        (
            "resp3",
            "HELLO 3 AUTH a b\r\nCLIENT REPLY SKIP\r\nGET a\r\n",
            "%1\r\n+proto\r\n:3\r\n|1\r\n+a\r\n,1.5\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n~2\r\n#t\r\n_\r\n",
        ),
        (
            "streamed",
            "EVAL x 1 a\r\n",
            "*?\r\n$?\r\n;2\r\nab\r\n;0\r\n.\r\n(123\r\n=7\r\ntxt:abc\r\n!3\r\nERR\r\n",
        ),
        ("monitor", "MONITOR\r\nQUIT\r\nGET a\r\n", "+OK\r\n+1.5 [0 a] \"x\"\r\n-MOVED 1 a:1\r\n"),
        ("keys", "*4\r\n$4\r\nMGET\r\n$1\r\na\r\n$6\r\nsecret\r\n$1\r\nb\r\nEVAL x 1 a\r\n", "*0\r\n"),
    ];
    let mut seeds = Vec::new();
    for (name, requests, replies) in scripts {
        // Rounded up, so that the client's part ends where it should.
        let share = (requests.len() * 256).div_ceil(requests.len() + replies.len()).min(255) as u8;
        for (suffix, flags) in [("", 0), ("-joined", JOINED), ("-options", OPTIONS)] {
            let bytes = [&[flags, 7, share], requests.as_bytes(), replies.as_bytes()].concat();
            seeds.push(seed(format!("{name}{suffix}"), bytes));
        }
    }
    seeds
}
