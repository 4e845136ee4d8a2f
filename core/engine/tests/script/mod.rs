//! The runner of packet scripts: language, variants, the world around an engine, and the comparison.

mod ends;
pub(crate) mod grammar;
mod lines;
pub(crate) mod notes;
pub(crate) mod packets;
pub(crate) mod proof;
pub(crate) mod run;
pub(crate) mod settings;
pub(crate) mod variant;
pub(crate) mod words;
pub(crate) mod world;
