//! A real server: whatever is sent to it, each request has exactly the replies that the plugin expects.
//!
//! Needs `redis-server`; says so and passes without.

use plugin_sdk::testing::{Decision, Harness};
use plugin_sdk::{Loss, Origin, Reply, Value};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tcpcopy_redis::commands::{COMMANDS, flag};
use tcpcopy_redis::{Redis, encode};

struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// A server of its own for this test, on a socket in its own folder.
    fn start(name: &str, options: &[&str]) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("tcpcopy-redis-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(folder.join("socket"))
            .arg("--dir")
            .arg(&folder)
            .args(options)
            .stdout(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            assert!(std::env::var_os("TCPCOPY_REQUIRE_LAB").is_none(), "redis-server is not installed");
            println!("skipped: redis-server is not installed");
            return None;
        };
        let server = Self { child, folder };
        let started = Instant::now();
        while UnixStream::connect(server.folder.join("socket")).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "redis-server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(server)
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.folder.join("socket")).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is gone already when a test shut it down.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Plays the host for one session.
struct Proxy {
    harness: Harness<Redis>,
    session: u64,
    stream: UnixStream,
    expected: usize,
    replies: usize,
    received: Vec<u8>,
    ready: bool,
    waiting: Vec<u8>,
}

impl Proxy {
    fn new(server: &Server, settings: &[(&str, Value)], origin: Origin) -> Self {
        let mut harness = Harness::new(settings);
        let session = harness.open_as(origin);
        let mut proxy = Self {
            harness,
            session,
            stream: server.connect(),
            expected: 0,
            replies: 0,
            received: Vec::new(),
            ready: false,
            waiting: Vec::new(),
        };
        let decisions = proxy.harness.connected(session);
        proxy.act(decisions);
        proxy
    }

    fn act(&mut self, decisions: Vec<Decision>) {
        for decision in decisions {
            match decision {
                Decision::Prepare(bytes) => self.write(&bytes.0),
                Decision::Forward(bytes) | Decision::Send(bytes) if self.ready => self.write(&bytes.0),
                Decision::Forward(bytes) | Decision::Send(bytes) => self.waiting.extend_from_slice(&bytes.0),
                Decision::EndRequest(Reply::Expected) => self.expected += 1,
                Decision::ReplyComplete => self.replies += 1,
                Decision::Ready => {
                    self.ready = true;
                    let waiting = std::mem::take(&mut self.waiting);
                    self.write(&waiting);
                }
                Decision::Discard(_) | Decision::EndRequest(Reply::NotExpected) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                // The server has closed; what it said before is still to be read.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn request(&mut self, bytes: &[u8]) {
        let decisions = self.harness.request(self.session, bytes);
        self.act(decisions);
        // A server that can't write does not read either.
        self.receive(Duration::ZERO);
    }

    /// Takes what comes, in small pieces, until nothing comes for `quiet`.
    fn receive(&mut self, quiet: Duration) {
        let mut last = Instant::now();
        let mut buffer = [0; 4096];
        if quiet.is_zero() {
            self.stream.set_nonblocking(true).expect("a socket");
        }
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    self.received.extend_from_slice(&buffer[..length]);
                    for piece in buffer[..length].chunks(7) {
                        let decisions = self.harness.response(self.session, piece);
                        self.act(decisions);
                    }
                    last = Instant::now();
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if last.elapsed() >= quiet {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.stream.set_nonblocking(false).expect("a socket");
    }

    /// All replies have come, and none besides.
    fn check(&mut self, what: &str) {
        let started = Instant::now();
        self.receive(Duration::from_millis(40));
        // Some commands wait a second for something that never comes.
        while self.replies < self.expected && started.elapsed() < Duration::from_secs(60) {
            self.receive(Duration::from_millis(100));
        }
        let end = self.received.len().saturating_sub(600);
        let tail = self.received[end..].escape_ascii().to_string();
        assert_eq!(self.replies, self.expected, "{what}\n{tail}");
        assert_eq!(self.harness.count("replies to nothing"), 0, "{what}\n{tail}");
    }
}

fn line(words: &str) -> Vec<u8> {
    encode::command(&words.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((value ^ (value >> 31)) % bound as u64) as usize
    }
}

#[test]
fn each_command_of_the_table_is_counted_right() {
    let Some(server) = Server::start("table", &[]) else { return };
    for protocol in ["HELLO 2", "HELLO 3"] {
        // Without arguments, and with as few as it takes; in one pipeline.
        for spare in 0..2 {
            let mut proxy = Proxy::new(&server, &[], Origin::Start);
            proxy.request(&line(protocol));
            for command in &COMMANDS {
                let ends = matches!(command.name, "quit" | "monitor" | "multi" | "hello" | "reset");
                if ends
                    || command.is_any(flag::DANGEROUS)
                    || (spare == 0 && command.name.starts_with("client|reply"))
                {
                    continue;
                }
                let least = usize::from(command.arity.unsigned_abs()) + spare - 1;
                let mut words: Vec<&str> = command.name.split('|').collect();
                words.resize(words.len().max(least), "1");
                proxy.request(&line(&words.join(" ")));
            }
            proxy.check(protocol);
            assert!(proxy.expected > 400, "{} requests", proxy.expected);
        }
    }
}

const LINES: [&str; 56] = [
    "PING",
    "SET a 1",
    "GET a",
    "MGET a b c",
    "LPUSH l a b",
    "LRANGE l 0 -1",
    "HSET h f v",
    "HGETALL h",
    "SADD s a b",
    "SMEMBERS s",
    "ZADD z 1 a 2.5 b",
    "ZRANGE z 0 -1 WITHSCORES",
    "INCR a",
    "INCR l",
    "FOO bar",
    "GET",
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH a",
    "SUBSCRIBE c1 c2",
    "SUBSCRIBE c1",
    "UNSUBSCRIBE",
    "UNSUBSCRIBE c1 c9",
    "PSUBSCRIBE p*",
    "PUNSUBSCRIBE",
    "PUNSUBSCRIBE p* q*",
    "SSUBSCRIBE s1",
    "SUNSUBSCRIBE",
    "SUNSUBSCRIBE s1 s2",
    "HELLO 3",
    "HELLO 2",
    "HELLO",
    "HELLO 9",
    "RESET",
    "SELECT 1",
    "SELECT 99",
    "CLIENT SETNAME x",
    "CLIENT TRACKING ON",
    "CLIENT TRACKING OFF",
    "CLIENT REPLY OFF",
    "CLIENT REPLY SKIP",
    "CLIENT REPLY ON",
    "CLIENT REPLY ON",
    "CLIENT REPLY NO",
    "EVAL return{1,2,{3}} 0",
    "XADD x * f v",
    "XRANGE x - +",
    "BLPOP l 0.01",
    "BLPOP nolist 0.01",
    "FLUSHALL",
    "AUTH x",
    "PUBLISH c1 hello",
    "COMMAND COUNT",
    "SCAN 0",
    "CLIENT ID",
];

#[test]
fn random_pipelines_are_counted_right() {
    let Some(server) = Server::start("random", &[]) else { return };
    let mut other = server.connect();
    for seed in 0..150 {
        let mut random = Random(seed);
        let mut proxy = Proxy::new(&server, &[], Origin::Start);
        let mut sent = Vec::new();
        let mut in_transaction = false;
        for _ in 0..60 {
            let words = LINES[random.below(LINES.len())];
            // Whether such a transaction is executed can't be told from the requests alone.
            if in_transaction && (words.contains("SUBSCRIBE") || words.starts_with("HELLO")) {
                continue;
            }
            in_transaction =
                (in_transaction || words == "MULTI") && !matches!(words, "EXEC" | "DISCARD" | "RESET");
            sent.push(words);
            if random.below(4) == 0 {
                proxy.request(format!("{words}\r\n").as_bytes());
            } else {
                proxy.request(&line(words));
            }
            if random.below(5) == 0 {
                // Messages and invalidations for whoever wants them.
                other
                    .write_all(b"PUBLISH c1 x\r\nPUBLISH px y\r\nSPUBLISH s1 z\r\nSET a 2\r\n")
                    .expect("a server");
            }
        }
        proxy.check(&format!("seed {seed}: {}", sent.join("; ")));
        let mut rest = [0; 4096];
        while matches!(other.read(&mut rest), Ok(length) if length > 0) {}
    }
}

#[test]
fn a_monitor_is_counted_right() {
    let Some(server) = Server::start("monitor", &[]) else { return };
    let mut other = server.connect();
    for protocol in ["HELLO 2", "HELLO 3"] {
        let mut proxy = Proxy::new(&server, &[], Origin::Start);
        for words in [protocol, "MONITOR"] {
            proxy.request(&line(words));
        }
        for _ in 0..20 {
            other.write_all(b"SET m 1\r\n").expect("a server");
            proxy.request(&line("PING"));
        }
        proxy.receive(Duration::from_millis(50));
        proxy.request(&line("RESET"));
        proxy.request(&line("GET m"));
        proxy.check(protocol);
        assert_eq!(proxy.replies, 24);
    }
}

#[test]
fn logins_work_with_the_targets_passwords() {
    let options = ["--requirepass", "new", "--user", "bob", "on", ">bobs", "~*", "&*", "+@all"];
    let Some(server) = Server::start("login", &options) else { return };
    let passwords = Value::Table(vec![("bob".into(), "bobs".into())]);
    let settings = [("password", Value::from("new")), ("passwords", passwords)];
    let mut proxy = Proxy::new(&server, &settings, Origin::Start);
    for words in [
        "AUTH old",
        "ACL WHOAMI",
        "AUTH bob his",
        "ACL WHOAMI",
        "HELLO 3 AUTH bob his SETNAME me",
        "CLIENT GETNAME",
    ] {
        proxy.request(&line(words));
    }
    proxy.check("logins");
    let errors = proxy.harness.counts().keys().filter(|name| name.starts_with("answered")).count();
    assert_eq!(errors, 0, "{:?}", proxy.harness.counts());
    let received = String::from_utf8_lossy(&proxy.received).into_owned();
    assert!(
        received.contains("default") && received.contains("$3\r\nbob") && received.ends_with("$2\r\nme\r\n"),
        "{received}"
    );

    let mut joined = Proxy::new(&server, &settings, Origin::MidStream);
    joined.request(b"st of something\r\n");
    joined.request(&line("SET a 1"));
    joined.request(&line("GET a"));
    joined.check("joined");
    assert!(
        joined.received.ends_with(b"+OK\r\n$1\r\n1\r\n"),
        "{:?}",
        joined.received.escape_ascii().to_string()
    );
}

#[test]
fn a_reconnected_session_goes_on_as_before() {
    let Some(server) = Server::start("reconnect", &[]) else { return };
    let mut proxy = Proxy::new(&server, &[], Origin::Start);
    for words in ["HELLO 3", "SELECT 3", "CLIENT SETNAME me", "SUBSCRIBE c", "CLIENT TRACKING ON", "SET a 1"]
    {
        proxy.request(&line(words));
    }
    proxy.check("before");
    proxy.stream = server.connect();
    proxy.ready = false;
    let lost =
        proxy.harness.connection_lost(proxy.session, Loss { unanswered: 0, kept: 0, interrupted: false });
    assert!(lost.is_empty());
    proxy.expected = 0;
    proxy.replies = 0;
    let decisions = proxy.harness.connected(proxy.session);
    proxy.act(decisions);
    for words in ["GET a", "CLIENT GETNAME", "CLIENT INFO", "UNSUBSCRIBE"] {
        proxy.request(&line(words));
    }
    proxy.check("after");
    let received = String::from_utf8_lossy(&proxy.received).into_owned();
    assert!(
        received.contains("db=3") && received.contains("name=me") && received.contains("resp=3"),
        "{received}"
    );
    assert!(received.contains("flags=tP") || received.contains("flags=Pt"), "{received}");
    assert!(proxy.ready);
}

#[test]
fn read_only_leaves_the_data_alone() {
    let Some(server) = Server::start("readonly", &["--enable-debug-command", "yes"]) else { return };
    let ask = |words: &str| {
        let mut stream = server.connect();
        stream.write_all(&line(words)).expect("a server");
        let mut buffer = [0; 256];
        let length = stream.read(&mut buffer).expect("a reply");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    for words in ["SET 1 1", "LPUSH l 1 2", "ZADD z 1 a", "PFADD h 1 2 3", "HSET hash 1 1"] {
        ask(words);
    }
    let before = ask("DEBUG DIGEST");
    let mut proxy = Proxy::new(&server, &[("read-only", Value::from(true))], Origin::Start);
    for key in ["1", "l", "z", "h", "hash"] {
        for command in &COMMANDS {
            let blocks = matches!(
                command.name,
                "quit" | "monitor" | "subscribe" | "psubscribe" | "ssubscribe" | "client|reply"
            );
            if blocks {
                continue;
            }
            let mut words: Vec<&str> = command.name.split('|').collect();
            let least = usize::from(command.arity.unsigned_abs());
            words.push(key);
            words.resize(words.len().max(least), "1");
            proxy.request(&line(&words.join(" ")));
        }
        for words in [
            "EVAL redis.call('flushall') 0",
            "SORT l STORE d",
            "BITFIELD 1 SET u8 0 1",
            "GEOADD g 1 1 a",
            "FLUSHALL",
        ] {
            proxy.request(&line(words));
        }
    }
    proxy.check("read-only");
    assert!(proxy.expected > 500);
    assert_eq!(ask("DEBUG DIGEST"), before);
}
