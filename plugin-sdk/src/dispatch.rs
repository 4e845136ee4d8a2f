//! Turns a batch of events into calls of a plugin's handlers.
//!
//! Owns the sessions of an instance and the bytes that handlers left undecided or unconsumed. Bytes that a handler deals with
//! in the call that brings them are never copied.

use crate::actions::{Actions, Course, HostCalls, Outcome, Resume};
use crate::descriptor::Inputs;
use crate::words::{ClientEnd, Loss, Opening, Origin};
use crate::{Plugin, Settings};
use foldhash::fast::FixedState;
use slab::Slab;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use tcpcopy_plugin_abi as abi;

/// An empty buffer larger than this is given back.
const SPARE: usize = 16 * 1024;

/// Bytes kept for a handler until it deals with them.
#[derive(Debug, Default)]
struct Kept(Vec<u8>);

impl Kept {
    /// Calls `handler` with what is kept and `new`, and keeps what it does not consume. It returns how much it does.
    #[inline]
    fn feed(&mut self, new: &[u8], handler: impl FnOnce(&[u8]) -> usize) {
        if self.0.is_empty() {
            let consumed = handler(new);
            if consumed < new.len() {
                self.0.extend_from_slice(&new[consumed..]);
            }
        } else {
            self.0.extend_from_slice(new);
            let consumed = handler(&self.0);
            self.consume(consumed);
        }
    }

    #[inline]
    fn consume(&mut self, bytes: usize) {
        if bytes < self.0.len() {
            self.0.drain(..bytes);
        } else {
            self.clear();
        }
    }

    #[inline]
    fn clear(&mut self) {
        if self.0.capacity() > SPARE {
            self.0 = Vec::new();
        } else {
            self.0.clear();
        }
    }
}

/// A session that is under way.
struct Entry<S> {
    session: S,
    wanted: Inputs,
    undecided: Kept,
    response: Kept,
    reference: Kept,
}

/// One instance of a plugin with its sessions.
pub(crate) struct Dispatcher<P: Plugin> {
    plugin: P,
    needed: Inputs,
    sessions: Slab<Entry<P::Session>>,
    index: HashMap<u64, usize, FixedState>,
    /// The session of the event before, which is often that of the next one too.
    last: Option<(u64, usize)>,
    pub(crate) outcome: Outcome,
}

impl<P: Plugin> Dispatcher<P> {
    pub(crate) fn new(settings: &Settings) -> Result<Self, crate::ConfigError> {
        let plugin = P::configure(settings)?;
        Ok(Self {
            needed: plugin.needs().inputs(),
            plugin,
            sessions: Slab::new(),
            index: HashMap::default(),
            last: None,
            outcome: Outcome::default(),
        })
    }

    pub(crate) fn needs(&self) -> crate::Needs {
        self.plugin.needs()
    }

    /// Number of undecided bytes of a session that is under way.
    pub(crate) fn undecided(&self, session: u64) -> Option<usize> {
        self.index
            .get(&session)
            .and_then(|&slot| self.sessions.get(slot))
            .map(|entry| entry.undecided.0.len())
    }

    /// Takes a batch; what comes of it is in `outcome`, which is cleared first.
    pub(crate) fn run(
        &mut self,
        host: &dyn HostCalls,
        events: impl IntoIterator<Item = abi::Event>,
        openings: &[abi::Opening],
        bytes: &[u8],
    ) {
        self.outcome.clear();
        let mut entered = None;
        for event in events {
            if entered != Some(event.session) {
                host.enter(event.session);
                entered = Some(event.session);
            }
            self.event(host, &event, openings, bytes);
        }
    }

    #[inline]
    fn slot(&mut self, session: u64) -> Option<usize> {
        if let Some((last, slot)) = self.last
            && last == session
        {
            return Some(slot);
        }
        let slot = *self.index.get(&session)?;
        self.last = Some((session, slot));
        Some(slot)
    }

    fn event(&mut self, host: &dyn HostCalls, event: &abi::Event, openings: &[abi::Opening], bytes: &[u8]) {
        if event.kind == abi::input::OPENED {
            return self.open(host, event, &openings[event.start as usize]);
        }
        // A session that is over may still have events under way.
        let Some(slot) = self.slot(event.session) else { return };
        if event.kind == abi::input::ENDED {
            return self.end(event.session, slot);
        }
        let Some(entry) = self.sessions.get_mut(slot) else { return };
        let plugin = &mut self.plugin;
        let Entry { session, wanted, undecided, response, reference } = entry;
        let mut actions = Actions {
            outcome: &mut self.outcome,
            host,
            session: event.session,
            at: event.at,
            undecided: undecided.0.len(),
            taken: 0,
            wanted: *wanted,
            needed: self.needed,
            course: Course::On,
            resume: Resume::No,
        };
        match event.kind {
            abi::input::REQUEST => {
                let new = span(event, bytes);
                actions.undecided += new.len();
                undecided.feed(new, |bytes| {
                    let mut rest = bytes;
                    loop {
                        let before = actions.taken;
                        plugin.on_request(session, rest, &mut actions);
                        rest = &bytes[actions.taken..];
                        let again = std::mem::replace(&mut actions.resume, Resume::No) == Resume::Wanted;
                        if !again
                            || actions.taken == before
                            || rest.is_empty()
                            || actions.course == Course::Over
                        {
                            return actions.taken;
                        }
                    }
                });
                actions.taken = 0;
            }
            abi::input::RESPONSE => {
                if !wanted.contains(Inputs::RESPONSES) {
                    return;
                }
                response.feed(span(event, bytes), |bytes| {
                    let consumed = plugin.on_response(session, bytes, &mut actions);
                    checked("on_response", consumed, bytes.len())
                });
            }
            abi::input::RESPONSE_END => {
                if !wanted.contains(Inputs::RESPONSES) {
                    return;
                }
                plugin.on_response_end(session, &mut actions);
                response.clear();
            }
            abi::input::REFERENCE => {
                if !wanted.contains(Inputs::REFERENCES) {
                    return;
                }
                let new = span(event, bytes);
                if new.is_empty() {
                    reference.clear();
                    plugin.on_reference_gap(session, &mut actions);
                } else {
                    reference.feed(new, |bytes| {
                        let consumed = plugin.on_reference(session, bytes, &mut actions);
                        checked("on_reference", consumed, bytes.len())
                    });
                }
            }
            abi::input::CONNECTED => {
                response.clear();
                plugin.on_connected(session, &mut actions);
            }
            abi::input::CONNECTION_LOST => {
                response.clear();
                let loss = Loss { unanswered: event.start, kept: event.length, interrupted: event.flag != 0 };
                plugin.on_connection_lost(session, loss, &mut actions);
            }
            abi::input::GAP => {
                // The interface leaves this to the plugin.
                actions.pass_gap();
                actions.taken = 0;
                undecided.clear();
                plugin.on_gap(session, &mut actions);
            }
            abi::input::CLIENT_CLOSED => {
                let end = if event.start == 0 { ClientEnd::Finished } else { ClientEnd::Reset };
                plugin.on_close(session, end, &mut actions);
            }
            abi::input::TIMER => plugin.on_timer(session, &mut actions),
            // Of a later minor version of the interface: nothing that a plugin of this one asked for.
            _ => {}
        }
        // Outside `on_request`, the bytes that handlers take or ask for again are those that were kept.
        undecided.consume_taken(&mut actions);
        while actions.resume == Resume::Wanted && actions.course == Course::On {
            actions.resume = Resume::No;
            let mut progress = false;
            if !undecided.0.is_empty() {
                plugin.on_request(session, &undecided.0, &mut actions);
                progress = actions.taken > 0;
                undecided.consume_taken(&mut actions);
            }
            if event.kind == abi::input::RESPONSE && actions.course == Course::On && !response.0.is_empty() {
                // What a handler left unconsumed may have waited for the request bytes.
                let again = actions.resume;
                response.feed(&[], |bytes| {
                    let consumed = plugin.on_response(session, bytes, &mut actions);
                    progress |= consumed > 0;
                    checked("on_response", consumed, bytes.len())
                });
                if again == Resume::Wanted {
                    actions.resume = again;
                }
                undecided.consume_taken(&mut actions);
            }
            if !progress {
                break;
            }
        }
        let (now_wanted, course) = (actions.wanted, actions.course);
        if now_wanted != *wanted {
            if !now_wanted.contains(Inputs::RESPONSES) {
                response.clear();
            }
            if !now_wanted.contains(Inputs::REFERENCES) {
                reference.clear();
            }
            *wanted = now_wanted;
        }
        if course == Course::Over {
            self.end(event.session, slot);
        }
    }

    fn open(&mut self, host: &dyn HostCalls, event: &abi::Event, opening: &abi::Opening) {
        if let Some(slot) = self.slot(event.session) {
            self.end(event.session, slot);
        }
        let mut actions = Actions {
            outcome: &mut self.outcome,
            host,
            session: event.session,
            at: event.at,
            undecided: 0,
            taken: 0,
            wanted: self.needed,
            needed: self.needed,
            course: Course::On,
            resume: Resume::No,
        };
        let session = self.plugin.open(&self::opening(opening), &mut actions);
        let (wanted, course) = (actions.wanted, actions.course);
        let slot = self.sessions.insert(Entry {
            session,
            wanted,
            undecided: Kept::default(),
            response: Kept::default(),
            reference: Kept::default(),
        });
        self.index.insert(event.session, slot);
        self.last = Some((event.session, slot));
        if course == Course::Over {
            self.end(event.session, slot);
        }
    }

    fn end(&mut self, session: u64, slot: usize) {
        self.last = None;
        self.index.remove(&session);
        if let Some(entry) = self.sessions.try_remove(slot) {
            self.plugin.on_ended(entry.session);
        }
    }
}

impl Kept {
    /// Drops what the actions have taken.
    #[inline]
    fn consume_taken(&mut self, actions: &mut Actions<'_>) {
        if actions.taken > 0 {
            self.consume(actions.taken);
            actions.taken = 0;
        }
    }
}

#[inline]
fn span<'a>(event: &abi::Event, bytes: &'a [u8]) -> &'a [u8] {
    &bytes[event.start as usize..][..event.length as usize]
}

/// What a handler says it consumed.
#[inline]
fn checked(handler: &str, consumed: usize, given: usize) -> usize {
    assert!(consumed <= given, "plugin defect: {handler} consumed {consumed} of {given} bytes");
    consumed
}

fn opening(opening: &abi::Opening) -> Opening {
    Opening {
        origin: match opening.origin {
            abi::origin::START => Origin::Start,
            abi::origin::REJOINED => Origin::Rejoined,
            _ => Origin::MidStream,
        },
        client: address(&opening.client),
        online: address(&opening.online),
        target: address(&opening.target),
    }
}

fn address(endpoint: &abi::Endpoint) -> SocketAddr {
    let address = Ipv6Addr::from(endpoint.address);
    SocketAddr::new(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4), endpoint.port)
}
