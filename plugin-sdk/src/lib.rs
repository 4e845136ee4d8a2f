//! What a protocol plugin of tcpcopy is written with.
//!
//! tcpcopy replays the live traffic of a server to a second one, the *target*. A plugin tells it where the requests of a protocol
//! end and when they are answered, and may leave out, change or add bytes on the way.
//!
//! This crate owns the trait [`Plugin`] and everything that its methods are handed, the macro [`export_plugin!`] that makes of one
//! source a WebAssembly module and a native library, helpers for parsing ([`cursor`], [`framing`]), the test kit ([`testing`])
//! and the template of a new project (`template`). What actions mean to a session, and everything below (capture, TCP,
//! connections, pacing), is the host's business.
//!
//! # A whole plugin
//!
//! A protocol of lines: `KEY name` says who the client is and is answered by a line, as every other line is. The target knows
//! other keys than the online server does.
//!
//! ```
//! use plugin_sdk::framing::{self, Frame};
//! use plugin_sdk::{
//!     Actions, ConfigError, Descriptor, Inputs, Loss, Needs, Opening, Plugin, PluginOption, Reply, Settings,
//! };
//!
//! struct Keyed {
//!     key: String,
//! }
//!
//! #[derive(Default)]
//! struct Session {
//!     // The front of a line was not captured.
//!     torn: bool,
//!     // What the target has not answered yet.
//!     outstanding: u32,
//! }
//!
//! impl Plugin for Keyed {
//!     type Session = Session;
//!
//!     fn descriptor() -> Descriptor {
//!         Descriptor::new("keyed", env!("CARGO_PKG_VERSION"))
//!             .about("Lines, with a key that the target knows")
//!             .ports(&[7007])
//!             .inputs(Inputs::RESPONSES)
//!             .option(PluginOption::text("key").help("The key that the target takes."))
//!     }
//!
//!     fn configure(settings: &Settings) -> Result<Self, ConfigError> {
//!         match settings.text("key") {
//!             Some(key) if !key.contains('\n') => Ok(Self { key: key.to_owned() }),
//!             Some(_) => Err("key must be a single line".into()),
//!             None => Err("key must be given".into()),
//!         }
//!     }
//!
//!     fn needs(&self) -> Needs {
//!         Needs::new(Inputs::RESPONSES)
//!     }
//!
//!     fn open(&mut self, _: &Opening, _: &mut Actions<'_>) -> Session {
//!         Session::default()
//!     }
//!
//!     fn on_request(&mut self, session: &mut Session, bytes: &[u8], actions: &mut Actions<'_>) {
//!         let mut rest = bytes;
//!         // Several requests may have come at once.
//!         loop {
//!             let (line, behind) = match framing::delimited(rest, b"\n", 4096) {
//!                 Frame::Complete(length) => rest.split_at(length),
//!                 // It comes again, with more.
//!                 Frame::Incomplete => return,
//!                 Frame::Invalid(what) => return actions.give_up(what),
//!             };
//!             rest = behind;
//!             if std::mem::take(&mut session.torn) {
//!                 actions.discard(line.len());
//!                 continue;
//!             }
//!             if line.starts_with(b"KEY ") {
//!                 actions.replace(line.len(), format!("KEY {}\n", self.key).as_bytes());
//!             } else {
//!                 actions.forward(line.len());
//!             }
//!             actions.end_request(Reply::Expected);
//!             session.outstanding += 1;
//!         }
//!     }
//!
//!     fn on_response(&mut self, session: &mut Session, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
//!         for _ in bytes.iter().filter(|byte| **byte == b'\n') {
//!             if session.outstanding > 0 {
//!                 session.outstanding -= 1;
//!                 actions.reply_complete();
//!             }
//!         }
//!         bytes.len()
//!     }
//!
//!     fn on_connection_lost(&mut self, session: &mut Session, loss: Loss, _: &mut Actions<'_>) {
//!         session.outstanding = session.outstanding.saturating_sub(loss.unanswered);
//!     }
//!
//!     fn on_gap(&mut self, session: &mut Session, _: &mut Actions<'_>) {
//!         session.torn = true;
//!     }
//! }
//!
//! plugin_sdk::export_plugin!(Keyed);
//!
//! // And its test: the same decisions, however the bytes are split.
//! use plugin_sdk::testing::{Transcript, assert_split_invariant};
//!
//! let transcript = Transcript::new()
//!     .request("KEY online-key\nget a\nge")
//!     .response("welcome\n1\n")
//!     .gap()
//!     .request("t b\nget c\n");
//! let record = assert_split_invariant::<Keyed>(&[("key", "test-key".into())], &transcript);
//! assert_eq!(record.sent(), b"KEY test-key\nget a\nget c\n");
//! assert_eq!(record.requests().len(), 3);
//! ```
//!
//! # Defects
//!
//! A handler that takes more bytes than are there, or says that it consumed more than it was given, panics with a text that
//! begins with `plugin defect`. A panic ends the session at hand; tcpcopy reports it, makes a new instance, and joins the others
//! that shared the old one again. For what others send, there is [`Actions::give_up`].

pub mod cursor;
pub mod framing;
#[cfg(not(target_family = "wasm"))]
pub mod template;
pub mod testing;

mod actions;
mod descriptor;
mod dispatch;
mod export;
mod plugin;
mod settings;
mod words;

pub use actions::Actions;
pub use descriptor::{Descriptor, Inputs, Needs, OptionKind, PluginOption, Side};
pub use plugin::Plugin;
pub use settings::{ConfigError, Settings, Value};
pub use words::{ClientEnd, Level, Loss, Opening, Origin, Reply, Timestamp};

/// What [`export_plugin!`] writes refers to this. No part of the interface.
#[doc(hidden)]
pub mod __private {
    #[cfg(not(target_family = "wasm"))]
    pub use crate::export::native;
    #[cfg(target_family = "wasm")]
    pub use crate::export::wasm;
}
