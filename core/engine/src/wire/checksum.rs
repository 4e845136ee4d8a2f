//! The Internet checksum (RFC 1071), summed eight bytes a step.
//!
//! Owns the sum alone; which bytes belong in it (pseudo-header, TCP header, payload) is the writer's business.

/// A running ones-complement sum over pieces of any length, odd ones too.
///
/// The sum is kept in the machine's byte order and turned once at the end, which RFC 1071, section 2 (B), allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum {
    sum: u64,
    odd: bool,
}

impl Checksum {
    /// The sum over nothing.
    pub const fn new() -> Self {
        Self { sum: 0, odd: false }
    }

    /// Adds the bytes that follow those added so far.
    pub fn add(&mut self, piece: &[u8]) {
        let sum = sum_of(piece);
        // A piece that starts at an odd place has all its bytes in the other half of their 16-bit words.
        self.sum += u64::from(if self.odd { sum.swap_bytes() } else { sum });
        self.odd ^= piece.len() % 2 == 1;
    }

    /// Adds a 16-bit number in host order. Must follow an even number of bytes.
    pub fn add_u16(&mut self, value: u16) {
        self.add(&value.to_be_bytes());
    }

    /// The checksum field's value, host order: the complement of the sum. Over bytes that hold a correct checksum it is 0.
    pub fn finish(self) -> u16 {
        !u16::from_be(fold(self.sum))
    }
}

/// The checksum of `data` alone; see [`Checksum::finish`].
pub fn of(data: &[u8]) -> u16 {
    let mut checksum = Checksum::new();
    checksum.add(data);
    checksum.finish()
}

/// Sum of the 16-bit words of `data` in the machine's byte order, an odd last byte padded with zero.
fn sum_of(data: &[u8]) -> u16 {
    let (words, rest) = data.as_chunks::<8>();
    // Two halves of 32 bits added into 64: the carries can't overflow before 16 GiB, and the loop vectorises.
    let mut sum = 0u64;
    for word in words {
        let word = u64::from_ne_bytes(*word);
        sum += (word & 0xffff_ffff) + (word >> 32);
    }
    let mut last = [0u8; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let word = u64::from_ne_bytes(last);
    fold(sum + (word & 0xffff_ffff) + (word >> 32))
}

/// Folds the carries of a sum back in until 16 bits are left.
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}
