//! Which protocol a connection speaks, from the first bytes of both sides.
//!
//! Owns the marks by which protocols are known. It is a guess for people, made from at most [`Head::LEN`] bytes of each side; what
//! is replayed, and how, is decided by plugins and `-x`.

use serde::Serialize;
use tcpcopy_engine::seq::SeqNumber;

/// A protocol that is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 in the clear, from its preface on.
    Http2,
    /// HTTP/2 in the clear, asked for by an HTTP/1.1 request and granted.
    H2c,
    /// Redis, as arrays of bulk strings (RESP2 or RESP3).
    Redis,
    /// Redis, as inline commands.
    RedisInline,
    /// MySQL or MariaDB.
    MySql,
    /// MySQL or MariaDB, turned to TLS.
    MySqlTls,
    /// PostgreSQL.
    PostgreSql,
    /// PostgreSQL, turned to TLS or GSS encryption.
    PostgreSqlTls,
    /// TLS from the first byte.
    Tls,
    /// SSH.
    Ssh,
    /// Memcached, its text or binary protocol.
    Memcached,
    /// MongoDB's wire protocol.
    MongoDb,
    /// Bytes that are none of these.
    Unknown,
    /// No byte was captured from either side.
    Silent,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Self; 15] = [
        Self::Http1,
        Self::Http2,
        Self::H2c,
        Self::Redis,
        Self::RedisInline,
        Self::MySql,
        Self::MySqlTls,
        Self::PostgreSql,
        Self::PostgreSqlTls,
        Self::Tls,
        Self::Ssh,
        Self::Memcached,
        Self::MongoDb,
        Self::Unknown,
        Self::Silent,
    ];

    /// Name in the text for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1",
            Self::Http2 => "HTTP/2",
            Self::H2c => "HTTP/2 (h2c)",
            Self::Redis => "Redis",
            Self::RedisInline => "Redis (inline)",
            Self::MySql => "MySQL",
            Self::MySqlTls => "MySQL in TLS",
            Self::PostgreSql => "PostgreSQL",
            Self::PostgreSqlTls => "PostgreSQL in TLS",
            Self::Tls => "TLS",
            Self::Ssh => "SSH",
            Self::Memcached => "memcached",
            Self::MongoDb => "MongoDB",
            Self::Unknown => "unknown",
            Self::Silent => "no data",
        }
    }

    /// Whether the bytes are encrypted with keys that are made anew for each connection: the target can't read them.
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::MySqlTls | Self::PostgreSqlTls | Self::Ssh)
    }

    /// The module that knows this protocol.
    pub const fn module(self) -> Option<&'static str> {
        match self {
            Self::Http1 => Some("http"),
            Self::Redis | Self::RedisInline => Some("redis"),
            Self::MySql => Some("mysql"),
            _ => None,
        }
    }
}

/// The first bytes of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Head {
    bytes: [u8; Self::LEN],
    len: u8,
    /// Payload length of the first segment.
    first_len: u32,
    /// Whether the first request asks to go on in HTTP/2.
    asks_for_h2c: bool,
    /// Sequence number that the next byte of the head has.
    next: SeqNumber,
}

impl Head {
    /// Bytes that are kept.
    pub(crate) const LEN: usize = 24;

    /// Whether nothing was seen yet.
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether more bytes change nothing.
    pub(crate) const fn is_full(&self) -> bool {
        self.len as usize == Self::LEN
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Takes the captured payload of a segment that brought new bytes; what does not follow the head is left out. Returns whether
    /// the head grew.
    pub(crate) fn push(&mut self, seq: SeqNumber, payload: &[u8], payload_len: usize) -> bool {
        if self.len == 0 {
            self.first_len = u32::try_from(payload_len).unwrap_or(u32::MAX);
            self.asks_for_h2c = is_http_request(payload) && payload.windows(4).any(|at| at == b" h2c");
            self.next = seq;
        }
        if seq != self.next || self.is_full() {
            return false;
        }
        let at = usize::from(self.len);
        let taken = payload.len().min(Self::LEN - at);
        self.bytes[at..at + taken].copy_from_slice(&payload[..taken]);
        self.len += taken as u8;
        self.next = seq + payload_len as u32;
        taken > 0
    }
}

/// Who sent the first bytes that were captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    Client,
    Server,
}

/// The protocol of a connection whose sides began, or were first seen, with these bytes.
pub(crate) fn recognise(client: &Head, server: &Head, first: First) -> Protocol {
    if client.is_empty() && server.is_empty() {
        return Protocol::Silent;
    }
    let (c, s) = (client.bytes(), server.bytes());
    of_client(client, s)
        .or_else(|| of_server(server))
        .or_else(|| of_both(c, s, first))
        .or_else(|| of_middle(client, s))
        .unwrap_or(Protocol::Unknown)
}

/// Which side sends such bytes first, for connections whose SYN was not captured: the client when true.
pub(crate) fn is_client_like(head: &Head) -> Option<bool> {
    if of_client(head, &[]).is_some_and(|protocol| protocol != Protocol::Ssh) {
        return Some(true);
    }
    of_server(head)
        .filter(|&protocol| protocol != Protocol::Ssh && protocol != Protocol::Redis)
        .map(|_| false)
}

/// What a client's bytes say by themselves.
fn of_client(client: &Head, server: &[u8]) -> Option<Protocol> {
    let bytes = client.bytes();
    match bytes {
        // A record of type 22 with a ClientHello (RFC 8446, section 5.1).
        [22, 3, 0..=4, _, _, 1, ..] => Some(Protocol::Tls),
        [b'S', b'S', b'H', b'-', ..] => Some(Protocol::Ssh),
        _ if bytes.starts_with(b"PRI * HTTP/2.0") => Some(Protocol::Http2),
        _ if is_resp_array(bytes) => Some(Protocol::Redis),
        // The login packet is the answer to a greeting: number 1, with the capability to speak protocol 4.1.
        [len, len2, 0, 1, low, high, ..]
            if low & 0x85 != 0 && high & 0x02 != 0 && is_login_length(*len, *len2) =>
        {
            // CLIENT_SSL in a packet of 32 bytes: a request to go on in TLS.
            Some(if *len == 32 && *len2 == 0 && high & 0x08 != 0 {
                Protocol::MySqlTls
            } else {
                Protocol::MySql
            })
        }
        // The startup message has its length, and version 3.
        [0, 0, _, _, 0, 3, 0, 0..=9, ..] => Some(Protocol::PostgreSql),
        // Requests for TLS and for GSS encryption, which the server answers with one letter.
        [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f | 0x30, ..] => Some(match server.first() {
            Some(b'N') => Protocol::PostgreSql,
            _ => Protocol::PostgreSqlTls,
        }),
        [0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e, ..] => Some(Protocol::PostgreSql),
        _ if is_mongodb(bytes) => Some(Protocol::MongoDb),
        // "GET key" may be a line of Redis; its answer tells.
        _ if is_http_request(bytes) && !is_resp_reply(server) => {
            let granted = server.get(9..12) == Some(b"101");
            Some(if client.asks_for_h2c && granted { Protocol::H2c } else { Protocol::Http1 })
        }
        _ => None,
    }
}

/// What a server's bytes say by themselves.
fn of_server(server: &Head) -> Option<Protocol> {
    match server.bytes() {
        [22, 3, 0..=4, _, _, 2, ..] => Some(Protocol::Tls),
        [b'S', b'S', b'H', b'-', ..] => Some(Protocol::Ssh),
        bytes if bytes.starts_with(b"HTTP/1.") => Some(Protocol::Http1),
        // The greeting: packet 0, protocol 10, a version; or an error in its place.
        [_, _, 0, 0, 10, b'0'..=b'9', b'.' | b'0'..=b'9', ..] => Some(Protocol::MySql),
        [len, len2, 0, 0, 0xff, _, 0x04..=0x0f, ..]
            if u32::from(*len) + 256 * u32::from(*len2) + 4 == server.first_len =>
        {
            Some(Protocol::MySql)
        }
        bytes if is_resp_array(bytes) => Some(Protocol::Redis),
        bytes if is_mongodb(bytes) => Some(Protocol::MongoDb),
        _ => None,
    }
}

/// What only both sides together say.
fn of_both(client: &[u8], server: &[u8], first: First) -> Option<Protocol> {
    const MEMCACHED: [&[u8]; 12] = [
        b"VALUE ",
        b"END\r",
        b"STORED",
        b"NOT_",
        b"DELETED",
        b"TOUCHED",
        b"EXISTS",
        b"VERSION ",
        b"STAT ",
        b"HD",
        b"EN\r",
        b"ERROR\r",
    ];
    if matches!((client, server), ([0x80, 0..=0x5f, ..], [0x81, ..] | [])) {
        return Some(Protocol::Memcached);
    }
    // Servers that speak first with a plus sign or a number are of other protocols (POP3, SMTP, FTP).
    if first == First::Server || !is_text_line(client) {
        return None;
    }
    if MEMCACHED.iter().any(|mark| server.starts_with(mark)) {
        return Some(Protocol::Memcached);
    }
    if is_resp_reply(server) {
        return Some(Protocol::RedisInline);
    }
    // Without an answer the commands have to do.
    let word = client.split(|byte| matches!(byte, b' ' | b'\r' | b'\n')).next().unwrap_or_default();
    if !server.is_empty() || word.len() == client.len() {
        return None;
    }
    const REDIS: [&[u8]; 10] = [
        b"PING",
        b"INFO",
        b"AUTH",
        b"HELLO",
        b"SELECT",
        b"INCR",
        b"LPUSH",
        b"SUBSCRIBE",
        b"MONITOR",
        b"PSYNC",
    ];
    const TEXT: [&[u8]; 7] = [b"get", b"gets", b"set", b"stats", b"version", b"mg", b"ms"];
    if REDIS.iter().any(|command| word.eq_ignore_ascii_case(command)) {
        return Some(Protocol::RedisInline);
    }
    TEXT.contains(&word).then_some(Protocol::Memcached)
}

/// What the bytes in the middle of a connection look like.
fn of_middle(client: &Head, server: &[u8]) -> Option<Protocol> {
    let c = client.bytes();
    if is_tls_record(c) && (server.is_empty() || is_tls_record(server))
        || is_tls_record(server) && (c.is_empty() || is_tls_record(c))
    {
        return Some(Protocol::Tls);
    }
    // SETTINGS or WINDOW_UPDATE on stream 0.
    if let ([0, 0, 0 | 6 | 12 | 18 | 24 | 30 | 36, 4, 0 | 1, 0, 0, 0, 0, ..], _)
    | (_, [0, 0, 0 | 6 | 12 | 18 | 24 | 30 | 36, 4, 0 | 1, 0, 0, 0, 0, ..]) = (c, server)
    {
        return Some(Protocol::Http2);
    }
    if is_resp_reply(server) && c.is_empty() && server.len() < Head::LEN {
        return Some(Protocol::Redis);
    }
    // A command of MySQL: a packet with the number 0 that fills the segment.
    match c {
        [a, b, d, 0, 1..=0x1f, ..]
            if u32::from_le_bytes([*a, *b, *d, 0]).checked_add(4) == Some(client.first_len) =>
        {
            Some(Protocol::MySql)
        }
        _ => None,
    }
}

/// Lengths that a packet with a login or a request for TLS has.
const fn is_login_length(low: u8, high: u8) -> bool {
    let len = low as u32 + 256 * high as u32;
    len >= 32 && len < 8192
}

/// Whether a record of TLS may begin with these bytes, from the middle of a connection.
fn is_tls_record(bytes: &[u8]) -> bool {
    matches!(bytes, [20..=23, 3, 1..=4, high, _, ..] if *high <= 0x41)
}

/// An array of bulk strings: a command, or a push message.
fn is_resp_array(bytes: &[u8]) -> bool {
    let Some((b'*' | b'>' | b'%' | b'~', rest)) = bytes.split_first() else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=9).contains(&digits)
        && match &rest[digits..] {
            [] | [b'\r'] | [b'\r', b'\n'] => true,
            [b'\r', b'\n', kind, ..] => b"$*:+-_#,(!=%~>".contains(kind),
            _ => false,
        }
}

/// The beginning of any reply of Redis.
fn is_resp_reply(bytes: &[u8]) -> bool {
    match bytes {
        [b'+' | b'-', letter, ..] => letter.is_ascii_alphanumeric(),
        [b':' | b'$' | b'*' | b'%' | b'~' | b'>' | b',' | b'(', digit, ..] => {
            digit.is_ascii_digit() || *digit == b'-'
        }
        [b'_', b'\r', ..] | [b'#', b't' | b'f', ..] => true,
        _ => false,
    }
}

fn is_text_line(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.iter().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\r' | b'\n' | b'\t'))
}

/// A method (letters, hyphens) and the beginning of what it is asked of.
fn is_http_request(bytes: &[u8]) -> bool {
    let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    if !(3..=18).contains(&method) {
        return false;
    }
    match &bytes[method..] {
        [b' ', b'/' | b'*', ..] => true,
        [b' ', rest @ ..] => rest.starts_with(b"http") || (bytes.starts_with(b"CONNECT") && !rest.is_empty()),
        _ => false,
    }
}

/// A message header: length, request, the request that is answered, and a known operation, little-endian.
fn is_mongodb(bytes: &[u8]) -> bool {
    let word = |at: usize| bytes.get(at..)?.first_chunk::<4>().map(|word| u32::from_le_bytes(*word));
    let operation = word(12);
    matches!(operation, Some(2004 | 2010 | 2011 | 2012 | 2013))
        && word(0).is_some_and(|len| (16..=48_000_000).contains(&len))
        || (operation == Some(1)
            && word(0).is_some_and(|len| (36..=48_000_000).contains(&len))
            && word(16) == Some(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(bytes: &[u8]) -> Head {
        let mut head = Head::default();
        if !bytes.is_empty() {
            head.push(SeqNumber(9), bytes, bytes.len());
        }
        head
    }

    fn of(client: &[u8], server: &[u8]) -> Protocol {
        recognise(&head(client), &head(server), First::Client)
    }

    #[test]
    fn protocols_are_known_by_their_first_bytes() {
        use Protocol as P;
        let mut hello = vec![22, 3, 1, 0, 200, 1];
        hello.resize(60, 0);
        let login = |flags: u8, len: u8| [&[len, 0, 0, 1, 0x85, flags, 0, 0][..], &[0; 30]].concat();
        let mongo = [&[40u8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0][..], &[0; 24]].concat();
        let h2c = b"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n";
        let cases: &[(&[u8], &[u8], P)] = &[
            (b"", b"", P::Silent),
            (b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n", P::Http1),
            (b"VERSION-CONTROL /a HTTP/1.1\r\n", b"", P::Http1),
            (b"CONNECT a:443 HTTP/1.1\r\n", b"", P::Http1),
            (b"", b"HTTP/1.0 404 Not Found", P::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"", P::Http2),
            (h2c, b"HTTP/1.1 101 Switching Protocols\r\n", P::H2c),
            (h2c, b"HTTP/1.1 200 OK\r\n", P::Http1),
            (b"*1\r\n$4\r\nPING\r\n", b"", P::Redis),
            (b"*3", b"", P::Redis),
            (b"", b"*3\r\n$7\r\nmessage\r\n", P::Redis),
            (b"SET a b\r\n", b"+OK\r\n", P::RedisInline),
            (b"GET /a\r\n", b"$-1\r\n", P::RedisInline),
            (b"PING\r\n", b"", P::RedisInline),
            (b"get a\r\n", b"VALUE a 0 1\r\n", P::Memcached),
            (b"get a\r\n", b"", P::Memcached),
            (&[0x80, 0, 0, 1], &[0x81, 0], P::Memcached),
            (b"", b"J\0\0\0\n8.0.32\0", P::MySql),
            (&login(0xa2, 0x50), b"J\0\0\0\n8.0.32\0", P::MySql),
            (&login(0xaa, 32), b"J\0\0\0\n8.0.32\0", P::MySqlTls),
            (b"\x09\0\0\0\x03SELECT 1", b"", P::MySql),
            (b"\0\0\0\x29\0\x03\0\0user\0", b"", P::PostgreSql),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", b"S", P::PostgreSqlTls),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", b"N", P::PostgreSql),
            (&hello, b"", P::Tls),
            (b"", &[22, 3, 3, 0, 70, 2, 0], P::Tls),
            (&[23, 3, 3, 0, 99, 7, 7], &[23, 3, 3, 1, 0, 1], P::Tls),
            (b"SSH-2.0-x\r\n", b"", P::Ssh),
            (&mongo, b"", P::MongoDb),
            (b"HELO a\r\n", b"250 ok\r\n", P::Unknown),
            (&[1, 2, 3], &[4], P::Unknown),
        ];
        for (client, server, protocol) in cases {
            assert_eq!(of(client, server), *protocol, "{client:?} {server:?}");
        }
        let pop3 = recognise(&head(b"USER a\r\n"), &head(b"+OK ready\r\n"), First::Server);
        assert_eq!(pop3, Protocol::Unknown);
    }

    #[test]
    fn a_head_that_comes_in_pieces_is_the_same() {
        let mut head = Head::default();
        assert!(head.push(SeqNumber(5), b"PRI * H", 7));
        assert!(!head.push(SeqNumber(40), b"later", 5));
        assert!(head.push(SeqNumber(12), b"TTP/2.0\r\n\r\nSM\r\n\r\nmore", 23));
        assert!(head.is_full());
        assert_eq!(recognise(&head, &Head::default(), First::Client), Protocol::Http2);
    }
}
