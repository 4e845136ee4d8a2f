//! A thousand seeds of the simulation, in parts that run beside each other; and the verdict put to the test.

use std::ops::Range;
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_simulation::client::Client;
use tcpcopy_simulation::profile::Profile;
use tcpcopy_simulation::rng::Rng;
use tcpcopy_simulation::run;
use tcpcopy_simulation::server::Connection;
use tcpcopy_simulation::trace::Keep;
use tcpcopy_simulation::verdict::{Delivered, Expected};

/// Last packets shown of a failing seed; all of them are a command away.
const PACKETS_SHOWN: usize = 200;

fn run_seeds(seeds: Range<u64>) {
    let failed: Vec<u64> = seeds.filter(|seed| !run(*seed, Keep::Nothing).violations.is_empty()).collect();
    let Some(&first) = failed.first() else { return };
    let outcome = run(first, Keep::Lines);
    let skip = outcome.packets.len().saturating_sub(PACKETS_SHOWN);
    for line in &outcome.packets[skip..] {
        println!("{line}");
    }
    panic!(
        "seeds {failed:?} failed. Seed {first}: {}\n{}\nall packets: \
         cargo run -p tcpcopy-simulation --bin simulate -- --seeds {first}",
        outcome.summary,
        outcome.violations.join("\n")
    );
}

macro_rules! parts {
    ($($name:ident $seeds:expr;)*) => {
        $(#[test]
        fn $name() {
            run_seeds($seeds);
        })*
    };
}

parts! {
    seeds_0_to_249 0..250;
    seeds_250_to_499 250..500;
    seeds_500_to_749 500..750;
    seeds_750_to_999 750..1000;
}

#[test]
fn a_seed_runs_the_same_way_each_time() {
    let (one, two) = (run(57, Keep::Lines), run(57, Keep::Lines));
    assert!(one.packets.len() > 1000, "{} packets", one.packets.len());
    assert!(one.packets == two.packets, "the packets of two runs differ");
    assert_eq!(one.summary, two.summary);
}

fn client() -> Client {
    let mut rng = Rng::new(2);
    let mut profile = Profile::new(0, &mut rng);
    profile.requests = 20;
    loop {
        let online = Endpoint::new([10, 9, 0, 1].into(), 8000);
        let client = Client::new(3, 0, online, 0, &profile, &mut rng);
        if client.requests.len() >= 6 {
            return client;
        }
    }
}

/// A connection on which the server read these requests.
fn read(client: &Client, numbers: &[usize]) -> Connection {
    let mut connection = Connection::default();
    for number in numbers {
        connection.read.extend(&client.stream[client.requests[*number].bytes.clone()]);
    }
    connection
}

#[test]
fn the_verdict_finds_repeats_disorder_and_strange_bytes() {
    let client = client();
    let of = |connections: &[Connection]| Delivered::of(&client, connections, Expected::default());
    let good = of(&[read(&client, &[0, 1]), read(&client, &[3, 4])]).expect("nothing is wrong");
    assert!(good.complete.iter().eq(&[0, 1, 3, 4]) && good.partial.is_empty());

    assert!(of(&[read(&client, &[0, 1, 1])]).unwrap_err().contains("twice"));
    assert!(of(&[read(&client, &[0, 1]), read(&client, &[1])]).unwrap_err().contains("twice"));
    assert!(of(&[read(&client, &[0, 3]), read(&client, &[2])]).unwrap_err().contains("out of order"));

    let mut half = read(&client, &[0, 1]);
    half.read.pop();
    let begun = of(&[half.clone()]).expect("half a request may end a connection");
    assert!(begun.partial.contains(&1) && !begun.complete.contains(&1));
    assert!(
        of(&[half.clone(), read(&client, &[1])]).unwrap_err().contains("twice"),
        "begun on one, sent on another"
    );
    half.read.extend(&read(&client, &[2]).read);
    assert!(of(&[half]).is_err(), "bytes behind half a request");

    let mut flipped = read(&client, &[0]);
    *flipped.read.last_mut().expect("a request has bytes") ^= 1;
    assert!(of(&[flipped]).unwrap_err().contains("differs"));
    let mut late = read(&client, &[0]);
    late.read.drain(..1);
    assert!(of(&[late]).is_err(), "a request without its first byte");
}
