//! Who is the target of a captured packet, and which address and port plays its client.
//!
//! Owns the transfers of `-x` and the choice of flow keys (`-c`, `-n`, `-f`, `-H`). Leaves to the flow table which keys are
//! in use, and to the sink how a target is reached (next hops, MAC addresses).

mod pool;
pub(crate) mod spread;

pub use pool::{ClientPool, ClientRange, Family, PoolError};

use crate::flow::{Endpoint, FlowKey};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most copies of each connection (`-n`).
pub const MAX_COPIES: u16 = 1023;
/// The lowest port that is given to a client; lower ones stay if the real client had them.
pub const MIN_PORT: u16 = 1024;

/// Addresses of the pool that are tried for one session.
const ADDRESSES_TRIED: u64 = 64;
/// Ports tried at random on each of them.
const RANDOM_PORTS_TRIED: u64 = 8;
/// Addresses whose every port is tried after that.
const ADDRESSES_SEARCHED: u64 = 4;

const ADDRESS_SEED: u64 = 1;
const PORT_SEED: u64 = 2;

/// One item of `-x`: packets to the online server's port are replayed to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The online server's address; `None` stands for any.
    pub online: Option<IpAddr>,
    /// The online server's port.
    pub online_port: u16,
    /// Where to.
    pub target: Endpoint,
}

/// What the mapping depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingOptions {
    /// Items of `-x`; of several that fit a packet equally well, the first counts.
    pub transfers: Vec<Transfer>,
    /// Addresses that play the clients (`-c`); without it they keep their own.
    pub pool: Option<ClientPool>,
    /// Copies of each connection (`-n`), 1 to [`MAX_COPIES`].
    pub copies: u16,
    /// Number that sets the ports of several `tcpcopy` instances apart (`-f`); 0 leaves ports as they are.
    pub factor: u16,
    /// Address that replaces an IPv4 client on the loopback (`-H`).
    pub localhost_v4: Option<Ipv4Addr>,
    /// Address that replaces an IPv6 client on the loopback (`-H`).
    pub localhost_v6: Option<Ipv6Addr>,
    /// This worker's number, below `workers`.
    pub worker: u16,
    /// Number of workers, at least 1.
    pub workers: u16,
}

impl Default for MappingOptions {
    /// No transfer; clients keep their addresses; one copy, one worker.
    fn default() -> Self {
        Self {
            transfers: Vec::new(),
            pool: None,
            copies: 1,
            factor: 0,
            localhost_v4: None,
            localhost_v6: None,
            worker: 0,
            workers: 1,
        }
    }
}

/// Finds targets, and gives out flow keys that no two live sessions share.
#[derive(Clone, Debug)]
pub struct Mapper {
    options: MappingOptions,
    ports: PortSet,
    /// How often the capture was replayed before.
    pass: u32,
}

impl Mapper {
    /// A mapper for one worker. Numbers outside their range are brought into it.
    pub fn new(mut options: MappingOptions) -> Self {
        options.copies = options.copies.clamp(1, MAX_COPIES);
        options.workers = options.workers.max(1);
        options.worker %= options.workers;
        let ports = PortSet::new(options.worker, options.workers);
        Self { options, ports, pass: 0 }
    }

    /// The capture is replayed again, for the time of this number: its clients get other ports than before.
    pub const fn set_pass(&mut self, pass: u32) {
        self.pass = pass;
    }

    /// The options, as brought into range.
    pub fn options(&self) -> &MappingOptions {
        &self.options
    }

    /// Number of copies of each connection, 1 to [`MAX_COPIES`].
    pub fn copies(&self) -> u16 {
        self.options.copies
    }

    /// The transfer for what `client` sends to `online`, if there is one.
    ///
    /// One that names the online address goes before one that does not. The target must be of a family that the client has
    /// once it is mapped. A packet to a target's own address and port fits no transfer without an online address, so
    /// that what is replayed is not captured and replayed again.
    pub fn transfer(&self, client: IpAddr, online: Endpoint) -> Option<&Transfer> {
        let of_port = || {
            let transfers = self.options.transfers.iter();
            transfers.filter(move |transfer| transfer.online_port == online.port)
        };
        let fits = |transfer: &&Transfer| self.may_reach(client, Family::of(transfer.target.addr));
        of_port().filter(|transfer| transfer.online == Some(online.addr)).find(fits).or_else(|| {
            if self.is_target(online) {
                return None;
            }
            of_port().filter(|transfer| transfer.online.is_none()).find(fits)
        })
    }

    /// Whether `endpoint` is the target of a transfer.
    pub fn is_target(&self, endpoint: Endpoint) -> bool {
        self.options.transfers.iter().any(|transfer| transfer.target == endpoint)
    }

    fn may_reach(&self, client: IpAddr, family: Family) -> bool {
        match &self.options.pool {
            Some(pool) => !pool.is_empty(family),
            None => self.own_address(client, family).is_some(),
        }
    }

    /// Whether a client on the loopback can be played: with a pool, with an address that stands for the host (`-H`), or towards
    /// a target that is on the loopback itself.
    pub fn may_play_loopback(&self) -> bool {
        self.options.localhost_v4.is_some()
            || self.options.localhost_v6.is_some()
            || self.options.pool.is_some()
            || self.options.transfers.iter().any(|transfer| transfer.target.addr.is_loopback())
    }

    /// The address that a client has at a target of `family` when there is no pool: its own, or on the loopback the one that
    /// stands for the host, which may be of the other family.
    fn own_address(&self, client: IpAddr, family: Family) -> Option<IpAddr> {
        let localhost = match family {
            Family::V4 => self.options.localhost_v4.map(IpAddr::from),
            Family::V6 => self.options.localhost_v6.map(IpAddr::from),
        };
        match localhost {
            Some(localhost) if client.is_loopback() => Some(localhost),
            _ => (Family::of(client) == family).then_some(client),
        }
    }

    /// A flow key for a session of `client` to `target` that `is_used` does not know.
    ///
    /// The first copy keeps the client's own address and port where it can: with neither pool nor factor, and with several workers
    /// only on the one that owns the port. Every
    /// other session has its address chosen by the client's address and its port by client, copy and factor; if that is
    /// taken, other ports are tried, then other addresses of the pool. `attempt_seed` tells the attempts of one session apart: 0
    /// for its first connection; any other gives another first choice than the client's own port.
    ///
    /// With several workers each has the ports that its number is the remainder of, so two can't give the same key. No target's
    /// address is ever given to a client. The same arguments give the same key.
    ///
    /// Returns `None` when nothing is free. All ports are searched of up to four addresses, and some on 64; a larger pool
    /// counts as full when these are.
    pub fn allocate(
        &self,
        client: Endpoint,
        target: Endpoint,
        copy: u16,
        attempt_seed: u64,
        is_used: &mut dyn FnMut(&FlowKey) -> bool,
    ) -> Option<FlowKey> {
        let family = Family::of(target.addr);
        let own = match &self.options.pool {
            Some(_) => None,
            None => Some(self.own_address(client.addr, family)?),
        };
        let mut free = |addr: IpAddr, port: u16| {
            let key = FlowKey { client: Endpoint::new(addr, port), target };
            (!is_used(&key)).then_some(key)
        };

        if let Some(addr) = own.filter(|addr| self.is_client_address(*addr, target))
            && (copy, self.options.factor, attempt_seed, self.pass) == (0, 0, 0, 0)
            && client.port % self.options.workers == self.options.worker
            && client.port != 0
            && let Some(key) = free(addr, client.port)
        {
            return Some(key);
        }

        let seed = self.port_seed(client, copy, attempt_seed);
        for addr in self.addresses(client, target, own).take(ADDRESSES_TRIED as usize) {
            let seed = spread::address(addr, seed);
            let mut ports =
                (0..RANDOM_PORTS_TRIED).filter_map(|n| self.ports.at_random(spread::mix(seed ^ n)));
            let key = ports.by_ref().filter(|port| *port != client.port).find_map(|port| free(addr, port));
            if key.is_some() {
                return key;
            }
        }
        for addr in self.addresses(client, target, own).take(ADDRESSES_SEARCHED as usize) {
            let key = self.ports.all_from(spread::address(addr, seed)).find_map(|port| free(addr, port));
            if key.is_some() {
                return key;
            }
        }
        None
    }

    fn port_seed(&self, client: Endpoint, copy: u16, attempt_seed: u64) -> u64 {
        let choice = u64::from(self.pass) << 32 | u64::from(copy) << 16 | u64::from(self.options.factor);
        spread::mix(spread::endpoint(client, PORT_SEED ^ choice << 8) ^ attempt_seed)
    }

    /// The addresses that may play the client, the preferred one first.
    fn addresses(
        &self,
        client: Endpoint,
        target: Endpoint,
        own: Option<IpAddr>,
    ) -> impl Iterator<Item = IpAddr> + '_ {
        let family = Family::of(target.addr);
        let pool = self.options.pool.as_ref().filter(|_| own.is_none());
        let len = pool.map_or(0, |pool| pool.len(family));
        let first = spread::below(spread::address(client.addr, ADDRESS_SEED), len);
        let of_pool = (0..len).filter_map(move |n| pool?.get(family, (first + n) % len));
        own.into_iter().chain(of_pool).filter(move |addr| self.is_client_address(*addr, target))
    }

    /// Whether `addr` is no target's: a packet from the target to itself would go nowhere, or worse.
    fn is_client_address(&self, addr: IpAddr, target: Endpoint) -> bool {
        addr != target.addr && self.options.transfers.iter().all(|transfer| transfer.target.addr != addr)
    }
}

/// The ports that one worker may give: those from [`MIN_PORT`] on with a certain remainder.
#[derive(Clone, Copy, Debug)]
struct PortSet {
    first: u32,
    step: u32,
    len: u32,
}

impl PortSet {
    fn new(worker: u16, workers: u16) -> Self {
        let (worker, step) = (u32::from(worker), u32::from(workers));
        let min = u32::from(MIN_PORT);
        let first = min + (worker + step - min % step) % step;
        let len = (u32::from(u16::MAX) + step).saturating_sub(first) / step;
        Self { first, step, len }
    }

    fn get(&self, index: u32) -> Option<u16> {
        if index < self.len { u16::try_from(self.first + index * self.step).ok() } else { None }
    }

    /// One port by a hash.
    fn at_random(&self, hash: u64) -> Option<u16> {
        self.get(spread::below(hash, u64::from(self.len)) as u32)
    }

    /// All ports, beginning at one by a hash.
    fn all_from(self, hash: u64) -> impl Iterator<Item = u16> {
        let start = spread::below(hash, u64::from(self.len)) as u32;
        (0..self.len).filter_map(move |n| self.get((start + n) % self.len))
    }
}

#[cfg(test)]
mod tests;
