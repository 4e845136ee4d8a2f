//! A hash that is the same in every run and on every worker, to spread clients evenly over ports, addresses and samples.
//!
//! It does not resist clients that choose their ports to collide: what it decides is bounded otherwise.

use crate::flow::Endpoint;
use std::net::IpAddr;

/// Mixes all bits of `value` into each other (the finaliser of SplitMix64).
pub(crate) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Hash of an address.
pub(crate) fn address(addr: IpAddr, seed: u64) -> u64 {
    match addr {
        IpAddr::V4(addr) => mix(mix(seed) ^ u64::from(addr.to_bits())),
        IpAddr::V6(addr) => {
            let bits = addr.to_bits();
            mix(mix(mix(!seed) ^ bits as u64) ^ (bits >> 64) as u64)
        }
    }
}

/// Hash of an address and a port.
pub(crate) fn endpoint(endpoint: Endpoint, seed: u64) -> u64 {
    mix(address(endpoint.addr, seed) ^ u64::from(endpoint.port))
}

/// A number below `bound` from a hash, without the bias and cost of a division.
pub(crate) const fn below(hash: u64, bound: u64) -> u64 {
    ((hash as u128 * bound as u128) >> 64) as u64
}
