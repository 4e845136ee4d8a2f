//! Options of protocol plugins.

use clap::Args;
use std::path::PathBuf;

/// What was typed about plugins.
#[derive(Args, Clone, Debug, Default)]
pub struct PluginArgs {
    /// Protocol plugin to replay connections with; may be given more than once
    ///
    /// A file (`./redis.wasm`, `/opt/redis.so`), or a name that is looked for on the plugin path (`tcpcopy plugins` lists what
    /// is there). The ports that follow are those of the online server, from -x, that it serves. Without them: its
    /// own default ports as far as they are in -x; if none is and there is one module only, all of -x. Connections to other
    /// ports are replayed as with no module.
    #[arg(
        long = "module",
        visible_alias = "set-protocol-module",
        value_name = "FILE|NAME[:PORT,…]",
        help_heading = "Plugins"
    )]
    pub modules: Vec<String>,

    /// File with options of the modules, in TOML
    ///
    /// With several modules, each has a table that bears its name: `[redis]`. With one, its options may stand at the top.
    #[arg(long = "module-config", value_name = "FILE", help_heading = "Plugins")]
    pub config: Option<PathBuf>,

    /// Option of a module; goes before the file's; may be given more than once
    ///
    /// `NAME=VALUE`; with several modules `MODULE.NAME=VALUE`.
    #[arg(long = "module-opt", value_name = "[MODULE.]NAME=VALUE", help_heading = "Plugins")]
    pub options: Vec<String>,

    /// Print what the modules given by --module are and which options they have, and end
    #[arg(long = "module-help", help_heading = "Plugins")]
    pub help_wanted: bool,

    /// What to do when a module fails too often: drop, pass, disable or exit
    ///
    /// drop: each session at fault is given up, and no more happens. Beyond --plugin-faults the module is used no more; then its
    /// sessions are replayed as with no module (pass) or given up (disable), or tcpcopy ends with exit code 1 (exit).
    #[arg(
        long = "on-plugin-error",
        value_name = "ACTION",
        default_value = "drop",
        value_parser = ["drop", "pass", "disable", "exit"],
        help_heading = "Plugins"
    )]
    pub on_error: String,

    /// Faults of a module in a minute that are not too many
    #[arg(long = "plugin-faults", value_name = "N", default_value_t = 10, help_heading = "Plugins")]
    pub faults: u32,

    /// Time that a module may take for one batch of events, in milliseconds of processor time (1 to 60000)
    ///
    /// What takes longer is stopped and counts as a fault. A native module can't be stopped.
    #[arg(long = "plugin-deadline", value_name = "MS", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=60_000), help_heading = "Plugins")]
    pub deadline: u32,

    /// Memory of one instance of a module, in megabytes (1 to 4096)
    ///
    /// A native module is not limited.
    #[arg(id = "plugin_memory", long = "plugin-memory", value_name = "MIB", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=4096), help_heading = "Plugins")]
    pub memory: u32,

    /// Sessions that share an instance of a module (1 to 65536)
    ///
    /// Fewer: a fault disturbs fewer other sessions. More: less memory. A module whose sessions belong together has one
    /// instance in each worker whatever is said here.
    #[arg(long = "plugin-sessions", value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=65_536), help_heading = "Plugins")]
    pub sessions: u32,

    /// Directory for compiled modules, or `off` [default: tcpcopy in the user's cache directory]
    ///
    /// Only this user may be able to write there: what is in it is trusted.
    #[arg(long = "plugin-cache", value_name = "DIR|off", help_heading = "Plugins")]
    pub cache: Option<PathBuf>,
}
