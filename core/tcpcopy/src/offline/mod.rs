//! Replaying capture files.
//!
//! [`reader`] takes frames from the files in a thread of its own, so that neither a slow disk nor a pipe nor decompression makes
//! the worker wait. [`Feed`] hands them to the engine when their time has come ([`timeline`]) and there is room for them
//! ([`pressure`]). What the frames mean is the engine's business; what a file looks like, that of `tcpcopy-capture-file`.

mod feed;
mod pressure;
mod queue;
mod reader;
mod status;
mod timeline;

pub use feed::{Boundary, Fed, Feed};
pub use status::{OfflineStatus, Verdict, lost_requests};
pub use timeline::Timeline;
