//! Which requests are replayed.

use crate::codec::{RequestHead, tokens};
use crate::glob::Glob;
use crate::target::path_of;
use plugin_sdk::{ConfigError, Settings};
use regex_lite::Regex;

/// Whether a request is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is.
    Keep,
    /// It is left out, counted under this name.
    Drop(&'static str),
}

/// A header of a form.
#[derive(Debug)]
struct HeaderRule {
    name: Vec<u8>,
    value: Glob,
}

impl HeaderRule {
    fn fits(&self, head: &RequestHead<'_>) -> bool {
        head.fields.clone().any(|field| field.is(&self.name) && self.value.matches(field.value))
    }
}

/// What a rule of any kind looks at.
#[derive(Debug, Default)]
struct Rules {
    methods: Vec<Vec<u8>>,
    paths: Vec<Glob>,
    regexes: Vec<Regex>,
    headers: Vec<HeaderRule>,
}

/// All rules.
#[derive(Debug)]
pub(crate) struct Filter {
    keep: Rules,
    drop: Rules,
    /// Of 2³²; more than that is all.
    sample: u64,
    sample_header: Option<Vec<u8>>,
    /// There are no rules.
    keeps_all: bool,
}

impl Filter {
    /// Reads the rules.
    ///
    /// # Errors
    /// A rule that makes no sense.
    pub(crate) fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let keep = Rules::read(settings, "keep-")?;
        let drop = Rules::read(settings, "drop-")?;
        let percent = settings.number("sample-percent").unwrap_or(100.0);
        if !(0.0..=100.0).contains(&percent) {
            return Err(format!("sample-percent = {percent}: from 0 to 100 is possible").into());
        }
        let sample = (percent / 100.0 * 2_f64.powi(32)) as u64;
        let sample_header = settings.text("sample-header").map(|name| name.as_bytes().to_vec());
        let keeps_all = keep.is_empty() && drop.is_empty() && percent >= 100.0;
        Ok(Self { keep, drop, sample, sample_header, keeps_all })
    }

    /// Whether a request is replayed; `client` stands for the client's address.
    pub(crate) fn judge(&self, head: &RequestHead<'_>, client: u64) -> Verdict {
        if self.keeps_all {
            return Verdict::Keep;
        }
        let path = path_of(head.target);
        let keep = &self.keep;
        if !keep.methods.is_empty() && !keep.has_method(head.method) {
            Verdict::Drop("dropped by keep-methods")
        } else if self.drop.has_method(head.method) {
            Verdict::Drop("dropped by drop-methods")
        } else if !keep.paths.is_empty() && !keep.has_path(path) {
            Verdict::Drop("dropped by keep-paths")
        } else if self.drop.has_path(path) {
            Verdict::Drop("dropped by drop-paths")
        } else if !keep.regexes.is_empty() && !keep.has_regex(path) {
            Verdict::Drop("dropped by keep-path-regexes")
        } else if self.drop.has_regex(path) {
            Verdict::Drop("dropped by drop-path-regexes")
        } else if !keep.headers.is_empty() && !keep.has_header(head) {
            Verdict::Drop("dropped by keep-headers")
        } else if self.drop.has_header(head) {
            Verdict::Drop("dropped by drop-headers")
        } else if !self.is_sampled(head, client) {
            Verdict::Drop("dropped by sample-percent")
        } else {
            Verdict::Keep
        }
    }

    fn is_sampled(&self, head: &RequestHead<'_>, client: u64) -> bool {
        let value = self.sample_header.as_ref().and_then(|name| {
            let field = head.fields.clone().find(|field| field.is(name))?;
            Some(hash(field.value))
        });
        (value.unwrap_or(client) >> 32) < self.sample
    }
}

impl Rules {
    fn read(settings: &Settings, prefix: &str) -> Result<Self, ConfigError> {
        let texts = |kind: &str| settings.texts(&format!("{prefix}{kind}"));
        let methods = texts("methods").iter().flat_map(|list| tokens(list.as_bytes())).map(<[u8]>::to_vec);
        let regex = |text: &String| {
            Regex::new(text).map_err(|error| format!("{prefix}path-regexes: {text}: {error}"))
        };
        Ok(Self {
            methods: methods.collect(),
            paths: texts("paths").iter().map(|pattern| Glob::new(pattern)).collect(),
            regexes: texts("path-regexes").iter().map(regex).collect::<Result<_, _>>()?,
            headers: texts("headers")
                .iter()
                .map(|text| {
                    let (name, value) = text
                        .split_once('=')
                        .filter(|(name, _)| !name.is_empty())
                        .ok_or_else(|| format!("{prefix}headers: {text:?} is not NAME=PATTERN"))?;
                    Ok(HeaderRule { name: name.trim().as_bytes().to_vec(), value: Glob::new(value.trim()) })
                })
                .collect::<Result<_, ConfigError>>()?,
        })
    }

    fn is_empty(&self) -> bool {
        self.methods.is_empty() && self.paths.is_empty() && self.regexes.is_empty() && self.headers.is_empty()
    }

    fn has_method(&self, method: &[u8]) -> bool {
        self.methods.iter().any(|known| known == method)
    }

    fn has_path(&self, path: &[u8]) -> bool {
        self.paths.iter().any(|pattern| pattern.matches(path))
    }

    fn has_regex(&self, path: &[u8]) -> bool {
        // Bytes that are no text are looked at as if they were replaced: rules that leave out must not be evaded by them.
        !self.regexes.is_empty() && {
            let path = String::from_utf8_lossy(path);
            self.regexes.iter().any(|regex| regex.is_match(&path))
        }
    }

    fn has_header(&self, head: &RequestHead<'_>) -> bool {
        self.headers.iter().any(|rule| rule.fits(head))
    }
}

/// A number that the same bytes always have: FNV-1a, with its bits mixed so that the upper ones can be sampled.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
