//! Where things are in a `COM_STMT_EXECUTE`.
//!
//! Owns the packet's form, with query attributes or without. What the values are is not looked at.

use std::ops::Range;

/// Whether the client and its server settled on query attributes, which change the packet's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// They did: `CLIENT_QUERY_ATTRIBUTES`.
    With,
    /// They did not.
    Without,
}

/// The flag of an execution that says how many parameters come with it.
const PARAMETER_COUNT_AVAILABLE: u8 = 8;
/// The flags that open a cursor.
const CURSOR: u8 = 7;

/// Where things are in an execution. Offsets count from the command byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The flags.
    pub flags: u8,
    /// How many parameters come with it, attributes included.
    pub parameters: u16,
    /// The number of parameters, where the packet has it.
    pub count: Range<usize>,
    /// The bits of the parameters that are NULL.
    pub nulls: Range<usize>,
    /// The byte that says whether types follow; `None` when there are no parameters.
    pub bound: Option<usize>,
    /// The types, with names where there are attributes; empty when they are not sent.
    pub types: Range<usize>,
    /// The first byte of the values.
    pub values: usize,
}

/// A number of variable length at `at`, and the offset behind it.
pub(crate) fn length(packet: &[u8], at: usize) -> Option<(u64, usize)> {
    let first = *packet.get(at)?;
    let bytes = match first {
        0..=0xFA => return Some((u64::from(first), at + 1)),
        0xFC => 2,
        0xFD => 3,
        0xFE => 8,
        _ => return None,
    };
    let mut number = [0; 8];
    number[..bytes].copy_from_slice(packet.get(at + 1..at + 1 + bytes)?);
    Some((u64::from_le_bytes(number), at + 1 + bytes))
}

impl Layout {
    /// Reads an execution of a statement with so many parameters. `None` when the packet ends too early or says what can't be.
    pub fn of(packet: &[u8], parameters: u16, attributes: Attributes) -> Option<Self> {
        // Command, id, flags, iterations.
        let flags = *packet.get(5)?;
        packet.get(9)?;
        let mut at = 10;
        let mut layout =
            Self { flags, parameters, count: at..at, nulls: at..at, bound: None, types: at..at, values: at };
        let counted = attributes == Attributes::With && flags & PARAMETER_COUNT_AVAILABLE != 0;
        if parameters == 0 && !counted {
            return Some(layout);
        }
        if attributes == Attributes::With && (parameters > 0 || counted) {
            let (number, end) = length(packet, at)?;
            layout.parameters = u16::try_from(number).ok()?;
            layout.count = at..end;
            at = end;
        }
        let nulls = at + usize::from(layout.parameters).div_ceil(8);
        layout.nulls = at..nulls;
        layout.types = nulls..nulls;
        layout.values = nulls;
        if layout.parameters == 0 {
            return Some(layout);
        }
        let bound = *packet.get(nulls)?;
        layout.bound = Some(nulls);
        at = nulls + 1;
        if bound == 1 {
            for _ in 0..layout.parameters {
                at += 2;
                if attributes == Attributes::With {
                    let (name, end) = length(packet, at)?;
                    at = end.checked_add(usize::try_from(name).ok()?)?;
                }
            }
            packet.get(..at)?;
        }
        layout.types = nulls + 1..at;
        layout.values = at;
        Some(layout)
    }

    /// Whether the execution opens a cursor.
    pub const fn opens_cursor(&self) -> bool {
        self.flags & CURSOR != 0
    }

    /// The types, if the packet has them.
    pub fn types<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        if self.types.is_empty() { None } else { packet.get(self.types.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: [u8; 10] = [0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0];

    #[test]
    fn without_attributes() {
        let plain = Layout::of(&HEAD, 0, Attributes::Without).expect("a packet");
        assert_eq!((plain.bound, plain.values), (None, 10));
        let mut packet = HEAD.to_vec();
        packet.extend_from_slice(&[0, 0, 1]);
        packet.extend_from_slice(&[3, 0].repeat(9));
        packet.extend_from_slice(&[1, 0, 0, 0].repeat(9));
        let layout = Layout::of(&packet, 9, Attributes::Without).expect("a packet");
        assert_eq!((layout.nulls.clone(), layout.bound, layout.types.clone()), (10..12, Some(12), 13..31));
        assert_eq!(layout.types(&packet), Some(&packet[13..31]));
        for end in 0..31 {
            let cut = Layout::of(&packet[..end], 9, Attributes::Without);
            assert_eq!(cut, None, "{end} bytes");
        }
    }

    #[test]
    fn with_attributes() {
        let mut packet = HEAD.to_vec();
        packet[5] = PARAMETER_COUNT_AVAILABLE;
        packet.extend_from_slice(&[2, 0, 1, 3, 0, 0, 0xFE, 0, 3, b'k', b'e', b'y', 1, 0, 0, 0, 1, b'v']);
        let layout = Layout::of(&packet, 1, Attributes::With).expect("a packet");
        assert_eq!((layout.parameters, layout.count, layout.nulls), (2, 10..11, 11..12));
        assert_eq!((layout.bound, layout.types, layout.values), (Some(12), 13..22, 22));
        packet[5] = 0;
        let none = Layout::of(&packet, 0, Attributes::With).expect("a packet");
        assert_eq!((none.parameters, none.bound), (0, None));
    }
}
