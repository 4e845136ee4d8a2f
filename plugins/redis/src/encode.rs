//! Commands that the plugin makes.

/// Appends a command.
pub fn append(bytes: &mut Vec<u8>, args: &[&[u8]]) {
    number(bytes, b'*', args.len());
    for arg in args {
        bulk(bytes, arg);
    }
}

/// A command.
pub fn command(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + args.iter().map(|arg| arg.len() + 16).sum::<usize>());
    append(&mut bytes, args);
    bytes
}

/// Appends an argument.
pub fn bulk(bytes: &mut Vec<u8>, arg: &[u8]) {
    number(bytes, b'$', arg.len());
    bytes.extend_from_slice(arg);
    bytes.extend_from_slice(b"\r\n");
}

/// Appends a number with its type and line end.
pub fn number(bytes: &mut Vec<u8>, kind: u8, value: usize) {
    bytes.push(kind);
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    bytes.extend_from_slice(&digits[at..]);
    bytes.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_protocol::resp2::{decode::decode, types::OwnedFrame};

    #[test]
    fn commands_are_read_as_they_were_meant() {
        let long = vec![b'x'; 12_345];
        let args: [&[u8]; 4] = [b"SET", b"", b"a\r\nb", &long];
        let bytes = command(&args);
        let (frame, length) = decode(&bytes).expect("valid").expect("complete");
        assert_eq!(length, bytes.len());
        let wanted = args.iter().map(|arg| OwnedFrame::BulkString(arg.to_vec())).collect();
        assert_eq!(frame, OwnedFrame::Array(wanted));
    }
}
