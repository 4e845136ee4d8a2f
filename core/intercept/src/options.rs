//! What the command line says, and what it means.

use anyhow::{Context, bail};
use clap::Parser;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const CAPTURE: &str = "Capture";
const RELAY: &str = "Relay";
const ROUTES: &str = "Routes";
const REPORTS: &str = "Process and reports";

/// The options as typed. One-letter options are those of TCPCopy's intercept, with the same meaning.
#[derive(Parser, Debug, Clone)]
#[command(
    name = "intercept",
    disable_version_flag = true,
    disable_help_flag = true,
    about = "Captures the replies of a target server on the assistant server, and returns them to tcpcopy",
    after_help = "Replies reach this host by a route on the target server, such as\n  \
                  ip route add <clients' network> via <address of this host>\n\
                  This host must not forward them: sysctl -w net.ipv4.ip_forward=0"
)]
pub(crate) struct Options {
    /// Interfaces that replies arrive on, separated by commas [default: every interface]
    #[arg(short = 'i', long = "interface", value_name = "device,", value_delimiter = ',', help_heading = CAPTURE)]
    interfaces: Vec<String>,
    /// Which packets are replies, in tcpdump's language, e.g. 'tcp and src port 80' [default: all TCP]
    #[arg(short = 'F', long = "filter", value_name = "filter", help_heading = CAPTURE)]
    filter: Option<String>,
    /// Size of the capture ring of each interface, in MiB
    #[arg(short = 'B', long = "buffer-size", value_name = "MiB", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=2047), help_heading = CAPTURE)]
    buffer_mib: u32,
    /// Capture with libpcap instead of the kernel's ring
    #[arg(long = "pcap-capture", help_heading = CAPTURE)]
    pcap_capture: bool,

    /// TCP port that tcpcopy connects to
    #[arg(short = 'p', long = "port", value_name = "num", default_value_t = tcpcopy_engine::relay::DEFAULT_PORT,
          value_parser = clap::value_parser!(u16).range(1..), help_heading = RELAY)]
    port: u16,
    /// Address to listen on; may be given several times [default: every address with a token, loopback without]
    #[arg(short = 'b', long = "bind", value_name = "addr", value_delimiter = ',', help_heading = RELAY)]
    bind: Vec<IpAddr>,
    /// File with the token that tcpcopy has to know; the environment variable TCPCOPY_TOKEN may hold it instead
    #[arg(long = "token-file", value_name = "file", help_heading = RELAY)]
    token_file: Option<PathBuf>,
    /// Serve whoever connects, on every address
    #[arg(long = "no-auth", conflicts_with = "token_file", help_heading = RELAY)]
    no_auth: bool,
    /// Replies combined into one write at most; 0 for all that are there
    #[arg(short = 'n', long = "combine", value_name = "num", default_value_t = 0, help_heading = RELAY)]
    combine: u32,
    /// Serve one tcpcopy only, and send it all replies; a new one takes the place of the former
    #[arg(long = "single", help_heading = RELAY)]
    single: bool,
    /// With --single: refuse a second tcpcopy instead
    #[arg(short = 'c', long = "protect", requires = "single", help_heading = RELAY)]
    protect: bool,

    /// Routes (connections being replayed) at most
    #[arg(short = 's', long = "routes", value_name = "num", default_value_t = 1 << 20,
          value_parser = clap::value_parser!(u32).range(1..), help_heading = ROUTES)]
    routes: u32,
    /// Seconds after which a route that no reply used is dropped
    #[arg(short = 't', long = "route-timeout", value_name = "s", default_value_t = 7800,
          value_parser = clap::value_parser!(u32).range(1..), help_heading = ROUTES)]
    route_timeout: u32,

    /// Write messages to a file
    #[arg(short = 'l', long = "log-file", value_name = "file", help_heading = REPORTS)]
    log_file: Option<PathBuf>,
    /// Write the process number to a file
    #[arg(short = 'P', long = "pid-file", value_name = "file", help_heading = REPORTS)]
    pid_file: Option<PathBuf>,
    /// Scheduling priority, from -20 (first) to 19 (last); 0 leaves it as it is
    ///
    /// On a busy host the capture ring is only emptied in time if intercept gets the processor when it asks for it. Without
    /// the right to raise its priority (root or CAP_SYS_NICE) it stays as it is.
    #[arg(long = "nice", value_name = "n", default_value_t = -10, allow_hyphen_values = true,
          value_parser = clap::value_parser!(i8).range(-20..=19), help_heading = REPORTS)]
    nice: i8,
    /// Run in the background
    #[arg(short = 'd', long = "daemon", help_heading = REPORTS)]
    daemon: bool,
    /// Seconds between two lines of statistics; 0 for none
    #[arg(long = "stats-interval", value_name = "s", default_value_t = 10, help_heading = REPORTS)]
    stats_interval: u32,
    /// Write the statistics to a file as JSON, at every interval and at the end
    #[arg(long = "stats-json", value_name = "file", help_heading = REPORTS)]
    stats_json: Option<PathBuf>,
    /// Print the version
    #[arg(short = 'v', long = "version", help_heading = REPORTS)]
    pub(crate) version: bool,
    /// Print this help
    #[arg(short = 'h', long = "help", action = clap::ArgAction::Help, help_heading = REPORTS)]
    help: Option<bool>,
}

/// Whether a second tcpcopy is served, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Any number of them, by their routes.
    Routes,
    /// One; a new one takes its place.
    SingleReplaced,
    /// One; others are refused while it is there.
    SingleProtected,
}

/// Where the packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaptureKind {
    Ring,
    Pcap,
}

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Foreground,
    Background,
}

/// What the options mean.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) interfaces: Vec<String>,
    pub(crate) filter: Option<String>,
    pub(crate) ring_bytes: usize,
    pub(crate) capture: CaptureKind,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) port: u16,
    pub(crate) token: Option<Vec<u8>>,
    pub(crate) combine: u32,
    pub(crate) sharing: Sharing,
    pub(crate) max_routes: usize,
    pub(crate) route_timeout: Duration,
    pub(crate) log_file: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) place: Place,
    pub(crate) nice: i8,
    pub(crate) stats_interval: Option<Duration>,
    pub(crate) stats_json: Option<PathBuf>,
    /// Things worth saying at the start.
    pub(crate) remarks: Vec<String>,
}

/// An error together with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Hinted {
    message: String,
    pub(crate) hint: String,
}

pub(crate) fn hinted(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Hinted { message: message.into(), hint: hint.into() }.into()
}

impl Options {
    /// Works out what the options mean. `environment_token` is the value of `TCPCOPY_TOKEN`.
    pub(crate) fn settings(self, environment_token: Option<Vec<u8>>) -> anyhow::Result<Settings> {
        let mut remarks = Vec::new();
        let token = if self.no_auth { None } else { token(self.token_file.as_deref(), environment_token)? };
        let listen = self.listen(token.is_some(), &mut remarks)?;
        if self.filter.is_none() {
            remarks.push(
                "no filter is given: every TCP packet that arrives is looked at; \
                 -F 'tcp and src host <target> and src port <port>' saves that work"
                    .into(),
            );
        }
        if self.daemon && self.log_file.is_none() {
            remarks
                .push("messages are lost from here on: give -l <file> to keep them in the background".into());
        }
        Ok(Settings {
            interfaces: self.interfaces.into_iter().filter(|name| !name.is_empty()).collect(),
            filter: self.filter,
            ring_bytes: self.buffer_mib as usize * 1024 * 1024,
            capture: if self.pcap_capture { CaptureKind::Pcap } else { CaptureKind::Ring },
            listen,
            port: self.port,
            token,
            combine: self.combine,
            sharing: match (self.single, self.protect) {
                (false, _) => Sharing::Routes,
                (true, false) => Sharing::SingleReplaced,
                (true, true) => Sharing::SingleProtected,
            },
            max_routes: self.routes as usize,
            route_timeout: Duration::from_secs(self.route_timeout.into()),
            log_file: self.log_file,
            pid_file: self.pid_file,
            nice: self.nice,
            place: if self.daemon { Place::Background } else { Place::Foreground },
            stats_interval: (self.stats_interval > 0)
                .then(|| Duration::from_secs(self.stats_interval.into())),
            stats_json: self.stats_json,
            remarks,
        })
    }

    fn listen(&self, has_token: bool, remarks: &mut Vec<String>) -> anyhow::Result<Vec<SocketAddr>> {
        let loopback_only = !has_token && !self.no_auth;
        let addresses: Vec<IpAddr> = if !self.bind.is_empty() {
            if let Some(open) = self.bind.iter().find(|addr| loopback_only && !addr.is_loopback()) {
                return Err(hinted(
                    format!("refusing to listen on {open} (-b) without a token"),
                    "give --token-file (or TCPCOPY_TOKEN) here and to tcpcopy, or --no-auth if everybody who reaches \
                     this port may get the target's replies",
                ));
            }
            self.bind.clone()
        } else if loopback_only {
            remarks.push(
                "listening on loopback only, since there is no token; give --token-file (or TCPCOPY_TOKEN) here and \
                 to tcpcopy, or --no-auth, to serve other hosts"
                    .into(),
            );
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        } else {
            vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
        };
        Ok(addresses.into_iter().map(|addr| SocketAddr::new(addr, self.port)).collect())
    }
}

/// The token from a file or from the environment, without the end of its line.
fn token(file: Option<&std::path::Path>, environment: Option<Vec<u8>>) -> anyhow::Result<Option<Vec<u8>>> {
    let (mut token, place) = match (file, environment) {
        (Some(path), _) => {
            let token = std::fs::read(path)
                .with_context(|| format!("cannot read the token file {}", path.display()))?;
            (token, path.display().to_string())
        }
        (None, Some(token)) => (token, "TCPCOPY_TOKEN".into()),
        (None, None) => return Ok(None),
    };
    while token.last().is_some_and(u8::is_ascii_whitespace) {
        token.pop();
    }
    if token.is_empty() {
        bail!("the token in {place} is empty");
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn settings(args: &[&str], token: Option<&str>) -> anyhow::Result<Settings> {
        let options = Options::try_parse_from([&["intercept"], args].concat())?;
        options.settings(token.map(|token| token.as_bytes().to_vec()))
    }

    #[test]
    fn definition_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn help_text() {
        let help = Options::command().term_width(100).render_help().to_string();
        insta::assert_snapshot!(help);
    }

    #[test]
    fn without_a_token_only_loopback_is_listened_on() {
        let found = settings(&[], None).unwrap();
        assert!(found.listen.iter().all(|addr| addr.ip().is_loopback()), "{:?}", found.listen);
        assert!(found.remarks.iter().any(|remark| remark.contains("--token-file")));
        let error = settings(&["-b", "192.0.2.1"], None).unwrap_err();
        assert!(error.downcast_ref::<Hinted>().is_some_and(|e| e.hint.contains("--no-auth")), "{error}");
        assert!(settings(&["-b", "127.0.0.2,::1"], None).is_ok());
        assert!(settings(&["-b", "192.0.2.1", "--no-auth"], None).is_ok());
        let found = settings(&["-p", "1"], Some("secret\n")).unwrap();
        assert_eq!(found.listen, ["0.0.0.0:1".parse().unwrap(), "[::]:1".parse().unwrap()]);
        assert_eq!(found.token.as_deref(), Some(&b"secret"[..]));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for args in [&["-c"][..], &["-p", "0"], &["-B", "0"], &["-b", "eth0"], &["-s", "0"], &["-t", "0"]] {
            assert!(settings(args, None).is_err(), "{args:?}");
        }
        assert!(settings(&[], Some(" \n")).is_err());
        assert!(settings(&["--token-file", "/nonexistent"], None).is_err());
    }

    #[test]
    fn options_of_tcpcopys_intercept_are_understood() {
        let found = settings(
            &[
                "-i",
                "eth0,eth1",
                "-F",
                "tcp and src port 80",
                "-n",
                "16",
                "-p",
                "4000",
                "-s",
                "1000",
                "--single",
                "-c",
            ],
            None,
        )
        .unwrap();
        assert_eq!(found.interfaces, ["eth0", "eth1"]);
        assert_eq!((found.combine, found.port, found.max_routes), (16, 4000, 1000));
        assert_eq!(found.sharing, Sharing::SingleProtected);
    }
}
