//! Calls a plugin in the host's place.

use super::decision::{Bytes, Decision, Request, normalised, requests};
use super::literal;
use crate::actions::HostCalls;
use crate::dispatch::Dispatcher;
use crate::{
    ClientEnd, ConfigError, Inputs, Level, Loss, Opening, Origin, Plugin, Reply, Settings, Timestamp, Value,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tcpcopy_plugin_abi as abi;

/// What the plugin told the host.
struct Host {
    counts: RefCell<BTreeMap<String, u64>>,
    logs: RefCell<Vec<(Level, String)>>,
    random: RefCell<u64>,
}

impl HostCalls for Host {
    fn log(&self, level: Level, message: &str) {
        self.logs.borrow_mut().push((level, message.to_owned()));
    }

    fn count(&self, name: &str, amount: u64) {
        *self.counts.borrow_mut().entry(name.to_owned()).or_default() += amount;
    }

    fn random(&self, into: &mut [u8]) {
        let mut state = self.random.borrow_mut();
        into.fill_with(|| next_random(&mut state).to_le_bytes()[0]);
    }

    fn enter(&self, _: u64) {}
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub(super) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *state;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// What the harness knows of a session, as a host would.
#[derive(Default)]
struct Known {
    undecided: Vec<u8>,
    decisions: Vec<Decision>,
    wanted: Inputs,
    timer: Option<u64>,
    over: bool,
}

/// An instance of a plugin and its sessions.
///
/// Every method that feeds something returns what the plugin decided there and then. Inputs that the plugin does not want at
/// that moment are left out, as a host would leave them out.
pub struct Harness<P: Plugin> {
    dispatcher: Dispatcher<P>,
    host: Host,
    inputs: Inputs,
    now: u64,
    sessions: BTreeMap<u64, Known>,
}

impl<P: Plugin> std::fmt::Debug for Harness<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harness").field("now", &self.now).finish_non_exhaustive()
    }
}

impl<P: Plugin> Harness<P> {
    /// An instance with these settings, and defaults for the others.
    ///
    /// # Panics
    /// When the plugin refuses them, and as [`Harness::try_new`].
    pub fn new(settings: &[(&str, Value)]) -> Self {
        match Self::try_new(settings) {
            Ok(harness) => harness,
            Err(error) => panic!("the plugin refuses its settings: {error}"),
        }
    }

    /// An instance with these settings, and defaults for the others.
    ///
    /// # Errors
    /// What the plugin says against the settings.
    ///
    /// # Panics
    /// When a setting's name or kind, or something in the plugin's descriptor, is wrong: a host would not go on.
    pub fn try_new(settings: &[(&str, Value)]) -> Result<Self, ConfigError> {
        let descriptor = P::descriptor();
        let mut values: Vec<(String, Value)> = Vec::new();
        for (name, value) in settings {
            let option = descriptor.options.iter().find(|option| option.name == *name);
            let Some(option) = option else { panic!("there is no option {name:?}") };
            assert!(value.fits(&option.kind), "option {name:?} is a {:?}, not {value:?}", option.kind);
            values.push(((*name).to_owned(), value.clone()));
        }
        for option in &descriptor.options {
            let Some(default) = &option.default else { continue };
            match literal::parse(default, &option.kind) {
                Ok(_) if values.iter().any(|(name, _)| *name == option.name) => {}
                Ok(value) => values.push((option.name.to_string(), value)),
                Err(what) => panic!("the default of option {:?}: {what}", option.name),
            }
        }
        let dispatcher = Dispatcher::<P>::new(&Settings::new(&descriptor, values))?;
        let inputs = dispatcher.needs().inputs();
        assert!(
            descriptor.inputs.contains(inputs),
            "the instance needs {inputs:?}, but the descriptor names {:?} only",
            descriptor.inputs
        );
        let host = Host { counts: RefCell::default(), logs: RefCell::default(), random: RefCell::new(1) };
        // Some day in 2026.
        let now = 1_780_000_000_000_000_000;
        Ok(Self { dispatcher, host, inputs, now, sessions: BTreeMap::new() })
    }

    /// Opens a session whose first byte is captured.
    pub fn open(&mut self) -> u64 {
        self.open_as(Origin::Start)
    }

    /// Opens a session of this origin, with addresses for documentation (RFC 5737).
    pub fn open_as(&mut self, origin: Origin) -> u64 {
        let number = self.sessions.len() as u16;
        self.open_with(Opening {
            origin,
            client: SocketAddr::from(([192, 0, 2, 1], 40_000u16.wrapping_add(number))),
            online: SocketAddr::from(([198, 51, 100, 1], 80)),
            target: SocketAddr::from(([203, 0, 113, 1], 80)),
        })
    }

    /// Opens a session. What the plugin decides then is the first in [`Harness::decisions`].
    pub fn open_with(&mut self, opening: Opening) -> u64 {
        let session = self.sessions.keys().next_back().map_or(1, |last| last + 1);
        self.sessions.insert(session, Known { wanted: self.inputs, ..Known::default() });
        let endpoint = |address: SocketAddr| abi::Endpoint {
            address: match address.ip() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            },
            port: address.port(),
        };
        let opening = abi::Opening {
            origin: match opening.origin {
                Origin::Start => abi::origin::START,
                Origin::MidStream => abi::origin::MID_STREAM,
                Origin::Rejoined => abi::origin::REJOINED,
            },
            client: endpoint(opening.client),
            online: endpoint(opening.online),
            target: endpoint(opening.target),
        };
        self.feed(session, abi::input::OPENED, (0, 0), &[opening], &[]);
        session
    }

    /// The client sends these bytes.
    pub fn request(&mut self, session: u64, bytes: impl AsRef<[u8]>) -> Vec<Decision> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() {
            return Vec::new();
        }
        let known = self.known(session);
        if !known.over {
            known.undecided.extend_from_slice(bytes);
        }
        self.bytes(session, abi::input::REQUEST, bytes)
    }

    /// The target answers these bytes.
    pub fn response(&mut self, session: u64, bytes: impl AsRef<[u8]>) -> Vec<Decision> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() || !self.wants(session, Inputs::RESPONSES) {
            return Vec::new();
        }
        self.bytes(session, abi::input::RESPONSE, bytes)
    }

    /// The target closes its side.
    pub fn response_end(&mut self, session: u64) -> Vec<Decision> {
        if !self.wants(session, Inputs::RESPONSES) {
            return Vec::new();
        }
        self.feed(session, abi::input::RESPONSE_END, (0, 0), &[], &[])
    }

    /// The online server answers these bytes.
    pub fn reference(&mut self, session: u64, bytes: impl AsRef<[u8]>) -> Vec<Decision> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() || !self.wants(session, Inputs::REFERENCES) {
            return Vec::new();
        }
        self.bytes(session, abi::input::REFERENCE, bytes)
    }

    /// Bytes of the online server are missing.
    pub fn reference_gap(&mut self, session: u64) -> Vec<Decision> {
        if !self.wants(session, Inputs::REFERENCES) {
            return Vec::new();
        }
        self.bytes(session, abi::input::REFERENCE, &[])
    }

    /// A connection to the target is established.
    pub fn connected(&mut self, session: u64) -> Vec<Decision> {
        if !self.wants(session, Inputs::CONNECTIONS) {
            return Vec::new();
        }
        self.feed(session, abi::input::CONNECTED, (0, 0), &[], &[])
    }

    /// The connection to the target is lost.
    pub fn connection_lost(&mut self, session: u64, loss: Loss) -> Vec<Decision> {
        let flag = u32::from(loss.interrupted);
        self.feed_flagged(session, abi::input::CONNECTION_LOST, (loss.unanswered, loss.kept, flag), &[], &[])
    }

    /// Request bytes were not captured.
    pub fn gap(&mut self, session: u64) -> Vec<Decision> {
        self.feed(session, abi::input::GAP, (0, 0), &[], &[])
    }

    /// The client ends its side.
    pub fn client_closed(&mut self, session: u64, end: ClientEnd) -> Vec<Decision> {
        if !self.wants(session, Inputs::CLOSES) {
            return Vec::new();
        }
        self.feed(session, abi::input::CLIENT_CLOSED, (u32::from(end == ClientEnd::Reset), 0), &[], &[])
    }

    /// The host ends the session.
    pub fn end(&mut self, session: u64) {
        self.known(session).over = true;
        self.feed(session, abi::input::ENDED, (0, 0), &[], &[]);
    }

    /// Time passes; timers that come due meanwhile fire, in their order. Returns what was decided, by session.
    pub fn advance(&mut self, by: Duration) -> Vec<(u64, Decision)> {
        let until = self.now.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX));
        let mut decided = Vec::new();
        while let Some((at, session)) = self
            .sessions
            .iter()
            .filter_map(|(session, known)| Some((known.timer?, *session)))
            .filter(|(at, _)| *at <= until)
            .min()
        {
            self.now = self.now.max(at);
            self.known(session).timer = None;
            let decisions = self.feed(session, abi::input::TIMER, (0, 0), &[], &[]);
            decided.extend(decisions.into_iter().map(|decision| (session, decision)));
        }
        self.now = until;
        decided
    }

    /// The time that the plugin is told.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.now)
    }

    /// Everything decided for a session so far, as it came.
    pub fn decisions(&self, session: u64) -> &[Decision] {
        &self.get(session).decisions
    }

    /// Everything decided for a session so far, without what may depend on how bytes were split: timers, repeated
    /// [`Decision::Want`], and where runs of bytes are divided.
    pub fn normalised(&self, session: u64) -> Vec<Decision> {
        normalised(self.decisions(session))
    }

    /// The bytes that would be sent to the target, [`Decision::Prepare`] included.
    pub fn sent(&self, session: u64) -> Vec<u8> {
        let mut sent = Vec::new();
        for decision in self.decisions(session) {
            if let Decision::Forward(bytes) | Decision::Send(bytes) | Decision::Prepare(bytes) = decision {
                sent.extend_from_slice(&bytes.0);
            }
        }
        sent
    }

    /// The requests that would be sent; the last one may not have ended.
    pub fn requests(&self, session: u64) -> Vec<Request> {
        requests(self.decisions(session))
    }

    /// The request bytes of a session that are not decided about.
    pub fn undecided(&self, session: u64) -> &[u8] {
        &self.get(session).undecided
    }

    /// Whether the session is over, for the plugin or the host.
    pub fn is_over(&self, session: u64) -> bool {
        self.get(session).over
    }

    /// What the plugin counted.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.host.counts.borrow().clone()
    }

    /// One of the plugin's counts.
    pub fn count(&self, name: &str) -> u64 {
        self.host.counts.borrow().get(name).copied().unwrap_or_default()
    }

    /// What the plugin logged.
    pub fn logs(&self) -> Vec<(Level, String)> {
        self.host.logs.borrow().clone()
    }

    /// What the plugin needs.
    pub fn needs(&self) -> crate::Needs {
        self.dispatcher.needs()
    }

    fn get(&self, session: u64) -> &Known {
        match self.sessions.get(&session) {
            Some(known) => known,
            None => panic!("session {session} was not opened"),
        }
    }

    fn known(&mut self, session: u64) -> &mut Known {
        match self.sessions.get_mut(&session) {
            Some(known) => known,
            None => panic!("session {session} was not opened"),
        }
    }

    fn wants(&self, session: u64, input: Inputs) -> bool {
        self.get(session).wanted.contains(input)
    }

    fn bytes(&mut self, session: u64, kind: u32, bytes: &[u8]) -> Vec<Decision> {
        match u32::try_from(bytes.len()) {
            Ok(length) => self.feed(session, kind, (0, length), &[], bytes),
            Err(_) => panic!("{} bytes at once", bytes.len()),
        }
    }

    fn feed(
        &mut self,
        session: u64,
        kind: u32,
        (start, length): (u32, u32),
        openings: &[abi::Opening],
        bytes: &[u8],
    ) -> Vec<Decision> {
        self.feed_flagged(session, kind, (start, length, 0), openings, bytes)
    }

    fn feed_flagged(
        &mut self,
        session: u64,
        kind: u32,
        (start, length, flag): (u32, u32, u32),
        openings: &[abi::Opening],
        bytes: &[u8],
    ) -> Vec<Decision> {
        let event = abi::Event { session, at: self.now, kind, start, length, flag };
        self.dispatcher.run(&self.host, [event], openings, bytes);
        let outcome = std::mem::take(&mut self.dispatcher.outcome);
        let now = self.now;
        let known = self.known(session);
        let mut decided = Vec::new();
        for action in &outcome.actions {
            assert_eq!(action.session, session, "an action for a session that no event was for");
            let decision = known.apply(action, &outcome.bytes, now);
            // None discarded says where a gap is passed; it is no decision about bytes.
            if decision != Decision::Discard(Bytes::default()) {
                decided.push(decision);
            }
        }
        known.decisions.extend_from_slice(&decided);
        let (over, left) = (known.over, known.undecided.len());
        if !over {
            assert_eq!(
                self.dispatcher.undecided(session),
                Some(left),
                "host and SDK disagree on what is undecided"
            );
        }
        decided
    }
}

impl Known {
    /// Does what a host does.
    fn apply(&mut self, action: &abi::Action, bytes: &[u8], now: u64) -> Decision {
        let value = action.value as usize;
        let span = || &bytes[value..][..action.length as usize];
        let text = || String::from_utf8_lossy(span()).into_owned();
        match action.kind {
            abi::output::FORWARD => Decision::Forward(Bytes(self.undecided.drain(..value).collect())),
            abi::output::DISCARD => Decision::Discard(Bytes(self.undecided.drain(..value).collect())),
            abi::output::SEND => Decision::Send(span().into()),
            abi::output::PREPARE => Decision::Prepare(span().into()),
            abi::output::END_REQUEST if value == 0 => Decision::EndRequest(Reply::Expected),
            abi::output::END_REQUEST => Decision::EndRequest(Reply::NotExpected),
            abi::output::REPLY_COMPLETE => Decision::ReplyComplete,
            abi::output::READY => Decision::Ready,
            abi::output::RECONNECT => Decision::Reconnect,
            abi::output::CLOSE => {
                self.over();
                Decision::Close
            }
            abi::output::GIVE_UP => {
                self.over();
                Decision::GiveUp(text())
            }
            abi::output::PASS_THROUGH => {
                self.over();
                Decision::PassThrough
            }
            abi::output::OBSERVE => Decision::Observe(text()),
            abi::output::SET_TIMER => {
                self.timer = Some(now.saturating_add(action.value));
                Decision::SetTimer(Duration::from_nanos(action.value))
            }
            abi::output::CLEAR_TIMER => {
                self.timer = None;
                Decision::ClearTimer
            }
            abi::output::WANT => {
                self.wanted = Inputs::from_bits(action.value as u32);
                Decision::Want(self.wanted)
            }
            other => panic!("an action of the unknown kind {other}"),
        }
    }

    fn over(&mut self) {
        self.over = true;
        self.timer = None;
    }
}
