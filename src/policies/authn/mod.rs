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
//! routes:
//!   cart:
//!     auth: [customer, none]          # a bad token is refused; no credential at all is fine
//! ```
//!
//! 401 `token-missing` where a credential is needed and none is there; 401 `credential-unreadable` for a repeated
//! `Authorization`, another scheme, or one without a token; 401 `token-…` for a token that does not prove
//! anybody; 503 `keys-unavailable` where nobody can say. On a route with `auth: none` the header is not looked at.
//! The challenge is that of RFC 6750 §3.

pub mod crypto;
mod jwks;
mod jwt;
mod keys;
mod memory;
mod settings;
mod verifier;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
mod tests;

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};

pub use jwks::Timing;
pub use jwt::principal_from_claims;
pub use settings::{
    AuthenticatorSettings, Authenticators, JwksFrom, JwtAuthenticator, JwtSettings, Leeway, SignatureAlgorithm,
};
pub use verifier::{KeyStatus, Verifier, Verifiers};

use super::{Draft, Inherit, Kind, Scope};
use crate::conf::{Node, OneOrMany, Read, Schema, Spanned};
use crate::engine::{
    Answer, AuthenticatorId, Denial, DenialKind, Facts, Outcome, Policy, Question, RequestView, Stage, Verdict, Why,
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
    let mut authenticators: Vec<AuthenticatorId> = Vec::new();
    let mut issuers: Vec<(&Arc<JwtAuthenticator>, &Spanned<String>)> = Vec::new();
    let mut anonymous = false;
    for (at, name) in names.iter().enumerate() {
        if name.value == "none" {
            anonymous = true;
            if at + 1 < names.len() {
                scope.load.error(&name.place, "`none` stands alone or last");
            }
            continue;
        }
        scope.load.names.refer("authenticator", &name.value);
        let Some((id, authenticator)) = scope.defined.authenticators.get(&name.value) else {
            let known = scope.defined.authenticators.iter().map(|(_, known)| &*known.name);
            let known = known.chain(["none"]);
            scope
                .load
                .unknown_name("authenticator", &name.value, &name.place, known);
            continue;
        };
        match issuers.iter().find(|(known, _)| known.issuer == authenticator.issuer) {
            Some((first, place)) => {
                let message = format!(
                    "`{}` would never be asked: the tokens of its issuer go to `{}`",
                    name.value, first.name
                );
                scope
                    .load
                    .error_with(&name.place, message, &place.place, "which stands here");
            }
            None => {
                issuers.push((authenticator, name));
                authenticators.push(id);
            }
        }
    }
    vec![Draft {
        name: KIND.name.into(),
        stage: Stage::Identify,
        shadow: false,
        place: node.place.clone(),
        policy: Arc::new(Auth {
            authenticators: authenticators.into(),
            anonymous,
        }),
    }]
}

/// What a request's `Authorization` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// There is none.
    Absent,
    /// A bearer token.
    Bearer(&'a str),
    /// More than one line.
    Repeated,
    /// Another scheme, or nothing that could be a token.
    Unreadable,
}

impl<'a> Credential<'a> {
    /// Looks at the request.
    pub fn of(request: &RequestView<'a>) -> Self {
        let Some(value) = request.headers.first(&header::AUTHORIZATION) else {
            return Self::Absent;
        };
        if request.headers.is_repeated(&header::AUTHORIZATION) {
            return Self::Repeated;
        }
        bearer(value).map_or(Self::Unreadable, Self::Bearer)
    }

    /// The word in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Bearer(_) => "bearer",
            Self::Repeated => "repeated",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The token of `Bearer b64token` (RFC 6750 §2.1).
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, rest) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let token = rest.trim_matches(' ');
    let letters =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    let readable = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.bytes().all(letters);
    readable.then_some(token)
}

/// The rule of one route.
#[derive(Debug)]
struct Auth {
    /// In the order of the route; none for `auth: none`.
    authenticators: Box<[AuthenticatorId]>,
    anonymous: bool,
}

impl Policy for Auth {
    fn ask<'a>(&'a self, facts: &'a Facts<'_>) -> Option<Question<'a>> {
        if self.authenticators.is_empty() {
            return None;
        }
        match Credential::of(&facts.request) {
            Credential::Bearer(token) => Some(Question::Token {
                authenticators: &self.authenticators,
                token,
            }),
            _ => None,
        }
    }

    fn judge(&self, facts: &Facts<'_>, answer: Option<&Answer>) -> Verdict {
        if self.authenticators.is_empty() {
            return Verdict::pass(Why::Anonymous);
        }
        match (Credential::of(&facts.request), answer) {
            (Credential::Absent, _) if self.anonymous => Verdict::pass(Why::Anonymous),
            (Credential::Absent, _) => challenge("token-missing", "This needs a bearer token.", MISSING),
            (Credential::Repeated | Credential::Unreadable, _) => challenge(
                "credential-unreadable",
                "The Authorization header cannot be read.",
                INVALID,
            ),
            (Credential::Bearer(_), Some(Answer::Principal(principal))) => Verdict {
                outcome: Outcome::Identify(principal.clone()),
                why: Why::Verified,
            },
            (Credential::Bearer(_), Some(Answer::Refused(refusal))) => challenge(refusal.code, refusal.detail, INVALID),
            (Credential::Bearer(_), Some(Answer::Unavailable { code })) => unavailable(code),
            // Not an answer to what was asked.
            (Credential::Bearer(_), Some(Answer::Limit(_) | Answer::Freezes(_)) | None) => {
                unavailable("keys-unavailable")
            }
        }
    }

    fn describe(&self, facts: &Facts<'_>, answer: Option<&Answer>) -> Vec<String> {
        let line = match answer {
            Some(Answer::Principal(principal)) => {
                format!("`{}` says that `{}` calls", principal.authenticator, principal.subject)
            }
            Some(Answer::Refused(refusal)) => format!("the token is refused: {}", refusal.code),
            Some(Answer::Unavailable { code }) => format!("the token cannot be judged: {code}"),
            Some(Answer::Limit(_) | Answer::Freezes(_)) | None if self.authenticators.is_empty() => {
                "everybody may call".to_owned()
            }
            Some(Answer::Limit(_) | Answer::Freezes(_)) | None => {
                format!("the credential is {}", Credential::of(&facts.request).word())
            }
        };
        vec![line]
    }
}

/// RFC 6750 §3: no `error` where no credential was sent.
const MISSING: HeaderValue = HeaderValue::from_static("Bearer realm=\"gwanmun\"");
const INVALID: HeaderValue = HeaderValue::from_static("Bearer error=\"invalid_token\"");

fn challenge(code: &'static str, detail: &str, with: HeaderValue) -> Verdict {
    let mut denial = Denial::new(DenialKind::Challenge, StatusCode::UNAUTHORIZED, code, detail);
    denial.challenge = Some(with);
    Verdict::deny(denial, Why::Credential(code))
}

fn unavailable(code: &'static str) -> Verdict {
    Verdict::deny(
        Denial::unavailable(code, "The keys to verify the token with cannot be fetched now."),
        Why::Unavailable(code),
    )
}
