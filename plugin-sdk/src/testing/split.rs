//! The same session in many splits.

use super::decision::{Bytes, Decision, Request, requests};
use super::harness::{Harness, next_random};
use super::transcript::{Step, Transcript};
use crate::{Plugin, Value};
use std::collections::BTreeMap;
use std::fmt::Write;

/// How the bytes of each step are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Not at all.
    Whole,
    /// Into single bytes.
    Bytes,
    /// Once, before this byte of all the bytes in the transcript.
    At(usize),
    /// At random places, the same ones for the same seed.
    Random(u64),
}

/// Transcripts up to this many bytes are split at each place.
const EACH_PLACE: usize = 2048;
/// Number of random splits.
const SEEDS: u64 = 48;

/// What came of a transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Normalised, see [`Harness::normalised`].
    pub decisions: Vec<Decision>,
    /// Request bytes that were not decided about in the end; none when the session is over.
    pub undecided: Bytes,
    /// What was counted.
    pub counts: BTreeMap<String, u64>,
}

impl Record {
    /// The bytes that would be sent.
    pub fn sent(&self) -> Vec<u8> {
        let mut sent = Vec::new();
        for decision in &self.decisions {
            if let Decision::Forward(bytes) | Decision::Send(bytes) | Decision::Prepare(bytes) = decision {
                sent.extend_from_slice(&bytes.0);
            }
        }
        sent
    }

    /// The requests that would be sent.
    pub fn requests(&self) -> Vec<Request> {
        requests(&self.decisions)
    }
}

/// Replays a transcript to a new instance.
///
/// # Panics
/// When the plugin does, or as [`Harness::new`].
pub fn replay<P: Plugin>(settings: &[(&str, Value)], transcript: &Transcript, split: Split) -> Record {
    let mut harness = Harness::<P>::new(settings);
    let session = harness.open_as(transcript.origin);
    let mut random = match split {
        Split::Random(seed) => seed,
        _ => 0,
    };
    let mut before = 0;
    for step in &transcript.steps {
        match step {
            Step::Request(bytes) | Step::Response(bytes) | Step::Reference(bytes) => {
                let mut rest = bytes.0.as_slice();
                while !rest.is_empty() {
                    let length = match split {
                        Split::Whole => rest.len(),
                        Split::Bytes => 1,
                        Split::At(place) if place > before && place < before + rest.len() => place - before,
                        Split::At(_) => rest.len(),
                        Split::Random(_) => piece(&mut random, rest.len()),
                    };
                    let (front, behind) = rest.split_at(length);
                    match step {
                        Step::Request(_) => drop(harness.request(session, front)),
                        Step::Response(_) => drop(harness.response(session, front)),
                        _ => drop(harness.reference(session, front)),
                    }
                    before += length;
                    rest = behind;
                }
            }
            Step::ResponseEnd => drop(harness.response_end(session)),
            Step::ReferenceGap => drop(harness.reference_gap(session)),
            Step::Connected => drop(harness.connected(session)),
            Step::ConnectionLost(loss) => drop(harness.connection_lost(session, *loss)),
            Step::Gap => drop(harness.gap(session)),
            Step::ClientClosed(end) => drop(harness.client_closed(session, *end)),
            Step::Advance(by) => drop(harness.advance(*by)),
        }
    }
    let undecided = if harness.is_over(session) { &[] } else { harness.undecided(session) };
    Record { decisions: harness.normalised(session), undecided: undecided.into(), counts: harness.counts() }
}

/// Length of the next random piece: often short, sometimes long.
fn piece(random: &mut u64, most: usize) -> usize {
    let value = next_random(random);
    let scale = [1, 4, 32, most.max(1)][(value >> 62) as usize];
    (value as usize % scale.min(most) + 1).min(most)
}

/// Replays a transcript whole, byte by byte, split at each single place (up to 2048 bytes), and at random places; asserts that
/// decisions, what stays undecided and counts are the same each time. Returns what came of it.
///
/// # Panics
/// When they are not, with the first difference; and as [`replay`].
pub fn assert_split_invariant<P: Plugin>(settings: &[(&str, Value)], transcript: &Transcript) -> Record {
    let whole = replay::<P>(settings, transcript, Split::Whole);
    let length: usize = transcript
        .steps
        .iter()
        .map(|step| match step {
            Step::Request(bytes) | Step::Response(bytes) | Step::Reference(bytes) => bytes.0.len(),
            _ => 0,
        })
        .sum();
    let places = if length <= EACH_PLACE { 1..length } else { 0..0 };
    let splits = [Split::Bytes].into_iter().chain(places.map(Split::At)).chain((0..SEEDS).map(Split::Random));
    for split in splits {
        let record = replay::<P>(settings, transcript, split);
        if let Some(difference) = difference(&whole, &record) {
            panic!("the plugin decides otherwise when the bytes are split ({split:?})\n{difference}");
        }
    }
    whole
}

/// Where two records differ first, for people to read.
fn difference(whole: &Record, split: &Record) -> Option<String> {
    if whole == split {
        return None;
    }
    let mut text = String::new();
    let pairs = whole.decisions.iter().zip(&split.decisions);
    let same = pairs.take_while(|(whole, split)| whole == split).count();
    if (same, same) != (whole.decisions.len(), split.decisions.len()) {
        for (index, decision) in whole.decisions.iter().enumerate().take(same).skip(same.saturating_sub(2)) {
            let _ = writeln!(text, "  both:  decision {index}: {decision:?}");
        }
        for (name, record) in [("whole", whole), ("split", split)] {
            let _ = match record.decisions.get(same) {
                Some(decision) => writeln!(text, "  {name}: decision {same}: {decision:?}"),
                None => writeln!(text, "  {name}: no decision {same}"),
            };
        }
    }
    if whole.undecided != split.undecided {
        let _ = writeln!(text, "  whole: undecided in the end: {:?}", whole.undecided);
        let _ = writeln!(text, "  split: undecided in the end: {:?}", split.undecided);
    }
    if whole.counts != split.counts {
        let _ = writeln!(text, "  whole: counts {:?}", whole.counts);
        let _ = writeln!(text, "  split: counts {:?}", split.counts);
    }
    Some(text)
}
