//! `tcpcopy plugin check`.

use super::{CommandError, print};
use crate::check::{self, show};
use crate::failure::{UsageError, failure};
use crate::modules::{ModuleOptions, find, kind_text, status};
use crate::options::PluginArgs;
use crate::settings::Plugins;
use clap::{Args, ValueEnum};
use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use tcpcopy_plugin_host::{FaultKind, Loader, LoaderOptions, OnError, SearchPath};

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// The plugin: a file, or a name that is looked for on the plugin path
    #[arg(value_name = "MODULE")]
    module: String,

    /// Capture file (pcap or pcapng) with both directions of the connections
    ///
    /// The client's bytes are the requests. The server's bytes are given to the plugin as what the online server answers and
    /// as what the target answers; answers to requests that the plugin leaves out or changes are given to it as they are in the
    /// file. Ends with exit code 1 if the plugin fails, breaks a rule of the interface, or leaves
    /// bytes undecided that it had reason to decide about.
    #[arg(long, value_name = "FILE")]
    pcap: PathBuf,

    /// Ports of the servers in the file [default: the plugin's own]
    #[arg(long = "port", value_name = "PORT,…", value_delimiter = ',',
          value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,

    /// File with options of the plugin, in TOML
    #[arg(long = "module-config", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Option of the plugin; may be given more than once
    #[arg(long = "module-opt", value_name = "NAME=VALUE")]
    options: Vec<String>,

    /// Form of the result
    #[arg(long, value_name = "FORM", default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

pub(super) fn run(args: &CheckArgs) -> Result<ExitCode, CommandError> {
    let low = PluginArgs {
        modules: vec![args.module.clone()],
        config: args.config.clone(),
        options: args.options.clone(),
        on_error: "drop".to_owned(),
        ..PluginArgs::default()
    };
    let mut plugins = Plugins::new(&low)?;
    // Every fault is to be seen, so none is too many.
    plugins.limits = tcpcopy_plugin_host::Limits { on_error: OnError::Drop, ..Default::default() };
    // The same file gives the same result.
    let options = LoaderOptions { seed: Some(0), ..plugins.loader_options() };
    let module = find("plugin check", &args.module, &SearchPath::from_environment(), &Loader::new(options))?;
    let modules = [module];
    let configured = ModuleOptions::read(&plugins, &modules)?.configure(&modules[0])?;
    let descriptor = modules[0].descriptor();
    let ports = if args.ports.is_empty() { descriptor.ports.clone() } else { args.ports.clone() };
    if ports.is_empty() {
        return Err(UsageError::new(
            format!("--port is missing: {} has no ports of its own", descriptor.name),
            "give the port of the server in the file: --port 6379",
        )
        .into());
    }
    let seen = Cell::new([0u64; 8]);
    let last_fault = || {
        let mut counts = seen.get();
        let mut text = String::new();
        for fault in configured.report().faults {
            let count = &mut counts[fault.kind as usize % 8];
            if fault.kind != FaultKind::Violation && fault.count > *count {
                text = format!("{}: {}", fault.kind, fault.last);
            }
            *count = fault.count;
        }
        seen.set(counts);
        text
    };
    let findings = check::check(&args.pcap, &ports, configured.runner(0), &last_fault).map_err(|error| {
        let hint = error.hint();
        failure(error.to_string(), hint)
    })?;
    let status = status(configured.report(), ports, findings.sessions.len() as u64);
    let title = format!("{} {} ({})", descriptor.name, descriptor.version, kind_text(&modules[0]));
    let file = args.pcap.display().to_string();
    let subject = show::Subject { module: &title, file: &file, status: &status };
    match args.format {
        Format::Text => print(&show::text(&subject, &findings)),
        Format::Json => print(&format!("{:#}\n", show::json(&subject, &findings))),
    }
    if findings.sessions.is_empty() {
        return Err(failure(
            format!("{file}: nothing was checked, because there is no connection to these ports in the file"),
            "give the port of the server in the file with --port",
        )
        .into());
    }
    Ok(if findings.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
