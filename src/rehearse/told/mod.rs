//! An explanation, for people and for programs.

mod json;
mod text;

use std::net::IpAddr;
use std::sync::Arc;

use crate::engine::Principal;

/// What happens to a request, and why.
#[derive(Debug)]
pub struct Explanation {
    /// Its route, if there is one.
    pub route: Option<ToldRoute>,
    /// The routes beside it, the most specific first.
    pub rivals: Vec<ToldRival>,
    /// The client, empty where the configuration names none.
    pub client: String,
    /// Where it comes from.
    pub address: IpAddr,
    /// Who calls.
    pub principal: Option<Arc<Principal>>,
    /// The merged rules, in the order they are judged.
    pub rules: Vec<ToldRule>,
    /// The limits among them.
    pub limits: Vec<ToldLimit>,
    /// What happens.
    pub decision: ToldDecision,
    /// What the caller gets.
    pub answer: ToldAnswer,
    /// When that changes.
    pub next: Next,
    /// The record that was asked about.
    pub record: Option<ToldRecord>,
}

/// A route.
#[derive(Debug)]
pub struct ToldRoute {
    /// Its name.
    pub name: String,
    /// Where it stands, `file:line:column`.
    pub place: String,
    /// What it matches.
    pub matches: String,
    /// Who answers.
    pub target: String,
    /// The parts of an aggregate: their names, and what is done for them.
    pub parts: Vec<(String, String)>,
}

/// A route that the request does not take.
#[derive(Debug)]
pub struct ToldRival {
    /// Its name.
    pub name: String,
    /// Where it stands, `file:line:column`.
    pub place: String,
    /// What it matches.
    pub matches: String,
    /// Whether the request would take it if the one it takes were not there.
    pub fits: bool,
    /// What decided.
    pub because: String,
}

/// A rule and its verdict.
#[derive(Debug)]
pub struct ToldRule {
    /// Its name.
    pub name: String,
    /// The route's key.
    pub kind: &'static str,
    /// Where it is defined, `file:line:column`.
    pub place: String,
    /// Whether it is judged and counted only.
    pub shadow: bool,
    /// `passes`, `refuses`, `challenges` (asks for another login), `would refuse` (shadow), `not concerned` or `not reached`.
    pub verdict: &'static str,
    /// Why, in a few words.
    pub why: Option<String>,
    /// Why, one line for each thing that was looked at.
    pub because: Vec<String>,
}

/// A limit that stands on the way.
#[derive(Debug)]
pub struct ToldLimit {
    /// Its name.
    pub name: String,
    /// Where it is defined, `file:line:column`.
    pub place: String,
    /// Whom it counts, as written: `principal.sub`.
    pub key: String,
    /// How many, as written: `20/s`.
    pub rate: String,
    /// How many at once.
    pub burst: u32,
    /// Whether it is counted in a sketch.
    pub approximate: bool,
    /// Whether it is asked: what refuses before keeps a request from being counted.
    pub asked: bool,
    /// Whether there is room, where it is asked and anybody could say.
    pub admitted: Option<bool>,
}

/// A decision.
#[derive(Debug, Default)]
pub struct ToldDecision {
    /// `allow`, `deny`, `challenge` or `throttle`.
    pub effect: &'static str,
    /// The status, where the gateway itself answers.
    pub status: Option<u16>,
    /// The refusing rule.
    pub policy: Option<String>,
    /// The code of the refusal.
    pub code: Option<String>,
    /// When it reopens, in RFC 3339.
    pub reopens_at: Option<String>,
    /// Where the refusing rule is defined.
    pub place: Option<String>,
    /// What the caller is told, in each language.
    pub details: Vec<String>,
    /// The methods that would do.
    pub allow: Option<String>,
    /// Who answers, where it is not the gateway itself.
    pub target: Option<String>,
}

/// What the caller gets.
#[derive(Debug, Default)]
pub struct ToldAnswer {
    /// The status; nothing where a service behind the gate chooses it.
    pub status: Option<u16>,
    /// The headers; where a service answers, those that the gate adds to its own.
    pub headers: Vec<(String, String)>,
    /// The body of an answer of the gate's own, before it is compressed.
    pub body: Option<String>,
}

/// When the effect on a request changes, windows and the ends of freezes being all that moves.
#[derive(Debug)]
pub enum Next {
    /// Never.
    Never,
    /// Then.
    At {
        /// The instant, in RFC 3339.
        at: String,
        /// What it becomes.
        decision: ToldDecision,
    },
    /// Not before that instant, in RFC 3339; it was not looked for after it.
    NotBefore(String),
}

/// A record that was decided again.
#[derive(Debug)]
pub struct ToldRecord {
    /// Its number in its file.
    pub n: u64,
    /// The id of the request.
    pub id: String,
    /// When the request came, in RFC 3339.
    pub at: String,
    /// The request in short.
    pub request: String,
    /// The hash of the configuration it was decided under, where it is another.
    pub decided_under: Option<String>,
    /// The hash of the configuration it is explained under.
    pub explained_under: String,
    /// The status sent then.
    pub status: u16,
    /// In what the decision differs from the recorded one: the member, then and now.
    pub differences: Vec<Difference>,
    /// What the decision hangs on and the record does not hold, in sentences.
    pub lacking: Vec<String>,
}

/// One thing that a record says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What: `route`, `client`, `effect`, `status`, `code`, `rule` or `reopens_at`.
    pub what: &'static str,
    /// What is recorded.
    pub then: Option<String>,
    /// What it is now.
    pub now: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        write!(f, "{}: {} then, {} now", self.what, shown(&self.then), shown(&self.now))
    }
}

impl Explanation {
    /// Whether the answer is no.
    pub fn is_refusal(&self) -> bool {
        self.decision.is_refusal()
    }

    /// The answer in a few words: `403 TRANSFER_CLOSED until 2026-11-25T05:00:00+09:00`.
    pub fn in_short(&self) -> String {
        self.decision.in_short()
    }
}

impl ToldDecision {
    /// Whether the answer is no.
    pub fn is_refusal(&self) -> bool {
        self.effect != "allow"
    }

    /// In a few words.
    pub fn in_short(&self) -> String {
        let Some(code) = &self.code else {
            return match (self.status, &self.target) {
                (Some(status), _) => status.to_string(),
                (None, Some(target)) => format!("allowed, answered by {target}"),
                (None, None) => "allowed".to_owned(),
            };
        };
        let status = self.status.map(|status| format!("{status} ")).unwrap_or_default();
        let until = self.reopens_at.as_ref().map(|at| format!(" until {at}"));
        format!("{status}{code}{}", until.unwrap_or_default())
    }
}
