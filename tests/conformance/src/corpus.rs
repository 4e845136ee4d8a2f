//! Transcripts from captures: what each connection to a server of a plugin's protocol went through.
//!
//! The target is taken to answer as the online server did.

use crate::transcript::{Step, Transcript};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use tcpcopy::check::conversation::{self, Happening};
use tcpcopy_engine::protocol::Origin;

/// A folder of captures with their `MANIFEST.tsv`.
pub const CORPUS: &str = "TCPCOPY_CORPUS";

/// A capture, and the ports of the servers in it.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Its file.
    pub file: PathBuf,
    /// Ports of servers, of any protocol.
    pub ports: Vec<u16>,
}

/// The captures of the corpus; none where there is no corpus.
///
/// # Errors
/// When its manifest can't be read.
pub fn captures() -> Result<Vec<Capture>> {
    let Some(folder) = std::env::var_os(CORPUS).map(PathBuf::from) else { return Ok(Vec::new()) };
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).context("reading MANIFEST.tsv")?;
    let mut lines = manifest.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let header = lines.next().context("an empty MANIFEST.tsv")?;
    let column = |name: &str| header.iter().position(|known| *known == name).context("a column is missing");
    let (name, ports) = (column("name")?, column("server_ports")?);
    Ok(lines
        .filter_map(|row| {
            // Each as `80x5`: the port, and its number of connections.
            let ports = row.get(ports)?.split(',').filter_map(|port| port.split('x').next()?.parse().ok());
            Some(Capture { file: folder.join(row.get(name)?), ports: ports.collect() })
        })
        .collect())
}

/// What a protocol's first request begins with.
pub type Sniff = fn(&[u8]) -> bool;

/// How connections of a plugin's protocol are told from others; `None` for a plugin that the suite does not know.
pub fn sniff_for(plugin: &str) -> Option<Sniff> {
    match plugin {
        "http" => Some(is_http),
        "redis" => Some(is_redis),
        _ => None,
    }
}

fn is_http(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.windows(6).any(|window| window == b"HTTP/1")
}

fn is_redis(bytes: &[u8]) -> bool {
    // `*3\r\n$`, or a command as typed.
    let array = bytes.first() == Some(&b'*') && bytes.get(1).is_some_and(u8::is_ascii_digit);
    let inline = [&b"PING"[..], b"SET ", b"GET ", b"AUTH", b"ping", b"set ", b"get ", b"auth"];
    array || (inline.iter().any(|word| bytes.starts_with(word)) && !is_http(bytes))
}

/// The connections in a capture whose first request is of a protocol.
///
/// # Errors
/// When the capture can't be read.
pub fn transcripts(capture: &Capture, sniff: Sniff) -> Result<Vec<Transcript>> {
    let mut found: Vec<Transcript> = Vec::new();
    let name = file_name(&capture.file);
    conversation::read(&capture.file, &capture.ports, &mut |happening: Happening| {
        note(&mut found, &name, happening);
    })
    .with_context(|| format!("reading {}", capture.file.display()))?;
    found.retain(|transcript| sniff(&transcript.requests()));
    Ok(found)
}

/// The name of a file without its folders.
pub fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn note(found: &mut Vec<Transcript>, name: &str, happening: Happening) {
    if let conversation::Step::Opened { origin, .. } = happening.step {
        let mut transcript = Transcript::new(format!("{name}#{}", happening.connection), origin);
        transcript.push(Step::Connected);
        found.resize_with(happening.connection.max(found.len()), || Transcript::new("", Origin::MidStream));
        found.push(transcript);
        return;
    }
    let Some(transcript) = found.get_mut(happening.connection) else { return };
    match happening.step {
        conversation::Step::Request(bytes) => transcript.push(Step::Request(bytes)),
        conversation::Step::RequestGap => transcript.push(Step::Gap),
        conversation::Step::Answer(bytes) => {
            // Neighbouring answers join on both sides.
            if let [.., Step::Reference(reference), Step::Response(response)] = &mut transcript.steps[..] {
                reference.extend(&bytes);
                response.extend(&bytes);
            } else {
                transcript.push(Step::Reference(bytes.clone()));
                transcript.push(Step::Response(bytes));
            }
        }
        conversation::Step::AnswerGap => transcript.push(Step::ReferenceGap),
        conversation::Step::ClientEnd(end) => transcript.push(Step::ClientClosed(end)),
        conversation::Step::ServerEnd => transcript.push(Step::ResponseEnd),
        conversation::Step::Opened { .. } | conversation::Step::Over => {}
    }
}
