//! Seed inputs of the target `mysql`: a login and commands, with their answers.

use crate::mysql::{JOINED, LOST, OPTIONS};
use crate::seeds::{Seed, seed};

/// Capabilities of a client, and of a server, which offers more.
const CLIENT: u32 = 0x000f_a685;
const SERVER: u32 = 0xcfff_f7ff;
const DEPRECATE_EOF: u32 = 0x0180_0000;
const ATTRIBUTES: u32 = 0x0800_0000;
const COMPRESS: u32 = 0x20;

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = (payload.len() as u32).to_le_bytes();
    [&[a, b, c, sequence], payload].concat()
}

fn packets(first: u8, payloads: &[&[u8]]) -> Vec<u8> {
    let numbered = payloads.iter().zip(0..);
    numbered.flat_map(|(payload, index)| packet(first.wrapping_add(index), payload)).collect()
}

/// A compressed packet that is not worth compressing.
fn packed(sequence: u8, bytes: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = (bytes.len() as u32).to_le_bytes();
    [&[a, b, c, sequence, 0, 0, 0], bytes].concat()
}

fn greeting(plugin: &str) -> Vec<u8> {
    let mut payload = b"\x0a8.4.0\0\x01\0\0\0abcdefgh\0".to_vec();
    payload.extend_from_slice(&SERVER.to_le_bytes()[..2]);
    payload.extend_from_slice(&[45, 2, 0]);
    payload.extend_from_slice(&SERVER.to_le_bytes()[2..]);
    payload.extend_from_slice(b"\x15\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0");
    payload.extend_from_slice(plugin.as_bytes());
    payload.push(0);
    packet(0, &payload)
}

fn hello(capabilities: u32) -> Vec<u8> {
    let mut payload = capabilities.to_le_bytes().to_vec();
    payload.extend_from_slice(&[0, 0, 0, 1, 45]);
    payload.extend_from_slice(&[0; 23]);
    payload.extend_from_slice(b"app\0\x04auth");
    if capabilities & 8 != 0 {
        payload.extend_from_slice(b"shop\0");
    }
    payload.extend_from_slice(b"mysql_native_password\0");
    packet(1, &payload)
}

const OK: &[u8] = b"\0\0\0\x02\0\0\0";
const EOF: &[u8] = b"\xfe\0\0\x02\0";
const COLUMN: &[u8] = b"\x03def\0\0\0\x01a\0\x0c\x3f\0\x01\0\0\0\x08\x81\0\0\0\0";

fn query(text: &str) -> Vec<u8> {
    packet(0, format!("\x03{text}").as_bytes())
}

/// Name, capabilities, what follows the login of the client, what follows that of the target, what the online server sends.
type Script = (&'static str, u32, Vec<u8>, Vec<u8>, Vec<u8>);

fn scripts() -> Vec<Script> {
    let result = packets(1, &[b"\x01", COLUMN, EOF, b"\x011", EOF]);
    let prepare = packet(0, b"\x16SELECT ?");
    let prepared = |id: u8| packets(1, &[&[0, id, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], COLUMN, EOF, COLUMN, EOF]);
    let execute = |id: u8| packet(0, &[0x17, id, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 0, 5, 0, 0, 0]);
    let close = packet(0, b"\x19\x07\0\0\0");
    let session = [query("SET NAMES latin1; SET @a = 1"), query("USE shop"), query("SELECT shop.t.a FROM shop.t")];
    let tracked = b"\0\0\0\x02\x40\0\0\0\x07\x01\x05\x04shop";
    let attributes = packet(0, b"\x03\x01\x01\0\x01\xfe\0\x01k\x01vSELECT 1");
    let change = packet(0, b"\x11bob\0\0shop\0\x2d\0mysql_native_password\0");
    let switch = packet(1, b"\xfecaching_sha2_password\0ABCDEFGHIJKLMNOPQRST\0");
    vec![
        ("query", CLIENT, query("SELECT 1"), result.clone(), Vec::new()),
        (
            "prepared",
            CLIENT,
            [prepare, execute(7), close].concat(),
            [prepared(3), result.clone()].concat(),
            [greeting("mysql_native_password"), packet(2, OK), prepared(7)].concat(),
        ),
        ("session", CLIENT | 8, session.concat(), [packet(1, OK), packet(1, OK), result].concat(), Vec::new()),
        (
            "tracked",
            CLIENT | DEPRECATE_EOF,
            query("SELECT 1"),
            [packets(1, &[b"\x01", COLUMN, b"\x011", b"\xfe\0\0\x02\0\0\0"]), packet(1, tracked)].concat(),
            Vec::new(),
        ),
        (
            "file",
            CLIENT,
            [query("LOAD DATA LOCAL INFILE 'f' INTO TABLE t"), packet(2, b"1"), packet(3, b""), query("SELECT 1")]
                .concat(),
            [packet(1, b"\xfbf"), packet(4, OK), packet(1, OK)].concat(),
            Vec::new(),
        ),
        ("attributes", CLIENT | ATTRIBUTES, attributes, packet(1, OK), Vec::new()),
        (
            "change-user",
            CLIENT,
            [change, packet(2, b"auth"), query("SELECT 1")].concat(),
            [switch, packet(3, b"\x01\x03"), packet(4, OK), packet(1, b"\xff\x15\x04#42000no")].concat(),
            Vec::new(),
        ),
        ("compressed", CLIENT | COMPRESS, packed(0, &query("SELECT 1")), packed(1, &packet(1, OK)), Vec::new()),
    ]
}

/// The seeds.
pub(crate) fn mysql() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, capabilities, commands, answers, references) in scripts() {
        let login = [greeting("mysql_native_password"), packet(2, OK)].concat();
        for (suffix, flags) in [("", 0), ("-joined", JOINED), ("-options", OPTIONS), ("-lost", LOST)] {
            let mut requests = hello(capabilities);
            if flags & JOINED != 0 {
                requests.clear();
            }
            requests.extend_from_slice(&commands);
            let mut responses = [&login[..], &answers].concat();
            if flags & LOST != 0 {
                // The same again on the new connection.
                responses = [&responses[..], &responses].concat();
            }
            // Rounded up, so that each part ends where it should.
            let share = |part: usize, rest: usize| (part * 256).div_ceil((part + rest).max(1)).min(255) as u8;
            let of_client = share(requests.len(), responses.len() + references.len());
            let of_target = share(responses.len(), references.len());
            let parts = [&[flags, 7, of_client, of_target][..], &requests, &responses, &references];
            seeds.push(seed(format!("{name}{suffix}"), parts.concat()));
        }
    }
    let full = [greeting("caching_sha2_password"), packet(2, b"\x01\x04"), packet(4, b"\x01-----BEGIN PUBLIC KEY-----")];
    let requests = hello(CLIENT);
    let responses = full.concat();
    let share = (requests.len() * 256).div_ceil(requests.len() + responses.len()) as u8;
    seeds.push(seed("key", [&[0, 7, share, 255][..], &requests, &responses].concat()));
    seeds
}
