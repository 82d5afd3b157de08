//! `jwt:` of an authenticator as written, and the [`JwtAuthenticator`] it compiles to.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use jiff::SignedDuration;
use zeroize::Zeroizing;

use super::claimed::Claimed;
use super::credential::Source;
use super::keys::KeySet;
use super::places::TokenPlaces;
use crate::conf::{Describe, Json, Load, Node, OneOrMany, Place, Read, Schema, Schemas, Secret, Spanned};

/// RFC 7518 §3.2 asks for as many bytes as the hash has; 32 is the least of them.
const MIN_SECRET: usize = 32;
/// More would keep expired tokens alive rather than forgive clocks.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

crate::settings! {
    /// How JWTs are verified.
    pub struct JwtSettings {
        /// What `iss` must be, to the letter.
        pub issuer: Spanned<Issuer>,
        /// What `aud` must name at least one of.
        pub audience: Audience,
        /// The signature algorithms that are accepted.
        pub algorithms: Spanned<Algorithms>,
        /// Where the public keys come from: `discover` (the issuer's discovery document), a URL or a file.
        pub jwks: Option<Spanned<JwksFrom>>,
        /// The shared secret of the HS algorithms, instead of `jwks`.
        pub secret: Option<Secret>,
        /// What the token's header must say in `typ`, such as `at+jwt` (RFC 9068).
        pub typ: Option<TokenType>,
        /// The claim that holds the roles, by its path.
        pub roles: ClaimPath = ClaimPath("roles".into()),
        /// The claim that holds the scopes, by its path.
        pub scopes: ClaimPath = ClaimPath("scope".into()),
        /// Where callers put their token; in the header `authorization` unless said otherwise.
        pub from: Option<TokenPlaces>,
        /// How far clocks may differ, at most `5m`.
        pub leeway: Leeway = Leeway(Duration::from_secs(30)),
        /// The longest that a token may be good for, from `iat` to `exp`. A revocation can be forgotten after so long.
        pub max_lifetime: Option<MaxLifetime>,
    }
}

/// Where a claim stands: its name, or the names on the way to it with dots between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(pub Box<str>);

impl Describe for ClaimPath {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like(r"^[^.]+(\.[^.]+)*$").examples(["realm_access.roles"])
    }

    fn written(&self) -> Option<Json> {
        Some((&*self.0).into())
    }
}

impl Read for ClaimPath {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let path = node.text("the path of a claim, such as `realm_access.roles`", load)?;
        if path.split('.').any(str::is_empty) {
            let message = format!("`{path}` is not the path of a claim, such as `realm_access.roles`");
            load.error(&node.place, message);
        }
        Some(Self(path.into()))
    }
}

/// Who issues tokens. What is wrong with it is reported, and it is read all the same, for the mistakes beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer(pub String);

impl Issuer {
    fn is_sound(&self) -> bool {
        !self.0.is_empty() && (!self.0.starts_with("http://") || is_loopback_url(&self.0))
    }

    /// Reports an issuer that has no discovery document, where nothing else is wrong with it.
    pub(super) fn check_discoverable(&self, place: &Place, load: &Load) {
        let Self(url) = self;
        if self.is_sound() && (!is_callable(url) || url.contains('?')) {
            let message = "cannot be discovered from: an `https` URL without query";
            load.error(place, format!("`{url}` {message}"));
        }
    }
}

impl Describe for Issuer {
    fn schema(schemas: &mut Schemas) -> Schema {
        String::schema(schemas)
    }
}

impl Read for Issuer {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let issuer = Self(String::read(node, load)?);
        if !issuer.is_sound() {
            let message = "the issuer must be the `iss` of its tokens; plain http is accepted for loopback only";
            load.error(&node.place, message);
        }
        Some(issuer)
    }
}

/// Audiences: at least one, none of them empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience(pub Vec<String>);

impl Describe for Audience {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::one_or_many(String::schema(schemas), 1)
    }
}

impl Read for Audience {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let OneOrMany(audience) = OneOrMany::<String>::read(node, load)?;
        if audience.is_empty() || audience.iter().any(String::is_empty) {
            load.error(&node.place, "name at least one audience, none of them empty");
        }
        Some(Self(audience))
    }
}

/// Signature algorithms: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithms(pub Vec<SignatureAlgorithm>);

impl Describe for Algorithms {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::one_or_many(SignatureAlgorithm::schema(schemas), 1)
    }
}

impl Read for Algorithms {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let OneOrMany(algorithms) = OneOrMany::read(node, load)?;
        if algorithms.is_empty() {
            load.error(&node.place, "name at least one algorithm");
        }
        Some(Self(algorithms))
    }
}

/// The kind of a token, as its header says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenType(pub String);

impl Describe for TokenType {
    fn schema(schemas: &mut Schemas) -> Schema {
        String::schema(schemas)
    }
}

impl Read for TokenType {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let typ = String::read(node, load)?;
        if typ.is_empty() {
            load.error(&node.place, "the type is empty; leave `typ` out instead");
        }
        Some(Self(typ))
    }
}

/// Where public keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksFrom {
    /// From the issuer's discovery document.
    Discover,
    /// From a URL.
    Url(String),
    /// From a file.
    File(String),
}

crate::words! {
    /// The signature algorithms (RFC 7518 §3, RFC 8037).
    pub enum SignatureAlgorithm {
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        Rs256 = "RS256",
        /// RSASSA-PKCS1-v1_5 with SHA-384.
        Rs384 = "RS384",
        /// RSASSA-PKCS1-v1_5 with SHA-512.
        Rs512 = "RS512",
        /// RSASSA-PSS with SHA-256.
        Ps256 = "PS256",
        /// RSASSA-PSS with SHA-384.
        Ps384 = "PS384",
        /// RSASSA-PSS with SHA-512.
        Ps512 = "PS512",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// ECDSA on P-384 with SHA-384.
        Es384 = "ES384",
        /// Ed25519; also where a token or a key calls it so (RFC 9864).
        EdDsa = "EdDSA",
        /// HMAC with SHA-256.
        Hs256 = "HS256",
        /// HMAC with SHA-384.
        Hs384 = "HS384",
        /// HMAC with SHA-512.
        Hs512 = "HS512",
    }
}

/// How far clocks may differ: at most five minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leeway(pub Duration);

impl Describe for Leeway {
    fn schema(schemas: &mut Schemas) -> Schema {
        Duration::schema(schemas)
    }

    fn written(&self) -> Option<Json> {
        self.0.written()
    }
}

impl Read for Leeway {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let leeway = Duration::read(node, load)?;
        if leeway > MAX_LEEWAY {
            load.error(&node.place, "more than `5m` of leeway keeps expired tokens alive");
        }
        Some(Self(leeway))
    }
}

/// The longest that a token may be good for: not nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxLifetime(pub Duration);

impl Describe for MaxLifetime {
    fn schema(schemas: &mut Schemas) -> Schema {
        Duration::schema(schemas)
    }
}

impl Read for MaxLifetime {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let lifetime = Duration::read(node, load)?;
        if lifetime.is_zero() {
            load.error(&node.place, "no token would be good for so short a time");
        }
        Some(Self(lifetime))
    }
}

impl Describe for JwksFrom {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar().examples(["discover"])
    }
}

impl Read for JwksFrom {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let text = node.text("`discover`, a URL or a file", load)?;
        Some(match text {
            "discover" => Self::Discover,
            _ if text.contains("://") => Self::Url(text.to_owned()),
            _ => Self::File(text.to_owned()),
        })
    }
}

impl SignatureAlgorithm {
    fn jws(self) -> jsonwebtoken::Algorithm {
        use jsonwebtoken::Algorithm as Jws;
        match self {
            Self::Rs256 => Jws::RS256,
            Self::Rs384 => Jws::RS384,
            Self::Rs512 => Jws::RS512,
            Self::Ps256 => Jws::PS256,
            Self::Ps384 => Jws::PS384,
            Self::Ps512 => Jws::PS512,
            Self::Es256 => Jws::ES256,
            Self::Es384 => Jws::ES384,
            Self::EdDsa => Jws::EdDSA,
            Self::Hs256 => Jws::HS256,
            Self::Hs384 => Jws::HS384,
            Self::Hs512 => Jws::HS512,
        }
    }

    fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

/// How one authenticator verifies JWTs. Two that are equal verify alike, so that what is known of one serves the other.
#[derive(Debug, PartialEq)]
pub struct JwtAuthenticator {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What `iss` must be.
    pub issuer: Arc<str>,
    /// What `aud` must name one of.
    pub audience: Box<[String]>,
    pub(super) algorithms: Box<[jsonwebtoken::Algorithm]>,
    /// Lower case, without `application/`.
    pub(super) typ: Option<Box<str>>,
    pub(super) roles: Box<str>,
    pub(super) scopes: Box<str>,
    pub(super) leeway: SignedDuration,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) keys: KeysFrom,
    /// Where its tokens stand.
    pub(super) sources: Box<[Source]>,
}

impl JwtAuthenticator {
    /// How its claims become a principal.
    pub(super) fn claimed(&self) -> Claimed<'_> {
        Claimed {
            authenticator: &self.name,
            issuer: &self.issuer,
            subject: "sub",
            scopes: &self.scopes,
            roles: &self.roles,
        }
    }
}

/// Where the keys of an authenticator come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum KeysFrom {
    /// The issuer's discovery document.
    Discover,
    /// A URL.
    Url(Box<str>),
    /// They were read with the configuration: a file, or a secret.
    Fixed(Arc<KeySet>),
    /// A secret that could not be fetched; see [`Authenticators::unfetched_secrets`](super::Authenticators::unfetched_secrets).
    Missing,
}

pub(super) fn compile_jwt(
    name: &str,
    settings: &JwtSettings,
    sources: Box<[Source]>,
    load: &Load,
    unfetched: &mut Vec<(Place, String)>,
) -> JwtAuthenticator {
    let JwtSettings { issuer, audience, .. } = settings;
    let typ = settings
        .typ
        .as_ref()
        .map(|typ| subtype(&typ.0.to_ascii_lowercase()).into());
    let mut algorithms = Vec::new();
    for algorithm in settings.algorithms.value.0.iter().map(|named| named.jws()) {
        if !algorithms.contains(&algorithm) {
            algorithms.push(algorithm);
        }
    }
    JwtAuthenticator {
        name: name.into(),
        issuer: issuer.value.0.as_str().into(),
        audience: audience.0.clone().into(),
        algorithms: algorithms.into(),
        typ,
        roles: settings.roles.0.clone(),
        scopes: settings.scopes.0.clone(),
        leeway: SignedDuration::try_from(settings.leeway.0).unwrap_or_default(),
        max_lifetime: settings.max_lifetime.map(|longest| longest.0),
        keys: compile_keys(settings, load, unfetched),
        sources,
    }
}

fn compile_keys(settings: &JwtSettings, load: &Load, unfetched: &mut Vec<(Place, String)>) -> KeysFrom {
    let symmetric = settings
        .algorithms
        .value
        .0
        .iter()
        .filter(|named| named.is_symmetric())
        .count();
    let at = &settings.algorithms.place;
    match (&settings.jwks, &settings.secret) {
        (None, None) => {
            load.error(
                &settings.issuer.place,
                "where the keys come from is missing: `jwks` or `secret`",
            );
            KeysFrom::Missing
        }
        (Some(jwks), Some(secret)) => {
            let message = "a secret never stands beside public keys: a token could be signed with what is public";
            load.error_with(secret.place(), message, &jwks.place, "the public keys");
            KeysFrom::Missing
        }
        (Some(jwks), None) => {
            if symmetric > 0 {
                load.error(at, "the HS algorithms take a `secret`, never `jwks`");
            }
            compile_jwks(jwks, &settings.issuer, load)
        }
        (None, Some(secret)) => {
            if symmetric < settings.algorithms.value.0.len() {
                load.error(at, "a `secret` is for the HS algorithms alone");
            }
            match secret.fetch() {
                Ok(secret_bytes) => secret_keys(&secret_bytes, secret, load),
                Err(reason) => {
                    load.warn(secret.place(), reason.clone());
                    unfetched.push((secret.place().clone(), reason));
                    KeysFrom::Missing
                }
            }
        }
    }
}

fn secret_keys(bytes: &Zeroizing<Vec<u8>>, secret: &Secret, load: &Load) -> KeysFrom {
    if bytes.len() < MIN_SECRET {
        let message = format!("the secret is shorter than {MIN_SECRET} bytes and can be guessed");
        load.error(secret.place(), message);
        return KeysFrom::Missing;
    }
    KeysFrom::Fixed(Arc::new(KeySet::secret(bytes)))
}

fn compile_jwks(jwks: &Spanned<JwksFrom>, issuer: &Spanned<Issuer>, load: &Load) -> KeysFrom {
    match &jwks.value {
        JwksFrom::Discover => {
            issuer.value.check_discoverable(&issuer.place, load);
            KeysFrom::Discover
        }
        JwksFrom::Url(url) => {
            if !is_callable(url) {
                let message = "is not an `https` URL; plain http is accepted for loopback only";
                load.error(&jwks.place, format!("`{url}` {message}"));
            }
            KeysFrom::Url(url.as_str().into())
        }
        JwksFrom::File(name) => {
            let Some(source) = load.named_file(name, &jwks.place) else {
                return KeysFrom::Missing;
            };
            match KeySet::parse(source.text.as_bytes()) {
                Ok(set) if set.keys.is_empty() => {
                    load.error(&jwks.place, format!("`{name}` holds no key that can be used"))
                }
                Ok(set) => {
                    if set.skipped > 0 {
                        load.warn(&jwks.place, format!("{} keys in `{name}` cannot be used", set.skipped));
                    }
                    return KeysFrom::Fixed(Arc::new(set));
                }
                Err(reason) => load.error(&jwks.place, format!("`{name}`: {reason}")),
            }
            KeysFrom::Missing
        }
    }
}

/// A media type as `typ` headers spell it, without the `application/` that may be left out (RFC 7515 §4.1.9). Case does not
/// matter.
pub(super) fn subtype(typ: &str) -> &str {
    const WRITTEN_OUT: &str = "application/";
    match typ.split_at_checked(WRITTEN_OUT.len()) {
        Some((written_out, subtype)) if written_out.eq_ignore_ascii_case(WRITTEN_OUT) => subtype,
        _ => typ,
    }
}

/// Whether keys may be fetched from there: https, or http on loopback; no user information, no fragment.
pub(super) fn is_callable(url: &str) -> bool {
    let Some(uri) = absolute(url) else { return false };
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => is_loopback_url(url),
        _ => false,
    }
}

/// Whether the URL's host is `localhost` or a loopback address.
pub(super) fn is_loopback_url(url: &str) -> bool {
    let Some(uri) = absolute(url) else { return false };
    let host = uri
        .host()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

fn absolute(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host().filter(|host| !host.is_empty() && uri.scheme().is_some());
    let plain = !url.contains(['#', '@', '\\', ' ']);
    (host.is_some() && plain).then_some(uri)
}
