//! The language of the scripts: lines and what they mean.

use super::settings::Settings;
use super::variant::{Family, Variant};
use super::words;
use std::time::Duration;
use tcpcopy_engine::counters::EndReason;
use tcpcopy_engine::wire::tcp::TcpFlags;

/// What `handshake` stands for.
const HANDSHAKE: [&str; 5] =
    ["client S 0", "send S 0", "target S. 0 ack 1", "send . 1 ack 1", "client . 1 ack 1"];

/// A script, read.
pub(crate) struct Script {
    pub(crate) settings: Settings,
    pub(crate) lines: Vec<Line>,
    only: Vec<Only>,
}

/// One line of a script, or one that a line stands for.
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) text: String,
    pub(crate) meaning: Meaning,
    /// The line stands for several; this is not the first of them.
    pub(crate) hidden: bool,
}

/// What a line says.
pub(crate) enum Meaning {
    /// Nothing to the runner: a comment, a setting, an empty line.
    Silent,
    Input(Input),
    Expectation(Expectation),
}

/// Something that happens to the engine.
pub(crate) enum Input {
    Client {
        number: usize,
        packet: Packet,
    },
    Target {
        flow: Option<usize>,
        packet: Packet,
    },
    /// Time passes, and nothing may happen.
    Wait(Duration),
    /// Time passes until something happens.
    Timer(Duration),
    /// The client begins anew, with an ISN so much further on.
    Reuse {
        number: usize,
        ahead: u32,
    },
    RouteRefused,
    TooBig(u32),
    ShutDown,
    Stray(Stray),
}

/// A packet that belongs to no session.
#[derive(Clone, Copy)]
pub(crate) enum Stray {
    /// UDP to the online server.
    Udp,
    /// TCP to a port that nobody replays.
    OtherPort,
    /// A captured packet cut within its TCP header.
    Short,
    /// A reply to nobody.
    Reply,
    /// A reply cut within its TCP header.
    ShortReply,
}

/// Something that the engine has to do, or to have counted.
pub(crate) enum Expectation {
    Send {
        flow: Option<usize>,
        packet: Packet,
    },
    Held(u64),
    /// Anything counted: its words without the number, and the number.
    Note(String, i64),
}

/// A segment, in relative numbers.
#[derive(Default)]
pub(crate) struct Packet {
    pub(crate) flags: TcpFlags,
    pub(crate) range: (i64, i64),
    pub(crate) ack: Option<i64>,
    pub(crate) window: Option<u32>,
    pub(crate) mss: Option<u16>,
    pub(crate) scale: Option<u8>,
    pub(crate) without_mss: bool,
    pub(crate) without_scale: bool,
    pub(crate) without_sack: bool,
    pub(crate) without_timestamps: bool,
    pub(crate) timestamp_shift: i64,
    pub(crate) sack: Vec<(i64, i64)>,
    pub(crate) bytes: Option<(i64, i64)>,
    pub(crate) data: Option<Vec<u8>>,
    pub(crate) captured: Option<usize>,
    pub(crate) urgent: Option<u16>,
    pub(crate) fragment: Option<(usize, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Only {
    Timestamps,
    NoTimestamps,
    V4,
    V6,
}

impl Script {
    /// Reads a script. An error begins with the number of its line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut script = Self { settings: Settings::default(), lines: Vec::new(), only: Vec::new() };
        for (index, text) in text.lines().enumerate() {
            script.parse_line(index + 1, text).map_err(|error| format!("{}: {error}", index + 1))?;
        }
        Ok(script)
    }

    fn parse_line(&mut self, number: usize, text: &str) -> Result<(), String> {
        let words = words::split(text);
        let meanings = match words.as_slice() {
            [] => vec![Meaning::Silent],
            ["config", key, value] => {
                self.settings.set(key, value)?;
                vec![Meaning::Silent]
            }
            ["only", what] => {
                self.only.push(match *what {
                    "timestamps" => Only::Timestamps,
                    "no_timestamps" => Only::NoTimestamps,
                    "ipv4" => Only::V4,
                    "ipv6" => Only::V6,
                    _ => return Err(format!("no variant is called {what}")),
                });
                vec![Meaning::Silent]
            }
            ["handshake"] => {
                let lines = HANDSHAKE.iter().map(|line| meaning(&words::split(line)));
                lines.collect::<Result<_, _>>()?
            }
            words => vec![meaning(words)?],
        };
        for (index, meaning) in meanings.into_iter().enumerate() {
            self.lines.push(Line { number, text: text.to_owned(), meaning, hidden: index > 0 });
        }
        Ok(())
    }

    /// Whether the script is meant for `variant`.
    pub(crate) fn runs_under(&self, variant: &Variant) -> bool {
        self.only.iter().all(|only| match only {
            Only::Timestamps => variant.timestamps,
            Only::NoTimestamps => !variant.timestamps,
            Only::V4 => variant.family == Family::V4,
            Only::V6 => variant.family == Family::V6,
        })
    }
}

fn meaning(words: &[&str]) -> Result<Meaning, String> {
    let (verb, of) = words[0].split_once('@').map_or((words[0], None), |(verb, of)| (verb, Some(of)));
    let of = of.map(words::number::<usize>).transpose()?;
    let input = match (verb, &words[1..]) {
        ("client", rest) => Input::Client { number: of.unwrap_or(1), packet: Packet::parse(rest)? },
        ("target", rest) => Input::Target { flow: of, packet: Packet::parse(rest)? },
        ("wait", [duration]) => Input::Wait(words::duration(duration)?),
        ("timer", [duration]) => Input::Timer(words::duration(duration)?),
        ("reuse", [ahead]) => Input::Reuse { number: of.unwrap_or(1), ahead: words::number(ahead)? },
        ("route_refused", []) => Input::RouteRefused,
        ("too_big", [mtu]) => Input::TooBig(words::number(mtu)?),
        ("shut_down", []) => Input::ShutDown,
        ("stray", [what]) => Input::Stray(match *what {
            "udp" => Stray::Udp,
            "other_port" => Stray::OtherPort,
            "short" => Stray::Short,
            "reply" => Stray::Reply,
            "short_reply" => Stray::ShortReply,
            _ => return Err(format!("no stray packet is called {what}")),
        }),
        ("send", rest) => {
            let packet = Packet::parse(rest)?;
            if packet.flags.contains(TcpFlags::ACK) != packet.ack.is_some() {
                return Err("a packet is expected with an acknowledgement number if it has the flag".into());
            }
            return Ok(Meaning::Expectation(Expectation::Send { flow: of, packet }));
        }
        ("held", [count]) => return Ok(Meaning::Expectation(Expectation::Held(words::number(count)?))),
        ("dropped" | "event" | "close", rest) => return Ok(Meaning::Expectation(note(verb, rest)?)),
        _ => return Err(format!("{} is not understood", words.join(" "))),
    };
    Ok(Meaning::Input(input))
}

fn note(verb: &str, rest: &[&str]) -> Result<Expectation, String> {
    let (names, count) = match rest {
        [] => return Err(format!("{verb} what?")),
        [names @ .., last] if last.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            (names, words::number(last)?)
        }
        names => (names, 1),
    };
    let known = match (verb, names) {
        ("close", [reason]) | ("event", ["given_up", reason]) => {
            EndReason::ALL.iter().any(|known| known.name() == *reason)
        }
        ("dropped" | "event", [name]) => {
            super::notes::NOTES.iter().any(|n| n.key == format!("{verb} {name}"))
        }
        _ => false,
    };
    let key = format!("{verb} {}", names.join(" "));
    if known { Ok(Expectation::Note(key, count)) } else { Err(format!("nothing is called {key}")) }
}

impl Packet {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let [flags, range, rest @ ..] = words else {
            return Err("a packet has flags and a sequence number".into());
        };
        let mut packet = Self { flags: words::flags(flags)?, range: words::range(range)?, ..Self::default() };
        let mut rest = rest.iter().copied();
        while let Some(word) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{word} needs a value"));
            match word {
                "ack" => packet.ack = Some(words::number(value()?)?),
                "win" => packet.window = Some(words::number(value()?)?),
                "mss" => packet.mss = Some(words::number(value()?)?),
                "wscale" => packet.scale = Some(words::number(value()?)?),
                "nomss" => packet.without_mss = true,
                "nowscale" => packet.without_scale = true,
                "nosack" => packet.without_sack = true,
                "nots" => packet.without_timestamps = true,
                "ts" => packet.timestamp_shift = words::number(value()?)?,
                "sack" => packet.sack = value()?.split(',').map(words::range).collect::<Result<_, _>>()?,
                "bytes" => packet.bytes = Some(words::range(value()?)?),
                "data" => packet.data = Some(value()?.trim_matches('"').as_bytes().to_vec()),
                "cut" => packet.captured = Some(words::number(value()?)?),
                "urg" => packet.urgent = Some(words::number(value()?)?),
                "frag" => {
                    let (part, of) = value()?.split_once('/').ok_or("a fragment is written 1/2")?;
                    packet.fragment = Some((words::number(part)?, words::number(of)?));
                }
                _ => return Err(format!("a packet has no {word}")),
            }
        }
        let len = packet.len();
        if packet.data.as_ref().is_some_and(|data| data.len() != len) {
            return Err(format!("the data are not {len} bytes long"));
        }
        if packet.bytes.is_some_and(|(start, end)| (end - start) as usize != len) {
            return Err(format!("the bytes are not {len} bytes long"));
        }
        Ok(packet)
    }

    /// Payload bytes.
    pub(crate) fn len(&self) -> usize {
        (self.range.1 - self.range.0) as usize
    }
}
