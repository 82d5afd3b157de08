//! From claims that are believed to the principal they speak of, whoever brought them: a JWT, an introspection answer, a
//! line in a file of keys, or an assumption.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::engine::claims::{Claims, Item, members};
use crate::engine::{Granted, Principal};

/// Who vouches for claims, and where in them the subject, the scopes and the roles stand, by their paths.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claimed<'a> {
    pub authenticator: &'a Arc<str>,
    pub issuer: &'a Arc<str>,
    pub subject: &'a str,
    pub scopes: &'a str,
    pub roles: &'a str,
}

/// The claims that a token is judged by and its principal made of: registered ones (RFC 7519 §10.1) and those that the
/// authenticator names.
#[derive(Default)]
pub(super) struct Found<'c> {
    pub iss: Option<Item<'c>>,
    pub aud: Option<Item<'c>>,
    pub sub: Option<Item<'c>>,
    pub exp: Option<Item<'c>>,
    pub nbf: Option<Item<'c>>,
    pub iat: Option<Item<'c>>,
    pub cnf: Option<Item<'c>>,
    pub is_id_token: bool,
    jti: Option<Item<'c>>,
    acr: Option<Item<'c>>,
    auth_time: Option<Item<'c>>,
    subject: Option<Item<'c>>,
    scopes: Option<Item<'c>>,
    roles: Option<Item<'c>>,
}

impl Claimed<'_> {
    /// Whom the claims speak of; `None` without a subject.
    pub fn principal(&self, claims: Map<String, Value>) -> Option<Principal> {
        let claims = Arc::new(claims);
        self.named(&self.among(members(&claims)), claims.clone().into())
    }

    /// Those among all claims.
    pub fn among<'c>(&self, members: impl Iterator<Item = (&'c str, Item<'c>)>) -> Found<'c> {
        let mut found = Found::default();
        for (name, claim) in members {
            match name {
                "iss" => found.iss = Some(claim),
                "aud" => found.aud = Some(claim),
                "sub" => found.sub = Some(claim),
                "exp" => found.exp = Some(claim),
                "nbf" => found.nbf = Some(claim),
                "iat" => found.iat = Some(claim),
                "cnf" => found.cnf = Some(claim),
                "jti" => found.jti = Some(claim),
                "acr" => found.acr = Some(claim),
                "auth_time" => found.auth_time = Some(claim),
                "nonce" | "at_hash" => found.is_id_token = true,
                _ => {}
            }
            // Where the paths lead is mostly here.
            for (path, place) in [
                (self.subject, &mut found.subject),
                (self.scopes, &mut found.scopes),
                (self.roles, &mut found.roles),
            ] {
                if name == path {
                    *place = Some(claim);
                }
            }
        }
        found
    }

    /// Whom the claims speak of, by what was found among them; `None` without a subject.
    pub fn named(&self, found: &Found<'_>, claims: Claims) -> Option<Principal> {
        // Where no member has the name of a path, it may lead further in.
        let at = |path: &str| Some(Item::from(claims.at(path)?));
        let text = |claim: Option<Item<'_>>| claim.and_then(Item::as_str).map(Into::into);
        let subject = found.subject.or_else(|| at(self.subject))?.as_str();
        let subject = subject.filter(|subject| is_subject(subject))?;
        let listed = |claim: Option<Item<'_>>, path: &str| {
            let claim = claim.or_else(|| at(path));
            claim.map(names).unwrap_or_default()
        };
        Some(Principal {
            authenticator: self.authenticator.clone(),
            issuer: self.issuer.clone(),
            identity: Principal::frame(self.authenticator, self.issuer, subject),
            subject: subject.into(),
            scopes: listed(found.scopes, self.scopes),
            roles: listed(found.roles, self.roles),
            auth_time: found.auth_time.and_then(|claim| instant(claim, Round::Down)),
            acr: text(found.acr),
            expires: found.exp.and_then(|claim| instant(claim, Round::Down)),
            token_id: text(found.jti),
            claims,
        })
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
fn names(claim: Item<'_>) -> Granted {
    let mut names = Granted::new();
    match claim.as_str() {
        Some(text) => names.extend(text.split(' ').filter(|name| !name.is_empty()).map(Into::into)),
        None => {
            // What is no list has none.
            claim.each(|item| names.extend(item.as_str().map(Into::into)));
        }
    }
    names.shrink_to_fit();
    names
}
