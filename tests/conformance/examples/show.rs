//! Prints what a plugin decides in a fixture, step by step: `cargo run -p tcpcopy-conformance --example show -- PLUGIN FIXTURE`.

use anyhow::{Context, Result};
use tcpcopy_conformance::{Split, fixtures, play};
use tcpcopy_plugin_host::settings::resolve;
use tcpcopy_plugin_host::{Loader, Module};

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let plugin = words.next().context("the file of a plugin is missing")?;
    let fixture = words.next().context("the file of a fixture is missing")?;
    let transcript = fixtures::read(fixture.as_ref())?;
    let module = Module::load(plugin.as_ref(), &Loader::default())?;
    let configured = module.configure(resolve(module.descriptor(), None, &transcript.options)?)?;
    let record = play(&configured, &transcript, Split::Whole)?;
    for (number, decisions) in record.steps.iter().enumerate() {
        println!("{number}: {decisions:?}");
    }
    println!("undecided: \"{}\", unanswered: {}", record.undecided.escape_ascii(), record.unanswered);
    Ok(())
}
