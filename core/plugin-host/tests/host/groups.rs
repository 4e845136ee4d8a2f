//! Which sessions share an instance, and when instances are made.

use crate::guest::{WAT, component, load_bytes, opening, quick, requests};
use tcpcopy_engine::plugin::{Action, Event, Group, Input, Outcome, Output, Span};
use tcpcopy_plugin_host::{Limits, Sharing};

fn limits() -> Limits {
    Limits { sessions_per_instance: 2, ..quick() }
}

#[test]
fn groups_fill_and_empty() {
    let module = load_bytes(&component(WAT, "0.1.0"), limits()).expect("loads");
    let plugin = module.configure(Vec::new()).expect("configures");
    let mut runner = plugin.runner(0);
    let groups: Vec<_> = (0..5).map(|_| runner.join().expect("joins")).collect();
    assert_eq!(groups, [0, 0, 1, 1, 2].map(Group));
    assert_eq!(plugin.report().instances, 0, "none is made before it is needed");
    let mut outcome = Outcome::default();
    for group in 0..3 {
        runner.run(Group(group), &requests(&[(1, b"x")]), 1, &mut outcome).expect("runs");
    }
    assert_eq!(plugin.report().instances, 3);
    runner.leave(Group(1));
    assert_eq!(runner.join(), Ok(Group(1)), "the lowest with room");
    for group in groups {
        runner.leave(group);
    }
    // Two instances stay, the third is made anew.
    for expected in [0, 0, 1, 1, 2].map(Group) {
        let group = runner.join().expect("joins");
        assert_eq!(group, expected);
        runner.run(group, &requests(&[(1, b"x")]), 1, &mut outcome).expect("runs");
    }
    assert_eq!(plugin.report().instances, 4);
}

#[test]
fn leaving_too_often_and_late_events_do_nothing() {
    let module = load_bytes(&component(WAT, "0.1.0"), limits()).expect("loads");
    let plugin = module.configure(Vec::new()).expect("configures");
    let mut runner = plugin.runner(0);
    runner.leave(Group(0));
    let group = runner.join().expect("joins");
    runner.leave(group);
    runner.leave(group);
    let mut late = requests(&[]);
    late.events.push(Event { session: 1, at: 1, input: Input::Ended });
    let mut outcome = Outcome::default();
    assert_eq!(runner.run(group, &late, 1, &mut outcome), Ok(()));
    assert_eq!(runner.run(Group(77), &late, 1, &mut outcome), Ok(()));
    assert_eq!(plugin.report().instances, 0);
    assert_eq!(runner.join(), Ok(Group(0)));
    assert_eq!(runner.join(), Ok(Group(0)));
    assert_eq!(runner.join(), Ok(Group(1)));
}

#[test]
fn sessions_that_belong_together_share_one_instance() {
    let wat = WAT
        .replace("(i32.store8 (i32.const 261) (i32.const 0))", "(i32.store8 (i32.const 261) (i32.const 1))");
    let module = load_bytes(&component(&wat, "0.1.0"), limits()).expect("loads");
    let plugin = module.configure(Vec::new()).expect("configures");
    assert_eq!(plugin.needs().sharing, Sharing::Together);
    let mut runner = plugin.runner(0);
    for _ in 0..1000 {
        assert_eq!(runner.join(), Ok(Group(0)));
    }
}

#[test]
fn actions_are_appended_and_their_spans_moved() {
    let module = load_bytes(&component(WAT, "0.1.0"), limits()).expect("loads");
    let plugin = module.configure(Vec::new()).expect("configures");
    let mut runner = plugin.runner(0);
    let group = runner.join().expect("joins");
    let mut outcome = Outcome::default();
    let mut batch = requests(&[(1, b"abc"), (2, b"G")]);
    batch.openings.push(opening());
    batch.events.insert(0, Event { session: 1, at: 1, input: Input::Opened(0) });
    for _ in 0..2 {
        runner.run(group, &batch, 1, &mut outcome).expect("runs");
    }
    let act = |session, output| Action { session, output };
    assert_eq!(
        outcome.actions,
        [
            act(1, Output::Forward(3)),
            act(2, Output::GiveUp(Span { start: 0, length: 3 })),
            act(1, Output::Forward(3)),
            act(2, Output::GiveUp(Span { start: 3, length: 3 })),
        ]
    );
    assert_eq!(outcome.bytes, b"whywhy");
}
