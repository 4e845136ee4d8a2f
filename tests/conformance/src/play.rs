//! Plays a transcript to a plugin, in the engine's place, and writes down what it decides.
//!
//! Owns what a session keeps for a plugin: undecided bytes, the inputs that it wants, whether it is over. A plugin that breaks the
//! rules of the interface is an error here, as it is a violation in the engine.

use crate::transcript::{Step, Transcript};
use anyhow::{Result, bail, ensure};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_engine::plugin::{
    Action, Event, EventBatch, Group, Input, Inputs, Opening, Outcome, Output, PluginRunner, Reply,
    SessionId, Span,
};
use tcpcopy_plugin_host::Configured;

/// The time at which sessions begin, in nanoseconds of the Unix epoch: that of no capture.
const START: u64 = 1_700_000_000_000_000_000;
/// Time between two steps.
const STEP: u64 = 1_000_000;

/// How bytes are split, and events put into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The bytes of a step come at once.
    Whole,
    /// They come one by one, each in a batch of its own.
    Bytes,
    /// They come in pieces of random length, several in a batch now and then. The same number gives the same pieces.
    Random(u64),
    /// As random, and a second session that lives through the same is between them in the same instance.
    Twins(u64),
}

/// Something that a plugin decided, with the bytes that it was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Captured bytes are sent as they are.
    Forward(Vec<u8>),
    /// Captured bytes are left out.
    Discard(Vec<u8>),
    /// Bytes of the plugin are sent.
    Send(Vec<u8>),
    /// A request ends.
    EndRequest(Reply),
    /// The oldest open request has its reply.
    ReplyComplete,
    /// The connection may carry requests.
    Ready,
    /// What follows goes to a new connection.
    Reconnect,
    /// The connection is closed, and the session over.
    Close,
    /// The session is over for this reason.
    GiveUp(String),
    /// The rest passes as with no plugin.
    PassThrough,
    /// A summary of an exchange.
    Observe(String),
}

/// What came of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Record {
    /// What was decided during each step, the opening being the first. Neighbouring runs of bytes are joined.
    pub steps: Vec<Vec<Decision>>,
    /// The inputs that were wanted after each step.
    pub wanted: Vec<Inputs>,
    /// Bytes that were not decided about in the end.
    pub undecided: Vec<u8>,
    /// Requests whose reply was still awaited in the end.
    pub unanswered: u64,
}

impl Record {
    /// All decisions.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.steps.iter().flatten()
    }

    /// The captured bytes that were left out.
    pub fn discarded(&self) -> usize {
        let length =
            |decision: &Decision| if let Decision::Discard(bytes) = decision { bytes.len() } else { 0 };
        self.decisions().map(length).sum()
    }
}

/// A session, as the engine would keep it.
struct Session {
    id: SessionId,
    record: Record,
    undecided: VecDeque<u8>,
    wants: Inputs,
    is_over: bool,
    must_connect: bool,
    /// The request that is being decided about, if one was begun.
    under_way: Option<UnderWay>,
}

/// Whether a request that has not ended has got its reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UnderWay {
    Unanswered,
    /// Before all of it was sent.
    Answered,
}

impl Session {
    fn new(id: SessionId, wants: Inputs) -> Self {
        let record = Record { steps: vec![Vec::new()], ..Record::default() };
        Self {
            id,
            record,
            undecided: VecDeque::new(),
            wants,
            is_over: false,
            must_connect: false,
            under_way: None,
        }
    }

    fn take(&mut self, bytes: u32) -> Result<Vec<u8>> {
        let bytes = bytes as usize;
        ensure!(
            bytes <= self.undecided.len(),
            "{bytes} bytes of {} were decided about",
            self.undecided.len()
        );
        Ok(self.undecided.drain(..bytes).collect())
    }

    fn apply(&mut self, action: &Action, outcome: &Outcome) -> Result<()> {
        let bytes_of = |span: Span| match span.of(&outcome.bytes) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => bail!("{span:?} lies outside of what was given"),
        };
        let text_of = |span: Span| bytes_of(span).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let decision = match action.output {
            Output::Forward(bytes) => {
                self.under_way.get_or_insert(UnderWay::Unanswered);
                Decision::Forward(self.take(bytes)?)
            }
            Output::Discard(bytes) => Decision::Discard(self.take(bytes)?),
            Output::Send(span) => {
                self.under_way.get_or_insert(UnderWay::Unanswered);
                Decision::Send(bytes_of(span)?)
            }
            Output::Prepare(span) => Decision::Send(bytes_of(span)?),
            Output::EndRequest(reply) => {
                let is_answered = self.under_way.take() == Some(UnderWay::Answered);
                self.record.unanswered += u64::from(reply == Reply::Expected && !is_answered);
                Decision::EndRequest(reply)
            }
            Output::ReplyComplete => {
                if self.record.unanswered > 0 {
                    self.record.unanswered -= 1;
                } else {
                    ensure!(
                        self.under_way == Some(UnderWay::Unanswered),
                        "a reply is complete that was not awaited: {:?}",
                        self.record.steps
                    );
                    self.under_way = Some(UnderWay::Answered);
                }
                Decision::ReplyComplete
            }
            Output::Ready => Decision::Ready,
            Output::Reconnect => {
                self.must_connect = true;
                Decision::Reconnect
            }
            Output::Close => Decision::Close,
            Output::GiveUp(span) => Decision::GiveUp(text_of(span)?),
            Output::PassThrough => Decision::PassThrough,
            Output::Observe(span) => Decision::Observe(text_of(span)?),
            Output::Want(inputs) => {
                self.wants = inputs;
                return Ok(());
            }
            // Time does not pass here but with the steps.
            Output::SetTimer(_) | Output::ClearTimer => return Ok(()),
        };
        self.is_over = matches!(decision, Decision::Close | Decision::GiveUp(_) | Decision::PassThrough);
        let Some(step) = self.record.steps.last_mut() else { return Ok(()) };
        match (step.last_mut(), decision) {
            (Some(Decision::Forward(before)), Decision::Forward(bytes))
            | (Some(Decision::Discard(before)), Decision::Discard(bytes))
            | (Some(Decision::Send(before)), Decision::Send(bytes)) => before.extend(bytes),
            (_, Decision::Forward(bytes) | Decision::Discard(bytes) | Decision::Send(bytes))
                if bytes.is_empty() => {}
            (_, decision) => step.push(decision),
        }
        Ok(())
    }
}

/// Sessions that share an instance, and the batch that is being filled for it.
struct Player {
    runner: Box<dyn PluginRunner>,
    group: Group,
    sessions: Vec<Session>,
    batch: EventBatch,
    outcome: Outcome,
    now: u64,
}

/// Plays `transcript` to a plugin. `configured` is used for this one alone: what it has counted is part of the result.
///
/// # Errors
/// When the plugin fails or breaks a rule of the interface.
pub fn play(configured: &Configured, transcript: &Transcript, split: Split) -> Result<Record> {
    let count = if matches!(split, Split::Twins(_)) { 2 } else { 1 };
    let mut player = Player::open(configured, transcript, count)?;
    let mut random = match split {
        Split::Random(seed) | Split::Twins(seed) => seed,
        _ => 0,
    };
    for step in &transcript.steps {
        player.begin_step();
        let parts = (0..count).map(|_| pieces(step, split, &mut random)).collect::<Vec<_>>();
        let longest = parts.iter().map(Vec::len).max().unwrap_or(0);
        for at in 0..longest {
            for (index, parts) in parts.iter().enumerate() {
                if let Some(part) = parts.get(at) {
                    player.deliver(index, part);
                }
            }
            let flush = match split {
                Split::Whole | Split::Bytes => true,
                Split::Random(_) | Split::Twins(_) => next_random(&mut random).is_multiple_of(2),
            };
            if flush {
                player.flush()?;
            }
        }
        player.flush()?;
        player.end_step()?;
    }
    player.close(configured)
}

impl Player {
    fn open(configured: &Configured, transcript: &Transcript, count: u64) -> Result<Self> {
        let mut runner = configured.runner(0);
        let wants = runner.inputs();
        let mut groups = Vec::new();
        for _ in 0..count {
            groups.push(runner.join().map_err(|without| anyhow::anyhow!("disabled: {without:?}"))?);
        }
        ensure!(groups.windows(2).all(|pair| pair[0] == pair[1]), "two sessions don't share an instance");
        let sessions = (1..=count).map(|id| Session::new(id, wants)).collect();
        let mut player = Self {
            runner,
            group: groups[0],
            sessions,
            batch: EventBatch::default(),
            outcome: Outcome::default(),
            now: START,
        };
        for index in 0..player.sessions.len() {
            let at = |last, port| Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port);
            player.batch.openings.push(Opening {
                origin: transcript.origin,
                client: at(1, 40_000 + index as u16),
                online: at(2, 80),
                target: at(3, 80),
            });
            player.push(index, Input::Opened(index as u32));
        }
        player.flush()?;
        for session in &mut player.sessions {
            session.record.wanted.push(session.wants);
        }
        Ok(player)
    }

    fn begin_step(&mut self) {
        self.now += STEP;
        self.sessions.iter_mut().for_each(|session| session.record.steps.push(Vec::new()));
    }

    /// The engine makes a new connection where one is asked for.
    fn end_step(&mut self) -> Result<()> {
        for index in 0..self.sessions.len() {
            let session = &mut self.sessions[index];
            let connects = std::mem::take(&mut session.must_connect) && !session.is_over;
            if connects && session.wants.contains(Inputs::CONNECTIONS) {
                self.push(index, Input::Connected);
            }
        }
        self.flush()?;
        for session in &mut self.sessions {
            session.record.wanted.push(session.wants);
        }
        Ok(())
    }

    fn push(&mut self, index: usize, input: Input) {
        let event = Event { session: self.sessions[index].id, at: self.now, input };
        self.batch.events.push(event);
    }

    /// Adds what a session gets of a step to the batch, if it wants to know.
    fn deliver(&mut self, index: usize, step: &Step) {
        let session = &mut self.sessions[index];
        if session.is_over {
            return;
        }
        let wants = session.wants;
        let (input, bytes): (fn(Span) -> Input, &[u8]) = match step {
            Step::Request(bytes) => {
                session.undecided.extend(bytes);
                (Input::Request, bytes)
            }
            Step::Gap => (|_| Input::Gap, &[]),
            Step::Response(bytes) if wants.contains(Inputs::RESPONSES) => (Input::Response, bytes),
            Step::ResponseEnd if wants.contains(Inputs::RESPONSES) => (|_| Input::ResponseEnd, &[]),
            Step::Reference(bytes) if wants.contains(Inputs::REFERENCES) => (Input::Reference, bytes),
            Step::ReferenceGap if wants.contains(Inputs::REFERENCES) => (Input::Reference, &[]),
            Step::Connected if wants.contains(Inputs::CONNECTIONS) => (|_| Input::Connected, &[]),
            Step::ConnectionLost { unanswered, kept, interrupted } => {
                session.record.unanswered = session.record.unanswered.saturating_sub(u64::from(*unanswered));
                let (unanswered, kept, interrupted) = (*unanswered, *kept, *interrupted);
                self.push(index, Input::ConnectionLost { unanswered, kept, interrupted });
                return;
            }
            Step::ClientClosed(end) => {
                if wants.contains(Inputs::CLOSES) {
                    self.push(index, Input::ClientClosed(*end));
                }
                return;
            }
            _ => return,
        };
        let span = Span { start: self.batch.bytes.len() as u32, length: bytes.len() as u32 };
        self.batch.bytes.extend(bytes);
        self.push(index, input(span));
    }

    /// Runs the batch and notes what was decided.
    fn flush(&mut self) -> Result<()> {
        if self.batch.events.is_empty() {
            return Ok(());
        }
        self.outcome.clear();
        let result = self.runner.run(self.group, &self.batch, self.now, &mut self.outcome);
        self.batch.clear();
        if let Err(fault) = result {
            bail!("the plugin failed: {fault:?}");
        }
        for action in &self.outcome.actions {
            let Some(session) = self.sessions.iter_mut().find(|session| session.id == action.session) else {
                bail!("an action for session {} that was never opened", action.session)
            };
            if !session.is_over {
                session.apply(action, &self.outcome)?;
            }
        }
        Ok(())
    }

    fn close(mut self, configured: &Configured) -> Result<Record> {
        for index in 0..self.sessions.len() {
            self.push(index, Input::Ended);
        }
        self.flush()?;
        for _ in &self.sessions {
            self.runner.leave(self.group);
        }
        let report = configured.report();
        ensure!(report.faults.is_empty() && report.violations == 0, "{report:?}");
        let mut records = self.sessions.into_iter().map(|session| {
            let undecided = if session.is_over { Vec::new() } else { session.undecided.into() };
            Record { undecided, ..session.record }
        });
        let first = records.next().unwrap_or_default();
        for twin in records {
            ensure!(twin == first, "two sessions that lived through the same were treated differently");
        }
        Ok(first)
    }
}

/// Makes a step of bytes.
type MakeStep = fn(Vec<u8>) -> Step;

/// A step in the pieces that it comes in.
fn pieces(step: &Step, split: Split, random: &mut u64) -> Vec<Step> {
    let (bytes, make): (&[u8], MakeStep) = match step {
        Step::Request(bytes) => (bytes, Step::Request),
        Step::Response(bytes) => (bytes, Step::Response),
        Step::Reference(bytes) => (bytes, Step::Reference),
        other => return vec![other.clone()],
    };
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = match split {
            Split::Whole => rest.len(),
            Split::Bytes => 1,
            Split::Random(_) | Split::Twins(_) => {
                // Often short, sometimes as long as segments are, sometimes all.
                let scale = [3, 40, 1460, rest.len()][next_random(random) as usize % 4];
                (1 + next_random(random) as usize % scale).min(rest.len())
            }
        };
        let (piece, behind) = rest.split_at(length);
        pieces.push(make(piece.to_vec()));
        rest = behind;
    }
    pieces
}

/// The next number of a sequence (SplitMix64).
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up_to_the_step() {
        let bytes: Vec<u8> = (0..5000).map(|at| at as u8).collect();
        for split in [Split::Whole, Split::Bytes, Split::Random(1), Split::Twins(2)] {
            let mut joined = Transcript::new("", tcpcopy_engine::protocol::Origin::Start);
            pieces(&Step::Request(bytes.clone()), split, &mut 7)
                .into_iter()
                .for_each(|piece| joined.push(piece));
            assert_eq!(joined.steps, [Step::Request(bytes.clone())], "{split:?}");
        }
    }
}
