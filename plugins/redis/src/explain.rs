//! The names under which errors of the target are counted: what they say, and what to do about it.

use crate::answers::During;

/// The name of the counter for an error with this first word; empty when it has none.
pub fn error(word: &str, during: During) -> String {
    let prefix = match during {
        During::Requests => "answered",
        During::Preamble => "answered to what a new connection is told:",
    };
    let what = match word {
        "" => return format!("{prefix} an error without a name"),
        "MOVED" => {
            "the target is a cluster and another node has the key; replay to each node the part that it has, or to a target that is no cluster"
        }
        "ASK" => "the target moves the key's slot to another node; replay when it is done",
        "CLUSTERDOWN" => "the target's cluster does not serve the key's slot",
        "CROSSSLOT" => "the target is a cluster and the keys belong to several of its nodes",
        "TRYAGAIN" => "the target moves the keys' slot to another node",
        "NOAUTH" => "the target wants a login; see the options password, passwords and login",
        "WRONGPASS" => "the target knows no such user and password; see the options password and passwords",
        "NOPERM" => "the target does not let this user do that",
        "READONLY" => "the target is a replica",
        "NOSCRIPT" => {
            "the script was loaded into the online server before the capture began; load it into the target"
        }
        "MISCONF" => "the target can't write its snapshot and takes no writes",
        "OOM" => "the target has no memory left",
        "LOADING" => "the target still reads its data",
        "BUSY" => "a script keeps the target busy",
        "MASTERDOWN" => "the target is a replica without its master",
        "DENIED" => "the target is in protected mode and takes local clients only",
        "EXECABORT" => "a request of the transaction was refused",
        "NOPROTO" => "the target does not speak that version of RESP",
        _ => return format!("{prefix} {word}"),
    };
    format!("{prefix} {word}: {what}")
}

/// A name as it may be shown: itself, if it is an ordinary one.
pub fn printable(name: &[u8]) -> String {
    let ordinary = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'|' | b' ' | b':');
    if name.is_empty() || name.len() > 40 || !name.iter().all(ordinary) {
        return "a command with a strange name".to_owned();
    }
    String::from_utf8_lossy(name).to_ascii_uppercase()
}
