//! `tcpcopy plugin componentize`.

use super::{CommandError, print};
use crate::failure::{HintExt, failure};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use tcpcopy_plugin_host::{CacheDir, Loader, LoaderOptions, Module};

#[derive(Args, Debug)]
pub(super) struct ComponentizeArgs {
    /// Core module, as `cargo build --release --target wasm32-unknown-unknown` makes it
    #[arg(value_name = "IN")]
    input: PathBuf,

    /// File to write the component to
    #[arg(short = 'o', long = "output", value_name = "OUT")]
    output: PathBuf,
}

pub(super) fn run(args: &ComponentizeArgs) -> Result<ExitCode, CommandError> {
    let (input, output) = (args.input.display(), args.output.display());
    let module = std::fs::read(&args.input)
        .hint(format!("can't read {input}"), "give the file that cargo build made")?;
    let hint =
        "build it with the SDK's export_plugin! and: cargo build --release --target wasm32-unknown-unknown";
    let component = componentize(&module)
        .map_err(|reason| failure(format!("{input} can't be made a component: {reason}"), hint))?;
    // Only what can be loaded gets the name that was asked for.
    let mut name = args.output.clone().into_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    std::fs::write(&temporary, &component)
        .hint(format!("can't write {}", temporary.display()), "give a file that can be written with -o")?;
    let options = LoaderOptions { cache_dir: CacheDir::Off, ..LoaderOptions::default() };
    let described = match Module::load(&temporary, &Loader::new(options)) {
        Ok(module) => module.descriptor().clone(),
        Err(error) => {
            let _ = std::fs::remove_file(&temporary);
            let reason = error.to_string().replace(&temporary.display().to_string(), "the component");
            return Err(failure(format!("{input} makes no plugin: {reason}"), hint).into());
        }
    };
    std::fs::rename(&temporary, &args.output)
        .hint(format!("can't write {output}"), "give a file that can be written with -o")?;
    print(&format!("{output}: {} {}, {} bytes\n", described.name, described.version, component.len()));
    Ok(ExitCode::SUCCESS)
}

fn componentize(module: &[u8]) -> Result<Vec<u8>, String> {
    // The same as what makes a plugin of a core module when it is loaded.
    let encoded = wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|encoder| encoder.encode());
    encoded.map_err(|error| {
        error.chain().map(|cause| cause.to_string().replace('\n', " ")).collect::<Vec<_>>().join(": ")
    })
}
