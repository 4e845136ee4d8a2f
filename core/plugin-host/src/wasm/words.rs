//! Translation between the engine's words and those of the WIT package.

use super::State;
use super::bindings::exports::tcpcopy::plugin::plugin as exported;
use super::bindings::tcpcopy::plugin::{host, types};
use crate::calls::{Calls, Level};
use crate::descriptor::{self, Descriptor, Needs, OptionKind, PluginOption, SettingValue, Sharing, Side};
use crate::instance::Failure;
use crate::limits::FaultKind;
use std::net::IpAddr;
use tcpcopy_engine::flow;
use tcpcopy_engine::plugin::{self as engine, Input, Inputs, Outcome, Output, Reply, Span};
use tcpcopy_engine::protocol::{ClientEnd, Origin};

pub(super) use types::{Event, Opening};

pub(super) fn event(event: &engine::Event) -> Event {
    let input = match event.input {
        Input::Opened(index) => types::Input::Opened(index),
        Input::Request(bytes) => types::Input::Request(span(bytes)),
        Input::Response(bytes) => types::Input::Response(span(bytes)),
        Input::ResponseEnd => types::Input::ResponseEnd,
        Input::Reference(bytes) => types::Input::Reference(span(bytes)),
        Input::Connected => types::Input::Connected,
        Input::ConnectionLost { unanswered, kept, interrupted } => {
            types::Input::ConnectionLost(types::Loss { unanswered, kept, interrupted })
        }
        Input::Gap => types::Input::Gap,
        Input::ClientClosed(ClientEnd::Finished) => types::Input::ClientClosed(types::ClientEnd::Finished),
        Input::ClientClosed(ClientEnd::Reset) => types::Input::ClientClosed(types::ClientEnd::Reset),
        Input::Timer => types::Input::Timer,
        Input::Ended => types::Input::Ended,
    };
    Event { session: event.session, at: event.at, input }
}

fn span(span: Span) -> types::Span {
    types::Span { start: span.start, length: span.length }
}

pub(super) fn opening(opening: &engine::Opening) -> Opening {
    let origin = match opening.origin {
        Origin::Start => types::Origin::Start,
        Origin::MidStream => types::Origin::MidStream,
        Origin::Rejoined => types::Origin::Rejoined,
    };
    Opening {
        origin,
        client: endpoint(opening.client),
        online: endpoint(opening.online),
        target: endpoint(opening.target),
    }
}

fn endpoint(endpoint: flow::Endpoint) -> types::Endpoint {
    let address = match endpoint.addr {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let address = address.to_bits();
    types::Endpoint { address_high: (address >> 64) as u64, address_low: address as u64, port: endpoint.port }
}

/// Appends what the plugin returned to `outcome`, whose bytes may be there already.
pub(super) fn take(answer: exported::Outcome, outcome: &mut Outcome) -> Result<(), Failure> {
    let base = outcome.bytes.len();
    outcome.actions.reserve(answer.actions.len());
    for action in &answer.actions {
        let span = |span: types::Span| {
            crate::instance::checked_span(span.start, span.length, answer.bytes.len(), base).ok_or_else(
                || Failure {
                    kind: FaultKind::InvalidOutput,
                    message: crate::instance::outside(span.start, span.length, answer.bytes.len()),
                    session: Some(action.session),
                },
            )
        };
        let output = match action.output {
            types::Output::Forward(count) => Output::Forward(count),
            types::Output::Discard(count) => Output::Discard(count),
            types::Output::Send(bytes) => Output::Send(span(bytes)?),
            types::Output::Prepare(bytes) => Output::Prepare(span(bytes)?),
            types::Output::EndRequest(types::Reply::Expected) => Output::EndRequest(Reply::Expected),
            types::Output::EndRequest(types::Reply::NotExpected) => Output::EndRequest(Reply::NotExpected),
            types::Output::ReplyComplete => Output::ReplyComplete,
            types::Output::Ready => Output::Ready,
            types::Output::Reconnect => Output::Reconnect,
            types::Output::Close => Output::Close,
            types::Output::GiveUp(text) => Output::GiveUp(span(text)?),
            types::Output::PassThrough => Output::PassThrough,
            types::Output::Observe(text) => Output::Observe(span(text)?),
            types::Output::SetTimer(nanos) => Output::SetTimer(nanos),
            types::Output::ClearTimer => Output::ClearTimer,
            types::Output::Want(wanted) => Output::Want(inputs(wanted)),
        };
        outcome.actions.push(engine::Action { session: action.session, output });
    }
    outcome.bytes.extend_from_slice(&answer.bytes);
    Ok(())
}

fn inputs(flags: types::Inputs) -> Inputs {
    let mut inputs = Inputs::NONE;
    for (flag, input) in [
        (types::Inputs::RESPONSES, Inputs::RESPONSES),
        (types::Inputs::REFERENCES, Inputs::REFERENCES),
        (types::Inputs::CONNECTIONS, Inputs::CONNECTIONS),
        (types::Inputs::CLOSES, Inputs::CLOSES),
    ] {
        if flags.contains(flag) {
            inputs = inputs.union(input);
        }
    }
    inputs
}

pub(super) fn needs(needs: types::Needs) -> Needs {
    let sharing = match needs.sharing {
        types::Sharing::Grouped => Sharing::Grouped,
        types::Sharing::Together => Sharing::Together,
    };
    Needs { inputs: inputs(needs.inputs), sharing }
}

pub(super) fn setting(setting: &descriptor::Setting) -> types::Setting {
    let value = match &setting.value {
        SettingValue::Boolean(value) => types::SettingValue::Boolean(*value),
        SettingValue::Integer(value) => types::SettingValue::Integer(*value),
        SettingValue::Number(value) => types::SettingValue::Number(*value),
        SettingValue::Text(text) => types::SettingValue::Text(text.clone()),
        SettingValue::Texts(texts) => types::SettingValue::Texts(texts.clone()),
        SettingValue::Table(entries) => types::SettingValue::Table(entries.clone()),
    };
    types::Setting { name: setting.name.clone(), value }
}

pub(super) fn descriptor(answer: types::Descriptor) -> Descriptor {
    let speaks_first = match answer.speaks_first {
        types::Side::Client => Side::Client,
        types::Side::Server => Side::Server,
    };
    let option = |option: types::PluginOption| PluginOption {
        name: option.name,
        kind: match option.kind {
            types::OptionKind::Boolean => OptionKind::Boolean,
            types::OptionKind::Integer => OptionKind::Integer,
            types::OptionKind::Number => OptionKind::Number,
            types::OptionKind::Text => OptionKind::Text,
            types::OptionKind::Choice => OptionKind::Choice,
            types::OptionKind::Texts => OptionKind::Texts,
            types::OptionKind::Table => OptionKind::Table,
        },
        choices: option.choices,
        default: option.default,
        help: option.help,
    };
    Descriptor {
        name: answer.name,
        version: answer.version,
        about: answer.about,
        speaks_first,
        ports: answer.ports,
        inputs: inputs(answer.inputs),
        options: answer.options.into_iter().map(option).collect(),
    }
}

impl types::Host for State {}

impl host::Host for State {
    fn log(&mut self, level: host::Level, message: String) {
        let Some(calls) = &mut self.calls else { return };
        let level = match level {
            host::Level::Error => Level::Error,
            host::Level::Warn => Level::Warn,
            host::Level::Info => Level::Info,
            host::Level::Debug => Level::Debug,
            host::Level::Trace => Level::Trace,
        };
        calls.log(level, &message);
    }

    fn count(&mut self, name: String, amount: u64) {
        if let Some(calls) = &mut self.calls {
            calls.count(&name, amount);
        }
    }

    fn now(&mut self) -> u64 {
        self.calls.as_ref().map_or(0, Calls::now)
    }

    fn random(&mut self, length: u32) -> Vec<u8> {
        self.calls.as_mut().map_or_else(Vec::new, |calls| calls.random(length))
    }

    fn enter(&mut self, session: u64) {
        if let Some(calls) = &mut self.calls {
            calls.enter(session);
        }
    }
}
