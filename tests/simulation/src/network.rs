//! One leg of the network: decides for each packet whether, and when, it arrives.

use crate::profile::Leg;
use crate::rng::Rng;
use std::collections::HashMap;
use tcpcopy_engine::flow::FlowKey;

/// When the copies of a packet arrive, in nanoseconds of the run; none when it is lost.
pub type Arrivals = [Option<u64>; 2];

/// A leg with its own chance.
#[derive(Debug)]
pub struct Network {
    leg: Leg,
    rng: Rng,
    /// Packets of one flow overtake each other only where that was decided.
    last: HashMap<FlowKey, u64>,
}

impl Network {
    /// A leg.
    pub fn new(leg: Leg, rng: Rng) -> Self {
        Self { leg, rng, last: HashMap::new() }
    }

    /// The fate of a packet of `flow` sent at `now`.
    pub fn send(&mut self, flow: FlowKey, now: u64) -> Arrivals {
        let Leg { loss, repeat, reorder, delay, jitter } = self.leg;
        let travelled = now + (delay + self.rng.between(0, jitter)) * 1000;
        let last = self.last.entry(flow).or_insert(0);
        let arrival = travelled.max(*last + 1000);
        if self.rng.chance(loss) {
            return [None, None];
        }
        let held_up = self.rng.chance(reorder);
        if !held_up {
            *last = arrival;
        }
        let repeated = self.rng.chance(repeat);
        let mut later = |most: u64| self.rng.magnitude(1, most.max(10)) * 1000;
        let first = if held_up { arrival + later(delay * 2) } else { arrival };
        [Some(first), repeated.then(|| first + later(delay * 3))]
    }
}
