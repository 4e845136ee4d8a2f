//! From the command line to settings, and the error lines.

use super::support::{settings, try_settings, try_settings_of};
use proptest::prelude::*;
use std::time::Duration;
use tcpcopy::settings::{
    CaptureFilter, CaptureMethod, Growth, InjectionMethod, Joining, Mode, Pacing, Place, RelayAtStart,
    Waiting,
};

const BASE: &str = "-x 80-10.0.0.2:8080 -s 10.0.0.3";

fn with(more: &str) -> tcpcopy::settings::Settings {
    settings(&format!("{BASE} {more}"))
}

fn errors(lines: &[&str]) -> String {
    let told = lines.iter().map(|line| match try_settings(line) {
        Ok(_) => panic!("accepted: {line}"),
        Err(error) => format!("$ tcpcopy {line}\n{}\n", error.lines()),
    });
    told.collect()
}

#[test]
fn defaults() {
    let settings = with("");
    assert_eq!((settings.load.copies.get(), settings.clients.port_shift, settings.load.percent), (1, 0, 100));
    assert_eq!(settings.limits.memory_bytes, 1024 << 20);
    assert_eq!(settings.limits.session_bytes, 64 << 20);
    assert_eq!(settings.limits.session_pool_bytes, 1024);
    assert_eq!(settings.limits.session_timeout, Duration::from_secs(600));
    assert_eq!(settings.limits.keepalive_timeout, Duration::from_secs(7200));
    assert_eq!((settings.limits.duration, settings.limits.drain), (None, Duration::from_secs(3)));
    assert_eq!((settings.injection.mtu, settings.injection.mss), (1500, 1460));
    assert_eq!(settings.injection.method, InjectionMethod::RawSocket);
    assert_eq!((settings.capture.method, settings.capture.buffer_bytes), (CaptureMethod::Ring, 32 << 20));
    assert_eq!((settings.capture.snapshot, settings.capture.interfaces.len()), (None, 0));
    assert_eq!(settings.load.pacing, Pacing::Measured);
    assert_eq!(settings.load.waiting, Waiting::ForResponses);
    assert_eq!(settings.load.joining, Joining::MidStream);
    assert_eq!(settings.load.growth, Growth::Immediate);
    assert_eq!(settings.relay.servers[0].address, "10.0.0.3:36524".parse().unwrap());
    assert_eq!((settings.relay.connections.get(), settings.relay.at_start), (2, RelayAtStart::Required));
    assert!(settings.relay.token.is_none());
    assert_eq!(settings.output.stats_interval, Some(Duration::from_secs(10)));
    assert_eq!((settings.process.workers.get(), settings.process.place), (1, Place::Foreground));
    assert_eq!(settings.process.mode, Mode::Run);
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
}

#[test]
fn letters_mean_what_they_mean_in_tcpcopy() {
    let settings = try_settings_of(&[
        "-x80-10.0.0.2:8080",
        "-s10.0.0.3:4000,[fd00::3]:5000,10.0.0.4",
        "-c",
        "62.135.200.x",
        "-H192.168.1.10",
        "-i",
        "eth0,eth1",
        "-F",
        "tcp and dst port 80",
        "-B64",
        "-S",
        "2000",
        "-oeth1",
        "-n3",
        "-f7",
        "-m",
        "512",
        "-M1400",
        "-D1300",
        "-R20",
        "-U63",
        "-C11",
        "-t60",
        "-k",
        "90",
        "-l",
        "/tmp/log",
        "-P/tmp/pid",
        "-r50",
        "-p4321",
        "-dWOgL",
    ])
    .unwrap();
    assert_eq!(settings.transfers[0].to_string(), "80-10.0.0.2:8080");
    let servers: Vec<String> =
        settings.relay.servers.iter().map(|server| server.address.to_string()).collect();
    assert_eq!(servers, ["10.0.0.3:4000", "[fd00::3]:5000", "10.0.0.4:4321"]);
    assert!(settings.clients.pool.as_ref().unwrap().contains("62.135.200.254".parse().unwrap()));
    assert_eq!(settings.clients.local_v4, Some("192.168.1.10".parse().unwrap()));
    assert_eq!(settings.capture.interfaces, ["eth0", "eth1"]);
    assert_eq!(settings.capture.filter, CaptureFilter::Given("tcp and dst port 80".to_owned()));
    assert_eq!(settings.capture.buffer_bytes, 64 << 20);
    assert_eq!(settings.capture.snapshot.unwrap().get(), 2000);
    assert_eq!(settings.injection.method, InjectionMethod::LinkLayer { device: "eth1".to_owned() });
    assert_eq!((settings.injection.mtu, settings.injection.mss), (1400, 1300));
    assert_eq!((settings.load.copies.get(), settings.clients.port_shift, settings.load.percent), (3, 7, 50));
    assert_eq!(settings.load.pacing, Pacing::Fixed(Duration::from_millis(20)));
    assert_eq!(settings.load.waiting, Waiting::Never);
    assert_eq!(settings.load.joining, Joining::FullOnly);
    assert_eq!(settings.load.growth, Growth::Gradual);
    assert_eq!(settings.limits.memory_bytes, 512 << 20);
    assert_eq!(settings.limits.session_pool_bytes, 63 << 10);
    assert_eq!(settings.limits.session_timeout, Duration::from_secs(60));
    assert_eq!(settings.limits.keepalive_timeout, Duration::from_secs(90));
    assert_eq!((settings.relay.connections.get(), settings.relay.at_start), (11, RelayAtStart::Awaited));
    assert_eq!(settings.output.log_file.as_deref(), Some("/tmp/log".as_ref()));
    assert_eq!(settings.process.pid_file.as_deref(), Some("/tmp/pid".as_ref()));
    assert_eq!(settings.process.place, Place::Background);
}

#[test]
fn values_that_stand_for_others() {
    assert_eq!(with("-R 0").load.pacing, Pacing::Unpaced);
    assert_eq!(with("-k 0").limits.keepalive_timeout, Duration::from_secs(7200));
    assert_eq!(with("-U 0").limits.session_pool_bytes, 1024);
    assert_eq!(with("--stats-interval 0").output.stats_interval, None);
    assert_eq!(with("--stats-interval 0.5").output.stats_interval, Some(Duration::from_millis(500)));
    assert_eq!(with("--duration 1.5").limits.duration, Some(Duration::from_millis(1500)));
    assert_eq!(with("--pcap-capture").capture.buffer_bytes, 16 << 20);
    assert_eq!(with("-i any").capture.interfaces.len(), 0);
    assert_eq!(with("-n 2 -n 5").load.copies.get(), 5, "the last one counts, as with getopt");
    assert_eq!(with("-H ::2,192.168.1.1").clients.local_v6, Some("::2".parse().unwrap()));
    let clamped = with("-C 64");
    assert_eq!(clamped.relay.connections.get(), 11);
    assert!(clamped.warnings[0].contains("-C 64"));
}

#[test]
fn host_names_are_looked_up() {
    let settings = settings("-x 80-10.0.0.2:80 -s localhost:99");
    assert!(settings.relay.servers[0].address.ip().is_loopback());
    assert_eq!(settings.relay.servers[0].name, "localhost:99");
}

#[test]
fn the_token_comes_from_the_file_or_the_environment_and_stays_hidden() {
    use clap::Parser;
    let file = std::env::temp_dir().join(format!("tcpcopy-token-{}", std::process::id()));
    std::fs::write(&file, "from the file\n").unwrap();
    let path = file.to_str().unwrap();
    let low = |more: &[&str]| {
        let all = ["tcpcopy", "-x80-10.0.0.2:80", "-s10.0.0.3"].into_iter().chain(more.iter().copied());
        tcpcopy::options::LowArgs::parse_from(all)
    };
    let token = |more: &[&str], variable| {
        tcpcopy::settings::Settings::new(&low(more), variable).map(|settings| settings.relay.token)
    };
    let of_file = token(&["--token-file", path], Some("from the environment")).unwrap().unwrap();
    assert_eq!(of_file.as_bytes(), b"from the file");
    assert_eq!(format!("{of_file:?}"), "Token(hidden)");
    assert_eq!(token(&[], Some(" it ")).unwrap().unwrap().as_bytes(), b"it");
    assert_eq!(token(&[], Some("")).unwrap(), None);
    std::fs::write(&file, "\n").unwrap();
    assert!(token(&["--token-file", path], None).unwrap_err().what.contains("is empty"));
    std::fs::remove_file(&file).unwrap();
    assert!(token(&["--token-file", path], None).is_err());
}

#[test]
fn the_generated_filter() {
    let filter =
        |list: &str| settings(&format!("-x {list} -s 10.0.0.3")).capture.filter.expression().to_owned();
    insta::assert_snapshot!(filter("80-10.0.0.2:8080,[fd00::1]:443-[fd00::2]:443,22-10.0.0.2:22"), @"(tcp and ((dst port 80) or (dst host fd00::1 and dst port 443) or (dst port 22 and not dst host 10.0.0.2))) or (ip proto 6 and ip[6:2] & 0x1fff != 0) or (ip6 and ip6[6] == 44)");
}

#[test]
fn error_lines() {
    insta::assert_snapshot!(errors(&[
        "",
        "-s 10.0.0.3",
        "-x 80-10.0.0.2:8080",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3:0",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3:http",
        "-x 80-10.0.0.2:8080 -s a/b",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -n 0",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -n 1024",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -r 0",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -f many",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -U 64",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -M 100",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -c 10.0.0.300",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -c 224.0.0.1",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -c fd00::/64",
        "-x 10.0.0.1:80-[fd00::2]:80 -s 10.0.0.3",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -H host",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -H 127.0.0.1",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -H 10.0.0.1,10.0.0.9",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -i eth0/1",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 --pcap-send",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 --stats-interval soon",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 --drain -1",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 --token-file /nonexistent/token",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 --log-level loud",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 --worker 2",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -q",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 stray",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -n",
    ]));
}

#[test]
fn warnings() {
    let lines = [
        "-x 80-10.0.0.2:8080,80-10.0.0.9:8080 -s 10.0.0.3",
        "-x 80-127.0.0.1:8080 -s 127.0.0.1 -H 10.0.0.1",
        "-x 80@02:00:00:00:00:01-10.0.0.2:8080@02:00:00:00:00:02 -s 10.0.0.3",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3,10.0.0.3:36524 -C 0",
        "-x 80-[fd00::2]:80 -s fd00::3 -M 1000",
        "-x 80-10.0.0.2:8080 -s 10.0.0.3 -d",
    ];
    let told: String = lines
        .iter()
        .map(|line| format!("$ tcpcopy {line}\n{}\n\n", settings(line).warnings.join("\n")))
        .collect();
    insta::assert_snapshot!(told);
}

proptest! {
    #[test]
    fn no_value_makes_it_panic(
        letter in proptest::sample::select(vec!["-x", "-c", "-H", "-i", "-F", "-o", "-n", "-B", "-R", "-k", "--drain"]),
        value: String,
    ) {
        let _ = try_settings_of(&["-x80-10.0.0.2:80", "-s10.0.0.3", letter, &value]);
    }

    #[test]
    fn no_list_of_numeric_addresses_makes_it_panic(
        servers in r"(\[?[0-9a-f:]{0,8}\]?(:[0-9]{0,6})?,){0,3}", clients in r"[0-9./:x, -]{0,24}",
    ) {
        // Letters a to f alone might be looked up as a host name; an address or nothing is what is wanted here.
        if servers.contains([':', ']']) || servers.chars().all(|c| c.is_ascii_digit()) {
            let _ = try_settings_of(&["-x80-10.0.0.2:80", "-s", &servers.replace(['a', 'b', 'c', 'd', 'e', 'f'], "0")]);
        }
        let _ = try_settings_of(&["-x80-10.0.0.2:80", "-s10.0.0.3", "-c", &clients]);
    }
}
