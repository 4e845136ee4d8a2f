//! What is typed behind `-x` and `-c`.

use std::net::IpAddr;
use tcpcopy::transfer;
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_engine::mapping::{ClientPool, Family, Mapper, MappingOptions};

/// Reads a list. Input: 0 for `-x`, 1 for `-c` (u8, its lowest bit counts), then the list.
///
/// # Panics
/// When what is read does not read the same again as it is printed, or an error points outside the list.
pub fn transfers(data: &[u8]) {
    let Some((which, list)) = data.split_first() else { return };
    let Ok(list) = std::str::from_utf8(list) else { return };
    if which & 1 == 0 { transfer_list(list) } else { client_pool(list) }
}

fn transfer_list(list: &str) {
    match transfer::parse(list) {
        Ok(transfers) => {
            assert!(!transfers.is_empty());
            for transfer in &transfers {
                let target = transfer.target;
                assert!(target.port != 0 && transfer.online_port != 0, "port 0 in {transfer}");
                assert!(!target.addr.is_unspecified() && !target.addr.is_multicast(), "{transfer}");
            }
            let printed: Vec<String> = transfers.iter().map(ToString::to_string).collect();
            assert_eq!(transfer::parse(&printed.join(",")).as_ref(), Ok(&transfers), "{list:?}");
        }
        Err(error) => {
            assert!((1..=list.chars().count() + 1).contains(&error.column), "{error} in {list:?}");
            assert!(!error.expected.is_empty());
        }
    }
}

fn client_pool(list: &str) {
    let Ok(pool) = ClientPool::parse(list) else { return };
    let mut printed = Vec::new();
    for family in [Family::V4, Family::V6] {
        printed.extend(pool.ranges(family).iter().map(ToString::to_string));
        let len = pool.len(family);
        assert_eq!(pool.get(family, len), None);
        for index in [0, len / 2, len.saturating_sub(1)].into_iter().filter(|index| *index < len) {
            let addr = pool.get(family, index).expect("an address below the length");
            assert!(pool.contains(addr) && Family::of(addr) == family, "{addr} of {list:?}");
            check_client(&pool, addr);
        }
    }
    let again = ClientPool::parse(&printed.join(","));
    assert_eq!(again.as_ref(), Ok(&pool), "{list:?}");
}

/// Whoever the client is, the pool plays it, and never with the target's own address.
fn check_client(pool: &ClientPool, target: IpAddr) {
    let target = Endpoint::new(target, 80);
    let mapper = Mapper::new(MappingOptions { pool: Some(pool.clone()), ..MappingOptions::default() });
    let client = Endpoint::new([192, 0, 2, 1].into(), 40_000);
    if let Some(key) = mapper.allocate(client, target, 0, 0, &mut |_| false) {
        assert!(
            pool.contains(key.client.addr) && key.client.addr != target.addr && key.client.port != 0,
            "{key}"
        );
        assert_eq!(key.target, target);
    }
}
