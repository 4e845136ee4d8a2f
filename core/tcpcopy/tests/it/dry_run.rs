//! What `--dry-run` prints.

use super::support::{MadeUpHost, settings};

fn describe(line: &str) -> String {
    settings(line).describe(&MadeUpHost { may_use_raw_sockets: true })
}

#[test]
fn plain() {
    insta::assert_snapshot!(describe("-x 80-192.168.1.20:8080 -s 192.168.1.30 -H 192.168.1.10"));
}

#[test]
fn everything() {
    insta::assert_snapshot!(describe(
        "-x 10.0.0.1:80@02:00:00:00:00:01-10.9.0.2:80@02:00:00:00:00:02,[fd00::10]:443-[fd00::20]:443 \
         -s 192.168.1.30:4000,[fd00::30]:4000 -c 62.135.200.x,10.7.0.0/16,fd00:7::/64 -n 5 -f 3 -r 10 -g -W -O -L -R 30 \
         -i eth0,eth7 --pcap-capture -B 8 -S 1000 -o eth0 -m 100 --duration 60 --drain 1.5 --workers 2"
    ));
}

#[test]
fn warnings_that_the_host_gives() {
    let settings = settings(
        "-x 80-192.168.1.10:80,81-192.168.1.10:8081,82-172.16.0.1:80,10.5.5.5:83-10.9.0.2:80,84-127.0.0.1:80 \
         -s 192.168.1.30 -c 192.168.1.x",
    );
    insta::assert_snapshot!(settings.all_warnings(&MadeUpHost { may_use_raw_sockets: false }).join("\n"));
}

#[test]
fn a_target_on_this_host_needs_addresses_that_can_be_routed_apart() {
    let warnings = |line: &str| {
        super::support::settings(line).all_warnings(&MadeUpHost { may_use_raw_sockets: true }).join("\n")
    };
    insta::assert_snapshot!(warnings("-x 127.0.0.1:80-192.168.1.10:8080 -s 192.168.1.30"));
    assert_eq!(warnings("-x 80-192.168.1.10:8080 -s 192.168.1.30 -c 10.7.0.x"), "");
}
