//! JSON read without touching it: every digit, escape and the order of members stay as they were written.
//!
//! Syntax is judged by `serde_json` alone ([RawValue], which neither rounds numbers nor recurses); what is valid is then
//! walked token by token. Refused besides: duplicate members and lone surrogates (RFC 8259 §4, §8.2: readers disagree on
//! both), and nesting beyond [`MAX_DEPTH`].

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::value::RawValue;

/// Deeper nesting is refused.
pub const MAX_DEPTH: usize = 64;

/// Why a text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, or JSON that readers understand differently.
    #[error("not unambiguous JSON")]
    Unreadable,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested too deeply")]
    TooDeep,
}

/// Whether a `Content-Type` says JSON: `application/json`, `text/json` or any `+json`, with or without parameters.
pub fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim();
    let Some((kind, subtype)) = essence.split_once('/') else {
        return false;
    };
    let json = subtype.eq_ignore_ascii_case("json")
        && (kind.eq_ignore_ascii_case("application") || kind.eq_ignore_ascii_case("text"));
    let suffix = subtype
        .rsplit_once('+')
        .is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"));
    json || suffix
}

/// Judges a whole text and gives it back without the white space around it.
pub fn check(text: &[u8]) -> Result<&str, JsonError> {
    let text = syntax(text)?;
    let mut tokens = Tokens::new(text);
    let first = tokens.next().ok_or(JsonError::Unreadable)?;
    skip(&mut tokens, first, 0)?;
    Ok(text)
}

/// Judges the syntax only; the rest is up to whoever walks the [`Tokens`].
pub fn syntax(text: &[u8]) -> Result<&str, JsonError> {
    let raw: &RawValue = serde_json::from_slice(text).map_err(|_| JsonError::Unreadable)?;
    Ok(raw.get())
}

/// One piece of a text whose [`syntax`] is known to be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'t> {
    /// `{`
    ObjectStart,
    /// `}`
    ObjectEnd,
    /// `[`
    ArrayStart,
    /// `]`
    ArrayEnd,
    /// A member's name, with its quotes and escapes.
    Key(&'t str),
    /// A string with its quotes and escapes, a number, `true`, `false` or `null`.
    Scalar(&'t str),
}

/// What stands between tokens.
const BETWEEN: [char; 6] = [' ', '\t', '\n', '\r', ',', ':'];

/// The tokens of a text whose [`syntax`] is known to be good.
#[derive(Debug)]
pub struct Tokens<'t> {
    rest: &'t str,
}

impl<'t> Tokens<'t> {
    /// Starts at the top.
    pub fn new(text: &'t str) -> Self {
        Self { rest: text }
    }

    /// The whole text of the next value, with all below it; of one that is none, nothing.
    pub fn value(&mut self) -> Option<&'t str> {
        self.rest = self.rest.trim_start_matches(BETWEEN);
        let from = self.rest;
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                Token::ObjectStart | Token::ArrayStart => depth += 1,
                Token::ObjectEnd | Token::ArrayEnd => depth = depth.checked_sub(1)?,
                Token::Key(_) if depth == 0 => return None,
                Token::Key(_) | Token::Scalar(_) => {}
            }
            if depth == 0 {
                return from.get(..from.len() - self.rest.len());
            }
        }
    }

    /// Whether a container ends here; goes past its end then.
    pub fn ends(&mut self) -> bool {
        self.rest = self.rest.trim_start_matches(BETWEEN);
        let rest = self.rest.strip_prefix(['}', ']']);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn cut(&mut self, at: usize) -> Option<&'t str> {
        let (token, rest) = self.rest.split_at_checked(at)?;
        self.rest = rest;
        Some(token)
    }
}

impl<'t> Iterator for Tokens<'t> {
    type Item = Token<'t>;

    fn next(&mut self) -> Option<Token<'t>> {
        self.rest = self.rest.trim_start_matches(BETWEEN);
        let first = *self.rest.as_bytes().first()?;
        let token = match first {
            b'{' => Token::ObjectStart,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayStart,
            b']' => Token::ArrayEnd,
            b'"' => {
                let text = self.cut(string_length(self.rest.as_bytes())?)?;
                let after = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
                return Some(match after.as_bytes().first() {
                    Some(b':') => Token::Key(text),
                    _ => Token::Scalar(text),
                });
            }
            _ => {
                let ends = |byte: u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                let bytes = self.rest.as_bytes();
                let length = bytes.iter().position(|byte| ends(*byte)).unwrap_or(bytes.len());
                return self.cut(length).map(Token::Scalar);
            }
        };
        self.cut(1)?;
        Some(token)
    }
}

/// The bytes of a string from its first quote to its last.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Walks over the value that begins with `first`, judging duplicate members, surrogates and depth. `depth` counts the
/// containers around it.
pub fn skip<'t>(tokens: &mut Tokens<'t>, first: Token<'t>, depth: usize) -> Result<(), JsonError> {
    match first {
        Token::Scalar(text) => check_scalar(text),
        Token::ArrayStart => {
            enter(depth)?;
            loop {
                match tokens.next().ok_or(JsonError::Unreadable)? {
                    Token::ArrayEnd => return Ok(()),
                    item => skip(tokens, item, depth + 1)?,
                }
            }
        }
        Token::ObjectStart => {
            enter(depth)?;
            let mut names = Names::default();
            loop {
                match tokens.next().ok_or(JsonError::Unreadable)? {
                    Token::ObjectEnd => return Ok(()),
                    Token::Key(key) => {
                        if !names.insert(decode(key)?) {
                            return Err(JsonError::Unreadable);
                        }
                        let value = tokens.next().ok_or(JsonError::Unreadable)?;
                        skip(tokens, value, depth + 1)?;
                    }
                    _ => return Err(JsonError::Unreadable),
                }
            }
        }
        Token::ObjectEnd | Token::ArrayEnd | Token::Key(_) => Err(JsonError::Unreadable),
    }
}

/// Refuses one container more than [`MAX_DEPTH`]; called before every step down.
pub fn enter(depth: usize) -> Result<(), JsonError> {
    if depth >= MAX_DEPTH {
        return Err(JsonError::TooDeep);
    }
    Ok(())
}

/// Refuses strings with lone surrogates.
pub fn check_scalar(text: &str) -> Result<(), JsonError> {
    if text.starts_with('"') && text.contains("\\u") {
        decode(text)?;
    }
    Ok(())
}

/// The text of a string or member name, given with its quotes.
pub fn decode(quoted: &str) -> Result<Cow<'_, str>, JsonError> {
    if !quoted.contains('\\') {
        let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        return inner.map(Cow::Borrowed).ok_or(JsonError::Unreadable);
    }
    serde_json::from_str(quoted)
        .map(Cow::Owned)
        .map_err(|_| JsonError::Unreadable)
}

/// The member names of one object, to see one a second time. Small objects are searched, large ones hashed.
#[derive(Debug, Default)]
pub struct Names<'t> {
    few: Vec<Cow<'t, str>>,
    many: HashSet<Cow<'t, str>>,
}

impl<'t> Names<'t> {
    /// Adds a name; false where it was there.
    pub fn insert(&mut self, name: Cow<'t, str>) -> bool {
        const FEW: usize = 16;
        if self.many.is_empty() {
            if self.few.contains(&name) {
                return false;
            }
            if self.few.len() < FEW {
                self.few.push(name);
                return true;
            }
            self.many.extend(self.few.drain(..));
        }
        self.many.insert(name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn gives_a_good_text_back_as_it_was_written() {
        for text in [
            "90071992547409931.10",
            "1e400",
            "-0",
            "1.0",
            "9223372036854775808",
            r#"{"b":1,"a":[{"\u0061":"\ud83d\ude00"}, []], "c" : {} }"#,
            r#""\u0000 \" \\""#,
            "null",
        ] {
            assert_eq!(check(text.as_bytes()), Ok(text));
            assert_eq!(check(format!(" \n{text}\t").as_bytes()), Ok(text));
        }
    }

    #[test]
    fn refuses_what_readers_would_understand_differently() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{} {}",
            "nul",
            "01",
            "+1",
            "NaN",
            r#"{"a":1,"a":2}"#,
            r#"[{"x":{"a":1,"\u0061":2}}]"#,
            r#""\ud800""#,
            r#"{"\udc00":1}"#,
            r#"["\ud800\u0041"]"#,
            "\u{feff}{}",
            "\"\u{1}\"",
        ] {
            assert_eq!(check(text.as_bytes()), Err(JsonError::Unreadable), "{text}");
        }
        assert_eq!(check(b"\"\xff\""), Err(JsonError::Unreadable));
    }

    #[test]
    fn sees_a_duplicate_among_many_members() {
        let members: Vec<String> = (0..40).map(|at| format!("\"m{at}\":0")).collect();
        let good = format!("{{{}}}", members.join(","));
        assert!(check(good.as_bytes()).is_ok());
        let bad = format!("{{{},\"m3\":1}}", members.join(","));
        assert_eq!(check(bad.as_bytes()), Err(JsonError::Unreadable));
    }

    #[test]
    fn bounds_nesting_without_recursing_into_it() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(check(nested(MAX_DEPTH + 1).as_bytes()), Err(JsonError::TooDeep));
        assert!(check(nested(200_000).as_bytes()).is_err());
    }

    #[test]
    fn gives_values_with_all_below_them() {
        let mut tokens = Tokens::new(r#" {"a" : [1, {"b":"]"}] ,"c":-0} "#);
        assert_eq!(tokens.next(), Some(Token::ObjectStart));
        assert_eq!(tokens.next(), Some(Token::Key("\"a\"")));
        assert_eq!(tokens.value(), Some(r#"[1, {"b":"]"}]"#));
        assert!(!tokens.ends());
        assert_eq!(tokens.next(), Some(Token::Key("\"c\"")));
        assert_eq!(tokens.value(), Some("-0"));
        assert!(tokens.ends() && !tokens.ends());
        assert_eq!(tokens.value(), None);
    }

    #[test]
    fn knows_json_media_types() {
        for yes in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/hal+json",
            "text/json",
        ] {
            assert!(is_json(yes), "{yes}");
        }
        for no in [
            "",
            "json",
            "application/jsonx",
            "text/html",
            "image/json",
            "application/json-seq",
            "text/plain; x=+json",
        ] {
            assert!(!is_json(no), "{no}");
        }
    }

    /// A crate that turned the feature on would let numbers be read from strings: see `serde_json`'s own documentation.
    #[test]
    fn is_built_without_arbitrary_precision() {
        let number: serde_json::Value = serde_json::from_str("1E5").unwrap();
        assert_eq!(number.to_string(), "100000.0");
    }
}
