//! Packets for tests, and a session that logs in.

#![allow(dead_code, unreachable_pub, reason = "each test program uses some of it")]

use plugin_sdk::Value;
use plugin_sdk::testing::Transcript;
use tcpcopy_mysql::packet;

pub const NATIVE: &[u8] = b"mysql_native_password";
pub const SHA2: &[u8] = b"caching_sha2_password";
pub const NONCE: &[u8; 20] = b"abcdefghijklmnopqrst";

/// Capabilities of a common client: 4.1, secure connection, plugin auth, multi results, transactions, database.
pub const CLIENT: u32 = 0x000f_a685;
/// Those of a common server: all but TLS and compression.
pub const SERVER: u32 = 0x81ff_f7df & !0x20;
pub const DEPRECATE_EOF: u32 = 0x0100_0000;
pub const SESSION_TRACK: u32 = 0x0080_0000;
pub const QUERY_ATTRIBUTES: u32 = 0x0800_0000;
pub const COMPRESS: u32 = 0x20;
pub const WITH_DB: u32 = 8;

pub fn password(password: &str) -> [(&'static str, Value); 1] {
    [("password", Value::from(password))]
}

/// One packet.
pub fn packet(sequence: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet::write(&mut bytes, sequence, payload.as_ref());
    bytes
}

/// Packets with rising numbers.
pub fn packets(first: u8, payloads: &[&[u8]]) -> Vec<u8> {
    payloads.iter().enumerate().flat_map(|(index, payload)| packet(first + index as u8, payload)).collect()
}

pub fn greeting_of(capabilities: u32, plugin: &[u8]) -> Vec<u8> {
    let mut payload = vec![10];
    payload.extend_from_slice(b"9.7.4\0\x01\0\0\0");
    payload.extend_from_slice(&NONCE[..8]);
    payload.push(0);
    payload.extend_from_slice(&(capabilities as u16).to_le_bytes());
    payload.extend_from_slice(&[255, 2, 0]);
    payload.extend_from_slice(&((capabilities >> 16) as u16).to_le_bytes());
    payload.push(21);
    payload.extend_from_slice(&[0; 10]);
    payload.extend_from_slice(&NONCE[8..]);
    payload.push(0);
    payload.extend_from_slice(plugin);
    payload.push(0);
    packet(0, payload)
}

pub fn greeting(plugin: &[u8]) -> Vec<u8> {
    greeting_of(SERVER, plugin)
}

/// A client's answer to a greeting.
pub fn hello_of(capabilities: u32, user: &str, database: Option<&str>) -> Vec<u8> {
    let capabilities = if database.is_some() { capabilities | WITH_DB } else { capabilities & !WITH_DB };
    let mut payload = capabilities.to_le_bytes().to_vec();
    payload.extend_from_slice(&0x0100_0000u32.to_le_bytes());
    payload.push(45);
    payload.extend_from_slice(&[0; 23]);
    payload.extend_from_slice(user.as_bytes());
    payload.push(0);
    payload.push(20);
    payload.extend_from_slice(&[7; 20]);
    if let Some(database) = database {
        payload.extend_from_slice(database.as_bytes());
        payload.push(0);
    }
    payload.extend_from_slice(NATIVE);
    payload.push(0);
    packet(1, payload)
}

pub fn hello(user: &str) -> Vec<u8> {
    hello_of(CLIENT, user, None)
}

pub fn command(code: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    packet(0, [&[code], body.as_ref()].concat())
}

pub fn query(text: &str) -> Vec<u8> {
    command(3, text)
}

pub fn ok_payload(status: u16) -> Vec<u8> {
    let [low, high] = status.to_le_bytes();
    vec![0, 0, 0, low, high, 0, 0]
}

pub fn ok(sequence: u8) -> Vec<u8> {
    packet(sequence, ok_payload(2))
}

pub fn eof(status: u16) -> Vec<u8> {
    let [low, high] = status.to_le_bytes();
    vec![0xfe, 0, 0, low, high]
}

pub fn error(sequence: u8, code: u16, text: &str) -> Vec<u8> {
    let mut payload = vec![0xff];
    payload.extend_from_slice(&code.to_le_bytes());
    payload.extend_from_slice(b"#42000");
    payload.extend_from_slice(text.as_bytes());
    packet(sequence, payload)
}

/// A session of `app` that has logged in.
pub fn logged_in() -> Transcript {
    logged_in_with(CLIENT, SERVER)
}

pub fn logged_in_with(client: u32, server: u32) -> Transcript {
    Transcript::new()
        .connected()
        .response(greeting_of(server, NATIVE))
        .request(hello_of(client, "app", None))
        .response(ok(2))
}
