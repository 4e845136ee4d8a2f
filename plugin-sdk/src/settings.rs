//! The options' values that a plugin is configured with.

use crate::descriptor::{Descriptor, OptionKind, PluginOption};
use std::fmt;

/// A value of an option. A choice is a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
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

impl Value {
    /// Whether an option of this kind may have it.
    pub(crate) fn fits(&self, kind: &OptionKind) -> bool {
        match (self, kind) {
            (Self::Boolean(_), OptionKind::Boolean)
            | (Self::Integer(_), OptionKind::Integer | OptionKind::Number)
            | (Self::Number(_), OptionKind::Number)
            | (Self::Text(_), OptionKind::Text)
            | (Self::Texts(_), OptionKind::Texts)
            | (Self::Table(_), OptionKind::Table) => true,
            (Self::Text(text), OptionKind::Choice(choices)) => choices.iter().any(|choice| choice == text),
            _ => false,
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl<const N: usize> From<[&str; N]> for Value {
    fn from(values: [&str; N]) -> Self {
        Self::Texts(values.map(str::to_owned).to_vec())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Value {
    fn from(entries: [(&str, &str); N]) -> Self {
        Self::Table(entries.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec())
    }
}

/// Why settings are refused; shown to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    /// With this text, which should name the option and say what is allowed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<String> for ConfigError {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for ConfigError {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// The values of a plugin's options. The host has checked names and kinds, and filled in defaults.
///
/// # Panics
/// All methods panic when the plugin's descriptor has no option of that name, or one of another kind: a defect that the first
/// test run shows.
#[derive(Clone, Debug)]
pub struct Settings {
    options: Vec<PluginOption>,
    values: Vec<(String, Value)>,
}

impl Settings {
    pub(crate) fn new(descriptor: &Descriptor, values: Vec<(String, Value)>) -> Self {
        Self { options: descriptor.options.clone(), values }
    }

    fn find(&self, name: &str, kinds: &[u32]) -> Option<&Value> {
        let Some(option) = self.options.iter().find(|option| option.name == name) else {
            panic!("plugin defect: the descriptor has no option {name:?}")
        };
        assert!(
            kinds.contains(&option.kind.code()),
            "plugin defect: option {name:?} is of the kind {:?}",
            option.kind
        );
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The value of a boolean option; `false` when it has none.
    pub fn boolean(&self, name: &str) -> bool {
        matches!(self.find(name, &[tcpcopy_plugin_abi::kind::BOOLEAN]), Some(Value::Boolean(true)))
    }

    /// The value of an integer option.
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.find(name, &[tcpcopy_plugin_abi::kind::INTEGER])? {
            Value::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of a number option.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.find(name, &[tcpcopy_plugin_abi::kind::NUMBER])? {
            Value::Number(value) => Some(*value),
            Value::Integer(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// The value of a text or choice option.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.find(name, &[tcpcopy_plugin_abi::kind::TEXT, tcpcopy_plugin_abi::kind::CHOICE])? {
            Value::Text(value) => Some(value),
            _ => None,
        }
    }

    /// The value of a list option; empty when it has none.
    pub fn texts(&self, name: &str) -> &[String] {
        match self.find(name, &[tcpcopy_plugin_abi::kind::TEXTS]) {
            Some(Value::Texts(values)) => values,
            _ => &[],
        }
    }

    /// The value of a table option; empty when it has none.
    pub fn table(&self, name: &str) -> &[(String, String)] {
        match self.find(name, &[tcpcopy_plugin_abi::kind::TABLE]) {
            Some(Value::Table(entries)) => entries,
            _ => &[],
        }
    }
}
