//! JSON of strangers, read so that it has one meaning: an object whose members are unique at every depth.

mod item;
mod plain;
mod text;

use std::cell::Cell;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::json::{MAX_DEPTH, Token, Tokens};

pub use item::Item;
pub use text::{Claims, Members, Source, base64url, members};

/// The object that `bytes` are; `None` for anything else: other values, duplicate members at any depth, lone surrogates,
/// invalid UTF-8, numbers that neither 64 bits nor a double can tell from others, nesting beyond [`MAX_DEPTH`], anything after
/// the end. So a record can hold any part of it and be read again.
pub fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    let plain = std::str::from_utf8(bytes).ok().and_then(plain::object);
    plain.or_else(|| strict(bytes))
}

/// The same, with an eye on everything.
fn strict(bytes: &[u8]) -> Option<Map<String, Value>> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let rounded = Cell::new(false);
    let strict = Strict {
        left: MAX_DEPTH,
        rounded: Some(&rounded),
    };
    let value = strict.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    if rounded.get() && !Tokens::new(std::str::from_utf8(bytes).ok()?).all(is_kept) {
        return None;
    }
    match value {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

/// About what JSON takes in memory that was read: a table for each object, a place for each value, and texts.
const TABLE: usize = 640;
const PLACE: usize = 64;
const TEXT: usize = 2;

/// About how many bytes the claims of a text take once they were read.
pub fn tree_size(text: &[u8]) -> usize {
    let count = |byte| memchr::memchr_iter(byte, text).count();
    TEXT * text.len() + TABLE * count(b'{') + PLACE * (1 + count(b','))
}

/// Whether a number means what it says after it was read: accounts that differ in their last digit alone must not be one.
fn is_kept(token: Token<'_>) -> bool {
    let Token::Scalar(literal) = token else { return true };
    if !literal.starts_with(|first: char| first.is_ascii_digit() || first == '-') {
        return true;
    }
    if !literal.contains(['.', 'e', 'E']) {
        return literal.parse::<i64>().is_ok() || literal.parse::<u64>().is_ok();
    }
    let (Ok(value), Some((digits, power))) = (literal.parse::<f64>(), scientific(literal)) else {
        return false;
    };
    // The last one below which doubles hold every whole number; no double takes more than 17 digits to write.
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    match value.abs() < WHOLE {
        true => digits.len() <= 17,
        false => scientific(&format!("{value:e}")) == Some((digits, power)),
    }
}

/// The digits that count, and the power of ten of the first of them.
fn scientific(literal: &str) -> Option<(String, i64)> {
    let (mantissa, exponent) = literal.split_once(['e', 'E']).unwrap_or((literal, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let first = i64::try_from(digits.len() - fraction.len()).ok()? - 1 - i64::try_from(leading).ok()?;
    let power = exponent.parse::<i64>().ok()?.checked_add(first)?;
    Some((digits.trim_matches('0').to_owned(), power))
}

/// A value that was read as [`object`] reads those in it.
#[derive(Debug)]
pub struct Claim(pub Value);

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let strict = Strict {
            left: MAX_DEPTH,
            rounded: None,
        };
        strict.deserialize(reader).map(Self)
    }
}

/// Reads any value. `serde_json::Value` itself keeps the last of duplicate members and gives a meaning to one name.
#[derive(Clone, Copy)]
struct Strict<'r> {
    /// How many levels there may still be.
    left: usize,
    /// Set where a number has become a double.
    rounded: Option<&'r Cell<bool>>,
}

impl Strict<'_> {
    fn inner<E: Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Self { left, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        if let Some(rounded) = self.rounded {
            rounded.set(true);
        }
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let (inner, mut list) = (self.inner()?, Vec::new());
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (inner, mut members) = (self.inner()?, Map::new());
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(inner)?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_serde_json_reads_where_that_is_unambiguous() {
        let text = r#"{"a":[1,-2,1.5,"x\u00e9",true,null],"b":{"c":{}}} "#;
        let plain: Value = serde_json::from_str(text).unwrap();
        assert_eq!(Value::Object(object(text.as_bytes()).unwrap()), plain);
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(object(nested(MAX_DEPTH).as_bytes()).is_some());
        let deep = nested(MAX_DEPTH + 1);
        let refused: [&[u8]; 14] = [
            b"",
            b"[]",
            b"\"a\"",
            b"{\"a\":1,\"a\":1}",
            b"{\"a\":1,\"\\u0061\":1}",
            b"{\"a\":{\"b\":1,\"b\":2}}",
            b"{\"a\":[{\"b\":1,\"b\":2}]}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":1e400}",
            b"{\"a\":NaN}",
            b"{}{}",
            b"\xef\xbb\xbf{}",
            deep.as_bytes(),
        ];
        for text in refused {
            assert_eq!(object(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn refuses_numbers_that_would_be_taken_for_others() {
        for number in [
            "0",
            "-0",
            "18446744073709551615",
            "-9223372036854775808",
            "1.5",
            "-0.0",
            "1e3",
            "0.1",
            "0.10000000000000001",
            "1700000000.1234567",
            "1e300",
            "1.8446744073709552e19",
            "9007199254740992.0",
            "100e-1",
        ] {
            assert!(
                object(format!("{{\"a\":[{{\"b\":{number}}}]}}").as_bytes()).is_some(),
                "{number}"
            );
        }
        for number in [
            "18446744073709551616",
            "-9223372036854775809",
            "12345678901234567890124",
            "9007199254740993.0",
            "9007199254740993e0",
            "1.8446744073709551616e19",
            "1.00000000000000000001",
            "90071992547409931.10",
        ] {
            assert!(
                object(format!("{{\"a\":[{{\"b\":{number}}}]}}").as_bytes()).is_none(),
                "{number}"
            );
        }
    }

    #[test]
    fn gives_no_meaning_to_private_names() {
        let text = br#"{"a":{"$serde_json::private::RawValue":"{}"},"b":{"$serde_json::private::Number":"1"}}"#;
        assert!(object(text).unwrap().values().all(Value::is_object));
    }
}
