//! What a decision has to ask, and who may answer.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use smallvec::SmallVec;

use super::{ClientCertificate, Freeze, Principal, Revoked};

/// An authenticator of the snapshot, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthenticatorId(pub u16);

/// A limit of the snapshot, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LimitId(pub u16);

/// Something a policy must know before it can judge.
#[derive(Clone)]
pub enum Question<'a> {
    /// Whom does this token or API key prove? Among the listed authenticators the one configured for the token's `iss` judges,
    /// or the one that knows the key.
    Token {
        /// The candidates, in the order of the route.
        authenticators: &'a [AuthenticatorId],
        /// The credential as sent.
        token: &'a str,
        /// The certificate of the connection it came by: a token may be bound to one (RFC 8705 §3).
        certificate: Option<&'a ClientCertificate>,
    },
    /// Whom does the certificate of the connection prove? The first of the listed authenticators that accepts it says.
    Certificate {
        /// The candidates, in the order of the route.
        authenticators: &'a [AuthenticatorId],
        /// As the handshake has verified it.
        certificate: &'a ClientCertificate,
    },
    /// Is there room under this limit? All limits of a request are asked together and charged all or none.
    Limit {
        /// Which limit.
        limit: LimitId,
        /// Whom it counts.
        key: LimitKey<'a>,
    },
    /// Is the route frozen, or an upstream that it calls?
    Freezes {
        /// The route.
        route: &'a str,
        /// The upstreams.
        upstreams: &'a [Arc<str>],
    },
    /// Is this caller, or its token, revoked?
    Revocation {
        /// Who calls.
        principal: &'a Principal,
    },
}

/// A token must not reach a log by way of a question.
impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { authenticators, .. } => write!(f, "Token({authenticators:?})"),
            Self::Certificate { authenticators, .. } => write!(f, "Certificate({authenticators:?})"),
            Self::Limit { limit, .. } => write!(f, "Limit({limit:?})"),
            Self::Freezes { route, .. } => write!(f, "Freezes({route})"),
            Self::Revocation { principal } => write!(f, "Revocation({})", principal.authenticator),
        }
    }
}

/// Whom a limit counts. Each kind lives in a key space of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitKey<'a> {
    /// The caller's address, IPv6 by its /64.
    Address(IpAddr),
    /// The address in place of a key the request lacks; never shared with [`LimitKey::Address`].
    Keyless(IpAddr),
    /// A whole identity ([`Principal::identity`]).
    Identity(&'a [u8]),
    /// The value of a request header.
    Text(&'a str),
    /// A claim's value (text, number or boolean), among the callers that the same issuer vouches for.
    Claim {
        /// The caller's authenticator.
        authenticator: &'a str,
        /// The caller's issuer.
        issuer: &'a str,
        /// Its value.
        value: &'a Value,
    },
}

/// The answer to a [`Question`]. A failed look-up is an answer too.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The credential is good.
    Principal(Arc<Principal>),
    /// The credential is not good.
    Refused(CredentialRefusal),
    /// What a limit says.
    Limit(LimitAnswer),
    /// The freezes in force, mostly none.
    Freezes(Vec<Arc<Freeze>>),
    /// What revocation hits the caller, mostly none.
    Revoked(Option<Revoked>),
    /// Nobody could say; `code` is stable kebab-case, for clients and records.
    Unavailable {
        /// Why.
        code: &'static str,
    },
}

impl Answer {
    /// Whether there is nothing in it that a decision would have to remember.
    pub fn is_silent(&self) -> bool {
        match self {
            Self::Freezes(freezes) => freezes.is_empty(),
            Self::Revoked(revoked) => revoked.is_none(),
            _ => false,
        }
    }
}

/// Why a credential was refused, without a word on which part of a signature failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRefusal {
    /// Stable kebab-case code, such as `token-expired`.
    pub code: &'static str,
    /// One sentence fit for strangers.
    pub detail: &'static str,
    /// The subject the refused token claimed, unverified, for detectors alone. `None` where it could not be read, or
    /// where the token is valid but expired.
    pub claimed_sub: Option<Box<str>>,
}

/// What one limit says about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitAnswer {
    /// Whether the request is within the limit.
    pub admitted: bool,
    /// How many requests would be admitted now, this one counted.
    pub remaining: u32,
    /// How long until the key is as good as new.
    pub reset: Duration,
    /// How long until one request will be admitted; zero where this one was.
    pub retry_after: Duration,
}

/// Questions of one stage, each with the index of its rule.
pub type Asked<'a> = SmallVec<[(u16, Question<'a>); 4]>;

/// The answers, in the order of the questions.
pub type Answers = SmallVec<[Answer; 4]>;

/// Answers questions: live state, assumptions from flags, or a record.
pub trait Lookup: Sync {
    /// Answers the questions of one stage together. Fewer answers than questions count as unavailable.
    fn answer(&self, asked: &[(u16, Question<'_>)]) -> impl Future<Output = Answers> + Send;
}
