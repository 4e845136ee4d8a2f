use super::*;
use crate::time::Duration;

fn sender() -> Sender {
    Sender::new(1000, 100_000, RttEstimator::default())
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn drain(sender: &mut Sender, now: Instant) -> Vec<(u64, usize, bool)> {
    std::iter::from_fn(|| sender.poll(now)).map(|p| (p.offset, p.len, p.again)).collect()
}

fn acknowledge(sender: &mut Sender, offset: u64, now: Instant) -> Acknowledged {
    sender.on_acknowledgement(offset, 100_000, &SmallVec::new(), Purity::Pure, now)
}

#[test]
fn segments_keep_the_clients_boundaries_and_the_targets_size() {
    let mut s = sender();
    s.push(&[1; 1500], Boundary::Pushed);
    s.push(&[2; 10], Boundary::Pushed);
    s.push(&[3; 5], Boundary::Open);
    s.push(&[4; 5], Boundary::Pushed);
    let plans: Vec<_> = std::iter::from_fn(|| s.poll(at(0))).collect();
    let lens: Vec<_> = plans.iter().map(|p| (p.len, p.push)).collect();
    assert_eq!(lens, [(1000, false), (500, true), (10, true), (10, true)]);
}

#[test]
fn time_out_sends_everything_again_and_backs_off() {
    let mut s = sender();
    s.push(&[1; 2500], Boundary::Pushed);
    assert_eq!(drain(&mut s, at(0)).len(), 3);
    assert_eq!(s.deadline(), Some(at(1000)));
    assert_eq!(s.on_timer(at(999)), TimerOutcome::None);
    assert_eq!(s.on_timer(at(1000)), TimerOutcome::Retransmit);
    assert_eq!(drain(&mut s, at(1000)), [(0, 1000, true)], "one segment after a time-out");
    assert_eq!(s.deadline(), Some(at(3000)));
    assert_eq!(acknowledge(&mut s, 1000, at(1001)).bytes, 1000);
    assert_eq!(drain(&mut s, at(1001)), [(1000, 1000, true), (2000, 500, true)], "then slow start");
    acknowledge(&mut s, 2500, at(1002));
    assert_eq!((s.deadline(), s.is_drained()), (None, true));
}

#[test]
fn three_duplicates_send_the_hole_once() {
    let mut s = sender();
    s.push(&[1; 6000], Boundary::Pushed);
    assert_eq!(drain(&mut s, at(0)).len(), 6);
    acknowledge(&mut s, 1000, at(1));
    for _ in 0..2 {
        acknowledge(&mut s, 1000, at(1));
        assert!(drain(&mut s, at(1)).is_empty());
    }
    acknowledge(&mut s, 1000, at(1));
    assert_eq!(drain(&mut s, at(1)), [(1000, 1000, true)]);
    acknowledge(&mut s, 1000, at(1));
    assert!(drain(&mut s, at(1)).is_empty(), "the same hole is not sent twice");
    acknowledge(&mut s, 3000, at(2));
    assert_eq!(drain(&mut s, at(2)), [(3000, 1000, true)], "a partial acknowledgement shows the next hole");
}

#[test]
fn selective_acknowledgements_show_the_holes() {
    let mut s = sender();
    s.push(&[1; 8000], Boundary::Pushed);
    drain(&mut s, at(0));
    let sack: SmallVec<[(u64, u64); 4]> = SmallVec::from_slice(&[(1000, 2000), (3000, 6000)]);
    s.on_acknowledgement(0, 100_000, &sack, Purity::Pure, at(1));
    assert_eq!(drain(&mut s, at(1)), [(0, 1000, true)]);
    s.on_acknowledgement(0, 100_000, &sack, Purity::Pure, at(1));
    s.on_acknowledgement(1000, 100_000, &sack, Purity::Pure, at(2));
    assert_eq!(drain(&mut s, at(2)), [(2000, 1000, true)]);
}

#[test]
fn a_closed_window_is_probed_and_an_opened_one_used() {
    let mut s = Sender::new(1000, 500, RttEstimator::default());
    s.push(&[1; 1500], Boundary::Pushed);
    assert_eq!(drain(&mut s, at(0)), [(0, 500, false)]);
    s.on_acknowledgement(500, 0, &SmallVec::new(), Purity::Pure, at(10));
    assert!(drain(&mut s, at(10)).is_empty());
    s.settle_timer(at(10));
    let first = s.deadline().expect("persist timer");
    assert_eq!(s.on_timer(first), TimerOutcome::Probe);
    let probe = s.poll(first).expect("probe");
    assert!(probe.probe && probe.len == 0);
    let second = s.deadline().expect("persist timer again");
    assert!(second.saturating_since(first) > first.saturating_since(at(10)));
    s.on_acknowledgement(500, 10_000, &SmallVec::new(), Purity::Pure, second);
    assert_eq!(drain(&mut s, second), [(500, 1000, false)]);
    assert!(s.deadline().is_some());
}

#[test]
fn the_fin_follows_the_data_and_is_sent_again() {
    let mut s = sender();
    s.push(b"bye", Boundary::Open);
    s.close();
    let plan = s.poll(at(0)).expect("data with FIN");
    assert!(plan.fin && plan.push && plan.len == 3);
    assert_eq!(acknowledge(&mut s, 3, at(1)), Acknowledged { bytes: 3, fin: false, beyond: false });
    let due = s.deadline().expect("the FIN is not acknowledged");
    assert_eq!(s.on_timer(due), TimerOutcome::Retransmit);
    let again = s.poll(due).expect("FIN");
    assert!(again.fin && again.again && again.len == 0);
    assert!(acknowledge(&mut s, 4, due).fin);
    assert_eq!((s.is_closed(), s.deadline()), (true, None));
    assert!(s.poll(due).is_none());
}

#[test]
fn what_was_never_sent_can_not_be_acknowledged() {
    let mut s = sender();
    s.push(b"abc", Boundary::Pushed);
    assert!(acknowledge(&mut s, 1, at(0)).beyond);
    drain(&mut s, at(0));
    assert_eq!(acknowledge(&mut s, 3, at(0) + Duration::from_millis(1)).bytes, 3);
}
