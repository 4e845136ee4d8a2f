//! The addresses that play the clients (`-c`).
//!
//! Owns their notation and their numbering. Leaves the choice of one to [`super::Mapper`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses used of one net: a /64 has more than any use for, and hosts are numbered in 64 bits.
const MAX_ADDRESSES: u128 = 1 << 32;
/// Items in one list; each costs a step whenever an address is looked up.
const MAX_ITEMS: usize = 4096;

/// Why a list of client addresses was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// There is no address in the list.
    #[error("the list of client addresses is empty")]
    Empty,
    /// The list is too long.
    #[error("the list of client addresses has more than {MAX_ITEMS} items; use nets or ranges")]
    TooManyItems,
    /// An item is none of the known forms.
    #[error(
        "'{item}' is not an address, a net (10.3.0.0/16), a range (10.3.0.1-10.3.0.9) or a class (10.3.0.x)"
    )]
    Syntax {
        /// The item as typed.
        item: String,
    },
    /// The number after the slash is too large for the family.
    #[error("'{item}' has a prefix length beyond {max}")]
    PrefixLength {
        /// The item as typed.
        item: String,
        /// The largest for this family.
        max: u8,
    },
    /// The range's ends are of two families, or its end is before its start.
    #[error("'{item}' is not a range: its end is before its start, or of the other IP version")]
    Range {
        /// The item as typed.
        item: String,
    },
    /// No client can have such an address.
    #[error("'{item}' holds addresses that no client can have (unspecified, multicast or broadcast)")]
    Unusable {
        /// The item as typed.
        item: String,
    },
}

/// Neighbouring addresses of one family: one item of a [`ClientPool`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ClientRange {
    /// IPv4 addresses from the first to the last.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6 addresses from the first to the last.
    V6(Ipv6Addr, Ipv6Addr),
}

impl ClientRange {
    /// Reads `10.1.2.3`, `10.1.2.x` (also `*`), `10.3.0.0/16`, `10.3.0.1-10.3.0.9`, `fd00::/64` and the like.
    ///
    /// A net gives its hosts alone: not its own number nor its broadcast address, and of an IPv6 net not the
    /// subnet-router anycast address (RFC 4291, section 2.6.1). Of a larger net the first 2^32 hosts are used.
    ///
    /// # Errors
    /// [`PoolError`], with the item as it was typed.
    pub fn parse(item: &str) -> Result<Self, PoolError> {
        let syntax = || PoolError::Syntax { item: item.to_owned() };
        let range = if let Some((net, prefix)) = item.split_once('/') {
            let net: IpAddr = net.parse().map_err(|_| syntax())?;
            let prefix: u8 = prefix.parse().map_err(|_| syntax())?;
            Self::net(net, prefix).map_err(|max| PoolError::PrefixLength { item: item.to_owned(), max })?
        } else if let Some((first, last)) = item.split_once('-') {
            let first: IpAddr = first.trim().parse().map_err(|_| syntax())?;
            let last: IpAddr = last.trim().parse().map_err(|_| syntax())?;
            match (first, last) {
                (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => Self::V4(first, last),
                (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => Self::V6(first, last),
                _ => return Err(PoolError::Range { item: item.to_owned() }),
            }
        } else if let Some(class) = item.strip_suffix(['x', 'X', '*']) {
            let net: Ipv4Addr = format!("{class}0").parse().map_err(|_| syntax())?;
            Self::net(net.into(), 24).map_err(|_| syntax())?
        } else {
            match item.parse().map_err(|_| syntax())? {
                IpAddr::V4(addr) => Self::V4(addr, addr),
                IpAddr::V6(addr) => Self::V6(addr, addr),
            }
        };
        if range.has_unusable() { Err(PoolError::Unusable { item: item.to_owned() }) } else { Ok(range) }
    }

    /// The hosts of a net, or the largest prefix length there is.
    fn net(addr: IpAddr, prefix: u8) -> Result<Self, u8> {
        match addr {
            IpAddr::V4(addr) => {
                let host_bits = 32u32.checked_sub(u32::from(prefix)).ok_or(32u8)?;
                let mask = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                let (first, last) = (addr.to_bits() & !mask, addr.to_bits() | mask);
                // A net of one or two addresses has hosts alone (RFC 3021).
                let edge = u32::from(host_bits > 1);
                Ok(Self::V4(Ipv4Addr::from_bits(first + edge), Ipv4Addr::from_bits(last - edge)))
            }
            IpAddr::V6(addr) => {
                let host_bits = 128u32.checked_sub(u32::from(prefix)).ok_or(128u8)?;
                let mask = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                let edge = u128::from(host_bits > 1);
                let first = (addr.to_bits() & !mask) + edge;
                let last = (addr.to_bits() | mask).min(first.saturating_add(MAX_ADDRESSES - 1));
                Ok(Self::V6(Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last)))
            }
        }
    }

    fn has_unusable(&self) -> bool {
        match self {
            Self::V4(first, last) => {
                // Ordinary addresses lie between 1.0.0.0 and the multicast nets.
                first.octets()[0] == 0 || last.octets()[0] >= 224
            }
            Self::V6(first, last) => first.is_unspecified() || last.is_multicast(),
        }
    }

    /// Number of addresses, at most 2^32.
    pub fn len(&self) -> u64 {
        match self {
            Self::V4(first, last) => u64::from(last.to_bits() - first.to_bits()) + 1,
            Self::V6(first, last) => (last.to_bits() - first.to_bits()).min(MAX_ADDRESSES - 1) as u64 + 1,
        }
    }

    /// Never: a range has at least one address.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The address with this number, counted from 0; `None` beyond the last.
    pub fn get(&self, index: u64) -> Option<IpAddr> {
        if index >= self.len() {
            return None;
        }
        Some(match self {
            Self::V4(first, _) => Ipv4Addr::from_bits(first.to_bits() + index as u32).into(),
            Self::V6(first, _) => Ipv6Addr::from_bits(first.to_bits() + u128::from(index)).into(),
        })
    }

    /// Whether `addr` is one of these.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self, addr) {
            (Self::V4(first, last), IpAddr::V4(addr)) => (*first..=*last).contains(&addr),
            (Self::V6(first, last), IpAddr::V6(addr)) => (*first..=*last).contains(&addr),
            _ => false,
        }
    }
}

impl fmt::Display for ClientRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(first, last) if first == last => write!(f, "{first}"),
            Self::V4(first, last) => write!(f, "{first}-{last}"),
            Self::V6(first, last) if first == last => write!(f, "{first}"),
            Self::V6(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl fmt::Debug for ClientRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// IP version of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The version of `addr`.
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// The addresses that stand for the real clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPool {
    v4: Vec<ClientRange>,
    v6: Vec<ClientRange>,
}

impl ClientPool {
    /// Reads a list of items separated by commas or spaces; see [`ClientRange::parse`].
    ///
    /// # Errors
    /// [`PoolError`] for the first item that is wrong, and for a list with none or too many.
    pub fn parse(list: &str) -> Result<Self, PoolError> {
        let mut pool = Self { v4: Vec::new(), v6: Vec::new() };
        for item in list.split([',', ' ', '\t']).filter(|item| !item.is_empty()) {
            let range = ClientRange::parse(item)?;
            match range {
                ClientRange::V4(..) => pool.v4.push(range),
                ClientRange::V6(..) => pool.v6.push(range),
            }
            if pool.v4.len() + pool.v6.len() > MAX_ITEMS {
                return Err(PoolError::TooManyItems);
            }
        }
        if pool.v4.is_empty() && pool.v6.is_empty() { Err(PoolError::Empty) } else { Ok(pool) }
    }

    /// The items of one family.
    pub fn ranges(&self, family: Family) -> &[ClientRange] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// Number of addresses of one family; an address that two items hold counts twice.
    pub fn len(&self, family: Family) -> u64 {
        self.ranges(family).iter().map(ClientRange::len).sum()
    }

    /// Whether there is no address of this family.
    pub fn is_empty(&self, family: Family) -> bool {
        self.ranges(family).is_empty()
    }

    /// The address with this number among those of its family; `None` beyond the last.
    pub fn get(&self, family: Family, mut index: u64) -> Option<IpAddr> {
        for range in self.ranges(family) {
            match range.get(index) {
                Some(addr) => return Some(addr),
                None => index -= range.len(),
            }
        }
        None
    }

    /// Whether `addr` is in the pool.
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.ranges(Family::of(addr)).iter().any(|range| range.contains(addr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(list: &str) -> ClientPool {
        ClientPool::parse(list).expect(list)
    }

    fn ends(list: &str, family: Family) -> (String, String, u64) {
        let pool = pool(list);
        let len = pool.len(family);
        let text = |index| pool.get(family, index).expect("an address").to_string();
        assert_eq!(pool.get(family, len), None);
        (text(0), text(len - 1), len)
    }

    #[test]
    fn every_form_gives_its_hosts() {
        let case = |list, family, first: &str, last: &str, len| {
            assert_eq!(ends(list, family), (first.to_owned(), last.to_owned(), len), "{list}");
        };
        case("10.9.9.9", Family::V4, "10.9.9.9", "10.9.9.9", 1);
        case("10.1.2.x", Family::V4, "10.1.2.1", "10.1.2.254", 254);
        case("10.1.2.*", Family::V4, "10.1.2.1", "10.1.2.254", 254);
        case("10.3.77.1/16", Family::V4, "10.3.0.1", "10.3.255.254", 65_534);
        case("10.3.0.4/31", Family::V4, "10.3.0.4", "10.3.0.5", 2);
        case("10.3.0.4/32", Family::V4, "10.3.0.4", "10.3.0.4", 1);
        case("10.3.0.4-10.3.1.4", Family::V4, "10.3.0.4", "10.3.1.4", 257);
        case("fd00::7", Family::V6, "fd00::7", "fd00::7", 1);
        case("fd00::/120", Family::V6, "fd00::1", "fd00::ff", 255);
        case("fd00::/127", Family::V6, "fd00::", "fd00::1", 2);
        case("fd00::5-fd00::9", Family::V6, "fd00::5", "fd00::9", 5);
        case("fd00::/64", Family::V6, "fd00::1", "fd00::1:0:0", 1 << 32);
        case("fd00::1-fd00:0:0:1::", Family::V6, "fd00::1", "fd00::1:0:0", 1 << 32);
        case(
            "10.1.2.x, 10.3.0.0/16, fd00::/64, 10.9.9.9",
            Family::V4,
            "10.1.2.1",
            "10.9.9.9",
            254 + 65_534 + 1,
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |list| ClientPool::parse(list).expect_err(list);
        assert_eq!(error(" , "), PoolError::Empty);
        assert_eq!(error("10.1.2.0/33"), PoolError::PrefixLength { item: "10.1.2.0/33".into(), max: 32 });
        assert_eq!(error("fd00::/129"), PoolError::PrefixLength { item: "fd00::/129".into(), max: 128 });
        for item in
            ["10.1.2", "10.1.2.256", "10.1.2.xx", "x", "*", "10.x.2.3", "10.0.0.0/", "/8", "fd00::x", "-"]
        {
            assert_eq!(error(item), PoolError::Syntax { item: item.into() });
        }
        for item in ["10.0.0.9-10.0.0.1", "10.0.0.1-fd00::1"] {
            assert_eq!(error(item), PoolError::Range { item: item.into() });
        }
        for item in ["0.0.0.0", "0.0.0.0/0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"] {
            assert_eq!(error(item), PoolError::Unusable { item: item.into() });
        }
        assert_eq!(error(&"10.0.0.1,".repeat(MAX_ITEMS + 1)), PoolError::TooManyItems);
    }

    proptest! {
        #[test]
        fn any_text_is_a_pool_or_an_error(list in "[0-9a-fx:./,* -]{0,40}") {
            if let Ok(pool) = ClientPool::parse(&list) {
                for family in [Family::V4, Family::V6] {
                    let len = pool.len(family);
                    prop_assert_eq!(pool.get(family, len), None);
                    if len > 0 {
                        let last = pool.get(family, len - 1).unwrap();
                        prop_assert!(pool.contains(last) && Family::of(last) == family);
                    }
                }
            }
        }

        #[test]
        fn a_net_holds_what_its_mask_says(addr: u32, prefix in 8u8..=32, index: u64) {
            let addr = Ipv4Addr::from_bits((addr % (223 << 24)) | (1 << 24));
            let pool = pool(&format!("{addr}/{prefix}"));
            let picked = pool.get(Family::V4, index % pool.len(Family::V4)).unwrap();
            let IpAddr::V4(picked) = picked else { panic!("{picked} is not IPv4") };
            prop_assert_eq!(u64::from(picked.to_bits() ^ addr.to_bits()) >> (32 - prefix), 0);
        }
    }
}
