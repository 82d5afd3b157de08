//! What should happen to a request, and which rules led there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use smallvec::SmallVec;

use super::{Acts, Answer, LimitAnswer, Principal, StepUp, Why};

/// The answer to "what should happen to this request?".
#[derive(Debug, Clone)]
pub struct Decision {
    /// Forward it, or answer it here.
    pub effect: Effect,
    /// What to do besides; on refusals only what concerns every answer (CORS, limits' fields) is there.
    pub acts: Acts,
    /// Who calls, if that was learned.
    pub principal: Option<Arc<Principal>>,
    /// What each asked limit said, in the order of the rules.
    pub limits: SmallVec<[LimitAnswer; 4]>,
    /// The answers used, each with the index of the rule that asked; the record keeps them.
    pub answers: SmallVec<[(u16, Answer); 4]>,
    /// Why, rule by rule, as far as it was judged.
    pub trail: Trail,
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Effect {
    /// To the route's target.
    Forward,
    /// Answered by a rule, such as a CORS preflight.
    Reply(Reply),
    /// Refused.
    Deny(Box<Denial>),
}

/// A refusal; becomes problem+json.
#[derive(Debug, Clone)]
pub struct Denial {
    /// What kind of refusal.
    pub kind: DenialKind,
    /// The status.
    pub status: StatusCode,
    /// Stable code: kebab-case for ours, as written for the user's.
    pub code: Arc<str>,
    /// One sentence fit for strangers, in English.
    pub detail: Arc<str>,
    /// The policy's own messages, which replace `detail`.
    pub messages: Option<Arc<Messages>>,
    /// `WWW-Authenticate`.
    pub challenge: Option<HeaderValue>,
    /// The login that is asked for, where that is what is missing; `challenge` says it.
    pub step_up: Option<Arc<StepUp>>,
    /// How long to wait, where that is known.
    pub retry_after: Option<Duration>,
    /// When windows will let the same request pass, in the zone to show it in; filled in by [`super::reopens_at`].
    pub reopens_at: Option<(Timestamp, TimeZone)>,
    /// When the refusal ends by itself, whatever windows do: the end of a freeze.
    pub ends_at: Option<Timestamp>,
    /// The zone of the refusing rule's calendar, if it has one.
    pub zone: Option<TimeZone>,
    /// The refusing rule, by its index among the route's.
    pub rule: Option<u16>,
}

/// What kind of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialKind {
    /// Not allowed.
    Refuse,
    /// A credential is missing, bad or too weak.
    Challenge,
    /// Too many.
    Throttle,
    /// Frozen by an operator.
    Freeze,
}

impl DenialKind {
    /// The word in records and in `explain --json`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Refuse | Self::Freeze => "deny",
            Self::Challenge => "challenge",
            Self::Throttle => "throttle",
        }
    }
}

impl Denial {
    /// A refusal with neither messages nor times.
    #[cold]
    pub fn new(kind: DenialKind, status: StatusCode, code: &str, detail: &str) -> Self {
        Self {
            kind,
            status,
            code: Arc::from(code),
            detail: Arc::from(detail),
            messages: None,
            challenge: None,
            step_up: None,
            retry_after: None,
            reopens_at: None,
            ends_at: None,
            zone: None,
            rule: None,
        }
    }
}

impl Denial {
    /// Asks for a login that would satisfy `other`, too, where both ask for one.
    pub(super) fn ask_also(&mut self, other: &Self) {
        if let (Some(own), Some(others)) = (&self.step_up, &other.step_up) {
            let both = own.and(others);
            self.challenge = Some(both.challenge());
            self.step_up = Some(Arc::new(both));
        }
    }
}

/// A policy's messages by language (BCP 47), the first is the fallback.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Messages(pub Vec<(String, String)>);

/// An answer of our own that is no refusal.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// Headers, without `Content-Length`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

/// The verdicts that led to a decision, in the order they were judged.
pub type Trail = SmallVec<[Mark; 8]>;

/// One rule's part in a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The rule, by its index among the route's.
    pub rule: u16,
    /// Whether it refused.
    pub refused: bool,
    /// Whether it is a shadow rule, whose refusal changes nothing.
    pub shadow: bool,
    /// Why.
    pub why: Why,
}
