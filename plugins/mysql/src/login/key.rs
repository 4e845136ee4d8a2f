//! A server's public RSA key, and what is encrypted with it.
//!
//! Owns reading the key; padding and arithmetic are those of `mysql_common`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mysql_common::crypto::rsa::{Pkcs1OaepPadding, PublicKey, Rng};
use num_bigint::BigUint;
use plugin_sdk::Actions;
use plugin_sdk::cursor::{Cursor, Read, Stop};
use std::convert::Infallible;

/// Sizes of moduli that are believed, in bytes: less can't hold a password, more would take too long.
const MODULUS: std::ops::RangeInclusive<usize> = 128..=512;
/// Longest exponent, in bytes.
const LONGEST_EXPONENT: usize = 4;

/// The host's random bytes.
struct HostRandom<'a, 'b>(&'a Actions<'b>);

impl Rng for HostRandom<'_, '_> {
    type Error = Infallible;

    fn fill(&mut self, dest: &mut [u8]) -> Result<(), Infallible> {
        self.0.random(dest);
        Ok(())
    }
}

/// Encrypts a password for the owner of `key`, a PEM text, that has sent the challenge `nonce`.
///
/// # Errors
/// When the key is none that can be used.
pub(super) fn encrypt(
    password: &[u8],
    nonce: &[u8],
    key: &[u8],
    actions: &Actions<'_>,
) -> Result<Vec<u8>, &'static str> {
    let der = pem(key).ok_or("the target's public key is no PEM text")?;
    let (modulus, exponent) = public_key(&der).map_err(|_| "the target's public key is no RSA key")?;
    let size = modulus.len();
    if !MODULUS.contains(&size) || exponent.is_empty() || exponent.len() > LONGEST_EXPONENT {
        return Err("the target's public key has a size that is not believed");
    }
    let mut secret: Vec<u8> = password.iter().copied().chain([0]).collect();
    // PKCS #1 v2, section 7.1.1, with SHA-1.
    if nonce.is_empty() || secret.len() + 42 > size {
        return Err("the password is too long for the target's public key");
    }
    secret.iter_mut().zip(nonce.iter().cycle()).for_each(|(byte, with)| *byte ^= with);
    let key = PublicKey::new(BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
    if key.num_octets() != size {
        return Err("the target's public key has a size that is not believed");
    }
    key.encrypt_block(secret, Pkcs1OaepPadding::new(HostRandom(actions)))
        .map_err(|_| "the password is too long for the target's public key")
}

/// What is between the lines of a PEM text.
fn pem(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, behind) = text.split_once("-----BEGIN ")?;
    let (_, behind) = behind.split_once("PUBLIC KEY-----")?;
    let (body, _) = behind.split_once("-----END ")?;
    let body: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(body).ok()
}

/// Modulus and exponent, of a key in the form of X.509 or PKCS #1.
fn public_key(der: &[u8]) -> Read<(&[u8], &[u8])> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const BITS: u8 = 0x03;
    let mut key = Cursor::new(element(&mut Cursor::new(der), SEQUENCE)?);
    if key.peek()? == SEQUENCE {
        element(&mut key, SEQUENCE)?;
        let mut bits = Cursor::new(element(&mut key, BITS)?);
        if bits.u8()? != 0 {
            return Err(Stop::Invalid("bits that are no bytes"));
        }
        key = Cursor::new(element(&mut Cursor::new(bits.rest()), SEQUENCE)?);
    }
    let modulus = element(&mut key, INTEGER)?;
    let exponent = element(&mut key, INTEGER)?;
    let unsigned = |number| -> &[u8] {
        let zeros = <[u8]>::iter(number).take_while(|byte| **byte == 0).count();
        &number[zeros..]
    };
    Ok((unsigned(modulus), unsigned(exponent)))
}

/// The content of the next element, which is to be of this kind.
fn element<'a>(cursor: &mut Cursor<'a>, kind: u8) -> Read<&'a [u8]> {
    if cursor.u8()? != kind {
        return Err(Stop::Invalid("another element"));
    }
    let length = match cursor.u8()? {
        short @ 0..=0x7f => short.into(),
        0x81 => cursor.u8()?.into(),
        0x82 => cursor.u16_be()?.into(),
        _ => return Err(Stop::Invalid("too long")),
    };
    cursor.take(length)
}
