//! How the lists that `run` takes and returns lie in memory, by the component model's canonical ABI: records as in C, a variant as
//! its number in one byte followed by what is in it, aligned as the widest case is.
//!
//! Numbers of cases are their places in `wit/v0.1/plugin.wit`.

use tcpcopy_plugin_abi as abi;

/// `record event`.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Event {
    session: u64,
    at: u64,
    /// Which case of `variant input`.
    case: u8,
    /// The payload: an index, a client's end, a span, or the numbers of a loss.
    first: u32,
    second: u32,
    third: u8,
}

/// `record endpoint`.
#[derive(Debug)]
#[repr(C)]
struct Endpoint {
    address_high: u64,
    address_low: u64,
    port: u16,
}

/// `record opening`.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Opening {
    origin: u8,
    client: Endpoint,
    online: Endpoint,
    target: Endpoint,
}

/// `record action`.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Action {
    session: u64,
    /// Which case of `variant output`.
    case: u8,
    payload: Payload,
}

/// What is in an action's case.
#[derive(Clone, Copy)]
#[repr(C)]
union Payload {
    nanos: u64,
    span: [u32; 2],
    byte: u8,
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Payload")
    }
}

/// `record outcome`.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Outcome {
    actions: *const Action,
    action_count: usize,
    bytes: *const u8,
    byte_count: usize,
}

const _: () = {
    assert!(size_of::<Event>() == 32 && align_of::<Event>() == 8);
    assert!(size_of::<Opening>() == 80 && align_of::<Opening>() == 8);
    assert!(size_of::<Action>() == 24 && align_of::<Action>() == 8);
    assert!(size_of::<Outcome>() == 16);
};

/// Kinds of input in the order of `variant input`.
const INPUTS: [u32; 11] = [
    abi::input::OPENED,
    abi::input::REQUEST,
    abi::input::RESPONSE,
    abi::input::RESPONSE_END,
    abi::input::REFERENCE,
    abi::input::CONNECTED,
    abi::input::CONNECTION_LOST,
    abi::input::GAP,
    abi::input::CLIENT_CLOSED,
    abi::input::TIMER,
    abi::input::ENDED,
];

impl Event {
    #[inline]
    pub(super) fn read(&self) -> abi::Event {
        let Self { session, at, case, first, second, third } = *self;
        let kind = INPUTS[usize::from(case)];
        let (start, length, flag) = match kind {
            abi::input::OPENED => (first, 0, 0),
            abi::input::REQUEST | abi::input::RESPONSE | abi::input::REFERENCE => (first, second, 0),
            abi::input::CONNECTION_LOST => (first, second, u32::from(third)),
            // An enum takes one byte; those around it are of no meaning.
            abi::input::CLIENT_CLOSED => (first & 0xff, 0, 0),
            _ => (0, 0, 0),
        };
        abi::Event { session, at, kind, start, length, flag }
    }
}

impl Opening {
    pub(super) fn read(&self) -> abi::Opening {
        let endpoint = |endpoint: &Endpoint| {
            let address = (u128::from(endpoint.address_high) << 64) | u128::from(endpoint.address_low);
            abi::Endpoint { address: address.to_be_bytes(), port: endpoint.port }
        };
        abi::Opening {
            origin: match self.origin {
                0 => abi::origin::START,
                1 => abi::origin::MID_STREAM,
                _ => abi::origin::REJOINED,
            },
            client: endpoint(&self.client),
            online: endpoint(&self.online),
            target: endpoint(&self.target),
        }
    }
}

impl Action {
    #[inline]
    pub(super) fn new(action: &abi::Action) -> Self {
        // In a wasm32 module, places and lengths have 32 bits.
        let value = action.value as u32;
        let span = Payload { span: [value, action.length] };
        let byte = Payload { byte: value as u8 };
        let (case, payload) = match action.kind {
            abi::output::FORWARD => (0, span),
            abi::output::DISCARD => (1, span),
            abi::output::SEND => (2, span),
            abi::output::PREPARE => (3, span),
            abi::output::END_REQUEST => (4, byte),
            abi::output::REPLY_COMPLETE => (5, span),
            abi::output::READY => (6, span),
            abi::output::RECONNECT => (7, span),
            abi::output::CLOSE => (8, span),
            abi::output::GIVE_UP => (9, span),
            abi::output::PASS_THROUGH => (10, span),
            abi::output::OBSERVE => (11, span),
            abi::output::SET_TIMER => (12, Payload { nanos: action.value }),
            abi::output::CLEAR_TIMER => (13, span),
            abi::output::WANT => (14, byte),
            other => unreachable!("the SDK has no action {other}"),
        };
        Self { session: action.session, case, payload }
    }
}

impl Outcome {
    /// Of nothing yet.
    pub(super) const NONE: Self =
        Self { actions: std::ptr::dangling(), action_count: 0, bytes: std::ptr::dangling(), byte_count: 0 };

    pub(super) fn new(actions: &[Action], bytes: &[u8]) -> Self {
        Self {
            actions: actions.as_ptr(),
            action_count: actions.len(),
            bytes: bytes.as_ptr(),
            byte_count: bytes.len(),
        }
    }
}
