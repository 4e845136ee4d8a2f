//! Plugins that are native libraries.
//!
//! Owns the translation of words; the calls themselves are in [`crate::sys`].

use crate::calls::Calls;
use crate::descriptor::{Descriptor, Needs, OptionKind, PluginOption, Setting, Sharing, Side};
use crate::instance::{Failure, StartError, checked_span, outside};
use crate::limits::FaultKind;
use crate::module::LoadError;
use crate::sys::native::{Collected, OpenError, Plugin, RawDescriptor, RawInstance};
use std::net::IpAddr;
use std::path::Path;
use tcpcopy_engine::flow;
use tcpcopy_engine::plugin::{self as engine, EventBatch, Input, Inputs, Outcome, Output, Reply, Span};
use tcpcopy_engine::protocol::{ClientEnd, Origin};
use tcpcopy_plugin_abi as abi;

/// The version that is offered.
const OFFERED: &str = "native 1.0";

/// A loaded library.
#[derive(Clone)]
pub(crate) struct NativeModule {
    plugin: Plugin,
}

/// A configured instance.
pub(crate) struct NativeInstance {
    raw: RawInstance,
    events: Vec<abi::Event>,
    openings: Vec<abi::Opening>,
}

impl NativeModule {
    /// Loads the library at `path`, whose content is `bytes`.
    pub(crate) fn load(path: &Path, bytes: &[u8]) -> Result<(Self, Descriptor, String), LoadError> {
        let invalid = |reason: String| LoadError::Invalid { path: path.to_owned(), reason };
        if !is_whole(bytes) {
            return Err(invalid("it is cut off, or a library for another machine".to_owned()));
        }
        // With a slash in it, so that the system does not search for it elsewhere.
        let whole = std::fs::canonicalize(path)
            .map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        let plugin = Plugin::open(&whole).map_err(|error| match error {
            OpenError::Load(reason) | OpenError::Table(reason) => invalid(reason),
            OpenError::NoSymbol => LoadError::NotAPlugin {
                path: path.to_owned(),
                what: "it is a native library, but exports no tcpcopy_plugin_v0".to_owned(),
            },
            OpenError::Version(found) => LoadError::Version {
                path: path.to_owned(),
                found: format!("native {found}"),
                offered: OFFERED,
            },
        })?;
        let raw = plugin.descriptor().ok_or_else(|| {
            invalid("its descriptor has a null pointer or a text that is no UTF-8".to_owned())
        })?;
        let descriptor =
            descriptor(&raw).map_err(|reason| LoadError::Descriptor { path: path.to_owned(), reason })?;
        let abi = format!("native {}", plugin.version());
        Ok((Self { plugin }, descriptor, abi))
    }

    /// A configured instance and its needs.
    pub(crate) fn start(
        &self,
        settings: &[Setting],
        calls: Calls,
    ) -> Result<(NativeInstance, Needs), StartError> {
        let (raw, needs) = self.plugin.create(settings, calls).map_err(|(status, text)| match status {
            abi::status::REFUSED => StartError::Refused(text),
            abi::status::FAULT => StartError::Failed(FaultKind::Trap, text),
            _ => StartError::Failed(FaultKind::InvalidOutput, format!("status {status}")),
        })?;
        let sharing = match needs.sharing {
            0 => Sharing::Grouped,
            1 => Sharing::Together,
            other => {
                let message = format!("sharing {other} has no meaning");
                return Err(StartError::Failed(FaultKind::InvalidOutput, message));
            }
        };
        let needs = Needs { inputs: Inputs::from_bits(needs.inputs), sharing };
        Ok((NativeInstance { raw, events: Vec::new(), openings: Vec::new() }, needs))
    }
}

impl NativeInstance {
    /// Takes a batch; after a failure, the instance must be dropped.
    pub(crate) fn run(&mut self, batch: &EventBatch, now: u64, outcome: &mut Outcome) -> Result<(), Failure> {
        self.events.clear();
        self.events.extend(batch.events.iter().map(event));
        self.openings.clear();
        self.openings.extend(batch.openings.iter().map(opening));
        self.raw.calls().begin(now);
        let (status, answer) = self.raw.run(&self.events, &self.openings, &batch.bytes);
        let result = match status {
            abi::status::OK => take(answer, outcome),
            abi::status::FAULT => Err(Failure {
                kind: FaultKind::Trap,
                message: crate::calls::shortened(&String::from_utf8_lossy(&answer.bytes), 600).to_owned(),
                session: None,
            }),
            _ => Err(Failure {
                kind: FaultKind::InvalidOutput,
                message: format!("status {status} has no meaning here"),
                session: None,
            }),
        };
        let calls = self.raw.calls();
        calls.end();
        let session = calls.session();
        result.map_err(|failure| Failure { session: failure.session.or(session), ..failure })
    }
}

fn event(event: &engine::Event) -> abi::Event {
    let (kind, start, length) = match event.input {
        Input::Opened(index) => (abi::input::OPENED, index, 0),
        Input::Request(span) => (abi::input::REQUEST, span.start, span.length),
        Input::Response(span) => (abi::input::RESPONSE, span.start, span.length),
        Input::ResponseEnd => (abi::input::RESPONSE_END, 0, 0),
        Input::Reference(span) => (abi::input::REFERENCE, span.start, span.length),
        Input::Connected => (abi::input::CONNECTED, 0, 0),
        Input::ConnectionLost { unanswered, kept, .. } => (abi::input::CONNECTION_LOST, unanswered, kept),
        Input::Gap => (abi::input::GAP, 0, 0),
        Input::ClientClosed(ClientEnd::Finished) => (abi::input::CLIENT_CLOSED, 0, 0),
        Input::ClientClosed(ClientEnd::Reset) => (abi::input::CLIENT_CLOSED, 1, 0),
        Input::Timer => (abi::input::TIMER, 0, 0),
        Input::Ended => (abi::input::ENDED, 0, 0),
    };
    let flag = match event.input {
        Input::ConnectionLost { interrupted, .. } => u32::from(interrupted),
        _ => 0,
    };
    abi::Event { session: event.session, at: event.at, kind, start, length, flag }
}

fn opening(opening: &engine::Opening) -> abi::Opening {
    let origin = match opening.origin {
        Origin::Start => abi::origin::START,
        Origin::MidStream => abi::origin::MID_STREAM,
        Origin::Rejoined => abi::origin::REJOINED,
    };
    abi::Opening {
        origin,
        client: endpoint(opening.client),
        online: endpoint(opening.online),
        target: endpoint(opening.target),
    }
}

fn endpoint(endpoint: flow::Endpoint) -> abi::Endpoint {
    let address = match endpoint.addr {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    abi::Endpoint { address: address.octets(), port: endpoint.port }
}

/// Appends what the plugin returned to `outcome`, whose bytes may be there already.
fn take(answer: &Collected, outcome: &mut Outcome) -> Result<(), Failure> {
    let (base, total) = (outcome.bytes.len(), answer.bytes.len());
    outcome.actions.reserve(answer.actions.len());
    for action in &answer.actions {
        let failure = |message: String| Failure {
            kind: FaultKind::InvalidOutput,
            message,
            session: Some(action.session),
        };
        let count =
            || u32::try_from(action.value).map_err(|_| failure(format!("{} bytes at once", action.value)));
        let span = || -> Result<Span, Failure> {
            let start = count()?;
            checked_span(start, action.length, total, base)
                .ok_or_else(|| failure(outside(start, action.length, total)))
        };
        let output = match action.kind {
            abi::output::FORWARD => Output::Forward(count()?),
            abi::output::DISCARD => Output::Discard(count()?),
            abi::output::SEND => Output::Send(span()?),
            abi::output::PREPARE => Output::Prepare(span()?),
            abi::output::END_REQUEST => match action.value {
                0 => Output::EndRequest(Reply::Expected),
                1 => Output::EndRequest(Reply::NotExpected),
                other => return Err(failure(format!("an expectation {other} has no meaning"))),
            },
            abi::output::REPLY_COMPLETE => Output::ReplyComplete,
            abi::output::READY => Output::Ready,
            abi::output::RECONNECT => Output::Reconnect,
            abi::output::CLOSE => Output::Close,
            abi::output::GIVE_UP => Output::GiveUp(span()?),
            abi::output::PASS_THROUGH => Output::PassThrough,
            abi::output::OBSERVE => Output::Observe(span()?),
            abi::output::SET_TIMER => Output::SetTimer(action.value),
            abi::output::CLEAR_TIMER => Output::ClearTimer,
            abi::output::WANT => Output::Want(Inputs::from_bits(count()?)),
            other => return Err(failure(format!("an action of kind {other} has no meaning"))),
        };
        outcome.actions.push(engine::Action { session: action.session, output });
    }
    outcome.bytes.extend_from_slice(&answer.bytes);
    Ok(())
}

fn descriptor(raw: &RawDescriptor<'_>) -> Result<Descriptor, String> {
    let speaks_first = match raw.speaks_first {
        0 => Side::Client,
        1 => Side::Server,
        other => return Err(format!("a side {other} has no meaning")),
    };
    let mut options = Vec::new();
    for option in &raw.options {
        let kind = OptionKind::from_code(option.kind)
            .ok_or_else(|| format!("a kind of option {} has no meaning", option.kind))?;
        options.push(PluginOption {
            name: option.name.to_owned(),
            kind,
            choices: option.choices.iter().map(|choice| (*choice).to_owned()).collect(),
            default: option.default.map(str::to_owned),
            help: option.help.to_owned(),
        });
    }
    Ok(Descriptor {
        name: raw.name.to_owned(),
        version: raw.version.to_owned(),
        about: raw.about.to_owned(),
        speaks_first,
        ports: raw.ports.to_vec(),
        inputs: Inputs::from_bits(raw.inputs),
        options,
    })
}

/// Whether the file holds all that its ELF header and segments say. The system maps what is missing all the same, and the program
/// would end by a signal when it is touched.
fn is_whole(bytes: &[u8]) -> bool {
    let number = |at: usize, size: usize| -> Option<u64> {
        let field = bytes.get(at..at.checked_add(size)?)?;
        Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let whole = || -> Option<bool> {
        // Class 64 bit, little-endian: that of all machines that the programs are built for.
        if number(4, 1)? != 2 || number(5, 1)? != 1 {
            return Some(false);
        }
        // The table of sections is not needed to run, but it is the last thing in most files: it tells that the end is there.
        let sections = number(40, 8)?.checked_add(number(58, 2)?.checked_mul(number(60, 2)?)?)?;
        if sections > bytes.len() as u64 {
            return Some(false);
        }
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        for index in 0..count {
            let header = usize::try_from(table.checked_add(size.checked_mul(index)?)?).ok()?;
            let end = number(header.checked_add(8)?, 8)?.checked_add(number(header.checked_add(32)?, 8)?)?;
            if end > bytes.len() as u64 {
                return Some(false);
            }
        }
        Some(count > 0)
    };
    whole().unwrap_or(false)
}
