//! `auth`: who may call a route, and `authenticators:`, the named ways to learn who calls.
//!
//! ```yaml
//! authenticators:
//!   customer:
//!     jwt:
//!       issuer: https://id.bank.example
//!       audience: [mobile-bank]
//!       algorithms: [RS256, ES256]    # a closed list; a key is only used with its own algorithm
//!       jwks: discover                # from the issuer | a URL | a file; or `secret: ${env:NAME}` for the HS algorithms
//!       typ: at+jwt                   # the kind of token; without it ID tokens are refused
//!       roles: realm_access.roles     # the claim with the roles; default `roles`
//!       scopes: scp                   # the claim with the scopes; default `scope`
//!       leeway: 30s                   # how far clocks may differ
//!       max_lifetime: 12h             # from `iat`, which must be there, to `exp`; longer-lived tokens are refused
//!       from: { header: authorization }   # where the token stands; also `header: x-token`, `cookie: NAME`, `query: NAME`
//!   partners:
//!     api_key: { keys: partners.yaml }
//!   machines:
//!     client_certificate: { authorities: certs/machines-ca.pem }
//! routes:
//!   cart:
//!     auth: [customer, none]          # a bad token is refused; no credential at all is fine
//!   orders:
//!     auth: [partners, customer]      # where both are there the key counts, and the token is not looked at
//!   stock:
//!     auth: [customer, machines]      # whose connection was made with a certificate, and who brings no token
//! ```
//!
//! `auth` is an order of kinds: the first authenticator whose kind of credential is there is the only one that judges, and
//! if it refuses, so does the gate. A header or a parameter was put there on purpose and beats a cookie, which comes along by
//! itself. Among those by JWT the one configured for the token's `iss` judges, among those by API key the one that knows the
//! key. What an `Authorization` holds that nothing here reads is refused, whatever stands beside it. A token with `cnf` is good
//! only over a connection that was made with the certificate it names (RFC 8705 §3).
//!
//! 401 `token-missing` (`key-missing`, `certificate-missing` where nothing else would do) where a credential is needed and none
//! is there; 401 `credential-unreadable` for more than one, another scheme, or what cannot be a token; 401 `token-…`, `key-…` or
//! `certificate-…` for one that does not prove anybody; 503 `keys-unavailable` or `introspection-unavailable` where nobody can
//! say. On a route with `auth: none` credentials are not looked at. The challenge is that of RFC 6750 §3 ([`Bearer`]), `ApiKey`
//! or `ClientCertificate`.
//!
//! Claims are read whole, also those that nothing asks for, so that each has one meaning wherever it is compared, forwarded or
//! recorded: 401 `token-malformed` for a member that stands twice, and for a number that neither 64 bits nor a double can tell
//! from others, such as a whole one above 18446744073709551615. An issuer writes longer numbers as strings.
//!
//! `check` warns of a route with `none` that takes POST, PUT, PATCH or DELETE to an upstream, as anybody may write there. It
//! does not where a policy that is enforced asks who it is (by address, client, header, query or claims), nor where the route
//! names `limits` of its own besides those of `defaults`: whoever limits a login knows that it is open.
//!
//! Fetched keys are copied to the `state:` folder (`keys.json`), so that a gateway that starts while an issuer is away judges
//! by the last it had; without a copy it answers 503, and `/readyz` says why.
//!
//! `from:` may name a header, a cookie and a query parameter at once; a request brings its token in one of them. Only a
//! cookie, which comes along by itself, may stand beside a header, which then counts alone. Wherever it stood, the upstream
//! sees the token as `Authorization: Bearer` where the route keeps that (`forward: { authorization: keep }`, the default),
//! and nowhere else: the header and the cookie are taken from every request, the parameter where the route reads it, before
//! anything is logged, stored or sent on. The answer says `Cache-Control: private` besides, as caches on the way know no
//! credential but `Authorization`. A cookie proves nothing about an unsafe request that another site makes a browser send:
//! 403 `cross-site`.

mod api_key;
mod authenticator;
mod bound;
mod claimed;
mod client_certificate;
mod copies;
mod credential;
pub mod crypto;
mod discovery;
mod introspection;
mod jwks;
mod jwt;
mod keys;
mod memory;
mod places;
mod settings;
mod verifier;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
mod tests;

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};

pub use api_key::{ApiKeyAuthenticator, KeyHash, NewKey};
pub use authenticator::{Authenticator, AuthenticatorSettings, Authenticators};
pub use client_certificate::{CertificateAuthenticator, ClientCertificateSettings, NameKind};
pub use copies::{CopyFailure, KeyCopies};
pub use credential::{Credential, Source, only_parameters, without_cookies, without_parameters};
pub use introspection::{IntrospectionAuthenticator, IntrospectionStatus, Introspector};
pub use jwks::Timing;
pub use places::{FromSettings, TokenPlaces};
pub use settings::{ClaimPath, JwksFrom, JwtAuthenticator, JwtSettings, Leeway, SignatureAlgorithm};
pub use verifier::{KeyStatus, UNAVAILABLE, Verifier, Verifiers};

use self::credential::{SITE_HEADERS, is_from_another_site, is_of_another_scheme};
use super::{Draft, Inherit, Kind, Scope};
use crate::conf::{Load, Node, OneOrMany, Read, Schema, Spanned};
use crate::engine::{
    Answer, AuthenticatorId, Bearer, Denial, DenialKind, Facts, Outcome, Policy, Question, Stage, Verdict, Why,
};

/// The route's key `auth`.
pub const KIND: Kind = Kind {
    name: "auth",
    inherit: Inherit::Never,
    compile,
    schema: |_| {
        Schema::one_or_many(Schema::scalar().examples(["none"]), 1).about(
            "Who may call: the name of an authenticator, `none` for everybody, or a list of them with `none` last, if at all.",
        )
    },
};

fn compile(node: &Node, scope: &Scope<'_>) -> Vec<Draft> {
    let Some(OneOrMany(names)) = OneOrMany::<Spanned<String>>::read(node, scope.load) else {
        return Vec::new();
    };
    if names.is_empty() {
        scope
            .load
            .error(&node.place, "say who may call; `none` where everybody may");
    }
    let mut auth = Auth::default();
    let mut before: Vec<(&Authenticator, &Spanned<String>)> = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if name.value == "none" {
            auth.anonymous = true;
            if at + 1 < names.len() {
                scope.load.error(&name.place, "`none` stands alone or last");
            }
            continue;
        }
        scope.load.names.refer("authenticator", &name.value);
        let Some((id, authenticator)) = scope.defined.authenticators.get(&name.value) else {
            let known = scope.defined.authenticators.iter().map(|(_, known)| &**known.name());
            let known = known.chain(["none"]);
            scope
                .load
                .unknown_name("authenticator", &name.value, &name.place, known);
            continue;
        };
        let rivals = || {
            before
                .iter()
                .filter(|(other, _)| authenticator.takes_the_same_as(other))
        };
        let is_asked_before = |source: &Source| rivals().any(|(other, _)| other.sources().contains(source));
        match rivals().next() {
            Some((first, place)) if authenticator.sources().iter().all(is_asked_before) => {
                let which = match authenticator {
                    Authenticator::Introspection(_) => "tokens that no JWT authenticator takes",
                    _ => "the tokens of its issuer",
                };
                let message = format!(
                    "`{}` would never be asked: {which} go to `{}`",
                    name.value,
                    first.name()
                );
                scope
                    .load
                    .error_with(&name.place, message, &place.place, "which stands here");
            }
            _ => {
                before.push((authenticator, name));
                auth.add(id, authenticator.sources());
            }
        }
    }
    vec![Draft {
        name: KIND.name.into(),
        stage: Stage::Identify,
        shadow: false,
        place: node.place.clone(),
        policy: Arc::new(auth),
    }]
}

/// The places that a route takes credentials from, by its `auth`; what is wrong with that is not reported.
pub fn sources(auth: &Node, authenticators: &Authenticators) -> Box<[Source]> {
    let OneOrMany(names) = OneOrMany::<String>::read(auth, &Load::new()).unwrap_or(OneOrMany(Vec::new()));
    let mut all = Auth::default();
    for (id, authenticator) in names.iter().filter_map(|name| authenticators.get(name)) {
        all.add(id, authenticator.sources());
    }
    all.sources.into()
}

/// The rule of one route.
#[derive(Debug, Default)]
struct Auth {
    /// Where credentials may stand, in the order of the route; nowhere for `auth: none`.
    sources: Vec<Source>,
    /// Who takes credentials from each source, in the order of the route.
    readers: Vec<Vec<AuthenticatorId>>,
    /// All of them.
    all: Vec<AuthenticatorId>,
    anonymous: bool,
}

impl Auth {
    fn add(&mut self, id: AuthenticatorId, sources: &[Source]) {
        self.all.push(id);
        for source in sources {
            match self.sources.iter().position(|known| known == source) {
                Some(at) => self
                    .readers
                    .get_mut(at)
                    .into_iter()
                    .for_each(|readers| readers.push(id)),
                None => {
                    self.sources.push(source.clone());
                    self.readers.push(vec![id]);
                }
            }
        }
    }

    /// Whether the route does not ask who calls.
    fn is_open(&self) -> bool {
        self.sources.is_empty() && self.anonymous
    }

    /// Whether the token came along with what another site made a browser send.
    fn is_another_sites(&self, source: usize, facts: &Facts<'_>) -> bool {
        self.comes_along(source) && is_from_another_site(&facts.request)
    }

    fn missing(&self) -> Verdict {
        let takes_keys = self.sources.iter().any(Source::is_of_keys);
        let takes_certificates = self.sources.contains(&Source::Certificate);
        let (code, detail) = match (self.takes_tokens(), takes_keys, takes_certificates) {
            (false, false, true) => ("certificate-missing", "This needs a client certificate."),
            (false, true, false) => ("key-missing", "This needs an API key."),
            (false, true, true) => ("key-missing", "This needs an API key or a client certificate."),
            (true, true, false) => ("token-missing", "This needs a bearer token or an API key."),
            (true, false, true) => ("token-missing", "This needs a bearer token or a client certificate."),
            (true, true, true) => (
                "token-missing",
                "This needs a bearer token, an API key or a client certificate.",
            ),
            (_, false, false) => ("token-missing", "This needs a bearer token."),
        };
        challenge(code, detail, asked_for(&self.sources))
    }

    /// `with` is for routes that take tokens.
    fn unreadable(&self, with: Bearer) -> Verdict {
        let detail = "The credential cannot be read, or there is more than one.";
        let with = if self.takes_tokens() {
            with.value()
        } else {
            asked_for(&self.sources)
        };
        challenge("credential-unreadable", detail, with)
    }

    fn takes_tokens(&self) -> bool {
        self.sources.iter().any(Source::is_of_tokens)
    }

    /// Whether browsers bring it along by themselves, whoever makes them send the request.
    fn comes_along(&self, source: usize) -> bool {
        matches!(self.sources.get(source), Some(Source::Cookie(_) | Source::Certificate))
    }
}

impl Policy for Auth {
    fn ask<'a>(&'a self, facts: &'a Facts<'_>) -> Option<Question<'a>> {
        if self.is_open() {
            return None;
        }
        match Credential::of(&facts.request, &self.sources) {
            Credential::Token { source, .. } if self.is_another_sites(source, facts) => None,
            Credential::Token { token, source } => Some(Question::Token {
                // What is only told of stood somewhere: whoever the route takes credentials from may have said so.
                authenticators: match facts.request.headers.credential() {
                    Some(_) => &self.all,
                    None => self.readers.get(source)?,
                },
                token,
                certificate: facts.request.headers.certificate().map(|shown| &**shown),
            }),
            Credential::Certificate { source } if self.is_another_sites(source, facts) => None,
            Credential::Certificate { source } => Some(Question::Certificate {
                authenticators: self.readers.get(source)?,
                certificate: facts.request.headers.certificate()?,
            }),
            _ => None,
        }
    }

    fn judge(&self, facts: &Facts<'_>, answer: Option<&Answer>) -> Verdict {
        if self.is_open() {
            return Verdict::pass(Why::Anonymous);
        }
        let credential = Credential::of(&facts.request, &self.sources);
        let source = match credential {
            Credential::Token { source, .. } | Credential::Certificate { source } => Some(source),
            _ => None,
        };
        match (credential, answer) {
            (Credential::Absent, _) if self.anonymous => Verdict::pass(Why::Anonymous),
            (Credential::Absent, _) => self.missing(),
            (Credential::Repeated, _) => self.unreadable(Bearer::error("invalid_request")),
            (Credential::Unreadable, _) if is_of_another_scheme(&facts.request) => self.unreadable(Bearer::plain()),
            (Credential::Unreadable, _) => self.unreadable(Bearer::error(INVALID)),
            _ if source.is_some_and(|source| self.is_another_sites(source, facts)) => {
                let detail = "Another site may not do this in your name.";
                let denial = Denial::new(DenialKind::Refuse, StatusCode::FORBIDDEN, "cross-site", detail);
                Verdict::deny(denial, Why::Credential("cross-site"))
            }
            (_, Some(Answer::Principal(principal))) => Verdict {
                outcome: Outcome::Identify(principal.clone()),
                why: Why::Verified,
            },
            (_, Some(Answer::Refused(refusal))) => {
                let source = source.and_then(|source| self.sources.get(source));
                let with = match source.filter(|source| !source.is_of_tokens()) {
                    Some(source) => asked_for(std::slice::from_ref(source)),
                    None => Bearer::error(INVALID).value(),
                };
                challenge(refusal.code, refusal.detail, with)
            }
            (_, Some(Answer::Unavailable { code })) => unavailable(code),
            // Not an answer to what was asked.
            (_, Some(Answer::Limit(_) | Answer::Freezes(_) | Answer::Revoked(_)) | None) => {
                unavailable("keys-unavailable")
            }
        }
    }

    fn reads_headers(&self) -> Vec<HeaderName> {
        match (0..self.sources.len()).any(|source| self.comes_along(source)) {
            true => SITE_HEADERS.into(),
            false => Vec::new(),
        }
    }

    fn describe(&self, facts: &Facts<'_>, answer: Option<&Answer>) -> Vec<String> {
        let line = match answer {
            Some(Answer::Principal(principal)) => {
                let id = principal
                    .token_id
                    .as_ref()
                    .map(|id| format!(", by `{id}`"))
                    .unwrap_or_default();
                format!(
                    "`{}` says that `{}` calls{id}",
                    principal.authenticator, principal.subject
                )
            }
            Some(Answer::Refused(refusal)) => format!("the credential is refused: {}", refusal.code),
            Some(Answer::Unavailable { code }) => format!("the credential cannot be judged: {code}"),
            Some(Answer::Limit(_) | Answer::Freezes(_) | Answer::Revoked(_)) | None if self.is_open() => {
                "everybody may call".to_owned()
            }
            Some(Answer::Limit(_) | Answer::Freezes(_) | Answer::Revoked(_)) | None => {
                let credential = Credential::of(&facts.request, &self.sources);
                format!("the credential is {}", credential.word(&self.sources))
            }
        };
        vec![line]
    }
}

const INVALID: &str = "invalid_token";

/// Asks for what these places take. Keys and certificates have schemes of their own (RFC 9110 §11.6.1), with nothing but the
/// realm.
pub fn asked_for(sources: &[Source]) -> HeaderValue {
    let takes = |kind: fn(&Source) -> bool| sources.iter().any(kind);
    let keys = takes(Source::is_of_keys);
    let certificates = takes(|source| *source == Source::Certificate);
    HeaderValue::from_static(match (takes(Source::is_of_tokens), keys, certificates) {
        (true, true, true) => "Bearer realm=\"gwanmun\", ApiKey realm=\"gwanmun\", ClientCertificate realm=\"gwanmun\"",
        (true, true, false) => "Bearer realm=\"gwanmun\", ApiKey realm=\"gwanmun\"",
        (true, false, true) => "Bearer realm=\"gwanmun\", ClientCertificate realm=\"gwanmun\"",
        (false, true, true) => "ApiKey realm=\"gwanmun\", ClientCertificate realm=\"gwanmun\"",
        (false, true, false) => "ApiKey realm=\"gwanmun\"",
        (false, false, true) => "ClientCertificate realm=\"gwanmun\"",
        (_, false, false) => "Bearer realm=\"gwanmun\"",
    })
}

fn challenge(code: &'static str, detail: &str, with: HeaderValue) -> Verdict {
    let mut denial = Denial::new(DenialKind::Challenge, StatusCode::UNAUTHORIZED, code, detail);
    denial.challenge = Some(with);
    Verdict::deny(denial, Why::Credential(code))
}

fn unavailable(code: &'static str) -> Verdict {
    let detail = match code {
        "introspection-unavailable" => "Whether the token is good cannot be found out now.",
        _ => "The keys to verify the token with cannot be fetched now.",
    };
    Verdict::deny(Denial::unavailable(code, detail), Why::Unavailable(code))
}
