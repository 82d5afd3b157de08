//! `introspection:` — callers with bearer tokens of which only their issuer can say whose they are (RFC 7662).
//!
//! ```yaml
//! authenticators:
//!   customer:
//!     introspection:
//!       issuer: https://id.bank.example      # its discovery document names the endpoint; and what `iss` must be, where it is said
//!       endpoint: https://id.bank.example/introspect   # instead of discovery
//!       client_id: gate
//!       client_secret: "${env:GATE_SECRET}"
//!       client_auth: client_secret_basic     # or `client_secret_post` (RFC 6749 §2.3.1)
//!       audience: mobile-bank                # what `aud` must name one of; unless said, it is not looked at
//!       subject: sub                         # the claim with the subject; `client_id` where clients call for themselves
//!       roles: realm_access.roles            # the claim with the roles; default `roles`
//!       scopes: scope                        # the claim with the scopes; default `scope`
//!       from: { header: authorization }      # where the token stands; as for `jwt`
//!       cache: { active: 30s, inactive: 5s } # how long an answer is believed; never beyond the token's `exp`
//!       timeout: 2s                          # for everything: discovery, a place among those asking, the answer
//! ```
//!
//! On a route with authenticators by JWT besides, a token goes to the one of these that is configured for its `iss`; every
//! other, a JWT of another issuer too, is asked about. The order in `auth` does not matter between them.
//!
//! 401 `token-inactive` where the issuer says that the token is not active, `token-issuer`, `token-audience`, `token-claims` (no
//! subject, odd instants), `token-expired`, `token-not-yet-valid`, `token-type` (a token bound to a key, which is more than a
//! bearer token, or of another kind). 503 `introspection-unavailable` where nobody says so: no connection, too late, another
//! status than 200, a redirect, no JSON, more than 64 KiB, or an `active` that is neither true nor false.
//!
//! A token is asked about once, however many requests bring it at the same time, and remembered under a keyed hash: the
//! gateway keeps no token. What is remembered is forgotten when its caller is revoked here.

mod answer;
mod introspector;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

pub use self::introspector::{IntrospectionStatus, Introspector};
use super::claimed::Claimed;
use super::credential::Source;
use super::places::TokenPlaces;
use super::settings::{Audience, ClaimPath, Issuer, is_callable};
use crate::conf::{Load, Place, Secret, Spanned};

/// A token that was revoked at its issuer is believed for so long.
const MAX_ACTIVE: Duration = Duration::from_secs(3600);
/// A token may become active that was not.
const MAX_INACTIVE: Duration = Duration::from_secs(60);
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

crate::settings! {
    /// How tokens are asked about at their issuer.
    pub struct IntrospectionSettings {
        /// The URL that answers; left out, the discovery document of `issuer` names it.
        pub endpoint: Option<Spanned<String>>,
        /// Who issues the tokens: whose discovery document is read, and what `iss` must be, to the letter, where it is said.
        pub issuer: Option<Spanned<Issuer>>,
        /// The gateway's name at the issuer.
        pub client_id: Spanned<String>,
        /// What it proves that name by.
        pub client_secret: Secret,
        /// How it does.
        pub client_auth: ClientAuth = ClientAuth::Basic,
        /// What `aud` must name at least one of. Unless said, `aud` is not looked at.
        pub audience: Option<Audience>,
        /// The claim that holds the subject, by its path.
        pub subject: ClaimPath = ClaimPath("sub".into()),
        /// The claim that holds the roles, by its path.
        pub roles: ClaimPath = ClaimPath("roles".into()),
        /// The claim that holds the scopes, by its path.
        pub scopes: ClaimPath = ClaimPath("scope".into()),
        /// Where callers put their token; in the header `authorization` unless said otherwise.
        pub from: Option<TokenPlaces>,
        /// How long an answer is believed.
        pub cache: AnswerLifetimes = AnswerLifetimes::default(),
        /// How long everything may take, at most `30s`.
        pub timeout: Duration = Duration::from_secs(2),
    }
}

crate::settings! {
    /// How long an answer is believed without asking again.
    pub struct AnswerLifetimes {
        /// That a token is active: at most `1h`, and never beyond its `exp`. So long a token lives on that its issuer has revoked.
        pub active: Duration = Duration::from_secs(30),
        /// That it is not: at most `1m`.
        pub inactive: Duration = Duration::from_secs(5),
    }
}

impl Default for AnswerLifetimes {
    fn default() -> Self {
        Self {
            active: Duration::from_secs(30),
            inactive: Duration::from_secs(5),
        }
    }
}

crate::words! {
    /// How a client proves its name (RFC 6749 §2.3.1).
    pub enum ClientAuth {
        /// In the header `Authorization: Basic`.
        Basic = "client_secret_basic",
        /// In the form that asks about the token.
        Post = "client_secret_post",
    }
}

/// How one authenticator asks about tokens. Two that are equal ask alike, so that what was answered to one serves the other.
#[derive(Debug, PartialEq)]
pub struct IntrospectionAuthenticator {
    name: Arc<str>,
    /// Who vouches: the issuer, or a tag of its own where none is named.
    issuer: Arc<str>,
    /// What `iss` must be, where it is said.
    expected_issuer: Option<Arc<str>>,
    endpoint: Endpoint,
    /// `None` where its secret could not be fetched.
    client: Option<ClientCredentials>,
    audience: Option<Box<[String]>>,
    subject: Box<str>,
    roles: Box<str>,
    scopes: Box<str>,
    lifetimes: (Duration, Duration),
    timeout: Duration,
    sources: Box<[Source]>,
}

/// Where tokens are asked about.
#[derive(Debug, PartialEq)]
enum Endpoint {
    /// Where the discovery document of the issuer says.
    Discover,
    Url(Box<str>),
}

/// The gateway's name at the issuer, and what proves it.
#[derive(PartialEq)]
struct ClientCredentials {
    id: Box<str>,
    secret: Zeroizing<Vec<u8>>,
    auth: ClientAuth,
}

/// A secret must not reach a log by way of its client.
impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCredentials({}, {:?})", self.id, self.auth)
    }
}

impl IntrospectionSettings {
    /// Fetches the secret; where that fails it is a warning, and noted as `unfetched`.
    pub(super) fn compile(
        &self,
        name: &Spanned<String>,
        sources: Box<[Source]>,
        load: &Load,
        unfetched: &mut Vec<(Place, String)>,
    ) -> IntrospectionAuthenticator {
        let expected_issuer: Option<Arc<str>> = self.issuer.as_ref().map(|issuer| issuer.value.0.as_str().into());
        if self.client_id.value.is_empty() {
            load.error(&self.client_id.place, "the client has no name");
        }
        self.check_times(name, load);
        let own_tag = || format!("introspection:{}", name.value).into();
        IntrospectionAuthenticator {
            name: name.value.as_str().into(),
            issuer: expected_issuer.clone().unwrap_or_else(own_tag),
            expected_issuer,
            endpoint: self.endpoint(name, load),
            client: self.client(load, unfetched),
            audience: self.audience.as_ref().map(|audience| audience.0.clone().into()),
            subject: self.subject.0.clone(),
            roles: self.roles.0.clone(),
            scopes: self.scopes.0.clone(),
            lifetimes: (self.cache.active, self.cache.inactive),
            timeout: self.timeout,
            sources,
        }
    }

    fn endpoint(&self, name: &Spanned<String>, load: &Load) -> Endpoint {
        match (&self.endpoint, &self.issuer) {
            (Some(endpoint), _) => {
                if !is_callable(&endpoint.value) {
                    let message = "is not an `https` URL; plain http is accepted for loopback only";
                    load.error(&endpoint.place, format!("`{}` {message}", endpoint.value));
                }
                Endpoint::Url(endpoint.value.as_str().into())
            }
            (None, Some(issuer)) => {
                issuer.value.check_discoverable(&issuer.place, load);
                Endpoint::Discover
            }
            (None, None) => {
                let message = "where tokens are asked about is missing: `endpoint`, or `issuer` for discovery";
                load.error(&name.place, message);
                Endpoint::Discover
            }
        }
    }

    fn client(&self, load: &Load, unfetched: &mut Vec<(Place, String)>) -> Option<ClientCredentials> {
        match self.client_secret.fetch() {
            Ok(secret) => Some(ClientCredentials {
                id: self.client_id.value.as_str().into(),
                secret,
                auth: self.client_auth,
            }),
            Err(reason) => {
                load.warn(self.client_secret.place(), reason.clone());
                unfetched.push((self.client_secret.place().clone(), reason));
                None
            }
        }
    }

    fn check_times(&self, name: &Spanned<String>, load: &Load) {
        let bounds = [
            (self.cache.active, MAX_ACTIVE, "`cache.active` is longer than `1h`"),
            (
                self.cache.inactive,
                MAX_INACTIVE,
                "`cache.inactive` is longer than `1m`",
            ),
            (self.timeout, MAX_TIMEOUT, "`timeout` is longer than `30s`"),
        ];
        for (_, _, message) in bounds.iter().filter(|(time, most, _)| time > most) {
            load.error(&name.place, *message);
        }
        if self.timeout.is_zero() {
            load.error(&name.place, "nothing is answered in a `timeout` of no time");
        }
    }
}

impl IntrospectionAuthenticator {
    /// Its name in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where its tokens stand.
    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// How its claims become a principal.
    pub(super) fn claimed(&self) -> Claimed<'_> {
        Claimed {
            authenticator: &self.name,
            issuer: &self.issuer,
            subject: &self.subject,
            scopes: &self.scopes,
            roles: &self.roles,
        }
    }
}
