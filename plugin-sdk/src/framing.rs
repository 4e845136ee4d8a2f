//! Where the first message in some bytes ends.
//!
//! Each function looks at the front of undecided bytes and says how long the message there is. A plugin's own parser gives a
//! [`Frame`] with [`Frame::of`].

use crate::cursor::{Cursor, Read, Stop};

/// The first message in some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// It is the first so many bytes, its end included.
    Complete(usize),
    /// Its end is not there yet.
    Incomplete,
    /// There is none; the text says why.
    Invalid(&'static str),
}

impl Frame {
    /// What `parse` reads at the front of `bytes`.
    ///
    /// ```
    /// use plugin_sdk::framing::Frame;
    ///
    /// let frame = Frame::of(b"\x02ab...", |cursor| {
    ///     let length = cursor.u8()?;
    ///     cursor.take(length.into())?;
    ///     Ok(())
    /// });
    /// assert_eq!(frame, Frame::Complete(3));
    /// ```
    pub fn of<'a>(bytes: &'a [u8], parse: impl FnOnce(&mut Cursor<'a>) -> Read<()>) -> Self {
        let mut cursor = Cursor::new(bytes);
        match parse(&mut cursor) {
            Ok(()) => Self::Complete(cursor.position()),
            Err(Stop::Incomplete) => Self::Incomplete,
            Err(Stop::Invalid(what)) => Self::Invalid(what),
        }
    }
}

/// A message that ends with `end`, with at most `limit` bytes before it.
pub fn delimited(bytes: &[u8], end: &[u8], limit: usize) -> Frame {
    Frame::of(bytes, |cursor| cursor.until(end, limit).map(|_| ()))
}

/// How a length is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Length {
    /// One byte.
    U8,
    /// Two bytes, most significant first.
    U16Be,
    /// Two bytes, least significant first.
    U16Le,
    /// Three bytes, most significant first.
    U24Be,
    /// Three bytes, least significant first.
    U24Le,
    /// Four bytes, most significant first.
    U32Be,
    /// Four bytes, least significant first.
    U32Le,
    /// See [`Cursor::varint`].
    Varint,
}

impl Length {
    /// The length at the cursor.
    ///
    /// # Errors
    /// As of [`Cursor`]'s methods.
    pub fn read(self, cursor: &mut Cursor<'_>) -> Read<u64> {
        match self {
            Self::U8 => cursor.u8().map(u64::from),
            Self::U16Be => cursor.u16_be().map(u64::from),
            Self::U16Le => cursor.u16_le().map(u64::from),
            Self::U24Be => cursor.u24_be().map(u64::from),
            Self::U24Le => cursor.u24_le().map(u64::from),
            Self::U32Be => cursor.u32_be().map(u64::from),
            Self::U32Le => cursor.u32_le().map(u64::from),
            Self::Varint => cursor.varint(),
        }
    }
}

/// A message of `before` bytes, a length, and as many bytes as that says, at most `limit`.
pub fn length_prefixed(bytes: &[u8], before: usize, length: Length, limit: usize) -> Frame {
    Frame::of(bytes, |cursor| {
        cursor.take(before)?;
        let body = length.read(cursor)?;
        match usize::try_from(body) {
            Ok(body) if body <= limit => cursor.take(body).map(|_| ()),
            _ => Err(Stop::Invalid("longer than the limit")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delimited_message_includes_its_end() {
        assert_eq!(delimited(b"PING\r\nPING\r\n", b"\r\n", 64), Frame::Complete(6));
        assert_eq!(delimited(b"PING\r", b"\r\n", 64), Frame::Incomplete);
        assert_eq!(delimited(b"PINGPING", b"\r\n", 4), Frame::Invalid("longer than the limit"));
    }

    #[test]
    fn a_length_beyond_the_limit_is_invalid_before_its_bytes_come() {
        assert_eq!(length_prefixed(b"\0\0\0\x02ab+", 0, Length::U32Be, 16), Frame::Complete(6));
        assert_eq!(length_prefixed(b"Q\x02\0a", 1, Length::U16Le, 16), Frame::Incomplete);
        assert_eq!(
            length_prefixed(b"\xff\xff\xff\xff", 0, Length::U32Be, 16),
            Frame::Invalid("longer than the limit")
        );
        assert_eq!(
            length_prefixed(b"\x80\x01", 0, Length::Varint, 127),
            Frame::Invalid("longer than the limit")
        );
    }
}
