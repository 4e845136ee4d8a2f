//! What a failing plugin costs: the session at fault, its instance, and the plugin when it fails too often.

use crate::guest::{WAT, component, load_bytes, native, quick, requests};
use std::time::{Duration, Instant};
use tcpcopy_engine::plugin::{AfterFault, Fault, Outcome, Output, PluginRunner, Span, Without};
use tcpcopy_plugin_host::{Configured, FaultKind, Limits, Module, OnError};

fn configured(limits: Limits) -> Configured {
    let module = load_bytes(&component(WAT, "0.1.0"), limits).expect("loads");
    module.configure(Vec::new()).expect("configures")
}

/// Runs one batch in a group of its own.
fn run(runner: &mut dyn PluginRunner, batch: &[(u64, &[u8])]) -> Result<Outcome, Fault> {
    let group = runner.join().expect("joins");
    let mut outcome = Outcome::default();
    let result = runner.run(group, &requests(batch), 1, &mut outcome);
    runner.leave(group);
    result.map(|()| outcome)
}

fn kinds(plugin: &Configured) -> Vec<(FaultKind, u64)> {
    plugin.report().faults.iter().map(|fault| (fault.kind, fault.count)).collect()
}

#[test]
fn each_failure_ends_the_session_entered_last_and_a_new_instance_works() {
    for (what, kind) in [
        (b"L", FaultKind::Deadline),
        (b"A", FaultKind::Memory),
        (b"T", FaultKind::Trap),
        (b"X", FaultKind::InvalidOutput),
        (b"K", FaultKind::InvalidOutput),
        (b"O", FaultKind::InvalidOutput),
    ] {
        let plugin = configured(quick());
        let mut runner = plugin.runner(0);
        let group = runner.join().expect("joins");
        let mut outcome = Outcome::default();
        runner.run(group, &requests(&[(1, b"xx")]), 1, &mut outcome).expect("runs");
        assert_eq!(outcome.actions.len(), 1);
        let fault = runner.run(group, &requests(&[(1, b"x"), (2, what)]), 1, &mut outcome);
        assert_eq!(fault, Err(Fault { session: Some(2), others: AfterFault::Rejoin }), "{kind}");
        // What was there stays, what failed gave nothing.
        assert_eq!((outcome.actions.len(), outcome.bytes.len()), (1, 3));
        runner.run(group, &requests(&[(3, b"x")]), 1, &mut outcome).expect("a new instance");
        assert_eq!(kinds(&plugin), [(kind, 1)]);
        assert_eq!(plugin.report().instances, 2);
    }
}

#[test]
fn a_trap_says_where() {
    let wat = WAT
        .replace("(then (unreachable))", "(then (call $trips))")
        .replace("(func $act ", "(func $trips (unreachable)) (func $act ");
    let module = load_bytes(&component(&wat, "0.1.0"), quick()).expect("loads");
    let plugin = module.configure(Vec::new()).expect("configures");
    run(&mut *plugin.runner(0), &[(1, b"T")]).expect_err("fails");
    let last = &plugin.report().faults[0].last;
    assert!(last.contains("unreachable") && last.contains("trips"), "{last}");
}

#[test]
fn a_deadline_is_kept_within_reason() {
    let plugin = configured(quick());
    let start = Instant::now();
    run(&mut *plugin.runner(0), &[(1, b"L")]).expect_err("fails");
    let taken = start.elapsed();
    // The thread's own time counts, so a busy machine may take longer; it never takes less than half.
    assert!(taken >= Duration::from_millis(20) && taken < Duration::from_secs(5), "{taken:?}");
}

#[test]
fn a_session_that_is_not_in_the_batch_is_not_blamed() {
    let wat = WAT.replace("(call $enter (local.get $session))", "(call $enter (i64.const 99))");
    let module = load_bytes(&component(&wat, "0.1.0"), quick()).expect("loads");
    let plugin = module.configure(Vec::new()).expect("configures");
    let fault = run(&mut *plugin.runner(0), &[(5, b"x"), (6, b"T")]).expect_err("fails");
    assert_eq!(fault.session, Some(5));
}

#[test]
fn too_many_faults_disable_by_policy() {
    for (on_error, without) in [
        (OnError::Drop, None),
        (OnError::Pass, Some(Without::PassThrough)),
        (OnError::Disable, Some(Without::GiveUp)),
        (OnError::Exit, Some(Without::GiveUp)),
    ] {
        let plugin = configured(Limits { faults_per_minute: 2, on_error, ..quick() });
        let (mut first, mut second) = (plugin.runner(0), plugin.runner(1));
        let waiting = second.join().expect("joins");
        for _ in 0..2 {
            let fault = run(&mut *first, &[(1, b"T")]).expect_err("fails");
            assert_eq!(fault.others, AfterFault::Rejoin);
        }
        let fault = run(&mut *first, &[(1, b"T")]).expect_err("fails");
        let mut outcome = Outcome::default();
        let other = second.run(waiting, &requests(&[(2, b"x")]), 1, &mut outcome);
        match without {
            None => {
                assert_eq!(fault.others, AfterFault::Rejoin);
                assert_eq!(other, Ok(()));
                assert_eq!(plugin.report().disabled, None);
            }
            Some(without) => {
                let disabled = AfterFault::Disabled(without);
                assert_eq!(fault.others, disabled);
                assert_eq!(other, Err(Fault { session: None, others: disabled }));
                assert_eq!(second.join(), Err(without));
                assert!(plugin.report().disabled.is_some_and(|why| why.contains("more than 2 times")));
            }
        }
        assert_eq!(plugin.must_exit().is_some(), on_error == OnError::Exit);
    }
}

#[test]
fn violations_count_as_faults() {
    let plugin = configured(Limits { faults_per_minute: 1, on_error: OnError::Pass, ..quick() });
    let mut runner = plugin.runner(0);
    runner.note_violation(1, "forwarded more than there is");
    assert!(runner.join().is_ok());
    runner.note_violation(1, "forwarded more than there is");
    assert_eq!(runner.join(), Err(Without::PassThrough));
    let report = plugin.report();
    assert_eq!(report.violations, 2);
    assert_eq!(report.faults[0].last, "forwarded more than there is");
}

#[test]
fn a_plugin_that_fails_only_later_at_its_start_ends_one_session_each_time() {
    // Memory is new with each instance, so an instance can't know; the host's random bytes are the same for the same seed only.
    let wat = WAT.replace(
        ";;CONFIGURE",
        "(call $random (i32.const 8) (i32.const 520))
         (if (i64.ne (i64.load (i32.load (i32.const 520))) (i64.const FIRST)) (then (unreachable)))",
    );
    // What the first instance gets is told by one that stops at another number.
    let first = first_random();
    let wat = wat.replace("FIRST", &first.to_string());
    let module = load_bytes(&component(&wat, "0.1.0"), quick()).expect("loads");
    let plugin = module.configure(Vec::new()).expect("the first instance starts");
    let fault = run(&mut *plugin.runner(0), &[(1, b"x"), (2, b"x")]).expect_err("no instance");
    assert_eq!(fault, Fault { session: Some(1), others: AfterFault::Rejoin });
    assert_eq!(plugin.report().instances, 0);
}

/// The first eight random bytes of the instance that `configure` makes, with the seed of the tests.
fn first_random() -> i64 {
    let wat = WAT.replace(
        ";;CONFIGURE",
        "(call $random (i32.const 8) (i32.const 520))
         (i64.store (i32.const 256) (i64.load (i32.load (i32.const 520))))
         (i32.store (i32.const 520) (i32.load (i32.const 256)))
         (i32.store (i32.const 528) (i32.load (i32.const 260)))
         (call $hex (i32.const 520) (i32.const 768))
         (call $hex (i32.const 528) (i32.const 776))
         (i32.store8 (i32.const 256) (i32.const 1))
         (i32.store (i32.const 260) (i32.const 768))
         (i32.store (i32.const 264) (i32.const 16))
         (return (i32.const 256))",
    );
    let wat = wat.replace(
        "(func $act ",
        "(func $hex (param $from i32) (param $to i32) (local $index i32) (local $digit i32)
           (loop $next
             (local.set $digit
               (i32.and
                 (i32.shr_u (i32.load (local.get $from)) (i32.mul (local.get $index) (i32.const 4)))
                 (i32.const 15)))
             (i32.store8
               (i32.add (local.get $to) (local.get $index))
               (i32.add (local.get $digit) (i32.const 65)))
             (local.set $index (i32.add (local.get $index) (i32.const 1)))
             (br_if $next (i32.lt_u (local.get $index) (i32.const 8)))))
         (func $act ",
    );
    let module = load_bytes(&component(&wat, "0.1.0"), quick()).expect("loads");
    let text = module.configure(Vec::new()).err().expect("refuses").to_string();
    let digits = text.rsplit(' ').next().expect("a text").as_bytes();
    assert_eq!(digits.len(), 16, "{text}");
    digits
        .iter()
        .enumerate()
        .fold(0_u64, |number, (index, digit)| number | u64::from(digit - b'A') << (4 * index)) as i64
}

#[test]
fn counts_reasons_and_random_bytes_reach_the_host() {
    let (_directory, library) = native(&[], false);
    let native = Module::load(&library, &crate::guest::loader(quick())).expect("loads");
    let native = native.configure(Vec::new()).expect("configures");
    let mut random = Vec::new();
    for plugin in [configured(quick()), configured(quick()), native] {
        let mut runner = plugin.runner(3);
        let outcome = run(&mut *runner, &[(1, b"C"), (2, b"G"), (1, b"C")]).expect("runs");
        assert_eq!(outcome.actions[1].output, Output::GiveUp(Span { start: 0, length: 3 }));
        let report = plugin.report();
        assert_eq!(report.counts, [("seen".to_owned(), 4)]);
        assert_eq!(report.gave_up, [("why".to_owned(), 1)]);
        let outcome = run(&mut *runner, &[(1, b"R")]).expect("runs");
        assert_eq!(outcome.bytes.len(), 8);
        random.push(outcome.bytes);
    }
    assert_eq!(random[0], random[1], "the same seed gives the same bytes");
    assert_eq!(random[0], random[2], "to both kinds");
    let other = configured(quick());
    let outcome = run(&mut *other.runner(4), &[(1, b"R")]).expect("runs");
    assert_ne!(outcome.bytes, random[0], "each worker has its own");
}
