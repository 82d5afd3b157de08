//! The JSON that claims usually are, read where it stands: objects and lists of texts without escapes, whole numbers and words.
//! It is read as the strict reader reads it. Whatever else there is, good or bad, is left to that one.

use serde_json::{Map, Value};

use super::{Item, PLACE, TABLE, TEXT};

/// Deeper nesting is left to the strict reader.
const LEVELS: usize = 4;
/// So are longer objects: whether a name stands twice is looked up one by one.
const MEMBERS: usize = 32;
/// So many digits fit in 64 bits.
const DIGITS: usize = 18;

/// The members of an object, each under a name of its own.
#[derive(Debug, Default)]
pub(super) struct Members<'t> {
    pub all: Vec<(&'t str, Item<'t>)>,
    /// The [`mark`]s of their names, where they were read here.
    pub marks: u64,
    /// About how many bytes they take once they are no text.
    pub size: usize,
}

/// A bit for a name, which few other names have: where it is missing among those of many, the name is missing too.
pub(super) fn mark(name: &str) -> u64 {
    let name = name.as_bytes();
    let end = |byte: Option<&u8>| byte.copied().map_or(0, usize::from);
    // Few of the names that claims usually have share one, and none has that of `cnf`, which is looked for in every token.
    1 << ((end(name.first()) + 29 * end(name.last()) + 47 * name.len()) % 64)
}

/// The members of the object that `text` is; `None` where the strict reader has to look.
pub(super) fn members(text: &str) -> Option<Members<'_>> {
    let mut reader = Reader::new(text, 0);
    let mut members = match reader.next_sign()? {
        b'{' => reader.members(LEVELS)?,
        _ => return None,
    };
    members.size = reader.size + TEXT * text.len();
    reader.skip_space();
    (reader.at == text.len()).then_some(members)
}

/// The same, apart from the text.
pub(super) fn object(text: &str) -> Option<Map<String, Value>> {
    let members = members(text)?.all.into_iter();
    Some(members.map(|(name, item)| (name.to_owned(), item.into())).collect())
}

/// Calls `each` for what is in a list that was read.
pub(super) fn items<'t>(list: &'t str, each: impl FnMut(Item<'t>)) -> Option<()> {
    Reader::new(list, 1).items(LEVELS, each)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    /// What was read so far takes so many bytes beside its texts.
    size: usize,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str, at: usize) -> Self {
        Self { text, at, size: 0 }
    }

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
    fn members(&mut self, levels: usize) -> Option<Members<'t>> {
        self.size += TABLE;
        let mut members = Members::default();
        let mut sign = self.next_sign()?;
        if sign == b'}' {
            return Some(members);
        }
        members.all.reserve(16);
        loop {
            if sign != b'"' {
                return None;
            }
            let name = self.rest_of_text()?;
            if self.next_sign()? != b':' {
                return None;
            }
            let mark = mark(name);
            let may_be_known = members.marks & mark != 0;
            if members.all.len() == MEMBERS || may_be_known && members.all.iter().any(|(known, _)| *known == name) {
                return None;
            }
            members.marks |= mark;
            members.all.push((name, self.value(levels)?));
            match self.next_sign()? {
                b',' => sign = self.next_sign()?,
                b'}' => return Some(members),
                _ => return None,
            }
        }
    }

    /// What follows `[`.
    fn items(&mut self, levels: usize, mut each: impl FnMut(Item<'t>)) -> Option<()> {
        self.skip_space();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            each(self.value(levels)?);
            match self.next_sign()? {
                b',' => {}
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    fn value(&mut self, levels: usize) -> Option<Item<'t>> {
        self.size += PLACE;
        let inner = levels.checked_sub(1)?;
        let sign = self.next_sign()?;
        let from = self.at - 1;
        Some(match sign {
            b'"' => Item::Text(self.rest_of_text()?),
            b'{' => {
                self.members(inner)?;
                Item::Object(self.text.get(from..self.at)?)
            }
            b'[' => {
                self.items(inner, |_| ())?;
                Item::List(self.text.get(from..self.at)?)
            }
            digit @ b'0'..=b'9' => Item::Whole(self.rest_of_number(digit)?),
            b't' => self.rest_of_word("rue", Item::Word(Some(true)))?,
            b'f' => self.rest_of_word("alse", Item::Word(Some(false)))?,
            b'n' => self.rest_of_word("ull", Item::Word(None))?,
            _ => return None,
        })
    }

    /// What follows the first quote, up to the last.
    fn rest_of_text(&mut self) -> Option<&'t str> {
        let rest = self.text.get(self.at..)?;
        let end = plain_length(rest.as_bytes())?;
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

    fn rest_of_word(&mut self, rest: &str, word: Item<'t>) -> Option<Item<'t>> {
        let is_there = self.text.get(self.at..)?.starts_with(rest);
        self.at += rest.len();
        is_there.then_some(word)
    }
}

/// How many bytes stand before the first quote, backslash or control character; `None` where there is none of them.
fn plain_length(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    // The high bit of each byte that is less than `limit`, at most 128, and maybe of some above the lowest of them.
    let less = |bytes: u64, limit: u8| bytes.wrapping_sub(ONES * u64::from(limit)) & !bytes & HIGH;
    let (eights, rest) = bytes.as_chunks::<8>();
    for (at, eight) in eights.iter().enumerate() {
        let eight = u64::from_le_bytes(*eight);
        let is = |byte: u8| less(eight ^ (ONES * u64::from(byte)), 1);
        let found = is(b'"') | is(b'\\') | less(eight, b' ');
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
    Some(eights.len() * 8 + at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What claims usually are, and what is near to that.
    pub fn json() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[a-z:/.-]{0,30}", "[a-z가é\"\\\\\n\u{1f}\u{7f}]{0,4}"];
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
        fn plain_bytes_are_counted_by_eight_as_by_one(
            mut bytes in prop::collection::vec(b' '.., 0..40),
            ends in "[\"\\\\\\x00-!#\\x7f]{0,3}",
            at in any::<prop::sample::Index>(),
        ) {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, ends.bytes());
            let by_one = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '));
            prop_assert_eq!(plain_length(&bytes), by_one);
        }

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
    fn what_is_read_is_weighed_as_the_text_would_be() {
        let all = [
            "{}",
            r#"{"a":1}"#,
            r#"{"a":[1,2,{}],"b":"x","c":{"d":{"e":[]}}}"#,
            r#"{"roles":["a","b","c"],"exp":1}"#,
        ];
        for text in all {
            let (read, whole) = (members(text).unwrap().size, super::super::tree_size(text.as_bytes()));
            let places = 2 * text.matches(['{', '[']).count();
            assert!(read.abs_diff(whole) <= places * PLACE, "{text}: {read}, {whole}");
        }
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
            r#"{"a":{"b":1,"b":2}}"#,
        ] {
            assert_eq!(object(text), None, "{text}");
        }
    }
}
