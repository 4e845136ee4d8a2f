//! Network interfaces of this host.

use crate::sys;
use std::net::IpAddr;

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    /// Its hardware address; `None` where there is none (tunnels) or it is all zeros (loopback).
    pub mac: Option<[u8; 6]>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it is up.
    pub is_up: bool,
    /// Whether it is a loopback interface.
    pub is_loopback: bool,
    /// Its hardware type (`ARPHRD_*`).
    pub hardware: u16,
}

impl Interface {
    /// Whether frames start with an Ethernet header.
    pub const fn has_ethernet_header(&self) -> bool {
        matches!(self.hardware, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK)
    }
}

/// An interface that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no interface \"{name}\"")]
pub struct InterfaceError {
    /// The name asked for.
    pub name: String,
    /// The names that exist.
    pub known: Vec<String>,
}

impl InterfaceError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        (!self.known.is_empty()).then(|| format!("the interfaces are: {}", self.known.join(", ")))
    }
}

/// All interfaces, by number.
pub fn list() -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = pnet::datalink::interfaces()
        .into_iter()
        .map(|interface| Interface {
            index: interface.index,
            mac: interface.mac.map(|mac| mac.octets()).filter(|mac| *mac != [0; 6]),
            addresses: interface.ips.iter().map(|network| network.ip()).collect(),
            is_up: interface.is_up(),
            is_loopback: interface.is_loopback(),
            hardware: sys::interface::hardware_type(&interface.name).unwrap_or(libc::ARPHRD_VOID),
            name: interface.name,
        })
        .collect();
    interfaces.sort_by_key(|interface| interface.index);
    interfaces
}

/// The interface called `name`.
///
/// # Errors
/// When there is none; the error knows the names that exist.
pub fn lookup(name: &str) -> Result<Interface, InterfaceError> {
    let interfaces = list();
    let known = interfaces.iter().map(|interface| interface.name.clone()).collect();
    interfaces
        .into_iter()
        .find(|interface| interface.name == name)
        .ok_or_else(|| InterfaceError { name: name.to_owned(), known })
}

/// Every address of this host, loopback included.
pub fn local_addresses() -> Vec<IpAddr> {
    list().into_iter().flat_map(|interface| interface.addresses).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_and_a_wrong_name_lists_the_right_ones() {
        let loopback = lookup("lo").unwrap();
        assert!(loopback.is_loopback && loopback.index > 0 && loopback.mac.is_none());
        let error = lookup("nosuch0").unwrap_err();
        assert_eq!(error.to_string(), "there is no interface \"nosuch0\"");
        assert!(error.hint().unwrap().contains("lo"));
    }
}
