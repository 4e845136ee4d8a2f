//! Reads a plugin's settings from what users write, and explains what they may write.
//!
//! Owns the two forms, a TOML file and `NAME=VALUE`, and the errors about them. Values are checked against the options of the
//! plugin's descriptor; what the plugin itself thinks of them is asked when it is configured.

mod indirect;
mod value;

use crate::descriptor::{Descriptor, OptionKind, PluginOption, Setting, SettingValue};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

pub(crate) use value::default_value;

/// Most bytes of a configuration file.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{} is no TOML: {message}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// Not of the form `NAME=VALUE`.
    #[error("{assignment:?} is no NAME=VALUE")]
    NoAssignment {
        /// The name, as far as there is one: a value may be secret.
        assignment: String,
    },
    /// There is no such option.
    #[error("{origin}: plugin {plugin} has no option {option:?}; {known}")]
    Unknown {
        /// Where it was written.
        origin: String,
        /// The plugin's name.
        plugin: String,
        /// What was written.
        option: String,
        /// The known options with their types.
        known: String,
    },
    /// The value is not of the option's type.
    #[error("{origin}: option {option} of plugin {plugin}: {problem}; {known}")]
    Value {
        /// Where it was written.
        origin: String,
        /// The plugin's name.
        plugin: String,
        /// The option.
        option: String,
        /// What is wrong.
        problem: String,
        /// The known options with their types.
        known: String,
    },
}

/// A configuration file that was read.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    table: toml::Table,
}

impl ConfigFile {
    /// Reads `path`.
    ///
    /// # Errors
    /// When it can't be read or is no TOML.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = indirect::read_bounded(path, MAX_FILE)
            .map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Takes `text`, which came from `path`.
    ///
    /// # Errors
    /// When it is no TOML.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        match text.parse::<toml::Table>() {
            Ok(table) => Ok(Self { path: path.to_owned(), table }),
            Err(error) => {
                let line = error.span().map(|span| {
                    text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count() + 1
                });
                let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
                let message = format!("{place}{}", error.message());
                Err(SettingsError::Toml { path: path.to_owned(), message })
            }
        }
    }

    /// What is meant for one plugin: the table that bears its name, else everything. A file may so serve several plugins, with
    /// a table for each.
    fn section(&self, descriptor: &Descriptor) -> (String, &toml::Table) {
        let origin = self.path.display().to_string();
        match self.table.get(&descriptor.name) {
            Some(toml::Value::Table(table)) if descriptor.option(&descriptor.name).is_none() => {
                (format!("{origin}, [{}]", descriptor.name), table)
            }
            _ => (origin, &self.table),
        }
    }
}

/// The settings for a plugin: those of `assignments` (`NAME=VALUE`, later ones first; lists and tables add up) before those of
/// `file` before the defaults.
///
/// # Errors
/// For an unknown option, or a value of another type than the option's: with the list of all options.
pub fn resolve(
    descriptor: &Descriptor,
    file: Option<&ConfigFile>,
    assignments: &[String],
) -> Result<Vec<Setting>, SettingsError> {
    let mut settings: Vec<Setting> = Vec::new();
    if let Some(file) = file {
        let (origin, table) = file.section(descriptor);
        for (name, value) in table {
            let option = option_of(descriptor, name, &origin)?;
            let value = value::from_toml(option, value)
                .map_err(|problem| wrong(descriptor, option, &origin, problem))?;
            settings.push(Setting { name: name.clone(), value });
        }
    }
    let mut typed: Vec<Setting> = Vec::new();
    for assignment in assignments {
        let Some((name, text)) = assignment.split_once('=') else {
            return Err(SettingsError::NoAssignment { assignment: assignment.clone() });
        };
        let (name, origin) = (name.trim(), "--module-opt");
        let option = option_of(descriptor, name, origin)?;
        let value =
            value::from_text(option, text).map_err(|problem| wrong(descriptor, option, origin, problem))?;
        match typed.iter_mut().find(|setting| setting.name == name) {
            Some(earlier) => merge(&mut earlier.value, value),
            None => typed.push(Setting { name: name.to_owned(), value }),
        }
    }
    settings.retain(|setting| !typed.iter().any(|other| other.name == setting.name));
    settings.extend(typed);
    for option in &descriptor.options {
        if let Some(default) = &option.default
            && !settings.iter().any(|setting| setting.name == option.name)
        {
            let value = default_value(option, default)
                .map_err(|problem| wrong(descriptor, option, "its default", problem))?;
            settings.push(Setting { name: option.name.clone(), value });
        }
    }
    Ok(settings)
}

fn merge(earlier: &mut SettingValue, value: SettingValue) {
    match (earlier, value) {
        (SettingValue::Texts(all), SettingValue::Texts(more)) => all.extend(more),
        (SettingValue::Table(all), SettingValue::Table(more)) => {
            for (name, text) in more {
                match all.iter_mut().find(|entry| entry.0 == name) {
                    Some(entry) => entry.1 = text,
                    None => all.push((name, text)),
                }
            }
        }
        (earlier, value) => *earlier = value,
    }
}

fn option_of<'a>(
    descriptor: &'a Descriptor,
    name: &str,
    origin: &str,
) -> Result<&'a PluginOption, SettingsError> {
    descriptor.option(name).ok_or_else(|| SettingsError::Unknown {
        origin: origin.to_owned(),
        plugin: descriptor.name.clone(),
        option: name.to_owned(),
        known: known(descriptor),
    })
}

fn wrong(descriptor: &Descriptor, option: &PluginOption, origin: &str, problem: String) -> SettingsError {
    SettingsError::Value {
        origin: origin.to_owned(),
        plugin: descriptor.name.clone(),
        option: option.name.clone(),
        problem,
        known: known(descriptor),
    }
}

/// The options with their types, in one line.
pub fn known(descriptor: &Descriptor) -> String {
    if descriptor.options.is_empty() {
        return "it has no options".to_owned();
    }
    let names: Vec<_> =
        descriptor.options.iter().map(|option| format!("{} ({})", option.name, form(option))).collect();
    format!("its options are {}", names.join(", "))
}

/// What a value of the option looks like.
fn form(option: &PluginOption) -> String {
    match option.kind {
        OptionKind::Boolean => "true|false".to_owned(),
        OptionKind::Integer => "whole number".to_owned(),
        OptionKind::Number => "number".to_owned(),
        OptionKind::Text => "text".to_owned(),
        OptionKind::Choice => option.choices.join("|"),
        OptionKind::Texts => "text,…".to_owned(),
        OptionKind::Table => "name=text,…".to_owned(),
    }
}

/// All that `--module-help` prints: what the plugin is and its options, with types, defaults and help.
pub fn help_text(descriptor: &Descriptor) -> String {
    let mut text = format!("{} {}: {}\n", descriptor.name, descriptor.version, descriptor.about);
    if !descriptor.ports.is_empty() {
        let ports: Vec<_> = descriptor.ports.iter().map(u16::to_string).collect();
        let _ = writeln!(text, "Ports: {}", ports.join(", "));
    }
    if descriptor.options.is_empty() {
        text.push_str("It has no options.\n");
        return text;
    }
    text.push_str("\nOptions (--module-opt NAME=VALUE, or NAME = VALUE in the file of --module-config):\n");
    for option in &descriptor.options {
        let _ = write!(text, "\n  {}=<{}>", option.name, form(option));
        if let Some(default) = &option.default {
            let _ = write!(text, "  [default: {default}]");
        }
        text.push('\n');
        for line in option.help.lines() {
            let _ = writeln!(text, "      {line}");
        }
    }
    let indirect = |option: &PluginOption| {
        matches!(option.kind, OptionKind::Text | OptionKind::Texts | OptionKind::Table)
    };
    if descriptor.options.iter().any(indirect) {
        text.push_str(
            "\nA text may be { env = \"NAME\" }, the value of a variable, or { file = \"PATH\" }, what a file holds.\n",
        );
    }
    text
}
