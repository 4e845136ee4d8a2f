//! What capture costs while the worker is busy and its doorbell full: time of the sender, in whose softirq it happens.

mod common;

use common::{Lab, ring};
use std::time::{Duration, Instant};
use tcpcopy_net::source::PacketSource;

const PACKETS: u32 = 60_000;

/// Nanoseconds for one datagram through the veth pair while nobody waits, at the best of several rounds.
fn cost(lab: &Lab, source: Option<&mut dyn PacketSource>) -> f64 {
    let socket = common::sender_socket(lab, "10.77.0.2");
    let mut source = source;
    let mut best = Duration::MAX;
    for _ in 0..6 {
        let start = Instant::now();
        for _ in 0..PACKETS / 6 {
            while socket.send(&[0; 64]).is_err() {}
        }
        best = best.min(start.elapsed());
        // Drained outside the measurement, and without `prepare_wait`: a busy worker leaves the doorbell full.
        if let Some(source) = source.as_deref_mut() {
            source.drain(usize::MAX, &mut |_| {}).unwrap();
        }
    }
    best.as_nanos() as f64 / f64::from(PACKETS / 6)
}

#[test]
fn capture_with_a_full_doorbell_costs_little() {
    let Some(lab) = Lab::new() else { return };
    // A bound listener, so that the kernel doesn't answer each datagram with an error.
    let _listener = lab.receiving(|| std::net::UdpSocket::bind("10.77.0.2:9999").unwrap());
    let alone = cost(&lab, None);
    let mut source = ring(&lab, &["veth-b"], "udp dst port 9999");
    let captured = cost(&lab, Some(&mut source));
    assert_eq!(source.statistics().received, u64::from(PACKETS));
    println!("a datagram: {alone:.0} ns, captured {captured:.0} ns");
    // Filter, copy and doorbell together stay well below what the packet itself costs on any machine.
    assert!(captured < 3.0 * alone + 2_000.0, "{alone:.0} ns alone, {captured:.0} ns captured");
}
