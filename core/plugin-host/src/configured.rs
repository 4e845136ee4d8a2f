//! A plugin with its settings, ready for the workers.

use crate::descriptor::{Needs, Setting};
use crate::instance::{Code, StartError};
use crate::limits::FaultKind;
use crate::module::Kind;
use crate::report::ModuleReport;
use crate::runner::Runner;
use crate::shared::Shared;
use std::sync::Arc;
use tcpcopy_engine::plugin::PluginRunner;

/// Native groups are so many times as large as those of Wasm plugins.
const NATIVE_FACTOR: u32 = 16;

/// Why a plugin can't be used with its settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// The plugin refused the settings.
    #[error("plugin {name} refuses its settings: {reason}")]
    Refused {
        /// The plugin's name.
        name: String,
        /// The reason that it gave.
        reason: String,
    },
    /// The plugin failed.
    #[error("plugin {name} fails as it is configured ({kind}): {message}")]
    Failed {
        /// The plugin's name.
        name: String,
        /// How.
        kind: FaultKind,
        /// What happened.
        message: String,
    },
    /// It needs inputs that its descriptor does not mention.
    #[error(
        "plugin {name} needs inputs that its description does not mention; that is a defect of the plugin"
    )]
    Inputs {
        /// The plugin's name.
        name: String,
    },
    /// The system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

/// What runners are made from.
pub(crate) struct Plan {
    pub(crate) code: Code,
    pub(crate) settings: Vec<Setting>,
    pub(crate) needs: Needs,
    pub(crate) group_size: u32,
    pub(crate) seed: [u8; 32],
    pub(crate) shared: Arc<Shared>,
}

/// A plugin with its settings. Clones are the same plugin: they share its state and its report.
#[derive(Clone)]
pub struct Configured {
    plan: Arc<Plan>,
    kind: Kind,
}

impl Configured {
    pub(crate) fn new(
        code: Code,
        settings: Vec<Setting>,
        shared: Arc<Shared>,
        descriptor: &crate::Descriptor,
        seed: [u8; 32],
    ) -> Result<Self, ConfigureError> {
        let name = || descriptor.name.clone();
        let needs = match code.start(&settings, &shared.limits, &shared, seed) {
            Ok((_, needs)) => needs,
            Err(StartError::Refused(reason)) => return Err(ConfigureError::Refused { name: name(), reason }),
            Err(StartError::Failed(kind, message)) => {
                return Err(ConfigureError::Failed { name: name(), kind, message });
            }
        };
        if !descriptor.inputs.contains(needs.inputs) {
            return Err(ConfigureError::Inputs { name: name() });
        }
        let per_instance = shared.limits.sessions_per_instance.max(1);
        let (kind, group_size) = match &code {
            Code::Wasm(_) => (Kind::Wasm, per_instance),
            Code::Native(_) => (Kind::Native, per_instance.saturating_mul(NATIVE_FACTOR)),
        };
        Ok(Self { plan: Arc::new(Plan { code, settings, needs, group_size, seed, shared }), kind })
    }

    /// What the plugin needs with these settings.
    pub fn needs(&self) -> Needs {
        self.plan.needs
    }

    /// A runner for a worker. The worker's number is part of the seed of the plugin's random bytes.
    pub fn runner(&self, worker: usize) -> Box<dyn PluginRunner> {
        Box::new(Runner::new(Arc::clone(&self.plan), worker))
    }

    /// What became of the plugin so far, over all runners.
    pub fn report(&self) -> ModuleReport {
        let mut report = ModuleReport {
            name: self.plan.shared.name.clone(),
            kind: self.kind,
            instances: 0,
            faults: Vec::new(),
            disabled: None,
            violations: 0,
            counts: Vec::new(),
            gave_up: Vec::new(),
        };
        self.plan.shared.fill(&mut report);
        report
    }

    /// Why the program has to exit, by [`OnError::Exit`](crate::OnError::Exit). Costs one atomic load otherwise.
    pub fn must_exit(&self) -> Option<String> {
        self.plan.shared.must_exit()
    }
}
