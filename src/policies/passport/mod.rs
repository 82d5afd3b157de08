//! `passport:` — what upstreams are shown instead of the caller's credential: a token of the gateway's own, for one upstream
//! and a short time.
//!
//! ```yaml
//! passport:
//!   key: "${file:passport.pem}"       # PKCS #8, Ed25519 or P-256; during a rotation a list of two, of which the first signs
//!   issuer: https://gate.bank.example # its `iss`: who the gateway is to its upstreams
//!   ttl: 60s                          # how long one is good for; never longer than the caller's token
//!   audience: upstream                # its `aud`: the name of the upstream that gets it, or one text for all
//! routes:
//!   accounts: { match: GET /accounts, auth: customer, forward: { authorization: passport }, upstream: accounts }
//!   keys:     { match: GET /.well-known/gwanmun-jwks.json, auth: none, reply: passport_keys }
//! ```
//!
//! A passport is a JWT (RFC 7519) of the type `passport+jwt`, sent as `Authorization: Bearer`; nothing that the caller sent
//! there arrives. It says who the gate found the caller to be:
//!
//! | claim | says |
//! |---|---|
//! | `iss`, `aud`, `iat`, `exp`, `jti` | who made it, for whom, when, until when, and which one it is |
//! | `authenticator`, `idp`, `sub` | the caller's whole identity: the authenticator by its name, the issuer of the caller's token (left out for kinds of credential without one), and the subject. **`sub` alone names nobody**: two issuers may have the same |
//! | `scope`, `roles` | what the caller holds: scopes with spaces between, roles as a list; left out where there is none |
//! | `acr`, `auth_time` | how and when the caller logged in, where the issuer says so |
//!
//! One is made for each token and upstream, and used again until half of its time is over, so that no upstream sees one that
//! is about to end, unless the caller's token is. The caller of a route that `none` may call too has no passport where
//! nobody is known, and the upstream then gets no `Authorization`.
//!
//! `reply: passport_keys` tells the public keys as a JWK Set (RFC 7517), each named by its thumbprint (RFC 7638). To change
//! keys, write the new one second, wait for as long as verifiers keep the set (five minutes by its `Cache-Control`), write
//! it first, and take the old one out when the last passport by it has ended.

mod key;
mod memory;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use jiff::SignedDuration;

use crate::conf::{Describe, Json, KeyFault, Load, Node, OneOrMany, Place, Read, Schema, Schemas, Secret};
use crate::engine::Reply;
use key::PassportKey;

pub use memory::{Passports, Unsigned};

/// What a passport's header says it is, so that nobody takes it for an access token (RFC 8725 §3.11).
const TYPE: &str = "passport+jwt";
/// The first signs, the second is the one before or the one to come.
const MAX_KEYS: usize = 2;
/// Clocks differ by more than less, and more is no short time.
const TTL: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(3600)];
/// How long verifiers may keep the key set.
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=300");

crate::settings! {
    /// The gateway's own tokens, which upstreams are shown instead of the caller's (`forward: { authorization: passport }`).
    pub struct PassportSettings {
        /// The private key that signs them, as PEM (PKCS #8): Ed25519 or P-256. During a rotation a list of two: the first
        /// signs, both are told.
        pub key: Keys,
        /// What their `iss` says: who the gateway is to its upstreams.
        pub issuer: Text,
        /// How long one is good for, from `5s` to `1h`.
        pub ttl: Ttl = Ttl(Duration::from_secs(60)),
        /// What their `aud` says: `upstream` for the name of the one that gets it, or one text for all.
        pub audience: Audience = Audience::Upstream,
    }
}

/// One key, or two of which the first signs.
#[derive(Debug, Clone)]
pub struct Keys(Vec<Secret>);

impl Describe for Keys {
    fn schema(schemas: &mut Schemas) -> Schema {
        let key = Secret::schema(schemas);
        let both = Schema::list(key.clone(), 1).with("maxItems", MAX_KEYS);
        Schema::any_of([key, both])
    }
}

impl Read for Keys {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let OneOrMany(keys) = OneOrMany::<Secret>::read(node, load)?;
        if keys.is_empty() || keys.len() > MAX_KEYS {
            load.error(&node.place, "name one key, or two while they change: the first signs");
        }
        Some(Self(keys))
    }
}

/// What stands in a claim: not empty, and readable in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub Box<str>);

impl Describe for Text {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like(r"^[\s\S]+$").examples(["https://gate.bank.example"])
    }
}

impl Read for Text {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let text = node.text("a text such as `https://gate.bank.example`", load)?;
        if text.is_empty() || text.chars().any(char::is_control) {
            load.error(
                &node.place,
                "cannot stand in a claim: a text that is not empty, in one line",
            );
        }
        Some(Self(text.into()))
    }
}

/// How long a passport is good for, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl(pub Duration);

impl Describe for Ttl {
    fn schema(schemas: &mut Schemas) -> Schema {
        Duration::schema(schemas)
    }

    fn written(&self) -> Option<Json> {
        self.0.written()
    }
}

impl Read for Ttl {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let ttl = Duration::read(node, load)?;
        let [least, most] = TTL;
        if !(least..=most).contains(&ttl) || ttl.subsec_nanos() > 0 {
            load.error(&node.place, "a passport is good for `5s` to `1h`, in whole seconds");
        }
        Some(Self(ttl))
    }
}

/// For whom passports are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// For the upstream that gets it, by its name.
    Upstream,
    /// For everybody who goes by this.
    Named(Box<str>),
}

impl Describe for Audience {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like(r"^[\s\S]+$").examples(["upstream"])
    }

    fn written(&self) -> Option<Json> {
        Some(match self {
            Self::Upstream => "upstream".into(),
            Self::Named(name) => (**name).into(),
        })
    }
}

impl Read for Audience {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let Text(text) = Text::read(node, load)?;
        Some(match &*text {
            "upstream" => Self::Upstream,
            _ => Self::Named(text),
        })
    }
}

/// The section, as names know it.
const SECTION: (&str, &str) = ("section", "passport");

/// The configuration has the section, whatever is wrong with it.
pub fn declare(load: &Load) {
    load.names.declare(SECTION.0, SECTION.1);
}

/// Whether the configuration has the section.
pub fn is_there(load: &Load) -> bool {
    load.names.is_declared(SECTION.0, SECTION.1)
}

/// Something makes use of the section.
pub fn refer(load: &Load) {
    load.names.refer(SECTION.0, SECTION.1);
}

/// Whether anything makes use of it.
pub fn is_referred(load: &Load) -> bool {
    load.names.is_referred(SECTION.0, SECTION.1)
}

/// The section, compiled. Without a key, for want of its file, nothing is signed; see
/// [`unfetched_secrets`](Self::unfetched_secrets).
#[derive(Debug)]
pub struct Passport {
    /// The first signs.
    keys: Vec<PassportKey>,
    issuer: Box<str>,
    ttl: SignedDuration,
    audience: Audience,
    unfetched: Vec<(Place, String)>,
}

/// Two are equal when what they make is: by the same keys, whatever was written.
impl PartialEq for Passport {
    fn eq(&self, other: &Self) -> bool {
        let said = |passport: &Self| (passport.issuer.clone(), passport.ttl, passport.audience.clone());
        said(self) == said(other) && self.key_set() == other.key_set()
    }
}

impl Passport {
    /// Compiles the section. Keys are read now; one that is missing is a warning.
    pub fn compile(settings: PassportSettings, load: &Load) -> Self {
        let mut passport = Self {
            keys: Vec::new(),
            issuer: settings.issuer.0,
            ttl: SignedDuration::try_from(settings.ttl.0).unwrap_or(SignedDuration::ZERO),
            audience: settings.audience,
            unfetched: Vec::new(),
        };
        let mut known: Vec<(Box<str>, Place)> = Vec::new();
        for secret in &settings.key.0 {
            let place = secret.place();
            let pem = match secret.private_key() {
                Ok(pem) => pem,
                Err(KeyFault::Missing(reason)) => {
                    load.warn(place, reason.clone());
                    passport.unfetched.push((place.clone(), reason));
                    continue;
                }
                Err(fault @ KeyFault::NoKey) => {
                    load.error(place, fault.to_string());
                    continue;
                }
            };
            let Some(key) = PassportKey::read(&pem) else {
                load.error(
                    place,
                    "passports are signed by an Ed25519 or a P-256 key in PKCS #8 (`BEGIN PRIVATE KEY`)",
                );
                continue;
            };
            match known.iter().find(|(kid, _)| **kid == *key.kid) {
                Some((_, first)) => load.error_with(place, "the same key a second time", first, "first here"),
                None => {
                    known.push((key.kid.clone(), place.clone()));
                    passport.keys.push(key);
                }
            }
        }
        passport
    }

    /// The public keys as a JWK Set.
    pub fn key_set(&self) -> String {
        let keys: Vec<&Json> = self.keys.iter().map(|key| &key.jwk).collect();
        serde_json::json!({ "keys": keys }).to_string()
    }

    /// What `reply: passport_keys` answers.
    pub fn told(&self) -> Reply {
        Reply {
            status: StatusCode::OK,
            headers: vec![
                (
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/jwk-set+json"),
                ),
                (header::CACHE_CONTROL, KEPT),
            ],
            body: Bytes::from(self.key_set()),
        }
    }

    /// Keys that could not be fetched, each with its place and the reason. A gateway must not start with any.
    pub fn unfetched_secrets(&self) -> &[(Place, String)] {
        &self.unfetched
    }

    /// What it is for, in words: `for upstream, good for 60s`.
    pub fn words(&self) -> String {
        let whom = match &self.audience {
            Audience::Upstream => "the upstream".to_owned(),
            Audience::Named(name) => format!("`{name}`"),
        };
        format!("for {whom}, by `{}`, good for {}s", self.issuer, self.ttl.as_secs())
    }
}
