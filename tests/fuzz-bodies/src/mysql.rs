//! The MySQL plugin under any bytes of a client, of a target and of an online server.

use plugin_sdk::testing::{Decision, Harness, Record, Split, Transcript, replay};
use plugin_sdk::{Loss, Origin, Value};
use std::collections::BTreeMap;
use tcpcopy_mysql::Mysql;

/// The connection is joined mid-stream.
pub(crate) const JOINED: u8 = 1;
/// Options that look into statements and change them.
pub(crate) const OPTIONS: u8 = 2;
/// The connection to the target is lost once, half way through what it sends.
pub(crate) const LOST: u8 = 4;

/// Feeds a session. Input: flags (u8: 1 joined mid-stream, 2 with options that look into statements and change them, 4 with a lost
/// connection), seed of the split (u8), how many 256ths of the rest are the client's (u8), and of what is left then the target's
/// (u8), the client's bytes, the target's, the online server's.
///
/// # Panics
/// When the plugin does, or when what it decides depends on the pieces that bytes come in.
pub fn mysql(data: &[u8]) {
    let Some((&[flags, seed, share, of_rest], rest)) = data.split_first_chunk::<4>() else { return };
    let (requests, rest) = rest.split_at(rest.len() * usize::from(share) / 256);
    let (responses, references) = rest.split_at(rest.len() * usize::from(of_rest) / 256);

    let mut settings = vec![("password", Value::from("p")), ("join-user", Value::from("u"))];
    if flags & OPTIONS != 0 {
        settings.extend([
            ("databases", Value::Table(vec![("shop".to_owned(), "copy".to_owned())])),
            ("map-qualified-names", Value::from(true)),
            ("comment", Value::from("replay")),
            ("read-only", Value::from(true)),
            ("join-statements", Value::from([("1", "SELECT ?"), ("7", "SELECT 1")])),
            ("join-parameter-types", Value::from([("1", "int")])),
        ]);
    }
    let origin = if flags & JOINED == 0 { Origin::Start } else { Origin::MidStream };
    let mut transcript = Transcript::of(origin).reference(references).connected().request(requests);
    if flags & LOST == 0 {
        transcript = transcript.response(responses);
    } else {
        let (before, behind) = responses.split_at(responses.len() / 2);
        let loss = Loss { unanswered: 1, kept: 1, interrupted: false };
        transcript = transcript.response(before).connection_lost(loss).connected().response(behind);
    }
    let whole = replay::<Mysql>(&settings, &transcript, Split::Whole);
    let split = replay::<Mysql>(&settings, &transcript, Split::Random(u64::from(seed)));
    assert_eq!(comparable(&whole), comparable(&split), "the pieces matter");

    // A gap anywhere ends in a search or in giving up, and never in a panic.
    let mut harness = Harness::<Mysql>::new(&settings);
    let session = harness.open_as(origin);
    let (before, behind) = requests.split_at(requests.len() / 2);
    harness.connected(session);
    harness.response(session, responses);
    harness.request(session, before);
    harness.reference_gap(session);
    harness.reference(session, references);
    if !harness.is_over(session) {
        harness.gap(session);
        harness.request(session, behind);
    }
}

/// What a record says without the bytes that were left out: those of compressed packets are decided about with what was in them,
/// piece by piece.
fn comparable(record: &Record) -> (Vec<Decision>, &BTreeMap<String, u64>) {
    let mut decisions: Vec<Decision> = Vec::new();
    for decision in &record.decisions {
        match (decisions.last_mut(), decision) {
            (_, Decision::Discard(_)) => {}
            (Some(Decision::Send(before)), Decision::Send(bytes) | Decision::Forward(bytes)) => {
                before.0.extend_from_slice(&bytes.0);
            }
            (_, Decision::Forward(bytes)) => decisions.push(Decision::Send(bytes.clone())),
            _ => decisions.push(decision.clone()),
        }
    }
    (decisions, &record.counts)
}
