//! Plugins of one engine, and what waits to be told to them.
//!
//! Events gather here while a turn of the worker lasts, and go to their plugins in batches: a call costs more than what is done in
//! it. What comes back is applied by [`crate::Engine::run_plugins`].

use super::{
    Event, EventBatch, Fault, Group, Input, Inputs, Opening, Outcome, PluginRunner, SessionId, Span, Without,
};
use crate::protocol::WaitPolicy;
use crate::time::Instant;

/// Which of the engine's plugins.
pub(crate) type PluginIndex = usize;

/// Where a session's events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) plugin: PluginIndex,
    pub(crate) group: Group,
}

struct Plugin {
    runner: Box<dyn PluginRunner>,
    ports: Vec<u16>,
    policy: WaitPolicy,
    inputs: Inputs,
    queues: Vec<Queue>,
}

#[derive(Default)]
struct Queue {
    batch: EventBatch,
    /// Sessions whose end is in the batch.
    leaving: u32,
}

/// All plugins of one engine.
pub(crate) struct Hub {
    plugins: Vec<Plugin>,
    /// Queues with something in them, in the order in which they got it.
    waiting: Vec<Place>,
    spare: Vec<EventBatch>,
    /// The present time, in nanoseconds of the Unix epoch.
    unix_nanos: u64,
    /// Bytes in the queues.
    queued_bytes: usize,
    /// The time of capture of the newest packet, and when it was taken.
    newest: (u64, Instant),
    inputs: Inputs,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("plugins", &self.plugins.len()).field("waiting", &self.waiting).finish()
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            plugins: Vec::new(),
            waiting: Vec::new(),
            spare: Vec::new(),
            unix_nanos: 0,
            queued_bytes: 0,
            newest: (0, Instant::ZERO),
            inputs: Inputs::NONE,
        }
    }
}

impl Hub {
    /// A packet captured at `nanos` of the Unix epoch is taken `now`.
    pub(crate) const fn note_capture(&mut self, nanos: u64, now: Instant) {
        self.newest = (nanos, now);
        self.unix_nanos = nanos;
    }

    /// Time passes also while nothing is captured.
    pub(crate) fn note_time(&mut self, now: Instant) {
        let (nanos, taken) = self.newest;
        self.unix_nanos = nanos.saturating_add(now.saturating_since(taken).as_nanos() as u64);
    }

    pub(crate) fn add(&mut self, runner: Box<dyn PluginRunner>, ports: Vec<u16>, policy: WaitPolicy) {
        let inputs = runner.inputs();
        self.inputs = self.inputs.union(inputs);
        self.plugins.push(Plugin { runner, ports, policy, inputs, queues: Vec::new() });
    }

    /// Whether any plugin needs what the online server sent.
    pub(crate) const fn needs_references(&self) -> bool {
        self.inputs.contains(Inputs::REFERENCES)
    }

    /// The plugin that serves `port` of the online server.
    pub(crate) fn plugin_for(&self, port: u16) -> Option<PluginIndex> {
        self.plugins.iter().position(|p| p.ports.contains(&port))
    }

    /// Whether sessions of a plugin wait as their clients did.
    pub(crate) fn policy(&self, plugin: PluginIndex) -> WaitPolicy {
        self.plugins[plugin].policy
    }

    pub(crate) fn inputs(&self, plugin: PluginIndex) -> Inputs {
        self.plugins[plugin].inputs
    }

    /// A place for a new session.
    pub(crate) fn join(&mut self, plugin: PluginIndex) -> Result<Place, Without> {
        let group = self.plugins[plugin].runner.join()?;
        Ok(Place { plugin, group })
    }

    pub(crate) fn note_violation(&mut self, place: Place, session: SessionId, what: &'static str) {
        self.plugins[place.plugin].runner.note_violation(session, what);
    }

    pub(crate) fn note_observation(&mut self, place: Place, session: SessionId, summary: &[u8]) {
        self.plugins[place.plugin].runner.note_observation(session, summary);
    }

    fn queue(&mut self, place: Place) -> &mut Queue {
        let queues = &mut self.plugins[place.plugin].queues;
        let index = place.group.0 as usize;
        if queues.len() <= index {
            queues.resize_with(index + 1, Queue::default);
        }
        if queues[index].batch.events.is_empty() {
            self.waiting.push(place);
            if queues[index].batch.events.capacity() == 0
                && let Some(spare) = self.spare.pop()
            {
                queues[index].batch = spare;
            }
        }
        &mut queues[index]
    }

    /// Queues an event; `input` may add to the batch what it refers to.
    fn push_with(
        &mut self,
        place: Place,
        session: SessionId,
        at: Option<u64>,
        input: impl FnOnce(&mut EventBatch) -> Input,
    ) {
        let at = at.filter(|at| *at > 0).unwrap_or(self.unix_nanos);
        let queue = self.queue(place);
        let input = input(&mut queue.batch);
        queue.leaving += u32::from(input == Input::Ended);
        queue.batch.events.push(Event { session, at, input });
    }

    /// Queues an event without bytes.
    pub(crate) fn push(&mut self, place: Place, session: SessionId, at: Option<u64>, input: Input) {
        self.push_with(place, session, at, |_| input);
    }

    /// Queues the beginning of a session.
    pub(crate) fn push_opening(
        &mut self,
        place: Place,
        session: SessionId,
        at: Option<u64>,
        opening: Opening,
    ) {
        self.push_with(place, session, at, |batch| {
            let index = batch.openings.len() as u32;
            batch.openings.push(opening);
            Input::Opened(index)
        });
    }

    /// Queues an event with bytes, given in two pieces.
    pub(crate) fn push_bytes(
        &mut self,
        place: Place,
        session: SessionId,
        at: Option<u64>,
        pieces: [&[u8]; 2],
        input: impl FnOnce(Span) -> Input,
    ) {
        self.queued_bytes += pieces[0].len() + pieces[1].len();
        self.push_with(place, session, at, |batch| {
            let start = batch.bytes.len() as u32;
            pieces.into_iter().for_each(|piece| batch.bytes.extend_from_slice(piece));
            input(Span { start, length: batch.bytes.len() as u32 - start })
        });
    }

    /// Whether so much waits that plugins are to be called before more is added: what they are given has to fit into their memory,
    /// and into the processor's.
    pub(crate) const fn is_full(&self) -> bool {
        /// Bytes queued before plugins are called.
        const LIMIT: usize = 256 << 10;
        self.queued_bytes >= LIMIT
    }

    /// Whether nothing waits.
    pub(crate) const fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the list of queues with something in them.
    pub(crate) fn take_waiting(&mut self, into: &mut Vec<Place>) {
        self.queued_bytes = 0;
        into.append(&mut self.waiting);
    }

    /// Calls the plugin with what waits at `place`, and gives the batch back.
    pub(crate) fn run(&mut self, place: Place, outcome: &mut Outcome) -> (EventBatch, Result<(), Fault>) {
        let plugin = &mut self.plugins[place.plugin];
        let queue = &mut plugin.queues[place.group.0 as usize];
        let batch = std::mem::take(&mut queue.batch);
        let leaving = std::mem::take(&mut queue.leaving);
        let result = plugin.runner.run(place.group, &batch, self.unix_nanos, outcome);
        for _ in 0..leaving {
            plugin.runner.leave(place.group);
        }
        (batch, result)
    }

    /// Takes the memory of a batch back.
    pub(crate) fn recycle(&mut self, mut batch: EventBatch) {
        /// Batches kept at most, and how large.
        const KEPT: usize = 64;
        const KEPT_BYTES: usize = 1 << 20;
        if self.spare.len() < KEPT && batch.bytes.capacity() <= KEPT_BYTES {
            batch.clear();
            self.spare.push(batch);
        }
    }
}
