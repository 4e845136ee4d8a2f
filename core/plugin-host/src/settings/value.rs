//! Values of options, from TOML and from the command line.

use super::indirect;
use crate::descriptor::{OptionKind, PluginOption, SettingValue};
use toml::Value;

/// A default, as the descriptor gives it: TOML, or the bare text of a text or choice.
///
/// Nothing is read from variables or files: a plugin must not get at those by naming them itself.
pub(crate) fn default_value(option: &PluginOption, text: &str) -> Result<SettingValue, String> {
    if let Some(value) = toml_value(text)
        && let Ok(value) = convert(option, &value, Indirection::Refused)
    {
        return Ok(value);
    }
    match option.kind {
        OptionKind::Text | OptionKind::Choice => bare_text(option, text.to_owned()),
        _ => Err(format!("{text:?} is not {}", expected(option))),
    }
}

/// A value in a file.
pub(super) fn from_toml(option: &PluginOption, value: &Value) -> Result<SettingValue, String> {
    convert(option, value, Indirection::Followed)
}

/// A value on the command line. TOML is understood where bare text would be of no use: for what begins like a quoted text, an
/// array or an inline table.
pub(super) fn from_text(option: &PluginOption, text: &str) -> Result<SettingValue, String> {
    let trimmed = text.trim();
    if trimmed.starts_with(['"', '{', '[', '\''])
        && let Some(value) = toml_value(trimmed)
    {
        return convert(option, &value, Indirection::Followed);
    }
    match option.kind {
        OptionKind::Boolean => match trimmed {
            "true" => Ok(SettingValue::Boolean(true)),
            "false" => Ok(SettingValue::Boolean(false)),
            _ => Err(mismatch(option, trimmed)),
        },
        OptionKind::Integer => {
            trimmed.parse().map(SettingValue::Integer).map_err(|_| mismatch(option, trimmed))
        }
        OptionKind::Number => match trimmed.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(SettingValue::Number(number)),
            _ => Err(mismatch(option, trimmed)),
        },
        OptionKind::Text | OptionKind::Choice => bare_text(option, text.to_owned()),
        OptionKind::Texts if text.is_empty() => Ok(SettingValue::Texts(Vec::new())),
        OptionKind::Texts => {
            Ok(SettingValue::Texts(text.split(',').map(|part| part.trim().to_owned()).collect()))
        }
        OptionKind::Table if text.is_empty() => Ok(SettingValue::Table(Vec::new())),
        OptionKind::Table => {
            let mut entries: Vec<(String, String)> = Vec::new();
            for part in text.split(',') {
                let (name, text) =
                    part.split_once('=').ok_or_else(|| format!("an entry is not {}", expected(option)))?;
                let name = name.trim();
                if entries.iter().any(|entry| entry.0 == name) {
                    return Err(format!("{name:?} is given twice"));
                }
                entries.push((name.to_owned(), text.trim().to_owned()));
            }
            Ok(SettingValue::Table(entries))
        }
    }
}

/// Whether texts may stand elsewhere.
#[derive(Clone, Copy)]
enum Indirection {
    Followed,
    Refused,
}

fn toml_value(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<toml::Table>().ok().filter(|table| table.len() == 1)?.remove("value")
}

fn convert(option: &PluginOption, value: &Value, indirection: Indirection) -> Result<SettingValue, String> {
    let refuse = || format!("{} is not {}", kind_of(value), expected(option));
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Table(table) if matches!(indirection, Indirection::Followed) => indirect::text(table),
        _ => Err(format!("{} is not a text", kind_of(value))),
    };
    Ok(match (option.kind, value) {
        (OptionKind::Boolean, Value::Boolean(value)) => SettingValue::Boolean(*value),
        (OptionKind::Integer, Value::Integer(value)) => SettingValue::Integer(*value),
        (OptionKind::Number, Value::Float(value)) if value.is_finite() => SettingValue::Number(*value),
        (OptionKind::Number, Value::Integer(value)) => SettingValue::Number(*value as f64),
        (OptionKind::Text | OptionKind::Choice, value) => return bare_text(option, text(value)?),
        (OptionKind::Texts, Value::Array(values)) => {
            SettingValue::Texts(values.iter().map(text).collect::<Result<_, _>>()?)
        }
        (OptionKind::Table, Value::Table(table)) => {
            let entries = table.iter().map(|(name, value)| Ok((name.clone(), text(value)?)));
            SettingValue::Table(entries.collect::<Result<_, String>>()?)
        }
        _ => return Err(refuse()),
    })
}

fn bare_text(option: &PluginOption, text: String) -> Result<SettingValue, String> {
    if option.kind == OptionKind::Choice && !option.choices.contains(&text) {
        return Err(mismatch(option, &text));
    }
    Ok(SettingValue::Text(text))
}

fn mismatch(option: &PluginOption, text: &str) -> String {
    format!("{text:?} is not {}", expected(option))
}

fn expected(option: &PluginOption) -> String {
    match option.kind {
        OptionKind::Boolean => "true or false".to_owned(),
        OptionKind::Integer => "a whole number".to_owned(),
        OptionKind::Number => "a number".to_owned(),
        OptionKind::Text => "a text".to_owned(),
        OptionKind::Choice => format!("one of {}", option.choices.join(", ")),
        OptionKind::Texts => "a list of texts".to_owned(),
        OptionKind::Table => "a table of names with a text each (name=text)".to_owned(),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "a truth value",
        Value::Datetime(_) => "a time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}
