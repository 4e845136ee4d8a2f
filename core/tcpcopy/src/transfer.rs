//! The list that `-x` takes: which traffic is copied, and where to.
//!
//! Owns the syntax and what makes an entry impossible; which entry a packet belongs to is the engine's to say.
//!
//! ```text
//! list     = transfer *( "," transfer )
//! transfer = [ address ":" ] port [ "@" mac ] "-" address ":" port [ "@" mac ]
//! address  = IPv4 | "[" IPv6 "]"
//! ```

use nom::branch::alt;
use nom::bytes::complete::{take_while, take_while1};
use nom::character::complete::{char, space0};
use nom::combinator::{cut, opt, peek};
use nom::error::{ErrorKind, ParseError};
use nom::multi::separated_list1;
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};
use std::fmt;
use std::net::IpAddr;
use tcpcopy_engine::flow::Endpoint;

/// A link-layer address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// One entry of `-x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transfer {
    /// Address of the online server; none for any address of this host.
    pub online_addr: Option<IpAddr>,
    /// Port of the online server.
    pub online_port: u16,
    /// MAC address that outgoing frames carry as their sender's (with `--pcap-send`).
    pub source_mac: Option<MacAddr>,
    /// The target server.
    pub target: Endpoint,
    /// MAC address of the next hop towards the target (with `--pcap-send`).
    pub next_hop_mac: Option<MacAddr>,
}

impl Transfer {
    /// Whether no packet is left for `later`, which comes after this entry: both match the same packets.
    ///
    /// An entry with an online address goes before one without, wherever it stands.
    pub fn covers(&self, later: &Self) -> bool {
        self.online_port == later.online_port
            && self.online_addr == later.online_addr
            && self.target.addr.is_ipv4() == later.target.addr.is_ipv4()
    }
}

impl From<&Transfer> for tcpcopy_engine::mapping::Transfer {
    fn from(transfer: &Transfer) -> Self {
        Self { online: transfer.online_addr, online_port: transfer.online_port, target: transfer.target }
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.online_addr {
            Some(addr) => write!(f, "{}", Endpoint::new(addr, self.online_port))?,
            None => write!(f, "{}", self.online_port)?,
        }
        if let Some(mac) = self.source_mac {
            write!(f, "@{mac}")?;
        }
        write!(f, "-{}", self.target)?;
        self.next_hop_mac.map_or(Ok(()), |mac| write!(f, "@{mac}"))
    }
}

/// Where a list stops making sense, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: expected {expected}")]
pub struct TransferError {
    /// Position in the list, in characters from 1.
    pub column: usize,
    /// What was expected there.
    pub expected: String,
}

/// The parsers' error: the rest of the input where it happened, and what was expected.
#[derive(Debug, PartialEq, Eq)]
struct Expected<'a> {
    rest: &'a str,
    what: String,
}

impl<'a> ParseError<&'a str> for Expected<'a> {
    fn from_error_kind(rest: &'a str, _: ErrorKind) -> Self {
        Self { rest, what: "something else".to_owned() }
    }

    fn append(_: &'a str, _: ErrorKind, other: Self) -> Self {
        other
    }

    fn or(self, other: Self) -> Self {
        // The attempt that got further knows better what is missing.
        if self.rest.len() < other.rest.len() { self } else { other }
    }
}

type Parsed<'a, T> = IResult<&'a str, T, Expected<'a>>;

fn fail<'a, T>(rest: &'a str, what: impl Into<String>) -> Parsed<'a, T> {
    Err(nom::Err::Failure(Expected { rest, what: what.into() }))
}

/// Reads a list of transfers.
///
/// # Errors
/// The first place that is not as it should be, an entry that would replay to itself or to no single host, and an entry
/// given twice.
pub fn parse(list: &str) -> Result<Vec<Transfer>, TransferError> {
    let (rest, entries) = match separated_list1(char(','), placed(transfer)).parse(list) {
        Ok(parsed) => parsed,
        Err(nom::Err::Error(error) | nom::Err::Failure(error)) => {
            return Err(at(list, error.rest, error.what));
        }
        Err(nom::Err::Incomplete(_)) => return Err(at(list, "", "more")),
    };
    if !rest.is_empty() {
        return Err(at(list, rest, "',' and another transfer, or the end"));
    }
    for (index, (start, entry)) in entries.iter().enumerate() {
        if entries[..index].iter().any(|(_, earlier)| earlier == entry) {
            return Err(at(list, start, format!("another transfer: {entry} is already in the list")));
        }
    }
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn at(list: &str, rest: &str, expected: impl Into<String>) -> TransferError {
    let before = list.len().saturating_sub(rest.len());
    let column = list.char_indices().take_while(|(index, _)| *index < before).count() + 1;
    TransferError { column, expected: expected.into() }
}

/// Remembers where the thing that `parser` reads begins.
fn placed<'a, T>(
    mut parser: impl FnMut(&'a str) -> Parsed<'a, T>,
) -> impl FnMut(&'a str) -> Parsed<'a, (&'a str, T)> {
    move |input| {
        let (start, _) = space0(input)?;
        let (rest, value) = parser(start)?;
        Ok((rest, (start, value)))
    }
}

fn transfer(input: &str) -> Parsed<'_, Transfer> {
    let (rest, (online_addr, online_port)) = online(input)?;
    let (rest, source_mac) = mac_suffix(rest)?;
    let (rest, ()) = symbol(rest, '-', "'-' and the target, as in 80-10.0.0.2:8080")?;
    let (target_at, _) = space0(rest)?;
    let (rest, target) = target(target_at)?;
    let (rest, next_hop_mac) = mac_suffix(rest)?;
    let (rest, _) = space0(rest)?;

    if online_addr.is_some_and(|addr| Endpoint::new(addr, online_port) == target) {
        return fail(target_at, "a target that is not the online server itself");
    }
    Ok((rest, Transfer { online_addr, online_port, source_mac, target, next_hop_mac }))
}

/// `[address ":"] port`; an unspecified address means any, as it does in TCPCopy.
fn online(input: &str) -> Parsed<'_, (Option<IpAddr>, u16)> {
    let what = "the online server's port, or its address and port";
    let is_address = peek(terminated(word, preceded(space0::<&str, Expected<'_>>, char(':'))));
    let (rest, with_address) = opt(is_address).parse(input)?;
    if with_address.is_none() {
        let (rest, port) = port(rest, what)?;
        return Ok((rest, (None, port)));
    }
    let (after, addr) = address(rest, what)?;
    if is_many(addr) {
        return fail(rest, "the address of one online server");
    }
    let (rest, ()) = symbol(after, ':', "':' and the online server's port")?;
    let (rest, port) = port(rest, "the online server's port")?;
    Ok((rest, (Some(addr).filter(|addr| !addr.is_unspecified()), port)))
}

/// `address ":" port`, both of one host.
fn target(input: &str) -> Parsed<'_, Endpoint> {
    let (after, addr) = address(input, "the target's address")?;
    if addr.is_unspecified() || is_many(addr) {
        return fail(input, "the address of one target (not a broadcast, multicast or unspecified one)");
    }
    let (rest, ()) = symbol(after, ':', "':' and the target's port")?;
    let (rest, port) = port(rest, "the target's port")?;
    Ok((rest, Endpoint::new(addr, port)))
}

fn is_many(addr: IpAddr) -> bool {
    addr.is_multicast() || matches!(addr, IpAddr::V4(v4) if v4.is_broadcast())
}

/// What may be an address or a port: a bracketed run, or a run of letters, digits and dots.
fn word(input: &str) -> Parsed<'_, &str> {
    alt((
        delimited(char('['), take_while(|c| c != ']' && c != ','), char(']')),
        take_while1(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_'),
    ))
    .parse(input)
}

fn address<'a>(input: &'a str, what: &str) -> Parsed<'a, IpAddr> {
    let (input, _) = space0(input)?;
    if let Some(inner) = input.strip_prefix('[') {
        let Some((text, rest)) = inner.split_once(']') else {
            return fail(input, "']' after the IPv6 address");
        };
        return match text.trim().parse() {
            Ok(addr) => Ok((rest, IpAddr::V6(addr))),
            Err(_) => fail(inner, "an IPv6 address between the brackets"),
        };
    }
    let Ok((rest, text)) = word(input) else { return fail(input, what) };
    match text.parse() {
        Ok(addr) => Ok((rest, IpAddr::V4(addr))),
        Err(_) if rest.starts_with(':') && text.chars().all(|c| c.is_ascii_hexdigit()) => {
            fail(input, format!("{what} (an IPv6 address goes in brackets: [fd00::1]:80)"))
        }
        Err(_) => fail(input, format!("{what} (an IPv4 address, or an IPv6 address in brackets)")),
    }
}

fn port<'a>(input: &'a str, what: &str) -> Parsed<'a, u16> {
    let (input, _) = space0(input)?;
    let digits = take_while1::<_, _, Expected<'_>>(|c: char| c.is_ascii_alphanumeric());
    match cut(digits).parse(input) {
        Ok((rest, digits)) => match digits.parse::<u16>() {
            Ok(port) if port > 0 => Ok((rest, port)),
            _ => fail(input, format!("{what}, a number from 1 to 65535")),
        },
        Err(_) => fail(input, what),
    }
}

fn mac_suffix(input: &str) -> Parsed<'_, Option<MacAddr>> {
    let (after, _) = space0(input)?;
    let Some(text) = after.strip_prefix('@') else { return Ok((input, None)) };
    let (text, _) = space0(text)?;
    let (rest, digits) = take_while(|c: char| c.is_ascii_alphanumeric() || c == ':').parse(text)?;
    // With '-' between the bytes, the transfer's own '-' would be ambiguous, so only ':' separates them.
    let bytes: Option<Vec<u8>> = digits
        .split(':')
        .map(|byte| if byte.len() == 2 { u8::from_str_radix(byte, 16).ok() } else { None })
        .collect();
    match bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()) {
        Some(bytes) => Ok((rest, Some(MacAddr(bytes)))),
        None => fail(text, "a MAC address, as in 02:00:00:00:00:01"),
    }
}

fn symbol<'a>(input: &'a str, wanted: char, what: &str) -> Parsed<'a, ()> {
    let (input, _) = space0(input)?;
    match input.strip_prefix(wanted) {
        Some(rest) => Ok((rest, ())),
        None => fail(input, what),
    }
}
