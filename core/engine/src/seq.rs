//! TCP sequence numbers.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A TCP sequence number: 32 bits that wrap (RFC 9293, section 3.4).
///
/// There is no `<`: two numbers compare only within a window of 2^31, by [`SeqNumber::is_before`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNumber(pub u32);

impl SeqNumber {
    /// Signed distance from `earlier` to `self`, right while the two are less than 2^31 apart.
    pub const fn distance_from(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }

    /// Whether `self` lies before `other` in the window of 2^31 around it.
    pub const fn is_before(self, other: Self) -> bool {
        self.distance_from(other) < 0
    }

    /// Whether `self` lies after `other` in the window of 2^31 around it.
    pub const fn is_after(self, other: Self) -> bool {
        self.distance_from(other) > 0
    }

    /// The 64-bit stream offset that `self` means, when `base` is the number at offset `base_offset` and the two are less
    /// than 2^31 apart. Negative when `self` lies before the stream's first byte.
    pub const fn unwrap(self, base: Self, base_offset: u64) -> i64 {
        base_offset as i64 + self.distance_from(base) as i64
    }
}

impl Add<u32> for SeqNumber {
    type Output = Self;
    fn add(self, rhs: u32) -> Self {
        Self(self.0.wrapping_add(rhs))
    }
}

impl AddAssign<u32> for SeqNumber {
    fn add_assign(&mut self, rhs: u32) {
        *self = *self + rhs;
    }
}

impl Sub<u32> for SeqNumber {
    type Output = Self;
    fn sub(self, rhs: u32) -> Self {
        Self(self.0.wrapping_sub(rhs))
    }
}

impl fmt::Debug for SeqNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_holds_across_the_wrap() {
        let a = SeqNumber(u32::MAX - 1);
        assert!(a.is_before(a + 3));
        assert!((a + 3).is_after(a));
        assert_eq!((a + 3).distance_from(a), 3);
        assert_eq!((a + 3).unwrap(a, 10), 13);
        assert_eq!(a.unwrap(a + 3, 1), -2);
    }
}
