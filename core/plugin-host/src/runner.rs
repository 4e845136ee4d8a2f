//! Calls one plugin for one worker.
//!
//! Owns which sessions share an instance, when instances are made and dropped, and what a failed call means for them.

use crate::configured::Plan;
use crate::descriptor::Sharing;
use crate::instance::{Failure, Instance, StartError};
use crate::limits::FaultKind;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;
use tcpcopy_engine::plugin::{
    EventBatch, Fault, Group, Inputs, Outcome, Output, PluginRunner, SessionId, Without,
};

/// Instances that stay when their last session is gone, so that short connections find one.
const SPARE: usize = 2;

/// Runner of one worker.
pub(crate) struct Runner {
    plan: Arc<Plan>,
    worker: usize,
    /// Instances made so far; part of their seeds.
    made: u64,
    groups: Vec<Slot>,
    /// Groups with sessions or an instance that take one more session. The lowest is filled first, so that the high ones empty.
    roomy: BTreeSet<u32>,
    /// Groups with neither.
    vacant: Vec<u32>,
    /// Instances of groups without sessions.
    idle: usize,
}

#[derive(Default)]
struct Slot {
    sessions: u32,
    instance: Option<Instance>,
}

impl Runner {
    pub(crate) fn new(plan: Arc<Plan>, worker: usize) -> Self {
        Self {
            plan,
            worker,
            made: 0,
            groups: Vec::new(),
            roomy: BTreeSet::new(),
            vacant: Vec::new(),
            idle: 0,
        }
    }

    /// Most sessions of a group.
    fn capacity(&self) -> u32 {
        match self.plan.needs.sharing {
            Sharing::Together => u32::MAX,
            Sharing::Grouped => self.plan.group_size,
        }
    }

    fn vacate(&mut self, number: u32) {
        self.roomy.remove(&number);
        self.vacant.push(number);
    }

    fn start(&mut self) -> Result<Instance, Failure> {
        self.made += 1;
        let mut hash = Sha256::new();
        hash.update(self.plan.seed);
        hash.update((self.worker as u64).to_le_bytes());
        hash.update(self.made.to_le_bytes());
        let plan = &self.plan;
        match plan.code.start(&plan.settings, &plan.shared.limits, &plan.shared, hash.finalize().into()) {
            Ok((instance, _)) => {
                plan.shared.instance_made();
                Ok(instance)
            }
            Err(StartError::Refused(text)) => Err(Failure {
                kind: FaultKind::Start,
                message: format!("it refused settings that it took before: {text}"),
                session: None,
            }),
            Err(StartError::Failed(kind, message)) => Err(Failure { kind, message, session: None }),
        }
    }

    /// Who is blamed: the session that the plugin named, if it is in the batch, else the batch's first. One of them has to end,
    /// or the same events would fail again for ever.
    fn blamed(batch: &EventBatch, named: Option<SessionId>) -> Option<SessionId> {
        named
            .filter(|session| batch.events.iter().any(|event| event.session == *session))
            .or_else(|| batch.events.first().map(|event| event.session))
    }

    fn fault(&self, batch: &EventBatch, failure: &Failure) -> Fault {
        let session = Self::blamed(batch, failure.session);
        Fault { session, others: self.plan.shared.fault(failure.kind, session, &failure.message) }
    }
}

impl PluginRunner for Runner {
    fn inputs(&self) -> Inputs {
        self.plan.needs.inputs
    }

    fn join(&mut self) -> Result<Group, Without> {
        if let Some(without) = self.plan.shared.disabled() {
            return Err(without);
        }
        let number = match self.roomy.first() {
            Some(number) => *number,
            None => {
                let number = self.vacant.pop().unwrap_or_else(|| {
                    self.groups.push(Slot::default());
                    (self.groups.len() - 1) as u32
                });
                self.roomy.insert(number);
                number
            }
        };
        let capacity = self.capacity();
        let slot = &mut self.groups[number as usize];
        if slot.sessions == 0 && slot.instance.is_some() {
            self.idle -= 1;
        }
        slot.sessions += 1;
        if slot.sessions >= capacity {
            self.roomy.remove(&number);
        }
        Ok(Group(number))
    }

    fn leave(&mut self, group: Group) {
        let Some(slot) = self.groups.get_mut(group.0 as usize).filter(|slot| slot.sessions > 0) else {
            return;
        };
        slot.sessions -= 1;
        self.roomy.insert(group.0);
        if slot.sessions > 0 {
            return;
        }
        if slot.instance.is_some() && self.idle < SPARE {
            self.idle += 1;
        } else {
            slot.instance = None;
            self.vacate(group.0);
        }
    }

    fn run(
        &mut self,
        group: Group,
        batch: &EventBatch,
        now_nanos: u64,
        outcome: &mut Outcome,
    ) -> Result<(), Fault> {
        if let Some(without) = self.plan.shared.disabled() {
            return Err(Fault {
                session: None,
                others: tcpcopy_engine::plugin::AfterFault::Disabled(without),
            });
        }
        let index = group.0 as usize;
        // The last events of a group that is no more: nobody waits for an answer.
        let Some(sessions) = self.groups.get(index).map(|slot| slot.sessions) else { return Ok(()) };
        let mut instance = match self.groups[index].instance.take() {
            Some(instance) => instance,
            None if sessions == 0 => return Ok(()),
            None => self.start().map_err(|failure| self.fault(batch, &failure))?,
        };
        let (actions, bytes) = (outcome.actions.len(), outcome.bytes.len());
        match instance.run(batch, now_nanos, outcome) {
            Ok(()) => {
                self.groups[index].instance = Some(instance);
                for action in &outcome.actions[actions..] {
                    if let Output::GiveUp(reason) = action.output
                        && let Some(reason) = reason.of(&outcome.bytes)
                    {
                        self.plan.shared.gave_up(&String::from_utf8_lossy(reason));
                    }
                }
                Ok(())
            }
            Err(failure) => {
                if sessions == 0 {
                    self.idle -= 1;
                    self.vacate(group.0);
                }
                outcome.actions.truncate(actions);
                outcome.bytes.truncate(bytes);
                Err(self.fault(batch, &failure))
            }
        }
    }

    fn note_observation(&mut self, session: SessionId, summary: &[u8]) {
        self.plan.shared.observed(session, summary);
    }

    fn note_violation(&mut self, session: SessionId, what: &'static str) {
        self.plan.shared.violation(session, what);
    }
}
