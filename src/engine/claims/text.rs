//! Claims that stay text until one of them is asked for: most of those that a token brings never are.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock};

use base64_simd::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{Item, object, plain, strict, tree_size};

/// The claims of a credential: those of a token stay text until one of them is asked for.
#[derive(Clone)]
pub struct Claims {
    /// What they are read from when one of them is asked for; `None` where they were read at once.
    unread: Option<Unread>,
    read: OnceLock<Arc<Map<String, Value>>>,
}

/// Plain claims as they stand in their token.
#[derive(Clone)]
struct Unread {
    token: Arc<str>,
    at: Range<usize>,
    /// The marks of their names ([`plain::mark`]).
    marks: u64,
}

impl Claims {
    /// The claim of that name. What is not there hardly ever takes reading.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let marks = self.unread.as_ref().map_or(u64::MAX, |unread| unread.marks);
        match marks & plain::mark(name) {
            0 => None,
            _ => (**self).get(name),
        }
    }

    /// What a path (`address.country`) leads to: the exact name first, then member by member, shorter names first.
    pub fn at(&self, path: &str) -> Option<&Value> {
        let member = |name: &str| self.get(name);
        member(path).or_else(|| through(path, member))
    }
}

fn at<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let member = |name: &str| claims.get(name);
    member(path).or_else(|| through(path, member))
}

/// What is in the member that the beginning of the path names.
fn through<'a>(path: &str, member: impl Fn(&str) -> Option<&'a Value>) -> Option<&'a Value> {
    path.match_indices('.').find_map(|(dot, _)| {
        let (name, rest) = (path.get(..dot)?, path.get(dot + 1..)?);
        at(member(name)?.as_object()?, rest)
    })
}

/// All of them.
impl Deref for Claims {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Self::Target {
        self.read.get_or_init(|| {
            let text = self
                .unread
                .as_ref()
                .and_then(|unread| decode(&unread.token, &unread.at));
            let read = text.and_then(|text| object(text.as_bytes()));
            debug_assert!(read.is_some(), "it was seen to be plain");
            Arc::new(read.unwrap_or_default())
        })
    }
}

impl From<Map<String, Value>> for Claims {
    fn from(read: Map<String, Value>) -> Self {
        Arc::new(read).into()
    }
}

impl From<Arc<Map<String, Value>>> for Claims {
    fn from(read: Arc<Map<String, Value>>) -> Self {
        Self {
            unread: None,
            read: read.into(),
        }
    }
}

impl FromIterator<(String, Value)> for Claims {
    fn from_iter<C: IntoIterator<Item = (String, Value)>>(claims: C) -> Self {
        Map::from_iter(claims).into()
    }
}

impl Default for Claims {
    fn default() -> Self {
        Map::new().into()
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl PartialEq for Claims {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// What claims are read from, to be borrowed from.
#[derive(Debug, Default)]
pub struct Source {
    text: String,
    read: Option<Arc<Map<String, Value>>>,
}

/// The claims that stand in a token.
pub struct Members<'s> {
    named: plain::Members<'s>,
    token: &'s str,
    at: Range<usize>,
    /// Whatever is not plain was read at once.
    read: Option<&'s Arc<Map<String, Value>>>,
}

impl Source {
    /// The members of the object that stands in a token as [`base64url`]; `None` for what [`object`] refuses.
    pub fn members<'s>(&'s mut self, token: &'s str, at: Range<usize>) -> Option<Members<'s>> {
        self.text = decode(token, &at)?;
        let text = self.text.as_str();
        let (named, read) = match plain::members(text) {
            Some(named) => (named, None),
            None => {
                let read = &*self.read.insert(Arc::new(strict(text.as_bytes())?));
                let all = members(read).collect();
                let size = tree_size(text.as_bytes());
                (plain::Members { all, marks: 0, size }, Some(read))
            }
        };
        Some(Members { named, token, at, read })
    }
}

/// The bytes that a text spells in base64url; `None` unless it does so in the one way there is, without padding and without
/// bits that mean nothing (RFC 7515 §2, RFC 4648 §3.5).
pub fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode_to_vec(text).ok()
}

fn decode(token: &str, at: &Range<usize>) -> Option<String> {
    String::from_utf8(base64url(token.get(at.clone())?)?).ok()
}

impl<'s> Members<'s> {
    /// Each with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'s str, Item<'s>)> {
        self.named.all.iter().copied()
    }

    /// The one of that name.
    pub fn get(&self, name: &str) -> Option<Item<'s>> {
        self.iter().find_map(|(known, item)| (known == name).then_some(item))
    }

    /// About how many bytes they take once they were read.
    pub fn tree_size(&self) -> usize {
        self.named.size
    }

    /// The token and all of them, to be kept.
    pub fn kept(&self) -> (Arc<str>, Claims) {
        let token: Arc<str> = self.token.into();
        let claims = match self.read {
            Some(read) => read.clone().into(),
            None => Claims {
                unread: Some(Unread {
                    token: token.clone(),
                    at: self.at.clone(),
                    marks: self.named.marks,
                }),
                read: OnceLock::new(),
            },
        };
        (token, claims)
    }
}

/// Claims and their names.
pub fn members(claims: &Map<String, Value>) -> impl Iterator<Item = (&str, Item<'_>)> {
    claims.iter().map(|(name, value)| (name.as_str(), value.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use base64::Engine;
    use proptest::prelude::*;

    use super::super::plain::tests::json;
    use super::*;

    proptest! {
        /// Of all spellings of some bytes only one is read.
        #[test]
        fn what_is_spelt_in_the_one_way_is_decoded(text in "[A-Za-z0-9_-]{0,70}[A-Za-z0-9_+/= .é-]{0,3}[A-Za-z0-9_-]{0,4}") {
            prop_assert_eq!(base64url(&text), base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&text).ok());
        }

        /// Whether a text is read where it stands or closely, at once or later: it says the same.
        #[test]
        fn claims_are_the_same_wherever_they_stand(
            value in prop::collection::vec(("[a-zé\"\\\\.]{0,3}", json()), 0..40),
            twice in any::<bool>(),
            others in prop::collection::vec("[a-zé\"\\\\.]{0,3}", 4),
        ) {
            let members = value.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())));
            let mut members: Vec<String> = members.collect();
            if !twice {
                members.sort_by(|a, b| a.split(':').next().cmp(&b.split(':').next()));
                members.dedup_by(|a, b| a.split(':').next() == b.split(':').next());
            }
            let text = format!("{{{}}}", members.join(","));
            let (token, at) = token(&text);
            let mut source = Source::default();
            let found = source.members(&token, at);
            let Some(read) = object(text.as_bytes()) else {
                prop_assert!(found.is_none(), "{}", text);
                return Ok(());
            };
            let found = found.unwrap();
            let each: Map<String, Value> = found.iter().map(|(name, item)| (name.to_owned(), item.into())).collect();
            prop_assert_eq!(&each, &read);
            let names: Vec<&str> = read.keys().chain(&others).map(String::as_str).collect();
            for name in names {
                let value = read.get(name);
                let item = found.get(name);
                prop_assert_eq!(item.map(Value::from), value.cloned());
                // Of claims that nothing was asked of before.
                prop_assert_eq!(found.kept().1.get(name).cloned(), value.cloned());
                prop_assert_eq!(item.and_then(Item::as_str), value.and_then(Value::as_str));
                prop_assert_eq!(item.and_then(Item::as_number), value.and_then(Value::as_number).cloned());
                let mut items = Vec::new();
                let is_list = item.and_then(|item| item.each(|item| items.push(Value::from(item))));
                prop_assert_eq!(is_list.map(|()| items), value.and_then(Value::as_array).cloned());
            }
            let (kept, claims) = found.kept();
            prop_assert_eq!(&*kept, &*token);
            prop_assert_eq!(&*claims, &read);
            prop_assert_eq!(claims, Claims::from(read));
        }
    }

    /// A token, and where in it the text stands.
    fn token(text: &str) -> (String, Range<usize>) {
        let claims = URL_SAFE_NO_PAD.encode_to_string(text);
        (format!("e30.{claims}.e30"), 4..4 + claims.len())
    }

    fn claims(text: &str) -> Claims {
        let (token, at) = token(text);
        Source::default().members(&token, at).unwrap().kept().1
    }

    #[test]
    fn nothing_is_read_for_what_is_not_there() {
        let claims = claims(r#"{"sub":"u1","realm":{"roles":["a"],"deep.er":{"x":1}},"n":[]}"#);
        assert_eq!(claims.at("cnf"), None);
        assert!(claims.read.get().is_none());
        for absent in ["", "su", "u1", "{", "role.s", "realm.role", "realm.deep", "n.0"] {
            assert_eq!(claims.at(absent), None, "{absent}");
        }
        assert!(claims.read.get().is_some());
        assert_eq!(claims.at("realm.deep.er.x"), Some(&1.into()));
    }

    #[test]
    fn what_is_not_plain_is_read_at_once() {
        for text in [r#"{"\u0063nf":{},"a":-1.5}"#, r#"{"cnf":{},"a":-1.5}"#] {
            let claims = claims(text);
            assert!(claims.read.get().is_some());
            assert!(claims.get("cnf").is_some());
            assert_eq!(claims.at("a").and_then(Value::as_f64), Some(-1.5));
        }
    }
}
