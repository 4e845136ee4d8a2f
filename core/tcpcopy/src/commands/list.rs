//! `tcpcopy plugins`.

use super::{CommandError, print};
use crate::modules::kind_text;
use std::fmt::Write;
use std::process::ExitCode;
use tcpcopy_engine::plugin::Inputs;
use tcpcopy_plugin_host::{Loader, LoaderOptions, Module, SearchPath};

pub(super) fn run() -> Result<ExitCode, CommandError> {
    let path = SearchPath::from_environment();
    print(&list(&path, &Loader::new(LoaderOptions::default())));
    Ok(ExitCode::SUCCESS)
}

/// The plugins of the path, and those that can't be used with the reason.
fn list(path: &SearchPath, loader: &Loader) -> String {
    let mut text = String::new();
    for file in path.list() {
        match Module::load(&file, loader) {
            Ok(module) => {
                let descriptor = module.descriptor();
                let ports: Vec<String> = descriptor.ports.iter().map(u16::to_string).collect();
                let _ = writeln!(text, "{} {} ({})", descriptor.name, descriptor.version, kind_text(&module));
                let _ = writeln!(text, "  {}", descriptor.about.replace('\n', " "));
                if !ports.is_empty() {
                    let _ = writeln!(text, "  ports: {}", ports.join(", "));
                }
                let _ = writeln!(text, "  may need: {}", needs(descriptor.inputs));
                let _ = writeln!(text, "  file: {}", file.display());
            }
            Err(error) => {
                let _ = writeln!(text, "{}", file.display());
                let _ = writeln!(text, "  can't be used: {}", error.to_string().replace('\n', " "));
            }
        }
    }
    if text.is_empty() {
        let looked: Vec<String> =
            path.directories().iter().map(|directory| directory.display().to_string()).collect();
        let _ = writeln!(text, "no plugins; looked in {}", looked.join(", "));
    }
    text
}

fn needs(inputs: Inputs) -> String {
    let text = crate::describe::needs_text(inputs);
    if text.is_empty() { "requests alone".to_owned() } else { text }
}
