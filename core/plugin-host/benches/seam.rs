//! What a plugin costs per event: nanoseconds, for batches and payloads of several sizes, Wasm and native, beside the same work
//! behind a trait object in this process.
//!
//! `cargo bench -p tcpcopy-plugin-host`; the numbers are medians of rounds in which the kinds take turns.

#[path = "../tests/guest/mod.rs"]
mod guest;

use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::path::Path;
use tcpcopy_engine::plugin::{
    Action, Event, EventBatch, Fault, Group, Input, Inputs, Outcome, Output, PluginRunner, SessionId, Without,
};
use tcpcopy_plugin_host::{Limits, Module, settings};

/// Rounds of each measurement.
const ROUNDS: usize = 15;
/// Events of a round.
const EVENTS: usize = 20_000;

/// Nanoseconds that this thread has used: other work of the machine does not count.
fn used() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Forwards in this process.
struct InProcess;

impl PluginRunner for InProcess {
    fn inputs(&self) -> Inputs {
        Inputs::NONE
    }

    fn join(&mut self) -> Result<Group, Without> {
        Ok(Group(0))
    }

    fn leave(&mut self, _group: Group) {}

    fn run(
        &mut self,
        _group: Group,
        batch: &EventBatch,
        _now_nanos: u64,
        outcome: &mut Outcome,
    ) -> Result<(), Fault> {
        for event in &batch.events {
            if let Input::Request(span) = event.input {
                outcome.actions.push(Action { session: event.session, output: Output::Forward(span.length) });
            }
        }
        Ok(())
    }

    fn note_violation(&mut self, _session: SessionId, _what: &'static str) {}
}

fn main() {
    let wasm = guest::load_bytes(&guest::component(guest::WAT, "0.1.0"), Limits::default()).expect("loads");
    let (_directory, library) = guest::native(&[], true);
    let native = Module::load(&library, &guest::loader(Limits::default())).expect("loads");
    let mut runners: Vec<(&str, Box<dyn PluginRunner>)> = vec![
        ("in process", Box::new(InProcess)),
        ("native", native.configure(Vec::new()).expect("configures").runner(0)),
        ("wasm", wasm.configure(Vec::new()).expect("configures").runner(0)),
    ];
    println!("ns per event           in process    native      wasm   wasm/native");
    for payload in [64, 1460, 16384] {
        for size in [1, 8, 32] {
            let bytes = vec![b'x'; payload];
            let requests: Vec<_> = (0..size).map(|session| (session as u64, &bytes[..])).collect();
            let batch = guest::requests(&requests);
            let times = measure(&mut runners, &batch);
            println!(
                "{payload:5} bytes, batch {size:2}     {:9.1} {:9.1} {:9.1} {:13.1}",
                times[0],
                times[1],
                times[2],
                times[2] / times[1]
            );
        }
    }
    // The same session throughout: what naming each session with `enter` costs is the difference.
    let batch = guest::requests(&[(1, &[b'x'; 64][..]); 32]);
    let times = measure(&mut runners, &batch);
    println!("   64 bytes, batch 32, one session {:5.1} {:9.1} {:9.1}", times[0], times[1], times[2]);
    with_sdk();
    instances("wasm", &mut runners[2].1);
    instances("native", &mut runners[1].1);
}

/// A plugin written with the SDK, which looks for the end of a line: 64 bytes a request, each in its own session.
fn with_sdk() {
    let (wasm, native) = guest::sdk_plugin();
    let runner = |path: &Path| {
        let module = Module::load(path, &guest::loader(Limits::default())).expect("loads");
        let set = settings::resolve(module.descriptor(), None, &[]).expect("defaults");
        let mut runner = module.configure(set).expect("configures").runner(0);
        let group = runner.join().expect("joins");
        let mut openings = EventBatch::default();
        for session in 0..32 {
            openings.events.push(Event { session, at: 1, input: Input::Opened(session as u32) });
            openings.openings.push(guest::opening());
        }
        runner.run(group, &openings, 1, &mut Outcome::default()).expect("runs");
        runner
    };
    let mut runners = vec![("native", runner(&native)), ("wasm", runner(&wasm))];
    let mut line = [b'x'; 64];
    line[63] = b'\n';
    for size in [1, 8, 32] {
        let requests: Vec<_> = (0..size).map(|session| (session, &line[..])).collect();
        let times = measure(&mut runners, &guest::requests(&requests));
        println!(
            "SDK, 64 bytes, batch {size:2}          {:9.1} {:9.1} {:13.1}",
            times[0],
            times[1],
            times[1] / times[0]
        );
    }
}

fn measure(runners: &mut [(&str, Box<dyn PluginRunner>)], batch: &EventBatch) -> Vec<f64> {
    let calls = EVENTS / batch.events.len();
    let mut times = vec![Vec::new(); runners.len()];
    let groups: Vec<Group> = runners.iter_mut().map(|(_, runner)| runner.join().expect("joins")).collect();
    let mut outcome = Outcome::default();
    for _ in 0..ROUNDS {
        for ((_, runner), (times, group)) in runners.iter_mut().zip(times.iter_mut().zip(&groups)) {
            let start = used();
            for _ in 0..calls {
                outcome.clear();
                runner.run(*group, black_box(batch), 1, &mut outcome).expect("runs");
                black_box(&outcome);
            }
            times.push((used() - start) as f64 / (calls * batch.events.len()) as f64);
        }
    }
    for ((_, runner), group) in runners.iter_mut().zip(&groups) {
        runner.leave(*group);
    }
    times
        .into_iter()
        .map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
        .collect()
}

/// What short connections cost: joined, one request, left; once with instances kept, once with all groups in use by turns.
fn instances(name: &str, runner: &mut Box<dyn PluginRunner>) {
    let batch = guest::requests(&[(1, b"x")]);
    let mut outcome = Outcome::default();
    let mut session = |runner: &mut Box<dyn PluginRunner>| {
        let group = runner.join().expect("joins");
        outcome.clear();
        runner.run(group, &batch, 1, &mut outcome).expect("runs");
        group
    };
    let start = used();
    for _ in 0..2000 {
        let group = session(runner);
        runner.leave(group);
    }
    let kept = (used() - start) / 2000;
    // Sixteen groups' worth of sessions come and go together: all but the spare instances are made anew.
    let capacity = if name == "wasm" { 64 } else { 1024 };
    let (mut made, mut cost) = (0, 0);
    for _ in 0..20 {
        let mut groups = Vec::new();
        for index in 0..16 * capacity {
            if index % capacity == 0 {
                let start = used();
                groups.push(session(runner));
                cost += used() - start;
                made += 1;
            } else {
                groups.push(runner.join().expect("joins"));
            }
        }
        for group in groups {
            runner.leave(group);
        }
    }
    println!(
        "{name}: a session of one request {kept} ns; the first of a group, mostly with a new instance {} ns",
        cost / made
    );
}
