//! What a plugin says about itself.

use std::borrow::Cow;
use std::fmt;
use std::ops::BitOr;
use tcpcopy_plugin_abi as abi;

/// Which side of a connection sends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Side {
    /// The client, as in HTTP.
    #[default]
    Client,
    /// The server, as in MySQL.
    Server,
}

/// Inputs beyond request bytes, joined by `|`. Each has its price, so ask for what is needed only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Inputs(u32);

impl Inputs {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// Bytes of the target's responses, and their end. Price: intercept returns whole packets instead of headers.
    pub const RESPONSES: Self = Self(abi::inputs::RESPONSES);
    /// Bytes that the online server sent to the client. Price: tcpcopy captures both directions.
    pub const REFERENCES: Self = Self(abi::inputs::REFERENCES);
    /// Connections made. Nothing but what the plugin itself sends goes out on a new connection before
    /// [`Actions::ready`](crate::Actions::ready).
    pub const CONNECTIONS: Self = Self(abi::inputs::CONNECTIONS);
    /// Ends of clients.
    pub const CLOSES: Self = Self(abi::inputs::CLOSES);

    /// Whether all of `other` are among them.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits & 15)
    }
}

impl BitOr for Inputs {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::RESPONSES, "RESPONSES"),
            (Self::REFERENCES, "REFERENCES"),
            (Self::CONNECTIONS, "CONNECTIONS"),
            (Self::CLOSES, "CLOSES"),
        ];
        let mut names = names.iter().filter(|(input, _)| self.contains(*input)).map(|(_, name)| *name);
        f.write_str(names.next().unwrap_or("NONE"))?;
        names.try_for_each(|name| write!(f, " | {name}"))
    }
}

/// What a configured plugin needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Needs {
    pub(crate) inputs: Inputs,
    pub(crate) together: bool,
}

impl Needs {
    /// These inputs; sessions share instances in small groups.
    pub const fn new(inputs: Inputs) -> Self {
        Self { inputs, together: false }
    }

    /// All sessions of a worker share one instance, because the plugin carries something from one to another. Price: a fault
    /// costs all of them a new connection.
    #[must_use]
    pub const fn together(mut self) -> Self {
        self.together = true;
        self
    }

    /// The inputs.
    pub const fn inputs(self) -> Inputs {
        self.inputs
    }

    /// Whether all sessions of a worker share one instance.
    pub const fn is_together(self) -> bool {
        self.together
    }
}

/// The type of an option's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A text.
    Text,
    /// One of these texts.
    Choice(Vec<Cow<'static, str>>),
    /// A list of texts.
    Texts,
    /// Names with a text each.
    Table,
}

impl OptionKind {
    /// As in the native interface.
    pub(crate) fn code(&self) -> u32 {
        match self {
            Self::Boolean => abi::kind::BOOLEAN,
            Self::Integer => abi::kind::INTEGER,
            Self::Number => abi::kind::NUMBER,
            Self::Text => abi::kind::TEXT,
            Self::Choice(_) => abi::kind::CHOICE,
            Self::Texts => abi::kind::TEXTS,
            Self::Table => abi::kind::TABLE,
        }
    }
}

/// An option that users may set. Names are lower-case words joined by hyphens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginOption {
    pub(crate) name: Cow<'static, str>,
    pub(crate) kind: OptionKind,
    pub(crate) default: Option<Cow<'static, str>>,
    pub(crate) help: Cow<'static, str>,
}

impl PluginOption {
    fn new(name: impl Into<Cow<'static, str>>, kind: OptionKind) -> Self {
        Self { name: name.into(), kind, default: None, help: Cow::Borrowed("") }
    }

    /// `true` or `false`. It is `false` without a default.
    pub fn boolean(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, OptionKind::Boolean)
    }

    /// A whole number.
    pub fn integer(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, OptionKind::Integer)
    }

    /// A number.
    pub fn number(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, OptionKind::Number)
    }

    /// A text.
    pub fn text(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, OptionKind::Text)
    }

    /// One of `choices`.
    pub fn choice(name: impl Into<Cow<'static, str>>, choices: &[&'static str]) -> Self {
        Self::new(name, OptionKind::Choice(choices.iter().map(|choice| Cow::Borrowed(*choice)).collect()))
    }

    /// A list of texts. It is empty without a default.
    pub fn texts(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, OptionKind::Texts)
    }

    /// Names with a text each. It is empty without a default.
    pub fn table(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, OptionKind::Table)
    }

    /// Its value when the user gives none, written as in TOML: `false`, `10`, `"a text"`, `["a", "b"]`, `{ name = "text" }`.
    #[must_use]
    pub fn default(mut self, toml: impl Into<Cow<'static, str>>) -> Self {
        self.default = Some(toml.into());
        self
    }

    /// What it does, in one or more sentences.
    #[must_use]
    pub fn help(mut self, help: impl Into<Cow<'static, str>>) -> Self {
        self.help = help.into();
        self
    }
}

/// What a plugin is.
///
/// ```
/// use plugin_sdk::{Descriptor, Inputs, PluginOption};
///
/// let descriptor = Descriptor::new("lines", "1.0.0")
///     .about("One line asks, one line answers.")
///     .ports(&[7007])
///     .inputs(Inputs::RESPONSES | Inputs::CONNECTIONS)
///     .option(PluginOption::integer("max-line").default("4096").help("Longest line that is believed."));
/// assert_eq!(descriptor.name(), "lines");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub(crate) name: Cow<'static, str>,
    pub(crate) version: Cow<'static, str>,
    pub(crate) about: Cow<'static, str>,
    pub(crate) speaks_first: Side,
    pub(crate) ports: Vec<u16>,
    pub(crate) inputs: Inputs,
    pub(crate) options: Vec<PluginOption>,
}

impl Descriptor {
    /// A plugin's name, a lower-case word, and its own version: `env!("CARGO_PKG_VERSION")`.
    pub fn new(name: impl Into<Cow<'static, str>>, version: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            about: Cow::Borrowed(""),
            speaks_first: Side::Client,
            ports: Vec::new(),
            inputs: Inputs::NONE,
            options: Vec::new(),
        }
    }

    /// What it does, in one line.
    #[must_use]
    pub fn about(mut self, about: impl Into<Cow<'static, str>>) -> Self {
        self.about = about.into();
        self
    }

    /// Which side speaks first: the client, unless told otherwise.
    #[must_use]
    pub fn speaks_first(mut self, side: Side) -> Self {
        self.speaks_first = side;
        self
    }

    /// Ports of online servers that it serves unless the user says otherwise.
    #[must_use]
    pub fn ports(mut self, ports: &[u16]) -> Self {
        self.ports = ports.to_vec();
        self
    }

    /// Every input that it may need, depending on its options.
    #[must_use]
    pub fn inputs(mut self, inputs: Inputs) -> Self {
        self.inputs = inputs;
        self
    }

    /// Adds an option.
    #[must_use]
    pub fn option(mut self, option: PluginOption) -> Self {
        self.options.push(option);
        self
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The plugin's version.
    pub fn version(&self) -> &str {
        &self.version
    }
}
