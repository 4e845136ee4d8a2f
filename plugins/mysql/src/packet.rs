//! Packets: four bytes of header, then up to 16 MiB.
//!
//! Owns headers, sequence numbers, and messages that are made of several packets because they are longer than one can be. What is
//! in them is read elsewhere; messages are never gathered beyond what has to be looked at.

use plugin_sdk::cursor::{Cursor, Read, Stop};

/// Bytes of a header.
pub const HEADER: usize = 4;
/// Most bytes in one packet. A message that has as many goes on in the next packet.
pub const MOST: usize = 0xff_ffff;
/// So many bytes of a message are kept for its reader.
pub const FRONT: usize = 8192;

/// A front that is larger is given back.
const SPARE: usize = 512;

/// A packet's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes behind it.
    pub length: usize,
    /// Its number since the command began, modulo 256.
    pub sequence: u8,
}

impl Header {
    /// The header at the front, if it is there.
    #[inline]
    pub fn at(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, sequence] = *bytes.first_chunk()?;
        Some(Self { length: u32::from_le_bytes([a, b, c, 0]) as usize, sequence })
    }

    /// Whether the message goes on in the next packet.
    pub const fn goes_on(self) -> bool {
        self.length == MOST
    }

    /// As bytes.
    pub const fn bytes(self) -> [u8; HEADER] {
        let [a, b, c, _] = (self.length as u32).to_le_bytes();
        [a, b, c, self.sequence]
    }
}

/// Appends a message as packets, the first of which has this sequence number. Returns the number that follows.
pub fn write(into: &mut Vec<u8>, mut sequence: u8, mut message: &[u8]) -> u8 {
    loop {
        let (front, rest) = message.split_at(message.len().min(MOST));
        into.extend_from_slice(&Header { length: front.len(), sequence }.bytes());
        into.extend_from_slice(front);
        sequence = sequence.wrapping_add(1);
        message = rest;
        if front.len() < MOST {
            return sequence;
        }
    }
}

/// A message that came whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its first bytes: all of them up to [`FRONT`].
    pub front: &'a [u8],
    /// How long it is.
    pub length: u64,
    /// Sequence number of its first packet.
    pub began: u8,
    /// Sequence number of its last packet.
    pub sequence: u8,
}

impl Message<'_> {
    /// Its first byte; `None` if it is empty.
    pub fn first(&self) -> Option<u8> {
        self.front.first().copied()
    }

    /// Whether all of it is there to be read.
    pub fn is_whole(&self) -> bool {
        self.front.len() as u64 == self.length
    }
}

/// Divides a stream into messages.
#[derive(Debug, Default)]
pub struct Messages {
    header: [u8; HEADER],
    headed: usize,
    /// Bytes of the packet that have not come.
    left: usize,
    /// The packet is not the message's last.
    goes_on: bool,
    /// The message's front.
    front: Vec<u8>,
    length: u64,
    began: u8,
    under_way: bool,
}

impl Messages {
    /// Whether no part of a message is there.
    pub const fn is_between(&self) -> bool {
        !self.under_way && self.headed == 0
    }

    /// Takes bytes up to the end of a message, and gives that. Without one, all bytes are taken.
    pub fn next<'m, 'b: 'm>(&'m mut self, bytes: &mut &'b [u8]) -> Option<Message<'m>> {
        if self.is_between()
            && let Some(header) = Header::at(bytes)
            && !header.goes_on()
            && let Some(front) = bytes.get(HEADER..HEADER + header.length)
        {
            *bytes = &bytes[HEADER + header.length..];
            let length = front.len() as u64;
            let (front, sequence) = (&front[..front.len().min(FRONT)], header.sequence);
            return Some(Message { front, length, began: sequence, sequence });
        }
        loop {
            if self.headed < HEADER {
                if self.headed == 0 && !self.under_way {
                    if self.front.capacity() > SPARE {
                        self.front = Vec::new();
                    }
                    self.front.clear();
                    self.length = 0;
                }
                let (now, rest) = bytes.split_at(bytes.len().min(HEADER - self.headed));
                self.header[self.headed..self.headed + now.len()].copy_from_slice(now);
                self.headed += now.len();
                *bytes = rest;
                if self.headed < HEADER {
                    return None;
                }
                let header = Header::at(&self.header)?;
                self.left = header.length;
                self.goes_on = header.goes_on();
                if !std::mem::replace(&mut self.under_way, true) {
                    self.began = header.sequence;
                }
            }
            let (now, rest) = bytes.split_at(bytes.len().min(self.left));
            let wanted = FRONT.saturating_sub(self.front.len()).min(now.len());
            self.front.extend_from_slice(&now[..wanted]);
            self.length += now.len() as u64;
            self.left -= now.len();
            *bytes = rest;
            if self.left > 0 {
                return None;
            }
            self.headed = 0;
            if !self.goes_on {
                self.under_way = false;
                let sequence = self.header[3];
                return Some(Message {
                    front: &self.front,
                    length: self.length,
                    began: self.began,
                    sequence,
                });
            }
        }
    }
}

/// A number in the form that takes one to nine bytes. `0xfb` (NULL) and `0xff` are none.
///
/// # Errors
/// As a [`Cursor`]'s.
pub fn length_encoded(cursor: &mut Cursor<'_>) -> Read<u64> {
    Ok(match cursor.u8()? {
        0xfc => cursor.u16_le()?.into(),
        0xfd => cursor.u24_le()?.into(),
        0xfe => cursor.u64_le()?,
        0xfb | 0xff => return Err(Stop::Invalid("no length")),
        small => small.into(),
    })
}

/// Bytes behind their number, as [`length_encoded`].
///
/// # Errors
/// As a [`Cursor`]'s.
pub fn length_encoded_bytes<'a>(cursor: &mut Cursor<'a>) -> Read<&'a [u8]> {
    let length = usize::try_from(length_encoded(cursor)?).map_err(|_| Stop::Incomplete)?;
    cursor.take(length)
}

/// Appends a number in the form that takes one to nine bytes.
pub fn write_length(into: &mut Vec<u8>, number: u64) {
    let bytes = number.to_le_bytes();
    match number {
        0..=0xfa => into.push(bytes[0]),
        0xfb..=0xffff => {
            into.push(0xfc);
            into.extend_from_slice(&bytes[..2]);
        }
        0x1_0000..=0xff_ffff => {
            into.push(0xfd);
            into.extend_from_slice(&bytes[..3]);
        }
        _ => {
            into.push(0xfe);
            into.extend_from_slice(&bytes);
        }
    }
}

/// The bytes before the next zero, which is read over.
///
/// # Errors
/// As a [`Cursor`]'s.
pub fn until_zero<'a>(cursor: &mut Cursor<'a>) -> Read<&'a [u8]> {
    let rest = cursor.rest();
    let length = rest.iter().position(|byte| *byte == 0).ok_or(Stop::Incomplete)?;
    let taken = cursor.take(length)?;
    cursor.u8()?;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stream: &[u8], piece: usize) -> Vec<(u64, u8, Vec<u8>)> {
        let mut messages = Messages::default();
        let mut all = Vec::new();
        for mut bytes in stream.chunks(piece) {
            while let Some(message) = messages.next(&mut bytes) {
                all.push((
                    message.length,
                    message.sequence,
                    message.front[..message.front.len().min(4)].to_vec(),
                ));
            }
        }
        assert!(messages.is_between());
        all
    }

    #[test]
    fn messages_are_found_however_they_are_split() {
        let mut stream = Vec::new();
        assert_eq!(write(&mut stream, 0, b"one"), 1);
        write(&mut stream, 7, b"");
        write(&mut stream, 1, &[9; 10_000]);
        let expected = [(3, 0, b"one".to_vec()), (0, 7, vec![]), (10_000, 1, vec![9; 4])];
        for piece in [1, 2, 3, 5, 100, 4096, stream.len()] {
            assert_eq!(read(&stream, piece), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn a_message_of_exactly_16_mib_ends_with_an_empty_packet() {
        for (length, packets) in [(MOST - 1, 1), (MOST, 2), (MOST + 1, 2)] {
            let mut stream = Vec::new();
            assert_eq!(write(&mut stream, 255, &vec![b'x'; length]), 255u8.wrapping_add(packets));
            assert_eq!(stream.len(), length + usize::from(packets) * HEADER);
            let last = 255u8.wrapping_add(packets - 1);
            assert_eq!(read(&stream, 1 << 20), [(length as u64, last, b"xxxx".to_vec())]);
        }
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for number in [0, 250, 251, 0xffff, 0x1_0000, 0xff_ffff, 0x100_0000, u64::MAX] {
            let mut bytes = Vec::new();
            write_length(&mut bytes, number);
            assert_eq!(length_encoded(&mut Cursor::new(&bytes)), Ok(number));
            for cut in 0..bytes.len() {
                assert_eq!(length_encoded(&mut Cursor::new(&bytes[..cut])), Err(Stop::Incomplete));
            }
        }
    }
}
