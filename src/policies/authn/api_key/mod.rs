//! `api_key:` — callers known by a key that they were given.
//!
//! ```yaml
//! authenticators:
//!   partners:
//!     api_key:
//!       from: { header: x-api-key }     # where the key stands; that header unless said; also `query: NAME`
//!       keys: partners.yaml             # a file with a list, or the list itself:
//!         # - hash: sha256:9f86d081…      # as `gwanmun hash-key` prints it; the key itself stands nowhere
//!         #   prefix: gwk_Ab12Cd34        # what is shown of the key; left out, the beginning of its hash
//!         #   subject: acme               # who calls with it; two keys of one subject overlap while they are changed
//!         #   roles: [partner]
//!         #   scopes: [order:read]
//!         #   claims: { tier: gold }      # what else policies may ask about
//!         #   not_before: 2026-12-01T00:00Z
//!         #   expires: 2027-12-31T00:00Z  # end excluded
//! ```
//!
//! 401 `key-missing` where nothing but a key would do and none is there; 401 `key-unknown`, `key-expired` and
//! `key-not-yet-valid`, each with the challenge `ApiKey` (RFC 9110 §11.6.1). More than one key, or what cannot be one, is 401
//! `credential-unreadable`.
//!
//! A key has at least 128 random bits, so that nobody can try them out, and a hash that is fast enough for every request,
//! SHA-256, hides it as well as a slow one would. What is looked up is the hash of the whole key: how long that takes tells
//! nothing of how much of a key was right. Salt would add nothing, as no two keys are the same.
//!
//! `subject` becomes the claim `sub`, `roles` and `scopes` the claims `roles` and `scope`; what is shown of the key is its
//! `jti`, under which it is recorded and can be revoked alone. A key counts as issued at its `not_before`. The header is taken
//! from every request before it goes on; a route that says `forward: { authorization: keep }` sends on that of the key it was
//! called with. A key in the query never goes on.

mod entry;
mod hash;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, OnceLock};

use foldhash::quality::RandomState;
use jiff::Timestamp;
use serde_json::{Map, Value};

use self::entry::{KeyEntry, KeyList};
pub use self::hash::{KeyHash, NewKey};
use super::claimed::Claimed;
use super::credential::Source;
use super::places::KeyPlaces;
use crate::conf::{Load, Node, Place, Spanned};
use crate::engine::{CredentialRefusal, Principal};

crate::settings! {
    /// How callers are known by API keys.
    pub struct ApiKeySettings {
        /// Where callers put their key; in the header `x-api-key` unless said otherwise.
        pub from: Option<KeyPlaces>,
        /// The keys by their hashes: a list, or the path of a file with one. `gwanmun hash-key` makes its lines.
        pub keys: Node as KeyList,
    }
}

impl ApiKeySettings {
    /// Where keys stand, with where that is said.
    pub(super) fn sources(&self, name: &Spanned<String>, load: &Load) -> Vec<(Source, Place)> {
        match &self.from {
            Some(from) => from.compile(load),
            None => {
                let header = http::HeaderName::from_static("x-api-key");
                vec![(Source::KeyHeader(header), name.place.clone())]
            }
        }
    }

    /// Reads the keys.
    pub(super) fn compile(&self, name: &str, sources: Box<[Source]>, load: &Load) -> ApiKeyAuthenticator {
        ApiKeyAuthenticator {
            name: name.into(),
            issuer: format!("api-key:{name}").into(),
            sources,
            keys: keys(entry::read(&self.keys, load), load),
            by_shown: ByShown::default(),
        }
    }
}

/// Who calls by which key.
#[derive(Debug, PartialEq)]
pub struct ApiKeyAuthenticator {
    name: Arc<str>,
    /// A tag of its own: nobody else vouches for its callers.
    issuer: Arc<str>,
    sources: Box<[Source]>,
    keys: HashMap<KeyHash, ApiKey, RandomState>,
    /// The keys by what is shown of them, once somebody looks for one so.
    by_shown: ByShown,
}

/// Made of the keys, and nothing besides.
#[derive(Debug, Default)]
struct ByShown(OnceLock<HashMap<Box<str>, KeyHash>>);

impl PartialEq for ByShown {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A key, of which nothing but its hash is known.
#[derive(Debug)]
struct ApiKey {
    subject: Box<str>,
    roles: Arc<[Box<str>]>,
    scopes: Arc<[Box<str>]>,
    claims: Option<Box<Map<String, Value>>>,
    not_before: Option<Timestamp>,
    expires: Option<Timestamp>,
    /// What is shown in its place.
    shown: Box<str>,
    /// Who calls with it, once somebody has.
    principal: OnceLock<Arc<Principal>>,
}

impl PartialEq for ApiKey {
    fn eq(&self, other: &Self) -> bool {
        let parts = |key: &Self| {
            (
                key.subject.clone(),
                key.roles.clone(),
                key.scopes.clone(),
                key.claims.clone(),
            )
        };
        let rest = |key: &Self| (key.not_before, key.expires, key.shown.clone());
        rest(self) == rest(other) && parts(self) == parts(other)
    }
}

impl ApiKeyAuthenticator {
    /// Where its keys stand.
    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// How its claims become a principal.
    pub(super) fn claimed(&self) -> Claimed<'_> {
        Claimed {
            authenticator: &self.name,
            issuer: &self.issuer,
            subject: "sub",
            scopes: "scope",
            roles: "roles",
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Who calls with the key of that hash; `None` where it is not one of these.
    pub fn prove(&self, hash: &KeyHash, now: Timestamp) -> Option<Result<Arc<Principal>, CredentialRefusal>> {
        let key = self.keys.get(hash)?;
        if key.not_before.is_some_and(|begin| now < begin) {
            return Some(Err(key.refused("key-not-yet-valid")));
        }
        if key.expires.is_some_and(|end| now >= end) {
            return Some(Err(key.refused("key-expired")));
        }
        if let Some(principal) = key.principal.get() {
            return Some(Ok(principal.clone()));
        }
        // Subjects were checked when the file was read.
        let made = Arc::new(self.claimed().principal(key.claims())?);
        Some(Ok(key.principal.get_or_init(|| made).clone()))
    }
}

impl ApiKeyAuthenticator {
    /// As [`prove`](Self::prove), of a caller known by what is shown of its key.
    pub fn prove_shown(&self, shown: &str, now: Timestamp) -> Option<Result<Arc<Principal>, CredentialRefusal>> {
        let all = || self.keys.iter().map(|(hash, key)| (key.shown.clone(), *hash)).collect();
        let hash = self.by_shown.0.get_or_init(all).get(shown)?;
        self.prove(hash, now)
    }
}

impl ApiKey {
    /// The refusal of a key that is known: its record says whose it is, who may not have noticed.
    fn refused(&self, code: &'static str) -> CredentialRefusal {
        CredentialRefusal {
            claimed_sub: Some(self.subject.clone()),
            ..refusal(code)
        }
    }

    /// What a token would claim.
    fn claims(&self) -> Map<String, Value> {
        let mut claims = self.claims.as_deref().cloned().unwrap_or_default();
        claims.insert("sub".into(), (*self.subject).into());
        claims.insert("jti".into(), (*self.shown).into());
        let names = |names: &[Box<str>]| names.iter().map(|name| Value::from(&**name)).collect::<Vec<_>>();
        if !self.roles.is_empty() {
            claims.insert("roles".into(), names(&self.roles).into());
        }
        if !self.scopes.is_empty() {
            claims.insert("scope".into(), self.scopes.join(" ").into());
        }
        for (name, instant) in [("iat", self.not_before), ("exp", self.expires)] {
            if let Some(instant) = instant {
                claims.insert(name.into(), instant.as_second().into());
            }
        }
        claims
    }
}

/// A key that nobody has. What is noted of it is the beginning of its hash, so that detectors tell one guess from another.
pub(super) fn unknown(hash: &KeyHash) -> CredentialRefusal {
    CredentialRefusal {
        claimed_sub: Some(hash.shown().into()),
        ..refusal("key-unknown")
    }
}

fn refusal(code: &'static str) -> CredentialRefusal {
    let detail = match code {
        "key-expired" => "The API key has expired.",
        "key-not-yet-valid" => "The API key is not valid yet.",
        _ => "The API key is not known here.",
    };
    CredentialRefusal {
        code,
        detail,
        claimed_sub: None,
    }
}

/// The table of the keys. What is shown of one is shown of no other, so that operators can tell them apart.
fn keys(entries: Vec<Spanned<KeyEntry>>, load: &Load) -> HashMap<KeyHash, ApiKey, RandomState> {
    let mut lists = Lists::default();
    let mut keys = HashMap::with_capacity_and_hasher(entries.len(), RandomState::default());
    let mut places = HashMap::with_capacity_and_hasher(entries.len(), RandomState::default());
    let mut shown_at = HashMap::with_capacity_and_hasher(entries.len(), RandomState::default());
    for Spanned { value: entry, place } in entries {
        if let Some(first) = places.get(&entry.hash) {
            load.error_with(&place, "this key is listed a second time", first, "first here");
            continue;
        }
        let shown = entry.shown();
        match shown_at.entry(shown.clone()) {
            Entry::Occupied(first) => {
                let message = format!(
                    "`{shown}` is what is shown of two keys, and nobody could tell them apart: leave `prefix` out of both"
                );
                load.error_with(&place, message, first.get(), "the other");
            }
            Entry::Vacant(free) => {
                free.insert(place.clone());
            }
        }
        places.insert(entry.hash, place);
        let key = ApiKey {
            subject: entry.subject,
            roles: lists.shared(entry.roles),
            scopes: lists.shared(entry.scopes),
            claims: entry.claims.map(Box::new),
            not_before: entry.not_before,
            expires: entry.expires,
            shown,
            principal: OnceLock::new(),
        };
        keys.insert(entry.hash, key);
    }
    keys
}

/// Lists of names that many keys have in common, each kept once.
#[derive(Default)]
struct Lists(HashMap<Vec<Box<str>>, Arc<[Box<str>]>>);

impl Lists {
    fn shared(&mut self, names: Vec<Box<str>>) -> Arc<[Box<str>]> {
        let known = self.0.entry(names);
        known.or_insert_with_key(|names| names.as_slice().into()).clone()
    }
}
