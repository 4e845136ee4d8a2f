//! Relay connections against an intercept that the test plays itself, on loopback and in virtual time.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::protocol::Bodies;
use tcpcopy_engine::relay::HANDSHAKE_TIMEOUT;
use tcpcopy_engine::relay::handshake::{ServerHandshake, Step};
use tcpcopy_engine::relay::hello::{AssistantFacts, Forwarding};
use tcpcopy_engine::relay::message::{
    InterceptStats, Reply, ReplyFlags, RouteRefusal, ToIntercept, ToTcpcopy,
};
use tcpcopy_engine::time::{Duration, Instant};
use tcpcopy_net::poll::{Events, Poller};
use tcpcopy_relay::{RelayClients, RelayEvent, RelayOptions};

/// One accepted connection of the played intercept.
struct Peer {
    stream: TcpStream,
    handshake: Option<ServerHandshake>,
    input: Vec<u8>,
    said: Vec<ToIntercept>,
}

impl Peer {
    fn turn(&mut self) {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(count) => self.input.extend_from_slice(&chunk[..count]),
            Err(error) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset)),
        }
        while let Some(handshake) = &mut self.handshake {
            let mut out = Vec::new();
            let facts = AssistantFacts { forwards_v4: Forwarding::On, ..AssistantFacts::default() };
            let step = handshake.handle(&self.input, &facts, &mut out);
            self.stream.write_all(&out).unwrap();
            match step {
                Ok(Step::Incomplete) | Err(_) => return,
                Ok(Step::Consumed(count)) => drop(self.input.drain(..count)),
                Ok(Step::Done(count, _)) => {
                    self.input.drain(..count);
                    self.handshake = None;
                }
            }
        }
        while let Some((message, length)) = ToIntercept::decode(&self.input).unwrap() {
            self.input.drain(..length);
            match message {
                ToIntercept::Ping { sequence, nanos } => self.say(&[ToTcpcopy::Pong { sequence, nanos }]),
                message => self.said.push(message),
            }
        }
    }

    fn say(&mut self, messages: &[ToTcpcopy<'_>]) {
        let mut out = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut out));
        self.stream.write_all(&out).unwrap();
    }
}

struct Intercept {
    listener: TcpListener,
    token: Option<Vec<u8>>,
    peers: Vec<Peer>,
}

impl Intercept {
    fn new(token: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { listener, token: token.map(|token| token.as_bytes().to_vec()), peers: Vec::new() }
    }

    fn endpoint(&self) -> Endpoint {
        self.listener.local_addr().unwrap().into()
    }

    fn turn(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            let handshake = Some(ServerHandshake::new(self.token.clone(), [9; 32]));
            self.peers.push(Peer { stream, handshake, input: Vec::new(), said: Vec::new() });
        }
        self.peers.iter_mut().for_each(Peer::turn);
    }

    fn said(&self) -> Vec<ToIntercept> {
        self.peers.iter().flat_map(|peer| peer.said.clone()).collect()
    }
}

/// The worker around the connections.
struct Worker {
    relay: RelayClients,
    poller: Poller,
    now: Instant,
    told: Vec<String>,
}

impl Worker {
    fn new(servers: Vec<Endpoint>, connections: u16, token: Option<&str>) -> Self {
        let relay = RelayClients::new(RelayOptions {
            servers,
            connections_per_server: connections,
            token: token.map(|token| token.as_bytes().to_vec()),
            bodies: Bodies::NotNeeded,
            instance: [1; 16],
            worker: 0,
            first_token: 1000,
        });
        let mut worker =
            Self { relay, poller: Poller::new().unwrap(), now: Instant::from_millis(1), told: Vec::new() };
        worker.relay.start(&worker.poller, worker.now);
        worker
    }

    fn turn(&mut self) {
        let mut events = Events::default();
        self.relay.flush(&self.poller, self.now);
        self.poller.wait(Some(Duration::from_millis(1)), &mut events).unwrap();
        for event in events.iter() {
            assert!(self.relay.owns_token(event.token));
            self.relay.handle_event(event, &self.poller, self.now);
        }
        if self.relay.poll_timeout().is_some_and(|at| at <= self.now) {
            self.relay.handle_timeout(self.now, &self.poller);
        }
        let told = &mut self.told;
        self.relay.drain(self.now, &mut |event| {
            told.push(match event {
                RelayEvent::Reply { packet, wire_len, age } => {
                    format!("reply {} of {wire_len}, {age:?}", packet.len())
                }
                RelayEvent::RouteRefused(flow) => format!("refused {flow}"),
                RelayEvent::Connected { server, facts } => {
                    format!("connected {server} {:?}", facts.forwards_v4)
                }
                RelayEvent::Disconnected { server, remaining, error } => {
                    format!("disconnected {server} {remaining}: {error}")
                }
                RelayEvent::ServerStats { server, stats } => format!("stats {server} {}", stats.kernel_drops),
            });
        });
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }
}

fn run(worker: &mut Worker, intercepts: &mut [&mut Intercept], mut done: impl FnMut(&mut Worker) -> bool) {
    for _ in 0..3000 {
        worker.turn();
        intercepts.iter_mut().for_each(|intercept| intercept.turn());
        if done(worker) {
            return;
        }
    }
    panic!("not done; told {:?}", worker.told);
}

fn settle(worker: &mut Worker, intercepts: &mut [&mut Intercept]) {
    let mut turns = 0;
    run(worker, intercepts, |_| {
        turns += 1;
        turns > 30
    });
}

fn flow(port: u16) -> FlowKey {
    FlowKey {
        client: Endpoint::new([10, 0, 0, 1].into(), port),
        target: Endpoint::new([10, 0, 0, 2].into(), 80),
    }
}

#[test]
fn routes_go_to_every_server_in_order_and_events_come_back() {
    let (mut a, mut b) = (Intercept::new(Some("t")), Intercept::new(Some("t")));
    let mut worker = Worker::new(vec![a.endpoint(), b.endpoint()], 3, Some("t"));
    run(&mut worker, &mut [&mut a, &mut b], |worker| {
        worker.relay.statistics().iter().all(|server| server.connected == 3)
    });
    assert!(worker.relay.is_ready());
    let mut told = worker.told();
    told.sort();
    assert_eq!(told, ["connected 0 On", "connected 1 On"], "once for each server");
    while let Some(server) = worker.relay.missing_routes() {
        worker.relay.resend_routes(server, std::iter::empty());
    }
    for port in 0..30 {
        worker.relay.add_route(flow(port), 5);
        worker.relay.remove_route(flow(port));
    }
    settle(&mut worker, &mut [&mut a, &mut b]);
    for intercept in [&a, &b] {
        assert_eq!(intercept.said().len(), 60);
        for peer in &intercept.peers {
            assert!(!peer.said.is_empty(), "the connections share the work");
            for pair in peer.said.chunks(2) {
                let [ToIntercept::RouteAdd { flow, body_limit: 5 }, ToIntercept::RouteRemove { flow: gone }] =
                    pair
                else {
                    panic!("{pair:?}")
                };
                assert_eq!(flow, gone);
            }
        }
    }
    let packet = [7; 40];
    let reply = Reply { flags: ReplyFlags::default(), age_micros: 30, wire_len: 100, packet: &packet };
    b.peers[0].say(&[
        ToTcpcopy::Reply(reply),
        ToTcpcopy::RouteRefused { flow: flow(1), reason: RouteRefusal::Owned },
        ToTcpcopy::Stats(InterceptStats { kernel_drops: 3, ..InterceptStats::default() }),
    ]);
    settle(&mut worker, &mut [&mut a, &mut b]);
    assert_eq!(worker.told(), ["reply 40 of 100, 30µs", "refused 10.0.0.1:1 > 10.0.0.2:80", "stats 1 3"]);
    let statistics = worker.relay.statistics();
    assert_eq!((statistics[1].replies, statistics[1].routes_refused_owned), (1, 1));
    assert!(statistics[1].round_trip.is_some() && statistics[1].bytes_sent > 60 * 17);
}

#[test]
fn a_server_that_is_not_there_is_tried_again_at_growing_intervals() {
    let endpoint = Intercept::new(None).endpoint();
    let mut worker = Worker::new(vec![endpoint], 1, None);
    run(&mut worker, &mut [], |worker| worker.relay.start_failure().is_some());
    let failure = worker.relay.start_failure().unwrap().remove(0);
    assert!(failure.error.contains("cannot connect"), "{failure:?}");
    assert!(failure.hint.contains("start intercept"), "{failure:?}");
    let mut waits = Vec::new();
    for _ in 0..8 {
        let wait = worker.relay.poll_timeout().unwrap().saturating_since(worker.now);
        waits.push(wait);
        worker.advance(wait);
        worker.relay.handle_timeout(worker.now, &worker.poller);
        run(&mut worker, &mut [], |worker| {
            worker
                .relay
                .poll_timeout()
                .is_some_and(|at| at.saturating_since(worker.now) != Duration::from_secs(3))
        });
    }
    assert!(waits[0] <= Duration::from_millis(125), "{waits:?}");
    assert!(waits[3] > waits[0] * 3, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(6250)), "{waits:?}");
    assert!(waits[7] >= Duration::from_millis(3750), "{waits:?}");
    assert_eq!(worker.told().len(), 1, "the same error is told once");
    // It comes up after all.
    let listener = TcpListener::bind((endpoint.addr, endpoint.port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut intercept = Intercept { listener, token: None, peers: Vec::new() };
    worker.advance(Duration::from_secs(7));
    run(&mut worker, &mut [&mut intercept], |worker| worker.relay.is_ready());
    assert!(worker.relay.start_failure().is_none());
}

#[test]
fn routes_that_a_lost_connection_took_along_are_asked_for_again() {
    let mut intercept = Intercept::new(None);
    let mut worker = Worker::new(vec![intercept.endpoint()], 1, None);
    worker.relay.add_route(flow(1), 0);
    assert_eq!(worker.relay.missing_routes(), None, "nobody there to send it to");
    run(&mut worker, &mut [&mut intercept], |worker| worker.relay.is_ready());
    assert_eq!(worker.relay.missing_routes(), Some(0));
    assert_eq!(worker.relay.missing_routes(), None);
    worker.relay.resend_routes(0, [(flow(1), 0), (flow(2), 9)].into_iter());
    settle(&mut worker, &mut [&mut intercept]);
    assert_eq!(intercept.said().len(), 2);
    intercept.peers.clear();
    run(&mut worker, &mut [&mut intercept], |worker| !worker.relay.is_any_ready());
    worker.relay.add_route(flow(3), 0);
    worker.advance(Duration::from_secs(1));
    run(&mut worker, &mut [&mut intercept], |worker| worker.relay.is_ready());
    assert_eq!(worker.relay.missing_routes(), Some(0));
    let statistics = worker.relay.statistics().remove(0);
    assert_eq!((statistics.lost, statistics.reconnects, statistics.routes_deferred), (1, 1, 2));
    assert_eq!(
        worker.told(),
        ["connected 0 On", "disconnected 0 0: intercept closed the connection", "connected 0 On"]
    );
}

#[test]
fn silence_is_not_waited_for_without_end() {
    let mut mute = Intercept::new(None);
    let mut worker = Worker::new(vec![mute.endpoint()], 1, None);
    settle(&mut worker, &mut []);
    worker.advance(HANDSHAKE_TIMEOUT);
    settle(&mut worker, &mut []);
    assert_eq!(worker.told(), ["disconnected 0 0: no answer to the handshake within 5 s"]);
    assert!(worker.relay.start_failure().is_some());
    worker.advance(Duration::from_secs(1));
    run(&mut worker, &mut [&mut mute], |worker| worker.relay.is_ready());
    for _ in 0..17 {
        worker.advance(Duration::from_secs(1));
        worker.turn();
    }
    let told = worker.told();
    assert!(told.contains(&"disconnected 0 0: nothing heard from intercept for 15 s".into()), "{told:?}");
}

#[test]
fn garbage_from_a_server_ends_its_connection_alone() {
    let (mut a, mut b) = (Intercept::new(None), Intercept::new(None));
    let mut worker = Worker::new(vec![a.endpoint(), b.endpoint()], 1, None);
    run(&mut worker, &mut [&mut a, &mut b], |worker| worker.relay.is_ready());
    worker.told();
    a.peers[0].stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    run(&mut worker, &mut [], |worker| !worker.told.is_empty());
    let told = worker.told();
    assert!(told[0].starts_with("disconnected 0 0: invalid message: unknown message kind 0x48"), "{told:?}");
    assert!(!worker.relay.is_ready() && worker.relay.is_any_ready());
    b.peers[0].say(&[ToTcpcopy::Stats(InterceptStats::default())]);
    settle(&mut worker, &mut [&mut b]);
    assert_eq!(worker.told(), ["stats 1 0"]);
}

#[test]
fn a_wrong_token_is_told_with_what_to_do() {
    let mut intercept = Intercept::new(Some("right"));
    let mut worker = Worker::new(vec![intercept.endpoint()], 1, Some("wrong"));
    run(&mut worker, &mut [&mut intercept], |worker| worker.relay.start_failure().is_some());
    let failure = worker.relay.start_failure().unwrap().remove(0);
    assert!(failure.error.contains("token is wrong") && failure.hint.contains("same token"), "{failure:?}");
    let wait = worker.relay.poll_timeout().unwrap().saturating_since(worker.now);
    assert!(wait > Duration::from_secs(10), "{wait:?}: no point in trying again soon");
}
