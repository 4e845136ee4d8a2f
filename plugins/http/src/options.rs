//! The plugin's options: what there is to set, and what was set.

use crate::credentials::Sources;
use crate::filter::Filter;
use crate::rewrite::Rewrite;
use plugin_sdk::{ConfigError, Descriptor, Inputs, PluginOption, Settings};

/// What is done about a client's bytes that are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadRequests {
    /// The session is replayed as without a plugin from there on.
    Forward,
    /// The connection is closed behind what was sent before.
    Drop,
}

/// How the target's cookies and tokens are carried.
#[derive(Clone, Debug)]
pub(crate) struct CredentialOptions {
    /// Where servers put them.
    pub(crate) sources: Sources,
    /// How long a request waits for one that the target has not issued yet, in milliseconds.
    pub(crate) wait_millis: u32,
    /// Most of them that are remembered.
    pub(crate) max: usize,
}

/// What was set.
#[derive(Debug)]
pub(crate) struct Options {
    /// Which requests are replayed.
    pub(crate) filter: Filter,
    /// What is changed in them.
    pub(crate) rewrite: Rewrite,
    /// What is done about what is no request.
    pub(crate) bad_requests: BadRequests,
    /// Largest head, in bytes.
    pub(crate) max_head: usize,
    /// How long a body waits for the target's 100, in milliseconds.
    pub(crate) continue_millis: u32,
    /// None: credentials pass as the online server issued them.
    pub(crate) credentials: Option<CredentialOptions>,
}

/// What the plugin is.
pub(crate) fn descriptor() -> Descriptor {
    let texts = |name, help| PluginOption::texts(name).help(help);
    Descriptor::new("http", env!("CARGO_PKG_VERSION"))
        .about("HTTP/1.0 and 1.1: requests one by one, filters, rewriting, logged-in sessions.")
        .ports(&[80, 8000, 8080])
        .inputs(Inputs::RESPONSES | Inputs::REFERENCES)
        .option(texts("keep-methods", "Replay only requests with one of these methods."))
        .option(texts("drop-methods", "Leave out requests with one of these methods."))
        .option(texts(
            "keep-paths",
            "Replay only requests whose path fits one of these patterns: * stands for any bytes, ? for one. The query is no part \
             of the path.",
        ))
        .option(texts("drop-paths", "Leave out requests whose path fits one of these patterns."))
        .option(texts(
            "keep-path-regexes",
            "Replay only requests in whose path one of these regular expressions is found.",
        ))
        .option(texts(
            "drop-path-regexes",
            "Leave out requests in whose path one of these regular expressions is found.",
        ))
        .option(texts(
            "keep-headers",
            "Replay only requests that have a header of one of these forms, NAME=PATTERN.",
        ))
        .option(texts("drop-headers", "Leave out requests that have a header of one of these forms, NAME=PATTERN."))
        .option(
            PluginOption::number("sample-percent")
                .default("100")
                .help("Replay so many of a hundred users' requests: all of one user's, or none."),
        )
        .option(PluginOption::text("sample-header").help(
            "The header whose value tells users apart for sample-percent. Requests without it, and all when it is not set, go by \
             the client's address.",
        ))
        .option(
            PluginOption::table("set-headers")
                .help("Headers to set, in place of the client's if it sent them."),
        )
        .option(texts("remove-headers", "Headers to take out."))
        .option(PluginOption::text("host").help("The host to ask for, in place of the client's."))
        .option(
            PluginOption::table("path-prefixes")
                .help("Beginnings of paths, and what to put in their place. The longest that fits counts."),
        )
        .option(
            PluginOption::choice("bad-requests", &["forward", "drop"]).default("\"forward\"").help(
                "What to do when a client's bytes are no request: forward everything from there on as without a plugin, or close \
                 the connection behind the last good request.",
            ),
        )
        .option(
            PluginOption::integer("max-head-bytes")
                .default("65536")
                .help("Largest request line and headers, in bytes; larger ones are bad requests."),
        )
        .option(PluginOption::integer("continue-timeout-ms").default("1000").help(
            "How long the body of a request with Expect: 100-continue waits for the target's answer, in milliseconds.",
        ))
        .option(PluginOption::boolean("map-credentials").default("false").help(
            "Send cookies and tokens that the target issued in place of those that the online server issued. Needs both \
             directions of the captured traffic.",
        ))
        .option(
            PluginOption::texts("token-fields")
                .default("[\"access_token\", \"id_token\", \"token\", \"refresh_token\"]")
                .help("Fields of JSON responses that hold tokens."),
        )
        .option(
            PluginOption::texts("token-headers")
                .default("[\"Authorization\", \"X-CSRF-Token\"]")
                .help("Headers that hold tokens, in responses and requests."),
        )
        .option(texts(
            "token-params",
            "Fields of queries, HTML forms and urlencoded bodies of up to 64 KiB that hold tokens.",
        ))
        .option(PluginOption::integer("credential-wait-ms").default("2000").help(
            "How long a request waits when the target has not yet issued what it needs, in milliseconds. Then it goes as it is.",
        ))
        .option(
            PluginOption::integer("max-credentials")
                .default("100000")
                .help("Most cookies and tokens remembered; those not used for longest go first."),
        )
}

impl Options {
    /// Reads what was set.
    ///
    /// # Errors
    /// A pattern, regular expression, header or number that makes no sense.
    pub(crate) fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let credentials = if settings.boolean("map-credentials") {
            Some(CredentialOptions {
                sources: Sources::read(settings)?,
                wait_millis: whole(settings, "credential-wait-ms", 0, 600_000)? as u32,
                max: whole(settings, "max-credentials", 1, 10_000_000)? as usize,
            })
        } else {
            None
        };
        Ok(Self {
            filter: Filter::read(settings)?,
            rewrite: Rewrite::read(settings)?,
            bad_requests: match settings.text("bad-requests") {
                Some("drop") => BadRequests::Drop,
                _ => BadRequests::Forward,
            },
            max_head: whole(settings, "max-head-bytes", 256, 16 * 1024 * 1024)? as usize,
            continue_millis: whole(settings, "continue-timeout-ms", 0, 600_000)? as u32,
            credentials,
        })
    }
}

/// A whole number within bounds.
fn whole(settings: &Settings, name: &str, least: i64, most: i64) -> Result<i64, ConfigError> {
    let value = settings.integer(name).unwrap_or(least);
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{name} = {value}: from {least} to {most} is possible").into())
    }
}
