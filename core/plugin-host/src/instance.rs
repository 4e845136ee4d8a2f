//! One running plugin, whatever it is made of.

use crate::calls::Calls;
use crate::descriptor::{Needs, Setting};
use crate::limits::{FaultKind, Limits};
use crate::native::{NativeInstance, NativeModule};
use crate::shared::Shared;
use crate::wasm::{WasmInstance, WasmModule};
use std::sync::Arc;
use tcpcopy_engine::plugin::{EventBatch, Outcome, Span};

/// A call that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FaultKind,
    pub(crate) message: String,
    /// The session that was entered last, or whose action was invalid.
    pub(crate) session: Option<u64>,
}

/// Why there is no instance.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The plugin refused its settings.
    Refused(String),
    /// It failed.
    Failed(FaultKind, String),
}

/// The loaded code of a plugin.
#[derive(Clone)]
pub(crate) enum Code {
    Wasm(WasmModule),
    Native(NativeModule),
}

impl Code {
    /// A configured instance and its needs.
    pub(crate) fn start(
        &self,
        settings: &[Setting],
        limits: &Limits,
        shared: &Arc<Shared>,
        seed: [u8; 32],
    ) -> Result<(Instance, Needs), StartError> {
        let calls = Calls::new(Arc::clone(shared), seed);
        match self {
            Self::Wasm(module) => {
                let (instance, needs) = module.start(settings, limits, calls)?;
                Ok((Instance::Wasm(Box::new(instance)), needs))
            }
            Self::Native(module) => {
                let (instance, needs) = module.start(settings, calls)?;
                Ok((Instance::Native(instance), needs))
            }
        }
    }
}

/// A configured instance.
pub(crate) enum Instance {
    Wasm(Box<WasmInstance>),
    Native(NativeInstance),
}

impl Instance {
    /// Takes a batch; after a failure, the instance must be dropped.
    pub(crate) fn run(&mut self, batch: &EventBatch, now: u64, outcome: &mut Outcome) -> Result<(), Failure> {
        match self {
            Self::Wasm(instance) => instance.run(batch, now, outcome),
            Self::Native(instance) => instance.run(batch, now, outcome),
        }
    }
}

/// A span of `length` bytes that came back from a plugin, moved by `base`, if it lies within the `total` bytes that came too.
pub(crate) fn checked_span(start: u32, length: u32, total: usize, base: usize) -> Option<Span> {
    if start as usize + length as usize > total {
        return None;
    }
    let start = u32::try_from(base).ok()?.checked_add(start)?;
    start.checked_add(length)?;
    Some(Span { start, length })
}

/// The message about a span that lies outside.
pub(crate) fn outside(start: u32, length: u32, total: usize) -> String {
    format!("{length} bytes from byte {start} on, but it returned {total} bytes")
}
