//! Plugins of a run: found, loaded, configured, and handed to the workers.
//!
//! Owns what lies between the options and the plugin host, and what the report shows of each plugin. What a plugin is, and how it
//! is called, is the host's business; what it decides is the engine's.

use crate::failure::UsageError;
use crate::report::{ModuleFaults, ModuleStatus};
use crate::settings::{Carrying, ModuleFacts, Plugins, Settings, ports_served};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tcpcopy_engine::plugin::{EventBatch, Fault, Group, Inputs, Outcome, PluginRunner, SessionId, Without};
use tcpcopy_plugin_host::settings::{ConfigFile, SettingsError, help_text, resolve};
use tcpcopy_plugin_host::{
    ConfigureError, Configured, FaultKind, LoadError, Loader, Module, ModuleReport, SearchPath, Sharing,
};

/// Plugins, ready for the workers, in the order of the command line.
#[derive(Clone, Default)]
pub struct Modules(Vec<ReadyModule>);

#[derive(Clone)]
struct ReadyModule {
    configured: Configured,
    ports: Vec<u16>,
    sessions: Arc<AtomicU64>,
}

impl Modules {
    /// Finds, loads and configures the plugins that `settings` ask for, and lets `settings` take note of them.
    ///
    /// # Errors
    /// A plugin that can't be found or used, an option that it does not have, ports that make no sense.
    pub fn load(settings: &mut Settings) -> Result<Self, UsageError> {
        let plugins = settings.plugins.clone();
        let found = find_all(&plugins)?;
        let options = ModuleOptions::read(&plugins, &found)?;
        let mut ready = Vec::new();
        let mut facts = Vec::new();
        for (wanted, module) in plugins.modules.iter().zip(&found) {
            let descriptor = module.descriptor();
            let ports = ports_served(wanted, &descriptor.ports, &settings.transfers, found.len())?;
            let configured = options.configure(module)?;
            let needs = configured.needs();
            facts.push(ModuleFacts {
                name: descriptor.name.clone(),
                version: descriptor.version.clone(),
                kind: kind_text(module),
                path: module.path().to_owned(),
                ports: ports.clone(),
                inputs: needs.inputs,
                carrying: match needs.sharing {
                    Sharing::Grouped => Carrying::Nothing,
                    Sharing::Together => Carrying::BetweenSessions,
                },
            });
            ready.push(ReadyModule { configured, ports, sessions: Arc::default() });
        }
        settings.use_modules(facts)?;
        Ok(Self(ready))
    }

    /// For the worker of this number: a runner for each plugin, and the ports that it serves.
    pub fn runners(&self, worker: usize) -> Vec<(Box<dyn PluginRunner>, Vec<u16>)> {
        self.0
            .iter()
            .map(|module| {
                let inner = module.configured.runner(worker);
                let runner = CountingRunner { inner, sessions: Arc::clone(&module.sessions) };
                (Box::new(runner) as Box<dyn PluginRunner>, module.ports.clone())
            })
            .collect()
    }

    /// What became of each plugin so far, over all workers.
    pub fn statuses(&self) -> Vec<ModuleStatus> {
        self.0
            .iter()
            .map(|module| {
                let sessions = module.sessions.load(Ordering::Relaxed);
                status(module.configured.report(), module.ports.clone(), sessions)
            })
            .collect()
    }

    /// Why the program has to end, by `--on-plugin-error exit`.
    pub fn must_exit(&self) -> Option<String> {
        self.0.iter().find_map(|module| module.configured.must_exit())
    }
}

/// What the report shows of a plugin.
pub fn status(report: ModuleReport, ports: Vec<u16>, sessions: u64) -> ModuleStatus {
    ModuleStatus {
        name: report.name,
        kind: report.kind.to_string(),
        ports,
        sessions,
        instances: report.instances,
        faults: report
            .faults
            .into_iter()
            // They have a line of their own, since the plugin lives on.
            .filter(|fault| fault.kind != FaultKind::Violation)
            .map(|fault| ModuleFaults { kind: fault.kind.to_string(), count: fault.count, last: fault.last })
            .collect(),
        violations: report.violations,
        disabled: report.disabled,
        gave_up: report.gave_up,
        counts: report.counts,
    }
}

/// What `--module-help` prints: each plugin and its options.
///
/// # Errors
/// A plugin that can't be found or loaded.
pub fn module_help(plugins: &Plugins) -> Result<String, UsageError> {
    let texts: Vec<String> = find_all(plugins)?.iter().map(|module| help_text(module.descriptor())).collect();
    Ok(texts.join("\n"))
}

fn find_all(plugins: &Plugins) -> Result<Vec<Module>, UsageError> {
    let path = SearchPath::from_environment();
    let loader = Loader::new(plugins.loader_options());
    plugins.modules.iter().map(|wanted| find("--module", &wanted.name, &path, &loader)).collect()
}

/// Loads the plugin that `name` stands for; `option` is where it was typed.
///
/// # Errors
/// There is none, or it can't be used.
pub fn find(option: &str, name: &str, path: &SearchPath, loader: &Loader) -> Result<Module, UsageError> {
    let file = path.find(name).map_err(|error| {
        let hint = if name.contains('/') {
            "give the file of a plugin, or the name of one that tcpcopy plugins lists"
        } else {
            "tcpcopy plugins lists those that are found by name; TCPCOPY_PLUGIN_PATH names more directories; a file is given \
             with a slash in it: ./redis.wasm"
        };
        UsageError::new(format!("{option} {name}: {error}"), hint)
    })?;
    load(option, &file, loader)
}

fn load(option: &str, file: &Path, loader: &Loader) -> Result<Module, UsageError> {
    Module::load(file, loader).map_err(|error| {
        let hint = match &error {
            LoadError::Read { .. } => "the file must exist and be readable",
            LoadError::NotAPlugin { .. } | LoadError::Invalid { .. } => {
                "a plugin is a Wasm component of the world tcpcopy:plugin/protocol, or a library with the symbol \
                 tcpcopy_plugin_v0; tcpcopy plugin new NAME writes the beginnings of one"
            }
            LoadError::Import { .. } => "cargo build --release --target wasm32-unknown-unknown",
            LoadError::Version { .. } => "build the plugin against the SDK of this tcpcopy",
            LoadError::Failed { .. } | LoadError::Descriptor { .. } => {
                "that is a defect of the plugin; --log-level debug may tell more"
            }
        };
        UsageError::new(format!("{option}: {error}"), hint)
    })
}

/// Kind and interface of a module, as it is shown.
pub fn kind_text(module: &Module) -> String {
    format!("{}, {}", module.kind(), module.abi())
}

/// Options of modules, from the file and from the command line.
pub struct ModuleOptions {
    /// The file's content for each module, by name.
    files: Vec<(String, ConfigFile)>,
    typed: Vec<(String, Vec<String>)>,
}

impl ModuleOptions {
    /// Reads the options for `modules`, and says to which each belongs.
    ///
    /// # Errors
    /// A file that can't be read; an option for a module that was not given, or for any of several.
    pub fn read(plugins: &Plugins, modules: &[Module]) -> Result<Self, UsageError> {
        let names: Vec<&str> = modules.iter().map(|module| module.descriptor().name.as_str()).collect();
        let files = match &plugins.config {
            Some(path) => files(path, &names)?,
            None => Vec::new(),
        };
        let mut typed: Vec<(String, Vec<String>)> =
            names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        for option in &plugins.options {
            let (index, assignment) = assign(option, modules)?;
            typed[index].1.push(assignment);
        }
        Ok(Self { files, typed })
    }

    /// The plugin with its options.
    ///
    /// # Errors
    /// An option that it does not have, a value of another type, or one that the plugin itself refuses.
    pub fn configure(&self, module: &Module) -> Result<Configured, UsageError> {
        let descriptor = module.descriptor();
        let file = self.files.iter().find(|(name, _)| *name == descriptor.name).map(|(_, file)| file);
        let typed = self.typed.iter().find(|(name, _)| *name == descriptor.name);
        let typed = typed.map_or(&[][..], |(_, options)| options);
        let settings = resolve(descriptor, file, typed).map_err(|error| option_error(&error))?;
        module.configure(settings).map_err(|error| {
            let hint = match &error {
                ConfigureError::Refused { .. } => {
                    format!("tcpcopy --module {} --module-help explains its options", descriptor.name)
                }
                ConfigureError::Failed { .. } | ConfigureError::Inputs { .. } => {
                    "that is a defect of the plugin; --log-level debug may tell more".to_owned()
                }
                ConfigureError::Random(_) => "is getrandom(2) blocked here?".to_owned(),
            };
            UsageError::new(format!("--module: {error}"), hint)
        })
    }
}

fn option_error(error: &SettingsError) -> UsageError {
    let hint = match error {
        SettingsError::Read { .. } => "--module-config takes a file that can be read",
        SettingsError::Toml { .. } => {
            "the file holds lines of the form name = value, in TOML: strings in quotes"
        }
        SettingsError::NoAssignment { .. } => "--module-opt takes NAME=VALUE",
        SettingsError::Unknown { .. } | SettingsError::Value { .. } => {
            "--module-help explains each option of a module"
        }
    };
    UsageError::new(error.to_string(), hint)
}

/// What the file holds for each of the modules. With one module, its options may stand at the top.
fn files(path: &Path, names: &[&str]) -> Result<Vec<(String, ConfigFile)>, UsageError> {
    let whole = ConfigFile::read(path).map_err(|error| option_error(&error))?;
    if let [name] = names {
        return Ok(vec![((*name).to_owned(), whole)]);
    }
    let text = std::fs::read_to_string(path)
        .map_err(|source| option_error(&SettingsError::Read { path: path.to_owned(), source }))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let message = error.message().to_owned();
        option_error(&SettingsError::Toml { path: path.to_owned(), message })
    })?;
    let is_of_a_module =
        |(key, value): (&String, &toml::Value)| names.contains(&key.as_str()) && value.is_table();
    if let Some((key, _)) = table.iter().find(|entry| !is_of_a_module(*entry)) {
        return Err(UsageError::new(
            format!("--module-config {}: {key:?} belongs to no module", path.display()),
            format!("with several modules, each has a table that bears its name: [{}]", names.join("], [")),
        ));
    }
    Ok(names
        .iter()
        .filter(|name| table.contains_key(**name))
        .map(|name| ((*name).to_owned(), whole.clone()))
        .collect())
}

/// Which module an assignment is for (its index), and the assignment without the module's name.
fn assign(option: &str, modules: &[Module]) -> Result<(usize, String), UsageError> {
    let hint = "the form is NAME=VALUE, or MODULE.NAME=VALUE with several modules";
    let Some((key, value)) = option.split_once('=') else {
        // The value may be secret, and there is none.
        return Err(UsageError::new("--module-opt: expected NAME=VALUE", hint));
    };
    if let Some((module, name)) = key.split_once('.') {
        let found = modules.iter().position(|candidate| candidate.descriptor().name == module.trim());
        return found.map(|index| (index, format!("{name}={value}"))).ok_or_else(|| {
            UsageError::new(format!("--module-opt {key}: no module is called {:?}", module.trim()), hint)
        });
    }
    match modules {
        [_] => Ok((0, option.to_owned())),
        _ => Err(UsageError::new(format!("--module-opt {key}: which module is meant?"), hint)),
    }
}

/// Counts the sessions that a plugin serves.
struct CountingRunner {
    inner: Box<dyn PluginRunner>,
    sessions: Arc<AtomicU64>,
}

impl PluginRunner for CountingRunner {
    fn inputs(&self) -> Inputs {
        self.inner.inputs()
    }

    fn join(&mut self) -> Result<Group, Without> {
        let joined = self.inner.join();
        if joined.is_ok() {
            self.sessions.fetch_add(1, Ordering::Relaxed);
        }
        joined
    }

    fn leave(&mut self, group: Group) {
        self.inner.leave(group);
    }

    fn run(
        &mut self,
        group: Group,
        batch: &EventBatch,
        now_nanos: u64,
        outcome: &mut Outcome,
    ) -> Result<(), Fault> {
        self.inner.run(group, batch, now_nanos, outcome)
    }

    fn note_violation(&mut self, session: SessionId, what: &'static str) {
        self.inner.note_violation(session, what);
    }
}
