//! Where statements are at the target.

use super::{Prepared, Slot, Target, TypesAtTarget};

impl Prepared {
    /// The statements that the target knows, with their ids there.
    pub fn placed(&self) -> Vec<(Slot, u32)> {
        let placed = self.entries.iter().filter_map(|(&number, entry)| match entry.target {
            Target::Known(id) => Some((Slot(number), id)),
            _ => None,
        });
        placed.collect()
    }

    /// How many parameters a statement of the online server has, if a server said so.
    pub fn parameters(&self, online: u32) -> Option<u16> {
        self.entries.get(&self.number(online)?)?.parameters
    }

    /// The types that a statement of the online server was executed with last, as they stood in the packet.
    pub fn types(&self, online: u32) -> Option<&[u8]> {
        Some(&self.entries.get(&self.number(online)?)?.types)
    }

    /// A statement was executed with these types before it was known, as they stand in a packet.
    pub fn set_types(&mut self, slot: Slot, types: &[u8]) {
        if let Some(entry) = self.entries.get_mut(&slot.0) {
            entry.types = types.into();
            entry.types_at_target = TypesAtTarget::Due;
        }
    }

    /// As [`Prepared::set_types`], by the statement's number at the online server.
    pub fn set_types_of(&mut self, online: u32, types: &[u8]) {
        if let Some(number) = self.number(online) {
            self.set_types(Slot(number), types);
        }
    }
}
