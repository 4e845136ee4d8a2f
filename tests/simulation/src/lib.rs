//! Engine sessions against servers on an independent TCP stack, over a seeded network.
//!
//! Owns the play: clients whose packets are captured well or badly, networks that lose, repeat, reorder and delay, servers on
//! smoltcp, and the verdict. Time is virtual, chance comes from the seed alone: a failing seed fails again, and prints its
//! packets. Leaves the engine's rules to the engine; nothing here looks into a session.
#![forbid(unsafe_code)]

pub mod captures;
pub mod client;
pub mod intercept;
pub mod network;
pub mod plugin;
pub mod profile;
pub mod request;
pub mod rng;
pub mod server;
pub mod trace;
pub mod verdict;
pub mod world;

use trace::Keep;
use world::World;

/// How a seed ended.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was wrong; empty when nothing was.
    pub violations: Vec<String>,
    /// Its packets, when they were asked for.
    pub packets: Vec<String>,
    /// One line about what the seed stands for and what was counted.
    pub summary: String,
}

/// Runs one seed.
pub fn run(seed: u64, keep: Keep) -> Outcome {
    let mut world = World::new(seed, keep);
    world.run();
    verdict::check(&mut world);
    let counters = world.counters();
    let given_up: Vec<String> =
        counters.requests_given_up.iter().map(|(reason, n)| format!("{} {n}", reason.name())).collect();
    let ended: Vec<String> =
        counters.sessions_ended.iter().map(|(reason, n)| format!("{} {n}", reason.name())).collect();
    let summary = format!(
        "{} clients, {:?}, {:?}, {:.3} s simulated; {} requests, {} acknowledged, given up: [{}]; sessions ended: [{}]; {} packets \
         sent, {} again, {} reconnects",
        world.clients.len(),
        world.profile.servers,
        world.profile.plan,
        world.now() as f64 / 1e9,
        counters.requests_captured,
        counters.requests_acknowledged,
        given_up.join(", "),
        ended.join(", "),
        counters.packets_sent,
        counters.retransmits,
        counters.reconnects,
    );
    Outcome {
        seed,
        violations: std::mem::take(&mut world.violations),
        packets: world.trace.lines().to_vec(),
        summary,
    }
}
