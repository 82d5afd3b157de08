//! Everything live about the authenticators: the answering half of [`Question::Token`](crate::engine::Question::Token).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::api_key::{self, ApiKeyAuthenticator, KeyHash};
use super::authenticator::{Authenticator, Authenticators};
use super::bound;
use super::client_certificate::CertificateAuthenticator;
use super::copies::KeyCopies;
use super::introspection::Introspector;
use super::jwks::{KeySource, Newer, Timing};
use super::jwt::{MAX_TOKEN, Token};
use super::memory::{Hashed, Memory};
use super::settings::JwtAuthenticator;
use crate::engine::claims::Source;
use crate::engine::{Answer, AuthenticatorId, ClientCertificate, CredentialRefusal, Principal};
use crate::io::Client;

/// The answer of a verifier that has nothing to judge by.
pub const UNAVAILABLE: Answer = Answer::Unavailable {
    code: "keys-unavailable",
};
/// One fetch may have begun before the key was published; the next one did not.
const MAX_FETCHES: usize = 2;

/// The verifiers of one configuration, by [`AuthenticatorId`].
#[derive(Debug, Default)]
pub struct Verifiers {
    all: Vec<Judge>,
}

/// Who judges the credentials of one authenticator.
#[derive(Debug, Clone)]
enum Judge {
    Jwt(Arc<Verifier>),
    /// Everything there is to know stands in the configuration.
    ApiKey(Arc<ApiKeyAuthenticator>),
    Introspection(Arc<Introspector>),
    /// So here.
    Certificate(Arc<CertificateAuthenticator>),
}

impl Verifiers {
    /// One verifier for each authenticator. Those of `previous` whose settings did not change are taken over with their
    /// remembered tokens, and the keys of those that take them from the same place.
    pub fn new(authenticators: &Authenticators, previous: Option<&Self>, client: &Arc<Client>, timing: Timing) -> Self {
        Self::with_copies(authenticators, previous, client, timing, &Arc::default())
    }

    /// As [`new`](Self::new), with copies of the keys on disk: they are judged by where an issuer is away from the start.
    pub fn with_copies(
        authenticators: &Authenticators,
        previous: Option<&Self>,
        client: &Arc<Client>,
        timing: Timing,
        copies: &Arc<KeyCopies>,
    ) -> Self {
        let known: Vec<&Arc<Verifier>> = previous.iter().flat_map(|previous| previous.iter()).collect();
        let mut made = Self::default();
        for (_, authenticator) in authenticators.iter() {
            let judge = match authenticator {
                Authenticator::Jwt(jwt) => {
                    let same = known.iter().find(|known| known.authenticator == *jwt);
                    Judge::Jwt(same.map(|same| (*same).clone()).unwrap_or_else(|| {
                        let mut there = known.iter().copied().chain(made.iter()).map(|verifier| &verifier.keys);
                        let keys = there.find(|keys| keys.serves(jwt)).cloned();
                        let open = || KeySource::new(jwt, client.clone(), timing, copies.clone());
                        let keys = keys.unwrap_or_else(|| Arc::new(open()));
                        Arc::new(Verifier::new(jwt.clone(), keys))
                    }))
                }
                Authenticator::ApiKey(keys) => Judge::ApiKey(keys.clone()),
                Authenticator::Introspection(asked) => {
                    let mut known = previous.iter().flat_map(|previous| previous.introspectors());
                    let same = known.find(|known| known.serves(asked)).cloned();
                    let open = || Arc::new(Introspector::new(asked.clone(), client.clone()));
                    Judge::Introspection(same.unwrap_or_else(open))
                }
                Authenticator::Certificate(certificates) => Judge::Certificate(certificates.clone()),
            };
            made.all.push(judge);
        }
        made
    }

    /// Begins fetching keys, rather than at the first token. Needs a tokio runtime that lives as long as the gateway.
    pub fn start(&self) {
        self.iter().for_each(|verifier| verifier.start());
    }

    /// Those that verify tokens by keys, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Verifier>> {
        self.all.iter().filter_map(|judge| match judge {
            Judge::Jwt(verifier) => Some(verifier),
            _ => None,
        })
    }

    /// Those that ask about tokens, in the order of the configuration.
    pub fn introspectors(&self) -> impl Iterator<Item = &Arc<Introspector>> {
        self.all.iter().filter_map(|judge| match judge {
            Judge::Introspection(introspector) => Some(introspector),
            _ => None,
        })
    }

    /// How many API keys each authenticator by keys has, by its name.
    pub fn api_keys(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.all.iter().filter_map(|judge| match judge {
            Judge::ApiKey(keys) => Some((keys.name(), keys.len())),
            _ => None,
        })
    }

    /// Forgets the tokens of those that `whom` names, so that they are verified again.
    pub fn forget(&self, whom: impl Fn(&Principal) -> bool) {
        self.iter().for_each(|verifier| verifier.memory.forget(&whom));
        self.introspectors().for_each(|introspector| introspector.forget(&whom));
    }

    /// Whom the credential proves. An API key is judged by the one of `candidates` that knows it, a token by the one that is
    /// configured for its issuer; any other token is asked about, where one of them does that. A remembered JWT is answered
    /// without waiting. A token that is bound to a certificate proves nobody without it.
    pub async fn answer(
        &self,
        candidates: &[AuthenticatorId],
        token: &str,
        certificate: Option<&ClientCertificate>,
        now: Timestamp,
    ) -> Answer {
        let hashed = Hashed::new(token);
        let named = match self.known(candidates, hashed, now) {
            Some(answer) => answer,
            None => self.find_out(candidates, hashed, now).await,
        };
        brought_with(certificate, named)
    }

    /// As [`answer`](Self::answer), where that takes no waiting: of remembered JWTs, and where API keys are taken. `None` else.
    pub fn answer_at_once(
        &self,
        candidates: &[AuthenticatorId],
        token: &str,
        certificate: Option<&ClientCertificate>,
        now: Timestamp,
    ) -> Option<Answer> {
        let named = self.known(candidates, Hashed::new(token), now)?;
        Some(brought_with(certificate, named))
    }

    /// Whom the certificate of the connection proves to the first of `candidates` that accepts it.
    pub fn prove(
        &self,
        candidates: &[AuthenticatorId],
        certificate: &ClientCertificate,
        now: Timestamp,
    ) -> Option<Result<Arc<Principal>, CredentialRefusal>> {
        let mut refused = None;
        for judge in self.judges(candidates) {
            let Judge::Certificate(certificates) = judge else {
                continue;
            };
            match certificates.prove(certificate, now) {
                Ok(principal) => return Some(Ok(principal)),
                Err(refusal) => refused = refused.or(Some(Err(refusal))),
            }
        }
        refused
    }

    fn judges(&self, candidates: &[AuthenticatorId]) -> impl Iterator<Item = &Judge> {
        candidates.iter().filter_map(|id| self.all.get(usize::from(id.0)))
    }

    /// What can be said without waiting; where keys are taken, that is always something.
    fn known(&self, candidates: &[AuthenticatorId], token: Hashed<'_>, now: Timestamp) -> Option<Answer> {
        let mut remembered = self.judges(candidates).filter_map(|judge| match judge {
            Judge::Jwt(verifier) => verifier.remembered(token, now),
            _ => None,
        });
        if let Some(principal) = remembered.next() {
            return Some(Answer::Principal(principal));
        }
        // Tokens and keys never stand in the same place.
        let are_keys = self.judges(candidates).any(|judge| matches!(judge, Judge::ApiKey(_)));
        are_keys.then(|| by_key(self.judges(candidates), token.token, now))
    }

    /// Whom a token names that is not known, whoever brings it.
    async fn find_out(&self, candidates: &[AuthenticatorId], hashed: Hashed<'_>, now: Timestamp) -> Answer {
        let token = hashed.token;
        let mut source = Source::default();
        let parsed = Token::parse(token, &mut source);
        if let Ok(own) = &parsed
            && let Some(issuer) = own.issuer()
            && let Some(verifier) = self.judges(candidates).find_map(|judge| judge.of_issuer(issuer))
        {
            return verifier.judge(hashed, own, now).await;
        }
        let introspector = self.judges(candidates).find_map(|judge| match judge {
            Judge::Introspection(introspector) => Some(introspector),
            _ => None,
        });
        if let Some(introspector) = introspector.filter(|_| token.len() <= MAX_TOKEN) {
            return introspector.answer(token, now).await;
        }
        Answer::Refused(match parsed {
            Err(refusal) => refusal,
            Ok(parsed) if parsed.issuer().is_none() => parsed.refuse("token-claims"),
            Ok(parsed) => parsed.refuse("token-issuer"),
        })
    }
}

impl Judge {
    fn of_issuer(&self, issuer: &str) -> Option<&Verifier> {
        match self {
            Self::Jwt(verifier) if *issuer == *verifier.authenticator.issuer => Some(verifier),
            _ => None,
        }
    }
}

/// A token that is bound to a certificate proves nobody without it.
fn brought_with(certificate: Option<&ClientCertificate>, named: Answer) -> Answer {
    let Answer::Principal(principal) = &named else {
        return named;
    };
    match bound::check(principal, certificate) {
        Ok(()) => named,
        Err(refusal) => Answer::Refused(refusal),
    }
}

fn by_key<'a>(judges: impl Iterator<Item = &'a Judge>, key: &str, now: Timestamp) -> Answer {
    let hash = KeyHash::of(key.as_bytes());
    let mut proved = judges.filter_map(|judge| match judge {
        Judge::ApiKey(keys) => keys.prove(&hash, now),
        _ => None,
    });
    match proved.next() {
        Some(Ok(principal)) => Answer::Principal(principal),
        Some(Err(refusal)) => Answer::Refused(refusal),
        None => Answer::Refused(api_key::unknown(&hash)),
    }
}

/// Everything live about one authenticator. The background task of its keys ends when the last that uses them is dropped.
#[derive(Debug)]
pub struct Verifier {
    authenticator: Arc<JwtAuthenticator>,
    keys: Arc<KeySource>,
    memory: Memory,
}

/// How an authenticator's keys are.
#[derive(Debug, Clone)]
pub struct KeyStatus {
    /// The authenticator's name.
    pub authenticator: Arc<str>,
    /// How many keys can be used; `None` where there never were any.
    pub keys: Option<usize>,
    /// How many keys of the set cannot.
    pub skipped: usize,
    /// How long ago they were fetched; `None` where they never were, or come from the configuration.
    pub age: Option<Duration>,
    /// Whether they are fetched, and not part of the configuration.
    pub is_fetched: bool,
    /// Fetches begun.
    pub fetches: u64,
    /// Fetches that failed.
    pub failures: u64,
    /// Why the last one failed; `None` where it did not.
    pub failing: Option<Arc<str>>,
    /// Tokens remembered.
    pub remembered: usize,
}

impl Verifier {
    fn new(authenticator: Arc<JwtAuthenticator>, keys: Arc<KeySource>) -> Self {
        Self {
            keys,
            memory: Memory::new(),
            authenticator,
        }
    }

    /// Begins fetching keys. Needs a tokio runtime that lives as long as the gateway.
    pub fn start(&self) {
        self.keys.start();
    }

    /// Whom the token proves.
    pub async fn answer(&self, token: &str, now: Timestamp) -> Answer {
        let hashed = Hashed::new(token);
        if let Some(principal) = self.remembered(hashed, now) {
            return Answer::Principal(principal);
        }
        let mut source = Source::default();
        match Token::parse(token, &mut source) {
            Ok(parsed) => self.judge(hashed, &parsed, now).await,
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    /// Whom the token is known to prove. Costs a comparison.
    pub(super) fn remembered(&self, token: Hashed<'_>, now: Timestamp) -> Option<Arc<Principal>> {
        let keys = self.keys.current();
        self.memory.find(token, keys.as_ref()?, now)
    }

    async fn judge(&self, token: Hashed<'_>, parsed: &Token<'_>, now: Timestamp) -> Answer {
        let Some(mut keys) = self.keys.first().await else {
            return UNAVAILABLE;
        };
        let mut fetches = 0;
        loop {
            let refused = match parsed.verify(&self.authenticator, &keys, now) {
                Ok(verified) => return Answer::Principal(self.memory.keep(token, verified)),
                Err(refused) => refused,
            };
            if !refused.newer_keys_may_help || fetches == MAX_FETCHES {
                return Answer::Refused(refused.refusal);
            }
            fetches += 1;
            match (self.keys.newer(&keys).await, self.keys.first().await) {
                (Newer::Yes, Some(newer)) => keys = newer,
                // A new key may be there that cannot be fetched: an outage at the issuer logs nobody out.
                (Newer::Unavailable, _) if refused.refusal.code == "token-key-unknown" => return UNAVAILABLE,
                _ => return Answer::Refused(refused.refusal),
            }
        }
    }

    /// How its keys are.
    pub fn status(&self) -> KeyStatus {
        let keys = self.keys.current();
        let progress = self.keys.progress();
        KeyStatus {
            authenticator: self.authenticator.name.clone(),
            keys: keys.as_ref().map(|set| set.keys.len()),
            skipped: keys.as_ref().map_or(0, |set| set.skipped),
            age: progress.fetched.map(|fetched| fetched.elapsed()),
            is_fetched: self.keys.is_remote(),
            fetches: progress.started,
            failures: progress.failures,
            failing: progress.failing,
            remembered: self.memory.len(),
        }
    }
}
