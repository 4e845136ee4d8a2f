//! What was typed about plugins, made sense of as far as that goes without loading them; and, once they are loaded, which
//! connections each of them serves.

use super::{Capture, CaptureFilter, CaptureMethod, check};
use crate::failure::UsageError;
use crate::options::PluginArgs;
use crate::transfer::Transfer;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use tcpcopy_engine::plugin::Inputs;
use tcpcopy_net::filter::Streams;
use tcpcopy_plugin_host::{CacheDir, Limits, LoaderOptions, OnError};

/// Plugins as they were asked for.
#[derive(Clone, Debug)]
pub struct Plugins {
    /// In the order of the command line.
    pub modules: Vec<WantedModule>,
    /// File with their options.
    pub config: Option<PathBuf>,
    /// Options from the command line, `NAME=VALUE` or `MODULE.NAME=VALUE`.
    pub options: Vec<String>,
    /// What each may use.
    pub limits: Limits,
    /// Where compiled ones are kept.
    pub cache: CacheDir,
}

/// A plugin as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedModule {
    /// A file, or a name to look for.
    pub name: String,
    /// Ports of the online server; none for the default.
    pub ports: Vec<u16>,
}

/// What a loaded plugin means to the rest of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleFacts {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its kind and interface, such as `wasm, wit 0.1.0`.
    pub kind: String,
    /// Where it was loaded from.
    pub path: PathBuf,
    /// Ports of the online server whose connections it serves.
    pub ports: Vec<u16>,
    /// What it needs beyond request bytes.
    pub inputs: Inputs,
    /// Whether it carries something from one session to another.
    pub carrying: Carrying,
}

/// Whether a plugin carries something from one session to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrying {
    /// Every session stands for itself.
    Nothing,
    /// All sessions of a worker have to share an instance.
    BetweenSessions,
}

impl Plugins {
    /// Makes sense of what was typed.
    ///
    /// # Errors
    /// A module without a name, or a list of ports that is none.
    pub fn new(args: &PluginArgs) -> Result<Self, UsageError> {
        let modules = args.modules.iter().map(|text| wanted(text)).collect::<Result<Vec<_>, _>>()?;
        if modules.is_empty() {
            let useless = if args.config.is_some() {
                Some("--module-config")
            } else if !args.options.is_empty() {
                Some("--module-opt")
            } else if args.help_wanted {
                Some("--module-help")
            } else {
                None
            };
            if let Some(option) = useless {
                return Err(UsageError::new(
                    format!("{option} without --module: there is no module that it could concern"),
                    "tcpcopy plugins lists modules that can be given by name",
                ));
            }
        }
        let on_error: OnError = args
            .on_error
            .parse()
            .map_err(|error| UsageError::new(error, "see --on-plugin-error in --help"))?;
        Ok(Self {
            modules,
            config: args.config.clone(),
            options: args.options.clone(),
            limits: Limits {
                deadline: Duration::from_millis(u64::from(args.deadline)),
                memory_bytes: (args.memory as usize) << 20,
                sessions_per_instance: args.sessions,
                faults_per_minute: args.faults,
                on_error,
            },
            cache: cache_dir(args),
        })
    }

    /// What a loader is made with.
    pub fn loader_options(&self) -> LoaderOptions {
        LoaderOptions { cache_dir: self.cache.clone(), limits: self.limits, seed: None }
    }
}

fn cache_dir(args: &PluginArgs) -> CacheDir {
    match &args.cache {
        None => CacheDir::Default,
        Some(path) if path.as_os_str() == "off" => CacheDir::Off,
        Some(path) => CacheDir::At(path.clone()),
    }
}

/// Reads `FILE|NAME[:PORT,…]`. What follows the last colon is ports if it consists of digits and commas.
fn wanted(text: &str) -> Result<WantedModule, UsageError> {
    let wrong = |what: String| {
        UsageError::new(
            format!("--module {text:?}: {what}"),
            "the form is FILE or NAME, and :PORT,… for ports of the online server: redis:6379,6380",
        )
    };
    let is_ports = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit() || c == ',');
    let (name, list) = match text.trim().rsplit_once(':') {
        Some((name, rest)) if is_ports(rest) => (name, rest),
        Some((_, "")) => return Err(wrong("expected ports after ':'".to_owned())),
        _ => (text.trim(), ""),
    };
    if name.is_empty() {
        return Err(wrong("expected a file or a name".to_owned()));
    }
    let mut ports = Vec::new();
    for part in list.split(',').filter(|_| !list.is_empty()) {
        match part.parse::<u16>() {
            Ok(port) if port > 0 => ports.push(port),
            _ => return Err(wrong(format!("expected a port from 1 to 65535, found {part:?}"))),
        }
    }
    ports.sort_unstable();
    ports.dedup();
    Ok(WantedModule { name: name.to_owned(), ports })
}

/// Ports that a module serves: those that were typed, else its own default ones as far as they are copied, else, if it is the
/// only module, all that are copied.
///
/// # Errors
/// A port that is not copied; no port at all.
pub fn ports_served(
    wanted: &WantedModule,
    defaults: &[u16],
    transfers: &[Transfer],
    modules: usize,
) -> Result<Vec<u16>, UsageError> {
    let copied: BTreeSet<u16> = transfers.iter().map(|transfer| transfer.online_port).collect();
    let shown: Vec<String> = copied.iter().map(u16::to_string).collect();
    let shown = shown.join(", ");
    if let Some(port) = wanted.ports.iter().find(|port| !copied.contains(port)) {
        return Err(UsageError::new(
            format!("--module {}: port {port} is no online port of -x ({shown})", wanted.name),
            "the ports of a module are those that real clients connect to",
        ));
    }
    if !wanted.ports.is_empty() {
        return Ok(wanted.ports.clone());
    }
    let own: BTreeSet<u16> = defaults.iter().copied().filter(|port| copied.contains(port)).collect();
    if !own.is_empty() {
        return Ok(own.into_iter().collect());
    }
    if modules == 1 {
        return Ok(copied.into_iter().collect());
    }
    Err(UsageError::new(
        format!(
            "--module {}: which connections are meant? None of its own ports is in -x ({shown})",
            wanted.name
        ),
        format!("give the ports: --module {}:{}", wanted.name, copied.first().copied().unwrap_or(80)),
    ))
}

/// Checks what several modules want together.
///
/// # Errors
/// Two modules of one name, or two that serve one port.
pub fn check_together(modules: &[ModuleFacts]) -> Result<(), UsageError> {
    for (index, later) in modules.iter().enumerate() {
        for earlier in &modules[..index] {
            if earlier.name == later.name {
                return Err(UsageError::new(
                    format!(
                        "--module: {} and {} are both called {}",
                        earlier.path.display(),
                        later.path.display(),
                        later.name
                    ),
                    format!("give one of them with all its ports: --module {}:PORT,PORT", later.name),
                ));
            }
            if let Some(port) = later.ports.iter().find(|port| earlier.ports.contains(port)) {
                return Err(UsageError::new(
                    format!("--module: both {} and {} serve port {port}", earlier.name, later.name),
                    format!("give each its own ports: --module {}:PORT", later.name),
                ));
            }
        }
    }
    Ok(())
}

/// Warns of what loaded modules do that may not be meant, and lets the capture give them what they need.
pub(super) fn apply(
    modules: &[ModuleFacts],
    workers: usize,
    transfers: &[Transfer],
    capture: &mut Capture,
    warnings: &mut Vec<String>,
) {
    for module in modules {
        if module.carrying == Carrying::BetweenSessions && workers > 1 {
            warnings.push(format!(
                "--module {}: it carries something from one session to another, and each of the {workers} workers has its \
                 own: what a session needs may be known to another worker; --workers 1 keeps all together",
                module.name
            ));
        }
    }
    let needing: Vec<&str> = modules
        .iter()
        .filter(|module| module.inputs.contains(Inputs::REFERENCES))
        .map(|module| module.name.as_str())
        .collect();
    if needing.is_empty() {
        return;
    }
    capture.streams = Streams::RequestsAndReferences;
    match &mut capture.filter {
        CaptureFilter::Generated(expression) => {
            *expression = check::with_tunnels(check::filter_of_both(transfers, capture.method), capture.decap);
        }
        CaptureFilter::Given(_) => warnings.push(format!(
            "-F: {} needs what the online server answers: the filter has to let packets from the online server pass as well",
            needing.join(", ")
        )),
    }
    if capture.method == CaptureMethod::Pcap
        && transfers.iter().any(|transfer| transfer.online_addr.is_none())
    {
        warnings.push(
            "--pcap-capture: what is sent is captured too, for the sake of a module: give online addresses in -x, so that \
             nothing replayed can be taken for a request"
                .to_owned(),
        );
    }
}
