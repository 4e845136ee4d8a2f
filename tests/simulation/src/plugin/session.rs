//! One session's books in the simulated plugin.

use super::{Fate, Moment, Plan};
use crate::request::{HEADER_LEN, Header};
use std::collections::VecDeque;
use std::sync::Arc;
use tcpcopy_engine::plugin::{Action, Input, Outcome, Output, Reply, SessionId, Span};
use tcpcopy_engine::protocol::Origin;

/// Why an event was not taken to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The plugin fails, as planned.
    Fault,
    /// The host said something that can't be.
    Wrong(String),
}

/// A request of which something was decided.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    header: Header,
    fate: Fate,
    /// Bytes of it decided about so far.
    done: usize,
    /// Bytes of its answer so far: what is sent shorter than the client wrote it is answered before all of that is seen.
    answer: u64,
}

/// A request whose reply is due.
#[derive(Clone, Copy, Debug)]
struct Due {
    number: u32,
    left: u64,
}

/// How far a connection is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preparation {
    /// There is none yet.
    Unconnected,
    /// So many bytes of the answer to the preamble are still to come.
    Asked(u64),
    Ready,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    id: SessionId,
    client: u32,
    server: usize,
    plan: Arc<Plan>,
    undecided: VecDeque<u8>,
    under_way: Option<UnderWay>,
    /// Where a request begins is not known.
    seeking: bool,
    interrupted: bool,
    due: VecDeque<Due>,
    /// Bytes of the greeting still to come on this connection.
    greeting: u64,
    preparation: Preparation,
    /// Requests, the preamble included, that were answered on this connection.
    answered: u32,
    response_ended: bool,
    closed: bool,
    /// The request that waits for the timer, and the last that has waited.
    waiting: Option<u32>,
    waited: Option<u32>,
    last: Option<u32>,
    passed: Option<u32>,
}

impl Session {
    pub(super) fn new(id: SessionId, client: u32, server: usize, origin: Origin, plan: Arc<Plan>) -> Self {
        let mut session = Self {
            id,
            client,
            server,
            undecided: VecDeque::new(),
            under_way: None,
            seeking: origin != Origin::Start,
            interrupted: false,
            due: VecDeque::new(),
            greeting: 0,
            preparation: Preparation::Unconnected,
            answered: 0,
            response_ended: false,
            closed: false,
            waiting: None,
            waited: None,
            last: None,
            passed: None,
            plan,
        };
        session.begin_connection();
        session
    }

    pub(super) const fn client(&self) -> u32 {
        self.client
    }

    /// The first request that is replayed as with no plugin.
    pub(super) const fn passed(&self) -> Option<u32> {
        self.passed
    }

    fn begin_connection(&mut self) {
        self.greeting = self.plan.greetings[self.server];
        let prepares = self.plan.preamble.is_some();
        self.preparation = if prepares { Preparation::Unconnected } else { Preparation::Ready };
        self.answered = 0;
        self.response_ended = false;
    }

    /// Takes an event.
    pub(super) fn take(&mut self, input: Input, bytes: &[u8], outcome: &mut Outcome) -> Result<(), Stop> {
        if self.passed.is_some() {
            // The host tells nothing more but what was on its way.
            return Ok(());
        }
        let wrong = |what: String| Err(Stop::Wrong(what));
        match input {
            Input::Request(span) => {
                if self.closed {
                    return wrong("request bytes after the client's end".into());
                }
                self.undecided.extend(span.of(bytes).ok_or_else(|| Stop::Wrong("a bad span".into()))?);
                self.decide(outcome)
            }
            Input::Response(span) => {
                if self.response_ended || span.length == 0 {
                    return wrong(format!("{span:?} of a response that has ended, or none"));
                }
                self.respond(u64::from(span.length), outcome)?;
                self.decide(outcome)
            }
            Input::ResponseEnd if self.response_ended => wrong("two ends of one response".into()),
            Input::ResponseEnd => {
                self.response_ended = true;
                Ok(())
            }
            Input::Connected => {
                let Some(preamble) = self.plan.preamble(self.client) else {
                    return wrong("connected, and nobody asked".into());
                };
                if self.preparation != Preparation::Unconnected {
                    return wrong("connected twice".into());
                }
                self.preparation = Preparation::Asked(u64::from(self.plan.preamble.unwrap_or(0)));
                self.give(Output::Prepare, &preamble, outcome);
                Ok(())
            }
            Input::ConnectionLost { unanswered, kept, interrupted } => {
                self.begin_connection();
                let due = self.due.len();
                if (unanswered + kept) as usize != due {
                    let what = format!("{unanswered} unanswered and {kept} kept; {:?} are due", self.due);
                    self.due.drain(..due.min(unanswered as usize));
                    return wrong(what);
                }
                self.due.drain(..unanswered as usize);
                if interrupted && self.under_way.is_none() && self.undecided.is_empty() {
                    return wrong("a request was interrupted, and none is under way".into());
                }
                self.interrupted |= interrupted;
                if let Some(request) = &mut self.under_way {
                    request.answer = 0;
                }
                self.decide(outcome)
            }
            Input::Gap => {
                self.say(Output::Discard(self.undecided.len() as u32), outcome);
                self.say(Output::Discard(0), outcome);
                self.undecided.clear();
                self.under_way = None;
                self.interrupted = false;
                self.seeking = true;
                if self.waiting.take().is_some() {
                    self.say(Output::ClearTimer, outcome);
                }
                Ok(())
            }
            Input::ClientClosed(_) if self.closed || !self.plan.closes => wrong("a strange end".into()),
            Input::ClientClosed(_) => {
                self.closed = true;
                Ok(())
            }
            Input::Timer => {
                // It may have been on its way when it was cleared.
                if let Some(number) = self.waiting.take() {
                    self.waited = Some(number);
                }
                self.decide(outcome)
            }
            Input::Reference(_) => wrong("reference bytes, and nobody asked".into()),
            Input::Opened(_) | Input::Ended => Ok(()),
        }
    }

    fn say(&self, output: Output, outcome: &mut Outcome) {
        outcome.actions.push(Action { session: self.id, output });
    }

    fn send(&self, bytes: &[u8], outcome: &mut Outcome) {
        self.give(Output::Send, bytes, outcome);
    }

    fn give(&self, output: fn(Span) -> Output, bytes: &[u8], outcome: &mut Outcome) {
        let start = outcome.bytes.len() as u32;
        outcome.bytes.extend_from_slice(bytes);
        self.say(output(Span { start, length: bytes.len() as u32 }), outcome);
    }

    /// Takes `n` bytes of the target's response.
    fn respond(&mut self, mut n: u64, outcome: &mut Outcome) -> Result<(), Stop> {
        fn part(left: &mut u64, n: &mut u64) -> bool {
            let taken = (*left).min(*n);
            *left -= taken;
            *n -= taken;
            *left == 0
        }
        part(&mut self.greeting, &mut n);
        if n > 0
            && let Preparation::Asked(left) = &mut self.preparation
            && part(left, &mut n)
        {
            self.preparation = Preparation::Ready;
            self.answered += 1;
            self.say(Output::Ready, outcome);
        }
        while n > 0 {
            let Some(front) = self.due.front_mut() else { return self.respond_early(n, outcome) };
            if !part(&mut front.left, &mut n) {
                break;
            }
            let number = front.number;
            self.due.pop_front();
            self.answered += 1;
            self.say(Output::ReplyComplete, outcome);
            let knows = self.plan.foresees_closes
                && self.plan.closes_after[self.server].is_some_and(|after| self.answered >= after);
            let nothing_is_lost = self.due.is_empty() && self.under_way.is_none();
            if knows || (nothing_is_lost && self.plan.reconnects(self.client, number)) {
                self.say(Output::Reconnect, outcome);
            }
        }
        Ok(())
    }

    /// Takes `n` bytes of the answer to a request that is all sent, and not all seen.
    fn respond_early(&mut self, n: u64, outcome: &mut Outcome) -> Result<(), Stop> {
        if let Some(request) = &mut self.under_way
            && let Fate::Rewrite(new) = request.fate
            && !self.interrupted
            && request.done >= new.len as usize
            && request.answer + n <= u64::from(new.response)
        {
            request.answer += n;
            if request.answer == u64::from(new.response) {
                self.answered += 1;
                self.say(Output::ReplyComplete, outcome);
            }
            return Ok(());
        }
        Err(Stop::Wrong(format!("{n} response bytes that nobody asked for")))
    }

    fn is_ready(&self) -> bool {
        self.preparation == Preparation::Ready
    }

    /// Decides about as much as can be.
    fn decide(&mut self, outcome: &mut Outcome) -> Result<(), Stop> {
        loop {
            if self.passed.is_some() || self.waiting.is_some() || (!self.is_ready() && !self.plan.eager) {
                return Ok(());
            }
            if self.seeking && !self.seek(outcome) {
                return Ok(());
            }
            let under_way = match self.under_way {
                Some(under_way) => under_way,
                None => match self.begin(outcome)? {
                    Some(under_way) => under_way,
                    None => return Ok(()),
                },
            };
            if !self.go_on(under_way, outcome)? {
                return Ok(());
            }
        }
    }

    /// Looks for a place where a request surely begins.
    fn seek(&mut self, outcome: &mut Outcome) -> bool {
        let bytes: &[u8] = self.undecided.make_contiguous();
        let is_begin = |at: &usize| match Header::parse(&bytes[*at..]) {
            Some(header) => header.client == self.client && self.last.is_none_or(|last| header.number > last),
            None => bytes.len() - at < HEADER_LEN && bytes[*at] == 0xc7,
        };
        let skip = (0..bytes.len()).find(is_begin).unwrap_or(bytes.len());
        let found = bytes.len() - skip >= HEADER_LEN;
        if skip > 0 {
            self.undecided.drain(..skip);
            self.say(Output::Discard(skip as u32), outcome);
        }
        if found {
            // What was left out so far is no part of the request that begins here, which may begin with bytes left out as well.
            self.say(Output::EndRequest(Reply::NotExpected), outcome);
        }
        self.seeking = !found;
        found
    }

    /// Begins with the next request, once it may.
    fn begin(&mut self, outcome: &mut Outcome) -> Result<Option<UnderWay>, Stop> {
        let bytes: &[u8] = self.undecided.make_contiguous();
        let Some(header) = Header::parse(bytes) else {
            return match bytes.len() {
                ..HEADER_LEN => Ok(None),
                _ => Err(Stop::Wrong(format!("no request begins with {:?}", &bytes[..HEADER_LEN]))),
            };
        };
        if self.plan.holds(&header) && bytes.len() < header.len as usize {
            return Ok(None);
        }
        if self.waited != Some(header.number)
            && let Some(nanos) = self.plan.delays(&header)
        {
            self.waiting = Some(header.number);
            self.say(Output::SetTimer(nanos), outcome);
            return Ok(None);
        }
        let fate = self.plan.fate(&header);
        if fate == Fate::Fail(Moment::Before) {
            return Err(Stop::Fault);
        }
        if fate == Fate::Pass && !self.interrupted {
            self.passed = Some(header.number);
            self.say(Output::PassThrough, outcome);
            return Ok(None);
        }
        self.last = Some(header.number);
        Ok(Some(UnderWay { header, fate, done: 0, answer: 0 }))
    }

    /// Takes `n` bytes out of the undecided ones.
    fn decided(&mut self, n: usize, request: &mut UnderWay) {
        self.undecided.drain(..n);
        request.done += n;
    }

    /// Decides about what is there of the request under way. Returns whether it has ended.
    fn go_on(&mut self, mut request: UnderWay, outcome: &mut Outcome) -> Result<bool, Stop> {
        let UnderWay { header, fate, .. } = request;
        let len = header.len as usize;
        let mut answer = u64::from(header.response);
        match fate {
            Fate::Rewrite(new) if !self.interrupted => {
                if !self.is_ready() {
                    // What is sent now would belong to no request.
                    self.under_way = Some(request);
                    return Ok(false);
                }
                answer = u64::from(new.response);
                self.rewrite(&new, &mut request, outcome);
            }
            _ => {
                let n = self.undecided.len().min(len - request.done);
                let leave_out = matches!(fate, Fate::Drop | Fate::Rewrite(_));
                self.decided(n, &mut request);
                let n = n as u32;
                self.say(if leave_out { Output::Discard(n) } else { Output::Forward(n) }, outcome);
            }
        }
        if request.done < len {
            self.under_way = Some(request);
            return Ok(false);
        }
        if fate == Fate::Fail(Moment::After) {
            return Err(Stop::Fault);
        }
        self.under_way = None;
        if std::mem::take(&mut self.interrupted) || fate == Fate::Drop {
            self.say(Output::EndRequest(Reply::NotExpected), outcome);
        } else {
            self.say(Output::EndRequest(Reply::Expected), outcome);
            let left = answer - request.answer;
            if left > 0 {
                self.due.push_back(Due { number: header.number, left });
            }
        }
        Ok(true)
    }

    /// Sends a request with the header `new`, and as much body as that says.
    fn rewrite(&mut self, new: &Header, request: &mut UnderWay, outcome: &mut Outcome) {
        let (len, new_len) = (request.header.len as usize, new.len as usize);
        let mut written = Vec::new();
        new.write(&mut written);
        if request.done == 0 {
            self.decided(HEADER_LEN, request);
            self.say(Output::Discard(HEADER_LEN as u32), outcome);
            self.send(&written[..HEADER_LEN], outcome);
        }
        let n = self.undecided.len().min(len - request.done);
        let kept = n.min(new_len.saturating_sub(request.done));
        self.decided(n, request);
        if kept > 0 {
            self.say(Output::Forward(kept as u32), outcome);
        }
        if n > kept {
            self.say(Output::Discard((n - kept) as u32), outcome);
        }
        if request.done == len && new_len > len {
            self.send(&written[len..], outcome);
        }
    }
}
