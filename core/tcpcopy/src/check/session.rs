//! One session of an offline check: what the host keeps of it, and what the plugin's actions mean to it.
//!
//! Owns the rules of the interface, as the replay has them, as far as they can be checked without a target.

use std::collections::VecDeque;
use tcpcopy_engine::plugin::{Inputs, Opening, Output, Reply};
use tcpcopy_engine::protocol::ClientEnd;

/// Bytes kept of what would be sent, to be shown.
pub const PREVIEW: usize = 96;

/// Something worth telling about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The plugin ended a request.
    Request(Request),
    /// The plugin found the end of a reply, that of the request of this number, or of none.
    Reply(Option<usize>),
    /// The plugin sent bytes before the connection was ready.
    Prepared(Preview),
    /// The connection carries requests from now on.
    Ready,
    /// The plugin wants a new connection; so many requests will get no reply.
    Reconnect(usize),
    /// Bytes of the client are missing in the file.
    Gap,
    /// The request under way could not be completed because of that.
    Abandoned,
    /// The client ended its side.
    ClientEnd(ClientEnd),
    /// The server ended its side.
    ServerEnd,
    /// The plugin summed up an exchange.
    Observed(String),
    /// The plugin closed the connection.
    Closed,
    /// The plugin gave the session up, for this reason.
    GaveUp(String),
    /// The plugin left the rest of the session to be replayed as it is.
    Passed,
    /// A call of the plugin failed, and this session is blamed.
    Fault(String),
    /// Another session's fault took the plugin's memory of this one.
    Rejoined,
    /// The session broke a rule of the interface.
    Violation(&'static str),
}

/// A request as the plugin decided it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Its number in the session, from 1.
    pub number: usize,
    /// Bytes sent as they were.
    pub forwarded: u64,
    /// Bytes left out.
    pub discarded: u64,
    /// Bytes of the plugin.
    pub added: u64,
    /// Whether a reply is expected.
    pub is_answered: bool,
    /// How what is sent begins.
    pub preview: Preview,
}

/// The beginning of some bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// The first of them.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub length: u64,
}

impl Preview {
    fn extend(&mut self, bytes: &[u8]) {
        let room = PREVIEW.saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..room]);
        self.length += bytes.len() as u64;
    }
}

/// How things stand with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The plugin decides.
    Live,
    /// It is over before its connection is, because of the plugin.
    Ended,
    /// It goes on without the plugin.
    Passed,
}

/// Bytes of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Captured of the client.
    pub captured: u64,
    /// Of these, sent as they were.
    pub forwarded: u64,
    /// Of these, left out.
    pub discarded: u64,
    /// Of these, passed on after the plugin had left the session.
    pub passed: u64,
    /// Sent by the plugin beside them.
    pub added: u64,
}

/// A session.
pub struct Session {
    /// Who is who.
    pub opening: Opening,
    /// What was told about it, each with its time of capture.
    pub entries: Vec<(u64, What)>,
    /// How things stand.
    pub state: State,
    /// Bytes, by what became of them.
    pub bytes: Bytes,
    /// Requests that were ended.
    pub requests: usize,
    /// Replies that were found complete.
    pub replies: usize,
    /// What the plugin wants to be told.
    pub inputs: Inputs,
    /// When the plugin wants to be called.
    pub timer: Option<u64>,
    /// How the client ended.
    pub client_end: Option<ClientEnd>,
    /// Whether a new connection was asked for in the last call, and with what it begins.
    pub reconnect: Option<Lost>,
    allowed: Inputs,
    is_ready: bool,
    undecided: Vec<u8>,
    /// Place in the undecided bytes behind which some are missing.
    gap_at: Option<usize>,
    request: Option<Request>,
    outstanding: VecDeque<usize>,
}

/// What a connection took with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Requests that will get no reply.
    pub unanswered: u32,
    /// Whether a part of a request went to it.
    pub interrupted: bool,
}

impl Session {
    /// A session that a plugin with these inputs is about to be told of.
    pub fn new(opening: Opening, allowed: Inputs) -> Self {
        Self {
            opening,
            entries: Vec::new(),
            state: State::Live,
            bytes: Bytes::default(),
            requests: 0,
            replies: 0,
            inputs: allowed,
            timer: None,
            client_end: None,
            reconnect: None,
            allowed,
            is_ready: !allowed.contains(Inputs::CONNECTIONS),
            undecided: Vec::new(),
            gap_at: None,
            request: None,
            outstanding: VecDeque::new(),
        }
    }

    /// Notes something.
    pub fn tell(&mut self, at: u64, what: What) {
        self.entries.push((at, what));
    }

    /// Request bytes were captured.
    pub fn captured(&mut self, bytes: &[u8]) {
        self.bytes.captured += bytes.len() as u64;
        match self.state {
            State::Live => self.undecided.extend_from_slice(bytes),
            State::Passed => self.bytes.passed += bytes.len() as u64,
            State::Ended => {}
        }
    }

    /// Request bytes are missing here.
    pub fn gap(&mut self, at: u64) {
        self.tell(at, What::Gap);
        self.gap_at = Some(self.undecided.len());
    }

    /// Bytes that the plugin has not decided about.
    pub fn undecided(&self) -> &[u8] {
        &self.undecided
    }

    /// The request that was begun and not ended.
    pub const fn open_request(&self) -> Option<&Request> {
        self.request.as_ref()
    }

    /// Requests whose reply has not been found complete.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Whether requests may go to the connection.
    pub const fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Forgets what only the lost instance knew; the undecided bytes are still to be decided about.
    pub fn rejoin(&mut self, at: u64) {
        self.tell(at, What::Rejoined);
        self.request = None;
        self.outstanding.clear();
        self.timer = None;
        self.inputs = self.allowed;
        self.is_ready = !self.allowed.contains(Inputs::CONNECTIONS);
    }

    /// Ends the session early.
    pub fn end(&mut self, at: u64, what: What) {
        self.tell(at, what);
        self.state = State::Ended;
        self.timer = None;
    }

    /// Applies an action whose spans refer to `bytes`; it came from a call at `at`.
    pub fn act(&mut self, at: u64, output: Output, bytes: &[u8]) {
        if self.state != State::Live {
            return;
        }
        if let Err(rule) = self.apply(at, output, bytes) {
            self.end(at, What::Violation(rule));
        }
    }

    fn apply(&mut self, at: u64, output: Output, bytes: &[u8]) -> Result<(), &'static str> {
        const OUTSIDE: &str = "a span outside of its bytes";
        match output {
            Output::Forward(n) => self.decide(n as usize, Fate::Forwarded)?,
            Output::Discard(0) => self.pass_gap(at),
            Output::Discard(n) => self.decide(n as usize, Fate::Discarded)?,
            Output::Send(span) => {
                let sent = span.of(bytes).ok_or(OUTSIDE)?;
                self.bytes.added += sent.len() as u64;
                let request = self.request.get_or_insert_with(Request::default);
                request.added += sent.len() as u64;
                request.preview.extend(sent);
            }
            Output::Prepare(span) => {
                let sent = span.of(bytes).ok_or(OUTSIDE)?;
                if self.is_ready {
                    return Err("bytes to prepare a connection that is ready");
                }
                self.bytes.added += sent.len() as u64;
                let mut preview = Preview::default();
                preview.extend(sent);
                self.tell(at, What::Prepared(preview));
            }
            Output::EndRequest(reply) => self.end_request(at, reply),
            Output::ReplyComplete => {
                let number = self.outstanding.pop_front();
                self.replies += usize::from(number.is_some());
                self.tell(at, What::Reply(number));
            }
            Output::Ready => {
                self.is_ready = true;
                self.tell(at, What::Ready);
            }
            Output::Reconnect => {
                let unanswered = self.outstanding.len();
                let interrupted = self.request.as_ref().is_some_and(|request| request.preview.length > 0);
                self.outstanding.clear();
                self.is_ready = !self.allowed.contains(Inputs::CONNECTIONS);
                self.reconnect = Some(Lost { unanswered: unanswered as u32, interrupted });
                self.tell(at, What::Reconnect(unanswered));
            }
            Output::Close => self.end(at, What::Closed),
            Output::GiveUp(span) => {
                let reason = span.of(bytes).ok_or(OUTSIDE)?;
                self.end(at, What::GaveUp(String::from_utf8_lossy(reason).into_owned()));
            }
            Output::PassThrough => {
                self.tell(at, What::Passed);
                self.state = State::Passed;
                self.timer = None;
                self.bytes.passed += self.undecided.len() as u64;
                self.undecided.clear();
            }
            Output::Observe(span) => {
                let summary = span.of(bytes).ok_or(OUTSIDE)?;
                self.tell(at, What::Observed(String::from_utf8_lossy(summary).into_owned()));
            }
            Output::SetTimer(nanos) => self.timer = Some(at.saturating_add(nanos)),
            Output::ClearTimer => self.timer = None,
            Output::Want(inputs) => self.inputs = inputs.intersection(self.allowed),
        }
        Ok(())
    }

    fn decide(&mut self, n: usize, fate: Fate) -> Result<(), &'static str> {
        if n > self.undecided.len() {
            return Err("a decision about more bytes than were captured");
        }
        if n == 0 {
            return Ok(());
        }
        if self.gap_at.is_some_and(|gap| n > gap && fate == Fate::Forwarded) {
            return Err("a decision to send what lies on both sides of missing bytes");
        }
        let request = self.request.get_or_insert_with(Request::default);
        match fate {
            Fate::Forwarded => {
                request.forwarded += n as u64;
                request.preview.extend(&self.undecided[..n]);
                self.bytes.forwarded += n as u64;
            }
            Fate::Discarded => {
                request.discarded += n as u64;
                self.bytes.discarded += n as u64;
            }
        }
        self.undecided.drain(..n);
        self.gap_at = self.gap_at.map(|gap| gap.saturating_sub(n));
        Ok(())
    }

    fn end_request(&mut self, at: u64, reply: Reply) {
        // One of no bytes says that a request begins here.
        let Some(mut request) = self.request.take() else { return };
        self.requests += 1;
        request.number = self.requests;
        request.is_answered = reply == Reply::Expected;
        if request.is_answered {
            self.outstanding.push_back(request.number);
        }
        self.tell(at, What::Request(request));
    }

    /// The plugin has answered everything that it was told.
    pub fn after_run(&mut self, at: u64) {
        if self.state != State::Live {
            return;
        }
        self.pass_gap(at);
        if self.gap_at.take().is_some() {
            self.end(at, What::Violation("bytes before missing ones that were not discarded"));
        }
    }

    /// Goes on behind missing bytes, if everything before them is decided.
    fn pass_gap(&mut self, at: u64) {
        if self.gap_at.take_if(|left| *left == 0).is_some() && self.request.take().is_some() {
            self.tell(at, What::Abandoned);
        }
    }

    /// What speaks against the plugin, now that the connection is over: bytes that it should have decided about.
    pub fn unexplained(&self) -> Option<String> {
        // Only a client that has said all it had to say has left nothing incomplete.
        if self.state != State::Live || self.client_end != Some(ClientEnd::Finished) {
            return None;
        }
        match (self.undecided.len(), &self.request) {
            (0, None) => None,
            (0, Some(request)) => Some(format!(
                "the client closed in order, and a request was not ended: {} bytes forwarded, {} discarded, {} added",
                request.forwarded, request.discarded, request.added
            )),
            (left, _) => Some(format!("the client closed in order, and {left} bytes were not decided about")),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Forwarded,
    Discarded,
}
