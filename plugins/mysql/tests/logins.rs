//! Logins at the target, whatever it asks for.

mod common;

use common::*;
use mysql_common::auth::plugins::{
    caching_sha2_password::scramble_sha256, mysql_native_password::scramble_native,
};
use num_bigint::BigUint;
use plugin_sdk::testing::{Decision, Record, Transcript, assert_split_invariant};
use plugin_sdk::{Loss, Reply, Value};
use sha1::{Digest, Sha1};
use std::time::Duration;
use tcpcopy_mysql::Mysql;

/// A public key, made for these tests.
const KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA57aCuhEpWo2vuQlne28G\n\
2OsAnX7poLScJrPU6yw66yjgrCUwQd5QZS0Z1k5Bz3Yv7uaDzHbRomVVa/TdNBmL\n\
XhRzfpLc/tNmxNWb4vm99JnnmFLrfSk7so2lAWu0ruoPv1zYhytm/YkncngJySvX\n\
/LCh00BS3aoh9Uhl8FSzlrJUo4eqEc8XkVa4QFYp/WUws8f9AiRA67eVmhis2EFg\n\
fBqVrdSsE1oY3oSN61odL4reiKUkQhymqgg+7gahvJEx4TwhZOe1oHhXAkF275z2\n\
QKW9IDEJWeMvvyc7NqjLVab5kJP0YSxVqVk59bSYhyMsiLNeMJbA1S2s+1mP1ofQ\n\
RQIDAQAB\n\
-----END PUBLIC KEY-----\n\
";
const MODULUS: &str = "e7b682ba11295a8dafb909677b6f06d8eb009d7ee9a0b49c26b3d4eb2c3aeb28e0ac253041de50652d19d64e41cf762feee6\
    83cc76d1a265556bf4dd34198b5e14737e92dcfed366c4d59be2f9bdf499e79852eb7d293bb28da5016bb4aeea0fbf5cd887\
    2b66fd8927727809c92bd7fcb0a1d34052ddaa21f54865f054b396b254a387aa11cf179156b8405629fd6530b3c7fd022440\
    ebb7959a18acd841607c1a95add4ac135a18de848deb5a1d2f8ade88a524421ca6aa083eee06a1bc9131e13c2164e7b5a078\
    57024176ef9cf640a5bd20310959e32fbf273b36a8cb55a6f99093f4612c55a95939f5b49887232c88b35e3096c0d52dacfb\
    598fd687d045";
const EXPONENT: &str = "a4ba567b7b5694b712f798acd92901b609f8a0e05a8081865518b1c185bb4f9a384f33cba5f71dea925ed1dff113ff743ee5\
    664d85b3a6e48ac0971aae9c8809cf1820222810756ece3703a8a1ab4331a8a6356ba71f7520a4ca8344dac5efafd6c99c55\
    8d2363f09b166052f43ca38b2b0076d4f6367c29769cbc7f9fc56c55878f460786260e9412e7e6549e8d60f8ec7c5bb7237d\
    50668a303473f15643836b46b49902f681aadb02cd80bc7711323daed18127599d829be179519814c65ed83ae5e7e0585be8\
    394319574ae289736674c9b979be84d0d4bf8ff2323619c60734dac269a7dda5d6e1679f674cafaf3251188388a3d45a6c6f\
    d8ba207169";

/// The bytes 1 to 32.
const ED25519_NONCE: [u8; 32] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
    29, 30, 31, 32,
];
const ED25519_PROOF: [u8; 64] = [
    24, 185, 249, 19, 39, 159, 58, 133, 8, 35, 86, 128, 255, 187, 106, 92, 72, 55, 11, 248, 23, 47, 221, 152,
    224, 242, 156, 183, 45, 157, 201, 52, 14, 106, 63, 182, 138, 39, 178, 46, 68, 122, 97, 103, 51, 6, 242,
    54, 177, 241, 109, 10, 41, 122, 213, 8, 233, 145, 46, 188, 80, 88, 160, 10,
];

fn prepared(record: &Record) -> Vec<Vec<u8>> {
    let prepared = record.decisions.iter().filter_map(|decision| match decision {
        Decision::Prepare(bytes) => Some(bytes.0.clone()),
        _ => None,
    });
    prepared.collect()
}

fn is_ready(record: &Record) -> bool {
    record.decisions.contains(&Decision::Ready)
}

fn given_up(record: &Record) -> Option<&str> {
    match record.decisions.last() {
        Some(Decision::GiveUp(why)) => Some(why),
        _ => None,
    }
}

#[test]
fn a_native_login_and_a_query() {
    let transcript = logged_in().request(query("SELECT 1")).response(ok(1));
    let record = assert_split_invariant::<Mysql>(&password("secret"), &transcript);
    assert!(is_ready(&record));
    let hello = &prepared(&record)[0];
    assert!(hello.windows(4).any(|bytes| bytes == b"app\0"));
    assert!(hello.windows(20).any(|bytes| bytes == scramble_native(NONCE, b"secret").unwrap()));
    let requests: Vec<_> =
        record.requests().into_iter().filter(|request| !request.bytes.0.is_empty()).collect();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].bytes.0, query("SELECT 1"));
    assert_eq!(requests[0].reply, Some(Reply::Expected));
    assert!(record.decisions.contains(&Decision::ReplyComplete));
}

#[test]
fn a_fast_login_with_caching_sha2() {
    let transcript = Transcript::new()
        .request(hello("app"))
        .connected()
        .response(greeting(SHA2))
        .response(packets(2, &[b"\x01\x03", &ok_payload(2)]));
    let record = assert_split_invariant::<Mysql>(&password("secret"), &transcript);
    assert!(is_ready(&record));
    let proof = scramble_sha256(NONCE, b"secret").unwrap();
    assert!(prepared(&record)[0].windows(32).any(|bytes| bytes == proof));
}

#[test]
fn a_refused_login_ends_the_session_and_is_counted_with_its_text() {
    let transcript = Transcript::new()
        .request(hello("app"))
        .request(query("DROP TABLE t"))
        .connected()
        .response(greeting(SHA2))
        .response(error(2, 1045, "Access denied for user 'app'"));
    let record = assert_split_invariant::<Mysql>(&password("wrong"), &transcript);
    assert_eq!(given_up(&record), Some("the target refused the login"));
    assert_eq!(
        record.counts["user \"app\": logins refused with error 1045, such as \"Access denied for user 'app'\""],
        1
    );
    assert!(!record.sent().windows(4).any(|bytes| bytes == b"DROP"));
}

/// A login as `app` whose answer to the greeting is followed by these packets of the target.
fn login(settings: &[(&str, Value)], plugin: &[u8], answers: &[Vec<u8>]) -> Record {
    let mut transcript = Transcript::new().request(hello("app")).connected().response(greeting(plugin));
    for answer in answers {
        transcript = transcript.response(answer);
    }
    assert_split_invariant::<Mysql>(settings, &transcript)
}

fn switch(sequence: u8, plugin: &[u8], data: &[u8]) -> Vec<u8> {
    packet(sequence, [&[0xfe], plugin, &[0], data].concat())
}

/// Packets that the plugin sends while it logs in.
fn sent_packets(record: &Record) -> Vec<(u8, Vec<u8>)> {
    let bytes = prepared(record).concat();
    let mut rest = bytes.as_slice();
    let mut packets = Vec::new();
    while let [a, b, c, sequence, behind @ ..] = rest {
        let length = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
        packets.push((*sequence, behind[..length].to_vec()));
        rest = &behind[length..];
    }
    packets
}

/// The private half of [`KEY`]: modulus and exponent.
fn private() -> (BigUint, BigUint) {
    let number = |text: &str| BigUint::parse_bytes(text.as_bytes(), 16).unwrap();
    (number(MODULUS), number(EXPONENT))
}

/// What was encrypted: PKCS #1 v2, section 7.1.2, with SHA-1.
fn decrypt(secret: &[u8]) -> Vec<u8> {
    let (modulus, exponent) = private();
    let size = modulus.to_bytes_be().len();
    let mut block = BigUint::from_bytes_be(secret).modpow(&exponent, &modulus).to_bytes_be();
    while block.len() < size {
        block.insert(0, 0);
    }
    let mask = |seed: &[u8], length: usize| -> Vec<u8> {
        let digests =
            (0u32..).flat_map(|n| Sha1::new().chain_update(seed).chain_update(n.to_be_bytes()).finalize());
        digests.take(length).collect()
    };
    let xor = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a ^ b).collect::<Vec<u8>>();
    assert_eq!(block[0], 0);
    let seed = xor(&block[1..21], &mask(&block[21..], 20));
    let data = xor(&block[21..], &mask(&seed, size - 21));
    assert_eq!(data[..20], Sha1::digest([])[..]);
    let start = data[20..].iter().position(|byte| *byte == 1).unwrap();
    xor(&data[21 + start..], &NONCE.repeat(4))
}

#[test]
fn a_full_login_with_caching_sha2_encrypts_the_password() {
    let answers = [packet(2, b"\x01\x04"), packet(4, [b"\x01", KEY.as_bytes()].concat()), ok(6)];
    let record = login(&password("secret"), SHA2, &answers);
    assert!(is_ready(&record));
    let sent = sent_packets(&record);
    assert_eq!((sent[1].0, &sent[1].1[..]), (3, &b"\x02"[..]));
    assert_eq!(sent[2].0, 5);
    assert_eq!(decrypt(&sent[2].1), b"secret\0");
    assert!(!record.sent().windows(6).any(|bytes| bytes == b"secret"), "never in the clear");
}

#[test]
fn a_switch_to_each_plugin_is_followed() {
    let nonce = [&b"TSRQPONMLKJIHGFEDCBA"[..], b"\0"].concat();
    let of = |plugin: &[u8], data: &[u8], answers: &[Vec<u8>]| {
        let answers = [&[switch(2, plugin, data)], answers].concat();
        let record = login(&password("secret"), NATIVE, &answers);
        assert!(is_ready(&record), "{}: {:?}", plugin.escape_ascii(), record.decisions.last());
        sent_packets(&record)[1..].to_vec()
    };
    let sent = of(SHA2, &nonce, &[packet(4, b"\x01\x03"), ok(5)]);
    assert_eq!(sent[0], (3, scramble_sha256(nonce[..20].try_into().unwrap(), b"secret").unwrap().to_vec()));
    let sent = of(NATIVE, &nonce, &[ok(4)]);
    assert_eq!(sent[0], (3, scramble_native(&nonce[..20], b"secret").unwrap().to_vec()));
    let key = packet(4, [b"\x01", KEY.as_bytes()].concat());
    let sent = of(b"sha256_password", &[&NONCE[..], b"\0"].concat(), &[key, ok(6)]);
    assert_eq!(sent[0], (3, vec![1]));
    assert_eq!(decrypt(&sent[1].1), b"secret\0");
    // Computed apart from the plugin, after RFC 8032, section 5.1.6.
    let record = login(&password("foobar"), NATIVE, &[switch(2, b"client_ed25519", &ED25519_NONCE), ok(4)]);
    assert_eq!(sent_packets(&record)[1], (3, ED25519_PROOF.to_vec()));
}

#[test]
fn an_empty_password_proves_itself_with_nothing() {
    let record = login(&password(""), SHA2, &[ok(2)]);
    assert!(is_ready(&record));
    let record = login(&password(""), NATIVE, &[switch(2, SHA2, &[&NONCE[..], b"\0"].concat()), ok(4)]);
    assert_eq!(sent_packets(&record)[1], (3, vec![0]));
}

#[test]
fn what_would_show_the_password_is_not_answered() {
    for (answer, why) in [
        (switch(2, b"mysql_clear_password", b""), "in the clear"),
        (packet(2, b"\xfe"), "mysql_old_password"),
        (switch(2, b"dialog", b"Password: "), "not supported"),
        (packet(2, b"\x02mysql_native_password\0"), "second factor"),
    ] {
        let record = login(&password("secret"), NATIVE, &[answer]);
        assert!(given_up(&record).is_some_and(|text| text.contains(why)), "{why}: {:?}", given_up(&record));
        assert!(!record.sent().windows(6).any(|bytes| bytes == b"secret"));
    }
}

#[test]
fn a_hash_serves_where_the_clients_login_was_seen() {
    let stage2 = Sha1::digest(Sha1::digest(b"secret"));
    let hash: String = stage2.iter().map(|byte| format!("{byte:02X}")).collect();
    let mut client = hello("app");
    let proof = client.windows(20).position(|bytes| bytes == [7; 20]).unwrap();
    let online: [u8; 20] = *b"ABCDEFGHIJKLMNOPQRST";
    client[proof..proof + 20].copy_from_slice(&scramble_native(&online, b"secret").unwrap());
    let mut greeted = greeting(NATIVE);
    let at =
        |greeting: &[u8], part: &[u8]| greeting.windows(part.len()).position(|bytes| bytes == part).unwrap();
    for part in [0..8, 8..20] {
        let from = at(&greeted, &NONCE[part.clone()]);
        greeted[from..from + part.len()].copy_from_slice(&online[part]);
    }
    for hash in [format!("*{hash}"), hash.to_lowercase()] {
        let settings = [("password-hashes", Value::from([("app", hash.as_str())]))];
        let transcript = Transcript::new()
            .connected()
            .response(greeting(NATIVE))
            .reference(&greeted)
            .request(&client)
            .response(ok(2));
        let record = assert_split_invariant::<Mysql>(&settings, &transcript);
        assert!(is_ready(&record), "{:?}", record.decisions.last());
        let proof = scramble_native(NONCE, b"secret").unwrap();
        assert!(prepared(&record)[0].windows(20).any(|bytes| bytes == proof));
        // Nothing can be done without having seen it.
        let transcript = Transcript::new()
            .connected()
            .response(greeting(NATIVE))
            .request(&client)
            .request(query("SELECT 1"));
        let record = assert_split_invariant::<Mysql>(&settings, &transcript);
        assert!(given_up(&record).is_some_and(|why| why.contains("hash")));
    }
}

#[test]
fn users_without_a_password_are_counted_by_name() {
    let settings = [("passwords", Value::from([("other", "secret"), ("app@198.51.100.*", "elsewhere")]))];
    let record = login(&settings, NATIVE, &[]);
    assert!(given_up(&record).is_some_and(|why| why.contains("no password")));
    assert_eq!(record.counts["user \"app\": sessions given up for want of a password"], 1);
    assert!(prepared(&record).is_empty());
    let settings = [("passwords", Value::from([("app@192.0.2.*", "secret"), ("*", "another")]))];
    let record = login(&settings, NATIVE, &[ok(2)]);
    let proof = scramble_native(NONCE, b"secret").unwrap();
    assert!(prepared(&record)[0].windows(20).any(|bytes| bytes == proof));
}

#[test]
fn a_client_that_turns_to_tls_is_told_what_to_do() {
    let mut request = 0x0000_aa05u32.to_le_bytes().to_vec();
    request.resize(32, 0);
    let transcript = Transcript::new().request(packet(1, request)).request([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]);
    let record = assert_split_invariant::<Mysql>(&password("secret"), &transcript);
    assert!(given_up(&record).is_some_and(|why| why.contains("TLS") && why.contains("ssl-mode")));
    let old = packet(1, b"\x05\0\0\0\x40app\0xxxxxxxx");
    let record = assert_split_invariant::<Mysql>(&password("secret"), &Transcript::new().request(old));
    assert!(given_up(&record).is_some_and(|why| why.contains("4.1")));
}

#[test]
fn a_hostile_target_ends_its_session_only() {
    let nonce = [&NONCE[..], b"\0"].concat();
    let switches: Vec<u8> = (0..100).flat_map(|n| switch(2 + 2 * n, NATIVE, &nonce)).collect();
    let moduli = |size: usize| {
        let mut key = vec![0x30, 0x82, 0, 0, 0x02, 0x82];
        key.extend_from_slice(&(size as u16).to_be_bytes());
        key.extend(vec![0xff; size]);
        key.extend_from_slice(&[2, 1, 3]);
        let length = (key.len() - 4) as u16;
        key[2..4].copy_from_slice(&length.to_be_bytes());
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
        packet(4, format!("\x01-----BEGIN RSA PUBLIC KEY-----\n{text}\n-----END RSA PUBLIC KEY-----\n"))
    };
    let full = packet(2, b"\x01\x04");
    let cases: Vec<(&[u8], Vec<Vec<u8>>)> = vec![
        (NATIVE, vec![switches]),
        (NATIVE, vec![packet(2, b"")]),
        (NATIVE, vec![packet(2, b"\x05")]),
        (NATIVE, vec![packet(2, b"\0\xfc")]),
        (NATIVE, vec![packet(2, [1; 20_000])]),
        (NATIVE, vec![switch(2, NATIVE, b"short\0")]),
        (NATIVE, vec![switch(2, SHA2, b"")]),
        (NATIVE, vec![switch(2, b"client_ed25519", b"short")]),
        (SHA2, vec![full.clone(), packet(4, b"\x01no key")]),
        (
            SHA2,
            vec![full.clone(), packet(4, b"\x01-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----")],
        ),
        (SHA2, vec![full.clone(), moduli(0)]),
        (SHA2, vec![full.clone(), moduli(16)]),
        (SHA2, vec![full, moduli(2000)]),
    ];
    for (plugin, answers) in cases {
        let record = login(&password("secret"), plugin, &answers);
        assert!(given_up(&record).is_some(), "{:?}", record.decisions.last());
        assert!(!is_ready(&record));
        assert!(sent_packets(&record).len() <= 17);
    }
    for first in [
        packet(0, b""),
        packet(0, b"\x0a"),
        packet(0, b"\x09old\0"),
        packet(0, b"SSH-2.0"),
        greeting(NATIVE)[..40].to_vec(),
    ] {
        let whole = first.len() < 40;
        let transcript = Transcript::new().request(hello("app")).connected().response(first);
        let record = assert_split_invariant::<Mysql>(&password("secret"), &transcript);
        assert_eq!(given_up(&record).is_some(), whole, "{:?}", record.decisions);
        assert!(prepared(&record).is_empty());
    }
    // One that says nothing at all is not waited for.
    let transcript = Transcript::new().request(hello("app")).connected().advance(Duration::from_secs(31));
    let record = assert_split_invariant::<Mysql>(&password("secret"), &transcript);
    assert_eq!(given_up(&record), Some("the target did not complete a login in time"));
}

#[test]
fn a_login_is_tried_again_where_the_target_is_full() {
    let transcript = Transcript::new()
        .request(hello("app"))
        .connected()
        .response(error(0, 1040, "Too many connections"))
        .connection_lost(Loss::default())
        .connected()
        .response(greeting(NATIVE))
        .response(error(2, 1040, "Too many connections"))
        .advance(Duration::from_secs(2))
        .connection_lost(Loss::default())
        .connected()
        .response(greeting(NATIVE))
        .response(ok(2));
    let record = assert_split_invariant::<Mysql>(&password("secret"), &transcript);
    assert!(is_ready(&record));
    assert_eq!(record.counts["logins tried again after error 1040"], 2);
    assert_eq!(record.decisions.iter().filter(|decision| **decision == Decision::Reconnect).count(), 1);
}

#[test]
fn what_the_target_lacks_is_not_asked_of_it() {
    let client = CLIENT | COMPRESS | DEPRECATE_EOF | SESSION_TRACK | QUERY_ATTRIBUTES | 0x0200_0000;
    let asked = |server: u32| {
        let transcript = Transcript::new()
            .connected()
            .response(greeting_of(server, NATIVE))
            .request(hello_of(client, "app", Some("shop")));
        let record = assert_split_invariant::<Mysql>(&password("secret"), &transcript);
        u32::from_le_bytes(sent_packets(&record)[0].1[..4].try_into().unwrap())
    };
    let changing = COMPRESS | DEPRECATE_EOF | SESSION_TRACK | QUERY_ATTRIBUTES | 0x0200_0000;
    assert_eq!(asked(0xffff_ffff) & changing, changing);
    assert_eq!(asked(!changing) & changing, 0);
    assert_eq!(asked(0xffff_ffff) & (0x800 | 0x1000_0000), 0, "neither TLS nor a second factor");
    assert_eq!(asked(0xffff_ffff) & WITH_DB, WITH_DB);
}
