//! One JWT → a principal, or the code of a refusal (RFC 7515, 7519, 8725, 9068). Pure: keys and the instant are given.
//!
//! Codes: `token-malformed`, `token-issuer`, `token-algorithm`, `token-crit`, `token-type`, `token-key-unknown`,
//! `token-signature`, `token-claims`, `token-audience`, `token-lifetime`, `token-not-yet-valid`, `token-expired`. What makes a
//! token invalid for ever is looked for before what passes with time, so that `token-expired` means: valid otherwise.
//! `token-malformed` is also what cannot be read in one way: members that stand twice, and numbers that would be taken for
//! others ([`object`]).

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::Algorithm;
use memchr::{memchr, memrchr};
use serde_json::{Map, Value};

use super::bound;
use super::claimed::{Found, Round, instant, is_subject};
use super::keys::{Key, KeyId, KeySet, algorithm};
use super::settings::{JwtAuthenticator, subtype};
use crate::engine::claims::{self, Item, Source, base64url, object};
use crate::engine::{CredentialRefusal, Principal};

/// Longer tokens are refused before anything in them is read.
pub(super) const MAX_TOKEN: usize = 16 << 10;
/// A refused token's subject is kept for detectors, cut to so many characters.
const MAX_CLAIMED: usize = 256;

type Members = Map<String, Value>;

/// A token taken apart; nothing in it is believed yet.
pub(super) struct Token<'a> {
    header: Arc<Members>,
    claims: claims::Members<'a>,
    signed: &'a [u8],
    signature: Vec<u8>,
}

/// A token that was verified.
pub(super) struct Verified {
    /// As it was sent.
    pub token: Arc<str>,
    /// What its claims take once they were read, in bytes.
    pub tree: usize,
    pub principal: Arc<Principal>,
    /// The key that verified it.
    pub key: KeyId,
    /// From when it is good, leeway counted.
    pub from: Timestamp,
    /// Until when it is good, leeway not counted.
    pub until: Timestamp,
}

/// Whoever has the token may use it: it is not shown.
impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

/// Why a token was refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub refusal: CredentialRefusal,
    /// Whether a newer set of keys might verify it.
    pub newer_keys_may_help: bool,
}

thread_local! {
    /// The last header that was read here, as it stood in the token: an issuer writes the same into all of them.
    static LAST_HEADER: RefCell<(Box<str>, Arc<Members>)> = RefCell::default();
}

fn read_header(text: &str) -> Option<Arc<Members>> {
    LAST_HEADER.with_borrow_mut(|(last, read)| {
        if text.is_empty() || **last != *text {
            *read = Arc::new(object(&base64url(text)?)?);
            *last = text.into();
        }
        Some(read.clone())
    })
}

impl<'a> Token<'a> {
    /// Takes a compact JWS apart; its claims stay in `source`. Everything is decoded strictly: no padding, no stray bits, no
    /// duplicate members.
    pub fn parse(token: &'a str, source: &'a mut Source) -> Result<Self, CredentialRefusal> {
        Self::take_apart(token, source).ok_or_else(|| refusal("token-malformed", None))
    }

    fn take_apart(token: &'a str, source: &'a mut Source) -> Option<Self> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let bytes = token.as_bytes();
        let (first, last) = (memchr(b'.', bytes)?, memrchr(b'.', bytes)?);
        // No dot is spelt in base64url: one more between these two makes no claims.
        Some(Self {
            header: read_header(token.get(..first)?)?,
            claims: source.members(token, first + 1..last)?,
            signed: bytes.get(..last)?,
            signature: base64url(token.get(last + 1..)?)?,
        })
    }

    /// What the token says its issuer is; `None` where that is no text.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Item::as_str)
    }

    /// A refusal, with the subject the token claims.
    pub fn refuse(&self, code: &'static str) -> CredentialRefusal {
        let subject = self.claims.get("sub").and_then(Item::as_str);
        let claimed = subject.map(|subject| subject.chars().take(MAX_CLAIMED).collect::<String>().into());
        refusal(code, claimed)
    }

    /// Judges the token.
    pub fn verify(
        &self,
        authenticator: &JwtAuthenticator,
        keys: &KeySet,
        now: Timestamp,
    ) -> Result<Verified, Box<Refused>> {
        let refused = |code| {
            Box::new(Refused {
                refusal: self.refuse(code),
                newer_keys_may_help: false,
            })
        };
        let claimed = authenticator.claimed();
        let claims = claimed.among(self.claims.iter());
        match claims.iss.and_then(Item::as_str) {
            None => return Err(refused("token-claims")),
            Some(issuer) if issuer != &*authenticator.issuer => return Err(refused("token-issuer")),
            Some(_) => {}
        }
        let (algorithm, kid) = self.check_header(authenticator).map_err(refused)?;
        let key = self.find_key(algorithm, kid, keys)?.id;
        claims.check(authenticator).map_err(refused)?;
        bound::to(claims.cnf.map(Value::from).as_ref()).map_err(refused)?;
        let Some(expires) = claims.exp.and_then(|exp| instant(exp, Round::Down)) else {
            return Err(refused("token-claims"));
        };
        let leeway = authenticator.leeway;
        let issued = claims.check_lifetime(authenticator, expires).map_err(refused)?;
        let begins = match claims.nbf {
            None => issued,
            Some(nbf) => issued.max(Some(instant(nbf, Round::Up).ok_or_else(|| refused("token-claims"))?)),
        };
        let from = begins.and_then(|begins| begins.checked_sub(leeway).ok());
        let from = from.unwrap_or(Timestamp::MIN);
        if now < from {
            return Err(refused("token-not-yet-valid"));
        }
        if now >= expires.checked_add(leeway).unwrap_or(Timestamp::MAX) {
            return Err(Box::new(Refused {
                // A token that only ran out of time says nothing about an attack.
                refusal: refusal("token-expired", None),
                newer_keys_may_help: false,
            }));
        }
        let (token, kept) = self.claims.kept();
        let Some(principal) = claimed.named(&claims, kept) else {
            return Err(Box::new(Refused {
                refusal: refusal("token-claims", None),
                newer_keys_may_help: false,
            }));
        };
        Ok(Verified {
            token,
            tree: self.claims.tree_size(),
            principal: Arc::new(principal),
            key,
            from,
            until: expires,
        })
    }

    /// The algorithm, where the header allows going on. `jku`, `x5u`, `jwk` and `x5c` are never looked at.
    fn check_header(&self, authenticator: &JwtAuthenticator) -> Result<(Algorithm, Option<&str>), &'static str> {
        let header = Header::among(&self.header);
        let algorithm = match header.alg {
            Some(Value::String(name)) => algorithm(name),
            _ => return Err("token-malformed"),
        };
        let listed = algorithm.filter(|algorithm| authenticator.algorithms.contains(algorithm));
        let algorithm: Algorithm = listed.ok_or("token-algorithm")?;
        // We understand no extension, so every critical one is unknown; an empty list is not allowed either.
        if header.has_crit {
            return Err("token-crit");
        }
        // An unencoded payload (RFC 7797) has to be announced in `crit`, but who signs what must not rest on that.
        if header.b64.is_some_and(|b64| *b64 != Value::Bool(true)) {
            return Err("token-crit");
        }
        // Encrypted or compressed things, and a token within the token, are read by nobody here.
        let is_nested = |cty: &Value| cty.as_str().is_none_or(|cty| subtype(cty).eq_ignore_ascii_case("jwt"));
        if header.is_wrapped || header.cty.is_some_and(is_nested) {
            return Err("token-malformed");
        }
        if header.kid.is_some_and(|kid| !kid.is_string()) {
            return Err("token-malformed");
        }
        let typ = match header.typ {
            None => None,
            Some(Value::String(typ)) => Some(subtype(typ)),
            Some(_) => return Err("token-malformed"),
        };
        let accepted = match (&authenticator.typ, typ) {
            (Some(wanted), typ) => typ.is_some_and(|typ| typ.eq_ignore_ascii_case(wanted)),
            // `logout+jwt`, `secevent+jwt`, `dpop+jwt`: tokens of the same issuer for another purpose (RFC 8725 §3.11).
            (None, Some(typ)) => {
                let typ = typ.to_ascii_lowercase();
                !typ.ends_with("+jwt") || typ == "at+jwt"
            }
            (None, None) => true,
        };
        if !accepted {
            return Err("token-type");
        }
        Ok((algorithm, header.kid.and_then(Value::as_str)))
    }

    /// The key that verifies the token. A `kid` chooses the keys of that name and those without one; without `kid`, every
    /// key that fits is tried.
    fn find_key<'k>(&self, algorithm: Algorithm, kid: Option<&str>, keys: &'k KeySet) -> Result<&'k Key, Box<Refused>> {
        let named = |key: &&Key| kid.is_some() && key.kid.as_deref() == kid;
        let candidates = keys
            .keys
            .iter()
            .filter(|key| kid.is_none() || key.kid.is_none() || named(key));
        let mut fitting = candidates.filter(|key| key.fits(algorithm)).peekable();
        let is_named = keys.keys.iter().any(|key| named(&key));
        let code = match (fitting.peek(), is_named) {
            (Some(_), _) => "token-signature",
            (None, true) => "token-algorithm",
            (None, false) => "token-key-unknown",
        };
        fitting
            .find(|key| key.verifies(algorithm, self.signed, &self.signature))
            .ok_or_else(|| {
                Box::new(Refused {
                    refusal: self.refuse(code),
                    newer_keys_may_help: !is_named,
                })
            })
    }
}

/// The members of a header that mean something here.
#[derive(Default)]
struct Header<'h> {
    alg: Option<&'h Value>,
    kid: Option<&'h Value>,
    typ: Option<&'h Value>,
    cty: Option<&'h Value>,
    b64: Option<&'h Value>,
    has_crit: bool,
    is_wrapped: bool,
}

impl<'h> Header<'h> {
    fn among(members: &'h Members) -> Self {
        let mut header = Self::default();
        for (name, value) in members {
            match name.as_str() {
                "alg" => header.alg = Some(value),
                "kid" => header.kid = Some(value),
                "typ" => header.typ = Some(value),
                "cty" => header.cty = Some(value),
                "b64" => header.b64 = Some(value),
                "crit" => header.has_crit = true,
                "enc" | "zip" => header.is_wrapped = true,
                _ => {}
            }
        }
        header
    }
}

impl Found<'_> {
    fn check(&self, authenticator: &JwtAuthenticator) -> Result<(), &'static str> {
        let listed = |audience: &str| authenticator.audience.iter().any(|listed| listed == audience);
        let audience = self.aud.ok_or("token-claims")?;
        let heard = match audience.as_str() {
            Some(audience) => listed(audience),
            None => {
                let (mut heard, mut are_texts) = (false, true);
                let each = |item: Item<'_>| match item.as_str() {
                    Some(audience) => heard |= listed(audience),
                    None => are_texts = false,
                };
                let is_list = audience.each(each).is_some();
                (is_list && are_texts).then_some(heard).ok_or("token-claims")?
            }
        };
        if !heard {
            return Err("token-audience");
        }
        let is_number = |claim: Item<'_>| claim.as_number().is_some();
        let dated = self.exp.is_some_and(is_number) && self.iat.is_none_or(is_number);
        if !dated || !self.sub.and_then(Item::as_str).is_some_and(is_subject) {
            return Err("token-claims");
        }
        // An ID token is for the client that asked for it, not for an API.
        match authenticator.typ.is_none() && self.is_id_token {
            true => Err("token-type"),
            false => Ok(()),
        }
    }

    /// When the token was issued, where that matters because it may be good for so long only: a token that does not say, or
    /// says what is yet to come, could live on after its revocation was forgotten.
    fn check_lifetime(
        &self,
        authenticator: &JwtAuthenticator,
        expires: Timestamp,
    ) -> Result<Option<Timestamp>, &'static str> {
        let Some(longest) = authenticator.max_lifetime else {
            return Ok(None);
        };
        let issued = self
            .iat
            .and_then(|iat| instant(iat, Round::Down))
            .ok_or("token-claims")?;
        let longest = SignedDuration::try_from(longest).unwrap_or(SignedDuration::MAX);
        match expires.duration_since(issued) <= longest {
            true => Ok(Some(issued)),
            false => Err("token-lifetime"),
        }
    }
}

fn refusal(code: &'static str, claimed_sub: Option<Box<str>>) -> CredentialRefusal {
    let detail = match code {
        "token-expired" => "The token has expired.",
        "token-not-yet-valid" => "The token is not valid yet.",
        "token-issuer" => "The token is from an issuer that is not accepted here.",
        "token-audience" => "The token is meant for somebody else.",
        "token-lifetime" => "The token is good for longer than is accepted here.",
        "token-type" => "The token is of a kind that is not accepted here.",
        "token-malformed" => "The token is malformed.",
        "token-claims" => "The token lacks a required claim.",
        _ => "The token cannot be verified.",
    };
    CredentialRefusal {
        code,
        detail,
        claimed_sub,
    }
}
