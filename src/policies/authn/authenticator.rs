//! `authenticators:` as written, and the [`Authenticator`]s they compile to, whatever their kind.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::api_key::{ApiKeyAuthenticator, ApiKeySettings};
use super::claimed::Claimed;
use super::client_certificate::{CertificateAuthenticator, ClientCertificateSettings};
use super::credential::Source;
use super::introspection::{IntrospectionAuthenticator, IntrospectionSettings};
use super::places::TokenPlaces;
use super::settings::{JwtAuthenticator, JwtSettings, compile_jwt};
use crate::conf::{Describe, Load, Named, Node, Place, Read, Schema, Schemas, Spanned};
use crate::engine::{AuthenticatorId, Principal};

crate::settings! {
    /// One named way to learn who calls.
    struct KindSettings {
        /// By bearer tokens that are JWTs.
        jwt: Option<JwtSettings>,
        /// By API keys, of which the gateway knows only the hashes.
        api_key: Option<ApiKeySettings>,
        /// By bearer tokens of which only their issuer can say whose they are (RFC 7662).
        introspection: Option<IntrospectionSettings>,
        /// By the certificate that their connection was made with.
        client_certificate: Option<ClientCertificateSettings>,
    }
}

const KINDS: [&str; 4] = ["jwt", "api_key", "introspection", "client_certificate"];

/// One named way to learn who calls.
#[derive(Debug, Clone)]
pub enum AuthenticatorSettings {
    /// By JWTs.
    Jwt(Box<JwtSettings>),
    /// By API keys.
    ApiKey(Box<ApiKeySettings>),
    /// By asking about tokens.
    Introspection(Box<IntrospectionSettings>),
    /// By client certificates.
    Certificate(Box<ClientCertificateSettings>),
}

impl Describe for AuthenticatorSettings {
    fn schema(schemas: &mut Schemas) -> Schema {
        let kinds = KindSettings::schema(schemas);
        schemas.refine::<KindSettings>(|kinds| kinds.with_one_of(&KINDS));
        kinds
    }
}

impl Read for AuthenticatorSettings {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let KindSettings {
            jwt,
            api_key,
            introspection,
            client_certificate,
        } = KindSettings::read(node, load)?;
        let kinds = [
            jwt.map(|jwt| Self::Jwt(Box::new(jwt))),
            api_key.map(|api_key| Self::ApiKey(Box::new(api_key))),
            introspection.map(|introspection| Self::Introspection(Box::new(introspection))),
            client_certificate.map(|certificate| Self::Certificate(Box::new(certificate))),
        ];
        let mut said = kinds.into_iter().flatten();
        match (said.next(), said.next()) {
            (Some(one), None) => Some(one),
            (None, _) => {
                // A misspelt key was reported already.
                let is_known = |key: &str| KINDS.contains(&key);
                if node.entries(load)?.iter().all(|entry| is_known(&entry.key)) {
                    let message = format!("say how it learns who calls: {}", listed(" or "));
                    load.error(&node.place, message);
                }
                None
            }
            (Some(_), Some(_)) => {
                let message = format!(
                    "an authenticator is one of {}; give each a name of its own",
                    listed(", ")
                );
                load.error(&node.place, message);
                None
            }
        }
    }
}

fn listed(between: &str) -> String {
    KINDS.map(|kind| format!("`{kind}`")).join(between)
}

/// One way to learn who calls.
#[derive(Debug, Clone, PartialEq)]
pub enum Authenticator {
    /// By JWTs.
    Jwt(Arc<JwtAuthenticator>),
    /// By API keys.
    ApiKey(Arc<ApiKeyAuthenticator>),
    /// By asking about tokens.
    Introspection(Arc<IntrospectionAuthenticator>),
    /// By client certificates.
    Certificate(Arc<CertificateAuthenticator>),
}

impl Authenticator {
    /// Its name in the configuration.
    pub fn name(&self) -> &Arc<str> {
        self.claimed().authenticator
    }

    /// Who vouches for those that it identifies: the issuer of its tokens, or a tag of its own.
    pub fn issuer(&self) -> &Arc<str> {
        self.claimed().issuer
    }

    /// Where its credentials stand.
    pub fn sources(&self) -> &[Source] {
        match self {
            Self::Jwt(jwt) => &jwt.sources,
            Self::ApiKey(keys) => keys.sources(),
            Self::Introspection(asked) => asked.sources(),
            Self::Certificate(certificates) => certificates.sources(),
        }
    }

    /// The claims that hold scopes and roles, by their paths.
    pub fn scopes_and_roles(&self) -> (&str, &str) {
        let claimed = self.claimed();
        (claimed.scopes, claimed.roles)
    }

    /// Whom claims that are believed speak of; `None` without a subject.
    pub fn principal(&self, claims: Map<String, Value>) -> Option<Principal> {
        self.claimed().principal(claims)
    }

    /// How long its credentials are good for at most; `None` where nothing says so.
    pub fn max_lifetime(&self) -> Option<Duration> {
        match self {
            Self::Jwt(jwt) => jwt.max_lifetime,
            Self::ApiKey(_) | Self::Introspection(_) | Self::Certificate(_) => None,
        }
    }

    /// Whether both would be asked about the same credentials, so that the second never is where they stand in the same place.
    pub(super) fn takes_the_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Jwt(own), Self::Jwt(others)) => own.issuer == others.issuer,
            // Nothing in a token says where it could be asked about.
            (Self::Introspection(_), Self::Introspection(_)) => true,
            // The one that knows the key is the one it is for.
            _ => false,
        }
    }

    fn claimed(&self) -> Claimed<'_> {
        match self {
            Self::Jwt(jwt) => jwt.claimed(),
            Self::ApiKey(keys) => keys.claimed(),
            Self::Introspection(asked) => asked.claimed(),
            Self::Certificate(certificates) => certificates.claimed(),
        }
    }
}

/// The authenticators of a configuration.
#[derive(Debug, Default)]
pub struct Authenticators {
    all: Vec<Authenticator>,
    unfetched: Vec<(Place, String)>,
    sources: Vec<(Source, Place)>,
}

impl Describe for Authenticators {
    fn schema(schemas: &mut Schemas) -> Schema {
        let named = Named::<AuthenticatorSettings>::schema(schemas);
        schemas.refine::<JwtSettings>(|jwt| jwt.with_one_of(&["jwks", "secret"]));
        named
    }
}

impl Authenticators {
    /// Compiles `authenticators:`. Secrets and key files are read now; a secret that is missing is a warning.
    pub fn compile(settings: &Named<AuthenticatorSettings>, load: &Load) -> Self {
        let mut compiled = Self::default();
        for (name, settings) in &settings.0 {
            compiled.add(name, settings, load);
        }
        compiled
    }

    fn add(&mut self, name: &Spanned<String>, settings: &AuthenticatorSettings, load: &Load) {
        let of_tokens = |from: &Option<TokenPlaces>| match from {
            Some(from) => from.compile(load),
            None => vec![(Source::Authorization, name.place.clone())],
        };
        let sources = match settings {
            AuthenticatorSettings::Jwt(jwt) => of_tokens(&jwt.from),
            AuthenticatorSettings::Introspection(asked) => of_tokens(&asked.from),
            AuthenticatorSettings::ApiKey(keys) => keys.sources(name, load),
            AuthenticatorSettings::Certificate(_) => vec![(Source::Certificate, name.place.clone())],
        };
        for (source, place) in &sources {
            let mut others = self.sources.iter();
            if let Some((_, other)) = others.find(|(known, _)| known.clashes_with(source)) {
                let message =
                    "API keys and tokens cannot stand in the same place: nobody could tell one from the other";
                load.error_with(place, message, other, "which stands here");
            }
        }
        let own = sources.iter().map(|(source, _)| source.clone()).collect();
        self.all.push(match settings {
            AuthenticatorSettings::Jwt(jwt) => {
                Authenticator::Jwt(Arc::new(compile_jwt(&name.value, jwt, own, load, &mut self.unfetched)))
            }
            AuthenticatorSettings::ApiKey(keys) => {
                Authenticator::ApiKey(Arc::new(keys.compile(&name.value, own, load)))
            }
            AuthenticatorSettings::Introspection(asked) => {
                Authenticator::Introspection(Arc::new(asked.compile(name, own, load, &mut self.unfetched)))
            }
            AuthenticatorSettings::Certificate(certificates) => {
                Authenticator::Certificate(Arc::new(certificates.compile(&name.value, load)))
            }
        });
        self.sources.extend(sources);
    }

    /// The authenticator of that name.
    pub fn get(&self, name: &str) -> Option<(AuthenticatorId, &Authenticator)> {
        self.iter().find(|(_, authenticator)| **authenticator.name() == *name)
    }

    /// The authenticator of that id.
    pub fn by_id(&self, id: AuthenticatorId) -> Option<&Authenticator> {
        self.all.get(usize::from(id.0))
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (AuthenticatorId, &Authenticator)> {
        let ids = (0..=u16::MAX).map(AuthenticatorId);
        ids.zip(&self.all)
    }

    /// How long what each proves is good for at most, `None` where nothing says so: as long as with any of the same issuer, who
    /// may all be shown the same token.
    pub fn lifetimes(&self) -> Vec<(Arc<str>, Option<Duration>)> {
        let longest = |issuer: &Arc<str>| {
            let of_issuer = self.all.iter().filter(|one| one.issuer() == issuer);
            let lives: Option<Vec<Duration>> = of_issuer.map(Authenticator::max_lifetime).collect();
            lives?.into_iter().max()
        };
        let all = self.all.iter();
        all.map(|one| (one.name().clone(), longest(one.issuer()))).collect()
    }

    /// Every place that some authenticator takes credentials from, with where it says so.
    pub fn sources(&self) -> &[(Source, Place)] {
        &self.sources
    }

    /// Secrets that could not be fetched, each with its place and the reason. A gateway must not start with any: its
    /// authenticator would answer every token with 503.
    pub fn unfetched_secrets(&self) -> &[(Place, String)] {
        &self.unfetched
    }
}
