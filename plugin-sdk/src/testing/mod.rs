//! A test kit: runs a plugin in the test's own process, in the host's place.
//!
//! [`Harness`] calls a plugin step by step and shows what it decides. A [`Transcript`] is a whole session;
//! [`assert_split_invariant`] replays it in many splits of the same bytes, which must all lead to the same decisions.
//! Everything the harness is asked for that tcpcopy would never do (an unknown option, a session that was not opened) is a
//! panic: it is a defect of the test.

mod decision;
mod harness;
mod literal;
mod split;
mod transcript;

pub use decision::{Bytes, Decision, Request, discard, forward, prepare, send};
pub use harness::Harness;
pub use split::{Record, Split, assert_split_invariant, replay};
pub use transcript::Transcript;
