//! From claims that are believed to the principal they speak of, whoever brought them: a JWT, an introspection answer, a
//! line in a file of keys, or an assumption.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::engine::Principal;
use crate::engine::claims::{Claims, Item, members};

/// Who vouches for claims, and where in them the subject, the scopes and the roles stand, by their paths.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claimed<'a> {
    pub authenticator: &'a Arc<str>,
    pub issuer: &'a Arc<str>,
    pub subject: &'a str,
    pub scopes: &'a str,
    pub roles: &'a str,
}

impl Claimed<'_> {
    /// Whom the claims speak of; `None` without a subject.
    pub fn principal(&self, claims: Map<String, Value>) -> Option<Principal> {
        let claims = Claims::from(claims);
        let principal = self.named(members(&claims), &claims)?;
        Some(Principal { claims, ..principal })
    }

    /// Whom the claims speak of, by the members of them all; without the claims themselves.
    pub fn named<'c>(
        &self,
        members: impl Iterator<Item = (&'c str, Item<'c>)>,
        claims: &'c Claims,
    ) -> Option<Principal> {
        let mut principal = Principal {
            authenticator: self.authenticator.clone(),
            issuer: self.issuer.clone(),
            subject: Arc::from(""),
            scopes: Vec::new(),
            roles: Vec::new(),
            auth_time: None,
            acr: None,
            expires: None,
            token_id: None,
            identity: Box::default(),
            claims: Claims::default(),
        };
        let (mut subject, mut scopes, mut roles) = (None, None, None);
        for (name, claim) in members {
            match name {
                "auth_time" => principal.auth_time = instant(claim, Round::Down),
                "acr" => principal.acr = claim.as_str().map(Into::into),
                "exp" => principal.expires = instant(claim, Round::Down),
                "jti" => principal.token_id = claim.as_str().map(Into::into),
                _ => {}
            }
            // Where the paths lead is mostly here.
            for (path, found) in [
                (self.subject, &mut subject),
                (self.scopes, &mut scopes),
                (self.roles, &mut roles),
            ] {
                if name == path {
                    *found = Some(claim);
                }
            }
        }
        // Or further in.
        let at = |path: &str| Some(Item::from(claims.at(path)?));
        let subject = subject.or_else(|| at(self.subject))?.as_str()?;
        principal.subject = Arc::from(Some(subject).filter(|subject| is_subject(subject))?);
        principal.identity = Principal::frame(self.authenticator, self.issuer, &principal.subject);
        principal.scopes = names(scopes.or_else(|| at(self.scopes)));
        principal.roles = names(roles.or_else(|| at(self.roles)));
        Some(principal)
    }
}

/// Whether a subject names anybody, and can be written down as it is: in a header of the upstream's, in a record.
pub(super) fn is_subject(subject: &str) -> bool {
    !subject.is_empty() && !subject.chars().any(char::is_control)
}

/// Which way a fraction of a second goes: to the disadvantage of the token.
#[derive(Clone, Copy)]
pub(super) enum Round {
    Up,
    Down,
}

/// A NumericDate (RFC 7519 §2), which may have a fraction. Instants beyond what can be written are as far as can be.
pub(super) fn instant<'c>(claim: impl Into<Item<'c>>, round: Round) -> Option<Timestamp> {
    let number = claim.into().as_number()?;
    let seconds = match (number.as_i64(), number.as_f64()?) {
        (Some(whole), _) => whole,
        // Saturates, which is far beyond every instant.
        (None, fraction) => match round {
            Round::Up => fraction.ceil() as i64,
            Round::Down => fraction.floor() as i64,
        },
    };
    let beyond = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Some(Timestamp::from_second(seconds).unwrap_or(beyond))
}

/// Names as a list, or as one text with spaces between them. What is no text is no name.
fn names(claim: Option<Item<'_>>) -> Vec<Box<str>> {
    let Some(claim) = claim else { return Vec::new() };
    match claim.as_str() {
        Some(text) => text
            .split(' ')
            .filter(|name| !name.is_empty())
            .map(Into::into)
            .collect(),
        None => {
            let list = claim.items().unwrap_or_default().into_iter();
            list.filter_map(Item::as_str).map(Into::into).collect()
        }
    }
}
