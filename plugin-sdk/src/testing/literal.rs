//! Options' defaults, which are written as in TOML. Reads as much of TOML as options' values need.

use crate::Value;
use crate::cursor::{Cursor, Read, Stop};
use crate::descriptor::OptionKind;

/// The value that `text` stands for, if an option of this kind may have it.
pub(super) fn parse(text: &str, kind: &OptionKind) -> Result<Value, String> {
    let mut cursor = Cursor::new(text.as_bytes());
    let parsed = value(&mut cursor).and_then(|value| {
        skip(&mut cursor);
        if cursor.is_empty() { Ok(value) } else { Err(Stop::Invalid("something behind the value")) }
    });
    let value = match (parsed, kind) {
        (Err(Stop::Incomplete), _) => return Err(format!("{text:?} ends too early")),
        (Err(Stop::Invalid(what)), _) => return Err(format!("{text:?}: {what}")),
        // An empty list.
        (Ok(Value::Texts(values)), OptionKind::Table) if values.is_empty() => Value::Table(Vec::new()),
        (Ok(value), _) => value,
    };
    if value.fits(kind) { Ok(value) } else { Err(format!("{text} is no {kind:?}")) }
}

fn skip(cursor: &mut Cursor<'_>) {
    while matches!(cursor.peek(), Ok(b' ' | b'\t' | b'\n' | b'\r')) {
        let _ = cursor.u8();
    }
}

fn value(cursor: &mut Cursor<'_>) -> Read<Value> {
    skip(cursor);
    match cursor.peek()? {
        b'"' | b'\'' => string(cursor).map(Value::Text),
        b'[' => items(cursor, b']', string).map(Value::Texts),
        b'{' => items(cursor, b'}', entry).map(Value::Table),
        _ => bare(cursor),
    }
}

fn bare(cursor: &mut Cursor<'_>) -> Read<Value> {
    let word = cursor.take(cursor.rest().len())?;
    let word = std::str::from_utf8(word).map_err(|_| Stop::Invalid("not UTF-8"))?.trim();
    match word {
        "true" => return Ok(Value::Boolean(true)),
        "false" => return Ok(Value::Boolean(false)),
        _ => {}
    }
    let digits = word.replace('_', "");
    if let Ok(number) = digits.parse() {
        return Ok(Value::Integer(number));
    }
    digits.parse().map(Value::Number).map_err(|_| Stop::Invalid("no value (texts need quotes)"))
}

fn string(cursor: &mut Cursor<'_>) -> Read<String> {
    skip(cursor);
    let quote = cursor.u8()?;
    if quote != b'"' && quote != b'\'' {
        return Err(Stop::Invalid("texts need quotes"));
    }
    let mut bytes = Vec::new();
    loop {
        match cursor.u8()? {
            byte if byte == quote => break,
            b'\\' if quote == b'"' => bytes.push(match cursor.u8()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                other @ (b'"' | b'\\') => other,
                _ => return Err(Stop::Invalid("an escape that the test kit does not know")),
            }),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| Stop::Invalid("not UTF-8"))
}

fn entry(cursor: &mut Cursor<'_>) -> Read<(String, String)> {
    skip(cursor);
    let name = match cursor.peek()? {
        b'"' | b'\'' => string(cursor)?,
        _ => {
            let mut name = String::new();
            while let byte @ (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-') = cursor.peek()? {
                name.push(char::from(byte));
                let _ = cursor.u8();
            }
            name
        }
    };
    skip(cursor);
    cursor.expect(b"=")?;
    Ok((name, string(cursor)?))
}

fn items<T>(cursor: &mut Cursor<'_>, end: u8, item: impl Fn(&mut Cursor<'_>) -> Read<T>) -> Read<Vec<T>> {
    cursor.u8()?;
    let mut items = Vec::new();
    loop {
        skip(cursor);
        if cursor.peek()? == end {
            break;
        }
        items.push(item(cursor)?);
        skip(cursor);
        match cursor.peek()? {
            b',' => {
                cursor.u8()?;
            }
            byte if byte == end => break,
            _ => return Err(Stop::Invalid("a comma is missing")),
        }
    }
    cursor.u8()?;
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_kind() {
        let texts = Value::from(["a", "b,\"c"]);
        for (text, kind, expected) in [
            ("true", OptionKind::Boolean, Value::Boolean(true)),
            ("-1_000", OptionKind::Integer, Value::Integer(-1000)),
            ("0.5", OptionKind::Number, Value::Number(0.5)),
            ("2", OptionKind::Number, Value::Integer(2)),
            (r#""a \"text\"""#, OptionKind::Text, Value::from("a \"text\"")),
            ("'x'", OptionKind::Choice(vec!["x".into()]), Value::from("x")),
            (r#"["a", 'b,"c',]"#, OptionKind::Texts, texts),
            ("[]", OptionKind::Texts, Value::Texts(Vec::new())),
            (r#"{ a = "1", "b c" = "2" }"#, OptionKind::Table, Value::from([("a", "1"), ("b c", "2")])),
            ("{}", OptionKind::Table, Value::Table(Vec::new())),
        ] {
            assert_eq!(parse(text, &kind), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for (text, kind) in [
            ("yes", OptionKind::Boolean),
            ("text", OptionKind::Text),
            ("\"open", OptionKind::Text),
            ("\"y\"", OptionKind::Choice(vec!["x".into()])),
            ("[\"a\" \"b\"]", OptionKind::Texts),
            ("1.5", OptionKind::Integer),
            ("true false", OptionKind::Boolean),
        ] {
            assert!(parse(text, &kind).is_err(), "{text}");
        }
    }
}
