//! Query attributes: names and values that clients of MySQL send along with statements.
//!
//! Owns finding the text behind them, and taking them away for a target that does not know them.

use crate::packet;
use crate::statements::layout::Layout;
use plugin_sdk::cursor::{Cursor, Read, Stop};

/// Where the text of a COM_QUERY with attributes begins. `body` is what follows the command's number.
///
/// # Errors
/// When it is cut, or no such thing.
pub fn text(body: &[u8]) -> Read<usize> {
    let mut cursor = Cursor::new(body);
    let count = packet::length_encoded(&mut cursor)?;
    if packet::length_encoded(&mut cursor)? != 1 {
        return Err(Stop::Invalid("other than one set of attributes"));
    }
    if count > 0 {
        let count = usize::try_from(count).ok().filter(|count| *count <= usize::from(u16::MAX));
        let count = count.ok_or(Stop::Invalid("too many attributes"))?;
        let nulls = cursor.take(count.div_ceil(8))?;
        if cursor.u8()? != 1 {
            return Err(Stop::Invalid("attributes without types"));
        }
        let mut types = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            types.push(cursor.u16_le()?.to_le_bytes()[0]);
            packet::length_encoded_bytes(&mut cursor)?;
        }
        for (index, kind) in types.into_iter().enumerate() {
            if nulls[index / 8] & 1 << (index % 8) == 0 {
                value(&mut cursor, kind)?;
            }
        }
    }
    Ok(cursor.position())
}

/// Whether a text may be a COM_QUERY with attributes: no statement begins with such bytes.
pub fn are_likely(body: &[u8]) -> bool {
    matches!(body, [0..=8, 1, ..])
}

/// Reads over a value in the binary form.
fn value(cursor: &mut Cursor<'_>, kind: u8) -> Read<()> {
    match kind {
        // NULL
        6 => Ok(()),
        // TINYINT, BOOL
        1 | 244 => cursor.take(1).map(drop),
        // SMALLINT, YEAR
        2 | 13 => cursor.take(2).map(drop),
        // INT, FLOAT, MEDIUMINT
        3 | 4 | 9 => cursor.take(4).map(drop),
        // DOUBLE, BIGINT
        5 | 8 => cursor.take(8).map(drop),
        // TIMESTAMP, DATE, TIME, DATETIME
        7 | 10 | 11 | 12 => {
            let length = cursor.u8()?;
            cursor.take(length.into()).map(drop)
        }
        _ => packet::length_encoded_bytes(cursor).map(drop),
    }
}

/// A COM_STMT_EXECUTE without its attributes: `packet` is all of it, `layout` where things are in it, `parameters` how many of
/// those that come with it are the statement's own. `before` are the types that it was executed with before, with names. `None` when that can't be told.
pub fn without(packet: &[u8], layout: &Layout, parameters: u16, before: &[u8]) -> Option<Vec<u8>> {
    /// The flag that says that a number of parameters follows.
    const COUNTED: u8 = 8;
    let own = usize::from(parameters);
    let mut plain = packet.get(..10)?.to_vec();
    plain[5] &= !COUNTED;
    if own == 0 {
        return Some(plain);
    }
    let nulls = packet.get(layout.nulls.clone())?;
    let mut own_nulls = nulls.get(..own.div_ceil(8))?.to_vec();
    if own % 8 != 0
        && let Some(last) = own_nulls.last_mut()
    {
        *last &= (1 << (own % 8)) - 1;
    }
    plain.extend_from_slice(&own_nulls);
    let bound = layout.types(packet);
    plain.push(u8::from(bound.is_some()));
    let types = match bound {
        Some(bound) => names_removed(bound, own)?,
        None => names_removed(before, own).unwrap_or_default(),
    };
    if bound.is_some() {
        plain.extend_from_slice(&types);
    }
    let values = packet.get(layout.values..)?;
    if layout.parameters == parameters {
        plain.extend_from_slice(values);
        return Some(plain);
    }
    // What lies behind the statement's own values is the attributes'.
    let mut cursor = Cursor::new(values);
    for index in 0..own {
        let kind = *types.get(index * 2)?;
        if nulls[index / 8] & 1 << (index % 8) == 0 {
            value(&mut cursor, kind).ok()?;
        }
    }
    plain.extend_from_slice(&values[..cursor.position()]);
    Some(plain)
}

/// The first `own` of types that have names, without these.
fn names_removed(types: &[u8], own: usize) -> Option<Vec<u8>> {
    let mut cursor = Cursor::new(types);
    let mut plain = Vec::with_capacity(own * 2);
    for _ in 0..own {
        plain.extend_from_slice(cursor.take(2).ok()?);
        packet::length_encoded_bytes(&mut cursor).ok()?;
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::layout::Attributes;

    #[test]
    fn the_text_behind_attributes_is_found() {
        assert_eq!(text(b"\x00\x01SELECT 1"), Ok(2));
        let mut body = b"\x02\x01\x02\x01\xfe\x00\x03key\x03\x00\x01n\x05valueSELECT 1".to_vec();
        let at = text(&body).expect("attributes");
        assert_eq!(&body[at..], b"SELECT 1");
        assert!(are_likely(&body));
        assert!(!are_likely(b"SELECT 1"));
        for cut in 0..at {
            assert!(text(&body[..cut]).is_err(), "{cut}");
        }
        body[1] = 2;
        assert!(matches!(text(&body), Err(Stop::Invalid(_))));
    }

    #[test]
    fn an_execution_loses_its_attributes() {
        let mut packet = vec![0x17, 1, 0, 0, 0, 8, 1, 0, 0, 0];
        // Two parameters of which one is the statement's: an INT 7, and the attribute k = "v".
        packet.extend_from_slice(&[2, 0, 1, 3, 0, 0, 0xfe, 0, 1, b'k', 7, 0, 0, 0, 1, b'v']);
        let layout = Layout::of(&packet, 1, Attributes::With).expect("an execution");
        let plain = without(&packet, &layout, 1, &[]).expect("one without");
        assert_eq!(plain, [0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 0, 7, 0, 0, 0]);
        let layout = Layout::of(&plain, 1, Attributes::Without).expect("an execution");
        assert_eq!(layout.types(&plain), Some(&[3, 0][..]));
    }
}
