//! The contract between `decide` and the policies.

use std::fmt::Debug;
use std::sync::Arc;

use http::HeaderName;
use jiff::Timestamp;

use super::{Act, Answer, Denial, Facts, Mentions, Principal, Question, Reply, Truth};

/// The order of a route's rules: this enum, then `defaults`, then the route's own list. There are no priorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Adds what every answer carries, refusals too.
    Annotate,
    /// Judges the address, before anything is known of the caller.
    Screen,
    /// Answers CORS preflights.
    Preflight,
    /// Learns who calls.
    Identify,
    /// Scopes and policies; all of them are judged.
    Authorize,
    /// Policies that ask for another login. Judged together with [`Authorize`](Self::Authorize), but only where nothing there
    /// refuses is one of them the answer.
    StepUp,
    /// Rates; asked together, charged all or none.
    Limit,
    /// Adds what happens to the forwarded request and its answer.
    Shape,
}

impl Stage {
    /// The stage whose rules are judged together with those of this one.
    pub(super) fn judged_with(self) -> Self {
        match self {
            Self::StepUp => Self::Authorize,
            own => own,
        }
    }
}

/// A check on facts. Pure: same input, same verdict, always.
pub trait Policy: Debug + Send + Sync {
    /// What must be known first.
    fn ask<'a>(&'a self, _facts: &'a Facts<'_>) -> Option<Question<'a>> {
        None
    }

    /// The verdict. `answer` is there exactly when [`ask`](Self::ask) asked.
    fn judge(&self, facts: &Facts<'_>, answer: Option<&Answer>) -> Verdict;

    /// The reasons in words, for `explain`: one line for each thing that was looked at.
    fn describe(&self, _facts: &Facts<'_>, _answer: Option<&Answer>) -> Vec<String> {
        Vec::new()
    }

    /// Headers that the verdict may depend on; the audit record keeps them.
    fn reads_headers(&self) -> Vec<HeaderName> {
        Vec::new()
    }

    /// Query parameters that the verdict may depend on; the audit record keeps them.
    fn reads_query(&self) -> Vec<String> {
        Vec::new()
    }

    /// Claims that the verdict may depend on, by their path; the audit record keeps them.
    fn reads_claims(&self) -> Vec<String> {
        Vec::new()
    }

    /// Adds what the verdict may depend on. Asked of rules at [`Stage::Authorize`] and [`Stage::StepUp`]; one that does not say
    /// is opaque, and left out where all that may matter has to be tried.
    fn mention(&self, mentions: &mut Mentions) {
        mentions.opaque.push("a check that cannot be taken apart".to_owned());
    }

    /// When this rule, windows being all that moves, may next judge otherwise than at `facts.window_at`; `None` for never.
    fn next_change(&self, _facts: &Facts<'_>) -> Option<Timestamp> {
        None
    }

    /// Whether it refuses callers for who they are or what they bring, and not only for the hour.
    fn restricts_callers(&self) -> bool {
        false
    }

    /// Whether the verdict depends on windows at all.
    fn follows_windows(&self) -> bool {
        false
    }
}

/// Whether something is so, of one request. What is not known does not hold.
pub trait Holds: Debug + Send + Sync {
    /// Judges the facts.
    fn holds(&self, facts: &Facts<'_>) -> bool;

    /// The request headers it reads.
    fn reads_headers(&self) -> &[HeaderName];

    /// Whether it reads where the caller calls from.
    fn reads_address(&self) -> bool;

    /// Whether it reads the time.
    fn reads_time(&self) -> bool;
}

/// What a rule says.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// What follows.
    pub outcome: Outcome,
    /// Why.
    pub why: Why,
}

/// What follows from a verdict.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Nothing.
    Continue,
    /// Go on, and do this besides.
    Add(Act),
    /// The caller is known.
    Identify(Arc<Principal>),
    /// Refused.
    Deny(Box<Denial>),
    /// Answered here.
    Reply(Box<Reply>),
}

/// Why a rule said what it said. Small and copied; [`Policy::describe`] says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The rule does not concern this request.
    NotConcerned,
    /// The rule's condition came out so.
    Condition(Truth),
    /// The condition would have refused, but the caller is exempt.
    Exempt,
    /// What had to be held is held.
    Held,
    /// Something that had to be held is not.
    Lacking,
    /// The login is too weak or too old: false where it is known to be, unknown where nobody can say.
    Login(Truth),
    /// No credential, and none is needed.
    Anonymous,
    /// A good credential.
    Verified,
    /// A bad one; its code.
    Credential(&'static str),
    /// Within the limit.
    Admitted,
    /// Over the limit.
    Exhausted,
    /// A look-up failed; its code.
    Unavailable(&'static str),
    /// An act was added.
    Applied,
    /// An operator has closed it.
    Frozen,
}

impl Why {
    /// A few words for trails.
    pub fn words(self) -> String {
        match self {
            Self::NotConcerned => "does not concern this request".into(),
            Self::Condition(truth) => format!("condition is {}", truth.word()),
            Self::Exempt => "condition is true, caller is exempt".into(),
            Self::Held => "held".into(),
            Self::Lacking => "not held".into(),
            Self::Login(Truth::Unknown) => "the login is not known to be strong and recent enough".into(),
            Self::Login(_) => "the login is too weak or too old".into(),
            Self::Anonymous => "no credential, none needed".into(),
            Self::Verified => "verified".into(),
            Self::Credential(code) | Self::Unavailable(code) => code.into(),
            Self::Admitted => "within the limit".into(),
            Self::Exhausted => "over the limit".into(),
            Self::Applied => "applied".into(),
            Self::Frozen => "frozen".into(),
        }
    }
}

impl Verdict {
    /// Nothing follows.
    pub fn pass(why: Why) -> Self {
        Self {
            outcome: Outcome::Continue,
            why,
        }
    }

    /// An act is added.
    pub fn add(act: Act) -> Self {
        Self {
            outcome: Outcome::Add(act),
            why: Why::Applied,
        }
    }

    /// Refused.
    pub fn deny(denial: Denial, why: Why) -> Self {
        Self {
            outcome: Outcome::Deny(Box::new(denial)),
            why,
        }
    }
}

/// A policy compiled onto a route.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The name shown in trails, records and metrics: the policy's, the limit's, or the kind.
    pub name: Arc<str>,
    /// The kind: the route's YAML key.
    pub kind: &'static str,
    /// When it is judged.
    pub stage: Stage,
    /// Judged and counted, not enforced.
    pub shadow: bool,
    /// `file:line:column`.
    pub origin: Arc<str>,
    /// The check.
    pub policy: Arc<dyn Policy>,
}
