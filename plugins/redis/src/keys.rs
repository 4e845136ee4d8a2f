//! Where the keys of one request are.
//!
//! Owns walking through arguments by a command's [`Keys`]. What to do with a key is the caller's business.

use crate::commands::Keys;

/// What an argument with a key in it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A key.
    Key,
    /// A glob for keys.
    Glob,
    /// A text that becomes a key when its first asterisk is replaced.
    Reference,
}

/// Whether argument `index` of `args` is a key by `first`, `last` and `step`.
pub fn is_in_range(first: u8, last: i8, step: u8, index: u32, args: u32) -> bool {
    let (index, first) = (i64::from(index), i64::from(first));
    let last = if last < 0 { i64::from(args) + i64::from(last) } else { i64::from(last) };
    index >= first && index <= last && (index - first) % i64::from(step.max(1)) == 0
}

/// Calls `found` with the index of each argument that is a key, a pattern of keys or the like; `args` are all arguments, the
/// name first.
pub fn each(keys: Keys, args: &[&[u8]], mut found: impl FnMut(usize, Role)) {
    let position = |word: &str, from: usize| {
        (from..args.len()).find(|&index| args[index].eq_ignore_ascii_case(word.as_bytes()))
    };
    match keys {
        Keys::None => {}
        Keys::Range { first, last, step } => {
            let in_range = |&index: &usize| is_in_range(first, last, step, index as u32, args.len() as u32);
            (0..args.len()).filter(in_range).for_each(|index| found(index, Role::Key));
        }
        Keys::Counted { stored, count, step } => {
            if stored && args.len() > 1 {
                found(1, Role::Key);
            }
            let first = usize::from(count) + 1;
            let number = args.get(usize::from(count)).and_then(|text| decimal(text)).unwrap_or(0);
            (first..args.len())
                .step_by(usize::from(step))
                .take(number)
                .for_each(|index| found(index, Role::Key));
        }
        Keys::Streams => {
            if let Some(word) = position("STREAMS", 1) {
                let half = (args.len() - word - 1) / 2;
                (word + 1..=word + half).for_each(|index| found(index, Role::Key));
            }
        }
        Keys::Sort => sort(args, found),
        Keys::Store => {
            if args.len() > 1 {
                found(1, Role::Key);
            }
            for (index, word) in args.iter().enumerate().take(args.len().saturating_sub(1)).skip(2) {
                if is_one_of(word, &["STORE", "STOREDIST"]) {
                    found(index + 1, Role::Key);
                }
            }
        }
        Keys::Migrate => match args.get(3) {
            Some(key) if !key.is_empty() => found(3, Role::Key),
            Some(_) => {
                if let Some(word) = position("KEYS", 4) {
                    (word + 1..args.len()).for_each(|index| found(index, Role::Key));
                }
            }
            None => {}
        },
        Keys::Pattern => {
            if args.len() > 1 {
                found(1, Role::Glob);
            }
        }
        Keys::Match => {
            if let Some(word) = position("MATCH", 2).filter(|word| word + 1 < args.len()) {
                found(word + 1, Role::Glob);
            }
        }
    }
}

fn sort(args: &[&[u8]], mut found: impl FnMut(usize, Role)) {
    if args.len() > 1 {
        found(1, Role::Key);
    }
    let mut index = 2;
    while index + 1 < args.len() {
        let value = args[index + 1];
        if is_one_of(args[index], &["STORE"]) {
            found(index + 1, Role::Key);
        } else if is_one_of(args[index], &["BY", "GET"]) {
            // `GET #` is the element itself, and a pattern without an asterisk names nothing.
            if value.contains(&b'*') {
                found(index + 1, Role::Reference);
            }
        } else if is_one_of(args[index], &["LIMIT"]) {
            index += 1;
        } else {
            index += 1;
            continue;
        }
        index += 2;
    }
}

/// Whether `text` is one of `words`, in any case.
pub fn is_one_of(text: &[u8], words: &[&str]) -> bool {
    words.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()))
}

/// A whole number without sign; `None` for anything else.
pub fn decimal(text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_usize, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(usize::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{COMMANDS, find};

    fn keys(line: &str) -> Vec<String> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let command = &COMMANDS[usize::from(find(args[0]).expect("a command"))];
        let mut keys = Vec::new();
        each(command.keys, &args, |index, role| {
            keys.push(format!(
                "{}{}",
                String::from_utf8_lossy(args[index]),
                match role {
                    Role::Key => "",
                    Role::Glob => "?",
                    Role::Reference => "&",
                }
            ));
        });
        keys
    }

    #[test]
    fn keys_are_where_redis_has_them() {
        for (line, wanted) in [
            ("GET a", "a"),
            ("MSET a 1 b 2", "a b"),
            ("DEL a b c", "a b c"),
            ("BLPOP a b 0", "a b"),
            ("BITOP AND d a b", "d a b"),
            ("EVAL script 2 a b c", "a b"),
            ("EVAL script 0 a", ""),
            ("FCALL_RO f 1 a x", "a"),
            ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "d a b"),
            ("ZUNION 2 a b", "a b"),
            ("ZINTERCARD 2 a b LIMIT 3", "a b"),
            ("LMPOP 2 a b LEFT", "a b"),
            ("BLMPOP 0 2 a b LEFT", "a b"),
            ("MSETEX 2 a 1 b 2 EX 10", "a b"),
            ("XREAD COUNT 2 STREAMS a b 0 0", "a b"),
            ("XREADGROUP GROUP g c STREAMS a >", "a"),
            ("SORT l BY w_* LIMIT 0 5 GET o_* GET # ASC STORE d", "l w_*& o_*& d"),
            ("SORT l BY nosort", "l"),
            ("GEORADIUS g 1 2 3 m STORE d", "g d"),
            ("GEORADIUSBYMEMBER g m 3 m STOREDIST d", "g d"),
            ("GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 m", "d s"),
            ("MIGRATE h 1 a 0 10", "a"),
            ("KEYS a*", "a*?"),
            ("SCAN 0 COUNT 10 MATCH a*", "a*?"),
            ("SCAN 0 COUNT 10", ""),
            ("PUBLISH c m", ""),
            ("SUBSCRIBE c", ""),
            ("COPY a b DB 1", "a b"),
            ("RENAME a b", "a b"),
            ("LMOVE a b LEFT RIGHT", "a b"),
            ("PFMERGE d a b", "d a b"),
            ("JSON.MGET a b $", "a b"),
            ("TS.MADD a 1 1 b 1 1", "a b"),
            ("EVAL script 99999999999999999999 a", ""),
        ] {
            assert_eq!(keys(line).join(" "), wanted, "{line}");
        }
    }

    #[test]
    fn too_few_arguments_have_no_keys_and_no_panic() {
        for command in &COMMANDS {
            for count in 0..4 {
                let args: Vec<&[u8]> = [command.name.as_bytes(), b"STORE", b"MATCH", b"2"][..count].to_vec();
                each(command.keys, &args, |index, _| assert!(index < args.len(), "{}", command.name));
            }
        }
    }
}
