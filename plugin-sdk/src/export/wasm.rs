//! The WebAssembly arm: the exports of the WIT world `protocol`.
//!
//! `describe` and `configure`, which are called once, and all imports go through what `wit-bindgen` writes. `run` does not: what it
//! writes makes lists anew three times in each call. [`direct`] reads and writes the lists where they lie, and [`layout`] says how.

#[allow(
    unsafe_code,
    reason = "what a component is given and gives lies in memory, as the component model says"
)]
pub mod direct;
mod layout;

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

/// An instance, whatever plugin it is of.
trait Run {
    /// Takes a batch. What is returned stays as it is until the next call.
    fn run(
        &mut self,
        events: &[layout::Event],
        openings: &[layout::Opening],
        bytes: &[u8],
    ) -> *const layout::Outcome;
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
        INSTANCE.set(Some(Box::new(Instance {
            dispatcher,
            actions: Vec::new(),
            outcome: layout::Outcome::NONE,
        })));
        Ok(types::Needs {
            inputs: inputs(needs.inputs().bits()),
            sharing: match needs.is_together() {
                true => types::Sharing::Together,
                false => types::Sharing::Grouped,
            },
        })
    }

    fn run(_: Vec<types::Event>, _: Vec<types::Opening>, _: Vec<u8>) -> types::Outcome {
        unreachable!("`run` is exported by `direct`")
    }
}

struct Instance<P: Plugin> {
    dispatcher: Dispatcher<P>,
    /// What the last batch gave, as it is returned.
    actions: Vec<layout::Action>,
    outcome: layout::Outcome,
}

impl<P: Plugin> Run for Instance<P> {
    fn run(
        &mut self,
        events: &[layout::Event],
        openings: &[layout::Opening],
        bytes: &[u8],
    ) -> *const layout::Outcome {
        let openings: Vec<abi::Opening> = openings.iter().map(layout::Opening::read).collect();
        self.dispatcher.run(&Host, events.iter().map(layout::Event::read), &openings, bytes);
        let given = &self.dispatcher.outcome;
        self.actions.clear();
        self.actions.extend(given.actions.iter().map(layout::Action::new));
        self.outcome = layout::Outcome::new(&self.actions, &given.bytes);
        &raw const self.outcome
    }
}

/// Without it, a panic would show as an unreachable instruction only.
fn install_hook() {
    std::panic::set_hook(Box::new(|info| host::log(host::Level::Error, &describe_panic(info))));
}

fn inputs(bits: u32) -> types::Inputs {
    types::Inputs::from_bits_truncate(bits as u8)
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
