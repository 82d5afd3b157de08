//! The JSON that claims usually are, read without a detour: objects and lists of texts without escapes, whole numbers and words.
//! It is read as the strict reader reads it. Whatever else there is, good or bad, is left to that one.

use serde_json::{Map, Value};

/// Deeper nesting is left to the strict reader.
const LEVELS: usize = 4;
/// So many digits fit in 64 bits.
const DIGITS: usize = 18;

/// The object that `text` is; `None` where the strict reader has to look.
pub(super) fn object(text: &str) -> Option<Map<String, Value>> {
    let mut reader = Reader { text, at: 0 };
    reader.skip_space();
    let members = match reader.next()? {
        b'{' => reader.members(LEVELS)?,
        _ => return None,
    };
    reader.skip_space();
    (reader.at == text.len()).then_some(members)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The next byte that is no white space.
    fn next_sign(&mut self) -> Option<u8> {
        self.skip_space();
        self.next()
    }

    /// What follows `{`.
    fn members(&mut self, levels: usize) -> Option<Map<String, Value>> {
        let mut members = Map::new();
        let mut sign = self.next_sign()?;
        if sign == b'}' {
            return Some(members);
        }
        loop {
            if sign != b'"' {
                return None;
            }
            let name = self.rest_of_text()?.to_owned();
            if self.next_sign()? != b':' {
                return None;
            }
            let value = self.value(levels)?;
            if members.insert(name, value).is_some() {
                return None;
            }
            match self.next_sign()? {
                b',' => sign = self.next_sign()?,
                b'}' => return Some(members),
                _ => return None,
            }
        }
    }

    /// What follows `[`.
    fn items(&mut self, levels: usize) -> Option<Vec<Value>> {
        self.skip_space();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(Vec::new());
        }
        let mut items = Vec::with_capacity(1);
        loop {
            items.push(self.value(levels)?);
            match self.next_sign()? {
                b',' => {}
                b']' => return Some(items),
                _ => return None,
            }
        }
    }

    fn value(&mut self, levels: usize) -> Option<Value> {
        let inner = levels.checked_sub(1)?;
        Some(match self.next_sign()? {
            b'"' => Value::String(self.rest_of_text()?.to_owned()),
            b'{' => Value::Object(self.members(inner)?),
            b'[' => Value::Array(self.items(inner)?),
            digit @ b'0'..=b'9' => self.rest_of_number(digit)?.into(),
            b't' => self.rest_of_word("rue", Value::Bool(true))?,
            b'f' => self.rest_of_word("alse", Value::Bool(false))?,
            b'n' => self.rest_of_word("ull", Value::Null)?,
            _ => return None,
        })
    }

    /// What follows the first quote, up to the last.
    fn rest_of_text(&mut self) -> Option<&'t str> {
        let rest = self.text.get(self.at..)?;
        let end = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
        let (text, after) = rest.split_at_checked(end)?;
        self.at += end + 1;
        after.starts_with('"').then_some(text)
    }

    /// A whole number that begins with that digit.
    fn rest_of_number(&mut self, first: u8) -> Option<u64> {
        let (mut number, from) = (u64::from(first - b'0'), self.at);
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            // No number begins with 0 and goes on, and none is cut short.
            if first == b'0' || self.at - from + 1 == DIGITS {
                return None;
            }
            number = number * 10 + u64::from(digit - b'0');
            self.at += 1;
        }
        // What goes on is no whole number.
        (!matches!(self.peek(), Some(b'.' | b'e' | b'E'))).then_some(number)
    }

    fn rest_of_word(&mut self, rest: &str, value: Value) -> Option<Value> {
        let is_there = self.text.get(self.at..)?.starts_with(rest);
        self.at += rest.len();
        is_there.then_some(value)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What claims usually are, and what is near to that.
    fn json() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[a-z:/.-]{0,12}", "[a-z가é\"\\\\\n\u{1f}\u{7f}]{0,4}"];
        let number = prop_oneof![any::<i32>().prop_map(i64::from), any::<i64>(), Just(0)];
        let leaf = prop_oneof![
            text.clone().prop_map(Value::from),
            number.prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e3..1e3_f64).prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(6, 32, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_reads_what_the_strict_reader_reads(
            value in json(),
            pretty in any::<bool>(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let text = match pretty {
                true => serde_json::to_string_pretty(&value),
                false => serde_json::to_string(&value),
            };
            let text = text.unwrap();
            // As it is, and with one byte put in the place of another, taken out, or put in.
            let at = at.index(text.len());
            let mut texts = [(); 4].map(|()| text.clone().into_bytes());
            let [_, other, less, more] = &mut texts;
            other[at] = byte;
            less.remove(at);
            more.insert(at, byte);
            for text in texts {
                let Ok(text) = std::str::from_utf8(&text) else { continue };
                if let Some(read) = object(text) {
                    prop_assert_eq!(Some(read), super::super::strict(text.as_bytes()), "{}", text);
                }
            }
        }
    }

    #[test]
    fn usual_claims_are_read_here() {
        let claims = r#"{"iss":"https://id.bank.example","aud":["mobile-bank"],"sub":"customer-1","scope":"transfer:read transfer:write","roles":["customer","vip"],
            "iat":1795499940, "exp" : 1795503600,"realm_access":{"roles":["고객"]},"email_verified":true,"zero":0,"none":null,"more":[],"less":{}}"#;
        assert_eq!(object(claims), super::super::strict(claims.as_bytes()));
        assert_eq!(object(claims).unwrap().len(), 13);
    }

    #[test]
    fn all_else_is_left_to_the_strict_reader() {
        for text in [
            "",
            "[]",
            "{",
            r#"{"a"}"#,
            r#"{"a":1,}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":01}"#,
            r#"{"a":-1}"#,
            r#"{"a":1.5}"#,
            r#"{"a":1e3}"#,
            r#"{"a":1234567890123456789}"#,
            r#"{"a":"\u0061"}"#,
            "{\"a\":\"\n\"}",
            r#"{"a":tru}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":[1 2]}"#,
            r#"{"a":{"b":{"c":{"d":{"e":{}}}}}}"#,
            "{}{}",
            "\u{feff}{}",
        ] {
            assert_eq!(object(text), None, "{text}");
        }
    }
}
