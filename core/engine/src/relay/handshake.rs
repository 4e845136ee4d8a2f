//! The handshake, both sides, as state machines over bytes.
//!
//! Owns the order of messages, the choice of a version and the proofs. The caller owns the connection, the nonces, and the
//! time limit ([`super::HANDSHAKE_TIMEOUT`]). After an error, the caller writes what was put into `out` (the refusal, which
//! tells the other side why) and closes.

use super::frame::{DecodeError, Frame, Kind, MAX_HANDSHAKE_PAYLOAD, write_frame};
use super::hello::{AssistantFacts, ClientHello, PeerId, ProofMethod, Refusal, ServerHello};
use super::proof::{PROOF_LEN, Role, Transcript};
use super::{CAPABILITIES, CAPABILITY_BODIES_FORESEEN, VERSION};
use crate::protocol::Bodies;

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The peer sent something else than the protocol asks for.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// No version is common.
    #[error("the peer speaks versions {lowest} to {highest} of the relay protocol, and we speak {VERSION}")]
    Version {
        /// Lowest version of the peer.
        lowest: u16,
        /// Highest version of the peer.
        highest: u16,
    },
    /// We have a token and the peer has none: as intercept, it must not get replies; as tcpcopy, it could be anyone.
    #[error("the peer has no token, and we have one")]
    PeerWithoutToken,
    /// The peer's proof is not one by our token.
    #[error("the peer's token is not ours")]
    WrongProof,
    /// The peer refused us.
    #[error("the peer refused the connection: {0}")]
    Refused(Refusal),
}

impl HandshakeError {
    /// Whether the cause is a token that differs or is missing on one side, which retrying alone does not mend.
    pub const fn is_about_token(&self) -> bool {
        matches!(
            self,
            Self::PeerWithoutToken
                | Self::WrongProof
                | Self::Refused(Refusal::TokenRequired | Refusal::WrongProof | Refusal::PeerWithoutToken)
        )
    }
}

/// How far a handshake got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// The next message is not complete yet.
    Incomplete,
    /// A message of that many bytes was taken; there may be more.
    Consumed(usize),
    /// The last message, of that many bytes, was taken, and the peers agree on this.
    Done(usize, T),
}

/// What `tcpcopy` knows after the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSession {
    /// Version of the protocol.
    pub version: u16,
    /// What both can do.
    pub capabilities: u32,
    /// About the assistant.
    pub facts: AssistantFacts,
}

/// What `intercept` knows after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerSession {
    /// Version of the protocol.
    pub version: u16,
    /// What both can do.
    pub capabilities: u32,
    /// Who the peer is.
    pub peer: PeerId,
}

impl ServerSession {
    /// Whether the peer's routes will ask for bodies, or it does not say so.
    pub const fn foreseen_bodies(&self) -> Bodies {
        if self.capabilities & CAPABILITY_BODIES_FORESEEN == 0 { Bodies::NotNeeded } else { Bodies::Needed }
    }
}

const fn method_of(token: Option<&[u8]>) -> ProofMethod {
    if token.is_some() { ProofMethod::HmacSha256 } else { ProofMethod::None }
}

/// Looks at the next frame; a refusal by the peer is an error whenever it comes.
fn next_frame(input: &[u8], wanted: Kind) -> Result<Option<Frame<'_>>, HandshakeError> {
    let Some(frame) = Frame::parse(input, MAX_HANDSHAKE_PAYLOAD)? else { return Ok(None) };
    match frame.kind {
        Kind::Refused => Err(HandshakeError::Refused(Refusal::decode(&frame)?)),
        kind if kind == wanted => Ok(Some(frame)),
        other => Err(DecodeError::Unexpected(other).into()),
    }
}

/// Puts into `out` what the other side is to know about a failure.
fn refuse(error: HandshakeError, out: &mut Vec<u8>, we: Role) {
    match (error, we) {
        (HandshakeError::Refused(_), _) => {}
        (HandshakeError::Decode(_), _) => Refusal::Malformed.encode(out),
        (HandshakeError::Version { .. }, _) => Refusal::Version { highest: VERSION }.encode(out),
        (HandshakeError::PeerWithoutToken, Role::Tcpcopy) => Refusal::PeerWithoutToken.encode(out),
        (HandshakeError::PeerWithoutToken, Role::Intercept) => Refusal::TokenRequired.encode(out),
        (HandshakeError::WrongProof, _) => Refusal::WrongProof.encode(out),
    }
}

/// The side of `tcpcopy`.
pub struct ClientHandshake {
    token: Option<Vec<u8>>,
    transcript: Transcript,
    state: ClientState,
}

enum ClientState {
    ExpectServerHello,
    ExpectWelcome { version: u16, capabilities: u32 },
}

impl ClientHandshake {
    /// Starts a handshake: its first message is put into `out`. `bodies` tells what routes will ask for; they may ask for
    /// something else. `nonce` must be random and never used before.
    pub fn start(
        token: Option<Vec<u8>>,
        peer: PeerId,
        bodies: Bodies,
        nonce: [u8; 32],
        out: &mut Vec<u8>,
    ) -> Self {
        let capabilities = match bodies {
            Bodies::Needed => CAPABILITIES,
            Bodies::NotNeeded => CAPABILITIES & !CAPABILITY_BODIES_FORESEEN,
        };
        let hello = ClientHello {
            version_min: VERSION,
            version_max: VERSION,
            capabilities,
            method: method_of(token.as_deref()),
            peer,
            nonce,
        };
        let start = out.len();
        hello.encode(out);
        let mut transcript = Transcript::default();
        transcript.add(&out[start..]);
        Self { token, transcript, state: ClientState::ExpectServerHello }
    }

    /// Takes the message at the start of `input`, if it is complete, and puts the answer into `out`.
    ///
    /// # Errors
    /// Why the handshake failed; a refusal is then in `out` if the peer is to get one.
    pub fn handle(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Step<ClientSession>, HandshakeError> {
        let result = match self.state {
            ClientState::ExpectServerHello => self.handle_server_hello(input, out),
            ClientState::ExpectWelcome { version, capabilities } => {
                self.handle_welcome(input, version, capabilities)
            }
        };
        result.inspect_err(|error| refuse(*error, out, Role::Tcpcopy))
    }

    fn handle_server_hello(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Step<ClientSession>, HandshakeError> {
        let Some(frame) = next_frame(input, Kind::ServerHello)? else { return Ok(Step::Incomplete) };
        let hello = ServerHello::decode(&frame)?;
        if hello.version != VERSION {
            return Err(HandshakeError::Version { lowest: hello.version, highest: hello.version });
        }
        if hello.method != method_of(self.token.as_deref()) {
            // An intercept with a token refuses us before it says hello, so that it is the one without.
            return Err(HandshakeError::PeerWithoutToken);
        }
        self.transcript.add(frame.bytes);
        let start = out.len();
        write_frame(out, Kind::ClientProof, |out| {
            if let Some(token) = &self.token {
                out.extend_from_slice(&self.transcript.prove(token, Role::Tcpcopy));
            }
        });
        self.transcript.add(&out[start..]);
        self.state = ClientState::ExpectWelcome {
            version: hello.version,
            capabilities: hello.capabilities & CAPABILITIES,
        };
        Ok(Step::Consumed(frame.bytes.len()))
    }

    fn handle_welcome(
        &mut self,
        input: &[u8],
        version: u16,
        capabilities: u32,
    ) -> Result<Step<ClientSession>, HandshakeError> {
        let Some(frame) = next_frame(input, Kind::Welcome)? else { return Ok(Step::Incomplete) };
        let mut reader = frame.reader();
        if let Some(token) = &self.token {
            let proof = reader.bytes(PROOF_LEN)?;
            self.transcript.add(reader.clone().rest());
            if !self.transcript.is_proof(token, Role::Intercept, proof) {
                return Err(HandshakeError::WrongProof);
            }
        }
        let facts = AssistantFacts::decode(&mut reader)?;
        Ok(Step::Done(frame.bytes.len(), ClientSession { version, capabilities, facts }))
    }
}

/// The side of `intercept`.
pub struct ServerHandshake {
    token: Option<Vec<u8>>,
    nonce: [u8; 32],
    transcript: Transcript,
    state: ServerState,
}

enum ServerState {
    ExpectClientHello,
    ExpectClientProof(ServerSession),
}

impl ServerHandshake {
    /// Starts a handshake. `nonce` must be random and never used before.
    pub fn new(token: Option<Vec<u8>>, nonce: [u8; 32]) -> Self {
        Self { token, nonce, transcript: Transcript::default(), state: ServerState::ExpectClientHello }
    }

    /// Takes the message at the start of `input`, if it is complete, and puts the answer into `out`. `facts` go into the
    /// last one.
    ///
    /// # Errors
    /// Why the handshake failed; a refusal is then in `out` if the peer is to get one.
    pub fn handle(
        &mut self,
        input: &[u8],
        facts: &AssistantFacts,
        out: &mut Vec<u8>,
    ) -> Result<Step<ServerSession>, HandshakeError> {
        let result = match self.state {
            ServerState::ExpectClientHello => self.handle_client_hello(input, out),
            ServerState::ExpectClientProof(session) => self.handle_client_proof(input, session, facts, out),
        };
        result.inspect_err(|error| refuse(*error, out, Role::Intercept))
    }

    fn handle_client_hello(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Step<ServerSession>, HandshakeError> {
        let Some(frame) = next_frame(input, Kind::ClientHello)? else { return Ok(Step::Incomplete) };
        let hello = ClientHello::decode(&frame)?;
        if !(hello.version_min..=hello.version_max).contains(&VERSION) {
            return Err(HandshakeError::Version { lowest: hello.version_min, highest: hello.version_max });
        }
        if self.token.is_some() && hello.method == ProofMethod::None {
            return Err(HandshakeError::PeerWithoutToken);
        }
        let session = ServerSession {
            version: VERSION,
            capabilities: hello.capabilities & CAPABILITIES,
            peer: hello.peer,
        };
        self.transcript.add(frame.bytes);
        let start = out.len();
        ServerHello {
            version: session.version,
            capabilities: session.capabilities,
            method: method_of(self.token.as_deref()),
            nonce: self.nonce,
        }
        .encode(out);
        self.transcript.add(&out[start..]);
        self.state = ServerState::ExpectClientProof(session);
        Ok(Step::Consumed(frame.bytes.len()))
    }

    fn handle_client_proof(
        &mut self,
        input: &[u8],
        session: ServerSession,
        facts: &AssistantFacts,
        out: &mut Vec<u8>,
    ) -> Result<Step<ServerSession>, HandshakeError> {
        let Some(frame) = next_frame(input, Kind::ClientProof)? else { return Ok(Step::Incomplete) };
        let Some(token) = &self.token else {
            frame.reader().finish()?;
            write_frame(out, Kind::Welcome, |out| facts.encode(out));
            return Ok(Step::Done(frame.bytes.len(), session));
        };
        if !self.transcript.is_proof(token, Role::Tcpcopy, frame.payload()) {
            return Err(HandshakeError::WrongProof);
        }
        self.transcript.add(frame.bytes);
        let mut encoded_facts = Vec::new();
        facts.encode(&mut encoded_facts);
        self.transcript.add(&encoded_facts);
        let proof = self.transcript.prove(token, Role::Intercept);
        write_frame(out, Kind::Welcome, |out| {
            out.extend_from_slice(&proof);
            out.extend_from_slice(&encoded_facts);
        });
        Ok(Step::Done(frame.bytes.len(), session))
    }
}

#[cfg(test)]
mod tests;
