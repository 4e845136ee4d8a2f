//! Proof that scripts can fail, and that the trace of a failure is a script that holds.

use super::grammar::Script;
use super::run;
use super::variant::Variant;

/// A script that holds; each of [`DIFFERENCES`] replaces a line of it.
const HOLDS: &str = "handshake
client P. 1:11 ack 1
send P. 1:11 ack 1
held 1
target P. 1:21 ack 11
event acknowledged
held 0
wait 39ms
timer 1ms
send . 11 ack 21
client P. 1:11 ack 1
dropped repeated
client F. 11 ack 21
send F. 11 ack 21
target F. 21 ack 12
send . 12 ack 22
close completed
";

const DIFFERENCES: [(&str, &str); 13] = [
    ("send P. 1:11 ack 1\n", ""),
    ("send P. 1:11 ack 1", "send . 1:11 ack 1"),
    ("send P. 1:11 ack 1", "send P. 1:11 ack 2"),
    ("send P. 1:11 ack 1", "send P. 1:12 ack 1"),
    ("send P. 1:11 ack 1", "send P. 1:11 ack 1 data \"0123456789\""),
    ("send P. 1:11 ack 1", "send P. 1:11 ack 1 sack 1:2"),
    ("held 1", "held 0"),
    ("event acknowledged", "event acknowledged 2"),
    ("wait 39ms", "wait 41ms"),
    ("timer 1ms", "timer 2ms"),
    ("dropped repeated\n", ""),
    ("close completed", "close idle"),
    ("send . 12 ack 22", "send . 12 ack 22\nsend . 12 ack 22"),
];

/// Runs a script under each variant, and returns the first failure with its trace.
fn failure(text: &str) -> Result<Option<(String, String)>, String> {
    let script = Script::parse(text)?;
    for variant in Variant::all() {
        if let Err(failure) = run::run(&script, variant) {
            return Ok(Some((failure.what, failure.trace)));
        }
    }
    Ok(None)
}

/// Each difference is found, and what is printed for it holds when it is pasted.
pub(crate) fn differences_are_found() -> Result<(), String> {
    if let Some((what, _)) = failure(HOLDS)? {
        return Err(format!("a script that holds failed: {what}"));
    }
    for (line, instead) in DIFFERENCES {
        let (_, trace) = failure(&HOLDS.replacen(line, instead, 1))?
            .ok_or_else(|| format!("{instead:?} instead of {line:?} was not found"))?;
        if let Some((what, _)) = failure(&trace)? {
            return Err(format!("the trace with {instead:?} does not hold: {what}\n{trace}"));
        }
    }
    Ok(())
}

/// Lines that mean nothing are refused.
pub(crate) fn nonsense_is_refused() -> Result<(), String> {
    let lines = [
        "sends . 1 ack 1",
        "send . 1",
        "send X 1",
        "client S 5:3",
        "client P. 1:3 data \"abc\"",
        "wait 5",
        "event something",
        "close never",
        "dropped",
        "config speed 5",
        "only sundays",
    ];
    let accepted: Vec<_> = lines.into_iter().filter(|line| Script::parse(line).is_ok()).collect();
    if accepted.is_empty() { Ok(()) } else { Err(format!("{accepted:?} was taken for script")) }
}
