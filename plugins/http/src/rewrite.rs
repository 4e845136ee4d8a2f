//! What is changed in requests.

use crate::codec::{Field, RequestHead};
use crate::target::parts;
use plugin_sdk::{ConfigError, Settings};

/// Headers that say where messages end and what becomes of the connection. Changed ones would break the replay.
const FRAMING: [&str; 6] = ["connection", "content-length", "expect", "te", "transfer-encoding", "upgrade"];

/// What users want changed.
#[derive(Debug)]
pub(crate) struct Rewrite {
    set: Vec<(Vec<u8>, Vec<u8>)>,
    remove: Vec<Vec<u8>>,
    host: Option<Vec<u8>>,
    /// The longest first.
    prefixes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What is put in place of one part of a head.
#[derive(Debug, Default)]
pub(crate) struct Substitutes {
    /// The query, with its question mark.
    pub(crate) query: Option<Vec<u8>>,
    /// Values of header lines, by the number of the line.
    pub(crate) values: Vec<(usize, Vec<u8>)>,
    /// The body's length.
    pub(crate) length: Option<usize>,
}

impl Substitutes {
    /// Whether nothing is to be replaced.
    pub(crate) fn is_empty(&self) -> bool {
        self.query.is_none() && self.values.is_empty() && self.length.is_none()
    }
}

impl Rewrite {
    /// Reads what is wanted.
    ///
    /// # Errors
    /// A header that can't be set, or an empty prefix.
    pub(crate) fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let set: Vec<(Vec<u8>, Vec<u8>)> = settings
            .table("set-headers")
            .iter()
            .map(|(name, value)| {
                check_name("set-headers", name)?;
                if value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                    return Err(ConfigError::from(format!(
                        "set-headers: the value of {name} is more than a line"
                    )));
                }
                Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            })
            .collect::<Result<_, _>>()?;
        let remove = settings.texts("remove-headers");
        remove.iter().try_for_each(|name| check_name("remove-headers", name))?;
        let host = settings.text("host").filter(|host| !host.is_empty());
        if let Some(host) = host
            && host.bytes().any(|byte| byte <= b' ' || byte == b'/' || byte == 0x7f)
        {
            return Err(format!(
                "host = {host:?}: a host name or address, with or without a port, is possible"
            )
            .into());
        }
        let mut prefixes: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (from, to) in settings.table("path-prefixes") {
            let is_path = |text: &str| text.starts_with('/') && !text.bytes().any(|b| b <= b' ' || b == 0x7f);
            if !is_path(from) || !(is_path(to) || to.is_empty()) {
                return Err(format!("path-prefixes: {from:?} = {to:?}: both begin with a slash").into());
            }
            prefixes.push((from.as_bytes().to_vec(), to.as_bytes().to_vec()));
        }
        prefixes.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        Ok(Self {
            set,
            remove: remove.iter().map(|name| name.as_bytes().to_vec()).collect(),
            host: host.map(|host| host.as_bytes().to_vec()),
            prefixes,
        })
    }

    /// Whether nothing is to be changed in any request.
    pub(crate) const fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty() && self.host.is_none() && self.prefixes.is_empty()
    }

    /// Writes the changed head of a request to `out`.
    pub(crate) fn write(
        &self,
        bytes: &[u8],
        head: &RequestHead<'_>,
        substitutes: &Substitutes,
        out: &mut Vec<u8>,
    ) {
        out.clear();
        self.write_line(bytes, head, substitutes, out);
        let mut written = vec![false; self.set.len()];
        let mut host_written = self.host.is_none();
        let mut end = head.line_len;
        for (number, field) in head.fields.enumerate() {
            end += field.line.len();
            if self.remove.iter().any(|name| field.is(name)) {
                continue;
            }
            if let Some(index) = self.set.iter().position(|(name, _)| field.is(name)) {
                if !std::mem::replace(&mut written[index], true) {
                    write_field(out, field, &self.set[index].1);
                }
            } else if let (true, Some(host)) = (field.is(b"host"), &self.host) {
                if !std::mem::replace(&mut host_written, true) {
                    write_field(out, field, host);
                }
            } else if let (true, Some(length)) = (field.is(b"content-length"), substitutes.length) {
                write_field(out, field, length.to_string().as_bytes());
            } else if let Some((_, value)) = substitutes.values.iter().find(|(line, _)| *line == number) {
                write_field(out, field, value);
            } else {
                out.extend_from_slice(field.line);
            }
        }
        let host = self.host.as_ref().filter(|_| !host_written);
        let host = host.filter(|_| !self.set.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"host")));
        let set = self.set.iter().zip(&written).filter(|(_, written)| !**written);
        let set = set.map(|((name, value), _)| (name.as_slice(), value));
        for (name, value) in host.map(|host| (&b"Host"[..], host)).into_iter().chain(set) {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&bytes[end..head.len]);
    }

    fn write_line(&self, bytes: &[u8], head: &RequestHead<'_>, substitutes: &Substitutes, out: &mut Vec<u8>) {
        let parts = parts(head.target);
        out.extend_from_slice(head.method);
        out.push(b' ');
        out.extend_from_slice(parts.scheme);
        let authority = self.host.as_deref().filter(|_| !parts.authority.is_empty());
        out.extend_from_slice(authority.unwrap_or(parts.authority));
        match self.prefixes.iter().find(|(from, _)| parts.path.starts_with(from)) {
            Some((from, to)) => {
                let rest = &parts.path[from.len()..];
                // A path has to begin with a slash, and "/a" in place of "/b/" must not swallow one.
                if !to.ends_with(b"/") && from.ends_with(b"/") || to.is_empty() && !rest.starts_with(b"/") {
                    out.extend_from_slice(to);
                    out.push(b'/');
                } else {
                    out.extend_from_slice(to);
                }
                out.extend_from_slice(rest);
            }
            None => out.extend_from_slice(parts.path),
        }
        out.extend_from_slice(substitutes.query.as_deref().unwrap_or(parts.query));
        out.extend_from_slice(&bytes[head.method.len() + 1 + head.target.len()..head.line_len]);
    }
}

fn write_field(out: &mut Vec<u8>, field: Field<'_>, value: &[u8]) {
    out.extend_from_slice(field.name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn check_name(option: &str, name: &str) -> Result<(), ConfigError> {
    if name.is_empty()
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    {
        return Err(format!("{option}: {name:?} is no name of a header").into());
    }
    if FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
        return Err(format!("{option}: {name} says where messages end, and can't be changed").into());
    }
    Ok(())
}
