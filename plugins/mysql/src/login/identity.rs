//! Who a client is: what it answers a server's greeting with.
//!
//! Owns reading it from the client, and writing that of the plugin to the target.

use crate::capabilities::Capabilities;
use crate::packet;
use mysql_common::constants::CapabilityFlags as Flags;
use plugin_sdk::cursor::{Cursor, Read, Stop};

/// Longest user or database name that is believed.
const LONGEST_NAME: usize = 1024;

/// A client's login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name.
    pub user: Vec<u8>,
    /// The database that it begins in.
    pub database: Option<Vec<u8>>,
    /// What the client asked for.
    pub capabilities: Capabilities,
    /// Largest packet that it takes.
    pub max_packet: u32,
    /// Number of its character set and collation.
    pub collation: u16,
    /// Its connection attributes, as they came, without their length.
    pub attributes: Vec<u8>,
    /// How hard Zstandard is to compress.
    pub zstd_level: u8,
}

/// What answers a greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// A login.
    Login {
        /// Who logs in.
        identity: Identity,
        /// The answer to the challenge.
        proof: Vec<u8>,
        /// The authentication plugin that it is of.
        plugin: Vec<u8>,
    },
    /// The client goes on with TLS.
    Tls,
    /// The client speaks the protocol from before MySQL 4.1.
    Old,
}

impl Hello {
    /// Reads it.
    ///
    /// # Errors
    /// When it is none, or cut.
    pub fn read(packet: &[u8]) -> Read<Self> {
        let mut cursor = Cursor::new(packet);
        let low = cursor.u16_le()?;
        if !Flags::from_bits_retain(low.into()).contains(Flags::CLIENT_PROTOCOL_41) {
            return Ok(if Flags::from_bits_retain(low.into()).contains(Flags::CLIENT_SSL) {
                Self::Tls
            } else {
                Self::Old
            });
        }
        let bits = u32::from(low) | u32::from(cursor.u16_le()?) << 16;
        let max_packet = cursor.u32_le()?;
        let collation = cursor.u8()?.into();
        cursor.take(19)?;
        let capabilities = Capabilities::from_bits(bits, cursor.u32_le()?);
        if cursor.is_empty() && capabilities.has(Flags::CLIENT_SSL) {
            return Ok(Self::Tls);
        }
        let user = name(packet::until_zero(&mut cursor)?)?;
        let proof = if capabilities.has(Flags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA) {
            packet::length_encoded_bytes(&mut cursor)?
        } else if capabilities.has(Flags::CLIENT_SECURE_CONNECTION) {
            let length = cursor.u8()?;
            cursor.take(length.into())?
        } else {
            packet::until_zero(&mut cursor)?
        }
        .to_vec();
        let mut database = None;
        if capabilities.has(Flags::CLIENT_CONNECT_WITH_DB) && !cursor.is_empty() {
            database = Some(name(text(&mut cursor))?).filter(|name| !name.is_empty());
        }
        let mut plugin = Vec::new();
        if capabilities.has(Flags::CLIENT_PLUGIN_AUTH) {
            plugin = text(&mut cursor).to_vec();
        }
        let mut attributes = Vec::new();
        if capabilities.has(Flags::CLIENT_CONNECT_ATTRS) && !cursor.is_empty() {
            attributes = packet::length_encoded_bytes(&mut cursor)?.to_vec();
        }
        let zstd_level = cursor.u8().unwrap_or(3);
        let identity =
            Identity { user, database, capabilities, max_packet, collation, attributes, zstd_level };
        Ok(Self::Login { identity, proof, plugin })
    }
}

impl Identity {
    /// That of a connection whose login nobody saw.
    pub fn assumed(user: Vec<u8>, database: Option<Vec<u8>>) -> Self {
        Self {
            user,
            database,
            capabilities: Capabilities::assumed(),
            max_packet: 1 << 30,
            // utf8mb4_general_ci
            collation: 45,
            attributes: Vec::new(),
            zstd_level: 3,
        }
    }

    /// Answers a greeting. `capabilities` are those settled with the server, `collation` and `database` those to begin with.
    pub fn hello(
        &self,
        capabilities: Capabilities,
        collation: u16,
        database: Option<&[u8]>,
        proof: &[u8],
        plugin: &[u8],
    ) -> Vec<u8> {
        let mut packet = Vec::with_capacity(128 + self.attributes.len());
        packet.extend_from_slice(&capabilities.flags.bits().to_le_bytes());
        packet.extend_from_slice(&self.max_packet.to_le_bytes());
        packet.push(collation.to_le_bytes()[0]);
        packet.extend_from_slice(&[0; 19]);
        packet.extend_from_slice(&capabilities.mariadb.bits().to_le_bytes());
        write_text(&mut packet, &self.user);
        if capabilities.has(Flags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA) {
            packet::write_length(&mut packet, proof.len() as u64);
        } else {
            packet.push(proof.len().min(255) as u8);
        }
        packet.extend_from_slice(proof);
        if capabilities.has(Flags::CLIENT_CONNECT_WITH_DB) {
            write_text(&mut packet, database.unwrap_or_default());
        }
        if capabilities.has(Flags::CLIENT_PLUGIN_AUTH) {
            write_text(&mut packet, plugin);
        }
        if capabilities.has(Flags::CLIENT_CONNECT_ATTRS) {
            packet::write_length(&mut packet, self.attributes.len() as u64);
            packet.extend_from_slice(&self.attributes);
        }
        if capabilities.has(Flags::CLIENT_ZSTD_COMPRESSION_ALGORITHM) {
            packet.push(self.zstd_level.clamp(1, 22));
        }
        packet
    }

    /// A COM_CHANGE_USER to this user.
    pub fn change_user(
        &self,
        capabilities: Capabilities,
        collation: u16,
        database: Option<&[u8]>,
        proof: &[u8],
        plugin: &[u8],
    ) -> Vec<u8> {
        let mut packet = vec![0x11];
        write_text(&mut packet, &self.user);
        packet.push(proof.len().min(255) as u8);
        packet.extend_from_slice(proof);
        write_text(&mut packet, database.unwrap_or_default());
        packet.extend_from_slice(&collation.to_le_bytes());
        if capabilities.has(Flags::CLIENT_PLUGIN_AUTH) {
            write_text(&mut packet, plugin);
        }
        if capabilities.has(Flags::CLIENT_CONNECT_ATTRS) {
            packet::write_length(&mut packet, self.attributes.len() as u64);
            packet.extend_from_slice(&self.attributes);
        }
        packet
    }

    /// Reads a client's COM_CHANGE_USER, whose capabilities and limits stay those of `self`.
    ///
    /// # Errors
    /// When it is cut.
    pub fn changed(&self, packet: &[u8]) -> Read<Self> {
        let mut cursor = Cursor::new(packet);
        cursor.u8()?;
        let user = name(packet::until_zero(&mut cursor)?)?;
        let length = cursor.u8()?;
        cursor.take(length.into())?;
        let database = Some(name(text(&mut cursor))?).filter(|name| !name.is_empty());
        let collation = cursor.u16_le().unwrap_or(self.collation);
        let mut attributes = Vec::new();
        if self.capabilities.has(Flags::CLIENT_PLUGIN_AUTH) && !cursor.is_empty() {
            text(&mut cursor);
        }
        if self.capabilities.has(Flags::CLIENT_CONNECT_ATTRS) && !cursor.is_empty() {
            attributes = packet::length_encoded_bytes(&mut cursor)?.to_vec();
        }
        Ok(Self { user, database, collation, attributes, ..self.clone() })
    }
}

/// The bytes up to a zero or, where some clients leave it out, the end.
fn text<'a>(cursor: &mut Cursor<'a>) -> &'a [u8] {
    packet::until_zero(cursor).unwrap_or_else(|_| {
        let rest = cursor.rest();
        cursor.take(rest.len()).unwrap_or_default()
    })
}

fn name(bytes: &[u8]) -> Read<Vec<u8>> {
    if bytes.len() > LONGEST_NAME {
        Err(Stop::Invalid("a name that is too long"))
    } else {
        Ok(bytes.to_vec())
    }
}

fn write_text(into: &mut Vec<u8>, text: &[u8]) {
    into.extend_from_slice(text);
    into.push(0);
}
