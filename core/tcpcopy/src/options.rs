//! What was typed.
//!
//! Owns the command line: letters, long names, value syntax and the help text. What a combination of options means, and
//! whether it makes sense, is decided in [`crate::settings`]. Every option of TCPCopy 1.x keeps its letter and its meaning.

mod offline;
mod plugins;

pub use offline::OfflineArgs;
pub use plugins::PluginArgs;

use clap::{ArgAction, CommandFactory, Parser};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  Copy what clients send to port 80 of this host to port 8080 of 10.0.0.2; intercept runs on 10.0.0.3:
      tcpcopy -x 80-10.0.0.2:8080 -s 10.0.0.3
  Look at what would be captured and sent, and at the commands to run on the other hosts, without doing anything:
      tcpcopy -x 80-10.0.0.2:8080 -s 10.0.0.3 --dry-run
  Twice the online load, from clients that all appear to live in 192.168.100.0/24:
      tcpcopy -x 80-10.0.0.2:8080 -s 10.0.0.3 -n 2 -c 192.168.100.x
  A tenth of the connections, growing to that second by second:
      tcpcopy -x 3306-10.0.0.2:3306 -s 10.0.0.3 -r 10 -g
  IPv6, two servers, in the background:
      tcpcopy -x '[fd00::1]:80-[fd00::2]:80,443-10.0.0.2:443' -s fd00::3 -d -l tcpcopy.log
  Replay a recording ten times as fast, and look at it first:
      tcpcopy inspect web.pcap
      tcpcopy --offline web.pcap -a 10 -x 80-10.0.0.2:8080 -s 10.0.0.3
  Redis, request by request, through the plugin of that name:
      tcpcopy -x 6379-10.0.0.2:6379 -s 10.0.0.3 --module redis

Commands (each has a --help of its own):
  tcpcopy record -x 80 -w FILE                       record what clients send, to be replayed later
  tcpcopy inspect FILE…                              tell what is in captures, before a replay
  tcpcopy plugins                                    list those that are found by name
  tcpcopy plugin check MODULE --pcap FILE            run one over a capture file, and show what it would send
  tcpcopy plugin new NAME                            write the beginnings of a new one
  tcpcopy plugin componentize IN -o OUT              make a component of a core WebAssembly module";

const SHORT_AFTER: &str = "\
Each option is explained at length by --help. Commands: tcpcopy record, tcpcopy inspect, tcpcopy plugins, tcpcopy plugin check|new|componentize.";

const ABOUT: &str = "Replays live TCP traffic of real clients towards a target server";

const LONG_ABOUT: &str = "\
Replays live TCP traffic of real clients towards a target server.

tcpcopy runs beside the online server, captures the packets that its clients send, and plays those clients towards a \
target server: it opens the connections, sends the captured requests, acknowledges the replies. The online server's own \
traffic is not touched. The target's replies must be routed to an assistant host, where `intercept` takes them and \
returns them to tcpcopy.";

/// The command line as it was typed.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "tcpcopy",
    version,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_help = SHORT_AFTER,
    after_long_help = EXAMPLES,
    override_usage = "tcpcopy -x TRANSFER,… -s SERVER,… [OPTIONS]\n       tcpcopy --offline FILE… -x TRANSFER,… -s SERVER,… [OPTIONS]",
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true,
    allow_negative_numbers = true,
    max_term_width = 100
)]
pub struct LowArgs {
    /// What to copy, and where to
    ///
    /// A list of `[onlineIP:]onlinePort-targetIP:targetPort`, separated by commas. Packets that clients send to onlinePort
    /// (of onlineIP, if given; else of any address of this host) are replayed to the target. Spaces around the parts do no
    /// harm. IPv6 addresses go in brackets: `[fd00::1]:80-[fd00::2]:80`. With --pcap-send, `@MAC` may follow either side:
    /// the sender's MAC address after the online part, the next hop's after the target part. Where two entries match a
    /// packet, one with an onlineIP goes first; of equals the first in the list. May be given more than once.
    #[arg(short = 'x', long = "transfer", value_name = "TRANSFER,…", help_heading = "Traffic")]
    pub transfers: Vec<String>,

    /// Replay only connections seen from their first packet
    ///
    /// Without this, connections that were open before tcpcopy started are joined at the next request.
    #[arg(short = 'O', long = "only-full", help_heading = "Traffic")]
    pub only_full: bool,

    /// Addresses that replayed clients appear to have
    ///
    /// A list of addresses, nets (`10.3.0.0/16`, `fd00:3::/64`) and ranges (`10.3.0.1-10.3.0.9`), separated by commas; the
    /// target sees clients from there instead of the real ones. `62.135.200.x` (as in TCPCopy) stands for the hosts 1 to
    /// 254 of a net. A client gets the same address each time, as long as a port is free there.
    /// Useful to route replies back to the assistant without touching the routes of the real clients' nets.
    /// Default: the clients' own addresses.
    #[arg(short = 'c', long = "clients", value_name = "ADDRESS,…", help_heading = "Targets and addresses")]
    pub clients: Vec<String>,

    /// Address that replayed clients on this host get instead of loopback
    ///
    /// A client that connects through 127.0.0.1 or ::1 can't be answered by a target on another host; it is replayed from
    /// this address. One IPv4 and one IPv6 address may be given, as a list or by giving the option twice.
    #[arg(
        short = 'H',
        long = "local-client",
        value_name = "ADDRESS",
        help_heading = "Targets and addresses"
    )]
    pub local_client: Vec<String>,

    /// Number that keeps several instances' client ports apart (0 to 1023)
    ///
    /// Clients' ports are shifted by an amount made from this number. Give each tcpcopy that replays the same clients
    /// to the same target a different one.
    #[arg(short = 'f', long = "port-shift", value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u16).range(0..=1023), help_heading = "Targets and addresses")]
    pub port_shift: u16,

    /// Where `intercept` runs
    ///
    /// A list of `address[:port]`, separated by commas. Host names are looked up. IPv6 addresses go in brackets when a port
    /// follows. Needed: without the target's replies, no connection can be played.
    #[arg(short = 's', long = "intercept", value_name = "SERVER,…", help_heading = "Relay")]
    pub servers: Vec<String>,

    /// Port of `intercept`, where -s names none
    #[arg(short = 'p', long = "port", value_name = "PORT", default_value_t = 36524,
          value_parser = clap::value_parser!(u16).range(1..), help_heading = "Relay")]
    pub port: u16,

    /// Connections to each `intercept`, per worker (1 to 11)
    ///
    /// Values outside that range are moved into it, as in TCPCopy.
    #[arg(short = 'C', long = "connections", value_name = "N", default_value_t = 2, help_heading = "Relay")]
    pub connections: u32,

    /// Start, and go on, while no `intercept` can be reached
    ///
    /// Without this, tcpcopy ends with an error if no `intercept` can be reached when it starts. Once started, it always
    /// waits for a lost one to come back.
    #[arg(short = 'L', long = "lonely", help_heading = "Relay")]
    pub lonely: bool,

    /// File with the token shared with `intercept`
    ///
    /// Both sides prove to each other that they know it. The file's content is the token, without the line's end.
    /// The token itself may be given in the environment variable TCPCOPY_TOKEN. Default: no token; `intercept` then
    /// accepts connections of its own host only, unless it was told otherwise.
    #[arg(long = "token-file", value_name = "FILE", help_heading = "Relay")]
    pub token_file: Option<PathBuf>,

    /// Network interfaces to capture on
    ///
    /// A list, separated by commas. Default, and meaning of `any`: all interfaces. The name of a file stands for --offline FILE, as in
    /// TCPCopy.
    #[arg(short = 'i', long = "interface", value_name = "DEVICE,…", help_heading = "Capture")]
    pub interfaces: Vec<String>,

    /// Capture filter in pcap syntax, instead of the one made from -x
    ///
    /// It must let pass all packets from clients to the online server; -x still decides which of them are replayed.
    /// See pcap-filter(7).
    #[arg(short = 'F', long = "filter", value_name = "FILTER", help_heading = "Capture")]
    pub filter: Option<String>,

    /// Capture buffer, in megabytes, per worker [default: 32; with --pcap-capture 16]
    ///
    /// Packets wait here while tcpcopy is busy. Raise it when the report shows kernel drops.
    #[arg(short = 'B', long = "buffer", value_name = "MB",
          value_parser = clap::value_parser!(u32).range(1..=2047), help_heading = "Capture")]
    pub buffer: Option<u32>,

    /// Bytes to capture of each packet; 0 for all of it
    ///
    /// A connection whose packets were cut can't be replayed; leave this alone unless bodies don't matter.
    #[arg(
        short = 'S',
        long = "snaplen",
        value_name = "BYTES",
        default_value_t = 0,
        help_heading = "Capture"
    )]
    pub snaplen: u32,

    /// Open tunnels: vxlan, geneve, gre, erspan, several separated by commas
    ///
    /// For mirror ports that send copies of packets in tunnels, and for captures of such. The clients' packets inside are
    /// replayed; those outside as well, if -x names their ports.
    #[arg(long = "decap", value_name = "TUNNEL,…", help_heading = "Capture")]
    pub decap: Vec<String>,

    /// Capture through libpcap instead of the memory-mapped ring
    #[arg(long = "pcap-capture", help_heading = "Capture")]
    pub pcap_capture: bool,

    /// Send whole frames through a network interface (-o) instead of a raw IP socket
    ///
    /// Sent this way, packets pass no firewall rule and no route of this host. The next hop's MAC address comes from the
    /// neighbour table, or from -x.
    #[arg(long = "pcap-send", help_heading = "Injection")]
    pub pcap_send: bool,

    /// Network interface that frames are sent through; implies --pcap-send
    #[arg(short = 'o', long = "output", value_name = "DEVICE", help_heading = "Injection")]
    pub output: Option<String>,

    /// Largest IP packet sent, in bytes (576 to 65535)
    ///
    /// Lower it where the path to the target carries less (tunnels, overlays): packets that are too large fail with
    /// EMSGSIZE.
    #[arg(short = 'M', long = "mtu", value_name = "BYTES", default_value_t = 1500,
          value_parser = clap::value_parser!(u16).range(576..), help_heading = "Injection")]
    pub mtu: u16,

    /// Largest segment size announced to the target, in bytes (88 to 65495)
    ///
    /// An upper bound: a client that announced less is played with what it announced.
    #[arg(short = 'D', long = "mss", value_name = "BYTES", default_value_t = 1460,
          value_parser = clap::value_parser!(u16).range(88..=65495), help_heading = "Injection")]
    pub mss: u16,

    /// Copies of the traffic (1 to 1023)
    ///
    /// Each copy of a client has a port of its own, and an address of its own if -c has several.
    #[arg(short = 'n', long = "copies", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=1023), help_heading = "Load shape")]
    pub copies: u16,

    /// Percentage of connections that are replayed (1 to 100)
    ///
    /// Chosen by the client's address and port: whole connections, never single requests.
    #[arg(short = 'r', long = "percentage", value_name = "PERCENT", default_value_t = 100,
          value_parser = clap::value_parser!(u8).range(1..=100), help_heading = "Load shape")]
    pub percentage: u8,

    /// Grow the load slowly: one percent of the connections more each second
    ///
    /// It starts at 1 percent and stops at that of -r.
    #[arg(short = 'g', long = "gradual", help_heading = "Load shape")]
    pub gradual: bool,

    /// Send requests when they were captured, without waiting for the target's response to the one before
    ///
    /// Without this, a request that the real client sent after reading a response is sent after the target has responded.
    #[arg(short = 'W', long = "no-wait", help_heading = "Load shape")]
    pub no_wait: bool,

    /// Round-trip time that the target sees, in milliseconds; 0 for none [default: as measured]
    ///
    /// Acknowledgements and requests that follow a response are delayed by this much. By default each client has the
    /// round-trip time that its own handshake with the online server shows.
    #[arg(short = 'R', long = "rtt", value_name = "MS",
          value_parser = clap::value_parser!(u32).range(0..=60_000), help_heading = "Load shape")]
    pub rtt: Option<u32>,

    /// What concerns capture files.
    #[command(flatten)]
    pub offline: OfflineArgs,

    /// What concerns protocol plugins.
    #[command(flatten)]
    pub plugins: PluginArgs,

    /// Memory for sessions, all together, in megabytes
    ///
    /// At this bound the newest sessions are given up, and counted; the process goes on.
    #[arg(short = 'm', long = "memory", value_name = "MB", default_value_t = 1024,
          value_parser = clap::value_parser!(u32).range(1..=16_777_216), help_heading = "Limits")]
    pub memory: u32,

    /// Memory for the unsent bytes of one session, in megabytes
    #[arg(long = "session-limit", value_name = "MB", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=16_777_216), help_heading = "Limits")]
    pub session_limit: u32,

    /// Memory that a session starts with, in kilobytes (0 to 63)
    ///
    /// A session grows beyond it by itself. 0 means the default.
    #[arg(short = 'U', long = "session-pool", value_name = "KB", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(0..=63), help_heading = "Limits")]
    pub session_pool: u16,

    /// Session timeout, in seconds
    ///
    /// A session is given up when the target leaves it without an answer that it waits for, for so long.
    #[arg(short = 't', long = "timeout", value_name = "SECONDS", default_value_t = 600,
          value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub timeout: u32,

    /// Keep-alive timeout, in seconds
    ///
    /// A session is closed when nothing happens on it, on either side, for so long. 0 means the default.
    #[arg(
        short = 'k',
        long = "keepalive",
        value_name = "SECONDS",
        default_value_t = 7200,
        help_heading = "Limits"
    )]
    pub keepalive: u32,

    /// Stop after so many seconds [default: run until stopped]
    #[arg(long = "duration", value_name = "SECONDS", value_parser = seconds, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// How long captured requests may still go out once tcpcopy is told to stop, in seconds
    #[arg(long = "drain", value_name = "SECONDS", default_value = "3", value_parser = seconds,
          help_heading = "Limits")]
    pub drain: Duration,

    /// Write messages and reports to this file instead of the terminal
    #[arg(short = 'l', long = "log", value_name = "FILE", help_heading = "Output")]
    pub log: Option<PathBuf>,

    /// How much is told: error, warn, info, debug or trace
    #[arg(long = "log-level", value_name = "LEVEL", default_value = "info",
          value_parser = ["error", "warn", "info", "debug", "trace"], help_heading = "Output")]
    pub log_level: String,

    /// Time between two lines of statistics, in seconds; 0 for none
    #[arg(long = "stats-interval", value_name = "SECONDS", default_value = "10", value_parser = seconds,
          help_heading = "Output")]
    pub stats_interval: Duration,

    /// Keep this file filled with the latest statistics as JSON
    ///
    /// Replaced in one step at each interval and at the end. The fields are described in docs/report.md.
    #[arg(long = "stats-json", value_name = "FILE", help_heading = "Output")]
    pub stats_json: Option<PathBuf>,

    /// Threads that share the work, each with its own capture, sessions and relay connections
    #[arg(long = "workers", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=256), help_heading = "Process")]
    pub workers: u16,

    /// Scheduling priority, from -20 (first) to 19 (last)
    ///
    /// On a busy host the capture ring is only emptied in time if tcpcopy gets the processor when it asks for it; it asks for
    /// little. 0 leaves the priority as it is. Without the right to raise it (root or CAP_SYS_NICE) it stays as it is.
    #[arg(long = "nice", value_name = "N", default_value_t = -10, allow_hyphen_values = true,
          value_parser = clap::value_parser!(i8).range(-20..=19), help_heading = "Process")]
    pub nice: i8,

    /// Run in the background
    ///
    /// Messages and reports go to the file given by -l, or nowhere.
    #[arg(short = 'd', long = "daemon", help_heading = "Process")]
    pub daemon: bool,

    /// Write the process number to this file
    #[arg(short = 'P', long = "pid-file", value_name = "FILE", help_heading = "Process")]
    pub pid_file: Option<PathBuf>,

    /// Print what would be captured and sent, with the commands for the other hosts, and end
    #[arg(long = "dry-run", help_heading = "Process")]
    pub dry_run: bool,

    /// Print help (-h: one line an option; --help: all)
    #[arg(short = 'h', long = "help", action = ArgAction::Help, help_heading = "Process")]
    pub help: Option<bool>,

    /// Print the version
    #[arg(short = 'v', long = "version", action = ArgAction::Version, help_heading = "Process")]
    pub version: Option<bool>,
}

impl LowArgs {
    /// The `-h` text, wrapped for a terminal of 100 columns.
    pub fn short_help() -> String {
        Self::command().term_width(100).render_help().to_string()
    }

    /// The `--help` text, wrapped for a terminal of 100 columns.
    pub fn long_help() -> String {
        Self::command().term_width(100).render_long_help().to_string()
    }
}

/// Reads a number of seconds, with decimals if wanted.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 =
        text.trim().parse().map_err(|_| "expected a number of seconds, such as 10 or 0.5".to_owned())?;
    if !(0.0..=31_536_000.0).contains(&number) {
        return Err("expected 0 to 31536000 seconds (a year)".to_owned());
    }
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}
