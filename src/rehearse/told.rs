//! An explanation, for people and for programs.

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::Paint;
use crate::engine::Principal;
use crate::routing::{HostPattern, Match, Methods};

/// What happens to a request, and why.
#[derive(Debug)]
pub struct Explanation {
    /// Its route, if there is one.
    pub route: Option<ToldRoute>,
    /// The client, empty where the configuration names none.
    pub client: String,
    /// Where it comes from.
    pub address: IpAddr,
    /// Who calls.
    pub principal: Option<Arc<Principal>>,
    /// The merged rules, in the order they are judged.
    pub rules: Vec<ToldRule>,
    /// What happens.
    pub decision: ToldDecision,
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
    /// `passes`, `refuses`, `challenges` (asks for another login), `would refuse` (shadow), `not concerned` or `not reached`.
    pub verdict: &'static str,
    /// Why, in a few words.
    pub why: Option<String>,
    /// Why, one line for each thing that was looked at.
    pub because: Vec<String>,
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
}

impl Explanation {
    /// Whether the answer is no.
    pub fn is_refusal(&self) -> bool {
        self.decision.effect != "allow"
    }

    /// The answer in a few words: `403 TRANSFER_CLOSED until 2026-11-25T05:00:00+09:00`.
    pub fn in_short(&self) -> String {
        let decision = &self.decision;
        let Some(code) = &decision.code else {
            return match (decision.status, &self.route) {
                (Some(status), _) => status.to_string(),
                (None, Some(route)) => format!("allowed, answered by {}", route.target),
                (None, None) => "allowed".to_owned(),
            };
        };
        let status = decision.status.map(|status| format!("{status} ")).unwrap_or_default();
        let until = decision.reopens_at.as_ref().map(|at| format!(" until {at}"));
        format!("{status}{code}{}", until.unwrap_or_default())
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let decision = &self.decision;
        let rules: Vec<Value> = self
            .rules
            .iter()
            .map(|rule| {
                json!({
                    "name": rule.name, "kind": rule.kind, "place": rule.place,
                    "verdict": rule.verdict, "why": rule.why, "because": rule.because,
                })
            })
            .collect();
        json!({
            "route": self.route.as_ref().map(|route| &route.name),
            "decision": {
                "effect": decision.effect,
                "status": decision.status,
                "policy": decision.policy,
                "code": decision.code,
                "reopens_at": decision.reopens_at,
            },
            "rules": rules,
        })
    }

    /// For people.
    pub fn text(&self, paint: Paint) -> String {
        let mut lines = Vec::new();
        match &self.route {
            Some(route) => {
                lines.push(format!("  route      {} ({})", paint.bold(&route.name), route.place));
                lines.push(format!("  matches    {}", route.matches));
                lines.push(format!("  target     {}", route.target));
            }
            None => lines.push("  route      none".to_owned()),
        }
        if !self.client.is_empty() {
            lines.push(format!("  client     {}", self.client));
        }
        lines.push(format!("  address    {}", self.address));
        lines.push(format!("  principal  {}", self.caller()));
        lines.push(String::new());
        lines.push("rules, the defaults and the route's own, in the order they are judged".to_owned());
        self.rules.iter().for_each(|rule| rule.add_to(&mut lines, paint));
        lines.push(String::new());
        lines.extend(self.answer(paint));
        lines.push(String::new());
        lines.join("\n")
    }

    fn caller(&self) -> String {
        let Some(principal) = &self.principal else {
            return "anonymous".to_owned();
        };
        let mut caller = format!("`{}` by `{}`", principal.subject, principal.authenticator);
        for (word, names) in [("roles", &principal.roles), ("scopes", &principal.scopes)] {
            if !names.is_empty() {
                caller.push_str(&format!(", {word} {}", names.join(" ")));
            }
        }
        caller
    }

    fn answer(&self, paint: Paint) -> Vec<String> {
        let decision = &self.decision;
        let status = decision.status.map(|status| format!(" {status}")).unwrap_or_default();
        let Some(code) = &decision.code else {
            return vec![paint.green(&format!("allow{status}"))];
        };
        let mut lines = vec![paint.red(&format!("{}{status} {code}", decision.effect))];
        if let (Some(policy), Some(place)) = (&decision.policy, &decision.place) {
            lines.push(format!("  by         {policy} ({place})"));
        }
        let details = decision.details.iter();
        lines.extend(details.map(|detail| format!("  detail     {detail}")));
        lines.extend(decision.allow.iter().map(|allow| format!("  methods    {allow}")));
        lines.extend(decision.reopens_at.iter().map(|at| format!("  reopens    {at}")));
        lines
    }
}

impl ToldRule {
    fn add_to(&self, lines: &mut Vec<String>, paint: Paint) {
        let verdict = format!("{:13}", self.verdict);
        let verdict = match self.verdict {
            "refuses" | "challenges" => paint.red(&verdict),
            "would refuse" => paint.yellow(&verdict),
            "passes" => paint.green(&verdict),
            _ => verdict,
        };
        let kind = match self.kind == self.name {
            true => String::new(),
            false => format!("{} ", self.kind),
        };
        lines.push(format!(
            "  {verdict}  {kind}{} ({})",
            paint.bold(&self.name),
            self.place
        ));
        let because = match (&self.why, self.because.as_slice()) {
            (Some(why), []) => vec![why.clone()],
            (_, because) => because.to_vec(),
        };
        lines.extend(because.iter().map(|line| format!("                   {line}")));
    }
}

/// A match as one would write it.
pub(super) fn matching(matches: &Match) -> String {
    let host = match &matches.host {
        HostPattern::Any => String::new(),
        HostPattern::Exact(host) => format!("{host} "),
        HostPattern::Under(suffix) => format!("*.{} ", suffix.trim_start_matches('.')),
    };
    let methods = match &matches.methods {
        Methods::Any => "any method".to_owned(),
        Methods::Listed(listed) => listed.iter().map(Method::as_str).collect::<Vec<_>>().join(","),
    };
    let headers: Vec<String> = matches
        .headers
        .iter()
        .map(|condition| format!(", with `{}`", condition.name))
        .collect();
    format!("{methods} {host}{}{}", matches.path, headers.concat())
}
