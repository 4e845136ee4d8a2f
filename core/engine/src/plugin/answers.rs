//! Parts what a plugin answered to a batch by session.

use super::{EventBatch, Outcome, Output, SessionId};

/// What a plugin answered to some events of one session.
#[allow(missing_debug_implementations, reason = "what it borrows has none")]
pub struct Answer<'a> {
    /// How many events were told.
    pub events: u32,
    /// What is to be done, in order.
    pub outputs: &'a mut dyn Iterator<Item = Output>,
    /// What spans in the outputs refer to.
    pub bytes: &'a [u8],
}

/// Memory for answers that come in no order.
#[derive(Debug, Default)]
pub(crate) struct Parting {
    sessions: Vec<SessionId>,
    /// Sessions of actions, and which action it is.
    actions: Vec<(SessionId, u32)>,
}

impl Parting {
    /// Calls `give` for the sessions of `batch` with their actions, until every event and every action of those sessions is
    /// given: once for each session, or for each run of events of one session where the actions come in the order of the events,
    /// as most plugins give them. Actions for other sessions are passed over.
    pub(crate) fn part(
        &mut self,
        batch: &EventBatch,
        outcome: &Outcome,
        give: impl FnMut(SessionId, &mut Answer<'_>),
    ) {
        if is_in_order(batch, outcome) {
            in_order(batch, outcome, give);
        } else {
            self.sorted(batch, outcome, give);
        }
    }

    fn sorted(
        &mut self,
        batch: &EventBatch,
        outcome: &Outcome,
        mut give: impl FnMut(SessionId, &mut Answer<'_>),
    ) {
        self.sessions.clear();
        self.sessions.extend(batch.events.iter().map(|event| event.session));
        self.sessions.sort_unstable();
        self.actions.clear();
        self.actions.extend(outcome.actions.iter().zip(0..).map(|(action, index)| (action.session, index)));
        self.actions.sort_unstable();
        let mut rest = self.actions.as_slice();
        for told in self.sessions.chunk_by(|one, next| one == next) {
            let id = told[0];
            let skip = rest.partition_point(|(session, _)| *session < id);
            let count = rest[skip..].partition_point(|(session, _)| *session == id);
            let own = &rest[skip..skip + count];
            rest = &rest[skip + count..];
            let mut outputs = own.iter().map(|(_, index)| outcome.actions[*index as usize].output);
            let events = told.len() as u32;
            give(id, &mut Answer { events, outputs: &mut outputs, bytes: &outcome.bytes });
        }
    }
}

/// Whether each action follows from the events by taking, at each event, as many actions as are of its session.
fn is_in_order(batch: &EventBatch, outcome: &Outcome) -> bool {
    let mut rest = outcome.actions.iter().peekable();
    for event in &batch.events {
        while rest.next_if(|action| action.session == event.session).is_some() {}
    }
    rest.peek().is_none()
}

fn in_order(batch: &EventBatch, outcome: &Outcome, mut give: impl FnMut(SessionId, &mut Answer<'_>)) {
    let mut rest = outcome.actions.as_slice();
    for told in batch.events.chunk_by(|one, next| one.session == next.session) {
        let id = told[0].session;
        let count = rest.iter().position(|action| action.session != id).unwrap_or(rest.len());
        let (own, others) = rest.split_at(count);
        rest = others;
        let mut outputs = own.iter().map(|action| action.output);
        let events = told.len() as u32;
        give(id, &mut Answer { events, outputs: &mut outputs, bytes: &outcome.bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{Action, Event, Input};

    fn part(events: &[SessionId], actions: &[(SessionId, u32)]) -> Vec<(SessionId, u32, Vec<u32>)> {
        let mut batch = EventBatch::default();
        batch.events.extend(events.iter().map(|session| Event {
            session: *session,
            at: 1,
            input: Input::Gap,
        }));
        let mut outcome = Outcome::default();
        let act = |(session, count): &(SessionId, u32)| Action {
            session: *session,
            output: Output::Forward(*count),
        };
        outcome.actions.extend(actions.iter().map(act));
        let mut parts = Vec::new();
        Parting::default().part(&batch, &outcome, |id, answer| {
            let counts = answer.outputs.map(|output| match output {
                Output::Forward(count) => count,
                other => panic!("{other:?}"),
            });
            parts.push((id, answer.events, counts.collect()));
        });
        parts
    }

    #[test]
    fn actions_in_the_order_of_events_are_given_as_they_come() {
        let parts = part(&[1, 2, 2, 1, 3], &[(1, 10), (2, 20), (2, 21), (1, 11)]);
        assert_eq!(parts, [(1, 1, vec![10]), (2, 2, vec![20, 21]), (1, 1, vec![11]), (3, 1, vec![])]);
    }

    #[test]
    fn other_actions_are_gathered_by_session() {
        let parts = part(&[1, 2, 2, 1, 3], &[(3, 30), (2, 20), (1, 10), (2, 21), (9, 90), (1, 11)]);
        assert_eq!(parts, [(1, 2, vec![10, 11]), (2, 2, vec![20, 21]), (3, 1, vec![30])]);
    }

    #[test]
    fn strangers_get_nothing() {
        assert_eq!(part(&[5], &[(4, 1), (6, 2)]), [(5, 1, vec![])]);
        assert_eq!(part(&[], &[(4, 1)]), []);
    }
}
