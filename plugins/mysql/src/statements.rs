//! The prepared statements of a session.
//!
//! Owns which statement of the target stands for which of the online server, what has to be prepared again on a new connection,
//! and what an execution needs that the client sent with an earlier one. Finding the packets, and what the servers answered to
//! which, is left to the session; an execution's packet is read in [`layout`].

pub mod layout;
mod placed;

use layout::{Attributes, Layout};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;

/// Most statements that are known at a time; a server's own limit is lower unless it has been raised.
pub const MAX_STATEMENTS: usize = 16_384;
/// Most bytes of texts that are kept to prepare them again.
pub const MAX_TEXT: usize = 8 << 20;
/// The id that stands for the statement prepared last, to MariaDB.
pub const LAST: u32 = u32::MAX;

/// A statement, in the order in which a session's statements were prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u64);

/// Whether a statement's preparation goes to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It does.
    Sent,
    /// A rule left it out, and with it whatever is done with the statement.
    Dropped,
}

/// What a server answered to a preparation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The statement's id and number of parameters.
    Prepared {
        /// Its id.
        id: u32,
        /// How many parameters it has.
        parameters: u16,
    },
    /// An error.
    Refused,
}

/// What the target calls a statement that the client names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetId {
    /// Its id.
    Known(u32),
    /// The target has not answered yet.
    Awaited,
    /// A rule left its preparation out.
    Dropped,
    /// The target refused its preparation.
    Refused,
    /// It was prepared before the session was joined, or its text was not kept and the connection lost.
    Unknown,
    /// What an execution needs was lost with a connection: long data sent ahead, or the cursor that rows are fetched from.
    Lost,
}

/// An execution, as the target gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Execution {
    /// The id goes in place of the client's, and in place of these bytes of the packet others. Types are added when the client sent
    /// them with an execution on an earlier connection.
    Send {
        /// The target's id.
        id: u32,
        /// Bytes that go, counted from the packet's first, the command; and what comes in their place.
        splice: Option<(Range<usize>, Vec<u8>)>,
    },
    /// It can't be sent, at least not yet.
    Not(TargetId),
    /// Its packet is no execution of the statement: it ends too early.
    Malformed,
}

/// What the online server calls a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Online {
    /// It said so.
    Told(u32),
    /// It has not been heard, but it counts.
    Counted(u32),
}

impl Online {
    const fn id(self) -> u32 {
        match self {
            Self::Told(id) | Self::Counted(id) => id,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Awaited,
    Known(u32),
    Refused,
    Dropped,
    /// Its text was not kept.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TypesAtTarget {
    /// The target knows the types as the client last sent them, or the client has sent none.
    Current,
    /// The statement was prepared again since.
    Due,
}

#[derive(Debug)]
struct Entry {
    online: Online,
    target: Target,
    text: Option<Box<[u8]>>,
    parameters: Option<u16>,
    /// The types that the client sent last, as they stand in a packet.
    types: Box<[u8]>,
    types_at_target: TypesAtTarget,
    /// Long data was sent for the next execution.
    long_data: bool,
    /// It was, to a connection that is lost.
    long_data_lost: bool,
    /// It has been executed with a cursor on this connection.
    cursor: bool,
    cursor_lost: bool,
}

/// The prepared statements of a session.
#[derive(Debug, Default)]
pub struct Prepared {
    entries: BTreeMap<u64, Entry>,
    /// By the online server's id.
    by_online: HashMap<u32, u64>,
    next: u64,
    /// The id that the online server gave last, or is taken to have given.
    last_online: u32,
    /// Bytes of texts.
    kept: usize,
    /// Preparations sent that the target has not answered, oldest first.
    awaited: VecDeque<u64>,
}

impl Prepared {
    /// The client prepares a statement. Its slot is what both servers' answers are told for.
    pub fn prepare(&mut self, text: &[u8], fate: Fate) -> Slot {
        let number = self.next;
        self.next += 1;
        if self.entries.len() >= MAX_STATEMENTS
            && let Some(&oldest) = self.entries.keys().next()
        {
            self.forget(oldest);
        }
        let text: Option<Box<[u8]>> =
            (fate == Fate::Sent && self.kept + text.len() <= MAX_TEXT).then(|| text.into());
        self.kept += text.as_ref().map_or(0, |text| text.len());
        let id = self.count();
        let target = match fate {
            Fate::Sent => Target::Awaited,
            Fate::Dropped => Target::Dropped,
        };
        let entry = Entry {
            online: Online::Counted(id),
            target,
            text,
            parameters: None,
            types: Box::default(),
            types_at_target: TypesAtTarget::Current,
            long_data: false,
            long_data_lost: false,
            cursor: false,
            cursor_lost: false,
        };
        self.entries.insert(number, entry);
        self.by_online.insert(id, number);
        if fate == Fate::Sent {
            self.awaited.push_back(number);
        }
        Slot(number)
    }

    /// The online server gives an id to something that is no statement of the protocol: `PREPARE` and `EXECUTE IMMEDIATE` in SQL.
    pub fn skip_online_id(&mut self) {
        self.count();
    }

    fn count(&mut self) -> u32 {
        self.last_online = self.last_online.wrapping_add(1);
        self.last_online
    }

    /// The online server answered. The ids that it gives to statements prepared since are counted from here on.
    pub fn online_answer(&mut self, slot: Slot, answer: Answer) {
        match answer {
            Answer::Prepared { id, parameters } => {
                let Some(entry) = self.entries.get_mut(&slot.0) else { return };
                let counted = entry.online.id();
                entry.online = Online::Told(id);
                entry.parameters.get_or_insert(parameters);
                if counted != id {
                    if self.by_online.get(&counted) == Some(&slot.0) {
                        self.by_online.remove(&counted);
                    }
                    self.by_online.insert(id, slot.0);
                    self.shift(slot.0, id.wrapping_sub(counted));
                }
            }
            // The client never uses it; what the target made of it stays there unused.
            Answer::Refused => self.forget(slot.0),
        }
    }

    /// Corrects the ids counted for statements prepared after `number`.
    fn shift(&mut self, number: u64, by: u32) {
        self.last_online = self.last_online.wrapping_add(by);
        for (&later, entry) in self.entries.range_mut(number + 1..) {
            if let Online::Counted(id) = entry.online {
                if self.by_online.get(&id) == Some(&later) {
                    self.by_online.remove(&id);
                }
                entry.online = Online::Counted(id.wrapping_add(by));
            }
        }
        for (&later, entry) in self.entries.range(number + 1..) {
            if let Online::Counted(id) = entry.online {
                self.by_online.entry(id).or_insert(later);
            }
        }
    }

    /// The target answered.
    pub fn target_answer(&mut self, slot: Slot, answer: Answer) {
        self.awaited.retain(|&number| number != slot.0);
        let Some(entry) = self.entries.get_mut(&slot.0) else { return };
        entry.target = match answer {
            Answer::Prepared { id, parameters } => {
                entry.parameters = Some(parameters);
                Target::Known(id)
            }
            Answer::Refused => Target::Refused,
        };
    }

    fn number(&self, online: u32) -> Option<u64> {
        if online == LAST {
            return self.entries.keys().next_back().copied();
        }
        self.by_online.get(&online).copied()
    }

    fn entry(&mut self, online: u32) -> Option<&mut Entry> {
        let number = self.number(online)?;
        self.entries.get_mut(&number)
    }

    /// What the target calls the statement that the online server calls `online`.
    pub fn target_id(&self, online: u32) -> TargetId {
        let entry = self.number(online).and_then(|number| self.entries.get(&number));
        entry.map_or(TargetId::Unknown, |entry| match entry.target {
            Target::Awaited => TargetId::Awaited,
            Target::Known(id) => TargetId::Known(id),
            Target::Refused => TargetId::Refused,
            Target::Dropped => TargetId::Dropped,
            Target::Gone => TargetId::Unknown,
        })
    }

    /// The text of a statement, if it was kept: not for those that were dropped.
    pub fn text(&self, online: u32) -> Option<&[u8]> {
        self.entries.get(&self.number(online)?)?.text.as_deref()
    }

    /// The client executes a statement: `packet` is the whole command. Remembers the types in it, and says what the target gets.
    pub fn execute(&mut self, online: u32, packet: &[u8], attributes: Attributes) -> Execution {
        let id = match self.target_id(online) {
            TargetId::Known(id) => id,
            other => return Execution::Not(other),
        };
        let Some(entry) = self.entry(online) else { return Execution::Not(TargetId::Unknown) };
        if std::mem::take(&mut entry.long_data_lost) {
            entry.long_data = false;
            return Execution::Not(TargetId::Lost);
        }
        let Some(layout) = Layout::of(packet, entry.parameters.unwrap_or(0), attributes) else {
            return Execution::Malformed;
        };
        entry.long_data = false;
        entry.cursor_lost = false;
        entry.cursor = layout.opens_cursor();
        let mut splice = None;
        match layout.types(packet) {
            Some(types) => {
                if *entry.types != *types {
                    entry.types = types.into();
                }
                entry.types_at_target = TypesAtTarget::Current;
            }
            None if entry.types_at_target == TypesAtTarget::Due && !entry.types.is_empty() => {
                if let Some(at) = layout.bound {
                    let mut with = vec![1];
                    with.extend_from_slice(&entry.types);
                    splice = Some((at..at + 1, with));
                }
                entry.types_at_target = TypesAtTarget::Current;
            }
            None => {}
        }
        Execution::Send { id, splice }
    }

    /// The client sends a parameter's data ahead of an execution.
    pub fn long_data(&mut self, online: u32) -> TargetId {
        let id = self.target_id(online);
        if let Some(entry) = self.entry(online) {
            if entry.long_data_lost {
                return TargetId::Lost;
            }
            entry.long_data |= matches!(id, TargetId::Known(_));
        }
        id
    }

    /// The client fetches rows.
    pub fn fetch(&mut self, online: u32) -> TargetId {
        match self.entry(online) {
            Some(entry) if entry.cursor_lost => TargetId::Lost,
            _ => self.target_id(online),
        }
    }

    /// The client resets a statement: long data and cursors are forgotten.
    pub fn reset(&mut self, online: u32) -> TargetId {
        if let Some(entry) = self.entry(online) {
            entry.long_data = false;
            entry.long_data_lost = false;
            entry.cursor = false;
            entry.cursor_lost = false;
        }
        self.target_id(online)
    }

    /// The client closes a statement. While the target's id is awaited nothing changes.
    pub fn close(&mut self, online: u32) -> TargetId {
        let id = self.target_id(online);
        if id != TargetId::Awaited
            && let Some(number) = self.number(online)
        {
            self.forget(number);
        }
        id
    }

    fn forget(&mut self, number: u64) {
        if let Some(entry) = self.entries.remove(&number) {
            self.kept -= entry.text.map_or(0, |text| text.len());
            let id = entry.online.id();
            if self.by_online.get(&id) == Some(&number) {
                self.by_online.remove(&id);
            }
        }
        self.awaited.retain(|&awaited| awaited != number);
    }

    /// All statements are gone on both servers: `COM_CHANGE_USER`, `COM_RESET_CONNECTION`. The online server goes on counting.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.by_online.clear();
        self.awaited.clear();
        self.kept = 0;
    }

    /// The connection to the target is lost. Of the preparations that the target has not answered, the last `kept` are sent again
    /// by the host; the others belong to [`Prepared::rebuild`].
    pub fn connection_lost(&mut self, kept: usize) {
        let first_kept = self.awaited.len().saturating_sub(kept);
        self.awaited.drain(..first_kept);
        for (number, entry) in &mut self.entries {
            entry.long_data_lost |= entry.long_data;
            entry.cursor_lost |= entry.cursor;
            entry.cursor = false;
            if matches!(entry.target, Target::Dropped | Target::Refused | Target::Gone)
                || self.awaited.contains(number)
            {
                continue;
            }
            entry.types_at_target = TypesAtTarget::Due;
            entry.target = if entry.text.is_some() { Target::Awaited } else { Target::Gone };
        }
    }

    /// What has to be prepared on a new connection, in this order; the answers are told with [`Prepared::target_answer`].
    pub fn rebuild(&self) -> Vec<(Slot, &[u8])> {
        self.entries
            .iter()
            .filter(|(number, entry)| entry.target == Target::Awaited && !self.awaited.contains(number))
            .filter_map(|(&number, entry)| Some((Slot(number), entry.text.as_deref()?)))
            .collect()
    }

    /// How many statements there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests;
