//! Answers from assumptions: the caller is who one says, limits were never used but for those said to be exhausted, and
//! frozen and revoked is what is said to be.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::engine::{Answer, Answers, AuthenticatorId, CredentialRefusal, LimitId, Lookup, Question};
use crate::policies::authn::{Authenticator, Authenticators};
use crate::policies::freeze::Held;
use crate::policies::rate_limit::Limits;
use crate::policies::revocation;

/// Assumes that operators have frozen and revoked something; the other questions are somebody else's.
pub(super) struct Closing<'a, L> {
    /// What is frozen.
    pub frozen: &'a Held,
    /// What is revoked.
    pub revoked: &'a revocation::Held,
    /// When.
    pub at: Timestamp,
    /// Answers the others.
    pub others: L,
}

impl<L: Lookup> Lookup for Closing<'_, L> {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        let mut answers = self.others.answer(asked).await;
        for ((_, question), answer) in asked.iter().zip(&mut answers) {
            match question {
                Question::Freezes { route, upstreams } => {
                    *answer = Answer::Freezes(self.frozen.concerning(route, upstreams, self.at));
                }
                Question::Revocation { principal } => *answer = Answer::Revoked(self.revoked.hit(principal, self.at)),
                Question::Token { .. } | Question::Certificate { .. } | Question::Limit { .. } => {}
            }
        }
        answers
    }
}

/// Assumes.
pub struct Assumed<'a> {
    /// Who can map claims.
    pub authenticators: &'a Authenticators,
    /// What the caller is assumed to hold.
    pub claims: &'a Map<String, Value>,
    /// Whose token it is.
    pub token: Issued<'a>,
    /// The limits.
    pub limits: &'a Limits,
    /// Those without room.
    pub exhausted: &'a [LimitId],
}

/// Whose token is assumed.
#[derive(Debug, Clone, Copy)]
pub enum Issued<'a> {
    /// One of the first authenticator that the route names.
    ForFirst,
    /// One of this authenticator.
    For(AuthenticatorId),
    /// One of the issuer.
    By(&'a str),
}

impl Lookup for Assumed<'_> {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        let is_exhausted = |question: &Question<'_>| match question {
            Question::Limit { limit, .. } => self.exhausted.contains(limit),
            Question::Token { .. }
            | Question::Certificate { .. }
            | Question::Freezes { .. }
            | Question::Revocation { .. } => false,
        };
        // Limits asked together are charged all or none.
        let charged = !asked.iter().any(|(_, question)| is_exhausted(question));
        let one = |(_, question): &(u16, Question<'_>)| match question {
            Question::Token { authenticators, .. } | Question::Certificate { authenticators, .. } => {
                self.token(authenticators)
            }
            Question::Freezes { .. } => Answer::Freezes(Vec::new()),
            Question::Revocation { .. } => Answer::Revoked(None),
            Question::Limit { limit, .. } => match self.limits.by_id(*limit) {
                Some(rule) if is_exhausted(question) => Answer::Limit(rule.bounds.exhausted()),
                Some(rule) => Answer::Limit(rule.bounds.first(charged)),
                None => Answer::Unavailable {
                    code: "limits-unavailable",
                },
            },
        };
        asked.iter().map(one).collect()
    }
}

impl Assumed<'_> {
    fn token(&self, candidates: &[AuthenticatorId]) -> Answer {
        let known = |wanted: AuthenticatorId| self.authenticators.by_id(wanted);
        let of_issuer = |issuer: &str| {
            let mut all = candidates.iter().filter_map(|id| known(*id));
            all.find(|one| **one.issuer() == *issuer)
        };
        let found: Option<&Authenticator> = match self.token {
            Issued::ForFirst => candidates.first().and_then(|first| known(*first)),
            Issued::By(issuer) => of_issuer(issuer),
            Issued::For(id) => match known(id) {
                Some(one) if candidates.contains(&id) => Some(one),
                Some(one) => of_issuer(one.issuer()),
                None => None,
            },
        };
        let Some(found) = found else {
            return Answer::Refused(CredentialRefusal {
                code: "token-issuer",
                detail: "The token is from an issuer that is not accepted here.",
                claimed_sub: None,
            });
        };
        let principal = found.principal(self.claims.clone());
        principal.map_or(Answer::Unavailable { code: "not-assumed" }, |principal| {
            Answer::Principal(Arc::new(principal))
        })
    }
}
