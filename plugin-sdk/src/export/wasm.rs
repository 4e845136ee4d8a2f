//! The WebAssembly arm: the exports of the WIT world `protocol`.

use super::describe_panic;
use crate::actions::HostCalls;
use crate::descriptor::{Descriptor, OptionKind, Side};
use crate::dispatch::Dispatcher;
use crate::{Level, Plugin, Settings, Value};
use std::cell::RefCell;
use std::marker::PhantomData;
use tcpcopy_plugin_abi as abi;

#[allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "written by wit-bindgen"
)]
mod bindings {
    wit_bindgen::generate!({
        path: "wit/v0.1",
        world: "protocol",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "plugin_sdk::__private::wasm",
        generate_all,
    });
}

pub use bindings::*;

use bindings::exports::tcpcopy::plugin::plugin::Guest;
use bindings::tcpcopy::plugin::{host, types};

/// The component that a plugin is made into.
#[derive(Debug)]
pub struct Exported<P>(PhantomData<P>);

trait Run {
    fn run(
        &mut self,
        events: Vec<types::Event>,
        openings: Vec<types::Opening>,
        bytes: Vec<u8>,
    ) -> types::Outcome;
}

thread_local! {
    /// The instance: one a module.
    static INSTANCE: RefCell<Option<Box<dyn Run>>> = const { RefCell::new(None) };
}

struct Host;

impl HostCalls for Host {
    fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Error => host::Level::Error,
            Level::Warn => host::Level::Warn,
            Level::Info => host::Level::Info,
            Level::Debug => host::Level::Debug,
            Level::Trace => host::Level::Trace,
        };
        host::log(level, message);
    }

    fn count(&self, name: &str, amount: u64) {
        host::count(name, amount);
    }

    fn random(&self, into: &mut [u8]) {
        /// The host gives no more at once.
        const MOST: usize = 65536;
        for piece in into.chunks_mut(MOST) {
            piece.copy_from_slice(&host::random(piece.len() as u32));
        }
    }

    fn enter(&self, session: u64) {
        host::enter(session);
    }
}

impl<P: Plugin> Guest for Exported<P> {
    fn describe() -> types::Descriptor {
        install_hook();
        describe(P::descriptor())
    }

    fn configure(settings: Vec<types::Setting>) -> Result<types::Needs, String> {
        install_hook();
        let values = settings.into_iter().map(|setting| (setting.name, value(setting.value))).collect();
        let dispatcher = Dispatcher::<P>::new(&Settings::new(&P::descriptor(), values))
            .map_err(|error| error.to_string())?;
        let needs = dispatcher.needs();
        INSTANCE.set(Some(Box::new(dispatcher)));
        Ok(types::Needs {
            inputs: inputs(needs.inputs().bits()),
            sharing: match needs.is_together() {
                true => types::Sharing::Together,
                false => types::Sharing::Grouped,
            },
        })
    }

    fn run(events: Vec<types::Event>, openings: Vec<types::Opening>, bytes: Vec<u8>) -> types::Outcome {
        INSTANCE.with_borrow_mut(|instance| match instance {
            Some(instance) => instance.run(events, openings, bytes),
            None => panic!("run was called before configure"),
        })
    }
}

impl<P: Plugin> Run for Dispatcher<P> {
    fn run(
        &mut self,
        events: Vec<types::Event>,
        openings: Vec<types::Opening>,
        bytes: Vec<u8>,
    ) -> types::Outcome {
        let openings: Vec<abi::Opening> = openings.iter().map(opening).collect();
        self.run(&Host, events.iter().map(event), &openings, &bytes);
        let actions = self.outcome.actions.iter().map(action).collect();
        types::Outcome { actions, bytes: std::mem::take(&mut self.outcome.bytes) }
    }
}

/// Without it, a panic would show as an unreachable instruction only.
fn install_hook() {
    std::panic::set_hook(Box::new(|info| host::log(host::Level::Error, &describe_panic(info))));
}

fn inputs(bits: u32) -> types::Inputs {
    types::Inputs::from_bits_truncate(bits as u8)
}

fn event(event: &types::Event) -> abi::Event {
    use types::Input;
    let mut flag = 0;
    let (kind, start, length) = match event.input {
        Input::Opened(index) => (abi::input::OPENED, index, 0),
        Input::Request(span) => (abi::input::REQUEST, span.start, span.length),
        Input::Response(span) => (abi::input::RESPONSE, span.start, span.length),
        Input::ResponseEnd => (abi::input::RESPONSE_END, 0, 0),
        Input::Reference(span) => (abi::input::REFERENCE, span.start, span.length),
        Input::Connected => (abi::input::CONNECTED, 0, 0),
        Input::ConnectionLost(loss) => {
            flag = u32::from(loss.interrupted);
            (abi::input::CONNECTION_LOST, loss.unanswered, loss.kept)
        }
        Input::Gap => (abi::input::GAP, 0, 0),
        Input::ClientClosed(types::ClientEnd::Finished) => (abi::input::CLIENT_CLOSED, 0, 0),
        Input::ClientClosed(types::ClientEnd::Reset) => (abi::input::CLIENT_CLOSED, 1, 0),
        Input::Timer => (abi::input::TIMER, 0, 0),
        Input::Ended => (abi::input::ENDED, 0, 0),
    };
    abi::Event { session: event.session, at: event.at, kind, start, length, flag }
}

fn action(action: &abi::Action) -> types::Action {
    use types::Output;
    // In a wasm32 module, places and lengths have 32 bits.
    let value = action.value as u32;
    let span = types::Span { start: value, length: action.length };
    let output = match action.kind {
        abi::output::FORWARD => Output::Forward(value),
        abi::output::DISCARD => Output::Discard(value),
        abi::output::SEND => Output::Send(span),
        abi::output::PREPARE => Output::Prepare(span),
        abi::output::END_REQUEST if value == 0 => Output::EndRequest(types::Reply::Expected),
        abi::output::END_REQUEST => Output::EndRequest(types::Reply::NotExpected),
        abi::output::REPLY_COMPLETE => Output::ReplyComplete,
        abi::output::READY => Output::Ready,
        abi::output::RECONNECT => Output::Reconnect,
        abi::output::CLOSE => Output::Close,
        abi::output::GIVE_UP => Output::GiveUp(span),
        abi::output::PASS_THROUGH => Output::PassThrough,
        abi::output::OBSERVE => Output::Observe(span),
        abi::output::SET_TIMER => Output::SetTimer(action.value),
        abi::output::CLEAR_TIMER => Output::ClearTimer,
        abi::output::WANT => Output::Want(inputs(value)),
        other => unreachable!("the SDK has no action {other}"),
    };
    types::Action { session: action.session, output }
}

fn opening(opening: &types::Opening) -> abi::Opening {
    let endpoint = |endpoint: &types::Endpoint| {
        let address = (u128::from(endpoint.address_high) << 64) | u128::from(endpoint.address_low);
        abi::Endpoint { address: address.to_be_bytes(), port: endpoint.port }
    };
    abi::Opening {
        origin: match opening.origin {
            types::Origin::Start => abi::origin::START,
            types::Origin::MidStream => abi::origin::MID_STREAM,
            types::Origin::Rejoined => abi::origin::REJOINED,
        },
        client: endpoint(&opening.client),
        online: endpoint(&opening.online),
        target: endpoint(&opening.target),
    }
}

fn value(value: types::SettingValue) -> Value {
    match value {
        types::SettingValue::Boolean(value) => Value::Boolean(value),
        types::SettingValue::Integer(value) => Value::Integer(value),
        types::SettingValue::Number(value) => Value::Number(value),
        types::SettingValue::Text(value) => Value::Text(value),
        types::SettingValue::Texts(value) => Value::Texts(value),
        types::SettingValue::Table(value) => Value::Table(value),
    }
}

fn describe(descriptor: Descriptor) -> types::Descriptor {
    types::Descriptor {
        name: descriptor.name.into_owned(),
        version: descriptor.version.into_owned(),
        about: descriptor.about.into_owned(),
        speaks_first: match descriptor.speaks_first {
            Side::Client => types::Side::Client,
            Side::Server => types::Side::Server,
        },
        ports: descriptor.ports,
        inputs: inputs(descriptor.inputs.bits()),
        options: descriptor
            .options
            .into_iter()
            .map(|option| types::PluginOption {
                name: option.name.into_owned(),
                kind: match option.kind {
                    OptionKind::Boolean => types::OptionKind::Boolean,
                    OptionKind::Integer => types::OptionKind::Integer,
                    OptionKind::Number => types::OptionKind::Number,
                    OptionKind::Text => types::OptionKind::Text,
                    OptionKind::Choice(_) => types::OptionKind::Choice,
                    OptionKind::Texts => types::OptionKind::Texts,
                    OptionKind::Table => types::OptionKind::Table,
                },
                choices: match option.kind {
                    OptionKind::Choice(choices) => {
                        choices.into_iter().map(|choice| choice.into_owned()).collect()
                    }
                    _ => Vec::new(),
                },
                default: option.default.map(|default| default.into_owned()),
                help: option.help.into_owned(),
            })
            .collect(),
    }
}
