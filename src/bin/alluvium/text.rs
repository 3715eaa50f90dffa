//! Bytes as people type and read them: text with escapes, or hexadecimal digits.

use clap::ValueEnum;
use serde_json::{Value, json};

/// How keys and values are written, on the way in and on the way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Text as it is; what is not printable goes out as `\xNN`.
    #[default]
    Text,
    /// Two hexadecimal digits a byte.
    Hex,
}

impl Form {
    /// Bytes from an argument.
    pub(crate) fn parse(self, argument: &str) -> Result<Vec<u8>, String> {
        match self {
            Form::Text => Ok(argument.as_bytes().to_vec()),
            Form::Hex => parse_hex(argument),
        }
    }

    /// Bytes for a terminal.
    pub(crate) fn show(self, bytes: &[u8]) -> String {
        match self {
            Form::Hex => hex(bytes),
            Form::Text => match std::str::from_utf8(bytes) {
                Ok(text) if !text.chars().any(char::is_control) => text.to_string(),
                _ => bytes.escape_ascii().to_string(),
            },
        }
    }

    /// Bytes from a JSON document, as [`Form::json`] writes them.
    pub(crate) fn from_json(value: &Value) -> Result<Vec<u8>, String> {
        if let Some(text) = value.as_str() {
            return Ok(text.as_bytes().to_vec());
        }
        let hex = value.get("hex").and_then(Value::as_str);
        parse_hex(hex.ok_or("a string or {\"hex\": \"…\"} is expected")?)
    }

    /// Bytes in a JSON document: a string, or `{"hex": "…"}` where they are no text.
    pub(crate) fn json(self, bytes: &[u8]) -> Value {
        match (self, std::str::from_utf8(bytes)) {
            (Form::Text, Ok(text)) => json!(text),
            _ => json!({ "hex": hex(bytes) }),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("{text} is not hexadecimal: two digits a byte are expected");
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|d| d as u8);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some((digit(pair[0])? << 4) | digit(pair[1])?))
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_goes_in_and_out() {
        assert_eq!(Form::Hex.parse("00fFa1"), Ok(vec![0, 255, 0xa1]));
        assert_eq!(Form::Hex.show(&[0, 255, 0xa1]), "00ffa1");
        for wrong in ["0", "0g", "+1", "é"] {
            assert!(Form::Hex.parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn text_is_escaped_only_where_it_must_be() {
        assert_eq!(Form::Text.show("grün".as_bytes()), "grün");
        assert_eq!(Form::Text.show(b"a\x00b"), "a\\x00b");
        assert_eq!(Form::Text.json(b"\xff"), json!({ "hex": "ff" }));
        assert_eq!(Form::Text.json(b"a"), json!("a"));
        for bytes in [&b"a\n\t\\"[..], b"\xff\x00", b"", "gr\u{fc}n".as_bytes()] {
            for form in [Form::Text, Form::Hex] {
                assert_eq!(Form::from_json(&form.json(bytes)).as_deref(), Ok(bytes));
            }
        }
        for wrong in [json!(1), json!({ "hex": "0" }), json!({ "text": "a" })] {
            assert!(Form::from_json(&wrong).is_err(), "{wrong}");
        }
    }
}
