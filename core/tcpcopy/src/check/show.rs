//! What a check found, for people and for programs.

use super::Findings;
use super::conversation::FileFacts;
use super::session::{Preview, Request, Session, State, What};
use crate::report::{ModuleStatus, module_json};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use tcpcopy_engine::protocol::{ClientEnd, Origin};

/// What was checked.
pub struct Subject<'a> {
    /// The plugin: name, version, kind.
    pub module: &'a str,
    /// The capture file.
    pub file: &'a str,
    /// What the plugin host tells of the plugin.
    pub status: &'a ModuleStatus,
}

/// The sessions, each with its messages, and what speaks against the plugin.
pub fn text(subject: &Subject<'_>, findings: &Findings) -> String {
    let mut text = String::new();
    let ports: Vec<String> = subject.status.ports.iter().map(u16::to_string).collect();
    line(&mut text, format_args!("{}, port {}: {}", subject.module, ports.join(", "), subject.file));
    for (index, session) in findings.sessions.iter().enumerate() {
        line(&mut text, format_args!(""));
        session_text(&mut text, index + 1, session, &findings.file);
    }
    line(&mut text, format_args!(""));
    if findings.sessions.is_empty() {
        line(
            &mut text,
            format_args!(
                "no session: of {} frames, {} are no TCP to or from these ports, {} are malformed",
                findings.file.frames, findings.file.others, findings.file.malformed
            ),
        );
    }
    if findings.file.damaged > 0 {
        line(
            &mut text,
            format_args!("damaged: {} places; tcpcopy inspect tells where", findings.file.damaged),
        );
    }
    let requests: usize = findings.sessions.iter().map(|session| session.requests).sum();
    let replies: usize = findings.sessions.iter().map(|session| session.replies).sum();
    line(
        &mut text,
        format_args!("total: {} sessions, {requests} requests, {replies} replies", findings.sessions.len()),
    );
    for (name, list) in [("gave up", &subject.status.gave_up), ("counted", &subject.status.counts)] {
        for (what, count) in list {
            line(&mut text, format_args!("{name}: {} {count}", escaped(what.as_bytes())));
        }
    }
    if findings.problems.is_empty() {
        line(&mut text, format_args!("No problem was found."));
    }
    for (session, problem) in &findings.problems {
        let place = session.map(|number| format!("session {number}: ")).unwrap_or_default();
        line(&mut text, format_args!("problem: {place}{}", escaped(problem.as_bytes())));
    }
    text
}

fn session_text(text: &mut String, number: usize, session: &Session, file: &FileFacts) {
    let opening = &session.opening;
    line(
        text,
        format_args!(
            "session {number}: {} -> {}, {}",
            opening.client,
            opening.online,
            origin(opening.origin)
        ),
    );
    for (at, what) in &session.entries {
        let seconds = at.saturating_sub(file.began) as f64 / 1e9;
        line(text, format_args!("  {seconds:>12.6}  {}", what_text(what)));
        let preview = match what {
            What::Request(request) => &request.preview,
            What::Prepared(preview) => preview,
            _ => continue,
        };
        if preview.length > 0 {
            let more = if preview.length > preview.bytes.len() as u64 { "…" } else { "" };
            line(text, format_args!("                | {}{more}", escaped(&preview.bytes)));
        }
    }
    let bytes = session.bytes;
    let mut end = format!(
        "{} requests, {} replies; of {} bytes {} forwarded, {} discarded, {} undecided; {} added",
        session.requests,
        session.replies,
        bytes.captured,
        bytes.forwarded,
        bytes.discarded,
        session.undecided().len(),
        bytes.added
    );
    if bytes.passed > 0 {
        let _ = write!(end, "; {} passed on without the plugin", bytes.passed);
    }
    line(text, format_args!("  {end}"));
    for note in notes(session) {
        line(text, format_args!("  {note}"));
    }
}

/// What is worth knowing of a session's end, and no problem.
fn notes(session: &Session) -> Vec<String> {
    let mut notes = Vec::new();
    if session.state != State::Live {
        return notes;
    }
    if session.outstanding() > 0 {
        notes.push(format!("{} requests were left without a complete reply", session.outstanding()));
    }
    if !session.is_ready() {
        notes.push("the connection was never ready: nothing of this would have been sent".to_owned());
    }
    let rest = session.undecided().len();
    if (rest > 0 || session.open_request().is_some()) && session.client_end != Some(ClientEnd::Finished) {
        let why = match session.client_end {
            Some(_) => "the client reset its connection",
            None => "the file ends",
        };
        notes.push(format!("{why} within a request"));
    }
    notes
}

const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Start => "from its start",
        Origin::MidStream => "from its middle",
        Origin::Rejoined => "joined again",
    }
}

fn request_text(request: &Request) -> String {
    let mut parts = Vec::new();
    for (count, what) in
        [(request.forwarded, "forwarded"), (request.discarded, "discarded"), (request.added, "added")]
    {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let reply = if request.is_answered { "reply expected" } else { "no reply expected" };
    format!("request {}: {} bytes, {reply}", request.number, parts.join(" + "))
}

fn what_text(what: &What) -> String {
    match what {
        What::Request(request) => request_text(request),
        What::Reply(Some(number)) => format!("reply to request {number} is complete"),
        What::Reply(None) => "a reply to no request is complete".to_owned(),
        What::Prepared(preview) => format!("{} bytes sent to prepare the connection", preview.length),
        What::Ready => "the connection is ready".to_owned(),
        What::Reconnect(0) => "what follows goes to a new connection".to_owned(),
        What::Reconnect(unanswered) => {
            format!("what follows goes to a new connection; {unanswered} requests get no reply")
        }
        What::Gap => "bytes of the client are missing in the file".to_owned(),
        What::Abandoned => "the request under way can't be completed".to_owned(),
        What::ClientEnd(ClientEnd::Finished) => "the client closed".to_owned(),
        What::ClientEnd(ClientEnd::Reset) => "the client reset its connection".to_owned(),
        What::ServerEnd => "the server closed".to_owned(),
        What::Observed(summary) => format!("observed: {}", escaped(summary.as_bytes())),
        What::Closed => "the plugin closed the connection".to_owned(),
        What::GaveUp(reason) => format!("given up: {}", escaped(reason.as_bytes())),
        What::Passed => "the rest is passed on as it is".to_owned(),
        What::Fault(message) => format!("the plugin failed: {}", escaped(message.as_bytes())),
        What::Rejoined => "the plugin failed in another session; this one is joined again".to_owned(),
        What::Violation(rule) => format!("a rule of the interface was broken: {rule}"),
    }
}

/// Bytes as text that can go to a terminal.
fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'")
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(content);
    text.push('\n');
}

/// The same as one JSON object.
pub fn json(subject: &Subject<'_>, findings: &Findings) -> Value {
    let sessions: Vec<Value> = findings
        .sessions
        .iter()
        .enumerate()
        .map(|(index, session)| session_json(index + 1, session))
        .collect();
    let problems: Vec<Value> = findings
        .problems
        .iter()
        .map(|(session, problem)| json!({ "session": session, "problem": problem }))
        .collect();
    json!({
        "file": subject.file,
        "frames": findings.file.frames,
        "frames_of_others": findings.file.others,
        "frames_malformed": findings.file.malformed,
        "module": module_json(subject.status),
        "sessions": sessions,
        "problems": problems,
    })
}

fn session_json(number: usize, session: &Session) -> Value {
    let opening = &session.opening;
    let bytes = session.bytes;
    let entries: Vec<Value> = session.entries.iter().map(|(at, what)| entry_json(*at, what)).collect();
    json!({
        "number": number,
        "client": opening.client.to_string(),
        "online": opening.online.to_string(),
        "origin": match opening.origin {
            Origin::Start => "start",
            Origin::MidStream => "mid-stream",
            Origin::Rejoined => "rejoined",
        },
        "requests": session.requests,
        "replies": session.replies,
        "bytes": {
            "captured": bytes.captured,
            "forwarded": bytes.forwarded,
            "discarded": bytes.discarded,
            "undecided": session.undecided().len(),
            "passed": bytes.passed,
            "added": bytes.added,
        },
        "events": entries,
        "notes": notes(session),
    })
}

fn entry_json(at: u64, what: &What) -> Value {
    let mut entry = Map::new();
    entry.insert("at".to_owned(), json!(at));
    let mut set = |name: &str, value: Value| entry.insert(name.to_owned(), value);
    let preview = |preview: &Preview| json!(preview.bytes.escape_ascii().to_string());
    let event = match what {
        What::Request(request) => {
            set("number", json!(request.number));
            set("forwarded", json!(request.forwarded));
            set("discarded", json!(request.discarded));
            set("added", json!(request.added));
            set("reply", json!(request.is_answered));
            set("sent", preview(&request.preview));
            "request"
        }
        What::Reply(number) => {
            set("number", json!(number));
            "reply"
        }
        What::Prepared(bytes) => {
            set("added", json!(bytes.length));
            set("sent", preview(bytes));
            "prepared"
        }
        What::Ready => "ready",
        What::Reconnect(unanswered) => {
            set("unanswered", json!(unanswered));
            "reconnect"
        }
        What::Gap => "gap",
        What::Abandoned => "abandoned",
        What::ClientEnd(ClientEnd::Finished) => "client-finished",
        What::ClientEnd(ClientEnd::Reset) => "client-reset",
        What::ServerEnd => "server-finished",
        What::Observed(summary) => {
            set("text", json!(summary));
            "observed"
        }
        What::Closed => "closed",
        What::GaveUp(reason) => {
            set("text", json!(reason));
            "gave-up"
        }
        What::Passed => "passed",
        What::Fault(message) => {
            set("text", json!(message));
            "fault"
        }
        What::Rejoined => "rejoined",
        What::Violation(rule) => {
            set("text", json!(rule));
            "violation"
        }
    };
    set("event", json!(event));
    Value::Object(entry)
}
