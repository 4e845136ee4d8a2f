//! A real intercept on an assistant of its own: replies go in as packets, and come out of the relay.

mod lab;

use lab::{ASSISTANT, Client, Lab, PORT, flow, flow_v6, reply_packet, send_packet, send_reply};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tcpcopy_engine::protocol::Bodies;

const FILTER: &str = "tcp and src port 80";

#[test]
fn headers_alone_unless_bodies_are_asked_for() {
    if !lab::is_possible() {
        return;
    }
    for capture in [&["-i", "relay0"][..], &["-i", "relay0", "--pcap-capture"], &[]] {
        let mut lab = Lab::new();
        lab.start(&[&["--no-auth"], capture].concat());
        let mut client = Client::connected(1, 1, None);
        let body = vec![b'x'; 1200];
        for flow in [flow(1001), flow_v6(1002)] {
            client.add(flow, 0);
            client.settle();
            send_reply(flow, 1, &body);
            let whole = reply_packet(flow, 1, &body);
            let replies = client.take_replies(1);
            let headers = whole.len() - body.len();
            assert_eq!(replies, [(whole[..headers].to_vec(), whole.len())], "{flow} {capture:?}");
        }
        for flow in [flow(1003), flow_v6(1004)] {
            client.add(flow, 1000);
            client.settle();
            send_reply(flow, 1, &body);
            let whole = reply_packet(flow, 1, &body);
            let replies = client.take_replies(1);
            assert_eq!(replies, [(whole[..whole.len() - 200].to_vec(), whole.len())], "{flow} {capture:?}");
        }
        client.relay.remove_route(flow(1003));
        client.settle();
        send_reply(flow(1003), 2, &body);
        client.run_for(Duration::from_millis(700));
        assert_eq!(client.replies, []);
        let stats = lab.stop();
        assert_eq!(stats["replies_relayed"], 4, "{stats}");
        assert_eq!(stats["replies_without_route"], 1, "{stats}");
        assert_eq!(stats["kernel_drops"], 0, "{stats}");
    }
}

#[test]
fn a_first_wish_for_bodies_stops_no_replies() {
    if !lab::is_possible() {
        return;
    }
    for capture in [&["-i", "relay0"][..], &[]] {
        let mut lab = Lab::new();
        lab.start(&[&["--no-auth", "-F", FILTER], capture].concat());
        let mut client = Client::connected(1, 1, None);
        client.add(flow(1500), 0);
        client.settle();
        let before = lab.packet_sockets();
        let body = [b'x'; 1200];
        let count = 10_000;
        let sender = lab::RawSender::new(flow(1500).client);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for seq in 0..count {
                    sender.send(&reply_packet(flow(1500), seq, &body));
                    std::thread::sleep(Duration::from_micros(50));
                }
            });
            client.run_until("under way", |client| client.replies.len() > 1000);
            client.add(flow(1501), 2000);
            client.run_until("all there", |client| client.replies.len() as u32 >= count);
        });
        let numbers =
            client.replies.iter().map(|(packet, _)| u32::from_be_bytes(packet[24..28].try_into().unwrap()));
        assert!(numbers.eq(0..count), "each once and in order {capture:?}");
        eprintln!("longest time in intercept {capture:?}: {:?}", client.longest_age);
        client.replies.clear();
        send_reply(flow(1501), 1, &body);
        assert_eq!(client.take_replies(1)[0].0, reply_packet(flow(1501), 1, &body));
        assert_eq!(lab.packet_sockets(), before, "nothing was opened anew {capture:?}");
        assert_eq!(lab.stop()["kernel_drops"], 0);
    }
}

#[test]
fn replies_are_whole_from_the_start_where_bodies_are_foreseen_and_short_again_when_nobody_is_there() {
    if !lab::is_possible() {
        return;
    }
    let body = [b'x'; 1200];
    for capture in [&["-i", "relay0"][..], &["-i", "relay0", "--pcap-capture"], &[]] {
        let mut lab = Lab::new();
        lab.start(&[&["--no-auth", "-F", FILTER], capture].concat());
        let mut client = Client::foreseeing(Bodies::Needed, 1, 2, None);
        client.connect(2);
        // Before its route, so that no route can have asked for the body.
        send_reply(flow(1600), 1, &body);
        client.run_for(Duration::from_millis(50));
        client.add(flow(1600), 2000);
        assert_eq!(client.take_replies(1)[0].0, reply_packet(flow(1600), 1, &body), "{capture:?}");
        if capture.contains(&"--pcap-capture") {
            // It stays as it is: another change would open it anew.
            continue;
        }
        // The route would outlive the connection.
        client.relay.remove_route(flow(1600));
        client.settle();
        drop(client);
        let mut client = Client::connected(2, 1, None);
        client.run_for(Duration::from_secs(11));
        // What arrives makes intercept look, and this one is still whole.
        send_reply(flow(1601), 1, &body);
        client.run_for(Duration::from_millis(50));
        send_reply(flow(1601), 2, &body);
        client.run_for(Duration::from_millis(50));
        client.add(flow(1601), 2000);
        let replies = client.take_replies(2);
        assert!(replies[1].0.len() < 400, "{} bytes {capture:?}", replies[1].0.len());
        send_reply(flow(1601), 3, &body);
        assert_eq!(client.take_replies(1)[0].0, reply_packet(flow(1601), 3, &body), "{capture:?}");
        assert_eq!(lab.stop()["kernel_drops"], 0);
    }
}

#[test]
fn a_reply_that_overtakes_its_route_is_kept() {
    if !lab::is_possible() {
        return;
    }
    let mut lab = Lab::new();
    lab.start(&["--no-auth", "-F", FILTER]);
    let mut client = Client::connected(1, 2, None);
    for seq in 1..=3 {
        send_reply(flow(2000), seq, b"early");
    }
    client.run_for(Duration::from_millis(50));
    client.add(flow(2000), 4);
    let replies = client.take_replies(3);
    for (seq, (packet, _)) in (1..).zip(&replies) {
        let whole = reply_packet(flow(2000), seq, b"early");
        assert_eq!(packet, &whole[..whole.len() - 1]);
    }
    send_reply(flow(2001), 1, b"late");
    client.run_for(Duration::from_millis(800));
    client.add(flow(2001), 4);
    client.run_for(Duration::from_millis(100));
    assert_eq!(client.replies, []);
    let stats = lab.stop();
    assert_eq!((&stats["replies_early"], &stats["replies_without_route"]), (&3.into(), &1.into()), "{stats}");
}

#[test]
fn instances_get_their_own_replies_and_none_of_others() {
    if !lab::is_possible() {
        return;
    }
    let mut lab = Lab::new();
    lab.start(&["--no-auth"]);
    let (mut one, mut two) = (Client::connected(1, 2, None), Client::connected(2, 1, None));
    assert_eq!(one.interfaces, "every interface");
    for port in 3000..3020 {
        one.add(flow(port), 0);
        two.add(flow(port + 100), 0);
    }
    one.settle();
    two.add(flow(3000), 0);
    two.settle();
    assert_eq!(two.refused, [flow(3000)], "a live instance keeps its flows");
    for port in 3000..3020 {
        send_reply(flow(port), port.into(), b"one");
        send_reply(flow(port + 100), port.into(), b"two");
    }
    let (ones, twos) = (one.take_replies(20), two.take_replies(20));
    let ports = |replies: &[(Vec<u8>, usize)]| {
        let mut ports: Vec<u16> =
            replies.iter().map(|(packet, _)| u16::from_be_bytes([packet[22], packet[23]])).collect();
        ports.sort_unstable();
        ports
    };
    assert_eq!(ports(&ones), (3000..3020).collect::<Vec<u16>>());
    assert_eq!(ports(&twos), (3100..3120).collect::<Vec<u16>>());

    // An instance that is gone loses its flows to whoever asks.
    drop(one);
    two.settle();
    two.add(flow(3000), 0);
    two.settle();
    send_reply(flow(3000), 1, b"two");
    assert_eq!(ports(&two.take_replies(1)), [3000]);
}

#[test]
fn connections_and_intercept_may_come_and_go() {
    if !lab::is_possible() {
        return;
    }
    let mut lab = Lab::new();
    lab.start(&["--no-auth"]);
    let mut client = Client::connected(1, 1, None);
    client.add(flow(4000), 0);
    client.settle();
    // The same worker comes back on another connection and says nothing: its routes are still there.
    drop(client);
    let mut client = Client::connected(1, 1, None);
    send_reply(flow(4000), 1, b"");
    client.take_replies(1);
    // Intercept itself is started again: the routes are sent once more.
    client.flows.push((flow(4000), 0));
    lab.stop();
    client.run_for(Duration::from_millis(300));
    assert!(!client.relay.is_any_ready() && !client.errors.is_empty());
    assert!(client.relay.start_failure().is_none(), "it had been reached");
    lab.start(&["--no-auth"]);
    client.run_until("connected again", |client| client.relay.is_ready());
    client.settle();
    assert_eq!((client.connected, client.resent), (2, 1));
    send_reply(flow(4000), 2, b"");
    client.take_replies(1);
    let statistics = &client.relay.statistics()[0];
    assert_eq!((statistics.lost, statistics.reconnects), (1, 1));
    assert!(statistics.round_trip.is_some_and(|time| time < Duration::from_secs(1)), "{statistics:?}");
}

#[test]
fn garbage_and_silence_on_the_port_disturb_nobody() {
    if !lab::is_possible() {
        return;
    }
    let mut lab = Lab::new();
    lab.start(&["--no-auth"]);
    let mut client = Client::connected(1, 1, None);
    client.add(flow(5000), 0);
    for garbage in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0x01, 0xff, 0xff, 0xff], &[0x20, 0, 0, 0], &[0; 4096]] {
        let mut stream = TcpStream::connect((ASSISTANT, PORT)).unwrap();
        let _ = stream.write_all(garbage);
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut answer = Vec::new();
        // Whether by an end or by a reset: the connection is closed at once, not by the time limit.
        let start = Instant::now();
        let _ = stream.read_to_end(&mut answer);
        assert!(start.elapsed() < Duration::from_secs(2), "{garbage:?}");
    }
    // More silent connections than are tolerated: the oldest make room for those who speak.
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect((ASSISTANT, PORT)).unwrap()).collect();
    let mut late = Client::connected(2, 1, None);
    late.add(flow(5001), 0);
    late.settle();
    client.settle();
    send_reply(flow(5000), 1, b"");
    send_reply(flow(5001), 1, b"");
    client.take_replies(1);
    late.take_replies(1);
    client.run_for(Duration::from_millis(5500));
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut answer = Vec::new();
        assert!(stream.read_to_end(&mut answer).is_ok(), "closed by the time limit");
        assert_eq!(answer[0], 0x05, "told why");
    }
    assert!(client.relay.is_ready() && client.errors.is_empty(), "{:?}", client.errors);
    let warnings = lab.log().lines().filter(|line| line.contains("WARN")).count();
    assert!((4..15).contains(&warnings), "{warnings} warnings");
    let stats = lab.stop();
    assert_eq!(stats["peers_refused"], 104, "{stats}");
}

#[test]
fn tokens_decide_who_is_served() {
    if !lab::is_possible() {
        return;
    }
    let mut lab = Lab::new();
    let file = std::env::temp_dir().join(format!("relay-token-{}", std::process::id()));
    std::fs::write(&file, "right\n").unwrap();
    lab.start(&["--token-file", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    let mut right = Client::connected(1, 1, Some("right"));
    for (token, error, hint) in
        [(Some("wrong"), "token is wrong", "same token"), (None, "requires a token", "--token-file")]
    {
        let mut client = Client::new(2, 1, token);
        client.run_until("refused", |client| client.relay.start_failure().is_some());
        let failure = client.relay.start_failure().unwrap().remove(0);
        assert!(failure.error.contains(error), "{failure:?}");
        assert!(failure.hint.contains(hint), "{failure:?}");
        client.run_for(Duration::from_secs(1));
        assert_eq!(client.errors.len(), 1, "no point in trying again soon");
    }
    right.add(flow(6000), 0);
    right.settle();
    send_reply(flow(6000), 1, b"");
    right.take_replies(1);
    assert_eq!(lab.stop()["peers_refused"], 2);

    // The other way round: who has a token does not trust an intercept without one.
    lab.start(&["--no-auth"]);
    let mut client = Client::new(3, 1, Some("right"));
    client.run_until("refused", |client| client.relay.start_failure().is_some());
    assert!(client.relay.start_failure().unwrap()[0].error.contains("has no token"));
    // And without token or --no-auth, only loopback is served.
    lab.start(&[]);
    let mut client = Client::new(3, 1, None);
    client.run_until("refused", |client| client.relay.start_failure().is_some());
    assert!(client.relay.start_failure().unwrap()[0].hint.contains("--no-auth"));
}

#[test]
fn an_idle_intercept_uses_no_processor_time() {
    if !lab::is_possible() {
        return;
    }
    let mut lab = Lab::new();
    lab.start(&["--no-auth"]);
    let mut client = Client::connected(1, 4, None);
    client.add(flow(7000), 0);
    client.settle();
    let before = lab.cpu_time();
    client.run_for(Duration::from_secs(3));
    let used = lab.cpu_time() - before;
    assert!(used <= Duration::from_millis(30), "{used:?} in three seconds");
}

#[test]
fn fragments_are_put_together() {
    if !lab::is_possible() {
        return;
    }
    let mut lab = Lab::new();
    lab.start(&["--no-auth"]);
    let mut client = Client::connected(1, 1, None);
    client.add(flow(8000), 4000);
    client.settle();
    let body: Vec<u8> = (0..3000u32).map(|i| i as u8).collect();
    let whole = reply_packet(flow(8000), 1, &body);
    for (index, piece) in whole[20..].chunks(1000).enumerate() {
        let mut fragment = whole[..20].to_vec();
        let more = if (index + 1) * 1000 < whole.len() - 20 { 0x2000 } else { 0 };
        fragment[6..8].copy_from_slice(&(more | (index as u16 * 125)).to_be_bytes());
        fragment.extend_from_slice(piece);
        // Length and checksum of the header are filled in by the kernel.
        send_packet(&fragment, flow(8000).client);
    }
    let replies = client.take_replies(1);
    assert_eq!(replies[0].1, whole.len());
    assert_eq!(replies[0].0[20..], whole[20..]);
}

#[test]
fn a_single_tcpcopy_needs_no_routes() {
    if !lab::is_possible() {
        return;
    }
    let mut lab = Lab::new();
    lab.on_assistant("sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'");
    lab.start(&["--no-auth", "--single", "-c", "-F", FILTER, "-n", "2"]);
    assert!(lab.log().contains("sysctl -w net.ipv4.ip_forward=0"));
    let mut client = Client::connected(1, 2, None);
    for port in 9000..9010 {
        send_reply(flow(port), 1, b"body");
    }
    let replies = client.take_replies(10);
    assert!(replies.iter().all(|(packet, wire_len)| (packet.len(), *wire_len) == (40, 44)));
    let mut other = Client::new(2, 1, None);
    other.run_until("refused", |other| !other.errors.is_empty());
    assert!(other.errors[0].contains("--single"), "{:?}", other.errors);
    lab.start(&["--no-auth", "--single", "-F", FILTER]);
    client.run_until("connected", |client| client.relay.is_ready());
    let mut other = Client::connected(2, 1, None);
    client.run_until("replaced", |client| !client.relay.is_any_ready());
    send_reply(flow(9000), 1, b"body");
    other.take_replies(1);
}

#[test]
fn a_slow_tcpcopy_costs_replies_and_no_memory() {
    if !lab::is_possible() {
        return;
    }
    let mut lab = Lab::new();
    lab.start(&["--no-auth", "-i", "relay0", "-F", FILTER]);
    let mut client = Client::connected(1, 1, None);
    let mut other = Client::connected(2, 1, None);
    client.add(flow(9500), 1400);
    other.add(flow(9501), 0);
    client.settle();
    other.settle();
    // Nobody reads the first connection meanwhile.
    let packet = reply_packet(flow(9500), 1, &[0; 1400]);
    let socket = lab::RawSender::new(flow(9500).client);
    for _ in 0..30_000 {
        socket.send(&packet);
    }
    send_reply(flow(9501), 1, b"");
    other.take_replies(1);
    client.run_for(Duration::from_secs(1));
    let received = client.replies.len();
    client.replies.clear();
    send_reply(flow(9500), 2, b"");
    client.take_replies(1);
    let stats = lab.stop();
    let number = |name: &str| stats[name].as_u64().unwrap();
    assert!(number("replies_dropped") > 0, "{stats}");
    assert_eq!(number("replies_relayed"), received as u64 + 2, "{stats}");
    assert_eq!(
        number("replies_dropped") + number("kernel_drops") + number("replies_relayed"),
        30_002,
        "{stats}"
    );
    assert!(number("peak_memory_bytes") < 64 << 20, "{stats}");
    eprintln!("{stats}");
}

#[test]
fn a_reply_seen_on_a_bridge_and_on_its_port_is_one_reply() {
    if !lab::is_possible() {
        return;
    }
    let mut lab = Lab::new();
    lab.on_assistant(
        "sh -ec 'ip link add br0 type bridge; ip link set br0 up; ip addr flush dev relay0
         ip link set relay0 master br0; ip addr add 10.77.0.2/24 dev br0'",
    );
    lab.start(&["--no-auth"]);
    let mut client = Client::connected(1, 1, None);
    client.add(flow(9600), 0);
    client.settle();
    for seq in 1..=20 {
        send_reply(flow(9600), seq, b"x");
        client.run_for(Duration::from_millis(10));
    }
    client.settle();
    assert_eq!(client.replies.len(), 20);
}
