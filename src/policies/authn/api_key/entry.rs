//! The keys as written: a list, or a file with one.

use jiff::Timestamp;
use serde_json::{Map, Value as Json};

use super::super::claimed::is_subject;
use super::hash::KeyHash;
use crate::conf::{Describe, Instant, Load, Node, OneOrMany, Read, Schema, Schemas, Spanned, Value};
use crate::engine::claims;
use crate::policies::access::ScopeName;

crate::settings! {
    /// An API key, of which nothing but the hash is known.
    struct KeySettings {
        /// `sha256:` and the SHA-256 of the whole key in hexadecimal, as `gwanmun hash-key` prints it.
        hash: Node as WrittenHash,
        /// What is shown of the key: its first letters. Left out, the beginning of its hash is.
        prefix: Option<Spanned<String>>,
        /// Who calls with it. Two keys of one subject overlap while they are changed.
        subject: Spanned<String>,
        /// The roles of its caller.
        roles: Option<OneOrMany<Spanned<String>>>,
        /// The scopes that it grants.
        scopes: Option<OneOrMany<ScopeName>>,
        /// What else policies may ask about, by name.
        claims: Option<Node> as Claims,
        /// From when it is good.
        not_before: Option<Instant>,
        /// When it ends.
        expires: Option<Instant>,
    }
}

/// `keys:` — a list, or the path of a file with one.
pub(super) enum KeyList {}

impl Describe for KeyList {
    fn schema(schemas: &mut Schemas) -> Schema {
        let listed = Schema::list(KeySettings::schema(schemas), 0);
        Schema::any_of([listed, Schema::scalar()])
    }
}

/// One key.
#[derive(Debug)]
pub(super) struct KeyEntry {
    pub hash: KeyHash,
    prefix: Option<Box<str>>,
    pub subject: Box<str>,
    pub roles: Vec<Box<str>>,
    pub scopes: Vec<Box<str>>,
    pub claims: Option<Map<String, Json>>,
    pub not_before: Option<Timestamp>,
    pub expires: Option<Timestamp>,
}

impl KeyEntry {
    /// What is shown in place of the key.
    pub fn shown(&self) -> Box<str> {
        self.prefix.clone().unwrap_or_else(|| self.hash.shown().into())
    }
}

/// Reads the keys, in the order in which they are written; those with mistakes are left out.
pub(super) fn read(node: &Node, load: &Load) -> Vec<Spanned<KeyEntry>> {
    let mut entries = Vec::new();
    let mut add = |item: &Node| {
        entries.extend(KeyEntry::of(item, load).map(|value| Spanned {
            value,
            place: item.place.clone(),
        }));
    };
    match &node.value {
        Value::Scalar { text, .. } => {
            load.named_list(text, &node.place, add);
        }
        _ => node.items(load).unwrap_or_default().iter().for_each(&mut add),
    }
    entries
}

impl KeyEntry {
    fn of(node: &Node, load: &Load) -> Option<Self> {
        let written = KeySettings::read(node, load)?;
        let hash = WrittenHash::read(&written.hash, load);
        let claims = match &written.claims {
            Some(node) => Some(Claims::read(node, load)?.0),
            None => None,
        };
        if !is_subject(&written.subject.value) {
            load.error(
                &written.subject.place,
                "the subject names nobody, or has control characters in it",
            );
        }
        if let Some(prefix) = &written.prefix {
            check_prefix(prefix, load);
        }
        for role in written.roles.iter().flat_map(|roles| &roles.0) {
            if role.value.is_empty() || role.value.contains(char::is_control) {
                load.error(&role.place, "a role names nothing, or has control characters in it");
            }
        }
        let (not_before, expires) = (written.not_before.map(|at| at.at), written.expires.map(|at| at.at));
        if let (Some(begin), Some(end)) = (not_before, expires)
            && begin >= end
        {
            load.error(&node.place, "the key ends before it begins");
        }
        Some(Self {
            hash: hash?,
            prefix: written.prefix.map(|prefix| prefix.value.into()),
            subject: written.subject.value.into(),
            roles: listed(written.roles, |role| role.value.into()),
            scopes: listed(written.scopes, |scope| scope.0),
            claims,
            not_before,
            expires,
        })
    }
}

fn listed<T>(names: Option<OneOrMany<T>>, name: fn(T) -> Box<str>) -> Vec<Box<str>> {
    names.map_or_else(Vec::new, |names| names.0.into_iter().map(name).collect())
}

/// What is shown of a key is in logs: it is not to be the key.
fn check_prefix(prefix: &Spanned<String>, load: &Load) {
    const LETTERS: std::ops::RangeInclusive<usize> = 4..=16;
    let is_short = LETTERS.contains(&prefix.value.len());
    if !is_short || !prefix.value.bytes().all(|byte| byte.is_ascii_graphic()) {
        // It may be the whole key.
        prefix.place.conceal();
        let (least, most) = LETTERS.into_inner();
        let message = format!("`prefix` is the first letters of a key, {least} to {most} of them");
        load.error(&prefix.place, message);
    }
}

/// A hash as written.
enum WrittenHash {}

impl Describe for WrittenHash {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::text("^sha256:[0-9A-Fa-f]{64}$")
    }
}

impl WrittenHash {
    fn read(node: &Node, load: &Load) -> Option<KeyHash> {
        let text = node.text("the hash of a key", load)?;
        let hash = KeyHash::parse(text);
        if hash.is_none() {
            // The text may be the key: it is not repeated.
            node.place.conceal();
            let message = "a key is not written here, but `sha256:` and its hash; `gwanmun hash-key` makes one";
            load.error(&node.place, message);
        }
        hash
    }
}

/// Claims besides those that the other keys make.
struct Claims(Map<String, Json>);

const OWN: [&str; 9] = ["sub", "jti", "iss", "aud", "exp", "nbf", "iat", "roles", "scope"];

impl Describe for Claims {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::map_of(r"^[\s\S]*$", Schema::anything(), 0)
    }
}

impl Read for Claims {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        for entry in node.entries(load)? {
            if OWN.contains(&entry.key.as_str()) {
                let message = format!("`{}` is said by the other keys of a line, or by nobody", entry.key);
                load.error(&entry.key_place, message);
            }
        }
        let claims = claims::object(node.to_json().as_bytes());
        if claims.is_none() {
            load.error(
                &node.place,
                "claims that a token could not hold: nested too deeply, or numbers that are none",
            );
        }
        claims.map(Self)
    }
}
