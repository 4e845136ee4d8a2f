//! What is decided about a client's bytes.

use crate::Http;
use crate::answers::{Answers, Condition, Due, Wish};
use crate::carry::{Carrier, Patience, Readiness};
use crate::codec::{
    BadMessage, Framing, Place, RequestDecoder, RequestHead, RequestStep, Resemblance, UpgradeTo,
    find_request_line, resembles_request,
};
use crate::filter::{Verdict, hash};
use crate::learning::{Learning, Replayed};
use crate::options::BadRequests;
use crate::rewrite::Substitutes;
use plugin_sdk::{Actions, Opening, Origin, Reply};
use std::net::IpAddr;
use std::time::Duration;

/// How often a request that waits looks for its credentials.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// What becomes of the bytes of the request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They are sent.
    Forward,
    /// They are left out.
    Discard,
}

/// Where the request under way stands with the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the last one of those due.
    Due,
    /// It has its answer before it is complete.
    Answered,
    /// Nothing of it was sent, or what was is lost: there is no answer.
    Unanswerable,
}

/// A request whose head was decided about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnderWay {
    pub(crate) fate: Fate,
    pub(crate) standing: Standing,
    /// What comes behind it.
    pub(crate) then: Asking,
}

/// Whether the body of a request that expects a 100 is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continue {
    /// The target has not said.
    Due,
    /// The target wants it.
    Wanted,
    /// The target has answered without it.
    Refused,
    /// It was waited for long enough.
    Overdue,
}

/// Whether a timer runs for what is being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timed {
    Yes,
    No,
}

/// What the next undecided bytes are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asking {
    /// Messages, as the decoder reads them.
    Messages,
    /// Anything, up to where a request surely begins.
    Lost(Place),
    /// The body of a request that expects a 100; or the next request, if the client was told not to send it.
    Body { answer: Continue, timed: Timed },
    /// The body of such a request that is already ended and answered; or the next request.
    Leftover,
    /// What depends on whether the target changes the protocol.
    Switch,
    /// The target does: another protocol; or requests, if the online server did not.
    Switched,
    /// The target does not: requests; or another protocol, if the online server did.
    Unswitched,
    /// What belongs to a tunnel that is left out.
    Nothing,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    pub(crate) decoder: RequestDecoder,
    pub(crate) asking: Asking,
    pub(crate) under_way: Option<UnderWay>,
    pub(crate) answers: Answers,
    pub(crate) learning: Option<Box<Learning>>,
    /// Number of the request whose head is seen and not decided about.
    seen: Option<u64>,
    /// How often it has been looked at in vain.
    polls: u32,
    /// Stands for the client's address.
    client: u64,
    /// Nothing of a client seen from its start was decided about yet.
    fresh: bool,
}

/// Whether there may be more to decide.
enum Pass {
    /// So many bytes were decided about.
    On(usize),
    /// More bytes, or another event, are needed.
    Wait,
}

impl Session {
    pub(crate) fn new(http: &Http, opening: &Opening) -> Self {
        let max_head = http.options.max_head;
        let asking = match opening.origin {
            Origin::Start => Asking::Messages,
            Origin::MidStream | Origin::Rejoined => Asking::Lost(Place::LineStart),
        };
        let learning = http.credentials.as_ref();
        Self {
            decoder: RequestDecoder::new(max_head),
            asking,
            under_way: None,
            answers: Answers::new(max_head),
            learning: learning.map(|_| Box::new(Learning::new(opening.origin, max_head))),
            seen: None,
            polls: 0,
            client: match opening.client.ip() {
                IpAddr::V4(address) => hash(&address.octets()),
                IpAddr::V6(address) => hash(&address.octets()),
            },
            fresh: opening.origin == Origin::Start,
        }
    }

    /// Decides about as many of the undecided bytes as can be.
    pub(crate) fn decide(&mut self, http: &mut Http, bytes: &[u8], actions: &mut Actions<'_>) {
        let mut rest = bytes;
        while let Pass::On(taken) = self.decide_some(http, rest, actions) {
            rest = &rest[taken..];
        }
    }

    fn decide_some(&mut self, http: &mut Http, bytes: &[u8], actions: &mut Actions<'_>) -> Pass {
        match self.asking {
            Asking::Messages => self.read(http, bytes, actions),
            _ if bytes.is_empty() => Pass::Wait,
            Asking::Lost(place) => self.seek(bytes, place, actions),
            Asking::Body { answer, timed } => self.consider_body(http, bytes, answer, timed, actions),
            Asking::Leftover => match resembles_request(bytes) {
                Resemblance::Maybe => Pass::Wait,
                Resemblance::Surely => self.go_on(),
                Resemblance::No => {
                    let then = Asking::Messages;
                    let (fate, standing) = (Fate::Discard, Standing::Unanswerable);
                    self.under_way = Some(UnderWay { fate, standing, then });
                    self.asking = Asking::Messages;
                    Pass::On(0)
                }
            },
            Asking::Switch => Pass::Wait,
            Asking::Switched => match resembles_request(bytes) {
                Resemblance::Maybe => Pass::Wait,
                Resemblance::Surely => {
                    actions.count("upgrades that only the target granted", 1);
                    self.answers.connection = Condition::Spent;
                    self.go_on()
                }
                Resemblance::No => {
                    actions.pass_through();
                    Pass::Wait
                }
            },
            Asking::Unswitched => match resembles_request(bytes) {
                Resemblance::Maybe => Pass::Wait,
                Resemblance::Surely => self.go_on(),
                Resemblance::No => {
                    actions.give_up("the target refused a change of protocol that the online server granted");
                    Pass::Wait
                }
            },
            Asking::Nothing => {
                actions.discard(bytes.len());
                Pass::On(bytes.len())
            }
        }
    }

    /// A request begins here, whatever the decoder waited for.
    const fn go_on(&mut self) -> Pass {
        self.decoder.restart();
        self.asking = Asking::Messages;
        Pass::On(0)
    }

    fn seek(&mut self, bytes: &[u8], place: Place, actions: &mut Actions<'_>) -> Pass {
        match find_request_line(bytes, place) {
            Ok(before) => {
                actions.discard(before);
                // What was discarded is no part of the request.
                actions.end_request(Reply::NotExpected);
                self.go_on();
                Pass::On(before)
            }
            Err(before) => {
                actions.discard(before);
                let place = match before.checked_sub(1).map(|last| bytes[last]) {
                    None => place,
                    Some(b'\n') => Place::LineStart,
                    Some(_) => Place::WithinLine,
                };
                self.asking = Asking::Lost(place);
                Pass::Wait
            }
        }
    }

    fn read(&mut self, http: &mut Http, bytes: &[u8], actions: &mut Actions<'_>) -> Pass {
        match self.decoder.step(bytes) {
            RequestStep::More => Pass::Wait,
            RequestStep::Empty(length) => {
                // It is no part of the request behind it, which the client may have sent much later.
                actions.discard(length);
                actions.end_request(Reply::NotExpected);
                Pass::On(length)
            }
            RequestStep::Head(head) => {
                self.fresh = false;
                self.handle_head(http, bytes, &head, actions)
            }
            RequestStep::Body(length) => {
                self.take_body(length, actions);
                Pass::On(length)
            }
            RequestStep::End(length) => {
                self.take_body(length, actions);
                self.end_request(actions);
                Pass::On(length)
            }
            RequestStep::Preface => {
                actions.count("connections with HTTP/2", 1);
                actions.pass_through();
                Pass::Wait
            }
            RequestStep::Bad(length, bad) => {
                self.take_body(length, actions);
                self.handle_bad(http, &bytes[length..], bad, actions);
                Pass::Wait
            }
        }
    }

    fn take_body(&self, length: usize, actions: &mut Actions<'_>) {
        match self.under_way.map(|under_way| under_way.fate) {
            Some(Fate::Discard) => actions.discard(length),
            Some(Fate::Forward) | None => actions.forward(length),
        }
    }

    /// Decides about a request's head, and about all of a request that has no body.
    fn handle_head(
        &mut self,
        http: &mut Http,
        bytes: &[u8],
        head: &RequestHead<'_>,
        actions: &mut Actions<'_>,
    ) -> Pass {
        // The decoder has refused heads that say nothing sure.
        let framing = head.framing().unwrap_or(Framing::None);
        let wish = wish_of(head);
        if let Verdict::Drop(name) = http.options.filter.judge(head, self.client) {
            actions.count(name, 1);
            if let Some(learning) = &mut self.learning {
                learning.begin(head.kind(), Replayed::No);
            }
            actions.discard(head.len);
            let then = match wish {
                Wish::None => Asking::Messages,
                Wish::Distinct | Wish::Other => Asking::Lost(Place::LineStart),
                Wish::Tunnel => Asking::Nothing,
            };
            self.begin(UnderWay { fate: Fate::Discard, standing: Standing::Unanswerable, then });
            self.go_into_body(head, framing, Continue::Wanted, actions);
            return Pass::On(head.len);
        }
        let mut substitutes = Substitutes::default();
        let mut body = None;
        if let (Some(learning), Some(table), Some(options)) =
            (&mut self.learning, &mut http.credentials, &http.options.credentials)
        {
            // The online server may answer while the request waits.
            self.seen.get_or_insert_with(|| learning.begin(head.kind(), Replayed::Yes));
            let patience = match u128::from(options.wait_millis) {
                wait if u128::from(self.polls) * POLL.as_millis() >= wait => Patience::None,
                _ => Patience::Some,
            };
            let mut carrier = Carrier { table, sources: &options.sources, patience, overdue: 0 };
            let mut readiness = carrier.carry_head(head, &mut substitutes);
            if readiness == Readiness::Ready
                && let Some(length) = carrier.form_length(head, framing)
            {
                let Some(form) = bytes.get(head.len..head.len + length) else { return Pass::Wait };
                match carrier.carry_form(form) {
                    Ok(None) => {}
                    Ok(Some(new)) => {
                        substitutes.length = Some(new.len());
                        body = Some((new, length));
                    }
                    Err(due) => readiness = due,
                }
            }
            if carrier.overdue > 0 {
                actions.count("credentials that the target did not issue in time", carrier.overdue);
            }
            if readiness == Readiness::Due {
                actions.set_timer(POLL);
                return Pass::Wait;
            }
            if !substitutes.is_empty() {
                actions.count("requests with the target's credentials", 1);
            }
        }
        self.polls = 0;
        if self.answers.connection == Condition::Spent {
            actions.reconnect();
            self.answers.restart();
        }
        let rewrite = &http.options.rewrite;
        let mut taken = head.len;
        let mut left = framing;
        if rewrite.is_empty() && substitutes.is_empty() {
            actions.forward(head.len);
        } else {
            rewrite.write(bytes, head, &substitutes, &mut http.scratch);
            if let Some((form, length)) = &body {
                http.scratch.extend_from_slice(form);
                taken += length;
                left = Framing::None;
            }
            actions.replace(taken, &http.scratch);
        }
        let exchange = self.seen.take().unwrap_or_default();
        self.answers.due.push_back(Due { method: head.kind(), wish, after: Condition::Usable, exchange });
        let then = if wish == Wish::None { Asking::Messages } else { Asking::Switch };
        self.begin(UnderWay { fate: Fate::Forward, standing: Standing::Due, then });
        self.go_into_body(head, left, Continue::Due, actions);
        Pass::On(taken)
    }

    const fn begin(&mut self, under_way: UnderWay) {
        self.under_way = Some(under_way);
    }

    fn go_into_body(
        &mut self,
        head: &RequestHead<'_>,
        framing: Framing,
        answer: Continue,
        actions: &mut Actions<'_>,
    ) {
        if !self.decoder.accept(framing) {
            self.end_request(actions);
        } else if head.expects_continue() {
            self.asking = Asking::Body { answer, timed: Timed::No };
        }
    }

    /// The request under way is complete.
    fn end_request(&mut self, actions: &mut Actions<'_>) {
        let Some(under_way) = self.under_way.take() else { return };
        actions.end_request(match under_way.standing {
            Standing::Due | Standing::Answered => Reply::Expected,
            Standing::Unanswerable => Reply::NotExpected,
        });
        self.asking = under_way.then;
    }

    /// Looks at what may be the body of a request that expects a 100.
    fn consider_body(
        &mut self,
        http: &Http,
        bytes: &[u8],
        answer: Continue,
        timed: Timed,
        actions: &mut Actions<'_>,
    ) -> Pass {
        let resemblance = match answer {
            Continue::Overdue => Resemblance::No,
            _ => resembles_request(bytes),
        };
        match (resemblance, answer) {
            (Resemblance::Surely, _) => {
                // The online server answered without the body, so the client did not send it (RFC 9110, section 10.1.1).
                actions.clear_timer();
                actions.count("bodies that the client did not send", 1);
                if let (Some(UnderWay { standing: Standing::Due, .. }), Some(due)) =
                    (self.under_way, self.answers.due.back_mut())
                {
                    due.after = Condition::Spent;
                }
                self.decoder.restart();
                self.end_request(actions);
                Pass::On(0)
            }
            (Resemblance::Maybe, _) | (Resemblance::No, Continue::Due) => {
                if timed == Timed::No {
                    actions.set_timer(Duration::from_millis(http.options.continue_millis.into()));
                    self.asking = Asking::Body { answer, timed: Timed::Yes };
                }
                Pass::Wait
            }
            (Resemblance::No, Continue::Refused) => {
                if let Some(under_way) = &mut self.under_way {
                    under_way.fate = Fate::Discard;
                }
                actions.clear_timer();
                self.asking = Asking::Messages;
                Pass::On(0)
            }
            (Resemblance::No, Continue::Wanted | Continue::Overdue) => {
                actions.clear_timer();
                self.asking = Asking::Messages;
                Pass::On(0)
            }
        }
    }

    fn handle_bad(&mut self, http: &Http, bytes: &[u8], bad: BadMessage, actions: &mut Actions<'_>) {
        /// First byte of a TLS handshake (RFC 8446, section 5.1).
        const TLS_HANDSHAKE: u8 = 22;
        if self.fresh && bytes.first() == Some(&TLS_HANDSHAKE) {
            return actions.give_up("TLS can't be replayed: capture behind the server that ends it");
        }
        actions.count(&format!("bad requests: {bad}"), 1);
        let left_out = self.under_way.is_some_and(|under_way| under_way.fate == Fate::Discard);
        match http.options.bad_requests {
            BadRequests::Forward if !left_out => actions.pass_through(),
            BadRequests::Forward | BadRequests::Drop => actions.close(),
        }
    }

    /// Request bytes are missing.
    pub(crate) fn handle_gap(&mut self, actions: &mut Actions<'_>) {
        if let Some(UnderWay { standing: Standing::Due, .. }) = self.under_way.take() {
            self.answers.due.pop_back();
        }
        if let Some(learning) = &mut self.learning {
            learning.lose();
        }
        self.seen = None;
        self.polls = 0;
        self.fresh = false;
        match self.asking {
            Asking::Switch | Asking::Switched | Asking::Unswitched => {
                actions.give_up("bytes are missing after a change of protocol");
            }
            Asking::Nothing => {}
            _ => {
                self.decoder.restart();
                actions.clear_timer();
                self.asking = Asking::Lost(Place::WithinLine);
            }
        }
    }

    /// A moment that was asked for has come.
    pub(crate) fn handle_timer(&mut self, actions: &mut Actions<'_>) {
        match &mut self.asking {
            Asking::Body { answer: Continue::Refused, .. } => {
                if let Some(under_way) = &mut self.under_way {
                    under_way.fate = Fate::Discard;
                }
                self.asking = Asking::Messages;
                actions.resume();
            }
            Asking::Body { answer, .. } => {
                if *answer == Continue::Due {
                    actions.count("bodies sent without the target's 100", 1);
                }
                *answer = Continue::Overdue;
                actions.resume();
            }
            Asking::Messages => {
                self.polls = self.polls.saturating_add(1);
                actions.resume();
            }
            _ => {}
        }
    }
}

fn wish_of(head: &RequestHead<'_>) -> Wish {
    if head.method == b"CONNECT" {
        return Wish::Tunnel;
    }
    match head.facts.upgrade {
        _ if !head.asks_for_upgrade() => Wish::None,
        UpgradeTo::Missing => Wish::None,
        UpgradeTo::Distinct => Wish::Distinct,
        UpgradeTo::Other => Wish::Other,
    }
}
