//! What the target's responses mean to a session.

use crate::Http;
use crate::answers::{Condition, Due, Hearing, Wish};
use crate::codec::{Framing, ResponseHead, ResponseStep};
use crate::learning::{Course, Learnt};
use crate::session::{Asking, Continue, Fate, Session, Standing};
use plugin_sdk::{Actions, Inputs, Loss};

impl Session {
    /// Takes bytes of the target. Returns how many are done with.
    pub(crate) fn hear(&mut self, http: &mut Http, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        let mut at = 0;
        loop {
            let silent = self.answers.hearing == Hearing::Off || matches!(self.asking, Asking::Switched);
            if silent {
                return bytes.len();
            }
            let exchange = self.answers.due.front().map_or(0, |due| due.exchange);
            let learning = &mut self.learning;
            let content = |bytes: &[u8]| {
                if let Some(learning) = learning {
                    learning.target_content(exchange, bytes);
                }
            };
            match self.answers.decoder.step(&bytes[at..], content) {
                ResponseStep::More => return at,
                ResponseStep::Head(head) => {
                    let length = head.len;
                    self.handle_response(http, &head, actions);
                    at += length;
                    if actions.is_resuming() {
                        // What follows may be about the bytes that are decided about now.
                        return at;
                    }
                }
                ResponseStep::Body(length) => at += length,
                ResponseStep::End(length) => {
                    at += length;
                    self.complete_reply(http, actions);
                }
                ResponseStep::Bad(bad) => {
                    actions.count(&format!("bad responses: {bad}"), 1);
                    self.give_up_connection(actions);
                }
            }
        }
    }

    /// Nothing more is to be learnt from this connection, and what was sent on it gets no answer.
    fn give_up_connection(&mut self, actions: &mut Actions<'_>) {
        self.answers.hearing = Hearing::Off;
        if self.answers.due.is_empty() {
            // A client that sends no more needs no other one.
            self.answers.connection = Condition::Spent;
        } else {
            actions.reconnect();
        }
    }

    fn handle_response(&mut self, http: &mut Http, head: &ResponseHead<'_>, actions: &mut Actions<'_>) {
        let Some(due) = self.answers.due.front().copied() else {
            actions.count("responses to no request", 1);
            return self.give_up_connection(actions);
        };
        if head.is_interim() {
            self.answers.decoder.accept(Framing::None);
            if head.status == 100 {
                self.note_continue(due, actions);
            }
            return;
        }
        let granted = match due.wish {
            Wish::Tunnel => head.status / 100 == 2,
            Wish::Distinct | Wish::Other => head.status == 101,
            Wish::None => false,
        };
        if head.status == 101 && !granted {
            actions.count("changes of protocol that nobody asked for", 1);
            return self.give_up_connection(actions);
        }
        if let (Some(learning), Some(table), Some(options)) =
            (&mut self.learning, &mut http.credentials, &http.options.credentials)
        {
            learning.target_head(due.exchange, head, &options.sources, table);
            resume_if_learnt(self, actions);
        }
        if granted {
            return self.switch(http, due, actions);
        }
        let framing = head.framing(due.method);
        self.answers.closes =
            head.closes() || framing == Framing::UntilClose || due.after == Condition::Spent;
        self.note_final(actions);
        if !self.answers.decoder.accept(framing) {
            self.complete_reply(http, actions);
        }
    }

    /// Whether the oldest request due is the one whose bytes are being decided about.
    fn is_front_under_way(&self) -> bool {
        self.answers.due.len() == 1
            && self.under_way.is_some_and(|under_way| under_way.standing == Standing::Due)
    }

    /// The target wants the body.
    fn note_continue(&mut self, due: Due, actions: &mut Actions<'_>) {
        if due.after == Condition::Spent {
            // There is none, since the client was told otherwise.
            return self.give_up_connection(actions);
        }
        if self.is_front_under_way()
            && let Asking::Body { answer, .. } = &mut self.asking
            && *answer == Continue::Due
        {
            *answer = Continue::Wanted;
            actions.resume();
        }
    }

    /// The target has answered, possibly before it has all of the request.
    fn note_final(&mut self, actions: &mut Actions<'_>) {
        if self.is_front_under_way()
            && let Asking::Body { answer, .. } = &mut self.asking
            && *answer == Continue::Due
        {
            // The body belongs to no request any more; where the target looks for the next one is not sure.
            self.answers.closes = true;
            *answer = Continue::Refused;
            actions.count("bodies that the target did not want", 1);
            actions.resume();
        }
    }

    /// The target speaks another protocol from here on.
    fn switch(&mut self, http: &mut Http, due: Due, actions: &mut Actions<'_>) {
        self.answers.closes = false;
        self.answers.decoder.accept(Framing::None);
        self.complete_reply(http, actions);
        if due.wish == Wish::Distinct {
            match (&mut self.under_way, &mut self.asking) {
                (Some(under_way), _) => under_way.then = Asking::Switched,
                (None, asking) => *asking = Asking::Switched,
            }
            actions.resume();
        } else {
            // What follows in this piece is of the other protocol.
            self.answers.hearing = Hearing::Off;
            actions.pass_through();
        }
    }

    /// The oldest request due has its answer.
    fn complete_reply(&mut self, http: &mut Http, actions: &mut Actions<'_>) {
        let under_way = self.is_front_under_way();
        let Some(due) = self.answers.due.pop_front() else { return };
        actions.reply_complete();
        if let (Some(learning), Some(table), Some(options)) =
            (&mut self.learning, &mut http.credentials, &http.options.credentials)
        {
            learning.target_complete(due.exchange, &options.sources, table);
            resume_if_learnt(self, actions);
        }
        if due.wish != Wish::None {
            match (&mut self.under_way, &mut self.asking) {
                (Some(request), _) if under_way => request.then = Asking::Unswitched,
                (_, asking @ Asking::Switch) => *asking = Asking::Unswitched,
                _ => {}
            }
            actions.resume();
        }
        let closes = std::mem::take(&mut self.answers.closes);
        if under_way && let Some(request) = &mut self.under_way {
            request.standing = Standing::Answered;
            if closes {
                // Nobody reads the rest of it.
                request.fate = Fate::Discard;
            }
            if matches!(self.asking, Asking::Body { answer: Continue::Refused, .. })
                && actions.undecided() == 0
            {
                // The client may never send the body.
                self.under_way = None;
                self.asking = Asking::Leftover;
                actions.clear_timer();
                actions.end_request(plugin_sdk::Reply::Expected);
            }
        }
        if closes {
            self.give_up_connection(actions);
        }
    }

    /// The target closed its side.
    pub(crate) fn hear_end(&mut self, http: &mut Http, actions: &mut Actions<'_>) {
        if self.answers.hearing == Hearing::On && self.answers.decoder.close() {
            self.complete_reply(http, actions);
        }
    }

    /// The connection is gone.
    pub(crate) fn handle_loss(&mut self, http: &mut Http, loss: Loss, actions: &mut Actions<'_>) {
        self.answers.restart();
        let standing = self.under_way.map(|under_way| under_way.standing);
        if let (true, Some(Standing::Due)) = (loss.interrupted, standing) {
            let due = self.answers.due.pop_back();
            self.forget(http, due);
        }
        if let (true, Some(under_way)) = (loss.interrupted, &mut self.under_way) {
            under_way.standing = Standing::Unanswerable;
            if let Asking::Body { answer, .. } = &mut self.asking {
                *answer = Continue::Wanted;
                actions.resume();
            }
        }
        let unended = self.under_way.is_some_and(|under_way| under_way.standing == Standing::Due);
        let ended = self.answers.due.len().saturating_sub(usize::from(unended));
        // Answers that came just before the loss may have been unknown to the host when it counted.
        let (unanswered, kept) = (loss.unanswered as usize, loss.kept as usize);
        let known = (unanswered + kept).saturating_sub(ended);
        for _ in 0..unanswered.saturating_sub(known).min(ended) {
            let due = self.answers.due.pop_front();
            self.forget(http, due);
        }
        if let (Asking::Switch, true) = (self.asking, self.answers.due.is_empty()) {
            self.asking = Asking::Unswitched;
            actions.resume();
        }
        resume_if_learnt(self, actions);
    }

    /// A request gets no answer.
    fn forget(&mut self, http: &mut Http, due: Option<Due>) {
        if let (Some(due), Some(learning), Some(table), Some(options)) =
            (due, &mut self.learning, &mut http.credentials, &http.options.credentials)
        {
            learning.target_complete(due.exchange, &options.sources, table);
        }
    }

    /// Takes bytes of the online server. Returns how many are done with.
    pub(crate) fn overhear(&mut self, http: &mut Http, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        let (Some(learning), Some(table), Some(options)) =
            (&mut self.learning, &mut http.credentials, &http.options.credentials)
        else {
            return bytes.len();
        };
        let taken = learning.reference(bytes, &options.sources, table);
        if learning.course() == Course::Lost {
            actions.want(Inputs::RESPONSES);
        }
        resume_if_learnt(self, actions);
        taken
    }

    /// Bytes of the online server are missing.
    pub(crate) fn handle_reference_gap(&mut self, actions: &mut Actions<'_>) {
        if let Some(learning) = &mut self.learning {
            actions.count(
                "sessions whose credentials are not learnt: bytes of the online server are missing",
                1,
            );
            learning.lose();
            actions.want(Inputs::RESPONSES);
        }
    }
}

/// Requests that wait may go.
fn resume_if_learnt(session: &mut Session, actions: &mut Actions<'_>) {
    if let Some(learning) = &mut session.learning
        && learning.take_learnt() == Learnt::Something
    {
        actions.resume();
    }
}
