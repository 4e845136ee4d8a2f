//! `tcpcopy inspect`.

use super::{CommandError, print};
use crate::failure::{UsageError, failure};
use clap::Args;
use std::process::ExitCode;
use tcpcopy_capture_file::Input;
use tcpcopy_inspect::{Decap, Limits, Report};

#[derive(Args, Debug)]
pub(super) struct InspectArgs {
    /// Capture files (pcap or pcapng, plain or compressed with gzip or zstd), or - for standard input
    ///
    /// Several are looked at as one capture, in time order, as --offline plays them.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,

    /// Print one JSON object instead of the text for people
    #[arg(long)]
    json: bool,

    /// Tunnels to open: vxlan, geneve, gre, erspan
    #[arg(long, value_name = "KIND,…")]
    decap: Option<String>,
}

pub(super) fn run(args: &InspectArgs) -> Result<ExitCode, CommandError> {
    let decap = args.decap.as_deref().map(str::parse::<Decap>).transpose().map_err(|error| {
        UsageError::new(format!("--decap: {error}"), "name the tunnels: --decap vxlan,gre")
    })?;
    let inputs: Vec<Input> = args.files.iter().map(|file| Input::from(file.as_str())).collect();
    let report = Report::of(&inputs, Limits::default(), decap.unwrap_or_default()).map_err(|error| {
        let hint = error.hint();
        anyhow::Error::new(error).context(crate::failure::Hinted::new("inspect", hint))
    })?;
    if args.json {
        let json = serde_json::to_string_pretty(&report).map_err(anyhow::Error::new)?;
        print(&format!("{json}\n"));
    } else {
        print(&report.text());
    }
    match report.unread.first() {
        None => Ok(ExitCode::SUCCESS),
        Some(unread) => Err(failure(unread.error.clone(), unread.hint.clone()).into()),
    }
}
