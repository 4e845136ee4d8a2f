//! Plugins that are Wasm components.
//!
//! Owns the engine that compiles and runs them, what is linked into them (the functions of `wit/v0.1`, nothing else), their
//! limits, and the translation of words. Which sessions share an instance is the runner's business.

mod engine;
mod load;
mod words;

use crate::calls::Calls;
use crate::descriptor::{Needs, Setting};
use crate::instance::{Failure, StartError};
use crate::limits::{FaultKind, Limits};
use engine::{Meter, classify};
use std::time::Duration;
use tcpcopy_engine::plugin::{EventBatch, Outcome};
use wasmtime::Store;

/// The bindings that the WIT package gives.
#[allow(missing_docs, unreachable_pub)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/v0.1",
        world: "protocol",
    });
}

/// A compiled, checked component.
#[derive(Clone)]
pub(crate) struct WasmModule {
    pre: bindings::ProtocolPre<State>,
}

/// What belongs to a store.
pub(crate) struct State {
    /// None while the plugin is only asked what it is.
    calls: Option<Calls>,
    meter: Meter,
}

/// A configured instance.
pub(crate) struct WasmInstance {
    store: Store<State>,
    plugin: bindings::Protocol,
    ticks: u64,
    events: Vec<words::Event>,
    openings: Vec<words::Opening>,
}

impl WasmModule {
    /// A store with the limits armed, and an instance in it.
    fn instantiate(
        &self,
        limits: &Limits,
        calls: Option<Calls>,
    ) -> Result<(Store<State>, bindings::Protocol), (FaultKind, String)> {
        let engine = self.pre.engine();
        let mut store = Store::new(engine, State { calls, meter: Meter::new(limits.memory_bytes) });
        store.limiter(|state| &mut state.meter);
        engine::set_deadline(&mut store, limits.deadline);
        store.set_epoch_deadline(engine::ticks(limits.deadline));
        let plugin = self.pre.instantiate(&mut store).map_err(|error| classify(&error))?;
        Ok((store, plugin))
    }

    /// A configured instance and its needs.
    pub(crate) fn start(
        &self,
        settings: &[Setting],
        limits: &Limits,
        calls: Calls,
    ) -> Result<(WasmInstance, Needs), StartError> {
        let failed = |(kind, message)| StartError::Failed(kind, message);
        let (mut store, plugin) = self.instantiate(limits, Some(calls)).map_err(failed)?;
        // Plugins may build tables as they are configured: once an instance, so a multiple of a batch's time is granted.
        store.set_epoch_deadline(engine::ticks(limits.deadline.saturating_mul(START_FACTOR)));
        let settings: Vec<_> = settings.iter().map(words::setting).collect();
        let answer =
            plugin.tcpcopy_plugin_plugin().call_configure(&mut store, &settings).map_err(|error| {
                let Failure { kind, message, .. } = failure(&mut store, &error);
                failed((kind, message))
            })?;
        let needs = words::needs(answer.map_err(StartError::Refused)?);
        let instance = WasmInstance {
            store,
            plugin,
            ticks: engine::ticks(limits.deadline),
            events: Vec::new(),
            openings: Vec::new(),
        };
        Ok((instance, needs))
    }
}

/// A plugin may take so many times its deadline to be configured.
const START_FACTOR: u32 = 10;
/// A plugin may take so long to say what it is.
const DESCRIBE: Duration = Duration::from_secs(1);

impl WasmInstance {
    /// Takes a batch; after a failure, the instance must be dropped.
    pub(crate) fn run(&mut self, batch: &EventBatch, now: u64, outcome: &mut Outcome) -> Result<(), Failure> {
        self.events.clear();
        self.events.extend(batch.events.iter().map(words::event));
        self.openings.clear();
        self.openings.extend(batch.openings.iter().map(words::opening));
        if let Some(calls) = &mut self.store.data_mut().calls {
            calls.begin(now);
        }
        self.store.data_mut().meter.overtime_since = None;
        self.store.set_epoch_deadline(self.ticks);
        let answer = self.plugin.tcpcopy_plugin_plugin().call_run(
            &mut self.store,
            &self.events,
            &self.openings,
            &batch.bytes,
        );
        if let Some(calls) = &mut self.store.data_mut().calls {
            calls.end();
        }
        let answer = answer.map_err(|error| failure(&mut self.store, &error))?;
        words::take(answer, outcome)
    }
}

/// What a failed call was: with what the plugin had to say about it, as a panic does before it becomes a trap.
#[cold]
fn failure(store: &mut Store<State>, error: &wasmtime::Error) -> Failure {
    let (kind, mut message) = classify(error);
    let mut session = None;
    if let Some(calls) = &mut store.data_mut().calls {
        session = calls.session();
        if let Some(complaint) = calls.complaint() {
            message = format!("{complaint} ({message})");
        }
    }
    Failure { kind, message, session }
}
