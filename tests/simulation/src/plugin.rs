//! A plugin that knows the framing of simulated requests, and does with them all that a plugin may.
//!
//! What becomes of a request follows from the plan and the request alone ([`Plan::fate`]), so that the verdict knows it too, and a
//! request that is decided about again, because its instance failed, fares the same. Owns the plan and the requests' framing;
//! what the host tells the plugin is checked against the plugin's own books, and what does not agree is noted in [`Notes`].

use crate::profile::ServerKind;
use crate::request::{HEADER_LEN, Header};
use crate::rng::Rng;
use session::Session;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tcpcopy_engine::plugin::{
    AfterFault, EventBatch, Fault, Group, Input, Inputs, Opening, Outcome, PluginRunner, SessionId, Without,
};
use tcpcopy_engine::protocol::WaitPolicy;

mod session;

/// The number of the request that prepares a connection.
pub const PREAMBLE: u32 = 0x00ff_ffff;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is sent as it is.
    Forward,
    /// It is left out.
    Drop,
    /// It is sent with this header instead of its own, and a body as long as that says.
    Rewrite(Header),
    /// From it on, the session is replayed as with no plugin.
    Pass,
    /// The plugin fails over it, before or after its bytes are decided about.
    Fail(Moment),
}

/// When the plugin fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before anything of the request is decided.
    Before,
    /// When all of it is there.
    After,
}

/// Whether requests are decided about piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Never,
    Always,
    Sometimes,
}

/// What the plugin of a seed does. Chances are per mille, for each request.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whether replies are waited for.
    pub policy: WaitPolicy,
    /// How long events gather before the plugin is called, in nanoseconds.
    pub gather: u64,
    seed: u64,
    hold: Hold,
    drop: u64,
    rewrite: u64,
    pass: u64,
    fail: u64,
    /// Whether a fault names no session.
    anonymous: bool,
    delay: u64,
    /// Whether connections are prepared, and how long the answer to the preamble is.
    preamble: Option<u32>,
    /// Whether requests are decided about before a connection is ready.
    eager: bool,
    closes: bool,
    /// How often a connection on which nothing is due is left for a new one.
    reconnect: u64,
    /// Whether the plugin knows when a server closes.
    foresees_closes: bool,
    per_group: u32,
    greetings: Vec<u64>,
    closes_after: Vec<Option<u32>>,
}

impl Plan {
    /// The plan of a seed, for sessions to `servers`.
    pub fn new(rng: &mut Rng, servers: &[ServerKind]) -> Self {
        Self {
            policy: if rng.chance(100) { WaitPolicy::Never } else { WaitPolicy::LikeClient },
            gather: rng.pick(&[0, 0, 100_000, 2_000_000]),
            seed: rng.any(),
            hold: rng.pick(&[Hold::Never, Hold::Always, Hold::Sometimes]),
            drop: rng.pick(&[0, 0, 30, 200]),
            rewrite: rng.pick(&[0, 0, 100, 500]),
            pass: rng.pick(&[0, 0, 0, 15]),
            fail: rng.pick(&[0, 0, 0, 3, 20]),
            anonymous: rng.chance(200),
            delay: rng.pick(&[0, 0, 0, 100]),
            preamble: rng.chance(350).then(|| rng.magnitude(1, 4000) as u32),
            eager: rng.chance(500),
            closes: rng.chance(300),
            reconnect: rng.pick(&[0, 0, 0, 100]),
            foresees_closes: rng.chance(500),
            per_group: rng.pick(&[1, 3, 64, 1000]),
            greetings: servers
                .iter()
                .map(|kind| if let ServerKind::Greets(len) = kind { u64::from(*len) } else { 0 })
                .collect(),
            closes_after: servers
                .iter()
                .map(|kind| if let ServerKind::Closes { after, .. } = kind { Some(*after) } else { None })
                .collect(),
        }
    }

    fn chance_of(&self, header: &Header) -> Rng {
        Rng::new(self.seed ^ u64::from(header.client) << 24 ^ u64::from(header.number))
    }

    /// What becomes of the request with this header.
    pub fn fate(&self, header: &Header) -> Fate {
        let mut rng = self.chance_of(header);
        if rng.chance(self.drop) {
            Fate::Drop
        } else if rng.chance(self.rewrite) {
            let len = match rng.between(0, 2) {
                0 => header.len,
                1 => header.len + rng.magnitude(1, 3000) as u32,
                _ => rng.between(HEADER_LEN as u64, u64::from(header.len)) as u32,
            };
            let response = if rng.chance(500) { header.response } else { rng.magnitude(1, 5000) as u32 };
            Fate::Rewrite(Header { len, response, ..*header })
        } else if rng.chance(self.pass) {
            Fate::Pass
        } else if rng.chance(self.fail) {
            Fate::Fail(if rng.chance(500) { Moment::Before } else { Moment::After })
        } else {
            Fate::Forward
        }
    }

    /// Whether a request is decided about only when all of it is there.
    fn holds(&self, header: &Header) -> bool {
        match self.hold {
            Hold::Never => false,
            Hold::Always => true,
            Hold::Sometimes => self.chance_of(header).any() & 0x1_0000 > 0,
        }
    }

    /// For how many nanoseconds a request is put off.
    fn delays(&self, header: &Header) -> Option<u64> {
        let mut rng =
            Rng::new(self.seed.rotate_left(7) ^ u64::from(header.client) << 32 ^ u64::from(header.number));
        rng.chance(self.delay).then(|| rng.magnitude(1, 80_000_000))
    }

    /// Whether the connection is left for a new one behind the reply to request `number` of `client`.
    fn reconnects(&self, client: u32, number: u32) -> bool {
        let mut rng = Rng::new(self.seed.rotate_left(19) ^ u64::from(client) << 32 ^ u64::from(number));
        rng.chance(self.reconnect)
    }

    /// What comes first on a connection of `client`'s, before any request.
    pub fn preamble(&self, client: u32) -> Option<Vec<u8>> {
        let response = self.preamble?;
        let mut bytes = Vec::new();
        Header { number: PREAMBLE, client, len: HEADER_LEN as u32 + client % 40, response }.write(&mut bytes);
        Some(bytes)
    }

    /// Whether a failure of the plugin is part of the plan.
    pub const fn fails(&self) -> bool {
        self.fail > 0
    }

    /// Whether requests are ever sent with other lengths, or other lengths of the answer, than the client wrote.
    pub const fn rewrites(&self) -> bool {
        self.rewrite > 0
    }

    /// Whether whole requests are left undecided at times.
    pub const fn holds_back(&self) -> bool {
        self.delay > 0 || (self.preamble.is_some() && !self.eager)
    }

    /// Whether connections are left before the server closes them.
    pub const fn reconnects_at_will(&self) -> bool {
        self.reconnect > 0
    }

    fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::RESPONSES;
        if self.preamble.is_some() {
            inputs = inputs.union(Inputs::CONNECTIONS);
        }
        if self.closes {
            inputs = inputs.union(Inputs::CLOSES);
        }
        inputs
    }
}

/// What the plugin leaves behind for the verdict.
#[derive(Debug, Default)]
pub struct Notes {
    /// What the host said that does not agree with the plugin's books, or the other way round.
    pub violations: Vec<String>,
    /// From which request on a client was replayed as with no plugin.
    pub passed: BTreeMap<u32, u32>,
    /// Clients of sessions that the plugin failed over, or lost with one that it did.
    pub failed: BTreeSet<u32>,
}

/// [`Notes`] as world and plugin share them.
pub type SharedNotes = Arc<Mutex<Notes>>;

/// The notes, whatever happened to those who held them.
pub fn lock(notes: &SharedNotes) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The plugin.
pub struct Framed {
    plan: Arc<Plan>,
    notes: SharedNotes,
    sessions: HashMap<SessionId, (Group, Session)>,
    groups: Vec<u32>,
    server_of: fn(&Opening) -> Option<(usize, u32)>,
}

impl Framed {
    /// A plugin; `server_of` tells which server and client a session is between.
    pub fn new(plan: Arc<Plan>, notes: SharedNotes, server_of: fn(&Opening) -> Option<(usize, u32)>) -> Self {
        Self { plan, notes, sessions: HashMap::new(), groups: Vec::new(), server_of }
    }

    fn note(&self, session: SessionId, what: &str) {
        let client = self.sessions.get(&session).map(|(_, s)| s.client());
        lock(&self.notes)
            .violations
            .push(format!("plugin, session {session:#x} of client {client:?}: {what}"));
    }
}

impl PluginRunner for Framed {
    fn inputs(&self) -> Inputs {
        self.plan.inputs()
    }

    fn join(&mut self) -> Result<Group, Without> {
        let free = self.groups.iter().position(|members| *members < self.plan.per_group);
        let group = free.unwrap_or_else(|| {
            self.groups.push(0);
            self.groups.len() - 1
        });
        self.groups[group] += 1;
        Ok(Group(group as u32))
    }

    fn leave(&mut self, group: Group) {
        match self.groups.get_mut(group.0 as usize) {
            Some(members @ 1..) => *members -= 1,
            _ => lock(&self.notes).violations.push(format!("{group:?} has nobody who could leave")),
        }
    }

    fn run(&mut self, group: Group, batch: &EventBatch, _: u64, outcome: &mut Outcome) -> Result<(), Fault> {
        for event in &batch.events {
            let id = event.session;
            if let Input::Opened(index) = event.input {
                let opening = &batch.openings[index as usize];
                match (self.server_of)(opening) {
                    Some((server, client)) => {
                        let session =
                            Session::new(id, client, server, opening.origin, Arc::clone(&self.plan));
                        if self.sessions.insert(id, (group, session)).is_some() {
                            self.note(id, "was opened twice");
                        }
                    }
                    None => self.note(id, "is of an unknown client or server"),
                }
                continue;
            }
            if event.input == Input::Ended {
                // One that was ended together with its instance is not known any more.
                self.sessions.remove(&id);
                continue;
            }
            let Some((its_group, session)) = self.sessions.get_mut(&id) else {
                self.note(id, &format!("{:?} before it was opened", event.input));
                continue;
            };
            let wrong_group = *its_group != group;
            let taken = session.take(event.input, &batch.bytes, outcome);
            if let Some(number) = session.passed() {
                lock(&self.notes).passed.entry(session.client()).or_insert(number);
            }
            if wrong_group {
                self.note(id, "was told of in a group of others");
            }
            match taken {
                Ok(()) => {}
                Err(session::Stop::Wrong(what)) => self.note(id, &what),
                Err(session::Stop::Fault) => {
                    let mut notes = lock(&self.notes);
                    notes
                        .failed
                        .extend(self.sessions.values().filter(|(g, _)| *g == group).map(|(_, s)| s.client()));
                    self.sessions.retain(|_, (g, _)| *g != group);
                    let session = (!self.plan.anonymous).then_some(id);
                    return Err(Fault { session, others: AfterFault::Rejoin });
                }
            }
        }
        Ok(())
    }

    fn note_violation(&mut self, session: SessionId, what: &'static str) {
        self.note(session, &format!("the host found {what}"));
    }
}
