//! What a plugin says of itself, and what it is told: descriptor, options, settings and needs.
//!
//! Owns the host's own words for them, the same for both kinds of plugin, and the rules that a descriptor has to keep. How
//! settings are read from what users write is the business of [`crate::settings`].

use std::fmt;
use tcpcopy_engine::plugin::Inputs;

/// Longest name of a plugin or an option, in bytes.
const MAX_NAME: usize = 64;
/// Longest text in a descriptor, in bytes.
const MAX_TEXT: usize = 16 * 1024;
/// Most options, choices and ports.
const MAX_ITEMS: usize = 256;

/// Which side of a connection sends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// The type of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A text.
    Text,
    /// One of [`PluginOption::choices`].
    Choice,
    /// A list of texts.
    Texts,
    /// Names with a text each.
    Table,
}

impl OptionKind {
    /// As in the native interface.
    pub(crate) fn from_code(code: u32) -> Option<Self> {
        use tcpcopy_plugin_abi::kind;
        Some(match code {
            kind::BOOLEAN => Self::Boolean,
            kind::INTEGER => Self::Integer,
            kind::NUMBER => Self::Number,
            kind::TEXT => Self::Text,
            kind::CHOICE => Self::Choice,
            kind::TEXTS => Self::Texts,
            kind::TABLE => Self::Table,
            _ => return None,
        })
    }
}

/// An option that users may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginOption {
    /// Its name: lower-case words joined by hyphens.
    pub name: String,
    /// The type of its value.
    pub kind: OptionKind,
    /// What is allowed, for a choice; else empty.
    pub choices: Vec<String>,
    /// Its value when none is given, as in TOML.
    pub default: Option<String>,
    /// What it does.
    pub help: String,
}

/// What a plugin is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its name, a lower-case word.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// What it does, in one line.
    pub about: String,
    /// Which side speaks first.
    pub speaks_first: Side,
    /// Ports of online servers that it serves unless told otherwise.
    pub ports: Vec<u16>,
    /// Inputs that it may need, depending on its options.
    pub inputs: Inputs,
    /// Its options.
    pub options: Vec<PluginOption>,
}

impl Descriptor {
    /// The option of that name.
    pub fn option(&self, name: &str) -> Option<&PluginOption> {
        self.options.iter().find(|option| option.name == name)
    }

    /// Checks what programs rely on: names that can be typed and printed, defaults of the right kind, and bounds.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_name("the plugin's name", &self.name)?;
        check_text("the version", &self.version)?;
        check_text("the description", &self.about)?;
        if self.options.len() > MAX_ITEMS || self.ports.len() > MAX_ITEMS {
            return Err(format!("it has more than {MAX_ITEMS} options or ports"));
        }
        for (index, option) in self.options.iter().enumerate() {
            check_name("the name of an option", &option.name)?;
            if self.options[..index].iter().any(|other| other.name == option.name) {
                return Err(format!("it has two options {}", option.name));
            }
            check_text("the help of an option", &option.help)?;
            if option.choices.len() > MAX_ITEMS {
                return Err(format!("option {} has more than {MAX_ITEMS} choices", option.name));
            }
            if (option.kind == OptionKind::Choice) == option.choices.is_empty() {
                return Err(format!("option {}: a choice has choices, and nothing else has", option.name));
            }
            for choice in &option.choices {
                check_text("a choice", choice)?;
            }
            if let Some(default) = &option.default {
                check_text("a default", default)?;
                crate::settings::default_value(option, default)
                    .map_err(|error| format!("the default of option {}: {error}", option.name))?;
            }
        }
        Ok(())
    }
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
        return Err(format!(
            "{what} is {name:?}; it takes 1 to {MAX_NAME} lower-case letters, digits and hyphens"
        ));
    }
    Ok(())
}

fn check_text(what: &str, text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT {
        return Err(format!("{what} is longer than {MAX_TEXT} bytes"));
    }
    if text.chars().any(|character| character.is_control() && character != '\n') {
        return Err(format!("{what} has control characters"));
    }
    Ok(())
}

/// A value of an option's kind. A choice is a text.
///
/// Its `Debug` shows no texts: they may be passwords.
#[derive(Clone, PartialEq)]
pub enum SettingValue {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A text, or one of the choices.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// Names with a text each.
    Table(Vec<(String, String)>),
}

impl fmt::Debug for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(_) => f.write_str("<text>"),
            Self::Texts(texts) => write!(f, "<{} texts>", texts.len()),
            Self::Table(entries) => write!(f, "<{} entries>", entries.len()),
        }
    }
}

/// An option's value, checked against the option.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The option's name.
    pub name: String,
    /// Its value.
    pub value: SettingValue,
}

/// Which sessions may share one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// A small group, as many as the host likes.
    Grouped,
    /// All sessions of a worker.
    Together,
}

/// What a configured plugin needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Inputs beyond request bytes.
    pub inputs: Inputs,
    /// Which sessions may share an instance.
    pub sharing: Sharing,
}
