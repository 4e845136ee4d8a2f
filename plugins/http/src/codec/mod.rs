//! HTTP/1.x on the wire (RFC 9110, RFC 9112): where messages begin and end.
//!
//! Owns the grammar of heads, the rules that say how long a body is, and decoders that can be stopped at any byte. Keeps no
//! bytes: what was not taken is given again, with more behind it. What a message means to a replay is left to the plugin.

mod body;
mod fields;
mod head;
mod message;

pub use body::{Body, Framing, Progress};
pub use fields::{Coding, Connection, Expectation, Facts, Field, Fields, Length, UpgradeTo, tokens, trim};
pub use head::{
    METHODS, Method, Place, RequestHead, Resemblance, ResponseHead, find_request_line, resembles_request,
};
pub use message::{RequestDecoder, RequestStep, ResponseDecoder, ResponseStep};

/// What makes bytes no message, or one that no two servers read alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// The first line is none of a request.
    #[error("no request line")]
    RequestLine,
    /// The first line is none of a response.
    #[error("no status line")]
    StatusLine,
    /// A version other than 1.x.
    #[error("unknown HTTP version")]
    Version,
    /// A line in the head is no field (RFC 9112, section 5).
    #[error("malformed header line")]
    FieldLine,
    /// The head is larger than the bound, or so is the line of a chunk or the trailers.
    #[error("head too large")]
    TooLarge,
    /// `Content-Length` is no number, or says two things (RFC 9112, section 6.3).
    #[error("bad Content-Length")]
    ContentLength,
    /// `Transfer-Encoding` doesn't end in `chunked`, or comes with HTTP/1.0 (RFC 9112, sections 6.1 and 6.3).
    #[error("bad Transfer-Encoding")]
    TransferEncoding,
    /// A chunk's length or end is not where it must be (RFC 9112, section 7.1).
    #[error("malformed chunk")]
    Chunk,
}
