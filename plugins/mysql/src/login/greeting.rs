//! The first packet of a server.

use crate::capabilities::Capabilities;
use crate::packet;
use crate::results::{self, ServerError};
use plugin_sdk::cursor::{Cursor, Read, Stop};

/// Bytes of a challenge that plugins use.
pub const NONCE: usize = 20;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its version, as it calls it.
    pub version: Vec<u8>,
    /// What it offers.
    pub capabilities: Capabilities,
    /// The challenge for the first answer.
    pub nonce: Vec<u8>,
    /// Name of the authentication plugin that it proposes.
    pub plugin: Vec<u8>,
}

/// The first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// A greeting.
    Greeting(Greeting),
    /// The server refuses the connection.
    Refused(ServerError),
}

impl First {
    /// Reads it.
    ///
    /// # Errors
    /// When it is neither; with a text for the user.
    pub fn read(packet: &[u8]) -> Result<Self, &'static str> {
        match packet.first() {
            Some(0xff) => results::server_error(packet)
                .map(Self::Refused)
                .map_err(|_| "the target's first packet is cut"),
            Some(10) => greeting(packet).map(Self::Greeting).map_err(|_| "the target's greeting is cut"),
            Some(9) => Err("the target speaks the protocol from before MySQL 3.21"),
            _ => Err("the target's first packet is no greeting"),
        }
    }
}

fn greeting(packet: &[u8]) -> Read<Greeting> {
    let mut cursor = Cursor::new(packet);
    cursor.u8()?;
    let version = packet::until_zero(&mut cursor)?.to_vec();
    cursor.u32_le()?;
    let mut nonce = cursor.take(8)?.to_vec();
    cursor.u8()?;
    let low = cursor.u16_le()?;
    let mut plugin = Vec::new();
    let (mut high, mut mariadb) = (0, 0);
    if !cursor.is_empty() {
        // The default collation and the status.
        cursor.take(3)?;
        high = cursor.u16_le()?;
        let length = cursor.u8()?;
        cursor.take(6)?;
        mariadb = cursor.u32_le()?;
        // What is left of the challenge has a zero behind it, and 13 bytes at least.
        let rest = usize::from(length).saturating_sub(8).max(13).min(cursor.rest().len());
        let rest = cursor.take(rest)?;
        nonce.extend_from_slice(rest.strip_suffix(&[0]).unwrap_or(rest));
        // Some servers leave the zero behind the name out.
        let name = cursor.rest();
        plugin = name.strip_suffix(&[0]).unwrap_or(name).to_vec();
    }
    if nonce.len() < NONCE {
        return Err(Stop::Invalid("a short challenge"));
    }
    nonce.truncate(NONCE);
    let capabilities = Capabilities::from_bits(u32::from(low) | u32::from(high) << 16, mariadb);
    Ok(Greeting { version, capabilities, nonce, plugin })
}
