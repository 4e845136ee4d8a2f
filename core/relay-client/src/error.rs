//! Why a relay connection is not up, and what to do about it.

use std::io;
use tcpcopy_engine::flow::Endpoint;
use tcpcopy_engine::relay::frame::DecodeError;
use tcpcopy_engine::relay::handshake::HandshakeError;
use tcpcopy_engine::relay::hello::Refusal;

/// Why a relay connection could not be made, or was lost.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The connection could not be started.
    #[error("cannot open a connection: {0}")]
    Open(#[source] io::Error),
    /// The connection was refused, or there is no way to the server.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The server did not answer in time.
    #[error("cannot connect: no answer within {0} s")]
    ConnectTimeout(u64),
    /// The server accepted the connection and said nothing.
    #[error("no answer to the handshake within {0} s")]
    HandshakeTimeout(u64),
    /// The server closed the connection during the handshake.
    #[error("the connection was closed during the handshake")]
    ClosedInHandshake,
    /// The handshake failed.
    #[error("handshake failed: {0}")]
    Handshake(#[from] HandshakeError),
    /// The server closed an established connection.
    #[error("intercept closed the connection")]
    Closed,
    /// The server said why it closes an established connection.
    #[error("intercept closed the connection: {0}")]
    Dismissed(Refusal),
    /// Reading or writing failed.
    #[error("connection lost: {0}")]
    Lost(#[source] io::Error),
    /// Nothing was heard for too long.
    #[error("nothing heard from intercept for {0} s")]
    Silent(u64),
    /// What was received is not the protocol.
    #[error("invalid message: {0}")]
    Decode(#[from] DecodeError),
}

impl RelayError {
    /// Whether trying again soon is of no use.
    pub(crate) const fn is_lasting(&self) -> bool {
        match self {
            Self::Handshake(
                HandshakeError::Version { .. } | HandshakeError::Refused(Refusal::Version { .. }),
            ) => true,
            Self::Handshake(HandshakeError::Refused(Refusal::SingleTaken))
            | Self::Dismissed(Refusal::SingleTaken) => true,
            Self::Handshake(error) => error.is_about_token(),
            _ => false,
        }
    }

    /// What to do about it.
    pub fn hint(&self, server: Endpoint) -> String {
        let port = server.port;
        match self {
            Self::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => format!(
                "start intercept on {} first; without a token it listens on loopback only (give both sides --token-file, \
                 or intercept --no-auth), and -p must be {port}",
                server.addr
            ),
            Self::Connect(_) | Self::Open(_) | Self::ConnectTimeout(_) => format!(
                "check the address and port given with -s, and that no firewall drops TCP port {port}; an address given \
                 with -c must not be the one that the relay connection itself uses"
            ),
            Self::Handshake(HandshakeError::PeerWithoutToken) => {
                "give intercept the same token (--token-file or TCPCOPY_TOKEN), or tcpcopy none".into()
            }
            Self::Handshake(HandshakeError::Refused(Refusal::TokenRequired)) => {
                "give tcpcopy intercept's token, with --token-file or TCPCOPY_TOKEN".into()
            }
            Self::Handshake(HandshakeError::Refused(Refusal::SingleTaken))
            | Self::Dismissed(Refusal::SingleTaken) => {
                "stop the other tcpcopy, or run intercept without --single".into()
            }
            Self::Handshake(error) if error.is_about_token() => {
                "give tcpcopy and intercept the same token, with --token-file or TCPCOPY_TOKEN".into()
            }
            Self::Handshake(HandshakeError::Decode(_))
            | Self::HandshakeTimeout(_)
            | Self::ClosedInHandshake => {
                format!("check that it is an intercept of this version that listens on port {port}")
            }
            Self::Handshake(_) | Self::Decode(_) => "run tcpcopy and intercept of one release".into(),
            Self::Closed | Self::Dismissed(_) | Self::Lost(_) | Self::Silent(_) => {
                "look at intercept's log; the connection is made again by itself".into()
            }
        }
    }
}

/// Why one server can't be reached at the start.
#[derive(Clone, Debug)]
pub struct ServerFailure {
    /// The server.
    pub server: Endpoint,
    /// What went wrong.
    pub error: String,
    /// What to do about it.
    pub hint: String,
}
