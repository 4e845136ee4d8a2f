//! A session, as it happened.

use tcpcopy_engine::protocol::{ClientEnd, Origin};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The client sent bytes.
    Request(Vec<u8>),
    /// Bytes of the client were not captured.
    Gap,
    /// The target answered.
    Response(Vec<u8>),
    /// The target closed its side.
    ResponseEnd,
    /// The online server answered.
    Reference(Vec<u8>),
    /// Bytes of the online server were not captured.
    ReferenceGap,
    /// A connection to the target is there.
    Connected,
    /// The connection to the target is gone.
    ConnectionLost {
        /// Requests that will get no reply.
        unanswered: u32,
        /// Requests behind those that are sent again.
        kept: u32,
        /// Whether the request under way was broken off.
        interrupted: bool,
    },
    /// The client ended its side.
    ClientClosed(ClientEnd),
}

/// What happened to a session, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// What a failure calls it by.
    pub name: String,
    /// How the session begins.
    pub origin: Origin,
    /// Options of the plugin, `name=value`.
    pub options: Vec<String>,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Transcript {
    /// A session in which nothing has happened yet.
    pub fn new(name: impl Into<String>, origin: Origin) -> Self {
        Self { name: name.into(), origin, options: Vec::new(), steps: Vec::new() }
    }

    /// Appends a step; bytes of the same kind as those before join them.
    pub fn push(&mut self, step: Step) {
        match (self.steps.last_mut(), step) {
            (Some(Step::Request(before)), Step::Request(bytes))
            | (Some(Step::Response(before)), Step::Response(bytes))
            | (Some(Step::Reference(before)), Step::Reference(bytes)) => before.extend(bytes),
            (_, step) => self.steps.push(step),
        }
    }

    /// All bytes in it.
    pub fn bytes(&self) -> usize {
        let length = |step: &Step| match step {
            Step::Request(bytes) | Step::Response(bytes) | Step::Reference(bytes) => bytes.len(),
            _ => 0,
        };
        self.steps.iter().map(length).sum()
    }

    /// The client's bytes.
    pub fn requests(&self) -> Vec<u8> {
        let of = |step: &Step| match step {
            Step::Request(bytes) => bytes.clone(),
            _ => Vec::new(),
        };
        self.steps.iter().flat_map(of).collect()
    }
}
