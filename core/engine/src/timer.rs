//! Deadlines of many sessions: a hierarchical timer wheel.
//!
//! Owns which key is due when, with one deadline for each key. Leaves to the session which of its own deadlines is the next
//! one. Eight levels of 64 slots cover every moment that [`Instant`] can hold: a slot of the lowest level spans one tick of
//! about 65 µs, a slot of any other level spans all of the level below.

use crate::time::Instant;

/// A tick is 2^16 ns.
const TICK_BITS: u32 = 16;
/// A level has 2^6 slots.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// As many as it takes to tell all ticks of 64-bit nanoseconds apart.
const LEVELS: usize = 8;
/// Keys looked at to tell the next deadline; more than a few sessions' worth would cost more than waking early once.
const KEYS_LOOKED_THROUGH: usize = 64;
/// No key, no slot, no deadline.
const NO_KEY: u32 = u32::MAX;
const NO_SLOT: u16 = u16::MAX;
const NEVER: u64 = u64::MAX;

/// One key's deadline, and its place in a slot's doubly linked list.
#[derive(Clone, Copy)]
struct Entry {
    /// When the key is due, in nanoseconds.
    deadline: u64,
    /// The tick that the key's slot was chosen for; `deadline` may have moved later since.
    queued_tick: u64,
    previous: u32,
    next: u32,
    /// The slot, as level * 64 + place in the level.
    slot: u16,
}

const UNUSED: Entry =
    Entry { deadline: NEVER, queued_tick: 0, previous: NO_KEY, next: NO_KEY, slot: NO_SLOT };

/// Deadlines by key, for keys that are small numbers (slab indices): memory grows with the largest key.
///
/// Moving a deadline later costs one store: the key stays where it is queued and is put in the right place when that slot comes
/// up. Moving it earlier, or cancelling, costs a constant number of steps.
pub struct TimerWheel {
    entries: Vec<Entry>,
    /// First key of each slot.
    heads: [u32; LEVELS * SLOTS],
    /// A bit for each slot that has keys.
    occupied: [u64; LEVELS],
    /// The tick up to which slots were emptied. A key's level is the highest digit (of six bits) in which its tick differs
    /// from this one; hence all keys of one level are queued before those of the next.
    current: u64,
    /// A lower bound of all deadlines; [`NEVER`] when there is none.
    earliest: u64,
    /// Whether `earliest` is itself a deadline.
    accuracy: Accuracy,
    scheduled: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Accuracy {
    Exact,
    LowerBound,
}

impl TimerWheel {
    /// An empty wheel at the moment `start`. Deadlines before it are due at once.
    pub fn new(start: Instant) -> Self {
        Self {
            entries: Vec::new(),
            heads: [NO_KEY; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            current: start.as_nanos() >> TICK_BITS,
            earliest: NEVER,
            accuracy: Accuracy::Exact,
            scheduled: 0,
        }
    }

    /// Number of keys with a deadline.
    pub fn len(&self) -> usize {
        self.scheduled
    }

    /// Whether no key has a deadline.
    pub fn is_empty(&self) -> bool {
        self.scheduled == 0
    }

    /// The deadline of `key`, if it has one.
    pub fn deadline(&self, key: u32) -> Option<Instant> {
        let entry = self.entries.get(key as usize)?;
        (entry.slot != NO_SLOT).then(|| Instant::from_nanos(entry.deadline))
    }

    /// Gives `key` the deadline `at`, in place of any it has.
    ///
    /// # Panics
    /// If `key` is `u32::MAX`, which no slab reaches.
    pub fn schedule(&mut self, key: u32, at: Instant) {
        assert_ne!(key, NO_KEY, "the largest key is reserved");
        let at = at.as_nanos();
        if self.entries.len() <= key as usize {
            self.entries.resize(key as usize + 1, UNUSED);
        }
        let entry = &mut self.entries[key as usize];
        let previous = std::mem::replace(&mut entry.deadline, at);
        if entry.slot == NO_SLOT {
            self.scheduled += 1;
            self.insert(key);
        } else if at >> TICK_BITS < entry.queued_tick {
            self.unlink(key);
            self.insert(key);
        }
        if at <= self.earliest {
            self.earliest = at;
            self.accuracy = Accuracy::Exact;
        } else if previous == self.earliest {
            self.accuracy = Accuracy::LowerBound;
        }
    }

    /// Takes the deadline of `key` away, if it has one.
    pub fn cancel(&mut self, key: u32) {
        let Some(entry) = self.entries.get(key as usize) else { return };
        if entry.slot == NO_SLOT {
            return;
        }
        let deadline = entry.deadline;
        self.unlink(key);
        self.forget(key);
        if self.scheduled == 0 {
            self.earliest = NEVER;
            self.accuracy = Accuracy::Exact;
        } else if deadline == self.earliest {
            self.accuracy = Accuracy::LowerBound;
        }
    }

    /// The earliest deadline of all.
    ///
    /// Never later than that. It is exact but for one case: when the key that had the earliest deadline was moved or cancelled
    /// since, and many keys are queued next to it, a lower bound is given instead of looking through them all. A caller that
    /// wakes at such a bound finds nothing due, and [`TimerWheel::expire`] then makes the next answer exact.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.scheduled == 0 {
            return None;
        }
        let earliest = match self.accuracy {
            Accuracy::Exact => self.earliest,
            Accuracy::LowerBound => self.find_earliest(KEYS_LOOKED_THROUGH),
        };
        Some(Instant::from_nanos(earliest))
    }

    /// Takes away all deadlines up to `now`, that moment included, and appends their keys to `expired`: roughly in order, keys
    /// within the same tick in any. Costs nothing when none is due; skipped time costs nothing either.
    pub fn expire(&mut self, now: Instant, expired: &mut Vec<u32>) {
        let now = now.as_nanos();
        if now < self.earliest || self.scheduled == 0 {
            return;
        }
        let now_tick = now >> TICK_BITS;
        while let Some((slot, start)) = self.first_slot() {
            if start > now_tick {
                break;
            }
            self.current = self.current.max(start);
            self.empty_slot(slot, now, expired);
            // What is left for this tick is due later within it; everything else is queued for later ticks.
            if self.current == now_tick && self.occupied[0] >> (now_tick % SLOTS as u64) & 1 == 1 {
                break;
            }
        }
        // Slots with a start up to now are empty, so every key is still in the level that it has relative to this tick.
        self.current = self.current.max(now_tick);
        self.earliest = self.find_earliest(usize::MAX);
        self.accuracy = Accuracy::Exact;
    }

    /// Takes all keys out of a slot: those that are due for good, the others to where their deadline belongs.
    fn empty_slot(&mut self, slot: usize, now: u64, expired: &mut Vec<u32>) {
        let mut key = std::mem::replace(&mut self.heads[slot], NO_KEY);
        self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
        while key != NO_KEY {
            let entry = self.entries[key as usize];
            if entry.deadline <= now {
                expired.push(key);
                self.forget(key);
            } else {
                self.insert(key);
            }
            key = entry.next;
        }
    }

    /// The first slot that has keys, and the tick it starts at.
    fn first_slot(&self) -> Option<(usize, u64)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let place = self.occupied[level].trailing_zeros() as usize;
        Some((level * SLOTS + place, self.slot_start(level, place)))
    }

    /// The first tick of a slot: the current tick with one digit replaced and the lower ones zero.
    fn slot_start(&self, level: usize, place: usize) -> u64 {
        let shift = SLOT_BITS * level as u32;
        (self.current >> shift >> SLOT_BITS << SLOT_BITS | place as u64) << shift
    }

    /// The earliest deadline, or a lower bound of it when more than `keys` would have to be looked at.
    fn find_earliest(&self, mut keys: usize) -> u64 {
        let mut earliest = NEVER;
        for level in 0..LEVELS {
            let mut slots = self.occupied[level];
            while slots != 0 {
                let place = slots.trailing_zeros() as usize;
                slots &= slots - 1;
                // No deadline is before its slot, but for overdue ones, which are in the first.
                let start = self.slot_start(level, place);
                if start > earliest >> TICK_BITS {
                    return earliest;
                }
                let mut key = self.heads[level * SLOTS + place];
                while key != NO_KEY {
                    if keys == 0 {
                        // The lowest level may hold keys that were overdue when they were queued.
                        let bound =
                            if level == 0 { self.earliest } else { self.earliest.max(start << TICK_BITS) };
                        return earliest.min(bound);
                    }
                    keys -= 1;
                    let entry = &self.entries[key as usize];
                    earliest = earliest.min(entry.deadline);
                    key = entry.next;
                }
            }
        }
        earliest
    }

    /// Queues an unlinked key by its deadline.
    fn insert(&mut self, key: u32) {
        let entry = &mut self.entries[key as usize];
        let tick = (entry.deadline >> TICK_BITS).max(self.current);
        let level = match tick ^ self.current {
            0 => 0,
            differing => (differing.ilog2() / SLOT_BITS) as usize,
        };
        let place = (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        let slot = level * SLOTS + place;
        let head = std::mem::replace(&mut self.heads[slot], key);
        *entry = Entry {
            deadline: entry.deadline,
            queued_tick: tick,
            previous: NO_KEY,
            next: head,
            slot: slot as u16,
        };
        if head != NO_KEY {
            self.entries[head as usize].previous = key;
        }
        self.occupied[level] |= 1 << place;
    }

    /// Takes a queued key out of its slot.
    fn unlink(&mut self, key: u32) {
        let Entry { previous, next, slot, .. } = self.entries[key as usize];
        let slot = usize::from(slot);
        match previous {
            NO_KEY => self.heads[slot] = next,
            previous => self.entries[previous as usize].next = next,
        }
        if next != NO_KEY {
            self.entries[next as usize].previous = previous;
        }
        if self.heads[slot] == NO_KEY {
            self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
        }
    }

    /// Marks an unlinked key as one without a deadline.
    fn forget(&mut self, key: u32) {
        self.entries[key as usize] = UNUSED;
        self.scheduled -= 1;
    }
}

#[cfg(test)]
mod tests;
