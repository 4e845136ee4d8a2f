//! What was typed about replaying capture files.

use std::path::PathBuf;

/// Options of offline replay.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OfflineArgs {
    /// Replay these capture files instead of live traffic; `-` reads standard input
    ///
    /// pcap and pcapng, plain or compressed with gzip or zstd; several files are played in the order of their times. It ends
    /// by itself when all sessions are done. Look at a file with `tcpcopy inspect FILE` first. `-i FILE` means the same.
    #[arg(long = "offline", value_name = "FILE", num_args = 1.., help_heading = "Offline replay")]
    pub offline: Vec<PathBuf>,

    /// Wait for more at the end of the file: it is still being written
    ///
    /// Ctrl-C ends the replay.
    #[arg(long = "follow", requires = "offline", help_heading = "Offline replay")]
    pub follow: bool,

    /// Speed: 10 replays ten times as fast as it was captured, 0.5 at half the speed (0.1 to 100)
    #[arg(short = 'a', long = "accelerate", value_name = "N", value_parser = speed, help_heading = "Offline replay")]
    pub accelerate: Option<f64>,

    /// Longest pause, in milliseconds: where nothing was captured for longer, the replay goes on after so long
    #[arg(short = 'I', long = "idle-cap", value_name = "MS",
          value_parser = clap::value_parser!(u32).range(1..), help_heading = "Offline replay")]
    pub idle_cap: Option<u32>,

    /// Replay everything N times, one time after another
    ///
    /// Each time the clients come from other ports.
    #[arg(short = 'T', long = "repeat", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Offline replay")]
    pub repeat: u32,

    /// So many new connections a second (`200` or `200conn`), or requests (`5000req`), instead of the captured times
    ///
    /// What lies between them goes as soon as it may: the order in each connection is kept, and requests wait for the answers
    /// that they waited for when they were captured.
    #[arg(long = "rate", value_name = "N", conflicts_with_all = ["accelerate", "idle_cap", "asap"],
          help_heading = "Offline replay")]
    pub rate: Option<String>,

    /// As fast as the target answers
    ///
    /// The order in each connection is kept, and requests wait for the answers that they waited for when they were captured.
    /// About as many connections are open at a time as were when they were captured.
    #[arg(long = "asap", conflicts_with_all = ["accelerate", "idle_cap"], help_heading = "Offline replay")]
    pub asap: bool,

    /// Replay what was captured in this time: `START..END`, either may be left out
    ///
    /// Each is a time (`2026-11-22T10:00:00Z`) or is counted from the first packet (`90s`, `1m30s`, `2h`).
    #[arg(
        long = "at",
        value_name = "START..END",
        allow_hyphen_values = true,
        help_heading = "Offline replay"
    )]
    pub at: Option<String>,

    /// Stop after so many connections (`1000` or `1000conn`), requests (`1000req`) or packets (`1000pkt`)
    ///
    /// The capture counts as ended there: what was begun is finished. With -T, each time.
    #[arg(long = "limit", value_name = "N", help_heading = "Offline replay")]
    pub limit: Option<String>,

    /// Share of requests that may be lost without an exit code of 3, in percent (0 to 100)
    ///
    /// Without this, the exit code is 0 only if nothing was lost but what options left out, and the files were whole.
    #[arg(long = "allow-loss", value_name = "PERCENT", value_parser = percent, help_heading = "Offline replay")]
    pub allow_loss: Option<f64>,
}

fn speed(text: &str) -> Result<f64, String> {
    number(text, 0.1, 100.0)
}

fn percent(text: &str) -> Result<f64, String> {
    number(text.trim_end_matches('%'), 0.0, 100.0)
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("expected a number from {least} to {most}")),
    }
}
