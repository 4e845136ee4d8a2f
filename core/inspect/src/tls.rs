//! The name that a client asks for when it begins TLS.
//!
//! Owns the walk through a ClientHello (RFC 8446, section 4.1.2). Whether something is TLS at all, [`crate::protocol`] tells.

/// The server name in a ClientHello, if `bytes` hold that part of it (RFC 6066, section 3). `None` for names that no host has.
pub(crate) fn server_name(bytes: &[u8]) -> Option<&str> {
    /// A vector behind a length of `N` bytes, as far as it was captured, and what follows it.
    fn vector<const N: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let len = bytes.first_chunk::<N>()?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        let rest = &bytes[N..];
        Some(rest.split_at(len.min(rest.len())))
    }
    if !matches!(bytes, [22, 3, 0..=4, _, _, 1, ..]) {
        return None;
    }
    // Behind the record's header, the handshake's, the version and the random number.
    let (_, rest) = vector::<1>(bytes.get(5 + 4 + 2 + 32..)?)?;
    let (_, rest) = vector::<2>(rest)?;
    let (_, rest) = vector::<1>(rest)?;
    let (mut extensions, _) = vector::<2>(rest)?;
    while let [a, b, rest @ ..] = extensions {
        let (value, behind) = vector::<2>(rest)?;
        if [*a, *b] == [0, 0] {
            let (names, _) = vector::<2>(value)?;
            let (name, _) = vector::<2>(names.strip_prefix(&[0])?)?;
            let whole = usize::from(u16::from_be_bytes([*names.get(1)?, *names.get(2)?])) == name.len();
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            return (whole && (1..=253).contains(&name.len()) && name.iter().all(plain))
                .then(|| std::str::from_utf8(name).ok())?;
        }
        extensions = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_name_is_found_and_hostile_lengths_are_not_followed() {
        let name = b"shop.example";
        let mut hello = vec![22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3];
        hello.extend([7; 32]);
        hello.extend([2, 1, 1, 0, 2, 0x13, 1, 1, 0]);
        let extensions = [&[0, 0x2b, 0, 1, 9, 0, 0, 0, 17, 0, 15, 0, 0, 12][..], name].concat();
        hello.extend((extensions.len() as u16).to_be_bytes());
        hello.extend(&extensions);
        assert_eq!(server_name(&hello), Some("shop.example"));
        for cut in 0..hello.len() {
            assert_eq!(server_name(&hello[..cut]), None, "{cut}");
        }
        for at in 5..hello.len() {
            let mut hostile = hello.clone();
            hostile[at] = 0xff;
            let _ = server_name(&hostile);
        }
        let last = hello.len() - 1;
        hello[last] = b'\n';
        assert_eq!(server_name(&hello), None);
    }
}
