//! What a connection to the target has been told, so that the next one can be told it too.
//!
//! Owns the commands that make a new connection what the one before was. When something is to be remembered is decided by
//! [`crate::asked`]; it is remembered once the target has confirmed it.

use crate::encode;
use crate::reply::Channel;

/// What is remembered, in the order in which a new connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// `AUTH`.
    Login,
    /// `HELLO`.
    Protocol,
    /// `SELECT`.
    Database,
    /// `CLIENT SETNAME`.
    Name,
    /// `CLIENT SETINFO LIB-NAME`.
    LibraryName,
    /// `CLIENT SETINFO LIB-VER`.
    LibraryVersion,
    /// `CLIENT NO-EVICT`.
    NoEvict,
    /// `CLIENT NO-TOUCH`.
    NoTouch,
    /// `CLIENT TRACKING`.
    Tracking,
    /// `READONLY`.
    ReadOnly,
}

const SLOTS: usize = 10;
/// Most subscriptions that are remembered, and most bytes of their names together.
const MAX_SUBSCRIPTIONS: usize = 1024;
const MAX_NAMES: usize = 64 * 1024;

/// What one request changes, once the target has confirmed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This command makes the next connection the same.
    Remember(Slot, Box<[u8]>),
    /// Nothing has to be said of this any more.
    Forget(Slot),
    /// The connection speaks this version of RESP.
    Protocol(u8),
    /// A transaction begins.
    Begin,
    /// It ends, confirmed or not.
    End,
    /// Everything is as on a new connection.
    Reset,
    /// The target says from now on what all of its clients do.
    Monitor,
    /// The target answers nothing any more, or does so again.
    Quiet(Quiet),
    /// Subscribed to these.
    Subscribe(Channel, Vec<Box<[u8]>>),
    /// No longer subscribed to these; none: to none of that kind.
    Unsubscribe(Channel, Vec<Box<[u8]>>),
}

/// Whether the target answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Quiet {
    /// It does.
    #[default]
    No,
    /// It was told not to.
    Yes,
}

/// Everything remembered of one connection.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    commands: [Option<Box<[u8]>>; SLOTS],
    subscriptions: Vec<(Channel, Box<[u8]>)>,
    names: usize,
    in_transaction: bool,
    monitors: bool,
    quiet: Quiet,
}

impl Memory {
    /// Whether the connection was told to monitor.
    pub const fn monitors(&self) -> bool {
        self.monitors
    }

    /// Whether the connection was told to speak RESP3.
    pub const fn speaks_resp3(&self) -> bool {
        self.commands[Slot::Protocol as usize].is_some()
    }

    /// Number of subscriptions of a kind.
    pub fn subscriptions(&self, channel: Channel) -> usize {
        self.subscriptions.iter().filter(|(kind, _)| *kind == channel).count()
    }

    /// Whether there are subscriptions.
    pub fn is_subscribed(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// Takes note.
    pub fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Remember(slot, command) => self.commands[slot as usize] = Some(command),
            Effect::Forget(slot) => self.commands[slot as usize] = None,
            Effect::Protocol(version) => {
                let command = (version == 3).then(|| encode::command(&[b"HELLO", b"3"]).into_boxed_slice());
                self.commands[Slot::Protocol as usize] = command;
            }
            Effect::Begin => self.in_transaction = true,
            Effect::End => self.in_transaction = false,
            Effect::Reset => *self = Self::default(),
            Effect::Monitor => self.monitors = true,
            Effect::Quiet(quiet) => self.quiet = quiet,
            Effect::Subscribe(channel, names) => {
                names.into_iter().for_each(|name| self.subscribe(channel, name));
            }
            Effect::Unsubscribe(channel, names) if names.is_empty() => {
                self.subscriptions.retain(|(kind, _)| *kind != channel);
                self.names = self.subscriptions.iter().map(|(_, name)| name.len()).sum();
            }
            Effect::Unsubscribe(channel, names) => {
                let gone = |(kind, name): &(Channel, Box<[u8]>)| *kind == channel && names.contains(name);
                self.subscriptions.retain(|subscription| !gone(subscription));
                self.names = self.subscriptions.iter().map(|(_, name)| name.len()).sum();
            }
        }
    }

    fn subscribe(&mut self, channel: Channel, name: Box<[u8]>) {
        let known = self.subscriptions.iter().any(|(kind, other)| *kind == channel && *other == name);
        let full = self.subscriptions.len() == MAX_SUBSCRIPTIONS || self.names + name.len() > MAX_NAMES;
        if !known && !full {
            self.names += name.len();
            self.subscriptions.push((channel, name));
        }
    }

    /// What a new connection is to be told first, appended to `bytes`; the number of answers to that.
    pub fn preamble(&self, bytes: &mut Vec<u8>) -> u32 {
        let mut answers = 0;
        for command in self.commands.iter().flatten() {
            bytes.extend_from_slice(command);
            answers += 1;
        }
        for (channel, name) in &self.subscriptions {
            let command: &[u8] = match channel {
                Channel::Plain => b"SUBSCRIBE",
                Channel::Pattern => b"PSUBSCRIBE",
                Channel::Sharded => b"SSUBSCRIBE",
            };
            encode::append(bytes, &[command, name]);
            answers += 1;
        }
        if self.in_transaction {
            encode::append(bytes, &[b"MULTI"]);
            answers += 1;
        }
        if self.monitors {
            encode::append(bytes, &[b"MONITOR"]);
            answers += 1;
        }
        if self.quiet == Quiet::Yes {
            encode::append(bytes, &[b"CLIENT", b"REPLY", b"OFF"]);
        }
        answers
    }
}
