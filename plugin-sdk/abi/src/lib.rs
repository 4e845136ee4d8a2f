//! The binary interface between `tcpcopy` and native plugins: plain `repr(C)` data that says the same as the WIT package.
//!
//! A native plugin is a shared library that exports one symbol, [`SYMBOL`], a function of type [`EntryPoint`]. The host checks
//! [`Table::magic`], [`Table::major`], [`Table::minor`] and the sizes before it calls anything. Later minor versions append
//! fields to the structures and change none.
//!
//! Memory never crosses allocators: what a side passes stays its own and is valid during the call only, unless it says
//! otherwise. No call may unwind. An instance is called by one thread at a time, not always by the same.

#![no_std]

use core::ffi::c_void;

/// Name of the exported function.
pub const SYMBOL: &[u8] = b"tcpcopy_plugin_v0\0";
/// "TCPCOPY" and a zero byte.
pub const MAGIC: u64 = u64::from_be_bytes(*b"TCPCOPY\0");
/// A host loads no other major version. Before 1.0, it is the minor version of the WIT package.
pub const MAJOR: u16 = 1;
/// A host loads lower ones too.
pub const MINOR: u16 = 0;

/// Type of the exported function. The table lives as long as the library is loaded, and it is never unloaded.
pub type EntryPoint = unsafe extern "C" fn() -> *const Table;

/// UTF-8 text that belongs to the side that passes it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// First byte; not null, even when empty.
    pub data: *const u8,
    /// Number of bytes.
    pub length: usize,
}

/// An array that belongs to the side that passes it.
#[repr(C)]
#[derive(Debug)]
pub struct Slice<T> {
    /// First element; not null, aligned, even when empty.
    pub data: *const T,
    /// Number of elements.
    pub length: usize,
}

impl<T> Clone for Slice<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slice<T> {}

/// An address and port; IPv4 as IPv4-mapped IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address, most significant byte first.
    pub address: [u8; 16],
    /// The TCP port.
    pub port: u16,
}

/// How a session begins, see [`Opening::origin`].
pub mod origin {
    /// At its start.
    pub const START: u32 = 0;
    /// In the middle.
    pub const MID_STREAM: u32 = 1;
    /// Again, after a fault.
    pub const REJOINED: u32 = 2;
}

/// Who is who in a session.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// One of [`origin`].
    pub origin: u32,
    /// The real client.
    pub client: Endpoint,
    /// The server that it talks to.
    pub online: Endpoint,
    /// The server that the session is replayed to.
    pub target: Endpoint,
}

/// Bits of [`Needs::inputs`].
pub mod inputs {
    /// Response bytes.
    pub const RESPONSES: u32 = 1;
    /// Reference bytes.
    pub const REFERENCES: u32 = 2;
    /// Connections made and lost.
    pub const CONNECTIONS: u32 = 4;
    /// Ends of clients.
    pub const CLOSES: u32 = 8;
}

/// Values of [`Event::kind`].
pub mod input {
    /// `start`: index of the opening.
    pub const OPENED: u32 = 0;
    /// `start`, `length`: the bytes.
    pub const REQUEST: u32 = 1;
    /// `start`, `length`: the bytes.
    pub const RESPONSE: u32 = 2;
    /// Nothing more.
    pub const RESPONSE_END: u32 = 3;
    /// `start`, `length`: the bytes; length 0 for a gap.
    pub const REFERENCE: u32 = 4;
    /// Nothing more.
    pub const CONNECTED: u32 = 5;
    /// `start`: unanswered; `length`: kept; `flag`: whether the request under way was interrupted.
    pub const CONNECTION_LOST: u32 = 6;
    /// Nothing more.
    pub const GAP: u32 = 7;
    /// `start`: 0 finished, 1 reset.
    pub const CLIENT_CLOSED: u32 = 8;
    /// Nothing more.
    pub const TIMER: u32 = 9;
    /// Nothing more.
    pub const ENDED: u32 = 10;
}

/// One thing that happened.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose.
    pub session: u64,
    /// When, in nanoseconds of the Unix epoch.
    pub at: u64,
    /// One of [`input`].
    pub kind: u32,
    /// Depends on the kind.
    pub start: u32,
    /// Depends on the kind.
    pub length: u32,
    /// Depends on the kind; else zero.
    pub flag: u32,
}

/// Values of [`Action::kind`].
pub mod output {
    /// `value`: bytes.
    pub const FORWARD: u32 = 0;
    /// `value`: bytes.
    pub const DISCARD: u32 = 1;
    /// `value`: start of the bytes; `length`.
    pub const SEND: u32 = 2;
    /// `value`: 0 reply expected, 1 not expected.
    pub const END_REQUEST: u32 = 3;
    /// Nothing more.
    pub const REPLY_COMPLETE: u32 = 4;
    /// Nothing more.
    pub const READY: u32 = 5;
    /// Nothing more.
    pub const RECONNECT: u32 = 6;
    /// Nothing more.
    pub const CLOSE: u32 = 7;
    /// `value`: start of the text; `length`.
    pub const GIVE_UP: u32 = 8;
    /// Nothing more.
    pub const PASS_THROUGH: u32 = 9;
    /// `value`: start of the text; `length`.
    pub const OBSERVE: u32 = 10;
    /// `value`: nanoseconds.
    pub const SET_TIMER: u32 = 11;
    /// Nothing more.
    pub const CLEAR_TIMER: u32 = 12;
    /// `value`: bits of [`crate::inputs`].
    pub const WANT: u32 = 13;
    /// `value`: start of the bytes; `length`.
    pub const PREPARE: u32 = 14;
}

/// One thing to do.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// For which session.
    pub session: u64,
    /// Depends on the kind.
    pub value: u64,
    /// Depends on the kind.
    pub length: u32,
    /// One of [`output`].
    pub kind: u32,
}

/// Values of [`PluginOption::kind`] and [`Setting::kind`].
pub mod kind {
    /// A truth value.
    pub const BOOLEAN: u32 = 0;
    /// A whole number.
    pub const INTEGER: u32 = 1;
    /// A number.
    pub const NUMBER: u32 = 2;
    /// A text.
    pub const TEXT: u32 = 3;
    /// One of several texts.
    pub const CHOICE: u32 = 4;
    /// A list of texts.
    pub const TEXTS: u32 = 5;
    /// Names with a text each.
    pub const TABLE: u32 = 6;
}

/// An option that users may set.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PluginOption {
    /// Its name.
    pub name: Text,
    /// One of [`kind`].
    pub kind: u32,
    /// Whether `default` is one.
    pub has_default: u32,
    /// Its default, as in TOML.
    pub default: Text,
    /// What is allowed, for a choice.
    pub choices: Slice<Text>,
    /// What it does.
    pub help: Text,
}

/// What a plugin is. Lives as long as the library.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// Its name.
    pub name: Text,
    /// Its version.
    pub version: Text,
    /// What it does.
    pub about: Text,
    /// 0: clients speak first; 1: servers do.
    pub speaks_first: u32,
    /// Bits of [`inputs`] that it may need.
    pub inputs: u32,
    /// Ports that it serves.
    pub ports: Slice<u16>,
    /// Its options.
    pub options: Slice<PluginOption>,
}

/// An option's value.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The option's name.
    pub name: Text,
    /// One of [`kind`].
    pub kind: u32,
    /// For a boolean 0 or 1; for a whole number its value.
    pub integer: i64,
    /// For a number.
    pub number: f64,
    /// For a text or choice one, for texts all; for a table, names and texts by turns.
    pub texts: Slice<Text>,
}

/// What a configured plugin needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Bits of [`inputs`].
    pub inputs: u32,
    /// 0: small groups of sessions share an instance; 1: all of a worker do.
    pub sharing: u32,
}

/// What the host does for a plugin. Lives as long as the instance. `context` is passed back in each call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Size of this structure in bytes, as the host knows it.
    pub struct_size: u32,
    /// Zero.
    pub reserved: u32,
    /// For the host.
    pub context: *mut c_void,
    /// Writes a message to the log: 0 error, 1 warn, 2 info, 3 debug, 4 trace.
    pub log: unsafe extern "C" fn(context: *mut c_void, level: u32, message: Text),
    /// Adds to a named number.
    pub count: unsafe extern "C" fn(context: *mut c_void, name: Text, amount: u64),
    /// The time of the batch.
    pub now: unsafe extern "C" fn(context: *mut c_void) -> u64,
    /// Fills memory of the plugin with random bytes.
    pub random: unsafe extern "C" fn(context: *mut c_void, into: *mut u8, length: usize),
    /// The events that follow belong to this session.
    pub enter: unsafe extern "C" fn(context: *mut c_void, session: u64),
}

/// What comes of a call.
pub mod status {
    /// Done.
    pub const OK: u32 = 0;
    /// The settings are refused; the text given to the sink says why.
    pub const REFUSED: u32 = 1;
    /// The plugin panicked; the text given to the sink says where. The instance must be destroyed.
    pub const FAULT: u32 = 2;
}

/// Takes what a call gives back: actions and the bytes that they refer to (or, with a failure, no actions and a text). Called at
/// most once in each call; both are copied by the host before it returns.
pub type Sink = unsafe extern "C" fn(context: *mut c_void, actions: Slice<Action>, bytes: Slice<u8>);

/// Creates a configured instance. On success writes it to `instance` and its needs to `needs`; otherwise gives the sink a text.
/// `host` stays valid until the instance is destroyed.
pub type Create = unsafe extern "C" fn(
    host: *const Host,
    settings: Slice<Setting>,
    instance: *mut *mut c_void,
    needs: *mut Needs,
    sink: Sink,
    sink_context: *mut c_void,
) -> u32;

/// Takes a batch of events. See [`Event`] and [`Action`].
pub type Run = unsafe extern "C" fn(
    instance: *mut c_void,
    events: Slice<Event>,
    openings: Slice<Opening>,
    bytes: Slice<u8>,
    sink: Sink,
    sink_context: *mut c_void,
) -> u32;

/// Destroys an instance, after a fault too.
pub type Destroy = unsafe extern "C" fn(instance: *mut c_void);

/// What a plugin exports.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`MAJOR`].
    pub major: u16,
    /// [`MINOR`].
    pub minor: u16,
    /// Size of this structure in bytes.
    pub struct_size: u32,
    /// Size of [`Event`] in bytes.
    pub event_size: u32,
    /// Size of [`Action`] in bytes.
    pub action_size: u32,
    /// Size of [`Opening`] in bytes.
    pub opening_size: u32,
    /// Size of [`Setting`] in bytes.
    pub setting_size: u32,
    /// Size of [`PluginOption`] in bytes.
    pub option_size: u32,
    /// Size of [`Descriptor`] in bytes.
    pub descriptor_size: u32,
    /// Size of [`Host`] in bytes, as the plugin knows it: a host gives at least as much.
    pub host_size: u32,
    /// Zero.
    pub reserved: u32,
    /// What the plugin is.
    pub descriptor: *const Descriptor,
    /// See [`Create`].
    pub create: Create,
    /// See [`Run`].
    pub run: Run,
    /// See [`Destroy`].
    pub destroy: Destroy,
}

// SAFETY: a table is constant data; its pointers are to data of the library, which nothing changes.
unsafe impl Sync for Table {}
// SAFETY: as above.
unsafe impl Sync for Descriptor {}
// SAFETY: as above.
unsafe impl Send for Descriptor {}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::size_of;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn sizes_are_what_released_plugins_have() {
        assert_eq!(size_of::<Event>(), 32);
        assert_eq!(size_of::<Action>(), 24);
        assert_eq!(size_of::<Opening>(), 60);
        assert_eq!(size_of::<Setting>(), 56);
        assert_eq!(size_of::<PluginOption>(), 72);
        assert_eq!(size_of::<Descriptor>(), 88);
        assert_eq!(size_of::<Host>(), 56);
        assert_eq!(size_of::<Table>(), 80);
    }
}
