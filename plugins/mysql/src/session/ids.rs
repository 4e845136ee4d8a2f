//! Numbers of prepared statements: the online server's and the target's.

use std::collections::HashMap;

/// Statements that are open at most; more are forgotten by servers too.
const MOST: usize = 65_536;

/// Where a statement is at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// Here.
    At(u32),
    /// Its PREPARE is not answered yet.
    Awaited,
    /// Nowhere.
    Nowhere,
}

/// The statements of a session.
#[derive(Debug, Default)]
pub(super) struct Ids {
    prepared: u32,
    known: HashMap<u32, Where>,
}

impl Ids {
    /// A statement is being prepared. Gives its number at the online server.
    pub(super) fn prepare(&mut self) -> u32 {
        self.prepared += 1;
        if self.known.len() < MOST {
            self.known.insert(self.prepared, Where::Awaited);
        }
        self.prepared
    }

    /// The target has prepared it, or not.
    pub(super) fn answered(&mut self, online: u32, target: Option<u32>) {
        if let Some(known) = self.known.get_mut(&online) {
            *known = target.map_or(Where::Nowhere, Where::At);
        }
    }

    /// Where a statement of the online server is.
    pub(super) fn find(&self, online: u32) -> Where {
        self.known.get(&online).copied().unwrap_or(Where::Nowhere)
    }

    /// It was closed.
    pub(super) fn close(&mut self, online: u32) {
        self.known.remove(&online);
    }

    /// All are gone.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    /// The connection is gone, and all statements with it.
    pub(super) fn lose(&mut self) {
        self.known.values_mut().for_each(|known| *known = Where::Nowhere);
    }
}
