//! Packets as bytes: checked views over what was captured, and the writer of what goes out.
//!
//! Owns the formats (link headers, IPv4, IPv6, tunnels, TCP, checksums, fragments) and every length check on them; hostile bytes
//! become a typed error here and nowhere else. Leaves to others what a packet means for a session, and to whom it is
//! addressed. Byte order on the wire is big-endian; everything that leaves this module is in host order.

pub mod checksum;
pub mod fragment;
pub mod ip;
pub mod link;
pub mod packet;
pub mod tcp;
pub mod tunnel;

#[cfg(test)]
mod tests;

/// IP protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;

/// The big-endian 16-bit number at `at`, if it lies within `data`.
fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    let bytes = data.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*bytes))
}

/// The big-endian 32-bit number at `at`, if it lies within `data`.
fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}
