//! What is known of each command: its name, what it may do, and where its keys are.
//!
//! Owns the table and looking a name up in it. What becomes of a command is decided in [`crate::rules`].

mod table;

pub use table::COMMANDS;

/// What a command may do; bits of [`Command::flags`].
pub mod flag {
    /// None of the others.
    pub const NOTHING: u16 = 0;
    /// Changes data, or takes it away.
    pub const WRITE: u16 = 1;
    /// Reads data.
    pub const READ: u16 = 1 << 1;
    /// May change something beyond the keys that it reads: scripts, messages, caches that live in values.
    pub const REPLICATES: u16 = 1 << 2;
    /// Writes or not, depending on its arguments.
    pub const MIXED: u16 = 1 << 3;
    /// Changes the server, destroys data at large, or gets at other clients.
    pub const DANGEROUS: u16 = 1 << 4;
    /// Publishes or subscribes.
    pub const PUBSUB: u16 = 1 << 5;
    /// May wait for something.
    pub const BLOCKING: u16 = 1 << 6;
    /// Runs or manages scripts and functions.
    pub const SCRIPTING: u16 = 1 << 7;
    /// Belongs to transactions.
    pub const TRANSACTION: u16 = 1 << 8;
    /// Concerns the connection, not the data.
    pub const CONNECTION: u16 = 1 << 9;
    /// Its first argument is a subcommand.
    pub const CONTAINER: u16 = 1 << 10;
}

/// Categories that options may name with an `@`, and their bits.
pub const CATEGORIES: [(&str, u16); 8] = [
    ("read", flag::READ),
    ("write", flag::WRITE | flag::MIXED),
    ("dangerous", flag::DANGEROUS),
    ("pubsub", flag::PUBSUB),
    ("blocking", flag::BLOCKING),
    ("scripting", flag::SCRIPTING),
    ("transaction", flag::TRANSACTION),
    ("connection", flag::CONNECTION),
];

/// Where the keys of a command are among its arguments; the name is argument 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// There are none.
    None,
    /// Every `step`th from `first` to `last`; a negative `last` counts from the end.
    Range {
        /// The first key.
        first: u8,
        /// The last argument that may be one.
        last: i8,
        /// From one key to the next.
        step: u8,
    },
    /// Argument `count` says how many keys follow it.
    Counted {
        /// Whether argument 1 is a key too: where the result is stored.
        stored: bool,
        /// The argument with the number.
        count: u8,
        /// From one key to the next.
        step: u8,
    },
    /// The first half of what follows the word `STREAMS`.
    Streams,
    /// `SORT`: argument 1, and what follows `STORE`; `BY` and `GET` have patterns of keys.
    Sort,
    /// `GEORADIUS`: argument 1, and what follows `STORE` or `STOREDIST`.
    Store,
    /// `MIGRATE`: argument 3, or if that is empty everything behind `KEYS`.
    Migrate,
    /// `KEYS`: argument 1 is a glob.
    Pattern,
    /// `SCAN`: what follows `MATCH` is a glob.
    Match,
}

/// A command.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Its name, in lower case; `container|subcommand` for a subcommand.
    pub name: &'static str,
    /// Number of arguments with the name; negative: at least as many.
    pub arity: i8,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Where its keys are.
    pub keys: Keys,
}

impl Command {
    /// Whether it has one of the bits of `flags`.
    pub const fn is_any(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    /// Whether Redis takes it with so many arguments, the name counted.
    pub const fn takes(&self, args: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { args >= wanted } else { args == wanted }
    }
}

/// Longest name in the table, with room for a separator.
pub const MAX_NAME: usize = 32;

const SLOTS: usize = 2048;
const EMPTY: u16 = u16::MAX;
static INDEX: [u16; SLOTS] = index();

/// FNV-1a over the name in lower case (the bit also maps a few other bytes onto each other, which does no harm).
const fn slot_of(name: &[u8]) -> usize {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ (name[at] | 0x20) as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    (hash ^ (hash >> 29)) as usize % SLOTS
}

const fn index() -> [u16; SLOTS] {
    let mut slots = [EMPTY; SLOTS];
    let mut at = 0;
    while at < COMMANDS.len() {
        let mut slot = slot_of(COMMANDS[at].name.as_bytes());
        while slots[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        slots[slot] = at as u16;
        at += 1;
    }
    slots
}

/// Number in [`COMMANDS`] of the command of that name, in any case.
pub fn find(name: &[u8]) -> Option<u16> {
    let mut slot = slot_of(name);
    loop {
        let number = INDEX[slot];
        if number == EMPTY {
            return None;
        }
        if COMMANDS[usize::from(number)].name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(number);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// Number in [`COMMANDS`] of a subcommand.
pub fn find_sub(container: &str, subcommand: &[u8]) -> Option<u16> {
    let mut name = [0; MAX_NAME];
    let length = container.len() + 1 + subcommand.len();
    let whole = name.get_mut(..length)?;
    let (head, tail) = whole.split_at_mut(container.len());
    head.copy_from_slice(container.as_bytes());
    tail[0] = b'|';
    tail[1..].copy_from_slice(subcommand);
    find(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_in_any_case() {
        for (number, command) in COMMANDS.iter().enumerate() {
            assert!(command.name.len() < MAX_NAME);
            let found = |name: &str| find(name.as_bytes()).map(usize::from);
            assert_eq!(found(command.name), Some(number));
            assert_eq!(found(&command.name.to_ascii_uppercase()), Some(number));
        }
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn other_names_are_not_found() {
        for name in ["", "ge", "gett", "config|", "|", "\u{0}", "client reply", "se\u{54}x"] {
            assert_eq!(find(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn subcommands_are_found_behind_their_container() {
        let found = find_sub("client", b"RePlY").map(|n| COMMANDS[usize::from(n)].name);
        assert_eq!(found, Some("client|reply"));
        assert_eq!(find_sub("client", b"nothing of the kind, and too long for a name"), None);
        assert_eq!(find_sub("client", b""), None);
    }

    #[test]
    fn every_subcommand_has_a_container() {
        for command in &COMMANDS {
            if let Some((container, _)) = command.name.split_once('|') {
                let container = find(container.as_bytes()).expect("a row");
                assert!(COMMANDS[usize::from(container)].is_any(flag::CONTAINER), "{}", command.name);
            }
        }
    }

    #[test]
    fn nothing_that_writes_counts_as_reading() {
        for command in &COMMANDS {
            let writes = command.is_any(flag::WRITE | flag::REPLICATES | flag::MIXED);
            assert!(!(writes && command.is_any(flag::READ)) || command.name == "pfcount", "{}", command.name);
        }
    }
}
