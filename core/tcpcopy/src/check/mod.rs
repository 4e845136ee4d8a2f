//! A plugin run over a capture file, with no target: what it would do, session by session.
//!
//! The client's bytes are its requests; the server's are both the references and the responses of a target that answers exactly
//! as the online server did. Owns the plugin host's part of a session ([`session`]), the reading of the file
//! ([`conversation`]) and what is printed ([`show`]).

pub mod conversation;
pub mod session;
pub mod show;

use conversation::{FileFacts, Happening, ReadError, Step};
use session::{Session, State, What};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use tcpcopy_engine::plugin::{
    AfterFault, Event, EventBatch, Fault, Group, Input, Inputs, Opening, Outcome, PluginRunner, Span,
};
use tcpcopy_engine::protocol::Origin;

/// New connections that a plugin may ask for at one moment, each in answer to the one before.
const MAX_RECONNECTS: usize = 16;

/// What came of a check.
pub struct Findings {
    /// The sessions, in the order of their beginnings.
    pub sessions: Vec<Session>,
    /// What the file held.
    pub file: FileFacts,
    /// What speaks against the plugin: the session's number from 1, if it is about one, and what.
    pub problems: Vec<(Option<usize>, String)>,
}

/// Runs a plugin over the connections to servers at one of `ports` in the capture file at `path`. `last_fault` tells what the
/// last failed call of the plugin was about.
///
/// # Errors
/// The file can't be read.
pub fn check(
    path: &Path,
    ports: &[u16],
    runner: Box<dyn PluginRunner>,
    last_fault: &dyn Fn() -> String,
) -> Result<Findings, ReadError> {
    let mut driver = Driver {
        inputs: runner.inputs(),
        runner,
        last_fault,
        sessions: Vec::new(),
        groups: HashMap::new(),
        timers: BTreeSet::new(),
        batch: EventBatch::default(),
        outcome: Outcome::default(),
        faults: Vec::new(),
    };
    let file = conversation::read(path, ports, &mut |happening| driver.take(happening))?;
    Ok(driver.finish(file))
}

struct Driver<'a> {
    inputs: Inputs,
    runner: Box<dyn PluginRunner>,
    last_fault: &'a dyn Fn() -> String,
    sessions: Vec<Session>,
    /// Groups of the sessions that the plugin knows of.
    groups: HashMap<usize, Group>,
    timers: BTreeSet<(u64, usize)>,
    batch: EventBatch,
    outcome: Outcome,
    faults: Vec<(Option<usize>, String)>,
}

impl Driver<'_> {
    fn take(&mut self, happening: Happening) {
        let Happening { connection: index, at, step } = happening;
        self.fire_timers(at);
        if let Step::Opened { origin, client, online } = step {
            // The target answers as the online server did.
            let opening = Opening { origin, client, online, target: online };
            return self.open(index, opening, at);
        }
        let Some(session) = self.sessions.get_mut(index) else { return };
        let is_live = session.state == State::Live;
        let wants = session.inputs;
        match step {
            Step::Opened { .. } => {}
            Step::Request(bytes) => {
                session.captured(&bytes);
                if is_live {
                    let span = self.bytes(&bytes);
                    self.event(index, at, Input::Request(span));
                }
            }
            Step::RequestGap => {
                session.gap(at);
                if is_live {
                    self.event(index, at, Input::Gap);
                }
            }
            Step::Answer(bytes) if is_live => {
                let span = self.bytes(&bytes);
                if wants.contains(Inputs::REFERENCES) {
                    self.event(index, at, Input::Reference(span));
                }
                if wants.contains(Inputs::RESPONSES) {
                    self.event(index, at, Input::Response(span));
                }
            }
            Step::AnswerGap if is_live => {
                if wants.contains(Inputs::RESPONSES) {
                    // In a replay none would be missing; without them nobody knows where the next reply begins.
                    session.end(at, What::GaveUp("bytes of the server are missing in the file".to_owned()));
                    return self.forget(index, at);
                }
                if wants.contains(Inputs::REFERENCES) {
                    self.event(index, at, Input::Reference(Span::default()));
                }
            }
            Step::ClientEnd(end) => {
                session.client_end.get_or_insert(end);
                session.tell(at, What::ClientEnd(end));
                if is_live && wants.contains(Inputs::CLOSES) {
                    self.event(index, at, Input::ClientClosed(end));
                }
            }
            Step::ServerEnd => {
                session.tell(at, What::ServerEnd);
                if is_live && wants.contains(Inputs::RESPONSES) {
                    self.event(index, at, Input::ResponseEnd);
                }
            }
            Step::Answer(_) | Step::AnswerGap => {}
            Step::Over => {
                self.run(index, at);
                return self.forget(index, at);
            }
        }
        self.run(index, at);
    }

    fn open(&mut self, index: usize, opening: Opening, at: u64) {
        debug_assert_eq!(index, self.sessions.len(), "connections are numbered in order");
        let mut session = Session::new(opening, self.inputs);
        match self.runner.join() {
            Ok(group) => {
                self.groups.insert(index, group);
                self.sessions.push(session);
                self.begin(index, opening, at);
                self.run(index, at);
            }
            Err(_) => {
                session.end(at, What::Fault("the plugin is used no more".to_owned()));
                self.sessions.push(session);
            }
        }
    }

    fn begin(&mut self, index: usize, opening: Opening, at: u64) {
        let number = self.batch.openings.len() as u32;
        self.batch.openings.push(opening);
        self.event(index, at, Input::Opened(number));
        if self.inputs.contains(Inputs::CONNECTIONS) {
            self.event(index, at, Input::Connected);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Span {
        let start = self.batch.bytes.len() as u32;
        self.batch.bytes.extend_from_slice(bytes);
        Span { start, length: bytes.len() as u32 }
    }

    fn event(&mut self, index: usize, at: u64, input: Input) {
        self.batch.events.push(Event { session: index as u64, at, input });
    }

    /// Calls the plugin with what has gathered, and applies what it answers.
    fn run(&mut self, index: usize, at: u64) {
        for _ in 0..=MAX_RECONNECTS {
            if self.batch.events.is_empty() {
                return;
            }
            let Some(group) = self.groups.get(&index).copied() else { break };
            self.outcome.clear();
            let result = self.runner.run(group, &self.batch, at, &mut self.outcome);
            self.batch.clear();
            match result {
                Ok(()) => self.apply(at),
                Err(fault) => self.fail(group, fault, at),
            }
            let Some(session) = self.sessions.get_mut(index) else { break };
            session.after_run(at);
            let reconnect = session.reconnect.take();
            if session.state != State::Live {
                return self.forget(index, at);
            }
            if let Some(lost) = reconnect {
                let (unanswered, interrupted) = (lost.unanswered, lost.interrupted);
                self.event(index, at, Input::ConnectionLost { unanswered, kept: 0, interrupted });
                if self.inputs.contains(Inputs::CONNECTIONS) {
                    self.event(index, at, Input::Connected);
                }
            }
        }
        if !self.batch.events.is_empty() {
            self.batch.clear();
            if let Some(session) = self.sessions.get_mut(index) {
                session.end(at, What::Violation("it asks for new connections without end"));
            }
            self.forget(index, at);
        }
    }

    fn apply(&mut self, at: u64) {
        let outcome = std::mem::take(&mut self.outcome);
        for action in &outcome.actions {
            let Ok(index) = usize::try_from(action.session) else { continue };
            // One that is over, or was never opened, is ignored.
            if !self.groups.contains_key(&index) {
                continue;
            }
            let Some(session) = self.sessions.get_mut(index) else { continue };
            if session.state != State::Live {
                continue;
            }
            let before = session.timer;
            session.act(at, action.output, &outcome.bytes);
            let after = session.timer;
            if let Some(at) = before {
                self.timers.remove(&(at, index));
            }
            if let Some(at) = after {
                self.timers.insert((at, index));
            }
            if let Some((_, What::Violation(rule))) = self.sessions[index].entries.last() {
                self.runner.note_violation(action.session, rule);
            }
        }
        self.outcome = outcome;
    }

    /// A call failed: the session at fault ends, and the others of the group begin anew.
    fn fail(&mut self, group: Group, fault: Fault, at: u64) {
        let blamed = fault.session.and_then(|session| usize::try_from(session).ok());
        let message = (self.last_fault)();
        self.faults.push((blamed.map(|index| index + 1), format!("the plugin failed: {message}")));
        let mut members: Vec<usize> =
            self.groups.iter().filter(|(_, other)| **other == group).map(|(index, _)| *index).collect();
        members.sort_unstable();
        for index in members {
            let Some(session) = self.sessions.get_mut(index) else { continue };
            if Some(index) == blamed || matches!(fault.others, AfterFault::Disabled(_)) {
                session.end(at, What::Fault(message.clone()));
                self.groups.remove(&index);
                self.runner.leave(group);
                continue;
            }
            if let Some(at) = session.timer {
                self.timers.remove(&(at, index));
            }
            session.rejoin(at);
            let opening = Opening { origin: Origin::Rejoined, ..session.opening };
            let undecided = session.undecided().to_vec();
            self.begin(index, opening, at);
            if !undecided.is_empty() {
                let span = self.bytes(&undecided);
                self.event(index, at, Input::Request(span));
            }
            self.run(index, at);
        }
    }

    fn fire_timers(&mut self, now: u64) {
        while let Some((at, index)) = self.timers.pop_first() {
            if at > now {
                self.timers.insert((at, index));
                return;
            }
            if let Some(session) = self.sessions.get_mut(index)
                && session.timer.take().is_some()
                && session.state == State::Live
            {
                self.event(index, at, Input::Timer);
                self.run(index, at);
            }
        }
    }

    /// Tells the plugin that the session is over.
    fn forget(&mut self, index: usize, at: u64) {
        let Some(group) = self.groups.remove(&index) else { return };
        self.batch.clear();
        self.event(index, at, Input::Ended);
        self.outcome.clear();
        let result = self.runner.run(group, &self.batch, at, &mut self.outcome);
        self.batch.clear();
        self.runner.leave(group);
        if let Some(session) = self.sessions.get_mut(index)
            && let Some(timer) = session.timer
        {
            self.timers.remove(&(timer, index));
        }
        if let Err(fault) = result {
            self.fail(group, fault, at);
        }
    }

    fn finish(self, file: FileFacts) -> Findings {
        let mut problems = self.faults;
        for (index, session) in self.sessions.iter().enumerate() {
            for (_, what) in &session.entries {
                if let What::Violation(rule) = what {
                    problems.push((Some(index + 1), format!("a rule of the interface was broken: {rule}")));
                }
            }
            if let Some(rest) = session.unexplained() {
                problems.push((Some(index + 1), rest));
            }
        }
        Findings { sessions: self.sessions, file, problems }
    }
}
