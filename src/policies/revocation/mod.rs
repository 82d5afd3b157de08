//! Revocations: an operator shuts out a caller or a token at once, whatever its issuer says.
//!
//! Nothing in the configuration asks for this rule: it stands first among those that authorise, on every route that asks who
//! calls. 401 `token-revoked`, with the challenge of RFC 6750 §3.1 (`invalid_token`), from the next request on, also where
//! the token is remembered as a good one.
//!
//! | revoked | hits | ends |
//! |---|---|---|
//! | an identity (authenticator, issuer, subject), or a subject whoever vouches for it | all its tokens, those issued later too | at its `until`, or when it is lifted |
//! | the same, `issued_before` an instant | its tokens from before; who logs in again is let in | with the last token it could hit |
//! | a token by its `jti`, which is one of its issuer's | that token | with the token: at the `exp` that was told, or as above |
//! | everything of an authenticator, of an issuer, or all, `issued_before` an instant | the tokens from before | when it is lifted |
//!
//! A token that does not say when it was issued (`iat`) counts as issued before. The last token that a revocation could hit
//! has ended so long after its instant as the authenticator takes tokens to be good for (`max_lifetime`), five minutes
//! besides for clocks that differ; without that setting nobody can say, and it stands until it is lifted. So that a longer
//! `max_lifetime` brings back no token, those issued before what was forgotten stay out for ever.
//!
//! `gwanmun ctl revoke` and `unrevoke` come in by the admin API; [`Revocations`] keeps what they say in the folder of
//! `state:`, and takes in no more than [`MAX_ENTRIES`].

mod held;
mod line;
mod marks;
mod names;
mod store;
mod wide;

use http::StatusCode;

use crate::engine::{
    Answer, Bearer, Denial, DenialKind, Extent, Facts, Mentions, Policy, Question, Reach, Revoked, Verdict, Why,
    rfc3339,
};

pub use held::{Figures, Fullness, Held, MAX_ENTRIES};
pub use marks::{Lifetimes, SKEW};
pub use store::{RevocationFailure, RevocationTurn, Revocations, read_revoked};

/// The name of the rule in trails, records and metrics.
pub const NAME: &str = "revocation";

const CODE: &str = "token-revoked";

/// The rule on one route.
#[derive(Debug)]
pub struct RevocationRule {
    refusal: Denial,
}

impl Default for RevocationRule {
    fn default() -> Self {
        let detail = "The token has been revoked.";
        let mut refusal = Denial::new(DenialKind::Challenge, StatusCode::UNAUTHORIZED, CODE, detail);
        refusal.challenge = Some(Bearer::error("invalid_token").value());
        Self { refusal }
    }
}

impl Policy for RevocationRule {
    fn ask<'a>(&'a self, facts: &'a Facts<'_>) -> Option<Question<'a>> {
        let principal = facts.principal.as_deref()?;
        Some(Question::Revocation { principal })
    }

    /// Nothing of the request: what is revoked is answered.
    fn mention(&self, _: &mut Mentions) {}

    fn judge(&self, _: &Facts<'_>, answer: Option<&Answer>) -> Verdict {
        match answer {
            // Nobody calls; or a silent answer, which is not kept for later looks at the same request.
            None | Some(Answer::Revoked(None)) => Verdict::pass(Why::NotConcerned),
            Some(Answer::Revoked(Some(_))) => Verdict::deny(self.refusal.clone(), Why::Credential(CODE)),
            Some(_) => {
                let detail = "Whether the token has been revoked cannot be said just now.";
                let why = Why::Unavailable("revocations-unavailable");
                Verdict::deny(Denial::unavailable("revocations-unavailable", detail), why)
            }
        }
    }

    fn describe(&self, facts: &Facts<'_>, answer: Option<&Answer>) -> Vec<String> {
        let Some(Answer::Revoked(Some(revoked))) = answer else {
            return Vec::new();
        };
        let who = facts.principal.as_deref();
        let mut lines = vec![words(revoked)];
        if let (Extent::IssuedBefore(_), Some(None)) = (revoked.extent, who.map(|who| who.issued())) {
            lines.push("the token does not say when it was issued (`iat`)".to_owned());
        }
        lines
    }
}

/// What a revocation is, for people.
fn words(revoked: &Revoked) -> String {
    let whose = match revoked.reach {
        Reach::Token => "the token",
        Reach::Identity => "the caller",
        Reach::Subject => "the subject, whoever vouches for it,",
        Reach::Authenticator => "everything of the authenticator",
        Reach::Issuer => "everything of the issuer",
        Reach::Everybody => "everything",
    };
    let shown = |at| rfc3339(at, &jiff::tz::TimeZone::UTC);
    match revoked.extent {
        Extent::Every { until: None } => format!("{whose} is revoked until that is lifted"),
        Extent::Every { until: Some(until) } => format!("{whose} is revoked until {}", shown(until)),
        Extent::IssuedBefore(instant) => format!("{whose} issued before {} is revoked", shown(instant)),
    }
}

#[cfg(test)]
mod tests;
