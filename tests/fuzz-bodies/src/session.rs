//! The engine, fed with random events: captured packets, replies, refusals, failed sends, time.
//!
//! [`model`] holds what the world outside the engine knows (clients, flows, routes), [`event`] what an input's bytes mean.

pub(crate) mod event;
mod model;

use arbitrary::{Arbitrary, Unstructured};
use event::{Event, Setup};
use model::World;

/// Events of one input at most; later bytes are ignored.
const MAX_EVENTS: usize = 600;

/// Runs the engine through the events of an input. Input: a [`Setup`], then [`Event`]s.
///
/// # Panics
/// When, after any event, the counters do not add up, more memory is held than the limit and what one event may add, or a packet
/// sent is malformed, goes to no target of the mapping, comes from an address that plays no client, has no route, is longer than
/// the MTU, or says something else at a sequence number than before; when timers never settle; or when anything is left after
/// [`tcpcopy_engine::Engine::shut_down`] and time.
pub fn session(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(setup) = Setup::arbitrary(&mut u) else { return };
    let mut world = World::new(&setup);
    for _ in 0..MAX_EVENTS {
        if u.is_empty() {
            break;
        }
        let Ok(event) = Event::arbitrary(&mut u) else { break };
        world.happen(&event);
    }
    world.end();
}
