//! Two peers in memory.

use super::*;
use crate::relay::hello::Forwarding;
use proptest::prelude::*;

const PEER: PeerId = PeerId { instance: [7; 16], worker: 3, connection: 1 };

fn facts() -> AssistantFacts {
    AssistantFacts {
        forwards_v4: Forwarding::On,
        forwards_v6: Forwarding::Off,
        interfaces: "eth0,eth1".into(),
        version: "2.0.0".into(),
    }
}

type Outcome<T> = Result<Option<T>, HandshakeError>;

struct Pair {
    client: ClientHandshake,
    server: ServerHandshake,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    client_outcome: Outcome<ClientSession>,
    server_outcome: Outcome<ServerSession>,
}

impl Pair {
    fn new(client_token: Option<&[u8]>, server_token: Option<&[u8]>) -> Self {
        let mut to_server = Vec::new();
        let client = ClientHandshake::start(
            client_token.map(<[u8]>::to_vec),
            PEER,
            Bodies::Needed,
            [1; 32],
            &mut to_server,
        );
        let server = ServerHandshake::new(server_token.map(<[u8]>::to_vec), [2; 32]);
        Self {
            client,
            server,
            to_server,
            to_client: Vec::new(),
            client_outcome: Ok(None),
            server_outcome: Ok(None),
        }
    }

    fn step_server(&mut self) -> bool {
        match self.server.handle(&self.to_server, &facts(), &mut self.to_client) {
            Ok(Step::Incomplete) => return false,
            Ok(Step::Consumed(n)) => drop(self.to_server.drain(..n)),
            Ok(Step::Done(n, session)) => {
                self.to_server.drain(..n);
                self.server_outcome = Ok(Some(session));
            }
            Err(error) => self.server_outcome = Err(error),
        }
        true
    }

    fn step_client(&mut self) -> bool {
        match self.client.handle(&self.to_client, &mut self.to_server) {
            Ok(Step::Incomplete) => return false,
            Ok(Step::Consumed(n)) => drop(self.to_client.drain(..n)),
            Ok(Step::Done(n, session)) => {
                self.to_client.drain(..n);
                self.client_outcome = Ok(Some(session));
            }
            Err(error) => self.client_outcome = Err(error),
        }
        true
    }

    /// Lets both talk until each is done, has failed, or has nothing to read.
    fn run(mut self) -> (Outcome<ClientSession>, Outcome<ServerSession>) {
        loop {
            let server = self.server_outcome == Ok(None) && self.step_server();
            let client = self.client_outcome == Ok(None) && self.step_client();
            if !server && !client {
                return (self.client_outcome, self.server_outcome);
            }
        }
    }
}

#[test]
fn one_token_on_both_sides_or_none_on_either_agrees() {
    for token in [Some(&b"secret"[..]), None] {
        let (client, server) = Pair::new(token, token).run();
        let client = client.unwrap().expect("tcpcopy is done");
        assert_eq!((client.version, client.capabilities), (VERSION, CAPABILITIES));
        assert_eq!(client.facts, facts());
        assert_eq!(server.unwrap().expect("intercept is done").peer, PEER);
    }
}

#[test]
fn bodies_are_foreseen_only_by_who_says_so() {
    for bodies in [Bodies::Needed, Bodies::NotNeeded] {
        let mut pair = Pair::new(None, None);
        pair.to_server.clear();
        pair.client = ClientHandshake::start(None, PEER, bodies, [1; 32], &mut pair.to_server);
        let (_, server) = pair.run();
        assert_eq!(server.unwrap().expect("intercept is done").foreseen_bodies(), bodies);
    }
}

#[test]
fn tokens_that_differ_are_refused_and_both_know_why() {
    let (client, server) = Pair::new(Some(b"one"), Some(b"other")).run();
    assert_eq!(server, Err(HandshakeError::WrongProof));
    assert_eq!(client, Err(HandshakeError::Refused(Refusal::WrongProof)));
}

#[test]
fn a_token_missing_at_tcpcopy_is_refused_by_intercept() {
    let (client, server) = Pair::new(None, Some(b"secret")).run();
    assert_eq!(server, Err(HandshakeError::PeerWithoutToken));
    assert_eq!(client, Err(HandshakeError::Refused(Refusal::TokenRequired)));
    assert!(client.unwrap_err().is_about_token());
}

#[test]
fn a_token_missing_at_intercept_is_refused_by_tcpcopy() {
    let (client, server) = Pair::new(Some(b"secret"), None).run();
    assert_eq!(client, Err(HandshakeError::PeerWithoutToken));
    assert_eq!(server, Err(HandshakeError::Refused(Refusal::PeerWithoutToken)));
}

#[test]
fn versions_without_overlap_are_refused_with_what_is_spoken() {
    let mut pair = Pair::new(None, None);
    // The highest and lowest version lie behind the header and the magic.
    pair.to_server[12..16].copy_from_slice(&[0, 8, 0, 9]);
    let (client, server) = pair.run();
    assert_eq!(server, Err(HandshakeError::Version { lowest: 8, highest: 9 }));
    assert_eq!(client, Err(HandshakeError::Refused(Refusal::Version { highest: VERSION })));
}

#[test]
fn a_recorded_proof_is_worthless_in_another_handshake() {
    let mut first = Pair::new(Some(b"secret"), Some(b"secret"));
    let hello = first.to_server.clone();
    assert!(first.step_server() && first.step_client());
    let proof = first.to_server.clone();
    assert!(first.step_server());
    assert!(matches!(first.server_outcome, Ok(Some(_))));

    let mut replayed = ServerHandshake::new(Some(b"secret".to_vec()), [9; 32]);
    let mut out = Vec::new();
    assert!(matches!(replayed.handle(&hello, &facts(), &mut out), Ok(Step::Consumed(_))));
    assert_eq!(replayed.handle(&proof, &facts(), &mut out), Err(HandshakeError::WrongProof));
}

#[test]
fn tcpcopy_does_not_take_its_own_proof_for_that_of_intercept() {
    let mut pair = Pair::new(Some(b"secret"), Some(b"secret"));
    assert!(pair.step_server() && pair.step_client());
    let own_proof = pair.to_server[4..].to_vec();
    pair.to_client.clear();
    write_frame(&mut pair.to_client, Kind::Welcome, |out| {
        out.extend_from_slice(&own_proof);
        facts().encode(out);
    });
    assert!(pair.step_client());
    assert_eq!(pair.client_outcome, Err(HandshakeError::WrongProof));
}

#[test]
fn strangers_are_found_out_by_their_first_byte() {
    for stranger in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00", b"*1\r\n$4\r\nPING\r\n"] {
        let mut out = Vec::new();
        let result = ServerHandshake::new(None, [0; 32]).handle(&stranger[..1], &facts(), &mut out);
        assert_eq!(result, Err(HandshakeError::Decode(DecodeError::UnknownKind(stranger[0]))));
    }
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let mut encoded = Vec::new();
    let mut sent = facts();
    sent.interfaces = "eth0\x1b[2J\n".into();
    sent.version = "v".repeat(1000);
    write_frame(&mut encoded, Kind::Welcome, |out| sent.encode(out));
    let frame = Frame::parse(&encoded, MAX_HANDSHAKE_PAYLOAD).unwrap().unwrap();
    let read = AssistantFacts::decode(&mut frame.reader()).unwrap();
    assert_eq!(read.interfaces, "eth0\u{fffd}[2J\u{fffd}");
    assert_eq!(read.version.len(), 128);
}

proptest! {
    /// Every byte of the handshake matters: with one bit changed, no side that has a token believes the other.
    #[test]
    fn a_changed_bit_is_noticed(bit in 0usize..8 * 100) {
        let mut pair = Pair::new(Some(b"secret"), Some(b"secret"));
        let (byte, mask) = (bit / 8, 1u8 << (bit % 8));
        prop_assume!(byte < pair.to_server.len());
        pair.to_server[byte] ^= mask;
        let (client, server) = pair.run();
        // A length that grew leaves both waiting for bytes, which the time limit ends.
        prop_assert!(!matches!(client, Ok(Some(_))));
        prop_assert!(!matches!(server, Ok(Some(_))));
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..700), keep in 0usize..100) {
        for token in [None, Some(b"secret".to_vec())] {
            let mut out = Vec::new();
            let mut client = ClientHandshake::start(token.clone(), PEER, Bodies::Needed, [1; 32], &mut out);
            let mut server = ServerHandshake::new(token.clone(), [2; 32]);
            let mut hello = out[..keep.min(out.len())].to_vec();
            hello.extend_from_slice(&bytes);
            let mut out = Vec::new();
            let _ = server.handle(&hello, &facts(), &mut out);
            let _ = client.handle(&bytes, &mut out);
        }
    }
}
