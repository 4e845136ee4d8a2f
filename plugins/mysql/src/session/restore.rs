//! What makes a connection what the session has made of the one before.
//!
//! Owns the commands that are sent between a login and the client's own, and what their answers mean.
//!
//! Requests that were decided before a connection was lost are sent again as they were, with the target's ids of statements in
//! them. So statements get the ids that they had, with others prepared between them where ids were skipped; both servers count.

use super::Session;
use crate::command;
use crate::packet::Message;
use crate::results::{Answer, Form, Outcome, Step};
use crate::shared::Shared;
use crate::statements::{self, Slot};
use plugin_sdk::{Actions, Level};
use std::collections::{HashMap, VecDeque};

/// Ids that are skipped at most to get the same ones again.
const MOST_SKIPPED: u32 = 1000;

/// Why a session is given up that can't be made again.
const RENUMBERED: &str = "statements on their way can't get their numbers again on a new connection";

/// A command.
#[derive(Debug)]
enum Task {
    Run(Vec<u8>),
    Database(Vec<u8>),
    Prepare(Slot, Vec<u8>),
}

/// Which one is under way.
#[derive(Debug)]
enum Current {
    Run,
    Prepare(Slot),
    Skip,
}

/// A connection that is being made what it was.
#[derive(Debug, Default)]
pub(super) struct Restore {
    tasks: VecDeque<Task>,
    current: Option<Current>,
    answer: Option<Answer>,
    /// The id that the target gave last.
    last: u32,
    /// The ids that statements must have.
    wanted: HashMap<Slot, u32>,
}

impl Session {
    /// The tasks that a new connection needs.
    pub(super) fn restore(&mut self, shared: &Shared) -> Restore {
        let rewrite = &shared.options.rewrite;
        let mode = self.memory.mode();
        let rewritten = |text: Vec<u8>| rewrite.statement(&text, mode).unwrap_or(text);
        let again = self.outstanding.iter().filter_map(|asked| asked.undo.as_ref());
        let mut tasks: VecDeque<Task> =
            self.memory.restore_before(again).into_iter().map(|text| Task::Run(rewritten(text))).collect();
        let wanted = std::mem::take(&mut self.wanted);
        let mut statements = self.prepared.rebuild();
        statements.sort_by_key(|(slot, _)| wanted.get(slot).copied().unwrap_or(u32::MAX));
        let first = self.first_database();
        let mut database = first;
        for (slot, text) in statements {
            let home = self.homes.of(slot);
            if home.is_some() && home != database {
                database = home;
                tasks.push_back(Task::Database(rewrite.database(home.unwrap_or_default()).into_owned()));
            }
            tasks.push_back(Task::Prepare(slot, rewritten(text.to_vec())));
        }
        if database != first
            && let Some(database) = first
        {
            tasks.push_back(Task::Database(rewrite.database(database).into_owned()));
        }
        Restore { tasks, wanted, ..Restore::default() }
    }

    /// Sends the next command; `None` when there is none left.
    pub(super) fn restore_next(&mut self, restore: &mut Restore, actions: &mut Actions<'_>) -> Option<()> {
        let task = restore.tasks.pop_front()?;
        let (message, form, current) = match task {
            Task::Run(text) => ([&[command::QUERY], &text[..]].concat(), Form::Results, Current::Run),
            Task::Database(name) => ([&[command::INIT_DB], &name[..]].concat(), Form::Simple, Current::Run),
            Task::Prepare(slot, text) => {
                let next = restore.last.wrapping_add(1);
                match restore.wanted.get(&slot) {
                    // A CLOSE that is sent again must not close another statement.
                    None if self.silent.iter().any(|(_, id)| *id == next) => {
                        restore.tasks.push_front(Task::Prepare(slot, text));
                        ([&[command::PREPARE], &b"DO 0"[..]].concat(), Form::Prepare, Current::Skip)
                    }
                    Some(&wanted) if wanted > next && wanted - next <= MOST_SKIPPED => {
                        restore.tasks.push_front(Task::Prepare(slot, text));
                        ([&[command::PREPARE], &b"DO 0"[..]].concat(), Form::Prepare, Current::Skip)
                    }
                    Some(&wanted) if wanted != next => {
                        self.give_up(RENUMBERED, actions);
                        return Some(());
                    }
                    _ => ([&[command::PREPARE], &text[..]].concat(), Form::Prepare, Current::Prepare(slot)),
                }
            }
        };
        self.target.prepare(&message, actions);
        restore.current = Some(current);
        restore.answer = Some(Answer::new(form));
        Some(())
    }

    /// Takes the target's next packet. Whether all is done.
    pub(super) fn on_restored(
        &mut self,
        shared: &mut Shared,
        restore: &mut Restore,
        message: &Message<'_>,
        actions: &mut Actions<'_>,
    ) -> bool {
        let Some(answer) = &mut restore.answer else { return true };
        match answer.take(message, self.target.features()) {
            Ok(Step::More) => return false,
            Ok(Step::Done) => {}
            Ok(Step::File) | Err(_) => {
                self.give_up("the target's answer can't be read", actions);
                return false;
            }
        }
        let Some(Answer { outcome, .. }) = restore.answer.take() else { return true };
        match restore.current.take() {
            Some(Current::Prepare(slot)) => self.prepared_again(restore, slot, &outcome, actions),
            Some(Current::Skip) => {
                let next = restore.last.wrapping_add(1);
                if let Some(prepared) = outcome.prepared.filter(|prepared| prepared.id == next) {
                    restore.last = prepared.id;
                    let close = [&[command::CLOSE], &prepared.id.to_le_bytes()[..]].concat();
                    self.target.prepare(&close, actions);
                } else {
                    self.give_up(RENUMBERED, actions);
                }
            }
            _ => {
                if let Some(error) = &outcome.error {
                    shared.tally.lost(self.user, "setting or variable", 1, actions);
                    let code = error.code;
                    actions.log(
                        Level::Warn,
                        &format!("a session's setting is refused on a new connection: error {code}"),
                    );
                }
                if let Some(status) = outcome.status {
                    self.memory.status(status);
                }
            }
        }
        !self.over && self.restore_next(restore, actions).is_none()
    }

    fn prepared_again(
        &mut self,
        restore: &mut Restore,
        slot: Slot,
        outcome: &Outcome,
        actions: &mut Actions<'_>,
    ) {
        let wanted = restore.wanted.get(&slot).copied();
        match outcome.prepared {
            Some(prepared) => {
                restore.last = prepared.id;
                let answer =
                    statements::Answer::Prepared { id: prepared.id, parameters: prepared.parameters };
                self.prepared.target_answer(slot, answer);
            }
            None => {
                // A refused one has taken an id too.
                restore.last = restore.last.wrapping_add(1);
                self.prepared.target_answer(slot, statements::Answer::Refused);
            }
        }
        if wanted.is_some() && wanted != outcome.prepared.map(|prepared| prepared.id) {
            self.give_up(RENUMBERED, actions);
        }
    }
}

/// The databases that statements were prepared in: names in their texts may depend on that.
#[derive(Debug, Default)]
pub(super) struct Homes(VecDeque<(Slot, Option<Box<[u8]>>)>);

impl Homes {
    /// Changes of the database that are remembered.
    const MOST: usize = 1024;

    /// A statement is prepared in this database.
    pub(super) fn add(&mut self, slot: Slot, database: Option<&[u8]>) {
        if self.0.back().is_none_or(|(_, home)| home.as_deref() != database) {
            self.0.push_back((slot, database.map(Into::into)));
            if self.0.len() > Self::MOST {
                self.0.pop_front();
            }
        }
    }

    /// The database that a statement was prepared in.
    fn of(&self, slot: Slot) -> Option<&[u8]> {
        let at = self.0.partition_point(|(first, _)| *first <= slot);
        self.0.get(at.checked_sub(1)?)?.1.as_deref()
    }
}
