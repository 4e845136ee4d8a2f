//! The proof of the shared token: an HMAC over the frames exchanged so far.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a proof.
pub(super) const PROOF_LEN: usize = 32;

/// Whose proof it is. The label keeps one side's proof from being sent back to it as the other's.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Tcpcopy,
    Intercept,
}

impl Role {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Tcpcopy => b"tcpcopy relay v1: tcpcopy",
            Self::Intercept => b"tcpcopy relay v1: intercept",
        }
    }
}

/// The frames exchanged so far, each preceded by its length so that no two sequences of frames read the same.
#[derive(Default)]
pub(super) struct Transcript(Vec<u8>);

impl Transcript {
    pub(super) fn add(&mut self, frame: &[u8]) {
        self.0.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.0.extend_from_slice(frame);
    }

    fn mac(&self, token: &[u8], role: Role) -> Hmac<Sha256> {
        // A key of any length is taken: RFC 2104, section 3, hashes one that is longer than a block.
        let mut mac = match Hmac::<Sha256>::new_from_slice(token) {
            Ok(mac) => mac,
            Err(_) => unreachable!("HMAC takes keys of any length"),
        };
        mac.update(&(role.label().len() as u32).to_be_bytes());
        mac.update(role.label());
        mac.update(&self.0);
        mac
    }

    /// The proof that whoever plays `role` knows `token`.
    pub(super) fn prove(&self, token: &[u8], role: Role) -> [u8; PROOF_LEN] {
        self.mac(token, role).finalize().into_bytes().into()
    }

    /// Whether `proof` is that proof, found out in a time that does not depend on where the two differ.
    pub(super) fn is_proof(&self, token: &[u8], role: Role, proof: &[u8]) -> bool {
        self.mac(token, role).verify_slice(proof).is_ok()
    }
}
