use super::*;
use crate::flow::FlowMap;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

fn endpoint(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddr>().expect(text).into()
}

fn addr(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn transfer(online: Option<&str>, online_port: u16, target: &str) -> Transfer {
    Transfer { online: online.map(addr), online_port, target: endpoint(target) }
}

fn options(target: &str) -> MappingOptions {
    MappingOptions { transfers: vec![transfer(None, 80, target)], ..MappingOptions::default() }
}

fn with_pool(target: &str, pool: &str) -> MappingOptions {
    MappingOptions { pool: Some(ClientPool::parse(pool).expect(pool)), ..options(target) }
}

const TARGET: &str = "10.0.0.9:8080";

fn first_choice(mapper: &Mapper, client: &str, copy: u16, attempt_seed: u64) -> Endpoint {
    let key = mapper.allocate(endpoint(client), endpoint(TARGET), copy, attempt_seed, &mut |_| false);
    key.expect("a free key").client
}

#[test]
fn the_exact_online_address_goes_before_the_wildcard() {
    let transfers = vec![
        transfer(None, 80, "10.0.0.1:8001"),
        transfer(Some("10.5.0.1"), 80, "10.0.0.1:8002"),
        transfer(Some("10.5.0.1"), 80, "10.0.0.1:8003"),
        transfer(None, 80, "10.0.0.1:8004"),
    ];
    let mapper = Mapper::new(MappingOptions { transfers, ..MappingOptions::default() });
    let port = |online| mapper.transfer(addr("10.7.7.7"), endpoint(online)).map(|found| found.target.port);
    assert_eq!(port("10.5.0.1:80"), Some(8002));
    assert_eq!(port("10.5.0.2:80"), Some(8001));
    assert_eq!(port("10.5.0.2:81"), None);
    assert_eq!(port("[fd00::1]:80"), Some(8001));
}

#[test]
fn a_packet_to_a_target_fits_no_wildcard() {
    let transfers = vec![transfer(None, 80, "10.0.0.1:80"), transfer(Some("10.0.0.2"), 80, "10.0.0.3:80")];
    let mapper = Mapper::new(MappingOptions { transfers, ..MappingOptions::default() });
    let client = addr("10.7.7.7");
    assert_eq!(mapper.transfer(client, endpoint("10.0.0.1:80")), None);
    assert_eq!(mapper.transfer(client, endpoint("10.0.0.3:80")), None);
    assert!(mapper.transfer(client, endpoint("10.0.0.2:80")).is_some());
    assert!(mapper.transfer(client, endpoint("10.0.0.4:80")).is_some());
}

#[test]
fn the_target_is_of_the_family_that_the_client_is_mapped_to() {
    let reaches = |options: &MappingOptions, client| {
        let mapper = Mapper::new(options.clone());
        let online = Endpoint::new(addr(client), 80);
        let found = mapper.transfer(addr(client), online).is_some();
        let target = options.transfers[0].target;
        let key = mapper.allocate(Endpoint::new(addr(client), 5000), target, 0, 0, &mut |_| false);
        assert_eq!(key.is_some(), found, "{client}");
        if let Some(key) = key {
            assert_eq!(Family::of(key.client.addr), Family::of(target.addr));
        }
        found
    };
    let plain = options(TARGET);
    assert!(reaches(&plain, "10.7.7.7"));
    assert!(!reaches(&plain, "fd00::7"));
    let crossing = with_pool(TARGET, "10.8.0.0/24");
    assert!(reaches(&crossing, "10.7.7.7") && reaches(&crossing, "fd00::7"));
    let wrong_pool = with_pool(TARGET, "fd00:8::/64");
    assert!(!reaches(&wrong_pool, "10.7.7.7") && !reaches(&wrong_pool, "fd00::7"));
    let localhost = MappingOptions { localhost_v4: Some(Ipv4Addr::new(10, 0, 0, 5)), ..plain };
    assert!(
        reaches(&localhost, "127.0.0.1") && reaches(&localhost, "::1") && !reaches(&localhost, "fd00::1")
    );
}

#[test]
fn the_first_copy_keeps_its_own_address_and_port_when_it_can() {
    let own = |options: MappingOptions, client| first_choice(&Mapper::new(options), client, 0, 0);
    for client in ["10.7.7.7:40000", "10.7.7.7:1", "10.7.7.7:65535"] {
        assert_eq!(own(options(TARGET), client), endpoint(client));
        let two_workers = own(MappingOptions { workers: 2, ..options(TARGET) }, client);
        assert_eq!((two_workers.addr, two_workers.port % 2), (endpoint(client).addr, 0));
        let mapper = Mapper::new(options(TARGET));
        for attempt in 1..2000 {
            let again = first_choice(&mapper, client, 0, attempt);
            assert!(again != endpoint(client) && again.addr == endpoint(client).addr);
            assert!(again.port >= MIN_PORT);
        }
    }
    let factors =
        (1..100).map(|factor| own(MappingOptions { factor, ..options(TARGET) }, "10.7.7.7:40000").port);
    assert!(factors.collect::<HashSet<_>>().len() > 95, "factors give different ports");
    let localhost = MappingOptions { localhost_v4: Some(Ipv4Addr::new(10, 0, 0, 5)), ..options(TARGET) };
    assert_eq!(own(localhost.clone(), "127.0.0.1:4000"), endpoint("10.0.0.5:4000"));
    assert_eq!(own(localhost, "10.7.7.7:4000"), endpoint("10.7.7.7:4000"));
    assert_eq!(own(options(TARGET), "10.7.7.7:0").addr, addr("10.7.7.7"));
}

#[test]
fn no_client_gets_a_target_address() {
    let mut options = with_pool(TARGET, "10.0.0.8-10.0.0.10");
    options.transfers.push(transfer(None, 81, "10.0.0.8:1"));
    let mapper = Mapper::new(options.clone());
    for client in 0..300u16 {
        let client = format!("10.7.{}.{}:5000", client / 200, client % 200);
        assert_eq!(first_choice(&mapper, &client, 0, 0).addr, addr("10.0.0.10"));
    }
    options.pool = Some(ClientPool::parse("10.0.0.8,10.0.0.9").expect("a pool"));
    let none = Mapper::new(options).allocate(endpoint("10.7.7.7:1"), endpoint(TARGET), 0, 0, &mut |_| false);
    assert_eq!(none, None);
    let own = Mapper::new(self::options(TARGET));
    assert_eq!(own.allocate(endpoint("10.0.0.9:4000"), endpoint(TARGET), 0, 0, &mut |_| false), None);
}

/// Opens sessions until nothing is free, and returns how many there were.
fn exhaust(options: MappingOptions) -> usize {
    let mapper = Mapper::new(options);
    let mut used = HashSet::new();
    loop {
        let client = Endpoint::new(addr("10.7.7.7"), 5000);
        let copy = (used.len() % 1000) as u16;
        let Some(key) = mapper.allocate(client, endpoint(TARGET), copy, 0, &mut |key| used.contains(key))
        else {
            return used.len();
        };
        assert!(used.insert(key), "{key} given twice");
    }
}

#[test]
fn every_port_is_given_before_none_is_left() {
    let all = usize::from(u16::MAX - MIN_PORT) + 1;
    let workers = 64;
    let by_worker = |worker| exhaust(MappingOptions { worker, workers, ..options(TARGET) });
    assert_eq!((0..workers).map(by_worker).sum::<usize>(), all);
    let pool = MappingOptions { worker: 99, workers: 100, ..with_pool(TARGET, "10.8.0.1-10.8.0.4") };
    assert_eq!(exhaust(pool), 4 * (all / 100 + usize::from(all % 100 > 99 - MIN_PORT as usize % 100)));
    assert_eq!(exhaust(MappingOptions { worker: 1000, workers: u16::MAX, ..options(TARGET) }), 0);
}

#[test]
fn clients_spread_evenly_over_the_pool_and_over_ports() {
    let mapper = Mapper::new(with_pool(TARGET, "10.8.0.x, 10.9.0.1"));
    let mut by_addr: HashMap<IpAddr, u32> = HashMap::new();
    let mut by_port_range = [0u32; 63];
    for n in 0..25_500u32 {
        let client = Endpoint::new(Ipv4Addr::from_bits(0x0a07_0000 + n).into(), 40_000);
        let key = mapper.allocate(client, endpoint(TARGET), 0, 0, &mut |_| false).expect("a key");
        *by_addr.entry(key.client.addr).or_default() += 1;
        by_port_range[usize::from((key.client.port - MIN_PORT) / 1024)] += 1;
    }
    assert_eq!(by_addr.len(), 255);
    assert!(by_addr.values().all(|n| (50..160).contains(n)), "{by_addr:?}");
    assert!(by_port_range.iter().all(|n| (300..520).contains(n)), "{by_port_range:?}");
}

prop_compose! {
    fn any_client()(v6: bool, host in 0u32..50, port in 1u16..200) -> Endpoint {
        let addr = match v6 {
            false => Ipv4Addr::from_bits(0x0a07_0000 + host).into(),
            true => Ipv6Addr::from_bits(0xfd07 << 112 | u128::from(host)).into(),
        };
        // Few ports, privileged ones among them, so that clients and copies meet.
        Endpoint::new(addr, port * 13)
    }
}

proptest! {
    #[test]
    fn live_sessions_never_share_a_key(
        sessions in prop::collection::vec((any_client(), 0u16..4, 0u64..3, 0u16..3), 1..300),
        pool in prop::option::of(prop::sample::select(vec!["10.8.0.1", "10.8.0.0/30,fd08::1", "10.8.0.x, fd08::/64"])),
        workers in 1u16..4,
        factor in 0u16..3,
    ) {
        let transfers = vec![transfer(None, 80, TARGET), transfer(None, 80, "[fd00::9]:8080")];
        let pool = pool.map(|pool| ClientPool::parse(pool).unwrap());
        let options = MappingOptions { transfers, pool, factor, workers, copies: 4, ..MappingOptions::default() };
        let mappers: Vec<Mapper> =
            (0..workers).map(|worker| Mapper::new(MappingOptions { worker, ..options.clone() })).collect();
        // Each worker knows its own sessions alone; the keys of all must differ.
        let mut used: Vec<FlowMap<FlowKey, ()>> = vec![FlowMap::default(); workers.into()];
        let mut all = HashSet::new();
        for (client, copy, attempt_seed, worker) in sessions {
            let worker = usize::from(worker % workers);
            let mapper = &mappers[worker];
            let Some(transfer) = mapper.transfer(client.addr, Endpoint::new(client.addr, 80)) else { continue };
            let allocate = |used: &FlowMap<FlowKey, ()>| {
                mapper.allocate(client, transfer.target, copy, attempt_seed, &mut |key| used.contains_key(key))
            };
            let key = allocate(&used[worker]);
            prop_assert_eq!(key, allocate(&used[worker]), "the same arguments give the same key");
            let key = key.expect("there are far more ports than sessions");
            prop_assert_eq!(key.target, transfer.target);
            prop_assert_eq!(Family::of(key.client.addr), Family::of(key.target.addr));
            match &options.pool {
                Some(pool) => prop_assert!(pool.contains(key.client.addr)),
                None => prop_assert_eq!(key.client.addr, client.addr),
            }
            prop_assert!(key.client.port >= MIN_PORT || key.client == client);
            used[worker].insert(key, ());
            prop_assert!(all.insert(key), "{} given twice", key);
        }
    }
}
