//! Every capture of the corpus against what its manifest says, and the text of three small ones. Needs the corpus: the folder that
//! `TCPCOPY_CORPUS` names; without it, nothing is looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tcpcopy_capture_file::Input;
use tcpcopy_inspect::{Decap, Limits, Report};

fn corpus() -> Option<PathBuf> {
    let folder = std::env::var_os("TCPCOPY_CORPUS").map(PathBuf::from)?;
    assert!(folder.join("MANIFEST.tsv").is_file(), "TCPCOPY_CORPUS has no MANIFEST.tsv");
    Some(folder)
}

fn report(file: &Path) -> Report {
    Report::of(&[Input::File(file.to_owned())], Limits::default(), Decap::ALL)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// What is compared: connections, those with a SYN, those that both sides closed, those with a reset, and those of each port.
type Facts = (u64, u64, u64, u64, BTreeMap<u16, u64>);

fn found(report: &Report) -> Facts {
    let c = &report.findings.connections;
    let ports = report.findings.ports.iter().map(|port| (port.port, port.connections)).collect();
    (c.total, c.with_syn, c.closed, c.reset, ports)
}

/// Captures that differ from the manifest, which was made with tshark, and why.
fn exceptions() -> BTreeMap<&'static str, Facts> {
    BTreeMap::from([
        // The manifest names three ports of five.
        (
            "pcapng_multi_linktype.pcapng",
            (15, 2, 1, 1, BTreeMap::from([(22, 1), (80, 1), (3306, 1), (6000, 11), (8810, 1)])),
        ),
    ])
}

#[test]
fn every_capture_is_as_the_manifest_says() {
    let Some(folder) = corpus() else { return };
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).expect("the manifest is text");
    let mut exceptions = exceptions();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for line in manifest.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let name = columns[0];
        let at = |column: usize| columns[column].parse::<u64>().expect("a number");
        let ports = columns[10].split(',').filter_map(|entry| {
            let (port, connections) = entry.split_once('x')?;
            Some((port.parse().ok()?, connections.parse().ok()?))
        });
        let said: Facts = (at(4), at(5), at(8), at(9), ports.collect());
        let expected = exceptions.remove(name).unwrap_or(said);
        let report = report(&folder.join(name));
        seen += 1;
        if found(&report) != expected {
            wrong.push(format!("{name}: found {:?}, expected {expected:?}", found(&report)));
        }
        let c = &report.findings.connections;
        assert_eq!(c.complete + c.unended + c.mid_stream + c.refused + c.unanswered, c.total, "{name}");
        assert!(report.unread.is_empty(), "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 70 && exceptions.is_empty(), "{seen} captures; exceptions of none: {exceptions:?}");
}

#[test]
fn the_text_of_small_captures() {
    let Some(folder) = corpus() else { return };
    for name in ["local_http_pcapng_2if.pcapng", "mysql_2sess_plain_tls.pcapng", "vlan_same_5tuple.pcap"] {
        let text = report(&folder.join(name)).text();
        let text = text.replace(&*folder.to_string_lossy(), "CORPUS");
        insta::assert_snapshot!(name, text);
    }
}
