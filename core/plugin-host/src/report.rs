//! What is told about a plugin at the end, and while it runs.

use crate::limits::FaultKind;
use crate::module::Kind;

/// Faults of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultCount {
    /// The kind.
    pub kind: FaultKind,
    /// How many.
    pub count: u64,
    /// What the last one was.
    pub last: String,
}

/// What became of a configured plugin, over all workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleReport {
    /// The plugin's name.
    pub name: String,
    /// What it is made of.
    pub kind: Kind,
    /// Instances made for sessions so far.
    pub instances: u64,
    /// Faults by kind; violations are among them.
    pub faults: Vec<FaultCount>,
    /// Why it is used no more, if it is not.
    pub disabled: Option<String>,
    /// Sessions that broke the rules of the interface.
    pub violations: u64,
    /// What the plugin counted, by name.
    pub counts: Vec<(String, u64)>,
    /// Sessions that it gave up, by its reason.
    pub gave_up: Vec<(String, u64)>,
}
