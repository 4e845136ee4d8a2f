//! When a request may go: at once where the client had pipelined it, else after the replies that the client had waited for.
//!
//! A segment that acknowledges more of the response than those before it begins a *turn*: the client had read something then. What
//! it can have read are replies to requests that were complete by then, and no others, so those are what the request that follows
//! waits for. A client that keeps several requests under way reads some of them only, nobody knows how many; there the number of
//! response bytes decides, corrected for what the target's replies are longer or shorter than the online server's.

use crate::plugin::Reply;
use crate::protocol::transparent::Predecessor;
use std::collections::VecDeque;

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// The first so many requests must have their replies.
    requests: u64,
    /// Response bytes that the client had acknowledged.
    pub(super) acknowledged: u64,
}

/// A request that was sent and has no reply yet.
#[derive(Clone, Copy, Debug)]
struct Unanswered {
    number: u64,
    start: Option<u64>,
}

/// Orders the requests of one session.
#[derive(Debug, Default)]
pub(super) struct Sequencer {
    /// Captured stream offsets where turns begin, with the response bytes acknowledged by then.
    turns: VecDeque<(u64, u64)>,
    acknowledged: u64,
    /// What the next request to begin waits for.
    next_wait: Option<Wait>,
    /// Requests that the plugin has ended.
    ended: u64,
    /// Requests that were released and have ended.
    released: u64,
    unanswered: VecDeque<Unanswered>,
    /// Replies that were complete before their requests were.
    early_replies: u64,
    /// The client sends requests while replies to earlier ones are due.
    pipelines: bool,
    /// Target's response bytes minus online response bytes, at the last release that waited for all replies.
    drift: i64,
    acknowledged_at_release: u64,
    /// Response bytes that the client had read before its first request: a greeting, which comes anew with each connection.
    greeting: u64,
    /// Response bytes that the client had read at the last turn that is over, and at the last request to begin.
    turned: u64,
    begun: u64,
}

impl Sequencer {
    /// A captured segment begins at `offset`, whose client had read `acknowledged` bytes.
    pub(super) fn note_segment(&mut self, offset: u64, acknowledged: u64) {
        if acknowledged > self.acknowledged {
            self.acknowledged = acknowledged;
            self.turns.push_back((offset, acknowledged));
        }
    }

    /// Response bytes that the client had read when it sent what was captured last.
    pub(super) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    fn take_turns(&mut self, passed: impl Fn(u64) -> bool) {
        while let Some((_, acknowledged)) = self.turns.pop_front_if(|(offset, _)| passed(*offset)) {
            self.turned = acknowledged;
            self.next_wait = Some(Wait { requests: self.ended, acknowledged });
        }
    }

    /// The plugin begins a request at `position`. Returns what it waits for.
    pub(super) fn begin(&mut self, position: u64) -> Option<Wait> {
        self.take_turns(|offset| offset <= position);
        let wait = self.next_wait.take();
        self.begun = self.turned;
        let before = wait.map_or(0, |wait| wait.requests);
        let is_first = self.ended == 0;
        self.pipelines |= !is_first && before < self.ended && self.is_due(self.ended);
        wait
    }

    /// Whether a reply to one of the first `requests` requests is due, as far as they were released.
    fn is_due(&self, requests: u64) -> bool {
        self.released < requests || self.unanswered.front().is_some_and(|first| first.number < requests)
    }

    /// The plugin ends a request at `position`.
    pub(super) fn end(&mut self, position: u64) {
        // A turn within the request can't have answered it.
        self.take_turns(|offset| offset < position);
        self.ended += 1;
    }

    /// Whether a request may go, now that `received` response bytes have come; none, if they say nothing about replies yet.
    pub(super) fn may_go(&self, wait: Wait, received: Option<u64>) -> bool {
        let expected = wait.acknowledged as i64 + self.drift;
        let read = self.pipelines && received.is_some_and(|received| received as i64 >= expected);
        read || !self.is_due(wait.requests)
    }

    /// A request that had waited goes.
    pub(super) fn note_release(&mut self, wait: Wait, received: u64) {
        if wait.requests == 0 {
            // The target's greeting may be still to come.
            self.greeting = wait.acknowledged;
        } else if !self.is_due(wait.requests) {
            self.drift = received as i64 - wait.acknowledged as i64;
        }
        self.acknowledged_at_release = wait.acknowledged;
    }

    /// The request released last, which begins at `start` of the captured stream, is complete. Returns whether its reply is
    /// complete already.
    pub(super) fn complete(&mut self, start: Option<u64>, reply: Reply) -> bool {
        let number = self.released;
        self.released += 1;
        if reply == Reply::NotExpected {
            return false;
        }
        if self.early_replies > 0 {
            self.early_replies -= 1;
            return true;
        }
        self.unanswered.push_back(Unanswered { number, start });
        false
    }

    /// The request released last won't be complete. A reply that came before all of it was sent has gone with it.
    pub(super) const fn abandon(&mut self) {
        self.early_replies = 0;
    }

    /// A reply is complete. Returns where its request begins in the captured stream, if it is of a request sent completely.
    pub(super) fn reply_complete(&mut self) -> Option<Option<u64>> {
        let answered = self.unanswered.pop_front();
        self.early_replies += u64::from(answered.is_none());
        answered.map(|request| request.start)
    }

    /// Whether a reply is due for something that was sent.
    pub(super) fn is_any_due(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// The connection is gone: only requests that `is_kept` says so of will be sent again. Returns how many will get no reply,
    /// and how many were kept.
    pub(super) fn connection_lost(&mut self, is_kept: impl Fn(u64) -> bool) -> (u32, u32) {
        let before = self.unanswered.len();
        self.unanswered.retain(|request| request.start.is_some_and(&is_kept));
        self.early_replies = 0;
        self.begin_connection();
        ((before - self.unanswered.len()) as u32, self.unanswered.len() as u32)
    }

    fn begin_connection(&mut self) {
        self.drift = self.greeting as i64 - self.acknowledged_at_release as i64;
    }

    /// The connection may carry requests, now that `received` response bytes have come on it.
    pub(super) fn note_ready(&mut self, received: u64) {
        self.drift = received as i64 - self.acknowledged_at_release as i64;
    }

    /// Forgets all decisions that were not released, and all replies due; another connection follows. `undone` are the requests that had waited, with where
    /// they began, the last one first: they will wait again.
    pub(super) fn restart(&mut self, undone: impl Iterator<Item = (u64, Wait)>) {
        for (start, wait) in undone {
            self.turns.push_front((start, wait.acknowledged));
        }
        self.unanswered.clear();
        self.ended = self.released;
        self.early_replies = 0;
        self.next_wait = None;
        self.turned = self.acknowledged_at_release;
        self.begun = self.turned;
        self.begin_connection();
    }

    /// Response bytes that the client had read when it sent what lies at `offset`, which is not decided about.
    pub(super) fn acknowledged_at(&self, offset: u64) -> u64 {
        let turns = self.turns.iter().take_while(|(start, _)| *start <= offset);
        turns.last().map_or(self.turned, |(_, acknowledged)| *acknowledged)
    }

    /// Where it leaves off, for one who takes over when `received_at_release` response bytes had come at the last release.
    pub(super) const fn leave(&self, received_at_release: u64) -> Predecessor {
        Predecessor {
            acknowledged: self.begun,
            released_acknowledged: self.acknowledged_at_release,
            drift: self.drift,
            received_at_release,
            released: self.released > 0,
        }
    }

    /// Bytes of memory held.
    pub(super) fn held_bytes(&self) -> usize {
        self.turns.capacity() * size_of::<(u64, u64)>() + self.unanswered.capacity() * size_of::<Unanswered>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_after_reading_waits_for_all_that_were_complete_by_then() {
        let mut s = Sequencer::default();
        assert_eq!(s.begin(0), None);
        s.end(10);
        s.complete(Some(0), Reply::Expected);
        s.note_segment(10, 5);
        let wait = s.begin(10).unwrap();
        assert!(!s.may_go(wait, Some(0)));
        assert_eq!(s.reply_complete(), Some(Some(0)));
        assert!(s.may_go(wait, Some(0)));
    }

    #[test]
    fn a_pipelined_request_waits_for_nothing() {
        let mut s = Sequencer::default();
        s.begin(0);
        s.end(10);
        s.complete(Some(0), Reply::Expected);
        s.note_segment(10, 0);
        assert_eq!(s.begin(10), None);
    }

    #[test]
    fn what_was_read_within_a_request_answered_earlier_ones_only() {
        let mut s = Sequencer::default();
        s.begin(0);
        s.end(10);
        s.complete(Some(0), Reply::Expected);
        s.begin(10);
        // Half of the second request had been sent when the client read the reply to the first.
        s.note_segment(15, 7);
        s.end(20);
        s.complete(Some(10), Reply::Expected);
        let wait = s.begin(20).unwrap();
        s.reply_complete();
        assert!(s.may_go(wait, Some(7)), "the second request's reply was not read");
    }

    #[test]
    fn with_several_under_way_the_bytes_read_decide() {
        let mut s = Sequencer::default();
        for n in 0..3 {
            s.begin(n * 10);
            s.end(n * 10 + 10);
            s.complete(Some(n * 10), Reply::Expected);
        }
        s.note_segment(30, 5);
        let wait = s.begin(30).unwrap();
        assert!(!s.may_go(wait, Some(4)));
        assert!(s.may_go(wait, Some(5)));
    }

    #[test]
    fn a_greeting_counts_for_no_reply() {
        let mut s = Sequencer::default();
        s.note_segment(0, 100);
        let wait = s.begin(0).unwrap();
        assert!(s.may_go(wait, Some(0)), "nothing says that the target greets too");
        s.note_release(wait, 0);
        for n in 0..2 {
            s.begin(n * 10);
            s.end(n * 10 + 10);
            s.complete(Some(n * 10), Reply::Expected);
        }
        s.note_segment(20, 105);
        let wait = s.begin(20).unwrap();
        assert!(!s.may_go(wait, Some(104)), "the greeting and most of a reply");
        assert!(s.may_go(wait, Some(105)));
        s.note_release(wait, 105);
        s.connection_lost(|_| true);
        s.end(30);
        s.complete(Some(20), Reply::Expected);
        s.note_segment(30, 110);
        let wait = s.begin(30).unwrap();
        assert!(!s.may_go(wait, Some(104)), "another greeting and most of a reply");
        assert!(s.may_go(wait, Some(105)));
    }

    #[test]
    fn an_early_reply_counts_for_its_request() {
        let mut s = Sequencer::default();
        s.begin(0);
        assert_eq!(s.reply_complete(), None);
        s.end(10);
        assert!(s.complete(Some(0), Reply::Expected));
        assert!(!s.is_any_due());
    }

    #[test]
    fn an_early_reply_to_a_request_that_is_not_completed_counts_for_no_other() {
        let mut s = Sequencer::default();
        s.begin(0);
        assert_eq!(s.reply_complete(), None);
        s.abandon();
        s.begin(10);
        s.end(20);
        assert!(!s.complete(Some(10), Reply::Expected));
        assert!(s.is_any_due());
    }
}
