//! Which responses of the two servers answer the same request, and what each issued.
//!
//! Requests are numbered in the order in which the client sent them. Both servers' responses are matched with them by that
//! order; what both issued under the same name belongs together.

use crate::codec::{Method, ResponseDecoder, ResponseHead, ResponseStep};
use crate::credentials::{Credentials, Sources};
use crate::issued::{self, Issued, MAX_BODY, Search};
use plugin_sdk::Origin;
use std::collections::VecDeque;

/// Most requests of a session that have not been answered by both servers.
const MAX_OPEN: usize = 4096;
/// Most bytes of the online server that are kept because they answer requests not decided about.
const MAX_AHEAD: usize = 256 * 1024;

/// What one server issued in answer to one request.
#[derive(Debug, Default)]
struct Side {
    issued: Vec<Issued>,
    /// Whether more may come.
    state: Answer,
    search: Option<Search>,
    body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Answer {
    #[default]
    Due,
    Complete,
}

impl Side {
    fn begin(&mut self, head: &ResponseHead<'_>, sources: &Sources) {
        issued::in_head(head, sources, &mut self.issued);
        self.search = issued::search_of(head, sources);
    }

    fn add_content(&mut self, bytes: &[u8]) {
        if self.search.is_some() {
            if self.body.len() + bytes.len() > MAX_BODY {
                self.search = None;
                self.body = Vec::new();
            } else {
                self.body.extend_from_slice(bytes);
            }
        }
    }

    fn complete(&mut self, sources: &Sources) {
        if let Some(search) = self.search.take() {
            issued::in_body(search, &self.body, sources, &mut self.issued);
        }
        self.body = Vec::new();
        self.state = Answer::Complete;
    }
}

/// A request that at least one server has yet to answer.
#[derive(Debug, Default)]
struct Exchange {
    method: Method,
    online: Side,
    target: Side,
}

/// Whether a reference stream can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// It can.
    On,
    /// It can't any more: what it says would be taken for answers to other requests.
    Lost,
}

/// Whether the target gets a request too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replayed {
    Yes,
    /// Only the online server answers it.
    No,
}

/// What one session knows of the two servers' answers.
#[derive(Debug)]
pub(crate) struct Learning {
    decoder: ResponseDecoder,
    exchanges: VecDeque<Exchange>,
    /// Number of the first exchange.
    first: u64,
    /// Number of the request that the online server answers next.
    online: u64,
    course: Course,
    learnt: Learnt,
    /// Not the start: no request has been seen yet.
    start: Origin,
}

/// Whether the table of credentials has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learnt {
    /// It has: requests that wait may go.
    Something,
    /// It has not.
    Nothing,
}

impl Learning {
    /// For a session whose heads have at most `max_head` bytes.
    pub(crate) fn new(start: Origin, max_head: usize) -> Self {
        Self {
            decoder: ResponseDecoder::new(max_head),
            exchanges: VecDeque::new(),
            first: 0,
            online: 0,
            course: Course::On,
            learnt: Learnt::Nothing,
            start,
        }
    }

    /// Whether the online server's bytes are of use.
    pub(crate) const fn course(&self) -> Course {
        self.course
    }

    /// The client sent a request. Returns its number.
    pub(crate) fn begin(&mut self, method: Method, replayed: Replayed) -> u64 {
        let mut exchange = Exchange { method, ..Exchange::default() };
        if replayed == Replayed::No {
            exchange.target.state = Answer::Complete;
        }
        if self.course == Course::Lost {
            exchange.online.state = Answer::Complete;
        }
        self.exchanges.push_back(exchange);
        self.start = Origin::Start;
        let number = self.first + self.exchanges.len() as u64 - 1;
        if self.exchanges.len() > MAX_OPEN {
            self.lose();
        }
        number
    }

    fn target(&mut self, number: u64) -> Option<&mut Side> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.exchanges.get_mut(index).map(|exchange| &mut exchange.target)
    }

    /// The target answers request `number` with this head.
    pub(crate) fn target_head(
        &mut self,
        number: u64,
        head: &ResponseHead<'_>,
        sources: &Sources,
        table: &mut Credentials,
    ) {
        if let Some(side) = self.target(number) {
            side.begin(head, sources);
            self.pair(number, table);
        }
    }

    /// The target's answer to request `number` goes on.
    pub(crate) fn target_content(&mut self, number: u64, bytes: &[u8]) {
        if let Some(side) = self.target(number) {
            side.add_content(bytes);
        }
    }

    /// The target's answer to request `number` is complete, or won't come.
    pub(crate) fn target_complete(&mut self, number: u64, sources: &Sources, table: &mut Credentials) {
        if let Some(side) = self.target(number) {
            side.complete(sources);
            self.pair(number, table);
            self.finish(number, table);
        }
    }

    /// Takes bytes of the online server. Returns how many are done with.
    pub(crate) fn reference(&mut self, bytes: &[u8], sources: &Sources, table: &mut Credentials) -> usize {
        let mut at = 0;
        while self.course == Course::On {
            let number = self.online;
            let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
            let Some(exchange) = self.exchanges.get_mut(index) else {
                return match self.start {
                    // It answers what was not captured.
                    Origin::MidStream | Origin::Rejoined => bytes.len(),
                    // The request is behind one that has to wait.
                    Origin::Start if bytes.len() - at <= MAX_AHEAD => at,
                    Origin::Start => break,
                };
            };
            let side = &mut exchange.online;
            match self.decoder.step(&bytes[at..], |content| side.add_content(content)) {
                ResponseStep::More => return at,
                ResponseStep::Head(head) => {
                    at += head.len;
                    if head.is_interim() {
                        self.decoder.restart();
                        continue;
                    }
                    side.begin(&head, sources);
                    let tunnel = matches!(exchange.method, Method::Connect) && head.status / 100 == 2;
                    let ends = !self.decoder.accept(head.framing(exchange.method));
                    self.pair(number, table);
                    if ends {
                        self.online_complete(sources, table);
                    }
                    if tunnel || head.status == 101 {
                        break;
                    }
                }
                ResponseStep::Body(length) => at += length,
                ResponseStep::End(length) => {
                    at += length;
                    self.online_complete(sources, table);
                }
                ResponseStep::Bad(_) => break,
            }
        }
        self.lose();
        bytes.len()
    }

    fn online_complete(&mut self, sources: &Sources, table: &mut Credentials) {
        let number = self.online;
        self.online += 1;
        let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        if let Some(exchange) = self.exchanges.get_mut(index) {
            exchange.online.complete(sources);
        }
        self.pair(number, table);
        self.finish(number, table);
    }

    /// The online server's bytes can't be followed any more.
    pub(crate) fn lose(&mut self) {
        self.course = Course::Lost;
        for exchange in &mut self.exchanges {
            exchange.online.state = Answer::Complete;
        }
    }

    /// The session is over: nothing is due any more.
    pub(crate) fn abandon(&mut self, table: &mut Credentials) {
        for issued in self.exchanges.drain(..).flat_map(|exchange| exchange.online.issued) {
            table.forget_due(issued.kind, &issued.name, &issued.value);
        }
    }

    /// Whether something was learnt since this was asked last.
    pub(crate) const fn take_learnt(&mut self) -> Learnt {
        std::mem::replace(&mut self.learnt, Learnt::Nothing)
    }

    /// Puts together what both servers issued so far under the same name.
    fn pair(&mut self, number: u64, table: &mut Credentials) {
        let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        let Some(Exchange { online, target, .. }) = self.exchanges.get_mut(index) else { return };
        let due = target.state == Answer::Due;
        online.issued.retain(|issued| {
            let same = |other: &Issued| other.kind == issued.kind && other.name == issued.name;
            match target.issued.iter().position(same) {
                Some(at) => {
                    let target = target.issued.remove(at);
                    table.learn(issued.kind, &issued.name, &issued.value, &target.value);
                    self.learnt = Learnt::Something;
                    false
                }
                None => {
                    if due {
                        table.expect(issued.kind, &issued.name, &issued.value);
                    }
                    true
                }
            }
        });
    }

    /// One server has answered request `number`: what the target will not issue any more is due no longer, and requests that both
    /// have answered are forgotten.
    fn finish(&mut self, number: u64, table: &mut Credentials) {
        let complete = |exchange: &mut Exchange| {
            exchange.online.state == Answer::Complete && exchange.target.state == Answer::Complete
        };
        let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        if let Some(exchange) = self.exchanges.get_mut(index)
            && exchange.target.state == Answer::Complete
        {
            for issued in exchange.online.issued.drain(..) {
                table.forget_due(issued.kind, &issued.name, &issued.value);
                self.learnt = Learnt::Something;
            }
        }
        while self.exchanges.pop_front_if(complete).is_some() {
            self.first += 1;
        }
        self.online = self.online.max(self.first);
    }
}
