//! A plugin for scripts: requests and replies end with `;`, and what a request begins with says what becomes of it.
//!
//! | request | what becomes of it |
//! | --- | --- |
//! | `-…` | it is left out |
//! | `~…` | it is sent, and gets no reply |
//! | `=…` | `+` is sent instead of `=` |
//! | `*…` | it is sent piece by piece, as it comes |
//! | `!…` | the session is given up |
//! | `^…` | the plugin fails |
//! | `%…` | more is forwarded than there is |
//! | `>…` | the plugin steps aside |
//! | `@…` | it is sent, and after its reply the connection is done with |
//! | anything else | it is sent, and gets a reply |

use std::collections::{HashMap, VecDeque};
use tcpcopy_engine::plugin::{
    Action, AfterFault, Event, EventBatch, Fault, Group, Input, Inputs, Outcome, Output, PluginRunner, Reply,
    SessionId, Span, Without,
};
use tcpcopy_engine::protocol::Origin;

/// What an unprepared connection is greeted with.
const GREETING: &[u8] = b"hi;";

#[derive(Default)]
struct Session {
    undecided: Vec<u8>,
    response: Vec<u8>,
    /// What the plugin does after each reply that is due.
    due: VecDeque<AfterReply>,
    greeted: bool,
    seeking: bool,
    streaming: bool,
    interrupted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterReply {
    Nothing,
    Reconnect,
}

/// The plugin.
pub(crate) struct Lines {
    inputs: Inputs,
    sessions: HashMap<SessionId, Session>,
    after_fault: AfterFault,
    disabled: Option<Without>,
}

impl Lines {
    pub(crate) fn new(inputs: Inputs, after_fault: AfterFault) -> Self {
        Self { inputs, sessions: HashMap::new(), after_fault, disabled: None }
    }

    fn take(&mut self, event: &Event, batch: &EventBatch, outcome: &mut Outcome) -> Result<(), Fault> {
        let id = event.session;
        if let Input::Opened(index) = event.input {
            let seeking = batch.openings[index as usize].origin == Origin::MidStream;
            self.sessions.insert(id, Session { seeking, ..Session::default() });
            return Ok(());
        }
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let mut say = |output| outcome.actions.push(Action { session: id, output });
        match event.input {
            Input::Request(span) => {
                session.undecided.extend(span.of(&batch.bytes).unwrap());
                if self.inputs.contains(Inputs::CONNECTIONS) && !session.greeted {
                    return Ok(());
                }
                if decide(session, id, outcome) {
                    self.sessions.clear();
                    if let AfterFault::Disabled(without) = self.after_fault {
                        self.disabled = Some(without);
                    }
                    return Err(Fault { session: Some(id), others: self.after_fault });
                }
            }
            Input::Response(span) => {
                session.response.extend(span.of(&batch.bytes).unwrap());
                while let Some(end) = session.response.iter().position(|byte| *byte == b';') {
                    session.response.drain(..=end);
                    if self.inputs.contains(Inputs::CONNECTIONS) && !session.greeted {
                        session.greeted = true;
                        say(Output::Ready);
                        continue;
                    }
                    say(Output::ReplyComplete);
                    if session.due.pop_front() == Some(AfterReply::Reconnect) {
                        say(Output::Reconnect);
                    }
                }
                if session.greeted && decide(session, id, outcome) {
                    return Err(Fault { session: Some(id), others: self.after_fault });
                }
            }
            Input::Connected => {
                let start = outcome.bytes.len() as u32;
                outcome.bytes.extend(GREETING);
                say(Output::Prepare(Span { start, length: GREETING.len() as u32 }));
            }
            Input::ConnectionLost { unanswered, kept, interrupted } => {
                session.response.clear();
                session.greeted = false;
                session.due.drain(..unanswered as usize);
                assert_eq!(session.due.len(), kept as usize, "host and plugin agree on what is due");
                session.interrupted = interrupted;
            }
            Input::Gap => {
                say(Output::Discard(session.undecided.len() as u32));
                say(Output::Discard(0));
                session.undecided.clear();
                session.seeking = true;
                session.streaming = false;
            }
            Input::Timer | Input::Opened(_) | Input::Reference(_) | Input::ClientClosed(_) => {}
            Input::ResponseEnd => {}
            Input::Ended => {
                self.sessions.remove(&id);
            }
        }
        Ok(())
    }
}

/// Decides about whole lines. Returns whether the plugin fails over one.
fn decide(session: &mut Session, id: SessionId, outcome: &mut Outcome) -> bool {
    loop {
        let line = session.undecided.iter().position(|byte| *byte == b';').map(|at| at + 1);
        let first = session.undecided.first().copied();
        let mut say = |output| outcome.actions.push(Action { session: id, output });
        if session.streaming || first == Some(b'*') && !session.seeking {
            let n = line.unwrap_or(session.undecided.len());
            session.streaming = line.is_none() && n > 0;
            if n == 0 {
                return false;
            }
            session.undecided.drain(..n);
            say(Output::Forward(n as u32));
            if line.is_some() {
                let interrupted = std::mem::take(&mut session.interrupted);
                say(Output::EndRequest(if interrupted { Reply::NotExpected } else { Reply::Expected }));
                if !interrupted {
                    session.due.push_back(AfterReply::Nothing);
                }
            }
            continue;
        }
        let Some(line) = line else { return false };
        let n = line as u32;
        session.undecided.drain(..line);
        if std::mem::take(&mut session.seeking) {
            say(Output::Discard(n));
            continue;
        }
        session.interrupted = false;
        match first {
            Some(b'-') => {
                say(Output::Discard(n));
                say(Output::EndRequest(Reply::NotExpected));
                continue;
            }
            Some(b'~') => {
                say(Output::Forward(n));
                say(Output::EndRequest(Reply::NotExpected));
                continue;
            }
            Some(b'=') => {
                let start = outcome.bytes.len() as u32;
                outcome.bytes.push(b'+');
                say(Output::Discard(1));
                say(Output::Send(Span { start, length: 1 }));
                say(Output::Forward(n - 1));
            }
            Some(b'!') => say(Output::GiveUp(Span::default())),
            Some(b'%') => say(Output::Forward(n + 1)),
            Some(b'^') => return true,
            Some(b'>') => {
                // The line itself is undecided still.
                say(Output::PassThrough);
                return false;
            }
            _ => say(Output::Forward(n)),
        }
        say(Output::EndRequest(Reply::Expected));
        let after = if first == Some(b'@') { AfterReply::Reconnect } else { AfterReply::Nothing };
        session.due.push_back(after);
    }
}

impl PluginRunner for Lines {
    fn inputs(&self) -> Inputs {
        self.inputs
    }

    fn join(&mut self) -> Result<Group, Without> {
        self.disabled.map_or(Ok(Group(0)), Err)
    }

    fn leave(&mut self, _: Group) {}

    fn run(&mut self, _: Group, batch: &EventBatch, _: u64, outcome: &mut Outcome) -> Result<(), Fault> {
        batch.events.iter().try_for_each(|event| self.take(event, batch, outcome))
    }

    fn note_violation(&mut self, _: SessionId, _: &'static str) {}
}
