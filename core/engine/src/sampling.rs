//! Which share of the clients is replayed (`-r`, `-g`).
//!
//! Owns the decision alone; it is a function of the client's address and port, so that a connection is either replayed whole
//! or not at all, whichever worker asks and however often.

use crate::flow::Endpoint;
use crate::mapping::spread;
use crate::time::Duration;

/// Keeps this decision independent of where the same hash sends the client.
const SEED: u64 = 0x5a3b_1e00;

/// How the share grows after the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SamplingRamp {
    /// The whole share from the start.
    #[default]
    Steady,
    /// One percent at the start, and one more each second until the share is reached (`-g`).
    Gradual,
}

/// Decides which connections are replayed.
#[derive(Clone, Copy, Debug)]
pub struct Sampler {
    percent: u8,
    ramp: SamplingRamp,
}

impl Sampler {
    /// A sampler that admits `percent` of all connections; more than 100 means all.
    pub const fn new(percent: u8, ramp: SamplingRamp) -> Self {
        Self { percent: if percent > 100 { 100 } else { percent }, ramp }
    }

    /// Whether the connection of `client` is replayed when it begins `since_start` after the program did. A client that is
    /// admitted once stays admitted: the share only grows.
    pub fn admits(&self, client: Endpoint, since_start: Duration) -> bool {
        let percent = match self.ramp {
            SamplingRamp::Steady => u64::from(self.percent),
            SamplingRamp::Gradual => u64::from(self.percent).min(since_start.as_secs().saturating_add(1)),
        };
        percent == 100 || spread::below(spread::endpoint(client, SEED), 100) < percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    /// 100,000 endpoints as real ones lie: few addresses, neighbouring ports.
    fn endpoints() -> impl Iterator<Item = Endpoint> {
        (0..100_000u32).map(|n| {
            let addr: IpAddr = match n % 2 {
                0 => Ipv4Addr::from(0x0a01_0000 + n / 1000).into(),
                _ => Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(n / 1000)).into(),
            };
            Endpoint::new(addr, 32_768 + (n % 1000) as u16)
        })
    }

    fn share(sampler: Sampler, since_start: Duration) -> f64 {
        endpoints().filter(|client| sampler.admits(*client, since_start)).count() as f64 / 1000.0
    }

    #[test]
    fn the_share_is_as_asked() {
        for percent in [0, 1, 10, 33, 50, 90, 99, 100] {
            let share = share(Sampler::new(percent, SamplingRamp::Steady), Duration::ZERO);
            assert!((share - f64::from(percent)).abs() < 0.6, "{share} instead of {percent}");
        }
        assert_eq!(share(Sampler::new(250, SamplingRamp::Steady), Duration::ZERO), 100.0);
    }

    #[test]
    fn a_gradual_share_grows_by_one_each_second_and_stops_where_asked() {
        let sampler = Sampler::new(40, SamplingRamp::Gradual);
        for (seconds, percent) in [(0, 1.0), (9, 10.0), (39, 40.0), (1000, 40.0)] {
            let share = share(sampler, Duration::from_secs(seconds));
            assert!((share - percent).abs() < 0.6, "{share} instead of {percent} after {seconds} s");
        }
        assert!(share(sampler, Duration::MAX) < 41.0);
    }

    #[test]
    fn a_client_once_admitted_stays_admitted() {
        let sampler = Sampler::new(30, SamplingRamp::Gradual);
        for client in endpoints().step_by(17) {
            let answers: Vec<bool> =
                (0..40).map(|s| sampler.admits(client, Duration::from_secs(s))).collect();
            assert!(answers.is_sorted(), "{client}: {answers:?}");
        }
    }
}
