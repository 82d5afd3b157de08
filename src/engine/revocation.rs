//! Revocations: callers and tokens that an operator has shut out, whatever their issuer says.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::Principal;

/// Whose tokens are revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// One caller: a whole identity.
    Identity {
        /// Who verified the caller.
        authenticator: Arc<str>,
        /// Who vouches.
        issuer: Arc<str>,
        /// The subject.
        subject: Arc<str>,
    },
    /// Whoever bears the subject, whatever authenticator and issuer say so.
    Subject(Arc<str>),
    /// One token, by the identifier (`jti`) that is its issuer's alone.
    Token {
        /// Who verified it.
        authenticator: Arc<str>,
        /// Who issued it.
        issuer: Arc<str>,
        /// Its identifier.
        id: Arc<str>,
    },
    /// All that an authenticator verifies.
    Authenticator(Arc<str>),
    /// All that an issuer vouches for.
    Issuer(Arc<str>),
    /// All.
    Everybody,
}

/// What kind of [`Whom`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// One token.
    Token,
    /// One caller.
    Identity,
    /// A subject, whoever vouches for it.
    Subject,
    /// An authenticator.
    Authenticator,
    /// An issuer.
    Issuer,
    /// All.
    Everybody,
}

impl Reach {
    /// The narrowest first.
    pub const ALL: [Self; 6] = [
        Self::Token,
        Self::Identity,
        Self::Subject,
        Self::Authenticator,
        Self::Issuer,
        Self::Everybody,
    ];

    /// The word in records, metrics and the admin API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Identity => "identity",
            Self::Subject => "subject",
            Self::Authenticator => "authenticator",
            Self::Issuer => "issuer",
            Self::Everybody => "everybody",
        }
    }
}

impl Whom {
    /// Its kind.
    pub fn reach(&self) -> Reach {
        match self {
            Self::Identity { .. } => Reach::Identity,
            Self::Subject(_) => Reach::Subject,
            Self::Token { .. } => Reach::Token,
            Self::Authenticator(_) => Reach::Authenticator,
            Self::Issuer(_) => Reach::Issuer,
            Self::Everybody => Reach::Everybody,
        }
    }

    /// Whether the caller, or the token it came with, is among them.
    pub fn concerns(&self, who: &Principal) -> bool {
        let is_of = |authenticator: &str, issuer: &str| *who.authenticator == *authenticator && *who.issuer == *issuer;
        match self {
            Self::Identity {
                authenticator,
                issuer,
                subject,
            } => is_of(authenticator, issuer) && who.subject == *subject,
            Self::Subject(subject) => who.subject == *subject,
            Self::Token {
                authenticator,
                issuer,
                id,
            } => is_token_of(who, authenticator, issuer) && who.token_id.as_deref() == Some(id),
            Self::Authenticator(name) => who.authenticator == *name,
            Self::Issuer(issuer) => who.issuer == *issuer,
            Self::Everybody => true,
        }
    }
}

/// Whether a token of theirs would be one that `who` came with: a `jti` is one of its issuer's (RFC 7519 §4.1.7), whichever
/// authenticator the token is shown to. Where nobody issues tokens, the authenticator tells them apart.
pub fn is_token_of(who: &Principal, authenticator: &str, issuer: &str) -> bool {
    *who.issuer == *issuer && (!issuer.is_empty() || *who.authenticator == *authenticator)
}

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every token, those issued later too, until an instant; `None` where only lifting the revocation ends it.
    Every {
        /// The first instant after it.
        until: Option<Timestamp>,
    },
    /// The tokens that were issued before an instant, and those that do not say when they were.
    IssuedBefore(Timestamp),
}

/// One revocation. Instants are whole seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Whose tokens.
    pub whom: Whom,
    /// Which of them.
    pub extent: Extent,
}

/// What hits a caller; whom it names, the caller's own identity says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// What kind of revocation.
    pub reach: Reach,
    /// How much is revoked.
    pub extent: Extent,
}

/// An operator revoked something, or lifted a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationChange {
    /// When.
    pub at: Timestamp,
    /// From where.
    pub address: IpAddr,
    /// What.
    pub revocation: Revocation,
    /// Why, for operators; clients are not told. May be empty.
    pub reason: Arc<str>,
    /// Whether it was lifted.
    pub is_lifted: bool,
}
