//! A reader over bytes that may not be all there yet.
//!
//! ```
//! use plugin_sdk::cursor::{Cursor, Stop};
//!
//! // A length of two bytes, then as many bytes.
//! fn name(bytes: &[u8]) -> Result<(&[u8], usize), Stop> {
//!     let mut cursor = Cursor::new(bytes);
//!     let length = cursor.u16_be()?;
//!     let name = cursor.take(length.into())?;
//!     Ok((name, cursor.position()))
//! }
//!
//! assert_eq!(name(b"\0\x03bob, and more"), Ok((&b"bob"[..], 5)));
//! assert_eq!(name(b"\0\x03bo"), Err(Stop::Incomplete));
//! ```

use std::fmt;

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// More bytes have to come.
    Incomplete,
    /// The bytes are wrong whatever comes; the text says what is wrong.
    Invalid(&'static str),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete => f.write_str("more bytes have to come"),
            Self::Invalid(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Stop {}

/// What reading gives.
pub type Read<T> = Result<T, Stop>;

/// A place in bytes. A read that fails leaves it where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

macro_rules! integers {
    ($($type:ident $be:ident $le:ident),*) => {$(
        #[doc = concat!("The next `", stringify!($type), "`, most significant byte first.")]
        ///
        /// # Errors
        /// [`Stop::Incomplete`]
        #[inline]
        pub fn $be(&mut self) -> Read<$type> {
            self.array().map($type::from_be_bytes)
        }

        #[doc = concat!("The next `", stringify!($type), "`, least significant byte first.")]
        ///
        /// # Errors
        /// [`Stop::Incomplete`]
        #[inline]
        pub fn $le(&mut self) -> Read<$type> {
            self.array().map($type::from_le_bytes)
        }
    )*};
}

impl<'a> Cursor<'a> {
    /// At the first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Number of bytes read.
    #[inline]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// The bytes that were not read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    /// Whether all bytes are read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.position == self.bytes.len()
    }

    /// The next byte, not read yet.
    ///
    /// # Errors
    /// [`Stop::Incomplete`]
    #[inline]
    pub fn peek(&self) -> Read<u8> {
        self.rest().first().copied().ok_or(Stop::Incomplete)
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`Stop::Incomplete`]
    #[inline]
    pub fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let taken = self.rest().get(..length).ok_or(Stop::Incomplete)?;
        self.position += length;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`Stop::Incomplete`]
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let taken = *self.rest().first_chunk().ok_or(Stop::Incomplete)?;
        self.position += N;
        Ok(taken)
    }

    /// Reads over `expected`.
    ///
    /// # Errors
    /// [`Stop::Invalid`] as soon as a byte differs; [`Stop::Incomplete`] if too few are there and none does.
    pub fn expect(&mut self, expected: &[u8]) -> Read<()> {
        let rest = self.rest();
        let there = rest.len().min(expected.len());
        if rest[..there] != expected[..there] {
            return Err(Stop::Invalid("other bytes than expected"));
        }
        self.take(expected.len()).map(|_| ())
    }

    /// The bytes before the next `end`, which is read over; at most `limit` bytes without it.
    ///
    /// # Errors
    /// [`Stop::Invalid`] when there are more without one; [`Stop::Incomplete`]
    pub fn until(&mut self, end: &[u8], limit: usize) -> Read<&'a [u8]> {
        let rest = self.rest();
        let searched = &rest[..rest.len().min(limit.saturating_add(end.len()))];
        match find(searched, end) {
            Some(length) => {
                self.position += length + end.len();
                Ok(&rest[..length])
            }
            None if rest.len() >= limit.saturating_add(end.len()) => {
                Err(Stop::Invalid("longer than the limit"))
            }
            None => Err(Stop::Incomplete),
        }
    }

    /// The next line without its end, which is `\n` or `\r\n`; at most `limit` bytes long, a `\r` included.
    ///
    /// # Errors
    /// As with [`Cursor::until`].
    pub fn line(&mut self, limit: usize) -> Read<&'a [u8]> {
        let line = self.until(b"\n", limit)?;
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`Stop::Incomplete`]
    #[inline]
    pub fn u8(&mut self) -> Read<u8> {
        self.array().map(|[byte]| byte)
    }

    integers!(u16 u16_be u16_le, u32 u32_be u32_le, u64 u64_be u64_le);

    /// The next three bytes as a number, most significant byte first.
    ///
    /// # Errors
    /// [`Stop::Incomplete`]
    pub fn u24_be(&mut self) -> Read<u32> {
        self.array().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// The next three bytes as a number, least significant byte first: MySQL's packet length.
    ///
    /// # Errors
    /// [`Stop::Incomplete`]
    pub fn u24_le(&mut self) -> Read<u32> {
        self.array().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    /// A number in groups of seven bits, least significant first, each byte but the last with its top bit set (LEB128, as in
    /// Protocol Buffers and MQTT); at most ten bytes.
    ///
    /// # Errors
    /// [`Stop::Invalid`] when it exceeds 64 bits; [`Stop::Incomplete`]
    pub fn varint(&mut self) -> Read<u64> {
        let mut value = 0u64;
        for (index, byte) in self.rest().iter().enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && *byte > 1 {
                return Err(Stop::Invalid("a number of more than 64 bits"));
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.position += index + 1;
                return Ok(value);
            }
        }
        Err(Stop::Incomplete)
    }

    /// The digits before the next byte that is none, as a number; that byte is not read.
    ///
    /// # Errors
    /// [`Stop::Invalid`] when there is no digit or the number exceeds 64 bits; [`Stop::Incomplete`] when the digits may go on
    pub fn decimal(&mut self) -> Read<u64> {
        let mut value = 0u64;
        for (index, byte) in self.rest().iter().enumerate() {
            if !byte.is_ascii_digit() {
                if index == 0 {
                    return Err(Stop::Invalid("no digit"));
                }
                self.position += index;
                return Ok(value);
            }
            value = value
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(u64::from(byte - b'0')))
                .ok_or(Stop::Invalid("a number of more than 64 bits"))?;
        }
        Err(Stop::Incomplete)
    }
}

/// Index of the first `needle` in `bytes`.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, rest) = needle.split_first()?;
    let mut from = 0;
    while let Some(found) = bytes[from..].iter().position(|byte| byte == first) {
        let start = from + found;
        if bytes[start + 1..].starts_with(rest) {
            return Some(start);
        }
        from = start + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_read_leaves_the_place() {
        let mut cursor = Cursor::new(b"\x01\x02");
        assert_eq!(cursor.u32_be(), Err(Stop::Incomplete));
        assert_eq!(cursor.u16_le(), Ok(0x0201));
        assert!(cursor.is_empty());
        assert_eq!(cursor.peek(), Err(Stop::Incomplete));
    }

    #[test]
    fn until_finds_an_end_whose_first_byte_is_repeated() {
        let mut cursor = Cursor::new(b"a\r\r\nb");
        assert_eq!(cursor.until(b"\r\n", 10), Ok(&b"a\r"[..]));
        assert_eq!(cursor.rest(), b"b");
    }

    #[test]
    fn until_says_when_its_limit_is_passed_and_not_before() {
        assert_eq!(Cursor::new(b"abc\r\n").until(b"\r\n", 3), Ok(&b"abc"[..]));
        assert_eq!(Cursor::new(b"abc\r").until(b"\r\n", 3), Err(Stop::Incomplete));
        assert_eq!(Cursor::new(b"abcde").until(b"\r\n", 3), Err(Stop::Invalid("longer than the limit")));
        assert_eq!(Cursor::new(b"abcd\r\n").until(b"\r\n", 3), Err(Stop::Invalid("longer than the limit")));
    }

    #[test]
    fn lines_end_either_way() {
        let mut cursor = Cursor::new(b"one\r\ntwo\nthree");
        assert_eq!(cursor.line(100), Ok(&b"one"[..]));
        assert_eq!(cursor.line(100), Ok(&b"two"[..]));
        assert_eq!(cursor.line(100), Err(Stop::Incomplete));
        assert_eq!(cursor.position(), 9);
    }

    #[test]
    fn numbers_that_do_not_fit_are_invalid() {
        assert_eq!(Cursor::new(b"18446744073709551615 ").decimal(), Ok(u64::MAX));
        assert!(matches!(Cursor::new(b"18446744073709551616 ").decimal(), Err(Stop::Invalid(_))));
        assert!(matches!(Cursor::new(b"-1").decimal(), Err(Stop::Invalid(_))));
        assert_eq!(Cursor::new(b"12").decimal(), Err(Stop::Incomplete));
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(Cursor::new(&most).varint(), Ok(u64::MAX));
        assert!(matches!(Cursor::new(&[0xff; 10]).varint(), Err(Stop::Invalid(_))));
        assert_eq!(Cursor::new(&[0xac, 0x02]).varint(), Ok(300));
        assert_eq!(Cursor::new(&[0xac]).varint(), Err(Stop::Incomplete));
    }

    #[test]
    fn three_bytes_either_way_round() {
        assert_eq!(Cursor::new(&[1, 2, 3]).u24_be(), Ok(0x01_0203));
        assert_eq!(Cursor::new(&[1, 2, 3]).u24_le(), Ok(0x03_0201));
    }

    #[test]
    fn wrong_bytes_are_wrong_before_all_are_there() {
        assert_eq!(Cursor::new(b"PR").expect(b"PRI *"), Err(Stop::Incomplete));
        assert!(matches!(Cursor::new(b"PX").expect(b"PRI *"), Err(Stop::Invalid(_))));
    }
}
