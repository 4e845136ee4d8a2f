//! What the options mean for each command.
//!
//! Owns, for each command, whether it is sent and how much of a request has to be seen first. Worked out once, so that a request
//! costs one look into a table.

use crate::commands::{COMMANDS, Command, Keys, flag};
use crate::glob;
use crate::keys::{self, Role};
use crate::options::{Options, Selector, Unknown};

/// What to do with a request, once its command is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Send it as it comes.
    Forward,
    /// Send it as it comes, with a prefix before the keys.
    Prefix {
        /// The first key.
        first: u8,
        /// The last argument that may be one.
        last: i8,
        /// From one key to the next.
        step: u8,
    },
    /// See so many arguments first, the name counted.
    Look(u32),
    /// Leave it out.
    Drop,
}

/// See the whole request first.
pub const WHOLE: u32 = u32::MAX;

/// Commands that change what the plugin knows of a connection.
const SESSION: [&str; 21] = [
    "auth",
    "discard",
    "exec",
    "hello",
    "monitor",
    "multi",
    "psubscribe",
    "psync",
    "punsubscribe",
    "quit",
    "readonly",
    "readwrite",
    "reset",
    "select",
    "ssubscribe",
    "subscribe",
    "sunsubscribe",
    "sync",
    "unsubscribe",
    "client|reply",
    "client|setname",
];
/// The same, of `CLIENT`.
const CLIENT: [&str; 4] = ["client|setinfo", "client|no-evict", "client|no-touch", "client|tracking"];
/// Commands with a database's number among their arguments, besides `SELECT`.
const WITH_DATABASE: [&str; 4] = ["copy", "migrate", "move", "swapdb"];

/// The options, worked out.
#[derive(Debug)]
pub struct Rules {
    /// The options.
    pub options: Options,
    plans: Vec<Plan>,
    /// Why a command is left out, for the report; by command.
    labels: Vec<String>,
    unknown: Option<&'static str>,
    prefix_glob: Vec<u8>,
}

impl Rules {
    /// Works them out.
    pub fn new(options: Options) -> Self {
        let mut plans = Vec::with_capacity(COMMANDS.len());
        let mut labels = Vec::with_capacity(COMMANDS.len());
        for command in &COMMANDS {
            let why = why_dropped(command, &options);
            labels.push(why.map_or_else(String::new, |why| label(&shown(command), why)));
            plans.push(if why.is_some() { Plan::Drop } else { plan(command, &options) });
        }
        Self {
            unknown: why_unknown_dropped(&options),
            prefix_glob: glob::quoted(&options.key_prefix),
            options,
            plans,
            labels,
        }
    }

    /// What to do with a command.
    #[inline]
    pub fn plan(&self, command: u16) -> Plan {
        self.plans[usize::from(command)]
    }

    /// Why a command is left out.
    pub fn label(&self, command: u16) -> &str {
        &self.labels[usize::from(command)]
    }

    /// Why commands that are not known are left out; `None` when they are sent.
    pub const fn unknown(&self) -> Option<&'static str> {
        self.unknown
    }

    /// Why a request is left out for its arguments. `args` are those that its plan asks for.
    pub fn why_arguments(&self, command: &Command, args: &[&[u8]]) -> Option<&'static str> {
        if self.options.read_only && command.is_any(flag::MIXED) && writes(command, args) {
            return Some("it writes");
        }
        if self.options.keep_keys.is_empty() && self.options.drop_keys.is_empty() {
            return None;
        }
        let mut why = None;
        keys::each(command.keys, args, |index, role| {
            if role == Role::Key && why.is_none() {
                why = self.why_key(args[index]);
            }
        });
        why
    }

    fn why_key(&self, key: &[u8]) -> Option<&'static str> {
        let any = |globs: &[Vec<u8>]| globs.iter().any(|pattern| glob::matches(pattern, key));
        if any(&self.options.drop_keys) {
            return Some("key in drop-keys");
        }
        (!self.options.keep_keys.is_empty() && !any(&self.options.keep_keys))
            .then_some("key not in keep-keys")
    }

    /// The key, glob or the like with the prefix before it.
    pub fn prefixed(&self, text: &[u8], role: Role) -> Vec<u8> {
        let prefix = if role == Role::Glob { &self.prefix_glob } else { &self.options.key_prefix };
        [prefix, text].concat()
    }
}

/// As it is typed, in capitals.
pub fn shown(command: &Command) -> String {
    command.name.replace('|', " ").to_ascii_uppercase()
}

/// The name under which what is left out is counted.
pub fn label(name: &str, why: &str) -> String {
    format!("dropped {name}: {why}")
}

fn selects(selectors: &[Selector], command: &Command) -> bool {
    selectors.iter().any(|selector| match selector {
        Selector::Category(flags) => command.is_any(*flags),
        Selector::Name(name) => {
            name == command.name
                || command.name.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('|'))
        }
        Selector::Unknown => false,
    })
}

fn why_dropped(command: &Command, options: &Options) -> Option<&'static str> {
    // Its subcommands are decided about, each on its own.
    if command.is_any(flag::CONTAINER) {
        return None;
    }
    if options.read_only {
        if command.is_any(flag::DANGEROUS) {
            return Some("dangerous");
        }
        if command.is_any(flag::WRITE | flag::REPLICATES) {
            return Some("it may write");
        }
    }
    if selects(&options.drop, command) {
        return Some("in drop");
    }
    if command.is_any(flag::DANGEROUS) && !selects(&options.allow_dangerous, command) {
        return Some("dangerous");
    }
    let concerns_connection = command.is_any(flag::CONNECTION | flag::TRANSACTION);
    let is_kept = options.keep.is_empty()
        || concerns_connection
        || selects(&options.keep, command)
        || command.is_any(flag::DANGEROUS);
    (!is_kept).then_some("not in keep")
}

fn why_unknown_dropped(options: &Options) -> Option<&'static str> {
    if options.read_only {
        Some("not known, it may write")
    } else if options.unknown == Unknown::Drop || options.drop.contains(&Selector::Unknown) {
        Some("not known")
    } else if !options.keep.is_empty() && !options.keep.contains(&Selector::Unknown) {
        Some("not in keep")
    } else {
        None
    }
}

fn plan(command: &Command, options: &Options) -> Plan {
    if command.is_any(flag::CONTAINER) {
        return Plan::Look(2);
    }
    let maps = !options.databases.is_empty() && WITH_DATABASE.contains(&command.name);
    let mixed = options.read_only && command.is_any(flag::MIXED);
    let filters = !options.keep_keys.is_empty() || !options.drop_keys.is_empty();
    let prefixes = !options.key_prefix.is_empty();
    if maps || mixed || SESSION.contains(&command.name) || CLIENT.contains(&command.name) {
        return Plan::Look(WHOLE);
    }
    match command.keys {
        Keys::Range { first, last, step } => match (filters, prefixes) {
            (true, _) if i16::from(last) == i16::from(first) => Plan::Look(u32::from(first) + 1),
            (true, _) => Plan::Look(WHOLE),
            (false, true) => Plan::Prefix { first, last, step },
            (false, false) => Plan::Forward,
        },
        Keys::None => Plan::Forward,
        _ if filters || prefixes => Plan::Look(WHOLE),
        _ => Plan::Forward,
    }
}

/// Whether a command that may read or write is asked to write.
fn writes(command: &Command, args: &[&[u8]]) -> bool {
    let words: &[&str] = match command.name {
        "bitfield" => &["SET", "INCRBY"],
        _ => &["STORE", "STOREDIST"],
    };
    args.iter().skip(2).any(|arg| keys::is_one_of(arg, words))
}
