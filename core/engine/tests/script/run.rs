//! Running a script, and comparing what it says with what happens.

use super::grammar::{Expectation, Input, Line, Meaning, Packet, Script};
use super::packets;
use super::variant::Variant;
use super::words;
use super::world::{Outcome, Sent, World};
use std::collections::BTreeMap;
use std::fmt::Write;
use tcpcopy_engine::time::Duration;
use tcpcopy_engine::wire::tcp::TcpFlags;

/// How long a `timer` line waits for something to happen.
const TIMER_LIMIT: Duration = Duration::from_secs(100_000);
/// A deadline that is kept this well is kept.
const TIMER_TOLERANCE: Duration = Duration::from_micros(100);

/// How a script failed.
pub(crate) struct Failure {
    /// The first line at which something else happened.
    pub(crate) line: usize,
    pub(crate) what: String,
    /// What really happened, as a script.
    pub(crate) trace: String,
}

/// Runs `script` under `variant`.
///
/// # Errors
/// What the first difference is, and what happened in the whole run.
pub(crate) fn run(script: &Script, variant: Variant) -> Result<(), Failure> {
    let mut run =
        Run { world: World::new(script, variant), trace: Vec::new(), first: None, shows: Shows::of(script) };
    let mut rest = script.lines.as_slice();
    while let Some((line, behind)) = rest.split_first() {
        rest = behind;
        let Meaning::Input(input) = &line.meaning else {
            // Expectations before any input: nothing has happened.
            run.compare(std::slice::from_ref(line), Outcome::default());
            continue;
        };
        let count = rest.iter().take_while(|l| !matches!(l.meaning, Meaning::Input(_))).count();
        let (expected, behind) = rest.split_at(count);
        rest = behind;
        run.step(line, input, expected);
    }
    for broken in run.world.finish() {
        run.fail(script.lines.len(), broken);
    }
    match run.first {
        None => Ok(()),
        Some((line, what)) => Err(Failure { line, what, trace: run.trace.join("\n") + "\n" }),
    }
}

/// Which details the script cares for anywhere, so that a trace shows them everywhere.
struct Shows {
    window: bool,
    syn_options: bool,
}

impl Shows {
    fn of(script: &Script) -> Self {
        let expected = || {
            script.lines.iter().filter_map(|line| match &line.meaning {
                Meaning::Expectation(Expectation::Send { packet, .. }) => Some(packet),
                _ => None,
            })
        };
        let syn_options = |p: &Packet| {
            p.mss.is_some() || p.scale.is_some() || p.without_mss || p.without_scale || p.without_sack
        };
        Self { window: expected().any(|p| p.window.is_some()), syn_options: expected().any(syn_options) }
    }
}

struct Run {
    world: World,
    trace: Vec<String>,
    first: Option<(usize, String)>,
    shows: Shows,
}

impl Run {
    fn fail(&mut self, line: usize, what: String) {
        self.first.get_or_insert((line, what));
    }

    fn step(&mut self, line: &Line, input: &Input, expected: &[Line]) {
        let text = if line.hidden { None } else { Some(line.text.clone()) };
        match input {
            Input::Wait(duration) => {
                self.wait(line, *duration);
                return self.compare(expected, Outcome::default());
            }
            Input::Timer(duration) => {
                let outcome = self.timer(line, *duration);
                return self.compare(expected, outcome);
            }
            Input::Client { number, packet } => self.world.on_client(*number, packet),
            Input::Target { flow, packet } => {
                let flow = flow.unwrap_or(self.world.newest_flow());
                if let Err(error) = self.world.on_target(flow, packet) {
                    self.fail(line.number, error);
                }
            }
            Input::Reuse { number, ahead } => self.world.reuse(*number, *ahead),
            Input::RouteRefused => {
                if let Some(flow) = self.world.flow_key(self.world.newest_flow()) {
                    self.world.engine.handle_route_refused(&flow, self.world.now);
                }
            }
            Input::TooBig(mtu) => self.world.engine.handle_packet_too_big(0, *mtu, self.world.now),
            Input::ShutDown => self.world.engine.shut_down(self.world.now),
            Input::Stray(what) => {
                let packet = packets::stray(*what, &self.world.variant());
                match what {
                    super::grammar::Stray::Reply | super::grammar::Stray::ShortReply => {
                        self.world.engine.handle_reply(&packet, packet.len(), self.world.now);
                    }
                    _ => self.world.frame(&packet, packet.len()),
                }
            }
        }
        self.trace.extend(text);
        let outcome = self.world.collect();
        self.compare(expected, outcome);
    }

    /// Time passes; what happens meanwhile was not expected.
    fn wait(&mut self, line: &Line, duration: Duration) {
        let until = self.world.now + duration;
        let mut since = self.world.now;
        let mut whole = true;
        while self.world.advance(until) {
            let outcome = self.world.collect();
            if outcome.is_quiet() {
                continue;
            }
            whole = false;
            let passed = words::duration_text(self.world.now.saturating_since(since));
            since = self.world.now;
            self.fail(line.number, format!("something happens after {passed}"));
            self.trace.push(format!("timer {passed}"));
            self.compare(&[], outcome);
        }
        let rest = words::duration_text(until.saturating_since(since));
        self.trace.push(if whole { line.text.clone() } else { format!("wait {rest}") });
    }

    /// Time passes until something happens.
    fn timer(&mut self, line: &Line, duration: Duration) -> Outcome {
        let start = self.world.now;
        let until = start + TIMER_LIMIT;
        while self.world.engine.next_deadline().is_some() && self.world.advance(until) {
            let outcome = self.world.collect();
            if outcome.is_quiet() {
                continue;
            }
            let passed = self.world.now.saturating_since(start);
            if passed.abs_diff(duration) > TIMER_TOLERANCE {
                let passed = words::duration_text(passed);
                self.fail(line.number, format!("something happens after {passed}"));
                self.trace.push(format!("timer {passed}"));
            } else {
                self.trace.push(line.text.clone());
            }
            return outcome;
        }
        self.fail(line.number, "nothing happens any more".into());
        Outcome::default()
    }

    /// Compares what happened with the lines that follow it, and writes both into the trace.
    fn compare(&mut self, expected: &[Line], outcome: Outcome) {
        let mut sent = outcome.sent.into_iter();
        let mut notes = outcome.notes;
        let line_of = expected.first().map_or(0, |line| line.number);
        for broken in outcome.broken {
            self.trace.push(format!("# {broken}"));
            self.fail(line_of, broken);
        }
        let mut insert_at = self.trace.len();
        for line in expected {
            let real = match &line.meaning {
                Meaning::Expectation(Expectation::Send { flow, packet }) => {
                    let real = sent.next();
                    let matches = real.as_ref().is_some_and(|real| self.matches(*flow, packet, real));
                    if matches { Ok(()) } else { Err(real.map(|real| self.text(&real))) }
                }
                Meaning::Expectation(Expectation::Held(count)) => {
                    let real = self.world.engine.counters().requests_waiting;
                    if real == *count { Ok(()) } else { Err(Some(format!("held {real}"))) }
                }
                Meaning::Expectation(Expectation::Note(key, count)) => match notes.remove(key) {
                    Some((real, _)) if real == *count => Ok(()),
                    Some((real, _)) => Err(Some(note_text(key, real))),
                    None => Err(None),
                },
                Meaning::Silent => {
                    self.trace.push(line.text.clone());
                    continue;
                }
                Meaning::Input(_) => continue,
            };
            match real {
                Ok(()) if line.hidden => continue,
                Ok(()) => self.trace.push(line.text.clone()),
                Err(real) => {
                    let instead = real.as_deref().unwrap_or("nothing").to_owned();
                    self.fail(line.number, format!("instead of `{}`: {instead}", line.text.trim()));
                    self.trace.extend(real);
                }
            }
            insert_at = self.trace.len();
        }
        let more: Vec<String> = sent.map(|real| self.text(&real)).chain(unexpected(&notes)).collect();
        if let Some(first) = more.first() {
            let line = expected.iter().rev().find(|l| !matches!(l.meaning, Meaning::Silent));
            self.fail(line.map_or(line_of, |l| l.number), format!("not expected: {first}"));
        }
        self.trace.splice(insert_at..insert_at, more);
    }

    fn matches(&self, flow: Option<usize>, expected: &Packet, real: &Sent) -> bool {
        let same_flow = match flow {
            Some(flow) => flow == real.flow,
            None => real.newest,
        };
        let is_syn = expected.flags.contains(TcpFlags::SYN);
        let options = &real.options;
        let syn_options = !is_syn
            || (expected.mss.is_none_or(|mss| options.mss == Some(mss))
                && expected.scale.is_none_or(|scale| options.window_scale == Some(scale))
                && (!expected.without_mss || options.mss.is_none())
                && (!expected.without_scale || options.window_scale.is_none())
                && (!expected.without_sack || !options.sack_permitted));
        let bytes = match &expected.data {
            Some(data) => Some(data.clone()),
            None if expected.len() == 0 => Some(Vec::new()),
            None => self.world.bytes_of(real.flow, expected.bytes.unwrap_or(expected.range)),
        };
        same_flow
            && expected.flags == real.flags
            && expected.range == real.range
            && expected.ack == real.ack
            && expected.sack == real.sack
            && expected.window.is_none_or(|window| window == real.window)
            && syn_options
            && bytes.as_ref() == Some(&real.payload)
    }

    fn text(&self, real: &Sent) -> String {
        let at = if real.newest { String::new() } else { format!("@{}", real.flow) };
        let mut text =
            format!("send{at} {} {}", words::flags_text(real.flags), words::range_text(real.range));
        let mut add = |name: &str, value: String| {
            let _ = write!(text, " {name} {value}");
        };
        if let Some(ack) = real.ack {
            add("ack", ack.to_string());
        }
        if self.shows.window {
            add("win", real.window.to_string());
        }
        if !real.sack.is_empty() {
            let blocks: Vec<String> = real.sack.iter().map(|block| words::range_text(*block)).collect();
            add("sack", blocks.join(","));
        }
        if !real.payload.is_empty() {
            match self.world.place_of(real) {
                Some(place) if place == real.range => {}
                Some(place) => add("bytes", words::range_text(place)),
                None => add("data", format!("\"{}\"", String::from_utf8_lossy(&real.payload))),
            }
        }
        if self.shows.syn_options && real.flags.contains(TcpFlags::SYN) {
            let options = &real.options;
            text += &options.mss.map_or(" nomss".into(), |mss| format!(" mss {mss}"));
            text += &options.window_scale.map_or(" nowscale".into(), |scale| format!(" wscale {scale}"));
            text += if options.sack_permitted { "" } else { " nosack" };
        }
        text
    }
}

fn unexpected(notes: &BTreeMap<String, (i64, bool)>) -> impl Iterator<Item = String> + '_ {
    notes.iter().filter(|(_, (_, required))| *required).map(|(key, (count, _))| note_text(key, *count))
}

fn note_text(key: &str, count: i64) -> String {
    if count == 1 { key.to_owned() } else { format!("{key} {count}") }
}
