//! Answers from assumptions: the caller is who the flags say, no limit is reached, and nothing is frozen or revoked.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::engine::{Answer, Answers, CredentialRefusal, LimitAnswer, Lookup, Question};
use crate::policies::authn::{Authenticators, principal_from_claims};
use crate::policies::freeze::Held;
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
                Question::Token { .. } | Question::Limit { .. } => {}
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
    /// Whose token it is; otherwise one of the first authenticator that the route names.
    pub issuer: Option<&'a str>,
}

impl Lookup for Assumed<'_> {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        asked.iter().map(|(_, question)| self.one(question)).collect()
    }
}

impl Assumed<'_> {
    fn one(&self, question: &Question<'_>) -> Answer {
        match question {
            Question::Token { authenticators, .. } => {
                let first = authenticators.first();
                let mut all = self.authenticators.iter();
                let found = match self.issuer {
                    None => all.find(|(id, _)| Some(id) == first),
                    Some(issuer) => all.find(|(id, one)| authenticators.contains(id) && *one.issuer == *issuer),
                };
                if let (Some(_), None) = (self.issuer, &found) {
                    return Answer::Refused(CredentialRefusal {
                        code: "token-issuer",
                        detail: "The token is from an issuer that is not accepted here.",
                        claimed_sub: None,
                    });
                }
                let principal = found.and_then(|(_, found)| principal_from_claims(found, self.claims.clone()));
                principal.map_or(Answer::Unavailable { code: "not-assumed" }, |principal| {
                    Answer::Principal(Arc::new(principal))
                })
            }
            Question::Freezes { .. } => Answer::Freezes(Vec::new()),
            Question::Revocation { .. } => Answer::Revoked(None),
            Question::Limit { .. } => Answer::Limit(LimitAnswer {
                admitted: true,
                remaining: u32::MAX,
                reset: Duration::ZERO,
                retry_after: Duration::ZERO,
            }),
        }
    }
}
