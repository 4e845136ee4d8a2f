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
//! | `>…` | the plugin steps aside, within a streamed request that was broken off too |
//! | `@…` | it is sent, and after its reply the connection is done with |
//! | `$…` | the connection is closed |
//! | `<…` | its first byte is sent, and the plugin steps aside |
//! | `&…` | it is sent, and no response bytes are wanted from then on |
//! | `?…` | they are wanted again, and it is sent |
//! | `:…` | it is sent 100 ms later |
//! | `.…` | it is sent; its reply ends with the connection |
//! | `/…` | it is sent and summed up, and gets a reply |
//! | `_…` | it is sent; after its reply the plugin makes a request of its own, `own;` |
//! | anything else | it is sent, and gets a reply |

use std::collections::{HashMap, VecDeque};
use tcpcopy_engine::plugin::{
    Action, AfterFault, Event, EventBatch, Fault, Group, Input, Inputs, Outcome, Output, PluginRunner, Reply,
    SessionId, Span, Without,
};
use tcpcopy_engine::protocol::Origin;

/// What an unprepared connection is greeted with.
const GREETING: &[u8] = b"hi;";
/// A request that the plugin makes up.
const OWN: &[u8] = b"own;";
/// For how long a request is put off that is.
const DELAY_NANOS: u64 = 100_000_000;

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
    timed: bool,
    /// The client has closed.
    closed: bool,
    left: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterReply {
    Nothing,
    Reconnect,
    /// It is no reply but what comes up to the end of the connection.
    Wait,
    Own,
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
        let Some(session) = self.sessions.get_mut(&id).filter(|s| !s.left || event.input == Input::Ended)
        else {
            return Ok(());
        };
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
                if session.due.front() == Some(&AfterReply::Wait) {
                    return Ok(());
                }
                while let Some(end) = session.response.iter().position(|byte| *byte == b';') {
                    session.response.drain(..=end);
                    if self.inputs.contains(Inputs::CONNECTIONS) && !session.greeted {
                        session.greeted = true;
                        say(Output::Ready);
                        continue;
                    }
                    say(Output::ReplyComplete);
                    match session.due.pop_front() {
                        Some(AfterReply::Reconnect) => say(Output::Reconnect),
                        Some(AfterReply::Own) => {
                            let start = outcome.bytes.len() as u32;
                            outcome.bytes.extend(OWN);
                            say(Output::Send(Span { start, length: OWN.len() as u32 }));
                            say(Output::EndRequest(Reply::Expected));
                            session.due.push_back(AfterReply::Nothing);
                        }
                        _ => {}
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
            Input::Timer => {
                session.timed = true;
                decide(session, id, outcome);
            }
            Input::ClientClosed(_) => {
                session.closed = true;
                decide(session, id, outcome);
            }
            Input::ResponseEnd => {
                if session.due.pop_front_if(|after| *after == AfterReply::Wait).is_some() {
                    say(Output::ReplyComplete);
                }
            }
            Input::Opened(_) | Input::Reference(_) => {}
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
        // The client's end ends its last request.
        let rest = session.closed.then_some(session.undecided.len()).filter(|rest| *rest > 0);
        let line = line.or(rest);
        let first = session.undecided.first().copied();
        let mut say = |output| outcome.actions.push(Action { session: id, output });
        if session.streaming || first == Some(b'*') && !session.seeking {
            if session.interrupted && first == Some(b'>') {
                session.left = true;
                say(Output::PassThrough);
                return false;
            }
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
        if first == Some(b':') && !session.seeking && !std::mem::take(&mut session.timed) {
            say(Output::SetTimer(DELAY_NANOS));
            return false;
        }
        session.undecided.drain(..line);
        if std::mem::take(&mut session.seeking) {
            say(Output::Discard(n));
            say(Output::EndRequest(Reply::NotExpected));
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
            // The line itself is undecided still.
            Some(b'>' | b'$') => {
                session.left = true;
                say(if first == Some(b'$') { Output::Close } else { Output::PassThrough });
                return false;
            }
            Some(b'<') => {
                session.left = true;
                say(Output::Forward(1));
                say(Output::PassThrough);
                return false;
            }
            Some(b'&') => {
                say(Output::Forward(n));
                say(Output::EndRequest(Reply::NotExpected));
                say(Output::Want(Inputs::NONE));
                continue;
            }
            Some(b'?') => {
                say(Output::Want(Inputs::RESPONSES));
                say(Output::Forward(n));
            }
            Some(b'/') => {
                let start = outcome.bytes.len() as u32;
                outcome.bytes.push(b'/');
                say(Output::Forward(n));
                say(Output::Observe(Span { start, length: 1 }));
            }
            _ => say(Output::Forward(n)),
        }
        say(Output::EndRequest(Reply::Expected));
        let after = match first {
            Some(b'@') => AfterReply::Reconnect,
            Some(b'.') => AfterReply::Wait,
            Some(b'_') => AfterReply::Own,
            _ => AfterReply::Nothing,
        };
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
