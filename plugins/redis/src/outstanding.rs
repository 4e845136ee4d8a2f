//! What is still to be answered, and what an answer means.
//!
//! Owns the queue of requests whose answers have not come. Where an answer ends is [`crate::reply`]'s business.
//!
//! Redis answers requests in their order, one reply each, but for these: a subscription is confirmed once for each channel;
//! `CLIENT REPLY` makes it answer nothing; and a transaction with `SUBSCRIBE` in it is answered with more than it says. Messages
//! and the like come in between, and answer nothing.

use crate::memory::Effect;
use crate::reply::Channel;
use std::collections::VecDeque;

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// So many requests, with one reply each, that change nothing about the connection.
    Plain(u32),
    /// One request whose first reply, when it is no error, has these effects; then so many replies more.
    One { effects: Vec<Effect>, more: u32 },
    /// The rest of those.
    Rest(u32),
    /// A request without a reply.
    Silent(Vec<Effect>),
    /// Confirmations for so many channels; `None`: for all that are subscribed to.
    Confirm { channel: Channel, ends: bool, left: Option<u32>, muted: bool, effects: Vec<Effect> },
}

/// The requests whose answers have not come, oldest first.
#[derive(Debug, Default)]
pub struct Outstanding {
    queue: VecDeque<Entry>,
}

/// Whether the target says no or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked for.
    Done,
    /// An error, or the null of a transaction that was not executed.
    Refused,
}

/// What a reply was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The last one of the oldest request.
    Request,
    /// Not the last one.
    Part,
    /// Of none.
    Unexpected,
}

impl Outstanding {
    /// A request with one reply and no effects.
    #[inline]
    pub fn plain(&mut self) {
        if let Some(Entry::Plain(count)) = self.queue.back_mut() {
            *count += 1;
        } else {
            self.queue.push_back(Entry::Plain(1));
        }
    }

    /// A request with `1 + more` replies.
    pub fn one(&mut self, effects: Vec<Effect>, more: u32) {
        if effects.is_empty() && more == 0 {
            self.plain();
        } else {
            self.queue.push_back(Entry::One { effects, more });
        }
    }

    /// A request without reply. Its effects are there once everything before has been answered.
    pub fn silent(&mut self, effects: Vec<Effect>, apply: impl FnMut(Effect)) {
        if self.queue.is_empty() {
            effects.into_iter().for_each(apply);
        } else if !effects.is_empty() {
            self.queue.push_back(Entry::Silent(effects));
        }
    }

    /// A request that is confirmed for each of `left` channels, or for all of them; `muted` when the host expects no reply.
    pub fn confirm(
        &mut self,
        channel: Channel,
        ends: bool,
        left: Option<u32>,
        muted: bool,
        effects: Vec<Effect>,
    ) {
        self.queue.push_back(Entry::Confirm { channel, ends, left, muted, effects });
    }

    /// Whether nothing is to be answered.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the oldest request has one reply and no effects.
    #[inline]
    pub fn is_plain(&self) -> bool {
        matches!(self.queue.front(), Some(Entry::Plain(_)))
    }

    /// Whether the oldest request is to be confirmed.
    pub fn awaits_confirmation(&self) -> bool {
        matches!(self.queue.front(), Some(Entry::Confirm { .. }))
    }

    /// Whether what comes next belongs to the oldest request whatever it looks like.
    pub fn awaits_rest(&self) -> bool {
        matches!(self.queue.front(), Some(Entry::Rest(_)))
    }

    /// A reply came that answers something.
    #[inline]
    pub fn answered(&mut self, outcome: Outcome, apply: &mut dyn FnMut(Effect)) -> Answered {
        if let Some(Entry::Plain(count)) = self.queue.front_mut()
            && *count > 1
        {
            *count -= 1;
            return Answered::Request;
        }
        let answered = self.pop_answered(outcome, apply);
        self.pass_silent(apply);
        answered
    }

    fn pop_answered(&mut self, outcome: Outcome, apply: &mut dyn FnMut(Effect)) -> Answered {
        loop {
            match self.queue.pop_front() {
                Some(Entry::Plain(1)) => return Answered::Request,
                Some(Entry::Plain(count)) => {
                    self.queue.push_front(Entry::Plain(count - 1));
                    return Answered::Request;
                }
                Some(Entry::One { effects, more }) => {
                    let done = outcome == Outcome::Done;
                    effects.into_iter().filter(|effect| done || *effect == Effect::End).for_each(&mut *apply);
                    if more == 0 || !done {
                        return Answered::Request;
                    }
                    self.queue.push_front(Entry::Rest(more));
                    return Answered::Part;
                }
                Some(Entry::Rest(1)) => return Answered::Request,
                Some(Entry::Rest(left)) => {
                    self.queue.push_front(Entry::Rest(left - 1));
                    return Answered::Part;
                }
                Some(Entry::Silent(effects)) => effects.into_iter().for_each(&mut *apply),
                // Refused, or queued in a transaction.
                Some(Entry::Confirm { muted: false, .. }) => return Answered::Request,
                // A server of old says nothing when it was told not to answer.
                Some(Entry::Confirm { muted: true, .. }) => {}
                None => return Answered::Unexpected,
            }
        }
    }

    /// A confirmation came; `subscribed`: to how many channels of its kind the connection was subscribed before.
    pub fn confirmed(
        &mut self,
        channel: Channel,
        ends: bool,
        subscribed: u32,
        apply: &mut dyn FnMut(Effect),
    ) -> Answered {
        let Some(Entry::Confirm { channel: wanted, ends: wanted_end, left, muted, effects }) =
            self.queue.front_mut()
        else {
            return Answered::Unexpected;
        };
        if *wanted != channel || *wanted_end != ends {
            return Answered::Unexpected;
        }
        let rest = left.unwrap_or(subscribed.max(1)).saturating_sub(1);
        if rest > 0 {
            *left = Some(rest);
            return Answered::Part;
        }
        let answered = if *muted { Answered::Part } else { Answered::Request };
        std::mem::take(effects).into_iter().for_each(&mut *apply);
        self.queue.pop_front();
        self.pass_silent(apply);
        answered
    }

    fn pass_silent(&mut self, apply: &mut dyn FnMut(Effect)) {
        while let Some(Entry::Silent(effects)) =
            self.queue.pop_front_if(|entry| matches!(entry, Entry::Silent(_)))
        {
            effects.into_iter().for_each(&mut *apply);
        }
    }

    /// The oldest `requests` requests get no reply any more. What they asked for counts as done: their client goes on as if.
    pub fn forget(&mut self, mut requests: u32, apply: &mut dyn FnMut(Effect)) {
        // What is left of its replies is that of a new connection, all or nothing.
        loop {
            self.pass_silent(apply);
            match self.queue.front_mut() {
                None => return,
                Some(Entry::Confirm { muted: true, .. }) => {
                    if let Some(Entry::Confirm { effects, .. }) = self.queue.pop_front() {
                        effects.into_iter().for_each(&mut *apply);
                    }
                }
                Some(_) if requests == 0 => return,
                Some(Entry::Plain(count)) if *count > requests => {
                    *count -= requests;
                    return;
                }
                Some(_) => match self.queue.pop_front() {
                    Some(Entry::Plain(count)) => requests -= count,
                    Some(Entry::One { effects, .. } | Entry::Confirm { effects, .. }) => {
                        effects.into_iter().for_each(&mut *apply);
                        requests -= 1;
                    }
                    _ => requests -= 1,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Slot;

    fn select(number: u8) -> Vec<Effect> {
        vec![Effect::Remember(Slot::Database, Box::new([number]))]
    }

    #[test]
    fn replies_answer_requests_in_order() {
        let mut outstanding = Outstanding::default();
        let mut applied = Vec::new();
        outstanding.plain();
        outstanding.plain();
        outstanding.one(select(1), 0);
        outstanding.silent(select(2), |_| unreachable!("something is before it"));
        outstanding.plain();
        let mut answer = |outcome| outstanding.answered(outcome, &mut |effect| applied.push(effect));
        assert_eq!(answer(Outcome::Done), Answered::Request);
        assert_eq!(answer(Outcome::Refused), Answered::Request);
        assert_eq!(answer(Outcome::Done), Answered::Request);
        assert_eq!(answer(Outcome::Done), Answered::Request);
        assert_eq!(answer(Outcome::Done), Answered::Unexpected);
        assert_eq!(applied, [select(1), select(2)].concat());
    }

    #[test]
    fn a_refused_request_has_no_effect_but_the_end_of_a_transaction() {
        let mut outstanding = Outstanding::default();
        let mut applied = Vec::new();
        outstanding.one([vec![Effect::End], select(1)].concat(), 2);
        let answered = outstanding.answered(Outcome::Refused, &mut |effect| applied.push(effect));
        assert_eq!((answered, applied), (Answered::Request, vec![Effect::End]));
        assert!(outstanding.is_empty());
    }

    #[test]
    fn confirmations_are_counted_by_their_kind() {
        let mut outstanding = Outstanding::default();
        outstanding.confirm(Channel::Plain, false, Some(2), false, Vec::new());
        outstanding.confirm(Channel::Plain, true, None, false, Vec::new());
        let mut confirm =
            |channel, ends, before| outstanding.confirmed(channel, ends, before, &mut |_| unreachable!());
        assert_eq!(confirm(Channel::Plain, false, 0), Answered::Part);
        assert_eq!(confirm(Channel::Pattern, false, 0), Answered::Unexpected);
        assert_eq!(confirm(Channel::Plain, false, 1), Answered::Request);
        assert_eq!(confirm(Channel::Plain, true, 2), Answered::Part);
        assert_eq!(confirm(Channel::Plain, true, 1), Answered::Request);
        assert_eq!(confirm(Channel::Plain, true, 0), Answered::Unexpected);
    }

    #[test]
    fn forgotten_requests_keep_their_effects_and_leave_the_rest() {
        let mut outstanding = Outstanding::default();
        let mut applied = Vec::new();
        (0..3).for_each(|_| outstanding.plain());
        outstanding.one(select(1), 0);
        outstanding.plain();
        outstanding.one(select(2), 0);
        outstanding.forget(2, &mut |effect| applied.push(effect));
        assert!(applied.is_empty() && outstanding.is_plain());
        outstanding.forget(3, &mut |effect| applied.push(effect));
        assert_eq!(applied, select(1));
        assert!(!outstanding.is_plain() && !outstanding.is_empty());
        outstanding.forget(99, &mut |effect| applied.push(effect));
        assert!(outstanding.is_empty());
    }
}
