use super::*;
use crate::time::Duration;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const HOUR: u64 = 3_600_000_000_000;

/// What the wheel must do, told in the simplest way.
#[derive(Default)]
struct Model {
    deadlines: BTreeMap<u32, u64>,
}

impl Model {
    fn expire(&mut self, now: u64) -> BTreeSet<u32> {
        let due = self.deadlines.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
        self.deadlines.retain(|_, at| *at > now);
        due
    }
}

#[derive(Clone, Debug)]
enum Step {
    Schedule { key: u32, after: u64 },
    SchedulePast { key: u32, before: u64 },
    Cancel { key: u32 },
    Advance { by: u64 },
    ToNextDeadline,
}

/// Spans of every order of magnitude, from nanoseconds to days.
fn span() -> impl Strategy<Value = u64> {
    (0u32..48, any::<u64>()).prop_map(|(bits, random)| random & ((2 << bits) - 1))
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0u32..40;
    prop_oneof![
        6 => (key(), span()).prop_map(|(key, after)| Step::Schedule { key, after }),
        1 => (key(), span()).prop_map(|(key, before)| Step::SchedulePast { key, before }),
        2 => key().prop_map(|key| Step::Cancel { key }),
        3 => span().prop_map(|by| Step::Advance { by }),
        2 => Just(Step::ToNextDeadline),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn the_wheel_does_what_a_sorted_map_does(start in span(), steps in prop::collection::vec(step(), 1..200)) {
        let mut now = start;
        let mut wheel = TimerWheel::new(Instant::from_nanos(now));
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Schedule { key, after } => {
                    wheel.schedule(key, Instant::from_nanos(now + after));
                    model.deadlines.insert(key, now + after);
                }
                Step::SchedulePast { key, before } => {
                    let at = now.saturating_sub(before);
                    wheel.schedule(key, Instant::from_nanos(at));
                    model.deadlines.insert(key, at);
                }
                Step::Cancel { key } => {
                    wheel.cancel(key);
                    model.deadlines.remove(&key);
                }
                Step::Advance { .. } | Step::ToNextDeadline => {
                    now = match step {
                        Step::Advance { by } => now + by,
                        _ => wheel.next_deadline().map_or(now, |at| at.as_nanos().max(now)),
                    };
                    let mut expired = Vec::new();
                    wheel.expire(Instant::from_nanos(now), &mut expired);
                    let unique: BTreeSet<u32> = expired.iter().copied().collect();
                    prop_assert_eq!(unique.len(), expired.len(), "a key expired twice");
                    prop_assert_eq!(unique, model.expire(now));
                }
            }
            prop_assert_eq!(wheel.len(), model.deadlines.len());
            let earliest = model.deadlines.values().min().copied().map(Instant::from_nanos);
            prop_assert_eq!(wheel.next_deadline(), earliest);
            for key in 0..40 {
                let deadline = model.deadlines.get(&key).copied().map(Instant::from_nanos);
                prop_assert_eq!(wheel.deadline(key), deadline);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn with_many_keys_the_next_deadline_is_never_late_and_exact_after_one_early_wake(
        steps in prop::collection::vec((0u32..1000, 0u64..2_000_000_000, 0u64..40_000), 200..600),
    ) {
        let mut now = 0;
        let mut wheel = TimerWheel::new(Instant::ZERO);
        let mut model = Model::default();
        for key in 0..1000 {
            let at = 1_000_000_000 + u64::from(key) * 1000;
            wheel.schedule(key, Instant::from_nanos(at));
            model.deadlines.insert(key, at);
        }
        for (key, after, by) in steps {
            wheel.schedule(key, Instant::from_nanos(now + after));
            model.deadlines.insert(key, now + after);
            let earliest = model.deadlines.values().min().copied().unwrap();
            let told = wheel.next_deadline().unwrap().as_nanos();
            prop_assert!(told <= earliest, "{} is later than {}", told, earliest);
            let mut expired = Vec::new();
            if told < earliest && key % 50 == 0 && told >= now {
                now = told;
                wheel.expire(Instant::from_nanos(now), &mut expired);
                prop_assert_eq!(expired.len(), 0);
                prop_assert_eq!(wheel.next_deadline(), Some(Instant::from_nanos(earliest)));
            }
            now += by;
            wheel.expire(Instant::from_nanos(now), &mut expired);
            expired.sort_unstable();
            prop_assert_eq!(expired, model.expire(now).into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn one_early_wake_makes_the_next_deadline_exact() {
    let mut wheel = TimerWheel::new(Instant::ZERO);
    for key in 0..1000 {
        wheel.schedule(key, Instant::from_nanos(HOUR + u64::from(key)));
    }
    wheel.schedule(0, Instant::from_nanos(2 * HOUR));
    let early = wheel.next_deadline().expect("a bound");
    assert!(early < Instant::from_nanos(HOUR + 1), "{early:?} is not early");
    let mut expired = Vec::new();
    wheel.expire(early, &mut expired);
    assert_eq!(expired, []);
    assert_eq!(wheel.next_deadline(), Some(Instant::from_nanos(HOUR + 1)));
}

#[test]
fn the_ends_of_time_are_deadlines_too() {
    let mut wheel = TimerWheel::new(Instant::from_nanos(u64::MAX / 3));
    wheel.schedule(1, Instant::from_nanos(u64::MAX));
    wheel.schedule(0, Instant::ZERO);
    let mut expired = Vec::new();
    wheel.expire(Instant::from_nanos(u64::MAX / 3), &mut expired);
    assert_eq!(expired, [0]);
    assert_eq!(wheel.next_deadline(), Some(Instant::from_nanos(u64::MAX)));
    wheel.expire(Instant::from_nanos(u64::MAX - 1), &mut expired);
    assert_eq!(expired, [0]);
    wheel.expire(Instant::from_nanos(u64::MAX), &mut expired);
    assert_eq!(expired, [0, 1]);
    assert!(wheel.is_empty() && wheel.next_deadline().is_none());
}

#[test]
fn skipped_hours_take_as_many_steps_as_there_are_slots_in_use() {
    // Stepping through each tick of a year would take hours; this test would not end.
    let mut wheel = TimerWheel::new(Instant::ZERO);
    let mut expired = Vec::new();
    for jump in 1..=1000u64 {
        let now = Instant::from_nanos(jump * 9 * HOUR);
        wheel.schedule(7, now + Duration::from_secs(3600));
        wheel.expire(now + Duration::from_secs(3599), &mut expired);
        assert_eq!(expired.len() as u64, jump - 1);
        wheel.expire(now + Duration::from_secs(3600), &mut expired);
        assert_eq!(expired.len() as u64, jump);
    }
}

#[test]
fn moving_a_deadline_later_leaves_the_key_where_it_is_queued() {
    let mut wheel = TimerWheel::new(Instant::ZERO);
    wheel.schedule(0, Instant::from_millis(10));
    let queued = wheel.entries[0];
    for ms in 11..500 {
        wheel.schedule(0, Instant::from_millis(ms));
        assert_eq!((wheel.entries[0].slot, wheel.entries[0].queued_tick), (queued.slot, queued.queued_tick));
        assert_eq!(wheel.next_deadline(), Some(Instant::from_millis(ms)));
    }
    let mut expired = Vec::new();
    wheel.expire(Instant::from_nanos(498_999_999), &mut expired);
    assert_eq!(expired, []);
    wheel.expire(Instant::from_millis(499), &mut expired);
    assert_eq!(expired, [0]);
}
