//! What a seed stands for: how many clients, which servers, what the networks and the capture do to packets.

use crate::plugin::Plan;
use crate::rng::Rng;
use std::sync::Arc;
use tcpcopy_engine::time::Duration;

/// What one leg of the network does to packets. Chances are per mille.
#[derive(Clone, Copy, Debug)]
pub struct Leg {
    /// Packets that never arrive.
    pub loss: u64,
    /// Packets that arrive twice.
    pub repeat: u64,
    /// Packets that are held up so that later ones overtake them.
    pub reorder: u64,
    /// One-way delay in microseconds.
    pub delay: u64,
    /// Up to so many microseconds more, each packet for itself, without overtaking.
    pub jitter: u64,
}

impl Leg {
    fn new(rng: &mut Rng, quality: Quality) -> Self {
        let delay = rng.magnitude(50, 40_000);
        let jitter = rng.between(0, delay / 4);
        match quality {
            Quality::Perfect => Self { loss: 0, repeat: 0, reorder: 0, delay, jitter: 0 },
            Quality::Usual => Self {
                loss: rng.between(0, 20),
                repeat: rng.between(0, 10),
                reorder: rng.between(0, 30),
                delay,
                jitter,
            },
            Quality::Rough => Self {
                loss: rng.between(20, 150),
                repeat: rng.between(0, 60),
                reorder: rng.between(0, 120),
                delay,
                jitter,
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quality {
    Perfect,
    Usual,
    Rough,
}

/// How a target server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// Answers each request at once, with as many bytes as it asks for.
    Echo,
    /// The same, after so many microseconds.
    Late(u64),
    /// Reads at most so many bytes each so many microseconds.
    Slow {
        /// Bytes at a time.
        bytes: usize,
        /// Time between, in microseconds.
        every: u64,
    },
    /// Has a receive buffer of so many bytes.
    SmallWindow(usize),
    /// Says so many bytes before anything else.
    Greets(u32),
    /// Closes after so many requests, answered.
    Closes {
        /// Requests before it closes.
        after: u32,
        /// With a reset instead of a FIN.
        with_reset: bool,
    },
    /// Reads whatever comes, and answers nothing.
    Sink,
    /// Refuses so many connections in a thousand.
    Refuses(u64),
}

/// How captured packets fare before the engine sees them. Chances are per mille, for each client segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureFaults {
    /// Never captured, although they arrived.
    pub gap: u64,
    /// Captured twice.
    pub repeat: u64,
    /// Captured after a later one.
    pub reorder: u64,
    /// Sent again by the client, in other pieces.
    pub retransmit: u64,
    /// Lost before the capture, and sent again by the client.
    pub resent: u64,
    /// Captured only in part.
    pub cut: u64,
}

/// Everything that a seed decides, clients and packets apart.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Number of clients.
    pub clients: u32,
    /// Requests of one client at most.
    pub requests: u64,
    /// Longest request in bytes.
    pub longest: u64,
    /// Longest response in bytes.
    pub longest_response: u64,
    /// Each server's behaviour.
    pub servers: Vec<ServerKind>,
    /// Towards the targets.
    pub outgoing: Leg,
    /// From the targets back to the engine.
    pub replies: Leg,
    /// Whether, in per mille, segments of one reply are merged before they are returned.
    pub merge: u64,
    /// The capture.
    pub capture: CaptureFaults,
    /// Clients in a thousand whose beginning, or end, is not captured.
    pub beheaded: u64,
    /// Clients in a thousand whose end is not captured.
    pub vanishing: u64,
    /// The same distance for all clients (`-R`).
    pub pace: Option<Duration>,
    /// Response lengths of the target differ from the online server's.
    pub drifts: bool,
    /// What the plugin does that serves the sessions, if one does.
    pub plan: Option<Arc<Plan>>,
}

impl Profile {
    /// The profile of a seed.
    pub fn new(seed: u64, rng: &mut Rng) -> Self {
        let crowd = seed % 10 == 7;
        let quality = rng.pick(&[Quality::Perfect, Quality::Usual, Quality::Usual, Quality::Rough]);
        let exact = rng.chance(400);
        let servers: Vec<ServerKind> = (0..rng.between(1, 3)).map(|_| server(rng)).collect();
        // Chance of its own: seeds that differ in nothing else are the same with and without a plugin.
        let plan = (seed % 3 == 1).then(|| Arc::new(Plan::new(&mut Rng::new(!seed), &servers)));
        let few = rng.magnitude(1, 60) as u32;
        let bulky = !crowd && rng.chance(250);
        Self {
            clients: if crowd { rng.between(150, 400) as u32 } else { few },
            requests: if crowd {
                4
            } else if bulky {
                6
            } else {
                14
            },
            longest: if bulky { 300_000 } else { 6_000 },
            longest_response: if bulky && rng.chance(500) { 200_000 } else { 9_000 },
            servers,
            outgoing: Leg::new(rng, quality),
            replies: Leg::new(rng, quality),
            merge: rng.pick(&[0, 300, 1000]),
            capture: if exact { CaptureFaults::default() } else { capture_faults(rng) },
            beheaded: if exact { 0 } else { rng.pick(&[0, 0, 150]) },
            vanishing: rng.pick(&[0, 0, 150]),
            pace: rng.chance(250).then(|| Duration::from_micros(rng.magnitude(1, 60_000))),
            drifts: rng.chance(350),
            plan,
        }
    }
}

fn capture_faults(rng: &mut Rng) -> CaptureFaults {
    let mut sometimes = |most: u64| if rng.chance(500) { rng.between(1, most) } else { 0 };
    CaptureFaults {
        gap: sometimes(30),
        repeat: sometimes(50),
        reorder: sometimes(100),
        retransmit: sometimes(60),
        resent: sometimes(60),
        cut: if sometimes(100) > 80 { 10 } else { 0 },
    }
}

fn server(rng: &mut Rng) -> ServerKind {
    match rng.between(0, 9) {
        0..=2 => ServerKind::Echo,
        3 => ServerKind::Late(rng.magnitude(100, 200_000)),
        4 => ServerKind::Slow {
            bytes: rng.magnitude(200, 20_000) as usize,
            every: rng.magnitude(500, 300_000),
        },
        5 => ServerKind::SmallWindow(rng.magnitude(300, 5_000) as usize),
        6 => ServerKind::Greets(rng.between(1, 3_000) as u32),
        7 | 8 => ServerKind::Closes { after: rng.between(1, 5) as u32, with_reset: rng.chance(300) },
        _ => ServerKind::Refuses(rng.between(50, 700)),
    }
}
